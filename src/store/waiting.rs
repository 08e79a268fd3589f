//! [`Waiting`]: records that wait for the next commit, relocations before the rest.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use crate::directory::record::Change;
use crate::directory::record::Record;

/// Changes of users in one batch, beyond which the rest waits for the next one: the first of ten
/// thousand moves is carried out while the last are being written.
const URGENT_CHANGES_MAX: usize = 512;

/// Two queues in one: records that change a user overtake those that do not.
///
/// Never does a write of a binding overtake an earlier write of the same binding: what an
/// overtaking record touches goes before it.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    urgent: VecDeque<Record>,
    plain: BTreeMap<u64, Record>,
    /// Which plain records touch a binding.
    touching: HashMap<u64, BTreeSet<u64>>,
    sequence: u64,
}

impl Waiting {
    /// How many records wait.
    pub(super) fn len(&self) -> usize {
        self.urgent.len() + self.plain.len()
    }

    /// Takes in a record.
    pub(super) fn push(&mut self, record: Record) {
        if is_urgent(&record) {
            for earlier in self.needed_by(&record) {
                if let Some(earlier) = self.take_plain(earlier) {
                    self.urgent.push_back(earlier);
                }
            }
            self.urgent.push_back(record);
        } else {
            self.sequence += 1;
            for binding in bindings_of(&record) {
                self.touching.entry(binding).or_default().insert(self.sequence);
            }
            self.plain.insert(self.sequence, record);
        }
    }

    /// The next records to commit together, at most so many.
    pub(super) fn take(&mut self, count: usize) -> Vec<Record> {
        let mut changes = 0;
        let short = |record: &&Record| {
            let fits = changes < URGENT_CHANGES_MAX;
            changes += record.changes.len();
            fits
        };
        let urgent = self.urgent.iter().take(count).take_while(short).count();
        let mut batch: Vec<Record> = self.urgent.drain(..urgent).collect();
        while batch.len() < count {
            let Some((&first, _)) = self.plain.first_key_value() else { break };
            batch.extend(self.take_plain(first));
        }
        batch
    }

    /// Plain records that must go before this one: those that touch its bindings, and those that
    /// must go before them.
    fn needed_by(&self, record: &Record) -> BTreeSet<u64> {
        let mut needed = BTreeSet::new();
        let mut open: Vec<u64> = self.touching_any(record).collect();
        while let Some(sequence) = open.pop() {
            if needed.insert(sequence)
                && let Some(record) = self.plain.get(&sequence)
            {
                open.extend(self.touching_any(record).filter(|&other| other < sequence));
            }
        }
        needed
    }

    fn touching_any<'a>(&'a self, record: &'a Record) -> impl Iterator<Item = u64> + 'a {
        bindings_of(record).filter_map(|binding| self.touching.get(&binding)).flatten().copied()
    }

    fn take_plain(&mut self, sequence: u64) -> Option<Record> {
        let record = self.plain.remove(&sequence)?;
        for binding in bindings_of(&record) {
            if let Some(touching) = self.touching.get_mut(&binding) {
                touching.remove(&sequence);
                if touching.is_empty() {
                    self.touching.remove(&binding);
                }
            }
        }
        Some(record)
    }
}

/// Whether a record changes a user.
pub(super) fn is_urgent(record: &Record) -> bool {
    record.changes.iter().any(|change| matches!(change, Change::User { .. }))
}

fn bindings_of(record: &Record) -> impl Iterator<Item = u64> + '_ {
    record.changes.iter().filter_map(|change| match change {
        Change::User { .. } => None,
        Change::Binding(binding) => Some(binding.id),
        Change::Forget { binding } => Some(*binding),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::contract::{add, binding, forget, put, record};

    fn tickets(waiting: &mut Waiting, count: usize) -> Vec<u64> {
        waiting.take(count).iter().map(|record| record.ticket).collect()
    }

    #[test]
    fn users_overtake_bindings() {
        let mut waiting = Waiting::default();
        waiting.push(record(1, [put(binding(1, "anna"))]));
        waiting.push(record(2, [add("bert")]));
        waiting.push(record(3, [forget(2)]));
        waiting.push(record(4, [add("carl")]));
        assert_eq!(waiting.len(), 4);
        assert_eq!(tickets(&mut waiting, 3), [2, 4, 1]);
        assert_eq!(tickets(&mut waiting, 3), [3]);
        assert_eq!(waiting.len(), 0);
        assert!(waiting.touching.is_empty());
    }

    #[test]
    fn a_binding_is_never_overtaken_by_its_own_later_write() {
        let mut waiting = Waiting::default();
        waiting.push(record(1, [put(binding(7, "anna"))]));
        waiting.push(record(2, [put(binding(8, "anna"))]));
        waiting.push(record(3, [forget(7), forget(9)]));
        waiting.push(record(4, [put(binding(5, "bert"))]));
        waiting.push(record(5, [add("anna"), put(binding(9, "anna"))]));
        assert_eq!(tickets(&mut waiting, 9), [1, 3, 5, 2, 4]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_every_binding_and_user_keeps_its_order(
            script in prop::collection::vec((0u64..4, 0u64..4, any::<bool>(), any::<bool>()), 1..40),
            size in 1usize..9,
        ) {
            let mut waiting = Waiting::default();
            let mut taken = Vec::new();
            for (ticket, &(one, other, urgent, take)) in (0u64..).zip(&script) {
                let mut changes = vec![forget(one), forget(other)];
                if urgent {
                    changes.push(add("anna"));
                }
                waiting.push(record(ticket, changes));
                if take {
                    taken.extend(waiting.take(size));
                }
            }
            while waiting.len() > 0 {
                taken.extend(waiting.take(size));
            }
            prop_assert_eq!(taken.len(), script.len());
            for (place, earlier) in taken.iter().enumerate() {
                for later in &taken[place + 1..] {
                    let overtaken = later.ticket < earlier.ticket;
                    let shared = bindings_of(earlier).any(|id| bindings_of(later).any(|it| it == id));
                    let users = is_urgent(earlier) && is_urgent(later);
                    prop_assert!(!overtaken || !(shared || users), "{} {}", later.ticket, earlier.ticket);
                }
            }
        }
    }
}
