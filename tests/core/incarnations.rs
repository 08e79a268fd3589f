//! A server that restarts unnoticed knows nobody and looks green: a question now and then tells (H8).

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use frontdoor::cluster::document::Document;
use frontdoor::cluster::{BindingAddress, ServerId};
use frontdoor::door::{Input, Pace};
use frontdoor::now::Uptime;
use frontdoor::sip::{HeaderName, Message, Response};
use frontdoor::ucserver::{self, Mood};

use crate::desk::{Ask, Desk, Plan, SERVERS, flow, phone, plan};

const SECOND: Duration = Duration::from_secs(1);
const INTERVAL: Duration = Duration::from_secs(5);

/// A desk with one server and so many phones of a user each. It has no health document.
fn registered(mut plan: Plan, phones: u8) -> Desk {
    plan.settings.health.sample_interval = INTERVAL;
    let mut desk = plan.open();
    for number in 1..=phones {
        desk.send(&of(number));
        // The server's pace may make it wait.
        desk.pass(SECOND / 25);
        assert_eq!(desk.answer_to(&of(number)).and_then(|answer| answer.status()), Some(200));
    }
    // The server has been asked, and has shown that its answers list what it holds.
    desk.pass(3 * INTERVAL);
    assert!(desk.door.stats().samples >= 2, "{:?}", desk.door.stats());
    assert_eq!(desk.door.stats().samples_missing, 0);
    desk.registers.clear();
    desk
}

/// The REGISTER of the phone with this number.
fn of(number: u8) -> Ask {
    let user = format!("u{number:03}");
    Ask::register(&user).at(phone(number)).contact(&format!("<sip:{user}@{}>", phone(number)))
}

fn is_query(message: &Message) -> bool {
    message.header(HeaderName::Contact).is_none()
}

/// When REGISTERs that register something reached the server.
fn registrations(desk: &Desk) -> Vec<Uptime> {
    let told = desk.registers.iter().filter(|(_, _, message)| !is_query(message));
    told.map(|(at, ..)| *at).collect()
}

fn incarnation(desk: &Desk) -> u32 {
    desk.door.status(desk.now).servers[0].incarnation
}

#[test]
fn a_server_that_forgot_everybody_unnoticed_gets_everybody_again() {
    for how in [BindingAddress::Path, BindingAddress::Contact] {
        let mut desk = registered(plan(1).binding_address(how), 20);
        desk.set_mood(0, Mood::Amnesia);
        assert_eq!(desk.held_by(0), []);
        desk.pass(INTERVAL + SECOND);
        assert_eq!(desk.held_by(0).len(), 20, "{how:?}");
        assert_eq!(desk.door.stats().samples_missing, 2);
        assert_eq!((incarnation(&desk), desk.door.status(desk.now).relocated), (1, 0));
        // And that is that: each once, but for the first that was missed.
        desk.pass(20 * INTERVAL);
        assert_eq!((registrations(&desk).len(), incarnation(&desk)), (21, 1));
    }
}

/// A health document that counts so many registrations reaches the door.
fn counts(desk: &mut Desk, boot_id: &str, registrations: u32) {
    let text = format!(
        r#"{{"format":1,"boot_id":"{boot_id}","users":{{"logged_in":0}},"registrations":{registrations}}}"#
    );
    let document = Document::parse(text.as_bytes());
    desk.reach_door(Input::Fetched { server: ServerId(0), document });
}

#[test]
fn a_count_that_falls_makes_the_door_ask_at_once() {
    let mut desk = registered(plan(1), 20);
    counts(&mut desk, "a", 20);
    // The next question would come much later.
    let asked = desk.door.stats().samples;
    counts(&mut desk, "a", 15);
    assert_eq!(desk.door.stats().samples, asked, "a few phones have gone");
    desk.set_mood(0, Mood::Amnesia);
    counts(&mut desk, "a", 0);
    desk.pass(SECOND);
    assert_eq!((desk.held_by(0).len(), incarnation(&desk)), (20, 1));
    assert_eq!(desk.door.stats().samples, asked + 2);
}

#[test]
fn a_count_that_lies_costs_questions_and_nothing_else() {
    let mut desk = registered(plan(1), 20);
    for round in 0..10 {
        counts(&mut desk, "a", 20);
        counts(&mut desk, "a", round);
    }
    desk.pass(SECOND);
    assert_eq!((desk.held_by(0).len(), incarnation(&desk)), (20, 0));
    assert_eq!(desk.door.stats().samples_missing, 0);
    assert_eq!(registrations(&desk), []);
}

#[test]
fn it_may_happen_again_and_again() {
    let mut desk = registered(plan(1), 10);
    for life in 1..=5 {
        desk.set_mood(0, Mood::Amnesia);
        desk.pass(INTERVAL + SECOND);
        assert_eq!((desk.held_by(0).len(), incarnation(&desk)), (10, life));
        desk.pass(2 * INTERVAL);
    }
}

