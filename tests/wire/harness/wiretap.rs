//! What goes over the loopback, recorded by dumpcap and judged by tshark: they share no line with the
//! program.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::harness::{LOCALHOST, PATIENCE, Process, free, run, soon};

/// What no good SIP message is: more than tshark calls malformed, which forgives much.
const FAULTY: &str = "_ws.malformed \
    || (sip && _ws.expert.severity >= 4194304 && !tcp.analysis.flags) \
    || (sip && !(sip.Via.branch && sip.from.addr && sip.to.addr && sip.Call-ID && sip.CSeq.seq \
                 && sip.CSeq.method)) \
    || (sip.CSeq.method != sip.Method) \
    || (sip.Content-Length > 0 && !sip.msg_body)";

/// What begins and ends a recording, so that it is known to be whole.
const BEGIN: &str = "the recording has begun";
const END: &str = "the recording ends";

/// A recording that goes on.
pub(crate) struct Wiretap {
    process: Process,
    directory: TempDir,
    ports: Vec<u16>,
    marker: SocketAddr,
}

/// One that is over.
pub(crate) struct Recording {
    directory: TempDir,
    ports: Vec<u16>,
    marker: SocketAddr,
}

impl Wiretap {
    /// Records what comes from these addresses, or goes to them, from now on.
    pub(crate) fn on(addresses: &[SocketAddr]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let marker = free(LOCALHOST);
        let mut ports: Vec<u16> = addresses.iter().map(SocketAddr::port).collect();
        ports.sort_unstable();
        ports.dedup();
        let terms = ports.iter().copied().chain([marker.port()]).map(|port| format!("port {port}"));
        let filter = terms.collect::<Vec<_>>().join(" or ");
        let mut command = Command::new("dumpcap");
        command
            .args(["-q", "-P", "-i", "lo", "-B", "64", "-f", &filter, "-w"])
            .arg(directory.path().join("packets"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(directory.path().join("said")).unwrap());
        let process = Process::start(&mut command);
        let wiretap = Self { process, directory, ports, marker };
        wiretap.mark(BEGIN);
        wiretap
    }

    /// Ends the recording; everything sent before is in it.
    pub(crate) fn stop(mut self) -> Recording {
        self.mark(END);
        self.process.signal(Signal::SIGINT);
        let ended = self.process.ended(PATIENCE);
        let said = std::fs::read_to_string(self.directory.path().join("said")).unwrap();
        assert!(ended.is_some_and(|status| status.success()), "dumpcap: {ended:?}\n{said}");
        assert!(said.contains("/0 (pcap:0/dumpcap:0/"), "packets are missing: {said}");
        Recording { directory: self.directory, ports: self.ports, marker: self.marker }
    }

    /// Sends a datagram until it is on the disk.
    fn mark(&self, text: &str) {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        soon("dumpcap records", || {
            // Nobody listens there.
            let _refused = socket.send_to(text.as_bytes(), self.marker);
            let packets = std::fs::read(self.directory.path().join("packets")).ok()?;
            memchr::memmem::find(&packets, text.as_bytes()).map(drop)
        });
    }
}

impl Recording {
    /// SIP messages, or other things, that a display filter of tshark's takes.
    pub(crate) fn count(&self, filter: &str) -> usize {
        self.show(filter).len()
    }

    /// Messages with a fault, and datagrams that are no SIP at all.
    pub(crate) fn faults(&self) -> Vec<String> {
        let not_sip = format!("udp && !sip && udp.port != {}", self.marker.port());
        self.show(&format!("!icmp && ({FAULTY} || ({not_sip}))"))
    }

    /// What comes from this address and is no SIP, or faulty.
    pub(crate) fn faults_from(&self, address: SocketAddr) -> Vec<String> {
        let port = address.port();
        let from = format!("(udp.srcport == {port} || tcp.srcport == {port})");
        // A stream's segment may be part of a message.
        let not_sip = "!sip && (udp || (tcp.len > 0 && !tcp.reassembled_in))";
        self.show(&format!("!icmp && {from} && ({FAULTY} || ({not_sip}))"))
    }

    fn show(&self, filter: &str) -> Vec<String> {
        let file: PathBuf = self.directory.path().join("packets");
        let mut command = Command::new("tshark");
        command.arg("-r").arg(file).args(["-n", "-Y", filter, "-T", "fields"]);
        for port in &self.ports {
            for transport in ["udp", "tcp"] {
                command.args(["-d", &format!("{transport}.port=={port},sip")]);
            }
        }
        for field in ["frame.number", "_ws.col.Protocol", "_ws.col.Info", "_ws.expert.message"] {
            command.args(["-e", field]);
        }
        let output = run(&mut command);
        let why = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "tshark: {why}");
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect()
    }
}
