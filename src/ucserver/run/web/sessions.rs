//! [`Sessions`]: logins, calls and WebSockets ⇄ connections of the machine.
//!
//! Each session is one connection of the machine, on which the entrance itself negotiates and logs
//! in. What it asks there on its own account has negative ids, so that a client's own never meet
//! them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::now::Uptime;
use crate::ucsap::framing::Written;
use crate::ucsap::login::{LoginOutcome, detail};
use crate::ucsap::negotiate::{Negotiated, Negotiation};
use crate::ucsap::{Encoding, Envelope, Kind, Member, Message, Operation, Piece, Style};
use crate::ucserver::ToClient;
use crate::ucserver::clients::is_never_answered;
use crate::ucserver::server::Input;

/// The machine's numbers for connections that are sessions of the WebService have this bit.
pub(in crate::ucserver::run) const NUMBERS: u64 = 1 << 63;

/// A session of which nothing is heard for so long is over.
const SILENCE: Duration = Duration::from_secs(300);

/// How long a session outlives its WebSocket.
const ALONE: Duration = Duration::from_secs(60);

/// How long one that was made for a single call outlives whoever wanted it.
const DIRECT: Duration = Duration::from_secs(10);

/// The machine closes connections of which it hears nothing, and whoever has a session without a
/// WebSocket says nothing for long.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// Events that wait for a WebSocket; then the oldest are dropped.
const WAITING: usize = 256;

/// Messages that wait for a WebSocket's peer to read; then it is cut off.
pub(super) const SOCKET_QUEUE: usize = 1024;

/// Why a WebSocket is closed (RFC 6455 §7.4.1).
pub(super) mod code {
    /// It is over.
    pub(in crate::ucserver::run::web) const NORMAL: u16 = 1000;
    /// The server is gone, or wants to be.
    pub(in crate::ucserver::run::web) const AWAY: u16 = 1001;
    /// Binary, where text is spoken.
    pub(in crate::ucserver::run::web) const UNSUPPORTED: u16 = 1003;
    /// Text that is no message.
    pub(in crate::ucserver::run::web) const UNREADABLE: u16 = 1007;
    /// More than fits.
    pub(in crate::ucserver::run::web) const TOO_BIG: u16 = 1009;
}

/// What the tasks of HTTP connections want of the loop. Whoever gets no reply, and sees its channel
/// end, is not answered: the server is silent.
pub(super) enum Asked {
    /// Whether there is anybody who answers.
    Leave { reply: oneshot::Sender<()> },
    /// Somebody wants a session.
    Login { login: Login, reply: oneshot::Sender<LoggedIn> },
    /// One call of a session.
    Call { session: String, operation: String, argument: Bytes, reply: oneshot::Sender<Called> },
    /// A session is to end; whether there was one.
    End { session: String, reply: oneshot::Sender<bool> },
    /// A WebSocket for a session; its number, if there is such a session.
    Socket { session: String, to: mpsc::Sender<ToSocket>, reply: oneshot::Sender<Option<u64>> },
    /// A message came on it.
    Said { session: String, socket: u64, text: Bytes },
    /// Something came on it that is no message.
    Heard { session: String, socket: u64 },
    /// It has ended.
    SocketEnded { session: String, socket: u64 },
    /// An HTTP connection has ended.
    ConnectionEnded { number: u64 },
}

/// Who wants a session.
pub(super) struct Login {
    pub(super) negotiation: Negotiation,
    /// The argument of `asnLoginV2`.
    pub(super) credentials: Piece,
    /// For credentials that take several rounds, what ties them together.
    pub(super) rounds: Option<Rounds>,
    /// It is for one call, and nobody else will know of it.
    pub(super) is_direct: bool,
}

/// What ties the rounds of a login together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Rounds {
    /// The header `x-epid`.
    Named(String),
    /// That they come on the same HTTP connection.
    Connection(u64),
}

