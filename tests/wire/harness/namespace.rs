//! Linux namespaces: a network with a cable that can be pulled, a file system that can be filled.
//!
//! A namespace lives as long as the process that holds it, and what is in it goes with it: there is
//! nothing to clean up, even after a test that was killed.

use std::io::{BufRead as _, BufReader};
use std::net::{IpAddr, Ipv4Addr};
use std::process::{ChildStdin, Command, Stdio};

use crate::harness::{Process, run};

/// A namespace and the process that holds it.
pub(crate) struct Namespace {
    kind: &'static str,
    holder: Process,
    _stdin: ChildStdin,
}

/// Both ends of the cable into a network namespace.
pub(crate) struct Cable {
    /// The end in this process' network.
    pub(crate) outside: IpAddr,
    /// The end in the namespace.
    pub(crate) inside: IpAddr,
    device: String,
}

impl Namespace {
    /// A network of its own; only its loopback is there.
    pub(crate) fn network() -> Self {
        Self::hold("--net", "ip link set lo up")
    }

    /// A view of the file system of its own, where `path` is an empty disk of this size.
    pub(crate) fn disk(path: &str, mebibytes: u32) -> Self {
        Self::hold("--mount", &format!("mount -t tmpfs -o size={mebibytes}m tmpfs '{path}'"))
    }

    fn hold(kind: &'static str, set_up: &str) -> Self {
        // `read` ends with standard input, that is, with this process.
        let script = format!("{set_up} && echo held && read -r _");
        let mut command = Command::new("unshare");
        command.args([kind, "sh", "-c", &script]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = Process::start(&mut command);
        let (stdin, stdout) = (holder.take_stdin(), holder.take_stdout());
        let mut line = String::new();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        assert_eq!(line, "held\n", "no namespace: this test needs root, unshare and {set_up:?}");
        Self { kind, holder, _stdin: stdin }
    }

    /// A command that will run in here.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        let holder = self.holder.id().to_string();
        command.args(["--target", &holder, self.kind, program]);
        command
    }

    /// Lays a cable into this network.
    pub(crate) fn cable(&self) -> Cable {
        let holder = self.holder.id();
        // 198.18.0.0/15 is for tests of networks (RFC 2544); the process id makes it ours.
        let (net, host) = (holder / 64 % 256, holder % 64 * 4);
        let end = |last: u32| {
            let octets = [198, 18, net, host + last].map(|octet| u8::try_from(octet).unwrap());
            IpAddr::V4(Ipv4Addr::from(octets))
        };
        let (outside, inside) = (end(1), end(2));
        let device = format!("fd{holder}");
        must(Command::new("ip").args(["link", "add", &device, "type", "veth"]).args([
            "peer",
            "name",
            "uplink",
            "netns",
            &holder.to_string(),
        ]));
        let cable = Cable { outside, inside, device };
        let (outside, inside) = (format!("{outside}/30"), format!("{inside}/30"));
        must(Command::new("ip").args(["addr", "add", &outside, "dev", &cable.device]));
        must(Command::new("ip").args(["link", "set", &cable.device, "up"]));
        must(self.command("ip").args(["addr", "add", &inside, "dev", "uplink"]));
        must(self.command("ip").args(["link", "set", "uplink", "up"]));
        cable
    }

    /// Pulls the cable at its far end: what is sent into it from here on is gone, and nobody says so.
    pub(crate) fn pull(&self) {
        must(self.command("ip").args(["link", "set", "uplink", "down"]));
    }

    /// Puts it back.
    pub(crate) fn plug(&self) {
        must(self.command("ip").args(["link", "set", "uplink", "up"]));
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        // The kernel does it too, some time after the namespace is gone.
        let _gone = run(Command::new("ip").args(["link", "delete", &self.device]));
    }
}

fn must(command: &mut Command) {
    let output = run(command);
    let why = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?} failed (this test needs root): {why}");
}
