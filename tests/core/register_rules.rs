//! The registrar at the door, by the letter of RFC 3261 §10.3 (mode `none`).

use std::time::Duration;

use frontdoor::cluster::HealthDocumentUse;
use frontdoor::door::UnknownUsers;
use frontdoor::sip::{HeaderName, Message};
use frontdoor::ucserver::Mood;

use crate::desk::{Ask, SERVERS, contacts, desk, header, phone, plan, text};
use crate::world::server_addr;

const ALICE: &str = "sip:alice@example.com";
const CONTACT: &str = "<sip:alice@198.51.100.1>";

fn alice() -> Ask {
    Ask::register("alice")
}

/// Alice's first contact, one CSeq after the other.
fn alice_with(cseq: u32, contact: &str) -> Ask {
    alice().cseq(cseq).contact(contact)
}

fn listed(answer: &Message) -> Vec<(String, u64)> {
    contacts(answer).into_iter().collect()
}

#[test]
fn a_request_without_a_mandatory_header_is_bad() {
    for name in ["From", "To", "Call-ID", "CSeq"] {
        let mut desk = desk();
        desk.send(&alice().contact(CONTACT).without(name));
        let statuses: Vec<_> = desk.inbox.iter().map(|(_, m)| m.status()).collect();
        assert_eq!(statuses, [Some(400)], "without {name}");
        assert_eq!(desk.door.status(desk.now).users, 0);
    }
}

#[test]
fn a_request_without_via_cannot_be_answered_and_is_dropped() {
    let mut desk = desk();
    let dropped = desk.door.stats().dropped_malformed;
    assert!(desk.ask(&alice().contact(CONTACT).without("Via")).is_none());
    assert_eq!(desk.door.stats().dropped_malformed, dropped + 1);
    assert_eq!(desk.status(&alice().contact(CONTACT)), 200, "the next one is served");
}

#[test]
fn a_mandatory_header_twice_is_bad() {
    for (name, value) in [
        ("From", "<sip:alice@example.com>;tag=2"),
        ("To", "<sip:bob@example.com>"),
        ("Call-ID", "another"),
        ("CSeq", "7 REGISTER"),
        ("Max-Forwards", "1"),
    ] {
        assert_eq!(desk().status(&alice().contact(CONTACT).line(name, value)), 400, "{name} twice");
    }
}

#[test]
fn a_cseq_of_another_method_is_bad() {
    assert_eq!(desk().status(&alice().contact(CONTACT).set("CSeq", "1 OPTIONS")), 400);
}

#[test]
fn another_version_of_sip_is_not_supported() {
    let ask = alice().contact(CONTACT).start("REGISTER sip:example.com SIP/3.0");
    assert_eq!(desk().status(&ask), 505);
}

#[test]
fn a_request_uri_of_another_scheme_is_not_supported() {
    let ask = alice().contact(CONTACT).start("REGISTER tel:+4930123 SIP/2.0");
    assert_eq!(desk().status(&ask), 416);
}

#[test]
fn a_request_that_may_not_go_further_is_refused() {
    assert_eq!(desk().status(&alice().contact(CONTACT).set("Max-Forwards", "0")), 483);
    assert_eq!(desk().status(&alice().contact(CONTACT).set("Max-Forwards", "256")), 400);
}

#[test]
fn an_unknown_extension_that_is_required_is_named_and_refused() {
    for name in ["Require", "Proxy-Require"] {
        let answer = desk().answer(&alice().contact(CONTACT).line(name, "foo, path, bar"));
        assert_eq!(answer.status(), Some(420));
        assert_eq!(header(&answer, HeaderName::Unsupported), "foo, bar");
    }
    assert_eq!(desk().status(&alice().contact(CONTACT).line("Require", "path")), 200);
}

#[test]
fn a_path_of_the_phones_own_is_kept_if_it_is_one_and_else_refused() {
    for path in [
        "<sip:edge.example.com;lr>",
        "\"Edge\" <sip:edge.example.com;lr>;x=1, <sips:two.example.com;lr>",
        "<sip:a,b@edge.example.com;lr>",
    ] {
        let mut desk = desk();
        assert_eq!(desk.status(&alice().contact(CONTACT).line("Path", path)), 200, "{path}");
        assert_eq!(desk.held_by(0)[0].2.len(), 1 + path.matches("<sip").count(), "{path}");
    }
    for path in [
        "edge",
        "sip:edge.example.com;lr",
        "sip:edge.example.com;x=\"<\"",
        "<edge.example.com>",
        "<tel:+4930123>",
        "<sip:edge.example.com;lr>, x",
        "<sip:edge.example.com;lr> <sip:two.example.com>",
        "<sip:edge.example.com;lr",
        "\"<sip:edge.example.com;lr>",
        "<sip:edge\r\n .example.com;lr>",
        "<sip:edge.example.com;lr>;;",
        "*",
    ] {
        let mut desk = desk();
        assert_eq!(desk.status(&alice().contact(CONTACT).line("Path", path)), 400, "{path}");
        assert_eq!(desk.door.stats().registers_refused, 1);
        assert_eq!(desk.held_by(0).len(), 0, "no server heard of it");
    }
}

