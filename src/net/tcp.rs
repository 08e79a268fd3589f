//! [`Hub`]: who is connected by streams, and what goes to whom.
//!
//! The hub belongs to the driver's task and reads and writes there, so that a message costs no more
//! than one system call each way: no connection has a task, a queue or a wake-up of its own.

use std::collections::{HashMap, VecDeque};
use std::future::Future as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;

use bytes::Bytes;
use rustls::ServerConfig;
use tokio::time::{Sleep, sleep_until};

use crate::arena::Arena;
use crate::net::arrival::Arrival;
use crate::net::clock::Clock;
use crate::net::connection::{Connection, End, Peer, Sent, Standing};
use crate::net::counters::Counters;
use crate::net::deadlines::Deadlines;
use crate::net::framing::{Protocol, Security};
use crate::net::limits::{Bounds, Limits};
use crate::net::listeners::{Accepted, Listeners};
use crate::net::readiness::{Readiness, Ready, Who};
use crate::net::slab::Slab;
use crate::now::Uptime;
use crate::sip::ConnectionId;
use crate::sip::Flow;
use crate::sip::ListenerId;
use crate::sip::source_of;

/// Messages taken before the datagram sockets have their turn; the stream that brings the last of
/// them may bring more, as many as [`LANDING_OCTETS`] hold.
const MESSAGES: usize = 64;

/// Deadlines that are looked at before the others have their turn.
const DEADLINES: usize = 64;

/// Handshakes that are taken a step further before the others have their turn: a signature costs
/// as much as hundreds of messages.
const HANDSHAKES: usize = 8;

/// Octets taken from one stream before the others have their turn: dozens of messages.
const LANDING_OCTETS: usize = 16 * 1024;

/// What a turn of the sockets fills, and when it is.
pub(super) struct Turn<'t> {
    /// When.
    pub(super) now: Uptime,
    /// Where messages are kept.
    pub(super) arena: &'t mut Arena,
    /// What arrives.
    pub(super) into: &'t mut Vec<Arrival>,
    /// What is counted.
    pub(super) counters: &'t mut Counters,
    /// Handshakes that were taken a step further.
    pub(super) handshakes: usize,
}

/// All streams of one task.
pub(super) struct Hub {
    limits: Bounds,
    /// Of those who accept TLS.
    tls: Option<Arc<ServerConfig>>,
    readiness: Readiness,
    listeners: Listeners,
    connections: Slab<Connection>,
    by_remote: HashMap<(ListenerId, SocketAddr), ConnectionId>,
    /// Those that the core has named, by that name.
    own: HashMap<ConnectionId, ConnectionId>,
    /// The last name that the core has given.
    own_newest: ConnectionId,
    sources: HashMap<IpAddr, usize>,
    /// Of the connections, by their place in the slab.
    deadlines: Deadlines,
    /// Wakes the task for the next of them.
    alarm: Pin<Box<Sleep>>,
    alarm_at: Option<Uptime>,
    landing: Box<[u8]>,
    /// Ends that came out of a call to [`Hub::send`].
    ended: VecDeque<Arrival>,
}

impl Hub {
    /// No listeners, no connections. Needs a tokio runtime.
    pub(super) fn new(limits: Limits, tls: Option<Arc<ServerConfig>>) -> io::Result<Self> {
        Ok(Self {
            limits: Bounds::new(limits),
            tls,
            readiness: Readiness::new()?,
            listeners: Listeners::default(),
            connections: Slab::default(),
            by_remote: HashMap::new(),
            own: HashMap::new(),
            own_newest: ConnectionId::NONE,
            sources: HashMap::new(),
            deadlines: Deadlines::default(),
            alarm: Box::pin(sleep_until(Clock.instant_of(Uptime::NEVER))),
            alarm_at: None,
            landing: vec![0; LANDING_OCTETS].into_boxed_slice(),
            ended: VecDeque::new(),
        })
    }

    /// Listens on `address`; an IPv6 socket takes IPv6 only. Returns the bound address.
    pub(super) fn listen(
        &mut self,
        listener: (ListenerId, Protocol, Security),
        address: SocketAddr,
    ) -> io::Result<SocketAddr> {
        self.listeners.open(listener, address, &self.readiness)
    }

    /// How many connections there are, those being made included.
    pub(super) fn len(&self) -> usize {
        self.connections.len()
    }

    /// Takes no more connections; those there are stay.
    pub(super) fn stop_accepting(&mut self) {
        self.listeners.close();
    }

