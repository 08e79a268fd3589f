//! The REGISTER all phones send: written once, then copied and patched in place.

use std::net::SocketAddr;

use memchr::memmem;

use crate::load::plan::Plan;
use crate::sip::Transport;

/// Names a transaction in its branch, so that an answer finds it without a look-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ticket {
    /// Where it is kept.
    pub(super) slot: u32,
    /// Which of those that were kept there.
    pub(super) generation: u32,
}

/// RFC 3261's magic cookie and ours.
const BRANCH: &[u8] = b"z9hG4bKload";

// What is patched, each of its final width.
const USER: &str = "\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}\u{1}";
const TICKET: &str =
    "\u{2}\u{2}\u{2}\u{2}\u{2}\u{2}\u{2}\u{2}\u{2}\u{2}\u{2}\u{2}\u{2}\u{2}\u{2}\u{2}";
const CSEQ: &str = "\u{3}\u{3}\u{3}\u{3}\u{3}\u{3}\u{3}\u{3}\u{3}";

/// The message and where what differs stands.
#[derive(Debug)]
pub(super) struct Script {
    text: Vec<u8>,
    users: Vec<usize>,
    ticket: usize,
    cseq: usize,
}

impl Script {
    /// `local` is what phones call themselves; `run` tells this run's Call-IDs from others'.
    pub(super) fn new(plan: &Plan, local: SocketAddr, run: u64) -> Self {
        let (via, uri) = match plan.transport {
            Transport::Tcp => ("TCP", ";transport=tcp"),
            Transport::Udp => ("UDP", ""),
        };
        let (domain, expires) = (&plan.domain, plan.expires);
        let branch = String::from_utf8_lossy(BRANCH);
        let text = format!(
            "REGISTER sip:{domain} SIP/2.0\r\n\
             Via: SIP/2.0/{via} {local};rport;branch={branch}{TICKET}\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:u{USER}@{domain}>;tag=f{USER}\r\n\
             To: <sip:u{USER}@{domain}>\r\n\
             Call-ID: {run:016x}-{USER}@phones.invalid\r\n\
             CSeq: {CSEQ} REGISTER\r\n\
             Contact: <sip:u{USER}@{local}{uri}>;expires={expires}\r\n\
             Supported: path, gruu\r\n\
             User-Agent: load\r\n\
             Expires: {expires}\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let text = text.into_bytes();
        let find = |what: &str| memmem::find_iter(&text, what).collect::<Vec<usize>>();
        let first = |what| find(what).first().copied().unwrap_or_default();
        Self { users: find(USER), ticket: first(TICKET), cseq: first(CSEQ), text }
    }

    /// Appends one user's REGISTER.
    pub(super) fn write(&self, out: &mut Vec<u8>, user: u32, ticket: Ticket, cseq: u32) {
        let start = out.len();
        out.extend_from_slice(&self.text);
        let Some(message) = out.get_mut(start..) else { return };
        let mut digits = [b'0'; USER.len()];
        write_decimal(&mut digits, user);
        for &offset in &self.users {
            patch(message, offset, &digits);
        }
        patch(message, self.ticket, &hex(ticket.slot));
        patch(message, self.ticket + 8, &hex(ticket.generation));
        let mut digits = [b'0'; CSEQ.len()];
        write_decimal(&mut digits, cseq);
        patch(message, self.cseq, &digits);
    }

    /// Octets of each message.
    pub(super) fn len(&self) -> usize {
        self.text.len()
    }
}

/// The status of an answer, and whose it is; `None` for anything else.
pub(super) fn understand(message: &[u8], branch: &memmem::Finder<'_>) -> Option<(u16, Ticket)> {
    let status = message.strip_prefix(b"SIP/2.0 ")?.get(..3)?;
    let status = status.iter().try_fold(0_u16, |status, digit| {
        digit.is_ascii_digit().then(|| status * 10 + u16::from(digit - b'0'))
    })?;
    let after = branch.find(message)? + BRANCH.len();
    let slot = unhex(message.get(after..after + 8)?)?;
    let generation = unhex(message.get(after + 8..after + 16)?)?;
    Some((status, Ticket { slot, generation }))
}

/// Finds our branches.
pub(super) fn finder() -> memmem::Finder<'static> {
    memmem::Finder::new(BRANCH)
}

