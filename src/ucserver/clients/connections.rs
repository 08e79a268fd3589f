//! Connections, and the sessions on them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::now::Uptime;
use crate::ucsap::Encoding;
use crate::ucsap::negotiate::Negotiation;
use crate::ucserver::clients::refusal::Refused;

/// One session of one connection; the one without a name is the connection's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::ucserver) struct At {
    pub(in crate::ucserver) connection: u64,
    pub(in crate::ucserver) session: Option<Arc<str>>,
}

/// A client's connection.
#[derive(Debug)]
pub(in crate::ucserver) struct Connection {
    /// When it last said anything.
    pub(in crate::ucserver) heard: Uptime,
    /// Invokes that are not answered yet.
    pub(in crate::ucserver) outstanding: BTreeSet<i64>,
    pub(in crate::ucserver) sessions: BTreeMap<Option<Arc<str>>, Session>,
}

/// What has negotiated.
#[derive(Debug)]
pub(in crate::ucserver) struct Session {
    /// Of the last message.
    pub(in crate::ucserver) encoding: Encoding,
    /// What it said of itself.
    pub(in crate::ucserver) client: Negotiation,
    /// What the server named it.
    pub(in crate::ucserver) guid: String,
    /// Who is logged in.
    pub(in crate::ucserver) user: Option<Arc<str>>,
    /// NTLM has taken its first step.
    pub(in crate::ucserver) is_challenged: bool,
    /// By cross reference.
    pub(in crate::ucserver) monitors: BTreeMap<Arc<str>, u64>,
    /// Cross reference of who wants to hear of lines that come and go.
    pub(in crate::ucserver) lines_watched: Option<Arc<str>>,
    /// Operation, and to what.
    pub(in crate::ucserver) subscriptions: BTreeSet<(i64, String)>,
}

impl Connection {
    pub(in crate::ucserver) const fn new(now: Uptime) -> Self {
        Self { heard: now, outstanding: BTreeSet::new(), sessions: BTreeMap::new() }
    }

    /// Takes note of an invoke that is to be answered.
    pub(in crate::ucserver) fn begin(&mut self, id: i64, most: usize) -> Result<(), Refused> {
        if self.outstanding.contains(&id) {
            return Err(Refused::TWICE);
        }
        if self.outstanding.len() >= most {
            return Err(Refused::FULL);
        }
        self.outstanding.insert(id);
        Ok(())
    }
}

impl Session {
    pub(in crate::ucserver) const fn new(
        encoding: Encoding,
        client: Negotiation,
        guid: String,
    ) -> Self {
        Self {
            encoding,
            client,
            guid,
            user: None,
            is_challenged: false,
            monitors: BTreeMap::new(),
            lines_watched: None,
            subscriptions: BTreeSet::new(),
        }
    }
}

/// A name that nobody has used: 128 bits, written as a GUID is.
pub(in crate::ucserver) fn guid(rng: &mut fastrand::Rng) -> String {
    let (high, low) = (rng.u64(..), rng.u64(..));
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        high >> 32,
        high >> 16 & 0xFFFF,
        high & 0xFFFF,
        low >> 48,
        low & 0xFFFF_FFFF_FFFF
    )
}
