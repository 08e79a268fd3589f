//! What is refused, and how.

use bytes::Bytes;

use crate::ucsap::login::Credentials;
use crate::ucsap::{Encoding, Envelope, Operation, Piece, Style};
use crate::ucserver::tests::clients::{
    Answer, ENCODINGS, World, client, for_line, line_of, sequence,
};
use crate::ucserver::{ClientLimits, ClientSettings, Input, Settings};

/// 257 octets.
const LONG: &str = concat!(
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "+"
);

fn empty() -> Piece {
    Piece::Sequence(vec![])
}

fn limited(limits: ClientLimits) -> World {
    let clients = ClientSettings { limits, ..ClientSettings::default() };
    World::new(Settings { clients, ..Settings::default() })
}

#[test]
fn an_operation_nobody_knows_is_rejected() {
    for encoding in ENCODINGS {
        let mut world = World::encoded(Settings::default(), encoding);
        world.log_in(1, "anna");
        for unknown in [1510, 1250, 0, -7, Operation::CALL_CHANGED.0] {
            assert_eq!(world.ask(1, Operation(unknown), &empty()).reject(), 1, "{unknown}");
        }
    }
}

#[test]
fn a_name_alone_is_enough_in_json_and_one_that_is_not_known_is_rejected() {
    let mut world = World::with("anna");
    for (name, is_known) in [("asnCtiLineMonitorStart", true), ("asnNothing", false)] {
        let json = format!(
            "{{\"invoke\":{{\"invokeID\":90,\"operationID\":0,\"operationName\":\"{name}\",\
             \"argument\":{{\"u8sLinePhoneNumber\":\"{}\"}}}}}}\n",
            line_of("anna")
        );
        let mut told = world.send(1, format!("J{:07}{json}", json.len()).into());
        let answer = Answer::of(told.remove(0).message);
        assert_eq!(matches!(answer, Answer::Result(_)), is_known, "{answer:?}");
    }
}

#[test]
fn a_mistyped_argument_is_rejected() {
    for encoding in ENCODINGS {
        let mut world = World::encoded(Settings::default(), encoding);
        world.log_in(1, "anna");
        let number = Piece::Integer(7);
        for (operation, argument) in [
            (Operation::MONITOR_START, empty()),
            (Operation::MONITOR_START, number.clone()),
            (Operation::MONITOR_START, sequence(&[("u8sLinePhoneNumber", number.clone())])),
            (Operation::MAKE_CALL, for_line("x")),
            (Operation::ENUM_LINES, for_line("x")),
            (Operation::SUBSCRIBE_PRESENCE, sequence(&[("seqContactIDs", Piece::text("x"))])),
            (Operation::CHECK_CONNECTION, Piece::text("x")),
            (Operation::LOGIN, Piece::Null),
        ] {
            let answer = world.ask(1, operation, &argument);
            assert!(matches!(answer, Answer::Reject(2)), "{operation:?} {argument:?} {answer:?}");
        }
        let mut short = client().piece("PC");
        if let Piece::Sequence(members) = &mut short {
            members.pop();
        }
        assert_eq!(world.ask(1, Operation::NEGOTIATE, &short).reject(), 2);
    }
}

#[test]
fn an_id_that_is_not_answered_yet_is_not_taken_twice() {
    for encoding in ENCODINGS {
        let mut world = World::encoded(Settings::default(), encoding);
        let delay = std::time::Duration::from_millis(100);
        world.server.set_mood(world.now, crate::ucserver::Mood::Slow { delay });
        let (_, bytes) = world.written(Operation::CHECK_CONNECTION, &empty());
        assert!(world.send(1, bytes.clone()).is_empty());
        assert!(world.send(1, bytes.clone()).is_empty());
        let told = world.secs(1);
        assert_eq!(told.len(), 2);
        let answers: Vec<_> = told.into_iter().map(|told| Answer::of(told.message)).collect();
        assert!(matches!(answers[..], [Answer::Result(_), Answer::Reject(0)]), "{answers:?}");
        world.send(1, bytes);
        let told = world.secs(1);
        assert_eq!(told.len(), 1, "it is free again");
    }
}

