//! The tables in redb: opening, staging a commit, reading everything; and what its errors mean.

use std::io;

use redb::ReadableDatabase;
use redb::ReadableTable;
use redb::ReadableTableMetadata;
use redb::TableHandle;
use redb::{Builder, Database, DatabaseError, Durability, StorageError};
use redb::{Table, TableDefinition, WriteTransaction};

use crate::directory::record::Change;
use crate::directory::record::Failed;
use crate::directory::record::Loaded;
use crate::directory::record::Record;
use crate::directory::record::Recorded;
use crate::directory::record::UserRecord;
use crate::store::codec::{self, DecodeError, FORMAT, Stored};
use crate::store::{Disk, OpenError, conflicts};

/// Facts about the file itself.
pub(super) const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");
/// In [`META`]: the format of the tables.
pub(super) const META_FORMAT: &str = "format";
/// In [`META`]: how many commits there were.
const META_COMMITS: &str = "commits";
/// [`UserRecord`]s by name.
pub(super) const USERS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("users");
/// [`crate::directory::record::BindingRecord`]s by number.
const BINDINGS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("bindings");

/// The tables of an open database.
#[derive(Debug)]
pub(super) struct Tables {
    database: Database,
    /// The number of the last commit.
    pub(super) commits: u64,
    /// How many users it holds.
    pub(super) users: u64,
}

/// A commit that went wrong. The database is of no use any more and must be reopened.
#[derive(Debug)]
pub(super) struct Torn {
    pub(super) failure: Failed,
    number: u64,
    /// The answers, if it was the commit itself that went wrong: it may have happened.
    recorded: Option<Vec<Recorded>>,
}

impl Torn {
    /// How it ended, told by the last commit that is found after the reopening.
    pub(super) fn read_back(self, commits: u64) -> Result<Vec<Recorded>, Failed> {
        match self.recorded {
            Some(recorded) if commits == self.number => Ok(recorded),
            _ => Err(self.failure),
        }
    }
}

impl Tables {
    /// Opens what the backend holds, or makes the tables in an empty one.
    pub(super) fn open<D: Disk>(
        disk: &D,
        backend: D::Backend,
        cache_bytes: usize,
    ) -> Result<Self, OpenError> {
        let mut builder = Builder::new();
        builder.set_cache_size(cache_bytes);
        let database =
            builder.create_with_backend(backend).map_err(|error| open_error(disk, error))?;
        match read_meta(&database).map_err(|error| storage_error(disk, error))? {
            Meta::Empty => {
                make_tables(&database).map_err(|error| storage_error(disk, error))?;
                Ok(Self { database, commits: 0, users: 0 })
            }
            Meta::Foreign => Err(OpenError::NotAStore(disk.path().to_path_buf())),
            Meta::Ours { format, .. } if format > u64::from(FORMAT) => Err(newer(disk, format)),
            Meta::Ours { commits, users, .. } => Ok(Self { database, commits, users }),
        }
    }

    /// One durable commit of all these records.
    pub(super) fn write(&mut self, batch: &[&Record]) -> Result<Vec<Recorded>, Torn> {
        let number = self.commits.saturating_add(1);
        let torn = |error, recorded| Torn { failure: failed(&error), number, recorded };
        let (transaction, staged) =
            stage(&self.database, batch, number).map_err(|error| torn(error, None))?;
        if !staged.dirty {
            let Err(error) = transaction.abort() else { return Ok(staged.recorded) };
            return Err(torn(error.into(), None));
        }
        match transaction.commit() {
            Ok(()) => {
                self.commits = number;
                self.users = staged.users;
                Ok(staged.recorded)
            }
            Err(error) => Err(torn(error.into(), Some(staged.recorded))),
        }
    }

    /// Everything the tables hold.
    pub(super) fn load(&self, disk: &impl Disk) -> Result<Loaded, OpenError> {
        let wrong = |error: redb::Error| storage_error(disk, error);
        let transaction = self.database.begin_read().map_err(|error| wrong(error.into()))?;
        let users = transaction.open_table(USERS).map_err(|error| wrong(error.into()))?;
        let bindings = transaction.open_table(BINDINGS).map_err(|error| wrong(error.into()))?;
        Ok(Loaded { users: read_table(disk, &users)?, bindings: read_table(disk, &bindings)? })
    }
}

/// A transaction that waits for its commit.
struct Staged {
    recorded: Vec<Recorded>,
    users: u64,
    /// Some record was written.
    dirty: bool,
}

fn stage(
    database: &Database,
    batch: &[&Record],
    number: u64,
) -> Result<(WriteTransaction, Staged), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_durability(Durability::Immediate)?;
    transaction.set_quick_repair(true);
    let mut staged = Staged { recorded: Vec::with_capacity(batch.len()), users: 0, dirty: false };
    {
        let mut users = transaction.open_table(USERS)?;
        let mut bindings = transaction.open_table(BINDINGS)?;
        for record in batch {
            let recorded = write_record(record, &mut users, &mut bindings)?;
            staged.dirty |= recorded == Recorded::Done;
            staged.recorded.push(recorded);
        }
        staged.users = users.len()?;
        let mut meta = transaction.open_table(META)?;
        meta.insert(META_COMMITS, number)?;
        // From here on it holds records that an older frontdoor could not read.
        meta.insert(META_FORMAT, u64::from(FORMAT))?;
    }
    Ok((transaction, staged))
}

