//! [`Client`]: one simulated client of a user, whatever connection it is on. Pure: octets in,
//! octets out.
//!
//! ```text
//!  connected ─▶ negotiate ─▶ log in, in one step or in two ─▶ monitor of the user's line ─▶ listen
//!                  ▲                  │ busy
//!                  └───── later ◀─────┘
//! ```

use std::time::Duration;

use bytes::Bytes;

use crate::cli::demo::bank;
use crate::ucsap::framing::{Framer, Limits};
use crate::ucsap::login::{self, Credentials, LoginOutcome};
use crate::ucsap::negotiate::{Negotiated, Negotiation};
use crate::ucsap::{
    Encoding, Envelope, Kind, Malformed, Member, Message, Operation, Piece, Style, cti,
};
use crate::ucserver::ClientSettings;

/// Octets of a message: a line's events are small.
const MESSAGE_MAX: usize = 256 * 1024;
/// Ids are used again after this many (`ucsap.md` §3).
const IDS: i64 = 99_997;
/// What all of them are: ProCall desktop, of a version that may be served anywhere.
const APP: i64 = 1;
const VERSION: &str = "2603.0";
/// How long somebody waits at most who is told to come back.
const BUSY_MAX: Duration = Duration::from_secs(60);

/// A client, and what it remembers beyond its connection.
#[derive(Debug)]
pub(super) struct Client {
    number: usize,
    framer: Framer,
    stage: Stage,
    last_id: i64,
    /// GUID of the last connection, which the next one is told.
    former: Option<String>,
    /// Its monitor, as long as that stands.
    cross_ref: Option<String>,
}

/// What it waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// For nothing: it has no connection, or was told to come back.
    Nothing,
    Negotiation,
    /// What a server says to the first step of NTLM.
    Challenge,
    Login,
    Monitor,
    /// Events.
    Line,
}

/// What came of something it received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has asked the next thing.
    Asked,
    /// Its monitor stands.
    Listening,
    /// An event of that monitor.
    Heard,
    /// It was told to come back after this.
    Busy(Duration),
    /// It cannot go on, on this connection.
    Refused,
    /// Something that belongs to nothing it has asked for.
    Strange,
}

/// Whether this one shows what cannot be shown again to another server: one in twenty, of both
/// encodings.
pub(super) const fn is_bound(number: usize) -> bool {
    number.is_multiple_of(40) || number % 40 == 21
}

impl Client {
    /// The client of the user whose phone has this number.
    pub(super) fn new(number: usize) -> Self {
        Self {
            number,
            framer: Framer::new(Limits { message: MESSAGE_MAX }),
            stage: Stage::Nothing,
            last_id: 0,
            former: None,
            cross_ref: None,
        }
    }

    /// Has a new connection, or was told to come back on the one it has: says who is talking.
    pub(super) fn begin(&mut self, is_new: bool, out: &mut Vec<Bytes>) {
        if is_new {
            self.framer = Framer::new(Limits { message: MESSAGE_MAX });
        }
        self.cross_ref = None;
        let client = Negotiation {
            device: format!("demo-{}", bank::user(self.number)),
            version: VERSION.into(),
            app: APP,
            former: self.former.clone(),
        };
        self.ask(Stage::Negotiation, Operation::NEGOTIATE, &client.piece("demo"), out);
    }

    /// Its connection is gone.
    pub(super) fn is_cut_off(&mut self) {
        self.stage = Stage::Nothing;
        self.cross_ref = None;
    }

    /// Tells that it is still there.
    pub(super) fn keep_alive(&self, out: &mut Vec<Bytes>) {
        let nothing = Piece::Sequence(vec![(Member::nth("dummy", 0), Piece::Null)]);
        out.push(self.envelope().event(Operation::TRANSPORT_KEEP_ALIVE, &nothing));
    }

