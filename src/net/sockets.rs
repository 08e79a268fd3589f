//! [`Sockets`]: all listeners of one task, as one thing to wait for and one thing to send by.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use rustls::ServerConfig;

use crate::arena::Arena;
use crate::net::arrival::Arrival;
use crate::net::batch::Landing;
use crate::net::certificates::Certificates;
use crate::net::clock::Clock;
use crate::net::counters::Counters;
use crate::net::framing::{Protocol, Security};
use crate::net::limits::Limits;
use crate::net::pressure::Pressure;
use crate::net::tcp::{Hub, Turn};
use crate::net::udp::UdpListener;
use crate::sip::Flow;
use crate::sip::ListenerId;
use crate::sip::Transport;

/// One address to listen on; its place in the list is its [`ListenerId`].
#[derive(Clone, Debug)]
pub struct Listen {
    /// Its configured name.
    pub name: Arc<str>,
    /// By what.
    pub transport: Transport,
    /// What is spoken there.
    pub speaks: Protocol,
    /// Whether that is secret.
    pub security: Security,
    /// Where.
    pub address: SocketAddr,
}

/// A listener could not be opened: the operator's to mend.
#[derive(Debug, thiserror::Error)]
#[error("listener \"{listener}\" cannot listen on {transport} {address}: {}", remedy(.source))]
pub struct BindError {
    /// Which.
    pub listener: Arc<str>,
    /// `udp`, `tcp` or `http`.
    pub transport: &'static str,
    /// Where.
    pub address: SocketAddr,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// All sockets of one task. Needs a tokio runtime.
pub struct Sockets {
    udp: Vec<UdpListener>,
    /// Datagrams each of them has lost in the kernel, as told last.
    dropped: Vec<u32>,
    /// Once there is a listener for it.
    tcp: Option<Hub>,
    limits: Limits,
    /// Of the listeners that take TLS.
    tls: Option<Arc<ServerConfig>>,
    routes: Vec<Route>,
    landing: Landing,
    arena: Arena,
    counters: Counters,
    /// Failures that sending showed, told by the next [`Sockets::arrivals`].
    failed: Vec<Arrival>,
    reading: bool,
}

#[derive(Clone, Copy, Debug)]
struct Route {
    local: SocketAddr,
    socket: Socket,
}

#[derive(Clone, Copy, Debug)]
enum Socket {
    /// A place in [`Sockets::udp`].
    Udp(usize),
    Tcp,
}

impl Sockets {
    /// Opens every listener, or none.
    ///
    /// # Errors
    /// Says which listener, where, and what to do.
    pub fn bind(listeners: &[Listen], limits: Limits) -> Result<Self, BindError> {
        Self::bind_with(listeners, limits, None)
    }

    /// The same, with what those are shown who come by TLS.
    ///
    /// # Errors
    /// See [`Sockets::bind`].
    pub fn bind_with(
        listeners: &[Listen],
        limits: Limits,
        certificates: Option<&Arc<Certificates>>,
    ) -> Result<Self, BindError> {
        let mut sockets = Self {
            udp: Vec::new(),
            dropped: Vec::new(),
            tcp: None,
            limits,
            tls: None,
            routes: Vec::new(),
            landing: Landing::default(),
            arena: Arena::default(),
            counters: Counters::default(),
            failed: Vec::new(),
            reading: true,
        };
        if let Some(certificates) = certificates {
            // Without, the listeners that need it say so.
            sockets.tls = certificates.config().ok();
        }
        for (id, listen) in (0u16..).map(ListenerId).zip(listeners) {
            let route = sockets.open(id, listen).map_err(|source| BindError {
                listener: Arc::clone(&listen.name),
                transport: listen.transport.name(),
                address: listen.address,
                source,
            })?;
            sockets.routes.push(route);
        }
        Ok(sockets)
    }

    /// The bound address of a listener; its port is known even if any was asked for.
    pub fn local_addr(&self, listener: ListenerId) -> Option<SocketAddr> {
        self.routes.get(usize::from(listener.0)).map(|route| route.local)
    }

    /// Waits for something to arrive and appends it to `into`: a bounded share of each socket.
    /// May append nothing. Nothing is lost if the future is dropped.
    pub async fn arrivals(&mut self, into: &mut Vec<Arrival>) {
        poll_fn(|cx| self.poll_arrivals(cx, into)).await;
    }

