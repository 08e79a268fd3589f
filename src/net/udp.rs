//! UDP sockets, and what the network says about datagrams that did not arrive.
//!
//! A socket keeps the kernel's error queue (`IP_RECVERR`): a server process that died cleanly is
//! seen at the first datagram its host refuses, without waiting for a timeout.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;

use bytes::Bytes;
use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::ControlMessageOwned;
use nix::sys::socket::MsgFlags;
use nix::sys::socket::SockaddrStorage;
use nix::sys::socket::recvmsg;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt;
use nix::sys::time::TimeSpec;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{Interest, Ready};
use tokio::net::UdpSocket;

use crate::arena::Arena;
use crate::net::arrival::Arrival;
use crate::net::batch::{BATCH, Departure, Landing};
use crate::net::counters::Counters;
use crate::net::pressure::{self, Pressure};
use crate::sip::ConnectionId;
use crate::sip::Flow;
use crate::sip::ListenerId;
use crate::sip::Transport;

/// Wanted of the kernel for bursts: a storm of 10 000 REGISTERs of 800 octets fits.
const KERNEL_BUFFER_OCTETS: usize = 8 * 1024 * 1024;

/// Datagrams kept while the kernel takes no more.
const QUEUE_LIMIT: usize = 4_096;

/// One bound UDP socket.
pub(super) struct UdpListener {
    id: ListenerId,
    socket: Arc<UdpSocket>,
    ipv6: bool,
    /// What leaves with the next batch.
    queue: VecDeque<(SocketAddr, Bytes)>,
    departure: Departure,
    trouble: Pin<Box<dyn Future<Output = io::Result<Ready>> + Send>>,
}

