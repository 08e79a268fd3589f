//! What goes from a client to its server, and back.

use crate::door::Door;
use crate::door::clients::front::NOBODY_THERE;
use crate::door::clients::session::{Held, Negotiated, Pending, Stage, Which};
use crate::door::slots::SlotId;
use crate::now::Now;
use crate::ucsap::login::{self, detail};
use crate::ucsap::{Class, Kind, Message, Operation, Problem, cti, negotiate};

impl Door {
    /// A client asks something that is its server's to answer.
    pub(super) fn pass_on(&mut self, now: Now, id: SlotId, message: &Message) {
        self.pass_on_again(now, id, message, 0);
    }

    /// The same where servers that are gone had been asked before.
    pub(super) fn pass_on_again(&mut self, now: Now, id: SlotId, message: &Message, tries: u8) {
        let pending_max = self.settings.clients.limits.pending;
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        if session.stage == Stage::In && (session.leg.is_none() || session.restoring > 0) {
            return self.hold_invoke(now, id, message, tries);
        }
        let (operation, Some(invoke)) = (message.operation(), message.id()) else { return };
        let Some(leg) = &mut session.leg else {
            let words = "negotiate and log in first";
            return self.tell_error(id, message, detail::NEGOTIATION_REQUIRED, words);
        };
        if leg.pending.len() >= pending_max {
            return self.tell_problem(id, message, Problem::ResourceLimitation);
        }
        let mut passed = None;
        if let Some(body) = message.body()
            && let Ok(Some((ours, at))) = cti::cross_ref(operation, &body)
            && let Some(theirs) = session.wishes.theirs(&ours)
            && theirs != ours
        {
            passed = Some(message.with_text(at, theirs));
        }
        let asked = match operation.class() {
            Class::Read | Class::Desired | Class::Removal => Some(message.detached()),
            Class::Connection | Class::Act | Class::Event => None,
        };
        let Some(theirs) = leg.pass_on(invoke, operation, asked, tries) else {
            return self.tell_problem(id, message, Problem::DuplicateInvocation);
        };
        let way = leg.way();
        let bytes = passed.as_ref().unwrap_or(message).with_id(theirs).bytes().clone();
        self.stats.client_invokes += 1;
        self.send_on_leg(way, bytes);
    }

    /// Nobody can be asked at the moment: it waits, but not for long.
    fn hold_invoke(&mut self, now: Now, id: SlotId, message: &Message, tries: u8) {
        let settings = &self.settings.clients;
        let (most, patience) = (settings.limits.held, settings.gap_patience);
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        let is_late = session.gap.is_some_and(|since| now.uptime >= since + patience);
        if is_late || session.held.len() >= most {
            self.stats.client_invokes_answered_in_gap += 1;
            return self.tell_error(id, message, detail::INTERNAL, NOBODY_THERE);
        }
        session.held.push_back(Held { message: message.detached(), tries });
        self.stats.client_invokes_held += 1;
        self.wake_session(id);
    }

    /// An event of a client, which is a sign of life most of the time, or its answer to a question of
    /// its server's. In a gap nobody misses either.
    pub(super) fn pass_event_on(&mut self, id: SlotId, message: &Message) {
        let Some(session) = self.clients.sessions.get(id) else { return };
        let Some(leg) = &session.leg else { return };
        let way = leg.way();
        self.send_on_leg(way, message.bytes().clone());
    }

    /// A server says something on a leg.
    pub(super) fn on_server_message(&mut self, now: Now, number: u64, message: &Message) {
        let Some(&id) = self.clients.legs.get(&number) else {
            return self.on_client_probe_answered(now, number, message);
        };
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        let Some((which, leg)) = session.leg_mut(number) else { return };
        if message.kind() == Kind::Invoke {
            return self.on_server_invoke(id, which, message);
        }
        let pending = message.id().and_then(|invoke| leg.pending.remove(&invoke));
        let is_over = which == Which::Old && leg.pending.is_empty();
        match pending {
            None => self.stats.rose_strays += 1,
            Some(Pending::Client { id: invoke, asked, .. }) => {
                self.on_client_answered(id, invoke, asked.as_ref(), message);
            }
            Some(Pending::Negotiate) => self.on_negotiated(now, id, message),
            Some(Pending::Login) => match self.stage_of(id) {
                Some(Stage::LoggingIn) => self.on_login_answered(now, id, which, message),
                Some(Stage::In) if which == Which::Next => self.on_logged_in_anew(now, id, message),
                _ => self.stats.rose_strays += 1,
            },
            Some(Pending::Wish(wish)) => self.on_wish_answered(now, id, wish, message),
            Some(Pending::Abandoned(wanted)) => self.take_back(id, number, wanted, message),
            Some(Pending::Leftover) => {}
        }
        if is_over {
            self.leave_old_leg(id);
        }
    }

