//! [`Framer`]: a stream cut into messages (RFC 3261 §18.3).

use bytes::Buf as _;
use bytes::Bytes;
use bytes::BytesMut;
use memchr::memchr;
use memchr::memchr_iter;
use thiserror::Error;

use crate::sip::header::HeaderName;
use crate::sip::message;
use crate::sip::scan;
use crate::sip::scan::Step;

/// Cuts one stream into messages and keep-alives.
///
/// Take frames until there is none, then push what was received next: a stream that is pushed and
/// drained in turn holds at most one unfinished message, which [`Limits`] bound. The messages and
/// pings are the same however the network cuts the stream.
#[derive(Debug)]
pub struct Framer {
    buffer: BytesMut,
    front: Front,
    failed: Option<FrameError>,
}

/// What is known of the octets at the front of a stream.
#[derive(Debug)]
struct Front {
    limits: Limits,
    /// Octets in which the end of the header section is known not to be.
    searched: usize,
    /// The length of the message at the front, once its header section is there.
    message_len: Option<usize>,
    /// Whether the line at the front is known to be a start line.
    has_start_line: bool,
    /// Whether the CRLF that was just told as a pong may be the first half of a ping.
    pong_may_be_half_a_ping: bool,
}

/// What stands at the front of a stream, and how long it is.
enum Cut {
    Message(usize),
    Ping(usize),
    Pong(usize),
}

/// How much of a stream may wait for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets of one message, body included.
    pub message: usize,
    /// Octets of one message up to its empty line, this included.
    pub headers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message: message::MAX_MESSAGE_BYTES, headers: 16 * 1024 }
    }
}

/// What a stream holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// One message, whole; it may still be no good SIP.
    Message(Bytes),
    /// CRLFCRLF: answer with CRLF (RFC 5626 §4.4.1).
    Ping,
    /// A single CRLF: the answer to our ping.
    ///
    /// It is told at once, because nothing may follow it. If its second half comes later, the
    /// ping is told then: who waits for a pong should take either for a sign of life.
    Pong,
}

/// Why a stream cannot be cut any further; close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A message or header section beyond the limit.
    #[error("the peer's message exceeds the limit; close the connection")]
    TooLarge,
    /// No Content-Length, which streams need (RFC 3261 §20.14).
    #[error(
        "the peer's message has no Content-Length, so its end is unknown; close the connection"
    )]
    NoContentLength,
    /// Content-Length is no number or contradicts itself.
    #[error("the peer's Content-Length is no number or contradicts itself; close the connection")]
    ContentLength,
    /// The octets cannot be SIP.
    #[error("the peer does not speak SIP; close the connection")]
    NotSip,
}

impl Framer {
    /// An empty stream.
    pub fn new(limits: Limits) -> Self {
        let front = Front {
            limits,
            searched: 0,
            message_len: None,
            has_start_line: false,
            pong_may_be_half_a_ping: false,
        };
        Self { buffer: BytesMut::new(), front, failed: None }
    }

    /// Takes received octets; after an error they are dropped.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next frame; None until more octets are there.
    ///
    /// # Errors
    /// Once the stream cannot be cut any further, and from then on always.
    #[expect(
        clippy::should_implement_trait,
        reason = "a stream that fails has no end to iterate to"
    )]
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.front.cut(&self.buffer) {
            Ok(Some(Cut::Message(len))) => {
                Ok(Some(Frame::Message(self.buffer.split_to(len).freeze())))
            }
            Ok(Some(Cut::Ping(len))) => {
                self.buffer.advance(len);
                Ok(Some(Frame::Ping))
            }
            Ok(Some(Cut::Pong(len))) => {
                self.buffer.advance(len);
                Ok(Some(Frame::Pong))
            }
            Ok(None) => Ok(None),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// The next frame, where the octets that were received last lie in `landed`: whole messages are
    /// handed to `keep` from there, and only what waits for its end is buffered. None once `landed`
    /// is empty; what is buffered then is all the memory it takes.
    ///
    /// # Errors
    /// See [`Framer::next`].
    pub fn next_landed(
        &mut self,
        landed: &mut &[u8],
        keep: impl FnOnce(&[u8]) -> Bytes,
    ) -> Result<Option<Frame>, FrameError> {
        if !self.buffer.is_empty() || self.failed.is_some() {
            self.push(std::mem::take(landed));
            let next = self.next();
            if self.buffer.is_empty() {
                self.buffer = BytesMut::new();
            }
            return next;
        }
        let (len, frame) = match self.front.cut(landed) {
            Ok(Some(Cut::Message(len))) => (len, Frame::Message(keep(scan::head(landed, len)))),
            Ok(Some(Cut::Ping(len))) => (len, Frame::Ping),
            Ok(Some(Cut::Pong(len))) => (len, Frame::Pong),
            Ok(None) => {
                self.buffer = BytesMut::from(std::mem::take(landed));
                return Ok(None);
            }
            Err(error) => return Err(self.fail(error)),
        };
        *landed = scan::tail(landed, len);
        Ok(Some(frame))
    }

    /// Octets that wait for their end.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    fn fail(&mut self, error: FrameError) -> FrameError {
        self.failed = Some(error);
        self.buffer = BytesMut::new();
        error
    }
}

