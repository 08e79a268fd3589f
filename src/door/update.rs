//! What a waiting REGISTER changes, contact by contact: planned against the bindings as they are,
//! granted one by one, applied together or undone together (RFC 3261 §10.3 step 7: all or none).

use std::time::Duration;

use bytes::Bytes;

use crate::cluster::ServerId;
use crate::directory::{Aor, UserId};
use crate::door::Door;
use crate::door::binding::{Binding, By, Said, Standing, Step, Upstream};
use crate::door::repeat::Repeat;
use crate::door::slots::SlotId;
use crate::door::waiting::Stage;
use crate::door::wish::{Refusal, Wish};
use crate::now::{Now, Uptime};
use crate::sip::{Flow, HeaderName, Message, Uri};

/// One contact's part of a [`Waiting`](crate::door::waiting::Waiting).
#[derive(Debug)]
pub(crate) struct Update {
    /// The binding it is for; a new one has its place already, but is not the user's yet.
    pub(crate) binding: Option<SlotId>,
    pub(crate) is_new: bool,
    /// `None` removes.
    pub(crate) said: Option<Said>,
    pub(crate) cseq: u32,
    pub(crate) lease: Duration,
    pub(crate) state: UpdateState,
}

/// How far an [`Update`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UpdateState {
    /// In a lane, or about to be.
    Queued,
    /// Behind a step of the door's own for the same binding.
    Behind,
    /// The REGISTER is out.
    InFlight,
    /// The server granted it.
    Granted(Upstream),
    /// The door takes it on itself; the server learns later.
    Taken,
    /// Refused.
    Refused,
}

/// Whose a binding is while its AoR is no user yet.
const NOBODY: UserId = UserId(u32::MAX);

impl Door {
    /// Turns the request into updates, against the bindings as they are now.
    pub(super) fn plan_updates(
        &mut self,
        now: Now,
        id: SlotId,
        user: Option<UserId>,
        wish: Option<&Wish<'_>>,
    ) -> Result<(), Refusal> {
        let before = self.drop_claims(id);
        let planned = match (wish, self.waiting.get(id)) {
            (Some(wish), _) => self.plan_wish(now, id, user, wish),
            (None, Some(waiting)) => {
                let request = waiting.request.clone();
                Wish::read(&request, &self.settings.sip)
                    .and_then(|wish| self.plan_wish(now, id, user, &wish))
            }
            (None, None) => Ok(()),
        };
        for binding in before {
            self.reconcile(now, binding);
        }
        planned
    }

    fn plan_wish(
        &mut self,
        now: Now,
        id: SlotId,
        user: Option<UserId>,
        wish: &Wish<'_>,
    ) -> Result<(), Refusal> {
        let Some(waiting) = self.waiting.get(id) else { return Ok(()) };
        let flow = waiting.flow;
        let aor = match user {
            Some(user) => self.directory.own(user, &waiting.aor),
            None => waiting.aor.clone(),
        };
        let (gone, mine): (Vec<SlotId>, Vec<SlotId>) = user
            .map(|user| self.bindings_of(user).to_vec())
            .unwrap_or_default()
            .into_iter()
            .filter(|&id| self.bindings.get(id).is_some_and(|b| b.aor == aor))
            .partition(|&id| self.bindings.get(id).is_some_and(|b| b.gone));
        let mut updates = self.updates_for(wish, &mine)?;
        let count = |of: fn(&Update) -> bool| updates.iter().filter(|update| of(update)).count();
        let (added, removed) =
            (count(|update| update.is_new), count(|update| update.said.is_none()));
        if added > 0 && mine.len() + added > self.settings.limits.bindings_per_aor + removed {
            return Err(Refusal::TooMany);
        }
        let mut full = false;
        for update in &mut updates {
            if let Some(binding) = update.binding.and_then(|known| self.bindings.get_mut(known)) {
                binding.claimed = true;
            }
            let Some(said) = update.said.clone().filter(|_| update.is_new) else { continue };
            update.binding = self.claim_again(&gone, &said).or_else(|| {
                let reserved = Binding::reserved(user, &aor, said, flow, now.uptime);
                self.bindings.insert(reserved).ok()
            });
            full |= update.binding.is_none();
        }
        // Without anything to change, pass-through still asks the server: only it can challenge.
        if updates.is_empty() && !self.takes_phones_word() {
            updates.push(Update::query(wish.cseq));
        }
        if self.takes_phones_word() {
            for update in updates.iter_mut().filter(|update| update.said.is_none()) {
                update.state = UpdateState::Taken;
            }
        }
        if let Some(waiting) = self.waiting.get_mut(id) {
            waiting.updates = updates;
        }
        if full { Err(Refusal::TooMany) } else { Ok(()) }
    }

