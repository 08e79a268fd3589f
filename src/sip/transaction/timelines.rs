//! The transactions played in virtual time: what happens when, to the millisecond.

use std::time::Duration;

use bytes::Bytes;

use crate::now::Uptime;
use crate::sip::transaction::{
    ClientTransactionId, Due, Incoming, Limits, Matched, ServerTransactionId, Timings, Transactions,
};
use crate::sip::{ConnectionId, Flow, ListenerId, Message, Transport};

pub(super) const PHONE: &str = "192.0.2.10:5060";
const SERVER: &str = "192.0.2.20:5060";

/// When the stories begin; not zero, so that "0" cannot be right by accident.
pub(super) const START: Uptime = Uptime::from_secs(1000);

fn at(millis: u64) -> Uptime {
    START + Duration::from_millis(millis)
}

pub(super) fn udp(remote: &str) -> Flow {
    Flow {
        listener: ListenerId(1),
        transport: Transport::Udp,
        remote: remote.parse().unwrap(),
        connection: ConnectionId::NONE,
    }
}

pub(super) fn tcp(remote: &str) -> Flow {
    Flow { transport: Transport::Tcp, connection: ConnectionId(7), ..udp(remote) }
}

fn table() -> Transactions<&'static str> {
    Transactions::new(Timings::default(), Limits { server: 100, client: 100 })
}

fn via(branch: &str) -> String {
    format!("SIP/2.0/UDP 192.0.2.10:5060;branch={branch}")
}

fn request_by(method: &str, via: &str) -> Message {
    let text = format!(
        "{method} sip:example.com SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\n\
         From: <sip:anna@example.com>;tag=f1\r\nTo: <sip:anna@example.com>\r\n\
         Call-ID: call-1\r\nCSeq: 1 {method}\r\nContent-Length: 0\r\n\r\n"
    );
    Message::parse(Bytes::from(text)).unwrap()
}

pub(super) fn request(method: &str, branch: &str) -> Message {
    request_by(method, &via(branch))
}

pub(super) fn response(status: u16, method: &str, branch: &str) -> Message {
    let text = format!(
        "SIP/2.0 {status} Whatever\r\nVia: {}\r\nFrom: <sip:anna@example.com>;tag=f1\r\n\
         To: <sip:anna@example.com>;tag=t1\r\nCall-ID: call-1\r\nCSeq: 1 {method}\r\n\
         Content-Length: 0\r\n\r\n",
        via(branch)
    );
    Message::parse(Bytes::from(text)).unwrap()
}

fn is_new(incoming: Incoming) -> ServerTransactionId {
    match incoming {
        Incoming::New(id) => id,
        other @ (Incoming::Retransmission { .. } | Incoming::Unkept | Incoming::Refused) => {
            panic!("{other:?}")
        }
    }
}

/// What a retransmission is answered with.
fn repeated(incoming: Incoming) -> Option<(Flow, Bytes)> {
    match incoming {
        Incoming::Retransmission { answer } => answer,
        other @ (Incoming::New(_) | Incoming::Unkept | Incoming::Refused) => {
            panic!("{other:?}")
        }
    }
}

/// The events of `poll` up to `until`, with their times in milliseconds after [`START`].
fn play<C: ToString>(transactions: &mut Transactions<C>, until: Uptime) -> Vec<(u64, String)> {
    let mut events = Vec::new();
    while let Some(now) = transactions.next().filter(|&now| now <= until) {
        while let Some(due) = transactions.poll(now) {
            let what = match due {
                Due::Retransmit { bytes, .. } => String::from_utf8_lossy(&bytes).into_owned(),
                Due::TimedOut { context } => format!("{} timed out", context.to_string()),
            };
            events.push((u64::try_from(now.since(START).as_millis()).unwrap(), what));
        }
        assert!(transactions.next().is_none_or(|next| next > now), "a deadline that stays");
    }
    events
}

fn send(
    transactions: &mut Transactions<&'static str>,
    now: Uptime,
    flow: Flow,
    name: &'static str,
) -> ClientTransactionId {
    let branch = format!("z9hG4bK{name}");
    transactions
        .request(
            now,
            flow,
            branch.as_bytes(),
            "REGISTER",
            Bytes::from_static(name.as_bytes()),
            name,
        )
        .unwrap()
}

fn retransmissions(of: &str, times: &[u64]) -> Vec<(u64, String)> {
    times.iter().map(|&time| (time, of.to_owned())).collect()
}

