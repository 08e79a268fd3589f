//! [`Session`]: one user's session on a client's connection, and its legs: the door's own
//! connections to servers for it.
//!
//! ```text
//!  New ─▶ Negotiating ─▶ Negotiated ─▶ Deciding ─▶ LoggingIn ─▶ (Adopting) ─▶ In
//!             ▲              ▲  ▲          │            │
//!             └── next server┘  └──────────┴── refused ─┘
//! ```
//!
//! A session that is *in* has a leg, or a gap: its server is gone, and `next` is the leg that is
//! being made ready at the server where its user is now.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::cluster::ServerId;
use crate::directory::UserId;
use crate::door::clients::wishes::Wishes;
use crate::door::slots::SlotId;
use crate::now::Uptime;
use crate::private::Private;
use crate::ucsap::login::Credentials;
use crate::ucsap::negotiate::Negotiation;
use crate::ucsap::{Class, Encoding, Message, Operation};
use crate::ucws::{Answer, Opening, Purpose};

/// Ids of the door's own invokes begin here and go down, away from those that clients use first.
const OWN_IDS_FROM: i64 = 99_998;
/// More than a session may have that are not answered.
const OWN_IDS_DOWN_TO: i64 = 50_000;

/// By which of its two entrances a server is spoken to: the one by which the client came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entrance {
    /// UCSAP by TCP.
    Native,
    /// The WebService.
    Web,
}

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    /// The client's connection.
    pub(crate) connection: SlotId,
    pub(crate) entrance: Entrance,
    /// What the client calls it, where it has several.
    pub(crate) name: Option<Arc<str>>,
    /// In which the client speaks; its servers are spoken to in the same.
    pub(crate) encoding: Encoding,
    pub(crate) stage: Stage,
    pub(crate) negotiated: Option<Negotiated>,
    pub(crate) login: Option<Login>,
    /// Whose it is, once that is known.
    pub(crate) user: Option<UserId>,
    /// Since when somebody is logged in.
    pub(crate) since: Option<Uptime>,
    pub(crate) leg: Option<Leg>,
    /// Since when it stands on that leg, logged in.
    pub(crate) stands_since: Option<Uptime>,
    /// Being made ready to become the leg.
    pub(crate) next: Option<Leg>,
    /// Was the leg, and owes answers yet.
    pub(crate) old: Option<(Leg, Uptime)>,
    pub(crate) wishes: Wishes,
    /// Wishes that are being made anew.
    pub(crate) restoring: usize,
    /// What a client asked while nobody was there to be asked, in order.
    pub(crate) held: VecDeque<Held>,
    /// Since when nobody serves it.
    pub(crate) gap: Option<Uptime>,
    /// How often a leg was begun in vain, and when it is tried again.
    pub(crate) failures: u32,
    pub(crate) again_at: Option<Uptime>,
    /// In whose lane it stands.
    pub(crate) queued: Option<ServerId>,
    /// Closes then.
    pub(crate) closes_at: Option<Uptime>,
    /// For when the next timer is set.
    pub(crate) wakes_at: Uptime,
}

/// How far a session has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Nothing has been said.
    New,
    /// A server is asked who it is.
    Negotiating,
    /// A server has answered; who the user is, is not known.
    Negotiated,
    /// A login waits: for the ledger, or for its server to come back.
    Deciding,
    /// A login waits for its server's answer.
    LoggingIn,
    /// A login waits until a new user is recorded.
    Adopting,
    /// Somebody is logged in.
    In,
}

/// An invoke that waits for somebody who can be asked.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) message: Message,
    /// Servers that were asked, and are gone.
    pub(crate) tries: u8,
}

/// What the client and its first server have said of themselves.
#[derive(Debug)]
pub(crate) struct Negotiated {
    /// The client's argument, as it was sent.
    pub(crate) argument: Vec<u8>,
    pub(crate) client: Negotiation,
    /// The client's invoke, until it is answered.
    pub(crate) id: i64,
    /// The connection's GUID that the client got, and keeps.
    pub(crate) connection: Option<String>,
    /// Servers that were asked in vain.
    pub(crate) tried: u8,
}

/// What a client has shown.
#[derive(Debug)]
pub(crate) struct Login {
    pub(crate) shown: Shown,
    /// The client's invoke, until it is answered.
    pub(crate) id: i64,
    /// Who it says they are.
    pub(crate) claimed: Option<String>,
    pub(crate) can_be_replayed: bool,
    /// A client that asks only how it may log in.
    pub(crate) asks_only: bool,
    /// The server's answer, while the user is being recorded, and whom it named.
    pub(crate) answer: Option<(LoginAnswer, Option<String>)>,
    /// How often servers sent it elsewhere (D9).
    pub(crate) redirects: u8,
    /// Until when it may wait.
    pub(crate) until: Uptime,
}

