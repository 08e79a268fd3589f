//! What holds for every octet string, tried with octets nobody chose.

use std::net::SocketAddr;

use bytes::Bytes;
use proptest::prelude::*;

use crate::sip::build::Response;
use crate::sip::digest::Challenge;
use crate::sip::digest::Credentials;
use crate::sip::edit::Edit;
use crate::sip::fixtures;
use crate::sip::framing::Frame;
use crate::sip::framing::FrameError;
use crate::sip::framing::Framer;
use crate::sip::framing::Limits;
use crate::sip::header::HeaderName;
use crate::sip::message::Message;
use crate::sip::name_addr::ContactValue;
use crate::sip::name_addr::NameAddr;
use crate::sip::outline::Fingerprints;
use crate::sip::outline::Outline;
use crate::sip::outline::Repeated;
use crate::sip::uri::Uri;
use crate::sip::via::Via;

proptest! {
    #[test]
    fn no_octets_make_the_readers_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        read_everything(Bytes::from(bytes.clone()));
        read_value(&bytes);
    }

    #[test]
    fn no_text_of_sip_signs_makes_the_readers_panic(
        text in r#"[a-cA-B0-1 \t\r\n:;,<>"\\@/%?&=*.\[\]\-]{0,60}"#,
    ) {
        read_value(text.as_bytes());
        read_everything(Bytes::from(format!("A {text} SIP/2.0\r\nVia: {text}\r\n\r\n")));
        read_everything(Bytes::from(format!("A sip:b SIP/2.0\r\n{text}\r\n\r\n")));
    }

    #[test]
    fn no_change_to_a_message_makes_the_readers_panic(message in mutated()) {
        read_everything(Bytes::from(message));
    }

    #[test]
    fn a_message_that_is_read_stays_itself(message in mutated()) {
        if let Ok(read) = Message::parse(Bytes::from(message)) {
            prop_assert_eq!(&Edit::of(&read).finish(), read.bytes());
            let again = Message::parse(read.bytes().clone());
            prop_assert_eq!(again.map(|again| again.bytes().clone()), Ok(read.bytes().clone()));
        }
    }

    #[test]
    fn frames_are_the_same_however_the_stream_is_cut(
        stream in stream(),
        cuts in prop::collection::vec(1usize..80, 0..60),
    ) {
        prop_assert_eq!(frames(&stream, &cuts), frames(&stream, &[]));
    }

    #[test]
    fn what_is_framed_where_it_landed_is_the_same(
        stream in stream(),
        cuts in prop::collection::vec(1usize..300, 0..30),
    ) {
        let limits = Limits { message: 1000, headers: 900 };
        let (mut pushed, mut landed) = (Framer::new(limits), Framer::new(limits));
        let mut rest = &stream[..];
        for cut in cuts.into_iter().chain([usize::MAX]) {
            let (piece, after) = rest.split_at(cut.min(rest.len()));
            rest = after;
            pushed.push(piece);
            let mut piece = piece;
            loop {
                let expected = pushed.next();
                prop_assert_eq!(landed.next_landed(&mut piece, Bytes::copy_from_slice), expected.clone());
                if !matches!(expected, Ok(Some(_))) {
                    break;
                }
            }
            prop_assert_eq!(landed.buffered(), pushed.buffered());
            prop_assert!(piece.is_empty() || landed.next_landed(&mut piece, Bytes::copy_from_slice).is_err());
        }
    }

    /// What the end of the header section and Content-Length say to who frames and to who reads.
    #[test]
    fn a_frame_is_read_as_the_message_it_was_cut_to(message in mutated()) {
        let mut framer = Framer::new(Limits { message: 2000, headers: 1900 });
        framer.push(&message);
        if let Ok(Some(Frame::Message(frame))) = framer.next()
            && let Ok(read) = Message::parse(frame.clone())
        {
            prop_assert_eq!(read.bytes(), &frame);
        }
    }

    #[test]
    fn a_framer_keeps_no_more_than_one_message(stream in stream()) {
        let limits = Limits { message: 700, headers: 600 };
        let mut framer = Framer::new(limits);
        for octet in stream {
            framer.push(&[octet]);
            while let Ok(Some(_)) = framer.next() {}
            prop_assert!(framer.buffered() <= limits.message);
        }
    }

    #[test]
    fn an_edit_leaves_other_headers_octet_by_octet(
        message in mutated(),
        name in prop::sample::select(EDITED.to_vec()),
        value in prop::collection::vec(any::<u8>(), 0..30),
        operation in 0..5,
    ) {
        let Ok(read) = Message::parse(Bytes::from(message)) else { return Ok(()) };
        let edit = Edit::of(&read);
        let edited = match operation {
            0 => edit.push_top(name, &value),
            1 => edit.pop_top(name),
            2 => edit.replace_top(name, &value),
            3 => edit.remove(name),
            _ => edit.set(name, &value),
        };
        let bytes = edited.finish();
        prop_assert_eq!(other_lines(&bytes, name), other_lines(read.bytes(), name));
        if name != HeaderName::ContentLength && read.count(name) < 100 {
            let again = Message::parse(bytes).map_err(|error| TestCaseError::fail(error.to_string()));
            prop_assert_eq!(again?.body().to_vec(), read.body().to_vec());
        }
    }

    #[test]
    fn a_response_to_whatever_was_read_can_be_read(
        message in mutated(),
        value in prop::collection::vec(any::<u8>(), 0..30),
    ) {
        let bytes = Bytes::from(message);
        let read = Message::parse(bytes.clone()).ok().or_else(|| Message::parse_for_refusal(bytes));
        let Some(request) = read.filter(|read| read.check_request().is_ok()) else { return Ok(()) };
        let response = Response::to(&request, 200)
            .received(SocketAddr::from(([192, 0, 2, 1], 5060)))
            .to_tag("tag")
            .header(HeaderName::Contact, value)
            .finish();
        let answer = Message::parse(response);
        prop_assert_eq!(answer.and_then(|answer| answer.check_response()), Ok(()));
    }

    #[test]
    fn what_has_the_fingerprint_of_something_read_reads_the_same(
        message in mutated_register(),
        via in prop_oneof![
            r"SIP/2\.0/UDP [a-z.:0-9]{1,20}(;[a-z]{1,6}(=[a-zA-Z0-9]{1,9})?){0,3}",
            r"[ -~\t\r\n\x00]{0,40}",
        ],
        number in prop_oneof![r"[0-9]{1,11}", r"[ -~\t\r\n]{0,6}"],
    ) {
        let fingerprints = Fingerprints::of(7);
        let Ok(read) = Message::parse(Bytes::from(message)) else { return Ok(()) };
        let Some(known) = Outline::of(read.bytes(), &fingerprints) else { return Ok(()) };
        prop_assert_eq!(&Repeated::of(&read), &known.repeated);
        // The door refuses both, and remembers nothing of what it refuses.
        if read.check_request().is_err() || read.has_control_octets() {
            return Ok(());
        }
        prop_assert_eq!(read.cseq().map(|cseq| cseq.number), Ok(known.cseq));

        let other = with_via_and_number(read.bytes(), &via, &number);
        let fingerprint = Outline::of(&other, &fingerprints).map(|it| it.fingerprint);
        if fingerprint != Some(known.fingerprint) {
            return Ok(());
        }
        let again = Message::parse(Bytes::from(other.clone()));
        let again = again.map_err(|error| TestCaseError::fail(error.to_string()))?;
        let outline = Outline::of(again.bytes(), &fingerprints).unwrap();
        prop_assert_eq!(again.bytes(), &other);
        prop_assert_eq!(&Repeated::of(&again), &outline.repeated);
        prop_assert_eq!(again.check_request().is_ok(), outline.repeated.top_via().is_ok());
        prop_assert_eq!(again.has_control_octets(), false);
        prop_assert_eq!(again.body(), read.body());
        prop_assert_eq!(again.start(), read.start());
        let rest = |bytes: &[u8]| {
            let lines = other_lines(bytes, HeaderName::Via);
            lines.into_iter().filter(|line| !line.to_ascii_lowercase().starts_with(b"cseq")).collect::<Vec<_>>()
        };
        prop_assert_eq!(rest(&other), rest(read.bytes()));
    }

    #[test]
    fn equivalence_is_reflexive_and_symmetric(a in uri(), b in uri()) {
        if let (Ok(a), Ok(b)) = (Uri::parse(a.as_bytes()), Uri::parse(b.as_bytes())) {
            prop_assert!(a.equivalent(&a));
            prop_assert_eq!(a.equivalent(&b), b.equivalent(&a));
        }
    }

    #[test]
    fn equivalent_uris_have_one_canonical_form_which_is_its_own(a in uri(), b in uri()) {
        let (Ok(a), Ok(b)) = (Uri::parse(a.as_bytes()), Uri::parse(b.as_bytes())) else {
            return Ok(());
        };
        let canonical = a.canonical_aor().unwrap();
        if a.equivalent(&b) {
            prop_assert_eq!(&canonical, &b.canonical_aor().unwrap());
        }
        let again = Uri::parse(canonical.as_bytes()).and_then(|uri| uri.canonical_aor());
        prop_assert_eq!(again, Ok(canonical));
    }
}

