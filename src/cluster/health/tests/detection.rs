//! From the fault to the state (H1, H2), and what is no fault.

use super::*;
use crate::cluster::Proof;

/// The phases of a fault against the probes: every ten milliseconds of two probe intervals.
fn phases() -> impl Iterator<Item = Duration> {
    (0..110).map(|step| ms(step * 10))
}

/// Kills the first of two servers at one phase; how long until it is down, and by what.
fn death(phase: Duration, dead: Host) -> (Duration, Proof) {
    let mut world = World::settled(2);
    world.run(phase);
    let fault = world.now;
    world.set(FIRST, dead);
    world.run_while(ms(5_000), |world| world.state(FIRST) != State::Down);
    (world.when(FIRST, State::Down) - fault, world.server(FIRST).failure.unwrap().proof)
}

#[test]
fn a_silent_death_is_down_within_three_seconds_at_every_phase() {
    for phase in phases() {
        let (took, proof) = death(phase, Host::Silent);
        assert!(took <= ms(3_000), "{phase:?}: {took:?}");
        assert!(took > ms(1_900), "{phase:?}: {took:?} is no patience");
        assert_eq!(proof, Proof::Silence);
    }
}

#[test]
fn a_clean_death_is_down_within_one_second_at_every_phase() {
    for phase in phases() {
        let (took, proof) = death(phase, Host::Refuses);
        assert!(took <= ms(1_000), "{phase:?}: {took:?}");
        assert!(took >= ms(200), "{phase:?}: {took:?} is one burst");
        assert_eq!(proof, Proof::Refused);
    }
}

#[test]
fn a_stall_of_one_second_trips_nothing_at_any_phase() {
    for phase in phases() {
        for swallows in [false, true] {
            let mut world = World::settled(2);
            world.run(phase);
            let end = world.now + ms(1_000);
            world.set(FIRST, if swallows { Host::Silent } else { Host::Paused(end) });
            world.run_until(end);
            world.set(FIRST, Host::Answers(200));
            world.run(ms(5_000));
            assert_eq!(world.changes, [], "{phase:?}, probes swallowed: {swallows}");
        }
    }
}

#[test]
fn a_stall_of_two_seconds_degrades_and_passes() {
    let mut world = World::settled(2);
    let end = world.now + ms(2_000);
    world.set(FIRST, Host::Paused(end));
    world.run_until(end);
    world.set(FIRST, Host::Answers(200));
    world.run(ms(5_000));
    assert_eq!(world.path(FIRST), [State::Degraded, State::Up]);
}

#[test]
fn one_lost_probe_in_ten_for_an_hour_trips_nothing() {
    for seed in 0..4 {
        let mut world = World::with(3, HealthDocumentUse::None, Settings::default(), seed);
        world.settle();
        world.loss = 10;
        world.run(ms(3_600_000));
        assert_eq!(world.changes, [], "seed {seed}");
    }
}

#[test]
fn every_answer_but_5xx_is_a_sign_of_life() {
    for status in [200, 202, 302, 401, 403, 404, 405, 408, 420, 423, 481, 486, 501, 603] {
        let mut world = World::new(1);
        world.set(FIRST, Host::Answers(status));
        world.run(ms(20_000));
        assert_eq!(world.path(FIRST), [State::Up], "{status}");
    }
}

#[test]
fn an_answer_to_traffic_proves_life_where_probes_are_lost() {
    let mut world = World::settled(2);
    world.set(FIRST, Host::Silent);
    for _ in 0..60 {
        world.run(ms(500));
        world.observe(FIRST, answer(200, ms(3)));
    }
    assert_eq!(world.changes, []);
}

#[test]
fn a_burst_of_refusals_counts_once() {
    let mut world = World::settled(2);
    for _ in 0..500 {
        world.observe(FIRST, Observation::Refused(Plane::Sip));
    }
    world.run(ms(60));
    for _ in 0..500 {
        world.observe(FIRST, Observation::Refused(Plane::Sip));
    }
    world.run(ms(3_000));
    assert_eq!(world.changes, []);
}

#[test]
fn an_answer_between_refusals_breaks_their_row() {
    let mut world = World::settled(2);
    for _ in 0..20 {
        world.observe(FIRST, Observation::Refused(Plane::Sip));
        world.run(ms(100));
        world.observe(FIRST, Observation::Refused(Plane::Sip));
        // The probe that follows a refusal is answered.
        world.run(ms(150));
    }
    assert_eq!(world.changes, []);
}

#[test]
fn a_refusal_in_traffic_is_looked_into_within_its_interval() {
    let mut world = World::settled(1);
    world.set(FIRST, Host::Refuses);
    let fault = world.now;
    world.observe(FIRST, Observation::Refused(Plane::Sip));
    world.run_while(ms(300), |world| world.state(FIRST) != State::Down);
    assert!(world.when(FIRST, State::Down) - fault <= ms(250));
}

#[test]
fn signs_that_prove_nothing_make_the_next_probe_come_at_once_but_no_flood() {
    for sign in [Observation::Unreachable(Plane::Sip), Observation::TimedOut(Plane::Sip)] {
        let mut world = World::settled(2);
        world.run_while(ms(1_000), |world| {
            world.probes.iter().rev().find(|probe| probe.1 == FIRST).unwrap().0 != world.now
        });
        world.run(ms(150));
        let before = world.probes.len();
        for _ in 0..100 {
            world.observe(FIRST, sign.clone());
            world.run(ms(1));
        }
        let sent = world.probes[before..].iter().filter(|probe| probe.1 == FIRST).count();
        assert!((1..=2).contains(&sent), "{sent} probes in 100 ms");
        assert!(world.probes[before].0 - world.now <= ms(100));
        world.run(ms(5_000));
        assert_eq!(world.changes, [], "and no verdict rests on them");
    }
}