#[test]
fn control_octets_are_refused_unless_they_are_escaped() {
    for octet in (0..=0x1f).chain([0x7f]).map(char::from) {
        let is_white = matches!(octet, '\t' | '\r' | '\n');
        for bad in [format!("\"A{octet}\" {CONTACT}"), format!("\"A\\\\{octet}\" {CONTACT}")] {
            let mut desk = desk();
            if !is_white {
                assert_eq!(desk.status(&alice().contact(&bad)), 400, "{bad:?}");
                assert_eq!(desk.door.stats().registers_refused, 1);
            }
        }
        let escaped = format!("\"A\\{octet}\" {CONTACT}");
        if !matches!(octet, '\r' | '\n') {
            assert_eq!(desk().status(&alice().contact(&escaped)), 200, "{escaped:?}");
        }
    }
    let nobodys = alice().contact(CONTACT).line("User-Agent", "phone\0");
    assert_eq!(desk().status(&nobodys), 400, "also where nobody reads it");
    let options = alice()
        .start("OPTIONS sip:example.com SIP/2.0")
        .set("CSeq", "1 OPTIONS")
        .line("Subject", "\u{7}");
    assert_eq!(desk().status(&options), 400);
}

#[test]
fn an_unknown_method_is_told_which_are_known() {
    for method in ["INVITE", "SUBSCRIBE", "FROBNICATE"] {
        let ask = alice()
            .start(&format!("{method} sip:example.com SIP/2.0"))
            .set("CSeq", &format!("1 {method}"));
        let answer = desk().answer(&ask);
        assert_eq!(answer.status(), Some(405), "{method}");
        assert_eq!(header(&answer, HeaderName::Allow), "OPTIONS, REGISTER");
    }
}

#[test]
fn an_ack_is_never_answered() {
    let ask = alice().start("ACK sip:example.com SIP/2.0").set("CSeq", "1 ACK");
    assert!(desk().ask(&ask).is_none());
}

#[test]
fn options_tells_what_the_door_can_do() {
    let ask = alice().start("OPTIONS sip:example.com SIP/2.0").set("CSeq", "1 OPTIONS");
    let answer = desk().answer(&ask);
    assert_eq!(answer.status(), Some(200));
    assert_eq!(header(&answer, HeaderName::Allow), "OPTIONS, REGISTER");
    assert_eq!(header(&answer, HeaderName::Supported), "path");
}

#[test]
fn a_register_where_servers_are_expected_is_refused() {
    let mut desk = desk();
    for (from, status) in [(phone(1), 403), (server_addr(0), 405)] {
        desk.deliver(SERVERS, from, alice().contact(CONTACT).bytes());
        let (to, answer) = desk.answers_to_servers.pop().unwrap();
        assert_eq!((to, answer.status()), (from, Some(status)));
    }
    assert_eq!(desk.door.status(desk.now).users, 0);
}

#[test]
fn a_to_that_is_no_sip_uri_is_bad() {
    let mut desk = desk();
    for to in ["<tel:+4930123>", "\"Alice <sip:alice@example.com", "<sip:@>"] {
        assert_eq!(desk.status(&alice().contact(CONTACT).set("To", to)), 400, "{to}");
    }
    assert_eq!(desk.door.status(desk.now).users, 0);
}

#[test]
fn a_star_with_expires_zero_removes_every_binding() {
    let mut desk = desk();
    let both = "<sip:alice@198.51.100.1>, <sip:alice@198.51.100.2>";
    assert_eq!(contacts(&desk.answer(&alice_with(1, both))).len(), 2);
    let answer = desk.answer(&alice_with(2, "*").expires("0"));
    assert_eq!((answer.status(), listed(&answer)), (Some(200), vec![]));
    assert_eq!(desk.user(ALICE).bindings, []);
    assert_eq!(desk.held_by(0), [], "the server was told");
}

