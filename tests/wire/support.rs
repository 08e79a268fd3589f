//! What the tests on real sockets share.

use std::collections::VecDeque;
use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use frontdoor::door::{
    Command, Done, Explanation, Filter, Input, Listed, Output, RebalancePlan, Refused,
    RelocationStatus, Stats, Status, UserStatus, WhatIf,
};
use frontdoor::net::{
    Arrival, Certificate, Certificates, Core, Handle, Ledger, Limits, Listen, Net, Observers,
    Protocol, Security, Settings, Sockets, Stopped,
};
use frontdoor::now::{Now, Uptime};
use frontdoor::sip::{ConnectionId, Flow, ListenerId, Transport};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::oneshot;

/// Any port of the loopback, each way it can be written.
pub(crate) const V4: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
/// See [`V4`].
pub(crate) const V6: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::LOCALHOST), 0);

/// A whole message, with `tag` in it.
pub(crate) fn message(tag: &str) -> Vec<u8> {
    format!("OPTIONS sip:{tag}@example.com SIP/2.0\r\nContent-Length: 4\r\n\r\nbody").into_bytes()
}

/// Waits far longer than anything here should take; then it has failed.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future)
        .await
        .unwrap_or_else(|_| panic!("{what}: nothing happened"))
}

/// One listener of each transport at `address`.
pub(crate) fn both(address: SocketAddr) -> Vec<Listen> {
    [Transport::Udp, Transport::Tcp]
        .map(|transport| Listen {
            name: transport.name().into(),
            transport,
            speaks: Protocol::Sip,
            security: Security::None,
            address,
        })
        .to_vec()
}

/// The listener of a transport in [`both`].
pub(crate) const UDP: ListenerId = ListenerId(0);
/// See [`UDP`].
pub(crate) const TCP: ListenerId = ListenerId(1);
/// The listener of [`clients`] behind [`both`].
pub(crate) const CLIENTS: ListenerId = ListenerId(2);

/// A listener that speaks UCSAP.
pub(crate) fn clients() -> Listen {
    Listen {
        name: "clients".into(),
        transport: Transport::Tcp,
        speaks: Protocol::Ucsap,
        security: Security::None,
        address: V4,
    }
}

/// A certificate for a name, and what trusts it.
pub(crate) fn certificate(name: &str) -> (Certificate, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let der = made.cert.der().clone();
    (Certificate::new(vec![der.clone()], key).unwrap(), der)
}

/// Sockets of both transports, and what arrived there that nobody has asked for yet.
pub(crate) struct Ours {
    sockets: Sockets,
    pub(crate) arrived: Vec<Arrival>,
}

/// See [`Ours`].
pub(crate) fn open(address: SocketAddr, limits: Limits) -> Ours {
    open_all(&both(address), limits)
}

/// See [`Ours`]; with what those are shown who come by TLS.
pub(crate) fn open_secured(
    listeners: &[Listen],
    limits: Limits,
    certificates: &Arc<Certificates>,
) -> Ours {
    let sockets = Sockets::bind_with(listeners, limits, Some(certificates)).unwrap();
    Ours { sockets, arrived: Vec::new() }
}

/// See [`Ours`].
pub(crate) fn open_all(listeners: &[Listen], limits: Limits) -> Ours {
    Ours { sockets: Sockets::bind(listeners, limits).unwrap(), arrived: Vec::new() }
}

impl Deref for Ours {
    type Target = Sockets;

    fn deref(&self) -> &Sockets {
        &self.sockets
    }
}

impl DerefMut for Ours {
    fn deref_mut(&mut self) -> &mut Sockets {
        &mut self.sockets
    }
}

/// A flow without connection.
pub(crate) fn flow_to(transport: Transport, remote: SocketAddr) -> Flow {
    let listener = if transport == Transport::Udp { UDP } else { TCP };
    Flow { listener, transport, remote, connection: ConnectionId::NONE }
}

/// The first arrival `wanted` takes; what came before it is dropped.
pub(crate) async fn arrival<T>(
    ours: &mut Ours,
    what: &str,
    mut wanted: impl FnMut(&Arrival) -> Option<T>,
) -> T {
    soon(what, async {
        loop {
            while !ours.arrived.is_empty() {
                if let Some(found) = wanted(&ours.arrived.remove(0)) {
                    return found;
                }
            }
            ours.sockets.arrivals(&mut ours.arrived).await;
        }
    })
    .await
}

/// Lets what was sent leave: sockets send when they are looked at.
pub(crate) async fn leave(ours: &mut Ours) {
    let Ours { sockets, arrived } = ours;
    let _ = tokio::time::timeout(Duration::from_millis(20), sockets.arrivals(arrived)).await;
}

/// The next message and what it came by.
pub(crate) async fn next_message(ours: &mut Ours) -> (Flow, Vec<u8>) {
    arrival(ours, "a message", |it| match it {
        Arrival::Message { flow, message } => Some((*flow, message.to_vec())),
        _ => None,
    })
    .await
}

