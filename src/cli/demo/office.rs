//! [`Office`]: all simulated clients. Pure: time is an argument, octets come in, orders go out.
//!
//! Only so many connect for the first time at once. A client whose connection was closed comes back
//! on another one, one that was told to come back waits on the one it has, and one that listens says
//! every few seconds that it is still there.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::cli::demo::board::{Board, ClientBoard};
use crate::cli::demo::client::{Client, Outcome};
use crate::now::Uptime;
use crate::timers::Timers;

/// How long a connection or an answer may take: longer than a door lets a login wait.
const PATIENCE: Duration = Duration::from_secs(30);
/// Until a client whose connection is gone makes another one, and from the tenth failure on, as
/// published clients do it.
const RECONNECT: Duration = Duration::from_secs(1);
const RECONNECT_LATER: Duration = Duration::from_secs(5);
const FAILURES_UNTIL_LATER: u32 = 10;
/// Between two signs of life, as published clients send them.
const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// What is to be done with a client's connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Act {
    /// Make one.
    Connect,
    /// Send one message.
    Send(Bytes),
    /// Close it; nobody has to be told.
    HangUp,
}

/// For the connection of this client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) client: usize,
    pub(super) act: Act,
}

/// All clients.
#[derive(Debug)]
pub(super) struct Office {
    places: Vec<Place>,
    /// Clients that have not tried yet.
    waiting: VecDeque<usize>,
    /// Clients that have, and never listened.
    in_flight: usize,
    window: usize,
    timers: Timers<usize>,
    board: Arc<ClientBoard>,
    /// Empty between two calls.
    said: Vec<Bytes>,
    outcomes: Vec<Outcome>,
}

#[derive(Debug)]
struct Place {
    client: Client,
    state: State,
    /// When its state wants something; older deadlines of the queue are stale.
    due: Uptime,
    failures: u32,
    has_listened: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Has not tried yet.
    Fresh,
    /// Has no connection.
    Away,
    /// Waits for a connection.
    Connecting,
    /// Waits for an answer.
    Asking,
    /// Was told to come back, and keeps its connection.
    Waiting,
    /// Hears events.
    Listening,
}

impl Office {
    pub(super) fn new(count: usize, window: usize, board: Arc<ClientBoard>) -> Self {
        let place = |number| Place {
            client: Client::new(number),
            state: State::Fresh,
            due: Uptime::NEVER,
            failures: 0,
            has_listened: false,
        };
        Self {
            places: (0..count).map(place).collect(),
            waiting: (0..count).collect(),
            in_flight: 0,
            window: window.max(1),
            timers: Timers::default(),
            board,
            said: Vec::new(),
            outcomes: Vec::new(),
        }
    }

    /// When [`Office::poll`] is due.
    pub(super) fn next(&self) -> Option<Uptime> {
        self.timers.next()
    }

    /// Lets time pass.
    pub(super) fn poll(&mut self, now: Uptime, out: &mut VecDeque<Order>) {
        while self.in_flight < self.window {
            let Some(client) = self.waiting.pop_front() else { break };
            self.in_flight += 1;
            self.connect(now, client, out);
        }
        while let Some(client) = self.timers.pop_due(now) {
            let Some(place) = self.places.get_mut(client) else { continue };
            if place.due > now {
                continue;
            }
            match place.state {
                State::Away => self.connect(now, client, out),
                State::Connecting | State::Asking => {
                    Board::add(&self.board.timeouts, 1);
                    self.hang_up(now, client, out);
                }
                State::Waiting => self.begin(now, client, false, out),
                State::Listening => {
                    place.client.keep_alive(&mut self.said);
                    self.send(client, out);
                    self.is_in(now, client, State::Listening, KEEP_ALIVE);
                }
                State::Fresh => {}
            }
        }
    }

    /// A connection was made.
    pub(super) fn connected(&mut self, now: Uptime, client: usize, out: &mut VecDeque<Order>) {
        self.board.connected(client);
        self.begin(now, client, true, out);
    }

    /// A connection was not made, or is gone; this side did not close it.
    pub(super) fn closed(&mut self, now: Uptime, client: usize) {
        Board::add(&self.board.closed, 1);
        self.is_away(now, client);
    }

    /// Takes in what arrived on a client's connection.
    pub(super) fn receive(
        &mut self,
        now: Uptime,
        client: usize,
        octets: &[u8],
        out: &mut VecDeque<Order>,
    ) {
        let Some(place) = self.places.get_mut(client) else { return };
        if !matches!(place.state, State::Asking | State::Waiting | State::Listening) {
            return;
        }
        let mut outcomes = std::mem::take(&mut self.outcomes);
        place.client.receive(octets, &mut self.said, &mut outcomes);
        self.send(client, out);
        for outcome in outcomes.drain(..) {
            self.came_of(now, client, outcome, out);
        }
        self.outcomes = outcomes;
    }

