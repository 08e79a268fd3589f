//! Where a message came from and where its answer goes.

use std::net::{IpAddr, SocketAddr};

/// A transport protocol a SIP message travels on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// Datagrams: retransmissions are ours (RFC 3261 §17).
    Udp,
    /// A stream: framed by Content-Length (RFC 3261 §18.3).
    Tcp,
}

impl Transport {
    /// Whether the transport delivers by itself, so that nothing is retransmitted.
    pub const fn is_reliable(self) -> bool {
        matches!(self, Self::Tcp)
    }

    /// The name in a Via, upper case (RFC 3261 §20.42).
    pub const fn via_name(self) -> &'static str {
        match self {
            Self::Udp => "UDP",
            Self::Tcp => "TCP",
        }
    }

    /// The name in configuration and in a `transport=` parameter, lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
        }
    }
}

/// One of the sockets this program listens on, by its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ListenerId(pub u16);

impl ListenerId {
    /// None of them: a connection that the core made under a name of its own.
    pub const NONE: Self = Self(u16::MAX);
    /// The WebService: what comes in or goes out by HTTP.
    pub const WEB: Self = Self(u16::MAX - 1);
}

/// One stream connection; never reused while the process lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId(pub u64);

impl ConnectionId {
    /// No connection: a datagram, or "open or reuse one".
    pub const NONE: Self = Self(0);
    /// A connection that is no more; nothing can be sent to it.
    pub const ENDED: Self = Self(u64::MAX);

    /// The names that the core gives have this bit, and no others.
    const OWN: u64 = 1 << 63;

    /// A connection that the core names itself, by a number it never uses again: the first that is
    /// sent on it makes it, to [`Flow::remote`], from any address, by [`ListenerId::NONE`]. Numbers
    /// only rise: a lower one that is not there any more is not made again.
    pub const fn own(number: u64) -> Self {
        let most = Self::OWN - 2;
        Self(Self::OWN | if number < most { number } else { most })
    }

    /// Whether the core has named it.
    pub const fn is_own(self) -> bool {
        self.0 & Self::OWN != 0 && self.0 != Self::ENDED.0
    }

    /// The number by which the core has named it.
    pub const fn own_number(self) -> Option<u64> {
        if self.is_own() { Some(self.0 & !Self::OWN) } else { None }
    }
}

/// Who is behind an address, as far as limits go: an IPv4 address stands for itself; whoever owns
/// one IPv6 address owns the /64 around it.
pub fn source_of(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(_) => address,
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
    }
}

/// The path a message arrived on (RFC 5626 §3): a datagram's listener and source, or a connection.
///
/// A stream flow with [`ConnectionId::NONE`] is a wish: the shell reuses or opens a connection
/// from that listener's address to `remote`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Flow {
    /// The socket of ours it came in by.
    pub listener: ListenerId,
    /// Its transport.
    pub transport: Transport,
    /// The peer's address, as seen from here.
    pub remote: SocketAddr,
    /// The connection, for streams.
    pub connection: ConnectionId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_of_the_cores_own_is_no_other_name() {
        for number in [0, 1, 1 << 40, u64::MAX >> 1, u64::MAX] {
            assert!(ConnectionId::own(number).is_own(), "{number}");
            assert_ne!(ConnectionId::own(number), ConnectionId::ENDED);
        }
        assert_ne!(ConnectionId::own(1), ConnectionId::own(2));
        assert!(!ConnectionId::NONE.is_own() && !ConnectionId::ENDED.is_own());
    }
}
