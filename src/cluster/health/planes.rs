//! [`AllPlanes`]: what the planes of one server say of it together (H1, H4).
//!
//! A plane is dead by the proofs and times of a whole server, and until a good answer clears it. A
//! server is *judged* by its planes that count, but for those that have never been heard: a wrong
//! port is no failure. It is dead when all of these are, and half dead when one is while another
//! answers.

mod one;

use std::time::Duration;

use smallvec::SmallVec;

use crate::cluster::health::planes::one::{OnePlane, standing, strength};
use crate::cluster::health::rounds::{Rounds, Standing};
use crate::cluster::health::signs::Signs;
use crate::cluster::health::{Evidence, Settings};
use crate::cluster::{Plane, PlaneState, PlaneView, Planes, Proof, Server, Suspect};
use crate::now::Uptime;

/// All planes of one server.
#[derive(Debug)]
pub(super) struct AllPlanes {
    each: SmallVec<[OnePlane; 1]>,
    /// Planes that have become something else, where there are several.
    turned: Vec<(Plane, PlaneState, PlaneState)>,
}

impl AllPlanes {
    /// Nothing is known of them yet. `delay` spreads the first probes of a pool.
    pub(super) fn new(server: &Server, settings: &Settings, now: Uptime, delay: Duration) -> Self {
        let planes = if server.planes.is_empty() { Planes::SIP } else { server.planes };
        let one = |plane| OnePlane {
            plane,
            counts: settings.planes.contains(plane),
            heard_at: None,
            signs: Signs::default(),
            rounds: Rounds::new(now, delay),
            proof: None,
            death: None,
            state: PlaneState::Unknown,
            since: now,
        };
        Self { each: planes.iter().map(one).collect(), turned: Vec::new() }
    }

    pub(super) fn view(&self) -> SmallVec<[PlaneView; 1]> {
        let view = |it: &OnePlane| PlaneView {
            plane: it.plane,
            state: it.state,
            since: it.since,
            counts: it.counts,
            proof: it.death.map(|death| death.proof),
        };
        self.each.iter().map(view).collect()
    }

    /// Planes that have become something else, with what they were.
    pub(super) fn take_turned(&mut self) -> Vec<(Plane, PlaneState, PlaneState)> {
        std::mem::take(&mut self.turned)
    }

    /// Takes in an answer; whether it can change what the plane is. `None`: no such plane.
    pub(super) fn answered(
        &mut self,
        now: Uptime,
        plane: Plane,
        (status, latency, retry_after): (u16, Duration, Option<u32>),
        server_dead: bool,
        settings: &Settings,
    ) -> Option<bool> {
        let standing = self.standing(plane, server_dead)?;
        let it = self.get(plane)?;
        let matters = !it.is_alive() || !it.signs.nothing_to_decide(status);
        it.rounds.answered(now, standing, settings);
        it.signs.answered(now, status, latency, retry_after);
        it.heard_at = Some(now);
        if let Some(death) = &mut it.death {
            death.answered |= it.signs.good_run() > 0;
        }
        Some(matters)
    }

    /// Takes in a refusal. It is looked into soon, unless it only says what is `known`.
    pub(super) fn refused(&mut self, now: Uptime, plane: Plane, known: bool, settings: &Settings) {
        let several = self.each.len() > 1;
        let Some(it) = self.get(plane) else { return };
        let counted = it.signs.refused(now, settings);
        let known = if several {
            it.death.is_some_and(|death| death.proof == Proof::Refused)
        } else {
            known
        };
        if counted && !known {
            it.rounds.refused(now, settings);
        }
    }

    /// Takes in a sign that proves nothing: look soon.
    pub(super) fn look_soon(
        &mut self,
        now: Uptime,
        plane: Plane,
        server_dead: bool,
        settings: &Settings,
    ) {
        let dead = self.standing(plane, server_dead).is_none_or(|standing| standing.dead);
        if let Some(it) = self.get(plane).filter(|_| !dead) {
            it.rounds.look_soon(now, settings);
        }
    }

    /// The planes whose probe is due, which is taken for sent.
    pub(super) fn probe(
        &mut self,
        now: Uptime,
        server_dead: bool,
        settings: &Settings,
        rng: &mut fastrand::Rng,
    ) -> Planes {
        let several = self.each.len() > 1;
        let mut due = Planes::NONE;
        for it in &mut self.each {
            let standing = standing(it, several, server_dead);
            if it.rounds.probe(now, standing, settings, rng) {
                it.signs.probe_sent(now);
                due = due.with(it.plane);
            }
        }
        due
    }

