//! Clients in the world, and the streams between them, the door, and the servers: in order, whole,
//! and over when an end is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use frontdoor::door::{Input, WebAnswer};
use frontdoor::now::Uptime;
use frontdoor::sip::{ConnectionId, Flow, ListenerId, Transport};
use frontdoor::ucsap::login::{Credentials, LoginOutcome};
use frontdoor::ucsap::{Kind, Message, Operation};
use frontdoor::ucserver::{self, ClientHome, ClientSettings, Mood, ToClient};
use frontdoor::ucws::{Opened, Opening};

use crate::client::{AGAIN, Client, Deed};
use crate::desk::web::{native, opened, web_entrance};
use crate::world::{Happening, World};

/// Where clients connect to; the core asks nothing of this listener.
const CLIENTS: ListenerId = ListenerId(7);
/// What a stream takes, whatever the weather: the kernels mend what is lost.
const LATENCY: Duration = Duration::from_millis(3);

/// Something on a stream.
#[derive(Debug)]
pub(super) enum OnStream {
    /// A client's message reaches the door.
    ToDoor { client: usize, connection: u64, bytes: Bytes },
    /// The door's reaches a client.
    ToClient { connection: u64, bytes: Bytes },
    /// A leg's reaches its server.
    ToServer { leg: Leg, bytes: Bytes },
    /// A server's reaches the door.
    FromServer { leg: Leg, bytes: Bytes },
    /// The door hears that a client wants a session of the WebService.
    OpensAtDoor { client: usize, connection: u64, opening: Box<Opening> },
    /// And the client what came of it.
    AnswerToClient { connection: u64, answer: WebAnswer },
    /// A server's WebService is shown the same.
    OpensAtServer { leg: Leg, opening: Arc<Opening> },
    /// And the door hears what it says.
    OpenedAtDoor { leg: Leg, opened: Opened },
    /// The door hears that a client is gone.
    ClientGone { client: usize, connection: u64 },
    /// A client hears that the door has closed its connection, or is gone.
    DoorGone { connection: u64 },
    /// A server hears the same.
    LegGone { leg: Leg },
    /// The door hears that a server has closed a leg, or never had it.
    ServerGone { leg: Leg, refused: bool },
}

/// A leg: of which life of the door, its number then, and to which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Leg {
    life: u32,
    number: u64,
    server: usize,
    by_web: bool,
}

impl Leg {
    /// What the server calls it.
    fn connection(self) -> u64 {
        u64::from(self.life) << 32 | self.number
    }

    fn flow(self) -> Flow {
        let (listener, remote) = match self.by_web {
            true => (ListenerId::WEB, web_entrance(self.server)),
            false => (ListenerId::NONE, entrance(self.server)),
        };
        let (transport, connection) = (Transport::Tcp, ConnectionId::own(self.number));
        Flow { listener, transport, remote, connection }
    }
}

/// What is known of streams.
#[derive(Debug, Default)]
pub(super) struct Streams {
    connections: u64,
    /// Legs that stand, by what their servers call them, and who was shown on them.
    legs: BTreeMap<u64, (Leg, Option<String>)>,
    /// Legs to WebServices whose servers have not let anybody in.
    opening: BTreeMap<u64, Arc<Opening>>,
    /// Legs that have ended at their server's side.
    ended: BTreeSet<Leg>,
    /// Every number anybody has dialled at a server.
    dialled: BTreeSet<String>,
    /// Clients by their connections.
    clients: BTreeMap<u64, usize>,
    /// When each client acts next; an entry that is out of date is mended when it comes up.
    pub(super) wakes: BTreeSet<(Uptime, usize)>,
}

/// Where a server serves clients.
pub(crate) fn entrance(server: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, server as u8 + 1], 7222))
}

impl World {
    fn client_flow(&self, client: usize, connection: u64) -> Flow {
        let remote =
            SocketAddr::from(([198, 52, (client / 250) as u8, (client % 250) as u8 + 1], 40_000));
        let listener = if self.clients[client].by_web { ListenerId::WEB } else { CLIENTS };
        let connection = ConnectionId(connection);
        Flow { listener, transport: Transport::Tcp, remote, connection }
    }

    /// Adds a client that logs in by itself within a second.
    pub(crate) fn add_client(&mut self, user: &str) -> usize {
        let number = self.clients.len();
        let begins = self.now.uptime + Duration::from_millis(self.rng.u64(0..1000));
        self.clients.push(Client::new(user, number, begins));
        self.wake_client(number);
        number
    }

