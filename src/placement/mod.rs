//! [`plan`]: which user goes to which server when a server fails (P). Pure.
//!
//! Quotas first, then names: how many users each server gets follows from scores and free
//! capacity alone (`quota`); who they are follows from each user's own ranking of the servers
//! (`rank`), so that two plans of the same facts agree, whoever makes them.

mod batch;
mod guard;
mod quota;
mod rank;
mod rebalance;

use std::sync::Arc;

use crate::cluster::{ClusterView, Gate, ServerId, ServerView, State};
use crate::directory::{Directory, User, UserId};
use crate::placement::rank::{Attraction, NameHash};

pub use batch::plan;
pub use guard::{Shortfall, one_more_failure};
pub use rebalance::rebalance;

/// Where everybody of one batch goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the canonical order of users.
    pub moves: Vec<Planned>,
    /// Who does not fit anywhere, and why.
    pub unplaced: Vec<(UserId, Refusal)>,
}

/// One user's part of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Who.
    pub user: UserId,
    /// From where.
    pub from: ServerId,
    /// To where.
    pub to: ServerId,
    /// The user's epoch the plan was made for; work that carries an older one is dropped.
    pub epoch: u64,
}

/// Why a server does not take a user, in the order it is asked: of two, the greater is the server
/// that came closer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Refusal {
    /// It is where the user is already.
    Current,
    /// Its state takes no strangers.
    State,
    /// Its version cannot host guests, or is not known (H7).
    Version,
    /// Its score is below the minimum.
    Score,
    /// It stands elsewhere (P4).
    Site,
    /// It does not have a line group of the user's home (P4).
    LineGroup,
    /// It does not know a telephone system of the user's home (P4).
    TelephoneSystem,
    /// It wants passwords for another realm than the user's home (M6).
    Realm,
    /// It has lost a telephone system of the user's home, which the server reaches where they are.
    TelephoneSystemLost,
    /// It has no room left.
    Full,
}

impl Refusal {
    /// The word in status, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::State => "state",
            Self::Version => "version",
            Self::Score => "score",
            Self::Site => "site",
            Self::LineGroup => "line_group",
            Self::TelephoneSystem => "telephone_system",
            Self::Realm => "realm",
            Self::TelephoneSystemLost => "telephone_system_lost",
            Self::Full => "full",
        }
    }
}

/// What placement may do.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Below this score a server takes no strangers.
    pub score_min: u8,
}

impl Default for Policy {
    fn default() -> Self {
        Self { score_min: 20 }
    }
}

/// The best server for one user alone: a first home, or a relocation outside a batch.
///
/// The user's home, if it can serve them again; else the highest-ranked server with room, degraded
/// ones later, those that have lost the user's telephone system last. Allocates nothing.
///
/// # Errors
///
/// No server takes the user; why the one that came closest does not.
pub fn place(
    user: UserId,
    view: &ClusterView,
    directory: &Directory,
    policy: &Policy,
) -> Result<ServerId, Refusal> {
    best_for(directory.get(user), view, directory, policy)
}

/// The first home of somebody who is no user yet: the same server at every ask while the pool and
/// its room are the same.
///
/// # Errors
///
/// As [`place`].
pub fn place_stranger(
    name: &str,
    view: &ClusterView,
    directory: &Directory,
    policy: &Policy,
) -> Result<ServerId, Refusal> {
    best_for(&User::stranger(name), view, directory, policy)
}

/// Whether this server may become the first home of somebody who is no user yet.
pub fn takes_stranger(
    server: ServerId,
    view: &ClusterView,
    directory: &Directory,
    policy: &Policy,
) -> bool {
    let seen = view.server(server);
    takes_guests(seen, false, policy).is_ok() && free(server, seen, directory) > 0
}

/// For how many more users a server has room.
pub fn room(server: ServerId, view: &ClusterView, directory: &Directory) -> u32 {
    free(server, view.server(server), directory)
}

/// Whether a server has a place for one more user, `taken` of those that are free being promised.
pub fn has_room(server: ServerId, view: &ClusterView, directory: &Directory, taken: u32) -> bool {
    free(server, view.server(server), directory) > taken
}

fn best_for(
    user: &User,
    view: &ClusterView,
    directory: &Directory,
    policy: &Policy,
) -> Result<ServerId, Refusal> {
    let name = NameHash::of(&user.name);
    let mut closest = Refusal::Current;
    // The least of tier, distance and name, so that the order of the configuration decides nothing.
    let mut best: Option<((u8, u128, &str), ServerId)> = None;
    for (id, server) in view.iter() {
        let free = free(id, server, directory);
        match admits(user, id, view, policy, free) {
            Err(refusal) => closest = closest.max(refusal),
            Ok(()) if user.home == Some(id) && lost_system(user, id, view).is_none() => {
                return Ok(id);
            }
            Ok(()) => {
                let attraction = Attraction::of(NameHash::of(&server.name), weight(server, free));
                let tier = tier(belongs(user), id, view);
                let order = (tier, attraction.distance(name), &*server.name);
                if best.is_none_or(|(best, _)| order < best) {
                    best = Some((order, id));
                }
            }
        }
    }
    best.map(|(_, id)| id).ok_or(closest)
}

/// Every server, in the order of the configuration, and why it would not take this user (D8).
pub fn candidates(
    user: UserId,
    view: &ClusterView,
    directory: &Directory,
    policy: &Policy,
) -> Vec<(ServerId, Result<(), Refusal>)> {
    let user = directory.get(user);
    view.iter()
        .map(|(id, server)| (id, admits(user, id, view, policy, free(id, server, directory))))
        .collect()
}

