//! Keys in files: 32 random octets, as hex, in a file only its owner reads. One authenticates Path
//! tokens, another opens the admin listener to what changes something.
//!
//! It survives restarts and is the same on all doors, so that a Path one door wrote is understood
//! by the next.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroize;

use crate::private::Private;

/// Octets of a key.
const KEY_LEN: usize = 32;
/// A file longer than this is not a key.
const FILE_LEN_MAX: u64 = 256;

/// Why there is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenFault {
    /// Others may read it.
    #[error(
        "{} may be read by others (mode {mode:04o}); a key that others know protects nothing: \
         chmod 600 {}", path.display(), path.display()
    )]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// None there, where one is needed.
    #[error(
        "there is no {}; name the file with the door's token: --token-file FILE (admin.token_file \
         in its configuration)", path.display()
    )]
    Missing {
        /// Which file.
        path: PathBuf,
    },
    /// Something else than a key.
    #[error(
        "{} does not hold 64 hex digits; copy the file of another door, or delete it to have a new \
         key made (with a new key for Path tokens every binding is registered anew)", path.display()
    )]
    NotAKey {
        /// Which file.
        path: PathBuf,
    },
    /// It could not be read or made.
    #[error("{}: {why}; the user that runs the door must be able to read it, or to make it", path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
}

/// Reads the key, or makes one where there is none yet.
pub fn read_or_create(path: &Path) -> Result<Private<[u8; KEY_LEN]>, TokenFault> {
    match read(path)? {
        Some(key) => Ok(key),
        None => {
            create(path).map_err(|error| unusable(path, &error))?;
            read(path)?.ok_or_else(|| TokenFault::NotAKey { path: path.to_owned() })
        }
    }
}

/// Reads the key; `None` where there is none yet.
pub fn read(path: &Path) -> Result<Option<Private<[u8; KEY_LEN]>>, TokenFault> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unusable(path, &error)),
    };
    let metadata = file.metadata().map_err(|error| unusable(path, &error))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(TokenFault::Exposed { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    let read = file.take(FILE_LEN_MAX).read_to_string(&mut text);
    let key = parse(text.trim());
    text.zeroize();
    match read {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::InvalidData => {
            return Err(TokenFault::NotAKey { path: path.to_owned() });
        }
        Err(error) => return Err(unusable(path, &error)),
    }
    key.map(Some).ok_or_else(|| TokenFault::NotAKey { path: path.to_owned() })
}

fn parse(text: &str) -> Option<Private<[u8; KEY_LEN]>> {
    if text.len() != 2 * KEY_LEN || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut key = [0; KEY_LEN];
    for (nth, octet) in key.iter_mut().enumerate() {
        *octet = u8::from_str_radix(text.get(2 * nth..2 * nth + 2)?, 16).ok()?;
    }
    Some(Private::new(key))
}

/// Makes a key that is whole or not there at all, whenever the machine stops.
fn create(path: &Path) -> std::io::Result<()> {
    let mut octets = [0; KEY_LEN];
    File::open("/dev/urandom")?.read_exact(&mut octets)?;
    let mut text = String::with_capacity(2 * KEY_LEN + 1);
    for octet in octets {
        // Writing to a String cannot fail.
        let _ok = write!(text, "{octet:02x}");
    }
    octets.zeroize();
    text.push('\n');

    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}.new", std::process::id()));
    let draft = PathBuf::from(draft);
    let written = write_durably(&draft, text.as_bytes());
    text.zeroize();
    // A link, not a rename: a key that another process made meanwhile stays.
    let linked = written.and_then(|()| std::fs::hard_link(&draft, path));
    let removed = std::fs::remove_file(&draft);
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
        Err(_) | Ok(()) => removed?,
    }
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or_else(|| Path::new(".")))?.sync_all()
}

fn write_durably(path: &Path, octets: &[u8]) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(octets)?;
    file.sync_all()
}

fn unusable(path: &Path, error: &std::io::Error) -> TokenFault {
    TokenFault::Unusable { path: path.to_owned(), why: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode_of(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn write_with_mode(path: &Path, text: &str, mode: u32) {
        std::fs::write(path, text).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_key_is_made_once_and_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token.key");
        assert!(read(&path).unwrap().is_none());
        let first = read_or_create(&path).unwrap();
        let second = read_or_create(&path).unwrap();
        assert_eq!(first.reveal(), second.reveal());
        assert_ne!(first.reveal(), &[0; KEY_LEN]);
        assert_eq!(mode_of(&path), 0o600);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1, "no draft is left");
    }

    #[test]
    fn a_key_that_others_may_read_is_refused_with_the_command_to_type() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token.key");
        for (mode, accepted) in [
            (0o600, true),
            (0o400, true),
            (0o640, false),
            (0o604, false),
            (0o620, false),
            (0o644, false),
        ] {
            write_with_mode(&path, &"0f".repeat(32), mode);
            match read_or_create(&path) {
                Ok(key) => {
                    assert!(accepted, "{mode:o}");
                    assert_eq!(key.reveal(), &[0x0f; KEY_LEN]);
                }
                Err(fault) => {
                    assert!(!accepted, "{mode:o}: {fault}");
                    let chmod = format!("chmod 600 {}", path.display());
                    assert!(fault.to_string().contains(&chmod), "{fault}");
                }
            }
        }
    }

    #[test]
    fn what_is_no_key_is_refused_and_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token.key");
        for text in ["", "0f", &"0g".repeat(32), &"0f".repeat(33), "+f".repeat(32).as_str()] {
            write_with_mode(&path, text, 0o600);
            let fault = read_or_create(&path).unwrap_err();
            assert_eq!(fault, TokenFault::NotAKey { path: path.clone() }, "{text:?}");
            assert_eq!(std::fs::read_to_string(&path).unwrap(), *text);
        }
    }

    #[test]
    fn a_directory_that_is_not_there_is_named() {
        let path = Path::new("/nonexistent/frontdoor/token.key");
        let fault = read_or_create(path).unwrap_err();
        assert!(fault.to_string().starts_with("/nonexistent/frontdoor/token.key: "), "{fault}");
    }
}
