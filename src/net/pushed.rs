//! Takes in the health documents that servers send by themselves (H1): `POST /v1/health/NAME`.
//!
//! A document counts only if it comes from the address that is configured for this server. What is
//! refused is counted by reason, and strangers are named in the log at most every ten seconds.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tracing::warn;

use crate::cluster::ServerId;
use crate::cluster::document::{DOCUMENT_MAX, Document};
use crate::net::Clock;
use crate::now::Uptime;

/// Connections at once; the next wait in the kernel.
const CONNECTIONS: usize = 64;
/// How long headers may take, and a whole exchange.
const HEADER_PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE: Duration = Duration::from_secs(5);
/// Octets of headers; hyper's smallest.
const HEADER_OCTETS: usize = 8 * 1024;
/// A server's documents are taken at most this often.
const LEAST_GAP: Duration = Duration::from_millis(100);
/// Between two lines of the log about strangers.
const LOG_GAP: Duration = Duration::from_secs(10);
/// How long accepting rests after a failure.
const ACCEPT_REST: Duration = Duration::from_millis(200);
/// Pushes that may wait for the driver.
const WAITING: usize = 64;

/// What the listener is told at start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where it listens.
    pub address: SocketAddr,
    /// Who may send, by [`ServerId`]: name and address; `None`: documents of this one are not wanted.
    pub servers: Vec<Option<(Arc<str>, IpAddr)>>,
}

/// What came of one push.
#[derive(Debug)]
pub(super) enum Pushed {
    Document(ServerId, Box<Document>),
    /// From an address that is not this server's, or for a name nobody has.
    Stranger,
    /// Not a document, too long, too often, not HTTP as it is to be.
    Unusable,
}

/// What a pusher is told who is refused, and how that counts.
type Refusal = (StatusCode, String, Pushed);

/// Opens the listener; what it takes in comes out of the receiver.
pub(super) fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Starts to serve in this runtime, until the receiver is dropped.
pub(super) fn start(listener: TcpListener, settings: Settings) -> mpsc::Receiver<Pushed> {
    let (sender, pushed) = mpsc::channel(WAITING);
    let last = vec![None; settings.servers.len()];
    let desk = Arc::new(Desk { settings, sender, last: Mutex::new((last, None)) });
    tokio::spawn(async move {
        match tokio::net::TcpListener::from_std(listener) {
            Ok(listener) => accept_all(listener, desk).await,
            Err(error) => {
                tracing::error!(%error, "the listener for health documents cannot be served")
            }
        }
    });
    pushed
}

struct Desk {
    settings: Settings,
    sender: mpsc::Sender<Pushed>,
    /// When each server's last document came, and when a stranger was last named.
    last: Mutex<(Vec<Option<Uptime>>, Option<Uptime>)>,
}

async fn accept_all(listener: tokio::net::TcpListener, desk: Arc<Desk>) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        tokio::select! {
            () = desk.sender.closed() => return,
            accepted = listener.accept() => match accepted {
                Ok((stream, peer)) => {
                    let desk = Arc::clone(&desk);
                    tokio::spawn(async move {
                        let _ended = timeout(PATIENCE, talk(stream, peer, desk)).await;
                        drop(place);
                    });
                }
                Err(_) => sleep(ACCEPT_REST).await,
            }
        }
    }
}

/// One request and its answer.
async fn talk(stream: TcpStream, peer: SocketAddr, desk: Arc<Desk>) {
    let service = service_fn(move |request| {
        let desk = Arc::clone(&desk);
        async move { Ok::<_, Infallible>(desk.answer(peer.ip(), request).await) }
    });
    let done = http1::Builder::new()
        .keep_alive(false)
        .max_buf_size(HEADER_OCTETS)
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_PATIENCE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = done {
        tracing::debug!(%error, "a push of a health document");
    }
}

impl Desk {
    async fn answer(&self, peer: IpAddr, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (status, says, pushed) = match self.take(peer, request).await {
            Ok((server, document)) => (
                StatusCode::NO_CONTENT,
                String::new(),
                Pushed::Document(server, Box::new(document)),
            ),
            Err(refusal) => refusal,
        };
        // A driver that is busy has newer documents to come.
        let status = match self.sender.try_send(pushed) {
            Ok(()) => status,
            Err(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        let mut response = Response::new(Full::new(Bytes::from(says)));
        *response.status_mut() = status;
        response
    }

    async fn take(
        &self,
        peer: IpAddr,
        request: Request<Incoming>,
    ) -> Result<(ServerId, Document), Refusal> {
        let refuse = |status, says: &str| (status, format!("{says}\n"), Pushed::Unusable);
        let server = self.sender_of(peer, request.uri().path())?;
        if request.method() != Method::POST {
            return Err(refuse(StatusCode::METHOD_NOT_ALLOWED, "POST the document"));
        }
        let too_long = || refuse(StatusCode::PAYLOAD_TOO_LARGE, "a document has at most 64 KiB");
        let body = request.into_body();
        if body.size_hint().lower() > DOCUMENT_MAX as u64 {
            return Err(too_long());
        }
        let whole = Limited::new(body, DOCUMENT_MAX).collect().await.map_err(|_| too_long())?;
        let document = Document::parse(&whole.to_bytes())
            .map_err(|fault| refuse(StatusCode::UNPROCESSABLE_ENTITY, &fault.to_string()))?;
        if !self.is_due(server) {
            return Err(refuse(StatusCode::TOO_MANY_REQUESTS, "ten documents a second are enough"));
        }
        Ok((server, document))
    }

    /// Whose document it is, if it comes from there.
    fn sender_of(&self, peer: IpAddr, path: &str) -> Result<ServerId, Refusal> {
        let name = path.strip_prefix("/v1/health/").unwrap_or_default();
        let mut servers = (0u16..).map(ServerId).zip(&self.settings.servers);
        let known = servers.find_map(|(id, server)| {
            server.as_ref().filter(|(known, _)| **known == *name).map(|(_, address)| (id, *address))
        });
        match known {
            Some((server, address)) if address == peer.to_canonical() => Ok(server),
            _ => {
                self.name_stranger(peer);
                let says =
                    "documents are taken at /v1/health/NAME, from that server's own address\n";
                Err((StatusCode::FORBIDDEN, says.to_owned(), Pushed::Stranger))
            }
        }
    }

    fn name_stranger(&self, peer: IpAddr) {
        let now = Clock.uptime();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.1.is_none_or(|last| now.since(last) >= LOG_GAP) {
            last.1 = Some(now);
            warn!(%peer, "a stranger pushes health documents; a server's come from its own address");
        }
    }

    fn is_due(&self, server: ServerId) -> bool {
        let now = Clock.uptime();
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = last.0.get_mut(server.index()) else { return false };
        let due = last.is_none_or(|last| now.since(last) >= LEAST_GAP);
        if due {
            *last = Some(now);
        }
        due
    }
}
