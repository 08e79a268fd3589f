//! What each request wants, and how it is answered.

use std::rc::Rc;

use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::http::request::Parts;
use hyper::{Method, Request as HttpRequest, Response, StatusCode};

use crate::door::{Input, WebAnswer};
use crate::net::web::exchange::{Body, From, NoBody, collect, request_of, response_of};
use crate::net::web::session::Session;
use crate::net::web::{Counts, Gateway, socket};
use crate::net::websocket;
use crate::ucsap::Operation;
use crate::ucsap::login::Credentials;
use crate::ucws::route::Route;
use crate::ucws::{Answer, Opening, Purpose, Request, call, words};

/// Calls of one session that are under way.
const CALLS_MAX: usize = 64;

impl Gateway {
    /// Answers a request.
    pub(super) async fn respond(
        self: &Rc<Self>,
        request: HttpRequest<Incoming>,
        from: From,
    ) -> Response<Body> {
        Counts::one(&self.counts.requests);
        if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
            return self.refuse(StatusCode::METHOD_NOT_ALLOWED, "this method is not served here");
        }
        if request.headers().get_all(header::HOST).iter().nth(1).is_some() {
            return self.refuse(StatusCode::BAD_REQUEST, "there are several Host headers");
        }
        let origin = request.headers().get(header::ORIGIN).cloned();
        let is_read = matches!(*request.method(), Method::GET | Method::POST);
        let path = request.uri().path().to_owned();
        let route = if is_read { Route::of(&path) } else { Route::Any };
        let answer = match route {
            Route::Any => return self.stream(request, from).await,
            Route::Socket => return self.become_socket(request, from),
            Route::Controller => controller(&request.into_parts().0, from),
            Route::Destroy => self.destroy(request, from).await,
            Route::Create => self.open(request, from, Purpose::Session).await,
            Route::Direct(operation) => {
                let operation = Operation::named(operation.as_bytes());
                self.open(request, from, Purpose::Call(operation)).await
            }
            Route::Call(operation) => self.call(operation, request, from).await,
        };
        let mut response = response_of(answer);
        allow_origin(&mut response, origin);
        response
    }

    pub(super) fn refuse(&self, status: StatusCode, words: &str) -> Response<Body> {
        Counts::one(&self.counts.refused);
        response_of(words::refused(status.as_u16(), words))
    }

    /// Takes a request with its body.
    async fn take(
        &self,
        request: HttpRequest<Incoming>,
        from: From,
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
    async fn open(
        self: &Rc<Self>,
        request: HttpRequest<Incoming>,
        from: From,
        purpose: Purpose,
    ) -> Answer {
        let octets = match purpose {
            Purpose::Session => self.settings.limits.opening,
            Purpose::Call(_) => self.settings.limits.message,
        };
        let request = match self.take(request, from, octets).await {
            Ok(request) => request,
            Err(answer) => return answer,
        };
        let opening = match Opening::read(request, purpose) {
            Ok(opening) => opening,
            Err(why) => {
                Counts::one(&self.counts.refused);
                return words::unusable(why);
            }
        };
        let goes_on =
            matches!(opening.credentials, Credentials::Ntlm(_) | Credentials::Kerberos(_));
        let Some(session) = self.session_to_open(from.remote, opening.exchange()) else {
            return words::not_connected("too many sessions", Some(10));
        };
        let answer = session.wait_for_answer();
        let mut care = Care { gateway: self, session: Some(Rc::clone(&session)) };
        self.say(Input::Open { flow: session.flow, opening: Box::new(opening) }).await;
        let answer = answer.await;
        care.session = None;
        match answer {
            Ok(WebAnswer::In(answer)) => {
                self.let_in(&session);
                answer
            }
            Ok(WebAnswer::Out(answer)) => {
                let is_step = goes_on && answer.status == 401;
                if !(is_step && self.rest(&session)) {
                    self.end(&session).await;
                }
                answer
            }
            Err(_) => words::not_connected("the front door is busy", Some(10)),
        }
    }

    async fn destroy(self: &Rc<Self>, request: HttpRequest<Incoming>, from: From) -> Answer {
        let request = match self.take(request, from, self.settings.limits.opening).await {
            Ok(request) => request,
            Err(answer) => return answer,
        };
        let session = request.session().and_then(|name| self.session_named(&name));
        let Some(session) = session else { return words::no_session() };
        self.end(&session).await;
        Answer::json(200, "{}")
    }

    async fn call(
        self: &Rc<Self>,
        operation: &str,
        request: HttpRequest<Incoming>,
        from: From,
    ) -> Answer {
        let request = match self.take(request, from, self.settings.limits.message).await {
            Ok(request) => request,
            Err(answer) => return answer,
        };
        let session = request.session().and_then(|name| self.session_named(&name));
        let Some(session) = session else { return words::no_session() };
        let request = Rc::new(request);
        let Some((id, answer)) = session.begin_call(Rc::clone(&request), CALLS_MAX) else {
            return words::refused(503, "too many calls of this session are under way");
        };
        match call::invoke(id, operation, &request) {
            Ok(message) => self.say(Input::Rose { flow: session.flow, message }).await,
            Err(why) => return words::unusable(why),
        }
        let answer = answer.await;
        session.touch();
        answer.unwrap_or_else(|_| words::no_session())
    }

    /// A request becomes the WebSocket of its session.
    fn become_socket(
        self: &Rc<Self>,
        mut request: HttpRequest<Incoming>,
        from: From,
    ) -> Response<Body> {
        let named = request_of(&head_of(&request), hyper::body::Bytes::new(), from).session();
        let Some(session) = named.and_then(|name| self.session_named(&name)) else {
            Counts::one(&self.counts.refused);
            return response_of(words::no_session());
        };
        match websocket::accept(&mut request, self.settings.limits.message) {
            Ok((response, socket)) => {
                let gateway = Rc::clone(self);
                tokio::task::spawn_local(async move {
                    if let Ok(socket) = socket.await {
                        socket::serve(gateway, session, socket).await;
                    }
                });
                let (head, body) = response.into_parts();
                Response::from_parts(head, body_of(body))
            }
            Err(why) => {
                Counts::one(&self.counts.refused);
                let (head, body) = why.response().into_parts();
                Response::from_parts(head, body_of(body))
            }
        }
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

fn body_of(body: http_body_util::Full<hyper::body::Bytes>) -> Body {
    use http_body_util::BodyExt as _;
    body.map_err(|never| match never {}).boxed_unsync()
}

/// What is asked, without the body.
fn head_of(request: &HttpRequest<Incoming>) -> Parts {
    let mut head = HttpRequest::new(()).into_parts().0;
    head.method = request.method().clone();
    head.uri = request.uri().clone();
    head.headers = request.headers().clone();
    head
}

/// The door stands for every WebService behind it: a client stays here.
fn controller(head: &Parts, from: From) -> Answer {
    let host = head.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let is_host = |host: &&str| {
        let fits = |octet: u8| octet.is_ascii_alphanumeric() || b".-:[]".contains(&octet);
        !host.is_empty() && host.bytes().all(fits)
    };
    match host.filter(is_host) {
        Some(host) => words::controller(from.scheme(), host),
        None => words::refused(400, "Host is missing, or is no name of a host"),
    }
}

/// What the door answers itself may be read by the page that asked, as what servers answer may.
fn allow_origin(response: &mut Response<Body>, origin: Option<HeaderValue>) {
    let headers = response.headers_mut();
    if let Some(origin) = origin
        && !headers.contains_key(header::ACCESS_CONTROL_ALLOW_ORIGIN)
    {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}