/// What is kept of that, to be shown again.
#[derive(Clone, Debug)]
pub(crate) enum Shown {
    /// The argument of a login, as it was sent.
    Argument(Private<Vec<u8>>),
    /// A request to the WebService.
    Web(Arc<Opening>),
}

/// What a server answered.
#[derive(Clone, Debug)]
pub(crate) enum LoginAnswer {
    Rose(Message),
    Web(Answer),
}

impl Login {
    pub(crate) fn new(argument: &[u8], id: i64, shown: &Credentials, until: Uptime) -> Self {
        let kept = Shown::Argument(Private::new(argument.to_vec()));
        Self::with(kept, id, shown, until)
    }

    /// One by the WebService. A call without a session is made twice only where that is the same.
    pub(crate) fn by_web(opening: Opening, until: Uptime) -> Self {
        let opening = Arc::new(opening);
        let mut login =
            Self::with(Shown::Web(Arc::clone(&opening)), 0, &opening.credentials, until);
        if let Purpose::Call(operation) = opening.purpose {
            login.can_be_replayed &= operation.class() == Class::Read;
        }
        login
    }

    fn with(kept: Shown, id: i64, shown: &Credentials, until: Uptime) -> Self {
        Self {
            shown: kept,
            id,
            claimed: shown.claimed_user(),
            can_be_replayed: shown.can_be_replayed(),
            asks_only: matches!(shown, Credentials::None),
            answer: None,
            redirects: 0,
            until,
        }
    }
}

/// A connection of the door's own to a server.
#[derive(Debug)]
pub(crate) struct Leg {
    pub(crate) number: u64,
    pub(crate) server: ServerId,
    entrance: Entrance,
    pub(crate) pending: BTreeMap<i64, Pending>,
    /// The id of the door's own that comes next, if it is free.
    next_id: i64,
    /// Whether it counts against the pace of its server's lane.
    pub(crate) paced: bool,
    /// Until when it has to be ready.
    pub(crate) until: Uptime,
}

/// Where a leg leads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Way {
    pub(crate) number: u64,
    pub(crate) server: ServerId,
    pub(crate) entrance: Entrance,
}

/// An invoke that a server has not answered yet.
#[derive(Debug)]
pub(crate) enum Pending {
    /// A client's.
    Client {
        /// Its own id.
        id: i64,
        operation: Operation,
        /// The invoke, where it may be asked again or its answer makes a difference.
        asked: Option<Message>,
        /// Servers that were asked before, and are gone.
        tries: u8,
    },
    /// The door's own: who is talking.
    Negotiate,
    /// Who the user is; on behalf of the client, or of a session that moves.
    Login,
    /// A wish is made anew.
    Wish(u32),
    /// A wish that was given up; if it is granted yet, it is taken back.
    Abandoned(Operation),
    /// What nobody wants any more is taken away again.
    Leftover,
}

impl Leg {
    pub(crate) const fn new(way: Way, paced: bool, until: Uptime) -> Self {
        let Way { number, server, entrance } = way;
        Self {
            number,
            server,
            entrance,
            pending: BTreeMap::new(),
            next_id: OWN_IDS_FROM,
            paced,
            until,
        }
    }

    pub(crate) const fn way(&self) -> Way {
        Way { number: self.number, server: self.server, entrance: self.entrance }
    }

    /// Whether its server has said nothing yet.
    pub(crate) fn is_new(&self) -> bool {
        let is_first = |pending: &Pending| match self.entrance {
            Entrance::Native => matches!(pending, Pending::Negotiate),
            Entrance::Web => matches!(pending, Pending::Login),
        };
        self.pending.values().any(is_first)
    }

    /// Whether its server has been shown a login that it has not answered.
    pub(crate) fn is_asked_who(&self) -> bool {
        self.pending.values().any(|pending| matches!(pending, Pending::Login))
    }

    /// Takes out what the server is not to answer any more, because its session has left it: what
    /// lasts, or takes back what lasts, is the next server's. What is only read, or has been done,
    /// is its own to answer.
    pub(crate) fn part(&mut self) -> BTreeMap<i64, Pending> {
        let stays = |pending: &Pending| {
            let Pending::Client { operation, .. } = pending else { return false };
            matches!(operation.class(), Class::Read | Class::Act)
        };
        self.pending.extract_if(.., |_, pending| !stays(pending)).collect()
    }