/// What became of a login.
#[derive(Debug)]
pub(super) enum LoggedIn {
    /// This session.
    Session(Arc<str>),
    /// One more round, with this blob in base64.
    OneMoreRound(String),
    /// There is no session.
    Refused(Failure),
    /// The machine did not take the invoke; the message that says so.
    Rejected(Bytes),
    /// Later.
    Busy { seconds: i64 },
    /// The connection was closed.
    Away,
}

/// `AsnLogonError`, and what stands beside it.
#[derive(Debug)]
pub(super) struct Failure {
    /// `AsnLogonErrorEnum`.
    pub(super) detail: i64,
    pub(super) words: String,
    /// The session that would have been.
    pub(super) session: Arc<str>,
    pub(super) id: i64,
}

/// What became of a call.
#[derive(Debug)]
pub(super) enum Called {
    /// The inner value of its result.
    Result(Bytes),
    /// The error's own object.
    Error { error: Bytes, id: i64, session: Arc<str> },
    /// The whole message.
    Reject(Bytes),
    /// It is one that has no result.
    Done,
    /// There is no such session, or no longer.
    NoSession,
    /// The connection was closed.
    Away,
}

/// What a WebSocket is to do.
#[derive(Debug)]
pub(super) enum ToSocket {
    /// Send this text.
    Text(String),
    /// Close with this code.
    Close(u16),
}

/// How many of everything there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::ucserver::run) struct WebCounts {
    pub(in crate::ucserver::run) sessions: usize,
    pub(in crate::ucserver::run) sockets: usize,
    /// Ever.
    pub(in crate::ucserver::run) events_dropped: u64,
}

/// All of them.
pub(super) struct Sessions {
    lines: HashMap<u64, Line>,
    /// By the name a client knows.
    names: HashMap<Arc<str>, u64>,
    /// Logins between two rounds.
    rounds: HashMap<Rounds, u64>,
    rng: fastrand::Rng,
    last_connection: u64,
    last_id: i64,
    last_socket: u64,
    events_dropped: u64,
    inputs: VecDeque<Input>,
}

/// One connection of the machine.
struct Line {
    name: Arc<str>,
    stage: Stage,
    rounds: Option<Rounds>,
    is_direct: bool,
    /// When its client last said anything.
    heard: Uptime,
    /// When the machine was last told anything.
    kept: Uptime,
    calls: HashMap<i64, oneshot::Sender<Called>>,
    socket: Option<Socket>,
    /// When its WebSocket ended, and none has come since.
    alone: Option<Uptime>,
    /// Events that wait for a WebSocket.
    waiting: VecDeque<String>,
}

/// How far a connection has come.
enum Stage {
    Negotiating { credentials: Piece, reply: oneshot::Sender<LoggedIn> },
    LoggingIn { reply: oneshot::Sender<LoggedIn> },
    BetweenRounds,
    Open,
}

struct Socket {
    number: u64,
    to: mpsc::Sender<ToSocket>,
    /// Its invokes that are not answered yet, and how often each was asked.
    invokes: HashMap<i64, u32>,
}

impl Sessions {
    /// Nobody is there.
    pub(super) fn new(seed: u64) -> Self {
        Self {
            lines: HashMap::new(),
            names: HashMap::new(),
            rounds: HashMap::new(),
            // The machine begins with the same, and tells its boot id.
            rng: fastrand::Rng::with_seed(!seed),
            last_connection: NUMBERS,
            last_id: 0,
            last_socket: 0,
            events_dropped: 0,
            inputs: VecDeque::new(),
        }
    }

    /// The next thing for the machine.
    pub(super) fn input(&mut self) -> Option<Input> {
        self.inputs.pop_front()
    }

    pub(super) fn counts(&self) -> WebCounts {
        let is_open = |line: &&Line| matches!(line.stage, Stage::Open);
        WebCounts {
            sessions: self.lines.values().filter(is_open).count(),
            sockets: self.lines.values().filter(|line| line.socket.is_some()).count(),
            events_dropped: self.events_dropped,
        }
    }

