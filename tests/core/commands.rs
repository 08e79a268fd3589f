//! What an operator tells a running door, and what it then does.

use std::time::Duration;

use frontdoor::door::{Command, Done, Event, Refused, Settings, UserStatus};
use frontdoor::ucserver::Mood;

use crate::phone::Act;
use crate::world::{Weather, World, settings};

const USERS: usize = 30;

/// Three servers, and everybody registered.
fn registered(seed: u64) -> World {
    registered_with(settings(3, 1000), seed)
}

fn registered_with(settings: Settings, seed: u64) -> World {
    let mut world = World::new(settings, Weather::CALM, seed);
    world.run_for(Duration::from_secs(3));
    for number in 0..USERS {
        world.add_phone(&format!("sip:u{number}@example.com"));
    }
    world.run_until(Duration::from_secs(40), |world| {
        world.phones.iter().all(|phone| phone.is_acknowledged(world.now.uptime))
    });
    world
}

fn order(world: &mut World, command: &Command) -> Result<Done, Refused> {
    world.order(command)
}

fn home(user: &str, home: &str) -> Command {
    Command::SetHome { user: user.into(), home: home.into() }
}

/// Gives the order and waits until the store has answered.
fn set_home(world: &mut World, user: &str, server: &str) -> Result<(), Refused> {
    let Done::WhenDurable(ticket) = order(world, &home(user, server))? else {
        panic!("told before it is durable");
    };
    assert!(!world.told.contains_key(&ticket), "told before it is durable");
    world.run_until(Duration::from_secs(5), |world| world.told.contains_key(&ticket));
    world.told.remove(&ticket).unwrap()
}

fn user(world: &World, name: &str) -> UserStatus {
    world.door().user(world.now, name).unwrap()
}

/// Home, current, and why they are not the same.
fn places(world: &World, name: &str) -> (String, String, Option<String>) {
    let user = user(world, name);
    let why = world.relocations().into_iter().find(|away| away.user == user.name);
    let why = why.map(|away| {
        assert_eq!(Some(&away.origin), user.home.as_ref(), "the origin is the home");
        away.why.to_string()
    });
    (user.home.unwrap().to_string(), user.current.unwrap().to_string(), why)
}

fn as_is(home: &str, current: &str, why: Option<&str>) -> (String, String, Option<String>) {
    (home.into(), current.into(), why.map(str::to_owned))
}

/// Somebody who is at home at `server`, by number.
fn somebody_at(world: &World, server: &str) -> usize {
    let found = (0..USERS).find(|number| {
        user(world, &format!("sip:u{number}@example.com")).current.as_deref() == Some(server)
    });
    found.expect("somebody is there")
}

fn aor(number: usize) -> String {
    format!("sip:u{number}@example.com")
}

#[test]
fn another_home_moves_no_registered_phone_and_counts_at_the_next_login() {
    let mut world = registered(1);
    let number = somebody_at(&world, "ucs1");
    let name = aor(number);
    assert_eq!(set_home(&mut world, &name, "ucs2"), Ok(()));
    assert_eq!(places(&world, &name), as_is("ucs2", "ucs1", Some("manual")));

    // A refresh is no login, and neither is a second phone while the first one is registered.
    world.phone_acts(number, Act::Register);
    let second = world.add_phone(&name);
    world.run_until(Duration::from_secs(10), |world| {
        world.phones[second].is_acknowledged(world.now.uptime)
    });
    assert_eq!(places(&world, &name), as_is("ucs2", "ucs1", Some("manual")));

    world.phone_acts(number, Act::Unregister);
    world.phone_acts(second, Act::Unregister);
    world.run_for(Duration::from_secs(2));
    assert_eq!(places(&world, &name), as_is("ucs2", "ucs1", Some("manual")));
    world.phone_acts(number, Act::Register);
    world.run_for(Duration::from_secs(2));
    assert_eq!(places(&world, &name), as_is("ucs2", "ucs2", None));
    world.check_reachable();
}

