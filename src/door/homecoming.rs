//! Users who were relocated are brought home: stage by stage, paced, with a look at the home
//! between them (B).
//!
//! ```text
//!  a home that is fit ─▶ run ─▶ stage: as many users a second as allowed, each recorded, then moved
//!                         ▲              │ everybody of the stage is recorded
//!                         │              ▼
//!                         └──────────── look: is the home as well as before, did it take them?
//!                                        │ no: the run stops, the rest stay where they are
//! ```
//!
//! A run holds nothing that is not in the ledger: when the door dies in the middle, the next one
//! finds who is still away and begins with a small stage again (B4).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::ServerId;
use crate::directory::UserId;
use crate::door::binding::{Step, Trouble};
use crate::door::rehome::{Move, Toward};
use crate::door::status::{AwayStatus, RecoveryStatus, ReturnStatus};
use crate::door::{Door, Event, Timer};
use crate::now::{Now, Uptime};
use crate::placement;
use crate::recovery::{
    ActiveSession, Circumstances, StageOutcome, Stay, may_begin, may_go_on, stage_end,
};

/// Returns that status shows.
const RUNS_MAX: usize = 16;
/// Between two helpings of users of a stage.
const HELPING: Duration = Duration::from_millis(100);
/// Users recorded in one write.
const USERS_PER_RECORD: usize = 256;
/// A stage whose bindings are still under way is looked at again after this, but not for ever.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
const LOOKS_MAX: Duration = Duration::from_secs(60);

/// The returns of this life of the door.
#[derive(Debug)]
pub(crate) struct Homecomings {
    /// Oldest first; at most one of a home is not over.
    runs: VecDeque<Run>,
    paused: bool,
    /// Homes where a run was stopped, and until when they rest.
    rests: HashMap<ServerId, Uptime>,
    /// When the next look at everything is due.
    looks_at: Uptime,
    wakes_at: Option<Uptime>,
}

#[derive(Debug)]
struct Run {
    number: u32,
    home: ServerId,
    /// Begun by an operator: hold, windows and pause are theirs to judge.
    by_hand: bool,
    /// Who is still to go, in canonical order.
    waiting: VecDeque<UserId>,
    /// Who goes or has gone in the stage under way.
    stage_users: Vec<UserId>,
    /// Users who have been sent home, all stages together.
    sent: usize,
    /// Of those, users whose return is not durable yet.
    recording: usize,
    /// When the next user may go: the pace.
    next_at: Uptime,
    phase: Phase,
    status: ReturnStatus,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Users of a stage are being sent home.
    Going,
    /// They are, and the home is watched until then; since when.
    Looking {
        since: Uptime,
        until: Uptime,
    },
    Over,
}

/// Why a run was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stop {
    /// The home is not fit any longer.
    Home(Stay),
    /// It does not take them.
    HomeRefuses,
    /// It has no room left.
    HomeFull,
    /// The ledger cannot be written.
    Store,
    /// An operator has paused it.
    Paused,
}

impl Stop {
    const fn name(self) -> &'static str {
        match self {
            Self::Home(stay) => stay.name(),
            Self::HomeRefuses => "home_refuses",
            Self::HomeFull => "home_full",
            Self::Store => "store",
            Self::Paused => "paused",
        }
    }
}

impl Homecomings {
    pub(crate) fn new(now: Uptime) -> Self {
        Self {
            runs: VecDeque::new(),
            paused: false,
            rests: HashMap::new(),
            looks_at: now,
            wakes_at: None,
        }
    }

    /// Whether this is the number of a return.
    pub(crate) fn is_run(&self, number: u32) -> bool {
        self.runs.iter().any(|run| run.number == number)
    }

    fn run(&mut self, number: u32) -> Option<&mut Run> {
        self.runs.iter_mut().find(|run| run.number == number)
    }

    pub(crate) fn status(&self, number: u32) -> Option<&ReturnStatus> {
        self.runs.iter().find(|run| run.number == number).map(|run| &run.status)
    }

    /// Whether nothing more is to come of it.
    pub(crate) fn is_over(&self, number: u32) -> bool {
        self.runs.iter().any(|run| {
            let arrived = run.status.arrived >= run.status.bindings;
            run.number == number && run.phase == Phase::Over && arrived
        })
    }

    fn under_way(&self, home: ServerId) -> bool {
        self.runs.iter().any(|run| run.home == home && run.phase != Phase::Over)
    }

