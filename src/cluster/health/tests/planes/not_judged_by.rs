//! Planes that a server is not judged by: dead everywhere, never heard, or not to count (H4, H5).

use super::*;

#[test]
fn on_more_than_half_of_the_servers_it_is_something_they_share_and_nobody_leaves() {
    for host in [Host::Refuses, Host::Silent, Host::Answers(500)] {
        for dead in [Plane::Sip, Plane::Client] {
            let mut world = world(3);
            for id in [FIRST, SECOND] {
                set(&mut world, id, dead, host);
            }
            world.run(ms(120_000));
            assert_eq!(world.suspect(), Some(Suspect::Plane(dead)), "{host:?}");
            for id in world.ids() {
                assert!(nobody_left(&world, id), "{host:?} {:?}", world.path(id));
            }
            assert_eq!(world.state(FIRST), State::Degraded, "asked last, but asked");
            set_everywhere(&mut world, dead, Host::Answers(200));
            world.run(ms(20_000));
            assert_eq!(world.suspect(), None);
            assert!(world.ids().all(|id| world.state(id) == State::Up));
            assert_eq!(world.suspicions.len(), 2, "{:?}", world.suspicions);
        }
    }
}

#[test]
fn on_half_of_them_it_is_not() {
    let mut world = world(4);
    for id in [FIRST, SECOND] {
        set(&mut world, id, Plane::Client, Host::Refuses);
    }
    world.run(ms(20_000));
    assert_eq!(world.suspicions, []);
    assert_eq!((world.state(FIRST), world.state(SECOND)), (State::Down, State::Down));
}

#[test]
fn who_shares_nothing_but_a_dead_plane_still_dies_as_a_whole() {
    let mut world = world(3);
    set_everywhere(&mut world, Plane::Client, Host::Refuses);
    world.run(ms(30_000));
    let fault = world.now;
    set(&mut world, FIRST, Plane::Sip, Host::Refuses);
    world.run(ms(1_000));
    assert!(world.when(FIRST, State::Down) - fault <= ms(1_000));
    assert_eq!(world.server(FIRST).failure.unwrap().proof, Proof::Refused);
    // And it comes back without the plane that nobody has.
    world.run(ms(5_000));
    set(&mut world, FIRST, Plane::Sip, Host::Answers(200));
    world.run(ms(40_000));
    assert_eq!(world.state(FIRST), State::Ramp, "{:?}", world.path(FIRST));
}

#[test]
fn the_end_of_that_suspicion_gives_those_still_half_dead_their_whole_dwell() {
    let mut world = world(3);
    set_everywhere(&mut world, Plane::Client, Host::Refuses);
    world.run(ms(60_000));
    set(&mut world, SECOND, Plane::Client, Host::Answers(200));
    set(&mut world, THIRD, Plane::Client, Host::Answers(200));
    world.run_while(ms(5_000), |world| world.suspect().is_some());
    let ended = world.now;
    world.run_while(ms(30_000), |world| world.state(FIRST) != State::Down);
    assert!(world.now - ended >= Settings::default().plane_dwell);
}

#[test]
fn who_was_left_before_the_others_fell_does_not_come_back_for_it() {
    let mut world = world(3);
    set(&mut world, FIRST, Plane::Client, Host::Refuses);
    world.run(ms(60_000));
    assert_eq!(world.state(FIRST), State::Down);
    set_everywhere(&mut world, Plane::Client, Host::Refuses);
    world.run(ms(60_000));
    assert_eq!(world.suspect(), Some(Suspect::Plane(Plane::Client)));
    assert_eq!(world.path(FIRST), [State::Partial, State::Down]);
    assert!(nobody_left(&world, SECOND) && nobody_left(&world, THIRD));
}

#[test]
fn one_after_the_other_the_last_ones_keep_their_users_as_there_is_nowhere_to_go() {
    let mut world = world(4);
    for id in world.ids() {
        set(&mut world, id, Plane::Client, Host::Refuses);
        world.run(ms(60_000));
    }
    assert!(nobody_left(&world, ServerId(3)), "{:?}", world.changes);
    assert_eq!(world.suspect(), Some(Suspect::Plane(Plane::Client)));
}

