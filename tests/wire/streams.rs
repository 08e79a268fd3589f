//! Streams against peers that are slow, many, or not there at all.

use std::io::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use frontdoor::net::{Arrival, Limits};
use frontdoor::sip::Transport;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::support::{
    TCP, V4, arrival, flow_to, leave, message, next_closed, next_message, open, soon,
};

#[tokio::test]
async fn a_peer_that_reads_slowly_gets_everything_in_order() {
    const MESSAGES: usize = 64;
    let mut sockets = open(V4, Limits { queue_accepted: 8 << 20, ..Limits::default() });
    let mut slow = TcpStream::connect(sockets.local_addr(TCP).unwrap()).await.unwrap();
    SockRef::from(&slow).set_recv_buffer_size(64 * 1024).unwrap();
    slow.write_all(&message("slow")).await.unwrap();
    let (flow, _) = next_message(&mut sockets).await;

    // More than the kernel holds for both of them.
    let sent: Vec<Vec<u8>> = (0..MESSAGES).map(|n| vec![n as u8; 100_000 + n]).collect();
    for part in &sent {
        sockets.send(flow, Bytes::from(part.clone()));
    }
    let expected = sent.concat();
    let reading = tokio::spawn(async move {
        let mut received = vec![0; expected.len()];
        for piece in received.chunks_mut(500_000) {
            slow.read_exact(piece).await.unwrap();
            sleep(Duration::from_millis(1)).await;
        }
        assert!(received == expected, "in order, and nothing twice");
        // What it says behind all that is heard.
        slow.write_all(&message("done")).await.unwrap();
        slow
    });
    assert_eq!(next_message(&mut sockets).await, (flow, message("done")));
    let _slow = soon("everything", reading).await.unwrap();
    assert_eq!((sockets.connections(), sockets.counters().closed_slow_reader), (1, 0));
}

#[tokio::test]
async fn a_connection_nobody_answers_is_given_up_in_time() {
    // A full backlog: the kernel drops what asks for more.
    let server = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    server.bind(&V4.into()).unwrap();
    server.listen(0).unwrap();
    let address: SocketAddr = server.local_addr().unwrap().as_socket().unwrap();
    let _waiting = TcpStream::connect(address).await.unwrap();

    let mut sockets = open(V4, Limits { connect: Duration::from_millis(300), ..Limits::default() });
    let wish = flow_to(Transport::Tcp, address);
    sockets.send(wish, Bytes::from(message("a")));
    assert_eq!(sockets.connections(), 1);
    assert_eq!(next_closed(&mut sockets).await, (wish, false));
    assert_eq!((sockets.connections(), sockets.counters().connections_not_made), (0, 1));
}

#[tokio::test]
async fn many_messages_of_one_segment_come_in_order_and_the_last_when_it_is_whole() {
    let mut sockets = open(V4, Limits::default());
    let mut phone = TcpStream::connect(sockets.local_addr(TCP).unwrap()).await.unwrap();
    let all: Vec<Vec<u8>> = (0..500).map(|n| message(&n.to_string())).collect();
    let stream = all.concat();
    let (most, rest) = stream.split_at(stream.len() - 3);
    phone.write_all(most).await.unwrap();
    let (last, before) = all.split_last().unwrap();
    for expected in before {
        assert_eq!(&next_message(&mut sockets).await.1, expected);
    }
    leave(&mut sockets).await;
    assert!(sockets.arrived.is_empty(), "a part is no message");
    phone.write_all(rest).await.unwrap();
    assert_eq!(&next_message(&mut sockets).await.1, last);
}

#[tokio::test]
async fn a_stream_that_never_pauses_does_not_keep_a_quiet_one_waiting() {
    let mut sockets = open(V4, Limits::default());
    let door = sockets.local_addr(TCP).unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let floods = [(); 2].map(|()| {
        let over = Arc::clone(&over);
        let mut loud = std::net::TcpStream::connect(door).unwrap();
        std::thread::spawn(move || {
            let much = message("loud").repeat(1_000);
            while !over.load(Ordering::Relaxed) && loud.write_all(&much).is_ok() {}
        })
    });
    let mut quiet = TcpStream::connect(door).await.unwrap();
    quiet.write_all(&message("quiet")).await.unwrap();
    next_message(&mut sockets).await;
    for _ in 0..20 {
        quiet.write_all(&message("quiet")).await.unwrap();
        let mut rounds = 0;
        let mut came = Vec::new();
        let is_it = |it: &Arrival| match it {
            Arrival::Message { message: came, .. } => came[..] == message("quiet"),
            _ => false,
        };
        while !came.iter().any(is_it) {
            came.clear();
            soon("anything", sockets.arrivals(&mut came)).await;
            rounds += 1;
        }
        // Loopback: it lay there before the first of these rounds.
        assert!(rounds <= 4, "{rounds} rounds of the sockets");
    }
    over.store(true, Ordering::Relaxed);
    drop(sockets);
    floods.into_iter().for_each(|flood| flood.join().unwrap());
}

#[tokio::test]
async fn a_name_is_not_given_to_the_next_connection() {
    let mut sockets = open(V4, Limits::default());
    let door = sockets.local_addr(TCP).unwrap();
    let mut first = TcpStream::connect(door).await.unwrap();
    first.write_all(&message("first")).await.unwrap();
    let (gone, _) = next_message(&mut sockets).await;
    drop(first);
    next_closed(&mut sockets).await;
    let mut second = TcpStream::connect(door).await.unwrap();
    second.write_all(&message("second")).await.unwrap();
    let (flow, _) = next_message(&mut sockets).await;
    assert_ne!(flow.connection, gone.connection);
    sockets.send(gone, Bytes::from(message("late")));
    sockets.send(flow, Bytes::from(message("answer")));
    let mut received = vec![0; message("answer").len()];
    soon("the answer", second.read_exact(&mut received)).await.unwrap();
    assert_eq!(received, message("answer"), "and nothing of what was meant for the first");
    assert_eq!(sockets.counters().sends_without_connection, 1);
}

#[tokio::test]
async fn what_came_before_a_goodbye_is_heard() {
    let mut sockets = open(V4, Limits::default());
    let mut phone = TcpStream::connect(sockets.local_addr(TCP).unwrap()).await.unwrap();
    phone.write_all(&[message("a"), message("b")].concat()).await.unwrap();
    drop(phone);
    let mut heard = Vec::new();
    let end = arrival(&mut sockets, "the end", |it| match it {
        Arrival::Message { message, .. } => {
            heard.push(message.to_vec());
            None
        }
        Arrival::Closed { refused, .. } => Some(*refused),
        _ => None,
    })
    .await;
    assert_eq!((heard, end), (vec![message("a"), message("b")], false));
}
