//! The WebService: HTTP and WebSockets on one side, the core's inputs and outputs on the other.
//!
//! ```text
//!  client ──HTTP──▶ listener ─▶ routes ─┬─ createsession ─▶ Open ──────┐
//!    ▲                                  ├─ calls, WebSocket ─▶ Rose ───┤  Input   ┌──────┐
//!    │                                  └─ the rest ─▶ proxy ─▶ server └────────▶ │driver│
//!    │                                                                            └──────┘
//!    └── session: waiting requests, events ◀─ Answer, Send, Close ◀────────────────┤ Output
//!  server ◀─ createsession, WebSocket, calls ◀─ leg ◀─ Open, Send, Close ◀─────────┘
//! ```
//!
//! | file | what is there |
//! |---|---|
//! | `listener` | connections of clients, TLS, limits |
//! | `routes` | what each request wants, and how it is answered |
//! | `session` | one session, towards its client |
//! | `leg` | the same towards its server |
//! | `socket` | a client's WebSocket |
//! | `proxy` | what streams through |
//! | `exchange` | requests and answers as the core knows them ⇄ those of the HTTP library |
//!
//! It runs in a thread of its own, one task for each connection, so that neither a slow page nor a TLS
//! handshake keeps a phone waiting. What the core says comes by one bounded queue; a session for which
//! there is no room in it ends, and that is counted.

mod exchange;
mod leg;
mod listener;
mod proxy;
mod routes;
mod session;
mod socket;

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::crypto::{SecureRandom, aws_lc_rs};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::LocalSet;

use crate::door::{Input, WebAnswer};
use crate::net::counters::Counters;
use crate::net::published::Handle;
use crate::net::sockets::BindError;
use crate::net::web::exchange::Body;
use crate::net::web::leg::Order;
use crate::net::web::listener::Places;
use crate::net::web::session::Session;
use crate::sip::Flow;
use crate::ucws::Opening;

/// What the core says that waits for this thread.
const OUTPUTS: usize = 65_536;
/// What this thread says that waits for the core; then its tasks wait.
const INPUTS: usize = 1_024;
/// Orders that wait for one leg.
const ORDERS: usize = 512;

/// Where clients come by HTTP.
#[derive(Clone, Debug)]
pub struct WebListen {
    /// Its configured name.
    pub name: Arc<str>,
    /// Where.
    pub address: SocketAddr,
    /// Whether TLS is spoken there.
    pub is_secure: bool,
}

/// A server of the pool.
#[derive(Clone, Debug)]
pub struct WebServer {
    /// Its name.
    pub name: Arc<str>,
    /// Where its WebService is; `None`: nowhere.
    pub address: Option<SocketAddr>,
    /// What its WebService calls it (`ucsid`).
    pub ucsid: Arc<str>,
}

/// The WebService.
#[derive(Clone, Debug, Default)]
pub struct WebSettings {
    /// Where it listens.
    pub listeners: Vec<WebListen>,
    /// The pool.
    pub servers: Vec<WebServer>,
    /// Its bounds.
    pub limits: WebLimits,
}

/// Bounds of the WebService.
#[derive(Clone, Copy, Debug)]
pub struct WebLimits {
    /// Connections of clients.
    pub connections: usize,
    /// The same of one source: an IPv4 address or an IPv6 /64.
    pub connections_per_source: usize,
    /// Sessions, those that are being created included.
    pub sessions: usize,
    /// Requests under way that stream through.
    pub streams: usize,
    /// Octets of the body of a request that is no stream, of a message of a WebSocket, and of an
    /// answer to a call.
    pub message: usize,
    /// Octets of a request that shows who somebody is.
    pub opening: usize,
    /// Octets of the headers of a request: a ticket of Kerberos may be long.
    pub headers: usize,
    /// Octets that wait for a client that does not read, or has no WebSocket.
    pub queue: usize,
    /// How long the headers of a request may take, the first after connecting, and the next after an
    /// answer.
    pub header_patience: Duration,
    /// How long the next octets of a body may take that is taken whole, or sent by a client.
    pub body_patience: Duration,
    /// The same of an answer that streams through: a server may be in no hurry.
    pub stream_patience: Duration,
    /// How long a server may take to answer.
    pub answer_patience: Duration,
    /// How long a session is kept of which nothing is heard, and that has no WebSocket.
    pub idle: Duration,
    /// How long a login may rest between two steps.
    pub step_patience: Duration,
    /// Silence after which the client behind a WebSocket is asked whether it is there; after twice
    /// this it is not.
    pub ping: Duration,
}