#[test]
fn a_plane_that_was_never_heard_is_said_and_counts_for_nothing() {
    for host in [Host::Refuses, Host::Silent] {
        let mut world = World::of(pool(3), Settings::default(), 7);
        set_everywhere(&mut world, Plane::Client, host);
        world.run(ms(60_000));
        for id in world.ids() {
            assert_eq!(world.path(id), [State::Up], "{host:?}");
            assert_eq!(world.server(id).score, 100);
            assert_eq!(plane_state(&world, id, Plane::Client), PlaneState::Unheard);
            let said = world.turns.iter().filter(|turn| turn.3 == PlaneState::Unheard);
            assert_eq!(said.filter(|turn| turn.1 == id).count(), 1, "once");
        }
        assert_eq!(world.suspicions, []);
        // From its first answer on it is a plane like any other.
        set(&mut world, FIRST, Plane::Client, Host::Answers(200));
        world.run(ms(5_000));
        assert_eq!(plane_state(&world, FIRST, Plane::Client), PlaneState::Alive);
        assert_eq!(world.path(FIRST), [State::Up]);
    }
}

#[test]
fn with_one_plane_never_heard_the_other_one_is_the_server() {
    let mut world = World::of(pool(3), Settings::default(), 7);
    set_everywhere(&mut world, Plane::Client, Host::Refuses);
    world.run(ms(10_000));
    let fault = world.now;
    set(&mut world, FIRST, Plane::Sip, Host::Refuses);
    world.run(ms(1_000));
    assert_eq!(world.state(FIRST), State::Down);
    assert!(world.when(FIRST, State::Down) - fault <= ms(1_000));
    assert_eq!(world.server(FIRST).failure.unwrap().proof, Proof::Refused);
}

#[test]
fn a_pool_that_starts_after_the_door_is_down_as_a_whole_and_then_up() {
    let mut world = World::of(pool(2), Settings::default(), 7);
    for id in [FIRST, SECOND] {
        set_both(&mut world, id, Host::Refuses);
    }
    world.run(ms(20_000));
    assert_eq!(world.path(FIRST), [State::Down]);
    for id in [FIRST, SECOND] {
        set_both(&mut world, id, Host::Answers(200));
    }
    world.run(ms(5_000));
    assert_eq!(world.path(FIRST), [State::Down, State::Probation, State::Up]);
}

#[test]
fn a_plane_that_does_not_count_is_only_shown() {
    let settings = Settings { planes: Planes::SIP, ..Settings::default() };
    let mut world = World::of(pool(3), settings, 7);
    world.settle();
    set(&mut world, FIRST, Plane::Client, Host::Refuses);
    world.run(ms(60_000));
    assert_eq!((world.path(FIRST), world.server(FIRST).score), (vec![], 100));
    assert_eq!(plane_state(&world, FIRST, Plane::Client), PlaneState::Dead);
    assert_eq!(world.turns.len(), 1);
    set(&mut world, FIRST, Plane::Sip, Host::Refuses);
    world.run(ms(1_000));
    assert_eq!(world.server(FIRST).failure.unwrap().proof, Proof::Refused);
    // Nor does it keep a server down.
    set(&mut world, FIRST, Plane::Sip, Host::Answers(200));
    world.run(ms(120_000));
    assert_eq!(world.state(FIRST), State::Up);
}

#[test]
fn where_only_a_plane_counts_that_was_never_heard_the_others_count() {
    let settings = Settings { planes: Planes::NONE.with(Plane::Client), ..Settings::default() };
    let mut world = World::of(pool(2), settings, 7);
    set_everywhere(&mut world, Plane::Client, Host::Refuses);
    world.run(ms(20_000));
    assert_eq!(world.state(FIRST), State::Up);
    set(&mut world, FIRST, Plane::Client, Host::Answers(200));
    world.run(ms(1_000));
    set(&mut world, FIRST, Plane::Sip, Host::Refuses);
    world.run(ms(20_000));
    assert_eq!(world.state(FIRST), State::Up, "clients are served, and they are what counts");
}

#[test]
fn our_own_network_shows_on_all_planes_and_everybody_is_straight_back() {
    let mut world = world(4);
    for id in world.ids() {
        set_both(&mut world, id, Host::Silent);
    }
    world.run(ms(60_000));
    assert_eq!(world.suspect(), Some(Suspect::OwnNetwork));
    assert_eq!(world.suspicions.len(), 1, "and nothing else before: {:?}", world.suspicions);
    for id in world.ids() {
        set_both(&mut world, id, Host::Answers(200));
    }
    world.run(ms(10_000));
    assert_eq!(world.suspect(), None);
    for id in world.ids() {
        assert_eq!(world.state(id), State::Up);
        assert!(!world.path(id).contains(&State::Probation), "{:?}", world.path(id));
    }
}