    fn stage_of(&self, id: SlotId) -> Option<Stage> {
        self.clients.sessions.get(id).map(|session| session.stage)
    }

    /// An event, or a question, of a server. Of one that is left, or not reached yet, the client
    /// knows nothing.
    fn on_server_invoke(&mut self, id: SlotId, which: Which, message: &Message) {
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        if which != Which::Leg {
            return;
        }
        let told = session.wishes.translate(message);
        self.stats.client_events += 1;
        self.tell(id, told.bytes().clone());
    }

    fn on_client_answered(
        &mut self,
        id: SlotId,
        invoke: i64,
        asked: Option<&Message>,
        message: &Message,
    ) {
        let most = self.settings.clients.limits.wishes;
        if message.kind() == Kind::Result
            && asked.is_some_and(|asked| asked.operation() == Operation::GET_USER_TOKEN)
        {
            let token = message.body().and_then(|body| login::token_handed_out(&body).ok());
            self.note_token(id, token);
        }
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        if message.kind() == Kind::Result
            && let Some(asked) = asked
        {
            let kept = session.wishes.granted(asked, message.body().as_ref(), most);
            // One that cannot be read, or for which there is no room, is not made anew elsewhere.
            self.stats.wishes_shed += u64::from(kept != Ok(true));
        }
        self.tell(id, message.with_id(invoke).bytes().clone());
    }

    /// A server has said who it is.
    fn on_negotiated(&mut self, now: Now, id: SlotId, message: &Message) {
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        let answer = match (message.kind(), message.body()) {
            (Kind::Result, Some(body)) => negotiate::Negotiated::read(&body).ok(),
            _ => None,
        };
        let stage = session.stage;
        let Some(negotiate::Negotiated::Done { connection, at }) = answer else {
            return match (stage, answer) {
                (Stage::Negotiating, Some(negotiate::Negotiated::Busy { .. })) => {
                    self.drop_next_leg(id);
                    self.negotiate_elsewhere(now, id);
                }
                (Stage::Negotiating, _) => self.pass_negotiation_on(id, message, Stage::New),
                (Stage::LoggingIn, _) => {
                    self.drop_next_leg(id);
                    self.login_again(now, id);
                }
                _ => self.next_leg_failed(now, id),
            };
        };
        match stage {
            Stage::Negotiating => {
                let Some(Negotiated { connection: first, .. }) = &mut session.negotiated else {
                    return;
                };
                let told = match first {
                    Some(first) if *first != connection => message.with_text(at, first),
                    _ => message.clone(),
                };
                first.get_or_insert(connection);
                self.pass_negotiation_on(id, &told, Stage::Negotiated);
            }
            Stage::LoggingIn | Stage::In => self.show_login(id, Which::Next),
            Stage::New | Stage::Negotiated | Stage::Deciding | Stage::Adopting => {
                self.drop_next_leg(id)
            }
        }
    }

    /// The client hears what the server said, and goes on from there.
    fn pass_negotiation_on(&mut self, id: SlotId, message: &Message, stage: Stage) {
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        session.stage = stage;
        let left = if stage == Stage::Negotiated {
            std::mem::replace(&mut session.leg, session.next.take())
        } else {
            session.next.take()
        };
        let Some(invoke) = session.negotiated.as_ref().map(|negotiated| negotiated.id) else {
            return;
        };
        if let Some(left) = left {
            self.abandon_leg(id, left);
        }
        self.tell(id, message.with_id(invoke).bytes().clone());
    }

    pub(super) fn drop_next_leg(&mut self, id: SlotId) {
        let next = self.clients.sessions.get_mut(id).and_then(|session| session.next.take());
        if let Some(next) = next {
            self.leave_leg(next);
        }
    }
}
