//! One stream connection: a task that frames what comes and writes what is queued.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use crate::net::clock::Clock;
use crate::net::tcp::Limits;
use crate::sip::ConnectionId;
use crate::sip::framing::{Frame, Framer};

/// Octets asked of the kernel at once: nearly every message fits, and clearing the room for them
/// costs next to nothing.
const READ_OCTETS: usize = 2 * 1024;

/// What a queued message costs beside its octets.
const ENTRY_OCTETS: usize = 64;

/// What a connection's task tells the hub.
#[derive(Debug)]
pub(super) enum Report {
    /// An outgoing connection is made.
    Made(Arc<TcpStream>),
    /// One whole message.
    Message(Bytes),
    /// A ping was answered.
    Pinged,
    /// Nothing more comes from this connection.
    Ended(End),
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// The peer said goodbye, or the hub did.
    Finished,
    /// The peer's host refused or reset it.
    Refused,
    /// The network or this machine failed it.
    Failed,
    /// Nothing came for too long.
    Idle,
    /// A message took too long to complete.
    SlowMessage,
    /// The peer did not read.
    SlowReader,
    /// Not framed SIP.
    Unframed,
}

impl End {
    fn of(error: &io::Error) -> Self {
        // EPIPE is how a reset shows after the peer had closed its half.
        let refused = matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::BrokenPipe
        );
        if refused { Self::Refused } else { Self::Failed }
    }
}

/// The hub's end of a connection's outbound queue, bounded by octets.
#[derive(Debug)]
pub(super) struct Outbound {
    queue: mpsc::UnboundedSender<Bytes>,
    octets: Arc<AtomicUsize>,
    limit: usize,
}

/// The connection's end of it.
#[derive(Debug)]
pub(super) struct Queued {
    queue: mpsc::UnboundedReceiver<Bytes>,
    /// For answers to pings; weak, so that the queue ends when the hub lets go.
    pong: mpsc::WeakUnboundedSender<Bytes>,
    octets: Arc<AtomicUsize>,
    limit: usize,
}

/// A queue of at most `limit` octets.
pub(super) fn outbound(limit: usize) -> (Outbound, Queued) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let octets = Arc::new(AtomicUsize::new(0));
    let pong = sender.downgrade();
    let queued = Queued { queue: receiver, pong, octets: Arc::clone(&octets), limit };
    (Outbound { queue: sender, octets, limit }, queued)
}

impl Outbound {
    /// Queues a message; `false` if there is no room.
    pub(super) fn push(&self, bytes: Bytes) -> bool {
        let cost = bytes.len() + ENTRY_OCTETS;
        let before = self.octets.load(Ordering::Relaxed);
        // One message always fits into an empty queue.
        if before > 0 && before + cost > self.limit {
            return false;
        }
        self.octets.fetch_add(cost, Ordering::Relaxed);
        // A task that has ended reports so by itself.
        let _ = self.queue.send(bytes);
        true
    }

    /// Whether everything has been handed to the kernel.
    pub(super) fn is_empty(&self) -> bool {
        self.octets.load(Ordering::Relaxed) == 0
    }
}

/// A connection's link to the hub.
pub(super) struct Link {
    /// Its name.
    pub(super) id: ConnectionId,
    /// Where reports go; waits while the core is busy, and so the peer waits.
    pub(super) inbox: mpsc::Sender<(ConnectionId, Report)>,
    /// What to write.
    pub(super) queued: Queued,
    /// How patient to be.
    pub(super) limits: Limits,
}

/// Serves an accepted connection to its end.
pub(super) async fn accepted(stream: Arc<TcpStream>, mut link: Link) {
    let first = link.limits.first_message;
    let end = serve(&stream, &mut link, first).await;
    link.report(Report::Ended(end)).await;
}

/// Connects from `local` (any port of it) to `remote` and serves that connection to its end.
pub(super) async fn made(local: SocketAddr, remote: SocketAddr, mut link: Link) {
    let end = match connect(local, remote, link.limits.connect).await {
        Ok(stream) => {
            let stream = Arc::new(stream);
            link.report(Report::Made(Arc::clone(&stream))).await;
            let first = link.limits.idle;
            serve(&stream, &mut link, first).await
        }
        Err(end) => end,
    };
    link.report(Report::Ended(end)).await;
}

