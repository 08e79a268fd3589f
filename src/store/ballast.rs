//! [`Ballast`]: disk space held back so that users can be moved when the disk is full (L2).
//!
//! A file beside the store, really allocated. When a commit finds the disk full, the ballast is
//! thrown off and its space carries relocations and removals; as soon as there is room again it is
//! taken back on board.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::posix_fallocate;
use nix::sys::statvfs::fstatvfs;

/// What one user's record takes at most in ordinary installations, key, tree and sixteen moves
/// included, in bytes.
const RECORD_BYTES: u64 = 1024;

/// A commit writes new pages before the old ones are free: the old page, the new page, and the
/// store's notes about both.
const COPY_ON_WRITE_FACTOR: u64 = 3;

/// The reserve grows by this many users at a time.
const USERS_STEP: u64 = 1024;

/// How many calls of [`Ballast::hold`] are let pass after the system broke the promise of free
/// space it had given (a quota, say).
const CALLS_PASSED: u32 = 64;

/// The reserve, in bytes, for one relocation of each of so many users.
pub(super) const fn reserve_bytes(users: u64) -> u64 {
    users
        .div_ceil(USERS_STEP)
        .saturating_mul(USERS_STEP)
        .saturating_mul(RECORD_BYTES)
        .saturating_mul(COPY_ON_WRITE_FACTOR)
}

/// The room, in bytes, that must be free besides a reserve before it is taken: else the next
/// binding would throw it off again.
pub(super) const fn slack_bytes(reserve_bytes: u64) -> u64 {
    reserve_bytes / 4 + 1024 * 1024
}

/// A file whose only content is the space it takes.
#[derive(Debug)]
pub(super) struct Ballast {
    file: File,
    held_bytes: u64,
    pass: u32,
}

impl Ballast {
    /// Takes over what an earlier start left in `path`, or makes an empty file there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let file = options.open(path)?;
        let metadata = file.metadata()?;
        let held_bytes = metadata.len().min(metadata.blocks().saturating_mul(512));
        Ok(Self { file, held_bytes, pass: 0 })
    }

    /// How many bytes are held back now.
    pub(super) const fn held_bytes(&self) -> u64 {
        self.held_bytes
    }

    /// Holds `bytes` back, if there is room for them and some slack; `false` if not, and then
    /// what was held stays held.
    pub(super) fn hold(&mut self, bytes: u64) -> io::Result<bool> {
        if bytes <= self.held_bytes {
            if bytes < self.held_bytes {
                self.cut(bytes)?;
            }
            return Ok(true);
        }
        if self.pass > 0 {
            self.pass -= 1;
            return Ok(false);
        }
        let more = bytes - self.held_bytes;
        if self.free_bytes()? < more.saturating_add(slack_bytes(bytes)) {
            return Ok(false);
        }
        let length = i64::try_from(bytes).map_err(|_| io::ErrorKind::FileTooLarge)?;
        match posix_fallocate(&self.file, 0, length) {
            Ok(()) => {
                self.file.sync_all()?;
                self.held_bytes = bytes;
                Ok(true)
            }
            Err(error) => {
                self.cut(self.held_bytes)?;
                self.pass = CALLS_PASSED;
                let full = matches!(error, Errno::ENOSPC | Errno::EDQUOT);
                if full { Ok(false) } else { Err(error.into()) }
            }
        }
    }

    /// Gives everything back to the disk.
    pub(super) fn release(&mut self) -> io::Result<()> {
        self.cut(0)
    }

    fn free_bytes(&self) -> io::Result<u64> {
        let disk = fstatvfs(&self.file)?;
        Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
    }

    /// Flushed, because a journal may keep freed blocks back until then.
    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        self.file.set_len(bytes)?;
        self.held_bytes = bytes;
        self.file.sync_all()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ballast_is_really_allocated_and_given_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ballast");
        let mut ballast = Ballast::open(&path).unwrap();
        assert!(ballast.hold(1 << 20).unwrap());
        assert!(std::fs::metadata(&path).unwrap().blocks() * 512 >= 1 << 20);
        assert!(ballast.hold(1 << 16).unwrap(), "less is always possible");
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 1 << 16);
        ballast.release().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().blocks(), 0);
        assert_eq!(ballast.held_bytes(), 0);
    }

    #[test]
    fn an_earlier_ballast_is_taken_over_but_a_hollow_one_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ballast");
        assert!(Ballast::open(&path).unwrap().hold(1 << 20).unwrap());
        assert_eq!(Ballast::open(&path).unwrap().held_bytes(), 1 << 20);

        let hollow = directory.path().join("hollow");
        File::create(&hollow).unwrap().set_len(1 << 20).unwrap();
        assert_eq!(Ballast::open(&hollow).unwrap().held_bytes(), 0);
    }

    #[test]
    fn more_than_the_disk_has_is_not_held() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ballast");
        let mut ballast = Ballast::open(&path).unwrap();
        assert!(ballast.hold(1 << 16).unwrap());
        assert!(!ballast.hold(1 << 60).unwrap());
        assert_eq!(ballast.held_bytes(), 1 << 16);
    }

    #[test]
    fn the_reserve_covers_every_user_and_cannot_overflow() {
        assert_eq!(reserve_bytes(0), 0);
        assert_eq!(reserve_bytes(1), 1024 * 1024 * 3);
        assert_eq!(reserve_bytes(1025), 2048 * 1024 * 3);
        assert_eq!(reserve_bytes(u64::MAX), u64::MAX);
    }
}
