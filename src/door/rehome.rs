//! A server failed: its users are planned, recorded, and their bindings enqueued.
//!
//! Plan and execute are apart. The plan names every move; the ledger records them; only what is
//! durable is carried out, and the lanes carry it out without choosing anything. The planner runs
//! again from the facts whenever something changed: a record that failed, a score, a backup that
//! died.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::cluster::{Failure, ServerId, State};
use crate::decision::{Reason, may_leave};
use crate::directory::record::RelocationReason;
use crate::directory::{MoveReason, Moved, Relocation, User, UserId};
use crate::door::slots::SlotId;
use crate::door::status::FailoverStatus;
use crate::door::{Door, Event, Timer};
use crate::now::{Now, Uptime};
use crate::placement;

/// Users recorded in one write: few enough that the first are carried out while the last are
/// being written, many enough that one disk flush serves them all.
const MOVES_PER_RECORD: usize = 256;
/// Between two plans for users who had no place, and after a store failure.
const REPLAN_INTERVAL: Duration = Duration::from_secs(1);
/// Failovers that status shows.
const RUNS_MAX: usize = 16;

/// One user goes from one server to another.
#[derive(Clone, Debug)]
pub(crate) struct Move {
    pub(crate) user: UserId,
    pub(crate) from: ServerId,
    pub(crate) to: ServerId,
    /// The user's epoch before the move.
    pub(crate) epoch: u64,
    pub(crate) toward: Toward,
    pub(crate) date: SystemTime,
}

/// What the place somebody goes to is to them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Toward {
    /// A backup, and why; or home, if that is where it is.
    Backup(RelocationReason),
    /// Home, where nobody is relocated.
    Home,
    /// Home from now on, and why.
    NewHome(MoveReason),
}

impl Toward {
    fn why(self) -> MoveReason {
        match self {
            Self::Backup(why) => why.into(),
            Self::Home => MoveReason::Return,
            Self::NewHome(why) => why,
        }
    }
}

impl Move {
    /// The user as they will be; `name` tells a server's name.
    pub(crate) fn apply(&self, user: &User, name: &dyn Fn(ServerId) -> Arc<str>) -> User {
        let before = user.relocation.as_ref();
        let mut left_at = user.left_at.clone();
        if !left_at.contains(&self.from) {
            left_at.push(self.from);
        }
        left_at.retain(|&server| server != self.to);
        let origin = before.map(|before| before.origin).or(user.home).unwrap_or(self.from);
        let (mut home, mut relocation) = (user.home, None);
        match self.toward {
            Toward::Backup(why) if home != Some(self.to) => {
                relocation = Some(Relocation { origin, date: self.date, target: self.to, why });
            }
            Toward::Backup(_) | Toward::Home => {}
            Toward::NewHome(_) => home = Some(self.to),
        }
        let epoch = self.epoch + 1;
        let mut history = user.history.clone();
        history.push(Moved {
            date: self.date,
            from: name(self.from),
            to: name(self.to),
            why: self.toward.why(),
            epoch,
        });
        User { home, relocation, left_at, history, epoch, ..user.clone() }
    }
}

/// The failovers of this life of the door.
#[derive(Debug, Default)]
pub(crate) struct Failovers {
    runs: VecDeque<Run>,
    count: u32,
    /// Said once per failure and reason, not at every look.
    withheld: HashMap<ServerId, (Uptime, Reason)>,
    unplaced: Vec<UserId>,
    /// When the planner wakes, so that only one timer is kept.
    wakes_at: Option<Uptime>,
    planned_at: Option<Uptime>,
}

#[derive(Debug)]
struct Run {
    number: u32,
    server: ServerId,
    status: FailoverStatus,
    /// Users whose relocation is not durable yet.
    recording: usize,
    done: bool,
}

impl Failovers {
    pub(crate) fn statuses(&self) -> Vec<FailoverStatus> {
        self.runs.iter().map(|run| run.status.clone()).collect()
    }

