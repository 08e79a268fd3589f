//! Connections of clients: as many as there may be, with TLS where it is spoken.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{self, IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use crate::net::web::exchange::Origin;
use crate::net::web::{Counts, Gateway};
use crate::sip::source_of;

/// How long accepting rests after a failure.
const ACCEPT_REST: Duration = Duration::from_millis(200);
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a peer may leave unread what it was sent.
const UNREAD: Duration = Duration::from_secs(60);
/// Silence after which the kernel asks whether the peer is there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// Places for connections, of all listeners.
#[derive(Default)]
pub(super) struct Places {
    all: Cell<usize>,
    by_source: RefCell<HashMap<IpAddr, usize>>,
}

/// A place; free again when it is dropped.
struct Place {
    places: Rc<Places>,
    source: IpAddr,
}

impl Places {
    fn take(self: &Rc<Self>, source: IpAddr, (all, of_one): (usize, usize)) -> Option<Place> {
        let mut by_source = self.by_source.borrow_mut();
        if self.all.get() >= all || by_source.get(&source).is_some_and(|it| *it >= of_one) {
            return None;
        }
        *by_source.entry(source).or_default() += 1;
        self.all.set(self.all.get() + 1);
        Some(Place { places: Rc::clone(self), source })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.all.set(self.places.all.get() - 1);
        let mut by_source = self.places.by_source.borrow_mut();
        if let Some(count) = by_source.get_mut(&self.source) {
            *count -= 1;
            if *count == 0 {
                by_source.remove(&self.source);
            }
        }
    }
}

/// Serves as long as the thread lives.
pub(super) async fn serve(
    gateway: Rc<Gateway>,
    listener: net::TcpListener,
    places: Rc<Places>,
    secrets: Option<Arc<ServerConfig>>,
) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            tracing::error!(%error, "a listener of the WebService cannot be served");
            return;
        }
    };
    let limits = gateway.settings.limits;
    let most = (limits.connections, limits.connections_per_source);
    let acceptor = secrets.map(TlsAcceptor::from);
    loop {
        let Ok((stream, remote)) = listener.accept().await else {
            sleep(ACCEPT_REST).await;
            continue;
        };
        let Some(place) = places.take(source_of(remote.ip()), most) else {
            Counts::one(&gateway.counts.refused);
            continue;
        };
        let (gateway, acceptor) = (Rc::clone(&gateway), acceptor.clone());
        tokio::task::spawn_local(async move {
            begin(&gateway, stream, remote, acceptor).await;
            drop(place);
        });
    }
}

async fn begin(
    gateway: &Rc<Gateway>,
    stream: TcpStream,
    remote: SocketAddr,
    acceptor: Option<TlsAcceptor>,
) {
    prepare(&stream);
    let from = Origin { remote, is_secure: acceptor.is_some() };
    match acceptor {
        None => talk(gateway, stream, from).await,
        Some(acceptor) => match timeout(HANDSHAKE, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => talk(gateway, stream, from).await,
            Ok(Err(_)) | Err(_) => Counts::one(&gateway.counts.refused),
        },
    }
}

/// What the kernel sees to: a peer that is gone, or does not read.
pub(super) fn prepare(stream: &TcpStream) {
    let socket = SockRef::from(stream);
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE / 4);
    // Where the system does not offer one of them, the connection lives without.
    let _ = socket.set_tcp_keepalive(&keep_alive);
    let _ = socket.set_tcp_user_timeout(Some(UNREAD));
    let _ = stream.set_nodelay(true);
}

async fn talk<S>(gateway: &Rc<Gateway>, stream: S, from: Origin)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let limits = gateway.settings.limits;
    let service =
        service_fn(|request| async { Ok::<_, Infallible>(gateway.respond(request, from).await) });
    let done = http1::Builder::new()
        .max_buf_size(limits.headers)
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_patience)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if done.is_err() {
        Counts::one(&gateway.counts.refused);
    }
}