    /// Forgets everything, without a word to anybody: the machine has forgotten it, too.
    pub(super) fn forget(&mut self) {
        self.lines.clear();
        self.names.clear();
        self.rounds.clear();
        self.inputs.clear();
    }

    /// Takes one thing in. A server that `is_silent` swallows what is to be answered; its kernel
    /// goes on.
    pub(super) fn handle(&mut self, now: Uptime, asked: Asked, is_silent: bool) {
        match asked {
            Asked::SocketEnded { session, socket } => self.socket_ended(now, &session, socket),
            Asked::ConnectionEnded { number } => {
                if let Some(connection) = self.rounds.get(&Rounds::Connection(number)) {
                    self.end(*connection, code::NORMAL);
                }
            }
            // The machine ignores them then.
            Asked::Said { session, socket, text } => self.said(now, &session, socket, text),
            Asked::Heard { session, socket } => {
                if let Some((line, _)) = self.line_of_socket(&session, socket) {
                    line.heard = now;
                }
            }
            Asked::Leave { .. }
            | Asked::Login { .. }
            | Asked::Call { .. }
            | Asked::End { .. }
            | Asked::Socket { .. }
                if is_silent => {}
            Asked::Leave { reply } => {
                // Who asked may be gone.
                let _ = reply.send(());
            }
            Asked::Login { login, reply } => self.login(now, login, reply),
            Asked::Call { session, operation, argument, reply } => {
                self.call(now, &session, &operation, &argument, reply);
            }
            Asked::End { session, reply } => {
                let connection = self.open_session(&session);
                if let Some(connection) = connection {
                    self.log_off(connection);
                }
                let _ = reply.send(connection.is_some());
            }
            Asked::Socket { session, to, reply } => {
                let _ = reply.send(self.socket(now, &session, to));
            }
        }
    }

    /// Does what the machine wants done.
    pub(super) fn act(&mut self, now: Uptime, what: ToClient) {
        match what {
            ToClient::Send { connection, bytes } => self.answered(now, connection, bytes),
            ToClient::Close { connection } => self.closed(connection),
            // Nobody here can carry out a handshake inside a WebSocket.
            ToClient::StartTls { connection } => {
                self.closed(connection);
                self.inputs.push_back(Input::ClientClosed { connection });
            }
        }
    }

    /// What time brings. While the server is silent no session ends, and the machine is to know
    /// that they are there.
    pub(super) fn tick(&mut self, now: Uptime, is_silent: bool) {
        let mut over = Vec::new();
        for (connection, line) in &mut self.lines {
            let is_over = match line.stage {
                Stage::Open => {
                    let direct = line.is_direct && line.calls.is_empty();
                    now.since(line.heard) >= if direct { DIRECT } else { SILENCE }
                        || line.alone.is_some_and(|since| now.since(since) >= ALONE)
                }
                // Here the machine has no patience.
                Stage::Negotiating { .. } | Stage::LoggingIn { .. } | Stage::BetweenRounds => {
                    continue;
                }
            };
            if is_over && !is_silent {
                over.push(*connection);
            } else if now.since(line.kept) >= KEEP_ALIVE {
                line.kept = now;
                let argument = Piece::Sequence(vec![(Member::nth("dummy", 0), Piece::Null)]);
                let message =
                    envelope(&line.name).event(Operation::TRANSPORT_KEEP_ALIVE, &argument);
                self.inputs.push_back(Input::Client { connection: *connection, message });
            }
        }
        over.into_iter().for_each(|connection| self.log_off(connection));
    }

    fn login(&mut self, now: Uptime, login: Login, reply: oneshot::Sender<LoggedIn>) {
        let Login { negotiation, credentials, rounds, is_direct } = login;
        if let Some(connection) = rounds.as_ref().and_then(|rounds| self.rounds.remove(rounds)) {
            return self.log_in(connection, &credentials, reply);
        }
        self.last_connection += 1;
        let connection = self.last_connection;
        let (high, low) = (self.rng.u64(..), self.rng.u64(..));
        let name: Arc<str> = Arc::from(format!("{high:016X}{low:016X}"));
        let id = self.next_id();
        let argument = negotiation.piece("");
        let message = envelope(&name).invoke(id, Operation::NEGOTIATE, &argument);
        let line = Line {
            name,
            stage: Stage::Negotiating { credentials, reply },
            rounds,
            is_direct,
            heard: now,
            kept: now,
            calls: HashMap::new(),
            socket: None,
            alone: None,
            waiting: VecDeque::new(),
        };
        self.lines.insert(connection, line);
        self.inputs.push_back(Input::Client { connection, message });
    }

