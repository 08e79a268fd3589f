//! Asking a running door, or telling it something: one blocking HTTP exchange with its admin
//! listener.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde::de::DeserializeOwned;
use zeroize::Zeroize as _;

use crate::admin::{Fault, Page};
use crate::private::Private;

/// How long the door may take for anything.
const PATIENCE: Duration = Duration::from_secs(5);
/// Items of a listing asked for at once.
const PAGE: usize = 1_000;
/// An answer longer than this is cut, and then not understood.
const ANSWER_MAX: u64 = 64 * 1024 * 1024;

/// Why a door did not answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AdminError {
    /// Nobody listens, or nobody answers.
    #[error(
        "no answer from {address} ({source}); is the door running? its admin address is \
         admin.address in its configuration, to be given here as --admin ADDRESS"
    )]
    Unreachable {
        /// Where it was sought.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// It did not do as it was asked.
    #[error("the door at {address} refused: {status} {text}")]
    Refused {
        /// Who.
        address: SocketAddr,
        /// The HTTP status.
        status: u16,
        /// What it said, and what to do; the beginning, if that is no fault of a door's.
        text: String,
    },
    /// It answered something this program does not understand.
    #[error(
        "{address} answered, but not as a frontdoor of this version does ({why}); \
         is --admin the admin address of a door?"
    )]
    NotUnderstood {
        /// Who.
        address: SocketAddr,
        /// What was wrong.
        why: String,
    },
}

/// Asks for a JSON document.
pub(super) fn get<T: DeserializeOwned>(address: SocketAddr, path: &str) -> Result<T, AdminError> {
    let body = exchange(address, &format!("GET {path}"), "Accept: application/json\r\n", "")?;
    serde_json::from_slice(&body)
        .map_err(|error| AdminError::NotUnderstood { address, why: error.to_string() })
}

/// Asks for a listing, page by page, and hands each page on that holds anything; whether any did.
/// `parameters` are names and values, not yet escaped.
pub(super) fn each_page<T: DeserializeOwned>(
    address: SocketAddr,
    path: &str,
    parameters: &[(&str, Option<String>)],
    mut show: impl FnMut(&[T], bool),
) -> Result<bool, AdminError> {
    let mut first = format!("{path}?limit={PAGE}");
    for (name, value) in parameters {
        if let Some(value) = value {
            // Writing to a String cannot fail.
            let _ok = write!(first, "&{name}={}", escaped(value));
        }
    }
    let (mut asked, mut found) = (first.clone(), false);
    loop {
        let page: Page<T> = get(address, &asked)?;
        if !page.items.is_empty() {
            show(&page.items, !found);
            found = true;
        }
        let Some(next) = page.next else { return Ok(found) };
        asked = format!("{first}&after={}", escaped(&next));
    }
}

/// Tells it something, as somebody who has its token; what exactly, in the body.
pub(super) fn post(
    address: SocketAddr,
    path: &str,
    token: &Private<[u8; 32]>,
    body: Option<&serde_json::Value>,
) -> Result<(), AdminError> {
    let body = body.map(ToString::to_string).unwrap_or_default();
    let mut header = String::with_capacity(160);
    header.push_str("Authorization: Bearer ");
    for octet in token.reveal() {
        // Writing to a String cannot fail.
        let _ok = write!(header, "{octet:02x}");
    }
    // Writing to a String cannot fail.
    let _ok =
        write!(header, "\r\nContent-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    let told = exchange(address, &format!("POST {path}"), &header, &body).map(drop);
    header.zeroize();
    told
}

/// A text as it may stand in a path (RFC 3986 §2.3: everything but unreserved is escaped).
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

/// HTTP/1.0, so that the answer is not chunked and ends with the connection.
fn exchange(
    address: SocketAddr,
    what: &str,
    headers: &str,
    body: &str,
) -> Result<Vec<u8>, AdminError> {
    let answer = send(address, what, headers, body)
        .map_err(|source| AdminError::Unreachable { address, source })?;
    let Some((status, body)) = split(&answer) else {
        return Err(AdminError::NotUnderstood { address, why: String::from("this is not HTTP") });
    };
    if !(200..300).contains(&status) {
        let text = match serde_json::from_slice(body) {
            Ok(Fault { error, what_to_do }) => format!("{error}; what to do: {what_to_do}"),
            Err(_) => String::from_utf8_lossy(body).chars().take(200).collect(),
        };
        return Err(AdminError::Refused { address, status, text: text.trim().to_owned() });
    }
    Ok(body.to_vec())
}

fn send(address: SocketAddr, what: &str, headers: &str, body: &str) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut request = format!("{what} HTTP/1.0\r\nHost: {address}\r\n{headers}\r\n{body}");
    let written = stream.write_all(request.as_bytes());
    request.zeroize();
    written?;
    let mut answer = Vec::new();
    stream.take(ANSWER_MAX).read_to_end(&mut answer)?;
    Ok(answer)
}

