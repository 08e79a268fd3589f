//! An unchanged refresh of a known phone is answered by the door: no server, no store, no
//! transaction.
//!
//! The answer is made anew for a retransmission and comes out the same but for the seconds that
//! have passed, so nothing needs to be kept for it.

use std::time::Duration;

use smallvec::SmallVec;

use crate::directory::{Aor, UserId};
use crate::door::binding::{Binding, Step};
use crate::door::slots::SlotId;
use crate::door::wish::{Wanted, Wish};
use crate::door::{Auth, Door};
use crate::now::{Now, Uptime};
use crate::sip;
use crate::sip::{Flow, HeaderName, Message, Repeated, Response, Via};

/// How a refresh can be answered without asking anybody.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
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
        if !self.directory.is_enabled(user) {
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
        if let [(id, lease)] = known[..] {
            self.remember_repeat(request, id, lease);
        }
        self.refresh(now, &known, held, wish.cseq);
        self.answer_with_bindings(now, flow, request, aor, user);
        true
    }

    /// The leases of an unchanged refresh run anew, held ones for the shortest time.
    pub(super) fn refresh(
        &mut self,
        now: Now,
        known: &[(SlotId, Duration)],
        held: bool,
        cseq: u32,
    ) {
        for &(id, lease) in known {
            let lease = if held { lease.min(self.settings.sip.lease_min) } else { lease };
            self.extend_lease(now, id, lease, cseq);
        }
        if held {
            self.stats.registers_held += 1;
        } else {
            self.stats.registers_absorbed += 1;
        }
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
        let same = self.accepts_refresh(now.uptime, flow, binding, wish.cseq)
            && binding.said.saying() == wish.saying(wanted);
        let standing = self.standing_of(now.uptime, binding).filter(|_| same)?;
        Some((id, standing))
    }

    /// Whether a binding can be refreshed from here and now without asking anybody.
    pub(super) fn accepts_refresh(
        &self,
        now: Uptime,
        flow: Flow,
        binding: &Binding,
        cseq: u32,
    ) -> bool {
        binding.durable && binding.is_live(now) && binding.flow == flow && cseq >= binding.cseq
    }

    /// How a refresh of this binding can be answered; None if its server has to be asked.
    pub(super) fn standing_of(&self, now: Uptime, binding: &Binding) -> Option<Standing> {
        let server = self.current(binding.user)?;
        if !self.health.view().server(server).serves_its_users() {
            return None;
        }
        if binding.is_registered_at(server, now) {
            Some(Standing::Absorbed)
        } else if binding.step == Step::Idle || binding.trouble.is_some() {
            None
        } else {
            Some(Standing::Held)
        }
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

    /// Sends a 200 with every binding of the AoR that no transaction keeps.
    pub(super) fn answer_with_bindings(
        &mut self,
        now: Now,
        flow: Flow,
        request: &Message,
        aor: &Aor,
        user: UserId,
    ) {
        let Ok(via) = request.top_via() else { return };
        let answer = self.begin_answer(now, flow, (&Repeated::of(request), &via));
        let answer = self.with_bindings(now, with_path(answer, request), aor, user);
        self.send_answer(flow, answer);
    }

    /// The same for one that has been read before, and has no Path: `id` is of its AoR.
    pub(super) fn answer_repeated(
        &mut self,
        now: Now,
        flow: Flow,
        request: (&Repeated<'_>, &Via<'_>),
        id: SlotId,
    ) {
        let answer = self.begin_answer(now, flow, request);
        let Some(binding) = self.bindings.get(id) else { return };
        let answer = self.with_bindings(now, answer, &binding.aor, binding.user);
        self.send_answer(flow, answer);
    }

    fn begin_answer(
        &mut self,
        now: Now,
        flow: Flow,
        request: (&Repeated<'_>, &Via<'_>),
    ) -> Response {
        self.date.set(now.wall);
        let tag = self.tag_of(request.0.call_id());
        let buffer = std::mem::take(&mut self.scratch);
        Response::written_to(buffer, request, 200, flow.remote, tag.as_bytes())
    }

    fn send_answer(&mut self, flow: Flow, answer: Response) {
        let answer = answer.header(HeaderName::Server, self.settings.sip.server_header.as_bytes());
        let Self { scratch, arena, .. } = self;
        let bytes = arena.write(answer.octets(), |out| *scratch = answer.finish_into(out));
        self.send(flow, bytes);
    }

    /// 200 with every binding of the AoR.
    pub(super) fn response_with_bindings(
        &mut self,
        now: Now,
        request: &Message,
        aor: &Aor,
        user: UserId,
    ) -> Response {
        self.date.set(now.wall);
        self.with_bindings(now, with_path(Response::to(request, 200), request), aor, user)
    }

    /// Adds every binding of the AoR and the date (RFC 3261 §10.3 step 8).
    fn with_bindings(&self, now: Now, mut response: Response, aor: &Aor, user: UserId) -> Response {
        for &id in self.bindings_of(user) {
            let Some(binding) = self.bindings.get(id) else { continue };
            if binding.aor != *aor || !binding.is_live(now.uptime) {
                continue;
            }
            let left = binding.lease_until.since(now.uptime);
            // Rounded up, so that a fresh lease reads as what was promised.
            let seconds = left.as_millis().div_ceil(1000) as u64;
            response = response
                .header_with(HeaderName::Contact, |out| write_contact(out, binding, seconds));
        }
        match self.date.text() {
            Some(date) => response.header(HeaderName::Date, date),
            None => response,
        }
    }

    /// Whether the phones' word alone may change a binding: nobody else checks it anyway.
    pub(super) fn takes_phones_word(&self) -> bool {
        self.settings.sip.auth == Auth::None
    }
}

/// Adds the request's Path (RFC 3327 §5.3).
fn with_path(response: Response, request: &Message) -> Response {
    request.lines(HeaderName::Path).fold(response, |it, path| it.header(HeaderName::Path, path))
}

fn write_contact(out: &mut Vec<u8>, binding: &Binding, expires_s: u64) {
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
    sip::append_number(out, expires_s);
}
