//! Where the machines live: found by key on the wire, by handle from the owner.

use std::collections::{HashMap, VecDeque};

use foldhash::fast::RandomState;

use crate::now::Uptime;
use crate::sip::transaction::key::{Draft, Key};

/// Machines in slots, a map from their keys, and when each slot is to be woken.
///
/// The map is only ever asked, never walked, so its seed shows nowhere.
#[derive(Debug)]
pub(super) struct Table<M> {
    slots: Vec<Slot<M>>,
    free: Vec<u32>,
    by_key: HashMap<Key, u32, RandomState>,
    /// Machines that are only kept for copies of what was said, the oldest first, those that are
    /// gone among them: who makes room in a full table.
    done: VecDeque<Handle>,
    done_count: usize,
    evicted: u64,
    limit: usize,
    births: u32,
}

/// One machine of a table, by place and birth: a handle to a machine that is gone finds nothing.
///
/// Handles compare by birth, so they sort in the order the machines were made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Handle {
    birth: u32,
    slot: u32,
}

#[derive(Debug)]
struct Slot<M> {
    /// The wake-up that is queued for this slot. It outlives the machine: the next one in the
    /// slot takes it over, so that short-lived machines do not pile up wake-ups.
    wake_at: Uptime,
    birth: u32,
    is_done: bool,
    machine: Option<(Key, M)>,
}

impl Handle {
    /// What wake-ups are queued under.
    pub(super) const fn slot(self) -> u32 {
        self.slot
    }
}