    /// Whether every message has been handed to the kernel.
    pub(super) fn is_flushed(&self) -> bool {
        self.connections.iter().all(|(_, it)| it.is_flushed())
    }

    /// Sends what waits, without waiting for anybody to read; nothing is read.
    pub(super) fn flush(&mut self, counters: &mut Counters) {
        let now = Clock.uptime();
        let waiting = self.connections.iter().filter(|(_, it)| !it.is_flushed());
        let waiting: Vec<ConnectionId> = waiting.map(|(id, _)| id).collect();
        for id in waiting {
            let Some(connection) = self.connections.get_mut(id) else { continue };
            let limits = self.limits.of(&connection.peer);
            if connection.standing != Standing::Connecting {
                connection.flush(limits, now);
            } else {
                match connection.is_made(limits, now) {
                    Ok(made) => counters.connections_made += u64::from(made),
                    Err(end) => {
                        let closed = self.end(id, end, counters);
                        self.ended.extend(closed);
                    }
                }
            }
        }
    }

    /// Accepts, reads, writes and ends what is due: a bounded share of each. `true` if there was
    /// anything; else the task is woken when there is.
    pub(super) fn poll_receive(&mut self, cx: &mut Context<'_>, turn: &mut Turn<'_>) -> bool {
        let before = turn.into.len();
        turn.into.extend(self.ended.drain(..));
        let mut busy = self.readiness.poll(cx);
        while turn.into.len() - before < MESSAGES && turn.handshakes < HANDSHAKES {
            let Some(ready) = self.readiness.next() else { break };
            match ready.who {
                Who::Connection(id) => self.serve(id, ready, turn),
                Who::Listener(place) => self.accept(place, turn),
            }
        }
        busy |= self.end_overdue(turn);
        self.listeners.go_on(turn.now, &self.readiness);
        busy |= self.is_time(cx);
        busy || turn.into.len() > before
    }

    /// Sends on a connection; without one, on any to that remote, else on a new one. A failure is
    /// told by a later [`Hub::poll_receive`].
    pub(super) fn send(&mut self, flow: Flow, bytes: Bytes, counters: &mut Counters) {
        let id = match self.connection_for(flow) {
            Ok(id) => id,
            Err(end) => {
                counters.connections_not_made += 1;
                let refused = end == End::Refused;
                self.ended.push_back(Arrival::Closed { flow, refused });
                return;
            }
        };
        let open = self.connections.get_mut(id).filter(|it| !it.is_closing());
        let Some(connection) = open else {
            counters.sends_without_connection += 1;
            return;
        };
        let limits = self.limits.of(&connection.peer);
        match connection.send(bytes, limits, || Clock.uptime()) {
            Sent::Whole => {}
            Sent::Queued => self.settle(id, Clock.uptime()),
            Sent::NoRoom => {
                counters.closed_slow_reader += 1;
                let closed = self.remove(id, false);
                self.ended.extend(closed);
            }
        }
    }

    /// Ends a connection once what waits has left. What it says from now on is not heard, and its
    /// end is not told.
    pub(super) fn close(&mut self, flow: Flow, counters: &mut Counters) {
        let name = flow.connection;
        let id = if name.is_own() { self.own.remove(&name) } else { Some(name) };
        let Some(id) = id else { return };
        let open = self.connections.get_mut(id).filter(|it| !it.is_closing());
        let Some(connection) = open else { return };
        let now = Clock.uptime();
        connection.close(self.limits.of(&connection.peer), now);
        let key = (connection.peer.listener, connection.peer.remote);
        counters.closed_by_door += 1;
        self.forget_remote(key, id);
        self.settle(id, now);
    }

    /// Sends `answer` in the clear and takes nothing but TLS from then on. A connection that is not
    /// to be secured ends, and its end is told.
    pub(super) fn start_tls(&mut self, flow: Flow, answer: Bytes, counters: &mut Counters) -> bool {
        let id = flow.connection;
        let open = self.connections.get_mut(id).filter(|it| !it.is_closing());
        let Some(connection) = open else {
            counters.sends_without_connection += 1;
            return false;
        };
        let limits = self.limits.of(&connection.peer);
        let now = Clock.uptime();
        let started = connection.start_tls(answer, self.tls.as_ref(), limits, now);
        match started {
            Ok(()) => self.settle(id, now),
            Err(end) => {
                let closed = self.end(id, end, counters);
                self.ended.extend(closed);
            }
        }
        started.is_ok()
    }