#[test]
fn another_home_survives_the_death_of_the_door() {
    let mut world = registered(2);
    let name = aor(somebody_at(&world, "ucs1"));
    assert_eq!(set_home(&mut world, &name, "ucs2"), Ok(()));
    world.restart_door();
    world.run_for(Duration::from_secs(5));
    assert_eq!(places(&world, &name), as_is("ucs2", "ucs1", Some("manual")));
}

#[test]
fn users_with_another_home_go_there_like_everybody_who_is_away() {
    let mut world = registered(3);
    let name = aor(somebody_at(&world, "ucs1"));
    assert_eq!(set_home(&mut world, &name, "ucs2"), Ok(()));
    world.run_until(Duration::from_secs(900), |world| {
        user(world, &name).current.as_deref() == Some("ucs2")
    });
    assert_eq!(places(&world, &name), as_is("ucs2", "ucs2", None));
    world.run_for(Duration::from_secs(5));
    world.check_reachable();
}

#[test]
fn who_has_no_phone_registered_is_served_at_the_new_home_at_once() {
    let mut world = registered(4);
    let number = somebody_at(&world, "ucs1");
    let name = aor(number);
    world.phone_acts(number, Act::Unregister);
    world.run_for(Duration::from_secs(2));
    assert_eq!(set_home(&mut world, &name, "ucs3"), Ok(()));
    assert_eq!(places(&world, &name), as_is("ucs3", "ucs3", None));
    world.phone_acts(number, Act::Register);
    world.run_for(Duration::from_secs(2));
    world.check_reachable();
}

#[test]
fn a_home_that_cannot_serve_gets_nobody_before_it_can() {
    let mut world = registered(5);
    let number = somebody_at(&world, "ucs1");
    let name = aor(number);
    world.phone_acts(number, Act::Unregister);
    world.set_mood(1, Mood::Dead);
    world.run_for(Duration::from_secs(5));
    assert_eq!(set_home(&mut world, &name, "ucs2"), Ok(()));
    assert_eq!(places(&world, &name), as_is("ucs2", "ucs1", Some("manual")));
    world.phone_acts(number, Act::Register);
    world.run_for(Duration::from_secs(2));
    assert_eq!(places(&world, &name), as_is("ucs2", "ucs1", Some("manual")));
    world.check_reachable();
}

#[test]
fn while_relocated_home_and_origin_change_and_the_user_stays() {
    let mut world = registered(6);
    let name = aor(somebody_at(&world, "ucs2"));
    world.set_mood(1, Mood::Dead);
    world.run_until(Duration::from_secs(10), |world| {
        user(world, &name).current.as_deref() != Some("ucs2")
    });
    let (_, current, why) = places(&world, &name);
    assert_eq!(why.as_deref(), Some("failover"));
    let third = if current == "ucs1" { "ucs3" } else { "ucs1" };
    assert_eq!(set_home(&mut world, &name, third), Ok(()));
    assert_eq!(places(&world, &name), as_is(third, &current, Some("failover")));
    assert_eq!(set_home(&mut world, &name, &current), Ok(()), "there they are");
    assert_eq!(places(&world, &name), as_is(&current, &current, None));
}

#[test]
fn an_order_that_cannot_be_carried_out_says_why() {
    let mut world = registered(7);
    let number = somebody_at(&world, "ucs2");
    let name = aor(number);
    assert_eq!(order(&mut world, &home("nobody", "ucs1")), Err(Refused::NoSuchUser));
    let no_server = order(&mut world, &home(&name, "ucs9")).unwrap_err().to_string();
    assert_eq!(no_server, "there is no server \"ucs9\"; there are ucs1, ucs2, ucs3");
    assert_eq!(order(&mut world, &home(&name, "ucs2")), Err(Refused::NothingToDo));
    assert!(matches!(order(&mut world, &home(&name, "ucs1")), Ok(Done::WhenDurable(_))));
    assert_eq!(order(&mut world, &home(&name, "ucs3")), Err(Refused::Busy), "being written");
    world.run_for(Duration::from_secs(1));
    assert_eq!(places(&world, &name), as_is("ucs1", "ucs2", Some("manual")));
}

