//! [`Response`] and [`Request`]: messages of our own.

use std::net::SocketAddr;
use std::ops::Range;

use bytes::{Bytes, BytesMut};

use crate::sip::header::HeaderName;
use crate::sip::message::Message;
use crate::sip::name_addr::NameAddr;
use crate::sip::outline::Repeated;
use crate::sip::scan;
use crate::sip::via::Via;

/// A response in the making.
///
/// A CR or LF in a value becomes a space, so no value can end its line.
#[derive(Debug)]
pub struct Response {
    draft: Draft,
    /// The first Via element.
    top_via: Range<usize>,
    /// Where a To tag goes, unless To has one.
    to_end: Option<usize>,
}

/// A request in the making; headers stand in the order they were given.
///
/// A CR or LF in a value becomes a space, so no value can end its line.
#[derive(Debug)]
pub struct Request {
    draft: Draft,
}

impl Response {
    /// Starts the response to a request with what every response repeats: all Via lines, From, To,
    /// Call-ID, CSeq, and in a 100 the Timestamp (RFC 3261 §8.2.6). The reason phrase is the
    /// default one.
    pub fn to(request: &Message, status: u16) -> Self {
        let mut draft = Draft::new(request.index().body() + 256);
        draft.status_line(status);
        let mut top_via = 0..0;
        for via in request.lines(HeaderName::Via) {
            let range = draft.line(HeaderName::Via.as_str(), via);
            if top_via.is_empty() {
                let len = scan::element_len(scan::span(&draft.head, range.clone()));
                top_via = range.start..range.start + len;
            }
        }
        let mut to_end = None;
        for name in REPEATED {
            let Some(value) = request.header(name) else { continue };
            let range = draft.line(name.as_str(), value);
            if name == HeaderName::To && lacks_tag(value) {
                to_end = Some(range.end);
            }
        }
        if let Some(timestamp) = request.header_named("Timestamp").filter(|_| status == 100) {
            draft.line("Timestamp", timestamp);
        }
        Self { draft, top_via, to_end }
    }

    /// The same as [`Response::to`], [`Response::received`] and [`Response::to_tag`] in one go: for a
    /// request that has been read, its first Via too, and written to `buffer`, which
    /// [`Response::finish_into`] gives back. For those who answer much.
    pub fn written_to(
        mut buffer: Vec<u8>,
        (request, top_via): (&Repeated<'_>, &Via<'_>),
        status: u16,
        source: SocketAddr,
        tag: &[u8],
    ) -> Self {
        debug_assert!(scan::is_token(tag), "a tag is a token: {}", tag.escape_ascii());
        buffer.clear();
        let mut draft = Draft { head: buffer, body: Vec::new() };
        draft.status_line(status);
        let mut vias = request.vias.iter();
        if let Some(first) = vias.next() {
            draft.name(HeaderName::Via.as_str());
            let top = request.top_via_text();
            let start = draft.head.len();
            if !top_via.append_with_source(&mut draft.head, top, source) {
                draft.head.extend_from_slice(top);
            }
            draft.head.extend_from_slice(scan::tail(first, top.len()));
            scan::unfold(&mut draft.head, start);
            draft.end_line();
        }
        for via in vias {
            draft.line(HeaderName::Via.as_str(), via);
        }
        draft.line(HeaderName::From.as_str(), request.from);
        draft.name(HeaderName::To.as_str());
        scan::append_value(&mut draft.head, request.to);
        // What ends with its address has no parameters.
        if request.to.ends_with(b">") || lacks_tag(request.to) {
            draft.head.extend_from_slice(b";tag=");
            draft.head.extend_from_slice(tag);
        }
        draft.end_line();
        draft.line(HeaderName::CallId.as_str(), request.call_id);
        draft.line(HeaderName::CSeq.as_str(), request.cseq);
        Self { draft, top_via: 0..0, to_end: None }
    }

    /// Octets written so far.
    pub fn octets(&self) -> usize {
        self.draft.head.len() + self.draft.body.len()
    }

