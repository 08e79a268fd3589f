//! A server sends a user elsewhere: 301, 302 and the other 3xx to a REGISTER (D9).
//!
//! There is one decider. A redirect is a server's word on where a user belongs, never the phone's
//! business: to a server that lives it teaches the user's home, which is recorded first and then
//! followed; to any other it is a failure with a name and a remedy. No server is followed to an
//! address that is not configured.
//!
//! At most two are followed for one user within a minute, or until a server takes them: servers whose
//! user administrations disagree would send them in circles.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::cluster::ServerId;
use crate::directory::{MoveReason, UserId};
use crate::door::binding::Trouble;
use crate::door::register::{Sent, What};
use crate::door::rehome::{Move, Toward};
use crate::door::slots::SlotId;
use crate::door::{Door, Event};
use crate::now::{Now, Uptime};
use crate::placement;
use crate::sip::{HeaderName, Host, Message, NameAddr, Uri};

/// Followed for one user, as long as no server takes them.
pub(super) const FOLLOWED_MAX: u8 = 2;
/// Forgotten after this.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(60);
/// Users who are being sent about; of more, nobody is followed.
const USERS_MAX: usize = 10_000;
/// Until a server that sent a user to nowhere is asked again: somebody must mend something first.
const ASKED_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// Until a write that was asked for is looked for again.
const WRITTEN_AFTER: Duration = Duration::from_secs(1);
/// Between two events of the same kind about the same server.
const SAID_AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Contacts of a redirect that are read.
const CONTACTS_MAX: usize = 8;
/// RFC 3261 §19.1.2.
const SIP_PORT: u16 = 5060;

/// Why a redirect is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Misdirection {
    /// To a server that is failed, or is not back yet.
    Failed,
    /// To a server that has no room.
    Full,
    /// To no server that is configured.
    Nowhere,
    /// To one that sent them away before.
    Circle,
}

impl Misdirection {
    /// The word in logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Failed => "to_failed",
            Self::Full => "to_full",
            Self::Nowhere => "to_nowhere",
            Self::Circle => "circle",
        }
    }

    /// What to do about it.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Failed => {
                "it insists on the home server, which is failed: let it take users of other servers"
            }
            Self::Full => "it sends users to a server that is full: raise that server's capacity",
            Self::Nowhere => {
                "it sends users to an address that is none of the servers here: add that server, \
                 or correct the address there"
            }
            Self::Circle => {
                "servers send a user in circles: their user administrations disagree on the home"
            }
        }
    }
}

/// Who has been sent about.
#[derive(Debug, Default)]
pub(crate) struct Redirects {
    followed: HashMap<UserId, (u8, Uptime)>,
    said: HashMap<(ServerId, Misdirection), Uptime>,
}

impl Redirects {
    /// Whether one more may be followed for this user; it counts then.
    fn may_follow(&mut self, now: Uptime, user: UserId) -> bool {
        let recent = |(_, last): &(u8, Uptime)| now.since(*last) < FORGOTTEN_AFTER;
        if self.followed.len() >= USERS_MAX && !self.followed.contains_key(&user) {
            self.followed.retain(|_, entry| recent(entry));
            if self.followed.len() >= USERS_MAX {
                return false;
            }
        }
        let entry = self.followed.entry(user).or_insert((0, now));
        if !recent(entry) {
            *entry = (0, now);
        }
        if entry.0 >= FOLLOWED_MAX {
            return false;
        }
        *entry = (entry.0 + 1, now);
        true
    }

    /// A server has taken this user, or nothing came of a move.
    pub(crate) fn arrived(&mut self, user: UserId) {
        if !self.followed.is_empty() {
            self.followed.remove(&user);
        }
    }

    /// Whether it is news.
    fn is_news(&mut self, now: Uptime, server: ServerId, why: Misdirection) -> bool {
        let last = self.said.insert((server, why), now);
        let news = last.is_none_or(|last| now.since(last) >= SAID_AGAIN_AFTER);
        if let Some(last) = last.filter(|_| !news) {
            self.said.insert((server, why), last);
        }
        news
    }
}

