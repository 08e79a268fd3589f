//! A REGISTER that needs the ledger, a server or the store before it can be answered.
//!
//! ```text
//!            ┌──────── its turn comes (one REGISTER of an AoR at a time) ────────┐
//!  Turn ─────┤                                                                   ▼
//!            └──▶ decide ──▶ Ledger (a home or a relocation is being recorded) ──▶ decide again
//!                   │ ├────▶ Pool   (its server failed; nobody is moved yet) ────▶ decide again
//!                   │ └────▶ Server (REGISTERs are out, one a contact)
//!                   ▼              │ all granted          │ one refused
//!                 refused          ▼                      ▼
//!                                Store ──▶ 200          undone, refused
//! ```

use std::time::Duration;

use bytes::Bytes;

use crate::cluster::ServerId;
use crate::decision::{Login, Outcome, Plane, decide, no_room};
use crate::directory::record::Change;
use crate::directory::{Aor, UserId};
use crate::door::binding::{Binding, By, Said, Standing, Step, Upstream};
use crate::door::ledger::{Continuation, Waker};
use crate::door::slots::SlotId;
use crate::door::wish::{Refusal, Wish};
use crate::door::{Auth, Door, Timer, UnknownUsers};
use crate::now::{Now, Uptime};
use crate::placement;
use crate::sip::transaction::ServerTransactionId;
use crate::sip::{Flow, HeaderName, Message, Response};

/// REGISTERs of one AoR that may wait for their turn; more are answered 503.
const TURNS_MAX: usize = 8;

/// A phone's REGISTER, not answered yet.
#[derive(Debug)]
pub(crate) struct Waiting {
    transaction: ServerTransactionId,
    pub(crate) request: Message,
    pub(crate) flow: Flow,
    pub(crate) aor: Aor,
    stage: Stage,
    pub(crate) updates: Vec<Update>,
    /// Headers of the server's 200 that the phone is to see.
    relayed: Vec<(HeaderName, Bytes)>,
}

/// What a [`Waiting`] waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// For another REGISTER of the same AoR to be done.
    Turn,
    /// For a home or a relocation to be recorded.
    Ledger,
    /// For its server to come back, or for its user to be moved.
    Pool,
    /// For this server to answer.
    Server(ServerId),
    /// For the bindings to be durable.
    Store,
}

/// One contact's part of a [`Waiting`].
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

impl Door {
    pub(super) fn start_waiting(
        &mut self,
        now: Now,
        flow: Flow,
        request: Message,
        aor: Aor,
        transaction: ServerTransactionId,
    ) {
        let turns = self.turns.get(&aor).map_or(0, std::collections::VecDeque::len);
        let waiting = Waiting {
            transaction,
            request,
            flow,
            aor: aor.clone(),
            stage: Stage::Turn,
            updates: Vec::new(),
            relayed: Vec::new(),
        };
        let placed = if turns < TURNS_MAX { self.waiting.insert(waiting) } else { Err(waiting) };
        let id = match placed {
            Ok(id) => id,
            Err(waiting) => return self.shed_waiting(now, &waiting),
        };
        self.turns.entry(aor).or_default().push_back(id);
        self.timers.set(now.uptime + self.settings.sip.patience, Timer::Patience(id));
        if turns == 0 {
            self.decide_waiting(now, id);
        }
    }

    /// Decides a REGISTER whose turn it is, from the facts as they are now.
    pub(super) fn decide_waiting(&mut self, now: Now, id: SlotId) {
        let Some(waiting) = self.waiting.get(id) else { return };
        let aor = waiting.aor.clone();
        let Some(user) = self.directory.by_aor(aor.as_str()) else {
            return self.decide_stranger(now, id, &aor);
        };
        if self.ledger.is_recording(user) {
            return self.wait_for(id, Waker::User(user), Stage::Ledger);
        }
        if let Err(refusal) = self.plan_updates(now, id, Some(user)) {
            return self.refuse_waiting_for(now, id, refusal);
        }
        let view = self.view();
        let login = Login { plane: Plane::Sip, user, reached: None };
        let policy = &self.settings.decision;
        let verdict = decide(&login, &view, &self.directory, policy, now.uptime);
        match verdict.outcome {
            Outcome::Accept(server) | Outcome::Forward(server) => {
                self.carry_updates(now, id, server);
            }
            Outcome::AssignHome(server) => {
                self.wait_for(id, Waker::User(user), Stage::Ledger);
                self.record_home(now, user, server);
            }
            Outcome::Relocate(server) => {
                self.wait_for(id, Waker::User(user), Stage::Ledger);
                self.record_relocation(now, user, server);
            }
            Outcome::Hold => self.hold_updates(now, id, user),
            Outcome::Block { retry } => self.block_waiting(now, id, retry),
        }
    }

