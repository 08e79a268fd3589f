//! A client shows who its user is: decided like every login, and carried to that user's server.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::cluster::{ServerId, Version};
use crate::decision::{self, Outcome, Plane, decide};
use crate::directory::{Aor, User, UserId};
use crate::door::clients::session::{
    Entrance, Leg, Login, LoginAnswer, Pending, Shown, Stage, Which,
};
use crate::door::clients::settings::{ClientFailover, LegacyClients};
use crate::door::ledger::Continuation;
use crate::door::redirect::FOLLOWED_MAX;
use crate::door::slots::SlotId;
use crate::door::{Door, Misdirection, UnknownUsers};
use crate::now::Now;
use crate::placement;
use crate::private::Private;
use crate::ucsap::login::{self, Credentials, LoginOutcome, detail};
use crate::ucsap::negotiate::APP_PROCALL_WEB;
use crate::ucsap::{Kind, Message, Operation, Problem};

/// Octets of what a client shows, a ticket of Kerberos with many groups in it included.
const LOGIN_OCTETS_MAX: usize = 128 * 1024;
/// Octets of a device's name that is remembered.
const DEVICE_OCTETS_MAX: usize = 256;

/// How a login is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Come back later.
    Busy,
    /// Come back at once: then it is known where.
    Again,
    /// Not at all, and why (`AsnLogonErrorEnum`).
    For(i64, &'static str),
    /// At the address that stands for this server.
    Elsewhere(ServerId),
}

impl Door {
    pub(super) fn on_login(&mut self, now: Now, id: SlotId, message: &Message) {
        let read = message.body().map(|argument| (argument, Credentials::read(&argument)));
        let (Some((argument, Ok(shown))), Some(invoke)) = (read, message.id()) else {
            return self.tell_problem(id, message, Problem::MistypedArgument);
        };
        if argument.octets_as_sent().len() > LOGIN_OCTETS_MAX {
            return self.tell_problem(id, message, Problem::ResourceLimitation);
        }
        let until = now.uptime + self.settings.clients.patience;
        let claimed = self.user_shown(&shown);
        let login = Login::new(argument.octets_as_sent(), invoke, &shown, until);
        self.begin_login(now, id, login, claimed);
    }

    /// Whose credentials these are, as far as they say so.
    pub(super) fn user_shown(&self, shown: &Credentials) -> Option<UserId> {
        match (shown.claimed_user(), shown) {
            (Some(name), _) => self.user_with_login(&name),
            // A token may name nobody, and have been handed out to somebody who is known.
            (None, Credentials::Bearer(token)) => self.clients.tokens.user_of(token.reveal()),
            (None, _) => None,
        }
    }

    /// `claimed`: whose login it is, as far as that is known.
    pub(super) fn begin_login(
        &mut self,
        now: Now,
        id: SlotId,
        login: Login,
        claimed: Option<UserId>,
    ) {
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        session.login = Some(login);
        let before = session.user.take();
        self.clients.forget_owner(id, before);
        if let Some(user) = claimed {
            self.clients.belongs_to(id, user);
        }
        self.decide_login(now, id);
    }

    /// Whose a login name is: a name, with or without the domain before it, or an address.
    fn user_with_login(&self, name: &str) -> Option<UserId> {
        let bare = name.rsplit_once('\\').map_or(name, |(_, user)| user);
        [name, bare].into_iter().find_map(|name| {
            let by_name = || {
                let known = self.directory.by_name(name);
                known.or_else(|| self.directory.by_name(&name.to_lowercase()))
            };
            by_name().or_else(|| self.directory.by_aor(aor_of(name)?.as_str()))
        })
    }

    /// Decides a login from the facts as they are now.
    pub(super) fn decide_login(&mut self, now: Now, id: SlotId) {
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        session.stage = Stage::Deciding;
        let user = session.user;
        self.clients.waiting.remove(&id);
        if self.settings.clients.legacy == LegacyClients::Block && self.is_legacy(id) {
            let words = "clients of this version are not served";
            return self.refuse_login(id, Refusal::For(detail::INVALID_VERSION, words));
        }
        match user {
            Some(user) => self.decide_login_of(now, id, user),
            None => self.decide_login_of_nobody(now, id),
        }
        self.wake_session(id);
    }

