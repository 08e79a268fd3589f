//! What the client plane is told at start.

use std::time::Duration;

use crate::cluster::ServerId;
use crate::door::Pace;
use crate::sip::ListenerId;

/// The client plane.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// How long a login may wait for its user's server, or for a record, before it is told to come
    /// back.
    pub patience: Duration,
    /// How long what a client asks may wait while nobody serves its session.
    pub gap_patience: Duration,
    /// How long a session may be without a server before its connection is closed.
    pub gap_max: Duration,
    /// Connections that have to be closed are closed within this, spread, so that their clients do
    /// not come back all at once.
    pub close_spread: Duration,
    /// How long a leg that is left may take for the answers it owes.
    pub overlap: Duration,
    /// How long a server may take until a session stands on a leg to it: the connection, the
    /// negotiation, the login.
    pub leg_patience: Duration,
    /// How long it may then take to grant what the client wants for good; what it has not granted
    /// by then, it does not.
    pub restore_patience: Duration,
    /// Listeners on which clients may ask for TLS (`asnStartTLS`).
    pub start_tls: Vec<ListenerId>,
    /// Listeners that stand for one server.
    pub stands_for: Vec<(ListenerId, ServerId)>,
    /// Clients before 2603.0 (D5).
    pub legacy: LegacyClients,
    /// Clients from 2603.0 on (D5).
    pub failover: ClientFailover,
    /// Sessions that are made anew at one server.
    pub pace: Pace,
    /// Bounds.
    pub limits: ClientLimits,
}

/// What becomes of clients before 2603.0, or of no version that can be read (D5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LegacyClients {
    /// They are carried like others.
    Carry,
    /// They are refused.
    Block,
    /// They are served where their users are at home, and told to come back later while that is not
    /// there.
    HomeOnly,
}

/// What becomes of clients from 2603.0 on whose user is served elsewhere than at the server their
/// address stands for (D5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientFailover {
    /// They are carried there, and do not notice.
    Carry,
    /// They are told the address of the door that stands for the other server, if it has one.
    Redirect,
}

/// Bounds of the plane's tables.
#[derive(Clone, Copy, Debug)]
pub struct ClientLimits {
    /// Connections.
    pub connections: usize,
    /// Sessions.
    pub sessions: usize,
    /// Sessions of one connection.
    pub sessions_per_connection: usize,
    /// Wishes of one session; one more is granted, but is not made anew elsewhere.
    pub wishes: usize,
    /// Invokes of one session that wait for an answer.
    pub pending: usize,
    /// Invokes of one session that wait while nobody serves it.
    pub held: usize,
    /// Devices whose users are remembered.
    pub devices: usize,
    /// Tokens whose users are remembered.
    pub tokens: usize,
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(20),
            gap_patience: Duration::from_secs(10),
            gap_max: Duration::from_secs(300),
            close_spread: Duration::from_secs(10),
            overlap: Duration::from_secs(2),
            leg_patience: Duration::from_secs(10),
            restore_patience: Duration::from_secs(30),
            start_tls: Vec::new(),
            stands_for: Vec::new(),
            legacy: LegacyClients::Carry,
            failover: ClientFailover::Carry,
            pace: Pace { window_initial: 64, window_max: 512, rate_max: None },
            limits: ClientLimits::default(),
        }
    }
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            connections: 100_000,
            sessions: 100_000,
            sessions_per_connection: 256,
            // A TAPI driver may watch every line of a site.
            wishes: 8_192,
            pending: 256,
            held: 64,
            devices: 200_000,
            tokens: 200_000,
        }
    }
}
