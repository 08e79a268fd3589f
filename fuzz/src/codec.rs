//! Any octets: the readers do not panic, what is written can be read again, and an edit leaves
//! alone what it was not asked to change.

use std::net::SocketAddr;

use bytes::Bytes;
use frontdoor::sip::digest::{Challenge, Credentials};
use frontdoor::sip::{
    ContactValue, Edit, Fingerprints, HeaderName, Message, NameAddr, Outline, Repeated, Request,
    Response, Uri, Via,
};

const NAMES: [HeaderName; 12] = [
    HeaderName::Via,
    HeaderName::From,
    HeaderName::To,
    HeaderName::CallId,
    HeaderName::CSeq,
    HeaderName::Contact,
    HeaderName::Path,
    HeaderName::Route,
    HeaderName::Supported,
    HeaderName::Expires,
    HeaderName::Date,
    HeaderName::Authorization,
];

/// Reads, edits and answers.
pub fn run(data: &[u8]) {
    read_value(data);
    let bytes = Bytes::copy_from_slice(data);
    let strict = Message::parse(bytes.clone());
    if let Ok(message) = &strict {
        assert_eq!(Edit::of(message).finish(), message.bytes(), "nothing was changed");
        let again = Message::parse(message.bytes().clone()).expect("what was read can be read");
        assert_eq!(again.bytes(), message.bytes());
        edit(message, data);
        outline(message, data);
    }
    for message in strict.into_iter().chain(Message::parse_for_refusal(bytes)) {
        read(&message);
        answer(&message);
    }
    write(data);
}

fn read(message: &Message) {
    let _ = (message.check_request(), message.check_response(), message.contacts());
    let _ = (message.expires(), message.max_forwards(), message.cseq(), message.call_id());
    let _ = (message.start(), message.header_named("X-Own"), format!("{message:?}"));
    for name in NAMES {
        assert!(message.lines(name).count() == message.count(name));
        message.values(name).for_each(read_value);
    }
}

fn read_value(value: &[u8]) {
    if let Ok(address) = NameAddr::parse(value) {
        let _ = (address.tag(), address.params.iter().count());
        let _ = address.parsed_uri().map(|uri| uri.equivalent(&uri));
    }
    if let Ok(uri) = Uri::parse(value) {
        assert!(uri.equivalent(&uri), "equivalence is reflexive");
        if let Ok(canonical) = uri.canonical_aor() {
            let again = Uri::parse(canonical.as_bytes()).and_then(|uri| uri.canonical_aor());
            assert_eq!(again, Ok(canonical), "a canonical form is its own");
        }
    }
    let _ = Via::parse(value).map(|via| (via.branch(), via.rport(), via.received()));
    let _ = (ContactValue::parse(value), Challenge::parse(value), Credentials::parse(value));
}

/// What is seen of a REGISTER without reading it is what is read; and what has its fingerprint,
/// whatever its first Via holds, reads the same.
fn outline(message: &Message, data: &[u8]) {
    let fingerprints = Fingerprints::of(7);
    let bytes = message.bytes();
    let Some(outline) = Outline::of(bytes, &fingerprints) else { return };
    assert!(message.status().is_none());
    assert_eq!(outline.repeated, Repeated::of(message));
    if message.check_request().is_err() {
        return;
    }
    assert_eq!(message.cseq().map(|cseq| cseq.number), Ok(outline.cseq));
    let via = message.header(HeaderName::Via).unwrap_or_default();
    let at = via.as_ptr() as usize - bytes.as_ptr() as usize;
    let value = data.get(data.len().saturating_sub(data.len() % 32)..).unwrap_or_default();
    let other = [&bytes[..at], value, &bytes[at + via.len()..]].concat();
    let Some(again) = Outline::of(&other, &fingerprints) else { return };
    if again.fingerprint == outline.fingerprint {
        let read = Message::parse(Bytes::from(other.clone())).expect("it reads the same");
        assert_eq!(read.bytes(), &other);
        let again = Outline::of(read.bytes(), &fingerprints).expect("it has one");
        assert_eq!(Repeated::of(&read), again.repeated);
        assert_eq!(read.check_request().is_ok(), again.repeated.top_via().is_ok());
    }
}

