//! One door at a desk: requests written by hand on one side, strict servers on the other, no
//! network between them. Whatever is sent arrives at once; time passes only when told to.

pub(crate) mod clients;
pub(crate) mod web;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use frontdoor::cluster::{BindingAddress, Plane, Planes, ServerId};
use frontdoor::directory::record::{Change, Failed, Record, Recorded, UserRecord};
use frontdoor::door::{
    BindingStatus, Command, Door, Input, Listener, Output, Settings, Side, UserStatus,
};
use frontdoor::now::{Now, Uptime};
use frontdoor::sip::{
    ConnectionId, Flow, HeaderName, ListenerId, Message, NameAddr, Response, Transport,
};
use frontdoor::store::{Memory, Store};
use frontdoor::ucserver::{self, Mood, UcServer};

use crate::world::{self, server_addr};

/// Where phones send to; ours in their direction.
pub(crate) const PHONES: ListenerId = ListenerId(0);
/// Where servers send to.
pub(crate) const SERVERS: ListenerId = ListenerId(1);
/// Where phones on IPv6 send to.
pub(crate) const PHONES_V6: ListenerId = ListenerId(2);
/// What the door is called by servers.
pub(crate) const DOOR_AT_SERVERS: &str = "10.0.0.100:5080";

/// What a server says instead of itself: from its number and the request.
type Script = Box<dyn FnMut(usize, &Message) -> Option<Bytes>>;
/// What becomes of a server's answer on its way.
type Tamper = Box<dyn FnMut(&Message) -> Bytes>;

pub(crate) struct Desk {
    pub(crate) now: Now,
    pub(crate) settings: Settings,
    pub(crate) door: Door,
    pub(crate) servers: Vec<UcServer>,
    /// REGISTERs as they reached the servers, first transmissions and all: when, whom, what.
    pub(crate) registers: Vec<(Uptime, usize, Message)>,
    /// Everything else that the door sent to servers and that is no probe: answers to their own
    /// requests.
    pub(crate) answers_to_servers: Vec<(SocketAddr, Message)>,
    /// Everything that reached phones.
    pub(crate) inbox: Vec<(SocketAddr, Message)>,
    /// Commits wait until told.
    pub(crate) disk_waits: bool,
    /// Commits fail.
    pub(crate) disk_is_full: bool,
    pub(crate) script: Option<Script>,
    pub(crate) tamper: Option<Tamper>,
    /// The client plane.
    pub(crate) clients: ClientSide,
    pub(crate) web: web::WebSide,
    records: VecDeque<Record>,
    /// What is on its way to the door, in order.
    queue: VecDeque<Input>,
    busy: bool,
    store: Memory,
    life: u64,
}

/// What is known of clients and legs.
#[derive(Default)]
pub(crate) struct ClientSide {
    /// What reached clients.
    inbox: Vec<(ConnectionId, frontdoor::ucsap::Message)>,
    /// Clients' connections that the door closed, and when.
    closed: Vec<(Uptime, ConnectionId)>,
    /// Legs that stand, by number: to which server.
    legs: BTreeMap<u64, (usize, Flow)>,
    ended: BTreeSet<u64>,
    /// What reached servers on legs.
    pub(crate) asked: Vec<(Uptime, usize, frontdoor::ucsap::Message)>,
    /// Entrances that are not as they should be.
    pub(crate) faults: BTreeMap<usize, clients::Fault>,
    /// What is on its way to entrances.
    delayed: Vec<(Flow, Bytes)>,
    /// What late entrances have said.
    late: Vec<ucserver::ToClient>,
}

/// A desk before the door opens.
pub(crate) struct Plan {
    pub(crate) settings: Settings,
    pub(crate) servers: Vec<ucserver::Settings>,
}

