//! Listings of users: whole, each once, filtered, and bounded in what a page costs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use frontdoor::directory::record::{Loaded, RelocationReason, RelocationRecord, UserRecord};
use frontdoor::directory::{Aor, History};
use frontdoor::door::{Door, Filter, Listed, Refused, UserStatus};
use frontdoor::now::{Now, Uptime};
use frontdoor::ucserver::Mood;

use crate::world::{Weather, World, settings};

const NOW: Now = Now { uptime: Uptime::from_secs(10), wall: SystemTime::UNIX_EPOCH };

/// So many users of three servers; every fifth is away, for one reason or another.
fn door(users: usize) -> Door {
    let server = |number: usize| -> Arc<str> { format!("ucs{}", number % 3 + 1).into() };
    let whys = [RelocationReason::Failover, RelocationReason::Drain, RelocationReason::Manual];
    let user = |number: usize| UserRecord {
        name: format!("u{number}").into(),
        aors: vec![Aor::from_canonical(format!("sip:+49{number}@example.com"))],
        lines: Vec::new(),
        home: Some(server(number)),
        enabled: true,
        relocation: number.is_multiple_of(5).then(|| RelocationRecord {
            origin: server(number),
            date: SystemTime::UNIX_EPOCH + Duration::from_secs(7),
            target: server(number + 1),
            why: whys[number / 15 % 3],
        }),
        epoch: 1,
        left_at: Vec::new(),
        history: History::default(),
    };
    let loaded = Loaded { users: (0..users).map(user).collect(), bindings: Vec::new() };
    Door::new(settings(3, 50_000), loaded, NOW)
}

