//! What a simulated server is told at its start.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::sip::transaction::Timings;
use crate::ucserver::clients::ClientSettings;
use crate::ucserver::digest::DigestSettings;

/// How a simulated UCServer is set up. The default is a lenient one on `127.0.0.1:5060`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What it is called in its journal and its boot ids.
    pub name: Arc<str>,
    /// Its own SIP address: goes into the Via of its requests.
    pub address: SocketAddr,
    /// Wall clock at the start, for the `Date` header.
    pub wall: SystemTime,
    /// The SIP domains it is responsible for, lower case; empty: all.
    pub domains: Vec<String>,
    /// The canonical AoRs it knows (`sip:200@example.com`); `None`: all.
    pub users: Option<BTreeSet<String>>,
    /// Users who belong to another server, by canonical AoR, and `host:port` of that one. They are
    /// sent there in the mood [`StrictHome`](crate::ucserver::Mood::StrictHome), and served otherwise.
    pub homes: BTreeMap<String, String>,
    /// Users with a binding above which strangers are refused, and likewise users whose clients are
    /// logged in; `None`: no limit.
    pub capacity_users: Option<u32>,
    /// Contacts an AoR may have.
    pub bindings_per_aor: usize,
    /// Shorter wishes get 423 (RFC 3261 §10.3 step 7, only below one hour).
    pub min_expires_secs: u32,
    /// Longer wishes are cut to this.
    pub max_expires_secs: u32,
    /// Where the phone says nothing.
    pub default_expires_secs: u32,
    /// What a 503 tells to wait.
    pub retry_after_secs: u32,
    /// Whether it knows RFC 3327. If not, `Path` is ignored and not echoed, as by any registrar
    /// that never heard of it.
    pub path_support: bool,
    /// What becomes of a `Path` without `Supported: path`.
    pub path_unannounced: PathUnannounced,
    /// Ask for digest credentials; `None`: trust everybody.
    pub digest: Option<DigestSettings>,
    /// Send OPTIONS to every new binding as soon as it is made. Refreshes are not pinged.
    pub ping_new_bindings: bool,
    /// Product version in the health document.
    pub version: String,
    /// Whole per cent in the health document.
    pub cpu_percent: u8,
    /// Whole per cent in the health document.
    pub memory_percent: u8,
    /// SIP timers.
    pub timings: Timings,
    /// Transactions it keeps at most, of each kind. More get 503 or, for its own, are not sent.
    pub transactions: usize,
    /// Journal entries it keeps at most; the oldest go first and are counted.
    pub journal_entries: usize,
    /// How long a nonce is good.
    pub nonce_lifetime: Duration,
    /// How it serves clients that speak UCSAP.
    pub clients: ClientSettings,
}

/// What a registrar that knows Path does when the phone's request does not say so too
/// (RFC 3327 §5.3 leaves it to policy).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathUnannounced {
    /// 420 with `Unsupported: path`.
    BadExtension,
    /// 421 with `Require: path`.
    ExtensionRequired,
    /// Store it, but say nothing of it in the 200.
    Store,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            name: Arc::from("ucs"),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 5060)),
            wall: SystemTime::UNIX_EPOCH,
            domains: Vec::new(),
            users: None,
            homes: BTreeMap::new(),
            capacity_users: None,
            bindings_per_aor: 10,
            min_expires_secs: 60,
            max_expires_secs: 3600,
            default_expires_secs: 3600,
            retry_after_secs: 5,
            path_support: true,
            path_unannounced: PathUnannounced::ExtensionRequired,
            digest: None,
            ping_new_bindings: false,
            version: String::from("2603.0"),
            cpu_percent: 10,
            memory_percent: 30,
            timings: Timings::default(),
            transactions: 200_000,
            journal_entries: 65_536,
            nonce_lifetime: Duration::from_secs(300),
            clients: ClientSettings::default(),
        }
    }
}