pub(crate) fn plan(servers: usize) -> Plan {
    let mut settings = world::settings(servers, 1000);
    settings.listeners.push(Listener {
        name: "phones6".into(),
        transport: Transport::Udp,
        side: Side::Phones,
        advertised: "[2001:db8::1]:5060".into(),
        ipv6: true,
    });
    // Who counts REGISTERs at a server does not count questions (tests/core/incarnations.rs does).
    settings.health.sample_interval = Duration::from_secs(86_400);
    settings.sip.trusted_networks.push("2001:db8::/32".parse().unwrap());
    for (index, server) in settings.servers.iter_mut().enumerate() {
        server.clients = Some(clients::entrance(index));
        server.web = Some(web::web_entrance(index));
        server.planes = Planes::SIP.with(Plane::Client);
    }
    let servers = (0..servers)
        .map(|index| ucserver::Settings {
            name: format!("ucs{}", index + 1).into(),
            address: server_addr(index),
            ..ucserver::Settings::default()
        })
        .collect();
    Plan { settings, servers }
}

impl Plan {
    pub(crate) fn binding_address(mut self, how: BindingAddress) -> Self {
        for server in &mut self.settings.servers {
            server.binding_address = how;
        }
        self
    }

    /// Opens the door and lets it hear of its servers.
    pub(crate) fn open(self) -> Desk {
        let mut desk = self.open_at_once();
        desk.pass(Duration::from_secs(3));
        desk
    }

    /// Opens the door, which has not heard of any server then.
    pub(crate) fn open_at_once(self) -> Desk {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30);
        let now = Now { uptime: Uptime::from_secs(1000), wall };
        let mut store = Memory::new();
        let loaded = store.load().unwrap();
        let servers = (self.servers.into_iter().enumerate())
            .map(|(index, settings)| UcServer::new(settings, now.uptime, index as u64))
            .collect();
        Desk {
            now,
            door: Door::new(self.settings.clone(), loaded, now),
            settings: self.settings,
            servers,
            registers: Vec::new(),
            answers_to_servers: Vec::new(),
            inbox: Vec::new(),
            disk_waits: false,
            disk_is_full: false,
            script: None,
            tamper: None,
            clients: ClientSide::default(),
            web: web::WebSide::default(),
            records: VecDeque::new(),
            queue: VecDeque::new(),
            busy: false,
            store,
            life: 1,
        }
    }
}

/// One server, mode `none`, phones on a trusted network.
pub(crate) fn desk() -> Desk {
    plan(1).open()
}

impl Desk {
    /// Sends a request of a phone's; the final answer to it, if there is one by now.
    pub(crate) fn ask(&mut self, ask: &Ask) -> Option<Message> {
        self.send(ask);
        self.answer_to(ask)
    }

    /// The same where the answer must have come.
    pub(crate) fn answer(&mut self, ask: &Ask) -> Message {
        self.ask(ask).expect("it is answered at once")
    }

    /// The status of that answer.
    pub(crate) fn status(&mut self, ask: &Ask) -> u16 {
        self.answer(ask).status().unwrap()
    }

    pub(crate) fn send(&mut self, ask: &Ask) {
        self.deliver(ask.listener, ask.from, ask.bytes());
    }

    /// Requests reach the door before it can do anything about the first of them: as one input, or
    /// one after the other.
    pub(crate) fn send_at_once(&mut self, asks: &[Ask], as_one: bool) {
        let message = |ask: &Ask| (flow(ask.listener, ask.from), ask.bytes());
        let messages: Vec<(Flow, Bytes)> = asks.iter().map(message).collect();
        let mut outputs = Vec::new();
        if as_one {
            self.door.handle_together(self.now, &messages);
            outputs.extend(std::iter::from_fn(|| self.door.poll()));
        } else {
            for (flow, message) in messages {
                self.door.handle(self.now, Input::Sip { flow, message });
                outputs.extend(std::iter::from_fn(|| self.door.poll()));
            }
        }
        self.busy = true;
        outputs.into_iter().for_each(|output| self.carry_out(output));
        self.busy = false;
        self.settle();
    }