    /// A contact that is still being removed somewhere comes back as the binding it was: as two,
    /// the removal of the one would hit the registration of the other.
    fn claim_again(&mut self, gone: &[SlotId], said: &Said) -> Option<SlotId> {
        let contact = said.saying().contact;
        let same = |binding: &Binding| {
            let known = binding.said.saying().contact;
            let uris = (Uri::parse(known), Uri::parse(contact));
            known == contact || matches!(uris, (Ok(known), Ok(wanted)) if known.equivalent(&wanted))
        };
        let revived = gone.iter().copied().find(|&id| {
            self.bindings.get(id).is_some_and(|binding| !binding.claimed && same(binding))
        })?;
        self.bindings.get_mut(revived)?.claimed = true;
        Some(revived)
    }

    /// What becomes of `mine`, all bindings of the AoR (RFC 3261 §10.3 steps 6 and 7).
    fn updates_for(&self, wish: &Wish<'_>, mine: &[SlotId]) -> Result<Vec<Update>, Refusal> {
        let mut updates: Vec<Update> = Vec::new();
        if wish.star {
            for &binding in mine {
                self.judge_order(wish, binding)?;
                updates.push(Update::removal(binding, wish.cseq));
            }
        }
        for wanted in &wish.contacts {
            let known = mine.iter().copied().find(|&binding| {
                self.bindings.get(binding).is_some_and(|binding| wanted.is_for(binding))
            });
            if let Some(binding) = known {
                self.judge_order(wish, binding)?;
            }
            // The same contact twice in one request: the later one counts.
            updates.retain(|earlier| match known {
                Some(binding) => earlier.binding != Some(binding),
                None => !earlier.said.as_ref().is_some_and(|said| wanted.is_same_as(said)),
            });
            match (known, wanted.lease.is_zero()) {
                (None, true) => {}
                (Some(binding), true) => updates.push(Update::removal(binding, wish.cseq)),
                (known, false) => updates.push(Update {
                    binding: known,
                    is_new: known.is_none(),
                    said: Some(wish.said(wanted)?),
                    cseq: wish.cseq,
                    lease: wanted.lease,
                    state: UpdateState::Queued,
                }),
            }
        }
        Ok(updates)
    }

    fn judge_order(&self, wish: &Wish<'_>, binding: SlotId) -> Result<(), Refusal> {
        match self.bindings.get(binding) {
            Some(binding) if wish.is_older_than(binding) => Err(Refusal::OutOfOrder),
            _ => Ok(()),
        }
    }

    /// Whether a REGISTER asks for a binding; nobody becomes a user by a query or a removal.
    pub(super) fn wants_to_be_reached(&self, id: SlotId) -> bool {
        self.waiting.get(id).is_some_and(|waiting| {
            Wish::read(&waiting.request, &self.settings.sip)
                .is_ok_and(|wish| wish.contacts.iter().any(|wanted| !wanted.lease.is_zero()))
        })
    }

    /// Whether a REGISTER asks for a binding to be removed.
    pub(super) fn asks_for_a_removal(&self, id: SlotId) -> bool {
        self.waiting.get(id).is_some_and(|waiting| {
            Wish::read(&waiting.request, &self.settings.sip).is_ok_and(|wish| {
                wish.star || wish.contacts.iter().any(|wanted| wanted.lease.is_zero())
            })
        })
    }

    /// One update is settled; the last one settles the REGISTER.
    pub(super) fn update_settled(&mut self, now: Now, id: SlotId, index: usize, granted: Upstream) {
        let Some(waiting) = self.waiting.get_mut(id) else { return };
        let Some(update) = waiting.updates.get_mut(index) else { return };
        update.state = UpdateState::Granted(granted);
        let done = waiting
            .updates
            .iter()
            .all(|update| matches!(update.state, UpdateState::Granted(_) | UpdateState::Taken));
        if !done {
            return;
        }
        let aor = waiting.aor.clone();
        if self.directory.by_aor(aor.as_str()).is_none() {
            if let Some(waiting) = self.waiting.get_mut(id) {
                waiting.stage = Stage::Ledger;
            }
            return self.record_adoption(now, id, &aor, granted.server);
        }
        self.finish_waiting(now, id);
    }

