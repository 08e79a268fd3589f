//! Door, servers, phones, store and the network between, each moved by hand.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use frontdoor::cluster::document::DocumentFault;
use frontdoor::cluster::{
    BindingAddress, HealthDocumentUse, Planes, Server, ServerId, Version, health,
};
use frontdoor::decision;
use frontdoor::directory::record::{Change, Failed, Record, Recorded};
use frontdoor::door::{
    Auth, ClientSettings, Door, Input, Limits, Listener, Output, Pace, Settings, Side, SipSettings,
    UnknownUsers,
};
use frontdoor::now::{Now, Uptime};
use frontdoor::private::Private;
use frontdoor::sip::{
    ConnectionId, Flow, HeaderName, ListenerId, Message, NameAddr, Response, Transport,
};
use frontdoor::store::{Memory, Store};
use frontdoor::ucserver::{self, Mood, UcServer};

pub(super) const PHONES: usize = 6;
pub(super) const SERVERS: usize = 3;
/// Two phones each.
const AORS: usize = 3;
/// Listeners of the door.
const DATAGRAMS: ListenerId = ListenerId(0);
const TOWARDS_SERVERS: ListenerId = ListenerId(1);
const STREAMS: ListenerId = ListenerId(2);
/// Packets that wait on the network; more push the oldest out.
const PACKETS_MAX: usize = 200;
/// Events of one stretch of time.
const EVENTS_MAX: usize = 3_000;
/// Timeouts of one instant, and outputs of one input, before it is a loop.
const ROUNDS_MAX: usize = 200;
const OUTPUTS_MAX: usize = 10_000;

/// What a phone asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Register { expires_s: u32 },
    Remove,
    RemoveAll,
    Query,
}

struct Phone {
    aor: usize,
    flow: Flow,
    contact: String,
    cseq: u32,
    wish: Wish,
    said: Option<Bytes>,
    /// Until when the door has promised it to be registered.
    promised: Option<Uptime>,
}

/// A packet on its way.
#[derive(Clone)]
enum Packet {
    ToServer(usize, Bytes),
    ToDoor(usize, Bytes),
}

pub(super) struct Stage {
    now: Now,
    door: Door,
    servers: Vec<UcServer>,
    phones: Vec<Phone>,
    store: Memory,
    records: VecDeque<Record>,
    network: VecDeque<Packet>,
    /// What the door is told next.
    inputs: VecDeque<Input>,
    /// Removals that were not answered yet, by AoR, phone and CSeq.
    removals: BTreeSet<(usize, usize, u32)>,
    life: u64,
}

