//! [`rebalance`]: who gets another home, so that every server has its share (P).

use crate::cluster::{ClusterView, ServerId};
use crate::directory::{Directory, UserId};
use crate::placement::batch::{Batch, Seats};
use crate::placement::quota::{Room, quotas};
use crate::placement::rank::{Attraction, NameHash};
use crate::placement::{Planned, Policy};

/// The least moves that give every server which takes users its share of homes: its capacity among
/// the capacities of all, within site, line groups, telephone systems and realm. Moods of the hour, such as load and latency, do not
/// count: homes are for long.
///
/// Users who are away from home, disabled ones, and those of servers that take nobody now stay out
/// of it. Once the moves are made, another plan of the same users is empty.
///
/// In canonical order. Takes time in proportion to users × servers, and n · log n for the order.
pub fn rebalance(view: &ClusterView, directory: &Directory, policy: &Policy) -> Vec<Planned> {
    let mut batch = Batch::with_hosts(view, directory, policy, false);
    let places: Vec<Option<usize>> =
        view.iter().map(|(id, _)| batch.hosts.iter().position(|host| host.id == id)).collect();
    let place_of = |server: ServerId| places.get(server.index()).copied().flatten();

    let mut settled = Vec::new();
    let mut taking_part = vec![0_u32; view.servers.len()];
    for (id, user) in directory.iter() {
        let Some(home) = user.home.filter(|_| user.enabled && user.relocation.is_none()) else {
            continue;
        };
        let Some(place) = place_of(home) else { continue };
        taking_part[home.index()] += 1;
        let kind = batch.ask(user, None, 1);
        settled.push((id, place, kind));
    }

    let mut rooms = Vec::with_capacity(batch.hosts.len());
    for host in &mut batch.hosts {
        let capacity = view.server(host.id).capacity;
        let weight = u64::from(capacity.max(1));
        host.attraction = Attraction::of(NameHash::of(host.name), weight);
        // What is divided is what they hold themselves, and what nobody holds.
        let taken = directory.assigned(host.id).saturating_add(directory.reserved(host.id));
        let others = taken.saturating_sub(taking_part[host.id.index()]);
        let free = u64::from(capacity.saturating_sub(others));
        rooms.push(Room { free, weight });
    }
    let mut lack: Vec<Seats> = quotas(&rooms, &batch.kinds);
    let mut surplus: Vec<Seats> = vec![vec![0; rooms.len()]; lack.len()];
    for &(_, place, kind) in &settled {
        let (lack, surplus) = (&mut lack[kind][place], &mut surplus[kind][place]);
        if *lack > 0 { *lack -= 1 } else { *surplus += 1 }
    }

    // Whoever is drawn most by a server with too few goes first.
    let mut leaving: Vec<(u128, UserId, usize, usize)> = Vec::new();
    for (id, place, kind) in settled {
        if surplus[kind][place] > 0 {
            let name = NameHash::of(&directory.get(id).name);
            let drawn = batch.hosts.iter().zip(&lack[kind]).filter(|(_, lack)| **lack > 0);
            if let Some(nearest) = drawn.map(|(host, _)| host.attraction.distance(name)).min() {
                leaving.push((nearest, id, place, kind));
            }
        }
    }
    leaving.sort_by(|a, b| {
        a.0.cmp(&b.0).then_with(|| directory.get(a.1).name.cmp(&directory.get(b.1).name))
    });
    let mut moves = Vec::new();
    for (_, id, place, kind) in leaving {
        if surplus[kind][place] == 0 {
            continue;
        }
        let user = directory.get(id);
        let Some(to) = batch.take_best(NameHash::of(&user.name), &mut lack[kind]) else { continue };
        surplus[kind][place] -= 1;
        moves.push(Planned { user: id, from: batch.hosts[place].id, to, epoch: user.epoch });
    }
    moves.sort_by(|a, b| directory.get(a.user).name.cmp(&directory.get(b.user).name));
    moves
}
