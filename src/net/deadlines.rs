//! [`Deadlines`]: when to look at which place of a [`super::slab::Slab`] again.
//!
//! A deadline that moves later costs a comparison: the alarm that is set already goes off first,
//! and whoever is asked then says what the deadline is by now.

use std::time::Duration;

use crate::now::Uptime;
use crate::timers::Timers;

/// No alarm is set for later than this: one that an earlier deadline made needless is soon gone,
/// so that they do not pile up, whatever peers do.
const ROUND: Duration = Duration::from_secs(10);

/// One alarm for each place.
#[derive(Default)]
pub(super) struct Deadlines {
    timers: Timers<(usize, Uptime)>,
    /// By place: the alarm that counts.
    alarms: Vec<Uptime>,
}

impl Deadlines {
    /// A place wants to be looked at when `at` comes, if not before.
    pub(super) fn set(&mut self, now: Uptime, place: usize, at: Uptime) {
        if self.alarms.len() <= place {
            self.alarms.resize(place + 1, Uptime::NEVER);
        }
        let Some(alarm) = self.alarms.get_mut(place) else { return };
        if *alarm <= at {
            return;
        }
        let at = at.min(now + ROUND);
        if *alarm <= at {
            return;
        }
        *alarm = at;
        self.timers.set(at, (place, at));
    }

    /// When [`Deadlines::pop_due`] has something next, perhaps.
    pub(super) fn next(&self) -> Option<Uptime> {
        self.timers.next()
    }

    /// A place to look at now. It has no alarm any more: set one, if anything is left to wait for.
    pub(super) fn pop_due(&mut self, now: Uptime) -> Option<usize> {
        loop {
            let (place, at) = self.timers.pop_due(now)?;
            let alarm = self.alarms.get_mut(place)?;
            if *alarm == at {
                *alarm = Uptime::NEVER;
                return Some(place);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(millis: u64) -> Uptime {
        Uptime::from_millis(millis)
    }

    #[test]
    fn a_deadline_that_moves_later_costs_nothing_until_the_old_one_comes() {
        let mut deadlines = Deadlines::default();
        for later in 5_000..6_000 {
            deadlines.set(at(0), 7, at(later));
        }
        assert_eq!((deadlines.next(), deadlines.timers.len()), (Some(at(5_000)), 1));
        assert_eq!(deadlines.pop_due(at(4_999)), None);
        assert_eq!(deadlines.pop_due(at(5_000)), Some(7));
        deadlines.set(at(5_000), 7, at(6_000));
        assert_eq!(deadlines.pop_due(at(5_999)), None);
        assert_eq!(deadlines.pop_due(at(6_000)), Some(7));
        assert_eq!((deadlines.pop_due(at(60_000)), deadlines.next()), (None, None));
    }

    #[test]
    fn a_deadline_that_moves_earlier_is_kept_and_comes_once() {
        let mut deadlines = Deadlines::default();
        deadlines.set(at(0), 1, at(9_000));
        deadlines.set(at(0), 2, at(3_000));
        deadlines.set(at(0), 1, at(2_000));
        assert_eq!(deadlines.pop_due(at(2_000)), Some(1));
        assert_eq!(deadlines.pop_due(at(3_000)), Some(2));
        assert_eq!(deadlines.pop_due(at(60_000)), None);
    }

    #[test]
    fn alarms_do_not_pile_up_when_near_deadlines_take_the_place_of_far_ones() {
        let mut deadlines = Deadlines::default();
        let mut looks = 0;
        for now in (0..900_000).step_by(500) {
            while deadlines.pop_due(at(now)).is_some() {
                looks += 1;
            }
            deadlines.set(at(now), 0, at(now + 900_000));
            deadlines.set(at(now), 0, at(now + 2_000));
        }
        assert!(deadlines.timers.len() <= 10, "{}", deadlines.timers.len());
        assert!(looks <= 450, "{looks}");
    }
}
