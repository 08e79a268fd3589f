//! Kamailio as one of the UCServers: a registrar and proxy that somebody else has written.

use std::fs::OpenOptions;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Group, PATIENCE, now, soon, within};

/// How long it may take to answer one question: far less than a second, unless it starts.
const RPC_PATIENCE: Duration = Duration::from_secs(2);

/// RFC 3261 §17.1.2.2, for what is sent to it here.
const REPEAT_AFTER: Duration = Duration::from_millis(500);

/// A Kamailio; dropping it kills it.
pub(crate) struct Kamailio {
    pub(crate) name: String,
    pub(crate) sip: SocketAddr,
    defines: Vec<String>,
    directory: TempDir,
    running: Option<Group>,
}

/// A contact in its `usrloc`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Located {
    pub(crate) aor: String,
    pub(crate) contact: String,
    /// As it stands in the header.
    pub(crate) path: Option<String>,
    /// In thousandths; the configuration's default is 500.
    pub(crate) q: u32,
    /// Seconds that are left.
    pub(crate) expires: i64,
    pub(crate) call_id: String,
    pub(crate) instance: Option<String>,
}

impl Kamailio {
    /// A registrar that keeps Paths and believes everybody, as soon as it listens.
    pub(crate) fn start(name: &str, sip: SocketAddr) -> Self {
        Self::start_with(name, sip, &["WITH_PATH"])
    }

    /// One with these defines; `fixtures/kamailio/registrar.cfg` says which there are.
    pub(crate) fn start_with(name: &str, sip: SocketAddr, defines: &[&str]) -> Self {
        let mut kamailio = Self {
            name: name.to_owned(),
            sip,
            defines: defines.iter().map(|&define| define.to_owned()).collect(),
            directory: tempfile::tempdir().unwrap(),
            running: None,
        };
        kamailio.restart();
        kamailio
    }

    /// Starts it again where it was; what it knew is gone.
    pub(crate) fn restart(&mut self) {
        self.launch();
        let answers = within(PATIENCE, || self.rpc("core.uptime", &json!([])));
        assert!(answers.is_some(), "{} does not start:\n{}", self.name, self.log());
    }

    fn launch(&mut self) {
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/kamailio/registrar.cfg");
        let directory = self.directory.path();
        let rpc = format!("RPC=\"{}\"", directory.join("rpc.sock").display());
        let log = OpenOptions::new().create(true).append(true).open(directory.join("log")).unwrap();
        let mut command = Group::command("kamailio");
        command
            .args(["-DD", "-E", "-m", "64", "-M", "8"])
            .arg("-f")
            .arg(config)
            .arg("-Y")
            .arg(directory)
            .arg("-w")
            .arg(directory)
            .args(["-A", &rpc, "-A", &format!("ADDRESS={}", self.sip)])
            .args(self.defines.iter().flat_map(|define| ["-A", define.as_str()]))
            .stdout(Stdio::null())
            .stderr(log);
        self.running = Some(Group::start(&mut command));
    }

    /// SIGKILL to all its processes; when that was.
    pub(crate) fn kill(&mut self) -> u64 {
        let at = now().as_nanos();
        // The last of them to go closes its sockets.
        drop(self.running.take().unwrap());
        soon(&format!("{} is gone", self.name), || UdpSocket::bind(self.sip).ok());
        at
    }

    /// Stops all its processes, which keep what they know, or lets them go on.
    pub(crate) fn freeze(&self, frozen: bool) {
        let signal = if frozen { Signal::SIGSTOP } else { Signal::SIGCONT };
        self.running.as_ref().unwrap().signal(signal);
    }

    /// What its `usrloc` holds, sorted.
    pub(crate) fn located(&self) -> Vec<Located> {
        let dump = self.rpc("ul.dump", &json!([])).unwrap_or_else(|| self.silent("ul.dump"));
        let mut located = Vec::new();
        for domain in dump["Domains"].as_array().unwrap() {
            for aor in domain["Domain"]["AoRs"].as_array().into_iter().flatten() {
                let aor = &aor["Info"];
                for contact in aor["Contacts"].as_array().into_iter().flatten() {
                    located.push(Located::read(&aor["AoR"], &contact["Contact"]));
                }
            }
        }
        located.sort();
        located
    }