impl Link {
    async fn report(&self, report: Report) {
        // Without hub the process is stopping.
        let _ = self.inbox.send((self.id, report)).await;
    }
}

async fn connect(
    local: SocketAddr,
    remote: SocketAddr,
    patience: Duration,
) -> Result<TcpStream, End> {
    let attempt = async {
        let socket = if remote.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if !local.ip().is_unspecified() {
            socket.bind(SocketAddr::new(local.ip(), 0))?;
        }
        socket.connect(remote).await
    };
    match timeout(patience, attempt).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(End::of(&error)),
        Err(_) => Err(End::Failed),
    }
}

/// Reads and writes until one of both ends. `first` is the patience with the first message.
async fn serve(stream: &TcpStream, link: &mut Link, first: Duration) -> End {
    prepare(stream, &link.limits);
    let Link { id, inbox, queued, limits } = link;
    let Queued { queue, pong, octets, limit } = queued;
    let pong = Pong { queue: pong, octets, limit: *limit };
    tokio::select! {
        end = read(stream, (*id, inbox), pong, limits, first) => end,
        end = write(stream, queue, octets, limits.write) => end,
    }
}

/// Options that only make a dead peer known sooner: a system without them is no reason to refuse.
fn prepare(stream: &TcpStream, limits: &Limits) {
    let _ = stream.set_nodelay(true);
    let socket = SockRef::from(stream);
    let probe = limits.keep_alive / 6;
    let keep_alive = TcpKeepalive::new()
        .with_time(limits.keep_alive)
        .with_interval(probe.max(Duration::from_secs(1)))
        .with_retries(3);
    let _ = socket.set_tcp_keepalive(&keep_alive);
    let _ = socket.set_tcp_user_timeout(Some(limits.write));
}

/// Where the answer to a ping goes.
struct Pong<'a> {
    queue: &'a mpsc::WeakUnboundedSender<Bytes>,
    octets: &'a AtomicUsize,
    limit: usize,
}

impl Pong<'_> {
    /// Answers a ping, unless the peer does not read what it is sent anyway.
    fn answer(&self) {
        const CRLF: Bytes = Bytes::from_static(b"\r\n");
        let cost = CRLF.len() + ENTRY_OCTETS;
        if self.octets.load(Ordering::Relaxed) + cost > self.limit {
            return;
        }
        if let Some(queue) = self.queue.upgrade() {
            self.octets.fetch_add(cost, Ordering::Relaxed);
            let _ = queue.send(CRLF);
        }
    }
}

async fn read(
    stream: &TcpStream,
    (id, inbox): (ConnectionId, &mpsc::Sender<(ConnectionId, Report)>),
    pong: Pong<'_>,
    limits: &Limits,
    first: Duration,
) -> End {
    let mut framer = Framer::new(limits.framing);
    let mut patience = Patience::new(limits, first);
    let alarm = sleep_until(patience.until);
    tokio::pin!(alarm);
    loop {
        tokio::select! {
            ready = stream.readable() => if let Err(error) = ready {
                return End::of(&error);
            },
            () = &mut alarm => return patience.why,
        }
        match read_some(stream, &mut framer) {
            Ok(Some(0)) => return End::Finished,
            Ok(Some(_)) => {}
            Ok(None) => continue,
            Err(error) => return End::of(&error),
        }
        loop {
            let report = match framer.next() {
                Ok(Some(Frame::Message(message))) => {
                    patience.message_came();
                    Report::Message(message)
                }
                Ok(Some(Frame::Ping)) => {
                    patience.sign_of_life();
                    pong.answer();
                    Report::Pinged
                }
                Ok(Some(Frame::Pong)) => {
                    patience.sign_of_life();
                    continue;
                }
                Ok(None) => break,
                Err(_) => return End::Unframed,
            };
            if inbox.send((id, report)).await.is_err() {
                return End::Finished;
            }
        }
        if patience.waits(framer.buffered()) {
            alarm.as_mut().reset(patience.until);
        }
    }
}