#[test]
fn a_star_without_expires_zero_is_bad_and_changes_nothing() {
    let mut desk = desk();
    desk.answer(&alice_with(1, CONTACT));
    for ask in [
        alice_with(2, "*"),
        alice_with(3, "*").expires("60"),
        alice_with(4, "*").expires("junk"),
        alice_with(5, "*").contact("<sip:alice@198.51.100.9>").expires("0"),
        alice_with(6, "<sip:alice@198.51.100.9>, *").expires("0"),
        alice_with(7, "*, *").expires("0"),
    ] {
        assert_eq!(desk.status(&ask), 400, "{ask:?}");
    }
    assert_eq!(contacts(&desk.answer(&alice().cseq(8))).len(), 1);
}

#[test]
fn a_star_with_an_older_cseq_removes_nothing() {
    let mut desk = desk();
    desk.answer(&alice_with(5, CONTACT));
    assert_eq!(desk.status(&alice_with(4, "*").expires("0")), 500);
    assert_eq!(desk.held_by(0).len(), 1);
    assert_eq!(desk.status(&alice_with(4, "*").expires("0").call_id("other")), 200);
    assert_eq!(desk.held_by(0).len(), 0);
}

#[test]
fn the_time_of_a_contact_counts_before_that_of_the_request() {
    let mut desk = desk();
    let ask = alice_with(1, "<sip:alice@198.51.100.1>;expires=120, <sip:alice@198.51.100.2>")
        .expires("180");
    let granted: Vec<u64> = contacts(&desk.answer(&ask)).into_values().collect();
    assert_eq!(granted, [120, 180]);
}

/// A registrar that may promise two hours, so that one hour is neither its default nor its most.
fn long_lease_plan() -> crate::desk::Plan {
    let mut plan = plan(1);
    plan.settings.sip.lease_max = Duration::from_secs(7200);
    plan.settings.sip.expiry = Duration::from_secs(7200);
    plan.servers[0].max_expires_secs = 7200;
    plan
}

#[test]
fn a_time_that_cannot_be_read_is_an_hour() {
    let mut desk = long_lease_plan().open();
    for (cseq, expires) in [(1, "soon"), (2, "-1"), (3, "3 apples")] {
        let answer = desk.answer(&alice_with(cseq, CONTACT).expires(expires));
        assert_eq!(listed(&answer), [(CONTACT.into(), 3600)], "{expires}");
    }
    let answer = desk.answer(&alice_with(9, &format!("{CONTACT};expires=abc")));
    assert_eq!(listed(&answer), [(CONTACT.into(), 3600)]);
}

#[test]
fn without_any_time_the_default_is_granted() {
    let mut desk = long_lease_plan().open();
    let answer = desk.answer(&alice_with(1, CONTACT));
    assert_eq!(listed(&answer), [(CONTACT.into(), 7200)]);
}

#[test]
fn a_time_that_no_number_holds_is_cut_to_the_longest_lease() {
    let mut desk = desk();
    let answer = desk.answer(&alice_with(1, CONTACT).expires("99999999999999999999"));
    assert_eq!(listed(&answer), [(CONTACT.into(), 300)]);
}

#[test]
fn zero_for_one_contact_removes_only_that_one() {
    let mut desk = desk();
    desk.answer(&alice_with(1, "<sip:alice@198.51.100.1>, <sip:alice@198.51.100.2>"));
    let ask = alice_with(2, "<sip:alice@198.51.100.1>;expires=0, <sip:alice@198.51.100.3>");
    let left: Vec<String> = contacts(&desk.answer(&ask)).into_keys().collect();
    assert_eq!(left, ["<sip:alice@198.51.100.2>", "<sip:alice@198.51.100.3>"]);
    let held: Vec<String> = desk.held_by(0).into_iter().map(|(_, contact, _)| contact).collect();
    assert_eq!(held, ["sip:alice@198.51.100.2", "sip:alice@198.51.100.3"]);
}

#[test]
fn removing_what_is_not_there_is_no_mistake() {
    let mut desk = desk();
    desk.answer(&alice_with(1, CONTACT));
    let ask = alice_with(2, "<sip:alice@198.51.100.9>").expires("0");
    let answer = desk.answer(&ask);
    assert_eq!((answer.status(), contacts(&answer).len()), (Some(200), 1));
}

