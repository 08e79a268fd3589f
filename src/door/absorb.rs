//! An unchanged refresh of a known phone is answered by the door: no server, no store, no
//! transaction.
//!
//! The answer is made anew for a retransmission and comes out the same but for the seconds that
//! have passed, so nothing needs to be kept for it.

use std::io::Write;
use std::time::{Duration, SystemTime};

use smallvec::SmallVec;

use crate::directory::{Aor, UserId};
use crate::door::binding::{Binding, Step};
use crate::door::slots::SlotId;
use crate::door::wish::{Wanted, Wish};
use crate::door::{Auth, Door};
use crate::now::Now;
use crate::sip::{Flow, HeaderName, Message, Response};

/// How a refresh can be answered without asking anybody.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// Its server holds it as it is.
    Absorbed,
    /// The door is about to register it; until then it answers for it (M7).
    Held,
}

impl Door {
    /// Answers a REGISTER that changes nothing; `false` if it must go the long way.
    pub(super) fn absorb(
        &mut self,
        now: Now,
        flow: Flow,
        request: &Message,
        aor: &Aor,
        wish: &Wish<'_>,
    ) -> bool {
        if !self.is_trusted(flow.remote) || self.turns.contains_key(aor) {
            return false;
        }
        let Some(user) = self.directory.by_aor(aor.as_str()) else { return false };
        if !self.directory.get(user).enabled {
            return false;
        }
        if wish.is_query() {
            self.answer_with_bindings(now, flow, request, aor, user);
            return true;
        }
        if !self.settings.sip.absorb {
            return false;
        }
        let mut known: SmallVec<[(SlotId, Duration); 2]> = SmallVec::new();
        let mut held = false;
        for wanted in &wish.contacts {
            match self.unchanged(now, flow, aor, user, wish, wanted) {
                Some((id, standing)) => {
                    held |= standing == Standing::Held;
                    known.push((id, wanted.lease));
                }
                None => return false,
            }
        }
        if known.is_empty() {
            return false;
        }
        for (id, lease) in known {
            let lease = if held { lease.min(self.settings.sip.lease_min) } else { lease };
            self.extend_lease(now, id, lease, wish.cseq);
        }
        if held {
            self.stats.registers_held += 1;
        } else {
            self.stats.registers_absorbed += 1;
        }
        self.answer_with_bindings(now, flow, request, aor, user);
        true
    }

    fn unchanged<'m>(
        &self,
        now: Now,
        flow: Flow,
        aor: &Aor,
        user: UserId,
        wish: &Wish<'m>,
        wanted: &Wanted<'m>,
    ) -> Option<(SlotId, Standing)> {
        if wanted.lease.is_zero() {
            return None;
        }
        let (id, binding) = self.binding_for(aor, user, wanted)?;
        let same = binding.durable
            && binding.is_live(now.uptime)
            && binding.flow == flow
            && wish.cseq >= binding.cseq
            && binding.said.saying() == wish.saying(wanted);
        if !same {
            return None;
        }
        let server = self.current(user)?;
        if !self.health.view().server(server).state.serves_its_users() {
            return None;
        }
        let standing = if binding.is_registered_at(server, now.uptime) {
            Standing::Absorbed
        } else if binding.step == Step::Idle || binding.trouble.is_some() {
            return None;
        } else {
            Standing::Held
        };
        Some((id, standing))
    }

    fn binding_for<'s>(
        &'s self,
        aor: &Aor,
        user: UserId,
        wanted: &Wanted<'_>,
    ) -> Option<(SlotId, &'s Binding)> {
        self.bindings_of(user).iter().find_map(|&id| {
            let binding = self.bindings.get(id)?;
            (!binding.gone && binding.aor == *aor && wanted.is_for(binding))
                .then_some((id, binding))
        })
    }

    /// A lease never exceeds what the server granted (M3).
    pub(super) fn extend_lease(&mut self, now: Now, id: SlotId, lease: Duration, cseq: u32) {
        let Some(binding) = self.bindings.get(id) else { return };
        let current = self.current(binding.user).and_then(|server| binding.at(server));
        let granted = current.map(|upstream| upstream.expiry);
        let Some(binding) = self.bindings.get_mut(id) else { return };
        let lease = granted.map_or(lease, |granted| lease.min(granted));
        binding.lease = lease;
        binding.lease_until = now.uptime + lease;
        binding.cseq = cseq;
    }

    pub(super) fn answer_with_bindings(
        &mut self,
        now: Now,
        flow: Flow,
        request: &Message,
        aor: &Aor,
        user: UserId,
    ) {
        let response = self.response_with_bindings(now, request, aor, user);
        self.answer(now, flow, request, response);
    }

    /// 200 with every binding of the AoR (RFC 3261 §10.3 step 8).
    pub(super) fn response_with_bindings(
        &self,
        now: Now,
        request: &Message,
        aor: &Aor,
        user: UserId,
    ) -> Response {
        let mut response = Response::to(request, 200);
        let mut contact: SmallVec<[u8; 160]> = SmallVec::new();
        for &id in self.bindings_of(user) {
            let Some(binding) = self.bindings.get(id) else { continue };
            if binding.aor != *aor || !binding.is_live(now.uptime) {
                continue;
            }
            let left = binding.lease_until.since(now.uptime);
            // Rounded up, so that a fresh lease reads as what was promised.
            let seconds = left.as_millis().div_ceil(1000);
            contact.clear();
            write_contact(&mut contact, binding, seconds);
            response = response.header(HeaderName::Contact, &contact);
        }
        for path in request.lines(HeaderName::Path) {
            response = response.header(HeaderName::Path, path);
        }
        // RFC 3261 §10.3 step 8 wants a Date; a clock that stands before 1970 has none to give.
        if now.wall >= SystemTime::UNIX_EPOCH {
            response = response.header(HeaderName::Date, httpdate::fmt_http_date(now.wall));
        }
        response
    }

    /// Whether the phones' word alone may change a binding: nobody else checks it anyway.
    pub(super) fn takes_phones_word(&self) -> bool {
        self.settings.sip.auth == Auth::None
    }
}

fn write_contact(out: &mut SmallVec<[u8; 160]>, binding: &Binding, expires_s: u128) {
    let saying = binding.said.saying();
    if !saying.display.is_empty() {
        out.extend_from_slice(saying.display);
        out.push(b' ');
    }
    out.push(b'<');
    out.extend_from_slice(saying.contact);
    out.push(b'>');
    out.extend_from_slice(saying.params);
    out.extend_from_slice(b";expires=");
    let _ = write!(out, "{expires_s}");
}
