//! [`decide`]: every login on every plane asks here and gets one verdict, with a reason (D).

use std::time::Duration;

use crate::cluster::{ClusterView, ServerId};
use crate::directory::{Directory, UserId};
use crate::now::Uptime;

/// A way users are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Plane {
    /// Devices that register.
    Sip,
    /// CSTA XML over TCP.
    Csta,
    /// ProCall clients (UCSAP).
    Client,
}

/// Somebody wants to be served.
#[derive(Clone, Copy, Debug)]
pub struct Login {
    /// How.
    pub plane: Plane,
    /// Who.
    pub user: UserId,
    /// The server the login names (listener, SNI, `ucsid`), or none.
    pub reached: Option<ServerId>,
}

/// What the decision is allowed to do.
#[derive(Clone, Debug)]
pub struct Policy {
    /// D1: nobody is relocated. The product's default is `true`.
    pub disable_automatic_user_distribution: bool,
    /// How long a failed server's users get held answers while distribution is disabled, or while
    /// the door suspects itself (H5), before they are blocked.
    pub grace: Duration,
    /// Retry-After for a block that time may heal: the shortest.
    pub retry_after_min: Duration,
    /// And the longest; the caller spreads within.
    pub retry_after_max: Duration,
    /// How backups and first homes are chosen.
    pub placement: crate::placement::Policy,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            disable_automatic_user_distribution: true,
            grace: Duration::from_secs(300),
            retry_after_min: Duration::from_secs(10),
            retry_after_max: Duration::from_secs(60),
            placement: crate::placement::Policy::default(),
        }
    }
}

/// What the decision says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What happens to the login.
    pub outcome: Outcome,
    /// Why.
    pub because: Reason,
}

/// What happens to a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Served by this server: none named, or the named one is current.
    Accept(ServerId),
    /// Carried to this server: another one is named.
    Forward(ServerId),
    /// First record this server as the user's home, then accept.
    AssignHome(ServerId),
    /// First record a relocation to this server, then forward.
    Relocate(ServerId),
    /// Answer from the door's own knowledge; nobody is moved (yet).
    Hold,
    /// Refuse. `retry` says whether coming back may help.
    Block {
        /// Whether to name a time (503 + Retry-After) or not (403).
        retry: bool,
    },
}

/// Why a verdict is what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// Current is healthy and is what the login reached.
    CurrentServes,
    /// Current is healthy; the login named another server.
    ReachedAnother,
    /// A user without a home got the best server.
    FirstHome,
    /// Current failed; placement named a backup.
    CurrentFailed,
    /// Current failed a moment ago; `failover.hold` has not passed.
    WithinHold,
    /// Current failed, distribution is disabled, the grace time runs.
    DistributionDisabledGrace,
    /// Current failed, distribution is disabled, the grace time is over.
    DistributionDisabled,
    /// The door suspects its own network or a shared backend (H5).
    Suspicion,
    /// The same, for longer than the grace time.
    SuspicionTooLong,
    /// No server has room.
    NoRoom,
    /// The user is disabled.
    UserDisabled,
}

impl Reason {
    /// The word in status, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CurrentServes => "current_serves",
            Self::ReachedAnother => "reached_another",
            Self::FirstHome => "first_home",
            Self::CurrentFailed => "current_failed",
            Self::WithinHold => "within_hold",
            Self::DistributionDisabledGrace => "distribution_disabled_grace",
            Self::DistributionDisabled => "distribution_disabled",
            Self::Suspicion => "suspicion",
            Self::SuspicionTooLong => "suspicion_too_long",
            Self::NoRoom => "no_room",
            Self::UserDisabled => "user_disabled",
        }
    }
}

/// Decides one login. Pure: the same arguments give the same verdict.
pub fn decide(
    _login: &Login,
    _view: &ClusterView,
    _directory: &Directory,
    _policy: &Policy,
    _now: Uptime,
) -> Verdict {
    todo!()
}
