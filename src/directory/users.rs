//! The users in memory, by number, by AoR, and by the server that serves them now.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::cluster::ServerId;
use crate::directory::index::Index;
use crate::directory::record::UserRecord;
use crate::directory::{Aor, History, Relocation, User};

/// A user, by place in the [`Directory`] of this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(pub u32);

impl UserId {
    /// The place in a table of users.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// An AoR or line was offered to a second user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} belongs to user {owner:?} already; an address or line belongs to exactly one user")]
pub struct DuplicateOwner {
    /// The AoR, line or name in question.
    pub what: String,
    /// Who has it.
    pub owner: Arc<str>,
}

/// All users. Changes only after they are durable.
///
/// A [`UserId`] is a place in it and is never given to another user: users are disabled, not
/// removed.
#[derive(Debug, Default)]
pub struct Directory {
    users: Vec<User>,
    /// What is asked of a user with every message, side by side: users are large and far apart.
    whereabouts: Vec<Whereabouts>,
    by_name: Index,
    by_aor: Index,
    by_line: Index,
    /// Users whose current server this is, by [`ServerId`].
    assigned: Counts,
    /// Users whose home this is, by [`ServerId`].
    home_to: Counts,
    /// Places kept for users who are on their way there, by [`ServerId`].
    reserved: Counts,
    /// Users who are served elsewhere than at home.
    away: BTreeSet<UserId>,
    /// How many of them have this home, by [`ServerId`].
    away_from: Counts,
    /// Enabled users by the server that serves them and their home.
    served: BTreeMap<(ServerId, Option<ServerId>), u32>,
}

impl Directory {
    /// No users yet, in front of `servers` servers.
    pub fn new(servers: usize) -> Self {
        Self {
            assigned: Counts(vec![0; servers]),
            home_to: Counts(vec![0; servers]),
            reserved: Counts(vec![0; servers]),
            away_from: Counts(vec![0; servers]),
            ..Self::default()
        }
    }

    /// How many users there are, disabled ones included.
    pub const fn len(&self) -> usize {
        self.users.len()
    }

    /// Whether there is no user.
    pub const fn is_empty(&self) -> bool {
        self.users.is_empty()
    }

    /// All users, in the order they were inserted.
    pub fn iter(&self) -> impl Iterator<Item = (UserId, &User)> {
        (0u32..).map(UserId).zip(self.users.iter())
    }

    /// One user. `id` must come from this directory.
    pub fn get(&self, id: UserId) -> &User {
        &self.users[id.index()]
    }

    /// Where this user is served now. `id` must come from this directory.
    pub fn current(&self, id: UserId) -> Option<ServerId> {
        self.whereabouts[id.index()].current
    }

    /// Whether this user is not refused everywhere. `id` must come from this directory.
    pub fn is_enabled(&self, id: UserId) -> bool {
        self.whereabouts[id.index()].enabled
    }

    /// Whose this address-of-record is; `aor` in canonical form ([`Aor`]). Allocates nothing.
    pub fn by_aor(&self, aor: &str) -> Option<UserId> {
        self.by_aor.find(aor, |id| self.get(id).aors.iter().any(|own| own.as_str() == aor))
    }

    /// An address of this user as the directory keeps it, so that the text is kept once.
    pub fn own(&self, id: UserId, aor: &Aor) -> Aor {
        self.get(id).aors.iter().find(|own| *own == aor).unwrap_or(aor).clone()
    }

    /// Who has this login name.
    pub fn by_name(&self, name: &str) -> Option<UserId> {
        self.by_name.find(name, |id| &*self.get(id).name == name)
    }

    /// Who has this line.
    pub fn by_line(&self, line: &str) -> Option<UserId> {
        self.by_line.find(line, |id| self.get(id).lines.iter().any(|own| &**own == line))
    }

    /// How many enabled users are served by which server and at home on which, in order.
    pub fn served(&self) -> impl Iterator<Item = (ServerId, Option<ServerId>, u32)> {
        self.served.iter().map(|(&(current, home), &users)| (current, home, users))
    }

