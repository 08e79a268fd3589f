//! A server dies; its users are reachable elsewhere, and nobody else notices.

use std::time::Duration;

use frontdoor::cluster::HealthDocumentUse;
use frontdoor::ucserver::Mood;

use crate::phone::Act;
use crate::world::{Weather, World, settings};

/// Three servers, forty users, sixty phones, everybody registered.
fn settled(weather: Weather, seed: u64) -> World {
    let mut world = World::new(settings(3, 1000), weather, seed);
    world.run_for(Duration::from_secs(3));
    for number in 0..40 {
        world.add_phone(&format!("sip:u{number}@example.com"));
    }
    for number in 0..20 {
        world.add_phone(&format!("sip:u{number}@example.com"));
    }
    world.run_until(Duration::from_secs(40), |world| {
        world.phones.iter().all(|phone| phone.is_acknowledged(world.now.uptime))
    });
    world
}

#[test]
fn phones_register_and_are_reachable_through_their_server() {
    let mut world = settled(Weather::CALM, 1);
    world.check_reachable();
    let status = world.door().status(world.now);
    assert_eq!((status.users, status.bindings, status.progress.settled), (40, 60, 60));
}

#[test]
fn a_refresh_is_absorbed_and_writes_nothing() {
    let mut world = settled(Weather::CALM, 1);
    let before = *world.door().stats();
    world.run_for(Duration::from_secs(100));
    let after = world.door().stats();
    assert!(after.registers_absorbed >= before.registers_absorbed + 60);
    assert_eq!(after.registers_passed_on, before.registers_passed_on);
}

#[test]
fn after_a_clean_death_everybody_is_reachable_elsewhere_within_a_second() {
    let mut world = settled(Weather::CALM, 1);
    let victims: Vec<usize> =
        (0..60).filter(|&n| world.current_of(&world.phones[n].aor.clone()) == Some(1)).collect();
    assert!(victims.len() > 10, "{} on ucs2", victims.len());
    let before: Vec<_> = (0..60).map(|n| world.current_of(&world.phones[n].aor.clone())).collect();
    world.set_mood(1, Mood::Dead);
    let took = world.run_until(Duration::from_secs(5), |world| {
        let status = world.door().status(world.now);
        status.relocated > 0 && status.progress.settled == 60
    });
    assert!(took < Duration::from_secs(1), "took {took:?}");
    world.check_reachable();
    for (n, before) in before.into_iter().enumerate() {
        let now = world.current_of(&world.phones[n].aor.clone());
        match before {
            Some(1) => assert_ne!(now, Some(1)),
            other => assert_eq!(now, other, "nobody else moves"),
        }
    }
    let refusals = world.phones.iter().flat_map(|p| &p.answers).filter(|a| a.1 != 200).count();
    assert_eq!(refusals, 0, "no phone has noticed");
}

#[test]
fn a_server_that_falls_silent_is_left_after_the_hold() {
    let mut world = settled(Weather::CALM, 2);
    world.set_mood(1, Mood::Hung);
    let down = world.run_until(Duration::from_secs(5), |world| {
        &*world.door().status(world.now).servers[1].state == "down"
    });
    assert!(down <= Duration::from_secs(3), "down after {down:?}");
    assert_eq!(world.door().status(world.now).relocated, 0, "nobody moves within the hold");
    let moved = world.run_until(Duration::from_secs(10), |world| {
        world.door().status(world.now).progress.settled == 60
    });
    assert!(moved >= Duration::from_secs(4), "moved after {moved:?}");
    world.check_reachable();
}

#[test]
fn a_stall_of_one_second_trips_nothing() {
    let mut world = settled(Weather::CALM, 3);
    let events = world.events.len();
    world.set_mood(1, Mood::Hung);
    world.run_for(Duration::from_secs(1));
    world.set_mood(1, Mood::Healthy);
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.events.len(), events, "{:?}", &world.events[events..]);
    world.check_reachable();
}