    /// Takes whatever has reached phones.
    pub(crate) fn take_inbox(&mut self) -> Vec<(SocketAddr, Bytes)> {
        self.inbox.drain(..).map(|(to, message)| (to, message.bytes().clone())).collect()
    }

    /// Takes the answer to `ask` that came last out of the inbox.
    pub(crate) fn answer_to(&mut self, ask: &Ask) -> Option<Message> {
        let at = self.inbox.iter().rposition(|(to, message)| {
            let same = |name| message.header(name) == ask.first(name).map(str::as_bytes);
            *to == ask.from
                && message.status().is_some_and(|status| status >= 200)
                && same(HeaderName::CallId)
                && same(HeaderName::CSeq)
        })?;
        Some(self.inbox.remove(at).1)
    }

    /// Something reaches the door.
    pub(crate) fn deliver(&mut self, listener: ListenerId, from: SocketAddr, message: Bytes) {
        self.reach_door(Input::Sip { flow: flow(listener, from), message });
    }

    /// The same by any flow.
    pub(crate) fn deliver_by(&mut self, flow: Flow, message: Bytes) {
        self.reach_door(Input::Sip { flow, message });
    }

    /// The shell says how far behind the door is, for as long as it takes to count.
    pub(crate) fn feels(&mut self, waited: Duration) {
        self.reach_door(Input::Pressure { waited, dropped: false });
        self.pass(Duration::from_millis(100));
        self.reach_door(Input::Pressure { waited, dropped: false });
    }

    /// The kernel had no room for something.
    pub(crate) fn drops(&mut self) {
        self.reach_door(Input::Pressure { waited: Duration::ZERO, dropped: true });
    }

    /// A server sends a request of its own.
    pub(crate) fn server_says(&mut self, server: usize, message: impl Into<Bytes>) {
        self.deliver(SERVERS, server_addr(server), message.into());
    }

    /// A phone answers a request that is in its inbox, which is thereby taken out.
    pub(crate) fn phone_answers(&mut self, phone: SocketAddr, status: u16) -> Message {
        let request = self.request_at(phone).expect("a request is there");
        let response = Response::to(&request, status)
            .received(SocketAddr::from(([192, 0, 2, 1], 5060)))
            .to_tag("phone")
            .finish();
        let listener = if phone.is_ipv6() { PHONES_V6 } else { PHONES };
        self.deliver(listener, phone, response);
        request
    }

    /// Takes the oldest request at a phone out of the inbox.
    pub(crate) fn request_at(&mut self, phone: SocketAddr) -> Option<Message> {
        let at = self.inbox.iter().position(|(to, m)| *to == phone && m.method().is_some())?;
        Some(self.inbox.remove(at).1)
    }

    /// The server sends OPTIONS along the Path it has stored.
    pub(crate) fn ping(&mut self, server: usize, aor: &str, contact: &str) {
        let now = self.now.uptime;
        self.servers[server].ping(now, aor, contact).expect("it holds the binding");
        self.drain_server(server);
    }

    pub(crate) fn set_mood(&mut self, server: usize, mood: Mood) {
        self.servers[server].set_mood(self.now.uptime, mood);
        self.drain_server(server);
    }

    /// Lets time pass.
    pub(crate) fn pass(&mut self, time: Duration) {
        let until = self.now.uptime + time;
        loop {
            let door = self.door.next();
            let servers = self.servers.iter().filter_map(UcServer::next).min();
            let Some(at) = [door, servers].into_iter().flatten().min().filter(|at| *at <= until)
            else {
                break;
            };
            self.advance(at);
            if door.is_some_and(|due| due <= at) {
                self.reach_door(Input::Timeout);
            }
            for server in 0..self.servers.len() {
                if self.servers[server].next().is_some_and(|due| due <= at) {
                    self.servers[server].handle(self.now.uptime, ucserver::Input::Timeout);
                    self.drain_server(server);
                }
            }
        }
        self.advance(until);
    }

