//! Low-level scanning shared by the readers: white space, tokens, quoted strings, lists, lines.
//!
//! Nothing here allocates, and nothing here fails by panicking: what cannot be read is None or
//! reaches to the end.

use std::ops::Range;

use memchr::memchr2;
use memchr::memchr3;

/// One header line, folding included, as offsets into the message.
pub(in crate::sip) struct RawLine {
    /// The name, without white space before the colon.
    pub(in crate::sip) name: Range<usize>,
    /// The value, trimmed; a folded one still holds CRLF and white space.
    pub(in crate::sip) value: Range<usize>,
    /// Where the next line starts.
    pub(in crate::sip) end: usize,
}

/// What stands at the start of a line.
pub(in crate::sip) enum Step {
    /// A header line.
    Line(RawLine),
    /// The empty line; the body starts behind it.
    Empty {
        /// The first octet of the body.
        body: usize,
    },
    /// Something that is no header line.
    Bad {
        /// Where the next line starts.
        end: usize,
    },
    /// No line end follows.
    Truncated,
}

/// Reads the header line that starts at `at`.
pub(in crate::sip) fn step(bytes: &[u8], at: usize) -> Step {
    let rest = tail(bytes, at);
    if rest.starts_with(b"\r\n") {
        return Step::Empty { body: at + 2 };
    }
    let Some(line_end) = logical_line_end(bytes, at) else { return Step::Truncated };
    let end = line_end.at + 2;
    let line = head(rest, line_end.at - at);
    let name_len = line.iter().position(|&byte| !is_token_byte(byte)).unwrap_or(line.len());
    let after_name = tail(line, name_len);
    let gap = after_name.iter().take_while(|&&byte| byte == b' ' || byte == b'\t').count();
    if line_end.stray || name_len == 0 || after_name.get(gap) != Some(&b':') {
        return Step::Bad { end };
    }
    let value_at = name_len + gap + 1;
    let value = tail(line, value_at);
    let kept = trim_start(value);
    let start = at + value_at + (value.len() - kept.len());
    Step::Line(RawLine { name: at..at + name_len, value: start..start + trim_end(kept).len(), end })
}

struct LineEnd {
    /// The CR of the CRLF that ends the line.
    at: usize,
    /// Whether a CR or LF without its partner stands in the line.
    stray: bool,
}

/// Finds the CRLF that no white space follows.
fn logical_line_end(bytes: &[u8], from: usize) -> Option<LineEnd> {
    let mut stray = false;
    let mut at = from;
    loop {
        at += memchr2(b'\r', b'\n', tail(bytes, at))?;
        if !tail(bytes, at).starts_with(b"\r\n") {
            stray = true;
            at += 1;
        } else if matches!(bytes.get(at + 2), Some(b' ' | b'\t')) {
            at += 2;
        } else {
            return Some(LineEnd { at, stray });
        }
    }
}

/// The octets from `at` on; none if there are none.
pub(in crate::sip) fn tail(bytes: &[u8], at: usize) -> &[u8] {
    bytes.get(at..).unwrap_or_default()
}

/// The octets before `at`; all if there are fewer.
pub(in crate::sip) fn head(bytes: &[u8], at: usize) -> &[u8] {
    bytes.get(..at).unwrap_or(bytes)
}

/// The octets of a range; none if it reaches beyond the end.
pub(in crate::sip) fn span(bytes: &[u8], range: Range<usize>) -> &[u8] {
    bytes.get(range).unwrap_or_default()
}

/// Splits at the first `separator`, which neither side keeps.
pub(in crate::sip) fn split_once(bytes: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = memchr::memchr(separator, bytes)?;
    Some((head(bytes, at), tail(bytes, at + 1)))
}

