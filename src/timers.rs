//! A queue of deadlines: who wants to be woken when.
//!
//! Entries are never removed; their owner checks when one comes due whether it still means
//! anything. So a deadline that moves later costs nothing until the old one fires.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::now::Uptime;

/// Deadlines with a key each; equal deadlines come out in the order they went in.
#[derive(Debug)]
pub struct Timers<K> {
    heap: BinaryHeap<Reverse<Entry<K>>>,
    sequence: u64,
}

#[derive(Debug)]
struct Entry<K> {
    at: Uptime,
    sequence: u64,
    key: K,
}

impl<K> Default for Timers<K> {
    fn default() -> Self {
        Self { heap: BinaryHeap::new(), sequence: 0 }
    }
}

impl<K> Timers<K> {
    /// Wakes `key` at `at`.
    pub fn set(&mut self, at: Uptime, key: K) {
        self.sequence += 1;
        self.heap.push(Reverse(Entry { at, sequence: self.sequence, key }));
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Uptime> {
        self.heap.peek().map(|Reverse(entry)| entry.at)
    }

    /// Takes one key whose deadline is not after `now`.
    pub fn pop_due(&mut self, now: Uptime) -> Option<K> {
        if self.next()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse(entry)| entry.key)
    }

    /// How many deadlines are waiting, stale ones included.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

impl<K> PartialEq for Entry<K> {
    fn eq(&self, other: &Self) -> bool {
        (self.at, self.sequence) == (other.at, other.sequence)
    }
}

impl<K> Eq for Entry<K> {}

impl<K> PartialOrd for Entry<K> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<K> Ord for Entry<K> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.sequence).cmp(&(other.at, other.sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_come_in_order_and_ties_in_arrival() {
        let mut timers = Timers::default();
        timers.set(Uptime::from_secs(2), 'c');
        timers.set(Uptime::from_secs(1), 'a');
        timers.set(Uptime::from_secs(1), 'b');
        assert_eq!(timers.next(), Some(Uptime::from_secs(1)));
        assert_eq!(timers.pop_due(Uptime::ZERO), None);
        let due: Vec<char> = std::iter::from_fn(|| timers.pop_due(Uptime::from_secs(1))).collect();
        assert_eq!(due, ['a', 'b']);
        assert_eq!(timers.len(), 1);
    }
}
