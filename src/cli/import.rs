//! What a users file adds to what the store holds. Pure.

use std::collections::HashMap;

use crate::directory::import::Imported;
use crate::directory::record::{Change, Loaded, UserRecord};

/// The difference a file makes.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Import {
    /// Users the store does not know.
    pub(super) added: Vec<UserRecord>,
    /// Users of the file that stay out, or as they are, and why. No numbers, no names.
    pub(super) skipped: Vec<String>,
}

/// Adds whom the store does not know. Whoever is there stays as stored: the store knows where
/// users were moved since, the file does not.
pub(super) fn additions(loaded: &Loaded, imported: &[Imported]) -> Import {
    let mut owners: HashMap<&str, &str> = HashMap::new();
    for user in &loaded.users {
        owners.insert(&user.name, &user.name);
        owners.extend(user.aors.iter().map(|aor| (aor.as_str(), &*user.name)));
        owners.extend(user.lines.iter().map(|line| (&**line, &*user.name)));
    }
    let mut import = Import::default();
    let (mut differ, mut taken) = (0_usize, 0_usize);
    let stored: HashMap<&str, &UserRecord> =
        loaded.users.iter().map(|user| (&*user.name, user)).collect();
    for user in imported {
        if let Some(stored) = stored.get(&*user.name) {
            differ += usize::from(!says_the_same(user, stored));
            continue;
        }
        let names = user.aors.iter().map(|aor| aor.as_str());
        let mut names = names.chain(user.lines.iter().map(|line| &**line));
        if names.any(|name| owners.contains_key(name)) {
            taken += 1;
        } else {
            import.added.push(user.clone().into_record());
        }
    }
    if differ > 0 {
        import.skipped.push(format!(
            "{differ} users of users.file are in the store with other addresses, lines or home, and \
             stay as stored; the file only adds users"
        ));
    }
    if taken > 0 {
        import.skipped.push(format!(
            "{taken} users of users.file were not added: an address or line of theirs belongs to \
             another user in the store (perhaps adopted before the file was there)"
        ));
    }
    import
}

/// The write that adds a user.
pub(super) fn as_change(record: UserRecord) -> Change {
    Change::User { record, replaces: None }
}

fn says_the_same(imported: &Imported, stored: &UserRecord) -> bool {
    let Imported { line: _, name, aors, lines, home, enabled } = imported;
    (name, aors, lines, enabled) == (&stored.name, &stored.aors, &stored.lines, &stored.enabled)
        && (home.is_none() || *home == stored.home)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::Aor;

    fn imported(name: &str, home: Option<&str>) -> Imported {
        Imported {
            line: None,
            name: name.into(),
            aors: vec![Aor::from_canonical(format!("sip:{name}@example.com"))],
            lines: Vec::new(),
            home: home.map(Into::into),
            enabled: true,
        }
    }

    fn loaded(users: Vec<UserRecord>) -> Loaded {
        Loaded { users, ..Loaded::default() }
    }

    #[test]
    fn unknown_users_are_added_and_known_ones_stay() {
        let store =
            loaded(vec![UserRecord { epoch: 7, ..imported("anna", Some("ucs1")).into_record() }]);
        let file = [imported("anna", Some("ucs1")), imported("bert", None)];
        let import = additions(&store, &file);
        assert_eq!(import.added, [imported("bert", None).into_record()]);
        assert_eq!(import.skipped, [""; 0]);
    }

    #[test]
    fn a_known_user_with_another_home_stays_and_is_mentioned() {
        let store = loaded(vec![imported("anna", Some("ucs1")).into_record()]);
        let import = additions(&store, &[imported("anna", Some("ucs2"))]);
        assert_eq!(import.added, []);
        assert!(import.skipped[0].starts_with("1 users of users.file are in the store"));
    }

    #[test]
    fn an_address_that_belongs_to_somebody_is_not_given_away() {
        let mut adopted = imported("anna", None).into_record();
        adopted.name = "sip:anna@example.com".into();
        let import = additions(&loaded(vec![adopted]), &[imported("anna", None)]);
        assert_eq!(import.added, []);
        assert!(import.skipped[0].starts_with("1 users of users.file were not added"));
    }
}
