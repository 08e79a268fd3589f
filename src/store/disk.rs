//! [`Disk`]: the file of the embedded store, and the space held back for it.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use redb::StorageBackend;
use redb::backends::FileBackend;

use crate::store::OpenError;
use crate::store::ballast::Ballast;

/// Where an embedded store lies. The real one is [`FileDisk`]; tests have one that fails.
pub trait Disk: Send {
    /// What the database reads and writes through.
    type Backend: StorageBackend;

    /// The name of the store, for messages.
    fn path(&self) -> &Path;

    /// Opens the store's file anew, after the last backend is dropped.
    fn open(&mut self) -> Result<Self::Backend, OpenError>;

    /// How many bytes are held back now.
    fn held_bytes(&self) -> u64;

    /// Holds so many bytes back; `false` if there is no room. Called only while the store is
    /// open, so that its lock guards the reserve as well.
    fn hold(&mut self, bytes: u64) -> Result<bool, OpenError>;

    /// Gives the reserve back to the disk.
    fn release(&mut self);
}

/// A file, and its reserve beside it (`NAME.reserve`); both readable for their owner only.
#[derive(Debug)]
pub struct FileDisk {
    path: PathBuf,
    /// The file was there: if it is missing later, that is no reason to start with an empty one.
    known: bool,
    ballast: Option<Ballast>,
}

impl FileDisk {
    /// The store in this file, which need not exist; its directory must.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), known: false, ballast: None }
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(suffix);
        name.into()
    }

    fn error(&self, source: io::Error) -> OpenError {
        OpenError::Io { path: self.path.clone(), source }
    }

    fn directory(&self) -> &Path {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        }
    }

    /// Makes an empty database under another name and moves it in when it is complete: a start
    /// that is cut short leaves nothing that a later one would take for a damaged store.
    fn create(&self) -> Result<(), OpenError> {
        let draft = self.beside(&format!(".new-{}", std::process::id()));
        let made = make_database(&draft).and_then(|()| fs::hard_link(&draft, &self.path));
        let removed = fs::remove_file(&draft);
        match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && self.path.exists() => {}
            other => other.map_err(|error| self.error(error))?,
        }
        removed.map_err(|error| self.error(error))?;
        File::open(self.directory())
            .and_then(|directory| directory.sync_all())
            .map_err(|error| self.error(error))
    }
}

impl Disk for FileDisk {
    type Backend = FileBackend;

    fn path(&self) -> &Path {
        &self.path
    }

    fn open(&mut self) -> Result<FileBackend, OpenError> {
        if !self.directory().is_dir() {
            return Err(OpenError::NoDirectory(self.directory().to_path_buf()));
        }
        if !self.known && !self.path.exists() {
            self.create()?;
        }
        let file = OpenOptions::new().read(true).write(true).open(&self.path);
        let file = file.map_err(|error| self.error(error))?;
        self.known = true;
        let mode = file.metadata().map_err(|error| self.error(error))?.permissions().mode();
        if mode & 0o077 != 0 {
            file.set_permissions(Permissions::from_mode(0o600))
                .map_err(|error| self.error(error))?;
        }
        FileBackend::new(file).map_err(|error| self.error(io::Error::other(error)))
    }

    fn held_bytes(&self) -> u64 {
        self.ballast.as_ref().map_or(0, Ballast::held_bytes)
    }

    fn hold(&mut self, bytes: u64) -> Result<bool, OpenError> {
        let path = self.beside(".reserve");
        let ballast = match &mut self.ballast {
            Some(ballast) => ballast,
            none => match Ballast::open(&path) {
                Ok(ballast) => none.insert(ballast),
                Err(source) => return Err(OpenError::Reserve { path, source }),
            },
        };
        ballast.hold(bytes).map_err(|source| OpenError::Reserve { path, source })
    }

    /// What cannot be given back is of no use to the commit that needs it, and that commit says so.
    fn release(&mut self) {
        if let Some(ballast) = &mut self.ballast {
            let _useless_if_it_failed = ballast.release();
        }
    }
}

/// A complete, empty database in a new file.
fn make_database(path: &Path) -> io::Result<()> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create(true).truncate(true).mode(0o600).open(path)?;
    let backend = FileBackend::new(file).map_err(io::Error::other)?;
    let database = redb::Builder::new().create_with_backend(backend).map_err(io::Error::other)?;
    database.close().map_err(io::Error::other)
}