    /// How many users' current server this is: what counts against its capacity (P2).
    pub fn assigned(&self, server: ServerId) -> u32 {
        self.assigned.of(server)
    }

    /// How many users' home this is.
    pub fn home_to(&self, server: ServerId) -> u32 {
        self.home_to.of(server)
    }

    /// Keeps one place for a user whose way to this server is being recorded: the directory does
    /// not show them there yet, and the place must not be given away meanwhile.
    pub fn reserve(&mut self, server: ServerId) {
        *self.reserved.slot(server) += 1;
    }

    /// Gives up one reserved place: the store has answered, whatever it said.
    pub fn release(&mut self, server: ServerId) {
        let reserved = self.reserved.slot(server);
        debug_assert!(*reserved > 0, "a place is released that was not reserved");
        *reserved = reserved.saturating_sub(1);
    }

    /// How many places are reserved.
    pub fn reserved(&self, server: ServerId) -> u32 {
        self.reserved.of(server)
    }

    /// How many users are served elsewhere than at home.
    pub fn relocated(&self) -> usize {
        self.away.len()
    }

    /// Servers some of whose users are served elsewhere.
    pub fn homes_with_users_away(&self) -> Vec<ServerId> {
        (0..)
            .map(ServerId)
            .zip(&self.away_from.0)
            .filter(|(_, away)| **away > 0)
            .map(|(server, _)| server)
            .collect()
    }

    /// How many users of this home are served elsewhere.
    pub fn count_away_from(&self, home: ServerId) -> u32 {
        self.away_from.of(home)
    }

    /// Whether this user is served elsewhere than at `home`, where they belong.
    pub fn is_away_from(&self, id: UserId, home: ServerId) -> bool {
        let user = self.get(id);
        user.relocation.is_some() && user.home == Some(home)
    }

    /// Users in the order in which they became known, from this place; there need be nobody at it.
    pub fn since(&self, from: UserId) -> impl Iterator<Item = UserId> + use<> {
        (from.index()..self.users.len()).map(|place| UserId(place as u32))
    }

    /// Who of them is served elsewhere than at home.
    pub fn away_since(&self, from: UserId) -> impl Iterator<Item = UserId> {
        self.away.range(from..).copied()
    }

    /// Who is, in the canonical order. Takes time in proportion to all who are away from anywhere.
    pub fn away_from(&self, home: ServerId) -> Vec<UserId> {
        let away = self.away.iter().copied();
        let mut ids: Vec<UserId> = away.filter(|&id| self.is_away_from(id, home)).collect();
        self.sort(&mut ids);
        ids
    }

    /// Whose current server this is, in the canonical order. Reads every user once: for a
    /// failover or a listing, not for a packet.
    pub fn on_server(&self, server: ServerId) -> Vec<UserId> {
        let mut ids: Vec<UserId> = self
            .iter()
            .filter(|(_, user)| user.current() == Some(server))
            .map(|(id, _)| id)
            .collect();
        self.sort(&mut ids);
        ids
    }

    /// Puts users into the canonical order: by name, byte by byte.
    pub fn sort(&self, ids: &mut [UserId]) {
        // The names' addresses side by side: with many users, finding them is what costs.
        let mut named: Vec<(&str, UserId)> =
            ids.iter().map(|id| (&*self.get(*id).name, *id)).collect();
        named.sort_unstable();
        for (place, (_, id)) in ids.iter_mut().zip(named) {
            *place = id;
        }
    }

    /// Takes in a new user.
    ///
    /// # Errors
    ///
    /// The name, an AoR or a line belongs to somebody already; nothing was inserted.
    pub fn insert(&mut self, user: User) -> Result<UserId, DuplicateOwner> {
        self.check_owner(&user, None)?;
        let mut user = user;
        // Whoever was adopted is called like their address: one text serves both.
        if let Some(own) = user.aors.iter().find(|own| own.as_str() == &*user.name) {
            user.name = own.shared();
        }
        // Four thousand million users do not fit into memory; the limit on users is far below.
        let id = UserId(u32::try_from(self.users.len()).unwrap_or(u32::MAX));
        self.index(id, &user);
        self.count(id, &user);
        self.whereabouts.push(Whereabouts::of(&user));
        self.users.push(user);
        Ok(id)
    }