    pub(crate) fn status(&self, number: u32) -> Option<&FailoverStatus> {
        let run = self.runs.iter().find(|run| run.number == number)?;
        Some(&run.status)
    }

    /// Whether nothing more is to come of it, as far as can be seen now.
    pub(crate) fn is_over(&self, number: u32) -> bool {
        self.runs.iter().any(|run| {
            run.number == number
                && (run.status.why_not.is_some() || (run.done && run.status.unplaced == 0))
        })
    }

    /// Whether the last failover of this server has nothing under way.
    pub(crate) fn is_done_with(&self, server: ServerId) -> bool {
        self.runs.iter().rev().find(|run| run.server == server).is_some_and(|run| run.done)
    }

    pub(crate) fn unplaced(&self) -> u64 {
        self.unplaced.len() as u64
    }

    /// A number no other run of this life of the door has, failover or return.
    pub(crate) const fn next_number(&mut self) -> u32 {
        self.count += 1;
        self.count
    }

    fn run(&mut self, number: u32) -> Option<&mut Run> {
        self.runs.iter_mut().find(|run| run.number == number)
    }

    /// The run for this failure of this server, begun if there is none.
    fn begin(&mut self, server: ServerId, status: FailoverStatus) -> u32 {
        let same =
            |run: &&Run| run.server == server && run.status.detected_nanos == status.detected_nanos;
        if let Some(run) = self.runs.iter().find(same) {
            return run.number;
        }
        if self.runs.len() >= RUNS_MAX {
            self.runs.pop_front();
        }
        let number = self.next_number();
        self.runs.push_back(Run { number, server, status, recording: 0, done: false });
        number
    }
}

impl Door {
    /// Wakes the planner then, or earlier if it is to wake earlier anyway.
    pub(super) fn wake_planner_at(&mut self, at: Uptime) {
        if self.failovers.wakes_at.is_none_or(|earlier| at < earlier) {
            self.failovers.wakes_at = Some(at);
            self.timers.set(at, Timer::Failover);
        }
    }

    /// A timer of the planner's; one that was overtaken by an earlier one says nothing.
    pub(super) fn wake_planner(&mut self, now: Now) {
        if self.failovers.wakes_at.is_some_and(|at| at <= now.uptime) {
            self.failovers.wakes_at = None;
            self.check_failovers(now);
        }
    }

    /// Looks at every failed server whose hold is over.
    pub(super) fn check_failovers(&mut self, now: Now) {
        let view = self.view();
        let mut leave = Vec::new();
        for (server, seen) in view.iter() {
            let Some(failure) = seen.failure.filter(|_| seen.is_dead()) else {
                self.failovers.withheld.remove(&server);
                continue;
            };
            if self.directory.assigned(server) == 0 {
                continue;
            }
            if failure.hold_until > now.uptime {
                self.wake_planner_at(failure.hold_until);
                continue;
            }
            match may_leave(server, &view, &self.settings.decision, now.uptime) {
                Ok(()) => leave.push(server),
                Err(verdict) => self.withhold(now, server, failure, verdict.because),
            }
        }
        self.failovers.unplaced.clear();
        if !leave.is_empty() {
            self.plan_failover(now, &leave);
        }
    }

    /// Nobody leaves, and why; said once, not at every look.
    fn withhold(&mut self, now: Now, server: ServerId, failure: Failure, because: Reason) {
        // What a login gets changes when the grace is over; why nobody moves does not.
        let because = if because == Reason::DistributionDisabledGrace {
            Reason::DistributionDisabled
        } else if because == Reason::SuspicionTooLong {
            Reason::Suspicion
        } else {
            because
        };
        let said = (failure.since, because);
        if self.failovers.withheld.insert(server, said) == Some(said) {
            return;
        }
        let would_move = self.users_to_leave(&[server]).len() as u64;
        let (number, name) = self.begin_failover(now, server, failure);
        if let Some(run) = self.failovers.run(number) {
            run.status.users = would_move;
            run.status.why_not = Some(because.name().into());
        }
        self.note(now, number);
        self.emit(Event::FailoverWithheld { server: name, because: because.name(), would_move });
    }

