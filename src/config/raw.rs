//! The file as it is written: one struct a section, every key optional, nothing judged yet.
//!
//! What a key means, its unit and its default stand in `config/frontdoor.toml`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;
use serde::de::{Deserializer, Error, Visitor};
use toml::Spanned;

use crate::config::address::{Address, Network, SipAddress};
use crate::config::duration::Span;
use crate::config::recovery::TimeOfDay;

/// The whole file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Raw {
    pub(super) listen: Vec<Spanned<RawListen>>,
    pub(super) certificates: Vec<Spanned<RawCertificate>>,
    pub(super) upstream: Vec<Spanned<RawUpstream>>,
    pub(super) servers: Vec<Spanned<RawServer>>,
    pub(super) telephone_systems: Vec<Spanned<RawTelephoneSystem>>,
    pub(super) sip: RawSip,
    pub(super) failover: RawFailover,
    pub(super) recovery: RawRecovery,
    pub(super) clients: RawClients,
    pub(super) health: RawHealth,
    pub(super) pace: RawPace,
    pub(super) users: RawUsers,
    pub(super) store: RawStore,
    pub(super) reports: RawReports,
    pub(super) keys: RawKeys,
    pub(super) limits: RawLimits,
    pub(super) admin: RawAdmin,
    pub(super) log: RawLog,
}

impl Raw {
    /// The entry of a server, by name.
    pub(super) fn server(&self, name: &str) -> Option<&Spanned<RawServer>> {
        let named = |entry: &&Spanned<RawServer>| {
            entry.get_ref().name.as_ref().is_some_and(|other| other.get_ref() == name)
        };
        self.servers.iter().find(named)
    }
}

/// One `[[listen]]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawListen {
    pub(super) name: Option<Spanned<String>>,
    pub(super) plane: Option<RawListenPlane>,
    pub(super) transport: Option<Spanned<RawListenTransport>>,
    pub(super) address: Option<Spanned<Address>>,
    pub(super) advertise: Option<Spanned<String>>,
    pub(super) stands_for: Option<Spanned<String>>,
}

/// One `[[certificates]]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawCertificate {
    pub(super) chain: Option<Spanned<PathBuf>>,
    pub(super) key: Option<Spanned<PathBuf>>,
}

/// One `[[upstream]]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawUpstream {
    pub(super) name: Option<Spanned<String>>,
    pub(super) transport: Option<RawTransport>,
    pub(super) address: Option<Spanned<Address>>,
    pub(super) advertise: Option<Spanned<String>>,
}

/// One `[[servers]]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawServer {
    pub(super) name: Option<Spanned<String>>,
    pub(super) sip: Option<Spanned<SipAddress>>,
    pub(super) clients: Option<Spanned<Address>>,
    pub(super) web: Option<Spanned<Address>>,
    pub(super) ucsid: Option<String>,
    pub(super) public: Option<Spanned<String>>,
    pub(super) capacity: Option<Spanned<u32>>,
    pub(super) version: Option<Spanned<String>>,
    pub(super) site: Option<String>,
    pub(super) line_groups: Vec<Spanned<String>>,
    pub(super) reaches: Vec<Spanned<String>>,
    pub(super) realm: Option<Spanned<String>>,
    pub(super) health_url: Option<Spanned<String>>,
    pub(super) health_document: Option<Spanned<RawDocumentUse>>,
    pub(super) binding_address: Option<RawBindingAddress>,
}

/// One `[[telephone_systems]]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawTelephoneSystem {
    pub(super) name: Option<Spanned<String>>,
    pub(super) rate_max: Option<Spanned<u32>>,
    pub(super) window_max: Option<Spanned<u32>>,
}

/// `[sip]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawSip {
    pub(super) auth: Option<Spanned<RawAuth>>,
    pub(super) absorb: Option<bool>,
    pub(super) trusted_networks: Vec<Network>,
    pub(super) pass_server_header: Option<bool>,
    pub(super) server_header: Option<Spanned<String>>,
    pub(super) lease_min: Option<Spanned<Span>>,
    pub(super) lease_max: Option<Spanned<Span>>,
    pub(super) expiry: Option<Spanned<Span>>,
    pub(super) lapse_grace: Option<Span>,
    pub(super) patience: Option<Spanned<Span>>,
    pub(super) t1: Option<Spanned<Span>>,
    pub(super) t2: Option<Spanned<Span>>,
    pub(super) t4: Option<Spanned<Span>>,
}

