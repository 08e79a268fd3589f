//! Servers that say 200 to everything: what stands behind a door or a proxy whose own cost is
//! measured. They keep nothing and understand as little as will do.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use memchr::memmem;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use serde::Serialize;
use socket2::Socket;

use crate::load::plan::LoadError;
use crate::load::udp::{BATCH, Inbox, Outbox, bind};
use crate::load::wire::system;

/// Sockets of one process.
const SERVERS_MAX: usize = 64;
/// How often it is looked whether it is to end.
const LOOK: Duration = Duration::from_millis(200);

/// What was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Answered {
    /// REGISTERs.
    pub registers: u64,
    /// OPTIONS.
    pub options: u64,
    /// Anything else, which gets no answer.
    pub others: u64,
}

/// Answers at these addresses of the loopback, over UDP, until told to stop. `ready` learns where:
/// port 0 is any.
pub fn answer(
    addresses: &[SocketAddr],
    ready: impl FnOnce(&[SocketAddr]),
    stop: impl Fn() -> bool,
) -> Result<Answered, LoadError> {
    if let Some(other) = addresses.iter().find(|it| !it.ip().is_loopback()) {
        return Err(LoadError::NotLoopback(*other));
    }
    if addresses.is_empty() || addresses.len() > SERVERS_MAX {
        return Err(LoadError::OutOfRange { what: "servers", max: SERVERS_MAX as u64 });
    }
    let mut servers = Vec::new();
    let mut bound = Vec::new();
    for address in addresses {
        let socket = bind(*address)?;
        let local = socket.local_addr().map_err(system("a socket has no address"))?;
        bound.push(local.as_socket().unwrap_or(*address));
        servers.push(socket);
    }
    ready(&bound);
    let (mut inbox, mut outbox) = (Inbox::default(), Outbox::default());
    let mut answered = Answered::default();
    while !stop() {
        let mut idle = true;
        for socket in &servers {
            idle &= inbox.take(socket) < BATCH;
            for (request, from) in inbox.iter() {
                let Some(kind) = kind_of(request, &mut answered) else { continue };
                outbox.push(socket, from, |out| write_answer(out, request, kind));
            }
            outbox.flush(socket);
        }
        if idle {
            wait(&servers);
        }
    }
    Ok(answered)
}

/// What these servers answer to a request; `None`: nothing.
pub fn answer_to(request: &[u8]) -> Option<Vec<u8>> {
    let kind = kind_of(request, &mut Answered::default())?;
    let mut out = Vec::with_capacity(request.len());
    write_answer(&mut out, request, kind);
    Some(out)
}

/// What is answered.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Register,
    Options,
}

fn kind_of(request: &[u8], answered: &mut Answered) -> Option<Kind> {
    if request.starts_with(b"REGISTER ") {
        answered.registers += 1;
        Some(Kind::Register)
    } else if request.starts_with(b"OPTIONS ") {
        answered.options += 1;
        Some(Kind::Options)
    } else {
        answered.others += 1;
        None
    }
}

/// A 200 with what RFC 3261 §8.2.6 wants copied, and the binding and its Path as they came: each
/// header line is told by its first octets, as the door and Kamailio write them.
fn write_answer(out: &mut Vec<u8>, request: &[u8], kind: Kind) {
    out.extend_from_slice(b"SIP/2.0 200 OK\r\n");
    let mut rest = request;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        let (line, after) = rest.split_at(end + 1);
        rest = after;
        match line {
            [b'\r', b'\n'] => break,
            [b'T', b'o', b':', ..] => {
                let line = line.trim_ascii_end();
                out.extend_from_slice(line);
                if memmem::find(line, b";tag=").is_none() {
                    out.extend_from_slice(b";tag=a");
                }
                out.extend_from_slice(b"\r\n");
            }
            [b'V', b'i', b'a', b':', ..]
            | [b'F', b'r', b'o', b'm', b':', ..]
            | [b'C', b'a', b'l', b'l', b'-', ..]
            | [b'C', b'S', b'e', b'q', b':', ..] => out.extend_from_slice(line),
            [b'C', b'o', b'n', b't', b'a', b'c', b't', b':', ..]
            | [b'P', b'a', b't', b'h', b':', ..]
            | [b'E', b'x', b'p', b'i', b'r', b'e', b's', b':', ..]
                if kind == Kind::Register =>
            {
                out.extend_from_slice(line);
            }
            _ => {}
        }
    }
    out.extend_from_slice(b"Content-Length: 0\r\n\r\n");
}

/// Until one of them has something.
fn wait(servers: &[Socket]) {
    let mut polled: Vec<PollFd<'_>> =
        servers.iter().map(|it| PollFd::new(it.as_fd(), PollFlags::POLLIN)).collect();
    let look = TimeSpec::from_duration(LOOK);
    // Whatever woke us: the sockets are looked at.
    let _whatever = ppoll(&mut polled, Some(look), None);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binding_and_the_path_come_back() {
        let request = b"REGISTER sip:x SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=b\r\nVia: c\r\n\
            From: <sip:u@x>;tag=1\r\nTo: <sip:u@x>\r\nCall-ID: i\r\nCSeq: 1 REGISTER\r\n\
            Contact: <sip:u@h>;expires=60\r\nPath: <sip:p;lr>\r\nUser-Agent: x\r\n\
            Content-Length: 0\r\n\r\n";
        let mut out = Vec::new();
        write_answer(&mut out, request, Kind::Register);
        let expected = "SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP a;branch=b\r\nVia: c\r\n\
            From: <sip:u@x>;tag=1\r\nTo: <sip:u@x>;tag=a\r\nCall-ID: i\r\nCSeq: 1 REGISTER\r\n\
            Contact: <sip:u@h>;expires=60\r\nPath: <sip:p;lr>\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(String::from_utf8_lossy(&out), expected);
    }
}
