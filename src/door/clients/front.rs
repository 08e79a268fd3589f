//! What a client says.

use std::sync::Arc;

use bytes::Bytes;

use crate::cluster::{Plane, ServerId};
use crate::door::clients::session::{Entrance, Negotiated, Session, Stage};
use crate::door::clients::{Connection, Security};
use crate::door::slots::SlotId;
use crate::door::{Door, Output};
use crate::now::Now;
use crate::placement;
use crate::sip::{Flow, ListenerId};
use crate::ucsap::login::detail;
use crate::ucsap::negotiate::{self, Identity, Negotiation};
use crate::ucsap::{Class, Envelope, Kind, Message, Operation, Piece, Problem, Style};

/// Octets of what a client says of itself, which is kept as long as its session.
const NEGOTIATION_OCTETS_MAX: usize = 16 * 1024;

/// What clients hear when nobody serves them for too long.
pub(super) const NOBODY_THERE: &str = "the server of this user does not answer; try again later";

impl Door {
    /// A message of a client, or of a server on one of our legs.
    pub(in crate::door) fn on_rose(&mut self, now: Now, flow: Flow, message: Bytes) {
        self.stats.rose_received += 1;
        let parsed = Message::parse(message);
        if let Some(number) = flow.connection.own_number() {
            match parsed {
                Ok(message) => self.on_server_message(now, number, &message),
                Err(_) => {
                    self.stats.rose_malformed += 1;
                    self.lose_client_probe(now, flow);
                    self.lose_leg(now, number);
                }
            }
            return;
        }
        let connection = match flow.listener {
            // There it is opened, and what comes after its end is nothing.
            ListenerId::WEB => self.clients.by_connection.get(&flow.connection).copied(),
            _ => self.client_connection(flow),
        };
        let Some(connection) = connection else { return };
        if self.is_securing(connection) {
            self.stats.client_injections += 1;
            return self.close_client(connection);
        }
        let Ok(message) = parsed else {
            // Whoever writes one message that cannot be read cannot be trusted with the next.
            self.stats.rose_malformed += 1;
            return self.close_client(connection);
        };
        match self.session_of(connection, &message) {
            Some(session) => self.on_client_message(now, session, &message),
            None => {
                self.stats.client_sessions_shed += 1;
                if let (Kind::Invoke, Some(id), false) =
                    (message.kind(), message.id(), message.is_event())
                {
                    let name = message.session();
                    let envelope = Envelope::answering(&message, name.as_deref());
                    let problem = Problem::ResourceLimitation;
                    self.send_rose(flow, envelope.reject(id, problem, "too many sessions"));
                }
            }
        }
    }

    /// A client's connection, or one of our legs, has ended; `false` if it was neither.
    pub(in crate::door) fn on_rose_closed(&mut self, now: Now, flow: Flow, refused: bool) -> bool {
        if self.on_client_probe_closed(now, flow, refused) {
            return true;
        }
        if let Some(number) = flow.connection.own_number() {
            self.observe_lost_leg(now, number, refused);
            self.on_leg_closed(now, number);
            return true;
        }
        let Some(id) = self.clients.by_connection.remove(&flow.connection) else { return false };
        if let Some(connection) = self.clients.connections.remove(id) {
            for (_, session) in connection.sessions {
                self.end_session(session);
            }
        }
        true
    }

    pub(super) fn client_connection(&mut self, flow: Flow) -> Option<SlotId> {
        if let Some(id) = self.clients.by_connection.get(&flow.connection) {
            return Some(*id);
        }
        // What had been read of one that was closed may come yet.
        if self.clients.closed.contains(&flow.connection) {
            return None;
        }
        let security = Security::AsBegun;
        let stands_for = &self.settings.clients.stands_for;
        let reached = stands_for.iter().find(|(listener, _)| *listener == flow.listener);
        let reached = reached.map(|(_, server)| *server);
        let connection = Connection { flow, security, reached, sessions: Vec::new() };
        let Ok(id) = self.clients.connections.insert(connection) else {
            self.stats.client_connections_shed += 1;
            self.clients.note_closed(flow.connection);
            self.outputs.push_back(Output::Close { flow });
            return None;
        };
        self.clients.by_connection.insert(flow.connection, id);
        Some(id)
    }

