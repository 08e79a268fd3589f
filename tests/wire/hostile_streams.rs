//! Streams that are half open, slow, deaf or no SIP at all: each is closed and counted, and
//! neighbours notice nothing (Q4).

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use socket2::{Domain, Protocol, Socket, Type};

use crate::harness::{
    Door, LOCALHOST, Memory, Neighbours, Server, Setup, free, mib, pause, register_with, soon,
    source,
};

const SLOW_MESSAGE: &str = "frontdoor_net_closed_slow_message_total";
const UNFRAMED: &str = "frontdoor_net_closed_unframed_total";

/// What a connection that holds half a message may cost.
const OCTETS_PER_CONNECTION: u64 = 12 * 1024;

fn door() -> (Server, Door) {
    let server = Server::start("ucs1", free(LOCALHOST));
    let door = Setup::with([&server]).start();
    (server, door)
}

fn connect(from: IpAddr, door: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP)).unwrap();
    socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
    socket.connect(&door.into()).unwrap();
    socket.into()
}

/// Whether the other side has closed it, within this time.
fn is_closed(stream: &mut TcpStream, patience: Duration) -> bool {
    stream.set_read_timeout(Some(patience)).unwrap();
    let mut answer = [0; 4_096];
    loop {
        match stream.read(&mut answer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn ten_thousand_half_open_connections_hold_nobody_up_and_are_closed_in_time() {
    const EACH: u64 = 2_000;
    const SOURCES: u64 = 5;
    // The door raises its own limit; this end of the connections is ours.
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    assert!(hard > EACH * SOURCES + 200, "{hard} descriptors are too few for this test");

    let (_server, door) = door();
    let mut neighbours = Neighbours::of(&door);
    let (memory, slow) = (Memory::of(&door), door.metric(SLOW_MESSAGE));
    let half = b"REGISTER sip:wire.example SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1;branch=z9";
    let mut held = Vec::new();
    for number in 0..SOURCES {
        for _ in 0..EACH {
            let mut stream = connect(source(10 + number as u8), door.phones);
            // One that the door has closed already is counted below.
            let _closed = stream.write_all(half);
            held.push(stream);
        }
        neighbours.are_served();
    }
    let shed = door.metric("frontdoor_net_connections_shed_total");
    let mut one_more = connect(source(10), door.phones);
    assert!(is_closed(&mut one_more, Duration::from_secs(5)), "2000 of one source, no more");
    assert_eq!(door.metric("frontdoor_net_connections_shed_total"), shed + 1);
    memory.is_bounded(&door, EACH * SOURCES * OCTETS_PER_CONNECTION);

    // Meanwhile one sends an octet at a time: that buys it nothing.
    let mut dribble = connect(source(30), door.phones);
    let mut octets = half.iter();
    let closed = soon("all are closed", || {
        if let Some(octet) = octets.next() {
            let _closed = dribble.write_all(&[*octet]);
            pause(Duration::from_secs(1));
        }
        neighbours.are_served();
        Some(door.metric(SLOW_MESSAGE) - slow).filter(|closed| *closed >= EACH * SOURCES)
    });
    assert!(closed <= EACH * SOURCES + 1, "{closed}");
    assert!(is_closed(&mut dribble, Duration::from_secs(15)), "an octet a second");
    soon("the slow one is counted", || {
        Some(door.metric(SLOW_MESSAGE) - slow).filter(|closed| *closed == EACH * SOURCES + 1)
    });
    assert_eq!(door.metric("frontdoor_connections"), 0);
    memory.is_bounded(&door, EACH * SOURCES * OCTETS_PER_CONNECTION);
}

#[test]
fn what_cannot_be_framed_ends_the_connection_at_once() {
    let (_server, door) = door();
    let mut neighbours = Neighbours::of(&door);
    let local = SocketAddr::new(source(66), 5060);
    let with = |lines: &[u8], body: &[u8]| register_with(local, "tcp", lines, body);
    let cases: [(&str, Vec<u8>); 8] = [
        ("garbage", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3]),
        ("a web browser", b"GET / HTTP/1.1\r\nHost: door\r\n\r\n".to_vec()),
        ("no Content-Length", with(b"", b"")),
        ("a negative Content-Length", with(b"Content-Length: -1\r\n", b"")),
        ("two Content-Lengths", with(b"Content-Length: 0\r\nContent-Length: 5\r\n", b"12345")),
        ("a body beyond all bounds", with(b"Content-Length: 100000000\r\n", b"")),
        ("100 000 Via elements", {
            let line = format!("Via: {}SIP/2.0/TCP h\r\n", "SIP/2.0/TCP h,".repeat(100_000));
            with(line.as_bytes(), b"")
        }),
        ("headers without an end", with(&b"X: y\r\n".repeat(100_000), b"")),
    ];
    let memory = Memory::of(&door);
    for (name, bytes) in &cases {
        let counted = door.metric(UNFRAMED);
        for _ in 0..50 {
            let mut stream = connect(source(66), door.phones);
            // The door may have seen enough before everything is sent.
            let _closed = stream.write_all(bytes);
            assert!(is_closed(&mut stream, Duration::from_secs(5)), "{name}");
        }
        assert_eq!(door.metric(UNFRAMED) - counted, 50, "{name}");
        neighbours.are_served();
    }
    memory.is_bounded(&door, mib(48));
}

#[test]
fn a_peer_that_never_reads_is_cut_off_before_it_costs_memory() {
    let (_server, door) = door();
    let mut neighbours = Neighbours::of(&door);
    let memory = Memory::of(&door);
    let options = "OPTIONS sip:door SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.66;branch=z9hG4bKdeaf\r\n\
                   From: <sip:a@h>;tag=1\r\nTo: <sip:b@h>\r\nCall-ID: deaf\r\nCSeq: 1 OPTIONS\r\n\
                   Content-Length: 0\r\n\r\n";
    let many = options.repeat(200);
    for _ in 0..5 {
        let counted = door.metric("frontdoor_net_closed_slow_reader_total");
        let mut deaf = connect(source(66), door.phones);
        deaf.set_write_timeout(Some(Duration::from_secs(15))).unwrap();
        let mut sent = 0;
        while deaf.write_all(many.as_bytes()).is_ok() {
            sent += many.len();
            assert!(sent < 200 << 20, "it is still heard after {sent} octets");
        }
        soon("it is cut off", || {
            Some(door.metric("frontdoor_net_closed_slow_reader_total")).filter(|it| *it > counted)
        });
        neighbours.are_served();
    }
    memory.is_bounded(&door, mib(48));
}
