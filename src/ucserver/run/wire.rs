//! The sockets: SIP over UDP and TCP, and the listener for HTTP.

use std::collections::HashMap;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedReadHalf;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::sip::framing::{Frame, Framer, Limits};
use crate::sip::{ConnectionId, Flow, ListenerId, Transport};
use crate::ucserver::run::http::{self, Question};
use crate::ucserver::run::{Listen, RunError};

/// Things from streams that may wait for the loop; then the streams wait.
const QUEUE: usize = 4096;

/// Datagrams taken before anything else gets a turn.
pub(super) const BATCH: usize = 256;

/// Streams at once; more are closed as they come.
const STREAMS: usize = 4096;

/// Messages that may wait for one stream; then it is too slow and is closed.
const WRITES: usize = 1024;

/// What a failover's burst needs; the kernel gives what it is allowed to.
const UDP_BUFFER_BYTES: usize = 8 << 20;

/// How long a peer may take to accept a connection.
const CONNECT: Duration = Duration::from_secs(5);

/// What the sockets have for the loop.
#[derive(Debug)]
pub(super) enum Arrived {
    /// Datagrams wait: see [`Wire::datagram`].
    Datagrams,
    /// A peer connected: see [`Wire::adopt`].
    Stream(TcpStream, SocketAddr),
    /// One message.
    Message { flow: Flow, message: Bytes },
    /// It ended.
    Closed { flow: Flow },
}

/// All sockets; dropping it closes them.
pub(super) struct Wire {
    udp: UdpSocket,
    tcp: TcpListener,
    sip: SocketAddr,
    health: Option<SocketAddr>,
    udp_buffer_bytes: usize,
    buffer: Vec<u8>,
    arrivals: mpsc::Sender<Arrived>,
    arrived: mpsc::Receiver<Arrived>,
    streams: HashMap<ConnectionId, Stream>,
    last_connection: u64,
    unsent: u64,
    tasks: JoinSet<()>,
}

struct Stream {
    remote: SocketAddr,
    writes: mpsc::Sender<Bytes>,
}

impl Wire {
    /// Opens everything; needs a running event loop.
    pub(super) fn open(
        listen: Listen,
        questions: mpsc::Sender<Question>,
    ) -> Result<Self, RunError> {
        let bind = |what, address| move |source| RunError::Bind { what, address, source };
        let tcp = listen_tcp(listen.sip).map_err(bind("SIP over TCP", listen.sip))?;
        let sip = tcp.local_addr()?;
        let (udp, udp_buffer_bytes) = listen_udp(sip).map_err(bind("SIP over UDP", sip))?;
        let (arrivals, arrived) = mpsc::channel(QUEUE);
        let mut tasks = JoinSet::new();
        let mut health = None;
        if let Some(address) = listen.health {
            let listener = listen_tcp(address).map_err(bind("the health document", address))?;
            health = Some(listener.local_addr()?);
            tasks.spawn(http::serve(listener, questions));
        }
        Ok(Self {
            udp,
            tcp,
            sip,
            health,
            udp_buffer_bytes,
            buffer: vec![0; 64 * 1024],
            arrivals,
            arrived,
            streams: HashMap::new(),
            last_connection: 0,
            unsent: 0,
            tasks,
        })
    }

    /// Waits for the next thing; for ever if there are no sockets.
    pub(super) async fn next(wire: Option<&mut Self>) -> Arrived {
        let Some(Self { udp, tcp, arrived, .. }) = wire else { return pending().await };
        tokio::select! {
            Some(arrived) = arrived.recv() => arrived,
            Ok(()) = udp.readable() => Arrived::Datagrams,
            (stream, remote) = accept(tcp) => Arrived::Stream(stream, remote),
        }
    }

    pub(super) const fn sip(&self) -> SocketAddr {
        self.sip
    }

    pub(super) const fn health(&self) -> Option<SocketAddr> {
        self.health
    }

    /// What the kernel gave.
    pub(super) const fn udp_buffer_bytes(&self) -> usize {
        self.udp_buffer_bytes
    }

