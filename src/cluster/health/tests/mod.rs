//! Every rule as a timeline, in virtual time.

mod detection;
mod documents;
mod maintenance;
mod planes;
mod recovery;
mod scores;
mod suspicions;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::document::{Document, DocumentFault};
use crate::cluster::health::{Health, Observation, Settings, Wanted};
use crate::cluster::{
    BindingAddress, HealthDocumentUse, Plane, PlaneState, Planes, Server, ServerId, ServerView,
    State, Suspect, Version,
};
use crate::now::Uptime;
use crate::sip::Transport;

const ROUND_TRIP: Duration = Duration::from_millis(1);
const FIRST: ServerId = ServerId(0);

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// What a probe meets.
#[derive(Clone, Copy, Debug)]
enum Host {
    /// An answer with this status.
    Answers(u16),
    /// A 503 with this Retry-After.
    Busy(u32),
    /// Nothing.
    Silent,
    /// ICMP port unreachable.
    Refuses,
    /// A stopped process: what arrives waits until it goes on.
    Paused(Uptime),
}

/// A pool, the network to it, and a driver that is never late.
struct World {
    now: Uptime,
    health: Health,
    /// What a probe of SIP meets, by server.
    hosts: Vec<Host>,
    /// What one of another plane meets, where that is no plain answer.
    others: BTreeMap<(ServerId, Plane), Host>,
    documents: Vec<Result<Document, DocumentFault>>,
    /// One probe in this many is lost; 0 is none.
    loss: u32,
    sweeps: bool,
    rng: fastrand::Rng,
    network: BTreeMap<(Uptime, u64), (ServerId, Observation)>,
    sent: u64,
    changes: Vec<(Uptime, ServerId, State, State)>,
    restarts: Vec<Uptime>,
    suspicions: Vec<(Uptime, Option<Suspect>)>,
    /// Of SIP.
    probes: Vec<(Uptime, ServerId)>,
    turns: Vec<(Uptime, ServerId, Plane, PlaneState)>,
    fetches: u64,
}

impl World {
    fn new(servers: usize) -> Self {
        Self::with(servers, HealthDocumentUse::None, Settings::default(), 7)
    }

    fn with(servers: usize, usage: HealthDocumentUse, settings: Settings, seed: u64) -> Self {
        Self::of((0..servers).map(|place| server(place, usage)).collect(), settings, seed)
    }

    fn of(pool: Vec<Server>, settings: Settings, seed: u64) -> Self {
        let servers = pool.len();
        let now = Uptime::from_secs(1_000);
        Self {
            now,
            health: Health::new(&pool, settings, now, seed),
            hosts: vec![Host::Answers(200); servers],
            others: BTreeMap::new(),
            documents: (0..servers).map(|_| Ok(document("life-1"))).collect(),
            loss: 0,
            sweeps: true,
            rng: fastrand::Rng::with_seed(seed),
            network: BTreeMap::new(),
            sent: 0,
            changes: Vec::new(),
            restarts: Vec::new(),
            suspicions: Vec::new(),
            probes: Vec::new(),
            turns: Vec::new(),
            fetches: 0,
        }
    }

    /// A pool that has been up for a while; its history starts empty.
    fn settled(servers: usize) -> Self {
        let mut world = Self::new(servers);
        world.settle();
        world
    }

    fn settle(&mut self) {
        self.run(ms(10_000));
        for id in self.ids() {
            assert_eq!(self.state(id), State::Up);
        }
        self.changes.clear();
        self.turns.clear();
    }

    fn ids(&self) -> impl Iterator<Item = ServerId> + use<> {
        (0u16..).map(ServerId).take(self.hosts.len())
    }

    fn set(&mut self, id: ServerId, host: Host) {
        self.hosts[id.index()] = host;
    }

    fn set_all(&mut self, host: Host) {
        self.hosts.fill(host);
    }

    fn server(&self, id: ServerId) -> &ServerView {
        self.health.view().server(id)
    }

    fn state(&self, id: ServerId) -> State {
        self.server(id).state
    }

    fn suspect(&self) -> Option<Suspect> {
        self.health.view().suspicion.map(|suspicion| suspicion.of)
    }

    /// Where one server went, in order.
    fn path(&self, id: ServerId) -> Vec<State> {
        self.changes.iter().filter(|change| change.1 == id).map(|change| change.3).collect()
    }

    /// When a server last became this.
    fn when(&self, id: ServerId, state: State) -> Uptime {
        let found = self.changes.iter().rev().find(|change| change.1 == id && change.3 == state);
        found.expect("it never became that").0
    }

    fn observe(&mut self, id: ServerId, seen: Observation) {
        self.health.observe(self.now, id, seen);
        self.drain();
    }

