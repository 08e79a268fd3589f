//! Whatever changes while a user is being moved wins (M4): every change, at every step of a move.

use std::time::Duration;

use frontdoor::ucserver::Mood;

use crate::phone::Act;
use crate::world::{Weather, World, settings};

const PHONES: usize = 6;

/// Four users, two of them with two phones, all at home on two of three servers or more.
fn settled() -> World {
    let mut world = World::new(settings(3, 1000), Weather::CALM, 11);
    for user in [0, 1, 2, 3, 0, 1] {
        world.add_phone(&format!("sip:u{user}@example.com"));
    }
    world.run_until(Duration::from_secs(20), |world| {
        world.phones.iter().all(|phone| phone.is_acknowledged(world.now.uptime))
    });
    world
}

/// The server of the user who is to be moved, and one of that user's phones.
fn victim(world: &World) -> (usize, usize) {
    let server = world.current_of("sip:u0@example.com").expect("u0 is somewhere");
    (server, 0)
}

fn is_settled(world: &World) -> bool {
    let status = world.door().status(world.now);
    let (server, _) = victim(world);
    status.relocated > 0
        && status.progress.settled == status.bindings
        && &*status.servers[server].state != "down"
        && status.servers.iter().all(|server| server.in_flight == 0 && server.queued == 0)
}

/// How many steps there are from the death of the server until everybody is settled elsewhere.
fn steps_of_a_move() -> u64 {
    let mut world = settled();
    let (server, _) = victim(&world);
    world.set_mood(server, Mood::Dead);
    let before = world.steps;
    world.run_until(Duration::from_secs(10), is_settled);
    world.steps - before
}

/// Kills the server, lets `steps` things happen, changes something, and lets the dust settle.
fn change_after(steps: u64, change: impl Fn(&mut World, usize)) -> (World, usize) {
    let mut world = settled();
    let (server, phone) = victim(&world);
    world.set_mood(server, Mood::Dead);
    for _ in 0..steps {
        world.step();
    }
    change(&mut world, phone);
    world.run_for(Duration::from_secs(10));
    (world, phone)
}

fn at_every_step(change: impl Fn(&mut World, usize), check: impl Fn(&mut World, usize)) {
    let steps = steps_of_a_move();
    assert!(steps > 20, "a move takes {steps} steps");
    for at in 0..=steps + 2 {
        let (mut world, phone) = change_after(at, &change);
        check(&mut world, phone);
        world.check_reachable();
        assert_eq!(world.door().status(world.now).progress.moving, 0, "at step {at}");
    }
}

fn is_held_anywhere(world: &World, aor: &str, contact: &str) -> bool {
    (0..world.servers.len())
        .filter(|&server| !world.servers[server].is_silent(world.now.uptime))
        .any(|server| world.held_by(server).iter().any(|(a, c)| a == aor && c == contact))
}

#[test]
fn an_unregistration_wins_at_every_step() {
    at_every_step(
        |world, phone| world.phone_acts(phone, Act::Unregister),
        |world, phone| {
            let (aor, contact) = (world.phones[phone].aor.clone(), world.phones[phone].contact());
            assert_eq!(world.phones[phone].answers.last().map(|a| a.1), Some(200));
            assert!(!is_held_anywhere(world, &aor, &contact), "{:#?}", world.summary());
            let user = world.door().user(world.now, &aor).expect("the user stays");
            assert!(user.bindings.iter().all(|binding| *binding.contact != *contact));
        },
    );
}

#[test]
fn a_removal_of_everything_wins_at_every_step() {
    at_every_step(
        |world, phone| {
            world.phones[4].off = true;
            world.phone_acts(phone, Act::UnregisterAll);
        },
        |world, phone| {
            let aor = world.phones[phone].aor.clone();
            for other in [phone, 4] {
                assert!(!is_held_anywhere(world, &aor, &world.phones[other].contact()));
            }
            assert!(world.door().user(world.now, &aor).is_some_and(|u| u.bindings.is_empty()));
        },
    );
}

#[test]
fn a_phone_that_roams_is_reachable_where_it_is_at_every_step() {
    at_every_step(
        |world, phone| world.roam(phone),
        |world, phone| {
            assert!(world.phones[phone].is_acknowledged(world.now.uptime));
        },
    );
}

#[test]
fn a_second_phone_joins_the_move_of_its_user_at_every_step() {
    at_every_step(
        |world, phone| {
            let aor = world.phones[phone].aor.clone();
            let second = world.add_phone(&aor);
            world.phone_acts(second, Act::Register);
        },
        |world, _| {
            assert!(world.phones[PHONES].is_acknowledged(world.now.uptime));
            assert_eq!(world.phones[PHONES].answers.last().map(|a| a.1), Some(200));
        },
    );
}

#[test]
fn a_query_changes_nothing_at_any_step() {
    at_every_step(
        |world, phone| world.phone_acts(phone, Act::Query),
        |world, phone| {
            assert_eq!(world.phones[phone].answers.last().map(|a| a.1), Some(200));
            assert_eq!(world.phones[phone].listed.len(), 2, "both phones of the user");
        },
    );
}

#[test]
fn the_backup_may_die_at_any_step_too() {
    let steps = steps_of_a_move();
    for at in 0..=steps + 2 {
        let mut world = settled();
        let (server, phone) = victim(&world);
        world.set_mood(server, Mood::Dead);
        for _ in 0..at {
            world.step();
        }
        let backup = world.current_of(&world.phones[phone].aor.clone()).filter(|&b| b != server);
        let backup = backup.unwrap_or((server + 1) % 3);
        world.set_mood(backup, Mood::Dead);
        world.run_for(Duration::from_secs(15));
        world.check_reachable();
        let left = 3 - server - backup;
        assert_eq!(world.current_of("sip:u0@example.com"), Some(left), "at step {at}");
    }
}
