//! A [`Status`] as a person reads it.

use std::fmt::Write as _;
use std::time::Duration;

use crate::door::{
    DepartureStatus, FailoverStatus, ReturnStatus, ShortfallStatus, Status, SystemStatus,
};
use crate::now::Uptime;

/// Cells of a progress bar.
const BAR_CELLS: usize = 24;

/// Servers, totals, failovers, and whatever is wrong.
pub(super) fn render(status: &Status) -> String {
    let mut text = servers(status);
    let progress = status.progress;
    // Writing to a String cannot fail.
    let _ok = writeln!(
        text,
        "\nusers {}, away from home {}, without a place {}",
        status.users, status.relocated, status.unplaced
    );
    let _ok = writeln!(
        text,
        "bindings {}: {} settled, {} moving, {} wait for their phone, {} held, {} failed",
        status.bindings,
        progress.settled,
        progress.moving,
        progress.awaiting_phone,
        progress.held,
        progress.failed
    );
    for failover in &status.failovers {
        text.push_str(&render_failover(failover, status.at_nanos));
    }
    for run in &status.recovery.returns {
        text.push_str(&render_return(run, status.at_nanos));
    }
    for run in &status.departures {
        text.push_str(&render_departure(run, status.at_nanos));
    }
    if status.recovery.paused {
        text.push_str("the way home is paused: frontdoor recovery resume\n");
    }
    for server in status.servers.iter().filter(|server| !server.other_realm_than.is_empty()) {
        let _ok = writeln!(
            text,
            "{} has another realm ({}) than {}: nobody is moved between them",
            server.name,
            server.realms.join(", "),
            server.other_realm_than.join(", ")
        );
    }
    if let Some(ShortfallStatus { server, users, unplaced }) = &status.shortfall {
        let _ok = writeln!(
            text,
            "ALARM: one more failure does not fit: if {server} fails, {unplaced} of its {users} users \
             find no place; add a server or raise capacities"
        );
    }
    for system in &status.telephone_systems {
        text.push_str(&telephone_system(system));
    }
    let paced = |name: &str| status.telephone_systems.iter().any(|system| &*system.name == name);
    for server in &status.servers {
        let lost =
            server.telephone_systems.iter().filter(|(name, reached)| !**reached && !paced(name));
        for (name, _) in lost {
            let _ok = writeln!(text, "ALARM: {} lost telephone system {name}", server.name);
        }
    }
    if status.distribution_disabled {
        text.push_str("automatic distribution is disabled: a failed server's users stay\n");
    }
    match status.suspicion.as_deref() {
        Some("own_network") => {
            text.push_str("ALARM: too many servers fell silent at once; the door suspects its own network and moves nobody\n");
        }
        Some(plane) if plane.starts_with("plane_") => {
            let plane = plane.trim_start_matches("plane_");
            let _ok = writeln!(
                text,
                "ALARM: the {plane} plane is dead on too many servers that answer on others; what it \
                 shares is suspected, or the way to it, and nobody is moved for it"
            );
        }
        Some("shared_backend") => {
            text.push_str("ALARM: every server fails the same way; a shared telephone system, SQL or Redis is suspected, nobody is moved\n");
        }
        Some(other) => {
            let _ok = writeln!(text, "ALARM: nobody is moved: {other}");
        }
        None => {}
    }
    if let Some(store) = &status.store {
        let _ok = writeln!(text, "ALARM: {store}");
    }
    text
}

/// One telephone system, if there is anything to say of it.
fn telephone_system(system: &SystemStatus) -> String {
    let mut text = String::new();
    let SystemStatus { name, window, in_flight, queued, reached_by, lost_by } = system;
    if *queued > 0 {
        // Writing to a String cannot fail.
        let _ok = writeln!(
            text,
            "telephone system {name}: {queued} registrations wait for it, {in_flight} of {window} in flight"
        );
    }
    if lost_by.is_empty() {
        return text;
    }
    let lost = lost_by.join(", ");
    let _ok = if reached_by.is_empty() {
        writeln!(text, "ALARM: no server reaches telephone system {name}: nobody is moved for that")
    } else {
        writeln!(
            text,
            "ALARM: {lost} lost telephone system {name}, which {} reach: whoever needs it goes there last of all",
            reached_by.join(", ")
        )
    };
    text
}

