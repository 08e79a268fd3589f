//! The admin listener over real HTTP.

use std::net::SocketAddr;
use std::ops::Deref;
use std::time::Duration;

use frontdoor::admin::{self, Admin, Page};
use frontdoor::door::{ServerStatus, Status, UserStatus};
use frontdoor::net::{Handle, Net, Settings};
use frontdoor::private::Private;
use frontdoor::reports::Shelf;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::support::{Echo, Running, V4, no_ledger, run, soon};

/// What opens the listener to what changes something.
pub(crate) const TOKEN: Private<[u8; 32]> = Private::new([0x5a; 32]);

/// An admin listener, and the driver it shows.
pub(crate) struct Shown {
    admin: Admin,
    _running: Running,
}

impl Deref for Shown {
    type Target = Admin;

    fn deref(&self) -> &Admin {
        &self.admin
    }
}

/// A driver with one server in `state` and two users, and an admin listener that shows them.
pub(crate) async fn door(state: &str) -> Shown {
    let server =
        ServerStatus { name: "ucs1".into(), state: state.into(), ..ServerStatus::default() };
    let user = |name: &str| UserStatus { name: name.into(), ..UserStatus::default() };
    let core = Echo {
        status: Status { servers: vec![server], users: 2, ..Status::default() },
        users: vec![user("anna"), user("bert")],
        ..Echo::default()
    };
    door_of(core).await
}

/// A driver of this core, and an admin listener that shows it.
pub(crate) async fn door_of(core: Echo) -> Shown {
    let running = run(core, no_ledger()).await;
    let admin = listen(running.handle.clone());
    soon("the first snapshot", async {
        while running.handle.snapshot().is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    Shown { admin, _running: running }
}

fn listen(handle: Handle) -> Admin {
    let names = vec!["door.example".to_owned()];
    {
        let settings = admin::Settings { address: V4, names, token: Some(TOKEN) };
        admin::start(settings, handle, Shelf::new("no-reports".into())).unwrap()
    }
}

/// Sends a request as it is and returns all that comes back.
pub(crate) async fn raw(address: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    // A connection reset after the answer is as good as one closed.
    let _ = soon("the answer", stream.read_to_end(&mut answer)).await;
    String::from_utf8(answer).unwrap()
}

pub(crate) async fn ask(admin: &Admin, method: &str, path: &str) -> (u16, String) {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = raw(admin.local_addr(), request.as_bytes()).await;
    let status = answer.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0);
    (status, answer)
}

pub(crate) fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[tokio::test]
async fn every_endpoint_answers() {
    let admin = door("up").await;
    for path in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/status",
        "/v1/users",
        "/v1/users/anna",
        "/v1/recovery",
        "/v1/relocations",
    ] {
        let (status, answer) = ask(&admin, "GET", path).await;
        assert_eq!(status, 200, "{path}: {answer}");
        let (status, head) = ask(&admin, "HEAD", path).await;
        assert_eq!((status, body(&head)), (200, ""), "{path}");
    }
}

