//! Who is let in when there is too much: limits per source, per AoR and in all, and who is turned
//! away first when the door falls behind.
//!
//! Asked only for what the door cannot answer by itself: an absorbed refresh never comes here.
//! A phone is *known* if its AoR has a live binding from the same source; all others are strangers.
//!
//! ```text
//!            stranger                                  known phone
//! Calm       source's rate and burst, rate in all      AoR's rate
//! Busy       only sources that owe nothing             AoR's rate
//! Pressed    none                                      AoR's rate
//! Swamped    none                                      none: only what can be absorbed is answered
//! ```
//!
//! Whoever is turned away gets a 503 that no transaction keeps, with a Retry-After of its own.

use std::net::SocketAddr;
use std::time::Duration;

use crate::directory::Aor;
use crate::door::edge::hash_of;
use crate::door::wish::aor_of;
use crate::door::{Door, Limits, Stats};
use crate::now::{Now, Uptime};
use crate::sip::{Flow, Message, NameAddr, Via, source_of};

/// Sources and AoRs whose use is remembered, of each: 1 MiB.
const REMEMBERED: usize = 65_536;

/// How long what arrives has waited in the kernel when the door is busy, pressed, swamped. The last
/// is well below T1 (RFC 3261): an answer still comes before the phone repeats itself.
const RISES_AT: [Duration; 3] =
    [Duration::from_millis(20), Duration::from_millis(50), Duration::from_millis(200)];

/// And for how long it must go on: what piled up while the machine was elsewhere is gone by then.
const STANDS_FOR: Duration = Duration::from_millis(100);

/// Writes without answer beyond which strangers are turned away: what a disk does in a fraction of T1.
const WRITES_MAX: usize = 4_096;

/// What strangers may fill of a table, and then what servers' requests may; the rest is kept for
/// phones that are known.
const STRANGERS_SHARE: (usize, usize) = (3, 4);
const SERVERS_SHARE: (usize, usize) = (7, 8);

/// How far the door is behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    #[default]
    Calm,
    Busy,
    Pressed,
    Swamped,
}

/// Why a REGISTER is not taken on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TurnedAway {
    Source,
    Strangers,
    Aor,
    Load,
    LoadOfKnown,
    Room,
}

/// What the limits remember.
#[derive(Debug)]
pub(crate) struct Admission {
    sources: Meters,
    aors: Meters,
    in_all: Rate,
    owed_in_all: Uptime,
    level: Level,
    /// Since when the wait speaks for a higher level.
    worse_since: Option<Uptime>,
}

impl Admission {
    pub(crate) fn new(limits: &Limits) -> Self {
        let of_source = Rate::new(limits.strangers_per_source, limits.strangers_burst_per_source);
        let of_aor = Rate::new(limits.changes_per_aor, limits.changes_burst_per_aor);
        Self {
            sources: Meters::new(of_source, REMEMBERED),
            aors: Meters::new(of_aor, REMEMBERED),
            // A second's worth at once: kernels hand over what came meanwhile in one go.
            in_all: Rate::new(limits.strangers, limits.strangers),
            owed_in_all: Uptime::ZERO,
            level: Level::Calm,
            worse_since: None,
        }
    }

    /// One level down needs half of what one level up did, so that it does not flutter.
    fn feel(&mut self, now: Uptime, waited: Duration, dropped: bool) -> bool {
        let before = self.level;
        let speaks_for = match RISES_AT.iter().filter(|&&at| waited >= at).count() {
            0 => Level::Calm,
            1 => Level::Busy,
            2 => Level::Pressed,
            _ => Level::Swamped,
        };
        let stays = RISES_AT.get((before as usize).wrapping_sub(1));
        if speaks_for > before {
            let since = *self.worse_since.get_or_insert(now);
            if now.since(since) >= STANDS_FOR {
                self.level = speaks_for;
                self.worse_since = None;
            }
        } else {
            self.worse_since = None;
            if stays.is_some_and(|&at| waited < at / 2) {
                self.level = speaks_for;
            }
        }
        // What the kernel had no room for is lost to known phones, too.
        if dropped {
            self.level = self.level.max(Level::Pressed);
        }
        before == Level::Calm && self.level > Level::Calm
    }
}

impl Door {
    /// How long what arrives now has waited in the kernel, and whether some of it was lost there.
    pub(super) fn on_pressure(&mut self, now: Now, waited: Duration, dropped: bool) {
        let rose = self.admission.feel(now.uptime, waited, dropped);
        self.stats.overloads += u64::from(rose);
    }

    /// Whether a REGISTER is turned away before more is spent on it: the door is pressed, and nobody
    /// of that AoR is known or under way. The cheaper this is, the more others are served.
    pub(super) fn turns_away_early(&mut self, to: &NameAddr<'_>) -> bool {
        if self.admission.level < Level::Pressed && self.ledger.writes() < WRITES_MAX {
            return false;
        }
        let Ok(aor) = aor_of(to) else { return false };
        if self.turns.contains_key(&aor) || self.directory.by_aor(aor.as_str()).is_some() {
            return false;
        }
        count(&mut self.stats, TurnedAway::Load);
        true
    }