/// White space of a header value, line folding included (LWS, RFC 3261 §25.1).
pub(in crate::sip) const fn is_white(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// Octets that are looked at together.
const BLOCK: usize = 64;

/// Whether there is a control octet that is neither white space nor escaped (RFC 3261 §25.1,
/// quoted-pair).
pub(in crate::sip) fn has_control_octets(bytes: &[u8]) -> bool {
    let is_control = |byte: &u8| byte.is_ascii_control() && !is_white(*byte);
    // Nearly no message has any, escaped or not; without a way out, a block is looked at as one.
    let has_any = |block: &[u8]| block.iter().fold(false, |any, byte| any | is_control(byte));
    if !bytes.chunks(BLOCK).any(has_any) {
        return false;
    }
    let mut bytes = bytes.iter();
    while let Some(byte) = bytes.next() {
        if *byte == b'\\' {
            bytes.next();
        } else if is_control(byte) {
            return true;
        }
    }
    false
}

/// Removes white space at both ends.
pub(in crate::sip) fn trim(bytes: &[u8]) -> &[u8] {
    trim_end(trim_start(bytes))
}

/// Removes white space at the start.
pub(in crate::sip) fn trim_start(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let [first, after @ ..] = rest
        && is_white(*first)
    {
        rest = after;
    }
    rest
}

/// Removes white space at the end.
pub(in crate::sip) fn trim_end(bytes: &[u8]) -> &[u8] {
    let mut rest = bytes;
    while let [before @ .., last] = rest
        && is_white(*last)
    {
        rest = before;
    }
    rest
}

/// Whether a byte may stand in a token (RFC 3261 §25.1).
pub(in crate::sip) const fn is_token_byte(byte: u8) -> bool {
    TOKEN[byte as usize]
}

/// Whether the octets are a token.
pub(in crate::sip) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().all(|&byte| is_token_byte(byte))
}

/// A token as text.
pub(in crate::sip) fn token_text(bytes: &[u8]) -> Option<&str> {
    if is_token(bytes) { std::str::from_utf8(bytes).ok() } else { None }
}

/// Reads `1*DIGIT`; a number beyond `u64` saturates.
pub(in crate::sip) fn number(bytes: &[u8]) -> Option<u64> {
    if bytes.is_empty() {
        return None;
    }
    bytes.iter().try_fold(0u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        Some(sum.saturating_mul(10).saturating_add(digit))
    })
}

/// The length of the quoted string at the start, both quotes included; None if it has no end.
pub(in crate::sip) fn quoted_len(bytes: &[u8]) -> Option<usize> {
    let mut at = 1;
    loop {
        at += memchr2(b'"', b'\\', tail(bytes, at))?;
        if bytes.get(at) == Some(&b'"') {
            return Some(at + 1);
        }
        // Whatever follows a backslash is escaped, be it a quote (RFC 3261 §25.1, quoted-pair).
        at += 2;
    }
}

/// Where `wanted` first stands outside quoted strings; the end if nowhere.
pub(in crate::sip) fn find_outside_quotes(bytes: &[u8], wanted: u8) -> usize {
    let mut at = 0;
    while let Some(skip) = memchr2(wanted, b'"', tail(bytes, at)) {
        at += skip;
        if bytes.get(at) != Some(&b'"') {
            return at;
        }
        match quoted_len(tail(bytes, at)) {
            Some(len) => at += len,
            None => break,
        }
    }
    bytes.len()
}

/// The elements of a comma-separated list, trimmed, without the empty ones.
///
/// Commas inside quoted strings and angle brackets do not separate.
#[derive(Clone)]
pub(in crate::sip) struct Elements<'m> {
    rest: &'m [u8],
}

impl<'m> Elements<'m> {
    /// The elements of one raw value.
    pub(in crate::sip) const fn of(value: &'m [u8]) -> Self {
        Self { rest: value }
    }
}

impl<'m> Iterator for Elements<'m> {
    type Item = &'m [u8];

    fn next(&mut self) -> Option<&'m [u8]> {
        while !self.rest.is_empty() {
            let end = element_len(self.rest);
            let element = trim(head(self.rest, end));
            self.rest = tail(self.rest, end + 1);
            if !element.is_empty() {
                return Some(element);
            }
        }
        None
    }
}

/// Where the first element of a list ends: at its comma, or at the end.
pub(in crate::sip) fn element_len(list: &[u8]) -> usize {
    let mut at = 0;
    while let Some(skip) = memchr3(b',', b'"', b'<', tail(list, at)) {
        at += skip;
        let rest = tail(list, at);
        let inner = match rest.first() {
            Some(b'"') => quoted_len(rest),
            Some(b'<') => memchr::memchr(b'>', rest).map(|close| close + 1),
            _ => return at,
        };
        match inner {
            Some(len) => at += len,
            None => break,
        }
    }
    list.len()
}

