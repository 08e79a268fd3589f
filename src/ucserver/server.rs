//! [`UcServer`]: the machine.

mod clients;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::cluster::document::Document;
use crate::now::Uptime;
use crate::sip::transaction::{Due, Incoming, Limits, Matched, ServerTransactionId, Transactions};
use crate::sip::{Flow, Message, ParseError, Transport};
use crate::timers::Timers;
use crate::ucserver::bindings::{BindingView, Bindings};
use crate::ucserver::clients::{Clients, ToClient, fnv};
use crate::ucserver::digest::Gate;
use crate::ucserver::journal::{Event, Journal, Unreached};
use crate::ucserver::mood::{Behaviour, Mood};
use crate::ucserver::outbound::{self, Options, Ping, PingAllResult, PingRefused, Rounds};
use crate::ucserver::refusal::Refusal;
use crate::ucserver::registrar::Change;
use crate::ucserver::serve::{self, Served};
use crate::ucserver::settings::Settings;

/// What reaches a server.
#[derive(Debug)]
pub enum Input {
    /// A datagram, or one framed message of a stream.
    Sip {
        /// What it came by.
        flow: Flow,
        /// The message.
        message: Bytes,
    },
    /// A stream ended or was never made.
    Closed {
        /// Which.
        flow: Flow,
    },
    /// A datagram could not be delivered.
    Unreachable {
        /// To whom.
        remote: SocketAddr,
    },
    /// A client that speaks UCSAP has connected. Not to say so is no fault: the first message does.
    ClientOpened {
        /// A number that no connection has had before.
        connection: u64,
    },
    /// A message of a client, cut out of its stream.
    Client {
        /// On which connection.
        connection: u64,
        /// The message.
        message: Bytes,
    },
    /// A client's connection has ended.
    ClientClosed {
        /// Which.
        connection: u64,
    },
    /// The deadline of [`UcServer::next`] has come.
    Timeout,
}

/// What a server wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this. For a stream flow without a connection: reuse one or connect; if that fails,
    /// [`Input::Closed`] with this very flow.
    Send {
        /// Where to.
        flow: Flow,
        /// What.
        bytes: Bytes,
    },
    /// Do this to a client's connection.
    Client(ToClient),
}

/// A simulated UCServer.
///
/// Law of use: after [`UcServer::handle`], [`UcServer::set_mood`], each ping and each call, call
/// [`UcServer::poll`] until `None`, then sleep until [`UcServer::next`] or the next input.
#[derive(Debug)]
pub struct UcServer {
    settings: Settings,
    started_at: Uptime,
    seen: Uptime,
    mood: Mood,
    mood_since: Uptime,
    life: Life,
    rng: fastrand::Rng,
    journal: Journal,
    outputs: VecDeque<Output>,
}

/// What a process holds in memory, and loses when it restarts.
#[derive(Debug)]
struct Life {
    boot_id: Arc<str>,
    gate: Option<Gate>,
    bindings: Bindings,
    transactions: Transactions<Ping>,
    rounds: Rounds,
    late: Timers<Answer>,
    clients: Clients,
}

/// An answer on its way.
#[derive(Debug)]
struct Answer {
    transaction: ServerTransactionId,
    status: u16,
    bytes: Bytes,
}

impl UcServer {
    /// A healthy server without bindings. The same `seed` and inputs give the same outputs.
    pub fn new(settings: Settings, now: Uptime, seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        Self {
            started_at: now,
            seen: now,
            mood: Mood::Healthy,
            mood_since: now,
            life: Life::begin(&settings, &mut rng),
            rng,
            journal: Journal::new(settings.journal_entries),
            outputs: VecDeque::new(),
            settings,
        }
    }

    /// Takes in one thing.
    pub fn handle(&mut self, now: Uptime, input: Input) {
        self.seen = now;
        if let Behaviour::Silent { .. } = self.behaviour(now) {
            return self.ignore(now, &input);
        }
        self.expire(now);
        match input {
            Input::ClientOpened { connection } => {
                self.with_clients(now, |clients, around| clients.opened(around, connection));
            }
            Input::Client { connection, message } => self.with_clients(now, |clients, around| {
                clients.message(around, connection, message);
            }),
            Input::ClientClosed { connection } => {
                self.with_clients(now, |clients, around| clients.closed(around, connection));
            }
            Input::Sip { flow, message } => self.on_sip(now, flow, message),
            Input::Closed { flow } if flow.transport == Transport::Udp => {}
            Input::Closed { flow } => self.on_lost(now, flow.remote),
            Input::Unreachable { remote } => self.on_lost(now, remote),
            Input::Timeout => self.on_timeout(now),
        }
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front().or_else(|| self.life.clients.poll().map(Output::Client))
    }

