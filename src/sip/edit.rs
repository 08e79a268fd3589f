//! [`Edit`]: changes by splicing.

use std::net::SocketAddr;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::sip::header::HeaderName;
use crate::sip::message::Line;
use crate::sip::message::Message;
use crate::sip::message::Start;
use crate::sip::scan;
use crate::sip::scan::Step;
use crate::sip::via::Via;

/// A changed copy of a message in the making; what is kept is copied as it was written.
///
/// Every step sees the message as the steps before it left it. A CR or LF in a value becomes a
/// space, so no value can end its line; a received folded value is thereby unfolded.
#[derive(Debug)]
pub struct Edit<'m> {
    message: &'m Message,
    /// The new Request-URI, in `written`.
    uri: Option<Piece>,
    /// The header lines in order.
    pieces: SmallVec<[Piece; 32]>,
    /// The lines that are new.
    written: Vec<u8>,
}

/// One header line, its CRLF included.
#[derive(Clone, Copy, Debug)]
struct Piece {
    name: HeaderName,
    is_new: bool,
    start: usize,
    end: usize,
}

impl<'m> Edit<'m> {
    /// Starts with the message as it is.
    pub fn of(message: &'m Message) -> Self {
        let kept = |line: &Line| {
            let span = line.span();
            Piece { name: line.name, is_new: false, start: span.start, end: span.end }
        };
        let pieces = message.index().lines().iter().map(kept).collect();
        Self { message, uri: None, pieces, written: Vec::new() }
    }

    /// Replaces the Request-URI; white space and control characters in it are escaped. A response
    /// has none and stays as it is.
    pub fn request_uri(mut self, uri: &[u8]) -> Self {
        let start = self.written.len();
        scan::append_uri(&mut self.written, uri);
        let end = self.written.len();
        self.uri = Some(Piece { name: HeaderName::Other, is_new: true, start, end });
        self
    }

    /// Writes a new line before the first of that name, or as the first header.
    pub fn push_top(mut self, name: HeaderName, value: &[u8]) -> Self {
        let at = self.first(name).map_or(0, |(at, _)| at);
        let line = self.write(name, value);
        self.pieces.insert(at, line);
        self
    }

    /// Removes the first element of that name, and its line if it was alone in it.
    pub fn pop_top(mut self, name: HeaderName) -> Self {
        if let Some((at, piece)) = self.first(name) {
            let rest = self.after_first_element(piece).to_vec();
            if rest.is_empty() {
                self.pieces.remove(at);
            } else {
                let line = self.write(name, &rest);
                self.replace(at, line);
            }
        }
        self
    }

    /// Replaces the first element of that name in its place; without one, adds a line as
    /// [`Edit::push_top`] does.
    pub fn replace_top(mut self, name: HeaderName, value: &[u8]) -> Self {
        let Some((at, piece)) = self.first(name) else { return self.push_top(name, value) };
        let mut whole = value.to_vec();
        let rest = self.after_first_element(piece);
        if !rest.is_empty() {
            whole.extend_from_slice(b", ");
            whole.extend_from_slice(rest);
        }
        let line = self.write(name, &whole);
        self.replace(at, line);
        self
    }

    /// Removes every line of that name.
    pub fn remove(mut self, name: HeaderName) -> Self {
        self.pieces.retain(|piece| piece.name != name);
        self
    }

    /// Puts one line of that name in the place of the first, or as the last header, and removes
    /// all others.
    pub fn set(mut self, name: HeaderName, value: &[u8]) -> Self {
        let line = self.write(name, value);
        let Some((at, _)) = self.first(name) else {
            self.pieces.push(line);
            return self;
        };
        self.pieces.retain(|piece| piece.name != name);
        self.pieces.insert(at, line);
        self
    }

    /// Counts Max-Forwards down, not below 0, or adds 70 (RFC 3261 §16.6 step 3).
    ///
    /// Whether a message with 0 may go on at all is for the caller to say (§16.3).
    pub fn max_forwards_minus_one(self) -> Self {
        let Some((_, piece)) = self.first(HeaderName::MaxForwards) else {
            return self.push_top(HeaderName::MaxForwards, b"70");
        };
        let hops = scan::number(self.value(piece)).unwrap_or(0).min(255).saturating_sub(1);
        self.set(HeaderName::MaxForwards, hops.to_string().as_bytes())
    }

    /// Notes in the top Via where the request came from (RFC 3261 §18.2.1, RFC 3581 §4).
    pub fn received(self, source: SocketAddr) -> Self {
        let top = self.first(HeaderName::Via).and_then(|(_, piece)| {
            let value = self.value(piece);
            Via::with_source(scan::head(value, scan::element_len(value)), source)
        });
        match top {
            Some(top) => self.replace_top(HeaderName::Via, &top),
            None => self,
        }
    }

    /// Writes Content-Length if the message has none: a datagram may lack it, a stream may not
    /// (RFC 3261 §20.14).
    pub fn ensure_content_length(self) -> Self {
        if self.first(HeaderName::ContentLength).is_some() {
            return self;
        }
        let len = self.message.body().len();
        self.set(HeaderName::ContentLength, len.to_string().as_bytes())
    }

