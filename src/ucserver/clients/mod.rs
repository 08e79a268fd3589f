//! What a simulated server does with clients that speak UCSAP: connections in, messages in, messages
//! out. Pure, like the rest of the machine.
//!
//! | file | story |
//! |---|---|
//! | `mod` | the surface: a message comes, an answer goes, and what the mood makes of both |
//! | `connections` | connections, and the sessions on them |
//! | `dispatch` | which operation is whose, and what an answer looks like |
//! | `argument`, `refusal` | what is read strictly; what is refused |
//! | `logins`, `tokens` | who is talking, who they are, what proves it |
//! | `lines`, `calls` | lines with their monitors; calls as time passes |
//! | `written` | what is told of lines and calls, as the interface writes it |
//! | `subscriptions` | what a client wants to be told for as long as its session lasts |
//! | `views` | what a test or an operator can see of all this |
//! | `settings` | how it is set up |

mod argument;
mod calls;
mod connections;
mod dispatch;
mod lines;
mod logins;
mod refusal;
mod settings;
mod subscriptions;
mod tokens;
mod views;
mod written;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::now::Uptime;
use crate::timers::Timers;
use crate::ucsap::{Envelope, Kind, Message, Operation, Style};
use crate::ucserver::clients::connections::{At, Connection, Session};
use crate::ucserver::clients::lines::Lines;
use crate::ucserver::clients::refusal::Refused;
use crate::ucserver::clients::tokens::Tokens;
use crate::ucserver::journal::{Event, Journal};
use crate::ucserver::mood::{Behaviour, Mood};
use crate::ucserver::settings::Settings;

pub use calls::CallRefused;
pub use settings::{ClientHome, ClientLimits, ClientSettings, ClientUser};
pub use views::{CallView, ClientsView, LoginView, MonitorView, SubscriptionView};

pub(in crate::ucserver) use dispatch::is_never_answered;
pub(in crate::ucserver) use settings::fnv;

/// What goes to clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ToClient {
    /// Send this.
    Send {
        /// On which connection.
        connection: u64,
        /// One whole message, with the header that frames it.
        bytes: Bytes,
    },
    /// From here on the connection is to speak TLS: a handshake follows.
    StartTls {
        /// Which connection.
        connection: u64,
    },
    /// Close it.
    Close {
        /// Which connection.
        connection: u64,
    },
}

/// What the clients' part of the machine is lent for one input.
pub(in crate::ucserver) struct Around<'a> {
    pub(in crate::ucserver) now: Uptime,
    pub(in crate::ucserver) wall: SystemTime,
    pub(in crate::ucserver) settings: &'a Settings,
    pub(in crate::ucserver) mood: Mood,
    pub(in crate::ucserver) behaviour: Behaviour,
    pub(in crate::ucserver) journal: &'a mut Journal,
}

/// All that is known of clients; lost in a restart.
#[derive(Debug)]
pub(in crate::ucserver) struct Clients {
    rng: fastrand::Rng,
    connections: BTreeMap<u64, Connection>,
    /// Sessions of each user who is logged in.
    users: BTreeMap<Arc<str>, usize>,
    tokens: Tokens,
    lines: Lines,
    idle: Timers<u64>,
    late: VecDeque<Late>,
    ready: VecDeque<ToClient>,
}

/// A message of a server that is slow.
#[derive(Debug)]
struct Late {
    at: Uptime,
    what: ToClient,
    /// The invoke it answers.
    settles: Option<i64>,
}

impl Around<'_> {
    fn delay(&self) -> Duration {
        match self.behaviour {
            Behaviour::Serve(delay) => delay,
            Behaviour::Answer(_) | Behaviour::Silent { .. } => Duration::ZERO,
        }
    }
}

impl Clients {
    /// Nobody is there. The same seed and inputs give the same outputs.
    pub(in crate::ucserver) fn new(seed: u64) -> Self {
        Self {
            rng: fastrand::Rng::with_seed(seed),
            connections: BTreeMap::new(),
            users: BTreeMap::new(),
            tokens: Tokens::default(),
            lines: Lines::new(!seed),
            idle: Timers::default(),
            late: VecDeque::new(),
            ready: VecDeque::new(),
        }
    }