    /// The run for this failure, and the server's name for what is said of it.
    fn begin_failover(&mut self, now: Now, server: ServerId, failure: Failure) -> (u32, Arc<str>) {
        let name = self.server_name(server);
        let status = FailoverStatus {
            server: Arc::clone(&name),
            proof: failure.proof.name().into(),
            detected_nanos: failure.since.as_nanos(),
            ..FailoverStatus::default()
        };
        let number = self.failovers.begin(server, status);
        self.begin_failover_trail(now, number, server, failure);
        (number, name)
    }

    fn plan_failover(&mut self, now: Now, failed: &[ServerId]) {
        let view = self.view();
        let mut users = self.users_to_leave(failed);
        let all = users.len();
        users.retain(|&user| !self.ledger.is_recording(user));
        if users.len() < all {
            // Something of theirs is being written; they are looked at again when it is.
            self.wake_planner_at(now.uptime + REPLAN_INTERVAL);
        }
        if users.is_empty() {
            return;
        }
        let policy = &self.settings.decision.placement;
        let plan = placement::plan(&users, &view, &self.directory, policy);
        self.failovers.planned_at = Some(now.uptime);
        self.failovers.unplaced = plan.unplaced.iter().map(|&(user, _)| user).collect();
        for &server in failed {
            self.begin_run(now, server, &plan);
        }
        let mut by_run: HashMap<u32, Vec<Move>> = HashMap::new();
        for planned in &plan.moves {
            let number = self.run_of(planned.from);
            by_run.entry(number).or_default().push(Move {
                user: planned.user,
                from: planned.from,
                to: planned.to,
                epoch: planned.epoch,
                toward: Toward::Backup(RelocationReason::Failover),
                date: now.wall,
            });
        }
        let mut numbers: Vec<u32> = by_run.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            let moves = by_run.remove(&number).unwrap_or_default();
            if let Some(run) = self.failovers.run(number) {
                run.recording += moves.len();
            }
            for chunk in moves.chunks(MOVES_PER_RECORD) {
                self.record_moves(chunk.to_vec(), Some(number));
            }
        }
        if !self.failovers.unplaced.is_empty() {
            self.wake_planner_at(now.uptime + REPLAN_INTERVAL * 30);
        }
    }

    fn begin_run(&mut self, now: Now, server: ServerId, plan: &placement::Plan) {
        let view = self.view();
        let Some(failure) = view.server(server).failure else { return };
        let users = plan.moves.iter().filter(|planned| planned.from == server).count() as u64;
        let stay = |&&(user, _): &&(UserId, placement::Refusal)| self.current(user) == Some(server);
        let mut because: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        for (_, refusal) in plan.unplaced.iter().filter(stay) {
            *because.entry(refusal.name().into()).or_default() += 1;
        }
        let unplaced = because.values().sum();
        let (number, name) = self.begin_failover(now, server, failure);
        let mut news = false;
        if let Some(run) = self.failovers.run(number) {
            run.status.planned_nanos = now.uptime.as_nanos();
            if run.status.why_not.take().is_some() {
                run.status.users = 0;
            }
            news = users > 0 || run.status.unplaced != unplaced;
            run.status.users += users;
            run.status.unplaced = unplaced;
            run.status.unplaced_because = because;
            run.done = false;
        }
        if news {
            self.note(now, number);
            self.emit(Event::FailoverPlanned { server: name, users, unplaced });
        }
    }

    fn run_of(&self, server: ServerId) -> u32 {
        let newest = self.failovers.runs.iter().rev().find(|run| run.server == server);
        newest.map_or(0, |run| run.number)
    }

    /// One login asks for a move of its own: a straggler the plan did not see.
    pub(super) fn record_relocation(&mut self, now: Now, user: UserId, to: ServerId) {
        let Some(from) = self.current(user) else { return };
        let epoch = self.directory.get(user).epoch;
        let toward = Toward::Backup(RelocationReason::Failover);
        let step = Move { user, from, to, epoch, toward, date: now.wall };
        let run = Some(self.run_of(from)).filter(|&number| number != 0);
        if let Some(run) = run.and_then(|number| self.failovers.run(number)) {
            run.recording += 1;
            run.status.users += 1;
        }
        self.record_moves(vec![step], run);
    }

    /// A backup that does not take its guest: another one is looked for (M5), unless nobody is to be
    /// moved at all (D1).
    pub(super) fn replan_user(&mut self, now: Now, user: UserId) {
        let disabled = self.settings.decision.disable_automatic_user_distribution;
        if disabled || self.ledger.is_recording(user) {
            return;
        }
        let Some(from) = self.current(user) else { return };
        if self.health.view().server(from).state == State::Maintenance {
            return;
        }
        let policy = &self.settings.decision.placement;
        let Ok(to) = placement::place(user, &self.view(), &self.directory, policy) else { return };
        let epoch = self.directory.get(user).epoch;
        let toward = Toward::Backup(RelocationReason::Replanned);
        self.record_moves(vec![Move { user, from, to, epoch, toward, date: now.wall }], None);
    }

    /// The relocations are durable: now, and not before, they are carried out.
    pub(super) fn on_moved(&mut self, now: Now, moves: Vec<Move>, run: Option<u32>) {
        let mut bindings = 0;
        let mut moved = Vec::with_capacity(moves.len());
        for step in &moves {
            self.ledger.finish_recording(step.user);
            let known = self.directory.get(step.user);
            if known.epoch != step.epoch {
                self.stats.stale_steps += 1;
                continue;
            }
            let after = step.apply(known, &|server| self.server_name(server));
            if let Some(home) = after.home.filter(|&home| known.home != Some(home)) {
                self.directory.set_home(step.user, home, after.epoch);
            }
            match after.relocation {
                Some(relocation) => self.directory.relocate(step.user, relocation, after.epoch),
                None => self.directory.clear_relocation(step.user, after.epoch),
            }
            self.directory.set_left_at(step.user, after.left_at);
            self.directory.set_history(step.user, after.history);
            self.stats.relocations += 1;
            if let Some(run) = run {
                self.note_sent(run, step.to);
            }
            moved.push(step.user);
            for &id in &self.bindings_of(step.user).to_vec() {
                bindings += u64::from(self.join_run(now, id, run));
            }
        }
        if let Some(run) = run.and_then(|number| self.failovers.run(number)) {
            run.status.bindings += bindings;
            run.status.recorded_nanos = now.uptime.as_nanos();
            run.recording = run.recording.saturating_sub(moves.len());
        }
        if let Some(number) = run {
            self.homecomings.recorded(number, moves.len(), moved.len(), bindings);
            self.departures.recorded(number, moves.len(), moved.len(), bindings);
        }
        for user in moved {
            self.reconcile_user(now, user);
            self.wake_waiting(now, user);
        }
        if let Some(number) = run {
            self.check_done(number);
        }
        // The backup may have died while this was being written.
        self.wake_planner_at(now.uptime + REPLAN_INTERVAL);
    }

    /// A binding whose user has just been moved is part of that run now. A failover that was begun
    /// earlier keeps it: to its phone it is the same failure. Whether the run has one more.
    fn join_run(&mut self, now: Now, id: SlotId, run: Option<u32>) -> bool {
        let Some(binding) = self.bindings.get_mut(id) else { return false };
        binding.trouble = None;
        let (live, joined) = (binding.is_live(now.uptime), binding.run);
        let failover = |run: Option<u32>| run.is_some_and(|run| !self.is_in_peace(run));
        if !live || (failover(joined) && (run.is_none() || failover(run))) {
            return false;
        }
        self.leave_run(now, id);
        if let Some(binding) = self.bindings.get_mut(id) {
            binding.run = run;
        }
        run.is_some()
    }

    /// Whether this run is no failover: a return, or a departure.
    pub(super) fn is_in_peace(&self, run: u32) -> bool {
        self.homecomings.is_run(run) || self.departures.is_run(run)
    }

    /// The moves could not be recorded, so nobody has moved; the planner tries again.
    pub(super) fn on_moves_not_recorded(&mut self, now: Now, moves: &[Move], run: Option<u32>) {
        if let Some(number) = run {
            self.stop_homecoming_unrecorded(now, number, moves.len());
            self.departures.unrecorded(number, moves.len());
        }
        for step in moves {
            self.redirects.arrived(step.user);
        }
        if let Some(run) = run.and_then(|number| self.failovers.run(number)) {
            run.recording = run.recording.saturating_sub(moves.len());
            run.status.users = run.status.users.saturating_sub(moves.len() as u64);
        }
        self.wake_planner_at(now.uptime + REPLAN_INTERVAL);
    }

    /// The pool has changed: perhaps there is room now.
    pub(super) fn try_unplaced_again(&mut self, now: Now) {
        if self.failovers.unplaced.is_empty() {
            return;
        }
        let soonest = self.failovers.planned_at.map_or(now.uptime, |at| at + REPLAN_INTERVAL);
        self.wake_planner_at(soonest.max(now.uptime));
    }

    /// A binding is registered where its user is current now.
    pub(super) fn count_rehomed(&mut self, now: Now, id: SlotId, server: ServerId) {
        let Some(binding) = self.bindings.get(id) else { return };
        let Some(number) = binding.run else { return };
        if self.current(binding.user) != Some(server) || binding.gone {
            return;
        }
        if let Some(binding) = self.bindings.get_mut(id) {
            binding.run = None;
        }
        self.note_arrived(now, number, server);
        if self.homecomings.is_run(number) {
            self.stats.returned += 1;
            return self.homecomings.arrived(now, number);
        }
        if self.departures.is_run(number) {
            self.stats.departed += 1;
            return self.departures.arrived(number);
        }
        self.stats.rehomed += 1;
        if let Some(run) = self.failovers.run(number) {
            run.status.rehomed += 1;
            run.status.last_nanos = now.uptime.as_nanos();
            if run.status.first_nanos == 0 {
                run.status.first_nanos = run.status.last_nanos;
            }
        }
        self.check_done(number);
    }

    /// A binding that ends while it is being moved is no part of that any more.
    pub(super) fn leave_run(&mut self, now: Now, id: SlotId) {
        let Some(binding) = self.bindings.get_mut(id) else { return };
        let Some(number) = binding.run.take() else { return };
        self.homecomings.left(number);
        self.departures.left(number);
        if let Some(run) = self.failovers.run(number) {
            run.status.bindings = run.status.bindings.saturating_sub(1);
        }
        self.note(now, number);
        self.check_done(number);
    }

    fn check_done(&mut self, number: u32) {
        let Some(run) = self.failovers.run(number) else { return };
        let over = run.recording == 0 && run.status.rehomed >= run.status.bindings;
        if run.done || !over {
            return;
        }
        run.done = true;
        let (server, rehomed) = (Arc::clone(&run.status.server), run.status.rehomed);
        self.emit(Event::FailoverDone { server, rehomed });
    }

    /// Nothing of anybody is left at `server`: the ledger says so too, for the next start.
    pub(super) fn forget_left_at(&mut self, server: ServerId) {
        let users: Vec<UserId> = self
            .directory
            .iter()
            .filter(|(id, user)| user.left_at.contains(&server) && !self.ledger.is_recording(*id))
            .map(|(id, _)| id)
            .collect();
        for chunk in users.chunks(MOVES_PER_RECORD) {
            self.record_swept(chunk.to_vec(), server);
        }
    }
}