#[test]
fn while_distribution_is_disabled_nobody_moves_and_the_block_says_why() {
    let mut settings = settings(3, 1000);
    settings.decision.disable_automatic_user_distribution = true;
    settings.decision.grace = Duration::from_secs(60);
    let mut world = World::new(settings, Weather::CALM, 4);
    world.run_for(Duration::from_secs(3));
    let phone = world.add_phone("sip:alice@example.com");
    world.run_for(Duration::from_secs(3));
    let home = world.current_of("sip:alice@example.com").unwrap();
    world.set_mood(home, Mood::Dead);
    world.run_for(Duration::from_secs(5));
    world.phone_acts(phone, Act::Register);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.phones[phone].answers.last().unwrap().1, 200, "held within the grace");
    world.run_for(Duration::from_secs(60));
    world.phone_acts(phone, Act::Register);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.phones[phone].answers.last().unwrap().1, 503, "then blocked");
    assert_eq!(world.door().status(world.now).relocated, 0);
    let status = world.door().status(world.now);
    assert_eq!(status.failovers[0].why_not.as_deref(), Some("distribution_disabled"));
    assert_eq!(status.failovers[0].users, 1, "who would have moved");
}

#[test]
fn a_server_that_comes_back_is_swept_before_it_counts() {
    let mut world = settled(Weather::CALM, 5);
    world.set_mood(1, Mood::Hung);
    world.run_until(Duration::from_secs(20), |world| {
        world.door().status(world.now).progress.settled == 60
            && world.door().status(world.now).relocated > 0
    });
    assert!(!world.held_by(1).is_empty(), "a stopped process keeps what it had");
    world.set_mood(1, Mood::Healthy);
    world.run_until(Duration::from_secs(120), |world| {
        matches!(&*world.door().status(world.now).servers[1].state, "ramp" | "up")
    });
    assert_eq!(world.held_by(1), [], "nothing stale is left there");
    world.check_reachable();
}

#[test]
fn a_restart_of_a_server_that_nobody_saw_is_healed_from_its_boot_id() {
    let mut world = World::new(settings(2, 1000), Weather::CALM, 6);
    for number in 0..20 {
        world.add_phone(&format!("sip:u{number}@example.com"));
    }
    world.run_for(Duration::from_secs(10));
    world.set_mood(0, Mood::Amnesia);
    assert!(world.held_by(0).is_empty());
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.door().status(world.now).relocated, 0);
    world.check_reachable();
}

#[test]
fn a_full_disk_moves_nobody_and_recovers() {
    let mut world = settled(Weather::CALM, 7);
    world.disk_full = true;
    world.set_mood(1, Mood::Dead);
    world.run_for(Duration::from_secs(5));
    let status = world.door().status(world.now);
    assert_eq!(status.relocated, 0, "no record, no move");
    assert!(status.store.is_some(), "an alarm stands");
    world.disk_full = false;
    world.run_until(Duration::from_secs(10), |world| {
        world.door().status(world.now).progress.settled == 60
    });
    assert_eq!(world.door().status(world.now).store, None);
    world.check_reachable();
}

#[test]
fn a_restart_in_half_a_second_is_seen_from_a_refusal_where_no_document_is_served() {
    let mut settings = settings(2, 1000);
    for server in &mut settings.servers {
        server.health_document = HealthDocumentUse::None;
    }
    let mut world = World::new(settings, Weather::CALM, 8);
    for number in 0..20 {
        world.add_phone(&format!("sip:u{number}@example.com"));
    }
    world.run_for(Duration::from_secs(10));
    world.set_mood(0, Mood::Dead);
    world.run_until(Duration::from_secs(1), |world| world.door().stats().unreachable > 0);
    world.set_mood(0, Mood::Healthy);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.door().status(world.now).relocated, 0, "nobody had to move");
    world.check_reachable();
}

#[test]
fn a_phone_that_comes_back_is_not_removed_by_its_own_earlier_unregistration() {
    let mut world = settled(Weather::CALM, 9);
    let phone = 0;
    let server = world.current_of(&world.phones[phone].aor.clone()).unwrap();
    world.set_mood(server, Mood::Dead);
    world.run_for(Duration::from_secs(2));
    let backup = world.current_of(&world.phones[phone].aor.clone()).unwrap();
    world.set_mood(backup, Mood::Hung);
    world.run_for(Duration::from_secs(4));
    // Taken by the door; the server that holds it cannot be told.
    world.phone_acts(phone, Act::Unregister);
    world.run_for(Duration::from_secs(1));
    assert_eq!(world.phones[phone].answers.last().unwrap().1, 200);
    world.set_mood(backup, Mood::Healthy);
    world.phone_acts(phone, Act::Register);
    world.run_for(Duration::from_secs(30));
    assert!(world.phones[phone].is_acknowledged(world.now.uptime));
    world.check_reachable();
}