const EDITED: [HeaderName; 8] = [
    HeaderName::Via,
    HeaderName::To,
    HeaderName::Contact,
    HeaderName::Path,
    HeaderName::Route,
    HeaderName::Supported,
    HeaderName::Date,
    HeaderName::Authorization,
];

/// A fixture with some octets changed, left out, doubled or put in.
fn mutated() -> impl Strategy<Value = Vec<u8>> {
    let sign = prop::sample::select(b"\r\n\t ,;:<>\"\\@=%[]*0\xff".to_vec());
    let mutation = (any::<prop::sample::Index>(), 0..5u8, prop_oneof![sign, any::<u8>()]);
    let mutations = prop::collection::vec(mutation, 0..6);
    (prop::sample::select(fixtures::ALL), mutations).prop_map(|(fixture, mutations)| {
        let mut bytes = fixture.to_vec();
        for (index, kind, byte) in mutations {
            let at = index.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => drop(bytes.remove(at)),
                2 => bytes.insert(at, byte),
                3 => bytes.insert(at, bytes[at]),
                _ => drop(bytes.splice(at..at, *b"\r\n")),
            }
        }
        bytes
    })
}

/// A REGISTER as it was or as it should not be.
fn mutated_register() -> impl Strategy<Value = Vec<u8>> {
    let is_register = |it: &Vec<u8>| it.starts_with(b"REGISTER");
    let clean = prop::sample::select(fixtures::ALL).prop_map(<[u8]>::to_vec);
    prop_oneof![clean, mutated()].prop_filter("no REGISTER", is_register)
}