    /// What its `usrloc` holds of one user of `wire.example`.
    pub(crate) fn located_of(&self, user: &str) -> Vec<Located> {
        let aor = format!("{user}@wire.example");
        self.located().into_iter().filter(|located| located.aor == aor).collect()
    }

    /// REGISTERs it has received in this life, those it challenged included.
    pub(crate) fn registers(&self) -> u64 {
        self.statistic("core.rcv_requests_register")
    }

    /// REGISTERs that changed something, or kept it.
    pub(crate) fn accepted(&self) -> u64 {
        self.statistic("registrar.accepted_regs")
    }

    /// OPTIONS it has received in this life.
    pub(crate) fn options(&self) -> u64 {
        self.statistic("core.rcv_requests_options")
    }

    /// How many contacts it holds, also where they are more than a dump can show.
    pub(crate) fn registrations(&self) -> u64 {
        self.statistic("usrloc.location_contacts")
    }

    fn statistic(&self, name: &str) -> u64 {
        let figures = self.rpc("stats.fetch", &json!(["all"]));
        let figures = figures.unwrap_or_else(|| self.silent("stats.fetch"));
        let figure = figures[name].as_str();
        figure.unwrap_or_else(|| panic!("no {name} in {figures}")).parse().unwrap()
    }

    /// Somebody sends an OPTIONS for this user to Kamailio, which looks them up and sends it on to
    /// their phone, through the door: the final answer's status.
    pub(crate) fn reach(&self, user: &str) -> u16 {
        let caller = UdpSocket::bind((self.sip.ip(), 0)).unwrap();
        caller.set_read_timeout(Some(REPEAT_AFTER)).unwrap();
        let local = caller.local_addr().unwrap();
        let request = format!(
            "OPTIONS sip:{user}@wire.example SIP/2.0\r\n\
             Via: SIP/2.0/UDP {local};branch=z9hG4bK-{user};rport\r\n\
             Max-Forwards: 70\r\nFrom: <sip:caller@wire.example>;tag=caller\r\n\
             To: <sip:{user}@wire.example>\r\nCall-ID: {user}-{local}\r\nCSeq: 1 OPTIONS\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let mut buffer = vec![0; 65_536];
        soon(&format!("{} answers for {user}", self.name), || {
            caller.send_to(request.as_bytes(), self.sip).unwrap();
            loop {
                let octets = caller.recv(&mut buffer).ok()?;
                let answer = std::str::from_utf8(&buffer[..octets]).unwrap();
                let status: u16 = answer.strip_prefix("SIP/2.0 ").unwrap()[..3].parse().unwrap();
                if status >= 200 {
                    return Some(status);
                }
            }
        })
    }

    /// What it has said on its standard error.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    /// Calls a method of its JSON-RPC interface; nothing if it does not answer.
    fn rpc(&self, method: &str, params: &Value) -> Option<Value> {
        let ours =
            tempfile::Builder::new().prefix("ask").tempdir_in(self.directory.path()).unwrap();
        let socket = UnixDatagram::bind(ours.path().join("sock")).unwrap();
        socket.set_read_timeout(Some(RPC_PATIENCE)).unwrap();
        let call = json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1});
        let there = self.directory.path().join("rpc.sock");
        socket.send_to(call.to_string().as_bytes(), there).ok()?;
        let mut buffer = vec![0; 1 << 20];
        let octets = socket.recv(&mut buffer).ok()?;
        let answer: Value = serde_json::from_slice(&buffer[..octets]).unwrap();
        assert!(answer["error"].is_null(), "{} on {method}: {answer}", self.name);
        Some(answer["result"].clone())
    }

    fn silent(&self, method: &str) -> ! {
        panic!("{} does not answer {method}; its log:\n{}", self.name, self.log())
    }
}

impl Located {
    fn read(aor: &Value, contact: &Value) -> Self {
        let text = |key: &str| contact[key].as_str().unwrap().to_owned();
        let set = |key: &str| Some(text(key)).filter(|value| value != "[not set]");
        // -1: it was not told.
        let q = contact["Q"].as_f64().unwrap() * 1_000.0;
        Self {
            aor: aor.as_str().unwrap().to_owned(),
            contact: text("Address"),
            path: set("Path"),
            q: format!("{q:.0}").parse().unwrap(),
            expires: contact["Expires"].as_i64().unwrap_or(0),
            call_id: text("Call-ID"),
            instance: set("Instance"),
        }
    }
}
