//! A session goes on at another server, or at its own that was away: another leg, the same
//! connection to the client (M9).
//!
//! ```text
//!  leg lost ──▶ gap ──▶ seek: where is the user? ──▶ lane ──▶ next leg ──▶ negotiated, logged in
//!  user moved ────────────────▶ seek                 (paced)                     │
//!                                                                  the next leg is the leg
//!                                                                                │
//!  held invokes go on ◀── gap over ◀── every wish made anew, differences told ◀──┘
//! ```
//!
//! What cannot be replayed is closed, spread over time, and decided anew when it comes back.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::cluster::ServerId;
use crate::decision::{self, Outcome, Plane, decide};
use crate::directory::UserId;
use crate::door::clients::login::Refusal;
use crate::door::clients::session::{Leg, Pending, Stage};
use crate::door::slots::SlotId;
use crate::door::{Door, Timer};
use crate::now::Now;
use crate::recovery::ActiveSession;
use crate::ucsap::login::LoginOutcome;
use crate::ucsap::{Class, Kind, Message};

/// Until a session is tried again, the first time; it doubles.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(5);
/// Until it is looked again whether a session that is held may still hope.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(5);
/// A server that drops a session sooner than this after it was let in may do so again.
const STEADY: Duration = Duration::from_secs(5);
/// Servers that refuse a session so often will not take it.
const FAILURES_MAX: u32 = 12;

impl Door {
    /// A user is elsewhere now, or something that their logins waited for has come.
    pub(in crate::door) fn wake_sessions_of(&mut self, now: Now, user: UserId) {
        for id in self.clients.of(user) {
            self.wake_one_session(now, id);
        }
    }

    /// The pool looks different.
    pub(in crate::door) fn wake_waiting_sessions(&mut self, now: Now) {
        for id in std::mem::take(&mut self.clients.waiting) {
            self.wake_one_session(now, id);
        }
    }

    pub(super) fn wake_one_session(&mut self, now: Now, id: SlotId) {
        match self.clients.sessions.get(id).map(|session| session.stage) {
            Some(Stage::Deciding) => self.decide_login(now, id),
            Some(Stage::In) => self.seek(now, id),
            Some(
                Stage::New
                | Stage::Negotiating
                | Stage::Negotiated
                | Stage::LoggingIn
                | Stage::Adopting,
            )
            | None => {}
        }
    }

    /// What a user waited for could not be recorded.
    pub(in crate::door) fn block_sessions_of(&mut self, now: Now, user: UserId) {
        for id in self.clients.of(user) {
            let Some(session) = self.clients.sessions.get(id) else { continue };
            if session.stage == Stage::Deciding {
                self.refuse_login(id, Refusal::Busy);
            } else if session.stage == Stage::In && session.gap.is_some() {
                self.try_again_later(now, id);
            }
        }
    }

    /// The server of a session is gone.
    pub(super) fn begin_gap(&mut self, now: Now, id: SlotId) {
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        session.gap.get_or_insert(now.uptime);
        session.restoring = 0;
        session.wishes.unserve();
        self.stats.client_gaps += 1;
        let stood = session.stands_since.take();
        if stood.is_some_and(|since| now.uptime.since(since) < STEADY) {
            // What the server was just told may be what it cannot bear.
            return self.try_again_later(now, id);
        }
        session.failures = 0;
        self.seek(now, id);
    }

    /// Brings a session to where its user is now, if it is not there.
    pub(super) fn seek(&mut self, now: Now, id: SlotId) {
        let Some(session) = self.clients.sessions.get(id) else { return };
        if session.stage != Stage::In || session.closes_at.is_some() {
            return;
        }
        let at = session.leg.as_ref().map(|leg| leg.server);
        let toward = session.next.as_ref().map(|leg| leg.server);
        let Some(user) = session.user else {
            // Nobody knows whose it is, so nobody knows where it belongs.
            if at.is_none() {
                self.close_soon(now, id);
            }
            return;
        };
        if self.ledger.is_recording(user) {
            return self.wake_session(id);
        }
        let asked = decision::Login { plane: Plane::Client, user, reached: None };
        let (view, policy) = (self.view(), &self.settings.decision);
        let verdict = decide(&asked, &view, &self.directory, policy, now.uptime);
        match verdict.outcome {
            Outcome::Accept(server) | Outcome::Forward(server) => {
                if at == Some(server) {
                    self.drop_next_leg(id);
                } else if toward != Some(server) {
                    self.move_session(now, id, server);
                }
            }
            Outcome::AssignHome(server) if at.is_none() => self.record_home(now, user, server),
            Outcome::Relocate(server) if at.is_none() => self.record_relocation(now, user, server),
            Outcome::Block { .. } if at.is_none() => self.close_soon(now, id),
            Outcome::Hold => {
                self.clients.waiting.insert(id);
                self.look_again(now, id);
            }
            Outcome::AssignHome(_) | Outcome::Relocate(_) | Outcome::Block { .. } => {}
        }
        self.wake_session(id);
    }

