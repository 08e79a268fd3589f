//! What is noted while a failover, a drill or a return runs, and the report it becomes (O5).
//!
//! A report is due a moment after its story is over, so that stragglers are in it, and after a
//! minute in which nothing happened while something is still open. What happens later makes it due
//! again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::cluster::health::Evidence;
use crate::cluster::{Failure, Proof, ServerId};
use crate::door::binding::Trouble;
use crate::door::reports::{
    FaultReport, OpenBinding, REPORT_FORM, Report, StageReport, TargetReport, unix_ms,
};
use crate::door::slots::SlotId;
use crate::door::{Door, Output, Timer};
use crate::now::{Now, Uptime};
use crate::recovery::StageOutcome;

/// As many as status shows failovers and returns.
const TRAILS_MAX: usize = 32;
/// Quiet after which a story that is over is told.
const QUIET: Duration = Duration::from_secs(2);
/// And one that is not.
const QUIET_OPEN: Duration = Duration::from_secs(60);
/// One in which something happens all the time is told this often.
const LONGEST: Duration = Duration::from_secs(300);
const OPEN_MAX: usize = 100;

/// The trails of this life of the door, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Trails {
    trails: VecDeque<Trail>,
    wakes_at: Option<Uptime>,
}

#[derive(Debug)]
struct Trail {
    /// Of the failover or return.
    number: u32,
    kind: Kind,
    server: ServerId,
    began: Uptime,
    /// By the clock on the wall, then: the id stays what it was when that clock jumps.
    began_wall: SystemTime,
    evidence: Option<(Proof, Evidence)>,
    hold: Duration,
    targets: BTreeMap<ServerId, Target>,
    second: u64,
    in_second: u64,
    peak_per_s: u64,
    stages: Vec<StageReport>,
    changed_at: Uptime,
    told_at: Option<Uptime>,
    /// Something has happened since it was told.
    news: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Failover,
    Drill,
    Return,
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Failover => "failover",
            Self::Drill => "drill",
            Self::Return => "return",
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Target {
    users: u64,
    registered: u64,
    in_flight_peak: u32,
}

impl Trails {
    fn trail(&mut self, number: u32) -> Option<&mut Trail> {
        self.trails.iter_mut().rev().find(|trail| trail.number == number)
    }

    fn begin(&mut self, trail: Trail) {
        if self.trails.len() >= TRAILS_MAX {
            self.trails.pop_front();
        }
        self.trails.push_back(trail);
    }
}

impl Trail {
    fn new(number: u32, kind: Kind, server: ServerId, (began, now): (Uptime, Now)) -> Self {
        let ago = now.uptime.since(began);
        Self {
            number,
            kind,
            server,
            began,
            began_wall: now.wall.checked_sub(ago).unwrap_or(now.wall),
            evidence: None,
            hold: Duration::ZERO,
            targets: BTreeMap::new(),
            second: 0,
            in_second: 0,
            peak_per_s: 0,
            stages: Vec::new(),
            changed_at: now.uptime,
            told_at: None,
            news: false,
        }
    }

    fn count_second(&mut self, now: Uptime) {
        let second = now.since(self.began).as_secs();
        if second != self.second {
            (self.second, self.in_second) = (second, 0);
        }
        self.in_second += 1;
        self.peak_per_s = self.peak_per_s.max(self.in_second);
    }

    /// When it is to be told; `None`: there is nothing new.
    fn due(&self, over: bool) -> Option<Uptime> {
        let quiet = self.changed_at + if over { QUIET } else { QUIET_OPEN };
        let longest = self.told_at.unwrap_or(self.began) + LONGEST;
        self.news.then(|| quiet.min(longest.max(self.changed_at)))
    }
}

impl Door {
    /// A failure has users who are to go, or would be.
    pub(super) fn begin_failover_trail(
        &mut self,
        now: Now,
        number: u32,
        server: ServerId,
        failure: Failure,
    ) {
        if self.trails.trail(number).is_some() {
            return;
        }
        let kind = if failure.proof == Proof::Drill { Kind::Drill } else { Kind::Failover };
        let mut trail = Trail::new(number, kind, server, (failure.since, now));
        trail.hold = failure.hold_until.since(failure.since);
        trail.evidence = Some((failure.proof, self.health.evidence(server)));
        self.trails.begin(trail);
        self.note(now, number);
    }