    /// Whether the server has granted everything already and only the user was missing.
    pub(super) fn is_granted(&self, id: SlotId) -> bool {
        self.waiting.get(id).is_some_and(|waiting| {
            let granted = |update: &Update| matches!(update.state, UpdateState::Granted(_));
            !waiting.updates.is_empty() && waiting.updates.iter().all(granted)
        })
    }

    /// Keeps what of a server's 200 the phone is to see.
    pub(super) fn keep_relayed(&mut self, id: SlotId, response: &Message) {
        let server = self.settings.sip.pass_server_header.then_some(HeaderName::Server);
        let Some(waiting) = self.waiting.get_mut(id) else { return };
        waiting.relayed.clear();
        for name in [Some(HeaderName::AuthenticationInfo), server].into_iter().flatten() {
            if let Some(value) = response.header(name) {
                waiting.relayed.push((name, Bytes::copy_from_slice(value)));
            }
        }
    }

    /// A step of the door's own is over: an update that stood behind it may go.
    pub(super) fn release_updates_behind(&mut self, now: Now, binding: SlotId) {
        let Some(aor) = self.bindings.get(binding).map(|binding| binding.aor.clone()) else {
            return;
        };
        let Some(&id) = self.turns.get(&aor).and_then(|turns| turns.first()) else { return };
        let Some(waiting) = self.waiting.get_mut(id) else { return };
        let Stage::Server(server) = waiting.stage else { return };
        let mut released = Vec::new();
        for (index, update) in waiting.updates.iter_mut().enumerate() {
            if update.binding == Some(binding) && update.state == UpdateState::Behind {
                update.state = UpdateState::Queued;
                released.push(index);
            }
        }
        for index in released {
            self.queue_update(server, id, index);
        }
        self.pump_lane(now, server);
    }

    pub(super) fn apply_put(
        &mut self,
        now: Now,
        user: UserId,
        flow: Flow,
        id: SlotId,
        update: Update,
    ) {
        let granted = update.state.granted();
        let Some(binding) = self.bindings.get_mut(id) else { return };
        let Some(said) = update.said else { return };
        let before = std::mem::replace(&mut binding.flow, flow);
        let changed = update.is_new || binding.gone || binding.said != said || before != flow;
        if changed {
            binding.version = binding.version.wrapping_add(1);
            binding.durable = false;
        }
        binding.user = user;
        binding.gone = false;
        binding.claimed = false;
        binding.said = said;
        binding.trouble = None;
        let version = binding.version;
        if let Some(mut upstream) = granted {
            upstream.version = Some(version);
            self.note_upstream(id, upstream);
        }
        self.extend_lease(now, id, update.lease, update.cseq);
        self.list(user, id);
        self.follow_stream(id, before, flow);
    }

    /// A binding whose stream ends must be known by that stream.
    fn follow_stream(&mut self, id: SlotId, before: Flow, now: Flow) {
        self.leave_stream(id, before);
        if now.transport.is_reliable() {
            let bindings = self.streams.entry(now.connection).or_default();
            if !bindings.contains(&id) {
                bindings.push(id);
            }
        }
    }

    pub(super) fn leave_stream(&mut self, id: SlotId, flow: Flow) {
        let Some(bindings) = self.streams.get_mut(&flow.connection) else { return };
        bindings.retain(|&mut other| other != id);
        if bindings.is_empty() {
            self.streams.remove(&flow.connection);
        }
    }

    pub(super) fn apply_removal(&mut self, now: Now, id: SlotId, update: &Update) {
        self.leave_run(now, id);
        if let UpdateState::Granted(upstream) = update.state {
            self.drop_upstream(id, upstream.server, upstream.by);
        }
        let Some(binding) = self.bindings.get_mut(id) else { return };
        binding.gone = true;
        binding.claimed = false;
        binding.durable = false;
        binding.version = binding.version.wrapping_add(1);
        binding.cseq = update.cseq;
    }

