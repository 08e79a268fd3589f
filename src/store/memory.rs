//! [`Memory`]: a store that forgets at the end of the process.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use crate::directory::record::BindingRecord;
use crate::directory::record::Change;
use crate::directory::record::Loaded;
use crate::directory::record::Record;
use crate::directory::record::Recorded;
use crate::directory::record::UserRecord;
use crate::store::{OpenError, Store, conflicts};

/// A store in memory, for tests and for doors that may forget (`store = "memory"`).
///
/// After a restart every user is at home again and phones have to register anew.
#[derive(Debug, Default)]
pub struct Memory {
    users: BTreeMap<Arc<str>, UserRecord>,
    bindings: BTreeMap<u64, BindingRecord>,
}

impl Memory {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn write(&mut self, record: &Record) -> Recorded {
        let stored = |name: &str| Ok::<_, Infallible>(self.users.get(name).cloned());
        match conflicts(&record.changes, stored) {
            Ok(None) => {}
            Ok(Some(theirs)) => return Recorded::Conflict(theirs),
            Err(never) => match never {},
        }
        for change in &record.changes {
            match change {
                Change::User { record, .. } => {
                    self.users.insert(Arc::clone(&record.name), record.clone());
                }
                Change::Binding(binding) => {
                    self.bindings.insert(binding.id, binding.clone());
                }
                Change::Forget { binding } => {
                    self.bindings.remove(binding);
                }
            }
        }
        Recorded::Done
    }
}

impl Store for Memory {
    fn load(&mut self) -> Result<Loaded, OpenError> {
        Ok(Loaded {
            users: self.users.values().cloned().collect(),
            bindings: self.bindings.values().cloned().collect(),
        })
    }

    fn commit(&mut self, batch: &[Record]) -> Vec<Recorded> {
        batch.iter().map(|record| self.write(record)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    crate::store::contract::contract!(Memory::new());
}