    /// Puts another record in the place of a user: somebody else's write is adopted, or an import
    /// changes who the user is.
    ///
    /// # Errors
    ///
    /// The new name, AoR or line belongs to somebody else; nothing was changed.
    pub fn replace(&mut self, id: UserId, user: User) -> Result<(), DuplicateOwner> {
        self.check_owner(&user, Some(id))?;
        let old = self.get(id).clone();
        self.by_name.remove(&old.name, id);
        for aor in &old.aors {
            self.by_aor.remove(aor.as_str(), id);
        }
        for line in &old.lines {
            self.by_line.remove(line, id);
        }
        self.discount(id, &old);
        self.index(id, &user);
        self.count(id, &user);
        self.whereabouts[id.index()] = Whereabouts::of(&user);
        self.users[id.index()] = user;
        Ok(())
    }

    /// Gives a user a home: the first one, or another by hand (D7: while relocated the origin
    /// follows and the user stays; a home where the user is served already ends the relocation).
    pub fn set_home(&mut self, id: UserId, home: ServerId, epoch: u64) {
        self.change(id, epoch, |user| {
            user.home = Some(home);
            if let Some(relocation) = &mut user.relocation {
                relocation.origin = home;
            }
            end_relocation_at_home(user);
        });
    }

    /// Records that a user is served elsewhere. A relocation to the home is none.
    pub fn relocate(&mut self, id: UserId, relocation: Relocation, epoch: u64) {
        self.change(id, epoch, |user| {
            user.relocation = Some(relocation);
            end_relocation_at_home(user);
        });
    }

    /// Records that a user is at home again.
    pub fn clear_relocation(&mut self, id: UserId, epoch: u64) {
        self.change(id, epoch, |user| user.relocation = None);
    }

    /// What survives a restart of this user; `name` tells a server's name.
    pub fn to_record(&self, id: UserId, name: &dyn Fn(ServerId) -> Arc<str>) -> UserRecord {
        self.get(id).to_record(name)
    }

    /// Notes that a server holds nothing of a user any more (M8). Current stays.
    pub fn forget_left_at(&mut self, id: UserId, server: ServerId) {
        self.users[id.index()].left_at.retain(|&left| left != server);
    }

    /// Notes which servers may still hold something of a user (M8).
    pub fn set_left_at(&mut self, id: UserId, left_at: Vec<ServerId>) {
        self.users[id.index()].left_at = left_at;
    }

    /// Replaces the memory of a user's moves.
    pub fn set_history(&mut self, id: UserId, history: History) {
        self.users[id.index()].history = history;
    }

    /// The only way current or home change in place: the counts follow.
    fn change(&mut self, id: UserId, epoch: u64, change: impl FnOnce(&mut User)) {
        let user = &mut self.users[id.index()];
        let before = Places::of(user);
        change(user);
        user.epoch = epoch;
        let after = Places::of(user);
        self.whereabouts[id.index()] = Whereabouts::of(user);
        self.recount(id, before, after);
    }

    fn check_owner(&self, user: &User, but: Option<UserId>) -> Result<(), DuplicateOwner> {
        let taken = |owner: Option<UserId>, what: &dyn Fn() -> String| match owner {
            Some(owner) if Some(owner) != but => {
                Err(DuplicateOwner { what: what(), owner: Arc::clone(&self.get(owner).name) })
            }
            _ => Ok(()),
        };
        taken(self.by_name(&user.name), &|| format!("the name {:?}", user.name))?;
        for aor in &user.aors {
            taken(self.by_aor(aor.as_str()), &|| format!("the address-of-record {aor}"))?;
        }
        for line in &user.lines {
            taken(self.by_line(line), &|| format!("the line {line:?}"))?;
        }
        Ok(())
    }

    fn index(&mut self, id: UserId, user: &User) {
        self.by_name.insert(&user.name, id);
        for aor in &user.aors {
            self.by_aor.insert(aor.as_str(), id);
        }
        for line in &user.lines {
            self.by_line.insert(line, id);
        }
    }

