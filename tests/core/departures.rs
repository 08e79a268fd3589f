//! Users leave servers by order: a drain, what comes before maintenance, a rebalance.

use std::time::Duration;

use frontdoor::door::{Command, DepartureStatus, Refused};
use frontdoor::recovery::Policy;
use frontdoor::ucserver::Mood;

use crate::world::{Weather, World, settings};

const USERS: usize = 60;
const PACE: u32 = 5;

fn pool(servers: usize, capacity: u32, seed: u64) -> World {
    let recovery =
        Policy { users_per_second: PACE, hold: Duration::from_secs(30), ..Policy::default() };
    let settings = frontdoor::door::Settings { recovery, ..settings(servers, capacity) };
    World::new(settings, Weather::CALM, seed)
}

/// Everybody has a phone and is registered.
fn settled(mut world: World) -> World {
    world.run_for(Duration::from_secs(3));
    for number in 0..USERS {
        world.add_phone(&format!("sip:u{number}@example.com"));
    }
    world.run_until(Duration::from_secs(40), |world| {
        world.phones.iter().all(|phone| phone.is_acknowledged(world.now.uptime))
    });
    world
}

fn drain(world: &mut World, on: bool) -> Result<(), Refused> {
    world.order(&Command::Drain { server: "ucs2".into(), on }).map(drop)
}

fn maintain(world: &mut World, on: bool) -> Result<(), Refused> {
    world.order(&Command::Maintenance { server: "ucs2".into(), on, stay: false }).map(drop)
}

fn assigned(world: &World, server: usize) -> u32 {
    world.door().status(world.now).servers[server].assigned
}

fn state(world: &World) -> String {
    world.door().status(world.now).servers[1].state.to_string()
}

fn last(world: &World) -> DepartureStatus {
    world.door().status(world.now).departures.pop().expect("there was an order")
}

fn nobody_noticed(world: &World, before: &[usize]) {
    for (phone, before) in world.phones.iter().zip(before) {
        let refused = phone.answers.iter().skip(*before).filter(|answer| answer.1 != 200).count();
        assert_eq!(refused, 0, "{} has noticed", phone.aor);
    }
}

fn answers(world: &World) -> Vec<usize> {
    world.phones.iter().map(|phone| phone.answers.len()).collect()
}

#[test]
fn a_drained_server_is_left_at_the_pace_by_everybody_and_they_come_home_afterwards() {
    let mut world = settled(pool(3, 1_000, 1));
    let there = assigned(&world, 1);
    let before = answers(&world);
    drain(&mut world, true).unwrap();
    assert_eq!(drain(&mut world, true), Err(Refused::NothingToDo));
    assert_eq!(state(&world), "drain");
    let took = world.run_until(Duration::from_secs(60), |world| assigned(world, 1) == 0);
    // Two targets, each at its pace, and a tenth of a second may have been saved up.
    let least = Duration::from_secs(1) / PACE * (there / 2 - 1);
    assert!(took >= least - Duration::from_millis(200), "{there} users left in {took:?}");
    world.run_for(Duration::from_secs(6));
    let over = last(&world);
    assert_eq!((&*over.state, &*over.cause, over.moved), ("empty", "drain", u64::from(there)));
    assert_eq!((over.bindings, over.arrived, over.left), (u64::from(there), u64::from(there), 0));
    assert!(world.held_by(1).is_empty(), "the old server is cleaned");
    world.check_reachable();
    // Who comes now goes elsewhere.
    for number in 0..10 {
        world.add_phone(&format!("sip:late{number}@example.com"));
    }
    world.run_for(Duration::from_secs(10));
    assert_eq!(assigned(&world, 1), 0);

    drain(&mut world, false).unwrap();
    assert_eq!(state(&world), "ramp");
    world
        .run_until(Duration::from_secs(600), |world| world.door().status(world.now).relocated == 0);
    assert_eq!(assigned(&world, 1), there);
    world.run_for(Duration::from_secs(5));
    world.check_reachable();
    nobody_noticed(&world, &before);
}

#[test]
fn a_server_that_dies_while_it_is_drained_is_failed_over_and_drains_again_when_it_is_back() {
    let mut world = settled(pool(3, 1_000, 2));
    let there = assigned(&world, 1);
    drain(&mut world, true).unwrap();
    world.run_for(Duration::from_millis(500));
    world.set_mood(1, Mood::Dead);
    let took = world.run_until(Duration::from_secs(5), |world| assigned(world, 1) == 0);
    assert!(took < Duration::from_secs(3), "{there} users at no pace but the servers': {took:?}");
    world.run_for(Duration::from_secs(5));
    world.check_reachable();
    world.set_mood(1, Mood::Healthy);
    world.run_until(Duration::from_secs(120), |world| state(world) == "drain");
    world.run_for(Duration::from_secs(300));
    assert_eq!((&*state(&world), assigned(&world, 1)), ("drain", 0), "nobody returns");
    drain(&mut world, false).unwrap();
    world
        .run_until(Duration::from_secs(600), |world| world.door().status(world.now).relocated == 0);
    world.check_reachable();
}

