//! Observations in, states out: [`Health`] (H1–H6, H8, H9). Pure.
//!
//! `signs` boils down what was seen of one plane of a server, which is asked again in `rounds`;
//! `planes` looks at all of them, `dossier` at what its documents told, `machine` makes states of
//! it, `suspicion` looks at all servers together.

mod dossier;
mod machine;
mod planes;
mod rounds;
mod settings;
mod signs;
mod suspicion;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::document::{Document, DocumentFault};
use crate::cluster::{ClusterView, Plane, PlaneState, Server, ServerId, State};
use crate::now::Uptime;

use machine::Machine;
use suspicion::Watch;

pub use settings::Settings;

/// One thing seen of a server.
#[derive(Clone, Debug)]
pub enum Observation {
    /// An application's answer to a probe or to traffic, whatever its status.
    Answered {
        /// On which plane.
        plane: Plane,
        /// The SIP status; on another plane what stands for it: 200, 503 for overload, 500 for a
        /// failure of its own.
        status: u16,
        /// From the request's first transmission.
        latency: Duration,
        /// Seconds of a Retry-After, where a 503 carried one.
        retry_after: Option<u32>,
    },
    /// Refused or reset by the server's own host (ICMP port unreachable, RST).
    Refused(Plane),
    /// Some other host said unreachable: a sign, not a proof.
    Unreachable(Plane),
    /// A transaction (not a probe) ran out of time.
    TimedOut(Plane),
    /// What became of a look at the health document.
    Document(Result<Document, DocumentFault>),
    /// A health document that the server sent by itself.
    Pushed(Document),
    /// It wants the password of a user of this domain for this realm (M6). No sign of health.
    Challenged {
        /// The domain of the address-of-record.
        domain: Arc<str>,
        /// The realm.
        realm: Arc<str>,
    },
    /// It was asked for registrations that it had granted, and did not know them (H8).
    Forgot,
    /// The door has removed what it had left there (M8): probation may end. Counts only in
    /// probation, and is needed anew for each.
    Swept,
}

/// What spoke against a server when it was found to have failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// When the first of these signs was seen.
    pub first_sign: Option<Uptime>,
    /// Probes in a row without any answer.
    pub unanswered: u32,
    /// Refusals in a row by its own host.
    pub refusals: u32,
    /// Answers in a row that were failures of its own (500, 504).
    pub soft_failures: u32,
    /// The status of its last answers, where that was a failure.
    pub same_error: Option<u16>,
    /// Health documents in a row that were missing.
    pub documents_missed: u32,
}

/// What [`Health`] wants done or known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Ask once on this plane (OPTIONS on SIP); report [`Observation::Answered`] or
    /// [`Observation::Refused`]. Silence is noticed here.
    Probe(ServerId, Plane),
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
    /// A plane of a server that serves several has become something else (the view is new already).
    PlaneChanged {
        /// Of which server.
        server: ServerId,
        /// Which.
        plane: Plane,
        /// What it was.
        from: PlaneState,
        /// What it is.
        to: PlaneState,
    },
    /// A server's process is another one than before: what it kept in memory is gone (H8).
    Restarted(ServerId),
    /// Suspicion began or ended (see the view).
    Suspicion,
}

/// Changes of state one server can go through at one instant (probation, ramp of no length, up).
const CHANGES_MAX: usize = 4;

/// The health of every server.
///
/// Law of use: after each [`Health::observe`] or [`Health::tick`], call
/// [`Health::poll`] until `None`, then come back with [`Health::tick`] not later than
/// [`Health::next`].
///
/// Two things are no [`Wanted`]: that a hold ran out (whoever moves users keeps the deadline
/// [`Failure::hold_until`](crate::cluster::Failure)), and that proof or hold of a failure changed
/// while the server stays down, as when silence turns into refusal. They show in the view, and
/// [`Health::view`] is another one then.
#[derive(Debug)]
pub struct Health {
    settings: Settings,
    machines: Vec<Machine>,
    watch: Watch,
    wanted: VecDeque<Wanted>,
    view: Arc<ClusterView>,
    rng: fastrand::Rng,
    late_ticks: u64,
}

