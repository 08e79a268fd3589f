//! baresip: a soft phone that somebody else has written, led and watched by its control port.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{LOCALHOST, PATIENCE, Process, aor, free, soon};

/// Where the package has its modules.
const MODULES: &str = "/usr/lib/baresip/modules";

/// What outlives a test that was killed itself ends by itself after so many seconds.
const LIFE: &str = "180";

/// It refreshes when so many percent of its lease are over.
const REFRESH_AT: u32 = 50;

/// One process, with a phone for each account; dropping it kills it.
pub(crate) struct Baresip {
    process: Process,
    control: TcpStream,
    events: Arc<Mutex<Vec<Value>>>,
    directory: TempDir,
}

impl Baresip {
    /// One without accounts, as soon as it can be led.
    pub(crate) fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let control = free(LOCALHOST);
        let config = format!(
            "sip_listen {}\nmodule_path {MODULES}\nmodule_app menu.so\nmodule_app ctrl_tcp.so\n\
             ctrl_tcp_listen {control}\n",
            two_ports(),
        );
        std::fs::write(directory.path().join("config"), config).unwrap();
        let log = File::create(directory.path().join("log")).unwrap();
        let mut command = Command::new("baresip");
        command
            .args(["-4", "-s", "-t", LIFE, "-f"])
            .arg(directory.path())
            .stdin(Stdio::null())
            .stderr(log.try_clone().unwrap())
            .stdout(log);
        let process = Process::start(&mut command);
        let read_log = || std::fs::read_to_string(log_of(&directory)).unwrap_or_default();
        let connect = || TcpStream::connect(control).ok();
        let control = crate::harness::within(PATIENCE, connect)
            .unwrap_or_else(|| panic!("baresip does not listen:\n{}", read_log()));
        let events = Arc::default();
        let (heard, stream) = (Arc::clone(&events), control.try_clone().unwrap());
        std::thread::spawn(move || listen(stream, &heard));
        Self { process, control, events, directory }
    }

    /// One more phone, which registers at once and goes on doing so.
    pub(crate) fn account(
        &mut self,
        user: &str,
        password: &str,
        transport: &str,
        door: SocketAddr,
    ) {
        let uri = match transport {
            "udp" => aor(user),
            other => format!("{};transport={other}", aor(user)),
        };
        let account = format!(
            "<{uri}>;auth_user={user};auth_pass={password};regint=60;rwait={REFRESH_AT};\
             outbound=\"sip:{door};transport={transport}\""
        );
        let command = json!({"command": "uanew", "params": account}).to_string();
        write!(self.control, "{}:{command},", command.len()).unwrap();
    }

    /// How often it has told this user that they are registered.
    pub(crate) fn registered(&self, user: &str) -> usize {
        self.told(user, "REGISTER_OK").len()
    }

    /// What it has told this user about registrations that failed.
    pub(crate) fn failures(&self, user: &str) -> Vec<String> {
        self.told(user, "REGISTER_FAIL")
    }

    /// Waits until it has told each of these users so many times more that they are registered.
    pub(crate) fn registers(&self, users: &[String], times: usize) {
        let before: Vec<usize> = users.iter().map(|user| self.registered(user)).collect();
        for (user, before) in users.iter().zip(before) {
            soon(&format!("{user} is registered {times} times more"), || {
                (self.registered(user) >= before + times).then_some(())
            });
        }
    }

    /// What it has written about registrations, as whoever looks at it sees it, without the SIP.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = self.log();
        let complains = |line: &&str| line.trim_start_matches("\u{1b}[31m").starts_with("reg:");
        log.lines().filter(complains).map(str::to_owned).collect()
    }

    /// What it has written, the SIP it has sent and received included.
    pub(crate) fn log(&self) -> String {
        let octets = std::fs::read(log_of(&self.directory)).unwrap();
        String::from_utf8_lossy(&octets).into_owned()
    }

    /// SIGTERM: it takes its leave of the registrar; its exit code.
    pub(crate) fn quit(mut self) -> Option<i32> {
        self.process.signal(Signal::SIGTERM);
        let ended = self.process.ended(PATIENCE);
        ended.unwrap_or_else(|| panic!("baresip does not end:\n{}", self.log())).code()
    }

    fn told(&self, user: &str, kind: &str) -> Vec<String> {
        let events = self.events.lock().unwrap();
        let user = aor(user);
        let its = events.iter().filter(|it| it["type"] == kind && it["accountaor"] == user);
        its.map(|event| event["param"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

fn log_of(directory: &TempDir) -> std::path::PathBuf {
    Path::join(directory.path(), "log")
}

/// It takes the port after that of SIP for TLS.
fn two_ports() -> SocketAddr {
    loop {
        let (first, second) = (free(LOCALHOST), free(LOCALHOST));
        if first.port() + 1 == second.port() {
            return first;
        }
    }
}

/// Netstrings with JSON in them, until it hangs up.
fn listen(stream: TcpStream, events: &Mutex<Vec<Value>>) {
    let mut stream = BufReader::new(stream);
    loop {
        let mut length = Vec::new();
        if !matches!(stream.read_until(b':', &mut length), Ok(octets) if octets > 1) {
            return;
        }
        let length = String::from_utf8(length).unwrap();
        let mut text = vec![0; length.trim_end_matches(':').parse::<usize>().unwrap() + 1];
        if stream.read_exact(&mut text).is_err() {
            return;
        }
        assert_eq!(text.pop(), Some(b','), "a netstring ends with a comma");
        events.lock().unwrap().push(serde_json::from_slice(&text).unwrap());
    }
}
