//! What hostile peers send, and how their neighbours fare meanwhile.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::harness::{Door, PATIENCE, Phones, Wish, register};

/// Until then a phone repeats itself (RFC 3261 §17.1.2.2, timer F): whoever is served by then was
/// served. How soon says more of this machine, which plays everybody, than of the door.
const TIMER_F: Duration = Duration::from_secs(32);

/// How long silence is listened to.
const SILENCE: Duration = Duration::from_millis(300);

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
        self.answer_within(SILENCE)
    }

    fn answer_within(&self, patience: Duration) -> Option<Vec<u8>> {
        self.socket.set_read_timeout(Some(patience)).unwrap();
        let mut buffer = vec![0; 65_536];
        let (octets, _) = self.socket.recv_from(&mut buffer).ok()?;
        buffer.truncate(octets);
        Some(buffer)
    }

    /// The status of the answer to this, which must come.
    pub(crate) fn ask(&self, bytes: &[u8]) -> Option<u16> {
        self.send(bytes);
        status_of(&self.answer_within(PATIENCE)?)
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
    /// What the first one has changed so far.
    changed: u32,
}

impl Neighbours {
    /// One of them is registered before anything happens.
    pub(crate) fn of(door: &Door) -> Self {
        let phones = Phones::at(SocketAddr::new(source(200), 0), door.phones);
        let neighbours = Self { phones, served: 1, changed: 0 };
        assert_eq!(neighbours.status_of(neighbours.first()), 200);
        neighbours
    }

    /// One that was never seen registers, and the first one refreshes.
    pub(crate) fn are_served(&mut self) {
        self.served += 1;
        let wishes = [register(&format!("good{}", self.served), 1), self.first()];
        for (wish, answer) in wishes.iter().zip(self.phones.ask(&wishes, TIMER_F)) {
            let status = answer.map(|answer| answer.status);
            assert_eq!(status, Some(200), "{}", wish.user);
        }
    }

    /// The one the door knows refreshes and is served.
    pub(crate) fn known_refreshes(&mut self) {
        self.served += 1;
        assert_eq!(self.status_of(self.first()), 200, "a refresh of a known phone");
    }

    /// The one the door knows changes what it says of itself, which its server must be told; whether
    /// it was served at once and not told to come back.
    pub(crate) fn known_changes(&mut self) -> bool {
        self.served += 1;
        self.changed += 1;
        let status = self.status_of(self.first());
        if status == 503 {
            self.changed -= 1;
            return false;
        }
        assert_eq!(status, 200, "a change of a known phone");
        true
    }

    fn first(&self) -> Wish {
        let params = format!(";changed={}", self.changed);
        Wish { params, ..register("good", self.served) }
    }

    fn status_of(&self, wish: Wish) -> u16 {
        let answer = self.phones.ask(&[wish], TIMER_F).pop().flatten();
        answer.unwrap_or_else(|| panic!("a good phone got no answer within {TIMER_F:?}")).status
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
