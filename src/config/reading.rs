//! Text → [`Raw`], with every problem serde would stop at: the culprit is taken out and the rest
//! is read again.

use std::ops::Range;

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeTable, DeValue, Deserializer};

use crate::config::problem::{Complaints, Fault};
use crate::config::raw::{Raw, sections};

/// More culprits than this are not looked for.
const MOST_CULPRITS: usize = 50;

/// A section and a key in it that could not be read.
pub(super) type Culprit = (String, String);

/// Reads what can be read; what cannot is complained about and left at its default.
pub(super) fn read(text: &str, complaints: &mut Complaints<'_>) -> (Raw, Vec<Culprit>) {
    let mut culprits = Vec::new();
    let (mut table, syntax) = DeTable::parse_recoverable(text);
    for error in &syntax {
        let why = error.message().trim().replace('\n', ", ");
        complaints.push(error.span().unwrap_or(0..0), Fault::Syntax { why });
    }
    for _ in 0..MOST_CULPRITS {
        let error = match Raw::deserialize(Deserializer::from(table.clone())) {
            Ok(raw) => return (raw, culprits),
            Err(error) => error,
        };
        let span = error.span().unwrap_or(0..0);
        let mut path = Vec::new();
        let found = take_out(table.get_mut(), &span, &mut path);
        let fault = explain(error.message(), &path);
        culprits.push(culprit(&fault, &path));
        complaints.push(span, fault);
        if !found {
            break;
        }
    }
    (Raw::default(), culprits)
}

/// What is missing because of a fault: the key itself, or the one that was meant.
fn culprit(fault: &Fault, path: &[String]) -> Culprit {
    let section = path.first().cloned().unwrap_or_default();
    let key = path.get(1).cloned().unwrap_or_default();
    let Fault::UnknownKey { near: Some(near), .. } = fault else { return (section, key) };
    if path.len() < 2 { (near.clone(), String::new()) } else { (section, near.clone()) }
}

/// Removes the key or value at `span`, and says under which keys it stood.
fn take_out(table: &mut DeTable<'_>, span: &Range<usize>, path: &mut Vec<String>) -> bool {
    let culprit = table
        .iter()
        .find(|(key, value)| key.span() == *span || value.span() == *span)
        .map(|(key, _)| key.clone());
    if let Some(key) = culprit {
        path.push(key.get_ref().to_string());
        return table.remove(&key).is_some();
    }
    table.iter_mut().any(|(key, value)| {
        path.push(key.get_ref().to_string());
        let found = take_out_of_value(value, span, path);
        if !found {
            path.pop();
        }
        found
    })
}

fn take_out_of_value(
    value: &mut Spanned<DeValue<'_>>,
    span: &Range<usize>,
    path: &mut Vec<String>,
) -> bool {
    match value.get_mut() {
        DeValue::Table(table) => take_out(table, span, path),
        DeValue::Array(array) => {
            if let Some(index) = array.iter().position(|element| element.span() == *span) {
                let rest = array.iter().enumerate().filter(|(nth, _)| *nth != index);
                *array = rest.map(|(_, element)| element.clone()).collect();
                return true;
            }
            array.iter_mut().any(|element| take_out_of_value(element, span, path))
        }
        DeValue::String(_)
        | DeValue::Integer(_)
        | DeValue::Float(_)
        | DeValue::Boolean(_)
        | DeValue::Datetime(_) => false,
    }
}

/// Says in the operator's words what serde said in its own.
fn explain(message: &str, path: &[String]) -> Fault {
    let mut named = message.split('`').skip(1).step_by(2).map(str::to_owned);
    if message.starts_with("unknown field") {
        let key = named.next().unwrap_or_default();
        let section = path.first().filter(|_| path.len() > 1).cloned().unwrap_or_default();
        let known: Vec<String> = named.collect();
        let elsewhere = section_of(&key).filter(|other| *other != section);
        return Fault::UnknownKey { near: nearest(&key, &known), key, section, elsewhere };
    }
    if message.starts_with("unknown variant") {
        let word = named.next().unwrap_or_default();
        let possible: Vec<String> = named.collect();
        return Fault::UnknownWord { near: nearest(&word, &possible), word, possible };
    }
    let key = path.last().map(|key| format!("`{key}`: ")).unwrap_or_default();
    Fault::Value { why: format!("{key}{}", in_words(message)) }
}

/// Replaces the names of types by what an operator writes.
fn in_words(message: &str) -> String {
    let unsigned = "a whole number, not negative";
    let mut words = message.to_owned();
    for (name, meaning) in [
        ("expected u32", format!("expected {unsigned}, at most {}", u32::MAX)),
        ("expected usize", format!("expected {unsigned}")),
        ("expected i64", String::from("expected a whole number")),
        ("expected a boolean", String::from("expected true or false")),
        ("expected a sequence", String::from("expected a list in [ ]")),
        ("expected struct ", String::from("expected the section ")),
        ("expected path string", String::from("expected a path in quotes")),
        ("expected a string", String::from("expected a text in quotes")),
    ] {
        words = words.replace(name, &meaning);
    }
    words
}

/// The only section that knows a key.
fn section_of(key: &str) -> Option<String> {
    let all = sections();
    let mut with_key = all.iter().filter(|(name, keys)| !name.is_empty() && keys.contains(&key));
    match (with_key.next(), with_key.next()) {
        (Some((name, _)), None) => Some((*name).to_owned()),
        (Some(_), Some(_)) | (None, _) => None,
    }
}

/// What was probably meant.
pub(super) fn nearest(word: &str, known: &[String]) -> Option<String> {
    let likeness = |candidate: &String| strsim::jaro_winkler(word, candidate);
    known
        .iter()
        .filter(|candidate| likeness(candidate) > 0.8)
        .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
        .cloned()
}