#[test]
fn an_order_does_not_come_between_a_failover_and_its_record() {
    let mut world = registered(8);
    let name = aor(somebody_at(&world, "ucs2"));
    world.weather.disk = Duration::from_secs(1);
    world.set_mood(1, Mood::Dead);
    let planned = |world: &World| {
        let failovers = world.door().status(world.now).failovers;
        failovers.iter().any(|failover| failover.planned_nanos > 0)
    };
    world.run_until(Duration::from_secs(5), planned);
    assert_eq!(order(&mut world, &home(&name, "ucs1")), Err(Refused::Busy));
    world.run_for(Duration::from_secs(3));
    let (before, current, _) = places(&world, &name);
    assert_eq!((&*before, &*current == "ucs2"), ("ucs2", false));
    let other = if current == "ucs1" { "ucs3" } else { "ucs1" };
    assert_eq!(set_home(&mut world, &name, other), Ok(()));
    assert_eq!(places(&world, &name), as_is(other, &current, Some("failover")));
}

#[test]
fn a_full_disk_changes_nobodys_home_and_it_is_said() {
    let mut world = registered(9);
    let name = aor(somebody_at(&world, "ucs1"));
    world.disk_full = true;
    let refused = set_home(&mut world, &name, "ucs2").unwrap_err();
    assert!(matches!(refused, Refused::NotWritten(_)), "{refused}");
    assert!(refused.to_string().contains("free space"), "{refused}");
    assert_eq!(places(&world, &name), as_is("ucs1", "ucs1", None));
    assert_eq!(world.door().stats().homes_set, 0);
    world.disk_full = false;
    assert_eq!(set_home(&mut world, &name, "ucs2"), Ok(()));
}

fn maintenance(world: &mut World, server: &str, on: bool) -> Result<Done, Refused> {
    order(world, &Command::Maintenance { server: server.into(), on, stay: true })
}

fn relocated(world: &World) -> u64 {
    world.door().status(world.now).relocated
}

fn state(world: &World, server: usize) -> String {
    world.door().status(world.now).servers[server].state.to_string()
}

/// The answers phones got since the numbers in `before`, but for 200.
fn refusals(world: &World, before: &[usize]) -> usize {
    let fresh = world.phones.iter().zip(before);
    fresh
        .map(|(phone, &seen)| phone.answers.iter().skip(seen).filter(|it| it.1 != 200).count())
        .sum()
}

fn answers(world: &World) -> Vec<usize> {
    world.phones.iter().map(|phone| phone.answers.len()).collect()
}

