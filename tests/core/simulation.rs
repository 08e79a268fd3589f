//! A world by seed: a pool of two to five servers, users with one to three phones, a network that
//! loses, doubles and reorders, clients beside the phones in most worlds, servers in every mood and with lying health documents, a door that
//! is killed, a disk that is full, clocks that jump, telephone systems that are lost, documents that
//! come by themselves and late, operators who pause and send. Half of the
//! seeds are five hasty minutes, the other half an hour in which users also come home.
//!
//! Invariants are checked at every write of the ledger and at every one that is asked for (see
//! `World::check_written`, `World::check_asked`), reasons at every misfortune
//! (`World::check_explained`), and whenever it has been quiet for two minutes, and at the end,
//! everybody who was promised reachability is reachable through exactly the server that serves them, and everybody who has room there is at home.
//!
//! `FRONTDOOR_SEED=n` replays one seed with a timeline; `FRONTDOOR_SEEDS=n` sets how many are played.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use frontdoor::cluster::{Plane, Planes, Ties};
use frontdoor::door::{Command, Pace, Settings, TelephoneSystem};
use frontdoor::recovery;
use frontdoor::ucserver::Mood;

use crate::client::Client;
use crate::desk::web::web_entrance;
use crate::phone::Act;
use crate::world::{Weather, World, entrance, settings};

/// A few for whoever changes something; `tests/run` plays thousands, optimised.
const SEEDS: u64 = 24;
/// In so many worlds everything happens to somebody.
const ENOUGH: usize = 200;
/// Failed seeds after which no more are played.
const FAILURES_MAX: u32 = 3;
/// So long after the last misfortune everybody is served again: bindings that failed are tried again
/// within a minute, and everything is told at the slowest pace there is.
const PEACE: Duration = Duration::from_secs(120);
/// What a health document may say that is not so.
const LIES: [&str; 6] = [
    "I feel fine",
    "{}",
    r#"{"version":1,"load":-1,"cpu_percent":-5,"users":{"logged_in":-7,"capacity":0}}"#,
    r#"{"version":1,"users":{"logged_in":4294967295,"capacity":4294967295}}"#,
    r#"{"version":999,"boot_id":"x"}"#,
    "[[[[[[[[[[[[[[[[",
];

#[test]
fn nobody_acknowledged_is_lost_whatever_happens() {
    let one = number_from_environment("FRONTDOOR_SEED");
    let seeds = match one {
        Some(seed) => seed..=seed,
        None => 1..=number_from_environment("FRONTDOOR_SEEDS").unwrap_or(SEEDS),
    };
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let failures = Arc::new(AtomicU32::new(0));
    let players: Vec<_> = (0..cores)
        .map(|player| {
            let seeds = seeds.clone().filter(move |seed| seed % cores == player);
            let failures = Arc::clone(&failures);
            std::thread::spawn(move || {
                let go_on = |_: &u64| failures.load(Ordering::Relaxed) < FAILURES_MAX;
                seeds
                    .take_while(go_on)
                    .map(|seed| play_guarded(seed, one.is_some(), &failures))
                    .sum()
            })
        })
        .collect();
    let mut total = Tally::default();
    for player in players {
        match player.join() {
            Ok(tally) => total = [total, tally].into_iter().sum(),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }
    println!("{} seeds, {total:?}", seeds.clone().count());
    assert_eq!(total.failed, 0, "replay the seeds above with FRONTDOOR_SEED");
    if seeds.count() >= ENOUGH {
        // What never happens proves nothing.
        let Tally { relocations, returned, stopped, departed, looks, .. } = total;
        let Tally { sessions_moved, web_openings, .. } = total;
        let happened =
            [relocations, returned, stopped, departed, looks, sessions_moved, web_openings];
        assert!(!happened.contains(&0), "{total:?}");
    }
}

/// What has happened in all the worlds.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    failed: u32,
    steps: u64,
    virtual_hours: f64,
    relocations: u64,
    returned: u64,
    stopped: u64,
    departed: u64,
    /// Client sessions that went on on another leg.
    sessions_moved: u64,
    web_openings: u64,
    /// Looks at everybody in the midst of a storm.
    looks: u64,
}