impl Health {
    /// Starts with every server `unknown`. `seed` feeds the jitter of probes.
    pub fn new(servers: &[Server], settings: Settings, now: Uptime, seed: u64) -> Self {
        let count = u32::try_from(servers.len()).unwrap_or(u32::MAX).max(1);
        let machines: Vec<Machine> = (0..count)
            .zip(servers)
            .map(|(place, server)| {
                let delay = settings.probe_interval.saturating_mul(place) / count;
                Machine::new(server, &settings, now, delay)
            })
            .collect();
        let servers = machines.iter().map(Machine::view).collect();
        Self {
            settings,
            machines,
            watch: Watch::default(),
            wanted: VecDeque::new(),
            view: Arc::new(ClusterView { servers, suspicion: None }),
            rng: fastrand::Rng::with_seed(seed),
            late_ticks: 0,
        }
    }

    /// Takes in one observation. One of a server that is not there is ignored.
    pub fn observe(&mut self, now: Uptime, server: ServerId, seen: Observation) {
        self.void_if_late(now);
        let calm = self.watch.current().is_none();
        let Some(machine) = self.machines.get_mut(server.index()) else { return };
        match seen {
            Observation::Answered { plane, status, latency, retry_after } => {
                if machine.is_reborn(plane) {
                    self.wanted.push_back(Wanted::Restarted(server));
                }
                let answer = (status, latency, retry_after);
                let matters = machine.answered(now, plane, answer, &self.settings);
                if calm && !matters {
                    // The way of nearly every answer of a healthy pool.
                    return;
                }
            }
            Observation::Refused(plane) => machine.refused(now, plane, &self.settings),
            Observation::Unreachable(plane) | Observation::TimedOut(plane) => {
                machine.look_soon(now, plane, &self.settings);
                return;
            }
            Observation::Document(result) => {
                if machine.file(now, result) {
                    self.wanted.push_back(Wanted::Restarted(server));
                }
            }
            Observation::Pushed(document) => {
                if machine.file_pushed(now, document) {
                    self.wanted.push_back(Wanted::Restarted(server));
                }
            }
            Observation::Challenged { domain, realm } => {
                machine.challenged(&domain, &realm);
            }
            Observation::Forgot => {
                machine.begin_life();
                self.wanted.push_back(Wanted::Restarted(server));
            }
            Observation::Swept => machine.sweep(),
        }
        self.look_at_all(now);
        self.judge(now, server);
        self.look_at_all(now);
        self.publish(now);
    }

    /// Lets time pass. When called much later than [`Health::next`] asked, the door itself was
    /// stalled, and the probes that this covers are void (H5): silence counts anew from a fresh
    /// probe. So a door that is late all the time sees no silence; watch [`Health::late_ticks`].
    pub fn tick(&mut self, now: Uptime) {
        self.void_if_late(now);
        for server in self.ids() {
            self.judge(now, server);
        }
        self.look_at_all(now);
        for (id, machine) in (0u16..).map(ServerId).zip(&mut self.machines) {
            let due = machine.probe(now, &self.settings, &mut self.rng);
            self.wanted.extend(due.iter().map(|plane| Wanted::Probe(id, plane)));
            if machine.fetch(now, &self.settings, &mut self.rng) {
                self.wanted.push_back(Wanted::Fetch(id));
            }
        }
        self.publish(now);
    }

    /// An operator says that our network is well, and the servers are silent themselves (H5): the
    /// suspicion is lifted until another server falls silent, or one of them anew. Their users
    /// have a hold once more. `false` if our network is not what is suspected.
    pub fn end_suspicion(&mut self, now: Uptime) -> bool {
        self.void_if_late(now);
        if !self.watch.excuse(&self.machines) {
            return false;
        }
        self.look_at_all(now);
        self.publish(now);
        true
    }

    /// Puts a server under maintenance, or back among the others, where it is judged anew (H3). The
    /// door forgets it when it restarts. `false` if that is so already, or there is no such server.
    pub fn maintain(&mut self, now: Uptime, server: ServerId, on: bool) -> bool {
        self.void_if_late(now);
        let machine = self.machines.get_mut(server.index());
        let Some((from, to)) = machine.and_then(|machine| machine.maintain(now, on)) else {
            return false;
        };
        self.wanted.push_back(Wanted::Changed { server, from, to });
        self.look_at_all(now);
        self.publish(now);
        true
    }

