//! What becomes of clients in each mood.

use std::time::Duration;

use crate::ucsap::login::{Credentials, LoginOutcome};
use crate::ucsap::negotiate::Negotiated;
use crate::ucsap::{Operation, Piece};
use crate::ucserver::tests::clients::{Answer, World, for_line, line_of, operations};
use crate::ucserver::{CallRefused, Input, Mood};

#[test]
fn a_slow_server_answers_late_and_in_order() {
    let mut world = World::with("anna");
    let line = line_of("anna");
    world.monitor(1, &line);
    let delay = Duration::from_millis(700);
    world.server.set_mood(world.now, Mood::Slow { delay });
    let began = world.now;
    let (_, bytes) = world.written(Operation::SNAPSHOT_LINE, &for_line(&line));
    assert!(world.send(1, bytes).is_empty());
    world.server.ring(world.now, &line, "+49").unwrap();
    world.server.set_mood(world.now, Mood::Healthy);
    let (_, bytes) = world.written(Operation::CHECK_CONNECTION, &Piece::Sequence(vec![]));
    assert!(world.send(1, bytes).is_empty(), "it does not overtake");
    let told = world.secs(1);
    assert_eq!(told.iter().map(|told| told.at).collect::<Vec<_>>(), [began + delay; 3]);
    assert!(told[1].message.is_event());
    world.result(1, Operation::CHECK_CONNECTION, &Piece::Sequence(vec![]));
}

#[test]
fn a_refusing_server_is_busy_and_keeps_who_is_there() {
    let mut world = World::with("anna");
    let line = line_of("anna");
    world.monitor(1, &line);
    world.server.set_mood(world.now, Mood::Refusing);
    assert_eq!(world.ask(1, Operation::SNAPSHOT_LINE, &for_line(&line)).error(), 1);
    let nothing = Piece::Sequence(vec![]);
    assert_eq!(world.ask(1, Operation::CHECK_CONNECTION, &nothing).error(), 100);
    let answer = world.negotiate(2).result();
    let answer = Negotiated::read(&answer.body().unwrap()).unwrap();
    assert_eq!(answer, Negotiated::Busy { seconds: 5 });
    let answer = world.result(2, Operation::LOGIN, &Credentials::basic("b", "pw-b"));
    let answer = LoginOutcome::read(&answer.body().unwrap()).unwrap();
    assert!(matches!(answer, LoginOutcome::Busy { seconds: 5 }));
    world.server.ring(world.now, &line, "+49").unwrap();
    assert_eq!(operations(&world.outputs()), [1283]);
}

#[test]
fn a_failing_server_gives_errors() {
    let mut world = World::with("anna");
    world.server.set_mood(world.now, Mood::Errors);
    assert_eq!(world.negotiate(2).error(), 100);
    assert_eq!(world.ask(2, Operation::LOGIN, &Credentials::basic("b", "pw-b")).error(), 100);
}

#[test]
fn a_hung_server_says_nothing_and_keeps_its_connections() {
    let mut world = World::with("anna");
    let line = line_of("anna");
    world.monitor(1, &line);
    world.log_in(2, "bert");
    world.server.set_mood(world.now, Mood::Hung);
    for _ in 0..10 {
        let (_, bytes) = world.written(Operation::SNAPSHOT_LINE, &for_line(&line));
        assert!(world.send(1, bytes).is_empty());
        assert!(world.secs(20).is_empty());
    }
    assert_eq!(world.server.ring(world.now, &line, "+49"), Err(CallRefused::Silent));
    world.server.handle(world.now, Input::ClientClosed { connection: 2 });
    assert!(world.closed.is_empty());
    world.server.set_mood(world.now, Mood::Healthy);
    assert_eq!(world.server.users_logged_in(), 1);
    world.server.ring(world.now, &line, "+49").unwrap();
    assert_eq!(operations(&world.outputs()), [1283]);
}

#[test]
fn a_server_that_restarts_has_closed_everything_and_forgotten_it() {
    for mood in [Mood::Amnesia, Mood::Dead] {
        let mut world = World::with("anna");
        world.log_in(2, "bert");
        let line = line_of("anna");
        world.monitor(1, &line);
        let call = world.server.ring(world.now, &line, "+49").unwrap();
        world.outputs();
        world.server.set_mood(world.now, mood);
        assert!(world.outputs().is_empty());
        assert_eq!(world.closed, [1, 2]);
        world.server.set_mood(world.now, Mood::Healthy);
        let clients = world.server.clients();
        assert_eq!((clients.connections(), clients.calls().count()), (0, 0));
        assert_eq!((clients.users(), clients.monitors().count()), (0, 0));
        world.log_in(3, "anna");
        assert!(world.server.hang_up(world.now, &call).is_err());
    }
}

#[test]
fn nobody_connects_to_a_dead_server() {
    let mut world = World::with("anna");
    world.server.set_mood(world.now, Mood::Dead);
    world.outputs();
    world.server.handle(world.now, Input::ClientOpened { connection: 9 });
    world.outputs();
    assert_eq!(world.closed, [1, 9]);
}

#[test]
fn a_client_that_leaves_a_slow_server_gets_no_answer() {
    let mut world = World::with("anna");
    world.server.set_mood(world.now, Mood::Slow { delay: Duration::from_secs(1) });
    let (_, bytes) = world.written(Operation::CHECK_CONNECTION, &Piece::Sequence(vec![]));
    world.send(1, bytes);
    world.server.handle(world.now, Input::ClientClosed { connection: 1 });
    assert!(world.secs(5).is_empty());
    let told = world.negotiate_late();
    assert!(matches!(told, Answer::Result(_)));
}

impl World {
    /// The answer to a negotiation, whenever it comes.
    fn negotiate_late(&mut self) -> Answer {
        let (_, bytes) = self.written(Operation::NEGOTIATE, &super::client().piece("PC"));
        self.send(4, bytes);
        Answer::of(self.secs(2).remove(0).message)
    }
}