    fn decide_login_of(&mut self, now: Now, id: SlotId, user: UserId) {
        if self.ledger.is_recording(user) || self.goes_home_by_order(now, user) {
            return;
        }
        let view = self.view();
        let reached = self.reached_by(id);
        let asked = decision::Login { plane: Plane::Client, user, reached };
        let verdict = decide(&asked, &view, &self.directory, &self.settings.decision, now.uptime);
        let home = self.directory.get(user).home;
        match verdict.outcome {
            Outcome::Forward(server) if self.is_redirected(id, server) => {
                self.refuse_login(id, Refusal::Elsewhere(server));
            }
            Outcome::Accept(server) | Outcome::Forward(server) => {
                if self.stays_at_home(id) && home != Some(server) {
                    return self.refuse_login(id, Refusal::Busy);
                }
                self.log_in_at(now, id, server);
            }
            // The product assigns users of ProCall Web to servers, and nobody else does.
            Outcome::AssignHome(_) if self.is_procall_web(id) => {
                let words = "no server is assigned to this user of ProCall Web";
                self.refuse_login(id, Refusal::For(detail::USER_NOT_ENABLED, words));
            }
            Outcome::AssignHome(server) => self.record_home(now, user, server),
            Outcome::Relocate(_) if self.stays_at_home(id) => {
                self.refuse_login(id, Refusal::Busy);
            }
            Outcome::Relocate(server) => self.record_relocation(now, user, server),
            Outcome::Hold => {
                self.clients.waiting.insert(id);
            }
            Outcome::Block { retry: true } => self.refuse_login(id, Refusal::Busy),
            Outcome::Block { retry: false } => {
                let words = "this user may not log in";
                self.refuse_login(id, Refusal::For(detail::USER_NOT_ENABLED, words));
            }
        }
    }

    /// Nobody knows who it is, or they are no user yet (D6): the server that was shown to the client
    /// is asked, if it takes anybody, else the best.
    fn decide_login_of_nobody(&mut self, now: Now, id: SlotId) {
        let Some(session) = self.clients.sessions.get(id) else { return };
        let Some(login) = &session.login else { return };
        let shown = session.leg.as_ref().map(|leg| leg.server);
        let Some(name) = login.claimed.clone() else {
            // Only its answer tells who it is, and steps of one login belong together.
            return match shown {
                Some(server) => self.log_in_at(now, id, server),
                None if login.can_be_replayed || login.asks_only => {
                    self.log_in_at_the_best(now, id, "")
                }
                // By the WebService nobody was shown to it before.
                None if session.entrance == Entrance::Web => self.log_in_somewhere(now, id),
                None => self.refuse_login(id, Refusal::Again),
            };
        };
        if self.settings.unknown_users == UnknownUsers::Reject {
            let words = "nobody of this name is known at the front door";
            return self.refuse_login(id, Refusal::For(detail::INVALID_USER, words));
        }
        if self.is_procall_web(id) {
            let words = "no server is assigned to this user of ProCall Web";
            return self.refuse_login(id, Refusal::For(detail::USER_NOT_ENABLED, words));
        }
        if self.ledger.importing || self.directory.len() >= self.settings.limits.users {
            return self.refuse_login(id, Refusal::Busy);
        }
        let policy = &self.settings.decision.placement;
        let takes = |server: ServerId| {
            placement::takes_stranger(server, &self.view(), &self.directory, policy)
        };
        match shown.filter(|server| takes(*server)) {
            Some(server) => self.log_in_at(now, id, server),
            None => self.log_in_at_the_best(now, id, &name),
        }
    }

    /// Asks a server that may know who it is: that of the client's device, else the best.
    fn log_in_somewhere(&mut self, now: Now, id: SlotId) {
        let session = self.clients.sessions.get(id);
        let negotiated = session.and_then(|session| session.negotiated.as_ref());
        let device = negotiated.map(|it| it.client.device.clone()).unwrap_or_default();
        match self.server_for_stranger(&device, 0, Entrance::Web) {
            Some(server) => self.log_in_at(now, id, server),
            None => self.refuse_login(id, Refusal::Busy),
        }
    }

    fn log_in_at_the_best(&mut self, now: Now, id: SlotId, name: &str) {
        let policy = &self.settings.decision.placement;
        match placement::place_stranger(name, &self.view(), &self.directory, policy) {
            Ok(server) => self.log_in_at(now, id, server),
            Err(_) if decision::no_room(&self.view()).outcome == Outcome::Hold => {
                if let Some(session) = self.clients.sessions.get_mut(id) {
                    session.stage = Stage::Deciding;
                }
                self.clients.waiting.insert(id);
            }
            Err(_) => self.refuse_login(id, Refusal::Busy),
        }
    }

