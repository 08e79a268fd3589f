//! The door's way to one server: how many REGISTERs may be out, and who goes next (M7).

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use crate::cluster::{BindingAddress, Server};
use crate::door::Pace;
use crate::door::binding::By;
use crate::door::sample::{Question, Sampling};
use crate::door::slots::SlotId;
use crate::now::Uptime;
use crate::sip::{ConnectionId, Flow, ListenerId};

/// The window never closes below this, so that a lane finds out when its server is better.
const WINDOW_MIN: u32 = 4;
/// A pace in REGISTERs per second allows this share of a second as a burst.
const BURST: Duration = Duration::from_millis(100);

/// Strangers may wait for so many windows of answers, and for so many seconds where there is a pace:
/// beyond, they would lose their patience in the queue. The first as long as the window is small.
const ROUNDS_MAX: usize = 8;
const SECONDS_MAX: usize = 10;
const URGENT_MIN: usize = 2_048;

/// The way to one server.
///
/// The window grows by one with every answer until the first loss, then by one a window; it is
/// halved by a loss (a timeout or an answer that says "too much"), like a congestion window.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Where requests to the server go.
    pub(crate) flow: Flow,
    /// How it is told the way back; learnt from its answers where configuration says `auto` (M2).
    pub(crate) by: By,
    pub(crate) by_is_fixed: bool,
    /// The least expiry it accepts (from its 423).
    pub(crate) expiry_min_s: u32,
    pub(crate) in_flight: u32,
    window: u32,
    grown: u32,
    lost_before: bool,
    pace: Pace,
    next_at: Uptime,
    pub(crate) woken: bool,
    /// Bindings the door holds registered there.
    pub(crate) bindings: u64,
    /// Stale bindings still to be removed before the server counts (M8).
    pub(crate) sweep: HashSet<SlotId>,
    pub(crate) sweeping: bool,
    /// A phone waits for these: (waiting, index of the update).
    urgent: VecDeque<(SlotId, usize)>,
    /// Moved users.
    moving: VecDeque<SlotId>,
    /// Moved users whose phones will come back by themselves any moment.
    returning: VecDeque<SlotId>,
    /// Refreshes and removals.
    background: VecDeque<SlotId>,
    /// Whether it still holds what it granted; asked last of all.
    pub(crate) sampling: Sampling,
}

