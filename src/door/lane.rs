//! The door's way to one server: how many REGISTERs may be out, and who goes next (M7).

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::Duration;

use crate::cluster::{BindingAddress, Server};
use crate::door::Pace;
use crate::door::binding::By;
use crate::door::pacer::Pacer;
use crate::door::sample::{Question, Sampling};
use crate::door::slots::SlotId;
use crate::door::systems::{SystemId, SystemSet};
use crate::now::Uptime;
use crate::sip::{ConnectionId, Flow, ListenerId};

/// Strangers may wait for so many windows of answers, and for so many seconds where there is a pace:
/// beyond, they would lose their patience in the queue. The first as long as the window is small.
const ROUNDS_MAX: usize = 8;
pub(crate) const SECONDS_MAX: usize = 10;
pub(crate) const URGENT_MIN: usize = 2_048;
/// A server of which nothing has been heard for so long does not answer: beyond the retransmissions
/// that a lost datagram or two need (T1 is half a second).
pub(crate) const STALL: Duration = Duration::from_secs(3);

/// The way to one server.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Where requests to the server go.
    pub(crate) flow: Flow,
    /// How it is told the way back; learnt from its answers where configuration says `auto` (M2).
    pub(crate) by: By,
    pub(crate) by_is_fixed: bool,
    /// The least expiry it accepts (from its 423).
    pub(crate) expiry_min_s: u32,
    pub(crate) pacer: Pacer,
    pub(crate) woken: bool,
    /// Whoever has their turn is being let go: what comes of that leads here again.
    pub(crate) pumping: bool,
    /// Since when nothing has been heard of what is out.
    pub(crate) silent_since: Uptime,
    /// Bindings the door holds registered there.
    pub(crate) bindings: u64,
    /// Stale bindings still to be removed before the server counts (M8).
    pub(crate) sweep: HashSet<SlotId>,
    pub(crate) sweeping: bool,
    queues: Queues,
    /// Who waits for telephone systems, by which: they hold up nobody else.
    held: BTreeMap<SystemSet, Queues>,
    /// Whether it still holds what it granted; asked last of all.
    pub(crate) sampling: Sampling,
}

/// Who waits, most pressing first; each with a number that tells who came first, in whatever lane.
#[derive(Debug, Default)]
struct Queues {
    /// A phone waits for these: (number, waiting, index of the update).
    urgent: VecDeque<(u64, SlotId, usize)>,
    /// By [`Urgency`].
    steps: [VecDeque<(u64, SlotId)>; Urgency::ALL.len()],
}

/// How pressing a turn is, and its number: the least goes first.
pub(crate) type Order = (usize, u64);

/// Who goes next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Turn {
    /// An update a phone waits for.
    Update(SlotId, usize),
    /// A step of the door's own.
    Step(SlotId, Urgency),
    /// A question about a binding (H8).
    Sample(SlotId),
}

/// How pressing a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Moved users.
    Moving,
    /// Moved users whose phones will come back by themselves any moment.
    Returning,
    /// Refreshes and removals.
    Background,
}

impl Urgency {
    /// The most pressing first.
    const ALL: [Self; 3] = [Self::Moving, Self::Returning, Self::Background];
}

impl Lane {
    pub(crate) fn new(server: &Server, listener: ListenerId, pace: Pace) -> Self {
        Self {
            flow: Flow {
                listener,
                transport: server.transport,
                remote: server.sip,
                connection: ConnectionId::NONE,
            },
            by: match server.binding_address {
                BindingAddress::Path | BindingAddress::Auto => By::Path,
                BindingAddress::Contact => By::Contact,
            },
            by_is_fixed: server.binding_address != BindingAddress::Auto,
            expiry_min_s: 0,
            pacer: Pacer::new(pace),
            woken: false,
            pumping: false,
            silent_since: Uptime::ZERO,
            bindings: 0,
            sweep: HashSet::new(),
            sweeping: false,
            queues: Queues::default(),
            held: BTreeMap::new(),
            sampling: Sampling::default(),
        }
    }

    pub(crate) fn push_update(&mut self, waiting: SlotId, index: usize) {
        self.queues.push(Turn::Update(waiting, index), 0);
    }

    pub(crate) fn push_step(&mut self, binding: SlotId, urgency: Urgency) {
        self.queues.push(Turn::Step(binding, urgency), 0);
    }

    /// Whose turn it was waits for these telephone systems.
    pub(crate) fn hold(&mut self, turn: Turn, systems: SystemSet, number: u64) {
        self.held.entry(systems).or_default().push(turn, number);
    }

