//! What the door says to a server in its own name, and what it makes of the answers (M2, M3, M5).

use std::time::Duration;

use frontdoor::cluster::BindingAddress;
use frontdoor::now::Uptime;
use frontdoor::sip::{ContactValue, Edit, HeaderName, Message, Response};
use frontdoor::ucserver::Mood;

use crate::desk::{Ask, DOOR_AT_SERVERS, Desk, contacts, desk, header, phone, plan, text};

const ALICE: &str = "sip:alice@example.com";
const CONTACT: &str = "<sip:alice@198.51.100.1>";
const SECOND: Duration = Duration::from_secs(1);

fn alice(cseq: u32) -> Ask {
    Ask::register("alice").cseq(cseq).contact(CONTACT)
}

/// Refreshes every hundred seconds for so long; every refresh must be granted.
fn refresh_for(desk: &mut Desk, from_cseq: u32, time: Duration) {
    for cseq in 0..(time.as_secs() / 100) as u32 {
        desk.pass(100 * SECOND);
        assert_eq!(desk.status(&alice(from_cseq + cseq)), 200);
    }
}

#[test]
fn the_door_speaks_in_its_own_name_and_keeps_what_a_digest_covers() {
    let mut desk = desk();
    let ask = alice(41)
        .start("REGISTER sip:registrar.example.com:5062;x=y SIP/2.0")
        .set("To", "\"Alice A.\" <sip:alice@example.com>;ignored=1")
        .set("From", "\"Secretary\" <sip:bob@example.com>;tag=theirs");
    assert_eq!(desk.status(&ask), 200);
    let sent = desk.take_registers().remove(0);
    assert_eq!(sent.uri().map(text), Some("sip:registrar.example.com:5062;x=y"));
    assert_eq!(header(&sent, HeaderName::To), "\"Alice A.\" <sip:alice@example.com>");
    let from = sent.from().unwrap();
    assert_eq!(text(from.uri), "sip:bob@example.com", "who registers for somebody else is told");
    assert_ne!(from.tag(), Some(&b"theirs"[..]));
    assert_ne!(header(&sent, HeaderName::CallId), "call-alice");
    assert_eq!(header(&sent, HeaderName::CSeq), "1 REGISTER");
    assert_eq!(header(&sent, HeaderName::Supported), "path");
    assert_eq!(header(&sent, HeaderName::MaxForwards), "70");
    assert_eq!(sent.count(HeaderName::Via), 1, "the phone's Via stays at the door");
    assert!(header(&sent, HeaderName::Via).contains(DOOR_AT_SERVERS));
    let path = header(&sent, HeaderName::Path);
    assert!(path.starts_with("<sip:") && path.ends_with(&format!("@{DOOR_AT_SERVERS};lr>")));
}

#[test]
fn each_contact_has_a_call_id_and_a_path_of_its_own_and_its_cseq_rises() {
    let mut desk = desk();
    let two = |cseq, q| {
        Ask::register("alice")
            .cseq(cseq)
            .contact(&format!("<sip:alice@198.51.100.1>;q={q}"))
            .contact(&format!("<sip:alice@198.51.100.2>;q={q}"))
    };
    desk.answer(&two(1, "0.1"));
    desk.answer(&two(2, "0.2"));
    let sent = desk.take_registers();
    assert_eq!(sent.len(), 4);
    let of = |message: &Message, name| header(message, name).to_owned();
    for name in [HeaderName::CallId, HeaderName::Path] {
        assert_eq!(of(&sent[0], name), of(&sent[2], name), "{name:?} stays");
        assert_ne!(of(&sent[0], name), of(&sent[1], name), "{name:?} is the contact's own");
    }
    let cseqs: Vec<String> = sent.iter().map(|sent| of(sent, HeaderName::CSeq)).collect();
    assert_eq!(cseqs, ["1 REGISTER", "1 REGISTER", "2 REGISTER", "2 REGISTER"]);
}

#[test]
fn another_life_of_the_door_has_another_call_id() {
    let mut desk = desk();
    desk.answer(&alice(1));
    desk.restart();
    desk.pass(120 * SECOND);
    let sent = desk.take_registers();
    assert_eq!(sent.len(), 2, "renewed in the new life's name");
    assert_ne!(header(&sent[0], HeaderName::CallId), header(&sent[1], HeaderName::CallId));
    assert_eq!(header(&sent[0], HeaderName::Path), header(&sent[1], HeaderName::Path));
}

