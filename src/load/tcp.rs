//! A connection for each user.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use memchr::memmem;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::load::plan::LoadError;
use crate::load::wire::{Faults, Wire, failed, readable};

/// How long a connection may take to be made.
const CONNECT: Duration = Duration::from_secs(10);
/// Connections looked at for each call of the system.
const EVENTS: usize = 256;
/// Read at once.
const OCTETS: usize = 8192;
/// The longest answer.
const ANSWER_MAX: usize = 64 * 1024;
/// Files of this process beside the connections.
const OTHER_FILES: u64 = 64;

/// All phones, each behind a connection of its own.
pub(super) struct Connections {
    epoll: Epoll,
    /// By user; `None` once it has ended.
    connections: Vec<Option<Connection>>,
    events: Vec<EpollEvent>,
    out: Vec<u8>,
    octets: Box<[u8]>,
    faults: Faults,
}

struct Connection {
    stream: TcpStream,
    /// The beginning of an answer whose end has not come.
    started: Vec<u8>,
}

impl Connections {
    /// Connects everybody, one after the other.
    pub(super) fn open(target: SocketAddr, users: u32) -> Result<Self, LoadError> {
        allow_files(u64::from(users) + OTHER_FILES)?;
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed("no epoll"))?;
        let mut connections = Vec::with_capacity(users as usize);
        for user in 0..users {
            let stream = connect(target).map_err(|why| LoadError::Connections {
                failed: users - user,
                wanted: users,
                why,
            })?;
            let event = EpollEvent::new(EpollFlags::EPOLLIN, user.into());
            epoll.add(&stream, event).map_err(failed("a connection cannot be watched"))?;
            connections.push(Some(Connection { stream, started: Vec::new() }));
        }
        Ok(Self {
            epoll,
            connections,
            events: vec![EpollEvent::empty(); EVENTS],
            out: Vec::with_capacity(2048),
            octets: vec![0; OCTETS].into(),
            faults: Faults::default(),
        })
    }
}

impl Wire for Connections {
    fn send(&mut self, user: u32, write: impl FnOnce(&mut Vec<u8>)) {
        self.out.clear();
        write(&mut self.out);
        let Some(place) = self.connections.get_mut(user as usize) else { return };
        // A phone has one request under way: what does not fit now does not fit at all.
        let sent = place.as_mut().is_some_and(|it| it.stream.write_all(&self.out).is_ok());
        if !sent {
            self.faults.unsent += 1;
            self.faults.closed += u64::from(place.take().is_some());
        }
    }

    fn flush(&mut self) {}

    fn receive(&mut self, patience: Duration, mut each: impl FnMut(&[u8])) {
        // epoll counts in milliseconds, ppoll in nanoseconds.
        if !readable(&self.epoll.0, patience) {
            return;
        }
        let Ok(count) = self.epoll.wait(&mut self.events, EpollTimeout::ZERO) else { return };
        for event in self.events.iter().take(count) {
            let Some(place) = self.connections.get_mut(event.data() as usize) else { continue };
            let Some(connection) = place else { continue };
            if !connection.read(&mut self.octets, &mut each) {
                *place = None;
                self.faults.closed += 1;
            }
        }
    }

    fn faults(&self) -> Faults {
        self.faults
    }
}

impl Connection {
    /// Takes what is there; `false` once the stream has ended, or makes no sense.
    fn read(&mut self, octets: &mut [u8], each: &mut impl FnMut(&[u8])) -> bool {
        let length = match self.stream.read(octets) {
            Ok(0) => return false,
            Ok(length) => length,
            Err(error) => {
                return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted);
            }
        };
        let fresh = octets.get(..length).unwrap_or_default();
        if self.started.is_empty() {
            let rest = cut(fresh, each);
            self.started.extend_from_slice(rest);
        } else {
            self.started.extend_from_slice(fresh);
            let left = cut(&self.started, each).len();
            self.started.drain(..self.started.len() - left);
        }
        self.started.len() <= ANSWER_MAX
    }
}

/// Hands over whole messages; what is left is the beginning of one.
fn cut<'o>(mut octets: &'o [u8], each: &mut impl FnMut(&[u8])) -> &'o [u8] {
    while let Some(head) = memmem::find(octets, b"\r\n\r\n") {
        let end = head + 4 + body_length(octets.get(..head + 4).unwrap_or_default());
        let Some((message, rest)) = octets.split_at_checked(end) else { break };
        each(message);
        octets = rest;
    }
    octets
}

/// What Content-Length says; nothing is nothing.
fn body_length(head: &[u8]) -> usize {
    let is_length = |line: &&[u8]| {
        let name = line.split(|octet| *octet == b':').next().unwrap_or_default().trim_ascii();
        name.eq_ignore_ascii_case(b"content-length") || name.eq_ignore_ascii_case(b"l")
    };
    let line = head.split(|octet| *octet == b'\n').find(is_length).unwrap_or_default();
    let digits = line.iter().filter(|octet| octet.is_ascii_digit()).take(9);
    digits.fold(0, |value, digit| value * 10 + usize::from(digit - b'0'))
}

fn connect(target: SocketAddr) -> std::io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&target, CONNECT)?;
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    Ok(stream)
}

/// So many files may be open in this process, and in what it starts from now on.
pub fn allow_files(count: u64) -> Result<(), LoadError> {
    let what = "so many files may not be open (ulimit -n)";
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed(what))?;
    if soft >= count {
        return Ok(());
    }
    setrlimit(Resource::RLIMIT_NOFILE, count, hard.max(count)).map_err(failed(what))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(octets: &[u8]) -> (Vec<Vec<u8>>, usize) {
        let mut messages = Vec::new();
        let left = cut(octets, &mut |message| messages.push(message.to_vec())).len();
        (messages, left)
    }

    #[test]
    fn a_stream_is_cut_into_messages() {
        let one = b"SIP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n".as_slice();
        let two = b"SIP/2.0 403 No\r\nl : 2\r\n\r\nhi".as_slice();
        let whole = [one, two, one].concat();
        assert_eq!(pieces(&whole), (vec![one.to_vec(), two.to_vec(), one.to_vec()], 0));
        assert_eq!(
            pieces(&whole[..one.len() + two.len() - 1]),
            (vec![one.to_vec()], two.len() - 1)
        );
        assert_eq!(pieces(&one[..10]), (vec![], 10));
    }
}
