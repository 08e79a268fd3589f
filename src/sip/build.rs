//! [`Response`] and [`Request`]: messages of our own.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::sip::header::HeaderName;
use crate::sip::message::Message;

/// A response in the making.
#[derive(Debug)]
pub struct Response {
    out: Vec<u8>,
}

/// A request in the making.
#[derive(Debug)]
pub struct Request {
    out: Vec<u8>,
}

#[expect(unused_variables, clippy::todo, reason = "signatures first")]
impl Response {
    /// Starts the response to a request (RFC 3261 §8.2.6).
    pub fn to(request: &Message, status: u16) -> Self {
        todo!()
    }
    /// Notes in the top Via where the request came from (RFC 3261 §18.2.1, RFC 3581 §4).
    pub fn received(self, source: SocketAddr) -> Self {
        todo!()
    }
    /// Adds a To tag unless To has one.
    pub fn to_tag(self, tag: &str) -> Self {
        todo!()
    }
    /// Appends a header.
    pub fn header(self, name: HeaderName, value: impl AsRef<[u8]>) -> Self {
        todo!()
    }
    /// Appends a header by name.
    pub fn named(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        todo!()
    }
    /// Sets the body.
    pub fn body(self, content_type: &str, body: &[u8]) -> Self {
        todo!()
    }
    /// The response.
    pub fn finish(self) -> Bytes {
        todo!()
    }
}

#[expect(unused_variables, clippy::todo, reason = "signatures first")]
impl Request {
    /// Starts a request.
    pub fn new(method: &str, uri: &[u8]) -> Self {
        todo!()
    }
    /// Appends a header.
    pub fn header(self, name: HeaderName, value: impl AsRef<[u8]>) -> Self {
        todo!()
    }
    /// Appends a header by name.
    pub fn named(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        todo!()
    }
    /// Sets the body.
    pub fn body(self, content_type: &str, body: &[u8]) -> Self {
        todo!()
    }
    /// The request.
    pub fn finish(self) -> Bytes {
        todo!()
    }
}

/// The default reason phrase of a status code.
#[expect(unused_variables, clippy::todo, reason = "signatures first")]
pub fn reason_phrase(status: u16) -> &'static str {
    todo!()
}