    fn session_of(&mut self, connection: SlotId, message: &Message) -> Option<SlotId> {
        let known = self.clients.connections.get(connection)?;
        if known.flow.listener == ListenerId::WEB {
            // The session was opened before, and whatever its messages call it, it is the only one.
            return known.sessions.first().map(|(_, id)| *id);
        }
        let name = message.session();
        let is_it = |(other, _): &&(Option<Arc<str>>, SlotId)| other.as_deref() == name.as_deref();
        if let Some((_, id)) = known.sessions.iter().find(is_it) {
            return Some(*id);
        }
        if known.sessions.len() >= self.settings.clients.limits.sessions_per_connection {
            return None;
        }
        let name: Option<Arc<str>> = name.map(Into::into);
        let session = Session::new(connection, name.clone(), message.encoding());
        let id = self.clients.sessions.insert(session).ok()?;
        self.clients.connections.get_mut(connection)?.sessions.push((name, id));
        Some(id)
    }

    fn on_client_message(&mut self, now: Now, id: SlotId, message: &Message) {
        let Some(session) = self.clients.sessions.get(id) else { return };
        if message.encoding() != session.encoding {
            // What is kept to be said again would be in the other one.
            self.stats.rose_malformed += 1;
            return self.close_client(session.connection);
        }
        if message.kind() != Kind::Invoke {
            // It answers a question of its server's.
            return self.pass_event_on(id, message);
        }
        let stage = session.stage;
        match message.operation() {
            Operation::CHECK_CONNECTION => self.tell_version(id, message),
            Operation::START_TLS => self.on_start_tls(id, message),
            Operation::NEGOTIATE if stage == Stage::New || stage == Stage::Negotiated => {
                self.on_negotiate(now, id, message);
            }
            Operation::LOGIN if stage == Stage::New => {
                self.tell_error(id, message, detail::NEGOTIATION_REQUIRED, "negotiate first");
            }
            Operation::LOGIN if stage == Stage::Negotiated => self.on_login(now, id, message),
            Operation::NEGOTIATE | Operation::LOGIN => {
                let words = "somebody is logged in, or about to be";
                self.tell_error(id, message, detail::ALREADY_AUTHENTICATED, words);
            }
            Operation::LOGOFF => {
                let (connection, entrance) = (session.connection, session.entrance);
                self.pass_event_on(id, message);
                match entrance {
                    Entrance::Native => self.end_session(id),
                    // Nothing else can be said there.
                    Entrance::Web => self.close_client(connection),
                }
            }
            // Whatever id an event has, nobody answers it.
            operation if message.is_event() || operation.class() == Class::Event => {
                self.pass_event_on(id, message);
            }
            _ => self.pass_on(now, id, message),
        }
    }

    /// A client wants to go on in secret. Nothing may have been shown before, and nothing but the
    /// handshake may follow.
    fn on_start_tls(&mut self, id: SlotId, message: &Message) {
        let Some(session) = self.clients.sessions.get(id) else { return };
        let (connection, stage) = (session.connection, session.stage);
        let Some(known) = self.clients.connections.get_mut(connection) else { return };
        let flow = known.flow;
        let offered = self.settings.clients.start_tls.contains(&flow.listener);
        let alone = known.sessions.len() == 1;
        if !offered || !alone || known.security != Security::AsBegun || stage != Stage::New {
            let why = "this connection cannot be turned into TLS, here or now";
            return self.tell_error(id, message, detail::INTERNAL, why);
        }
        let Some(invoke) = message.id() else { return };
        known.security = Security::Securing;
        let result = Piece::Sequence(Vec::new());
        if let Some(answer) = self.write_for(id, |envelope| envelope.result(invoke, &result)) {
            self.stats.rose_sent += 1;
            self.outputs.push_back(Output::StartTls { flow, answer });
        }
    }

