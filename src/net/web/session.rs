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
use crate::ucsap::{Kind, Message};
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
    /// Where its server is, and what that calls it.
    pub(super) at: RefCell<Option<(SocketAddr, String)>>,
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
        if self.is_owed_answers()
            && let Ok(message) = Message::parse(bytes.clone())
            && message.kind() != Kind::Invoke
            && let Some(id) = message.id().filter(|id| *id >= call::IDS_FROM)
        {
            // Whoever made the call may have given it up.
            if let Some(call) = self.calls.borrow_mut().remove(&id) {
                let answer = call.answered.unwrap_or_else(|| call::from_rose(&message));
                let _gone = call.reply.send(answer);
            }
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
    }

    /// What a WebSocket could not take is for the next.
    pub(super) fn give_back(&self, event: Bytes) {
        let mut events = self.events.borrow_mut();
        events.octets += event.len();
        events.waiting.push_front(event);
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

    /// Notes a call; its number, and where its answer comes. Until that has come it is known, so that it
    /// is taken for nothing else, even if whoever made the call has gone.
    pub(super) fn begin_call(
        &self,
        request: Rc<Request>,
        most: usize,
    ) -> Option<(i64, oneshot::Receiver<Answer>)> {
        let mut calls = self.calls.borrow_mut();
        if calls.len() >= most {
            calls.retain(|_, call| !call.reply.is_closed());
        }
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

    /// Whether any call is not answered: then messages are looked at to find which they are of.
    pub(super) fn is_owed_answers(&self) -> bool {
        !self.calls.borrow().is_empty()
    }

    /// Whether somebody waits for the answer to a call.
    fn has_calls(&self) -> bool {
        self.calls.borrow().values().any(|call| !call.reply.is_closed())
    }

    /// A call that was not made after all.
    pub(super) fn drop_call(&self, id: i64) {
        self.calls.borrow_mut().remove(&id);
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
        // One source's exchanges are not another's, whatever they are called.
        let exchange = exchange.map(|name| format!("{} {name}", remote.ip()));
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
            at: RefCell::default(),
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

    /// From now on its client may use it, unless it is over already.
    pub(super) fn let_in(&self, session: &Rc<Session>) -> bool {
        if session.is_over() {
            return false;
        }
        let mut sessions = self.sessions.borrow_mut();
        sessions.by_id.insert(session.id.clone(), Rc::clone(session));
        session.touch();
        true
    }

    /// Its login takes one more step, which finds it.
    pub(super) fn rest(&self, session: &Rc<Session>) -> bool {
        let Some(exchange) = session.exchange.clone().filter(|_| !session.is_over()) else {
            return false;
        };
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::mpsc;
    use tokio::task::LocalSet;

    use super::*;
    use crate::net::published::Handle;
    use crate::net::web::{WebLimits, WebSettings};

    fn gateway(limits: WebLimits) -> (Rc<Gateway>, mpsc::Receiver<Input>) {
        let (inputs, said) = mpsc::channel(64);
        let settings = WebSettings { limits, ..WebSettings::default() };
        let counts = Arc::new(Counts::default());
        (Rc::new(Gateway::new(settings, inputs, Handle::new().0, counts)), said)
    }

    fn new_session(gateway: &Gateway, exchange: Option<&str>) -> Option<Rc<Session>> {
        let remote = SocketAddr::from(([127, 0, 0, 1], 4711));
        gateway.session_to_open(remote, exchange.map(Into::into))
    }

    fn event(number: u32) -> Bytes {
        format!("{{\"invoke\":{{\"invokeID\":99999,\"operationID\":{number}}}}}").into()
    }

    fn count(gateway: &Gateway, of: fn(&Counts) -> &std::sync::atomic::AtomicU64) -> u64 {
        of(&gateway.counts).load(Ordering::Relaxed)
    }

    #[tokio::test]
    async fn what_nobody_takes_waits_up_to_a_limit_and_then_the_oldest_goes() {
        let octets = event(10).len() + 2;
        let (gateway, _said) = gateway(WebLimits { queue: 3 * octets, ..WebLimits::default() });
        let session = new_session(&gateway, None).unwrap();
        (10..15).for_each(|number| session.hear(&gateway, event(number)));
        let taker = session.take_over();
        for number in 12..15 {
            let taken = session.next_event(taker).await.unwrap();
            assert!(String::from_utf8_lossy(&taken).contains(&format!(":{number}")), "{taken:?}");
        }
        assert_eq!(count(&gateway, |it| &it.events_dropped), 2);
        // Whoever has a WebSocket and does not read it loses that, before anything is lost for it.
        (20..24).for_each(|number| session.hear(&gateway, event(number)));
        assert_eq!(session.next_event(taker).await, None);
        assert_eq!(count(&gateway, |it| &it.slow_readers), 1);
    }

    #[tokio::test]
    async fn the_last_web_socket_takes_everything() {
        let (gateway, _said) = gateway(WebLimits::default());
        let session = new_session(&gateway, None).unwrap();
        let first = session.take_over();
        session.hear(&gateway, event(1));
        let second = session.take_over();
        assert_eq!(session.next_event(first).await, None);
        assert!(session.next_event(second).await.is_some());
        session.let_go(first);
        assert!(session.events.borrow().is_taken, "the first is nothing any more");
        gateway.forget(&session);
        assert_eq!(session.next_event(second).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_that_nobody_uses_end_and_their_names_are_nobodys() {
        let limits = WebLimits {
            sessions: 3,
            idle: Duration::from_secs(60),
            step_patience: Duration::from_secs(10),
            ..WebLimits::default()
        };
        let (gateway, mut said) = gateway(limits);
        let unused = new_session(&gateway, None).unwrap();
        let used = new_session(&gateway, None).unwrap();
        let resting = new_session(&gateway, Some("epid")).unwrap();
        assert!(new_session(&gateway, None).is_none(), "there is no room");
        assert!(gateway.rest(&resting) && unused.id != used.id && unused.id.len() == 32);
        let again = new_session(&gateway, Some("epid")).unwrap();
        assert!(Rc::ptr_eq(&again, &resting), "the next step finds it");
        gateway.rest(&resting);
        gateway.let_in(&unused);
        gateway.let_in(&used);
        let taker = used.take_over();
        let local = LocalSet::new();
        local.spawn_local(sweep(Rc::clone(&gateway)));
        let watch = async {
            let mut ended = Vec::new();
            for _ in 0..2 {
                let Some(Input::Closed { flow, .. }) = said.recv().await else { break };
                ended.push((flow.connection, Instant::now()));
            }
            ended
        };
        let began = Instant::now();
        let ended = local.run_until(watch).await;
        let order: Vec<ConnectionId> = ended.iter().map(|(connection, _)| *connection).collect();
        assert_eq!(order, [resting.flow.connection, unused.flow.connection]);
        assert!(ended[0].1 - began >= limits.step_patience && ended[1].1 - began >= limits.idle);
        assert!(gateway.session_named(&unused.id).is_none());
        assert!(gateway.session_named(&used.id).is_some());
        used.let_go(taker);
    }

    #[tokio::test]
    async fn whoever_waits_for_a_session_that_ends_hears_so() {
        let (gateway, _said) = gateway(WebLimits::default());
        let session = new_session(&gateway, None).unwrap();
        let opening = session.wait_for_answer();
        let (id, answer) = session.begin_call(Rc::default(), 1).unwrap();
        assert!(session.begin_call(Rc::default(), 1).is_none(), "one at a time here");
        assert_eq!(id, call::IDS_FROM);
        gateway.forget(&session);
        assert!(opening.await.is_err() && answer.await.is_err());
    }

    #[test]
    fn names_are_changed_wherever_they_stand() {
        for (text, changed) in [("x", "x"), ("aa", "bbbb"), ("-aa-aa", "-bbbb-bbbb"), ("", "")] {
            let octets = Bytes::copy_from_slice(text.as_bytes());
            assert_eq!(renamed(octets, "aa", "bbbb"), changed.as_bytes(), "{text}");
        }
        assert_eq!(&renamed(Bytes::from_static(b"x"), "", "y")[..], b"x");
    }
}
