//! The telephone systems behind the servers: each takes so many registrations at once and a second,
//! whichever servers they come from (M7).
//!
//! A UCServer registers its users' lines at their telephone systems. Every REGISTER by which a server
//! comes to know an AoR (a move, a first registration, what is told again after a restart) makes one
//! there, so those keep to the pace of the systems of the user's home. A refresh, another phone of an
//! AoR that the server knows, and a removal make none and are free.
//!
//! Who finds a system taking no more waits in the lane, where they hold up nobody else.

use std::sync::Arc;

use crate::cluster::{ClusterView, ServerId, ServerView};
use crate::directory::UserId;
use crate::door::binding::Binding;
use crate::door::pacer::Pacer;
use crate::door::register::Sent;
use crate::door::slots::SlotId;
use crate::door::status::SystemStatus;
use crate::door::{Door, Event, SYSTEMS_MAX, TelephoneSystem, Timer};
use crate::now::{Now, Uptime};

/// Phones whose REGISTERs wait for a telephone system with a pace, in seconds of that pace: beyond,
/// they would lose their patience.
const SECONDS_MAX: usize = 10;
/// And where it has none.
const PHONES_MAX: usize = 2_048;
/// Names said at once of telephone systems that a server has lost.
const NAMES_MAX: usize = 8;

/// A telephone system that has a pace, by its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SystemId(pub(crate) u8);

/// Some of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SystemSet(u64);

impl SystemSet {
    pub(crate) const NONE: Self = Self(0);

    pub(crate) const fn of(system: SystemId) -> Self {
        Self(1 << system.0)
    }

    pub(crate) const fn contains(self, system: SystemId) -> bool {
        self.0 & (1 << system.0) != 0
    }

    const fn with(self, system: SystemId) -> Self {
        Self(self.0 | 1 << system.0)
    }

    const fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn iter(self) -> impl Iterator<Item = SystemId> {
        (0..SYSTEMS_MAX as u8).map(SystemId).filter(move |system| self.contains(*system))
    }
}

/// Those that have a pace.
#[derive(Debug, Default)]
pub(crate) struct Systems {
    /// By [`SystemId`].
    all: Vec<System>,
    /// By [`ServerId`]: the systems of the users who are at home there.
    of_home: Vec<SystemSet>,
    /// The lane that is asked first when a system takes more, so that each has its share.
    first: usize,
}

#[derive(Debug)]
struct System {
    name: Arc<str>,
    pacer: Pacer,
    woken: bool,
}

impl Systems {
    /// No more than [`SYSTEMS_MAX`] of them.
    pub(crate) fn new(systems: &[TelephoneSystem], view: &ClusterView) -> Self {
        let all = systems.iter().take(SYSTEMS_MAX).map(|system| System {
            name: Arc::clone(&system.name),
            pacer: Pacer::new(system.pace),
            woken: false,
        });
        let mut systems = Self { all: all.collect(), ..Self::default() };
        systems.learn(view);
        systems
    }

    /// Servers may know other telephone systems than before.
    pub(crate) fn learn(&mut self, view: &ClusterView) {
        let known = |server: &ServerView| {
            let knows =
                |(_, system): &(SystemId, &System)| server.ties.reaches(&system.name).is_some();
            self.each().filter(knows).fold(SystemSet::NONE, |set, (id, _)| set.with(id))
        };
        self.of_home = view.servers.iter().map(known).collect();
    }

    fn each(&self) -> impl Iterator<Item = (SystemId, &System)> {
        (0..).map(SystemId).zip(&self.all)
    }

    /// Those that take one more now.
    pub(crate) fn open(&self, now: Uptime) -> SystemSet {
        let open = |(_, system): &(SystemId, &System)| {
            system.pacer.has_room() && system.pacer.wait_until(now).is_none()
        };
        self.each().filter(open).fold(SystemSet::NONE, |set, (id, _)| set.with(id))
    }