    /// `users` more are durable, `moved` of them as they were sent, with so many bindings.
    pub(crate) fn recorded(&mut self, number: u32, users: usize, moved: usize, bindings: u64) {
        let Some(run) = self.run(number) else { return };
        run.recording = run.recording.saturating_sub(users);
        run.status.returned += moved as u64;
        run.status.bindings += bindings;
    }

    /// A binding is registered at home.
    pub(crate) fn arrived(&mut self, now: Now, number: u32) {
        let Some(run) = self.run(number) else { return };
        run.status.arrived += 1;
        run.status.last_nanos = now.uptime.as_nanos();
        if run.status.first_nanos == 0 {
            run.status.first_nanos = run.status.last_nanos;
        }
    }

    /// A binding is not part of it any more.
    pub(crate) fn left(&mut self, number: u32) {
        let Some(run) = self.run(number) else { return };
        run.status.bindings = run.status.bindings.saturating_sub(1);
    }
}

impl Door {
    fn wake_homecomings_at(&mut self, at: Uptime) {
        if self.homecomings.wakes_at.is_none_or(|earlier| at < earlier) {
            self.homecomings.wakes_at = Some(at);
            self.timers.set(at, Timer::Homecoming);
        }
    }

    /// A timer of the way home; one that was overtaken by an earlier one says nothing.
    pub(super) fn wake_homecomings(&mut self, now: Now) {
        if self.homecomings.wakes_at.is_some_and(|at| at <= now.uptime) {
            self.homecomings.wakes_at = None;
            self.bring_home(now);
        }
    }

    /// Goes on with every return, and begins those that may begin.
    pub(super) fn bring_home(&mut self, now: Now) {
        let numbers: Vec<u32> = self
            .homecomings
            .runs
            .iter()
            .filter(|run| run.phase != Phase::Over)
            .map(|run| run.number)
            .collect();
        for number in numbers {
            self.go_on_home(now, number);
        }
        if now.uptime >= self.homecomings.looks_at {
            self.homecomings.looks_at = now.uptime + self.settings.recovery.interval;
            self.begin_homecomings(now);
        }
        self.wake_homecomings_at(self.homecomings.looks_at);
    }

    /// The pool has changed: a home may be no longer fit for those who are going there.
    pub(super) fn watch_homecomings(&mut self, now: Now) {
        if self.homecomings.runs.iter().any(|run| run.phase != Phase::Over) {
            self.wake_homecomings_at(now.uptime);
        }
    }

    fn begin_homecomings(&mut self, now: Now) {
        for home in self.directory.homes_with_users_away() {
            if !self.homecomings.under_way(home) && self.why_away(now, home).is_ok() {
                self.begin_homecoming(now, home, false);
            }
        }
    }

    /// Whether those who are away from this home could go there by themselves now.
    fn why_away(&self, now: Now, home: ServerId) -> Result<(), Stay> {
        let circumstances = Circumstances {
            paused: self.homecomings.paused,
            distribution_disabled: self.settings.decision.disable_automatic_user_distribution,
            rests_until: self.homecomings.rests.get(&home).copied(),
        };
        may_begin(home, self.health.view(), &self.settings.recovery, circumstances, now)
    }

    /// Begins a return, unless everybody who is away is in the middle of something.
    fn begin_homecoming(&mut self, now: Now, home: ServerId, by_hand: bool) {
        let mut users = self.directory.away_from(home);
        let away = users.len();
        users.retain(|&user| !self.has_active_session(now.uptime, user));
        if users.is_empty() {
            return;
        }
        self.homecomings.rests.remove(&home);
        while self.homecomings.runs.len() >= RUNS_MAX {
            let oldest = self.homecomings.runs.iter().position(|run| run.phase == Phase::Over);
            // There are no more homes than servers, and each has one run at most.
            let _ = oldest.and_then(|oldest| self.homecomings.runs.remove(oldest));
            if oldest.is_none() {
                break;
            }
        }
        let number = self.failovers.next_number();
        let name = self.server_name(home);
        let status = ReturnStatus {
            home: Arc::clone(&name),
            began_nanos: now.uptime.as_nanos(),
            users: users.len() as u64,
            active: (away - users.len()) as u64,
            stages: u32::try_from(self.settings.recovery.stages.len()).unwrap_or(u32::MAX),
            stage: 1,
            state: "going".into(),
            by_hand,
            ..ReturnStatus::default()
        };
        let event = Event::ReturnBegan { server: name, users: users.len() as u64 };
        self.homecomings.runs.push_back(Run {
            number,
            home,
            by_hand,
            waiting: users.into(),
            stage_users: Vec::new(),
            sent: 0,
            recording: 0,
            next_at: now.uptime,
            phase: Phase::Going,
            status,
        });
        self.begin_return_trail(now, number, home);
        self.emit(event);
        self.go_on_home(now, number);
    }

