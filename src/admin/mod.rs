//! The admin listener: what operators and their tools see of a running door.
//!
//! `src/admin/endpoints.rs` is the table of what there is, and `GET /v1/openapi.json` is written from
//! it and from the types that answer: [`crate::door::Status`], [`crate::door::UserStatus`] and the
//! others. What is not in the table is not there, and a field without a description fails a test.
//!
//! Whatever changes something is a `POST` and needs `Authorization: Bearer TOKEN`: 202 when it is
//! done or under way ([`Taken`]), 401 and 403 without the right token, 404 where there is no such user
//! or server, 409 with the reason where it cannot be done now, 503 where it could not be written. A
//! body, where there is one, is JSON of at most 64 KiB (400, 413) and arrives within 2 s (408). Every
//! refusal is a [`Fault`]. Listings come page by page ([`Page`]); a `next` that the door gave before
//! it started anew is refused (410).
//!
//! `HEAD` works where `GET` does. It runs in a thread and a runtime of its own: a slow reader here
//! never delays a REGISTER. It listens on loopback unless told otherwise, since it knows no
//! passwords; a `Host` that is a name must be `localhost` or a configured one, so that no web page
//! can reach it by DNS rebinding.

mod answer;
mod asked;
mod body;
mod cursor;
mod endpoints;
mod metrics;
mod openapi;
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

pub use answer::{Fault, Page, Taken};

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