impl Stage {
    pub(super) fn new() -> Self {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30);
        let now = Now { uptime: Uptime::from_secs(1000), wall };
        let mut store = Memory::new();
        let loaded = store.load().expect("memory can be read");
        let servers = (0..SERVERS)
            .map(|index| {
                let settings = ucserver::Settings {
                    name: format!("ucs{}", index + 1).into(),
                    address: server_addr(index),
                    ..ucserver::Settings::default()
                };
                UcServer::new(settings, now.uptime, index as u64)
            })
            .collect();
        let door = Door::new(settings(1), loaded, now);
        let mut stage = Self {
            now,
            door,
            servers,
            phones: (0..PHONES).map(Phone::new).collect(),
            store,
            records: VecDeque::new(),
            network: VecDeque::new(),
            inputs: VecDeque::new(),
            removals: BTreeSet::new(),
            life: 1,
        };
        stage.drain_door();
        stage.run(Duration::from_secs(3), true);
        stage
    }

    pub(super) fn register(&mut self, number: usize, wish: Wish) {
        let phone = &mut self.phones[number];
        phone.cseq += 1;
        phone.wish = wish;
        let said = phone.write(number);
        phone.said = Some(said);
        self.say_again(number);
    }

    /// The phone's latest request reaches the door, once more perhaps.
    pub(super) fn say_again(&mut self, number: usize) {
        let phone = &self.phones[number];
        let Some(message) = phone.said.clone() else { return };
        let (aor, flow, cseq) = (phone.aor, phone.flow, phone.cseq);
        match phone.wish {
            Wish::Remove => {
                self.phones[number].promised = None;
                self.removals.insert((aor, number, cseq));
            }
            Wish::RemoveAll => {
                self.forget_promises(aor);
                self.removals.insert((aor, number, cseq));
            }
            Wish::Register { .. } | Wish::Query => {}
        }
        self.tell(Input::Sip { flow, message });
    }

    /// The phone's latest request with one octet changed: nobody knows what it asks for.
    pub(super) fn garble(&mut self, number: usize, with: u8) {
        let Some(said) = self.phones[number].said.take() else { return };
        self.phones[number].wish = Wish::Query;
        let mut octets = said.to_vec();
        let at = usize::from(with) * 7 % octets.len();
        octets[at] ^= 1 << (with % 8);
        (0..AORS).for_each(|aor| self.forget_promises(aor));
        let flow = self.phones[number].flow;
        self.tell(Input::Sip { flow, message: octets.into() });
    }

    /// The oldest packet arrives.
    pub(super) fn arrive(&mut self) {
        match self.network.pop_front() {
            None => {}
            Some(Packet::ToDoor(server, message)) => {
                let flow = flow(TOWARDS_SERVERS, Transport::Udp, server_addr(server));
                self.tell(Input::Sip { flow, message });
            }
            Some(Packet::ToServer(server, _)) if self.servers[server].mood() == Mood::Dead => {
                self.refuse(server);
            }
            Some(Packet::ToServer(server, message)) => {
                let flow = flow(ListenerId(0), Transport::Udp, door_addr());
                let input = ucserver::Input::Sip { flow, message };
                self.servers[server].handle(self.now.uptime, input);
                self.drain_server(server);
            }
        }
    }

    pub(super) fn lose(&mut self) {
        self.network.pop_front();
    }

    /// The oldest packet comes a second time, behind all others.
    pub(super) fn double(&mut self) {
        if let Some(packet) = self.network.front().cloned() {
            self.transmit(packet);
        }
    }

    /// Time passes, and nothing arrives.
    pub(super) fn pass(&mut self, time: Duration) {
        self.run(time, time >= Duration::from_secs(3));
    }

    /// The disk has done its oldest write.
    pub(super) fn write(&mut self) {
        let Some(record) = self.records.pop_front() else { return };
        let ticket = record.ticket;
        let outcome = self.store.commit(&[record]).pop().expect("one outcome for one record");
        assert_eq!(outcome, Recorded::Done, "one door meets no conflict");
        self.tell(Input::Recorded { ticket, outcome });
    }

    pub(super) fn fail_write(&mut self) {
        let Some(record) = self.records.pop_front() else { return };
        let outcome = Recorded::Failed(Failed::DiskFull);
        self.tell(Input::Recorded { ticket: record.ticket, outcome });
    }

    /// kill -9 and a new start: what was not durable is gone.
    pub(super) fn restart(&mut self) {
        self.records.clear();
        self.inputs.clear();
        self.life += 1;
        let loaded = self.store.load().expect("memory can be read");
        self.door = Door::new(settings(self.life), loaded, self.now);
        self.drain_door();
    }

    pub(super) fn set_mood(&mut self, server: usize, mood: Mood) {
        self.servers[server].set_mood(self.now.uptime, mood);
        self.drain_server(server);
    }

    /// ICMP: nothing is delivered to that server.
    pub(super) fn refuse(&mut self, server: usize) {
        let remote = server_addr(server);
        self.tell(Input::Unreachable { remote, transport: Transport::Udp, refused: true });
    }

    pub(super) fn close_stream(&mut self, number: usize) {
        let flow = self.phones[number].flow;
        if flow.transport.is_reliable() {
            self.tell(Input::Closed { flow, refused: false });
            // It comes back by another connection.
            self.phones[number].flow.connection.0 += 100;
        }
    }

    pub(super) fn ping(&mut self, server: usize) {
        // A silent one refuses to, which is fine.
        let _ = self.servers[server].ping_all(self.now.uptime, 1000);
        self.drain_server(server);
    }

    /// Everything that waits happens.
    pub(super) fn settle(&mut self) {
        for _ in 0..ROUNDS_MAX {
            if self.network.is_empty() && self.records.is_empty() {
                break;
            }
            self.arrive();
            self.write();
        }
    }

    /// What must hold between any two operations.
    pub(super) fn check(&self) {
        assert!(self.inputs.is_empty());
        let mut writes = BTreeSet::new();
        for change in self.records.iter().flat_map(|record| &record.changes) {
            if let Change::User { record, .. } = change {
                assert!(writes.insert(&record.name), "{} is written twice at once", record.name);
            }
        }
        for (number, phone) in self.phones.iter().enumerate() {
            if phone.promised.is_some_and(|until| until > self.now.uptime) {
                let user = self.door.user(self.now, &aor(phone.aor));
                let bindings = user.map(|user| user.bindings).unwrap_or_default();
                assert!(
                    bindings.iter().any(|binding| *binding.contact == *phone.contact),
                    "phone {number} was told 200 and is not registered: {bindings:?}"
                );
            }
        }
    }

    fn forget_promises(&mut self, aor: usize) {
        for phone in self.phones.iter_mut().filter(|phone| phone.aor == aor) {
            phone.promised = None;
        }
    }

    /// Lets deadlines come; `flows` says whether packets and writes happen meanwhile.
    fn run(&mut self, time: Duration, flows: bool) {
        let until = self.now.uptime + time;
        for _ in 0..EVENTS_MAX {
            if flows {
                self.settle();
            }
            let servers = self.servers.iter().filter_map(UcServer::next);
            let next = servers.chain(self.door.next()).min().filter(|at| *at <= until);
            let Some(at) = next else { break };
            self.advance(at);
            for server in 0..SERVERS {
                if self.servers[server].next().is_some_and(|due| due <= at) {
                    self.servers[server].handle(at, ucserver::Input::Timeout);
                    self.drain_server(server);
                }
            }
            let mut rounds = 0;
            while self.door.next().is_some_and(|due| due <= at) {
                self.tell(Input::Timeout);
                rounds += 1;
                assert!(rounds < ROUNDS_MAX, "a deadline that was served is due again");
            }
        }
        self.advance(until);
    }

    fn advance(&mut self, to: Uptime) {
        let passed = to.since(self.now.uptime);
        self.now = Now { uptime: self.now.uptime.max(to), wall: self.now.wall + passed };
    }

    fn tell(&mut self, input: Input) {
        self.inputs.push_back(input);
        while let Some(input) = self.inputs.pop_front() {
            self.door.handle(self.now, input);
            self.drain_door();
        }
    }

    fn drain_door(&mut self) {
        let mut outputs = 0;
        while let Some(output) = self.door.poll() {
            outputs += 1;
            assert!(outputs < OUTPUTS_MAX, "one input leads to endless outputs");
            match output {
                Output::Send { flow, bytes } if flow.listener == TOWARDS_SERVERS => {
                    let message = Message::parse(bytes.clone()).expect("the door writes SIP");
                    if message.method().is_some() {
                        assert_eq!(message.check_request(), Ok(()), "{bytes:?}");
                    }
                    let server = (0..SERVERS).find(|server| server_addr(*server) == flow.remote);
                    let server = server.expect("the door writes to servers only");
                    self.transmit(Packet::ToServer(server, bytes));
                }
                Output::Send { flow, bytes } => self.reach_phone(flow, bytes),
                Output::Record(record) => self.records.push_back(record),
                Output::Fetch(server) => self.fetch(server),
                Output::Close { .. }
                | Output::StartTls { .. }
                | Output::Ordered { .. }
                | Output::Event(_)
                | Output::Open { .. }
                | Output::Answer { .. }
                | Output::Report(_) => {}
            }
        }
    }

    fn fetch(&mut self, server: ServerId) {
        let document = self.servers[server.index()].document(self.now.uptime);
        let document = document.ok_or_else(|| DocumentFault::Missing("no answer".into()));
        self.inputs.push_back(Input::Fetched { server, document });
    }

    fn drain_server(&mut self, server: usize) {
        while let Some(ucserver::Output::Send { bytes, .. }) = self.servers[server].poll() {
            self.transmit(Packet::ToDoor(server, bytes));
        }
    }

    fn transmit(&mut self, packet: Packet) {
        if self.network.len() == PACKETS_MAX {
            self.network.pop_front();
        }
        self.network.push_back(packet);
    }

    fn reach_phone(&mut self, flow: Flow, bytes: Bytes) {
        let message = Message::parse(bytes).expect("the door writes SIP");
        let Some(number) = self.phones.iter().position(|phone| phone.flow.remote == flow.remote)
        else {
            return;
        };
        let Some(status) = message.status() else {
            assert_eq!(message.check_request(), Ok(()));
            let answer = Response::to(&message, 200).to_tag("phone").finish();
            let flow = self.phones[number].flow;
            return self.inputs.push_back(Input::Sip { flow, message: answer });
        };
        let (Ok(cseq), true) = (message.cseq(), status >= 200) else { return };
        let (aor, of) = (self.phones[number].aor, cseq.number);
        self.removals.retain(|removal| *removal != (aor, number, of));
        let is_undisturbed = !self.removals.iter().any(|(whose, ..)| *whose == aor);
        let phone = &self.phones[number];
        let is_latest = phone.cseq == of && matches!(phone.wish, Wish::Register { .. });
        if status == 200 && is_latest && is_undisturbed {
            let lease =
                lease_of(&message, &phone.contact).expect("a 200 lists what was registered");
            self.phones[number].promised = Some(self.now.uptime + lease);
            self.check_durable(number);
        }
    }

    /// A 200 that promises a binding comes after the store has it.
    fn check_durable(&mut self, number: usize) {
        let contact = self.phones[number].contact.as_bytes();
        let loaded = self.store.load().expect("memory can be read");
        let is_there = loaded.bindings.iter().any(|binding| {
            !binding.gone && binding.body.windows(contact.len()).any(|part| part == contact)
        });
        assert!(is_there, "phone {number} was told 200 before it was durable");
    }
}

