//! What hostile clients send to the admin listener, and that the others are served meanwhile.

use std::sync::Arc;
use std::time::Duration;

use frontdoor::admin::Fault;
use frontdoor::door::UserStatus;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};

use crate::admin::{Shown, ask, body, door, door_of, raw};
use crate::harness::now;
use crate::support::{Echo, soon};

const RIGHT: &str =
    "Authorization: Bearer 5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a\r\n";

/// Status and refusal of an answer that is one, in the one shape there is.
fn fault(answer: &str) -> (u16, Fault) {
    let status = answer.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0);
    let fault: Fault = serde_json::from_str(body(answer)).unwrap_or_else(|_| panic!("{answer:?}"));
    assert!(!fault.error.is_empty() && !fault.what_to_do.is_empty(), "{answer}");
    assert!(answer.to_ascii_lowercase().contains("content-type: application/json"), "{answer}");
    (status, fault)
}

async fn refused(admin: &Shown, request: &str) -> (u16, Fault) {
    fault(&raw(admin.local_addr(), request.as_bytes()).await)
}

async fn serves(admin: &Shown) {
    assert_eq!(ask(admin, "GET", "/healthz").await.0, 200, "the others are served");
}

#[tokio::test]
async fn only_one_right_token_opens_and_what_is_refused_is_counted() {
    let admin = door("up").await;
    let order = async |headers: &str| {
        let request =
            format!("POST /v1/recovery/pause HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        refused(&admin, &request).await.0
    };
    let nearly = RIGHT.replace("5a\r", "5b\r");
    let wrong = [
        ("", 401),
        ("Authorization:\r\n", 401),
        ("Authorization: Basic YTpi\r\n", 401),
        ("Authorization: Bearer\r\n", 401),
        ("Authorization: Bearer x\r\n", 403),
        (&*nearly, 403),
        (&*RIGHT.replace("5a\r", "5a5a\r"), 403),
        (&*RIGHT.replace("5a\r", "\r"), 403),
        (&*RIGHT.replace("5a5a", "\u{ff}\u{fe}"), 403),
        (&*format!("{RIGHT}{nearly}"), 401),
        (&*format!("{RIGHT}{RIGHT}"), 401),
    ];
    for (headers, status) in wrong {
        assert_eq!(order(headers).await, status, "{headers}");
    }
    assert_eq!(order(RIGHT).await, 404, "let in; the core behind this listener knows nobody");
    let (_, page) = ask(&admin, "GET", "/metrics").await;
    let line = format!("frontdoor_admin_tokens_refused_total {}\n", wrong.len());
    assert!(page.contains(&line), "{page}");
}

#[tokio::test]
async fn a_body_of_a_thousand_million_octets_is_not_read() {
    let admin = door("up").await;
    let chunk = format!("10000\r\n{}\r\n", " ".repeat(0x10000));
    for (path, authorization, expected) in [
        ("POST /v1/users/anna/home", RIGHT, 413),
        ("POST /v1/users/anna/home", "", 401),
        ("POST /v1/recovery/pause", RIGHT, 413),
        ("GET /v1/status", "", 413),
        ("POST /nowhere", "", 404),
    ] {
        let head = format!("{path} HTTP/1.1\r\nHost: localhost\r\n{authorization}");
        // Announced, and none of it sent.
        let announced = format!("{head}Content-Length: 1000000000\r\n\r\n");
        assert_eq!(refused(&admin, &announced).await.0, expected, "{path}");
        // Not announced, and sent as long as anybody takes it.
        let mut stream = TcpStream::connect(admin.local_addr()).await.unwrap();
        let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n");
        stream.write_all(chunked.as_bytes()).await.unwrap();
        let mut sent = 0_usize;
        while sent < 1_000_000_000 {
            let written = soon("it is taken or refused", stream.write_all(chunk.as_bytes())).await;
            if written.is_err() {
                break;
            }
            sent += 0x10000;
        }
        // What two sockets hold of it.
        assert!(sent < 64_000_000, "{path}: {sent} octets were taken");
        let mut answer = Vec::new();
        let _reset = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.is_empty() || fault(&answer).0 == expected, "{path}: {answer}");
    }
    serves(&admin).await;
}

