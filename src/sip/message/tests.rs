use std::net::IpAddr;

use super::*;
use crate::sip::fixtures;
use crate::sip::fixtures::message;
use crate::sip::uri::Host;

fn parse(text: &str) -> Result<Message, ParseError> {
    Message::parse(Bytes::from(text.replace('\n', "\r\n")))
}

/// A request that is in order, with a line put in and one left out.
fn request(without: &str, with: &str) -> Result<Message, ParseError> {
    let mut text = String::from("REGISTER sip:example.com SIP/2.0\n");
    for line in [
        "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1",
        "From: <sip:a@example.com>;tag=1",
        "To: <sip:a@example.com>",
        "Call-ID: c1",
        "CSeq: 1 REGISTER",
    ] {
        if without.is_empty() || !line.starts_with(without) {
            text.push_str(line);
            text.push('\n');
        }
    }
    text.push_str(with);
    parse(&(text + "\n"))
}

fn addresses(message: &Message) -> Vec<NameAddr<'_>> {
    message.contacts().unwrap().into_iter().filter_map(|contact| contact.address()).collect()
}

#[track_caller]
fn only_contact(message: &Message) -> NameAddr<'_> {
    let all = addresses(message);
    assert_eq!(all.len(), 1);
    all[0]
}

fn texts<'m>(values: impl Iterator<Item = &'m [u8]>) -> Vec<String> {
    values.map(|value| value.escape_ascii().to_string()).collect()
}

#[test]
fn every_fixture_is_in_order() {
    for bytes in fixtures::ALL {
        let message = message(bytes);
        let checked = match message.start() {
            Start::Request { .. } => message.check_request(),
            Start::Response { .. } => message.check_response(),
        };
        assert_eq!(checked, Ok(()), "{message:?}");
        assert_eq!(message.bytes(), bytes);
    }
}

#[test]
fn a_plain_register_is_read() {
    let message = message(fixtures::REGISTER_UDP);
    assert_eq!(message.method(), Some("REGISTER"));
    assert_eq!(message.uri(), Some(&b"sip:example.com"[..]));
    assert_eq!(message.status(), None);
    assert_eq!(message.top_via().unwrap().branch(), Some(&b"z9hG4bK74b76"[..]));
    assert_eq!(message.from().unwrap().tag(), Some(&b"456248"[..]));
    assert_eq!(message.to().unwrap().tag(), None);
    assert_eq!(message.call_id(), Ok(&b"843817637684230@998sdasdh09"[..]));
    assert_eq!(message.cseq(), Ok(CSeq { number: 1826, method: "REGISTER" }));
    assert_eq!(message.max_forwards(), Ok(Some(70)));
    assert_eq!(message.expires(), Some(Ok(7200)));
    assert_eq!(message.header_named("user-agent"), Some(&b"Desk Phone/4.2"[..]));
    assert_eq!(texts(message.values(HeaderName::Allow)).len(), 6);
    assert_eq!(message.body(), b"");
}

#[test]
fn compact_names_folding_and_lists_are_read() {
    let message = message(fixtures::REGISTER_COMPACT_FOLDED);
    let vias: Vec<_> = message.values(HeaderName::Via).flat_map(Via::parse).collect();
    assert_eq!(vias.len(), 2);
    let (first, second) = (vias[0], vias[1]);
    assert_eq!((first.host, first.port), (&b"first.example.com"[..], Some(4000)));
    assert_eq!(first.params.get("maddr"), Some(&b"224.2.0.1"[..]));
    assert_eq!((second.transport, second.branch()), (&b"TCP"[..], Some(&b"z9hG4bK30239"[..])));
    assert_eq!(message.count(HeaderName::Via), 1);
    assert_eq!(message.top_via().unwrap().branch(), Some(&b"z9hG4bKa7c6a8dlze.1"[..]));
    assert_eq!(message.from().unwrap().uri, b"sip:jdrosen@example.com");
    assert_eq!(message.from().unwrap().tag(), Some(&b"98asjd8"[..]));
    assert_eq!(message.cseq(), Ok(CSeq { number: 9, method: "REGISTER" }));
    assert_eq!(message.max_forwards(), Ok(Some(68)));
    assert_eq!(texts(message.values(HeaderName::Supported)), ["path", "outbound"]);
    assert_eq!(message.header_named("unknownheaderwithunusualvalue"), Some(&b";;,,;;,;"[..]));
    assert_eq!(
        message.header_named("NewFangledHeader"),
        Some(&b"newfangled value\r\n continued newfangled value"[..])
    );
    let uris: Vec<_> =
        addresses(&message).iter().map(|address| address.uri.escape_ascii().to_string()).collect();
    assert_eq!(
        uris,
        ["sip:jdrosen@192.0.2.55;transport=tcp", "sip:jdrosen@192.0.2.56", "sip:a,b@192.0.2.57"]
    );
}

