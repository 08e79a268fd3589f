//! The WebService: HTTP calls and WebSockets of clients ⇄ connections of the machine.
//!
//! ```text
//! HTTP ─► connection ─► routes ─► Asked ─► sessions ─► Input ─► UcServer
//!                         │  ▲                │ ▲                  │
//!                      answer └─── replies ───┘ └──── ToClient ────┘
//! WebSocket ◄───────────► socket ◄─ ToSocket ─┘
//! ```
//!
//! | path | what is there |
//! |---|---|
//! | `/controller/client/ucws` | which WebService to use: this one |
//! | `/ws/client/createsession`, `/ws/client/destroysession` | sessions |
//! | `/ws/client/websocket` | a session's messages and events |
//! | `/ws/client/<operation>` | one call of a session |
//! | `/ws/direct/<operation>` | one call that brings its own credentials |
//! | `/ws/public/contacts` | whom everybody may see: nobody |
//! | `/`, `/procall/…` | pages, see `pages` |
//!
//! All of it is one task for each HTTP connection, which knows nothing; what is known is in
//! `sessions`, in the loop. A server that is silent takes connections and requests and answers none.

mod answer;
mod connection;
mod pages;
mod request;
mod routes;
mod sessions;
mod socket;
#[cfg(test)]
mod tests;

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::now::Uptime;
use crate::ucserver::ToClient;
use crate::ucserver::run::RunError;
use crate::ucserver::run::clients::raise_descriptor_limit;
use crate::ucserver::run::web::connection::Desk;
use crate::ucserver::run::web::sessions::{Asked, NUMBERS, Sessions};
use crate::ucserver::run::wire::{accept, listen_tcp};
use crate::ucserver::server::Input;

pub(super) use sessions::WebCounts;

/// Wishes that wait for the loop; then who has them waits.
const QUEUE: usize = 256;

/// Wishes of one round.
const BATCH: usize = 64;

/// How often the time is looked at.
const TICK: Duration = Duration::from_secs(1);

/// The entrance: its socket, its connections and its sessions.
pub(super) struct WebWire {
    address: SocketAddr,
    listener: TcpListener,
    desk: Desk,
    connections: usize,
    asked: mpsc::Receiver<Asked>,
    arrived: Vec<Asked>,
    silent: watch::Sender<bool>,
    sessions: Sessions,
    tick: Interval,
    /// It has ticked.
    is_due: bool,
    /// Dropping it ends the connections.
    tasks: JoinSet<()>,
    last_connection: u64,
}

impl WebWire {
    /// Listens; needs a running event loop. There may be so many HTTP connections.
    pub(super) fn open(
        address: SocketAddr,
        name: &str,
        connections: usize,
        seed: u64,
    ) -> Result<Self, RunError> {
        // Streams of clients may be as many.
        raise_descriptor_limit(connections.saturating_mul(2));
        let failed = |source| RunError::Bind { what: "the WebService", address, source };
        let listener = listen_tcp(address).map_err(failed)?;
        let address = listener.local_addr()?;
        let (asks, asked) = mpsc::channel(QUEUE);
        let (silent, is_silent) = watch::channel(false);
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            address,
            listener,
            desk: Desk { name: Arc::from(name), asks, is_silent },
            connections,
            asked,
            arrived: Vec::new(),
            silent,
            sessions: Sessions::new(seed),
            tick,
            is_due: false,
            tasks: JoinSet::new(),
            last_connection: 0,
        })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the machine means a session here, and no stream, by this number.
    pub(super) const fn is_of_web(what: &ToClient) -> bool {
        let (ToClient::Send { connection, .. }
        | ToClient::StartTls { connection }
        | ToClient::Close { connection }) = what;
        *connection & NUMBERS != 0
    }

    /// Waits until there is something to do; for ever if there is no socket.
    pub(super) async fn wait(wire: Option<&mut Self>) {
        let Some(wire) = wire else { return pending().await };
        tokio::select! {
            _ = wire.asked.recv_many(&mut wire.arrived, BATCH) => {}
            _ = wire.tick.tick() => wire.is_due = true,
            (stream, _) = accept(&wire.listener) => wire.adopt(stream),
            Some(_) = wire.tasks.join_next() => {}
        }
    }

    /// Does what has come, and what is due.
    pub(super) fn round(&mut self, now: Uptime, is_silent: bool) {
        self.silent.send_if_modified(|was| std::mem::replace(was, is_silent) != is_silent);
        for asked in std::mem::take(&mut self.arrived) {
            self.sessions.handle(now, asked, is_silent);
        }
        // It looks at every session.
        if std::mem::take(&mut self.is_due) {
            self.sessions.tick(now, is_silent);
        }
    }

    /// Does what the machine wants done.
    pub(super) fn act(&mut self, now: Uptime, what: ToClient) {
        self.sessions.act(now, what);
    }

    /// The next thing for the machine.
    pub(super) fn input(&mut self) -> Option<Input> {
        self.sessions.input()
    }

    /// The process is another one: nobody is connected, and nothing is known.
    pub(super) fn restart(&mut self) {
        self.tasks = JoinSet::new();
        self.sessions.forget();
        while self.asked.try_recv().is_ok() {}
        self.arrived.clear();
    }

    pub(super) fn counts(&self) -> WebCounts {
        self.sessions.counts()
    }

    /// Serves a new connection, or closes it if there are too many.
    fn adopt(&mut self, stream: TcpStream) {
        if self.tasks.len() < self.connections {
            self.last_connection += 1;
            self.tasks.spawn(connection::converse(stream, self.desk.clone(), self.last_connection));
        }
    }
}
