//! The score of a server: one formula, in one place (H6).
//!
//! ```text
//! score = base(state) × latency × room × cpu × overload        (factors in per cent)
//!
//! base       up 100, degraded 50, ramp 20 → 100 over its time, anything else 0
//!
//!  latency                 room                    cpu
//! 100 ┤─────╮             100 ┤───────╮           100 ┤──────╮
//!     │      ╲                │        ╲              │       ╲
//!  50 ┤       ╰────        10 ┤         ╰          20 ┤        ╰
//!     └─────┬──────           └───────┬─┬             └──────┬─┬
//!      2 × usual + 50 ms            70 100 % full           60 100 % busy
//! ```
//!
//! * **Base.** What takes no strangers can be asked for nothing. A degraded server comes after
//!   every healthy one of like size. A ramp starts at 20, because below that placement asks
//!   nothing by default and the ramp would begin with a pause.
//! * **Latency.** Compared with the server's own long-term average: far servers are not worse, only
//!   servers slower than they used to be. The 50 ms keep a jump from 1 to 10 ms out of it, and so
//!   the difference between what a probe and a REGISTER cost. Never below half: slowness by
//!   itself does not close a server.
//! * **Room.** Users logged in by capacity. Free until 70 %, then closing, so that a full server
//!   falls below what placement asks (D2).
//! * **CPU.** Free until 60 %: on a machine shared by signalling and media, queues grow beyond that.
//! * **Overload.** While the time of a 503 runs: 30, which closes a degraded server (50 × 30 % = 15).
//!
//! What comes out below 5 is 0, and what is published changes only by steps of at least
//! [`STEP`]: logins must not swing between two servers for the sake of noise.

use std::time::Duration;

use crate::cluster::State;

/// The smallest change that is published.
pub(super) const STEP: u8 = 5;

/// Where a ramp begins.
const RAMP_START: u32 = 20;
/// What may come on top of twice the usual latency.
const LATENCY_SLACK: Duration = Duration::from_millis(50);

/// What the formula sees.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parts {
    /// What the door takes the server for.
    pub(super) state: State,
    /// How much of the ramp is behind it, in per cent.
    pub(super) ramp_percent: u8,
    /// Latency now, and over the long term.
    pub(super) latency: Option<(Duration, Duration)>,
    /// Users logged in and capacity, where a health document tells.
    pub(super) users: Option<(u32, u32)>,
    /// Where a health document tells.
    pub(super) cpu_percent: Option<u8>,
    /// Whether the time of a 503 runs.
    pub(super) overloaded: bool,
}

/// How much the server can be asked to do: 0 to 100, never 1 to 4.
pub(super) fn score(parts: &Parts) -> u8 {
    let factors = [
        latency(parts.latency),
        room(parts.users),
        parts.cpu_percent.map_or(100, |busy| falling(u64::from(busy), 60, 20)),
        if parts.overloaded { 30 } else { 100 },
    ];
    let mut score = base(parts) * 100;
    for factor in factors {
        score = score * factor / 100;
    }
    let score = u8::try_from(score / 100).unwrap_or(100).min(100);
    if score < STEP { 0 } else { score }
}

/// What is published after `published`, now that the formula says `fresh`.
pub(super) const fn step(published: u8, fresh: u8) -> u8 {
    if published.abs_diff(fresh) >= STEP { fresh } else { published }
}

fn base(parts: &Parts) -> u32 {
    match parts.state {
        State::Up => 100,
        State::Degraded => 50,
        State::Ramp => {
            RAMP_START + (100 - RAMP_START) * u32::from(parts.ramp_percent.min(100)) / 100
        }
        State::Unknown
        | State::Partial
        | State::Down
        | State::Probation
        | State::Drain
        | State::Maintenance => 0,
    }
}

fn latency(measured: Option<(Duration, Duration)>) -> u32 {
    let Some((now, usual)) = measured else { return 100 };
    let allowed = usual.saturating_mul(2).saturating_add(LATENCY_SLACK);
    if now <= allowed {
        return 100;
    }
    let percent = allowed.as_micros() * 100 / now.as_micros().max(1);
    u32::try_from(percent).unwrap_or(100).clamp(50, 100)
}

fn room(users: Option<(u32, u32)>) -> u32 {
    users.map_or(100, |(logged_in, capacity)| {
        let full = u64::from(logged_in) * 100 / u64::from(capacity.max(1));
        falling(full, 70, 10)
    })
}

/// 100 until `knee` per cent, then straight down to `floor` at 100 per cent.
fn falling(percent: u64, knee: u64, floor: u64) -> u32 {
    let over = percent.min(100).saturating_sub(knee);
    let factor = 100 - (100 - floor) * over / (100 - knee);
    u32::try_from(factor).unwrap_or(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Parts = Parts {
        state: State::Up,
        ramp_percent: 0,
        latency: None,
        users: None,
        cpu_percent: None,
        overloaded: false,
    };

    #[test]
    fn an_idle_healthy_server_has_it_all() {
        assert_eq!(score(&IDLE), 100);
    }

    #[test]
    fn what_takes_no_strangers_scores_nothing() {
        for state in State::ALL {
            let some = score(&Parts { state, ..IDLE }) > 0;
            assert_eq!(some, state.takes_strangers(), "{}", state.name());
        }
    }

    #[test]
    fn each_part_only_ever_lowers() {
        let far = Some((Duration::from_millis(80), Duration::from_millis(80)));
        assert_eq!(score(&Parts { latency: far, ..IDLE }), 100, "far is not slow");
        let slow = Some((Duration::from_millis(400), Duration::from_millis(10)));
        assert_eq!(score(&Parts { latency: slow, ..IDLE }), 50);
        assert_eq!(score(&Parts { users: Some((70, 100)), ..IDLE }), 100);
        assert_eq!(score(&Parts { users: Some((85, 100)), ..IDLE }), 55);
        assert_eq!(score(&Parts { users: Some((100, 100)), ..IDLE }), 10);
        assert_eq!(score(&Parts { users: Some((900, 100)), ..IDLE }), 10);
        assert_eq!(score(&Parts { cpu_percent: Some(80), ..IDLE }), 60);
        assert_eq!(score(&Parts { overloaded: true, state: State::Degraded, ..IDLE }), 15);
    }

    #[test]
    fn a_ramp_grows_from_twenty_to_all() {
        let at = |ramp_percent| score(&Parts { state: State::Ramp, ramp_percent, ..IDLE });
        assert_eq!([at(0), at(50), at(100), at(255)], [20, 60, 100, 100]);
    }

    #[test]
    fn less_than_a_step_is_nothing() {
        let worst = Parts {
            state: State::Degraded,
            latency: Some((Duration::MAX / 4, Duration::ZERO)),
            users: Some((1, 1)),
            overloaded: true,
            ..IDLE
        };
        assert_eq!(score(&worst), 0);
        for published in 0..=100 {
            for fresh in 0..=100 {
                let after = step(published, fresh);
                assert!(after == published || after.abs_diff(published) >= STEP);
            }
        }
    }
}