impl Default for WebLimits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            connections_per_source: 2_000,
            sessions: 100_000,
            streams: 2_000,
            message: 4 * 1024 * 1024,
            opening: 64 * 1024,
            headers: 96 * 1024,
            queue: 1024 * 1024,
            header_patience: Duration::from_secs(30),
            body_patience: Duration::from_secs(30),
            stream_patience: Duration::from_secs(300),
            answer_patience: Duration::from_secs(60),
            idle: Duration::from_secs(600),
            step_patience: Duration::from_secs(60),
            ping: Duration::from_secs(30),
        }
    }
}

/// What the core says to this thread.
#[derive(Debug)]
pub(super) enum ToWeb {
    /// A leg begins, or shows one more step.
    Open { flow: Flow, client: Flow, opening: Arc<Opening> },
    /// Somebody who asked for a session is answered.
    Answer { flow: Flow, answer: WebAnswer },
    /// A message, on a leg or for a client.
    Send { flow: Flow, bytes: Bytes },
    /// A leg or a session is over.
    Close { flow: Flow },
}

impl ToWeb {
    pub(super) const fn flow(&self) -> Flow {
        match self {
            Self::Open { flow, .. }
            | Self::Answer { flow, .. }
            | Self::Send { flow, .. }
            | Self::Close { flow } => *flow,
        }
    }
}

/// Listeners that are open.
pub(super) type Opened = Vec<(TcpListener, WebListen)>;

/// The driver's side of the WebService.
#[derive(Debug)]
pub(super) struct Web {
    outputs: mpsc::Sender<ToWeb>,
    inputs: mpsc::Receiver<Input>,
    /// What could not be told for want of room: those flows are over.
    untold: HashSet<Flow>,
    /// Those of them of which the core does not know yet.
    lost: Vec<Flow>,
    counts: Arc<Counts>,
}

/// What the thread counts.
#[derive(Debug, Default)]
pub(super) struct Counts {
    requests: AtomicU64,
    refused: AtomicU64,
    streamed: AtomicU64,
    unanswered: AtomicU64,
    events_dropped: AtomicU64,
    slow_readers: AtomicU64,
    shed: AtomicU64,
    sessions: AtomicU64,
}

impl Counts {
    fn one(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }
}

/// Opens the listeners, or none.
pub(super) fn open(settings: &WebSettings) -> Result<Opened, BindError> {
    let open_one = |listen: &WebListen| {
        let failed = |source: io::Error| BindError {
            listener: Arc::clone(&listen.name),
            transport: if listen.is_secure { "https" } else { "http" },
            address: listen.address,
            source,
        };
        let listener = TcpListener::bind(listen.address).map_err(failed)?;
        listener.set_nonblocking(true).map_err(failed)?;
        Ok((listener, listen.clone()))
    };
    settings.listeners.iter().map(open_one).collect()
}

/// Starts the thread. It ends when the driver's side is dropped.
pub(super) fn start(
    listeners: Opened,
    settings: WebSettings,
    secrets: Option<Arc<rustls::ServerConfig>>,
    handle: Handle,
) -> io::Result<Web> {
    let (outputs, told) = mpsc::channel(OUTPUTS);
    let (sender, inputs) = mpsc::channel(INPUTS);
    let counts = Arc::new(Counts::default());
    let shared = Arc::clone(&counts);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name("webservice".to_owned()).spawn(move || {
        let local = LocalSet::new();
        let gateway = Rc::new(Gateway::new(settings, sender, handle, shared));
        local.block_on(&runtime, async move {
            let places = Rc::new(Places::default());
            for (listener, listen) in listeners {
                let secrets = secrets.clone().filter(|_| listen.is_secure);
                let (gateway, places) = (Rc::clone(&gateway), Rc::clone(&places));
                tokio::task::spawn_local(listener::serve(gateway, listener, places, secrets));
            }
            tokio::task::spawn_local(session::sweep(Rc::clone(&gateway)));
            gateway.listen_to_core(told).await;
        });
    })?;
    Ok(Web { outputs, inputs, untold: HashSet::new(), lost: Vec::new(), counts })
}

