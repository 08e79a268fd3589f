//! A server is back: its users come home in stages, paced, and nobody notices.

use std::time::Duration;

use frontdoor::door::{Command, Refused, ReturnStatus};
use frontdoor::recovery::{ActiveSession, Policy, Window};
use frontdoor::ucserver::Mood;

use crate::phone::Act;
use crate::world::{Weather, World, settings};

const USERS: usize = 60;
/// Probation, ramp, and a little.
const HEALTHY_AFTER: Duration = Duration::from_secs(95);

fn policy() -> Policy {
    Policy { users_per_second: 10, ..Policy::default() }
}

/// Three servers; everybody is registered, ucs2 has died, and its users are elsewhere. How many.
fn away(recovery: Policy, seed: u64) -> (World, usize) {
    let mut world = World::new(
        frontdoor::door::Settings { recovery, ..settings(3, 1000) },
        Weather::CALM,
        seed,
    );
    world.run_for(Duration::from_secs(3));
    for number in 0..USERS {
        world.add_phone(&format!("sip:u{number}@example.com"));
    }
    world.run_until(Duration::from_secs(40), |world| {
        world.phones.iter().all(|phone| phone.is_acknowledged(world.now.uptime))
    });
    world.set_mood(1, Mood::Dead);
    world.run_until(Duration::from_secs(10), |world| {
        let status = world.door().status(world.now);
        status.relocated > 0 && status.progress.settled == USERS as u64
    });
    let away = world.door().status(world.now).relocated as usize;
    assert!(away > 10, "{away} on ucs2");
    (world, away)
}

fn order(world: &mut World, command: Command) -> Result<(), Refused> {
    world.order(&command).map(drop)
}

fn relocated(world: &World) -> usize {
    world.door().status(world.now).relocated as usize
}

fn last_return(world: &World) -> Option<ReturnStatus> {
    world.door().status(world.now).recovery.returns.pop()
}

fn stay_because(world: &World) -> Option<String> {
    let homes = world.door().status(world.now).recovery.homes;
    homes.first().and_then(|home| home.stay_because.as_deref().map(str::to_owned))
}

/// Until a return of ucs2 is over.
fn run_return(world: &mut World) -> ReturnStatus {
    world.run_until(Duration::from_secs(900), |world| {
        last_return(world).is_some_and(|last| last.ended_nanos > 0)
    });
    last_return(world).unwrap()
}

#[test]
fn everybody_comes_home_in_stages_and_no_phone_notices() {
    let (mut world, away) = away(policy(), 1);
    let answers: Vec<usize> = world.phones.iter().map(|phone| phone.answers.len()).collect();
    world.set_mood(1, Mood::Healthy);
    world.run_for(HEALTHY_AFTER + Duration::from_secs(280));
    assert_eq!((relocated(&world), stay_because(&world).as_deref()), (away, Some("within_hold")));
    let began = |world: &World| last_return(world).is_some();
    world.run_until(Duration::from_secs(60), began);
    // One user, then a look of half a minute at what becomes of it.
    world.run_for(Duration::from_secs(20));
    assert_eq!(relocated(&world), away - 1);
    let over = run_return(&mut world);
    assert_eq!((&*over.state, over.stage, over.stages), ("done", 4, 4));
    assert_eq!((over.users, over.returned, over.stay), (away as u64, away as u64, 0));
    assert_eq!((over.bindings, over.arrived), (away as u64, away as u64));
    assert_eq!(relocated(&world), 0);
    world.run_for(Duration::from_secs(5));
    world.check_reachable();
    for (phone, before) in world.phones.iter().zip(answers) {
        let refused = phone.answers.iter().skip(before).filter(|answer| answer.1 != 200).count();
        assert_eq!(refused, 0, "{} has noticed", phone.aor);
    }
}

#[test]
fn nobody_goes_faster_than_the_home_may_take() {
    let pace = Policy { users_per_second: 2, stages: vec![100], ..policy() };
    let (mut world, away) = away(pace, 2);
    world.set_mood(1, Mood::Healthy);
    let over = run_return(&mut world);
    assert_eq!((&*over.state, over.returned), ("done", away as u64));
    let first = world.homeward.first().unwrap().0;
    let last = world.homeward.last().unwrap().0;
    let least = Duration::from_millis(500) * (away as u32 - 2);
    assert!(last.since(first) >= least, "{away} users in {:?}", last.since(first));
}

