//! What is told of failovers, drills and returns when they are over (O5).

use std::time::{Duration, SystemTime};

use frontdoor::door::{Command, Refused, Report};
use frontdoor::recovery::Policy;
use frontdoor::ucserver::Mood;

use crate::world::{Weather, World, settings};

const USERS: u64 = 60;

fn pool(servers: usize, capacity: u32) -> World {
    let recovery = Policy { hold: Duration::from_secs(30), ..Policy::default() };
    let settings = frontdoor::door::Settings { recovery, ..settings(servers, capacity) };
    let mut world = World::new(settings, Weather::CALM, 7);
    world.run_for(Duration::from_secs(3));
    for number in 0..USERS {
        world.add_phone(&format!("sip:u{number}@example.com"));
    }
    world.run_until(Duration::from_secs(40), |world| {
        world.phones.iter().all(|phone| phone.is_acknowledged(world.now.uptime))
    });
    world
}

fn told(world: &mut World, within: u64, kind: &str, outcome: &str) -> Report {
    let is_it = |report: &&Report| &*report.kind == kind && &*report.outcome == outcome;
    world.run_until(Duration::from_secs(within), |world| world.reports.iter().any(|it| is_it(&it)));
    world.reports.iter().rfind(is_it).cloned().expect("it has just come")
}

fn assigned(world: &World, server: usize) -> u64 {
    world.door().status(world.now).servers[server].assigned.into()
}

fn drill(world: &mut World) -> Result<(), Refused> {
    world.order(&Command::Drill("ucs2".into())).map(drop)
}

#[test]
fn a_failover_is_told_with_its_fault_its_plan_and_its_outcome() {
    let mut world = pool(3, 1_000);
    let there = assigned(&world, 1);
    world.set_mood(1, Mood::Hung);
    let report = told(&mut world, 30, "failover", "done");
    let fault = report.fault.expect("there was one");
    assert_eq!((&*report.server, &*fault.proof, fault.hold_ms), ("ucs2", "silence", 5_000));
    assert!(fault.signals[0].contains("probes in a row without any answer"), "{fault:?}");
    assert!((1_000..=3_000).contains(&fault.detection_ms), "{fault:?}");
    assert_eq!((report.users, report.bindings, report.registered), (there, there, there));
    assert!(report.planned_ms >= Some(5_000) && report.recorded_ms >= report.planned_ms);
    assert!(report.first_ms >= report.planned_ms && report.last_ms >= report.first_ms);
    let targets: Vec<_> = report.targets.iter().map(|it| (&*it.server, it.users)).collect();
    assert_eq!(targets.iter().map(|&(name, _)| name).collect::<Vec<_>>(), ["ucs1", "ucs3"]);
    assert_eq!(targets.iter().map(|&(_, users)| users).sum::<u64>(), there);
    assert!(report.peak_per_s > 0 && report.peak_per_s <= there);
    assert!(report.targets.iter().all(|it| it.in_flight_peak > 0 && it.capacity == 1_000));
}

#[test]
fn a_return_is_told_with_its_stages_also_one_that_stops() {
    let mut world = pool(3, 1_000);
    let there = assigned(&world, 1);
    world.set_mood(1, Mood::Dead);
    told(&mut world, 30, "failover", "done");
    world.set_mood(1, Mood::Healthy);
    let report = told(&mut world, 600, "return", "done");
    assert_eq!((&*report.server, report.users, report.registered), ("ucs2", there, there));
    assert_eq!(report.stages.iter().map(|it| it.users).sum::<u64>(), there);
    assert_eq!(report.stages.iter().map(|it| it.arrived).sum::<u64>(), there);
    assert_eq!(report.stages[0].users, 1, "the first stage is small");
    assert!(report.stages.is_sorted_by_key(|it| (it.stage, it.judged_ms)), "{report:#?}");

    world.reports.clear();
    world.set_mood(1, Mood::Dead);
    told(&mut world, 30, "failover", "done");
    world.set_mood(1, Mood::Healthy);
    let away = world.door().status(world.now).relocated;
    world.run_until(Duration::from_secs(900), |world| {
        world.door().status(world.now).relocated < away
    });
    world.set_mood(1, Mood::Dead);
    let report = told(&mut world, 60, "return", "stopped");
    assert!(report.because.is_some() && report.stages.len() < 4, "{report:#?}");
}