/// The same message with another value of its first Via and another number in its CSeq.
fn with_via_and_number(bytes: &[u8], via: &str, number: &str) -> Vec<u8> {
    let text: String = bytes.iter().map(|byte| char::from(*byte)).collect();
    let lines = text.split_inclusive("\r\n").map(|line| {
        let Some((name, value)) = line.split_once(':') else { return line.to_owned() };
        let known = HeaderName::recognise(name.as_bytes());
        if known == HeaderName::Via {
            format!("{name}: {via}\r\n")
        } else if known == HeaderName::CSeq {
            let trimmed = value.trim_start();
            let rest = trimmed.trim_start_matches(|it: char| it.is_ascii_digit());
            format!("{name}:{}{number}{rest}", &value[..value.len() - trimmed.len()])
        } else {
            line.to_owned()
        }
    });
    lines.collect::<String>().chars().map(|it| it as u8).collect()
}

/// Messages, keep-alives and now and then something else, one behind the other.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let keep_alive = prop::sample::select(vec![&b"\r\n"[..], b"\r\n\r\n", b"\r\n\r\n\r\n"]);
    let piece = prop_oneof![
        4 => prop::sample::select(fixtures::ALL).prop_map(<[u8]>::to_vec),
        4 => keep_alive.prop_map(<[u8]>::to_vec),
        1 => mutated(),
        1 => prop::collection::vec(any::<u8>(), 0..20),
    ];
    prop::collection::vec(piece, 0..6).prop_map(|pieces| pieces.concat())
}

