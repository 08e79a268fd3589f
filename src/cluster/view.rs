//! [`ClusterView`]: the immutable snapshot every decision reads.

use std::sync::Arc;

use smallvec::SmallVec;

use crate::cluster::plane::Plane;
use crate::cluster::realm::Realms;
use crate::cluster::server::{ServerId, Version};
use crate::cluster::ties::Ties;
use crate::now::Uptime;

/// What the pool looks like at one moment. Swapped whole, never edited.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    /// By [`ServerId`].
    pub servers: Vec<ServerView>,
    /// Set while the door suspects itself or something shared (H5).
    pub suspicion: Option<Suspicion>,
}

impl ClusterView {
    /// One server's line.
    pub fn server(&self, id: ServerId) -> &ServerView {
        &self.servers[id.index()]
    }

    /// A telephone system that this server has lost and another one reaches. One that nobody reaches
    /// is down itself, and no reason for anything (H5).
    pub fn lost_system(&self, id: ServerId) -> Option<&Arc<str>> {
        let lost = self.server(id).ties.systems().filter(|(_, reached)| !reached);
        lost.map(|(name, _)| name).find(|name| self.is_reached(name))
    }

    /// Whether a server that lives reaches this telephone system.
    pub fn is_reached(&self, system: &str) -> bool {
        let reaches = |server: &ServerView| server.ties.reaches(system) == Some(true);
        self.servers.iter().any(|server| !server.is_dead() && reaches(server))
    }

    /// All servers, in the order of the configuration.
    pub fn iter(&self) -> impl Iterator<Item = (ServerId, &ServerView)> {
        (0u16..).map(ServerId).zip(self.servers.iter())
    }
}

/// One server in a [`ClusterView`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerView {
    /// The name people and records use.
    pub name: Arc<str>,
    /// What the door takes it for.
    pub state: State,
    /// 0–100: how much it can be asked to do now; changes only by steps of at least 5 (H6).
    pub score: u8,
    /// Users it can serve: from its health document, else from configuration.
    pub capacity: u32,
    /// Its product version, where known.
    pub version: Option<Version>,
    /// Where it stands; `None` is everywhere.
    pub site: Option<Arc<str>>,
    /// Its line groups, and the telephone systems it reaches (P4).
    pub ties: Arc<Ties>,
    /// Whose passwords it takes (M6).
    pub realms: Arc<Realms>,
    /// Since when it is failed, and until when nobody is moved off it. Under maintenance: since when
    /// it does not answer.
    pub failure: Option<Failure>,
    /// One number per life of the server's process (H8); rises when it restarted.
    pub incarnation: u32,
    /// Since when it is in `state`.
    pub since: Uptime,
    /// How it is on each plane it serves.
    pub planes: SmallVec<[PlaneView; 1]>,
}

/// One plane of one server in a [`ClusterView`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlaneView {
    /// Which.
    pub plane: Plane,
    /// What the door takes it for.
    pub state: PlaneState,
    /// Since when.
    pub since: Uptime,
    /// Whether it counts for the state of the server, by configuration (H4).
    pub counts: bool,
    /// What proved it dead, while it is.
    pub proof: Option<Proof>,
}

/// What the door takes one plane of one server for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PlaneState {
    /// Neither an answer nor a proof of its failure yet.
    Unknown,
    /// It answers.
    Alive,
    /// It failed, and no good answer has cleared that.
    Dead,
    /// Another plane of this server has answered, and this one never since the door started: more
    /// likely a wrong port or a firewall than a failure. It counts for nothing until it answers.
    Unheard,
}

impl PlaneState {
    /// The word in status, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Alive => "alive",
            Self::Dead => "dead",
            Self::Unheard => "unheard",
        }
    }

    /// Every state, for label sets.
    pub const ALL: [Self; 4] = [Self::Unknown, Self::Alive, Self::Dead, Self::Unheard];
}

impl ServerView {
    /// What proved its failure, while it is failed; while it is failed for new placements only, the
    /// plane that is to blame.
    pub fn proof(&self) -> Option<Proof> {
        let blamed = || (self.state == State::Partial).then(|| self.dead_planes().next()).flatten();
        self.failure.map(|failure| failure.proof).or_else(|| blamed().map(Proof::Plane))
    }

    /// The planes that are dead and count, where it serves more than one.
    pub fn dead_planes(&self) -> impl Iterator<Item = Plane> {
        let several = self.planes.len() > 1;
        let dead =
            move |seen: &&PlaneView| several && seen.counts && seen.state == PlaneState::Dead;
        self.planes.iter().filter(dead).map(|seen| seen.plane)
    }

    /// Whether it answers on this plane, as far as is known.
    pub fn is_alive_on(&self, plane: Plane) -> bool {
        self.planes.iter().any(|seen| seen.plane == plane && seen.state == PlaneState::Alive)
    }

