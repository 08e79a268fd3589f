//! JSON read where it lies. What is read here was found to be JSON before (see `message`), so
//! only the places of things are looked for; octets that are no JSON after all give nothing.

use std::borrow::Cow;
use std::ops::Range;

use memchr::memchr2;

/// The members of an object: the octets of each key with its quotes, and of its value.
pub(super) fn members(bytes: &[u8], object: Range<usize>) -> Members<'_> {
    Members { within: Within::open(bytes, object, b'{') }
}

/// The value of the member of an object with this name.
pub(super) fn member(bytes: &[u8], object: Range<usize>, name: &str) -> Option<Range<usize>> {
    let is_it = |key: Range<usize>| text(bytes, key).is_some_and(|it| it == name);
    members(bytes, object).find(|(key, _)| is_it(key.clone())).map(|(_, value)| value)
}

/// The items of an array.
pub(super) fn items(bytes: &[u8], array: Range<usize>) -> Items<'_> {
    Items { within: Within::open(bytes, array, b'[') }
}

/// The first octet that is no white space.
pub(super) fn skip_space(bytes: &[u8], mut at: usize) -> usize {
    while bytes.get(at).is_some_and(|octet| matches!(octet, b' ' | b'\t' | b'\r' | b'\n')) {
        at += 1;
    }
    at
}

/// A string's text. `span` has its quotes.
pub(super) fn text(bytes: &[u8], span: Range<usize>) -> Option<Cow<'_, str>> {
    let quoted = bytes.get(span)?;
    let inner = quoted.strip_prefix(b"\"")?.strip_suffix(b"\"")?;
    if inner.contains(&b'\\') {
        return serde_json::from_slice::<String>(quoted).ok().map(Cow::Owned);
    }
    std::str::from_utf8(inner).ok().map(Cow::Borrowed)
}

/// The two kinds of containers share their walk.
struct Within<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl<'a> Within<'a> {
    fn open(bytes: &'a [u8], span: Range<usize>, bracket: u8) -> Self {
        let bytes = bytes.get(..span.end).unwrap_or_default();
        let start = skip_space(bytes, span.start);
        if bytes.get(start) == Some(&bracket) {
            Self { bytes, at: start + 1, end: span.end }
        } else {
            Self { bytes, at: span.end, end: span.end }
        }
    }

    /// Steps over a comma to where the next value begins, if there is one.
    fn step(&mut self) -> Option<()> {
        self.at = skip_space(self.bytes, self.at);
        if self.bytes.get(self.at) == Some(&b',') {
            self.at = skip_space(self.bytes, self.at + 1);
        }
        let is_over = matches!(self.bytes.get(self.at), None | Some(b'}' | b']'));
        (self.at < self.end && !is_over).then_some(())
    }

    fn value(&mut self) -> Option<Range<usize>> {
        let start = self.at;
        self.at = end_of_value(self.bytes, start)?;
        Some(start..self.at)
    }
}

/// See [`members`].
pub(super) struct Members<'a> {
    within: Within<'a>,
}

impl Iterator for Members<'_> {
    type Item = (Range<usize>, Range<usize>);

    fn next(&mut self) -> Option<Self::Item> {
        self.within.step()?;
        let key = self.within.value()?;
        let colon = skip_space(self.within.bytes, key.end);
        if self.within.bytes.get(colon) != Some(&b':') {
            return None;
        }
        self.within.at = skip_space(self.within.bytes, colon + 1);
        Some((key, self.within.value()?))
    }
}

/// See [`items`].
pub(super) struct Items<'a> {
    within: Within<'a>,
}

impl Iterator for Items<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Self::Item> {
        self.within.step()?;
        self.within.value()
    }
}

/// Behind the value that begins at `at`.
fn end_of_value(bytes: &[u8], at: usize) -> Option<usize> {
    match bytes.get(at)? {
        b'"' => end_of_string(bytes, at),
        b'{' | b'[' => end_of_container(bytes, at),
        _ => {
            let ends =
                |octet: &u8| matches!(octet, b',' | b'}' | b']' | b' ' | b'\t' | b'\r' | b'\n');
            let length = bytes[at..].iter().position(ends).unwrap_or(bytes.len() - at);
            (length > 0).then_some(at + length)
        }
    }
}

fn end_of_string(bytes: &[u8], at: usize) -> Option<usize> {
    let mut at = at + 1;
    loop {
        let found = at + memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes.get(found) == Some(&b'"') {
            return Some(found + 1);
        }
        at = found + 2;
    }
}

fn end_of_container(bytes: &[u8], mut at: usize) -> Option<usize> {
    let mut depth = 0_usize;
    loop {
        match bytes.get(at)? {
            b'"' => {
                at = end_of_string(bytes, at)?;
                continue;
            }
            b'{' | b'[' => depth += 1,
            b'}' | b']' => {
                depth -= 1;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ => {}
        }
        at += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(text: &str) -> Vec<(&str, &str)> {
        members(text.as_bytes(), 0..text.len())
            .map(|(key, value)| (&text[key], &text[value]))
            .collect()
    }

    #[test]
    fn members_are_found_whatever_stands_between_them() {
        assert_eq!(
            listed(" { \"a\" : 1 ,\n\"b}\":{\"c\":[1,{\"]\":\"\\\"}\"}]},\"d\":null}"),
            [("\"a\"", "1"), ("\"b}\"", "{\"c\":[1,{\"]\":\"\\\"}\"}]}"), ("\"d\"", "null")]
        );
        assert_eq!(listed("{}"), []);
        assert_eq!(listed("[1]"), []);
    }

    #[test]
    fn items_are_found_and_strings_are_read() {
        let text = r#"[ "a\u00e4", [1,2] ,3]"#;
        let spans: Vec<_> = items(text.as_bytes(), 0..text.len()).collect();
        let all: Vec<&str> = spans.iter().map(|span| &text[span.clone()]).collect();
        assert_eq!(all, [r#""a\u00e4""#, "[1,2]", "3"]);
        assert_eq!(super::text(text.as_bytes(), spans[0].clone()).unwrap(), "aä");
    }

    #[test]
    fn what_is_no_json_gives_nothing() {
        for bytes in ["", "{", "{\"a", "{\"a\\", "{\"a\" 1}", "[[[[", "{\"a\":", "\"\\"] {
            let all = members(bytes.as_bytes(), 0..bytes.len()).count()
                + items(bytes.as_bytes(), 0..bytes.len()).count();
            assert_eq!(all, 0, "{bytes}");
        }
    }
}