    fn log_in(&mut self, connection: u64, credentials: &Piece, reply: oneshot::Sender<LoggedIn>) {
        let id = self.next_id();
        let Some(line) = self.lines.get_mut(&connection) else { return };
        line.stage = Stage::LoggingIn { reply };
        let message = envelope(&line.name).invoke(id, Operation::LOGIN, credentials);
        self.inputs.push_back(Input::Client { connection, message });
    }

    /// The machine's word.
    fn answered(&mut self, now: Uptime, connection: u64, bytes: Bytes) {
        let Some(line) = self.lines.get_mut(&connection) else { return };
        // The machine's own messages can be read.
        let Ok(message) = Message::parse(bytes) else { return };
        match std::mem::replace(&mut line.stage, Stage::BetweenRounds) {
            Stage::Negotiating { credentials, reply } => match negotiated(&message, &line.name) {
                None => self.log_in(connection, &credentials, reply),
                Some(refused) => self.conclude(connection, reply, refused),
            },
            Stage::LoggingIn { reply } => match logged_in(&message, &line.name) {
                LoggedIn::Session(name) => {
                    line.stage = Stage::Open;
                    (line.heard, line.kept) = (now, now);
                    self.names.insert(Arc::clone(&name), connection);
                    self.conclude(connection, reply, LoggedIn::Session(name));
                }
                LoggedIn::OneMoreRound(blob) => {
                    if let Some(rounds) = line.rounds.clone()
                        && let Some(former) = self.rounds.insert(rounds, connection)
                        && former != connection
                    {
                        self.end(former, code::NORMAL);
                    }
                    self.conclude(connection, reply, LoggedIn::OneMoreRound(blob));
                }
                refused @ (LoggedIn::Refused(_)
                | LoggedIn::Rejected(_)
                | LoggedIn::Busy { .. }
                | LoggedIn::Away) => self.conclude(connection, reply, refused),
            },
            stage @ (Stage::Open | Stage::BetweenRounds) => {
                line.stage = stage;
                self.deliver(now, connection, &message);
            }
        }
    }

    /// Tells how a login ended. What nobody is told of is taken back.
    fn conclude(&mut self, connection: u64, reply: oneshot::Sender<LoggedIn>, outcome: LoggedIn) {
        let goes_on = matches!(outcome, LoggedIn::Session(_) | LoggedIn::OneMoreRound(_));
        if reply.send(outcome).is_err() || !goes_on {
            self.end(connection, code::NORMAL);
        }
    }

    fn call(
        &mut self,
        now: Uptime,
        session: &str,
        operation: &str,
        argument: &[u8],
        reply: oneshot::Sender<Called>,
    ) {
        let connection = self.open_session(session);
        let id = self.next_id();
        let Some((connection, line)) =
            connection.and_then(|number| Some((number, self.lines.get_mut(&number)?)))
        else {
            let _ = reply.send(Called::NoSession);
            return;
        };
        (line.heard, line.kept) = (now, now);
        let known = Operation::named(operation.as_bytes());
        if known == Operation::LOGOFF {
            let _ = reply.send(Called::Done);
            return self.log_off(connection);
        }
        let mut message = format!(
            "{{\"invoke\":{{\"sessionID\":\"{}\",\"invokeID\":{id},\"operationID\":0,\
             \"operationName\":\"{operation}\",\"argument\":",
            line.name
        )
        .into_bytes();
        message.extend_from_slice(argument);
        message.extend_from_slice(b"}}");
        self.inputs.push_back(Input::Client { connection, message: message.into() });
        if is_never_answered(known) {
            let _ = reply.send(Called::Done);
        } else {
            line.calls.insert(id, reply);
        }
    }