impl Door {
    /// A REGISTER of ours was answered with a redirect; `true` if that was all there is to do.
    pub(super) fn on_redirected(&mut self, now: Now, sent: Sent, response: &Message) -> bool {
        let known = sent.binding.and_then(|id| Some(self.bindings.get(id)?.user));
        match sent.what {
            What::Register { .. } => {
                let (Some(id), Some(user)) = (sent.binding, known) else { return false };
                let to = self.destination(sent.server, response);
                let trouble = match self.follow(now, user, sent.server, to) {
                    // Until the new home is durable: that ends it.
                    Ok(()) => Trouble::Backoff { until: now.uptime + WRITTEN_AFTER, failures: 0 },
                    Err(why) => {
                        self.misdirected(now, sent.server, why);
                        Trouble::SentAway { until: now.uptime + ASKED_AGAIN_AFTER }
                    }
                };
                if let Some(binding) = self.bindings.get_mut(id) {
                    binding.trouble = Some(trouble);
                }
                self.end_step(now, id);
                true
            }
            What::Update { waiting, .. } if self.is_awaited(sent) => {
                if let Some(id) = sent.binding {
                    self.idle(id);
                }
                self.mark_refused(sent);
                self.redirect_waiting(now, waiting, sent.server, response);
                if let Some(id) = sent.binding {
                    self.go_on(now, id);
                }
                true
            }
            // What is not there need not be removed, and who is asked about is not there either.
            What::Update { .. } | What::Remove | What::Sample(_) => false,
        }
    }

    /// A phone waits: it is told nothing of all this.
    fn redirect_waiting(&mut self, now: Now, id: SlotId, from: ServerId, response: &Message) {
        let Some(waiting) = self.waiting.get(id) else { return };
        let user = self.directory.by_aor(waiting.aor.as_str());
        let followed = match user {
            Some(user) => self.follow(now, user, from, self.destination(from, response)),
            None => self.follow_stranger(id, from, response),
        };
        match followed {
            // Decided again: a user when the new home is durable, a stranger at once.
            Ok(()) => self.redecide_waiting(now, id),
            Err(why) => {
                self.misdirected(now, from, why);
                self.block_waiting(now, id, true);
            }
        }
    }

    /// A user is at home where the server says, if that can be; recorded, not done yet.
    pub(super) fn follow(
        &mut self,
        now: Now,
        user: UserId,
        from: ServerId,
        to: Result<ServerId, Misdirection>,
    ) -> Result<(), Misdirection> {
        if self.current(user) != Some(from) || self.ledger.is_recording(user) {
            // It was about to be so, or is something else already.
            return Ok(());
        }
        if let Err(why) = to {
            // Another backup may be less strict.
            if self.directory.get(user).relocation.is_some()
                && self.redirects.may_follow(now.uptime, user)
            {
                self.replan_user(now, user);
            }
            if self.ledger.is_recording(user) {
                self.misdirected(now, from, why);
                return Ok(());
            }
        }
        let to = to?;
        if !self.redirects.may_follow(now.uptime, user) {
            return Err(Misdirection::Circle);
        }
        let known = self.directory.get(user);
        let toward = if known.home == Some(to) {
            Toward::Home
        } else {
            Toward::NewHome(MoveReason::Redirect)
        };
        let step = Move { user, from, to, epoch: known.epoch, toward, date: now.wall };
        self.stats.redirects_followed += 1;
        self.record_moves(vec![step], None);
        Ok(())
    }

    /// Nobody's home is known yet: the server that is named is asked.
    fn follow_stranger(
        &mut self,
        id: SlotId,
        from: ServerId,
        response: &Message,
    ) -> Result<(), Misdirection> {
        let to = self.destination(from, response)?;
        let Some(waiting) = self.waiting.get_mut(id) else { return Ok(()) };
        if waiting.redirects >= FOLLOWED_MAX {
            return Err(Misdirection::Circle);
        }
        waiting.redirects += 1;
        waiting.sent_to = Some(to);
        self.stats.redirects_followed += 1;
        Ok(())
    }

    /// The first of the contacts, best first, that is a server here (RFC 3261 §8.1.3.4).
    fn destination(&self, from: ServerId, response: &Message) -> Result<ServerId, Misdirection> {
        let mut contacts: Vec<(Reverse<u16>, SocketAddr)> = response
            .values(HeaderName::Contact)
            .take(CONTACTS_MAX)
            .filter_map(|value| {
                let address = NameAddr::parse(value).ok()?;
                Some((Reverse(thousandths(address.params.get("q"))), socket_of(address.uri)?))
            })
            .collect();
        contacts.sort_by_key(|&(q, _)| q);
        let servers = &self.settings.servers;
        let to = contacts.iter().find_map(|(_, address)| {
            let place = servers.iter().position(|server| server.sip == *address)?;
            Some(ServerId(u16::try_from(place).ok()?))
        });
        self.judge_destination(from, to)
    }

