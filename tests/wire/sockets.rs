//! The sockets and the driver, against peers that behave and peers that do not.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use frontdoor::directory::record::{Record, Recorded};
use frontdoor::door::{
    Command, Done, Explanation, Filter, Input, Listed, Output, RebalancePlan, Refused,
    RelocationStatus, Stats, Status, UserStatus, WhatIf,
};
use frontdoor::net::{Arrival, Clock, Core, Ledger, Limits, Listen, Protocol, Security, Sockets};
use frontdoor::now::{Now, Uptime};
use frontdoor::sip::{ConnectionId, Flow, ListenerId, Transport};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc;
use tokio::time::sleep;

use crate::support::{
    Echo, Ours, TCP, UDP, V4, V6, arrival, flow_to, leave, message, next_closed, next_message,
    no_ledger, open, run, soon,
};

/// An address of the loopback where nobody listens.
async fn nobody(address: SocketAddr) -> SocketAddr {
    UdpSocket::bind(address).await.unwrap().local_addr().unwrap()
}

async fn unreachable(ours: &mut Ours) -> (SocketAddr, bool) {
    arrival(ours, "an ICMP error", |it| match it {
        Arrival::Unreachable { remote, transport: Transport::Udp, refused } => {
            Some((*remote, *refused))
        }
        _ => None,
    })
    .await
}

#[tokio::test]
async fn datagrams_go_both_ways_on_both_families() {
    for family in [V4, V6] {
        let mut sockets = open(family, Limits::default());
        let phone = UdpSocket::bind(family).await.unwrap();
        phone.send_to(&message("a"), sockets.local_addr(UDP).unwrap()).await.unwrap();

        let (flow, received) = next_message(&mut sockets).await;
        assert_eq!(flow, flow_to(Transport::Udp, phone.local_addr().unwrap()));
        assert_eq!(received, message("a"));

        sockets.send(flow, Bytes::from_static(b"SIP/2.0 200 OK\r\n\r\n"));
        sockets.hand_over();
        let mut answer = [0; 100];
        let octets = soon("the answer", phone.recv(&mut answer)).await.unwrap();
        assert_eq!(&answer[..octets], b"SIP/2.0 200 OK\r\n\r\n");
    }
}

#[tokio::test]
async fn the_largest_datagram_arrives_whole() {
    let mut sockets = open(V4, Limits::default());
    let phone = UdpSocket::bind(V4).await.unwrap();
    let large = vec![b'x'; 65_507];
    phone.send_to(&large, sockets.local_addr(UDP).unwrap()).await.unwrap();
    assert_eq!(next_message(&mut sockets).await.1, large);
}

#[tokio::test]
async fn a_host_that_refuses_a_datagram_is_heard_on_both_families() {
    for family in [V4, V6] {
        let mut sockets = open(family, Limits::default());
        let gone = nobody(family).await;
        sockets.send(flow_to(Transport::Udp, gone), Bytes::from(message("a")));
        assert_eq!(unreachable(&mut sockets).await, (gone, true));
    }
}

#[tokio::test]
async fn the_refusal_of_one_peer_does_not_cost_another_its_datagram() {
    let mut sockets = open(V4, Limits::default());
    let gone = nobody(V4).await;
    let phone = UdpSocket::bind(V4).await.unwrap();
    // The socket is writable once it has been waited for.
    phone.send_to(&message("a"), sockets.local_addr(UDP).unwrap()).await.unwrap();
    let (flow, _) = next_message(&mut sockets).await;
    for _ in 0..10 {
        // Loopback: the error is there before the next call.
        sockets.send(flow_to(Transport::Udp, gone), Bytes::from(message("a")));
        sockets.send(flow, Bytes::from(message("b")));
        sockets.hand_over();
        let mut received = [0; 200];
        let octets = soon("the neighbour's datagram", phone.recv(&mut received)).await.unwrap();
        assert_eq!(&received[..octets], message("b"));
    }
    assert_eq!(unreachable(&mut sockets).await, (gone, true));
}

