//! [`User`]: who somebody is, where they belong and where they are; read from a record.

use std::sync::Arc;
use std::time::SystemTime;

use smallvec::SmallVec;

use crate::cluster::ServerId;
use crate::directory::record::{RelocationReason, RelocationRecord, UserRecord};
use crate::directory::{Aor, History};

/// One person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// The login name; the canonical order of users is the order of their names.
    pub name: Arc<str>,
    /// Addresses-of-record.
    pub aors: SmallVec<[Aor; 1]>,
    /// Lines.
    pub lines: Vec<Arc<str>>,
    /// Where the user belongs.
    pub home: Option<ServerId>,
    /// A disabled user is refused everywhere.
    pub enabled: bool,
    /// Set while current ≠ home.
    pub relocation: Option<Relocation>,
    /// Raised by every change of current.
    pub epoch: u64,
    /// Servers that may still hold bindings of this user (M8).
    pub left_at: Vec<ServerId>,
    /// The last moves.
    pub history: History,
}

impl User {
    /// Where the user is served now: the relocation's target, else home.
    pub fn current(&self) -> Option<ServerId> {
        self.relocation.as_ref().map(|relocation| relocation.target).or(self.home)
    }

    /// The user a record speaks of; `server` finds a server by its name.
    ///
    /// # Errors
    ///
    /// The record names a server the configuration no longer has. [`User::from_record_lossy`]
    /// says what then becomes of the user.
    pub fn from_record(
        record: &UserRecord,
        server: &dyn Fn(&str) -> Option<ServerId>,
    ) -> Result<Self, UnknownServer> {
        let find = |name: &Arc<str>| {
            server(name).ok_or_else(|| UnknownServer {
                server: Arc::clone(name),
                user: Arc::clone(&record.name),
            })
        };
        let home = record.home.as_ref().map(find).transpose()?;
        let relocation = match &record.relocation {
            None => None,
            Some(relocation) => Some(Relocation {
                origin: find(&relocation.origin)?,
                date: relocation.date,
                target: find(&relocation.target)?,
                why: relocation.why,
            }),
        };
        let left_at = record.left_at.iter().map(find).collect::<Result<_, _>>()?;
        Ok(Self::with_places(record, home, relocation, left_at))
    }

    /// Somebody of whom nothing is known but the name.
    pub fn stranger(name: &str) -> Self {
        Self {
            name: name.into(),
            aors: SmallVec::new(),
            lines: Vec::new(),
            home: None,
            enabled: true,
            relocation: None,
            epoch: 0,
            left_at: Vec::new(),
            history: History::default(),
        }
    }

    /// The user a record speaks of, as far as the configured servers allow it (B3: a home that
    /// leaves the configuration), and what had to be dropped.
    ///
    /// - An unknown target ends the relocation: current is the home again.
    /// - An unknown home is no home: the next login places the user as if for the first time.
    /// - An unknown home of a user who is served elsewhere: the target becomes the home, so that
    ///   nobody moves because of a change of the configuration.
    ///
    /// The epoch is kept, because the next write must name the one in the store.
    pub fn from_record_lossy(
        record: &UserRecord,
        server: &dyn Fn(&str) -> Option<ServerId>,
    ) -> (Self, Dropped) {
        let mut dropped = Dropped::default();
        let mut home = record.home.as_deref().and_then(server);
        if home.is_none() {
            dropped.home.clone_from(&record.home);
        }
        let mut relocation = None;
        if let Some(away) = &record.relocation {
            let target = server(&away.target);
            if target.is_none() {
                dropped.target = Some(Arc::clone(&away.target));
            }
            // The origin is the home (D7); a record that says otherwise is believed as far as it
            // can be.
            match (target, server(&away.origin).or(home)) {
                (Some(target), Some(origin)) if home.is_some() => {
                    relocation =
                        Some(Relocation { origin, date: away.date, target, why: away.why });
                }
                (target, _) => home = home.or(target),
            }
        }
        let (left_at, unknown) = partition(&record.left_at, server);
        dropped.left_at = unknown;
        (Self::with_places(record, home, relocation, left_at), dropped)
    }

    /// What survives a restart of this user; `name` tells a server's name.
    pub fn to_record(&self, name: &dyn Fn(ServerId) -> Arc<str>) -> UserRecord {
        UserRecord {
            name: Arc::clone(&self.name),
            aors: self.aors.to_vec(),
            lines: self.lines.clone(),
            home: self.home.map(name),
            enabled: self.enabled,
            relocation: self.relocation.as_ref().map(|relocation| RelocationRecord {
                origin: name(relocation.origin),
                date: relocation.date,
                target: name(relocation.target),
                why: relocation.why,
            }),
            epoch: self.epoch,
            left_at: self.left_at.iter().copied().map(name).collect(),
            history: self.history.clone(),
        }
    }

    fn with_places(
        record: &UserRecord,
        home: Option<ServerId>,
        relocation: Option<Relocation>,
        left_at: Vec<ServerId>,
    ) -> Self {
        Self {
            name: Arc::clone(&record.name),
            aors: record.aors.iter().cloned().collect(),
            lines: record.lines.clone(),
            home,
            enabled: record.enabled,
            relocation,
            epoch: record.epoch,
            left_at,
            history: record.history.clone(),
        }
    }
}

/// A user is served elsewhere than at home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relocation {
    /// `RelocationHomeserverOrigin`.
    pub origin: ServerId,
    /// `RelocationDate`.
    pub date: SystemTime,
    /// Where the user is served now.
    pub target: ServerId,
    /// Why.
    pub why: RelocationReason,
}

