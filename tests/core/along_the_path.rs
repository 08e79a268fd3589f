//! Requests of servers along the Path to phones, and the answers back (RFC 3327, RFC 3261 §16).

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use frontdoor::cluster::BindingAddress;
use frontdoor::sip::{HeaderName, Message, Response};
use frontdoor::ucserver::{Event, Unreached};

use crate::desk::{Ask, Desk, PHONES, SERVERS, desk, header, phone, plan, text};
use crate::world::server_addr;

const ALICE: &str = "sip:alice@example.com";
const CONTACT: &str = "sip:alice@198.51.100.1";
const SECOND: Duration = Duration::from_secs(1);

/// A desk where Alice is registered, and the Path her server has stored.
fn registered() -> (Desk, String) {
    let mut desk = desk();
    assert_eq!(desk.status(&Ask::register("alice").contact(&format!("<{CONTACT}>"))), 200);
    let path = desk.held_by(0)[0].2[0].clone();
    (desk, path)
}

/// What became of the pings of a server, oldest first.
fn pings(desk: &Desk) -> Vec<Result<(), Unreached>> {
    let entries = desk.servers[0].journal().entries();
    entries
        .filter_map(|entry| match &entry.event {
            Event::Reached { .. } => Some(Ok(())),
            Event::Unreached { why, .. } => Some(Err(*why)),
            Event::Registered { .. }
            | Event::Removed { .. }
            | Event::Expired { .. }
            | Event::Refused { .. }
            | Event::LoggedIn { .. }
            | Event::LoggedOff { .. }
            | Event::Dialled { .. }
            | Event::MoodSet(_)
            | Event::Restarted => None,
        })
        .collect()
}

/// A server's request along `route`, written by hand.
fn request(method: &str, branch: &str, lines: &[&str]) -> Bytes {
    let mut text = format!(
        "{method} {CONTACT} SIP/2.0\r\nVia: SIP/2.0/UDP {};rport;branch=z9hG4bK{branch}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:ucs1@10.0.0.1>;tag=s\r\nTo: <{ALICE}>\r\n\
         Call-ID: {branch}\r\nCSeq: 1 {method}\r\n",
        server_addr(0)
    );
    for line in lines {
        if let Some(hops) = line.strip_prefix("Max-Forwards: ") {
            text = text.replace("Max-Forwards: 70", &format!("Max-Forwards: {hops}"));
        } else {
            text.push_str(&format!("{line}\r\n"));
        }
    }
    text.push_str("Content-Length: 0\r\n\r\n");
    text.into()
}

/// The one answer a server got.
fn answer(desk: &mut Desk) -> Message {
    assert_eq!(desk.answers_to_servers.len(), 1, "{:?}", desk.answers_to_servers);
    desk.answers_to_servers.remove(0).1
}

#[test]
fn a_request_reaches_the_phone_and_its_answer_returns() {
    let (mut desk, _) = registered();
    desk.ping(0, ALICE, CONTACT);
    let request = desk.phone_answers(phone(1), 200);
    assert_eq!(request.method(), Some("OPTIONS"));
    assert_eq!(request.uri().map(text), Some(CONTACT));
    assert_eq!(request.count(HeaderName::Route), 0, "the Route was ours");
    assert_eq!(header(&request, HeaderName::MaxForwards), "69");
    let vias: Vec<&str> = request.values(HeaderName::Via).map(text).collect();
    assert_eq!(vias.len(), 2);
    assert!(vias[0].starts_with("SIP/2.0/UDP 192.0.2.1:5060;"), "{vias:?}");
    assert!(vias[1].starts_with("SIP/2.0/UDP 10.0.0.1:5060;"), "{vias:?}");
    assert_eq!(pings(&desk), [Ok(())]);
    let answer = answer(&mut desk);
    assert_eq!(answer.values(HeaderName::Via).count(), 1, "our Via is taken off");
    assert_eq!(answer.to().unwrap().tag(), Some(&b"phone"[..]), "else it is the phone's own");
    assert_eq!(desk.door.stats().path_requests, 1);
}