    /// Messages that could not be handed to the kernel or a stream.
    pub(super) const fn unsent(&self) -> u64 {
        self.unsent
    }

    /// A datagram, if one waits.
    pub(super) fn datagram(&mut self) -> Option<(Flow, Bytes)> {
        let (length, remote) = self.udp.try_recv_from(&mut self.buffer).ok()?;
        let message = Bytes::copy_from_slice(self.buffer.get(..length)?);
        let listener = ListenerId(0);
        let connection = ConnectionId::NONE;
        Some((Flow { listener, transport: Transport::Udp, remote, connection }, message))
    }

    /// Sends on the flow's socket or stream; opens a stream for one without a connection.
    pub(super) fn send(&mut self, flow: Flow, bytes: Bytes) {
        let sent = match flow.transport {
            Transport::Udp => self.udp.try_send_to(&bytes, flow.remote).is_ok(),
            Transport::Tcp => match self.stream_for(flow) {
                Some(connection) => self.write(connection, bytes),
                None => false,
            },
        };
        self.unsent += u64::from(!sent);
    }

    /// Takes over a stream a peer has opened.
    pub(super) fn adopt(&mut self, stream: TcpStream, remote: SocketAddr) {
        if self.streams.len() >= STREAMS {
            return;
        }
        let (flow, writes) = self.enter(remote);
        self.tasks.spawn(converse(flow, flow, stream, self.arrivals.clone(), writes));
    }

    /// A stream has ended.
    pub(super) fn forget(&mut self, flow: Flow) {
        self.streams.remove(&flow.connection);
        // Tasks that have ended are let go.
        while self.tasks.try_join_next().is_some() {}
    }

    fn stream_for(&mut self, flow: Flow) -> Option<ConnectionId> {
        if flow.connection != ConnectionId::NONE {
            return Some(flow.connection);
        }
        let open = self.streams.iter().find(|(_, stream)| stream.remote == flow.remote);
        match open {
            Some((connection, _)) => Some(*connection),
            None if self.streams.len() >= STREAMS => None,
            None => {
                let (opened, writes) = self.enter(flow.remote);
                self.tasks.spawn(connect(flow, opened, self.arrivals.clone(), writes));
                Some(opened.connection)
            }
        }
    }

    /// Whether the stream takes `bytes`; one that is gone or too slow does not, and is closed.
    fn write(&mut self, connection: ConnectionId, bytes: Bytes) -> bool {
        let Some(stream) = self.streams.get(&connection) else { return false };
        let taken = stream.writes.try_send(bytes).is_ok();
        if !taken {
            self.streams.remove(&connection);
        }
        taken
    }

    fn enter(&mut self, remote: SocketAddr) -> (Flow, mpsc::Receiver<Bytes>) {
        self.last_connection += 1;
        let connection = ConnectionId(self.last_connection);
        let (writes, to_write) = mpsc::channel(WRITES);
        self.streams.insert(connection, Stream { remote, writes });
        let listener = ListenerId(0);
        (Flow { listener, transport: Transport::Tcp, remote, connection }, to_write)
    }
}

pub(super) async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        if let Ok(accepted) = listener.accept().await {
            return accepted;
        }
        // Out of descriptors, most likely: the kernel holds the peer until some are free.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn connect(
    wished: Flow,
    opened: Flow,
    arrivals: mpsc::Sender<Arrived>,
    writes: mpsc::Receiver<Bytes>,
) {
    match timeout(CONNECT, TcpStream::connect(opened.remote)).await {
        Ok(Ok(stream)) => converse(wished, opened, stream, arrivals, writes).await,
        Ok(Err(_)) | Err(_) => {
            drop(writes);
            close(wished, opened, &arrivals).await;
        }
    }
}

