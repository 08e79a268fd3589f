//! Stream listeners and connections: who is connected, and what goes to whom.
//!
//! The hub belongs to the driver's task; each connection is a task of its own that only shares
//! its two queues with the hub. So nothing here is locked.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Sleep, sleep};

use crate::net::arrival::Arrival;
use crate::net::connection::{self, End, Link, Outbound, Report};
use crate::net::counters::Counters;
use crate::sip::ConnectionId;
use crate::sip::Flow;
use crate::sip::ListenerId;
use crate::sip::Transport;
use crate::sip::framing;
use crate::sip::source_of;

/// Reports taken before the datagram sockets have their turn.
const BATCH: usize = 64;

/// Connections accepted from one listener before the others have their turn.
const ACCEPT_BATCH: usize = 16;

/// Connections the kernel keeps for us while we are busy; it cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;

/// Reports that wait for the driver; when it is full, connections wait, each for its turn.
const INBOX_LIMIT: usize = 1_024;

/// How long accepting rests when the system has no descriptor or memory for it.
const ACCEPT_REST: Duration = Duration::from_millis(200);

/// Bounds of streams.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections in all, those the door makes included.
    pub connections: usize,
    /// Accepted connections of one source: an IPv4 address or an IPv6 /64.
    pub connections_per_source: usize,
    /// Octets of one message and of its headers.
    pub framing: framing::Limits,
    /// How long a message may take from its first octet to its last.
    pub message: Duration,
    /// How long an accepted connection may be silent before its first message.
    pub first_message: Duration,
    /// How long a connection may be silent afterwards.
    pub idle: Duration,
    /// How long making a connection may take.
    pub connect: Duration,
    /// How long the peer may take to read one message, or to acknowledge anything.
    pub write: Duration,
    /// Silence after which the kernel asks whether the peer is still there.
    pub keep_alive: Duration,
    /// Octets queued for the peer of an accepted connection.
    pub queue_accepted: usize,
    /// Octets queued for the peer of a connection the door made.
    pub queue_made: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            // A branch office behind one address.
            connections_per_source: 2_000,
            framing: framing::Limits::default(),
            message: Duration::from_secs(10),
            first_message: Duration::from_secs(30),
            // Three leases of five minutes: a phone that refreshes is never cut off.
            idle: Duration::from_secs(900),
            connect: Duration::from_secs(2),
            write: Duration::from_secs(10),
            keep_alive: Duration::from_secs(60),
            queue_accepted: 128 * 1024,
            queue_made: 4 * 1024 * 1024,
        }
    }
}

/// All streams of one task.
pub(super) struct Hub {
    limits: Limits,
    listeners: Vec<Listener>,
    connections: HashMap<ConnectionId, Connection>,
    by_remote: HashMap<(ListenerId, SocketAddr), ConnectionId>,
    sources: HashMap<IpAddr, usize>,
    last_id: u64,
    inbox: mpsc::Receiver<(ConnectionId, Report)>,
    inbox_sender: mpsc::Sender<(ConnectionId, Report)>,
    /// Ends that came out of a call to [`Hub::send`].
    ended: VecDeque<Arrival>,
}

struct Listener {
    id: ListenerId,
    socket: TcpListener,
    local: SocketAddr,
    rest: Option<Pin<Box<Sleep>>>,
}

struct Connection {
    listener: ListenerId,
    remote: SocketAddr,
    /// Once it is made: what is sent goes straight out while nothing waits before it.
    stream: Option<Arc<TcpStream>>,
    outbound: Outbound,
    task: AbortHandle,
    standing: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// Being made; what is sent waits in its queue.
    Connecting,
    /// Made by the door.
    Made,
    /// Accepted, and counted for this source.
    Accepted(IpAddr),
}

impl Hub {
    /// No listeners, no connections.
    pub(super) fn new(limits: Limits) -> Self {
        let (inbox_sender, inbox) = mpsc::channel(INBOX_LIMIT);
        Self {
            limits,
            listeners: Vec::new(),
            connections: HashMap::new(),
            by_remote: HashMap::new(),
            sources: HashMap::new(),
            last_id: ConnectionId::NONE.0,
            inbox,
            inbox_sender,
            ended: VecDeque::new(),
        }
    }

