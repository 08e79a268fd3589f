//! A leg: one session towards its server's WebService. `createsession`, then a WebSocket for messages,
//! and a request for each call.
//!
//! What its WebSocket comes to decides about the leg; what a call comes to, about that call.

use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt as _};
use hyper_util::client::legacy;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{Instant, interval_at, sleep, timeout};
use tokio_tungstenite::WebSocketStream;

use crate::door::Input;
use crate::net::web::exchange::{
    NoBody, answer_of, call_for_server, for_server, is_bound_to_connection, with_ucsid,
};
use crate::net::web::session::{Session, renamed};
use crate::net::web::{CONNECT_PATIENCE, Counts, Gateway, listener};
use crate::net::websocket::{Message, Utf8Bytes, connect};
use crate::sip::Flow;
use crate::ucsap::login::detail;
use crate::ucsap::{self, Encoding, Envelope, Style};
use crate::ucws::{Answer, Opened, Opening, Purpose, Request, call, words};

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

/// So much later than a call that broke, at most, it is seen that the server is gone.
const WHETHER_GONE: Duration = Duration::from_secs(1);

type Socket = WebSocketStream<TcpStream>;

/// What a request came to that was not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unanswered {
    /// The server's host refused.
    Refused,
    /// The way broke, or what came was no answer.
    Broken,
    /// It took too long.
    Late,
    /// The answer is too long.
    TooLong,
}

/// A leg while it lives.
#[derive(Clone)]
struct Leg {
    gateway: Rc<Gateway>,
    flow: Flow,
    session: Rc<Session>,
    /// What the server calls the session.
    id: String,
    /// Which UCServer the client means, where several are behind one WebService.
    ucsid: Option<String>,
}

/// What a server made of what it was shown.
struct Created {
    opened: Opened,
    /// The session there is, and its WebSocket.
    leg: Leg,
    socket: Option<Socket>,
}

/// Lives as long as the core wants it, or its server lets it.
pub(super) async fn run(
    gateway: Rc<Gateway>,
    (flow, number): (Flow, u64),
    session: Rc<Session>,
    opening: Arc<Opening>,
    mut orders: mpsc::Receiver<Order>,
) {
    let said = opening.request.header("x-ucsid").map(str::to_owned);
    let said = said.or_else(|| opening.request.parameter("ucsid"));
    let ucsid = said.map(|said| match gateway.ucsid_at(flow.remote, &said) {
        Some(theirs) => theirs.to_owned(),
        None => said,
    });
    let mut leg = Leg { gateway, flow, session, id: String::new(), ucsid };
    if let Err(why) = leg.live(opening, &mut orders).await {
        leg.gateway.legs.borrow_mut().remove(&number);
        let refused = why == Unanswered::Refused;
        leg.gateway.say(Input::Closed { flow, refused }).await;
    }
    Box::pin(leg.say_goodbye()).await;
}

impl Leg {
    async fn live(
        &mut self,
        mut opening: Arc<Opening>,
        orders: &mut mpsc::Receiver<Order>,
    ) -> Result<(), Unanswered> {
        loop {
            // A task of its own: what it takes is given back before the session begins to live, and it
            // comes to its end even if nobody wants the session any more.
            let mut creating = spawn_local(self.clone().create(opening));
            let created = tokio::select! {
                created = &mut creating => created.map_err(|_| Unanswered::Broken)??,
                None = orders.recv() => {
                    spawn_local(async move {
                        if let Ok(Ok(created)) = creating.await {
                            created.leg.say_goodbye().await;
                        }
                    });
                    return Ok(());
                }
            };
            self.id = created.leg.id;
            self.gateway.say(Input::Opened { flow: self.flow, opened: created.opened }).await;
            if let Some(socket) = created.socket {
                return self.relay(socket, orders).await;
            }
            match orders.recv().await {
                Some(Order::Open(next)) => opening = next,
                Some(Order::Send(_)) | None => return Ok(()),
            }
        }
    }

    /// Shows a server what was shown.
    async fn create(mut self, opening: Arc<Opening>) -> Result<Created, Unanswered> {
        let answer = self.ask(self.theirs(opening.request.clone())).await?;
        if opening.purpose != Purpose::Session || answer.status != 200 {
            let opened = match answer.status {
                502..=504 => Opened::Unavailable(answer),
                _ => Opened::Answered(answer),
            };
            return Ok(Created { opened, leg: self, socket: None });
        }
        let Some(id) = session_of(&answer.body) else {
            // Handed to a function (JSONP) a refusal has this status, too.
            let opened = if call::json_of(&answer.body).is_some() {
                Opened::Answered(answer)
            } else {
                let words = "the answer of the server cannot be read";
                Opened::Unavailable(words::not_connected(words, None))
            };
            return Ok(Created { opened, leg: self, socket: None });
        };
        self.id = id;
        match self.enter(&opening).await {
            Ok((user, socket)) => {
                let answer = self.ours(answer);
                *self.session.at.borrow_mut() = Some((self.flow.remote, self.id.clone()));
                let opened = Opened::Session { answer, user };
                Ok(Created { opened, leg: self, socket: Some(socket) })
            }
            Err(why) => {
                self.say_goodbye().await;
                Err(why)
            }
        }
    }

