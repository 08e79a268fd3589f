//! Facts about the users: who they are, where they belong, where they are now.
//!
//! The directory is the ledger as it stands in memory: it changes only after the store has
//! answered [`record::Recorded::Done`].

mod aor;
mod history;
pub mod import;
mod index;
pub mod record;
mod user;
mod users;

pub use aor::Aor;
pub use history::{History, MoveReason, Moved};
pub use user::{Dropped, Relocation, UnknownServer, User};
pub use users::{Directory, DuplicateOwner, UserId};
