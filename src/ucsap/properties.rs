//! What has to be true of every message.

use bytes::Bytes;
use proptest::prelude::*;

use crate::ucsap::cti::LineState;
use crate::ucsap::login::{self, Credentials, LoginOutcome};
use crate::ucsap::negotiate::{self, Identity, Negotiated, Negotiation};
use crate::ucsap::{
    Encoding, Envelope, Kind, Malformed, Member, Message, Operation, Piece, Problem, Style, Value,
    cti,
};

const ENCODINGS: [Encoding; 2] = [Encoding::Ber, Encoding::Json];

fn envelopes() -> impl Iterator<Item = Envelope<'static>> {
    ENCODINGS.into_iter().flat_map(|encoding| {
        [Style::Plain, Style::Original].into_iter().flat_map(move |style| {
            [None, Some("4711"), Some("ü\"\\")].map(|session| Envelope { encoding, style, session })
        })
    })
}

fn read(bytes: Bytes) -> Message {
    Message::parse(bytes).unwrap()
}

fn lines(text: &str) -> Piece {
    cti::for_line(text)
}

#[test]
fn what_is_written_is_read_in_both_encodings() {
    for envelope in envelopes() {
        let invoke = read(envelope.invoke(17, Operation::MONITOR_START, &lines("+49 30 ü")));
        assert_eq!((invoke.kind(), invoke.id()), (Kind::Invoke, Some(17)));
        assert_eq!(invoke.operation(), Operation::MONITOR_START);
        assert_eq!(invoke.session().as_deref(), envelope.session);
        assert_eq!(cti::line(&invoke.body().unwrap()).unwrap(), "+49 30 ü");
        let event = read(envelope.event(Operation(4_242), &Piece::Sequence(vec![])));
        assert!(event.is_event() && !invoke.is_event());
        assert_eq!(event.operation(), Operation(4_242));
        let result = read(envelope.result(-3, &login::succeeded("anna", Some("t"))));
        assert_eq!((result.kind(), result.id()), (Kind::Result, Some(-3)));
        let outcome = LoginOutcome::read(&result.body().unwrap()).unwrap();
        let LoginOutcome::Succeeded { user, token } = outcome else { unreachable!("{outcome:?}") };
        assert_eq!((user.as_deref(), token.unwrap().reveal().as_str()), (Some("anna"), "t"));
        let error = read(envelope.error(5, login::detail::INVALID_USER, "no such user"));
        assert_eq!((error.kind(), error.id()), (Kind::Error, Some(5)));
        let detail = Member::nth("iErrorDetail", 0);
        let body = error.body().unwrap();
        assert_eq!(body.required(&detail).unwrap().integer(), Ok(101));
        let reject = read(envelope.reject(9, Problem::DuplicateInvocation, "twice"));
        assert_eq!((reject.kind(), reject.id()), (Kind::Reject, Some(9)));
        assert_eq!(reject.session().as_deref(), envelope.session);
    }
}

#[test]
fn a_login_is_read_whatever_it_is() {
    for envelope in envelopes() {
        let argument = |piece: &Piece| {
            let message = read(envelope.invoke(1, Operation::LOGIN, piece));
            Credentials::read(&message.body().unwrap()).unwrap()
        };
        let basic = argument(&Credentials::basic("anna", "a:b"));
        assert_eq!(basic.claimed_user().as_deref(), Some("anna"));
        assert!(basic.can_be_replayed());
        assert!(matches!(argument(&Piece::Sequence(vec![])), Credentials::None));
        assert!(argument(&Credentials::bearer("a.b.c")).can_be_replayed());
        assert!(!argument(&Credentials::ntlm(b"NTLMSSP\0\x01")).can_be_replayed());
        let outcome = |piece: &Piece| {
            let message = read(envelope.result(1, piece));
            LoginOutcome::read(&message.body().unwrap()).unwrap()
        };
        assert!(matches!(outcome(&login::methods(&[1, 5])), LoginOutcome::Methods));
        assert!(matches!(outcome(&login::busy(30)), LoginOutcome::Busy { seconds: 30 }));
        assert!(matches!(outcome(&login::next_step(b"x")), LoginOutcome::NextStep));
        let LoginOutcome::Redirect(to) = outcome(&login::redirect("ucs2:7222")) else {
            unreachable!("a redirect is one")
        };
        assert_eq!(to, "ucs2:7222");
    }
}

