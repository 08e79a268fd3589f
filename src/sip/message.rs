//! [`Message`]: a lazy index over received bytes.

use bytes::Bytes;
use smallvec::SmallVec;

use crate::sip::cseq::CSeq;
use crate::sip::error::ParseError;
use crate::sip::header::HeaderName;
use crate::sip::name_addr::ContactValue;
use crate::sip::name_addr::NameAddr;
use crate::sip::via::Via;

/// Header lines read in one message; more are refused.
pub const MAX_HEADER_LINES: usize = 128;
/// Octets read in one message, body included; more are refused.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// One SIP message: the received bytes and where its lines are.
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Bytes,
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

/// The elements of all Contact lines.
pub type Contacts<'m> = SmallVec<[ContactValue<'m>; 2]>;

#[expect(unused_variables, clippy::todo, reason = "signatures first")]
#[expect(unreachable_code, reason = "signatures first")]
impl Message {
    /// Indexes one datagram or one framed stream message.
    pub fn parse(bytes: Bytes) -> Result<Self, ParseError> {
        todo!()
    }
    /// Indexes a request that [`Message::parse`] refused, as far as an error answer needs it.
    pub fn parse_for_refusal(bytes: Bytes) -> Option<Self> {
        todo!()
    }
    /// The octets of this message.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
    /// The first line.
    pub fn start(&self) -> Start<'_> {
        todo!()
    }
    /// The method; None for a response.
    pub fn method(&self) -> Option<&str> {
        todo!()
    }
    /// The Request-URI; None for a response.
    pub fn uri(&self) -> Option<&[u8]> {
        todo!()
    }
    /// The status code; None for a request.
    pub fn status(&self) -> Option<u16> {
        todo!()
    }
    /// The first raw value of that name, trimmed.
    pub fn header(&self, name: HeaderName) -> Option<&[u8]> {
        todo!()
    }
    /// The first raw value of a header [`HeaderName`] does not know.
    pub fn header_named(&self, name: &str) -> Option<&[u8]> {
        todo!()
    }
    /// The raw value of every line of that name.
    pub fn lines(&self, name: HeaderName) -> impl Iterator<Item = &[u8]> {
        todo!();
        std::iter::empty()
    }
    /// Every element of that name.
    pub fn values(&self, name: HeaderName) -> impl Iterator<Item = &[u8]> {
        todo!();
        std::iter::empty()
    }
    /// How many lines of that name there are.
    pub fn count(&self, name: HeaderName) -> usize {
        todo!()
    }
    /// The body.
    pub fn body(&self) -> &[u8] {
        todo!()
    }
    /// Checks what every request needs (RFC 3261 §8.1.1).
    pub fn check_request(&self) -> Result<(), ParseError> {
        todo!()
    }
    /// Checks what every response needs.
    pub fn check_response(&self) -> Result<(), ParseError> {
        todo!()
    }
    /// The first Via element.
    pub fn top_via(&self) -> Result<Via<'_>, ParseError> {
        todo!()
    }
    /// The CSeq.
    pub fn cseq(&self) -> Result<CSeq<'_>, ParseError> {
        todo!()
    }
    /// The Call-ID.
    pub fn call_id(&self) -> Result<&[u8], ParseError> {
        todo!()
    }
    /// The To.
    pub fn to(&self) -> Result<NameAddr<'_>, ParseError> {
        todo!()
    }
    /// The From.
    pub fn from(&self) -> Result<NameAddr<'_>, ParseError> {
        todo!()
    }
    /// The Max-Forwards, if there is one.
    pub fn max_forwards(&self) -> Result<Option<u8>, ParseError> {
        todo!()
    }
    /// The Expires header, delta seconds.
    pub fn expires(&self) -> Option<Result<u32, ParseError>> {
        todo!()
    }
    /// Every Contact element; `*` only alone.
    pub fn contacts(&self) -> Result<Contacts<'_>, ParseError> {
        todo!()
    }
}