    /// The first of these that takes no more now.
    fn closed(&self, now: Uptime, asked: SystemSet) -> Option<SystemId> {
        if asked.is_empty() {
            return None;
        }
        let open = self.open(now);
        asked.iter().find(|system| !open.contains(*system))
    }

    fn on_each(&mut self, of: SystemSet, tell: impl Fn(&mut Pacer)) {
        for system in of.iter() {
            if let Some(system) = self.all.get_mut(usize::from(system.0)) {
                tell(&mut system.pacer);
            }
        }
    }

    pub(crate) fn start(&mut self, now: Uptime, of: SystemSet) {
        self.on_each(of, |pacer| pacer.start(now));
    }

    pub(crate) fn answered(&mut self, of: SystemSet) {
        self.on_each(of, Pacer::answered);
    }

    pub(crate) fn unsent(&mut self, of: SystemSet) {
        self.on_each(of, Pacer::unsent);
    }

    fn lost(&mut self, of: SystemSet) {
        self.on_each(of, Pacer::lost);
    }
}

impl Door {
    /// The telephone systems that hear of it when this server is told this binding of this user.
    fn systems_of(&self, server: ServerId, user: Option<UserId>) -> SystemSet {
        let user = user.filter(|user| user.index() < self.directory.len());
        let home = user.map(|user| self.directory.get(user)).and_then(|user| user.home);
        let home = home.or_else(|| self.current(user?)).unwrap_or(server);
        self.systems.of_home.get(home.index()).copied().unwrap_or_default()
    }

    /// The telephone systems that hear of it when this server is told this binding: none if it knows
    /// the AoR already.
    pub(super) fn systems_told(&self, now: Uptime, server: ServerId, id: SlotId) -> SystemSet {
        if self.systems.all.is_empty() {
            return SystemSet::NONE;
        }
        let Some(binding) = self.bindings.get(id) else { return SystemSet::NONE };
        let same = |other: &&Binding| other.aor == binding.aor;
        let others = self.bindings_of(binding.user).iter().filter_map(|&id| self.bindings.get(id));
        if others.filter(same).chain([binding]).any(|it| knows(it, server, now)) {
            return SystemSet::NONE;
        }
        self.systems_of(server, Some(binding.user))
    }

    /// A telephone system of these that takes no more now. Somebody is about to wait for it, and is
    /// woken when it does.
    pub(super) fn system_to_wait_for(&mut self, now: Now, of: SystemSet) -> Option<SystemId> {
        let closed = self.systems.closed(now.uptime, of)?;
        self.wake_system(now, closed);
        Some(closed)
    }

    /// Sets its timer, if it is its ceiling that is waited for. If it is its window, an answer wakes
    /// whoever waits.
    fn wake_system(&mut self, now: Now, id: SystemId) {
        let Some(system) = self.systems.all.get_mut(usize::from(id.0)) else { return };
        if let Some(at) = system.pacer.wait_until(now.uptime).filter(|_| !system.woken) {
            system.woken = true;
            self.timers.set(at, Timer::System(id));
        }
    }

    /// A telephone system's ceiling allows the next one.
    pub(super) fn on_system_timer(&mut self, now: Now, id: SystemId) {
        if let Some(system) = self.systems.all.get_mut(usize::from(id.0)) {
            system.woken = false;
        }
        self.pump_held(now, SystemSet::of(id));
    }

    /// Lets go whoever waits for these, as far as they take more.
    fn pump_held(&mut self, now: Now, systems: SystemSet) {
        let lanes = self.lanes.len();
        for system in systems.iter() {
            self.systems.first = (self.systems.first + 1) % lanes.max(1);
            let first = self.systems.first;
            for place in (first..lanes).chain(0..first) {
                if self.lanes[place].held(system) == 0 {
                    continue;
                }
                if self.system_to_wait_for(now, SystemSet::of(system)).is_some() {
                    break;
                }
                self.pump_lane(now, ServerId(place as u16));
            }
        }
    }

