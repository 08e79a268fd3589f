//! Each message reaches a door: by datagram and by stream from a phone, and from a server.

use std::net::SocketAddr;

use bytes::Bytes;
use frontdoor::cluster::BindingAddress;
use frontdoor::door::{Auth, Listener, Side, Stats};
use frontdoor::sip::framing::{Frame, Framer, Limits};
use frontdoor::sip::{ConnectionId, Flow, HeaderName, ListenerId, Message, NameAddr, Transport};

use crate::desk::{Ask, Desk, PHONES, SERVERS, contacts, header, phone, plan, text};
use crate::torture::table::MESSAGES;
use crate::torture::{Fate, datagram};
use crate::world::server_addr;

/// A listener for streams, behind those every desk has.
const STREAMS: ListenerId = ListenerId(3);

#[test]
fn the_door_does_with_each_what_the_table_says() {
    let mut wrong = Vec::new();
    for message in MESSAGES {
        let seen = fate(PHONES, phone(1), Transport::Udp, datagram(message.file));
        if seen != Ok(message.phone) {
            wrong.push(format!("{}: {seen:?}, not {:?}", message.file, message.phone));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn the_same_message_by_a_stream_has_the_same_fate() {
    let mut framed = 0;
    for message in MESSAGES {
        let mut framer = Framer::new(Limits::default());
        framer.push(&datagram(message.file));
        let Ok(Some(Frame::Message(frame))) = framer.next() else { continue };
        framed += 1;
        let seen = fate(STREAMS, phone(1), Transport::Tcp, frame);
        assert_eq!(seen, Ok(message.phone), "{}", message.file);
    }
    assert_eq!(framed, 55, "all but those whose stream fails or waits");
}

#[test]
fn from_a_server_each_is_judged_as_a_request_along_a_path() {
    let mut wrong = Vec::new();
    for message in MESSAGES {
        let seen = fate(SERVERS, server_addr(0), Transport::Udp, datagram(message.file));
        if seen != Ok(message.server) {
            wrong.push(format!("{}: {seen:?}, not {:?}", message.file, message.server));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// Whatever came before, a good phone registers at once.
#[test]
fn none_of_them_leaves_the_door_worse_than_before() {
    let mut desk = open();
    for message in MESSAGES {
        desk.deliver(PHONES, phone(1), datagram(message.file));
        desk.deliver(SERVERS, server_addr(0), datagram(message.file));
    }
    let ask = Ask::register("good").at(phone(2)).contact("<sip:good@198.51.100.2>");
    assert_eq!(desk.status(&ask), 200);
}

/// RFC 4475 §3.3.12 to §3.3.14: what was registered is told so again when asked.
#[test]
fn a_later_query_tells_the_contacts_as_they_were_registered() {
    for message in MESSAGES {
        let Fate::Registered(expected) = message.phone else { continue };
        let mut desk = open();
        let bytes = datagram(message.file);
        let register = Message::parse(bytes.clone()).unwrap();
        desk.deliver(PHONES, phone(1), bytes);
        let aor = text(register.to().unwrap().uri).to_owned();
        let query = Ask::register("asks").at(phone(1)).set("To", &format!("<{aor}>"));
        let answer = desk.answer(&query);
        assert_eq!(answer.status(), Some(200), "{}", message.file);
        let told: Vec<String> = contacts(&answer).into_keys().collect();
        assert_eq!(sorted(told), sorted(strings(expected)), "{}", message.file);
    }
}

/// RFC 4475 §3.1.1.4: the null in the user part ends nothing.
#[test]
fn an_escaped_null_does_not_shorten_the_address_of_record() {
    let mut desk = open();
    desk.deliver(PHONES, phone(1), datagram("rfc4475/escnull"));
    let whole = Ask::register("a").at(phone(1)).set("To", "<sip:null-%00-null@example.com>");
    assert_eq!(contacts(&desk.answer(&whole)).len(), 2);
    let short = Ask::register("b").at(phone(1)).set("To", "<sip:null-@example.com>");
    assert_eq!(contacts(&desk.answer(&short)).len(), 0);
}

/// RFC 5118 §4.6 announces 17 octets more than its body has with CRLF; put right, it is read.
#[test]
fn with_its_length_put_right_the_session_with_addresses_of_ipv6_is_read() {
    let wrong = datagram("rfc5118/ipv6-in-sdp");
    let right = text(&wrong).replace("Content-Length: 268", "Content-Length: 251");
    let seen = fate(PHONES, phone(1), Transport::Udp, right.into());
    assert_eq!(seen, Ok(Fate::Answered(405)));
}

/// RFC 4475 §3.3.7: who does not ask for credentials itself passes them on as they are.
#[test]
fn credentials_of_an_unknown_scheme_reach_the_server_unchanged() {
    let mut plan = plan(1);
    plan.settings.sip.auth = Auth::Passthrough;
    let mut desk = plan.open();
    desk.deliver(PHONES, phone(1), datagram("rfc4475/regaut01"));
    let registers = desk.take_registers();
    assert_eq!(registers.len(), 1);
    assert_eq!(
        header(&registers[0], HeaderName::Authorization),
        "NoOneKnowsThisScheme opaque-data=here"
    );
}

/// RFC 4475 §3.3.11, for what is not answered by whoever gets it last.
#[test]
fn a_register_that_may_go_no_further_is_refused_with_483() {
    let options = datagram("rfc4475/zeromf");
    let register = text(&options).replace("OPTIONS", "REGISTER");
    let seen = fate(PHONES, phone(1), Transport::Udp, register.into());
    assert_eq!(seen, Ok(Fate::Answered(483)));
}

/// RFC 4475 §3.2.1: a branch that is the cookie alone makes no two requests one.
#[test]
fn registers_with_the_same_empty_branch_are_told_apart() {
    let mut desk = open();
    for user in ["one", "two"] {
        let via = "SIP/2.0/UDP 198.51.100.1;branch=z9hG4bK";
        let ask = Ask::register(user).contact(&format!("<sip:{user}@198.51.100.1>"));
        let answer = desk.answer(&ask.set("Via", via));
        assert_eq!(answer.status(), Some(200));
        assert_eq!(contacts(&answer).len(), 1);
    }
}

/// RFC 4475 §3.3.5: which extensions are not known stands in the answer.
#[test]
fn a_420_lists_what_is_not_supported() {
    let mut desk = open();
    desk.deliver(PHONES, phone(1), datagram("rfc4475/bext01"));
    let (_, answer) = desk.inbox.pop().unwrap();
    assert_eq!(
        header(&answer, HeaderName::Unsupported),
        "nothingSupportsThis, nothingSupportsThisEither, \
         noProxiesSupportThis, norDoAnyProxiesSupportThis"
    );
}

fn open() -> Desk {
    let mut plan = plan(1).binding_address(BindingAddress::Path);
    plan.settings.listeners.push(Listener {
        name: "streams".into(),
        transport: Transport::Tcp,
        side: Side::Phones,
        advertised: "192.0.2.1:5060".into(),
        ipv6: false,
    });
    plan.open()
}

/// Lets one message reach a fresh door, and says what became of it; an error if the door did
/// anything that no fate allows.
fn fate(
    listener: ListenerId,
    from: SocketAddr,
    transport: Transport,
    bytes: Bytes,
) -> Result<Fate, String> {
    let mut desk = open();
    let before = *desk.door.stats();
    let connection = if transport.is_reliable() { ConnectionId(7) } else { ConnectionId::NONE };
    desk.deliver_by(Flow { listener, transport, remote: from, connection }, bytes.clone());
    let after = *desk.door.stats();
    let mut answers = std::mem::take(&mut desk.inbox);
    answers.append(&mut desk.answers_to_servers);
    if answers.len() > 1 {
        return Err(format!("{} answers", answers.len()));
    }
    let registers = desk.take_registers();
    let Some((to, answer)) = answers.pop() else {
        return dropped(&before, &after).ok_or_else(|| "dropped without a counter".into());
    };
    if to != from {
        return Err(format!("answered to {to}"));
    }
    check_answer(&bytes, &answer)?;
    if let Some(drop) = dropped(&before, &after) {
        return Err(format!("answered and counted as {drop:?}"));
    }
    if registers.is_empty() {
        return Ok(Fate::Answered(answer.status().unwrap()));
    }
    // The row itself is what is compared: a registration is only its own if all contacts agree.
    let asked = MESSAGES.iter().find_map(|message| match message.phone {
        Fate::Registered(contacts) if text_of(&registers) == sorted(strings(contacts)) => {
            Some(contacts)
        }
        Fate::Answered(_) | Fate::Registered(_) | Fate::Stray | Fate::Malformed => None,
    });
    let told = sorted(contacts(&answer).into_keys().collect());
    match asked {
        Some(asked) if told == sorted(strings(asked)) && answer.status() == Some(200) => {
            Ok(Fate::Registered(asked))
        }
        _ => Err(format!("{:?} reached the server, {told:?} was told", text_of(&registers))),
    }
}

fn dropped(before: &Stats, after: &Stats) -> Option<Fate> {
    let malformed = after.dropped_malformed - before.dropped_malformed;
    let stray = after.dropped_stray - before.dropped_stray;
    match (malformed, stray) {
        (1, 0) => Some(Fate::Malformed),
        (0, 1) => Some(Fate::Stray),
        _ => None,
    }
}

/// An answer repeats what it must (RFC 3261 §8.2.6), whatever stood in the request.
fn check_answer(request: &Bytes, answer: &Message) -> Result<(), String> {
    let request = Message::parse(request.clone())
        .ok()
        .or_else(|| Message::parse_for_refusal(request.clone()))
        .ok_or("an answer to what cannot be answered")?;
    if request.count(HeaderName::Via) != answer.count(HeaderName::Via) {
        return Err("the Vias are not repeated".into());
    }
    for name in [HeaderName::From, HeaderName::CallId, HeaderName::CSeq] {
        let spaces = |message: &Message| message.header(name).map(unfolded);
        if spaces(&request) != spaces(answer) {
            return Err(format!("{} is not repeated", name.as_str()));
        }
    }
    let said = request.header(HeaderName::To).map(unfolded).unwrap_or_default();
    if !answer.header(HeaderName::To).map(unfolded).unwrap_or_default().starts_with(&said) {
        return Err("To is not repeated".into());
    }
    match (answer.status(), answer.check_response()) {
        (Some(200), Err(fault)) => Err(format!("the answer is broken: {fault}")),
        _ => Ok(()),
    }
}

fn unfolded(value: &[u8]) -> Vec<u8> {
    value.iter().map(|&byte| if b"\r\n".contains(&byte) { b' ' } else { byte }).collect()
}

/// The contacts of REGISTERs at a server, with their parameters and without the expiry.
fn text_of(registers: &[Message]) -> Vec<String> {
    let contact = |register: &Message| {
        let value = register.header(HeaderName::Contact).expect("a contact");
        let address = NameAddr::parse(value).unwrap();
        let expires = format!(";expires={}", text(address.params.get("expires").unwrap()));
        text(value).replace(&expires, "")
    };
    sorted(registers.iter().map(contact).collect())
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|&text| text.to_owned()).collect()
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}