#[test]
fn an_outbound_contact_keeps_its_instance() {
    let message = message(fixtures::REGISTER_OUTBOUND_INSTANCE);
    let contact = only_contact(&message);
    assert_eq!(contact.params.get("reg-id"), Some(&b"1"[..]));
    assert_eq!(
        contact.params.get("+sip.instance"),
        Some(&b"<urn:uuid:00000000-0000-1000-8000-AABBCCDDEEFF>"[..])
    );
    assert_eq!(contact.params.get("methods"), Some(&b"INVITE,BYE;x"[..]));
    assert_eq!(message.count(HeaderName::Authorization), 1);
}

#[test]
fn ipv6_addresses_are_read_everywhere() {
    let message = message(fixtures::REGISTER_IPV6);
    assert_eq!(message.top_via().unwrap().received(), "2001:db8::9:255".parse::<IpAddr>().ok());
    let request_uri = Uri::parse(message.uri().unwrap()).unwrap();
    assert_eq!(request_uri.host, Host::V6("2001:db8::10".parse().unwrap()));
    let contact = only_contact(&message);
    assert_eq!(contact.parsed_uri().unwrap().port, Some(5070));
}

#[test]
fn octets_that_are_no_utf8_stay_as_they_are() {
    let message = message(fixtures::REGISTER_LATIN1_DISPLAY_NAME);
    assert_eq!(message.from().unwrap().display, b"\"J\xf6rg\"");
    assert_eq!(message.header_named("X-Room"), Some(&b"K\xfcche"[..]));
}

#[test]
fn any_token_is_a_method() {
    let message = message(fixtures::REQUEST_UNUSUAL_TOKENS);
    assert_eq!(message.method(), Some("!interesting-Method0123456789_*+`.%indeed'~"));
    assert_eq!(message.from().unwrap().uri, b"sip:mundane@example.com");
    assert_eq!(message.from().unwrap().tag(), Some(&b"_token~1'+`*%!-."[..]));
    assert_eq!(message.header_named("EXTENSIONHEADER-!.%*+_`'~"), Some(&b"text"[..]));
}

#[test]
fn a_method_keeps_its_case() {
    let lower = request("CSeq", "CSeq: 1 register\n").unwrap();
    assert_eq!(lower.check_request(), Err(ParseError::Header(HeaderName::CSeq)));
}

#[test]
fn a_response_is_read() {
    let message = message(fixtures::RESPONSE_200_PATH);
    assert_eq!(message.start(), Start::Response { status: 200, reason: b"OK" });
    assert_eq!((message.method(), message.uri()), (None, None));
    assert_eq!(texts(message.values(HeaderName::Path)), ["<sip:token-a1b2c3@door.example.com;lr>"]);
    assert_eq!(message.count(HeaderName::Via), 2);
    assert_eq!(message.contacts().unwrap().len(), 2);
    assert_eq!(message.check_request(), Err(ParseError::StartLine));
}

#[test]
fn a_date_is_no_list() {
    let message = message(fixtures::RESPONSE_200_PATH);
    assert_eq!(texts(message.values(HeaderName::Date)), ["Sat, 13 Nov 2010 23:29:00 GMT"]);
}

#[test]
fn a_response_without_a_reason_is_read() {
    for line in ["SIP/2.0 486 ", "SIP/2.0 486", "sip/2.0 486 "] {
        let message = parse(&format!("{line}\n\n")).unwrap();
        assert_eq!(message.start(), Start::Response { status: 486, reason: b"" });
    }
}

