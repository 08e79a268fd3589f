//! [`Framer`]: a stream cut into messages (RFC 3261 §18.3).

use bytes::Bytes;
use thiserror::Error;

/// Cuts one stream into messages and keep-alives.
#[derive(Debug)]
pub struct Framer {
    limits: Limits,
}

/// How much of a stream may wait for its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Octets of one message, body included.
    pub message: usize,
    /// Octets until the empty line.
    pub headers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { message: 64 * 1024, headers: 16 * 1024 }
    }
}

/// What a stream holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// One message, whole.
    Message(Bytes),
    /// CRLFCRLF: answer with CRLF (RFC 5626 §4.4.1).
    Ping,
    /// A single CRLF: the answer to our ping.
    Pong,
}

/// Why a stream cannot be cut any further; close the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum FrameError {
    /// A message or header section beyond the limit.
    #[error("the stream's message exceeds the limit; close the connection")]
    TooLarge,
    /// No Content-Length, which streams need.
    #[error("the stream's message has no Content-Length; close the connection")]
    NoContentLength,
    /// Content-Length is no number or contradicts itself.
    #[error("the stream's message has a bad Content-Length; close the connection")]
    ContentLength,
    /// The octets cannot be SIP.
    #[error("the stream does not speak SIP; close the connection")]
    NotSip,
}

#[expect(unused_variables, clippy::todo, reason = "signatures first")]
impl Framer {
    /// An empty stream.
    pub fn new(limits: Limits) -> Self {
        Self { limits }
    }
    /// Takes received octets.
    pub fn push(&mut self, bytes: &[u8]) {
        todo!()
    }
    /// The next frame; None until more octets are there.
    #[expect(clippy::should_implement_trait, reason = "an error ends it")]
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        todo!()
    }
    /// Octets that wait.
    pub fn buffered(&self) -> usize {
        todo!()
    }
}
