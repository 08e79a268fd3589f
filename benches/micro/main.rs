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

use bytes::Bytes;
use frontdoor::cluster::ServerId;
use frontdoor::cluster::health::Health;
use frontdoor::decision::{Login, Outcome, Plane, decide};
use frontdoor::directory::{Aor, Directory, User, UserId};
use frontdoor::door::Settings;
use frontdoor::net::Clock;
use frontdoor::now::Uptime;
use frontdoor::sip::Message;
use smallvec::smallvec;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use crate::station::{Station, register, settings};

#[global_allocator]
static COUNTED: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Of each; the best of [`ROUNDS`] counts, since others use this machine too.
const TIMES: u32 = 20_000;
const ROUNDS: usize = 5;

fn main() {
    let message = Bytes::from(register(1, ""));
    measure("parse a REGISTER", || (), |()| Message::parse(message.clone()).is_ok());

    measure_decisions();

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
