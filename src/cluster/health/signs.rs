//! [`Signs`]: what was seen of one server, boiled down to what verdicts rest on (H1).

use std::time::Duration;

use crate::cluster::health::{Evidence, Settings};
use crate::now::Uptime;

/// Probes that must be unanswered before silence is a verdict.
const SILENT_PROBES: u32 = 3;
/// Soft failures in a row that degrade a server.
const SOFT_DEGRADED: u32 = 3;
/// Soft failures in a row, with nothing else between, that take it down …
const SOFT_DOWN: u32 = 10;
/// … if they last this long: traffic may bring ten answers within a millisecond.
const SOFT_DOWN_AFTER: Duration = Duration::from_secs(5);
/// How long a 503 without Retry-After counts.
const OVERLOAD_PLAIN: Duration = Duration::from_secs(5);
/// How long one counts at most: Retry-After is the server's word, and may be any number.
const OVERLOAD_MAX: Duration = Duration::from_secs(300);
/// Over what time the latency of now is averaged, and the usual one.
const LATENCY_NOW: Duration = Duration::from_secs(5);
const LATENCY_USUAL: Duration = Duration::from_secs(600);

/// What was seen of one server.
#[derive(Debug, Default)]
pub(super) struct Signs {
    silent_since: Option<Uptime>,
    unanswered: u32,
    refusals: u32,
    refused_at: Option<Uptime>,
    /// The first of the refusals in a row.
    refused_since: Option<Uptime>,
    good_run: u32,
    answers: u32,
    soft: u32,
    soft_since: Uptime,
    same_error: Option<(u16, u32)>,
    overloaded_until: Uptime,
    latency: Latency,
}

/// What an answer says of the server that gave it (H1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// A sign of life: also 401, 403, 404, 405, 423 and whatever else is no failure of the server.
    Good,
    /// 503.
    Overload,
    /// 500 and 504.
    Soft,
}

impl Meaning {
    const fn of(status: u16) -> Self {
        match status {
            503 => Self::Overload,
            500 | 504 => Self::Soft,
            _ => Self::Good,
        }
    }
}

impl Signs {
    pub(super) fn probe_sent(&mut self, now: Uptime) {
        self.silent_since.get_or_insert(now);
        self.unanswered = self.unanswered.saturating_add(1);
    }

    /// Whether nothing but good answers has been seen lately, so that one more decides nothing.
    pub(super) const fn nothing_to_decide(&self, status: u16) -> bool {
        matches!(Meaning::of(status), Meaning::Good) && self.same_error.is_none() && self.soft == 0
    }

    pub(super) fn answered(
        &mut self,
        now: Uptime,
        status: u16,
        latency: Duration,
        retry_after: Option<u32>,
    ) {
        self.void_probes();
        self.refusals = 0;
        self.refused_at = None;
        self.refused_since = None;
        self.answers = self.answers.saturating_add(1);
        self.latency.sample(now, latency);
        let meaning = Meaning::of(status);
        self.same_error = match (meaning, self.same_error) {
            (Meaning::Good, _) => None,
            (_, Some((same, run))) if same == status => Some((status, run.saturating_add(1))),
            (_, _) => Some((status, 1)),
        };
        match meaning {
            Meaning::Good => {
                self.good_run = self.good_run.saturating_add(1);
                self.soft = 0;
            }
            Meaning::Overload => {
                self.good_run = 0;
                let told = retry_after.map_or(OVERLOAD_PLAIN, |s| Duration::from_secs(s.into()));
                self.overloaded_until = self.overloaded_until.max(now + told.min(OVERLOAD_MAX));
            }
            Meaning::Soft => {
                self.good_run = 0;
                if self.soft == 0 {
                    self.soft_since = now;
                }
                self.soft = self.soft.saturating_add(1);
            }
        }
    }

    /// Takes in a refusal; `false` where it belongs to a burst that was counted already.
    pub(super) fn refused(&mut self, now: Uptime, settings: &Settings) -> bool {
        let burst = self.refused_at.is_some_and(|last| now.since(last) < settings.refused_interval);
        if !burst {
            self.refusals = self.refusals.saturating_add(1);
            self.refused_at = Some(now);
            self.refused_since.get_or_insert(now);
        }
        !burst
    }

    /// Forgets the probes under way: silence counts anew from the next one.
    pub(super) const fn void_probes(&mut self) {
        self.silent_since = None;
        self.unanswered = 0;
    }

    /// Gives soft failures a new start, after a suspicion that explained them.
    pub(super) const fn forget_soft(&mut self) {
        self.soft = 0;
    }

    /// Forgets everything verdicts rest on: the server is judged anew. Latency stays.
    pub(super) fn forget_verdicts(&mut self) {
        *self = Self { latency: std::mem::take(&mut self.latency), ..Self::default() };
    }

    /// Starts the run of good answers anew: the server has just become worse.
    pub(super) const fn restart_run(&mut self) {
        self.good_run = 0;
    }

