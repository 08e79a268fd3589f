//! Alive on one plane and dead on another (H4), and what only looks like it.

mod not_judged_by;

use super::*;
use crate::cluster::Proof;

const SECOND: ServerId = ServerId(1);
const THIRD: ServerId = ServerId(2);
const BOTH: Planes = Planes::SIP.with(Plane::Client);

/// Servers that serve SIP and clients.
fn pool(servers: usize) -> Vec<Server> {
    let both = |place| Server { planes: BOTH, ..server(place, HealthDocumentUse::None) };
    (0..servers).map(both).collect()
}

fn world(servers: usize) -> World {
    let mut world = World::of(pool(servers), Settings::default(), 7);
    world.settle();
    world
}

fn set(world: &mut World, id: ServerId, plane: Plane, host: Host) {
    match plane {
        Plane::Sip => world.set(id, host),
        Plane::Csta | Plane::Client => {
            world.others.insert((id, plane), host);
        }
    }
}

fn set_both(world: &mut World, id: ServerId, host: Host) {
    set(world, id, Plane::Sip, host);
    set(world, id, Plane::Client, host);
}

/// The same of all servers.
fn set_everywhere(world: &mut World, plane: Plane, host: Host) {
    for id in world.ids() {
        set(world, id, plane, host);
    }
}

fn plane_state(world: &World, id: ServerId, plane: Plane) -> PlaneState {
    world.server(id).planes.iter().find(|it| it.plane == plane).unwrap().state
}

/// Its users are where they were, and none of them may be moved.
fn nobody_left(world: &World, id: ServerId) -> bool {
    world.server(id).serves_its_users() && !world.path(id).contains(&State::Down)
}

#[test]
fn one_dead_plane_ends_placements_at_once_and_after_the_dwell_the_server() {
    let dwell = Settings::default().plane_dwell;
    for (host, limit) in [(Host::Refuses, ms(1_000)), (Host::Silent, ms(3_000))] {
        for (dead, proof) in
            [(Plane::Sip, Proof::Plane(Plane::Sip)), (Plane::Client, Proof::Plane(Plane::Client))]
        {
            let mut world = world(3);
            let fault = world.now;
            set(&mut world, FIRST, dead, host);
            world.run_while(limit, |world| world.state(FIRST) != State::Partial);
            let partial = world.when(FIRST, State::Partial);
            assert!(partial - fault <= limit);
            let seen = world.server(FIRST);
            assert!(seen.serves_its_users() && !seen.state.takes_strangers());
            assert_eq!((seen.score, seen.failure, seen.proof()), (0, None, Some(proof)));
            assert_eq!(seen.dead_planes().collect::<Vec<_>>(), [dead]);
            world.run_until(partial + (dwell - ms(1)));
            assert_eq!(world.state(FIRST), State::Partial);
            world.run(ms(1));
            let failure = world.server(FIRST).failure.unwrap();
            assert_eq!((world.state(FIRST), failure.proof), (State::Down, proof));
            assert_eq!((failure.since, failure.hold_until), (partial + dwell, partial + dwell));
            assert_eq!(world.path(SECOND), []);
        }
    }
}

#[test]
fn errors_on_one_plane_are_a_death_of_that_plane() {
    let mut world = world(3);
    set(&mut world, FIRST, Plane::Client, Host::Answers(500));
    world.run(ms(30_000));
    assert_eq!(world.path(FIRST), [State::Degraded, State::Partial, State::Down]);
    assert_eq!(world.health.evidence(FIRST).same_error, Some(500));
}

#[test]
fn all_planes_dead_is_down_in_the_usual_time_and_without_a_dwell() {
    for (host, limit, hold, proof) in [
        (Host::Refuses, ms(1_000), Settings::default().hold_refused, Proof::Refused),
        (Host::Silent, ms(3_000), Settings::default().hold_silence, Proof::Silence),
    ] {
        for phase in 0..30 {
            let mut world = world(3);
            world.run(ms(phase * 10));
            let fault = world.now;
            set_both(&mut world, FIRST, host);
            world.run_while(ms(5_000), |world| world.state(FIRST) != State::Down);
            assert!(world.now - fault <= limit, "{host:?}, {phase}");
            let failure = world.server(FIRST).failure.unwrap();
            assert_eq!((failure.proof, failure.hold_until), (proof, failure.since + hold));
        }
    }
}