#[tokio::test]
async fn a_network_that_is_not_there_is_no_refusal() {
    let mut sockets = open(V4, Limits::default());
    // A socket bound to loopback has no way out.
    let outside: SocketAddr = "192.0.2.1:5060".parse().unwrap();
    sockets.send(flow_to(Transport::Udp, outside), Bytes::from(message("a")));
    assert_eq!(unreachable(&mut sockets).await, (outside, false));
}

#[tokio::test]
async fn what_the_caller_keeps_is_not_taken_for_news() {
    let mut sockets = open(V4, Limits::default());
    let mut kept = vec![Arrival::Closed { flow: flow_to(Transport::Tcp, V4), refused: false }];
    tokio::select! {
        () = sockets.arrivals(&mut kept) => panic!("nothing arrived: {kept:?}"),
        () = sleep(Duration::from_millis(50)) => {}
    }
}

#[tokio::test]
async fn keep_alives_are_not_messages() {
    let mut sockets = open(V4, Limits::default());
    let phone = UdpSocket::bind(V4).await.unwrap();
    let door = sockets.local_addr(UDP).unwrap();
    phone.send_to(b"\r\n\r\n", door).await.unwrap();
    phone.send_to(&message("a"), door).await.unwrap();
    assert_eq!(next_message(&mut sockets).await.1, message("a"));
    assert_eq!(sockets.counters().datagrams_ignored, 1);
}

#[tokio::test]
async fn a_stream_is_cut_into_messages_wherever_the_network_cuts_it() {
    let mut sockets = open(V4, Limits::default());
    let mut phone = TcpStream::connect(sockets.local_addr(TCP).unwrap()).await.unwrap();
    phone.set_nodelay(true).unwrap();
    let stream: Vec<u8> = ["a", "b", "c"].iter().flat_map(|tag| message(tag)).collect();
    let writer = tokio::spawn(async move {
        for piece in stream.chunks(7) {
            phone.write_all(piece).await.unwrap();
            sleep(Duration::from_millis(1)).await;
        }
        phone
    });
    let mut flows = Vec::new();
    for tag in ["a", "b", "c"] {
        let (flow, received) = next_message(&mut sockets).await;
        assert_eq!(received, message(tag));
        flows.push(flow);
    }
    assert_ne!(flows[0].connection, ConnectionId::NONE);
    assert!(flows.iter().all(|it| *it == flows[0]));
    drop(writer.await.unwrap());
    assert_eq!(next_closed(&mut sockets).await, (flows[0], false));
}

#[tokio::test]
async fn a_ping_is_answered_with_a_pong() {
    let mut sockets = open(V4, Limits::default());
    let mut phone = TcpStream::connect(sockets.local_addr(TCP).unwrap()).await.unwrap();
    phone.write_all(b"\r\n\r\n").await.unwrap();
    let mut pong = [0; 2];
    let serve = async {
        loop {
            sockets.arrivals(&mut Vec::new()).await;
        }
    };
    let read = soon("a pong", phone.read_exact(&mut pong));
    tokio::select! {
        () = serve => {}
        read = read => assert_eq!(read.unwrap(), 2),
    }
    assert_eq!(&pong, b"\r\n");
}