    fn go_on_home(&mut self, now: Now, number: u32) {
        let view = self.view();
        let policy = &self.settings.recovery;
        let paused = self.homecomings.paused;
        let Some(run) = self.homecomings.run(number) else { return };
        if let Err(stay) = may_go_on(run.home, &view, policy) {
            return self.stop_homecoming(now, number, Stop::Home(stay));
        }
        if paused && !run.by_hand {
            return self.stop_homecoming(now, number, Stop::Paused);
        }
        match run.phase {
            Phase::Going => self.send_home(now, number),
            Phase::Looking { since, until } => {
                if until > now.uptime {
                    return self.wake_homecomings_at(until);
                }
                self.judge_stage(now, number, since);
            }
            Phase::Over => {}
        }
    }

    /// Sends home as many as the pace allows now; the stage is over when its share has been sent.
    fn send_home(&mut self, now: Now, number: u32) {
        let policy = self.settings.recovery.clone();
        let gap = Duration::from_secs(1) / policy.users_per_second.max(1);
        let Some(home) = self.homecomings.run(number).map(|run| run.home) else { return };
        if self.systems_are_busy(now.uptime, home, None) {
            // Whoever lost their server goes first, also at the telephone system.
            return self.wake_homecomings_at(now.uptime + HELPING);
        }
        let gap = gap.max(self.systems_gap(home));
        let Some(run) = self.homecomings.run(number) else { return };
        let total = usize::try_from(run.status.users).unwrap_or(usize::MAX);
        let stage = usize::try_from(run.status.stage.saturating_sub(1)).unwrap_or(usize::MAX);
        let end = stage_end(&policy, total, stage);
        // What was not used is not saved up beyond one helping.
        let saved = now.uptime.as_nanos().saturating_sub(HELPING.as_nanos() as u64);
        let mut next_at = run.next_at.max(Uptime::from_nanos(saved));
        let mut sent = run.sent;
        let mut moves: Vec<Move> = Vec::new();
        let mut full = false;
        while sent < end && next_at <= now.uptime {
            let Some(user) = self.homecomings.run(number).and_then(|run| run.waiting.pop_front())
            else {
                break;
            };
            if self.directory.is_away_from(user, home) && !self.ledger.is_recording(user) {
                if self.has_active_session(now.uptime, user) {
                    if let Some(run) = self.homecomings.run(number) {
                        run.status.active += 1;
                        run.status.users = run.status.users.saturating_sub(1);
                    }
                    continue;
                }
                let taken = u32::try_from(moves.len()).unwrap_or(u32::MAX);
                if !placement::has_room(home, self.health.view(), &self.directory, taken) {
                    full = true;
                    break;
                }
                let known = self.directory.get(user);
                let Some(from) = known.current() else { continue };
                let epoch = known.epoch;
                moves.push(Move {
                    user,
                    from,
                    to: home,
                    epoch,
                    toward: Toward::Home,
                    date: now.wall,
                });
                next_at += gap;
            }
            sent += 1;
        }
        let users: Vec<UserId> = moves.iter().map(|step| step.user).collect();
        if let Some(run) = self.homecomings.run(number) {
            run.recording += moves.len();
            run.sent = sent;
            run.next_at = next_at;
            run.stage_users.extend(users);
            if run.waiting.is_empty() || sent >= end {
                let until = now.uptime + policy.look;
                run.phase = Phase::Looking { since: now.uptime, until };
                run.status.state = "looking".into();
                self.wake_homecomings_at(until);
            } else {
                self.wake_homecomings_at(next_at.max(now.uptime + HELPING));
            }
        }
        for chunk in moves.chunks(USERS_PER_RECORD) {
            self.record_moves(chunk.to_vec(), Some(number));
        }
        if full {
            self.stop_homecoming(now, number, Stop::HomeFull);
        }
    }