#[test]
fn what_the_phone_refuses_is_refused() {
    let (mut desk, _) = registered();
    desk.ping(0, ALICE, CONTACT);
    desk.phone_answers(phone(1), 486);
    assert_eq!(pings(&desk), [Err(Unreached::Status(486))]);
}

#[test]
fn a_request_goes_where_the_register_came_from_not_where_the_contact_points() {
    let mut desk = desk();
    let nat: SocketAddr = "198.51.100.77:31337".parse().unwrap();
    desk.answer(&Ask::register("alice").contact("<sip:alice@192.168.1.2>").at(nat));
    desk.ping(0, ALICE, "sip:alice@192.168.1.2");
    let request = desk.phone_answers(nat, 200);
    assert_eq!(request.uri().map(text), Some("sip:alice@192.168.1.2"), "but it is its target");
    assert_eq!(pings(&desk), [Ok(())]);
}

#[test]
fn a_phone_that_refreshed_from_elsewhere_is_reached_there() {
    let (mut desk, _) = registered();
    let elsewhere = "198.51.100.1:40000".parse().unwrap();
    let refresh = Ask::register("alice").cseq(2).contact(&format!("<{CONTACT}>")).at(elsewhere);
    assert_eq!(desk.status(&refresh), 200);
    desk.ping(0, ALICE, CONTACT);
    desk.phone_answers(elsewhere, 200);
    assert_eq!(pings(&desk), [Ok(())]);
}

#[test]
fn hops_behind_ours_stay_in_the_route() {
    let mut desk = desk();
    let ask = Ask::register("alice")
        .contact(&format!("<{CONTACT}>"))
        .line("Path", "<sip:edge1.example.com;lr>, <sip:edge2.example.com;lr>");
    desk.answer(&ask);
    desk.ping(0, ALICE, CONTACT);
    let request = desk.phone_answers(phone(1), 200);
    let route: Vec<&str> = request.values(HeaderName::Route).map(text).collect();
    assert_eq!(route, ["<sip:edge1.example.com;lr>", "<sip:edge2.example.com;lr>"]);
}

#[test]
fn a_route_in_one_line_loses_only_its_first_hop() {
    let (mut desk, path) = registered();
    let route = format!("Route: {path}, <sip:edge.example.com;lr>");
    desk.server_says(0, request("OPTIONS", "one", &[&route]));
    let request = desk.phone_answers(phone(1), 200);
    assert_eq!(header(&request, HeaderName::Route), "<sip:edge.example.com;lr>");
    assert_eq!(answer(&mut desk).status(), Some(200));
}

#[test]
fn where_the_contact_points_at_the_door_the_phones_own_is_put_in_its_place() {
    let mut desk = plan(1).binding_address(BindingAddress::Contact).open();
    let contact = "sip:alice@198.51.100.1;ob;x=1";
    desk.answer(&Ask::register("alice").contact(&format!("<{contact}>")));
    let (_, held, path) = desk.held_by(0).remove(0);
    assert_eq!(path.len(), 0);
    desk.ping(0, ALICE, &held);
    let request = desk.phone_answers(phone(1), 200);
    assert_eq!(request.uri().map(text), Some(contact));
    assert_eq!(header(&request, HeaderName::MaxForwards), "69");
    assert_eq!(pings(&desk), [Ok(())]);
}

#[test]
fn a_forged_token_is_forbidden_and_counted() {
    let (mut desk, path) = registered();
    let mut forged = path.into_bytes();
    let at = "<sip:".len() + 3;
    forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
    for (count, route) in
        [text(&forged), "<sip:10.0.0.100:5080;lr>", "<sip:x@10.0.0.100:5080;lr>", "<tel:+49>", "?"]
            .iter()
            .enumerate()
    {
        let route = format!("Route: {route}");
        desk.server_says(0, request("OPTIONS", &format!("f{count}"), &[&route]));
        assert_eq!(answer(&mut desk).status(), Some(403), "{route}");
        assert_eq!(desk.door.stats().path_rejected, count as u64 + 1);
    }
    // A contact that would point at the door, made up.
    desk.server_says(0, request("OPTIONS", "made-up", &[]));
    assert_eq!(answer(&mut desk).status(), Some(403));
    assert_eq!(desk.request_at(phone(1)).map(|m| m.bytes().clone()), None, "no phone heard of it");
}

