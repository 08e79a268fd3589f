//! The core machine: one input in, all outputs out, time as an argument.
//!
//! | file | what happens there |
//! |---|---|
//! | `admission` | who is let in when there is too much |
//! | `edge` | a message arrives; what can be answered at once is |
//! | `wish` | what a REGISTER asks for (RFC 3261 §10.2, §10.3) |
//! | `repeat` | a REGISTER that repeats its predecessor is answered without reading it again |
//! | `absorb` | an unchanged refresh is answered by the door |
//! | `waiting` | a REGISTER that needs the ledger, a server or the store before it is answered |
//! | `update` | what such a REGISTER changes, contact by contact |
//! | `upstream` | bindings are brought to where they should be registered, and away from where not |
//! | `systems` | the telephone systems behind the servers, and what each takes |
//! | `register` | the REGISTERs the door writes |
//! | `registered` | what became of them |
//! | `nonces` | whose challenge a phone answers |
//! | `clients` | the client plane: UCSAP sessions, carried to where their users are |
//! | `path` | requests from servers along the Path to phones, and back |
//! | `pool` | health: probes, documents, states |
//! | `sample` | whether a server still holds what it granted |
//! | `rehome` | a server failed: plan, record, enqueue |
//! | `explain` | why a user is where they are, and what would happen if |
//! | `shortfall` | whether the pool can lose one more server |
//! | `drill` | a failover on purpose |
//! | `command` | what an operator tells it |
//! | `redirect` | a server sends a user elsewhere |
//! | `rehoming` | another home by hand |
//! | `importing` | users who are handed over |
//! | `homecoming` | users who were moved are brought home, in stages |
//! | `ledger` | writes under way and what happens when they are durable |
//! | `listing` | users, page by page, those who fit a filter |
//! | `picture` | what the door shows of itself |
//! | `trail` | what is noted of a failover or return, for its report |

mod absorb;
mod admission;
mod binding;
mod clients;
mod command;
mod departure;
mod drill;
mod edge;
mod explain;
mod homecoming;
mod importing;
mod lane;
mod ledger;
mod listing;
mod nonces;
mod pacer;
mod path;
mod picture;
mod pool;
mod realms;
mod redirect;
mod register;
mod registered;
mod rehome;
mod rehoming;
mod repeat;
mod reports;
mod restart;
mod sample;
mod settings;
mod shortfall;
mod slots;
mod stats;
mod status;
mod systems;
mod token;
mod trail;
mod update;
mod upstream;
mod waiting;
mod wish;

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;

use crate::arena::Arena;
use crate::cluster::document::{Document, DocumentFault};
use crate::cluster::health::Health;
use crate::cluster::{ClusterView, Plane, PlaneState, Proof, ServerId, State, Suspect};
use crate::directory::record::{Loaded, Record, Recorded};
use crate::directory::{Aor, Directory, UserId};
use crate::door::admission::Admission;
use crate::door::binding::{Binding, BindingsOfUser};
use crate::door::clients::Clients;
use crate::door::departure::Departures;
use crate::door::drill::Drill;
use crate::door::homecoming::Homecomings;
use crate::door::lane::Lane;
use crate::door::ledger::Ledger;
use crate::door::nonces::Nonces;
use crate::door::path::Carried;
use crate::door::picture::Tally;
use crate::door::pool::Probes;
use crate::door::redirect::Redirects;
use crate::door::register::Sent;
use crate::door::rehome::Failovers;
use crate::door::repeat::{Date, Repeats, TOGETHER};
use crate::door::slots::{SlotId, Slots};
use crate::door::systems::{SystemId, Systems};
use crate::door::token::PathTokens;
use crate::door::trail::Trails;
use crate::door::waiting::Waiting;
use crate::now::{Now, Uptime};
use crate::placement::Shortfall;
use crate::sip::transaction::Transactions;
use crate::sip::{ConnectionId, Flow, Transport};
use crate::timers::Timers;
use crate::ucws::{Opened, Opening};

