//! Child processes that never outlive the test.

use std::io::ErrorKind;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;

use crate::harness::within;

/// The program under test.
pub(crate) const FRONTDOOR: &str = env!("CARGO_BIN_EXE_frontdoor");

/// Ends with standard input, and everything in its process group with it: what outlives a test that
/// was killed itself must not stay.
const UNTIL_STDIN_ENDS: &str = r#""$@" </dev/null & read -r _; kill -KILL 0"#;

/// Where cargo builds, and where `tests/run` puts what it brings for tests.
pub(crate) fn target() -> PathBuf {
    Path::new(FRONTDOOR).parent().and_then(Path::parent).unwrap().to_owned()
}

/// The same as `tests/run` built it for release: for tests that need its full speed.
pub(crate) fn released() -> String {
    let program = target().join("release").join("frontdoor");
    assert!(program.is_file(), "{} is not there: cargo build --release", program.display());
    program.to_str().unwrap().to_owned()
}

/// A child; dropping it kills it.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a command whose standard streams are set already.
    pub(crate) fn start(command: &mut Command) -> Self {
        let child = command.spawn().unwrap_or_else(|error| explain(command, &error));
        Self { child }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Octets of memory it has now.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kib * 1024
    }

    /// Processor time it has used.
    pub(crate) fn processor(&self) -> Duration {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).unwrap();
        // Behind the name, which may hold anything: state, …, utime, stime, in ticks of 10 ms.
        let behind = stat.rsplit_once(')').unwrap().1;
        let fields: Vec<&str> = behind.split_whitespace().collect();
        let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
        Duration::from_millis(ticks * 10)
    }

    pub(crate) fn take_stdin(&mut self) -> ChildStdin {
        self.child.stdin.take().unwrap()
    }

    pub(crate) fn take_stdout(&mut self) -> ChildStdout {
        self.child.stdout.take().unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        kill(pid, signal).unwrap();
    }

    /// SIGKILL, and waits until the process is gone.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// How it ended, if it did within this time.
    pub(crate) fn ended(&mut self, patience: Duration) -> Option<ExitStatus> {
        within(patience, || self.child.try_wait().unwrap())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ended = self.child.kill();
        let _status = self.child.wait();
    }
}

/// A program that starts others, in a process group of its own; dropping it kills them all.
pub(crate) struct Group {
    process: Process,
    _stdin: ChildStdin,
}

impl Group {
    /// To be given arguments and streams, and started.
    pub(crate) fn command(program: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", UNTIL_STDIN_ENDS, "sh", program]).process_group(0);
        command.stdin(Stdio::piped());
        command
    }

    /// Starts what [`Group::command`] began.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut process = Process::start(command);
        let stdin = process.take_stdin();
        Self { process, _stdin: stdin }
    }

    /// To the program, all it has started, and the shell that waits for our end.
    pub(crate) fn signal(&self, signal: Signal) {
        killpg(self.id(), signal).unwrap();
    }

    fn id(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.id()).unwrap())
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _gone = killpg(self.id(), Signal::SIGKILL);
    }
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null());
    command.output().unwrap_or_else(|error| explain(command, &error))
}

fn explain(command: &Command, error: &std::io::Error) -> ! {
    let program = command.get_program().to_string_lossy();
    match error.kind() {
        ErrorKind::NotFound => panic!("{program} is not installed: tests/run installs it"),
        _ => panic!("{program} cannot be started: {error}"),
    }
}