    /// The door is killed and started again with what was durable.
    pub(crate) fn restart(&mut self) {
        self.records.clear();
        self.life += 1;
        let settings = Settings { seed: self.life, ..self.settings.clone() };
        self.door = Door::new(settings, self.store.load().unwrap(), self.now);
        self.busy = true;
        self.drain_door();
        self.busy = false;
        self.settle();
    }

    /// The same, and every stored user is changed by hand meanwhile.
    pub(crate) fn restart_with_users(&mut self, change: impl Fn(&mut UserRecord)) {
        for user in self.store.load().unwrap().users {
            let replaces = Some(user.epoch);
            let mut record = user;
            change(&mut record);
            let changes = vec![Change::User { record, replaces }];
            let outcomes = self.store.commit(&[Record { ticket: 0, changes }]);
            assert_eq!(outcomes, [Recorded::Done]);
        }
        self.restart();
        self.pass(Duration::from_secs(3));
    }

    /// The disk does what it was told to wait with.
    pub(crate) fn write_disk(&mut self) {
        self.disk_waits = false;
        while let Some(record) = self.records.pop_front() {
            self.commit(record);
        }
    }

    /// REGISTERs that reached servers since the last call.
    pub(crate) fn take_registers(&mut self) -> Vec<Message> {
        self.registers.drain(..).map(|(_, _, message)| message).collect()
    }

    /// AoR, contact with parameters, Path of everything a server holds now.
    pub(crate) fn held_by(&self, server: usize) -> Vec<(String, String, Vec<String>)> {
        let now = self.now.uptime;
        let bindings = self.servers[server].bindings().filter(|b| b.expires_at > now);
        bindings
            .map(|binding| {
                let path = binding.path.iter().map(ToString::to_string).collect();
                (binding.aor.to_owned(), format!("{}{}", binding.contact, binding.params), path)
            })
            .collect()
    }

    pub(crate) fn user(&self, name: &str) -> UserStatus {
        self.door.user(self.now, name).expect("the user is known")
    }

    /// The one binding of a user.
    pub(crate) fn binding(&self, name: &str) -> BindingStatus {
        let mut bindings = self.user(name).bindings;
        assert_eq!(bindings.len(), 1, "{bindings:?}");
        bindings.remove(0)
    }

    /// One of a user's bindings.
    pub(crate) fn binding_at(&self, name: &str, index: usize) -> BindingStatus {
        self.user(name).bindings.swap_remove(index)
    }

    /// Where a user is served, by number.
    pub(crate) fn current(&self, name: &str) -> usize {
        let current = self.user(name).current.expect("a current server");
        self.settings.servers.iter().position(|server| server.name == current).unwrap()
    }

    fn advance(&mut self, to: Uptime) {
        let passed = to.since(self.now.uptime);
        self.now = Now { uptime: self.now.uptime.max(to), wall: self.now.wall + passed };
    }

    /// One input after the other, each with all that it leads to.
    pub(crate) fn reach_door(&mut self, input: Input) {
        self.queue.push_back(input);
        self.settle();
    }

    /// An operator says something; whether it is taken is not asked.
    pub(crate) fn order(&mut self, command: &Command) {
        let _ = self.door.command(self.now, command);
        self.busy = true;
        self.drain_door();
        self.busy = false;
        self.settle();
    }

    fn settle(&mut self) {
        if std::mem::replace(&mut self.busy, true) {
            return;
        }
        while let Some(input) = self.queue.pop_front() {
            self.door.handle(self.now, input);
            self.drain_door();
        }
        self.busy = false;
    }