#[test]
fn a_negotiation_is_read_and_its_connection_renamed() {
    let negotiation = Negotiation {
        device: "pc-17".into(),
        version: "8.3.1.2".into(),
        app: 1,
        former: Some("{former}".into()),
    };
    let identity = Identity {
        server_type: 2,
        interface_version: "7.1",
        server_version: "8.3",
        product_version: "2603.0",
        time: 46_000.25,
        presence_domains: &["example.com"],
    };
    for envelope in envelopes() {
        let asked = read(envelope.invoke(1, Operation::NEGOTIATE, &negotiation.piece("PC")));
        assert_eq!(Negotiation::read(&asked.body().unwrap()).as_ref(), Ok(&negotiation));
        let answer = read(envelope.result(1, &identity.negotiated("{second-and-longer}")));
        let read_of = |message: &Message| Negotiated::read(&message.body().unwrap()).unwrap();
        let Negotiated::Done { connection, at } = read_of(&answer) else { unreachable!() };
        assert_eq!(connection, "{second-and-longer}");
        for name in ["{first}", "{first-but-longer-than-the-other-one}", ""] {
            let renamed = answer.with_text(at.clone(), name);
            let Negotiated::Done { connection, at } = read_of(&renamed) else { unreachable!() };
            assert_eq!(connection, name);
            assert_eq!(renamed.with_text(at, "{second-and-longer}").bytes(), answer.bytes());
        }
        let busy = read(envelope.result(1, &negotiate::busy(7)));
        assert_eq!(read_of(&busy), Negotiated::Busy { seconds: 7 });
        let other = read(envelope.result(1, &negotiate::incompatible("9.0")));
        assert_eq!(read_of(&other), Negotiated::Incompatible);
        let checked = read(envelope.result(1, &identity.checked("")));
        let version = negotiate::checked_product_version(&checked.body().unwrap());
        assert_eq!(version.as_deref(), Ok("2603.0"));
    }
}

/// One call, with what comes behind it left out.
fn call(id: &str, state: i64) -> Piece {
    Piece::Sequence(vec![
        (Member::nth("u8sLinePhoneNumber", 0), Piece::text("+4930")),
        (Member::nth("u8sConnectionID", 1), Piece::text(id)),
        (Member::nth("iCallState", 2), Piece::Integer(state)),
    ])
}

fn snapshot(info: &str, calls: &[(&str, i64)], dnd: i64) -> Piece {
    let calls = calls.iter().map(|(id, state)| call(id, *state)).collect();
    Piece::Sequence(vec![
        (Member::nth("u8sMonitorCrossRefID", 0), Piece::text("{m}")),
        (Member::nth("lineInfo", 1), lines(info)),
        (Member::nth("seqCalls", 2), Piece::List(calls)),
        (Member::nth("iDoNotDisturb", 3), Piece::Integer(dnd)),
        (Member::nth("seqLineForwards", 4), Piece::List(vec![])),
        (Member::nth("remoteOfficeState", 5), Piece::Sequence(vec![])),
    ])
}

