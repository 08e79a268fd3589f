//! SIPp: phones that somebody else has written.

use std::fmt::Write as _;
use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::harness::Process;

/// A run takes as long as its calls do; one that hangs takes longer than this.
const PATIENCE: Duration = Duration::from_secs(100);

/// A run of SIPp that goes on.
pub(crate) struct Sipp {
    process: Process,
    directory: PathBuf,
}

impl Sipp {
    /// Plays `fixtures/sipp/SCENARIO` against the door, from this address; its files are left in
    /// `directory`.
    pub(crate) fn start(
        scenario: &str,
        directory: &Path,
        local: SocketAddr,
        door: SocketAddr,
        arguments: &[&str],
    ) -> Self {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/sipp");
        let mut command = Command::new("sipp");
        command
            .arg(door.to_string())
            .arg("-sf")
            .arg(fixtures.join(scenario))
            .args(["-i", &local.ip().to_string(), "-p", &local.port().to_string()])
            .args(["-nostdin", "-trace_err", "-error_file", "errors.log"])
            // What the kernel allows: the default holds some hundred answers.
            .args(["-buff_size", "4194304"])
            // A call that went wrong is given up without a BYE.
            .args(["-default_behaviors", "all,-bye"])
            .args(arguments)
            .current_dir(directory)
            .env("TERM", "dumb")
            .stdin(Stdio::null())
            .stdout(File::create(directory.join("screen.log")).unwrap())
            .stderr(Stdio::null());
        Self { process: Process::start(&mut command), directory: directory.to_owned() }
    }

    /// Waits until it has played every call; each must have gone as the scenario says.
    pub(crate) fn succeed(mut self) {
        let ended = self.process.ended(PATIENCE);
        if ended.and_then(|status| status.code()) != Some(0) {
            let read = |name: &str| {
                let text = std::fs::read(self.directory.join(name)).unwrap_or_default();
                let text = String::from_utf8_lossy(&text).into_owned();
                text.chars().take(2_000).collect::<String>()
            };
            panic!("SIPp: {ended:?}\n{}\n{}", read("errors.log"), read("screen.log"));
        }
    }
}

/// The users of a run, one a call, in this order.
pub(crate) fn users_csv(path: &Path, users: impl IntoIterator<Item = String>) {
    let mut text = String::from("SEQUENTIAL\n");
    for user in users {
        writeln!(text, "{user};wire.example").unwrap();
    }
    std::fs::write(path, text).unwrap();
}