#[test]
fn a_star_is_only_read_alone() {
    let all = message(fixtures::REGISTER_REMOVE_ALL);
    assert!(matches!(all.contacts().unwrap()[..], [ContactValue::Star]));
    assert_eq!(all.expires(), Some(Ok(0)));
    let mixed = request("", "Contact: *\nContact: <sip:a@b>\n").unwrap();
    assert_eq!(mixed.contacts().map(|_| ()), Err(ParseError::Header(HeaderName::Contact)));
}

#[test]
fn empty_lines_before_the_message_are_passed_over() {
    let bytes = [b"\r\n\r\n\r\n", fixtures::REGISTER_UDP].concat();
    let read = Message::parse(Bytes::from(bytes)).unwrap();
    assert_eq!(read.bytes(), fixtures::REGISTER_UDP);
}

#[test]
fn a_body_is_any_octets_and_ends_where_content_length_says() {
    let bytes = [fixtures::MESSAGE_BINARY_BODY, b"SIP/2.0 200 OK\r\n\r\n"].concat();
    let read = Message::parse(Bytes::from(bytes)).unwrap();
    assert_eq!(read.body(), (0..=255).collect::<Vec<u8>>());
    assert_eq!(read.bytes(), fixtures::MESSAGE_BINARY_BODY);
}

#[test]
fn without_content_length_the_datagram_ends_the_body() {
    let bytes = [fixtures::REGISTER_WITHOUT_CONTENT_LENGTH, b"a\r\n\r\nb"].concat();
    assert_eq!(Message::parse(Bytes::from(bytes)).unwrap().body(), b"a\r\n\r\nb");
}

#[test]
fn a_content_length_that_cannot_be_meant_is_refused() {
    for (lines, body) in [
        ("Content-Length: 4\n", "abc"),
        ("Content-Length: -1\n", ""),
        ("Content-Length: 1 1\n", "a"),
        ("Content-Length: \n", ""),
        ("Content-Length: 99999999999999999999999999\n", ""),
        ("Content-Length: 1\nl: 2\n", "abc"),
    ] {
        let refused = parse(&format!("A sip:b SIP/2.0\n{lines}\n{body}"));
        assert_eq!(refused.map(|_| ()), Err(ParseError::ContentLength), "{lines}");
    }
    let twice = parse("A sip:b SIP/2.0\nContent-Length: 1\nl: 1\n\nabc").unwrap();
    assert_eq!(twice.body(), b"a");
}

#[test]
fn a_broken_first_line_is_refused() {
    for line in [
        "",
        "REGISTER",
        "REGISTER sip:b",
        "REGISTER  SIP/2.0",
        "REGISTER  sip:b SIP/2.0",
        "REGISTER sip:b  SIP/2.0",
        "REGISTER sip:b SIP/2.0 ",
        "REGISTER sip:b; lr SIP/2.0",
        "REGISTER sip:b HTTP/1.1",
        "REG(ISTER sip:b SIP/2.0",
        " REGISTER sip:b SIP/2.0",
        "SIP/2.0 4294967301 better not break",
        "SIP/2.0 99 low",
        "SIP/2.0 700 high",
        "SIP/2.0 ",
        "SIP/2.0 +20 OK",
    ] {
        let refused = parse(&format!("{line}\n\n")).map(|_| ());
        let expected = if line.is_empty() { ParseError::Truncated } else { ParseError::StartLine };
        assert_eq!(refused, Err(expected), "{line:?}");
    }
}

#[test]
fn another_version_is_refused_as_such() {
    for line in ["REGISTER sip:b SIP/7.0", "REGISTER sip:b SIP/2.00", "SIP/3.0 200 OK"] {
        assert_eq!(parse(&format!("{line}\n\n")).map(|_| ()), Err(ParseError::Version), "{line}");
    }
}

#[test]
fn a_message_without_an_end_is_truncated() {
    for bytes in ["", "\n", "A sip:b SIP/2.0", "A sip:b SIP/2.0\n", "A sip:b SIP/2.0\nTo: a\n"] {
        assert_eq!(parse(bytes).map(|_| ()), Err(ParseError::Truncated), "{bytes:?}");
    }
}