/// What is sent again at `now`.
fn retransmitted(transactions: &mut Transactions<&'static str>, now: Uptime) -> Vec<Bytes> {
    let bytes = |due| match due {
        Due::Retransmit { bytes, .. } => bytes,
        Due::TimedOut { context } => panic!("{context} timed out"),
    };
    std::iter::from_fn(|| transactions.poll(now)).map(bytes).collect()
}

// The server side.

#[test]
fn a_retransmission_is_absorbed_until_there_is_an_answer_and_answered_after() {
    let mut transactions = table();
    let register = request("REGISTER", "z9hG4bKa");
    let id = is_new(transactions.receive(at(0), udp(PHONE), &register).unwrap());
    assert_eq!(transactions.flow_of(id), Some(udp(PHONE)));
    assert_eq!(repeated(transactions.receive(at(500), udp(PHONE), &register).unwrap()), None);

    let trying = Bytes::from_static(b"100");
    assert_eq!(transactions.respond(at(600), id, trying.clone(), 100), Some(udp(PHONE)));
    let again = repeated(transactions.receive(at(1500), udp(PHONE), &register).unwrap());
    assert_eq!(again, Some((udp(PHONE), trying)));

    let ok = Bytes::from_static(b"200");
    assert_eq!(transactions.respond(at(2000), id, ok.clone(), 200), Some(udp(PHONE)));
    let again = repeated(transactions.receive(at(3500), udp(PHONE), &register).unwrap());
    assert_eq!(again, Some((udp(PHONE), ok)));
}

#[test]
fn a_repeated_answer_goes_where_the_first_one_went() {
    let mut transactions = table();
    let register = request("REGISTER", "z9hG4bKa");
    let id = is_new(transactions.receive(at(0), udp(PHONE), &register).unwrap());
    transactions.respond(at(1), id, Bytes::from_static(b"200"), 200);
    let elsewhere = udp("198.51.100.66:9999");
    let (flow, _) = repeated(transactions.receive(at(2), elsewhere, &register).unwrap()).unwrap();
    assert_eq!(flow, udp(PHONE));
}

#[test]
fn a_second_final_response_is_discarded() {
    let mut transactions = table();
    let register = request("REGISTER", "z9hG4bKa");
    let id = is_new(transactions.receive(at(0), udp(PHONE), &register).unwrap());
    assert!(transactions.respond(at(1), id, Bytes::from_static(b"200"), 200).is_some());
    assert_eq!(transactions.respond(at(2), id, Bytes::from_static(b"503"), 503), None);
    assert_eq!(transactions.respond(at(3), id, Bytes::from_static(b"100"), 100), None);
    let again = repeated(transactions.receive(at(4), udp(PHONE), &register).unwrap());
    assert_eq!(again, Some((udp(PHONE), Bytes::from_static(b"200"))));
}

#[test]
fn timer_j_ends_a_server_transaction_64_t1_after_its_final_response() {
    let mut transactions = table();
    let register = request("REGISTER", "z9hG4bKa");
    let id = is_new(transactions.receive(at(0), udp(PHONE), &register).unwrap());
    transactions.respond(at(700), id, Bytes::from_static(b"200"), 200);
    play(&mut transactions, at(32_699));
    repeated(transactions.receive(at(32_699), udp(PHONE), &register).unwrap());
    play(&mut transactions, at(32_700));
    assert_eq!(transactions.len(), (0, 0));
    assert_eq!((transactions.next(), transactions.unanswered()), (None, 0));
    assert_eq!(transactions.flow_of(id), None);
    is_new(transactions.receive(at(32_700), udp(PHONE), &register).unwrap());
}

#[test]
fn a_reliable_transport_ends_a_server_transaction_with_its_final_response() {
    let mut transactions = table();
    let register = request("REGISTER", "z9hG4bKa");
    let id = is_new(transactions.receive(at(0), tcp(PHONE), &register).unwrap());
    assert_eq!(transactions.respond(at(1), id, Bytes::from_static(b"100"), 100), Some(tcp(PHONE)));
    assert_eq!(transactions.len(), (1, 0));
    assert_eq!(transactions.respond(at(2), id, Bytes::from_static(b"200"), 200), Some(tcp(PHONE)));
    assert_eq!(transactions.len(), (0, 0));
    assert_eq!(transactions.respond(at(3), id, Bytes::from_static(b"200"), 200), None);
    is_new(transactions.receive(at(4), tcp(PHONE), &register).unwrap());
}