/// Who goes next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Turn {
    /// An update a phone waits for.
    Update(SlotId, usize),
    /// A step of the door's own.
    Step(SlotId),
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
            in_flight: 0,
            window: pace.window_initial.max(WINDOW_MIN),
            grown: 0,
            lost_before: false,
            pace,
            next_at: Uptime::ZERO,
            woken: false,
            bindings: 0,
            sweep: HashSet::new(),
            sweeping: false,
            urgent: VecDeque::new(),
            moving: VecDeque::new(),
            returning: VecDeque::new(),
            background: VecDeque::new(),
            sampling: Sampling::default(),
        }
    }

    pub(crate) fn push_update(&mut self, waiting: SlotId, index: usize) {
        self.urgent.push_back((waiting, index));
    }

    pub(crate) fn push_step(&mut self, binding: SlotId, urgency: Urgency) {
        match urgency {
            Urgency::Moving => self.moving.push_back(binding),
            Urgency::Returning => self.returning.push_back(binding),
            Urgency::Background => self.background.push_back(binding),
        }
    }

    /// Who goes next, if the window has room; the pace is asked separately.
    pub(crate) fn take_turn(&mut self) -> Option<Turn> {
        if self.in_flight >= self.window {
            return None;
        }
        if let Some((waiting, index)) = self.urgent.pop_front() {
            return Some(Turn::Update(waiting, index));
        }
        self.moving
            .pop_front()
            .or_else(|| self.returning.pop_front())
            .or_else(|| self.background.pop_front())
            .map(Turn::Step)
            .or_else(|| self.take_question())
    }

    fn take_question(&mut self) -> Option<Turn> {
        let Question::Queued(id) = self.sampling.question else { return None };
        self.sampling.question = Question::None;
        Some(Turn::Sample(id))
    }

    /// `None`: go now. Else when the pace allows the next one.
    pub(crate) fn wait_until(&self, now: Uptime) -> Option<Uptime> {
        self.pace.rate_max?;
        (self.next_at > now + BURST).then_some(self.next_at)
    }

    /// One REGISTER goes out.
    pub(crate) fn start(&mut self, now: Uptime) {
        self.in_flight += 1;
        if let Some(rate) = self.pace.rate_max {
            let gap = Duration::from_secs(1) / rate.max(1);
            self.next_at = self.next_at.max(now) + gap;
        }
    }

    /// One was answered, and not with "too much".
    pub(crate) fn answered(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.grown += 1;
        if !self.lost_before || self.grown >= self.window {
            self.grown = 0;
            self.window = (self.window + 1).min(self.pace.window_max.max(WINDOW_MIN));
        }
    }

    /// One was lost, or answered with "too much".
    pub(crate) fn lost(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.lost_before = true;
        self.grown = 0;
        self.window = (self.window / 2).max(WINDOW_MIN);
    }

    /// One did not go out after all.
    pub(crate) fn unsent(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// Whether so many phones wait for this server that one more would wait too long.
    pub(crate) fn is_crowded(&self) -> bool {
        let by_window = (self.window as usize * ROUNDS_MAX).max(URGENT_MIN);
        let by_pace = self.pace.rate_max.map_or(by_window, |rate| rate as usize * SECONDS_MAX);
        self.urgent.len() >= by_window.min(by_pace)
    }

    /// How many wait, stale entries included.
    pub(crate) fn queued(&self) -> usize {
        let question = usize::from(matches!(self.sampling.question, Question::Queued(_)));
        self.urgent.len()
            + self.moving.len()
            + self.returning.len()
            + self.background.len()
            + question
    }

    /// The server failed: nobody waits for it any longer. The window starts anew.
    pub(crate) fn clear(&mut self) -> (Vec<(SlotId, usize)>, Vec<SlotId>) {
        self.window = self.pace.window_initial.max(WINDOW_MIN);
        self.lost_before = false;
        self.sampling.question = Question::None;
        let steps = self
            .moving
            .drain(..)
            .chain(self.returning.drain(..))
            .chain(self.background.drain(..))
            .collect();
        (self.urgent.drain(..).collect(), steps)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::HealthDocumentUse;
    use crate::sip::Transport;

    fn lane(pace: Pace) -> Lane {
        let server = Server {
            name: "ucs1".into(),
            sip: "192.0.2.1:5060".parse().unwrap(),
            transport: Transport::Udp,
            capacity: 1,
            version: None,
            site: None,
            realm: None,
            binding_address: BindingAddress::Auto,
            health_document: HealthDocumentUse::None,
            health_url: None,
        };
        Lane::new(&server, ListenerId(0), pace)
    }

    #[test]
    fn the_window_grows_with_answers_and_halves_with_a_loss() {
        let mut lane = lane(Pace { window_initial: 8, window_max: 16, rate_max: None });
        for _ in 0..20 {
            lane.start(Uptime::ZERO);
            lane.answered();
        }
        assert_eq!(lane.window, 16, "capped");
        lane.start(Uptime::ZERO);
        lane.lost();
        assert_eq!(lane.window, 8);
        for _ in 0..8 {
            lane.start(Uptime::ZERO);
            lane.answered();
        }
        assert_eq!(lane.window, 9, "one a window after the first loss");
        for _ in 0..20 {
            lane.start(Uptime::ZERO);
            lane.lost();
        }
        assert_eq!(lane.window, WINDOW_MIN);
    }

    #[test]
    fn a_pace_is_kept_over_seconds_with_a_small_burst() {
        let mut lane = lane(Pace { window_initial: 64, window_max: 64, rate_max: Some(25) });
        let mut now = Uptime::ZERO;
        let mut sent = 0;
        while now < Uptime::from_secs(10) {
            match lane.wait_until(now) {
                Some(at) => now = at,
                None => {
                    lane.start(now);
                    lane.answered();
                    sent += 1;
                }
            }
        }
        assert!((245..=260).contains(&sent), "{sent} in ten seconds at 25/s");
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
        let order: Vec<u64> = std::iter::from_fn(|| lane.take_turn())
            .map(|turn| match turn {
                Turn::Update(id, _) | Turn::Step(id) | Turn::Sample(id) => id.to_u64(),
            })
            .collect();
        assert_eq!(order, [4, 3, 2, 1, 5]);
    }
}