#[test]
fn what_a_phone_says_of_its_own_path_stays_behind_ours() {
    let mut desk = desk();
    let ask = alice(1)
        .line("Path", "<sip:edge1.example.com;lr>, <sip:edge2.example.com;lr>")
        .line("Path", "<sip:edge3.example.com;lr>")
        .line("Supported", "path");
    let answer = desk.answer(&ask);
    let theirs =
        ["<sip:edge1.example.com;lr>", "<sip:edge2.example.com;lr>", "<sip:edge3.example.com;lr>"];
    let returned: Vec<&str> = answer.values(HeaderName::Path).map(text).collect();
    assert_eq!(returned, theirs, "and ours is not the phone's business");
    let sent = desk.take_registers().remove(0);
    let path: Vec<&str> = sent.values(HeaderName::Path).map(text).collect();
    assert!(path[0].contains(DOOR_AT_SERVERS));
    assert_eq!(path[1..], theirs);
}

#[test]
fn the_server_is_asked_for_an_hour_whatever_the_phone_wants() {
    let mut desk = desk();
    desk.answer(&alice(1).expires("90"));
    let sent = desk.take_registers().remove(0);
    assert_eq!(header(&sent, HeaderName::Contact), format!("{CONTACT};expires=3600"));
    assert_eq!(sent.header(HeaderName::Expires), None);
}

#[test]
fn the_door_refreshes_at_the_server_itself_between_half_and_nine_tenths_of_the_expiry() {
    let mut when = Vec::new();
    for seed in 1..=12 {
        let mut plan = plan(1);
        plan.settings.seed = seed;
        let mut desk = plan.open();
        let start = desk.now.uptime;
        desk.answer(&alice(1));
        refresh_for(&mut desk, 2, 3500 * SECOND);
        assert_eq!(desk.door.stats().registers_absorbed, 35, "the phone's are absorbed");
        assert_eq!(desk.registers.len(), 2, "one of the phone, one of the door");
        let (at, _, refresh) = &desk.registers[1];
        assert_eq!(header(refresh, HeaderName::CSeq), "2 REGISTER");
        assert_eq!(header(refresh, HeaderName::Contact), format!("{CONTACT};expires=3600"));
        when.push(at.since(start).as_secs());
    }
    assert!(when.iter().all(|at| (1800..=3240).contains(at)), "{when:?}");
    when.sort_unstable();
    when.dedup();
    assert!(when.len() > 6, "spread, not all at once: {when:?}");
}

#[test]
fn a_binding_is_never_lost_at_the_server_while_its_phone_refreshes() {
    let mut plan = plan(1);
    plan.servers[0].max_expires_secs = 200;
    let mut desk = plan.open();
    desk.answer(&alice(1));
    refresh_for(&mut desk, 2, 5000 * SECOND);
    assert_eq!(desk.servers[0].journal().counters().bindings_expired, 0);
    assert_eq!(desk.servers[0].journal().counters().bindings_new, 1);
}

#[test]
fn a_lapsed_binding_is_removed_at_the_server_after_the_grace() {
    let mut desk = desk();
    desk.answer(&alice(1).expires("100"));
    desk.pass(129 * SECOND);
    assert_eq!(desk.user(ALICE).bindings, [], "it does not count any more");
    assert_eq!(desk.held_by(0).len(), 1, "but the phone may only be slow");
    desk.pass(2 * SECOND);
    assert_eq!(desk.held_by(0), []);
    let removal = desk.take_registers().pop().unwrap();
    assert_eq!(header(&removal, HeaderName::Contact), format!("{CONTACT};expires=0"));
    assert_eq!(desk.door.stats().leases_lapsed, 1);
    desk.restart();
    assert_eq!(desk.user(ALICE).bindings, [], "and the store has forgotten it");
}