#[test]
fn a_drain_that_ends_while_its_server_is_down_leaves_a_server_like_any_other() {
    let mut world = settled(pool(3, 1_000, 3));
    drain(&mut world, true).unwrap();
    world.run_for(Duration::from_secs(30));
    // Back within the hold it would be what it was: but that it is no longer.
    world.set_mood(1, Mood::Hung);
    world.run_until(Duration::from_secs(5), |world| state(world) == "down");
    drain(&mut world, false).unwrap();
    world.set_mood(1, Mood::Healthy);
    world.run_until(Duration::from_secs(180), |world| state(world) == "up");
}

#[test]
fn without_room_elsewhere_the_drain_waits_and_says_why() {
    let mut world = settled(pool(2, 40, 4));
    drain(&mut world, true).unwrap();
    world.run_for(Duration::from_secs(30));
    let waits = last(&world);
    assert_eq!((&*waits.state, waits.because.as_deref()), ("waiting", Some("no_room")));
    // A server without room has a low score, too.
    let because: Vec<(&str, u64)> =
        waits.unplaced_because.iter().map(|(why, many)| (&**why, *many)).collect();
    assert_eq!(because, [("score", 20)]);
    assert_eq!((assigned(&world, 0), u64::from(assigned(&world, 1))), (40, waits.left));
    assert_eq!((waits.left, waits.unplaced), (20, 20));
    // Somebody goes, and somebody else has a place; the ones who are left are served.
    world.check_reachable();
    drain(&mut world, false).unwrap();
    assert_eq!(&*last(&world).state, "ended");
    world.check_reachable();
}

#[test]
fn nobody_is_sent_off_while_the_network_is_suspected() {
    let mut world = settled(pool(3, 1_000, 5));
    for server in [0, 2] {
        world.set_mood(server, Mood::Hung);
    }
    world.run_until(Duration::from_secs(10), |world| {
        world.door().status(world.now).suspicion.is_some()
    });
    let there = assigned(&world, 1);
    drain(&mut world, true).unwrap();
    world.run_for(Duration::from_secs(20));
    assert_eq!(assigned(&world, 1), there);
    assert_eq!(last(&world).because.as_deref(), Some("suspicion"));
    for server in [0, 2] {
        world.set_mood(server, Mood::Healthy);
    }
    world.run_until(Duration::from_secs(60), |world| assigned(world, 1) == 0);
    world.run_for(Duration::from_secs(5));
    world.check_reachable();
}

#[test]
fn under_maintenance_users_leave_even_a_server_that_is_dead() {
    let mut world = settled(pool(3, 1_000, 6));
    let there = assigned(&world, 1);
    maintain(&mut world, true).unwrap();
    assert!(matches!(drain(&mut world, true), Err(Refused::NotNow(_))));
    world.set_mood(1, Mood::Dead);
    world.run_until(Duration::from_secs(60), |world| assigned(world, 1) == 0);
    assert_eq!((&*last(&world).cause, last(&world).moved), ("maintenance", u64::from(there)));
    world.run_for(Duration::from_secs(5));
    world.check_reachable();
    world.set_mood(1, Mood::Healthy);
    world.run_for(Duration::from_secs(120));
    assert_eq!((&*state(&world), assigned(&world, 1)), ("maintenance", 0), "nobody returns");
    maintain(&mut world, false).unwrap();
    world
        .run_until(Duration::from_secs(600), |world| world.door().status(world.now).relocated == 0);
    world.run_for(Duration::from_secs(5));
    world.check_reachable();
}

#[test]
fn who_was_to_stay_may_be_told_to_leave_after_all() {
    let mut world = settled(pool(3, 1_000, 7));
    let there = assigned(&world, 1);
    let stay = Command::Maintenance { server: "ucs2".into(), on: true, stay: true };
    world.order(&stay).unwrap();
    assert_eq!(world.order(&stay).map(drop), Err(Refused::NothingToDo));
    world.run_for(Duration::from_secs(30));
    assert_eq!(assigned(&world, 1), there);
    maintain(&mut world, true).unwrap();
    world.run_until(Duration::from_secs(60), |world| assigned(world, 1) == 0);
}

#[test]
fn a_full_disk_holds_everybody_where_they_are_until_there_is_room() {
    let mut world = settled(pool(3, 1_000, 8));
    let there = assigned(&world, 1);
    world.disk_full = true;
    drain(&mut world, true).unwrap();
    world.run_for(Duration::from_secs(30));
    assert_eq!(assigned(&world, 1), there);
    world.check_reachable();
    world.disk_full = false;
    world.run_until(Duration::from_secs(60), |world| assigned(world, 1) == 0);
    world.run_for(Duration::from_secs(5));
    world.check_reachable();
}