    /// An AoR nobody knows (D6).
    fn decide_stranger(&mut self, now: Now, id: SlotId, aor: &Aor) {
        let full = self.directory.len() >= self.settings.limits.users;
        if self.settings.unknown_users == UnknownUsers::Reject {
            return self.refuse_waiting(now, id, 404);
        }
        if self.takes_phones_word() && !self.wants_to_be_reached(id) {
            return self.answer_waiting(now, id);
        }
        let policy = &self.settings.decision.placement;
        let placed = placement::place_stranger(aor.as_str(), &self.view(), &self.directory, policy);
        let server = match placed {
            Ok(server) if !full => server,
            Err(_) if no_room(&self.view()).outcome == Outcome::Hold => {
                return self.wait_for(id, Waker::Strangers, Stage::Pool);
            }
            _ => return self.block_waiting(now, id, true),
        };
        if self.settings.sip.auth == Auth::None {
            if let Some(waiting) = self.waiting.get_mut(id) {
                waiting.stage = Stage::Ledger;
            }
            return self.record_adoption(now, id, aor, server);
        }
        // Nobody becomes a user by asking: only the server's 200 makes one.
        match self.plan_updates(now, id, None) {
            Ok(()) => self.carry_updates(now, id, server),
            Err(refusal) => self.refuse_waiting_for(now, id, refusal),
        }
    }

    /// Whether a REGISTER asks for a binding; nobody becomes a user by a query or a removal.
    fn wants_to_be_reached(&self, id: SlotId) -> bool {
        self.waiting.get(id).is_some_and(|waiting| {
            Wish::read(&waiting.request, &self.settings.sip)
                .is_ok_and(|wish| wish.contacts.iter().any(|wanted| !wanted.lease.is_zero()))
        })
    }

    fn wait_for(&mut self, id: SlotId, waker: Waker, stage: Stage) {
        if let Some(waiting) = self.waiting.get_mut(id) {
            waiting.stage = stage;
            self.ledger.wake_with(waker, id);
        }
    }

    /// Whoever waited for this user's record or server decides again.
    pub(super) fn wake_waiting(&mut self, now: Now, user: UserId) {
        self.wake(now, Waker::User(user));
    }

    fn wake(&mut self, now: Now, waker: Waker) {
        for id in self.ledger.take_wakeups(waker) {
            let stage = self.waiting.get(id).map(|waiting| waiting.stage);
            if matches!(stage, Some(Stage::Ledger | Stage::Pool)) {
                self.decide_waiting(now, id);
            }
        }
    }

    /// The pool looks different: whoever waited for it decides again.
    pub(super) fn wake_all_waiting(&mut self, now: Now) {
        for waker in self.ledger.wakers() {
            self.wake(now, waker);
        }
    }