    fn socket(&mut self, now: Uptime, session: &str, to: mpsc::Sender<ToSocket>) -> Option<u64> {
        let connection = self.open_session(session)?;
        let line = self.lines.get_mut(&connection)?;
        line.heard = now;
        line.alone = None;
        self.last_socket += 1;
        let number = self.last_socket;
        let socket = Socket { number, to, invokes: HashMap::new() };
        if let Some(former) = line.socket.replace(socket) {
            // It hears so when it has read what is before that.
            let _ = former.to.try_send(ToSocket::Close(code::NORMAL));
        }
        for text in std::mem::take(&mut line.waiting) {
            line.write(now, text);
        }
        Some(number)
    }

    fn socket_ended(&mut self, now: Uptime, session: &str, number: u64) {
        if let Some((line, _)) = self.line_of_socket(session, number) {
            (line.socket, line.alone) = (None, Some(now));
        }
    }

    /// A client's message on its WebSocket.
    fn said(&mut self, now: Uptime, session: &str, number: u64, text: Bytes) {
        let Some((line, connection)) = self.line_of_socket(session, number) else { return };
        (line.heard, line.kept) = (now, now);
        let message = read(text).filter(|message| message.id().is_none_or(|id| id >= 0));
        let Some(message) = message else {
            if let Some(socket) = line.socket.take() {
                let _ = socket.to.try_send(ToSocket::Close(code::UNREADABLE));
            }
            line.alone = Some(now);
            return;
        };
        let is_question = message.kind() == Kind::Invoke
            && !message.is_event()
            && !is_never_answered(message.operation());
        let named = message.session();
        if named.as_ref().is_some_and(|named| **named != *line.name) {
            if let (true, Some(id)) = (is_question, message.id()) {
                let name = &line.name;
                let text = format!(
                    "[{{\"reject\":{{\"sessionID\":\"{name}\",\"invokedID\":{{\"invokedID\":{id}}},\
                     \"reject\":{{\"invokeProblem\":8}},\"details\":\"not your session\"}}}}]"
                );
                line.write(now, text);
            }
            return;
        }
        if let (true, Some(id), Some(socket)) = (is_question, message.id(), &mut line.socket) {
            *socket.invokes.entry(id).or_default() += 1;
        }
        let octets = match named {
            Some(_) => message.bytes().clone(),
            None => with_session(message.bytes(), &line.name),
        };
        self.inputs.push_back(Input::Client { connection, message: octets });
        if message.operation() == Operation::LOGOFF {
            self.end(connection, code::NORMAL);
        }
    }

    /// What the machine says to a session.
    fn deliver(&mut self, now: Uptime, connection: u64, message: &Message) {
        let Some(line) = self.lines.get_mut(&connection) else { return };
        let id = message.id().unwrap_or_default();
        if let Some(reply) = line.calls.remove(&id) {
            let is_direct = line.is_direct;
            if reply.send(called(message, &line.name)).is_err() && is_direct {
                self.log_off(connection);
            }
            return;
        }
        let Some(text) = as_text(message.bytes()) else { return };
        if message.kind() != Kind::Invoke {
            // The answer to a WebSocket's question; another one did not ask.
            let Some(socket) = &mut line.socket else { return };
            let Some(times) = socket.invokes.get_mut(&id) else { return };
            *times -= 1;
            if *times == 0 {
                socket.invokes.remove(&id);
            }
            return line.write(now, text);
        }
        if line.socket.is_some() {
            return line.write(now, text);
        }
        if line.waiting.len() >= WAITING {
            line.waiting.pop_front();
            self.events_dropped += 1;
        }
        line.waiting.push_back(text);
    }