#[tokio::test]
async fn the_status_and_the_users_are_what_the_core_shows() {
    let admin = door("degraded").await;
    let (_, answer) = ask(&admin, "GET", "/v1/status").await;
    let status: Status = serde_json::from_str(body(&answer)).unwrap();
    assert_eq!((&*status.servers[0].state, status.users), ("degraded", 2));

    let (_, answer) = ask(&admin, "GET", "/v1/users?limit=1").await;
    let users: Page<UserStatus> = serde_json::from_str(body(&answer)).unwrap();
    assert_eq!(&*users.items[0].name, "anna");
    let next = format!("/v1/users?limit=1&after={}", users.next.unwrap());
    let (_, answer) = ask(&admin, "GET", &next).await;
    let users: Page<UserStatus> = serde_json::from_str(body(&answer)).unwrap();
    assert_eq!((&*users.items[0].name, users.next), ("bert", None));

    let (status, _) = ask(&admin, "GET", "/v1/users/nobody").await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn a_door_that_knows_no_server_yet_is_alive_but_not_ready() {
    let admin = door("unknown").await;
    assert_eq!(ask(&admin, "GET", "/healthz").await.0, 200);
    let (status, answer) = ask(&admin, "GET", "/readyz").await;
    assert_eq!(status, 503);
    assert!(body(&answer).contains("ucs1"), "{answer}");
}

#[tokio::test]
async fn without_a_driver_nothing_is_healthy_and_metrics_still_answer() {
    let net = Net::bind(Settings::default()).unwrap();
    let admin = listen(net.handle());
    for (path, expected) in
        [("/healthz", 503), ("/readyz", 503), ("/v1/status", 503), ("/metrics", 200)]
    {
        assert_eq!(ask(&admin, "GET", path).await.0, expected, "{path}");
    }
    drop(net);
    assert_eq!(ask(&admin, "GET", "/v1/users").await.0, 503);
}

#[tokio::test]
async fn what_is_not_asked_properly_is_refused_each_in_its_way() {
    let admin = door("up").await;
    assert_eq!(ask(&admin, "GET", "/nothing").await.0, 404);
    assert_eq!(ask(&admin, "GET", "/v1/users?limit=9999").await.0, 400);
    let (status, answer) = ask(&admin, "DELETE", "/v1/users").await;
    assert_eq!(status, 405);
    assert!(answer.to_ascii_lowercase().contains("allow: get, head"), "{answer}");

    let at = admin.local_addr();
    let foreign = raw(at, b"GET /v1/users HTTP/1.1\r\nHost: evil.example\r\n\r\n").await;
    assert!(foreign.starts_with("HTTP/1.1 421 "), "{foreign}");
    let ours = raw(at, b"GET /v1/users HTTP/1.1\r\nHost: door.example:1\r\n\r\n").await;
    assert!(ours.starts_with("HTTP/1.1 200 "), "{ours}");
    let with_body = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc";
    let answer = raw(at, with_body).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    let large = format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {}\r\n\r\n", "x".repeat(20_000));
    let answer = raw(at, large.as_bytes()).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431 "), "{answer}");
}

#[tokio::test]
async fn an_order_needs_the_token_and_has_no_body() {
    let admin = door("up").await;
    let order = async |headers: &str| {
        let request =
            format!("POST /v1/recovery/pause HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n");
        let answer = raw(admin.local_addr(), request.as_bytes()).await;
        let status = answer.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0_u16);
        (status, answer)
    };
    let (status, answer) = order("").await;
    assert_eq!(status, 401);
    assert!(answer.to_ascii_lowercase().contains("www-authenticate: bearer"), "{answer}");
    let right = format!("Authorization: Bearer {}\r\n", "5a".repeat(32));
    assert_eq!(order("Authorization: Bearer 5a5a\r\n").await.0, 403);
    // A thousand million octets are announced, and none is waited for.
    let huge = format!("{right}Content-Length: 1000000000\r\n");
    assert_eq!(order(&huge).await.0, 413);
    // The core behind this listener knows nobody.
    let (status, answer) = order(&right).await;
    assert!(status == 404 && body(&answer).contains("there is no such user"), "{answer}");
    let (status, answer) = ask(&admin, "GET", "/v1/recovery/pause").await;
    assert!(status == 405 && answer.to_ascii_lowercase().contains("allow: post"), "{answer}");
}

#[tokio::test]
async fn an_order_with_a_body_is_read_only_as_far_as_it_may() {
    let admin = door("up").await;
    let order = async |headers: &str, body: &str| {
        let request =
            format!("POST /v1/users/anna/home HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n{body}");
        let answer = raw(admin.local_addr(), request.as_bytes()).await;
        let status = answer.split(' ').nth(1).and_then(|it| it.parse().ok()).unwrap_or(0_u16);
        (status, answer)
    };
    let right = format!("Authorization: Bearer {}\r\n", "5a".repeat(32));
    let huge = "Content-Length: 1000000000\r\n";
    // Whoever has no token is answered before anything of a body is looked at.
    let (status, answer) = order(huge, "").await;
    assert_eq!(status, 401);
    assert!(answer.to_ascii_lowercase().contains("www-authenticate: bearer"), "{answer}");
    assert_eq!(order(&format!("Authorization: Bearer 5a5a\r\n{huge}"), "").await.0, 403);
    assert_eq!(order(&format!("{right}{huge}"), "").await.0, 413);
    let chunked = format!("{right}Transfer-Encoding: chunked\r\n");
    let chunk = format!("10001\r\n{}\r\n0\r\n\r\n", " ".repeat(0x10001));
    assert_eq!(order(&chunked, &chunk).await.0, 413, "its length was not announced");
    let (status, answer) = order(&format!("{right}Content-Length: 9\r\n"), "not JSON!").await;
    assert!(status == 400 && body(&answer).contains(r#"{\"home\": \"ucs2\"}"#), "{answer}");
    assert_eq!(order(&format!("{right}Content-Length: 9\r\n"), "late").await.0, 408);
    // The core behind this listener knows nobody.
    let known = format!("{right}Content-Length: 15\r\n");
    let (status, answer) = order(&known, r#"{"home":"ucs1"}"#).await;
    assert!(status == 404 && body(&answer).contains("there is no such user"), "{answer}");
    let (_, page) = ask(&admin, "GET", "/metrics").await;
    assert!(page.contains("frontdoor_admin_tokens_refused_total 2\n"), "{page}");
}

#[tokio::test]
async fn clients_that_never_finish_their_request_do_not_lock_the_others_out() {
    let admin = door("up").await;
    let mut stuck = Vec::new();
    for _ in 0..64 {
        let mut stream = TcpStream::connect(admin.local_addr()).await.unwrap();
        stream.write_all(b"GET /healthz HT").await.unwrap();
        stuck.push(stream);
    }
    assert_eq!(ask(&admin, "GET", "/healthz").await.0, 200);
    drop(stuck);
    admin.admin.stop();
}
