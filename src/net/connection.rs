//! One stream connection: what comes is framed, what goes waits while the peer does not read.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf as _, Bytes};
use rustls::ServerConfig;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::net::arrival::Arrival;
use crate::net::carrier::{Carrier, Insecure, Received};
use crate::net::framing::{Cut, Framing, Protocol as Spoken, Security};
use crate::net::limits::Limits;
use crate::net::outbound::Outbound;
use crate::net::patience::Patience;
use crate::net::readiness::Wanted;
use crate::net::tcp::Turn;
use crate::now::Uptime;
use crate::sip::ConnectionId;
use crate::sip::Flow;
use crate::sip::ListenerId;
use crate::sip::Transport;

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The peer said goodbye.
    Finished,
    /// The peer's host refused or reset it.
    Refused,
    /// The network or this machine failed it.
    Failed,
    /// Nothing came for too long.
    Idle,
    /// A message took too long to complete.
    SlowMessage,
    /// The peer did not read.
    SlowReader,
    /// Not framed as it should be.
    Unframed,
    /// No TLS where it is wanted.
    Insecure,
    /// Octets in the clear where TLS should begin.
    Injected,
}

impl From<Insecure> for End {
    fn from(_: Insecure) -> Self {
        Self::Insecure
    }
}

impl End {
    pub(super) fn of(error: &io::Error) -> Self {
        // EPIPE is how a reset shows after the peer had closed its half.
        let refused = matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
        );
        if refused { Self::Refused } else { Self::Failed }
    }
}

/// Who is at the other end of a connection, and what it is known by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer {
    pub(super) listener: ListenerId,
    pub(super) remote: SocketAddr,
    pub(super) speaks: Spoken,
    pub(super) security: Security,
    /// The name that the core has given it.
    pub(super) own: Option<ConnectionId>,
}

/// How far a connection has come, and who made it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Being made; what is sent waits in its queue.
    Connecting,
    /// Made by the door.
    Made,
    /// Accepted, and counted for this source.
    Accepted(IpAddr),
}

/// What became of a message to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    /// The kernel has it.
    Whole,
    /// It waits, or part of it does.
    Queued,
    /// Too much waits already.
    NoRoom,
}

/// A connection.
pub(super) struct Connection {
    pub(super) peer: Peer,
    pub(super) standing: Standing,
    /// What is told of it, as asked for last.
    pub(super) told: Wanted,
    carrier: Carrier,
    framing: Framing,
    outbound: Outbound,
    patience: Patience,
    /// Writing failed: it ends with this, once what had come before is read.
    broken: Option<End>,
    /// It is to be closed, at the latest then, and nothing that comes is heard any more.
    closing: Option<Uptime>,
    /// It is to be closed, and the peer will say nothing more: it may still read.
    heard_out: bool,
}

