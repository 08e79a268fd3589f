//! Whether the pool can lose one more server (P5), as far as a users file tells.

use std::sync::Arc;

use crate::cluster::{ClusterView, Realms, Server, ServerId, ServerView, State, Version};
use crate::config::pool::tells_its_version;
use crate::directory::import::Imported;
use crate::directory::{Directory, User};
use crate::now::Uptime;
use crate::placement::{self, Policy, Shortfall};

/// The server whose loss would leave most of the file's users without a place, were all of them
/// there; `None` when every loss fits.
///
/// Servers count as healthy, and as able to host where their version is still to be told.
pub(super) fn one_more_failure(
    servers: &[Server],
    users: &[Imported],
    policy: &Policy,
) -> Option<Shortfall> {
    let view = ClusterView { servers: servers.iter().map(healthy).collect(), suspicion: None };
    let mut directory = Directory::new(servers.len());
    let id = |name: &str| {
        (0u16..).zip(servers).find(|(_, server)| &*server.name == name).map(|(id, _)| ServerId(id))
    };
    let mut homeless = Vec::new();
    for user in users {
        let record = user.clone().into_record();
        let Ok(user) = User::from_record(&record, &id) else { continue };
        let has_home = user.home.is_some();
        // Owners are unique: the file was refused otherwise.
        let Ok(user) = directory.insert(user) else { continue };
        homeless.extend((!has_home).then_some(user));
    }
    for user in homeless {
        if let Ok(home) = placement::place(user, &view, &directory, policy) {
            directory.set_home(user, home, 1);
        }
    }
    placement::one_more_failure(&view, &directory, policy)
}

fn healthy(server: &Server) -> ServerView {
    let told = tells_its_version(server).then_some(Version::FIRST_WITH_DISTRIBUTION);
    ServerView {
        name: Arc::clone(&server.name),
        state: State::Up,
        score: 100,
        capacity: server.capacity,
        version: server.version.or(told),
        site: server.site.clone(),
        ties: Arc::clone(&server.ties),
        realms: Arc::new(Realms::configured(server.realm.clone())),
        failure: None,
        incarnation: 0,
        since: Uptime::ZERO,
        planes: smallvec::SmallVec::new(),
    }
}
