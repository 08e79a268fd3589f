//! A leg: one session towards its server's WebService. `createsession`, then a WebSocket for messages,
//! and a request for each call.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use hyper_util::client::legacy;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval_at, timeout};
use tokio_tungstenite::WebSocketStream;

use crate::door::Input;
use crate::net::web::exchange::{answer_of, call_for_server, for_server};
use crate::net::web::session::{Session, renamed};
use crate::net::web::{Counts, Gateway};
use crate::net::websocket::{Message, Utf8Bytes, connect};
use crate::sip::Flow;
use crate::ucsap::login::detail;
use crate::ucsap::{self, Encoding, Envelope, Style};
use crate::ucws::{Answer, Opened, Opening, Purpose, Request, call};

/// What a leg is told to do; it ends when nothing can be told any more.
#[derive(Debug)]
pub(super) enum Order {
    /// Show one more step.
    Open(Arc<Opening>),
    /// Send this.
    Send(Bytes),
}

/// How long a server that is left may take to hear of it.
const GOODBYE: Duration = Duration::from_secs(2);

type Socket = WebSocketStream<TcpStream>;

/// Why a leg is over.
struct Lost {
    /// The server's host refused.
    refused: bool,
}

/// A leg while it lives.
#[derive(Clone)]
struct Leg {
    gateway: Rc<Gateway>,
    flow: Flow,
    session: Rc<Session>,
    /// What the server calls the session.
    id: String,
}

/// Lives as long as the core wants it, or its server lets it.
pub(super) async fn run(
    gateway: Rc<Gateway>,
    (flow, number): (Flow, u64),
    session: Rc<Session>,
    opening: Arc<Opening>,
    mut orders: mpsc::Receiver<Order>,
) {
    let mut leg = Leg { gateway, flow, session, id: String::new() };
    let lost = leg.live(opening, &mut orders).await.err();
    Box::pin(leg.say_goodbye()).await;
    if let Some(Lost { refused }) = lost {
        leg.gateway.legs.borrow_mut().remove(&number);
        leg.gateway.say(Input::Closed { flow, refused }).await;
    }
}

impl Leg {
    async fn live(
        &mut self,
        mut opening: Arc<Opening>,
        orders: &mut mpsc::Receiver<Order>,
    ) -> Result<(), Lost> {
        loop {
            let created = tokio::select! {
                // What this takes is given back before the session begins to live.
                created = Box::pin(self.create(&opening)) => created?,
                // Nobody wants it any more, before it was there. Nothing else is said so early.
                None = orders.recv() => return Ok(()),
            };
            let (opened, socket) = created;
            drop(opening);
            self.gateway.say(Input::Opened { flow: self.flow, opened }).await;
            if let Some(socket) = socket {
                return self.relay(socket, orders).await;
            }
            match orders.recv().await {
                Some(Order::Open(next)) => opening = next,
                Some(Order::Send(_)) | None => return Ok(()),
            }
        }
    }

    /// Shows a server what was shown.
    async fn create(&mut self, opening: &Opening) -> Result<(Opened, Option<Socket>), Lost> {
        let limits = self.gateway.settings.limits;
        let answer = self.ask(&opening.request).await?;
        if opening.purpose != Purpose::Session || answer.status != 200 {
            let opened = match answer.status {
                502..=504 => Opened::Unavailable(answer),
                _ => Opened::Answered(answer),
            };
            return Ok((opened, None));
        }
        let Some(id) = session_of(&answer.body) else {
            return Ok((Opened::Answered(answer), None));
        };
        self.id = id;
        let user = match opening.credentials.claimed_user() {
            Some(_) => None,
            None => self.ask_who().await,
        };
        let server = self.flow.remote;
        let stream = TcpStream::connect(server).await.map_err(|error| Lost::of(&error))?;
        // Without it small messages wait for one another.
        let _ = stream.set_nodelay(true);
        let url = format!("ws://{server}/ws/client/websocket?x-ucsessionid={}", self.id);
        let socket = timeout(limits.answer_patience, connect(stream, &url, limits.message)).await;
        let Ok(Ok(socket)) = socket else { return Err(Lost { refused: false }) };
        self.session.server.set(Some(server));
        let answer = self.ours(answer);
        Ok((Opened::Session { answer, user }, Some(socket)))
    }

