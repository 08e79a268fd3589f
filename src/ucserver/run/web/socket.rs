//! The WebSocket of a session: the loop's words out, the client's in.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::body::Incoming;
use hyper::{Request as HttpRequest, Response};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::net::websocket::{self, Accepted, CloseCode, CloseFrame, Error, Message, Utf8Bytes};
use crate::ucserver::run::web::answer::{Body, Dress, Reply, boxed, full};
use crate::ucserver::run::web::connection::{Connection, Desk};
use crate::ucserver::run::web::request::Request;
use crate::ucserver::run::web::sessions::{Asked, SOCKET_QUEUE, ToSocket, code};

/// Octets of a message.
const MESSAGE_OCTETS: usize = 10 * 1024 * 1024;

/// How long a peer may take to read one, and to say goodbye.
const PATIENCE: Duration = Duration::from_secs(10);

/// Lets a request become the WebSocket of its session.
pub(super) async fn answer(
    desk: &Desk,
    place: &Connection,
    asking: &Request,
    mut request: HttpRequest<Incoming>,
) -> Response<Body> {
    let (response, socket) = match websocket::accept(&mut request, MESSAGE_OCTETS) {
        Ok(accepted) => accepted,
        Err(why) => return why.response().map(boxed),
    };
    let (to, told) = mpsc::channel(SOCKET_QUEUE);
    let session = asking.session().to_owned();
    let ask = |reply| Asked::Socket { session: session.clone(), to, reply };
    let Some(number) = desk.ask(ask).await else {
        return Reply::no_session().dressed(Dress::plain(asking));
    };
    let talk = Talk { desk: desk.clone(), session, number };
    let after = Box::pin(async move {
        if let Ok(socket) = socket.await {
            talk.carry(socket, told).await;
        }
        talk.tell(|session, socket| Asked::SocketEnded { session, socket }).await;
    });
    // A request that becomes something is the last of its connection.
    let _ = place.becomes.try_send(after);
    response.map(|_| full(Bytes::new()))
}

/// One WebSocket of one session.
struct Talk {
    desk: Desk,
    session: String,
    number: u64,
}

impl Talk {
    async fn tell(&self, what: impl FnOnce(String, u64) -> Asked) {
        // A loop that has ended has nobody to tell.
        let _ = self.desk.asks.send(what(self.session.clone(), self.number)).await;
    }

    /// Until one of the two has had enough. While the server is silent, nothing is read.
    async fn carry(&self, mut socket: Accepted, mut told: mpsc::Receiver<ToSocket>) {
        let mut silent = self.desk.is_silent.clone();
        let code = loop {
            let is_silent = *silent.borrow_and_update();
            tokio::select! {
                told = told.recv() => match told {
                    Some(ToSocket::Text(text)) => {
                        let sent = socket.send(Message::Text(text.into()));
                        if !matches!(timeout(PATIENCE, sent).await, Ok(Ok(()))) {
                            return;
                        }
                    }
                    Some(ToSocket::Close(code)) => break code,
                    None => return,
                },
                said = socket.next(), if !is_silent => match self.hear(said).await {
                    Ok(()) => {}
                    Err(Some(code)) => break code,
                    Err(None) => return,
                },
                changed = silent.changed() => if changed.is_err() {
                    return;
                },
            }
        };
        close(socket, code).await;
    }

    /// Why it is to be closed, or nothing if it is closed already.
    async fn hear(&self, said: Option<Result<Message, Error>>) -> Result<(), Option<u16>> {
        match said {
            Some(Ok(Message::Text(text))) => {
                let text = Bytes::from(text);
                self.tell(|session, socket| Asked::Said { session, socket, text }).await;
                Ok(())
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {
                self.tell(|session, socket| Asked::Heard { session, socket }).await;
                Ok(())
            }
            Some(Ok(Message::Binary(_))) => Err(Some(code::UNSUPPORTED)),
            // What is read next is the end.
            Some(Ok(Message::Close(_) | Message::Frame(_))) => Ok(()),
            Some(Err(Error::Capacity(_))) => Err(Some(code::TOO_BIG)),
            Some(Err(Error::Utf8(_))) => Err(Some(code::UNREADABLE)),
            Some(Err(_)) | None => Err(None),
        }
    }
}

/// Says goodbye, and waits a while for the answer.
async fn close(mut socket: Accepted, code: u16) {
    let frame = CloseFrame { code: CloseCode::from(code), reason: Utf8Bytes::default() };
    let goodbye = async {
        if socket.close(Some(frame)).await.is_ok() {
            while let Some(Ok(_)) = socket.next().await {}
        }
    };
    let _ = timeout(PATIENCE, goodbye).await;
}
