//! Bindings are brought to where they should be registered, and away from where they should not.
//!
//! There is one rule for a first registration, a refresh, a move, a removal, a sweep and a
//! restart: [`Door::reconcile`] compares what should be (the user's current server, this version)
//! with what is ([`Binding::upstream`]) and takes one step. Whatever changes — the phone, the
//! ledger, a server — only changes one of the two sides and reconciles again, so a stale step has
//! nothing to do by the time its turn comes (M4).

use std::time::Duration;

use crate::cluster::{ServerId, State};
use crate::directory::record::Change;
use crate::door::binding::{Binding, By, Standing, Step, Trouble, Upstream};
use crate::door::lane::{Turn, Urgency};
use crate::door::ledger::Continuation;
use crate::door::slots::SlotId;
use crate::door::systems::SystemSet;
use crate::door::update::UpdateState;
use crate::door::{Door, Timer};
use crate::now::{Now, Uptime};

/// A phone that is to refresh within this time goes last in a move: it will come by itself (M7).
const DUE_SOON: Duration = Duration::from_secs(5);

/// What a binding needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// To be told to this server.
    Register(ServerId),
    /// To be removed there.
    Remove(ServerId, By),
    /// Nothing before this time.
    Wait(Uptime),
    /// To be forgotten: it is gone and no server knows it.
    Forget,
}

impl Door {
    /// Takes the next step for a binding, or sets its timer.
    pub(super) fn reconcile(&mut self, now: Now, id: SlotId) {
        self.drop_expired_upstreams(now, id);
        let Some(binding) = self.bindings.get(id) else { return };
        if binding.claimed || matches!(binding.step, Step::InFlight(_)) {
            return self.restand(now, id);
        }
        let need = self.need(now.uptime, binding);
        if let Step::Queued(server) = binding.step {
            // Who waits for a telephone system may wait for long, and something else be due meanwhile.
            if matches!(need, Need::Register(to) | Need::Remove(to, _) if to == server) {
                return self.restand(now, id);
            }
            self.idle(id);
        }
        let Some(binding) = self.bindings.get(id) else { return };
        match need {
            Need::Register(server) => {
                let urgency = self.urgency(now.uptime, binding);
                self.enqueue(now, id, server, urgency);
            }
            Need::Remove(server, _) => self.enqueue(now, id, server, Urgency::Background),
            Need::Wait(at) => self.wake_binding_at(id, at),
            Need::Forget => return self.forget(now, id),
        }
        self.restand(now, id);
    }

    /// The rule: what should be, compared with what is.
    pub(super) fn need(&self, now: Uptime, binding: &Binding) -> Need {
        let view = self.health.view();
        let wanted = if binding.gone { None } else { self.current(binding.user) };
        let reachable = |server: ServerId| !view.server(server).is_dead();
        let mut settled = false;
        let mut wait = if binding.gone { Uptime::NEVER } else { self.lapse_at(binding, now) };
        let backing_off = match binding.trouble {
            Some(Trouble::Backoff { until, .. } | Trouble::SentAway { until }) if until > now => {
                wait = wait.min(until);
                true
            }
            _ => false,
        };
        if let Some(server) = wanted {
            let by = self.lanes[server.index()].by;
            let told = binding.upstream.iter().find(|u| u.server == server && u.by == by);
            let fresh = told.filter(|u| u.version == Some(binding.version) && u.refresh_at > now);
            match (fresh, binding.trouble) {
                (Some(upstream), _) => {
                    settled = true;
                    wait = wait.min(upstream.refresh_at);
                }
                (None, Some(Trouble::Challenged | Trouble::Refused(_) | Trouble::NoPath)) => {}
                (None, _) if reachable(server) && !backing_off => return Need::Register(server),
                (None, _) => {}
            }
        }
        for upstream in &binding.upstream {
            let by = self.lanes[upstream.server.index()].by;
            let here = Some(upstream.server) == wanted && upstream.by == by;
            // Registered without our Path it leads past the door.
            let useless = here && binding.trouble == Some(Trouble::NoPath);
            if here && !useless {
                continue;
            }
            wait = wait.min(upstream.expires_at);
            // New first, then remove the old — but a server in probation is cleaned in any case.
            let probation = view.server(upstream.server).state == State::Probation;
            let due = wanted.is_none() || settled || probation || useless;
            if reachable(upstream.server) && due && !backing_off {
                return Need::Remove(upstream.server, upstream.by);
            }
        }
        if binding.gone && binding.upstream.is_empty() { Need::Forget } else { Need::Wait(wait) }
    }

