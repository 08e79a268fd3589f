//! The telephone systems behind the servers: each takes so many registrations at once and a second,
//! whichever servers they come from (M7).
//!
//! A UCServer registers its users' lines at their telephone systems. Every REGISTER by which a server
//! comes to know an AoR (a move, a first registration, what is told again after a restart) makes one
//! there, so those keep to the pace of the systems of the user's home. A refresh, another phone of an
//! AoR that the server knows, and a removal make none and are free.
//!
//! Who is to be registered there waits in the lane, apart from the others, until all their systems take
//! one more. Then the most pressing goes first, and of those the one who came first, whatever the lane.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::cluster::{ClusterView, ServerId, ServerView};
use crate::directory::UserId;
use crate::door::binding::Binding;
use crate::door::lane::{Order, SECONDS_MAX, STALL, Turn, URGENT_MIN};
use crate::door::pacer::Pacer;
use crate::door::register::Sent;
use crate::door::slots::SlotId;
use crate::door::status::SystemStatus;
use crate::door::{Auth, Door, Event, SYSTEMS_MAX, TelephoneSystem, Timer};
use crate::now::{Now, Uptime};
use crate::sip::HeaderName;

/// Whether a server answers is looked at so often while somebody waits.
const LOOK: Duration = Duration::from_secs(1);
/// So many may overtake, for one of two telephone systems, who came before them and waits for both.
const OVERTAKEN_MAX: u64 = 256;
/// Names said at once of telephone systems that a server has lost.
const NAMES_MAX: usize = 8;

/// A telephone system that has a pace, by its place in the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SystemId(pub(crate) u8);

/// Some of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SystemSet(u64);

impl SystemSet {
    pub(crate) const NONE: Self = Self(0);

    #[cfg(test)]
    pub(crate) const fn of(system: SystemId) -> Self {
        Self(1 << system.0)
    }

    pub(crate) const fn contains(self, system: SystemId) -> bool {
        self.0 & (1 << system.0) != 0
    }

    /// Whether all of the others are among these.
    pub(crate) const fn has_all(self, others: Self) -> bool {
        others.0 & !self.0 == 0
    }

    const fn has_any(self, others: Self) -> bool {
        others.0 & self.0 != 0
    }

    pub(crate) const fn with(self, system: SystemId) -> Self {
        Self(self.0 | 1 << system.0)
    }

    pub(crate) const fn is_empty(self) -> bool {
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
    /// How many have ever waited.
    waited: u64,
    /// By [`ServerId`]: the telephone systems that it was last said to have lost.
    said_lost: Vec<Vec<Arc<str>>>,
    /// Whoever waits is being let go: what is found out of date meanwhile leads here again, and would
    /// once for each, one in the other.
    pumping: bool,
}

#[derive(Debug)]
struct System {
    name: Arc<str>,
    pacer: Pacer,
    /// By [`ServerId`]: what is out to it.
    out: Vec<Out>,
    woken: bool,
}

/// What is out to one server, and since when nothing has been heard of any of it.
#[derive(Clone, Copy, Debug, Default)]
struct Out {
    count: u32,
    since: Uptime,
}

impl Out {
    /// A server that does not answer holds up nobody at the others.
    fn is_stalled(self, now: Uptime) -> bool {
        self.count > 0 && now.since(self.since) >= STALL
    }
}

impl System {
    /// Whether it takes one more by way of this server.
    fn is_open(&self, now: Uptime, server: ServerId) -> bool {
        let waited_for = self.out.iter().filter(|out| !out.is_stalled(now));
        let in_flight: u32 = waited_for.map(|out| out.count).sum();
        let stalled = self.out.get(server.index()).is_some_and(|out| out.is_stalled(now));
        !stalled && in_flight < self.pacer.window() && self.pacer.wait_until(now).is_none()
    }

    /// One came back from this server, somehow.
    fn settle(&mut self, now: Uptime, server: ServerId) {
        if let Some(out) = self.out.get_mut(server.index()) {
            *out = Out { count: out.count.saturating_sub(1), since: now };
        }
    }
}

/// What has become of a REGISTER, as far as telephone systems are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    /// The server took it.
    Granted,
    /// The server refused it before any telephone system heard of it, or it was never sent.
    Spared,
    /// The server said "too much", or that something failed.
    TooMuch,
    /// Nothing came back.
    Nothing,
}

impl Heard {
    pub(crate) const fn by_status(status: u16) -> Self {
        match status {
            200..=299 => Self::Granted,
            500.. => Self::TooMuch,
            _ => Self::Spared,
        }
    }
}