    pub(super) fn wake_client(&mut self, number: usize) {
        if let Some(at) = self.clients[number].next() {
            self.streams.wakes.insert((at, number));
        }
    }

    /// Whether one client was due and has done what it had to.
    pub(super) fn tick_client(&mut self, now: Uptime) -> bool {
        let Some((_, number)) = self.streams.wakes.pop_first() else { return false };
        if self.clients[number].next().is_some_and(|at| at <= now) {
            let deed = self.clients[number].tick(now);
            self.do_for(number, deed);
        }
        self.wake_client(number);
        true
    }

    /// A client does something of its own accord, if it is connected.
    pub(crate) fn client_acts(
        &mut self,
        number: usize,
        act: impl FnOnce(&mut Client, Uptime) -> Option<Deed>,
    ) {
        let now = self.now.uptime;
        if self.clients[number].watches.is_some() {
            let deed = act(&mut self.clients[number], now);
            self.do_for(number, deed);
            self.wake_client(number);
        }
    }

    /// Somebody closes a client, or begins to use it again.
    pub(crate) fn switch_client(&mut self, number: usize) {
        self.clients[number].off = !self.clients[number].off;
        self.hang_up(number, Duration::ZERO);
        self.wake_client(number);
    }

    /// A client closes its connection, if it has one, and comes back after a while.
    fn hang_up(&mut self, client: usize, wait: Duration) {
        if let Some(connection) = self.clients[client].connection {
            self.streams.clients.remove(&connection);
            self.stream(OnStream::ClientGone { client, connection });
        }
        self.clients[client].disconnected(self.now.uptime, wait);
    }

    fn do_for(&mut self, number: usize, deed: Option<Deed>) {
        match deed {
            None => {}
            Some(Deed::HangUp) => self.hang_up(number, AGAIN),
            Some(Deed::Send(bytes)) => {
                if let Some(connection) = self.clients[number].connection {
                    self.stream(OnStream::ToDoor { client: number, connection, bytes });
                }
            }
            Some(Deed::Open(opening)) => {
                if let Some(connection) = self.clients[number].connection {
                    self.stream(OnStream::OpensAtDoor { client: number, connection, opening });
                }
            }
            Some(Deed::Connect) => self.connect(number),
        }
    }

    fn connect(&mut self, number: usize) {
        if self.door.is_none() {
            let wait = Duration::from_millis(self.rng.u64(500..3_000));
            return self.clients[number].disconnected(self.now.uptime, wait);
        }
        self.streams.connections += 1;
        let connection = 1_000 + self.streams.connections;
        self.streams.clients.insert(connection, number);
        let deed = self.clients[number].connected(self.now.uptime, connection);
        self.do_for(number, Some(deed));
    }

    fn stream(&mut self, what: OnStream) {
        let life = self.life;
        self.later(LATENCY, Happening::OnStream { what, life });
    }

    /// The door is gone: every stream of its ends.
    pub(super) fn streams_end(&mut self) {
        let connections: Vec<u64> = self.streams.clients.keys().copied().collect();
        for connection in connections {
            self.stream(OnStream::DoorGone { connection });
        }
        let legs: Vec<Leg> = self.streams.legs.values().map(|(leg, _)| *leg).collect();
        for leg in legs {
            self.stream(OnStream::LegGone { leg });
        }
    }

