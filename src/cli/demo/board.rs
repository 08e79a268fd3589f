//! [`Board`]: what the phones' thread tells the rest of the demo, in numbers that only it writes.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::cli::demo::report::{Phone, PhoneSide};
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
