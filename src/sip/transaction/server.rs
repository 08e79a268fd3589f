//! The non-INVITE server transaction (RFC 3261 §17.2.2).

use bytes::Bytes;

use crate::now::Uptime;
use crate::sip::Flow;
use crate::sip::transaction::Timings;

/// One request from a peer, until nobody can repeat it any more.
///
/// ```text
///                 request: new to the owner
///                          │
///                          ▼
///                  ┌───────────────┐
///   ┌──────────────│    Trying     │──┐ retransmission: absorbed
///   │              │               │◄─┘
///   │              └───────────────┘
///   │                      │ 1xx: send
///   │                      ▼
///   │              ┌───────────────┐
///   │              │  Proceeding   │──┐ retransmission: send the 1xx again
///   │              │               │◄─┘ 1xx: send
///   │              └───────────────┘
///   │ 200-699: send        │ 200-699: send
///   └─────────────────────►▼
///                  ┌───────────────┐
///                  │   Completed   │──┐ retransmission: send the final again
///                  │               │◄─┘ another final: discarded
///                  └───────────────┘
///                          │ timer J: 64 × T1, zero on a reliable transport
///                          ▼
///                        gone
/// ```
///
/// One edge is not in the RFC's drawing: what its owner left unanswered ends after its
/// lifetime, 64 × T1 + T4, because the client's timer F has fired and an answer
/// would reach nobody (RFC 4320 §4.2).
#[derive(Debug)]
pub(super) struct Server {
    flow: Flow,
    state: State,
    ends_at: Uptime,
}

#[derive(Debug)]
enum State {
    /// Waits for the owner's first response.
    Trying,
    /// Waits for the owner's final response; holds the last provisional one.
    Proceeding(Bytes),
    /// Waits for retransmissions until J; holds the final response, unless the owner makes it
    /// anew.
    Completed(Option<Bytes>),
}

/// What becomes of a retransmission.
#[derive(Debug)]
pub(super) enum Again {
    /// The owner has not answered yet: absorbed.
    Wait,
    /// This goes out again.
    Answer(Flow, Bytes),
    /// The owner answers again.
    Owner,
}

impl Server {
    /// The request came by `flow`, and that is where its answers go.
    pub(super) fn new(now: Uptime, flow: Flow, timings: &Timings) -> Self {
        Self { flow, state: State::Trying, ends_at: Self::unanswered_until(now, timings) }
    }

    /// The request came again.
    pub(super) fn retransmission(&self) -> Again {
        match &self.state {
            State::Trying => Again::Wait,
            State::Proceeding(response) | State::Completed(Some(response)) => {
                Again::Answer(self.flow, response.clone())
            }
            State::Completed(None) => Again::Owner,
        }
    }

    /// The owner answers: where to send it. None after a final response.
    pub(super) fn respond(
        &mut self,
        now: Uptime,
        response: Bytes,
        status: u16,
        timings: &Timings,
    ) -> Option<Flow> {
        if self.is_answered() {
            return None;
        }
        if status < 200 {
            self.state = State::Proceeding(response);
            return Some(self.flow);
        }
        self.complete(now, Some(response), timings)
    }

    /// The owner answers with a final response, which it keeps or makes anew.
    pub(super) fn complete(
        &mut self,
        now: Uptime,
        response: Option<Bytes>,
        timings: &Timings,
    ) -> Option<Flow> {
        if self.is_answered() {
            return None;
        }
        let reliable = self.flow.transport.is_reliable();
        self.ends_at = if reliable { now } else { now + timings.patience() };
        self.state = State::Completed(response);
        Some(self.flow)
    }

    /// Where its answers go.
    pub(super) const fn flow(&self) -> Flow {
        self.flow
    }

    /// Whether the final response was given.
    pub(super) const fn is_answered(&self) -> bool {
        matches!(self.state, State::Completed(_))
    }

    /// When it ends by itself: timer J, or the lifetime of an unanswered one.
    pub(super) const fn ends_at(&self) -> Uptime {
        self.ends_at
    }

    /// The client gives up after 64 × T1, and what it sent last may travel for T4.
    fn unanswered_until(now: Uptime, timings: &Timings) -> Uptime {
        now + timings.patience() + timings.t4
    }
}
