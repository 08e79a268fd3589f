//! What binds users to servers of the same kind (P4): line groups and telephone systems.

use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;

use crate::cluster::{Server, Ties};
use crate::config::check::{PACE_MOST, number_in};
use crate::config::problem::{Complaints, Fault};
use crate::config::raw::{Raw, RawServer, RawTelephoneSystem};
use crate::config::reading::nearest;
use crate::door;
use crate::door::{SYSTEMS_MAX, TelephoneSystem};

/// Longest name of a line group or telephone system, in octets: as in a health document.
const NAME_MAX: usize = 128;
/// Most names in one list.
const NAMES_MAX: usize = 256;

/// The telephone systems behind the servers, and how much each of them takes.
pub(super) fn telephone_systems(
    raw: &Raw,
    pace: door::Pace,
    wrong: &mut Complaints<'_>,
) -> Vec<TelephoneSystem> {
    let count = raw.telephone_systems.len();
    if count > SYSTEMS_MAX {
        let section = "telephone_systems";
        wrong.push_whole(Fault::TooMany { section, count, most: SYSTEMS_MAX });
    }
    let mut taken: HashMap<Arc<str>, usize> = HashMap::new();
    raw.telephone_systems
        .iter()
        .filter_map(|raw| telephone_system(raw, pace, &mut taken, wrong))
        .collect()
}

fn telephone_system(
    raw: &Spanned<RawTelephoneSystem>,
    pace: door::Pace,
    taken: &mut HashMap<Arc<str>, usize>,
    wrong: &mut Complaints<'_>,
) -> Option<TelephoneSystem> {
    let header = raw.span();
    let raw = raw.get_ref();
    let number = |key, value: &Option<Spanned<u32>>, default, wrong: &mut Complaints<'_>| {
        number_in(key, value, default, (1, PACE_MOST), wrong)
    };
    let rate_max = raw.rate_max.as_ref().map(|_| number("rate_max", &raw.rate_max, 1, wrong));
    let window_max = number("window_max", &raw.window_max, pace.window_max, wrong);
    let Some(written) = &raw.name else {
        let section = "telephone_systems";
        wrong.push(header, Fault::Missing { section, key: "name", example: "\"pbx\"" });
        return None;
    };
    let name = name("name", written, wrong)?;
    let line = wrong.line(&written.span());
    if let Some(first_line) = taken.insert(Arc::clone(&name), line) {
        let fault =
            Fault::DuplicateName { what: "telephone_systems", name: name.to_string(), first_line };
        wrong.push(written.span(), fault);
    }
    let window_initial = pace.window_initial.min(window_max);
    Some(TelephoneSystem { name, pace: door::Pace { window_initial, window_max, rate_max } })
}

/// The line groups of one server, and the telephone systems it reaches.
pub(super) fn ties(raw: &RawServer, whole: &Raw, wrong: &mut Complaints<'_>) -> Ties {
    let line_groups = names("line_groups", &raw.line_groups, wrong);
    let reaches = names("reaches", &raw.reaches, wrong);
    let known: Vec<String> = whole
        .telephone_systems
        .iter()
        .filter_map(|system| Some(system.get_ref().name.as_ref()?.get_ref().clone()))
        .collect();
    for written in &raw.reaches {
        let name = written.get_ref();
        // One that is no name has been complained about.
        if reaches.iter().any(|it| **it == **name) && !known.contains(name) {
            let fault = Fault::UnknownSystem { near: nearest(name, &known), name: name.clone() };
            wrong.push(written.span(), fault);
        }
    }
    Ties::configured(line_groups, reaches)
}

fn names(key: &'static str, list: &[Spanned<String>], wrong: &mut Complaints<'_>) -> Vec<Arc<str>> {
    if let Some(first) = list.get(NAMES_MAX) {
        let (value, min) = (list.len().to_string(), String::from("0"));
        wrong.push(
            first.span(),
            Fault::Range { key, value, min, max: format!("{NAMES_MAX} names") },
        );
    }
    list.iter().filter_map(|written| name(key, written, wrong)).collect()
}

/// What a health document may say, too.
fn name(key: &'static str, text: &Spanned<String>, wrong: &mut Complaints<'_>) -> Option<Arc<str>> {
    let name = text.get_ref();
    let fault = if name.trim().is_empty() {
        Fault::Empty { key }
    } else if name.len() > NAME_MAX || name.chars().any(char::is_control) {
        Fault::Name { key, most: NAME_MAX }
    } else {
        return Some(name.as_str().into());
    };
    wrong.push(text.span(), fault);
    None
}

/// Names what will keep users from finding a backup: line groups that one server has alone, because
/// names must be equal on all servers, and servers whose users nobody can take.
pub(super) fn warn(raw: &Raw, servers: &[Server], warnings: &mut Complaints<'_>) {
    warn_of_no_pace(raw, servers, warnings);
    if servers.len() < 2 {
        return;
    }
    let mut has: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for server in servers {
        for group in server.ties.line_groups() {
            has.entry(group).or_default().push(&server.name);
        }
    }
    let says_groups = servers.iter().filter(|it| it.ties.line_groups().next().is_some()).count();
    let alone = |group: &str| has.get(group).is_some_and(|servers| servers.len() == 1);
    for server in servers {
        let entry = raw.server(&server.name);
        let mut told = false;
        for group in server.ties.line_groups().filter(|group| says_groups > 1 && alone(group)) {
            let others: Vec<String> = has
                .iter()
                .filter(|(_, servers)| !servers.contains(&&*server.name))
                .map(|(group, _)| (*group).to_owned())
                .collect();
            let fault = Fault::LineGroupAlone {
                server: server.name.to_string(),
                group: group.to_string(),
                near: nearest(group, &others),
            };
            complain(entry.and_then(|entry| written(entry, group)), fault, warnings);
            told = true;
        }
        if told {
            continue;
        }
        let mut others = servers.iter().filter(|other| other.name != server.name);
        let takes = |other: &Server| {
            let lacks = other.ties.lacks_line_group(&server.ties);
            lacks.or_else(|| other.ties.lacks_system(&server.ties)).is_none()
        };
        if !others.any(takes) {
            let fault = Fault::NoBackup { server: server.name.to_string() };
            complain(entry.map(Spanned::span), fault, warnings);
        }
    }
}

/// A pace that nobody keeps to is said before a telephone system finds out.
fn warn_of_no_pace(raw: &Raw, servers: &[Server], warnings: &mut Complaints<'_>) {
    let named = raw.telephone_systems.first().and_then(|it| it.get_ref().name.as_ref());
    let Some(example) = named.map(Spanned::get_ref) else { return };
    for server in servers.iter().filter(|it| it.ties.systems().next().is_none()) {
        let (server, example) = (server.name.to_string(), example.clone());
        let at = raw.server(&server).map(Spanned::span);
        complain(at, Fault::ReachesNothing { server, example }, warnings);
    }
}

/// Where a line group of a server is written.
fn written(entry: &Spanned<RawServer>, group: &str) -> Option<Range<usize>> {
    let groups = &entry.get_ref().line_groups;
    groups.iter().find(|written| written.get_ref() == group).map(Spanned::span)
}

fn complain(at: Option<Range<usize>>, fault: Fault, warnings: &mut Complaints<'_>) {
    match at {
        Some(span) => warnings.push(span, fault),
        None => warnings.push_whole(fault),
    }
}