#[test]
fn what_is_no_header_line_is_refused() {
    for line in ["To", ": a", " To: a", "T o: a", "T\u{f6}: a", "To\n : a", "(x): y"] {
        let refused = parse(&format!("A sip:b SIP/2.0\n{line}\n\n"));
        assert_eq!(refused.map(|_| ()), Err(ParseError::HeaderLine), "{line:?}");
    }
    for stray in ["X: a\nY: b\r\n", "X: a\rY: b\r\n", "X: a\r\r\n", "X: a\r\n\n"] {
        let bytes = format!("A sip:b SIP/2.0\r\n{stray}\r\n");
        let refused = Message::parse(Bytes::from(bytes)).map(|_| ());
        assert_eq!(refused, Err(ParseError::HeaderLine), "{stray:?}");
    }
}

#[test]
fn too_many_and_too_large_are_refused() {
    let lines = |count: usize| format!("A sip:b SIP/2.0\n{}\n", "X: y\n".repeat(count));
    assert_eq!(parse(&lines(MAX_HEADER_LINES)).map(|_| ()), Ok(()));
    assert_eq!(parse(&lines(MAX_HEADER_LINES + 1)).map(|_| ()), Err(ParseError::TooManyHeaders));
    let body = |len: usize| format!("A sip:b SIP/2.0\n\n{}", "x".repeat(len));
    let room = MAX_MESSAGE_BYTES - "A sip:b SIP/2.0\r\n\r\n".len();
    assert_eq!(parse(&body(room)).map(|read| read.body().len()), Ok(room));
    assert_eq!(parse(&body(room + 1)).map(|_| ()), Err(ParseError::TooLarge));
    let header = |len: usize| format!("A sip:b SIP/2.0\nX: {}\n\n", "x".repeat(len));
    let room = MAX_MESSAGE_BYTES - "A sip:b SIP/2.0\r\nX: \r\n\r\n".len();
    let read = parse(&header(room)).unwrap();
    assert_eq!(read.header_named("X").map(<[u8]>::len), Some(room));
    assert_eq!(parse(&header(room + 1)).map(|_| ()), Err(ParseError::TooLarge));
}

#[test]
fn a_request_needs_its_five_headers_once() {
    use HeaderName::{CSeq, CallId, From, MaxForwards, To, Via};
    for (line, name) in
        [("Via", Via), ("From", From), ("To", To), ("Call-ID", CallId), ("CSeq", CSeq)]
    {
        let checked = request(line, "").unwrap().check_request();
        assert_eq!(checked, Err(ParseError::Missing(name)), "{line}");
    }
    for (line, name) in [
        ("f: <sip:x@y>", From),
        ("To: <sip:x@y>", To),
        ("i: c2", CallId),
        ("CSeq: 1 REGISTER", CSeq),
        ("Max-Forwards: 1\nMax-Forwards: 1", MaxForwards),
    ] {
        let checked = request("", &format!("{line}\n")).unwrap().check_request();
        assert_eq!(checked, Err(ParseError::Duplicate(name)), "{line}");
    }
}

#[test]
fn a_request_with_an_unreadable_header_names_it() {
    use HeaderName::{CSeq, CallId, From, MaxForwards, To, Via};
    for (without, line, name) in [
        ("Via", "Via: SIP/2.0/UDP 192.0.2.15;;,;,,", Via),
        ("From", "From: \"a <sip:a@b>", From),
        ("To", "To: sip:a@b?x=y", To),
        ("Call-ID", "Call-ID:", CallId),
        ("Call-ID", "Call-ID: a b", CallId),
        ("CSeq", "CSeq: 36893488147419103232 REGISTER", CSeq),
        ("CSeq", "CSeq: 1 INVITE", CSeq),
        ("Max", "Max-Forwards: 300", MaxForwards),
        ("Max", "Max-Forwards: -1", MaxForwards),
    ] {
        let checked = request(without, &format!("{line}\n")).unwrap().check_request();
        assert_eq!(checked, Err(ParseError::Header(name)), "{line}");
    }
}

#[test]
fn a_request_uri_has_no_brackets_and_no_headers() {
    for uri in ["<sip:b@c>", "alice", "sip:b@c?Route=%3Csip:d%3E", "sip:"] {
        let text = format!(
            "A {uri} SIP/2.0\nv: SIP/2.0/UDP a\nf: <sip:a@b>\nt: <sip:a@b>\ni: 1\nCSeq: 1 A\n\n"
        );
        assert_eq!(parse(&text).unwrap().check_request(), Err(ParseError::Uri), "{uri}");
    }
}

