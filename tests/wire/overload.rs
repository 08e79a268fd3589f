//! More phones than the door can serve: it serves as many as it can, tells the others to come back,
//! and never lets those wait that it knows (Q4, D4). The door and the servers are built for release.
#![expect(clippy::print_stdout, reason = "what was measured is worth knowing")]

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::harness::{
    Attacker, Crowd, Door, LOCALHOST, Memory, Neighbours, Pace, Server, Setup, Tally, free, pause,
    register_with, source,
};

/// Shedding one may cost at most this share of serving one.
const SHED_SHARE: u32 = 2;

/// What a phone may cost while all come at once, in octets: user, binding, indexes, and the
/// transaction that is kept for its repetitions.
const OCTETS_PER_PHONE: u64 = 6 * 1024;

fn servers() -> Vec<Server> {
    (1..=2).map(|n| Server::start_released(&format!("ucs{n}"), free(LOCALHOST))).collect()
}

/// Branch offices, each behind an address of its own.
fn offices(count: u8) -> Vec<IpAddr> {
    (1..=count).map(|number| IpAddr::V4(Ipv4Addr::new(127, 0, 1, number))).collect()
}

/// While `what` happens, a phone the door knows refreshes again and again. It is never turned away,
/// and is served at once but for now and then: this machine's processors are all taken.
fn while_the_known_are_served<T>(neighbours: &mut Neighbours, what: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let (mut asked, mut late) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                asked += 1;
                late += u32::from(!neighbours.known_is_served());
                pause(Duration::from_millis(100));
            }
            assert!(late * 10 <= asked, "{late} of {asked} refreshes were late");
        });
        let outcome = what();
        over.store(true, Ordering::Relaxed);
        looking.join().unwrap();
        outcome
    })
}

/// Whoever is turned away is told when to come back, and not all are told the same.
#[track_caller]
fn are_spread(tally: &Tally, from: u64, to: u64) {
    let told: BTreeSet<u64> = tally.retry_after.iter().copied().collect();
    assert!(told.iter().all(|seconds| (from..=to).contains(seconds)), "{told:?}");
    assert_eq!(told.len() as u64, to - from + 1, "of {} all are used", tally.retry_after.len());
}

#[test]
fn at_twice_its_capacity_the_door_serves_nine_tenths_of_its_capacity_and_more() {
    let servers = servers();
    let mut setup = Setup::with(&servers);
    // The door is to find its limit by itself.
    setup.released().capacity(1_000_000).key(
        "limits",
        "strangers = 1000000\nstrangers_per_source = 1000000\ntransactions = 2000000\n\
         strangers_burst_per_source = 1000000\n",
    );
    let door = setup.start();
    let mut neighbours = Neighbours::of(&door);
    // Half of them refresh, half come for the first time.
    let crowd = |name: &str, pace, per_source, seconds| Crowd {
        known: 10_000,
        per_source,
        sources: offices(4),
        door: door.phones,
        name: name.to_owned(),
        pace,
        begin_within: Duration::from_secs(seconds),
        until: Duration::from_secs(seconds),
    };
    let capacity = |name: &str| {
        let tally = crowd(name, Pace::Closed(200), 1_000_000, 6).come();
        tally.rate(Duration::from_secs(1), Duration::from_secs(6))
    };
    let first = capacity("before");
    let twice = first as u32 * 2;
    let open = crowd("twice", Pace::Open(twice), twice as usize * 10 / 4, 10);
    let tally = while_the_known_are_served(&mut neighbours, || open.come());
    let goodput = tally.rate(Duration::from_secs(2), Duration::from_secs(10));
    let capacity = first.max(capacity("after"));

    println!(
        "capacity {capacity:.0}/s, offered {twice}/s, goodput {goodput:.0}/s, turned away {}, \
         repeated {} of {}",
        tally.retry_after.len(),
        tally.repeated,
        tally.begun
    );
    assert!(goodput >= 0.9 * capacity, "{goodput:.0} of {capacity:.0} a second");
    assert!(tally.retry_after.len() > 1_000, "the door was not overloaded");
    are_spread(&tally, 10, 60);
    // How many are repeated says more of this machine, which has to play phones, door and servers
    // at once, than of the door; that it serves all the same is what counts.
    assert!(door.metric("frontdoor_overloads_total") > 0);
    assert!(door.metric("frontdoor_shed_load_total") >= tally.retry_after.len() as u64);
    assert_eq!(door.metric("frontdoor_shed_load_known_total"), 0);
}

#[test]
fn a_storm_of_100_000_phones_is_over_within_a_minute_and_no_neighbour_is_lost() {
    let mut servers = servers();
    let mut setup = Setup::with(&servers);
    setup
        .released()
        .capacity(100_000)
        .key("failover", "retry_after_min = \"2s\"\nretry_after_max = \"10s\"\n");
    let door = setup.start();
    let mut neighbours = Neighbours::of(&door);
    let memory = Memory::of(&door);
    let crowd = Crowd {
        known: 0,
        per_source: 2_000,
        sources: offices(50),
        door: door.phones,
        name: "storm".to_owned(),
        pace: Pace::Open(10_000),
        begin_within: Duration::from_secs(11),
        until: Duration::from_secs(60),
    };
    let used = door.process().processor();
    let tally = while_the_known_are_served(&mut neighbours, || crowd.come());
    let served_costs = (door.process().processor() - used) / 100_000;
    let last = tally.registered.iter().max().unwrap();
    println!(
        "all in after {last:?}, turned away {}, repeated {}",
        tally.retry_after.len(),
        tally.repeated
    );
    assert_eq!((tally.begun, tally.registered.len(), tally.refused), (100_000, 100_000, 0));
    assert_eq!(door.status().users, 100_001);
    memory.is_bounded(&door, 100_000 * OCTETS_PER_PHONE);
    neighbours.are_served();
    let reached: u64 = servers.iter_mut().map(Server::registrations).sum();
    assert!(reached >= 100_001, "{reached} at the servers");

    let shed_costs = cost_of_shedding(&door);
    println!("served: {served_costs:?} each, shed: {shed_costs:?} each");
    assert!(shed_costs * SHED_SHARE <= served_costs, "{shed_costs:?} and {served_costs:?}");
}

/// Processor time for one REGISTER that is turned away.
fn cost_of_shedding(door: &Door) -> Duration {
    let attacker = Attacker::at(source(66), door.phones);
    let send = |count: usize| {
        for number in 0..count {
            let user = format!("h{number}");
            attacker.send(&register_with(attacker.local(), &user, b"Contact: <sip:a@h>\r\n", b""));
        }
    };
    // For its source, and where it floods so much that the door falls behind, for that.
    let shed =
        || door.metric("frontdoor_shed_source_total") + door.metric("frontdoor_shed_load_total");
    send(4_000);
    let (before, used) = (shed(), door.process().processor());
    send(100_000);
    let (after, used) = (shed(), door.process().processor() - used);
    let count = u32::try_from(after - before).unwrap();
    assert!(count > 10_000, "{count} were turned away");
    used / count
}