#[test]
fn a_503_degrades_for_as_long_as_it_says_and_never_takes_down() {
    let mut world = World::settled(2);
    world.observe(
        FIRST,
        Observation::Answered {
            plane: Plane::Sip,
            status: 503,
            latency: ms(1),
            retry_after: Some(20),
        },
    );
    world.run(ms(19_000));
    assert_eq!(world.state(FIRST), State::Degraded);
    assert!(world.server(FIRST).score < 20, "takes no strangers: {}", world.server(FIRST).score);
    world.run(ms(3_000));
    assert_eq!(world.path(FIRST), [State::Degraded, State::Up]);

    world.set(FIRST, Host::Busy(1));
    world.run(ms(600_000));
    assert_eq!(world.path(FIRST), [State::Degraded, State::Up, State::Degraded]);
}

#[test]
fn a_retry_after_of_a_hundred_years_is_cut() {
    let mut world = World::settled(2);
    let seen = Observation::Answered {
        plane: Plane::Sip,
        status: 503,
        latency: ms(1),
        retry_after: Some(u32::MAX),
    };
    world.observe(FIRST, seen);
    world.run(ms(310_000));
    assert_eq!(world.state(FIRST), State::Up);
}

#[test]
fn soft_failures_in_a_row_degrade_and_only_a_long_run_takes_down() {
    for status in [500, 504] {
        let mut world = World::settled(2);
        let fault = world.now;
        world.set(FIRST, Host::Answers(status));
        world.run(ms(3_000));
        assert_eq!(world.path(FIRST), [State::Degraded]);
        world.run(ms(5_000));
        assert_eq!(world.path(FIRST), [State::Degraded, State::Down]);
        assert_eq!(world.server(FIRST).failure.unwrap().proof, Proof::Errors);
        assert!(world.when(FIRST, State::Down) - fault >= ms(5_000));
    }
}

#[test]
fn a_thousand_soft_failures_in_a_millisecond_degrade_at_most() {
    let mut world = World::settled(2);
    for _ in 0..1_000 {
        world.observe(FIRST, answer(500, ms(1)));
    }
    assert_eq!(world.path(FIRST), [State::Degraded]);
    world.run(ms(5_000));
    assert_eq!(world.path(FIRST), [State::Degraded, State::Up]);
}

#[test]
fn now_and_then_a_soft_failure_is_nothing() {
    let mut world = World::settled(2);
    for _ in 0..500 {
        world.observe(FIRST, answer(500, ms(1)));
        world.observe(FIRST, answer(504, ms(1)));
        world.run(ms(600));
    }
    assert_eq!(world.changes, []);
}

#[test]
fn unknown_ends_with_the_third_good_answer() {
    let mut world = World::new(1);
    world.run_while(ms(5_000), |world| world.state(FIRST) == State::Unknown);
    assert_eq!(world.probes.len(), 3);
    assert_eq!(world.path(FIRST), [State::Up]);
}

#[test]
fn an_unknown_server_that_never_answers_is_down_after_the_usual_silence_and_three_probes() {
    let mut world = World::new(2);
    world.set(FIRST, Host::Silent);
    world.run(ms(2_425));
    assert_eq!(world.path(FIRST), []);
    world.run(ms(100));
    assert_eq!(world.path(FIRST), [State::Down]);

    let slow = Settings { probe_interval: ms(10_000), ..Settings::default() };
    let mut world = World::with(2, HealthDocumentUse::None, slow, 7);
    world.set(FIRST, Host::Silent);
    world.run_while(ms(60_000), |world| world.state(FIRST) != State::Down);
    let asked = world.probes.iter().filter(|probe| probe.1 == FIRST).count();
    assert!(asked >= 3, "{asked} probes");
}

#[test]
fn probes_are_spread_and_jittered() {
    let mut world = World::new(10);
    let start = world.now;
    world.run(ms(224));
    let first: Vec<Duration> = world.probes.iter().map(|probe| probe.0 - start).collect();
    assert_eq!(first, (0..9).map(|step| ms(step * 25)).collect::<Vec<_>>());
    world.run(ms(60_000));
    let mine: Vec<Uptime> =
        world.probes.iter().filter(|probe| probe.1 == FIRST).map(|probe| probe.0).collect();
    let gaps: Vec<Duration> = mine.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(gaps.iter().all(|gap| (ms(225)..=ms(275)).contains(gap)), "{gaps:?}");
    let (least, most) = (gaps.iter().min().unwrap(), gaps.iter().max().unwrap());
    assert!(*most - *least > ms(25), "no jitter: {gaps:?}");
}

#[test]
fn a_dead_server_is_asked_twice_a_second() {
    let mut world = World::settled(2);
    world.set(FIRST, Host::Silent);
    world.run(ms(5_000));
    let before = world.probes.iter().filter(|probe| probe.1 == FIRST).count();
    world.run(ms(100_000));
    let sent = world.probes.iter().filter(|probe| probe.1 == FIRST).count() - before;
    assert!((180..=224).contains(&sent), "{sent}");
}

#[test]
fn the_same_seed_gives_the_same_story() {
    let story = |seed| {
        let mut world = World::with(3, HealthDocumentUse::Optional, Settings::default(), seed);
        world.loss = 3;
        world.run(ms(600_000));
        (world.changes, world.probes)
    };
    assert_eq!(story(11), story(11));
    assert_ne!(story(11).1, story(12).1);
}

#[test]
fn an_empty_pool_waits_for_nothing() {
    let mut world = World::new(0);
    assert_eq!(world.health.next(), None);
    world.tick();
    world.observe(ServerId(9), Observation::Refused(Plane::Sip));
    assert_eq!(world.health.poll(), None);
}