    /// Turns the request into updates, against the bindings as they are now.
    fn plan_updates(&mut self, now: Now, id: SlotId, user: Option<UserId>) -> Result<(), Refusal> {
        self.drop_reserved(id);
        let Some(waiting) = self.waiting.get(id) else { return Ok(()) };
        let (request, aor, flow) = (waiting.request.clone(), waiting.aor.clone(), waiting.flow);
        let wish = Wish::read(&request, &self.settings.sip)?;
        let mine: Vec<SlotId> = user
            .map(|user| self.bindings_of(user).to_vec())
            .unwrap_or_default()
            .into_iter()
            .filter(|&id| self.bindings.get(id).is_some_and(|b| !b.gone && b.aor == aor))
            .collect();
        let mut updates = self.updates_for(&wish, &mine)?;
        let count = |of: fn(&Update) -> bool| updates.iter().filter(|update| of(update)).count();
        let (added, removed) =
            (count(|update| update.is_new), count(|update| update.said.is_none()));
        if added > 0 && mine.len() + added > self.settings.limits.bindings_per_aor + removed {
            return Err(Refusal::TooMany);
        }
        for update in updates.iter_mut().filter(|update| update.is_new) {
            let Some(said) = update.said.clone() else { continue };
            let reserved = Binding::reserved(user, &aor, said, flow, now.uptime);
            update.binding = Some(self.bindings.insert(reserved).map_err(|_| Refusal::TooMany)?);
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
        Ok(())
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

    /// Sends what must be sent to `server` for this REGISTER.
    fn carry_updates(&mut self, now: Now, id: SlotId, server: ServerId) {
        let Some(waiting) = self.waiting.get_mut(id) else { return };
        waiting.stage = Stage::Server(server);
        let mut sends = Vec::new();
        for (index, update) in waiting.updates.iter().enumerate() {
            if update.state == UpdateState::Queued {
                sends.push(index);
            }
        }
        if sends.is_empty() {
            return self.finish_waiting(now, id);
        }
        self.stats.registers_passed_on += 1;
        for index in sends {
            self.queue_update(server, id, index);
        }
        self.pump_lane(now, server);
    }

    /// Its server failed and nobody is moved yet: what the door knows is answered, the rest waits.
    fn hold_updates(&mut self, now: Now, id: SlotId, user: UserId) {
        let word_counts = self.takes_phones_word();
        let mut can_answer = true;
        let lease_max = self.settings.sip.lease_min;
        if let Some(waiting) = self.waiting.get(id) {
            for update in &waiting.updates {
                let known = update.binding.and_then(|binding| self.bindings.get(binding));
                let refresh = match (known, &update.said) {
                    (Some(known), Some(said)) if !update.is_new => {
                        word_counts || (known.flow == waiting.flow && known.said == *said)
                    }
                    (Some(_), None) => word_counts,
                    _ => false,
                };
                can_answer &= refresh;
            }
        }
        if !can_answer {
            return self.wait_for(id, Waker::User(user), Stage::Pool);
        }
        if let Some(waiting) = self.waiting.get_mut(id) {
            for update in &mut waiting.updates {
                update.state = UpdateState::Taken;
                update.lease = update.lease.min(lease_max);
            }
        }
        self.stats.registers_held += 1;
        self.finish_waiting(now, id);
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

    /// Everything is granted: the bindings change, the store is asked, then the phone is answered.
    pub(super) fn finish_waiting(&mut self, now: Now, id: SlotId) {
        let Some(waiting) = self.waiting.get_mut(id) else { return };
        waiting.stage = Stage::Store;
        let updates = std::mem::take(&mut waiting.updates);
        let (aor, flow) = (waiting.aor.clone(), waiting.flow);
        let Some(user) = self.directory.by_aor(aor.as_str()) else { return };
        let mut touched = Vec::new();
        for update in updates {
            let Some(binding) = update.binding else { continue };
            match &update.said {
                Some(_) => self.apply_put(now, user, flow, binding, update),
                None => self.apply_removal(binding, &update),
            }
            touched.push(binding);
        }
        let mut changes = Vec::new();
        let mut written = Vec::new();
        for &binding in &touched {
            let Some(kept) = self.bindings.get(binding) else { continue };
            if !kept.durable {
                let change = if kept.gone && kept.upstream.is_empty() {
                    Change::Forget { binding: binding.to_u64() }
                } else {
                    Change::Binding(self.binding_record(now, binding, kept))
                };
                changes.push(change);
                written.push((binding, kept.version));
            }
        }
        for &binding in &touched {
            self.reconcile(now, binding);
        }
        if changes.is_empty() {
            return self.answer_waiting(now, id);
        }
        self.record_changes(changes, Continuation::Answer { waiting: id, written });
    }

    fn apply_put(&mut self, now: Now, user: UserId, flow: Flow, id: SlotId, update: Update) {
        let granted = match update.state {
            UpdateState::Granted(upstream) => Some(upstream),
            _ => None,
        };
        let Some(binding) = self.bindings.get_mut(id) else { return };
        let Some(said) = update.said else { return };
        let changed = update.is_new || binding.said != said || binding.flow != flow;
        if changed {
            binding.version = binding.version.wrapping_add(1);
            binding.durable = false;
        }
        binding.user = user;
        binding.said = said;
        binding.flow = flow;
        binding.trouble = None;
        let version = binding.version;
        if let Some(mut upstream) = granted {
            upstream.version = Some(version);
            self.note_upstream(id, upstream);
        }
        self.extend_lease(now, id, update.lease, update.cseq);
        if update.is_new {
            if self.by_user.len() <= user.index() {
                self.by_user.resize_with(user.index() + 1, Default::default);
            }
            self.by_user[user.index()].push(id);
        }
    }

    fn apply_removal(&mut self, id: SlotId, update: &Update) {
        self.leave_failover(id);
        if let UpdateState::Granted(upstream) = update.state {
            self.drop_upstream(id, upstream.server, upstream.by);
        }
        let Some(binding) = self.bindings.get_mut(id) else { return };
        binding.gone = true;
        binding.durable = false;
        binding.version = binding.version.wrapping_add(1);
        binding.cseq = update.cseq;
    }

    /// Durable, or nothing to write: the phone gets its 200.
    pub(super) fn answer_waiting(&mut self, now: Now, id: SlotId) {
        let Some(waiting) = self.waiting.get(id) else { return };
        let (request, aor) = (waiting.request.clone(), waiting.aor.clone());
        let mut response = match self.directory.by_aor(aor.as_str()) {
            Some(user) => self.response_with_bindings(now, &request, &aor, user),
            None => Response::to(&request, 200),
        };
        for (name, value) in &waiting.relayed {
            response = response.header(*name, value);
        }
        self.respond_waiting(now, id, 200, response);
    }

    /// The server refused one contact, so none is registered (RFC 3261 §10.3 step 7: all or none).
    pub(super) fn refuse_waiting_with(
        &mut self,
        now: Now,
        id: SlotId,
        status: u16,
        response: Response,
    ) {
        self.stats.registers_refused += 1;
        self.undo_updates(now, id);
        self.respond_waiting(now, id, status, response);
    }

    pub(super) fn refuse_waiting(&mut self, now: Now, id: SlotId, status: u16) {
        let Some(waiting) = self.waiting.get(id) else { return };
        let response = Response::to(&waiting.request, status);
        self.refuse_waiting_with(now, id, status, response);
    }

    fn refuse_waiting_for(&mut self, now: Now, id: SlotId, refusal: Refusal) {
        let Some(waiting) = self.waiting.get(id) else { return };
        let request = waiting.request.clone();
        let response = self.refusal_response(&request, refusal);
        let status = match refusal {
            Refusal::TooBrief => 423,
            Refusal::OutOfOrder => 500,
            Refusal::TooMany => 403,
            Refusal::Malformed(_) | Refusal::BadContacts | Refusal::ContactScheme => 400,
        };
        self.refuse_waiting_with(now, id, status, response);
    }

    /// Come back later (503 + Retry-After), or not at all (403).
    pub(super) fn block_waiting(&mut self, now: Now, id: SlotId, retry: bool) {
        if !retry {
            return self.refuse_waiting(now, id, 403);
        }
        let retry_after = self.retry_after().to_string();
        let Some(waiting) = self.waiting.get(id) else { return };
        let response =
            Response::to(&waiting.request, 503).header(HeaderName::RetryAfter, retry_after);
        self.refuse_waiting_with(now, id, 503, response);
    }

    /// The server has failed under it: decided again, the phone notices nothing (M5).
    pub(super) fn redecide_waiting(&mut self, now: Now, id: SlotId) {
        self.undo_updates(now, id);
        self.decide_waiting(now, id);
    }

    pub(super) fn lose_patience(&mut self, now: Now, id: SlotId) {
        if self.waiting.get(id).is_some_and(|waiting| waiting.stage != Stage::Store) {
            self.block_waiting(now, id, true);
        }
    }

    fn shed_waiting(&mut self, now: Now, waiting: &Waiting) {
        self.stats.shed_overload += 1;
        self.stats.registers_refused += 1;
        let retry_after = self.retry_after().to_string();
        let response =
            Response::to(&waiting.request, 503).header(HeaderName::RetryAfter, retry_after);
        let bytes = self.finish_response(waiting.flow, &waiting.request, response);
        if let Some(flow) =
            self.transactions.respond(now.uptime, waiting.transaction, bytes.clone(), 503)
        {
            self.send(flow, bytes);
        }
    }

    fn respond_waiting(&mut self, now: Now, id: SlotId, status: u16, response: Response) {
        let Some(waiting) = self.waiting.remove(id) else { return };
        let theirs = waiting.relayed.iter().any(|(name, _)| *name == HeaderName::Server);
        let bytes = if theirs && status < 300 {
            self.finish_without_server(waiting.flow, &waiting.request, response)
        } else {
            self.finish_response(waiting.flow, &waiting.request, response)
        };
        let transaction = waiting.transaction;
        if let Some(flow) =
            self.transactions.respond(now.uptime, transaction, bytes.clone(), status)
        {
            self.send(flow, bytes);
        }
        let next = match self.turns.get_mut(&waiting.aor) {
            Some(turns) => {
                turns.retain(|&turn| turn != id);
                turns.front().copied()
            }
            None => None,
        };
        match next {
            Some(next) => {
                if self.waiting.get(next).is_some_and(|next| next.stage == Stage::Turn) {
                    self.decide_waiting(now, next);
                }
            }
            None => {
                self.turns.remove(&waiting.aor);
            }
        }
    }

    /// Takes back what a REGISTER has changed so far: bindings it would have made go, bindings it
    /// would have changed are told to their server again as they were.
    fn undo_updates(&mut self, now: Now, id: SlotId) {
        let Some(waiting) = self.waiting.get_mut(id) else { return };
        let updates = std::mem::take(&mut waiting.updates);
        for update in updates {
            let Some(binding) = update.binding else { continue };
            let granted = match update.state {
                UpdateState::Granted(upstream) => Some(upstream),
                _ => None,
            };
            if update.is_new {
                self.abandon_reserved(binding, update.state, granted);
            } else if let Some(mut upstream) = granted {
                upstream.version = None;
                self.note_upstream(binding, upstream);
            }
            self.reconcile(now, binding);
        }
    }

    /// A place taken for a binding that will not be: kept while a server may have heard of it.
    fn abandon_reserved(&mut self, id: SlotId, state: UpdateState, granted: Option<Upstream>) {
        if let Some(upstream) = granted {
            self.note_upstream(id, upstream);
        }
        let in_flight = state == UpdateState::InFlight;
        if let Some(binding) = self.bindings.get_mut(id) {
            binding.gone = true;
            if binding.upstream.is_empty() && !in_flight {
                self.bindings.remove(id);
            }
        }
    }

    fn drop_reserved(&mut self, id: SlotId) {
        let Some(waiting) = self.waiting.get_mut(id) else { return };
        for update in std::mem::take(&mut waiting.updates) {
            if let (true, Some(binding)) = (update.is_new, update.binding) {
                self.abandon_reserved(binding, update.state, None);
            }
        }
    }

    /// A step of the door's own is over: an update that stood behind it may go.
    pub(super) fn release_updates_behind(&mut self, now: Now, binding: SlotId) {
        let Some(aor) = self.bindings.get(binding).map(|binding| binding.aor.clone()) else {
            return;
        };
        let Some(&id) = self.turns.get(&aor).and_then(|turns| turns.front()) else { return };
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
            user: user.unwrap_or(UserId(u32::MAX)),
            aor: aor.clone(),
            said,
            cseq: 0,
            flow,
            lease: Duration::ZERO,
            lease_until: now,
            version: 0,
            upstream_cseq: 0,
            gone: false,
            durable: false,
            upstream: smallvec::SmallVec::new(),
            step: Step::Idle,
            trouble: None,
            failover: None,
            standing: Standing::Gone,
            wakes_at: Uptime::NEVER,
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