    /// When something is due here.
    pub(super) fn next(&self, judged_at: Uptime, server_dead: bool, settings: &Settings) -> Uptime {
        let several = self.each.len() > 1;
        let mut next = Uptime::NEVER;
        for it in &self.each {
            next = next.min(it.rounds.probe_at());
            let dead = standing(it, several, server_dead).dead;
            let Some(since) = it.signs.silent_since().filter(|_| !dead) else { continue };
            for deadline in [since + settings.degraded_after, since + settings.down_after] {
                if deadline > judged_at {
                    next = next.min(deadline);
                }
            }
        }
        next
    }

    /// The door itself was stalled: probes under way prove nothing.
    pub(super) fn void_probes(&mut self, now: Uptime) {
        for it in &mut self.each {
            it.signs.void_probes();
            it.rounds.restart(now);
        }
    }

    /// Forgets everything verdicts rest on. What has been heard once is not forgotten: the way there
    /// is configured well.
    pub(super) fn forget_verdicts(&mut self, now: Uptime) {
        for it in &mut self.each {
            it.signs.forget_verdicts();
            it.rounds.restart(now);
            it.proof = None;
            it.death = None;
        }
    }

    /// Gives soft failures a new start, after a suspicion that explained them.
    pub(super) fn forget_soft(&mut self) {
        self.each.iter_mut().for_each(|it| it.signs.forget_soft());
    }

    /// Starts the runs of good answers anew: the server has just become worse.
    pub(super) fn restart_runs(&mut self) {
        self.each.iter_mut().for_each(|it| it.signs.restart_run());
    }

    /// Judges each of them by what was seen and how much time passed.
    pub(super) fn judge(
        &mut self,
        now: Uptime,
        settings: &Settings,
        suspect: Option<Suspect>,
        document_at_fault: bool,
    ) {
        let several = self.each.len() > 1;
        for it in &mut self.each {
            it.proof = it.proof(now, settings, suspect, document_at_fault);
            if it.settle(now) && several {
                it.signs.restart_run();
            }
        }
        for place in 0..self.each.len() {
            let Some(it) = self.each.get(place) else { continue };
            let (from, to) = (it.state, self.state_of(it));
            let Some(it) = self.each.get_mut(place).filter(|_| from != to) else { continue };
            (it.state, it.since) = (to, now);
            if several {
                self.turned.push((it.plane, from, to));
            }
        }
    }

    /// What proves now that the whole server is dead: the strongest of what is against each plane.
    pub(super) fn proof(&self) -> Option<Proof> {
        strongest(self.judged().map(|it| it.proof))
    }

    /// What proved that the whole server is dead, until a good answer clears it.
    pub(super) fn death(&self) -> Option<Proof> {
        strongest(self.judged().map(|it| it.death.map(|death| death.proof)))
    }

    /// The plane that is dead, and not only as others are everywhere, while another one answers.
    pub(super) fn half_dead(&self, suspected: Planes) -> Option<Plane> {
        let dead =
            self.judged().find(|it| it.death.is_some() && !suspected.contains(it.plane))?.plane;
        self.answers().then_some(dead)
    }

    /// Whether a plane is dead as it is everywhere.
    pub(super) fn shares_a_death(&self, suspected: Planes) -> bool {
        self.judged().any(|it| it.death.is_some() && suspected.contains(it.plane))
    }

    /// When it fell on this plane, if it has answered on another one since: what falls as a whole
    /// shows on one plane first.
    pub(super) fn fell_on(&self, plane: Plane) -> Option<Uptime> {
        if self.each.len() == 1 {
            return None;
        }
        let death = self.judged().find(|it| it.plane == plane)?.death?;
        let lives_on = |it: &OnePlane| it.is_alive() && it.heard_at > Some(death.fell);
        self.judged().any(lives_on).then_some(death.fell)
    }

    /// Whether it answers on some plane, and is judged by this one.
    pub(super) fn lives_with(&self, plane: Plane) -> bool {
        self.judged().any(|it| it.plane == plane) && self.answers()
    }

    /// Good answers in a row, of the plane that has the fewest.
    pub(super) fn good_run(&self, suspected: Planes, failed: Option<Proof>) -> u32 {
        self.needed(suspected, failed).map(|it| it.signs.good_run()).min().unwrap_or(0)
    }

