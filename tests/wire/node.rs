//! A client on Node, with the controller, the session and the WebSocket that programs there have.

use frontdoor::ucserver::ClientSettings;
use serde_json::{Value, json};

use crate::harness::{Node, Secret, Server, Setup, soon};
use crate::web::{assigned, door, holder, line_of, seen, servers};

const MONITOR: &str = "asnCtiLineMonitorStart";

fn ring(user: &str) -> Value {
    json!({"ring": {"line": ClientSettings::line_of(user), "number": "+4970"}})
}

/// Its line is watched, its server is killed, and it hears of its line from the other one.
fn outlive(node: Node, servers: &mut [Server], is_kept_alive: bool) {
    let watched = node.ask(MONITOR, &line_of("anna"));
    let cross_ref = watched["result"]["result"]["result"]["u8sMonitorCrossRefID"].clone();
    assert!(cross_ref.is_string(), "{watched}");
    let home = holder(servers);
    if is_kept_alive {
        node.told("kept_alive");
    }
    servers[home].ask(&ring("anna"), "rung");
    assert_eq!(node.told("event")["argument"]["u8sMonitorCrossRefID"], cross_ref);
    servers[home].kill();
    let other = &mut servers[1 - home];
    soon("it is watched there", || (seen(other)["monitors"] == 1).then_some(()));
    // The call was the dead server's: it is over.
    assert_eq!(node.told("event")["argument"]["u8sMonitorCrossRefID"], cross_ref);
    other.ask(&ring("anna"), "rung");
    let event = node.told("event");
    assert_eq!(event["operationName"], "asnCtiNotifyLineCallInformationChanged");
    assert_eq!(event["argument"]["u8sMonitorCrossRefID"], cross_ref);
    if is_kept_alive {
        node.told("kept_alive");
    }
    let contact = node.ask("asnGetLoggedInContactV2", &json!({}));
    assert_eq!(contact["result"]["result"]["result"]["u8sLoggedInUser"], "anna", "{contact}");
    let refused = node.ask("asnNobodyKnowsThis", &json!({}));
    assert!(refused["reject"].is_object(), "{refused}");
    assert_eq!(node.leave(), Some(0));
}

#[test]
fn a_client_on_node_keeps_its_web_socket_and_its_monitor_when_its_server_is_killed() {
    let mut servers = servers();
    let door = door(&Setup::with(&servers));
    assigned(&door, "anna");
    let web = door.web.unwrap();
    let node = Node::start("anna", web);
    assert_eq!(node.told("controller"), format!("http://{web}"));
    assert_eq!(node.told("open"), false);
    outlive(node, &mut servers, true);
}

#[test]
fn a_client_on_node_keeps_them_by_tls_as_well() {
    let (mut servers, secret) = (servers(), Secret::of(&["127.0.0.1"]));
    let door = door(Setup::with(&servers).secured(&secret));
    assigned(&door, "anna");
    let web = door.web_tls.unwrap();
    let node = Node::start_trusting(&secret, "anna", web);
    assert_eq!(node.told("controller"), format!("https://{web}"));
    assert_eq!(node.told("open"), true);
    outlive(node, &mut servers, false);
}
