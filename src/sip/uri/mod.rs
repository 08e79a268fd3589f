//! [`Uri`]: sip and sips URIs (RFC 3261 §19.1).

use std::net::IpAddr;
use std::net::Ipv4Addr;
use std::net::Ipv6Addr;

use memchr::memchr;
use memchr::memchr2;

use crate::sip::error::ParseError;
use crate::sip::params::Params;
use crate::sip::scan;

mod canonical;
mod equivalence;

pub use canonical::CanonicalAor;
pub use canonical::MAX_AOR_BYTES;

/// A sip or sips URI, as written: nothing is unescaped.
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
    /// The headers after `?`, without it; may be empty.
    pub headers: &'m [u8],
}

/// The host of a URI or of a sent-by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'m> {
    /// A domain name, as written.
    Name(&'m [u8]),
    /// An IPv4 address.
    V4(Ipv4Addr),
    /// An IPv6 address, written in brackets.
    V6(Ipv6Addr),
}

impl<'m> Uri<'m> {
    /// Reads a sip or sips URI.
    ///
    /// # Errors
    /// [`ParseError::Uri`] for anything else: a `tel:` URI has no host, see [`Uri::scheme_of`].
    pub fn parse(text: &'m [u8]) -> Result<Self, ParseError> {
        Self::read(text).ok_or(ParseError::Uri)
    }

    /// The scheme of any absolute URI (RFC 3986 §3.1); None if the text has none.
    pub fn scheme_of(text: &[u8]) -> Option<&[u8]> {
        let scheme = scan::head(text, memchr(b':', text)?);
        let is_scheme = scheme.first()?.is_ascii_alphabetic()
            && scheme.iter().all(|&b| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'-' | b'.'));
        is_scheme.then_some(scheme)
    }

    /// Whether the scheme is sips.
    pub const fn is_sips(&self) -> bool {
        self.scheme.eq_ignore_ascii_case(b"sips")
    }

    /// The canonical address-of-record (RFC 3261 §10.3 step 5): scheme and host in lower case,
    /// escapes undone where the character may stand in a user, no password, parameters or headers,
    /// no default port (5060 for sip, 5061 for sips); `sips:` stays `sips:`.
    ///
    /// # Errors
    /// [`ParseError::Uri`] if it is longer than [`MAX_AOR_BYTES`].
    pub fn canonical_aor(&self) -> Result<CanonicalAor, ParseError> {
        CanonicalAor::of(self)
    }

    /// Whether two URIs are equivalent (RFC 3261 §19.1.4). Not transitive, by the standard.
    pub fn equivalent(&self, other: &Uri<'_>) -> bool {
        equivalence::equivalent(self, other)
    }

    fn read(text: &'m [u8]) -> Option<Self> {
        let (scheme, rest) = scan::split_once(text, b':')?;
        if !(scheme.eq_ignore_ascii_case(b"sip") || scheme.eq_ignore_ascii_case(b"sips"))
            || !is_clean(rest)
        {
            return None;
        }
        let (user, password, rest) = split_userinfo(rest)?;
        let (rest, headers) = match scan::split_once(rest, b'?') {
            Some((before, headers)) => (before, headers),
            None => (rest, &[][..]),
        };
        let host_len = memchr(b';', rest).unwrap_or(rest.len());
        let (host_text, port) = split_port(scan::head(rest, host_len))?;
        let params = Params::of(scan::tail(rest, host_len));
        Some(Self { scheme, user, password, host: host(host_text)?, port, params, headers })
    }
}

impl Host<'_> {
    /// The address, if the host is one.
    pub const fn address(self) -> Option<IpAddr> {
        match self {
            Self::Name(_) => None,
            Self::V4(address) => Some(IpAddr::V4(address)),
            Self::V6(address) => Some(IpAddr::V6(address)),
        }
    }
}

