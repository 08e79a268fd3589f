//! [`Machine`]: the states of one server (H3).

mod failing;
mod orders;

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::document::{Document, DocumentFault};
use crate::cluster::health::dossier::Dossier;
use crate::cluster::health::planes::AllPlanes;
use crate::cluster::health::rounds::Fetching;
use crate::cluster::health::suspicion::Doubts;
use crate::cluster::health::{Evidence, Settings};
use crate::cluster::score::{self, Parts};
use crate::cluster::{
    Failure, Plane, PlaneState, Planes, Proof, Realms, Server, ServerView, State,
};
use crate::now::Uptime;

/// A failure this soon after a return is a flap.
const FLAP_WITHIN: Duration = Duration::from_secs(600);
/// Doublings of probation at most: 32 times.
const FLAPS_MAX: u32 = 5;

/// One server.
///
/// ```text
///            rise                        trouble
///  Unknown ────────────────────▶ Up ◀──────────────▶ Degraded
///     │                          ▲  └──────┐           │     each: proof of failure ─▶ Down
///     │ proof     in the hold,   │         │ proof     │
///     ▼           one answer:    │         ▼           ▼
///    Down ───── back to what it was ───── Down ──────────── hold over, then rise ──▶ Probation
///                                                                                      │
///                     Up ◀─────────────── ramp over ─────────── Ramp ◀── dwell over, swept
/// ```
///
/// *Trouble* is silence beyond a stall, soft failures in a row, a 503's time, a missing document;
/// `rise` good answers end it. In probation and ramp it starts the dwell anew. A server that never
/// was up in this life of the door needs no dwell and no ramp, only the sweep: a whole pool that
/// starts after its door must not wait a minute and a half. Under a drain, `Drain` stands for up,
/// degraded, ramp and partial; under maintenance there is one state, whatever is seen.
///
/// Half dead (a plane that counts is dead, another one answers), what would be up, degraded or in
/// its ramp is `Partial`, and after the dwell down. Back within it, it is what it was.
#[derive(Debug)]
pub(super) struct Machine {
    name: Arc<str>,
    site: Option<Arc<str>>,
    realms: Arc<Realms>,
    state: State,
    since: Uptime,
    /// Where probation's dwell or the ramp counts from.
    dwell_from: Uptime,
    failure: Option<Failure>,
    /// When it fell silent, for a failure that is silence.
    fell_silent: Option<Uptime>,
    /// What it was when it failed.
    before: State,
    /// Whether its hold ran out while nothing was suspected: its users may have been moved.
    exposed: bool,
    was_up: bool,
    swept: bool,
    flaps: u32,
    /// When it was last back from a failure; `None` while it is not.
    returned_at: Option<Uptime>,
    /// By command: whenever it would serve, it drains.
    drains: bool,
    /// By command: it is taken for failed although it is well.
    drilled: bool,
    /// What spoke against it when it failed last.
    evidence: Evidence,
    failed_before: bool,
    incarnation: u32,
    score: u8,
    planes: AllPlanes,
    /// Since when it is half dead, the time not counted in which the door was stalled.
    half_since: Option<Uptime>,
    dossier: Dossier,
    fetching: Fetching,
    /// Deadlines up to here have been judged.
    judged_at: Uptime,
}

/// A change of state.
pub(super) type Change = (State, State);

/// A plane, what it was, and what it is.
pub(super) type Turn = (Plane, PlaneState, PlaneState);

impl Machine {
    /// A server nothing is known of yet. `delay` spreads its first probe and fetch.
    pub(super) fn new(server: &Server, settings: &Settings, now: Uptime, delay: Duration) -> Self {
        Self {
            name: Arc::clone(&server.name),
            site: server.site.clone(),
            realms: Arc::new(Realms::configured(server.realm.clone())),
            state: State::Unknown,
            since: now,
            dwell_from: now,
            failure: None,
            fell_silent: None,
            before: State::Unknown,
            exposed: false,
            was_up: false,
            swept: false,
            flaps: 0,
            returned_at: None,
            drains: false,
            drilled: false,
            evidence: Evidence::default(),
            failed_before: false,
            incarnation: 0,
            score: 0,
            planes: AllPlanes::new(server, settings, now, delay),
            half_since: None,
            dossier: Dossier::new(server),
            fetching: Fetching::new(now, delay),
            judged_at: now,
        }
    }