/// Makes spaces of the CRs and LFs from `start` on, so that no value can end its line.
pub(in crate::sip) fn unfold(out: &mut [u8], start: usize) {
    for byte in out.get_mut(start..).unwrap_or_default() {
        if matches!(*byte, b'\r' | b'\n') {
            *byte = b' ';
        }
    }
}

/// Appends a number in decimal digits.
pub fn append_number(out: &mut Vec<u8>, number: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        if let Some(digit) = digits.get_mut(at) {
            *digit = b'0' + (rest % 10) as u8;
        }
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(tail(&digits, at));
}

/// Appends a value, so that it cannot end its line: CR and LF become spaces, which also unfolds.
pub(in crate::sip) fn append_value(out: &mut Vec<u8>, value: &[u8]) {
    if memchr2(b'\r', b'\n', value).is_none() {
        out.extend_from_slice(value);
    } else {
        out.extend(value.iter().map(|&byte| if is_white(byte) { b' ' } else { byte }));
    }
}

/// Appends a URI, so that it cannot end its place in a start line: white space and control
/// characters are escaped.
pub(in crate::sip) fn append_uri(out: &mut Vec<u8>, uri: &[u8]) {
    for &byte in uri {
        if byte <= b' ' || byte == 0x7f {
            out.extend_from_slice(&escape(byte));
        } else {
            out.push(byte);
        }
    }
}

/// `%` and two upper-case hexadecimal digits (RFC 3261 §25.1, escaped).
pub(in crate::sip) fn escape(byte: u8) -> [u8; 3] {
    const fn digit(nibble: u8) -> u8 {
        if nibble < 10 { b'0' + nibble } else { b'A' + (nibble - 10) }
    }
    [b'%', digit(byte >> 4), digit(byte & 0xf)]
}

const TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = matches!(
            byte as u8,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9'
                | b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~'
        );
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(list: &[u8]) -> Vec<String> {
        Elements::of(list).map(|element| String::from_utf8_lossy(element).into_owned()).collect()
    }

    #[test]
    fn a_list_is_cut_at_its_commas() {
        assert_eq!(elements(b"a, b ,\r\n c"), ["a", "b", "c"]);
    }

    #[test]
    fn commas_in_quotes_and_brackets_do_not_cut() {
        assert_eq!(
            elements(br#""A, \"B" <sip:a,b@c>;x="1,2", <sip:d>"#),
            [r#""A, \"B" <sip:a,b@c>;x="1,2""#, "<sip:d>"]
        );
    }

    #[test]
    fn empty_elements_are_passed_over() {
        assert_eq!(elements(b" , a,, b,"), ["a", "b"]);
        assert_eq!(elements(b""), Vec::<String>::new());
    }

    #[test]
    fn an_open_quote_or_bracket_takes_the_rest() {
        assert_eq!(elements(b"\"a, b"), ["\"a, b"]);
        assert_eq!(elements(b"<a, b"), ["<a, b"]);
    }

    #[test]
    fn a_quoted_string_ends_at_its_unescaped_quote() {
        assert_eq!(quoted_len(br#""a\"b" c"#), Some(6));
        assert_eq!(quoted_len(br#""a\\" c"#), Some(5));
        assert_eq!(quoted_len(br#""a\"#), None);
        assert_eq!(quoted_len(br#"""#), None);
    }

    #[test]
    fn a_number_saturates_and_junk_is_none() {
        assert_eq!(number(b"0042"), Some(42));
        assert_eq!(number(b"99999999999999999999999"), Some(u64::MAX));
        assert_eq!(number(b""), None);
        assert_eq!(number(b"-1"), None);
        assert_eq!(number(b"1 2"), None);
    }

    #[test]
    fn a_value_cannot_end_its_line() {
        let mut out = Vec::new();
        append_value(&mut out, b"a\r\nEvil: 1\n\r");
        assert_eq!(out, b"a  Evil: 1  ");
        out.clear();
        append_uri(&mut out, b"sip:a SIP/2.0\r\n@b");
        assert_eq!(out, b"sip:a%20SIP/2.0%0D%0A@b");
    }
}
