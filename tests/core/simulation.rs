//! A world by seed: three servers, fifty users with one to three phones, a network that loses,
//! doubles and reorders, servers in every mood, a door that is killed. Invariants are checked at
//! every write of the ledger (see `World::check_written`), and at the end everybody who was
//! promised reachability is reachable through exactly the server that serves them.
//!
//! `FRONTDOOR_SEED=n` replays one seed; `FRONTDOOR_SEEDS=n` sets how many are played.

use std::time::Duration;

use frontdoor::ucserver::Mood;

use crate::phone::Act;
use crate::world::{Weather, World, settings};

const SEEDS: u64 = 24;
/// Of virtual time with faults, then without.
const STORM: Duration = Duration::from_secs(300);
const CALM: Duration = Duration::from_secs(240);

#[test]
fn nobody_acknowledged_is_lost_whatever_happens() {
    let one = number_from_environment("FRONTDOOR_SEED");
    let seeds = match one {
        Some(seed) => seed..=seed,
        None => 1..=number_from_environment("FRONTDOOR_SEEDS").unwrap_or(SEEDS),
    };
    let mut steps = 0;
    for seed in seeds.clone() {
        let played = std::panic::catch_unwind(|| play(seed, one.is_some()));
        match played {
            Ok(count) => steps += count,
            Err(panic) => {
                eprintln!("replay with FRONTDOOR_SEED={seed}");
                std::panic::resume_unwind(panic);
            }
        }
    }
    println!("{} seeds, {steps} steps", seeds.count());
}

#[expect(clippy::disallowed_methods, reason = "a seed to replay comes from whoever replays it")]
fn number_from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn play(seed: u64, verbose: bool) -> u64 {
    let mut rng = fastrand::Rng::with_seed(seed);
    let mut world = World::new(settings(3, 1000), Weather::ROUGH, seed);
    for user in 0..50 {
        for _ in 0..rng.u32(1..=3) {
            world.add_phone(&format!("sip:u{user}@example.com"));
        }
    }
    let phones = world.phones.len();
    let storm_ends = world.now.uptime + STORM;
    while world.now.uptime < storm_ends {
        world.run_for(Duration::from_millis(rng.u64(200..20_000)));
        let fault = misfortune(&mut world, &mut rng, phones);
        if verbose {
            println!("{:?} {fault}", world.now.uptime);
        }
    }
    for server in 0..3 {
        if world.servers[server].mood() != Mood::Healthy {
            world.set_mood(server, Mood::Healthy);
        }
    }
    world.disk_full = false;
    if world.door.is_none() {
        world.start_door();
    }
    world.run_for(CALM);
    if verbose {
        println!("{:#?}", world.summary());
    }
    let progress = world.door().status(world.now).progress;
    assert_eq!((progress.held, progress.failed), (0, 0), "{:#?}", world.summary());
    world.run_until(Duration::from_secs(60), |world| {
        let progress = world.door().status(world.now).progress;
        progress.moving == 0
            && world.phones.iter().all(|p| p.off || !p.is_busy())
            && (0..3).all(|s| world.door().status(world.now).servers[s].in_flight == 0)
    });
    world.check_reachable();
    world.steps
}

/// Something goes wrong, or somebody does something.
fn misfortune(world: &mut World, rng: &mut fastrand::Rng, phones: usize) -> String {
    let server = rng.usize(0..3);
    let phone = rng.usize(0..phones);
    let seconds = Duration::from_secs(rng.u64(1..10));
    match rng.u32(0..16) {
        0 => mood(world, server, Mood::Dead),
        1 => mood(world, server, Mood::Hung),
        2 => mood(world, server, Mood::Refusing),
        3 => mood(world, server, Mood::Errors),
        4 => mood(world, server, Mood::Slow { delay: Duration::from_millis(rng.u64(10..900)) }),
        5 => mood(world, server, Mood::Flapping { up: seconds * 3, down: seconds }),
        6..=9 => mood(world, server, Mood::Healthy),
        10 if world.door.is_some() => {
            world.restart_door();
            "the door restarts".into()
        }
        11 => {
            if world.door.is_some() {
                world.kill_door()
            } else {
                world.start_door()
            }
            format!("the door runs: {}", world.door.is_some())
        }
        12 => {
            world.disk_full = !world.disk_full;
            format!("disk full: {}", world.disk_full)
        }
        13 if !world.phones[phone].is_busy() => {
            world.phone_acts(phone, Act::Unregister);
            format!("phone {phone} unregisters")
        }
        14 if !world.phones[phone].is_busy() => {
            world.phone_acts(phone, Act::Register);
            format!("phone {phone} registers")
        }
        15 => {
            world.phones[phone].off = true;
            format!("phone {phone} is switched off")
        }
        _ => {
            world.phone_acts(phone, Act::Query);
            format!("phone {phone} asks")
        }
    }
}

fn mood(world: &mut World, server: usize, mood: Mood) -> String {
    world.set_mood(server, mood);
    format!("ucs{} is {mood:?}", server + 1)
}
