//! What the door shows of itself: plain data for the admin listener, the demo and the tests.

use std::collections::BTreeMap;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::door::clients::SessionStatus;

/// The whole, without the users.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Status {
    /// Nanoseconds of the machine's monotonic clock when this was true.
    pub at_nanos: u64,
    /// The servers, in configured order.
    pub servers: Vec<ServerStatus>,
    /// The telephone systems that have a pace, in configured order.
    #[serde(default)]
    pub telephone_systems: Vec<SystemStatus>,
    /// `own_network` or `shared_backend` while nobody is moved on suspicion; `plane_sip`, `plane_csta` or
    /// `plane_client` while nobody is moved because of that plane.
    pub suspicion: Option<Arc<str>>,
    /// Whether automatic distribution is disabled.
    pub distribution_disabled: bool,
    /// Users known.
    pub users: u64,
    /// Users served elsewhere than at home.
    pub relocated: u64,
    /// Users of failed servers that have nowhere to go.
    pub unplaced: u64,
    /// The server whose failure would leave the most users without a place; none if any one failure
    /// fits.
    #[serde(default)]
    pub shortfall: Option<ShortfallStatus>,
    /// Bindings whose lease runs.
    pub bindings: u64,
    /// Where those bindings stand.
    pub progress: Progress,
    /// The most recent failovers, newest last, at most 16.
    pub failovers: Vec<FailoverStatus>,
    /// Who is away from home, why, and the returns there were.
    #[serde(default)]
    pub recovery: RecoveryStatus,
    /// Drains and rebalances, newest last, at most 16 that are over.
    #[serde(default)]
    pub departures: Vec<DepartureStatus>,
    /// Store trouble, in words, while it lasts.
    pub store: Option<Arc<str>>,
}

/// Users who leave servers by order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DepartureStatus {
    /// `drain`, `maintenance` or `rebalance`.
    pub cause: Arc<str>,
    /// The server they leave; a rebalance has none.
    pub server: Option<Arc<str>>,
    /// Monotonic nanoseconds of the order.
    pub began_nanos: u64,
    /// Of its end; 0 while it lasts.
    pub ended_nanos: u64,
    /// `going`, `waiting`, `empty` (a drain lasts on), `ended`, `done` or `stopped`.
    pub state: Arc<str>,
    /// Why it waits or was stopped.
    pub because: Option<Arc<str>>,
    /// Users who are to go, those included who have gone.
    pub users: u64,
    /// Users who have gone.
    pub moved: u64,
    /// Bindings of theirs that go with them, and how many are registered there.
    pub bindings: u64,
    /// See `bindings`.
    pub arrived: u64,
    /// Users whose current server it still is; of a rebalance nobody is counted.
    pub left: u64,
    /// Users who are in the middle of something, and go last.
    pub active: u64,
    /// Users who have nowhere to go.
    pub unplaced: u64,
    /// How many of them for which reason.
    pub unplaced_because: BTreeMap<Arc<str>, u64>,
    /// Users of a rebalance who keep their home after all.
    pub stayed: u64,
}

/// Bindings by where they stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Progress {
    /// Registered where their user is current.
    pub settled: u64,
    /// To be registered by the door; queued or in flight.
    pub moving: u64,
    /// The server wants credentials only the phone has: its next refresh goes to the new server.
    pub awaiting_phone: u64,
    /// Held: their server is failed and nobody is moved (yet).
    pub held: u64,
    /// Refused by the server, with a reason that speaks of the binding.
    pub failed: u64,
}

/// One server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ServerStatus {
    /// Its name.
    pub name: Arc<str>,
    /// Its state's name.
    pub state: Arc<str>,
    /// 0–100.
    pub score: u8,
    /// Users it can serve.
    pub capacity: u32,
    /// Users whose current server it is.
    pub assigned: u32,
    /// Users whose home it is.
    pub home_to: u32,
    /// Bindings the door holds registered there.
    pub bindings: u64,
    /// REGISTERs in flight to it.
    pub in_flight: u32,
    /// And waiting for their turn.
    pub queued: u64,
    /// Monotonic nanoseconds of its last change of state.
    pub since_nanos: u64,
    /// For which realms it wants its users' passwords, as far as is known.
    pub realms: Vec<Arc<str>>,
    /// Servers of another realm: no user is moved from there to here, nor back.
    pub other_realm_than: Vec<Arc<str>>,
    /// Its line groups.
    #[serde(default)]
    pub line_groups: Vec<Arc<str>>,
    /// The telephone systems it knows, and whether it reaches them.
    #[serde(default)]
    pub telephone_systems: BTreeMap<Arc<str>, bool>,
    /// What proved its failure, while failed; while partial, the plane that is to blame.
    pub proof: Option<Arc<str>>,
    /// How it is on each plane it serves.
    #[serde(default)]
    pub planes: Vec<PlaneStatus>,
    /// How often its process was seen to start anew.
    pub incarnation: u32,
}

/// One plane of one server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PlaneStatus {
    /// `sip`, `csta` or `client`.
    pub plane: Arc<str>,
    /// `unknown`, `alive`, `dead` or `unheard` (it has never answered, and counts for nothing).
    pub state: Arc<str>,
    /// Monotonic nanoseconds of its last change of state.
    pub since_nanos: u64,
    /// Whether it counts for the state of the server, by configuration.
    pub counts: bool,
    /// What proved that it does not answer, while it does not.
    pub proof: Option<Arc<str>>,
}