/// The planes of servers that serve several: which of them does not answer, and since when.
fn planes(status: &Status) -> String {
    let mut text = String::new();
    for server in status.servers.iter().filter(|server| server.planes.len() > 1) {
        let each = server.planes.iter().map(|it| {
            let since = ago(it.since_nanos, status.at_nanos);
            let proof = it.proof.as_ref().map(|proof| format!(" ({proof})")).unwrap_or_default();
            let uncounted = if it.counts { "" } else { ", does not count" };
            format!("{} {}{proof} {since}{uncounted}", it.plane, it.state)
        });
        // Writing to a String cannot fail.
        let _ok = writeln!(text, "{}: {}", server.name, each.collect::<Vec<_>>().join("; "));
    }
    text
}

/// The servers as aligned columns.
pub(super) fn servers(status: &Status) -> String {
    let header = [
        "SERVER",
        "STATE",
        "SINCE",
        "SCORE",
        "USERS",
        "CAPACITY",
        "HOME TO",
        "BINDINGS",
        "IN FLIGHT",
        "QUEUED",
    ];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for server in &status.servers {
        let state = match &server.proof {
            Some(proof) => format!("{} ({proof})", server.state),
            None => server.state.to_string(),
        };
        rows.push(vec![
            server.name.to_string(),
            state,
            ago(server.since_nanos, status.at_nanos),
            server.score.to_string(),
            server.assigned.to_string(),
            server.capacity.to_string(),
            server.home_to.to_string(),
            server.bindings.to_string(),
            server.in_flight.to_string(),
            server.queued.to_string(),
        ]);
    }
    columns(&rows, 3) + &planes(status)
}

/// One failover on two lines.
pub(super) fn render_failover(failover: &FailoverStatus, at_nanos: u64) -> String {
    let mut text = String::new();
    let since = ago(failover.detected_nanos, at_nanos);
    let _ok = write!(
        text,
        "\nfailover of {} ({}), {since} ago: {} users",
        failover.server, failover.proof, failover.users
    );
    if failover.unplaced > 0 {
        let _ok = write!(text, ", {} of them have nowhere to go", failover.unplaced);
        let because = failover.unplaced_because.iter();
        let because: Vec<_> = because.map(|(why, users)| format!("{why} {users}")).collect();
        if !because.is_empty() {
            let _ok = write!(text, " ({})", because.join(", "));
        }
    }
    if let Some(why) = &failover.why_not {
        let _ok = writeln!(text, "; nobody is moved: {why}");
        return text;
    }
    let _ok = writeln!(text, "\n  {}", progress(failover, at_nanos));
    text
}

/// One return on two lines.
pub(super) fn render_return(run: &ReturnStatus, at_nanos: u64) -> String {
    let mut text = String::new();
    let begun = ago(run.began_nanos, at_nanos);
    let by_hand = if run.by_hand { " by hand" } else { "" };
    let because = run.stopped_because.as_deref();
    let because = because.map(|because| format!(" ({because})")).unwrap_or_default();
    let _ok = write!(
        text,
        "\nreturn to {}, begun{by_hand} {begun} ago: {}{because} in stage {} of {}; \
         {} of {} users are home",
        run.home, run.state, run.stage, run.stages, run.returned, run.users
    );
    if run.stay > 0 {
        let _ok = write!(text, ", {} stay", run.stay);
    }
    if run.active > 0 {
        let _ok = write!(text, ", {} more were in the middle of something", run.active);
    }
    let _ok = writeln!(text, "; {} of {} bindings arrived", run.arrived, run.bindings);
    text
}

