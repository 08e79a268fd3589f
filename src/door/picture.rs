//! What the door shows of itself: the truth as the core holds it (V, M12).

use std::sync::Arc;
use std::time::SystemTime;

use crate::cluster::{PlaneView, ServerId};
use crate::directory::{User, UserId};
use crate::door::Door;
use crate::door::binding::{Binding, Standing, Trouble};
use crate::door::status::{BindingStatus, PlaneStatus, Progress, ServerStatus, Status, UserStatus};
use crate::now::Now;

/// Bindings by where they stand, counted as they change.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    progress: Progress,
}

impl Tally {
    pub(crate) fn change(&mut self, from: Standing, to: Standing) {
        if let Some(count) = self.count(from) {
            *count = count.saturating_sub(1);
        }
        if let Some(count) = self.count(to) {
            *count += 1;
        }
    }

    const fn count(&mut self, standing: Standing) -> Option<&mut u64> {
        match standing {
            Standing::Settled => Some(&mut self.progress.settled),
            Standing::Moving => Some(&mut self.progress.moving),
            Standing::AwaitingPhone => Some(&mut self.progress.awaiting_phone),
            Standing::Held => Some(&mut self.progress.held),
            Standing::Failed => Some(&mut self.progress.failed),
            Standing::Gone => None,
        }
    }

    const fn live(&self) -> u64 {
        let p = &self.progress;
        p.settled + p.moving + p.awaiting_phone + p.held + p.failed
    }
}

impl Door {
    /// What the door shows of itself.
    pub fn status(&self, now: Now) -> Status {
        let view = self.health.view();
        let servers = view
            .iter()
            .map(|(id, server)| {
                let lane = &self.lanes[id.index()];
                ServerStatus {
                    name: Arc::clone(&server.name),
                    state: server.state.name().into(),
                    score: server.score,
                    capacity: server.capacity,
                    assigned: self.directory.assigned(id),
                    home_to: self.directory.home_to(id),
                    bindings: lane.bindings,
                    in_flight: lane.pacer.in_flight(),
                    queued: lane.queued() as u64,
                    since_nanos: server.since.as_nanos(),
                    realms: server.realms.names(),
                    other_realm_than: self.servers_of_another_realm(id),
                    line_groups: server.ties.line_groups().cloned().collect(),
                    telephone_systems: server
                        .ties
                        .systems()
                        .map(|(name, reached)| (Arc::clone(name), reached))
                        .collect(),
                    proof: server.proof().map(|proof| proof.name().into()),
                    planes: server.planes.iter().map(plane_status).collect(),
                    incarnation: server.incarnation,
                }
            })
            .collect();
        Status {
            at_nanos: now.uptime.as_nanos(),
            servers,
            telephone_systems: self.system_statuses(),
            suspicion: view.suspicion.map(|suspicion| suspicion.of.name().into()),
            distribution_disabled: self.settings.decision.disable_automatic_user_distribution,
            users: self.directory.len() as u64,
            relocated: self.directory.relocated() as u64,
            unplaced: self.failovers.unplaced(),
            shortfall: self.shortfall_status(),
            bindings: self.tally.live(),
            progress: self.tally.progress,
            failovers: self.failovers.statuses(),
            recovery: self.recovery_status(now),
            departures: self.departures.statuses(),
            store: self.ledger.trouble.clone(),
        }
    }

    /// One user, by login name or AoR.
    pub fn user(&self, now: Now, name: &str) -> Option<UserStatus> {
        let id = self.directory.by_name(name).or_else(|| self.directory.by_aor(name))?;
        Some(self.user_status(now, id, self.directory.get(id)))
    }

    pub(super) fn user_status(&self, now: Now, id: UserId, user: &User) -> UserStatus {
        let relocation = user.relocation.as_ref();
        UserStatus {
            name: Arc::clone(&user.name),
            aors: user.aors.iter().map(|aor| aor.as_str().into()).collect(),
            lines: user.lines.clone(),
            enabled: user.enabled,
            home: user.home.map(|server| self.server_name(server)),
            current: user.current().map(|server| self.server_name(server)),
            relocated_from: relocation.map(|relocation| self.server_name(relocation.origin)),
            relocated_why: relocation.map(|relocation| relocation.why.name().into()),
            relocated_at: relocation.map(|relocation| {
                let since = relocation.date.duration_since(SystemTime::UNIX_EPOCH);
                since.unwrap_or_default().as_secs()
            }),
            epoch: user.epoch,
            bindings: self
                .bindings_of(id)
                .iter()
                .filter_map(|&binding| self.bindings.get(binding))
                .filter(|binding| binding.is_live(now.uptime))
                .map(|binding| self.binding_status(now, binding))
                .collect(),
            sessions: self.session_statuses(now, id),
        }
    }

    fn binding_status(&self, now: Now, binding: &Binding) -> BindingStatus {
        // Of a server that is dead nobody can say what it holds.
        let view = self.health.view();
        let registered = |server: &ServerId| {
            !view.server(*server).is_dead() && binding.is_registered_at(*server, now.uptime)
        };
        let mut at: Vec<ServerId> = binding.upstream.iter().map(|u| u.server).collect();
        at.dedup();
        BindingStatus {
            contact: binding.contact_text(),
            from: format!("{}:{}", binding.flow.transport.name(), binding.flow.remote).into(),
            lease_s: binding.lease_until.since(now.uptime).as_secs(),
            standing: binding.standing.name().into(),
            registered_at: at
                .iter()
                .filter(|s| registered(s))
                .map(|&s| self.server_name(s))
                .collect(),
            because: binding.trouble.map(Trouble::in_words),
        }
    }
}

fn plane_status(seen: &PlaneView) -> PlaneStatus {
    PlaneStatus {
        plane: seen.plane.name().into(),
        state: seen.state.name().into(),
        since_nanos: seen.since.as_nanos(),
        counts: seen.counts,
        proof: seen.proof.map(|proof| proof.name().into()),
    }
}
