//! [`OnePlane`]: one plane of one server.

use crate::cluster::health::Settings;
use crate::cluster::health::rounds::{Rounds, Standing};
use crate::cluster::health::signs::Signs;
use crate::cluster::{Plane, PlaneState, Proof, Suspect};
use crate::now::Uptime;

/// One plane of one server.
#[derive(Debug)]
pub(super) struct OnePlane {
    pub(super) plane: Plane,
    pub(super) counts: bool,
    /// When it answered last; if it ever did since the door started, the way to it is configured well.
    pub(super) heard_at: Option<Uptime>,
    pub(super) signs: Signs,
    pub(super) rounds: Rounds,
    /// What proves its failure now.
    pub(super) proof: Option<Proof>,
    pub(super) death: Option<Death>,
    pub(super) state: PlaneState,
    pub(super) since: Uptime,
}

/// The failure of a plane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Death {
    pub(super) proof: Proof,
    /// When the first sign of it was seen.
    pub(super) fell: Uptime,
    /// A good answer has come since.
    pub(super) answered: bool,
}

impl OnePlane {
    /// It answers.
    pub(super) const fn is_alive(&self) -> bool {
        self.heard_at.is_some() && self.death.is_none()
    }

    /// What proves its failure now.
    pub(super) fn proof(
        &self,
        now: Uptime,
        settings: &Settings,
        suspect: Option<Suspect>,
        document_at_fault: bool,
    ) -> Option<Proof> {
        if self.signs.proves_refused(settings) {
            Some(Proof::Refused)
        } else if self.signs.proves_silence(now, settings) {
            Some(Proof::Silence)
        } else if document_at_fault && self.signs.is_quiet(now, settings) {
            Some(Proof::Document)
        } else if suspect != Some(Suspect::SharedBackend) && self.signs.proves_errors(now) {
            Some(Proof::Errors)
        } else {
            None
        }
    }

    /// Draws the conclusion from `proof`; `true` if it has just died.
    pub(super) fn settle(&mut self, now: Uptime) -> bool {
        match (self.proof, &mut self.death) {
            (Some(proof), None) => {
                let fell = self.signs.evidence().first_sign.unwrap_or(now);
                self.death = Some(Death { proof, fell, answered: false });
                return true;
            }
            (Some(proof), Some(death)) if strength(proof) > strength(death.proof) => {
                death.proof = proof;
            }
            (None, Some(death)) if death.answered => self.death = None,
            (Some(_) | None, Some(_)) | (None, None) => {}
        }
        false
    }
}

/// A plane among several is probed by how it is itself.
pub(super) const fn standing(it: &OnePlane, several: bool, server_dead: bool) -> Standing {
    let dead = if several { it.death.is_some() } else { server_dead };
    Standing { dead, unanswered: it.signs.unanswered() }
}

/// A refusal rules out most, an error least.
pub(super) const fn strength(proof: Proof) -> u8 {
    match proof {
        Proof::Refused => 3,
        Proof::Silence => 2,
        Proof::Document => 1,
        Proof::Errors | Proof::Drill | Proof::Plane(_) => 0,
    }
}
