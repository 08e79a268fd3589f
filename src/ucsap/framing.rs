//! [`Framer`]: a stream cut into UCSAP messages.
//!
//! A message is one BER element (ROSE: `A1` invoke, `A2` result, `A3` error, `A4` reject), which
//! says by itself where it ends, or JSON behind a header: `J` and the octets of the JSON in seven
//! decimal digits. Peers that write more JSON than seven digits can say write eight or nine.

use bytes::Bytes;
use bytes::BytesMut;
use thiserror::Error;

/// Octets of a JSON header as everybody writes it, and of the longest there is.
const JSON_HEADER: usize = 8;
const JSON_HEADER_MAX: usize = 10;

/// Elements of indefinite length that may be open inside one another.
const DEPTH_MAX: usize = 64;

/// Cuts one stream into messages.
///
/// Take messages until there is none, then push what was received next: a stream that is pushed and
/// drained in turn holds at most one unfinished message, which [`Limits`] bound. The messages are
/// the same however the network cuts the stream, and no octet but those of digits is looked at
/// twice.
#[derive(Debug)]
pub struct Framer {
    buffer: BytesMut,
    front: Front,
    failed: Option<FrameError>,
}

/// How much of a stream may wait for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets of one message, its header included.
    pub message: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message: 4 * 1024 * 1024 }
    }
}

/// Why a stream cannot be cut any further; close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A message beyond the limit.
    #[error("the peer's message exceeds the limit; close the connection")]
    TooLarge,
    /// Elements of indefinite length inside one another, more than anybody needs.
    #[error("the peer's message is nested deeper than {DEPTH_MAX} elements; close the connection")]
    TooDeep,
    /// BER whose end cannot be found.
    #[error("the peer's message is no BER, so its end is unknown; close the connection")]
    NotBer,
    /// `J` without seven digits, or nothing behind it.
    #[error("the peer's JSON does not say how long it is; close the connection")]
    JsonLength,
    /// The octets cannot be UCSAP.
    #[error("the peer does not speak UCSAP; close the connection")]
    NotUcsap,
}

/// What a message is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written<'m> {
    /// One BER element.
    Ber(&'m [u8]),
    /// JSON, without its header.
    Json(&'m [u8]),
}

impl<'m> Written<'m> {
    /// What a message of a [`Framer`] is written in; None for what no framer ever cut.
    pub fn of(message: &'m [u8]) -> Option<Self> {
        match message.first()? {
            0xA1..=0xA4 => Some(Self::Ber(message)),
            b'J' => {
                let digits = json_digits(message);
                message.get(1 + digits..).filter(|_| digits + 1 >= JSON_HEADER).map(Self::Json)
            }
            _ => None,
        }
    }
}

impl Framer {
    /// An empty stream.
    pub fn new(limits: Limits) -> Self {
        Self { buffer: BytesMut::new(), front: Front::new(limits), failed: None }
    }

    /// Takes received octets; after an error they are dropped.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next message, header included; None until more octets are there.
    ///
    /// # Errors
    /// Once the stream cannot be cut any further, and from then on always.
    #[expect(
        clippy::should_implement_trait,
        reason = "a stream that fails has no end to iterate to"
    )]
    pub fn next(&mut self) -> Result<Option<Bytes>, FrameError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        match self.front.cut(&self.buffer) {
            Ok(Some(len)) => Ok(Some(self.buffer.split_to(len).freeze())),
            Ok(None) => Ok(None),
            Err(error) => Err(self.fail(error)),
        }
    }

    /// The next message, where the octets that were received last lie in `landed`: whole messages
    /// are handed to `keep` from there, and only what waits for its end is buffered. None once
    /// `landed` is empty; what is buffered then is all the memory it takes.
    ///
    /// # Errors
    /// See [`Framer::next`].
    pub fn next_landed(
        &mut self,
        landed: &mut &[u8],
        keep: impl FnOnce(&[u8]) -> Bytes,
    ) -> Result<Option<Bytes>, FrameError> {
        if !self.buffer.is_empty() || self.failed.is_some() {
            self.push(std::mem::take(landed));
            let next = self.next();
            if self.buffer.is_empty() {
                self.buffer = BytesMut::new();
            }
            return next;
        }
        match self.front.cut(landed) {
            Ok(Some(len)) => {
                let (message, rest) = landed.split_at_checked(len).unwrap_or((landed, &[]));
                let message = keep(message);
                *landed = rest;
                Ok(Some(message))
            }
            Ok(None) => {
                self.buffer = BytesMut::from(std::mem::take(landed));
                Ok(None)
            }
            Err(error) => Err(self.fail(error)),
        }
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

/// What is known of the octets at the front of a stream.
#[derive(Debug)]
struct Front {
    limits: Limits,
    /// Where the next octet lies that matters; behind the received ones while content is passed
    /// over.
    at: usize,
    /// What that octet is.
    expected: Expected,
    /// Elements of indefinite length that are open.
    depth: usize,
    /// Whether the element that is read may be of indefinite length.
    is_constructed: bool,
}

/// What the next octet of a BER message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Expected {
    /// The first of an element, or of an end of contents.
    Tag,
    /// One more of a tag of several octets.
    MoreTag,
    /// The first of a length.
    Length,
    /// One more of a length of several octets.
    MoreLength { left: u8, len: usize },
    /// The second of an end of contents.
    End,
}