/// A drain or a rebalance.
fn render_departure(run: &DepartureStatus, at_nanos: u64) -> String {
    let mut text = String::new();
    let begun = ago(run.began_nanos, at_nanos);
    let server = run.server.as_deref().map(|server| format!(" of {server}")).unwrap_or_default();
    let because = run.because.as_deref().map(|it| format!(" ({it})")).unwrap_or_default();
    let _ok = write!(
        text,
        "\n{}{server}, ordered {begun} ago: {}{because}; {} of {} users have gone",
        run.cause, run.state, run.moved, run.users
    );
    for (many, what) in [
        (run.left, "are left"),
        (run.active, "are in the middle of something"),
        (run.unplaced, "have nowhere to go"),
        (run.stayed, "keep their home"),
    ] {
        if many > 0 {
            let _ok = write!(text, ", {many} {what}");
        }
    }
    let _ok = writeln!(text, "; {} of {} bindings arrived", run.arrived, run.bindings);
    text
}

/// A bar, the count, the rate, and what is left.
pub(super) fn progress(failover: &FailoverStatus, at_nanos: u64) -> String {
    let (done, all) = (failover.rehomed, failover.bindings);
    if failover.recorded_nanos == 0 && failover.users > failover.unplaced {
        return format!("{} the relocations are being recorded", bar(0, 1));
    }
    let bar = bar(done, all);
    if done >= all {
        let took = millis(failover.last_nanos.saturating_sub(failover.detected_nanos));
        return format!("{bar} {done} of {all} bindings, done in {took}");
    }
    let running = Duration::from_nanos(at_nanos.saturating_sub(failover.planned_nanos));
    let per_second = done as f64 / running.as_secs_f64().max(0.001);
    let left = match per_second {
        rate if rate >= 1.0 => format!("{:.0} s left", (all - done) as f64 / rate),
        _ => String::from("time left unknown"),
    };
    format!("{bar} {done} of {all} bindings, {per_second:.0}/s, {left}")
}

/// A bar of [`BAR_CELLS`] cells.
pub(super) fn bar(done: u64, all: u64) -> String {
    let share = if all == 0 { 1.0 } else { done.min(all) as f64 / all as f64 };
    let filled = (share * BAR_CELLS as f64) as usize;
    format!("[{}{}]", "#".repeat(filled), ".".repeat(BAR_CELLS - filled))
}

/// Rows as aligned columns; the first `left` columns are text, the others numbers.
pub(super) fn columns(rows: &[Vec<String>], left: usize) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let gap = if column == 0 { "" } else { "  " };
            let _ok = if column < left {
                write!(line, "{gap}{cell:<width$}")
            } else {
                write!(line, "{gap}{cell:>width$}")
            };
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// How long ago something was, in its largest unit.
fn ago(then_nanos: u64, at_nanos: u64) -> String {
    let secs = Uptime::from_nanos(at_nanos).since(Uptime::from_nanos(then_nanos)).as_secs();
    match secs {
        0..=119 => format!("{secs}s"),
        120..=7_199 => format!("{}m", secs / 60),
        7_200..=172_799 => format!("{}h", secs / 3_600),
        _ => format!("{}d", secs / 86_400),
    }
}

