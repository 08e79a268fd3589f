//! A REGISTER that repeats its predecessor is answered without being read; what comes out must be
//! what reading it would have come to.

use std::time::Duration;

use frontdoor::door::Stats;
use frontdoor::sip::HeaderName;
use frontdoor::ucserver::Mood;
use proptest::prelude::*;

use crate::desk::{Ask, Desk, contacts, desk, header, phone};

const CONTACT: &str = "<sip:alice@198.51.100.1>";

fn alice(cseq: u32) -> Ask {
    Ask::register("alice").cseq(cseq).contact(CONTACT).expires("300")
}

fn repeated(desk: &Desk) -> u64 {
    desk.door.stats().registers_repeated
}

/// Alice is registered, and her refresh has been read once.
fn known() -> Desk {
    let mut desk = desk();
    assert_eq!([1, 2].map(|cseq| desk.status(&alice(cseq))), [200, 200]);
    assert_eq!((desk.door.stats().registers_absorbed, repeated(&desk)), (1, 0));
    desk
}

#[test]
fn a_refresh_that_repeats_itself_gets_the_answer_it_would_get_if_it_were_read() {
    let mut desk = known();
    let read = desk.answer(&alice(3).line("X-New", "1"));
    assert_eq!(repeated(&desk), 0);
    desk.status(&alice(4));
    let not_read = desk.answer(&alice(5));
    assert_eq!(repeated(&desk), 1);
    for name in [HeaderName::From, HeaderName::To, HeaderName::Contact, HeaderName::Date] {
        assert_eq!(header(&not_read, name), header(&read, name), "{name:?}");
    }
    assert_eq!(header(&not_read, HeaderName::CSeq), "5 REGISTER");
    assert_eq!(desk.answer(&alice(5)).bytes(), not_read.bytes(), "a retransmission");
    desk.pass(Duration::from_secs(100));
    assert_eq!(*contacts(&desk.answer(&alice(6))).values().next().unwrap(), 300);
    desk.pass(Duration::from_secs(299));
    assert_eq!(desk.user("sip:alice@example.com").bindings.len(), 1, "its lease was renewed");
    assert_eq!(desk.door.stats().registers_passed_on, 1);
}

#[test]
fn whatever_differs_is_read() {
    let others = [
        alice(9).set("Contact", "<sip:alice@198.51.100.1>;q=0.5"),
        alice(9).set("Contact", "<sip:alice@198.51.100.2>"),
        alice(9).set("Expires", "200"),
        alice(9).set("Expires", "0"),
        alice(9).set("From", "<sip:alice@example.com>;tag=other"),
        alice(9).set("To", "<sip:bob@example.com>"),
        alice(9).call_id("another"),
        alice(9).line("User-Agent", "phone/2"),
        alice(9).line("CSeq", "10 REGISTER"),
        alice(9).set("CSeq", "9 OPTIONS"),
        alice(9).without("CSeq"),
        alice(9).start("OPTIONS sip:example.com SIP/2.0"),
        alice(9).at(phone(7)),
    ];
    for (number, other) in others.iter().enumerate() {
        let mut desk = known();
        desk.send(other);
        assert_eq!(repeated(&desk), 0, "number {number}");
    }
}

/// Via is no part of what is compared, but it is part of what is answered.
#[test]
fn a_repetition_may_not_be_larger_than_any_other_register() {
    let mut desk = known();
    let hops = ", SIP/2.0/UDP 192.0.2.77;branch=z9hG4bKhop".repeat(250);
    let via = format!("SIP/2.0/UDP 198.51.100.1:5060;branch=z9hG4bKlong;rport{hops}");
    assert_eq!(desk.status(&alice(3).set("Via", &via)), 513);
    assert_eq!(repeated(&desk), 0);
    assert_eq!(desk.status(&alice(4)), 200);
    assert_eq!(repeated(&desk), 1);
}

#[test]
fn what_is_older_than_the_last_one_is_refused_though_it_repeats_it() {
    let mut desk = known();
    assert_eq!(desk.status(&alice(3)), 200);
    assert_eq!(desk.status(&alice(2)), 500);
    assert_eq!(repeated(&desk), 1);
}

#[test]
fn a_binding_that_has_changed_meanwhile_is_not_taken_for_what_it_was() {
    let mut desk = known();
    let changed = alice(3).set("Contact", "<sip:alice@198.51.100.1>;q=0.5");
    assert_eq!(desk.status(&changed), 200);
    desk.take_registers();
    assert_eq!(desk.status(&alice(4)), 200);
    assert_eq!(repeated(&desk), 0);
    assert_eq!(desk.take_registers().len(), 1, "the server is told of the way back");
}