#[test]
fn an_unanswered_request_is_answerable_for_64_t1_and_then_forgotten() {
    let mut transactions = table();
    let [first, second] = ["z9hG4bKa", "z9hG4bKb"].map(|branch| request("REGISTER", branch));
    let late = is_new(transactions.receive(at(0), tcp(PHONE), &first).unwrap());
    let never = is_new(transactions.receive(at(0), udp(PHONE), &second).unwrap());
    transactions.respond(at(10), never, Bytes::from_static(b"100"), 100);
    play(&mut transactions, at(36_999));
    assert!(transactions.respond(at(36_999), late, Bytes::from_static(b"504"), 504).is_some());
    play(&mut transactions, at(37_000));
    assert_eq!((transactions.len(), transactions.unanswered()), ((0, 0), 1));
    assert_eq!(transactions.respond(at(37_001), never, Bytes::from_static(b"200"), 200), None);
}

#[test]
fn one_branch_from_two_senders_or_with_two_methods_is_two_transactions() {
    let mut transactions = table();
    let branch = "z9hG4bKa";
    let elsewhere = "SIP/2.0/UDP 192.0.2.11:5060;branch=z9hG4bKa";
    let other_port = "SIP/2.0/UDP 192.0.2.10:5070;branch=z9hG4bKa";
    for different in [
        request("REGISTER", branch),
        request_by("REGISTER", elsewhere),
        request_by("REGISTER", other_port),
        request("SUBSCRIBE", branch),
        request("CANCEL", branch),
    ] {
        is_new(transactions.receive(at(0), udp(PHONE), &different).unwrap());
    }
    assert_eq!(transactions.len(), (5, 0));
}

#[test]
fn an_ack_is_absorbed_whatever_its_branch() {
    let mut transactions = table();
    let invite =
        is_new(transactions.receive(at(0), udp(PHONE), &request("INVITE", "z9hG4bKa")).unwrap());
    transactions.respond(at(1), invite, Bytes::from_static(b"405"), 405);
    for branch in ["z9hG4bKa", "z9hG4bKb"] {
        let ack = transactions.receive(at(2), udp(PHONE), &request("ACK", branch)).unwrap();
        assert_eq!(repeated(ack), None);
    }
    assert_eq!(transactions.len(), (1, 0));
}

#[test]
fn an_rfc_2543_peer_is_understood() {
    let mut transactions = table();
    let register = request("REGISTER", "1");
    let id = is_new(transactions.receive(at(0), udp(PHONE), &register).unwrap());
    transactions.respond(at(1), id, Bytes::from_static(b"200"), 200);
    let again = repeated(transactions.receive(at(2), udp(PHONE), &register).unwrap());
    assert_eq!(again, Some((udp(PHONE), Bytes::from_static(b"200"))));
    is_new(transactions.receive(at(3), udp(PHONE), &request("SUBSCRIBE", "1")).unwrap());
    let no_branch = request_by("REGISTER", "SIP/2.0/UDP 192.0.2.10:5060");
    is_new(transactions.receive(at(4), udp(PHONE), &no_branch).unwrap());
}

#[test]
fn a_full_table_refuses_new_requests_and_forgets_what_is_done() {
    let mut transactions: Transactions<&str> =
        Transactions::new(Timings::default(), Limits { server: 1, client: 1 });
    let first = request("REGISTER", "z9hG4bKa");
    let id = is_new(transactions.receive(at(0), udp(PHONE), &first).unwrap());
    let second = request("REGISTER", "z9hG4bKb");
    let refused = transactions.receive(at(1), udp(PHONE), &second).unwrap();
    assert!(matches!(refused, Incoming::Refused), "{refused:?}");
    transactions.respond(at(2), id, Bytes::from_static(b"200"), 200);
    assert!(repeated(transactions.receive(at(3), udp(PHONE), &first).unwrap()).is_some());

    send(&mut transactions, at(4), udp(SERVER), "one");
    let two =
        transactions.request(at(5), udp(SERVER), b"z9hG4bKtwo", "OPTIONS", Bytes::new(), "two");
    assert_eq!(two, Err("two"));
    assert_eq!((transactions.len(), transactions.forgotten()), ((1, 1), 0));

    // Both are done now, and make room at once.
    let answer = response(200, "REGISTER", "z9hG4bKone");
    assert!(matches!(transactions.response(at(6), &answer), Matched::Final { .. }));
    send(&mut transactions, at(7), udp(SERVER), "two");
    assert!(matches!(transactions.response(at(8), &answer), Matched::Stray));
    is_new(transactions.receive(at(8), udp(PHONE), &second).unwrap());
    assert_eq!((transactions.len(), transactions.forgotten()), ((1, 1), 2));
    play(&mut transactions, at(60_000));
    assert_eq!(transactions.len(), (0, 0));
}