fn millis(nanos: u64) -> String {
    match nanos / 1_000_000 {
        millis @ 0..=9_999 => format!("{millis} ms"),
        millis => format!("{:.1} s", millis as f64 / 1_000.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::{PlaneStatus, ServerStatus};

    const SECOND: u64 = 1_000_000_000;

    fn failover(done: u64) -> FailoverStatus {
        FailoverStatus {
            server: "ucs2".into(),
            proof: "refused".into(),
            detected_nanos: 100 * SECOND,
            planned_nanos: 100 * SECOND,
            recorded_nanos: 100 * SECOND,
            users: 400,
            bindings: 400,
            rehomed: done,
            last_nanos: 102 * SECOND,
            ..FailoverStatus::default()
        }
    }

    #[test]
    fn the_servers_stand_in_columns() {
        let server = ServerStatus {
            name: "ucs1".into(),
            state: "down".into(),
            proof: Some("refused".into()),
            score: 100,
            since_nanos: 40 * SECOND,
            assigned: 12,
            capacity: 5000,
            ..ServerStatus::default()
        };
        let short =
            ServerStatus { name: "x".into(), state: "up".into(), ..ServerStatus::default() };
        let status =
            Status { at_nanos: 100 * SECOND, servers: vec![server, short], ..Status::default() };
        let table = servers(&status);
        assert_eq!(
            table,
            "SERVER  STATE           SINCE  SCORE  USERS  CAPACITY  HOME TO  BINDINGS  IN FLIGHT  QUEUED\n\
             ucs1    down (refused)  60s      100     12      5000        0         0          0       0\n\
             x       up              100s       0      0         0        0         0          0       0\n"
        );
    }

    #[test]
    fn the_planes_of_a_server_that_serves_several_are_told() {
        let plane = |plane: &str, state: &str, proof: Option<&str>, counts| PlaneStatus {
            plane: plane.into(),
            state: state.into(),
            since_nanos: 88 * SECOND,
            counts,
            proof: proof.map(Into::into),
        };
        let server = ServerStatus {
            name: "ucs1".into(),
            state: "partial".into(),
            proof: Some("plane_client".into()),
            planes: vec![
                plane("sip", "alive", None, true),
                plane("csta", "unheard", Some("silence"), false),
                plane("client", "dead", Some("refused"), true),
            ],
            ..ServerStatus::default()
        };
        let one = ServerStatus {
            name: "x".into(),
            planes: vec![plane("sip", "alive", None, true)],
            ..ServerStatus::default()
        };
        let status =
            Status { at_nanos: 100 * SECOND, servers: vec![server, one], ..Status::default() };
        let table = servers(&status);
        assert!(table.contains("ucs1    partial (plane_client)"), "{table}");
        assert!(
            table.ends_with(
                "\nucs1: sip alive 12s; csta unheard (silence) 12s, does not count; \
                 client dead (refused) 12s\n"
            ),
            "{table}"
        );
    }

    #[test]
    fn a_move_under_way_shows_its_rate_and_what_is_left() {
        assert_eq!(
            progress(&failover(100), 101 * SECOND),
            "[######..................] 100 of 400 bindings, 100/s, 3 s left"
        );
        assert_eq!(
            progress(&failover(0), 100 * SECOND),
            "[........................] 0 of 400 bindings, 0/s, time left unknown"
        );
    }

    #[test]
    fn a_move_that_is_done_says_how_long_it_took() {
        assert_eq!(
            progress(&failover(400), 200 * SECOND),
            "[########################] 400 of 400 bindings, done in 2000 ms"
        );
    }

    #[test]
    fn a_move_that_is_not_recorded_yet_is_not_done() {
        let failover = FailoverStatus { bindings: 0, recorded_nanos: 0, ..failover(0) };
        assert_eq!(
            progress(&failover, 100 * SECOND),
            "[........................] the relocations are being recorded"
        );
    }

    #[test]
    fn a_failover_without_moves_says_why() {
        let failover =
            FailoverStatus { why_not: Some("distribution_disabled".into()), ..failover(0) };
        assert_eq!(
            render_failover(&failover, 105 * SECOND),
            "\nfailover of ucs2 (refused), 5s ago: 400 users; nobody is moved: distribution_disabled\n"
        );
    }

    #[test]
    fn an_alarm_is_not_overlooked() {
        let status = Status { suspicion: Some("own_network".into()), ..Status::default() };
        assert!(render(&status).contains("ALARM: too many servers fell silent at once"));
    }
}
