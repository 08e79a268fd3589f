//! Figures as a table: each peer's, and the ratios of every door to Kamailio, round by round.

use std::fmt::Write as _;

use frontdoor::load::{Memory, Report, ServerUsage};
use serde::Serialize;

use crate::Arguments;
use crate::case::Case;

/// One case's figures.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    case: Case,
    story: &'static str,
    users: u32,
    window: u32,
    peers: Vec<Column>,
    ratios: Vec<Ratio>,
}

/// One peer's rounds.
#[derive(Debug, Serialize)]
struct Column {
    name: String,
    reports: Vec<Report>,
}

/// A figure of one door over Kamailio's of the same round.
#[derive(Debug, Serialize)]
struct Ratio {
    of: String,
    figure: &'static str,
    spread: Spread,
}

/// Several values of one figure.
#[derive(Clone, Copy, Debug, Serialize)]
struct Spread {
    median: f64,
    lowest: f64,
    highest: f64,
}

/// A number out of a report.
type Figure = fn(&Report) -> f64;

/// What is shown of a report.
const FIGURES: [(&str, Figure); 11] = [
    ("CPU us/REGISTER", |it| it.server.map_or(0.0, |server| server.cpu_us)),
    ("CPU %", |it| it.server.map_or(0.0, |server| server.cpu_percent)),
    ("per second", |it| it.per_second),
    ("p50 us", |it| it.latency_us.p50),
    ("p90 us", |it| it.latency_us.p90),
    ("p99 us", |it| it.latency_us.p99),
    ("refused", |it| it.refused as f64),
    ("timeouts", |it| it.timeouts as f64),
    ("retransmitted", |it| it.retransmissions as f64),
    ("bytes/connection", |it| bytes_each(it, |server| (server.before, server.connected))),
    ("bytes/binding", |it| bytes_each(it, |server| (server.connected, server.filled))),
];

/// Of those, ratios are shown of.
const RATIOS: [&str; 5] =
    ["CPU us/REGISTER", "per second", "p50 us", "bytes/connection", "bytes/binding"];

const KAMAILIO: &str = "kamailio";

impl Table {
    pub(crate) fn new(case: Case, arguments: &Arguments) -> Self {
        Self {
            case,
            story: case.story(),
            users: case.users(arguments),
            window: arguments.window,
            peers: Vec::new(),
            ratios: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, peer: &str, report: Report) {
        match self.peers.iter_mut().find(|column| column.name == peer) {
            Some(column) => column.reports.push(report),
            None => self.peers.push(Column { name: peer.to_owned(), reports: vec![report] }),
        }
        self.ratios = self.compare();
    }

    fn compare(&self) -> Vec<Ratio> {
        let Some(kamailio) = self.peers.iter().find(|column| column.name == KAMAILIO) else {
            return Vec::new();
        };
        let doors = self.peers.iter().filter(|column| column.name != KAMAILIO);
        let pairs = doors.flat_map(|door| RATIOS.map(|figure| (door, figure)));
        let ratio = |(door, figure): (&Column, &'static str)| {
            let (_, value) = FIGURES.iter().find(|(name, _)| *name == figure)?;
            let rounds = door.reports.iter().zip(&kamailio.reports);
            let spread = Spread::of(rounds.map(|(ours, theirs)| value(ours) / value(theirs)))
                .filter(|it| it.median.is_finite() && it.highest > 0.0)?;
            Some(Ratio { of: door.name.clone(), figure, spread })
        };
        pairs.filter_map(ratio).collect()
    }

    pub(crate) fn text(&self) -> String {
        let mut text = format!("\n{}: {}\n", self.case.name(), self.story);
        // Writing to a String cannot fail.
        let _ok = writeln!(
            text,
            "{} users, {} under way; median [lowest-highest]",
            self.users, self.window
        );
        let _ok = write!(text, "{:<18}", "");
        for column in &self.peers {
            let _ok = write!(text, "{:>32}", column.name);
        }
        text.push('\n');
        for (name, value) in FIGURES {
            let _ok = write!(text, "{name:<18}");
            for column in &self.peers {
                let spread = Spread::of(column.reports.iter().map(value));
                let _ok =
                    write!(text, "{:>32}", spread.map(|it| it.to_string()).unwrap_or_default());
            }
            text.push('\n');
        }
        for ratio in &self.ratios {
            let _ok = writeln!(text, "{}/{KAMAILIO} {}: {}", ratio.of, ratio.figure, ratio.spread);
        }
        text
    }
}

/// One run in one line.
pub(crate) fn line(peer: &str, report: &Report) -> String {
    let server = report.server.unwrap_or_default();
    format!(
        "{peer}: {:.2} us CPU, {:.0}/s, p50 {:.0} us, p99 {:.0} us, {} refused, {} timeouts, \
         {} retransmitted, server {:.0} %, generator {:.0} %",
        server.cpu_us,
        report.per_second,
        report.latency_us.p50,
        report.latency_us.p99,
        report.refused,
        report.timeouts,
        report.retransmissions,
        server.cpu_percent,
        report.generator_cpu_percent,
    )
}

/// What each user added to the memory of the server between two looks.
fn bytes_each(report: &Report, looks: impl Fn(&ServerUsage) -> (Memory, Memory)) -> f64 {
    let Some(server) = report.server else { return 0.0 };
    let (earlier, later) = looks(&server);
    later.pss.saturating_sub(earlier.pss) as f64 / f64::from(report.registered.max(1))
}

impl Spread {
    fn of(values: impl Iterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.collect();
        values.sort_by(f64::total_cmp);
        let middle = values.len() / 2;
        let upper = *values.get(middle)?;
        let lower = *values.get(middle.saturating_sub(1))?;
        let median =
            if values.len().is_multiple_of(2) { f64::midpoint(lower, upper) } else { upper };
        Some(Self { median, lowest: *values.first()?, highest: *values.last()? })
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let digits = if self.highest >= 100.0 { 0 } else { 2 };
        let Self { median, lowest, highest } = self;
        write!(out, "{median:.digits$} [{lowest:.digits$}-{highest:.digits$}]")
    }
}
