//! Whether the pool can lose one more server (P5).

use std::sync::Arc;

/// A server, for this question.
#[derive(Clone, Debug)]
pub(super) struct Room {
    pub(super) name: Arc<str>,
    /// Users it can serve.
    pub(super) capacity: u64,
    /// Users whose home it is.
    pub(super) home_to: u64,
    /// Whether it takes other servers' users (H7).
    pub(super) hosts: bool,
}

/// The server whose failure would leave most users without a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Misfit {
    pub(super) server: Arc<str>,
    /// Users the others can serve.
    pub(super) room: u64,
}

/// Finds the worst failure of one server, if it does not fit. `users` are all users, those without
/// a home included.
pub(super) fn worst_misfit(servers: &[Room], users: u64) -> Option<Misfit> {
    servers
        .iter()
        .enumerate()
        .map(|(lost, server)| {
            let others = servers.iter().enumerate().filter(|(nth, _)| *nth != lost);
            let room = others.map(|(_, other)| usable(other)).sum();
            Misfit { server: Arc::clone(&server.name), room }
        })
        .filter(|misfit| misfit.room < users)
        .min_by_key(|misfit| misfit.room)
}

/// A server that takes no strangers is room for its own users only.
fn usable(server: &Room) -> u64 {
    if server.hosts { server.capacity } else { server.capacity.min(server.home_to) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(name: &str, capacity: u64, home_to: u64, hosts: bool) -> Room {
        Room { name: name.into(), capacity, home_to, hosts }
    }

    #[test]
    fn a_pool_that_can_lose_its_largest_server_fits() {
        let pool = [room("a", 100, 50, true), room("b", 60, 40, true), room("c", 60, 30, true)];
        assert_eq!(worst_misfit(&pool, 120), None);
    }

    #[test]
    fn the_worst_failure_is_named_with_the_room_that_is_left() {
        let pool = [room("a", 100, 50, true), room("b", 60, 40, true), room("c", 60, 30, true)];
        let misfit = worst_misfit(&pool, 121).unwrap();
        assert_eq!((&*misfit.server, misfit.room), ("a", 120));
    }

    #[test]
    fn a_server_that_takes_no_strangers_is_no_room_for_them() {
        let pool = [room("a", 100, 50, true), room("old", 100, 10, false)];
        let misfit = worst_misfit(&pool, 60).unwrap();
        assert_eq!((&*misfit.server, misfit.room), ("a", 10));
    }
}