/// Whether one server with `free` room takes one user.
fn admits(
    user: &User,
    id: ServerId,
    view: &ClusterView,
    policy: &Policy,
    free: u32,
) -> Result<(), Refusal> {
    let server = view.server(id);
    if user.current() == Some(id) {
        return Err(Refusal::Current);
    }
    let as_guest = takes_guests(server, user.current().is_some(), policy).and_then(|()| {
        if !same_site(site(user, view), server.site.as_deref()) {
            return Err(Refusal::Site);
        }
        tied(belongs(user), server, view)?;
        if !same_realm(belongs(user), server, view) {
            return Err(Refusal::Realm);
        }
        Ok(())
    });
    match as_guest {
        // At home nobody is a guest: what is asked of guests is not asked of its own users.
        Err(refusal) if refusal == Refusal::State || user.home != Some(id) => Err(refusal),
        _ if can_telephone(user, view) && lost_system(user, id, view).is_some() => {
            Err(Refusal::TelephoneSystemLost)
        }
        _ if free == 0 => Err(Refusal::Full),
        _ => Ok(()),
    }
}

/// Whether a server takes anybody who is not at home there, room apart. An old server may still
/// become somebody's first home: it takes part as a home (H7).
fn takes_guests(server: &ServerView, relocation: bool, policy: &Policy) -> Result<(), Refusal> {
    if !server.state.takes_strangers() {
        return Err(Refusal::State);
    }
    let hosts = Gate::Backup.admits(server.version);
    if relocation && !hosts {
        return Err(Refusal::Version);
    }
    if server.score < policy.score_min {
        return Err(Refusal::Score);
    }
    Ok(())
}

/// Where a user belongs, for P4 and M6: a relocation does not change it.
fn belongs(user: &User) -> Option<ServerId> {
    user.home.or_else(|| user.current())
}

fn site<'v>(user: &User, view: &'v ClusterView) -> Option<&'v str> {
    belongs(user).and_then(|server| view.server(server).site.as_deref())
}

/// Whether a server takes the passwords of users who belong to `belongs`.
fn same_realm(belongs: Option<ServerId>, server: &ServerView, view: &ClusterView) -> bool {
    belongs.is_none_or(|home| !view.server(home).realms.differ_from(&server.realms))
}

/// Whether a server takes no password of this user's, because its realm is another one than that
/// of the user's home (M6).
pub fn is_of_another_realm(user: &User, server: ServerId, view: &ClusterView) -> bool {
    !same_realm(belongs(user), view.server(server), view)
}

/// Whether a server has what the lines of users who belong to `belongs` need (P4).
fn tied(belongs: Option<ServerId>, server: &ServerView, view: &ClusterView) -> Result<(), Refusal> {
    let Some(home) = belongs.map(|home| &view.server(home).ties) else { return Ok(()) };
    if server.ties.lacks_line_group(home).is_some() {
        return Err(Refusal::LineGroup);
    }
    if server.ties.lacks_system(home).is_some() {
        return Err(Refusal::TelephoneSystem);
    }
    Ok(())
}

/// A telephone system of this user's that a server does not reach now.
pub fn lost_system<'v>(
    user: &User,
    server: ServerId,
    view: &'v ClusterView,
) -> Option<&'v Arc<str>> {
    lost(belongs(user), view.server(server), view)
}

fn lost<'v>(
    belongs: Option<ServerId>,
    server: &ServerView,
    view: &'v ClusterView,
) -> Option<&'v Arc<str>> {
    let home = &view.server(belongs?).ties;
    let mut systems = home.systems().map(|(system, _)| system);
    systems.find(|system| server.ties.reaches(system) == Some(false))
}

/// `None` is everywhere.
fn same_site(a: Option<&str>, b: Option<&str>) -> bool {
    a.is_none() || b.is_none() || a == b
}

/// Room for more users: what is assigned or on its way counts, not who is logged in (P2).
fn free(id: ServerId, server: &ServerView, directory: &Directory) -> u32 {
    let taken = directory.assigned(id).saturating_add(directory.reserved(id));
    server.capacity.saturating_sub(taken)
}

/// A server's share among the others.
fn weight(server: &ServerView, free: u32) -> u64 {
    // A policy may admit a score of 0; its room then still counts for something.
    u64::from(server.score.max(1)) * u64::from(free)
}

/// Whether a user is served where their telephone systems are reached: then nobody puts them where one is
/// lost, which helps those only who have nothing where they are.
fn can_telephone(user: &User, view: &ClusterView) -> bool {
    user.current().is_some_and(|current| {
        view.server(current).serves_its_users() && lost_system(user, current, view).is_none()
    })
}

/// Servers of a higher tier take users only when those of a lower one are full: degraded ones, and last
/// of all those that have lost a telephone system the users need. There they are served, but for that,
/// which is more than where they are.
fn tier(belongs: Option<ServerId>, id: ServerId, view: &ClusterView) -> u8 {
    let server = view.server(id);
    let lost = match belongs {
        Some(_) => lost(belongs, server, view),
        // Nobody's home yet: to be one, it should reach what others reach.
        None => view.lost_system(id),
    };
    u8::from(server.state == State::Degraded) + 2 * u8::from(lost.is_some())
}

#[cfg(test)]
mod tests;
