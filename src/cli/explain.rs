//! `frontdoor explain` and `frontdoor what-if`: what the door decides, and what it would.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::process::ExitCode;

use clap::Args;

use crate::cli::{CliError, http, out, status, status_table};
use crate::door::{Explanation, PlannedMove, WhatIf};

/// Moves asked for at once.
const PAGE: usize = 1_000;

/// Arguments of `explain`.
#[derive(Debug, Args)]
pub(super) struct ExplainArgs {
    /// The user, by login name or address (sip:…)
    user: String,
    /// The door's admin address
    #[arg(long, value_name = "ADDRESS", default_value = status::ADMIN)]
    admin: SocketAddr,
    /// One JSON object on stdout
    #[arg(long)]
    json: bool,
}

/// Asks the door.
pub(super) fn run(args: &ExplainArgs) -> Result<ExitCode, CliError> {
    let path = format!("/v1/explain/{}", http::escaped(&args.user));
    let explanation: Explanation = http::get(args.admin, &path)?;
    if args.json {
        out::json(&explanation);
    } else {
        out::line(explained(&explanation).trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

fn explained(it: &Explanation) -> String {
    let server = it.server.as_deref().map(|server| format!(" {server}")).unwrap_or_default();
    let mut text = format!("{}: {}{server}\n", it.user, it.outcome);
    // Writing to a String cannot fail.
    let _ok = writeln!(text, "because {} ({})", it.sentence, it.because);
    let place = |place: &Option<std::sync::Arc<str>>| place.as_deref().unwrap_or("none").to_owned();
    let _ok = writeln!(text, "home {}, current {}", place(&it.home), place(&it.current));
    if let (Some(why), Some(at)) = (&it.relocated_why, it.relocated_at) {
        let (from, date) = (place(&it.relocated_from), date(at));
        let _ok = writeln!(text, "away from {from} since {date}: {why}");
    }
    text.push('\n');
    let header = ["CANDIDATE", "STATE", "WOULD IT TAKE THEM", "SCORE", "ROOM"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(it.candidates.iter().map(|candidate| {
        let takes = match (&candidate.refuses, candidate.best) {
            (Some(refusal), _) => format!("no: {refusal}"),
            (None, true) => String::from("yes, first of all"),
            (None, false) => String::from("yes"),
        };
        let takes = match &candidate.lost_system {
            Some(system) => format!("{takes}; it does not reach {system}"),
            None => takes,
        };
        let state = match candidate.dead_planes.join(", ") {
            dead if dead.is_empty() => candidate.state.to_string(),
            dead => format!("{} ({dead} dead)", candidate.state),
        };
        vec![
            candidate.server.to_string(),
            state,
            takes,
            candidate.score.to_string(),
            candidate.free.to_string(),
        ]
    }));
    text.push_str(&status_table::columns(&rows, 3));
    if !it.history.is_empty() {
        let header = ["MOVED", "FROM", "TO", "WHY", "EPOCH"];
        let mut rows = vec![header.map(str::to_owned).to_vec()];
        rows.extend(it.history.iter().map(|moved| {
            let names = [&moved.from, &moved.to, &moved.why].map(|name| name.to_string());
            let mut row = vec![date(moved.date)];
            row.extend(names);
            row.push(moved.epoch.to_string());
            row
        }));
        text.push('\n');
        text.push_str(&status_table::columns(&rows, 4));
    }
    text
}

fn date(seconds: u64) -> String {
    let since = std::time::Duration::from_secs(seconds);
    httpdate::fmt_http_date(std::time::SystemTime::UNIX_EPOCH + since)
}

/// Arguments of `what-if`.
#[derive(Debug, Args)]
pub(super) struct WhatIfArgs {
    /// A server that dies; may be repeated: they die together
    #[arg(long, value_name = "NAME", required = true)]
    kill: Vec<String>,
    /// Also list every user who would move
    #[arg(long)]
    users: bool,
    /// The door's admin address
    #[arg(long, value_name = "ADDRESS", default_value = status::ADMIN)]
    admin: SocketAddr,
    /// One JSON object on stdout; with --users, after it one a user and line
    #[arg(long)]
    json: bool,
}

/// Asks the door.
pub(super) fn what_if(args: &WhatIfArgs) -> Result<ExitCode, CliError> {
    let kills: Vec<String> =
        args.kill.iter().map(|name| format!("kill={}", http::escaped(name))).collect();
    let ask = |from: usize, count: usize| {
        let path = format!("/v1/what-if?{}&from={from}&count={count}", kills.join("&"));
        http::get::<WhatIf>(args.admin, &path)
    };
    let answer = ask(0, 0)?;
    if args.json {
        out::json(&answer);
    } else {
        out::line(foretold(&answer).trim_end());
    }
    if !args.users {
        return Ok(ExitCode::SUCCESS);
    }
    let mut from = 0;
    loop {
        let page = ask(from, PAGE)?.moves;
        if page.is_empty() {
            break;
        }
        if args.json {
            page.iter().for_each(out::json);
        } else {
            out::line(moves(&page, from == 0).trim_end());
        }
        from += page.len();
    }
    Ok(ExitCode::SUCCESS)
}

fn foretold(it: &WhatIf) -> String {
    let killed = it.killed.join(" and ");
    let mut text = format!("If {killed} died now, {} users would have to go.\n", it.users);
    match &it.because {
        // Writing to a String cannot fail.
        Some(because) => {
            let _ok =
                writeln!(text, "Nobody would be moved: {because}. Were they, then like this:");
        }
        None if it.users == 0 => text.push_str("Nobody is served there.\n"),
        None => {}
    }
    if it.unplaced > 0 {
        let because = it.unplaced_because.iter();
        let because: Vec<_> = because.map(|(why, users)| format!("{why} {users}")).collect();
        let because = because.join(", ");
        let _ok = writeln!(text, "{} of them would have nowhere to go ({because}).", it.unplaced);
    }
    if let Some(seconds) = it.seconds {
        let _ok = writeln!(text, "At the configured pace that takes {seconds} s.");
    }
    text.push('\n');
    let header = ["SERVER", "BEFORE", "GO", "COME", "AFTER", "CAPACITY"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(it.servers.iter().map(|load| {
        let numbers = [load.before, load.go, load.come, load.after, load.capacity];
        let mut row = vec![load.server.to_string()];
        row.extend(numbers.map(|number| number.to_string()));
        row
    }));
    text.push_str(&status_table::columns(&rows, 1));
    text
}

pub(super) fn moves(page: &[PlannedMove], first: bool) -> String {
    let mut rows = vec![["USER", "FROM", "TO"].map(str::to_owned).to_vec()];
    rows.extend(
        page.iter()
            .map(|step| vec![step.user.to_string(), step.from.to_string(), step.to.to_string()]),
    );
    let table = status_table::columns(&rows, 3);
    if first {
        format!("\n{table}")
    } else {
        table.split_once('\n').map_or("", |(_, rows)| rows).to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::{Candidate, MovedStatus, ServerLoad};

    #[test]
    fn an_explanation_names_every_candidate() {
        let it = Explanation {
            user: "anna".into(),
            outcome: "relocate".into(),
            server: Some("ucs3".into()),
            because: "current_failed".into(),
            sentence: "the current server failed".into(),
            home: Some("ucs1".into()),
            current: Some("ucs1".into()),
            relocated_from: Some("ucs9".into()),
            relocated_why: Some("failover".into()),
            relocated_at: Some(0),
            history: vec![MovedStatus {
                date: 60,
                from: "ucs9".into(),
                to: "ucs1".into(),
                why: "failover".into(),
                epoch: 3,
            }],
            candidates: vec![
                Candidate {
                    server: "ucs2".into(),
                    state: "up".into(),
                    score: 90,
                    free: 0,
                    best: false,
                    lost_system: Some("pbx".into()),
                    dead_planes: Vec::new(),
                    refuses: Some("full".into()),
                },
                Candidate {
                    server: "ucs3".into(),
                    state: "up".into(),
                    score: 100,
                    free: 7,
                    best: true,
                    lost_system: None,
                    dead_planes: Vec::new(),
                    refuses: None,
                },
                Candidate {
                    server: "ucs4".into(),
                    state: "partial".into(),
                    dead_planes: vec!["client".into()],
                    refuses: Some("state".into()),
                    ..Candidate::default()
                },
            ],
            ..Explanation::default()
        };
        let text = explained(&it);
        assert!(
            text.starts_with(
                "anna: relocate ucs3\nbecause the current server failed (current_failed)"
            ),
            "{text}"
        );
        let moved = "Thu, 01 Jan 1970 00:01:00 GMT  ucs9  ucs1  failover      3";
        assert!(text.trim_end().ends_with(moved), "{text}");
        let away = "away from ucs9 since Thu, 01 Jan 1970 00:00:00 GMT: failover";
        assert!(text.contains(away), "{text}");
        assert!(
            text.contains(
                "ucs2       up                     no: full; it does not reach pbx     90     0"
            ),
            "{text}"
        );
        assert!(
            text.contains(
                "ucs3       up                     yes, first of all                  100     7"
            ),
            "{text}"
        );
        assert!(text.contains("ucs4       partial (client dead)  no: state"), "{text}");
    }

    #[test]
    fn a_what_if_says_what_does_not_fit_and_why_nobody_would_move() {
        let it = WhatIf {
            killed: vec!["ucs2".into()],
            because: Some("distribution_disabled".into()),
            users: 10,
            unplaced: 4,
            unplaced_because: [("full".into(), 4)].into(),
            seconds: Some(3),
            servers: vec![ServerLoad {
                server: "ucs1".into(),
                capacity: 16,
                before: 10,
                go: 0,
                come: 6,
                after: 16,
            }],
            ..WhatIf::default()
        };
        let text = foretold(&it);
        assert!(text.contains("If ucs2 died now, 10 users would have to go."), "{text}");
        assert!(text.contains("Nobody would be moved: distribution_disabled"), "{text}");
        assert!(text.contains("4 of them would have nowhere to go (full 4)."), "{text}");
        assert!(text.contains("takes 3 s"), "{text}");
        assert!(text.contains("ucs1        10   0     6     16        16"), "{text}");
    }
}