    fn drain_door(&mut self) {
        while let Some(output) = self.door.poll() {
            self.carry_out(output);
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Send { flow, bytes } if flow.listener == SERVERS => {
                self.reach_server(flow.remote, bytes);
            }
            Output::Send { flow, bytes } if flow.connection.is_own() => {
                self.reach_entrance(flow, bytes);
            }
            Output::Open { flow, opening, .. } => {
                self.reach_web_service(flow, (*opening).clone());
            }
            Output::Answer { flow, answer } => self.door_answers(flow, answer),
            Output::Send { flow, bytes }
                if [clients::CLIENTS, ListenerId::WEB].contains(&flow.listener) =>
            {
                let message = frontdoor::ucsap::Message::parse(bytes).unwrap();
                self.clients.inbox.push((flow.connection, message));
            }
            Output::Close { flow } => self.hang_up(flow),
            Output::Send { flow, bytes } => {
                let message = Message::parse(bytes).expect("the door sends what can be read");
                self.inbox.push((flow.remote, message));
            }
            Output::Record(record) if self.disk_waits => self.records.push_back(record),
            Output::Record(record) => self.commit(record),
            Output::StartTls { flow, answer } => self.start_tls(flow, answer),
            Output::Fetch(ServerId(_))
            | Output::Ordered { .. }
            | Output::Event(_)
            | Output::Report(_) => {}
        }
    }

    fn commit(&mut self, record: Record) {
        let ticket = record.ticket;
        let outcome = if self.disk_is_full {
            Recorded::Failed(Failed::DiskFull)
        } else {
            self.store.commit(&[record]).pop().unwrap()
        };
        assert!(self.disk_is_full || !matches!(outcome, Recorded::Failed(_)), "{outcome:?}");
        self.reach_door(Input::Recorded { ticket, outcome });
    }

    fn reach_server(&mut self, remote: SocketAddr, bytes: Bytes) {
        let message = Message::parse(bytes.clone()).expect("the door sends what can be read");
        let server = (0..self.servers.len()).find(|&server| server_addr(server) == remote);
        match (server, message.method()) {
            (Some(server), Some("REGISTER")) => {
                self.registers.push((self.now.uptime, server, message.clone()));
            }
            (_, None) => self.answers_to_servers.push((remote, message.clone())),
            _ => {}
        }
        let Some(server) = server else { return };
        if self.servers[server].mood() == Mood::Dead {
            let input = Input::Unreachable { remote, transport: Transport::Udp, refused: true };
            return self.reach_door(input);
        }
        if let Some(answer) = self.script.as_mut().and_then(|script| script(server, &message)) {
            return self.server_says(server, answer);
        }
        let flow = flow(ListenerId(0), DOOR_AT_SERVERS.parse().unwrap());
        let input = ucserver::Input::Sip { flow, message: bytes };
        self.servers[server].handle(self.now.uptime, input);
        self.drain_server(server);
    }

    fn drain_server(&mut self, server: usize) {
        while let Some(output) = self.servers[server].poll() {
            let mut bytes = match output {
                ucserver::Output::Send { bytes, .. } => bytes,
                ucserver::Output::Client(what) => {
                    self.entrance_does(server, what);
                    continue;
                }
            };
            let message = Message::parse(bytes.clone()).unwrap();
            if let (Some(tamper), Some(_)) = (self.tamper.as_mut(), message.status()) {
                bytes = tamper(&message);
            }
            self.server_says(server, bytes);
        }
    }
}

pub(crate) fn flow(listener: ListenerId, remote: SocketAddr) -> Flow {
    Flow { listener, transport: Transport::Udp, remote, connection: ConnectionId::NONE }
}

/// The phone with this number, on the trusted network.
pub(crate) fn phone(number: u8) -> SocketAddr {
    SocketAddr::from(([198, 51, 100, number], 5060))
}

/// A request of a phone's, as text; every line can be changed.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) start: String,
    pub(crate) from: SocketAddr,
    pub(crate) listener: ListenerId,
    lines: Vec<(String, String)>,
}