    /// Ends a session from this side, with a word to the machine.
    fn log_off(&mut self, connection: u64) {
        let Some(line) = self.lines.get(&connection) else { return };
        let argument = Piece::Sequence(Vec::new());
        let message = envelope(&line.name).event(Operation::LOGOFF, &argument);
        self.inputs.push_back(Input::Client { connection, message });
        self.end(connection, code::NORMAL);
    }

    fn end(&mut self, connection: u64, code: u16) {
        if let Some(line) = self.remove(connection) {
            line.dissolve(code, || Called::NoSession);
            self.inputs.push_back(Input::ClientClosed { connection });
        }
    }

    /// The machine has closed it.
    fn closed(&mut self, connection: u64) {
        if let Some(line) = self.remove(connection) {
            line.dissolve(code::AWAY, || Called::Away);
        }
    }

    fn remove(&mut self, connection: u64) -> Option<Line> {
        let line = self.lines.remove(&connection)?;
        self.names.remove(&line.name);
        if let Some(rounds) = &line.rounds
            && self.rounds.get(rounds) == Some(&connection)
        {
            self.rounds.remove(rounds);
        }
        Some(line)
    }

    fn open_session(&self, name: &str) -> Option<u64> {
        self.names.get(name).copied()
    }

    /// The session whose WebSocket this is, and not another one by now.
    fn line_of_socket(&mut self, session: &str, number: u64) -> Option<(&mut Line, u64)> {
        let connection = self.open_session(session)?;
        let line = self.lines.get_mut(&connection)?;
        let is_it = line.socket.as_ref().is_some_and(|socket| socket.number == number);
        is_it.then_some((line, connection))
    }

    /// For the next invoke of the entrance's own.
    const fn next_id(&mut self) -> i64 {
        self.last_id += 1;
        -self.last_id
    }
}

impl Line {
    /// Sends to the WebSocket. One that does not read is cut off.
    fn write(&mut self, now: Uptime, text: String) {
        let Some(socket) = &self.socket else { return };
        if socket.to.try_send(ToSocket::Text(text)).is_err() {
            (self.socket, self.alone) = (None, Some(now));
        }
    }

    /// Tells everybody who waits.
    fn dissolve(self, code: u16, called: impl Fn() -> Called) {
        if let Some(socket) = self.socket {
            let _ = socket.to.try_send(ToSocket::Close(code));
        }
        for reply in self.calls.into_values() {
            let _ = reply.send(called());
        }
        match self.stage {
            Stage::Negotiating { reply, .. } | Stage::LoggingIn { reply } => {
                let _ = reply.send(LoggedIn::Away);
            }
            Stage::BetweenRounds | Stage::Open => {}
        }
    }
}

const fn envelope(session: &str) -> Envelope<'_> {
    Envelope { encoding: Encoding::Json, style: Style::Plain, session: Some(session) }
}

/// Nothing if the login may follow.
fn negotiated(message: &Message, session: &Arc<str>) -> Option<LoggedIn> {
    let result = match message.kind() {
        Kind::Result => message.body().and_then(|body| Negotiated::read(&body).ok()),
        Kind::Error | Kind::Reject | Kind::Invoke => return Some(refused(message, session)),
    };
    match result {
        Some(Negotiated::Done { .. }) => None,
        Some(Negotiated::Busy { seconds }) => Some(LoggedIn::Busy { seconds }),
        Some(Negotiated::Incompatible) => {
            let words = "no version of the interface in common";
            Some(failure(message, session, detail::INVALID_VERSION, words))
        }
        None => Some(failure(message, session, detail::INTERNAL, "an answer of no kind")),
    }
}

