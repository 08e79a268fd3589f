//! What each request wants, and how it is answered.

use std::rc::Rc;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Method, Request as HttpRequest, Response, StatusCode};
use tokio::time::timeout;

use crate::door::{Input, WebAnswer};
use crate::net::web::exchange::{
    Body, NoBody, Origin, collect, request_of, response_of, session_in,
};
use crate::net::web::session::Session;
use crate::net::web::{Counts, Gateway, socket};
use crate::net::websocket;
use crate::ucsap::{Class, Message, Operation};
use crate::ucws::route::Route;
use crate::ucws::{Answer, Opening, Purpose, Request, call, words};

/// Calls of one session that are under way.
const CALLS_MAX: usize = 64;

impl Gateway {
    /// Answers a request.
    pub(super) async fn respond(
        self: &Rc<Self>,
        request: HttpRequest<Incoming>,
        from: Origin,
    ) -> Response<Body> {
        Counts::one(&self.counts.requests);
        if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
            return self.refuse(StatusCode::METHOD_NOT_ALLOWED, "this method is not served here");
        }
        if !names_one_host(&request) {
            return self.refuse(StatusCode::BAD_REQUEST, "it is not clear which host is meant");
        }
        let path = request.uri().path().to_owned();
        let (method, route) = (request.method(), Route::of(&path));
        let is_asked = matches!(*method, Method::GET | Method::POST);
        match route {
            Route::Any => return self.stream(request, from).await,
            // Whether a page of elsewhere may ask is the servers' to say (CORS).
            _ if *method == Method::OPTIONS => return self.stream(request, from).await,
            Route::Nothing => return self.refuse(StatusCode::NOT_FOUND, "there is nothing here"),
            _ if !is_asked => {
                return self.refuse(StatusCode::METHOD_NOT_ALLOWED, "write GET or POST");
            }
            Route::Socket => return self.become_socket(request),
            Route::Controller
            | Route::Create
            | Route::Destroy
            | Route::Call(_)
            | Route::Direct(_) => {}
        }
        let origin = request.headers().get(header::ORIGIN).cloned();
        let (answer, function) = self.answer(route, request, from).await;
        let is_ours = answer.is_ours;
        let answer = match function.filter(|_| is_ours) {
            Some(function) => answer.handed_to(&function),
            None => answer,
        };
        let mut response = response_of(answer);
        if is_ours {
            mark_as_ours(response.headers_mut(), origin);
        }
        response
    }

    /// What is answered, and the function to which that is to be handed.
    async fn answer(
        self: &Rc<Self>,
        route: Route<'_>,
        request: HttpRequest<Incoming>,
        from: Origin,
    ) -> (Answer, Option<String>) {
        let named = session_in(request.headers(), request.uri());
        let session = named.and_then(|name| self.session_named(&name));
        // Of a stranger nothing long is taken.
        let is_known_call = matches!(route, Route::Call(_)) && session.is_some();
        let limits = &self.settings.limits;
        let octets = if is_known_call { limits.message } else { limits.opening };
        let request = match self.take(request, from, octets).await {
            Ok(request) => request,
            Err(answer) => return (answer, None),
        };
        let function = request.callback();
        let answer = match (route, session) {
            (Route::Controller, _) => controller(&request, from),
            (Route::Create, _) => self.open(request, from, Purpose::Session).await,
            (Route::Direct(operation), _) => {
                let operation = Operation::named(operation.as_bytes());
                self.open(request, from, Purpose::Call(operation)).await
            }
            (Route::Destroy, Some(session)) => {
                self.end(&session).await;
                Answer::json(200, "{}")
            }
            (Route::Call(operation), Some(session)) => {
                self.call(operation, request, &session).await
            }
            (Route::Destroy | Route::Call(_), None) => words::no_session(),
            // Answered before.
            (Route::Socket | Route::Any | Route::Nothing, _) => {
                words::refused(404, "there is nothing here")
            }
        };
        (answer, function)
    }

    pub(super) fn refuse(&self, status: StatusCode, words: &str) -> Response<Body> {
        Counts::one(&self.counts.refused);
        response_of(words::refused(status.as_u16(), words))
    }

    /// Takes a request with its body.
    async fn take(
        &self,
        request: HttpRequest<Incoming>,
        from: Origin,
        octets: usize,
    ) -> Result<Request, Answer> {
        let (head, body) = request.into_parts();
        match collect(body, octets, self.settings.limits.body_patience).await {
            Ok(body) => Ok(request_of(&head, body, from)),
            Err(why) => {
                Counts::one(&self.counts.refused);
                let (status, words) = match why {
                    NoBody::TooLong => (StatusCode::PAYLOAD_TOO_LARGE, "the body is too long"),
                    NoBody::TooSlow => (StatusCode::REQUEST_TIMEOUT, "the body took too long"),
                    NoBody::Broken => (StatusCode::BAD_REQUEST, "the body cannot be read"),
                };
                Err(words::refused(status.as_u16(), words))
            }
        }
    }

    /// Somebody shows who they are: the core decides where they belong, and their server what they get.
    async fn open(self: &Rc<Self>, request: Request, from: Origin, purpose: Purpose) -> Answer {
        let opening = match Opening::read(request, purpose) {
            Ok(opening) => opening,
            Err(why) => {
                Counts::one(&self.counts.refused);
                return words::unusable(why);
            }
        };
        let has_steps = opening.has_steps();
        let Some(session) = self.session_to_open(from.remote, opening.exchange()) else {
            return words::not_connected("too many sessions", Some(10));
        };
        let answer = session.wait_for_answer();
        let mut care = Care { gateway: self, session: Some(Rc::clone(&session)) };
        self.say(Input::Open { flow: session.flow, opening: Box::new(opening) }).await;
        let answer = answer.await;
        care.session = None;
        match answer {
            Ok(WebAnswer::In(answer)) if self.let_in(&session) => answer,
            Ok(WebAnswer::Out(answer)) => {
                // One more step may follow, which finds it.
                if !(has_steps && answer.status != 200 && self.rest(&session)) {
                    self.end(&session).await;
                }
                answer
            }
            Ok(WebAnswer::In(_)) | Err(_) => {
                words::not_connected("the front door is busy", Some(10))
            }
        }
    }

    async fn call(
        self: &Rc<Self>,
        operation: &str,
        request: Request,
        session: &Rc<Session>,
    ) -> Answer {
        let class = Operation::named(operation.as_bytes()).class();
        let request = Rc::new(request);
        if class == Class::Event {
            return self.pass_sign(operation, &request, session).await;
        }
        let Some((id, answer)) = session.begin_call(Rc::clone(&request), CALLS_MAX) else {
            return words::refused(503, "too many calls of this session are under way");
        };
        match call::invoke(id, operation, &request) {
            Ok(message) => self.say(Input::Rose { flow: session.flow, message }).await,
            Err(why) => {
                session.drop_call(id);
                return words::unusable(why);
            }
        }
        // The core holds a call back for a while, and its server may take its time after that.
        let patience = self.settings.limits.answer_patience * 2;
        let answered = timeout(patience, answer).await;
        session.touch();
        match answered {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => words::no_session(),
            Err(_) => words::refused(504, "it was not answered in time"),
        }
    }

    /// What nobody answers, such as a sign of life; goodbye is the session's end.
    async fn pass_sign(
        self: &Rc<Self>,
        operation: &str,
        request: &Request,
        session: &Rc<Session>,
    ) -> Answer {
        if Operation::named(operation.as_bytes()) == Operation::LOGOFF {
            self.end(session).await;
            return Answer::json(200, "{}");
        }
        match call::invoke(Message::EVENT_ID, operation, request) {
            Ok(message) => {
                self.say(Input::Rose { flow: session.flow, message }).await;
                Answer::json(200, "{}")
            }
            Err(why) => words::unusable(why),
        }
    }

    /// A request becomes the WebSocket of its session.
    fn become_socket(self: &Rc<Self>, mut request: HttpRequest<Incoming>) -> Response<Body> {
        let named = session_in(request.headers(), request.uri());
        let Some(session) = named.and_then(|name| self.session_named(&name)) else {
            Counts::one(&self.counts.refused);
            return response_of(words::no_session());
        };
        let response = match websocket::accept(&mut request, self.settings.limits.message) {
            Ok((response, socket)) => {
                let gateway = Rc::clone(self);
                tokio::task::spawn_local(async move {
                    if let Ok(socket) = socket.await {
                        socket::serve(gateway, session, socket).await;
                    }
                });
                response
            }
            Err(why) => {
                Counts::one(&self.counts.refused);
                why.response()
            }
        };
        response.map(|body| body.map_err(|never| match never {}).boxed_unsync())
    }
}