    /// Users begin to go home.
    pub(super) fn begin_return_trail(&mut self, now: Now, number: u32, home: ServerId) {
        self.trails.begin(Trail::new(number, Kind::Return, home, (now.uptime, now)));
        self.note(now, number);
    }

    /// Something has changed in this run.
    pub(super) fn note(&mut self, now: Now, number: u32) {
        if let Some(trail) = self.trails.trail(number) {
            trail.changed_at = now.uptime;
            trail.news = true;
            self.wake_trails_at(now.uptime + QUIET);
        }
    }

    /// A user of this run goes to `server`, by the ledger.
    pub(super) fn note_sent(&mut self, number: u32, server: ServerId) {
        if let Some(trail) = self.trails.trail(number) {
            trail.targets.entry(server).or_default().users += 1;
        }
    }

    /// A binding of this run is registered at `server`.
    pub(super) fn note_arrived(&mut self, now: Now, number: u32, server: ServerId) {
        let in_flight = self.lanes[server.index()].pacer.in_flight();
        if let Some(trail) = self.trails.trail(number) {
            trail.count_second(now.uptime);
            let target = trail.targets.entry(server).or_default();
            target.registered += 1;
            target.in_flight_peak = target.in_flight_peak.max(in_flight);
        }
        self.note(now, number);
    }

    /// A stage of this return was looked at; the last look counts.
    pub(super) fn note_stage(
        &mut self,
        now: Now,
        number: u32,
        (stage, users): (u32, u64),
        seen: StageOutcome,
    ) {
        let view = self.view();
        let Some(trail) = self.trails.trail(number) else { return };
        trail.stages.retain(|noted| noted.stage != stage);
        trail.stages.push(StageReport {
            stage,
            users,
            judged_ms: millis(now.uptime.since(trail.began)),
            score: view.server(trail.server).score,
            arrived: seen.arrived,
            under_way: seen.under_way,
            in_trouble: seen.in_trouble,
        });
        self.note(now, number);
    }

    fn wake_trails_at(&mut self, at: Uptime) {
        if self.trails.wakes_at.is_none_or(|earlier| at < earlier) {
            self.trails.wakes_at = Some(at);
            self.timers.set(at, Timer::Report);
        }
    }

    /// Tells what is due; a timer that was overtaken by an earlier one says nothing.
    pub(super) fn wake_trails(&mut self, now: Now) {
        if self.trails.wakes_at.is_none_or(|at| at > now.uptime) {
            return;
        }
        self.trails.wakes_at = None;
        for place in 0..self.trails.trails.len() {
            let number = self.trails.trails[place].number;
            let over = self.failovers.is_over(number) || self.homecomings.is_over(number);
            let Some(due) = self.trails.trails[place].due(over) else { continue };
            if due > now.uptime {
                self.wake_trails_at(due);
                continue;
            }
            let report = self.report(now, &self.trails.trails[place], over);
            let trail = &mut self.trails.trails[place];
            trail.news = false;
            trail.told_at = Some(now.uptime);
            self.outputs.extend(report.map(|report| Output::Report(Box::new(report))));
        }
    }