#[test]
fn an_answer_its_owner_makes_anew_is_not_kept() {
    let mut transactions = table();
    let register = request("REGISTER", "z9hG4bKa");
    let id = is_new(transactions.receive(at(0), udp(PHONE), &register).unwrap());
    assert_eq!(repeated(transactions.receive(at(1), udp(PHONE), &register).unwrap()), None);
    assert_eq!(transactions.respond_unkept(at(2), id), Some(udp(PHONE)));
    assert_eq!(transactions.respond_unkept(at(3), id), None, "it is answered");
    let again = transactions.receive(at(4), udp(PHONE), &register).unwrap();
    assert!(matches!(again, Incoming::Unkept), "{again:?}");
    assert_eq!(transactions.respond(at(5), id, Bytes::new(), 200), None);
    play(&mut transactions, at(60_000));
    assert_eq!(transactions.len(), (0, 0));
}

#[test]
fn a_response_is_not_received_as_a_request_nor_the_other_way_round() {
    let mut transactions = table();
    send(&mut transactions, at(0), udp(SERVER), "one");
    assert!(
        transactions.receive(at(1), udp(PHONE), &response(200, "REGISTER", "z9hG4bKone")).is_err()
    );
    let matched = transactions.response(at(1), &request("REGISTER", "z9hG4bKone"));
    assert!(matches!(matched, Matched::Stray), "{matched:?}");
    assert_eq!(transactions.len(), (0, 1));
}

// The client side.

#[test]
fn timer_e_doubles_up_to_t2_and_timer_f_ends_it_after_64_t1() {
    let mut transactions = table();
    send(&mut transactions, at(0), udp(SERVER), "one");
    let mut expected = retransmissions(
        "one",
        &[500, 1500, 3500, 7500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500],
    );
    expected.push((32_000, "one timed out".to_owned()));
    assert_eq!(play(&mut transactions, at(100_000)), expected);
    assert_eq!((transactions.len(), transactions.next()), ((0, 0), None));
}

#[test]
fn after_a_provisional_response_timer_e_beats_every_t2() {
    let mut transactions = table();
    let id = send(&mut transactions, at(0), udp(SERVER), "one");
    assert_eq!(play(&mut transactions, at(600)), retransmissions("one", &[500]));
    let trying = response(100, "REGISTER", "z9hG4bKone");
    for time in [600, 700] {
        let matched = transactions.response(at(time), &trying);
        assert!(matches!(matched, Matched::Provisional(it) if it == id), "{matched:?}");
    }
    assert_eq!(transactions.context(id), Some(&"one"));
    let mut expected =
        retransmissions("one", &[1500, 5500, 9500, 13_500, 17_500, 21_500, 25_500, 29_500]);
    expected.push((32_000, "one timed out".to_owned()));
    assert_eq!(play(&mut transactions, at(100_000)), expected);
}

#[test]
fn a_final_response_gives_the_context_back_once_and_copies_are_absorbed_until_k() {
    let mut transactions = table();
    let id = send(&mut transactions, at(0), udp(SERVER), "one");
    assert_eq!(play(&mut transactions, at(600)), retransmissions("one", &[500]));
    let ok = response(200, "REGISTER", "z9hG4bKone");
    let matched = transactions.response(at(700), &ok);
    assert!(
        matches!(matched, Matched::Final { context: "one", sent_at } if sent_at == at(0)),
        "{matched:?}"
    );
    assert_eq!(transactions.context(id), None);
    assert_eq!(transactions.cancel(id), None);
    assert!(play(&mut transactions, at(5699)).is_empty());
    for copy in [&ok, &response(100, "REGISTER", "z9hG4bKone")] {
        let matched = transactions.response(at(5699), copy);
        assert!(matches!(matched, Matched::Absorbed), "{matched:?}");
    }
    assert!(play(&mut transactions, at(5700)).is_empty());
    assert_eq!((transactions.len(), transactions.next()), ((0, 0), None));
    let matched = transactions.response(at(5701), &ok);
    assert!(matches!(matched, Matched::Stray), "{matched:?}");
}