    /// Nothing tells that a grace time is over.
    fn look_again(&mut self, now: Now, id: SlotId) {
        let wait = self.jitter(LOOK_AGAIN_AFTER / 2, LOOK_AGAIN_AFTER);
        if let Some(session) = self.clients.sessions.get_mut(id) {
            session.again_at = Some(now.uptime + wait);
        }
    }

    fn move_session(&mut self, now: Now, id: SlotId, server: ServerId) {
        let Some(session) = self.clients.sessions.get(id) else { return };
        let has_address = self.entrance_of(server, session.entrance).is_some();
        let home = session.user.and_then(|user| self.directory.get(user).home);
        let can_move = session.can_move() && has_address && !self.is_redirected(id, server);
        let stays = self.stays_at_home(id) && home != Some(server);
        if !can_move || stays {
            self.stats.client_sessions_unmovable += 1;
            return self.close_soon(now, id);
        }
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        if session.queued.replace(server) != Some(server) {
            self.queue_for(id, server);
        }
        self.pump_client_lane(now, server);
    }

    /// Whoever has gone elsewhere leaves a place in the queue that says nothing any more; those are
    /// cleared away before they are more than the sessions.
    fn queue_for(&mut self, id: SlotId, server: ServerId) {
        let sessions = &self.clients.sessions;
        let queue = &mut self.clients.lanes[server.index()].queue;
        if queue.len() > sessions.len() {
            let mut seen = BTreeSet::new();
            let waits = |it: &SlotId| sessions.get(*it).is_some_and(|it| it.queued == Some(server));
            queue.retain(|it| waits(it) && *it != id && seen.insert(*it));
        }
        queue.push_back(id);
    }

    /// Places that were given up are for those who wait.
    pub(in crate::door) fn pump_freed_lanes(&mut self, now: Now) {
        while let Some(server) = self.clients.freed.pop() {
            self.pump_client_lane(now, server);
        }
    }

    /// Lets those who are to go to a server go, as many as it takes.
    pub(super) fn pump_client_lane(&mut self, now: Now, server: ServerId) {
        loop {
            let lane = &mut self.clients.lanes[server.index()];
            if lane.queue.is_empty() || !lane.pacer.has_room() {
                return;
            }
            if let Some(until) = lane.pacer.wait_until(now.uptime) {
                if !std::mem::replace(&mut lane.woken, true) {
                    self.timers.set(until, Timer::ClientLane(server));
                }
                return;
            }
            let Some(id) = lane.queue.pop_front() else { return };
            if let Some(session) = self.clients.sessions.get_mut(id) {
                session.queued.take_if(|queued| *queued == server);
            }
            if self.is_wanted_at(id, server) {
                self.clients.lanes[server.index()].pacer.start(now.uptime);
                self.open_leg(now, id, server, true);
            }
        }
    }

    /// A step that has become stale finds nothing to do.
    fn is_wanted_at(&self, id: SlotId, server: ServerId) -> bool {
        let Some(session) = self.clients.sessions.get(id) else { return false };
        let current = session.user.and_then(|user| self.current(user));
        let at = session.leg.as_ref().map(|leg| leg.server);
        let toward = session.next.as_ref().map(|leg| leg.server);
        session.stage == Stage::In
            && session.closes_at.is_none()
            && current == Some(server)
            && at != Some(server)
            && toward != Some(server)
    }

    pub(in crate::door) fn on_client_lane_timer(&mut self, now: Now, server: ServerId) {
        self.clients.lanes[server.index()].woken = false;
        self.pump_client_lane(now, server);
    }

