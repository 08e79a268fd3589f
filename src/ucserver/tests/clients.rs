//! Clients that speak UCSAP, from the outside: messages in, messages out, in virtual time.

mod calls;
mod lines;
mod logins;
mod moods;
mod refusals;
mod subscriptions;

use std::time::Duration;

use bytes::Bytes;

use crate::now::Uptime;
use crate::ucsap::login::Credentials;
use crate::ucsap::negotiate::Negotiation;
use crate::ucsap::{Encoding, Envelope, Kind, Member, Message, Operation, Piece, Style};
use crate::ucserver::{ClientSettings, Input, Output, Settings, ToClient, UcServer};

const ENCODINGS: [Encoding; 2] = [Encoding::Ber, Encoding::Json];

/// A server and its clients. Connection 1 is used where none is named.
struct World {
    server: UcServer,
    now: Uptime,
    encoding: Encoding,
    session: Option<&'static str>,
    last_id: i64,
    closed: Vec<u64>,
    tls: Vec<u64>,
}

/// What came back for an invoke.
#[derive(Debug)]
enum Answer {
    Result(Message),
    Error(i64),
    Reject(i64),
}

/// An event, for whom, and when.
#[derive(Debug)]
struct Told {
    at: Uptime,
    connection: u64,
    message: Message,
}

impl World {
    fn new(settings: Settings) -> Self {
        Self::encoded(settings, Encoding::Json)
    }

    fn encoded(settings: Settings, encoding: Encoding) -> Self {
        let now = Uptime::from_secs(1_000);
        let server = UcServer::new(settings, now, 7);
        let (closed, tls) = (Vec::new(), Vec::new());
        Self { server, now, encoding, session: None, last_id: 0, closed, tls }
    }

    /// One who is logged in on connection 1.
    fn with(user: &str) -> Self {
        let mut world = Self::new(Settings::default());
        world.log_in(1, user);
        world
    }

    fn written(&mut self, operation: Operation, argument: &Piece) -> (i64, Bytes) {
        self.last_id += 1;
        let (encoding, session) = (self.encoding, self.session);
        let envelope = Envelope { encoding, style: Style::Original, session };
        (self.last_id, envelope.invoke(self.last_id, operation, argument))
    }

    /// Sends, and takes what comes at once.
    fn send(&mut self, connection: u64, message: Bytes) -> Vec<Told> {
        self.server.handle(self.now, Input::Client { connection, message });
        self.outputs()
    }

    fn outputs(&mut self) -> Vec<Told> {
        let mut told = Vec::new();
        while let Some(output) = self.server.poll() {
            match output {
                Output::Client(ToClient::Send { connection, bytes }) => {
                    let message = Message::parse(bytes).expect("what it sends can be read");
                    told.push(Told { at: self.now, connection, message });
                }
                Output::Client(ToClient::Close { connection }) => self.closed.push(connection),
                Output::Client(ToClient::StartTls { connection }) => self.tls.push(connection),
                Output::Send { .. } => panic!("nobody speaks SIP here"),
            }
        }
        told
    }

    /// Asks; the answer comes first, and events after it.
    fn ask_all(
        &mut self,
        connection: u64,
        operation: Operation,
        argument: &Piece,
    ) -> (Answer, Vec<Told>) {
        let (id, bytes) = self.written(operation, argument);
        let mut told = self.send(connection, bytes);
        assert!(!told.is_empty(), "no answer to {operation:?}");
        let first = told.remove(0);
        assert_eq!((first.connection, first.message.id()), (connection, Some(id)));
        assert_eq!(first.message.encoding(), self.encoding);
        assert_eq!(first.message.session().as_deref(), self.session);
        (Answer::of(first.message), told)
    }

    fn ask(&mut self, connection: u64, operation: Operation, argument: &Piece) -> Answer {
        let (answer, told) = self.ask_all(connection, operation, argument);
        assert!(told.is_empty(), "{told:?}");
        answer
    }

    fn result(&mut self, connection: u64, operation: Operation, argument: &Piece) -> Message {
        self.ask(connection, operation, argument).result()
    }

    fn negotiate(&mut self, connection: u64) -> Answer {
        self.ask(connection, Operation::NEGOTIATE, &client().piece("PC"))
    }

    fn log_in(&mut self, connection: u64, user: &str) {
        self.negotiate(connection).result();
        let password = ClientSettings::password_of(user);
        self.result(connection, Operation::LOGIN, &Credentials::basic(user, &password));
    }

    /// Starts a monitor; its cross reference.
    fn monitor(&mut self, connection: u64, line: &str) -> String {
        let started = self.result(connection, Operation::MONITOR_START, &for_line(line));
        text(&started, "u8sMonitorCrossRefID", 0)
    }

    /// Lets time pass, deadline by deadline.
    fn pass(&mut self, time: Duration) -> Vec<Told> {
        let end = self.now + time;
        let mut all = Vec::new();
        while let Some(at) = self.server.next().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.server.handle(self.now, Input::Timeout);
            all.extend(self.outputs());
        }
        self.now = end;
        all
    }

    fn secs(&mut self, secs: u64) -> Vec<Told> {
        self.pass(Duration::from_secs(secs))
    }
}

impl Answer {
    fn of(message: Message) -> Self {
        match message.kind() {
            Kind::Result => Self::Result(message),
            Kind::Error => Self::Error(integer(&message, "iErrorDetail", 0)),
            Kind::Reject => {
                let bytes = message.bytes();
                let problem = match message.encoding() {
                    // [1] of one octet, and a word of explanation that holds none.
                    Encoding::Ber => bytes.windows(2).position(|it| *it == [0x81, 1]).unwrap(),
                    Encoding::Json => {
                        let key = b"\"invokeProblem\":";
                        bytes.windows(key.len()).position(|it| it == key).unwrap() + key.len() - 2
                    }
                };
                let octet = bytes[problem + 2];
                Self::Reject(i64::from(octet & 0x0F))
            }
            Kind::Invoke => panic!("an invoke is no answer: {message:?}"),
        }
    }

    fn result(self) -> Message {
        if let Self::Result(message) = self { message } else { panic!("{self:?}") }
    }

    fn error(self) -> i64 {
        if let Self::Error(detail) = self { detail } else { panic!("{self:?}") }
    }

    fn reject(self) -> i64 {
        if let Self::Reject(problem) = self { problem } else { panic!("{self:?}") }
    }
}

impl Told {
    fn operation(&self) -> i64 {
        assert!(self.message.is_event());
        self.message.operation().0
    }
}

fn client() -> Negotiation {
    Negotiation { device: "d1".into(), version: "2603.0".into(), app: 1, former: None }
}

fn for_line(line: &str) -> Piece {
    crate::ucsap::cti::for_line(line)
}

/// A SEQUENCE of these, in this order.
fn sequence(members: &[(&'static str, Piece)]) -> Piece {
    let members = members.iter().enumerate();
    Piece::Sequence(members.map(|(nth, (name, it))| (Member::nth(name, nth), it.clone())).collect())
}

fn text(message: &Message, name: &'static str, nth: usize) -> String {
    let body = message.body().unwrap();
    body.required(&Member::nth(name, nth)).unwrap().text().unwrap().into_owned()
}

fn integer(message: &Message, name: &'static str, nth: usize) -> i64 {
    let body = message.body().unwrap();
    body.required(&Member::nth(name, nth)).unwrap().integer().unwrap()
}

fn line_of(user: &str) -> String {
    ClientSettings::line_of(user)
}

fn operations(told: &[Told]) -> Vec<i64> {
    told.iter().map(Told::operation).collect()
}
