//! The way back: hold, probation, ramp (H2, H3, M8).

use super::*;
use crate::cluster::Proof;

const SECOND: ServerId = ServerId(1);

/// Kills the first server cleanly, and lets it answer again after ten seconds.
fn restart(world: &mut World) {
    world.set(FIRST, Host::Refuses);
    world.run(ms(10_000));
    assert_eq!(world.state(FIRST), State::Down);
    world.set(FIRST, Host::Answers(200));
}

#[test]
fn refusal_is_acted_on_at_once_and_silence_after_the_hold() {
    let settings = Settings::default();
    for (dead, hold) in
        [(Host::Refuses, settings.hold_refused), (Host::Silent, settings.hold_silence)]
    {
        let mut world = World::settled(2);
        world.set(FIRST, dead);
        world.run(ms(3_000));
        let failure = world.server(FIRST).failure.unwrap();
        assert_eq!(failure.since, world.when(FIRST, State::Down));
        assert_eq!(failure.hold_until - failure.since, hold);
    }
}

#[test]
fn a_refusal_after_a_silence_shortens_the_hold() {
    let mut world = World::settled(2);
    world.set(FIRST, Host::Silent);
    world.run(ms(3_000));
    let silence = world.server(FIRST).failure.unwrap();
    world.set(FIRST, Host::Refuses);
    world.run(ms(1_500));
    let refusal = world.server(FIRST).failure.unwrap();
    assert_eq!(refusal.proof, Proof::Refused);
    assert_eq!(refusal.since, silence.since);
    assert!(refusal.hold_until <= world.now && world.now < silence.hold_until);
}

#[test]
fn back_within_the_hold_is_straight_back_to_what_it_was() {
    let mut world = World::settled(2);
    let pause = world.now + ms(4_000);
    world.set(FIRST, Host::Paused(pause));
    world.run_until(pause);
    world.set(FIRST, Host::Answers(200));
    world.run(ms(10));
    assert_eq!(world.path(FIRST), [State::Degraded, State::Down, State::Up]);
    assert_eq!(world.server(FIRST).failure, None);
    world.run(ms(60_000));
    assert_eq!(world.path(FIRST).len(), 3, "without probation");
}

#[test]
fn who_was_degraded_before_it_fell_silent_is_degraded_again() {
    let mut world = World::settled(2);
    world.set(FIRST, Host::Busy(60));
    world.run(ms(2_000));
    let pause = world.now + ms(4_000);
    world.set(FIRST, Host::Paused(pause));
    world.run_until(pause);
    world.set(FIRST, Host::Answers(200));
    world.run(ms(10));
    assert_eq!(world.path(FIRST), [State::Degraded, State::Down, State::Degraded]);
}

#[test]
fn back_after_the_hold_is_probation_then_ramp_then_up() {
    let mut world = World::settled(2);
    restart(&mut world);
    let back = world.now;
    world.run(ms(120_000));
    assert_eq!(world.path(FIRST), [State::Down, State::Probation, State::Ramp, State::Up]);
    let probation = world.when(FIRST, State::Probation);
    let ramp = world.when(FIRST, State::Ramp);
    let up = world.when(FIRST, State::Up);
    assert!(probation - back <= ms(3_000));
    assert!((ms(30_000)..ms(31_000)).contains(&(ramp - probation)), "{:?}", ramp - probation);
    assert!((ms(60_000)..ms(61_000)).contains(&(up - ramp)), "{:?}", up - ramp);
}

#[test]
fn three_good_answers_in_a_row_lead_out_of_down() {
    let mut world = World::settled(2);
    world.set(FIRST, Host::Refuses);
    world.run(ms(10_000));
    for _ in 0..20 {
        world.observe(FIRST, answer(200, ms(1)));
        world.observe(FIRST, answer(200, ms(1)));
        world.observe(FIRST, answer(500, ms(1)));
    }
    assert_eq!(world.state(FIRST), State::Down);
    world.observe(FIRST, answer(200, ms(1)));
    world.observe(FIRST, answer(200, ms(1)));
    assert_eq!(world.state(FIRST), State::Down);
    world.observe(FIRST, answer(200, ms(1)));
    assert_eq!(world.state(FIRST), State::Probation);
}

#[test]
fn probation_waits_for_the_sweep_and_each_probation_for_its_own() {
    let mut world = World::settled(2);
    world.sweeps = false;
    world.observe(FIRST, Observation::Swept);
    restart(&mut world);
    world.run(ms(300_000));
    assert_eq!(world.state(FIRST), State::Probation, "swept before it failed is not swept");
    assert!(world.server(FIRST).failure.is_some(), "to its users it is still failed");
    world.observe(FIRST, Observation::Swept);
    world.run(ms(1_000));
    assert_eq!(world.state(FIRST), State::Ramp);
    assert_eq!(world.server(FIRST).failure, None);
    restart(&mut world);
    world.run(ms(300_000));
    assert_eq!(world.state(FIRST), State::Probation);
}