#[test]
fn nobody_moved_is_a_story_too() {
    let mut world = pool(3, 1_000);
    let there = assigned(&world, 1);
    world.settings.decision.disable_automatic_user_distribution = true;
    world.restart_door();
    world.run_for(Duration::from_secs(5));
    world.set_mood(1, Mood::Dead);
    let report = told(&mut world, 30, "failover", "withheld");
    assert_eq!(report.because.as_deref(), Some("distribution_disabled"));
    assert_eq!((report.users, report.bindings), (there, 0));
}

#[test]
fn who_has_no_place_is_told_and_why() {
    let mut world = pool(2, 50);
    let there = assigned(&world, 1);
    world.set_mood(1, Mood::Dead);
    let report = told(&mut world, 90, "failover", "open");
    assert_eq!(report.users + report.unplaced, there, "{report:#?}");
    assert_eq!(report.unplaced_because.values().sum::<u64>(), report.unplaced);
    assert!(report.unplaced > 0 && report.because.is_none());
}

#[test]
fn the_same_story_keeps_its_id_when_the_clock_jumps_and_it_goes_on() {
    let mut world = pool(3, 1_000);
    world.set_mood(1, Mood::Hung);
    world.run_for(Duration::from_secs(9));
    let began = world.now.wall;
    world.set_clock(SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000));
    let report = told(&mut world, 30, "failover", "done");
    let since = began.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64;
    assert!(report.began_unix_ms <= since && report.began_unix_ms + 10_000 > since);
    assert!(report.written_unix_ms >= 4_000_000_000_000);
}

#[test]
fn a_drill_is_a_failover_that_ends_with_everybody_at_home() {
    let mut world = pool(3, 1_000);
    let there = assigned(&world, 1);
    drill(&mut world).unwrap();
    let refused = drill(&mut world).unwrap_err();
    assert!(refused.to_string().contains("ucs2 is down"), "{refused}");
    let report = told(&mut world, 30, "drill", "done");
    assert_eq!((report.users, report.registered), (there, there));
    let fault = report.fault.unwrap();
    assert_eq!((&*fault.proof, fault.detection_ms, fault.hold_ms), ("drill", 0, 0));
    let report = told(&mut world, 900, "return", "done");
    assert_eq!(report.registered, there);
    world.check_reachable();
    assert!(world.phones.iter().all(|phone| phone.answers.iter().all(|it| it.1 == 200)));
}

#[test]
fn a_drill_ends_when_something_fails_in_earnest() {
    let mut world = pool(3, 1_000);
    drill(&mut world).unwrap();
    world.set_mood(0, Mood::Dead);
    world.run_for(Duration::from_secs(3));
    assert_eq!(&*world.door().status(world.now).servers[1].state, "probation");
    // The server that is drilled itself dies: then it is down for as long as it is.
    world.set_mood(0, Mood::Healthy);
    world.run_until(Duration::from_secs(900), |world| {
        let status = world.door().status(world.now);
        status.relocated == 0 && status.servers.iter().all(|server| &*server.state == "up")
    });
    drill(&mut world).unwrap();
    world.set_mood(1, Mood::Dead);
    world.run_for(Duration::from_secs(30));
    assert_eq!(&*world.door().status(world.now).servers[1].state, "down");
    world.set_mood(1, Mood::Healthy);
    world.run_for(Duration::from_secs(30));
    assert_ne!(&*world.door().status(world.now).servers[1].state, "down");
}

#[test]
fn a_drill_that_could_be_more_than_one_is_refused() {
    let why = |world: &mut World| drill(world).unwrap_err().to_string();
    let mut world = pool(2, 50);
    assert!(why(&mut world).contains("users would have nowhere to go"));
    let mut world = pool(3, 1_000);
    let unknown = world.order(&Command::Drill("ucs9".into())).unwrap_err();
    assert!(unknown.to_string().contains("ucs1, ucs2, ucs3"), "{unknown}");
    world.set_mood(2, Mood::Dead);
    world.run_for(Duration::from_secs(3));
    assert!(why(&mut world).contains("ucs3 is down"));
    let mut world = pool(3, 1_000);
    world.settings.decision.disable_automatic_user_distribution = true;
    world.restart_door();
    world.run_for(Duration::from_secs(5));
    assert!(why(&mut world).contains("automatic distribution is disabled"));
}
