//! kill -9 of the door at every step: nothing acknowledged is lost (Q5).

use std::time::Duration;

use frontdoor::ucserver::Mood;

use crate::desk::{Ask, contacts, desk};
use crate::phone::Act;
use crate::world::{Weather, World, settings};

fn registering() -> World {
    let mut world = World::new(settings(3, 1000), Weather::CALM, 21);
    world.run_for(Duration::from_secs(2));
    for user in [0, 1, 2, 3, 0, 1] {
        world.add_phone(&format!("sip:u{user}@example.com"));
    }
    world
}

fn settled() -> World {
    let mut world = registering();
    world.run_until(Duration::from_secs(20), |world| {
        world.phones.iter().all(|phone| phone.is_acknowledged(world.now.uptime))
    });
    world
}

/// Whom the door has promised reachability, it knows after a restart.
fn check_remembered(world: &World, context: &str) {
    for phone in &world.phones {
        if !phone.is_acknowledged(world.now.uptime) {
            continue;
        }
        let user = world.door().user(world.now, &phone.aor);
        let known = user.is_some_and(|user| {
            user.bindings.iter().any(|binding| *binding.contact == *phone.contact())
        });
        assert!(known, "{} is forgotten, {context}", phone.contact());
    }
}

#[test]
fn a_restart_at_every_step_of_registration_forgets_nobody_acknowledged() {
    let steps = {
        let mut world = registering();
        let before = world.steps;
        world.run_until(Duration::from_secs(20), |world| {
            world.phones.iter().all(|phone| phone.is_acknowledged(world.now.uptime))
        });
        world.steps - before
    };
    for at in 0..=steps {
        let mut world = registering();
        for _ in 0..at {
            world.step();
        }
        world.restart_door();
        check_remembered(&world, &format!("restart at step {at}"));
        world.run_for(Duration::from_secs(45));
        let all = world.phones.iter().all(|phone| phone.is_acknowledged(world.now.uptime));
        assert!(all, "restart at step {at}: {:#?}", world.summary());
        world.check_reachable();
    }
}

#[test]
fn a_restart_at_every_step_of_a_failover_finishes_the_failover() {
    let steps = {
        let mut world = settled();
        let server = world.current_of("sip:u0@example.com").unwrap();
        world.set_mood(server, Mood::Dead);
        let before = world.steps;
        world.run_until(Duration::from_secs(10), |world| {
            let status = world.door().status(world.now);
            status.relocated > 0 && status.progress.settled == 6
        });
        world.steps - before
    };
    for at in 0..=steps + 1 {
        let mut world = settled();
        let server = world.current_of("sip:u0@example.com").unwrap();
        world.set_mood(server, Mood::Dead);
        for _ in 0..at {
            world.step();
        }
        world.restart_door();
        check_remembered(&world, &format!("restart at step {at}"));
        world.run_for(Duration::from_secs(30));
        assert_ne!(world.current_of("sip:u0@example.com"), Some(server), "at step {at}");
        world.check_reachable();
    }
}

#[test]
fn a_door_that_was_away_for_a_minute_keeps_every_lease() {
    let mut world = settled();
    world.kill_door();
    world.run_for(Duration::from_secs(60));
    world.start_door();
    assert_eq!(world.door().status(world.now).bindings, 6);
    world.run_for(Duration::from_secs(10));
    world.check_reachable();
}

#[test]
fn an_unregistration_is_not_undone_by_a_restart() {
    let mut world = settled();
    world.phone_acts(0, Act::Unregister);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.phones[0].answers.last().unwrap().1, 200);
    world.restart_door();
    world.run_for(Duration::from_secs(5));
    let user = world.door().user(world.now, "sip:u0@example.com").unwrap();
    assert_eq!(user.bindings.len(), 1, "the other phone of the user");
    let contact = world.phones[0].contact();
    assert!((0..3).all(|s| world.held_by(s).iter().all(|(_, held)| *held != contact)));
}

#[test]
fn after_a_restart_the_registrations_are_renewed_spread_over_time() {
    let mut world = settled();
    world.restart_door();
    world.run_for(Duration::from_secs(2));
    let early = world.door().stats().upstream_registers;
    assert!(early < 6, "{early} of 6 in the first two seconds");
    world.run_for(Duration::from_secs(70));
    assert!(world.door().stats().upstream_registers >= 6);
    world.check_reachable();
}

/// An absorbed refresh is not written, and may promise more than the one before.
#[test]
fn a_longer_lease_that_was_only_absorbed_outlives_a_restart() {
    let mut desk = desk();
    let ask = Ask::register("alice").contact("<sip:alice@198.51.100.1>");
    assert_eq!(desk.status(&ask.clone().expires("60")), 200);
    let answer = desk.answer(&ask.cseq(2).expires("300"));
    assert_eq!(contacts(&answer)["<sip:alice@198.51.100.1>"], 300);
    assert_eq!(desk.door.stats().registers_absorbed, 1);
    desk.restart();
    desk.pass(Duration::from_secs(290));
    assert_eq!(desk.user("sip:alice@example.com").bindings.len(), 1);
}

#[test]
fn a_removal_is_not_acknowledged_while_one_cannot_be_written() {
    let mut world = World::new(settings(2, 100), Weather::CALM, 1);
    world.run_for(Duration::from_secs(3));
    let phone = world.add_phone("sip:anna@example.com");
    world.run_for(Duration::from_secs(3));
    assert!(world.phones[phone].is_acknowledged(world.now.uptime));
    // Its lease lapses while the disk is full: the door has forgotten it, the store has not.
    world.phones[phone].off = true;
    world.disk_full = true;
    world.run_for(Duration::from_secs(200));
    world.phones[phone].off = false;
    world.phone_acts(phone, Act::Unregister);
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.phones[phone].answers.last().map(|answer| answer.1), Some(503));
    world.disk_full = false;
    world.run_for(Duration::from_secs(120));
    world.phone_acts(phone, Act::Unregister);
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.phones[phone].answers.last().map(|answer| answer.1), Some(200));
    world.restart_door();
    world.run_for(Duration::from_secs(5));
    world.check_reachable();
    assert_eq!(world.door().status(world.now).bindings, 0);
}

#[test]
fn what_could_not_be_written_is_as_soon_as_there_is_room() {
    let mut world = World::new(settings(2, 100), Weather::CALM, 1);
    world.run_for(Duration::from_secs(3));
    let anna = world.add_phone("sip:anna@example.com");
    world.run_for(Duration::from_secs(3));
    // It is somewhere else while the disk is full: a server holds it there, and it has no 200.
    world.disk_full = true;
    world.roam(anna);
    world.run_for(Duration::from_secs(3));
    assert_eq!(world.phones[anna].answers.last().map(|answer| answer.1), Some(503));
    world.phones[anna].off = true;
    world.disk_full = false;
    world.add_phone("sip:bob@example.com");
    world.run_for(Duration::from_secs(3));
    world.restart_door();
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.door().status(world.now).bindings, 3, "bob's, and both of anna's");
}
