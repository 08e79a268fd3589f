//! Certificates in files: read at the start, and again when a file has changed.
//!
//! A new file that cannot be used changes nothing: what was read before is shown on, and the log says
//! which file it is and why. Whoever is connected notices nothing either way.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroize as _;

use crate::net::{Certificate, CertificateError, Certificates};

/// How often the files are looked at.
const EVERY: Duration = Duration::from_secs(5);

/// A longer file holds no certificates.
const FILE_LEN_MAX: u64 = 1024 * 1024;

/// Where a certificate and its key are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFiles {
    /// PEM: the door's own certificate, then those that vouch for it.
    pub chain: PathBuf,
    /// PEM: the key of the first.
    pub key: PathBuf,
}

/// Why a certificate cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateFault {
    /// Others may read the key.
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
    /// It could not be read.
    #[error("{}: {why}; the user that runs the door must be able to read it", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// Something else than was expected.
    #[error("{} holds no {what} in PEM: {why}", path.display())]
    NotPem {
        /// Which file.
        path: PathBuf,
        /// `certificate` or `key`.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A chain and a key that are no pair.
    #[error("{}, with the key of {}: {why}", chain.display(), key.display())]
    Unusable {
        /// The file of the chain.
        chain: PathBuf,
        /// The file of the key.
        key: PathBuf,
        /// Why.
        why: CertificateError,
    },
}

/// Reads them all.
pub fn read(files: &[CertificateFiles]) -> Result<Vec<Certificate>, CertificateFault> {
    files.iter().map(read_one).collect()
}

fn read_one(files: &CertificateFiles) -> Result<Certificate, CertificateFault> {
    let CertificateFiles { chain, key } = files;
    let (text, _) = read_file(chain)?;
    let parsed: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let not_pem = |path: &Path, what, why: String| {
        let path = path.to_owned();
        CertificateFault::NotPem { path, what, why }
    };
    let parsed = parsed.map_err(|error| not_pem(chain, "certificate", error.to_string()))?;
    if parsed.is_empty() {
        return Err(not_pem(chain, "certificate", "there is none".to_owned()));
    }
    let (mut text, metadata) = read_file(key)?;
    let mode = metadata.permissions().mode() & 0o7777;
    let secret = PrivateKeyDer::from_pem_slice(&text);
    text.zeroize();
    if mode & 0o077 != 0 {
        return Err(CertificateFault::Exposed { path: key.clone(), mode });
    }
    let secret = secret.map_err(|error| not_pem(key, "key", error.to_string()))?;
    Certificate::new(parsed, secret).map_err(|why| CertificateFault::Unusable {
        chain: chain.clone(),
        key: key.clone(),
        why,
    })
}

fn read_file(path: &Path) -> Result<(Vec<u8>, Metadata), CertificateFault> {
    let read = || {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let mut octets = Vec::new();
        file.take(FILE_LEN_MAX).read_to_end(&mut octets)?;
        Ok((octets, metadata))
    };
    read().map_err(|error: std::io::Error| CertificateFault::Unreadable {
        path: path.to_owned(),
        why: error.to_string(),
    })
}

/// What tells one state of a file from another; None while it is not there.
type Stamp = Option<(u64, u64, i64, i64)>;

fn stamp(path: &Path) -> Stamp {
    let metadata = std::fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
}

fn stamps(files: &CertificateFiles) -> [Stamp; 2] {
    [stamp(&files.chain), stamp(&files.key)]
}

/// The files, and what was read of them last.
struct Watched {
    files: Vec<CertificateFiles>,
    stamps: Vec<[Stamp; 2]>,
    read: Vec<Certificate>,
    shown: Arc<Certificates>,
}

impl Watched {
    /// Shows what has changed and can be used; says what cannot.
    fn look(&mut self) -> Vec<CertificateFault> {
        let mut faults = Vec::new();
        let mut changed = false;
        let places = self.files.iter().zip(&mut self.stamps).zip(&mut self.read);
        for ((files, known), certificate) in places {
            // Taken before reading: what changes meanwhile is read at the next look.
            let now = stamps(files);
            if now == *known {
                continue;
            }
            *known = now;
            match read_one(files) {
                Ok(new) => {
                    tracing::info!(chain = %files.chain.display(), "a certificate was read again");
                    *certificate = new;
                    changed = true;
                }
                Err(fault) => faults.push(fault),
            }
        }
        if changed {
            self.shown.replace(self.read.clone());
        }
        faults
    }
}

