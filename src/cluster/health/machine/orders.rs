//! What an operator orders for one server: maintenance, a drain, a drill (H3, O5).

use crate::cluster::health::machine::failing::hold;
use crate::cluster::health::machine::{Change, Machine};
use crate::cluster::health::{Evidence, Settings};
use crate::cluster::{Failure, Proof, State};
use crate::now::Uptime;

impl Machine {
    /// By command, or again like any other: then it is judged anew, as at the start. `None` if that
    /// is so already.
    pub(in crate::cluster::health) fn maintain(&mut self, now: Uptime, on: bool) -> Option<Change> {
        if on == self.is_in_maintenance() {
            return None;
        }
        self.fell_silent = None;
        if on {
            // In probation it answers; what was down still does not.
            self.failure = self.failure.filter(|_| self.state == State::Down);
            return Some(self.enter(now, State::Maintenance));
        }
        self.planes.forget_verdicts(now);
        self.fetching.restart(now);
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
    pub(in crate::cluster::health) fn drain(
        &mut self,
        now: Uptime,
        on: bool,
    ) -> Option<Option<Change>> {
        if on == self.drains || self.is_in_maintenance() {
            return None;
        }
        self.drains = on;
        Some(match self.state {
            State::Unknown
            | State::Up
            | State::Degraded
            | State::Partial
            | State::Ramp
            | State::Drain => Some(self.enter(now, if on { State::Drain } else { State::Ramp })),
            State::Down | State::Probation | State::Maintenance => None,
        })
    }

    /// By command: it is failed, although it is well. `None` unless it is up.
    pub(in crate::cluster::health) fn begin_drill(&mut self, now: Uptime) -> Option<Change> {
        if self.state != State::Up {
            return None;
        }
        self.drilled = true;
        self.evidence = Evidence::default();
        self.failure = Some(Failure { proof: Proof::Drill, since: now, hold_until: now });
        self.exposed = true;
        self.before = State::Up;
        self.planes.restart_runs();
        Some(self.enter(now, State::Down))
    }

    /// It may come back, by the way of every server that does. `false` if there is no drill.
    pub(in crate::cluster::health) const fn end_drill(&mut self) -> bool {
        std::mem::replace(&mut self.drilled, false)
    }

    /// Under maintenance: only whether it answers counts, and only for those it serves.
    pub(super) fn judge_maintained(
        &mut self,
        now: Uptime,
        proof: Option<Proof>,
        settings: &Settings,
    ) -> Option<Change> {
        match (proof, self.failure) {
            (Some(proof), None) => {
                let hold_until = now + hold(proof, settings);
                self.failure = Some(Failure { proof, since: now, hold_until });
                self.planes.restart_runs();
            }
            (None, Some(_)) if self.planes.best_run() > 0 => {
                self.failure = None;
                self.forget_realms();
            }
            (None | Some(_), _) => return None,
        }
        Some((State::Maintenance, State::Maintenance))
    }
}