/// `[failover]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawFailover {
    pub(super) disable_automatic_user_distribution: Option<bool>,
    pub(super) hold_refused: Option<Span>,
    pub(super) hold_silence: Option<Span>,
    pub(super) grace: Option<Span>,
    pub(super) retry_after_min: Option<Spanned<Span>>,
    pub(super) retry_after_max: Option<Spanned<Span>>,
    pub(super) score_min: Option<Spanned<i64>>,
    pub(super) panic_threshold_percent: Option<Spanned<i64>>,
    pub(super) panic_window: Option<Spanned<Span>>,
}

/// `[recovery]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawRecovery {
    pub(super) automatic: Option<bool>,
    pub(super) hold: Option<Spanned<Span>>,
    pub(super) interval: Option<Spanned<Span>>,
    pub(super) windows: Vec<TimeOfDay>,
    pub(super) stages: Option<Spanned<Vec<i64>>>,
    pub(super) look: Option<Spanned<Span>>,
    pub(super) score_min: Option<Spanned<i64>>,
    pub(super) users_per_second: Option<Spanned<u32>>,
    pub(super) active_session: Option<RawActiveSession>,
}

/// `[clients]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawClients {
    pub(super) legacy_clients: Option<RawLegacyClients>,
    pub(super) client_failover: Option<Spanned<RawClientFailover>>,
    pub(super) patience: Option<Spanned<Span>>,
    pub(super) gap_patience: Option<Spanned<Span>>,
    pub(super) gap_max: Option<Spanned<Span>>,
    pub(super) close_spread: Option<Spanned<Span>>,
    pub(super) overlap: Option<Spanned<Span>>,
    pub(super) window_max: Option<Spanned<u32>>,
    pub(super) rate_max: Option<Spanned<u32>>,
    pub(super) sessions: Option<Spanned<usize>>,
    pub(super) sessions_per_connection: Option<Spanned<usize>>,
    pub(super) wishes: Option<Spanned<usize>>,
}

/// `clients.legacy_clients`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawLegacyClients {
    Carry,
    Block,
    HomeOnly,
}

/// `[health]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawHealth {
    pub(super) probe_interval: Option<Spanned<Span>>,
    pub(super) degraded_after: Option<Spanned<Span>>,
    pub(super) down_after: Option<Spanned<Span>>,
    pub(super) refusals: Option<Spanned<u32>>,
    pub(super) refused_interval: Option<Spanned<Span>>,
    pub(super) rise: Option<Spanned<u32>>,
    pub(super) probation: Option<Span>,
    pub(super) ramp: Option<Span>,
    pub(super) late_tick: Option<Spanned<Span>>,
    pub(super) document_interval: Option<Spanned<Span>>,
    pub(super) push: Option<Spanned<Address>>,
    pub(super) sample_interval: Option<Spanned<Span>>,
    pub(super) planes: Option<Spanned<Vec<RawPlane>>>,
    pub(super) plane_dwell: Option<Spanned<Span>>,
}

/// `[pace]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPace {
    pub(super) window_initial: Option<Spanned<u32>>,
    pub(super) window_max: Option<Spanned<u32>>,
    pub(super) rate_max: Option<Spanned<u32>>,
}

/// `[users]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawUsers {
    pub(super) unknown: Option<RawUnknownUsers>,
    pub(super) file: Option<Spanned<PathBuf>>,
}

/// `[store]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawStore {
    pub(super) path: Option<Spanned<PathBuf>>,
}

/// `[reports]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawReports {
    pub(super) directory: Option<Spanned<PathBuf>>,
    pub(super) keep: Option<Spanned<u32>>,
}

/// `[keys]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawKeys {
    pub(super) path_token_file: Option<Spanned<PathBuf>>,
}

