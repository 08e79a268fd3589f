//! Sessions and a machine in virtual time: what takes minutes, and what takes many.

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot};

use super::*;
use crate::ucsap::login::Credentials;
use crate::ucsap::negotiate::Negotiation;
use crate::ucserver::run::web::sessions::{Called, LoggedIn, Login, SOCKET_QUEUE, ToSocket};
use crate::ucserver::server::{Output, UcServer};
use crate::ucserver::settings::Settings;
use crate::ucserver::{ClientSettings, Mood};

/// A server and its entrance, without sockets.
struct House {
    now: Uptime,
    server: UcServer,
    sessions: Sessions,
}

impl House {
    fn new() -> Self {
        let now = Uptime::from_secs(100);
        let server = UcServer::new(Settings::default(), now, 7);
        Self { now, server, sessions: Sessions::new(7) }
    }

    fn settle(&mut self) {
        loop {
            while let Some(output) = self.server.poll() {
                let Output::Client(what) = output else { continue };
                assert!(WebWire::is_of_web(&what));
                self.sessions.act(self.now, what);
            }
            let Some(input) = self.sessions.input() else { return };
            self.server.handle(self.now, input);
        }
    }

    fn handle(&mut self, asked: Asked) {
        let is_silent = self.server.is_silent(self.now);
        self.sessions.handle(self.now, asked, is_silent);
        self.settle();
    }

    fn ask<T>(&mut self, question: impl FnOnce(oneshot::Sender<T>) -> Asked) -> Option<T> {
        let (reply, mut replied) = oneshot::channel();
        self.handle(question(reply));
        replied.try_recv().ok()
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += Duration::from_secs(1);
            self.server.handle(self.now, Input::Timeout);
            self.settle();
            let is_silent = self.server.is_silent(self.now);
            self.sessions.tick(self.now, is_silent);
            self.settle();
        }
    }

    fn log_in(&mut self, is_direct: bool) -> String {
        let (device, version) = (String::new(), String::new());
        let negotiation = Negotiation { device, version, app: 15, former: None };
        let credentials = Credentials::basic("anna", "pw-anna");
        let login = Login { negotiation, credentials, rounds: None, is_direct };
        let outcome = self.ask(|reply| Asked::Login { login, reply }).unwrap();
        let name = if let LoggedIn::Session(name) = outcome { Some(name) } else { None };
        name.expect("a session").to_string()
    }

    fn call(&mut self, session: &str, operation: &str, argument: &'static str) -> Called {
        let (session, operation) = (session.to_owned(), operation.to_owned());
        let argument = argument.into();
        self.ask(|reply| Asked::Call { session, operation, argument, reply }).unwrap()
    }

    fn watch(&mut self, session: &str) {
        let line = ClientSettings::line_of("anna");
        let argument = format!("{{\"u8sLinePhoneNumber\":\"{line}\"}}");
        let called = self.call(session, "asnCtiLineMonitorStart", argument.leak());
        assert!(matches!(called, Called::Result(_)), "{called:?}");
    }

    /// Somebody calls, and hangs up: three events.
    fn ring(&mut self) {
        let line = ClientSettings::line_of("anna");
        let call = self.server.ring(self.now, &line, "+4970").unwrap();
        self.settle();
        self.server.hang_up(self.now, &call).unwrap();
        self.settle();
    }

    fn socket(&mut self, session: &str) -> (u64, mpsc::Receiver<ToSocket>) {
        let (to, told) = mpsc::channel(SOCKET_QUEUE);
        let session = session.to_owned();
        let number = self.ask(|reply| Asked::Socket { session, to, reply }).flatten();
        (number.expect("there is such a session"), told)
    }

    fn end(&mut self, session: &str, socket: u64) {
        self.handle(Asked::SocketEnded { session: session.to_owned(), socket });
    }

    fn logins(&self) -> usize {
        let logins = self.server.clients().logins().count();
        assert_eq!(logins, self.sessions.counts().sessions);
        logins
    }
}

#[test]
fn a_session_lives_five_minutes_without_a_word_although_its_server_has_less_patience() {
    let mut house = House::new();
    let session = house.log_in(false);
    house.pass(299);
    assert_eq!(house.logins(), 1);
    assert!(matches!(house.call(&session, "asnGetLoggedInContactV2", "{}"), Called::Result(_)));
    house.pass(299);
    assert_eq!(house.logins(), 1);
    house.pass(1);
    assert_eq!((house.logins(), house.server.clients().connections()), (0, 0));
    let called = house.call(&session, "asnGetLoggedInContactV2", "{}");
    assert!(matches!(called, Called::NoSession), "{called:?}");
}

#[test]
fn a_session_outlives_its_web_socket_by_a_minute() {
    let mut house = House::new();
    let session = house.log_in(false);
    let (first, _told) = house.socket(&session);
    house.end(&session, first);
    house.pass(59);
    let (second, mut told) = house.socket(&session);
    // It is known already that this one has ended.
    house.end(&session, first);
    house.pass(100);
    assert_eq!((house.logins(), told.try_recv().err()), (1, Some(TryRecvError::Empty)));
    house.end(&session, second);
    house.pass(60);
    assert_eq!(house.logins(), 0);
}

#[test]
fn whoever_pings_is_there() {
    let mut house = House::new();
    let session = house.log_in(false);
    let (socket, mut told) = house.socket(&session);
    for _ in 0..4 {
        house.pass(200);
        house.handle(Asked::Heard { session: session.clone(), socket });
    }
    assert_eq!(house.logins(), 1);
    house.pass(300);
    assert_eq!(house.logins(), 0);
    assert!(matches!(told.try_recv(), Ok(ToSocket::Close(1000))));
}