    /// When the first probe after the last answer was sent.
    pub(super) const fn silent_since(&self) -> Option<Uptime> {
        self.silent_since
    }

    /// Probes sent since the last answer.
    pub(super) const fn unanswered(&self) -> u32 {
        self.unanswered
    }

    /// Good answers in a row.
    pub(super) const fn good_run(&self) -> u32 {
        self.good_run
    }

    /// Answers of any kind so far.
    pub(super) const fn answers(&self) -> u32 {
        self.answers
    }

    /// The server's own host refused since the last answer: its process was gone.
    pub(super) const fn was_refused(&self) -> bool {
        self.refusals > 0
    }

    /// The server's own host refused often enough.
    pub(super) const fn proves_refused(&self, settings: &Settings) -> bool {
        // Counted ones are at least `refused_interval` apart, so the spread is there by itself.
        self.refusals >= settings.refusals
    }

    /// Silent for as long as a dead server is.
    pub(super) fn proves_silence(&self, now: Uptime, settings: &Settings) -> bool {
        self.unanswered >= SILENT_PROBES && self.is_silent_for(now, settings.down_after)
    }

    /// Nothing but soft failures for a long time.
    pub(super) fn proves_errors(&self, now: Uptime) -> bool {
        self.soft >= SOFT_DOWN && now.since(self.soft_since) >= SOFT_DOWN_AFTER
    }

    /// Silent for longer than a stall.
    pub(super) fn is_quiet(&self, now: Uptime, settings: &Settings) -> bool {
        self.is_silent_for(now, settings.degraded_after)
    }

    /// Within the time of a 503.
    pub(super) fn is_overloaded(&self, now: Uptime) -> bool {
        now < self.overloaded_until
    }

    /// Bad enough to be degraded.
    pub(super) fn is_troubled(&self, now: Uptime, settings: &Settings) -> bool {
        self.is_quiet(now, settings) || self.soft >= SOFT_DEGRADED || self.is_overloaded(now)
    }

    /// The one 5xx that the last answers all were.
    pub(super) fn same_error(&self) -> Option<u16> {
        self.same_error.filter(|(_, run)| *run >= SOFT_DEGRADED).map(|(status, _)| status)
    }

    /// What speaks against the server now.
    pub(super) fn evidence(&self) -> Evidence {
        let soft_since = (self.soft > 0).then_some(self.soft_since);
        Evidence {
            first_sign: [self.silent_since, self.refused_since, soft_since]
                .into_iter()
                .flatten()
                .min(),
            unanswered: self.unanswered,
            refusals: self.refusals,
            soft_failures: self.soft,
            same_error: self.same_error.map(|(status, _)| status),
            documents_missed: 0,
        }
    }

    /// Latency of now, and the usual one.
    pub(super) fn latency(&self) -> Option<(Duration, Duration)> {
        self.latency.both()
    }

    fn is_silent_for(&self, now: Uptime, limit: Duration) -> bool {
        self.silent_since.is_some_and(|since| now.since(since) >= limit)
    }
}

/// Two averages that forget over time and not by the number of answers: a burst of traffic must
/// not make "usual" what is only now.
#[derive(Debug, Default)]
struct Latency {
    averages: Option<Averages>,
}

#[derive(Clone, Copy, Debug)]
struct Averages {
    at: Uptime,
    now_s: f64,
    usual_s: f64,
}

impl Latency {
    fn sample(&mut self, now: Uptime, latency: Duration) {
        let sample_s = latency.as_secs_f64();
        let Some(averages) = &mut self.averages else {
            self.averages = Some(Averages { at: now, now_s: sample_s, usual_s: sample_s });
            return;
        };
        let gap_s = now.since(averages.at).as_secs_f64();
        let weight = |over: Duration| gap_s / (gap_s + over.as_secs_f64());
        averages.now_s += (sample_s - averages.now_s) * weight(LATENCY_NOW);
        averages.usual_s += (sample_s - averages.usual_s) * weight(LATENCY_USUAL);
        averages.at = now;
    }

    fn both(&self) -> Option<(Duration, Duration)> {
        let duration = |s| Duration::try_from_secs_f64(s).unwrap_or_default();
        self.averages.map(|averages| (duration(averages.now_s), duration(averages.usual_s)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latency_forgets_by_time_and_not_by_count() {
        let mut latency = Latency::default();
        latency.sample(Uptime::ZERO, Duration::from_millis(10));
        for step in 1..=10_000u64 {
            let now = Uptime::from_nanos(step * 1_000);
            latency.sample(now, Duration::from_secs(1));
        }
        let (now, usual) = latency.both().unwrap();
        assert!(now < Duration::from_millis(15), "ten milliseconds of a storm: {now:?}");
        for step in 1..=60u64 {
            latency.sample(Uptime::from_millis(10 + 500 * step), Duration::from_secs(1));
        }
        let (now, later) = latency.both().unwrap();
        assert!(now > Duration::from_millis(900), "half a minute is now: {now:?}");
        assert!(later < usual + Duration::from_millis(100), "and not yet usual: {later:?}");
    }
}
