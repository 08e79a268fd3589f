//! A world that runs to its next event: door, store, servers, phones, clients, and the network
//! between.

mod clients;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use frontdoor::cluster::document::{Document, DocumentFault, TelephoneSystem};
use frontdoor::cluster::{
    BindingAddress, HealthDocumentUse, Planes, Server, ServerId, Version, health,
};
use frontdoor::decision;
use frontdoor::directory::record::{
    Change, Failed, Record, Recorded, RelocationReason, UserRecord,
};
use frontdoor::directory::{MoveReason, Moved};
use frontdoor::door::{
    Auth, BindingStatus, ClientSettings, Command, Done, Door, Event, Filter, Input, Limits,
    Listener, Output, Pace, Refused, RelocationStatus, Report, ServerStatus, Settings, Side,
    SipSettings, Status, UnknownUsers, UserStatus,
};
use frontdoor::now::{Now, Uptime};
use frontdoor::private::Private;
use frontdoor::sip::{ConnectionId, Flow, HeaderName, ListenerId, Message, Transport};
use frontdoor::store::{Memory, Store};
use frontdoor::ucserver::{self, Mood, UcServer};

use crate::client::Client;
use crate::phone::{Act, Phone};
use crate::world::clients::{OnStream, Streams};

pub(crate) use clients::entrance;

/// How the network and the disk behave.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    pub(crate) latency_min: Duration,
    pub(crate) latency_max: Duration,
    /// Of a thousand datagrams.
    pub(crate) lost: u32,
    pub(crate) doubled: u32,
    /// How long a commit takes.
    pub(crate) disk: Duration,
}

impl Weather {
    /// One millisecond each way, nothing lost: every step of a story is the same each time.
    pub(crate) const CALM: Self = Self {
        latency_min: Duration::from_millis(1),
        latency_max: Duration::from_millis(1),
        lost: 0,
        doubled: 0,
        disk: Duration::from_millis(2),
    };
    /// Two of a hundred lost, one doubled, and late ones overtaken.
    pub(crate) const ROUGH: Self = Self {
        latency_min: Duration::from_millis(1),
        latency_max: Duration::from_millis(40),
        lost: 20,
        doubled: 10,
        disk: Duration::from_millis(7),
    };
}

#[derive(Debug)]
enum Happening {
    /// A datagram reaches the door.
    ToDoor { listener: u16, from: SocketAddr, bytes: Bytes },
    /// A datagram reaches a server.
    ToServer { server: usize, bytes: Bytes },
    /// A datagram reaches a phone, whoever has this address then.
    ToPhone { to: SocketAddr, bytes: Bytes },
    /// ICMP reaches the door.
    Refused { server: usize, life: u32 },
    /// The disk has done its work.
    Commit { record: Record, life: u32 },
    /// The answer of the store reaches the core.
    Recorded { ticket: u64, outcome: Recorded, life: u32 },
    /// A health document is fetched.
    Fetch { server: usize, life: u32 },
    /// Something on a stream of a client, or of the door's to a server.
    OnStream { what: OnStream, life: u32 },
}

struct Entry {
    at: Uptime,
    sequence: u64,
    what: Happening,
}

pub(crate) struct World {
    pub(crate) now: Now,
    pub(crate) door: Option<Door>,
    pub(crate) servers: Vec<UcServer>,
    pub(crate) phones: Vec<Phone>,
    pub(crate) clients: Vec<Client>,
    streams: Streams,
    pub(crate) weather: Weather,
    pub(crate) settings: Settings,
    pub(crate) events: Vec<(Uptime, Event)>,
    /// What became of orders that waited for the store, by ticket.
    pub(crate) told: BTreeMap<u64, Result<(), Refused>>,
    pub(crate) disk_full: bool,
    died_on_full_disk: bool,
    /// What each server's health document is instead of the truth.
    pub(crate) lies: Vec<Option<&'static str>>,
    /// A server that answers probes, and no REGISTER.
    pub(crate) deaf: Option<usize>,
    /// Which servers have lost their telephone system, and say so.
    pub(crate) cut_off: Vec<bool>,
    /// Documents that were true once, by server: the latest few.
    told_before: Vec<VecDeque<Document>>,
    pub(crate) steps: u64,
    /// The ledger as durable, user by user, to check every change of it.
    pub(crate) ledger: BTreeMap<Arc<str>, UserRecord>,
    /// Users and servers of whom an operator has said that they, or theirs, go home.
    pub(crate) ordered: BTreeSet<String>,
    /// Who went home, when: not because the server where they were had failed.
    /// Until when users may leave a well server, by server: they were ordered to.
    leaves_until: Vec<Option<Uptime>>,
    /// What telephone systems hear of, by their place in the settings: when, and of whom.
    heard: VecDeque<(Uptime, usize, String)>,
    heard_of: BTreeSet<Vec<u8>>,
    /// A drill takes them for failed until then at most.
    drilled_until: Vec<Option<Uptime>>,
    /// The last word of every report, oldest first.
    pub(crate) reports: Vec<Report>,
    /// Until when homes may change by a rebalance.
    spreads_until: Option<Uptime>,
    /// Who left a well server, when, and to where.
    pub(crate) departed: Vec<(Uptime, Arc<str>)>,
    pub(crate) homeward: Vec<(Uptime, Arc<str>)>,
    store: Memory,
    rng: fastrand::Rng,
    /// When each phone acts next; an entry that is out of date is mended when it comes up.
    wakes: BTreeSet<(Uptime, usize)>,
    happenings: BinaryHeap<Reverse<Entry>>,
    sequence: u64,
    /// Lives of the door: what was meant for an earlier one is lost.
    life: u32,
    /// Since when each server gives no sign of life.
    gone_since: Vec<Option<Uptime>>,
    /// Since when neither door, disk nor clock had anything.
    calm_since: Uptime,
    /// Servers that were unwell at some time, and until when: only their users may move.
    unwell_until: Vec<Option<Uptime>>,
}