    /// When [`Input::Timeout`] is due.
    pub fn next(&self) -> Option<Uptime> {
        if let Behaviour::Silent { until } = self.behaviour(self.seen) {
            return until;
        }
        let life = &self.life;
        let sip =
            [life.transactions.next(), life.bindings.next(), life.late.next(), life.rounds.next()];
        sip.into_iter().chain([life.clients.next()]).flatten().min()
    }

    /// Where a user belongs, by canonical AoR: to the server at `host:port`, or to this one.
    pub fn belongs(&mut self, aor: &str, home: Option<String>) {
        match home {
            Some(home) => self.settings.homes.insert(aor.to_owned(), home),
            None => self.settings.homes.remove(aor),
        };
    }

    /// Changes how it behaves, from now on. Dying and [`Mood::Amnesia`] forget everything.
    pub fn set_mood(&mut self, now: Uptime, mood: Mood) {
        self.seen = now;
        let was_dead = self.mood == Mood::Dead;
        self.mood = mood;
        self.mood_since = now;
        self.journal.write(now, Event::MoodSet(mood));
        if matches!(mood, Mood::Dead | Mood::Amnesia) {
            let life = Life::begin(&self.settings, &mut self.rng);
            let old = std::mem::replace(&mut self.life, life);
            self.outputs.clear();
            let close = |connection| Output::Client(ToClient::Close { connection });
            self.outputs.extend(old.clients.connections().map(close));
        }
        if mood == Mood::Amnesia || (was_dead && mood != Mood::Dead) {
            self.journal.write(now, Event::Restarted);
        }
    }

    /// The mood set last.
    pub const fn mood(&self) -> Mood {
        self.mood
    }

    /// Whether it neither takes nor says anything at `now`.
    pub fn is_silent(&self, now: Uptime) -> bool {
        matches!(self.behaviour(now), Behaviour::Silent { .. })
    }

    /// Sends OPTIONS to one phone along its Path. The journal tells how it ended.
    pub fn ping(&mut self, now: Uptime, aor: &str, contact: &str) -> Result<(), PingRefused> {
        if self.is_silent(now) {
            return Err(PingRefused::Silent);
        }
        self.send_ping(now, aor, contact, false)
    }

    /// Sends OPTIONS to every phone, at most `per_second` (at least one) a second; says to how
    /// many. [`UcServer::take_ping_all_result`] has the outcome when the last one is known.
    pub fn ping_all(&mut self, now: Uptime, per_second: u32) -> Result<usize, PingRefused> {
        if self.is_silent(now) {
            return Err(PingRefused::Silent);
        }
        self.expire(now);
        let life = &mut self.life;
        let everybody = life
            .bindings
            .iter()
            .map(|(aor, binding)| (Arc::clone(aor), Arc::clone(&binding.contact)))
            .collect();
        life.rounds.start(now, per_second, everybody)
    }

    /// How the last round of [`UcServer::ping_all`] ended, once.
    pub const fn take_ping_all_result(&mut self) -> Option<PingAllResult> {
        self.life.rounds.take_finished()
    }