impl UdpListener {
    /// Binds `address`; an IPv6 socket takes IPv6 only.
    pub(super) fn bind(id: ListenerId, address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
            setsockopt(&socket, sockopt::Ipv6RecvErr, &true)?;
        } else {
            setsockopt(&socket, sockopt::Ipv4RecvErr, &true)?;
        }
        // The kernel grants up to net.core.rmem_max and wmem_max; less is slower, not wrong.
        let _ = socket.set_recv_buffer_size(KERNEL_BUFFER_OCTETS);
        let _ = socket.set_send_buffer_size(KERNEL_BUFFER_OCTETS);
        pressure::watch(&socket);
        socket.bind(&address.into())?;
        warn_if_small(&socket, address);
        let socket = Arc::new(UdpSocket::from_std(socket.into())?);
        let trouble = trouble_of(&socket);
        let ipv6 = address.is_ipv6();
        let departure = Departure::new(ipv6);
        Ok(Self { id, socket, ipv6, queue: VecDeque::new(), departure, trouble })
    }

    /// What waits in the kernel; `None` if nothing does.
    pub(super) fn pressure(&self) -> Option<Pressure> {
        pressure::look(&self.socket)
    }

    /// The address it is bound to.
    pub(super) fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Whether every datagram has been handed to the kernel.
    pub(super) fn is_flushed(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes up to [`BATCH`] datagrams and all queued errors; `true` if there was anything.
    pub(super) fn poll_receive(
        &mut self,
        cx: &mut Context<'_>,
        (landing, arena): (&mut Landing, &mut Arena),
        into: &mut Vec<Arrival>,
        counters: &mut Counters,
    ) -> bool {
        let mut busy = self.poll_trouble(cx, into, counters);
        while self.socket.poll_recv_ready(cx).is_ready() {
            let id = self.id;
            let received = landing.receive(&self.socket, self.ipv6, |remote, datagram| {
                counters.datagrams_received += 1;
                if is_keep_alive(datagram) || remote.port() == 0 {
                    counters.datagrams_ignored += 1;
                } else {
                    let message = arena.keep(datagram);
                    into.push(Arrival::Message { flow: flow(id, remote), message });
                }
            });
            match received {
                Ok(_) => return true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // An ICMP error shows here too; its details are in the error queue.
                Err(_) => {
                    busy = true;
                    drain_errors(&self.socket, into, counters);
                }
            }
        }
        busy
    }

    /// Sends what the kernel would not take before.
    pub(super) fn poll_flush(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<Arrival>,
        counters: &mut Counters,
    ) {
        while !self.queue.is_empty() && self.socket.poll_send_ready(cx).is_ready() {
            self.flush(into, counters);
        }
    }

    /// Hands what is queued to the kernel, as far as it takes it.
    pub(super) fn flush(&mut self, into: &mut Vec<Arrival>, counters: &mut Counters) {
        let mut failures = 0;
        while let Some(&(remote, _)) = self.queue.front() {
            match self.departure.send(&self.socket, self.queue.iter()) {
                Ok(sent) => {
                    failures = 0;
                    counters.datagrams_sent += sent as u64;
                    self.queue.drain(..sent.min(self.queue.len()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // A send reports the ICMP error of an earlier datagram first and sends nothing:
                // only an error that repeats is about this one.
                Err(_) if failures < 2 => failures += 1,
                Err(_) => {
                    failures = 0;
                    self.queue.pop_front();
                    counters.datagrams_undeliverable += 1;
                    into.push(unreachable(remote, false));
                }
            }
        }
    }

    /// Queues a datagram for the next flush; a full batch leaves at once.
    pub(super) fn send(
        &mut self,
        remote: SocketAddr,
        bytes: Bytes,
        failed: &mut Vec<Arrival>,
        counters: &mut Counters,
    ) {
        if self.queue.len() >= QUEUE_LIMIT {
            counters.datagrams_shed += 1;
            return;
        }
        self.queue.push_back((remote, bytes));
        if self.queue.len() == BATCH {
            self.flush(failed, counters);
        }
    }

    fn poll_trouble(
        &mut self,
        cx: &mut Context<'_>,
        into: &mut Vec<Arrival>,
        counters: &mut Counters,
    ) -> bool {
        let mut busy = false;
        // Bounded, so that a flood of ICMP errors does not keep the other sockets waiting.
        for _ in 0..BATCH {
            if self.trouble.as_mut().poll(cx).is_pending() {
                return busy;
            }
            busy = true;
            drain_errors(&self.socket, into, counters);
            self.trouble = trouble_of(&self.socket);
        }
        busy
    }
}

fn warn_if_small(socket: &Socket, address: SocketAddr) {
    const ENOUGH_OCTETS: usize = 1024 * 1024;
    let octets = socket.recv_buffer_size().unwrap_or(0);
    if octets < ENOUGH_OCTETS {
        tracing::warn!(
            %address,
            octets,
            "the kernel grants a small receive buffer and may drop datagrams of a burst: raise \
             net.core.rmem_max to {KERNEL_BUFFER_OCTETS}"
        );
    }
}

fn flow(listener: ListenerId, remote: SocketAddr) -> Flow {
    Flow { listener, transport: Transport::Udp, remote, connection: ConnectionId::NONE }
}

/// Ready when the socket's error queue is not empty.
fn trouble_of(socket: &Arc<UdpSocket>) -> Pin<Box<dyn Future<Output = io::Result<Ready>> + Send>> {
    let socket = Arc::clone(socket);
    Box::pin(async move { socket.ready(Interest::ERROR).await })
}

fn drain_errors(socket: &UdpSocket, into: &mut Vec<Arrival>, counters: &mut Counters) {
    for _ in 0..BATCH {
        match socket.try_io(Interest::ERROR, || take_error(socket)) {
            Ok(Some(arrival)) => {
                counters.datagrams_undeliverable += 1;
                into.push(arrival);
            }
            Ok(None) => {}
            Err(_) => return,
        }
    }
}

/// Takes one entry of the error queue; `None` if it does not say that a peer is unreachable.
fn take_error(socket: &UdpSocket) -> io::Result<Option<Arrival>> {
    // Only the addresses matter, not the datagram that comes back.
    let mut payload = [0; 1];
    let mut iov = [IoSliceMut::new(&mut payload)];
    // Before the error the kernel writes what `pressure` asked of it.
    let mut control = nix::cmsg_space!(TimeSpec, u32, libc::sock_extended_err, libc::sockaddr_in6);
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    let entry =
        recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut iov, Some(&mut control), flags)?;
    let Some(remote) = entry.address.as_ref().and_then(socket_addr) else { return Ok(None) };
    for message in entry.cmsgs()? {
        if let ControlMessageOwned::Ipv4RecvErr(error, offender) = message {
            return Ok(Trouble::of(&error, offender.map(|it| ip_of_v4(&it))).arrival(remote));
        }
        if let ControlMessageOwned::Ipv6RecvErr(error, offender) = message {
            return Ok(Trouble::of(&error, offender.map(|it| ip_of_v6(&it))).arrival(remote));
        }
    }
    Ok(None)
}

/// One ICMP error, as the kernel tells it.
struct Trouble {
    origin: u8,
    kind: u8,
    code: u8,
    errno: Errno,
    offender: Option<IpAddr>,
}

impl Trouble {
    fn of(error: &libc::sock_extended_err, offender: Option<IpAddr>) -> Self {
        let errno = i32::try_from(error.ee_errno).map_or(Errno::UnknownErrno, Errno::from_raw);
        Self { origin: error.ee_origin, kind: error.ee_type, code: error.ee_code, errno, offender }
    }

    fn arrival(&self, remote: SocketAddr) -> Option<Arrival> {
        // "Fragmentation needed" is answered by the kernel: it fragments from now on.
        if self.errno == Errno::EMSGSIZE {
            return None;
        }
        Some(unreachable(remote, self.is_refusal(remote.ip())))
    }

    /// Only the addressed host itself can say that nobody listens there: a router that says it
    /// proves nothing about the server.
    fn is_refusal(&self, remote: IpAddr) -> bool {
        let port_unreachable = match self.origin {
            libc::SO_EE_ORIGIN_ICMP => (self.kind, self.code) == (3, 3),
            libc::SO_EE_ORIGIN_ICMP6 => (self.kind, self.code) == (1, 4),
            libc::SO_EE_ORIGIN_LOCAL => {
                return remote.is_loopback() && self.errno == Errno::ECONNREFUSED;
            }
            _ => false,
        };
        port_unreachable && self.offender == Some(remote)
    }
}

const fn unreachable(remote: SocketAddr, refused: bool) -> Arrival {
    Arrival::Unreachable { remote, transport: Transport::Udp, refused }
}

fn socket_addr(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|it| SocketAddr::V4(SocketAddrV4::from(*it)));
    v4.or_else(|| address.as_sockaddr_in6().map(|it| SocketAddr::V6(SocketAddrV6::from(*it))))
}

fn ip_of_v4(address: &libc::sockaddr_in) -> IpAddr {
    IpAddr::from(address.sin_addr.s_addr.to_ne_bytes())
}

fn ip_of_v6(address: &libc::sockaddr_in6) -> IpAddr {
    IpAddr::from(address.sin6_addr.s6_addr)
}

/// Whether a datagram only keeps a NAT binding alive: nothing but CR, LF, blanks and zeros.
fn is_keep_alive(datagram: &[u8]) -> bool {
    datagram.iter().all(|octet| matches!(octet, b'\r' | b'\n' | b' ' | 0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
    const ROUTER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 254));

    fn port_unreachable(offender: Option<IpAddr>) -> Trouble {
        let errno = Errno::ECONNREFUSED;
        Trouble { origin: libc::SO_EE_ORIGIN_ICMP, kind: 3, code: 3, errno, offender }
    }

    #[test]
    fn only_the_addressed_host_refuses() {
        assert!(port_unreachable(Some(SERVER)).is_refusal(SERVER));
        assert!(!port_unreachable(Some(ROUTER)).is_refusal(SERVER));
        assert!(!port_unreachable(None).is_refusal(SERVER));
    }

    #[test]
    fn a_host_or_network_that_cannot_be_reached_is_no_refusal() {
        let mut trouble = port_unreachable(Some(SERVER));
        trouble.code = 1;
        assert!(!trouble.is_refusal(SERVER));
        let remote = SocketAddr::new(SERVER, 5060);
        assert_eq!(trouble.arrival(remote), Some(unreachable(remote, false)));
    }

    #[test]
    fn a_datagram_that_was_too_large_for_a_link_is_not_unreachable() {
        let mut trouble = port_unreachable(Some(ROUTER));
        trouble.errno = Errno::EMSGSIZE;
        assert_eq!(trouble.arrival(SocketAddr::new(SERVER, 5060)), None);
    }

    #[test]
    fn keep_alives_are_told_from_messages() {
        assert!(is_keep_alive(b"\r\n\r\n"));
        assert!(is_keep_alive(b"\0\0\0\0"));
        assert!(is_keep_alive(b""));
        assert!(!is_keep_alive(b"\r\nOPTIONS sip:a SIP/2.0\r\n"));
    }
}
