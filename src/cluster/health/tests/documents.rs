//! What health documents tell, and what their absence means (H8, H9).

use super::*;
use crate::cluster::Proof;
use HealthDocumentUse::{None as Never, Optional, Required};

fn world(usage: HealthDocumentUse) -> World {
    let mut world = World::with(2, usage, Settings::default(), 7);
    world.run(ms(10_000));
    world
}

#[test]
fn documents_are_fetched_every_two_seconds_where_they_are_used() {
    let mut world = world(Optional);
    world.fetches = 0;
    world.run(ms(100_000));
    assert!((90..=112).contains(&world.fetches), "{} for two servers", world.fetches);
    let mut world = World::with(2, Never, Settings::default(), 7);
    world.run(ms(100_000));
    assert_eq!(world.fetches, 0);
}

#[test]
fn the_document_wins_over_the_configuration() {
    let mut world = world(Optional);
    assert_eq!(world.server(FIRST).capacity, 1_000);
    assert_eq!(world.server(FIRST).version, Some(Version::FIRST_WITH_DISTRIBUTION));
    world.documents[0] = Ok(Document {
        users_capacity: Some(300),
        version: Some(Version { major: 2510, minor: 4 }),
        ..document("life-1")
    });
    world.run(ms(3_000));
    assert_eq!(world.server(FIRST).capacity, 300);
    assert_eq!(world.server(FIRST).version, Some(Version { major: 2510, minor: 4 }));
    assert_eq!(world.server(ServerId(1)).capacity, 1_000);
}

#[test]
fn a_new_boot_id_is_a_new_incarnation() {
    let mut world = world(Optional);
    assert_eq!(world.server(FIRST).incarnation, 0, "the first one is no restart");
    world.documents[0] = Ok(document("life-2"));
    world.run(ms(30_000));
    assert_eq!(world.restarts.len(), 1);
    assert_eq!(world.server(FIRST).incarnation, 1);
    assert_eq!(world.state(FIRST), State::Up, "a restart between two probes is no failure");
}

#[test]
fn a_boot_id_that_comes_back_is_a_lie_and_no_restart() {
    let mut world = world(Optional);
    for round in 0..40 {
        world.documents[0] = Ok(document(if round % 2 == 0 { "life-2" } else { "life-1" }));
        world.run(ms(2_000));
    }
    assert_eq!(world.server(FIRST).incarnation, 1);
}

#[test]
fn a_boot_id_per_request_is_not_a_storm_of_restarts() {
    let mut world = world(Optional);
    for round in 0..100 {
        world.documents[0] = Ok(document(&format!("request-{round}")));
        world.run(ms(1_000));
    }
    let gaps = world.restarts.windows(2).map(|pair| pair[1] - pair[0]);
    assert!(gaps.min().unwrap() >= ms(10_000));
    assert!(world.restarts.len() >= 5, "but restarts they are");
}

#[test]
fn an_optional_document_that_never_was_served_is_not_missed() {
    let mut world = World::with(2, Optional, Settings::default(), 7);
    world.documents.fill(missing());
    world.run(ms(60_000));
    assert_eq!(world.path(FIRST), [State::Up]);
}

#[test]
fn a_required_document_that_never_was_served_is_a_fault() {
    let mut world = World::with(2, Required, Settings::default(), 7);
    world.documents.fill(missing());
    world.run(ms(60_000));
    assert_eq!(world.path(FIRST), [State::Up, State::Degraded]);
}

#[test]
fn three_missing_in_a_row_degrade_and_one_heals() {
    for usage in [Optional, Required] {
        let mut world = world(usage);
        world.documents[0] = missing();
        world.run(ms(3_800));
        assert_eq!(world.state(FIRST), State::Up, "not yet three");
        world.run(ms(4_000));
        assert_eq!(world.state(FIRST), State::Degraded);
        world.run(ms(60_000));
        assert_eq!(world.state(FIRST), State::Degraded, "never down while probes are answered");
        world.documents[0] = Ok(document("life-1"));
        world.run(ms(4_000));
        assert_eq!(world.state(FIRST), State::Up);
    }
}

#[test]
fn an_invalid_document_counts_as_a_missing_one() {
    let mut world = world(Optional);
    world.documents[0] = Document::parse(br#"{"format":1,"boot_id":"a","users":{"logged_in":-1}}"#);
    world.run(ms(10_000));
    assert_eq!(world.state(FIRST), State::Degraded);
}

#[test]
fn without_its_document_a_server_is_down_as_soon_as_the_probes_agree() {
    let mut world = world(Optional);
    world.documents[0] = missing();
    world.run(ms(10_000));
    let fault = world.now;
    world.set(FIRST, Host::Silent);
    world.run_while(ms(3_000), |world| world.state(FIRST) != State::Down);
    assert_eq!(world.server(FIRST).failure.unwrap().proof, Proof::Document);
    assert!(world.now - fault < ms(2_000), "earlier than by silence alone");
}

#[test]
fn a_stall_of_one_second_does_not_take_down_even_without_a_document() {
    let mut world = world(Optional);
    world.documents[0] = missing();
    world.run(ms(10_000));
    world.set(FIRST, Host::Silent);
    world.run(ms(1_000));
    world.set(FIRST, Host::Answers(200));
    world.run(ms(5_000));
    assert_eq!(world.state(FIRST), State::Degraded);
}

#[test]
fn a_document_clears_no_failure() {
    let mut world = world(Optional);
    world.set(FIRST, Host::Silent);
    world.run(ms(60_000));
    assert_eq!(world.state(FIRST), State::Down, "the web server outlived the service");
}
