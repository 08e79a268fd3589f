//! Datagrams, many for each call of the system.

use std::io::{IoSlice, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, sendmmsg};
use socket2::{Domain, Protocol, Socket, Type};

use crate::load::plan::LoadError;
use crate::load::wire::{Faults, Wire, readable, system, writable};

/// Datagrams for each call.
pub(super) const BATCH: usize = 64;
/// The longest answer that is read; the rest of a longer one is cut off.
const DATAGRAM: usize = 4096;
/// Wanted of the kernel for bursts.
const KERNEL_BUFFER: usize = 8 << 20;
/// Batches taken in a row before something else has its turn.
const BATCHES: usize = 8;

/// A socket bound to the loopback.
pub(super) fn bind(address: SocketAddr) -> Result<Socket, LoadError> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))
        .map_err(system("no socket"))?;
    socket.set_nonblocking(true).map_err(system("a socket cannot be made non-blocking"))?;
    // The kernel gives what it is allowed to.
    let _less = socket.set_recv_buffer_size(KERNEL_BUFFER);
    let _less = socket.set_send_buffer_size(KERNEL_BUFFER);
    socket.bind(&address.into()).map_err(system("an address cannot be had"))?;
    Ok(socket)
}

/// A batch on its way out.
pub(super) struct Outbox {
    headers: MultiHeaders<SockaddrStorage>,
    messages: Vec<Vec<u8>>,
    /// Where each goes; all `None` if the socket is connected.
    to: Vec<Option<SockaddrStorage>>,
    filled: usize,
    /// Datagrams the kernel did not take.
    pub(super) unsent: u64,
}

impl Default for Outbox {
    fn default() -> Self {
        Self {
            headers: MultiHeaders::preallocate(BATCH, None),
            messages: (0..BATCH).map(|_| Vec::with_capacity(2048)).collect(),
            to: vec![None; BATCH],
            filled: 0,
            unsent: 0,
        }
    }
}

impl Outbox {
    /// Writes one datagram; a full batch is sent.
    pub(super) fn push(
        &mut self,
        socket: &Socket,
        to: Option<SockaddrStorage>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        if self.filled == BATCH {
            self.flush(socket);
        }
        if let (Some(message), Some(address)) =
            (self.messages.get_mut(self.filled), self.to.get_mut(self.filled))
        {
            message.clear();
            write(message);
            *address = to;
            self.filled += 1;
        }
    }

    /// Sends what has been written.
    pub(super) fn flush(&mut self, socket: &Socket) {
        let mut messages = self.messages.get(..self.filled).unwrap_or_default();
        let mut to = self.to.get(..self.filled).unwrap_or_default();
        while !messages.is_empty() {
            let mut left = messages.iter();
            let slices: [_; BATCH] =
                std::array::from_fn(|_| [IoSlice::new(left.next().map_or(&[], |message| message))]);
            let slices = slices.get(..messages.len()).unwrap_or_default();
            let (fd, flags) = (socket.as_raw_fd(), MsgFlags::empty());
            let sent = sendmmsg(fd, &mut self.headers, slices, to, [], flags);
            let done = match sent.map(Iterator::count) {
                Ok(count) => count,
                Err(Errno::EINTR) => 0,
                Err(Errno::EAGAIN | Errno::ENOBUFS) => {
                    writable(socket);
                    0
                }
                // Nobody listens there, for one: what was sent earlier is complained about now.
                Err(_) => {
                    self.unsent += 1;
                    1
                }
            };
            messages = messages.get(done..).unwrap_or_default();
            to = to.get(done..).unwrap_or_default();
        }
        self.filled = 0;
    }
}

/// A batch that has come in.
pub(super) struct Inbox {
    headers: MultiHeaders<SockaddrStorage>,
    octets: Vec<u8>,
    /// Lengths and senders.
    arrivals: Vec<(usize, Option<SockaddrStorage>)>,
}

impl Default for Inbox {
    fn default() -> Self {
        Self {
            headers: MultiHeaders::preallocate(BATCH, None),
            octets: vec![0; BATCH * DATAGRAM],
            arrivals: Vec::with_capacity(BATCH),
        }
    }
}

impl Inbox {
    /// Takes what has come, at most one batch; how many there are.
    pub(super) fn take(&mut self, socket: &Socket) -> usize {
        self.arrivals.clear();
        let mut buffers = self.octets.chunks_exact_mut(DATAGRAM);
        let mut slices: [_; BATCH] =
            std::array::from_fn(|_| [IoSliceMut::new(buffers.next().unwrap_or_default())]);
        let (fd, flags) = (socket.as_raw_fd(), MsgFlags::MSG_DONTWAIT);
        let received = recvmmsg(fd, &mut self.headers, slices.iter_mut(), flags, None);
        // An error is an empty hand: EAGAIN, or the network's word about something sent.
        if let Ok(received) = received {
            self.arrivals.extend(received.map(|it| (it.bytes, it.address)));
        }
        self.arrivals.len()
    }

    /// What was taken last.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&[u8], Option<SockaddrStorage>)> {
        let octets = self.octets.chunks_exact(DATAGRAM);
        let taken = self.arrivals.iter().zip(octets);
        taken.filter_map(|((length, from), octets)| Some((octets.get(..*length)?, *from)))
    }
}

/// All phones behind one socket.
pub(super) struct Datagrams {
    socket: Socket,
    inbox: Inbox,
    outbox: Outbox,
}

impl Datagrams {
    /// Any port, connected to the server under test.
    pub(super) fn open(target: SocketAddr) -> Result<(Self, SocketAddr), LoadError> {
        let any = SocketAddr::new(target.ip(), 0);
        let socket = bind(any)?;
        socket.connect(&target.into()).map_err(system("a socket cannot be connected"))?;
        let local = socket.local_addr().map_err(system("a socket has no address"))?;
        let local = local.as_socket().unwrap_or(any);
        Ok((Self { socket, inbox: Inbox::default(), outbox: Outbox::default() }, local))
    }
}

impl Wire for Datagrams {
    fn send(&mut self, _user: u32, write: impl FnOnce(&mut Vec<u8>)) {
        self.outbox.push(&self.socket, None, write);
    }

    fn flush(&mut self) {
        self.outbox.flush(&self.socket);
    }

    fn receive(&mut self, patience: Duration, mut each: impl FnMut(&[u8])) {
        if !readable(&self.socket, patience) {
            return;
        }
        for _ in 0..BATCHES {
            let count = self.inbox.take(&self.socket);
            for (message, _) in self.inbox.iter() {
                each(message);
            }
            if count < BATCH {
                return;
            }
        }
    }

    fn faults(&self) -> Faults {
        Faults { unsent: self.outbox.unsent, closed: 0 }
    }
}