    /// Takes in what arrived on its connection; what came of that, and what it says.
    pub(super) fn receive(
        &mut self,
        octets: &[u8],
        out: &mut Vec<Bytes>,
        outcomes: &mut Vec<Outcome>,
    ) {
        self.framer.push(octets);
        loop {
            let message = match self.framer.next() {
                Ok(Some(message)) => Message::parse(message).ok(),
                Ok(None) => return,
                Err(_) => None,
            };
            let outcome = message.map_or(Outcome::Refused, |message| self.hear(&message, out));
            outcomes.push(outcome);
            if outcome == Outcome::Refused {
                return self.is_cut_off();
            }
        }
    }

    fn hear(&mut self, message: &Message, out: &mut Vec<Bytes>) -> Outcome {
        match (message.kind(), message.id()) {
            (Kind::Invoke, Some(_)) if message.is_event() => self.on_event(message, out),
            (Kind::Invoke, _) => Outcome::Strange,
            (Kind::Result, Some(id)) if id == self.last_id => {
                self.on_result(message, out).unwrap_or(Outcome::Refused)
            }
            (Kind::Error | Kind::Reject, Some(id)) if id == self.last_id => Outcome::Refused,
            (Kind::Result | Kind::Error | Kind::Reject, _) => Outcome::Strange,
        }
    }

    fn on_result(&mut self, message: &Message, out: &mut Vec<Bytes>) -> Result<Outcome, Malformed> {
        let body = message.body().ok_or(Malformed("a result without a result"))?;
        match self.stage {
            Stage::Negotiation => match Negotiated::read(&body)? {
                Negotiated::Done { connection, .. } => {
                    self.former = Some(connection);
                    self.show_first(out);
                    Ok(Outcome::Asked)
                }
                Negotiated::Busy { seconds } => Ok(self.wait(seconds)),
                Negotiated::Incompatible => Ok(Outcome::Refused),
            },
            Stage::Challenge | Stage::Login => match (LoginOutcome::read(&body)?, self.stage) {
                (LoginOutcome::Succeeded { .. }, _) => {
                    self.watch(out);
                    Ok(Outcome::Asked)
                }
                (LoginOutcome::NextStep, Stage::Challenge) => {
                    let user = bank::login_name(self.number);
                    let step = Credentials::ntlm(&login::ntlm_authenticate(&user, ""));
                    self.ask(Stage::Login, Operation::LOGIN, &step, out);
                    Ok(Outcome::Asked)
                }
                (LoginOutcome::Busy { seconds }, _) => Ok(self.wait(seconds)),
                // A door follows redirects and shows none.
                (LoginOutcome::Methods | LoginOutcome::Redirect(_) | LoginOutcome::NextStep, _) => {
                    Ok(Outcome::Refused)
                }
            },
            Stage::Monitor => {
                let asked = Operation::MONITOR_START;
                let (name, _) = cti::cross_ref_of_result(asked, &body)?
                    .ok_or(Malformed("a monitor without a name"))?;
                self.cross_ref = Some(name);
                self.stage = Stage::Line;
                Ok(Outcome::Listening)
            }
            Stage::Nothing | Stage::Line => Ok(Outcome::Strange),
        }
    }

    fn on_event(&mut self, message: &Message, out: &mut Vec<Bytes>) -> Outcome {
        let named = message.body().and_then(|body| {
            let named = cti::cross_ref(message.operation(), &body).ok().flatten();
            named.map(|(name, _)| name)
        });
        if named.is_none() || named != self.cross_ref {
            return Outcome::Strange;
        }
        if message.operation() == Operation::MONITOR_STOPPED {
            self.watch(out);
            return Outcome::Asked;
        }
        Outcome::Heard
    }

    fn show_first(&mut self, out: &mut Vec<Bytes>) {
        let user = bank::login_name(self.number);
        if is_bound(self.number) {
            let step = Credentials::ntlm(&login::ntlm_negotiate());
            self.ask(Stage::Challenge, Operation::LOGIN, &step, out);
        } else {
            let password = ClientSettings::password_of(&user);
            let shown = Credentials::basic(&user, &password);
            self.ask(Stage::Login, Operation::LOGIN, &shown, out);
        }
    }

    fn watch(&mut self, out: &mut Vec<Bytes>) {
        self.cross_ref = None;
        let line = ClientSettings::line_of(&bank::login_name(self.number));
        self.ask(Stage::Monitor, Operation::MONITOR_START, &cti::for_line(&line), out);
    }