impl Connection {
    /// One that was accepted on behalf of `source`.
    pub(super) fn accepted(
        (stream, peer): (TcpStream, Peer),
        source: IpAddr,
        limits: &Limits,
        now: Uptime,
    ) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        prepare(&stream, limits);
        Ok(Self {
            peer,
            standing: Standing::Accepted(source),
            told: Wanted::Read,
            carrier: Carrier::new(stream),
            framing: Framing::new(peer.speaks, limits),
            outbound: Outbound::new(limits.queue_accepted),
            patience: Patience::with_first(now + limits.first_message),
            broken: None,
            closing: None,
            heard_out: false,
        })
    }

    /// One that is being made from any port of `local`; from any address without.
    pub(super) fn connecting(
        peer: Peer,
        local: Option<IpAddr>,
        limits: &Limits,
        now: Uptime,
    ) -> io::Result<Self> {
        let remote = peer.remote;
        let socket = Socket::new(Domain::for_address(remote), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        if let Some(local) = local.filter(|it| !it.is_unspecified()) {
            socket.bind(&SocketAddr::new(local, 0).into())?;
        }
        match socket.connect(&remote.into()) {
            Err(error) if !is_under_way(&error) => return Err(error),
            _ => {}
        }
        Ok(Self {
            peer,
            standing: Standing::Connecting,
            told: Wanted::Write,
            carrier: Carrier::new(socket.into()),
            framing: Framing::new(peer.speaks, limits),
            outbound: Outbound::new(limits.queue_made),
            patience: Patience::with_making(now + limits.connect),
            broken: None,
            closing: None,
            heard_out: false,
        })
    }

    /// Whether one that is being made is made by now; then what waits is sent.
    ///
    /// # Errors
    /// It will not be made.
    pub(super) fn is_made(&mut self, limits: &Limits, now: Uptime) -> Result<bool, End> {
        let stream = self.carrier.stream();
        match stream.take_error() {
            Ok(None) => {}
            Ok(Some(error)) | Err(error) => return Err(End::of(&error)),
        }
        if stream.peer_addr().is_err() {
            return Ok(false);
        }
        prepare(stream, limits);
        self.standing = Standing::Made;
        self.patience = Patience::with_first(now + limits.idle);
        self.outbound.allow(now, limits.write);
        self.flush(limits, now);
        Ok(true)
    }

    /// Takes what has come, as far as `landing` holds it; what it holds from before does not
    /// matter. A read that fills it is no reason to go on: the others have their turn first.
    ///
    /// # Errors
    /// The connection has come to its end.
    pub(super) fn read(
        &mut self,
        id: ConnectionId,
        landing: &mut [u8],
        limits: &Limits,
        turn: &mut Turn<'_>,
    ) -> Result<(), End> {
        let octets = match self.carrier.read(landing) {
            Ok(0) if self.closing.is_some() && !self.is_flushed() => {
                self.heard_out = true;
                return Ok(());
            }
            Ok(0) => return Err(self.broken.unwrap_or(End::Finished)),
            Ok(octets) => octets,
            Err(error) if is_for_now(&error) => return self.broken.map_or(Ok(()), Err),
            Err(error) => return Err(self.broken.unwrap_or_else(|| End::of(&error))),
        };
        if self.closing.is_some() {
            return Ok(());
        }
        let landed = landing.get(..octets).unwrap_or_default();
        if self.carrier.is_tls() {
            return self.read_tls(id, landed, limits, turn);
        }
        let flow = self.flow(id);
        let mut cutter = Cutter {
            framing: &mut self.framing,
            patience: &mut self.patience,
            flow,
            limits,
            pings: 0,
        };
        cutter.take(landed, turn)?;
        let pings = cutter.pings;
        if pings > 0 && self.answer_pings(pings, limits, turn.now) {
            turn.counters.pings_answered += pings as u64;
        }
        Ok(())
    }

    /// The same for what is encrypted.
    fn read_tls(
        &mut self,
        id: ConnectionId,
        landed: &[u8],
        limits: &Limits,
        turn: &mut Turn<'_>,
    ) -> Result<(), End> {
        turn.handshakes += usize::from(self.carrier.is_handshaking());
        let flow = self.flow(id);
        let mut cutter = Cutter {
            framing: &mut self.framing,
            patience: &mut self.patience,
            flow,
            limits,
            pings: 0,
        };
        let goes_on = self.carrier.decrypt(landed, |received| match received {
            Received::Octets(octets) => cutter.take(octets, turn),
            Received::Secured { name } => {
                *cutter.patience = Patience::with_first(turn.now + limits.first_message);
                turn.counters.handshakes += 1;
                turn.into.push(Arrival::Secured { flow, name: name.map(Arc::from) });
                Ok(())
            }
        })?;
        let pings = cutter.pings;
        if pings > 0 && self.answer_pings(pings, limits, turn.now) {
            turn.counters.pings_answered += pings as u64;
        }
        self.flush(limits, turn.now);
        if goes_on { Ok(()) } else { Err(self.broken.unwrap_or(End::Finished)) }
    }

    /// Waits for the peer's TLS handshake, after what waits has left in the clear.
    ///
    /// # Errors
    /// It is not to be had.
    pub(super) fn secure(
        &mut self,
        config: &Arc<ServerConfig>,
        limits: &Limits,
        now: Uptime,
    ) -> Result<(), End> {
        self.carrier.secure(config, self.outbound.waiting())?;
        self.patience = Patience::with_handshake(now + limits.handshake);
        Ok(())
    }

    /// Sends the answer to a request for TLS in the clear, and then waits for the handshake.
    ///
    /// # Errors
    /// The peer has said more in the clear, TLS was not offered, or is there already.
    pub(super) fn start_tls(
        &mut self,
        answer: Bytes,
        config: Option<&Arc<ServerConfig>>,
        limits: &Limits,
        now: Uptime,
    ) -> Result<(), End> {
        if self.framing.buffered() > 0 {
            return Err(End::Injected);
        }
        let offered = self.peer.security == Security::StartTls && !self.carrier.is_tls();
        let config = config.filter(|_| offered).ok_or(End::Insecure)?;
        if self.send(answer, limits, || now) == Sent::NoRoom {
            return Err(End::SlowReader);
        }
        self.secure(config, limits, now)
    }

    /// Whether TLS is wanted, and not there yet: what was cut before is no message any more.
    pub(super) fn is_handshaking(&self) -> bool {
        self.carrier.is_handshaking()
    }

    /// Sends a message, after what waits.
    pub(super) fn send(
        &mut self,
        mut bytes: Bytes,
        limits: &Limits,
        now: impl FnOnce() -> Uptime,
    ) -> Sent {
        let first = self.outbound.is_empty();
        if first && self.standing != Standing::Connecting && self.broken.is_none() {
            match self.carrier.write(&bytes) {
                Ok(octets) if octets >= bytes.len() => return Sent::Whole,
                Ok(octets) => bytes.advance(octets),
                Err(error) if is_for_now(&error) => {}
                Err(error) => self.broken = Some(End::of(&error)),
            }
        }
        if !self.outbound.push(bytes) {
            return Sent::NoRoom;
        }
        if first && self.standing != Standing::Connecting {
            self.outbound.allow(now(), limits.write);
        }
        Sent::Queued
    }

    /// Sends what waits, as far as the kernel takes it.
    pub(super) fn flush(&mut self, limits: &Limits, now: Uptime) {
        self.write(limits, now);
        if self.closing.is_some() && self.outbound.is_empty() {
            // The peer is waited for: a socket that is closed with unread octets takes back what
            // was sent last.
            self.carrier.say_goodbye();
        }
    }

    fn write(&mut self, limits: &Limits, now: Uptime) {
        match self.carrier.flush() {
            Err(error) if !is_for_now(&error) => self.broken = Some(End::of(&error)),
            Ok(()) | Err(_) => {}
        }
        while let Some(first) = self.outbound.first() {
            match self.carrier.write(first) {
                Ok(octets) => {
                    if self.outbound.has_left(octets) {
                        self.outbound.allow(now, limits.write);
                    }
                }
                Err(error) if is_for_now(&error) => return,
                Err(error) => {
                    self.broken = Some(End::of(&error));
                    return;
                }
            }
        }
    }

    /// Sends what waits, and then ends; nothing is heard any more.
    pub(super) fn close(&mut self, limits: &Limits, now: Uptime) {
        self.closing = Some(now + limits.write);
        if self.standing != Standing::Connecting {
            self.flush(limits, now);
        }
    }

    /// Whether it was told to end.
    pub(super) const fn is_closing(&self) -> bool {
        self.closing.is_some()
    }

    /// Whether nothing waits to be sent.
    pub(super) fn is_flushed(&self) -> bool {
        (self.outbound.is_empty() && self.carrier.is_flushed()) || self.broken.is_some()
    }

    /// When it ends if nothing happens, and why then.
    pub(super) fn deadline(&self) -> (Uptime, End) {
        if let Some(end) = self.broken {
            return (Uptime::ZERO, end);
        }
        let Patience { until, why, .. } = self.patience;
        let written = self.outbound.until();
        let deadline = if written < until { (written, End::SlowReader) } else { (until, why) };
        match self.closing {
            Some(until) if self.outbound.is_empty() => (until, End::Finished),
            Some(until) if until < deadline.0 => (until, End::SlowReader),
            Some(_) | None => deadline,
        }
    }

    /// What it wants to be told.
    pub(super) fn wants(&self) -> Wanted {
        match self.standing {
            Standing::Connecting => Wanted::Write,
            Standing::Made | Standing::Accepted(_) => {
                let wants_room = self.carrier.wants_room(!self.outbound.is_empty());
                match (wants_room, self.heard_out) {
                    (true, true) => Wanted::Write,
                    (true, false) => Wanted::ReadAndWrite,
                    (false, _) => Wanted::Read,
                }
            }
        }
    }

    /// What comes by it. A connection that was never made is known by the wish for it.
    pub(super) fn flow(&self, id: ConnectionId) -> Flow {
        let Peer { listener, remote, own, .. } = self.peer;
        let made = if self.standing == Standing::Connecting { ConnectionId::NONE } else { id };
        let connection = own.unwrap_or(made);
        Flow { listener, transport: Transport::Tcp, remote, connection }
    }

    /// Answers pings, together, unless the peer does not read what it is sent anyway.
    fn answer_pings(&mut self, pings: usize, limits: &Limits, now: Uptime) -> bool {
        const PONG: &[u8] = b"\r\n";
        if !self.outbound.has_room(pings * PONG.len()) {
            return false;
        }
        let pongs = if pings == 1 { Bytes::from_static(PONG) } else { PONG.repeat(pings).into() };
        self.send(pongs, limits, || now) != Sent::NoRoom
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.carrier.as_fd()
    }
}

