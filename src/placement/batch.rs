//! [`plan`]: one batch of users, all at once.

use std::collections::BTreeMap;

use crate::cluster::{ClusterView, ServerId};
use crate::directory::{Directory, User, UserId};
use crate::placement::quota::{Demand, Room, quotas};
use crate::placement::rank::{Attraction, NameHash};
use crate::placement::{
    Plan, Planned, Policy, Refusal, admits, belongs, can_telephone, free, lost, lost_system,
    same_realm, same_site, site, takes_guests, tied, tier, weight,
};

/// Plans one batch: `users` leave the servers they are on. The same facts give the same plan,
/// whatever the order of `users`, of the directory and of the configuration (P3).
///
/// Nobody else moves (P1). Users whose home can serve them again go home; the others are spread
/// by quotas (P2). No server gets more users than it has room for. A user given twice is planned
/// once; disabled users are left out, because a place kept for somebody who is refused everywhere
/// is lost to the others, and so are users who are nowhere yet, because they have no server to
/// leave ([`crate::placement::place`] finds them one).
///
/// Takes time in proportion to users × servers, and n · log n for the canonical order.
pub fn plan(users: &[UserId], view: &ClusterView, directory: &Directory, policy: &Policy) -> Plan {
    let mut batch = Batch::new(view, directory, policy);
    let mut leaving = users.to_vec();
    directory.sort(&mut leaving);
    leaving.dedup();

    let mut moves: Vec<Planned> = Vec::with_capacity(leaving.len());
    let mut guests = Vec::with_capacity(leaving.len());
    for id in leaving {
        let user = directory.get(id);
        let Some(from) = user.current().filter(|_| user.enabled) else { continue };
        let go = |to| Planned { user: id, from, to, epoch: user.epoch };
        match batch.go_home(user, 1) {
            Some((home, 1)) => moves.push(go(home)),
            _ => guests.push(Guest {
                // Where to is not known yet.
                planned: go(from),
                name: NameHash::of(&user.name),
                kind: batch.ask(user, Some(from), 1),
            }),
        }
    }
    let homebound = moves.len();

    let mut seats = batch.seats();
    let mut unplaced = Vec::new();
    for guest in guests {
        match batch.take_best(guest.name, &mut seats[guest.kind]) {
            Some(to) => moves.push(Planned { to, ..guest.planned }),
            None => {
                let user = guest.planned.user;
                unplaced.push((user, batch.refusal(directory.get(user))));
            }
        }
    }
    if homebound > 0 {
        moves.sort_by(|a, b| directory.get(a.user).name.cmp(&directory.get(b.user).name));
    }
    Plan { moves, unplaced }
}

/// A user who needs a place elsewhere. Everything the second pass needs, so that it does not read
/// the directory again: with many users that is what costs most.
struct Guest {
    planned: Planned,
    name: NameHash,
    kind: usize,
}

/// A server that takes guests.
pub(super) struct Host<'v> {
    pub(super) id: ServerId,
    pub(super) name: &'v str,
    site: Option<&'v str>,
    pub(super) attraction: Attraction,
}

/// What the users of a batch share.
pub(super) struct Batch<'v> {
    view: &'v ClusterView,
    policy: &'v Policy,
    /// By [`ServerId`]; falls as users are planned.
    free: Vec<u32>,
    /// Servers that take guests, by name.
    pub(super) hosts: Vec<Host<'v>>,
    /// Users who may go to the same hosts are of one kind.
    pub(super) kinds: Vec<Demand>,
    /// Whether they move for now, and not for long.
    relocation: bool,
    by_constraint: BTreeMap<(Option<ServerId>, Option<ServerId>, bool), usize>,
}

/// What one kind of users may still take, by host.
pub(super) type Seats = Vec<u64>;

impl<'v> Batch<'v> {
    pub(super) fn new(view: &'v ClusterView, directory: &Directory, policy: &'v Policy) -> Self {
        Self::with_hosts(view, directory, policy, true)
    }

