//! Whether the door is ready for phones: a latch.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::cluster::State;
use crate::net::Snapshot;
use crate::now::Uptime;

/// How long an unknown server may hold up readiness: phones are better served with a part of the
/// pool than not at all.
const PATIENCE: Duration = Duration::from_secs(10);

/// Ready once every server has left `unknown` or enough time has passed; never unready again.
#[derive(Debug)]
pub(super) struct Readiness {
    since: Uptime,
    ready: AtomicBool,
}

impl Readiness {
    /// Not ready yet; patience counts from `now`.
    pub(super) const fn new(now: Uptime) -> Self {
        Self { since: now, ready: AtomicBool::new(false) }
    }

    /// `Ok` if ready, else what is waited for. A snapshot means that the store is loaded and the
    /// sockets are bound: only then the driver starts.
    pub(super) fn check(&self, now: Uptime, snapshot: Option<&Snapshot>) -> Result<(), String> {
        if self.ready.load(Ordering::Relaxed) {
            return Ok(());
        }
        let Some(snapshot) = snapshot else { return Err("the door is starting".to_owned()) };
        let unknown = State::Unknown.name();
        let waits_for = snapshot.status.servers.iter().find(|it| &*it.state == unknown);
        match waits_for {
            Some(server) if now.since(self.since) < PATIENCE => {
                Err(format!("server {} has not answered yet", server.name))
            }
            _ => {
                self.ready.store(true, Ordering::Relaxed);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::door::{ServerStatus, Stats, Status};
    use crate::net::Counters;

    use super::*;

    fn seen(state: State) -> Snapshot {
        let server =
            ServerStatus { name: "ucs1".into(), state: state.name().into(), ..Default::default() };
        Snapshot {
            published: Uptime::ZERO,
            status: Status { servers: vec![server], ..Status::default() },
            stats: Stats::default(),
            net: Counters::default(),
            connections: 0,
            web_sessions: 0,
            writes_waiting: 0,
        }
    }

    #[test]
    fn an_unknown_server_holds_up_readiness_for_a_while() {
        let readiness = Readiness::new(Uptime::from_secs(100));
        let unknown = seen(State::Unknown);
        let why = readiness.check(Uptime::from_secs(109), Some(&unknown)).unwrap_err();
        assert!(why.contains("ucs1"), "{why}");
        assert_eq!(readiness.check(Uptime::from_secs(110), Some(&unknown)), Ok(()));
    }

    #[test]
    fn without_a_driver_the_door_is_never_ready() {
        assert!(Readiness::new(Uptime::ZERO).check(Uptime::from_secs(60), None).is_err());
    }

    #[test]
    fn ready_once_is_ready_for_good() {
        let readiness = Readiness::new(Uptime::ZERO);
        assert_eq!(readiness.check(Uptime::ZERO, Some(&seen(State::Down))), Ok(()));
        assert_eq!(readiness.check(Uptime::ZERO, Some(&seen(State::Unknown))), Ok(()));
    }
}
