//! [`Arena`]: many short messages in one buffer.

use bytes::{Bytes, BytesMut};

/// One buffer serves this many octets; the message that is kept longest keeps it alive.
const ARENA_OCTETS: usize = 16 * 1024;

/// Where messages are put that mostly live for a moment: one allocation serves dozens of them.
#[derive(Debug, Default)]
pub struct Arena(BytesMut);

impl Arena {
    /// Copies a message to where it can stay.
    pub fn keep(&mut self, message: &[u8]) -> Bytes {
        self.write(message.len(), |out| out.extend_from_slice(message))
    }

    /// Keeps what `write` appends; `octets` is how much that will be, more or less.
    pub fn write(&mut self, octets: usize, write: impl FnOnce(&mut BytesMut)) -> Bytes {
        if self.0.capacity() < octets {
            self.0.reserve(octets.max(ARENA_OCTETS));
        }
        write(&mut self.0);
        self.0.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_does_not_change_when_the_next_one_comes() {
        let mut arena = Arena::default();
        let first = arena.keep(b"first");
        let second = arena.keep(b"second");
        assert_eq!((&first[..], &second[..]), (&b"first"[..], &b"second"[..]));
        assert_eq!(arena.keep(&[0; 65_535]).len(), 65_535);
        assert_eq!(&arena.write(0, |out| out.extend_from_slice(b"more"))[..], b"more");
    }
}