impl Phone {
    fn new(number: usize) -> Self {
        let remote = SocketAddr::from(([198, 51, 100, number as u8 + 1], 5060));
        // Every third comes by a stream.
        let mut own = flow(DATAGRAMS, Transport::Udp, remote);
        if number % 3 == 2 {
            own = flow(STREAMS, Transport::Tcp, remote);
            own.connection = ConnectionId(number as u64 + 1);
        }
        Self {
            aor: number % AORS,
            flow: own,
            contact: format!("sip:phone{number}@{remote}"),
            cseq: 0,
            wish: Wish::Query,
            said: None,
            promised: None,
        }
    }

    fn write(&self, number: usize) -> Bytes {
        let (aor, cseq, remote) = (aor(self.aor), self.cseq, self.flow.remote);
        let asks = match self.wish {
            Wish::Register { expires_s } => {
                format!("Contact: <{}>\r\nExpires: {expires_s}\r\n", self.contact)
            }
            Wish::Remove => format!("Contact: <{}>;expires=0\r\n", self.contact),
            Wish::RemoveAll => "Contact: *\r\nExpires: 0\r\n".into(),
            Wish::Query => String::new(),
        };
        format!(
            "REGISTER sip:example.com SIP/2.0\r\n\
             Via: SIP/2.0/UDP {remote};branch=z9hG4bK-{number}-{cseq};rport\r\n\
             Max-Forwards: 70\r\nFrom: <{aor}>;tag=t{number}\r\nTo: <{aor}>\r\n\
             Call-ID: phone-{number}\r\nCSeq: {cseq} REGISTER\r\n{asks}Content-Length: 0\r\n\r\n"
        )
        .into()
    }
}

