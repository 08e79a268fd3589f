//! The admin listener: what operators and their tools see of a running door.
//!
//! | endpoint | answer |
//! |---|---|
//! | `GET /healthz` | 200 while the door's driver runs; 503 if it has shown nothing for 5 s |
//! | `GET /readyz` | 200 once every server's state is known, or 10 s have passed; stays 200 |
//! | `GET /metrics` | counters and gauges, Prometheus text format 0.0.4 |
//! | `GET /v1/status` | [`crate::door::Status`] as JSON |
//! | `GET /v1/users?from=&count=` | up to 1000 [`crate::door::UserStatus`] as JSON |
//! | `GET /v1/users/NAME` | one user, by login name or AoR |
//! | `GET /v1/explain/NAME` | [`crate::door::Explanation`]: what a login of this user gets, and why |
//! | `GET /v1/what-if?kill=NAME&kill=…&from=&count=` | [`crate::door::WhatIf`]: what would happen |
//! | `GET /v1/rebalance?from=&count=` | [`crate::door::RebalancePlan`]: who would get another home |
//! | `GET /v1/relocations?from=&count=` | up to 1000 [`crate::door::RelocationStatus`]: who is away |
//! | `GET /v1/recovery` | [`crate::door::RecoveryStatus`]: the way home |
//! | `GET /v1/reports` | the newest 100 [`crate::door::Report`], oldest of them first |
//! | `GET /v1/reports/ID` | one of them |
//! | `POST /v1/recovery/pause`, `…/resume` | stops all returns, lets them go on |
//! | `POST /v1/servers/NAME/return`, `/v1/users/NAME/return` | brings home by hand |
//! | `POST /v1/users/NAME/home` `{"home": "ucs2"}` | another home by hand (D7) |
//! | `POST /v1/servers/NAME/drain` `{"on": true}` | its users leave; or no longer (H3) |
//! | `POST /v1/servers/NAME/maintenance` `{"on": true, "stay": false}` | they leave, unless they are to stay, and its health counts for nothing; or no longer (H3) |
//! | `POST /v1/rebalance/start`, `…/stop` | homes are spread anew, or no further |
//! | `POST /v1/servers/NAME/drill` | a failover on purpose (O5) |
//! | `POST /v1/suspicion/end` | it is not our network (H5) |
//!
//! Whatever changes something is a `POST` and needs `Authorization: Bearer TOKEN`: 202 when it is
//! done or under way, 401 and 403 without the right token, 404 where there is no such user or server,
//! 409 with the reason where it cannot be done now, 503 where it could not be written. A body, where
//! there is one, is JSON of at most 64 KiB (400, 413) and arrives within 2 s (408).
//!
//! `HEAD` works where `GET` does. It runs in a thread and a runtime of its own: a slow reader here
//! never delays a REGISTER. It listens on loopback unless told otherwise, since it knows no
//! passwords; a `Host` that is a name must be `localhost` or a configured one, so that no web page
//! can reach it by DNS rebinding.

mod body;
mod metrics;
mod process;
mod readiness;
mod route;
mod server;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use tokio::sync::oneshot;

use crate::net::BindError;
use crate::net::Handle;
use crate::private::Private;
use crate::reports::Shelf;

/// What the admin listener is told at start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens.
    pub address: SocketAddr,
    /// Names it may be called by, beside `localhost` and IP addresses.
    pub names: Vec<String>,
    /// What whoever changes something must show; `None`: nobody can.
    pub token: Option<Private<[u8; 32]>>,
}

impl Default for Settings {
    fn default() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9060));
        Self { address, names: Vec::new(), token: None }
    }
}

/// The running admin listener; it ends with [`Admin::stop`] or when this is dropped.
#[derive(Debug)]
pub struct Admin {
    local: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Opens the listener and starts its thread.
///
/// # Errors
/// Says where it cannot listen and what to do.
pub fn start(settings: Settings, door: Handle, shelf: Shelf) -> Result<Admin, BindError> {
    let address = settings.address;
    let failed =
        |source| BindError { listener: Arc::from("admin"), transport: "http", address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    listener.set_nonblocking(true).map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let (stop, stopped) = oneshot::channel();
    let thread = thread::Builder::new()
        .name("admin".to_owned())
        .spawn(move || {
            let allowed = (settings.names, settings.token);
            runtime.block_on(server::serve(listener, allowed, (door, shelf), stopped));
        })
        .map_err(failed)?;
    Ok(Admin { local, stop: Some(stop), thread: Some(thread) })
}

impl Admin {
    /// The bound address; its port is known even if any was asked for.
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Stops listening and waits for the thread to end.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for Admin {
    fn drop(&mut self) {
        // Dropping the sender ends the thread's loop, too.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported where it happened.
            let _ = thread.join();
        }
    }
}
