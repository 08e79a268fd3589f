//! Children on a core of their own, in a directory of their own; none outlives this process.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use frontdoor::net::Clock;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Deserialize;
use tempfile::TempDir;

use crate::{FRONTDOOR, LOAD_CORE, Outcome, SERVER_CORE};

/// How long a child may take to start or to end.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// Between two looks.
pub(crate) const LOOK: Duration = Duration::from_millis(20);

/// A child that is ended with this value.
#[derive(Debug)]
pub(crate) struct Process(Child);

impl Process {
    /// Starts a program on a core. SIGTERM comes to it should this process die (setpriv).
    pub(crate) fn start(
        core: usize,
        program: &Path,
        set: impl FnOnce(&mut Command),
    ) -> Outcome<Self> {
        let mut command = Command::new("taskset");
        command.args(["-c", &core.to_string(), "setpriv", "--pdeathsig", "TERM"]).arg(program);
        set(&mut command);
        let child = command.spawn().map_err(|error| format!("{}: {error}", program.display()))?;
        Ok(Self(child))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// What goes in and comes out, where that was piped.
    pub(crate) fn pipes(&mut self) -> (Option<ChildStdin>, Option<ChildStdout>) {
        (self.0.stdin.take(), self.0.stdout.take())
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        !matches!(self.0.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let pid = Pid::from_raw(i32::try_from(self.0.id()).unwrap_or_default());
        if !self.has_ended() {
            // It may end at this very moment.
            let _ended = kill(pid, Signal::SIGTERM);
        }
        let deadline = Clock.uptime() + PATIENCE;
        while !self.has_ended() {
            if Clock.uptime() > deadline {
                let _ended = self.0.kill();
            }
            std::thread::park_timeout(LOOK);
        }
    }
}

/// The server under test.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) process: Process,
    pub(crate) directory: TempDir,
    /// Where phones register.
    pub(crate) address: SocketAddr,
}

impl Server {
    /// Starts it on its core; its output goes to a log in its directory.
    pub(crate) fn start(
        directory: TempDir,
        address: SocketAddr,
        program: &Path,
        set: impl FnOnce(&mut Command),
    ) -> Outcome<Self> {
        let log = File::create(directory.path().join("log"))?;
        let errors = log.try_clone()?;
        let process = Process::start(SERVER_CORE, program, |command| {
            command.stdin(Stdio::null()).stdout(log).stderr(errors);
            set(command);
        })?;
        Ok(Self { process, directory, address })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Looks again and again until it is ready.
    pub(crate) fn wait_until(&mut self, ready: impl Fn() -> bool) -> Outcome<()> {
        let deadline = Clock.uptime() + PATIENCE;
        while !ready() {
            if self.process.has_ended() || Clock.uptime() > deadline {
                return Err(format!("a server did not start:\n{}", self.log_tail()).into());
            }
            std::thread::park_timeout(LOOK);
        }
        Ok(())
    }

    /// The end of its log.
    pub(crate) fn log_tail(&self) -> String {
        let text = std::fs::read(self.directory.path().join("log")).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().take(10).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

/// Three servers that say 200 to everything, in one process beside the phones.
#[derive(Debug)]
pub(crate) struct Registrars {
    pub(crate) addresses: Vec<SocketAddr>,
    /// Ends them first, gently: they run until this ends.
    stdin: Option<ChildStdin>,
    process: Process,
}

#[derive(Deserialize)]
struct Listening {
    listening: Vec<SocketAddr>,
}

impl Registrars {
    pub(crate) fn start() -> Outcome<Self> {
        let any = "127.0.0.1:0";
        let mut process = Process::start(LOAD_CORE, Path::new(FRONTDOOR), |command| {
            command.args(["load", "answer", "--at", any, "--at", any, "--at", any]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        })?;
        let (stdin, stdout) = process.pipes();
        let stdout = stdout.ok_or("no output to read")?;
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line)?;
        let Listening { listening } = serde_json::from_str(&line)?;
        Ok(Self { addresses: listening, stdin, process })
    }

    /// Fails if they have ended: then nothing was measured.
    pub(crate) fn check(&mut self) -> Outcome<()> {
        let alive = self.stdin.is_some() && !self.process.has_ended();
        alive.then_some(()).ok_or_else(|| "the registrars have ended".into())
    }
}

/// Addresses nobody listens on at this moment, neither over UDP nor over TCP.
pub(crate) fn free() -> Outcome<[SocketAddr; 3]> {
    // All are held until all are known, so that they differ.
    let hold = || -> std::io::Result<(UdpSocket, Option<TcpListener>)> {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        let tcp = TcpListener::bind(udp.local_addr()?).ok();
        Ok((udp, tcp))
    };
    let mut held = Vec::new();
    for _ in 0..32 {
        held.push(hold()?);
    }
    let both = held.iter().filter(|(_, tcp)| tcp.is_some());
    let addresses: Vec<SocketAddr> =
        both.map(|(udp, _)| udp.local_addr()).collect::<Result<_, _>>()?;
    addresses.first_chunk().copied().ok_or_else(|| "no free ports".into())
}
