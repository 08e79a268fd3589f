//! [`plan`]: which user goes to which server when a server fails (P). Pure.

use crate::cluster::{ClusterView, ServerId};
use crate::directory::{Directory, UserId};

/// Where everybody of one batch goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the canonical order of users.
    pub moves: Vec<Planned>,
    /// Who does not fit anywhere, and why.
    pub unplaced: Vec<(UserId, Refusal)>,
}

/// One user's part of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Who.
    pub user: UserId,
    /// From where.
    pub from: ServerId,
    /// To where.
    pub to: ServerId,
    /// The user's epoch the plan was made for; work that carries an older one is dropped.
    pub epoch: u64,
}

/// Why a server does not take a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Its state takes no strangers.
    State,
    /// Its score is below the minimum.
    Score,
    /// Its version cannot host guests, or is not known (H7).
    Version,
    /// It has no room left.
    Full,
    /// It stands elsewhere (P4).
    Site,
    /// It is where the user is already.
    Current,
}

/// What placement may do.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Below this score a server takes no strangers.
    pub score_min: u8,
}

impl Default for Policy {
    fn default() -> Self {
        Self { score_min: 20 }
    }
}

/// Plans one batch: `users` (any order) leave the servers they are on. Deterministic.
pub fn plan(
    _users: &[UserId],
    _view: &ClusterView,
    _directory: &Directory,
    _policy: &Policy,
) -> Plan {
    todo!()
}

/// The best server for one user alone: a first home, or a relocation outside a batch.
pub fn place(
    _user: UserId,
    _view: &ClusterView,
    _directory: &Directory,
    _policy: &Policy,
) -> Result<ServerId, Refusal> {
    todo!()
}