impl Front {
    const fn new(limits: Limits) -> Self {
        Self { limits, at: 0, expected: Expected::Tag, depth: 0, is_constructed: false }
    }

    /// How long the message at the front is, once it is there.
    fn cut(&mut self, bytes: &[u8]) -> Result<Option<usize>, FrameError> {
        let len = match bytes.first() {
            None => return Ok(None),
            Some(0xA1..=0xA4) => self.ber_len(bytes)?,
            Some(b'J') => json_len(bytes)?,
            Some(_) => return Err(FrameError::NotUcsap),
        };
        // What is not known yet is as long as what is there, at least.
        if len.unwrap_or(bytes.len()) > self.limits.message {
            return Err(FrameError::TooLarge);
        }
        let len = len.filter(|len| *len <= bytes.len());
        if len.is_some() {
            *self = Self::new(self.limits);
        }
        Ok(len)
    }

    /// How long a BER message is, as soon as its octets tell. Only elements of indefinite length
    /// are entered: all others say how much to pass over, whatever they hold.
    fn ber_len(&mut self, bytes: &[u8]) -> Result<Option<usize>, FrameError> {
        loop {
            if self.at > 0 && self.depth == 0 && self.expected == Expected::Tag {
                return Ok(Some(self.at));
            }
            if self.at > self.limits.message {
                return Err(FrameError::TooLarge);
            }
            let Some(&octet) = bytes.get(self.at) else { return Ok(None) };
            self.at += 1;
            self.expected = match self.expected {
                Expected::Tag if octet == 0 => Expected::End,
                Expected::Tag => {
                    self.is_constructed = octet & 0x20 != 0;
                    if octet & 0x1F == 0x1F { Expected::MoreTag } else { Expected::Length }
                }
                Expected::MoreTag if octet & 0x80 != 0 => Expected::MoreTag,
                Expected::MoreTag => Expected::Length,
                Expected::Length => self.first_of_length(octet)?,
                Expected::MoreLength { left, len } => {
                    let len = len.saturating_mul(256).saturating_add(usize::from(octet));
                    self.length(left - 1, len)?
                }
                Expected::End if octet == 0 => {
                    self.depth -= 1;
                    Expected::Tag
                }
                Expected::End => return Err(FrameError::NotBer),
            };
        }
    }

    fn first_of_length(&mut self, octet: u8) -> Result<Expected, FrameError> {
        match octet {
            0..0x80 => self.length(0, usize::from(octet)),
            0x80 if !self.is_constructed => Err(FrameError::NotBer),
            0x80 if self.depth == DEPTH_MAX => Err(FrameError::TooDeep),
            0x80 => {
                self.depth += 1;
                Ok(Expected::Tag)
            }
            0x81..0xFF => Ok(Expected::MoreLength { left: octet & 0x7F, len: 0 }),
            // Kept for a later edition of the standard (X.690 §8.1.3.5).
            0xFF => Err(FrameError::NotBer),
        }
    }

