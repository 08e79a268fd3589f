//! The admin listener's HTTP: limits, answers.

use std::convert::Infallible;
use std::net;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as _, Incoming};
use hyper::header::{self, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use crate::admin::body;
use crate::admin::metrics;
use crate::admin::process::Process;
use crate::admin::readiness::Readiness;
use crate::admin::route::{Refusal, Route, check_host, check_token, route};
use crate::door::{Command, Refused};
use crate::net::Clock;
use crate::net::Handle;
use crate::net::Unanswered;
use crate::private::Private;
use crate::reports::Shelf;

/// Connections served at once; the next wait in the kernel.
const CONNECTION_LIMIT: usize = 64;

/// Octets of a request, headers included; hyper's smallest.
const REQUEST_OCTETS: usize = 8 * 1024;

/// How long the headers of a request may take.
const REQUEST_PATIENCE: Duration = Duration::from_secs(2);

/// How long a connection may last: request, answer and a slow reader's time to take it.
const CONNECTION_PATIENCE: Duration = Duration::from_secs(10);

/// How old the driver's last sign of life may be.
const DRIVER_PATIENCE: Duration = Duration::from_secs(5);

/// How long accepting rests after a failure.
const ACCEPT_REST: Duration = Duration::from_millis(200);

/// Reports of one answer.
const REPORTS_MAX: usize = 100;

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

type Answer = Response<Full<Bytes>>;

/// What every request is answered from.
struct Desk {
    door: Handle,
    shelf: Shelf,
    names: Vec<String>,
    token: Option<Private<[u8; 32]>>,
    readiness: Readiness,
    /// Orders refused because their token was missing or wrong.
    tokens_refused: AtomicU64,
}

/// Serves until `stopped`.
pub(super) async fn serve(
    listener: net::TcpListener,
    (names, token): (Vec<String>, Option<Private<[u8; 32]>>),
    (door, shelf): (Handle, Shelf),
    stopped: oneshot::Receiver<()>,
) {
    let readiness = Readiness::new(Clock.uptime());
    let desk =
        Arc::new(Desk { door, shelf, names, token, readiness, tokens_refused: AtomicU64::new(0) });
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "the admin listener cannot be served");
            return;
        }
    };
    tokio::select! {
        () = accept_all(listener, desk) => {}
        _ = stopped => {}
    }
}

async fn accept_all(listener: TcpListener, desk: Arc<Desk>) {
    let places = Arc::new(Semaphore::new(CONNECTION_LIMIT));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let desk = Arc::clone(&desk);
                tokio::spawn(async move {
                    let _ = timeout(CONNECTION_PATIENCE, talk(stream, desk)).await;
                    drop(place);
                });
            }
            Err(_) => sleep(ACCEPT_REST).await,
        }
    }
}

/// One request and its answer.
async fn talk(stream: TcpStream, desk: Arc<Desk>) {
    let service = service_fn(move |request| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(desk.answer(request).await) }
    });
    let done = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(REQUEST_OCTETS)
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_PATIENCE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = done {
        tracing::debug!(%error, "admin connection");
    }
}