impl std::iter::Sum for Tally {
    fn sum<I: Iterator<Item = Self>>(tallies: I) -> Self {
        tallies.fold(Self::default(), |all, one| Self {
            failed: all.failed + one.failed,
            steps: all.steps + one.steps,
            virtual_hours: all.virtual_hours + one.virtual_hours,
            relocations: all.relocations + one.relocations,
            returned: all.returned + one.returned,
            stopped: all.stopped + one.stopped,
            departed: all.departed + one.departed,
            sessions_moved: all.sessions_moved + one.sessions_moved,
            web_openings: all.web_openings + one.web_openings,
            looks: all.looks + one.looks,
        })
    }
}

#[expect(clippy::disallowed_methods, reason = "a seed to replay comes from whoever replays it")]
fn number_from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn play_guarded(seed: u64, verbose: bool, failures: &AtomicU32) -> Tally {
    match std::panic::catch_unwind(|| play(seed, verbose)) {
        Ok(tally) => tally,
        Err(_) => {
            eprintln!("replay with FRONTDOOR_SEED={seed}");
            failures.fetch_add(1, Ordering::Relaxed);
            Tally { failed: 1, ..Tally::default() }
        }
    }
}

/// What kind of world a seed makes.
struct Plot {
    settings: Settings,
    users: u64,
    /// With faults.
    storm: Duration,
    /// Longest time between two of them.
    pause_max_ms: u64,
    /// Whether everybody fits everywhere, whoever is dead.
    roomy: bool,
    /// Whether every server has every line group and telephone system.
    alike: bool,
}

fn plot(seed: u64, rng: &mut fastrand::Rng) -> Plot {
    let hasty = seed.is_multiple_of(2);
    let servers = rng.usize(2..=5);
    let users = if hasty { 40 } else { rng.u64(4..20) };
    let roomy = rng.u32(0..4) > 0;
    let capacity = if roomy { 1_000 } else { (users as u32 * 3 / 2).div_ceil(servers as u32) + 1 };
    let mut settings = settings(servers, capacity);
    // Drawn beside the rest, so that a seed makes the same world as ever.
    let with_clients = fastrand::Rng::with_seed(seed ^ 0xC11E).u32(0..4) > 0;
    if with_clients {
        for (place, server) in settings.servers.iter_mut().enumerate() {
            server.clients = Some(entrance(place));
            server.web = Some(web_entrance(place));
            server.planes = Planes::SIP.with(Plane::Client);
        }
    }
    let alike = tie(&mut settings, &mut fastrand::Rng::with_seed(!seed));
    settings.recovery = recovery::Policy {
        hold: Duration::from_secs(rng.u64(0..90)),
        interval: Duration::from_secs(rng.u64(1..20)),
        look: Duration::from_secs(rng.u64(1..20)),
        users_per_second: rng.u32(1..20),
        ..recovery::Policy::default()
    };
    if rng.bool() {
        settings.pace.rate_max = Some(rng.u32(5..50));
    }
    if rng.u32(0..8) == 0 {
        settings.decision.disable_automatic_user_distribution = true;
    }
    if hasty {
        let (storm, pause_max_ms) = (Duration::from_secs(300), 20_000);
        return Plot { settings, users, storm, pause_max_ms, roomy, alike };
    }
    // An hour is to be played in a tenth of a second: probes come less often, and returns soon.
    settings.health.probe_interval = Duration::from_secs(1);
    settings.health.degraded_after = Duration::from_secs(3);
    settings.health.down_after = Duration::from_secs(5);
    settings.health.probation = Duration::from_secs(5);
    settings.health.ramp = Duration::from_secs(10);
    settings.sip.expiry = Duration::from_secs(600);
    settings.health.document_interval = Duration::from_secs(10);
    settings.health.sample_interval = Duration::from_secs(20);
    let storm = Duration::from_secs(2_700);
    Plot { settings, users, storm, pause_max_ms: 240_000, roomy, alike }
}