#[tokio::test]
async fn a_peer_that_never_reads_is_cut_off_and_its_neighbour_is_served() {
    let mut sockets = open(V4, Limits::default());
    let door = sockets.local_addr(TCP).unwrap();
    let mut deaf = TcpStream::connect(door).await.unwrap();
    deaf.write_all(&message("deaf")).await.unwrap();
    let (deaf_flow, _) = next_message(&mut sockets).await;
    let mut neighbour = TcpStream::connect(door).await.unwrap();

    let large = Bytes::from(vec![b'x'; 60_000]);
    let mut rounds = 0;
    loop {
        sockets.send(deaf_flow, large.clone());
        neighbour.write_all(&message("n")).await.unwrap();
        let came = arrival(&mut sockets, "either", |it| match it {
            Arrival::Message { flow, .. } => Some((*flow, false)),
            Arrival::Closed { flow, .. } => Some((*flow, true)),
            _ => None,
        })
        .await;
        if came == (deaf_flow, true) {
            break;
        }
        assert_ne!(came.0, deaf_flow);
        sockets.send(came.0, Bytes::from(message("ok")));
        let mut answer = vec![0; message("ok").len()];
        soon("the neighbour's answer", neighbour.read_exact(&mut answer)).await.unwrap();
        rounds += 1;
        assert!(rounds < 1_000, "nobody stops what is sent to a peer that does not read");
    }
    assert_eq!(sockets.counters().closed_slow_reader, 1);
    assert_eq!(sockets.connections(), 1);
}

#[tokio::test]
async fn octets_that_trickle_in_do_not_keep_a_message_open() {
    let limits = Limits { message: Duration::from_millis(500), ..Limits::default() };
    let mut sockets = open(V4, limits);
    let mut slow = TcpStream::connect(sockets.local_addr(TCP).unwrap()).await.unwrap();
    slow.write_all(&message("a")).await.unwrap();
    let (flow, _) = next_message(&mut sockets).await;
    let trickle = tokio::spawn(async move {
        for octet in message("b") {
            if slow.write_all(&[octet]).await.is_err() {
                return;
            }
            sleep(Duration::from_millis(100)).await;
        }
    });
    assert_eq!(next_closed(&mut sockets).await, (flow, false));
    assert_eq!(sockets.counters().closed_slow_message, 1);
    trickle.abort();
}

#[tokio::test]
async fn a_connection_that_says_nothing_or_only_pings_has_no_long_life() {
    let limits = Limits { first_message: Duration::from_millis(500), ..Limits::default() };
    let mut sockets = open(V4, limits);
    let door = sockets.local_addr(TCP).unwrap();
    let _silent = TcpStream::connect(door).await.unwrap();
    let mut pinging = TcpStream::connect(door).await.unwrap();
    let pings = tokio::spawn(async move {
        while pinging.write_all(b"\r\n\r\n").await.is_ok() {
            sleep(Duration::from_millis(100)).await;
        }
    });
    next_closed(&mut sockets).await;
    next_closed(&mut sockets).await;
    assert_eq!(sockets.counters().closed_idle, 2);
    pings.abort();
}

#[tokio::test]
async fn what_is_not_sip_is_cut_off() {
    let mut sockets = open(V4, Limits::default());
    let mut browser = TcpStream::connect(sockets.local_addr(TCP).unwrap()).await.unwrap();
    browser.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3, 0, 0, 0]).await.unwrap();
    next_closed(&mut sockets).await;
    assert_eq!(sockets.counters().closed_unframed, 1);
}

#[tokio::test]
async fn one_source_cannot_take_all_connections() {
    let limits = Limits { connections_per_source: 2, ..Limits::default() };
    let mut sockets = open(V4, limits);
    let door = sockets.local_addr(TCP).unwrap();
    let mut first = TcpStream::connect(door).await.unwrap();
    let _second = TcpStream::connect(door).await.unwrap();
    let mut third = TcpStream::connect(door).await.unwrap();
    first.write_all(&message("a")).await.unwrap();
    next_message(&mut sockets).await;
    let end = soon("the third's end", third.read(&mut [0; 1])).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    assert_eq!((sockets.connections(), sockets.counters().connections_shed), (2, 1));

    drop(first);
    next_closed(&mut sockets).await;
    let mut fourth = TcpStream::connect(door).await.unwrap();
    fourth.write_all(&message("d")).await.unwrap();
    assert_eq!(next_message(&mut sockets).await.1, message("d"));
}

