//! [`Session`]: one session of the WebService, towards its client: requests that wait for an answer, and
//! what waits for its WebSocket.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use memchr::memmem;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, interval};

use crate::door::{Input, WebAnswer};
use crate::net::web::{Counts, Gateway};
use crate::sip::{ConnectionId, Flow, ListenerId, Transport};
use crate::ucsap::Message;
use crate::ucws::{Answer, Request, call};

/// How often it is looked which sessions nobody uses any more.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// Messages that wait for a client.
const EVENTS_MAX: usize = 4_096;
/// Octets of a session's name, in hexadecimal.
const NAME_OCTETS: usize = 16;

/// One session.
pub(super) struct Session {
    /// What stands for it before the core.
    pub(super) flow: Flow,
    /// What its client calls it, for good. Whoever knows it may use it.
    pub(super) id: String,
    /// Ties the steps of its login together.
    exchange: Option<String>,
    /// Waits for the core's answer.
    opening: RefCell<Option<oneshot::Sender<WebAnswer>>>,
    calls: RefCell<BTreeMap<i64, Call>>,
    next_call: Cell<i64>,
    events: RefCell<Events>,
    /// Something waits for the WebSocket, or it is over.
    news: Notify,
    heard: Cell<Instant>,
    /// Where its server is.
    pub(super) server: Cell<Option<SocketAddr>>,
    over: Cell<bool>,
}

/// A call by HTTP that is not answered yet.
struct Call {
    request: Rc<Request>,
    reply: oneshot::Sender<Answer>,
    /// What its server answered, while the core looks at it.
    answered: Option<Answer>,
}

/// What waits for a client to read it.
#[derive(Default)]
struct Events {
    waiting: VecDeque<Bytes>,
    octets: usize,
    /// The WebSocket that takes them, by its number; none at first.
    taker: u64,
    is_taken: bool,
}

impl Session {
    /// The core's answer to whoever asked for the session.
    pub(super) fn answer(&self, answer: WebAnswer) {
        if let Some(opening) = self.opening.borrow_mut().take() {
            // Whoever asked may have gone.
            let _gone = opening.send(answer);
        }
    }

    /// Whether somebody waits for that.
    pub(super) fn is_opening(&self) -> bool {
        self.opening.borrow().is_some()
    }

    pub(super) fn wait_for_answer(&self) -> oneshot::Receiver<WebAnswer> {
        let (sender, answer) = oneshot::channel();
        *self.opening.borrow_mut() = Some(sender);
        answer
    }

    /// A message for the client: the answer to a call, or something for its WebSocket.
    pub(super) fn hear(&self, gateway: &Gateway, bytes: Bytes) {
        if !self.calls.borrow().is_empty()
            && let Ok(message) = Message::parse(bytes.clone())
            && let Some(call) = message.id().and_then(|id| self.calls.borrow_mut().remove(&id))
        {
            let answer = call.answered.unwrap_or_else(|| call::from_rose(&message));
            let _gone = call.reply.send(answer);
            return;
        }
        let mut events = self.events.borrow_mut();
        let text = call::for_client(&bytes);
        let too_much = |events: &Events| {
            events.waiting.len() >= EVENTS_MAX
                || events.octets + text.len() > gateway.settings.limits.queue
        };
        if too_much(&events) && events.is_taken {
            // It has a WebSocket and does not read it.
            Counts::one(&gateway.counts.slow_readers);
            (events.taker, events.is_taken) = (events.taker + 1, false);
        }
        while too_much(&events) {
            let Some(oldest) = events.waiting.pop_front() else { break };
            events.octets -= oldest.len();
            Counts::one(&gateway.counts.events_dropped);
        }
        events.octets += text.len();
        events.waiting.push_back(text);
        drop(events);
        self.news.notify_waiters();
        self.news.notify_one();
    }

