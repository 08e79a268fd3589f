//! The driver: one task that owns the core and does what it says.
//!
//! ```text
//! sockets ─┐                        ┌─ Send   → sockets
//! store ───┤                        ├─ Record → store
//! health ──┼→ core.handle → core.poll ┼─ Fetch  → a task that asks
//! deadline ┘                        └─ Event  → the log
//! ```
//!
//! After every input the outputs are drained to the last, as the core's law of use demands.
//! Between two looks at the deadline at most [`INPUTS_BETWEEN_DEADLINES`] inputs go in, so that a
//! flood cannot hold up timers.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval, sleep, sleep_until, timeout};

use crate::cluster::ServerId;
use crate::cluster::document::{Document, DocumentFault};
use crate::directory::record::{Record, Recorded};
use crate::door::{
    Command, Done, Door, Event, Explanation, Filter, Input, Listed, Output, RebalancePlan, Refused,
    RelocationStatus, Report, Stats, Status, UserStatus, WhatIf,
};
use crate::net::arrival::Arrival;
use crate::net::clock::Clock;
use crate::net::fetch::fetch;
use crate::net::published::{Handle, Query, Snapshot};
use crate::net::pushed::Pushed;
use crate::net::sockets::Sockets;
use crate::net::web::{ToWeb, Web};
use crate::now::{Now, Uptime};
use crate::sip::{Flow, ListenerId};

/// How often the picture is shown even if nothing changes.
const PUBLISH_EVERY: Duration = Duration::from_millis(250);

/// Inputs between two looks at the deadline.
const INPUTS_BETWEEN_DEADLINES: usize = 64;

/// Arrivals at once from which on the kernel is asked how long more of them wait.
const MANY_ARRIVALS: usize = INPUTS_BETWEEN_DEADLINES;

/// Answers of the store taken before the others have their turn.
const ANSWERS_AT_ONCE: usize = INPUTS_BETWEEN_DEADLINES;

/// How long a stop waits for the store, so that what was promised gets its answer.
const STORE_PATIENCE: Duration = Duration::from_secs(5);

/// How long a stop waits for the last answers to leave.
const FLUSH_PATIENCE: Duration = Duration::from_secs(1);

/// What the driver drives: [`Door`], or a stand-in where only the sockets matter.
pub trait Core {
    /// See [`Door::handle`].
    fn handle(&mut self, now: Now, input: Input);
    /// See [`Door::handle_together`].
    fn handle_together(&mut self, now: Now, messages: &[(Flow, Bytes)]) {
        for (flow, message) in messages {
            self.handle(now, Input::Sip { flow: *flow, message: message.clone() });
        }
    }
    /// See [`Door::poll`].
    fn poll(&mut self) -> Option<Output>;
    /// See [`Door::next`].
    fn next(&self) -> Option<Uptime>;
    /// See [`Door::status`].
    fn status(&self, now: Now) -> Status;
    /// See [`Door::users`].
    fn users(
        &self,
        now: Now,
        filter: &Filter,
        page: (usize, usize),
    ) -> Result<Listed<UserStatus>, Refused>;
    /// See [`Door::user`].
    fn user(&self, now: Now, name: &str) -> Option<UserStatus>;
    /// See [`Door::relocations`].
    fn relocations(
        &self,
        now: Now,
        filter: &Filter,
        page: (usize, usize),
    ) -> Result<Listed<RelocationStatus>, Refused>;
    /// See [`Door::explain`].
    fn explain(&self, now: Now, name: &str) -> Option<Explanation>;
    /// See [`Door::what_if`].
    fn what_if(&self, now: Now, killed: &[String], page: (usize, usize))
    -> Result<WhatIf, Refused>;
    /// See [`Door::rebalance_plan`].
    fn rebalance_plan(&self, page: (usize, usize)) -> RebalancePlan;
    /// See [`Door::command`].
    fn command(&mut self, now: Now, command: &Command) -> Result<Done, Refused>;
    /// See [`Door::stats`].
    fn stats(&self) -> Stats;
}

impl Core for Door {
    fn handle(&mut self, now: Now, input: Input) {
        Self::handle(self, now, input);
    }