impl<M> Table<M> {
    /// Holds at most `limit` machines.
    pub(super) fn new(limit: usize) -> Self {
        let limit = limit.min(u32::MAX as usize);
        Self {
            slots: Vec::new(),
            free: Vec::new(),
            by_key: HashMap::default(),
            done: VecDeque::new(),
            done_count: 0,
            evicted: 0,
            limit,
            births: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.by_key.len()
    }

    /// How many are not only kept for copies of what was said.
    pub(super) fn pending(&self) -> usize {
        self.len() - self.done_count
    }

    /// How many had to make room.
    pub(super) const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// From now on the machine is only kept for copies of what was said.
    pub(super) fn done(&mut self, handle: Handle) {
        // All of them live equally long, so what has ended meanwhile is at the front.
        while self.done.front().is_some_and(|&oldest| self.get(oldest).is_none()) {
            self.done.pop_front();
        }
        if let Some(place) = self.slots.get_mut(handle.slot as usize) {
            self.done_count += usize::from(place.birth == handle.birth && !place.is_done);
            place.is_done |= place.birth == handle.birth;
        }
        self.done.push_back(handle);
    }

    fn evict_oldest(&mut self) {
        while let Some(oldest) = self.done.pop_front() {
            if self.remove(oldest).is_some() {
                self.evicted += 1;
                return;
            }
        }
    }

    /// The machines `wanted` names. Looks at every one: for a peer that failed, not for a message.
    pub(super) fn handles_of(&self, wanted: impl Fn(&M) -> bool) -> Vec<Handle> {
        (0u32..)
            .zip(&self.slots)
            .filter(|(_, place)| place.machine.as_ref().is_some_and(|(_, it)| wanted(it)))
            .map(|(slot, place)| Handle { birth: place.birth, slot })
            .collect()
    }

    pub(super) fn find(&self, draft: &Draft) -> Option<Handle> {
        let slot = *self.by_key.get(draft.as_bytes())?;
        Some(Handle { birth: self.slots.get(slot as usize)?.birth, slot })
    }

    /// Adds the machine that `make` makes of `seed`, under a key that is not in the table; where
    /// there is no room, in the place of the oldest that is done. Hands `seed` back if none is.
    pub(super) fn insert<T>(
        &mut self,
        draft: &Draft,
        seed: T,
        make: impl FnOnce(T) -> M,
    ) -> Result<Handle, T> {
        if self.by_key.len() >= self.limit {
            self.evict_oldest();
        }
        if self.by_key.len() >= self.limit {
            return Err(seed);
        }
        let Some(slot) = self.free.pop().or_else(|| self.grow()) else { return Err(seed) };
        let Some(place) = self.slots.get_mut(slot as usize) else { return Err(seed) };
        self.births = self.births.wrapping_add(1);
        let key = Key::from(draft);
        place.birth = self.births;
        place.machine = Some((key.clone(), make(seed)));
        self.by_key.insert(key, slot);
        Ok(Handle { birth: self.births, slot })
    }

    pub(super) fn get(&self, handle: Handle) -> Option<&M> {
        let place = self.slots.get(handle.slot as usize)?;
        let (_, machine) = place.machine.as_ref()?;
        (place.birth == handle.birth).then_some(machine)
    }

    pub(super) fn get_mut(&mut self, handle: Handle) -> Option<&mut M> {
        let place = self.slots.get_mut(handle.slot as usize)?;
        let (_, machine) = place.machine.as_mut()?;
        (place.birth == handle.birth).then_some(machine)
    }

    pub(super) fn remove(&mut self, handle: Handle) -> Option<M> {
        let place = self.slots.get_mut(handle.slot as usize)?;
        if place.birth != handle.birth {
            return None;
        }
        let (key, machine) = place.machine.take()?;
        self.done_count -= usize::from(std::mem::take(&mut place.is_done));
        self.by_key.remove(&key);
        self.free.push(handle.slot);
        Some(machine)
    }

    /// Whether a wake-up at `at` must be queued for this machine; false if an earlier one is.
    #[must_use]
    pub(super) fn arm(&mut self, handle: Handle, at: Uptime) -> bool {
        match self.slots.get_mut(handle.slot as usize) {
            Some(place) if at < place.wake_at => {
                place.wake_at = at;
                true
            }
            _ => false,
        }
    }

    /// Takes the wake-up of `slot` that was queued for `at`. None if an earlier one came instead
    /// or if the slot is empty by now.
    pub(super) fn woken(&mut self, slot: u32, at: Uptime) -> Option<Handle> {
        let place = self.slots.get_mut(slot as usize)?;
        if place.wake_at != at {
            return None;
        }
        place.wake_at = Uptime::NEVER;
        place.machine.as_ref()?;
        Some(Handle { birth: place.birth, slot })
    }

    fn grow(&mut self) -> Option<u32> {
        let slot = u32::try_from(self.slots.len()).ok()?;
        self.slots.push(Slot { wake_at: Uptime::NEVER, birth: 0, is_done: false, machine: None });
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::transaction::server::Server;

    fn draft(name: &str) -> Draft {
        Draft::client(name.as_bytes(), "OPTIONS")
    }

    #[test]
    fn a_handle_outlives_its_machine_and_finds_nothing() {
        let mut table = Table::new(1);
        let first = table.insert(&draft("a"), 'a', |m| m).unwrap();
        assert_eq!(table.insert(&draft("b"), 'b', |m| m), Err('b'));
        assert_eq!(table.remove(first), Some('a'));
        let second = table.insert(&draft("b"), 'b', |m| m).unwrap();
        assert_eq!(second.slot(), first.slot());
        assert_eq!(table.get(first), None);
        assert_eq!(table.get_mut(first), None);
        assert_eq!(table.remove(first), None);
        assert_eq!(table.get(second), Some(&'b'));
        assert_eq!((table.find(&draft("a")), table.find(&draft("b"))), (None, Some(second)));
        assert!(first < second);
    }

    #[test]
    fn a_slot_has_one_wake_up_until_an_earlier_one_is_needed() {
        let [early, late] = [1, 2].map(Uptime::from_secs);
        let mut table = Table::new(1);
        let first = table.insert(&draft("a"), 'a', |m| m).unwrap();
        assert!(table.arm(first, late));
        table.remove(first);
        let second = table.insert(&draft("b"), 'b', |m| m).unwrap();
        assert!(!table.arm(second, late), "the wake-up of the first serves the second");
        assert!(table.arm(second, early));
        assert_eq!(table.woken(0, early), Some(second));
        assert_eq!(table.woken(0, late), None, "superseded");
        assert!(!table.arm(second, Uptime::NEVER));
    }

    #[test]
    fn an_answered_request_costs_little_beside_its_octets() {
        assert!(size_of::<Slot<Server>>() <= 128, "{} octets", size_of::<Slot<Server>>());
    }

    #[test]
    fn a_table_without_room_takes_nothing() {
        let mut table = Table::new(0);
        assert_eq!(table.insert(&draft("a"), 'a', |m| m), Err('a'));
        assert_eq!(table.len(), 0);
    }
}