#[test]
fn everybody_is_told_again_at_the_pace_the_server_bears() {
    let mut plan = plan(1);
    plan.settings.pace = Pace { rate_max: Some(25), ..Pace::default() };
    let mut desk = registered(plan, 200);
    desk.set_mood(0, Mood::Amnesia);
    desk.pass(INTERVAL + 10 * SECOND);
    assert_eq!(desk.held_by(0).len(), 200);
    let times: Vec<Uptime> = desk.registers.iter().map(|(at, ..)| *at).collect();
    let told = registrations(&desk);
    let took = told.last().unwrap().since(told[0]);
    assert!(took >= 7 * SECOND, "200 at 25 a second took {took:?}");
    for (first, last) in times.iter().zip(times.iter().skip(30)) {
        assert!(last.since(*first) >= SECOND, "30 within {:?}", last.since(*first));
    }
}

#[test]
fn a_single_binding_that_is_missing_is_registered_again_alone() {
    let mut desk = registered(plan(1), 10);
    forget(&mut desk, 4);
    assert_eq!(desk.held_by(0).len(), 9);
    // Its turn comes within a round through all of them.
    desk.pass(11 * INTERVAL);
    assert_eq!(desk.held_by(0).len(), 10);
    assert_eq!((registrations(&desk).len(), incarnation(&desk)), (1, 0));
    assert_eq!(desk.door.stats().samples_missing, 1);
}

/// An administrator removes a user's binding at the server.
fn forget(desk: &mut Desk, number: u8) {
    let message = of(number).call_id("by-hand").expires("0").bytes();
    let flow = flow(SERVERS, phone(number));
    desk.servers[0].handle(desk.now.uptime, ucserver::Input::Sip { flow, message });
    while desk.servers[0].poll().is_some() {}
}

#[test]
fn a_server_that_never_lists_what_it_holds_is_not_believed() {
    let mut plan = plan(1);
    plan.settings.health.sample_interval = INTERVAL;
    let mut desk = plan.open();
    desk.tamper = Some(Box::new(|answer| {
        let text = String::from_utf8(answer.bytes().to_vec()).unwrap();
        // A REGISTER that registers is answered with its Path.
        if text.contains("Path: ") {
            return Bytes::from(text);
        }
        let kept = text.split_inclusive("\r\n").filter(|line| !line.starts_with("Contact: "));
        Bytes::from(kept.collect::<String>())
    }));
    for number in 1..=10 {
        assert_eq!(desk.status(&of(number)), 200);
    }
    desk.registers.clear();
    desk.pass(10 * INTERVAL);
    assert!(desk.door.stats().samples >= 9);
    assert_eq!((registrations(&desk).len(), incarnation(&desk)), (0, 0));
}

#[test]
fn a_challenge_proves_nothing_and_is_asked_for_rarely() {
    let mut desk = registered(plan(1), 10);
    // From now on it wants credentials.
    desk.script = Some(Box::new(|_, request| {
        let asked = request.method() == Some("REGISTER") && is_query(request);
        asked.then(|| {
            let challenge = "Digest realm=\"example.com\", nonce=\"n\"";
            Response::to(request, 401).header(HeaderName::WwwAuthenticate, challenge).finish()
        })
    }));
    let asked = desk.door.stats().samples;
    desk.pass(24 * INTERVAL);
    assert_eq!((registrations(&desk).len(), incarnation(&desk)), (0, 0));
    let asked = desk.door.stats().samples - asked;
    assert!((2..=4).contains(&asked), "{asked} in two minutes");
}

#[test]
fn silence_to_a_question_proves_nothing() {
    let mut desk = registered(plan(1), 10);
    desk.script = Some(Box::new(|_, request| {
        let lost = request.method() == Some("REGISTER") && is_query(request);
        lost.then(|| Bytes::from_static(b"\r\n"))
    }));
    desk.pass(20 * INTERVAL);
    assert_eq!((registrations(&desk).len(), incarnation(&desk)), (0, 0));
}

#[test]
fn an_answer_that_comes_after_the_phone_has_left_means_nothing() {
    let mut desk = registered(plan(1), 1);
    let question = Rc::new(RefCell::new(None));
    let heard = Rc::clone(&question);
    desk.script = Some(Box::new(move |_, request| {
        let question = request.method() == Some("REGISTER") && is_query(request);
        question.then(|| {
            *heard.borrow_mut() = Some(request.clone());
            Bytes::from_static(b"\r\n")
        })
    }));
    desk.pass(INTERVAL);
    let question = question.borrow_mut().take().expect("the server is asked");
    assert_eq!(desk.status(&of(1).cseq(2).expires("0")), 200);
    desk.server_says(0, Response::to(&question, 200).to_tag("s").finish());
    assert_eq!(desk.status(&of(1).cseq(3)), 200);
    desk.pass(10 * SECOND);
    assert_eq!((desk.door.stats().samples_missing, incarnation(&desk)), (0, 0));
    assert_eq!(desk.held_by(0).len(), 1);
}