#[test]
fn contacts_may_stand_in_one_header_or_in_several() {
    let mut desk = desk();
    let ask = alice_with(1, "<sip:alice@198.51.100.1>, sip:alice@198.51.100.2;expires=100")
        .contact("\"Desk, left\" <sip:alice@198.51.100.3>;q=0.1");
    let answer = desk.answer(&ask);
    let expected = [
        ("\"Desk, left\" <sip:alice@198.51.100.3>;q=0.1".to_owned(), 300),
        ("<sip:alice@198.51.100.1>".to_owned(), 300),
        ("<sip:alice@198.51.100.2>".to_owned(), 100),
    ];
    assert_eq!(listed(&answer), expected);
    assert_eq!(desk.take_registers().len(), 3, "each contact is a binding of its own upstream");
    assert_eq!(desk.held_by(0).len(), 3);
}

#[test]
fn the_same_contact_twice_in_one_request_is_one_binding_and_the_later_one_counts() {
    let mut desk = desk();
    let ask = alice_with(1, "<sip:alice@198.51.100.1>;q=0.1")
        .contact("<sip:%61lice@198.51.100.1>;q=0.9;expires=90");
    let answer = desk.answer(&ask);
    assert_eq!(listed(&answer), [("<sip:%61lice@198.51.100.1>;q=0.9".to_owned(), 90)]);
    assert_eq!(desk.user(ALICE).bindings.len(), 1);
    assert_eq!(desk.take_registers().len(), 1);
    let gone = alice_with(2, "<sip:alice@198.51.100.1>;expires=100")
        .contact("<sip:alice@198.51.100.1>;expires=0");
    assert_eq!(listed(&desk.answer(&gone)), []);
    assert_eq!(desk.held_by(0), []);
}

#[test]
fn what_a_contact_says_of_itself_is_kept_bit_for_bit() {
    let mut desk = desk();
    let params = ";q=0.70;+sip.instance=\"<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>\"\
                  ;reg-id=1;+SIP.ice;x-unknown=\"a;b,c\\\"d\";flag";
    let contact = format!("\"Al \\\"Ice\\\"\" <sip:alice@198.51.100.1;ob;x=1?a=b>{params}");
    let answer = desk.answer(&alice_with(1, &contact));
    assert_eq!(listed(&answer), [(contact.clone(), 300)]);
    let sent = desk.take_registers().remove(0);
    assert_eq!(header(&sent, HeaderName::Contact), format!("{contact};expires=3600"));
}

#[test]
fn contacts_are_compared_as_uris() {
    let mut desk = desk();
    desk.answer(&alice_with(1, "<sip:alice@phone.example.com;transport=udp;x=1>"));
    for (cseq, same) in [
        (2, "<sip:alice@PHONE.example.COM;transport=udp;x=1>"),
        (3, "<sip:%61lice@phone.example.com;x=1;transport=UDP>"),
        (4, "<SIP:alice@phone.example.com;transport=udp>"),
    ] {
        let answer = desk.answer(&alice_with(cseq, same));
        assert_eq!(listed(&answer), [(same.to_owned(), 300)], "the same contact as before");
    }
    for (cseq, other) in [
        (5, "<sip:ALICE@phone.example.com;transport=udp>"),
        (6, "<sip:alice@phone.example.com:5060;transport=udp>"),
        (7, "<sip:alice@phone.example.com>"),
    ] {
        let answer = desk.answer(&alice_with(cseq, other));
        assert_eq!(contacts(&answer).len(), cseq as usize - 3, "{other} is another contact");
    }
    assert_eq!(desk.held_by(0).len(), 4);
}

#[test]
fn a_lease_that_is_too_brief_is_refused_with_the_least() {
    let mut desk = desk();
    for ask in
        [alice_with(1, CONTACT).expires("59"), alice_with(2, &format!("{CONTACT};expires=1"))]
    {
        let answer = desk.answer(&ask);
        assert_eq!(answer.status(), Some(423));
        assert_eq!(header(&answer, HeaderName::MinExpires), "60");
    }
    assert_eq!(desk.door.status(desk.now).users, 0, "nothing came of it");
    assert_eq!(desk.status(&alice_with(3, CONTACT).expires("60")), 200);
}

#[test]
fn an_hour_is_never_too_brief() {
    let mut plan = long_lease_plan();
    plan.settings.sip.lease_min = Duration::from_secs(5000);
    let mut desk = plan.open();
    assert_eq!(desk.status(&alice_with(1, CONTACT).expires("3599")), 423);
    assert_eq!(desk.status(&alice_with(2, CONTACT).expires("3600")), 200);
}