pub use clients::{
    ClientFailover, ClientLimits, ClientSettings, ClientStanding, LegacyClients, SessionStatus,
    WebAnswer,
};
pub use command::{Command, Done, Refused};
pub use departure::RebalancePlan;
pub use explain::{Candidate, Explanation, MovedStatus, PlannedMove, ServerLoad, WhatIf};
pub use listing::{Filter, Listed, STANDINGS, WHYS};
pub use redirect::Misdirection;
pub use reports::{FaultReport, OpenBinding, REPORT_FORM, Report, StageReport, TargetReport};
pub use settings::{
    Auth, Limits, Listener, Pace, SYSTEMS_MAX, Settings, Side, SipSettings, TelephoneSystem,
    UnknownUsers,
};
pub use stats::Stats;
pub use status::{
    AwayStatus, BindingStatus, DepartureStatus, FailoverStatus, PlaneStatus, Progress,
    RecoveryStatus, RelocationStatus, ReturnStatus, ServerStatus, ShortfallStatus, Status,
    SystemStatus, UserStatus,
};

/// What reaches the door.
#[derive(Debug)]
pub enum Input {
    /// A datagram, or one framed message of a stream.
    Sip {
        /// What it came by.
        flow: Flow,
        /// The message.
        message: Bytes,
    },
    /// One framed message of a stream that speaks UCSAP.
    Rose {
        /// What it came by.
        flow: Flow,
        /// The message.
        message: Bytes,
    },
    /// Somebody wants a session of the WebService, or one call without, and shows who they are;
    /// answered once by [`Output::Answer`].
    Open {
        /// Stands for the session as long as it lasts; by [`crate::sip::ListenerId::WEB`].
        flow: Flow,
        /// What is shown.
        opening: Box<Opening>,
    },
    /// What became of [`Output::Open`].
    Opened {
        /// The leg.
        flow: Flow,
        /// What its server said.
        opened: Opened,
    },
    /// A TLS handshake is complete: what comes by this stream from now on is secret.
    Secured {
        /// Which.
        flow: Flow,
        /// The name that the client asked for (SNI).
        name: Option<Arc<str>>,
    },
    /// A stream ended or was never made.
    Closed {
        /// Which.
        flow: Flow,
        /// Whether the peer's own host refused or reset it (RST), which proves that the path works.
        refused: bool,
    },
    /// A datagram could not be delivered.
    Unreachable {
        /// To whom.
        remote: std::net::SocketAddr,
        /// By what.
        transport: Transport,
        /// Whether the peer's own host said so (ICMP port unreachable), which proves that the path works.
        refused: bool,
    },
    /// What became of [`Output::Fetch`].
    Fetched {
        /// Whose document.
        server: ServerId,
        /// The document, or why there is none.
        document: Result<Document, DocumentFault>,
    },
    /// A document that a server sent by itself.
    Pushed {
        /// Whose.
        server: ServerId,
        /// It.
        document: Document,
    },
    /// What became of [`Output::Record`].
    Recorded {
        /// [`Record::ticket`].
        ticket: u64,
        /// How it ended.
        outcome: Recorded,
    },
    /// The door is behind, or is not any longer: what arrives now has waited.
    Pressure {
        /// In the kernel, for how long.
        waited: std::time::Duration,
        /// Whether the kernel has dropped something for want of room since last told.
        dropped: bool,
    },
    /// The deadline of [`Door::next`] has come.
    Timeout,
}

/// What the door wants done.
#[derive(Debug)]
pub enum Output {
    /// Send this. For a stream flow without a connection: reuse one or connect; if that fails,
    /// [`Input::Closed`] with this very flow.
    Send {
        /// Where to.
        flow: Flow,
        /// What.
        bytes: Bytes,
    },
    /// Show this to the WebService at the leg's address; answered by [`Input::Opened`], or
    /// [`Input::Closed`] if that cannot be reached. Messages of the session come and go by the leg.
    Open {
        /// The leg.
        flow: Flow,
        /// The session of the client it is for.
        client: Flow,
        /// What is shown.
        opening: Arc<Opening>,
    },
    /// Answer an [`Input::Open`].
    Answer {
        /// Whose.
        flow: Flow,
        /// With what.
        answer: WebAnswer,
    },
    /// Send the answer in the clear, and then speak TLS on this stream; [`Input::Secured`] when that
    /// is so. It must be among the outputs of the very input that asked for it: where anything in
    /// the clear has followed the request, the stream ends ([`Input::Closed`]).
    StartTls {
        /// Which.
        flow: Flow,
        /// What the request is answered with.
        answer: Bytes,
    },
    /// End this stream once what was sent on it has left. Nothing that is read from it afterwards
    /// comes in, and its end is not told; what had been read before may still come.
    Close {
        /// Which.
        flow: Flow,
    },
    /// Make this durable; answered by [`Input::Recorded`].
    Record(Record),
    /// Fetch this server's health document; answered by [`Input::Fetched`].
    Fetch(ServerId),
    /// What became of an order that waited for the store ([`Done::WhenDurable`]).
    Ordered {
        /// Which.
        ticket: u64,
        /// It counts, or why nothing has changed.
        result: Result<(), Refused>,
    },
    /// Something a person may want to know.
    Event(Event),
    /// What a failover or return was like; one of the same id takes the place of this one.
    Report(Box<Report>),
}

