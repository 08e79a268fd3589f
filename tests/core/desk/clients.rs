//! ProCall clients at the desk, and the servers' entrance for them.

use std::net::SocketAddr;

use bytes::Bytes;
use frontdoor::door::{Input, SessionStatus};
use frontdoor::now::Uptime;
use frontdoor::sip::{ConnectionId, Flow, ListenerId, Transport};
use frontdoor::ucsap::login::{Credentials, LoginOutcome};
use frontdoor::ucsap::negotiate::{Negotiated, Negotiation};
use frontdoor::ucsap::{Encoding, Envelope, Kind, Message, Operation, Piece, Style, cti};
use frontdoor::ucserver::{self, ClientSettings, Mood, ToClient};

use crate::desk::Desk;
use crate::desk::web::web_entrance;
pub(crate) use crate::world::entrance;

/// A client, and what it remembers.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) connection: ConnectionId,
    pub(crate) encoding: Encoding,
    pub(crate) session: Option<&'static str>,
    pub(crate) negotiation: Negotiation,
    next_id: i64,
}

/// What is wrong with a server's entrance for clients, while the rest of the server is well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It takes everything and says nothing.
    Deaf,
    /// It says nothing to this operation.
    DeafTo(Operation),
    /// It hangs up on this operation.
    Drops(Operation),
    /// This operation is on its way to it until somebody calls [`Desk::let_through`].
    Delays(Operation),
    /// What it says is on its way until somebody calls [`Desk::let_through`].
    Late,
}

/// Where clients connect to; the core asks nothing of this listener.
pub(crate) const CLIENTS: ListenerId = ListenerId(7);

/// Connections of clients of the WebService.
const WEB_FROM: u64 = 1 << 62;

fn client_flow(connection: ConnectionId) -> Flow {
    let (listener, remote) = match connection.0 {
        WEB_FROM.. => (ListenerId::WEB, SocketAddr::from(([198, 51, 100, 10], 50_000))),
        _ => (CLIENTS, SocketAddr::from(([198, 51, 100, 9], 40_000))),
    };
    Flow { listener, transport: Transport::Tcp, remote, connection }
}

impl Client {
    pub(crate) fn new(number: u64, encoding: Encoding) -> Self {
        let negotiation = Negotiation {
            device: format!("pc-{number}"),
            version: "2603.0".into(),
            app: 1,
            former: None,
        };
        let connection = ConnectionId(1_000 + number);
        Self { connection, encoding, session: None, negotiation, next_id: 1 }
    }

    /// One of the WebService.
    pub(crate) fn by_web(number: u64) -> Self {
        let connection = ConnectionId(WEB_FROM + number);
        Self { connection, ..Self::new(number, Encoding::Json) }
    }

    pub(crate) fn flow(&self) -> Flow {
        client_flow(self.connection)
    }

    pub(crate) fn envelope(&self) -> Envelope<'static> {
        Envelope { encoding: self.encoding, style: Style::Original, session: self.session }
    }
}

impl Desk {
    /// Sends an invoke; its id.
    pub(crate) fn say(&mut self, client: &mut Client, what: Operation, argument: &Piece) -> i64 {
        let id = client.next_id;
        client.next_id += 1;
        let bytes = client.envelope().invoke(id, what, argument);
        self.client_sends(client, bytes);
        id
    }

    pub(crate) fn client_sends(&mut self, client: &Client, message: Bytes) {
        self.reach_door(Input::Rose { flow: client_flow(client.connection), message });
    }

    pub(crate) fn client_hangs_up(&mut self, client: &Client) {
        self.reach_door(Input::Closed { flow: client_flow(client.connection), refused: false });
    }

    /// Takes what has reached a client.
    pub(crate) fn heard(&mut self, client: &Client) -> Vec<Message> {
        let is_theirs = |(to, _): &mut (ConnectionId, Message)| *to == client.connection;
        self.clients.inbox.extract_if(.., is_theirs).map(|(_, message)| message).collect()
    }

