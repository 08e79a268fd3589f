//! Users leave servers by order and in peace: a drain, what comes before maintenance, or to spread
//! them over the pool anew.
//!
//! ```text
//!  order ─▶ who leaves, and where to ─▶ so many users a second and target, idle ones first:
//!                ▲                       recorded, then moved; new first, then the old is removed
//!                │                              │
//!                └──── look again: a drain ─────┘ the plan is carried out: a rebalance is done
//! ```
//!
//! A drain lasts until it is ended by order: whoever comes back to the server meanwhile, or had no
//! room elsewhere, is planned at the next look. Its users are relocated, and come home like everybody
//! else when it has ended. A rebalance gives its users another home.
//!
//! Departures live as long as the door: one that restarts has forgotten the order, and who has left
//! is where the ledger says.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::{ServerId, State};
use crate::directory::MoveReason;
use crate::directory::record::RelocationReason;
use crate::door::command::Refused;
use crate::door::explain::{PlannedMove, ServerLoad};
use crate::door::rehome::{Move, Toward};
use crate::door::status::DepartureStatus;
use crate::door::{Door, Event, Timer};
use crate::now::{Now, Uptime};
use crate::placement::{self, Planned, Refusal};

/// Departures that status shows.
const RUNS_MAX: usize = 16;
/// Between two helpings of users.
const HELPING: Duration = Duration::from_millis(100);
/// Between two looks at who is still there.
const LOOK: Duration = Duration::from_secs(5);
/// Users recorded in one write.
const USERS_PER_RECORD: usize = 256;
/// Users looked at in one helping, so that a crowd that cannot go holds up nobody.
const SCAN_MAX: usize = 4_096;
/// How long a rebalance waits for users who are in the middle of something.
const ACTIVE_MAX: Duration = Duration::from_secs(60);

/// The departures of this life of the door.
#[derive(Debug, Default)]
pub(crate) struct Departures {
    /// Oldest first.
    runs: VecDeque<Departure>,
    /// By target: when the next user may go there. One pace for all departures.
    next_at: HashMap<ServerId, Uptime>,
    wakes_at: Option<Uptime>,
}

#[derive(Debug)]
struct Departure {
    number: u32,
    cause: Cause,
    /// Who goes next, and where to.
    queue: VecDeque<Planned>,
    /// When a drain looks at who is still there.
    looks_at: Uptime,
    /// Since when only users with active sessions have been left of a rebalance.
    only_active_since: Option<Uptime>,
    /// Users whose move is not durable yet.
    recording: usize,
    over: bool,
    status: DepartureStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// A drain, or maintenance.
    Leave(ServerId),
    Rebalance,
}

impl Departures {
    /// Whether this is the number of a departure.
    pub(crate) fn is_run(&self, number: u32) -> bool {
        self.runs.iter().any(|run| run.number == number)
    }

    pub(crate) fn statuses(&self) -> Vec<DepartureStatus> {
        self.runs.iter().map(|run| run.status.clone()).collect()
    }

    fn run(&mut self, number: u32) -> Option<&mut Departure> {
        self.runs.iter_mut().find(|run| run.number == number)
    }

    fn under_way(&mut self, cause: Cause) -> Option<&mut Departure> {
        self.runs.iter_mut().find(|run| run.cause == cause && !run.over)
    }

    /// `users` moves have their answer; `moved` of them are made, with so many bindings.
    pub(crate) fn recorded(&mut self, number: u32, users: usize, moved: usize, bindings: u64) {
        let Some(run) = self.run(number) else { return };
        run.recording = run.recording.saturating_sub(users);
        run.status.moved += moved as u64;
        run.status.bindings += bindings;
    }

    /// A binding is registered where its user is now.
    pub(crate) fn arrived(&mut self, number: u32) {
        if let Some(run) = self.run(number) {
            run.status.arrived += 1;
        }
    }

    /// A binding is not part of it any more.
    pub(crate) fn left(&mut self, number: u32) {
        if let Some(run) = self.run(number) {
            run.status.bindings = run.status.bindings.saturating_sub(1);
        }
    }