    /// A client has connected. One that is beyond the limit is closed.
    pub(in crate::ucserver) fn opened(&mut self, around: &mut Around<'_>, connection: u64) {
        let limits = &around.settings.clients.limits;
        if self.connections.contains_key(&connection) {
            return;
        }
        if self.connections.len() >= limits.connections {
            around.journal.count().clients.turned_away += 1;
            self.ready.push_back(ToClient::Close { connection });
            return;
        }
        self.connections.insert(connection, Connection::new(around.now));
        self.idle.set(around.now + around.settings.clients.idle, connection);
    }

    /// A client's connection is gone, and all that was on it.
    pub(in crate::ucserver) fn closed(&mut self, around: &mut Around<'_>, connection: u64) {
        let Some(gone) = self.connections.remove(&connection) else { return };
        for (_, session) in gone.sessions {
            self.leave(around, connection, session);
        }
    }

    /// A client said something that nobody will answer: a process that is stopped.
    pub(in crate::ucserver) fn heard(&mut self, now: Uptime, connection: u64) {
        if let Some(connection) = self.connections.get_mut(&connection) {
            connection.heard = now;
        }
    }

    /// A client's message.
    pub(in crate::ucserver) fn message(
        &mut self,
        around: &mut Around<'_>,
        connection: u64,
        bytes: Bytes,
    ) {
        self.opened(around, connection);
        let Some(entry) = self.connections.get_mut(&connection) else { return };
        entry.heard = around.now;
        around.journal.count().clients.messages += 1;
        let Ok(message) = Message::parse(bytes) else {
            around.journal.count().clients.unreadable += 1;
            return self.close(around, connection);
        };
        let (Kind::Invoke, Some(id)) = (message.kind(), message.id()) else {
            around.journal.count().clients.stray += 1;
            return;
        };
        let at = At { connection, session: message.session().map(Arc::from) };
        if let Some(session) = entry.sessions.get_mut(&at.session) {
            session.encoding = message.encoding();
        }
        if message.is_event() || is_never_answered(message.operation()) {
            return self.on_event(around, &at, &message);
        }
        let begun = entry.begin(id, around.settings.clients.limits.invokes);
        let settles = begun.is_ok().then_some(id);
        let answer = begun.and_then(|()| self.serve(around, &at, &message));
        let encoding = message.encoding();
        let session = at.session.as_deref();
        let envelope = Envelope { encoding, style: Style::Original, session };
        let is_done = answer.is_ok();
        let bytes = match answer {
            Ok(result) => envelope.result(id, &result),
            Err(Refused::Error(detail, words)) => {
                *around.journal.count().clients.errors.entry(detail).or_default() += 1;
                envelope.error(id, detail, words)
            }
            Err(Refused::Reject(problem, words)) => {
                *around.journal.count().clients.rejects.entry(problem as u8).or_default() += 1;
                envelope.reject(id, problem, words)
            }
        };
        self.send(around, ToClient::Send { connection, bytes }, settles);
        if is_done && message.operation() == Operation::START_TLS {
            self.send(around, ToClient::StartTls { connection }, None);
        }
        self.tell(around);
    }

    /// What is due.
    pub(in crate::ucserver) fn tick(&mut self, around: &mut Around<'_>) {
        while self.late.front().is_some_and(|late| late.at <= around.now) {
            if let Some(late) = self.late.pop_front() {
                self.out(late.what, late.settles);
            }
        }
        while let Some(connection) = self.idle.pop_due(around.now) {
            let Some(entry) = self.connections.get(&connection) else { continue };
            let until = entry.heard + around.settings.clients.idle;
            if until > around.now {
                self.idle.set(until, connection);
            } else {
                around.journal.count().clients.idle += 1;
                self.close(around, connection);
            }
        }
        self.lines.tick(around);
        self.tell(around);
    }

    /// The next thing for a client.
    pub(in crate::ucserver) fn poll(&mut self) -> Option<ToClient> {
        self.ready.pop_front()
    }

