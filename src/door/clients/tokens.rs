//! Whose tokens are: what servers hand out for the next login may name nobody, and only the server that
//! has handed it out knows it.

use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher as _;

use foldhash::quality::FixedState;

use crate::directory::UserId;

/// Tokens that servers have handed out, as numbers from which nobody gets them back. The oldest is
/// forgotten.
#[derive(Debug)]
pub(super) struct Tokens {
    hasher: FixedState,
    users: HashMap<u64, UserId, foldhash::fast::RandomState>,
    order: VecDeque<u64>,
}

impl Tokens {
    pub(super) fn new(seed: u64) -> Self {
        let hasher = FixedState::with_seed(seed);
        Self { hasher, users: HashMap::default(), order: VecDeque::new() }
    }

    pub(super) fn remember(&mut self, token: &str, user: UserId, most: usize) {
        let number = self.hasher.hash_one(token);
        if self.users.insert(number, user).is_some() {
            return;
        }
        self.order.push_back(number);
        if self.order.len() > most
            && let Some(oldest) = self.order.pop_front()
        {
            self.users.remove(&oldest);
        }
    }

    pub(super) fn user_of(&self, token: &str) -> Option<UserId> {
        self.users.get(&self.hasher.hash_one(token)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_token_is_forgotten_and_none_can_be_read() {
        let mut tokens = Tokens::new(7);
        for (number, token) in ["a", "b", "c", "b"].into_iter().enumerate() {
            tokens.remember(token, UserId(number as u32), 2);
        }
        assert_eq!(tokens.user_of("a"), None);
        assert_eq!(tokens.user_of("b"), Some(UserId(3)));
        assert_eq!(tokens.user_of("c"), Some(UserId(2)));
        assert_eq!((tokens.users.len(), tokens.order.len()), (2, 2));
    }
}