/// Line groups and telephone systems, in most worlds; whether all servers have the same.
fn tie(settings: &mut Settings, rng: &mut fastrand::Rng) -> bool {
    let names = |names: &[&str]| names.iter().copied().map(Arc::from).collect::<Vec<_>>();
    if rng.u32(0..4) == 0 {
        return true;
    }
    let pace = |rng: &mut fastrand::Rng| Pace {
        rate_max: rng.bool().then(|| rng.u32(5..40)),
        window_initial: rng.u32(1..16),
        ..Pace::default()
    };
    for name in ["pbx", "trunk"] {
        settings.telephone_systems.push(TelephoneSystem { name: name.into(), pace: pace(rng) });
    }
    let alike = rng.bool();
    for server in &mut settings.servers {
        let pick = |all: [&'static str; 2], dice: u32| match dice {
            0 => names(&all[..1]),
            1 => names(&all[1..]),
            _ => names(&all),
        };
        let mut dice = || if alike { 3 } else { rng.u32(0..6) };
        let (groups, systems) = (dice(), dice());
        let (groups, systems) = (pick(["fax", "office"], groups), pick(["pbx", "trunk"], systems));
        server.ties = Arc::new(Ties::configured(groups, systems));
    }
    alike
}

fn play(seed: u64, verbose: bool) -> Tally {
    let mut rng = fastrand::Rng::with_seed(seed);
    let Plot { settings, users, storm, pause_max_ms, roomy, alike } = plot(seed, &mut rng);
    let mut world = World::new(settings, Weather::ROUGH, seed);
    let begun = world.now.uptime;
    for user in 0..users {
        for _ in 0..rng.u32(1..=3) {
            world.add_phone(&format!("sip:u{user}@example.com"));
        }
    }
    if world.settings.servers[0].clients.is_some() {
        let mut clients = fastrand::Rng::with_seed(seed ^ 0xC11E);
        for user in 0..users {
            for _ in 0..clients.u32(0..3) {
                world.add_client(&format!("u{user}@example.com"));
            }
        }
    }
    let mut tally = Tally::default();
    let mut people = fastrand::Rng::with_seed(seed ^ 0x9E0);
    let storm_ends = world.now.uptime + storm;
    while world.now.uptime < storm_ends {
        let pause = Duration::from_millis(rng.u64(200..pause_max_ms));
        world.run_for(pause);
        if roomy && alike && pause >= PEACE && world.is_at_peace() {
            world.check_reachable();
            tally.looks += 1;
        }
        if world.door.is_some() {
            let phone = rng.usize(0..world.phones.len());
            world.check_explained(&world.phones[phone].aor.clone());
            world.check_left(roomy && alike);
        }
        for _ in 0..users / 4 {
            use_client(&mut world, &mut people);
        }
        let fault = misfortune(&mut world, &mut rng, &mut tally);
        if verbose {
            println!("{:?} {fault}", world.now.uptime);
        }
    }
    calm(&mut world);
    let disabled = world.settings.decision.disable_automatic_user_distribution;
    if verbose {
        println!("calm: {:#?}", world.summary());
    }
    world.run_for(Duration::from_secs(240));
    let progress = world.door().status(world.now).progress;
    assert_eq!((progress.held, progress.failed), (0, 0), "{:#?}", world.summary());
    // Probation is doubled by every flap, up to 32 times.
    let probation = world.settings.health.probation * 33 + world.settings.health.ramp;
    world.run_until(probation, |world| {
        world.door().status(world.now).servers.iter().all(|server| &*server.state == "up")
    });
    if !disabled && roomy {
        // The hold, four stages with their looks, and a run that was stopped rests for the hold.
        let policy = &world.settings.recovery;
        let bound = (policy.hold + policy.interval) * 2 + (policy.look * 4) * 2;
        let bound = bound + Duration::from_secs(u64::from(users as u32) * 2 + 300);
        world.run_until(bound, |world| world.door().status(world.now).relocated == 0);
    }
    world.run_until(Duration::from_secs(90), |world| {
        let status = world.door().status(world.now);
        status.progress.moving == 0
            && world.phones.iter().all(|phone| phone.off || !phone.is_busy())
            && status.servers.iter().all(|server| server.in_flight == 0)
    });
    world.check_reachable();
    world.run_until(Duration::from_secs(120), |world| world.are_clients_settled());
    world.check_clients();
    world.check_shown();
    for system in world.door().status(world.now).telephone_systems {
        assert_eq!((system.in_flight, system.queued), (0, 0), "{system:?}");
        assert_eq!(system.lost_by, [], "{system:?}");
    }
    tally.count(&world);
    tally.steps = world.steps;
    tally.virtual_hours = world.now.uptime.since(begun).as_secs_f64() / 3_600.0;
    tally
}

