//! A load generator for measurements on this machine: phones that register, as fast as told, and
//! servers that say 200 to everything. It sends to the loopback and nowhere else.
//!
//! ```text
//!  plan ─▶ drive ──▶ wire (udp, tcp) ──▶ server under test ──▶ answer
//!            │  ◀──                   ◀──                 ◀──
//!            └─▶ report
//! ```
//!
//! One thread and no runtime, so that the generator costs a fraction of what it measures: a message
//! is copied and patched in place ([`script`]), datagrams go and come in batches, and an answer
//! finds its transaction by a number in its branch ([`flight`]). In the closed loop a number of
//! transactions is under way at any time, so the rate is what the server makes of it; in the open
//! loop they begin at a rate, and what is late is measured from when it should have begun.

mod answer;
mod drive;
mod flight;
mod histogram;
mod plan;
mod report;
mod script;
mod tcp;
mod udp;
mod usage;
mod wire;

pub use answer::{Answered, answer, answer_to};
pub use drive::run;
pub use histogram::{Histogram, Percentiles};
pub use plan::{LoadError, Pace, Plan, USERS_MAX, WINDOW_MAX};
pub use report::{Memory, Report, ServerUsage};
pub use tcp::allow_files;
pub use usage::{cpu_of, memory_of, pin_to_core, tree_of};
