//! How patient the door is, and why.

use std::time::Duration;

use crate::cluster::Planes;

/// How patient the door is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Between two probes of a server that answers (±10 %).
    pub probe_interval: Duration,
    /// Silence, counted from the first probe without an answer, until a server is degraded.
    pub degraded_after: Duration,
    /// And until it is down; three probes must be unanswered by then.
    pub down_after: Duration,
    /// Refusals in a row that prove a clean death.
    pub refusals: u32,
    /// Between probes of a server that just refused.
    pub refused_interval: Duration,
    /// Good answers in a row that end `unknown`, and that lead from `down` to `probation`.
    pub rise: u32,
    /// From refusal to the first move.
    pub hold_refused: Duration,
    /// From silence to the first move: virtual machines pause.
    pub hold_silence: Duration,
    /// How long a server stays in probation at least; a flap doubles it, up to 32 times.
    pub probation: Duration,
    /// How long its share grows after that.
    pub ramp: Duration,
    /// The planes that count for the state of a server, where it serves them (H4).
    pub planes: Planes,
    /// How long one plane that counts may be dead while another answers, until the server is down.
    pub plane_dwell: Duration,
    /// Share of the servers that must fall silent in one window before the door suspects itself.
    pub panic_threshold_percent: u8,
    /// That window.
    pub panic_window: Duration,
    /// How late the driver may be before the probes it covers are void.
    pub late_tick: Duration,
    /// Between two pulls of the health document.
    pub document_interval: Duration,
    /// Between two questions to a server whether it still holds a binding; the door asks them.
    pub sample_interval: Duration,
}

/// A stall no longer than this is not a failure (H2).
const STALL_MS: u64 = 1_000;
/// A dead server that says nothing is down by then (H2).
const SILENT_DEATH_MS: u64 = 3_000;
/// Longest way of a probe and its answer in a network fit for telephony.
const ROUND_TRIP_MS: u64 = 100;
/// Between probes: a clean death shows at the next one, and two more follow at
/// `REFUSED_INTERVAL_MS`, which together must stay below one second (H2).
const PROBE_INTERVAL_MS: u64 = 250;
/// Of `PROBE_INTERVAL_MS`, so that doors and servers do not fall into step.
const JITTER_MS: u64 = PROBE_INTERVAL_MS / 10;
/// Long enough for a burst of ICMP about one batch of traffic to be over.
const REFUSED_INTERVAL_MS: u64 = 100;

/// The wait for the first probe that the dead server does not answer, and then `down_after`, must
/// fit into the limit, with a round trip to spare at either end.
const DOWN_AFTER_MS: u64 = SILENT_DEATH_MS - PROBE_INTERVAL_MS - JITTER_MS - 2 * ROUND_TRIP_MS - 50;
/// A stall that swallows probes shows as itself, plus the wait for the first probe after it (a
/// quarter of the interval, as probes come faster in silence), plus its round trip, plus what the
/// schedulers of two busy machines add.
const DEGRADED_AFTER_MS: u64 = STALL_MS + PROBE_INTERVAL_MS / 4 + ROUND_TRIP_MS + 88;

impl Default for Settings {
    fn default() -> Self {
        Self {
            probe_interval: Duration::from_millis(PROBE_INTERVAL_MS),
            degraded_after: Duration::from_millis(DEGRADED_AFTER_MS),
            down_after: Duration::from_millis(DOWN_AFTER_MS),
            // One may be an old packet, two a restart in progress.
            refusals: 3,
            refused_interval: Duration::from_millis(REFUSED_INTERVAL_MS),
            rise: 3,
            // The host itself said that the process is gone: there is nothing to wait for.
            hold_refused: Duration::ZERO,
            // Live migration and snapshots of virtual machines pause them for a few seconds.
            hold_silence: Duration::from_secs(5),
            // Several times what a UCServer takes from its first answer to having its lines.
            probation: Duration::from_secs(30),
            ramp: Duration::from_secs(60),
            planes: Planes::ALL,
            // A service that restarts alone is back by then, and whatever a plane shares has shown on
            // the other servers: errors, which take longest to prove, need five seconds.
            plane_dwell: Duration::from_secs(10),
            panic_threshold_percent: 50,
            // Servers lost by one cause differ by a probe interval and what lost probes add.
            panic_window: Duration::from_secs(10),
            // Well above what a scheduler does to a healthy process, well below `degraded_after`.
            late_tick: Duration::from_millis(300),
            document_interval: Duration::from_secs(2),
            // Two answers make a restart, the second is asked for at once: seconds, not minutes,
            // for one REGISTER every five seconds.
            sample_interval: Duration::from_secs(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_follow_from_their_assumptions() {
        let settings = Settings::default();
        assert_eq!(settings.degraded_after, Duration::from_millis(1_250));
        assert_eq!(settings.down_after, Duration::from_millis(2_475));
    }
}