impl Web {
    /// What comes next; without a WebService, nothing ever.
    pub(super) async fn next(web: &mut Option<Self>) -> Option<Input> {
        match web {
            Some(web) => web.inputs.recv().await,
            None => std::future::pending().await,
        }
    }

    /// What has come besides.
    pub(super) fn take(&mut self) -> Option<Input> {
        self.inputs.try_recv().ok()
    }

    /// Tells the thread. Where there is no room the flow is over ([`Web::next_lost`]).
    pub(super) fn tell(&mut self, what: ToWeb) {
        let flow = what.flow();
        if !self.untold.contains(&flow) && self.outputs.try_send(what).is_err() {
            Counts::one(&self.counts.shed);
            self.untold.insert(flow);
            self.lost.push(flow);
        }
    }

    /// A flow that is over for want of room; each once.
    pub(super) fn next_lost(&mut self) -> Option<Flow> {
        self.lost.pop()
    }

    /// Tells what could not be told, as far as there is room now.
    pub(super) fn catch_up(&mut self) {
        while let Some(flow) = self.untold.iter().next().copied() {
            if self.outputs.try_send(ToWeb::Close { flow }).is_err() {
                return;
            }
            self.untold.remove(&flow);
        }
    }

    /// Adds what the thread has counted.
    pub(super) fn count(&self, into: &mut Counters) {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { requests, refused, streamed, unanswered, .. } = &*self.counts;
        let Counts { events_dropped, slow_readers, shed, .. } = &*self.counts;
        into.web_requests = read(requests);
        into.web_refused = read(refused);
        into.web_streamed = read(streamed);
        into.web_unanswered = read(unanswered);
        into.web_events_dropped = read(events_dropped);
        into.web_slow_readers = read(slow_readers);
        into.web_shed = read(shed);
    }

    /// Sessions there are, those that are being created included.
    pub(super) fn sessions(&self) -> u64 {
        self.counts.sessions.load(Ordering::Relaxed)
    }
}

/// What all tasks of the thread share.
struct Gateway {
    inputs: mpsc::Sender<Input>,
    settings: WebSettings,
    handle: Handle,
    counts: Arc<Counts>,
    random: &'static dyn SecureRandom,
    client: Client<HttpConnector, Body>,
    /// For what proves who asks by the connection it comes by (RFC 4559): nobody else may ask by it.
    client_once: Client<HttpConnector, Body>,
    connections: Cell<u64>,
    sessions: RefCell<Sessions>,
    legs: RefCell<HashMap<u64, mpsc::Sender<Order>>>,
    /// Places for what streams through.
    streams: Arc<Semaphore>,
}

/// Every session, by each of its names.
#[derive(Default)]
struct Sessions {
    by_id: HashMap<String, Rc<Session>>,
    by_connection: HashMap<u64, Rc<Session>>,
    /// Logins that rest between two steps.
    by_exchange: HashMap<String, Rc<Session>>,
}

/// Connections that stand for sessions are counted from here, away from those of streams.
const CONNECTIONS_FROM: u64 = 1 << 62;