    fn count(&mut self, id: UserId, user: &User) {
        self.recount(id, Places::default(), Places::of(user));
    }

    fn discount(&mut self, id: UserId, user: &User) {
        self.recount(id, Places::of(user), Places::default());
    }

    fn recount(&mut self, id: UserId, before: Places, after: Places) {
        self.home_to.moved(before.home, after.home);
        self.assigned.moved(before.current, after.current);
        self.away_from.moved(before.away_from(), after.away_from());
        if before.served() != after.served() {
            if let Some(before) = before.served()
                && let Some(users) = self.served.get_mut(&before)
            {
                *users -= 1;
                if *users == 0 {
                    self.served.remove(&before);
                }
            }
            if let Some(after) = after.served() {
                *self.served.entry(after).or_default() += 1;
            }
        }
        if after.is_away {
            self.away.insert(id);
        } else {
            self.away.remove(&id);
        }
    }
}

/// What the counts count of one user.
#[derive(Clone, Copy, Debug, Default)]
struct Places {
    home: Option<ServerId>,
    current: Option<ServerId>,
    is_away: bool,
    enabled: bool,
}

impl Places {
    fn of(user: &User) -> Self {
        Self {
            home: user.home,
            current: user.current(),
            is_away: user.relocation.is_some(),
            enabled: user.enabled,
        }
    }

    fn served(self) -> Option<(ServerId, Option<ServerId>)> {
        Some((self.current.filter(|_| self.enabled)?, self.home))
    }

    /// The home a user is away from.
    fn away_from(self) -> Option<ServerId> {
        self.home.filter(|_| self.is_away)
    }
}

/// Where a user is now, and whether they may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Whereabouts {
    current: Option<ServerId>,
    enabled: bool,
}

impl Whereabouts {
    fn of(user: &User) -> Self {
        Self { current: user.current(), enabled: user.enabled }
    }
}

/// Users by [`ServerId`].
#[derive(Debug, Default)]
struct Counts(Vec<u32>);

impl Counts {
    fn of(&self, server: ServerId) -> u32 {
        self.0.get(server.index()).copied().unwrap_or(0)
    }

    fn moved(&mut self, from: Option<ServerId>, to: Option<ServerId>) {
        if let Some(from) = from {
            *self.slot(from) -= 1;
        }
        if let Some(to) = to {
            *self.slot(to) += 1;
        }
    }

    fn slot(&mut self, server: ServerId) -> &mut u32 {
        if self.0.len() <= server.index() {
            self.0.resize(server.index() + 1, 0);
        }
        &mut self.0[server.index()]
    }
}