    fn run(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    fn run_until(&mut self, end: Uptime) {
        loop {
            let tick = self.health.next().unwrap_or(Uptime::NEVER);
            let arrival = self.network.keys().next().map_or(Uptime::NEVER, |key| key.0);
            if tick.min(arrival) > end {
                break;
            }
            self.now = self.now.max(tick.min(arrival));
            if arrival <= tick {
                let (_, (id, seen)) = self.network.pop_first().unwrap();
                self.observe(id, seen);
            } else {
                self.tick();
            }
        }
        self.now = end;
    }

    fn run_while(&mut self, limit: Duration, condition: impl Fn(&Self) -> bool) {
        let end = self.now + limit;
        while condition(self) {
            assert!(self.now < end, "nothing happened: {:?}", self.changes);
            self.run(ms(1));
        }
    }

    fn tick(&mut self) {
        self.health.tick(self.now);
        let next = self.health.next();
        assert!(next.is_none_or(|next| next > self.now), "a busy loop at {:?}", self.now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(wanted) = self.health.poll() {
            match wanted {
                Wanted::Probe(id, plane) => self.probe(id, plane),
                Wanted::Fetch(id) => {
                    self.fetches += 1;
                    let document = self.documents[id.index()].clone();
                    self.arrive(ROUND_TRIP, id, Observation::Document(document));
                }
                Wanted::Changed { server, from, to } => {
                    let last = self.changes.iter().rev().find(|change| change.1 == server);
                    assert!(last.is_none_or(|last| last.3 == from), "a change out of nowhere");
                    self.changes.push((self.now, server, from, to));
                    if to == State::Probation && self.sweeps {
                        self.arrive(ROUND_TRIP, server, Observation::Swept);
                    }
                }
                Wanted::PlaneChanged { server, plane, from, to } => {
                    let mut before = self.turns.iter().rev();
                    let last = before.find(|turn| (turn.1, turn.2) == (server, plane));
                    assert!(last.is_none_or(|last| last.3 == from), "a turn out of nowhere");
                    self.turns.push((self.now, server, plane, to));
                }
                Wanted::Restarted(_) => self.restarts.push(self.now),
                Wanted::Suspicion => self.suspicions.push((self.now, self.suspect())),
            }
        }
    }

    fn probe(&mut self, id: ServerId, plane: Plane) {
        let answer = |status, latency| answer_on(plane, status, latency);
        let host = if plane == Plane::Sip {
            self.probes.push((self.now, id));
            self.hosts[id.index()]
        } else {
            self.others.get(&(id, plane)).copied().unwrap_or(Host::Answers(200))
        };
        if self.loss > 0 && self.rng.u32(0..self.loss) == 0 {
            return;
        }
        match host {
            Host::Answers(status) => self.arrive(ROUND_TRIP, id, answer(status, ROUND_TRIP)),
            Host::Busy(seconds) => {
                let seen = Observation::Answered {
                    plane,
                    status: 503,
                    latency: ROUND_TRIP,
                    retry_after: Some(seconds),
                };
                self.arrive(ROUND_TRIP, id, seen);
            }
            Host::Silent => {}
            Host::Refuses => self.arrive(ROUND_TRIP, id, Observation::Refused(plane)),
            Host::Paused(until) => {
                let latency = until.since(self.now) + ROUND_TRIP;
                self.arrive(latency, id, answer(200, latency));
            }
        }
    }

    fn arrive(&mut self, after: Duration, id: ServerId, seen: Observation) {
        self.sent += 1;
        self.network.insert((self.now + after, self.sent), (id, seen));
    }
}

fn server(place: usize, usage: HealthDocumentUse) -> Server {
    Server {
        name: Arc::from(format!("ucs{}", place + 1)),
        sip: "192.0.2.1:5060".parse().unwrap(),
        transport: Transport::Udp,
        clients: None,
        web: None,
        ucsid: None,
        public: None,
        planes: Planes::SIP,
        capacity: 1_000,
        version: Some(Version::FIRST_WITH_DISTRIBUTION),
        site: None,
        ties: Arc::default(),
        realm: None,
        binding_address: BindingAddress::Auto,
        health_document: usage,
        health_url: Some(Arc::from("http://192.0.2.1/health")),
    }
}

fn document(boot_id: &str) -> Document {
    Document { boot_id: Arc::from(boot_id), ..Document::default() }
}

fn missing() -> Result<Document, DocumentFault> {
    Err(DocumentFault::Missing(Arc::from("404")))
}

const fn answer(status: u16, latency: Duration) -> Observation {
    answer_on(Plane::Sip, status, latency)
}

const fn answer_on(plane: Plane, status: u16, latency: Duration) -> Observation {
    Observation::Answered { plane, status, latency, retry_after: None }
}