    /// An id of the door's own that nothing uses.
    fn own_id(&mut self) -> i64 {
        loop {
            let id = self.next_id;
            self.next_id = if id > OWN_IDS_DOWN_TO { id - 1 } else { OWN_IDS_FROM };
            if !self.pending.contains_key(&id) {
                return id;
            }
        }
    }

    /// Notes an invoke of the client's: the id it gets, the client's own if it can be had; `None`
    /// if the client has not got an answer to its last invoke of that id.
    pub(crate) fn pass_on(
        &mut self,
        id: i64,
        operation: Operation,
        asked: Option<Message>,
        tries: u8,
    ) -> Option<i64> {
        let same = |pending: &Pending| matches!(pending, Pending::Client { id: other, .. } if *other == id);
        if self.pending.values().any(same) {
            return None;
        }
        let free = !self.pending.contains_key(&id);
        let theirs = if free { id } else { self.own_id() };
        self.pending.insert(theirs, Pending::Client { id, operation, asked, tries });
        Some(theirs)
    }

    /// Notes an invoke of the door's own.
    pub(crate) fn ask(&mut self, pending: Pending) -> i64 {
        let id = self.own_id();
        self.pending.insert(id, pending);
        id
    }
}

impl Session {
    pub(crate) fn new(connection: SlotId, name: Option<Arc<str>>, encoding: Encoding) -> Self {
        Self {
            connection,
            entrance: Entrance::Native,
            name,
            encoding,
            stage: Stage::New,
            negotiated: None,
            login: None,
            user: None,
            since: None,
            leg: None,
            stands_since: None,
            next: None,
            old: None,
            wishes: Wishes::default(),
            restoring: 0,
            held: VecDeque::new(),
            gap: None,
            failures: 0,
            again_at: None,
            queued: None,
            closes_at: None,
            wakes_at: Uptime::NEVER,
        }
    }

    /// One of the WebService, where JSON is spoken, and each session has a connection of its own.
    pub(crate) fn by_web(connection: SlotId) -> Self {
        Self { entrance: Entrance::Web, ..Self::new(connection, None, Encoding::Json) }
    }

    /// Whether it goes on at another server, as far as is known.
    pub(crate) fn can_move(&self) -> bool {
        self.login.as_ref().is_some_and(|login| login.can_be_replayed)
    }

    /// Since when its wishes are being made anew.
    pub(crate) fn restores_since(&self) -> Option<Uptime> {
        self.stands_since.filter(|_| self.restoring > 0)
    }

    /// Since when nobody serves it, if it is not being made whole again, or closed.
    pub(crate) fn unserved_since(&self) -> Option<Uptime> {
        self.gap.filter(|_| self.restoring == 0 && self.closes_at.is_none())
    }

    /// The leg of this number.
    pub(crate) fn leg_mut(&mut self, number: u64) -> Option<(Which, &mut Leg)> {
        let is_it = |leg: &&mut Leg| leg.number == number;
        if let Some(leg) = self.leg.as_mut().filter(is_it) {
            return Some((Which::Leg, leg));
        }
        if let Some(leg) = self.next.as_mut().filter(is_it) {
            return Some((Which::Next, leg));
        }
        let old = self.old.as_mut().map(|(leg, _)| leg);
        old.filter(is_it).map(|leg| (Which::Old, leg))
    }

    /// Takes the leg of this number out.
    pub(crate) fn take_leg(&mut self, number: u64) -> Option<(Which, Leg)> {
        if let Some(leg) = self.leg.take_if(|leg| leg.number == number) {
            return Some((Which::Leg, leg));
        }
        if let Some(leg) = self.next.take_if(|leg| leg.number == number) {
            return Some((Which::Next, leg));
        }
        let old = self.old.take_if(|(leg, _)| leg.number == number);
        old.map(|(leg, _)| (Which::Old, leg))
    }

    /// All its legs.
    pub(crate) fn take_legs(&mut self) -> impl Iterator<Item = Leg> {
        let old = self.old.take().map(|(leg, _)| leg);
        [self.leg.take(), self.next.take(), old].into_iter().flatten()
    }
}

/// Which of the legs of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// The one it stands on.
    Leg,
    /// The one that is being made ready.
    Next,
    /// The one that owes answers.
    Old,
}