#[tokio::test]
async fn a_reset_is_the_word_of_the_peers_host_and_a_goodbye_is_not() {
    let mut sockets = open(V4, Limits::default());
    for (reset, refused) in [(true, true), (false, false)] {
        let mut phone = TcpStream::connect(sockets.local_addr(TCP).unwrap()).await.unwrap();
        phone.write_all(&message("a")).await.unwrap();
        let (flow, _) = next_message(&mut sockets).await;
        if reset {
            phone.set_zero_linger().unwrap();
        }
        drop(phone);
        assert_eq!(next_closed(&mut sockets).await, (flow, refused));
    }
}

#[tokio::test]
async fn a_refused_connect_is_told_with_the_very_flow_that_was_wished_for() {
    for family in [V4, V6] {
        let mut sockets = open(family, Limits::default());
        let gone = TcpListener::bind(family).await.unwrap().local_addr().unwrap();
        let wish = flow_to(Transport::Tcp, gone);
        sockets.send(wish, Bytes::from(message("a")));
        assert_eq!(next_closed(&mut sockets).await, (wish, true));
        assert_eq!(sockets.connections(), 0);
    }
}

#[tokio::test]
async fn a_flow_that_cannot_be_made_is_told_and_refuses_nothing() {
    let mut sockets = open(V4, Limits::default());
    let other_family = flow_to(Transport::Tcp, "[::1]:5060".parse().unwrap());
    sockets.send(other_family, Bytes::from(message("a")));
    assert_eq!(next_closed(&mut sockets).await, (other_family, false));
}

#[tokio::test]
async fn one_connection_carries_what_goes_to_one_server() {
    let mut sockets = open(V4, Limits::default());
    let server = TcpListener::bind(V4).await.unwrap();
    let wish = flow_to(Transport::Tcp, server.local_addr().unwrap());
    sockets.send(wish, Bytes::from(message("a")));
    sockets.send(wish, Bytes::from(message("b")));
    let (mut stream, _) = soon("the connection", server.accept()).await.unwrap();
    leave(&mut sockets).await;
    let expected = [message("a"), message("b")].concat();
    let mut received = vec![0; expected.len()];
    soon("both messages", stream.read_exact(&mut received)).await.unwrap();
    assert_eq!(received, expected);

    stream.write_all(&message("answer")).await.unwrap();
    let (flow, answer) = next_message(&mut sockets).await;
    assert_eq!(answer, message("answer"));
    assert_ne!(flow.connection, ConnectionId::NONE);
    assert_eq!(flow, Flow { connection: flow.connection, ..wish });
    assert_eq!(sockets.counters().connections_made, 1);
}

#[tokio::test]
async fn a_connection_that_ended_is_not_reopened_by_its_old_name() {
    let mut sockets = open(V4, Limits::default());
    let mut phone = TcpStream::connect(sockets.local_addr(TCP).unwrap()).await.unwrap();
    phone.write_all(&message("a")).await.unwrap();
    let (flow, _) = next_message(&mut sockets).await;
    drop(phone);
    next_closed(&mut sockets).await;
    sockets.send(flow, Bytes::from(message("late")));
    assert_eq!(sockets.counters().sends_without_connection, 1);
    assert_eq!(sockets.connections(), 0);
}

#[tokio::test]
async fn a_listener_that_cannot_be_opened_is_named_with_what_to_do() {
    let taken = UdpSocket::bind(V4).await.unwrap();
    let address = taken.local_addr().unwrap();
    let listen = Listen {
        name: "phones".into(),
        transport: Transport::Udp,
        speaks: Protocol::Sip,
        security: Security::None,
        address,
    };
    let error = Sockets::bind(&[listen], Limits::default()).unwrap_err().to_string();
    for part in ["\"phones\"", "udp", &address.to_string(), "another program"] {
        assert!(error.contains(part), "{part} is missing from: {error}");
    }
}

