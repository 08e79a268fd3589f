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
        }
    }

    /// The same with what the server's document says of telephone systems, which may be ones the
    /// operator did not name. An old document (`fresh` is false) still says which there are, and
    /// nothing of whether they are reached.
    #[must_use]
    pub fn told(&self, systems: &[TelephoneSystem], fresh: bool) -> Self {
        let mut told = self.clone();
        for system in systems {
            told.systems.insert(Arc::clone(&system.name), system.reachable || !fresh);
        }
        told
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
    fn a_document_says_more_than_the_operator_and_counts_while_it_is_fresh() {
        let system = |name: &str, reachable| TelephoneSystem { name: name.into(), reachable };
        let told = [system("pbx", false), system("trunk", true)];
        let configured = ties(&[], &["pbx", "branch"]);
        let fresh = configured.told(&told, true);
        let reach =
            |ties: &Ties| ["pbx", "trunk", "branch", "other"].map(|name| ties.reaches(name));
        assert_eq!(reach(&fresh), [Some(false), Some(true), Some(true), None]);
        let stale = configured.told(&told, false);
        assert_eq!(reach(&stale), [Some(true), Some(true), Some(true), None]);
    }
}
