//! The client plane: ProCall clients, whose sessions the door carries to where their users are.
//!
//! ```text
//! client ─▶ front ─▶ login ─▶ decide ─▶ legs ─▶ server
//!             │ in                       ▲
//!             └────── relay ─────────────┘          relay ◀─ server
//! failover, return, drain: moves ─▶ next leg: negotiate, log in ─▶ wishes anew ─▶ the client hears
//!                                                                  the difference
//! ```
//!
//! | file | what happens there |
//! |---|---|
//! | `front` | what a client says |
//! | `login` | who it is, and where that user is served |
//! | `legs` | the door's own connections to servers |
//! | `relay` | what goes from one side to the other, and back |
//! | `moves` | a server is gone, or the user is elsewhere: another leg, the same session |
//! | `restore` | what the client had is made anew there, and what the last server owes answered |
//! | `due` | what time brings |
//! | `web` | sessions of the WebService: shown and answered otherwise, carried alike |
//! | `probe` | whether servers serve clients |
//! | `session`, `wishes` | what is known of a session, and what its client wants for good |
//! | `tokens` | whose tokens are that servers have handed out |
//! | `settings` | what the plane is told at start |

mod due;
mod front;
mod legs;
mod login;
mod moves;
mod picture;
mod probe;
mod relay;
mod restore;
mod session;
mod settings;
mod tokens;
mod web;
mod wishes;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use smallvec::SmallVec;

use crate::cluster::ServerId;
use crate::directory::UserId;
use crate::door::clients::probe::Probes;
use crate::door::clients::session::{Session, Way};
use crate::door::clients::tokens::Tokens;
use crate::door::pacer::Pacer;
use crate::door::slots::{SlotId, Slots};
use crate::sip::{ConnectionId, Flow};

pub use picture::{ClientStanding, SessionStatus};
pub use settings::{ClientFailover, ClientLimits, ClientSettings, LegacyClients};
pub use web::WebAnswer;

/// All clients.
#[derive(Debug)]
pub(crate) struct Clients {
    connections: Slots<Connection>,
    by_connection: HashMap<ConnectionId, SlotId, foldhash::fast::RandomState>,
    sessions: Slots<Session>,
    by_user: HashMap<UserId, SmallVec<[SlotId; 2]>, foldhash::fast::RandomState>,
    /// Sessions by the number of each leg.
    legs: HashMap<u64, SlotId, foldhash::fast::RandomState>,
    legs_made: u64,
    /// Sessions that wait for the pool to look different.
    waiting: BTreeSet<SlotId>,
    /// By server.
    lanes: Vec<Lane>,
    /// Lanes in which somebody has given a place up; emptied after every input.
    freed: Vec<ServerId>,
    devices: Devices,
    tokens: Tokens,
    probes: Probes,
    /// Connections that were closed last, the oldest first.
    closed: VecDeque<ConnectionId>,
}

/// Messages that may have been read together, and so may come after their connection was closed.
const CLOSED_MAX: usize = 256;

/// A client's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    flow: Flow,
    security: Security,
    /// The server that its address stands for, if any.
    reached: Option<ServerId>,
    sessions: Vec<(Option<Arc<str>>, SlotId)>,
}

/// What is known of a connection's secrecy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Security {
    /// As it was when it began.
    AsBegun,
    /// TLS was asked for, and is not there yet: whatever comes now was put in by somebody else.
    Securing,
    /// TLS is there because it was asked for.
    Secured,
}

/// Sessions that are to be made anew at one server, at the pace it takes.
#[derive(Debug)]
struct Lane {
    pacer: Pacer,
    queue: VecDeque<SlotId>,
    woken: bool,
}

/// Whom devices were of when they were seen last, so that one that comes back is asked at once at
/// its user's server who it is. The oldest is forgotten.
#[derive(Debug, Default)]
struct Devices {
    users: HashMap<Box<str>, UserId>,
    order: VecDeque<Box<str>>,
}

impl Devices {
    fn remember(&mut self, device: &str, user: UserId, most: usize) {
        if let Some(known) = self.users.get_mut(device) {
            *known = user;
            return;
        }
        if self.order.len() >= most
            && let Some(oldest) = self.order.pop_front()
        {
            self.users.remove(&oldest);
        }
        self.users.insert(device.into(), user);
        self.order.push_back(device.into());
    }
}

impl Clients {
    pub(crate) fn new(settings: &ClientSettings, servers: usize, seed: u64) -> Self {
        let lane =
            || Lane { pacer: Pacer::new(settings.pace), queue: VecDeque::new(), woken: false };
        Self {
            connections: Slots::new(settings.limits.connections, 0),
            by_connection: HashMap::default(),
            sessions: Slots::new(settings.limits.sessions, 0),
            by_user: HashMap::default(),
            legs: HashMap::default(),
            legs_made: 0,
            waiting: BTreeSet::new(),
            lanes: std::iter::repeat_with(lane).take(servers).collect(),
            freed: Vec::new(),
            devices: Devices::default(),
            tokens: Tokens::new(seed),
            probes: Probes::new(servers),
            closed: VecDeque::new(),
        }
    }

    /// A user's sessions.
    fn of(&self, user: UserId) -> SmallVec<[SlotId; 2]> {
        self.by_user.get(&user).cloned().unwrap_or_default()
    }

    /// It is known whose a session is.
    fn belongs_to(&mut self, id: SlotId, user: UserId) {
        let Some(session) = self.sessions.get_mut(id) else { return };
        if session.user == Some(user) {
            return;
        }
        let before = session.user.replace(user);
        self.forget_owner(id, before);
        self.by_user.entry(user).or_default().push(id);
    }

    fn forget_owner(&mut self, id: SlotId, owner: Option<UserId>) {
        let Some(owner) = owner else { return };
        if let Some(sessions) = self.by_user.get_mut(&owner) {
            sessions.retain(|other| *other != id);
            if sessions.is_empty() {
                self.by_user.remove(&owner);
            }
        }
    }

    fn note_closed(&mut self, connection: ConnectionId) {
        if self.closed.len() >= CLOSED_MAX {
            self.closed.pop_front();
        }
        self.closed.push_back(connection);
    }

    fn way_of_leg(&self, number: u64) -> Option<(SlotId, Way)> {
        let id = *self.legs.get(&number)?;
        let session = self.sessions.get(id)?;
        let old = session.old.as_ref().map(|(leg, _)| leg);
        let three = [session.leg.as_ref(), session.next.as_ref(), old];
        let leg = three.into_iter().flatten().find(|leg| leg.number == number)?;
        Some((id, leg.way()))
    }
}
