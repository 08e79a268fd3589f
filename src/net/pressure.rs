//! How far a UDP socket's reader is behind: asked of the kernel only when there is reason to.

use std::io::IoSliceMut;
use std::os::fd::AsRawFd;
use std::time::{Duration, SystemTime};

use nix::sys::socket::ControlMessageOwned;
use nix::sys::socket::MsgFlags;
use nix::sys::socket::SockaddrStorage;
use nix::sys::socket::recvmsg;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt;
use nix::sys::time::TimeSpec;
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::net::clock::Clock;

/// What the kernel says of a socket's queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Pressure {
    /// How long its next datagram has waited.
    pub(super) waited: Duration,
    /// Datagrams the kernel had no room for, since the socket was opened (modulo 2³²).
    pub(super) dropped: u32,
}

/// Has the kernel note when each datagram came, and what it had no room for.
pub(super) fn watch(socket: &impl std::os::fd::AsFd) {
    // A kernel that cannot leaves the door without early warning, not without service.
    let _ = setsockopt(socket, sockopt::ReceiveTimestampns, &true);
    let _ = setsockopt(socket, sockopt::RxqOvfl, &1);
}

/// Looks at the next datagram without taking it; `None` if there is none.
pub(super) fn look(socket: &UdpSocket) -> Option<Pressure> {
    let peek = || Ok(peek(socket)?);
    socket.try_io(Interest::READABLE, peek).ok()
}

fn peek(socket: &UdpSocket) -> nix::Result<Pressure> {
    let mut payload = [0; 1];
    let mut iov = [IoSliceMut::new(&mut payload)];
    let mut control = nix::cmsg_space!(TimeSpec, u32);
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT;
    let next = recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut iov, Some(&mut control), flags)?;
    let mut pressure = Pressure::default();
    for message in next.cmsgs()? {
        if let ControlMessageOwned::ScmTimestampns(came) = message {
            let came = SystemTime::UNIX_EPOCH + Duration::from(came);
            // A wall clock that was set back meanwhile: not known.
            pressure.waited = Clock.now().wall.duration_since(came).unwrap_or_default();
        } else if let ControlMessageOwned::RxqOvfl(dropped) = message {
            pressure.dropped = dropped;
        }
    }
    Ok(pressure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_kernel_tells_how_long_a_datagram_has_waited_and_what_it_dropped() {
        let reader = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        socket2::SockRef::from(&reader).set_recv_buffer_size(4_096).unwrap();
        watch(&reader);
        reader.set_nonblocking(true).unwrap();
        let to = reader.local_addr().unwrap();
        let reader = UdpSocket::from_std(reader).unwrap();
        assert_eq!(look(&reader), None, "nothing waits");

        let writer = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let mut landing = [0; 2_000];
        // A kernel that nobody asked for the time before begins to note it a moment later.
        for _ in 0..100 {
            writer.send_to(b"x", to).await.unwrap();
            reader.readable().await.unwrap();
            tokio::time::sleep(Duration::from_millis(10)).await;
            let noted = look(&reader).unwrap().waited >= Duration::from_millis(10);
            while reader.try_recv(&mut landing).is_ok() {}
            if noted {
                break;
            }
        }
        for _ in 0..100 {
            writer.send_to(&[b'x'; 1_000], to).await.unwrap();
        }
        reader.readable().await.unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
        let seen = look(&reader).unwrap();
        assert!(seen.waited >= Duration::from_millis(30), "{seen:?}");
        assert!(seen.waited < Duration::from_secs(20), "{seen:?}");
        assert_eq!(look(&reader).unwrap().dropped, seen.dropped, "looking takes nothing");

        // The count rides on the datagrams that came after the loss.
        while reader.try_recv(&mut landing).is_ok() {}
        writer.send_to(b"x", to).await.unwrap();
        reader.readable().await.unwrap();
        let dropped = look(&reader).unwrap().dropped;
        assert!((1..100).contains(&dropped), "{dropped} of 100 had no room");
    }
}