fn uri() -> impl Strategy<Value = String> {
    r"(sip|SIPS?):((a|A|%61|\+|%2[bB]|;|%3B)?[a-b]@)?(h|H|\[::1\]|\[0::1\]|192\.0\.2\.1)(:506[01])?(;(lr|x=1|X=2|transport=(udp|UDP))){0,2}(\?a=b)?"
}

/// Messages and pings of a stream that comes in pieces of these lengths, and how it ended. Pongs
/// are left out: a ping that comes in halves is told as a pong first.
fn frames(stream: &[u8], cuts: &[usize]) -> (Vec<Frame>, Option<FrameError>) {
    let mut framer = Framer::new(Limits { message: 1000, headers: 900 });
    let mut frames = Vec::new();
    let mut rest = stream;
    let mut cuts = cuts.iter();
    while !rest.is_empty() {
        let cut = cuts.next().map_or(rest.len(), |cut| rest.len().min(*cut));
        let (piece, after) = rest.split_at(cut);
        rest = after;
        framer.push(piece);
        loop {
            match framer.next() {
                Ok(Some(Frame::Pong)) => {}
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

/// The lines of all other names and the start line, as written.
fn other_lines(bytes: &[u8], name: HeaderName) -> Vec<Vec<u8>> {
    let head_len = memchr::memmem::find(bytes, b"\r\n\r\n").unwrap();
    let unfolded = String::from_utf8_lossy(&bytes[..head_len])
        .replace("\r\n ", "\0 ")
        .replace("\r\n\t", "\0\t");
    unfolded
        .split("\r\n")
        .filter(|line| {
            let written = line.split(':').next().unwrap_or_default().trim_end();
            HeaderName::recognise(written.as_bytes()) != name
        })
        .map(|line| line.as_bytes().to_vec())
        .collect()
}

fn read_everything(bytes: Bytes) {
    let strict = Message::parse(bytes.clone()).ok();
    for message in strict.into_iter().chain(Message::parse_for_refusal(bytes)) {
        let _ = (message.check_request(), message.check_response(), message.contacts());
        let _ = (message.expires(), message.max_forwards(), message.body(), message.start());
        let _ = (message.header_named("X-Own"), format!("{message:?}"));
        for name in EDITED {
            message.values(name).for_each(read_value);
        }
        let source = SocketAddr::from(([192, 0, 2, 1], 5060));
        let edit = Edit::of(&message).received(source).max_forwards_minus_one();
        let edit = EDITED.into_iter().fold(edit, Edit::pop_top).ensure_content_length();
        let _ = (edit.finish(), Response::to(&message, 400).received(source).to_tag("t").finish());
    }
}

fn read_value(value: &[u8]) {
    if let Ok(address) = NameAddr::parse(value) {
        let _ = (address.tag(), address.params.iter().count());
        let _ = address.parsed_uri().map(|uri| (uri.canonical_aor(), uri.equivalent(&uri)));
    }
    let _ = Uri::parse(value).map(|uri| (uri.canonical_aor(), uri.equivalent(&uri)));
    let _ = Via::parse(value).map(|via| (via.branch(), via.rport(), via.received()));
    let _ = (ContactValue::parse(value), Challenge::parse(value), Credentials::parse(value));
}