#[test]
fn nothing_is_done_for_strangers() {
    for encoding in ENCODINGS {
        let mut world = World::encoded(Settings::default(), encoding);
        for negotiated in [false, true] {
            for operation in [
                Operation::ENUM_LINES,
                Operation::MONITOR_START,
                Operation::MONITOR_STOP,
                Operation::MAKE_CALL,
                Operation::DROP_CALL,
                Operation::SUBSCRIBE_PRESENCE,
                Operation::UNSUBSCRIBE_PRESENCE,
                Operation::GET_USER_TOKEN,
            ] {
                let answer = world.ask(1, operation, &for_line("x"));
                assert!(matches!(answer, Answer::Error(2)), "{operation:?} {negotiated}");
            }
            world.negotiate(1).result();
        }
    }
}

#[test]
fn a_line_of_somebody_else_is_no_line() {
    for encoding in ENCODINGS {
        let mut world = World::encoded(Settings::default(), encoding);
        world.log_in(1, "anna");
        for line in [line_of("bert"), String::from("tel:1@pbx"), String::new()] {
            for operation in [Operation::MONITOR_START, Operation::SNAPSHOT_LINE] {
                assert_eq!(world.ask(1, operation, &for_line(&line)).error(), 3);
            }
        }
        let stop = sequence(&[("u8sMonitorCrossRefID", Piece::text("none"))]);
        assert_eq!(world.ask(1, Operation::MONITOR_STOP, &stop).error(), 3);
    }
}

#[test]
fn other_lines_than_ones_own_are_not_listed() {
    let mut world = World::with("anna");
    let which = |which| {
        sequence(&[
            ("typeofLines", Piece::Enumerated(which)),
            ("attachChangeNotify", Piece::Integer(0)),
        ])
    };
    assert_eq!(world.ask(1, Operation::ENUM_LINES, &which(2)).error(), 2);
    assert_eq!(world.ask(1, Operation::ENUM_LINES, &which(3)).error(), 2);
    assert_eq!(world.ask(1, Operation::ENUM_LINES, &which(4)).reject(), 2);
}

#[test]
fn what_is_no_message_costs_the_connection() {
    for bytes in [&b"hello"[..], b"", b"J0000002{}", b"\xA1\x00", b"\x30\x03\x02\x01\x00"] {
        let mut world = World::with("anna");
        assert!(world.send(1, Bytes::copy_from_slice(bytes)).is_empty());
        assert_eq!(world.closed, [1], "{bytes:?}");
        assert_eq!(world.server.users_logged_in(), 0);
        assert_eq!(world.server.clients().connections(), 0);
    }
}

#[test]
fn events_are_never_answered_and_answers_to_nothing_are_ignored() {
    for encoding in ENCODINGS {
        let mut world = World::encoded(Settings::default(), encoding);
        let envelope = Envelope { encoding, style: Style::Plain, session: None };
        let dummy = sequence(&[("dummy", Piece::Null)]);
        for bytes in [
            envelope.event(Operation::TRANSPORT_KEEP_ALIVE, &dummy),
            envelope.invoke(5, Operation::TRANSPORT_KEEP_ALIVE, &dummy),
            envelope.event(Operation::KEEP_ALIVE, &dummy),
            envelope.event(Operation::LOGIN, &dummy),
            envelope.event(Operation(4711), &dummy),
            envelope.result(4, &dummy),
            envelope.error(4, 1, "no"),
        ] {
            assert!(world.send(1, bytes).is_empty());
        }
        let counters = &world.server.journal().counters().clients;
        assert_eq!((counters.keep_alives, counters.stray), (3, 4));
    }
}

