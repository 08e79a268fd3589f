//! A table whose keys stay valid only as long as what they name.

use std::fmt;

/// A place in [`Slots`] and which tenant of it is meant.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct SlotId {
    slot: u32,
    tenant: u32,
}

impl SlotId {
    /// The form records and tokens carry.
    pub(crate) const fn to_u64(self) -> u64 {
        (self.tenant as u64) << 32 | self.slot as u64
    }

    /// Reads [`SlotId::to_u64`].
    pub(crate) const fn from_u64(value: u64) -> Self {
        Self { slot: value as u32, tenant: (value >> 32) as u32 }
    }

    /// Its place in the table, for [`Slots::round`] and [`Slots::at`].
    pub(crate) const fn place(self) -> usize {
        self.slot as usize
    }
}

impl fmt::Debug for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{}.{:x}", self.slot, self.tenant)
    }
}

/// A bounded slab. Tenants are numbered from a random start, so that a key from an earlier life of
/// the process does not name a later tenant of the same slot.
#[derive(Debug)]
pub(crate) struct Slots<T> {
    slots: Vec<Option<(u32, T)>>,
    free: Vec<u32>,
    len: usize,
    limit: usize,
    next_tenant: u32,
}

impl<T> Slots<T> {
    pub(crate) const fn new(limit: usize, first_tenant: u32) -> Self {
        Self { slots: Vec::new(), free: Vec::new(), len: 0, limit, next_tenant: first_tenant }
    }

    /// How many tenants there are.
    pub(crate) const fn len(&self) -> usize {
        self.len
    }

    /// Moves `value` in; gives it back when the table is full.
    pub(crate) fn insert(&mut self, value: T) -> Result<SlotId, T> {
        if self.len >= self.limit {
            return Err(value);
        }
        let tenant = self.next_tenant;
        self.next_tenant = self.next_tenant.wrapping_add(1);
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = Some((tenant, value));
                slot
            }
            None => {
                self.slots.push(Some((tenant, value)));
                (self.slots.len() - 1) as u32
            }
        };
        self.len += 1;
        Ok(SlotId { slot, tenant })
    }

    /// Restores tenants under the keys they had. Refuses a key whose slot is taken or absurd.
    pub(crate) fn restore(&mut self, tenants: Vec<(SlotId, T)>) -> Vec<T> {
        let mut refused = Vec::new();
        for (id, value) in tenants {
            let slot = id.slot as usize;
            if slot >= self.limit || self.len >= self.limit {
                refused.push(value);
                continue;
            }
            while self.slots.len() <= slot {
                self.slots.push(None);
            }
            if self.slots[slot].is_some() {
                refused.push(value);
                continue;
            }
            self.slots[slot] = Some((id.tenant, value));
            self.len += 1;
        }
        self.free = (0..self.slots.len())
            .rev()
            .filter(|&slot| self.slots[slot].is_none())
            .map(|slot| slot as u32)
            .collect();
        refused
    }

    pub(crate) fn get(&self, id: SlotId) -> Option<&T> {
        match self.slots.get(id.slot as usize)? {
            Some((tenant, value)) if *tenant == id.tenant => Some(value),
            _ => None,
        }
    }

    /// Whoever is at a place now.
    pub(crate) fn at(&self, place: usize) -> Option<(SlotId, &T)> {
        let (tenant, value) = self.slots.get(place)?.as_ref()?;
        Some((SlotId { slot: place as u32, tenant: *tenant }, value))
    }

    pub(crate) fn get_mut(&mut self, id: SlotId) -> Option<&mut T> {
        match self.slots.get_mut(id.slot as usize)? {
            Some((tenant, value)) if *tenant == id.tenant => Some(value),
            _ => None,
        }
    }

    pub(crate) fn remove(&mut self, id: SlotId) -> Option<T> {
        self.get(id)?;
        let (_, value) = self.slots[id.slot as usize].take()?;
        self.free.push(id.slot);
        self.len -= 1;
        Some(value)
    }

    /// Those in the next `most` places from `place` on, round and round.
    pub(crate) fn round(&self, place: usize, most: usize) -> impl Iterator<Item = (SlotId, &T)> {
        let count = self.slots.len();
        (place..).take(most.min(count)).filter_map(move |place| self.at(place % count))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SlotId, &T)> {
        self.slots.iter().enumerate().filter_map(|(slot, tenant)| {
            let (tenant, value) = tenant.as_ref()?;
            Some((SlotId { slot: slot as u32, tenant: *tenant }, value))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_outlives_its_tenant_but_names_nobody_else() {
        let mut slots = Slots::new(2, u32::MAX);
        let a = slots.insert('a').unwrap();
        assert_eq!(slots.remove(a), Some('a'));
        let b = slots.insert('b').unwrap();
        assert_eq!((slots.get(a), slots.get(b)), (None, Some(&'b')));
        assert_eq!(slots.remove(a), None);
        slots.insert('c').unwrap();
        assert_eq!(slots.insert('d'), Err('d'), "the limit holds");
    }

    #[test]
    fn a_look_goes_round_and_no_further_than_told() {
        let mut slots = Slots::new(9, 7);
        let ids: Vec<SlotId> = "abcd".chars().map(|c| slots.insert(c).unwrap()).collect();
        slots.remove(ids[1]);
        let look = |place, most| slots.round(place, most).map(|(_, c)| *c).collect::<String>();
        assert_eq!(look(3, 9), "dac");
        assert_eq!((look(0, 2), look(usize::MAX - 9, 1)), ("a".into(), "c".into()));
        assert_eq!(slots.round(ids[3].place(), 1).next(), Some((ids[3], &'d')));
        assert_eq!(Slots::<char>::new(9, 7).round(5, 9).count(), 0);
    }

    #[test]
    fn keys_survive_a_restart() {
        let mut before = Slots::new(9, 7);
        let ids: Vec<SlotId> = "abc".chars().map(|c| before.insert(c).unwrap()).collect();
        before.remove(ids[1]);
        let mut after = Slots::new(9, 100);
        let kept = before.iter().map(|(id, c)| (SlotId::from_u64(id.to_u64()), *c)).collect();
        assert!(after.restore(kept).is_empty());
        assert_eq!(after.get(ids[2]), Some(&'c'));
        let d = after.insert('d').unwrap();
        assert_eq!((after.get(ids[1]), after.get(d)), (None, Some(&'d')));
    }
}
