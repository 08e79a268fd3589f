//! A report for people.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use crate::door::Report;

/// The report in words, lines of at most a screen's width where names allow it.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    let began = SystemTime::UNIX_EPOCH + Duration::from_millis(report.began_unix_ms);
    let Report { kind, server, outcome, users, .. } = report;
    let mut line = |words: std::fmt::Arguments<'_>| {
        // Writing to a String cannot fail.
        let _ok = text.write_fmt(format_args!("{words}\n"));
    };
    line(format_args!("{kind}, {server}, {}: {outcome}", httpdate::fmt_http_date(began)));
    line(format_args!("id               {}", report.id));
    if let Some(fault) = &report.fault {
        let signals = fault.signals.join("; ");
        line(format_args!("proof            {}: {signals}", fault.proof));
        let (detection, hold) = (seconds(fault.detection_ms), seconds(fault.hold_ms));
        line(format_args!(
            "detection        {detection} after the first sign, then {hold} of hold"
        ));
    }
    if let Some(because) = &report.because {
        line(format_args!("because          {because}"));
    }
    line(format_args!("users            {users} to go, {} without a place", report.unplaced));
    for (because, users) in &report.unplaced_because {
        line(format_args!("                 {users} of them: {because}"));
    }
    if report.active > 0 {
        line(format_args!("left in peace    {} users in the middle of something", report.active));
    }
    for (what, at) in [("planned", report.planned_ms), ("durable", report.recorded_ms)] {
        if let Some(at) = at {
            line(format_args!("{what:16} after {}", seconds(at)));
        }
    }
    line(format_args!("bindings         {} of {} registered", report.registered, report.bindings));
    if let (Some(first), Some(last)) = (report.first_ms, report.last_ms) {
        let (first, last) = (seconds(first), seconds(last));
        line(format_args!("                 the first after {first}, the last after {last}"));
        line(format_args!("                 {} in the busiest second", report.peak_per_s));
    }
    for target in &report.targets {
        line(format_args!(
            "to {:13} {} users, {} bindings, at most {} REGISTERs out at once; serves {} of {}",
            target.server,
            target.users,
            target.registered,
            target.in_flight_peak,
            target.assigned,
            target.capacity
        ));
    }
    for stage in &report.stages {
        line(format_args!(
            "stage {:<10} {} users; looked at after {}: score {}, {} arrived, {} under way, {} in \
             trouble",
            stage.stage,
            stage.users,
            seconds(stage.judged_ms),
            stage.score,
            stage.arrived,
            stage.under_way,
            stage.in_trouble
        ));
    }
    for open in &report.open {
        let because = open.because.as_deref().unwrap_or("on its way");
        let (user, contact, standing) = (&open.user, &open.contact, &open.standing);
        line(format_args!("{standing:16} {user} {contact}: {because}"));
    }
    if report.open_more > 0 {
        line(format_args!("                 and {} more", report.open_more));
    }
    text
}

fn seconds(ms: u64) -> String {
    format!("{}.{:03} s", ms / 1_000, ms % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::{FaultReport, OpenBinding, StageReport, TargetReport};

    #[test]
    fn it_says_what_was_wrong_who_went_where_and_who_did_not() {
        let report = Report {
            id: "20261127T185501Z-failover-ucs2".into(),
            kind: "failover".into(),
            server: "ucs2".into(),
            outcome: "open".into(),
            began_unix_ms: 1_795_805_701_000,
            fault: Some(FaultReport {
                proof: "silence".into(),
                signals: vec!["3 probes in a row without any answer".into()],
                detection_ms: 2_900,
                hold_ms: 5_000,
            }),
            planned_ms: Some(5_010),
            users: 12,
            unplaced: 2,
            unplaced_because: [("full".into(), 2)].into(),
            bindings: 11,
            registered: 10,
            first_ms: Some(5_040),
            last_ms: Some(6_000),
            peak_per_s: 9,
            targets: vec![TargetReport {
                server: "ucs1".into(),
                users: 10,
                registered: 10,
                in_flight_peak: 4,
                assigned: 20,
                capacity: 20,
            }],
            open: vec![OpenBinding {
                user: "anna".into(),
                contact: "sip:anna@192.0.2.7".into(),
                standing: "failed".into(),
                because: Some("the server refused it with 403".into()),
            }],
            ..Report::default()
        };
        let text = text(&report);
        for part in [
            "failover, ucs2, Fri, 27 Nov 2026 18:55:01 GMT: open",
            "silence: 3 probes in a row without any answer",
            "2.900 s after the first sign, then 5.000 s of hold",
            "12 to go, 2 without a place",
            "2 of them: full",
            "10 of 11 registered",
            "9 in the busiest second",
            "to ucs1          10 users, 10 bindings, at most 4 REGISTERs out at once; serves 20 of 20",
            "failed           anna sip:anna@192.0.2.7: the server refused it with 403",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
    }

    #[test]
    fn a_return_shows_its_stages_and_has_no_fault() {
        let stage = StageReport {
            stage: 2,
            users: 50,
            judged_ms: 61_500,
            score: 95,
            arrived: 49,
            under_way: 0,
            in_trouble: 1,
        };
        let report = Report { kind: "return".into(), stages: vec![stage], ..Report::default() };
        let text = text(&report);
        let line = "stage 2          50 users; looked at after 61.500 s: score 95, 49 arrived";
        assert!(text.contains(line) && !text.contains("proof"), "{text}");
    }
}
