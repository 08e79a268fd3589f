//! What the door says it would do is what it does.

use std::collections::BTreeMap;
use std::time::Duration;

use frontdoor::door::{Command, Event, Settings, WhatIf};
use frontdoor::ucserver::Mood;

use crate::world::{Weather, World, settings};

const USERS: usize = 90;

/// Everybody is registered.
fn settled(settings: Settings, seed: u64) -> World {
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

fn what_if(world: &World, killed: &[&str]) -> WhatIf {
    let killed: Vec<String> = killed.iter().map(|name| (*name).to_owned()).collect();
    world.door().what_if(world.now, &killed, (0, 1_000)).unwrap()
}

/// User by user.
fn current(world: &World) -> BTreeMap<String, String> {
    let users = world.users().into_iter();
    users.map(|user| (user.name.to_string(), user.current.unwrap().to_string())).collect()
}

/// Foretells, kills, and compares where everybody is then.
fn holds(settings: Settings, victim: usize, seed: u64) -> WhatIf {
    let mut world = settled(settings, seed);
    let name = format!("ucs{}", victim + 1);
    let mut expected = current(&world);
    let foretold = what_if(&world, &[&name]);
    assert!(foretold.acts && foretold.users > 0, "{foretold:?}");
    for step in &foretold.moves {
        assert_eq!(expected.insert(step.user.to_string(), step.to.to_string()), Some(name.clone()));
    }
    world.set_mood(victim, Mood::Dead);
    world.run_for(Duration::from_secs(4));
    assert_eq!(current(&world), expected, "seed {seed}");
    for (load, server) in foretold.servers.iter().zip(world.door().status(world.now).servers) {
        assert_eq!((&load.server, load.after), (&server.name, server.assigned));
    }
    foretold
}

#[test]
fn what_is_foretold_happens_user_by_user() {
    for seed in 1..=6 {
        for victim in 0..4 {
            let whole = holds(settings(4, 1_000), victim, seed);
            assert_eq!((whole.unplaced, whole.moves.len() as u64), (0, whole.users));
        }
    }
}

#[test]
fn it_holds_where_servers_are_unequal_stand_apart_and_do_not_suffice() {
    for seed in 1..=4 {
        let mut unequal = settings(4, 100);
        for (server, capacity) in unequal.servers.iter_mut().zip([30, 60, 45, 90]) {
            server.capacity = capacity;
        }
        holds(unequal.clone(), 3, seed);
        for (server, site) in unequal.servers.iter_mut().zip(["a", "a", "b", "b"]) {
            server.site = Some(site.into());
        }
        holds(unequal.clone(), 0, seed);
        let short = holds(settings(3, 36), 1, seed);
        let reasons: u64 = short.unplaced_because.values().sum();
        assert!(short.unplaced > 0 && reasons == short.unplaced, "{short:?}");
    }
}

/// The failover of both is made as one when nothing can be written before both are seen.
#[test]
fn what_is_foretold_of_two_happens_user_by_user() {
    for seed in 1..=6 {
        for (one, other) in [(0, 1), (1, 2), (0, 3)] {
            let mut world = settled(settings(4, 1_000), seed);
            let mut expected = current(&world);
            let names = [one, other].map(|victim| format!("ucs{}", victim + 1));
            let foretold = what_if(&world, &[&names[0], &names[1]]);
            assert!(foretold.acts && foretold.unplaced == 0, "{foretold:?}");
            for step in &foretold.moves {
                expected.insert(step.user.to_string(), step.to.to_string());
            }
            world.disk_full = true;
            world.set_mood(one, Mood::Dead);
            world.set_mood(other, Mood::Dead);
            world.run_for(Duration::from_secs(4));
            world.disk_full = false;
            world.run_for(Duration::from_secs(10));
            assert_eq!(current(&world), expected, "seed {seed}, {names:?}");
        }
    }
}

#[test]
fn two_that_die_together_leave_nobody_on_either() {
    let world = settled(settings(4, 1_000), 1);
    let foretold = what_if(&world, &["ucs2", "ucs3"]);
    let after: Vec<u32> = foretold.servers.iter().map(|load| load.after).collect();
    assert_eq!((after[1], after[2], after[0] + after[3]), (0, 0, USERS as u32));
    let come = [foretold.servers[0].come, foretold.servers[3].come];
    assert!(come[0].abs_diff(come[1]) <= 3, "{come:?}");
    assert!(foretold.moves.iter().all(|step| ["ucs1", "ucs4"].contains(&&*step.to)));
}

#[test]
fn while_distribution_is_disabled_it_says_that_nobody_would_move() {
    let mut disabled = settings(3, 1_000);
    disabled.decision.disable_automatic_user_distribution = true;
    let mut world = settled(disabled, 2);
    let foretold = what_if(&world, &["ucs1"]);
    assert!(!foretold.acts);
    assert_eq!(foretold.because.as_deref(), Some("distribution_disabled_grace"));
    world.set_mood(0, Mood::Dead);
    world.run_for(Duration::from_secs(4));
    let said = Event::FailoverWithheld {
        server: "ucs1".into(),
        because: "distribution_disabled",
        would_move: foretold.users,
    };
    assert!(world.events.iter().any(|(_, event)| *event == said), "{:#?}", world.summary());
    assert_eq!(world.door().status(world.now).relocated, 0);
}

#[test]
fn whoever_is_disabled_is_not_counted_among_those_who_would_move() {
    let mut disabled = settings(3, 1_000);
    disabled.decision.disable_automatic_user_distribution = true;
    let mut world = settled(disabled, 2);
    let on_ucs1 = current(&world).into_values().filter(|server| server == "ucs1").count() as u64;
    let (victim, _) = current(&world).into_iter().find(|(_, server)| server == "ucs1").unwrap();
    world.restart_with_users(|user| user.enabled = *user.name != *victim);
    world.run_for(Duration::from_secs(5));
    let foretold = what_if(&world, &["ucs1"]);
    assert_eq!(foretold.users, on_ucs1 - 1);
    world.set_mood(0, Mood::Dead);
    world.run_for(Duration::from_secs(4));
    let withheld = |(_, event): &(_, Event)| {
        if let Event::FailoverWithheld { would_move, .. } = event {
            Some(*would_move)
        } else {
            None
        }
    };
    let said: Vec<u64> = world.events.iter().filter_map(withheld).collect();
    assert_eq!(said, [foretold.users], "{:#?}", world.summary());
}

#[test]
fn the_pace_says_how_long_it_takes() {
    let mut paced = settings(3, 1_000);
    paced.pace.rate_max = Some(5);
    let world = settled(paced, 3);
    let foretold = what_if(&world, &["ucs1"]);
    let most = foretold.servers.iter().map(|load| load.come).max().unwrap();
    assert_eq!(foretold.seconds, Some(u64::from(most.div_ceil(5))));
}

#[test]
fn an_unknown_server_is_refused_with_those_there_are() {
    let world = settled(settings(2, 1_000), 4);
    let refused = world.door().what_if(world.now, &["ucs7".to_owned()], (0, 0)).unwrap_err();
    assert_eq!(refused.to_string(), "there is no server \"ucs7\"; there are ucs1, ucs2");
}

#[test]
fn an_explanation_is_what_then_happens() {
    let mut silent = settings(3, 1_000);
    silent.health.hold_silence = Duration::from_secs(5);
    let mut world = settled(silent, 5);
    let user = world.users().remove(0);
    let home = user.current.clone().unwrap();
    let victim = ["ucs1", "ucs2", "ucs3"].iter().position(|name| *name == &*home).unwrap();
    let explain = |world: &World| world.door().explain(world.now, &user.name).unwrap();
    let calm = explain(&world);
    assert_eq!((&*calm.outcome, &*calm.because), ("accept", "current_serves"));
    assert_eq!((calm.server.as_ref(), calm.home.as_ref()), (Some(&home), Some(&home)));
    assert_eq!(calm.candidates[victim].refuses.as_deref(), Some("current"));
    assert_eq!(calm.candidates.iter().filter(|candidate| candidate.best).count(), 1);

    world.set_mood(victim, Mood::Hung);
    world.run_until(Duration::from_secs(5), |world| {
        &*world.door().status(world.now).servers[victim].state == "down"
    });
    assert_eq!(&*explain(&world).because, "within_hold");
    world.run_until(Duration::from_secs(8), |world| world.door().status(world.now).relocated > 0);
    world.run_for(Duration::from_secs(1));
    let away = explain(&world);
    assert_eq!((&*away.outcome, away.relocated_why.as_deref()), ("accept", Some("failover")));
    assert_eq!(away.relocated_from.as_ref(), Some(&home));
    assert_ne!(away.current.as_ref(), Some(&home));
    assert_eq!(away.candidates[victim].refuses.as_deref(), Some("state"));
    assert!(world.door().explain(world.now, "nobody").is_none());
}

fn history(world: &World, user: &str) -> Vec<(String, String, String)> {
    let moves = world.door().explain(world.now, user).unwrap().history;
    moves.iter().map(|it| (it.from.to_string(), it.to.to_string(), it.why.to_string())).collect()
}

#[test]
fn the_history_tells_every_move_and_survives_the_death_of_the_door() {
    let mut world = settled(settings(2, 1_000), 6);
    let user = world.users().remove(0);
    let home = user.current.clone().unwrap();
    let victim = usize::from(&*home == "ucs2");
    let other = ["ucs2", "ucs1"][victim];
    assert_eq!(history(&world, &user.name), [], "a first home is no move");

    world.set_mood(victim, Mood::Dead);
    world.run_until(Duration::from_secs(8), |world| world.door().status(world.now).relocated > 0);
    world.set_mood(victim, Mood::Healthy);
    world
        .run_until(Duration::from_secs(900), |world| world.door().status(world.now).relocated == 0);
    let order = Command::SetHome { user: user.name.to_string(), home: other.into() };
    world.order(&order).unwrap();
    world.run_for(Duration::from_secs(1));
    let expected = [
        (home.to_string(), other.to_owned(), "failover".to_owned()),
        (other.to_owned(), home.to_string(), "return".to_owned()),
        (home.to_string(), other.to_owned(), "manual".to_owned()),
    ];
    assert_eq!(history(&world, &user.name), expected);
    world.restart_door();
    assert_eq!(history(&world, &user.name), expected);
}
