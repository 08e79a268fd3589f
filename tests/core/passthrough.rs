//! The servers check who a phone is; challenges and answers pass through the door (M1, M6).

use std::fmt::Write as _;
use std::time::Duration;

use frontdoor::door::Auth;
use frontdoor::private::Private;
use frontdoor::sip::{Edit, HeaderName, Message, Response};
use frontdoor::ucserver::{DigestSettings, DigestUser, Mood};
use md5::Md5;
use sha2::{Digest, Sha256};

use crate::desk::{Ask, Desk, PHONES, Plan, SERVERS, contacts, header, phone, plan, text};

const ALICE: &str = "sip:alice@example.com";
const SECOND: Duration = Duration::from_secs(1);

/// Every server knows sixty users, u0 to u59 and alice, whose password is `secret`.
pub(crate) fn guarded(servers: usize) -> Plan {
    let mut plan = plan(servers);
    plan.settings.sip.auth = Auth::Passthrough;
    let names = (0..60).map(|number| format!("u{number}")).chain(["alice".to_owned()]);
    let user = || DigestUser { password: Private::new("secret".to_owned()), aor_user: None };
    let users: std::collections::HashMap<_, _> = names.map(|name| (name, user())).collect();
    for server in &mut plan.servers {
        server.digest = Some(DigestSettings {
            realm: "example.com".into(),
            users: users.clone(),
            ..DigestSettings::default()
        });
    }
    plan
}