    /// What happens on a stream; `current`: in this life of the door.
    pub(super) fn happen_on_stream(&mut self, what: OnStream, current: bool) {
        match what {
            OnStream::ToDoor { client, connection, bytes } if current => {
                let flow = self.client_flow(client, connection);
                self.tell_door(Input::Rose { flow, message: bytes });
            }
            OnStream::OpensAtDoor { client, connection, opening } if current => {
                let flow = self.client_flow(client, connection);
                self.tell_door(Input::Open { flow, opening });
            }
            OnStream::AnswerToClient { connection, answer } => {
                let Some(&number) = self.streams.clients.get(&connection) else { return };
                let deed = self.clients[number].opened(self.now.uptime, &answer);
                self.do_for(number, deed);
                self.wake_client(number);
            }
            OnStream::OpensAtServer { leg, opening } => self.reach_web_service(leg, opening),
            OnStream::OpenedAtDoor { leg, opened } if current => {
                self.tell_door(Input::Opened { flow: leg.flow(), opened });
            }
            OnStream::ToClient { connection, bytes } => {
                let Some(&number) = self.streams.clients.get(&connection) else { return };
                let message = Message::parse(bytes).expect("the door writes what can be read");
                let deed = self.clients[number].receive(self.now.uptime, &message);
                self.do_for(number, deed);
                self.wake_client(number);
            }
            OnStream::ToServer { leg, bytes } => self.reach_entrance(leg, bytes),
            OnStream::FromServer { leg, bytes } if current => {
                self.tell_door(Input::Rose { flow: leg.flow(), message: bytes });
            }
            OnStream::ClientGone { client, connection } if current => {
                let flow = self.client_flow(client, connection);
                self.tell_door(Input::Closed { flow, refused: false });
            }
            OnStream::DoorGone { connection } => {
                let Some(number) = self.streams.clients.remove(&connection) else { return };
                let wait = Duration::from_millis(self.rng.u64(100..3_000));
                self.clients[number].disconnected(self.now.uptime, wait);
                self.wake_client(number);
            }
            OnStream::LegGone { leg } => {
                self.streams.ended.insert(leg);
                self.streams.opening.remove(&leg.connection());
                if self.streams.legs.remove(&leg.connection()).is_some() {
                    let input = ucserver::Input::ClientClosed { connection: leg.connection() };
                    self.servers[leg.server].handle(self.now.uptime, input);
                    self.drain_server(leg.server);
                }
            }
            OnStream::ServerGone { leg, refused } if current => {
                self.tell_door(Input::Closed { flow: leg.flow(), refused });
            }
            OnStream::ToDoor { .. }
            | OnStream::OpensAtDoor { .. }
            | OnStream::OpenedAtDoor { .. }
            | OnStream::FromServer { .. }
            | OnStream::ClientGone { .. }
            | OnStream::ServerGone { .. } => {}
        }
    }

    /// What the door sends on a stream.
    pub(super) fn door_says(&mut self, flow: Flow, bytes: Bytes) {
        match self.leg_of(flow) {
            Some(leg) => self.stream(OnStream::ToServer { leg, bytes }),
            None => self.stream(OnStream::ToClient { connection: flow.connection.0, bytes }),
        }
    }

    pub(super) fn door_closes(&mut self, flow: Flow) {
        match self.leg_of(flow) {
            Some(leg) => self.stream(OnStream::LegGone { leg }),
            None => self.stream(OnStream::DoorGone { connection: flow.connection.0 }),
        }
    }

    fn leg_of(&self, flow: Flow) -> Option<Leg> {
        let number = flow.connection.own_number()?;
        let by_web = flow.listener == ListenerId::WEB;
        let at = if by_web { web_entrance } else { entrance };
        let server = (0..self.servers.len()).find(|&server| at(server) == flow.remote)?;
        Some(Leg { life: self.life, number, server, by_web })
    }

    /// The door shows a server's WebService what a client has shown.
    pub(super) fn door_opens(&mut self, flow: Flow, opening: Arc<Opening>) {
        let leg = self.leg_of(flow).expect("a leg leads to a server");
        self.stream(OnStream::OpensAtServer { leg, opening });
    }

    pub(super) fn door_answers(&mut self, flow: Flow, answer: WebAnswer) {
        self.stream(OnStream::AnswerToClient { connection: flow.connection.0, answer });
    }

    fn reach_web_service(&mut self, leg: Leg, opening: Arc<Opening>) {
        let said = native(&opening);
        self.streams.opening.insert(leg.connection(), opening);
        for message in said {
            self.reach_entrance(leg, message);
        }
    }

    fn reach_entrance(&mut self, leg: Leg, bytes: Bytes) {
        if self.streams.ended.contains(&leg) {
            return;
        }
        if self.servers[leg.server].mood() == Mood::Dead {
            self.streams.ended.insert(leg);
            return self.stream(OnStream::ServerGone { leg, refused: true });
        }
        let message = Message::parse(bytes.clone()).expect("the door writes what can be read");
        let (_, shown) = self.streams.legs.entry(leg.connection()).or_insert((leg, None));
        if message.operation() == Operation::LOGIN
            && let Ok(credentials) = Credentials::read(&message.body().unwrap())
        {
            *shown = credentials.claimed_user();
        }
        if message.operation() == Operation::MAKE_CALL {
            let text = format!("{:?}", message.body().unwrap().octets_as_sent());
            assert!(self.streams.dialled.insert(text), "nobody dials twice");
        }
        let connection = leg.connection();
        let input = ucserver::Input::Client { connection, message: bytes };
        self.servers[leg.server].handle(self.now.uptime, input);
        self.drain_server(leg.server);
    }