#[test]
fn a_home_that_dies_in_between_keeps_nobody_and_gets_no_more() {
    let (mut world, away) = away(policy(), 3);
    world.set_mood(1, Mood::Healthy);
    world.run_until(Duration::from_secs(600), |world| relocated(world) == away - 1);
    world.set_mood(1, Mood::Dead);
    let over = run_return(&mut world);
    assert_eq!((&*over.state, over.stopped_because.as_deref()), ("stopped", Some("home_down")));
    assert_eq!((over.returned, over.stay), (1, away as u64 - 1));
    world.run_for(Duration::from_secs(5));
    assert_eq!(relocated(&world), away, "the one who was home is saved again");
    world.check_reachable();
    // And when it is back for good, so is everybody.
    world.set_mood(1, Mood::Healthy);
    world.run_until(Duration::from_secs(900), |world| relocated(world) == 0);
    world.run_for(Duration::from_secs(5));
    world.check_reachable();
}

#[test]
fn a_home_that_answers_with_failures_gets_no_more() {
    let (mut world, away) = away(policy(), 4);
    world.set_mood(1, Mood::Healthy);
    world.run_until(Duration::from_secs(600), |world| relocated(world) == away - 1);
    world.set_mood(1, Mood::Errors);
    let over = run_return(&mut world);
    assert_eq!(&*over.state, "stopped");
    assert_eq!(over.returned, 1);
    assert!(over.stay > 0);
    world.set_mood(1, Mood::Healthy);
    world.run_until(Duration::from_secs(1500), |world| relocated(world) == 0);
    world.check_reachable();
}

#[test]
fn a_backup_that_dies_while_hosting_sends_its_guests_on_and_their_home_stays() {
    let (mut world, away) = away(policy(), 5);
    world.set_mood(2, Mood::Dead);
    world.run_until(Duration::from_secs(20), |world| {
        let status = world.door().status(world.now);
        status.servers[2].assigned == 0 && status.progress.settled == USERS as u64
    });
    assert!(relocated(&world) > away);
    for user in world.users() {
        assert_eq!(user.current.as_deref(), Some("ucs1"));
    }
    world.set_mood(1, Mood::Healthy);
    world.set_mood(2, Mood::Healthy);
    world.run_until(Duration::from_secs(1500), |world| relocated(world) == 0);
    world.run_for(Duration::from_secs(5));
    world.check_reachable();
}

#[test]
fn while_distribution_is_disabled_users_stay_unless_they_are_sent() {
    let (mut world, away) = away(policy(), 6);
    world.settings.decision.disable_automatic_user_distribution = true;
    world.set_mood(1, Mood::Healthy);
    world.restart_door();
    world.run_for(Duration::from_secs(900));
    assert_eq!(relocated(&world), away);
    assert_eq!(stay_because(&world).as_deref(), Some("distribution_disabled"));
    order(&mut world, Command::ReturnServer("ucs2".into())).unwrap();
    let over = run_return(&mut world);
    assert_eq!((&*over.state, over.by_hand, over.returned), ("done", true, away as u64));
}

#[test]
fn a_return_is_paused_and_goes_on() {
    let (mut world, away) = away(policy(), 7);
    world.set_mood(1, Mood::Healthy);
    world.run_until(Duration::from_secs(600), |world| relocated(world) == away - 1);
    order(&mut world, Command::PauseRecovery).unwrap();
    assert!(matches!(order(&mut world, Command::PauseRecovery), Err(Refused::NothingToDo)));
    let over = run_return(&mut world);
    assert_eq!(over.stopped_because.as_deref(), Some("paused"));
    world.run_for(Duration::from_secs(900));
    assert_eq!((relocated(&world), stay_because(&world).as_deref()), (away - 1, Some("paused")));
    order(&mut world, Command::ResumeRecovery).unwrap();
    world.run_until(Duration::from_secs(300), |world| relocated(world) == 0);
}

#[test]
fn a_door_that_dies_in_between_goes_on_with_who_is_left() {
    let (mut world, away) = away(policy(), 8);
    world.set_mood(1, Mood::Healthy);
    world.run_until(Duration::from_secs(700), |world| relocated(world) < away - 3);
    world.restart_door();
    world.run_until(Duration::from_secs(900), |world| relocated(world) == 0);
    world.run_for(Duration::from_secs(70));
    world.check_reachable();
    assert_eq!(last_return(&world).unwrap().state.as_ref(), "done");
}

#[test]
fn a_full_disk_stops_a_return_and_moves_nobody() {
    let (mut world, away) = away(policy(), 9);
    world.set_mood(1, Mood::Healthy);
    world.run_until(Duration::from_secs(600), |world| relocated(world) == away - 1);
    world.disk_full = true;
    let over = run_return(&mut world);
    assert_eq!((over.stopped_because.as_deref(), over.returned), (Some("store"), 1));
    assert_eq!(relocated(&world), away - 1);
    world.disk_full = false;
    world.run_until(Duration::from_secs(900), |world| relocated(world) == 0);
    world.run_for(Duration::from_secs(5));
    world.check_reachable();
}

