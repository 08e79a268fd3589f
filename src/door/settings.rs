//! What the core is told once, at start.

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::cluster::{Server, health};
use crate::decision;
use crate::door::clients::ClientSettings;
use crate::private::Private;
use crate::recovery;
use crate::sip::{Transport, transaction};

/// Everything the door is told at start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The pool, by [`crate::cluster::ServerId`].
    pub servers: Vec<Server>,
    /// The sockets, by [`crate::sip::ListenerId`].
    pub listeners: Vec<Listener>,
    /// The SIP edge.
    pub sip: SipSettings,
    /// Patience with servers.
    pub health: health::Settings,
    /// The login decision.
    pub decision: decision::Policy,
    /// The way home.
    pub recovery: recovery::Policy,
    /// The client plane.
    pub clients: ClientSettings,
    /// Pace of what the door does at the servers by itself.
    pub pace: Pace,
    /// The telephone systems behind the servers, at most [`SYSTEMS_MAX`].
    pub telephone_systems: Vec<TelephoneSystem>,
    /// What happens to an AoR nobody imported (D6).
    pub unknown_users: UnknownUsers,
    /// Bounds of every table.
    pub limits: Limits,
    /// Authenticates Path tokens; from a 0600 file, the same for all doors and all starts.
    pub token_key: Private<[u8; 32]>,
    /// Feeds every jitter and every identifier of this life of the door.
    pub seed: u64,
}

/// One socket of ours.
#[derive(Clone, Debug)]
pub struct Listener {
    /// Its configured name; records carry it.
    pub name: Arc<str>,
    /// What is spoken there.
    pub transport: Transport,
    /// Who is expected there.
    pub side: Side,
    /// `host:port` in our Via and Path: what the other side reaches us by.
    pub advertised: Arc<str>,
    /// Whether it is an IPv6 socket.
    pub ipv6: bool,
}

/// Who is on the other side of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Phones.
    Phones,
    /// UCServers.
    Servers,
}

/// The SIP edge.
#[derive(Clone, Debug)]
pub struct SipSettings {
    /// Who checks that a phone is who it says.
    pub auth: Auth,
    /// Whether an unchanged refresh of a known phone is answered by the door.
    pub absorb: bool,
    /// Networks whose phones are known by where they are (mode `none`).
    pub trusted_networks: Vec<IpNet>,
    /// Whether the server's `Server` header reaches the phone; else ours does.
    pub pass_server_header: bool,
    /// Our own `Server` header.
    pub server_header: Arc<str>,
    /// Shorter wishes are refused with 423 and this as Min-Expires.
    pub lease_min: Duration,
    /// Longer wishes are cut to this.
    pub lease_max: Duration,
    /// What the door asks of a server's registrar.
    pub expiry: Duration,
    /// How long a lapsed binding is kept at the server, in case the phone was only slow.
    pub lapse_grace: Duration,
    /// RFC 3261 T1, T2, T4.
    pub timings: transaction::Timings,
    /// How long a phone's REGISTER may wait for a server before it is answered 503.
    pub patience: Duration,
}

/// Who checks that a phone is who it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Auth {
    /// Nobody: the network is trusted.
    None,
    /// The UCServers: challenges and answers pass through.
    Passthrough,
}

/// D6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownUsers {
    /// The AoR becomes a user.
    Adopt,
    /// 404.
    Reject,
}

/// Most telephone systems that have a pace.
pub const SYSTEMS_MAX: usize = 64;

/// A telephone system that servers register their users' lines at. A REGISTER by which a server comes
/// to know a binding makes it register there in turn, so this is paced, too (M7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelephoneSystem {
    /// The name it has on all servers.
    pub name: Arc<str>,
    /// What it takes, from all servers together.
    pub pace: Pace,
}

/// How fast the door may be towards one server, or for one telephone system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// REGISTERs in flight to begin with.
    pub window_initial: u32,
    /// And at most.
    pub window_max: u32,
    /// REGISTERs per second at most; `None` is unlimited (small systems take 25/s).
    pub rate_max: Option<u32>,
}

/// Bounds of every table. What does not fit is refused or shed, and counted.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Users, adopted ones included.
    pub users: usize,
    /// Bindings in all.
    pub bindings: usize,
    /// Bindings of one AoR.
    pub bindings_per_aor: usize,
    /// Transactions, each side.
    pub transactions: usize,
    /// Phones' REGISTERs that wait for a server or for the store.
    pub waiting: usize,
    /// REGISTERs of phones that are not known, a second, in all.
    pub strangers: u32,
    /// The same from one source: an IPv4 address or an IPv6 /64.
    pub strangers_per_source: u32,
    /// And at once.
    pub strangers_burst_per_source: u32,
    /// REGISTERs of one AoR that the door cannot answer by itself, a second.
    pub changes_per_aor: u32,
    /// And at once.
    pub changes_burst_per_aor: u32,
}

impl Default for SipSettings {
    fn default() -> Self {
        Self {
            auth: Auth::None,
            absorb: true,
            trusted_networks: Vec::new(),
            pass_server_header: false,
            server_header: Arc::from("frontdoor"),
            lease_min: Duration::from_secs(60),
            lease_max: Duration::from_secs(300),
            expiry: Duration::from_secs(3600),
            lapse_grace: Duration::from_secs(30),
            timings: transaction::Timings::default(),
            patience: Duration::from_secs(20),
        }
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self { window_initial: 32, window_max: 512, rate_max: None }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            users: 2_000_000,
            bindings: 4_000_000,
            bindings_per_aor: 10,
            transactions: 65_536,
            waiting: 50_000,
            // A town without power: 100 000 phones within ten seconds.
            strangers: 10_000,
            // A branch office of 2000 phones behind one address comes back at once; a call centre
            // of 10 000 within 80 seconds.
            strangers_per_source: 100,
            strangers_burst_per_source: 2_000,
            // A user who tries every phone on the desk, each with a challenge and an answer.
            changes_per_aor: 1,
            changes_burst_per_aor: 60,
        }
    }
}
