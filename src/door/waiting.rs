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

use bytes::Bytes;

use crate::cluster::ServerId;
use crate::decision::{Login, Outcome, Plane, decide, no_room};
use crate::directory::record::Change;
use crate::directory::{Aor, UserId};
use crate::door::ledger::{Continuation, Waker};
use crate::door::slots::SlotId;
use crate::door::update::{Update, UpdateState};
use crate::door::wish::{Refusal, Wish};
use crate::door::{Auth, Door, Timer, UnknownUsers};
use crate::now::Now;
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
    pub(crate) stage: Stage,
    /// Whose facts it waits for.
    waker: Option<Waker>,
    /// Where a server said that they belong, and how many have said so (D9).
    pub(crate) sent_to: Option<ServerId>,
    pub(crate) redirects: u8,
    pub(crate) updates: Vec<Update>,
    /// Headers of the server's 200 that the phone is to see.
    pub(crate) relayed: Vec<(HeaderName, Bytes)>,
}

/// What a [`Waiting`] waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
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

impl Door {
    pub(super) fn start_waiting(
        &mut self,
        now: Now,
        flow: Flow,
        (request, wish): (&Message, &Wish<'_>),
        aor: Aor,
        transaction: ServerTransactionId,
    ) {
        let turns = self.turns.get(&aor).map_or(0, |turns| turns.len());
        let waiting = Waiting {
            transaction,
            // What waits keeps its own octets alone, not all that arrived beside them.
            request: request.detached(),
            flow,
            aor: aor.clone(),
            stage: Stage::Turn,
            waker: None,
            sent_to: None,
            redirects: 0,
            updates: Vec::new(),
            relayed: Vec::new(),
        };
        let placed = if turns < TURNS_MAX { self.waiting.insert(waiting) } else { Err(waiting) };
        let id = match placed {
            Ok(id) => id,
            Err(waiting) => return self.shed_waiting(now, &waiting),
        };
        self.turns.entry(aor).or_default().push(id);
        self.timers.set(now.uptime + self.settings.sip.patience, Timer::Patience(id));
        if turns == 0 {
            self.decide_wish(now, id, Some(wish));
        }
    }

    /// Decides a REGISTER whose turn it is, from the facts as they are now.
    pub(super) fn decide_waiting(&mut self, now: Now, id: SlotId) {
        self.decide_wish(now, id, None);
    }

    /// The same; without its wish it is read again.
    fn decide_wish(&mut self, now: Now, id: SlotId, wish: Option<&Wish<'_>>) {
        let Some(waiting) = self.waiting.get(id) else { return };
        let aor = waiting.aor.clone();
        let Some(user) = self.directory.by_aor(aor.as_str()) else {
            return self.decide_stranger(now, id, &aor, wish);
        };
        if self.ledger.is_recording(user) {
            return self.wait_for(id, Waker::User(user), Stage::Ledger);
        }
        if self.goes_home_by_order(now, user) {
            return self.wait_for(id, Waker::User(user), Stage::Ledger);
        }
        if let Err(refusal) = self.plan_updates(now, id, Some(user), wish) {
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
    fn decide_stranger(&mut self, now: Now, id: SlotId, aor: &Aor, wish: Option<&Wish<'_>>) {
        if self.ledger.importing {
            return self.block_waiting(now, id, true);
        }
        let full = self.directory.len() >= self.settings.limits.users;
        if self.settings.unknown_users == UnknownUsers::Reject {
            return self.refuse_waiting(now, id, 404);
        }
        if self.takes_phones_word() && !self.wants_to_be_reached(id) {
            return self.answer_waiting(now, id);
        }
        let policy = &self.settings.decision.placement;
        let (view, directory) = (self.view(), &self.directory);
        let challenger = self.waiting.get(id).and_then(|w| self.challenger_of(&w.request));
        let sent_to = self.waiting.get(id).and_then(|waiting| waiting.sent_to);
        let placed = match sent_to.or(challenger) {
            // The answer to a challenge goes where that came from, a user where a server says.
            Some(server) if placement::takes_stranger(server, &view, directory, policy) => {
                Ok(server)
            }
            _ => placement::place_stranger(aor.as_str(), &view, directory, policy),
        };
        let server = match placed {
            Ok(server) if self.is_crowded(server) => {
                self.stats.shed_lane += 1;
                return self.block_waiting(now, id, true);
            }
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
        match self.plan_updates(now, id, None, wish) {
            Ok(()) => self.carry_updates(now, id, server),
            Err(refusal) => self.refuse_waiting_for(now, id, refusal),
        }
    }

    /// Whether a stranger would wait too long for this server, or for what is behind it.
    fn is_crowded(&self, server: ServerId) -> bool {
        self.lanes[server.index()].is_crowded() || self.systems_are_crowded(server)
    }

    fn wait_for(&mut self, id: SlotId, waker: Waker, stage: Stage) {
        if let Some(waiting) = self.waiting.get_mut(id) {
            waiting.stage = stage;
            if let Some(before) = waiting.waker.replace(waker) {
                self.ledger.forget_wakeup(before, id);
            }
            self.ledger.wake_with(waker, id);
        }
    }

    /// Whoever waited for this user's record or server decides again.
    pub(super) fn wake_waiting(&mut self, now: Now, user: UserId) {
        self.wake(now, Waker::User(user));
        self.wake_sessions_of(now, user);
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
        self.wake_waiting_sessions(now);
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
                Some(_) => {
                    let granted = update.state.granted();
                    self.apply_put(now, user, flow, binding, update);
                    if let Some(upstream) = granted {
                        self.count_rehomed(now, binding, upstream.server);
                    }
                }
                None => self.apply_removal(now, binding, &update),
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
        // What is to be written goes its way when it is durable: a server that was told of a removal
        // which a crash then forgets would not be asked for the binding again.
        for &binding in &touched {
            if !written.iter().any(|&(changed, _)| changed == binding) {
                self.reconcile(now, binding);
            }
        }
        if changes.is_empty() {
            // A removal that could not be written may be just the one that is asked for: a 200 would
            // be forgotten by a restart, and the binding would be back.
            if self.ledger.has_unwritten_removals() && self.asks_for_a_removal(id) {
                return self.block_waiting(now, id, true);
            }
            return self.answer_waiting(now, id);
        }
        self.record_changes(changes, Continuation::Answer { waiting: id, written });
    }

    /// Durable, or nothing to write: the phone gets its 200.
    pub(super) fn answer_waiting(&mut self, now: Now, id: SlotId) {
        let Some(waiting) = self.waiting.get(id) else { return };
        let aor = waiting.aor.clone();
        let user = self.directory.by_aor(aor.as_str());
        if let (Some(user), true) = (user, waiting.relayed.is_empty() && self.takes_phones_word()) {
            return self.grant_waiting(now, id, user);
        }
        let request = waiting.request.clone();
        let mut response = match user {
            Some(user) => self.response_with_bindings(now, &request, &aor, user),
            None => Response::to(&request, 200),
        };
        let relayed = self.waiting.get(id).map(|waiting| waiting.relayed.iter());
        for (name, value) in relayed.into_iter().flatten() {
            response = response.header(*name, value);
        }
        self.respond_waiting(now, id, 200, response);
    }

    /// A 200 that says nothing but what the door knows is made anew for a retransmission, so
    /// nothing of it is kept.
    fn grant_waiting(&mut self, now: Now, id: SlotId, user: UserId) {
        let Some(waiting) = self.waiting.remove(id) else { return };
        let Waiting { transaction, request, aor, .. } = &waiting;
        if let Some(flow) = self.transactions.respond_unkept(now.uptime, *transaction) {
            self.answer_with_bindings(now, flow, request, aor, user);
        }
        self.end_waiting(now, id, &waiting);
    }

    /// A retransmission of a REGISTER that was granted.
    pub(super) fn grant_again(&mut self, now: Now, flow: Flow, request: &Message, aor: &Aor) {
        self.stats.retransmissions_absorbed += 1;
        if let Some(user) = self.directory.by_aor(aor.as_str()) {
            self.answer_with_bindings(now, flow, request, aor, user);
        }
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
        self.end_waiting(now, id, &waiting);
    }

    /// It is answered: whoever stood behind it has their turn.
    fn end_waiting(&mut self, now: Now, id: SlotId, waiting: &Waiting) {
        if let Some(waker) = waiting.waker {
            self.ledger.forget_wakeup(waker, id);
        }
        let next = match self.turns.get_mut(&waiting.aor) {
            Some(turns) => {
                turns.retain(|&mut turn| turn != id);
                turns.first().copied()
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
}
