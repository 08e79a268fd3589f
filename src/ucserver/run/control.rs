//! The control lines: one JSON object a line, commands on standard input, news on standard output.
//!
//! | on stdin | on stdout |
//! |---|---|
//! | | `{"ready":{"name","sip","clients","web","health","boot_id","pid","udp_buffer_bytes"}}` once |
//! | `{"mood":"hung"}` ([`Mood::from_name`]) | `{"mood":{"is","boot_id"}}` |
//! | `{"ping":{"aor","contact"}}` | one of the two below |
//! | | `{"reached":[{"aor","contact","at_nanos","since_registered_nanos"}…]}` |
//! | | `{"unreached":[{"aor","contact","at_nanos","why"}…]}` |
//! | | `{"logged_in":[{"user","at_nanos"}…]}`: clients |
//! | `{"ping_all":{"per_second":500}}` | `{"ping_all_done":{"reached","unreached","first_unreached":[…]}}` |
//! | `{"stats":{}}` | `{"stats":{…}}` |
//! | `{"bindings":{}}` | `{"bindings":{"users","registrations"}}` |
//! | `{"clients":{}}` | `{"clients":{"connections","users","logins","monitors","subscriptions","calls",…}}` |
//! | `{"calls":{}}` | `{"calls":[{"call","line","number","state"}…]}`, the first 500 |
//! | `{"ring":{"line","number"}}`: somebody calls that line | `{"rung":{"call"}}` |
//! | `{"hang_up":{"call"}}` | `{"hung_up":{"call"}}` |
//! | `{"set_line":{"user","line","is_there"}}` | `{"line_set":{…}}` |
//! | `{"expire_tokens":{}}` | `{"tokens_expired":{}}` |
//! | `{"belongs":{"user","home"}}`: `host:port`, `unknown` or, for here, null | `{"belongs":{"user"}}` |
//! | what cannot be done | `{"error":"…"}` |
//! | | `{"lost":{"events","lines"}}` if the reader is too slow |
//!
//! Points in time are nanoseconds of `CLOCK_MONOTONIC`.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, BufRead as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::{self, JoinHandle};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::ucserver::clients::{CallView, ClientHome, ClientsView};
use crate::ucserver::journal::{Counters, Event, Journal};
use crate::ucserver::mood::Mood;
use crate::ucserver::outbound::PingAllResult;
use crate::ucserver::run::Listen;
use crate::ucserver::run::web::WebCounts;
use crate::ucserver::run::wire::Wire;
use crate::ucserver::server::UcServer;

/// Lines that may wait for the reader; more are lost, and counted.
const LINES: usize = 4096;

/// Happenings in one line.
const PER_LINE: usize = 500;

/// What the parent process wants.
#[derive(Debug)]
pub(super) enum Command {
    Mood(Mood),
    Ping {
        aor: String,
        contact: String,
    },
    PingAll {
        per_second: u32,
    },
    Stats,
    Bindings,
    Clients,
    Calls,
    Ring {
        line: String,
        number: String,
    },
    HangUp {
        call: String,
    },
    SetLine {
        user: String,
        line: String,
        is_there: bool,
    },
    ExpireTokens,
    Belongs {
        user: String,
        home: Option<ClientHome>,
    },
    /// A line that is no command, and why.
    Unreadable(String),
}

/// Writes the lines; dropping it waits until they are out.
pub(super) struct Control {
    lines: Option<SyncSender<String>>,
    lost: Arc<AtomicU64>,
    writer: Option<JoinHandle<()>>,
}

