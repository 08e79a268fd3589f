//! [`Params`]: `;name=value;flag;quoted="a;b,c"`.

use crate::sip::scan;

/// Parameters as written, from the first `;` on; may be empty.
#[derive(Clone, Copy, Debug, Default)]
pub struct Params<'m>(&'m [u8]);

impl<'m> Params<'m> {
    /// Takes the octets from the first `;` on.
    pub(in crate::sip) const fn of(bytes: &'m [u8]) -> Self {
        Self(bytes)
    }

    /// The value of the first parameter of that name (in any case), without quotes; empty for a
    /// flag. Escapes inside quotes stay as written.
    pub fn get(&self, name: &str) -> Option<&'m [u8]> {
        let (_, value) =
            self.iter().find(|(written, _)| written.eq_ignore_ascii_case(name.as_bytes()))?;
        Some(match value {
            Some([b'"', inner @ .., b'"']) => inner,
            Some(plain) => plain,
            None => &[],
        })
    }

    /// Whether there is a parameter of that name (in any case).
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Every parameter in order: its name, and its value as written, quotes included.
    pub fn iter(&self) -> impl Iterator<Item = (&'m [u8], Option<&'m [u8]>)> + use<'m> {
        Segments { rest: self.0 }.filter(|segment| !segment.is_empty()).map(name_and_value)
    }

    /// The parameters as written.
    pub const fn as_bytes(&self) -> &'m [u8] {
        self.0
    }

    /// Whether every parameter keeps the grammar of header parameters (RFC 3261 §25.1,
    /// generic-param).
    pub(in crate::sip) fn are_well_formed(&self) -> bool {
        let bytes = scan::trim(self.0);
        (bytes.is_empty() || bytes.first() == Some(&b';'))
            && Segments { rest: bytes }.all(is_well_formed)
    }
}

/// The parts between semicolons, trimmed; an empty part stands for `;;` or a `;` at the end.
struct Segments<'m> {
    rest: &'m [u8],
}

impl<'m> Iterator for Segments<'m> {
    type Item = &'m [u8];

    fn next(&mut self) -> Option<&'m [u8]> {
        let (_semicolon, rest) = self.rest.split_first()?;
        let end = scan::find_outside_quotes(rest, b';');
        self.rest = scan::tail(rest, end);
        Some(scan::trim(scan::head(rest, end)))
    }
}

fn name_and_value(segment: &[u8]) -> (&[u8], Option<&[u8]>) {
    match scan::split_once(segment, b'=') {
        Some((name, value)) => (scan::trim_end(name), Some(scan::trim_start(value))),
        None => (segment, None),
    }
}

fn is_well_formed(segment: &[u8]) -> bool {
    let (name, value) = name_and_value(segment);
    let value_is_well_formed = match value {
        None => true,
        Some(quoted @ [b'"', ..]) => scan::quoted_len(quoted) == Some(quoted.len()),
        // More than the grammar has: some phones leave the quotes away.
        Some(plain) => {
            !plain.is_empty() && !plain.iter().any(|byte| scan::is_white(*byte) || *byte == b'"')
        }
    };
    scan::is_token(name) && value_is_well_formed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case_and_quotes_are_taken_off() {
        let params = Params::of(br#" ;Expires=60 ; +sip.Instance = "<urn:uuid:1>";ob;q=0.5"#);
        assert_eq!(params.get("expires"), Some(&b"60"[..]));
        assert_eq!(params.get("+SIP.instance"), Some(&b"<urn:uuid:1>"[..]));
        assert_eq!(params.get("ob"), Some(&b""[..]));
        assert_eq!(params.get("q"), Some(&b"0.5"[..]));
        assert!(!params.has("tag"));
    }

    #[test]
    fn semicolons_and_escaped_quotes_inside_quotes_do_not_separate() {
        let params = Params::of(br#";a="1;b=2\";c=3";d=4"#);
        assert_eq!(params.iter().count(), 2);
        assert_eq!(params.get("a"), Some(&br#"1;b=2\";c=3"#[..]));
        assert!(!params.has("b") && !params.has("c"));
        assert_eq!(params.get("d"), Some(&b"4"[..]));
    }

    #[test]
    fn values_are_iterated_as_written() {
        let params = Params::of(b";a=\"x\";b");
        let all: Vec<_> = params.iter().collect();
        assert_eq!(all, [(&b"a"[..], Some(&b"\"x\""[..])), (&b"b"[..], None)]);
    }

    #[test]
    fn folded_white_space_around_the_signs_is_white_space() {
        let params = Params::of(b"\r\n ;\r\n branch\r\n = \r\n z9hG4bK1");
        assert_eq!(params.get("branch"), Some(&b"z9hG4bK1"[..]));
    }

    #[test]
    fn broken_parameters_are_noticed() {
        for good in [&b""[..], b";a", b";a=1;b=\"x;y\"", b" ; a = 1 ", b";received=[2001:db8::1]"] {
            assert!(Params::of(good).are_well_formed(), "{}", good.escape_ascii());
        }
        for bad in
            [&b";"[..], b";;", b";a;", b";a=", b";a=\"x", b";a=\"x\"y", b";=1", b"a", b";a b"]
        {
            assert!(!Params::of(bad).are_well_formed(), "{}", bad.escape_ascii());
        }
    }
}