#[test]
fn a_token_of_a_removed_binding_has_lost_its_flow() {
    let (mut desk, path) = registered();
    let gone = Ask::register("alice").cseq(2).contact("*").expires("0");
    desk.answer(&gone);
    desk.server_says(0, request("OPTIONS", "late", &[&format!("Route: {path}")]));
    assert_eq!(answer(&mut desk).status(), Some(430));
    assert_eq!(desk.door.stats().path_rejected, 1);
    // The next binding in the same place has a token of its own.
    desk.answer(&Ask::register("bob").contact("<sip:bob@198.51.100.2>").at(phone(2)));
    desk.server_says(0, request("OPTIONS", "later", &[&format!("Route: {path}")]));
    assert_eq!(answer(&mut desk).status(), Some(430));
    assert!(desk.request_at(phone(2)).is_none());
}

#[test]
fn other_methods_are_told_which_are_carried() {
    let (mut desk, path) = registered();
    for method in ["INVITE", "NOTIFY", "REGISTER", "FROBNICATE"] {
        desk.server_says(0, request(method, method, &[&format!("Route: {path}")]));
        let answer = answer(&mut desk);
        assert_eq!(answer.status(), Some(405), "{method}");
        assert_eq!(header(&answer, HeaderName::Allow), "OPTIONS, REGISTER");
    }
    assert!(desk.request_at(phone(1)).is_none());
}

#[test]
fn nobody_but_servers_may_use_the_path() {
    let (mut desk, path) = registered();
    let route = format!("Route: {path}");
    let elsewhere: SocketAddr = "10.9.9.9:5060".parse().unwrap();
    desk.deliver(SERVERS, elsewhere, request("OPTIONS", "outside", &[&route]));
    assert_eq!(answer(&mut desk).status(), Some(403));
    assert_eq!(desk.door.stats().path_rejected, 1);
    // Where phones are expected the door answers for itself.
    desk.deliver(PHONES, elsewhere, request("OPTIONS", "phones", &[&route]));
    assert!(desk.request_at(phone(1)).is_none());
}

#[test]
fn a_request_that_may_not_go_further_is_refused() {
    let (mut desk, path) = registered();
    let route = format!("Route: {path}");
    desk.server_says(0, request("OPTIONS", "zero", &[&route, "Max-Forwards: 0"]));
    assert_eq!(answer(&mut desk).status(), Some(483));
    desk.server_says(0, request("OPTIONS", "one", &[&route, "Max-Forwards: 1"]));
    assert_eq!(header(&desk.phone_answers(phone(1), 200), HeaderName::MaxForwards), "0");
}

#[test]
fn what_proxies_must_understand_and_the_door_does_not_is_named_and_refused() {
    let (mut desk, path) = registered();
    let route = format!("Route: {path}");
    let ask = request("OPTIONS", "must", &[&route, "Proxy-Require: foo, path, bar"]);
    desk.server_says(0, ask);
    let refusal = answer(&mut desk);
    assert_eq!(refusal.status(), Some(420));
    assert_eq!(header(&refusal, HeaderName::Unsupported), "foo, bar");
    assert!(desk.request_at(phone(1)).is_none());
    // What the phone must understand is the phone's to judge (RFC 3261 §16.3 step 5).
    desk.server_says(0, request("OPTIONS", "phones", &[&route, "Require: foo"]));
    let carried = desk.phone_answers(phone(1), 420);
    assert_eq!(header(&carried, HeaderName::Require), "foo");
    assert_eq!(answer(&mut desk).status(), Some(420));
}