#[test]
fn a_request_to_another_scheme_is_in_order() {
    let text =
        "A tel:+491 SIP/2.0\nv: SIP/2.0/UDP a\nf: <sip:a@b>\nt: <tel:+491>\ni: 1\nCSeq: 1 A\n\n";
    assert_eq!(parse(text).unwrap().check_request(), Ok(()));
}

#[test]
fn expires_saturates_and_junk_is_told() {
    let expires = |value: &str| request("", &format!("Expires: {value}\n")).unwrap().expires();
    assert_eq!(expires("0"), Some(Ok(0)));
    assert_eq!(expires("4294967296"), Some(Ok(u32::MAX)));
    assert_eq!(expires("soon"), Some(Err(ParseError::Header(HeaderName::Expires))));
    assert_eq!(request("", "").unwrap().expires(), None);
}

#[test]
fn names_are_known_by_any_spelling_and_others_by_theirs() {
    let read = request("", "cOnTaCt: <sip:a@b>\nm: <sip:c@d>\nx-own: 1\nX-OWN: 2\n").unwrap();
    assert_eq!(read.count(HeaderName::Contact), 2);
    assert_eq!(read.header_named("Contact"), Some(&b"<sip:a@b>"[..]));
    assert_eq!(read.header_named("X-Own"), Some(&b"1"[..]));
    assert_eq!(read.header_named("X-Other"), None);
}

#[test]
fn a_broken_request_can_still_be_refused() {
    for (broken, error) in [
        ("REGISTER sip:b SIP/7.0", ParseError::Version),
        ("REGISTER sip:b; lr SIP/2.0", ParseError::StartLine),
        ("REGISTER  sip:b SIP/2.0", ParseError::StartLine),
    ] {
        let text = format!(
            "{broken}\nVia: SIP/2.0/UDP a;branch=1\nno line\nFrom: x\nTo: y\nCall-ID: 1\n\
             CSeq: z\nContent-Length: 99\n\n"
        );
        let bytes = Bytes::from(text.replace('\n', "\r\n"));
        assert_eq!(Message::parse(bytes.clone()).map(|_| ()), Err(error));
        let read = Message::parse_for_refusal(bytes).unwrap();
        assert_eq!(read.method(), Some("REGISTER"));
        assert_eq!(read.header(HeaderName::To), Some(&b"y"[..]));
        assert_eq!(read.body(), b"");
    }
}

#[test]
fn a_request_cut_off_behind_what_its_answer_needs_can_be_refused() {
    let bytes = "A sip:b SIP/2.0\nVia: SIP/2.0/UDP a;;\nFrom: x\nTo: y\nCall-ID: 1\nCSeq: z\nCont";
    let bytes = Bytes::from(bytes.replace('\n', "\r\n"));
    assert_eq!(Message::parse(bytes.clone()).map(|_| ()), Err(ParseError::Truncated));
    let read = Message::parse_for_refusal(bytes).unwrap();
    assert_eq!(read.header(HeaderName::CSeq), Some(&b"z"[..]));
    assert_eq!((read.top_via().is_ok(), read.body()), (false, &b""[..]));
}

#[test]
fn what_cannot_be_answered_is_not_read_for_it() {
    for bytes in [
        "SIP/3.0 200 OK\nVia: SIP/2.0/UDP a\nFrom: x\nTo: y\nCall-ID: 1\nCSeq: z\n\n",
        "A sip:b SIP/7.0\nVia: broken\nFrom: x\nTo: y\nCall-ID: 1\nCSeq: z\n\n",
        "A sip:b SIP/7.0\nVia: SIP/2.0/UDP a\nFrom: x\nTo: y\nCSeq: z\n\n",
        "A sip:b SIP/7.0\nVia: SIP/2.0/UDP a\nFrom: x\nTo: y\nCall-ID: 1\nCSeq: z",
        "nonsense\n\n",
        "",
    ] {
        let bytes = Bytes::from(bytes.replace('\n', "\r\n"));
        assert!(Message::parse_for_refusal(bytes.clone()).is_none(), "{bytes:?}");
    }
}

#[test]
fn a_log_shows_the_first_line_only() {
    assert_eq!(format!("{:?}", message(fixtures::REGISTER_UDP)), "REGISTER sip:example.com");
    assert_eq!(format!("{:?}", message(fixtures::RESPONSE_200_PATH)), "200 OK");
}