impl Front {
    fn cut(&mut self, bytes: &[u8]) -> Result<Option<Cut>, FrameError> {
        match bytes.first() {
            None => Ok(None),
            Some(b'\r') => self.keep_alive(bytes),
            Some(_) => self.message(bytes),
        }
    }

    /// Reads the empty lines at the front. Those before a message are pings and pongs too.
    fn keep_alive(&mut self, bytes: &[u8]) -> Result<Option<Cut>, FrameError> {
        let cut = match bytes {
            [b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] if self.pong_may_be_half_a_ping => Cut::Ping(2),
            [b'\r', b'\n', b'\r', b'\n', ..] => Cut::Ping(4),
            [b'\r', b'\n', b'\r'] => return Ok(None),
            [b'\r', b'\n', ..] => Cut::Pong(2),
            _ => return Err(FrameError::NotSip),
        };
        self.pong_may_be_half_a_ping = matches!(cut, Cut::Pong(_));
        Ok(Some(cut))
    }

    fn message(&mut self, bytes: &[u8]) -> Result<Option<Cut>, FrameError> {
        self.pong_may_be_half_a_ping = false;
        let len = match self.message_len {
            Some(len) => len,
            None => match self.read_head(bytes)? {
                Some(len) => len,
                None => return Ok(None),
            },
        };
        if bytes.len() < len {
            self.message_len = Some(len);
            return Ok(None);
        }
        self.message_len = None;
        self.searched = 0;
        self.has_start_line = false;
        Ok(Some(Cut::Message(len)))
    }

    /// Looks for the end of the header section, and says how long the message is.
    fn read_head(&mut self, bytes: &[u8]) -> Result<Option<usize>, FrameError> {
        if !self.has_start_line {
            self.has_start_line = starts_like_sip(bytes, self.searched)?;
        }
        // The four octets may have come in two pieces.
        let from = self.searched.saturating_sub(3);
        let end = line_starts(bytes, from).find(|at| scan::tail(bytes, *at).starts_with(b"\r\n"));
        let end = end.map(|at| at + 2);
        let Some(head_len) = end else {
            self.searched = bytes.len();
            let is_endless = bytes.len() >= self.limits.headers;
            return if is_endless { Err(FrameError::TooLarge) } else { Ok(None) };
        };
        if head_len > self.limits.headers {
            return Err(FrameError::TooLarge);
        }
        let body_len = announced_body(scan::head(bytes, head_len))?;
        head_len
            .checked_add(body_len)
            .filter(|len| *len <= self.limits.message)
            .map(Some)
            .ok_or(FrameError::TooLarge)
    }
}

/// Whether the first line is there and is a start line of some SIP version; an error as soon as it
/// cannot become one.
fn starts_like_sip(bytes: &[u8], seen: usize) -> Result<bool, FrameError> {
    if !bytes.first().is_some_and(|&byte| scan::is_token_byte(byte)) {
        return Err(FrameError::NotSip);
    }
    let line_end = memchr(b'\r', bytes);
    let unseen = scan::span(bytes, seen..line_end.unwrap_or(bytes.len()).max(seen));
    if unseen.iter().any(|byte| *byte < b' ') {
        return Err(FrameError::NotSip);
    }
    let Some(end) = line_end.filter(|end| end + 1 < bytes.len()) else { return Ok(false) };
    let line = scan::head(bytes, end);
    let first = line.split(|byte| *byte == b' ').next().unwrap_or_default();
    let last = line.rsplit(|byte| *byte == b' ').find(|word| !word.is_empty()).unwrap_or_default();
    let is_status_line = message::is_sip_version(first);
    let is_request_line = scan::is_token(first) && message::is_sip_version(last);
    let is_line = bytes.get(end + 1) == Some(&b'\n');
    if is_line && (is_status_line || is_request_line) { Ok(true) } else { Err(FrameError::NotSip) }
}