#[test]
fn a_host_that_refuses_one_plane_and_drops_the_other_has_proved_the_path() {
    let mut world = world(3);
    set(&mut world, FIRST, Plane::Sip, Host::Refuses);
    set(&mut world, FIRST, Plane::Client, Host::Silent);
    world.run(ms(3_000));
    let failure = world.server(FIRST).failure.unwrap();
    assert_eq!((failure.proof, failure.hold_until), (Proof::Refused, failure.since));
}

#[test]
fn who_loses_the_other_plane_within_the_dwell_waits_for_it_no_longer() {
    let mut world = world(3);
    set(&mut world, FIRST, Plane::Client, Host::Refuses);
    world.run(ms(4_000));
    let fault = world.now;
    set(&mut world, FIRST, Plane::Sip, Host::Refuses);
    world.run(ms(1_000));
    assert_eq!(world.path(FIRST), [State::Partial, State::Down]);
    assert!(world.when(FIRST, State::Down) - fault <= ms(1_000));
    assert_eq!(world.server(FIRST).failure.unwrap().proof, Proof::Refused);
}

#[test]
fn back_within_the_dwell_nobody_has_left() {
    for dead in [Plane::Sip, Plane::Client] {
        let mut world = world(3);
        set(&mut world, FIRST, dead, Host::Silent);
        world.run(ms(11_000));
        assert_eq!(world.state(FIRST), State::Partial);
        set(&mut world, FIRST, dead, Host::Answers(200));
        world.run(ms(60_000));
        let path = world.path(FIRST);
        assert!(nobody_left(&world, FIRST), "{path:?}");
        assert_eq!(path.last(), Some(&State::Up));
        assert!(!path.contains(&State::Probation) && !path.contains(&State::Ramp));
    }
}

#[test]
fn a_dwell_is_as_long_the_second_time() {
    let mut world = world(3);
    for _ in 0..5 {
        set(&mut world, FIRST, Plane::Client, Host::Refuses);
        world.run(ms(9_000));
        assert_eq!(world.state(FIRST), State::Partial);
        set(&mut world, FIRST, Plane::Client, Host::Answers(200));
        world.run(ms(3_000));
        assert_eq!(world.state(FIRST), State::Up);
    }
}

#[test]
fn a_service_that_starts_later_than_the_others_is_no_failure() {
    // The process is gone for two seconds; the client plane needs six more.
    let mut world = world(3);
    set_both(&mut world, FIRST, Host::Silent);
    world.run(ms(4_000));
    assert_eq!(world.state(FIRST), State::Down, "within its hold");
    set(&mut world, FIRST, Plane::Sip, Host::Answers(200));
    world.run(ms(6_000));
    assert_eq!(world.state(FIRST), State::Partial);
    set(&mut world, FIRST, Plane::Client, Host::Answers(200));
    world.run(ms(5_000));
    assert_eq!(world.state(FIRST), State::Up);
    assert!(!world.path(FIRST).contains(&State::Probation), "{:?}", world.path(FIRST));
}

#[test]
fn a_restart_seen_on_sip_is_one_life_and_one_on_another_plane_is_none() {
    let mut world = world(3);
    for plane in [Plane::Client, Plane::Sip] {
        set(&mut world, FIRST, plane, Host::Refuses);
        world.run(ms(3_000));
        set(&mut world, FIRST, plane, Host::Answers(200));
        world.run(ms(10_000));
    }
    assert_eq!((world.restarts.len(), world.server(FIRST).incarnation), (1, 1));
    assert!(nobody_left(&world, FIRST));
}

#[test]
fn a_stall_of_one_second_trips_nothing_on_any_plane() {
    for phase in 0..30 {
        let mut world = world(2);
        world.run(ms(phase * 10));
        let end = world.now + ms(1_000);
        set_both(&mut world, FIRST, Host::Paused(end));
        world.run_until(end);
        set_both(&mut world, FIRST, Host::Answers(200));
        world.run(ms(5_000));
        assert_eq!((world.changes, world.turns), (vec![], vec![]), "{phase}");
    }
}

