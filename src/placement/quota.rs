//! How many users of each kind each server gets: largest remainder, water-filling, repair.

use std::collections::VecDeque;

/// One server's offer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Users it can still take.
    pub(super) free: u64,
    /// Its share among the others; at least 1.
    pub(super) weight: u64,
}

/// Users who may go to the same servers.
#[derive(Clone, Debug)]
pub(super) struct Demand {
    /// How many.
    pub(super) users: u64,
    /// By place in the rooms: whether they may go there, and when: those of a higher tier only when
    /// those of a lower one are full.
    pub(super) tiers: Vec<Option<u8>>,
}

/// How many users of each demand go to each room.
///
/// - No room gets more than is free there.
/// - Within a tier a demand is spread by weight: no share is off by one user or more, except
///   where a room is full; what it cannot take is spread over the others in the same way.
/// - Users are left over only if no distribution at all could place more of them.
///
/// Ties go to the earlier room, so the caller's order must mean something (names do).
pub(super) fn quotas(rooms: &[Room], demands: &[Demand]) -> Vec<Vec<u64>> {
    let mut quotas = Quotas {
        free: rooms.iter().map(|room| room.free).collect(),
        taken: vec![vec![0; rooms.len()]; demands.len()],
    };
    // Those with the least choice choose first: the repair then has little to do.
    let mut order: Vec<usize> = (0..demands.len()).collect();
    order.sort_by_key(|demand| demands[*demand].tiers.iter().flatten().count());
    for tier in tiers(demands) {
        for &demand in &order {
            let open: Vec<usize> = (0..rooms.len())
                .filter(|room| demands[demand].tiers[*room] == Some(tier))
                .collect();
            quotas.spread(demand, &open, rooms, demands[demand].users);
        }
    }
    for &demand in &order {
        while quotas.left(demand, demands[demand].users) > 0 {
            let Some(chain) = quotas.chain(demand, demands) else { break };
            quotas.shift(demand, &chain, demands[demand].users);
        }
    }
    quotas.taken
}

fn tiers(demands: &[Demand]) -> Vec<u8> {
    let mut tiers: Vec<u8> =
        demands.iter().flat_map(|demand| demand.tiers.iter().copied().flatten()).collect();
    tiers.sort_unstable();
    tiers.dedup();
    tiers
}

struct Quotas {
    /// By room.
    free: Vec<u64>,
    /// By demand, then room.
    taken: Vec<Vec<u64>>,
}

/// One step of a repair: a user goes to `room`, where `displaced` makes place (or is free room).
#[derive(Clone, Copy, Debug)]
struct Step {
    room: usize,
    /// Whose user leaves `room` for the next step's; `None` at the end of a chain.
    displaced: Option<usize>,
}

impl Quotas {
    fn left(&self, demand: usize, users: u64) -> u64 {
        users - self.taken[demand].iter().sum::<u64>()
    }

    /// Spreads what is left of a demand over `open` rooms.
    fn spread(&mut self, demand: usize, open: &[usize], rooms: &[Room], users: u64) {
        let mut left = self.left(demand, users);
        let mut open: Vec<usize> =
            open.iter().copied().filter(|room| self.free[*room] > 0).collect();
        // Rooms whose share is all they have, or more, are filled; the others share the rest.
        loop {
            let weight: u128 = open.iter().map(|room| u128::from(rooms[*room].weight)).sum();
            let share = u128::from(left);
            let full = |room: &usize| {
                share * u128::from(rooms[*room].weight) >= u128::from(self.free[*room]) * weight
            };
            let (filled, rest): (Vec<usize>, Vec<usize>) = open.iter().partition(|room| full(room));
            if filled.is_empty() || left == 0 {
                break;
            }
            for room in filled {
                let all = self.free[room].min(left);
                left -= all;
                self.give(demand, room, all);
            }
            open = rest;
        }
        self.largest_remainder(demand, &open, rooms, left);
    }

    /// Every share is below what is free in its room, so rounding up still fits.
    fn largest_remainder(&mut self, demand: usize, open: &[usize], rooms: &[Room], users: u64) {
        let weight: u128 = open.iter().map(|room| u128::from(rooms[*room].weight)).sum();
        if weight == 0 {
            return;
        }
        let mut left = users;
        let mut remainders = Vec::with_capacity(open.len());
        for &room in open {
            let share = u128::from(users) * u128::from(rooms[room].weight);
            let whole = u64::try_from(share / weight).unwrap_or(users);
            left -= whole;
            self.give(demand, room, whole);
            remainders.push((share % weight, room));
        }
        remainders.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        let up = remainders.iter().take(usize::try_from(left).unwrap_or(usize::MAX));
        for &(_, room) in up {
            self.give(demand, room, 1);
        }
    }

    fn give(&mut self, demand: usize, room: usize, users: u64) {
        self.free[room] -= users;
        self.taken[demand][room] += users;
    }

    /// The shortest chain of displacements that ends in free room (an augmenting path).
    fn chain(&self, demand: usize, demands: &[Demand]) -> Option<Vec<Step>> {
        // From which demand each room was reached, and through which room each demand was.
        let mut reached: Vec<Option<usize>> = vec![None; self.free.len()];
        let mut through: Vec<Option<usize>> = vec![None; demands.len()];
        let mut waiting = VecDeque::from([demand]);
        while let Some(from) = waiting.pop_front() {
            for room in 0..self.free.len() {
                if demands[from].tiers[room].is_none() || reached[room].is_some() {
                    continue;
                }
                reached[room] = Some(from);
                if self.free[room] > 0 {
                    return Some(Self::walk_back(demand, room, &reached, &through));
                }
                for (other, through) in through.iter_mut().enumerate() {
                    if other != demand && through.is_none() && self.taken[other][room] > 0 {
                        *through = Some(room);
                        waiting.push_back(other);
                    }
                }
            }
        }
        None
    }

    fn walk_back(
        demand: usize,
        end: usize,
        reached: &[Option<usize>],
        through: &[Option<usize>],
    ) -> Vec<Step> {
        let mut chain = vec![Step { room: end, displaced: None }];
        let mut room = end;
        while let Some(from) = reached[room].filter(|from| *from != demand) {
            let Some(before) = through[from] else { break };
            chain.push(Step { room: before, displaced: Some(from) });
            room = before;
        }
        chain.reverse();
        chain
    }

    /// Moves as many users along the chain as every step allows.
    fn shift(&mut self, demand: usize, chain: &[Step], users: u64) {
        let fits = |step: &Step| match step.displaced {
            Some(other) => self.taken[other][step.room],
            None => self.free[step.room],
        };
        let many = chain.iter().map(fits).min().unwrap_or(0).min(self.left(demand, users));
        let mut comes = demand;
        for step in chain {
            self.taken[comes][step.room] += many;
            match step.displaced {
                Some(other) => {
                    self.taken[other][step.room] -= many;
                    comes = other;
                }
                None => self.free[step.room] -= many,
            }
        }
    }
}