    /// The look after a stage: go on, look again, stop, or be done.
    fn judge_stage(&mut self, now: Now, number: u32, since: Uptime) {
        let outcome = self.stage_outcome(number);
        let stages = self.settings.recovery.stages.len();
        let Some(run) = self.homecomings.run(number) else { return };
        let busy = run.recording > 0 || outcome.under_way > 0;
        let stage = (run.status.stage, run.stage_users.len() as u64);
        self.note_stage(now, number, stage, outcome);
        let Some(run) = self.homecomings.run(number) else { return };
        if outcome.is_bad() {
            return self.stop_homecoming(now, number, Stop::HomeRefuses);
        }
        if busy && now.uptime < since + LOOKS_MAX {
            let until = now.uptime + LOOK_AGAIN;
            run.phase = Phase::Looking { since, until };
            return self.wake_homecomings_at(until);
        }
        run.stage_users.clear();
        let stage = usize::try_from(run.status.stage).unwrap_or(usize::MAX);
        if !run.waiting.is_empty() && stage < stages {
            run.status.stage += 1;
            run.status.state = "going".into();
            run.phase = Phase::Going;
            run.next_at = now.uptime;
            return self.send_home(now, number);
        }
        run.phase = Phase::Over;
        run.status.state = "done".into();
        run.status.ended_nanos = now.uptime.as_nanos();
        let (server, returned) = (Arc::clone(&run.status.home), run.status.returned);
        self.note(now, number);
        self.emit(Event::ReturnDone { server, returned });
    }

    fn stage_outcome(&mut self, number: u32) -> StageOutcome {
        let mut outcome = StageOutcome::default();
        let Some(run) = self.homecomings.run(number) else { return outcome };
        let (home, users) = (run.home, run.stage_users.clone());
        for user in users {
            let at_home = self.current(user) == Some(home);
            for &id in self.bindings_of(user) {
                let Some(binding) = self.bindings.get(id).filter(|binding| !binding.gone) else {
                    continue;
                };
                match binding.trouble {
                    _ if !at_home => outcome.in_trouble += 1,
                    Some(Trouble::Challenged) => outcome.arrived += 1,
                    Some(
                        Trouble::Refused(_)
                        | Trouble::NoPath
                        | Trouble::Backoff { .. }
                        | Trouble::SentAway { .. },
                    ) => {
                        outcome.in_trouble += 1;
                    }
                    None if binding.run == Some(number) => outcome.under_way += 1,
                    None => outcome.arrived += 1,
                }
            }
        }
        outcome
    }

    fn stop_homecoming(&mut self, now: Now, number: u32, why: Stop) {
        let rests_until = now.uptime + self.settings.recovery.hold;
        let Some(run) = self.homecomings.run(number).filter(|run| run.phase != Phase::Over) else {
            return;
        };
        run.phase = Phase::Over;
        run.status.stay = run.waiting.len() as u64;
        run.waiting = VecDeque::new();
        run.stage_users = Vec::new();
        run.status.state = "stopped".into();
        run.status.stopped_because = Some(why.name().into());
        run.status.ended_nanos = now.uptime.as_nanos();
        let event = Event::ReturnStopped {
            server: Arc::clone(&run.status.home),
            because: why.name(),
            returned: run.status.returned,
            stay: run.status.stay,
        };
        let home = run.home;
        if why != Stop::Paused {
            self.homecomings.rests.insert(home, rests_until);
        }
        self.stats.returns_stopped += 1;
        self.note(now, number);
        self.emit(event);
    }

    /// So many could not be recorded: they are where they were.
    pub(super) fn stop_homecoming_unrecorded(&mut self, now: Now, number: u32, users: usize) {
        let Some(run) = self.homecomings.run(number) else { return };
        run.recording = run.recording.saturating_sub(users);
        self.stop_homecoming(now, number, Stop::Store);
    }

    /// Whether a user is in the middle of something that a return would cut or disturb (B1). Each
    /// plane answers for its own; of phones it is whatever the door has under way for them, of clients
    /// calls on the lines they watch, too.
    pub(super) fn has_active_session(&self, now: Uptime, user: UserId) -> bool {
        let any = self.settings.recovery.active_session == ActiveSession::Any;
        // A binding that is only being made is nobody's yet.
        if self.directory.get(user).aors.iter().any(|aor| self.turns.contains_key(aor)) {
            return true;
        }
        if self.has_active_client(user, self.settings.recovery.active_session) {
            return true;
        }
        self.bindings_of(user).iter().any(|&id| {
            self.bindings.get(id).is_some_and(|binding| {
                let busy = match binding.step {
                    Step::Idle => binding.claimed,
                    // Nobody knows when that ends, and elsewhere it may go on.
                    Step::Queued(server) => !self.lanes[server.index()].is_silent(now),
                    Step::InFlight(_) => true,
                };
                busy || (any && binding.is_live(now))
            })
        })
    }

