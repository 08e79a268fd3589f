//! Many datagrams in one system call.
//!
//! Most of what a datagram costs is the way into the kernel and the wake-up of whoever waits for
//! it: both are paid once a batch here.

use std::io::{self, IoSlice, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::AsRawFd;

use bytes::Bytes;
use nix::errno::Errno;
use nix::sys::socket::MsgFlags;
use nix::sys::socket::MultiHeaders;
use nix::sys::socket::SockaddrIn;
use nix::sys::socket::SockaddrIn6;
use nix::sys::socket::SockaddrLike;
use nix::sys::socket::recvmmsg;
use nix::sys::socket::sendmmsg;
use smallvec::SmallVec;
use tokio::io::Interest;
use tokio::net::UdpSocket;

/// Datagrams of one system call.
pub(super) const BATCH: usize = 64;

/// The largest datagram IP can carry.
const DATAGRAM_OCTETS: usize = 65_535;

/// From one place to the next. Only what datagrams reached ever takes memory; and as this is no
/// round number, the beginnings of places do not push one another out of the processor's caches.
const PLACE_OCTETS: usize = DATAGRAM_OCTETS + 1 + 832;

/// Where a batch of datagrams lands. One serves all sockets of a task, one after the other.
pub(super) struct Landing {
    places: Box<[u8]>,
    v4: MultiHeaders<SockaddrIn>,
    v6: MultiHeaders<SockaddrIn6>,
}

impl Default for Landing {
    fn default() -> Self {
        Self {
            places: vec![0; BATCH * PLACE_OCTETS].into_boxed_slice(),
            v4: MultiHeaders::preallocate(BATCH, None),
            v6: MultiHeaders::preallocate(BATCH, None),
        }
    }
}

impl Landing {
    /// Takes up to [`BATCH`] datagrams, each handed to `take` with where it came from. How many
    /// there were.
    ///
    /// # Errors
    /// Nothing waits ([`io::ErrorKind::WouldBlock`]), or an ICMP error shows here.
    pub(super) fn receive(
        &mut self,
        socket: &UdpSocket,
        ipv6: bool,
        take: impl FnMut(SocketAddr, &[u8]),
    ) -> io::Result<usize> {
        let Self { places, v4, v6 } = self;
        if ipv6 {
            let from = |it: &SockaddrIn6| SocketAddr::V6(SocketAddrV6::from(*it));
            receive(socket, places, v6, from, take)
        } else {
            let from = |it: &SockaddrIn| SocketAddr::V4(SocketAddrV4::from(*it));
            receive(socket, places, v4, from, take)
        }
    }
}

fn receive<A: SockaddrLike + Copy>(
    socket: &UdpSocket,
    places: &mut [u8],
    headers: &mut MultiHeaders<A>,
    from: impl Fn(&A) -> SocketAddr,
    mut take: impl FnMut(SocketAddr, &[u8]),
) -> io::Result<usize> {
    let mut arrived: SmallVec<[(usize, Option<SocketAddr>); BATCH]> = SmallVec::new();
    {
        let mut places = places.chunks_exact_mut(PLACE_OCTETS);
        let mut slices: [[IoSliceMut<'_>; 1]; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(places.next().unwrap_or_default())]);
        socket.try_io(Interest::READABLE, || {
            let flags = MsgFlags::MSG_DONTWAIT;
            let messages = recvmmsg(socket.as_raw_fd(), headers, slices.iter_mut(), flags, None)?;
            arrived.extend(messages.map(|it| (it.bytes, it.address.as_ref().map(&from))));
            Ok(())
        })?;
    }
    for (place, &(octets, remote)) in places.chunks_exact(PLACE_OCTETS).zip(&arrived) {
        if let Some(remote) = remote {
            take(remote, place.get(..octets).unwrap_or_default());
        }
    }
    Ok(arrived.len())
}

/// What datagrams leave by: what the system call needs beside them.
pub(super) enum Departure {
    /// From an IPv4 socket.
    V4(MultiHeaders<SockaddrIn>),
    /// From an IPv6 socket.
    V6(MultiHeaders<SockaddrIn6>),
}

impl Departure {
    /// For a socket of one family.
    pub(super) fn new(ipv6: bool) -> Self {
        if ipv6 {
            Self::V6(MultiHeaders::preallocate(BATCH, None))
        } else {
            Self::V4(MultiHeaders::preallocate(BATCH, None))
        }
    }

    /// Hands up to [`BATCH`] datagrams to the kernel, in order. How many it took: fewer than were
    /// given says nothing, the next call tells why. A datagram for the other family is taken and
    /// goes nowhere.
    ///
    /// # Errors
    /// The kernel takes no more for now ([`io::ErrorKind::WouldBlock`]), or what it says of the
    /// first one: that it cannot be sent, or that an earlier one could not be delivered.
    pub(super) fn send<'d>(
        &mut self,
        socket: &UdpSocket,
        datagrams: impl Iterator<Item = &'d (SocketAddr, Bytes)>,
    ) -> io::Result<usize> {
        match self {
            Self::V4(headers) => send(socket, headers, datagrams, |remote| match remote {
                SocketAddr::V4(remote) => Some(SockaddrIn::from(*remote)),
                SocketAddr::V6(_) => None,
            }),
            Self::V6(headers) => send(socket, headers, datagrams, |remote| match remote {
                SocketAddr::V6(remote) => Some(SockaddrIn6::from(*remote)),
                SocketAddr::V4(_) => None,
            }),
        }
    }
}

fn send<'d, A: SockaddrLike + Copy>(
    socket: &UdpSocket,
    headers: &mut MultiHeaders<A>,
    datagrams: impl Iterator<Item = &'d (SocketAddr, Bytes)>,
    to: impl Fn(&SocketAddr) -> Option<A>,
) -> io::Result<usize> {
    let mut slices: SmallVec<[[IoSlice<'_>; 1]; BATCH]> = SmallVec::new();
    let mut addresses: SmallVec<[Option<A>; BATCH]> = SmallVec::new();
    for (remote, bytes) in datagrams.take(BATCH) {
        let Some(address) = to(remote) else {
            if slices.is_empty() {
                return Ok(1);
            }
            break;
        };
        slices.push([IoSlice::new(bytes)]);
        addresses.push(Some(address));
    }
    let flags = MsgFlags::MSG_DONTWAIT;
    socket.try_io(Interest::WRITABLE, || {
        match sendmmsg(socket.as_raw_fd(), headers, slices.iter(), &addresses, [], flags) {
            Ok(sent) => Ok(sent.count()),
            Err(errno) => Err(errno_error(errno)),
        }
    })
}

fn errno_error(errno: Errno) -> io::Error {
    io::Error::from_raw_os_error(errno as i32)
}