/// The seconds of a Retry-After, if there is one.
pub(super) fn retry_after(message: &[u8]) -> Option<u64> {
    let name = b"\r\nretry-after:";
    let start = message.windows(name.len()).position(|it| it.eq_ignore_ascii_case(name))?;
    let value = message.get(start + name.len()..)?.trim_ascii_start();
    let digits = value.iter().take(9).take_while(|it| it.is_ascii_digit());
    Some(digits.fold(0, |value, digit| value * 10 + u64::from(digit - b'0')))
}

fn patch(message: &mut [u8], offset: usize, what: &[u8]) {
    if let Some(place) = message.get_mut(offset..offset + what.len()) {
        place.copy_from_slice(what);
    }
}

fn write_decimal(out: &mut [u8], mut value: u32) {
    for digit in out.iter_mut().rev() {
        *digit = b'0' + (value % 10) as u8;
        value /= 10;
    }
}

fn hex(value: u32) -> [u8; 8] {
    let mut out = [b'0'; 8];
    for (digit, shift) in out.iter_mut().rev().zip((0..).step_by(4)) {
        let nibble = ((value >> shift) & 15) as u8;
        *digit = if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 };
    }
    out
}

fn unhex(digits: &[u8]) -> Option<u32> {
    digits
        .iter()
        .try_fold(0_u32, |value, &digit| Some(value << 4 | char::from(digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::sip::{HeaderName, Message};

    #[test]
    fn a_phones_message_is_sip_and_its_own() {
        let plan = Plan::new("127.0.0.1:5060".parse().unwrap());
        let script = Script::new(&plan, "127.0.0.1:4000".parse().unwrap(), 7);
        let mut out = Vec::new();
        script.write(&mut out, 42, Ticket { slot: 0xabc, generation: 0xdef0_0001 }, 1234);
        assert_eq!(out.len(), script.len());
        assert!(out.iter().all(|octet| *octet > 3), "something was not patched");
        let message = Message::parse(Bytes::from(out)).unwrap();
        let value = |name| message.lines(name).next().unwrap();
        assert_eq!(value(HeaderName::To), b"<sip:u0000042@example.com>");
        assert_eq!(value(HeaderName::CSeq), b"000001234 REGISTER");
        assert_eq!(value(HeaderName::CallId), b"0000000000000007-0000042@phones.invalid");
        assert_eq!(value(HeaderName::Contact), b"<sip:u0000042@127.0.0.1:4000>;expires=3600");
    }

    #[test]
    fn an_answer_finds_its_transaction() {
        let ticket = Ticket { slot: 0xabc, generation: 0xdef0_0001 };
        let answer = b"SIP/2.0 503 Busy\r\nVia: SIP/2.0/UDP 127.0.0.1:1;branch=z9hG4bKload00000abcdef00001\r\nRetry-after:  17\r\n\r\n";
        assert_eq!(understand(answer, &finder()), Some((503, ticket)));
        assert_eq!(retry_after(answer), Some(17));
        assert_eq!(understand(b"SIP/2.0 2x0 OK\r\n", &finder()), None);
        assert_eq!(understand(b"OPTIONS sip:a SIP/2.0\r\n", &finder()), None);
        assert_eq!(
            understand(b"SIP/2.0 200 OK\r\nVia: x;branch=z9hG4bKload0000\r\n", &finder()),
            None
        );
        assert_eq!(retry_after(b"SIP/2.0 503 Busy\r\n\r\n"), None);
    }
}
