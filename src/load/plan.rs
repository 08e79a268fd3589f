//! What a run of the load generator is told.

use std::net::SocketAddr;
use std::time::Duration;

use crate::sip::Transport;

/// Most users of one run: their numbers have seven digits.
pub const USERS_MAX: u32 = 9_999_999;

/// Most transactions under way at once.
pub const WINDOW_MAX: u32 = 1 << 18;

/// Everything a run is told. [`Plan::new`] has the usual values.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The server under test; only on the loopback.
    pub target: SocketAddr,
    /// UDP: one socket for all. TCP: a connection for each user.
    pub transport: Transport,
    /// Users, each an AoR with one contact, a Call-ID and a rising CSeq.
    pub users: u32,
    /// Whether every user registers once before anything is measured.
    pub fill: bool,
    /// Transactions under way while filling.
    pub fill_window: u32,
    /// Rests for so long once connected and once filled, before memory is looked at.
    pub settle: Duration,
    /// How transactions begin.
    pub pace: Pace,
    /// Not measured, at the same pace.
    pub warm_up: Duration,
    /// Measured.
    pub duration: Duration,
    /// Begin at most so many transactions after the fill, each user's in turn; phones that come
    /// back are not counted. `None`: as many as fit into the time.
    pub limit: Option<u64>,
    /// Whether a phone that is answered 503 with Retry-After comes back after that time.
    pub honour_retry_after: bool,
    /// The lease that is asked for, in seconds.
    pub expires: u32,
    /// The part of every AoR behind the @.
    pub domain: String,
    /// RFC 3261 T1; a transaction is given up after 64 T1, at most [`Plan::give_up`].
    pub t1: Duration,
    /// RFC 3261 timer F, if shorter than 64 T1.
    pub give_up: Duration,
    /// Whose CPU time and memory is sampled, children included.
    pub server_pids: Vec<u32>,
}

/// How transactions begin.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Closed loop: so many are under way at any time; the next begins when one ends.
    Window(u32),
    /// Open loop: so many begin each second, whatever becomes of them.
    PerSecond(f64),
}

/// Why a run did not take place.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// This is for measurements on one machine.
    #[error("{0} is not on the loopback: the load generator sends nowhere else")]
    NotLoopback(SocketAddr),
    /// Nothing to do, or more than fits.
    #[error("{what}: 1 to {max}")]
    OutOfRange {
        /// Which.
        what: &'static str,
        /// At most.
        max: u64,
    },
    /// The server took too few connections.
    #[error("{failed} of {wanted} connections could not be made: {why}")]
    Connections {
        /// How many failed.
        failed: u32,
        /// Of how many.
        wanted: u32,
        /// The first one's fault.
        why: std::io::Error,
    },
    /// Filling did not come to an end.
    #[error("{missing} of {users} users could not be registered; answers: {answers}")]
    NotFilled {
        /// Still missing.
        missing: u32,
        /// Of how many.
        users: u32,
        /// What was answered instead.
        answers: String,
    },
    /// The system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What it said.
        source: std::io::Error,
    },
}

impl Plan {
    /// 10 000 users over UDP, registered, then two seconds with 32 under way.
    pub fn new(target: SocketAddr) -> Self {
        Self {
            target,
            transport: Transport::Udp,
            users: 10_000,
            fill: true,
            fill_window: 32,
            settle: Duration::ZERO,
            pace: Pace::Window(32),
            warm_up: Duration::from_millis(500),
            duration: Duration::from_secs(2),
            limit: None,
            honour_retry_after: false,
            expires: 3600,
            domain: "example.com".to_owned(),
            t1: Duration::from_millis(500),
            give_up: Duration::from_secs(32),
            server_pids: Vec::new(),
        }
    }

    /// Whether it can be carried out.
    pub(super) fn check(&self) -> Result<(), LoadError> {
        let within = |what, value: u64, max: u64| {
            let fits = (1..=max).contains(&value);
            fits.then_some(()).ok_or(LoadError::OutOfRange { what, max })
        };
        if !self.target.ip().is_loopback() {
            return Err(LoadError::NotLoopback(self.target));
        }
        within("users", self.users.into(), USERS_MAX.into())?;
        within("fill window", self.fill_window.into(), WINDOW_MAX.into())?;
        within("T1 in ms", self.t1.as_millis() as u64, 60_000)?;
        within("seconds", self.duration.as_secs_f64().ceil() as u64, 3600)?;
        match self.pace {
            Pace::Window(window) => within("window", window.into(), WINDOW_MAX.into()),
            Pace::PerSecond(rate) => within("rate", rate.ceil() as u64, 10_000_000),
        }
    }
}
