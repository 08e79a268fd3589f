//! The only place that reads clocks.
#![expect(clippy::disallowed_methods, reason = "this is the one place that may look at a clock")]

use std::time::{Duration, SystemTime};

use nix::time::ClockId;
use tokio::time::Instant;

use crate::now::{Now, Uptime};

/// The machine's clocks.
///
/// [`Uptime`] is `CLOCK_MONOTONIC`, so that processes on one host can compare theirs.
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock;

impl Clock {
    /// This instant, on both clocks.
    pub fn now(self) -> Now {
        Now { uptime: self.uptime(), wall: SystemTime::now() }
    }

    /// This instant, on the monotonic clock.
    pub fn uptime(self) -> Uptime {
        // CLOCK_MONOTONIC cannot fail on Linux; zero only means "too early", never a panic.
        let Ok(time) = ClockId::CLOCK_MONOTONIC.now() else { return Uptime::ZERO };
        Uptime::ZERO + Duration::from(time)
    }

    /// The runtime's instant that corresponds to `deadline`; now, if it has passed.
    pub(super) fn instant_of(self, deadline: Uptime) -> Instant {
        // A sleep longer than a day is cut to a day: whoever sleeps looks again anyway.
        const LONGEST: Duration = Duration::from_secs(86_400);
        Instant::now() + deadline.since(self.uptime()).min(LONGEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uptime_never_goes_back() {
        let earlier = Clock.uptime();
        assert!(Clock.uptime() >= earlier);
        assert!(earlier > Uptime::ZERO);
    }

    #[test]
    fn a_deadline_that_passed_is_due_now() {
        let due = Clock.instant_of(Uptime::ZERO);
        assert!(due <= Instant::now());
    }

    #[test]
    fn a_deadline_that_never_comes_does_not_overflow() {
        assert!(Clock.instant_of(Uptime::NEVER) > Instant::now() + Duration::from_secs(3_600));
    }
}
