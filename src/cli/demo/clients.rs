//! The thread of the simulated clients: a connection for each, all watched by one epoll.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, Socket, Type};

use crate::cli::demo::board::ClientBoard;
use crate::cli::demo::office::{Act, Office, Order};
use crate::load;
use crate::net::Clock;

/// Clients that log in for the first time at once.
const WINDOW: usize = 64;
/// Connections one system call tells of.
const BATCH: usize = 256;
/// Octets that are read at once.
const OCTETS: usize = 16 * 1024;
/// Octets that may wait for a door that does not read; beyond that the client hangs up.
const UNSENT_MAX: usize = 64 * 1024;
/// Longest sleep: somebody may want the clients to stop.
const IDLE: Duration = Duration::from_millis(100);
/// Files of the demo beside the clients' connections.
const OTHER_FILES: u64 = 256;

/// The running clients; they hang up when this is dropped.
#[derive(Debug)]
pub(super) struct Clients {
    hang_up: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Clients {
    /// Starts `count` clients that log in at `door`.
    pub(super) fn start(
        count: usize,
        door: SocketAddr,
        board: &Arc<ClientBoard>,
    ) -> io::Result<Self> {
        load::allow_files(count as u64 + OTHER_FILES).map_err(io::Error::other)?;
        let mut wire = Wire::new(count, door)?;
        let mut office = Office::new(count, WINDOW, Arc::clone(board));
        let hang_up = Arc::new(AtomicBool::new(false));
        let hung_up = Arc::clone(&hang_up);
        let thread = std::thread::Builder::new().name("clients".into()).spawn(move || {
            while !hung_up.load(Ordering::Relaxed) {
                wire.turn(&mut office);
            }
        })?;
        Ok(Self { hang_up, thread: Some(thread) })
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        self.hang_up.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the thread itself.
            let _panicked = thread.join();
        }
    }
}

/// All connections.
struct Wire {
    door: SocketAddr,
    epoll: Epoll,
    /// By client.
    connections: Vec<Option<Connection>>,
    events: Vec<EpollEvent>,
    octets: Box<[u8]>,
    orders: VecDeque<Order>,
}

struct Connection {
    stream: TcpStream,
    is_made: bool,
    /// What the kernel did not take yet.
    unsent: VecDeque<u8>,
}

impl Wire {
    fn new(count: usize, door: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            door,
            epoll: Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?,
            connections: std::iter::repeat_with(|| None).take(count).collect(),
            events: vec![EpollEvent::empty(); BATCH],
            octets: vec![0; OCTETS].into(),
            orders: VecDeque::new(),
        })
    }

    /// Does what is due, then waits for what comes next and takes that in.
    fn turn(&mut self, office: &mut Office) {
        office.poll(Clock.uptime(), &mut self.orders);
        self.carry_out(office);
        let wait = office.next().map_or(IDLE, |due| due.since(Clock.uptime()).min(IDLE));
        // Rounded up, so that nothing is looked for before it is due.
        let millis = u16::try_from(wait.as_micros().div_ceil(1_000)).unwrap_or(u16::MAX);
        let Ok(count) = self.epoll.wait(&mut self.events, EpollTimeout::from(millis)) else {
            return;
        };
        for place in 0..count {
            let Some(event) = self.events.get(place).copied() else { continue };
            let Ok(client) = usize::try_from(event.data()) else { continue };
            if !self.is_served(client, event.events(), office) {
                self.connections[client] = None;
                office.closed(Clock.uptime(), client);
            }
            self.carry_out(office);
        }
    }

    /// `false` once the connection has come to nothing, or has ended.
    fn is_served(&mut self, client: usize, flags: EpollFlags, office: &mut Office) -> bool {
        let Some(Some(connection)) = self.connections.get_mut(client) else { return true };
        if !connection.is_made {
            if !matches!(connection.stream.take_error(), Ok(None)) {
                return false;
            }
            connection.is_made = true;
            let watched = watch(&self.epoll, client, connection);
            office.connected(Clock.uptime(), client, &mut self.orders);
            return watched;
        }
        if flags.contains(EpollFlags::EPOLLOUT)
            && !(connection.flush() && watch(&self.epoll, client, connection))
        {
            return false;
        }
        if !flags.intersects(EpollFlags::EPOLLIN | EpollFlags::EPOLLHUP | EpollFlags::EPOLLERR) {
            return true;
        }
        match connection.stream.read(&mut self.octets) {
            Ok(0) => false,
            Ok(length) => {
                let octets = self.octets.get(..length).unwrap_or_default();
                office.receive(Clock.uptime(), client, octets, &mut self.orders);
                true
            }
            Err(error) => is_patience_wanted(&error),
        }
    }

    fn carry_out(&mut self, office: &mut Office) {
        while let Some(Order { client, act }) = self.orders.pop_front() {
            let Some(place) = self.connections.get_mut(client) else { continue };
            let is_well = match act {
                Act::Connect => match connect(self.door, &self.epoll, client) {
                    Ok(connection) => {
                        *place = Some(connection);
                        true
                    }
                    Err(_) => false,
                },
                Act::Send(bytes) => place.as_mut().is_none_or(|connection| {
                    connection.send(&bytes) && watch(&self.epoll, client, connection)
                }),
                Act::HangUp => {
                    *place = None;
                    true
                }
            };
            if !is_well {
                *place = None;
                office.closed(Clock.uptime(), client);
            }
        }
    }
}