impl Tally {
    /// The door is about to end, and its counters with it.
    fn count(&mut self, world: &World) {
        let stats = world.door().stats();
        self.relocations += stats.relocations;
        self.returned += stats.returned;
        self.stopped += stats.returns_stopped;
        self.departed += stats.departed;
        self.sessions_moved += stats.client_sessions_moved;
        self.web_openings += stats.web_openings;
    }
}

/// The last fault is over. Whoever is dead for no time at all is missed by nobody but those who read
/// its document, which may be a lie.
fn calm(world: &mut World) {
    world.run_for(Duration::from_secs(4));
    for server in 0..world.servers.len() {
        if world.servers[server].mood() != Mood::Healthy {
            world.set_mood(server, Mood::Healthy);
        }
        world.lies[server] = None;
        world.cut_off[server] = false;
        // Whoever is in a call is not brought home (B1).
        world.end_calls(server);
    }
    world.disk_full = false;
    if world.door.is_none() {
        world.start_door();
    }
    // Whether anything was paused, nobody remembers.
    let _already = world.order(&Command::ResumeRecovery);
    for number in 1..=world.servers.len() {
        let server = format!("ucs{number}");
        let drain = Command::Drain { server: server.clone(), on: false };
        let _already = world.order(&drain);
        let _already = world.order(&Command::Maintenance { server, on: false, stay: false });
    }
}