    /// What decisions see of it.
    pub(super) fn view(&self) -> ServerView {
        ServerView {
            name: Arc::clone(&self.name),
            state: self.state,
            score: self.score,
            capacity: self.dossier.capacity(),
            version: self.dossier.version(),
            site: self.site.clone(),
            ties: self.dossier.ties(),
            realms: Arc::clone(&self.realms),
            failure: self.failure,
            incarnation: self.incarnation,
            since: self.since,
            planes: self.planes.view(),
        }
    }

    /// What each of its planes says.
    pub(super) const fn planes(&self) -> &AllPlanes {
        &self.planes
    }

    /// Planes that have become something else since this was asked last.
    pub(super) fn take_turned(&mut self) -> Vec<Turn> {
        self.planes.take_turned()
    }

    pub(super) const fn evidence(&self) -> Evidence {
        self.evidence
    }

    /// Whether its health is nobody's business now.
    pub(super) fn is_in_maintenance(&self) -> bool {
        self.state == State::Maintenance
    }

    /// Down, or under maintenance and not answering.
    fn is_dead(&self) -> bool {
        match self.state {
            State::Down => true,
            State::Maintenance => self.failure.is_some(),
            State::Unknown
            | State::Up
            | State::Degraded
            | State::Partial
            | State::Probation
            | State::Ramp
            | State::Drain => false,
        }
    }

    /// When it fell silent, if it is down and silence is the proof.
    pub(super) fn fell_silent(&self) -> Option<Uptime> {
        self.fell_silent.filter(|_| self.state == State::Down)
    }

    /// When it fell on this plane, while it answers on another one.
    pub(super) fn fell_on(&self, plane: Plane) -> Option<Uptime> {
        self.planes.fell_on(plane).filter(|_| !self.is_in_maintenance())
    }

    /// Whether it answers on some plane, and is judged by this one.
    pub(super) fn lives_with(&self, plane: Plane) -> bool {
        !self.is_in_maintenance() && self.planes.lives_with(plane)
    }

    /// Whether an answer can be expected of it at all: not dead, or dead only by its errors. What is
    /// under maintenance is not asked.
    pub(super) fn can_be_asked(&self) -> bool {
        if self.is_in_maintenance() {
            return false;
        }
        self.state != State::Down
            || self.failure.is_some_and(|failure| failure.proof == Proof::Errors)
    }

    /// Takes in an answer; `false` if it can change no state.
    pub(super) fn answered(
        &mut self,
        now: Uptime,
        plane: Plane,
        answer: (u16, Duration, Option<u32>),
        settings: &Settings,
    ) -> bool {
        let dead = self.is_dead();
        let matters = self.planes.answered(now, plane, answer, dead, settings);
        matters.is_some_and(|matters| matters || self.state != State::Up)
    }

    /// Asked at an answer: whether its host refused a moment ago, so that this is another process
    /// than the one before (H8). A server that was declared down is treated as new anyway. Only of
    /// SIP: what a process keeps for another plane is gone with its connections, and they say so.
    pub(super) fn is_reborn(&mut self, plane: Plane) -> bool {
        let reborn = plane == Plane::Sip && self.planes.was_refused(plane) && !self.is_dead();
        if reborn {
            self.begin_life();
        }
        reborn
    }

    /// Its process is another one than before, which may be configured otherwise.
    pub(super) fn begin_life(&mut self) {
        self.incarnation = self.incarnation.saturating_add(1);
        self.forget_realms();
    }

    /// Takes in a refusal.
    pub(super) fn refused(&mut self, now: Uptime, plane: Plane, settings: &Settings) {
        let refused = self.failure.is_some_and(|failure| failure.proof == Proof::Refused);
        let known = self.is_dead() && refused;
        self.planes.refused(now, plane, known, settings);
    }