    /// So many moves could not be recorded: those users are where they were.
    pub(crate) fn unrecorded(&mut self, number: u32, users: usize) {
        let Some(run) = self.run(number) else { return };
        run.recording = run.recording.saturating_sub(users);
        if run.cause == Cause::Rebalance {
            run.status.stayed += users as u64;
        }
    }
}

/// What a rebalance would do.
#[derive(
    Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema,
)]
pub struct RebalancePlan {
    /// Users who would get another home.
    pub users: u64,
    /// Seconds it takes at the configured pace.
    pub seconds: u64,
    /// Why it would not begin now, in words.
    pub why_not: Option<Arc<str>>,
    /// The servers, in configured order.
    pub servers: Vec<ServerLoad>,
    /// A page of who goes where, in canonical order.
    pub moves: Vec<PlannedMove>,
}

impl Door {
    /// The users of a server are to leave it, whatever its health; `cause` is what status says.
    pub(super) fn begin_leaving(&mut self, now: Now, server: ServerId, cause: &'static str) {
        let name = self.server_name(server);
        let status = DepartureStatus {
            cause: cause.into(),
            server: Some(Arc::clone(&name)),
            began_nanos: now.uptime.as_nanos(),
            state: "going".into(),
            ..DepartureStatus::default()
        };
        let users = u64::from(self.directory.assigned(server));
        self.emit(Event::DepartureBegan { cause, server: Some(name), users });
        self.begin_departure(now, Cause::Leave(server), VecDeque::new(), status);
    }

    /// Whether its users are leaving by order.
    pub(super) fn is_leaving(&self, server: ServerId) -> bool {
        self.departures.runs.iter().any(|run| run.cause == Cause::Leave(server) && !run.over)
    }

    /// They stay, as far as they have not gone.
    pub(super) fn end_leaving(&mut self, now: Now, server: ServerId) {
        if let Some(run) = self.departures.under_way(Cause::Leave(server)) {
            run.over = true;
            run.queue = VecDeque::new();
            run.status.state = "ended".into();
            run.status.because = None;
            run.status.ended_nanos = now.uptime.as_nanos();
        }
    }

    /// What [`Door::begin_rebalance`] would do; `count` of the moves are listed, from the `from`-th.
    pub fn rebalance_plan(&self, (from, count): (usize, usize)) -> RebalancePlan {
        let view = self.health.view();
        let moves = placement::rebalance(view, &self.directory, &self.settings.decision.placement);
        let mut come = vec![0_u32; view.servers.len()];
        let mut go = come.clone();
        for step in &moves {
            come[step.to.index()] += 1;
            go[step.from.index()] += 1;
        }
        let most = u64::from(come.iter().copied().max().unwrap_or_default());
        let servers = view.iter().map(|(id, server)| {
            let before = self.directory.assigned(id);
            let (come, go) = (come[id.index()], go[id.index()]);
            ServerLoad {
                server: Arc::clone(&server.name),
                capacity: server.capacity,
                before,
                go,
                come,
                after: (before + come).saturating_sub(go),
            }
        });
        let page = moves.iter().skip(from).take(count).map(|step| PlannedMove {
            user: Arc::clone(&self.directory.get(step.user).name),
            from: self.server_name(step.from),
            to: self.server_name(step.to),
        });
        RebalancePlan {
            users: moves.len() as u64,
            seconds: most.div_ceil(u64::from(self.settings.recovery.users_per_second.max(1))),
            why_not: self.why_no_rebalance().map(Arc::from),
            servers: servers.collect(),
            moves: page.collect(),
        }
    }

    /// Why nobody is spread anew now: where something is wrong, what is seen is not how it is to be.
    fn why_no_rebalance(&self) -> Option<String> {
        let view = self.health.view();
        if view.suspicion.is_some() {
            return Some(String::from("the door suspects its network, or what all servers share"));
        }
        let failed = view.iter().find(|(_, server)| match server.state {
            State::Unknown | State::Partial | State::Down | State::Probation => true,
            State::Up | State::Degraded | State::Ramp | State::Drain | State::Maintenance => false,
        });
        if let Some((_, server)) = failed {
            return Some(format!(
                "{} is {}: wait until it is up",
                server.name,
                server.state.name()
            ));
        }
        let away = self.directory.relocated();
        (away > 0).then(|| {
            format!(
                "{away} users are away from home: wait until they are back (frontdoor recovery)"
            )
        })
    }