    /// What became of a REGISTER that telephone systems heard of. A server that is dead says nothing
    /// about them; one that fails with answers passes on what it hears, as far as can be seen from here.
    pub(super) fn note_at_systems(&mut self, now: Now, sent: Sent, too_much: bool) {
        if sent.systems.is_empty() {
            return;
        }
        if !too_much {
            self.systems.answered(sent.systems);
        } else if self.health.view().server(sent.server).is_dead() {
            self.systems.unsent(sent.systems);
        } else {
            self.systems.lost(sent.systems);
        }
        self.pump_held(now, sent.systems);
    }

    /// Whether so many phones wait for a telephone system of users whose home this server is that one
    /// more would wait too long.
    pub(super) fn systems_are_crowded(&self, server: ServerId) -> bool {
        let of_home = self.systems.of_home.get(server.index()).copied().unwrap_or_default();
        of_home.iter().any(|id| {
            let Some(system) = self.systems.all.get(usize::from(id.0)) else { return false };
            let rate = system.pacer.rate_max().map(|rate| rate as usize * SECONDS_MAX);
            let waiting: usize = self.lanes.iter().map(|lane| lane.phones_held(id)).sum();
            waiting >= rate.unwrap_or(PHONES_MAX)
        })
    }

    /// Seconds that so many bindings of users at home on each server need at the systems' ceilings;
    /// `None` without any.
    pub(super) fn seconds_at_systems(&self, by_home: &[u64]) -> Option<u64> {
        let each = self.systems.each().filter_map(|(id, system)| {
            let rate = u64::from(system.pacer.rate_max()?);
            let homes = by_home.iter().zip(&self.systems.of_home);
            let bindings: u64 =
                homes.filter(|(_, of)| of.contains(id)).map(|(bindings, _)| *bindings).sum();
            Some(bindings.div_ceil(rate.max(1)))
        });
        each.max()
    }

    /// Servers may have lost telephone systems, or found them again: whoever reads the log is told.
    pub(super) fn compare_ties(&mut self, before: &ClusterView) {
        let view = self.view();
        let mut changed = false;
        for (id, now) in view.iter() {
            let then = before.servers.get(id.index());
            if then.is_some_and(|then| Arc::ptr_eq(&now.ties, &then.ties)) {
                continue;
            }
            changed = true;
            let lost_now = lost(now);
            if lost_now != then.map(lost).unwrap_or_default() {
                let elsewhere = lost_now.iter().any(|system| view.is_reached(system));
                let all = lost_now.len();
                self.emit(Event::SystemsLost {
                    server: self.server_name(id),
                    systems: lost_now.into_iter().take(NAMES_MAX).collect(),
                    all,
                    elsewhere,
                });
            }
        }
        if changed {
            self.systems.learn(&view);
        }
    }

    pub(super) fn system_statuses(&self) -> Vec<SystemStatus> {
        let view = self.health.view();
        let by = |name: &Arc<str>, reached: bool| {
            let servers = view.servers.iter().filter(|it| it.reaches(name) == Some(reached));
            servers.map(|server| Arc::clone(&server.name)).collect()
        };
        let each = self.systems.each().map(|(id, system)| SystemStatus {
            name: Arc::clone(&system.name),
            window: system.pacer.window(),
            in_flight: system.pacer.in_flight(),
            queued: self.lanes.iter().map(|lane| lane.held(id) as u64).sum(),
            reached_by: by(&system.name, true),
            lost_by: by(&system.name, false),
        });
        each.collect()
    }
}

/// The telephone systems that a server does not reach.
fn lost(server: &ServerView) -> Vec<Arc<str>> {
    let lost = server.ties.systems().filter(|(_, reached)| !reached);
    lost.map(|(name, _)| Arc::clone(name)).collect()
}

/// Whether a server holds a binding, by its own word.
fn knows(binding: &Binding, server: ServerId, now: Uptime) -> bool {
    let mut there = binding.upstream.iter().filter(|upstream| upstream.server == server);
    there.any(|upstream| upstream.version.is_some() && upstream.expires_at > now)
}