/// What is read, on its way to whoever it is for.
struct Cutter<'c> {
    framing: &'c mut Framing,
    patience: &'c mut Patience,
    flow: Flow,
    limits: &'c Limits,
    pings: usize,
}

impl Cutter<'_> {
    fn take(&mut self, mut landed: &[u8], turn: &mut Turn<'_>) -> Result<(), End> {
        let Turn { now, arena, into, .. } = turn;
        let flow = self.flow;
        loop {
            match self.framing.next_landed(&mut landed, |message| arena.keep(message)) {
                Ok(Some(Cut::Sip(message))) => {
                    self.patience.message_came();
                    into.push(Arrival::Message { flow, message });
                }
                Ok(Some(Cut::Rose(message))) => {
                    self.patience.message_came();
                    into.push(Arrival::Rose { flow, message });
                }
                Ok(Some(Cut::Ping)) => {
                    self.patience.sign_of_life();
                    self.pings += 1;
                }
                Ok(Some(Cut::Pong)) => self.patience.sign_of_life(),
                Ok(None) => break,
                Err(_) => return Err(End::Unframed),
            }
        }
        self.patience.go_on(self.framing.buffered(), *now, self.limits);
        Ok(())
    }
}

/// Options that only make a dead peer known sooner: a system without them is no reason to refuse.
fn prepare(stream: &TcpStream, limits: &Limits) {
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let probe = limits.keep_alive / 6;
    let keep_alive = TcpKeepalive::new()
        .with_time(limits.keep_alive)
        .with_interval(probe.max(Duration::from_secs(1)))
        .with_retries(3);
    let _ = socket.set_tcp_keepalive(&keep_alive);
    let _ = socket.set_tcp_user_timeout(Some(limits.write));
}

/// Whether nothing is wrong: there is nothing, or no room, for now.
fn is_for_now(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn is_under_way(error: &io::Error) -> bool {
    error.raw_os_error() == Some(nix::libc::EINPROGRESS) || is_for_now(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reset_counts_as_the_word_of_the_peers_host() {
        for kind in [
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::ConnectionRefused,
            io::ErrorKind::BrokenPipe,
        ] {
            assert_eq!(End::of(&kind.into()), End::Refused);
        }
        assert_eq!(End::of(&io::ErrorKind::HostUnreachable.into()), End::Failed);
        assert_eq!(End::of(&io::ErrorKind::TimedOut.into()), End::Failed);
    }
}
