//! The users file, checked against the pool.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;

use crate::config::problem::{Complaints, Fault};
use crate::config::raw::RawServer;
use crate::directory::import::Imported;
use crate::directory::import::read_csv;

/// Reads the users; complains at `span`, where the file is named.
pub(super) fn read(
    path: &Path,
    span: &Range<usize>,
    servers: &[Spanned<RawServer>],
    wrong: &mut Complaints<'_>,
) -> Vec<Imported> {
    let complain = |wrong: &mut Complaints<'_>, why: String| {
        wrong.push(span.clone(), Fault::UsersFile { path: path.to_owned(), why });
        Vec::new()
    };
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) => return complain(wrong, error.to_string()),
    };
    let users = match read_csv(&bytes) {
        Ok(users) => users,
        Err(error) => return complain(wrong, error.to_string()),
    };
    let names: HashSet<&str> = servers
        .iter()
        .filter_map(|server| server.get_ref().name.as_ref())
        .map(|name| name.get_ref().as_str())
        .collect();
    let mut unknown: BTreeMap<&str, (&str, usize)> = BTreeMap::new();
    for user in &users {
        let Some(home) = user.home.as_deref() else { continue };
        if !names.contains(home) {
            unknown.entry(home).or_insert((&user.name, 0)).1 += 1;
        }
    }
    for (home, (user, count)) in unknown {
        let (home, user) = (home.to_owned(), user.to_owned());
        wrong.push(span.clone(), Fault::UnknownHome { home, user, count });
    }
    users
}