#[test]
fn nobody_is_moved_for_the_health_of_a_server_under_maintenance() {
    let mut world = registered(20);
    let there = somebody_at(&world, "ucs2");
    let before = answers(&world);
    assert_eq!(maintenance(&mut world, "ucs2", true), Ok(Done::Now));
    assert_eq!(maintenance(&mut world, "ucs2", true), Err(Refused::NothingToDo));
    world.run_for(Duration::from_secs(5));
    assert_eq!(state(&world, 1), "maintenance");
    world.check_reachable();

    world.set_mood(1, Mood::Dead);
    world.run_for(Duration::from_secs(30));
    // Refreshes get held answers.
    world.phone_acts(there, Act::Register);
    world.run_for(Duration::from_secs(2));
    assert_eq!((relocated(&world), refusals(&world, &before)), (0, 0));
    let withheld = |event: &Event| {
        matches!(event, Event::FailoverWithheld { because: "in_maintenance", would_move: 1.., .. })
    };
    assert_eq!(world.events.iter().filter(|(_, event)| withheld(event)).count(), 1, "said once");

    let killed = |names: &[&str]| {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        world.door().what_if(world.now, &names, (0, USERS)).unwrap()
    };
    let alone = killed(&["ucs2"]);
    assert_eq!((alone.acts, alone.because.as_deref()), (false, Some("in_maintenance")));
    let with_another = killed(&["ucs1", "ucs2"]);
    assert!(with_another.acts && with_another.moves.iter().all(|step| &*step.from == "ucs1"));
    let explained = world.door().explain(world.now, &aor(there)).unwrap();
    assert_eq!((&*explained.outcome, &*explained.because), ("hold", "in_maintenance"));

    // After the grace it is said that nobody serves them.
    world.run_for(Duration::from_secs(300));
    let before = answers(&world);
    world.phone_acts(there, Act::Register);
    world.run_for(Duration::from_secs(1));
    assert!(refusals(&world, &before) > 0, "blocked");
    assert_eq!(relocated(&world), 0);

    // It comes back: its users are registered there again, and nobody else ever was elsewhere.
    world.set_mood(1, Mood::Healthy);
    world.run_for(Duration::from_secs(90));
    assert_eq!((relocated(&world), &*state(&world, 1)), (0, "maintenance"));
    world.check_reachable();
    assert_eq!(maintenance(&mut world, "ucs2", false), Ok(Done::Now));
    assert_eq!(state(&world, 1), "unknown");
    world.run_for(Duration::from_secs(3));
    assert_eq!((relocated(&world), &*state(&world, 1)), (0, "up"));
    world.check_reachable();
}

#[test]
fn when_maintenance_ends_a_dead_server_is_judged_anew_and_its_users_are_moved() {
    let mut world = registered(21);
    somebody_at(&world, "ucs2");
    maintenance(&mut world, "ucs2", true).unwrap();
    world.set_mood(1, Mood::Dead);
    world.run_for(Duration::from_secs(60));
    assert_eq!(relocated(&world), 0);
    maintenance(&mut world, "ucs2", false).unwrap();
    assert_eq!((&*state(&world, 1), relocated(&world)), ("unknown", 0));
    world.run_until(Duration::from_secs(3), |world| relocated(world) > 0);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.door().status(world.now).servers[1].assigned, 0);
    world.check_reachable();
}

#[test]
fn nobody_goes_to_a_server_under_maintenance() {
    let mut world = registered(22);
    maintenance(&mut world, "ucs3", true).unwrap();
    let at_third = |world: &World| world.door().status(world.now).servers[2].assigned;
    let before = at_third(&world);
    world.set_mood(1, Mood::Dead);
    world.run_for(Duration::from_secs(5));
    let stranger = world.add_phone("sip:stranger@example.com");
    world.run_until(Duration::from_secs(5), |world| {
        world.phones[stranger].is_acknowledged(world.now.uptime)
    });
    assert_eq!(at_third(&world), before);
    assert!(relocated(&world) > 0);

    // Nor does anybody return there.
    world.set_mood(1, Mood::Healthy);
    maintenance(&mut world, "ucs2", true).unwrap();
    world.run_for(Duration::from_secs(900));
    assert!(relocated(&world) > 0);
    let homes = world.door().status(world.now).recovery.homes;
    assert_eq!(homes[0].stay_because.as_deref(), Some("home_in_maintenance"));
    maintenance(&mut world, "ucs2", false).unwrap();
    world.run_until(Duration::from_secs(900), |world| relocated(world) == 0);
    world.run_for(Duration::from_secs(5));
    world.check_reachable();
}

#[test]
fn a_door_that_restarts_has_forgotten_maintenance() {
    let mut world = registered(23);
    maintenance(&mut world, "ucs2", true).unwrap();
    world.restart_door();
    world.run_for(Duration::from_secs(5));
    assert_eq!(state(&world, 1), "up");
    let no_server = maintenance(&mut world, "ucs9", true).unwrap_err().to_string();
    assert_eq!(no_server, "there is no server \"ucs9\"; there are ucs1, ucs2, ucs3");
}