#[test]
fn options_to_the_door_itself_is_answered_by_the_door() {
    let (mut desk, _) = registered();
    let ask = request("OPTIONS", "door", &["Max-Forwards: 0"]);
    let ask = text(&ask).replacen(CONTACT, "sip:10.0.0.100:5080", 1);
    desk.server_says(0, ask);
    assert_eq!(answer(&mut desk).status(), Some(200));
}

#[test]
fn a_retransmission_reaches_the_phone_once() {
    let (mut desk, path) = registered();
    let options = request("OPTIONS", "twice", &[&format!("Route: {path}")]);
    desk.server_says(0, options.clone());
    desk.server_says(0, options.clone());
    desk.phone_answers(phone(1), 200);
    assert!(desk.request_at(phone(1)).is_none());
    let first = answer(&mut desk);
    desk.server_says(0, options);
    assert!(desk.request_at(phone(1)).is_none());
    assert_eq!(answer(&mut desk).bytes(), first.bytes(), "answered again as before");
    assert_eq!(desk.door.stats().path_requests, 1);
}

#[test]
fn a_lost_request_is_sent_again_by_the_door() {
    let (mut desk, path) = registered();
    desk.server_says(0, request("OPTIONS", "lost", &[&format!("Route: {path}")]));
    let lost = desk.request_at(phone(1)).unwrap();
    desk.pass(SECOND / 2);
    let again = desk.phone_answers(phone(1), 200);
    assert_eq!(lost.bytes(), again.bytes());
    assert_eq!(answer(&mut desk).status(), Some(200));
}

#[test]
fn an_answer_that_comes_twice_returns_once() {
    let (mut desk, path) = registered();
    desk.server_says(0, request("OPTIONS", "a2", &[&format!("Route: {path}")]));
    let request = desk.request_at(phone(1)).unwrap();
    let response = Response::to(&request, 200).to_tag("p").finish();
    desk.deliver(PHONES, phone(1), response.clone());
    desk.deliver(PHONES, phone(1), response);
    assert_eq!(answer(&mut desk).status(), Some(200));
}

#[test]
fn an_answer_of_somebody_who_was_not_asked_is_dropped() {
    let (mut desk, path) = registered();
    let stray = desk.door.stats().dropped_stray;
    let foreign =
        Message::parse(request("OPTIONS", "never", &[&format!("Route: {path}")])).unwrap();
    desk.deliver(PHONES, phone(2), Response::to(&foreign, 200).to_tag("p").finish());
    assert_eq!(desk.answers_to_servers.len(), 0);
    assert_eq!(desk.door.stats().dropped_stray, stray + 1);
}

#[test]
fn a_phone_that_says_nothing_has_timed_out() {
    let (mut desk, path) = registered();
    desk.server_says(0, request("OPTIONS", "silent", &[&format!("Route: {path}")]));
    desk.pass(31 * SECOND);
    assert_eq!(desk.answers_to_servers.len(), 0);
    desk.pass(SECOND);
    assert_eq!(answer(&mut desk).status(), Some(408), "timer F");
    assert!(desk.inbox.len() > 5, "it was tried often: {}", desk.inbox.len());
}

#[test]
fn after_a_restart_of_the_door_the_same_path_still_works() {
    let (mut desk, path) = registered();
    desk.restart();
    desk.server_says(0, request("OPTIONS", "old", &[&format!("Route: {path}")]));
    desk.phone_answers(phone(1), 200);
    assert_eq!(answer(&mut desk).status(), Some(200));
    desk.pass(120 * SECOND);
    assert_eq!(desk.held_by(0)[0].2[0], path, "and the door has renewed it as it was");
}

#[test]
fn a_lapsed_binding_is_reachable_until_the_grace_is_over() {
    let (mut desk, path) = registered();
    let route = format!("Route: {path}");
    desk.pass(310 * SECOND);
    desk.server_says(0, request("OPTIONS", "within", &[&route]));
    desk.phone_answers(phone(1), 200);
    assert_eq!(answer(&mut desk).status(), Some(200));
    desk.pass(30 * SECOND);
    desk.server_says(0, request("OPTIONS", "after", &[&route]));
    assert_eq!(answer(&mut desk).status(), Some(430));
}