    /// With so many octets of a length still to come; without any, its content is passed over.
    fn length(&mut self, left: u8, len: usize) -> Result<Expected, FrameError> {
        let end = self.at.saturating_add(len);
        if end > self.limits.message {
            return Err(FrameError::TooLarge);
        }
        if left > 0 {
            return Ok(Expected::MoreLength { left, len });
        }
        self.at = end;
        Ok(Expected::Tag)
    }
}

/// Digits behind the `J`, as far as they belong to the header.
fn json_digits(bytes: &[u8]) -> usize {
    let header = bytes.get(1..bytes.len().min(JSON_HEADER_MAX)).unwrap_or_default();
    header.iter().take_while(|octet| octet.is_ascii_digit()).count()
}

/// How long a JSON message is, header included, as soon as its octets tell.
fn json_len(bytes: &[u8]) -> Result<Option<usize>, FrameError> {
    let header = 1 + json_digits(bytes);
    // The octet behind the last digit tells that there is no other.
    let is_ended = header < bytes.len() || header == JSON_HEADER_MAX;
    if is_ended && header < JSON_HEADER {
        return Err(FrameError::JsonLength);
    }
    if header < JSON_HEADER {
        return Ok(None);
    }
    let digits = bytes.get(1..header).unwrap_or_default();
    let json = digits.iter().fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    match (json, is_ended) {
        (0, true) => Err(FrameError::JsonLength),
        (0, false) => Ok(None),
        // One more digit makes it longer, never shorter: what is too large by now stays so.
        (1.., _) => Ok(Some(header + json)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(limits: Limits, pushes: &[&[u8]]) -> (Vec<Bytes>, Option<FrameError>) {
        let mut framer = Framer::new(limits);
        let mut messages = Vec::new();
        for push in pushes {
            framer.push(push);
            loop {
                match framer.next() {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(error) => return (messages, Some(error)),
                }
            }
        }
        (messages, None)
    }

    #[track_caller]
    fn whole(bytes: &[u8]) {
        let (messages, error) = frames(Limits::default(), &[bytes]);
        assert_eq!((messages, error), (vec![Bytes::copy_from_slice(bytes)], None));
    }

    #[track_caller]
    fn waits(bytes: &[u8]) {
        assert_eq!(frames(Limits::default(), &[bytes]), (vec![], None));
    }

    #[track_caller]
    fn refused(bytes: &[u8], error: FrameError) {
        let refused = frames(Limits::default(), &[bytes]);
        assert_eq!(refused, (vec![], Some(error)), "{}", bytes.escape_ascii());
    }

    #[test]
    fn an_element_ends_where_its_length_says() {
        whole(b"\xA1\x00");
        whole(b"\xA2\x03\x02\x01\x05");
        whole(&[&b"\xA3\x81\x80"[..], &[0x80; 128]].concat());
        whole(&[&b"\xA4\x82\x01\x00"[..], &[0; 256]].concat());
        whole(b"\xA1\x88\0\0\0\0\0\0\0\x01x");
        waits(b"\xA1\x03\x02\x01");
        waits(b"\xA1\x82\x01");
    }

    #[test]
    fn an_element_without_length_ends_at_its_own_end_of_contents() {
        whole(b"\xA1\x80\x00\x00");
        whole(b"\xA1\x80\x02\x01\x00\x30\x80\x04\x02\x00\x00\x00\x00\x00\x00");
        // Tags of several octets, one of them padded, and a padded length.
        whole(b"\xA1\x80\x1F\x80\x80\x15\x00\xBF\x8F\x7F\x80\x00\x00\x04\x82\x00\x01x\x00\x00");
        // What looks like an end inside something that says how long it is.
        whole(b"\xA1\x80\x30\x04\x30\x80\x00\x00\x00\x00");
        waits(b"\xA1\x80\x00");
        waits(b"\xA1\x80\x30\x80\x00\x00");
    }

    #[test]
    fn json_is_as_long_as_its_header_says() {
        whole(b"J0000002{}");
        whole(b"J00000002{}");
        whole(b"J000000002{}");
        whole(b"J0000003 {}");
        waits(b"J");
        waits(b"J0000000");
        waits(b"J0000009{}");
        waits(b"J000000");
        refused(b"J000000{", FrameError::JsonLength);
        refused(b"Jx", FrameError::JsonLength);
        refused(b"J-000002{}", FrameError::JsonLength);
        refused(b"J0000000{}", FrameError::JsonLength);
        refused(b"J000000000", FrameError::JsonLength);
    }

    #[test]
    fn messages_that_follow_each_other_are_cut() {
        let stream = [&b"\xA1\x01x"[..], b"J0000002{}", b"\xA2\x80\0\0", b"J0000002{}", b"GET"];
        let expected = stream[..4].iter().map(|it| Bytes::copy_from_slice(it)).collect();
        let cut = frames(Limits::default(), &[&stream.concat()]);
        assert_eq!(cut, (expected, Some(FrameError::NotUcsap)));
    }

    #[test]
    fn what_is_not_ucsap_is_noticed_by_its_first_octet() {
        for other in [b"OPTIONS", &b"\x16\x03\x01"[..], b"{}", b"\0", b"\xA0\x00", b"\xA5", b"\r\n"]
        {
            refused(other, FrameError::NotUcsap);
        }
    }

    #[test]
    fn ber_without_an_end_is_refused() {
        refused(b"\xA1\xFF", FrameError::NotBer);
        refused(b"\xA1\x80\x04\x80", FrameError::NotBer);
        refused(b"\xA1\x80\x00\x01", FrameError::NotBer);
    }

    #[test]
    fn lengths_beyond_the_limit_are_refused_before_anything_is_kept() {
        refused(b"\xA1\x84\xFF\x00\x00", FrameError::TooLarge);
        refused(b"\xA1\xFE\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF", FrameError::TooLarge);
        refused(b"\xA1\x80\x04\x84\x40\x00\x00", FrameError::TooLarge);
        refused(b"J9999999", FrameError::TooLarge);
        refused(b"J005000099", FrameError::TooLarge);
        let limits = Limits { message: 12 };
        for fits in [&b"\xA1\x0A0123456789"[..], b"J0000004{  }", b"\xA1\x80\x04\x06012345\0\0"] {
            assert_eq!(frames(limits, &[fits]).0.len(), 1);
        }
        for beyond in [&b"\xA1\x0B"[..], b"J0000005{", b"\xA1\x80\x04\x09"] {
            assert_eq!(frames(limits, &[beyond]), (vec![], Some(FrameError::TooLarge)));
        }
        let endless = [b"\xA1\x80", &b"\x05\x00".repeat(6)[..]].concat();
        assert_eq!(frames(limits, &[&endless]), (vec![], Some(FrameError::TooLarge)));
        let tag = [b"\xA1\x80\x1F", &[0x80; 10][..]].concat();
        assert_eq!(frames(limits, &[&tag]), (vec![], Some(FrameError::TooLarge)));
    }

    #[test]
    fn nobody_nests_for_ever() {
        let nested = |depth: usize| {
            [b"\xA1\x80", &b"\x30\x80".repeat(depth)[..], &b"\0\0".repeat(depth + 1)].concat()
        };
        whole(&nested(DEPTH_MAX - 1));
        refused(&nested(DEPTH_MAX), FrameError::TooDeep);
        refused(&nested(10_000), FrameError::TooDeep);
    }

    #[test]
    fn after_a_refusal_nothing_is_kept() {
        let mut framer = Framer::new(Limits::default());
        framer.push(b"\xA1\xFF");
        assert_eq!(framer.next(), Err(FrameError::NotBer));
        framer.push(b"\xA1\x00");
        assert_eq!((framer.buffered(), framer.next()), (0, Err(FrameError::NotBer)));
        let mut landed: &[u8] = b"\xA1\x00";
        let kept = framer.next_landed(&mut landed, |_| unreachable!());
        assert_eq!((kept, framer.buffered()), (Err(FrameError::NotBer), 0));
    }

    #[test]
    fn the_header_of_json_is_told_from_it() {
        assert_eq!(Written::of(b"J0000002{}"), Some(Written::Json(b"{}")));
        assert_eq!(Written::of(b"J000000002{}"), Some(Written::Json(b"{}")));
        assert_eq!(Written::of(b"\xA2\x00"), Some(Written::Ber(b"\xA2\x00")));
        for other in [&b""[..], b"J", b"J12{}", b"{}"] {
            assert_eq!(Written::of(other), None);
        }
    }

    /// Elements as peers write them, and as nobody should.
    fn element() -> impl Strategy<Value = Vec<u8>> {
        let tag = prop_oneof![Just(vec![0x04]), Just(vec![0x30]), Just(vec![0x3F, 0x80, 0x15])];
        let content = prop::collection::vec(any::<u8>(), 0..200);
        let leaf = (tag, content)
            .prop_map(|(tag, content)| [&tag[..], &[0x81, content.len() as u8], &content].concat());
        leaf.prop_recursive(6, 40, 4, |inner| {
            let inner = prop::collection::vec(inner, 0..4);
            inner.prop_map(|inner| [b"\x30\x80", &inner.concat()[..], b"\0\0"].concat())
        })
    }

    fn message() -> impl Strategy<Value = Vec<u8>> {
        let indefinite = (0xA1u8..=0xA4, prop::collection::vec(element(), 0..4))
            .prop_map(|(tag, inner)| [&[tag, 0x80], &inner.concat()[..], b"\0\0"].concat());
        let definite = (0xA1u8..=0xA4, prop::collection::vec(any::<u8>(), 0..128))
            .prop_map(|(tag, content)| [&[tag, content.len() as u8], &content[..]].concat());
        let json = (7usize..=9, "\\{[a-z\\{\\}\":0-9 ]{0,60}\\}")
            .prop_map(|(width, json)| format!("J{:0width$}{json}", json.len()).into_bytes());
        prop_oneof![indefinite, definite, json]
    }

    fn landed(stream: &[u8], cuts: &[usize]) -> (Vec<Bytes>, Option<FrameError>) {
        let mut framer = Framer::new(Limits { message: 2_000 });
        let (mut messages, mut rest) = (Vec::new(), stream);
        let mut cuts = cuts.iter().cycle();
        while !rest.is_empty() {
            let (mut piece, after) = rest.split_at(rest.len().min(*cuts.next().unwrap()));
            rest = after;
            loop {
                match framer.next_landed(&mut piece, Bytes::copy_from_slice) {
                    Ok(Some(message)) => messages.push(message),
                    Ok(None) => break,
                    Err(error) => return (messages, Some(error)),
                }
            }
            assert!(piece.is_empty() && framer.buffered() <= 2_000);
        }
        (messages, None)
    }

    proptest! {
        #[test]
        fn messages_are_the_same_however_the_stream_is_cut(
            messages in prop::collection::vec(message(), 0..6),
            noise in prop::collection::vec(any::<u8>(), 0..40),
            cuts in prop::collection::vec(1usize..80, 1..60),
        ) {
            let stream = [&messages.concat()[..], &noise].concat();
            let at_once = frames(Limits { message: 2_000 }, &[&stream]);
            prop_assert_eq!(&landed(&stream, &cuts), &at_once);
            prop_assert_eq!(&landed(&stream, &[1]), &at_once);
            let fit = messages.iter().take_while(|it| it.len() <= 2_000).count();
            prop_assert_eq!(at_once.0.get(..fit), Some(&messages[..fit].iter().map(|it| Bytes::copy_from_slice(it)).collect::<Vec<_>>()[..]));
        }

        #[test]
        fn no_octets_make_the_framer_panic(
            first in prop_oneof![0xA1u8..=0xA4, Just(b'J')],
            rest in prop::collection::vec(prop_oneof![any::<u8>(), Just(0x80), Just(0), b'0'..=b'9'], 0..300),
            cuts in prop::collection::vec(1usize..20, 1..20),
        ) {
            let stream = [&[first], &rest[..]].concat();
            let at_once = frames(Limits { message: 2_000 }, &[&stream]);
            prop_assert_eq!(&landed(&stream, &cuts), &at_once);
            prop_assert!(at_once.0.iter().all(|it| Written::of(it).is_some()));
        }
    }
}