    fn urgency(&self, now: Uptime, binding: &Binding) -> Urgency {
        let known_there = self
            .current(binding.user)
            .and_then(|server| binding.at(server))
            .is_some_and(|upstream| upstream.expires_at > now);
        // Nobody waits for those who go home: whoever lost their server goes first.
        let goes_home = binding.run.is_some_and(|run| self.is_in_peace(run));
        if goes_home || (known_there && binding.run.is_none()) {
            return Urgency::Background;
        }
        // Phones refresh at half their lease or towards its end.
        let half = binding.lease / 2;
        let left = binding.lease_until.since(now);
        let due = left < DUE_SOON || (left >= half && left.saturating_sub(half) < DUE_SOON);
        if due { Urgency::Returning } else { Urgency::Moving }
    }

    fn enqueue(&mut self, now: Now, id: SlotId, server: ServerId, urgency: Urgency) {
        if let Some(binding) = self.bindings.get_mut(id) {
            binding.step = Step::Queued(server);
            self.lanes[server.index()].push_step(id, urgency);
            self.pump_lane(now, server);
        }
    }

    /// Hands an update of a waiting REGISTER to the lane.
    pub(super) fn queue_update(&mut self, server: ServerId, waiting: SlotId, index: usize) {
        self.lanes[server.index()].push_update(waiting, index);
    }

    /// Lets go whoever the window and the pace allow.
    pub(super) fn pump_lane(&mut self, now: Now, server: ServerId) {
        if std::mem::replace(&mut self.lanes[server.index()].pumping, true) {
            // Whoever lets go here already goes on until nobody is left.
            return;
        }
        self.pump_turns(now, server);
        self.lanes[server.index()].pumping = false;
    }

    fn pump_turns(&mut self, now: Now, server: ServerId) {
        while self.lanes[server.index()].has_turns() {
            if self.wait_for_pace(now, server) {
                return;
            }
            if self.holds_more_pressing(now.uptime, server) {
                self.pump_held(now);
                if self.wait_for_pace(now, server) {
                    return;
                }
            }
            match self.lanes[server.index()].take_turn() {
                Some(Turn::Update(waiting, index)) => {
                    self.send_update(now, server, waiting, index, SystemSet::NONE);
                }
                Some(Turn::Step(id, urgency)) => {
                    self.take_step(now, server, id, urgency, SystemSet::NONE);
                }
                Some(Turn::Sample(id)) => self.send_sample(now, server, id),
                None => break,
            }
        }
        if self.lanes[server.index()].holds() && !self.wait_for_pace(now, server) {
            self.pump_held(now);
        }
    }

    /// Whether the lane's pace allows nobody now; then it is woken when it does.
    fn wait_for_pace(&mut self, now: Now, server: ServerId) -> bool {
        let lane = &mut self.lanes[server.index()];
        let wait = lane.pacer.wait_until(now.uptime);
        if let Some(at) = wait.filter(|_| !lane.woken) {
            self.timers.set(at, Timer::Lane(server));
        }
        lane.woken = wait.is_some();
        wait.is_some()
    }

