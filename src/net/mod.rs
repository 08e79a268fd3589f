//! The shell around the core: sockets, clocks, the driver's loop.
//!
//! ```text
//! sockets  UDP with the ICMP error queue, TCP connections with framing    → Arrival
//! driver   one task: Arrival, store, health, deadline → core → outputs
//! handle   snapshots and questions for other threads (the admin listener)
//! web      a thread of its own: HTTP and WebSockets                       → Input
//! ```
//!
//! [`Sockets`] alone knows no core: the simulated UCServer stands on the same ones.
//! Everything runs in one task of a current-thread runtime, fetches apart, which share only a queue
//! with it. Every queue is bounded; what is shed is in [`Counters`].

mod arrival;
mod batch;
mod carrier;
mod certificates;
mod clock;
mod connection;
mod counters;
mod deadlines;
mod driver;
mod fetch;
mod framing;
mod limits;
mod listeners;
mod outbound;
mod patience;
mod pressure;
mod published;
mod pushed;
mod readiness;
mod slab;
mod sockets;
mod tcp;
mod udp;
mod web;
pub mod websocket;

use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::sip::ListenerId;

pub use arrival::Arrival;
pub use certificates::{Certificate, CertificateError, Certificates};
pub use clock::Clock;
pub use counters::Counters;
pub use driver::{Core, EventObserver, Ledger, Observers, Stopped};
pub use fetch::fetch;
pub use framing::{Protocol, Security};
pub use limits::{Limits, UcsapLimits};
pub use published::{Handle, Snapshot, USERS_PAGE_LIMIT, Unanswered};
pub use pushed::Settings as PushSettings;
pub use sockets::{BindError, Listen, Sockets};
pub use web::{WebLimits, WebListen, WebServer, WebSettings};

/// What the shell is told at start.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What to listen on, by [`ListenerId`]: the order of the core's own listeners.
    pub listeners: Vec<Listen>,
    /// Bounds of streams.
    pub limits: Limits,
    /// What those are shown who come by TLS.
    pub certificates: Option<Arc<Certificates>>,
    /// Where each server's health document is, by [`crate::cluster::ServerId`].
    pub health_urls: Vec<Option<Arc<str>>>,
    /// Where servers send documents by themselves; `None`: nowhere.
    pub health_push: Option<PushSettings>,
    /// The WebService.
    pub web: WebSettings,
}

/// Open sockets that nobody serves yet: see [`Net::run`].
#[derive(Debug)]
pub struct Net {
    sockets: Sockets,
    health_urls: Vec<Option<Arc<str>>>,
    health_push: Option<(TcpListener, PushSettings)>,
    web: Option<web::Web>,
    web_addresses: Vec<SocketAddr>,
    handle: Handle,
    asked: mpsc::Receiver<published::Query>,
}

impl Net {
    /// Opens every listener, or none. Needs a tokio runtime.
    ///
    /// # Errors
    /// Says which listener, where, and what to do.
    pub fn bind(settings: Settings) -> Result<Self, BindError> {
        let Settings { listeners, limits, certificates, health_urls, health_push, web } = settings;
        // Every session of the WebService has a connection on either side.
        let by_web = if web.listeners.is_empty() { 0 } else { web.limits.connections * 2 };
        raise_descriptor_limit(limits.connections.saturating_add(by_web));
        let sockets = Sockets::bind_with(&listeners, limits, certificates.as_ref())?;
        let push = |settings: PushSettings| {
            let address = settings.address;
            let opened = pushed::open(address).map_err(|source| BindError {
                listener: Arc::from("health.push"),
                transport: "http",
                address,
                source,
            });
            Ok((opened?, settings))
        };
        let health_push = health_push.map(push).transpose()?;
        let (handle, asked) = Handle::new();
        let opened = web::open(&web)?;
        let web_addresses =
            opened.iter().filter_map(|(listener, _)| listener.local_addr().ok()).collect();
        let web = start_web(opened, web, certificates.as_ref(), handle.clone())?;
        Ok(Self { sockets, health_urls, health_push, web, web_addresses, handle, asked })
    }

    /// Where the WebService listens, in the order of its listeners.
    pub fn web_addresses(&self) -> &[SocketAddr] {
        &self.web_addresses
    }

    /// For whoever watches the running door.
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    /// The bound address of a listener; its port is known even if any was asked for.
    pub fn local_addr(&self, listener: ListenerId) -> Option<SocketAddr> {
        self.sockets.local_addr(listener)
    }

    /// Serves until `shutdown`; then nothing is read any more, the store's answers are waited for
    /// and the last messages leave.
    pub async fn run<C: Core>(
        self,
        core: C,
        ledger: Ledger,
        observers: Observers,
        shutdown: impl Future<Output = ()>,
    ) -> Stopped {
        let Self { sockets, health_urls, health_push, web, handle, asked, .. } = self;
        let pushed = health_push.map(|(listener, settings)| pushed::start(listener, settings));
        let health = driver::HealthDocuments::new(health_urls);
        let driver = driver::Driver {
            core,
            sockets,
            ledger,
            observers,
            handle,
            asked,
            health,
            pushed,
            web,
            writes_waiting: 0,
            ordered: HashMap::new(),
            behind: false,
            store_gone: false,
            handled: None,
            not_secured: Vec::new(),
            publish_now: true,
        };
        driver.run(shutdown).await
    }
}

/// The WebService, if it is to be served anywhere.
fn start_web(
    opened: web::Opened,
    settings: WebSettings,
    certificates: Option<&Arc<Certificates>>,
    handle: Handle,
) -> Result<Option<web::Web>, BindError> {
    let Some((_, first)) = opened.first() else { return Ok(None) };
    let (listener, address) = (Arc::clone(&first.name), first.address);
    let failed = |source| BindError { listener, transport: "http", address, source };
    let secrets = certificates.map(|it| it.config()).transpose();
    let secrets = secrets.map_err(io::Error::other);
    let started = secrets.and_then(|secrets| web::start(opened, settings, secrets, handle));
    started.map(Some).map_err(failed)
}

/// Ends at the first SIGTERM or SIGINT.
///
/// # Errors
/// The system allows no signal handlers.
pub fn terminated() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// Each connection is a descriptor, and the usual soft limit of 1024 is not enough.
fn raise_descriptor_limit(connections: usize) {
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(256);
    let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE) else { return };
    if soft < wanted {
        // Less is no reason to stop: accepting rests when descriptors run out, and that is counted.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard);
    }
    if hard < wanted {
        tracing::warn!(
            descriptors = hard,
            connections,
            "this process may open fewer files than it may have connections: raise LimitNOFILE \
             (systemd) or ulimit -n to {wanted}"
        );
    }
}
