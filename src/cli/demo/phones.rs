//! The thread of the simulated phones: a few dozen sockets, each with its [`Bank`].

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;

use bytes::Bytes;
use socket2::{Domain, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::oneshot;
use tokio::time::{Duration, sleep};

use crate::cli::demo::bank::{Bank, Send};
use crate::cli::demo::board::Board;
use crate::cli::demo::processes::News;
use crate::net::{self, Clock};

/// Sockets at most; each is an address the phones behind it share.
const SOCKETS: usize = 32;
/// First registrations under way at once, over all sockets.
const WINDOW: usize = 256;
/// Datagrams taken before a deadline is looked at again.
const BATCH: usize = 64;
/// A failover's burst of OPTIONS must fit.
const BUFFER_BYTES: usize = 4 << 20;
const DATAGRAM_MAX: usize = 65_536;
/// Longest sleep without a deadline.
const IDLE: Duration = Duration::from_secs(1);

/// The running phones; they hang up when this is dropped.
#[derive(Debug)]
pub(super) struct Phones {
    hang_up: Option<oneshot::Sender<()>>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Phones {
    /// Starts `count` phones that register at `door`. An interrupt (Ctrl-C) becomes news.
    pub(super) fn start(
        count: usize,
        door: SocketAddr,
        board: &Arc<Board>,
        news: SyncSender<News>,
    ) -> io::Result<Self> {
        let sockets = SOCKETS.min(count).max(1);
        let mut banks = Vec::new();
        for nth in 0..sockets {
            let (first, end) = (count * nth / sockets, count * (nth + 1) / sockets);
            let socket = open()?;
            let local = socket.local_addr()?;
            let window = WINDOW.div_ceil(sockets);
            let bank = Bank::new(local, door, first, end - first, window, Arc::clone(board));
            banks.push((socket, bank));
        }
        let (hang_up, hung_up) = oneshot::channel();
        let board = Arc::clone(board);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new().name("phones".into()).spawn(move || {
            runtime.block_on(serve(banks, &board, news, hung_up));
        })?;
        Ok(Self { hang_up: Some(hang_up), thread: Some(thread) })
    }
}

impl Drop for Phones {
    fn drop(&mut self) {
        drop(self.hang_up.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by the thread itself.
            let _panicked = thread.join();
        }
    }
}

async fn serve(
    banks: Vec<(std::net::UdpSocket, Bank)>,
    board: &Arc<Board>,
    news: SyncSender<News>,
    hung_up: oneshot::Receiver<()>,
) {
    for (socket, bank) in banks {
        // A socket that cannot be watched leaves its phones unregistered, which the report shows.
        if let Ok(socket) = UdpSocket::from_std(socket) {
            tokio::spawn(run(socket, bank, Arc::clone(board)));
        }
    }
    if let Ok(interrupted) = net::terminated() {
        tokio::spawn(async move {
            interrupted.await;
            // Whoever does not read news any more is stopping already.
            let _stopping = news.try_send(News::Interrupted);
        });
    }
    let _dropped = hung_up.await;
}

async fn run(socket: UdpSocket, mut bank: Bank, board: Arc<Board>) {
    let mut buffer = vec![0; DATAGRAM_MAX];
    let mut out: Vec<Send> = Vec::new();
    loop {
        bank.poll(Clock.uptime(), &mut out);
        flush(&socket, &mut out, &board);
        let wait = bank.next().map_or(IDLE, |due| due.since(Clock.uptime()).min(IDLE));
        tokio::select! {
            ready = socket.readable() => {
                if ready.is_err() {
                    return;
                }
                for _ in 0..BATCH {
                    let Ok((length, from)) = socket.try_recv_from(&mut buffer) else { break };
                    let datagram = buffer.get(..length).unwrap_or_default();
                    bank.receive(Clock.uptime(), from, Bytes::copy_from_slice(datagram), &mut out);
                }
            }
            () = sleep(wait) => {}
        }
    }
}

fn flush(socket: &UdpSocket, out: &mut Vec<Send>, board: &Board) {
    for Send { to, bytes } in out.drain(..) {
        if socket.try_send_to(&bytes, to).is_err() {
            Board::add(&board.unsent, 1);
        }
    }
}

fn open() -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None)?;
    // Less than wished still works: what does not fit is repeated.
    let _less = socket.set_recv_buffer_size(BUFFER_BYTES);
    let _less = socket.set_send_buffer_size(BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    Ok(socket.into())
}