#[test]
fn a_phone_that_is_late_but_within_the_grace_finds_its_binding() {
    let mut desk = desk();
    desk.answer(&alice(1).expires("100"));
    desk.pass(120 * SECOND);
    assert_eq!(contacts(&desk.answer(&alice(2).expires("100"))).len(), 1);
    desk.pass(99 * SECOND);
    assert_eq!(desk.servers[0].journal().counters().bindings_new, 1);
    assert_eq!(desk.servers[0].journal().counters().bindings_removed, 0);
}

#[test]
fn many_lapsed_bindings_are_removed_at_the_pace_of_the_server() {
    let mut plan = plan(1);
    plan.settings.pace.rate_max = Some(10);
    let mut desk = plan.open();
    for number in 0..60 {
        let ask = Ask::register(&format!("u{number}"))
            .contact(&format!("<sip:u{number}@198.51.100.1>"))
            .expires("60");
        desk.send(&ask);
        desk.pass(SECOND / 5);
    }
    // The power is cut for everybody at once: they lapse within twelve seconds.
    desk.registers.clear();
    desk.pass(200 * SECOND);
    assert_eq!(desk.held_by(0), []);
    let times: Vec<Uptime> = desk.registers.iter().map(|(at, _, _)| *at).collect();
    assert_eq!(times.len(), 60, "each once");
    let busiest = times
        .iter()
        .map(|from| times.iter().filter(|at| *at >= from && at.since(*from) < SECOND).count());
    assert!(busiest.max() <= Some(12), "ten a second and a small burst");
}

#[test]
fn a_server_that_finds_an_hour_too_brief_gets_what_it_wants_from_everybody() {
    let mut plan = plan(1);
    plan.settings.sip.expiry = Duration::from_secs(600);
    plan.servers[0].min_expires_secs = 1800;
    let mut desk = plan.open();
    desk.set_mood(0, Mood::Slow { delay: Duration::from_millis(100) });
    let bob = Ask::register("bob").contact("<sip:bob@198.51.100.2>").at(phone(2));
    desk.send(&alice(1));
    desk.send(&bob);
    desk.pass(SECOND);
    for ask in [alice(1), bob] {
        let answer = desk.answer_to(&ask).unwrap();
        assert_eq!(answer.status(), Some(200), "423 is between the door and the server");
        assert_eq!(contacts(&answer).into_values().collect::<Vec<_>>(), [300]);
    }
    let mut asked: Vec<u32> = desk.take_registers().iter().map(expires_of).collect();
    asked.sort_unstable();
    assert_eq!(asked, [600, 600, 1800, 1800]);
    desk.send(&Ask::register("carol").contact("<sip:carol@198.51.100.3>"));
    desk.pass(SECOND);
    assert_eq!(desk.take_registers().iter().map(expires_of).collect::<Vec<_>>(), [1800]);
}

fn expires_of(register: &Message) -> u32 {
    let contact = register.header(HeaderName::Contact).unwrap();
    let ContactValue::Address(address) = ContactValue::parse(contact).unwrap() else { return 0 };
    text(address.params.get("expires").unwrap()).parse().unwrap()
}

#[test]
fn a_server_that_never_has_enough_is_believed_once() {
    let mut desk = desk();
    let mut least = 3600;
    desk.script = Some(Box::new(move |_, request| {
        least += 1000;
        (request.method() == Some("REGISTER")).then(|| {
            Response::to(request, 423)
                .header(HeaderName::MinExpires, least.to_string())
                .to_tag("x")
                .finish()
        })
    }));
    let status = desk.status(&alice(1));
    assert_eq!(status, 423);
    assert!(desk.registers.len() <= 3, "{} requests", desk.registers.len());
}