    /// Appends the response, with its Content-Length, and gives the buffer of
    /// [`Response::written_to`] back.
    pub fn finish_into(mut self, out: &mut BytesMut) -> Vec<u8> {
        self.draft.length_line();
        out.extend_from_slice(&self.draft.head);
        out.extend_from_slice(&self.draft.body);
        self.draft.head
    }

    /// Appends a header whose value `write` writes.
    pub fn header_with(mut self, name: HeaderName, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        self.draft.line_with(name, write);
        self
    }

    /// Notes in the top Via where the request came from: `received` where the sent-by differs or
    /// rport is asked for, and rport's value (RFC 3261 §18.2.1, RFC 3581 §4).
    pub fn received(mut self, source: SocketAddr) -> Self {
        let top = scan::span(&self.draft.head, self.top_via.clone());
        if let Some(noted) = Via::with_source(top, source) {
            let (before, after) = (self.top_via.len(), noted.len());
            self.draft.head.splice(self.top_via.clone(), noted);
            self.top_via.end = self.top_via.start + after;
            self.to_end = self.to_end.map(|end| end - before + after);
        }
        self
    }

    /// Adds a To tag, a token, unless To has one.
    pub fn to_tag(mut self, tag: impl AsRef<[u8]>) -> Self {
        let tag = tag.as_ref();
        debug_assert!(scan::is_token(tag), "a tag is a token: {}", tag.escape_ascii());
        if let Some(end) = self.to_end.take() {
            let mut param = b";tag=".to_vec();
            scan::append_value(&mut param, tag);
            self.draft.head.splice(end..end, param);
        }
        self
    }

    /// Appends a header. Content-Length is not taken: it is written by [`Response::finish`].
    pub fn header(mut self, name: HeaderName, value: impl AsRef<[u8]>) -> Self {
        self.draft.known(name, value.as_ref());
        self
    }

    /// Appends a header by its name, a token.
    pub fn named(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.draft.header(name, value.as_ref());
        self
    }

    /// Sets the body and appends its Content-Type.
    pub fn body(mut self, content_type: &str, body: &[u8]) -> Self {
        self.draft.set_body(content_type, body);
        self
    }

    /// The response, with its Content-Length.
    pub fn finish(self) -> Bytes {
        self.draft.finish()
    }
}

impl Request {
    /// Starts a request; white space and control characters in the Request-URI are escaped.
    pub fn new(method: &str, uri: &[u8]) -> Self {
        debug_assert!(scan::is_token(method.as_bytes()), "a method is a token: {method:?}");
        let mut draft = Draft::new(512);
        scan::append_uri(&mut draft.head, method.as_bytes());
        draft.head.push(b' ');
        scan::append_uri(&mut draft.head, uri);
        draft.head.extend_from_slice(b" SIP/2.0\r\n");
        Self { draft }
    }

    /// Appends a header. Content-Length is not taken: it is written by [`Request::finish`].
    pub fn header(mut self, name: HeaderName, value: impl AsRef<[u8]>) -> Self {
        self.draft.known(name, value.as_ref());
        self
    }

    /// Appends a header whose value `write` writes.
    pub fn header_with(mut self, name: HeaderName, write: impl FnOnce(&mut Vec<u8>)) -> Self {
        self.draft.line_with(name, write);
        self
    }

    /// Appends a header by its name, a token.
    pub fn named(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.draft.header(name, value.as_ref());
        self
    }

    /// Sets the body and appends its Content-Type.
    pub fn body(mut self, content_type: &str, body: &[u8]) -> Self {
        self.draft.set_body(content_type, body);
        self
    }

    /// The request, with its Content-Length.
    pub fn finish(self) -> Bytes {
        self.draft.finish()
    }
}

/// The default reason phrase of a status code; that of the class for a code without one.
pub fn reason_phrase(status: u16) -> &'static str {
    match REASON_PHRASES.binary_search_by_key(&status, |(code, _)| *code) {
        Ok(at) => REASON_PHRASES.get(at).map_or("", |(_, phrase)| phrase),
        Err(_) => match status / 100 {
            1 => "In Progress",
            2 => "Success",
            3 => "Redirected",
            4 => "Request Failed",
            5 => "Server Failed",
            _ => "Failed Everywhere",
        },
    }
}