    fn came_of(&mut self, now: Uptime, client: usize, outcome: Outcome, out: &mut VecDeque<Order>) {
        match outcome {
            Outcome::Asked => self.is_in(now, client, State::Asking, PATIENCE),
            Outcome::Listening => {
                self.board.monitored(client);
                self.is_in(now, client, State::Listening, KEEP_ALIVE);
                let Some(place) = self.places.get_mut(client) else { return };
                place.failures = 0;
                if !std::mem::replace(&mut place.has_listened, true) {
                    self.in_flight = self.in_flight.saturating_sub(1);
                    Board::add(&self.board.logged_in, 1);
                    self.poll(now, out);
                }
            }
            Outcome::Heard => self.board.heard(client, now),
            Outcome::Busy(wait) => {
                Board::add(&self.board.busy, 1);
                self.is_in(now, client, State::Waiting, wait);
            }
            Outcome::Refused => {
                Board::add(&self.board.refused, 1);
                self.hang_up(now, client, out);
            }
            Outcome::Strange => Board::add(&self.board.strange, 1),
        }
    }

    fn connect(&mut self, now: Uptime, client: usize, out: &mut VecDeque<Order>) {
        self.is_in(now, client, State::Connecting, PATIENCE);
        out.push_back(Order { client, act: Act::Connect });
    }

    fn begin(&mut self, now: Uptime, client: usize, is_new: bool, out: &mut VecDeque<Order>) {
        let Some(place) = self.places.get_mut(client) else { return };
        place.client.begin(is_new, &mut self.said);
        self.send(client, out);
        self.is_in(now, client, State::Asking, PATIENCE);
    }

    fn hang_up(&mut self, now: Uptime, client: usize, out: &mut VecDeque<Order>) {
        out.push_back(Order { client, act: Act::HangUp });
        self.is_away(now, client);
    }

    fn is_away(&mut self, now: Uptime, client: usize) {
        let Some(place) = self.places.get_mut(client) else { return };
        place.client.is_cut_off();
        place.failures = place.failures.saturating_add(1);
        let is_later = place.failures >= FAILURES_UNTIL_LATER;
        let wait = if is_later { RECONNECT_LATER } else { RECONNECT };
        self.is_in(now, client, State::Away, wait);
    }

    /// The state of a client, and how long that may last.
    fn is_in(&mut self, now: Uptime, client: usize, state: State, time: Duration) {
        let Some(place) = self.places.get_mut(client) else { return };
        place.state = state;
        place.due = now + time;
        self.timers.set(place.due, client);
    }