const START: Uptime = Uptime::from_secs(1_000);

/// Where a record says that a user is served.
/// Every move, and nothing else, is one more line of the user's history, which stays short (L3).
fn check_history(before: &UserRecord, after: &UserRecord) {
    let (was, is) = (current(before), current(after));
    let place = |at: &Option<Arc<str>>| at.as_deref().unwrap_or_default().to_owned();
    let (from, to) = if was == is {
        (place(&before.home), place(&after.home))
    } else {
        (place(&was), place(&is))
    };
    let old: Vec<&Moved> = before.history.iter().collect();
    let new: Vec<&Moved> = after.history.iter().collect();
    if from == to || was.is_none() {
        return assert_eq!(old, new, "{} was not moved", after.name);
    }
    let (last, rest) = new.split_last().expect("a move is remembered");
    assert!(new.len() <= 16 && old.ends_with(rest) && rest.len() >= old.len().min(15));
    if last.why == MoveReason::Manual {
        assert_eq!(*last.from, *place(&before.home));
        assert_eq!(*last.to, *place(&after.home));
    } else {
        assert_eq!((&*last.from, &*last.to), (&*from, &*to), "{}", after.name);
    }
    assert_eq!(last.epoch, after.epoch);
    if let Some(away) = after.relocation.as_ref().filter(|_| was != is) {
        assert_eq!((last.date, last.why), (away.date, away.why.into()));
    }
}

fn current(user: &UserRecord) -> Option<Arc<str>> {
    user.relocation.as_ref().map(|away| Arc::clone(&away.target)).or_else(|| user.home.clone())
}

pub(crate) fn server_addr(server: usize) -> SocketAddr {
    format!("10.0.0.{}:5060", server + 1).parse().unwrap()
}

pub(crate) fn phone_addr(number: usize) -> SocketAddr {
    format!("198.51.{}.{}:5060", number / 250, number % 250 + 1).parse().unwrap()
}

const DOOR_PHONES: &str = "192.0.2.1:5060";
const DOOR_SERVERS: &str = "10.0.0.100:5080";