/// A message in the making: what both kinds share.
#[derive(Debug)]
struct Draft {
    /// Start line and headers, each with its CRLF.
    head: Vec<u8>,
    body: Vec<u8>,
}

impl Draft {
    fn new(capacity: usize) -> Self {
        Self { head: Vec::with_capacity(capacity), body: Vec::new() }
    }

    fn status_line(&mut self, status: u16) {
        self.head.extend_from_slice(b"SIP/2.0 ");
        scan::append_number(&mut self.head, status.into());
        self.head.push(b' ');
        self.head.extend_from_slice(reason_phrase(status).as_bytes());
        self.end_line();
    }

    fn known(&mut self, name: HeaderName, value: &[u8]) {
        if !matches!(name, HeaderName::ContentLength | HeaderName::Other) {
            self.line(name.as_str(), value);
        }
    }

    fn header(&mut self, name: &str, value: &[u8]) {
        let is_length = HeaderName::recognise(name.as_bytes()) == HeaderName::ContentLength;
        let is_name = scan::is_token(name.as_bytes());
        debug_assert!(is_name, "a header name is a token: {name:?}");
        if is_name && !is_length {
            self.line(name, value);
        }
    }

    /// Appends a line and says where its value is.
    fn line(&mut self, name: &str, value: &[u8]) -> Range<usize> {
        self.name(name);
        let start = self.head.len();
        scan::append_value(&mut self.head, value);
        let end = self.head.len();
        self.end_line();
        start..end
    }

    fn line_with(&mut self, name: HeaderName, write: impl FnOnce(&mut Vec<u8>)) {
        self.name(name.as_str());
        let start = self.head.len();
        write(&mut self.head);
        scan::unfold(&mut self.head, start);
        self.end_line();
    }

    fn name(&mut self, name: &str) {
        self.head.extend_from_slice(name.as_bytes());
        self.head.extend_from_slice(b": ");
    }

    fn end_line(&mut self) {
        self.head.extend_from_slice(b"\r\n");
    }

    fn set_body(&mut self, content_type: &str, body: &[u8]) {
        self.header(HeaderName::ContentType.as_str(), content_type.as_bytes());
        self.body = body.to_vec();
    }

    fn length_line(&mut self) {
        self.name(HeaderName::ContentLength.as_str());
        scan::append_number(&mut self.head, self.body.len() as u64);
        self.head.extend_from_slice(b"\r\n\r\n");
    }

    fn finish(mut self) -> Bytes {
        self.length_line();
        self.head.extend_from_slice(&self.body);
        Bytes::from(self.head)
    }
}

/// What a response repeats of its request beside the Vias (RFC 3261 §8.2.6.2).
const REPEATED: [HeaderName; 4] =
    [HeaderName::From, HeaderName::To, HeaderName::CallId, HeaderName::CSeq];

fn lacks_tag(to: &[u8]) -> bool {
    NameAddr::parse(to).is_ok_and(|to| to.tag().is_none())
}

