//! Which streams there is something to do for: one epoll instance for all of them, inside the
//! runtime's own.
//!
//! The runtime would wake a task for each stream and clear its readiness by a read that finds
//! nothing. Here one system call tells of many streams, and each of them costs one read.

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::task::{Context, Poll};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::sip::ConnectionId;

/// Streams one system call tells of.
const BATCH: usize = 64;

/// Whose socket it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Who {
    /// A place in the list of listeners.
    Listener(u16),
    /// A connection, which may have ended meanwhile.
    Connection(ConnectionId),
}

/// What to tell of a socket. Its failure is always told, as both.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Nothing for now.
    Nothing,
    /// That it can be read, or accepted from.
    Read,
    /// That it can be written to: a connection is made, or is not.
    Write,
    /// Both.
    ReadAndWrite,
}

/// One socket with something to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ready {
    /// Whose.
    pub(super) who: Who,
    /// Reading finds something, if only the end.
    pub(super) readable: bool,
    /// Writing finds room, or a failure.
    pub(super) writable: bool,
}

/// All sockets that are waited for.
pub(super) struct Readiness {
    epoll: AsyncFd<Instance>,
    events: [EpollEvent; BATCH],
    /// Those of `events` that were told last and not taken yet.
    waiting: std::ops::Range<usize>,
}

struct Instance(Epoll);

impl AsRawFd for Instance {
    fn as_raw_fd(&self) -> RawFd {
        self.0.0.as_raw_fd()
    }
}

impl Readiness {
    /// Nobody is waited for. Needs a tokio runtime.
    pub(super) fn new() -> io::Result<Self> {
        let epoll = Instance(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?);
        #[expect(
            deprecated,
            reason = "its successor is unsafe: it wants a descriptor that stays open and the same \
                      for as long as it is registered, as this one does"
        )]
        let epoll = AsyncFd::with_interest(epoll, Interest::READABLE)?;
        Ok(Self { epoll, events: [EpollEvent::empty(); BATCH], waiting: 0..0 })
    }

    /// Waits for a socket from now on, until it is closed.
    pub(super) fn watch(&self, socket: impl AsFd, who: Who, wanted: Wanted) -> io::Result<()> {
        Ok(self.epoll.get_ref().0.add(socket, event(who, wanted))?)
    }

    /// Waits for something else from now on.
    pub(super) fn change(&self, socket: impl AsFd, who: Who, wanted: Wanted) -> io::Result<()> {
        Ok(self.epoll.get_ref().0.modify(socket, &mut event(who, wanted))?)
    }

    /// Whether there is one to take; else the task is woken when there is.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> bool {
        while self.waiting.is_empty() {
            let Poll::Ready(Ok(mut guard)) = self.epoll.poll_read_ready(cx) else { return false };
            match guard.get_inner().0.wait(&mut self.events, EpollTimeout::ZERO) {
                // What was told before is told again while it is so: nothing means nothing.
                Ok(0) => guard.clear_ready(),
                Ok(told) => self.waiting = 0..told,
                Err(Errno::EINTR) => {}
                Err(_) => guard.clear_ready(),
            }
        }
        true
    }

    /// Takes one. All that were told together are taken before any of them is told again, so
    /// nobody keeps the others waiting.
    pub(super) fn next(&mut self) -> Option<Ready> {
        let event = self.events.get(self.waiting.next()?)?;
        let flags = event.events();
        let failed = flags.intersects(EpollFlags::EPOLLERR | EpollFlags::EPOLLHUP);
        Some(Ready {
            who: Who::of(event.data()),
            readable: failed || flags.contains(EpollFlags::EPOLLIN),
            writable: failed || flags.contains(EpollFlags::EPOLLOUT),
        })
    }
}

impl Who {
    const fn name(self) -> u64 {
        match self {
            Self::Listener(place) => place as u64,
            Self::Connection(id) => id.0,
        }
    }

    fn of(name: u64) -> Self {
        match u16::try_from(name) {
            Ok(place) => Self::Listener(place),
            Err(_) => Self::Connection(ConnectionId(name)),
        }
    }
}

fn event(who: Who, wanted: Wanted) -> EpollEvent {
    let flags = match wanted {
        Wanted::Nothing => EpollFlags::empty(),
        Wanted::Read => EpollFlags::EPOLLIN,
        Wanted::Write => EpollFlags::EPOLLOUT,
        Wanted::ReadAndWrite => EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT,
    };
    EpollEvent::new(flags, who.name())
}
