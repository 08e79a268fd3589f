//! Too much at once: who gets in, who is told to come back, and what is counted (Q4, D4).

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use frontdoor::door::Stats;
use frontdoor::sip::{HeaderName, Message};

use crate::desk::{Ask, Desk, header, phone, plan};

const CALM: Duration = Duration::ZERO;
const BUSY: Duration = Duration::from_millis(25);
const PRESSED: Duration = Duration::from_millis(60);
const SWAMPED: Duration = Duration::from_millis(250);

/// A desk with small limits: ten strangers a second from one source, twenty at once.
fn small() -> Desk {
    let mut plan = plan(1);
    plan.settings.limits.strangers_per_source = 10;
    plan.settings.limits.strangers_burst_per_source = 20;
    plan.settings.limits.strangers = 50;
    plan.open()
}

fn first(user: &str, from: SocketAddr) -> Ask {
    let contact = format!("<sip:{user}@{from}>");
    Ask::register(user).at(from).contact(&contact).expires("300")
}

/// How many of so many strangers from one address get in now.
fn get_in(desk: &mut Desk, name: &str, count: usize, from: SocketAddr) -> usize {
    (0..count).filter(|n| desk.status(&first(&format!("{name}{n}"), from)) == 200).count()
}

fn retry_after(answer: &Message) -> u64 {
    header(answer, HeaderName::RetryAfter).parse().expect("a 503 says when to come back")
}

fn stats(desk: &Desk) -> Stats {
    *desk.door.stats()
}

#[test]
fn a_source_of_strangers_has_its_burst_and_its_rate_and_no_neighbour_pays_for_it() {
    let mut desk = small();
    assert_eq!(get_in(&mut desk, "a", 100, phone(1)), 20);
    assert_eq!(stats(&desk).shed_source, 80);
    assert_eq!(get_in(&mut desk, "b", 1, phone(2)), 1, "another source");
    desk.pass(Duration::from_secs(1));
    assert_eq!(get_in(&mut desk, "c", 100, phone(1)), 10);
}

#[test]
fn an_ipv6_network_is_one_source() {
    let mut desk = small();
    let at = |host: u16| format!("[2001:db8::{host:x}]:5060").parse().unwrap();
    let got_in = (1..=100).filter(|&n| desk.status(&first(&format!("a{n}"), at(n))) == 200);
    assert_eq!(got_in.count(), 20);
    let next_door = "[2001:db8:0:1::1]:5060".parse().unwrap();
    assert_eq!(get_in(&mut desk, "b", 1, next_door), 1);
}

#[test]
fn strangers_are_limited_in_all_whatever_address_they_give() {
    let mut desk = small();
    let got_in: usize = (1..=100).map(|n| get_in(&mut desk, &format!("s{n}-"), 1, phone(n))).sum();
    assert_eq!((got_in, stats(&desk).shed_strangers), (50, 50));
}

#[test]
fn what_a_known_phone_asks_is_never_counted_among_strangers() {
    let mut desk = small();
    assert_eq!(get_in(&mut desk, "known", 10, phone(1)), 10);
    assert_eq!(get_in(&mut desk, "flood", 100, phone(1)), 10);
    for number in 0..10 {
        let user = format!("known{number}");
        let refresh = first(&user, phone(1)).cseq(2);
        assert_eq!(desk.status(&refresh), 200, "a refresh");
        let change =
            first(&user, phone(1)).cseq(3).set("Contact", "<sip:second@198.51.100.1:5062>");
        assert_eq!(desk.status(&change), 200, "a second contact");
    }
    let after = stats(&desk);
    assert_eq!((after.registers_absorbed, after.shed_source), (10, 90));
    let elsewhere = first("known0", phone(9)).cseq(9).call_id("elsewhere");
    desk.pass(Duration::from_secs(10));
    assert_eq!(get_in(&mut desk, "others", 100, phone(9)), 20);
    assert_eq!(desk.status(&elsewhere), 503, "from elsewhere it is a stranger like any other");
}

#[test]
fn one_aor_cannot_keep_the_door_busy_and_its_refreshes_are_answered_all_the_same() {
    let mut plan = plan(1);
    plan.settings.limits.changes_burst_per_aor = 5;
    let mut desk = plan.open();
    assert_eq!(desk.status(&first("anna", phone(1))), 200);
    let change = |number: u32| {
        let contact = format!("<sip:anna@198.51.100.1:5060>;q=0.{number}");
        first("anna", phone(1)).set("Contact", &contact).cseq(10 + number)
    };
    let answers: Vec<u16> = (0..8).map(|number| desk.status(&change(number))).collect();
    assert_eq!(answers, [200, 200, 200, 200, 503, 503, 503, 503], "the first REGISTER counts too");
    assert_eq!(stats(&desk).shed_aor, 4);
    let same = change(3).cseq(30);
    assert_eq!(desk.status(&same), 200, "nothing has changed: absorbed");
    assert_eq!(desk.status(&first("bert", phone(1))), 200, "the others are not concerned");
    desk.pass(Duration::from_secs(2));
    assert_eq!(desk.status(&change(9).cseq(40)), 200);
}