/// Whether the octets may stand in a URI at all: no white space, no control characters, nothing
/// that would end a bracketed or quoted place. Octets above 127 are let through.
pub(in crate::sip) fn is_clean(uri: &[u8]) -> bool {
    uri.iter().all(|&byte| byte > b' ' && byte != 0x7f && !matches!(byte, b'<' | b'>' | b'"'))
}

/// Reads a host: a name, an IPv4 address, or an IPv6 address in brackets.
pub(in crate::sip) fn host(text: &[u8]) -> Option<Host<'_>> {
    if let Some(inner) = text.strip_prefix(b"[") {
        let inner = std::str::from_utf8(inner.strip_suffix(b"]")?).ok()?;
        return inner.parse().ok().or_else(|| with_a_colon_too_many(inner)).map(Host::V6);
    }
    // Underscores are no part of host names, and yet names with them are out there.
    let is_name = |&byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if text.is_empty() || !text.iter().all(is_name) {
        return None;
    }
    let address = if text.last().is_some_and(u8::is_ascii_digit) {
        std::str::from_utf8(text).ok().and_then(|text| text.parse().ok())
    } else {
        None
    };
    Some(address.map_or(Host::Name(text), Host::V4))
}

/// An IPv6 address as RFC 3261's grammar lets it be written before an IPv4 part, `::` and `:`;
/// it must be tolerated (RFC 5118 §4.10).
fn with_a_colon_too_many(text: &str) -> Option<Ipv6Addr> {
    let (before, v4) = text.split_once(":::")?;
    let _: Ipv4Addr = v4.parse().ok()?;
    format!("{before}::{v4}").parse().ok()
}

/// Splits `host [":" port]`, white space around the colon allowed (RFC 3261 §25.1, COLON).
pub(in crate::sip) fn split_port(text: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let host_len = match text.first() {
        Some(b'[') => memchr(b']', text)? + 1,
        _ => memchr(b':', text).unwrap_or(text.len()),
    };
    let host = scan::trim_end(scan::head(text, host_len));
    match scan::trim_start(scan::tail(text, host_len)) {
        [] => Some((host, None)),
        [b':', port @ ..] => {
            let port = u16::try_from(scan::number(scan::trim_start(port))?).ok()?;
            Some((host, Some(port)))
        }
        _ => None,
    }
}

type Userinfo<'m> = (Option<&'m [u8]>, Option<&'m [u8]>, &'m [u8]);

/// Splits what follows the scheme into user, password and the rest.
///
/// The `@` is looked for first, because a user may contain `;` and `?`, and nothing behind the
/// host may contain an `@`.
fn split_userinfo(rest: &[u8]) -> Option<Userinfo<'_>> {
    let Some((userinfo, after)) = scan::split_once(rest, b'@') else {
        return Some((None, None, rest));
    };
    let (user, password) = match scan::split_once(userinfo, b':') {
        Some((user, password)) => (user, Some(password)),
        None => (userinfo, None),
    };
    // A second `@` or an open bracket would let two readers find two hosts.
    let is_sound = !user.is_empty()
        && memchr2(b'@', b'[', userinfo).is_none()
        && memchr(b'@', after).is_none()
        && escapes_are_whole(userinfo);
    is_sound.then_some((Some(user), password, after))
}

