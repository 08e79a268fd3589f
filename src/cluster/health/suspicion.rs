//! [`Watch`]: when too much fails at once, it may be us, or something all servers share (H5).
//!
//! A pool of one server is no exception: its silence is the silence of more than half of the
//! servers. There is nowhere to move its users anyway, and held answers serve them better.

use crate::cluster::health::Settings;
use crate::cluster::health::machine::Machine;
use crate::cluster::{Plane, Planes, Suspect, Suspicion};
use crate::now::Uptime;

/// Looks at all servers together.
#[derive(Debug, Default)]
pub(super) struct Watch {
    current: Option<Suspicion>,
    /// Servers that fell silent earlier have nothing to do with the current suspicion.
    silent_from: Option<Uptime>,
    /// Who was silent, and since when, as an operator said that it is not our network. As long as
    /// nobody else falls silent, or somebody anew, that is believed.
    excused: Option<Vec<Silence>>,
    /// The same as `silent_from` for each plane, where it is dead on too many servers that answer on
    /// others.
    dead_from: [Option<Uptime>; Plane::ALL.len()],
}

/// What verdicts about one server must not rest on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doubts {
    /// What is suspected.
    pub(super) suspect: Option<Suspect>,
    /// Planes that are dead on too many servers; there may be some beside what is suspected.
    pub(super) planes: Planes,
}

/// A server, by place, and when it fell silent.
type Silence = (usize, Uptime);

impl Watch {
    /// What is suspected.
    pub(super) const fn current(&self) -> Option<Suspicion> {
        self.current
    }

    /// What is suspected, without the time.
    pub(super) fn suspect(&self) -> Option<Suspect> {
        self.current.map(|suspicion| suspicion.of)
    }

    /// What is to be borne in mind when a server is judged.
    pub(super) fn doubts(&self) -> Doubts {
        Doubts { suspect: self.suspect(), planes: self.planes().collect() }
    }

    fn planes(&self) -> impl Iterator<Item = Plane> {
        let each = Plane::ALL.into_iter().zip(self.dead_from);
        each.filter(|(_, from)| from.is_some()).map(|(plane, _)| plane)
    }

    /// An operator says that it is not our network. `false` if that is not what is suspected.
    pub(super) fn excuse(&mut self, machines: &[Machine]) -> bool {
        if self.suspect() != Some(Suspect::OwnNetwork) {
            return false;
        }
        self.excused = Some(silences(machines).collect());
        true
    }

    /// Looks again; `true` if the suspicion began, ended or turned.
    pub(super) fn look(&mut self, now: Uptime, machines: &[Machine], settings: &Settings) -> bool {
        self.silent_from = self.silent_from(machines, settings);
        if self.silent_from.is_none() {
            self.excused = None;
        }
        self.look_at_planes(machines, settings);
        let suspect = if self.silent_from.is_some() && !self.is_excused(machines) {
            Some(Suspect::OwnNetwork)
        } else if self.errors_are_shared(machines, settings) {
            Some(Suspect::SharedBackend)
        } else {
            self.planes().next().map(Suspect::Plane)
        };
        if suspect == self.suspect() {
            return false;
        }
        self.current = suspect.map(|of| Suspicion { of, since: now });
        true
    }

    fn is_excused(&self, machines: &[Machine]) -> bool {
        self.excused
            .as_ref()
            .is_some_and(|excused| silences(machines).all(|silence| excused.contains(&silence)))
    }

    fn silent_from(&self, machines: &[Machine], settings: &Settings) -> Option<Uptime> {
        // What is under maintenance says nothing of our network, fallen silent or not.
        let counted = machines.iter().filter(|machine| !machine.is_in_maintenance()).count();
        let onsets = machines.iter().filter_map(Machine::fell_silent).collect();
        too_many(onsets, self.silent_from, counted, settings)
    }

    /// A plane that is dead on too many of the servers that answer on others, or on all of them: what
    /// it shares is the reason, or our way to it, and nobody would be better off elsewhere.
    fn look_at_planes(&mut self, machines: &[Machine], settings: &Settings) {
        for (plane, from) in Plane::ALL.into_iter().zip(&mut self.dead_from) {
            let onsets: Vec<Uptime> =
                machines.iter().filter_map(|machine| machine.fell_on(plane)).collect();
            let Some(first) = onsets.iter().min().copied() else {
                *from = None;
                continue;
            };
            let counted = machines.iter().filter(|machine| machine.lives_with(plane)).count();
            let everywhere = onsets.len() == counted;
            *from =
                too_many(onsets, *from, counted, settings).or_else(|| everywhere.then_some(first));
        }
    }

    /// Whether every server that can be asked gives the same 5xx. It is over when one of them has
    /// recovered; one good answer among failures is not yet that.
    fn errors_are_shared(&self, machines: &[Machine], settings: &Settings) -> bool {
        let mut asked = machines.iter().filter(|machine| machine.can_be_asked()).peekable();
        let Some(first) = asked.peek().map(|machine| machine.planes().same_error()) else {
            return false;
        };
        let mut count = 0;
        let mut all_same = first.is_some();
        let mut one_recovered = false;
        for machine in asked {
            count += 1;
            all_same &= machine.planes().same_error() == first;
            one_recovered |= machine.planes().best_run() >= settings.rise;
        }
        let lasts = self.suspect() == Some(Suspect::SharedBackend) && !one_recovered;
        count >= 2 && (all_same || lasts)
    }
}

/// From when on more than the threshold of those that are counted fell within one window, or, once
/// that is so, still lie there. Who fell earlier has nothing to do with it.
fn too_many(
    mut onsets: Vec<Uptime>,
    lasts_from: Option<Uptime>,
    counted: usize,
    settings: &Settings,
) -> Option<Uptime> {
    let too_many =
        |fallen: usize| fallen * 100 > counted * settings.panic_threshold_percent as usize;
    if let Some(from) = lasts_from {
        let fallen = onsets.iter().filter(|onset| **onset >= from).count();
        return too_many(fallen).then_some(from);
    }
    onsets.sort_unstable();
    let window = |from: &Uptime| {
        let inside =
            |onset: &&Uptime| *onset >= from && onset.since(*from) <= settings.panic_window;
        onsets.iter().filter(inside).count()
    };
    onsets.iter().find(|from| too_many(window(from))).copied()
}

/// Who is silent.
fn silences(machines: &[Machine]) -> impl Iterator<Item = Silence> {
    let machines = machines.iter().enumerate();
    machines.filter_map(|(place, machine)| Some((place, machine.fell_silent()?)))
}
