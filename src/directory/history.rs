//! [`History`]: a user's last moves, for whoever asks later where somebody was and why (L3).

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::directory::record::RelocationReason;

/// Moves that are remembered of one user; the oldest goes first.
const MOVES_MAX: usize = 16;

/// A user's last moves, oldest first, at most 16. A first home is no move.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct History(Vec<Moved>);

/// One move. Servers are named, for one that has left the configuration was there all the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Moved {
    /// When it was asked for; it is here because it became durable.
    pub date: SystemTime,
    /// Where the user was served; of another home by hand: the home before.
    pub from: Arc<str>,
    /// Where the user is served since; of another home by hand: that home.
    pub to: Arc<str>,
    /// Why.
    pub why: MoveReason,
    /// The user's epoch after it.
    pub epoch: u64,
}

/// Why a user was moved. The place in this list is what the store keeps: what is added comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MoveReason {
    /// The server failed.
    Failover,
    /// The server was being drained, or went under maintenance.
    Drain,
    /// The backup refused; planned again.
    Replanned,
    /// Another home by hand; who had a phone registered was served where they were (D7).
    Manual,
    /// Home again.
    Return,
    /// Another home when homes were spread anew.
    Rebalance,
    /// Another home because a server said so (D9).
    Redirect,
}

impl MoveReason {
    /// The word in status.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failover => "failover",
            Self::Drain => "drain",
            Self::Replanned => "replanned",
            Self::Manual => "manual",
            Self::Return => "return",
            Self::Rebalance => "rebalance",
            Self::Redirect => "redirect",
        }
    }
}

impl From<RelocationReason> for MoveReason {
    fn from(why: RelocationReason) -> Self {
        match why {
            RelocationReason::Failover => Self::Failover,
            RelocationReason::Drain => Self::Drain,
            RelocationReason::Replanned => Self::Replanned,
            RelocationReason::Manual => Self::Manual,
        }
    }
}

impl History {
    /// Remembers a move, and forgets the oldest one if there are too many.
    pub fn push(&mut self, moved: Moved) {
        let excess = (self.0.len() + 1).saturating_sub(MOVES_MAX);
        self.0.drain(..excess);
        self.0.push(moved);
    }

    /// The moves, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Moved> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_sixteen_moves_are_kept_and_the_oldest_goes() {
        let mut history = History::default();
        for epoch in 1..=20 {
            history.push(Moved {
                date: SystemTime::UNIX_EPOCH,
                from: "ucs1".into(),
                to: "ucs2".into(),
                why: MoveReason::Failover,
                epoch,
            });
        }
        assert!(history.iter().map(|moved| moved.epoch).eq(5..=20));
    }
}