impl Systems {
    /// No more than [`SYSTEMS_MAX`] of them.
    pub(crate) fn new(systems: &[TelephoneSystem], view: &ClusterView) -> Self {
        let all = systems.iter().take(SYSTEMS_MAX).map(|system| System {
            name: Arc::clone(&system.name),
            pacer: Pacer::new(system.pace),
            out: vec![Out::default(); view.servers.len()],
            woken: false,
        });
        let said_lost = vec![Vec::new(); view.servers.len()];
        let mut systems = Self { all: all.collect(), said_lost, ..Self::default() };
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

    /// Those of these.
    fn among(&self, set: SystemSet) -> impl Iterator<Item = (SystemId, &System)> {
        self.each().filter(move |(id, _)| set.contains(*id))
    }

    /// Those that take one more now by way of this server.
    fn open(&self, now: Uptime, server: ServerId) -> SystemSet {
        let open = self.each().filter(|(_, system)| system.is_open(now, server));
        open.fold(SystemSet::NONE, |set, (id, _)| set.with(id))
    }

    fn of_home(&self, home: ServerId) -> SystemSet {
        self.of_home.get(home.index()).copied().unwrap_or_default()
    }

    /// A REGISTER goes out that these hear of.
    pub(crate) fn start(&mut self, now: Uptime, server: ServerId, of: SystemSet) {
        for system in of.iter() {
            let Some(system) = self.all.get_mut(usize::from(system.0)) else { continue };
            system.pacer.start(now);
            if let Some(out) = system.out.get_mut(server.index()) {
                out.since = if out.count == 0 { now } else { out.since };
                out.count += 1;
            }
        }
    }

    /// What has become of one.
    pub(crate) fn hear(&mut self, now: Uptime, sent: Sent, heard: Heard) {
        for system in sent.systems.iter() {
            let Some(system) = self.all.get_mut(usize::from(system.0)) else { continue };
            system.settle(now, sent.server);
            match heard {
                Heard::Granted => system.pacer.answered(),
                Heard::Spared => system.pacer.unsent(),
                Heard::TooMuch => system.pacer.lost(),
                Heard::Nothing => system.pacer.unheard(),
            }
        }
    }
}

impl Door {
    /// The telephone systems that hear of it when this server is told this binding of this user.
    fn systems_of(&self, server: ServerId, user: UserId) -> SystemSet {
        // A binding that is only being made may be nobody's yet.
        let known = (user.index() < self.directory.len()).then(|| self.directory.get(user));
        let home = known.and_then(|user| user.home.or_else(|| user.current())).unwrap_or(server);
        // A home that is dead since before this door began has told nothing.
        let told = self.health.view().server(home).ties.systems().next().is_some();
        self.systems.of_home(if told { home } else { server })
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
        self.systems_of(server, binding.user)
    }

    /// The same for what a phone asks: without credentials that a server wants to see, it is challenged,
    /// and no telephone system hears of it.
    pub(super) fn systems_told_by_phone(
        &self,
        now: Uptime,
        server: ServerId,
        waiting: SlotId,
        index: usize,
    ) -> SystemSet {
        if self.systems.all.is_empty() {
            return SystemSet::NONE;
        }
        let Some(waiting) = self.waiting.get(waiting) else { return SystemSet::NONE };
        let Some(update) = waiting.updates.get(index) else { return SystemSet::NONE };
        let is_proved = self.settings.sip.auth == Auth::None
            || waiting.request.header(HeaderName::Authorization).is_some();
        match update.binding.filter(|_| update.said.is_some() && is_proved) {
            Some(binding) => self.systems_told(now, server, binding),
            None => SystemSet::NONE,
        }
    }

    /// Whose turn it was waits for these.
    pub(super) fn hold(&mut self, server: ServerId, turn: Turn, systems: SystemSet) {
        self.systems.waited += 1;
        self.lanes[server.index()].hold(turn, systems, self.systems.waited);
    }

    /// Lets go whoever waits for telephone systems, as far as those and the lanes take more.
    pub(super) fn pump_held(&mut self, now: Now) {
        if std::mem::replace(&mut self.systems.pumping, true) {
            return;
        }
        while let Some((server, systems)) = self.next_held(now.uptime) {
            match self.lanes[server.index()].take_held(systems) {
                Some(Turn::Update(waiting, index)) => {
                    self.send_update(now, server, waiting, index, systems);
                }
                Some(Turn::Step(id, urgency)) => self.take_step(now, server, id, urgency, systems),
                Some(Turn::Sample(_)) | None => {}
            }
        }
        self.systems.pumping = false;
        self.wake_systems(now);
    }

    /// The lane of who goes next, and the systems they have waited for: the most pressing, and of those
    /// the one who came first. Who cannot go yet keeps what they wait for from the less pressing, and
    /// from those who came much later.
    fn next_held(&self, now: Uptime) -> Option<(ServerId, SystemSet)> {
        let lanes = (0..).map(ServerId).zip(&self.lanes);
        let ready = lanes.filter(|(_, lane)| {
            lane.holds() && lane.pacer.has_room() && lane.pacer.wait_until(now).is_none()
        });
        let heads = ready.flat_map(|(server, lane)| {
            let silent = lane.is_silent(now);
            lane.heads().map(move |(order, systems)| (order, server, systems, silent))
        });
        let mut heads: SmallVec<[_; 8]> = heads.collect();
        heads.sort_unstable_by_key(|(order, ..)| *order);
        let mut before: SmallVec<[(Order, SystemSet); 8]> = SmallVec::new();
        for (order, server, systems, silent) in heads {
            let kept = before.iter().any(|(first, theirs)| {
                let overtakes = first.0 < order.0 || order.1 - first.1 > OVERTAKEN_MAX;
                overtakes && theirs.has_any(systems)
            });
            if kept {
                continue;
            }
            if self.systems.open(now, server).has_all(systems) {
                return Some((server, systems));
            }
            if !silent {
                before.push((order, systems));
            }
        }
        None
    }