    /// Stops all returns, or lets them go on.
    ///
    /// # Errors
    ///
    /// They are as wanted already.
    pub(super) fn pause_recovery(&mut self, now: Now, paused: bool) -> Result<(), NoReturn> {
        if std::mem::replace(&mut self.homecomings.paused, paused) == paused {
            return Err(NoReturn::AlreadySo);
        }
        self.homecomings.looks_at = now.uptime;
        self.wake_homecomings_at(now.uptime);
        Ok(())
    }

    /// Begins a return by hand: hold, pause, windows and a disabled distribution do not count, the
    /// home's health does.
    ///
    /// # Errors
    ///
    /// Why nobody goes.
    pub(super) fn return_home(&mut self, now: Now, server: &str) -> Result<(), NoReturn> {
        let Some(home) = self.server_named(server) else {
            let known = self.settings.servers.iter().map(|it| Arc::clone(&it.name)).collect();
            return Err(NoReturn::NoSuchServer { name: server.to_owned(), known });
        };
        if self.homecomings.under_way(home) {
            return Err(NoReturn::UnderWay);
        }
        if let Err(stay) = may_go_on(home, self.health.view(), &self.settings.recovery) {
            return Err(NoReturn::Unfit(stay));
        }
        if self.directory.away_from(home).is_empty() {
            return Err(NoReturn::NobodyAway);
        }
        self.begin_homecoming(now, home, true);
        if self.homecomings.under_way(home) { Ok(()) } else { Err(NoReturn::AllActive) }
    }

    /// Brings one user home by hand, also one who has an active session, if the home can be moved to.
    ///
    /// # Errors
    ///
    /// Why they stay.
    pub(super) fn return_user(&mut self, now: Now, name: &str) -> Result<(), NoReturn> {
        let user = self.directory.by_name(name).or_else(|| self.directory.by_aor(name));
        let user = user.ok_or(NoReturn::NoSuchUser)?;
        let known = self.directory.get(user);
        let (Some(home), Some(from)) = (known.home, known.current()) else {
            return Err(NoReturn::NobodyAway);
        };
        if home == from {
            return Err(NoReturn::NobodyAway);
        }
        if let Err(stay) = may_go_on(home, self.health.view(), &self.settings.recovery) {
            return Err(NoReturn::Unfit(stay));
        }
        if !placement::has_room(home, self.health.view(), &self.directory, 0) {
            return Err(NoReturn::Full);
        }
        if self.ledger.is_recording(user) {
            return Err(NoReturn::AllActive);
        }
        let epoch = known.epoch;
        let step = Move { user, from, to: home, epoch, toward: Toward::Home, date: now.wall };
        self.record_moves(vec![step], None);
        Ok(())
    }

    /// Who is away, why, and the returns there were.
    pub fn recovery_status(&self, now: Now) -> RecoveryStatus {
        let homes = self.directory.homes_with_users_away();
        RecoveryStatus {
            paused: self.homecomings.paused,
            homes: homes
                .into_iter()
                .map(|home| AwayStatus {
                    home: self.server_name(home),
                    away: u64::from(self.directory.count_away_from(home)),
                    stay_because: if self.homecomings.under_way(home) {
                        None
                    } else {
                        self.why_away(now, home).err().map(|stay| stay.name().into())
                    },
                })
                .collect(),
            returns: self.homecomings.runs.iter().map(|run| run.status.clone()).collect(),
        }
    }
}

/// Why a return was not begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoReturn {
    /// Nobody of this name or address.
    #[error("there is no such user")]
    NoSuchUser,
    /// Paused or not, as it was to be.
    #[error("that is so already")]
    AlreadySo,
    /// The home has no room.
    #[error("the home has no room left")]
    Full,
    /// Not configured.
    #[error("there is no server {name:?}; there are {}", known.join(", "))]
    NoSuchServer {
        /// What was named.
        name: String,
        /// Those there are.
        known: Vec<Arc<str>>,
    },
    /// One is under way.
    #[error("a return to this server is under way already")]
    UnderWay,
    /// The home is not well.
    #[error("nobody is sent there now: {}", .0.name())]
    Unfit(Stay),
    /// There is nobody.
    #[error("nobody is away from there")]
    NobodyAway,
    /// They are all in the middle of something.
    #[error("everybody who is away is in the middle of something; try again in a moment")]
    AllActive,
}
