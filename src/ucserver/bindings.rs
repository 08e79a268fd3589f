//! The registrar's location service: who is bound where, and until when.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use crate::now::Uptime;
use crate::sip::Uri;
use crate::timers::Timers;

/// One binding, for whoever wants to look (RFC 3261 §10.3, RFC 3327 §5.3).
#[derive(Clone, Copy, Debug)]
pub struct BindingView<'s> {
    /// Canonical.
    pub aor: &'s str,
    /// The contact URI as given.
    pub contact: &'s str,
    /// Contact parameters as given, `expires` excepted; empty or from the first `;` on.
    pub params: &'s str,
    /// The Path, one element each, first hop first.
    pub path: &'s [Box<str>],
    /// When it ends.
    pub expires_at: Uptime,
    /// When it was made; refreshes do not count.
    pub registered_at: Uptime,
    /// Of the request that made or refreshed it last.
    pub call_id: &'s [u8],
    /// Of the same request.
    pub cseq: u32,
}

/// One contact of an AoR.
#[derive(Clone, Debug)]
pub(in crate::ucserver) struct Binding {
    pub(in crate::ucserver) contact: Arc<str>,
    pub(in crate::ucserver) params: Box<str>,
    pub(in crate::ucserver) path: Arc<[Box<str>]>,
    pub(in crate::ucserver) expires_at: Uptime,
    pub(in crate::ucserver) registered_at: Uptime,
    pub(in crate::ucserver) call_id: Box<[u8]>,
    pub(in crate::ucserver) cseq: u32,
}

/// All bindings, by AoR. An AoR without bindings is not there.
#[derive(Debug, Default)]
pub(in crate::ucserver) struct Bindings {
    users: BTreeMap<Arc<str>, User>,
    count: usize,
    timers: Timers<Arc<str>>,
}

#[derive(Debug)]
struct User {
    bindings: Vec<Binding>,
    /// The earliest deadline in `timers` that is this user's.
    armed_at: Uptime,
}

impl Binding {
    /// Whether `contact` is this binding's, by RFC 3261 §19.1.4; other schemes than SIP match
    /// to the letter.
    pub(in crate::ucserver) fn is_for(&self, contact: &str) -> bool {
        if *self.contact == *contact {
            return true;
        }
        match (Uri::parse(self.contact.as_bytes()), Uri::parse(contact.as_bytes())) {
            (Ok(mine), Ok(theirs)) => mine.equivalent(&theirs),
            _ => false,
        }
    }
}

impl Bindings {
    /// The bindings of `aor` that live at `now`.
    pub(in crate::ucserver) fn of(&self, aor: &str, now: Uptime) -> impl Iterator<Item = &Binding> {
        self.users
            .get(aor)
            .into_iter()
            .flat_map(|user| &user.bindings)
            .filter(move |binding| binding.expires_at > now)
    }

    /// One binding that lives at `now`, with its AoR.
    pub(in crate::ucserver) fn find(
        &self,
        aor: &str,
        contact: &str,
        now: Uptime,
    ) -> Option<(&Arc<str>, &Binding)> {
        let (aor, user) = self.users.get_key_value(aor)?;
        let mut alive = user.bindings.iter().filter(|binding| binding.expires_at > now);
        Some((aor, alive.find(|binding| binding.is_for(contact))?))
    }

    /// Puts `bindings` in the place of all that `aor` had.
    pub(in crate::ucserver) fn replace(&mut self, aor: &Arc<str>, bindings: Vec<Binding>) {
        let Some(deadline) = bindings.iter().map(|binding| binding.expires_at).min() else {
            if let Some(user) = self.users.remove(aor) {
                self.count -= user.bindings.len();
            }
            return;
        };
        self.count += bindings.len();
        let user = self
            .users
            .entry(Arc::clone(aor))
            .or_insert_with(|| User { bindings: Vec::new(), armed_at: Uptime::NEVER });
        self.count -= user.bindings.len();
        user.bindings = bindings;
        if deadline < user.armed_at {
            user.armed_at = deadline;
            self.timers.set(deadline, Arc::clone(aor));
        }
    }

    /// Takes out what has run out: AoR and contact.
    pub(in crate::ucserver) fn expire(&mut self, now: Uptime) -> Vec<(Arc<str>, Arc<str>)> {
        let mut gone = Vec::new();
        while let Some(aor) = self.timers.pop_due(now) {
            let Some(user) = self.users.get_mut(&aor) else { continue };
            if user.armed_at > now {
                continue;
            }
            user.armed_at = Uptime::NEVER;
            let (kept, expired): (Vec<_>, Vec<_>) = std::mem::take(&mut user.bindings)
                .into_iter()
                .partition(|binding| binding.expires_at > now);
            self.count -= expired.len();
            gone.extend(expired.into_iter().map(|old| (Arc::clone(&aor), old.contact)));
            user.bindings = Vec::new();
            self.count -= kept.len();
            self.replace(&aor, kept);
        }
        gone
    }