pub(crate) fn settings(servers: usize, capacity: u32) -> Settings {
    let server = |index: usize| Server {
        name: format!("ucs{}", index + 1).into(),
        sip: server_addr(index),
        transport: Transport::Udp,
        clients: None,
        web: None,
        ucsid: None,
        public: None,
        planes: Planes::SIP,
        capacity,
        version: Some(Version::FIRST_WITH_DISTRIBUTION),
        site: None,
        ties: Arc::default(),
        realm: None,
        binding_address: BindingAddress::Auto,
        health_document: HealthDocumentUse::Optional,
        health_url: Some("http://health".into()),
    };
    let listener = |name: &str, side, advertised: &str| Listener {
        name: name.into(),
        transport: Transport::Udp,
        side,
        advertised: advertised.into(),
        ipv6: false,
    };
    Settings {
        servers: (0..servers).map(server).collect(),
        listeners: vec![
            listener("phones", Side::Phones, DOOR_PHONES),
            listener("servers", Side::Servers, DOOR_SERVERS),
        ],
        sip: SipSettings {
            auth: Auth::None,
            trusted_networks: vec!["198.51.0.0/16".parse().unwrap()],
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
        limits: Limits::default(),
        token_key: Private::new([7; 32]),
        seed: 1,
    }
}

impl World {
    pub(crate) fn new(settings: Settings, weather: Weather, seed: u64) -> Self {
        let now =
            Now { uptime: START, wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30) };
        let servers = (0..settings.servers.len())
            .map(|index| {
                let settings = ucserver::Settings {
                    name: format!("ucs{}", index + 1).into(),
                    address: server_addr(index),
                    ..ucserver::Settings::default()
                };
                UcServer::new(settings, now.uptime, seed ^ index as u64)
            })
            .collect::<Vec<_>>();
        let count = servers.len();
        let mut world = Self {
            now,
            door: None,
            gone_since: vec![None; count],
            calm_since: START,
            unwell_until: vec![None; count],
            servers,
            phones: Vec::new(),
            clients: Vec::new(),
            streams: Streams::default(),
            weather,
            settings,
            events: Vec::new(),
            told: BTreeMap::new(),
            disk_full: false,
            died_on_full_disk: false,
            lies: vec![None; count],
            deaf: None,
            cut_off: vec![false; count],
            told_before: vec![VecDeque::new(); count],
            steps: 0,
            ledger: BTreeMap::new(),
            ordered: BTreeSet::new(),
            leaves_until: vec![None; count],
            heard: VecDeque::new(),
            heard_of: BTreeSet::new(),
            drilled_until: vec![None; count],
            reports: Vec::new(),
            spreads_until: None,
            departed: Vec::new(),
            homeward: Vec::new(),
            store: Memory::new(),
            rng: fastrand::Rng::with_seed(seed),
            wakes: BTreeSet::new(),
            happenings: BinaryHeap::new(),
            sequence: 0,
            life: 0,
        };
        world.start_door();
        world
    }

    /// Adds a phone that registers by itself within a second.
    pub(crate) fn add_phone(&mut self, aor: &str) -> usize {
        let number = self.phones.len();
        let mut phone = Phone::new(aor, number, phone_addr(number));
        let delay = Duration::from_millis(self.rng.u64(0..1000));
        phone.next_act = Some((self.now.uptime + delay, Act::Register));
        self.phones.push(phone);
        self.wake(number);
        number
    }

    pub(crate) fn phone_acts(&mut self, number: usize, act: Act) {
        let bytes = self.phones[number].act(self.now.uptime, act);
        self.phone_sends(number, bytes);
        self.wake(number);
    }

    fn wake(&mut self, number: usize) {
        if let Some(at) = self.phones[number].next() {
            self.wakes.insert((at, number));
        }
    }

    /// The phone turns up at another address.
    pub(crate) fn roam(&mut self, number: usize) {
        let fresh = phone_addr(1000 + number);
        self.phones[number].roam(fresh);
        self.phone_acts(number, Act::Register);
    }

    pub(crate) fn set_mood(&mut self, server: usize, mood: Mood) {
        self.servers[server].set_mood(self.now.uptime, mood);
        self.gone_since[server] = match (mood, self.gone_since[server]) {
            (Mood::Dead | Mood::Hung, since) => since.or(Some(self.now.uptime)),
            _ => None,
        };
        self.unwell_until[server] = match mood {
            Mood::Healthy => Some(self.now.uptime + Duration::from_secs(60)),
            Mood::Slow { .. }
            | Mood::Refusing
            | Mood::Errors
            | Mood::Hung
            | Mood::Dead
            | Mood::Flapping { .. }
            | Mood::Amnesia
            | Mood::StrictHome => Some(Uptime::NEVER),
        };
        self.drain_server(server);
    }

    /// kill -9: what was not durable is gone, what is under way to it is lost.
    pub(crate) fn kill_door(&mut self) {
        self.streams_end();
        self.door = None;
        self.life += 1;
        self.heard.clear();
        self.died_on_full_disk |= self.disk_full;
    }

    pub(crate) fn start_door(&mut self) {
        let loaded = self.store.load().expect("memory can be read");
        let mut settings = self.settings.clone();
        settings.seed = u64::from(self.life) + 1;
        self.door = Some(Door::new(settings, loaded, self.now));
        self.calm_since = self.now.uptime;
        self.drain_door();
    }

    /// The door restarts, and finds users changed by somebody else.
    pub(crate) fn restart_with_users(&mut self, change: impl Fn(&mut UserRecord)) {
        self.kill_door();
        for mut record in self.store.load().expect("memory can be read").users {
            let replaces = Some(record.epoch);
            change(&mut record);
            let changes = vec![Change::User { record, replaces }];
            let done = self.store.commit(&[Record { ticket: 0, changes }]);
            assert_eq!(done, [Recorded::Done]);
        }
        self.start_door();
    }

    pub(crate) fn restart_door(&mut self) {
        self.kill_door();
        self.start_door();
    }

    pub(crate) fn door(&self) -> &Door {
        self.door.as_ref().expect("the door runs")
    }

    /// Everybody, as long as one page holds them.
    pub(crate) fn users(&self) -> Vec<UserStatus> {
        self.door().users(self.now, &Filter::default(), (0, 1_000)).unwrap().found
    }

    /// Who of them is away.
    pub(crate) fn relocations(&self) -> Vec<RelocationStatus> {
        self.door().relocations(self.now, &Filter::default(), (0, 1_000)).unwrap().found
    }

    pub(crate) fn run_for(&mut self, time: Duration) {
        let until = self.now.uptime + time;
        while self.next().is_some_and(|at| at <= until) {
            self.step();
        }
        self.advance(until);
    }

    /// Runs until `done`, at most `limit`; how long it took.
    pub(crate) fn run_until(
        &mut self,
        limit: Duration,
        mut done: impl FnMut(&Self) -> bool,
    ) -> Duration {
        let start = self.now.uptime;
        while !done(self) {
            let next = self.next().expect("something is always to come");
            assert!(next <= start + limit, "not within {limit:?}: {:#?}", self.summary());
            self.step();
        }
        self.now.uptime.since(start)
    }

    fn next(&self) -> Option<Uptime> {
        let packets = self.happenings.peek().map(|Reverse(entry)| entry.at);
        let door = self.door.as_ref().and_then(Door::next);
        let servers = self.servers.iter().filter_map(UcServer::next).min();
        let phones = self.wakes.first().map(|(at, _)| *at);
        let clients = self.streams.wakes.first().map(|(at, _)| *at);
        [packets, door, servers, phones, clients].into_iter().flatten().min()
    }

    /// The next thing happens.
    pub(crate) fn step(&mut self) {
        let Some(at) = self.next() else { return };
        self.advance(at);
        self.steps += 1;
        if self.happenings.peek().is_some_and(|Reverse(entry)| entry.at <= at) {
            if let Some(Reverse(entry)) = self.happenings.pop() {
                self.happen(entry.what);
            }
            return;
        }
        if self.door.as_ref().and_then(Door::next).is_some_and(|due| due <= at) {
            return self.tell_door(Input::Timeout);
        }
        for server in 0..self.servers.len() {
            if self.servers[server].next().is_some_and(|due| due <= at) {
                self.servers[server].handle(at, ucserver::Input::Timeout);
                return self.drain_server(server);
            }
        }
        if self.streams.wakes.first().is_some_and(|(due, _)| *due <= at) && self.tick_client(at) {
            return;
        }
        let Some(&(due, number)) = self.wakes.first() else { return };
        if due <= at {
            self.wakes.pop_first();
            if self.phones[number].next().is_some_and(|due| due <= at)
                && let Some(bytes) = self.phones[number].tick(at)
            {
                self.phone_sends(number, bytes);
            }
            self.wake(number);
        }
    }

    fn advance(&mut self, to: Uptime) {
        let passed = to.since(self.now.uptime);
        self.now = Now { uptime: self.now.uptime.max(to), wall: self.now.wall + passed };
    }

    fn happen(&mut self, what: Happening) {
        match what {
            Happening::ToDoor { listener, from, bytes } => {
                let flow = Flow {
                    listener: ListenerId(listener),
                    transport: Transport::Udp,
                    remote: from,
                    connection: ConnectionId::NONE,
                };
                self.tell_door(Input::Sip { flow, message: bytes });
            }
            Happening::ToServer { server, bytes } => self.reach_server(server, bytes),
            Happening::ToPhone { to, bytes } => {
                let Some(number) = self.phones.iter().position(|p| p.addr == to && !p.off) else {
                    return;
                };
                let from = DOOR_PHONES.parse().unwrap();
                if let Some(answer) = self.phones[number].receive(self.now.uptime, from, bytes) {
                    self.phone_sends(number, answer);
                }
                self.wake(number);
            }
            Happening::Refused { server, life } if life == self.life => {
                let remote = server_addr(server);
                self.tell_door(Input::Unreachable {
                    remote,
                    transport: Transport::Udp,
                    refused: true,
                });
            }
            Happening::Commit { record, life } if life == self.life => self.commit(record),
            Happening::Recorded { ticket, outcome, life } if life == self.life => {
                self.tell_door(Input::Recorded { ticket, outcome });
            }
            Happening::Fetch { server, life } if life == self.life => {
                let truth = self.servers[server].health(self.now.uptime);
                let document = match truth.map(|it| self.lies[server].map_or(it, str::to_owned)) {
                    Some(text) => self.as_told(server, &text),
                    None => Err(DocumentFault::Missing("no answer".into())),
                };
                self.tell_door(Input::Fetched { server: ServerId(server as u16), document });
            }
            Happening::OnStream { what, life } => self.happen_on_stream(what, life == self.life),
            Happening::Refused { .. }
            | Happening::Commit { .. }
            | Happening::Recorded { .. }
            | Happening::Fetch { .. } => {}
        }
    }

    /// What a server's document says, the telephone systems that the operator named included.
    fn as_told(&mut self, server: usize, text: &str) -> Result<Document, DocumentFault> {
        let mut document = Document::parse(text.as_bytes())?;
        if document.telephone_systems.is_empty() {
            let reachable = !self.cut_off[server];
            let known = self.settings.servers[server].ties.systems();
            document.telephone_systems =
                known.map(|(name, _)| TelephoneSystem { name: name.clone(), reachable }).collect();
        }
        if self.lies[server].is_none() {
            let before = &mut self.told_before[server];
            before.push_front(document.clone());
            before.truncate(8);
        }
        Ok(document)
    }

    /// A server sends a document by itself: as it is, or one that was true once and comes late.
    pub(crate) fn push_document(&mut self, server: usize, late: usize) {
        let truth = self.servers[server].health(self.now.uptime);
        let Some(Ok(fresh)) = truth.map(|text| self.as_told(server, &text)) else { return };
        let document = self.told_before[server].get(late).cloned().unwrap_or(fresh);
        if self.door.is_some() {
            self.tell_door(Input::Pushed { server: ServerId(server as u16), document });
        }
    }

    /// An operator says something.
    pub(crate) fn order(&mut self, command: &Command) -> Result<Done, Refused> {
        if let Command::ReturnServer(name)
        | Command::ReturnUser(name)
        | Command::SetHome { user: name, .. } = command
        {
            self.ordered.insert(name.clone());
        }
        if let Command::Maintenance { on: false, .. } = command {
            // It is judged from now on.
            self.calm_since = self.now.uptime;
        }
        // What is being written when it ends still counts.
        let ends = Some(self.now.uptime + Duration::from_secs(5));
        match command {
            Command::Drain { server, on } | Command::Maintenance { server, on, stay: false } => {
                if let Some(server) = self.server_called(server) {
                    self.leaves_until[server] = if *on { Some(Uptime::NEVER) } else { ends };
                }
            }
            Command::Rebalance => self.spreads_until = Some(Uptime::NEVER),
            Command::StopRebalance => self.spreads_until = ends,
            Command::Drill(server) => {
                if let Some(server) = self.server_called(server) {
                    let most = self.now.uptime + Duration::from_secs(125);
                    self.drilled_until[server] = Some(most);
                }
            }
            Command::PauseRecovery
            | Command::ResumeRecovery
            | Command::ReturnServer(_)
            | Command::ReturnUser(_)
            | Command::SetHome { .. }
            | Command::Import { .. }
            | Command::Maintenance { stay: true, .. }
            | Command::EndSuspicion => {}
        }
        let done = self.door.as_mut().expect("the door runs").command(self.now, command);
        self.drain_door();
        done
    }

    fn tell_door(&mut self, input: Input) {
        if let Some(door) = &mut self.door {
            door.handle(self.now, input);
            self.drain_door();
        }
    }

    fn drain_door(&mut self) {
        while let Some(output) = self.door.as_mut().and_then(Door::poll) {
            match output {
                Output::Send { flow, bytes } if flow.listener == ListenerId(0) => {
                    self.transmit(|_| Happening::ToPhone { to: flow.remote, bytes: bytes.clone() });
                }
                Output::Send { flow, bytes } if flow.listener != ListenerId(1) => {
                    self.door_says(flow, bytes);
                }
                Output::Send { flow, bytes } => {
                    let server = (0..self.servers.len())
                        .find(|&server| server_addr(server) == flow.remote)
                        .expect("the door sends to servers only");
                    self.check_heard(server, &bytes);
                    self.transmit(|_| Happening::ToServer { server, bytes: bytes.clone() });
                }
                Output::Record(record) => {
                    self.check_asked(&record);
                    let life = self.life;
                    let disk = self.weather.disk;
                    self.later(disk, Happening::Commit { record, life });
                }
                Output::Fetch(server) => {
                    let (server, life) = (server.index(), self.life);
                    self.later(Duration::from_millis(3), Happening::Fetch { server, life });
                }
                Output::Ordered { ticket, result } => {
                    self.told.insert(ticket, result);
                }
                Output::Event(event) => self.events.push((self.now.uptime, event)),
                Output::Report(report) => self.file(*report),
                Output::Close { flow } => self.door_closes(flow),
                Output::Open { flow, opening, .. } => self.door_opens(flow, opening),
                Output::Answer { flow, answer } => self.door_answers(flow, answer),
                Output::StartTls { .. } => {}
            }
        }
    }

    /// What a report says must be possible, and it is about somebody.
    fn file(&mut self, report: Report) {
        assert!(report.registered <= report.bindings, "{report:#?}");
        let somebody = report.users + report.unplaced + report.bindings + report.active > 0;
        assert!(somebody || report.because.as_deref() == Some("store"), "{report:#?}");
        let open = report.unplaced > 0 || !report.open.is_empty();
        assert!(&*report.outcome != "done" || !open, "{report:#?}");
        let without_reason = ["done", "open"].contains(&&*report.outcome);
        assert_eq!(report.because.is_none(), without_reason, "{report:#?}");
        assert_eq!(report.fault.is_some(), &*report.kind != "return", "{report:#?}");
        self.reports.retain(|older| older.id != report.id);
        self.reports.push(report);
    }

    fn drain_server(&mut self, server: usize) {
        while let Some(output) = self.servers[server].poll() {
            let bytes = match output {
                ucserver::Output::Send { bytes, .. } => bytes,
                ucserver::Output::Client(what) => {
                    self.entrance_does(what);
                    continue;
                }
            };
            if bytes.starts_with(b"SIP/2.0 302") {
                // Whoever is sent home by their server goes there, whatever the rules of the return say.
                let message = Message::parse(bytes.clone()).expect("servers write SIP");
                let to = message.to().and_then(|to| to.parsed_uri()?.canonical_aor());
                self.ordered.insert(to.expect("it answers a REGISTER").as_str().to_owned());
            }
            let from = server_addr(server);
            self.transmit(|_| Happening::ToDoor { listener: 1, from, bytes: bytes.clone() });
        }
    }

    fn reach_server(&mut self, server: usize, bytes: Bytes) {
        if self.deaf == Some(server) && bytes.starts_with(b"REGISTER") {
            return;
        }
        if self.servers[server].mood() == Mood::Dead {
            let life = self.life;
            return self.later(Duration::from_millis(1), Happening::Refused { server, life });
        }
        let flow = Flow {
            listener: ListenerId(0),
            transport: Transport::Udp,
            remote: DOOR_SERVERS.parse().unwrap(),
            connection: ConnectionId::NONE,
        };
        self.servers[server].handle(self.now.uptime, ucserver::Input::Sip { flow, message: bytes });
        self.drain_server(server);
    }

    fn phone_sends(&mut self, number: usize, bytes: Bytes) {
        let from = self.phones[number].addr;
        self.transmit(|_| Happening::ToDoor { listener: 0, from, bytes: bytes.clone() });
    }

    /// Over the network: late, twice or never.
    fn transmit(&mut self, what: impl Fn(&Self) -> Happening) {
        if self.rng.u32(0..1000) < self.weather.lost {
            return;
        }
        let copies = 1 + u32::from(self.rng.u32(0..1000) < self.weather.doubled);
        for _ in 0..copies {
            let (low, high) = (self.weather.latency_min, self.weather.latency_max);
            let micros = self.rng.u64(low.as_micros() as u64..=high.as_micros() as u64);
            let what = what(self);
            self.later(Duration::from_micros(micros), what);
        }
    }

    fn later(&mut self, delay: Duration, what: Happening) {
        self.sequence += 1;
        let entry = Entry { at: self.now.uptime + delay, sequence: self.sequence, what };
        self.happenings.push(Reverse(entry));
    }

    fn commit(&mut self, record: Record) {
        let ticket = record.ticket;
        let outcome = if self.disk_full {
            self.calm_since = self.now.uptime;
            Recorded::Failed(Failed::DiskFull)
        } else {
            let mut outcomes = self.store.commit(std::slice::from_ref(&record));
            outcomes.pop().expect("one record, one outcome")
        };
        if outcome == Recorded::Done {
            self.tell_servers(&record);
            self.check_written(&record);
        }
        let life = self.life;
        self.later(Duration::from_micros(50), Happening::Recorded { ticket, outcome, life });
    }

    /// The servers' own administration knows where everybody belongs.
    fn tell_servers(&mut self, record: &Record) {
        for change in &record.changes {
            let Change::User { record, .. } = change else { continue };
            let home = record.home.as_ref().and_then(|home| self.server_called(home));
            for (place, server) in self.servers.iter_mut().enumerate() {
                let elsewhere = home.filter(|&home| home != place);
                let elsewhere = elsewhere.map(|home| server_addr(home).to_string());
                record.aors.iter().for_each(|aor| server.belongs(aor.as_str(), elsewhere.clone()));
            }
            record.aors.iter().for_each(|aor| self.tell_entrances(aor.as_str(), home));
        }
    }

    /// The machine stands still: whatever is due meanwhile is late.
    pub(crate) fn stall(&mut self, time: Duration) {
        self.advance(self.now.uptime + time);
        self.calm_since = self.now.uptime;
    }

    /// Somebody sets the wall clock.
    pub(crate) fn set_clock(&mut self, wall: SystemTime) {
        self.now.wall = wall;
    }

    /// What the door asks to be written, by what it knows at this moment.
    fn check_asked(&self, record: &Record) {
        let moved = record.changes.iter().filter_map(|change| {
            let Change::User { record, .. } = change else { return None };
            let before = self.ledger.get(&record.name)?;
            (current(before) != current(record)).then_some((before, record))
        });
        let moved: Vec<(&UserRecord, &UserRecord)> = moved.collect();
        if moved.is_empty() {
            return;
        }
        let status = self.door().status(self.now);
        let panic = status.suspicion.as_deref() == Some("own_network");
        for &(before, after) in &moved {
            let from = current(before).and_then(|from| self.server_called(&from));
            // Of a server whose own host refuses it is known that it is not our network (H5).
            let proof = from.and_then(|from| status.servers[from].proof.as_deref());
            let refuses = proof == Some("refused");
            let many = moved.len() > 1;
            assert!(!panic || !many || refuses, "{} moves in a panic {status:#?}", after.name);
            let went_home = before.relocation.is_some() && after.relocation.is_none();
            // A backup that fails, or refuses its guests, sends them on, and be it home (P1, M5).
            let unwell = from.is_some_and(|from| {
                let until = self.unwell_until[from].max(self.leaves_until[from]);
                until.max(self.drilled_until[from]).is_some_and(|until| until > self.now.uptime)
            });
            if went_home && !unwell {
                self.check_homebound(&status, after, many);
            }
        }
    }

    /// Somebody is sent home who could stay: only to a home that is up, by a return whose stage it
    /// is, and not in the middle of a move (B1, B2).
    fn check_homebound(&self, status: &Status, user: &UserRecord, many: bool) {
        let (name, home) = (&*user.name, user.home.as_deref().expect("they go there"));
        let at = self.server_called(home).expect("it is configured");
        assert_eq!(&*status.servers[at].state, "up", "{name} goes home to {status:#?}");
        if self.ordered.contains(name) {
            return;
        }
        let busy = self.door().user(self.now, name).expect("they exist").bindings;
        let moves = |b: &BindingStatus| &*b.standing == "moving" && b.because.is_none();
        let busy = busy.iter().any(moves);
        assert!(!busy, "{name} goes home in the middle of a move {status:#?}");
        let run =
            status.recovery.returns.iter().find(|run| &*run.home == home && run.ended_nanos == 0);
        let Some(run) = run else {
            // A backup that refused one guest twice sends that one on (M5).
            return assert!(!many, "{name} goes home without a return {status:#?}");
        };
        let since = self.now.uptime.since(Uptime::from_nanos(run.began_nanos));
        let looked = self.settings.recovery.look * (run.stage - 1);
        assert!(since >= looked, "{name} goes home before the look was over {status:#?}");
        // One of a hundred is one of less, too.
        let one = self.settings.recovery.stages.first() == Some(&1);
        assert!(
            !one || run.stage > 1 || run.returned == 0,
            "{name} goes home too soon {status:#?}"
        );
        if !self.ordered.contains(home) {
            let disabled = self.settings.decision.disable_automatic_user_distribution;
            assert!(!disabled && !status.recovery.paused, "nobody has said so {status:#?}");
            let well = self.now.uptime.since(Uptime::from_nanos(status.servers[at].since_nanos));
            assert!(well >= self.settings.recovery.hold, "{name} within the hold {status:#?}");
        }
    }

    fn server_called(&self, name: &str) -> Option<usize> {
        self.settings.servers.iter().position(|server| &*server.name == name)
    }

    /// What the door shows is what is written (V).
    pub(crate) fn check_shown(&self) {
        for record in self.ledger.values() {
            let shown = self.door().user(self.now, &record.name).expect("who is written is known");
            assert_eq!(shown.current, current(record), "{record:?} {:#?}", self.summary());
            assert_eq!((&shown.home, shown.epoch), (&record.home, record.epoch));
        }
    }

    /// Who is dead or silent serves nobody a minute later, where the others have room and nothing
    /// else is wrong.
    pub(crate) fn check_left(&self, roomy: bool) {
        let status = self.door().status(self.now);
        let long = |since: Option<Uptime>| {
            since.is_some_and(|since| self.now.uptime.since(since) > Duration::from_secs(60))
        };
        let disabled = self.settings.decision.disable_automatic_user_distribution;
        if disabled || !roomy || status.suspicion.is_some() || !long(Some(self.calm_since)) {
            return;
        }
        let takes = status.servers.iter().any(|server| {
            &*server.state == "up" && long(Some(Uptime::from_nanos(server.since_nanos)))
        });
        for (server, gone_since) in self.gone_since.iter().enumerate() {
            // Under maintenance nobody is moved.
            if takes && long(*gone_since) && &*status.servers[server].state != "maintenance" {
                assert_eq!(status.servers[server].assigned, 0, "ucs{} {status:#?}", server + 1);
            }
        }
    }

    /// Whether whatever has gone wrong is over long since, or seen through: what lives is well, what does
    /// not is known to be dead, nobody is kept where they are, and everything can be written.
    pub(crate) fn is_at_peace(&self) -> bool {
        let Some(door) = &self.door else { return false };
        let status = door.status(self.now);
        let disabled = self.settings.decision.disable_automatic_user_distribution;
        if disabled || self.disk_full || status.store.is_some() || status.suspicion.is_some() {
            return false;
        }
        let as_it_should = |(server, shown): (&UcServer, &ServerStatus)| match server.mood() {
            Mood::Healthy => ["up", "drain"].contains(&&*shown.state),
            Mood::Dead | Mood::Hung => &*shown.state == "down",
            Mood::Slow { .. }
            | Mood::Refusing
            | Mood::Errors
            | Mood::Flapping { .. }
            | Mood::Amnesia
            | Mood::StrictHome => false,
        };
        status.servers.iter().any(|server| &*server.state == "up")
            && self.servers.iter().zip(&status.servers).all(as_it_should)
    }

    /// What the door says of a login is so: whoever it takes for failed was unwell lately, and
    /// whoever it takes for well may serve.
    pub(crate) fn check_explained(&self, aor: &str) {
        let Some(explained) = self.door().explain(self.now, aor) else { return };
        let Some(name) = explained.current.clone() else { return };
        let server = self.settings.servers.iter().position(|server| server.name == name).unwrap();
        let unwell = self.unwell_until[server].max(self.drilled_until[server]);
        let unwell = unwell.is_some_and(|until| until > self.now.uptime);
        let state = self.door().status(self.now).servers[server].state.to_string();
        let true_ = match &*explained.because {
            "current_serves" => {
                // One that fails its clients alone is given a moment.
                let fails_clients = unwell && state == "partial";
                let serves = ["unknown", "up", "degraded", "ramp", "drain", "maintenance"];
                fails_clients || serves.contains(&&*state)
            }
            "in_maintenance" => unwell && state == "maintenance",
            "current_in_probation" => state == "probation",
            "within_hold" | "current_failed" | "suspicion" | "suspicion_too_long" | "no_room"
            | "pool_unknown" => unwell && state == "down",
            "distribution_disabled" | "distribution_disabled_grace" => {
                unwell
                    && state == "down"
                    && self.settings.decision.disable_automatic_user_distribution
            }
            _ => false,
        };
        assert!(true_, "{explained:?} {state} {:#?}", self.summary());
    }

    /// Every change of the ledger: epochs rise by one, only users of unwell servers move, nobody
    /// is moved while distribution is disabled, nobody is put where there is no room (P1, D1, L1).
    fn check_written(&mut self, record: &Record) {
        for change in &record.changes {
            let Change::User { record, .. } = change else { continue };
            if let Some(before) = self.ledger.get(&record.name) {
                check_history(before, record);
            }
            let before = self.ledger.insert(Arc::clone(&record.name), record.clone());
            let Some(before) = before else { continue };
            let (from, to) = (current(&before), current(record));
            if from == to {
                assert_eq!(before.epoch, record.epoch, "current did not change");
                continue;
            }
            assert_eq!(record.epoch, before.epoch + 1, "every change of current raises the epoch");
            let Some(from) = from else { continue };
            let index = self.settings.servers.iter().position(|s| s.name == from).unwrap();
            let is_on = |until: Option<Uptime>| until.is_some_and(|until| until > self.now.uptime);
            if before.home != record.home {
                let spread = is_on(self.spreads_until);
                assert!(spread || self.ordered.contains(&*record.name), "{before:?} {record:?}");
                if !self.ordered.contains(&*record.name) {
                    self.check_ties(&before, record.home.as_deref());
                    self.departed.push((self.now.uptime, to.expect("they have a home")));
                }
                continue;
            }
            if to != record.home {
                self.check_ties(record, to.as_deref());
            }
            let unwell = is_on(self.unwell_until[index].max(self.drilled_until[index]));
            let why = record.relocation.as_ref().map(|relocation| relocation.why);
            let leaves = is_on(self.leaves_until[index]);
            assert!(leaves || why != Some(RelocationReason::Drain), "{record:?}: nobody drains");
            if why == Some(RelocationReason::Drain) || (leaves && why.is_none() && !unwell) {
                self.departed.push((self.now.uptime, to.expect("they are somewhere")));
                continue;
            }
            let ordered = self.ordered.contains(&*record.name)
                || record.home.as_ref().is_some_and(|home| self.ordered.contains(&**home));
            let goes_home = before.relocation.is_some() && to == record.home;
            assert!(
                !self.settings.decision.disable_automatic_user_distribution
                    || (goes_home && ordered),
                "nobody is relocated while distribution is disabled"
            );
            if goes_home && !unwell {
                let home = to.expect("where somebody is at home");
                // Who was sent one by one has been asked for one by one.
                if !self.ordered.contains(&*record.name) {
                    self.homeward.push((self.now.uptime, home));
                }
                continue;
            }
            assert!(unwell, "{} left {from}, which was never unwell", record.name);
        }
        self.check_pace_home();
        for (index, server) in self.settings.servers.iter().enumerate() {
            let here = self
                .ledger
                .values()
                .filter(|user| {
                    let current =
                        user.relocation.as_ref().map(|r| &r.target).or(user.home.as_ref());
                    current == Some(&server.name)
                })
                .count();
            assert!(here <= server.capacity as usize, "ucs{} is over capacity: {here}", index + 1);
        }
    }

    /// No telephone system hears of more than it takes within a second: of every REGISTER by which a
    /// server comes to know an AoR, whichever servers those are (M7).
    fn check_heard(&mut self, server: usize, bytes: &Bytes) {
        let now = self.now.uptime;
        let unwell = self.unwell_until[server].is_some_and(|until| until > now);
        let ceilings = self.settings.telephone_systems.iter().any(|it| it.pace.rate_max.is_some());
        if unwell || !ceilings || !bytes.starts_with(b"REGISTER") {
            return;
        }
        let message = Message::parse(bytes.clone()).expect("the door writes SIP");
        let contact = message.header(HeaderName::Contact).unwrap_or_default();
        let told = !contact.is_empty() && !contact.ends_with(b";expires=0");
        let via = message.header(HeaderName::Via).unwrap_or_default().to_vec();
        let to = message.to().and_then(|to| to.parsed_uri()?.canonical_aor());
        let aor = to.expect("the door writes a To").as_str().to_owned();
        let knows = self.servers[server]
            .bindings()
            .any(|binding| binding.expires_at > now && *binding.aor == *aor);
        if !told || knows || !self.heard_of.insert(via) {
            return;
        }
        let home = self.ledger.get(&*aor).and_then(|user| user.home.clone());
        let home = home.and_then(|home| self.server_called(&home)).unwrap_or(server);
        let ties = Arc::clone(&self.settings.servers[home].ties);
        while self.heard.front().is_some_and(|(at, ..)| now.since(*at) >= Duration::from_secs(1)) {
            self.heard.pop_front();
        }
        for (place, system) in self.settings.telephone_systems.iter().enumerate() {
            let Some(most) = system.pace.rate_max.filter(|_| ties.reaches(&system.name).is_some())
            else {
                continue;
            };
            self.heard.push_back((now, place, format!("{aor} at ucs{}", server + 1)));
            let heard = self.heard.iter().filter(|(_, other, _)| *other == place).count();
            // A tenth of a second may have been saved up.
            let most = most + most.div_ceil(10) + 1;
            assert!(
                heard <= most as usize,
                "{} hears of {heard} in a second: {:#?} {:#?}",
                system.name,
                self.heard,
                self.summary()
            );
        }
    }

    /// Whoever goes there finds every line group and telephone system of the home (P4).
    fn check_ties(&self, user: &UserRecord, to: Option<&str>) {
        let called = |name: Option<&str>| name.and_then(|name| self.server_called(name));
        let (Some(home), Some(there)) = (called(user.home.as_deref()), called(to)) else { return };
        let ties = |server: usize| &self.settings.servers[server].ties;
        let lacks = ties(there).lacks_line_group(ties(home));
        let lacks = lacks.or_else(|| ties(there).lacks_system(ties(home)));
        assert_eq!(lacks, None, "{} of ucs{} went to {to:?}", user.name, home + 1);
    }

    /// Nobody's home gets more users back within a second than it may (B2, M7).
    fn check_pace_home(&self) {
        let most = self.settings.recovery.users_per_second;
        // A tenth of a second may have been saved up, and a write holds a tenth.
        let most = (most + most.div_ceil(5) + 1) as usize;
        for server in &self.settings.servers {
            for (came, what) in [(&self.homeward, "home"), (&self.departed, "by order")] {
                let lately = came.iter().rev();
                let lately =
                    lately.take_while(|(at, _)| *at + Duration::from_secs(1) > self.now.uptime);
                let came = lately.filter(|(_, to)| *to == server.name).count();
                assert!(came <= most, "{came} users came {what} to {} in a second", server.name);
            }
        }
    }

    /// The server in the ledger that serves this AoR now.
    pub(crate) fn current_of(&self, aor: &str) -> Option<usize> {
        let user = self.door().user(self.now, aor)?;
        let current = user.current?;
        self.settings.servers.iter().position(|server| server.name == current)
    }

    /// Whom this server holds: AoR and contact, in order.
    pub(crate) fn held_by(&self, server: usize) -> Vec<(String, String)> {
        let now = self.now.uptime;
        self.servers[server]
            .bindings()
            .filter(|binding| binding.expires_at > now)
            .map(|binding| (binding.aor.to_owned(), binding.contact.to_owned()))
            .collect()
    }

    /// Every server that lives pings everybody it holds; then every acknowledged phone must have
    /// been reached through the server that the door says serves it, and through no other one.
    pub(crate) fn check_reachable(&mut self) {
        let before: Vec<u32> = self.phones.iter().map(|phone| phone.pinged).collect();
        let weather = std::mem::replace(&mut self.weather, Weather::CALM);
        for server in 0..self.servers.len() {
            if !self.servers[server].is_silent(self.now.uptime) {
                self.servers[server].ping_all(self.now.uptime, 10_000).expect("it can ping");
                self.drain_server(server);
            }
        }
        self.run_for(Duration::from_secs(1));
        self.weather = weather;
        for (number, pinged_before) in before.into_iter().enumerate() {
            let phone = &self.phones[number];
            if phone.removed {
                let (aor, contact) = (phone.aor.clone(), phone.contact());
                let held = (0..self.servers.len())
                    .filter(|&s| !self.servers[s].is_silent(self.now.uptime))
                    .any(|s| self.held_by(s).contains(&(aor.clone(), contact.clone())));
                let answers = &phone.answers;
                // As below: the door that was asked to remove it had never heard of it.
                let unknown = self.died_on_full_disk;
                assert!(
                    !held || unknown,
                    "{contact} was removed: {answers:?} {:#?}",
                    self.summary()
                );
                continue;
            }
            if phone.off || !phone.is_acknowledged(self.now.uptime) {
                continue;
            }
            let (aor, contact) = (phone.aor.clone(), phone.contact());
            if phone.pinged == pinged_before {
                let held: Vec<_> = (0..self.servers.len()).map(|s| self.held_by(s)).collect();
                let journals: Vec<_> = self
                    .servers
                    .iter()
                    .map(|s| {
                        s.journal()
                            .entries()
                            .filter(|e| format!("{e:?}").contains(&aor))
                            .cloned()
                            .collect::<Vec<_>>()
                    })
                    .collect();
                panic!(
                    "{contact} is not reachable; held {held:?}; {journals:#?} {:#?}",
                    self.summary()
                );
            }
            let server = self.current_of(&aor).expect("an acknowledged user has a server");
            let holders: Vec<usize> = (0..self.servers.len())
                .filter(|&s| !self.servers[s].is_silent(self.now.uptime))
                .filter(|&s| self.held_by(s).contains(&(aor.clone(), contact.clone())))
                .collect();
            if self.died_on_full_disk && holders.contains(&server) {
                // What was registered while nothing could be written, and never acknowledged, is
                // unknown to the next door: it stays at its server until it expires there.
                continue;
            }
            let journal = |s: usize| {
                let entries = self.servers[s].journal().entries();
                let of_it = entries.filter(|entry| format!("{entry:?}").contains(&contact));
                of_it.cloned().collect::<Vec<_>>()
            };
            assert_eq!(
                holders,
                [server],
                "{contact} is held by exactly the server that serves it: {:#?} {:#?}",
                holders.iter().map(|&server| journal(server)).collect::<Vec<_>>(),
                self.summary()
            );
        }
    }

    /// For messages of failed assertions.
    pub(crate) fn summary(&self) -> impl std::fmt::Debug + use<> {
        let status = self.door.as_ref().map(|door| door.status(self.now));
        let stats = self.door.as_ref().map(|door| *door.stats());
        let events: Vec<String> =
            self.events.iter().rev().take(12).map(|event| format!("{event:?}")).collect();
        (self.now.uptime, status, stats, events)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}
