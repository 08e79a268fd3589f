//! The core machine: input in, output out, time as an argument.

mod settings;
mod stats;
mod status;

use std::sync::Arc;

use bytes::Bytes;

use crate::cluster::document::{Document, DocumentFault};
use crate::cluster::{Proof, ServerId, State, Suspect};
use crate::directory::record::{Loaded, Record, Recorded};
use crate::now::{Now, Uptime};
use crate::sip::{Flow, Transport};

pub use settings::{
    Auth, Limits, Listener, Pace, Settings, Side, SipSettings, UnknownUsers,
};
pub use stats::Stats;
pub use status::{
    BindingStatus, FailoverStatus, Progress, ServerStatus, Status, UserStatus,
};

/// What reaches the door.
#[derive(Debug)]
pub enum Input {
    /// A datagram, or one framed message of a stream.
    Sip {
        /// What it came by.
        flow: Flow,
        /// The message.
        message: Bytes,
    },
    /// A stream ended or was never made.
    Closed {
        /// Which.
        flow: Flow,
        /// Whether the peer's own host refused or reset it (RST), which proves that the path works.
        refused: bool,
    },
    /// A datagram could not be delivered.
    Unreachable {
        /// To whom.
        remote: std::net::SocketAddr,
        /// By what.
        transport: Transport,
        /// Whether the peer's own host said so (ICMP port unreachable), which proves that the path works.
        refused: bool,
    },
    /// What became of [`Output::Fetch`].
    Fetched {
        /// Whose document.
        server: ServerId,
        /// The document, or why there is none.
        document: Result<Document, DocumentFault>,
    },
    /// What became of [`Output::Record`].
    Recorded {
        /// [`Record::ticket`].
        ticket: u64,
        /// How it ended.
        outcome: Recorded,
    },
    /// The deadline of [`Door::next`] has come.
    Timeout,
}

/// What the door wants done.
#[derive(Debug)]
pub enum Output {
    /// Send this. For a stream flow without a connection: reuse one or connect; if that fails,
    /// [`Input::Closed`] with this very flow.
    Send {
        /// Where to.
        flow: Flow,
        /// What.
        bytes: Bytes,
    },
    /// Make this durable; answered by [`Input::Recorded`].
    Record(Record),
    /// Fetch this server's health document; answered by [`Input::Fetched`].
    Fetch(ServerId),
    /// Something a person may want to know.
    Event(Event),
}

/// What happened, for logs and reports. No numbers, names or secrets of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A server is taken for something else than before.
    ServerChanged {
        /// Which.
        server: Arc<str>,
        /// Before.
        from: State,
        /// Now.
        to: State,
        /// While failed: what proved it.
        proof: Option<Proof>,
    },
    /// A server's process is another one than before (H8).
    ServerRestarted {
        /// Which.
        server: Arc<str>,
    },
    /// The door suspects itself or something shared; `None`: no longer (H5).
    Suspicion(Option<Suspect>),
    /// A failed server's users were planned.
    FailoverPlanned {
        /// Whose users.
        server: Arc<str>,
        /// How many go, and how many have nowhere to go.
        users: u64,
        /// Users without a place.
        unplaced: u64,
    },
    /// Nobody was moved, and why; `would_move` is who would have been.
    FailoverWithheld {
        /// Whose users stay.
        server: Arc<str>,
        /// [`crate::decision::Reason::name`].
        because: &'static str,
        /// How many would have moved.
        would_move: u64,
    },
    /// The last binding of a failover is where it should be.
    FailoverDone {
        /// Whose users.
        server: Arc<str>,
        /// Bindings that are registered elsewhere now.
        rehomed: u64,
    },
    /// The store failed; nothing was moved or acknowledged.
    StoreFailed {
        /// In words.
        why: Arc<str>,
    },
    /// The store writes again.
    StoreRecovered,
}

/// The core.
///
/// Law of use: after each [`Door::handle`], call [`Door::poll`] until `None`, then sleep until
/// [`Door::next`] or the next input.
#[derive(Debug)]
pub struct Door {}

impl Door {
    /// Starts with what the store held.
    pub fn new(_settings: Settings, _loaded: Loaded, _now: Now) -> Self {
        todo!()
    }

    /// Takes in one thing.
    pub fn handle(&mut self, _now: Now, _input: Input) {
        todo!()
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        todo!()
    }

    /// When [`Input::Timeout`] is due.
    pub fn next(&self) -> Option<Uptime> {
        todo!()
    }

    /// What the door shows of itself.
    pub fn status(&self, _now: Now) -> Status {
        todo!()
    }

    /// Users in canonical order, `count` of them from the `from`-th.
    pub fn users(&self, _now: Now, _from: usize, _count: usize) -> Vec<UserStatus> {
        todo!()
    }

    /// One user, by login name or AoR.
    pub fn user(&self, _now: Now, _name: &str) -> Option<UserStatus> {
        todo!()
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        todo!()
    }
}