    /// Takes in a sign that proves nothing: look soon.
    pub(super) fn look_soon(&mut self, now: Uptime, plane: Plane, settings: &Settings) {
        let dead = self.is_dead();
        self.planes.look_soon(now, plane, dead, settings);
    }

    /// Takes in a document; `true` if the process is another one than before.
    pub(super) fn file(&mut self, now: Uptime, result: Result<Document, DocumentFault>) -> bool {
        let restarted = self.dossier.file(now, result);
        if restarted {
            self.begin_life();
        }
        restarted
    }

    /// Takes in a document that it sent by itself; `true` if the process is another one.
    pub(super) fn file_pushed(&mut self, now: Uptime, document: Document) -> bool {
        self.dossier.pushed(now);
        self.file(now, Ok(document))
    }

    /// Takes in the realm of a challenge.
    pub(super) fn challenged(&mut self, domain: &str, realm: &str) {
        Arc::make_mut(&mut self.realms).learn(domain, realm);
    }

    fn forget_realms(&mut self) {
        Arc::make_mut(&mut self.realms).forget();
    }

    /// The door removed what it had left there. Entering probation asks for it anew.
    pub(super) const fn sweep(&mut self) {
        self.swept = true;
    }

    /// The door itself was stalled for so long: probes under way prove nothing, and the dwell of a
    /// server that is half dead did not go on.
    pub(super) fn void_probes(&mut self, now: Uptime, late: Duration) {
        self.planes.void_probes(now);
        self.fetching.restart(now);
        self.half_since = self.half_since.map(|since| since + late);
    }

    /// A suspicion began: whose hold is over by now was exposed to a move before.
    pub(super) fn suspicion_began(&mut self, now: Uptime) {
        self.exposed |= self.failure.is_some_and(|failure| failure.hold_until < now);
    }

    /// A suspicion ended. Servers come back one after the other, so those still silent get a hold
    /// once more: the end of a panic must not be a mass move.
    pub(super) fn suspicion_ended(&mut self, now: Uptime, settings: &Settings) {
        self.planes.forget_soft();
        let exposed = self.exposed;
        let held = self.failure.as_mut().filter(|failure| failure.proof != Proof::Refused);
        if let Some(failure) = held.filter(|_| !exposed) {
            failure.hold_until = failure.hold_until.max(now + settings.hold_silence);
        }
    }

    /// Applies what was seen and how much time passed: one change of state at most.
    pub(super) fn judge(
        &mut self,
        now: Uptime,
        settings: &Settings,
        doubts: Doubts,
    ) -> Option<Change> {
        self.judged_at = now;
        let document_at_fault = self.dossier.is_at_fault(now);
        self.planes.judge(now, settings, doubts.suspect, document_at_fault);
        if self.is_in_maintenance() {
            return self.judge_maintained(now, self.planes.proof(), settings);
        }
        if self.state == State::Down {
            return self.judge_down(now, settings, doubts);
        }
        let half_dead = self.planes.half_dead(doubts.planes);
        self.half_since = half_dead.map(|_| self.half_since.unwrap_or(now));
        if let Some(proof) = self.planes.death() {
            return Some(self.fail(now, proof, settings));
        }
        if let Some(plane) = half_dead {
            return self.judge_half_dead(now, plane, settings);
        }
        let troubled = self.planes.are_troubled(now, doubts.planes, settings);
        let shared = self.planes.shares_a_death(doubts.planes);
        let at_fault = troubled || document_at_fault || shared;
        let risen = self.planes.good_run(doubts.planes, None) >= settings.rise;
        let known = self.planes.answers_each(doubts.planes) >= settings.rise;
        match self.state {
            State::Unknown if known && at_fault => Some(self.enter(now, State::Degraded)),
            State::Unknown if risen => Some(self.enter(now, State::Up)),
            State::Up if at_fault => Some(self.enter(now, State::Degraded)),
            State::Degraded if risen && !at_fault => Some(self.enter(now, State::Up)),
            // What is dead everywhere is no reason to ask this one less than the others.
            State::Partial if risen || shared => Some(self.enter(now, self.before)),
            State::Probation | State::Ramp if troubled => {
                self.dwell_from = now;
                None
            }
            State::Probation if risen && self.swept && self.has_dwelt(now, settings) => {
                let next = if self.was_up { State::Ramp } else { State::Up };
                Some(self.enter(now, next))
            }
            State::Ramp if now.since(self.dwell_from) >= settings.ramp => {
                Some(self.enter(now, State::Up))
            }
            State::Unknown
            | State::Up
            | State::Degraded
            | State::Partial
            | State::Down
            | State::Probation
            | State::Ramp
            | State::Drain
            | State::Maintenance => None,
        }
    }

