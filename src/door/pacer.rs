//! [`Pacer`]: how many REGISTERs may be out to something, and how many a second (M7).

use std::time::Duration;

use crate::door::Pace;
use crate::now::Uptime;

/// The window never closes below this, so that it is found out when things are better.
const WINDOW_MIN: u32 = 4;
/// A pace in REGISTERs per second allows this share of a second as a burst.
const BURST: Duration = Duration::from_millis(100);

/// A window in flight and a ceiling per second.
///
/// The window grows by one with every answer until the first loss, then by one a window; it is
/// halved by a loss (a timeout or an answer that says "too much"), like a congestion window: once for
/// whatever was out together.
#[derive(Debug)]
pub(crate) struct Pacer {
    pace: Pace,
    in_flight: u32,
    window: u32,
    grown: u32,
    lost_before: bool,
    /// Of what was out when the window was halved last, how many may still be lost.
    forgiven: u32,
    next_at: Uptime,
}

impl Pacer {
    pub(crate) fn new(pace: Pace) -> Self {
        Self {
            pace,
            in_flight: 0,
            window: pace.window_initial.max(WINDOW_MIN),
            grown: 0,
            lost_before: false,
            forgiven: 0,
            next_at: Uptime::ZERO,
        }
    }

    /// Whether the window has room; the ceiling is asked separately.
    pub(crate) const fn has_room(&self) -> bool {
        self.in_flight < self.window
    }

    /// `None`: go now. Else when the ceiling allows the next one.
    pub(crate) fn wait_until(&self, now: Uptime) -> Option<Uptime> {
        self.pace.rate_max?;
        let opens =
            Uptime::from_nanos(self.next_at.as_nanos().saturating_sub(BURST.as_nanos() as u64));
        (opens > now).then_some(opens)
    }

    /// One REGISTER goes out.
    pub(crate) fn start(&mut self, now: Uptime) {
        self.in_flight += 1;
        if self.pace.rate_max.is_some() {
            self.next_at = self.next_at.max(now) + self.gap();
        }
    }

    /// One was answered, and not with "too much".
    pub(crate) fn answered(&mut self) {
        self.settle();
        self.grown += 1;
        if !self.lost_before || self.grown >= self.window {
            self.grown = 0;
            self.window = (self.window + 1).min(self.pace.window_max.max(WINDOW_MIN));
        }
    }

    /// One was lost, or answered with "too much".
    pub(crate) fn lost(&mut self) {
        let forgiven = self.forgiven > 0;
        self.settle();
        self.lost_before = true;
        self.grown = 0;
        if !forgiven {
            self.window = (self.window / 2).max(WINDOW_MIN);
            self.forgiven = self.in_flight;
        }
    }

    /// What became of one says nothing of how much there may be.
    pub(crate) fn unheard(&mut self) {
        self.settle();
    }

    /// One did not go out after all, or nobody had work with it: it counts as if it had not been.
    pub(crate) fn unsent(&mut self) {
        self.settle();
        let gap = self.gap().as_nanos() as u64;
        self.next_at = Uptime::from_nanos(self.next_at.as_nanos().saturating_sub(gap));
    }

    fn settle(&mut self) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.forgiven = self.forgiven.saturating_sub(1);
    }

    /// Between two at the ceiling; none without one.
    pub(crate) fn gap(&self) -> Duration {
        self.pace.rate_max.map_or(Duration::ZERO, |rate| Duration::from_secs(1) / rate.max(1))
    }

    /// What was learned of the other side counts no longer.
    pub(crate) fn restart(&mut self) {
        self.window = self.pace.window_initial.max(WINDOW_MIN);
        self.lost_before = false;
        self.forgiven = 0;
    }

    pub(crate) const fn in_flight(&self) -> u32 {
        self.in_flight
    }

    pub(crate) const fn window(&self) -> u32 {
        self.window
    }

    /// REGISTERs a second at most.
    pub(crate) const fn rate_max(&self) -> Option<u32> {
        self.pace.rate_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_grows_with_answers_and_halves_with_a_loss() {
        let mut pacer = Pacer::new(Pace { window_initial: 8, window_max: 16, rate_max: None });
        for _ in 0..20 {
            pacer.start(Uptime::ZERO);
            pacer.answered();
        }
        assert_eq!(pacer.window(), 16, "capped");
        pacer.start(Uptime::ZERO);
        pacer.lost();
        assert_eq!(pacer.window(), 8);
        for _ in 0..8 {
            pacer.start(Uptime::ZERO);
            pacer.answered();
        }
        assert_eq!(pacer.window(), 9, "one a window after the first loss");
        for _ in 0..20 {
            pacer.start(Uptime::ZERO);
            pacer.lost();
        }
        assert_eq!(pacer.window(), WINDOW_MIN);
        assert_eq!(pacer.in_flight(), 0);
    }

    #[test]
    fn what_was_out_together_is_lost_once() {
        let mut pacer = Pacer::new(Pace { window_initial: 64, window_max: 64, rate_max: None });
        for _ in 0..64 {
            pacer.start(Uptime::ZERO);
        }
        for _ in 0..64 {
            pacer.lost();
        }
        assert_eq!(pacer.window(), 32);
        pacer.start(Uptime::ZERO);
        pacer.lost();
        assert_eq!(pacer.window(), 16, "that one was sent knowing better");
    }

    #[test]
    fn what_nobody_had_work_with_is_given_back() {
        let mut pacer = Pacer::new(Pace { window_initial: 8, window_max: 8, rate_max: Some(2) });
        let now = Uptime::from_secs(5);
        for _ in 0..10 {
            assert_eq!(pacer.wait_until(now), None);
            pacer.start(now);
            pacer.unsent();
        }
        pacer.start(now);
        let opens = pacer.wait_until(now).unwrap();
        assert_eq!(opens.since(now), Duration::from_millis(400), "at the very moment it may go");
        assert_eq!(pacer.wait_until(opens), None);
        assert_eq!(pacer.window(), 8);
    }

    #[test]
    fn a_ceiling_is_kept_over_seconds_with_a_small_burst() {
        let mut pacer = Pacer::new(Pace { window_initial: 64, window_max: 64, rate_max: Some(25) });
        let mut now = Uptime::ZERO;
        let mut sent = 0;
        while now < Uptime::from_secs(10) {
            match pacer.wait_until(now) {
                Some(at) => now = at,
                None => {
                    pacer.start(now);
                    pacer.answered();
                    sent += 1;
                }
            }
        }
        assert!((245..=260).contains(&sent), "{sent} in ten seconds at 25/s");
    }
}
