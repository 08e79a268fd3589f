//! Which operation is whose.

use std::sync::Arc;

use crate::ucsap::negotiate::Identity;
use crate::ucsap::{Class, Message, Operation, Piece};
use crate::ucserver::clients::argument::Argument;
use crate::ucserver::clients::connections::{At, Session};
use crate::ucserver::clients::refusal::Refused;
use crate::ucserver::clients::{Around, Clients, written};
use crate::ucserver::mood::Behaviour;
use crate::ucserver::settings::Settings;

/// Whether an operation has no result in the interface, whatever its id.
pub(in crate::ucserver) const fn is_never_answered(operation: Operation) -> bool {
    matches!(operation, Operation::KEEP_ALIVE | Operation::TRANSPORT_KEEP_ALIVE | Operation::LOGOFF)
}

/// What this server says of itself.
pub(in crate::ucserver) fn identity(settings: &Settings, time: f64) -> Identity<'_> {
    Identity {
        // ProCall Infinity: one of several.
        server_type: 2,
        interface_version: &settings.clients.interface_version,
        server_version: &settings.clients.server_version,
        product_version: &settings.version,
        time,
        presence_domains: &[],
    }
}

impl Clients {
    /// What is not answered: a client's events. One that nobody expects is ignored.
    pub(in crate::ucserver) fn on_event(
        &mut self,
        around: &mut Around<'_>,
        at: &At,
        message: &Message,
    ) {
        match message.operation() {
            Operation::LOGOFF => {
                let entry = self.connections.get_mut(&at.connection);
                if let Some(session) = entry.and_then(|it| it.sessions.remove(&at.session)) {
                    self.leave(around, at.connection, session);
                }
            }
            Operation::KEEP_ALIVE | Operation::TRANSPORT_KEEP_ALIVE => {
                around.journal.count().clients.keep_alives += 1;
            }
            _ => around.journal.count().clients.stray += 1,
        }
    }

    /// Carries out one invoke.
    pub(in crate::ucserver) fn serve(
        &mut self,
        around: &mut Around<'_>,
        at: &At,
        message: &Message,
    ) -> Result<Piece, Refused> {
        let operation = message.operation();
        if !is_known(operation) {
            return Err(Refused::UNKNOWN);
        }
        let argument = Argument::of(message)?;
        if let Behaviour::Answer(status) = around.behaviour {
            return Refused::by_mood(status, around.settings.retry_after_secs, operation);
        }
        match operation {
            Operation::START_TLS => Ok(written::empty()),
            Operation::CHECK_CONNECTION => {
                let time = written::time(around.wall);
                Ok(identity(around.settings, time).checked(&around.settings.name))
            }
            Operation::NEGOTIATE => self.negotiate(around, at, message.encoding(), &argument),
            Operation::LOGIN => self.login(around, at, &argument),
            _ => {
                let user = self.session(at).and_then(|session| session.user.clone());
                let user = user.ok_or(Refused::NOT_LOGGED_IN)?;
                self.serve_user(around, at, &user, operation, &argument)
            }
        }
    }

    /// Carries out what somebody asks who is logged in.
    fn serve_user(
        &mut self,
        around: &mut Around<'_>,
        at: &At,
        user: &Arc<str>,
        operation: Operation,
        argument: &Argument<'_>,
    ) -> Result<Piece, Refused> {
        match operation {
            Operation::GET_LOGGED_IN_CONTACT => Ok(written::contact(user)),
            Operation::GET_USER_TOKEN => Ok(self.user_token(around, user)),
            Operation::ENUM_LINES => self.enumerate(around, at, user, argument),
            Operation::MONITOR_START => self.monitor_start(around, at, user, argument),
            Operation::MONITOR_STOP => self.monitor_stop(at, argument),
            Operation::SNAPSHOT_LINE => self.lines.snapshot(around, user, argument),
            Operation::SET_DO_NOT_DISTURB => self.lines.set_do_not_disturb(around, user, argument),
            Operation::SET_REMOTE_OFFICE => self.lines.set_remote_office(around, user, argument),
            Operation::SET_FORWARD => self.lines.set_forward(around, user, argument),
            Operation::REMOVE_FORWARD => self.lines.remove_forward(around, user, argument),
            Operation::MAKE_CALL => self.lines.make_call(around, at, user, argument),
            Operation::DROP_CALL => self.lines.drop_call(around, user, argument),
            Operation::ANSWER_CALL => self.lines.answer_call(around, user, argument),
            Operation::HOLD => self.lines.hold(around, user, argument),
            _ => self.subscribe(around, at, operation, argument),
        }
    }

    pub(in crate::ucserver) fn session(&self, at: &At) -> Option<&Session> {
        self.connections.get(&at.connection)?.sessions.get(&at.session)
    }

    pub(in crate::ucserver) fn session_mut(&mut self, at: &At) -> Option<&mut Session> {
        self.connections.get_mut(&at.connection)?.sessions.get_mut(&at.session)
    }
}

/// Whether anybody here carries it out. What the codec knows is served but for the events, which
/// are the server's own to send.
fn is_known(operation: Operation) -> bool {
    match operation.class() {
        Class::Connection | Class::Read | Class::Removal | Class::Desired => true,
        Class::Act => operation.name().is_some(),
        Class::Event => false,
    }
}
