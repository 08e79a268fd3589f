//! Transactions under way: RFC 3261's non-INVITE client (§17.1.2), reduced to what is measured.

use std::collections::VecDeque;
use std::time::Duration;

use crate::load::script::Ticket;
use crate::now::Uptime;

/// RFC 3261 T2: the longest time between retransmissions.
const T2: Duration = Duration::from_secs(4);

/// One transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    pub(super) user: u32,
    pub(super) cseq: u32,
    /// When it began, or should have begun.
    pub(super) since: Uptime,
    /// Retransmissions.
    pub(super) repeats: u32,
}

/// A timer fired.
#[derive(Clone, Copy, Debug)]
pub(super) enum Due {
    /// Timer E: send it again.
    Repeat(Ticket, Asked),
    /// Timer F: nobody answered.
    GivenUp(Asked),
}

/// What is under way, and its timers: all of one stage wait equally long, so a queue each will do.
#[derive(Debug)]
pub(super) struct Flight {
    slots: Vec<Slot>,
    free: Vec<u32>,
    stages: Vec<Stage>,
}

#[derive(Debug, Default)]
struct Slot {
    generation: u32,
    asked: Option<Asked>,
}

#[derive(Debug)]
struct Stage {
    after: Duration,
    queue: VecDeque<(Uptime, Ticket)>,
}

impl Flight {
    /// Room for so many; `reliable`: nothing is sent again (TCP).
    pub(super) fn new(room: u32, t1: Duration, give_up: Duration, reliable: bool) -> Self {
        let stage = |after| Stage { after, queue: VecDeque::new() };
        let end = give_up.min(t1 * 64);
        let (mut stages, mut passed, mut interval) = (Vec::new(), Duration::ZERO, t1);
        while !reliable && passed + interval < end {
            stages.push(stage(interval));
            passed += interval;
            interval = (interval * 2).min(T2);
        }
        stages.push(stage(end.saturating_sub(passed)));
        let slots = (0..room).map(|_| Slot::default()).collect();
        Self { slots, free: (0..room).rev().collect(), stages }
    }

    /// How many are under way.
    pub(super) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// One begins; `None` if there is no room.
    pub(super) fn begin(&mut self, now: Uptime, asked: Asked) -> Option<Ticket> {
        let slot = self.free.pop()?;
        let place = self.slots.get_mut(slot as usize)?;
        place.generation = place.generation.wrapping_add(1);
        place.asked = Some(asked);
        let ticket = Ticket { slot, generation: place.generation };
        self.wait(now, 0, ticket);
        Some(ticket)
    }

    /// It was answered; `None`: not under way (any more).
    pub(super) fn end(&mut self, ticket: Ticket) -> Option<Asked> {
        let place = self.slots.get_mut(ticket.slot as usize)?;
        if place.generation != ticket.generation {
            return None;
        }
        let asked = place.asked.take()?;
        self.free.push(ticket.slot);
        Some(asked)
    }

    /// Whose it is, if it is under way.
    fn get_mut(&mut self, ticket: Ticket) -> Option<&mut Asked> {
        let place = self.slots.get_mut(ticket.slot as usize)?;
        if place.generation == ticket.generation { place.asked.as_mut() } else { None }
    }

    /// When a timer fires next.
    pub(super) fn next(&mut self) -> Option<Uptime> {
        self.forget_ended();
        self.stages.iter().filter_map(|stage| Some(stage.queue.front()?.0)).min()
    }

    /// A timer that has fired.
    pub(super) fn pop_due(&mut self, now: Uptime) -> Option<Due> {
        self.forget_ended();
        let last = self.stages.len() - 1;
        let due = |stage: &Stage| stage.queue.front().is_some_and(|(at, _)| *at <= now);
        let index = self.stages.iter().position(due)?;
        let (_, ticket) = self.stages.get_mut(index)?.queue.pop_front()?;
        if index == last {
            return self.end(ticket).map(Due::GivenUp);
        }
        let asked = self.get_mut(ticket)?;
        asked.repeats += 1;
        let asked = *asked;
        self.wait(now, index + 1, ticket);
        Some(Due::Repeat(ticket, asked))
    }

    fn wait(&mut self, now: Uptime, stage: usize, ticket: Ticket) {
        if let Some(stage) = self.stages.get_mut(stage) {
            stage.queue.push_back((now + stage.after, ticket));
        }
    }

    /// Drops what has been answered from the fronts of the queues.
    fn forget_ended(&mut self) {
        let Self { slots, stages, .. } = self;
        for stage in stages {
            while let Some((_, ticket)) = stage.queue.front() {
                let place = slots.get(ticket.slot as usize);
                let lives = place
                    .is_some_and(|it| it.generation == ticket.generation && it.asked.is_some());
                if lives {
                    break;
                }
                stage.queue.pop_front();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const T1: Duration = Duration::from_millis(500);

    fn asked(user: u32) -> Asked {
        Asked { user, cseq: 1, since: Uptime::from_secs(1), repeats: 0 }
    }

    #[test]
    fn an_unanswered_request_is_sent_ten_times_more_and_given_up_after_64_t1() {
        let mut flight = Flight::new(1, T1, Duration::MAX, false);
        let start = Uptime::from_secs(1);
        flight.begin(start, asked(7)).unwrap();
        assert!(flight.begin(start, asked(8)).is_none(), "there is room for one");
        let mut repeats = Vec::new();
        loop {
            let at = flight.next().unwrap();
            match flight.pop_due(at).unwrap() {
                Due::Repeat(..) => repeats.push(at.since(start).as_millis()),
                Due::GivenUp(asked) => {
                    assert_eq!((at.since(start), asked.user, asked.repeats), (T1 * 64, 7, 10));
                    break;
                }
            }
        }
        // RFC 3261 §17.1.2.2: T1, doubling, at most T2 apart.
        let expected = [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500];
        assert_eq!(repeats, expected);
        assert_eq!((flight.len(), flight.next()), (0, None));
    }

    #[test]
    fn an_answer_ends_it_once_and_its_timers_with_it() {
        let mut flight = Flight::new(1, T1, Duration::MAX, false);
        let ticket = flight.begin(Uptime::ZERO, asked(7)).unwrap();
        assert_eq!(flight.end(ticket).map(|it| it.user), Some(7));
        assert!(flight.end(ticket).is_none());
        assert_eq!(flight.next(), None);
        let later = flight.begin(Uptime::ZERO, asked(8)).unwrap();
        assert!(flight.end(ticket).is_none(), "an old answer ends nothing new");
        assert_eq!(flight.end(later).map(|it| it.user), Some(8));
    }

    #[test]
    fn nothing_is_sent_again_over_a_stream() {
        let mut flight = Flight::new(1, T1, Duration::from_secs(3), true);
        flight.begin(Uptime::ZERO, asked(7)).unwrap();
        let at = flight.next().unwrap();
        assert_eq!(at, Uptime::from_secs(3));
        assert!(matches!(flight.pop_due(at), Some(Due::GivenUp(_))));
    }
}