    /// An update's turn has come; the telephone systems it has waited for, if any.
    pub(super) fn send_update(
        &mut self,
        now: Now,
        server: ServerId,
        id: SlotId,
        index: usize,
        waited: SystemSet,
    ) {
        let Some(waiting) = self.waiting.get(id) else { return };
        let Some(update) = waiting.updates.get(index) else { return };
        if update.state != UpdateState::Queued {
            return;
        }
        let told = self.systems_told_by_phone(now.uptime, server, id, index);
        if !waited.has_all(told) {
            return self.hold(server, Turn::Update(id, index), told);
        }
        let Some(waiting) = self.waiting.get_mut(id) else { return };
        let Some(update) = waiting.updates.get_mut(index) else { return };
        if let Some(binding) = update.binding.and_then(|id| self.bindings.get_mut(id)) {
            if matches!(binding.step, Step::InFlight(_)) {
                update.state = UpdateState::Behind;
                return;
            }
            binding.step = Step::InFlight(server);
        }
        update.state = UpdateState::InFlight;
        self.register_for_phone(now, server, id, index, false, told);
    }

    /// The turn of a step has come; the telephone systems it has waited for, if any.
    pub(super) fn take_step(
        &mut self,
        now: Now,
        server: ServerId,
        id: SlotId,
        urgency: Urgency,
        waited: SystemSet,
    ) {
        let Some(binding) = self.bindings.get(id) else { return };
        if binding.step != Step::Queued(server) {
            return;
        }
        if binding.claimed {
            return self.idle(id);
        }
        match self.need(now.uptime, binding) {
            Need::Register(target) if target == server => {
                let told = self.systems_told(now.uptime, server, id);
                if !waited.has_all(told) {
                    return self.hold(server, Turn::Step(id, urgency), told);
                }
                self.begin_step(id, server);
                self.register_for_door(now, server, id, false, told);
            }
            Need::Remove(target, by) if target == server => {
                self.begin_step(id, server);
                self.remove_for_door(now, server, by, id);
            }
            Need::Register(_) | Need::Remove(..) | Need::Wait(_) | Need::Forget => {
                self.idle(id);
                self.stats.stale_steps += 1;
                self.reconcile(now, id);
            }
        }
    }

    fn begin_step(&mut self, id: SlotId, server: ServerId) {
        if let Some(binding) = self.bindings.get_mut(id) {
            binding.step = Step::InFlight(server);
        }
    }

    /// A step is over, however it ended.
    pub(super) fn end_step(&mut self, now: Now, id: SlotId) {
        if let Some(binding) = self.bindings.get_mut(id) {
            binding.step = Step::Idle;
        }
        self.go_on(now, id);
    }

    /// Nothing is out for it: an update that stood behind goes first, then the door's own step.
    pub(super) fn go_on(&mut self, now: Now, id: SlotId) {
        self.release_updates_behind(now, id);
        self.reconcile(now, id);
    }

    pub(super) fn note_upstream(&mut self, id: SlotId, upstream: Upstream) {
        self.drop_upstream_entry(id, upstream.server, upstream.by);
        if let Some(binding) = self.bindings.get_mut(id) {
            binding.upstream.push(upstream);
            self.lanes[upstream.server.index()].bindings += 1;
        }
    }

    /// The server does not hold it any more.
    pub(super) fn drop_upstream(&mut self, id: SlotId, server: ServerId, by: By) {
        self.drop_upstream_entry(id, server, by);
        let still_there = self.bindings.get(id).is_some_and(|b| b.at(server).is_some());
        if !still_there && self.lanes[server.index()].sweep.remove(&id) {
            self.stats.swept += 1;
        }
    }

    fn drop_upstream_entry(&mut self, id: SlotId, server: ServerId, by: By) {
        let Some(binding) = self.bindings.get_mut(id) else { return };
        let before = binding.upstream.len();
        binding.forget_upstream_by(server, by);
        let dropped = before - binding.upstream.len();
        let lane = &mut self.lanes[server.index()];
        lane.bindings = lane.bindings.saturating_sub(dropped as u64);
    }