#[test]
fn each_plane_is_probed_by_its_own_schedule() {
    let mut world = world(2);
    world.run(ms(100));
    world.probes.clear();
    set(&mut world, FIRST, Plane::Client, Host::Silent);
    world.run(ms(60_000));
    let sip = world.probes.iter().filter(|probe| probe.1 == FIRST).count();
    assert!((216..=268).contains(&sip), "{sip}: as if nothing were wrong");
}

#[test]
fn what_the_door_slept_through_is_no_part_of_the_dwell() {
    let mut world = world(3);
    set(&mut world, FIRST, Plane::Client, Host::Refuses);
    world.run_while(ms(1_000), |world| world.state(FIRST) != State::Partial);
    let partial = world.now;
    world.run(ms(2_000));
    let stall = ms(20_000);
    world.network.clear();
    world.now += stall;
    world.tick();
    assert_eq!(world.health.late_ticks(), 1);
    assert_eq!(world.state(FIRST), State::Partial);
    world.run_while(ms(20_000), |world| world.state(FIRST) != State::Down);
    let awake = world.now - partial - stall;
    let dwell = Settings::default().plane_dwell;
    // It was to be awake again within a probe's interval, and only what is beyond that is a stall.
    assert!((dwell - ms(300)..dwell + ms(300)).contains(&awake), "{awake:?}");
}

#[test]
fn a_plane_that_came_back_while_the_door_slept_has_moved_nobody() {
    let mut world = world(3);
    set(&mut world, FIRST, Plane::Client, Host::Refuses);
    world.run(ms(9_000));
    set(&mut world, FIRST, Plane::Client, Host::Answers(200));
    world.network.clear();
    world.now += ms(20_000);
    world.tick();
    world.run(ms(5_000));
    assert_eq!(world.state(FIRST), State::Up);
    assert!(nobody_left(&world, FIRST));
}

#[test]
fn probation_needs_good_answers_on_every_plane_that_counts() {
    let mut world = world(3);
    set_both(&mut world, FIRST, Host::Refuses);
    world.run(ms(10_000));
    set(&mut world, FIRST, Plane::Sip, Host::Answers(200));
    world.run(ms(60_000));
    assert_eq!(world.path(FIRST).last(), Some(&State::Down), "{:?}", world.path(FIRST));
    set(&mut world, FIRST, Plane::Client, Host::Answers(200));
    world.run(ms(10_000));
    assert_eq!(world.state(FIRST), State::Probation);
    set(&mut world, FIRST, Plane::Client, Host::Refuses);
    world.run(ms(1_000));
    assert_eq!(world.state(FIRST), State::Down, "its users had their dwell");
    set(&mut world, FIRST, Plane::Client, Host::Answers(200));
    world.run(ms(200_000));
    assert_eq!(world.state(FIRST), State::Up);
}

#[test]
fn back_after_the_dwell_it_goes_through_probation() {
    let mut world = world(3);
    set(&mut world, FIRST, Plane::Client, Host::Refuses);
    world.run(ms(30_000));
    set(&mut world, FIRST, Plane::Client, Host::Answers(200));
    world.run(ms(120_000));
    let path = [State::Partial, State::Down, State::Probation, State::Ramp, State::Up];
    assert_eq!(world.path(FIRST), path);
}

#[test]
fn a_drain_goes_on_within_the_dwell_and_ends_with_it() {
    let mut world = world(3);
    assert!(world.health.drain(world.now, FIRST, true));
    world.drain();
    set(&mut world, FIRST, Plane::Client, Host::Refuses);
    world.run(ms(9_000));
    assert_eq!(world.state(FIRST), State::Drain);
    world.run(ms(3_000));
    assert_eq!(world.server(FIRST).failure.unwrap().proof, Proof::Plane(Plane::Client));
}

