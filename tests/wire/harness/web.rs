//! A client of a WebService: HTTP calls and WebSockets, each waited for.

use std::net::SocketAddr;

use bytes::Bytes;
use frontdoor::net::websocket::{self, Message};
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::header::HOST;
use hyper::{HeaderMap, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;
use tokio::time::{Duration, timeout};

use crate::harness::PATIENCE;

/// Octets of a message.
const MESSAGE_OCTETS: usize = 32 * 1024 * 1024;

/// Where clients of a WebService run.
pub(crate) struct Web {
    runtime: Runtime,
    pub(crate) address: SocketAddr,
}

/// An answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// An HTTP connection.
pub(crate) struct Line<'w> {
    web: &'w Web,
    sender: SendRequest<Full<Bytes>>,
    task: JoinHandle<hyper::Result<()>>,
}

/// The client's side of a WebSocket.
pub(crate) struct Socket<'w> {
    web: &'w Web,
    socket: tokio_tungstenite::WebSocketStream<TcpStream>,
}

impl Web {
    pub(crate) fn at(address: SocketAddr) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        Self { runtime, address }
    }

    fn wait<T>(&self, what: impl Future<Output = T>) -> T {
        self.within(PATIENCE, what).unwrap()
    }

    fn within<T>(&self, patience: Duration, what: impl Future<Output = T>) -> Option<T> {
        self.runtime.block_on(async { timeout(patience, what).await.ok() })
    }

    /// A new connection.
    pub(crate) fn line(&self) -> Line<'_> {
        let (sender, task) = self.wait(async {
            let stream = TcpStream::connect(self.address).await.unwrap();
            let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
            (sender, tokio::spawn(connection))
        });
        Line { web: self, sender, task }
    }

    /// One request on a connection of its own.
    pub(crate) fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        self.line().ask(method, path, headers, body)
    }

    pub(crate) fn get(&self, path: &str, headers: &[(&str, &str)]) -> Reply {
        self.ask("GET", path, headers, "")
    }

    /// A session of somebody's.
    pub(crate) fn log_in(&self, user: &str) -> String {
        let path = format!("/ws/client/createsession?clientappid=15&user={user}&pass=pw-{user}");
        self.get(&path, &[]).session()
    }

    /// A WebSocket, or the status that was answered instead.
    pub(crate) fn socket(&self, path: &str) -> Result<Socket<'_>, u16> {
        let socket = self.wait(async {
            let stream = TcpStream::connect(self.address).await.unwrap();
            let url = format!("ws://{}{path}", self.address);
            websocket::connect(stream, &url, MESSAGE_OCTETS).await
        });
        match socket {
            Ok(socket) => Ok(Socket { web: self, socket }),
            Err(error) => match *error {
                websocket::Error::Http(response) => Err(response.status().as_u16()),
                other => panic!("{other}"),
            },
        }
    }

    /// The WebSocket of a session.
    pub(crate) fn events(&self, session: &str) -> Socket<'_> {
        self.socket(&format!("/ws/client/websocket?x-ucsessionid={session}")).unwrap()
    }
}

impl Line<'_> {
    pub(crate) fn ask(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Reply {
        self.ask_within(PATIENCE, method, path, headers, body).unwrap()
    }

    /// The answer, if one comes in this time.
    pub(crate) fn ask_within(
        &mut self,
        patience: Duration,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Option<Reply> {
        let host = self.web.address.to_string();
        let mut request = Request::builder().method(method).uri(path).header(HOST, host);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        self.web.within(patience, async {
            let response = self.sender.send_request(request).await.unwrap();
            let (parts, body) = response.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            Reply { status: parts.status.as_u16(), headers: parts.headers, body }
        })
    }

    pub(crate) fn close(self) {
        let Self { web, sender, task } = self;
        drop(sender);
        web.wait(task).unwrap().unwrap();
    }

    /// Whether the peer has closed it, by the end of this time.
    pub(crate) fn is_closed_within(&self, patience: Duration) -> bool {
        let closed = async {
            while !self.sender.is_closed() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        self.web.within(patience, closed).is_some()
    }
}

impl Reply {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The session that was made.
    pub(crate) fn session(&self) -> String {
        assert_eq!(self.status, 200, "{self:?}");
        self.json()["sessionid"].as_str().unwrap().to_owned()
    }

    /// All lines of a header.
    pub(crate) fn header(&self, name: &str) -> Vec<&str> {
        self.headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect()
    }
}

impl Socket<'_> {
    pub(crate) fn send(&mut self, message: Message) {
        assert!(self.try_send(message), "it is open");
    }

    /// Whether it went out.
    pub(crate) fn try_send(&mut self, message: Message) -> bool {
        self.web.wait(self.socket.send(message)).is_ok()
    }

    pub(crate) fn say(&mut self, text: &str) {
        self.send(Message::Text(text.into()));
    }

    /// The next frame that is not about the connection; nothing if it is over or broken.
    pub(crate) fn next(&mut self) -> Option<Message> {
        self.next_within(PATIENCE).unwrap()
    }

    /// The same, if it comes in this time.
    #[expect(clippy::option_option, reason = "nothing in time, and an end in time")]
    pub(crate) fn next_within(&mut self, patience: Duration) -> Option<Option<Message>> {
        let socket = &mut self.socket;
        self.web.within(patience, async {
            match socket.next().await {
                Some(Ok(message)) => Some(message),
                Some(Err(_)) | None => None,
            }
        })
    }

    /// The next message: the only one of its array.
    pub(crate) fn hear(&mut self) -> Value {
        let Some(Message::Text(text)) = self.next() else { panic!("no text") };
        let Value::Array(mut all) = serde_json::from_str(&text).unwrap() else {
            panic!("no array: {text}")
        };
        assert_eq!(all.len(), 1, "{all:?}");
        all.remove(0)
    }

    /// With which code it was closed.
    pub(crate) fn code(&mut self) -> Option<u16> {
        match self.next() {
            Some(Message::Close(frame)) => Some(frame?.code.into()),
            other => panic!("no end: {other:?}"),
        }
    }
}
