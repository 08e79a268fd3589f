//! [`Sightings`] → [`Report`]: what the simulated servers and phones saw, as figures. Pure.
//!
//! All points in time are nanoseconds of `CLOCK_MONOTONIC`, which every process of the demo shares.

use std::time::Duration;

use serde::Serialize;

use crate::cli::demo::sessions::ClientReport;

/// A server of the demo, by number from 0.
pub(super) type Server = usize;
/// A phone, by number from 0.
pub(super) type Phone = usize;

/// The one object of `demo --json`.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Report {
    /// Phones there are.
    pub(super) phones: usize,
    /// Of those, the ones whose first REGISTER got a 200.
    pub(super) registered: usize,
    /// The server that was killed.
    pub(super) killed: Option<String>,
    /// Phones whose binding was at that server.
    pub(super) affected: usize,
    /// From the kill until the door knew.
    pub(super) detect_ms: Option<f64>,
    /// Affected phones that another server reached along its stored Path.
    pub(super) rehomed: usize,
    /// From the kill until the first of them was reached.
    pub(super) rehome_first_ms: Option<f64>,
    /// From the kill until 99 of 100 affected phones were reached; none while fewer were.
    pub(super) rehome_p99_ms: Option<f64>,
    /// Phones with a running lease that no living server reaches in the end.
    pub(super) lost: usize,
    /// Phones of other servers that were moved nevertheless (P1).
    pub(super) moved_others: usize,
    /// Largest deviation of a survivor's share of guests from the ideal, in per cent.
    pub(super) spread_error_pct: Option<f64>,
    /// Affected phones that their own server reached again after it was started anew; none if it
    /// was not.
    pub(super) returned: Option<usize>,
    /// Affected phones that were not to be: a client of their user cannot be moved unnoticed, and
    /// so keeps its user where they are (B1).
    pub(super) stayed: Option<usize>,
    /// From its start until 99 of 100 affected phones were at home, those that stayed not counted;
    /// none while fewer were.
    pub(super) return_p99_s: Option<f64>,
    /// Phones a second that may come home, and the most that came within one.
    pub(super) return_pace_per_s: Option<usize>,
    /// See `return_pace_per_s`.
    pub(super) return_peak_per_s: Option<usize>,
    /// Stages in which they came.
    pub(super) stages: Option<u32>,
    /// Returns that were stopped.
    pub(super) aborted: Option<usize>,
    /// The clients' part.
    #[serde(flatten)]
    pub(super) clients: ClientReport,
}

/// What the door says of the return, and who stays away.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Return {
    pub(super) pace_per_s: usize,
    pub(super) stages: u32,
    pub(super) aborted: usize,
    /// See [`Report::stayed`].
    pub(super) stayed: usize,
}

/// The kill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Kill {
    pub(super) server: Server,
    pub(super) at_nanos: u64,
}

/// Who reached whom, when.
#[derive(Debug)]
pub(super) struct Sightings {
    servers: usize,
    kill: Option<Kill>,
    /// When the killed server was started again.
    back_nanos: Option<u64>,
    phones: Vec<Seen>,
    /// Start of the last round of pings.
    round_nanos: u64,
}

/// What was seen of one phone.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    /// Who reached it last before the kill.
    owner: Option<(Server, u64)>,
    /// The first other server that reached it after the kill.
    elsewhere: Option<(Server, u64)>,
    /// The first time its own server reached it after that was started again.
    at_home: Option<u64>,
    /// The living server that reached it last, and when.
    last: Option<(Server, u64)>,
}

/// What a phone itself knows, for the final account.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct PhoneSide {
    /// Its first REGISTER got a 200.
    pub(super) registered: bool,
    /// When its lease ends; 0 without one.
    pub(super) lease_until_nanos: u64,
    /// When it first answered an OPTIONS after the kill; 0: not yet.
    pub(super) answered_since_kill_nanos: u64,
    /// When it last answered an OPTIONS; 0: never.
    pub(super) answered_last_nanos: u64,
}

impl Sightings {
    pub(super) fn new(servers: usize, phones: usize) -> Self {
        let phones = vec![Seen::default(); phones];
        Self { servers, kill: None, back_nanos: None, phones, round_nanos: 0 }
    }

