//! How one server fails, as a whole or by one plane (H4), and how it comes back (H2, H3).

use std::time::Duration;

use crate::cluster::health::machine::{Change, FLAP_WITHIN, FLAPS_MAX, Machine};
use crate::cluster::health::suspicion::Doubts;
use crate::cluster::health::{Evidence, Settings};
use crate::cluster::{Failure, Plane, Proof, State, Suspect};
use crate::now::Uptime;

impl Machine {
    /// A plane is dead while another one answers (H4). In probation its users had their dwell.
    pub(super) fn judge_half_dead(
        &mut self,
        now: Uptime,
        plane: Plane,
        settings: &Settings,
    ) -> Option<Change> {
        let dwell_over = self.half_since.is_some_and(|at| now.since(at) >= settings.plane_dwell);
        match self.state {
            State::Probation => Some(self.fail(now, Proof::Plane(plane), settings)),
            _ if dwell_over => Some(self.fail(now, Proof::Plane(plane), settings)),
            State::Unknown | State::Up | State::Degraded | State::Ramp => {
                self.remember();
                Some(self.enter(now, State::Partial))
            }
            State::Partial | State::Down | State::Drain | State::Maintenance => None,
        }
    }

    pub(super) fn judge_down(
        &mut self,
        now: Uptime,
        settings: &Settings,
        doubts: Doubts,
    ) -> Option<Change> {
        match self.planes.proof() {
            None if self.drilled => None,
            None => self.come_back(now, settings, doubts),
            Some(Proof::Refused) => {
                self.sharpen(now, settings);
                None
            }
            Some(
                proof @ (Proof::Silence
                | Proof::Errors
                | Proof::Document
                | Proof::Drill
                | Proof::Plane(_)),
            ) => {
                self.worsen(proof);
                None
            }
        }
    }

    pub(super) fn fail(&mut self, now: Uptime, proof: Proof, settings: &Settings) -> Change {
        self.fell_silent = self.falls_silent(proof);
        let evidence = self.planes.evidence(proof);
        self.evidence = Evidence { documents_missed: self.dossier.misses(), ..evidence };
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
        self.remember();
        self.planes.restart_runs();
        self.enter(now, State::Down)
    }

    /// What it is, to be that again; half dead, that is noted already.
    fn remember(&mut self) {
        // Silence degrades before it kills: what it was is what it was before that.
        let fading = self.state == State::Degraded
            && self.planes.silences().any(|silence| silence <= self.since);
        self.before = match self.state {
            State::Partial => self.before,
            _ if fading => State::Up,
            State::Unknown
            | State::Up
            | State::Degraded
            | State::Down
            | State::Probation
            | State::Ramp
            | State::Drain
            | State::Maintenance => self.state,
        };
    }

    /// When it fell silent as a whole, if that is what this proof says.
    fn falls_silent(&self, proof: Proof) -> Option<Uptime> {
        match proof {
            Proof::Silence | Proof::Document => self.planes.silences().max(),
            Proof::Refused | Proof::Errors | Proof::Drill | Proof::Plane(_) => None,
        }
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

    /// It was down by one plane, and the others are dead by now, too.
    fn worsen(&mut self, proof: Proof) {
        let blamed = self.failure.as_mut();
        if let Some(failure) = blamed.filter(|failure| matches!(failure.proof, Proof::Plane(_))) {
            failure.proof = proof;
            self.fell_silent = self.falls_silent(proof);
        }
    }

    fn come_back(&mut self, now: Uptime, settings: &Settings, doubts: Doubts) -> Option<Change> {
        let failure = self.failure?;
        let good = self.planes.good_run(doubts.planes, Some(failure.proof));
        // A refusal proves the path, which rules out our network, and nothing else.
        let on_hold = match doubts.suspect {
            Some(Suspect::OwnNetwork) => !failure.proof.proves_the_path(),
            Some(Suspect::SharedBackend) => true,
            Some(Suspect::Plane(plane)) => failure.proof == Proof::Plane(plane),
            None => false,
        };
        self.exposed |= !on_hold && now >= failure.hold_until;
        if good > 0 && !self.exposed {
            return Some(self.enter(now, self.before));
        }
        if !self.exposed && self.planes.half_dead(doubts.planes).is_some() {
            // Not all of it is back yet, and nobody has left.
            return Some(self.enter(now, State::Partial));
        }
        (good >= settings.rise).then(|| self.enter(now, State::Probation))
    }
}

pub(super) const fn hold(proof: Proof, settings: &Settings) -> Duration {
    match proof {
        Proof::Refused => settings.hold_refused,
        // Of a plane that is dead among others, the dwell was the wait.
        Proof::Drill | Proof::Plane(_) => Duration::ZERO,
        Proof::Silence | Proof::Errors | Proof::Document => settings.hold_silence,
    }
}