    /// Sends on a flow. Datagrams leave together, at the latest with the next
    /// [`Sockets::hand_over`] or [`Sockets::arrivals`]; what fails is an [`Arrival`] later, what
    /// does not fit is counted. A connection of the core's own is made by the first that is sent on
    /// it ([`crate::sip::ConnectionId::own`]).
    pub fn send(&mut self, flow: Flow, bytes: Bytes) {
        if flow.connection.is_own() {
            return self.send_own(flow, bytes);
        }
        let socket = self.routes.get(usize::from(flow.listener.0)).map(|route| route.socket);
        match (flow.transport, socket) {
            (Transport::Udp, Some(Socket::Udp(place))) => {
                let Some(udp) = self.udp.get_mut(place) else { return };
                udp.send(flow.remote, bytes, &mut self.failed, &mut self.counters);
            }
            (Transport::Tcp, Some(Socket::Tcp)) => {
                let Some(tcp) = &mut self.tcp else { return };
                tcp.send(flow, bytes, &mut self.counters);
            }
            // A flow of a listener that is not there, or not of that transport.
            (Transport::Udp, _) => self.counters.datagrams_undeliverable += 1,
            (Transport::Tcp, _) => self.counters.sends_without_connection += 1,
        }
    }

    /// Ends a stream once what was sent on it has left, at the latest after the time a peer has to
    /// read. Nothing that is read from it afterwards arrives, and no [`Arrival::Closed`] tells of its
    /// end; what had arrived before may still come out of [`Sockets::arrivals`].
    pub fn close(&mut self, flow: Flow) {
        if let Some(tcp) = &mut self.tcp {
            tcp.close(flow, &mut self.counters);
        }
    }

    /// Sends `answer` in the clear, and from then on takes and sends nothing but TLS:
    /// [`Arrival::Secured`] when the handshake is complete. Where octets in the clear have followed
    /// the request for it, or TLS is not offered, the stream ends instead: `false`.
    pub fn start_tls(&mut self, flow: Flow, answer: Bytes) -> bool {
        if let Some(tcp) = &mut self.tcp {
            return tcp.start_tls(flow, answer, &mut self.counters);
        }
        self.counters.sends_without_connection += 1;
        false
    }

    /// Whether a message that has arrived must not be taken for one: it came in the clear, behind
    /// the request for TLS. Its stream ends.
    pub fn refuse_injected(&mut self, flow: Flow) -> bool {
        self.tcp.as_mut().is_some_and(|tcp| tcp.refuse_injected(flow, &mut self.counters))
    }

    /// TLS was wanted at another time than when it was asked for: the stream ends.
    pub(super) fn end_injected(&mut self, flow: Flow) {
        if let Some(tcp) = &mut self.tcp {
            tcp.end_injected(flow, &mut self.counters);
        }
    }

    /// How far the datagram sockets are behind: how long what arrives next has waited at most, and
    /// whether the kernel has dropped something since this was asked last.
    pub(super) fn pressure(&mut self) -> (Duration, bool) {
        let mut behind = (Duration::ZERO, false);
        for (socket, known) in self.udp.iter().zip(&mut self.dropped) {
            let Some(Pressure { waited, dropped }) = socket.pressure() else { continue };
            let fresh = dropped.wrapping_sub(*known);
            // The count rides on a datagram: one from before the latest loss has an older one.
            if fresh != 0 && fresh < u32::MAX / 2 {
                *known = dropped;
                self.counters.datagrams_dropped_by_kernel += u64::from(fresh);
                behind.1 = true;
            }
            behind.0 = behind.0.max(waited);
        }
        behind
    }

    /// What was counted so far.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Stream connections there are, those being made included.
    pub fn connections(&self) -> usize {
        self.tcp.as_ref().map_or(0, Hub::len)
    }

    /// From now on [`Sockets::arrivals`] only sends what waits, and takes nothing new.
    pub fn stop_reading(&mut self) {
        self.reading = false;
        if let Some(tcp) = &mut self.tcp {
            tcp.stop_accepting();
        }
    }

