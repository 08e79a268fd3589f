//! [`Index`]: finds users by a text of theirs, without keeping the text a second time.

use std::hash::{BuildHasher, Hasher};

use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::directory::UserId;

/// Which user has a text: eight octets an entry; the text itself is the user's.
///
/// It is only ever asked, never walked, so its seed shows nowhere.
#[derive(Debug, Default)]
pub(super) struct Index {
    table: HashTable<Entry>,
    hashes: RandomState,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    user: UserId,
    hash: u32,
}

impl Entry {
    /// Spreads the half that is kept over what the table wants.
    const fn spread(hash: u32) -> u64 {
        (hash as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

impl Index {
    /// The user who has this text, as `has` says.
    pub(super) fn find(&self, text: &str, has: impl Fn(UserId) -> bool) -> Option<UserId> {
        let hash = self.hash(text);
        let found = self.table.find(Entry::spread(hash), |it| it.hash == hash && has(it.user));
        found.map(|entry| entry.user)
    }

    /// From now on this user has this text, which nobody has.
    pub(super) fn insert(&mut self, text: &str, user: UserId) {
        let hash = self.hash(text);
        let entry = Entry { user, hash };
        self.table.insert_unique(Entry::spread(hash), entry, |it| Entry::spread(it.hash));
    }

    /// This user has this text no more.
    pub(super) fn remove(&mut self, text: &str, user: UserId) {
        let hash = self.hash(text);
        let is_it = |it: &Entry| it.hash == hash && it.user == user;
        if let Ok(entry) = self.table.find_entry(Entry::spread(hash), is_it) {
            entry.remove();
        }
    }

    fn hash(&self, text: &str) -> u32 {
        let mut hasher = self.hashes.build_hasher();
        hasher.write(text.as_bytes());
        (hasher.finish() >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_texts_are_found_and_forgotten() {
        let mut index = Index::default();
        let texts: Vec<String> = (0..10_000).map(|n| format!("sip:{n}@example.com")).collect();
        for (id, text) in (0u32..).map(UserId).zip(&texts) {
            index.insert(text, id);
        }
        let has = |text: &str| {
            let text = text.to_owned();
            let texts = texts.clone();
            move |id: UserId| texts[id.index()] == text
        };
        for (id, text) in (0u32..).map(UserId).zip(texts.iter().take(100)) {
            assert_eq!(index.find(text, has(text)), Some(id));
            index.remove(text, id);
            assert_eq!(index.find(text, has(text)), None);
        }
        assert_eq!(index.find("sip:nobody@example.com", |_| false), None);
        assert_eq!(size_of::<Entry>(), 8);
    }
}
