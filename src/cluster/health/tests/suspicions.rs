//! It may be us, or something all servers share (H5).

use super::*;
use crate::cluster::Proof;

const SECOND: ServerId = ServerId(1);
const THIRD: ServerId = ServerId(2);

#[test]
fn more_than_half_silent_in_one_window_is_our_own_network() {
    let mut world = World::settled(4);
    world.set(FIRST, Host::Silent);
    world.set(SECOND, Host::Silent);
    world.run(ms(4_000));
    assert_eq!(world.suspect(), None, "half is not more than half");
    world.set(THIRD, Host::Silent);
    world.run(ms(3_000));
    assert_eq!(world.suspect(), Some(Suspect::OwnNetwork));
    let view = world.health.view();
    let (began, since) = (world.suspicions[0].0, view.suspicion.unwrap().since);
    assert_eq!(began, since);
}

#[test]
fn suspicion_comes_before_any_hold_is_over() {
    let mut world = World::settled(3);
    world.set_all(Host::Silent);
    world.run(ms(4_000));
    let began = world.suspicions[0].0;
    for id in world.ids() {
        assert!(world.server(id).failure.unwrap().hold_until > began);
    }
}

#[test]
fn one_after_the_other_is_not_one_window() {
    let mut world = World::settled(3);
    world.set(FIRST, Host::Silent);
    world.run(ms(20_000));
    world.set(SECOND, Host::Silent);
    world.run(ms(20_000));
    assert_eq!(world.suspicions, []);
    assert_eq!(world.state(SECOND), State::Down);
}

#[test]
fn refusals_do_not_count() {
    let mut world = World::settled(3);
    world.set_all(Host::Refuses);
    world.run(ms(20_000));
    assert_eq!(world.suspicions, []);
    for id in world.ids() {
        assert_eq!(world.server(id).failure.unwrap().proof, Proof::Refused);
    }
}

#[test]
fn a_pool_of_one_suspects_the_network_when_it_falls_silent() {
    let mut world = World::settled(1);
    world.set(FIRST, Host::Silent);
    world.run(ms(4_000));
    assert_eq!(world.suspect(), Some(Suspect::OwnNetwork));
}

#[test]
fn after_an_outage_of_our_own_everybody_is_straight_back() {
    let mut world = World::settled(4);
    world.set_all(Host::Silent);
    world.run(ms(60_000));
    world.set_all(Host::Answers(200));
    world.run(ms(6_000));
    assert_eq!(world.suspect(), None);
    for id in world.ids() {
        assert_eq!(world.state(id), State::Up);
        assert!(!world.path(id).contains(&State::Probation), "nobody was moved");
    }
}

#[test]
fn the_end_of_a_panic_gives_those_still_silent_a_hold_once_more() {
    let mut world = World::settled(4);
    world.set_all(Host::Silent);
    world.run(ms(60_000));
    world.set(FIRST, Host::Answers(200));
    world.set(SECOND, Host::Answers(200));
    world.run(ms(3_000));
    assert_eq!(world.suspect(), None);
    let (ended, _) = *world.suspicions.last().unwrap();
    let failure = world.server(THIRD).failure.unwrap();
    assert_eq!(failure.hold_until, ended + Settings::default().hold_silence);
    world.set_all(Host::Answers(200));
    world.run(ms(3_000));
    assert_eq!(world.state(THIRD), State::Up, "back within it");
}

#[test]
fn who_was_exposed_before_the_panic_goes_through_probation() {
    let mut world = World::settled(3);
    world.set(FIRST, Host::Silent);
    world.run(ms(20_000));
    world.set_all(Host::Silent);
    world.run(ms(20_000));
    assert_eq!(world.suspect(), Some(Suspect::OwnNetwork));
    world.set_all(Host::Answers(200));
    world.run(ms(6_000));
    assert_eq!(world.state(FIRST), State::Probation);
    assert_eq!(world.state(SECOND), State::Up);
}

#[test]
fn who_refuses_in_a_panic_is_acted_on_and_silent_no_more() {
    let mut world = World::settled(3);
    world.set_all(Host::Silent);
    world.run(ms(8_000));
    world.set(FIRST, Host::Refuses);
    world.run(ms(3_000));
    assert_eq!(world.suspect(), Some(Suspect::OwnNetwork), "two of three are still silent");
    world.set(FIRST, Host::Answers(200));
    world.run(ms(4_000));
    assert_eq!(world.state(FIRST), State::Probation, "its users may have been moved");

    world.set(SECOND, Host::Refuses);
    world.run(ms(3_000));
    assert_eq!(world.suspect(), None, "one of three is silent");
}

