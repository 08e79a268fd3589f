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
