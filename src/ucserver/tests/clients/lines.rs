//! Lines: listed, monitored, and what is set on them.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::private::Private;
use crate::ucsap::cti::LineState;
use crate::ucsap::{Encoding, Member, Operation, Piece};
use crate::ucserver::tests::clients::{
    ENCODINGS, World, for_line, integer, line_of, operations, sequence, text,
};
use crate::ucserver::{CallRefused, ClientSettings, ClientUser, Settings};

fn own(attach: i64) -> Piece {
    sequence(&[
        ("typeofLines", Piece::Enumerated(0)),
        ("attachChangeNotify", Piece::Integer(attach)),
    ])
}

fn two_lines() -> Settings {
    let lines = vec![String::from("tel:+491@pbx"), String::from("tel:+492@pbx")];
    let anna = ClientUser { password: Private::new("pw-anna".into()), lines };
    let users = Some(BTreeMap::from([(String::from("anna"), anna)]));
    Settings {
        clients: ClientSettings { users, ..ClientSettings::default() },
        ..Settings::default()
    }
}

#[test]
fn a_user_is_told_the_lines_they_have() {
    for encoding in ENCODINGS {
        let mut world = World::encoded(two_lines(), encoding);
        world.log_in(1, "anna");
        let answer = world.result(1, Operation::ENUM_LINES, &own(0));
        let body = answer.body().unwrap();
        let lines = body.required(&Member::nth("seqLines", 0)).unwrap().items().unwrap();
        let uri = Member::nth("u8sLinePhoneNumber", 2);
        let uris: Vec<_> =
            lines.iter().map(|line| line.required(&uri).unwrap().text().unwrap()).collect();
        assert_eq!(uris, ["tel:+491@pbx", "tel:+492@pbx"]);
        let cross_ref = Member::nth("u8sLineMonitorCrossRefID", 1);
        assert!(body.member(&cross_ref).unwrap().is_none());
        let attached = world.result(1, Operation::ENUM_LINES, &own(1));
        assert!(!text(&attached, "u8sLineMonitorCrossRefID", 1).is_empty());
    }
}

#[test]
fn each_monitor_has_a_reference_of_its_own_and_a_whole_snapshot() {
    for encoding in ENCODINGS {
        let mut world = World::encoded(Settings::default(), encoding);
        world.log_in(1, "anna");
        let line = line_of("anna");
        let first = world.result(1, Operation::MONITOR_START, &for_line(&line));
        let second = world.monitor(1, &line);
        assert_ne!(text(&first, "u8sMonitorCrossRefID", 0), second);
        let state = LineState::read(&first.body().unwrap()).unwrap();
        assert_eq!(state.calls(), 0);
        let shot = world.result(1, Operation::SNAPSHOT_LINE, &for_line(&line));
        assert_eq!(integer(&shot, "iDoNotDisturb", 2), 0);
        let monitors: Vec<_> = world.server.clients().monitors().map(|it| it.cross_ref).collect();
        assert_eq!(monitors, [text(&first, "u8sMonitorCrossRefID", 0), second]);
    }
}

#[test]
fn a_monitor_that_was_stopped_is_told_nothing_more() {
    for encoding in ENCODINGS {
        let mut world = World::encoded(Settings::default(), encoding);
        world.log_in(1, "anna");
        let line = line_of("anna");
        let (first, second) = (world.monitor(1, &line), world.monitor(1, &line));
        let stop = sequence(&[("u8sMonitorCrossRefID", Piece::text(&*first))]);
        world.result(1, Operation::MONITOR_STOP, &stop);
        assert_eq!(world.ask(1, Operation::MONITOR_STOP, &stop).error(), 3);
        world.server.ring(world.now, &line, "+49").unwrap();
        let told = world.outputs();
        assert_eq!(operations(&told), [1283]);
        assert_eq!(text(&told[0].message, "u8sMonitorCrossRefID", 0), second);
    }
}