/// Every change of one header, chosen by the octets themselves.
fn edit(message: &Message, data: &[u8]) {
    let choice =
        data.iter().fold(data.len(), |sum, byte| sum.wrapping_mul(31) + usize::from(*byte));
    let name = NAMES[choice % NAMES.len()];
    let value = data.get(data.len().saturating_sub(choice % 48)..).unwrap_or_default();
    let before = other_lines(message.bytes(), message.body().len(), name);
    for operation in 0..5 {
        let edit = Edit::of(message);
        let edited = match operation {
            0 => edit.push_top(name, value),
            1 => edit.pop_top(name),
            2 => edit.replace_top(name, value),
            3 => edit.remove(name),
            _ => edit.set(name, value),
        };
        let bytes = edited.finish();
        assert_eq!(other_lines(&bytes, message.body().len(), name), before, "{operation} {name:?}");
        if message.count(name) < 100 && before.len() < 120 && bytes.len() < 60_000 {
            let again = Message::parse(bytes).expect("an edited message can be read");
            assert_eq!(again.body(), message.body());
        }
    }
    let source = SocketAddr::from(([192, 0, 2, 1], 5060));
    let edit = Edit::of(message).received(source).max_forwards_minus_one().request_uri(value);
    let bytes = edit.ensure_content_length().finish();
    if bytes.len() < 60_000 && before.len() < 120 {
        let again = Message::parse(bytes).map(|again| again.body().to_vec());
        let uri_is_empty = message.uri().is_some() && value.is_empty();
        assert!(uri_is_empty || again.as_deref() == Ok(message.body()), "{again:?}");
    }
}

/// The start line and the lines of all other names, as written, in order.
fn other_lines(bytes: &[u8], body_len: usize, name: HeaderName) -> Vec<Vec<u8>> {
    let head = &bytes[..bytes.len() - body_len];
    let mut lines: Vec<Vec<u8>> = Vec::new();
    let mut rest = head;
    while let Some(at) = rest.windows(2).position(|pair| pair == b"\r\n") {
        let (line, after) = rest.split_at(at + 2);
        let is_folded = line.first().is_some_and(|byte| b" \t".contains(byte));
        match lines.last_mut() {
            Some(last) if is_folded => last.extend_from_slice(line),
            _ => lines.push(line.to_vec()),
        }
        rest = after;
    }
    let start = lines.remove(0);
    lines.retain(|line| {
        let end = line.iter().position(|byte| b": \t".contains(byte)).unwrap_or(line.len());
        HeaderName::recognise(&line[..end]) != name
    });
    lines.insert(0, start);
    lines
}

/// An answer to whatever was read can be read, and has as many Vias.
fn answer(message: &Message) {
    let source = SocketAddr::from(([192, 0, 2, 1], 5060));
    let response = Response::to(message, 400).received(source).to_tag("t").finish();
    if response.len() > 60_000 {
        return;
    }
    let response = Message::parse(response).expect("an answer can be read");
    assert_eq!(response.status(), Some(400));
    assert_eq!(response.count(HeaderName::Via), message.count(HeaderName::Via));
    if message.check_request().is_ok() {
        assert_eq!(response.check_response(), Ok(()));
    }
}

/// No value ends its line, none starts another one.
fn write(value: &[u8]) {
    if value.len() > 20_000 {
        return;
    }
    let uri = [b"sip:", value].concat();
    let request = Request::new("OPTIONS", &uri)
        .header(HeaderName::Contact, value)
        .named("X-Own", value)
        .header(HeaderName::CallId, "1")
        .finish();
    let request = Message::parse(request).expect("what is written can be read");
    assert_eq!(request.method(), Some("OPTIONS"));
    assert_eq!(request.header(HeaderName::CallId), Some(&b"1"[..]));
    let names = NAMES.iter().filter(|name| request.count(**name) > 0).count();
    assert_eq!((names, request.body()), (2, &b""[..]), "two headers of these were written");
}