    /// Opens the WebSocket of a session that is there, and asks whose it is where nobody knows.
    async fn enter(&self, opening: &Opening) -> Result<(Option<String>, Socket), Unanswered> {
        let limits = self.gateway.settings.limits;
        let user = match opening.credentials.claimed_user() {
            Some(_) => None,
            None => self.ask_who().await,
        };
        let server = self.flow.remote;
        let stream = timeout(CONNECT_PATIENCE, TcpStream::connect(server)).await;
        let stream =
            stream.map_err(|_| Unanswered::Late)?.map_err(|error| Unanswered::of(&error))?;
        listener::prepare(&stream);
        let url = format!("ws://{server}{}", self.target("websocket", "x-ucsessionid"));
        let socket = timeout(limits.answer_patience, connect(stream, &url, limits.message)).await;
        let Ok(Ok(socket)) = socket else { return Err(Unanswered::Broken) };
        Ok((user, socket))
    }

    /// Asks whose a session is that was created by something that does not say.
    async fn ask_who(&self) -> Option<String> {
        let request = self.request("asnGetLoggedInContactV2", "POST", b"{}");
        let answer = self.ask(request).await.ok().filter(|answer| answer.status == 200)?;
        let contact: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
        Some(contact.get("u8sLoggedInUser")?.as_str()?.to_owned())
    }

    /// A request of the door's own, in the session.
    fn request(&self, what: &str, method: &str, body: &[u8]) -> Request {
        Request {
            method: method.to_owned(),
            target: self.target(what, "ucsessionid"),
            headers: vec![("x-ucsessionid".to_owned(), self.id.clone().into_bytes())],
            body: body.to_vec(),
        }
    }

