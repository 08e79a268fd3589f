//! [`Machine`]: the states of one server (H3).

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::document::{Document, DocumentFault};
use crate::cluster::health::dossier::Dossier;
use crate::cluster::health::rounds::{Rounds, Standing};
use crate::cluster::health::signs::Signs;
use crate::cluster::health::{Evidence, Settings};
use crate::cluster::score::{self, Parts};
use crate::cluster::{Failure, Proof, Realms, Server, ServerView, State, Suspect};
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
/// degraded and ramp; under maintenance there is one state, whatever is seen.
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
    signs: Signs,
    dossier: Dossier,
    rounds: Rounds,
    /// Deadlines up to here have been judged.
    judged_at: Uptime,
}

/// A change of state.
pub(super) type Change = (State, State);

impl Machine {
    /// A server nothing is known of yet. `delay` spreads its first probe and fetch.
    pub(super) fn new(server: &Server, now: Uptime, delay: Duration) -> Self {
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
            signs: Signs::default(),
            dossier: Dossier::new(server),
            rounds: Rounds::new(now, delay),
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
        }
    }

    pub(super) const fn signs(&self) -> &Signs {
        &self.signs
    }

    /// By command, or again like any other: then it is judged anew, as at the start. `None` if that
    /// is so already.
    pub(super) fn maintain(&mut self, now: Uptime, on: bool) -> Option<Change> {
        if on == self.is_in_maintenance() {
            return None;
        }
        self.fell_silent = None;
        if on {
            // In probation it answers; what was down still does not.
            self.failure = self.failure.filter(|_| self.state == State::Down);
            return Some(self.enter(now, State::Maintenance));
        }
        self.signs.forget_verdicts();
        self.rounds.restart(now);
        self.drilled = false;
        self.drains = false;
        self.failed_before = false;
        self.flaps = 0;
        self.returned_at = None;
        Some(self.enter(now, State::Unknown))
    }

    /// By command: it serves whom it has and takes nobody, while it lives; or again like any other,
    /// with a growing share. `None` if that is so already, or under maintenance; within, the change of
    /// state, if there is one now.
    pub(super) fn drain(&mut self, now: Uptime, on: bool) -> Option<Option<Change>> {
        if on == self.drains || self.is_in_maintenance() {
            return None;
        }
        self.drains = on;
        Some(match self.state {
            State::Unknown | State::Up | State::Degraded | State::Ramp | State::Drain => {
                Some(self.enter(now, if on { State::Drain } else { State::Ramp }))
            }
            State::Down | State::Probation | State::Maintenance => None,
        })
    }

    /// By command: it is failed, although it is well. `None` unless it is up.
    pub(super) fn begin_drill(&mut self, now: Uptime) -> Option<Change> {
        if self.state != State::Up {
            return None;
        }
        self.drilled = true;
        self.evidence = Evidence::default();
        self.failure = Some(Failure { proof: Proof::Drill, since: now, hold_until: now });
        self.exposed = true;
        self.before = State::Up;
        self.signs.restart_run();
        Some(self.enter(now, State::Down))
    }

    /// It may come back, by the way of every server that does. `false` if there is no drill.
    pub(super) const fn end_drill(&mut self) -> bool {
        std::mem::replace(&mut self.drilled, false)
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
            | State::Probation
            | State::Ramp
            | State::Drain => false,
        }
    }

    /// Under maintenance: only whether it answers counts, and only for those it serves.
    fn judge_maintained(
        &mut self,
        now: Uptime,
        proof: Option<Proof>,
        settings: &Settings,
    ) -> Option<Change> {
        match (proof, self.failure) {
            (Some(proof), None) => {
                let hold_until = now + hold(proof, settings);
                self.failure = Some(Failure { proof, since: now, hold_until });
                self.signs.restart_run();
            }
            (None, Some(_)) if self.signs.good_run() > 0 => {
                self.failure = None;
                self.forget_realms();
            }
            (None | Some(_), _) => return None,
        }
        Some((State::Maintenance, State::Maintenance))
    }

    /// When it fell silent, if it is down and silence is the proof.
    pub(super) fn fell_silent(&self) -> Option<Uptime> {
        self.fell_silent.filter(|_| self.state == State::Down)
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
        status: u16,
        latency: Duration,
        retry_after: Option<u32>,
        settings: &Settings,
    ) -> bool {
        let matters = self.state != State::Up || !self.signs.nothing_to_decide(status);
        self.rounds.answered(now, self.standing(), settings);
        self.signs.answered(now, status, latency, retry_after);
        matters
    }

    /// Asked at an answer: whether its host refused a moment ago, so that this is another process
    /// than the one before (H8). A server that was declared down is treated as new anyway.
    pub(super) fn is_reborn(&mut self) -> bool {
        let reborn = self.signs.was_refused() && !self.is_dead();
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
    pub(super) fn refused(&mut self, now: Uptime, settings: &Settings) {
        let counted = self.signs.refused(now, settings);
        let known = self.failure.is_some_and(|failure| failure.proof == Proof::Refused);
        if counted && !(self.is_dead() && known) {
            self.rounds.refused(now, settings);
        }
    }

    /// Takes in a sign that proves nothing: look soon.
    pub(super) fn look_soon(&mut self, now: Uptime, settings: &Settings) {
        if !self.is_dead() {
            self.rounds.look_soon(now, settings);
        }
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

    /// The door itself was stalled: probes under way prove nothing.
    pub(super) fn void_probes(&mut self, now: Uptime) {
        self.signs.void_probes();
        self.rounds.restart(now);
    }

    /// A suspicion began: whose hold is over by now was exposed to a move before.
    pub(super) fn suspicion_began(&mut self, now: Uptime) {
        self.exposed |= self.failure.is_some_and(|failure| failure.hold_until < now);
    }

    /// A suspicion ended. Servers come back one after the other, so those still silent get a hold
    /// once more: the end of a panic must not be a mass move.
    pub(super) fn suspicion_ended(&mut self, now: Uptime, settings: &Settings) {
        self.signs.forget_soft();
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
        suspect: Option<Suspect>,
    ) -> Option<Change> {
        self.judged_at = now;
        let proof = self.proof(now, settings, suspect);
        if self.is_in_maintenance() {
            return self.judge_maintained(now, proof, settings);
        }
        if self.state == State::Down {
            return match proof {
                None if self.drilled => None,
                None => self.come_back(now, settings, suspect),
                Some(Proof::Refused) => {
                    self.sharpen(now, settings);
                    None
                }
                Some(Proof::Silence | Proof::Errors | Proof::Document | Proof::Drill) => None,
            };
        }
        if let Some(proof) = proof {
            return Some(self.fail(now, proof, settings));
        }
        let troubled = self.signs.is_troubled(now, settings);
        let at_fault = troubled || self.dossier.is_at_fault(now);
        let risen = self.signs.good_run() >= settings.rise;
        let known = self.signs.answers() >= settings.rise;
        match self.state {
            State::Unknown if known && at_fault => Some(self.enter(now, State::Degraded)),
            State::Unknown if risen => Some(self.enter(now, State::Up)),
            State::Up if at_fault => Some(self.enter(now, State::Degraded)),
            State::Degraded if risen && !at_fault => Some(self.enter(now, State::Up)),
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
            | State::Down
            | State::Probation
            | State::Ramp
            | State::Drain
            | State::Maintenance => None,
        }
    }

    /// Sends the probe that is due.
    pub(super) fn probe(
        &mut self,
        now: Uptime,
        settings: &Settings,
        rng: &mut fastrand::Rng,
    ) -> bool {
        let due = self.rounds.probe(now, self.standing(), settings, rng);
        if due {
            self.signs.probe_sent(now);
        }
        due
    }

    /// Fetches the document that is due.
    pub(super) fn fetch(
        &mut self,
        now: Uptime,
        settings: &Settings,
        rng: &mut fastrand::Rng,
    ) -> bool {
        self.dossier.is_wanted() && self.rounds.fetch(now, settings, rng)
    }

    /// Computes the score anew and publishes it if it is a step away.
    pub(super) fn rescore(&mut self, now: Uptime, settings: &Settings) {
        let ramped = now.since(self.dwell_from).as_millis() * 100;
        let ramp_percent = ramped / settings.ramp.as_millis().max(1);
        let parts = Parts {
            state: self.state,
            ramp_percent: u8::try_from(ramp_percent).unwrap_or(100),
            latency: self.signs.latency(),
            users: self.dossier.users(now),
            cpu_percent: self.dossier.cpu_percent(now),
            overloaded: self.signs.is_overloaded(now),
        };
        self.score = score::step(self.score, score::score(&parts));
        self.dossier.age(now);
    }

    /// When something here is due. Dwells and ramps end at a probe: those never stop.
    pub(super) fn next(&self, settings: &Settings) -> Uptime {
        let mut next = self.rounds.probe_at();
        if self.dossier.is_wanted() {
            next = next.min(self.rounds.fetch_at());
        }
        if let Some(lapses) = self.dossier.lapses_at().filter(|at| *at > self.judged_at) {
            next = next.min(lapses);
        }
        if let Some(since) = self.signs.silent_since().filter(|_| !self.is_dead()) {
            for deadline in [since + settings.degraded_after, since + settings.down_after] {
                if deadline > self.judged_at {
                    next = next.min(deadline);
                }
            }
        }
        next
    }

    fn proof(&self, now: Uptime, settings: &Settings, suspect: Option<Suspect>) -> Option<Proof> {
        if self.signs.proves_refused(settings) {
            Some(Proof::Refused)
        } else if self.signs.proves_silence(now, settings) {
            Some(Proof::Silence)
        } else if self.dossier.is_at_fault(now) && self.signs.is_quiet(now, settings) {
            Some(Proof::Document)
        } else if suspect != Some(Suspect::SharedBackend) && self.signs.proves_errors(now) {
            Some(Proof::Errors)
        } else {
            None
        }
    }

    fn fail(&mut self, now: Uptime, proof: Proof, settings: &Settings) -> Change {
        self.fell_silent = match proof {
            Proof::Silence | Proof::Document => self.signs.silent_since(),
            Proof::Refused | Proof::Errors | Proof::Drill => None,
        };
        self.evidence =
            Evidence { documents_missed: self.dossier.misses(), ..self.signs.evidence() };
        if let Some(failure) = self.failure.as_mut() {
            // In probation: the same outage goes on, its users had their hold.
            failure.proof = proof;
        } else {
            let hold_until = now + hold(proof, settings);
            self.failure = Some(Failure { proof, since: now, hold_until });
            self.exposed = false;
        }
        let flap = self
            .returned_at
            .take()
            .map_or(self.failed_before, |at| self.failed_before && now.since(at) < FLAP_WITHIN);
        self.flaps = if flap { (self.flaps + 1).min(FLAPS_MAX) } else { 0 };
        self.failed_before = true;
        // Silence degrades before it kills: what it was is what it was before that.
        let fading = self.state == State::Degraded
            && self.signs.silent_since().is_some_and(|since| since <= self.since);
        self.before = if fading { State::Up } else { self.state };
        self.signs.restart_run();
        self.enter(now, State::Down)
    }

    /// The host refuses what was only silent: the path works, so there is less to wait for.
    fn sharpen(&mut self, now: Uptime, settings: &Settings) {
        if let Some(failure) =
            self.failure.as_mut().filter(|failure| failure.proof != Proof::Refused)
        {
            failure.proof = Proof::Refused;
            failure.hold_until = failure.hold_until.min(now + settings.hold_refused);
            self.fell_silent = None;
        }
    }

    fn come_back(
        &mut self,
        now: Uptime,
        settings: &Settings,
        suspect: Option<Suspect>,
    ) -> Option<Change> {
        let good = self.signs.good_run();
        let failure = self.failure?;
        // A refusal proves the path, which rules out our network, and nothing else.
        let on_hold = match suspect {
            Some(Suspect::OwnNetwork) => !failure.proof.proves_the_path(),
            Some(Suspect::SharedBackend) => true,
            None => false,
        };
        self.exposed |= !on_hold && now >= failure.hold_until;
        if good > 0 && !self.exposed {
            return Some(self.enter(now, self.before));
        }
        (good >= settings.rise).then(|| self.enter(now, State::Probation))
    }

    fn enter(&mut self, now: Uptime, state: State) -> Change {
        let from = self.state;
        let state = match state {
            State::Up | State::Degraded | State::Ramp if self.drains => State::Drain,
            // What it was before it failed, and is not to be any longer.
            State::Drain if !self.drains => State::Ramp,
            State::Unknown
            | State::Up
            | State::Degraded
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
            State::Unknown | State::Ramp => self.failure = None,
            State::Up | State::Degraded | State::Drain => {
                self.failure = None;
                self.was_up = true;
                self.returned_at.get_or_insert(now);
            }
            State::Down | State::Maintenance => {}
            // Still failed to its users, until it serves them again.
            State::Probation => self.swept = false,
        }
        if state == State::Degraded {
            self.signs.restart_run();
        }
        (from, state)
    }

    fn standing(&self) -> Standing {
        Standing { down: self.is_dead(), unanswered: self.signs.unanswered() }
    }

    fn has_dwelt(&self, now: Uptime, settings: &Settings) -> bool {
        let dwell = settings.probation.saturating_mul(1 << self.flaps);
        !self.was_up || now.since(self.dwell_from) >= dwell
    }
}

const fn hold(proof: Proof, settings: &Settings) -> Duration {
    match proof {
        Proof::Refused => settings.hold_refused,
        Proof::Drill => Duration::ZERO,
        Proof::Silence | Proof::Errors | Proof::Document => settings.hold_silence,
    }
}
