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

use std::time::Duration;

use crate::cluster::ServerId;
use crate::decision::{self, Outcome, Plane, decide};
use crate::directory::UserId;
use crate::door::clients::front::NOBODY_THERE;
use crate::door::clients::login::Refusal;
use crate::door::clients::session::{Leg, Pending, Stage};
use crate::door::slots::SlotId;
use crate::door::{Door, Timer};
use crate::now::{Now, Uptime};
use crate::recovery::ActiveSession;
use crate::ucsap::login::{LoginOutcome, detail};
use crate::ucsap::{Class, Kind, Member, Message, Operation, Piece};

/// What a client hears of an invoke of which nobody knows whether it was carried out.
const OUTCOME_UNKNOWN: &str = "the server failed before it answered, so it is not known whether this was done; look before \
     you ask again";

/// Until a session is tried again, the first time; it doubles.
const AGAIN_AFTER: Duration = Duration::from_millis(100);
const AGAIN_AFTER_MAX: Duration = Duration::from_secs(5);
/// Until it is looked again whether a session that is held may still hope.
const LOOK_AGAIN_AFTER: Duration = Duration::from_secs(5);
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

    fn wake_one_session(&mut self, now: Now, id: SlotId) {
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
                self.refuse_login(now, id, Refusal::Busy);
            } else if session.stage == Stage::In && session.gap.is_some() {
                self.try_again_later(now, id);
            }
        }
    }

    /// The server of a session is gone.
    pub(super) fn begin_gap(&mut self, now: Now, id: SlotId) {
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        session.gap = Some(now.uptime);
        session.restoring = 0;
        session.wishes.unserve();
        self.stats.client_gaps += 1;
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
        let has_address = self.settings.servers[server.index()].clients.is_some();
        let home = session.user.and_then(|user| self.directory.get(user).home);
        let can_move = session.can_move() && has_address;
        let stays = self.stays_at_home(id) && home != Some(server);
        if !can_move || stays {
            self.stats.client_sessions_unmovable += 1;
            return self.close_soon(now, id);
        }
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        if session.queued.replace(server) != Some(server) {
            self.clients.lanes[server.index()].queue.push_back(id);
        }
        self.pump_client_lane(now, server);
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
                self.open_leg(id, server, true);
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
    fn settle_next_leg(&mut self, now: Now, id: SlotId) {
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
        match outcome {
            Some(LoginOutcome::Succeeded { .. }) => self.stand_on_next_leg(now, id),
            Some(LoginOutcome::Busy { .. }) => self.next_leg_failed(now, id),
            Some(LoginOutcome::Redirect(_) | LoginOutcome::Methods | LoginOutcome::NextStep)
            | None => {
                // It does not take what its neighbour took: the client has to show something else.
                self.settle_next_leg(now, id);
                self.drop_next_leg(id);
                self.stats.client_sessions_refused_anew += 1;
                self.close_soon(now, id);
            }
        }
    }

    fn stand_on_next_leg(&mut self, now: Now, id: SlotId) {
        let overlap = self.settings.clients.overlap;
        self.settle_next_leg(now, id);
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        let Some(next) = session.next.take() else { return };
        session.failures = 0;
        session.again_at = None;
        session.wishes.unserve();
        let numbers = session.wishes.numbers();
        session.restoring = numbers.len();
        let (before, older) = (session.leg.replace(next), session.old.take());
        let mut left = Vec::new();
        left.extend(older.map(|(leg, _)| leg));
        match before {
            Some(leg) if !leg.pending.is_empty() => session.old = Some((leg, now.uptime + overlap)),
            leg => left.extend(leg),
        }
        for leg in left {
            self.log_leg_off(id, leg);
        }
        for number in numbers {
            self.wish_anew(id, number);
        }
        self.check_restored(now, id);
        self.wake_session(id);
    }

    fn wish_anew(&mut self, id: SlotId, number: u32) {
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        let (Some(leg), Some(wish)) = (&mut session.leg, session.wishes.get(number)) else {
            return;
        };
        let invoke = leg.ask(Pending::Wish(number));
        let at = (leg.number, leg.server);
        let (operation, argument, leftover) =
            (wish.operation, wish.argument.clone(), wish.leftover());
        let after = leftover.map(|leftover| (leg.ask(Pending::Leftover), leftover));
        self.ask_on_leg(id, at, invoke, operation, argument);
        if let Some((invoke, (operation, argument))) = after
            && let Some(bytes) =
                self.write_for(id, |envelope| envelope.invoke(invoke, operation, &argument))
        {
            self.send_on_leg(at.0, at.1, bytes);
        }
    }

    /// A wish is granted anew, or not.
    pub(super) fn on_wish_answered(
        &mut self,
        now: Now,
        id: SlotId,
        number: u32,
        message: &Message,
    ) {
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        session.restoring = session.restoring.saturating_sub(1);
        let served = match (message.kind(), message.body()) {
            (Kind::Result, Some(body)) => session.wishes.served(number, &body).ok(),
            (Kind::Result, None) => Some(Vec::new()),
            (Kind::Invoke | Kind::Error | Kind::Reject, _) => None,
        };
        let events = served.unwrap_or_else(|| {
            self.stats.wishes_refused_anew += 1;
            session.wishes.refused(number).into_iter().collect()
        });
        for (operation, argument) in events {
            let event = self.write_for(id, |envelope| envelope.event(operation, &argument));
            if let Some(bytes) = event {
                self.stats.client_differences += 1;
                self.tell(id, bytes);
            }
        }
        self.check_restored(now, id);
    }

    /// Everything is as the client wants it: what it asked meanwhile goes on.
    fn check_restored(&mut self, now: Now, id: SlotId) {
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        if session.restoring > 0 {
            return;
        }
        session.gap = None;
        let held = std::mem::take(&mut session.held);
        self.stats.client_sessions_moved += 1;
        for message in held {
            self.pass_on(now, id, &message);
        }
    }

    /// What a server that is gone has not answered, by what it was (M10).
    pub(super) fn answer_pending(&mut self, now: Now, id: SlotId, leg: Leg) {
        let mut again = Vec::new();
        for (_, pending) in leg.pending {
            let Pending::Client { id: invoke, operation, asked } = pending else { continue };
            match (operation.class(), asked) {
                (Class::Read | Class::Desired, Some(asked)) => again.push(asked),
                (Class::Removal, Some(asked)) => {
                    if let Some(session) = self.clients.sessions.get_mut(id) {
                        // One that cannot be read takes nothing away.
                        let _ = session.wishes.end(&asked);
                    }
                    self.tell_result(id, invoke, &removed(operation));
                }
                (Class::Connection | Class::Event, _) => {}
                (Class::Act | Class::Read | Class::Desired | Class::Removal, _) => {
                    self.stats.client_invokes_unknown_outcome += 1;
                    self.tell_error_to(id, invoke, detail::INTERNAL, OUTCOME_UNKNOWN);
                }
            }
        }
        // They go before what was asked later.
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        if session.leg.is_some() && session.restoring == 0 {
            for asked in again {
                self.pass_on(now, id, &asked);
            }
        } else {
            again.into_iter().rev().for_each(|asked| session.held.push_front(asked));
        }
    }

    /// A leg that owed answers has given them, or had its time.
    pub(super) fn leave_old_leg(&mut self, id: SlotId) {
        let old = self.clients.sessions.get_mut(id).and_then(|session| session.old.take());
        if let Some((leg, _)) = old {
            self.log_leg_off(id, leg);
        }
    }

    /// A session that cannot go on: its client comes back and is decided anew.
    pub(super) fn close_soon(&mut self, now: Now, id: SlotId) {
        let spread = self.settings.clients.close_spread;
        let wait = self.jitter(Duration::ZERO, spread);
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        if session.closes_at.is_none() {
            session.closes_at = Some(now.uptime + wait);
            self.stats.client_sessions_closed += 1;
        }
        self.wake_session(id);
    }

    /// Sets a session's timer for the next thing that is due.
    pub(super) fn wake_session(&mut self, id: SlotId) {
        let settings = &self.settings.clients;
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        let waits = matches!(session.stage, Stage::Deciding | Stage::LoggingIn | Stage::Adopting);
        let login = session.login.as_ref().filter(|_| waits).map(|login| login.until);
        let held = session.gap.filter(|_| !session.held.is_empty());
        let due = [
            session.closes_at,
            session.again_at,
            login,
            session.old.as_ref().map(|(_, until)| *until),
            held.map(|since| since + settings.gap_patience),
            session.gap.map(|since| since + settings.gap_max),
        ];
        if let Some(at) = due.into_iter().flatten().min()
            && at < session.wakes_at
        {
            session.wakes_at = at;
            self.timers.set(at, Timer::Session(id));
        }
    }

    /// Does what is due of a session.
    pub(in crate::door) fn on_session_timer(&mut self, now: Now, id: SlotId) {
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        if session.wakes_at > now.uptime {
            return;
        }
        session.wakes_at = Uptime::NEVER;
        let is_due = |at: Option<Uptime>| at.is_some_and(|at| at <= now.uptime);
        if is_due(session.closes_at) {
            return self.close_session(id);
        }
        let waits = matches!(session.stage, Stage::Deciding | Stage::LoggingIn | Stage::Adopting);
        if waits && is_due(session.login.as_ref().map(|login| login.until)) {
            self.refuse_login(now, id, Refusal::Busy);
        }
        self.end_patience(now, id);
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        if session.old.as_ref().is_some_and(|(_, until)| *until <= now.uptime)
            && let Some((leg, _)) = session.old.take()
        {
            let (number, server) = (leg.number, leg.server);
            self.answer_pending(now, id, leg);
            self.log_leg_off(id, Leg::new(number, server));
        }
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        if is_due(session.again_at) {
            session.again_at = None;
            self.wake_one_session(now, id);
        }
        self.wake_session(id);
    }

    /// Whatever has waited for long enough in a gap is answered; a gap that lasts ends the session.
    fn end_patience(&mut self, now: Now, id: SlotId) {
        let settings = &self.settings.clients;
        let (patience, most) = (settings.gap_patience, settings.gap_max);
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        let Some(since) = session.gap else { return };
        if now.uptime >= since + patience {
            for message in std::mem::take(&mut session.held) {
                self.stats.client_invokes_answered_in_gap += 1;
                self.tell_error(id, &message, detail::INTERNAL, NOBODY_THERE);
            }
        }
        if now.uptime >= since + most {
            self.close_soon(now, id);
        }
    }

    /// The connection goes, unless others share it: then the session alone.
    fn close_session(&mut self, id: SlotId) {
        let Some(connection) = self.clients.sessions.get(id).map(|it| it.connection) else {
            return;
        };
        let shared = |it: &super::Connection| it.sessions.len() > 1;
        if self.clients.connections.get(connection).is_some_and(shared) {
            self.end_session(id);
        } else {
            self.close_client(connection);
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

/// What a server would have said to a removal.
fn removed(operation: Operation) -> Piece {
    if operation == Operation::UNSUBSCRIBE_PRESENCE {
        return Piece::Sequence(vec![(Member::nth("iResult", 0), Piece::Integer(0))]);
    }
    Piece::Sequence(Vec::new())
}
