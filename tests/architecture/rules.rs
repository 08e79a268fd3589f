//! Each rule is a function from text to complaints.

use crate::house::{
    CHANCE, FILE_LINES_MAX, FUNCTION_LINES_MAX, IMPURE, KNOWN_HOSTS, MAP, NOWHERE, PURE,
    SHELL_INSIDE,
};
use crate::source::{Source, block_lines, find_words, walks_of_hashes, word_at};

pub(crate) fn check_imports(source: &Source) -> Vec<String> {
    let module = source.module();
    if module == "lib" || module == "main" {
        return Vec::new();
    }
    let Some((_, may)) = MAP.iter().find(|(name, _)| *name == module) else {
        return vec![source.complain(
            0,
            &format!("module {module} is not on the map"),
            "say in MAP what it may name, and in ARCHITECTURE.md what it is for",
        )];
    };
    let mut complaints = Vec::new();
    for offset in find_words(&source.code, "crate::") {
        let named = word_at(&source.code, offset + "crate::".len());
        if named != module && !may.contains(&named) && !named.is_empty() {
            complaints.push(source.complain(
                offset,
                &format!("{module} names {named}"),
                "imports point down the map of ARCHITECTURE.md; move the thing, or think again",
            ));
        }
    }
    if source.is_module_root() {
        for offset in find_words(source.before_tests(), "super::") {
            complaints.push(source.complain(
                offset,
                "`super` is the crate here",
                "say `crate::…`: the import map is read from paths",
            ));
        }
    }
    complaints
}

pub(crate) fn check_purity(source: &Source) -> Vec<String> {
    let shell = SHELL_INSIDE.iter().any(|part| source.path.starts_with(part));
    if shell || !PURE.contains(&source.module()) {
        return Vec::new();
    }
    let mut complaints = check_words(source, IMPURE);
    for offset in find_words(&source.code, "fastrand::") {
        if word_at(&source.code, offset + "fastrand::".len()) != "Rng" {
            complaints.push(source.complain(offset, "a global generator", CHANCE));
        }
    }
    for (name, offset) in walks_of_hashes(&source.code) {
        let next: Vec<&str> = source.code[offset..].lines().take(2).collect();
        if !next.join(" ").contains("sort") {
            complaints.push(source.complain(
                offset,
                &format!("walks the hash map {name}"),
                "its order differs from run to run: sort on the same or the next line",
            ));
        }
    }
    complaints
}

pub(crate) fn check_nowhere(source: &Source) -> Vec<String> {
    let mut complaints = check_words(source, NOWHERE);
    for mark in [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")] {
        for offset in find_words(&source.text, mark) {
            let line = source.text[..offset].matches('\n').count() + 1;
            complaints.push(format!(
                "src/{}:{line}: {mark}: plans stand in the tracker, limits in README.md",
                source.path
            ));
        }
    }
    complaints
}

pub(crate) fn check_words(source: &Source, words: &[(&str, &str)]) -> Vec<String> {
    let mut complaints = Vec::new();
    for (word, why) in words {
        for offset in find_words(&source.code, word) {
            complaints.push(source.complain(offset, word, why));
        }
    }
    complaints
}

pub(crate) fn check_file_length(source: &Source, exceptions: &[(&str, usize)]) -> Vec<String> {
    // Neither comments nor blank lines: nobody should save on those.
    let lines = source.before_tests().lines().filter(|line| !line.trim().is_empty()).count();
    let exception = exceptions.iter().find(|(path, _)| *path == source.path).map(|(_, max)| *max);
    check_length(source, 0, "file", lines, FILE_LINES_MAX, exception)
}