/// `[limits]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLimits {
    pub(super) users: Option<Spanned<usize>>,
    pub(super) bindings: Option<Spanned<usize>>,
    pub(super) bindings_per_aor: Option<Spanned<usize>>,
    pub(super) transactions: Option<Spanned<usize>>,
    pub(super) waiting: Option<Spanned<usize>>,
    pub(super) strangers: Option<Spanned<u32>>,
    pub(super) strangers_per_source: Option<Spanned<u32>>,
    pub(super) strangers_burst_per_source: Option<Spanned<u32>>,
    pub(super) changes_per_aor: Option<Spanned<u32>>,
    pub(super) changes_burst_per_aor: Option<Spanned<u32>>,
    pub(super) connections: Option<Spanned<usize>>,
    pub(super) connections_per_source: Option<Spanned<usize>>,
}

/// `[admin]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawAdmin {
    pub(super) address: Option<Spanned<Address>>,
    pub(super) names: Vec<String>,
    pub(super) token_file: Option<Spanned<PathBuf>>,
}

/// `[log]`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawLog {
    pub(super) filter: Option<Spanned<String>>,
    pub(super) format: Option<RawLogFormat>,
}

macro_rules! words {
    ($(#[doc = $doc:literal] $name:ident { $($word:ident),+ })+) => { $(
        #[doc = $doc]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
        #[serde(rename_all = "lowercase")]
        pub(super) enum $name { $($word),+ }
    )+ };
}

words! {
    /// `upstream.transport`.
    RawTransport { Udp, Tcp }
    /// `listen.transport`.
    RawListenTransport { Udp, Tcp, Tls, Http, Https }
    /// `clients.client_failover`.
    RawClientFailover { Carry, Redirect }
    /// `listen.plane`.
    RawListenPlane { Sip, Client }
    /// `sip.auth`.
    RawAuth { None, Passthrough }
    /// `users.unknown`.
    RawUnknownUsers { Adopt, Reject }
    /// `recovery.active_session`.
    RawActiveSession { Unmovable, Any }
    /// `servers.health_document`.
    RawDocumentUse { Required, Optional, None }
    /// `health.planes`.
    RawPlane { Sip, Csta, Client }
    /// `servers.binding_address`.
    RawBindingAddress { Path, Contact, Auto }
    /// `log.format`.
    RawLogFormat { Text, Json }
}

/// Every section and its keys; the sections themselves under the empty name.
pub(super) fn sections() -> BTreeMap<&'static str, &'static [&'static str]> {
    BTreeMap::from([
        ("", keys_of::<Raw>()),
        ("listen", keys_of::<RawListen>()),
        ("certificates", keys_of::<RawCertificate>()),
        ("upstream", keys_of::<RawUpstream>()),
        ("servers", keys_of::<RawServer>()),
        ("telephone_systems", keys_of::<RawTelephoneSystem>()),
        ("sip", keys_of::<RawSip>()),
        ("failover", keys_of::<RawFailover>()),
        ("recovery", keys_of::<RawRecovery>()),
        ("clients", keys_of::<RawClients>()),
        ("health", keys_of::<RawHealth>()),
        ("pace", keys_of::<RawPace>()),
        ("users", keys_of::<RawUsers>()),
        ("store", keys_of::<RawStore>()),
        ("reports", keys_of::<RawReports>()),
        ("keys", keys_of::<RawKeys>()),
        ("limits", keys_of::<RawLimits>()),
        ("admin", keys_of::<RawAdmin>()),
        ("log", keys_of::<RawLog>()),
    ])
}

/// The names serde knows a struct's fields by: asked of the type, so that no list can drift.
fn keys_of<T: Deserialize<'static>>() -> &'static [&'static str] {
    let mut keys: &'static [&'static str] = &[];
    // The deserializer below always refuses; only what it was asked for matters.
    let _refused: Result<T, serde::de::value::Error> = T::deserialize(KeysOnly(&mut keys));
    keys
}

struct KeysOnly<'k>(&'k mut &'static [&'static str]);

impl<'de> Deserializer<'de> for KeysOnly<'_> {
    type Error = serde::de::value::Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
        Err(Error::custom("only structs have keys"))
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Self::Error> {
        *self.0 = fields;
        Err(Error::custom("only the keys were wanted"))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}
