//! Calls: dialled, ringing, connected, over.

use std::sync::Arc;

use thiserror::Error;

use crate::now::Uptime;
use crate::ucsap::{Member, Operation, Piece};
use crate::ucserver::clients::argument::Argument;
use crate::ucserver::clients::connections::{At, guid};
use crate::ucserver::clients::lines::{FROM, Lines};
use crate::ucserver::clients::refusal::{GENERAL, Refused};
use crate::ucserver::clients::{Around, written};
use crate::ucserver::journal::Event;

const CONNECTION_ID: Member = Member::nth("u8sConnectionID", 0);

/// A call of one line.
#[derive(Clone, Debug)]
pub(in crate::ucserver) struct Call {
    /// `u8sConnectionID`.
    pub(in crate::ucserver) id: Arc<str>,
    pub(in crate::ucserver) line: Arc<str>,
    /// The other end.
    pub(in crate::ucserver) number: String,
    pub(in crate::ucserver) state: CallState,
    pub(in crate::ucserver) is_outbound: bool,
    /// `AsnSystemTime`; 0: not yet.
    pub(in crate::ucserver) created: f64,
    pub(in crate::ucserver) connected: f64,
    pub(in crate::ucserver) disconnected: f64,
    /// When it goes on by itself.
    next: Option<Uptime>,
}

/// `EAsnCallState`, as far as calls get there here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ucserver) enum CallState {
    Destroyed = 1,
    Offering = 2,
    Dialing = 4,
    Ringback = 8,
    Connected = 32,
    Hold = 128,
    Disconnected = 256,
}

/// Why a call is not started or ended by hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum CallRefused {
    /// No user has it.
    #[error("no user has that line; name one as clients are told it")]
    NoLine,
    /// It is over, or never was.
    #[error("there is no such call; list the calls to see what there is")]
    NoCall,
    /// The line, or the server, has as many as it may.
    #[error("there are as many calls as there may be; end one")]
    Full,
    /// A process that is stopped does nothing.
    #[error("the server's mood is silent; set another one first")]
    Silent,
}

impl CallState {
    /// `AsnCtiCallInfoChangedReason`.
    const fn reason(self) -> i64 {
        match self {
            Self::Offering => 0,
            Self::Dialing => 1,
            Self::Ringback => 2,
            Self::Connected => 3,
            Self::Hold => 5,
            Self::Disconnected => 11,
            Self::Destroyed => 12,
        }
    }

    /// `EnumCallFeatures`: answer, hang up, hold, and back.
    pub(in crate::ucserver) const fn features(self) -> i64 {
        match self {
            Self::Offering => 1 | 32,
            Self::Dialing | Self::Ringback => 32,
            Self::Connected => 32 | 8192,
            Self::Hold => 32 | 16_384,
            Self::Disconnected | Self::Destroyed => 0,
        }
    }
}

impl Lines {
    /// `asnCtiMakeCall`: each one that is not refused dials.
    pub(in crate::ucserver) fn make_call(
        &mut self,
        around: &mut Around<'_>,
        at: &At,
        user: &Arc<str>,
        argument: &Argument<'_>,
    ) -> Result<Piece, Refused> {
        let number = argument.text(&Member::nth("u8sPhoneNumberTo", 1))?;
        argument.integer(&Member::nth("iNumberFormat", 2))?;
        let (line, _) = self.own(around, user, &argument.text(&FROM)?, true)?;
        if number.is_empty() {
            return Err(Refused::Error(GENERAL, "there is no number to dial"));
        }
        let next = Some(around.now + around.settings.clients.ringback_after);
        let full = Refused::Error(GENERAL, "there are as many calls as there may be");
        let call = self.begin(around, &line, &number, CallState::Dialing, next).ok_or(full)?;
        around.journal.count().clients.dialled += 1;
        let (user, call_id) = (Arc::clone(user), Arc::clone(&call));
        let event = Event::Dialled { user, line: Arc::clone(&line), number, call: call_id };
        around.journal.write(around.now, event);
        let result = written::sequence(vec![
            ("u8sLinePhoneNumber", Piece::text(&*line)),
            ("u8sConnectionID", Piece::text(&*call)),
            ("success", Piece::Integer(1)),
        ]);
        self.tell(at.clone(), Operation::MAKE_CALL_RESULT, result);
        self.tell_call(&call);
        Ok(written::sequence(vec![("u8sConnectionID", Piece::text(&*call))]))
    }

    pub(in crate::ucserver) fn drop_call(
        &mut self,
        around: &Around<'_>,
        user: &str,
        argument: &Argument<'_>,
    ) -> Result<Piece, Refused> {
        let id = self.own_call(around, user, argument, &CONNECTION_ID)?;
        self.end(around, &id);
        Ok(written::success())
    }

    pub(in crate::ucserver) fn answer_call(
        &mut self,
        around: &Around<'_>,
        user: &str,
        argument: &Argument<'_>,
    ) -> Result<Piece, Refused> {
        let id = self.own_call(around, user, argument, &CONNECTION_ID)?;
        self.turn(around, &id, CallState::Offering, CallState::Connected)
    }

