//! A ProCall client that knows its protocol and nothing of a front door: it negotiates, logs in,
//! watches its line, and begins anew whenever it is sent away.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use frontdoor::door::WebAnswer;
use frontdoor::now::Uptime;
use frontdoor::ucsap::login::{Credentials, LoginOutcome};
use frontdoor::ucsap::negotiate::{Negotiated, Negotiation};
use frontdoor::ucsap::{Encoding, Envelope, Kind, Member, Message, Operation, Piece, Style, cti};
use frontdoor::ucserver::ClientSettings;
use frontdoor::ucws::{Opening, Purpose};

use crate::desk::web::with_password;

/// Beyond this it takes its connection for dead.
const PATIENCE: Duration = Duration::from_secs(90);
/// Between two signs of life.
const KEEP_ALIVE: Duration = Duration::from_secs(20);
/// Between two tries where nobody has said when.
pub(crate) const AGAIN: Duration = Duration::from_secs(2);

/// What it does next by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Connect,
    LogIn,
    Watch,
}

/// What a client does because something was due or came in.
#[derive(Debug)]
pub(crate) enum Deed {
    /// A new connection; what was on the old one is over.
    Connect,
    Send(Bytes),
    /// It asks the WebService for a session.
    Open(Box<Opening>),
    /// It closes its connection.
    HangUp,
}

/// One client of one user.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) user: String,
    pub(crate) device: String,
    encoding: Encoding,
    /// It comes by the WebService.
    pub(crate) by_web: bool,
    /// The number of its connection, while there is one.
    pub(crate) connection: Option<u64>,
    ids: i64,
    pending: BTreeMap<i64, (Operation, Uptime)>,
    /// The monitor of its line.
    pub(crate) watches: Option<String>,
    /// The one it has asked to be ended.
    ends: Option<String>,
    next: Option<(Uptime, Next)>,
    /// When it gives a sign of life.
    alive_at: Option<Uptime>,
    /// Nobody uses it.
    pub(crate) off: bool,
    /// Events of calls of its monitor.
    pub(crate) rings: u32,
    /// Events of monitors it does not know.
    pub(crate) strays: u32,
    /// Times it took its connection for dead.
    pub(crate) lost_patience: u32,
}

/// The argument with which a user dials a number.
pub(crate) fn call_to(number: &str, user: &str) -> Piece {
    Piece::Sequence(vec![
        (Member::nth("u8sPhoneNumberFrom", 0), Piece::text(ClientSettings::line_of(user))),
        (Member::nth("u8sPhoneNumberTo", 1), Piece::text(number)),
        (Member::nth("iNumberFormat", 2), Piece::Integer(0)),
    ])
}

impl Client {
    pub(crate) fn new(user: &str, number: usize, begins: Uptime) -> Self {
        Self {
            user: user.into(),
            device: format!("pc-{number}"),
            encoding: if number.is_multiple_of(2) { Encoding::Ber } else { Encoding::Json },
            by_web: number % 4 == 3,
            connection: None,
            ids: 0,
            pending: BTreeMap::new(),
            watches: None,
            ends: None,
            next: Some((begins, Next::Connect)),
            alive_at: None,
            off: false,
            rings: 0,
            strays: 0,
            lost_patience: 0,
        }
    }

