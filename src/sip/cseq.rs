//! [`CSeq`].

use crate::sip::error::ParseError;

/// A CSeq (RFC 3261 §20.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'m> {
    /// The sequence number.
    pub number: u32,
    /// The method; case matters.
    pub method: &'m str,
}

#[expect(unused_variables, clippy::todo, reason = "signatures first")]
impl<'m> CSeq<'m> {
    /// Reads a raw CSeq value.
    pub fn parse(value: &'m [u8]) -> Result<Self, ParseError> {
        todo!()
    }
}
