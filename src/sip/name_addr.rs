//! [`NameAddr`] and [`ContactValue`].

use memchr::memchr;
use memchr::memchr3;

use crate::sip::error::ParseError;
use crate::sip::header::HeaderName;
use crate::sip::params::Params;
use crate::sip::scan;
use crate::sip::uri;
use crate::sip::uri::Uri;

/// A name-addr or addr-spec with its header parameters (RFC 3261 §20.10, §20.20).
#[derive(Clone, Copy, Debug)]
pub struct NameAddr<'m> {
    /// The display name as written, quotes included; may be empty, may be no UTF-8.
    pub display: &'m [u8],
    /// The URI as written, without angle brackets; of any scheme.
    pub uri: &'m [u8],
    /// The header parameters. Without angle brackets every `;` belongs to them.
    pub params: Params<'m>,
}

impl<'m> NameAddr<'m> {
    /// Reads one element.
    ///
    /// # Errors
    /// [`ParseError::Header`] of [`HeaderName::Other`]: the reader of a header puts its name in.
    pub fn parse(value: &'m [u8]) -> Result<Self, ParseError> {
        Self::read(scan::trim(value)).ok_or(ParseError::Header(HeaderName::Other))
    }

    /// The tag parameter.
    pub fn tag(&self) -> Option<&'m [u8]> {
        self.params.get("tag")
    }

    /// The URI, read; [`ParseError::Uri`] if it is no sip or sips URI.
    pub fn parsed_uri(&self) -> Result<Uri<'m>, ParseError> {
        Uri::parse(self.uri)
    }

    fn read(value: &'m [u8]) -> Option<Self> {
        if value.first() == Some(&b'"') {
            let display_len = scan::quoted_len(value)?;
            let rest = scan::trim_start(scan::tail(value, display_len));
            return Self::bracketed(scan::head(value, display_len), rest);
        }
        // A quote may only start a display name: with text before it, two readers would find two
        // different addresses in the same header.
        match memchr3(b'<', b';', b'"', value) {
            Some(at) if value.get(at) == Some(&b'<') => {
                Self::bracketed(scan::trim_end(scan::head(value, at)), scan::tail(value, at))
            }
            Some(at) if value.get(at) == Some(&b'"') => None,
            Some(at) => Self::plain(scan::trim_end(scan::head(value, at)), scan::tail(value, at)),
            None => Self::plain(value, &[]),
        }
    }

    /// The form with angle brackets; `rest` starts at `<`.
    fn bracketed(display: &'m [u8], rest: &'m [u8]) -> Option<Self> {
        let inner = rest.strip_prefix(b"<")?;
        let close = memchr(b'>', inner)?;
        Self::checked(display, scan::head(inner, close), scan::tail(inner, close + 1))
    }

    /// The form without: a comma, question mark or semicolon in the URI needs brackets
    /// (RFC 3261 §20.10).
    fn plain(uri: &'m [u8], params: &'m [u8]) -> Option<Self> {
        if uri.iter().any(|byte| matches!(byte, b',' | b'?')) {
            return None;
        }
        Self::checked(&[], uri, params)
    }

    fn checked(display: &'m [u8], uri: &'m [u8], params: &'m [u8]) -> Option<Self> {
        let params = Params::of(scan::trim_start(params));
        let is_sound = uri::is_clean(uri) && Uri::scheme_of(uri).is_some();
        (is_sound && params.are_well_formed()).then_some(Self { display, uri, params })
    }
}

/// One element of Contact.
#[derive(Clone, Copy, Debug)]
pub enum ContactValue<'m> {
    /// `*`: all bindings of the address-of-record (RFC 3261 §10.2.2).
    Star,
    /// One address.
    Address(NameAddr<'m>),
}

impl<'m> ContactValue<'m> {
    /// Reads one element of Contact.
    pub fn parse(value: &'m [u8]) -> Result<Self, ParseError> {
        if scan::trim(value) == b"*" {
            return Ok(Self::Star);
        }
        NameAddr::parse(value)
            .map(Self::Address)
            .map_err(|_| ParseError::Header(HeaderName::Contact))
    }

    /// The address; None for `*`.
    pub const fn address(&self) -> Option<NameAddr<'m>> {
        match self {
            Self::Star => None,
            Self::Address(address) => Some(*address),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn read(value: &[u8]) -> (String, String, String) {
        let read = NameAddr::parse(value).unwrap();
        let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
        (text(read.display), text(read.uri), text(read.params.as_bytes()))
    }

    fn three(display: &str, uri: &str, params: &str) -> (String, String, String) {
        (display.to_owned(), uri.to_owned(), params.to_owned())
    }

    #[test]
    fn brackets_separate_the_parameters_of_the_uri_from_those_of_the_header() {
        assert_eq!(
            read(b"Alice Example <sip:alice@example.com;transport=tcp?a=b> ; tag=1"),
            three("Alice Example", "sip:alice@example.com;transport=tcp?a=b", "; tag=1")
        );
        assert_eq!(read(b"caller<sip:a@b>;tag=3"), three("caller", "sip:a@b", ";tag=3"));
    }

    #[test]
    fn without_brackets_the_parameters_are_the_headers() {
        assert_eq!(
            read(b"sip:alice@example.com ;tag=1"),
            three("", "sip:alice@example.com", ";tag=1")
        );
        let quoted = NameAddr::parse(b"sip:a@b;x=\"<sip:evil@c>\";tag=9").unwrap();
        assert_eq!((quoted.uri, quoted.tag()), (&b"sip:a@b"[..], Some(&b"9"[..])));
    }

    #[test]
    fn a_quoted_display_name_hides_brackets_commas_and_escaped_quotes() {
        assert_eq!(
            read(br#""a <sip:evil@x>, \"b" <sip:bob@example.com>"#).1,
            "sip:bob@example.com"
        );
    }

    #[test]
    fn a_display_name_may_be_no_utf8() {
        let read = NameAddr::parse(b"\"J\xf6rg\"\r\n <sip:joerg@example.com>;tag=1").unwrap();
        assert_eq!(read.display, b"\"J\xf6rg\"");
        assert_eq!(read.tag(), Some(&b"1"[..]));
    }

    #[test]
    fn other_schemes_are_carried_and_are_no_sip_uris() {
        let read = NameAddr::parse(b"<tel:+4930123;ext=1>;tag=1").unwrap();
        assert_eq!(read.uri, b"tel:+4930123;ext=1");
        assert_eq!(read.parsed_uri().map(|_| ()), Err(ParseError::Uri));
    }

    #[test]
    fn ambiguous_and_broken_addresses_are_refused() {
        for bad in [
            &b""[..],
            b"<>",
            b"alice",
            b"<sip:a@b",
            b"sip:a@b>",
            b"\"Alice <sip:a@b>",
            b"\"Alice\" sip:a@b",
            b"x \"Alice\" <sip:a@b>",
            b"\"Watson, Thomas\" < sip:t.watson@example.org >",
            b"<sip:a b@c>",
            b"<sip:a@b> x",
            b"<sip:a@b>;;",
            b"<sip:a@b>;tag=",
            b"sip:a@b?Route=%3Csip:c%3E",
            b"*",
        ] {
            assert!(NameAddr::parse(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn a_star_is_a_contact_of_its_own() {
        assert!(matches!(ContactValue::parse(b" * "), Ok(ContactValue::Star)));
        assert!(matches!(ContactValue::parse(b"<sip:a@b>"), Ok(ContactValue::Address(_))));
        let broken = ContactValue::parse(b"**").map(|_| ());
        assert_eq!(broken, Err(ParseError::Header(HeaderName::Contact)));
    }
}