    /// Whether a message that was cut is none, because TLS should have begun before it: then its
    /// connection ends.
    pub(super) fn refuse_injected(&mut self, flow: Flow, counters: &mut Counters) -> bool {
        let id = flow.connection;
        let refused = self.connections.get_mut(id).is_some_and(|it| it.is_handshaking());
        if refused {
            self.end_injected(flow, counters);
        }
        refused
    }

    /// Ends a connection on which octets may have come that its peer has never sent.
    pub(super) fn end_injected(&mut self, flow: Flow, counters: &mut Counters) {
        let closed = self.end(flow.connection, End::Injected, counters);
        self.ended.extend(closed);
    }

    fn accept(&mut self, place: u16, turn: &mut Turn<'_>) {
        let Turn { now, counters, .. } = turn;
        for accepted in self.listeners.accept(place, *now, &self.readiness, counters) {
            self.admit(accepted, *now, counters);
        }
    }

    fn admit(&mut self, accepted: Accepted, now: Uptime, counters: &mut Counters) {
        let source = source_of(accepted.1.remote.ip());
        let limits = self.limits.of(&accepted.1);
        let of_source = self.sources.get(&source).copied().unwrap_or(0);
        if self.connections.len() >= limits.connections
            || of_source >= limits.connections_per_source
        {
            counters.connections_shed += 1;
            return;
        }
        let security = accepted.1.security;
        let mut connection = Connection::accepted(accepted, source, limits, now);
        if let (Security::Tls, Ok(made)) = (security, &mut connection) {
            let secured = self.tls.as_ref().map(|tls| made.secure(tls, limits, now));
            if !matches!(secured, Some(Ok(()))) {
                counters.closed_insecure += 1;
                return;
            }
        }
        match connection.and_then(|it| self.open(it, now)) {
            Ok(_) => {
                counters.connections_accepted += 1;
                self.sources.insert(source, of_source + 1);
            }
            Err(_) => counters.accept_failures += 1,
        }
    }

    /// The connection that a flow means, made if need be; one that is not there if it must not be
    /// made.
    fn connection_for(&mut self, flow: Flow) -> Result<ConnectionId, End> {
        let Flow { listener, remote, connection: name, .. } = flow;
        if name.is_own() {
            if let Some(id) = self.own.get(&name) {
                return Ok(*id);
            }
            if name.0 <= self.own_newest.0 {
                return Ok(ConnectionId::ENDED);
            }
            self.own_newest = name;
            let (speaks, security) = (Protocol::Ucsap, Security::None);
            let peer = Peer { listener, remote, speaks, security, own: Some(name) };
            return self.connect(peer, None);
        }
        if name != ConnectionId::NONE {
            return Ok(name);
        }
        if let Some(id) = self.by_remote.get(&(listener, remote)) {
            return Ok(*id);
        }
        let local = self.listeners.local_of(listener);
        let local = local.filter(|it| it.is_ipv4() == remote.is_ipv4()).ok_or(End::Failed)?;
        // Where clients come nobody is called: what is to be made has a name.
        if self.listeners.speaks(listener) == Some(Protocol::Ucsap) {
            return Ok(ConnectionId::ENDED);
        }
        let (speaks, security) = (Protocol::Sip, Security::None);
        let peer = Peer { listener, remote, speaks, security, own: None };
        self.connect(peer, Some(local.ip()))
    }

    fn connect(&mut self, peer: Peer, local: Option<IpAddr>) -> Result<ConnectionId, End> {
        let limits = self.limits.of(&peer);
        if self.connections.len() >= limits.connections {
            return Err(End::Failed);
        }
        let now = Clock.uptime();
        Connection::connecting(peer, local, limits, now)
            .and_then(|connection| self.open(connection, now))
            .map_err(|error| End::of(&error))
    }

    fn open(&mut self, connection: Connection, now: Uptime) -> io::Result<ConnectionId> {
        let (peer, told) = (connection.peer, connection.told);
        let full = || io::Error::from(io::ErrorKind::OutOfMemory);
        let id = self.connections.insert(connection).ok_or_else(full)?;
        let Some(connection) = self.connections.get_mut(id) else { return Err(full()) };
        if let Err(error) = self.readiness.watch(&*connection, Who::Connection(id), told) {
            self.connections.remove(id);
            return Err(error);
        }
        match (peer.own, peer.speaks) {
            (Some(name), _) => {
                self.own.insert(name, id);
            }
            (None, Protocol::Sip) => {
                self.by_remote.insert((peer.listener, peer.remote), id);
            }
            (None, Protocol::Ucsap) => {}
        }
        self.deadlines.set(now, Slab::<Connection>::place_of(id), connection.deadline().0);
        Ok(id)
    }

