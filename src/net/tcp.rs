//! [`Hub`]: who is connected by streams, and what goes to whom.
//!
//! The hub belongs to the driver's task and reads and writes there, so that a message costs no more
//! than one system call each way: no connection has a task, a queue or a wake-up of its own.

use std::collections::{HashMap, VecDeque};
use std::future::Future as _;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::Context;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Sleep, sleep_until};

use crate::arena::Arena;
use crate::net::arrival::Arrival;
use crate::net::clock::Clock;
use crate::net::connection::{Connection, End, Sent, Standing};
use crate::net::counters::Counters;
use crate::net::deadlines::Deadlines;
use crate::net::listeners::{Accepted, Listeners};
use crate::net::readiness::{Readiness, Ready, Who};
use crate::net::slab::Slab;
use crate::now::Uptime;
use crate::sip::ConnectionId;
use crate::sip::Flow;
use crate::sip::ListenerId;
use crate::sip::framing;
use crate::sip::source_of;

/// Messages taken before the datagram sockets have their turn; the stream that brings the last of
/// them may bring more, as many as [`LANDING_OCTETS`] hold.
const MESSAGES: usize = 64;

/// Deadlines that are looked at before the others have their turn.
const DEADLINES: usize = 64;

/// Octets taken from one stream before the others have their turn: dozens of messages.
const LANDING_OCTETS: usize = 16 * 1024;

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
}

/// All streams of one task.
pub(super) struct Hub {
    limits: Limits,
    readiness: Readiness,
    listeners: Listeners,
    connections: Slab<Connection>,
    by_remote: HashMap<(ListenerId, SocketAddr), ConnectionId>,
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
    pub(super) fn new(limits: Limits) -> io::Result<Self> {
        Ok(Self {
            limits,
            readiness: Readiness::new()?,
            listeners: Listeners::default(),
            connections: Slab::default(),
            by_remote: HashMap::new(),
            sources: HashMap::new(),
            deadlines: Deadlines::default(),
            alarm: Box::pin(sleep_until(Clock.instant_of(Uptime::NEVER))),
            alarm_at: None,
            landing: vec![0; LANDING_OCTETS].into_boxed_slice(),
            ended: VecDeque::new(),
        })
    }

    /// Listens on `address`; an IPv6 socket takes IPv6 only. Returns the bound address.
    pub(super) fn listen(&mut self, id: ListenerId, address: SocketAddr) -> io::Result<SocketAddr> {
        self.listeners.open(id, address, &self.readiness)
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
            if connection.standing != Standing::Connecting {
                connection.flush(&self.limits, now);
            } else {
                match connection.is_made(&self.limits, now) {
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
        while turn.into.len() - before < MESSAGES {
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
        let id = if flow.connection == ConnectionId::NONE {
            let known = self.by_remote.get(&(flow.listener, flow.remote)).copied();
            match known.map_or_else(|| self.connect(flow), Ok) {
                Ok(id) => id,
                Err(end) => {
                    counters.connections_not_made += 1;
                    let refused = end == End::Refused;
                    self.ended.push_back(Arrival::Closed { flow, refused });
                    return;
                }
            }
        } else {
            flow.connection
        };
        let Some(connection) = self.connections.get_mut(id) else {
            counters.sends_without_connection += 1;
            return;
        };
        match connection.send(bytes, &self.limits, || Clock.uptime()) {
            Sent::Whole => {}
            Sent::Queued => self.settle(id, Clock.uptime()),
            Sent::NoRoom => {
                counters.closed_slow_reader += 1;
                let closed = self.remove(id, false);
                self.ended.extend(closed);
            }
        }
    }

    fn accept(&mut self, place: u16, turn: &mut Turn<'_>) {
        let Turn { now, counters, .. } = turn;
        for accepted in self.listeners.accept(place, *now, &self.readiness, counters) {
            self.admit(accepted, *now, counters);
        }
    }

    fn admit(&mut self, accepted: Accepted, now: Uptime, counters: &mut Counters) {
        let source = source_of(accepted.2.ip());
        let of_source = self.sources.get(&source).copied().unwrap_or(0);
        if self.connections.len() >= self.limits.connections
            || of_source >= self.limits.connections_per_source
        {
            counters.connections_shed += 1;
            return;
        }
        let connection = Connection::accepted(accepted, source, &self.limits, now);
        match connection.and_then(|it| self.open(it, now)) {
            Ok(_) => {
                counters.connections_accepted += 1;
                self.sources.insert(source, of_source + 1);
            }
            Err(_) => counters.accept_failures += 1,
        }
    }

    fn connect(&mut self, flow: Flow) -> Result<ConnectionId, End> {
        let Flow { listener, remote, .. } = flow;
        let local = self.listeners.local_of(listener);
        let local = local.filter(|it| it.is_ipv4() == remote.is_ipv4());
        let room = self.connections.len() < self.limits.connections;
        let local = local.filter(|_| room).ok_or(End::Failed)?;
        let now = Clock.uptime();
        Connection::connecting(listener, local, remote, &self.limits, now)
            .and_then(|connection| self.open(connection, now))
            .map_err(|error| End::of(&error))
    }

    fn open(&mut self, connection: Connection, now: Uptime) -> io::Result<ConnectionId> {
        let (key, told) = ((connection.listener, connection.remote), connection.told);
        let full = || io::Error::from(io::ErrorKind::OutOfMemory);
        let id = self.connections.insert(connection).ok_or_else(full)?;
        let Some(connection) = self.connections.get_mut(id) else { return Err(full()) };
        if let Err(error) = self.readiness.watch(&*connection, Who::Connection(id), told) {
            self.connections.remove(id);
            return Err(error);
        }
        self.by_remote.insert(key, id);
        self.deadlines.set(now, Slab::<Connection>::place_of(id), connection.deadline().0);
        Ok(id)
    }

    /// Does for a connection what it is ready for.
    fn serve(&mut self, id: ConnectionId, ready: Ready, turn: &mut Turn<'_>) {
        // One that has ended may have been told to be ready before.
        let Some(connection) = self.connections.get_mut(id) else { return };
        if connection.standing == Standing::Connecting {
            match connection.is_made(&self.limits, turn.now) {
                Ok(true) => turn.counters.connections_made += 1,
                Ok(false) => return,
                Err(end) => {
                    turn.into.extend(self.end(id, end, turn.counters));
                    return;
                }
            }
        } else if ready.writable {
            connection.flush(&self.limits, turn.now);
        }
        if ready.readable
            && let Err(end) = connection.read(id, &mut self.landing, &self.limits, turn)
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