/// RFC 3261 §21 and its extensions, in rising order.
const REASON_PHRASES: &[(u16, &str)] = &[
    (100, "Trying"),
    (180, "Ringing"),
    (181, "Call Is Being Forwarded"),
    (182, "Queued"),
    (183, "Session Progress"),
    (200, "OK"),
    (202, "Accepted"),
    (204, "No Notification"),
    (300, "Multiple Choices"),
    (301, "Moved Permanently"),
    (302, "Moved Temporarily"),
    (305, "Use Proxy"),
    (380, "Alternative Service"),
    (400, "Bad Request"),
    (401, "Unauthorized"),
    (402, "Payment Required"),
    (403, "Forbidden"),
    (404, "Not Found"),
    (405, "Method Not Allowed"),
    (406, "Not Acceptable"),
    (407, "Proxy Authentication Required"),
    (408, "Request Timeout"),
    (410, "Gone"),
    (412, "Conditional Request Failed"),
    (413, "Request Entity Too Large"),
    (414, "Request-URI Too Long"),
    (415, "Unsupported Media Type"),
    (416, "Unsupported URI Scheme"),
    (420, "Bad Extension"),
    (421, "Extension Required"),
    (422, "Session Interval Too Small"),
    (423, "Interval Too Brief"),
    (430, "Flow Failed"),
    (439, "First Hop Lacks Outbound Support"),
    (440, "Max-Breadth Exceeded"),
    (480, "Temporarily Unavailable"),
    (481, "Call/Transaction Does Not Exist"),
    (482, "Loop Detected"),
    (483, "Too Many Hops"),
    (484, "Address Incomplete"),
    (485, "Ambiguous"),
    (486, "Busy Here"),
    (487, "Request Terminated"),
    (488, "Not Acceptable Here"),
    (489, "Bad Event"),
    (491, "Request Pending"),
    (493, "Undecipherable"),
    (494, "Security Agreement Required"),
    (500, "Server Internal Error"),
    (501, "Not Implemented"),
    (502, "Bad Gateway"),
    (503, "Service Unavailable"),
    (504, "Server Time-out"),
    (505, "Version Not Supported"),
    (513, "Message Too Large"),
    (600, "Busy Everywhere"),
    (603, "Decline"),
    (604, "Does Not Exist Anywhere"),
    (606, "Not Acceptable"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::fixtures;
    use crate::sip::fixtures::message;
    use crate::sip::fixtures::written;

    fn text(bytes: Bytes) -> String {
        String::from_utf8(bytes.to_vec()).unwrap().replace("\r\n", "\n")
    }

    fn source() -> SocketAddr {
        "198.51.100.7:4711".parse().unwrap()
    }

    #[test]
    fn a_response_repeats_what_it_must() {
        let response = Response::to(&message(fixtures::REGISTER_UDP), 200)
            .to_tag("t1")
            .received(source())
            .header(HeaderName::Contact, "<sip:alice@192.0.2.10:5060>;expires=60")
            .named("X-Own", b"1")
            .finish();
        assert_eq!(
            text(response),
            "SIP/2.0 200 OK\n\
             Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK74b76;rport=4711;received=198.51.100.7\n\
             From: \"Alice Example\" <sip:alice@example.com>;tag=456248\n\
             To: \"Alice Example\" <sip:alice@example.com>;tag=t1\n\
             Call-ID: 843817637684230@998sdasdh09\n\
             CSeq: 1826 REGISTER\n\
             Contact: <sip:alice@192.0.2.10:5060>;expires=60\n\
             X-Own: 1\n\
             Content-Length: 0\n\n"
        );
    }

    #[test]
    fn all_vias_are_repeated_in_order_and_only_the_first_is_changed() {
        let request = written(
            "A sip:b SIP/2.0\nv: SIP/2.0/UDP a;branch=1, SIP/2.0/UDP b;rport\nf: <sip:a@b>\n\
             Via: SIP/2.0/TCP c\nt: sip:a@b\ni: 1\nCSeq: 1 A\n\n",
        );
        let response = text(Response::to(&request, 404).received(source()).to_tag("x").finish());
        assert_eq!(
            response,
            "SIP/2.0 404 Not Found\n\
             Via: SIP/2.0/UDP a;branch=1;received=198.51.100.7, SIP/2.0/UDP b;rport\n\
             Via: SIP/2.0/TCP c\nFrom: <sip:a@b>\nTo: sip:a@b;tag=x\nCall-ID: 1\nCSeq: 1 A\n\
             Content-Length: 0\n\n"
        );
    }

    #[test]
    fn a_to_tag_that_is_there_stays() {
        let request = written("A sip:b SIP/2.0\nTo: <sip:a@b>;Tag=1\n\n");
        let response = text(Response::to(&request, 481).to_tag("2").finish());
        assert!(response.contains("To: <sip:a@b>;Tag=1\n"), "{response}");
    }

    #[test]
    fn a_tag_is_added_once_and_after_the_source_was_noted() {
        for received_first in [true, false] {
            let response = Response::to(&message(fixtures::REGISTER_UDP), 200);
            let response = if received_first {
                response.received(source()).to_tag("t1")
            } else {
                response.to_tag("t1").received(source())
            };
            let read = Message::parse(response.to_tag("t2").finish()).unwrap();
            assert_eq!(read.check_response(), Ok(()));
            assert_eq!(read.to().unwrap().tag(), Some(&b"t1"[..]));
            assert_eq!(read.top_via().unwrap().rport(), Some(Some(4711)));
        }
    }

    #[test]
    fn a_folded_header_is_unfolded() {
        let request = message(fixtures::REGISTER_COMPACT_FOLDED);
        let read = Message::parse(Response::to(&request, 200).to_tag("t").finish()).unwrap();
        assert_eq!(read.check_response(), Ok(()));
        assert_eq!(read.values(HeaderName::Via).count(), 2);
        assert!(!read.bytes().windows(3).any(|bytes| bytes == b"\r\n " || bytes == b"\r\n\t"));
        assert_eq!(read.from().unwrap().tag(), request.from().unwrap().tag());
    }

    #[test]
    fn only_a_100_repeats_the_timestamp() {
        let request = written("A sip:b SIP/2.0\nTimestamp: 54\n\n");
        assert!(text(Response::to(&request, 100).finish()).contains("Timestamp: 54\n"));
        assert!(!text(Response::to(&request, 200).finish()).contains("Timestamp"));
    }

    #[test]
    fn a_request_that_was_refused_gets_its_answer() {
        let bytes = Bytes::from(
            "A sip:b SIP/7.0\r\nv: SIP/2.0/UDP a\r\nf: x\r\nt: y\r\ni: 1\r\nCSeq: 1 A\r\n\r\n",
        );
        let request = Message::parse_for_refusal(bytes).unwrap();
        let response = text(Response::to(&request, 505).to_tag("t").finish());
        assert!(response.starts_with("SIP/2.0 505 Version Not Supported\nVia: SIP/2.0/UDP a\n"));
        // A To that cannot be read has no place for a tag.
        assert!(response.contains("\nTo: y\n"), "{response}");
    }

    #[test]
    fn a_body_brings_its_type_and_length() {
        let response = Response::to(&message(fixtures::REGISTER_UDP), 200)
            .body("text/plain", b"a\r\n\r\nb")
            .header(HeaderName::ContentLength, "7")
            .named("l", "7")
            .finish();
        let read = Message::parse(response).unwrap();
        assert_eq!(read.header(HeaderName::ContentType), Some(&b"text/plain"[..]));
        assert_eq!(read.header(HeaderName::ContentLength), Some(&b"6"[..]));
        assert_eq!((read.count(HeaderName::ContentLength), read.body()), (1, &b"a\r\n\r\nb"[..]));
    }

    #[test]
    fn a_request_keeps_the_order_of_its_headers() {
        let request = Request::new("OPTIONS", b"sip:a@[::1]")
            .header(HeaderName::Via, "SIP/2.0/UDP x;branch=z9hG4bK1")
            .named("X-Own", "1")
            .header(HeaderName::MaxForwards, "70")
            .finish();
        assert_eq!(
            text(request),
            "OPTIONS sip:a@[::1] SIP/2.0\nVia: SIP/2.0/UDP x;branch=z9hG4bK1\nX-Own: 1\n\
             Max-Forwards: 70\nContent-Length: 0\n\n"
        );
    }

    #[test]
    fn no_value_can_end_its_line() {
        let request = Request::new("OPTIONS", b"sip:a SIP/2.0\r\nEvil: 1")
            .header(HeaderName::Via, "a\r\nEvil: 1\r\n\r\n")
            .body("text/plain\nEvil: 1", b"")
            .finish();
        let read = Message::parse(request).unwrap();
        assert_eq!(read.header_named("Evil"), None);
        assert_eq!(read.count(HeaderName::Via), 1);
    }

    #[test]
    fn every_code_has_a_reason() {
        assert_eq!(reason_phrase(423), "Interval Too Brief");
        assert_eq!(reason_phrase(499), "Request Failed");
        for (status, phrase) in REASON_PHRASES {
            assert_eq!(reason_phrase(*status), *phrase);
        }
    }
}
