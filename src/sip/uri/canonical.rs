//! [`CanonicalAor`]: the key of an address-of-record.

use std::borrow::Borrow;
use std::fmt;
use std::fmt::Display as _;
use std::fmt::Write as _;
use std::hash::Hash;
use std::hash::Hasher;
use std::ops::Deref;
use std::sync::Arc;

use smallvec::SmallVec;

use crate::private::Masked;
use crate::sip::error::ParseError;
use crate::sip::scan;
use crate::sip::uri::Host;
use crate::sip::uri::Uri;

/// Octets of the longest canonical address-of-record; it is a key in tables, so it is bounded.
pub const MAX_AOR_BYTES: usize = 512;

/// The canonical text of an address-of-record; ASCII, and on the stack up to 64 octets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct CanonicalAor(SmallVec<[u8; 64]>);

impl CanonicalAor {
    /// The text.
    pub fn as_str(&self) -> &str {
        // Only ASCII is ever pushed.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    pub(super) fn of(uri: &Uri<'_>) -> Result<Self, ParseError> {
        let mut out = SmallVec::new();
        let (scheme, default_port) =
            if uri.is_sips() { (&b"sips:"[..], 5061) } else { (&b"sip:"[..], 5060) };
        out.extend_from_slice(scheme);
        if let Some(user) = uri.user {
            push_user(&mut out, user);
            out.push(b'@');
        }
        let written = match uri.host {
            Host::Name(name) => {
                out.extend(name.iter().map(u8::to_ascii_lowercase));
                Ok(())
            }
            Host::V4(address) => write!(Text(&mut out), "{address}"),
            Host::V6(address) => write!(Text(&mut out), "[{address}]"),
        };
        let written = match uri.port.filter(|port| *port != default_port) {
            Some(port) => written.and_then(|()| write!(Text(&mut out), ":{port}")),
            None => written,
        };
        let fits = written.is_ok() && out.len() <= MAX_AOR_BYTES;
        if fits { Ok(Self(out)) } else { Err(ParseError::Uri) }
    }
}

/// Formats into the bytes without a String between.
struct Text<'a>(&'a mut SmallVec<[u8; 64]>);

impl fmt::Write for Text<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

/// Appends a user in the one spelling all equivalent ones share.
fn push_user(out: &mut SmallVec<[u8; 64]>, user: &[u8]) {
    let mut rest = user;
    while let Some((&first, after)) = rest.split_first() {
        let (byte, after) = match unescape(rest) {
            Some((byte, after)) => (byte, after),
            None => (first, after),
        };
        rest = after;
        if may_stand_in_user(byte) {
            out.push(byte);
        } else {
            out.extend_from_slice(&scan::escape(byte));
        }
    }
}

/// The octet of the escape at the start, and what follows it.
pub(super) fn unescape(text: &[u8]) -> Option<(u8, &[u8])> {
    let [b'%', high, low, after @ ..] = text else { return None };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    Some((digit(*high)? << 4 | digit(*low)?, after))
}

/// unreserved and user-unreserved of RFC 3261 §25.1.
const fn may_stand_in_user(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'-' | b'_' | b'.' | b'!' | b'~' | b'*' | b'\'' | b'(' | b')' // unreserved
                | b'&' | b'=' | b'+' | b'$' | b',' | b';' | b'?' | b'/' // user-unreserved
        )
}

impl Deref for CanonicalAor {
    type Target = str;

    fn deref(&self) -> &str {
        self.as_str()
    }
}

impl AsRef<str> for CanonicalAor {
    fn as_ref(&self) -> &str {
        self.as_str()
    }
}

impl Borrow<str> for CanonicalAor {
    fn borrow(&self) -> &str {
        self.as_str()
    }
}

impl Hash for CanonicalAor {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // As `str` does, which `Borrow` demands.
        self.as_str().hash(state);
    }
}

impl From<CanonicalAor> for Arc<str> {
    fn from(aor: CanonicalAor) -> Self {
        Self::from(aor.as_str())
    }
}

impl fmt::Display for CanonicalAor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for CanonicalAor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Masked(self.as_str()).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn canonical(uri: &str) -> String {
        Uri::parse(uri.as_bytes()).unwrap().canonical_aor().unwrap().to_string()
    }

    #[test]
    fn scheme_and_host_are_lower_case_and_the_user_is_not() {
        assert_eq!(canonical("SIP:Alice@Example.COM"), "sip:Alice@example.com");
        assert_eq!(canonical("SIPS:a@B"), "sips:a@b");
    }

    #[test]
    fn parameters_headers_and_passwords_go() {
        assert_eq!(canonical("sip:a:pw@b;user=phone;transport=tcp?x=y"), "sip:a@b");
    }

    #[test]
    fn escapes_are_undone_where_the_character_may_stand() {
        assert_eq!(canonical("sip:%61lic%65@b"), "sip:alice@b");
        assert_eq!(canonical("sip:%2B4930@b"), "sip:+4930@b");
        assert_eq!(canonical("sip:a%40x%3ab%25@b"), "sip:a%40x%3Ab%25@b");
        assert_eq!(canonical("sip:a%00b@c"), "sip:a%00b@c");
    }

    #[test]
    fn characters_that_should_have_been_escaped_are() {
        assert_eq!(canonical("sip:#31#@b"), "sip:%2331%23@b");
        assert_eq!(canonical("sip:j\u{f6}rg@b"), "sip:j%C3%B6rg@b");
    }

    #[test]
    fn only_the_default_port_of_the_scheme_goes() {
        assert_eq!(canonical("sip:a@b:5060"), "sip:a@b");
        assert_eq!(canonical("sip:a@b:5061"), "sip:a@b:5061");
        assert_eq!(canonical("sips:a@b:5061"), "sips:a@b");
        assert_eq!(canonical("sips:a@b:5060"), "sips:a@b:5060");
    }

    #[test]
    fn an_address_has_one_spelling() {
        assert_eq!(canonical("sip:a@[2001:0DB8:0::1]:5060"), "sip:a@[2001:db8::1]");
        assert_eq!(canonical("sip:192.0.2.1"), "sip:192.0.2.1");
    }

    #[test]
    fn the_canonical_form_is_its_own_canonical_form() {
        for uri in ["sip:%2B4930;x=1@EXAMPLE.com:5060;p", "sips:a%40b@[::1]:7", "sip:#%ff@h"] {
            let once = canonical(uri);
            assert_eq!(canonical(&once), once);
        }
    }

    #[test]
    fn an_endless_name_is_refused() {
        let uri = format!("sip:{}@b", "a".repeat(MAX_AOR_BYTES));
        let aor = Uri::parse(uri.as_bytes()).unwrap().canonical_aor().map(|_| ());
        assert_eq!(aor, Err(ParseError::Uri));
    }

    #[test]
    fn a_log_shows_no_number_that_could_be_dialled() {
        let aor = Uri::parse(b"sip:+49301234567@example.com").unwrap().canonical_aor().unwrap();
        assert_eq!(format!("{aor:?}"), "sip:+4\u{2026}67@example.com");
    }
}
