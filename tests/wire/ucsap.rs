//! Streams that speak UCSAP: those that clients make, and those that the core makes for them.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use frontdoor::net::{Limits, UcsapLimits};
use frontdoor::sip::{ConnectionId, Flow, ListenerId, Transport};
use frontdoor::ucsap::framing;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

use crate::support::{
    CLIENTS, Echo, Ours, V4, both, clients, leave, next_closed, next_rose, no_ledger, open_all,
    run, soon,
};

const INVOKE: &[u8] = b"\xA1\x06\x02\x01\x01\x02\x01\x0B";
const ENDLESS: &[u8] = b"\xA1\x80\x02\x01\x02\x02\x01\x05\x30\x80\x00\x00\x00\x00";
const JSON: &[u8] = b"J0000013{\"invoke\":{}}";

fn open(limits: Limits) -> Ours {
    open_all(&[both(V4), vec![clients()]].concat(), limits)
}

async fn client(ours: &Ours) -> TcpStream {
    let stream = TcpStream::connect(ours.local_addr(CLIENTS).unwrap()).await.unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// A client that has said something, and what it is known by.
async fn known_client(ours: &mut Ours) -> (TcpStream, Flow) {
    let mut stream = client(ours).await;
    stream.write_all(INVOKE).await.unwrap();
    let (flow, _) = next_rose(ours).await;
    (stream, flow)
}

/// The core's own connection of this number.
const fn own(number: u64, remote: SocketAddr) -> Flow {
    let connection = ConnectionId::own(number);
    Flow { listener: ListenerId::NONE, transport: Transport::Tcp, remote, connection }
}

async fn server() -> (TcpListener, SocketAddr) {
    let server = TcpListener::bind(V4).await.unwrap();
    let address = server.local_addr().unwrap();
    (server, address)
}

#[tokio::test]
async fn messages_are_whole_though_every_octet_comes_alone() {
    let mut ours = open(Limits::default());
    let mut stream = client(&ours).await;
    let writer = tokio::spawn(async move {
        for octet in [INVOKE, JSON, ENDLESS].concat() {
            stream.write_all(&[octet]).await.unwrap();
            sleep(Duration::from_millis(1)).await;
        }
        stream
    });
    let (flow, first) = next_rose(&mut ours).await;
    assert_eq!((flow.listener, first), (CLIENTS, INVOKE.to_vec()));
    assert_eq!(next_rose(&mut ours).await, (flow, JSON.to_vec()));
    assert_eq!(next_rose(&mut ours).await, (flow, ENDLESS.to_vec()));
    drop(writer.await.unwrap());
    assert_eq!(next_closed(&mut ours).await, (flow, false));
}

#[tokio::test]
async fn a_message_of_many_segments_is_one_message() {
    let mut ours = open(Limits::default());
    let mut stream = client(&ours).await;
    let large = [&b"J3000000{"[..], &vec![b' '; 2_999_999], INVOKE].concat();
    let writer = tokio::spawn(async move {
        stream.write_all(&large).await.unwrap();
        stream
    });
    assert_eq!(next_rose(&mut ours).await.1.len(), 3_000_008);
    assert_eq!(next_rose(&mut ours).await.1, INVOKE);
    drop(writer.await.unwrap());
}

#[tokio::test]
async fn whoever_does_not_speak_ucsap_or_lies_about_lengths_is_cut_off() {
    for said in [
        &b"OPTIONS sip:a SIP/2.0\r\n"[..],
        b"\x16\x03\x01\x02\x00",
        b"J00x0002{}",
        b"J-000002{}",
        b"J0000000{}",
        b"J9999999",
        b"\xA1\x84\x7F\xFF\xFF\xFF",
        b"\xA1\x88\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF",
        b"\xA1\x80\x04\x84\x7F\xFF\xFF\xFF",
        &[b"\xA1\x80", &b"\x30\x80".repeat(10_000)[..]].concat(),
    ] {
        let mut ours = open(Limits::default());
        let (mut stream, flow) = known_client(&mut ours).await;
        stream.write_all(said).await.unwrap();
        let cut_off = (next_closed(&mut ours).await.0, ours.counters().closed_unframed);
        assert_eq!(cut_off, (flow, 1), "{}", said[..8].escape_ascii());
    }
}

#[tokio::test]
async fn a_message_that_never_ends_has_its_time() {
    let limits = Limits { message: Duration::from_millis(300), ..Limits::default() };
    for said in [&b"J4000000{"[..], b"\xA1\x83\x3F\x00\x00xx", b"\xA1\x80\x05\x00", b"J0000"] {
        let mut ours = open(limits);
        let (mut stream, flow) = known_client(&mut ours).await;
        stream.write_all(said).await.unwrap();
        assert_eq!(next_closed(&mut ours).await, (flow, false));
        assert_eq!(ours.counters().closed_slow_message, 1);
    }
}

#[tokio::test]
async fn clients_have_bounds_of_their_own() {
    let ucsap = UcsapLimits {
        framing: framing::Limits { message: 100 },
        first_message: Duration::from_millis(200),
        idle: Duration::from_millis(400),
        ..UcsapLimits::default()
    };
    let mut ours = open(Limits { ucsap, ..Limits::default() });
    let _silent = client(&ours).await;
    next_closed(&mut ours).await;
    let (_quiet, flow) = known_client(&mut ours).await;
    assert_eq!(next_closed(&mut ours).await, (flow, false));
    assert_eq!(ours.counters().closed_idle, 2);
    let mut wordy = client(&ours).await;
    wordy.write_all(b"J0000099").await.unwrap();
    next_closed(&mut ours).await;
    assert_eq!(ours.counters().closed_unframed, 1);
}

#[tokio::test]
async fn a_client_that_never_reads_is_cut_off() {
    let mut ours = open(Limits::default());
    let (_deaf, flow) = known_client(&mut ours).await;
    let large = Bytes::from(vec![b'x'; 100_000]);
    for _ in 0..1_000 {
        ours.send(flow, large.clone());
        if ours.counters().closed_slow_reader > 0 {
            break;
        }
    }
    assert_eq!(next_closed(&mut ours).await, (flow, false));
    assert_eq!((ours.connections(), ours.counters().closed_slow_reader), (0, 1));
}

#[tokio::test]
async fn nobody_is_called_where_clients_come() {
    let mut ours = open(Limits::default());
    let (_server, remote) = server().await;
    let wish = Flow { listener: CLIENTS, connection: ConnectionId::NONE, ..own(1, remote) };
    ours.send(wish, Bytes::from_static(INVOKE));
    assert_eq!((ours.connections(), ours.counters().sends_without_connection), (0, 1));
}

#[tokio::test]
async fn each_name_is_a_connection_of_its_own() {
    // Also where nobody listens for streams.
    let mut ours = open_all(&both(V4)[..1], Limits::default());
    let (server, remote) = server().await;
    let mut streams = Vec::new();
    for number in [1, 2] {
        let flow = own(number, remote);
        ours.send(flow, Bytes::from_static(INVOKE));
        ours.send(flow, Bytes::from_static(JSON));
        let (mut stream, _) = soon("a connection", server.accept()).await.unwrap();
        leave(&mut ours).await;
        let mut received = vec![0; INVOKE.len() + JSON.len()];
        soon("both messages", stream.read_exact(&mut received)).await.unwrap();
        assert_eq!(received, [INVOKE, JSON].concat());
        streams.push((flow, stream));
    }
    assert_eq!((ours.connections(), ours.counters().connections_made), (2, 2));
    for (flow, mut stream) in streams {
        stream.write_all(ENDLESS).await.unwrap();
        assert_eq!(next_rose(&mut ours).await, (flow, ENDLESS.to_vec()));
        drop(stream);
        assert_eq!(next_closed(&mut ours).await, (flow, false));
        ours.send(flow, Bytes::from_static(INVOKE));
    }
    assert_eq!((ours.connections(), ours.counters().sends_without_connection), (0, 2));
}

#[tokio::test]
async fn a_connection_that_is_refused_or_never_made_is_told_by_its_name() {
    let mut ours = open(Limits { connect: Duration::from_millis(200), ..Limits::default() });
    let (gone, remote) = server().await;
    drop(gone);
    ours.send(own(7, remote), Bytes::from_static(INVOKE));
    assert_eq!(next_closed(&mut ours).await, (own(7, remote), true));
    for ended in [7, 6] {
        ours.send(own(ended, remote), Bytes::from_static(INVOKE));
    }
    let counters = ours.counters();
    assert_eq!((counters.connections_not_made, counters.sends_without_connection), (1, 2));

    // A network that answers nothing, and one that is not there.
    let full = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    full.bind(&V4.into()).unwrap();
    full.listen(0).unwrap();
    let silent = full.local_addr().unwrap().as_socket().unwrap();
    let _waiting = TcpStream::connect(silent).await.unwrap();
    ours.send(own(8, silent), Bytes::from_static(INVOKE));
    assert_eq!(next_closed(&mut ours).await, (own(8, silent), false));
    assert_eq!(ours.connections(), 0);
}

#[tokio::test]
async fn a_server_that_says_half_a_goodbye_or_nothing_at_all_is_left() {
    let ucsap = UcsapLimits { idle_made: Duration::from_millis(300), ..UcsapLimits::default() };
    let mut ours = open(Limits { ucsap, ..Limits::default() });
    let (server, remote) = server().await;
    ours.send(own(1, remote), Bytes::from_static(INVOKE));
    let (mut half, _) = soon("a connection", server.accept()).await.unwrap();
    half.write_all(INVOKE).await.unwrap();
    half.shutdown().await.unwrap();
    assert_eq!(next_rose(&mut ours).await.0, own(1, remote));
    assert_eq!(next_closed(&mut ours).await, (own(1, remote), false));
    ours.send(own(2, remote), Bytes::from_static(INVOKE));
    let _silent = soon("a connection", server.accept()).await.unwrap();
    assert_eq!(next_closed(&mut ours).await, (own(2, remote), false));
    assert_eq!(ours.counters().closed_idle, 1);
}

#[tokio::test]
async fn a_server_that_has_nothing_to_say_is_not_left() {
    let ucsap = UcsapLimits { idle: Duration::from_millis(100), ..UcsapLimits::default() };
    let mut ours = open(Limits { ucsap, ..Limits::default() });
    let (server, remote) = server().await;
    ours.send(own(1, remote), Bytes::from_static(INVOKE));
    let (mut quiet, _) = soon("a connection", server.accept()).await.unwrap();
    sleep(Duration::from_millis(400)).await;
    quiet.write_all(INVOKE).await.unwrap();
    assert_eq!(next_rose(&mut ours).await.0, own(1, remote));
    assert_eq!(ours.connections(), 1);
}

#[tokio::test]
async fn a_server_that_never_reads_is_left() {
    let mut ours = open(Limits { queue_made: 200_000, ..Limits::default() });
    let (server, remote) = server().await;
    ours.send(own(1, remote), Bytes::from_static(INVOKE));
    let _deaf = soon("a connection", server.accept()).await.unwrap();
    leave(&mut ours).await;
    let large = Bytes::from(vec![b'x'; 100_000]);
    for _ in 0..1_000 {
        ours.send(own(1, remote), large.clone());
        if ours.counters().closed_slow_reader > 0 {
            break;
        }
    }
    assert_eq!(next_closed(&mut ours).await, (own(1, remote), false));
    assert_eq!((ours.connections(), ours.counters().closed_slow_reader), (0, 1));
}

#[tokio::test]
async fn what_was_sent_before_a_close_arrives_and_what_is_said_after_it_is_not_heard() {
    let mut ours = open(Limits { queue_made: 8 << 20, ..Limits::default() });
    // One that was never there.
    ours.close(own(9, V4));
    let (mut stream, flow) = known_client(&mut ours).await;
    // More than the kernel holds, towards a peer that has said something nobody has read.
    let sent = Bytes::from(vec![b'x'; 900_000]);
    for _ in 0..8 {
        ours.send(flow, sent.slice(..100_000));
    }
    stream.write_all(JSON).await.unwrap();
    ours.close(flow);
    ours.close(flow);
    ours.send(flow, Bytes::from_static(INVOKE));
    assert_eq!(ours.counters().sends_without_connection, 1);
    let reading = tokio::spawn(async move {
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap();
        stream.write_all(INVOKE).await.unwrap();
        received.len()
    });
    while ours.connections() > 0 {
        leave(&mut ours).await;
    }
    assert_eq!(soon("everything", reading).await.unwrap(), 800_000);
    assert_eq!(ours.arrived, []);
    assert_eq!((ours.counters().closed_by_door, ours.counters().closed_slow_reader), (1, 0));
}

#[tokio::test]
async fn a_client_that_only_listens_any_more_gets_everything_before_the_close() {
    let mut ours = open(Limits::default());
    let (mut stream, flow) = known_client(&mut ours).await;
    stream.shutdown().await.unwrap();
    // More than the kernel holds, so that the goodbye is seen before it has left.
    ours.send(flow, Bytes::from(vec![b'x'; 20_000_000]));
    ours.close(flow);
    for _ in 0..10 {
        leave(&mut ours).await;
    }
    let reading = tokio::spawn(async move {
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap();
        received.len()
    });
    while ours.connections() > 0 {
        leave(&mut ours).await;
    }
    assert_eq!(soon("everything", reading).await.unwrap(), 20_000_000);
    assert_eq!((ours.arrived.len(), ours.counters().closed_slow_reader), (0, 0));
}

#[tokio::test]
async fn a_close_waits_for_nobody_for_ever() {
    let mut ours = open(Limits { write: Duration::from_millis(300), ..Limits::default() });
    let (_stays, stays_open) = known_client(&mut ours).await;
    let (_deaf, never_reads) = known_client(&mut ours).await;
    // One message always finds room.
    ours.send(never_reads, Bytes::from(vec![b'x'; 20_000_000]));
    ours.close(stays_open);
    ours.close(never_reads);
    soon("both ends", async {
        while ours.connections() > 0 {
            leave(&mut ours).await;
        }
    })
    .await;
    assert_eq!((ours.arrived.len(), ours.counters().closed_slow_reader), (0, 1));
}

#[tokio::test]
async fn a_connection_of_the_cores_own_is_closed_as_it_was_made() {
    let mut ours = open(Limits::default());
    let (server, remote) = server().await;
    ours.send(own(1, remote), Bytes::from_static(INVOKE));
    ours.close(own(1, remote));
    let (mut stream, _) = soon("a connection", server.accept()).await.unwrap();
    let reading = tokio::spawn(async move {
        let mut received = Vec::new();
        stream.read_to_end(&mut received).await.unwrap();
        received
    });
    while ours.connections() > 0 {
        leave(&mut ours).await;
    }
    assert_eq!(soon("the message", reading).await.unwrap(), INVOKE, "though it was still made");
    ours.send(own(1, remote), Bytes::from_static(INVOKE));
    assert_eq!((ours.connections(), ours.counters().sends_without_connection), (0, 1));
    assert_eq!(ours.arrived, []);
}

#[tokio::test]
async fn the_driver_carries_messages_of_clients_through_the_core() {
    let running = run(Echo::default(), no_ledger()).await;
    let mut stream = TcpStream::connect(running.clients).await.unwrap();
    for said in [INVOKE, JSON, ENDLESS] {
        stream.write_all(said).await.unwrap();
        let mut answer = vec![0; said.len()];
        soon("the echo", stream.read_exact(&mut answer)).await.unwrap();
        assert_eq!(answer, said);
    }
    soon("the end", running.stop()).await.unwrap();
}