/// All pages, one after the other, and how many they are.
fn all<T>(mut page: impl FnMut(usize) -> Listed<T>) -> (Vec<T>, usize) {
    let (mut found, mut from, mut pages) = (Vec::new(), Some(0), 0);
    while let Some(place) = from {
        let Listed { found: more, next } = page(place);
        assert!(next.is_none_or(|next| next > place), "a page leads on");
        found.extend(more);
        (from, pages) = (next, pages + 1);
    }
    (found, pages)
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

#[test]
fn a_filter_finds_whom_it_describes_and_nobody_else() {
    let door = door(120);
    let list = |filter: &Filter| all(|from| door.users(NOW, filter, (from, 7)).unwrap()).0;
    let everybody = list(&Filter::default());
    assert_eq!(everybody.len(), 120);
    type Fits = fn(&UserStatus) -> bool;
    let cases: [(Filter, Fits); 7] = [
        (Filter { server: text("ucs2"), ..Filter::default() }, |it| {
            it.current.as_deref() == Some("ucs2")
        }),
        (Filter { home: text("ucs2"), ..Filter::default() }, |it| {
            it.home.as_deref() == Some("ucs2")
        }),
        (Filter { away: Some(true), ..Filter::default() }, |it| it.relocated_at.is_some()),
        (Filter { away: Some(false), ..Filter::default() }, |it| it.relocated_at.is_none()),
        (Filter { prefix: text("u1"), ..Filter::default() }, |it| it.name.starts_with("u1")),
        (Filter { prefix: text("+491"), ..Filter::default() }, |it| {
            it.aors[0].starts_with("sip:+491")
        }),
        (
            Filter {
                server: text("ucs1"),
                home: text("ucs3"),
                away: Some(true),
                prefix: text("sip:+"),
                ..Filter::default()
            },
            |it| it.home.as_deref() == Some("ucs3") && it.relocated_at.is_some(),
        ),
    ];
    for (filter, fits) in cases {
        let expected: Vec<_> = everybody.iter().filter(|user| fits(user)).cloned().collect();
        assert!(!expected.is_empty() && expected.len() < 120, "{filter:?}");
        assert_eq!(list(&filter), expected, "{filter:?}");
    }
    let nobody = Filter { prefix: text("49"), ..Filter::default() };
    assert_eq!(list(&nobody), []);
}

#[test]
fn relocations_are_filtered_alike() {
    let door = door(120);
    let list = |filter: &Filter| all(|from| door.relocations(NOW, filter, (from, 5)).unwrap()).0;
    let away = list(&Filter::default());
    assert_eq!(away.len(), 24);
    for why in ["failover", "drain", "manual"] {
        let filter = Filter { why: text(why), home: text("ucs2"), ..Filter::default() };
        let expected: Vec<_> =
            away.iter().filter(|it| (&*it.why, &*it.origin) == (why, "ucs2")).cloned().collect();
        assert!(!expected.is_empty());
        assert_eq!(list(&filter), expected, "{why}");
    }
    let filter = Filter { server: text("ucs1"), away: Some(false), ..Filter::default() };
    let expected: Vec<_> = away.into_iter().filter(|it| &*it.current == "ucs1").collect();
    assert_eq!(list(&filter), expected, "who is listed here is away");
}

#[test]
fn a_filter_that_few_fit_makes_no_page_dear() {
    let door = door(25_000);
    let filter = Filter { prefix: text("u24999"), ..Filter::default() };
    let first = door.users(NOW, &filter, (0, 1_000)).unwrap();
    assert_eq!((first.found.len(), first.next), (0, Some(10_000)));
    let (found, pages) = all(|from| door.users(NOW, &filter, (from, 1_000)).unwrap());
    assert_eq!((found.len(), &*found[0].name, pages), (1, "u24999", 3));
    // Who is away is found without looking at the others.
    let away = door.relocations(NOW, &Filter::default(), (24_990, 1_000)).unwrap();
    assert_eq!((away.found.len(), away.next), (2, None));
}

#[test]
fn pages_end_where_they_should() {
    let door = door(10);
    let page = |from, count| {
        let Listed { found, next } = door.users(NOW, &Filter::default(), (from, count)).unwrap();
        (found.len(), next)
    };
    assert_eq!(page(0, 10), (10, None), "no empty page follows");
    assert_eq!(page(0, 9), (9, Some(9)));
    assert_eq!(page(9, 9), (1, None));
    for beyond in [10, u32::MAX as usize, usize::MAX] {
        assert_eq!(page(beyond, 9), (0, None), "{beyond}");
    }
}

#[test]
fn a_server_that_is_not_there_is_refused_with_those_that_are() {
    let door = door(3);
    let known = vec!["ucs1".into(), "ucs2".into(), "ucs3".into()];
    for filter in [
        Filter { server: text("ucs9"), ..Filter::default() },
        Filter { home: text("ucs9"), ..Filter::default() },
    ] {
        let refused = Refused::NoSuchServer { name: "ucs9".to_owned(), known: known.clone() };
        assert_eq!(door.users(NOW, &filter, (0, 1)), Err(refused.clone()));
        assert_eq!(door.relocations(NOW, &filter, (0, 1)), Err(refused));
    }
}

fn settled() -> World {
    let mut world = World::new(settings(3, 1_000), Weather::CALM, 5);
    world.run_for(Duration::from_secs(3));
    for number in 0..60 {
        world.add_phone(&format!("sip:u{number}@example.com"));
    }
    world.run_until(Duration::from_secs(40), |world| {
        world.phones.iter().all(|phone| phone.is_acknowledged(world.now.uptime))
    });
    world
}

#[test]
fn whoever_is_there_all_the_time_is_listed_exactly_once_while_others_come() {
    let mut world = settled();
    let before: BTreeSet<_> = world.users().into_iter().map(|user| user.name).collect();
    let mut newcomers = 0;
    let (listed, _) = all(|from| {
        if newcomers < 5 {
            // Some sort before, some behind those who are there.
            world.add_phone(&format!("sip:{}{newcomers}@example.com", ["a", "z"][newcomers % 2]));
            world.run_for(Duration::from_secs(2));
            newcomers += 1;
        }
        world.door().users(world.now, &Filter::default(), (from, 7)).unwrap()
    });
    let names: BTreeSet<_> = listed.iter().map(|user| Arc::clone(&user.name)).collect();
    assert_eq!(names.len(), listed.len(), "nobody twice");
    assert!(names.is_superset(&before), "nobody is missing");
    assert_eq!(names.len(), 65, "and who comes meanwhile comes last");
}

#[test]
fn whoever_is_away_all_the_time_is_listed_exactly_once_while_others_leave() {
    let mut world = settled();
    world.set_mood(1, Mood::Dead);
    world.run_for(Duration::from_secs(10));
    let away = |world: &World| -> BTreeSet<_> {
        world.relocations().into_iter().map(|it| it.user).collect()
    };
    let before = away(&world);
    let mut pages = 0;
    let (listed, _) = all(|from| {
        pages += 1;
        if pages == 3 {
            // More leave.
            world.set_mood(2, Mood::Dead);
            world.run_for(Duration::from_secs(10));
        }
        world.door().relocations(world.now, &Filter::default(), (from, 4)).unwrap()
    });
    let names: BTreeSet<_> = listed.iter().map(|it| Arc::clone(&it.user)).collect();
    assert_eq!(names.len(), listed.len(), "nobody twice");
    assert!(before.len() > 8 && names.is_superset(&before), "nobody is missing");
    assert!(away(&world).len() > before.len(), "others came");
}

#[test]
fn bindings_are_found_by_how_they_stand() {
    let mut world = settled();
    world.settings.decision.disable_automatic_user_distribution = true;
    world.restart_door();
    world.run_for(Duration::from_secs(70));
    world.set_mood(1, Mood::Dead);
    world.run_for(Duration::from_secs(20));
    let list = |standing: &str| {
        let filter = Filter { standing: text(standing), ..Filter::default() };
        world.door().users(world.now, &filter, (0, 1_000)).unwrap().found
    };
    let (held, settled) = (list("held"), list("settled"));
    assert!(!held.is_empty() && !settled.is_empty());
    assert!(held.iter().all(|user| user.current.as_deref() == Some("ucs2")));
    assert_eq!(held.len() + settled.len(), 60);
    assert_eq!(list("failed"), []);
}