/// Looks at the files again and again, in a thread of its own, until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    /// The thread ends when this is gone.
    stop: Option<mpsc::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Reads the files and shows what is in them, and what will be.
    ///
    /// # Errors
    /// They cannot be used, or the system gives no thread.
    pub fn start(
        files: Vec<CertificateFiles>,
    ) -> Result<(Self, Arc<Certificates>), CertificateFault> {
        let stamps = files.iter().map(stamps).collect();
        let read = read(&files)?;
        let shown = Certificates::new(read.clone());
        let mut watched = Watched { files, stamps, read, shown: Arc::clone(&shown) };
        let (stop, stopped) = mpsc::channel::<()>();
        let look = move || {
            while stopped.recv_timeout(EVERY) == Err(mpsc::RecvTimeoutError::Timeout) {
                for fault in watched.look() {
                    tracing::warn!("{fault}; what was read before is shown on");
                }
            }
        };
        let thread = std::thread::Builder::new().name("certificates".to_owned()).spawn(look);
        if let Err(error) = &thread {
            tracing::warn!("certificates are not read again when they change: {error}");
        }
        Ok((Self { stop: Some(stop), thread: thread.ok() }, shown))
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A thread that has panicked has said so.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    fn write(files: &CertificateFiles, name: &str) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        std::fs::write(&files.chain, made.cert.pem()).unwrap();
        write_key(files, &made.signing_key.serialize_pem(), 0o600);
    }

    fn write_key(files: &CertificateFiles, text: &str, mode: u32) {
        std::fs::write(&files.key, text).unwrap();
        std::fs::set_permissions(&files.key, Permissions::from_mode(mode)).unwrap();
    }

    fn place() -> (tempfile::TempDir, CertificateFiles) {
        let directory = tempfile::tempdir().unwrap();
        let [chain, key] = ["door.pem", "door.key"].map(|name| directory.path().join(name));
        (directory, CertificateFiles { chain, key })
    }

    fn fault(files: &CertificateFiles) -> String {
        let fault = read(std::slice::from_ref(files)).map(|_| "read").unwrap_err().to_string();
        let directory = files.chain.parent().unwrap().display().to_string();
        fault.replace(&format!("{directory}/"), "")
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_the_file_and_what_to_do() {
        let (_directory, files) = place();
        assert_eq!(
            fault(&files),
            "door.pem: No such file or directory (os error 2); the user that runs the door must be \
             able to read it"
        );
        write(&files, "a.example");
        assert_eq!(read(std::slice::from_ref(&files)).unwrap().len(), 1);
        let key = std::fs::read_to_string(&files.key).unwrap();
        write_key(&files, &key, 0o640);
        assert_eq!(
            fault(&files),
            "door.key may be read by others (mode 0640); a key that others know protects nothing: \
             chmod 600 door.key"
        );
        write_key(&files, "nothing", 0o600);
        assert!(fault(&files).starts_with("door.key holds no key in PEM: "), "{}", fault(&files));
        let other = rcgen::generate_simple_self_signed(["b.example".to_owned()]).unwrap();
        write_key(&files, &other.signing_key.serialize_pem(), 0o600);
        let refused = "door.pem, with the key of door.key: the key does not fit";
        assert!(fault(&files).starts_with(refused), "{}", fault(&files));
        std::fs::write(&files.chain, "nothing").unwrap();
        assert_eq!(fault(&files), "door.pem holds no certificate in PEM: there is none");
    }

    #[test]
    fn a_new_file_is_read_and_a_broken_one_changes_nothing() {
        let (_directory, files) = place();
        write(&files, "a.example");
        let read = read(std::slice::from_ref(&files)).unwrap();
        let shown = Certificates::new(read.clone());
        let stamps = vec![stamps(&files)];
        let files = vec![files];
        let mut watched = Watched { files: files.clone(), stamps, read, shown };
        let first = format!("{:?}", watched.shown);
        assert_eq!(watched.look(), []);
        assert_eq!(format!("{:?}", watched.shown), first);

        std::fs::write(&files[0].chain, "nothing").unwrap();
        assert_eq!(watched.look().len(), 1);
        assert_eq!(watched.look(), [], "it is said once");
        assert_eq!(format!("{:?}", watched.shown), first);

        std::fs::remove_file(&files[0].chain).unwrap();
        assert_eq!(watched.look().len(), 1);
        assert_eq!(watched.look(), []);
        write(&files[0], "b.example");
        assert_eq!(watched.look(), []);
        assert_ne!(format!("{:?}", watched.shown), first);
    }

    #[test]
    fn a_watcher_ends_when_nobody_wants_it() {
        let (_directory, files) = place();
        write(&files, "a.example");
        let (watcher, _shown) = Watcher::start(vec![files.clone()]).unwrap();
        drop(watcher);
        std::fs::remove_file(&files.chain).unwrap();
        assert!(Watcher::start(vec![files]).is_err());
    }
}