#[test]
fn one_contact_that_is_too_brief_refuses_them_all() {
    let mut desk = desk();
    let ask = alice_with(1, "<sip:alice@198.51.100.1>;expires=200, <sip:alice@198.51.100.2>")
        .expires("10");
    assert_eq!(desk.status(&ask), 423);
    assert_eq!(desk.held_by(0), []);
}

#[test]
fn a_long_lease_is_cut_to_the_longest() {
    let answer = desk().answer(&alice_with(1, CONTACT).expires("86400"));
    assert_eq!(listed(&answer), [(CONTACT.into(), 300)]);
}

#[test]
fn a_lease_is_never_longer_than_what_the_server_granted() {
    let mut plan = plan(2);
    for server in &mut plan.servers {
        server.max_expires_secs = 100;
    }
    let mut desk = plan.open();
    for cseq in 1..5 {
        let answer = desk.answer(&alice_with(cseq, CONTACT).expires("250"));
        assert_eq!(listed(&answer), [(CONTACT.into(), 100)], "the {cseq}. time");
        desk.pass(Duration::from_secs(40));
    }
}

#[test]
fn a_query_lists_what_is_left_and_changes_nothing() {
    let mut desk = desk();
    desk.answer(&alice_with(1, "<sip:alice@198.51.100.1>;q=1;expires=100"));
    desk.answer(&alice_with(1, "<sip:alice@198.51.100.2>").call_id("second").at(phone(2)));
    let upstream = desk.registers.len();
    for (cseq, left) in [(7, [100, 300]), (8, [70, 270]), (9, [40, 240])] {
        // A query from anywhere, even from where phones are not trusted.
        let from = if cseq == 8 { "203.0.113.9:5060".parse().unwrap() } else { phone(3) };
        let answer = desk.answer(&alice().cseq(cseq).at(from));
        assert_eq!(contacts(&answer).into_values().collect::<Vec<_>>(), left);
        desk.pass(Duration::from_secs(30));
    }
    assert_eq!(desk.registers.len(), upstream);
    assert_eq!(desk.binding_at(ALICE, 0).from.as_ref(), "udp:198.51.100.1:5060");
}

#[test]
fn a_query_for_somebody_unknown_makes_nobody_a_user() {
    let mut desk = desk();
    for ask in [alice(), alice_with(2, "*").expires("0"), alice_with(3, CONTACT).expires("0")] {
        let answer = desk.answer(&ask);
        assert_eq!((answer.status(), listed(&answer)), (Some(200), vec![]), "{ask:?}");
    }
    assert_eq!(desk.door.status(desk.now).users, 0);
}

#[test]
fn an_older_cseq_of_the_same_call_is_refused_and_changes_nothing() {
    let mut desk = desk();
    desk.answer(&alice_with(5, "<sip:alice@198.51.100.1>;q=0.5"));
    let before = desk.registers.len();
    let late = alice_with(4, "<sip:alice@198.51.100.1>;q=0.1, <sip:alice@198.51.100.2>");
    assert_eq!(desk.status(&late), 500);
    assert_eq!(desk.status(&alice_with(3, "<sip:alice@198.51.100.1>;expires=0")), 500);
    assert_eq!(desk.registers.len(), before);
    let answer = desk.answer(&alice().cseq(6));
    assert_eq!(listed(&answer), [("<sip:alice@198.51.100.1>;q=0.5".to_owned(), 300)]);
}

#[test]
fn an_older_cseq_is_refused_also_where_refreshes_are_absorbed() {
    let mut desk = desk();
    desk.answer(&alice_with(5, CONTACT));
    assert_eq!(desk.status(&alice_with(7, CONTACT)), 200, "absorbed");
    assert_eq!(desk.status(&alice_with(6, CONTACT)), 500, "older than the absorbed one");
}

#[test]
fn an_equal_cseq_is_a_retransmission_and_gets_the_same_answer() {
    let mut desk = desk();
    let ask = alice_with(5, CONTACT);
    let first = desk.answer(&ask);
    let again = desk.answer(&ask);
    assert_eq!(first.bytes(), again.bytes());
    // Retransmitted over another hop: another branch, the same request.
    let rerouted =
        desk.answer(&ask.clone().set("Via", "SIP/2.0/UDP 198.51.100.1;rport;branch=z9hG4bKx"));
    assert_eq!((rerouted.status(), listed(&rerouted)), (Some(200), listed(&first)));
    assert_eq!(desk.registers.len(), 1, "the server heard of it once");
}

