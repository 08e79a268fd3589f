//! [`Mood`]: the ways a server can be unwell.

use std::time::Duration;

use crate::now::Uptime;

/// How a simulated server behaves, from the moment it is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mood {
    /// As it should.
    #[default]
    Healthy,
    /// Every answer comes late. Retransmissions meanwhile are absorbed.
    Slow {
        /// How late.
        delay: Duration,
    },
    /// Everything gets 503 with Retry-After; of clients, negotiations and logins are told that the
    /// server is busy, and all else gets an error.
    Refusing,
    /// Everything gets 500; a client's gets an error, that of an internal fault where one is defined.
    Errors,
    /// Takes everything, answers nothing, sends nothing: a stopped process whose kernel still
    /// accepts.
    Hung,
    /// The process is gone. The machine drops everything; the sockets' owner makes the kernel
    /// refuse.
    Dead,
    /// Healthy for `up`, then as hung for `down`, and again.
    Flapping {
        /// How long it is well.
        up: Duration,
        /// How long it is silent.
        down: Duration,
    },
    /// Restarts at once: all bindings, transactions and nonces are forgotten and the boot id is
    /// another one, while everything looks green. Clients' connections are closed, and what was on
    /// them is forgotten with tokens and calls. From then on as [`Mood::Healthy`].
    Amnesia,
    /// Healthy, but its own login logic insists: users who belong elsewhere
    /// ([`Settings::homes`](crate::ucserver::Settings::homes)) are sent there with 302, and clients
    /// ([`ClientSettings::homes`](crate::ucserver::ClientSettings::homes)) with `serverRedirect`.
    StrictHome,
}

/// What a mood comes to at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ucserver) enum Behaviour {
    /// Serve, and answer after this long.
    Serve(Duration),
    /// Answer with this status.
    Answer(u16),
    /// Neither take nor say anything; `until` is when that ends by itself.
    Silent { until: Option<Uptime> },
}

impl Mood {
    /// The mood called `name`, as a command line gives it: `slow` and `flapping` may be followed
    /// by their figures in milliseconds, as in `slow:500` and `flapping:5000:5000` (up, down),
    /// which are also the figures they have without.
    pub fn from_name(name: &str) -> Option<Self> {
        let mut parts = name.split(':');
        let mood = match parts.next()? {
            "healthy" => Self::Healthy,
            "slow" => Self::Slow { delay: millis(parts.next(), 500)? },
            "refusing" => Self::Refusing,
            "errors" => Self::Errors,
            "hung" => Self::Hung,
            "dead" => Self::Dead,
            "flapping" => Self::Flapping {
                up: millis(parts.next(), 5_000)?,
                down: millis(parts.next(), 5_000)?,
            },
            "amnesia" => Self::Amnesia,
            "strict_home" => Self::StrictHome,
            _ => return None,
        };
        parts.next().is_none().then_some(mood)
    }

    /// The name [`Mood::from_name`] knows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Slow { .. } => "slow",
            Self::Refusing => "refusing",
            Self::Errors => "errors",
            Self::Hung => "hung",
            Self::Dead => "dead",
            Self::Flapping { .. } => "flapping",
            Self::Amnesia => "amnesia",
            Self::StrictHome => "strict_home",
        }
    }

    /// What it comes to at `now`, if it was set at `since`.
    pub(in crate::ucserver) fn behaviour(self, since: Uptime, now: Uptime) -> Behaviour {
        match self {
            Self::Healthy | Self::Amnesia | Self::StrictHome => Behaviour::Serve(Duration::ZERO),
            Self::Slow { delay } => Behaviour::Serve(delay),
            Self::Refusing => Behaviour::Answer(503),
            Self::Errors => Behaviour::Answer(500),
            Self::Hung | Self::Dead => Behaviour::Silent { until: None },
            Self::Flapping { up, down } => {
                let period = (up + down).as_nanos().max(1);
                let into = now.since(since).as_nanos() % period;
                if into < up.as_nanos() {
                    return Behaviour::Serve(Duration::ZERO);
                }
                let left = u64::try_from(period - into).unwrap_or(u64::MAX);
                Behaviour::Silent { until: Some(now + Duration::from_nanos(left)) }
            }
        }
    }
}

/// A figure that may be missing; `None` if it is none.
fn millis(figure: Option<&str>, otherwise: u64) -> Option<Duration> {
    figure.map_or(Some(otherwise), |text| text.parse().ok()).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mood_is_known_by_its_name() {
        for name in [
            "healthy",
            "slow",
            "refusing",
            "errors",
            "hung",
            "dead",
            "flapping",
            "amnesia",
            "strict_home",
        ] {
            assert_eq!(Mood::from_name(name).map(Mood::name), Some(name));
        }
        assert_eq!(
            Mood::from_name("flapping:3000:20"),
            Some(Mood::Flapping { up: Duration::from_secs(3), down: Duration::from_millis(20) })
        );
        for wrong in ["cheerful", "slow:soon", "hung:1", "slow:1:2", ""] {
            assert_eq!(Mood::from_name(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn a_flapping_server_is_up_and_down_in_turns() {
        let mood = Mood::Flapping { up: Duration::from_secs(3), down: Duration::from_secs(2) };
        let at = |secs| mood.behaviour(Uptime::from_secs(10), Uptime::from_secs(secs));
        assert_eq!(at(10), Behaviour::Serve(Duration::ZERO));
        assert_eq!(at(12), Behaviour::Serve(Duration::ZERO));
        assert_eq!(at(13), Behaviour::Silent { until: Some(Uptime::from_secs(15)) });
        assert_eq!(at(14), Behaviour::Silent { until: Some(Uptime::from_secs(15)) });
        assert_eq!(at(15), Behaviour::Serve(Duration::ZERO));
    }

    #[test]
    fn a_flap_of_no_length_is_no_division_by_zero() {
        let mood = Mood::Flapping { up: Duration::ZERO, down: Duration::ZERO };
        let now = Uptime::from_secs(1);
        assert!(matches!(mood.behaviour(now, now), Behaviour::Silent { .. }));
    }
}
