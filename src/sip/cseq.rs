//! [`CSeq`].

use crate::sip::error::ParseError;
use crate::sip::header::HeaderName;
use crate::sip::scan;

/// A CSeq (RFC 3261 §20.16).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CSeq<'m> {
    /// The sequence number.
    pub number: u32,
    /// The method; case matters.
    pub method: &'m str,
}

impl<'m> CSeq<'m> {
    /// Reads a raw CSeq value: a number of 32 bits, white space, a method.
    pub fn parse(value: &'m [u8]) -> Result<Self, ParseError> {
        Self::read(scan::trim(value)).ok_or(ParseError::Header(HeaderName::CSeq))
    }

    fn read(value: &'m [u8]) -> Option<Self> {
        let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let number = u32::try_from(scan::number(scan::head(value, digits))?).ok()?;
        let rest = scan::tail(value, digits);
        let method = scan::trim_start(rest);
        if method.len() == rest.len() {
            return None;
        }
        Some(Self { number, method: scan::token_text(method)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_and_method_are_read_over_any_white_space() {
        let expected = Ok(CSeq { number: 9, method: "REGISTER" });
        assert_eq!(CSeq::parse(b"9 REGISTER"), expected);
        assert_eq!(CSeq::parse(b" 0009\r\n\t REGISTER "), expected);
    }

    #[test]
    fn the_largest_number_is_the_largest_of_32_bits() {
        assert_eq!(CSeq::parse(b"4294967295 A").map(|cseq| cseq.number), Ok(u32::MAX));
        assert_eq!(CSeq::parse(b"4294967296 A"), Err(ParseError::Header(HeaderName::CSeq)));
    }

    #[test]
    fn anything_else_is_refused() {
        for bad in [&b""[..], b"9", b"REGISTER", b"9REGISTER", b"-1 A", b"9 A B", b"9 \xff"] {
            assert!(CSeq::parse(bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}