    /// Of the one that has the most.
    pub(super) fn best_run(&self) -> u32 {
        self.judged().map(|it| it.signs.good_run()).max().unwrap_or(0)
    }

    /// Answers of any kind so far, of the plane that has the fewest.
    pub(super) fn answers_each(&self, suspected: Planes) -> u32 {
        self.needed(suspected, None).map(|it| it.signs.answers()).min().unwrap_or(0)
    }

    /// Bad enough to be degraded.
    pub(super) fn are_troubled(&self, now: Uptime, suspected: Planes, settings: &Settings) -> bool {
        self.needed(suspected, None).any(|it| it.signs.is_troubled(now, settings))
    }

    /// Within the time of a 503.
    pub(super) fn are_overloaded(&self, now: Uptime) -> bool {
        self.judged().any(|it| it.signs.is_overloaded(now))
    }

    /// Latency of now and the usual one, by plane.
    pub(super) fn latencies(&self) -> impl Iterator<Item = Option<(Duration, Duration)>> {
        self.judged().map(|it| it.signs.latency())
    }

    /// Its host refused this plane since the last answer.
    pub(super) fn was_refused(&self, plane: Plane) -> bool {
        self.each.iter().any(|it| it.plane == plane && it.signs.was_refused())
    }

    /// The one 5xx that the last answers were, if every plane gives nothing else.
    pub(super) fn same_error(&self) -> Option<u16> {
        let mut errors = self.judged().map(|it| it.signs.same_error());
        let first = errors.next()??;
        errors.all(|error| error.is_some()).then_some(first)
    }

    /// Since when each of those that are silent is.
    pub(super) fn silences(&self) -> impl Iterator<Item = Uptime> {
        self.judged().filter_map(|it| it.signs.silent_since())
    }

    /// What speaks against the server now, if this is what proved its failure.
    pub(super) fn evidence(&self, proof: Proof) -> Evidence {
        let blamed = self.judged().find(|it| match proof {
            Proof::Plane(plane) => it.plane == plane,
            Proof::Refused | Proof::Silence | Proof::Errors | Proof::Document | Proof::Drill => {
                it.death.is_some_and(|death| death.proof == proof)
            }
        });
        blamed.map(|it| it.signs.evidence()).unwrap_or_default()
    }

    fn get(&mut self, plane: Plane) -> Option<&mut OnePlane> {
        self.each.iter_mut().find(|it| it.plane == plane)
    }

    fn standing(&self, plane: Plane, server_dead: bool) -> Option<Standing> {
        let it = self.each.iter().find(|it| it.plane == plane)?;
        Some(standing(it, self.each.len() > 1, server_dead))
    }

    fn answers(&self) -> bool {
        self.judged().any(OnePlane::is_alive)
    }

    fn state_of(&self, it: &OnePlane) -> PlaneState {
        match (it.death, it.heard_at) {
            (Some(_), _) if self.is_unheard(it) => PlaneState::Unheard,
            (Some(_), _) => PlaneState::Dead,
            (None, Some(_)) => PlaneState::Alive,
            (None, None) => PlaneState::Unknown,
        }
    }

    /// It has never answered, and another plane of the same server has.
    fn is_unheard(&self, it: &OnePlane) -> bool {
        it.heard_at.is_none()
            && it.death.is_some()
            && self.each.iter().any(|other| other.heard_at.is_some())
    }

    /// The planes the server is judged by. Where none of those that count has been heard, that is all
    /// that have been: nobody must be failed for a port that is wrong.
    fn judged(&self) -> impl Iterator<Item = &OnePlane> {
        let counted = self.each.iter().any(|it| it.counts && !self.is_unheard(it));
        self.each.iter().filter(move |it| !self.is_unheard(it) && (it.counts || !counted))
    }

    /// Of those, the ones that must be well for the server to be: all but those that are dead
    /// everywhere. By which it has `failed` it must be well in any case.
    fn needed(&self, suspected: Planes, failed: Option<Proof>) -> impl Iterator<Item = &OnePlane> {
        self.judged().filter(move |it| {
            let shared = it.death.is_some() && suspected.contains(it.plane);
            !shared || failed == Some(Proof::Plane(it.plane))
        })
    }
}

/// The strongest of all, if there is a proof of each.
fn strongest(mut proofs: impl Iterator<Item = Option<Proof>>) -> Option<Proof> {
    let first = proofs.next()??;
    proofs.try_fold(first, |best, proof| {
        proof.map(|proof| if strength(proof) > strength(best) { proof } else { best })
    })
}