    /// Spreads the homes of all users over the pool.
    ///
    /// # Errors
    ///
    /// Why nothing is begun.
    pub(super) fn begin_rebalance(&mut self, now: Now) -> Result<(), Refused> {
        if self.departures.under_way(Cause::Rebalance).is_some() {
            return Err(Refused::NotNow(String::from("a rebalance is under way already")));
        }
        if let Some(why) = self.why_no_rebalance() {
            return Err(Refused::NotNow(why));
        }
        let policy = &self.settings.decision.placement;
        let moves = placement::rebalance(self.health.view(), &self.directory, policy);
        if moves.is_empty() {
            return Err(Refused::NothingToDo);
        }
        let users = moves.len() as u64;
        let status = DepartureStatus {
            cause: "rebalance".into(),
            began_nanos: now.uptime.as_nanos(),
            state: "going".into(),
            users,
            ..DepartureStatus::default()
        };
        self.emit(Event::DepartureBegan { cause: "rebalance", server: None, users });
        self.begin_departure(now, Cause::Rebalance, moves.into(), status);
        Ok(())
    }

    /// Whoever has another home already keeps it, the others theirs.
    ///
    /// # Errors
    ///
    /// None is under way.
    pub(super) fn stop_rebalance(&mut self, now: Now) -> Result<(), Refused> {
        let run = self.departures.under_way(Cause::Rebalance).ok_or(Refused::NothingToDo)?;
        let number = run.number;
        self.end_rebalance(now, number, Some("ordered"));
        Ok(())
    }

    fn begin_departure(
        &mut self,
        now: Now,
        cause: Cause,
        queue: VecDeque<Planned>,
        status: DepartureStatus,
    ) {
        if let Cause::Leave(server) = cause {
            self.end_leaving(now, server);
        }
        while self.departures.runs.len() >= RUNS_MAX {
            // A drain that is not over is not forgotten: there is one of a server at most.
            let Some(oldest) = self.departures.runs.iter().position(|run| run.over) else { break };
            let _ = self.departures.runs.remove(oldest);
        }
        let number = self.failovers.next_number();
        self.departures.runs.push_back(Departure {
            number,
            cause,
            queue,
            looks_at: now.uptime,
            only_active_since: None,
            recording: 0,
            over: false,
            status,
        });
        self.see_off(now);
    }

    fn wake_departures_at(&mut self, at: Uptime) {
        if self.departures.wakes_at.is_none_or(|earlier| at < earlier) {
            self.departures.wakes_at = Some(at);
            self.timers.set(at, Timer::Departure);
        }
    }

    /// A timer of the departures; one that was overtaken by an earlier one says nothing.
    pub(super) fn wake_departures(&mut self, now: Now) {
        if self.departures.wakes_at.is_some_and(|at| at <= now.uptime) {
            self.departures.wakes_at = None;
            self.see_off(now);
        }
    }

    /// The pool has changed: where to may be another question now.
    pub(super) fn watch_departures(&mut self, now: Now) {
        if self.departures.runs.iter().any(|run| !run.over) {
            self.wake_departures_at(now.uptime);
        }
    }

    /// Goes on with every departure.
    fn see_off(&mut self, now: Now) {
        let under_way: Vec<(u32, Cause)> = self
            .departures
            .runs
            .iter()
            .filter(|run| !run.over)
            .map(|run| (run.number, run.cause))
            .collect();
        for (number, cause) in under_way {
            match cause {
                Cause::Leave(server) => self.go_on_leaving(now, number, server),
                Cause::Rebalance => self.go_on_rebalancing(now, number),
            }
        }
    }

