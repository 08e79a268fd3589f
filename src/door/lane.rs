//! The door's way to one server: how many REGISTERs may be out, and who goes next (M7).

use std::collections::{BTreeMap, HashSet, VecDeque};

use crate::cluster::{BindingAddress, Server};
use crate::door::Pace;
use crate::door::binding::By;
use crate::door::pacer::Pacer;
use crate::door::sample::{Question, Sampling};
use crate::door::slots::SlotId;
use crate::door::systems::{SystemId, SystemSet};
use crate::sip::{ConnectionId, Flow, ListenerId};

/// Strangers may wait for so many windows of answers, and for so many seconds where there is a pace:
/// beyond, they would lose their patience in the queue. The first as long as the window is small.
const ROUNDS_MAX: usize = 8;
const SECONDS_MAX: usize = 10;
const URGENT_MIN: usize = 2_048;

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
    /// Bindings the door holds registered there.
    pub(crate) bindings: u64,
    /// Stale bindings still to be removed before the server counts (M8).
    pub(crate) sweep: HashSet<SlotId>,
    pub(crate) sweeping: bool,
    queues: Queues,
    /// Whose turn it was when a telephone system behind the server took no more: they hold up nobody
    /// else, and go before the others once it does.
    held: BTreeMap<SystemId, Queues>,
    /// Whether it still holds what it granted; asked last of all.
    pub(crate) sampling: Sampling,
}

/// Who waits, most pressing first.
#[derive(Debug, Default)]
struct Queues {
    /// A phone waits for these: (waiting, index of the update).
    urgent: VecDeque<(SlotId, usize)>,
    /// Moved users.
    moving: VecDeque<SlotId>,
    /// Moved users whose phones will come back by themselves any moment.
    returning: VecDeque<SlotId>,
    /// Refreshes and removals.
    background: VecDeque<SlotId>,
}

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
    Moving,
    Returning,
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
            bindings: 0,
            sweep: HashSet::new(),
            sweeping: false,
            queues: Queues::default(),
            held: BTreeMap::new(),
            sampling: Sampling::default(),
        }
    }

    pub(crate) fn push_update(&mut self, waiting: SlotId, index: usize) {
        self.queues.urgent.push_back((waiting, index));
    }

    pub(crate) fn push_step(&mut self, binding: SlotId, urgency: Urgency) {
        self.queues.of(urgency).push_back(binding);
    }

    /// Whose turn it was waits for this telephone system.
    pub(crate) fn hold(&mut self, turn: Turn, system: SystemId) {
        let held = self.held.entry(system).or_default();
        match turn {
            Turn::Update(waiting, index) => held.urgent.push_back((waiting, index)),
            Turn::Step(binding, urgency) => held.of(urgency).push_back(binding),
            // It asks for nothing that a telephone system would hear of.
            Turn::Sample(_) => {}
        }
    }

    /// Who goes next, if the window has room; the pace is asked separately. Who waits for a telephone
    /// system goes when that is among the `open` ones.
    pub(crate) fn take_turn(&mut self, open: SystemSet) -> Option<Turn> {
        if !self.pacer.has_room() {
            return None;
        }
        self.take_update(open)
            .or_else(|| Urgency::ALL.into_iter().find_map(|urgency| self.take_step(urgency, open)))
            .or_else(|| self.take_question())
    }

    fn take_update(&mut self, open: SystemSet) -> Option<Turn> {
        let mut held = self.held.iter_mut().filter(|(system, _)| open.contains(**system));
        held.find_map(|(_, queues)| queues.urgent.pop_front())
            .or_else(|| self.queues.urgent.pop_front())
            .map(|(waiting, index)| Turn::Update(waiting, index))
    }

    fn take_step(&mut self, urgency: Urgency, open: SystemSet) -> Option<Turn> {
        let mut held = self.held.iter_mut().filter(|(system, _)| open.contains(**system));
        held.find_map(|(_, queues)| queues.of(urgency).pop_front())
            .or_else(|| self.queues.of(urgency).pop_front())
            .map(|binding| Turn::Step(binding, urgency))
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
        self.held.get(&system).map_or(0, |queues| queues.urgent.len())
    }

    /// How many wait here for a telephone system, stale entries included.
    pub(crate) fn held(&self, system: SystemId) -> usize {
        self.held.get(&system).map_or(0, Queues::len)
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
        for mut queues in held.chain([std::mem::take(&mut self.queues)]) {
            updates.extend(queues.urgent.drain(..));
            for urgency in Urgency::ALL {
                steps.extend(queues.of(urgency).drain(..));
            }
        }
        (updates, steps)
    }
}

impl Queues {
    const fn of(&mut self, urgency: Urgency) -> &mut VecDeque<SlotId> {
        match urgency {
            Urgency::Moving => &mut self.moving,
            Urgency::Returning => &mut self.returning,
            Urgency::Background => &mut self.background,
        }
    }

    fn len(&self) -> usize {
        self.urgent.len() + self.moving.len() + self.returning.len() + self.background.len()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cluster::HealthDocumentUse;
    use crate::now::Uptime;
    use crate::sip::Transport;

    fn lane(pace: Pace) -> Lane {
        let server = Server {
            name: "ucs1".into(),
            sip: "192.0.2.1:5060".parse().unwrap(),
            transport: Transport::Udp,
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

    fn turns(lane: &mut Lane, open: SystemSet) -> Vec<u64> {
        let number = |turn| match turn {
            Turn::Update(id, _) | Turn::Step(id, _) | Turn::Sample(id) => id.to_u64(),
        };
        std::iter::from_fn(|| lane.take_turn(open)).map(number).collect()
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
        assert_eq!(turns(&mut lane, SystemSet::NONE), [4, 3, 2, 1, 5]);
    }

    #[test]
    fn who_waits_for_a_telephone_system_holds_up_nobody_and_goes_first_of_their_kind_then() {
        let mut lane = lane(Pace::default());
        let id = SlotId::from_u64;
        let (pbx, trunk) = (SystemId(0), SystemId(1));
        lane.hold(Turn::Step(id(1), Urgency::Moving), pbx);
        lane.hold(Turn::Update(id(2), 0), pbx);
        lane.hold(Turn::Step(id(3), Urgency::Moving), trunk);
        lane.push_step(id(4), Urgency::Moving);
        assert_eq!((lane.queued(), lane.held(pbx), lane.phones_held(pbx)), (4, 2, 1));
        assert_eq!(turns(&mut lane, SystemSet::NONE), [4]);
        lane.push_step(id(5), Urgency::Moving);
        lane.push_update(id(6), 0);
        assert_eq!(turns(&mut lane, SystemSet::of(pbx)), [2, 6, 1, 5]);
        assert_eq!(lane.queued(), 1);
        assert_eq!(lane.clear(), (vec![], vec![id(3)]));
        assert_eq!(lane.queued(), 0);
    }

    #[test]
    fn nobody_goes_while_the_window_is_full() {
        let mut lane = lane(Pace { window_initial: 4, window_max: 4, rate_max: None });
        for n in 0..5 {
            lane.push_step(SlotId::from_u64(n), Urgency::Moving);
        }
        for _ in 0..4 {
            assert!(lane.take_turn(SystemSet::NONE).is_some());
            lane.pacer.start(Uptime::ZERO);
        }
        assert!(lane.take_turn(SystemSet::NONE).is_none());
        lane.pacer.answered();
        assert!(lane.take_turn(SystemSet::NONE).is_some());
    }
}
