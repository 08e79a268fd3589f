//! [`Rounds`]: when one plane of a server is probed; [`Fetching`]: when its document is fetched.

use std::time::Duration;

use crate::cluster::health::Settings;
use crate::now::Uptime;

/// No interval is shorter, whatever is configured: the door must not spin.
const INTERVAL_MIN: Duration = Duration::from_millis(10);

/// When one plane of a server is probed.
#[derive(Debug)]
pub(super) struct Rounds {
    probe_at: Uptime,
    probed_at: Option<Uptime>,
}

/// When a server's document is fetched.
#[derive(Debug)]
pub(super) struct Fetching {
    fetch_at: Uptime,
}

/// What the next probe depends on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    /// It is dead.
    pub(super) dead: bool,
    /// Probes sent since its last answer.
    pub(super) unanswered: u32,
}

impl Rounds {
    /// `delay` spreads the first rounds of a pool.
    pub(super) fn new(now: Uptime, delay: Duration) -> Self {
        Self { probe_at: now + delay, probed_at: None }
    }

    pub(super) const fn probe_at(&self) -> Uptime {
        self.probe_at
    }

    /// An answer ends the haste of silence and the leisure of a dead server.
    pub(super) fn answered(&mut self, now: Uptime, before: Standing, settings: &Settings) {
        let usual = now.max(self.probed_at.unwrap_or(now) + probe_interval(settings));
        if before.dead {
            self.probe_at = self.probe_at.min(usual);
        } else if before.unanswered > 1 {
            self.probe_at = usual;
        }
    }

    /// A refusal is looked into at its own interval.
    pub(super) fn refused(&mut self, now: Uptime, settings: &Settings) {
        self.probe_at = now + settings.refused_interval.max(INTERVAL_MIN);
    }

    /// Probes at once, but not faster than after a refusal.
    pub(super) fn look_soon(&mut self, now: Uptime, settings: &Settings) {
        let pause = settings.refused_interval.max(INTERVAL_MIN);
        let earliest = self.probed_at.map_or(now, |last| now.max(last + pause));
        self.probe_at = self.probe_at.min(earliest);
    }

    /// The door was stalled: begins anew from here.
    pub(super) const fn restart(&mut self, now: Uptime) {
        self.probe_at = now;
    }

    /// Whether a probe is due; plans the next one.
    pub(super) fn probe(
        &mut self,
        now: Uptime,
        standing: Standing,
        settings: &Settings,
        rng: &mut fastrand::Rng,
    ) -> bool {
        if now < self.probe_at {
            return false;
        }
        let interval = probe_interval(settings);
        let pause = if standing.unanswered == 0 {
            interval
        } else if standing.dead {
            interval * 2
        } else {
            // Packets get lost. More of them tell a lost one from a dead server in the same time.
            interval / 4
        };
        self.probed_at = Some(now);
        self.probe_at = now + jittered(pause, rng);
        true
    }
}

impl Fetching {
    /// `delay` spreads the first fetches of a pool.
    pub(super) fn new(now: Uptime, delay: Duration) -> Self {
        Self { fetch_at: now + delay }
    }

    pub(super) const fn fetch_at(&self) -> Uptime {
        self.fetch_at
    }

    /// The door was stalled: what is overdue is due now.
    pub(super) fn restart(&mut self, now: Uptime) {
        self.fetch_at = self.fetch_at.max(now);
    }

    /// Whether the document is due; plans the next fetch.
    pub(super) fn fetch(
        &mut self,
        now: Uptime,
        settings: &Settings,
        rng: &mut fastrand::Rng,
    ) -> bool {
        if now < self.fetch_at {
            return false;
        }
        self.fetch_at = now + jittered(settings.document_interval, rng);
        true
    }
}

fn probe_interval(settings: &Settings) -> Duration {
    settings.probe_interval.max(INTERVAL_MIN)
}

/// ±10 %.
fn jittered(interval: Duration, rng: &mut fastrand::Rng) -> Duration {
    (interval.saturating_mul(rng.u32(900..=1100)) / 1000).max(INTERVAL_MIN)
}