#[test]
fn a_suspicion_that_an_operator_ends_lets_the_users_of_silent_servers_go() {
    let mut world = registered(30);
    let nothing = order(&mut world, &Command::EndSuspicion).unwrap_err().to_string();
    assert_eq!(nothing, "nothing is suspected now");
    for server in [0, 1] {
        world.set_mood(server, Mood::Hung);
    }
    world.run_for(Duration::from_secs(60));
    let status = world.door().status(world.now);
    assert_eq!((status.suspicion.as_deref(), status.relocated), (Some("own_network"), 0));
    assert_eq!(order(&mut world, &Command::EndSuspicion), Ok(Done::Now));
    assert_eq!((world.door().status(world.now).suspicion, relocated(&world)), (None, 0), "a hold");
    world.run_until(Duration::from_secs(7), |world| relocated(world) > 0);
    world.run_until(Duration::from_secs(60), |world| {
        let status = world.door().status(world.now);
        status.servers[2].assigned == USERS as u32 && status.progress.settled == USERS as u64
    });
    world.check_reachable();
}

#[test]
fn guests_of_a_server_under_maintenance_stay_whatever_it_answers() {
    let mut world = registered(24);
    world.set_mood(1, Mood::Dead);
    world.run_until(Duration::from_secs(10), |world| {
        let status = world.door().status(world.now);
        status.relocated > 0 && status.progress.settled == USERS as u64
    });
    let is_guest = |number: &usize| {
        let user = user(&world, &aor(*number));
        user.home.as_deref() == Some("ucs2") && user.current.as_deref() == Some("ucs3")
    };
    let guest = (0..USERS).find(is_guest).expect("somebody is a guest there");
    maintenance(&mut world, "ucs3", true).unwrap();
    // It restarts, so the door tells it of everybody again, and is refused again and again.
    let restarts = |world: &World| {
        let restarted = |event: &Event| matches!(event, Event::ServerRestarted { .. });
        world.events.iter().filter(|(_, event)| restarted(event)).count()
    };
    let before = restarts(&world);
    world.set_mood(2, Mood::Amnesia);
    world.run_until(Duration::from_secs(60), |world| restarts(world) > before);
    world.set_mood(2, Mood::Refusing);
    world.run_for(Duration::from_secs(120));
    assert_eq!(places(&world, &aor(guest)), as_is("ucs2", "ucs3", Some("failover")));
    world.set_mood(2, Mood::Healthy);
    world.run_for(Duration::from_secs(120));
    assert_eq!(places(&world, &aor(guest)), as_is("ucs2", "ucs3", Some("failover")));
}

#[test]
fn who_was_silent_under_maintenance_is_told_of_its_users_again() {
    let mut plain = settings(3, 1000);
    // Nothing else tells that it is another process.
    plain.servers.iter_mut().for_each(|server| server.health_url = None);
    let mut world = registered_with(plain, 25);
    maintenance(&mut world, "ucs2", true).unwrap();
    world.set_mood(1, Mood::Hung);
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.door().status(world.now).servers[1].proof.as_deref(), Some("silence"));
    world.set_mood(1, Mood::Dead);
    world.set_mood(1, Mood::Healthy);
    assert!(world.held_by(1).is_empty(), "it has lost everybody");
    world.run_until(Duration::from_secs(2), |world| {
        world.door().status(world.now).servers[1].proof.is_none()
    });
    // At once, before a question to the server would show that it knows nobody (H8).
    world.run_for(Duration::from_millis(200));
    let served = world.door().status(world.now).servers[1].assigned;
    assert_eq!(world.held_by(1).len(), served as usize);
    world.run_for(Duration::from_secs(5));
    assert_eq!((relocated(&world), &*state(&world, 1)), (0, "maintenance"));
    world.check_reachable();
}