    pub(in crate::ucserver) fn hold(
        &mut self,
        around: &Around<'_>,
        user: &str,
        argument: &Argument<'_>,
    ) -> Result<Piece, Refused> {
        let is_wanted = argument.boolean(&Member::nth("bHold", 0))?;
        let id = self.own_call(around, user, argument, &Member::nth("u8sConnectionID", 1))?;
        let (from, to) = match is_wanted {
            true => (CallState::Connected, CallState::Hold),
            false => (CallState::Hold, CallState::Connected),
        };
        self.turn(around, &id, from, to)
    }

    /// Somebody calls the line from outside.
    pub(in crate::ucserver) fn ring(
        &mut self,
        around: &Around<'_>,
        uri: &str,
        number: &str,
    ) -> Result<Arc<str>, CallRefused> {
        if !around.settings.clients.is_line(uri) {
            return Err(CallRefused::NoLine);
        }
        let uri: Arc<str> = Arc::from(uri);
        self.known(around, &uri, true).map_err(|_| CallRefused::Full)?;
        let call = self.begin(around, &uri, number, CallState::Offering, None);
        let call = call.ok_or(CallRefused::Full)?;
        self.tell_call(&call);
        Ok(call)
    }

    /// The other end hangs up.
    pub(in crate::ucserver) fn hang_up(
        &mut self,
        around: &Around<'_>,
        call: &str,
    ) -> Result<(), CallRefused> {
        if !self.calls.contains_key(call) {
            return Err(CallRefused::NoCall);
        }
        self.end(around, call);
        Ok(())
    }

    /// Calls that are due go on: the other end rings, and answers.
    pub(in crate::ucserver) fn step_calls(&mut self, around: &Around<'_>) {
        while let Some(id) = self.steps.pop_due(around.now) {
            let Some(call) = self.calls.get_mut(&id) else { continue };
            if call.next.is_none_or(|next| next > around.now) {
                continue;
            }
            call.next = None;
            match call.state {
                CallState::Dialing => {
                    call.state = CallState::Ringback;
                    let next = around.now + around.settings.clients.connected_after;
                    call.next = Some(next);
                    self.steps.set(next, Arc::clone(&id));
                }
                CallState::Ringback => {
                    call.state = CallState::Connected;
                    call.connected = written::time(around.wall);
                }
                CallState::Offering
                | CallState::Connected
                | CallState::Hold
                | CallState::Disconnected
                | CallState::Destroyed => continue,
            }
            self.tell_call(&id);
        }
    }

    /// Puts a call on a line that is known, if there is room.
    fn begin(
        &mut self,
        around: &Around<'_>,
        uri: &Arc<str>,
        number: &str,
        state: CallState,
        next: Option<Uptime>,
    ) -> Option<Arc<str>> {
        let limits = &around.settings.clients.limits;
        let line = self.lines.get_mut(uri)?;
        if line.calls.len() >= limits.calls_of_line || self.calls.len() >= limits.calls {
            return None;
        }
        let id: Arc<str> = Arc::from(guid(&mut self.rng));
        line.calls.push(Arc::clone(&id));
        let call = Call {
            id: Arc::clone(&id),
            line: Arc::clone(uri),
            number: number.to_owned(),
            state,
            is_outbound: state == CallState::Dialing,
            created: written::time(around.wall),
            connected: 0.0,
            disconnected: 0.0,
            next,
        };
        self.calls.insert(Arc::clone(&id), call);
        if let Some(next) = next {
            self.steps.set(next, Arc::clone(&id));
        }
        Some(id)
    }

    /// A call that the user's client may act on.
    fn own_call(
        &self,
        around: &Around<'_>,
        user: &str,
        argument: &Argument<'_>,
        member: &Member,
    ) -> Result<Arc<str>, Refused> {
        let id = argument.text(member)?;
        let call = self.calls.get(&*id).ok_or(Refused::NO_CALL)?;
        let lines = around.settings.clients.lines_of(user);
        if lines.iter().any(|line| **line == *call.line) {
            Ok(Arc::clone(&call.id))
        } else {
            Err(Refused::NOT_YOURS)
        }
    }

    fn turn(
        &mut self,
        around: &Around<'_>,
        id: &str,
        from: CallState,
        to: CallState,
    ) -> Result<Piece, Refused> {
        let call = self.calls.get_mut(id).ok_or(Refused::NO_CALL)?;
        if call.state != from {
            return Err(Refused::WRONG_STATE);
        }
        call.state = to;
        if call.connected == 0.0 {
            call.connected = written::time(around.wall);
        }
        self.tell_call(id);
        Ok(written::success())
    }

    fn end(&mut self, around: &Around<'_>, id: &str) {
        for state in [CallState::Disconnected, CallState::Destroyed] {
            if let Some(call) = self.calls.get_mut(id) {
                call.state = state;
                call.disconnected = written::time(around.wall);
                self.tell_call(id);
            }
        }
        let Some(call) = self.calls.remove(id) else { return };
        if let Some(line) = self.lines.get_mut(&call.line) {
            line.calls.retain(|it| *it != call.id);
        }
    }

    fn tell_call(&mut self, id: &str) {
        let Some(call) = self.calls.get(id) else { return };
        let line = Arc::clone(&call.line);
        let more = [
            ("reason", Piece::Integer(call.state.reason())),
            ("callinformation", written::call(call)),
        ];
        self.tell_monitors(&line, Operation::CALL_CHANGED, &more);
    }
}