    /// Hands a login to a server: by the leg that is there, or by another one.
    fn log_in_at(&mut self, now: Now, id: SlotId, server: ServerId) {
        let Some(session) = self.clients.sessions.get(id) else { return };
        if self.entrance_of(server, session.entrance).is_none() {
            let words = "the server of this user has no address for such clients";
            return self.refuse_login(id, Refusal::For(detail::INTERNAL, words));
        }
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        session.stage = Stage::LoggingIn;
        let is_there = session.leg.as_ref().is_some_and(|leg| leg.server == server);
        let is_first = session.entrance == Entrance::Web && session.leg.is_none();
        let Some(login) = &mut session.login else { return };
        let (is_let_in, user) = (login.answer.is_some(), session.user);
        if is_there && is_let_in && user.is_some() {
            self.finish_login(now, id);
        } else if is_there && is_let_in {
            self.look_at_answer_again(now, id);
        } else if is_there {
            self.show_login(id, Which::Leg);
        } else if login.can_be_replayed || login.asks_only || is_first {
            // Whoever was let in elsewhere is let in there, or not.
            login.answer = None;
            self.open_leg(now, id, server, false);
        } else {
            // What is shown was meant for the server that answered: from now on it is known where.
            if let Some(user) = user {
                self.remember_device(id, user);
            }
            self.refuse_login(id, Refusal::Again);
        }
    }

    /// Shows a server what the client has shown.
    pub(super) fn show_login(&mut self, id: SlotId, which: Which) {
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        let Some(shown) = session.login.as_ref().map(|login| login.shown.clone()) else { return };
        let connection = session.connection;
        let leg = match which {
            Which::Leg => session.leg.as_mut(),
            Which::Next => session.next.as_mut(),
            Which::Old => None,
        };
        let Some(leg) = leg else { return };
        let (invoke, way) = (leg.ask(Pending::Login), leg.way());
        match shown {
            Shown::Argument(argument) => {
                self.ask_on_leg(id, way, invoke, Operation::LOGIN, argument.reveal().clone());
            }
            Shown::Web(opening) => self.open_by_web(connection, way, opening),
        }
    }

    /// A server has answered a login of a client that waits for it.
    pub(super) fn on_login_answered(
        &mut self,
        now: Now,
        id: SlotId,
        which: Which,
        message: &Message,
    ) {
        let outcome = match (message.kind(), message.body()) {
            (Kind::Result, Some(body)) => LoginOutcome::read(&body).ok(),
            _ => None,
        };
        let answer = LoginAnswer::Rose(message.detached());
        self.go_on_logging_in(now, id, which, outcome, answer);
    }

    /// The same, whichever way it was answered.
    pub(super) fn go_on_logging_in(
        &mut self,
        now: Now,
        id: SlotId,
        which: Which,
        outcome: Option<LoginOutcome>,
        answer: LoginAnswer,
    ) {
        match outcome {
            Some(LoginOutcome::Succeeded { user, token }) => {
                self.take_next_leg(id, which);
                self.logged_in(now, id, answer, user);
                self.note_token(id, token);
            }
            Some(LoginOutcome::Redirect(to)) => self.redirect_login(now, id, which, &to),
            Some(LoginOutcome::Methods | LoginOutcome::NextStep | LoginOutcome::Busy { .. })
            | None => self.pass_refusal_on(id, which, answer),
        }
    }

    /// What is no success is the client's to read; it may try again on the same connection.
    fn pass_refusal_on(&mut self, id: SlotId, which: Which, answer: LoginAnswer) {
        self.take_next_leg(id, which);
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        session.stage = Stage::Negotiated;
        let (login, owner) = (session.login.take(), session.user.take());
        self.clients.forget_owner(id, owner);
        if let Some(login) = login {
            self.tell_login(id, login.id, answer, false);
        }
    }

    /// Tells a client what a server said to its login; `is_in`: somebody is logged in now.
    fn tell_login(&mut self, id: SlotId, invoke: i64, answer: LoginAnswer, is_in: bool) {
        match answer {
            LoginAnswer::Rose(message) => self.tell(id, message.with_id(invoke).bytes().clone()),
            LoginAnswer::Web(answer) => self.tell_by_web(id, answer, is_in),
        }
    }