    /// A handshake is complete: one that a client asked for, or one that came first. The name it asked
    /// for may be one that stands for a server.
    pub(in crate::door) fn on_secured(&mut self, flow: Flow, name: Option<&str>) {
        let is_of = |public: &str| {
            let host = public.rsplit_once(':').map_or(public, |(host, _)| host);
            name.is_some_and(|name| name.eq_ignore_ascii_case(host))
        };
        // A name that is several servers' says nothing: their ports do (`stands_for`).
        let servers = (0..).zip(&self.settings.servers);
        let mut named = servers.filter(|(_, it)| it.public.as_deref().is_some_and(is_of));
        let reached = named.next().filter(|_| named.next().is_none()).map(|(place, _)| place);
        let known = self.clients.by_connection.get(&flow.connection).copied();
        let connection = match reached {
            Some(_) => known.or_else(|| self.client_connection(flow)),
            None => known,
        };
        let connection = connection.and_then(|id| self.clients.connections.get_mut(id));
        let Some(connection) = connection else { return };
        connection.reached = connection.reached.or_else(|| reached.map(ServerId));
        if connection.security == Security::Securing {
            connection.security = Security::Secured;
        }
    }

    fn is_securing(&self, connection: SlotId) -> bool {
        let known = self.clients.connections.get(connection);
        known.is_some_and(|known| known.security == Security::Securing)
    }

    /// A client says who is talking: some server has to say who answers, and nobody knows yet whose
    /// client it is.
    fn on_negotiate(&mut self, now: Now, id: SlotId, message: &Message) {
        let (Some(argument), Some(invoke)) = (message.body(), message.id()) else {
            return self.tell_problem(id, message, Problem::MistypedArgument);
        };
        let Ok(client) = Negotiation::read(&argument) else {
            return self.tell_problem(id, message, Problem::MistypedArgument);
        };
        let argument = argument.octets_as_sent();
        if argument.len() > NEGOTIATION_OCTETS_MAX {
            return self.tell_problem(id, message, Problem::ResourceLimitation);
        }
        let argument = argument.to_vec();
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        let connection = session.negotiated.take().and_then(|before| before.connection);
        session.negotiated =
            Some(Negotiated { argument, client, id: invoke, connection, tried: 0 });
        self.negotiate_somewhere(now, id);
    }

    /// Asks a server on behalf of a client whose user is not known: the one its device was of last,
    /// else the best.
    pub(super) fn negotiate_somewhere(&mut self, now: Now, id: SlotId) {
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        session.stage = Stage::Negotiating;
        let Some(negotiated) = &session.negotiated else { return };
        let (device, tried) = (negotiated.client.device.clone(), negotiated.tried);
        match self.server_for_stranger(&device, usize::from(tried), Entrance::Native) {
            Some(server) => self.open_leg(now, id, server, false),
            None => self.tell_busy_to_negotiation(id),
        }
    }

    /// The server a client is shown before it is known whose it is: that of its device's last user,
    /// else the best, else any; after `tried` in vain the next. Those whose entrance for clients is
    /// known to answer go first.
    pub(super) fn server_for_stranger(
        &self,
        device: &str,
        tried: usize,
        entrance: Entrance,
    ) -> Option<ServerId> {
        let view = self.view();
        let known = self.clients.devices.users.get(device);
        let current = known.and_then(|user| self.current(*user));
        let policy = &self.settings.decision.placement;
        let best = placement::place_stranger(device, &view, &self.directory, policy).ok();
        let mut candidates: Vec<ServerId> = current.into_iter().chain(best).collect();
        for (server, _) in view.iter() {
            if !candidates.contains(&server) {
                candidates.push(server);
            }
        }
        candidates.dedup();
        candidates.retain(|server| {
            let has_entrance = self.entrance_of(*server, entrance).is_some();
            has_entrance && view.server(*server).serves_its_users()
        });
        candidates.sort_by_key(|server| !view.server(*server).is_alive_on(Plane::Client));
        let count = candidates.len().max(1);
        candidates.get(tried % count).copied()
    }

    pub(super) fn tell_busy_to_negotiation(&mut self, id: SlotId) {
        let seconds = self.retry_seconds();
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        session.stage = Stage::New;
        let Some(invoke) = session.negotiated.take().map(|negotiated| negotiated.id) else {
            return;
        };
        self.stats.client_logins_refused += 1;
        self.tell_result(id, invoke, &negotiate::busy(seconds));
    }