    /// From now on this WebSocket takes what comes, and no other.
    pub(super) fn take_over(&self) -> u64 {
        let mut events = self.events.borrow_mut();
        (events.taker, events.is_taken) = (events.taker + 1, true);
        self.news.notify_waiters();
        events.taker
    }

    /// A WebSocket is gone.
    pub(super) fn let_go(&self, taker: u64) {
        let mut events = self.events.borrow_mut();
        if events.taker == taker {
            events.is_taken = false;
        }
        self.heard.set(Instant::now());
    }

    /// The next message for this WebSocket; `None` once it takes no more.
    pub(super) async fn next_event(&self, taker: u64) -> Option<Bytes> {
        loop {
            let news = self.news.notified();
            {
                let mut events = self.events.borrow_mut();
                if self.over.get() || events.taker != taker {
                    return None;
                }
                if let Some(next) = events.waiting.pop_front() {
                    events.octets -= next.len();
                    return Some(next);
                }
            }
            news.await;
        }
    }

    /// Notes a call; its number, and where its answer comes. It is forgotten when that is dropped.
    pub(super) fn begin_call(
        &self,
        request: Rc<Request>,
        most: usize,
    ) -> Option<(i64, oneshot::Receiver<Answer>)> {
        let mut calls = self.calls.borrow_mut();
        calls.retain(|_, call| !call.reply.is_closed());
        if calls.len() >= most {
            return None;
        }
        let id = self.next_call.get();
        self.next_call.set(if id < CALL_IDS_TO { id + 1 } else { call::IDS_FROM });
        let (reply, answer) = oneshot::channel();
        calls.insert(id, Call { request, reply, answered: None });
        Some((id, answer))
    }

    /// The request of a call.
    pub(super) fn request_of(&self, id: i64) -> Option<Rc<Request>> {
        Some(Rc::clone(&self.calls.borrow().get(&id)?.request))
    }

    /// Whether any call is under way: then messages are looked at to find which they are of.
    pub(super) fn has_calls(&self) -> bool {
        !self.calls.borrow().is_empty()
    }

    /// A server has answered a call; the core will say what becomes of that.
    pub(super) fn answered(&self, id: i64, answer: Answer) {
        if let Some(call) = self.calls.borrow_mut().get_mut(&id) {
            call.answered = Some(answer);
        }
    }

    /// The client has said something.
    pub(super) fn touch(&self) {
        self.heard.set(Instant::now());
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.get()
    }
}

/// Ids of calls begin anew behind this one.
const CALL_IDS_TO: i64 = 299_999;

impl Gateway {
    /// The session of a client that goes on logging in, or a new one; `None`: there is no room.
    pub(super) fn session_to_open(
        &self,
        remote: SocketAddr,
        exchange: Option<String>,
    ) -> Option<Rc<Session>> {
        let resting = exchange.as_ref().and_then(|exchange| {
            let mut sessions = self.sessions.borrow_mut();
            let resting = sessions.by_exchange.get(exchange).is_some_and(|it| !it.is_opening());
            resting.then(|| sessions.by_exchange.remove(exchange)).flatten()
        });
        if resting.is_some() {
            return resting;
        }
        if self.sessions.borrow().by_connection.len() >= self.settings.limits.sessions {
            return None;
        }
        let connection = self.connections.get();
        self.connections.set(connection + 1);
        let flow = Flow {
            listener: ListenerId::WEB,
            transport: Transport::Tcp,
            remote,
            connection: ConnectionId(connection),
        };
        let session = Rc::new(Session {
            flow,
            id: self.new_name()?,
            exchange,
            opening: RefCell::default(),
            calls: RefCell::default(),
            next_call: Cell::new(call::IDS_FROM),
            events: RefCell::default(),
            news: Notify::new(),
            heard: Cell::new(Instant::now()),
            server: Cell::default(),
            over: Cell::default(),
        });
        let mut sessions = self.sessions.borrow_mut();
        sessions.by_connection.insert(connection, Rc::clone(&session));
        self.counts.sessions.store(sessions.by_connection.len() as u64, Ordering::Relaxed);
        Some(session)
    }