    fn envelope(&self) -> Envelope<'static> {
        Envelope { encoding: self.encoding, style: Style::Original, session: None }
    }

    fn ask(&mut self, now: Uptime, operation: Operation, argument: &Piece) -> Deed {
        self.ids += 1;
        self.pending.insert(self.ids, (operation, now));
        Deed::Send(self.envelope().invoke(self.ids, operation, argument))
    }

    fn line(&self) -> Piece {
        cti::for_line(&ClientSettings::line_of(&self.user))
    }

    /// Whether somebody is logged in and hears of the line.
    pub(crate) fn is_settled(&self) -> bool {
        self.watches.is_some() && self.pending.is_empty()
    }

    /// When something is due.
    pub(crate) fn next(&self) -> Option<Uptime> {
        if self.off {
            return None;
        }
        let impatient = self.pending.values().map(|(_, since)| *since + PATIENCE).min();
        let next = self.next.map(|(at, _)| at);
        [impatient, next, self.alive_at].into_iter().flatten().min()
    }

    /// Its connection is there: it says who it is.
    pub(crate) fn connected(&mut self, now: Uptime, connection: u64) -> Deed {
        self.connection = Some(connection);
        self.pending.clear();
        self.watches = None;
        self.next = None;
        self.alive_at = Some(now + KEEP_ALIVE);
        if self.by_web {
            return self.open(now);
        }
        let negotiation = Negotiation {
            device: self.device.clone(),
            version: "2603.0".into(),
            app: 1,
            former: None,
        };
        self.ask(now, Operation::NEGOTIATE, &negotiation.piece("PC"))
    }

    fn open(&mut self, now: Uptime) -> Deed {
        let request = with_password(&self.user, &self.device);
        let opening = Opening::read(request, Purpose::Session).expect("it can be read");
        self.pending.insert(0, (Operation::LOGIN, now));
        Deed::Open(Box::new(opening))
    }

    /// The WebService has given it a session, or not.
    pub(crate) fn opened(&mut self, now: Uptime, answer: &WebAnswer) -> Option<Deed> {
        self.pending.remove(&0).expect("nothing is answered twice, or unasked");
        match answer {
            WebAnswer::In(_) => self.next = Some((now, Next::Watch)),
            WebAnswer::Out(_) => return Some(Deed::HangUp),
        }
        None
    }

    /// Its connection is gone, and with it what was on it.
    pub(crate) fn disconnected(&mut self, now: Uptime, wait: Duration) {
        self.connection = None;
        self.pending.clear();
        self.watches = None;
        self.alive_at = None;
        self.next = (!self.off).then_some((now + wait, Next::Connect));
    }

    /// Something is due.
    pub(crate) fn tick(&mut self, now: Uptime) -> Option<Deed> {
        if self.pending.values().any(|(_, since)| *since + PATIENCE <= now) {
            self.lost_patience += 1;
            return Some(Deed::HangUp);
        }
        if self.alive_at.is_some_and(|at| at <= now) {
            self.alive_at = Some(now + KEEP_ALIVE);
            let sign = self.envelope().event(Operation::TRANSPORT_KEEP_ALIVE, &Piece::Null);
            return Some(Deed::Send(sign));
        }
        let (_, next) = self.next.take_if(|(at, _)| *at <= now)?;
        Some(match next {
            Next::Connect => Deed::Connect,
            Next::LogIn => {
                let shown =
                    Credentials::basic(&self.user, &ClientSettings::password_of(&self.user));
                self.ask(now, Operation::LOGIN, &shown)
            }
            Next::Watch => self.ask(now, Operation::MONITOR_START, &self.line()),
        })
    }

    /// Asks for the state of its line.
    pub(crate) fn reads(&mut self, now: Uptime) -> Deed {
        self.ask(now, Operation::SNAPSHOT_LINE, &self.line())
    }

    /// Dials a number.
    pub(crate) fn dials(&mut self, now: Uptime, number: &str) -> Deed {
        self.ask(now, Operation::MAKE_CALL, &call_to(number, &self.user))
    }

    /// Ends its monitor; another one follows.
    pub(crate) fn watches_anew(&mut self, now: Uptime) -> Option<Deed> {
        let cross_ref = self.watches.take()?;
        let stop = cti::for_monitor(&cross_ref);
        self.ends = Some(cross_ref);
        Some(self.ask(now, Operation::MONITOR_STOP, &stop))
    }

    /// Takes in a message.
    pub(crate) fn receive(&mut self, now: Uptime, message: &Message) -> Option<Deed> {
        if message.kind() == Kind::Invoke {
            return self.hear(now, message);
        }
        let id = message.id().expect("an answer names what it answers");
        let (operation, _) =
            self.pending.remove(&id).expect("nothing is answered twice, or unasked");
        let body = message.body().filter(|_| message.kind() == Kind::Result);
        match operation {
            Operation::NEGOTIATE => {
                let read = body.and_then(|body| Negotiated::read(&body).ok());
                match read {
                    Some(Negotiated::Done { .. }) => self.next = Some((now, Next::LogIn)),
                    _ => return Some(Deed::HangUp),
                }
            }
            Operation::LOGIN => match body.and_then(|body| LoginOutcome::read(&body).ok()) {
                Some(LoginOutcome::Succeeded { .. }) => self.next = Some((now, Next::Watch)),
                Some(LoginOutcome::Busy { seconds }) => {
                    let wait = Duration::from_secs(u64::try_from(seconds).unwrap_or(1));
                    self.next = Some((now + wait, Next::LogIn));
                }
                _ => return Some(Deed::HangUp),
            },
            Operation::MONITOR_START => {
                let granted = body.map(|body| cti::cross_ref_of_result(operation, &body).unwrap());
                match granted.flatten() {
                    Some((cross_ref, _)) => self.watches = Some(cross_ref),
                    None => self.next = Some((now + AGAIN, Next::Watch)),
                }
            }
            Operation::MONITOR_STOP if message.kind() == Kind::Result => {
                self.ends = None;
                self.next = Some((now, Next::Watch));
            }
            // A server that does not end it goes on telling.
            Operation::MONITOR_STOP => match self.ends.take() {
                Some(cross_ref) => self.watches = Some(cross_ref),
                None => self.next = Some((now, Next::Watch)),
            },
            _ => {}
        }
        None
    }

    fn hear(&mut self, now: Uptime, message: &Message) -> Option<Deed> {
        let operation = message.operation();
        let body = message.body()?;
        let (cross_ref, _) = cti::cross_ref(operation, &body).unwrap()?;
        if self.ends.as_ref() == Some(&cross_ref) {
            if operation == Operation::MONITOR_STOPPED {
                self.ends = None;
            }
            return None;
        }
        if self.watches.as_deref() != Some(&*cross_ref) {
            self.strays += 1;
            return None;
        }
        if operation == Operation::CALL_CHANGED {
            self.rings += 1;
        }
        if operation == Operation::MONITOR_STOPPED {
            self.watches = None;
            self.next = Some((now + AGAIN, Next::Watch));
        }
        None
    }
}