/// Something goes wrong, or somebody does something.
fn misfortune(world: &mut World, rng: &mut fastrand::Rng, tally: &mut Tally) -> String {
    let server = rng.usize(0..world.servers.len());
    let phone = rng.usize(0..world.phones.len());
    let seconds = Duration::from_secs(rng.u64(1..10));
    if returns_by_itself(world) && rng.u32(0..3) == 0 {
        return order(world, rng, server, phone);
    }
    match rng.u32(0..25) {
        0 => mood(world, server, Mood::Dead),
        1 => mood(world, server, Mood::Hung),
        2 => mood(world, server, Mood::Refusing),
        3 => mood(world, server, Mood::Errors),
        4 => mood(world, server, Mood::Slow { delay: Duration::from_millis(rng.u64(10..900)) }),
        5 => mood(world, server, Mood::Flapping { up: seconds * 3, down: seconds }),
        6 => {
            let odd = if rng.bool() { Mood::Amnesia } else { Mood::StrictHome };
            mood(world, server, odd)
        }
        7..=10 => mood(world, server, Mood::Healthy),
        11 if world.door.is_some() => {
            tally.count(world);
            let disabled = &mut world.settings.decision.disable_automatic_user_distribution;
            *disabled ^= rng.u32(0..4) == 0;
            let told = format!("the door restarts, distribution disabled: {disabled}");
            world.restart_door();
            told
        }
        12 => {
            if world.door.is_some() {
                tally.count(world);
                world.kill_door();
            } else {
                world.start_door();
            }
            format!("the door runs: {}", world.door.is_some())
        }
        13 => {
            world.disk_full = !world.disk_full;
            format!("disk full: {}", world.disk_full)
        }
        14 => {
            let lie = rng.choice(LIES).filter(|_| rng.bool());
            world.lies[server] = lie;
            format!("ucs{} tells {lie:?}", server + 1)
        }
        23 if rng.bool() => {
            let late = rng.usize(0..8);
            world.push_document(server, late);
            format!("ucs{} sends the last document but {late}", server + 1)
        }
        24 => {
            world.cut_off[server] = !world.cut_off[server];
            format!("ucs{} has lost its telephone systems: {}", server + 1, world.cut_off[server])
        }
        15 => {
            let stall = Duration::from_millis(rng.u64(100..8_000));
            world.stall(stall);
            format!("the machine stood still for {stall:?}")
        }
        16 => {
            let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(rng.u64(0..3_000_000_000));
            world.set_clock(wall);
            format!("the clock says {wall:?}")
        }
        17 if world.door.is_some() => order(world, rng, server, phone),
        18 if !world.phones[phone].is_busy() => {
            world.phone_acts(phone, Act::Unregister);
            format!("phone {phone} unregisters")
        }
        19..=20 if !world.phones[phone].is_busy() => {
            world.phones[phone].off = false;
            world.phone_acts(phone, Act::Register);
            format!("phone {phone} registers")
        }
        21 if rng.bool() && !world.phones[phone].is_busy() => {
            world.roam(phone);
            format!("phone {phone} is somewhere else")
        }
        21 => {
            world.phones[phone].off = true;
            format!("phone {phone} is switched off")
        }
        22 => {
            // Two at once, and perhaps all: then it is our own network.
            let other = rng.usize(0..world.servers.len());
            let silent = if rng.bool() { Mood::Hung } else { Mood::Dead };
            mood(world, server, silent) + ", " + &mood(world, other, silent)
        }
        _ => {
            world.phone_acts(phone, Act::Query);
            format!("phone {phone} asks")
        }
    }
}

/// Somebody uses a client.
fn use_client(world: &mut World, rng: &mut fastrand::Rng) {
    if world.clients.is_empty() {
        return;
    }
    let client = rng.usize(0..world.clients.len());
    let number = format!("+49{}", rng.u64(..));
    match rng.u32(0..12) {
        0 => world.switch_client(client),
        11 => world.end_calls(rng.usize(0..world.servers.len())),
        1..=3 => world.client_acts(client, |client, now| Some(client.dials(now, &number))),
        4..=5 => world.client_acts(client, Client::watches_anew),
        _ => world.client_acts(client, |client, now| Some(client.reads(now))),
    }
}

/// Whether a return is under way that nobody has ordered.
fn returns_by_itself(world: &World) -> bool {
    let Some(door) = &world.door else { return false };
    let returns = door.status(world.now).recovery.returns;
    returns.iter().any(|run| run.ended_nanos == 0 && !run.by_hand)
}

/// An operator does something.
fn order(world: &mut World, rng: &mut fastrand::Rng, server: usize, phone: usize) -> String {
    let (server, user) = (format!("ucs{}", server + 1), world.phones[phone].aor.clone());
    // Whoever pauses does so when there is something to pause.
    let pauses = returns_by_itself(world) && rng.u32(0..3) == 0;
    let dice = if pauses { 0 } else { rng.u32(0..13) };
    let command = match dice {
        0 => Command::PauseRecovery,
        1..=2 => Command::ResumeRecovery,
        3 => Command::ReturnServer(server),
        4 => Command::ReturnUser(user),
        5 => Command::SetHome { user, home: server },
        6 => Command::Maintenance { server, on: true, stay: rng.bool() },
        7 => Command::Maintenance { server, on: false, stay: false },
        8 => Command::Drain { server, on: rng.bool() },
        9 => Command::Rebalance,
        10 => Command::StopRebalance,
        11 => Command::Drill(server),
        _ => Command::EndSuspicion,
    };
    let done = world.order(&command);
    format!("{command:?}: {done:?}")
}

fn mood(world: &mut World, server: usize, mood: Mood) -> String {
    world.set_mood(server, mood);
    format!("ucs{} is {mood:?}", server + 1)
}
