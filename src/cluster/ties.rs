//! [`Ties`]: what binds a server's users to servers of the same kind (P4).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::cluster::document::TelephoneSystem;

/// The line groups a server has, and the telephone systems it knows.
///
/// Users belong to all of their home's: which of them a user's lines are in, nobody tells the door.
/// A server that says nothing of line groups, or of telephone systems, is not refused for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ties {
    line_groups: BTreeSet<Arc<str>>,
    /// By name: whether it is reached.
    systems: BTreeMap<Arc<str>, bool>,
    unknown: BTreeSet<Arc<str>>,
    is_fresh: bool,
}

impl Ties {
    /// What the operator says: every telephone system named is reached until the server says
    /// otherwise.
    pub fn configured(
        line_groups: impl IntoIterator<Item = Arc<str>>,
        reaches: impl IntoIterator<Item = Arc<str>>,
    ) -> Self {
        Self {
            line_groups: line_groups.into_iter().collect(),
            systems: reaches.into_iter().map(|name| (name, true)).collect(),
            ..Self::default()
        }
    }

    /// The same with what the server's document says of telephone systems. Where the operator has named
    /// some, it tells of those alone: another one is noted, and binds nobody. An old document (`fresh` is
    /// false) says still which there are, and nothing of whether they are reached.
    #[must_use]
    pub fn told(&self, systems: &[TelephoneSystem], fresh: bool) -> Self {
        let mut told = Self { is_fresh: fresh, ..self.clone() };
        for system in systems {
            if self.systems.is_empty() || self.systems.contains_key(&system.name) {
                told.systems.insert(Arc::clone(&system.name), system.reachable || !fresh);
            } else {
                told.unknown.insert(Arc::clone(&system.name));
            }
        }
        told
    }

    /// Whether they say what is so now, as far as the server says anything.
    pub const fn is_fresh(&self) -> bool {
        self.is_fresh
    }

    /// Telephone systems that its document names and the operator does not.
    pub fn unknown(&self) -> impl Iterator<Item = &Arc<str>> {
        self.unknown.iter()
    }

    /// Its line groups, by name.
    pub fn line_groups(&self) -> impl Iterator<Item = &Arc<str>> {
        self.line_groups.iter()
    }

    /// The telephone systems it knows, by name, and whether it reaches them.
    pub fn systems(&self) -> impl Iterator<Item = (&Arc<str>, bool)> {
        self.systems.iter().map(|(name, reached)| (name, *reached))
    }

    /// Whether it reaches a telephone system; `None` where it does not know it.
    pub fn reaches(&self, system: &str) -> Option<bool> {
        self.systems.get(system).copied()
    }

    /// A line group of these users' home that this server does not have.
    pub fn lacks_line_group<'h>(&self, home: &'h Self) -> Option<&'h Arc<str>> {
        if self.line_groups.is_empty() {
            return None;
        }
        home.line_groups.iter().find(|group| !self.line_groups.contains(*group))
    }

    /// A telephone system of these users' home that this server does not know.
    pub fn lacks_system<'h>(&self, home: &'h Self) -> Option<&'h Arc<str>> {
        if self.systems.is_empty() {
            return None;
        }
        home.systems.keys().find(|system| !self.systems.contains_key(*system))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ties(line_groups: &[&str], reaches: &[&str]) -> Ties {
        let names = |names: &[&str]| names.iter().copied().map(Arc::from).collect::<Vec<_>>();
        Ties::configured(names(line_groups), names(reaches))
    }

    #[test]
    fn a_server_takes_users_all_of_whose_groups_and_systems_it_has() {
        let home = ties(&["fax", "office"], &["pbx"]);
        let lacks = |other: &Ties| {
            let group = other.lacks_line_group(&home).map(|name| name.to_string());
            (group, other.lacks_system(&home).map(|name| name.to_string()))
        };
        assert_eq!(lacks(&ties(&["fax", "lab", "office"], &["pbx", "trunk"])), (None, None));
        assert_eq!(lacks(&ties(&["office"], &["trunk"])), (Some("fax".into()), Some("pbx".into())));
        assert_eq!(lacks(&ties(&["Fax", "office"], &["pbx"])), (Some("fax".into()), None));
        assert_eq!(lacks(&Ties::default()), (None, None), "nothing said is no reason");
        let nothing = Ties::default();
        assert_eq!(home.lacks_line_group(&nothing), None);
    }

    #[test]
    fn a_document_says_what_is_reached_while_it_is_fresh_and_which_there_are_where_nobody_else_does()
     {
        let system = |name: &str, reachable| TelephoneSystem { name: name.into(), reachable };
        let told = [system("pbx", false), system("trunk", true)];
        let reach = |ties: &Ties| ["pbx", "trunk", "branch", "x"].map(|name| ties.reaches(name));
        let unknown = |ties: &Ties| ties.unknown().cloned().collect::<Vec<_>>();

        let silent = Ties::default().told(&told, true);
        assert_eq!(reach(&silent), [Some(false), Some(true), None, None]);
        assert!(silent.is_fresh() && unknown(&silent).is_empty());
        let stale = Ties::default().told(&told, false);
        assert_eq!(
            (reach(&stale), stale.is_fresh()),
            ([Some(true), Some(true), None, None], false)
        );

        let configured = ties(&[], &["pbx", "branch"]).told(&told, true);
        assert_eq!(reach(&configured), [Some(false), None, Some(true), None]);
        assert_eq!(unknown(&configured), ["trunk".into()]);
    }
}