/// The next end of a stream: which, and whether it was refused.
pub(crate) async fn next_closed(ours: &mut Ours) -> (Flow, bool) {
    arrival(ours, "the end of a stream", |it| match it {
        Arrival::Closed { flow, refused } => Some((*flow, *refused)),
        _ => None,
    })
    .await
}

/// The next UCSAP message and what it came by.
pub(crate) async fn next_rose(ours: &mut Ours) -> (Flow, Vec<u8>) {
    arrival(ours, "a message", |it| match it {
        Arrival::Rose { flow, message } => Some((*flow, message.to_vec())),
        _ => None,
    })
    .await
}

/// What [`Echo`] takes for a request for TLS.
pub(crate) const START_TLS: &[u8] = b"\xA1\x06\x02\x01\x07\x02\x01\x4C";
/// And how it answers that.
pub(crate) const START_TLS_ANSWER: &[u8] = b"\xA2\x03\x02\x01\x07";

/// A core that sends every message back to where it came from, and speaks TLS where it is asked to.
#[derive(Debug, Default)]
pub(crate) struct Echo {
    pub(crate) status: Status,
    pub(crate) users: Vec<UserStatus>,
    pub(crate) outputs: VecDeque<Output>,
}

impl Core for Echo {
    fn handle(&mut self, _now: Now, input: Input) {
        if let Input::Sip { flow, message } | Input::Rose { flow, message } = input {
            if message == START_TLS {
                let answer = Bytes::from_static(START_TLS_ANSWER);
                return self.outputs.push_back(Output::StartTls { flow, answer });
            }
            self.outputs.push_back(Output::Send { flow, bytes: message });
        }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn next(&self) -> Option<Uptime> {
        None
    }

    fn status(&self, _now: Now) -> Status {
        self.status.clone()
    }

    fn users(
        &self,
        _now: Now,
        _filter: &Filter,
        (from, count): (usize, usize),
    ) -> Result<Listed<UserStatus>, Refused> {
        let found: Vec<_> = self.users.iter().skip(from).take(count).cloned().collect();
        let next = Some(from + found.len()).filter(|&next| next < self.users.len());
        Ok(Listed { found, next })
    }

    fn user(&self, _now: Now, name: &str) -> Option<UserStatus> {
        self.users.iter().find(|it| &*it.name == name).cloned()
    }

    fn relocations(
        &self,
        _now: Now,
        _filter: &Filter,
        _page: (usize, usize),
    ) -> Result<Listed<RelocationStatus>, Refused> {
        Ok(Listed::default())
    }

    fn explain(&self, _now: Now, _name: &str) -> Option<Explanation> {
        None
    }

    fn rebalance_plan(&self, _page: (usize, usize)) -> RebalancePlan {
        RebalancePlan::default()
    }

    fn what_if(
        &self,
        _now: Now,
        _killed: &[String],
        _page: (usize, usize),
    ) -> Result<WhatIf, Refused> {
        Err(Refused::NothingToDo)
    }

    fn command(&mut self, _now: Now, _command: &Command) -> Result<Done, Refused> {
        Err(Refused::NoSuchUser)
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }
}

/// A store that is never asked.
pub(crate) fn no_ledger() -> Ledger {
    let (_, recorded) = tokio::sync::mpsc::unbounded_channel();
    Ledger { write: Box::new(|record| panic!("nobody asked for {record:?}")), recorded }
}

/// A driver in a thread of its own, as in the program: what it owns does not change threads.
/// It stops when this is dropped.
pub(crate) struct Running {
    pub(crate) handle: Handle,
    pub(crate) udp: SocketAddr,
    pub(crate) tcp: SocketAddr,
    pub(crate) clients: SocketAddr,
    stop: oneshot::Sender<()>,
    stopped: oneshot::Receiver<Stopped>,
}

/// Starts a driver with listeners of both transports, and one for clients.
pub(crate) async fn run(core: impl Core + Send + 'static, ledger: Ledger) -> Running {
    let (tell, told) = oneshot::channel();
    let (stop, shutdown) = oneshot::channel();
    let (end, stopped) = oneshot::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let clients = Listen { security: Security::StartTls, ..clients() };
            let listeners = [both(V4), vec![clients]].concat();
            let certificates = Some(Certificates::new(vec![certificate("localhost").0]));
            let net =
                Net::bind(Settings { listeners, certificates, ..Settings::default() }).unwrap();
            let addresses = [UDP, TCP, CLIENTS].map(|listener| net.local_addr(listener).unwrap());
            let _ = tell.send((net.handle(), addresses));
            let shutdown = async {
                let _ = shutdown.await;
            };
            let observers = Observers { event: Box::new(|_, _| {}), report: Box::new(|_| {}) };
            let _ = end.send(net.run(core, ledger, observers, shutdown).await);
        });
    });
    let (handle, [udp, tcp, clients]) = soon("a driver", told).await.unwrap();
    Running { handle, udp, tcp, clients, stop, stopped }
}

impl Running {
    /// Tells it to stop; the receiver says how it ended.
    pub(crate) fn stop(self) -> oneshot::Receiver<Stopped> {
        self.stop.send(()).unwrap();
        self.stopped
    }
}
