//! `[clients]` → [`door::ClientSettings`]: the client plane.

use std::time::Duration;

use toml::Spanned;

use crate::config::check::{in_range, number_in};
use crate::config::problem::Complaints;
use crate::config::raw::{RawClientFailover, RawClients, RawLegacyClients};
use crate::door::{self, ClientFailover, LegacyClients};

const SHORTEST: Duration = Duration::from_millis(100);
const PATIENCE_MAX: Duration = Duration::from_secs(300);
const LONGEST: Duration = Duration::from_secs(86_400);
const MOST: usize = 10_000_000;
const PACE_MOST: u32 = 100_000;

/// Judges the section.
pub(super) fn settings(raw: &RawClients, wrong: &mut Complaints<'_>) -> door::ClientSettings {
    let defaults = door::ClientSettings::default();
    let (limits, pace) = (defaults.limits, defaults.pace);
    let patience = (SHORTEST, PATIENCE_MAX);
    let sessions = number_in("sessions", &raw.sessions, limits.sessions, (1, MOST), wrong);
    door::ClientSettings {
        patience: in_range("patience", &raw.patience, defaults.patience, patience, wrong),
        gap_patience: in_range(
            "gap_patience",
            &raw.gap_patience,
            defaults.gap_patience,
            patience,
            wrong,
        ),
        gap_max: in_range("gap_max", &raw.gap_max, defaults.gap_max, (SHORTEST, LONGEST), wrong),
        close_spread: in_range(
            "close_spread",
            &raw.close_spread,
            defaults.close_spread,
            (Duration::ZERO, PATIENCE_MAX),
            wrong,
        ),
        overlap: in_range("overlap", &raw.overlap, defaults.overlap, OVERLAP, wrong),
        leg_patience: defaults.leg_patience,
        restore_patience: defaults.restore_patience,
        start_tls: defaults.start_tls,
        stands_for: defaults.stands_for,
        failover: match raw.client_failover.as_ref().map(Spanned::get_ref) {
            Some(RawClientFailover::Redirect) => ClientFailover::Redirect,
            Some(RawClientFailover::Carry) | None => ClientFailover::Carry,
        },
        legacy: match raw.legacy_clients {
            Some(RawLegacyClients::Block) => LegacyClients::Block,
            Some(RawLegacyClients::HomeOnly) => LegacyClients::HomeOnly,
            Some(RawLegacyClients::Carry) | None => LegacyClients::Carry,
        },
        pace: door::Pace {
            window_max: number_in(
                "window_max",
                &raw.window_max,
                pace.window_max,
                (pace.window_initial, PACE_MOST),
                wrong,
            ),
            rate_max: raw
                .rate_max
                .as_ref()
                .map(|_| number_in("rate_max", &raw.rate_max, 1, (1, PACE_MOST), wrong)),
            ..pace
        },
        limits: door::ClientLimits {
            connections: sessions,
            sessions,
            sessions_per_connection: number_in(
                "sessions_per_connection",
                &raw.sessions_per_connection,
                limits.sessions_per_connection,
                (1, MOST),
                wrong,
            ),
            wishes: number_in("wishes", &raw.wishes, limits.wishes, (1, MOST), wrong),
            ..limits
        },
    }
}

/// M8: an old server is left within five seconds.
const OVERLAP: (Duration, Duration) = (Duration::ZERO, Duration::from_secs(5));