    /// When [`Bindings::expire`] may have something to do.
    pub(in crate::ucserver) fn next(&self) -> Option<Uptime> {
        self.timers.next()
    }

    /// How many AoRs have a binding.
    pub(in crate::ucserver) fn users(&self) -> usize {
        self.users.len()
    }

    /// How many bindings there are.
    pub(in crate::ucserver) const fn len(&self) -> usize {
        self.count
    }

    /// How many bindings `aor` has.
    pub(in crate::ucserver) fn count_of(&self, aor: &str) -> usize {
        self.users.get(aor).map_or(0, |user| user.bindings.len())
    }

    /// Whether `aor` has a binding.
    pub(in crate::ucserver) fn knows(&self, aor: &str) -> bool {
        self.users.contains_key(aor)
    }

    /// Whether an AoR with this user part has a binding.
    pub(in crate::ucserver) fn knows_name(&self, name: &str) -> bool {
        let prefix = format!("sip:{name}@");
        let from = (Bound::Included(prefix.as_str()), Bound::Unbounded);
        self.users.range::<str, _>(from).next().is_some_and(|(aor, _)| aor.starts_with(&prefix))
    }

    /// Every binding, by AoR.
    pub(in crate::ucserver) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Binding)> {
        self.users
            .iter()
            .flat_map(|(aor, user)| user.bindings.iter().map(move |binding| (aor, binding)))
    }
}

impl<'s> BindingView<'s> {
    pub(in crate::ucserver) fn of(aor: &'s str, binding: &'s Binding) -> Self {
        Self {
            aor,
            contact: &binding.contact,
            params: &binding.params,
            path: &binding.path,
            expires_at: binding.expires_at,
            registered_at: binding.registered_at,
            call_id: &binding.call_id,
            cseq: binding.cseq,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn binding(contact: &str, expires_at: Uptime) -> Binding {
        Binding {
            contact: Arc::from(contact),
            params: Box::from(""),
            path: Arc::from([]),
            expires_at,
            registered_at: Uptime::ZERO,
            call_id: Box::from(*b"x"),
            cseq: 1,
        }
    }

    #[test]
    fn each_binding_ends_at_its_own_time() {
        let mut bindings = Bindings::default();
        let aor: Arc<str> = Arc::from("sip:a@example.com");
        bindings.replace(
            &aor,
            vec![
                binding("sip:a@192.0.2.1", Uptime::from_secs(10)),
                binding("sip:a@192.0.2.2", Uptime::from_secs(20)),
            ],
        );
        assert_eq!((bindings.users(), bindings.len()), (1, 2));
        assert_eq!(bindings.expire(Uptime::from_secs(9)), []);
        let gone = bindings.expire(Uptime::from_secs(10));
        assert_eq!(gone, [(Arc::clone(&aor), Arc::from("sip:a@192.0.2.1"))]);
        assert_eq!((bindings.users(), bindings.len()), (1, 1));
        assert_eq!(bindings.next(), Some(Uptime::from_secs(20)));
        assert_eq!(bindings.expire(Uptime::from_secs(30)).len(), 1);
        assert_eq!((bindings.users(), bindings.len(), bindings.next()), (0, 0, None));
    }

    #[test]
    fn a_refreshed_binding_outlives_its_first_deadline() {
        let mut bindings = Bindings::default();
        let aor: Arc<str> = Arc::from("sip:a@example.com");
        bindings.replace(&aor, vec![binding("sip:a@192.0.2.1", Uptime::from_secs(10))]);
        bindings.replace(&aor, vec![binding("sip:a@192.0.2.1", Uptime::from_secs(50))]);
        assert_eq!(bindings.expire(Uptime::from_secs(10)), []);
        assert_eq!(bindings.len(), 1);
        assert_eq!(bindings.expire(Uptime::from_secs(50)).len(), 1);
    }

    #[test]
    fn a_user_who_left_and_came_back_is_not_expired_by_an_old_deadline() {
        let mut bindings = Bindings::default();
        let aor: Arc<str> = Arc::from("sip:a@example.com");
        bindings.replace(&aor, vec![binding("sip:a@192.0.2.1", Uptime::from_secs(10))]);
        bindings.replace(&aor, Vec::new());
        assert_eq!(bindings.len(), 0);
        bindings.replace(&aor, vec![binding("sip:a@192.0.2.1", Uptime::from_secs(50))]);
        assert_eq!(bindings.expire(Uptime::from_secs(10)), []);
        assert_eq!(bindings.len(), 1);
    }
}
