//! A web server of somebody else's: one page, and what it tells where it is from.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use serde_json::Value;

use crate::harness::{LOCALHOST, PATIENCE};

const PAGE: &str = include_str!("../clients/page.html");

/// Octets of one thing that is told.
const HEARD_OCTETS: u64 = 1024 * 1024;

/// Its thread ends with the test.
pub(crate) struct Site {
    pub(crate) address: SocketAddr,
    news: Receiver<Value>,
}

impl Site {
    pub(crate) fn open() -> Self {
        let listener = TcpListener::bind((LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, news) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let tell = tell.clone();
                // A browser keeps connections for later.
                std::thread::spawn(move || serve(&stream.unwrap(), &tell));
            }
        });
        Self { address, news }
    }

    /// The next thing the page tells: its kind and it.
    pub(crate) fn heard(&self) -> Option<(String, Value)> {
        let Value::Object(heard) = self.news.recv_timeout(PATIENCE).ok()? else {
            panic!("the page tells something by name")
        };
        heard.into_iter().next()
    }
}

/// One request of a connection.
fn serve(stream: &TcpStream, tell: &Sender<Value>) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut lines = BufReader::new(stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        match lines.read_line(&mut line) {
            // It was opened in case it is needed.
            Ok(0) | Err(_) => return,
            Ok(_) if line.trim().is_empty() => break,
            Ok(_) => head.push(line.trim().to_ascii_lowercase()),
        }
    }
    let octets = head.iter().find_map(|line| line.strip_prefix("content-length: "));
    let octets = octets.map_or(0, |octets| octets.parse().unwrap());
    assert!(octets <= HEARD_OCTETS, "{head:?}");
    let mut body = String::new();
    lines.take(octets).read_to_string(&mut body).unwrap();
    let answer = match head[0].split(['?', ' ']).take(2).collect::<Vec<_>>()[..] {
        ["get", "/page.html"] => PAGE,
        ["post", "/heard"] => {
            // The test may have ended.
            let _nobody = tell.send(serde_json::from_str(&body).unwrap());
            ""
        }
        _ => panic!("nobody asks for this: {head:?}"),
    };
    let length = answer.len();
    let mut stream = stream;
    // Neither may the browser be there any more.
    let _gone = write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{answer}"
    );
}
