//! A certificate in files, for the door that shows it and for others' clients that trust it.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use tempfile::TempDir;

/// Gone when it is dropped.
pub(crate) struct Secret {
    directory: TempDir,
}

impl Secret {
    /// One that vouches for itself, for these names and addresses.
    pub(crate) fn of(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        let secret = Self { directory: tempfile::tempdir().unwrap() };
        std::fs::write(secret.chain(), made.cert.pem()).unwrap();
        let mut key = OpenOptions::new();
        let mut key = key.write(true).create_new(true).mode(0o600).open(secret.key()).unwrap();
        key.write_all(made.signing_key.serialize_pem().as_bytes()).unwrap();
        secret
    }

    pub(crate) fn chain(&self) -> PathBuf {
        self.directory.path().join("chain.pem")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.directory.path().join("key.pem")
    }
}