/// Where lines start behind a CRLF, from `from` on. One that starts with white space goes on with
/// the line before.
fn line_starts(bytes: &[u8], from: usize) -> impl Iterator<Item = usize> {
    let ends = memchr_iter(b'\n', scan::tail(bytes, from)).map(move |at| from + at);
    let is_end = |at: &usize| *at > 0 && bytes.get(*at - 1) == Some(&b'\r');
    ends.filter(is_end).map(|at| at + 1)
}

/// What Content-Length says in a header section. Lines that are none are passed over: they are for
/// the reader of the message to refuse.
fn announced_body(head: &[u8]) -> Result<usize, FrameError> {
    let lengths = line_starts(head, 0).filter_map(|at| {
        if !may_be_content_length(scan::tail(head, at)) {
            return None;
        }
        let Step::Line(line) = scan::step(head, at) else { return None };
        let is_it = HeaderName::recognise(scan::span(head, line.name)) == HeaderName::ContentLength;
        is_it.then(|| scan::span(head, line.value))
    });
    message::content_length(lengths)
        .map_err(|_| FrameError::ContentLength)?
        .ok_or(FrameError::NoContentLength)
}

/// Whether it is worth reading this line: no other is Content-Length, or `l` for short.
fn may_be_content_length(line: &[u8]) -> bool {
    matches!(line, [b'l' | b'L', ..] | [b'c' | b'C', _, _, _, _, _, _, _, b'l' | b'L', ..])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::fixtures;

    const OPTIONS: &[u8] = b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 0\r\n\r\n";

    fn all(framer: &mut Framer) -> (Vec<Frame>, Option<FrameError>) {
        let mut frames = Vec::new();
        loop {
            match framer.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => return (frames, None),
                Err(error) => return (frames, Some(error)),
            }
        }
    }

    fn frames(pushes: &[&[u8]]) -> (Vec<Frame>, Option<FrameError>) {
        let mut framer = Framer::new(Limits::default());
        let mut frames = Vec::new();
        for push in pushes {
            framer.push(push);
            let (more, error) = all(&mut framer);
            frames.extend(more);
            if error.is_some() {
                return (frames, error);
            }
        }
        (frames, None)
    }

    #[track_caller]
    fn refused(bytes: &[u8], error: FrameError) {
        assert_eq!(frames(&[bytes]), (vec![], Some(error)), "{}", bytes.escape_ascii());
    }

    fn message(bytes: &[u8]) -> Frame {
        Frame::Message(Bytes::copy_from_slice(bytes))
    }

    #[test]
    fn messages_that_follow_each_other_are_cut() {
        let stream = [fixtures::MESSAGE_BINARY_BODY, OPTIONS, fixtures::REGISTER_COMPACT_FOLDED];
        let expected = stream.iter().map(|bytes| message(bytes)).collect();
        assert_eq!(frames(&[&stream.concat()]), (expected, None));
    }

    #[test]
    fn a_message_waits_for_its_last_octet() {
        let mut framer = Framer::new(Limits::default());
        let (most, last) = fixtures::MESSAGE_BINARY_BODY.split_at(300);
        framer.push(most);
        assert_eq!(framer.next(), Ok(None));
        assert_eq!(framer.buffered(), 300);
        framer.push(last);
        assert_eq!(framer.next(), Ok(Some(message(fixtures::MESSAGE_BINARY_BODY))));
        assert_eq!(framer.next(), Ok(None));
        assert_eq!(framer.buffered(), 0);
    }

    #[test]
    fn two_empty_lines_are_a_ping_and_one_is_a_pong() {
        assert_eq!(frames(&[b"\r\n\r\n"]), (vec![Frame::Ping], None));
        assert_eq!(frames(&[b"\r\n"]), (vec![Frame::Pong], None));
        assert_eq!(frames(&[b"\r"]), (vec![], None));
        let (mixed, _) = frames(&[&[b"\r\n\r\n\r\n", OPTIONS, b"\r\n\r\n"].concat()]);
        assert_eq!(mixed, [Frame::Ping, Frame::Pong, message(OPTIONS), Frame::Ping]);
    }

    #[test]
    fn a_ping_in_two_pieces_is_still_told() {
        assert_eq!(frames(&[b"\r\n", b"\r\n"]).0, [Frame::Pong, Frame::Ping]);
        assert_eq!(frames(&[b"\r\n\r", b"\n"]).0, [Frame::Ping]);
        assert_eq!(frames(&[b"\r\n", OPTIONS, b"\r\n"]).0.last(), Some(&Frame::Pong));
    }

    #[test]
    fn what_is_not_sip_is_noticed_early() {
        refused(b"\x16\x03\x01\x02\x00", FrameError::NotSip);
        refused(b"GET / HTTP/1.1\r\n", FrameError::NotSip);
        refused(b" OPTIONS", FrameError::NotSip);
        refused(b"OPT\0IONS", FrameError::NotSip);
        refused(b"OPTIONS sip:a SIP/2.0\n\n", FrameError::NotSip);
        refused(b"\rX", FrameError::NotSip);
    }

    #[test]
    fn what_is_not_sip_is_noticed_behind_a_message_too() {
        let stream = [OPTIONS, b"GET / HTTP/1.1\r\n"].concat();
        assert_eq!(frames(&[&stream]), (vec![message(OPTIONS)], Some(FrameError::NotSip)));
    }

    #[test]
    fn another_sip_version_is_framed_so_that_it_can_be_answered() {
        let other = b"OPTIONS sip:a SIP/7.0\r\nl: 0\r\n\r\n";
        assert_eq!(frames(&[other]), (vec![message(other)], None));
    }

    #[test]
    fn the_length_must_be_there_and_be_a_length() {
        refused(b"A sip:a SIP/2.0\r\n\r\n", FrameError::NoContentLength);
        refused(b"A sip:a SIP/2.0\r\nl: x\r\n\r\n", FrameError::ContentLength);
        refused(b"A sip:a SIP/2.0\r\nl: 1\r\nContent-Length: 2\r\n\r\n", FrameError::ContentLength);
    }

    #[test]
    fn a_folded_length_is_read_as_the_message_reads_it() {
        let folded = b"A sip:a SIP/2.0\r\nbad line\r\nContent-Length :\r\n 2\r\n\r\nab";
        assert_eq!(frames(&[folded]), (vec![message(folded)], None));
    }

    #[test]
    fn endless_headers_and_bodies_are_refused_before_they_are_kept() {
        let limits = Limits { message: 200, headers: 100 };
        let refused = |bytes: &[u8]| {
            let mut framer = Framer::new(limits);
            framer.push(bytes);
            let error = all(&mut framer).1;
            assert_eq!(framer.buffered(), 0);
            framer.push(OPTIONS);
            assert_eq!((framer.buffered(), framer.next().err()), (0, error));
            error
        };
        let endless = [&b"A sip:a SIP/2.0\r\nX: "[..], &[b'x'; 100]].concat();
        assert_eq!(refused(&endless), Some(FrameError::TooLarge));
        let ended = [&endless[..], b"\r\nl: 0\r\n\r\n"].concat();
        assert_eq!(refused(&ended), Some(FrameError::TooLarge));
        let large = b"A sip:a SIP/2.0\r\nl: 180\r\n\r\n";
        assert_eq!(refused(large), Some(FrameError::TooLarge));
        let huge = b"A sip:a SIP/2.0\r\nl: 18446744073709551615\r\n\r\n";
        assert_eq!(refused(huge), Some(FrameError::TooLarge));
    }

    #[test]
    fn a_message_of_exactly_the_limit_is_taken() {
        let limits = Limits { message: OPTIONS.len(), headers: OPTIONS.len() };
        let mut framer = Framer::new(limits);
        framer.push(OPTIONS);
        assert_eq!(framer.next(), Ok(Some(message(OPTIONS))));
    }
}
