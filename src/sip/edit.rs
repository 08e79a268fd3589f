//! [`Edit`]: changes by splicing.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::sip::header::HeaderName;
use crate::sip::message::Message;

/// A changed copy of a message in the making; what is kept is copied as it was written.
#[derive(Debug)]
pub struct Edit<'m> {
    message: &'m Message,
}

#[expect(unused_variables, clippy::todo, reason = "signatures first")]
impl<'m> Edit<'m> {
    /// Starts with the message as it is.
    pub fn of(message: &'m Message) -> Self {
        Self { message }
    }
    /// Replaces the Request-URI.
    pub fn request_uri(self, uri: &[u8]) -> Self {
        todo!()
    }
    /// Writes a new line before the first of that name, or as the first header.
    pub fn push_top(self, name: HeaderName, value: &[u8]) -> Self {
        todo!()
    }
    /// Removes the first element of that name.
    pub fn pop_top(self, name: HeaderName) -> Self {
        todo!()
    }
    /// Replaces the first element of that name.
    pub fn replace_top(self, name: HeaderName, value: &[u8]) -> Self {
        todo!()
    }
    /// Removes every line of that name.
    pub fn remove(self, name: HeaderName) -> Self {
        todo!()
    }
    /// Puts one line of that name in the place of all there are.
    pub fn set(self, name: HeaderName, value: &[u8]) -> Self {
        todo!()
    }
    /// Counts Max-Forwards down, or adds 70 (RFC 3261 §16.6 step 3).
    pub fn max_forwards_minus_one(self) -> Self {
        todo!()
    }
    /// Notes in the top Via where the request came from (RFC 3261 §18.2.1, RFC 3581 §4).
    pub fn received(self, source: SocketAddr) -> Self {
        todo!()
    }
    /// The changed message.
    pub fn finish(self) -> Bytes {
        todo!()
    }
}
