//! [`NameAddr`] and [`ContactValue`].

use crate::sip::error::ParseError;
use crate::sip::params::Params;
use crate::sip::uri::Uri;

/// A name-addr or addr-spec with its header parameters (RFC 3261 §20.10, §20.20).
#[derive(Clone, Copy, Debug)]
pub struct NameAddr<'m> {
    /// The display name as written, quotes included; may be empty, may be no UTF-8.
    pub display: &'m [u8],
    /// The URI as written, without angle brackets.
    pub uri: &'m [u8],
    /// The header parameters.
    pub params: Params<'m>,
}

/// One element of Contact.
#[derive(Clone, Copy, Debug)]
pub enum ContactValue<'m> {
    /// `*`: all bindings.
    Star,
    /// One address.
    Address(NameAddr<'m>),
}

#[expect(unused_variables, clippy::todo, reason = "signatures first")]
impl<'m> NameAddr<'m> {
    /// Reads one element.
    pub fn parse(value: &'m [u8]) -> Result<Self, ParseError> {
        todo!()
    }
    /// The tag parameter.
    pub fn tag(&self) -> Option<&'m [u8]> {
        todo!()
    }
    /// The URI, read.
    pub fn parsed_uri(&self) -> Result<Uri<'m>, ParseError> {
        todo!()
    }
}

#[expect(unused_variables, clippy::todo, reason = "signatures first")]
impl<'m> ContactValue<'m> {
    /// Reads one element of Contact.
    pub fn parse(value: &'m [u8]) -> Result<Self, ParseError> {
        todo!()
    }
}