impl Connection {
    /// `false` once the connection is lost, or the other side reads nothing.
    fn send(&mut self, bytes: &Bytes) -> bool {
        self.unsent.extend(bytes);
        self.flush() && self.unsent.len() <= UNSENT_MAX
    }

    fn flush(&mut self) -> bool {
        while !self.unsent.is_empty() {
            let (first, _) = self.unsent.as_slices();
            match self.stream.write(first) {
                Ok(sent) => drop(self.unsent.drain(..sent)),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return is_patience_wanted(&error),
            }
        }
        true
    }
}

/// Has epoll tell of a connection what is waited for; `false` if it cannot.
fn watch(epoll: &Epoll, client: usize, connection: &Connection) -> bool {
    let mut flags = EpollFlags::EPOLLIN;
    flags.set(EpollFlags::EPOLLOUT, !connection.is_made || !connection.unsent.is_empty());
    epoll.modify(&connection.stream, &mut EpollEvent::new(flags, client as u64)).is_ok()
}

fn connect(door: SocketAddr, epoll: &Epoll, client: usize) -> io::Result<Connection> {
    let socket = Socket::new(Domain::for_address(door), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_tcp_nodelay(true)?;
    match socket.connect(&door.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(nix::libc::EINPROGRESS) => {}
        Err(error) => return Err(error),
    }
    let stream = TcpStream::from(socket);
    epoll.add(&stream, EpollEvent::new(EpollFlags::EPOLLOUT, client as u64))?;
    Ok(Connection { stream, is_made: false, unsent: VecDeque::new() })
}

fn is_patience_wanted(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;
    use crate::cli::demo::board::Board;

    fn soon(what: impl Fn() -> bool) {
        let patient_until = Clock.uptime() + Duration::from_secs(10);
        while !what() {
            assert!(Clock.uptime() < patient_until);
            std::thread::park_timeout(Duration::from_millis(1));
        }
    }

    #[test]
    fn every_client_has_a_connection_says_something_and_notices_its_end() {
        let door = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let board = Arc::new(ClientBoard::new(3));
        let clients = Clients::start(3, door.local_addr().unwrap(), &board).unwrap();
        let mut streams: Vec<TcpStream> = (0..3).map(|_| door.accept().unwrap().0).collect();
        for stream in &mut streams {
            let mut first = [0; 1];
            stream.read_exact(&mut first).unwrap();
            assert!(matches!(first[0], 0xA1 | b'J'), "an invoke, in one of the two encodings");
        }
        assert!((0..3).all(|client| board.side(client).connections == 1));
        drop(streams);
        soon(|| Board::read(&board.closed) == 3);
        drop(clients);
    }

    #[test]
    fn a_door_that_is_not_there_is_noticed() {
        let nobody = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let board = Arc::new(ClientBoard::new(2));
        let clients = Clients::start(2, nobody, &board).unwrap();
        soon(|| Board::read(&board.closed) == 2);
        drop(clients);
        assert_eq!(board.side(0).connections, 0);
    }
}
