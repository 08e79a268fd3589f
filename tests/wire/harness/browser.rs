//! Chromium without a screen: pages as people have them.

use std::fs::File;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

use crate::harness::{Group, PATIENCE, run};

const CHROMIUM: &str = "chromium";

/// It runs as whoever runs the test, and asks nobody but the pages it is given.
const OPTIONS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--no-proxy-server",
];

/// A browser with one page; dropping it kills all its processes.
pub(crate) struct Browser {
    _running: Group,
    profile: TempDir,
}

impl Browser {
    pub(crate) fn open(url: &str) -> Self {
        // The shell that starts it could not say that it is missing.
        run(Command::new(CHROMIUM).arg("--version"));
        let profile = tempfile::tempdir().unwrap();
        let log = File::create(profile.path().join("log")).unwrap();
        let mut command = Group::command(CHROMIUM);
        at_home(&mut command, &profile).arg(url).stdout(Stdio::null()).stderr(log);
        Self { _running: Group::start(&mut command), profile }
    }

    /// What it has complained of.
    pub(crate) fn log(&self) -> String {
        let octets = std::fs::read(self.profile.path().join("log")).unwrap();
        String::from_utf8_lossy(&octets).into_owned()
    }
}

/// What a page is when it is loaded.
pub(crate) fn shown(url: &str) -> String {
    run(Command::new(CHROMIUM).arg("--version"));
    let profile = tempfile::tempdir().unwrap();
    let mut command = Command::new("timeout");
    command.args(["--signal", "KILL", &PATIENCE.as_secs().to_string(), CHROMIUM]);
    at_home(&mut command, &profile).args(["--dump-dom", url]);
    let Output { status, stdout, stderr } = run(&mut command);
    assert!(status.success(), "{status}: {}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// With a home and a profile of its own.
fn at_home<'c>(command: &'c mut Command, profile: &TempDir) -> &'c mut Command {
    let home = profile.path();
    command.env("HOME", home).args(OPTIONS);
    command.arg(format!("--user-data-dir={}", home.join("profile").display()))
}