    /// Takes back what a REGISTER has changed so far: bindings it would have made go, bindings it
    /// would have changed are told to their server again as they were.
    pub(super) fn undo_updates(&mut self, now: Now, id: SlotId) {
        let Some(waiting) = self.waiting.get_mut(id) else { return };
        let updates = std::mem::take(&mut waiting.updates);
        for update in updates {
            let Some(binding) = update.binding else { continue };
            let granted = update.state.granted();
            if update.is_new {
                self.abandon(binding, update.state);
            } else {
                self.unclaim(binding);
                if let Some(mut upstream) = granted {
                    upstream.version = None;
                    self.note_upstream(binding, upstream);
                }
            }
            self.reconcile(now, binding);
        }
    }

    /// A binding that will not be, or not be again: kept, as gone, while a server may have heard of
    /// it, so that it is removed there.
    fn abandon(&mut self, id: SlotId, state: UpdateState) {
        if let Some(upstream) = state.granted() {
            self.note_upstream(id, upstream);
        }
        let Some(binding) = self.bindings.get_mut(id) else { return };
        binding.claimed = false;
        binding.gone = true;
        let user = binding.user;
        let unheard = binding.upstream.is_empty() && state != UpdateState::InFlight;
        let listed = self.bindings_of(user).contains(&id);
        if unheard && !listed {
            self.bindings.remove(id);
        } else if !listed && user != NOBODY {
            self.list(user, id);
        }
    }

    /// Takes back a plan; what it had claimed is returned.
    fn drop_claims(&mut self, id: SlotId) -> Vec<SlotId> {
        let Some(waiting) = self.waiting.get_mut(id) else { return Vec::new() };
        let updates = std::mem::take(&mut waiting.updates);
        let mut claims = Vec::with_capacity(updates.len());
        for update in updates {
            let Some(binding) = update.binding else { continue };
            if update.is_new {
                self.abandon(binding, update.state);
            } else {
                self.unclaim(binding);
            }
            claims.push(binding);
        }
        claims
    }

    fn unclaim(&mut self, id: SlotId) {
        if let Some(binding) = self.bindings.get_mut(id) {
            binding.claimed = false;
        }
    }

    fn list(&mut self, user: UserId, id: SlotId) {
        if self.by_user.len() <= user.index() {
            self.by_user.resize_with(user.index() + 1, Default::default);
        }
        if !self.by_user[user.index()].contains(&id) {
            self.by_user[user.index()].push(id);
        }
    }
}

impl UpdateState {
    /// What the server granted, if it has.
    pub(super) const fn granted(self) -> Option<Upstream> {
        if let Self::Granted(upstream) = self { Some(upstream) } else { None }
    }
}

impl Update {
    const fn removal(binding: SlotId, cseq: u32) -> Self {
        Self {
            binding: Some(binding),
            is_new: false,
            said: None,
            cseq,
            lease: Duration::ZERO,
            state: UpdateState::Queued,
        }
    }

    const fn query(cseq: u32) -> Self {
        Self {
            binding: None,
            is_new: false,
            said: None,
            cseq,
            lease: Duration::ZERO,
            state: UpdateState::Queued,
        }
    }
}

impl Binding {
    /// A place for a binding that is not the user's yet.
    fn reserved(user: Option<UserId>, aor: &Aor, said: Said, flow: Flow, now: Uptime) -> Self {
        Self {
            user: user.unwrap_or(NOBODY),
            aor: aor.clone(),
            said,
            cseq: 0,
            flow,
            lease: Duration::ZERO,
            lease_until: now,
            version: 0,
            upstream_cseq: 0,
            gone: false,
            claimed: true,
            durable: false,
            upstream: smallvec::SmallVec::new(),
            step: Step::Idle,
            trouble: None,
            run: None,
            standing: Standing::Gone,
            wakes_at: Uptime::NEVER,
            repeat: Repeat::NONE,
        }
    }

    /// Whether it is anybody's.
    pub(crate) fn is_reserved(&self) -> bool {
        self.version == 0
    }

    /// Forgets that `server` may hold it in this way.
    pub(crate) fn forget_upstream_by(&mut self, server: ServerId, by: By) {
        self.upstream.retain(|upstream| upstream.server != server || upstream.by != by);
    }
}