    /// Whether a REGISTER that the door cannot answer by itself is turned away. One that has been
    /// taken on already is not asked again when it is repeated.
    pub(super) fn turns_away(
        &mut self,
        now: Now,
        flow: Flow,
        (request, via): (&Message, &Via<'_>),
        aor: &Aor,
    ) -> bool {
        if self.transactions.knows(request, via) {
            return false;
        }
        let turned_away = if self.is_known_phone(now, flow.remote, aor) {
            self.admit_known(now.uptime, aor)
        } else {
            self.admit_stranger(now.uptime, flow.remote, aor)
        };
        let Err(why) = turned_away else { return false };
        count(&mut self.stats, why);
        true
    }

    /// Whether a request of a server's finds no room: a server that asks too much may not take the
    /// room of phones.
    pub(super) fn has_no_room_for_servers(&self) -> bool {
        let limit = self.settings.limits.transactions;
        let (from_peers, ours) = self.transactions.pending();
        from_peers >= share(limit, SERVERS_SHARE) || ours >= share(limit, (1, 2))
    }

    fn is_known_phone(&self, now: Now, remote: SocketAddr, aor: &Aor) -> bool {
        let Some(user) = self.directory.by_aor(aor.as_str()) else { return false };
        let source = source_of(remote.ip());
        self.bindings_of(user).iter().filter_map(|&id| self.bindings.get(id)).any(|binding| {
            binding.is_live(now.uptime)
                && binding.durable
                && binding.aor == *aor
                && source_of(binding.flow.remote.ip()) == source
        })
    }

    fn admit_known(&mut self, now: Uptime, aor: &Aor) -> Result<(), TurnedAway> {
        if self.admission.level == Level::Swamped {
            return Err(TurnedAway::LoadOfKnown);
        }
        let key = hash_of(self.life, aor.as_str().as_bytes());
        let aors = &mut self.admission.aors;
        if aors.owed(key, now) > aors.rate.tolerance {
            return Err(TurnedAway::Aor);
        }
        self.stats.sources_forgotten += u64::from(aors.charge(key, now));
        Ok(())
    }

    fn admit_stranger(
        &mut self,
        now: Uptime,
        remote: SocketAddr,
        aor: &Aor,
    ) -> Result<(), TurnedAway> {
        let level = self.admission.level;
        if level >= Level::Pressed || self.ledger.writes() >= WRITES_MAX {
            return Err(TurnedAway::Load);
        }
        let limits = &self.settings.limits;
        if self.transactions.pending().0 >= share(limits.transactions, STRANGERS_SHARE)
            || self.waiting.len() >= share(limits.waiting, STRANGERS_SHARE)
        {
            return Err(TurnedAway::Room);
        }
        let source = source_of(remote.ip());
        let source = match source {
            std::net::IpAddr::V4(ip) => hash_of(self.life, &ip.octets()),
            std::net::IpAddr::V6(ip) => hash_of(self.life, &ip.octets()),
        };
        let aor = hash_of(self.life, aor.as_str().as_bytes());
        let Admission { sources, aors, in_all, owed_in_all, .. } = &mut self.admission;
        let owed = sources.owed(source, now);
        if level == Level::Busy && owed > sources.rate.gap {
            return Err(TurnedAway::Load);
        }
        if owed > sources.rate.tolerance {
            return Err(TurnedAway::Source);
        }
        if aors.owed(aor, now) > aors.rate.tolerance {
            return Err(TurnedAway::Aor);
        }
        if owed_in_all.since(now) > in_all.tolerance {
            return Err(TurnedAway::Strangers);
        }
        *owed_in_all = (*owed_in_all).max(now) + in_all.gap;
        let forgotten = u64::from(sources.charge(source, now)) + u64::from(aors.charge(aor, now));
        self.stats.sources_forgotten += forgotten;
        Ok(())
    }
}

const fn share(limit: usize, (of, whole): (usize, usize)) -> usize {
    // Small tables are for tests and toys: there everybody may fill them.
    if limit < 64 { limit } else { limit / whole * of }
}

const fn count(stats: &mut Stats, why: TurnedAway) {
    stats.registers_refused += 1;
    let counter = match why {
        TurnedAway::Source => &mut stats.shed_source,
        TurnedAway::Strangers => &mut stats.shed_strangers,
        TurnedAway::Aor => &mut stats.shed_aor,
        TurnedAway::Load => &mut stats.shed_load,
        TurnedAway::LoadOfKnown => &mut stats.shed_load_known,
        TurnedAway::Room => &mut stats.shed_room,
    };
    *counter += 1;
}

/// So many a second, and so many at once.
#[derive(Clone, Copy, Debug)]
struct Rate {
    /// What one costs.
    gap: Duration,
    /// What may be owed when the next one comes.
    tolerance: Duration,
}

impl Rate {
    fn new(per_second: u32, burst: u32) -> Self {
        let gap = Duration::from_secs(1) / per_second.max(1);
        Self { gap, tolerance: gap.saturating_mul(burst.max(1) - 1) }
    }
}

/// Places a key may have.
const WAYS: usize = 8;

/// What each of many keys has used of the same [`Rate`]: until when it owes (GCRA).
///
/// As large as it was made. A key that owes nothing is as good as one that is not there; when all
/// places of a key are taken by others that owe, the one that owes least is forgotten.
#[derive(Debug)]
struct Meters {
    rate: Rate,
    sets: Box<[[Meter; WAYS]]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Meter {
    key: u64,
    owes_until: Uptime,
}

impl Meters {
    fn new(rate: Rate, keys: usize) -> Self {
        let sets = vec![[Meter::default(); WAYS]; (keys / WAYS).max(1)].into_boxed_slice();
        Self { rate, sets }
    }