/// What happened, for logs and reports. No numbers, names or secrets of users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A server is taken for something else than before.
    ServerChanged {
        /// Which.
        server: Arc<str>,
        /// Before.
        from: State,
        /// Now.
        to: State,
        /// While failed: what proved it.
        proof: Option<Proof>,
    },
    /// A plane of a server that serves several is taken for something else than before (H4).
    PlaneChanged {
        /// Of which server.
        server: Arc<str>,
        /// Which.
        plane: Plane,
        /// Before.
        from: PlaneState,
        /// Now.
        to: PlaneState,
        /// While it does not answer: what proved it.
        proof: Option<Proof>,
    },
    /// A server's process is another one than before (H8).
    ServerRestarted {
        /// Which.
        server: Arc<str>,
    },
    /// A server was seen to be of another realm than these: no user is moved between them (M6).
    RealmsDiffer {
        /// Which.
        server: Arc<str>,
        /// Its realms.
        realms: Vec<Arc<str>>,
        /// The others.
        others: Vec<Arc<str>>,
    },
    /// A server says that it has lost telephone systems, or reaches them again.
    SystemsLost {
        /// Which.
        server: Arc<str>,
        /// Those it does not reach now, at most 8 of them; none: it reaches all again.
        systems: Vec<Arc<str>>,
        /// How many there are.
        all: usize,
        /// Whether another server reaches one of them.
        elsewhere: bool,
    },
    /// The document of a server names telephone systems that its configuration does not.
    SystemsUnknown {
        /// Which.
        server: Arc<str>,
        /// Those, at most 8 of them.
        systems: Vec<Arc<str>>,
    },
    /// The door suspects itself or something shared; `None`: no longer (H5).
    Suspicion(Option<Suspect>),
    /// A failed server's users were planned.
    FailoverPlanned {
        /// Whose users.
        server: Arc<str>,
        /// How many go, and how many have nowhere to go.
        users: u64,
        /// Users without a place.
        unplaced: u64,
    },
    /// Nobody was moved, and why; `would_move` is who would have been.
    FailoverWithheld {
        /// Whose users stay.
        server: Arc<str>,
        /// [`crate::decision::Reason::name`].
        because: &'static str,
        /// How many would have moved.
        would_move: u64,
    },
    /// The last binding of a failover is where it should be.
    FailoverDone {
        /// Whose users.
        server: Arc<str>,
        /// Bindings that are registered elsewhere now.
        rehomed: u64,
    },
    /// One more failure does not fit, and which; `None`: it fits again (P5).
    Shortfall(Option<ShortfallStatus>),
    /// Users who were moved begin to go home.
    ReturnBegan {
        /// Their home.
        server: Arc<str>,
        /// How many.
        users: u64,
    },
    /// Everybody who could go home is there.
    ReturnDone {
        /// Their home.
        server: Arc<str>,
        /// How many.
        returned: u64,
    },
    /// A return was stopped, and those who had not gone stay where they are.
    ReturnStopped {
        /// Their home.
        server: Arc<str>,
        /// Why, in one word.
        because: &'static str,
        /// How many had gone.
        returned: u64,
        /// How many had not.
        stay: u64,
    },
    /// Users leave by order.
    DepartureBegan {
        /// `drain`, `maintenance` or `rebalance`.
        cause: &'static str,
        /// What they leave; a rebalance has no one server.
        server: Option<Arc<str>>,
        /// How many there are.
        users: u64,
    },
    /// A server that is drained is empty, or a rebalance done.
    DepartureDone {
        /// As when it began.
        cause: Arc<str>,
        /// What they left.
        server: Option<Arc<str>>,
        /// How many.
        moved: u64,
    },
    /// A rebalance was stopped.
    DepartureStopped {
        /// As when it began.
        cause: Arc<str>,
        /// Why, in one word.
        because: &'static str,
        /// How many have another home.
        moved: u64,
        /// How many keep theirs.
        stayed: u64,
    },
    /// A server sends users where nobody can follow (D9).
    Misdirected {
        /// Which.
        server: Arc<str>,
        /// Why they are not followed; it knows the remedy.
        why: Misdirection,
    },
    /// The store failed; nothing was moved or acknowledged.
    StoreFailed {
        /// In words.
        why: Arc<str>,
    },
    /// The store writes again.
    StoreRecovered,
}

