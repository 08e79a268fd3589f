//! Which path is whose, and what is answered there.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper::{Method, Response, StatusCode};
use serde_json::json;
use tokio::time::timeout;

use crate::ucsap::Piece;
use crate::ucsap::login::detail;
use crate::ucserver::run::web::answer::{self, Body, Dress, Reply};
use crate::ucserver::run::web::connection::{Connection, Desk};
use crate::ucserver::run::web::pages;
use crate::ucserver::run::web::request::{How, Request, is_operation};
use crate::ucserver::run::web::sessions::{Asked, Called, Failure, LoggedIn, Login, Rounds};
use crate::ucserver::run::web::socket;

/// Octets of a call's body.
const BODY_OCTETS: usize = 1024 * 1024;

/// How long it may take.
const BODY_PATIENCE: Duration = Duration::from_secs(10);

/// The UCSID of the server on the same machine.
const LOCAL: &str = "local";

/// What wrong credentials come to; everything else is not asked for again.
const WRONG: [i64; 3] = [detail::INVALID_USER, detail::INVALID_METHOD, detail::TOKEN_EXPIRED];

/// Answers one request; a silent server's answer never comes.
pub(super) async fn answer(
    desk: &Desk,
    place: &Connection,
    mut request: hyper::Request<Incoming>,
) -> Response<Body> {
    desk.ask(|reply| Asked::Leave { reply }).await;
    let (parts, body) = request.into_parts();
    let asking = Request::of(&parts);
    let path = asking.path.as_str();
    if !path.starts_with("/ws/") && path != "/controller/client/ucws" {
        request = hyper::Request::from_parts(parts, body);
        return pages::answer(desk, place, &asking, request).await;
    }
    if asking.method == Method::OPTIONS {
        return answer::preflight(&asking);
    }
    if asking.method != Method::GET && asking.method != Method::POST {
        return answer::other_method();
    }
    let dress = match Dress::of(&asking) {
        Ok(dress) => dress,
        Err(why) => return Reply::unreadable(&why).dressed(Dress::plain(&asking)),
    };
    if let Some(ucsid) = asking.ucsid()
        && ucsid != LOCAL
        && *ucsid != *desk.name
    {
        return Reply::not_connected(ucsid).dressed(dress);
    }
    if matches!(path, "/ws/client/websocket" | "/ws/client/websocket/") {
        request = hyper::Request::from_parts(parts, body);
        return socket::answer(desk, place, &asking, request).await;
    }
    let reply = match collect(body).await {
        Ok(body) => Visit { desk, place, asking: &asking, dress: &dress }.reply(&body).await,
        Err(refused) => Some(refused),
    };
    match reply {
        Some(reply) => reply.dressed(dress),
        None => answer::empty(StatusCode::NOT_FOUND),
    }
}

async fn collect(body: Incoming) -> Result<Bytes, Reply> {
    match timeout(BODY_PATIENCE, Limited::new(body, BODY_OCTETS).collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(_)) => Err(Reply::too_much(StatusCode::PAYLOAD_TOO_LARGE)),
        Err(_) => Err(Reply::too_much(StatusCode::REQUEST_TIMEOUT)),
    }
}

/// One request to the WebService.
struct Visit<'a> {
    desk: &'a Desk,
    place: &'a Connection,
    asking: &'a Request,
    dress: &'a Dress,
}

