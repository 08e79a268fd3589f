//! [`Outbound`]: what a peer is to be sent and the kernel did not take yet.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::{Buf as _, Bytes};

use crate::now::Uptime;

/// What a queued message costs beside its octets.
const ENTRY_OCTETS: usize = 64;

/// Messages that wait, bounded by octets.
#[derive(Debug)]
pub(super) struct Outbound {
    queue: VecDeque<Bytes>,
    octets: usize,
    limit: usize,
    /// Until when the first of them has to leave.
    until: Uptime,
}

impl Outbound {
    /// A queue of at most `limit` octets.
    pub(super) const fn new(limit: usize) -> Self {
        Self { queue: VecDeque::new(), octets: 0, limit, until: Uptime::NEVER }
    }

    /// Whether nothing waits.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Octets that wait, without what messages cost beside them.
    pub(super) fn waiting(&self) -> usize {
        self.octets - self.queue.len() * ENTRY_OCTETS
    }

    /// Whether there is room for so many octets beside what waits. One message always fits into an
    /// empty queue.
    pub(super) fn has_room(&self, octets: usize) -> bool {
        self.is_empty() || self.octets + octets + ENTRY_OCTETS <= self.limit
    }

    /// Queues a message, if there is room.
    pub(super) fn push(&mut self, bytes: Bytes) -> bool {
        if !self.has_room(bytes.len()) {
            return false;
        }
        self.octets += bytes.len() + ENTRY_OCTETS;
        self.queue.push_back(bytes);
        true
    }

    /// What is to leave next.
    pub(super) fn first(&self) -> Option<&Bytes> {
        self.queue.front()
    }

    /// So many octets of the first message have left: whether that was all of it.
    pub(super) fn has_left(&mut self, octets: usize) -> bool {
        let Some(first) = self.queue.front_mut() else { return false };
        let octets = octets.min(first.len());
        first.advance(octets);
        self.octets -= octets;
        if !first.is_empty() {
            return false;
        }
        self.octets -= ENTRY_OCTETS;
        self.queue.pop_front();
        if self.queue.is_empty() {
            // A peer that reads again needs no room for what it did not read once.
            self.queue = VecDeque::new();
            self.until = Uptime::NEVER;
        }
        true
    }

    /// The first message has so long to leave, from now on.
    pub(super) fn allow(&mut self, now: Uptime, patience: Duration) {
        if !self.is_empty() {
            self.until = now + patience;
        }
    }

    /// Until when the first message has to leave.
    pub(super) const fn until(&self) -> Uptime {
        self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_takes_no_more_but_one_message_always_fits() {
        let mut outbound = Outbound::new(200);
        assert!(outbound.push(Bytes::from(vec![b'x'; 1_000])));
        assert!(!outbound.push(Bytes::from_static(b"x")));
    }

    #[test]
    fn what_has_left_makes_room_and_nothing_waits_for_ever() {
        let patience = Duration::from_secs(10);
        let mut outbound = Outbound::new(400);
        assert!(outbound.push(Bytes::from(vec![b'x'; 100])));
        outbound.allow(Uptime::from_secs(1), patience);
        assert!(outbound.push(Bytes::from(vec![b'y'; 100])));
        assert!(!outbound.push(Bytes::from(vec![b'z'; 100])));
        assert!(!outbound.has_left(99));
        assert_eq!(outbound.until(), Uptime::from_secs(11), "part of a message buys no time");
        assert!(outbound.has_left(1));
        assert!(outbound.push(Bytes::from(vec![b'z'; 100])));
        assert!(outbound.has_left(100) && outbound.has_left(100));
        assert_eq!((outbound.octets, outbound.until()), (0, Uptime::NEVER));
        outbound.allow(Uptime::from_secs(2), patience);
        assert_eq!(outbound.until(), Uptime::NEVER);
    }
}
