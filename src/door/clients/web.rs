//! Sessions of the WebService: shown and answered by HTTP, carried like all others.
//!
//! `createsession` is negotiation and login in one, so it is decided as a login is, shown to the server
//! where the user belongs, and shown again where the user moves. What is said in the session, by calls or
//! by its WebSocket, is ROSE as elsewhere.

use std::sync::Arc;

use crate::door::clients::login::Refusal;
use crate::door::clients::session::{
    Login, LoginAnswer, Negotiated, Pending, Session, Shown, Stage, Way, Which,
};
use crate::door::slots::SlotId;
use crate::door::{Door, Output};
use crate::now::Now;
use crate::private::Private;
use crate::sip::Flow;
use crate::ucsap::login::{Credentials, LoginOutcome};
use crate::ucsap::member_of_json;
use crate::ucws::{Answer, Opened, Opening, Purpose, call, words};

/// What an [`Opening`] is answered.
#[derive(Clone, Debug)]
pub enum WebAnswer {
    /// There is a session now.
    In(Answer),
    /// There is none. Its flow is over, unless the answer asks for one more step of the login.
    Out(Answer),
}

/// What whoever made a call hears that may have been carried out.
const OUTCOME_UNKNOWN: &str = "the server failed before it answered: look whether it was done";

/// The token that is handed out to a call without a session.
fn token_in(login: &Login, answer: &Answer) -> Option<Private<String>> {
    let Shown::Web(opening) = &login.shown else { return None };
    // There is an older operation of that name, without the version. Other answers may be long, and are
    // nothing to be read here.
    if !opening.request.path().starts_with("/ws/direct/asnGetUserToken") || answer.status != 200 {
        return None;
    }
    let handed = answer.body.get(call::json_of(&answer.body)?)?;
    let token = handed.get(member_of_json(handed, "sToken")?)?;
    Some(Private::new(serde_json::from_slice(token).ok()?))
}

impl Door {
    /// Somebody wants a session, or one call without.
    pub(in crate::door) fn on_open(&mut self, now: Now, flow: Flow, opening: Opening) {
        self.stats.web_openings += 1;
        let Some(id) = self.session_by_web(flow) else {
            self.stats.client_sessions_shed += 1;
            let seconds = u64::try_from(self.retry_seconds()).ok();
            let answer = words::not_connected("too many sessions", seconds);
            return self.answer_by_web(flow, WebAnswer::Out(answer));
        };
        let until = now.uptime + self.settings.clients.patience;
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        if !matches!(session.stage, Stage::New | Stage::Negotiated) {
            let answer = words::refused(400, "this session is being created already");
            return self.answer_by_web(flow, WebAnswer::Out(answer));
        }
        session.negotiated = Some(Negotiated {
            argument: Vec::new(),
            client: opening.client.clone(),
            id: 0,
            connection: None,
            tried: 0,
        });
        let claimed = self.user_shown(&opening.credentials);
        self.begin_login(now, id, Login::by_web(opening, until), claimed);
    }

    /// The session that a flow stands for; a new one, if there is room.
    fn session_by_web(&mut self, flow: Flow) -> Option<SlotId> {
        let connection = self.client_connection(flow)?;
        let known = self.clients.connections.get(connection)?;
        if let Some((_, id)) = known.sessions.first() {
            return Some(*id);
        }
        let Ok(id) = self.clients.sessions.insert(Session::by_web(connection)) else {
            self.close_client(connection);
            return None;
        };
        self.clients.connections.get_mut(connection)?.sessions.push((None, id));
        Some(id)
    }

    /// Shows a server's WebService what the client has shown.
    pub(super) fn open_by_web(&mut self, connection: SlotId, way: Way, opening: Arc<Opening>) {
        let Some(client) = self.clients.connections.get(connection).map(|it| it.flow) else {
            return;
        };
        if let Some(flow) = self.flow_of_leg(way) {
            self.outputs.push_back(Output::Open { flow, client, opening });
        }
    }

    /// A server's WebService has answered.
    pub(in crate::door) fn on_opened(&mut self, now: Now, flow: Flow, opened: Opened) {
        let number = flow.connection.own_number();
        let known = number.and_then(|number| Some((number, *self.clients.legs.get(&number)?)));
        let Some((number, id)) = known else { return };
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        let stage = session.stage;
        let Some((which, leg)) = session.leg_mut(number) else { return };
        let asked = leg.pending.extract_if(.., |_, it| matches!(it, Pending::Login)).count();
        if asked == 0 {
            self.stats.rose_strays += 1;
            return;
        }
        let login = self.clients.sessions.get(id).and_then(|session| session.login.as_ref());
        let (outcome, answer) = match opened {
            Opened::Session { answer, user } => {
                (Some(LoginOutcome::Succeeded { user, token: None }), answer)
            }
            Opened::Answered(answer) => {
                let token = login.and_then(|login| token_in(login, &answer));
                self.note_token(id, token);
                (None, answer)
            }
            Opened::Unavailable(answer) => (Some(LoginOutcome::Busy { seconds: 0 }), answer),
        };
        match stage {
            Stage::LoggingIn => {
                self.go_on_logging_in(now, id, which, outcome, LoginAnswer::Web(answer));
            }
            Stage::In if which == Which::Next => self.go_on_anew(now, id, outcome),
            Stage::New
            | Stage::Negotiating
            | Stage::Negotiated
            | Stage::Deciding
            | Stage::Adopting
            | Stage::In => self.stats.rose_strays += 1,
        }
    }

    pub(super) fn tell_by_web(&mut self, id: SlotId, answer: Answer, is_in: bool) {
        let Some(session) = self.clients.sessions.get(id) else { return };
        let Some(connection) = self.clients.connections.get(session.connection) else { return };
        let flow = connection.flow;
        let answer = if is_in { WebAnswer::In(answer) } else { WebAnswer::Out(answer) };
        self.answer_by_web(flow, answer);
    }

    /// A refusal of the door's own, in the WebService's words.
    pub(super) fn refuse_by_web(&mut self, id: SlotId, how: Refusal, login: &Login) {
        let Shown::Web(opening) = &login.shown else { return };
        let seconds = u64::try_from(self.retry_seconds()).ok();
        let answer = match (how, opening.purpose, &opening.credentials) {
            (Refusal::For(number, words), ..) => words::logon_error(number, words),
            (Refusal::Busy, ..) => words::not_connected("try again later", seconds),
            (Refusal::Again, Purpose::Call(_), _) => words::not_connected(OUTCOME_UNKNOWN, None),
            (Refusal::Again, Purpose::Session, Credentials::Ntlm(_)) => {
                words::show_again("NTLM", opening.request.wants_no_401())
            }
            (Refusal::Again, Purpose::Session, Credentials::Kerberos(_)) => {
                words::show_again("Negotiate", opening.request.wants_no_401())
            }
            (Refusal::Again | Refusal::Elsewhere(_), ..) => {
                words::not_connected("try again at once", Some(1))
            }
        };
        self.tell_by_web(id, answer, false);
    }

    fn answer_by_web(&mut self, flow: Flow, answer: WebAnswer) {
        self.outputs.push_back(Output::Answer { flow, answer });
    }
}
