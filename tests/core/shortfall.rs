//! One more failure does not fit: seen, said and shown before it happens (P5).

use std::time::Duration;

use frontdoor::door::{Event, ShortfallStatus};
use frontdoor::ucserver::Mood;

use crate::world::{Weather, World, settings};

/// What a server says that has grown.
const LARGE: &str = r#"{"format":1,"boot_id":"b","users":{"logged_in":0,"capacity":500}}"#;
/// And before.
const SMALL: &str = r#"{"format":1,"boot_id":"b","users":{"logged_in":0,"capacity":14}}"#;

/// Three servers with room for 14 users each, and ten of 30 on each, more or less.
fn crowded(disabled: bool) -> World {
    let mut settings = settings(3, 14);
    settings.decision.disable_automatic_user_distribution = disabled;
    let mut world = World::new(settings, Weather::CALM, 1);
    world.lies.fill(Some(SMALL));
    world.run_for(Duration::from_secs(6));
    for number in 0..30 {
        world.add_phone(&format!("sip:u{number}@example.com"));
    }
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.users().len(), 30);
    world
}

fn shown(world: &World) -> Option<ShortfallStatus> {
    world.door().status(world.now).shortfall
}

fn said(world: &World) -> Vec<Option<ShortfallStatus>> {
    let mut said = Vec::new();
    for (_, event) in &world.events {
        if let Event::Shortfall(shortfall) = event {
            said.push(shortfall.clone());
        }
    }
    said
}

#[test]
fn what_does_not_fit_is_said_once_and_what_then_happens_is_what_was_said() {
    let mut world = crowded(false);
    let shortfall = shown(&world).expect("42 places, 14 of them lost, for 30 users");
    // Two of 30 have no place among 28.
    assert_eq!(shortfall.unplaced, 2);
    world.run_for(Duration::from_secs(120));
    assert_eq!(said(&world).len(), 1, "{:?}", said(&world));
    let server = shortfall.server.strip_prefix("ucs").unwrap().parse::<usize>().unwrap() - 1;
    world.set_mood(server, Mood::Dead);
    world.run_for(Duration::from_secs(20));
    let status = world.door().status(world.now);
    assert_eq!((status.unplaced, status.failovers[0].users), (2, shortfall.users - 2));
}

#[test]
fn when_it_fits_again_that_is_said_too() {
    let mut world = crowded(false);
    assert!(shown(&world).is_some());
    world.lies.fill(Some(LARGE));
    world.run_for(Duration::from_secs(20));
    assert_eq!(shown(&world), None);
    assert_eq!(said(&world).last(), Some(&None));
}

#[test]
fn where_nobody_would_be_moved_nothing_is_foretold() {
    let world = crowded(true);
    assert_eq!((shown(&world), said(&world)), (None, vec![]));
}