    fn target(&self, what: &str, session_name: &str) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.append_pair(session_name, &self.id);
        if let Some(ucsid) = &self.ucsid {
            query.append_pair("ucsid", ucsid);
        }
        format!("/ws/client/{what}?{}", query.finish())
    }

    /// One request and its answer, whole.
    async fn ask(&self, request: Request) -> Result<Answer, Unanswered> {
        let limits = self.gateway.settings.limits;
        let request = for_server(request, self.flow.remote).map_err(|_| Unanswered::Broken)?;
        let bound = is_bound_to_connection(request.headers());
        let client = if bound { &self.gateway.client_once } else { &self.gateway.client };
        let response = match timeout(limits.answer_patience, client.request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(Unanswered::by(&error)),
            Err(_) => return Err(Unanswered::Late),
        };
        let answer = answer_of(response, limits.message, limits.body_patience).await;
        answer.map_err(|why| match why {
            NoBody::TooLong => Unanswered::TooLong,
            NoBody::TooSlow => Unanswered::Late,
            NoBody::Broken => Unanswered::Broken,
        })
    }

    /// Messages both ways, and calls, until one side has enough.
    async fn relay(
        &self,
        mut socket: Socket,
        orders: &mut mpsc::Receiver<Order>,
    ) -> Result<(), Unanswered> {
        let mut calls = JoinSet::new();
        let every = self.gateway.settings.limits.ping;
        let mut ping = interval_at(Instant::now() + every, every);
        let mut heard = Instant::now();
        loop {
            tokio::select! {
                // Servers end sessions that say nothing, and a way that is cut says nothing either.
                _ = ping.tick() => {
                    if heard.elapsed() >= every * 2 {
                        return Err(Unanswered::Late);
                    }
                    self.send(&mut socket, Message::Ping(Bytes::new())).await?;
                }
                said = socket.next() => {
                    heard = Instant::now();
                    match said {
                        Some(Ok(Message::Text(text))) => {
                            let message = renamed(text.into(), &self.id, &self.session.id);
                            self.gateway.say(Input::Rose { flow: self.flow, message }).await;
                        }
                        Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                        Some(Ok(Message::Binary(_) | Message::Close(_) | Message::Frame(_)))
                        | Some(Err(_))
                        | None => return Err(Unanswered::Broken),
                    }
                }
                order = orders.recv() => match order {
                    Some(Order::Send(bytes)) => match self.call_in(&bytes) {
                        Some((id, request)) => {
                            let leg = self.clone();
                            calls.spawn_local(async move { leg.call(id, request).await });
                        }
                        None => self.pass(&mut socket, &bytes).await?,
                    },
                    // The core shows nothing where somebody is in.
                    Some(Order::Open(_)) => {}
                    None => {
                        let _gone = timeout(GOODBYE, SinkExt::close(&mut socket)).await;
                        return Ok(());
                    }
                },
                Some(_) = calls.join_next() => {}
            }
        }
    }

    async fn pass(&self, socket: &mut Socket, bytes: &Bytes) -> Result<(), Unanswered> {
        let text = renamed(call::json_text(bytes), &self.session.id, &self.id);
        match Utf8Bytes::try_from(text) {
            Ok(text) => self.send(socket, Message::Text(text)).await,
            Err(_) => Ok(()),
        }
    }

    async fn send(&self, socket: &mut Socket, message: Message) -> Result<(), Unanswered> {
        let patience = self.gateway.settings.limits.body_patience;
        match timeout(patience, socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(Unanswered::Broken),
            Err(_) => Err(Unanswered::Late),
        }
    }

    /// The call that a message is, if it is one.
    fn call_in(&self, bytes: &Bytes) -> Option<(i64, Request)> {
        if !self.session.is_owed_answers() {
            return None;
        }
        let message = ucsap::Message::parse(bytes.clone()).ok()?;
        let id = message.id().filter(|id| *id >= call::IDS_FROM)?;
        let request = self.session.request_of(id)?;
        Some((id, call_for_server(&request, call::argument(&message))))
    }

    /// Makes a call, and tells the core what it came to.
    async fn call(self, id: i64, request: Request) {
        let message = match self.ask(self.theirs(request)).await {
            Ok(answer) => {
                let answer = self.ours(answer);
                let message = call::to_rose(id, &answer);
                self.session.answered(id, answer);
                message
            }
            Err(why) => {
                Counts::one(&self.gateway.counts.unanswered);
                if matches!(why, Unanswered::Refused | Unanswered::Broken) {
                    // If the server is gone, its WebSocket says so, and this call is the core's.
                    sleep(WHETHER_GONE).await;
                }
                let (encoding, style) = (Encoding::Json, Style::Plain);
                let envelope = Envelope { encoding, style, session: None };
                envelope.error(id, detail::INTERNAL, why.words())
            }
        };
        self.gateway.say(Input::Rose { flow: self.flow, message }).await;
    }

    /// With the server's name for the session in place of the client's, and for itself.
    fn theirs(&self, mut request: Request) -> Request {
        let at = |said: &str| self.gateway.ucsid_at(self.flow.remote, said);
        request.target = with_ucsid(&request.target, at);
        for (_, value) in request.headers.iter_mut().filter(|(name, _)| name == "x-ucsid") {
            if let Some(theirs) = std::str::from_utf8(value).ok().and_then(|said| at(said.trim())) {
                *value = theirs.as_bytes().to_vec();
            }
        }
        let (ours, theirs) = (self.session.id.as_str(), self.id.as_str());
        if theirs.is_empty() {
            return request;
        }
        request.target = request.target.replace(ours, theirs);
        rename(&mut request.headers, ours, theirs);
        let octets = std::mem::take(&mut request.body);
        request.body = renamed(octets.into(), ours, theirs).into();
        request
    }

    /// And the other way round.
    fn ours(&self, mut answer: Answer) -> Answer {
        answer.body = renamed(answer.body, &self.id, &self.session.id);
        rename(&mut answer.headers, &self.id, &self.session.id);
        answer
    }

    /// The server need not wait for somebody who will not come back.
    async fn say_goodbye(&self) {
        if self.id.is_empty() {
            return;
        }
        self.session.at.borrow_mut().take_if(|(_, id)| *id == self.id);
        let request = self.request("destroysession", "GET", b"");
        let _gone = timeout(GOODBYE, self.ask(request)).await;
    }
}

impl Unanswered {
    fn of(error: &io::Error) -> Self {
        let refused = error.kind() == io::ErrorKind::ConnectionRefused;
        if refused { Self::Refused } else { Self::Broken }
    }

    /// What is behind it may say that the server's host refused.
    fn by(error: &legacy::Error) -> Self {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(error) = cause {
            if let Some(error) = error.downcast_ref::<io::Error>()
                && Self::of(error) == Self::Refused
            {
                return Self::Refused;
            }
            cause = error.source();
        }
        Self::Broken
    }

    /// For whoever made the call.
    const fn words(self) -> &'static str {
        match self {
            Self::Refused => "the server cannot be reached",
            Self::Broken | Self::Late => {
                "the server did not answer, so it is not known whether this was done; look before you \
                 ask again"
            }
            Self::TooLong => "the answer of the server is too long",
        }
    }
}

fn rename(headers: &mut [(String, Vec<u8>)], from: &str, to: &str) {
    for (_, value) in headers {
        let octets = std::mem::take(value);
        *value = renamed(octets.into(), from, to).into();
    }
}

/// What the server calls the session it has created.
fn session_of(body: &[u8]) -> Option<String> {
    const OCTETS: std::ops::RangeInclusive<usize> = 16..=256;
    let created = body.get(call::json_of(body)?)?;
    let created: serde_json::Value = serde_json::from_slice(created).ok()?;
    let id = created.get("sessionid")?.as_str()?;
    // It stands in URLs, and takes the place of a name of ours in whatever passes.
    let is_name = id.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"-_{}".contains(&octet));
    (is_name && OCTETS.contains(&id.len())).then(|| id.to_owned())
}
