//! A simulated UCServer in a process of its own, led by its control lines.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::{FRONTDOOR, Namespace, PATIENCE, Process, now, released};

/// OPTIONS a second in a round: fast, and no flood.
const PINGS_PER_SECOND: u32 = 3_000;

/// A round ends with the last transaction, and an unanswered one takes 32 s (RFC 3261 timer F).
const PING_PATIENCE: Duration = Duration::from_secs(60);

/// When each address-of-record was last reached by a server, in nanoseconds.
type Reached = Arc<Mutex<HashMap<String, u64>>>;

/// The child; dropping it kills it.
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) sip: SocketAddr,
    /// Where it speaks UCSAP, if it does.
    pub(crate) clients: Option<SocketAddr>,
    /// Where its WebService is, if it has one.
    pub(crate) web: Option<SocketAddr>,
    process: Process,
    commands: ChildStdin,
    news: Receiver<Value>,
    reached: Reached,
}

impl Server {
    /// A healthy server, as soon as it listens.
    pub(crate) fn start(name: &str, sip: SocketAddr) -> Self {
        Self::launch(name, sip, Command::new(FRONTDOOR), &[])
    }

    /// One with further arguments.
    pub(crate) fn start_with(name: &str, sip: SocketAddr, arguments: &[&str]) -> Self {
        Self::launch(name, sip, Command::new(FRONTDOOR), arguments)
    }

    /// One as built for release.
    pub(crate) fn start_released(name: &str, sip: SocketAddr) -> Self {
        Self::launch(name, sip, Command::new(released()), &[])
    }

    /// One in a network namespace.
    pub(crate) fn start_in(namespace: &Namespace, name: &str, sip: SocketAddr) -> Self {
        Self::launch(name, sip, namespace.command(FRONTDOOR), &[])
    }

    fn launch(name: &str, sip: SocketAddr, mut command: Command, arguments: &[&str]) -> Self {
        // Who serves clients serves them over HTTP, too.
        let any = SocketAddr::new(sip.ip(), 0).to_string();
        let is_wanted = arguments.contains(&"--clients") && !arguments.contains(&"--web");
        let web = is_wanted.then_some(["--web", &any]).into_iter().flatten();
        command
            .args(["ucserver", "--until-stdin-ends", "--name", name])
            .args(["--sip", &sip.to_string()])
            .args(arguments)
            .args(web)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Process::start(&mut command);
        let (stdout, commands) = (process.take_stdout(), process.take_stdin());
        let (tell, news) = channel();
        let reached = Reached::default();
        let seen = Arc::clone(&reached);
        std::thread::spawn(move || listen(stdout, &seen, &tell));
        let (name, clients, web) = (name.to_owned(), None, None);
        let mut server = Self { name, sip, clients, web, process, commands, news, reached };
        let ready = server.next("ready", PATIENCE);
        let address = |key: &str| ready[key].as_str().map(|address| address.parse().unwrap());
        server.sip = address("sip").unwrap();
        server.clients = address("clients");
        server.web = address("web");
        server
    }

    /// SIGKILL; when that was.
    pub(crate) fn kill(&mut self) -> u64 {
        let at = now().as_nanos();
        self.process.kill();
        at
    }

    pub(crate) fn signal(&self, signal: Signal) {
        self.process.signal(signal);
    }

    /// Puts it in a mood, by its name.
    pub(crate) fn mood(&mut self, mood: &str) {
        self.ask(&json!({ "mood": mood }), "mood");
    }

    /// Sends OPTIONS to one phone; see [`Server::reached`].
    pub(crate) fn ping(&mut self, aor: &str, contact: &str) {
        self.tell(&json!({"ping": {"aor": aor, "contact": contact}}));
    }

    /// Registrations it holds.
    pub(crate) fn registrations(&mut self) -> u64 {
        self.ask(&json!({"bindings": {}}), "bindings")["registrations"].as_u64().unwrap()
    }

    /// One of its counters.
    pub(crate) fn count(&mut self, counter: &str) -> u64 {
        self.ask(&json!({"stats": {}}), "stats")[counter].as_u64().unwrap()
    }

    /// Sends OPTIONS to every phone it knows, along the Path it was told, and gives the outcome.
    pub(crate) fn ping_all(&mut self) -> Round {
        let command = json!({"ping_all": {"per_second": PINGS_PER_SECOND}});
        self.tell(&command);
        let outcome = self.next("ping_all_done", PING_PATIENCE);
        let count = |key: &str| outcome[key].as_u64().unwrap();
        let first = outcome["first_unreached"].as_array().unwrap();
        let why = first.iter().map(|one| one["why"].as_str().unwrap().to_owned()).collect();
        Round { reached: count("reached"), unreached: count("unreached"), why }
    }

    /// Whose phones it has ever reached.
    pub(crate) fn reached(&self) -> Vec<String> {
        self.reached.lock().unwrap().keys().cloned().collect()
    }

    /// Sends a control line and waits for the answer of this kind.
    pub(crate) fn ask(&mut self, command: &Value, key: &str) -> Value {
        self.tell(command);
        self.next(key, PATIENCE)
    }

    /// The next line of a kind that comes by itself.
    pub(crate) fn told(&self, key: &str) -> Value {
        self.next(key, PATIENCE)
    }

    fn tell(&mut self, command: &Value) {
        writeln!(self.commands, "{command}").unwrap();
    }

    /// The next line of a kind; the test has failed if the server has trouble or is too slow.
    fn next(&self, key: &str, patience: Duration) -> Value {
        let deadline = now() + patience;
        loop {
            let line = self.news.recv_timeout(deadline.since(now())).unwrap_or_else(|error| {
                panic!("{} said no {key} line within {patience:?}: {error}", self.name)
            });
            for trouble in ["error", "lost"] {
                assert!(line[trouble].is_null(), "{} has trouble: {line}", self.name);
            }
            if !line[key].is_null() {
                return line[key].clone();
            }
        }
    }
}

/// How a round of pings ended.
#[derive(Debug)]
pub(crate) struct Round {
    pub(crate) reached: u64,
    pub(crate) unreached: u64,
    /// Of the first hundred that were not reached.
    pub(crate) why: Vec<String>,
}

fn listen(stdout: ChildStdout, reached: &Mutex<HashMap<String, u64>>, tell: &Sender<Value>) {
    for line in BufReader::new(stdout).lines() {
        let Ok(line) = line else { return };
        let line: Value = serde_json::from_str(&line).unwrap();
        if let Some(some) = line["reached"].as_array() {
            let mut reached = reached.lock().unwrap();
            for one in some {
                let aor = one["aor"].as_str().unwrap().to_owned();
                reached.insert(aor, one["at_nanos"].as_u64().unwrap());
            }
        } else if tell.send(line).is_err() {
            return;
        }
    }
}