#[test]
fn a_new_call_id_starts_a_new_count() {
    let mut desk = desk();
    desk.answer(&alice_with(50, CONTACT));
    assert_eq!(desk.status(&alice_with(1, CONTACT).call_id("rebooted")), 200);
    assert_eq!(desk.status(&alice_with(51, CONTACT)), 200, "the old one is a new one now");
}

#[test]
fn a_retransmission_is_absorbed_while_the_server_is_slow() {
    let mut desk = desk();
    desk.set_mood(0, Mood::Slow { delay: Duration::from_millis(1700) });
    let ask = alice_with(1, CONTACT);
    for wait in [500, 1000] {
        assert!(desk.ask(&ask).is_none());
        desk.pass(Duration::from_millis(wait));
    }
    assert!(desk.ask(&ask).is_none());
    desk.pass(Duration::from_secs(3));
    assert_eq!(desk.answer_to(&ask).unwrap().status(), Some(200));
    assert!(desk.answer_to(&ask).is_none(), "answered once");
    assert_eq!(desk.answer(&ask).status(), Some(200), "and a late retransmission gets it again");
    let asked = &desk.registers;
    assert!(asked.iter().all(|(_, _, m)| m.bytes() == asked[0].2.bytes()), "one REGISTER upstream");
    assert_eq!(desk.servers[0].journal().counters().registers, 1);
}

/// A server's answer to `request`, written by hand.
fn refusal(request: &Message, status: u16) -> bytes::Bytes {
    frontdoor::sip::Response::to(request, status).to_tag("script").finish()
}

#[test]
fn if_the_server_refuses_one_contact_none_is_registered() {
    let mut desk = desk();
    desk.answer(&alice_with(1, "<sip:alice@198.51.100.1>;q=0.1"));
    desk.script = Some(Box::new(|_, request| {
        let second = header(request, HeaderName::Contact).contains("198.51.100.3");
        (request.method() == Some("REGISTER") && second).then(|| refusal(request, 403))
    }));
    let ask = alice_with(2, "<sip:alice@198.51.100.1>;q=0.9")
        .contact("<sip:alice@198.51.100.2>")
        .contact("<sip:alice@198.51.100.3>");
    assert_eq!(desk.status(&ask), 403);
    let answer = desk.answer(&alice().cseq(3));
    assert_eq!(listed(&answer), [("<sip:alice@198.51.100.1>;q=0.1".to_owned(), 300)]);
    desk.pass(Duration::from_secs(5));
    let held: Vec<String> = desk.held_by(0).into_iter().map(|(_, contact, _)| contact).collect();
    assert_eq!(held, ["sip:alice@198.51.100.1;q=0.1"], "the server is told what counts");
}

#[test]
fn two_registers_of_one_address_are_served_in_turn() {
    let mut desk = desk();
    desk.answer(&alice_with(1, CONTACT));
    desk.registers.clear();
    desk.set_mood(0, Mood::Slow { delay: Duration::from_millis(300) });
    let second = alice().call_id("b").contact("<sip:alice@198.51.100.2>").at(phone(2));
    let third = alice().call_id("c").contact("*").expires("0").at(phone(3));
    let fourth = alice().call_id("d").contact("<sip:alice@198.51.100.4>").at(phone(4));
    for ask in [&second, &third, &fourth] {
        assert!(desk.ask(ask).is_none());
    }
    assert_eq!(desk.registers.len(), 1, "the others wait");
    desk.pass(Duration::from_secs(5));
    assert_eq!(contacts(&desk.answer_to(&second).unwrap()).len(), 2);
    assert_eq!(contacts(&desk.answer_to(&third).unwrap()).len(), 0);
    assert_eq!(
        listed(&desk.answer_to(&fourth).unwrap()),
        [("<sip:alice@198.51.100.4>".into(), 300)]
    );
    assert_eq!(desk.held_by(0).len(), 1);
}

#[test]
fn more_contacts_than_allowed_are_refused_as_a_whole() {
    let mut plan = plan(1);
    plan.settings.limits.bindings_per_aor = 2;
    let mut desk = plan.open();
    desk.answer(&alice_with(1, CONTACT));
    let two = "<sip:alice@198.51.100.2>, <sip:alice@198.51.100.3>";
    assert_eq!(desk.status(&alice_with(2, two)), 403);
    assert_eq!(contacts(&desk.answer(&alice().cseq(3))).len(), 1);
    assert_eq!(desk.status(&alice_with(4, "<sip:alice@198.51.100.2>")), 200);
    assert_eq!(desk.status(&alice_with(5, CONTACT)), 200, "a refresh is no new contact");
    let swap = "<sip:alice@198.51.100.1>;expires=0, <sip:alice@198.51.100.3>";
    assert_eq!(desk.status(&alice_with(6, swap)), 200, "one goes, one comes");
}