    fn wait(&mut self, seconds: i64) -> Outcome {
        self.stage = Stage::Nothing;
        let seconds = Duration::from_secs(u64::try_from(seconds).unwrap_or(0).max(1));
        Outcome::Busy(seconds.min(BUSY_MAX))
    }

    fn ask(&mut self, stage: Stage, operation: Operation, argument: &Piece, out: &mut Vec<Bytes>) {
        self.stage = stage;
        self.last_id = self.last_id % IDS + 1;
        out.push(self.envelope().invoke(self.last_id, operation, argument));
    }

    /// Half of them write BER as the original runtime does, half JSON.
    const fn envelope(&self) -> Envelope<'static> {
        let encoding = if self.number.is_multiple_of(2) { Encoding::Ber } else { Encoding::Json };
        Envelope { encoding, style: Style::Original, session: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::now::Uptime;
    use crate::ucserver::{Input, Output, Settings, ToClient, UcServer};

    const NOW: Uptime = Uptime::from_secs(1_000);
    /// Of both encodings; the first and the last show what cannot be shown again.
    const NUMBERS: [usize; 4] = [0, 1, 2, 21];

    fn server(clients: ClientSettings) -> UcServer {
        UcServer::new(Settings { clients, ..Settings::default() }, NOW, 1)
    }

    /// What a server sends to a connection, all of it.
    fn sent(server: &mut UcServer) -> Vec<u8> {
        let mut octets = Vec::new();
        while let Some(output) = server.poll() {
            if let Output::Client(ToClient::Send { bytes, .. }) = output {
                octets.extend_from_slice(&bytes);
            }
        }
        octets
    }

    /// Hands everything to and fro until nobody says anything any more.
    fn talk(
        client: &mut Client,
        server: &mut UcServer,
        connection: u64,
        mut out: Vec<Bytes>,
    ) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        while !out.is_empty() {
            for message in out.drain(..) {
                server.handle(NOW, Input::Client { connection, message });
            }
            client.receive(&sent(server), &mut out, &mut outcomes);
        }
        outcomes
    }

    fn begin(client: &mut Client, server: &mut UcServer, connection: u64) -> Vec<Outcome> {
        let mut out = Vec::new();
        client.begin(true, &mut out);
        talk(client, server, connection, out)
    }

    fn ring(number: usize, server: &mut UcServer) -> Vec<u8> {
        let line = ClientSettings::line_of(&bank::login_name(number));
        server.ring(NOW, &line, "+4989").unwrap();
        sent(server)
    }

    #[test]
    fn one_in_twenty_shows_what_cannot_be_shown_again_in_both_encodings() {
        let bound: Vec<usize> = (0..5_000).filter(|number| is_bound(*number)).collect();
        assert_eq!(bound.len(), 250);
        assert_eq!(bound.iter().filter(|number| number.is_multiple_of(2)).count(), 125);
    }

    #[test]
    fn a_client_logs_in_watches_its_line_and_hears_of_it() {
        for number in NUMBERS {
            let (mut client, mut server) = (Client::new(number), server(ClientSettings::default()));
            let outcomes = begin(&mut client, &mut server, 1);
            assert_eq!(outcomes.last(), Some(&Outcome::Listening), "{number}: {outcomes:?}");
            let logins: Vec<_> = server.clients().logins().map(|it| it.user.to_owned()).collect();
            assert_eq!(logins, [bank::login_name(number)]);
            let mut outcomes = Vec::new();
            client.receive(&ring(number, &mut server), &mut Vec::new(), &mut outcomes);
            assert_eq!(outcomes, [Outcome::Heard], "{number}");
        }
    }

    #[test]
    fn octets_may_come_one_by_one() {
        let (mut client, mut server) = (Client::new(1), server(ClientSettings::default()));
        begin(&mut client, &mut server, 1);
        let mut outcomes = Vec::new();
        for octet in ring(1, &mut server) {
            client.receive(&[octet], &mut Vec::new(), &mut outcomes);
        }
        assert_eq!(outcomes, [Outcome::Heard]);
    }

