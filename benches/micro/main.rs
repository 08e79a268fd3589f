//! What the pieces of a REGISTER's way cost, one by one: nanoseconds and allocations.
//!
//! ```sh
//! cargo bench --bench micro
//! ```

#[path = "../../tests/allocations/station.rs"]
mod station;

use std::alloc::System;
use std::hint::black_box;
use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use frontdoor::cluster::health::Health;
use frontdoor::cluster::{ClusterView, ServerId, ServerView, State, Version};
use frontdoor::decision::{Login, Outcome, Plane, decide};
use frontdoor::directory::{Aor, Directory, History, User, UserId};
use frontdoor::door::Settings;
use frontdoor::net::Clock;
use frontdoor::now::Uptime;
use frontdoor::placement;
use frontdoor::sip::Message;
use smallvec::smallvec;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use crate::station::{Station, register, settings};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Of each; the best of [`ROUNDS`] counts, since others use this machine too.
const TIMES: u32 = 20_000;
const ROUNDS: usize = 5;
/// Users of the server that fails.
const LEAVING: u32 = 100_000;

fn main() {
    let message = Bytes::from(register(1, ""));
    measure("parse a REGISTER", || (), |()| Message::parse(message.clone()).is_ok());

    measure_decisions();
    measure_plan();

    let mut door = Station::open();
    let first = door.register("");
    door.take(first);
    let mut phone = Station::open();
    measure("absorb an unchanged refresh", || phone.register(""), |it| door.take_alone(it) > 0);

    let mut door = Station::open();
    let mut changes = 0;
    let mut phone = Station::open();
    let changed = || {
        changes += 1;
        phone.register(&format!(";q=0.{}", changes % 10))
    };
    measure("pass on a changed REGISTER, its answer, the record", changed, |it| {
        door.answers.clear();
        door.take(it);
        !door.answers.is_empty()
    });
}

/// Logins of users who are at home, one after the other.
fn measure_decisions() {
    let Settings { servers, health, decision, .. } = settings();
    let health = Health::new(&servers, health, Uptime::ZERO, 1);
    let mut directory = Directory::new(servers.len());
    let user = |number: u32| User {
        name: format!("user{number}").into(),
        aors: smallvec![Aor::from_canonical(format!("sip:user{number}@example.com"))],
        lines: Vec::new(),
        home: Some(ServerId(0)),
        enabled: true,
        relocation: None,
        epoch: 1,
        left_at: Vec::new(),
        history: History::default(),
    };
    let users: Vec<UserId> = (0..TIMES).filter_map(|it| directory.insert(user(it)).ok()).collect();
    let mut logins = users.iter().cycle();
    let next = || logins.next().copied().unwrap_or(UserId(0));
    measure("decide a login", next, |user| {
        let login = Login { plane: Plane::Sip, user, reached: None };
        let verdict = decide(&login, health.view(), &directory, &decision, Uptime::ZERO);
        verdict.outcome == Outcome::Accept(ServerId(0))
    });
}

/// A server of ten fails, and a hundred thousand users have to go.
fn measure_plan() {
    let server = |number: u16| ServerView {
        name: format!("ucs{number}").into(),
        state: if number == 0 { State::Down } else { State::Up },
        score: if number == 0 { 0 } else { 100 },
        capacity: 200_000,
        version: Some(Version::FIRST_WITH_DISTRIBUTION),
        site: None,
        ties: Arc::default(),
        realms: Arc::default(),
        failure: None,
        incarnation: 0,
        since: Uptime::ZERO,
        planes: smallvec::SmallVec::new(),
    };
    let view = ClusterView { servers: (0..10).map(server).collect(), suspicion: None };
    let mut directory = Directory::new(view.servers.len());
    for number in 0..LEAVING {
        let user = User {
            name: format!("user{number}").into(),
            aors: smallvec![Aor::from_canonical(format!("sip:user{number}@example.com"))],
            lines: Vec::new(),
            home: Some(ServerId(0)),
            enabled: true,
            relocation: None,
            epoch: 1,
            left_at: Vec::new(),
            history: History::default(),
        };
        assert!(directory.insert(user).is_ok(), "they differ");
    }
    let policy = placement::Policy::default();
    let mut best = f64::MAX;
    for _ in 0..ROUNDS {
        let start = Clock.uptime();
        let users = directory.on_server(ServerId(0));
        let plan = placement::plan(&users, &view, &directory, &policy);
        best = best.min(Clock.uptime().since(start).as_secs_f64() * 1e3);
        assert_eq!(black_box(plan).moves.len(), LEAVING as usize, "everybody has a place");
    }
    let _closed = writeln!(
        std::io::stdout().lock(),
        "{best:9.1} ms  plan the failover of {LEAVING} users to nine servers"
    );
}

/// Prepares each outside of what is measured.
fn measure<T>(what: &str, mut prepare: impl FnMut() -> T, mut run: impl FnMut(T) -> bool) {
    let mut best = f64::MAX;
    let mut allocations = 0.0;
    for _ in 0..ROUNDS {
        let prepared: Vec<T> = (0..TIMES).map(|_| prepare()).collect();
        let region = Region::new(COUNTED);
        let start = Clock.uptime();
        for one in prepared {
            assert!(black_box(run(black_box(one))), "{what}: nothing came of it");
        }
        let nanos = Clock.uptime().since(start).as_nanos() as f64 / f64::from(TIMES);
        let change = region.change();
        best = best.min(nanos);
        allocations = (change.allocations + change.reallocations) as f64 / f64::from(TIMES);
    }
    let _closed =
        writeln!(std::io::stdout().lock(), "{best:9.0} ns  {allocations:6.2} allocations  {what}");
}
