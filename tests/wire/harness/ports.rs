//! Addresses for listeners.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicU16, Ordering};

/// The loopback, each way it can be written.
pub(crate) const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// See [`LOCALHOST`].
pub(crate) const LOCALHOST6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// Below the kernel's own choice, so that no client's port takes the place of a listener that is
/// being restarted.
const FIRST: u16 = 12_000;
const COUNT: u16 = 18_000;

static TAKEN: AtomicU16 = AtomicU16::new(0);

/// An address where nobody listens, over UDP or TCP; each call gives another one.
pub(crate) fn free(ip: IpAddr) -> SocketAddr {
    let start = std::process::id().wrapping_mul(61) % u32::from(COUNT);
    let start = u16::try_from(start).unwrap();
    for _ in 0..COUNT {
        let offset = (start + TAKEN.fetch_add(1, Ordering::Relaxed) % COUNT) % COUNT;
        let address = SocketAddr::new(ip, FIRST + offset);
        if UdpSocket::bind(address).is_ok() && TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port is free on {ip}");
}
