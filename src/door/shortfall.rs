//! Whether the pool can lose one more server (P5): looked at now and then, shown, and said when it
//! begins and when it ends.

use std::time::Duration;

use crate::door::status::ShortfallStatus;
use crate::door::{Door, Event, Timer};
use crate::now::Now;
use crate::placement::{self, Shortfall};

/// Between two looks. One takes time in proportion to servers² × pairs of home and current server.
const INTERVAL: Duration = Duration::from_secs(10);

impl Door {
    /// The first look, when the pool has been heard of.
    pub(super) fn start_looking_ahead(&mut self, now: Now) {
        self.timers.set(now.uptime + INTERVAL, Timer::Shortfall);
    }

    /// What would happen if one more server failed.
    pub(super) fn look_ahead(&mut self, now: Now) {
        self.timers.set(now.uptime + INTERVAL, Timer::Shortfall);
        let policy = &self.settings.decision;
        let view = self.health.view();
        // Where nobody would be moved, or there is nowhere to go, that is known (`frontdoor check`).
        let asked = !policy.disable_automatic_user_distribution && view.servers.len() > 1;
        let worst = asked
            .then(|| placement::one_more_failure(view, &self.directory, &policy.placement))
            .flatten();
        let before = std::mem::replace(&mut self.shortfall, worst);
        // Which server is the worst may change with every user.
        if before.is_some() != worst.is_some() {
            self.emit(Event::Shortfall(self.shortfall_status()));
        }
    }

    pub(super) fn shortfall_status(&self) -> Option<ShortfallStatus> {
        let Shortfall { lost, users, unplaced } = self.shortfall?;
        Some(ShortfallStatus { server: self.server_name(lost), users, unplaced })
    }
}