    /// Asks whose a session is that was created by something that does not say.
    async fn ask_who(&self) -> Option<String> {
        let request = Request {
            method: "POST".to_owned(),
            target: "/ws/client/asnGetLoggedInContactV2".to_owned(),
            headers: vec![("x-ucsessionid".to_owned(), self.id.clone().into_bytes())],
            body: b"{}".to_vec(),
        };
        let answer = self.ask(&request).await.ok().filter(|answer| answer.status == 200)?;
        let contact: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
        Some(contact.get("u8sLoggedInUser")?.as_str()?.to_owned())
    }

    /// One request and its answer, whole.
    async fn ask(&self, request: &Request) -> Result<Answer, Lost> {
        let limits = self.gateway.settings.limits;
        let failed = Lost { refused: false };
        let Ok(request) = for_server(request, self.flow.remote) else { return Err(failed) };
        let response =
            match timeout(limits.answer_patience, self.gateway.client.request(request)).await {
                Ok(Ok(response)) => response,
                Ok(Err(error)) => return Err(Lost::by(&error)),
                Err(_) => return Err(failed),
            };
        let answer = answer_of(response, limits.message, limits.body_patience).await;
        answer.map_err(|_| failed)
    }

    /// Messages both ways, and calls.
    async fn relay(
        &self,
        mut socket: Socket,
        orders: &mut mpsc::Receiver<Order>,
    ) -> Result<(), Lost> {
        let mut calls = tokio::task::JoinSet::new();
        let every = self.gateway.settings.limits.ping;
        let mut ping = interval_at(Instant::now() + every, every);
        let mut heard = Instant::now();
        let ended = loop {
            tokio::select! {
                // Servers end sessions that say nothing, and a way that is cut says nothing either.
                _ = ping.tick() => {
                    let alive = heard.elapsed() < every * 2;
                    let asked = timeout(GOODBYE, socket.send(Message::Ping(Bytes::new()))).await;
                    if !alive || !matches!(asked, Ok(Ok(()))) {
                        break Err(Lost { refused: false });
                    }
                }
                said = socket.next() => match said {
                    Some(Ok(Message::Text(text))) => {
                        heard = Instant::now();
                        let message = renamed(text.into(), &self.id, &self.session.id);
                        self.gateway.say(Input::Rose { flow: self.flow, message }).await;
                    }
                    Some(Ok(Message::Ping(_) | Message::Pong(_))) => heard = Instant::now(),
                    Some(Ok(Message::Binary(_) | Message::Close(_) | Message::Frame(_)))
                    | Some(Err(_))
                    | None => break Err(Lost { refused: false }),
                },
                order = orders.recv() => match order {
                    Some(Order::Send(bytes)) => match self.call_in(&bytes) {
                        Some((id, request)) => {
                            let leg = self.clone();
                            calls.spawn_local(async move { leg.call(id, request).await });
                        }
                        None => self.send(&mut socket, bytes).await?,
                    },
                    Some(Order::Open(_)) => {}
                    None => break Ok(()),
                },
                Some(called) = calls.join_next() => {
                    if let Ok(Err(lost)) = called {
                        break Err(lost);
                    }
                }
            }
        };
        let _gone = timeout(GOODBYE, socket.close(None)).await;
        ended
    }

    async fn send(&self, socket: &mut Socket, bytes: Bytes) -> Result<(), Lost> {
        let text = renamed(call::json_text(&bytes), &self.session.id, &self.id);
        let Ok(text) = Utf8Bytes::try_from(text) else { return Ok(()) };
        let patience = self.gateway.settings.limits.body_patience;
        match timeout(patience, socket.send(Message::Text(text))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(Lost { refused: false }),
        }
    }