    fn handle_together(&mut self, now: Now, messages: &[(Flow, Bytes)]) {
        Self::handle_together(self, now, messages);
    }

    fn poll(&mut self) -> Option<Output> {
        Self::poll(self)
    }

    fn next(&self) -> Option<Uptime> {
        Self::next(self)
    }

    fn status(&self, now: Now) -> Status {
        Self::status(self, now)
    }

    fn users(
        &self,
        now: Now,
        filter: &Filter,
        page: (usize, usize),
    ) -> Result<Listed<UserStatus>, Refused> {
        Self::users(self, now, filter, page)
    }

    fn user(&self, now: Now, name: &str) -> Option<UserStatus> {
        Self::user(self, now, name)
    }

    fn relocations(
        &self,
        now: Now,
        filter: &Filter,
        page: (usize, usize),
    ) -> Result<Listed<RelocationStatus>, Refused> {
        Self::relocations(self, now, filter, page)
    }

    fn explain(&self, now: Now, name: &str) -> Option<Explanation> {
        Self::explain(self, now, name)
    }

    fn what_if(
        &self,
        now: Now,
        killed: &[String],
        page: (usize, usize),
    ) -> Result<WhatIf, Refused> {
        Self::what_if(self, now, killed, page)
    }

    fn rebalance_plan(&self, page: (usize, usize)) -> RebalancePlan {
        Self::rebalance_plan(self, page)
    }

    fn command(&mut self, now: Now, command: &Command) -> Result<Done, Refused> {
        Self::command(self, now, command)
    }

    fn stats(&self) -> Stats {
        *Self::stats(self)
    }
}

/// The store, as the driver uses it.
pub struct Ledger {
    /// Queues a write, in order, and never waits. Each is answered once on `recorded`, also one
    /// that found no room.
    pub write: Box<dyn FnMut(Record) + Send>,
    /// How the writes ended: ticket and outcome.
    pub recorded: mpsc::UnboundedReceiver<(u64, Recorded)>,
}

/// Who is told what, in the driver's task: they must not wait.
pub struct Observers {
    /// Of events.
    pub event: EventObserver,
    /// Of failovers and returns that are over.
    pub report: Box<dyn FnMut(Box<Report>) + Send>,
}

/// Who is told of events.
pub type EventObserver = Box<dyn FnMut(Now, &Event) + Send>;

/// How the driver ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Writes the store had not answered in time; nobody was told that they were done.
    pub writes_unanswered: usize,
}

/// Everything the driver's task owns.
pub(super) struct Driver<C> {
    pub(super) core: C,
    pub(super) sockets: Sockets,
    pub(super) ledger: Ledger,
    pub(super) observers: Observers,
    pub(super) handle: Handle,
    pub(super) asked: mpsc::Receiver<Query>,
    pub(super) health: HealthDocuments,
    /// Health documents that servers send by themselves.
    pub(super) pushed: Option<mpsc::Receiver<Pushed>>,
    /// The WebService, where it is served.
    pub(super) web: Option<Web>,
    /// Writes without answer yet.
    pub(super) writes_waiting: usize,
    /// Who waits for an order to be durable, by ticket; each has a write under way.
    pub(super) ordered: HashMap<u64, oneshot::Sender<Result<(), Refused>>>,
    /// Whether the core was told last that messages wait.
    pub(super) behind: bool,
    /// The store's side of its channel has ended.
    pub(super) store_gone: bool,
    /// The stream whose message the core is being handed.
    pub(super) handled: Option<Flow>,
    /// Streams that were to be secured and have ended instead, while what had arrived with that is taken.
    pub(super) not_secured: Vec<Flow>,
    /// Something changed that nobody should have to wait for.
    pub(super) publish_now: bool,
}

/// Where health documents are, and those being fetched: at most one per server.
pub(super) struct HealthDocuments {
    urls: Vec<Option<Arc<str>>>,
    under_way: Vec<bool>,
    sender: mpsc::UnboundedSender<(ServerId, Result<Document, DocumentFault>)>,
    fetched: mpsc::UnboundedReceiver<(ServerId, Result<Document, DocumentFault>)>,
}

