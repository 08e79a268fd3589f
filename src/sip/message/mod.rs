//! [`Message`]: a lazy index over received bytes.

use std::fmt;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::sip::cseq::CSeq;
use crate::sip::error::ParseError;
use crate::sip::header::HeaderName;
use crate::sip::name_addr::ContactValue;
use crate::sip::name_addr::NameAddr;
use crate::sip::scan;
use crate::sip::uri::Uri;
use crate::sip::via::Via;

mod index;

use index::Index;
pub(in crate::sip) use index::Line;
pub(in crate::sip) use index::content_length;
pub(in crate::sip) use index::is_sip_version;

/// Header lines read in one message; more are refused.
pub const MAX_HEADER_LINES: usize = 128;
/// Octets read in one message, body included; more are refused.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// One SIP message: the received bytes and where its lines are.
///
/// Nothing but Content-Length is read until it is asked for, and nothing is allocated for a
/// message of up to 24 header lines. All readers borrow from the received bytes.
#[derive(Clone)]
pub struct Message {
    bytes: Bytes,
    index: Index,
}

/// The first line of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start<'m> {
    /// A request line.
    Request {
        /// The method, any token (RFC 3261 §7.1); case matters.
        method: &'m str,
        /// The Request-URI as written.
        uri: &'m [u8],
    },
    /// A status line.
    Response {
        /// The status code, 100 to 699.
        status: u16,
        /// The reason phrase as written, perhaps empty.
        reason: &'m [u8],
    },
}

/// What every message has (RFC 3261 §8.1.1), read.
#[derive(Clone, Copy, Debug)]
pub struct Essentials<'m> {
    /// The first Via.
    pub via: Via<'m>,
    /// From.
    pub from: NameAddr<'m>,
    /// To.
    pub to: NameAddr<'m>,
    /// Call-ID as written.
    pub call_id: &'m [u8],
    /// CSeq.
    pub cseq: CSeq<'m>,
}

/// The elements of all Contact lines.
pub type Contacts<'m> = SmallVec<[ContactValue<'m>; 2]>;

impl Message {
    /// Indexes one datagram or one framed stream message.
    ///
    /// Empty lines before the start line are passed over (RFC 3261 §7.5). The body is what
    /// Content-Length says, and without one all that follows; more octets than that are not part
    /// of the message (§18.3).
    ///
    /// # Errors
    /// Whatever keeps the message from being cut into lines; header values are not looked at.
    pub fn parse(bytes: Bytes) -> Result<Self, ParseError> {
        let (bytes, index) = Index::read(bytes)?;
        Ok(Self { bytes, index })
    }

    /// Indexes a request that [`Message::parse`] refused as far as a 400 or 505 needs it: lines
    /// that are none are passed over, so is a last one that does not end, and the body is empty.
    ///
    /// None if it is no request, or lacks what its answer has to repeat (RFC 3261 §8.2.6).
    pub fn parse_for_refusal(bytes: Bytes) -> Option<Self> {
        let (bytes, index) = Index::read_for_refusal(bytes)?;
        let message = Self { bytes, index };
        let is_answerable = message.names_its_sender()
            && [HeaderName::From, HeaderName::To, HeaderName::CallId, HeaderName::CSeq]
                .into_iter()
                .all(|name| message.header(name).is_some());
        is_answerable.then_some(message)
    }

    /// The same message on octets of its own, for whoever keeps it.
    pub fn detached(&self) -> Self {
        Self { bytes: Bytes::copy_from_slice(&self.bytes), index: self.index.clone() }
    }