#[test]
fn a_failure_in_probation_or_ramp_is_down_again() {
    for after in [ms(15_000), ms(60_000)] {
        let mut world = World::settled(2);
        restart(&mut world);
        world.run(after);
        assert!(matches!(world.state(FIRST), State::Probation | State::Ramp));
        world.set(FIRST, Host::Refuses);
        world.run(ms(1_000));
        assert_eq!(world.state(FIRST), State::Down);
    }
}

#[test]
fn trouble_in_probation_starts_the_dwell_anew() {
    let mut world = World::settled(2);
    restart(&mut world);
    world.run(ms(25_000));
    world.observe(
        FIRST,
        Observation::Answered {
            plane: Plane::Sip,
            status: 503,
            latency: ms(1),
            retry_after: Some(1),
        },
    );
    let trouble = world.now;
    world.run(ms(40_000));
    assert!(world.when(FIRST, State::Ramp) - trouble >= ms(30_000));
}

#[test]
fn each_flap_doubles_probation_up_to_thirty_two_times() {
    let mut world = World::settled(2);
    let mut dwells = Vec::new();
    for _ in 0..8 {
        restart(&mut world);
        world.run_while(ms(2_000_000), |world| world.state(FIRST) != State::Ramp);
        dwells
            .push((world.when(FIRST, State::Ramp) - world.when(FIRST, State::Probation)).as_secs());
        world.run_while(ms(100_000), |world| world.state(FIRST) != State::Up);
        world.run(ms(300_000));
    }
    assert_eq!(dwells, [30, 60, 120, 240, 480, 960, 960, 960]);
}

#[test]
fn a_failure_long_after_the_return_is_no_flap() {
    let mut world = World::settled(2);
    for _ in 0..3 {
        restart(&mut world);
        world.run(ms(800_000));
        assert_eq!(world.state(FIRST), State::Up);
        let dwell = world.when(FIRST, State::Ramp) - world.when(FIRST, State::Probation);
        assert_eq!(dwell.as_secs(), 30);
    }
}

#[test]
fn a_server_that_never_was_up_needs_no_dwell_and_no_ramp() {
    let mut world = World::new(2);
    world.set_all(Host::Refuses);
    world.run(ms(20_000));
    assert_eq!(world.state(FIRST), State::Down);
    world.set_all(Host::Answers(200));
    world.run(ms(3_500));
    for id in world.ids() {
        assert_eq!(world.path(id), [State::Down, State::Probation, State::Up]);
    }
}

#[test]
fn an_unknown_server_that_was_only_silent_for_a_moment_is_unknown_again_and_then_up() {
    let mut world = World::new(2);
    world.set(FIRST, Host::Silent);
    world.run(ms(3_000));
    world.set(FIRST, Host::Answers(200));
    world.run(ms(4_000));
    assert_eq!(world.path(FIRST), [State::Down, State::Unknown, State::Up]);
}

#[test]
fn a_failure_in_probation_keeps_the_time_of_the_outage() {
    let mut world = World::settled(2);
    restart(&mut world);
    let first = world.server(FIRST).failure.unwrap();
    world.run(ms(10_000));
    world.set(FIRST, Host::Silent);
    world.run(ms(3_000));
    let second = world.server(FIRST).failure.unwrap();
    assert_eq!((second.since, second.hold_until), (first.since, first.hold_until));
    assert_eq!(second.proof, Proof::Silence);
}

#[test]
fn the_realm_of_a_server_outlives_its_failure_and_not_its_return() {
    let mut world = World::settled(2);
    for (server, realm) in [(FIRST, "a"), (SECOND, "b")] {
        let seen = Observation::Challenged { domain: "a.example".into(), realm: realm.into() };
        world.observe(server, seen);
    }
    let names = |world: &World, server| world.server(server).realms.names();
    assert_eq!(names(&world, FIRST), ["a".into()]);
    assert!(world.server(FIRST).realms.differ_from(&world.server(SECOND).realms));
    world.set(FIRST, Host::Refuses);
    world.run(ms(10_000));
    assert_eq!(world.state(FIRST), State::Down);
    assert_eq!(names(&world, FIRST), ["a".into()], "its users are to be moved by it");
    world.set(FIRST, Host::Answers(200));
    world.run(ms(10_000));
    assert_eq!(names(&world, FIRST), [], "it may have been configured anew");
    assert_eq!(names(&world, SECOND), ["b".into()]);
}