    /// Whether nothing can be done there now: down, or under maintenance and not answering.
    pub const fn is_dead(&self) -> bool {
        match self.state {
            State::Down => true,
            State::Maintenance => self.failure.is_some(),
            State::Unknown
            | State::Up
            | State::Degraded
            | State::Partial
            | State::Probation
            | State::Ramp
            | State::Drain => false,
        }
    }

    /// Whether users whose current server this is are served there.
    pub const fn serves_its_users(&self) -> bool {
        self.state.serves_its_users() && !self.is_dead()
    }
}

/// What the door takes a server for (H3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Just started: no verdict from missing observations.
    Unknown,
    /// Answers as it should.
    Up,
    /// Answers, but badly; serves its own, takes strangers last.
    Degraded,
    /// A plane that counts is dead while another one answers: serves its own until the dwell is
    /// over, and takes no strangers (H4).
    Partial,
    /// Failed.
    Down,
    /// Answers again after a failure; swept and watched before it counts.
    Probation,
    /// Healthy again, taking a growing share.
    Ramp,
    /// By command: it serves its users, who leave it, and takes nobody. It fails like any other.
    Drain,
    /// By command: whatever its health, nobody is moved for it, nobody is placed there and nobody
    /// returns. It serves its users while it lives.
    Maintenance,
}

impl State {
    /// Whether users whose current server this is are served there; under maintenance, while it
    /// lives ([`ServerView::serves_its_users`]).
    pub const fn serves_its_users(self) -> bool {
        matches!(
            self,
            Self::Unknown
                | Self::Up
                | Self::Degraded
                | Self::Partial
                | Self::Ramp
                | Self::Drain
                | Self::Maintenance
        )
    }

    /// Whether users may be placed here.
    pub const fn takes_strangers(self) -> bool {
        matches!(self, Self::Up | Self::Degraded | Self::Ramp)
    }

    /// The word in status, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Degraded => "degraded",
            Self::Partial => "partial",
            Self::Down => "down",
            Self::Probation => "probation",
            Self::Ramp => "ramp",
            Self::Drain => "drain",
            Self::Maintenance => "maintenance",
        }
    }

    /// Every state, for label sets.
    pub const ALL: [Self; 9] = [
        Self::Unknown,
        Self::Up,
        Self::Degraded,
        Self::Partial,
        Self::Down,
        Self::Probation,
        Self::Ramp,
        Self::Drain,
        Self::Maintenance,
    ];
}

/// Why and since when a server counts as failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What proved it.
    pub proof: Proof,
    /// When the door knew.
    pub since: Uptime,
    /// Until then answers are held and nobody is moved (`failover.hold`, H2).
    pub hold_until: Uptime,
}

/// What kind of evidence a failure rests on (H1, H5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Proof {
    /// Refused or reset by the server's own host: the path works, the process is gone.
    Refused,
    /// Nothing came back: it may be the server, it may be us.
    Silence,
    /// It answers, and every answer is a failure.
    Errors,
    /// The health document vanished or says so, and the probes agree.
    Document,
    /// An operator said so, to see what happens: the server is well.
    Drill,
    /// This plane is dead while another one answers, and has been for the dwell (H4).
    Plane(Plane),
}

impl Proof {
    /// Whether it rules out that only the way to the server is broken (H5).
    pub const fn proves_the_path(self) -> bool {
        match self {
            Self::Refused | Self::Drill => true,
            // Another plane answers, but the way to a port may be broken by itself, as by a firewall.
            Self::Silence | Self::Errors | Self::Document | Self::Plane(_) => false,
        }
    }

    /// The word in status, logs and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Silence => "silence",
            Self::Errors => "errors",
            Self::Document => "document",
            Self::Drill => "drill",
            Self::Plane(plane) => plane_word(plane),
        }
    }
}

/// Why nobody is moved although servers look failed (H5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Suspicion {
    /// What is suspected.
    pub of: Suspect,
    /// Since when.
    pub since: Uptime,
}

/// What the door suspects when too much fails at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Suspect {
    /// Too many servers fell silent in one window: our own network.
    OwnNetwork,
    /// Every server gives the same 5xx: a shared telephone system, SQL or Redis.
    SharedBackend,
    /// One plane is dead on too many servers that answer on others: something that this plane shares,
    /// or our own way to it (H4, H5).
    Plane(Plane),
}

impl Suspect {
    /// The word in status and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OwnNetwork => "own_network",
            Self::SharedBackend => "shared_backend",
            Self::Plane(plane) => plane_word(plane),
        }
    }

    /// Everything that can be suspected, for label sets.
    pub const ALL: [Self; 5] = [
        Self::OwnNetwork,
        Self::SharedBackend,
        Self::Plane(Plane::Sip),
        Self::Plane(Plane::Csta),
        Self::Plane(Plane::Client),
    ];
}

/// One plane that is dead where others live.
const fn plane_word(plane: Plane) -> &'static str {
    match plane {
        Plane::Sip => "plane_sip",
        Plane::Csta => "plane_csta",
        Plane::Client => "plane_client",
    }
}