    /// Whether somebody who waited for telephone systems may go to this server now, and is not less
    /// pressing than whoever would go without.
    pub(super) fn holds_more_pressing(&self, now: Uptime, server: ServerId) -> bool {
        let lane = &self.lanes[server.index()];
        if !lane.holds() || self.systems.pumping || !lane.pacer.has_room() {
            return false;
        }
        let (open, rank) = (self.systems.open(now, server), lane.next_rank());
        lane.heads().any(|(order, systems)| order.0 <= rank && open.has_all(systems))
    }

    /// Whoever is left is woken: when a ceiling allows the next one; or by an answer, but if there is
    /// none, all the same.
    pub(super) fn wake_systems(&mut self, now: Now) {
        let held = |id| self.lanes.iter().any(|lane| lane.held(id) > 0);
        let asleep = self.systems.each().filter(|(id, system)| !system.woken && held(*id));
        let wakes: Vec<(SystemId, Uptime)> = asleep
            .map(|(id, system)| (id, system.pacer.wait_until(now.uptime)))
            .map(|(id, opens)| (id, opens.unwrap_or(now.uptime + LOOK)))
            .collect();
        for (id, at) in wakes {
            if let Some(system) = self.systems.all.get_mut(usize::from(id.0)) {
                system.woken = true;
                self.timers.set(at, Timer::System(id));
            }
        }
    }

    /// A telephone system may take the next one.
    pub(super) fn on_system_timer(&mut self, now: Now, id: SystemId) {
        if let Some(system) = self.systems.all.get_mut(usize::from(id.0)) {
            system.woken = false;
        }
        self.pump_held(now);
    }

    /// What became of a REGISTER that telephone systems may have heard of. A server that is dead says
    /// nothing about them; one that fails with answers passes on what it hears, as far as can be seen
    /// from here.
    pub(super) fn note_at_systems(&mut self, now: Now, sent: Sent, heard: Heard) {
        if sent.systems.is_empty() {
            return;
        }
        let dead = self.health.view().server(sent.server).is_dead();
        let heard = if dead && heard == Heard::TooMuch { Heard::Nothing } else { heard };
        self.systems.hear(now.uptime, sent, heard);
        self.pump_held(now);
    }

    /// Whether somebody waits for a telephone system of users whose home this server is: who can wait
    /// is not sent on their way then. Who waits at a server that does not answer, or at the one that is
    /// to be left, does not count.
    pub(super) fn systems_are_busy(
        &self,
        now: Uptime,
        home: ServerId,
        left: Option<ServerId>,
    ) -> bool {
        let of_home = self.systems.of_home(home);
        let lanes = (0..).map(ServerId).zip(&self.lanes);
        let mut asked = lanes
            .filter(|(server, lane)| Some(*server) != left && lane.holds() && !lane.is_silent(now));
        asked.any(|(_, lane)| of_home.iter().any(|id| lane.held(id) > 0))
    }

    /// The time between two users at home on this server that their telephone systems need.
    pub(super) fn systems_gap(&self, home: ServerId) -> Duration {
        let gaps = self.systems.among(self.systems.of_home(home));
        gaps.map(|(_, system)| system.pacer.gap()).max().unwrap_or_default()
    }

    /// Whether so many phones wait for a telephone system of users whose home this server is that one
    /// more would wait too long.
    pub(super) fn systems_are_crowded(&self, server: ServerId) -> bool {
        self.systems.among(self.systems.of_home(server)).any(|(id, system)| {
            let rate = system.pacer.rate_max().map(|rate| rate as usize * SECONDS_MAX);
            let waiting: usize = self.lanes.iter().map(|lane| lane.phones_held(id)).sum();
            waiting >= rate.unwrap_or(URGENT_MIN)
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
            let unknown: Vec<Arc<str>> = now.ties.unknown().take(NAMES_MAX).cloned().collect();
            let known = then.is_some_and(|then| then.ties.unknown().eq(now.ties.unknown()));
            if !unknown.is_empty() && !known {
                self.emit(Event::SystemsUnknown { server: self.server_name(id), systems: unknown });
            }
            let lost_now = lost(now);
            // That nothing more is heard of a loss does not mean that it is over.
            let said = self.systems.said_lost.get_mut(id.index()).filter(|_| now.ties.is_fresh());
            if let Some(said) = said.filter(|said| **said != lost_now) {
                said.clone_from(&lost_now);
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
        // What is dead reaches nothing, and says nothing of it either.
        let by = |name: &Arc<str>, reached: bool| {
            let alive = view.servers.iter().filter(|server| !server.is_dead());
            let servers = alive.filter(|it| it.ties.reaches(name) == Some(reached));
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
