//! The demo's child processes: simulated servers and the door, and what they say.
//!
//! A child ends when its standard input does, so none outlives the demo, however that ends.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use serde::Deserialize;

use crate::cli::demo::DemoError;
use crate::cli::demo::report::Server;
use crate::cli::demo::stage::Place;
use crate::door::Status;
use crate::net::Clock;

/// How long the children may take to end by themselves.
const END_PATIENCE: Duration = Duration::from_secs(2);

/// Something the demo waits for.
#[derive(Debug)]
pub(super) enum News {
    /// A server listens.
    Ready { server: Server, sip: SocketAddr, clients: Option<SocketAddr> },
    /// Phones answered a server's OPTIONS.
    Reached { server: Server, sightings: Vec<Sighting> },
    /// A server let clients in.
    LoggedIn { server: Server, logins: Vec<Login> },
    /// A server has pinged all its bindings.
    PingAllDone,
    /// A server could not do what it was told, or lost lines because the demo was slow.
    Trouble { server: Server, what: String },
    /// A server's output ended.
    Gone { server: Server },
    /// The door's picture of itself.
    Status(Box<Status>),
    /// Ctrl-C, or SIGTERM.
    Interrupted,
}

/// One phone that answered.
#[derive(Debug, Deserialize)]
pub(super) struct Sighting {
    pub(super) aor: String,
    pub(super) at_nanos: u64,
}

/// One client that was let in.
#[derive(Debug, Deserialize)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) at_nanos: u64,
}

/// A line of a simulated server.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Line {
    ready: Option<Ready>,
    reached: Option<Vec<Sighting>>,
    logged_in: Option<Vec<Login>>,
    ping_all_done: Option<serde::de::IgnoredAny>,
    error: Option<String>,
    lost: Option<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
struct Ready {
    sip: SocketAddr,
    clients: Option<SocketAddr>,
}

/// The children that run.
#[derive(Debug, Default)]
pub(super) struct Processes {
    servers: Vec<ServerProcess>,
    door: Option<DoorProcess>,
}

#[derive(Debug)]
struct ServerProcess {
    child: Child,
    /// `None` once it was killed.
    commands: Option<ChildStdin>,
}

#[derive(Debug)]
struct DoorProcess {
    child: Child,
    stdin: Option<ChildStdin>,
}

impl Processes {
    /// Starts the next simulated server; it is numbered by the order of starts. One that serves
    /// clients tells each of its line so often.
    pub(super) fn start_server(
        &mut self,
        name: &str,
        line_events: Option<Duration>,
        log: &Path,
        news: SyncSender<News>,
    ) -> Result<(), DemoError> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let clients = line_events.map(|_| any);
        let at = Place { name: name.to_owned(), sip: any, clients };
        let process = server_process(self.servers.len(), &at, line_events, log, news)?;
        self.servers.push(process);
        Ok(())
    }

    /// Starts a killed one anew where it was; when that was, on the clock all share.
    pub(super) fn start_again(
        &mut self,
        server: Server,
        at: &Place,
        line_events: Option<Duration>,
        log: &Path,
        news: SyncSender<News>,
    ) -> Result<u64, DemoError> {
        let process = server_process(server, at, line_events, log, news)?;
        if let Some(place) = self.servers.get_mut(server) {
            *place = process;
        }
        Ok(Clock.uptime().as_nanos())
    }

    /// Starts the door.
    pub(super) fn start_door(&mut self, config: &Path, log: &Path) -> Result<(), DemoError> {
        let config = config.to_string_lossy();
        let mut child = start(&["run", "--config", &config, "--exit-with-stdin"], log)?;
        let stdin = child.stdin.take();
        self.door = Some(DoorProcess { child, stdin });
        Ok(())
    }

    /// Whether the door has ended by itself.
    pub(super) fn door_ended(&mut self) -> bool {
        self.door.as_mut().is_some_and(|door| !matches!(door.child.try_wait(), Ok(None)))
    }

    /// SIGKILL; when that was, on the clock all share.
    pub(super) fn kill(&mut self, server: Server) -> Option<u64> {
        let server = self.servers.get_mut(server)?;
        let at_nanos = Clock.uptime().as_nanos();
        server.child.kill().ok()?;
        server.commands = None;
        let _status = server.child.wait();
        Some(at_nanos)
    }

    /// Every living server pings all its bindings; how many were told.
    pub(super) fn ping_all(&mut self, per_second: u32) -> usize {
        let line = format!("{{\"ping_all\":{{\"per_second\":{per_second}}}}}\n");
        let living = self.servers.iter_mut().filter_map(|server| server.commands.as_mut());
        living
            .map(|commands| commands.write_all(line.as_bytes()).and_then(|()| commands.flush()))
            .filter(Result::is_ok)
            .count()
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        let mut children: Vec<Child> = Vec::new();
        // Standard input ends here: the door stops first, then the servers.
        children.extend(self.door.take().map(|DoorProcess { child, stdin }| {
            drop(stdin);
            child
        }));
        children.extend(self.servers.drain(..).map(|ServerProcess { child, commands }| {
            drop(commands);
            child
        }));
        let patient_until = Clock.uptime() + END_PATIENCE;
        while children.iter_mut().any(|child| matches!(child.try_wait(), Ok(None)))
            && Clock.uptime() < patient_until
        {
            std::thread::park_timeout(Duration::from_millis(10));
        }
        for mut child in children {
            // Each may have ended already.
            let _ended = child.kill();
            let _status = child.wait();
        }
    }
}