/// How far the journal has been told.
#[derive(Debug, Default)]
pub(super) struct Told {
    until: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Spoken {
    Mood(String),
    Ping { aor: String, contact: String },
    PingAll { per_second: u32 },
    Stats {},
    Bindings {},
    Clients {},
    Calls {},
    Ring { line: String, number: String },
    HangUp { call: String },
    SetLine { user: String, line: String, is_there: bool },
    ExpireTokens {},
    Belongs { user: String, home: Option<String> },
}

impl Control {
    /// Starts the two threads that wait for the standard streams.
    pub(super) fn start() -> (Self, UnboundedReceiver<Command>) {
        let (commands, receiver) = unbounded_channel();
        thread::spawn(move || read(&commands));
        let (lines, to_write) = sync_channel(LINES);
        let writer = thread::spawn(move || write(&to_write));
        let control = Self { lines: Some(lines), lost: Arc::default(), writer: Some(writer) };
        (control, receiver)
    }

    pub(super) fn ready(&self, server: &UcServer, wire: &Wire, listen: &Listen) {
        let written = |address: Option<SocketAddr>| address.map(|address| address.to_string());
        self.say(&json!({"ready": {
            "name": server.name(),
            "sip": wire.sip().to_string(),
            "clients": written(listen.clients),
            "web": written(listen.web),
            "health": written(listen.health),
            "boot_id": server.boot_id(),
            "pid": std::process::id(),
            "udp_buffer_bytes": wire.udp_buffer_bytes(),
        }}));
    }

    pub(super) fn mood(&self, mood: Mood, boot_id: &str) {
        self.say(&json!({"mood": {"is": mood.name(), "boot_id": boot_id}}));
    }

    pub(super) fn error(&self, why: &str) {
        self.say(&json!({"error": why}));
    }

    pub(super) fn stats(&self, server: &UcServer, wire: Option<&Wire>) {
        let mut stats = counters(server.journal().counters());
        if let Value::Object(stats) = &mut stats {
            stats.insert("mood".into(), server.mood().name().into());
            stats.insert("boot_id".into(), server.boot_id().into());
            stats.insert("users".into(), server.users_logged_in().into());
            stats.insert("registrations".into(), server.registrations().into());
            stats.insert("unsent".into(), wire.map_or(0, Wire::unsent).into());
        }
        self.say(&json!({"stats": stats}));
    }

    pub(super) fn bindings(&self, server: &UcServer) {
        let (users, registrations) = (server.users_logged_in(), server.registrations());
        self.say(&json!({"bindings": {"users": users, "registrations": registrations}}));
    }

    /// How many of everything there are.
    pub(super) fn clients(&self, clients: ClientsView<'_>, journal: &Journal, web: WebCounts) {
        let mut subscriptions: BTreeMap<i64, u64> = BTreeMap::new();
        for subscription in clients.subscriptions() {
            *subscriptions.entry(subscription.operation.0).or_default() += 1;
        }
        let counters = &journal.counters().clients;
        self.say(&json!({"clients": {
            "connections": clients.connections(),
            "users": clients.users(),
            "logins": clients.logins().count(),
            "monitors": clients.monitors().count(),
            "subscriptions": subscriptions,
            "calls": clients.calls().count(),
            "dialled": counters.dialled,
            "messages": counters.messages,
            "events": counters.events,
            "logins_ever": counters.logins,
            "logins_refused": counters.logins_refused,
            "redirected": counters.redirected,
            "busy": counters.busy,
            "errors": counters.errors,
            "rejects": counters.rejects,
            "idle": counters.idle,
            "turned_away": counters.turned_away,
            "unreadable": counters.unreadable,
            "stray": counters.stray,
            "keep_alives": counters.keep_alives,
            "web_sessions": web.sessions,
            "web_sockets": web.sockets,
            "web_events_dropped": web.events_dropped,
        }}));
    }

    pub(super) fn calls(&self, clients: ClientsView<'_>) {
        let one = |call: CallView<'_>| {
            let CallView { id, line, number, state, .. } = call;
            json!({"call": id, "line": line, "number": number, "state": state})
        };
        let calls: Vec<Value> = clients.calls().take(PER_LINE).map(one).collect();
        self.say(&json!({"calls": calls}));
    }

    /// What became of a command.
    pub(super) fn acted<E: fmt::Display>(&self, what: &str, outcome: Result<Value, E>) {
        match outcome {
            Ok(outcome) => self.say(&json!({what: outcome})),
            Err(why) => self.error(&why.to_string()),
        }
    }