    /// When somebody who is refused may come back: spread.
    pub(super) fn retry_seconds(&mut self) -> i64 {
        let policy = &self.settings.decision;
        let (low, high) = (policy.retry_after_min, policy.retry_after_max);
        self.jitter(low, high).as_secs().max(1) as i64
    }

    /// The door answers for all servers: the oldest product version there is, so that nobody counts
    /// on more than every server has.
    fn tell_version(&mut self, id: SlotId, message: &Message) {
        let Some(invoke) = message.id() else { return };
        let view = self.view();
        let oldest = view.servers.iter().filter_map(|server| server.version).min();
        let version = oldest.map(|version| version.to_string()).unwrap_or_default();
        let identity = Identity {
            server_type: 2,
            interface_version: "",
            server_version: &version,
            product_version: &version,
            time: 0.0,
            presence_domains: &[],
        };
        self.tell_result(id, invoke, &identity.checked(""));
    }

    /// Sends octets on the connection of a session.
    pub(super) fn tell(&mut self, id: SlotId, bytes: Bytes) {
        let Some(session) = self.clients.sessions.get(id) else { return };
        let Some(connection) = self.clients.connections.get(session.connection) else { return };
        let flow = connection.flow;
        self.send_rose(flow, bytes);
    }

    pub(super) fn write_for(
        &self,
        id: SlotId,
        write: impl FnOnce(&Envelope<'_>) -> Bytes,
    ) -> Option<Bytes> {
        let session = self.clients.sessions.get(id)?;
        let name = session.name.as_deref();
        Some(write(&Envelope { encoding: session.encoding, style: Style::Plain, session: name }))
    }

    pub(super) fn tell_result(&mut self, id: SlotId, invoke: i64, result: &Piece) {
        if let Some(bytes) = self.write_for(id, |envelope| envelope.result(invoke, result)) {
            self.tell(id, bytes);
        }
    }

    pub(super) fn tell_error(&mut self, id: SlotId, asked: &Message, detail: i64, words: &str) {
        if let Some(invoke) = asked.id() {
            self.tell_error_to(id, invoke, detail, words);
        }
    }

    pub(super) fn tell_error_to(&mut self, id: SlotId, invoke: i64, detail: i64, words: &str) {
        if let Some(bytes) = self.write_for(id, |envelope| envelope.error(invoke, detail, words)) {
            self.tell(id, bytes);
        }
    }

    pub(super) fn tell_problem(&mut self, id: SlotId, asked: &Message, problem: Problem) {
        let Some(invoke) = asked.id() else { return };
        self.stats.client_invokes_rejected += 1;
        if let Some(bytes) = self.write_for(id, |envelope| envelope.reject(invoke, problem, "")) {
            self.tell(id, bytes);
        }
    }

    /// Closes a client's connection at once; what it was told before leaves first.
    pub(super) fn close_client(&mut self, id: SlotId) {
        let Some(connection) = self.clients.connections.remove(id) else { return };
        self.clients.by_connection.remove(&connection.flow.connection);
        self.clients.note_closed(connection.flow.connection);
        self.outputs.push_back(Output::Close { flow: connection.flow });
        for (_, session) in connection.sessions {
            self.drop_session(session);
        }
    }

    /// A session is over, its connection stays.
    pub(super) fn end_session(&mut self, id: SlotId) {
        let Some(session) = self.clients.sessions.get(id) else { return };
        if let Some(connection) = self.clients.connections.get_mut(session.connection) {
            connection.sessions.retain(|(_, other)| *other != id);
        }
        self.drop_session(id);
    }

    /// With it go what it had shown and what it had asked, and its servers see its legs end.
    fn drop_session(&mut self, id: SlotId) {
        let Some(mut session) = self.clients.sessions.remove(id) else { return };
        self.clients.forget_owner(id, session.user);
        self.clients.waiting.remove(&id);
        for leg in session.take_legs() {
            self.leave_leg(leg);
        }
    }
}