impl Ask {
    /// A REGISTER of `user`@example.com from phone 1, without a contact.
    pub(crate) fn register(user: &str) -> Self {
        let from = phone(1);
        let mut ask = Self {
            start: "REGISTER sip:example.com SIP/2.0".into(),
            from,
            listener: PHONES,
            lines: Vec::new(),
        };
        for (name, value) in [
            ("Via", String::new()),
            ("Max-Forwards", "70".into()),
            ("From", format!("<sip:{user}@example.com>;tag=f-{user}")),
            ("To", format!("<sip:{user}@example.com>")),
            ("Call-ID", format!("call-{user}")),
            ("CSeq", "1 REGISTER".into()),
        ] {
            ask.lines.push((name.into(), value));
        }
        ask.sent_by()
    }

    /// From another phone; its Via says so too.
    pub(crate) fn at(mut self, from: SocketAddr) -> Self {
        self.from = from;
        self.listener = if from.is_ipv6() { PHONES_V6 } else { PHONES };
        self.sent_by()
    }

    pub(crate) fn start(mut self, start: &str) -> Self {
        self.start = start.into();
        self
    }

    pub(crate) fn cseq(self, number: u32) -> Self {
        self.set("CSeq", &format!("{number} REGISTER")).sent_by()
    }

    pub(crate) fn call_id(self, call_id: &str) -> Self {
        self.set("Call-ID", call_id).sent_by()
    }

    pub(crate) fn contact(self, value: &str) -> Self {
        self.line("Contact", value)
    }

    pub(crate) fn expires(self, value: &str) -> Self {
        self.set("Expires", value)
    }

    /// One more header line.
    pub(crate) fn line(mut self, name: &str, value: &str) -> Self {
        self.lines.push((name.into(), value.into()));
        self
    }

    /// One header line in the place of all of that name.
    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        match self.lines.iter().position(|(known, _)| known == name) {
            Some(at) => {
                self.lines[at].1 = value.into();
                let mut index = 0;
                self.lines.retain(|(known, _)| {
                    index += 1;
                    known != name || index - 1 == at
                });
                self
            }
            None => self.line(name, value),
        }
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.lines.retain(|(known, _)| known != name);
        self
    }

    /// The same header under another name.
    pub(crate) fn rename(mut self, name: &str, other: &str) -> Self {
        for line in &mut self.lines {
            if line.0 == name {
                line.0 = other.into();
            }
        }
        self
    }

    pub(crate) fn bytes(&self) -> Bytes {
        let mut text = format!("{}\r\n", self.start);
        for (name, value) in &self.lines {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("Content-Length: 0\r\n\r\n");
        text.into()
    }

    fn first(&self, name: HeaderName) -> Option<&str> {
        let of = |line: &&(String, String)| HeaderName::recognise(line.0.as_bytes()) == name;
        self.lines.iter().find(of).map(|(_, value)| value.as_str())
    }

    /// A Via of its sender, with a branch for its Call-ID and CSeq.
    fn sent_by(self) -> Self {
        let text = |name| self.first(name).unwrap_or_default().replace([' ', '@'], "-");
        let branch = format!("z9hG4bK-{}-{}", text(HeaderName::CallId), text(HeaderName::CSeq));
        let via = format!("SIP/2.0/UDP {};rport;branch={branch}", self.from);
        self.set("Via", &via)
    }
}

/// Contacts of a 200: URI and parameters without `expires`, with the seconds left.
pub(crate) fn contacts(answer: &Message) -> BTreeMap<String, u64> {
    let mut contacts = BTreeMap::new();
    for value in answer.values(HeaderName::Contact) {
        let address = NameAddr::parse(value).unwrap();
        let expires = text(address.params.get("expires").expect("every contact has a time"));
        let whole = text(value).replace(&format!(";expires={expires}"), "");
        let twice = contacts.insert(whole, expires.parse().unwrap());
        assert_eq!(twice, None, "a contact is listed once");
    }
    contacts
}

pub(crate) fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// A header's first value as text; empty if there is none.
pub(crate) fn header(message: &Message, name: HeaderName) -> &str {
    text(message.header(name).unwrap_or_default())
}