    /// Lets a server serve nobody but its own users, who are to leave, or ends that (H3). The door
    /// forgets it when it restarts. `false` if that is so already, under maintenance, or where there is
    /// no such server.
    pub fn drain(&mut self, now: Uptime, server: ServerId, on: bool) -> bool {
        self.void_if_late(now);
        let machine = self.machines.get_mut(server.index());
        let Some(change) = machine.and_then(|machine| machine.drain(now, on)) else {
            return false;
        };
        if let Some((from, to)) = change {
            self.wanted.push_back(Wanted::Changed { server, from, to });
        }
        self.look_at_all(now);
        self.publish(now);
        true
    }

    /// Has a server that is well taken for failed, without a hold, until that is ended: a drill
    /// (O5). `false` if it is not well, or no drill.
    pub fn drill(&mut self, now: Uptime, server: ServerId, on: bool) -> bool {
        self.void_if_late(now);
        let Some(machine) = self.machines.get_mut(server.index()) else { return false };
        if !on {
            return machine.end_drill();
        }
        let Some((from, to)) = machine.begin_drill(now) else { return false };
        self.wanted.push_back(Wanted::Changed { server, from, to });
        self.look_at_all(now);
        self.publish(now);
        true
    }

    /// What spoke against a server when it failed last.
    pub fn evidence(&self, server: ServerId) -> Evidence {
        self.machines.get(server.index()).map(Machine::evidence).unwrap_or_default()
    }

    /// The next thing wanted.
    pub fn poll(&mut self) -> Option<Wanted> {
        self.wanted.pop_front()
    }

    /// When [`Health::tick`] is due; `None` without servers. After a tick it is always later than
    /// that tick.
    pub fn next(&self) -> Option<Uptime> {
        self.machines.iter().map(|machine| machine.next(&self.settings)).min()
    }

    /// The snapshot decisions read. It is another one only when something in it changed.
    pub fn view(&self) -> &Arc<ClusterView> {
        &self.view
    }

    /// How often the driver came so late that probes were void.
    pub fn late_ticks(&self) -> u64 {
        self.late_ticks
    }

    fn ids(&self) -> impl Iterator<Item = ServerId> + use<> {
        (0u16..).map(ServerId).take(self.machines.len())
    }

    fn void_if_late(&mut self, now: Uptime) {
        let late = self.next().map_or(Duration::ZERO, |due| now.since(due));
        if late > self.settings.late_tick {
            self.late_ticks += 1;
            for machine in &mut self.machines {
                machine.void_probes(now, late);
            }
        }
    }

    fn judge(&mut self, now: Uptime, server: ServerId) {
        let doubts = self.watch.doubts();
        let Some(machine) = self.machines.get_mut(server.index()) else { return };
        for _ in 0..CHANGES_MAX {
            let change = machine.judge(now, &self.settings, doubts);
            for (plane, from, to) in machine.take_turned() {
                self.wanted.push_back(Wanted::PlaneChanged { server, plane, from, to });
            }
            let Some((from, to)) = change else { break };
            self.wanted.push_back(Wanted::Changed { server, from, to });
        }
    }

    fn look_at_all(&mut self, now: Uptime) {
        let before = self.watch.suspect();
        if !self.watch.look(now, &self.machines, &self.settings) {
            return;
        }
        self.wanted.push_back(Wanted::Suspicion);
        for machine in &mut self.machines {
            if before.is_none() {
                machine.suspicion_began(now);
            }
            if self.watch.current().is_none() {
                machine.suspicion_ended(now, &self.settings);
            }
        }
    }

    fn publish(&mut self, now: Uptime) {
        for machine in &mut self.machines {
            machine.rescore(now, &self.settings);
        }
        let servers: Vec<_> = self.machines.iter().map(Machine::view).collect();
        let suspicion = self.watch.current();
        if servers != self.view.servers || suspicion != self.view.suspicion {
            self.view = Arc::new(ClusterView { servers, suspicion });
        }
    }
}
