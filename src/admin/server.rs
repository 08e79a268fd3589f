//! The admin listener's HTTP: limits, answers.

use std::convert::Infallible;
use std::net;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

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

use crate::admin::answer::{self, Fault, Taken};
use crate::admin::body;
use crate::admin::cursor::Life;
use crate::admin::endpoints::{self, Verb};
use crate::admin::metrics;
use crate::admin::openapi;
use crate::admin::process::Process;
use crate::admin::readiness::Readiness;
use crate::admin::route::{Refusal, Route, check_host, check_token, route};
use crate::door::{Listed, Refused};
use crate::net::{Clock, Handle, Unanswered};
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
    life: Life,
    /// `/v1/openapi.json`.
    document: Bytes,
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
    let now = Clock.now();
    let began = now.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let desk = Arc::new(Desk {
        door,
        shelf,
        names,
        token,
        readiness: Readiness::new(now.uptime),
        // Nanoseconds fit until the year 2554.
        life: Life(u64::try_from(began.as_nanos()).unwrap_or(u64::MAX)),
        document: openapi::document().to_string().into(),
        tokens_refused: AtomicU64::new(0),
    });
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
            Ok(Route::OrderWith(wanted)) => match body::collect(&wanted, request.into_body()).await
            {
                Ok(body) => wanted.read(&body).map(Route::Order),
                Err(refusal) => Err(refusal),
            },
            question => question,
        };
        match question {
            Ok(route) => self.look_up(route).await.unwrap_or_else(|fault| faulty(&fault)),
            Err(refusal) => {
                if matches!(refusal, Refusal::NoToken | Refusal::WrongToken) {
                    self.tokens_refused.fetch_add(1, Ordering::Relaxed);
                }
                refusing(&refusal)
            }
        }
    }

    fn question(&self, request: &Request<Incoming>) -> Result<Route, Refusal> {
        let only = |name| {
            let mut lines = request.headers().get_all(name).iter();
            lines.next().filter(|_| lines.next().is_none())
        };
        check_host(only(header::HOST).and_then(|it| it.to_str().ok()), &self.names)?;
        let uri = request.uri();
        // Whoever names a host in the request line means that one (RFC 9112 §3.2.2).
        if let Some(authority) = uri.authority() {
            check_host(Some(authority.as_str()), &self.names)?;
        }
        let (endpoint, names) = endpoints::find(request.method(), uri.path())?;
        if endpoint.verb == Verb::Post {
            let token = self.token.as_ref().ok_or(Refusal::NoToken)?;
            check_token(only(header::AUTHORIZATION).map(HeaderValue::as_bytes), token)?;
        }
        if endpoint.body.is_none() && !request.body().is_end_stream() {
            return Err(Refusal::Body);
        }
        route(endpoint, &names, uri.query())
    }

    async fn look_up(&self, route: Route) -> Result<Answer, Faulty> {
        let now = Clock.uptime();
        let snapshot = self.door.snapshot();
        let starting = || answer::silent("the door is starting");
        match route {
            Route::Health => match snapshot.map(|it| now.since(it.published)) {
                Some(age) if age < DRIVER_PATIENCE => Ok(text(TEXT, "ok\n")),
                Some(age) => {
                    Err(answer::silent(format!("the driver has shown nothing for {age:.0?}")))
                }
                None => Err(starting()),
            },
            Route::Ready => match self.readiness.check(now, snapshot.as_deref()) {
                Ok(()) => Ok(text(TEXT, "ready\n")),
                Err(why) => Err(answer::silent(why)),
            },
            Route::Metrics => {
                let refused = self.tokens_refused.load(Ordering::Relaxed);
                let page = metrics::render(now, snapshot.as_deref(), Process::now(), refused);
                Ok(text(METRICS, page))
            }
            Route::OpenApi => Ok(text(JSON, self.document.clone())),
            Route::Status => Ok(json(&snapshot.ok_or_else(starting)?.status)),
            Route::Recovery => Ok(json(&snapshot.ok_or_else(starting)?.status.recovery)),
            Route::Users { filter, after, limit } => {
                let place = self.place(after)?;
                self.page(self.door.users(filter, (place, limit)).await)
            }
            Route::Relocations { filter, after, limit } => {
                let place = self.place(after)?;
                self.page(self.door.relocations(filter, (place, limit)).await)
            }
            Route::User { name } => found(self.door.user(name).await),
            Route::Explain { name } => found(self.door.explain(name).await),
            Route::WhatIf { killed, from, count } => {
                taken(self.door.what_if(killed, (from, count)).await).map(|it| json(&it))
            }
            Route::Rebalance { from, count } => {
                let plan = self.door.rebalance_plan((from, count)).await;
                plan.map(|it| json(&it)).map_err(answer::unanswered)
            }
            // Names of users stay out of the log.
            Route::Order(command) => {
                taken(self.door.command(command).await)?;
                Ok(answer(StatusCode::ACCEPTED, &Taken { done: true }))
            }
            Route::Reports => self.reports().await,
            Route::Report { id } => self.report(id).await,
            // Its body has been read before.
            Route::OrderWith(_) => Err(answer::silent("the body is missing")),
        }
    }

    /// The disk may be slow, and this thread has other things to do.
    async fn reports(&self) -> Result<Answer, Faulty> {
        let shelf = self.shelf.clone();
        match spawn_blocking(move || shelf.newest(REPORTS_MAX)).await {
            Ok(Ok(reports)) => Ok(json(&reports)),
            Ok(Err(error)) => Err(answer::silent(format!("the reports cannot be read: {error}"))),
            Err(error) => Err(answer::silent(error.to_string())),
        }
    }

    async fn report(&self, id: String) -> Result<Answer, Faulty> {
        let shelf = self.shelf.clone();
        match spawn_blocking(move || shelf.report(&id)).await {
            Ok(Some(report)) => Ok(json(&report)),
            Ok(None) => {
                let (error, what_to_do) = ("there is no such report", "take an id of /v1/reports");
                let (error, what_to_do) = (error.to_owned(), what_to_do.to_owned());
                Err((StatusCode::NOT_FOUND, Fault { error, what_to_do }))
            }
            Err(error) => Err(answer::silent(error.to_string())),
        }
    }

    fn place(&self, after: Option<String>) -> Result<usize, Faulty> {
        let place = self.life.place(after.as_deref());
        place.map_err(|refusal| (refusal.status(), refusal.fault()))
    }

    fn page<T: Serialize>(&self, listed: Told<Listed<T>>) -> Result<Answer, Faulty> {
        Ok(json(&self.life.page(taken(listed)?)))
    }
}