    /// The killed server was started again.
    pub(super) const fn back(&mut self, at_nanos: u64) {
        self.back_nanos = Some(at_nanos);
    }

    /// The server was killed; sightings from before that may still come in.
    pub(super) const fn killed(&mut self, kill: Kill) {
        self.kill = Some(kill);
    }

    /// From now on only sightings of this round say that a phone can be reached.
    pub(super) const fn begin_round(&mut self, at_nanos: u64) {
        self.round_nanos = at_nanos;
    }

    /// A server's OPTIONS was answered by a phone.
    pub(super) fn reached(&mut self, server: Server, phone: Phone, at_nanos: u64) {
        let Some(seen) = self.phones.get_mut(phone) else { return };
        let after_kill = self.kill.is_some_and(|kill| at_nanos >= kill.at_nanos);
        if !after_kill {
            if seen.owner.is_none_or(|(_, at)| at <= at_nanos) {
                seen.owner = Some((server, at_nanos));
            }
        } else if self.kill.is_some_and(|kill| kill.server != server)
            && seen.owner.is_none_or(|(owner, _)| owner != server)
            && seen.elsewhere.is_none_or(|(_, at)| at > at_nanos)
        {
            seen.elsewhere = Some((server, at_nanos));
        }
        let lives = self.kill.is_none_or(|kill| kill.server != server);
        let is_back = self.back_nanos.is_some_and(|back| at_nanos >= back);
        if (lives || is_back) && seen.last.is_none_or(|(_, at)| at <= at_nanos) {
            seen.last = Some((server, at_nanos));
        }
        let own = seen.owner.is_some_and(|(owner, _)| owner == server);
        if !lives && is_back && own && seen.at_home.is_none_or(|at| at > at_nanos) {
            seen.at_home = Some(at_nanos);
        }
    }

    /// Affected phones that are at home again, and when they were reached there first.
    fn returns(&self) -> impl Iterator<Item = u64> {
        let affected = self.phones.iter().filter(|seen| self.is_affected(seen));
        affected.filter_map(|seen| seen.at_home)
    }

    /// How many are.
    pub(super) fn returned(&self) -> usize {
        self.returns().count()
    }

    /// Affected phones that are not, and need not be, because their user stays.
    pub(super) fn stayed(&self, stays: impl Fn(Phone) -> bool) -> usize {
        let away = |(phone, seen): &(Phone, &Seen)| {
            self.is_affected(seen) && seen.at_home.is_none() && stays(*phone)
        };
        self.phones.iter().enumerate().filter(away).count()
    }

    /// The living server that reached a phone last.
    pub(super) fn server_of(&self, phone: Phone) -> Option<Server> {
        self.phones.get(phone)?.last.map(|(server, _)| server)
    }

    /// Phones that some server has reached.
    pub(super) fn known(&self) -> usize {
        self.phones.iter().filter(|seen| seen.owner.is_some()).count()
    }

    /// Phones whose binding was at the killed server.
    pub(super) fn affected(&self) -> usize {
        self.phones.iter().filter(|seen| self.is_affected(seen)).count()
    }

    /// Affected phones that both sides say were reached by another server.
    pub(super) fn rehomed(&self, side: impl Fn(Phone) -> PhoneSide) -> usize {
        self.rehomings(side).count()
    }

    /// Phones with a running lease that this round has not reached.
    pub(super) fn lost(&self, now_nanos: u64, side: impl Fn(Phone) -> PhoneSide) -> usize {
        let is_lost = |(phone, seen): &(Phone, &Seen)| {
            let side = side(*phone);
            let by_server = seen.last.is_some_and(|(_, at)| at >= self.round_nanos);
            let by_phone = side.answered_last_nanos >= self.round_nanos;
            side.lease_until_nanos > now_nanos && !(by_server && by_phone)
        };
        self.phones.iter().enumerate().filter(is_lost).count()
    }