    /// When [`Clients::tick`] is due.
    pub(in crate::ucserver) fn next(&self) -> Option<Uptime> {
        let late = self.late.front().map(|late| late.at);
        [late, self.idle.next(), self.lines.next()].into_iter().flatten().min()
    }

    /// Who is connected.
    pub(in crate::ucserver) fn connections(&self) -> impl Iterator<Item = u64> {
        self.connections.keys().copied()
    }

    /// How many users are logged in.
    pub(in crate::ucserver) fn users(&self) -> usize {
        self.users.len()
    }

    /// Who is logged in.
    pub(in crate::ucserver) fn user_names(&self) -> impl Iterator<Item = &str> {
        self.users.keys().map(|user| &**user)
    }

    /// Somebody calls a line.
    pub(in crate::ucserver) fn ring(
        &mut self,
        around: &mut Around<'_>,
        line: &str,
        number: &str,
    ) -> Result<Arc<str>, CallRefused> {
        let rung = self.lines.ring(around, line, number);
        self.tell(around);
        rung
    }

    /// The other end of a call hangs up.
    pub(in crate::ucserver) fn hang_up(
        &mut self,
        around: &mut Around<'_>,
        call: &str,
    ) -> Result<(), CallRefused> {
        let done = self.lines.hang_up(around, call);
        self.tell(around);
        done
    }

    /// A user's lines have changed.
    pub(in crate::ucserver) fn change_line(
        &mut self,
        around: &mut Around<'_>,
        user: &str,
        line: &str,
        is_there: bool,
    ) {
        self.line_changed(user, line, is_there);
        self.tell(around);
    }

    /// No token is good any longer.
    pub(in crate::ucserver) fn expire_tokens(&mut self, now: Uptime) {
        self.tokens.expire(now);
    }

    /// Closes a connection from this side.
    fn close(&mut self, around: &mut Around<'_>, connection: u64) {
        self.closed(around, connection);
        self.ready.push_back(ToClient::Close { connection });
    }

    /// A session is over.
    fn leave(&mut self, around: &mut Around<'_>, connection: u64, session: Session) {
        for monitor in session.monitors.values() {
            self.lines.forget_monitor(*monitor);
        }
        let Some(user) = session.user else { return };
        if let Some(sessions) = self.users.get_mut(&user) {
            *sessions -= 1;
            if *sessions == 0 {
                self.users.remove(&user);
            }
        }
        around.journal.write(around.now, Event::LoggedOff { user, connection });
    }

    /// Sends, or has it wait. What waits goes in its order, even if the server is well by then.
    fn send(&mut self, around: &mut Around<'_>, what: ToClient, settles: Option<i64>) {
        let delay = around.delay();
        if delay.is_zero() && self.late.is_empty() {
            return self.out(what, settles);
        }
        if self.late.len() >= around.settings.clients.limits.late {
            let (ToClient::Send { connection, .. }
            | ToClient::StartTls { connection }
            | ToClient::Close { connection }) = what;
            return self.close(around, connection);
        }
        let last = self.late.back().map_or(Uptime::ZERO, |late| late.at);
        self.late.push_back(Late { at: last.max(around.now + delay), what, settles });
    }

    fn out(&mut self, what: ToClient, settles: Option<i64>) {
        let (ToClient::Send { connection, .. }
        | ToClient::StartTls { connection }
        | ToClient::Close { connection }) = &what;
        // It may have gone while this waited.
        let Some(entry) = self.connections.get_mut(connection) else { return };
        if let Some(id) = settles {
            entry.outstanding.remove(&id);
        }
        self.ready.push_back(what);
    }

    /// Writes the events that have come up, each as its session wants them.
    fn tell(&mut self, around: &mut Around<'_>) {
        for told in self.lines.take_told() {
            let At { connection, session } = told.to;
            let known = self.connections.get(&connection).and_then(|it| it.sessions.get(&session));
            let Some(encoding) = known.map(|session| session.encoding) else { continue };
            let session = session.as_deref();
            let envelope = Envelope { encoding, style: Style::Original, session };
            around.journal.count().clients.events += 1;
            let bytes = envelope.event(told.event, &told.argument);
            self.send(around, ToClient::Send { connection, bytes }, None);
        }
    }
}