/// More than one system call carries, and sizes around the places of a batch.
#[tokio::test]
async fn datagrams_of_every_size_come_whole_and_in_order() {
    for address in [V4, V6] {
        let mut ours = open(address, Limits::default());
        let mut theirs = open(address, Limits::default());
        let to = flow_to(Transport::Udp, ours.local_addr(UDP).unwrap());
        let sizes = [200, 2_047, 2_048, 2_049, 4_096, 30_000, 65_400];
        let datagrams: Vec<Vec<u8>> =
            (0u8..150).map(|n| vec![b'a' + n % 26; sizes[usize::from(n) % sizes.len()]]).collect();
        for (sent, datagram) in datagrams.iter().enumerate() {
            theirs.send(to, Bytes::from(datagram.clone()));
            // So that the kernel's buffer holds what is under way.
            if sent % 70 == 69 || sent == datagrams.len() - 1 {
                leave(&mut theirs).await;
                for expected in &datagrams[sent / 70 * 70..=sent] {
                    assert!(next_message(&mut ours).await.1 == *expected, "{}", expected.len());
                }
            }
        }
        assert_eq!(theirs.counters().datagrams_sent, 150);
    }
}

#[tokio::test]
async fn a_datagram_that_cannot_be_sent_does_not_hold_up_its_neighbours() {
    let (mut ours, mut theirs) = (open(V4, Limits::default()), open(V4, Limits::default()));
    let to = flow_to(Transport::Udp, theirs.local_addr(UDP).unwrap());
    let too_long = Bytes::from(vec![b'x'; 66_000]);
    for bytes in [message("a").into(), too_long, message("b").into()] {
        ours.send(to, bytes);
    }
    leave(&mut ours).await;
    assert_eq!(next_message(&mut theirs).await.1, message("a"));
    assert_eq!(next_message(&mut theirs).await.1, message("b"));
    assert_eq!(unreachable(&mut ours).await, (to.remote, false));
    let counters = ours.counters();
    assert_eq!((counters.datagrams_sent, counters.datagrams_undeliverable), (2, 1));
}

#[tokio::test]
async fn the_driver_carries_messages_through_the_core() {
    let running = run(Echo::default(), no_ledger()).await;
    let handle = running.handle.clone();

    let phone = UdpSocket::bind(V4).await.unwrap();
    phone.send_to(&message("u"), running.udp).await.unwrap();
    let mut answer = vec![0; 200];
    let octets = soon("the echo", phone.recv(&mut answer)).await.unwrap();
    assert_eq!(answer[..octets], message("u"));

    let mut stream = TcpStream::connect(running.tcp).await.unwrap();
    stream.write_all(&message("t")).await.unwrap();
    let mut answer = vec![0; message("t").len()];
    soon("the echo", stream.read_exact(&mut answer)).await.unwrap();
    assert_eq!(answer, message("t"));

    assert_eq!(soon("the end", running.stop()).await.unwrap().writes_unanswered, 0);
    let snapshot = handle.snapshot().unwrap();
    assert_eq!((snapshot.net.datagrams_received, snapshot.net.datagrams_sent), (1, 1));
}

/// Answers a message only after the store has; wakes every ten milliseconds.
#[derive(Default)]
struct Careful {
    asked: Vec<(u64, Flow)>,
    outputs: Vec<Output>,
    due: Uptime,
    wakes: Option<mpsc::UnboundedSender<()>>,
}

impl Core for Careful {
    fn handle(&mut self, now: Now, input: Input) {
        match input {
            Input::Sip { flow, .. } => {
                let ticket = 1 + self.asked.len() as u64;
                self.asked.push((ticket, flow));
                self.outputs.push(Output::Record(Record { ticket, changes: Vec::new() }));
            }
            Input::Recorded { ticket, outcome: Recorded::Done } => {
                let flow = self.asked.iter().find(|it| it.0 == ticket).unwrap().1;
                self.outputs.push(Output::Send { flow, bytes: Bytes::from_static(b"done") });
            }
            Input::Timeout => {
                self.due = now.uptime + Duration::from_millis(10);
                self.wakes.as_ref().map(|it| it.send(()));
            }
            Input::Pressure { .. } => {}
            other => panic!("{other:?}"),
        }
    }