    /// Who goes next of those who wait for no telephone system, if the window has room; the pace is
    /// asked separately.
    pub(crate) fn take_turn(&mut self) -> Option<Turn> {
        if !self.pacer.has_room() {
            return None;
        }
        self.queues.pop().or_else(|| self.take_question())
    }

    /// The next of those who wait for just these.
    pub(crate) fn take_held(&mut self, systems: SystemSet) -> Option<Turn> {
        let held = self.held.get_mut(&systems)?;
        let turn = held.pop();
        if held.len() == 0 {
            self.held.remove(&systems);
        }
        turn
    }

    /// How pressing the next turn is of those who wait for no telephone system, in the measure of
    /// [`Order`].
    pub(crate) fn next_rank(&self) -> usize {
        self.queues.first().map_or(usize::MAX, |(rank, _)| rank)
    }

    /// Whoever is the next of each set of telephone systems that are waited for here.
    pub(crate) fn heads(&self) -> impl Iterator<Item = (Order, SystemSet)> {
        self.held.iter().filter_map(|(systems, held)| Some((held.first()?, *systems)))
    }

    /// Whether nothing has been heard for long of what is out.
    pub(crate) fn is_silent(&self, now: Uptime) -> bool {
        self.pacer.in_flight() > 0 && now.since(self.silent_since) >= STALL
    }

    /// Whether anybody waits here for telephone systems.
    pub(crate) fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// Whether anybody waits here for nothing but their turn.
    pub(crate) fn has_turns(&self) -> bool {
        self.queues.len() > 0 || matches!(self.sampling.question, Question::Queued(_))
    }

    fn take_question(&mut self) -> Option<Turn> {
        let Question::Queued(id) = self.sampling.question else { return None };
        self.sampling.question = Question::None;
        Some(Turn::Sample(id))
    }

    /// Whether so many phones wait for this server that one more would wait too long.
    pub(crate) fn is_crowded(&self) -> bool {
        let by_window = (self.pacer.window() as usize * ROUNDS_MAX).max(URGENT_MIN);
        let rate = self.pacer.rate_max().map(|rate| rate as usize * SECONDS_MAX);
        self.queues.urgent.len() >= rate.map_or(by_window, |by_pace| by_window.min(by_pace))
    }

    /// How many phones' updates wait here for a telephone system.
    pub(crate) fn phones_held(&self, system: SystemId) -> usize {
        let of_it = self.held.iter().filter(|(systems, _)| systems.contains(system));
        of_it.map(|(_, held)| held.urgent.len()).sum()
    }

    /// How many wait here for a telephone system, stale entries included.
    pub(crate) fn held(&self, system: SystemId) -> usize {
        let of_it = self.held.iter().filter(|(systems, _)| systems.contains(system));
        of_it.map(|(_, held)| held.len()).sum()
    }

    /// How many wait, stale entries included.
    pub(crate) fn queued(&self) -> usize {
        let question = usize::from(matches!(self.sampling.question, Question::Queued(_)));
        self.queues.len() + self.held.values().map(Queues::len).sum::<usize>() + question
    }

    /// The server failed: nobody waits for it any longer. The window starts anew.
    pub(crate) fn clear(&mut self) -> (Vec<(SlotId, usize)>, Vec<SlotId>) {
        self.pacer.restart();
        self.sampling.question = Question::None;
        let (mut updates, mut steps) = (Vec::new(), Vec::new());
        let held = std::mem::take(&mut self.held).into_values();
        for queues in held.chain([std::mem::take(&mut self.queues)]) {
            updates.extend(queues.urgent.into_iter().map(|(_, waiting, index)| (waiting, index)));
            steps.extend(queues.steps.into_iter().flatten().map(|(_, binding)| binding));
        }
        (updates, steps)
    }
}

impl Queues {
    fn push(&mut self, turn: Turn, number: u64) {
        match turn {
            Turn::Update(waiting, index) => self.urgent.push_back((number, waiting, index)),
            Turn::Step(binding, urgency) => {
                self.steps[urgency as usize].push_back((number, binding));
            }
            // There is one of them at most, and it is kept elsewhere.
            Turn::Sample(_) => {}
        }
    }

    fn first(&self) -> Option<Order> {
        let update = self.urgent.front().map(|(number, ..)| (0, *number));
        let step =
            |(rank, queue): (usize, &VecDeque<(u64, SlotId)>)| Some((rank + 1, queue.front()?.0));
        update.or_else(|| self.steps.iter().enumerate().find_map(step))
    }