    /// For first homes, or for relocations.
    pub(super) fn with_hosts(
        view: &'v ClusterView,
        directory: &Directory,
        policy: &'v Policy,
        relocation: bool,
    ) -> Self {
        let mut hosts: Vec<Host<'v>> = view
            .iter()
            .filter(|(_, server)| takes_guests(server, relocation, policy).is_ok())
            .map(|(id, server)| Host {
                id,
                name: &server.name,
                site: server.site.as_deref(),
                attraction: Attraction::of(NameHash::of(&server.name), 0),
            })
            .collect();
        hosts.sort_by(|a, b| a.name.cmp(b.name));
        Self {
            view,
            policy,
            free: view.iter().map(|(id, server)| free(id, server, directory)).collect(),
            hosts,
            kinds: Vec::new(),
            relocation,
            by_constraint: BTreeMap::new(),
        }
    }

    /// How many of `users` users of the same home and current server their home takes, and which
    /// it is, if it can serve them again; they have their places then.
    pub(super) fn go_home(&mut self, user: &User, users: u32) -> Option<(ServerId, u32)> {
        let home = user.home?;
        if lost_system(user, home, self.view).is_some() {
            // It is a place like any other, then, and not the best one.
            return None;
        }
        let free = &mut self.free[home.index()];
        admits(user, home, self.view, self.policy, *free).ok()?;
        let taken = users.min(*free);
        *free -= taken;
        Some((home, taken))
    }

    /// Asks for places for `users` users like this one, anywhere but where they leave; the kind they
    /// are of.
    pub(super) fn ask(&mut self, user: &User, from: Option<ServerId>, users: u32) -> usize {
        // Leaving a server that takes no guests excludes nothing that is not excluded already.
        let from = from.filter(|from| self.hosts.iter().any(|host| host.id == *from));
        // Site, ties and realm are those of the server where they belong.
        let belongs = belongs(user);
        let telephones = self.relocation && can_telephone(user, self.view);
        let kind = *self.by_constraint.entry((from, belongs, telephones)).or_insert_with(|| {
            let site = site(user, self.view);
            let tier = |host: &Host<'_>| {
                let server = self.view.server(host.id);
                let allowed = Some(host.id) != from
                    && same_site(site, host.site)
                    && tied(belongs, server, self.view).is_ok()
                    && same_realm(belongs, server, self.view)
                    && !(telephones && lost(belongs, server, self.view).is_some());
                // Of who goes for long, moods of the hour decide nothing.
                allowed.then(|| if self.relocation { tier(belongs, host.id, self.view) } else { 0 })
            };
            let tiers: Vec<Option<u8>> = self.hosts.iter().map(tier).collect();
            let same = self.kinds.iter().position(|kind| kind.tiers == tiers);
            same.unwrap_or_else(|| {
                self.kinds.push(Demand { users: 0, tiers });
                self.kinds.len() - 1
            })
        });
        self.kinds[kind].users += u64::from(users);
        kind
    }

    /// Divides the room that is left, by kind. Weights are what is free now, when those who go
    /// home have their places.
    pub(super) fn seats(&mut self) -> Vec<Seats> {
        let mut rooms = Vec::with_capacity(self.hosts.len());
        for host in &mut self.hosts {
            let free = self.free[host.id.index()];
            let weight = weight(self.view.server(host.id), free);
            host.attraction = Attraction::of(NameHash::of(host.name), weight);
            rooms.push(Room { free: u64::from(free), weight });
        }
        quotas(&rooms, &self.kinds)
    }

    /// The nearest host with a seat left; takes the seat.
    pub(super) fn take_best(&self, name: NameHash, seats: &mut Seats) -> Option<ServerId> {
        let mut best: Option<(u128, usize)> = None;
        for (place, (host, left)) in self.hosts.iter().zip(seats.iter()).enumerate() {
            if *left > 0 {
                // Equally far: hosts are in the order of their names, and the first wins.
                let this = (host.attraction.distance(name), place);
                best = Some(best.map_or(this, |best| best.min(this)));
            }
        }
        let (_, place) = best?;
        seats[place] -= 1;
        Some(self.hosts[place].id)
    }

    /// Why nobody takes this user: what the server that came closest says. Whoever would have
    /// taken them is full by now.
    fn refusal(&self, user: &User) -> Refusal {
        self.view
            .iter()
            .map(|(id, _)| admits(user, id, self.view, self.policy, 0))
            .filter_map(Result::err)
            .max()
            .unwrap_or(Refusal::Full)
    }
}