    /// Listens on `address`; an IPv6 socket takes IPv6 only. Returns the bound address.
    pub(super) fn listen(&mut self, id: ListenerId, address: SocketAddr) -> io::Result<SocketAddr> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // Else a restart would have to wait until the old connections are forgotten.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let socket = TcpListener::from_std(socket.into())?;
        let local = socket.local_addr()?;
        self.listeners.push(Listener { id, socket, local, rest: None });
        Ok(local)
    }

    /// How many connections there are, those being made included.
    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Takes no more connections; those there are stay.
    pub(super) fn stop_accepting(&mut self) {
        self.listeners.clear();
    }

    /// Whether every message has been handed to the kernel.
    pub(super) fn is_flushed(&self) -> bool {
        self.connections.values().all(|it| it.outbound.is_empty())
    }

    /// Accepts connections and takes up to [`BATCH`] reports; `true` if there was anything.
    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<Arrival>,
        counters: &mut Counters,
    ) -> bool {
        let mut busy = !self.ended.is_empty();
        into.extend(self.ended.drain(..));
        busy |= self.poll_accept(cx, counters);
        for _ in 0..BATCH {
            let Poll::Ready(Some((id, report))) = self.inbox.poll_recv(cx) else { break };
            busy = true;
            self.take(id, report, into, counters);
        }
        busy
    }

    /// Sends on a connection; without one, on any to that remote, else on a new one. A failure is
    /// told by a later [`Hub::poll_receive`].
    pub(super) fn send(&mut self, flow: Flow, bytes: Bytes, counters: &mut Counters) {
        let id = if flow.connection == ConnectionId::NONE {
            let known = self.by_remote.get(&(flow.listener, flow.remote)).copied();
            match known.or_else(|| self.connect(flow, counters)) {
                Some(id) => id,
                None => {
                    self.ended.push_back(Arrival::Closed { flow, refused: false });
                    return;
                }
            }
        } else {
            flow.connection
        };
        let Some(connection) = self.connections.get(&id) else {
            counters.sends_without_connection += 1;
            return;
        };
        let rest = match &connection.stream {
            Some(stream) if connection.outbound.is_empty() => connection::write_now(stream, bytes),
            _ => Some(bytes),
        };
        if rest.is_some_and(|rest| !connection.outbound.push(rest)) {
            self.cut_off(id, counters);
        }
    }

    fn poll_accept(&mut self, cx: &mut Context<'_>, counters: &mut Counters) -> bool {
        let mut accepted = Vec::new();
        for listener in &mut self.listeners {
            if let Some(rest) = &mut listener.rest {
                if rest.as_mut().poll(cx).is_pending() {
                    continue;
                }
                listener.rest = None;
            }
            for _ in 0..ACCEPT_BATCH {
                match listener.socket.poll_accept(cx) {
                    Poll::Ready(Ok((stream, remote))) => {
                        accepted.push((listener.id, stream, remote));
                    }
                    Poll::Ready(Err(error)) => {
                        counters.accept_failures += 1;
                        if is_exhaustion(&error) {
                            let mut rest = Box::pin(sleep(ACCEPT_REST));
                            // Polled once, so that it wakes this task.
                            let _ = rest.as_mut().poll(cx);
                            listener.rest = Some(rest);
                            break;
                        }
                    }
                    Poll::Pending => break,
                }
            }
        }
        let busy = !accepted.is_empty();
        for (listener, stream, remote) in accepted {
            self.admit(listener, stream, remote, counters);
        }
        busy
    }

    fn admit(
        &mut self,
        listener: ListenerId,
        stream: TcpStream,
        remote: SocketAddr,
        counters: &mut Counters,
    ) {
        let source = source_of(remote.ip());
        let of_source = self.sources.get(&source).copied().unwrap_or(0);
        if self.connections.len() >= self.limits.connections
            || of_source >= self.limits.connections_per_source
        {
            counters.connections_shed += 1;
            return;
        }
        counters.connections_accepted += 1;
        self.sources.insert(source, of_source + 1);
        let limit = self.limits.queue_accepted;
        let stream = Arc::new(stream);
        let served = Arc::clone(&stream);
        let id = self.open(listener, remote, Standing::Accepted(source), limit, |link| {
            tokio::spawn(connection::accepted(served, link)).abort_handle()
        });
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.stream = Some(stream);
        }
    }

    fn connect(&mut self, flow: Flow, counters: &mut Counters) -> Option<ConnectionId> {
        let local = self.listeners.iter().find(|it| it.id == flow.listener).map(|it| it.local);
        let local = local.filter(|it| it.is_ipv4() == flow.remote.is_ipv4());
        let room = self.connections.len() < self.limits.connections;
        let Some(local) = local.filter(|_| room) else {
            counters.connections_not_made += 1;
            return None;
        };
        let limit = self.limits.queue_made;
        let remote = flow.remote;
        Some(self.open(flow.listener, remote, Standing::Connecting, limit, |link| {
            tokio::spawn(connection::made(local, remote, link)).abort_handle()
        }))
    }

    fn open(
        &mut self,
        listener: ListenerId,
        remote: SocketAddr,
        standing: Standing,
        limit: usize,
        spawn: impl FnOnce(Link) -> AbortHandle,
    ) -> ConnectionId {
        self.last_id += 1;
        let id = ConnectionId(self.last_id);
        let (outbound, queued) = connection::outbound(limit);
        let inbox = self.inbox_sender.clone();
        let task = spawn(Link { id, inbox, queued, limits: self.limits });
        self.by_remote.insert((listener, remote), id);
        let connection = Connection { listener, remote, stream: None, outbound, task, standing };
        self.connections.insert(id, connection);
        id
    }

    fn take(
        &mut self,
        id: ConnectionId,
        report: Report,
        into: &mut Vec<Arrival>,
        counters: &mut Counters,
    ) {
        // A connection that was cut off may still have reports on the way.
        let Some(connection) = self.connections.get_mut(&id) else { return };
        match report {
            Report::Made(stream) => {
                counters.connections_made += 1;
                connection.standing = Standing::Made;
                connection.stream = Some(stream);
            }
            Report::Message(message) => {
                into.push(Arrival::Message { flow: connection.flow(id), message });
            }
            Report::Pinged => counters.pings_answered += 1,
            Report::Ended(end) => {
                count_end(end, connection.standing, counters);
                into.extend(self.remove(id, end == End::Refused));
            }
        }
    }

    fn cut_off(&mut self, id: ConnectionId, counters: &mut Counters) {
        counters.closed_slow_reader += 1;
        if let Some(connection) = self.connections.get(&id) {
            connection.task.abort();
        }
        let closed = self.remove(id, false);
        self.ended.extend(closed);
    }

    fn remove(&mut self, id: ConnectionId, refused: bool) -> Option<Arrival> {
        let connection = self.connections.remove(&id)?;
        let key = (connection.listener, connection.remote);
        if self.by_remote.get(&key) == Some(&id) {
            self.by_remote.remove(&key);
        }
        if let Standing::Accepted(source) = connection.standing {
            self.forget_source(source);
        }
        Some(Arrival::Closed { flow: connection.flow(id), refused })
    }

    fn forget_source(&mut self, source: IpAddr) {
        if let Some(count) = self.sources.get_mut(&source) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.sources.remove(&source);
            }
        }
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        for connection in self.connections.values() {
            connection.task.abort();
        }
    }
}