    /// The final account of the phones. `detected_nanos` is when the door knew; `names` are the
    /// servers'.
    pub(super) fn report(
        &self,
        names: &[String],
        now_nanos: u64,
        detected_nanos: Option<u64>,
        comeback: Return,
        side: impl Fn(Phone) -> PhoneSide,
    ) -> Report {
        let kill = self.kill;
        let since_kill = |at: u64| kill.map(|kill| millis(at.saturating_sub(kill.at_nanos)));
        let affected = self.affected();
        let mut returns: Vec<u64> = self.returns().collect();
        returns.sort_unstable();
        let back = self.back_nanos;
        let since_back = |at: u64| back.map(|back| millis(at.saturating_sub(back)) / 1_000.0);
        let mut rehomings: Vec<(Server, u64)> = self.rehomings(&side).collect();
        rehomings.sort_unstable_by_key(|(_, at)| *at);
        Report {
            phones: self.phones.len(),
            registered: (0..self.phones.len()).filter(|phone| side(*phone).registered).count(),
            killed: kill.and_then(|kill| names.get(kill.server).cloned()),
            affected,
            detect_ms: detected_nanos.and_then(since_kill),
            rehomed: rehomings.len(),
            rehome_first_ms: rehomings.first().and_then(|(_, at)| since_kill(*at)),
            rehome_p99_ms: percentile_rank(affected, 99)
                .and_then(|rank| rehomings.get(rank))
                .and_then(|(_, at)| since_kill(*at)),
            lost: self.lost(now_nanos, &side),
            moved_others: self.moved_others(),
            spread_error_pct: self.spread_error_pct(affected, &rehomings),
            returned: back.map(|_| returns.len()),
            stayed: back.map(|_| comeback.stayed),
            return_p99_s: percentile_rank(affected.saturating_sub(comeback.stayed), 99)
                .and_then(|rank| returns.get(rank))
                .and_then(|at| since_back(*at))
                .map(rounded),
            return_pace_per_s: back.map(|_| comeback.pace_per_s),
            return_peak_per_s: back.map(|_| most_within_a_second(&returns)),
            stages: back.map(|_| comeback.stages),
            aborted: back.map(|_| comeback.aborted),
            clients: ClientReport::default(),
        }
    }

    fn is_affected(&self, seen: &Seen) -> bool {
        match (self.kill, seen.owner) {
            (Some(kill), Some((owner, _))) => owner == kill.server,
            (Some(_) | None, _) => false,
        }
    }

    /// The server's word alone does not count: the phone must have answered before that.
    fn rehomings(&self, side: impl Fn(Phone) -> PhoneSide) -> impl Iterator<Item = (Server, u64)> {
        self.phones.iter().enumerate().filter_map(move |(phone, seen)| {
            let (server, at) = seen.elsewhere.filter(|_| self.is_affected(seen))?;
            let answered = side(phone).answered_since_kill_nanos;
            (answered != 0 && answered <= at).then_some((server, at))
        })
    }

    fn moved_others(&self) -> usize {
        let others = self.phones.iter().filter(|seen| !self.is_affected(seen));
        others.filter(|seen| seen.owner.is_some() && seen.elsewhere.is_some()).count()
    }

    /// Servers of the demo are equal, so the ideal share is the same for each survivor.
    fn spread_error_pct(&self, affected: usize, rehomings: &[(Server, u64)]) -> Option<f64> {
        let kill = self.kill?;
        let survivors = self.servers.checked_sub(1).filter(|survivors| *survivors > 0)?;
        if affected == 0 {
            return None;
        }
        let ideal = affected as f64 / survivors as f64;
        let guests = |of: Server| rehomings.iter().filter(|(server, _)| *server == of).count();
        let deviation = |server| (guests(server) as f64 - ideal).abs() / ideal * 100.0;
        let worst = (0..self.servers)
            .filter(|server| *server != kill.server)
            .map(deviation)
            .fold(0.0, f64::max);
        Some(rounded(worst))
    }
}

/// Of points in time in rising order.
fn most_within_a_second(times: &[u64]) -> usize {
    let since = |from: usize| {
        let end = times[from].saturating_add(1_000_000_000);
        times[from..].partition_point(|at| *at < end)
    };
    (0..times.len()).map(since).max().unwrap_or(0)
}

/// The place of a percentile in a sorted list of `count` (nearest rank); `None` of an empty list.
pub(super) fn percentile_rank(count: usize, percent: usize) -> Option<usize> {
    (count * percent).div_ceil(100).checked_sub(1)
}

