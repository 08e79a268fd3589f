//! Observations in, states out: [`Health`] (H1–H3, H5, H6, H9). Pure.

use std::sync::Arc;
use std::time::Duration;

use crate::cluster::document::{Document, DocumentFault};
use crate::cluster::{ClusterView, Server, ServerId, State};
use crate::now::Uptime;

/// How patient the door is.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Between two probes of a server that answers (±10 %).
    pub probe_interval: Duration,
    /// Silence, counted from the first probe without an answer, until a server is degraded.
    pub degraded_after: Duration,
    /// And until it is down; three probes must be unanswered by then.
    pub down_after: Duration,
    /// Refusals in a row that prove a clean death.
    pub refusals: u32,
    /// Between probes of a server that just refused.
    pub refused_interval: Duration,
    /// Good answers in a row that end `unknown`, and that lead from `down` to `probation`.
    pub rise: u32,
    /// From refusal to the first move.
    pub hold_refused: Duration,
    /// From silence to the first move: virtual machines pause.
    pub hold_silence: Duration,
    /// How long a server stays in probation at least; a flap doubles it, up to 32 times.
    pub probation: Duration,
    /// How long its share grows after that.
    pub ramp: Duration,
    /// Share of the servers that must fall silent in one window before the door suspects itself.
    pub panic_threshold_percent: u8,
    /// That window.
    pub panic_window: Duration,
    /// How late the driver may be before the probes it covers are void.
    pub late_tick: Duration,
    /// Between two pulls of the health document.
    pub document_interval: Duration,
}

/// One thing seen of a server.
#[derive(Clone, Debug)]
pub enum Observation {
    /// An application's answer to a probe or to traffic, whatever its status.
    Answered {
        /// The SIP status.
        status: u16,
        /// From the request's first transmission.
        latency: Duration,
        /// Seconds of a Retry-After, where a 503 carried one.
        retry_after: Option<u32>,
    },
    /// Refused or reset by the server's own host (ICMP port unreachable, RST).
    Refused,
    /// Some other host said unreachable: a sign, not a proof.
    Unreachable,
    /// A transaction (not a probe) ran out of time.
    TimedOut,
    /// The health document, pulled or pushed.
    Document(Result<Document, DocumentFault>),
    /// The door has removed what it had left there (M8): probation may end.
    Swept,
}

/// What [`Health`] wants done or known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Send one OPTIONS; report [`Observation::Answered`] or [`Observation::Refused`]. Silence is
    /// noticed here.
    Probe(ServerId),
    /// Fetch the health document; report [`Observation::Document`].
    Fetch(ServerId),
    /// A server changed its state (the view is new already).
    Changed {
        /// Which.
        server: ServerId,
        /// What it was.
        from: State,
        /// What it is.
        to: State,
    },
    /// A server's process is another one than before: what it kept in memory is gone (H8).
    Restarted(ServerId),
    /// Suspicion began or ended (see the view).
    Suspicion,
}

/// The health of every server.
///
/// Law of use: after each [`Health::observe`] or [`Health::tick`], call
/// [`Health::poll`] until `None`, then come back with [`Health::tick`] not later than
/// [`Health::next`].
#[derive(Debug)]
pub struct Health {
    view: Arc<ClusterView>,
}

impl Health {
    /// Starts with every server `unknown`. `seed` feeds the jitter of probes.
    pub fn new(_servers: &[Server], _settings: Settings, _now: Uptime, _seed: u64) -> Self {
        todo!()
    }

    /// Takes in one observation.
    pub fn observe(&mut self, _now: Uptime, _server: ServerId, _seen: Observation) {
        todo!()
    }

    /// Lets time pass. When called much later than [`Health::next`] asked, the door itself was
    /// stalled, and the probes that this covers are void (H5).
    pub fn tick(&mut self, _now: Uptime) {
        todo!()
    }

    /// The next thing wanted.
    pub fn poll(&mut self) -> Option<Wanted> {
        todo!()
    }

    /// When [`Health::tick`] is due.
    pub fn next(&self) -> Option<Uptime> {
        todo!()
    }

    /// The snapshot decisions read.
    pub fn view(&self) -> &Arc<ClusterView> {
        &self.view
    }
}