fn lease_of(answer: &Message, contact: &str) -> Option<Duration> {
    answer.values(HeaderName::Contact).find_map(|value| {
        let address = NameAddr::parse(value).ok()?;
        let expires = std::str::from_utf8(address.params.get("expires")?).ok()?;
        let is_own = address.uri == contact.as_bytes();
        is_own.then_some(Duration::from_secs(expires.parse().ok()?))
    })
}

fn aor(number: usize) -> String {
    format!("sip:user{number}@example.com")
}

fn server_addr(server: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, server as u8 + 1], 5060))
}

fn door_addr() -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 100], 5080))
}

fn flow(listener: ListenerId, transport: Transport, remote: SocketAddr) -> Flow {
    Flow { listener, transport, remote, connection: ConnectionId::NONE }
}

fn settings(seed: u64) -> Settings {
    let listener = |name: &str, transport, side, advertised: &str| Listener {
        name: name.into(),
        transport,
        side,
        advertised: advertised.into(),
        ipv6: false,
    };
    Settings {
        servers: (0..SERVERS).map(server).collect(),
        listeners: vec![
            listener("phones", Transport::Udp, Side::Phones, "192.0.2.1:5060"),
            listener("servers", Transport::Udp, Side::Servers, "10.0.0.100:5080"),
            listener("streams", Transport::Tcp, Side::Phones, "192.0.2.1:5060"),
        ],
        sip: SipSettings {
            auth: Auth::None,
            trusted_networks: vec!["198.51.100.0/24".parse().expect("a network")],
            ..SipSettings::default()
        },
        health: health::Settings::default(),
        recovery: frontdoor::recovery::Policy::default(),
        decision: decision::Policy {
            disable_automatic_user_distribution: false,
            ..decision::Policy::default()
        },
        clients: ClientSettings::default(),
        pace: Pace::default(),
        telephone_systems: Vec::new(),
        unknown_users: UnknownUsers::Adopt,
        // Few, so that they are met.
        limits: Limits { waiting: 12, transactions: 60, ..Limits::default() },
        token_key: Private::new([7; 32]),
        seed,
    }
}

fn server(index: usize) -> Server {
    Server {
        name: format!("ucs{}", index + 1).into(),
        sip: server_addr(index),
        transport: Transport::Udp,
        clients: None,
        web: None,
        ucsid: None,
        public: None,
        planes: Planes::SIP,
        capacity: 100,
        version: Some(Version::FIRST_WITH_DISTRIBUTION),
        site: None,
        ties: std::sync::Arc::default(),
        binding_address: BindingAddress::Auto,
        health_document: HealthDocumentUse::Optional,
        health_url: Some("http://health".into()),
        realm: None,
    }
}