    /// The octets of this message: without empty lines before it, and nothing behind its body.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The first line.
    pub fn start(&self) -> Start<'_> {
        self.index.start(&self.bytes)
    }

    /// The method; None for a response.
    pub fn method(&self) -> Option<&str> {
        match self.start() {
            Start::Request { method, .. } => Some(method),
            Start::Response { .. } => None,
        }
    }

    /// The Request-URI as written; None for a response.
    pub fn uri(&self) -> Option<&[u8]> {
        match self.start() {
            Start::Request { uri, .. } => Some(uri),
            Start::Response { .. } => None,
        }
    }

    /// The status code; None for a request.
    pub const fn status(&self) -> Option<u16> {
        self.index.status()
    }

    /// The value of the first line of that name, trimmed; a folded one still holds CRLF and white
    /// space, which all readers take for white space.
    pub fn header(&self, name: HeaderName) -> Option<&[u8]> {
        self.lines(name).next()
    }

    /// The value of the first line of that name (in any case), for names [`HeaderName`] does not
    /// know. Of those, compact forms are not found by the long name.
    pub fn header_named(&self, name: &str) -> Option<&[u8]> {
        let known = HeaderName::recognise(name.as_bytes());
        if known == HeaderName::Other {
            self.index.find(&self.bytes, name.as_bytes())
        } else {
            self.header(known)
        }
    }

    /// The value of every line of that name.
    pub fn lines(&self, name: HeaderName) -> impl Iterator<Item = &[u8]> {
        self.index.values(&self.bytes, name)
    }

    /// Every element of every line of that name: comma lists are cut outside quotes and angle
    /// brackets, for the headers that are lists ([`HeaderName::is_list`]).
    pub fn values(&self, name: HeaderName) -> impl Iterator<Item = &[u8]> {
        let is_list = name.is_list();
        self.lines(name).flat_map(move |value| {
            let whole = (!is_list).then_some(value);
            let elements = if is_list { value } else { &[] };
            whole.into_iter().chain(scan::Elements::of(elements))
        })
    }

    /// How many lines of that name there are.
    pub fn count(&self, name: HeaderName) -> usize {
        self.lines(name).count()
    }

    /// The body, any octets.
    pub fn body(&self) -> &[u8] {
        scan::tail(&self.bytes, self.index.body())
    }

    /// Checks what every request needs (RFC 3261 §8.1.1): a readable Via, one readable From, To,
    /// Call-ID and CSeq each, the CSeq of the request's method, at most one readable Max-Forwards,
    /// and a Request-URI that is one (§19.1.1: a SIP one without headers).
    pub fn check_request(&self) -> Result<(), ParseError> {
        self.read_request().map(|_| ())
    }

    /// The same, and what was read on the way.
    pub fn read_request(&self) -> Result<Essentials<'_>, ParseError> {
        let essentials = self.essentials()?;
        self.max_forwards()?;
        let Start::Request { method, uri } = self.start() else {
            return Err(ParseError::StartLine);
        };
        if essentials.cseq.method != method {
            return Err(ParseError::Header(HeaderName::CSeq));
        }
        let scheme = Uri::scheme_of(uri).ok_or(ParseError::Uri)?;
        let is_sip = scheme.eq_ignore_ascii_case(b"sip") || scheme.eq_ignore_ascii_case(b"sips");
        if is_sip && !Uri::parse(uri)?.headers.is_empty() {
            return Err(ParseError::Uri);
        }
        Ok(essentials)
    }

    /// Checks what every response needs: a readable Via, one readable From, To, Call-ID and CSeq
    /// each.
    pub fn check_response(&self) -> Result<(), ParseError> {
        self.read_response().map(|_| ())
    }

    /// The same, and what was read on the way.
    pub fn read_response(&self) -> Result<Essentials<'_>, ParseError> {
        if self.status().is_none() {
            return Err(ParseError::StartLine);
        }
        self.essentials()
    }

    /// The first element of the first Via line.
    pub fn top_via(&self) -> Result<Via<'_>, ParseError> {
        let line = self.header(HeaderName::Via).ok_or(ParseError::Missing(HeaderName::Via))?;
        Via::parse(scan::head(line, scan::element_len(line)))
    }

    /// Whether the first Via says who sent this, be the rest of it broken: enough for a 400
    /// (RFC 4475 §3.1.2.1) or a 505 (§3.1.2.16).
    pub fn names_its_sender(&self) -> bool {
        self.header(HeaderName::Via).is_some_and(Via::names_its_sender)
    }

    /// Whether the header section holds a control octet that no text may hold (RFC 3261 §25.1): none
    /// but white space, unless a backslash escapes it.
    pub fn has_control_octets(&self) -> bool {
        scan::has_control_octets(scan::head(&self.bytes, self.index.body()))
    }

    /// The CSeq.
    pub fn cseq(&self) -> Result<CSeq<'_>, ParseError> {
        CSeq::parse(self.needed(HeaderName::CSeq)?)
    }

    /// The Call-ID as written; compared octet by octet.
    pub fn call_id(&self) -> Result<&[u8], ParseError> {
        let value = self.needed(HeaderName::CallId)?;
        if value.is_empty() || value.iter().any(|&byte| scan::is_white(byte)) {
            return Err(ParseError::Header(HeaderName::CallId));
        }
        Ok(value)
    }

    /// The To.
    pub fn to(&self) -> Result<NameAddr<'_>, ParseError> {
        self.address(HeaderName::To)
    }

    /// The From.
    pub fn from(&self) -> Result<NameAddr<'_>, ParseError> {
        self.address(HeaderName::From)
    }

    /// The Max-Forwards, if there is one; more than 255 is an error (RFC 3261 §20.22).
    pub fn max_forwards(&self) -> Result<Option<u8>, ParseError> {
        let Some(value) = self.header(HeaderName::MaxForwards) else { return Ok(None) };
        scan::number(value)
            .and_then(|hops| u8::try_from(hops).ok())
            .map(Some)
            .ok_or(ParseError::Header(HeaderName::MaxForwards))
    }

    /// The Expires header in seconds; a number beyond 32 bits saturates.
    ///
    /// Junk is an error, which a registrar takes for 3600 (RFC 3261 §10.2.1.1): the caller decides.
    pub fn expires(&self) -> Option<Result<u32, ParseError>> {
        let value = self.header(HeaderName::Expires)?;
        Some(
            scan::number(value)
                .map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX))
                .ok_or(ParseError::Header(HeaderName::Expires)),
        )
    }

    /// Every Contact element; `*` only if it is alone (RFC 3261 §10.3 step 6).
    pub fn contacts(&self) -> Result<Contacts<'_>, ParseError> {
        let contacts: Contacts<'_> =
            self.values(HeaderName::Contact).map(ContactValue::parse).collect::<Result<_, _>>()?;
        let has_star = contacts.iter().any(|contact| matches!(contact, ContactValue::Star));
        if has_star && contacts.len() > 1 {
            return Err(ParseError::Header(HeaderName::Contact));
        }
        Ok(contacts)
    }

    /// The index of the lines, for those that copy them.
    pub(in crate::sip) const fn index(&self) -> &Index {
        &self.index
    }

    fn essentials(&self) -> Result<Essentials<'_>, ParseError> {
        const ONCE: [HeaderName; 5] = [
            HeaderName::From,
            HeaderName::To,
            HeaderName::CallId,
            HeaderName::CSeq,
            HeaderName::MaxForwards,
        ];
        let via = self.top_via()?;
        if let Some(name) = ONCE.into_iter().find(|name| self.count(*name) > 1) {
            return Err(ParseError::Duplicate(name));
        }
        let (from, to, call_id) = (self.from()?, self.to()?, self.call_id()?);
        Ok(Essentials { via, from, to, call_id, cseq: self.cseq()? })
    }

    fn needed(&self, name: HeaderName) -> Result<&[u8], ParseError> {
        self.header(name).ok_or(ParseError::Missing(name))
    }

    fn address(&self, name: HeaderName) -> Result<NameAddr<'_>, ParseError> {
        NameAddr::parse(self.needed(name)?).map_err(|_| ParseError::Header(name))
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.start() {
            Start::Request { method, uri } => write!(f, "{method} {}", uri.escape_ascii()),
            Start::Response { status, reason } => write!(f, "{status} {}", reason.escape_ascii()),
        }
    }
}

#[cfg(test)]
mod tests;