    /// The call that a message is, if it is one.
    fn call_in(&self, bytes: &Bytes) -> Option<(i64, Request)> {
        if !self.session.has_calls() {
            return None;
        }
        let message = ucsap::Message::parse(bytes.clone()).ok()?;
        let id = message.id().filter(|id| *id >= call::IDS_FROM)?;
        let request = self.session.request_of(id)?;
        Some((id, call_for_server(&request, call::argument(&message))))
    }

    /// Makes a call, and tells the core what it came to.
    async fn call(self, id: i64, request: Request) -> Result<(), Lost> {
        let request = self.theirs(request);
        let patience = self.gateway.settings.limits.answer_patience;
        let message = match timeout(patience, self.ask(&request)).await {
            Ok(Ok(answer)) => {
                let answer = self.ours(answer);
                let message = call::to_rose(id, &answer);
                self.session.answered(id, answer);
                message
            }
            Ok(Err(lost)) => return Err(lost),
            Err(_) => {
                Counts::one(&self.gateway.counts.unanswered);
                let (encoding, style) = (Encoding::Json, Style::Plain);
                let envelope = Envelope { encoding, style, session: None };
                envelope.error(id, detail::INTERNAL, "the server does not answer")
            }
        };
        self.gateway.say(Input::Rose { flow: self.flow, message }).await;
        Ok(())
    }

    /// With the server's name for the session in place of the client's.
    fn theirs(&self, mut request: Request) -> Request {
        let (ours, theirs) = (self.session.id.as_str(), self.id.as_str());
        request.target = request.target.replace(ours, theirs);
        for (_, value) in &mut request.headers {
            let octets = std::mem::take(value);
            *value = renamed(octets.into(), ours, theirs).into();
        }
        let octets = std::mem::take(&mut request.body);
        request.body = renamed(octets.into(), ours, theirs).into();
        request
    }

    /// And the other way round.
    fn ours(&self, mut answer: Answer) -> Answer {
        answer.body = renamed(answer.body, &self.id, &self.session.id);
        for (_, value) in &mut answer.headers {
            let octets = std::mem::take(value);
            *value = renamed(octets.into(), &self.id, &self.session.id).into();
        }
        answer
    }

    /// The server need not wait for somebody who will not come back.
    async fn say_goodbye(&self) {
        if self.id.is_empty() {
            return;
        }
        if self.session.server.get() == Some(self.flow.remote) && self.session.is_over() {
            self.session.server.set(None);
        }
        let target = format!("/ws/client/destroysession?ucsessionid={}", self.id);
        let headers = vec![("x-ucsessionid".to_owned(), self.id.clone().into_bytes())];
        let request = Request { method: "GET".to_owned(), target, headers, body: Vec::new() };
        let _gone = timeout(GOODBYE, self.ask(&request)).await;
    }
}

impl Lost {
    fn of(error: &std::io::Error) -> Self {
        Self { refused: error.kind() == std::io::ErrorKind::ConnectionRefused }
    }

    /// What is behind it may say that the server's host refused.
    fn by(error: &legacy::Error) -> Self {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<std::io::Error>()
                && Self::of(error).refused
            {
                return Self { refused: true };
            }
            cause = error.source();
        }
        Self { refused: false }
    }
}

/// What the server calls the session it has created.
fn session_of(body: &[u8]) -> Option<String> {
    const OCTETS: std::ops::RangeInclusive<usize> = 8..=256;
    let created = body.get(call::json_of(body)?)?;
    let created: serde_json::Value = serde_json::from_slice(created).ok()?;
    let id = created.get("sessionid")?.as_str()?;
    // It stands in URLs, and takes the place of a name of ours in whatever passes.
    let is_name = id.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_{}".contains(&octet));
    (is_name && OCTETS.contains(&id.len())).then(|| id.to_owned())
}
