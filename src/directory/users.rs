//! The users in memory, by number, by AoR, and by the server that serves them now.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use crate::cluster::ServerId;
use crate::directory::Aor;
use crate::directory::record::RelocationReason;

/// A user, by place in the [`Directory`] of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(pub u32);

impl UserId {
    /// The place in a table of users.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// One person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The login name; the canonical order of users is the order of their names.
    pub name: Arc<str>,
    /// Addresses-of-record.
    pub aors: Vec<Aor>,
    /// Lines.
    pub lines: Vec<Arc<str>>,
    /// Where the user belongs.
    pub home: Option<ServerId>,
    /// A disabled user is refused everywhere.
    pub enabled: bool,
    /// Set while current ≠ home.
    pub relocation: Option<Relocation>,
    /// Raised by every change of current.
    pub epoch: u64,
}

impl User {
    /// Where the user is served now: the relocation's target, else home.
    pub fn current(&self) -> Option<ServerId> {
        self.relocation.as_ref().map(|relocation| relocation.target).or(self.home)
    }
}

/// A user is served elsewhere than at home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// `RelocationHomeserverOrigin`.
    pub origin: ServerId,
    /// `RelocationDate`.
    pub date: SystemTime,
    /// Where the user is served now.
    pub target: ServerId,
    /// Why.
    pub why: RelocationReason,
    /// Servers that may still hold bindings of this user (M8).
    pub left_at: Vec<ServerId>,
}

/// An AoR or line was offered to a second user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} belongs to user {owner:?} already; an address or line belongs to exactly one user")]
pub struct DuplicateOwner {
    /// The AoR, line or name in question.
    pub what: String,
    /// Who has it.
    pub owner: Arc<str>,
}

/// All users. Changes only after they are durable.
#[derive(Debug, Default)]
pub struct Directory {
    users: Vec<User>,
    by_name: HashMap<Arc<str>, UserId>,
    by_aor: HashMap<Aor, UserId, foldhash::fast::RandomState>,
    by_line: HashMap<Arc<str>, UserId>,
    /// Users whose current server this is, by [`ServerId`].
    assigned: Vec<u32>,
}