    #[test]
    fn an_event_of_another_monitor_is_not_heard() {
        let (mut client, mut server) = (Client::new(2), server(ClientSettings::default()));
        begin(&mut client, &mut server, 1);
        let mut again = Client::new(2);
        begin(&mut again, &mut server, 2);
        let line = ClientSettings::line_of(&bank::login_name(2));
        server.ring(NOW, &line, "+4989").unwrap();
        let mut outcomes = Vec::new();
        // Both monitors' events on one connection.
        client.receive(&sent(&mut server), &mut Vec::new(), &mut outcomes);
        outcomes.sort_by_key(|outcome| *outcome == Outcome::Strange);
        assert_eq!(outcomes, [Outcome::Heard, Outcome::Strange]);
    }

    #[test]
    fn who_comes_back_is_the_same_device_and_names_its_former_connection() {
        let (mut client, mut server) = (Client::new(0), server(ClientSettings::default()));
        let mut first = Vec::new();
        client.begin(true, &mut first);
        talk(&mut client, &mut server, 1, first.clone());
        server.handle(NOW, Input::ClientClosed { connection: 1 });
        client.is_cut_off();
        let mut second = Vec::new();
        client.begin(true, &mut second);
        let said = |bytes: &Bytes| {
            let message = Message::parse(bytes.clone()).unwrap();
            Negotiation::read(&message.body().unwrap()).unwrap()
        };
        let (first, again) = (said(&first[0]), said(&second[0]));
        assert_eq!(first.device, again.device);
        assert!(first.former.is_none() && again.former.is_some());
        let outcomes = talk(&mut client, &mut server, 2, second);
        assert_eq!(outcomes.last(), Some(&Outcome::Listening));
    }

    #[test]
    fn a_busy_server_says_when_to_come_back() {
        let busy = ClientSettings { busy_secs: Some(7), ..ClientSettings::default() };
        let (mut client, mut server) = (Client::new(1), server(busy));
        let outcomes = begin(&mut client, &mut server, 1);
        assert_eq!(outcomes, [Outcome::Busy(Duration::from_secs(7))]);
    }

    #[test]
    fn a_refused_login_and_octets_that_are_none_end_the_talk() {
        let nobody = ClientSettings { users: Some([].into()), ..ClientSettings::default() };
        for number in NUMBERS {
            let (mut client, mut server) = (Client::new(number), server(nobody.clone()));
            let outcomes = begin(&mut client, &mut server, 1);
            assert_eq!(outcomes.last(), Some(&Outcome::Refused), "{number}");
        }
        let mut outcomes = Vec::new();
        Client::new(1).receive(b"HTTP/1.1 400", &mut Vec::new(), &mut outcomes);
        assert_eq!(outcomes, [Outcome::Refused]);
    }

    #[test]
    fn a_monitor_that_was_stopped_is_started_anew() {
        let (mut client, mut server) = (Client::new(1), server(ClientSettings::default()));
        begin(&mut client, &mut server, 1);
        let cross_ref = client.cross_ref.clone().unwrap();
        let stopped =
            client.envelope().event(Operation::MONITOR_STOPPED, &cti::for_monitor(&cross_ref));
        let (mut out, mut outcomes) = (Vec::new(), Vec::new());
        client.receive(&stopped, &mut out, &mut outcomes);
        assert_eq!(outcomes, [Outcome::Asked]);
        assert_eq!(talk(&mut client, &mut server, 1, out), [Outcome::Listening]);
        assert_ne!(client.cross_ref, Some(cross_ref));
    }

    #[test]
    fn a_keep_alive_is_taken_and_not_answered() {
        for number in NUMBERS {
            let (mut client, mut server) = (Client::new(number), server(ClientSettings::default()));
            begin(&mut client, &mut server, 1);
            let mut out = Vec::new();
            client.keep_alive(&mut out);
            assert_eq!(talk(&mut client, &mut server, 1, out), []);
            assert_eq!(server.journal().counters().clients.keep_alives, 1);
        }
    }
}
