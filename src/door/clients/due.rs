//! What is due of a session, by its one timer: patience that ends, legs that are late, closing.

use std::time::Duration;

use crate::cluster::Plane;
use crate::cluster::health::Observation;
use crate::door::clients::Connection;
use crate::door::clients::front::NOBODY_THERE;
use crate::door::clients::login::Refusal;
use crate::door::clients::session::{Held, Leg, Session, Stage};
use crate::door::slots::SlotId;
use crate::door::{Door, Timer};
use crate::now::{Now, Uptime};
use crate::ucsap::login::detail;

impl Door {
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
            session.next.as_ref().map(|leg| leg.until),
            session.restores_since().map(|since| since + settings.restore_patience),
            held.map(|since| since + settings.gap_patience),
            session.unserved_since().map(|since| since + settings.gap_max),
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
            self.refuse_login(id, Refusal::Busy);
        }
        let restores_since = self.clients.sessions.get(id).and_then(Session::restores_since);
        if is_due(restores_since.map(|since| since + self.settings.clients.restore_patience)) {
            self.give_wishes_up(now, id);
        }
        self.end_patience(now, id);
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        if let Some((mut leg, _)) = session.old.take_if(|(_, until)| *until <= now.uptime) {
            let owed = std::mem::take(&mut leg.pending);
            self.answer_pending(now, id, owed);
            self.log_leg_off(id, leg);
        }
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        if let Some(late) = session.next.as_ref().filter(|leg| leg.until <= now.uptime) {
            let (number, server) = (late.number, late.server);
            self.health.observe(now.uptime, server, Observation::TimedOut(Plane::Client));
            self.lose_leg(now, number);
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
            for Held { message, .. } in std::mem::take(&mut session.held) {
                self.stats.client_invokes_answered_in_gap += 1;
                self.tell_error(id, &message, detail::INTERNAL, NOBODY_THERE);
            }
        }
        let unserved = self.clients.sessions.get(id).and_then(Session::unserved_since);
        if unserved.is_some_and(|since| now.uptime >= since + most) {
            self.close_soon(now, id);
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

    /// The connection goes, unless others share it: then the session alone, whose client hears that
    /// nobody answers it, or watches for it, any more. Whatever it asks next, it is to negotiate first.
    fn close_session(&mut self, id: SlotId) {
        let Some(connection) = self.clients.sessions.get(id).map(|it| it.connection) else {
            return;
        };
        let shared = |it: &Connection| it.sessions.len() > 1;
        if self.clients.connections.get(connection).is_some_and(shared) {
            self.say_goodbye(id);
            self.end_session(id);
        } else {
            self.close_client(connection);
        }
    }

    fn say_goodbye(&mut self, id: SlotId) {
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        let held = std::mem::take(&mut session.held);
        let wishes: Vec<_> = session.wishes.numbers();
        let stopped: Vec<_> =
            wishes.into_iter().filter_map(|it| session.wishes.refused(it)).collect();
        let legs: Vec<Leg> = session.take_legs().collect();
        for leg in legs {
            self.abandon_leg(id, leg);
        }
        for Held { message, .. } in held {
            self.tell_error(id, &message, detail::INTERNAL, NOBODY_THERE);
        }
        self.tell_differences(id, stopped);
    }
}