pub(crate) fn check_function_lengths(
    source: &Source,
    exceptions: &[(&str, &str, usize)],
) -> Vec<String> {
    let mut complaints = Vec::new();
    for offset in find_words(&source.code, "fn ") {
        let name = word_at(&source.code, offset + "fn ".len());
        let lines = block_lines(&source.code[offset..]);
        let exception = exceptions
            .iter()
            .find(|(path, function, _)| *path == source.path && *function == name)
            .map(|(_, _, max)| *max);
        let what = format!("function {name}");
        complaints.extend(check_length(
            source,
            offset,
            &what,
            lines,
            FUNCTION_LINES_MAX,
            exception,
        ));
    }
    complaints
}

pub(crate) fn check_length(
    source: &Source,
    offset: usize,
    what: &str,
    lines: usize,
    max: usize,
    exception: Option<usize>,
) -> Vec<String> {
    let why = match exception {
        Some(_) if lines <= max => "it fits now: strike it off the list of exceptions",
        Some(was) if lines > was => "an exception may shrink, not grow: split it by what it does",
        None if lines > max => "nobody reads that in one go: split it by what it does",
        _ => return Vec::new(),
    };
    vec![source.complain(offset, &format!("{what} of {lines} lines (at most {max})"), why)]
}

/// Names in backticks, outside fenced blocks: a path must exist, an identifier must be a word of
/// the repository.
pub(crate) fn check_document(
    document: &str,
    text: &str,
    exists: &dyn Fn(&str) -> bool,
    is_word: &dyn Fn(&str) -> bool,
) -> Vec<String> {
    let prose: Vec<&str> = text.split("```").step_by(2).collect();
    let mut complaints = Vec::new();
    for name in prose.join(" ").split('`').skip(1).step_by(2) {
        let name = name.trim_end_matches("()").trim_end_matches(" = true");
        let path_like = |c: char| c.is_ascii_alphanumeric() || "_-./:".contains(c);
        if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '.')
            || !name.chars().all(path_like)
        {
            continue;
        }
        let suffix = name.rsplit('.').next().unwrap_or_default();
        let is_file = ["rs", "toml", "md", "json", "xml", "yml"].contains(&suffix);
        if name.contains('/') || is_file {
            if !exists(name) {
                complaints.push(format!("{document}: there is no `{name}`: readers go and look"));
            }
        } else {
            for word in name.split([':', '.', '-']).filter(|word| !word.is_empty()) {
                if !is_word(word) {
                    complaints.push(format!(
                        "{document}: nothing is called `{name}` in the source: readers search for it"
                    ));
                    break;
                }
            }
        }
    }
    complaints
}

/// Every module, and every file of the core, has its line.
pub(crate) fn check_complete<'p>(text: &str, paths: impl Iterator<Item = &'p str>) -> Vec<String> {
    paths
        .filter(|path| !text.contains(&format!("`src/{path}`")))
        .map(|path| format!("ARCHITECTURE.md does not say what src/{path} is for"))
        .collect()
}

pub(crate) fn check_self_contained(name: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    for folder in [
        concat!("/ho", "me/"),
        concat!("/ro", "ot/"),
        concat!("/wo", "rk/"),
        concat!("/Us", "ers/"),
    ] {
        if text.contains(folder) {
            complaints.push(format!("{name} names {folder}: a machine that readers do not have"));
        }
    }
    for rest in text.split("://").skip(1) {
        let host = rest.split(['/', '"', ')', '>', '`', ' ', '\n', '\'', '?', '<', ']']).next();
        let host = host.unwrap_or_default();
        let bare = host.rsplit_once(':').map_or(host, |(bare, _)| bare);
        let reserved =
            [".example", ".test", ".invalid", "example.com", "example.org", "example.net"];
        let made_up = reserved.iter().any(|end| bare.ends_with(end));
        if host.contains('.')
            && !made_up
            && !KNOWN_HOSTS.contains(&bare)
            && !bare.contains(['{', '$'])
            && bare.parse::<std::net::IpAddr>().is_err()
        {
            complaints
                .push(format!("{name} names the host {host}: the repository stands by itself"));
        }
    }
    complaints
}