    /// What happened so far.
    pub const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The bindings as of the last input, by AoR.
    pub fn bindings(&self) -> impl Iterator<Item = BindingView<'_>> {
        self.life.bindings.iter().map(|(aor, binding)| BindingView::of(aor, binding))
    }

    /// How many bindings there are, as of the last input.
    pub const fn registrations(&self) -> usize {
        self.life.bindings.len()
    }

    /// How many users have a binding or a client that is logged in, as of the last input. A login
    /// name and the user part of an AoR that are the same are the same user.
    pub fn users_logged_in(&self) -> usize {
        let Life { bindings, clients, .. } = &self.life;
        bindings.users() + clients.user_names().filter(|name| !bindings.knows_name(name)).count()
    }

    /// [`Settings::name`].
    pub fn name(&self) -> &str {
        &self.settings.name
    }

    /// Differs after every restart.
    pub fn boot_id(&self) -> &str {
        &self.life.boot_id
    }

    /// What it says of itself; `None`: nobody answers.
    pub fn document(&mut self, now: Uptime) -> Option<Document> {
        if self.is_silent(now) {
            return None;
        }
        self.expire(now);
        let users = self.users_logged_in();
        let Self { settings, life, .. } = self;
        let whole = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
        Some(Document {
            boot_id: Arc::clone(&life.boot_id),
            version: settings.version.parse().ok(),
            users_logged_in: whole(users),
            users_capacity: settings.capacity_users,
            registrations: Some(whole(life.bindings.len())),
            cpu_percent: Some(settings.cpu_percent),
            memory_percent: Some(settings.memory_percent),
            ..Document::default()
        })
    }

    /// [`UcServer::document`] as served over HTTP.
    pub fn health(&mut self, now: Uptime) -> Option<String> {
        self.document(now).map(|document| document.to_json())
    }

    fn behaviour(&self, now: Uptime) -> Behaviour {
        self.mood.behaviour(self.mood_since, now)
    }

    fn expire(&mut self, now: Uptime) {
        for (aor, contact) in self.life.bindings.expire(now) {
            self.journal.write(now, Event::Expired { aor, contact });
        }
    }

    fn on_sip(&mut self, now: Uptime, flow: Flow, bytes: Bytes) {
        match Message::parse(bytes.clone()) {
            Ok(message) if message.status().is_some() => self.on_response(now, &message),
            Ok(message) => self.on_request(now, flow, &message),
            Err(fault) => match Message::parse_for_refusal(bytes) {
                Some(message) => self.refuse_stateless(flow, &message, fault),
                None => self.journal.count().unreadable += 1,
            },
        }
    }

    fn on_request(&mut self, now: Uptime, flow: Flow, request: &Message) {
        if request.method() == Some("ACK") {
            return;
        }
        let transaction = match self.life.transactions.receive(now, flow, request) {
            Ok(Incoming::New(transaction)) => transaction,
            Ok(Incoming::Retransmission { answer }) => {
                self.journal.count().retransmissions += 1;
                self.outputs.extend(answer.map(|(flow, bytes)| Output::Send { flow, bytes }));
                return;
            }
            // Every answer here is kept.
            Ok(Incoming::Unkept) => return,
            Ok(Incoming::Refused) => {
                self.journal.count().shed += 1;
                let shed = Served::refused(&self.settings, request, &Refusal::Status(503));
                return self.send_stateless(flow, request, shed);
            }
            Err(fault) => return self.refuse_stateless(flow, request, fault),
        };
        self.count_request(now, request);
        let behaviour = self.behaviour(now);
        let served = match behaviour {
            Behaviour::Answer(status) => {
                Served::refused(&self.settings, request, &Refusal::Status(status))
            }
            Behaviour::Serve(_) | Behaviour::Silent { .. } => self.serve(now, request),
        };
        let status = served.status;
        self.note(now, &served);
        let bytes = served.response.received(flow.remote).to_tag(self.tag()).finish();
        let answer = Answer { transaction, status, bytes };
        match behaviour {
            Behaviour::Serve(delay) if !delay.is_zero() => self.life.late.set(now + delay, answer),
            Behaviour::Serve(_) | Behaviour::Answer(_) | Behaviour::Silent { .. } => {
                self.answer(now, answer);
            }
        }
        if self.settings.ping_new_bindings {
            self.ping_made(now, &served.changes);
        }
    }

    fn serve(&mut self, now: Uptime, request: &Message) -> Served {
        let wall = self.settings.wall + now.since(self.started_at);
        let Life { gate, bindings, .. } = &mut self.life;
        serve::serve((&self.settings, self.mood), gate.as_ref(), bindings, now, wall, request)
    }

    fn answer(&mut self, now: Uptime, answer: Answer) {
        let Answer { transaction, status, bytes } = answer;
        let flow = self.life.transactions.respond(now, transaction, bytes.clone(), status);
        if let Some(flow) = flow {
            self.journal.count_answer(status);
            self.outputs.push_back(Output::Send { flow, bytes });
        }
    }

    /// 400, or what fits the fault, without a transaction: there is none without a readable Via.
    fn refuse_stateless(&mut self, flow: Flow, request: &Message, fault: ParseError) {
        self.journal.count().unreadable += 1;
        if request.method() != Some("ACK") {
            let refused = Served::refused(&self.settings, request, &Refusal::Malformed(fault));
            self.send_stateless(flow, request, refused);
        }
    }

    fn send_stateless(&mut self, flow: Flow, request: &Message, served: Served) {
        if request.top_via().is_err() {
            return;
        }
        self.journal.count_answer(served.status);
        let bytes = served.response.received(flow.remote).to_tag(self.tag()).finish();
        self.outputs.push_back(Output::Send { flow, bytes });
    }

    fn tag(&mut self) -> String {
        format!("{:016x}", self.rng.u64(..))
    }

    fn count_request(&mut self, now: Uptime, request: &Message) {
        match request.method() {
            Some("REGISTER") => self.journal.count_register(now),
            Some("OPTIONS") => self.journal.count().options += 1,
            _ => self.journal.count().others += 1,
        }
    }

    fn note(&mut self, now: Uptime, served: &Served) {
        if let Some(why) = &served.why {
            let event = Event::Refused { status: served.status, why: Arc::clone(why) };
            self.journal.write(now, event);
        }
        for (aor, change) in &served.changes {
            let aor = Arc::clone(aor);
            self.journal.write(
                now,
                match change.clone() {
                    Change::Made { contact, expires_secs } => {
                        Event::Registered { aor, contact, new: true, expires_secs }
                    }
                    Change::Refreshed { contact, expires_secs } => {
                        Event::Registered { aor, contact, new: false, expires_secs }
                    }
                    Change::Removed { contact } => Event::Removed { aor, contact },
                },
            );
        }
    }

    fn ping_made(&mut self, now: Uptime, changes: &[(Arc<str>, Change)]) {
        for (aor, change) in changes {
            if let Change::Made { contact, .. } = change {
                // Removed again by the same request: nothing to ping.
                let _ = self.send_ping(now, aor, contact, false);
            }
        }
    }

    fn send_ping(
        &mut self,
        now: Uptime,
        aor: &str,
        contact: &str,
        in_round: bool,
    ) -> Result<(), PingRefused> {
        let life = &mut self.life;
        let (aor, binding) = life.bindings.find(aor, contact, now).ok_or(PingRefused::NoBinding)?;
        let ping = Ping {
            aor: Arc::clone(aor),
            contact: Arc::clone(&binding.contact),
            registered_at: binding.registered_at,
            in_round,
        };
        self.journal.count().pings += 1;
        let request = match outbound::options(&self.settings, &mut self.rng, aor, binding) {
            Ok(request) => request,
            Err(why) => {
                self.settle(now, ping, Err(why));
                return Ok(());
            }
        };
        let Options { flow, branch, bytes } = request;
        let begun =
            life.transactions.request(now, flow, branch.as_bytes(), "OPTIONS", bytes.clone(), ping);
        match begun {
            Ok(_) => self.outputs.push_back(Output::Send { flow, bytes }),
            Err(ping) => self.settle(now, ping, Err(Unreached::TooMany)),
        }
        Ok(())
    }

    fn on_response(&mut self, now: Uptime, response: &Message) {
        match self.life.transactions.response(now, response) {
            Matched::Final { context, .. } => {
                let outcome = match response.status() {
                    Some(200..=299) => Ok(()),
                    other => Err(Unreached::Status(other.unwrap_or_default())),
                };
                self.settle(now, context, outcome);
            }
            Matched::Provisional(_) | Matched::Absorbed => {}
            Matched::Stray => self.journal.count().stray += 1,
        }
    }

    fn on_lost(&mut self, now: Uptime, remote: SocketAddr) {
        for ping in self.life.transactions.take_client_by_remote(remote) {
            self.settle(now, ping, Err(Unreached::Transport));
        }
    }

    fn on_timeout(&mut self, now: Uptime) {
        self.with_clients(now, Clients::tick);
        while let Some(answer) = self.life.late.pop_due(now) {
            self.answer(now, answer);
        }
        while let Some(due) = self.life.transactions.poll(now) {
            match due {
                Due::Retransmit { flow, bytes } => {
                    self.outputs.push_back(Output::Send { flow, bytes });
                }
                Due::TimedOut { context } => self.settle(now, context, Err(Unreached::Timeout)),
            }
        }
        while let Some((aor, contact)) = self.life.rounds.pop_due(now) {
            if self.send_ping(now, &aor, &contact, true).is_err() {
                self.life.rounds.gone();
            }
        }
    }

    fn settle(&mut self, now: Uptime, ping: Ping, outcome: Result<(), Unreached>) {
        if ping.in_round {
            self.life.rounds.settle(&ping, outcome);
        }
        let Ping { aor, contact, registered_at, .. } = ping;
        self.journal.write(
            now,
            match outcome {
                Ok(()) => {
                    Event::Reached { aor, contact, since_registered: now.since(registered_at) }
                }
                Err(why) => Event::Unreached { aor, contact, why },
            },
        );
    }
}

impl Life {
    fn begin(settings: &Settings, rng: &mut fastrand::Rng) -> Self {
        let boot_id = format!("{}-{:016x}", settings.name, rng.u64(..));
        let gate = settings.digest.clone();
        let limits = Limits { server: settings.transactions, client: settings.transactions };
        Self {
            // Of the boot id, so that chance of one kind of client is not that of the other.
            clients: Clients::new(fnv(boot_id.as_bytes())),
            boot_id: Arc::from(boot_id),
            gate: gate.map(|digest| Gate::new(digest, settings.nonce_lifetime, rng)),
            bindings: Bindings::default(),
            transactions: Transactions::new(settings.timings, limits),
            rounds: Rounds::default(),
            late: Timers::default(),
        }
    }
}