impl Connection {
    /// A connection that was never made is known by the wish for it.
    fn flow(&self, id: ConnectionId) -> Flow {
        let connection =
            if self.standing == Standing::Connecting { ConnectionId::NONE } else { id };
        Flow { listener: self.listener, transport: Transport::Tcp, remote: self.remote, connection }
    }
}

fn count_end(end: End, standing: Standing, counters: &mut Counters) {
    if standing == Standing::Connecting {
        counters.connections_not_made += 1;
        return;
    }
    match end {
        End::Finished | End::Failed => {}
        End::Refused => counters.closed_reset += 1,
        End::Idle => counters.closed_idle += 1,
        End::SlowMessage => counters.closed_slow_message += 1,
        End::SlowReader => counters.closed_slow_reader += 1,
        End::Unframed => counters.closed_unframed += 1,
    }
}

/// Whether accepting again at once would only fail again; else it was that peer's trouble.
fn is_exhaustion(error: &io::Error) -> bool {
    use nix::libc;
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_in_one_ipv6_network_are_one_source() {
        let ip = |text: &str| source_of(text.parse().unwrap());
        assert_eq!(ip("2001:db8::1"), ip("2001:db8::ffff:1"));
        assert_ne!(ip("2001:db8::1"), ip("2001:db8:0:1::1"));
        assert_ne!(ip("192.0.2.1"), ip("192.0.2.2"));
    }

    #[test]
    fn running_out_of_descriptors_is_told_from_a_peer_that_gave_up() {
        use nix::libc;
        assert!(is_exhaustion(&io::Error::from_raw_os_error(libc::EMFILE)));
        assert!(!is_exhaustion(&io::Error::from_raw_os_error(libc::ECONNABORTED)));
    }
}