    /// Takes the answer to an invoke, if it has come.
    pub(crate) fn answer_for(&mut self, client: &Client, id: i64) -> Option<Message> {
        let at = self.clients.inbox.iter().position(|(to, message)| {
            *to == client.connection && message.kind() != Kind::Invoke && message.id() == Some(id)
        })?;
        Some(self.clients.inbox.remove(at).1)
    }

    /// Asks, and gives the answer that must have come at once.
    pub(crate) fn invoke(
        &mut self,
        client: &mut Client,
        what: Operation,
        argument: &Piece,
    ) -> Message {
        let id = self.say(client, what, argument);
        self.answer_for(client, id).expect("it is answered at once")
    }

    /// The GUID of the connection.
    pub(crate) fn negotiate(&mut self, client: &mut Client) -> String {
        let argument = client.negotiation.piece("PC");
        let answer = self.invoke(client, Operation::NEGOTIATE, &argument);
        let read = Negotiated::read(&answer.body().unwrap()).unwrap();
        let Negotiated::Done { connection, .. } = read else { unreachable!("{read:?}") };
        connection
    }

    pub(crate) fn log_in(&mut self, client: &mut Client, user: &str) -> LoginOutcome {
        let argument = Credentials::basic(user, &ClientSettings::password_of(user));
        let answer = self.invoke(client, Operation::LOGIN, &argument);
        assert_eq!(answer.kind(), Kind::Result);
        LoginOutcome::read(&answer.body().unwrap()).unwrap()
    }

    /// A client that has logged in as `user` and watches their line; with its cross reference.
    pub(crate) fn client_of(
        &mut self,
        number: u64,
        encoding: Encoding,
        user: &str,
    ) -> (Client, String) {
        let mut client = Client::new(number, encoding);
        self.negotiate(&mut client);
        let outcome = self.log_in(&mut client, user);
        assert!(matches!(outcome, LoginOutcome::Succeeded { .. }), "{outcome:?}");
        let cross_ref = self.watch(&mut client, user);
        (client, cross_ref)
    }

    /// Starts a monitor on the line of a user.
    pub(crate) fn watch(&mut self, client: &mut Client, user: &str) -> String {
        let line = cti::for_line(&ClientSettings::line_of(user));
        let answer = self.invoke(client, Operation::MONITOR_START, &line);
        assert_eq!(answer.kind(), Kind::Result, "{answer:?}");
        let body = answer.body().unwrap();
        let (cross_ref, _) =
            cti::cross_ref_of_result(Operation::MONITOR_START, &body).unwrap().unwrap();
        cross_ref
    }

    /// A call comes in at the server where a user is.
    pub(crate) fn ring(&mut self, server: usize, user: &str) -> String {
        let (now, line) = (self.now.uptime, ClientSettings::line_of(user));
        let call = self.servers[server].ring(now, &line, "+4989123").unwrap();
        self.drain_server(server);
        call
    }

    /// Takes what a client has heard: events, and of those with a cross reference which.
    pub(crate) fn events(&mut self, client: &Client) -> Vec<(Operation, Option<String>)> {
        let heard = self.heard(client);
        let event = |message: Message| {
            assert!(message.is_event(), "{message:?}");
            let body = message.body().unwrap();
            let cross_ref = cti::cross_ref(message.operation(), &body).unwrap();
            (message.operation(), cross_ref.map(|(name, _)| name))
        };
        heard.into_iter().map(event).collect()
    }

    pub(crate) fn sessions(&self, user: &str) -> Vec<SessionStatus> {
        self.user(user).sessions
    }

    /// Monitors at a server, whoever's.
    pub(crate) fn monitors(&self, server: usize) -> usize {
        self.servers[server].clients().monitors().count()
    }

    pub(crate) fn logins(&self, server: usize) -> Vec<String> {
        self.servers[server].clients().logins().map(|login| login.user.to_owned()).collect()
    }