    fn send(&mut self, client: usize, out: &mut VecDeque<Order>) {
        let orders = self.said.drain(..).map(|bytes| Order { client, act: Act::Send(bytes) });
        out.extend(orders);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ucserver::{ClientSettings, Input, Output, Settings, ToClient, UcServer};

    const START: Uptime = Uptime::from_secs(1_000);

    /// An office before one server: every order is carried out at once, time passes when told to.
    struct Play {
        now: Uptime,
        office: Office,
        board: Arc<ClientBoard>,
        server: UcServer,
        /// By client: the number of its connection.
        connections: Vec<Option<u64>>,
        last: u64,
        refuses: bool,
        hung_up: usize,
    }

    impl Play {
        fn new(count: usize, window: usize, clients: ClientSettings) -> Self {
            let board = Arc::new(ClientBoard::new(count));
            Self {
                now: START,
                office: Office::new(count, window, Arc::clone(&board)),
                board,
                server: UcServer::new(Settings { clients, ..Settings::default() }, START, 1),
                connections: vec![None; count],
                last: 0,
                refuses: false,
                hung_up: 0,
            }
        }

        fn pass(&mut self, time: Duration) {
            let until = self.now + time;
            loop {
                let mut out = VecDeque::new();
                self.office.poll(self.now, &mut out);
                self.server.handle(self.now, Input::Timeout);
                self.carry_out(out);
                let next = [self.office.next(), self.server.next()].into_iter().flatten().min();
                match next.filter(|at| *at <= until) {
                    Some(at) => self.now = self.now.max(at),
                    None => break,
                }
            }
            self.now = until;
        }

        fn carry_out(&mut self, mut orders: VecDeque<Order>) {
            loop {
                while let Some(Order { client, act }) = orders.pop_front() {
                    match act {
                        Act::Connect if self.refuses => self.office.closed(self.now, client),
                        Act::Connect => {
                            self.last += 1;
                            self.connections[client] = Some(self.last);
                            self.office.connected(self.now, client, &mut orders);
                        }
                        Act::Send(message) => {
                            let connection = self.connections[client].unwrap();
                            self.server.handle(self.now, Input::Client { connection, message });
                        }
                        Act::HangUp => {
                            self.hung_up += 1;
                            self.connections[client] = None;
                        }
                    }
                }
                let Some(output) = self.server.poll() else { return };
                let Output::Client(ToClient::Send { connection, bytes }) = output else { continue };
                let to = self.connections.iter().position(|it| *it == Some(connection));
                let Some(client) = to else { continue };
                self.office.receive(self.now, client, &bytes, &mut orders);
            }
        }

        fn cut(&mut self, client: usize) {
            let connection = self.connections[client].take().unwrap();
            self.server.handle(self.now, Input::ClientClosed { connection });
            self.office.closed(self.now, client);
        }
    }

    fn telling() -> ClientSettings {
        ClientSettings {
            line_events_every: Some(Duration::from_millis(500)),
            ..ClientSettings::default()
        }
    }

    #[test]
    fn only_a_window_of_clients_connects_at_once() {
        let board = Arc::new(ClientBoard::new(5));
        let mut office = Office::new(5, 2, Arc::clone(&board));
        let mut out = VecDeque::new();
        office.poll(START, &mut out);
        office.poll(START, &mut out);
        let orders: Vec<Order> = out.into();
        assert_eq!(orders, [0, 1].map(|client| Order { client, act: Act::Connect }));
    }

    #[test]
    fn all_clients_come_to_listen_and_hear_again_and_again() {
        let mut play = Play::new(45, 4, telling());
        play.pass(Duration::from_secs(3));
        assert_eq!(Board::read(&play.board.logged_in), 45);
        assert_eq!(play.server.clients().logins().count(), 45);
        for client in 0..45 {
            let side = play.board.side(client);
            assert_eq!((side.connections, side.monitors), (1, 1));
            let ago = play.now.as_nanos() - side.last_heard_nanos;
            assert!(ago <= 500_000_000, "{client}: {ago}");
        }
        assert_eq!((Board::read(&play.board.strange), play.hung_up), (0, 0));
    }

    #[test]
    fn who_listens_for_minutes_is_not_taken_for_dead() {
        let mut play = Play::new(2, 2, ClientSettings::default());
        play.pass(Duration::from_secs(300));
        assert_eq!(play.server.clients().logins().count(), 2);
        assert_eq!(play.board.side(1).connections, 1);
    }

    #[test]
    fn who_is_cut_off_comes_back_after_a_second_and_hears_again() {
        let mut play = Play::new(2, 2, telling());
        play.pass(Duration::from_secs(1));
        play.cut(1);
        play.pass(Duration::from_millis(999));
        assert_eq!(play.board.side(1).connections, 1);
        play.pass(Duration::from_secs(1));
        let side = play.board.side(1);
        assert_eq!((side.connections, side.monitors), (2, 2));
        assert!(side.last_heard_nanos > (START + Duration::from_secs(2)).as_nanos());
        assert_eq!(play.board.side(0).connections, 1);
        assert_eq!(Board::read(&play.board.logged_in), 2, "nobody counts twice");
    }

    #[test]
    fn who_finds_nobody_tries_less_often_after_a_while() {
        let mut play = Play::new(1, 1, ClientSettings::default());
        play.refuses = true;
        play.pass(Duration::from_millis(9_500));
        assert_eq!(Board::read(&play.board.closed), 10);
        play.pass(Duration::from_secs(10));
        assert_eq!(Board::read(&play.board.closed), 12);
        play.refuses = false;
        play.pass(Duration::from_secs(5));
        assert_eq!(Board::read(&play.board.logged_in), 1);
    }

    #[test]
    fn who_is_told_to_come_back_waits_on_the_same_connection() {
        let busy = ClientSettings { busy_secs: Some(2), ..ClientSettings::default() };
        let mut play = Play::new(1, 1, busy);
        play.pass(Duration::from_secs(5));
        assert_eq!(Board::read(&play.board.busy), 3);
        assert_eq!(play.board.side(0).connections, 1);
    }

    #[test]
    fn who_gets_no_answer_hangs_up_in_the_end() {
        let mut play = Play::new(1, 1, ClientSettings::default());
        play.server.set_mood(START, crate::ucserver::Mood::Hung);
        play.pass(Duration::from_secs(32));
        assert_eq!((Board::read(&play.board.timeouts), play.hung_up), (1, 1));
        assert_eq!(play.board.side(0).connections, 2);
    }
}