#[test]
fn what_is_set_on_a_line_is_told_to_all_who_monitor_it_and_stays() {
    for encoding in ENCODINGS {
        let mut world = World::encoded(Settings::default(), encoding);
        for connection in [1, 2] {
            world.log_in(connection, "anna");
        }
        let line = line_of("anna");
        for connection in [1, 2] {
            world.monitor(connection, &line);
        }
        let (to, office) = (Piece::text("+4999"), Operation::SET_REMOTE_OFFICE);
        let quiet = Piece::Boolean(true);
        let quiet =
            sequence(&[("u8sLinePhoneNumber", Piece::text(&*line)), ("bDoNotDisturb", quiet)]);
        let forward = sequence(&[
            ("u8sPhoneNumberFrom", Piece::text(&*line)),
            ("u8sPhoneNumberTo", to.clone()),
        ]);
        let away = sequence(&[
            ("u8sController", Piece::text("")),
            ("iEnabled", Piece::Integer(1)),
            ("u8sDestination", to),
        ]);
        let away =
            sequence(&[("u8sLinePhoneNumber", Piece::text(&*line)), ("remoteOfficeState", away)]);
        let back = sequence(&[("u8sPhoneNumberFrom", Piece::text(&*line))]);
        for (operation, argument, event) in [
            (Operation::SET_DO_NOT_DISTURB, &quiet, 1281),
            (Operation::SET_FORWARD, &forward, 1282),
            (office, &away, 1292),
            (Operation::REMOVE_FORWARD, &back, 1282),
        ] {
            let (answer, told) = world.ask_all(1, operation, argument);
            answer.result();
            assert_eq!(operations(&told), [event, event], "{operation:?}");
            let mut to: Vec<u64> = told.iter().map(|told| told.connection).collect();
            to.sort_unstable();
            assert_eq!(to, [1, 2]);
        }
        assert!(world.ask_all(1, Operation::SET_DO_NOT_DISTURB, &quiet).1.is_empty(), "no change");
        let shot = world.result(1, Operation::SNAPSHOT_LINE, &for_line(&line));
        assert_eq!(integer(&shot, "iDoNotDisturb", 2), 1);
    }
}

#[test]
fn forwards_are_one_for_each_mode_and_can_be_taken_away_singly() {
    for encoding in ENCODINGS {
        let mut world = World::encoded(Settings::default(), encoding);
        world.log_in(1, "anna");
        let line = line_of("anna");
        let params = |mode: i64| match encoding {
            Encoding::Json => sequence(&[("ForwardMode", Piece::Integer(mode))]),
            Encoding::Ber => Piece::List(vec![sequence(&[
                ("key", Piece::text("ForwardMode")),
                ("value", Piece::Integer(mode)),
            ])]),
        };
        let set = |mode| {
            sequence(&[
                ("u8sPhoneNumberFrom", Piece::text(&*line)),
                ("u8sPhoneNumberTo", Piece::text("+49")),
                ("optionalParams", params(mode)),
            ])
        };
        let replaced = |world: &mut World, mode| {
            let answer = world.result(1, Operation::SET_FORWARD, &set(mode));
            let body = answer.body().unwrap();
            body.required(&Member::nth("bExistingForwardingChanged", 1)).unwrap().boolean().unwrap()
        };
        assert!(!replaced(&mut world, 2));
        assert!(!replaced(&mut world, 4));
        assert!(replaced(&mut world, 2));
        let remove =
            sequence(&[("u8sPhoneNumberFrom", Piece::text(&*line)), ("optionalParams", params(4))]);
        world.result(1, Operation::REMOVE_FORWARD, &remove);
        let shot = world.result(1, Operation::SNAPSHOT_LINE, &for_line(&line));
        let body = shot.body().unwrap();
        let left = body.required(&Member::nth("seqLineForwards", 3)).unwrap().items().unwrap();
        assert_eq!(left.len(), 1);
        let mode = left[0].required(&Member::nth("iForwardMode", 2)).unwrap();
        assert_eq!(mode.integer(), Ok(2));
    }
}