#[test]
fn a_door_that_falls_behind_turns_strangers_away_first_and_refreshes_never() {
    let mut desk = small();
    assert_eq!(desk.status(&first("anna", phone(1))), 200);
    let mut cseq = 1;
    let mut refresh = |desk: &mut Desk| {
        cseq += 1;
        desk.status(&first("anna", phone(1)).cseq(cseq))
    };
    let change = |desk: &mut Desk, number: u32| {
        let contact = format!("<sip:anna@198.51.100.1:{}>", 6_000 + number);
        desk.status(
            &first("anna", phone(1)).cseq(500 + number).call_id("c").set("Contact", &contact),
        )
    };
    desk.feels(BUSY);
    assert_eq!(get_in(&mut desk, "a", 10, phone(2)), 2, "a source that owes nothing");
    assert_eq!((refresh(&mut desk), change(&mut desk, 1)), (200, 200));
    desk.feels(PRESSED);
    assert_eq!(get_in(&mut desk, "b", 10, phone(3)), 0);
    assert_eq!((refresh(&mut desk), change(&mut desk, 2)), (200, 200));
    desk.feels(SWAMPED);
    assert_eq!(get_in(&mut desk, "c", 10, phone(4)), 0);
    assert_eq!((refresh(&mut desk), change(&mut desk, 3)), (200, 503));
    let after = stats(&desk);
    assert_eq!((after.shed_load, after.shed_load_known, after.overloads), (28, 1, 1));
}

#[test]
fn a_door_takes_strangers_again_only_when_the_queue_is_well_below_what_made_it_stop() {
    let mut desk = small();
    let mut number = 10;
    let mut got_in = |desk: &mut Desk, waited| {
        number += 1;
        desk.feels(waited);
        get_in(desk, &format!("u{number}-"), 1, phone(number)) == 1
    };
    assert!(!got_in(&mut desk, PRESSED));
    assert!(!got_in(&mut desk, Duration::from_millis(30)), "still pressed");
    assert!(got_in(&mut desk, Duration::from_millis(22)), "busy: one of each source");
    assert!(got_in(&mut desk, CALM));
    desk.drops();
    assert!(!got_in(&mut desk, Duration::from_millis(30)), "the kernel has dropped something");
}

#[test]
fn those_who_are_turned_away_do_not_all_come_back_at_once() {
    let mut desk = small();
    desk.feels(PRESSED);
    let answers: Vec<u64> = (0..200)
        .map(|number| retry_after(&desk.answer(&first(&format!("u{number}"), phone(2)))))
        .collect();
    let distinct: BTreeSet<u64> = answers.iter().copied().collect();
    assert!(answers.iter().all(|seconds| (10..=60).contains(seconds)), "{answers:?}");
    assert!(distinct.len() > 30, "{distinct:?}");
}

#[test]
fn a_register_that_was_taken_on_is_not_turned_away_when_it_is_repeated() {
    let mut desk = small();
    desk.disk_waits = true;
    let ask = first("anna", phone(1));
    assert!(desk.ask(&ask).is_none(), "the disk is slow");
    desk.feels(PRESSED);
    assert!(desk.ask(&ask).is_none(), "repeated: no answer yet, and no refusal");
    assert_eq!(stats(&desk).retransmissions_absorbed, 1);
    desk.write_disk();
    assert_eq!(desk.answer_to(&ask).and_then(|answer| answer.status()), Some(200));
}

#[test]
fn what_is_turned_away_leaves_nothing_behind() {
    let mut desk = small();
    desk.feels(PRESSED);
    let next = desk.door.next();
    assert_eq!(get_in(&mut desk, "u", 1_000, phone(2)), 0);
    assert_eq!(desk.door.next(), next, "no timer");
    assert!(desk.take_registers().is_empty(), "no server was asked");
    assert_eq!(desk.door.status(desk.now).users, 0);
}

#[test]
fn strangers_leave_room_in_the_tables_for_phones_that_are_known() {
    let mut plan = plan(1);
    plan.settings.limits.transactions = 100;
    let mut desk = plan.open();
    assert_eq!(desk.status(&first("anna", phone(1))), 200);
    assert_eq!(get_in(&mut desk, "v", 100, phone(2)), 100, "what is answered makes room");
    desk.disk_waits = true;
    for n in 0..200 {
        desk.send(&first(&format!("u{n}"), phone(2)));
    }
    assert_eq!(stats(&desk).shed_room, 125, "three quarters wait");
    let change = first("anna", phone(1)).cseq(2).set("Contact", "<sip:anna@198.51.100.1:5062>");
    assert!(desk.ask(&change).is_none(), "taken on; the disk is slow");
    desk.write_disk();
    assert_eq!(desk.answer_to(&change).and_then(|answer| answer.status()), Some(200));
}

#[test]
fn a_server_that_asks_too_much_leaves_room_for_phones() {
    let mut plan = plan(1);
    plan.settings.limits.transactions = 100;
    let mut desk = plan.open();
    assert_eq!(desk.status(&first("anna", phone(1))), 200);
    let path = desk.held_by(0)[0].2[0].clone();
    for number in 0..200 {
        let options = format!(
            "OPTIONS sip:anna@198.51.100.1:5060 SIP/2.0\r\n\
             Via: SIP/2.0/UDP 10.0.0.1:5060;branch=z9hG4bKflood{number}\r\nRoute: {path}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:s@example.com>;tag=1\r\nTo: <sip:anna@example.com>\r\n\
             Call-ID: flood\r\nCSeq: {number} OPTIONS\r\nContent-Length: 0\r\n\r\n"
        );
        desk.server_says(0, options);
    }
    let after = stats(&desk);
    // Half of our own table; what is answered makes room when it is needed.
    assert_eq!((after.path_requests, after.shed_path), (50, 150));
    assert_eq!(desk.status(&first("bert", phone(1))), 200);
}