/// The core.
///
/// Law of use: after each [`Door::handle`] or [`Door::handle_together`], call [`Door::poll`] until `None`, then sleep until
/// [`Door::next`] or the next input.
#[derive(Debug)]
pub struct Door {
    settings: Settings,
    /// Names this life of the door in Call-IDs and branches.
    life: u64,
    rng: fastrand::Rng,
    tokens: PathTokens,
    directory: Directory,
    bindings: Slots<Binding>,
    /// By [`UserId`].
    by_user: Vec<BindingsOfUser>,
    /// Bindings whose phones are behind a stream that lives.
    streams: HashMap<ConnectionId, BindingsOfUser>,
    health: Health,
    /// The view whose holds the planner has been woken for.
    seen: Arc<ClusterView>,
    probes: Probes,
    transactions: Transactions<Asked>,
    /// By [`ServerId`].
    lanes: Vec<Lane>,
    systems: Systems,
    /// What the last look ahead saw.
    shortfall: Option<Shortfall>,
    admission: Admission,
    clients: Clients,
    waiting: Slots<Waiting>,
    /// REGISTERs of one AoR are served one after the other; the first is being served.
    turns: HashMap<Aor, SmallVec<[SlotId; 2]>, foldhash::fast::RandomState>,
    /// Requests that need not be read again.
    repeats: Repeats,
    ledger: Ledger,
    nonces: Nonces,
    failovers: Failovers,
    homecomings: Homecomings,
    departures: Departures,
    redirects: Redirects,
    drill: Option<Drill>,
    trails: Trails,
    timers: Timers<Timer>,
    outputs: VecDeque<Output>,
    /// Where answers are put together that no transaction keeps, and where they stay until sent.
    scratch: Vec<u8>,
    arena: Arena,
    date: Date,
    tally: Tally,
    stats: Stats,
    branches: u64,
}

/// How the branches of our requests begin, by where they go; probes have their own.
const BRANCH_TO_PHONE: &str = "z9hG4bKa";
const BRANCH_TO_SERVER: &str = "z9hG4bKr";

/// Why a client transaction of ours exists.
#[derive(Debug)]
enum Asked {
    /// A REGISTER to a server.
    Register(Sent),
    /// A request carried along a Path to a phone; seldom, and large.
    Along(Box<Carried>),
}

/// Why the door wakes.
#[derive(Clone, Copy, Debug)]
enum Timer {
    /// When a binding lapses, is to be refreshed, tried again, or forgotten by a server.
    Binding(SlotId),
    /// When a lane's pace allows its next REGISTER.
    Lane(ServerId),
    /// When a telephone system's ceiling allows its next REGISTER.
    System(SystemId),
    /// When a server is asked whether it still holds what it granted.
    Sample(ServerId),
    /// When a phone has waited long enough.
    Patience(SlotId),
    /// When something of a client's session is due.
    Session(SlotId),
    /// When a server's pace allows the next client session to be made anew there.
    ClientLane(ServerId),
    /// When removals that could not be written are tried again.
    Removals,
    /// When a hold ends, or a plan that could not be made or recorded is tried again.
    Failover,
    /// When users may go home.
    Homecoming,
    /// When users may leave by order.
    Departure,
    /// When the report of a failover or return is due.
    Report,
    /// When it is time to look whether one more failure fits.
    Shortfall,
}

impl Door {
    /// Starts with what the store held.
    pub fn new(settings: Settings, loaded: Loaded, now: Now) -> Self {
        restart::start(settings, loaded, now)
    }

    /// Takes in one thing.
    pub fn handle(&mut self, now: Now, input: Input) {
        debug_assert!(self.outputs.is_empty(), "drain the outputs after every input");
        match input {
            Input::Sip { flow, message } => return self.on_messages(now, &[(flow, message)]),
            Input::Rose { flow, message } => self.on_rose(now, flow, message),
            Input::Open { flow, opening } => self.on_open(now, flow, *opening),
            Input::Opened { flow, opened } => self.on_opened(now, flow, opened),
            Input::Secured { flow, name } => self.on_secured(flow, name.as_deref()),
            Input::Closed { flow, refused } => self.on_closed(now, flow, refused),
            Input::Unreachable { remote, transport, refused } => {
                self.on_unreachable(now, remote, transport, refused);
            }
            Input::Fetched { server, document } => self.on_document(now, server, document),
            Input::Pushed { server, document } => self.on_push(now, server, document),
            Input::Recorded { ticket, outcome } => self.on_recorded(now, ticket, outcome),
            Input::Pressure { waited, dropped } => self.on_pressure(now, waited, dropped),
            Input::Timeout => self.on_timeout(now),
        }
        self.look_after(now);
    }

