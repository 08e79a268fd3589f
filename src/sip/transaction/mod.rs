//! Transactions (RFC 3261 §17).

use std::time::Duration;

/// The base timers of RFC 3261 §17.1.1.1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timings {
    /// T1, the round-trip estimate.
    pub t1: Duration,
    /// T2, the longest interval between retransmissions.
    pub t2: Duration,
    /// T4, how long a message may stay in the network.
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