#[test]
fn a_server_that_was_silent_long_before_does_not_keep_a_panic_alive() {
    let mut world = World::settled(5);
    world.set(FIRST, Host::Silent);
    world.run(ms(60_000));
    for id in [1, 2, 3] {
        world.set(ServerId(id), Host::Silent);
    }
    world.run(ms(4_000));
    assert_eq!(world.suspect(), Some(Suspect::OwnNetwork));
    world.set(ServerId(3), Host::Answers(200));
    world.run(ms(3_000));
    assert_eq!(world.suspect(), None);
}

#[test]
fn the_same_5xx_from_all_is_a_shared_backend_and_nobody_goes_down() {
    for status in [500, 503, 504] {
        let mut world = World::settled(3);
        world.set_all(Host::Answers(status));
        world.run(ms(60_000));
        assert_eq!(world.suspect(), Some(Suspect::SharedBackend), "{status}");
        for id in world.ids() {
            assert_eq!(world.path(id), [State::Degraded]);
        }
        world.set_all(Host::Answers(200));
        world.run(ms(15_000));
        assert_eq!(world.suspicions.len(), 2, "began once, ended once");
        assert_eq!(world.suspect(), None);
        for id in world.ids() {
            assert_eq!(world.state(id), State::Up);
        }
    }
}

#[test]
fn one_good_answer_among_failures_does_not_end_a_shared_suspicion() {
    let mut world = World::settled(2);
    world.set_all(Host::Answers(500));
    world.run(ms(5_000));
    for _ in 0..20 {
        world.observe(FIRST, answer(200, ms(1)));
        world.run(ms(3_000));
    }
    assert_eq!(world.suspicions.len(), 1);
    assert_eq!(world.suspect(), Some(Suspect::SharedBackend));
}

#[test]
fn who_refuses_while_a_shared_backend_is_suspected_was_not_left_by_anybody() {
    let mut world = World::settled(3);
    world.set_all(Host::Answers(500));
    world.run(ms(5_000));
    world.set(FIRST, Host::Refuses);
    world.run(ms(20_000));
    assert_eq!(world.state(FIRST), State::Down);
    assert_eq!(world.suspect(), Some(Suspect::SharedBackend));
    world.set(FIRST, Host::Answers(200));
    world.run(ms(10_000));
    assert!(!world.path(FIRST).contains(&State::Probation), "{:?}", world.path(FIRST));
    assert_eq!(world.state(FIRST), State::Up);
}

#[test]
fn one_that_errs_among_healthy_ones_goes_down() {
    let mut world = World::settled(3);
    world.set(FIRST, Host::Answers(500));
    world.set(SECOND, Host::Answers(504));
    world.run(ms(10_000));
    assert_eq!(world.suspicions, []);
    assert_eq!(world.state(FIRST), State::Down);
    assert_eq!(world.state(THIRD), State::Up);
}

#[test]
fn a_single_server_shares_nothing() {
    let mut world = World::settled(1);
    world.set(FIRST, Host::Answers(500));
    world.run(ms(10_000));
    assert_eq!(world.suspicions, []);
    assert_eq!(world.state(FIRST), State::Down);
}

#[test]
fn who_still_errs_when_the_shared_trouble_ends_gets_its_time_anew() {
    let mut world = World::settled(2);
    world.set_all(Host::Answers(500));
    world.run(ms(30_000));
    world.set(SECOND, Host::Answers(200));
    world.run_while(ms(5_000), |world| world.suspect().is_some());
    let ended = world.now;
    world.run_while(ms(20_000), |world| world.state(FIRST) != State::Down);
    assert!(world.when(FIRST, State::Down) - ended >= ms(4_900));
}

#[test]
fn late_ticks_void_the_probes_they_cover() {
    let mut world = World::settled(3);
    for stall in [ms(2_900), ms(10_000)] {
        // The driver stands still; the answers that arrived meanwhile were lost in the stall.
        world.run(ms(700));
        let before = world.health.late_ticks();
        world.network.clear();
        world.now += stall;
        world.tick();
        assert_eq!(world.health.late_ticks(), before + 1);
        world.run(ms(5_000));
        assert_eq!(world.changes, [], "after {stall:?}");
    }
}

