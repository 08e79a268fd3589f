//! TLS from the first octet and by request, against clients that keep to it and clients that do not.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use frontdoor::net::{Arrival, Certificates, Limits, Listen, Security};
use frontdoor::sip::{Flow, ListenerId};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::sleep;

use crate::support::{
    Echo, Ours, START_TLS, START_TLS_ANSWER, arrival, certificate, clients, leave, next_closed,
    next_rose, no_ledger, open_secured, run, soon,
};

const INVOKE: &[u8] = b"\xA1\x06\x02\x01\x01\x02\x01\x0B";
const JSON: &[u8] = b"J0000013{\"invoke\":{}}";
const ONLY: ListenerId = ListenerId(0);

type Secret = StreamOwned<ClientConnection, TcpStream>;

/// Sockets with one listener, for `localhost`, and who trusts them.
fn open(security: Security, limits: Limits) -> (Ours, CertificateDer<'static>) {
    let (certificate, trusted) = certificate("localhost");
    let certificates = Certificates::new(vec![certificate]);
    let listen = Listen { security, ..clients() };
    (open_secured(&[listen], limits, &certificates), trusted)
}

fn plain(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

fn secret(stream: TcpStream, name: &str, trusted: &CertificateDer<'static>) -> Secret {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream)
}

fn read<S: std::io::Read>(stream: &mut S, octets: usize) -> Vec<u8> {
    let mut read = vec![0; octets];
    stream.read_exact(&mut read).unwrap();
    read
}

/// A client in a thread of its own.
fn client<T: Send + 'static>(
    ours: &Ours,
    act: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> JoinHandle<T> {
    let to = ours.local_addr(ONLY).unwrap();
    spawn_blocking(move || act(plain(to)))
}

async fn secured(ours: &mut Ours) -> Flow {
    arrival(ours, "a handshake", |it| match it {
        Arrival::Secured { flow, .. } => Some(*flow),
        Arrival::Rose { .. } => panic!("nothing comes before the handshake"),
        _ => None,
    })
    .await
}

/// Lets the sockets work until the client is done.
async fn work<T>(ours: &mut Ours, client: JoinHandle<T>) -> T {
    soon("the client's end", async {
        while !client.is_finished() {
            leave(ours).await;
        }
        client.await.unwrap()
    })
    .await
}

#[tokio::test]
async fn messages_go_both_ways_by_tls() {
    let (mut ours, trusted) = open(Security::Tls, Limits::default());
    let peer = client(&ours, move |stream| {
        let mut stream = secret(stream, "localhost", &trusted);
        stream.write_all(&[INVOKE, JSON].concat()).unwrap();
        let large = read(&mut stream, 700_000);
        stream.write_all(&[&b"J0500000{"[..], &vec![b' '; 499_999]].concat()).unwrap();
        (large, stream)
    });
    let flow = secured(&mut ours).await;
    assert_eq!(next_rose(&mut ours).await, (flow, INVOKE.to_vec()));
    assert_eq!(next_rose(&mut ours).await, (flow, JSON.to_vec()));
    let sent: Vec<u8> = (0..700_000u32).map(|n| (n / 7) as u8).collect();
    ours.send(flow, Bytes::from(sent[..1].to_vec()));
    ours.send(flow, Bytes::from(sent[1..].to_vec()));
    assert_eq!(next_rose(&mut ours).await.1.len(), 500_008);
    let (large, stream) = work(&mut ours, peer).await;
    assert!(large == sent, "in order, and nothing twice");
    drop(stream);
    assert_eq!(next_closed(&mut ours).await, (flow, false));
    assert_eq!(ours.counters().handshakes, 1);
}

#[tokio::test]
async fn the_certificate_may_change_and_whoever_is_connected_stays_so() {
    let [(first, trusts_first), (second, trusts_second)] =
        ["first.example", "second.example"].map(certificate);
    let certificates = Certificates::new(vec![first.clone(), second]);
    let listen = Listen { security: Security::Tls, ..clients() };
    let mut ours = open_secured(&[listen], Limits::default(), &certificates);
    let say = |name: &'static str, trusted: CertificateDer<'static>| {
        move |stream| {
            let mut stream = secret(stream, name, &trusted);
            stream.write_all(INVOKE).unwrap();
            stream
        }
    };
    let peer = client(&ours, say("second.example", trusts_second));
    let kept = secured(&mut ours).await;
    next_rose(&mut ours).await;
    let mut kept_stream = work(&mut ours, peer).await;
    let peer = client(&ours, say("first.example", trusts_first));
    secured(&mut ours).await;
    next_rose(&mut ours).await;
    work(&mut ours, peer).await;

    let (new, trusts_new) = certificate("second.example");
    certificates.replace(vec![first, new]);
    let peer = client(&ours, say("second.example", trusts_new));
    secured(&mut ours).await;
    work(&mut ours, peer).await;
    kept_stream.write_all(JSON).unwrap();
    let heard = arrival(&mut ours, "the old connection", |it| match it {
        Arrival::Rose { flow, message } if *flow == kept && message[..] == *JSON => Some(()),
        _ => None,
    });
    heard.await;
}

#[tokio::test]
async fn a_client_asks_for_tls_and_gets_it() {
    let (mut ours, trusted) = open(Security::StartTls, Limits::default());
    let peer = client(&ours, move |mut stream| {
        stream.write_all(START_TLS).unwrap();
        assert_eq!(read(&mut stream, START_TLS_ANSWER.len()), START_TLS_ANSWER);
        let mut stream = secret(stream, "localhost", &trusted);
        stream.write_all(JSON).unwrap();
        assert_eq!(read(&mut stream, INVOKE.len() + JSON.len()), [INVOKE, JSON].concat());
        stream
    });
    let (flow, _) = next_rose(&mut ours).await;
    ours.start_tls(flow, Bytes::from_static(START_TLS_ANSWER));
    // What is sent before the handshake waits for it.
    ours.send(flow, Bytes::from_static(INVOKE));
    assert_eq!(secured(&mut ours).await, flow);
    assert_eq!(next_rose(&mut ours).await, (flow, JSON.to_vec()));
    ours.send(flow, Bytes::from_static(JSON));
    work(&mut ours, peer).await;
    // Once is enough.
    ours.start_tls(flow, Bytes::from_static(START_TLS_ANSWER));
    assert_eq!(next_closed(&mut ours).await, (flow, false));
}

#[tokio::test]
async fn octets_behind_the_request_for_tls_end_the_connection() {
    for behind in [&b"\xA1"[..], b"J00", b"\xA1\x80\x05"] {
        let (mut ours, _) = open(Security::StartTls, Limits::default());
        let mut stream = plain(ours.local_addr(ONLY).unwrap());
        stream.write_all(&[START_TLS, behind].concat()).unwrap();
        let (flow, _) = next_rose(&mut ours).await;
        ours.start_tls(flow, Bytes::from_static(START_TLS_ANSWER));
        assert_eq!(next_closed(&mut ours).await, (flow, false));
        assert_eq!(ours.counters().closed_injected, 1);
        let mut answer = Vec::new();
        assert!(stream.read_to_end(&mut answer).is_err() || answer.is_empty());
    }
}

#[tokio::test]
async fn a_message_that_came_in_the_clear_behind_the_request_is_none() {
    let (mut ours, _) = open(Security::StartTls, Limits::default());
    let mut stream = plain(ours.local_addr(ONLY).unwrap());
    stream.write_all(&[START_TLS, INVOKE].concat()).unwrap();
    let (flow, _) = next_rose(&mut ours).await;
    assert!(!ours.refuse_injected(flow));
    ours.start_tls(flow, Bytes::from_static(START_TLS_ANSWER));
    // What had been cut before, of this and of others.
    assert!(ours.refuse_injected(flow));
    assert_eq!(
        arrival(&mut ours, "the end", |it| match it {
            Arrival::Closed { flow, .. } => Some(*flow),
            _ => None,
        })
        .await,
        flow
    );
    assert_eq!(ours.counters().closed_injected, 1);
}

#[tokio::test]
async fn the_core_never_sees_what_was_injected() {
    let running = run(Echo::default(), no_ledger()).await;
    let handle = running.handle.clone();
    let to = running.clients;
    let heard = spawn_blocking(move || {
        let said = [
            &[START_TLS, INVOKE][..],
            &[INVOKE, START_TLS, JSON],
            &[START_TLS, b"J0"],
            &[START_TLS, JSON, b"J0"],
        ];
        said.map(|said| {
            let mut stream = plain(to);
            stream.write_all(&said.concat()).unwrap();
            let mut heard = Vec::new();
            // A reset is an end, too.
            let _ = stream.read_to_end(&mut heard);
            heard
        })
    });
    for heard in soon("the ends", heard).await.unwrap() {
        let before = [INVOKE, START_TLS_ANSWER].concat();
        assert!(before.starts_with(&heard) || START_TLS_ANSWER.starts_with(&heard), "{heard:?}");
    }
    soon("a look at the counters", async {
        while handle.snapshot().unwrap().net.closed_injected < 4 {
            sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(handle.snapshot().unwrap().net.closed_injected, 4);
}

#[tokio::test]
async fn the_driver_carries_a_client_from_the_clear_into_tls() {
    let running = run(Echo::default(), no_ledger()).await;
    let to = running.clients;
    let refused = spawn_blocking(move || {
        let mut stream = plain(to);
        for said in [INVOKE, JSON] {
            stream.write_all(said).unwrap();
            assert_eq!(read(&mut stream, said.len()), said, "in the clear");
        }
        stream.write_all(START_TLS).unwrap();
        assert_eq!(read(&mut stream, START_TLS_ANSWER.len()), START_TLS_ANSWER);
        // Nobody goes on in the clear.
        stream.write_all(INVOKE).unwrap();
        let mut heard = Vec::new();
        let ended = stream.read_to_end(&mut heard);
        ended.is_err() || !heard.windows(INVOKE.len()).any(|it| it == INVOKE)
    });
    assert!(soon("the end", refused).await.unwrap());
    soon("the end", running.stop()).await.unwrap();
}

#[tokio::test]
async fn tls_that_is_not_offered_is_not_given() {
    let (mut ours, _) = open(Security::None, Limits::default());
    let mut stream = plain(ours.local_addr(ONLY).unwrap());
    stream.write_all(START_TLS).unwrap();
    let (flow, _) = next_rose(&mut ours).await;
    ours.start_tls(flow, Bytes::from_static(START_TLS_ANSWER));
    assert_eq!(next_closed(&mut ours).await, (flow, false));
    assert_eq!(ours.counters().closed_insecure, 1);
}

#[tokio::test]
async fn what_is_no_tls_or_never_becomes_any_is_cut_off() {
    let limits = Limits { handshake: Duration::from_millis(300), ..Limits::default() };
    let (mut ours, _) = open(Security::Tls, limits);
    let to = ours.local_addr(ONLY).unwrap();
    let large = [&b"\x16\x03\x01\x40\x00"[..], &[0; 16_384]].concat();
    let said: [&[u8]; 6] = [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01", INVOKE, JSON, &large];
    for said in said {
        let before = ours.counters().closed_insecure;
        let mut stream = plain(to);
        stream.write_all(said).unwrap();
        next_closed(&mut ours).await;
        assert_eq!(ours.counters().closed_insecure, before + 1, "{said:?}");
    }
    assert_eq!((ours.connections(), ours.counters().handshakes), (0, 0));
}

#[tokio::test]
async fn half_a_record_is_no_message() {
    let ucsap = frontdoor::net::UcsapLimits {
        first_message: Duration::from_millis(400),
        ..Default::default()
    };
    let (mut ours, trusted) = open(Security::Tls, Limits { ucsap, ..Limits::default() });
    let peer = client(&ours, move |stream| {
        let mut stream = secret(stream, "localhost", &trusted);
        stream.flush().unwrap();
        stream.sock.write_all(b"\x17\x03\x03\x40\x00half").unwrap();
        stream
    });
    let flow = secured(&mut ours).await;
    let _stream = work(&mut ours, peer).await;
    assert_eq!(next_closed(&mut ours).await, (flow, false));
    assert_eq!(ours.counters().closed_idle, 1);
}

#[tokio::test]
async fn a_client_that_does_not_read_what_is_secret_is_cut_off() {
    let (mut ours, trusted) = open(Security::Tls, Limits::default());
    let peer = client(&ours, move |stream| {
        let mut stream = secret(stream, "localhost", &trusted);
        stream.write_all(INVOKE).unwrap();
        stream
    });
    let flow = secured(&mut ours).await;
    let _deaf = work(&mut ours, peer).await;
    let large = Bytes::from(vec![b'x'; 100_000]);
    for _ in 0..1_000 {
        ours.send(flow, large.clone());
        if ours.counters().closed_slow_reader > 0 {
            break;
        }
        leave(&mut ours).await;
    }
    assert_eq!(next_closed(&mut ours).await, (flow, false));
    assert_eq!((ours.connections(), ours.counters().closed_slow_reader), (0, 1));
}

#[tokio::test]
async fn a_client_that_never_reads_the_handshake_has_its_time() {
    let limits = Limits { handshake: Duration::from_millis(300), ..Limits::default() };
    let (mut ours, trusted) = open(Security::Tls, limits);
    let peer = client(&ours, move |stream| {
        let mut stream = secret(stream, "localhost", &trusted);
        stream.conn.write_tls(&mut stream.sock).unwrap();
        stream
    });
    let _stream = work(&mut ours, peer).await;
    next_closed(&mut ours).await;
    assert_eq!((ours.counters().closed_insecure, ours.counters().handshakes), (1, 0));
}

#[tokio::test]
async fn a_close_sends_what_is_secret_and_says_goodbye() {
    let (mut ours, trusted) = open(Security::Tls, Limits::default());
    let peer = client(&ours, move |stream| {
        let mut stream = secret(stream, "localhost", &trusted);
        stream.write_all(INVOKE).unwrap();
        let mut received = Vec::new();
        // Fails where TLS ends without a goodbye.
        let ended = stream.read_to_end(&mut received).map_err(|error| error.kind());
        (received.len(), ended)
    });
    let flow = secured(&mut ours).await;
    next_rose(&mut ours).await;
    ours.send(flow, Bytes::from(vec![b'x'; 900_000]));
    ours.close(flow);
    let ended: (usize, Result<usize, ErrorKind>) = work(&mut ours, peer).await;
    assert_eq!(ended, (900_000, Ok(900_000)));
    soon("the end", async {
        while ours.connections() > 0 {
            leave(&mut ours).await;
        }
    })
    .await;
    assert_eq!(ours.arrived, []);
}