    /// Does for a connection what it is ready for.
    fn serve(&mut self, id: ConnectionId, ready: Ready, turn: &mut Turn<'_>) {
        // One that has ended may have been told to be ready before.
        let Some(connection) = self.connections.get_mut(id) else { return };
        let limits = self.limits.of(&connection.peer);
        if connection.standing == Standing::Connecting {
            match connection.is_made(limits, turn.now) {
                Ok(true) => turn.counters.connections_made += 1,
                Ok(false) => return,
                Err(end) => {
                    turn.into.extend(self.end(id, end, turn.counters));
                    return;
                }
            }
        } else if ready.writable {
            connection.flush(limits, turn.now);
        }
        if ready.readable
            && let Err(end) = connection.read(id, &mut self.landing, limits, turn)
        {
            turn.into.extend(self.end(id, end, turn.counters));
            return;
        }
        self.settle(id, turn.now);
    }

    /// After anything was done with a connection: what it is to be told, and when it ends.
    fn settle(&mut self, id: ConnectionId, now: Uptime) {
        let Some(connection) = self.connections.get_mut(id) else { return };
        let wants = connection.wants();
        if wants != connection.told {
            // It is watched, and nothing is allocated for a change: this does not fail.
            let _ = self.readiness.change(&*connection, Who::Connection(id), wants);
            connection.told = wants;
        }
        self.deadlines.set(now, Slab::<Connection>::place_of(id), connection.deadline().0);
    }

    /// Ends connections whose time is over; `true` if there may be more of them.
    fn end_overdue(&mut self, turn: &mut Turn<'_>) -> bool {
        for _ in 0..DEADLINES {
            let Some(place) = self.deadlines.pop_due(turn.now) else { return false };
            let Some((id, connection)) = self.connections.at(place) else { continue };
            if connection.deadline().0 > turn.now {
                self.settle(id, turn.now);
                continue;
            }
            // Whoever was late are we, perhaps: what it waits for may be there.
            self.serve(
                id,
                Ready { who: Who::Connection(id), readable: true, writable: true },
                turn,
            );
            let Some(connection) = self.connections.get_mut(id) else { continue };
            let (until, why) = connection.deadline();
            if until <= turn.now {
                turn.into.extend(self.end(id, why, turn.counters));
            }
        }
        true
    }

    /// Whether a deadline has come; else the task is woken when one does.
    fn is_time(&mut self, cx: &mut Context<'_>) -> bool {
        let next = self.deadlines.next().into_iter().chain(self.listeners.rests_until()).min();
        if next != self.alarm_at {
            self.alarm.as_mut().reset(Clock.instant_of(next.unwrap_or(Uptime::NEVER)));
            self.alarm_at = next;
        }
        let is_time = self.alarm.as_mut().poll(cx).is_ready();
        if is_time {
            self.alarm_at = None;
        }
        is_time
    }

    fn end(&mut self, id: ConnectionId, end: End, counters: &mut Counters) -> Option<Arrival> {
        let standing = self.connections.get_mut(id)?.standing;
        count_end(end, standing, counters);
        self.remove(id, end == End::Refused)
    }

    fn remove(&mut self, id: ConnectionId, refused: bool) -> Option<Arrival> {
        let connection = self.connections.remove(id)?;
        let Peer { listener, remote, own, .. } = connection.peer;
        self.forget_remote((listener, remote), id);
        if let Some(name) = own.filter(|name| self.own.get(name) == Some(&id)) {
            self.own.remove(&name);
        }
        if let Standing::Accepted(source) = connection.standing {
            self.forget_source(source);
        }
        let told = !connection.is_closing();
        told.then(|| Arrival::Closed { flow: connection.flow(id), refused })
    }

    fn forget_remote(&mut self, key: (ListenerId, SocketAddr), id: ConnectionId) {
        if self.by_remote.get(&key) == Some(&id) {
            self.by_remote.remove(&key);
        }
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
        End::Insecure => counters.closed_insecure += 1,
        End::Injected => counters.closed_injected += 1,
    }
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
}