/// What would happen if one more server failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ShortfallStatus {
    /// Which.
    pub server: Arc<str>,
    /// Users who would have to leave it.
    pub users: u64,
    /// How many of them would find no place.
    pub unplaced: u64,
}

/// One telephone system that has a pace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SystemStatus {
    /// Its name.
    pub name: Arc<str>,
    /// REGISTERs that may be in flight for it.
    pub window: u32,
    /// REGISTERs in flight that it hears of.
    pub in_flight: u32,
    /// And waiting for it.
    pub queued: u64,
    /// Servers that reach it.
    pub reached_by: Vec<Arc<str>>,
    /// Servers that know it and do not reach it.
    pub lost_by: Vec<Arc<str>>,
}

/// One failover.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FailoverStatus {
    /// Whose users had to go.
    pub server: Arc<str>,
    /// What proved the failure.
    pub proof: Arc<str>,
    /// Monotonic nanoseconds: the door knew.
    pub detected_nanos: u64,
    /// Monotonic nanoseconds: the plan was made.
    pub planned_nanos: u64,
    /// Monotonic nanoseconds: the relocations were durable; 0 before.
    pub recorded_nanos: u64,
    /// Users planned.
    pub users: u64,
    /// Users without a place.
    pub unplaced: u64,
    /// How many of them for which reason: what the server that came closest said.
    pub unplaced_because: BTreeMap<Arc<str>, u64>,
    /// Bindings to be registered elsewhere.
    pub bindings: u64,
    /// Bindings registered elsewhere by now.
    pub rehomed: u64,
    /// Monotonic nanoseconds of the first and the last of them; 0 before.
    pub first_nanos: u64,
    /// See `first_nanos`.
    pub last_nanos: u64,
    /// Why nobody was moved, if nobody was.
    pub why_not: Option<Arc<str>>,
}

/// The way home (B).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RecoveryStatus {
    /// Whether an operator has stopped all returns.
    pub paused: bool,
    /// Homes some of whose users are away.
    pub homes: Vec<AwayStatus>,
    /// The most recent returns, newest last, at most 16.
    pub returns: Vec<ReturnStatus>,
}

/// Users who are away from one home.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AwayStatus {
    /// Their home.
    pub home: Arc<str>,
    /// How many.
    pub away: u64,
    /// Why nobody goes home now, in a word; none while a return is under way or would begin with the
    /// next look.
    pub stay_because: Option<Arc<str>>,
}

/// One return.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ReturnStatus {
    /// Where to.
    pub home: Arc<str>,
    /// `going`, `looking`, `done` or `stopped`.
    pub state: Arc<str>,
    /// Begun by an operator.
    pub by_hand: bool,
    /// Monotonic nanoseconds of the beginning.
    pub began_nanos: u64,
    /// And of the end; 0 before.
    pub ended_nanos: u64,
    /// The stage under way, or the last one there was; from 1.
    pub stage: u32,
    /// Stages planned.
    pub stages: u32,
    /// Users who were to go.
    pub users: u64,
    /// Users who are at home by the ledger.
    pub returned: u64,
    /// Users who were left where they are because they were in the middle of something.
    pub active: u64,
    /// Users who stay because the return was stopped.
    pub stay: u64,
    /// Bindings of those who returned.
    pub bindings: u64,
    /// Bindings registered at home by now.
    pub arrived: u64,
    /// Monotonic nanoseconds of the first and the last of them; 0 before.
    pub first_nanos: u64,
    /// See `first_nanos`.
    pub last_nanos: u64,
    /// Why it was stopped, if it was.
    pub stopped_because: Option<Arc<str>>,
}

/// One user who is away, for `frontdoor relocations`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct RelocationStatus {
    /// Login name.
    pub user: Arc<str>,
    /// `RelocationHomeserverOrigin`.
    pub origin: Arc<str>,
    /// Where they are now.
    pub current: Arc<str>,
    /// `RelocationDate`, seconds since 1970.
    pub date: u64,
    /// `failover`, `drain`, `replanned` or `manual`.
    pub why: Arc<str>,
    /// Epoch.
    pub epoch: u64,
}

/// One user, for `frontdoor users`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct UserStatus {
    /// Login name.
    pub name: Arc<str>,
    /// Addresses-of-record.
    pub aors: Vec<Arc<str>>,
    /// Lines.
    pub lines: Vec<Arc<str>>,
    /// Whether the user is served at all.
    pub enabled: bool,
    /// Home server.
    pub home: Option<Arc<str>>,
    /// Current server.
    pub current: Option<Arc<str>>,
    /// `RelocationHomeserverOrigin`, while relocated.
    pub relocated_from: Option<Arc<str>>,
    /// `RelocationDate`, seconds since 1970, while relocated.
    pub relocated_at: Option<u64>,
    /// Why, while relocated: as in a relocation.
    pub relocated_why: Option<Arc<str>>,
    /// Epoch.
    pub epoch: u64,
    /// Bindings.
    pub bindings: Vec<BindingStatus>,
    /// Client sessions.
    pub sessions: Vec<SessionStatus>,
}

/// One binding of a user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BindingStatus {
    /// The contact URI.
    pub contact: Arc<str>,
    /// The phone's address and transport.
    pub from: Arc<str>,
    /// Seconds left of its lease.
    pub lease_s: u64,
    /// `settled`, `moving`, `awaiting_phone`, `held`, `failed`: see `Progress`.
    pub standing: Arc<str>,
    /// Where the door holds it registered.
    pub registered_at: Vec<Arc<str>>,
    /// Why it failed or waits.
    pub because: Option<Arc<str>>,
}