fn end_relocation_at_home(user: &mut User) {
    if user.relocation.as_ref().is_some_and(|relocation| Some(relocation.target) == user.home) {
        user.relocation = None;
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use proptest::prelude::*;

    use super::*;
    use crate::directory::record::RelocationReason;

    const SERVERS: u16 = 4;

    fn user(name: &str, aors: &[&str], lines: &[&str]) -> User {
        User {
            name: Arc::from(name),
            aors: aors.iter().map(|aor| Aor::from_canonical(*aor)).collect(),
            lines: lines.iter().map(|line| Arc::from(*line)).collect(),
            home: Some(ServerId(0)),
            enabled: true,
            relocation: None,
            epoch: 1,
            left_at: Vec::new(),
            history: History::default(),
        }
    }

    fn relocation(origin: u16, target: u16) -> Relocation {
        Relocation {
            origin: ServerId(origin),
            date: SystemTime::UNIX_EPOCH,
            target: ServerId(target),
            why: RelocationReason::Failover,
        }
    }

    #[test]
    fn a_user_is_found_by_name_address_and_line() {
        let mut directory = Directory::new(1);
        let anna = directory.insert(user("anna", &["sip:a@x", "sip:b@x"], &["1", "2"])).unwrap();
        assert_eq!(directory.by_name("anna"), Some(anna));
        assert_eq!(directory.by_aor("sip:b@x"), Some(anna));
        assert_eq!(directory.by_line("2"), Some(anna));
        assert_eq!(directory.by_aor("anna"), None);
    }

    #[test]
    fn a_duplicate_is_refused_whole() {
        let mut directory = Directory::new(1);
        directory.insert(user("anna", &["sip:a@x"], &["1"])).unwrap();
        for (second, what) in [
            (user("anna", &["sip:new@x"], &[]), "the name \"anna\""),
            (user("bert", &["sip:new@x", "sip:a@x"], &[]), "the address-of-record sip:a@x"),
            (user("bert", &["sip:new@x"], &["9", "1"]), "the line \"1\""),
        ] {
            let refused = directory.insert(second).unwrap_err();
            assert_eq!((&*refused.what, &*refused.owner), (what, "anna"));
            assert_eq!((directory.len(), directory.assigned(ServerId(0))), (1, 1));
            assert_eq!(directory.by_aor("sip:new@x"), None);
            assert_eq!(directory.by_name("bert"), None);
        }
    }

    #[test]
    fn a_replaced_user_gives_up_what_is_no_longer_theirs() {
        let mut directory = Directory::new(2);
        let anna = directory.insert(user("anna", &["sip:a@x", "sip:b@x"], &["1"])).unwrap();
        let bert = directory.insert(user("bert", &["sip:c@x"], &[])).unwrap();
        assert!(directory.replace(bert, user("bert", &["sip:a@x"], &[])).is_err());
        assert_eq!(directory.by_aor("sip:c@x"), Some(bert));
        directory.replace(anna, user("anne", &["sip:b@x"], &["1"])).unwrap();
        assert_eq!((directory.by_name("anna"), directory.by_name("anne")), (None, Some(anna)));
        directory.replace(bert, user("bert", &["sip:a@x"], &[])).unwrap();
        assert_eq!((directory.by_aor("sip:a@x"), directory.by_aor("sip:c@x")), (Some(bert), None));
    }

    #[test]
    fn a_new_home_while_relocated_changes_home_and_origin_and_moves_nobody() {
        let mut directory = Directory::new(3);
        let anna = directory.insert(user("anna", &[], &[])).unwrap();
        directory.relocate(anna, relocation(0, 1), 2);
        directory.set_home(anna, ServerId(2), 3);
        let user = directory.get(anna);
        assert_eq!((user.home, user.current()), (Some(ServerId(2)), Some(ServerId(1))));
        assert_eq!(user.relocation.as_ref().map(|away| away.origin), Some(ServerId(2)));
        assert_eq!((user.epoch, directory.relocated()), (3, 1));
    }

    #[test]
    fn a_user_who_is_served_at_home_is_not_relocated() {
        let mut directory = Directory::new(2);
        let anna = directory.insert(user("anna", &[], &[])).unwrap();
        directory.relocate(anna, relocation(0, 1), 2);
        directory.set_home(anna, ServerId(1), 3);
        assert_eq!(directory.get(anna).relocation, None);
        directory.relocate(anna, relocation(1, 1), 4);
        assert_eq!((directory.get(anna).relocation.as_ref(), directory.relocated()), (None, 0));
    }

    #[test]
    fn users_of_a_server_come_in_the_order_of_their_names() {
        let mut directory = Directory::new(2);
        for name in ["carl", "Zoe", "anna", "änne", "bert"] {
            directory.insert(user(name, &[], &[])).unwrap();
        }
        let bert = directory.by_name("bert").unwrap();
        directory.relocate(bert, relocation(0, 1), 2);
        let names = |server| -> Vec<String> {
            let ids = directory.on_server(ServerId(server));
            ids.into_iter().map(|id| directory.get(id).name.to_string()).collect()
        };
        assert_eq!(names(0), ["Zoe", "anna", "carl", "änne"]);
        assert_eq!(names(1), ["bert"]);
    }

    #[test]
    fn a_server_nobody_configured_counts_as_empty() {
        assert_eq!(Directory::new(1).assigned(ServerId(9)), 0);
    }

    #[derive(Clone, Debug)]
    enum Change {
        Insert(u8, Option<u16>),
        Replace(u8, u8, Option<u16>, Option<u16>),
        SetHome(u8, u16),
        Relocate(u8, u16),
        Clear(u8),
    }

    fn changes() -> impl Strategy<Value = Change> {
        let server = 0..SERVERS;
        let maybe = proptest::option::of(0..SERVERS);
        prop_oneof![
            (0u8..20, maybe.clone()).prop_map(|(name, home)| Change::Insert(name, home)),
            (any::<u8>(), 0u8..20, maybe.clone(), maybe)
                .prop_map(|(who, name, home, target)| Change::Replace(who, name, home, target)),
            (any::<u8>(), server.clone()).prop_map(|(who, home)| Change::SetHome(who, home)),
            (any::<u8>(), server).prop_map(|(who, target)| Change::Relocate(who, target)),
            any::<u8>().prop_map(Change::Clear),
        ]
    }

    fn apply(directory: &mut Directory, change: Change, epoch: u64) {
        let numbered = |n: u8| User {
            home: None,
            enabled: n < 15,
            ..user(&n.to_string(), &[&format!("sip:{}@x", n / 2)], &[&format!("{}", n / 3)])
        };
        if let Change::Insert(name, home) = change {
            let _ = directory.insert(User { home: home.map(ServerId), ..numbered(name) });
            return;
        }
        if directory.is_empty() {
            return;
        }
        let id = |who: u8| UserId(u32::from(who) % u32::try_from(directory.len()).unwrap());
        match change {
            Change::Insert(..) => {}
            Change::Replace(who, name, home, target) => {
                let relocation = target.map(|target| relocation(home.unwrap_or(target), target));
                let home = home.map(ServerId);
                let _ = directory.replace(id(who), User { home, relocation, ..numbered(name) });
            }
            Change::SetHome(who, home) => directory.set_home(id(who), ServerId(home), epoch),
            Change::Relocate(who, target) => {
                directory.relocate(id(who), relocation(0, target), epoch);
            }
            Change::Clear(who) => directory.clear_relocation(id(who), epoch),
        }
    }

    proptest! {
        #[test]
        fn counts_and_indexes_agree_with_a_recount(
            changes in proptest::collection::vec(changes(), 0..60),
        ) {
            let mut directory = Directory::new(usize::from(SERVERS) - 1);
            for (epoch, change) in (2..).zip(changes) {
                apply(&mut directory, change, epoch);
                let count = |of: &dyn Fn(&User) -> bool| {
                    directory.iter().filter(|(_, user)| of(user)).count()
                };
                for server in (0..SERVERS).map(ServerId) {
                    let on = count(&|user| user.current() == Some(server));
                    prop_assert_eq!(directory.assigned(server) as usize, on);
                    prop_assert_eq!(directory.on_server(server).len(), on);
                    let home = count(&|user| user.home == Some(server));
                    prop_assert_eq!(directory.home_to(server) as usize, home);
                }
                let mut served = BTreeMap::new();
                for (_, user) in directory.iter().filter(|(_, user)| user.enabled) {
                    if let Some(current) = user.current() {
                        *served.entry((current, user.home)).or_insert(0) += 1;
                    }
                }
                let told: Vec<_> = directory.served().map(|(at, home, many)| ((at, home), many)).collect();
                prop_assert_eq!(told, served.into_iter().collect::<Vec<_>>());
                for (id, user) in directory.iter() {
                    prop_assert_eq!(directory.current(id), user.current());
                    prop_assert_eq!(directory.is_enabled(id), user.enabled);
                }
                prop_assert_eq!(directory.relocated(), count(&|user| user.relocation.is_some()));
                for n in 0u8..20 {
                    let name = n.to_string();
                    let owner = |of: &dyn Fn(&User) -> bool| {
                        directory.iter().find(|(_, user)| of(user)).map(|(id, _)| id)
                    };
                    let aor = format!("sip:{n}@x");
                    prop_assert_eq!(directory.by_name(&name), owner(&|user| *user.name == *name));
                    prop_assert_eq!(
                        directory.by_aor(&aor),
                        owner(&|user| user.aors.iter().any(|of| of.as_str() == aor))
                    );
                    prop_assert_eq!(
                        directory.by_line(&name),
                        owner(&|user| user.lines.iter().any(|of| **of == *name))
                    );
                }
            }
        }
    }
}
