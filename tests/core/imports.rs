//! Users who are handed over (L3): all of them are taken, or none is.

use std::time::Duration;

use frontdoor::directory::Aor;
use frontdoor::directory::import::Imported;
use frontdoor::door::{Command, Done, Refused, UserStatus};
use frontdoor::ucserver::Mood;

use crate::phone::Act;
use crate::world::{Weather, World, settings};

fn asked(name: &str, home: Option<&str>) -> Imported {
    Imported {
        line: None,
        name: name.into(),
        aors: vec![Aor::from_canonical(format!("sip:{name}@example.com"))],
        lines: Vec::new(),
        home: home.map(Into::into),
        enabled: true,
    }
}

fn pool(servers: usize, capacity: u32) -> World {
    let mut world = World::new(settings(servers, capacity), Weather::CALM, 5);
    world.run_for(Duration::from_secs(3));
    world
}

fn hand_over(world: &mut World, users: Vec<Imported>) -> Result<(), Refused> {
    match world.order(&Command::Import { users, check: false })? {
        Done::Now => Ok(()),
        Done::WhenDurable(ticket) => {
            world.run_for(Duration::from_secs(1));
            world.told.remove(&ticket).expect("it is answered")
        }
    }
}

fn user(world: &World, name: &str) -> UserStatus {
    world.door().user(world.now, name).expect("they are known")
}

fn names(world: &World) -> Vec<String> {
    world.users().iter().map(|user| user.name.to_string()).collect()
}

#[test]
fn unknown_users_are_there_and_log_in_at_their_home() {
    let mut world = pool(3, 100);
    let users: Vec<_> =
        (1..=3).map(|n| asked(&format!("u{n}"), Some(&format!("ucs{n}")))).collect();
    hand_over(&mut world, users.clone()).unwrap();
    assert_eq!(names(&world), ["u1", "u2", "u3"]);
    for number in 1..=3 {
        world.add_phone(&format!("sip:u{number}@example.com"));
    }
    world.run_for(Duration::from_secs(5));
    for number in 1..=3 {
        let home = format!("ucs{number}");
        assert_eq!(user(&world, &format!("u{number}")).current.as_deref(), Some(&*home));
    }
    hand_over(&mut world, users).unwrap();
    assert_eq!(world.door().stats().users_imported, 3, "the second time nothing is to be done");
    world.restart_door();
    assert_eq!(names(&world).len(), 3);
}

#[test]
fn another_home_moves_no_connection_and_counts_at_the_next_login() {
    let mut world = pool(2, 100);
    hand_over(&mut world, vec![asked("anna", Some("ucs1")), asked("bert", Some("ucs1"))]).unwrap();
    let phone = world.add_phone("sip:anna@example.com");
    world.run_for(Duration::from_secs(5));
    hand_over(&mut world, vec![asked("anna", Some("ucs2")), asked("bert", Some("ucs2"))]).unwrap();
    for name in ["anna", "bert"] {
        let it = user(&world, name);
        assert_eq!((it.home.as_deref(), it.current.as_deref()), (Some("ucs2"), Some("ucs1")));
        assert_eq!(it.relocated_why.as_deref(), Some("manual"));
    }
    world.phone_acts(phone, Act::Unregister);
    world.run_for(Duration::from_secs(5));
    world.phone_acts(phone, Act::Register);
    world.run_for(Duration::from_secs(5));
    assert_eq!(user(&world, "anna").current.as_deref(), Some("ucs2"));
}

#[test]
fn who_is_served_and_by_which_addresses_changes_and_no_address_is_taken_away() {
    let mut world = pool(2, 100);
    hand_over(&mut world, vec![asked("anna", Some("ucs1"))]).unwrap();
    let phone = world.add_phone("sip:anna@example.com");
    world.run_for(Duration::from_secs(5));
    let second = Aor::from_canonical("sip:200@example.com");
    let changed = Imported {
        aors: vec![second],
        lines: vec!["200".into()],
        enabled: false,
        ..asked("anna", None)
    };
    hand_over(&mut world, vec![changed]).unwrap();
    let anna = user(&world, "anna");
    assert_eq!(anna.aors.len(), 2);
    assert_eq!((anna.lines, anna.enabled), (vec!["200".into()], false));
    assert_eq!(user(&world, "sip:200@example.com").name, "anna".into());
    world.roam(phone);
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.phones[phone].answers.last().map(|it| it.1), Some(403), "not served");
}