#[test]
fn a_server_without_path_gets_a_contact_that_points_at_the_door() {
    let mut plan = plan(1);
    plan.servers[0].path_support = false;
    let mut desk = plan.open();
    let params = "+sip.instance=\"<urn:uuid:1>\";q=0.5";
    let mine = format!("{CONTACT};{params}");
    let answer = desk.answer(&Ask::register("alice").contact(&mine));
    assert_eq!(contacts(&answer).into_iter().collect::<Vec<_>>(), [(mine, 300)]);
    desk.pass(SECOND);
    let held = desk.held_by(0);
    assert_eq!(held.len(), 1, "the contact that led past the door is removed: {held:?}");
    let (aor, contact, path) = &held[0];
    assert_eq!((aor.as_str(), path.len()), (ALICE, 0));
    assert!(contact.contains(&format!("@{DOOR_AT_SERVERS};{params}")), "{contact}");
    assert_eq!(&*desk.binding(ALICE).standing, "settled");
    // The next phone's contact is not tried by Path any more.
    desk.registers.clear();
    desk.answer(&Ask::register("bob").contact("<sip:bob@198.51.100.2>").at(phone(2)));
    desk.pass(SECOND);
    assert_eq!(desk.registers.len(), 1);
    // And it is removed under the name it has there.
    desk.answer(&Ask::register("alice").cseq(2).contact("*").expires("0"));
    assert_eq!(desk.held_by(0).len(), 1);
}

#[test]
fn where_path_is_demanded_and_ignored_nothing_is_registered() {
    let mut plan = plan(1).binding_address(BindingAddress::Path);
    plan.servers[0].path_support = false;
    let mut desk = plan.open();
    assert_eq!(desk.status(&alice(1)), 500);
    desk.pass(SECOND);
    assert_eq!(desk.held_by(0), [], "the contact that led past the door is removed");
    assert_eq!(desk.user(ALICE).bindings, []);
}

#[test]
fn a_binding_that_moves_to_a_server_that_ignores_path_has_failed_and_says_why() {
    let mut plan = plan(2).binding_address(BindingAddress::Path);
    plan.servers[1].path_support = false;
    let mut desk = plan.open();
    let name = somebody_on(&mut desk, 0);
    desk.set_mood(0, Mood::Dead);
    desk.pass(5 * SECOND);
    assert_eq!(desk.current(&name), 1);
    let binding = desk.binding(&name);
    assert_eq!(&*binding.standing, "failed");
    let because = binding.because.unwrap();
    assert!(because.contains("ignores Path") && because.contains("binding_address"), "{because}");
    assert_eq!(desk.held_by(1), [], "no contact there leads past the door");
}

/// Registers one user after the other until one is at home on `server`.
fn somebody_on(desk: &mut Desk, server: usize) -> String {
    for number in 0..20 {
        let ask = Ask::register(&format!("u{number}")).contact(CONTACT);
        if desk.ask(&ask).is_some_and(|answer| answer.status() == Some(200)) {
            let name = format!("sip:u{number}@example.com");
            if desk.current(&name) == server {
                return name;
            }
        }
    }
    unreachable!("of twenty users one is at home there");
}

#[test]
fn a_refusal_of_the_binding_is_relayed_and_nothing_is_stored() {
    for status in [403, 404, 488] {
        let mut desk = desk();
        desk.script = Some(Box::new(move |_, request| {
            (request.method() == Some("REGISTER")).then(|| {
                let warning = "399 ucs1 \"not today\"";
                Response::to(request, status).header(HeaderName::Warning, warning).finish()
            })
        }));
        let answer = desk.answer(&alice(1));
        assert_eq!(answer.status(), Some(status));
        assert_eq!(header(&answer, HeaderName::Warning), "399 ucs1 \"not today\"");
        assert_eq!(header(&answer, HeaderName::CallId), "call-alice");
        assert_eq!(desk.user(ALICE).bindings, []);
        desk.restart();
        assert_eq!(desk.user(ALICE).bindings, []);
        assert_eq!(desk.door.status(desk.now).bindings, 0);
    }
}

#[test]
fn a_server_that_is_overloaded_or_broken_is_a_later_again_of_the_doors_own() {
    for mood in [Mood::Refusing, Mood::Errors] {
        let mut plan = plan(1);
        plan.servers[0].retry_after_secs = 7777;
        let mut desk = plan.open();
        desk.set_mood(0, mood);
        let answer = desk.answer(&alice(1));
        assert_eq!(answer.status(), Some(503), "{mood:?}");
        let after: u64 = header(&answer, HeaderName::RetryAfter).parse().unwrap();
        assert!((10..=60).contains(&after), "{after}");
        assert_eq!(answer.header(HeaderName::Warning), None, "the server's reason stays inside");
        assert_eq!(header(&answer, HeaderName::Server), "frontdoor");
        assert_eq!(desk.user(ALICE).bindings, []);
    }
}

