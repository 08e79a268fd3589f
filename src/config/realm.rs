//! Whether the servers take the same passwords (M6), as far as the operator says.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml::Spanned;

use crate::cluster::Server;
use crate::config::check::check_header_text;
use crate::config::problem::{Complaints, Fault};
use crate::config::raw::{Raw, RawServer};

/// The realm of one server.
pub(super) fn realm(raw: &RawServer, wrong: &mut Complaints<'_>) -> Option<Arc<str>> {
    let realm = raw.realm.as_ref()?;
    check_header_text("realm", realm, wrong).then(|| realm.get_ref().as_str().into())
}

/// Names every server whose realm is another one than that of most: nobody moves between them.
pub(super) fn warn(raw: &Raw, servers: &[Server], warnings: &mut Complaints<'_>) {
    let mut by_realm: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for server in servers {
        if let Some(realm) = &server.realm {
            by_realm.entry(realm).or_default().push(&server.name);
        }
    }
    // Of two that are as common, the first by name.
    let most = by_realm.iter().rev().max_by_key(|(_, servers)| servers.len());
    let Some((&most, others)) = most else { return };
    for server in servers {
        let Some(realm) = server.realm.as_deref().filter(|realm| *realm != most) else { continue };
        let fault = Fault::OtherRealm {
            server: server.name.to_string(),
            realm: realm.to_owned(),
            others: others.join(", "),
            other_realm: most.to_owned(),
        };
        let written = raw.server(&server.name).and_then(|entry| entry.get_ref().realm.as_ref());
        match written.map(Spanned::span) {
            Some(span) => warnings.push(span, fault),
            None => warnings.push_whole(fault),
        }
    }
}
