//! What is published of the score, and when the view is a new one (H6).

use super::*;

fn busy(cpu_percent: u8) -> Result<Document, DocumentFault> {
    Ok(Document { cpu_percent: Some(cpu_percent), ..document("life-1") })
}

fn world() -> World {
    let mut world = World::with(2, HealthDocumentUse::Optional, Settings::default(), 7);
    world.settle();
    world
}

#[test]
fn a_score_moves_by_steps_of_five_at_least() {
    let mut world = world();
    let mut published = vec![world.server(FIRST).score];
    for cpu in (60..=100).chain((60..=100).rev()) {
        world.documents[0] = busy(cpu);
        for _ in 0..30 {
            world.run(ms(100));
            if published.last() != Some(&world.server(FIRST).score) {
                published.push(world.server(FIRST).score);
            }
        }
    }
    assert!(published.windows(2).all(|pair| pair[0].abs_diff(pair[1]) >= 5), "{published:?}");
    assert!(published.len() > 10, "and it does move: {published:?}");
    assert!(published.iter().any(|score| *score < 25), "{published:?}");
}

#[test]
fn a_load_that_wavers_by_a_little_publishes_nothing() {
    let mut world = world();
    world.documents[0] = busy(80);
    world.run(ms(5_000));
    let view = Arc::clone(world.health.view());
    for round in 0..50 {
        world.documents[0] = busy(79 + round % 3);
        world.run(ms(2_000));
    }
    assert!(Arc::ptr_eq(&view, world.health.view()));
}

#[test]
fn a_healthy_pool_publishes_nothing_new() {
    let mut world = World::settled(5);
    let view = Arc::clone(world.health.view());
    world.run(ms(600_000));
    assert!(Arc::ptr_eq(&view, world.health.view()));
}

#[test]
fn a_dead_server_scores_nothing_at_once() {
    let mut world = World::settled(2);
    world.set(FIRST, Host::Refuses);
    world.run(ms(1_000));
    assert_eq!((world.state(FIRST), world.server(FIRST).score), (State::Down, 0));
}

#[test]
fn in_the_ramp_the_score_grows_to_the_whole() {
    let mut world = World::settled(2);
    world.set(FIRST, Host::Refuses);
    world.run(ms(10_000));
    world.set(FIRST, Host::Answers(200));
    world.run_while(ms(60_000), |world| world.state(FIRST) != State::Ramp);
    let mut scores = Vec::new();
    while world.state(FIRST) == State::Ramp {
        scores.push(world.server(FIRST).score);
        world.run(ms(10_000));
    }
    assert!(scores.is_sorted() && scores.len() >= 6, "{scores:?}");
    assert_eq!(scores[0], 20);
    assert!(scores[5] >= 80, "{scores:?}");
    assert!(world.server(FIRST).score >= 95);
}

#[test]
fn a_server_slower_than_it_used_to_be_is_asked_less_and_a_far_one_is_not() {
    let mut world = World::settled(2);
    for _ in 0..1_200 {
        world.run(ms(100));
        world.observe(FIRST, answer(200, ms(90)));
        world.observe(ServerId(1), answer(200, ms(2)));
    }
    assert!(world.server(FIRST).score >= 95);
    for _ in 0..200 {
        world.run(ms(100));
        world.observe(FIRST, answer(200, ms(90)));
        world.observe(ServerId(1), answer(200, ms(400)));
    }
    assert!(world.server(FIRST).score >= 95);
    assert!(world.server(ServerId(1)).score <= 60, "{}", world.server(ServerId(1)).score);
}

#[test]
fn a_full_server_is_asked_for_nothing_more() {
    let mut world = world();
    world.documents[0] = Ok(Document { users_logged_in: 1_000, ..document("life-1") });
    world.run(ms(5_000));
    assert!(world.server(FIRST).score < 20);
    assert_eq!(world.state(FIRST), State::Up, "and serves its own");
    world.documents[0] = missing();
    world.run(ms(10_000));
    assert_eq!(world.server(FIRST).score, 50, "old news is no news: degraded, and no more");
}

#[test]
fn time_alone_changes_no_score_of_a_view_once_taken() {
    let mut world = World::settled(2);
    let taken = Arc::clone(world.health.view());
    world.set(FIRST, Host::Refuses);
    world.run(ms(2_000));
    assert_eq!(taken.server(FIRST).score, 100);
    assert_eq!(world.server(FIRST).score, 0);
}