impl HealthDocuments {
    /// By [`ServerId`].
    pub(super) fn new(urls: Vec<Option<Arc<str>>>) -> Self {
        let (sender, fetched) = mpsc::unbounded_channel();
        let under_way = vec![false; urls.len()];
        Self { urls, under_way, sender, fetched }
    }

    /// Starts to fetch, unless that is under way: its answer serves both.
    fn start(&mut self, server: ServerId) -> bool {
        let url = self.urls.get(server.index()).cloned().flatten();
        let Some(url) = url else {
            let fault = DocumentFault::Missing("no health_url is configured".into());
            let _ = self.sender.send((server, Err(fault)));
            return false;
        };
        match self.under_way.get_mut(server.index()) {
            Some(under_way) if !*under_way => *under_way = true,
            _ => return false,
        }
        let sender = self.sender.clone();
        tokio::spawn(async move {
            let _ = sender.send((server, fetch(&url).await));
        });
        true
    }

    fn is_done(&mut self, server: ServerId) {
        if let Some(under_way) = self.under_way.get_mut(server.index()) {
            *under_way = false;
        }
    }
}

/// Waits for ever where none are taken.
async fn next_push(pushed: &mut Option<mpsc::Receiver<Pushed>>) -> Option<Pushed> {
    match pushed {
        Some(pushed) => pushed.recv().await,
        None => std::future::pending().await,
    }
}

impl<C: Core> Driver<C> {
    /// Runs until `shutdown`, then lets the store answer and the last answers leave.
    pub(super) async fn run(mut self, shutdown: impl Future<Output = ()>) -> Stopped {
        let mut arrived: Vec<Arrival> = Vec::new();
        let mut messages: Vec<(Flow, Bytes)> = Vec::new();
        let mut answers: Vec<(u64, Recorded)> = Vec::new();
        let mut publish = interval(PUBLISH_EVERY);
        publish.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let alarm = sleep_until(Clock.instant_of(Uptime::NEVER));
        tokio::pin!(alarm, shutdown);
        let mut alarm_at = None;
        self.drain();
        loop {
            self.publish_if_changed();
            self.wake_if_due();
            self.sockets.hand_over();
            self.catch_up();
            let next = self.core.next();
            if next != alarm_at {
                alarm.as_mut().reset(Clock.instant_of(next.unwrap_or(Uptime::NEVER)));
                alarm_at = next;
            }
            tokio::select! {
                () = self.sockets.arrivals(&mut arrived) => {
                    self.take_all(&mut arrived, &mut messages);
                }
                () = &mut alarm => alarm_at = None,
                _ = self.ledger.recorded.recv_many(&mut answers, ANSWERS_AT_ONCE),
                    if !self.store_gone => self.recorded_all(&mut answers),
                Some((server, document)) = self.health.fetched.recv() => {
                    self.health.is_done(server);
                    self.input(Input::Fetched { server, document });
                }
                Some(pushed) = next_push(&mut self.pushed) => self.take_push(pushed),
                input = Web::next(&mut self.web) => self.take_web(input),
                Some(query) = self.asked.recv() => self.answer(query),
                _ = publish.tick() => self.publish_now = true,
                () = &mut shutdown => break,
            }
        }
        self.stop().await
    }

    fn take_push(&mut self, pushed: Pushed) {
        let counters = self.sockets.counters_mut();
        match pushed {
            Pushed::Document(server, document) => {
                counters.documents_pushed += 1;
                self.input(Input::Pushed { server, document: *document });
            }
            Pushed::Stranger => counters.pushes_of_strangers += 1,
            Pushed::Unusable => counters.pushes_unusable += 1,
        }
    }

    /// What the WebService says, as much of it as has come, so that the others have their turn.
    fn take_web(&mut self, first: Option<Input>) {
        let Some(first) = first else {
            tracing::error!("the WebService has ended by itself: restart the door");
            self.web = None;
            return;
        };
        self.input(first);
        for _ in 1..INPUTS_BETWEEN_DEADLINES {
            let Some(next) = self.web.as_mut().and_then(Web::take) else { break };
            self.input(next);
        }
    }

    fn tell_web(&mut self, what: ToWeb) {
        if let Some(web) = &mut self.web {
            web.tell(what);
        }
    }

    fn catch_up(&mut self) {
        if let Some(web) = &mut self.web {
            web.catch_up();
        }
    }

