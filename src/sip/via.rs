//! [`Via`].

use std::net::IpAddr;

use crate::sip::error::ParseError;
use crate::sip::params::Params;

/// One Via element (RFC 3261 §20.42).
#[derive(Clone, Copy, Debug)]
pub struct Via<'m> {
    /// The transport as written.
    pub transport: &'m [u8],
    /// The sent-by host as written, an IPv6 address with its brackets.
    pub host: &'m [u8],
    /// The sent-by port, if it is written.
    pub port: Option<u16>,
    /// The parameters.
    pub params: Params<'m>,
}

#[expect(unused_variables, clippy::todo, reason = "signatures first")]
impl<'m> Via<'m> {
    /// Reads one element of Via.
    pub fn parse(value: &'m [u8]) -> Result<Self, ParseError> {
        todo!()
    }
    /// The branch parameter.
    pub fn branch(&self) -> Option<&'m [u8]> {
        todo!()
    }
    /// The rport parameter: Some(None) asks for it (RFC 3581 §3).
    pub fn rport(&self) -> Option<Option<u16>> {
        todo!()
    }
    /// The received parameter.
    pub fn received(&self) -> Option<IpAddr> {
        todo!()
    }
}