#[test]
fn differences_between_snapshots_lead_from_one_to_the_other() {
    let states = [
        snapshot("a", &[], 0),
        snapshot("a", &[("c1", 1)], 0),
        snapshot("b", &[("c1", 2), ("c2", 1)], 1),
        snapshot("b", &[("c2", 1), ("c3", 4)], 0),
    ];
    for envelope in envelopes() {
        let state_of = |piece: &Piece| {
            let message = read(envelope.result(1, piece));
            LineState::read(&message.body().unwrap()).unwrap()
        };
        for before in &states {
            for after in &states {
                let (mut known, now) = (state_of(before), state_of(after));
                let events = known.difference(&now, "{mine}", "+4930");
                assert_eq!(events.is_empty(), before == after);
                for (operation, argument) in events {
                    let event = read(envelope.event(operation, &argument));
                    let body = event.body().unwrap();
                    let (cross_ref, _) = cti::cross_ref(operation, &body).unwrap().unwrap();
                    assert_eq!(cross_ref, "{mine}");
                    known.follow(operation, &body).unwrap();
                }
                assert!(known.difference(&now, "", "").is_empty());
                assert_eq!(known.calls(), now.calls());
            }
        }
    }
}

#[test]
fn cross_references_are_exchanged_in_place() {
    for envelope in envelopes() {
        let answer = read(envelope.result(3, &snapshot("a", &[("c", 1)], 0)));
        let asked = Operation::MONITOR_START;
        let found = |message: &Message| {
            cti::cross_ref_of_result(asked, &message.body().unwrap()).unwrap().unwrap()
        };
        let (name, at) = found(&answer);
        assert_eq!(name, "{m}");
        let long = "x".repeat(300);
        let renamed = answer.with_text(at, &long).with_id(70_000);
        let (name, at) = found(&renamed);
        assert_eq!((name, renamed.id()), (long, Some(70_000)));
        assert_eq!(renamed.with_text(at, "{m}").with_id(3).bytes(), answer.bytes());
    }
}

#[test]
fn what_is_not_known_passes_bit_for_bit() {
    // Unknown tags, padded tags, overlong lengths and trailing elements inside the argument; the
    // envelope around it gets another id and another length.
    let argument = [
        0x30, 0x84, 0, 0, 0, 0x10, 0x0C, 0x01, b'x', 0x9F, 0x85, 0x01, 0x01, 0xAA, 0x02, 0x82, 0,
        1, 5, 0x1F, 0x80, 0x80, 0x15, 0x00,
    ];
    let argument = [&argument[..5], &[18], &argument[6..]].concat();
    let mut bytes = vec![0xA1, 0x81, (3 + 4 + argument.len()) as u8];
    bytes.extend_from_slice(&[0x02, 0x01, 0x05, 0x02, 0x02, 0x11, 0x11]);
    bytes.extend_from_slice(&argument);
    let message = read(bytes.clone().into());
    assert_eq!(message.bytes()[..], bytes[..]);
    assert_eq!(message.body().unwrap().octets_as_sent(), argument);
    let renamed = message.with_id(70_000);
    assert_eq!(renamed.body().unwrap().octets_as_sent(), argument);
    assert_eq!(renamed.id(), Some(70_000));

    let json = r#"J0000150{"invoke":{"invokeID":5,"new":[1,{"a":"]"}], "operationID":1,"argument":{"x":1.50e0,"y":"\u00e4"}}}"#;
    let message = read(Bytes::from(json));
    let argument = r#"{"x":1.50e0,"y":"\u00e4"}"#;
    assert_eq!(message.body().unwrap().octets_as_sent(), argument.as_bytes());
    let renamed = message.with_id(70_000);
    let expected = json.replace("\"invokeID\":5", "\"invokeID\":70000");
    assert_eq!(renamed.bytes()[8..], expected.as_bytes()[8..]);
    let octets = format!("J{:07}", expected.len() - 8);
    assert_eq!(&renamed.bytes()[..8], octets.as_bytes());
}

