//! What survives a restart, and how its writing is asked for: plain data, no I/O.
//!
//! The core emits a [`Record`]; the store answers with the same ticket and a [`Recorded`]. Servers
//! are named, never numbered: the order of the configuration may change between two starts.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::directory::{Aor, History};

/// One user's line in the ledger: identity, home, and where they are while away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserRecord {
    /// The login name; unique.
    pub name: Arc<str>,
    /// Addresses-of-record; each belongs to exactly one user.
    pub aors: Vec<Aor>,
    /// Lines; each belongs to exactly one user.
    pub lines: Vec<Arc<str>>,
    /// Where the user belongs; `None` until placed for the first time.
    pub home: Option<Arc<str>>,
    /// A disabled user is refused everywhere.
    pub enabled: bool,
    /// Set while current ≠ home.
    pub relocation: Option<RelocationRecord>,
    /// Raised by every change of current; a write must name the epoch it replaces.
    pub epoch: u64,
    /// Servers that may still hold bindings of this user and must be swept before they count (M8).
    /// It outlives the relocation: a user who is at home again may have left something elsewhere.
    pub left_at: Vec<Arc<str>>,
    /// The last moves.
    pub history: History,
}

/// The record that a user is served elsewhere than at home.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelocationRecord {
    /// `RelocationHomeserverOrigin`.
    pub origin: Arc<str>,
    /// `RelocationDate`.
    pub date: SystemTime,
    /// Where the user is served now.
    pub target: Arc<str>,
    /// Why.
    pub why: RelocationReason,
}

/// Why a user was relocated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RelocationReason {
    /// The current server failed.
    Failover,
    /// The current server is being drained by command.
    Drain,
    /// The backup refused; planned again.
    Replanned,
    /// Given another home by hand while served here (D7): it counts at the next login. What is
    /// added comes last: the place in this list is what the store keeps.
    Manual,
}

impl RelocationReason {
    /// The word in status and exports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failover => "failover",
            Self::Drain => "drain",
            Self::Replanned => "replanned",
            Self::Manual => "manual",
        }
    }
}

/// One contact of an AoR, as written for the next start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingRecord {
    /// Names the binding in Path tokens, so it must come back unchanged.
    pub id: u64,
    /// Whose it is ([`UserRecord::name`]).
    pub user: Arc<str>,
    /// Which of the user's AoRs.
    pub aor: Aor,
    /// The socket of ours the phone talks to, by its configured name.
    pub listener: Arc<str>,
    /// The phone's address.
    pub remote: SocketAddr,
    /// A stream flow dies with the process; a datagram flow does not.
    pub stream: bool,
    /// What the phone said, opaque to the store.
    pub body: Vec<u8>,
    /// What the door promised the phone.
    pub lease: Duration,
    /// When that promise, as last written, ends. Pure refreshes are not written.
    pub lease_ends: SystemTime,
    /// How long the server promised.
    pub expiry: Duration,
    /// Removed by the phone, kept only so that `left_at` can be swept.
    pub gone: bool,
    /// Servers that may still hold this binding and should not.
    pub left_at: Vec<Arc<str>>,
}

/// One write. All changes of one [`Record`] happen or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Writes a user. `replaces` is the epoch the writer saw, `None` that there was no such user;
    /// anything else in the store is a conflict.
    User {
        /// The new record.
        record: UserRecord,
        /// Compare-and-set.
        replaces: Option<u64>,
    },
    /// Writes a binding; the last one wins.
    Binding(BindingRecord),
    /// Forgets a binding.
    Forget {
        /// [`BindingRecord::id`].
        binding: u64,
    },
}

/// A request to write, answered by [`Recorded`] with the same ticket.
#[derive(Clone, Debug)]
pub struct Record {
    /// Names this request.
    pub ticket: u64,
    /// What to write, as one.
    pub changes: Vec<Change>,
}

/// How a [`Record`] ended (L2).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// Durable.
    Done,
    /// Somebody else wrote this user first; nothing was written. Theirs, to be adopted.
    Conflict(Vec<UserRecord>),
    /// Nothing was written: the disk is full or failing.
    Failed(Failed),
}

/// Why a store could not write.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failed {
    /// No space left.
    #[error("the disk that holds the store is full: free space there")]
    DiskFull,
    /// Too many writes wait already; this one was shed.
    #[error("the store is too slow for what it is asked: {0} writes were waiting")]
    Overloaded(usize),
    /// Anything else the disk said.
    #[error("the store cannot write: {0}")]
    Io(Arc<str>),
}

/// Everything a store held at start.
#[derive(Clone, Debug, Default)]
pub struct Loaded {
    /// All users.
    pub users: Vec<UserRecord>,
    /// All bindings.
    pub bindings: Vec<BindingRecord>,
}