#[test]
fn a_request_with_absurdly_many_contacts_is_bad() {
    let many = (1..=40).map(|n| format!("<sip:alice@198.51.100.{n}>")).collect::<Vec<_>>();
    assert_eq!(desk().status(&alice_with(1, &many.join(","))), 400);
}

#[test]
fn strangers_are_not_found_where_only_known_users_may_register() {
    let mut plan = plan(1);
    plan.settings.unknown_users = UnknownUsers::Reject;
    let mut desk = plan.open();
    assert_eq!(desk.status(&alice_with(1, CONTACT)), 404);
    assert_eq!(desk.door.status(desk.now).users, 0);
    assert_eq!(desk.registers.len(), 0);
}

#[test]
fn a_disabled_user_is_forbidden() {
    let mut desk = desk();
    desk.answer(&alice_with(1, CONTACT));
    desk.restart_with_users(|user| user.enabled = false);
    assert_eq!(desk.status(&alice_with(2, CONTACT)), 403);
    assert_eq!(desk.status(&alice().cseq(3)), 403, "not even a query");
}

#[test]
fn the_answer_says_where_the_request_came_from() {
    let mut desk = desk();
    let ask = alice_with(1, CONTACT)
        .at("198.51.100.77:31337".parse().unwrap())
        .set("Via", "SIP/2.0/UDP 10.1.1.1:5060;branch=z9hG4bKnat;rport");
    let answer = desk.answer(&ask);
    let via = answer.top_via().unwrap();
    assert_eq!(via.received(), Some("198.51.100.77".parse().unwrap()));
    assert_eq!(via.rport(), Some(Some(31337)));
    assert_eq!((via.host, via.port), (&b"10.1.1.1"[..], Some(5060)));
}

#[test]
fn every_via_goes_back_in_order() {
    let mut desk = desk();
    let ask = alice_with(1, CONTACT).line(
        "Via",
        "SIP/2.0/TCP edge.example.com;branch=z9hG4bK2, SIP/2.0/UDP 10.1.1.1;branch=z9hG4bK3",
    );
    let answer = desk.answer(&ask);
    let hosts: Vec<&[u8]> = answer.values(HeaderName::Via).collect();
    assert_eq!(hosts.len(), 3);
    assert!(text(hosts[1]).contains("edge.example.com") && text(hosts[2]).contains("10.1.1.1"));
}

#[test]
fn the_answer_has_a_to_tag_and_otherwise_the_headers_of_the_request() {
    let mut desk = desk();
    let ask = alice_with(1, CONTACT).set("To", "\"Alice\" <sip:alice@example.com>;x=y");
    let answer = desk.answer(&ask);
    let tag = text(answer.to().unwrap().tag().expect("a tag"));
    assert!(!tag.is_empty());
    let to = format!("\"Alice\" <sip:alice@example.com>;x=y;tag={tag}");
    assert_eq!(header(&answer, HeaderName::To), to);
    assert_eq!(header(&answer, HeaderName::From), "<sip:alice@example.com>;tag=f-alice");
    assert_eq!(header(&answer, HeaderName::CallId), "call-alice");
    assert_eq!(header(&answer, HeaderName::CSeq), "1 REGISTER");
}

#[test]
fn a_request_in_compact_form_is_served() {
    let mut desk = desk();
    let mut ask = alice_with(1, CONTACT);
    for (name, compact) in
        [("Via", "v"), ("From", "f"), ("To", "t"), ("Call-ID", "i"), ("Contact", "m")]
    {
        ask = ask.rename(name, compact);
    }
    let answer = desk.answer(&ask);
    assert_eq!(listed(&answer), [(CONTACT.into(), 300)]);
    assert_eq!(desk.held_by(0).len(), 1);
}

#[test]
fn a_phone_on_ipv6_is_served() {
    let mut desk = desk();
    let contact = "<sip:alice@[2001:db8::7]:5070>";
    let from = "[2001:db8::7]:5070".parse().unwrap();
    let answer = desk.answer(&alice_with(1, contact).at(from));
    assert_eq!(listed(&answer), [(contact.into(), 300)]);
    let same = "<sip:alice@[2001:0DB8:0:0::7]:5070>";
    let answer = desk.answer(&alice_with(2, same).at(from));
    assert_eq!(listed(&answer), [(same.into(), 300)], "the same address in other words");
    desk.ping(0, ALICE, "sip:alice@[2001:db8::7]:5070");
    desk.phone_answers(from, 200);
    assert_eq!(desk.servers[0].journal().counters().reached, 1);
}

