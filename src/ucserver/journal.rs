//! [`Journal`]: what a simulated server was asked, did and found out.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::now::Uptime;
use crate::ucserver::mood::Mood;

/// A bounded list of what happened, and counters that forget nothing.
#[derive(Debug)]
pub struct Journal {
    entries: VecDeque<Entry>,
    limit: usize,
    written: u64,
    counters: Counters,
    second: (u64, u64),
}

/// One line of the [`Journal`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: Uptime,
    /// What.
    pub event: Event,
}

/// What can happen to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A binding was made or refreshed.
    Registered {
        /// Whose.
        aor: Arc<str>,
        /// The contact URI as stored.
        contact: Arc<str>,
        /// It was not there, or had expired.
        new: bool,
        /// What was granted.
        expires_secs: u32,
    },
    /// A binding was removed by request.
    Removed {
        /// Whose.
        aor: Arc<str>,
        /// The contact URI as stored.
        contact: Arc<str>,
    },
    /// A binding was not refreshed in time.
    Expired {
        /// Whose.
        aor: Arc<str>,
        /// The contact URI as stored.
        contact: Arc<str>,
    },
    /// A request got an answer that is no success.
    Refused {
        /// The answer.
        status: u16,
        /// Why, in words.
        why: Arc<str>,
    },
    /// A phone answered this server's own request with 2xx.
    Reached {
        /// Whose.
        aor: Arc<str>,
        /// The contact URI as stored.
        contact: Arc<str>,
        /// How long after the binding was made; refreshes do not count.
        since_registered: Duration,
    },
    /// A phone did not.
    Unreached {
        /// Whose.
        aor: Arc<str>,
        /// The contact URI as stored.
        contact: Arc<str>,
        /// Why.
        why: Unreached,
    },
    /// A client logged in.
    LoggedIn {
        /// Login name.
        user: Arc<str>,
        /// On which connection.
        connection: u64,
    },
    /// A client's login is over, whoever ended it.
    LoggedOff {
        /// Login name.
        user: Arc<str>,
        /// On which connection.
        connection: u64,
    },
    /// A client had a number dialled.
    Dialled {
        /// Login name.
        user: Arc<str>,
        /// URI of the line.
        line: Arc<str>,
        /// The number.
        number: String,
        /// `u8sConnectionID` of the call.
        call: Arc<str>,
    },
    /// Somebody changed its mood.
    MoodSet(Mood),
    /// It forgot everything and has another boot id.
    Restarted,
}

/// Why a phone counts as not reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreached {
    /// A final answer other than 2xx, from the phone or on the way to it.
    #[error("answered {0}")]
    Status(u16),
    /// No final answer until timer F (RFC 3261 §17.1.2).
    #[error("no answer in time")]
    Timeout,
    /// The next hop's host refused the request or closed the connection.
    #[error("the next hop cannot be reached")]
    Transport,
    /// The next hop is a name, or no SIP URI; this server looks nothing up.
    #[error("the next hop is no IP address")]
    NoAddress,
    /// The first Path URI has no `lr` (RFC 3327 §5.2 asks for it).
    #[error("the Path is no loose route")]
    StrictRoute,
    /// As many requests as it keeps are already waiting.
    #[error("too many requests under way")]
    TooMany,
}

/// Totals since the machine was made; an amnesia does not reset them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// REGISTER requests, retransmissions not counted.
    pub registers: u64,
    /// Bindings made.
    pub bindings_new: u64,
    /// Bindings refreshed.
    pub bindings_refreshed: u64,
    /// Bindings removed by request.
    pub bindings_removed: u64,
    /// Bindings that ran out.
    pub bindings_expired: u64,
    /// OPTIONS requests, retransmissions not counted.
    pub options: u64,
    /// Requests of other methods, retransmissions not counted.
    pub others: u64,
    /// Requests seen before.
    pub retransmissions: u64,
    /// Messages that are not SIP, or to which no answer can be built.
    pub unreadable: u64,
    /// Messages dropped by a silent mood.
    pub ignored: u64,
    /// Requests refused because of [`crate::ucserver::Settings::transactions`].
    pub shed: u64,
    /// Responses that belong to no request.
    pub stray: u64,
    /// Final answers given, by status.
    pub answers: BTreeMap<u16, u64>,
    /// Requests of its own, retransmissions not counted.
    pub pings: u64,
    /// Of those, the ones a phone answered with 2xx.
    pub reached: u64,
    /// Of those, the others.
    pub unreached: u64,
    /// Most REGISTERs within one whole second.
    pub registers_per_second_peak: u64,
    /// When the first REGISTER came.
    pub first_register_at: Option<Uptime>,
    /// When the last REGISTER came.
    pub last_register_at: Option<Uptime>,
    /// What clients did that speak UCSAP.
    pub clients: ClientCounters,
}