impl Gateway {
    fn new(
        settings: WebSettings,
        inputs: mpsc::Sender<Input>,
        handle: Handle,
        counts: Arc<Counts>,
    ) -> Self {
        let streams = Arc::new(Semaphore::new(settings.limits.streams));
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(CONNECT_PATIENCE));
        let client = |idle: usize| {
            Client::builder(TokioExecutor::new())
                .pool_idle_timeout(POOLED_FOR)
                .pool_max_idle_per_host(idle)
                .pool_timer(TokioTimer::new())
                .http1_max_buf_size(settings.limits.headers)
                .build(connector.clone())
        };
        let (client, client_once) = (client(POOLED_MAX), client(0));
        Self {
            inputs,
            settings,
            handle,
            counts,
            random: aws_lc_rs::default_provider().secure_random,
            client,
            client_once,
            connections: Cell::new(CONNECTIONS_FROM),
            sessions: RefCell::default(),
            legs: RefCell::default(),
            streams,
        }
    }

    /// What a server is to be called where a client has named one of the pool (`ucsid`): whichever it
    /// means, the door decides where it is served. Any other name is the server's to understand.
    fn ucsid_at(&self, server: SocketAddr, said: &str) -> Option<&str> {
        let servers = &self.settings.servers;
        let is_meant = servers.iter().any(|known| *known.ucsid == *said);
        let there = servers.iter().find(|known| known.address == Some(server))?;
        (is_meant && *there.ucsid != *said).then_some(&*there.ucsid)
    }

    /// Says something to the core; waits while it is behind.
    async fn say(&self, input: Input) {
        // It has ended: so will this thread.
        let _ended = self.inputs.send(input).await;
    }

    async fn listen_to_core(self: Rc<Self>, mut told: mpsc::Receiver<ToWeb>) {
        while let Some(what) = told.recv().await {
            let number = what.flow().connection.own_number();
            match (what, number) {
                (ToWeb::Open { flow, client, opening }, Some(number)) => {
                    self.open_leg((flow, number), client, opening);
                }
                (ToWeb::Send { flow, bytes }, Some(number)) => {
                    self.order((flow, number), Order::Send(bytes));
                }
                (ToWeb::Close { .. }, Some(number)) => drop(self.legs.borrow_mut().remove(&number)),
                (ToWeb::Answer { flow, answer }, None) => {
                    if let Some(session) = self.session_of(flow) {
                        session.answer(answer);
                    }
                }
                (ToWeb::Send { flow, bytes }, None) => {
                    if let Some(session) = self.session_of(flow) {
                        session.hear(&self, bytes);
                    }
                }
                (ToWeb::Close { flow }, None) => {
                    if let Some(session) = self.session_of(flow) {
                        self.forget(&session);
                    }
                }
                (ToWeb::Open { .. }, None) | (ToWeb::Answer { .. }, Some(_)) => {}
            }
        }
    }

    fn session_of(&self, flow: Flow) -> Option<Rc<Session>> {
        self.sessions.borrow().by_connection.get(&flow.connection.0).cloned()
    }

    /// A leg that is there goes on; else one begins.
    fn open_leg(self: &Rc<Self>, at: (Flow, u64), client: Flow, opening: Arc<Opening>) {
        let Some(session) = self.session_of(client) else { return };
        let is_there = self.legs.borrow().contains_key(&at.1);
        if is_there {
            return self.order(at, Order::Open(opening));
        }
        let (sender, orders) = mpsc::channel(ORDERS);
        self.legs.borrow_mut().insert(at.1, sender);
        let gateway = Rc::clone(self);
        tokio::task::spawn_local(leg::run(gateway, at, session, opening, orders));
    }

    /// A leg that does not keep up is given up.
    fn order(self: &Rc<Self>, (flow, number): (Flow, u64), order: Order) {
        let sent = self.legs.borrow().get(&number).map(|leg| leg.try_send(order).is_ok());
        if sent == Some(false) && self.legs.borrow_mut().remove(&number).is_some() {
            let gateway = Rc::clone(self);
            tokio::task::spawn_local(async move {
                gateway.say(Input::Closed { flow, refused: false }).await;
            });
        }
    }
}

/// How long making a connection to a server may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// Connections to one server that are kept for the next request, and for how long: shorter than servers
/// keep them.
const POOLED_MAX: usize = 32;
const POOLED_FOR: Duration = Duration::from_secs(4);