#[tokio::test]
async fn a_body_that_trickles_is_not_waited_for() {
    let admin = door("up").await;
    let mut stream = TcpStream::connect(admin.local_addr()).await.unwrap();
    let head = format!(
        "POST /v1/users/anna/home HTTP/1.1\r\nHost: localhost\r\n{RIGHT}Content-Length: 1000\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let (began, mut answer) = (now(), Vec::new());
    while timeout(Duration::from_millis(200), stream.read_buf(&mut answer)).await.is_err() {
        stream.write_all(b" ").await.unwrap();
        assert!(now().since(began) < Duration::from_secs(8), "it is waited for");
    }
    let _reset = stream.read_to_end(&mut answer).await;
    assert_eq!(fault(&String::from_utf8(answer).unwrap()).0, 408);
}

#[tokio::test]
async fn headers_that_trickle_or_never_end_are_cut_off() {
    let admin = door("up").await;
    for piece in [&b"X"[..], b"X: y\r\n"] {
        let mut stream = TcpStream::connect(admin.local_addr()).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n").await.unwrap();
        let (began, mut answer) = (now(), Vec::new());
        loop {
            assert!(now().since(began) < Duration::from_secs(8), "it is waited for");
            match timeout(Duration::from_millis(100), stream.read_buf(&mut answer)).await {
                Err(_) => drop(stream.write_all(piece).await),
                Ok(Ok(octets)) if octets > 0 => {}
                Ok(_) => break,
            }
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
        serves(&admin).await;
    }
}

#[tokio::test]
async fn a_flood_of_headers_is_refused() {
    let admin = door("up").await;
    let many: String = (0..101).map(|number| format!("X{number}: y\r\n")).collect();
    for headers in [many, format!("X: {}\r\n", "y".repeat(9_000)), "X: y\r\n".repeat(1_000_000)] {
        let mut stream = TcpStream::connect(admin.local_addr()).await.unwrap();
        let request = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        let _reset = stream.write_all(request.as_bytes()).await;
        let mut answer = Vec::new();
        let _reset = soon("the end", stream.read_to_end(&mut answer)).await;
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
    }
    let enough: String = (0..90).map(|number| format!("X{number}: y\r\n")).collect();
    let request = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{enough}\r\n");
    let answer = raw(admin.local_addr(), request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
}

#[tokio::test]
async fn a_path_leads_nowhere_but_where_it_says() {
    let admin = door("up").await;
    for (path, expected) in [
        ("/v1/users/../status", 404),
        ("/v1/users/..%2Fstatus", 404),
        ("/v1/users/%2e%2e/status", 404),
        ("/v1/users/..%c0%afstatus", 400),
        ("/v1/reports/..%2F..%2F..%2Fetc%2Fpasswd", 404),
        ("/v1/reports/%2Fetc%2Fpasswd%00", 404),
        ("/v1/users/%00", 404),
        ("/v1/users/%ff", 400),
        ("/v1/users/%", 400),
        ("/v1/users/%u0061nna", 400),
        ("/v1/users/%2561nna", 404),
        ("/v1/users/anna/", 404),
        ("//healthz", 404),
        ("/healthz%00", 404),
        ("/%68ealthz", 404),
        ("/healthz/..", 404),
        ("/../../../../etc/passwd", 404),
        ("/v1/users?prefix=%zz", 400),
        ("/v1/users?prefix=a&prefix=b", 400),
        ("/v1/users?limit=1;drop", 400),
        ("/v1/users?limit=%31%30%30%31", 400),
        ("/healthz?", 200),
        ("/v1/users/%61nn%61", 200),
        ("/v1/users?limit=%31%30&&", 200),
        ("http://localhost/healthz", 200),
        ("http://evil.example/healthz", 421),
        ("http://localhost@evil.example/healthz", 421),
    ] {
        let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let answer = raw(admin.local_addr(), request.as_bytes()).await;
        let status = if answer.starts_with("HTTP/1.1 200 ") { 200 } else { fault(&answer).0 };
        assert_eq!(status, expected, "{path}: {answer}");
    }
}

#[tokio::test]
async fn what_is_hardly_http_harms_nobody() {
    let admin = door("up").await;
    let (status, _) = refused(&admin, "GET /healthz HTTP/1.1\r\n\r\n").await;
    assert_eq!(status, 400, "no Host");
    let twice = "GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n";
    assert_eq!(refused(&admin, twice).await.0, 400);
    assert_eq!(refused(&admin, "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n").await.0, 404);
    for request in [
        &b"\r\n\r\n\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /\xff\xfe HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: local\0host\r\n\r\n",
        b"CONNECT evil.example:443 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let answer = raw(admin.local_addr(), request).await;
        assert!(!answer.starts_with("HTTP/1.1 2"), "{answer}");
        serves(&admin).await;
    }
}

#[tokio::test]
async fn a_client_that_hardly_reads_its_answer_is_cut_off_and_the_others_are_served() {
    let aor = Arc::<str>::from("sip:anna@example.com".repeat(500));
    let user = UserStatus { aors: vec![aor], ..UserStatus::default() };
    // More than two sockets hold.
    let core = Echo { users: vec![user; 1_000], ..Echo::default() };
    let admin = door_of(core).await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let mut stream = socket.connect(admin.local_addr()).await.unwrap();
    let request = b"GET /v1/users?limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let (mut answer, mut octet) = (Vec::new(), [0]);
    // An octet now and then does not help.
    for _ in 0..24 {
        stream.read_exact(&mut octet).await.unwrap();
        answer.extend(octet);
        serves(&admin).await;
        sleep(Duration::from_millis(500)).await;
    }
    // What was under way still arrives.
    SockRef::from(&stream).set_recv_buffer_size(8_000_000).unwrap();
    let _reset = soon("it is cut off", stream.read_to_end(&mut answer)).await;
    assert!(answer.starts_with(b"HTTP/1.1 200 ") && answer.len() < 10_000_000, "all of it");
}

#[tokio::test]
async fn a_client_that_holds_on_is_let_go() {
    let admin = door("up").await;
    let mut idle = TcpStream::connect(admin.local_addr()).await.unwrap();
    let mut asked = TcpStream::connect(admin.local_addr()).await.unwrap();
    asked.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let (mut nothing, mut answer) = (Vec::new(), Vec::new());
    soon("one answer and the end", asked.read_to_end(&mut answer)).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "one question a connection");
    soon("who asks nothing is let go", idle.read_to_end(&mut nothing)).await.unwrap();
    assert!(!nothing.starts_with(b"HTTP/1.1 2"));
    serves(&admin).await;
}