#[test]
fn a_reliable_transport_repeats_nothing_and_keeps_nothing() {
    let mut transactions = table();
    send(&mut transactions, at(0), tcp(SERVER), "one");
    send(&mut transactions, at(0), tcp(SERVER), "two");
    let ok = response(200, "REGISTER", "z9hG4bKone");
    assert!(matches!(transactions.response(at(9), &ok), Matched::Final { context: "one", .. }));
    assert_eq!(transactions.len(), (0, 1));
    assert!(matches!(transactions.response(at(9), &ok), Matched::Stray));
    let events = play(&mut transactions, at(100_000));
    assert_eq!(events, [(32_000, "two timed out".to_owned())]);
}

#[test]
fn a_final_response_after_timer_f_is_stray() {
    let mut transactions = table();
    send(&mut transactions, at(0), udp(SERVER), "one");
    play(&mut transactions, at(32_000));
    let matched = transactions.response(at(32_001), &response(200, "REGISTER", "z9hG4bKone"));
    assert!(matches!(matched, Matched::Stray), "{matched:?}");
}

#[test]
fn a_final_response_that_comes_before_a_late_poll_still_counts() {
    let mut transactions = table();
    send(&mut transactions, at(0), udp(SERVER), "one");
    let matched = transactions.response(at(33_000), &response(200, "REGISTER", "z9hG4bKone"));
    assert!(matches!(matched, Matched::Final { context: "one", .. }), "{matched:?}");
    assert!(play(&mut transactions, at(100_000)).is_empty());
}

#[test]
fn a_response_with_another_method_or_a_foreign_branch_does_not_match() {
    let mut transactions = table();
    send(&mut transactions, at(0), udp(SERVER), "one");
    for stray in [
        response(200, "CANCEL", "z9hG4bKone"),
        response(200, "REGISTER", "z9hG4bKtwo"),
        response(200, "REGISTER", "z9hG4bKon"),
        response(200, "REGISTER", "1"),
        response(200, "REGISTER", "one"),
    ] {
        let matched = transactions.response(at(1), &stray);
        assert!(matches!(matched, Matched::Stray), "{stray:?}: {matched:?}");
    }
    assert_eq!(transactions.len(), (0, 1));
}

#[test]
fn two_methods_may_share_a_branch_and_one_method_may_not() {
    let mut transactions = table();
    let mut send = |method, context| {
        transactions.request(at(0), udp(SERVER), b"z9hG4bKa", method, Bytes::new(), context)
    };
    assert!(send("REGISTER", "first").is_ok());
    assert!(send("OPTIONS", "second").is_ok());
    assert_eq!(send("REGISTER", "third"), Err("third"));
    let matched = transactions.response(at(1), &response(200, "OPTIONS", "z9hG4bKa"));
    assert!(matches!(matched, Matched::Final { context: "second", .. }), "{matched:?}");
}

#[test]
fn a_cancelled_transaction_has_no_more_events() {
    let mut transactions = table();
    let id = send(&mut transactions, at(0), udp(SERVER), "one");
    assert_eq!(transactions.cancel(id), Some("one"));
    assert_eq!(transactions.cancel(id), None);
    assert_eq!(transactions.len(), (0, 0));
    assert!(play(&mut transactions, at(100_000)).is_empty());
    let matched = transactions.response(at(1), &response(200, "REGISTER", "z9hG4bKone"));
    assert!(matches!(matched, Matched::Stray), "{matched:?}");
}

#[test]
fn what_waits_at_a_dead_server_is_handed_back_in_order_and_nothing_else() {
    let mut transactions = table();
    let gone = send(&mut transactions, at(0), udp(SERVER), "gone");
    send(&mut transactions, at(0), udp(SERVER), "answered");
    transactions.cancel(gone);
    send(&mut transactions, at(0), tcp(SERVER), "first");
    send(&mut transactions, at(1), udp("192.0.2.21:5060"), "other host");
    send(&mut transactions, at(1), udp("192.0.2.20:5061"), "other port");
    send(&mut transactions, at(2), udp(SERVER), "second");
    transactions.response(at(3), &response(100, "REGISTER", "z9hG4bKsecond"));
    transactions.response(at(3), &response(200, "REGISTER", "z9hG4bKanswered"));
    let remote = SERVER.parse().unwrap();
    assert_eq!(transactions.take_client_by_remote(remote), ["first", "second"]);
    assert!(transactions.take_client_by_remote(remote).is_empty());
    let matched = transactions.response(at(4), &response(200, "REGISTER", "z9hG4bKfirst"));
    assert!(matches!(matched, Matched::Stray), "{matched:?}");
    let matched = transactions.response(at(4), &response(200, "REGISTER", "z9hG4bKanswered"));
    assert!(matches!(matched, Matched::Absorbed), "{matched:?}");
    let events = play(&mut transactions, at(100_000));
    let who: Vec<_> = events.iter().filter(|(_, what)| what.contains("timed")).collect();
    assert_eq!(who.len(), 2, "{events:?}");
    assert!(!events.iter().any(|(_, what)| what == "second"), "{events:?}");
}