    fn take_all(&mut self, arrived: &mut Vec<Arrival>, messages: &mut Vec<(Flow, Bytes)>) {
        self.feel_pressure(arrived.len());
        for (taken, arrival) in arrived.drain(..).enumerate() {
            if taken % INPUTS_BETWEEN_DEADLINES == INPUTS_BETWEEN_DEADLINES - 1 {
                self.take_together(messages);
                self.wake_if_due();
            }
            let input = match arrival {
                Arrival::Message { flow, message } => {
                    messages.push((flow, message));
                    continue;
                }
                Arrival::Rose { flow, message } => {
                    self.take_together(messages);
                    self.take_rose(flow, message);
                    continue;
                }
                Arrival::Secured { flow, name } => Input::Secured { flow, name },
                Arrival::Closed { flow, refused } => Input::Closed { flow, refused },
                Arrival::Unreachable { remote, transport, refused } => {
                    Input::Unreachable { remote, transport, refused }
                }
            };
            self.take_together(messages);
            self.input(input);
        }
        self.take_together(messages);
        self.not_secured.clear();
    }

    fn take_rose(&mut self, flow: Flow, message: Bytes) {
        // Of a stream that has ended for it, what came in the same octets is nothing either.
        if self.not_secured.contains(&flow) || self.sockets.refuse_injected(flow) {
            return;
        }
        self.handled = Some(flow);
        self.input(Input::Rose { flow, message });
        self.handled = None;
    }

    /// What lay in the sockets together arrived together.
    fn take_together(&mut self, messages: &mut Vec<(Flow, Bytes)>) {
        if !messages.is_empty() {
            self.core.handle_together(Clock.now(), messages);
            self.drain();
            messages.clear();
        }
    }

    /// Lets the core know how far behind we are, and once that we are not any longer.
    fn feel_pressure(&mut self, arrived: usize) {
        let many = arrived >= MANY_ARRIVALS;
        if many || self.behind {
            let (waited, dropped) = self.sockets.pressure();
            self.behind = dropped || !waited.is_zero();
            self.input(Input::Pressure { waited, dropped });
        }
    }

    fn wake_if_due(&mut self) {
        let now = Clock.now();
        if self.core.next().is_some_and(|due| due <= now.uptime) {
            self.core.handle(now, Input::Timeout);
            self.drain();
        }
    }

    fn recorded_all(&mut self, answers: &mut Vec<(u64, Recorded)>) {
        // Nothing means that nobody is left who could answer.
        self.store_gone |= answers.is_empty();
        for (ticket, outcome) in answers.drain(..) {
            self.recorded(ticket, outcome);
        }
    }

    fn recorded(&mut self, ticket: u64, outcome: Recorded) {
        self.writes_waiting = self.writes_waiting.saturating_sub(1);
        self.input(Input::Recorded { ticket, outcome });
    }

    fn input(&mut self, input: Input) {
        self.core.handle(Clock.now(), input);
        self.drain();
    }

    fn drain(&mut self) {
        loop {
            self.drain_once();
            // Only when everything is told may the core be handed something again.
            let Some(flow) = self.web.as_mut().and_then(Web::next_lost) else { return };
            self.core.handle(Clock.now(), Input::Closed { flow, refused: false });
        }
    }

    fn drain_once(&mut self) {
        while let Some(output) = self.core.poll() {
            match output {
                Output::Send { flow, bytes } if flow.listener == ListenerId::WEB => {
                    self.tell_web(ToWeb::Send { flow, bytes });
                }
                Output::Send { flow, bytes } => self.sockets.send(flow, bytes),
                Output::Open { flow, client, opening } => {
                    self.tell_web(ToWeb::Open { flow, client, opening });
                }
                Output::Answer { flow, answer } => self.tell_web(ToWeb::Answer { flow, answer }),
                Output::Close { flow } if flow.listener == ListenerId::WEB => {
                    self.tell_web(ToWeb::Close { flow });
                }
                Output::StartTls { flow, answer } => {
                    if self.handled != Some(flow) {
                        self.sockets.end_injected(flow);
                    } else if !self.sockets.start_tls(flow, answer) {
                        self.not_secured.push(flow);
                    }
                }
                Output::Close { flow } => self.sockets.close(flow),
                Output::Record(record) => {
                    self.writes_waiting += 1;
                    self.sockets.counters_mut().records_written += 1;
                    (self.ledger.write)(record);
                }
                Output::Fetch(server) => {
                    if self.health.start(server) {
                        self.sockets.counters_mut().documents_fetched += 1;
                    }
                }
                Output::Ordered { ticket, result } => {
                    self.publish_now = true;
                    if let Some(reply) = self.ordered.remove(&ticket) {
                        let _ = reply.send(result);
                    }
                }
                Output::Event(event) => {
                    self.publish_now |= matters_at_once(&event);
                    (self.observers.event)(Clock.now(), &event);
                }
                Output::Report(report) => (self.observers.report)(report),
            }
        }
    }