#[test]
fn an_indefinite_envelope_is_changed_too() {
    let bytes = [
        0xA1, 0x80, 0x02, 0x01, 0x05, 0x02, 0x02, 0x04, 0xEE, 0x30, 0x80, 0x0C, 0x01, b'x', 0, 0,
        0, 0,
    ];
    let message = read(bytes.to_vec().into());
    assert_eq!(message.operation(), Operation::MONITOR_START);
    let line = Member::nth("u8sLinePhoneNumber", 0);
    let at = message.body().unwrap().required(&line).unwrap().span();
    let changed = message.with_id(1_000).with_text(at.start + 1..at.end + 1, "longer");
    assert_eq!(changed.id(), Some(1_000));
    assert_eq!(cti::line(&changed.body().unwrap()).unwrap(), "longer");
}

#[test]
fn an_operation_may_be_named_only() {
    let json =
        r#"{"invoke":{"invokeID":1,"operationID":0,"operationName":"asnCtiLineMonitorStart"}}"#;
    assert_eq!(read(Bytes::from(json)).operation(), Operation::MONITOR_START);
    let both = json.replace(":0,", ":1263,");
    assert_eq!(read(both.into()).operation(), Operation::MONITOR_STOP, "the number wins");
    let array = format!("[{json}]");
    assert_eq!(read(array.into()).operation(), Operation::MONITOR_START);
}

#[test]
fn what_is_no_message_is_refused() {
    let long = format!("{{\"invoke\":{}", "[".repeat(100_000));
    for bytes in [
        &b""[..],
        b"\xA5\x00",
        b"\xA1\x00",
        b"\xA1\x03\x02\x01\x05",
        b"\xA1\x0B\x02\x01\x05\x02\x01\x05\x30\x00\x30\x00\x00",
        b"{}",
        b"[]",
        b"{\"invoke\":1}",
        b"{\"invoke\":{\"invokeID\":1}}",
        b"{\"invoke\":{\"invokeID\":1,\"invokeID\":2,\"operationID\":1}}",
        b"{\"invoke\":{\"invokeID\":1,\"operationID\":1,\"operationID\":2}}",
        b"{\"invoke\":{\"invokeID\":1,\"operationID\":1},\"result\":{\"invokeID\":1}}",
        b"[{\"result\":{\"invokeID\":1}},{\"result\":{\"invokeID\":1}}]",
        b"{\"invoke\":{\"invokeID\":1,\"operationID\":1}} ,",
        b"{\"invoke\":{\"invokeID\":\"1\",\"operationID\":1}}",
        b"{\"result\":{\"invokeID\":1,\"result\":{\"result\":\"\xFF\"}}}",
        long.as_bytes(),
    ] {
        assert!(Message::parse(Bytes::copy_from_slice(bytes)).is_err(), "{bytes:?}");
    }
}

#[test]
fn a_message_does_not_print_what_it_holds() {
    for encoding in ENCODINGS {
        let envelope = Envelope { encoding, style: Style::Plain, session: None };
        let login = envelope.invoke(1, Operation::LOGIN, &Credentials::basic("anna", "hunter2"));
        let printed = format!("{:?}", read(login));
        assert!(printed.contains("1005") && !printed.contains("YW5uYTpodW50ZXIy"), "{printed}");
    }
}

/// Any value, as deep as interesting.
fn pieces() -> impl Strategy<Value = Piece> {
    let leaves = prop_oneof![
        any::<bool>().prop_map(Piece::Boolean),
        any::<i64>().prop_map(Piece::Integer),
        any::<i32>().prop_map(|value| Piece::Enumerated(value.into())),
        (-1e15..1e15_f64).prop_map(Piece::Real),
        any::<String>().prop_map(Piece::Text),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Piece::Octets),
    ];
    leaves.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Piece::List),
            (inner.clone(), inner.clone(), prop::option::of(inner.clone())).prop_map(
                |(first, second, optional)| {
                    let mut members = vec![(FIRST, first), (SECOND, second)];
                    members.extend(optional.map(|piece| {
                        let is_choice = matches!(piece, Piece::Choice(..));
                        (if is_choice { AROUND } else { TAGGED }, piece)
                    }));
                    Piece::Sequence(members)
                }
            ),
            inner.prop_map(|piece| Piece::choice(CHOSEN, Piece::Sequence(vec![(FIRST, piece)]))),
        ]
    })
}