    /// Nobody can guess it.
    fn new_name(&self) -> Option<String> {
        let mut octets = [0; NAME_OCTETS];
        self.random.fill(&mut octets).ok()?;
        Some(octets.iter().map(|octet| format!("{octet:02X}")).collect())
    }

    /// From now on its client may use it.
    pub(super) fn let_in(&self, session: &Rc<Session>) {
        let mut sessions = self.sessions.borrow_mut();
        sessions.by_id.insert(session.id.clone(), Rc::clone(session));
        session.touch();
    }

    /// Its login takes one more step, which finds it.
    pub(super) fn rest(&self, session: &Rc<Session>) -> bool {
        let Some(exchange) = session.exchange.clone() else { return false };
        let mut sessions = self.sessions.borrow_mut();
        session.touch();
        sessions.by_exchange.insert(exchange, Rc::clone(session));
        true
    }

    /// The session of that name.
    pub(super) fn session_named(&self, name: &str) -> Option<Rc<Session>> {
        let session = self.sessions.borrow().by_id.get(name).cloned()?;
        session.touch();
        Some(session)
    }

    /// A session is over, and whoever waits for something of it hears so.
    pub(super) fn forget(&self, session: &Rc<Session>) {
        let mut sessions = self.sessions.borrow_mut();
        sessions.by_connection.remove(&session.flow.connection.0);
        sessions.by_id.remove(&session.id);
        if let Some(exchange) = &session.exchange
            && sessions.by_exchange.get(exchange).is_some_and(|other| Rc::ptr_eq(other, session))
        {
            sessions.by_exchange.remove(exchange);
        }
        self.counts.sessions.store(sessions.by_connection.len() as u64, Ordering::Relaxed);
        drop(sessions);
        session.over.set(true);
        drop(session.opening.borrow_mut().take());
        session.calls.borrow_mut().clear();
        session.news.notify_waiters();
        session.news.notify_one();
    }

    /// The same, by the client's wish or for want of one: the core hears of it.
    pub(super) async fn end(&self, session: &Rc<Session>) {
        if !session.is_over() {
            self.forget(session);
            self.say(Input::Closed { flow: session.flow, refused: false }).await;
        }
    }
}

/// Ends sessions that nobody uses any more.
pub(super) async fn sweep(gateway: Rc<Gateway>) {
    let mut every = interval(SWEEP_EVERY);
    let limits = gateway.settings.limits;
    loop {
        every.tick().await;
        let now = Instant::now();
        let is_unused = |session: &&Rc<Session>| {
            let is_in = gateway.sessions.borrow().by_id.contains_key(&session.id);
            let patience = if is_in { limits.idle } else { limits.step_patience };
            let is_used =
                session.is_opening() || session.has_calls() || session.events.borrow().is_taken;
            !is_used && now.duration_since(session.heard.get()) >= patience
        };
        let all: Vec<Rc<Session>> =
            gateway.sessions.borrow().by_connection.values().cloned().collect();
        for session in all.iter().filter(is_unused) {
            gateway.end(session).await;
        }
    }
}

/// The same octets with one name in place of another. Names of sessions cannot be guessed, so they
/// stand nowhere by chance.
pub(super) fn renamed(octets: Bytes, from: &str, to: &str) -> Bytes {
    if from.is_empty() || memmem::find(&octets, from.as_bytes()).is_none() {
        return octets;
    }
    let mut changed = Vec::with_capacity(octets.len() + to.len());
    let mut copied = 0;
    for at in memmem::find_iter(&octets, from.as_bytes()) {
        changed.extend_from_slice(octets.get(copied..at).unwrap_or_default());
        changed.extend_from_slice(to.as_bytes());
        copied = at + from.len();
    }
    changed.extend_from_slice(octets.get(copied..).unwrap_or_default());
    changed.into()
}