#[test]
fn the_oldest_events_that_nobody_fetches_are_dropped_and_counted() {
    let mut house = House::new();
    let session = house.log_in(false);
    house.watch(&session);
    for _ in 0..100 {
        house.ring();
    }
    assert_eq!(house.sessions.counts().events_dropped, 300 - 256);
    let (_, mut told) = house.socket(&session);
    let mut texts = Vec::new();
    while let Ok(ToSocket::Text(text)) = told.try_recv() {
        texts.push(text);
    }
    assert_eq!(texts.len(), 256);
    assert!(texts.last().is_some_and(|text| text.contains("\"iCallState\":1,")));
    house.ring();
    assert_eq!(house.sessions.counts().events_dropped, 44);
    assert!(matches!(told.try_recv(), Ok(ToSocket::Text(_))));
}

#[test]
fn a_web_socket_that_does_not_read_is_cut_off() {
    let mut house = House::new();
    let session = house.log_in(false);
    house.watch(&session);
    let (_, mut told) = house.socket(&session);
    for _ in 0..=SOCKET_QUEUE / 3 {
        house.ring();
    }
    assert_eq!(house.sessions.counts().sockets, 0);
    for _ in 0..SOCKET_QUEUE {
        assert!(matches!(told.try_recv(), Ok(ToSocket::Text(_))));
    }
    assert_eq!(told.try_recv().err(), Some(TryRecvError::Disconnected));
    assert_eq!(house.logins(), 1);
    house.pass(60);
    assert_eq!(house.logins(), 0);
}

#[test]
fn what_was_asked_on_one_web_socket_is_not_answered_on_the_next() {
    let mut house = House::new();
    let session = house.log_in(false);
    let (socket, _told) = house.socket(&session);
    house.server.set_mood(house.now, Mood::Slow { delay: Duration::from_secs(2) });
    let say = |socket, id: i64| Asked::Said {
        session: session.clone(),
        socket,
        text: format!(
            "{{\"invoke\":{{\"invokeID\":{id},\"operationName\":\"asnGetLoggedInContactV2\",\
             \"argument\":{{}}}}}}"
        )
        .into(),
    };
    house.handle(say(socket, 1));
    house.handle(say(socket + 1, 9));
    let (next, mut told) = house.socket(&session);
    house.handle(say(next, 2));
    house.handle(say(socket, 3));
    house.pass(3);
    let answer = told.try_recv();
    let is_it = |text: &str| text.contains("\"invokeID\":2,");
    assert!(matches!(&answer, Ok(ToSocket::Text(text)) if is_it(text)), "{answer:?}");
    assert_eq!(told.try_recv().err(), Some(TryRecvError::Empty));
}

#[test]
fn nobody_who_waits_keeps_waiting_when_a_session_ends() {
    let mut house = House::new();
    let session = house.log_in(false);
    house.server.set_mood(house.now, Mood::Slow { delay: Duration::from_secs(2) });
    let (operation, argument) = (String::from("asnGetLoggedInContactV2"), "{}".into());
    let (reply, mut replied) = oneshot::channel();
    let (called, named) = (session.clone(), session.clone());
    house.handle(Asked::Call { session: called, operation, argument, reply });
    assert!(replied.try_recv().is_err());
    assert_eq!(house.ask(|reply| Asked::End { session: named, reply }), Some(true));
    assert!(matches!(replied.try_recv(), Ok(Called::NoSession)));
    assert_eq!(house.ask(|reply| Asked::End { session, reply }), Some(false));
    house.pass(3);
    assert_eq!(house.logins(), 0);
}

#[test]
fn a_login_that_nobody_waits_for_any_longer_leaves_nothing() {
    let mut house = House::new();
    house.server.set_mood(house.now, Mood::Slow { delay: Duration::from_secs(2) });
    let (device, version) = (String::new(), String::new());
    let negotiation = Negotiation { device, version, app: 15, former: None };
    let credentials = Credentials::basic("anna", "pw-anna");
    let login = Login { negotiation, credentials, rounds: None, is_direct: false };
    let (reply, replied) = oneshot::channel();
    house.handle(Asked::Login { login, reply });
    drop(replied);
    house.pass(10);
    assert_eq!((house.logins(), house.server.clients().connections()), (0, 0));
    house.server.set_mood(house.now, Mood::Healthy);
    house.log_in(true);
    house.pass(10);
    assert_eq!(house.logins(), 0, "one that was for a single call does not stay");
}

#[test]
fn nothing_ends_while_the_server_is_silent() {
    let mut house = House::new();
    let session = house.log_in(false);
    let (_, mut told) = house.socket(&session);
    house.server.set_mood(house.now, Mood::Hung);
    assert_eq!(house.ask(|reply| Asked::Leave { reply }), None);
    house.pass(400);
    house.server.set_mood(house.now, Mood::Healthy);
    house.server.handle(house.now, Input::Timeout);
    house.settle();
    assert_eq!((house.logins(), told.try_recv().err()), (1, Some(TryRecvError::Empty)));
    assert_eq!(house.ask(|reply| Asked::Leave { reply }), Some(()));
}

#[test]
fn a_server_that_is_full_turns_sessions_away() {
    let mut house = House::new();
    let mut settings = Settings::default();
    settings.clients.limits.connections = 1;
    house.server = UcServer::new(settings, house.now, 7);
    house.log_in(false);
    let (device, version) = (String::new(), String::new());
    let negotiation = Negotiation { device, version, app: 15, former: None };
    let credentials = Credentials::basic("bert", "pw-bert");
    let login = Login { negotiation, credentials, rounds: None, is_direct: false };
    let turned_away = house.ask(|reply| Asked::Login { login, reply });
    assert!(matches!(turned_away, Some(LoggedIn::Away)), "{turned_away:?}");
    assert_eq!(house.logins(), 1);
}
