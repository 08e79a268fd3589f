//! Whose challenge a phone answers (M6).
//!
//! A nonce counts only at the server that made it. The door remembers who made which, so that a
//! stranger's answer goes where the challenge came from, whoever has registered meanwhile; and so
//! that after a move an answer to the old server's challenge is not taken for a wrong password:
//! it stays at the door, and the new server's challenge is passed on as one that only renews the
//! nonce.

use std::collections::{HashMap, VecDeque};

use crate::cluster::ServerId;
use crate::door::Door;
use crate::door::edge::hash_of;
use crate::door::slots::SlotId;
use crate::sip::digest::{Challenge, Credentials, as_stale};
use crate::sip::{HeaderName, Message, Response};

/// Nonces remembered; the oldest are forgotten first, and then count as anybody's.
const NONCES_MAX: usize = 1 << 18;

/// Who made which nonce. Nonces are kept as hashes: only servers choose them.
#[derive(Debug, Default)]
pub(crate) struct Nonces {
    makers: HashMap<u64, Maker>,
    order: VecDeque<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Maker {
    server: ServerId,
    /// The server has said it to this life of the door; else it has only accepted it.
    said: bool,
}

impl Nonces {
    fn note(&mut self, nonce: u64, maker: Maker) {
        let known = self.makers.get(&nonce).filter(|known| known.server == maker.server);
        let said = maker.said || known.is_some_and(|known| known.said);
        if self.makers.insert(nonce, Maker { said, ..maker }).is_some() {
            return;
        }
        self.order.push_back(nonce);
        if self.order.len() > NONCES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.makers.remove(&oldest);
        }
    }
}

impl Door {
    /// Remembers the challenges in a server's refusal.
    pub(super) fn note_challenges(&mut self, server: ServerId, refusal: &Message) {
        for name in [HeaderName::WwwAuthenticate, HeaderName::ProxyAuthenticate] {
            for challenge in refusal.lines(name).filter_map(Challenge::parse) {
                self.nonces.note(hash_of(self.life, challenge.nonce), Maker { server, said: true });
            }
        }
    }

    /// The server has accepted what this phone said, so the nonce is one of its own: it may have
    /// been told as a `nextnonce`, or to an earlier life of the door.
    pub(super) fn note_believed(&mut self, server: ServerId, waiting: SlotId) {
        if self.takes_phones_word() {
            return;
        }
        let Some(request) = self.waiting.get(waiting).map(|waiting| waiting.request.clone()) else {
            return;
        };
        for nonce in nonces_of(&request) {
            self.nonces.note(hash_of(self.life, nonce), Maker { server, said: false });
        }
    }

    /// The server whose challenge a request answers.
    pub(super) fn challenger_of(&self, request: &Message) -> Option<ServerId> {
        nonces_of(request).find_map(|nonce| self.maker_of(nonce))
    }

    /// Whether these credentials answer a challenge of a server other than this one.
    pub(super) fn is_for_another(&self, server: ServerId, credentials: &[u8]) -> bool {
        Credentials::parse(credentials)
            .and_then(|credentials| self.maker_of(credentials.nonce))
            .is_some_and(|maker| maker != server)
    }

    /// What of a server's refusal reaches the phone: the status, and what it needs to try again.
    pub(super) fn relay_refusal(
        &self,
        server: ServerId,
        request: &Message,
        status: u16,
        refusal: &Message,
    ) -> Response {
        let mut response = Response::to(request, status);
        for (name, answered_by) in [
            (HeaderName::WwwAuthenticate, HeaderName::Authorization),
            (HeaderName::ProxyAuthenticate, HeaderName::ProxyAuthorization),
        ] {
            // The phone has answered, only not to this server: its password may well be right.
            let renews = request.lines(answered_by).any(|line| self.is_for_another(server, line));
            for line in refusal.lines(name) {
                response = match renews {
                    true => response.header(name, as_stale(line)),
                    false => response.header(name, line),
                };
            }
        }
        for name in [
            HeaderName::MinExpires,
            HeaderName::RetryAfter,
            HeaderName::Unsupported,
            HeaderName::Warning,
        ] {
            for line in refusal.lines(name) {
                response = response.header(name, line);
            }
        }
        response
    }

    fn maker_of(&self, nonce: &[u8]) -> Option<ServerId> {
        self.nonces.makers.get(&hash_of(self.life, nonce)).map(|maker| maker.server)
    }

    /// Whether a server has challenged somebody with this nonce.
    pub(super) fn has_said(&self, server: ServerId, nonce: &[u8]) -> bool {
        let maker = self.nonces.makers.get(&hash_of(self.life, nonce));
        maker == Some(&Maker { server, said: true })
    }
}

fn nonces_of(request: &Message) -> impl Iterator<Item = &[u8]> {
    [HeaderName::Authorization, HeaderName::ProxyAuthorization]
        .into_iter()
        .flat_map(|name| request.lines(name))
        .filter_map(|line| Some(Credentials::parse(line)?.nonce))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_nonce_is_forgotten_first() {
        let said = |server| Maker { server: ServerId(server), said: true };
        let mut nonces = Nonces::default();
        for nonce in 0..=NONCES_MAX as u64 {
            nonces.note(nonce, said(0));
            nonces.note(nonce, said(1));
        }
        assert_eq!(nonces.makers.len(), NONCES_MAX);
        assert_eq!(nonces.order.len(), NONCES_MAX);
        assert_eq!(nonces.makers.get(&0), None);
        assert_eq!(nonces.makers.get(&1), Some(&said(1)), "who said it last");
        nonces.note(1, Maker { said: false, ..said(1) });
        assert_eq!(nonces.makers.get(&1), Some(&said(1)), "accepting it unsays nothing");
        nonces.note(1, Maker { said: false, ..said(0) });
        assert_eq!(nonces.makers.get(&1), Some(&Maker { said: false, ..said(0) }));
    }
}
