//! An HTTP connection: served, and what becomes of one that turns into a WebSocket.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot, watch};

use crate::ucserver::run::web::routes;
use crate::ucserver::run::web::sessions::Asked;

/// Octets of a request's head.
const HEAD_OCTETS: usize = 64 * 1024;

/// How long a head may take, the wait for it included.
const HEAD_PATIENCE: Duration = Duration::from_secs(30);

/// What every request is answered from.
#[derive(Clone)]
pub(super) struct Desk {
    /// The server's name, which is also its UCSID.
    pub(super) name: Arc<str>,
    pub(super) asks: mpsc::Sender<Asked>,
    pub(super) is_silent: watch::Receiver<bool>,
}

/// What a connection does when its last request has been answered.
pub(super) type After = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The connection a request came on.
pub(super) struct Connection {
    pub(super) number: u64,
    /// What it becomes.
    pub(super) becomes: mpsc::Sender<After>,
}

impl Desk {
    /// Asks the loop. Whoever asks a silent server waits, and holds what they hold.
    pub(super) async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Asked) -> T {
        let (reply, replied) = oneshot::channel();
        if self.asks.send(question(reply)).await.is_ok()
            && let Ok(answer) = replied.await
        {
            return answer;
        }
        std::future::pending().await
    }
}

/// Serves one connection to its end.
pub(super) async fn converse(stream: TcpStream, desk: Desk, number: u64) {
    // Without it answers are late, and nothing else.
    let _ = stream.set_nodelay(true);
    let (becomes, mut became) = mpsc::channel(1);
    let place = Arc::new(Connection { number, becomes });
    let service = service_fn(|request| {
        let (desk, place) = (desk.clone(), Arc::clone(&place));
        async move { Ok::<_, Infallible>(routes::answer(&desk, &place, request).await) }
    });
    let connection = http1::Builder::new()
        .max_buf_size(HEAD_OCTETS)
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_PATIENCE)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // How a connection ends is of no interest to anybody.
    let _ = connection.await;
    if let Ok(after) = became.try_recv() {
        after.await;
    }
    let _ = desk.asks.send(Asked::ConnectionEnded { number }).await;
}