#[test]
fn half_dead_under_maintenance_it_serves_and_afterwards_it_is_judged() {
    let mut world = world(3);
    world.health.maintain(world.now, FIRST, true);
    world.drain();
    set(&mut world, FIRST, Plane::Client, Host::Refuses);
    world.run(ms(60_000));
    assert_eq!(world.path(FIRST), [State::Maintenance]);
    assert!(world.server(FIRST).serves_its_users());
    world.health.maintain(world.now, FIRST, false);
    world.drain();
    world.run(ms(5_000));
    assert_eq!(world.state(FIRST), State::Partial, "it has been heard before");
}

#[test]
fn the_slowest_plane_makes_the_score() {
    let mut world = world(2);
    for _ in 0..200 {
        world.run(ms(100));
        world.observe(FIRST, answer_on(Plane::Client, 200, ms(400)));
    }
    assert!(world.server(FIRST).score <= 60, "{}", world.server(FIRST).score);
    assert!(world.server(SECOND).score >= 95);
}

#[test]
fn an_overloaded_plane_degrades_and_takes_nothing_down() {
    let mut world = world(2);
    set(&mut world, FIRST, Plane::Client, Host::Busy(30));
    world.run(ms(60_000));
    assert_eq!(world.path(FIRST), [State::Degraded]);
}

#[test]
fn an_observation_of_a_plane_that_is_not_served_is_ignored() {
    let mut world = World::settled(2);
    for _ in 0..50 {
        world.observe(FIRST, Observation::Refused(Plane::Client));
        world.observe(FIRST, answer_on(Plane::Csta, 500, ms(1)));
        world.observe(FIRST, Observation::TimedOut(Plane::Client));
        world.run(ms(200));
    }
    assert_eq!((world.changes, world.turns), (vec![], vec![]));
}

/// Whatever happens to the planes: a server whose plane is dead takes nobody, or it is dead on too
/// many; nobody may be moved before the dwell; and when all is well again, all are up.
#[test]
fn by_any_seed_nobody_leaves_before_the_dwell_and_all_come_back() {
    let dwell = Settings::default().plane_dwell;
    let mut failed_by_a_plane = 0;
    for seed in 0..16 {
        let mut world = World::of(pool(3), Settings::default(), seed);
        world.settle();
        let mut chance = fastrand::Rng::with_seed(seed);
        for _ in 0..40 {
            let id = ServerId(chance.u16(0..3));
            let plane = if chance.bool() { Plane::Sip } else { Plane::Client };
            let hosts = [Host::Refuses, Host::Silent, Host::Answers(500), Host::Answers(200)];
            set(&mut world, id, plane, hosts[chance.usize(0..hosts.len())]);
            world.run(ms(chance.u64(100..8_000)));
            for id in world.ids() {
                let seen = world.server(id);
                let shared = matches!(world.suspect(), Some(Suspect::Plane(_)));
                let takes = seen.state.takes_strangers();
                assert!(!takes || shared || seen.dead_planes().next().is_none(), "seed {seed}");
                let by_a_plane =
                    matches!(seen.failure, Some(it) if it.proof.name().starts_with("plane"));
                failed_by_a_plane += u32::from(by_a_plane);
            }
        }
        for (at, id, from, to) in &world.changes {
            let dead = |turn: &&(Uptime, ServerId, Plane, PlaneState)| {
                turn.1 == *id && turn.3 == PlaneState::Dead
            };
            let whole = world.turns.iter().filter(dead).any(|turn| turn.0 == *at);
            let began = world.turns.iter().rev().filter(dead).find(|turn| turn.0 < *at);
            if (*from, *to) == (State::Partial, State::Down) && !whole {
                assert!(*at - began.unwrap().0 >= dwell, "seed {seed}: {id:?} at {at:?}");
            }
        }
        for id in world.ids() {
            set_both(&mut world, id, Host::Answers(200));
        }
        let well = |world: &World| world.ids().all(|id| world.state(id) == State::Up);
        let end = world.now + ms(1_200_000);
        while !well(&world) && world.now < end {
            world.run(ms(5_000));
        }
        assert!(well(&world), "seed {seed}");
        assert_eq!(world.suspect(), None);
    }
    assert!(failed_by_a_plane > 20, "{failed_by_a_plane}");
}
