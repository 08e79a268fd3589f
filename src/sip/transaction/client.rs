//! The non-INVITE client transaction (RFC 3261 §17.1.2).

use std::mem;
use std::time::Duration;

use bytes::Bytes;

use crate::now::Uptime;
use crate::sip::Flow;
use crate::sip::transaction::Timings;

/// One request to a peer, until its answer came, or never will.
///
/// ```text
///                 request: send
///                       │
///                       ▼
///               ┌───────────────┐ timer E: send again, next after min(2 × E, T2)
///               │    Trying     │──┐
///   ┌───────────│               │◄─┘
///   │           └───────────────┘──────────────┐
///   │                   │ 1xx: to the owner    │ timer F, or the transport failed:
///   │                   ▼                      │ to the owner
///   │           ┌───────────────┐              │
///   │           │  Proceeding   │──┐ timer E: send again, next after T2
///   │           │               │◄─┘ 1xx: to the owner
///   │           └───────────────┘─────────────►│
///   │ 200-699:          │ 200-699:             │
///   │ to the owner      │ to the owner         │
///   └──────────────────►▼                      │
///               ┌───────────────┐              │
///               │   Completed   │──┐           │
///               │               │◄─┘ response: absorbed
///               └───────────────┘              │
///                       │ timer K: T4, zero on a reliable transport
///                       ▼                      │
///                     gone ◄───────────────────┘
/// ```
///
/// Timer E runs on unreliable transports only. A clock that jumped over several of its beats
/// yields one retransmission, not a burst.
#[derive(Debug)]
pub(super) enum Client<C> {
    /// Waits for any response.
    Trying(Sent<C>),
    /// Waits for the final response.
    Proceeding(Sent<C>),
    /// Waits for copies of the final response, until K.
    Completed {
        /// Timer K.
        ends_at: Uptime,
    },
}

/// A request that waits for its final response.
#[derive(Debug)]
pub(super) struct Sent<C> {
    pub(super) flow: Flow,
    pub(super) context: C,
    pub(super) sent_at: Uptime,
    request: Bytes,
    /// Timer E; never on a reliable transport.
    retransmit_at: Uptime,
    /// What E was last set to.
    pause: Duration,
    /// Timer F.
    give_up_at: Uptime,
}

/// What a timer that fired asks for.
#[derive(Debug)]
pub(super) enum Fired {
    /// Timer E: the request goes out again.
    Retransmit(Flow, Bytes),
    /// Timer F: the owner is to be told.
    TimedOut,
    /// Timer K.
    Over,
}

impl<C> Client<C> {
    /// The owner sends `request` on `flow` now.
    pub(super) fn new(
        now: Uptime,
        flow: Flow,
        request: Bytes,
        context: C,
        timings: &Timings,
    ) -> Self {
        let retransmit_at =
            if flow.transport.is_reliable() { Uptime::NEVER } else { now + timings.t1 };
        Self::Trying(Sent {
            flow,
            context,
            sent_at: now,
            request,
            retransmit_at,
            pause: timings.t1,
            give_up_at: now + timings.patience(),
        })
    }

    /// A 1xx came: whether the owner is to hear of it.
    pub(super) fn provisional(&mut self) -> bool {
        // The placeholder lives for one statement: `self` is overwritten on every path.
        *self = match mem::replace(self, Self::Completed { ends_at: Uptime::ZERO }) {
            Self::Trying(sent) | Self::Proceeding(sent) => Self::Proceeding(sent),
            completed @ Self::Completed { .. } => completed,
        };
        self.sent().is_some()
    }

    /// A final response came: what it answers. None for a copy of one that came before.
    pub(super) fn finish(&mut self, now: Uptime, timings: &Timings) -> Option<Sent<C>> {
        let ends_at = match self.sent()? {
            sent if sent.flow.transport.is_reliable() => now,
            _ => now + timings.t4,
        };
        mem::replace(self, Self::Completed { ends_at }).into_sent()
    }

    /// A deadline passed.
    pub(super) fn fire(&mut self, now: Uptime, timings: &Timings) -> Fired {
        let (sent, longest_pause) = match self {
            Self::Trying(sent) => (sent, false),
            Self::Proceeding(sent) => (sent, true),
            Self::Completed { .. } => return Fired::Over,
        };
        if sent.give_up_at <= now {
            return Fired::TimedOut;
        }
        sent.pause = if longest_pause {
            timings.longest_pause()
        } else {
            sent.pause.saturating_mul(2).min(timings.longest_pause())
        };
        sent.retransmit_at = now + sent.pause;
        Fired::Retransmit(sent.flow, sent.request.clone())
    }

    /// When a timer fires next: the earlier of E and F, or K.
    pub(super) fn deadline(&self) -> Uptime {
        match self {
            Self::Trying(sent) | Self::Proceeding(sent) => sent.retransmit_at.min(sent.give_up_at),
            Self::Completed { ends_at } => *ends_at,
        }
    }

    /// The request, if its final response has not come yet.
    pub(super) const fn sent(&self) -> Option<&Sent<C>> {
        match self {
            Self::Trying(sent) | Self::Proceeding(sent) => Some(sent),
            Self::Completed { .. } => None,
        }
    }

    /// Like [`sent`](Self::sent), for a machine that ends here.
    pub(super) fn into_sent(self) -> Option<Sent<C>> {
        match self {
            Self::Trying(sent) | Self::Proceeding(sent) => Some(sent),
            Self::Completed { .. } => None,
        }
    }
}