#[test]
fn events_are_written_as_the_session_last_wrote() {
    let mut world = World::with("anna");
    let line = line_of("anna");
    world.monitor(1, &line);
    for encoding in ENCODINGS {
        world.encoding = encoding;
        world.result(1, Operation::SNAPSHOT_LINE, &for_line(&line));
        world.server.ring(world.now, &line, "+49").unwrap();
        let told = world.outputs();
        assert_eq!(told[0].message.encoding(), encoding);
        let bytes = told[0].message.bytes();
        assert_eq!(encoding == Encoding::Ber, bytes.ends_with(&[0x1F, 0x80, 0x80, 0x15, 0]));
    }
}

#[test]
fn a_connection_that_is_gone_leaves_nothing_behind() {
    let mut world = World::with("anna");
    let line = line_of("anna");
    world.monitor(1, &line);
    world.server.handle(world.now, crate::ucserver::Input::ClientClosed { connection: 1 });
    assert_eq!(world.server.clients().monitors().count(), 0);
    assert_eq!(world.server.users_logged_in(), 0);
    world.server.ring(world.now, &line, "+49").unwrap();
    assert!(world.outputs().is_empty());
}

#[test]
fn lines_that_come_and_go_are_told_to_who_asked() {
    for encoding in ENCODINGS {
        let mut world = World::encoded(Settings::default(), encoding);
        for connection in [1, 2] {
            world.log_in(connection, "anna");
        }
        let attached = world.result(1, Operation::ENUM_LINES, &own(1));
        let cross_ref = text(&attached, "u8sLineMonitorCrossRefID", 1);
        world.server.change_line(world.now, "anna", "tel:+497@pbx", true).unwrap();
        let told = world.outputs();
        assert_eq!(operations(&told), [1284]);
        assert_eq!(text(&told[0].message, "u8sLineMonitorCrossRefID", 0), cross_ref);
        let monitor = world.monitor(2, "tel:+497@pbx");
        world.server.change_line(world.now, "anna", "tel:+497@pbx", false).unwrap();
        let told = world.outputs();
        assert_eq!(operations(&told), [1284, 1294]);
        assert_eq!(text(&told[1].message, "u8sMonitorCrossRefID", 0), monitor);
        assert_eq!(world.ask(1, Operation::MONITOR_START, &for_line("tel:+497@pbx")).error(), 3);
        let gone = world.server.change_line(world.now, "anna", &line_of("anna"), false);
        assert_eq!(gone, Err(CallRefused::NoLine));
    }
}

#[test]
fn monitored_lines_tell_of_themselves_as_often_as_they_are_told_to() {
    let clients = ClientSettings {
        line_events_every: Some(Duration::from_secs(2)),
        ..ClientSettings::default()
    };
    let mut world = World::new(Settings { clients, ..Settings::default() });
    for (connection, user) in [(1, "anna"), (2, "bert")] {
        world.log_in(connection, user);
    }
    assert!(world.secs(10).is_empty(), "nobody monitors");
    world.monitor(1, &line_of("anna"));
    world.monitor(2, &line_of("bert"));
    let again = world.monitor(2, &line_of("bert"));
    let told = world.secs(20);
    let of = |connection| told.iter().filter(move |told| told.connection == connection);
    assert_eq!((of(1).count(), of(2).count()), (10, 20));
    assert!(told.iter().all(|told| told.operation() == 1280));
    let first = |connection| of(connection).next().unwrap().at;
    assert_ne!(first(1), first(2), "spread");
    assert!(of(2).any(|told| text(&told.message, "u8sMonitorCrossRefID", 0) == again));
    world.server.handle(world.now, crate::ucserver::Input::ClientClosed { connection: 2 });
    world.server.handle(world.now, crate::ucserver::Input::ClientClosed { connection: 1 });
    assert!(world.secs(100).is_empty());
    assert_eq!(world.server.next(), None);
}