/// A simulated server that tells its news under this number.
fn server_process(
    server: Server,
    at: &Place,
    line_events: Option<Duration>,
    log: &Path,
    news: SyncSender<News>,
) -> Result<ServerProcess, DemoError> {
    let (name, sip) = (&*at.name, at.sip.to_string());
    let clients = at.clients.map(|clients| clients.to_string());
    let every = line_events.map(|every| every.as_millis().to_string());
    let mut arguments =
        vec!["ucserver", "--name", name, "--sip", &sip, "--ping-new", "--until-stdin-ends"];
    if let (Some(clients), Some(every)) = (&clients, &every) {
        arguments.extend(["--clients", clients, "--line-events", every]);
    }
    let mut child = start(&arguments, log)?;
    let commands = child.stdin.take();
    if let Some(stdout) = child.stdout.take() {
        spawn("server news", move || listen(server, stdout, &news))?;
    }
    Ok(ServerProcess { child, commands })
}

/// This very program as a child: in a process group of its own, so that Ctrl-C reaches the demo
/// alone, which then ends its children in order.
fn start(arguments: &[&str], log: &Path) -> Result<Child, DemoError> {
    let system = |what| move |source| DemoError::System { what, source };
    let program = std::env::current_exe().map_err(system("this program cannot be found again"))?;
    let log = File::create(log).map_err(system("a log file cannot be made"))?;
    Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .process_group(0)
        .spawn()
        .map_err(system("a child process cannot be started"))
}

/// A thread of the demo.
pub(super) fn spawn(
    name: &'static str,
    body: impl FnOnce() + Send + 'static,
) -> Result<(), DemoError> {
    let started = std::thread::Builder::new().name(name.into()).spawn(body);
    started.map(drop).map_err(|source| DemoError::System { what: "no thread can be had", source })
}

/// Reads a server's lines until they end, or nobody wants news any more.
fn listen(server: Server, stdout: ChildStdout, news: &SyncSender<News>) {
    for line in BufReader::new(stdout).lines() {
        let Ok(line) = line else { break };
        for told in understand(server, &line) {
            if news.send(told).is_err() {
                return;
            }
        }
    }
    let _nobody = news.send(News::Gone { server });
}

fn understand(server: Server, line: &str) -> Vec<News> {
    let Line { ready, reached, logged_in, ping_all_done, error, lost } =
        match serde_json::from_str(line) {
            Ok(line) => line,
            Err(why) => {
                return vec![News::Trouble { server, what: format!("{why} in {line}") }];
            }
        };
    let mut news = Vec::new();
    news.extend(ready.map(|Ready { sip, clients }| News::Ready { server, sip, clients }));
    news.extend(reached.map(|sightings| News::Reached { server, sightings }));
    news.extend(logged_in.map(|logins| News::LoggedIn { server, logins }));
    news.extend(ping_all_done.map(|_| News::PingAllDone));
    news.extend(error.map(|what| News::Trouble { server, what }));
    news.extend(lost.map(|lost| News::Trouble { server, what: format!("lost {lost}") }));
    news
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_lines_are_understood() {
        let news = understand(
            1,
            r#"{"ready":{"name":"ucs2","sip":"127.0.0.1:5081","health":null,"boot_id":"x","pid":7}}"#,
        );
        assert!(
            matches!(news[..], [News::Ready { server: 1, sip, clients: None }] if sip.port() == 5081),
            "{news:?}"
        );
        let news = understand(
            0,
            r#"{"reached":[{"aor":"sip:a@b","contact":"sip:a@c","at_nanos":7,"since_registered_nanos":1}]}"#,
        );
        assert!(
            matches!(&news[..], [News::Reached { server: 0, sightings }]
                if sightings[0].aor == "sip:a@b" && sightings[0].at_nanos == 7),
            "{news:?}"
        );
        let news = understand(2, r#"{"logged_in":[{"user":"a@b","at_nanos":7}]}"#);
        assert!(
            matches!(&news[..], [News::LoggedIn { server: 2, logins }]
                if logins[0].user == "a@b" && logins[0].at_nanos == 7),
            "{news:?}"
        );
        let done = r#"{"ping_all_done":{"reached":5,"unreached":0,"first_unreached":[]}}"#;
        assert!(matches!(understand(0, done)[..], [News::PingAllDone]));
        let unreached = r#"{"unreached":[{"aor":"sip:a@b","contact":"c","at_nanos":7,"why":"x"}]}"#;
        assert!(understand(0, unreached).is_empty());
    }

    #[test]
    fn trouble_is_not_swallowed() {
        for line in [r#"{"error":"busy"}"#, r#"{"lost":{"lines":3}}"#, "panicked at"] {
            assert!(matches!(understand(0, line)[..], [News::Trouble { .. }]), "{line}");
        }
    }
}