/// A refusal as it is answered.
type Faulty = (StatusCode, Fault);

/// What the door says to whoever may be refused.
type Told<T> = Result<Result<T, Refused>, Unanswered>;

fn taken<T>(told: Told<T>) -> Result<T, Faulty> {
    told.map_err(answer::unanswered)?.map_err(|why| answer::refused(&why))
}

fn found(user: Result<Option<impl Serialize>, Unanswered>) -> Result<Answer, Faulty> {
    taken(user.map(|user| user.ok_or(Refused::NoSuchUser))).map(|user| json(&user))
}

fn refusing(refusal: &Refusal) -> Answer {
    let mut answer = faulty(&(refusal.status(), refusal.fault()));
    let headers = answer.headers_mut();
    if let Refusal::Method(allow) = refusal
        && let Ok(allow) = HeaderValue::from_str(allow)
    {
        headers.insert(header::ALLOW, allow);
    }
    if *refusal == Refusal::NoToken {
        headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    answer
}

fn faulty((status, fault): &Faulty) -> Answer {
    answer(*status, fault)
}

fn json(value: &impl Serialize) -> Answer {
    answer(StatusCode::OK, value)
}

fn answer(status: StatusCode, value: &impl Serialize) -> Answer {
    // Nothing here has a key that is no text, which is all that could fail.
    let mut answer = text(JSON, serde_json::to_vec(value).unwrap_or_default());
    *answer.status_mut() = status;
    answer
}

fn text(kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}
