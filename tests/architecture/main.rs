//! The rules of the house, checked against the source text.
//!
//! `house` holds the rules as tables, `rules` are functions from text to complaints, and every
//! complaint says why the rule is there. Here they run over this repository; `planted` plants a
//! fault for each, so that a rule which can no longer fail is itself a failure.
//!
//! What it cannot see: it reads text, not types. Comments and strings are blanked first; a macro
//! that writes a path would slip through.

#![expect(clippy::panic, clippy::expect_used, reason = "an unreadable file ends the test")]

mod dependencies;
mod house;
mod planted;
mod rules;
mod source;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use crate::house::{FILES_TOO_LONG, FUNCTIONS_TOO_LONG, MAP};
use crate::rules::{
    check_complete, check_document, check_file_length, check_function_lengths, check_imports,
    check_nowhere, check_purity, check_self_contained,
};
use crate::source::Source;

#[test]
fn every_module_is_on_the_map_and_names_only_what_it_may() {
    hold(check_imports);
}

#[test]
fn the_map_only_points_down() {
    for (index, (module, may)) in MAP.iter().enumerate() {
        for named in *may {
            let above = MAP[..index].iter().any(|(earlier, _)| earlier == named);
            assert!(above, "{module} may name {named}, which does not stand above it: no cycles");
        }
    }
}

#[test]
fn the_map_shows_no_module_that_is_gone() {
    let sources = sources();
    for (module, _) in MAP {
        let there = sources.iter().any(|source| source.module() == *module);
        assert!(there, "{module} is on the map and not in src: strike it off");
    }
}

#[test]
fn the_core_is_pure() {
    hold(check_purity);
}

#[test]
fn nothing_stands_in_the_source_that_should_not() {
    hold(check_nowhere);
}

#[test]
fn files_and_functions_are_short_enough_to_read() {
    hold(|source| check_file_length(source, FILES_TOO_LONG));
    hold(|source| check_function_lengths(source, FUNCTIONS_TOO_LONG));
    let sources = sources();
    for (path, _) in FILES_TOO_LONG {
        assert!(sources.iter().any(|source| source.path == *path), "{path} is gone: strike it off");
    }
    for (path, name, _) in FUNCTIONS_TOO_LONG {
        let there = |source: &Source| source.path == *path && source.code.contains(name);
        assert!(sources.iter().any(there), "{name} of {path} is gone: strike it off");
    }
}

#[test]
fn the_documents_name_only_what_exists() {
    let words = words_of_the_repository();
    for document in ["README.md", "ARCHITECTURE.md"] {
        let exists =
            |path: &str| root().join(path).exists() || root().join("src").join(path).exists();
        let text = read(&root().join(document));
        refuse(check_document(document, &text, &exists, &|word| words.contains(word)));
    }
}

#[test]
fn the_architecture_names_every_module_and_every_file_of_the_core() {
    let text = read(&root().join("ARCHITECTURE.md"));
    let sources = sources();
    let folders = MAP.iter().map(|(module, _)| format!("{module}/"));
    let modules = folders.filter(|folder| sources.iter().any(|s| s.path.starts_with(folder)));
    let single = |path: &&str| !path.contains('/') && !["lib.rs", "main.rs"].contains(path);
    let files = sources.iter().map(|source| source.path.as_str());
    let files = files.filter(|path| single(path) || path.starts_with("door/"));
    let paths: Vec<String> = modules.chain(files.map(str::to_owned)).collect();
    refuse(check_complete(&text, paths.iter().map(String::as_str)));
}

#[test]
fn every_fault_that_can_be_planted_has_its_place() {
    let table = read(&root().join("tests/mutations/table"));
    let mut faults = 0;
    for fault in table.split("\n== ").skip(1) {
        let (name, rest) = fault.split_once('\n').expect("a name and more");
        let (file, rest) = rest.split_once('\n').expect("a file and more");
        let lines = |sign: char| {
            let lines = rest.lines().filter_map(move |line| line.strip_prefix(sign));
            lines.map(|line| format!("{line}\n")).collect::<String>()
        };
        let (old, new) = (lines('-'), lines('+'));
        let places = read(&root().join(file)).matches(&old).count();
        assert_eq!(places, 1, "{name}: {file} must hold once what is to be replaced:\n{old}");
        assert_ne!(old, new, "{name}");
        faults += 1;
    }
    assert!(faults >= 20, "{faults} faults");
}

#[test]
fn the_repository_names_nothing_outside_itself() {
    for path in texts() {
        let name = path.strip_prefix(root()).expect("inside").display().to_string();
        refuse(check_self_contained(&name, &read(&path)));
    }
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|fault| panic!("{}: {fault}", path.display()))
}

fn sources() -> Vec<Source> {
    let src = root().join("src");
    let files =
        files_below(&src).into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    files
        .map(|path| {
            let name = path.strip_prefix(&src).expect("below src").display().to_string();
            Source::new(&name, &read(&path))
        })
        .collect()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let entries =
        fs::read_dir(folder).unwrap_or_else(|fault| panic!("{}: {fault}", folder.display()));
    let mut files = Vec::new();
    for entry in entries {
        let path = entry.expect("a readable folder").path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() && ![".git", "target", "run"].iter().any(|skipped| name == *skipped) {
            files.extend(files_below(&path));
        } else if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    files
}

/// What people wrote: no lock file, no bytes from the wire.
fn texts() -> Vec<PathBuf> {
    let mut files = files_below(root());
    let written = ["rs", "toml", "md", "json", "xml", "yml", "csv", "sh", "service", "mjs", "html"];
    files.retain(|path| {
        let suffix = path.extension().unwrap_or_default();
        suffix.is_empty() || written.iter().any(|known| suffix == *known)
    });
    files.retain(|path| !path.ends_with(".git") && fs::read_to_string(path).is_ok());
    files
}

fn words_of_the_repository() -> BTreeSet<String> {
    let documents = ["README.md", "ARCHITECTURE.md"];
    let mut words = BTreeSet::new();
    for path in texts() {
        if documents.iter().any(|document| path.ends_with(document)) {
            continue;
        }
        let text = read(&path);
        let split = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.extend(split.filter(|word| !word.is_empty()).map(str::to_owned));
    }
    words
}

fn hold(rule: impl Fn(&Source) -> Vec<String>) {
    refuse(sources().iter().flat_map(rule).collect());
}

fn refuse(complaints: Vec<String>) {
    assert!(complaints.is_empty(), "\n{}\n", complaints.join("\n"));
}