pub(crate) fn user(name: &str, cseq: u32) -> Ask {
    Ask::register(name).cseq(cseq).contact(&format!("<sip:{name}@198.51.100.1>"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// A parameter of a challenge.
pub(crate) fn field<'a>(challenge: &'a str, name: &str) -> &'a str {
    let (_, rest) = challenge.split_once(&format!("{name}=")).unwrap_or_default();
    rest.trim_start_matches('"').split(['"', ',']).next().unwrap()
}

/// The answer to a challenge (RFC 7616 §3.4), as a phone computes it.
pub(crate) fn credentials(challenge: &str, name: &str, password: &str) -> String {
    let hash = |text: String| match field(challenge, "algorithm") {
        "SHA-256" => hex(&Sha256::digest(text)),
        _ => hex(&Md5::digest(text)),
    };
    let (realm, nonce) = (field(challenge, "realm"), field(challenge, "nonce"));
    let algorithm = field(challenge, "algorithm");
    let a1 = hash(format!("{name}:{realm}:{password}"));
    let a2 = hash("REGISTER:sip:example.com".into());
    let response = hash(format!("{a1}:{nonce}:00000001:c0:auth:{a2}"));
    format!(
        "Digest username=\"{name}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"sip:example.com\", \
         response=\"{response}\", algorithm={algorithm}, qop=auth, nc=00000001, cnonce=\"c0\""
    )
}

pub(crate) fn challenges(answer: &Message) -> Vec<String> {
    answer.lines(HeaderName::WwwAuthenticate).map(|line| text(line).to_owned()).collect()
}

/// Asks, and asks once more with the right password where it is challenged; the last answer, the
/// CSeq after it, and how often it was challenged.
pub(crate) fn log_in(desk: &mut Desk, ask: &Ask, name: &str) -> (Message, u32) {
    let answer = desk.answer(ask);
    if answer.status() != Some(401) {
        return (answer, 0);
    }
    let authorization = credentials(&challenges(&answer)[0], name, "secret");
    let cseq: u32 = header(&answer, HeaderName::CSeq).split(' ').next().unwrap().parse().unwrap();
    let again = ask.clone().cseq(cseq + 1).set("Authorization", &authorization);
    (desk.answer(&again), 1)
}

#[test]
fn a_challenge_reaches_the_phone_as_it_is() {
    let mut desk = guarded(1).open();
    let mut said = Vec::new();
    let answer = desk.answer(&user("alice", 1));
    assert_eq!(answer.status(), Some(401));
    let seen = challenges(&answer);
    assert_eq!(seen.len(), 2, "SHA-256 and MD5, in the server's order");
    assert!(seen[0].contains("SHA-256") && seen[1].contains("MD5"));
    // Once more, with the server's own words noted on their way.
    let (tell, told) = std::sync::mpsc::channel();
    desk.tamper = Some(Box::new(move |answer| {
        if answer.status() == Some(401) {
            tell.send(challenges(answer)).unwrap();
        }
        answer.bytes().clone()
    }));
    let answer = desk.answer(&user("alice", 2));
    said.extend(told.try_recv().unwrap());
    assert_eq!(challenges(&answer), said, "byte for byte");
}

#[test]
fn the_right_answer_registers_with_either_algorithm() {
    for algorithm in [0, 1] {
        let mut desk = guarded(1).open();
        let challenge = challenges(&desk.answer(&user("alice", 1))).swap_remove(algorithm);
        let authorization = credentials(&challenge, "alice", "secret");
        let answer = desk.answer(&user("alice", 2).line("Authorization", &authorization));
        assert_eq!(answer.status(), Some(200));
        assert_eq!(contacts(&answer).len(), 1);
        let sent = desk.take_registers().pop().unwrap();
        assert_eq!(header(&sent, HeaderName::Authorization), authorization, "it travels as it is");
        assert_eq!(sent.uri().map(text), Some("sip:example.com"), "what it was computed over, too");
        assert_eq!(desk.held_by(0).len(), 1);
        assert_eq!(&*desk.binding(ALICE).standing, "settled");
    }
}

#[test]
fn the_wrong_password_is_challenged_again_and_nothing_is_stored() {
    let mut desk = guarded(1).open();
    for cseq in [1, 3, 5] {
        let challenge = challenges(&desk.answer(&user("alice", cseq))).swap_remove(0);
        let authorization = credentials(&challenge, "alice", "guess");
        let answer = desk.answer(&user("alice", cseq + 1).line("Authorization", &authorization));
        assert_eq!(answer.status(), Some(401));
    }
    let status = desk.door.status(desk.now);
    assert_eq!((status.users, status.bindings), (0, 0), "nobody is adopted unauthenticated");
    desk.restart();
    assert_eq!(desk.door.status(desk.now).users, 0);
    assert_eq!(desk.held_by(0), []);
}

#[test]
fn somebody_elses_credentials_are_refused_and_adopt_nobody() {
    let mut desk = guarded(1).open();
    let challenge = challenges(&desk.answer(&user("alice", 1))).swap_remove(0);
    let authorization = credentials(&challenge, "u1", "secret");
    assert_eq!(desk.status(&user("alice", 2).line("Authorization", &authorization)), 403);
    assert_eq!(desk.door.status(desk.now).users, 0);
}

#[test]
fn a_refresh_is_never_absorbed() {
    let mut desk = guarded(1).open();
    let (answer, _) = log_in(&mut desk, &user("alice", 1), "alice");
    assert_eq!(answer.status(), Some(200));
    let before = desk.registers.len();
    for round in 0..5 {
        desk.pass(100 * SECOND);
        let (answer, challenged) = log_in(&mut desk, &user("alice", 10 + 2 * round), "alice");
        assert_eq!((answer.status(), challenged), (Some(200), 1));
    }
    assert_eq!(desk.registers.len(), before + 10, "every word of the phone was passed on");
    assert_eq!(desk.door.stats().registers_absorbed, 0);
    assert_eq!(desk.door.stats().registers_held, 0);
}

#[test]
fn credentials_that_still_count_save_the_second_round() {
    let mut desk = guarded(1).open();
    let challenge = challenges(&desk.answer(&user("alice", 1))).swap_remove(0);
    let authorization = credentials(&challenge, "alice", "secret");
    for cseq in 2..5 {
        let ask = user("alice", cseq).line("Authorization", &authorization);
        assert_eq!(desk.status(&ask), 200);
        desk.pass(50 * SECOND);
    }
    assert_eq!(desk.registers.len(), 4);
}

#[test]
fn a_query_is_asked_of_the_server_too() {
    let mut desk = guarded(1).open();
    log_in(&mut desk, &user("alice", 1), "alice");
    let query = Ask::register("alice").cseq(10);
    assert_eq!(desk.status(&query), 401, "who is registered is nobody else's business");
    let (answer, _) = log_in(&mut desk, &query.cseq(12), "alice");
    assert_eq!((answer.status(), contacts(&answer).len()), (Some(200), 1));
    let stranger = Ask::register("u7").cseq(1);
    let (answer, challenged) = log_in(&mut desk, &stranger, "u7");
    assert_eq!((answer.status(), challenged, contacts(&answer).len()), (Some(200), 1, 0));
    assert_eq!(desk.door.status(desk.now).users, 1, "whoever only asks does not become a user");
}

#[test]
fn what_the_server_says_of_itself_to_the_phone_is_passed() {
    let mut desk = guarded(1).open();
    desk.tamper = Some(Box::new(|answer| {
        let info = b"nextnonce=\"n2\", rspauth=\"00ff\"";
        Edit::of(answer).set(HeaderName::AuthenticationInfo, info).finish()
    }));
    let (answer, _) = log_in(&mut desk, &user("alice", 1), "alice");
    assert_eq!(answer.status(), Some(200));
    let info = header(&answer, HeaderName::AuthenticationInfo);
    assert_eq!(info, "nextnonce=\"n2\", rspauth=\"00ff\"");
}

#[test]
fn challenge_and_answer_of_a_stranger_go_to_one_server_whoever_registers_meanwhile() {
    let mut plan = guarded(3);
    // Small servers: every user who comes changes who is placed where.
    for server in &mut plan.settings.servers {
        server.capacity = 50;
    }
    let mut desk = plan.open();
    let strangers: Vec<String> = (0..30).map(|number| format!("u{number}")).collect();
    let challenged: Vec<(usize, String)> = strangers
        .iter()
        .map(|name| {
            let challenge = challenges(&desk.answer(&user(name, 1))).swap_remove(0);
            (desk.registers.last().unwrap().1, challenge)
        })
        .collect();
    for number in 30..60 {
        let name = format!("u{number}");
        let (answer, _) = log_in(&mut desk, &user(&name, 1), &name);
        assert_eq!(answer.status(), Some(200));
    }
    for (name, (server, challenge)) in strangers.iter().zip(challenged) {
        let authorization = credentials(&challenge, name, "secret");
        let status = desk.status(&user(name, 2).line("Authorization", &authorization));
        assert_eq!(desk.registers.last().unwrap().1, server, "{name}");
        assert_eq!(status, 200, "{name}");
    }
}

#[test]
fn a_removal_asks_the_server_first() {
    let mut desk = guarded(1).open();
    log_in(&mut desk, &user("alice", 1), "alice");
    for (cseq, contact) in [(10, "<sip:alice@198.51.100.1>"), (20, "*")] {
        let ask = Ask::register("alice").cseq(cseq).contact(contact).expires("0");
        assert_eq!(desk.status(&ask), 401);
        assert_eq!(desk.user(ALICE).bindings.len(), 1, "nobody is removed by a stranger's word");
        assert_eq!(desk.held_by(0).len(), 1);
    }
    let ask = Ask::register("alice").cseq(30).contact("*").expires("0");
    let (answer, challenged) = log_in(&mut desk, &ask, "alice");
    assert_eq!((answer.status(), challenged), (Some(200), 1));
    assert_eq!(desk.user(ALICE).bindings, []);
    assert_eq!(desk.held_by(0), []);
}

#[test]
fn two_contacts_of_one_request_are_both_vouched_for() {
    let mut desk = guarded(1).open();
    let ask = user("alice", 1).contact("<sip:alice@198.51.100.2>");
    let (answer, _) = log_in(&mut desk, &ask, "alice");
    assert_eq!((answer.status(), contacts(&answer).len()), (Some(200), 2));
    assert_eq!(desk.held_by(0).len(), 2);
}

/// Alice, registered with her server, which then fails.
fn alice_and_a_failed_server(mood: Mood) -> (Desk, usize) {
    let mut desk = guarded(2).open();
    let (answer, _) = log_in(&mut desk, &user("alice", 1), "alice");
    assert_eq!(answer.status(), Some(200));
    let home = desk.current(ALICE);
    desk.set_mood(home, mood);
    (desk, home)
}

#[test]
fn in_a_failover_the_binding_waits_for_its_phone_and_says_so() {
    let (mut desk, home) = alice_and_a_failed_server(Mood::Dead);
    desk.pass(5 * SECOND);
    let backup = desk.current(ALICE);
    assert_ne!(backup, home);
    let binding = desk.binding(ALICE);
    assert_eq!(&*binding.standing, "awaiting_phone");
    assert!(binding.because.unwrap().contains("credentials"));
    assert_eq!(desk.door.status(desk.now).progress.awaiting_phone, 1);
    assert_eq!(desk.held_by(backup), []);
    // The phone's next refresh is challenged by the new server, answered, and then it is settled.
    desk.registers.clear();
    let (answer, challenged) = log_in(&mut desk, &user("alice", 10), "alice");
    assert_eq!((answer.status(), challenged), (Some(200), 1));
    assert!(desk.registers.iter().all(|(_, server, _)| *server == backup));
    assert_eq!(desk.held_by(backup).len(), 1);
    let binding = desk.binding(ALICE);
    assert_eq!((&*binding.standing, binding.because), ("settled", None));
    assert_eq!(desk.door.status(desk.now).progress.awaiting_phone, 0);
}

#[test]
fn an_answer_to_another_servers_challenge_is_not_shown_as_a_wrong_password() {
    let mut desk = guarded(2).open();
    let challenge = challenges(&desk.answer(&user("alice", 1))).swap_remove(0);
    let authorization = credentials(&challenge, "alice", "secret");
    assert_eq!(desk.status(&user("alice", 2).line("Authorization", &authorization)), 200);
    let home = desk.current(ALICE);
    desk.set_mood(home, Mood::Dead);
    desk.pass(5 * SECOND);
    desk.registers.clear();
    // The phone answers the nonce it has, as phones do.
    let answer = desk.answer(&user("alice", 3).line("Authorization", &authorization));
    assert_eq!(answer.status(), Some(401));
    for (_, server, sent) in &desk.registers {
        assert_ne!(*server, home);
        assert_eq!(sent.header(HeaderName::Authorization), None, "stripped");
    }
    for challenge in challenges(&answer) {
        assert_eq!(field(&challenge, "stale").to_ascii_uppercase(), "TRUE", "{challenge}");
    }
    let authorization = credentials(&challenges(&answer)[0], "alice", "secret");
    assert_eq!(desk.status(&user("alice", 4).line("Authorization", &authorization)), 200);
}

#[test]
fn a_stranger_whose_challenger_died_is_challenged_by_another_server() {
    let mut desk = guarded(2).open();
    let challenge = challenges(&desk.answer(&user("alice", 1))).swap_remove(0);
    let died = desk.registers[0].1;
    desk.set_mood(died, Mood::Dead);
    desk.pass(5 * SECOND);
    let authorization = credentials(&challenge, "alice", "secret");
    let answer = desk.answer(&user("alice", 2).line("Authorization", &authorization));
    assert_eq!(answer.status(), Some(401));
    assert!(challenges(&answer).iter().all(|challenge| challenge.contains("stale=TRUE")));
    let (answer, _) = log_in(&mut desk, &user("alice", 3), "alice");
    assert_eq!(answer.status(), Some(200));
    assert_ne!(desk.current(ALICE), died);
}

#[test]
fn a_nonce_known_from_an_earlier_life_of_the_door_still_counts() {
    let mut desk = guarded(3).open();
    let challenge = challenges(&desk.answer(&user("alice", 1))).swap_remove(0);
    let authorization = credentials(&challenge, "alice", "secret");
    let ask = |cseq| user("alice", cseq).line("Authorization", &authorization);
    assert_eq!(desk.status(&ask(2)), 200);
    desk.restart();
    desk.pass(3 * SECOND);
    assert_eq!(desk.status(&ask(3)), 200);
    let home = desk.current(ALICE);
    desk.set_mood(home, Mood::Dead);
    desk.pass(5 * SECOND);
    let answer = desk.answer(&ask(4));
    assert_eq!(answer.status(), Some(401));
    assert!(challenges(&answer).iter().all(|challenge| challenge.contains("stale=TRUE")));
}

#[test]
fn during_the_hold_the_door_answers_only_who_it_knows_by_the_flow() {
    let (mut desk, home) = alice_and_a_failed_server(Mood::Hung);
    desk.pass(4 * SECOND);
    assert_eq!(&*desk.door.status(desk.now).servers[home].state, "down");
    assert_eq!(desk.current(ALICE), home, "within the hold");
    let held = desk.answer(&user("alice", 10));
    assert_eq!((held.status(), contacts(&held).len()), (Some(200), 1), "from the same flow");
    assert!(contacts(&held).into_values().all(|left| left <= 60), "for a short time");
    assert_eq!(desk.door.stats().registers_held, 1);
    let elsewhere = user("alice", 11).at(phone(66));
    assert!(desk.ask(&elsewhere).is_none(), "from another flow it waits");
    let query = Ask::register("u5").cseq(1).at(phone(67));
    desk.send(&query);
    desk.pass(6 * SECOND);
    assert_ne!(desk.current(ALICE), home);
    let answer = desk.answer_to(&elsewhere).unwrap();
    assert_eq!(answer.status(), Some(401), "and is asked who it is by the new server");
    assert_eq!(&*desk.binding(ALICE).from, "udp:198.51.100.1:5060", "nothing was changed by it");
}

#[test]
fn during_the_hold_nobody_is_removed_and_nothing_new_is_promised() {
    let (mut desk, home) = alice_and_a_failed_server(Mood::Hung);
    desk.pass(4 * SECOND);
    assert_eq!(desk.current(ALICE), home);
    for ask in [
        Ask::register("alice").cseq(10).contact("*").expires("0"),
        Ask::register("alice").cseq(11).call_id("x").contact("<sip:alice@198.51.100.2>"),
        user("alice", 12).set("Contact", "<sip:alice@198.51.100.1>;q=0.1"),
        Ask::register("alice").cseq(13).call_id("query"),
    ] {
        assert!(desk.ask(&ask).is_none(), "{ask:?}");
    }
    assert_eq!(desk.user(ALICE).bindings.len(), 1);
}

#[test]
fn a_nonce_that_grew_old_is_renewed_without_a_new_password() {
    let mut desk = guarded(1).open();
    let challenge = challenges(&desk.answer(&user("alice", 1))).swap_remove(0);
    let authorization = credentials(&challenge, "alice", "secret");
    assert_eq!(desk.status(&user("alice", 2).line("Authorization", &authorization)), 200);
    desk.pass(299 * SECOND);
    desk.pass(5 * SECOND);
    let answer = desk.answer(&user("alice", 3).line("Authorization", &authorization));
    assert_eq!(answer.status(), Some(401));
    assert!(challenges(&answer).iter().all(|challenge| challenge.contains("stale=TRUE")));
}

#[test]
fn the_doors_own_refresh_that_is_challenged_leaves_the_phone_registered() {
    let mut plan = guarded(1);
    for server in &mut plan.servers {
        server.max_expires_secs = 250;
    }
    let mut desk = plan.open();
    log_in(&mut desk, &user("alice", 1), "alice");
    // The door comes by at 125 to 225 s, is challenged, and leaves the rest to the phone.
    desk.pass(230 * SECOND);
    assert_eq!(desk.held_by(0).len(), 1);
    assert_eq!(&*desk.binding(ALICE).standing, "settled");
    assert!(desk.registers.len() <= 4, "it does not ask for ever: {}", desk.registers.len());
    let (answer, _) = log_in(&mut desk, &user("alice", 10), "alice");
    assert_eq!(answer.status(), Some(200));
    assert_eq!(desk.servers[0].journal().counters().bindings_new, 1);
}

#[test]
fn a_phone_that_has_seen_a_branch_cannot_answer_for_a_server() {
    let mut desk = guarded(1).open();
    let ask = user("alice", 1);
    desk.set_mood(0, Mood::Slow { delay: Duration::from_millis(500) });
    desk.send(&ask);
    let asked = desk.take_registers().pop().expect("the server is asked");
    let contact = header(&asked, HeaderName::Contact);
    let forged = Response::to(&asked, 200)
        .to_tag("forged")
        .header(HeaderName::Contact, contact)
        .header(HeaderName::Path, header(&asked, HeaderName::Path))
        .finish();
    for listener in [PHONES, SERVERS] {
        desk.deliver(listener, phone(66), forged.clone());
    }
    assert!(desk.answer_to(&ask).is_none(), "nobody has let it in");
    desk.pass(SECOND);
    assert_eq!(desk.answer_to(&ask).and_then(|answer| answer.status()), Some(401));
    assert!(desk.door.user(desk.now, ALICE).is_none());
}