    fn go_on_leaving(&mut self, now: Now, number: u32, server: ServerId) {
        if let Some(because) = self.why_nobody_leaves(server) {
            let left = u64::from(self.directory.assigned(server));
            if let Some(run) = self.departures.run(number) {
                run.queue.clear();
                run.status.state = "waiting".into();
                run.status.because = Some(because.into());
                run.status.left = left;
            }
            return self.wake_departures_at(now.uptime + LOOK);
        }
        let looks = self
            .departures
            .run(number)
            .is_some_and(|run| run.queue.is_empty() && run.looks_at <= now.uptime);
        if looks {
            self.plan_departure(now, number, server);
        }
        let more = self.send_off(now, number, Toward::Backup(RelocationReason::Drain));
        let left = u64::from(self.directory.assigned(server));
        let Some(run) = self.departures.run(number) else { return };
        run.status.left = left;
        let wake = if more { now.uptime + HELPING } else { run.looks_at };
        self.wake_departures_at(wake.max(now.uptime + HELPING));
    }

    /// Why nobody is sent off now.
    fn why_nobody_leaves(&self, server: ServerId) -> Option<&'static str> {
        let view = self.health.view();
        match view.server(server).state {
            _ if view.suspicion.is_some() => Some("suspicion"),
            // Then its users are the failover's.
            State::Down => Some("failed"),
            State::Probation => Some("probation"),
            State::Unknown
            | State::Up
            | State::Degraded
            | State::Partial
            | State::Ramp
            | State::Drain
            | State::Maintenance => None,
        }
    }

    /// Who is still there, and where to: idle users first.
    fn plan_departure(&mut self, now: Now, number: u32, server: ServerId) {
        let mut users = self.users_to_leave(&[server]);
        users.retain(|&user| !self.ledger.is_recording(user));
        let policy = &self.settings.decision.placement;
        let plan = placement::plan(&users, self.health.view(), &self.directory, policy);
        let mut because: BTreeMap<Arc<str>, u64> = BTreeMap::new();
        for (_, refusal) in &plan.unplaced {
            *because.entry(refusal.name().into()).or_default() += 1;
        }
        let (idle, active): (Vec<Planned>, Vec<Planned>) =
            plan.moves.iter().partition(|step| !self.has_active_session(now.uptime, step.user));
        let left = u64::from(self.directory.assigned(server));
        let Some(run) = self.departures.run(number) else { return };
        run.looks_at = now.uptime + LOOK;
        run.queue = idle.into_iter().chain(active.iter().copied()).collect();
        run.status.users = run.status.moved + run.recording as u64 + users.len() as u64;
        run.status.active = active.len() as u64;
        run.status.unplaced = plan.unplaced.len() as u64;
        run.status.unplaced_because = because;
        let empty = left == 0 && run.recording == 0;
        let lost = Refusal::TelephoneSystemLost.name();
        let (state, why): (&str, Option<&str>) = match () {
            () if empty => ("empty", None),
            () if !run.queue.is_empty() || run.recording > 0 => ("going", None),
            () if run.status.unplaced_because.contains_key(lost) => ("waiting", Some(lost)),
            () if run.status.unplaced > 0 => ("waiting", Some("no_room")),
            // What is left there is disabled, or being written.
            () => ("waiting", Some("disabled_users")),
        };
        let news = empty && &*run.status.state != "empty";
        run.status.state = state.into();
        run.status.because = why.map(Arc::from);
        if news {
            let (cause, moved) = (Arc::clone(&run.status.cause), run.status.moved);
            let server = run.status.server.clone();
            self.emit(Event::DepartureDone { cause, server, moved });
        }
    }

    fn go_on_rebalancing(&mut self, now: Now, number: u32) {
        let view = self.health.view();
        let failed =
            view.suspicion.is_some() || view.iter().any(|(_, server)| server.state == State::Down);
        if failed {
            return self.end_rebalance(now, number, Some("pool_unwell"));
        }
        let more = self.send_off_home(now, number);
        let Some(run) = self.departures.run(number) else { return };
        if more || run.recording > 0 {
            return self.wake_departures_at(now.uptime + HELPING);
        }
        self.end_rebalance(now, number, None);
    }

    fn send_off_home(&mut self, now: Now, number: u32) -> bool {
        let before = self.departures.run(number).map_or(0, |run| run.queue.len());
        let more = self.send_off(now, number, Toward::NewHome(MoveReason::Rebalance));
        let Some(run) = self.departures.run(number) else { return false };
        // Those who are left are asked for a while whether they are still busy.
        if !more || run.queue.len() < before || run.status.active < run.queue.len() as u64 {
            run.only_active_since = None;
        } else if now.uptime.since(*run.only_active_since.get_or_insert(now.uptime)) > ACTIVE_MAX {
            run.status.stayed += run.queue.len() as u64;
            run.queue.clear();
            return false;
        }
        more
    }

    fn end_rebalance(&mut self, now: Now, number: u32, because: Option<&'static str>) {
        let Some(run) = self.departures.run(number).filter(|run| !run.over) else { return };
        run.over = true;
        run.status.stayed += run.queue.len() as u64;
        run.queue = VecDeque::new();
        run.status.state = if because.is_some() { "stopped" } else { "done" }.into();
        run.status.because = because.map(Arc::from);
        run.status.ended_nanos = now.uptime.as_nanos();
        let (cause, moved) = (Arc::clone(&run.status.cause), run.status.moved);
        let stayed = run.status.stayed;
        self.emit(match because {
            None => Event::DepartureDone { cause, server: None, moved },
            Some(because) => Event::DepartureStopped { cause, because, moved, stayed },
        });
    }

    /// Sends as many of the queue as the pace of their targets allows now; whether more are to go.
    /// Who is in the middle of something lets the others go first; whose target takes nobody any more
    /// stays until the next plan.
    fn send_off(&mut self, now: Now, number: u32, toward: Toward) -> bool {
        let gap = Duration::from_secs(1) / self.settings.recovery.users_per_second.max(1);
        let Some(run) = self.departures.run(number) else { return false };
        let (rebalance, left) = match run.cause {
            Cause::Leave(server) => (false, Some(server)),
            Cause::Rebalance => (true, None),
        };
        let mut queue = std::mem::take(&mut run.queue);
        let (mut later, mut active) = (VecDeque::new(), VecDeque::new());
        let mut moves: Vec<Move> = Vec::new();
        let mut taken: HashMap<ServerId, u32> = HashMap::new();
        let mut stayed = 0;
        for _ in 0..queue.len().min(SCAN_MAX) {
            let Some(step) = queue.pop_front() else { break };
            let Planned { user, from, to, epoch } = step;
            let known = self.directory.get(user);
            if known.epoch != epoch || known.current() != Some(from) || !known.enabled {
                stayed += 1;
                continue;
            }
            let home = known.home.unwrap_or(from);
            let busy = self.systems_are_busy(now.uptime, home, left);
            let next_at = self.departures.next_at.entry(to).or_insert(now.uptime);
            // What was not used is not saved up beyond one helping.
            let saved = now.uptime.as_nanos().saturating_sub(HELPING.as_nanos() as u64);
            *next_at = (*next_at).max(Uptime::from_nanos(saved));
            if *next_at > now.uptime || busy {
                later.push_back(step);
                continue;
            }
            if self.ledger.is_recording(user) || self.has_active_session(now.uptime, user) {
                active.push_back(step);
                continue;
            }
            let promised = taken.entry(to).or_default();
            let view = self.health.view();
            let takes = view.server(to).state.takes_strangers()
                && placement::has_room(to, view, &self.directory, *promised);
            if !takes {
                stayed += 1;
                continue;
            }
            *promised += 1;
            let systems_gap = self.systems_gap(home);
            if let Some(next_at) = self.departures.next_at.get_mut(&to) {
                *next_at += gap.max(systems_gap);
            }
            moves.push(Move { user, from, to, epoch, toward, date: now.wall });
        }
        // In the order they had, but for those who are in the middle of something.
        queue.append(&mut later);
        let waits_active = active.len() as u64;
        queue.append(&mut active);
        let more = !queue.is_empty();
        if let Some(run) = self.departures.run(number) {
            run.queue = queue;
            run.recording += moves.len();
            run.status.active = waits_active;
            if rebalance {
                run.status.stayed += stayed;
            }
        }
        for chunk in moves.chunks(USERS_PER_RECORD) {
            self.record_moves(chunk.to_vec(), Some(number));
        }
        more
    }
}