/// Reads what is there; `None` if nothing is. Not async, so that idle connections hold no buffer.
fn read_some(stream: &TcpStream, framer: &mut Framer) -> io::Result<Option<usize>> {
    let mut buffer = [0; READ_OCTETS];
    match stream.try_read(&mut buffer) {
        Ok(octets) => {
            framer.push(buffer.get(..octets).unwrap_or_default());
            Ok(Some(octets))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

/// Until when the next sign of life is waited for, and what its absence means.
struct Patience<'a> {
    limits: &'a Limits,
    until: Instant,
    why: End,
    /// Nothing but pings so far: a connection that never says anything has no long life.
    silent: bool,
    /// Part of a message is there.
    partial: bool,
    renewed: bool,
}

impl<'a> Patience<'a> {
    fn new(limits: &'a Limits, first: Duration) -> Self {
        let until = Clock.after(first);
        Self { limits, until, why: End::Idle, silent: true, partial: false, renewed: false }
    }

    fn message_came(&mut self) {
        self.silent = false;
        self.partial = false;
        self.renewed = true;
    }

    fn sign_of_life(&mut self) {
        self.partial = false;
        self.renewed = !self.silent;
    }

    /// After a read: `true` if the deadline changed. An octet that completes nothing buys no time.
    fn waits(&mut self, buffered: usize) -> bool {
        if buffered > 0 && !self.partial {
            self.partial = true;
            self.renewed = false;
            let until = Clock.after(self.limits.message);
            // Whoever has not said anything yet keeps the earlier deadline of the two.
            if !self.silent || until < self.until {
                self.until = until;
            }
            self.why = End::SlowMessage;
            return true;
        }
        if buffered == 0 && self.renewed {
            self.renewed = false;
            self.until = Clock.after(self.limits.idle);
            self.why = End::Idle;
            return true;
        }
        false
    }
}

/// Hands a message to the kernel at once; what it does not take, which is all where the stream has
/// failed: whoever serves the stream notices and says so.
pub(super) fn write_now(stream: &TcpStream, bytes: Bytes) -> Option<Bytes> {
    match stream.try_write(&bytes) {
        Ok(octets) if octets >= bytes.len() => None,
        Ok(octets) => Some(bytes.slice(octets..)),
        Err(_) => Some(bytes),
    }
}

async fn write(
    stream: &TcpStream,
    queue: &mut mpsc::UnboundedReceiver<Bytes>,
    octets: &AtomicUsize,
    patience: Duration,
) -> End {
    while let Some(bytes) = queue.recv().await {
        match timeout(patience, write_all(stream, &bytes)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return End::of(&error),
            Err(_) => return End::SlowReader,
        }
        octets.fetch_sub(bytes.len() + ENTRY_OCTETS, Ordering::Relaxed);
    }
    End::Finished
}

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match stream.try_write(bytes) {
            Ok(octets) => bytes = bytes.get(octets..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.writable().await?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_queue_takes_no_more_but_one_message_always_fits() {
        let (outbound, _queued) = outbound(200);
        assert!(outbound.push(Bytes::from(vec![b'x'; 1_000])));
        assert!(!outbound.push(Bytes::from_static(b"x")));
    }

    #[test]
    fn a_reset_counts_as_the_word_of_the_peers_host() {
        for kind in [
            io::ErrorKind::ConnectionReset,
            io::ErrorKind::ConnectionRefused,
            io::ErrorKind::BrokenPipe,
        ] {
            assert_eq!(End::of(&kind.into()), End::Refused);
        }
        assert_eq!(End::of(&io::ErrorKind::HostUnreachable.into()), End::Failed);
        assert_eq!(End::of(&io::ErrorKind::TimedOut.into()), End::Failed);
    }

    #[test]
    fn an_octet_that_completes_nothing_buys_no_time() {
        let limits = Limits::default();
        let mut patience = Patience::new(&limits, limits.first_message);
        patience.message_came();
        assert!(patience.waits(1));
        let until = patience.until;
        assert!(!patience.waits(2));
        assert_eq!((patience.until, patience.why), (until, End::SlowMessage));
        patience.message_came();
        assert!(patience.waits(0));
        assert_eq!(patience.why, End::Idle);
        assert!(patience.until > until);
    }

    #[test]
    fn pings_alone_do_not_keep_a_connection_that_never_said_anything() {
        let limits = Limits::default();
        let mut patience = Patience::new(&limits, limits.first_message);
        patience.sign_of_life();
        assert!(!patience.waits(0));
    }
}
