//! [`ParseError`]: what is wrong with the bytes.

use thiserror::Error;

use crate::sip::header::HeaderName;

/// What is wrong with received bytes. The sender is at fault, always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ParseError {
    /// The header section has no end (no empty line).
    #[error("the message ends before its header section does; the peer sent a part of a message")]
    Truncated,
    /// The first line is neither a request line nor a status line.
    #[error("the first line is neither a request line nor a status line")]
    StartLine,
    /// The SIP version is not 2.0; a request is answered with 505.
    #[error("the SIP version is not 2.0; answer a request with 505")]
    Version,
    /// A header line has no name, no colon, or a stray CR or LF.
    #[error("a header line has no name, no colon, or a stray CR or LF")]
    HeaderLine,
    /// More header lines than are read.
    #[error("the message has more than {} header lines", crate::sip::message::MAX_HEADER_LINES)]
    TooManyHeaders,
    /// More octets than are read.
    #[error("the message has more than {} octets", crate::sip::message::MAX_MESSAGE_BYTES)]
    TooLarge,
    /// Content-Length is no number, contradicts itself, or exceeds what was received.
    #[error("Content-Length is no number, contradicts itself, or exceeds what was received")]
    ContentLength,
    /// A header that must be there is not.
    #[error("the {} header is missing", .0.as_str())]
    Missing(HeaderName),
    /// A header that may be there once is there more often.
    #[error("the {} header is there more than once", .0.as_str())]
    Duplicate(HeaderName),
    /// A header's value breaks its grammar.
    #[error("the {} header cannot be read", .0.as_str())]
    Header(HeaderName),
    /// A URI breaks its grammar, or is no sip or sips URI where one is needed.
    #[error("a URI cannot be read, or is no sip or sips URI")]
    Uri,
    /// Octets that must be text are not.
    #[error("octets that must be text are not")]
    NotText,
}