    pub(super) fn ping_all_done(&self, result: &PingAllResult) {
        let first: Vec<Value> = result
            .first_unreached
            .iter()
            .map(|(aor, contact, why)| {
                json!({"aor": &**aor, "contact": &**contact, "why": why.to_string()})
            })
            .collect();
        self.say(&json!({"ping_all_done": {
            "reached": result.reached,
            "unreached": result.unreached,
            "first_unreached": first,
        }}));
    }

    fn say(&self, line: &Value) {
        let Some(lines) = &self.lines else { return };
        let lost = self.lost.load(Ordering::Relaxed);
        if lost > 0 && lines.try_send(format!("{{\"lost\":{{\"lines\":{lost}}}}}\n")).is_ok() {
            self.lost.fetch_sub(lost, Ordering::Relaxed);
        }
        match lines.try_send(format!("{line}\n")) {
            Ok(()) | Err(TrySendError::Disconnected(_)) => {}
            Err(TrySendError::Full(_)) => {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.lines = None;
        if let Some(writer) = self.writer.take() {
            // If it died, there is nothing left to wait for.
            let _ = writer.join();
        }
    }
}

impl Told {
    pub(super) const fn is_behind(&self, journal: &Journal) -> bool {
        self.until < journal.written()
    }

    /// Tells what phones were reached, and which not, and what clients logged in, since the last
    /// time.
    pub(super) fn tell(&mut self, control: &Control, journal: &Journal) {
        let (lost, entries) = journal.since(self.until);
        if lost > 0 {
            control.say(&json!({"lost": {"events": lost}}));
        }
        let (mut reached, mut unreached, mut logged_in) = (Vec::new(), Vec::new(), Vec::new());
        for entry in entries {
            let at_nanos = entry.at.as_nanos();
            match &entry.event {
                Event::Reached { aor, contact, since_registered } => reached.push(json!({
                    "aor": &**aor,
                    "contact": &**contact,
                    "at_nanos": at_nanos,
                    "since_registered_nanos": whole_nanos(*since_registered),
                })),
                Event::Unreached { aor, contact, why } => unreached.push(json!({
                    "aor": &**aor,
                    "contact": &**contact,
                    "at_nanos": at_nanos,
                    "why": why.to_string(),
                })),
                Event::LoggedIn { user, .. } => {
                    logged_in.push(json!({"user": &**user, "at_nanos": at_nanos}));
                }
                Event::Registered { .. }
                | Event::Removed { .. }
                | Event::Expired { .. }
                | Event::Refused { .. }
                | Event::LoggedOff { .. }
                | Event::Dialled { .. }
                | Event::MoodSet(_)
                | Event::Restarted => {}
            }
        }
        self.until = journal.written();
        for some in reached.chunks(PER_LINE) {
            control.say(&json!({"reached": some}));
        }
        for some in unreached.chunks(PER_LINE) {
            control.say(&json!({"unreached": some}));
        }
        for some in logged_in.chunks(PER_LINE) {
            control.say(&json!({"logged_in": some}));
        }
    }
}

fn whole_nanos(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn counters(counters: &Counters) -> Value {
    json!({
        "registers": counters.registers,
        "bindings_new": counters.bindings_new,
        "bindings_refreshed": counters.bindings_refreshed,
        "bindings_removed": counters.bindings_removed,
        "bindings_expired": counters.bindings_expired,
        "options": counters.options,
        "others": counters.others,
        "retransmissions": counters.retransmissions,
        "unreadable": counters.unreadable,
        "ignored": counters.ignored,
        "shed": counters.shed,
        "stray": counters.stray,
        "answers": counters.answers,
        "pings": counters.pings,
        "reached": counters.reached,
        "unreached": counters.unreached,
        "registers_per_second_peak": counters.registers_per_second_peak,
        "first_register_at_nanos": counters.first_register_at.map(|at| at.as_nanos()),
        "last_register_at_nanos": counters.last_register_at.map(|at| at.as_nanos()),
    })
}

fn read(commands: &UnboundedSender<Command>) {
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { return };
        if line.trim().is_empty() {
            continue;
        }
        if commands.send(command(&line)).is_err() {
            return;
        }
    }
}

fn command(line: &str) -> Command {
    match serde_json::from_str(line) {
        Ok(Spoken::Mood(name)) => Mood::from_name(&name).map_or_else(
            || Command::Unreadable(format!("there is no mood {name:?}")),
            Command::Mood,
        ),
        Ok(Spoken::Ping { aor, contact }) => Command::Ping { aor, contact },
        Ok(Spoken::PingAll { per_second }) => Command::PingAll { per_second },
        Ok(Spoken::Stats {}) => Command::Stats,
        Ok(Spoken::Bindings {}) => Command::Bindings,
        Ok(Spoken::Clients {}) => Command::Clients,
        Ok(Spoken::Calls {}) => Command::Calls,
        Ok(Spoken::Ring { line, number }) => Command::Ring { line, number },
        Ok(Spoken::HangUp { call }) => Command::HangUp { call },
        Ok(Spoken::SetLine { user, line, is_there }) => Command::SetLine { user, line, is_there },
        Ok(Spoken::ExpireTokens {}) => Command::ExpireTokens,
        Ok(Spoken::Belongs { user, home }) => {
            let home = home.map(|home| match &*home {
                "unknown" => ClientHome::Unknown,
                _ => ClientHome::At(home),
            });
            Command::Belongs { user, home }
        }
        Err(why) => Command::Unreadable(format!("not a command: {why}: {line}")),
    }
}

fn write(lines: &Receiver<String>) {
    let mut out = io::stdout().lock();
    while let Ok(line) = lines.recv() {
        let written = out.write_all(line.as_bytes()).and_then(|()| out.flush());
        if written.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_is_understood() {
        assert!(matches!(command(r#"{"mood":"hung"}"#), Command::Mood(Mood::Hung)));
        assert!(matches!(
            command(r#"{"ping_all":{"per_second":500}}"#),
            Command::PingAll { per_second: 500 }
        ));
        assert!(matches!(
            command(r#"{"ping":{"aor":"sip:a@b","contact":"sip:a@192.0.2.1"}}"#),
            Command::Ping { .. }
        ));
        assert!(matches!(command(r#"{"stats":{}}"#), Command::Stats));
        assert!(matches!(command(r#"{"bindings":{}}"#), Command::Bindings));
        assert!(matches!(command(r#"{"clients":{}}"#), Command::Clients));
        assert!(matches!(command(r#"{"calls":{}}"#), Command::Calls));
        assert!(matches!(
            command(r#"{"ring":{"line":"tel:1@pbx","number":"2"}}"#),
            Command::Ring { .. }
        ));
        assert!(matches!(command(r#"{"hang_up":{"call":"c"}}"#), Command::HangUp { .. }));
        assert!(matches!(
            command(r#"{"set_line":{"user":"a","line":"tel:1@pbx","is_there":true}}"#),
            Command::SetLine { is_there: true, .. }
        ));
        assert!(matches!(command(r#"{"expire_tokens":{}}"#), Command::ExpireTokens));
        assert!(matches!(
            command(r#"{"belongs":{"user":"a","home":"unknown"}}"#),
            Command::Belongs { home: Some(ClientHome::Unknown), .. }
        ));
        assert!(matches!(
            command(r#"{"belongs":{"user":"a","home":null}}"#),
            Command::Belongs { home: None, .. }
        ));
    }

    #[test]
    fn what_is_no_command_says_why() {
        for line in [r#"{"mood":"cheerful"}"#, r#"{"dance":{}}"#, "junk", r#"{"ping_all":{}}"#] {
            assert!(matches!(command(line), Command::Unreadable(_)), "{line}");
        }
    }
}
