//! For which realm servers want their users' passwords, and what follows for a guest (M6).
//!
//! Only known users teach it, and who is let in: whoever asks a server as somebody else could have
//! it challenge for any domain.

use std::sync::Arc;

use crate::cluster::ServerId;
use crate::cluster::health::Observation;
use crate::directory::{Aor, UserId};
use crate::door::slots::SlotId;
use crate::door::{Door, Event};
use crate::now::Now;
use crate::placement;
use crate::sip::digest::{Challenge, Credentials};
use crate::sip::{HeaderName, Message};

/// A longer realm is not remembered.
const REALM_MAX: usize = 256;

impl Door {
    /// A server has challenged somebody of this AoR.
    pub(super) fn learn_realm(&mut self, now: Now, server: ServerId, aor: &Aor, refusal: &Message) {
        if self.directory.by_aor(aor.as_str()).is_none() {
            return;
        }
        let challenge = refusal.lines(HeaderName::WwwAuthenticate).find_map(Challenge::parse);
        if let Some(challenge) = challenge {
            self.note_realm(now, server, aor, challenge.realm);
        }
    }

    /// A server has let somebody in who answered its challenge. What a phone says to a server that
    /// never asked is only the phone's word.
    pub(super) fn learn_believed_realm(&mut self, now: Now, server: ServerId, waiting: SlotId) {
        let Some(waiting) = self.waiting.get(waiting) else { return };
        let (request, aor) = (waiting.request.clone(), waiting.aor.clone());
        let answer = request.lines(HeaderName::Authorization).find_map(Credentials::parse);
        if let Some(answer) = answer.filter(|answer| self.has_said(server, answer.nonce)) {
            self.note_realm(now, server, &aor, answer.realm);
        }
    }

    fn note_realm(&mut self, now: Now, server: ServerId, aor: &Aor, realm: &[u8]) {
        if self.takes_phones_word() || realm.len() > REALM_MAX {
            return;
        }
        let realm = String::from_utf8_lossy(realm);
        let domain = aor.domain();
        if self.health.view().server(server).realms.knows(domain, &realm) {
            return;
        }
        let seen = Observation::Challenged { domain: domain.into(), realm: realm.into() };
        self.health.observe(now.uptime, server, seen);
        let others = self.servers_of_another_realm(server);
        if !others.is_empty() {
            let realms = self.health.view().server(server).realms.names();
            self.emit(Event::RealmsDiffer { server: self.server_name(server), realms, others });
        }
    }

    /// Between whose users' servers and this one nobody is moved.
    pub(super) fn servers_of_another_realm(&self, server: ServerId) -> Vec<Arc<str>> {
        let view = self.health.view();
        let realms = &view.server(server).realms;
        let others = view.servers.iter().filter(|other| realms.differ_from(&other.realms));
        others.map(|other| Arc::clone(&other.name)).collect()
    }

    /// Moves a guest on whose server takes no password of theirs; whether they go.
    pub(super) fn leaves_another_realm(&mut self, now: Now, aor: &Aor, server: ServerId) -> bool {
        let Some(user) = self.directory.by_aor(aor.as_str()) else { return false };
        // Where nothing can be recorded nobody moves, and asking again would change nothing.
        if !self.is_guest_of_another_realm(user, server) || self.ledger.trouble.is_some() {
            return false;
        }
        self.replan_user(now, user);
        self.ledger.is_recording(user)
    }

    /// Whether a user is a guest of a server that takes no password of theirs.
    pub(super) fn is_guest_of_another_realm(&self, user: UserId, server: ServerId) -> bool {
        let user = self.directory.get(user);
        user.relocation.is_some()
            && user.current() == Some(server)
            && placement::is_of_another_realm(user, server, self.health.view())
    }
}
