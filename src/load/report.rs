//! What came of a run.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::load::histogram::Percentiles;

/// Figures of the measured time. A transaction belongs to the time in which it ends.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Report {
    /// How long was measured, in seconds.
    pub seconds: f64,
    /// Transactions that began.
    pub started: u64,
    /// Final answers by status.
    pub answers: BTreeMap<u16, u64>,
    /// 2xx answers.
    pub ok: u64,
    /// Of those, the ones that came after the request had been sent again.
    pub ok_late: u64,
    /// Other final answers.
    pub refused: u64,
    /// Transactions nobody answered.
    pub timeouts: u64,
    /// Requests sent again.
    pub retransmissions: u64,
    /// Times a phone came back because Retry-After told it to.
    pub came_back: u64,
    /// Answers to nothing that was under way: doubled, or too late.
    pub strays: u64,
    /// Open loop: beginnings that were left out because the user's last one was still under way,
    /// or everything that may be under way was.
    pub left_out: u64,
    /// Messages the kernel did not take.
    pub unsent: u64,
    /// Connections that ended by themselves.
    pub closed: u64,
    /// Final answers a second.
    pub per_second: f64,
    /// 2xx answers a second: the goodput.
    pub ok_per_second: f64,
    /// Of what ended: not answered 2xx at the first sending, in percent.
    pub fail_percent: f64,
    /// From the beginning, or when that should have been, to the final answer; in microseconds.
    pub latency_us: Percentiles,
    /// The server under test, if its process ids were given.
    pub server: Option<ServerUsage>,
    /// CPU time of the generator itself, in percent of the time.
    pub generator_cpu_percent: f64,
    /// How long the fill took, in seconds.
    pub fill_seconds: f64,
    /// REGISTERs that were sent again while filling.
    pub fill_retransmissions: u64,
    /// Users registered when the run ended.
    pub registered: u32,
    /// Octets of a request.
    pub message_bytes: usize,
}

/// What the server under test used.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct ServerUsage {
    /// CPU time for each final answer, in microseconds.
    pub cpu_us: f64,
    /// CPU time in percent of the time.
    pub cpu_percent: f64,
    /// Before the first request.
    pub before: Memory,
    /// When all connections were made, over TCP.
    pub connected: Memory,
    /// When everybody was registered.
    pub filled: Memory,
    /// When the run ended.
    pub after: Memory,
}

/// Memory of a process and its children, in octets.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub struct Memory {
    /// Resident, shared pages counted once for each process.
    pub rss: u64,
    /// Resident, shared pages divided among those who share them.
    pub pss: u64,
}