    /// Whether a server that another one names can be followed to.
    pub(super) fn judge_destination(
        &self,
        from: ServerId,
        to: Option<ServerId>,
    ) -> Result<ServerId, Misdirection> {
        let to = to.ok_or(Misdirection::Nowhere)?;
        let view = self.health.view();
        if to == from {
            Err(Misdirection::Circle)
        } else if !view.server(to).serves_its_users() {
            Err(Misdirection::Failed)
        } else if !placement::has_room(to, view, &self.directory, 0) {
            Err(Misdirection::Full)
        } else {
            Ok(to)
        }
    }

    pub(super) fn misdirected(&mut self, now: Now, server: ServerId, why: Misdirection) {
        self.stats.redirects_refused += 1;
        if self.redirects.is_news(now.uptime, server, why) {
            self.emit(Event::Misdirected { server: self.server_name(server), why });
        }
    }
}

/// Where a contact is; servers are configured by address, so a name is none of them.
fn socket_of(uri: &[u8]) -> Option<SocketAddr> {
    let uri = Uri::parse(uri).ok()?;
    let ip = match uri.host {
        Host::V4(ip) => IpAddr::V4(ip),
        Host::V6(ip) => IpAddr::V6(ip),
        Host::Name(_) => return None,
    };
    Some(SocketAddr::new(ip, uri.port.unwrap_or(SIP_PORT)))
}

/// A q-value (RFC 3261 §25.1) in thousandths; one that cannot be read, or none, is 1.
fn thousandths(q: Option<&[u8]>) -> u16 {
    let read = |text: &[u8]| {
        let (whole, digits) = match text {
            [b'0', b'.', digits @ ..] => (0, digits),
            [b'1', b'.', digits @ ..] if digits.iter().all(|it| *it == b'0') => (1_000, digits),
            b"0" => return Some(0),
            b"1" => return Some(1_000),
            _ => return None,
        };
        if digits.len() > 3 || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let padded = digits.iter().chain(b"000").take(3);
        Some(padded.fold(0, |sum, it| sum * 10 + u16::from(it - b'0')).max(whole))
    };
    q.and_then(read).unwrap_or(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_values_order_and_nonsense_counts_as_none() {
        let of = |text: &str| thousandths(Some(text.as_bytes()));
        assert_eq!([of("0"), of("0."), of("0.5"), of("0.123")], [0, 0, 500, 123]);
        assert_eq!([of("1"), of("1.000"), thousandths(None)], [1_000; 3]);
        for nonsense in ["", "2", "0.1234", "1.5", "-1", "0,5", "q"] {
            assert_eq!(of(nonsense), 1_000, "{nonsense}");
        }
    }

    #[test]
    fn a_contact_is_an_address_with_the_port_of_sip_where_it_names_none() {
        let of = |text: &str| socket_of(text.as_bytes()).map(|it| it.to_string());
        assert_eq!(of("sip:10.0.0.2").as_deref(), Some("10.0.0.2:5060"));
        assert_eq!(of("sip:anna@10.0.0.2:5070;transport=tcp").as_deref(), Some("10.0.0.2:5070"));
        assert_eq!(of("sip:[2001:db8::2]:5070").as_deref(), Some("[2001:db8::2]:5070"));
        for other in ["sip:ucs2.example", "tel:+4930", "", "sip:", "sip:10.0.0.2:x"] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn two_are_followed_then_none_until_a_server_takes_them_or_a_minute_is_over() {
        let mut redirects = Redirects::default();
        let (anna, at) = (UserId(1), Uptime::from_secs);
        assert!(redirects.may_follow(at(1), anna) && redirects.may_follow(at(2), anna));
        assert!(!redirects.may_follow(at(3), anna));
        redirects.arrived(anna);
        assert!(redirects.may_follow(at(4), anna) && redirects.may_follow(at(4), anna));
        assert!(!redirects.may_follow(at(63), anna));
        assert!(redirects.may_follow(at(64), anna));
    }

    #[test]
    fn the_table_of_those_who_are_sent_about_is_bounded() {
        let mut redirects = Redirects::default();
        let at = Uptime::from_secs;
        for user in 0..USERS_MAX {
            assert!(redirects.may_follow(at(1), UserId(user as u32)));
        }
        let late = UserId(USERS_MAX as u32);
        assert!(!redirects.may_follow(at(2), late));
        assert!(redirects.may_follow(at(61), late));
        assert_eq!(redirects.followed.len(), 1);
    }
}