    /// What the door sends on a leg.
    pub(super) fn reach_entrance(&mut self, flow: Flow, message: Bytes) {
        let number = flow.connection.own_number().expect("it is a leg");
        let is_it =
            |server: &usize| [entrance(*server), web_entrance(*server)].contains(&flow.remote);
        let server = (0..self.servers.len()).find(is_it).expect("a leg leads to a server");
        if self.clients.ended.contains(&number) {
            return;
        }
        if self.servers[server].mood() == Mood::Dead {
            self.clients.ended.insert(number);
            return self.reach_door(Input::Closed { flow, refused: true });
        }
        self.clients.legs.insert(number, (server, flow));
        let kind = Message::parse(message.clone()).expect("the door sends what can be read");
        let fault = self.clients.faults.get(&server).copied();
        let operation = kind.operation();
        let is_deaf = match fault {
            Some(Fault::Deaf) => true,
            Some(Fault::DeafTo(deaf_to)) => operation == deaf_to,
            Some(Fault::Drops(_) | Fault::Delays(_) | Fault::Late) | None => false,
        };
        if fault == Some(Fault::Delays(operation)) {
            return self.clients.delayed.push((flow, message));
        }
        if kind.operation() != Operation::CHECK_CONNECTION {
            self.clients.asked.push((self.now.uptime, server, kind));
        }
        if is_deaf {
            return;
        }
        if fault == Some(Fault::Drops(operation)) {
            self.hang_up(flow);
            return self.reach_door(Input::Closed { flow, refused: true });
        }
        let input = ucserver::Input::Client { connection: number, message };
        self.servers[server].handle(self.now.uptime, input);
        self.drain_server(server);
    }

    /// The door hangs up, on a client or a server.
    pub(super) fn hang_up(&mut self, flow: Flow) {
        let Some(number) = flow.connection.own_number() else {
            return self.clients.closed.push((self.now.uptime, flow.connection));
        };
        self.clients.ended.insert(number);
        if let Some((server, _)) = self.clients.legs.remove(&number) {
            let input = ucserver::Input::ClientClosed { connection: number };
            self.servers[server].handle(self.now.uptime, input);
            self.drain_server(server);
        }
    }

    /// The door lets a client speak TLS from here on, if nothing stands in the way.
    pub(super) fn start_tls(&mut self, flow: Flow, answer: Bytes) {
        let message = Message::parse(answer).unwrap();
        self.clients.inbox.push((flow.connection, message));
    }

    pub(crate) fn handshake_is_done(&mut self, client: &Client) {
        self.reach_door(Input::Secured { flow: client_flow(client.connection), name: None });
    }

    /// The same, by the name that the client asked for.
    pub(crate) fn handshake_for(&mut self, client: &Client, name: &str) {
        let (flow, name) = (client_flow(client.connection), Some(name.into()));
        self.reach_door(Input::Secured { flow, name });
    }

    /// What a server does to a leg.
    pub(super) fn entrance_does(&mut self, server: usize, what: ToClient) {
        if self.clients.faults.get(&server) == Some(&Fault::Late) {
            return self.clients.late.push(what);
        }
        self.carry_to_leg(what);
    }

    /// All entrances are well again, and what late ones have said arrives.
    pub(crate) fn let_through(&mut self) {
        self.clients.faults.clear();
        for (flow, message) in std::mem::take(&mut self.clients.delayed) {
            self.reach_entrance(flow, message);
        }
        for what in std::mem::take(&mut self.clients.late) {
            self.carry_to_leg(what);
        }
    }

    fn carry_to_leg(&mut self, what: ToClient) {
        match what {
            ToClient::Send { connection, bytes } => {
                if self.web_service_hears(connection, &bytes) {
                    return;
                }
                if let Some((_, flow)) = self.clients.legs.get(&connection) {
                    let input = Input::Rose { flow: *flow, message: bytes };
                    self.reach_door(input);
                }
            }
            ToClient::Close { connection } => {
                if let Some((_, flow)) = self.clients.legs.remove(&connection) {
                    self.clients.ended.insert(connection);
                    self.reach_door(Input::Closed { flow, refused: true });
                }
            }
            ToClient::StartTls { .. } => {}
        }
    }

    /// When the door closed a client's connection.
    pub(crate) fn closed_at(&self, client: &Client) -> Option<Uptime> {
        let closed = self.clients.closed.iter();
        closed.filter(|(_, it)| *it == client.connection).map(|(at, _)| *at).next()
    }
}