impl Visit<'_> {
    /// Nothing where nothing is.
    async fn reply(&self, body: &[u8]) -> Option<Reply> {
        let path = self.asking.path.as_str();
        Some(match path {
            // The one that asks is here already.
            "/controller/client/ucws" => match self.asking.host() {
                Some(host) => Reply::done(&json!({"redirect": format!("http://{host}")})),
                None => return None,
            },
            "/ws/public/contacts" => Reply::done(&json!({"contacts": {}})),
            "/ws/client/createsession" => match self.log_in(body, false).await {
                Ok(session) => Reply::done(&json!({"sessionid": &*session})),
                Err(refused) => refused,
            },
            "/ws/client/destroysession" => {
                let session = self.asking.session().to_owned();
                match self.desk.ask(|reply| Asked::End { session, reply }).await {
                    true => Reply::done(&json!({})),
                    false => Reply::no_session(),
                }
            }
            _ => {
                let direct = path.strip_prefix("/ws/direct/");
                let operation = direct.or_else(|| path.strip_prefix("/ws/client/"))?;
                if !is_operation(operation) {
                    return None;
                }
                match direct {
                    Some(_) => self.direct(operation, body).await,
                    None => {
                        self.call(self.asking.session().to_owned(), operation, body, false).await
                    }
                }
            }
        })
    }

    async fn direct(&self, operation: &str, body: &[u8]) -> Reply {
        let session = match self.log_in(b"", true).await {
            Ok(session) => session.to_string(),
            Err(refused) => return refused,
        };
        let reply = self.call(session.clone(), operation, body, true).await;
        self.desk.ask(|reply| Asked::End { session, reply }).await;
        reply
    }

    async fn call(&self, session: String, operation: &str, body: &[u8], direct: bool) -> Reply {
        let argument = match self.asking.argument(body, direct) {
            Ok(argument) => argument.into(),
            Err(why) => return Reply::unreadable(&why),
        };
        let operation = operation.to_owned();
        let call = |reply| Asked::Call { session, operation, argument, reply };
        match self.desk.ask(call).await {
            Called::Result(value) => Reply::raw(StatusCode::OK, value),
            Called::Error { error, id, session } => {
                let behind =
                    format!(",\"error_value\":0,\"invokedID\":{id},\"sessionID\":\"{session}\"}}");
                let json = [b"{\"error\":", &*error, behind.as_bytes()].concat();
                Reply::raw(StatusCode::BAD_REQUEST, json.into())
            }
            Called::Reject(message) => Reply::raw(StatusCode::BAD_REQUEST, message),
            // The public sources do not say what an operation without a result is answered.
            Called::Done => Reply::done(&json!({})),
            Called::NoSession => Reply::no_session(),
            Called::Away => Reply::not_connected(&self.desk.name),
        }
    }

    /// A session for whoever this is, or what they are told instead.
    async fn log_in(&self, body: &[u8], is_direct: bool) -> Result<Arc<str>, Reply> {
        let negotiation = self.asking.negotiation(body).map_err(|why| Reply::unreadable(&why))?;
        let shown = self.asking.credentials();
        let (credentials, scheme) = match shown.how {
            How::Argument(credentials) => (credentials, None),
            How::Ntlm(scheme, step) => (step, Some(scheme)),
            // The machine is asked all the same: it may be busy.
            How::Nothing | How::Unreadable => (Piece::Sequence(Vec::new()), None),
        };
        let rounds: Option<Rounds> = scheme.map(|_| self.asking.rounds(self.place.number));
        let login = Login { negotiation, credentials, rounds, is_direct };
        let ask = |reply| Asked::Login { login, reply };
        let failure = match self.desk.ask(ask).await {
            LoggedIn::Session(session) => return Ok(session),
            LoggedIn::OneMoreRound(blob) => {
                return Err(Reply::one_more_round(scheme.unwrap_or("NTLM"), &blob));
            }
            LoggedIn::Rejected(message) => {
                return Err(Reply::raw(StatusCode::BAD_REQUEST, message));
            }
            LoggedIn::Busy { seconds } => return Err(Reply::busy(seconds)),
            LoggedIn::Away => return Err(Reply::not_connected(&self.desk.name)),
            LoggedIn::Refused(failure) => failure,
        };
        let is_quiet = shown.is_quiet || self.asking.wants_no_401() || self.dress.is_script();
        Err(self.refused(&failure, is_quiet))
    }

    fn refused(&self, failure: &Failure, is_quiet: bool) -> Reply {
        if is_quiet || !WRONG.contains(&failure.detail) {
            return Reply::logon_error(StatusCode::BAD_REQUEST, failure);
        }
        let reply = Reply::logon_error(StatusCode::UNAUTHORIZED, failure)
            .challenged("Basic realm=\"UCServer\"");
        if self.asking.has_authorization() {
            return reply;
        }
        reply.challenged("NTLM").challenged("Negotiate")
    }
}