    fn poll(&mut self) -> Option<Output> {
        self.outputs.pop()
    }

    fn next(&self) -> Option<Uptime> {
        self.wakes.as_ref().map(|_| self.due)
    }

    fn status(&self, _now: Now) -> Status {
        Status::default()
    }

    fn users(
        &self,
        _now: Now,
        _filter: &Filter,
        _page: (usize, usize),
    ) -> Result<Listed<UserStatus>, Refused> {
        Ok(Listed::default())
    }

    fn user(&self, _now: Now, _name: &str) -> Option<UserStatus> {
        None
    }

    fn relocations(
        &self,
        _now: Now,
        _filter: &Filter,
        _page: (usize, usize),
    ) -> Result<Listed<RelocationStatus>, Refused> {
        Ok(Listed::default())
    }

    fn explain(&self, _now: Now, _name: &str) -> Option<Explanation> {
        None
    }

    fn rebalance_plan(&self, _page: (usize, usize)) -> RebalancePlan {
        RebalancePlan::default()
    }

    fn what_if(
        &self,
        _now: Now,
        _killed: &[String],
        _page: (usize, usize),
    ) -> Result<WhatIf, Refused> {
        Err(Refused::NothingToDo)
    }

    fn command(&mut self, _now: Now, _command: &Command) -> Result<Done, Refused> {
        Err(Refused::NoSuchUser)
    }

    fn stats(&self) -> Stats {
        Stats::default()
    }
}

#[tokio::test]
async fn a_stop_waits_for_the_store_so_that_what_it_wrote_is_answered() {
    let (answers, recorded) = mpsc::unbounded_channel();
    let (written, mut writes) = mpsc::unbounded_channel();
    let write = Box::new(move |record: Record| written.send(record.ticket).unwrap());
    let running = run(Careful::default(), Ledger { write, recorded }).await;

    let phone = UdpSocket::bind(V4).await.unwrap();
    phone.send_to(&message("a"), running.udp).await.unwrap();
    let ticket = soon("the write", writes.recv()).await.unwrap();
    let stopped = running.stop();
    sleep(Duration::from_millis(20)).await;
    answers.send((ticket, Recorded::Done)).unwrap();

    let mut answer = [0; 20];
    let octets = soon("the answer", phone.recv(&mut answer)).await.unwrap();
    assert_eq!(&answer[..octets], b"done");
    assert_eq!(soon("the end", stopped).await.unwrap().writes_unanswered, 0);
}

#[tokio::test]
async fn deadlines_are_kept_while_packets_flood_in() {
    let (wakes, mut woken) = mpsc::unbounded_channel();
    let (_answers, recorded) = mpsc::unbounded_channel();
    let ledger = Ledger { write: Box::new(|_| {}), recorded };
    let core = Careful { wakes: Some(wakes), due: Clock.uptime(), ..Careful::default() };
    let running = run(core, ledger).await;
    let door = running.udp;
    let phone = UdpSocket::bind(V4).await.unwrap();
    let flood = tokio::spawn(async move {
        loop {
            for _ in 0..100 {
                let _ = phone.send_to(b"OPTIONS", door).await;
            }
            tokio::task::yield_now().await;
        }
    });
    for _ in 0..10 {
        soon("a deadline", woken.recv()).await.unwrap();
    }
    flood.abort();
}

#[tokio::test]
async fn listeners_are_numbered_as_they_are_given() {
    let sockets = open(V4, Limits::default());
    assert!(sockets.local_addr(ListenerId(1)).is_some());
    assert_eq!(sockets.local_addr(ListenerId(2)), None);
}
