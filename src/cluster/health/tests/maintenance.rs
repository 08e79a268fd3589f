//! By command: health ignored, and then judged anew (H3).

use super::*;
use crate::cluster::Proof;

const SECOND: ServerId = ServerId(1);

fn maintain(world: &mut World, id: ServerId, on: bool) -> bool {
    let changed = world.health.maintain(world.now, id, on);
    world.drain();
    changed
}

#[test]
fn it_is_said_once_and_only_of_servers_there_are() {
    let mut world = World::settled(2);
    assert!(maintain(&mut world, FIRST, true));
    assert!(!maintain(&mut world, FIRST, true), "it is so already");
    assert_eq!((world.state(FIRST), world.server(FIRST).score), (State::Maintenance, 0));
    assert!(maintain(&mut world, FIRST, false));
    assert!(!maintain(&mut world, FIRST, false), "it is so already");
    assert!(!maintain(&mut world, ServerId(7), true));
    assert_eq!(world.path(FIRST), [State::Maintenance, State::Unknown]);
}

#[test]
fn whatever_it_answers_it_stays_and_serves_while_it_answers() {
    let mut world = World::settled(3);
    maintain(&mut world, FIRST, true);
    for (host, proof) in [
        (Host::Answers(500), Some(Proof::Errors)),
        (Host::Silent, Some(Proof::Silence)),
        (Host::Refuses, Some(Proof::Refused)),
        (Host::Busy(30), None),
    ] {
        world.set(FIRST, host);
        world.run(ms(20_000));
        let server = world.server(FIRST);
        assert_eq!(server.state, State::Maintenance);
        assert_eq!(server.failure.map(|failure| failure.proof), proof);
        assert_eq!(
            (server.is_dead(), server.serves_its_users()),
            (proof.is_some(), proof.is_none())
        );
        world.set(FIRST, Host::Answers(200));
        world.run(ms(5_000));
        assert!(world.server(FIRST).serves_its_users(), "one answer is enough");
    }
    assert!(world.path(FIRST).iter().all(|state| *state == State::Maintenance));
    // On, and three times away and back.
    assert_eq!(world.path(FIRST).len(), 7);
}

#[test]
fn afterwards_it_is_judged_anew_by_as_many_answers_as_at_the_start() {
    let mut world = World::settled(2);
    maintain(&mut world, FIRST, true);
    world.run(ms(60_000));
    maintain(&mut world, FIRST, false);
    assert_eq!(world.state(FIRST), State::Unknown);
    let ended = world.now;
    world.run(ms(5_000));
    assert_eq!(world.path(FIRST), [State::Maintenance, State::Unknown, State::Up]);
    let rounds = world.when(FIRST, State::Up).since(ended);
    let answers = Settings::default().probe_interval * (Settings::default().rise - 1);
    assert!(rounds >= answers * 9 / 10, "up after {rounds:?}");
}

#[test]
fn one_that_is_dead_when_it_ends_is_down_only_by_what_is_seen_then() {
    let mut world = World::settled(2);
    maintain(&mut world, FIRST, true);
    world.set(FIRST, Host::Silent);
    world.run(ms(60_000));
    assert!(world.server(FIRST).is_dead());
    maintain(&mut world, FIRST, false);
    let ended = world.now;
    assert_eq!((world.state(FIRST), world.server(FIRST).failure), (State::Unknown, None));
    world.run(ms(2_000));
    assert_eq!(world.state(FIRST), State::Unknown, "the silence of before proves nothing");
    world.run(ms(2_000));
    assert_eq!(world.state(FIRST), State::Down);
    let failure = world.server(FIRST).failure.unwrap();
    assert!(failure.since.since(ended) >= Settings::default().down_after);
    assert_eq!(failure.hold_until, failure.since + Settings::default().hold_silence);
}

#[test]
fn a_server_that_is_down_stays_dead_under_maintenance_until_it_answers() {
    let mut world = World::settled(2);
    world.set(FIRST, Host::Refuses);
    world.run(ms(5_000));
    assert_eq!(world.state(FIRST), State::Down);
    maintain(&mut world, FIRST, true);
    world.run(ms(5_000));
    assert!(world.server(FIRST).is_dead());
    world.set(FIRST, Host::Answers(200));
    world.run(ms(5_000));
    assert!(!world.server(FIRST).is_dead());
    assert!(!world.path(FIRST).contains(&State::Probation));
}

#[test]
fn what_is_under_maintenance_does_not_count_for_a_suspicion() {
    let mut world = World::settled(4);
    for id in [FIRST, SECOND] {
        maintain(&mut world, id, true);
        world.set(id, Host::Silent);
    }
    world.set(ServerId(2), Host::Silent);
    world.run(ms(20_000));
    assert_eq!(world.suspect(), None, "one of the two that count");
    assert_eq!(world.state(ServerId(2)), State::Down);

    let mut world = World::settled(4);
    for id in [FIRST, SECOND] {
        maintain(&mut world, id, true);
    }
    world.set(ServerId(2), Host::Silent);
    world.set(ServerId(3), Host::Silent);
    world.run(ms(5_000));
    assert_eq!(world.suspect(), Some(Suspect::OwnNetwork), "both that count");
}

#[test]
fn shared_errors_are_those_of_the_others() {
    let mut world = World::settled(3);
    maintain(&mut world, FIRST, true);
    world.set(SECOND, Host::Answers(500));
    world.set(ServerId(2), Host::Answers(500));
    world.run(ms(5_000));
    assert_eq!(world.suspect(), Some(Suspect::SharedBackend));
}