    /// The changed message.
    pub fn finish(self) -> Bytes {
        let received: &[u8] = self.message.bytes();
        let body = self.message.body();
        let mut out = Vec::with_capacity(received.len() + self.written.len());
        match (self.uri, self.message.start()) {
            (Some(uri), Start::Request { method, .. }) => {
                out.extend_from_slice(method.as_bytes());
                out.push(b' ');
                out.extend_from_slice(self.bytes(uri));
                out.extend_from_slice(b" SIP/2.0\r\n");
            }
            _ => out.extend_from_slice(scan::head(received, self.message.index().headers())),
        }
        let mut pieces = self.pieces.iter().copied().peekable();
        while let Some(mut run) = pieces.next() {
            // Lines that stayed together are copied together.
            while let Some(next) =
                pieces.next_if(|next| next.is_new == run.is_new && next.start == run.end)
            {
                run.end = next.end;
            }
            out.extend_from_slice(self.bytes(run));
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(body);
        Bytes::from(out)
    }

    fn first(&self, name: HeaderName) -> Option<(usize, Piece)> {
        let at = self.pieces.iter().position(|piece| piece.name == name)?;
        self.pieces.get(at).map(|piece| (at, *piece))
    }

    fn replace(&mut self, at: usize, line: Piece) {
        if let Some(piece) = self.pieces.get_mut(at) {
            *piece = line;
        }
    }

    fn write(&mut self, name: HeaderName, value: &[u8]) -> Piece {
        let start = self.written.len();
        self.written.extend_from_slice(name.as_str().as_bytes());
        self.written.extend_from_slice(b": ");
        scan::append_value(&mut self.written, value);
        self.written.extend_from_slice(b"\r\n");
        Piece { name, is_new: true, start, end: self.written.len() }
    }

    fn bytes(&self, piece: Piece) -> &[u8] {
        let source = if piece.is_new { &self.written[..] } else { &self.message.bytes()[..] };
        scan::span(source, piece.start..piece.end)
    }

    fn value(&self, piece: Piece) -> &[u8] {
        let source = if piece.is_new { &self.written[..] } else { &self.message.bytes()[..] };
        match scan::step(scan::head(source, piece.end), piece.start) {
            Step::Line(line) => scan::span(source, line.value),
            Step::Empty { .. } | Step::Bad { .. } | Step::Truncated => &[],
        }
    }

    /// The elements of a line behind the first, as written.
    fn after_first_element(&self, piece: Piece) -> &[u8] {
        let value = self.value(piece);
        if !piece.name.is_list() {
            return &[];
        }
        // Empty elements in front are none.
        let mut rest = value;
        loop {
            let len = scan::element_len(rest);
            let is_empty = scan::trim(scan::head(rest, len)).is_empty();
            rest = scan::tail(rest, len + 1);
            if !is_empty || rest.is_empty() {
                return scan::trim(rest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::fixtures;
    use crate::sip::fixtures::message;
    use crate::sip::fixtures::written;

    /// What the header lines of a message become, `\n` for CRLF.
    #[track_caller]
    fn edited(lines: &str, edit: impl FnOnce(Edit<'_>) -> Edit<'_>) -> String {
        let start = "A sip:b SIP/2.0\n";
        let message = written(&format!("{start}{lines}\nbody"));
        let bytes = edit(Edit::of(&message)).finish();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let head = text.strip_suffix("\r\n\r\nbody").unwrap().replace("\r\n", "\n") + "\n";
        head.strip_prefix(start).unwrap().to_owned()
    }

    #[test]
    fn without_a_change_nothing_changes() {
        for bytes in fixtures::ALL {
            assert_eq!(Edit::of(&message(bytes)).finish(), bytes);
        }
    }

    #[test]
    fn a_new_line_goes_above_the_first_of_its_name() {
        fn push(edit: Edit<'_>) -> Edit<'_> {
            edit.push_top(HeaderName::Via, b"new")
        }
        assert_eq!(edited("X: 1\nv: a, b\nVia: c\n", push), "X: 1\nVia: new\nv: a, b\nVia: c\n");
        assert_eq!(edited("X: 1\n", push), "Via: new\nX: 1\n");
        assert_eq!(edited("", push), "Via: new\n".to_owned());
    }

    #[test]
    fn the_first_element_goes_and_its_line_with_it_if_it_was_alone() {
        fn pop(edit: Edit<'_>) -> Edit<'_> {
            edit.pop_top(HeaderName::Via)
        }
        assert_eq!(edited("v: a\nX: 1\nVia: b\n", pop), "X: 1\nVia: b\n");
        assert_eq!(edited("v: a , b,c\nX: 1\n", pop), "Via: b,c\nX: 1\n");
        assert_eq!(edited("Via: , a,\n\t b\n", pop), "Via: b\n");
        assert_eq!(edited("Via: a,\nVia: b\n", pop), "Via: b\n");
        assert_eq!(edited("X: 1\n", pop), "X: 1\n");
    }

    #[test]
    fn a_comma_in_a_value_that_is_no_list_does_not_cut() {
        fn pop(edit: Edit<'_>) -> Edit<'_> {
            edit.pop_top(HeaderName::Date)
        }
        assert_eq!(edited("Date: Sat, 13 Nov\nX: 1\n", pop), "X: 1\n");
    }

    #[test]
    fn a_quoted_or_bracketed_comma_does_not_cut() {
        fn pop(edit: Edit<'_>) -> Edit<'_> {
            edit.pop_top(HeaderName::Route)
        }
        assert_eq!(edited("Route: \"a,b\" <sip:c,d@e>, <sip:f>\n", pop), "Route: <sip:f>\n");
    }

    #[test]
    fn the_first_element_is_replaced_in_its_place() {
        fn replace(edit: Edit<'_>) -> Edit<'_> {
            edit.replace_top(HeaderName::Via, b"new")
        }
        assert_eq!(edited("X: 1\nVia: a, b\nY: 2\n", replace), "X: 1\nVia: new, b\nY: 2\n");
        assert_eq!(edited("v: a\n", replace), "Via: new\n");
        assert_eq!(edited("X: 1\n", replace), "Via: new\nX: 1\n");
    }

    #[test]
    fn all_lines_go_or_become_one() {
        let lines = "m: a\nX: 1\nContact: b\n";
        assert_eq!(edited(lines, |edit| edit.remove(HeaderName::Contact)), "X: 1\n");
        fn set(edit: Edit<'_>) -> Edit<'_> {
            edit.set(HeaderName::Contact, b"new")
        }
        assert_eq!(edited(lines, set), "Contact: new\nX: 1\n");
        assert_eq!(edited("X: 1\n", set), "X: 1\nContact: new\n");
    }

    #[test]
    fn later_steps_see_earlier_ones() {
        let changed = edited("Route: a, b\n", |edit| {
            edit.pop_top(HeaderName::Route)
                .push_top(HeaderName::Route, b"c, d")
                .pop_top(HeaderName::Route)
                .replace_top(HeaderName::Route, b"e")
                .push_top(HeaderName::Via, b"v")
        });
        assert_eq!(changed, "Via: v\nRoute: e\nRoute: b\n");
    }

    #[test]
    fn hops_are_counted_down_or_start_at_70() {
        fn hop(edit: Edit<'_>) -> Edit<'_> {
            edit.max_forwards_minus_one()
        }
        assert_eq!(edited("Max-Forwards: 70\n", hop), "Max-Forwards: 69\n");
        assert_eq!(edited("Max-Forwards: 0\n", hop), "Max-Forwards: 0\n");
        assert_eq!(edited("X: 1\n", hop), "Max-Forwards: 70\nX: 1\n");
    }

    #[test]
    fn the_source_is_noted_in_the_top_via_only() {
        let source = "192.0.2.9:4711".parse().unwrap();
        assert_eq!(
            edited("v: SIP/2.0/UDP a;rport, SIP/2.0/UDP b;rport\n", |edit| edit.received(source)),
            "Via: SIP/2.0/UDP a;rport=4711;received=192.0.2.9, SIP/2.0/UDP b;rport\n"
        );
        let same = "v: SIP/2.0/UDP 192.0.2.9\n";
        assert_eq!(edited(same, |edit| edit.received(source)), same);
    }

    #[test]
    fn a_content_length_is_added_where_there_is_none() {
        fn ensure(edit: Edit<'_>) -> Edit<'_> {
            edit.ensure_content_length()
        }
        assert_eq!(edited("X: 1\n", ensure), "X: 1\nContent-Length: 4\n");
        assert_eq!(edited("l: 4\n", ensure), "l: 4\n");
    }

    #[test]
    fn the_request_uri_is_replaced_and_cannot_end_its_line() {
        let read = message(fixtures::OPTIONS_FROM_SERVER_WITH_ROUTE);
        let bytes = Edit::of(&read).request_uri(b"sip:x@[::1]:5 SIP/2.0\r\nEvil: 1").finish();
        let again = Message::parse(bytes).unwrap();
        assert_eq!(again.uri(), Some(&b"sip:x@[::1]:5%20SIP/2.0%0D%0AEvil:%201"[..]));
        assert_eq!(again.header_named("Evil"), None);
        assert_eq!(again.count(HeaderName::Route), 1);
        let response = message(fixtures::RESPONSE_200_PATH);
        let bytes = Edit::of(&response).request_uri(b"sip:x").finish();
        assert_eq!(bytes, fixtures::RESPONSE_200_PATH);
    }

    #[test]
    fn a_value_cannot_end_its_line() {
        let evil = b"a\r\nEvil: 1\r\n\r\nb";
        let read = message(fixtures::REGISTER_UDP);
        let bytes = Edit::of(&read)
            .push_top(HeaderName::Via, evil)
            .replace_top(HeaderName::Contact, evil)
            .set(HeaderName::Path, evil)
            .finish();
        let again = Message::parse(bytes).unwrap();
        assert_eq!(again.header_named("Evil"), None);
        assert_eq!(again.header(HeaderName::Path), Some(&b"a  Evil: 1    b"[..]));
    }
}
