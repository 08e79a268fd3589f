//! What becomes of requests, bindings and the health document in each mood.

use crate::cluster::document::Document;
use crate::sip::HeaderName;
use crate::ucserver::tests::{AOR, Register, World, lines, millis, secs, text};
use crate::ucserver::{Event, Mood, PingRefused, Settings};

const ONE: &str = "<sip:200@192.0.2.7:5070>";

fn world(mood: Mood) -> World {
    let mut world = World::new(Settings::default());
    world.server.set_mood(world.now, mood);
    world
}

#[test]
fn a_slow_server_answers_late_and_absorbs_what_is_repeated_meanwhile() {
    let mut world = world(Mood::Slow { delay: millis(800) });
    let began = world.now;
    let request = world.written(&Register::of(ONE));
    assert!(world.send(request.clone()).is_empty());
    assert!(world.pass(millis(500)).is_empty());
    assert!(world.send(request.clone()).is_empty());
    let answers = world.pass(secs(1));
    assert_eq!(answers.len(), 1);
    assert_eq!(answers[0].0, began + millis(800));
    assert_eq!(answers[0].1.message.status(), Some(200));
    assert_eq!(text(&world.ask(request)), text(&answers[0].1.message));
}

#[test]
fn a_refusing_server_says_503_and_when_to_come_back() {
    let mut world = world(Mood::Refusing);
    let probe = world.request("OPTIONS");
    for request in [probe, Register::of(ONE).written("z9hG4bKx")] {
        let answer = world.ask(request);
        assert_eq!(answer.status(), Some(503));
        assert_eq!(lines(&answer, HeaderName::RetryAfter), ["5"]);
    }
    assert_eq!(world.contacts(), []);
}

#[test]
fn a_failing_server_says_500_to_all() {
    let mut world = world(Mood::Errors);
    let probe = world.request("OPTIONS");
    assert_eq!(world.ask(probe).status(), Some(500));
    assert_eq!(world.register(&Register::of(ONE)).status(), Some(500));
    assert_eq!(world.contacts(), []);
}

#[test]
fn a_hung_server_takes_everything_and_keeps_its_bindings() {
    let settings = Settings { ping_new_bindings: true, ..Settings::default() };
    let mut world = World::new(settings);
    let request = world.written(&Register::of(ONE));
    assert_eq!(world.send(request).len(), 2);
    let boot_id = world.server.boot_id().to_owned();

    world.server.set_mood(world.now, Mood::Hung);
    let probe = world.request("OPTIONS");
    assert!(world.send(probe).is_empty());
    assert!(world.pass(secs(10)).is_empty(), "it does not even repeat its own request");
    assert_eq!(world.server.next(), None);
    assert_eq!(world.server.health(world.now), None);
    assert_eq!(world.server.ping(world.now, AOR, ONE), Err(PingRefused::Silent));
    assert_eq!(world.server.journal().counters().ignored, 1);

    world.server.set_mood(world.now, Mood::Healthy);
    assert_eq!(world.contacts().len(), 1);
    assert_eq!(world.server.boot_id(), boot_id);
    assert!(!world.pass(secs(1)).is_empty(), "and goes on where it stopped");
}

#[test]
fn a_dead_server_comes_back_as_another_process() {
    let mut world = World::new(Settings::default());
    world.bind(&Register::of(ONE));
    let boot_id = world.server.boot_id().to_owned();
    world.server.set_mood(world.now, Mood::Dead);
    let probe = world.request("OPTIONS");
    assert!(world.send(probe).is_empty());
    assert_eq!(world.server.health(world.now), None);
    world.server.set_mood(world.now, Mood::Healthy);
    assert_ne!(world.server.boot_id(), boot_id);
    assert_eq!(world.contacts(), []);
    world.bind(&Register::of(ONE));
}

#[test]
fn a_server_with_amnesia_looks_green_and_knows_nobody() {
    let mut world = World::new(Settings::default());
    world.bind(&Register::of(ONE));
    let boot_id = world.server.boot_id().to_owned();
    world.server.set_mood(world.now, Mood::Amnesia);
    assert_ne!(world.server.boot_id(), boot_id);
    assert_eq!((world.contacts(), world.server.users_logged_in()), (vec![], 0));
    let probe = world.request("OPTIONS");
    assert_eq!(world.ask(probe).status(), Some(200));
    assert!(world.server.journal().entries().any(|entry| entry.event == Event::Restarted));
    world.bind(&Register::of(ONE));
    assert_eq!(world.contacts().len(), 1, "even with the old CSeq: it forgot that too");
}

#[test]
fn a_flapping_server_answers_in_its_good_moments() {
    let mut world = world(Mood::Flapping { up: secs(3), down: secs(2) });
    let mut answered = Vec::new();
    for _ in 0..10 {
        let probe = world.request("OPTIONS");
        answered.push(world.send(probe).len());
        world.pass(secs(1));
    }
    assert_eq!(answered, [1, 1, 1, 0, 0, 1, 1, 1, 0, 0]);
}

#[test]
fn a_silent_flapping_server_wakes_up_by_itself() {
    let mut world = world(Mood::Flapping { up: secs(3), down: secs(2) });
    let began = world.now;
    world.pass(secs(4));
    assert_eq!(world.server.next(), Some(began + secs(5)));
}

#[test]
fn the_health_document_counts_users_and_bindings() {
    let settings = Settings { capacity_users: Some(50), ..Settings::default() };
    let mut world = World::new(settings);
    world.bind(&Register::of(&format!("{ONE};expires=100, <sip:200@192.0.2.8>;expires=200")));
    world.bind(&Register::of("<sip:201@192.0.2.9>").to("sip:201@example.com").call("c2", 1));
    let read = |world: &mut World| {
        Document::parse(world.server.health(world.now).unwrap().as_bytes()).unwrap()
    };
    let document = read(&mut world);
    assert_eq!(&*document.boot_id, world.server.boot_id());
    assert_eq!(document.version, "2603.0".parse().ok());
    assert_eq!(document.users_logged_in, 2);
    assert_eq!(document.users_capacity, Some(50));
    assert_eq!(document.registrations, Some(3));
    world.now += secs(150);
    assert_eq!(read(&mut world).registrations, Some(2));
}

#[test]
fn the_same_seed_plays_the_same_game() {
    let play = || {
        let mut world = World::new(Settings { ping_new_bindings: true, ..Settings::default() });
        let request = world.written(&Register::of(ONE));
        let mut said: Vec<String> =
            world.send(request).iter().map(|sent| text(&sent.message)).collect();
        said.extend(world.pass(secs(5)).iter().map(|(_, sent)| text(&sent.message)));
        said
    };
    assert_eq!(play(), play());
}