/// Reads and writes one stream until either end closes it.
async fn converse(
    wished: Flow,
    opened: Flow,
    stream: TcpStream,
    arrivals: mpsc::Sender<Arrived>,
    mut writes: mpsc::Receiver<Bytes>,
) {
    // Small messages that somebody waits for. If it cannot be had they are merely slower.
    let _ = stream.set_nodelay(true);
    let (reader, mut writer) = stream.into_split();
    let (pongs, mut to_pong) = mpsc::channel(1);
    let reading = read(opened, reader, &arrivals, pongs);
    let writing = async {
        loop {
            let bytes = tokio::select! {
                bytes = writes.recv() => match bytes {
                    Some(bytes) => bytes,
                    None => return,
                },
                Some(()) = to_pong.recv() => Bytes::from_static(b"\r\n"),
            };
            if writer.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = reading => {}
        () = writing => {}
    }
    drop(writes);
    close(wished, opened, &arrivals).await;
}

async fn read(
    flow: Flow,
    mut reader: OwnedReadHalf,
    arrivals: &mpsc::Sender<Arrived>,
    pongs: mpsc::Sender<()>,
) {
    let mut framer = Framer::new(Limits::default());
    let mut buffer = vec![0; 16 * 1024];
    loop {
        match framer.next() {
            Ok(Some(Frame::Message(message))) => {
                if arrivals.send(Arrived::Message { flow, message }).await.is_err() {
                    return;
                }
            }
            Ok(Some(Frame::Ping)) => {
                if pongs.send(()).await.is_err() {
                    return;
                }
            }
            Ok(Some(Frame::Pong)) => {}
            Ok(None) => match reader.read(&mut buffer).await {
                Ok(length) if length > 0 => framer.push(buffer.get(..length).unwrap_or_default()),
                Ok(_) | Err(_) => return,
            },
            Err(_) => return,
        }
    }
}

/// Tells the loop of the end, for the connection and for the wish it was opened for.
async fn close(wished: Flow, opened: Flow, arrivals: &mpsc::Sender<Arrived>) {
    // The loop itself has ended: nobody to tell.
    let _ = arrivals.send(Arrived::Closed { flow: opened }).await;
    if wished != opened {
        let _ = arrivals.send(Arrived::Closed { flow: wished }).await;
    }
}

pub(super) fn listen_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A server that restarts gets its port back while old connections linger.
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

fn listen_udp(address: SocketAddr) -> io::Result<(UdpSocket, usize)> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    // Less than wished still works; what there is, the line `ready` says.
    let _ = socket.set_recv_buffer_size(UDP_BUFFER_BYTES);
    let _ = socket.set_send_buffer_size(UDP_BUFFER_BYTES);
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    let bytes = socket.recv_buffer_size()?;
    Ok((UdpSocket::from_std(socket.into())?, bytes))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const ANY: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);
    const MESSAGE: &[u8] = b"SIP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nhi";

    fn open() -> Wire {
        let listen = Listen {
            sip: ANY,
            clients: None,
            web: None,
            health: None,
            push_to: None,
            until_stdin_ends: false,
        };
        Wire::open(listen, mpsc::channel(1).0).unwrap()
    }

    fn tcp(remote: SocketAddr) -> Flow {
        let listener = ListenerId(0);
        Flow { listener, transport: Transport::Tcp, remote, connection: ConnectionId::NONE }
    }

    /// The next thing, with streams taken over as they come.
    async fn next(wire: &mut Wire) -> Arrived {
        loop {
            match Wire::next(Some(wire)).await {
                Arrived::Stream(stream, remote) => wire.adopt(stream, remote),
                told @ (Arrived::Datagrams | Arrived::Message { .. } | Arrived::Closed { .. }) => {
                    return told;
                }
            }
        }
    }

    fn message(arrived: Arrived) -> Option<(Flow, Bytes)> {
        if let Arrived::Message { flow, message } = arrived { Some((flow, message)) } else { None }
    }

    fn closed(arrived: Arrived) -> Option<Flow> {
        if let Arrived::Closed { flow } = arrived { Some(flow) } else { None }
    }

    #[tokio::test]
    async fn a_datagram_comes_in_and_its_answer_goes_back() {
        let mut wire = open();
        let phone = UdpSocket::bind(ANY).await.unwrap();
        phone.send_to(b"one", wire.sip()).await.unwrap();
        assert!(matches!(next(&mut wire).await, Arrived::Datagrams));
        let (flow, message) = wire.datagram().unwrap();
        assert_eq!(&*message, b"one");
        assert_eq!(flow.remote, phone.local_addr().unwrap());
        assert!(wire.datagram().is_none());
        wire.send(flow, Bytes::from_static(b"two"));
        let mut buffer = [0; 16];
        assert_eq!(phone.recv(&mut buffer).await.unwrap(), 3);
    }

    #[tokio::test]
    async fn a_stream_is_cut_into_messages_and_its_end_is_told() {
        let mut wire = open();
        let mut phone = TcpStream::connect(wire.sip()).await.unwrap();
        let (first, rest) = MESSAGE.split_at(20);
        phone.write_all(first).await.unwrap();
        phone.write_all(rest).await.unwrap();
        phone.write_all(MESSAGE).await.unwrap();
        for _ in 0..2 {
            let (flow, message) = message(next(&mut wire).await).unwrap();
            assert_eq!(&*message, MESSAGE);
            wire.send(flow, Bytes::from_static(b"answer"));
        }
        let mut buffer = [0; 12];
        phone.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"answeranswer");
        drop(phone);
        let flow = closed(next(&mut wire).await).unwrap();
        wire.forget(flow);
        assert_eq!(wire.unsent(), 0);
        wire.send(flow, Bytes::from_static(b"too late"));
        assert_eq!(wire.unsent(), 1);
    }

    #[tokio::test]
    async fn a_keep_alive_is_answered() {
        let mut wire = open();
        let mut phone = TcpStream::connect(wire.sip()).await.unwrap();
        phone.write_all(b"\r\n\r\n").await.unwrap();
        let mut pong = [0; 2];
        tokio::select! {
            read = phone.read_exact(&mut pong) => assert_eq!(read.unwrap(), 2),
            arrived = next(&mut wire) => assert!(message(arrived).is_none(), "it is no message"),
        }
        assert_eq!(&pong, b"\r\n");
    }

    #[tokio::test]
    async fn a_stream_that_is_no_sip_is_closed() {
        let mut wire = open();
        let mut phone = TcpStream::connect(wire.sip()).await.unwrap();
        phone.write_all(b"\x16\x03\x01\x00\x00").await.unwrap();
        assert!(matches!(next(&mut wire).await, Arrived::Closed { .. }));
        assert_eq!(phone.read(&mut [0; 1]).await.ok(), Some(0));
    }

    #[tokio::test]
    async fn one_stream_is_opened_for_all_that_goes_to_a_peer() {
        let mut wire = open();
        let peer = TcpListener::bind(ANY).await.unwrap();
        let flow = tcp(peer.local_addr().unwrap());
        wire.send(flow, Bytes::from_static(b"a"));
        wire.send(flow, Bytes::from_static(b"b"));
        let (mut stream, _) = peer.accept().await.unwrap();
        let mut buffer = [0; 2];
        stream.read_exact(&mut buffer).await.unwrap();
        assert_eq!(&buffer, b"ab");
    }

    #[tokio::test]
    async fn a_refused_connection_is_told_with_the_flow_that_was_wished_for() {
        let mut wire = open();
        let nobody = TcpListener::bind(ANY).await.unwrap().local_addr().unwrap();
        wire.send(tcp(nobody), Bytes::from_static(b"a"));
        let mut told = Vec::new();
        while told.len() < 2 {
            let flow = closed(next(&mut wire).await).unwrap();
            wire.forget(flow);
            told.push(flow);
        }
        assert!(told.contains(&tcp(nobody)), "{told:?}");
        assert!(wire.streams.is_empty());
    }

    #[tokio::test]
    async fn a_wire_that_is_dropped_makes_the_kernel_refuse() {
        let wire = open();
        let address = wire.sip();
        drop(wire);
        let refused = TcpStream::connect(address).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let phone = UdpSocket::bind(ANY).await.unwrap();
        phone.connect(address).await.unwrap();
        phone.send(b"anybody?").await.unwrap();
        let refused = phone.recv(&mut [0; 1]).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
