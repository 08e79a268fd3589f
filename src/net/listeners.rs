//! [`Listeners`]: where streams are accepted.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use nix::libc;
use smallvec::SmallVec;
use socket2::{Domain, Protocol, Socket, Type};

use crate::net::connection::Peer;
use crate::net::counters::Counters;
use crate::net::framing::{Protocol as Spoken, Security};
use crate::net::readiness::{Readiness, Wanted, Who};
use crate::now::Uptime;
use crate::sip::ListenerId;

/// Connections accepted from one listener before the others have their turn.
const BATCH: usize = 16;

/// Connections the kernel keeps for us while we are busy; it cuts it to `net.core.somaxconn`.
const BACKLOG: i32 = 4_096;

/// How long accepting rests when the system has no descriptor or memory for it.
const REST: Duration = Duration::from_millis(200);

/// What was accepted, and from whom.
pub(super) type Accepted = (TcpStream, Peer);

/// All listening sockets of streams.
#[derive(Default)]
pub(super) struct Listeners {
    sockets: Vec<Listener>,
    /// Until when nothing is accepted: what is missing is missing for all of them.
    rest: Option<Uptime>,
}

struct Listener {
    id: ListenerId,
    speaks: Spoken,
    security: Security,
    socket: TcpListener,
    local: SocketAddr,
}

impl Listeners {
    /// Listens on `address`; an IPv6 socket takes IPv6 only. Returns the bound address.
    pub(super) fn open(
        &mut self,
        (id, speaks, security): (ListenerId, Spoken, Security),
        address: SocketAddr,
        readiness: &Readiness,
    ) -> io::Result<SocketAddr> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_nonblocking(true)?;
        if address.is_ipv6() {
            socket.set_only_v6(true)?;
        }
        // Else a restart would have to wait until the old connections are forgotten.
        socket.set_reuse_address(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let socket = TcpListener::from(socket);
        let local = socket.local_addr()?;
        let place = u16::try_from(self.sockets.len()).map_err(io::Error::other)?;
        readiness.watch(&socket, Who::Listener(place), Wanted::Read)?;
        self.sockets.push(Listener { id, speaks, security, socket, local });
        Ok(local)
    }

    /// The bound address of a listener.
    pub(super) fn local_of(&self, id: ListenerId) -> Option<SocketAddr> {
        self.sockets.iter().find(|it| it.id == id).map(|it| it.local)
    }

    /// What is spoken at a listener.
    pub(super) fn speaks(&self, id: ListenerId) -> Option<Spoken> {
        self.sockets.iter().find(|it| it.id == id).map(|it| it.speaks)
    }

    /// Closes all of them.
    pub(super) fn close(&mut self) {
        self.sockets.clear();
        self.rest = None;
    }

    /// Until when accepting rests, if it does.
    pub(super) const fn rests_until(&self) -> Option<Uptime> {
        self.rest
    }

    /// Accepts up to [`BATCH`] connections of one listener.
    pub(super) fn accept(
        &mut self,
        place: u16,
        now: Uptime,
        readiness: &Readiness,
        counters: &mut Counters,
    ) -> SmallVec<[Accepted; BATCH]> {
        let mut accepted = SmallVec::new();
        // One that was told to be ready before accepting began to rest.
        if self.rest.is_some() {
            return accepted;
        }
        let Some(listener) = self.sockets.get(usize::from(place)) else { return accepted };
        for _ in 0..BATCH {
            match listener.socket.accept() {
                Ok((stream, remote)) => {
                    let Listener { id, speaks, security, .. } = *listener;
                    let peer = Peer { listener: id, remote, speaks, security, own: None };
                    accepted.push((stream, peer));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => {
                    counters.accept_failures += 1;
                    if is_exhaustion(&error) {
                        self.rest = Some(now + REST);
                        self.want(Wanted::Nothing, readiness);
                        break;
                    }
                }
            }
        }
        accepted
    }

    /// Goes on accepting, if it has rested for long enough.
    pub(super) fn go_on(&mut self, now: Uptime, readiness: &Readiness) {
        if self.rest.is_some_and(|until| until <= now) {
            self.rest = None;
            self.want(Wanted::Read, readiness);
        }
    }

    fn want(&self, wanted: Wanted, readiness: &Readiness) {
        for (place, listener) in (0..).zip(&self.sockets) {
            // It is watched, and nothing is allocated for a change: this does not fail.
            let _ = readiness.change(&listener.socket, Who::Listener(place), wanted);
        }
    }
}

/// Whether accepting again at once would only fail again; else it was that peer's trouble.
fn is_exhaustion(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_out_of_descriptors_is_told_from_a_peer_that_gave_up() {
        assert!(is_exhaustion(&io::Error::from_raw_os_error(libc::EMFILE)));
        assert!(!is_exhaustion(&io::Error::from_raw_os_error(libc::ECONNABORTED)));
    }
}