#[test]
fn a_phone_that_knows_only_rfc_2543_is_served() {
    let mut desk = desk();
    desk.set_mood(0, Mood::Slow { delay: Duration::from_millis(200) });
    let ask = alice_with(1, CONTACT)
        .set("Via", "SIP/2.0/UDP 198.51.100.1")
        .set("From", "sip:alice@example.com")
        .set("To", "sip:alice@example.com")
        .without("Max-Forwards");
    assert!(desk.ask(&ask).is_none());
    assert!(desk.ask(&ask).is_none(), "its retransmission is recognised without a branch");
    desk.pass(Duration::from_secs(1));
    assert_eq!(desk.answer_to(&ask).unwrap().status(), Some(200));
    assert_eq!(desk.servers[0].journal().counters().registers, 1);
    let next =
        alice_with(2, "<sip:alice@198.51.100.1>;q=0.3").set("Via", "SIP/2.0/UDP 198.51.100.1");
    desk.ask(&next);
    desk.pass(Duration::from_secs(1));
    assert_eq!(desk.answer_to(&next).unwrap().status(), Some(200));
    assert_eq!(desk.servers[0].journal().counters().registers, 2);
}

#[test]
fn a_contact_that_is_no_sip_uri_is_bad() {
    for contact in ["<tel:+4930123>", "<mailto:a@b.c>", "<sip:>", "junk"] {
        assert_eq!(desk().status(&alice_with(1, contact)), 400, "{contact}");
    }
}

#[test]
fn every_answer_names_the_door_as_its_server() {
    let mut desk = desk();
    for ask in [alice_with(1, CONTACT), alice_with(2, CONTACT), alice_with(3, "junk")] {
        assert_eq!(header(&desk.answer(&ask), HeaderName::Server), "frontdoor");
    }
}

#[test]
fn nothing_is_acknowledged_before_it_is_durable() {
    let mut desk = desk();
    desk.disk_waits = true;
    let ask = alice_with(1, CONTACT);
    assert!(desk.ask(&ask).is_none());
    desk.restart();
    assert_eq!(desk.door.status(desk.now).users, 0);
    desk.pass(Duration::from_secs(3));
    assert!(desk.ask(&ask).is_none());
    desk.write_disk();
    assert_eq!(desk.answer_to(&ask).unwrap().status(), Some(200));
    desk.restart();
    assert_eq!(desk.user(ALICE).bindings.len(), 1);
}

#[test]
fn a_user_of_a_server_that_is_not_heard_of_yet_waits_for_it() {
    let mut plan = plan(1);
    plan.settings.servers[0].health_document = HealthDocumentUse::None;
    let mut desk = plan.open_at_once();
    let ask = alice_with(1, CONTACT);
    assert!(desk.ask(&ask).is_none());
    desk.pass(Duration::from_secs(5));
    assert_eq!(desk.answer_to(&ask).unwrap().status(), Some(200));
}

#[test]
fn a_refresh_that_is_granted_when_the_grace_is_over_survives_a_restart() {
    let mut desk = desk();
    let alice =
        |cseq| Ask::register("alice").cseq(cseq).contact("<sip:alice@198.51.100.1>").expires("60");
    assert_eq!(desk.status(&alice(1)), 200);
    // Sixty seconds of lease and thirty of grace, all but the last moment.
    desk.pass(Duration::from_millis(89_700));
    desk.set_mood(0, Mood::Slow { delay: Duration::from_millis(600) });
    desk.send(&alice(2));
    desk.pass(Duration::from_secs(2));
    assert_eq!(desk.answer_to(&alice(2)).and_then(|answer| answer.status()), Some(200));
    desk.restart();
    assert_eq!(desk.user("sip:alice@example.com").bindings.len(), 1);
    desk.pass(Duration::from_secs(5));
    assert_eq!(desk.held_by(0).len(), 1);
}

#[test]
fn the_answer_to_a_registration_carries_the_date() {
    let mut desk = desk();
    let ask = Ask::register("alice").contact("<sip:alice@198.51.100.1>");
    let answer = desk.answer(&ask);
    let date = httpdate::parse_http_date(header(&answer, HeaderName::Date)).unwrap();
    let off = desk.now.wall.duration_since(date).unwrap();
    assert!(off < Duration::from_secs(2), "off by {off:?}");
}
