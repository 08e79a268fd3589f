//! Calls, as time passes.

use crate::ucsap::{Member, Message, Operation, Piece, cti};
use crate::ucserver::tests::clients::{
    ENCODINGS, World, integer, line_of, operations, sequence, text,
};
use crate::ucserver::{CallRefused, Event, Settings};

fn dial(from: &str, to: &str) -> Piece {
    sequence(&[
        ("u8sPhoneNumberFrom", Piece::text(from)),
        ("u8sPhoneNumberTo", Piece::text(to)),
        ("iNumberFormat", Piece::Integer(0)),
    ])
}

fn of_call(id: &str) -> Piece {
    sequence(&[("u8sConnectionID", Piece::text(id))])
}

/// Reason and state of an event of a call.
fn change(event: &Message) -> (i64, i64) {
    let body = event.body().unwrap();
    let call = body.required(&Member::nth("callinformation", 3)).unwrap();
    (integer(event, "reason", 2), cti::call_state(&call).unwrap())
}

#[test]
fn a_call_is_dialled_rings_and_is_answered() {
    for encoding in ENCODINGS {
        let mut world = World::encoded(Settings::default(), encoding);
        for connection in [1, 2] {
            world.log_in(connection, "anna");
        }
        let line = line_of("anna");
        let watched = world.monitor(2, &line);
        let (answer, told) = world.ask_all(1, Operation::MAKE_CALL, &dial(&line, "+4970"));
        let id = text(&answer.result(), "u8sConnectionID", 0);
        assert_eq!(operations(&told), [1285, 1283]);
        assert_eq!((told[0].connection, told[1].connection), (1, 2));
        assert_eq!(text(&told[0].message, "u8sConnectionID", 1), id);
        assert_eq!(integer(&told[0].message, "success", 2), 1);
        assert_eq!(change(&told[1].message), (1, 4));
        assert_eq!(text(&told[1].message, "u8sMonitorCrossRefID", 0), watched);
        let began = world.now;
        let told = world.secs(10);
        let steps: Vec<_> = told
            .iter()
            .map(|told| (told.at.since(began).as_millis(), change(&told.message)))
            .collect();
        assert_eq!(steps, [(300, (2, 8)), (2_300, (3, 32))]);
        let (answer, told) = world.ask_all(1, Operation::DROP_CALL, &of_call(&id));
        answer.result();
        let ends: Vec<_> = told.iter().map(|told| change(&told.message)).collect();
        assert_eq!(ends, [(11, 256), (12, 1)]);
        assert_eq!(world.server.clients().calls().count(), 0);
        assert_eq!(world.ask(1, Operation::DROP_CALL, &of_call(&id)).error(), 1);
    }
}

#[test]
fn every_call_that_is_dialled_is_counted_and_no_other() {
    let mut world = World::with("anna");
    let line = line_of("anna");
    let number = line.strip_prefix("tel:").unwrap().split('@').next().unwrap();
    world.ask_all(1, Operation::MAKE_CALL, &dial(&line, "+491")).0.result();
    world.ask_all(1, Operation::MAKE_CALL, &dial(number, "+492")).0.result();
    assert_eq!(world.ask(1, Operation::MAKE_CALL, &dial(&line_of("bert"), "+493")).error(), 3);
    assert_eq!(world.ask(1, Operation::MAKE_CALL, &dial(&line, "")).error(), 1);
    assert_eq!(world.server.journal().counters().clients.dialled, 2);
    let mut dialled = Vec::new();
    for entry in world.server.journal().entries() {
        if let Event::Dialled { number, .. } = &entry.event {
            dialled.push(number.as_str());
        }
    }
    assert_eq!(dialled, ["+491", "+492"]);
}

#[test]
fn a_call_from_outside_is_answered_and_held() {
    for encoding in ENCODINGS {
        let mut world = World::encoded(Settings::default(), encoding);
        world.log_in(1, "anna");
        let line = line_of("anna");
        world.monitor(1, &line);
        let id = world.server.ring(world.now, &line, "+4955").unwrap();
        assert_eq!(change(&world.outputs()[0].message), (0, 2));
        let hold =
            |on| sequence(&[("bHold", Piece::Boolean(on)), ("u8sConnectionID", Piece::text(&*id))]);
        assert_eq!(world.ask(1, Operation::HOLD, &hold(true)).error(), 1);
        for (operation, argument, seen) in [
            (Operation::ANSWER_CALL, of_call(&id), (3, 32)),
            (Operation::HOLD, hold(true), (5, 128)),
            (Operation::HOLD, hold(false), (3, 32)),
        ] {
            let (answer, told) = world.ask_all(1, operation, &argument);
            answer.result();
            assert_eq!(change(&told[0].message), seen);
        }
        assert_eq!(world.ask(1, Operation::ANSWER_CALL, &of_call(&id)).error(), 1);
        world.server.hang_up(world.now, &id).unwrap();
        assert_eq!(world.outputs().len(), 2);
        assert_eq!(world.server.hang_up(world.now, &id), Err(CallRefused::NoCall));
    }
}

#[test]
fn a_call_of_somebody_else_is_left_alone() {
    let mut world = World::with("anna");
    let id = world.server.ring(world.now, &line_of("bert"), "+49").unwrap();
    assert_eq!(world.ask(1, Operation::DROP_CALL, &of_call(&id)).error(), 2);
    assert_eq!(world.server.clients().calls().count(), 1);
}

#[test]
fn a_call_that_is_there_is_in_the_snapshot() {
    let mut world = World::with("anna");
    let line = line_of("anna");
    let id = world.server.ring(world.now, &line, "+49").unwrap();
    let started = world.result(1, Operation::MONITOR_START, &cti::for_line(&line));
    let body = started.body().unwrap();
    let calls = body.required(&Member::nth("seqCalls", 2)).unwrap().items().unwrap();
    let named = calls[0].required(&Member::nth("u8sConnectionID", 1)).unwrap();
    assert_eq!(named.text().unwrap(), id);
}