    /// The leg that was made ready is the one the session stands on from now on.
    fn take_next_leg(&mut self, id: SlotId, which: Which) {
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        if which == Which::Next
            && let Some(next) = session.next.take()
            && let Some(before) = session.leg.replace(next)
        {
            self.abandon_leg(id, before);
        }
    }

    /// A server has let somebody in: is it theirs?
    fn logged_in(&mut self, now: Now, id: SlotId, answer: LoginAnswer, told: Option<String>) {
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        let Some(login) = &mut session.login else { return };
        let name = told.clone().or_else(|| login.claimed.clone());
        login.answer = Some((answer, told));
        let (claimed, replayable) = (login.claimed.clone(), login.can_be_replayed);
        let at = session.leg.as_ref().map(|leg| leg.server);
        let known = [name.as_deref(), claimed.as_deref()]
            .into_iter()
            .flatten()
            .find_map(|name| self.user_with_login(name));
        let Some(server) = at else { return };
        let Some(user) = known else {
            return self.adopt_client(now, id, name.or(claimed), server);
        };
        self.clients.belongs_to(id, user);
        if self.current(user) == Some(server) && !self.ledger.is_recording(user) {
            return self.finish_login(now, id);
        }
        // It was learned only now whose it is, or the user has moved meanwhile.
        if replayable {
            return self.decide_login(now, id);
        }
        self.remember_device(id, user);
        self.refuse_login(id, Refusal::Again);
    }

    /// A server has let a stranger in for whom there was no place; now there may be.
    fn look_at_answer_again(&mut self, now: Now, id: SlotId) {
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        let answer = session.login.as_mut().and_then(|login| login.answer.take());
        if let Some((answer, told)) = answer {
            self.logged_in(now, id, answer, told);
        }
    }

    /// Whoever a server lets in becomes a user, with that server as home; recorded first (D6).
    fn adopt_client(&mut self, now: Now, id: SlotId, name: Option<String>, server: ServerId) {
        let Some(name) = name else {
            // A server that says nobody's name has let somebody in of whom nothing can be told.
            return self.finish_login(now, id);
        };
        if self.settings.unknown_users == UnknownUsers::Reject {
            let words = "nobody of this name is known at the front door";
            return self.refuse_login(id, Refusal::For(detail::INVALID_USER, words));
        }
        if self.ledger.importing || self.directory.len() >= self.settings.limits.users {
            return self.refuse_login(id, Refusal::Busy);
        }
        let policy = &self.settings.decision.placement;
        if !placement::takes_stranger(server, &self.view(), &self.directory, policy) {
            // Others have filled it while it was asked.
            let login = self.clients.sessions.get(id).and_then(|session| session.login.as_ref());
            if login.is_some_and(|login| login.can_be_replayed) {
                return self.log_in_at_the_best(now, id, &name);
            }
            return self.refuse_login(id, Refusal::Busy);
        }
        if let Some(session) = self.clients.sessions.get_mut(id) {
            session.stage = Stage::Adopting;
        }
        // Somebody with an address is called like it, as a phone would make them: the store lets one
        // of the two be first.
        let aor = aor_of(&name);
        let name = aor.as_ref().map_or(&*name, Aor::as_str);
        let user = User {
            home: Some(server),
            epoch: 1,
            aors: aor.iter().cloned().collect(),
            ..User::stranger(name)
        };
        self.record_newcomer(user, |user| Continuation::AdoptClient { session: id, user });
        self.wake_session(id);
    }

    /// A newcomer is recorded, or cannot be.
    pub(in crate::door) fn on_client_adopted(&mut self, now: Now, id: SlotId, user: User) {
        self.stats.users_adopted += 1;
        let name = Arc::clone(&user.name);
        // Another login may have made the same user meanwhile.
        drop(self.directory.insert(user));
        let Some(session) = self.clients.sessions.get(id) else { return };
        if session.stage != Stage::Adopting {
            return;
        }
        let at = session.leg.as_ref().map(|leg| leg.server);
        let Some(user) = self.user_with_login(&name) else {
            return self.refuse_login(id, Refusal::Busy);
        };
        self.clients.belongs_to(id, user);
        if at.is_some() && self.current(user) == at {
            self.finish_login(now, id);
        } else {
            self.decide_login(now, id);
        }
    }