    fn pop(&mut self) -> Option<Turn> {
        let update = self.urgent.pop_front();
        let step = |urgency: Urgency| {
            let (_, binding) = self.steps[urgency as usize].pop_front()?;
            Some(Turn::Step(binding, urgency))
        };
        update
            .map(|(_, waiting, index)| Turn::Update(waiting, index))
            .or_else(|| Urgency::ALL.into_iter().find_map(step))
    }

    fn len(&self) -> usize {
        self.urgent.len() + self.steps.iter().map(VecDeque::len).sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cluster::{HealthDocumentUse, Planes};
    use crate::sip::Transport;

    fn lane(pace: Pace) -> Lane {
        let server = Server {
            name: "ucs1".into(),
            sip: "192.0.2.1:5060".parse().unwrap(),
            transport: Transport::Udp,
            clients: None,
            web: None,
            ucsid: None,
            public: None,
            planes: Planes::SIP,
            capacity: 1,
            version: None,
            site: None,
            ties: Arc::default(),
            realm: None,
            binding_address: BindingAddress::Auto,
            health_document: HealthDocumentUse::None,
            health_url: None,
        };
        Lane::new(&server, ListenerId(0), pace)
    }

    fn number(turn: Turn) -> u64 {
        match turn {
            Turn::Update(id, _) | Turn::Step(id, _) | Turn::Sample(id) => id.to_u64(),
        }
    }

    #[test]
    fn phones_that_wait_go_first_and_questions_last() {
        let mut lane = lane(Pace::default());
        let id = SlotId::from_u64;
        lane.push_step(id(1), Urgency::Background);
        lane.push_step(id(2), Urgency::Returning);
        lane.push_step(id(3), Urgency::Moving);
        lane.push_update(id(4), 0);
        lane.sampling.question = Question::Queued(id(5));
        let turns: Vec<u64> = std::iter::from_fn(|| lane.take_turn()).map(number).collect();
        assert_eq!(turns, [4, 3, 2, 1, 5]);
    }

    #[test]
    fn who_waits_for_telephone_systems_goes_when_all_of_theirs_are_open_first_come_first_served() {
        let mut lane = lane(Pace::default());
        let id = SlotId::from_u64;
        let (pbx, trunk) = (SystemId(0), SystemId(1));
        let both = SystemSet::of(pbx).with(trunk);
        lane.hold(Turn::Step(id(1), Urgency::Moving), both, 1);
        lane.hold(Turn::Step(id(2), Urgency::Moving), SystemSet::of(pbx), 2);
        lane.hold(Turn::Step(id(3), Urgency::Moving), SystemSet::of(trunk), 3);
        lane.hold(Turn::Update(id(4), 0), both, 4);
        lane.hold(Turn::Step(id(5), Urgency::Background), SystemSet::of(pbx), 0);
        lane.push_step(id(6), Urgency::Background);
        assert_eq!((lane.queued(), lane.held(pbx), lane.phones_held(trunk)), (6, 4, 1));
        assert_eq!(lane.next_rank(), 3, "a refresh");
        let next = |lane: &mut Lane, open: SystemSet| {
            let ready = lane.heads().filter(|(_, systems)| open.has_all(*systems));
            let (_, systems) = ready.min()?;
            lane.take_held(systems).map(number)
        };
        assert_eq!(next(&mut lane, SystemSet::NONE), None);
        assert_eq!(next(&mut lane, SystemSet::of(trunk)), Some(3));
        assert_eq!(next(&mut lane, both), Some(4), "a phone waits");
        assert_eq!(next(&mut lane, both), Some(1), "it came first");
        assert_eq!(next(&mut lane, both), Some(2));
        assert_eq!(lane.take_turn().map(number), Some(6));
        assert_eq!(lane.clear(), (vec![], vec![id(5)]));
        assert!(!lane.holds() && lane.queued() == 0);
    }

    #[test]
    fn nobody_goes_while_the_window_is_full() {
        let mut lane = lane(Pace { window_initial: 4, window_max: 4, rate_max: None });
        for n in 0..5 {
            lane.push_step(SlotId::from_u64(n), Urgency::Moving);
        }
        for _ in 0..4 {
            assert!(lane.take_turn().is_some());
            lane.pacer.start(Uptime::ZERO);
        }
        assert!(lane.take_turn().is_none());
        lane.pacer.answered();
        assert!(lane.take_turn().is_some());
    }
}
