//! A second opinion: an independent parser reads plain messages as this one does.
//!
//! It knows no compact forms, folding, IPv6 or quoted parameter values, so these are not asked of
//! it.

use bytes::Bytes;
use proptest::prelude::*;
use rsip::prelude::HeadersExt as _;
use rsip::prelude::ToTypedHeader as _;
use rsip::prelude::UntypedHeader as _;

use crate::sip::message::Message;
use crate::sip::message::Start;

proptest! {
    #[test]
    fn both_parsers_read_a_plain_message_alike(message in plain_message()) {
        let ours = Message::parse(Bytes::from(message.clone())).unwrap();
        let theirs = rsip::SipMessage::try_from(message.as_bytes()).unwrap();
        compare_start(&ours, &theirs)?;

        prop_assert_eq!(text(ours.call_id().unwrap()), theirs.call_id_header().unwrap().value());

        let cseq = theirs.cseq_header().unwrap().typed().unwrap();
        prop_assert_eq!(ours.cseq().unwrap().number, cseq.seq);
        prop_assert_eq!(ours.cseq().unwrap().method, cseq.method.to_string());

        let from = theirs.from_header().unwrap().typed().unwrap();
        let tag = from.tag().map(ToString::to_string);
        prop_assert_eq!(ours.from().unwrap().tag().map(text), tag);

        let to = theirs.to_header().unwrap().typed().unwrap();
        prop_assert_eq!(text(ours.to().unwrap().uri), to.uri.to_string());
        let tag = to.tag().map(ToString::to_string);
        prop_assert_eq!(ours.to().unwrap().tag().map(text), tag);

        let via = theirs.via_header().unwrap().typed().unwrap();
        let branch = via.branch().map(ToString::to_string);
        prop_assert_eq!(ours.top_via().unwrap().branch().map(text), branch);
    }
}

fn compare_start(ours: &Message, theirs: &rsip::SipMessage) -> Result<(), TestCaseError> {
    match (ours.start(), theirs) {
        (Start::Request { method, uri }, rsip::SipMessage::Request(request)) => {
            prop_assert_eq!(method, request.method.to_string());
            prop_assert_eq!(text(uri), request.uri.to_string());
        }
        (Start::Response { status, .. }, rsip::SipMessage::Response(response)) => {
            prop_assert_eq!(status, response.status_code.code());
        }
        (ours, theirs) => return Err(TestCaseError::fail(format!("{ours:?} and {theirs:?}"))),
    }
    Ok(())
}

fn plain_message() -> impl Strategy<Value = String> {
    let method = prop::sample::select(vec!["REGISTER", "OPTIONS", "INVITE", "NOTIFY", "MESSAGE"]);
    let host = "[a-z]{1,8}\\.example\\.com|192\\.0\\.2\\.[1-9]";
    let user = "[a-z0-9]{1,10}";
    let tag = prop::option::of("[a-zA-Z0-9]{1,16}");
    let call_id = "[a-zA-Z0-9]{4,20}(@[a-z0-9.]{1,12}[a-z])?";
    let status = prop::option::of(prop::sample::select(vec![100u16, 200, 302, 401, 404, 503]));
    (method, host, user, "[A-Z][a-z]{1,8}", tag.clone(), tag, call_id, any::<u32>(), status)
        .prop_map(|(method, host, user, name, from_tag, to_tag, call_id, number, status)| {
            let start = match status {
                Some(status) => format!("SIP/2.0 {status} Reason"),
                None => format!("{method} sip:{host} SIP/2.0"),
            };
            let tag =
                |tag: Option<String>| tag.map_or_else(String::new, |tag| format!(";tag={tag}"));
            let (from_tag, to_tag) = (tag(from_tag), tag(to_tag));
            format!(
                "{start}\r\n\
                 Via: SIP/2.0/UDP {host}:5060;branch=z9hG4bK{number}\r\n\
                 Max-Forwards: 70\r\n\
                 From: \"{name}\" <sip:{user}@{host}>{from_tag}\r\n\
                 To: <sip:{user}@{host}:5062>{to_tag}\r\n\
                 Call-ID: {call_id}\r\n\
                 CSeq: {number} {method}\r\n\
                 Contact: <sip:{user}@{host}>\r\n\
                 Content-Length: 0\r\n\r\n"
            )
        })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
