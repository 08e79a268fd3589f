//! What a client wants to be told.

use crate::ucsap::{Class, Member, Operation, Piece};
use crate::ucserver::Settings;
use crate::ucserver::tests::clients::{ENCODINGS, World, sequence, text};

fn contacts(names: &[&str]) -> Piece {
    let names = names.iter().map(|name| Piece::text(*name)).collect();
    sequence(&[("seqContactIDs", Piece::List(names))])
}

/// An argument for each operation of the class Desired but those of lines.
fn wishes() -> Vec<(Operation, Piece)> {
    let agents = Piece::List(vec![]);
    vec![
        (Operation::SUBSCRIBE_SERVICES, sequence(&[])),
        (Operation::CHAT_SUBSCRIBE, sequence(&[("bReceiveChatEvents", Piece::Boolean(true))])),
        (Operation::AGENT_MONITOR_START, sequence(&[("u8sAgentURI", Piece::text("a"))])),
        (
            Operation::JOURNAL_SUBSCRIBE,
            sequence(&[("bReceiveJournalEvents", Piece::Boolean(true))]),
        ),
        (Operation::MGMT_SUBSCRIBE_LINES, sequence(&[("u8sTAPILineID", Piece::text("l"))])),
        (Operation::MGMT_SUBSCRIBE_CONNECTIONS, sequence(&[("u8sContactID", Piece::text("c"))])),
        (Operation::MGMT_SUBSCRIBE_USERS, sequence(&[])),
        (
            Operation::PERSISTENCE_SUBSCRIBE,
            sequence(&[
                ("u8sCrossRefID", Piece::text("x")),
                ("iSubscribeType", Piece::Integer(1)),
                ("u8sItemStore", Piece::text("s")),
            ]),
        ),
        (Operation::SUBSCRIBE_PRESENCE, contacts(&["a", "b"])),
        (Operation::CONTENT_SUBSCRIBE, sequence(&[])),
        (Operation::CONTENT_SUBSCRIBE_TAGS, sequence(&[("iSubscribe", Piece::Integer(1))])),
        (Operation::CONTENT_SUBSCRIBE_ADMIN, sequence(&[])),
        (
            Operation::REGISTER_AGENTS,
            sequence(&[("u8sServiceID", Piece::text("s")), ("listAgents", agents)]),
        ),
    ]
}

fn wanted(world: &World) -> Vec<(i64, String)> {
    let all = world.server.clients().subscriptions();
    all.map(|it| (it.operation.0, it.what.to_owned())).collect()
}

#[test]
fn every_wish_is_remembered_and_gone_with_its_end() {
    for encoding in ENCODINGS {
        let mut world = World::encoded(Settings::default(), encoding);
        world.log_in(1, "anna");
        let mut agent = String::new();
        for (operation, argument) in wishes() {
            assert_eq!(operation.class(), Class::Desired);
            let answer = world.result(1, operation, &argument);
            if operation == Operation::AGENT_MONITOR_START {
                agent = text(&answer, "u8sMonitorCrossRefID", 0);
            }
            assert!(wanted(&world).iter().any(|(it, _)| *it == operation.0), "{operation:?}");
        }
        assert_eq!(wanted(&world).len(), wishes().len() + 1);
        let off = Piece::Boolean(false);
        for (operation, argument) in [
            (Operation::CHAT_SUBSCRIBE, sequence(&[("bReceiveChatEvents", off.clone())])),
            (Operation::JOURNAL_SUBSCRIBE, sequence(&[("bReceiveJournalEvents", off)])),
            (
                Operation::AGENT_MONITOR_STOP,
                sequence(&[("u8sMonitorCrossRefID", Piece::text(agent))]),
            ),
            (Operation::MGMT_UNSUBSCRIBE_LINES, sequence(&[])),
            (
                Operation::MGMT_UNSUBSCRIBE_CONNECTIONS,
                sequence(&[("u8sContactID", Piece::text("c"))]),
            ),
            (Operation::MGMT_UNSUBSCRIBE_USERS, sequence(&[])),
            (Operation::UNSUBSCRIBE_PRESENCE, contacts(&["a"])),
            (Operation::CONTENT_UNSUBSCRIBE, sequence(&[])),
            (Operation::CONTENT_SUBSCRIBE_TAGS, sequence(&[("iSubscribe", Piece::Integer(0))])),
            (Operation::CONTENT_UNSUBSCRIBE_ADMIN, sequence(&[])),
            (
                Operation::UNREGISTER_AGENTS,
                sequence(&[
                    ("u8sServiceID", Piece::text("s")),
                    ("listAgents", Piece::List(vec![])),
                ]),
            ),
        ] {
            world.result(1, operation, &argument);
        }
        let left = [(703, ""), (4305, "x"), (4505, "b")].map(|(it, what)| (it, what.to_owned()));
        assert_eq!(wanted(&world), left);
    }
}

#[test]
fn presence_is_of_nobody() {
    let mut world = World::with("anna");
    let answer = world.result(1, Operation::SUBSCRIBE_PRESENCE, &contacts(&["a"]));
    let body = answer.body().unwrap();
    let list = body.required(&Member::nth("seqSubscribedPresence", 0)).unwrap();
    assert!(list.items().unwrap().is_empty());
}
