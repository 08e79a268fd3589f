//! Reads Rust text far enough to judge it: comments and strings blanked, words, blocks.

use std::collections::BTreeSet;

/// A source file: its path below `src`, its text, and its text without comments and strings.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) code: String,
}

impl Source {
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self { path: path.into(), text: text.into(), code: code_only(text) }
    }

    /// The top-level module.
    pub(crate) fn module(&self) -> &str {
        let end = self.path.find('/').unwrap_or(self.path.len() - ".rs".len());
        &self.path[..end]
    }

    /// The root file of a top-level module, whose `super` is the crate.
    pub(crate) fn is_module_root(&self) -> bool {
        !self.path.contains('/') || self.path == format!("{}/mod.rs", self.module())
    }

    /// How much of the code stands before the inline tests.
    pub(crate) fn before_tests(&self) -> &str {
        &self.code[..self.code.find("#[cfg(test)]\nmod tests {").unwrap_or(self.code.len())]
    }

    pub(crate) fn complain(&self, offset: usize, what: &str, why: &str) -> String {
        let line = self.code[..offset].matches('\n').count() + 1;
        format!("src/{}:{line}: {what}: {why}", self.path)
    }
}

/// The same text with comments, strings and character literals blanked, line by line the same.
fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let end = at + blank_length(&bytes[at..], at.checked_sub(1).map(|before| bytes[before]));
        if end == at {
            out.push(bytes[at]);
            at += 1;
        }
        while at < end {
            out.push(if bytes[at] == b'\n' { b'\n' } else { b' ' });
            at += 1;
        }
    }
    String::from_utf8(out).expect("what is cut out is cut out whole")
}

/// The length of the comment or literal that begins here, else 0.
fn blank_length(rest: &[u8], before: Option<u8>) -> usize {
    let until = |from: usize, end: &[u8]| {
        let found = rest[from..].windows(end.len()).position(|window| window == end);
        found.map_or(rest.len(), |found| from + found + end.len())
    };
    let in_word = before.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    match rest {
        [b'/', b'/', ..] => until(2, b"\n") - 1,
        [b'/', b'*', ..] => until(2, b"*/"),
        [b'"', ..] => quoted_length(rest, b'"'),
        [b'r', b'"' | b'#', ..] | [b'b', b'r', b'"' | b'#', ..] if !in_word => {
            let start = rest.iter().position(|&byte| byte == b'r').unwrap_or(0) + 1;
            let hashes = rest[start..].iter().take_while(|&&byte| byte == b'#').count();
            if rest.get(start + hashes) != Some(&b'"') {
                return 0;
            }
            let mut end = vec![b'"'];
            end.resize(1 + hashes, b'#');
            until(start + hashes + 1, &end)
        }
        [b'\'', b'\\', ..] => quoted_length(rest, b'\''),
        [b'\'', first, ..] => {
            let width = match first {
                0..0x80 => 1,
                0x80..0xe0 => 2,
                0xe0..0xf0 => 3,
                _ => 4,
            };
            if rest.get(1 + width) == Some(&b'\'') { width + 2 } else { 0 }
        }
        _ => 0,
    }
}

fn quoted_length(rest: &[u8], quote: u8) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != quote {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// Where `needle` stands as a word of its own.
pub(crate) fn find_words(text: &str, needle: &str) -> Vec<usize> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let whole = |&(offset, _): &(usize, &str)| {
        let before = text[..offset].chars().next_back().is_some_and(is_word);
        let after = text[offset + needle.len()..].chars().next().is_some_and(is_word);
        let goes_on = before && needle.starts_with(is_word) || after && needle.ends_with(is_word);
        !goes_on
    };
    text.match_indices(needle).filter(whole).map(|(offset, _)| offset).collect()
}

pub(crate) fn word_at(text: &str, offset: usize) -> &str {
    let rest = &text[offset..];
    let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(rest.len());
    &rest[..end]
}

/// Lines from here to the end of the block that opens next; 0 for a declaration without one.
pub(crate) fn block_lines(code: &str) -> usize {
    let mut braces = 0_usize;
    let mut brackets = 0_usize;
    for (offset, c) in code.char_indices() {
        match c {
            ';' if braces == 0 && brackets == 0 => return 0,
            '(' | '[' => brackets += 1,
            ')' | ']' => brackets = brackets.saturating_sub(1),
            '{' => braces += 1,
            '}' if braces <= 1 => return code[..offset].matches('\n').count() + 1,
            '}' => braces -= 1,
            _ => {}
        }
    }
    0
}

/// Where a hash map or set of this file is walked, and what it is called.
pub(crate) fn walks_of_hashes(code: &str) -> Vec<(&str, usize)> {
    let mut walks = Vec::new();
    for name in hashed_names(code) {
        for walk in ["iter", "keys", "values", "drain", "into_iter", "into_keys", "into_values"] {
            walks.extend(
                find_words(code, &format!("{name}.{walk}(")).into_iter().map(|at| (name, at)),
            );
        }
        for walked in
            [format!("in {name} {{"), format!("in &{name} {{"), format!("in &self.{name} {{")]
        {
            walks.extend(find_words(code, &walked).into_iter().map(|at| (name, at)));
        }
    }
    walks
}

/// Fields and variables that are hash maps or sets.
fn hashed_names(code: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for kind in ["HashMap<", "HashSet<", "HashMap::", "HashSet::"] {
        for offset in find_words(code, kind) {
            let before = code[..offset].trim_end_matches(['&', ' ']).trim_end_matches("mut");
            let Some(before) = before.trim_end().strip_suffix([':', '=']) else { continue };
            let start = before.trim_end().rfind(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            names.insert(before.trim_end()[start.map_or(0, |start| start + 1)..].trim());
        }
    }
    names.remove("");
    names
}