fn write_record(
    record: &Record,
    users: &mut Table<'_, &str, &[u8]>,
    bindings: &mut Table<'_, u64, &[u8]>,
) -> Result<Recorded, redb::Error> {
    let encoded: Result<Vec<Vec<u8>>, postcard::Error> =
        record.changes.iter().map(encode_change).collect();
    let encoded = match encoded {
        Ok(encoded) => encoded,
        Err(error) => return Ok(Recorded::Failed(Failed::Io(error.to_string().into()))),
    };
    let stored = |name: &str| -> Result<Option<UserRecord>, redb::Error> {
        let Some(bytes) = users.get(name)? else { return Ok(None) };
        let user = codec::decode(bytes.value());
        user.map(Some).map_err(|error| redb::Error::Corrupted(error.to_string()))
    };
    if let Some(theirs) = conflicts(&record.changes, stored)? {
        return Ok(Recorded::Conflict(theirs));
    }
    for (change, bytes) in record.changes.iter().zip(&encoded) {
        match change {
            Change::User { record, .. } => {
                users.insert(&*record.name, bytes.as_slice())?;
            }
            Change::Binding(binding) => {
                bindings.insert(binding.id, bytes.as_slice())?;
            }
            Change::Forget { binding } => {
                bindings.remove(binding)?;
            }
        }
    }
    Ok(Recorded::Done)
}

fn encode_change(change: &Change) -> Result<Vec<u8>, postcard::Error> {
    match change {
        Change::User { record, .. } => codec::encode(record),
        Change::Binding(binding) => codec::encode(binding),
        Change::Forget { .. } => Ok(Vec::new()),
    }
}

/// What a database says of itself.
enum Meta {
    Empty,
    Foreign,
    Ours { format: u64, commits: u64, users: u64 },
}

fn read_meta(database: &Database) -> Result<Meta, redb::Error> {
    let transaction = database.begin_read()?;
    let names: Vec<String> =
        transaction.list_tables()?.map(|table| table.name().to_owned()).collect();
    if names.is_empty() {
        return Ok(Meta::Empty);
    }
    if !names.iter().any(|name| name == META.name()) {
        return Ok(Meta::Foreign);
    }
    let meta = transaction.open_table(META)?;
    let Some(format) = meta.get(META_FORMAT)? else { return Ok(Meta::Foreign) };
    let format = format.value();
    if format > u64::from(FORMAT) {
        return Ok(Meta::Ours { format, commits: 0, users: 0 });
    }
    let commits = meta.get(META_COMMITS)?.map_or(0, |commits| commits.value());
    let users = transaction.open_table(USERS)?.len()?;
    Ok(Meta::Ours { format, commits, users })
}

fn make_tables(database: &Database) -> Result<(), redb::Error> {
    let mut transaction = database.begin_write()?;
    transaction.set_quick_repair(true);
    transaction.open_table(META)?.insert(META_FORMAT, u64::from(FORMAT))?;
    transaction.open_table(USERS)?;
    transaction.open_table(BINDINGS)?;
    Ok(transaction.commit()?)
}

fn read_table<K: redb::Key + 'static, T: Stored>(
    disk: &impl Disk,
    table: &impl ReadableTable<K, &'static [u8]>,
) -> Result<Vec<T>, OpenError> {
    let mut records = Vec::new();
    for entry in table.iter().map_err(|error| storage_error(disk, error.into()))? {
        let (_, bytes) = entry.map_err(|error| storage_error(disk, error.into()))?;
        let record = codec::decode(bytes.value()).map_err(|error| match error {
            DecodeError::Format(found) => newer(disk, found.into()),
            DecodeError::Empty | DecodeError::Malformed(_) | DecodeError::Trailing(_) => {
                damaged(disk, &error.to_string())
            }
        })?;
        records.push(record);
    }
    Ok(records)
}

fn newer(disk: &impl Disk, found: u64) -> OpenError {
    OpenError::Newer { path: disk.path().to_path_buf(), found, known: FORMAT.into() }
}

/// The store is ours, but `what`.
pub(super) fn damaged(disk: &impl Disk, what: &str) -> OpenError {
    OpenError::Damaged { path: disk.path().to_path_buf(), what: what.to_owned() }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "redb's errors are non-exhaustive")]
fn open_error(disk: &impl Disk, error: DatabaseError) -> OpenError {
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            OpenError::InUse(disk.path().to_path_buf())
        }
        DatabaseError::UpgradeRequired(_) => OpenError::NotAStore(disk.path().to_path_buf()),
        DatabaseError::Storage(StorageError::Io(source))
            if matches!(
                source.kind(),
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
            ) =>
        {
            OpenError::NotAStore(disk.path().to_path_buf())
        }
        other => storage_error(disk, other.into()),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "redb's errors are non-exhaustive")]
fn storage_error(disk: &impl Disk, error: redb::Error) -> OpenError {
    match error {
        redb::Error::Io(source) => OpenError::Io { path: disk.path().to_path_buf(), source },
        other => damaged(disk, &other.to_string()),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "redb's errors are non-exhaustive")]
fn failed(error: &redb::Error) -> Failed {
    match error {
        redb::Error::Io(error) if is_full(error) => Failed::DiskFull,
        other => Failed::Io(other.to_string().into()),
    }
}

/// What an error at the reopening means for the records that wait.
pub(super) fn failed_open(error: &OpenError) -> Failed {
    match error {
        OpenError::Io { source, .. } if is_full(source) => Failed::DiskFull,
        OpenError::Io { .. }
        | OpenError::NoDirectory(_)
        | OpenError::InUse(_)
        | OpenError::NotAStore(_)
        | OpenError::Newer { .. }
        | OpenError::Damaged { .. }
        | OpenError::Reserve { .. } => Failed::Io(error.to_string().into()),
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
