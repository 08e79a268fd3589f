//! [`Board`], [`ClientBoard`]: what the phones' and the clients' thread tell the rest of the demo, in
//! numbers that only they write.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::cli::demo::report::{Phone, PhoneSide};
use crate::cli::demo::sessions::{ClientSide, HEARD_SINCE_KILL};
use crate::now::Uptime;

/// Totals, and a few figures of every phone.
#[derive(Debug)]
pub(super) struct Board {
    /// Phones whose first REGISTER got a 200.
    pub(super) registered: AtomicU64,
    /// REGISTERs sent, repetitions not counted.
    pub(super) asked: AtomicU64,
    /// Repetitions.
    pub(super) repeated: AtomicU64,
    /// REGISTERs without any answer.
    pub(super) timeouts: AtomicU64,
    /// Final answers other than 200.
    pub(super) refused: AtomicU64,
    /// OPTIONS for a phone that is not there, or has not asked for anything yet.
    pub(super) misdirected: AtomicU64,
    /// Datagrams the kernel did not take; timers make up for them.
    pub(super) unsent: AtomicU64,
    /// When the kill was; 0 before.
    kill_nanos: AtomicU64,
    phones: Vec<Figures>,
}

#[derive(Debug, Default)]
struct Figures {
    lease_until: AtomicU64,
    answered_since_kill: AtomicU64,
    answered_last: AtomicU64,
}

impl Board {
    pub(super) fn new(phones: usize) -> Self {
        Self {
            registered: AtomicU64::new(0),
            asked: AtomicU64::new(0),
            repeated: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            misdirected: AtomicU64::new(0),
            unsent: AtomicU64::new(0),
            kill_nanos: AtomicU64::new(0),
            phones: std::iter::repeat_with(Figures::default).take(phones).collect(),
        }
    }

    pub(super) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    pub(super) fn read(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    /// From now on answers count as after the kill.
    pub(super) fn killed(&self, at_nanos: u64) {
        self.kill_nanos.store(at_nanos, Ordering::Relaxed);
    }

    /// A phone answered an OPTIONS with 200.
    pub(super) fn answered(&self, phone: Phone, now: Uptime) {
        let Some(figures) = self.phones.get(phone) else { return };
        figures.answered_last.store(now.as_nanos(), Ordering::Relaxed);
        let kill = Self::read(&self.kill_nanos);
        let first = Self::read(&figures.answered_since_kill) == 0;
        if kill != 0 && now.as_nanos() >= kill && first {
            figures.answered_since_kill.store(now.as_nanos(), Ordering::Relaxed);
        }
    }

    /// A phone was promised a lease.
    pub(super) fn leased(&self, phone: Phone, until: Uptime) {
        if let Some(figures) = self.phones.get(phone) {
            figures.lease_until.store(until.as_nanos(), Ordering::Relaxed);
        }
    }

    /// What a phone knows.
    pub(super) fn side(&self, phone: Phone) -> PhoneSide {
        let Some(figures) = self.phones.get(phone) else { return PhoneSide::default() };
        let lease_until_nanos = Self::read(&figures.lease_until);
        PhoneSide {
            registered: lease_until_nanos != 0,
            lease_until_nanos,
            answered_since_kill_nanos: Self::read(&figures.answered_since_kill),
            answered_last_nanos: Self::read(&figures.answered_last),
        }
    }
}

/// What the clients' thread tells.
#[derive(Debug)]
pub(super) struct ClientBoard {
    /// Clients whose first monitor stands, or stood.
    pub(super) logged_in: AtomicU64,
    /// Times somebody was told to come back.
    pub(super) busy: AtomicU64,
    /// Errors, rejects, and what cannot be read.
    pub(super) refused: AtomicU64,
    /// Connections that were not made, or that the other side closed.
    pub(super) closed: AtomicU64,
    /// Connections and answers that did not come.
    pub(super) timeouts: AtomicU64,
    /// Messages that belong to nothing anybody has asked for.
    pub(super) strange: AtomicU64,
    /// When the kill was; 0 before.
    kill_nanos: AtomicU64,
    clients: Vec<ClientFigures>,
}

#[derive(Debug, Default)]
struct ClientFigures {
    connections: AtomicU64,
    monitors: AtomicU64,
    last_heard: AtomicU64,
    since_kill: [AtomicU64; HEARD_SINCE_KILL],
}

impl ClientBoard {
    pub(super) fn new(clients: usize) -> Self {
        Self {
            logged_in: AtomicU64::new(0),
            busy: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            closed: AtomicU64::new(0),
            timeouts: AtomicU64::new(0),
            strange: AtomicU64::new(0),
            kill_nanos: AtomicU64::new(0),
            clients: std::iter::repeat_with(ClientFigures::default).take(clients).collect(),
        }
    }

    /// From now on events count as after the kill.
    pub(super) fn killed(&self, at_nanos: u64) {
        self.kill_nanos.store(at_nanos, Ordering::Relaxed);
    }

    /// A client has a connection.
    pub(super) fn connected(&self, client: usize) {
        if let Some(figures) = self.clients.get(client) {
            Board::add(&figures.connections, 1);
        }
    }

    /// A client's monitor stands.
    pub(super) fn monitored(&self, client: usize) {
        if let Some(figures) = self.clients.get(client) {
            Board::add(&figures.monitors, 1);
        }
    }

    /// A client heard an event of the monitor it has.
    pub(super) fn heard(&self, client: usize, now: Uptime) {
        let Some(figures) = self.clients.get(client) else { return };
        figures.last_heard.store(now.as_nanos(), Ordering::Relaxed);
        let kill = Board::read(&self.kill_nanos);
        if kill != 0
            && now.as_nanos() >= kill
            && let Some(free) = figures.since_kill.iter().find(|at| Board::read(at) == 0)
        {
            free.store(now.as_nanos(), Ordering::Relaxed);
        }
    }

    /// What a client knows.
    pub(super) fn side(&self, client: usize) -> ClientSide {
        let Some(figures) = self.clients.get(client) else { return ClientSide::default() };
        let mut since_kill = [0; HEARD_SINCE_KILL];
        for (nanos, at) in since_kill.iter_mut().zip(&figures.since_kill) {
            *nanos = Board::read(at);
        }
        ClientSide {
            connections: Board::read(&figures.connections),
            monitors: Board::read(&figures.monitors),
            last_heard_nanos: Board::read(&figures.last_heard),
            heard_since_kill_nanos: since_kill,
        }
    }
}
