//! [`Uri`]: sip and sips URIs (RFC 3261 §19.1).

use std::net::Ipv4Addr;
use std::net::Ipv6Addr;
use std::ops::Deref;

use smallvec::SmallVec;

use crate::sip::error::ParseError;
use crate::sip::params::Params;

/// A sip or sips URI, as written.
#[derive(Clone, Copy, Debug)]
pub struct Uri<'m> {
    /// `sip` or `sips`, in the case it was written in.
    pub scheme: &'m [u8],
    /// The user, without the password.
    pub user: Option<&'m [u8]>,
    /// The password.
    pub password: Option<&'m [u8]>,
    /// The host.
    pub host: Host<'m>,
    /// The port, if it is written.
    pub port: Option<u16>,
    /// The URI parameters.
    pub params: Params<'m>,
    /// The headers after `?`, without it.
    pub headers: &'m [u8],
}

/// The host of a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'m> {
    /// A domain name, as written.
    Name(&'m [u8]),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address, written in brackets.
    V6(Ipv6Addr),
}

/// The canonical text of an address-of-record; inline up to 64 octets.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CanonicalAor(SmallVec<[u8; 64]>);

#[expect(unused_variables, clippy::todo, reason = "signatures first")]
impl<'m> Uri<'m> {
    /// Reads a sip or sips URI.
    pub fn parse(text: &'m [u8]) -> Result<Self, ParseError> {
        todo!()
    }
    /// The scheme of any URI.
    pub fn scheme_of(text: &[u8]) -> Option<&[u8]> {
        todo!()
    }
    /// The canonical address-of-record (RFC 3261 §10.3 step 5).
    pub fn canonical_aor(&self) -> Result<CanonicalAor, ParseError> {
        todo!()
    }
    /// Whether two URIs are equivalent (RFC 3261 §19.1.4).
    pub fn equivalent(&self, other: &Uri<'_>) -> bool {
        todo!()
    }
}

#[expect(clippy::todo, reason = "signatures first")]
impl CanonicalAor {
    /// The text.
    pub fn as_str(&self) -> &str {
        todo!()
    }
}

impl Deref for CanonicalAor {
    type Target = str;
    fn deref(&self) -> &str {
        self.as_str()
    }
}
