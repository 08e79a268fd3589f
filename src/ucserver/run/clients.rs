//! The sockets of clients: the machine's numbers for connections ⇄ streams.
//!
//! The streams are those of the door's own shell (`crate::net`), of which a server is to hold as many as a
//! door makes to it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::future::pending;
use std::net::SocketAddr;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::net::{Arrival, BindError, Limits, Listen, Protocol, Security, Sockets, UcsapLimits};
use crate::sip::{Flow, ListenerId, Transport};
use crate::ucserver::ToClient;
use crate::ucserver::run::RunError;
use crate::ucserver::server::Input;

/// The machine has its own idea of how long a client may be silent, and in a mood in which it says
/// nothing it closes nobody.
const IDLE: Duration = Duration::from_secs(24 * 3600);

/// Who connects and says nothing is not known to the machine.
const FIRST_MESSAGE: Duration = Duration::from_secs(60);

/// Connections that this side has closed and of which something may still arrive.
const GONE: usize = 65_536;

/// Descriptors for everything else.
const DESCRIPTORS: u64 = 512;

/// All connections of clients.
pub(super) struct ClientWire {
    sockets: Sockets,
    address: SocketAddr,
    flows: HashMap<u64, Flow>,
    gone: HashSet<u64>,
    /// The same, oldest first.
    gone_order: VecDeque<u64>,
    arrived: Vec<Arrival>,
}

impl ClientWire {
    /// Listens; needs a running event loop. All `connections` may be of one source: a door.
    pub(super) fn open(address: SocketAddr, connections: usize) -> Result<Self, RunError> {
        raise_descriptor_limit(connections);
        let defaults = Limits::default();
        let limits = Limits {
            // The machine turns away what is too much, and says so.
            connections: connections.saturating_add(64),
            connections_per_source: connections.saturating_add(64),
            ucsap: UcsapLimits { first_message: FIRST_MESSAGE, idle: IDLE, ..defaults.ucsap },
            ..defaults
        };
        let listen = Listen {
            name: "clients".into(),
            transport: Transport::Tcp,
            speaks: Protocol::Ucsap,
            security: Security::None,
            address,
        };
        let failed = |error: BindError| {
            let (what, source) = ("clients", error.source);
            RunError::Bind { what, address, source }
        };
        let sockets = Sockets::bind(&[listen], limits).map_err(failed)?;
        let address = sockets.local_addr(ListenerId(0)).unwrap_or(address);
        Ok(Self {
            sockets,
            address,
            flows: HashMap::new(),
            gone: HashSet::new(),
            gone_order: VecDeque::new(),
            arrived: Vec::new(),
        })
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until something has arrived; for ever if there are no sockets.
    pub(super) async fn wait(wire: Option<&mut Self>) {
        let Some(Self { sockets, arrived, .. }) = wire else { return pending().await };
        sockets.arrivals(arrived).await;
    }

    /// What has arrived, in its order.
    pub(super) fn take(&mut self) -> Vec<Input> {
        let mut inputs = Vec::new();
        for arrival in std::mem::take(&mut self.arrived) {
            match arrival {
                Arrival::Rose { flow, message } => {
                    let connection = flow.connection.0;
                    if !self.gone.contains(&connection) {
                        self.flows.insert(connection, flow);
                        inputs.push(Input::Client { connection, message });
                    }
                }
                Arrival::Closed { flow, .. } => {
                    let connection = flow.connection.0;
                    if self.flows.remove(&connection).is_some() {
                        inputs.push(Input::ClientClosed { connection });
                    }
                }
                // Neither SIP nor TLS is spoken here.
                Arrival::Message { .. } | Arrival::Secured { .. } | Arrival::Unreachable { .. } => {
                }
            }
        }
        inputs
    }

    /// Does what the machine wants done.
    pub(super) fn act(&mut self, what: ToClient) {
        match what {
            ToClient::Send { connection, bytes } => {
                if let Some(flow) = self.flows.get(&connection) {
                    self.sockets.send(*flow, bytes);
                }
            }
            // A handshake follows which nobody here can carry out. The result has been sent before.
            ToClient::StartTls { connection } | ToClient::Close { connection } => {
                let Some(flow) = self.flows.remove(&connection) else { return };
                self.sockets.close(flow);
                while self.gone_order.len() >= GONE {
                    let Some(oldest) = self.gone_order.pop_front() else { break };
                    self.gone.remove(&oldest);
                }
                self.gone.insert(connection);
                self.gone_order.push_back(connection);
            }
        }
    }
}

/// Each connection is a descriptor.
pub(super) fn raise_descriptor_limit(connections: usize) {
    let wanted = u64::try_from(connections).unwrap_or(u64::MAX).saturating_add(DESCRIPTORS);
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < wanted
    {
        // With less, accepting rests when descriptors run out.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, wanted.min(hard), hard);
    }
}
