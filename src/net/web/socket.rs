//! A client's WebSocket: what it says goes to the core, what is for it comes from its session.

use std::rc::Rc;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt as _};
use tokio::time::{Instant, interval_at, timeout};

use crate::door::Input;
use crate::net::web::session::Session;
use crate::net::web::{Counts, Gateway};
use crate::net::websocket::{Accepted, Error, Message, Utf8Bytes};
use crate::ucsap;
use crate::ucws::call;

/// Serves a WebSocket until it, or its session, is over.
pub(super) async fn serve(gateway: Rc<Gateway>, session: Rc<Session>, mut socket: Accepted) {
    let taker = session.take_over();
    let limits = gateway.settings.limits;
    let mut ping = interval_at(Instant::now() + limits.ping, limits.ping);
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            said = socket.next() => {
                heard = Instant::now();
                match said {
                    Some(Ok(message)) => match octets_of(message) {
                        Ok(Some(octets)) => {
                            if !say(&gateway, &session, octets).await {
                                break;
                            }
                        }
                        Ok(None) => {}
                        Err(()) => break,
                    },
                    Some(Err(_)) | None => break,
                }
            }
            event = session.next_event(taker) => {
                let Some(event) = event else { break };
                if !tell(&gateway, &mut socket, event.clone()).await {
                    session.give_back(event);
                    break;
                }
            }
            _ = ping.tick() => {
                let alive = heard.elapsed() < limits.ping * 2;
                if !alive || send(&gateway, &mut socket, Message::Ping(Bytes::new())).await.is_err() {
                    break;
                }
            }
        }
    }
    session.let_go(taker);
    let _gone = timeout(limits.body_patience, part(&mut socket)).await;
}

/// Says goodbye, or answers one, and waits for the peer's: whoever hangs up with octets unread may take
/// back what was sent.
async fn part(socket: &mut Accepted) {
    // Not `WebSocketStream::close`: it sends nothing once a peer has said goodbye, not even the answer.
    if SinkExt::close(socket).await.is_ok() {
        while let Some(Ok(_)) = socket.next().await {}
    }
}

/// What a client says is text, one message in each; BER is not spoken here.
fn octets_of(message: Message) -> Result<Option<Bytes>, ()> {
    match message {
        Message::Text(text) => Ok(Some(text.into())),
        Message::Ping(_) | Message::Pong(_) => Ok(None),
        Message::Binary(_) | Message::Close(_) | Message::Frame(_) => Err(()),
    }
}

/// `false` if it was no message: whoever writes one that cannot be read cannot be trusted with the next.
async fn say(gateway: &Gateway, session: &Session, message: Bytes) -> bool {
    session.touch();
    let is_json = message.first().is_some_and(|octet| matches!(octet, b'{' | b'['));
    let parsed = ucsap::Message::parse(message.clone()).ok().filter(|_| is_json);
    // Ids from there on are those of calls by HTTP.
    let fits = |it: &ucsap::Message| it.id().is_none_or(|id| id < call::IDS_FROM);
    if session.is_over() || !parsed.as_ref().is_some_and(fits) {
        Counts::one(&gateway.counts.refused);
        return false;
    }
    gateway.say(Input::Rose { flow: session.flow, message }).await;
    true
}

async fn tell(gateway: &Gateway, socket: &mut Accepted, event: Bytes) -> bool {
    // What the core passes on was read as JSON before, and so is text.
    let Ok(text) = Utf8Bytes::try_from(event) else { return true };
    send(gateway, socket, Message::Text(text)).await.is_ok()
}

/// A client that does not read in time is given up; what waits stays for its next WebSocket.
async fn send(gateway: &Gateway, socket: &mut Accepted, message: Message) -> Result<(), Error> {
    match timeout(gateway.settings.limits.body_patience, socket.send(message)).await {
        Ok(sent) => sent,
        Err(_) => {
            Counts::one(&gateway.counts.slow_readers);
            Err(Error::ConnectionClosed)
        }
    }
}