#[test]
fn a_connection_that_says_nothing_for_a_minute_is_closed() {
    let mut world = World::new(Settings::default());
    for connection in [1, 2] {
        world.server.handle(world.now, Input::ClientOpened { connection });
    }
    let envelope = Envelope { encoding: Encoding::Ber, style: Style::Plain, session: None };
    let keep_alive = envelope.event(Operation::TRANSPORT_KEEP_ALIVE, &sequence(&[]));
    for _ in 0..5 {
        world.secs(30);
        world.send(2, keep_alive.clone());
    }
    assert_eq!(world.closed, [1]);
    world.secs(59);
    assert_eq!(world.closed, [1]);
    world.secs(1);
    assert_eq!(world.closed, [1, 2]);
    assert_eq!(world.server.clients().connections(), 0);
}

#[test]
fn nothing_grows_without_bound() {
    let mut world = limited(ClientLimits {
        connections: 1,
        sessions: 1,
        subscriptions: 2,
        monitors_of_session: 2,
        calls_of_line: 1,
        forwards: 1,
        ..ClientLimits::default()
    });
    world.log_in(1, "anna");
    world.server.handle(world.now, Input::ClientOpened { connection: 2 });
    world.outputs();
    assert_eq!(world.closed, [2]);
    world.session = Some("s");
    assert_eq!(world.negotiate(1).reject(), 3);
    world.session = None;
    let line = line_of("anna");
    for _ in 0..2 {
        world.monitor(1, &line);
    }
    assert_eq!(world.ask(1, Operation::MONITOR_START, &for_line(&line)).reject(), 3);
    let contacts = |names: &[&str]| {
        let names = names.iter().map(|name| Piece::text(*name)).collect();
        sequence(&[("seqContactIDs", Piece::List(names))])
    };
    world.result(1, Operation::SUBSCRIBE_PRESENCE, &contacts(&["a", "b"]));
    assert_eq!(world.ask(1, Operation::SUBSCRIBE_PRESENCE, &contacts(&["a", "c"])).reject(), 3);
    assert_eq!(world.server.clients().subscriptions().count(), 2);
    world.server.ring(world.now, &line, "+49").unwrap();
    assert!(world.server.ring(world.now, &line, "+49").is_err());
}

#[test]
fn no_text_is_kept_that_is_longer_than_any_name() {
    for encoding in ENCODINGS {
        let mut world = World::encoded(Settings::default(), encoding);
        let long = "a".repeat(1025);
        let mut client = client();
        client.former = Some(long.clone());
        assert_eq!(world.ask(1, Operation::NEGOTIATE, &client.piece("PC")).reject(), 3);
        world.negotiate(1).result();
        let login = Credentials::basic(&long, &ClientSettings::password_of(&long));
        assert_eq!(world.ask(1, Operation::LOGIN, &login).error(), 101);
        world.session = Some(LONG);
        assert_eq!(world.negotiate(1).reject(), 3);
        world.session = None;
        world.log_in(2, "anna");
        let contacts = sequence(&[("seqContactIDs", Piece::List(vec![Piece::text(long)]))]);
        assert_eq!(world.ask(2, Operation::SUBSCRIBE_PRESENCE, &contacts).reject(), 3);
    }
}

#[test]
fn untrusted_octets_never_end_the_process() {
    let mut world = World::new(Settings::default());
    let mut rng = fastrand::Rng::with_seed(3);
    let operations = [Operation::NEGOTIATE, Operation::LOGIN, Operation::MONITOR_START];
    for round in 0..20_000_u64 {
        world.encoding = ENCODINGS[rng.usize(..2)];
        let argument = client().piece("PC");
        let (_, bytes) = world.written(operations[rng.usize(..3)], &argument);
        let mut bytes = bytes.to_vec();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..bytes.len());
            bytes[at] = rng.u8(..);
        }
        world.send(round % 50, bytes.into());
    }
}