    fn answer(&mut self, query: Query) {
        let now = Clock.now();
        // Whoever no longer waits for the answer has gone away: nothing to do.
        match query {
            Query::Users { filter, page, reply } => {
                let _ = reply.send(self.core.users(now, &filter, page));
            }
            Query::User { name, reply } => {
                let _ = reply.send(self.core.user(now, &name));
            }
            Query::Relocations { filter, page, reply } => {
                let _ = reply.send(self.core.relocations(now, &filter, page));
            }
            Query::Explain { name, reply } => {
                let _ = reply.send(self.core.explain(now, &name));
            }
            Query::RebalancePlan { page, reply } => {
                let _ = reply.send(self.core.rebalance_plan(page));
            }
            Query::WhatIf { killed, page, reply } => {
                let _ = reply.send(self.core.what_if(now, &killed, page));
            }
            Query::Command { command, reply } => {
                let result = match self.core.command(now, &command) {
                    Ok(Done::WhenDurable(ticket)) => {
                        self.ordered.insert(ticket, reply);
                        return self.drain();
                    }
                    Ok(Done::Now) => Ok(()),
                    Err(refused) => Err(refused),
                };
                self.publish_now = true;
                self.drain();
                let _ = reply.send(result);
            }
        }
    }

    fn publish_if_changed(&mut self) {
        if !std::mem::take(&mut self.publish_now) {
            return;
        }
        let now = Clock.now();
        let mut net = *self.sockets.counters();
        if let Some(web) = &self.web {
            web.count(&mut net);
        }
        self.handle.publish(Snapshot {
            published: now.uptime,
            status: self.core.status(now),
            stats: self.core.stats(),
            net,
            connections: self.sockets.connections(),
            web_sessions: self.web.as_ref().map_or(0, Web::sessions),
            writes_waiting: self.writes_waiting,
        });
    }

    async fn stop(mut self) -> Stopped {
        self.sockets.stop_reading();
        let answers = async {
            while self.writes_waiting > 0 {
                let Some((ticket, outcome)) = self.ledger.recorded.recv().await else { break };
                self.recorded(ticket, outcome);
            }
        };
        let _ = timeout(STORE_PATIENCE, answers).await;
        let _ = timeout(FLUSH_PATIENCE, async {
            loop {
                self.sockets.hand_over();
                if self.sockets.is_flushed() {
                    break;
                }
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        self.publish_now = true;
        self.publish_if_changed();
        Stopped { writes_unanswered: self.writes_waiting }
    }
}

const fn matters_at_once(event: &Event) -> bool {
    match event {
        Event::ServerChanged { .. }
        | Event::PlaneChanged { .. }
        | Event::ServerRestarted { .. }
        | Event::RealmsDiffer { .. }
        | Event::Shortfall(_)
        | Event::SystemsLost { .. }
        | Event::SystemsUnknown { .. }
        | Event::Suspicion(_)
        | Event::FailoverPlanned { .. }
        | Event::FailoverWithheld { .. }
        | Event::FailoverDone { .. }
        | Event::ReturnBegan { .. }
        | Event::ReturnDone { .. }
        | Event::ReturnStopped { .. }
        | Event::DepartureBegan { .. }
        | Event::DepartureDone { .. }
        | Event::DepartureStopped { .. }
        | Event::StoreFailed { .. }
        | Event::Misdirected { .. }
        | Event::StoreRecovered => true,
    }
}
