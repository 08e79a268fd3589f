//! The store: what survives a restart (L1, L2).
//!
//! A [`Store`] takes batches of [`Record`]s and answers each with a [`Recorded`]; one batch is one
//! durable commit. [`Embedded`] keeps them in a file, [`Memory`] forgets them at the end. Nobody on
//! the packet path waits for a disk: the [`Writer`] owns the store on a thread of its own and
//! commits whatever waits as one group.
//!
//! | situation | answer |
//! |---|---|
//! | committed and flushed | [`Recorded::Done`] |
//! | a user is not at the epoch the writer saw | [`Recorded::Conflict`], nothing of this record written |
//! | disk full | relocations and removals go on out of the reserve, the rest [`Failed::DiskFull`] |
//! | the queue is full | [`Failed::Overloaded`] |
//! | anything else the disk says | [`Failed::Io`], the file is reopened for the next batch |

mod ballast;
mod codec;
mod disk;
mod embedded;
mod memory;
mod waiting;
mod writer;

#[cfg(test)]
mod contract;
#[cfg(test)]
mod durability;
#[cfg(test)]
mod fake;

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;

use crate::directory::record::Change;
#[cfg(doc)]
use crate::directory::record::Failed;
use crate::directory::record::Loaded;
use crate::directory::record::Record;
use crate::directory::record::Recorded;
use crate::directory::record::UserRecord;

pub use disk::{Disk, FileDisk};
pub use embedded::{Embedded, Settings};
pub use memory::Memory;
pub use writer::{Answer, Limits, Writer, WriterHandle};

/// What keeps the ledger and the bindings over a restart.
pub trait Store: Send {
    /// Everything the store holds: users by name, bindings by number.
    fn load(&mut self) -> Result<Loaded, OpenError>;

    /// Makes a batch durable as one commit and answers every record, in the order of the batch.
    ///
    /// Records are seen in batch order: a later one of the same batch conflicts with what an
    /// earlier one wrote. A record that conflicts or fails writes nothing of itself and does not
    /// disturb its neighbours.
    fn commit(&mut self, batch: &[Record]) -> Vec<Recorded>;
}

/// Why a store could not be opened or read at start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory for the file is not there.
    #[error(
        "the store's directory {} does not exist: create it for the user frontdoor runs as \
         (install -d -m 0700 -o USER {})", .0.display(), .0.display()
    )]
    NoDirectory(PathBuf),
    /// Another process has the file open.
    #[error(
        "the store {} is in use by another process: stop that one, or give each door a store of \
         its own", .0.display()
    )]
    InUse(PathBuf),
    /// The file is something else.
    #[error(
        "{} is not a store of frontdoor and was left as it is: name another file, or move this one \
         away and a new store is made", .0.display()
    )]
    NotAStore(PathBuf),
    /// A later version of the program wrote it.
    #[error(
        "the store {} has format {found}, this frontdoor knows up to {known}: start the newer \
         frontdoor that wrote it, or move the file away and import the users again", path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The format it, or a record in it, has.
        found: u64,
        /// The newest format this program knows.
        known: u64,
    },
    /// The file is ours, but what it holds makes no sense.
    #[error(
        "the store {} is damaged ({what}): put back a copy of it, or move it away and import the \
         users again; phones register anew by themselves", path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What makes no sense.
        what: String,
    },
    /// No space can be set aside there.
    #[error(
        "no space can be reserved in {} ({source}): put the store on a file system that can \
         (ext4, xfs, btrfs)", path.display()
    )]
    Reserve {
        /// The reserve's file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused.
    #[error(
        "the store {} cannot be opened ({source}): the user frontdoor runs as must own it and be \
         able to write there", path.display()
    )]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The compare-and-set of one record: `None` if every user is as its writer saw it, else the
/// stored users that are not (none of them if one is missing altogether).
///
/// `stored` looks a user up by name, earlier records of the batch included.
fn conflicts<E>(
    changes: &[Change],
    mut stored: impl FnMut(&str) -> Result<Option<UserRecord>, E>,
) -> Result<Option<Vec<UserRecord>>, E> {
    let mut written: HashMap<&str, u64> = HashMap::new();
    let mut theirs = Vec::new();
    let mut conflict = false;
    for change in changes {
        let Change::User { record, replaces } = change else { continue };
        let earlier = written.insert(&record.name, record.epoch);
        if earlier.is_some() && earlier == *replaces {
            continue;
        }
        let found = stored(&record.name)?;
        if earlier.is_some() || found.as_ref().map(|user| user.epoch) != *replaces {
            conflict = true;
            theirs.extend(found);
        }
    }
    Ok(conflict.then_some(theirs))
}
