//! Health documents that servers send by themselves (H1): taken from their own address alone.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use crate::harness::{Door, LOCALHOST, Server, Setup, free, soon};

/// Everybody's on this machine, but nobody's here.
const ELSEWHERE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

const DOCUMENT: &str = r#"{"format":1,"boot_id":"a","users":{"logged_in":3,"capacity":77}}"#;

fn door_of(server: &Server, pushes: SocketAddr) -> Door {
    Setup::with([server]).takes_documents_at(pushes).start()
}

fn said(request: &[u8], to: SocketAddr) -> String {
    let mut stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(8))).unwrap();
    // Who is refused early is not read to the end.
    let _refused = stream.write_all(request);
    let mut answer = String::new();
    let _reset = stream.read_to_string(&mut answer);
    answer
}

fn posted(to: SocketAddr, path: &str, body: &str) -> String {
    let length = body.len();
    let head = format!("POST {path} HTTP/1.1\r\nHost: {to}\r\nContent-Length: {length}\r\n\r\n");
    said(format!("{head}{body}").as_bytes(), to)
}

fn status(answer: &str) -> &str {
    answer.get(9..12).unwrap_or("")
}

#[test]
fn a_server_that_sends_its_document_is_heard() {
    let pushes = free(LOCALHOST);
    let to = pushes.to_string();
    let arguments = ["--push-to", &to, "--capacity", "77"];
    let server = Server::start_with("ucs1", free(LOCALHOST), &arguments);
    let door = door_of(&server, pushes);
    soon("it says what it can serve", || (door.server("ucs1").capacity == 77).then_some(()));
    assert!(door.metric("frontdoor_net_documents_pushed_total") > 0, "{}", door.page("/metrics"));
    assert_eq!(door.metric("frontdoor_net_pushes_of_strangers_total"), 0);
    drop(server);
}

#[test]
fn nobody_else_is_heard_and_no_lie_does_harm() {
    // The server is elsewhere on this machine: whoever pushes from here is a stranger to it.
    let (here, there) = (free(LOCALHOST), free(ELSEWHERE));
    let servers = [Server::start("ucs1", here), Server::start("ucs2", there)];
    let pushes = free(LOCALHOST);
    let door = Setup::with(&servers).takes_documents_at(pushes).start();
    let before = door.server("ucs1").capacity;

    for path in ["/v1/health/ucs2", "/v1/health/ucs9", "/v1/health/", "/", "/v1/health/../ucs1"] {
        assert_eq!(status(&posted(pushes, path, DOCUMENT)), "403", "{path}");
    }
    soon("strangers are counted", || {
        (door.metric("frontdoor_net_pushes_of_strangers_total") == 5).then_some(())
    });
    let named = door.log().matches("a stranger pushes health documents").count();
    assert_eq!(named, 1, "{}", door.log());

    let lies = [
        "not JSON",
        "[[[[[[[[",
        r#"{"format":1,"boot_id":"a","users":{"logged_in":-3}}"#,
        r#"{"format":1,"boot_id":"a","users":{"logged_in":3,"capacity":0}}"#,
        r#"{"format":1,"boot_id":"a","users":{"logged_in":1e99}}"#,
        r#"{"format":1,"boot_id":"","users":{"logged_in":3}}"#,
        r#"{"format":1,"boot_id":"a","users":{"logged_in":3},"load":{"cpu_percent":101}}"#,
        r#"{"format":2,"boot_id":"a","users":{"logged_in":3}}"#,
        "",
    ];
    for lie in lies {
        assert_eq!(status(&posted(pushes, "/v1/health/ucs1", lie)), "422", "{lie}");
    }
    let version = "9".repeat(10_240);
    let long =
        format!(r#"{{"format":1,"boot_id":"a","version":"{version}","users":{{"logged_in":3}}}}"#);
    assert_eq!(status(&posted(pushes, "/v1/health/ucs1", &long)), "422");
    assert_eq!(status(&posted(pushes, "/v1/health/ucs1", &" ".repeat(1 << 20))), "413");
    let giant = format!(
        "POST /v1/health/ucs1 HTTP/1.1\r\nHost: {pushes}\r\nContent-Length: 1073741824\r\n\r\n"
    );
    assert_eq!(status(&said(giant.as_bytes(), pushes)), "413");
    let get = format!("GET /v1/health/ucs1 HTTP/1.1\r\nHost: {pushes}\r\n\r\n");
    assert_eq!(status(&said(get.as_bytes(), pushes)), "405");
    // Half a document and silence: let go in time, and nobody else waits for it.
    let half = giant.replace("1073741824", "100") + "{";
    let slow = std::thread::spawn(move || said(half.as_bytes(), pushes));
    assert_eq!(status(&posted(pushes, "/v1/health/ucs1", DOCUMENT)), "204");
    soon("the truth is taken", || (door.server("ucs1").capacity == 77).then_some(()));
    assert_ne!(before, 77);
    assert_eq!(slow.join().unwrap(), "", "cut off, not answered");
    let burst: Vec<String> = (0..20).map(|_| posted(pushes, "/v1/health/ucs1", DOCUMENT)).collect();
    assert!(burst.iter().any(|answer| status(answer) == "429"), "{burst:?}");
    assert_eq!(&*door.server("ucs1").state, "up");
    drop(servers);
}
