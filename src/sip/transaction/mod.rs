//! SIP transactions as pure machines: no clock, no socket, no task (RFC 3261 §17).
//!
//! A transaction is one request and its answers between two neighbours. It exists so that its
//! owner sees each request once and each answer once, although datagrams get lost and repeated.
//!
//! | Machine | States | Timers | Source |
//! |---|---|---|---|
//! | client, non-INVITE | Trying, Proceeding, Completed | E, F, K | §17.1.2 |
//! | server, non-INVITE | Trying, Proceeding, Completed | J | §17.2.2 |
//! | client, INVITE | not built: its place is `invite_client.rs` | A, B, D | §17.1.1 |
//! | server, INVITE | not built: its place is `invite_server.rs` | G, H, I | §17.2.1 |
//!
//! The two INVITE machines differ in what follows a final response (the ACK), not in how they are
//! found: they would be two more arms beside [`Transactions`]' tables. Until then an INVITE that
//! is refused at once may go through the server machine here: the phone repeats it until it hears
//! the refusal, and its ACK is absorbed.
//!
//! What is compared to find a transaction (§17.1.3, §17.2.3) is compared octet by octet: a
//! retransmission is a copy and a response copies the Via, and taking two requests for one would
//! be the worse mistake.
//!
//! What RFC 4320 asks of non-INVITE transactions stays with the owner, who writes the responses:
//! no 408, no provisional response but 100, and none at all over a reliable transport.

#[cfg(test)]
mod bookkeeping;
mod client;
mod key;
mod layer;
mod server;
mod table;
#[cfg(test)]
#[expect(clippy::panic, reason = "a test says what came instead")]
mod timelines;

use std::time::Duration;

pub use layer::{
    ClientTransactionId, Due, Incoming, Limits, Matched, ServerTransactionId, Transactions,
};

/// The three base times every transaction timer is made of (RFC 3261 §17.1.1.1, Appendix A).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// Estimated round trip: the first retransmission comes after this. 500 ms.
    pub t1: Duration,
    /// The longest pause between retransmissions of a non-INVITE request. 4 s.
    pub t2: Duration,
    /// The longest time a message stays in the network. 5 s.
    pub t4: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
        }
    }
}

impl Timings {
    /// 64 × T1: how long a request is pursued (timer F) and a final response kept (timer J).
    pub const fn patience(&self) -> Duration {
        self.t1.saturating_mul(64)
    }

    /// The longest pause between two retransmissions: T2, but never less than T1, so that a
    /// T2 of zero does not mean "without pause".
    pub(crate) fn longest_pause(&self) -> Duration {
        self.t2.max(self.t1)
    }
}