#[test]
fn one_bad_line_and_nobody_is_taken() {
    let mut world = pool(2, 5);
    hand_over(&mut world, vec![asked("anna", Some("ucs1"))]).unwrap();
    let bert = |change: fn(&mut Imported)| {
        let mut bert = asked("bert", Some("ucs1"));
        change(&mut bert);
        bert
    };
    let anna = || Aor::from_canonical("sip:anna@example.com");
    for (bad, why) in [
        (bert(|it| it.home = Some("ucs9".into())), "line 3: there is no server"),
        (bert(|it| it.aors = vec![Aor::from_canonical("nonsense")]), "line 3: expected an address"),
        (bert(|it| it.name = "".into()), "line 3: expected a login name"),
        (bert(|it| it.name = "carl".into()), "line 3: expected a login name that no other line"),
        (bert(|it| it.line = Some(77)), ""),
        (
            Imported { aors: vec![anna()], ..asked("dora", None) },
            "line 3: sip:anna@example.com belongs to another user",
        ),
        (
            Imported { line: Some(77), aors: vec![anna()], ..asked("dora", None) },
            "line 77: sip:anna@example.com belongs to another user",
        ),
    ] {
        let users = vec![asked("carl", Some("ucs2")), bad.clone()];
        let check = Command::Import { users: users.clone(), check: true };
        if why.is_empty() {
            assert_eq!(world.order(&check), Ok(Done::Now));
            continue;
        }
        assert!(world.order(&check).unwrap_err().to_string().starts_with(why), "{bad:?}");
        let refused = hand_over(&mut world, users).unwrap_err().to_string();
        assert!(refused.starts_with(why), "{refused}");
        assert_eq!(names(&world), ["anna"]);
    }
    let many = (0..5).map(|n| asked(&format!("u{n}"), Some("ucs1"))).collect();
    let refused = hand_over(&mut world, many).unwrap_err().to_string();
    assert!(refused.contains("ucs1 serves 1 users and can serve 5"), "{refused}");
    assert_eq!(names(&world), ["anna"]);
}

#[test]
fn what_cannot_be_written_has_not_happened() {
    let mut world = pool(2, 100);
    hand_over(&mut world, vec![asked("anna", Some("ucs1"))]).unwrap();
    world.disk_full = true;
    let users = vec![asked("anna", Some("ucs2")), asked("bert", None)];
    let refused = hand_over(&mut world, users.clone()).unwrap_err();
    assert!(matches!(refused, Refused::NotWritten(_)), "{refused}");
    assert_eq!(user(&world, "anna").home.as_deref(), Some("ucs1"));
    assert_eq!(names(&world), ["anna"]);
    world.disk_full = false;
    hand_over(&mut world, users).unwrap();
    assert_eq!(names(&world), ["anna", "bert"]);
}

#[test]
fn nobody_is_adopted_under_an_address_that_is_being_written() {
    let mut world = pool(2, 100);
    let users = vec![asked("anna", Some("ucs1"))];
    let done = world.order(&Command::Import { users: users.clone(), check: false });
    assert!(matches!(done, Ok(Done::WhenDurable(_))));
    let twice = world.order(&Command::Import { users, check: false });
    assert_eq!(twice, Err(Refused::Busy));
    let phone = world.add_phone("sip:anna@example.com");
    world.phone_acts(phone, Act::Register);
    world.run_for(Duration::from_secs(30));
    assert!(world.phones[phone].is_acknowledged(world.now.uptime));
    assert_eq!(names(&world), ["anna"]);
}

#[test]
fn users_of_a_dead_server_are_handed_over_and_moved_like_all_others() {
    let mut world = pool(2, 100);
    world.set_mood(0, Mood::Dead);
    world.run_for(Duration::from_secs(10));
    hand_over(&mut world, vec![asked("anna", Some("ucs1"))]).unwrap();
    world.add_phone("sip:anna@example.com");
    world.run_for(Duration::from_secs(10));
    let anna = user(&world, "anna");
    assert_eq!((anna.home.as_deref(), anna.current.as_deref()), (Some("ucs1"), Some("ucs2")));
}