    /// Hands what waits to the kernel, as far as it takes it: datagrams, and of the streams what
    /// [`Sockets::arrivals`] no longer writes.
    pub fn hand_over(&mut self) {
        let Self { udp, tcp, counters, failed, reading, .. } = self;
        for socket in udp.iter_mut() {
            socket.flush(failed, counters);
        }
        if let Some(tcp) = tcp.as_mut().filter(|_| !*reading) {
            tcp.flush(counters);
        }
    }

    /// Whether nothing waits for the kernel any more.
    pub(super) fn is_flushed(&self) -> bool {
        self.udp.iter().all(UdpListener::is_flushed)
            && self.tcp.as_ref().is_none_or(Hub::is_flushed)
    }

    pub(super) const fn counters_mut(&mut self) -> &mut Counters {
        &mut self.counters
    }

    fn send_own(&mut self, flow: Flow, bytes: Bytes) {
        let flow = Flow { listener: ListenerId::NONE, transport: Transport::Tcp, ..flow };
        if self.hub().is_err() {
            self.counters.connections_not_made += 1;
            self.failed.push(Arrival::Closed { flow, refused: false });
        }
        if let Some(tcp) = &mut self.tcp {
            tcp.send(flow, bytes, &mut self.counters);
        }
    }

    fn hub(&mut self) -> io::Result<&mut Hub> {
        match &mut self.tcp {
            Some(tcp) => Ok(tcp),
            none => Ok(none.insert(Hub::new(self.limits, self.tls.clone())?)),
        }
    }

    fn open(&mut self, id: ListenerId, listen: &Listen) -> io::Result<Route> {
        match listen.transport {
            Transport::Udp if listen.speaks == Protocol::Ucsap => {
                Err(io::Error::other("UCSAP is spoken on streams only"))
            }
            Transport::Udp | Transport::Tcp
                if listen.security != Security::None && self.tls.is_none() =>
            {
                Err(io::Error::other("TLS needs a certificate"))
            }
            Transport::Udp => {
                let udp = UdpListener::bind(id, listen.address)?;
                let local = udp.local_addr()?;
                self.udp.push(udp);
                self.dropped.push(0);
                Ok(Route { local, socket: Socket::Udp(self.udp.len() - 1) })
            }
            Transport::Tcp => {
                let listener = (id, listen.speaks, listen.security);
                let local = self.hub()?.listen(listener, listen.address)?;
                Ok(Route { local, socket: Socket::Tcp })
            }
        }
    }

    fn poll_arrivals(&mut self, cx: &mut Context<'_>, into: &mut Vec<Arrival>) -> Poll<()> {
        let Self { udp, tcp, landing, arena, counters, failed, reading, .. } = self;
        let before = into.len();
        let mut busy = false;
        into.append(failed);
        for socket in udp {
            socket.poll_flush(cx, into, counters);
            if *reading {
                busy |= socket.poll_receive(cx, (landing, arena), into, counters);
            }
        }
        if let Some(tcp) = tcp.as_mut().filter(|_| *reading) {
            let mut turn = Turn { now: Clock.uptime(), arena, into, counters, handshakes: 0 };
            busy |= tcp.poll_receive(cx, &mut turn);
        }
        busy |= into.len() > before;
        if busy { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl fmt::Debug for Sockets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sockets").field("routes", &self.routes).finish_non_exhaustive()
    }
}

/// What the system said, and what to do about it.
pub(crate) fn remedy(error: &io::Error) -> String {
    const REMEDIES: [(io::ErrorKind, &str); 4] = [
        (
            io::ErrorKind::AddrInUse,
            "another program listens there: stop it, or give this listener another port",
        ),
        (
            io::ErrorKind::AddrNotAvailable,
            "no interface of this machine has this address: correct it, or bring it up",
        ),
        (
            io::ErrorKind::PermissionDenied,
            "ports below 1024 need the capability CAP_NET_BIND_SERVICE: grant it, or use a higher \
             port",
        ),
        (
            io::ErrorKind::Unsupported,
            "this machine does not speak this protocol (is IPv6 switched off?): remove the listener",
        ),
    ];
    let remedy = REMEDIES.iter().find(|(kind, _)| *kind == error.kind());
    remedy.map_or_else(|| error.to_string(), |(_, remedy)| format!("{error}; {remedy}"))
}