pub(super) fn millis(nanos: u64) -> f64 {
    rounded(Duration::from_nanos(nanos).as_secs_f64() * 1_000.0)
}

/// To three places: more is noise.
fn rounded(value: f64) -> f64 {
    (value * 1_000.0).round() / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const KILL_AT: u64 = 1_000 * MS;
    const KILL: Kill = Kill { server: 0, at_nanos: KILL_AT };

    fn names() -> Vec<String> {
        ["ucs1", "ucs2", "ucs3"].map(String::from).to_vec()
    }

    /// A phone that answers everything and never loses its lease.
    fn answering(_phone: Phone) -> PhoneSide {
        PhoneSide {
            registered: true,
            lease_until_nanos: u64::MAX,
            answered_since_kill_nanos: KILL_AT + MS,
            answered_last_nanos: u64::MAX,
        }
    }

    /// Six phones, two at each of three servers.
    fn six() -> Sightings {
        let mut seen = Sightings::new(3, 6);
        for phone in 0..6 {
            seen.reached(phone / 2, phone, 10 * MS);
        }
        seen
    }

    #[test]
    fn a_failover_is_measured_from_the_kill_to_the_survivors_word() {
        let mut seen = six();
        seen.killed(KILL);
        seen.reached(1, 0, KILL_AT + 50 * MS);
        seen.reached(2, 1, KILL_AT + 80 * MS);
        let report = seen.report(&names(), 0, Some(KILL_AT + 5 * MS), Return::default(), answering);
        assert_eq!(
            report,
            Report {
                phones: 6,
                registered: 6,
                killed: Some("ucs1".into()),
                affected: 2,
                detect_ms: Some(5.0),
                rehomed: 2,
                rehome_first_ms: Some(50.0),
                rehome_p99_ms: Some(80.0),
                lost: 0,
                moved_others: 0,
                spread_error_pct: Some(0.0),
                returned: None,
                stayed: None,
                return_p99_s: None,
                return_pace_per_s: None,
                return_peak_per_s: None,
                stages: None,
                aborted: None,
                clients: ClientReport::default(),
            }
        );
    }

    #[test]
    fn what_a_phone_did_not_answer_is_no_rehoming() {
        let mut seen = six();
        seen.killed(KILL);
        seen.reached(1, 0, KILL_AT + 50 * MS);
        seen.reached(1, 1, KILL_AT + 50 * MS);
        let side = |phone| PhoneSide {
            answered_since_kill_nanos: if phone == 0 { 0 } else { KILL_AT + 51 * MS },
            ..answering(phone)
        };
        assert_eq!(seen.rehomed(side), 0, "never answered, or only afterwards");
    }

    #[test]
    fn the_killed_servers_late_words_make_no_rehoming() {
        let mut seen = six();
        seen.killed(KILL);
        seen.reached(0, 0, KILL_AT + MS);
        assert_eq!((seen.affected(), seen.rehomed(answering)), (2, 0));
        // A word from before the kill that comes in late still says whose phone it was.
        seen.reached(0, 2, KILL_AT - MS);
        assert_eq!(seen.affected(), 3);
    }

    #[test]
    fn p99_counts_those_who_never_arrive() {
        let mut seen = Sightings::new(2, 200);
        for phone in 0..200 {
            seen.reached(0, phone, MS);
        }
        seen.killed(KILL);
        for phone in 0..197 {
            seen.reached(1, phone, KILL_AT + MS + phone as u64 * MS);
        }
        let report =
            |seen: &Sightings| seen.report(&names(), 0, None, Return::default(), answering);
        assert_eq!(report(&seen).rehome_p99_ms, None, "197 of 200 are not 99 of 100");
        seen.reached(1, 197, KILL_AT + 500 * MS);
        assert_eq!(report(&seen).rehome_p99_ms, Some(500.0));
        assert_eq!(report(&seen).rehomed, 198);
    }

    #[test]
    fn a_phone_of_another_server_that_turns_up_elsewhere_was_moved() {
        let mut seen = six();
        seen.killed(KILL);
        seen.reached(1, 2, KILL_AT + MS);
        assert_eq!(seen.moved_others(), 0, "its own server again");
        seen.reached(2, 2, KILL_AT + MS);
        assert_eq!(seen.moved_others(), 1);
    }

    #[test]
    fn a_running_lease_that_nobody_reaches_is_lost() {
        let mut seen = six();
        seen.begin_round(2_000 * MS);
        for phone in 0..4 {
            seen.reached(phone / 2, phone, 2_001 * MS);
        }
        let side = |phone| PhoneSide {
            lease_until_nanos: if phone == 5 { 1_999 * MS } else { 3_000 * MS },
            answered_last_nanos: if phone == 3 { 1_000 * MS } else { 2_000 * MS },
            ..answering(phone)
        };
        // 3 did not answer itself, 4 was not reached, 5 has no lease any more.
        assert_eq!(seen.lost(2_500 * MS, side), 2);
    }

    #[test]
    fn a_return_is_measured_from_the_servers_start_to_its_own_word() {
        let mut seen = six();
        seen.killed(KILL);
        seen.reached(1, 0, KILL_AT + 50 * MS);
        seen.reached(2, 1, KILL_AT + 60 * MS);
        let back = KILL_AT + 5_000 * MS;
        seen.back(back);
        seen.reached(0, 0, back - MS);
        assert_eq!(seen.returned(), 0, "a word from before the start is of another life");
        assert_eq!((seen.stayed(|phone| phone == 0), seen.server_of(0)), (1, Some(1)));
        seen.reached(0, 0, back + 2_000 * MS);
        seen.reached(0, 1, back + 2_900 * MS);
        seen.reached(0, 2, back + 2_950 * MS);
        let comeback = Return { pace_per_s: 25, stages: 2, aborted: 0, stayed: 0 };
        assert_eq!((seen.stayed(|phone| phone == 0), seen.server_of(0)), (0, Some(0)));
        let report = seen.report(&names(), 0, None, comeback, answering);
        assert_eq!((report.returned, report.return_p99_s), (Some(2), Some(2.9)));
        assert_eq!((report.return_peak_per_s, report.stages), (Some(2), Some(2)));
        let mut one = six();
        one.killed(KILL);
        one.back(back);
        one.reached(0, 0, back + 2_000 * MS);
        let p99 = |stayed| {
            let comeback = Return { stayed, ..comeback };
            one.report(&names(), 0, None, comeback, answering).return_p99_s
        };
        assert_eq!((p99(0), p99(1)), (None, Some(2.0)), "nobody waits for who stays");
    }

    #[test]
    fn a_second_begins_anywhere() {
        let times: Vec<u64> = [0, 600, 1_100, 1_500, 1_599, 1_600].map(|at| at * MS).to_vec();
        assert_eq!(most_within_a_second(&times), 4);
        assert_eq!(most_within_a_second(&[]), 0);
    }

    #[test]
    fn spread_is_the_worst_survivors_deviation() {
        let mut seen = Sightings::new(3, 10);
        for phone in 0..10 {
            seen.reached(0, phone, MS);
        }
        seen.killed(KILL);
        for phone in 0..10 {
            seen.reached(if phone < 6 { 1 } else { 2 }, phone, KILL_AT + 10 * MS);
        }
        let report = seen.report(&names(), 0, None, Return::default(), answering);
        assert_eq!(report.spread_error_pct, Some(20.0));
    }

    #[test]
    fn without_a_kill_there_is_nothing_to_measure() {
        let report = six().report(&names(), 0, None, Return::default(), answering);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["killed"], serde_json::Value::Null);
        assert_eq!(
            (report.affected, report.rehomed, report.moved_others, report.lost),
            (0, 0, 0, 0)
        );
        let keys: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys.len(), 27);
    }

    #[test]
    fn the_nearest_rank_is_the_place_of_a_percentile() {
        assert_eq!(percentile_rank(0, 99), None);
        assert_eq!(percentile_rank(1, 99), Some(0));
        assert_eq!(percentile_rank(100, 99), Some(98));
        assert_eq!(percentile_rank(101, 99), Some(99));
        assert_eq!(percentile_rank(10_000, 99), Some(9_899));
    }
}
