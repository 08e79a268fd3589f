//! `frontdoor demo`, as somebody types it who has never seen the program.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use crate::harness::{FRONTDOOR, run};

/// Every key of the report.
const KEYS: [&str; 27] = [
    "phones",
    "registered",
    "killed",
    "affected",
    "detect_ms",
    "rehomed",
    "rehome_first_ms",
    "rehome_p99_ms",
    "lost",
    "moved_others",
    "spread_error_pct",
    "returned",
    "stayed",
    "return_p99_s",
    "return_pace_per_s",
    "return_peak_per_s",
    "stages",
    "aborted",
    "clients",
    "clients_affected",
    "clients_affected_unreplayable",
    "client_sessions_kept",
    "client_sessions_returned",
    "client_sessions_lost",
    "client_messages_strange",
    "client_served_p99_ms",
    "client_resume_p99_ms",
];

/// Exit code and the one object on standard output.
fn demo(arguments: &[&str]) -> (Option<i32>, Value) {
    let output = run(Command::new(FRONTDOOR).arg("demo").args(arguments).arg("--json"));
    let (out, err) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_str(&out)
        .unwrap_or_else(|error| panic!("not one JSON object ({error}):\n{out}\n{err}"));
    let keys: BTreeSet<&str> = report.as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, BTreeSet::from(KEYS));
    (output.status.code(), report)
}

#[test]
fn the_demo_moves_everybody_of_the_killed_server_and_nobody_else() {
    let (code, report) = demo(&["--phones", "600", "--servers", "3", "--kill", "ucs2@1"]);
    assert_eq!(code, Some(0), "{report}");
    assert_eq!((&report["phones"], &report["registered"]), (&600.into(), &600.into()), "{report}");
    assert_eq!(report["killed"], "ucs2", "{report}");
    assert_eq!((&report["lost"], &report["moved_others"]), (&0.into(), &0.into()), "{report}");
    assert!(report["affected"].as_u64() > Some(0), "{report}");
    assert_eq!(report["rehomed"], report["affected"], "{report}");
    assert!(report["detect_ms"].as_f64().unwrap() <= 1_000.0, "{report}");
}

#[test]
fn the_demo_brings_everybody_home_in_stages() {
    let (code, report) =
        demo(&["--phones", "90", "--servers", "3", "--kill", "ucs2@0.5", "--return", "ucs2@1"]);
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(report["returned"], report["affected"], "{report}");
    assert_eq!((&report["stages"], &report["aborted"]), (&4.into(), &0.into()), "{report}");
    assert_eq!((&report["lost"], &report["moved_others"]), (&0.into(), &0.into()), "{report}");
    assert!(report["return_p99_s"].as_f64() > Some(0.0), "{report}");
}

#[test]
fn a_demo_that_loses_phones_says_so_and_fails() {
    let (code, report) = demo(&["--phones", "20", "--servers", "1", "--kill", "ucs1@0.5"]);
    assert_eq!(code, Some(1), "{report}");
    assert_eq!((&report["lost"], &report["rehomed"]), (&20.into(), &0.into()), "{report}");
}

/// A number of the report.
fn number(report: &Value, key: &str) -> u64 {
    report[key].as_u64().unwrap_or_else(|| panic!("{key} is no number: {report}"))
}

#[test]
fn clients_keep_their_sessions_and_the_others_come_back_and_all_is_right_at_home_again() {
    let (code, report) =
        demo(&["--phones", "60", "--clients", "120", "--kill", "ucs2@0.5", "--return", "ucs2@1"]);
    assert_eq!(code, Some(0), "{report}");
    let [clients, kept, back, lost] =
        ["clients", "client_sessions_kept", "client_sessions_returned", "client_sessions_lost"]
            .map(|key| number(&report, key));
    assert!(number(&report, "clients_affected") > 0, "{report}");
    assert_eq!((clients, lost), (120, 0), "{report}");
    assert_eq!(number(&report, "client_messages_strange"), 0, "{report}");
    // Whoever could be carried was, and nobody else was touched.
    assert_eq!(back, number(&report, "clients_affected_unreplayable"), "{report}");
    assert_eq!(kept, clients - back, "{report}");
    assert!(report["client_resume_p99_ms"].as_f64().unwrap() <= 10_000.0, "{report}");
    let home = number(&report, "returned") + number(&report, "stayed");
    assert_eq!(home, number(&report, "affected"), "{report}");
}

#[test]
fn a_demo_whose_clients_hear_nothing_any_more_says_so_and_fails() {
    let (code, report) = demo(&["--clients", "20", "--servers", "1", "--kill", "ucs1@0.5"]);
    assert_eq!(code, Some(1), "{report}");
    assert_eq!((&report["phones"], &report["clients"]), (&0.into(), &20.into()), "{report}");
    assert_eq!(report["client_sessions_lost"], 20, "{report}");
    assert_eq!(report["client_served_p99_ms"], Value::Null, "{report}");
}

#[test]
fn a_demo_with_a_server_that_is_not_there_does_not_start() {
    let output = run(Command::new(FRONTDOOR).args(["demo", "--kill", "ucs9@1", "--json"]));
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(error.contains("ucs9") && error.contains("ucs1"), "{error}");
    assert!(output.stdout.is_empty());
}