    /// Takes in messages that arrived together: the same as an [`Input::Sip`] for each, in order,
    /// but for less.
    pub fn handle_together(&mut self, now: Now, messages: &[(Flow, Bytes)]) {
        debug_assert!(self.outputs.is_empty(), "drain the outputs after every input");
        messages.chunks(TOGETHER).for_each(|some| self.on_messages(now, some));
    }

    fn on_messages(&mut self, now: Now, messages: &[(Flow, Bytes)]) {
        let outlines = self.outlines(messages);
        for ((flow, message), outline) in messages.iter().zip(outlines) {
            self.stats.received += 1;
            if outline.is_some_and(|outline| self.repeat(now, *flow, &outline)) {
                // Nothing that the pool could care about has happened.
                continue;
            }
            self.on_message(now, *flow, message);
            self.look_after(now);
        }
    }

    /// What may have come of an input beside its answer.
    fn look_after(&mut self, now: Now) {
        self.drive_pool(now);
        self.pump_freed_lanes(now);
        self.stats.transactions_forgotten = self.transactions.forgotten();
    }

    /// The next thing to do.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Input::Timeout`] is due.
    pub fn next(&self) -> Option<Uptime> {
        [self.timers.next(), self.transactions.next(), self.health.next()]
            .into_iter()
            .flatten()
            .min()
    }

    /// The counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    fn on_timeout(&mut self, now: Now) {
        self.health.tick(now.uptime);
        self.drive_transactions(now);
        while let Some(timer) = self.timers.pop_due(now.uptime) {
            match timer {
                Timer::Binding(id) => self.wake_binding(now, id),
                Timer::Lane(server) => {
                    self.lanes[server.index()].woken = false;
                    self.pump_lane(now, server);
                }
                Timer::System(system) => self.on_system_timer(now, system),
                Timer::Sample(server) => self.sample(now, server),
                Timer::Patience(id) => self.lose_patience(now, id),
                Timer::Session(id) => self.on_session_timer(now, id),
                Timer::ClientLane(server) => self.on_client_lane_timer(now, server),
                Timer::Removals => self.write_removals_again(now),
                Timer::Failover => self.wake_planner(now),
                Timer::Homecoming => self.wake_homecomings(now),
                Timer::Departure => self.wake_departures(now),
                Timer::Report => self.wake_trails(now),
                Timer::Shortfall => self.look_ahead(now),
            }
        }
    }

    /// The servers as decisions see them. Cheap: a shared snapshot.
    fn view(&self) -> Arc<ClusterView> {
        Arc::clone(self.health.view())
    }

    fn current(&self, user: UserId) -> Option<ServerId> {
        self.directory.current(user)
    }

    fn server_name(&self, server: ServerId) -> Arc<str> {
        Arc::clone(&self.settings.servers[server.index()].name)
    }

    fn server_named(&self, name: &str) -> Option<ServerId> {
        let index = self.settings.servers.iter().position(|server| &*server.name == name)?;
        Some(ServerId(index as u16))
    }

    fn bindings_of(&self, user: UserId) -> &[SlotId] {
        self.by_user.get(user.index()).map_or(&[], |bindings| bindings)
    }

    fn send(&mut self, flow: Flow, bytes: Bytes) {
        self.stats.sent += 1;
        self.outputs.push_back(Output::Send { flow, bytes });
    }

    fn emit(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// A branch nobody else has: what it is for, this life, then a count (RFC 3261 §8.1.1.7).
    fn branch(&mut self, to: &str) -> String {
        self.branches += 1;
        let mut branch = String::with_capacity(48);
        // Writing to a String cannot fail.
        let _ = write!(branch, "{to}{:x}.{:x}", self.life, self.branches);
        branch
    }

    /// A whole number in `low..=high`, in milliseconds.
    fn jitter(
        &mut self,
        low: std::time::Duration,
        high: std::time::Duration,
    ) -> std::time::Duration {
        let (low, high) = (low.as_millis() as u64, high.as_millis() as u64);
        std::time::Duration::from_millis(self.rng.u64(low..=high.max(low)))
    }
}