#[test]
fn a_phone_that_waits_too_long_is_told_to_come_back() {
    let mut desk = desk();
    desk.set_mood(0, Mood::Slow { delay: 25 * SECOND });
    assert!(desk.ask(&alice(1)).is_none());
    desk.pass(21 * SECOND);
    let answer = desk.answer_to(&alice(1)).expect("before the phone gives up at 32 s");
    assert_eq!(answer.status(), Some(503));
    assert!(answer.header(HeaderName::RetryAfter).is_some());
    // What the server grants after that is nobody's: it is removed again.
    desk.set_mood(0, Mood::Healthy);
    desk.pass(60 * SECOND);
    assert_eq!(desk.held_by(0), []);
}

fn with_server_header(desk: &mut Desk) {
    desk.tamper =
        Some(Box::new(|answer| Edit::of(answer).set(HeaderName::Server, b"UCServer/9.1").finish()));
}

#[test]
fn the_servers_own_name_is_hidden() {
    let mut desk = desk();
    with_server_header(&mut desk);
    assert_eq!(header(&desk.answer(&alice(1)), HeaderName::Server), "frontdoor");
}

#[test]
fn the_servers_own_name_is_passed_where_that_is_wanted() {
    let mut plan = plan(1);
    plan.settings.sip.pass_server_header = true;
    let mut desk = plan.open();
    with_server_header(&mut desk);
    let answer = desk.answer(&alice(1));
    assert_eq!(answer.count(HeaderName::Server), 1);
    assert_eq!(header(&answer, HeaderName::Server), "UCServer/9.1");
}

#[test]
fn without_absorption_every_refresh_is_passed_on() {
    let mut plan = plan(1);
    plan.settings.sip.absorb = false;
    let mut desk = plan.open();
    desk.answer(&alice(1));
    refresh_for(&mut desk, 2, 500 * SECOND);
    assert_eq!(desk.door.stats().registers_passed_on, 6);
    assert_eq!(desk.registers.len(), 6);
    assert_eq!(desk.door.stats().registers_absorbed, 0);
}

#[test]
fn a_phone_on_a_network_that_is_not_trusted_is_never_absorbed() {
    let mut desk = desk();
    let stranger = "203.0.113.9:5060".parse().unwrap();
    for cseq in 1..=5 {
        assert_eq!(desk.status(&alice(cseq).at(stranger)), 200);
        desk.pass(10 * SECOND);
    }
    assert_eq!(desk.registers.len(), 5);
    assert_eq!(desk.door.stats().registers_absorbed, 0);
}

#[test]
fn a_refresh_that_says_something_new_is_not_absorbed() {
    let mut desk = desk();
    desk.answer(&alice(1));
    let changed = [
        alice(2).set("Contact", &format!("{CONTACT};q=0.5")),
        alice(3).set("Contact", &format!("\"A\" {CONTACT};q=0.5")),
        alice(4).set("Contact", &format!("\"A\" {CONTACT};q=0.5")).start("REGISTER sip:b SIP/2.0"),
        alice(5).set("Contact", &format!("\"A\" {CONTACT};q=0.5")).line("Path", "<sip:e;lr>"),
        alice(6).call_id("rebooted"),
        alice(7).call_id("rebooted").at("198.51.100.1:5099".parse().unwrap()),
    ];
    for (count, ask) in changed.into_iter().enumerate() {
        assert_eq!(desk.status(&ask), 200);
        assert_eq!(desk.registers.len(), count + 2, "{ask:?}");
    }
    assert_eq!(desk.held_by(0).len(), 1);
}

#[test]
fn a_refusal_of_the_doors_own_refresh_keeps_the_lease_and_says_why() {
    let mut desk = desk();
    desk.answer(&alice(1));
    desk.script = Some(Box::new(|_, request| {
        (request.method() == Some("REGISTER")).then(|| Response::to(request, 403).finish())
    }));
    refresh_for(&mut desk, 2, 3300 * SECOND);
    assert_eq!(desk.registers.len(), 2, "tried once");
    desk.pass(50 * SECOND);
    let because = desk.binding(ALICE).because.expect("a reason");
    assert!(because.contains("403"), "{because}");
}