const FIRST: Member = Member::nth("first", 0);
const SECOND: Member = Member::nth("second", 1);
const TAGGED: Member = Member::tagged("tagged", 3);
const AROUND: Member = Member::around("around", 4);
const CHOSEN: Member = Member::tagged("chosen", 7);

/// A value as it is read when one knows what it should be. An untagged CHOICE as a member has its
/// alternative's tag, which `Nth` does not count, so such members are looked at as items only.
fn same(value: &Value<'_>, piece: &Piece) -> Result<bool, Malformed> {
    Ok(match piece {
        Piece::Null | Piece::AsSent(_) => true,
        Piece::Boolean(expected) => value.boolean()? == *expected,
        Piece::Integer(expected) | Piece::Enumerated(expected) => value.integer()? == *expected,
        Piece::Real(expected) => value.real()? == *expected,
        Piece::Text(expected) => value.text()? == *expected,
        Piece::Octets(expected) => *value.octets()? == expected[..],
        Piece::List(expected) => {
            let items = value.items()?;
            if items.len() != expected.len() {
                return Ok(false);
            }
            let mut all = true;
            for (item, expected) in items.iter().zip(expected) {
                all &= same(item, expected)?;
            }
            all
        }
        Piece::Sequence(members) | Piece::Typed(_, members) => {
            if members
                .iter()
                .any(|(member, piece)| matches!(piece, Piece::Choice(..)) && *member != AROUND)
            {
                return Ok(true);
            }
            let mut all = true;
            for (member, expected) in members {
                all &= same(&value.required(member)?, expected)?;
            }
            all
        }
        Piece::Choice(_, expected) => {
            let (_, chosen) = value.alternative(&[CHOSEN])?.ok_or(Malformed("no alternative"))?;
            same(&chosen, expected)?
        }
    })
}

proptest! {
    #[test]
    fn both_encodings_say_the_same(piece in pieces(), id in any::<i32>()) {
        for envelope in envelopes() {
            let message = read(envelope.result(id.into(), &piece));
            prop_assert_eq!(message.id(), Some(id.into()));
            prop_assert_eq!(same(&message.body().unwrap(), &piece), Ok(true));
        }
    }

    #[test]
    fn another_id_changes_nothing_else(piece in pieces(), id in any::<i32>(), other in any::<i32>()) {
        for envelope in envelopes() {
            let message = read(envelope.invoke(id.into(), Operation(77), &piece));
            let renamed = message.with_id(other.into());
            prop_assert_eq!(renamed.id(), Some(other.into()));
            let back = renamed.with_id(id.into());
            prop_assert_eq!(back.bytes(), message.bytes());
        }
    }

    #[test]
    fn octets_that_were_damaged_harm_nobody(
        piece in pieces(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        for envelope in envelopes() {
            let mut bytes = envelope.invoke(1, Operation::MONITOR_START, &piece).to_vec();
            for (place, octet) in &damage {
                let place = place.index(bytes.len());
                bytes[place] = *octet;
            }
            touch(bytes.into());
        }
    }

    #[test]
    fn octets_of_any_kind_harm_nobody(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        touch(bytes.into());
    }
}

/// Reads all that there is to read.
fn touch(bytes: Bytes) {
    let Ok(message) = Message::parse(bytes) else { return };
    let _ = (message.session(), message.with_id(99).id());
    let Some(body) = message.body() else { return };
    let _ = (cti::line(&body), cti::attaches(&body), LineState::read(&body), body.items());
    let _ = (Credentials::read(&body).map(|it| it.claimed_user()), LoginOutcome::read(&body));
    let _ = (Negotiation::read(&body), Negotiated::read(&body));
    for event in 1280..1296 {
        let _ = (cti::cross_ref(Operation(event), &body),);
        let _ = LineState::default().follow(Operation(event), &body);
    }
}