#[test]
fn a_late_observation_is_judged_no_harder_than_a_late_tick() {
    let mut world = World::settled(2);
    world.set(FIRST, Host::Silent);
    world.run(ms(1_000));
    world.now += ms(8_000);
    world.observe(FIRST, Observation::Refused(Plane::Sip));
    world.observe(FIRST, Observation::Document(missing()));
    assert_eq!(world.health.late_ticks(), 1);
    assert_eq!(world.changes, []);
}

#[test]
fn a_voided_silence_counts_anew_and_still_ends_in_down() {
    let mut world = World::settled(2);
    world.set(FIRST, Host::Silent);
    world.run(ms(2_000));
    world.network.clear();
    world.now += ms(1_000);
    let resumed = world.now;
    world.tick();
    world.run(ms(5_000));
    let took = world.when(FIRST, State::Down) - resumed;
    assert!((ms(2_200)..=ms(3_000)).contains(&took), "{took:?}");
}

#[test]
fn a_driver_that_is_a_little_late_changes_nothing() {
    let mut world = World::settled(2);
    for _ in 0..100 {
        let due = world.health.next().unwrap();
        world.run_until(Uptime::from_nanos(due.as_nanos() - 1));
        world.now = due + ms(250);
        world.tick();
    }
    assert_eq!(world.health.late_ticks(), 0);
    assert_eq!(world.changes, []);
}

fn end_suspicion(world: &mut World) -> bool {
    let ended = world.health.end_suspicion(world.now);
    world.drain();
    ended
}

#[test]
fn an_operator_ends_a_suspicion_until_another_server_falls_silent() {
    let mut world = World::settled(4);
    for id in [FIRST, SECOND, THIRD] {
        world.set(id, Host::Silent);
    }
    world.run(ms(60_000));
    assert_eq!(world.suspect(), Some(Suspect::OwnNetwork));
    assert!(end_suspicion(&mut world));
    assert_eq!(world.suspect(), None);
    let hold_until = world.server(FIRST).failure.unwrap().hold_until;
    assert_eq!(hold_until, world.now + Settings::default().hold_silence, "a hold once more");
    assert!(!end_suspicion(&mut world), "it has ended already");
    world.run(ms(60_000));
    assert_eq!(world.suspicions.len(), 2, "began once, ended once");

    let fourth = ServerId(3);
    world.set(fourth, Host::Silent);
    world.run(ms(5_000));
    assert_eq!(world.suspect(), Some(Suspect::OwnNetwork), "the set is another one");
    assert!(end_suspicion(&mut world));
    assert_eq!(world.suspect(), None);
}

#[test]
fn who_comes_back_does_not_bring_an_ended_suspicion_back_but_who_goes_again_does() {
    let mut world = World::settled(5);
    let fourth = ServerId(3);
    for id in [FIRST, SECOND, THIRD, fourth] {
        world.set(id, Host::Silent);
    }
    world.run(ms(10_000));
    assert!(end_suspicion(&mut world));
    world.set(fourth, Host::Answers(200));
    world.run(ms(3_000));
    assert_eq!(world.suspect(), None, "three of five are silent, as they were");
    world.set(fourth, Host::Silent);
    world.run(ms(5_000));
    assert_eq!(world.suspect(), Some(Suspect::OwnNetwork));
}

#[test]
fn a_new_outage_is_suspected_anew_after_an_ended_one() {
    let mut world = World::settled(3);
    world.set_all(Host::Silent);
    world.run(ms(5_000));
    assert!(end_suspicion(&mut world));
    world.set_all(Host::Answers(200));
    world.run(ms(60_000));
    world.set_all(Host::Silent);
    world.run(ms(5_000));
    assert_eq!(world.suspect(), Some(Suspect::OwnNetwork));
}

#[test]
fn shared_errors_are_not_ended_by_saying_so() {
    let mut world = World::settled(3);
    assert!(!end_suspicion(&mut world), "nothing is suspected");
    world.set_all(Host::Answers(500));
    world.run(ms(5_000));
    assert!(!end_suspicion(&mut world));
    assert_eq!(world.suspect(), Some(Suspect::SharedBackend));
}