impl Desk {
    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let question = match self.question(&request) {
            // Whoever has no token is not read any further.
            Ok(Route::OrderWith(wanted)) => match body::collect(request.into_body()).await {
                Ok(body) => wanted.read(&body).map(Route::Order),
                Err(refusal) => Err(refusal),
            },
            question => question,
        };
        match question {
            Ok(route) => self.look_up(route).await,
            Err(refusal) => {
                if matches!(refusal, Refusal::NoToken | Refusal::WrongToken) {
                    self.tokens_refused.fetch_add(1, Ordering::Relaxed);
                }
                let mut answer = text(refusal.status(), format!("{refusal}\n"));
                let headers = answer.headers_mut();
                if let Some(allow) = refusal.allow() {
                    headers.insert(header::ALLOW, HeaderValue::from_static(allow));
                }
                if refusal == Refusal::NoToken {
                    let bearer = HeaderValue::from_static("Bearer");
                    headers.insert(header::WWW_AUTHENTICATE, bearer);
                }
                answer
            }
        }
    }

    fn question(&self, request: &Request<Incoming>) -> Result<Route, Refusal> {
        let host = request.headers().get(header::HOST).and_then(|it| it.to_str().ok());
        check_host(host, &self.names)?;
        let route = route(request.method(), request.uri().path(), request.uri().query());
        if !matches!(route, Ok(Route::OrderWith(_))) && !request.body().is_end_stream() {
            return Err(Refusal::Body);
        }
        let route = route?;
        if matches!(route, Route::Order(_) | Route::OrderWith(_)) {
            let authorization = request.headers().get(header::AUTHORIZATION);
            let token = self.token.as_ref().ok_or(Refusal::NoToken)?;
            check_token(authorization.map(HeaderValue::as_bytes), token)?;
        }
        Ok(route)
    }

    async fn look_up(&self, route: Route) -> Answer {
        let now = Clock.uptime();
        let snapshot = self.door.snapshot();
        let snapshot = snapshot.as_deref();
        match route {
            Route::Health => match snapshot.map(|it| now.since(it.published)) {
                Some(age) if age < DRIVER_PATIENCE => text(StatusCode::OK, "ok\n"),
                Some(age) => unavailable(&format!("the driver has shown nothing for {age:.0?}")),
                None => unavailable("the door is starting"),
            },
            Route::Ready => match self.readiness.check(now, snapshot) {
                Ok(()) => text(StatusCode::OK, "ready\n"),
                Err(why) => unavailable(&why),
            },
            Route::Metrics => {
                let refused = self.tokens_refused.load(Ordering::Relaxed);
                let page = metrics::render(now, snapshot, Process::now(), refused);
                answer(StatusCode::OK, METRICS, page)
            }
            Route::Status => match snapshot {
                Some(snapshot) => json(&snapshot.status),
                None => unavailable("the door is starting"),
            },
            Route::Users { from, count } => match self.door.users(from, count).await {
                Ok(users) => json(&users),
                Err(why) => unanswered(why),
            },
            Route::User { name } => match self.door.user(name).await {
                Ok(Some(user)) => json(&user),
                Ok(None) => text(StatusCode::NOT_FOUND, "there is no such user\n"),
                Err(why) => unanswered(why),
            },
            Route::Explain { name } => match self.door.explain(name).await {
                Ok(Some(explanation)) => json(&explanation),
                Ok(None) => refused(&Refused::NoSuchUser),
                Err(why) => unanswered(why),
            },
            Route::WhatIf { killed, from, count } => {
                match self.door.what_if(killed, (from, count)).await {
                    Ok(Ok(what_if)) => json(&what_if),
                    Ok(Err(why)) => refused(&why),
                    Err(why) => unanswered(why),
                }
            }
            Route::Rebalance { from, count } => match self.door.rebalance_plan((from, count)).await
            {
                Ok(plan) => json(&plan),
                Err(why) => unanswered(why),
            },
            Route::Recovery => match snapshot {
                Some(snapshot) => json(&snapshot.status.recovery),
                None => unavailable("the door is starting"),
            },
            Route::Relocations { from, count } => match self.door.relocations(from, count).await {
                Ok(relocations) => json(&relocations),
                Err(why) => unanswered(why),
            },
            Route::Reports => self.reports().await,
            Route::Report { id } => self.report(id).await,
            Route::Order(command) => self.order(command).await,
            // Its body has been read before.
            Route::OrderWith(_) => text(StatusCode::INTERNAL_SERVER_ERROR, "the body is missing\n"),
        }
    }

    /// The disk may be slow, and this thread has other things to do.
    async fn reports(&self) -> Answer {
        let shelf = self.shelf.clone();
        match spawn_blocking(move || shelf.newest(REPORTS_MAX)).await {
            Ok(Ok(reports)) => json(&reports),
            Ok(Err(error)) => unavailable(&format!("the reports cannot be read: {error}")),
            Err(error) => unavailable(&error.to_string()),
        }
    }

    async fn report(&self, id: String) -> Answer {
        let shelf = self.shelf.clone();
        match spawn_blocking(move || shelf.report(&id)).await {
            Ok(Some(report)) => json(&report),
            Ok(None) => text(StatusCode::NOT_FOUND, "there is no such report; see /v1/reports\n"),
            Err(error) => unavailable(&error.to_string()),
        }
    }

    /// Names of users stay out of the log.
    async fn order(&self, command: Command) -> Answer {
        match self.door.command(command).await {
            Ok(Ok(())) => text(StatusCode::ACCEPTED, "so be it\n"),
            Ok(Err(why)) => refused(&why),
            Err(why) => unanswered(why),
        }
    }
}

fn json(value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => answer(StatusCode::OK, JSON, body),
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn refused(why: &Refused) -> Answer {
    let status = match why {
        Refused::NoSuchUser | Refused::NoSuchServer(_) => StatusCode::NOT_FOUND,
        Refused::NothingToDo | Refused::Busy | Refused::NotNow(_) => StatusCode::CONFLICT,
        Refused::NotWritten(_) => StatusCode::SERVICE_UNAVAILABLE,
    };
    text(status, format!("{why}\n"))
}

fn unanswered(why: Unanswered) -> Answer {
    unavailable(&why.to_string())
}

fn unavailable(why: &str) -> Answer {
    text(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n"))
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    answer(status, TEXT, body)
}

fn answer(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
