//! Node: a client of the WebService on the WebSockets of the package `ws`.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};

use frontdoor::ucserver::ClientSettings;
use serde_json::{Value, json};

use crate::harness::{PATIENCE, Process, Secret, now, target};

/// The child; dropping it kills it.
pub(crate) struct Node {
    process: Process,
    wishes: Option<ChildStdin>,
    news: Receiver<Value>,
}

impl Node {
    /// A client that logs in where this controller sends it.
    pub(crate) fn start(user: &str, controller: SocketAddr) -> Self {
        Self::launch(user, &format!("http://{controller}"), Command::new("node"))
    }

    /// The same by TLS.
    pub(crate) fn start_trusting(secret: &Secret, user: &str, controller: SocketAddr) -> Self {
        let mut command = Command::new("node");
        command.env("NODE_EXTRA_CA_CERTS", secret.chain());
        Self::launch(user, &format!("https://{controller}"), command)
    }

    fn launch(user: &str, controller: &str, mut command: Command) -> Self {
        let packages = target().join("clients");
        let ws = packages.join("node_modules/ws");
        assert!(ws.is_dir(), "{} is not installed: tests/run installs it", ws.display());
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire/clients/session.mjs");
        command
            .arg(script)
            .args([controller, user, &ClientSettings::password_of(user)])
            .env("NODE_CLIENTS", packages)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = Process::start(&mut command);
        let (stdout, wishes) = (process.take_stdout(), process.take_stdin());
        let (tell, news) = channel();
        std::thread::spawn(move || listen(stdout, &tell));
        Self { process, wishes: Some(wishes), news }
    }

    /// Calls an operation; its answer.
    pub(crate) fn ask(&self, operation: &str, argument: &Value) -> Value {
        let wish = json!({"operation": operation, "argument": argument});
        writeln!(self.wishes.as_ref().unwrap(), "{wish}").unwrap();
        self.told("answer")
    }

    /// The next line of this kind. Of the others none may be missed: only that it has kept alive is.
    pub(crate) fn told(&self, key: &str) -> Value {
        let deadline = now() + PATIENCE;
        loop {
            let line = self.news.recv_timeout(deadline.since(now())).unwrap_or_else(|error| {
                panic!("Node said no {key} line within {PATIENCE:?}: {error}")
            });
            if let Some(value) = line.get(key) {
                return value.clone();
            }
            assert!(line.get("kept_alive").is_some(), "{line} and not {key}");
        }
    }

    /// It leaves when there is nothing more to ask; its exit code.
    pub(crate) fn leave(mut self) -> Option<i32> {
        drop(self.wishes.take());
        assert_eq!(self.told("closed"), 1_000);
        self.process.ended(PATIENCE).unwrap().code()
    }
}

fn listen(stdout: ChildStdout, tell: &Sender<Value>) {
    for line in BufReader::new(stdout).lines() {
        let Ok(line) = line else { return };
        if tell.send(serde_json::from_str(&line).unwrap()).is_err() {
            return;
        }
    }
}