/// Whether two hexadecimal digits follow every `%`.
fn escapes_are_whole(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some(at) = memchr(b'%', rest) {
        rest = scan::tail(rest, at + 1);
        if !matches!(rest, [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit()) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_found() {
        let uri = Uri::parse(
            b"SIP:alice:secret@atlanta.example.com:5070;transport=tcp;lr?subject=x&priority=urgent",
        )
        .unwrap();
        assert_eq!((uri.scheme, uri.user), (&b"SIP"[..], Some(&b"alice"[..])));
        assert_eq!(uri.password, Some(&b"secret"[..]));
        assert_eq!(uri.host, Host::Name(b"atlanta.example.com"));
        assert_eq!(uri.port, Some(5070));
        assert_eq!(uri.params.get("transport"), Some(&b"tcp"[..]));
        assert!(uri.params.has("LR"));
        assert_eq!(uri.headers, b"subject=x&priority=urgent");
    }

    #[test]
    fn a_host_is_enough() {
        let uri = Uri::parse(b"sips:example.com").unwrap();
        assert_eq!((uri.user, uri.port, uri.is_sips()), (None, None, true));
        assert!(uri.params.as_bytes().is_empty() && uri.headers.is_empty());
    }

    #[test]
    fn a_user_may_contain_what_looks_like_parameters() {
        let uri = Uri::parse(b"sip:user;par=u%40example.net@example.com").unwrap();
        assert_eq!(uri.user, Some(&b"user;par=u%40example.net"[..]));
        assert_eq!(uri.host, Host::Name(b"example.com"));
        let weird = b"sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com";
        assert_eq!(Uri::parse(weird).map(|uri| uri.host), Ok(Host::Name(b"example.com")));
    }

    #[test]
    fn addresses_are_hosts() {
        let v4 = Uri::parse(b"sip:100@192.0.2.4:5061").unwrap();
        assert_eq!((v4.host, v4.port), (Host::V4(Ipv4Addr::new(192, 0, 2, 4)), Some(5061)));
        let v6 = Uri::parse(b"sip:100@[2001:db8::10]:5070;ob").unwrap();
        assert_eq!(v6.host.address(), "2001:db8::10".parse().ok());
        assert_eq!((v6.port, v6.params.has("ob")), (Some(5070), true));
        assert_eq!(Uri::parse(b"sip:[::1]").map(|uri| uri.port), Ok(None));
    }

    #[test]
    fn one_colon_too_many_is_tolerated_before_an_ipv4_part_only() {
        let host = |text: &[u8]| Uri::parse(text).ok().and_then(|uri| uri.host.address());
        let address = "2001:db8::192.0.2.1".parse().ok();
        assert_eq!(host(b"sip:user@[2001:db8:::192.0.2.1]"), address);
        assert_eq!(host(b"sip:user@[2001:db8::192.0.2.1]"), address);
        for bad in [
            &b"sip:[2001:db8:::1]"[..],
            b"sip:[2001:db8::::192.0.2.1]",
            b"sip:[2001::db8:::192.0.2.1]",
            b"sip:[2001:db8:::192.0.2]",
        ] {
            assert_eq!(host(bad), None, "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn broken_uris_are_refused() {
        for bad in [
            &b""[..],
            b"sip:",
            b"sip",
            b"sip:@example.com",
            b"sip:a@",
            b"sip:a@b:",
            b"sip:a@b:70000",
            b"sip:a@b:5060x",
            b"sip:a@b@c",
            b"sip:a%4@b",
            b"sip:a%zz@b",
            b"sip:a@2001:db8::1",
            b"sip:a@[2001:db8::1",
            b"sip:a@[2001:db8::1]x",
            b"sip:a@[192.0.2.1]",
            b"sip:a b@c",
            b"sip:a@b\r\n",
            b"<sip:a@b>",
            b"sip:[::1]@[::2]",
            b"tel:+49123",
            b"http://example.com",
        ] {
            let read = Uri::parse(bad).map(|_| ());
            assert_eq!(read, Err(ParseError::Uri), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn the_scheme_of_any_uri_can_be_told() {
        assert_eq!(Uri::scheme_of(b"tel:+49123"), Some(&b"tel"[..]));
        assert_eq!(Uri::scheme_of(b"nobodyKnowsThisScheme:x"), Some(&b"nobodyKnowsThisScheme"[..]));
        assert_eq!(Uri::scheme_of(b"<sip:a@b>"), None);
        assert_eq!(Uri::scheme_of(b":x"), None);
        assert_eq!(Uri::scheme_of(b"alice"), None);
    }
}