fn logged_in(message: &Message, session: &Arc<str>) -> LoggedIn {
    let Kind::Result = message.kind() else { return refused(message, session) };
    let Some(result) = message.body() else { return refused(message, session) };
    match LoginOutcome::read(&result) {
        Ok(LoginOutcome::Succeeded { .. }) => LoggedIn::Session(Arc::clone(session)),
        Ok(LoginOutcome::Busy { seconds }) => LoggedIn::Busy { seconds },
        // The public sources say nothing of it. There is no member for an address in the answer, so
        // it stands where people read it.
        Ok(LoginOutcome::Redirect(to)) => {
            let words = format!("the user belongs to another server: {to}");
            failure(message, session, detail::USER_NOT_ENABLED, &words)
        }
        Ok(LoginOutcome::Methods) => {
            failure(message, session, detail::INVALID_USER, "credentials are missing")
        }
        Ok(LoginOutcome::NextStep) => {
            let whole: serde_json::Value =
                serde_json::from_slice(result.octets_as_sent()).unwrap_or_default();
            let blob = whole.pointer("/ntlmRenegotiate/authdata").and_then(|it| it.as_str());
            LoggedIn::OneMoreRound(blob.unwrap_or_default().to_owned())
        }
        Err(_) => failure(message, session, detail::INTERNAL, "an answer of no kind"),
    }
}

/// An answer to a negotiation or a login that is no result.
fn refused(message: &Message, session: &Arc<str>) -> LoggedIn {
    if message.kind() == Kind::Reject {
        return LoggedIn::Rejected(positive(message));
    }
    let error = message.body();
    let detail = error.and_then(|it| it.member(&Member::nth("iErrorDetail", 0)).ok()?);
    let detail = detail.and_then(|it| it.integer().ok()).unwrap_or(detail::INTERNAL);
    let words = error.and_then(|it| it.member(&Member::nth("u8sErrorString", 1)).ok()?);
    let words = words.and_then(|it| it.text().ok().map(String::from)).unwrap_or_default();
    failure(message, session, detail, &words)
}

fn failure(message: &Message, session: &Arc<str>, detail: i64, words: &str) -> LoggedIn {
    let id = message.id().unwrap_or_default().saturating_abs();
    let (session, words) = (Arc::clone(session), words.to_owned());
    LoggedIn::Refused(Failure { detail, words, session, id })
}

/// What a call is answered.
fn called(message: &Message, session: &Arc<str>) -> Called {
    let body = message.body().map(|body| Bytes::copy_from_slice(body.octets_as_sent()));
    match message.kind() {
        Kind::Error => Called::Error {
            error: body.unwrap_or_else(|| Bytes::from_static(b"{}")),
            id: message.id().unwrap_or_default().saturating_abs(),
            session: Arc::clone(session),
        },
        Kind::Reject => Called::Reject(positive(message)),
        Kind::Result | Kind::Invoke => {
            Called::Result(body.unwrap_or_else(|| Bytes::from_static(b"{}")))
        }
    }
}

/// A message about an invoke of the entrance's own, as a client may see it.
fn positive(message: &Message) -> Bytes {
    let seen = message.with_id(message.id().unwrap_or_default().saturating_abs());
    Bytes::copy_from_slice(unframed(seen.bytes()))
}

/// Text that a client sent, if it is a message: JSON without the header of streams.
fn read(text: Bytes) -> Option<Message> {
    let first = text.iter().find(|octet| !octet.is_ascii_whitespace());
    matches!(first, Some(b'{' | b'[')).then(|| Message::parse(text).ok())?
}

/// A client's message with the session in it, which no client names.
fn with_session(message: &Bytes, session: &str) -> Bytes {
    // The second brace opens the envelope's inner object: before it there is a bare key.
    let mut braces = message.iter().enumerate().filter(|(_, octet)| **octet == b'{');
    let Some((at, _)) = braces.nth(1) else { return message.clone() };
    let (before, behind) = message.split_at(at + 1);
    [before, format!("\"sessionID\":\"{session}\",").as_bytes(), behind].concat().into()
}

/// A message of the machine's as WebSockets are told it: an array of one.
fn as_text(message: &Bytes) -> Option<String> {
    let json = std::str::from_utf8(unframed(message)).ok()?;
    Some(format!("[{json}]"))
}

/// JSON without the header of streams and the line feed behind it.
fn unframed(message: &[u8]) -> &[u8] {
    let json = match Written::of(message) {
        Some(Written::Json(json) | Written::Ber(json)) => json,
        None => message,
    };
    json.trim_ascii()
}