// Time.

#[test]
fn a_clock_that_does_not_move_repeats_nothing() {
    let mut transactions = table();
    send(&mut transactions, at(0), udp(SERVER), "one");
    assert!(transactions.poll(at(0)).is_none());
    assert!(matches!(transactions.poll(at(500)), Some(Due::Retransmit { .. })));
    assert!(transactions.poll(at(500)).is_none());
    assert!(transactions.poll(at(0)).is_none(), "nor does one that steps back");
    assert_eq!(transactions.next(), Some(at(1500)));
}

#[test]
fn a_clock_that_jumps_yields_one_retransmission_and_no_burst() {
    let mut transactions = table();
    send(&mut transactions, at(0), udp(SERVER), "one");
    assert!(matches!(transactions.poll(at(20_000)), Some(Due::Retransmit { .. })));
    assert!(transactions.poll(at(20_000)).is_none());
    assert_eq!(transactions.next(), Some(at(21_000)));
    assert!(matches!(transactions.poll(at(50_000)), Some(Due::TimedOut { context: "one" })));
    assert!(transactions.poll(at(50_000)).is_none());
}

#[test]
fn base_times_of_zero_end_everything_at_once() {
    let zero = Duration::ZERO;
    let timings = Timings { t1: zero, t2: zero, t4: zero };
    let mut transactions = Transactions::new(timings, Limits { server: 9, client: 9 });
    send(&mut transactions, at(0), udp(SERVER), "one");
    is_new(transactions.receive(at(0), udp(PHONE), &request("REGISTER", "z9hG4bKa")).unwrap());
    assert_eq!(play(&mut transactions, at(0)), [(0, "one timed out".to_owned())]);
    assert_eq!(transactions.len(), (0, 0));
}

#[test]
fn a_t2_of_zero_does_not_mean_without_pause() {
    let timings = Timings { t2: Duration::ZERO, ..Timings::default() };
    let mut transactions = Transactions::new(timings, Limits { server: 9, client: 9 });
    send(&mut transactions, at(0), udp(SERVER), "one");
    assert_eq!(play(&mut transactions, at(1600)), retransmissions("one", &[500, 1000, 1500]));
}

#[test]
fn what_is_due_together_comes_in_the_order_of_deadlines() {
    let mut transactions = table();
    let gone = send(&mut transactions, at(0), udp(SERVER), "gone");
    transactions.cancel(gone);
    send(&mut transactions, at(20), udp(SERVER), "in the place of the one that is gone");
    send(&mut transactions, at(10), udp(SERVER), "early");
    send(&mut transactions, at(30), udp(SERVER), "late");
    let order = retransmitted(&mut transactions, at(600));
    assert_eq!(order, ["early", "in the place of the one that is gone", "late"]);
}

#[test]
fn what_has_one_deadline_comes_in_the_order_it_was_sent() {
    let mut transactions = table();
    for name in ["b", "a", "c"] {
        send(&mut transactions, at(0), udp(SERVER), name);
    }
    assert_eq!(retransmitted(&mut transactions, at(500)), ["b", "a", "c"]);
}

#[test]
fn short_transactions_do_not_pile_up_wake_ups() {
    let mut transactions = table();
    for millis in 0..1000 {
        let register = request("REGISTER", &format!("z9hG4bK{millis}"));
        let id = is_new(transactions.receive(at(millis), tcp(PHONE), &register).unwrap());
        send(&mut transactions, at(millis + 1), tcp(SERVER), "one");
        transactions.response(at(millis + 1), &response(200, "REGISTER", "z9hG4bKone"));
        transactions.respond(at(millis + 1), id, Bytes::new(), 200);
    }
    let mut wakes = 0;
    while let Some(now) = transactions.next() {
        assert!(transactions.poll(now).is_none());
        wakes += 1;
    }
    assert_eq!(wakes, 2, "one a slot");
}