    /// Nobody is let in whom a restart of the door would forget; but what stood in the way may be
    /// that they are a user already, by a phone of theirs.
    pub(in crate::door) fn on_client_not_adopted(&mut self, now: Now, id: SlotId, user: &User) {
        if self.clients.sessions.get(id).is_none_or(|it| it.stage != Stage::Adopting) {
            return;
        }
        match self.user_with_login(&user.name) {
            Some(user) => {
                self.clients.belongs_to(id, user);
                self.decide_login(now, id);
            }
            None => self.refuse_login(id, Refusal::Busy),
        }
    }

    /// Somebody is logged in where they belong: the client is told what the server said.
    fn finish_login(&mut self, now: Now, id: SlotId) {
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        session.stage = Stage::In;
        session.since = Some(now.uptime);
        session.failures = 0;
        session.stands_since = Some(now.uptime);
        let user = session.user;
        let Some(login) = &mut session.login else { return };
        login.redirects = 0;
        let (answer, invoke) = (login.answer.take(), login.id);
        self.stats.client_logins += 1;
        if let Some((answer, _)) = answer {
            self.tell_login(id, invoke, answer, true);
        }
        if let Some(user) = user {
            self.redirects.arrived(user);
            self.remember_device(id, user);
        }
    }

    /// A server has handed out a token to a session's user.
    pub(super) fn note_token(&mut self, id: SlotId, token: Option<Private<String>>) {
        let most = self.settings.clients.limits.tokens;
        let user = self.clients.sessions.get(id).and_then(|session| session.user);
        if let (Some(token), Some(user)) = (token, user) {
            self.clients.tokens.remember(token.reveal(), user, most);
        }
    }

    fn remember_device(&mut self, id: SlotId, user: UserId) {
        let most = self.settings.clients.limits.devices;
        let Some(session) = self.clients.sessions.get(id) else { return };
        let Some(negotiated) = &session.negotiated else { return };
        let device = &negotiated.client.device;
        if (1..=DEVICE_OCTETS_MAX).contains(&device.len()) {
            self.clients.devices.remember(device, user, most);
        }
    }

    /// A server says that another one is responsible (D9).
    fn redirect_login(&mut self, now: Now, id: SlotId, which: Which, to: &str) {
        self.take_next_leg(id, which);
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        let Some(from) = session.leg.as_ref().map(|leg| leg.server) else { return };
        let user = session.user;
        let Some(login) = &mut session.login else { return };
        login.redirects = login.redirects.saturating_add(1);
        let (redirects, replayable) = (login.redirects, login.can_be_replayed);
        let to = self.judge_destination(from, self.server_for_clients_at(to));
        let followed = match (user, to) {
            (Some(user), to) => self.follow(now, user, from, to),
            (None, Ok(_)) if redirects > FOLLOWED_MAX => Err(Misdirection::Circle),
            (None, Ok(to)) if replayable => {
                self.stats.redirects_followed += 1;
                self.log_in_at(now, id, to);
                return;
            }
            (None, Ok(_)) => Err(Misdirection::Circle),
            (None, Err(why)) => Err(why),
        };
        match followed {
            Ok(()) => {
                // Where the user belongs is being recorded; then it is decided again.
                if let Some(session) = self.clients.sessions.get_mut(id) {
                    session.stage = Stage::Deciding;
                }
                if user.is_some_and(|user| !self.ledger.is_recording(user)) {
                    self.decide_login(now, id);
                }
            }
            Err(why) => {
                self.misdirected(now, from, why);
                self.refuse_login(id, Refusal::Busy);
            }
        }
        self.wake_session(id);
    }

    /// The server whose entrance for clients this is: `host:port`, or the host alone.
    pub(super) fn server_for_clients_at(&self, to: &str) -> Option<ServerId> {
        let is_it = |address: SocketAddr| match to.parse::<SocketAddr>() {
            Ok(socket) => socket == address,
            Err(_) => to.trim_matches(['[', ']']).parse() == Ok(address.ip()),
        };
        let place = self
            .settings
            .servers
            .iter()
            .position(|server| server.clients.is_some_and(is_it) || *server.name == *to)?;
        Some(ServerId(u16::try_from(place).ok()?))
    }