    /// Sends the probes that are due, and says of which planes.
    pub(super) fn probe(
        &mut self,
        now: Uptime,
        settings: &Settings,
        rng: &mut fastrand::Rng,
    ) -> Planes {
        let dead = self.is_dead();
        self.planes.probe(now, dead, settings, rng)
    }

    /// Fetches the document that is due.
    pub(super) fn fetch(
        &mut self,
        now: Uptime,
        settings: &Settings,
        rng: &mut fastrand::Rng,
    ) -> bool {
        self.dossier.is_wanted() && self.fetching.fetch(now, settings, rng)
    }

    /// Computes the score anew and publishes it if it is a step away.
    pub(super) fn rescore(&mut self, now: Uptime, settings: &Settings) {
        let ramped = now.since(self.dwell_from).as_millis() * 100;
        let ramp_percent = ramped / settings.ramp.as_millis().max(1);
        let parts = Parts {
            state: self.state,
            ramp_percent: u8::try_from(ramp_percent).unwrap_or(100),
            latency: None,
            users: self.dossier.users(now),
            cpu_percent: self.dossier.cpu_percent(now),
            overloaded: self.planes.are_overloaded(now),
        };
        let by_plane = self.planes.latencies().map(|latency| Parts { latency, ..parts });
        let worst = by_plane.map(|parts| score::score(&parts)).min().unwrap_or(0);
        self.score = score::step(self.score, worst);
        self.dossier.age(now);
    }

    /// When something here is due. Dwells and ramps end at a probe: those never stop.
    pub(super) fn next(&self, settings: &Settings) -> Uptime {
        let mut next = self.planes.next(self.judged_at, self.is_dead(), settings);
        if self.dossier.is_wanted() {
            next = next.min(self.fetching.fetch_at());
        }
        let dwell_over = self.half_since.map(|since| since + settings.plane_dwell);
        for deadline in [self.dossier.lapses_at(), dwell_over].into_iter().flatten() {
            if deadline > self.judged_at {
                next = next.min(deadline);
            }
        }
        next
    }

    fn enter(&mut self, now: Uptime, state: State) -> Change {
        let from = self.state;
        let state = match state {
            State::Up | State::Degraded | State::Partial | State::Ramp if self.drains => {
                State::Drain
            }
            // What it was before it failed, and is not to be any longer.
            State::Drain if !self.drains => State::Ramp,
            State::Unknown
            | State::Up
            | State::Degraded
            | State::Partial
            | State::Ramp
            | State::Drain
            | State::Down
            | State::Probation
            | State::Maintenance => state,
        };
        if from == State::Down && state != State::Maintenance {
            self.forget_realms();
        }
        self.state = state;
        self.since = now;
        self.dwell_from = now;
        match state {
            State::Unknown | State::Ramp | State::Partial => self.failure = None,
            State::Up | State::Degraded | State::Drain => {
                self.failure = None;
                self.was_up = true;
                self.returned_at.get_or_insert(now);
            }
            State::Down | State::Maintenance => self.half_since = None,
            // Still failed to its users, until it serves them again.
            State::Probation => self.swept = false,
        }
        if matches!(state, State::Degraded | State::Partial) {
            self.planes.restart_runs();
        }
        (from, state)
    }

    fn has_dwelt(&self, now: Uptime, settings: &Settings) -> bool {
        let dwell = settings.probation.saturating_mul(1 << self.flaps);
        !self.was_up || now.since(self.dwell_from) >= dwell
    }
}
