//! [`Watch`]: when too much fails at once, it may be us, or something all servers share (H5).
//!
//! A pool of one server is no exception: its silence is the silence of more than half of the
//! servers. There is nowhere to move its users anyway, and held answers serve them better.

use crate::cluster::health::Settings;
use crate::cluster::health::machine::Machine;
use crate::cluster::{Suspect, Suspicion};
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
        let suspect = if self.silent_from.is_some() && !self.is_excused(machines) {
            Some(Suspect::OwnNetwork)
        } else if self.errors_are_shared(machines, settings) {
            Some(Suspect::SharedBackend)
        } else {
            None
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
        let too_many =
            |silent: usize| silent * 100 > counted * settings.panic_threshold_percent as usize;
        let mut onsets: Vec<Uptime> = machines.iter().filter_map(Machine::fell_silent).collect();
        if let Some(from) = self.silent_from {
            let silent = onsets.iter().filter(|onset| **onset >= from).count();
            return too_many(silent).then_some(from);
        }
        onsets.sort_unstable();
        let window = |from: &Uptime| {
            let inside =
                |onset: &&Uptime| *onset >= from && onset.since(*from) <= settings.panic_window;
            onsets.iter().filter(inside).count()
        };
        onsets.iter().find(|from| too_many(window(from))).copied()
    }

    /// Whether every server that can be asked gives the same 5xx. It is over when one of them has
    /// recovered; one good answer among failures is not yet that.
    fn errors_are_shared(&self, machines: &[Machine], settings: &Settings) -> bool {
        let mut asked = machines.iter().filter(|machine| machine.can_be_asked()).peekable();
        let Some(first) = asked.peek().map(|machine| machine.signs().same_error()) else {
            return false;
        };
        let mut count = 0;
        let mut all_same = first.is_some();
        let mut one_recovered = false;
        for machine in asked {
            count += 1;
            all_same &= machine.signs().same_error() == first;
            one_recovered |= machine.signs().good_run() >= settings.rise;
        }
        let lasts = self.suspect() == Some(Suspect::SharedBackend) && !one_recovered;
        count >= 2 && (all_same || lasts)
    }
}

/// Who is silent.
fn silences(machines: &[Machine]) -> impl Iterator<Item = Silence> {
    let machines = machines.iter().enumerate();
    machines.filter_map(|(place, machine)| Some((place, machine.fell_silent()?)))
}