#[test]
fn a_return_waits_for_its_time_of_day() {
    // The world begins at 13:37 UTC.
    let window = Window { from: 14 * 60 + 10, to: 16 * 60 };
    let (mut world, away) = away(Policy { windows: vec![window], ..policy() }, 10);
    world.set_mood(1, Mood::Healthy);
    world.run_for(Duration::from_secs(1_200));
    assert_eq!(
        (relocated(&world), stay_because(&world).as_deref()),
        (away, Some("outside_window"))
    );
    world.run_for(Duration::from_secs(1_200));
    assert_eq!(relocated(&world), 0);
}

#[test]
fn who_is_registered_stays_where_any_session_counts() {
    let any = Policy { active_session: ActiveSession::Any, ..policy() };
    let (mut world, away) = away(any, 11);
    let (number, _) = world
        .phones
        .iter()
        .enumerate()
        .find(|(_, phone)| {
            let user = world.door().user(world.now, &phone.aor).unwrap();
            user.current != user.home
        })
        .unwrap();
    world.phone_acts(number, Act::Unregister);
    world.set_mood(1, Mood::Healthy);
    let over = run_return(&mut world);
    assert_eq!((over.returned, over.active), (1, away as u64 - 1));
    assert_eq!(relocated(&world), away - 1);
}

#[test]
fn nobody_is_brought_home_in_the_middle_of_something() {
    let (mut world, away) = away(policy(), 13);
    world.set_mood(1, Mood::Healthy);
    world.run_for(HEALTHY_AFTER);
    // One of them is elsewhere with a new phone, and the backup takes its time to answer.
    let moved = world.relocations().remove(0);
    let number = world.phones.iter().position(|phone| phone.aor == *moved.user).unwrap();
    let backup = world.current_of(&moved.user).unwrap();
    world.set_mood(backup, Mood::Slow { delay: Duration::from_millis(800) });
    world.roam(number);
    world.run_for(Duration::from_millis(5));
    order(&mut world, Command::ReturnServer("ucs2".into())).unwrap();
    let begun = last_return(&world).unwrap();
    assert_eq!((begun.active, begun.users), (1, away as u64 - 1));
    world.run_until(Duration::from_secs(300), |world| relocated(world) == 1);
    assert_eq!(world.current_of(&moved.user), Some(backup), "where it was in the middle of it");
    assert!(world.phones[number].is_acknowledged(world.now.uptime), "and was not disturbed");
    // With the next return they come home, too.
    world.set_mood(backup, Mood::Healthy);
    world.run_until(Duration::from_secs(900), |world| relocated(world) == 0);
    world.run_for(Duration::from_secs(5));
    world.check_reachable();
}

#[test]
fn who_cannot_be_sent_home_is_told_why() {
    let (mut world, away) = away(policy(), 12);
    let send = |world: &mut World, name: &str| {
        order(world, Command::ReturnServer(name.into())).map_err(|why| why.to_string())
    };
    let no_such = "there is no server \"ucs9\"; there are ucs1, ucs2, ucs3";
    assert_eq!(send(&mut world, "ucs9").unwrap_err(), no_such);
    assert_eq!(send(&mut world, "ucs2").unwrap_err(), "nobody is sent there now: home_down");
    assert_eq!(send(&mut world, "ucs1").unwrap_err(), "nobody is away from there");
    let user = world.relocations().remove(0);
    assert_eq!((&*user.origin, &*user.why), ("ucs2", "failover"));
    let one = Command::ReturnUser(user.user.to_string());
    assert!(matches!(order(&mut world, one.clone()), Err(Refused::NotNow(_))));
    assert_eq!(order(&mut world, Command::ReturnUser("x".into())), Err(Refused::NoSuchUser));
    world.set_mood(1, Mood::Healthy);
    world.run_for(HEALTHY_AFTER);
    order(&mut world, one.clone()).unwrap();
    world.run_for(Duration::from_secs(1));
    assert_eq!(relocated(&world), away - 1);
    assert!(matches!(order(&mut world, one), Err(Refused::NotNow(_))), "at home already");
    send(&mut world, "ucs2").unwrap();
    let under_way = "a return to this server is under way already";
    assert_eq!(send(&mut world, "ucs2").unwrap_err(), under_way);
    let over = run_return(&mut world);
    assert_eq!(over.returned, away as u64 - 1);
    assert!(world.relocations().is_empty());
}
