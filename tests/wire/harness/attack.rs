//! What hostile peers send, and how their neighbours fare meanwhile.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::harness::{Door, Phones, Wish, now, register};

/// A good phone is served so soon, whatever others do.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(1);

/// A source of its own on the loopback.
pub(crate) fn source(number: u8) -> IpAddr {
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, number))
}

/// Somebody with a UDP socket and no manners.
pub(crate) struct Attacker {
    socket: UdpSocket,
    door: SocketAddr,
}

impl Attacker {
    pub(crate) fn at(source: IpAddr, door: SocketAddr) -> Self {
        let socket = UdpSocket::bind(SocketAddr::new(source, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        Self { socket, door }
    }

    pub(crate) fn local(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    pub(crate) fn send(&self, bytes: &[u8]) {
        self.socket.send_to(bytes, self.door).unwrap();
    }

    /// What comes next, if anything comes soon.
    pub(crate) fn answer(&self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 65_536];
        let (octets, _) = self.socket.recv_from(&mut buffer).ok()?;
        buffer.truncate(octets);
        Some(buffer)
    }

    /// The status of the answer to this.
    pub(crate) fn ask(&self, bytes: &[u8]) -> Option<u16> {
        self.send(bytes);
        status_of(&self.answer()?)
    }
}

/// The status of a response.
pub(crate) fn status_of(response: &[u8]) -> Option<u16> {
    let code = response.strip_prefix(b"SIP/2.0 ")?.get(..3)?;
    std::str::from_utf8(code).ok()?.parse().ok()
}

/// Good phones at an address of their own.
pub(crate) struct Neighbours {
    phones: Phones,
    served: u32,
}

impl Neighbours {
    /// One of them is registered before anything happens.
    pub(crate) fn of(door: &Door) -> Self {
        let phones = Phones::at(SocketAddr::new(source(200), 0), door.phones);
        phones.register(&["good".to_owned()]);
        Self { phones, served: 1 }
    }

    /// One that was never seen registers, and the first one refreshes: at once.
    pub(crate) fn are_served(&mut self) {
        self.served += 1;
        let fresh = register(&format!("good{}", self.served), 1);
        let refresh = register("good", self.served);
        self.are_answered(&[fresh, refresh]);
    }

    /// The one the door knows refreshes; whether it was served at once. It is never turned away.
    pub(crate) fn known_is_served(&mut self) -> bool {
        self.served += 1;
        let answer = self.phones.ask(&[register("good", self.served)], AT_ONCE).pop().flatten();
        let status = answer.map(|answer| answer.status);
        assert!(matches!(status, None | Some(200)), "{status:?}");
        status.is_some()
    }

    fn are_answered(&self, wishes: &[Wish]) {
        let asked = now();
        let answers = self.phones.ask(wishes, AT_ONCE);
        let took = now().since(asked);
        for (wish, answer) in wishes.iter().zip(answers) {
            let status = answer.map(|answer| answer.status);
            assert_eq!(status, Some(200), "{} after {took:?}", wish.user);
        }
    }
}

/// Holds a door's memory against a bound.
pub(crate) struct Memory {
    before: u64,
}

impl Memory {
    pub(crate) fn of(door: &Door) -> Self {
        Self { before: door.process().resident() }
    }

    /// It has not grown by more octets than this.
    pub(crate) fn is_bounded(&self, door: &Door, by: u64) {
        let after = door.process().resident();
        let grown = after.saturating_sub(self.before);
        assert!(grown <= by, "from {} to {after} octets: more than {by}", self.before);
    }
}

/// Mebibytes.
pub(crate) const fn mib(count: u64) -> u64 {
    count * 1024 * 1024
}

/// A REGISTER with these lines behind the usual ones, and this behind its empty line.
pub(crate) fn register_with(from: SocketAddr, user: &str, lines: &[u8], body: &[u8]) -> Vec<u8> {
    let mut text = format!(
        "REGISTER sip:wire.example SIP/2.0\r\n\
         Via: SIP/2.0/UDP {from};branch=z9hG4bK-{user};rport\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:{user}@wire.example>;tag=1\r\n\
         To: <sip:{user}@wire.example>\r\n\
         Call-ID: {user}@hostile\r\n\
         CSeq: 1 REGISTER\r\n\
         Expires: 300\r\n"
    )
    .into_bytes();
    text.extend_from_slice(lines);
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(body);
    text
}