    /// What a server does on a leg.
    pub(super) fn entrance_does(&mut self, what: ToClient) {
        match what {
            ToClient::Send { connection, bytes } => {
                let Some((leg, shown)) = self.streams.legs.get(&connection) else { return };
                let (leg, shown) = (*leg, shown.clone());
                if let Some(opening) = self.streams.opening.get(&connection) {
                    if let Some(opened) = opened(opening, &bytes) {
                        self.streams.opening.remove(&connection);
                        self.stream(OnStream::OpenedAtDoor { leg, opened });
                    }
                    return;
                }
                let message =
                    Message::parse(bytes.clone()).expect("servers write what can be read");
                let redirect =
                    message.body().filter(|_| message.kind() == Kind::Result).is_some_and(|body| {
                        matches!(LoginOutcome::read(&body), Ok(LoginOutcome::Redirect(_)))
                    });
                if redirect && let Some(user) = shown {
                    // Whoever is sent home by their server goes there, whatever the rules of the return say.
                    self.ordered.insert(format!("sip:{user}"));
                }
                self.stream(OnStream::FromServer { leg, bytes });
            }
            ToClient::Close { connection } => {
                if let Some((leg, _)) = self.streams.legs.remove(&connection) {
                    self.streams.ended.insert(leg);
                    self.streams.opening.remove(&connection);
                    self.stream(OnStream::ServerGone { leg, refused: true });
                }
            }
            ToClient::StartTls { .. } => {}
        }
    }

    /// Everybody at a server hangs up.
    pub(crate) fn end_calls(&mut self, server: usize) {
        let calls = self.servers[server].clients();
        let calls: Vec<String> = calls.calls().map(|call| call.id.to_owned()).collect();
        for call in calls {
            // A server that is silent has none that could end.
            let _ = self.servers[server].hang_up(self.now.uptime, &call);
        }
        self.drain_server(server);
    }

    /// Where a user's logins belong, as the servers' own administration knows it.
    pub(super) fn tell_entrances(&mut self, aor: &str, home: Option<usize>) {
        let Some(user) = aor.strip_prefix("sip:") else { return };
        for (place, server) in self.servers.iter_mut().enumerate() {
            let elsewhere = home.filter(|&home| home != place);
            let elsewhere = elsewhere.map(|home| ClientHome::At(entrance(home).to_string()));
            server.client_belongs(user, elsewhere);
        }
    }

    /// Whether every client in use has what it wants, and every session is where it belongs.
    pub(crate) fn are_clients_settled(&self) -> bool {
        let settled = |client: &Client| {
            let user = self.door().user(self.now, &format!("sip:{}", client.user));
            let sessions = user.map(|user| user.sessions).unwrap_or_default();
            client.is_settled() && sessions.iter().all(|it| &*it.standing == "settled")
        };
        self.clients.iter().all(|client| client.off || settled(client))
    }

    /// Every client that somebody uses is logged in once, where the door says that its user is; one
    /// call to each line, and it hears of that once, by the name it knows its monitor by.
    pub(crate) fn check_clients(&mut self) {
        let using: Vec<usize> =
            (0..self.clients.len()).filter(|&it| !self.clients[it].off).collect();
        for &number in &using {
            let client = &self.clients[number];
            assert!(client.is_settled(), "{client:#?} {:#?}", self.summary());
        }
        for number in 0..self.clients.len() {
            let user = self.clients[number].user.clone();
            let current = self.current_of(&format!("sip:{user}"));
            let count = using.iter().filter(|&&it| self.clients[it].user == user).count();
            for server in 0..self.servers.len() {
                let view = self.servers[server].clients();
                let here = view.logins().filter(|login| *login.user == *user).count();
                let expected = if current == Some(server) { count } else { 0 };
                let shown =
                    self.door().user(self.now, &format!("sip:{user}")).map(|it| it.sessions);
                assert_eq!(
                    here,
                    expected,
                    "at ucs{}: {shown:#?} {:#?}",
                    server + 1,
                    self.summary()
                );
            }
        }
        let before: Vec<(u32, u32)> = self.clients.iter().map(|it| (it.rings, it.strays)).collect();
        let mut users: Vec<String> =
            using.iter().map(|&it| self.clients[it].user.clone()).collect();
        users.sort();
        users.dedup();
        for user in users {
            let server = self.current_of(&format!("sip:{user}")).expect("somebody serves them");
            let line = ClientSettings::line_of(&user);
            self.servers[server].ring(self.now.uptime, &line, "+4989").expect("it rings");
            self.drain_server(server);
        }
        self.run_for(Duration::from_secs(1));
        for number in using {
            let client = &self.clients[number];
            let heard = (client.rings - before[number].0, client.strays - before[number].1);
            assert_eq!(heard, (1, 0), "{client:#?} {:#?}", self.summary());
        }
    }
}