/// Status and body of an answer.
fn split(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = memchr::memmem::find(answer, b"\r\n\r\n")?;
    let head = std::str::from_utf8(answer.get(..end)?).ok()?;
    let mut words = head.lines().next()?.split(' ');
    let is_http = words.next()?.starts_with("HTTP/1.");
    let status = words.next()?.parse().ok()?;
    is_http.then_some((status, answer.get(end + 4..)?))
}

#[cfg(test)]
mod tests {
    use std::thread::JoinHandle;

    use super::*;

    #[test]
    fn an_answer_is_cut_into_status_and_body() {
        let answer = b"HTTP/1.0 200 OK\r\ncontent-type: application/json\r\n\r\n{}\r\n\r\n";
        assert_eq!(split(answer), Some((200, &b"{}\r\n\r\n"[..])));
        assert_eq!(split(b"HTTP/1.1 404 Not Found\r\n\r\n"), Some((404, &b""[..])));
    }

    #[test]
    fn what_is_not_http_is_no_answer() {
        for answer in
            [&b""[..], b"\r\n\r\n", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 OK\r\n\r\n", b"HTTP/1.1 200"]
        {
            assert_eq!(split(answer), None);
        }
    }

    /// Answers one request after the other, and what the requests were.
    fn answering(answers: &'static [&'static str]) -> (SocketAddr, JoinHandle<Vec<String>>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let thread = std::thread::spawn(move || {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let octets = stream.read(&mut request).unwrap();
                let request = String::from_utf8_lossy(&request[..octets]);
                asked.push(request.split(' ').nth(1).unwrap_or_default().to_owned());
                write!(stream, "HTTP/1.0 {answer}").unwrap();
            }
            asked
        });
        (address, thread)
    }

    #[test]
    fn a_listing_is_followed_to_its_end_past_pages_without_anybody() {
        let (address, asked) = answering(&[
            "200 OK\r\n\r\n{\"items\": [], \"next\": \"f-10\"}",
            "200 OK\r\n\r\n{\"items\": [1, 2], \"next\": \"f-30\"}",
            "200 OK\r\n\r\n{\"items\": [3], \"next\": null}",
        ]);
        let mut shown: Vec<(Vec<u8>, bool)> = Vec::new();
        let parameters = [("server", Some("ucs 2".to_owned())), ("home", None)];
        let show = |page: &[u8], first| shown.push((page.to_vec(), first));
        assert!(each_page(address, "/v1/users", &parameters, show).unwrap());
        assert_eq!(shown, [(vec![1, 2], true), (vec![3], false)]);
        let first = "/v1/users?limit=1000&server=ucs%202";
        let next = |cursor| format!("{first}&after={cursor}");
        assert_eq!(asked.join().unwrap(), [first.to_owned(), next("f-10"), next("f-30")]);
    }

    #[test]
    fn what_a_door_refuses_is_said_with_what_to_do() {
        let (address, _asked) = answering(&[
            "409 Conflict\r\n\r\n{\"error\": \"it is so\", \"what_to_do\": \"nothing\"}",
            "502 Bad Gateway\r\n\r\n<html>",
        ]);
        let ask = || get::<serde_json::Value>(address, "/v1/status").unwrap_err().to_string();
        assert!(ask().ends_with("refused: 409 it is so; what to do: nothing"));
        assert!(ask().ends_with("refused: 502 <html>"));
    }

    #[test]
    fn a_name_cannot_leave_its_place_in_the_path() {
        assert_eq!(escaped("sip:a b/../?x@h"), "sip%3Aa%20b%2F..%2F%3Fx%40h");
        assert_eq!(escaped("jürgen"), "j%C3%BCrgen");
    }

    #[test]
    fn a_door_that_is_not_there_is_said_with_what_to_do() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = get::<serde_json::Value>(address, "/v1/status").unwrap_err().to_string();
        assert!(error.contains("is the door running?"), "{error}");
        assert!(error.contains("admin.address"), "{error}");
    }
}
