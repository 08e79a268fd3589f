//! [`Limits`]: how much of everything a stream may take.

use std::time::Duration;

use crate::net::connection::Peer;
use crate::net::framing::Protocol;
use crate::sip::framing;
use crate::ucsap;

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
    /// How long a TLS handshake may take.
    pub handshake: Duration,
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
    /// What is different where UCSAP is spoken.
    pub ucsap: UcsapLimits,
}

/// Bounds of streams that speak UCSAP, where they are others than those of SIP.
#[derive(Clone, Copy, Debug)]
pub struct UcsapLimits {
    /// Octets of one message.
    pub framing: ucsap::framing::Limits,
    /// How long an accepted connection may be silent before its first message.
    pub first_message: Duration,
    /// How long a connection may be silent afterwards.
    pub idle: Duration,
    /// The same of one that the door made: a server says nothing while nothing happens. Whether it is
    /// there the kernel asks ([`Limits::keep_alive`]), and health.
    pub idle_made: Duration,
    /// Octets queued for the peer of an accepted connection.
    pub queue_accepted: usize,
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
            handshake: Duration::from_secs(10),
            connect: Duration::from_secs(2),
            write: Duration::from_secs(10),
            keep_alive: Duration::from_secs(60),
            queue_accepted: 128 * 1024,
            queue_made: 4 * 1024 * 1024,
            ucsap: UcsapLimits::default(),
        }
    }
}

impl Default for UcsapLimits {
    fn default() -> Self {
        Self {
            framing: ucsap::framing::Limits::default(),
            first_message: Duration::from_secs(30),
            // Clients send something every five seconds.
            idle: Duration::from_secs(60),
            idle_made: Duration::from_secs(30 * 86_400),
            queue_accepted: 1024 * 1024,
        }
    }
}

/// The bounds of each protocol.
pub(super) struct Bounds {
    sip: Limits,
    ucsap: Limits,
    /// Where UCSAP is spoken on a connection that the door made.
    made: Limits,
}

impl Bounds {
    pub(super) const fn new(sip: Limits) -> Self {
        let UcsapLimits { first_message, idle, idle_made, queue_accepted, .. } = sip.ucsap;
        let ucsap = Limits { first_message, idle, queue_accepted, ..sip };
        Self { sip, ucsap, made: Limits { idle: idle_made, ..ucsap } }
    }

    /// Those of one of them; what holds for all streams together is the same in both.
    pub(super) const fn of(&self, peer: &Peer) -> &Limits {
        match (peer.speaks, peer.own) {
            (Protocol::Sip, _) => &self.sip,
            (Protocol::Ucsap, None) => &self.ucsap,
            (Protocol::Ucsap, Some(_)) => &self.made,
        }
    }
}