/// Whoever asks for a session and goes away before it is there wants none any more.
struct Care<'a> {
    gateway: &'a Rc<Gateway>,
    session: Option<Rc<Session>>,
}

impl Drop for Care<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let gateway = Rc::clone(self.gateway);
            tokio::task::spawn_local(async move { gateway.end(&session).await });
        }
    }
}

/// Two readers must not take a request for one to different hosts (RFC 9112 §3.2).
fn names_one_host(request: &HttpRequest<Incoming>) -> bool {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let (host, other) = (hosts.next(), hosts.next());
    let written = request.uri().authority().map(|it| it.as_str().as_bytes());
    let same = |written: &[u8]| host.is_some_and(|host| host.as_bytes() == written);
    other.is_none() && written.is_none_or(same)
}

/// The door stands for every WebService behind it: a client stays here.
fn controller(request: &Request, from: Origin) -> Answer {
    let is_host = |host: &&str| {
        let fits = |octet: u8| octet.is_ascii_alphanumeric() || b".-:[]".contains(&octet);
        !host.is_empty() && host.bytes().all(fits)
    };
    match request.header("host").filter(is_host) {
        Some(host) => words::controller(from.scheme(), host),
        None => words::refused(400, "Host is missing, or is no name of a host"),
    }
}

/// What the door answers itself may be read by the page that asked, and is kept by nobody. What servers
/// answer is theirs to allow.
fn mark_as_ours(headers: &mut HeaderMap, origin: Option<HeaderValue>) {
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}