    /// A login comes to nothing; the client may try again on the same connection.
    pub(super) fn refuse_login(&mut self, id: SlotId, how: Refusal) {
        self.clients.waiting.remove(&id);
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        session.stage = Stage::Negotiated;
        session.failures = 0;
        let session_is_web = session.entrance == Entrance::Web;
        let (owner, next) = (session.user.take(), session.next.take());
        let Some(login) = session.login.take() else { return };
        // A server that has let somebody in, or is about to, would not look at the next login.
        let leg = session.leg.take_if(|leg| login.answer.is_some() || leg.is_asked_who());
        self.clients.forget_owner(id, owner);
        for leg in [next, leg].into_iter().flatten() {
            self.abandon_leg(id, leg);
        }
        self.stats.client_logins_refused += 1;
        match how {
            how if session_is_web => self.refuse_by_web(id, how, &login),
            Refusal::Busy => {
                let seconds = self.retry_seconds();
                self.tell_result(id, login.id, &login::busy(seconds));
            }
            Refusal::Again => self.tell_result(id, login.id, &login::busy(1)),
            Refusal::For(detail, words) => self.tell_error_to(id, login.id, detail, words),
            Refusal::Elsewhere(server) => {
                self.stats.client_logins_redirected += 1;
                let public = self.settings.servers[server.index()].public.clone();
                self.tell_result(id, login.id, &login::redirect(&public.unwrap_or_default()));
            }
        }
        self.start_over_if_bound(id, &login);
    }

    /// What has been shown halfway to one server cannot be gone on with at another: after a refusal
    /// of ours the client begins anew.
    fn start_over_if_bound(&mut self, id: SlotId, login: &Login) {
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        if login.can_be_replayed {
            return;
        }
        session.stage = Stage::New;
        let legs: Vec<Leg> = session.take_legs().collect();
        for leg in legs {
            self.abandon_leg(id, leg);
        }
    }

    /// A login whose server is gone before it answered.
    pub(super) fn login_again(&mut self, now: Now, id: SlotId) {
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        let shown = session.login.as_ref();
        if shown.is_some_and(|login| login.can_be_replayed || login.asks_only) {
            session.stage = Stage::Deciding;
            self.try_again_later(now, id);
        } else {
            self.refuse_login(id, Refusal::Again);
        }
    }

    /// The server that the address a client has come by stands for.
    fn reached_by(&self, id: SlotId) -> Option<ServerId> {
        let session = self.clients.sessions.get(id)?;
        self.clients.connections.get(session.connection)?.reached
    }

    /// Whether a client is told to go where a server's own address is, instead of being carried there
    /// (D5). The WebService has no word for it, and old clients do not know it.
    pub(super) fn is_redirected(&self, id: SlotId, server: ServerId) -> bool {
        let session = self.clients.sessions.get(id);
        self.settings.clients.failover == ClientFailover::Redirect
            && session.is_some_and(|session| session.entrance == Entrance::Native)
            && self.reached_by(id).is_some_and(|reached| reached != server)
            && self.settings.servers[server.index()].public.is_some()
            && !self.is_legacy(id)
    }

    fn is_procall_web(&self, id: SlotId) -> bool {
        let session = self.clients.sessions.get(id);
        let negotiated = session.and_then(|session| session.negotiated.as_ref());
        negotiated.is_some_and(|negotiated| negotiated.client.app == APP_PROCALL_WEB)
    }

    /// Whether a client is too old to be served anywhere but at home (D5).
    pub(super) fn stays_at_home(&self, id: SlotId) -> bool {
        self.settings.clients.legacy == LegacyClients::HomeOnly && self.is_legacy(id)
    }

    fn is_legacy(&self, id: SlotId) -> bool {
        let session = self.clients.sessions.get(id);
        let negotiated = session.and_then(|session| session.negotiated.as_ref());
        let said = negotiated.map_or("", |it| &*it.client.version);
        if said.is_empty() && session.is_some_and(|it| it.entrance == Entrance::Web) {
            // Its pages come from the server, and are as old.
            return false;
        }
        let version = said.parse::<Version>().ok();
        version.is_none_or(|version| version < Version::FIRST_WITH_DISTRIBUTION)
    }
}

/// The address of somebody who logs in as `user@domain`.
fn aor_of(name: &str) -> Option<Aor> {
    let (user, domain) = name.rsplit_once('@')?;
    if user.is_empty() || domain.is_empty() {
        return None;
    }
    let aor = format!("sip:{user}@{}", domain.to_lowercase());
    Some(Aor::from_canonical(aor))
}