#[test]
fn a_binding_that_was_removed_is_made_again() {
    let mut desk = known();
    assert_eq!(desk.status(&alice(3).set("Expires", "0")), 200);
    desk.pass(Duration::from_secs(1));
    assert!(desk.held_by(0).is_empty());
    assert_eq!(desk.status(&alice(4)), 200);
    assert_eq!((repeated(&desk), desk.held_by(0).len()), (0, 1));
}

#[test]
fn a_failed_server_is_noticed_though_the_phone_only_repeats_itself() {
    let mut plan = crate::desk::plan(1);
    plan.settings.decision.disable_automatic_user_distribution = true;
    let mut desk = plan.open();
    for cseq in 1..=3 {
        assert_eq!(desk.status(&alice(cseq)), 200);
    }
    assert_eq!(repeated(&desk), 1);
    desk.set_mood(0, Mood::Dead);
    desk.pass(Duration::from_secs(5));
    let held = desk.answer(&alice(4));
    assert_eq!(repeated(&desk), 1);
    assert_eq!(*contacts(&held).values().next().unwrap(), 60, "held: the shortest lease");
}

/// One thing a phone says, and how long it is silent afterwards.
fn deed() -> impl Strategy<Value = (u8, u8, u64)> {
    // Hours of a desk's time cost seconds of ours: seldom a long silence.
    (0..6u8, 0..3u8, prop_oneof![4 => 0..2u64, 1 => 30..70u64])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Two doors hear the same; at one of them no REGISTER ever repeats another.
    #[test]
    fn a_door_that_reads_everything_says_the_same(
        deeds in prop::collection::vec(deed(), 1..30),
    ) {
        let (mut quick, mut thorough) = (desk(), desk());
        let mut cseq = 0;
        for (number, (what, who, silence)) in deeds.into_iter().enumerate() {
            cseq += u32::from(what != 0);
            let user = ["anna", "bert", "carla"][usize::from(who)];
            let contact = format!("<sip:{user}@198.51.100.1>");
            let ask = Ask::register(user).cseq(cseq).contact(&contact).expires("300");
            let ask = match what {
                4 => ask.set("Expires", "0"),
                5 => ask.set("Contact", &format!("{contact};q=0.5")),
                _ => ask,
            };
            let marked = format!("{number}");
            let answers = [
                quick.answer(&ask),
                thorough.answer(&ask.line("X-Number", &marked)),
            ];
            let [ours, theirs] = answers.each_ref().map(|it| (it.status(), contacts(it)));
            prop_assert_eq!(ours, theirs, "{} {} {}", number, what, user);
            for desk in [&mut quick, &mut thorough] {
                desk.pass(Duration::from_secs(silence));
            }
        }
        prop_assert_eq!(thorough.door.stats().registers_repeated, 0);
        let [ours, theirs] = [&quick, &thorough].map(|it| it.door.stats().registers_passed_on);
        prop_assert_eq!(ours, theirs);
    }

    /// What arrives together is answered as if one came after the other, octet by octet.
    #[test]
    fn it_makes_no_difference_whether_messages_come_together(
        bursts in prop::collection::vec(prop::collection::vec(deed(), 1..40), 1..6),
    ) {
        let mut desks = [desk(), desk()];
        let mut cseq = 0;
        for burst in bursts {
            let asks: Vec<Ask> = burst.iter().map(|&(what, who, _)| {
                cseq += u32::from(what != 0);
                let user = ["anna", "bert", "carla"][usize::from(who)];
                let ask = Ask::register(user).cseq(cseq).contact(&format!("<sip:{user}@198.51.100.1>"));
                match what {
                    4 => ask.set("Expires", "0"),
                    5 => ask.start("OPTIONS sip:example.com SIP/2.0").set("CSeq", "1 OPTIONS"),
                    _ => ask.expires("300"),
                }
            }).collect();
            for (desk, as_one) in desks.iter_mut().zip([true, false]) {
                desk.send_at_once(&asks, as_one);
                desk.pass(Duration::from_secs(2));
            }
            let [ours, theirs] = desks.each_mut().map(Desk::take_inbox);
            prop_assert_eq!(ours, theirs);
        }
        // The first burst that repeats anything may have to be read all the same.
        let stats = |it: &Desk| Stats { registers_repeated: 0, ..*it.door.stats() };
        let [ours, theirs] = desks.each_ref().map(stats);
        prop_assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
    }
}
