//! [`Embedded`]: the store in one file, redb inside.
//!
//! Every commit is flushed in two phases, so a crash at any instant leaves the last commit or the
//! one before it, and the next open is quick. redb latches after an error and says itself that the
//! commit may or may not have happened; so each commit carries a number, and after an error the
//! file is reopened and the number read back: what is there was done. Only if the reopening fails
//! as well, a record answered [`Failed`] may turn up later; its user's epoch then tells the writer
//! so, as a [`Recorded::Conflict`].
//!
//! # When the disk is full
//!
//! The store is *short* while the reserve is smaller than its users need. Short, it writes
//! relocations first, then removals, in small commits that reuse each other's pages, and answers
//! everything that grows (bindings, new users) with [`Failed::DiskFull`]. It tries to make the
//! reserve whole before every commit. What counts is the room on the file system: the file does not
//! shrink when bindings go, so that alone does not end the shortage.

mod database;

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::directory::record::Change;
use crate::directory::record::Failed;
use crate::directory::record::Loaded;
use crate::directory::record::Record;
use crate::directory::record::Recorded;
use crate::store::ballast::reserve_bytes;
use crate::store::embedded::database::Tables;
use crate::store::{Disk, FileDisk, OpenError, Store};

/// How many records a commit takes while the store is short: few pages are in flight at a time.
const SHORT_COMMIT_RECORDS: usize = 256;

/// What an embedded store is told at start.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Space is reserved for the relocation of at least so many users, whatever the store holds.
    pub reserve_users_min: u64,
    /// Memory for pages, in bytes.
    pub cache_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { reserve_users_min: 10_000, cache_bytes: 32 * 1024 * 1024 }
    }
}

/// A store in one file, for one door.
#[derive(Debug)]
pub struct Embedded<D: Disk = FileDisk> {
    disk: D,
    settings: Settings,
    /// `None` after an error, until it could be reopened.
    open: Option<Tables>,
    /// Fewer bytes are held back than a relocation of every user takes.
    short: bool,
}

impl<D: Disk> Embedded<D> {
    /// Opens the store, or makes an empty one. A disk without room for the reserve is no error:
    /// the store is short then ([`Embedded::is_short`]).
    pub fn open(disk: D, settings: Settings) -> Result<Self, OpenError> {
        let mut store = Self { disk, settings, open: None, short: true };
        store.reopen()?;
        store.restock()?;
        Ok(store)
    }

    /// Whether the disk is too full for the reserve, so that nothing is taken that grows.
    pub const fn is_short(&self) -> bool {
        self.short
    }

    /// Makes the reserve as large as the users need, if there is room.
    fn restock(&mut self) -> Result<(), OpenError> {
        let Some(open) = &self.open else { return Ok(()) };
        let wanted_bytes = reserve_bytes(open.users.max(self.settings.reserve_users_min));
        self.short = self.disk.held_bytes() < wanted_bytes;
        if self.disk.held_bytes() != wanted_bytes {
            self.short = !self.disk.hold(wanted_bytes)?;
        }
        Ok(())
    }

    fn reopen(&mut self) -> Result<&mut Tables, OpenError> {
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let backend = self.disk.open()?;
                let cache_bytes = self.settings.cache_bytes;
                guarded(&self.disk, || Tables::open(&self.disk, backend, cache_bytes))?
            }
        };
        Ok(self.open.insert(open))
    }

    /// One commit of these records, all or none of it; what an error leaves behind is cleared up.
    fn write(&mut self, batch: &[&Record]) -> Result<Vec<Recorded>, Failed> {
        let open = self.reopen().map_err(|error| database::failed_open(&error))?;
        let torn = match open.write(batch) {
            Ok(recorded) => return Ok(recorded),
            Err(torn) => torn,
        };
        self.open = None;
        if torn.failure == Failed::DiskFull {
            self.short = true;
            self.disk.release();
        }
        match self.reopen() {
            Ok(open) => torn.read_back(open.commits),
            Err(_) => Err(torn.failure),
        }
    }

    /// What can still be written when space is short.
    fn write_short(&mut self, batch: &[Record]) -> Vec<Recorded> {
        let mut results = vec![Recorded::Failed(Failed::DiskFull); batch.len()];
        for class in [Class::Relocation, Class::Removal] {
            let (places, records): (Vec<usize>, Vec<&Record>) = batch
                .iter()
                .enumerate()
                .filter(|(_, record)| Class::of(&record.changes) == class)
                .unzip();
            let places = places.chunks(SHORT_COMMIT_RECORDS);
            for (places, records) in places.zip(records.chunks(SHORT_COMMIT_RECORDS)) {
                let recorded = self.write_out_of_the_reserve(records);
                for (&place, recorded) in places.iter().zip(recorded) {
                    if let Some(result) = results.get_mut(place) {
                        *result = recorded;
                    }
                }
            }
        }
        results
    }

    fn write_out_of_the_reserve(&mut self, records: &[&Record]) -> Vec<Recorded> {
        let reserve_left = self.disk.held_bytes() > 0;
        let written = match self.write(records) {
            Err(Failed::DiskFull) if reserve_left => self.write(records),
            other => other,
        };
        written.unwrap_or_else(|failure| vec![Recorded::Failed(failure); records.len()])
    }
}

impl<D: Disk> Store for Embedded<D> {
    fn load(&mut self) -> Result<Loaded, OpenError> {
        self.reopen()?;
        let Some(open) = &self.open else { return Ok(Loaded::default()) };
        guarded(&self.disk, || open.load(&self.disk))
    }

    fn commit(&mut self, batch: &[Record]) -> Vec<Recorded> {
        if self.restock().is_err() {
            self.short = true;
        }
        if batch.is_empty() {
            return Vec::new();
        }
        if !self.short {
            let all: Vec<&Record> = batch.iter().collect();
            match self.write(&all) {
                Ok(recorded) => return recorded,
                Err(Failed::DiskFull) => {}
                Err(other) => return vec![Recorded::Failed(other); batch.len()],
            }
        }
        self.write_short(batch)
    }
}

/// What a record means for a disk that is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Known users go elsewhere.
    Relocation,
    /// Bindings go.
    Removal,
    /// Something is added.
    Growth,
}

impl Class {
    fn of(changes: &[Change]) -> Self {
        let mut class = Self::Removal;
        for change in changes {
            match change {
                Change::User { replaces: None, .. } => return Self::Growth,
                Change::User { .. } => class = Self::Relocation,
                Change::Binding(binding) if !binding.gone && class == Self::Removal => {
                    class = Self::Growth;
                }
                Change::Binding(_) | Change::Forget { .. } => {}
            }
        }
        class
    }
}

/// redb trusts a file that was closed properly and may panic over pages that were altered since.
fn guarded<T>(
    disk: &impl Disk,
    read: impl FnOnce() -> Result<T, OpenError>,
) -> Result<T, OpenError> {
    catch_unwind(AssertUnwindSafe(read))
        .unwrap_or_else(|_| Err(database::damaged(disk, "its pages contradict each other")))
}

#[cfg(test)]
mod tests;