    /// A leg to a server came to nothing.
    pub(super) fn lane_lost(&mut self, now: Now, server: ServerId) {
        self.clients.lanes[server.index()].pacer.lost();
        self.pump_client_lane(now, server);
    }

    /// A server has answered what was asked of it on a leg that is made ready.
    pub(super) fn settle_next_leg(&mut self, now: Now, id: SlotId) {
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        let Some(next) = &mut session.next else { return };
        let server = next.server;
        if std::mem::take(&mut next.paced) {
            self.clients.lanes[server.index()].pacer.answered();
            self.pump_client_lane(now, server);
        }
    }

    /// The next leg answers, but not as it should.
    pub(super) fn next_leg_failed(&mut self, now: Now, id: SlotId) {
        if let Some(mut next) = self.clients.sessions.get_mut(id).and_then(|it| it.next.take()) {
            let (server, paced) = (next.server, std::mem::take(&mut next.paced));
            self.leave_leg(next);
            if paced {
                self.lane_lost(now, server);
            }
        }
        self.try_again_later(now, id);
    }

    pub(super) fn try_again_later(&mut self, now: Now, id: SlotId) {
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        session.failures += 1;
        if session.stage == Stage::In && session.failures > FAILURES_MAX {
            return self.close_soon(now, id);
        }
        let wait =
            AGAIN_AFTER.saturating_mul(1 << session.failures.min(8)).min(AGAIN_AFTER_MAX) / 2;
        let wait = self.jitter(wait, wait * 2);
        if let Some(session) = self.clients.sessions.get_mut(id) {
            session.again_at = Some(now.uptime + wait);
        }
        self.wake_session(id);
    }

    /// The server where the user is now has answered the login.
    pub(super) fn on_logged_in_anew(&mut self, now: Now, id: SlotId, message: &Message) {
        let outcome = match (message.kind(), message.body()) {
            (Kind::Result, Some(body)) => LoginOutcome::read(&body).ok(),
            _ => None,
        };
        self.go_on_anew(now, id, outcome);
    }

    /// The same, whichever way it was answered.
    pub(super) fn go_on_anew(&mut self, now: Now, id: SlotId, outcome: Option<LoginOutcome>) {
        match outcome {
            Some(LoginOutcome::Succeeded { .. }) => self.stand_on_next_leg(now, id),
            Some(LoginOutcome::Busy { .. }) => self.next_leg_failed(now, id),
            Some(LoginOutcome::Redirect(to)) => self.redirect_session(now, id, &to),
            Some(LoginOutcome::Methods | LoginOutcome::NextStep) | None => {
                // It does not take what its neighbour took: the client has to show something else.
                self.settle_next_leg(now, id);
                self.drop_next_leg(id);
                self.stats.client_sessions_refused_anew += 1;
                self.close_soon(now, id);
            }
        }
    }

    /// The server where the user is now says that another one is responsible (D9).
    fn redirect_session(&mut self, now: Now, id: SlotId, to: &str) {
        self.settle_next_leg(now, id);
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        let (Some(next), Some(user)) = (session.next.take(), session.user) else { return };
        let from = next.server;
        self.leave_leg(next);
        let to = self.judge_destination(from, self.server_for_clients_at(to));
        match self.follow(now, user, from, to) {
            // Where the user belongs is being recorded, or is known already.
            Ok(()) => self.try_again_later(now, id),
            Err(why) => {
                self.misdirected(now, from, why);
                self.stats.client_sessions_refused_anew += 1;
                self.close_soon(now, id);
            }
        }
    }

    /// Whether a user's clients are in the middle of something (B1).
    pub(in crate::door) fn has_active_client(&self, user: UserId, which: ActiveSession) -> bool {
        self.clients.of(user).into_iter().any(|id| {
            let Some(session) = self.clients.sessions.get(id) else { return false };
            if session.stage != Stage::In || session.closes_at.is_some() {
                return session.closes_at.is_none();
            }
            let acts = |leg: &Leg| {
                leg.pending.values().any(|pending| {
                    matches!(pending, Pending::Client { operation, .. } if operation.class() == Class::Act)
                })
            };
            let busy = session.gap.is_some()
                || session.next.is_some()
                || session.restoring > 0
                || session.leg.as_ref().is_some_and(acts)
                || session.wishes.calls() > 0;
            busy || which == ActiveSession::Any || !session.can_move()
        })
    }
}
