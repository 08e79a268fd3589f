//! A session stands on another leg: what its client wants for good is asked for anew, the client hears
//! what is different, and what the last server owes is answered (M9, M10).

use std::collections::{BTreeMap, VecDeque};

use crate::door::Door;
use crate::door::clients::session::{Held, Leg, Pending};
use crate::door::slots::SlotId;
use crate::now::Now;
use crate::ucsap::login::detail;
use crate::ucsap::{Class, Kind, Member, Message, Operation, Piece, cti};

/// What a client hears of an invoke of which nobody knows whether it was carried out.
const OUTCOME_UNKNOWN: &str = "the server failed before it answered, so it is not known whether this was done; look before \
     you ask again";
/// Servers that may be gone over one question before it is theirs no longer: it may be what they die
/// of.
const ASKED_AGAIN_MAX: u8 = 2;

impl Door {
    pub(super) fn stand_on_next_leg(&mut self, now: Now, id: SlotId) {
        let overlap = self.settings.clients.overlap;
        self.settle_next_leg(now, id);
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        let Some(next) = session.next.take() else { return };
        session.again_at = None;
        session.stands_since = Some(now.uptime);
        let user = session.user;
        // Until everything is as before, what the client asks waits, though not for ever.
        session.gap.get_or_insert(now.uptime);
        let (before, older) = (session.leg.replace(next), session.old.take());
        if let Some((older, _)) = older {
            self.leave_with_answers(id, older);
        }
        if let Some(mut before) = before {
            let parted = before.part();
            self.settle_pending(id, parted);
            match self.clients.sessions.get_mut(id) {
                Some(session) if !before.pending.is_empty() => {
                    session.old = Some((before, now.uptime + overlap));
                }
                _ => self.log_leg_off(id, before),
            }
        }
        if let Some(user) = user {
            self.redirects.arrived(user);
        }
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        session.wishes.unserve();
        let numbers = session.wishes.numbers();
        session.restoring = numbers.len();
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
        let way = leg.way();
        let (operation, argument, leftover) =
            (wish.operation, wish.argument.clone(), wish.leftover());
        let after = leftover.map(|leftover| (leg.ask(Pending::Leftover), leftover));
        self.ask_on_leg(id, way, invoke, operation, argument);
        if let Some((invoke, (operation, argument))) = after
            && let Some(bytes) =
                self.write_for(id, |envelope| envelope.invoke(invoke, operation, &argument))
        {
            self.send_on_leg(way, bytes);
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
        match served {
            Some(events) => self.tell_differences(id, events),
            None => self.not_granted(id, number),
        }
        self.check_restored(now, id);
    }

    /// A wish is not granted anew: it is none any longer, and the client hears of it.
    fn not_granted(&mut self, id: SlotId, number: u32) {
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        self.stats.wishes_refused_anew += 1;
        let event = session.wishes.refused(number);
        self.tell_differences(id, event);
    }

    pub(super) fn tell_differences(
        &mut self,
        id: SlotId,
        events: impl IntoIterator<Item = (Operation, Piece)>,
    ) {
        for (operation, argument) in events {
            let event = self.write_for(id, |envelope| envelope.event(operation, &argument));
            if let Some(bytes) = event {
                self.stats.client_differences += 1;
                self.tell(id, bytes);
            }
        }
    }

    /// A server has had its time to grant what the client wants for good: it grants no more.
    pub(super) fn give_wishes_up(&mut self, now: Now, id: SlotId) {
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        let Some(leg) = &mut session.leg else { return };
        let mut open = Vec::new();
        for pending in leg.pending.values_mut() {
            if let Pending::Wish(number) = *pending
                && let Some(wish) = session.wishes.get(number)
            {
                *pending = Pending::Abandoned(wish.operation);
                open.push(number);
            }
        }
        for number in open {
            self.not_granted(id, number);
        }
        if let Some(session) = self.clients.sessions.get_mut(id) {
            session.restoring = 0;
        }
        self.check_restored(now, id);
    }

    /// A wish that was given up has been granted after all.
    pub(super) fn take_back(
        &mut self,
        id: SlotId,
        number: u64,
        wanted: Operation,
        message: &Message,
    ) {
        let stop = match wanted {
            Operation::MONITOR_START => Operation::MONITOR_STOP,
            Operation::AGENT_MONITOR_START => Operation::AGENT_MONITOR_STOP,
            _ => return,
        };
        let body = message.body().filter(|_| message.kind() == Kind::Result);
        let granted = body.and_then(|body| cti::cross_ref_of_result(wanted, &body).ok().flatten());
        let Some((cross_ref, _)) = granted else { return };
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        let Some((_, leg)) = session.leg_mut(number) else { return };
        let (invoke, way) = (leg.ask(Pending::Leftover), leg.way());
        let argument = cti::for_monitor(&cross_ref);
        if let Some(bytes) = self.write_for(id, |envelope| envelope.invoke(invoke, stop, &argument))
        {
            self.send_on_leg(way, bytes);
        }
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
        self.ask_held(now, id, held);
    }

    fn ask_held(&mut self, now: Now, id: SlotId, held: VecDeque<Held>) {
        for Held { message, tries } in held {
            self.pass_on_again(now, id, &message, tries);
        }
    }

    /// What a leg that is gone has not answered, where the session stands on another one, or on none.
    pub(super) fn answer_pending(&mut self, now: Now, id: SlotId, pending: BTreeMap<i64, Pending>) {
        self.settle_pending(id, pending);
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        if session.leg.is_some() && session.restoring == 0 {
            let held = std::mem::take(&mut session.held);
            self.ask_held(now, id, held);
        }
    }

    /// Answers what a server will not answer any more, by what it was (M10); what may be asked again
    /// waits for that, before what was asked later.
    fn settle_pending(&mut self, id: SlotId, pending: BTreeMap<i64, Pending>) {
        let mut again = Vec::new();
        for (_, pending) in pending {
            let Pending::Client { id: invoke, operation, asked, tries } = pending else {
                continue;
            };
            match (operation.class(), asked) {
                (Class::Read | Class::Desired, Some(message)) if tries < ASKED_AGAIN_MAX => {
                    again.push(Held { message, tries: tries + 1 });
                }
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
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        again.into_iter().rev().for_each(|held| session.held.push_front(held));
    }

    /// Leaves a leg on which nobody was logged in: what it was asked, nobody answers.
    pub(super) fn abandon_leg(&mut self, id: SlotId, mut leg: Leg) {
        let owed = std::mem::take(&mut leg.pending);
        self.disappoint(id, owed);
        self.leave_leg(leg);
    }

    /// Says of what nobody will answer that it was in vain.
    pub(super) fn disappoint(&mut self, id: SlotId, pending: BTreeMap<i64, Pending>) {
        for (_, pending) in pending {
            if let Pending::Client { id: invoke, operation, .. } = pending
                && operation.class() != Class::Event
            {
                self.stats.client_invokes_unknown_outcome += 1;
                self.tell_error_to(id, invoke, detail::INTERNAL, OUTCOME_UNKNOWN);
            }
        }
    }

    /// Leaves a leg without waiting any longer for what it owes.
    pub(super) fn leave_with_answers(&mut self, id: SlotId, mut leg: Leg) {
        let owed = std::mem::take(&mut leg.pending);
        self.settle_pending(id, owed);
        self.log_leg_off(id, leg);
    }

    /// A leg that owed answers has given them, or had its time.
    pub(super) fn leave_old_leg(&mut self, id: SlotId) {
        let old = self.clients.sessions.get_mut(id).and_then(|session| session.old.take());
        if let Some((leg, _)) = old {
            self.log_leg_off(id, leg);
        }
    }
}

/// What a server would have said to a removal.
fn removed(operation: Operation) -> Piece {
    if operation == Operation::UNSUBSCRIBE_PRESENCE {
        return Piece::Sequence(vec![(Member::nth("iResult", 0), Piece::Integer(0))]);
    }
    Piece::Sequence(Vec::new())
}