#[test]
fn a_door_that_dies_in_the_middle_has_forgotten_the_order_and_nobody() {
    let mut world = settled(pool(3, 1_000, 9));
    let there = assigned(&world, 1);
    drain(&mut world, true).unwrap();
    world.run_until(Duration::from_secs(10), |world| assigned(world, 1) < there / 2);
    world.restart_door();
    world.run_for(Duration::from_secs(60));
    assert_eq!(state(&world), "up");
    world
        .run_until(Duration::from_secs(600), |world| world.door().status(world.now).relocated == 0);
    assert_eq!(assigned(&world, 1), there);
    world.run_for(Duration::from_secs(5));
    world.check_reachable();
}

/// The third server was dead when everybody got their home.
fn lopsided(seed: u64) -> World {
    let mut world = pool(3, 1_000, seed);
    world.set_mood(2, Mood::Dead);
    let mut world = settled(world);
    assert_eq!(assigned(&world, 2), 0);
    world.set_mood(2, Mood::Healthy);
    world.run_until(Duration::from_secs(180), |world| {
        world.door().status(world.now).servers.iter().all(|server| &*server.state == "up")
    });
    world
}

#[test]
fn a_server_that_joins_gets_strangers_only_until_homes_are_spread() {
    let mut world = lopsided(10);
    let before = answers(&world);
    world.run_for(Duration::from_secs(60));
    assert_eq!(assigned(&world, 2), 0);
    let plan = world.door().rebalance_plan((0, 1_000));
    let share = USERS as u64 / 3;
    assert_eq!((plan.users, plan.why_not.as_deref()), (share, None));
    assert_eq!(plan.seconds, share.div_ceil(u64::from(PACE)));
    assert!(plan.moves.iter().all(|step| &*step.to == "ucs3"));
    world.order(&Command::Rebalance).unwrap();
    assert!(matches!(world.order(&Command::Rebalance), Err(Refused::NotNow(_))));
    world.run_until(Duration::from_secs(60), |world| last(world).ended_nanos > 0);
    let over = last(&world);
    assert_eq!((&*over.state, over.moved, over.stayed), ("done", share, 0));
    for step in &plan.moves {
        let user = world.door().user(world.now, &step.user).unwrap();
        assert_eq!((user.home.as_deref(), user.current.as_deref()), (Some("ucs3"), Some("ucs3")));
    }
    assert_eq!(world.door().status(world.now).relocated, 0, "this is home");
    world.run_for(Duration::from_secs(6));
    world.check_reachable();
    nobody_noticed(&world, &before);
    assert_eq!(world.order(&Command::Rebalance).map(drop), Err(Refused::NothingToDo));
    // And so it is after a restart.
    world.restart_door();
    world.run_for(Duration::from_secs(30));
    world.check_shown();
    world.check_reachable();
}

#[test]
fn homes_are_not_spread_in_a_pool_that_is_unwell() {
    let mut world = lopsided(11);
    world.set_mood(0, Mood::Dead);
    world.run_for(Duration::from_secs(10));
    let why = world.door().rebalance_plan((0, 0)).why_not.unwrap();
    assert_eq!(&*why, "ucs1 is down: wait until it is up");
    assert!(matches!(world.order(&Command::Rebalance), Err(Refused::NotNow(_))));
    assert_eq!(world.order(&Command::StopRebalance).map(drop), Err(Refused::NothingToDo));
    world.set_mood(0, Mood::Healthy);
    world.run_until(Duration::from_secs(120), |world| {
        world.door().rebalance_plan((0, 0)).why_not.is_some_and(|why| why.contains("away"))
    });
    world.run_until(Duration::from_secs(600), |world| {
        world.door().rebalance_plan((0, 0)).why_not.is_none()
    });
}

#[test]
fn a_rebalance_ends_where_a_server_dies_and_nobody_is_in_between() {
    let mut world = lopsided(12);
    world.order(&Command::Rebalance).unwrap();
    world.run_until(Duration::from_secs(10), |world| last(world).moved >= 5);
    world.set_mood(2, Mood::Dead);
    world.run_until(Duration::from_secs(10), |world| last(world).ended_nanos > 0);
    let over = last(&world);
    assert_eq!((&*over.state, over.because.as_deref()), ("stopped", Some("pool_unwell")));
    assert_eq!(over.moved + over.stayed, over.users);
    world.run_for(Duration::from_secs(20));
    world.check_reachable();
}

#[test]
fn a_rebalance_can_be_stopped_and_the_others_keep_their_home() {
    let mut world = lopsided(13);
    world.order(&Command::Rebalance).unwrap();
    world.run_until(Duration::from_secs(10), |world| last(world).moved >= 5);
    world.order(&Command::StopRebalance).unwrap();
    world.run_for(Duration::from_secs(30));
    let over = last(&world);
    assert_eq!((&*over.state, over.because.as_deref()), ("stopped", Some("ordered")));
    assert_eq!(u64::from(assigned(&world, 2)), over.moved);
    world.check_reachable();
}