    /// `None` if nobody had to go, or the run is so old that nothing is known of it any more.
    fn report(&self, now: Now, trail: &Trail, over: bool) -> Option<Report> {
        let server = self.server_name(trail.server);
        let mut report = Report {
            form: REPORT_FORM,
            id: Report::id_of(trail.began_wall, trail.kind.name(), &server),
            kind: trail.kind.name().into(),
            server,
            began_unix_ms: unix_ms(trail.began_wall),
            written_unix_ms: unix_ms(now.wall),
            fault: trail.evidence.map(|(proof, evidence)| trail.fault(proof, &evidence)),
            peak_per_s: trail.peak_per_s,
            targets: self.targets_of(trail),
            stages: trail.stages.clone(),
            ..Report::default()
        };
        let ms =
            |nanos: u64| (nanos > 0).then(|| millis(Uptime::from_nanos(nanos).since(trail.began)));
        if let Some(run) = self.failovers.status(trail.number) {
            report.planned_ms = ms(run.planned_nanos);
            report.recorded_ms = ms(run.recorded_nanos);
            (report.first_ms, report.last_ms) = (ms(run.first_nanos), ms(run.last_nanos));
            report.users = run.users;
            report.unplaced = run.unplaced;
            report.unplaced_because.clone_from(&run.unplaced_because);
            report.because.clone_from(&run.why_not);
            (report.bindings, report.registered) = (run.bindings, run.rehomed);
            if report.users + report.unplaced + report.bindings == 0 {
                // Planned, and not written.
                self.ledger.trouble.as_ref()?;
                report.because = Some("store".into());
            }
        } else {
            let run = self.homecomings.status(trail.number)?;
            (report.first_ms, report.last_ms) = (ms(run.first_nanos), ms(run.last_nanos));
            report.users = run.users;
            report.active = run.active;
            report.because.clone_from(&run.stopped_because);
            (report.bindings, report.registered) = (run.bindings, run.arrived);
        }
        (report.open, report.open_more) = self.open_bindings(trail.number);
        let open = !over || report.unplaced > 0 || !report.open.is_empty();
        report.outcome = match (&report.because, trail.kind) {
            (Some(_), Kind::Return) => "stopped",
            (Some(_), Kind::Failover | Kind::Drill) => "withheld",
            (None, _) if open => "open",
            (None, _) => "done",
        }
        .into();
        Some(report)
    }

    fn targets_of(&self, trail: &Trail) -> Vec<TargetReport> {
        let view = self.health.view();
        let target = |(&server, target): (&ServerId, &Target)| TargetReport {
            server: self.server_name(server),
            users: target.users,
            registered: target.registered,
            in_flight_peak: target.in_flight_peak,
            assigned: self.directory.assigned(server),
            capacity: view.server(server).capacity,
        };
        trail.targets.iter().map(target).collect()
    }

    /// Bindings of this run that are not where they are to be, in the order of their places.
    fn open_bindings(&self, number: u32) -> (Vec<OpenBinding>, u64) {
        let ids: Vec<SlotId> = self
            .bindings
            .iter()
            .filter(|(_, binding)| binding.run == Some(number) && !binding.gone)
            .map(|(id, _)| id)
            .collect();
        let known = ids.iter().take(OPEN_MAX).filter_map(|&id| self.bindings.get(id));
        let open = known.map(|binding| OpenBinding {
            user: Arc::clone(&self.directory.get(binding.user).name),
            contact: binding.contact_text(),
            standing: binding.standing.name().into(),
            because: binding.trouble.map(Trouble::in_words),
        });
        (open.collect(), ids.len().saturating_sub(OPEN_MAX) as u64)
    }
}

impl Trail {
    fn fault(&self, proof: Proof, seen: &Evidence) -> FaultReport {
        let since = seen.first_sign.map_or(Duration::ZERO, |first| self.began.since(first));
        let mut signals = Vec::new();
        if proof == Proof::Drill {
            signals.push("none: this is a drill, ordered by an operator".to_owned());
        }
        if let Proof::Plane(plane) = proof {
            signals.push(format!(
                "its {} plane was dead for the dwell, while another one answered",
                plane.name()
            ));
        }
        if seen.refusals > 0 {
            signals.push(format!("its own host refused {} times in a row", seen.refusals));
        }
        if seen.unanswered > 0 && proof != Proof::Drill {
            signals.push(format!("{} probes in a row without any answer", seen.unanswered));
        }
        if seen.soft_failures > 0 {
            let last =
                seen.same_error.map_or_else(String::new, |it| format!(", the last ones {it}"));
            signals.push(format!("{} answers in a row were 500 or 504{last}", seen.soft_failures));
        }
        if seen.documents_missed > 0 {
            signals.push(format!("{} health documents in a row missing", seen.documents_missed));
        }
        FaultReport {
            proof: proof.name().into(),
            signals,
            detection_ms: millis(since),
            hold_ms: millis(self.hold),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