    /// What this key still owes.
    fn owed(&self, key: u64, now: Uptime) -> Duration {
        let set = &self.sets[self.set_of(key)];
        let meter = set.iter().find(|meter| meter.key == key);
        meter.map_or(Duration::ZERO, |meter| meter.owes_until.since(now))
    }

    /// One more for this key; `true` if another one's debt was forgotten for it.
    fn charge(&mut self, key: u64, now: Uptime) -> bool {
        let gap = self.rate.gap;
        let index = self.set_of(key);
        let set = &mut self.sets[index];
        if let Some(meter) = set.iter_mut().find(|meter| meter.key == key) {
            meter.owes_until = meter.owes_until.max(now) + gap;
            return false;
        }
        let Some(least) = set.iter_mut().min_by_key(|meter| meter.owes_until) else {
            return false;
        };
        let forgotten = least.owes_until > now;
        *least = Meter { key, owes_until: now + gap };
        forgotten
    }

    const fn set_of(&self, key: u64) -> usize {
        (key % self.sets.len() as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Uptime = Uptime::from_secs(1_000);

    /// How many pass at once.
    fn burst(meters: &mut Meters, key: u64, now: Uptime) -> u32 {
        let mut passed = 0;
        while meters.owed(key, now) <= meters.rate.tolerance {
            meters.charge(key, now);
            passed += 1;
        }
        passed
    }

    #[test]
    fn a_rate_allows_its_burst_at_once_and_then_so_many_a_second() {
        let mut meters = Meters::new(Rate::new(100, 2_000), 64);
        assert_eq!(burst(&mut meters, 1, START), 2_000);
        assert_eq!(burst(&mut meters, 1, START + Duration::from_secs(1)), 100);
        assert_eq!(burst(&mut meters, 2, START + Duration::from_secs(1)), 2_000, "another key");
        assert_eq!(burst(&mut meters, 1, START + Duration::from_secs(60)), 2_000, "never more");
    }

    #[test]
    fn a_table_that_is_full_forgets_who_owes_least_and_says_so() {
        let mut meters = Meters::new(Rate::new(1, 10), WAYS);
        for key in 0..WAYS as u64 {
            for _ in 0..=key {
                assert!(!meters.charge(key + 1, START));
            }
        }
        assert!(meters.charge(99, START), "somebody's debt is forgotten");
        assert_eq!(meters.owed(1, START), Duration::ZERO, "it was the least");
        assert_eq!(meters.owed(8, START), Duration::from_secs(8));
        let later = START + Duration::from_secs(60);
        assert!(!meters.charge(100, later), "whoever owes nothing is not missed");
        assert_eq!(meters.sets.len(), 1, "it does not grow");
    }

    #[test]
    fn the_level_follows_the_wait_and_does_not_flutter() {
        let ms = Duration::from_millis;
        let mut admission = Admission::new(&Limits::default());
        let mut levels = Vec::new();
        let waits = [10, 21, 15, 60, 30, 20, 9, 300, 110, 90, 24, 9];
        for (wait, at) in waits.into_iter().zip(0_u64..) {
            // Seen twice, as far apart as it takes.
            admission.feel(START + ms(at * 200), ms(wait), false);
            admission.feel(START + ms(at * 200 + 100), ms(wait), false);
            levels.push(admission.level);
        }
        use Level::{Busy, Calm, Pressed, Swamped};
        let expected =
            [Calm, Busy, Busy, Pressed, Pressed, Busy, Calm, Swamped, Swamped, Pressed, Busy, Calm];
        assert_eq!(levels, expected);
        let later = START + ms(10_000);
        admission.feel(later, ms(400), false);
        admission.feel(later + ms(90), ms(400), false);
        assert_eq!(admission.level, Calm, "a hiccup is over before it counts");
        admission.feel(later + ms(95), ms(1), false);
        admission.feel(later + ms(110), ms(400), false);
        assert_eq!(admission.level, Calm, "it begins anew");
        assert!(admission.feel(later + ms(120), ms(1), true), "what the kernel dropped counts");
        assert_eq!(admission.level, Pressed);
    }
}