    /// A server forgets by itself what nobody refreshes.
    fn drop_expired_upstreams(&mut self, now: Now, id: SlotId) {
        let Some(binding) = self.bindings.get(id) else { return };
        let expired: Vec<(ServerId, By)> = binding
            .upstream
            .iter()
            .filter(|upstream| upstream.expires_at <= now.uptime)
            .map(|upstream| (upstream.server, upstream.by))
            .collect();
        for (server, by) in expired {
            self.drop_upstream(id, server, by);
        }
    }

    /// When the door gives a binding up: its lease and the grace are over.
    fn lapse_at(&self, binding: &Binding, now: Uptime) -> Uptime {
        // First at the end of the lease, when it stops counting; then at the end of the grace.
        if binding.lease_until > now {
            binding.lease_until
        } else {
            binding.lease_until + self.settings.sip.lapse_grace
        }
    }

    fn wake_binding_at(&mut self, id: SlotId, at: Uptime) {
        if at == Uptime::NEVER {
            return;
        }
        let Some(binding) = self.bindings.get_mut(id) else { return };
        if at < binding.wakes_at {
            binding.wakes_at = at;
            self.timers.set(at, Timer::Binding(id));
        }
    }

    pub(super) fn wake_binding(&mut self, now: Now, id: SlotId) {
        let Some(binding) = self.bindings.get_mut(id) else { return };
        if binding.wakes_at > now.uptime {
            return;
        }
        binding.wakes_at = Uptime::NEVER;
        let lapsed = !binding.gone && !binding.is_reserved() && !binding.claimed;
        let over = now.uptime >= binding.lease_until + self.settings.sip.lapse_grace;
        if lapsed && over {
            self.stats.leases_lapsed += 1;
            self.remove_binding(now, id);
        }
        self.reconcile(now, id);
    }

    /// A binding is over: the store forgets it, the servers are told.
    fn remove_binding(&mut self, now: Now, id: SlotId) {
        self.leave_run(now, id);
        let Some(binding) = self.bindings.get_mut(id) else { return };
        binding.gone = true;
        binding.version = binding.version.wrapping_add(1);
        let Some(binding) = self.bindings.get(id) else { return };
        if binding.upstream.is_empty() {
            return;
        }
        let record = self.binding_record(now, id, binding);
        self.record_changes(vec![Change::Binding(record)], Continuation::None);
    }

    fn forget(&mut self, now: Now, id: SlotId) {
        self.leave_run(now, id);
        self.restand(now, id);
        let Some(binding) = self.bindings.remove(id) else { return };
        self.forget_repeat(id, &binding);
        if let Some(bindings) = self.by_user.get_mut(binding.user.index()) {
            bindings.retain(|&mut other| other != id);
        }
        for lane in &mut self.lanes {
            lane.sweep.remove(&id);
        }
        self.leave_stream(id, binding.flow);
        if !binding.is_reserved() {
            let forget = Change::Forget { binding: id.to_u64() };
            self.record_changes(vec![forget], Continuation::None);
        }
    }

    /// Counts a binding where it stands now (M12).
    pub(super) fn restand(&mut self, now: Now, id: SlotId) {
        let Some(binding) = self.bindings.get(id) else { return };
        let standing = self.standing(now.uptime, binding);
        let before = binding.standing;
        if before != standing {
            self.tally.change(before, standing);
            if let Some(binding) = self.bindings.get_mut(id) {
                binding.standing = standing;
            }
        }
    }

    fn standing(&self, now: Uptime, binding: &Binding) -> Standing {
        if !binding.is_live(now) || binding.is_reserved() {
            return Standing::Gone;
        }
        let Some(server) = self.current(binding.user) else { return Standing::Held };
        let dead = self.health.view().server(server).is_dead();
        match binding.trouble {
            _ if dead => Standing::Held,
            _ if binding.is_registered_at(server, now) => Standing::Settled,
            Some(Trouble::Challenged) => Standing::AwaitingPhone,
            Some(Trouble::Refused(_) | Trouble::NoPath | Trouble::SentAway { .. }) => {
                Standing::Failed
            }
            Some(Trouble::Backoff { .. }) | None => Standing::Moving,
        }
    }
}
