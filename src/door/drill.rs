//! A failover on purpose, to see how it goes (O5): a server that is well is taken for failed until
//! its users are elsewhere. Then it comes back by the way of every server that does, and its users
//! come home by the rules.

use std::time::Duration;

use crate::cluster::{Proof, ServerId, State};
use crate::door::Door;
use crate::door::command::Refused;
use crate::now::{Now, Uptime};

/// A drill lasts no longer, whoever has not left by then: a phone that must show its password first
/// may take as long as its lease.
const DRILL_MAX: Duration = Duration::from_secs(120);

/// The drill under way: one at a time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Drill {
    server: ServerId,
    until: Uptime,
}

impl Door {
    /// Begins a drill.
    ///
    /// # Errors
    ///
    /// Whatever could make it more than a drill.
    pub(super) fn order_drill(&mut self, now: Now, name: &str) -> Result<(), Refused> {
        let server = self.server_ordered(name)?;
        if let Some(why) = self.why_no_drill(now, server) {
            return Err(Refused::NotNow(why));
        }
        let until = now.uptime + DRILL_MAX;
        self.health.drill(now.uptime, server, true);
        self.drill = Some(Drill { server, until });
        self.wake_planner_at(until);
        Ok(())
    }

    fn why_no_drill(&self, now: Now, server: ServerId) -> Option<String> {
        let view = self.health.view();
        let not_up = view.iter().find(|(_, seen)| seen.state != State::Up);
        if let Some((_, seen)) = not_up {
            let (name, state) = (&seen.name, seen.state.name());
            return Some(format!("{name} is {state}: a drill needs every server up"));
        }
        if view.suspicion.is_some() {
            return Some("the door suspects its network, or what all servers share".to_owned());
        }
        if self.settings.decision.disable_automatic_user_distribution {
            return Some(
                "nobody would be moved, because automatic distribution is disabled \
                 (failover.disable_automatic_user_distribution)"
                    .to_owned(),
            );
        }
        if self.directory.assigned(server) == 0 {
            return Some("it serves nobody".to_owned());
        }
        let name = self.server_name(server).to_string();
        let unplaced = self.what_if(now, &[name], (0, 0)).map_or(0, |what_if| what_if.unplaced);
        (unplaced > 0).then(|| {
            format!("{unplaced} users would have nowhere to go: see frontdoor what-if --kill")
        })
    }

    /// Ends the drill when its users are elsewhere, it lasts too long, or it is no drill any more
    /// because something has failed in earnest.
    pub(super) fn watch_drill(&mut self, now: Now) {
        let Some(Drill { server, until }) = self.drill else { return };
        let view = self.view();
        let in_earnest = view.iter().any(|(id, seen)| {
            let proof = seen.failure.map(|failure| failure.proof);
            if id == server { proof != Some(Proof::Drill) } else { seen.is_dead() }
        });
        let left = self.failovers.is_done_with(server) && self.users_to_leave(&[server]).is_empty();
        if in_earnest || left || now.uptime >= until {
            self.drill = None;
            self.health.drill(now.uptime, server, false);
        }
    }
}