/// A record names a server that is not configured.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the record of user {user:?} names server {server:?}, which is not configured: configure it \
     again, or let go of it knowingly"
)]
pub struct UnknownServer {
    /// The name in question.
    pub server: Arc<str>,
    /// Whose record.
    pub user: Arc<str>,
}

/// What [`User::from_record_lossy`] could not keep; all empty when nothing was lost.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// A home that is not configured.
    pub home: Option<Arc<str>>,
    /// The target of a relocation that is not configured.
    pub target: Option<Arc<str>>,
    /// Servers that will not be swept for this user, because they are not configured.
    pub left_at: Vec<Arc<str>>,
}

impl Dropped {
    /// Whether everything could be kept.
    pub fn is_empty(&self) -> bool {
        self.home.is_none() && self.target.is_none() && self.left_at.is_empty()
    }
}

/// Splits names into the servers there are and the names there are no servers for.
fn partition(
    names: &[Arc<str>],
    server: &dyn Fn(&str) -> Option<ServerId>,
) -> (Vec<ServerId>, Vec<Arc<str>>) {
    let mut known = Vec::with_capacity(names.len());
    let mut unknown = Vec::new();
    for name in names {
        match server(name) {
            Some(id) => known.push(id),
            None => unknown.push(Arc::clone(name)),
        }
    }
    (known, unknown)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::directory::record::RelocationRecord;
    use crate::directory::{Directory, MoveReason, Moved};

    const NAMES: [&str; 3] = ["ucs1", "ucs2", "ucs3"];

    fn server(name: &str) -> Option<ServerId> {
        (0u16..).zip(NAMES).find(|(_, known)| *known == name).map(|(place, _)| ServerId(place))
    }

    fn name(server: ServerId) -> Arc<str> {
        Arc::from(NAMES[server.index()])
    }

    fn a_history() -> History {
        let mut history = History::default();
        history.push(Moved {
            date: SystemTime::UNIX_EPOCH,
            from: "a server that was".into(),
            to: "ucs1".into(),
            why: MoveReason::Return,
            epoch: 4,
        });
        history
    }

    fn record(home: Option<&str>, target: Option<&str>, left_at: &[&str]) -> UserRecord {
        UserRecord {
            name: Arc::from("anna"),
            aors: vec![Aor::from_canonical("sip:anna@example.com")],
            lines: vec![Arc::from("4711")],
            home: home.map(Arc::from),
            enabled: true,
            relocation: target.map(|target| RelocationRecord {
                origin: Arc::from(home.unwrap_or("ucs1")),
                date: SystemTime::UNIX_EPOCH,
                target: Arc::from(target),
                why: RelocationReason::Failover,
            }),
            epoch: 5,
            left_at: left_at.iter().map(|name| Arc::from(*name)).collect(),
            history: a_history(),
        }
    }

    proptest! {
        #[test]
        fn a_record_becomes_a_user_and_the_same_record_again(
            home in proptest::option::of(0usize..3),
            target in proptest::option::of(0usize..3),
            left_at in proptest::collection::vec(0usize..3, 0..3),
            enabled: bool,
        ) {
            let left_at: Vec<&str> = left_at.into_iter().map(|place| NAMES[place]).collect();
            let record = UserRecord {
                enabled,
                ..record(home.map(|place| NAMES[place]), target.map(|place| NAMES[place]), &left_at)
            };
            let user = User::from_record(&record, &server).unwrap();
            let mut directory = Directory::new(3);
            let id = directory.insert(user.clone()).unwrap();
            prop_assert_eq!(&directory.to_record(id, &name), &record);
            if home.is_some() {
                let (lossy, dropped) = User::from_record_lossy(&record, &server);
                prop_assert_eq!(lossy, user);
                prop_assert!(dropped.is_empty());
            }
        }
    }

    #[test]
    fn a_server_that_left_the_configuration_is_named() {
        for (record, gone) in [
            (record(Some("old"), None, &[]), "old"),
            (record(Some("ucs1"), Some("older"), &[]), "older"),
            (record(Some("ucs1"), Some("ucs2"), &["ucs1", "oldest"]), "oldest"),
        ] {
            let fault = User::from_record(&record, &server).unwrap_err();
            assert_eq!((&*fault.server, &*fault.user), (gone, "anna"));
        }
    }

    #[test]
    fn what_left_the_configuration_is_let_go_of_and_reported() {
        let lossy = |record: &UserRecord| {
            let (user, dropped) = User::from_record_lossy(record, &server);
            assert_eq!(user.epoch, 5, "the next write must name the epoch in the store");
            (user.home, user.relocation.map(|away| away.target), user.left_at, dropped)
        };
        let old = || Some(Arc::from("old"));
        let (one, two) = (ServerId(0), ServerId(1));

        let home_only = Dropped { home: old(), ..Dropped::default() };
        assert_eq!(lossy(&record(Some("old"), None, &[])), (None, None, vec![], home_only.clone()));
        // Nobody moves because a home left: the backup becomes home.
        assert_eq!(
            lossy(&record(Some("old"), Some("ucs2"), &[])),
            (Some(two), None, vec![], home_only.clone())
        );
        let target = Dropped { target: old(), ..Dropped::default() };
        let three = vec![ServerId(2)];
        assert_eq!(
            lossy(&record(Some("ucs1"), Some("old"), &["ucs3"])),
            (Some(one), None, three, target)
        );
        let unswept = Dropped { left_at: vec![Arc::from("old")], ..Dropped::default() };
        assert_eq!(
            lossy(&record(Some("ucs1"), Some("ucs2"), &["old", "ucs1"])),
            (Some(one), Some(two), vec![one], unswept)
        );
        let both = Dropped { target: old(), ..home_only };
        assert_eq!(lossy(&record(Some("old"), Some("old"), &[])), (None, None, vec![], both));
    }
}