/// The part of [`Counters`] that is about clients.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientCounters {
    /// Messages that were taken.
    pub messages: u64,
    /// Of those, the ones that could not be read; their connections were closed.
    pub unreadable: u64,
    /// Of those, answers to nothing and events nobody expects.
    pub stray: u64,
    /// Of those, keep-alives.
    pub keep_alives: u64,
    /// Logins that succeeded.
    pub logins: u64,
    /// Logins whose credentials were refused, or whose user belongs to an unknown server.
    pub logins_refused: u64,
    /// Logins that were sent to another server.
    pub redirected: u64,
    /// Logins that were told to come later, because the server is full.
    pub busy: u64,
    /// Calls that were dialled.
    pub dialled: u64,
    /// Errors that were answered, by detail.
    pub errors: BTreeMap<i64, u64>,
    /// Rejects that were answered, by problem.
    pub rejects: BTreeMap<u8, u64>,
    /// Events that were sent.
    pub events: u64,
    /// Connections that were closed because they said nothing.
    pub idle: u64,
    /// Connections that were closed as they came, because there were too many.
    pub turned_away: u64,
}

impl Journal {
    /// The totals.
    pub const fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The entries it still has, oldest first.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    /// How many entries were ever written: the place to go on reading from.
    pub const fn written(&self) -> u64 {
        self.written
    }

    /// The entries from place `from` on, and how many were already lost there.
    pub fn since(&self, from: u64) -> (u64, impl Iterator<Item = &Entry>) {
        let oldest = self.written.saturating_sub(self.entries.len() as u64);
        let lost = oldest.saturating_sub(from);
        let skip = usize::try_from(from.saturating_sub(oldest)).unwrap_or(usize::MAX);
        (lost, self.entries.iter().skip(skip))
    }

    pub(in crate::ucserver) fn new(limit: usize) -> Self {
        Self {
            entries: VecDeque::new(),
            limit: limit.max(1),
            written: 0,
            counters: Counters::default(),
            second: (0, 0),
        }
    }

    /// Writes a line, and counts what it says.
    pub(in crate::ucserver) fn write(&mut self, at: Uptime, event: Event) {
        let counters = &mut self.counters;
        match &event {
            Event::Registered { new: true, .. } => counters.bindings_new += 1,
            Event::Registered { new: false, .. } => counters.bindings_refreshed += 1,
            Event::Removed { .. } => counters.bindings_removed += 1,
            Event::Expired { .. } => counters.bindings_expired += 1,
            Event::Reached { .. } => counters.reached += 1,
            Event::Unreached { .. } => counters.unreached += 1,
            Event::Refused { .. }
            | Event::LoggedIn { .. }
            | Event::LoggedOff { .. }
            | Event::Dialled { .. }
            | Event::MoodSet(_)
            | Event::Restarted => {}
        }
        if self.entries.len() == self.limit {
            self.entries.pop_front();
        }
        self.entries.push_back(Entry { at, event });
        self.written += 1;
    }

    /// Counts what is not worth a line.
    pub(in crate::ucserver) const fn count(&mut self) -> &mut Counters {
        &mut self.counters
    }

    /// Counts a REGISTER, and how fast they come.
    pub(in crate::ucserver) fn count_register(&mut self, now: Uptime) {
        let counters = &mut self.counters;
        counters.registers += 1;
        counters.first_register_at.get_or_insert(now);
        counters.last_register_at = Some(now);
        let second = now.as_nanos() / 1_000_000_000;
        if self.second.0 != second {
            self.second = (second, 0);
        }
        self.second.1 += 1;
        counters.registers_per_second_peak = counters.registers_per_second_peak.max(self.second.1);
    }

    /// Counts a final answer.
    pub(in crate::ucserver) fn count_answer(&mut self, status: u16) {
        *self.counters.answers.entry(status).or_default() += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_journal_forgets_the_oldest_and_says_how_many() {
        let mut journal = Journal::new(2);
        for secs in 0..5 {
            journal.write(Uptime::from_secs(secs), Event::Restarted);
        }
        let (lost, rest) = journal.since(1);
        assert_eq!(lost, 2);
        assert_eq!(
            rest.map(|entry| entry.at.as_nanos()).collect::<Vec<_>>(),
            [3_000_000_000, 4_000_000_000]
        );
        assert_eq!(journal.since(5).1.count(), 0);
        assert_eq!(journal.written(), 5);
    }

    #[test]
    fn the_peak_is_the_fullest_second() {
        let mut journal = Journal::new(1);
        for millis in [100, 200, 1_100, 1_200, 1_900, 7_000] {
            journal.count_register(Uptime::from_millis(millis));
        }
        assert_eq!(journal.counters().registers_per_second_peak, 3);
        assert_eq!(journal.counters().first_register_at, Some(Uptime::from_millis(100)));
        assert_eq!(journal.counters().last_register_at, Some(Uptime::from_secs(7)));
    }
}
