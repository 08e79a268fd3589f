//! `frontdoor reports`: what failovers, drills and returns were like; `frontdoor drill`: one on
//! purpose.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::thread::park_timeout;
use std::time::{Duration, SystemTime};

use clap::Args;

use crate::cli::orders::Desk;
use crate::cli::{CliError, http, out, status, status_table};
use crate::door::Report;
use crate::net::Clock;
use crate::reports::text;

const PATH: &str = "/v1/reports";
/// A drill takes two minutes at most, and its report comes within a minute of silence.
const DRILL_PATIENCE: Duration = Duration::from_secs(190);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Arguments of `reports`.
#[derive(Debug, Args)]
pub(super) struct ReportsArgs {
    /// The report to show whole: its id, or `last`
    id: Option<String>,
    /// The door's admin address
    #[arg(long, value_name = "ADDRESS", default_value = status::ADMIN)]
    admin: SocketAddr,
    /// One JSON object on stdout, or one a line
    #[arg(long)]
    json: bool,
}

/// Lists the newest, or shows one.
pub(super) fn run(args: &ReportsArgs) -> Result<ExitCode, CliError> {
    let Some(id) = &args.id else {
        let reports: Vec<Report> = http::get(args.admin, PATH)?;
        if args.json {
            reports.iter().for_each(out::json);
        } else {
            out::line(list(&reports).trim_end());
        }
        return Ok(ExitCode::SUCCESS);
    };
    let report = match id.as_str() {
        "last" => http::get::<Vec<Report>>(args.admin, PATH)?.pop().ok_or(CliError::NoReport)?,
        id => http::get(args.admin, &format!("{PATH}/{}", http::escaped(id)))?,
    };
    show(&report, args.json);
    Ok(ExitCode::SUCCESS)
}

/// Arguments of `drill`.
#[derive(Debug, Args)]
pub(super) struct DrillArgs {
    /// The server whose failure is played
    #[arg(long)]
    server: String,
    #[command(flatten)]
    desk: Desk,
}

/// Plays a failover, waits for its report and shows it.
pub(super) fn drill(args: &DrillArgs) -> Result<ExitCode, CliError> {
    let Desk { admin, json, .. } = args.desk;
    let before: Vec<Report> = http::get(admin, PATH)?;
    args.desk.order(&format!("/v1/servers/{}/drill", http::escaped(&args.server)), None)?;
    let until = Clock.uptime() + DRILL_PATIENCE;
    while Clock.uptime() < until {
        park_timeout(LOOK_EVERY);
        let reports: Vec<Report> = http::get(admin, PATH)?;
        let ours = |it: &&Report| {
            let new = before.iter().all(|older| older.id != it.id);
            new && &*it.kind == "drill" && *it.server == *args.server
        };
        if let Some(report) = reports.iter().rev().find(ours) {
            show(report, json);
            if !json {
                out::line(
                    "\nthe server is looked over now, as after a failure; then its users come home \
                     by the rules (frontdoor recovery), and that is reported, too",
                );
            }
            return Ok(ExitCode::SUCCESS);
        }
    }
    Err(CliError::NoReport)
}

fn show(report: &Report, json: bool) {
    if json {
        out::json(report);
    } else {
        out::line(text(report).trim_end());
    }
}

fn list(reports: &[Report]) -> String {
    if reports.is_empty() {
        return "there are no reports yet: no server has failed\n".to_owned();
    }
    let header = ["ID", "OUTCOME", "BEGAN", "USERS", "BINDINGS", "REGISTERED"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    rows.extend(reports.iter().map(|it| {
        let began = SystemTime::UNIX_EPOCH + Duration::from_millis(it.began_unix_ms);
        let numbers = [it.users, it.bindings, it.registered].map(|number| number.to_string());
        let words = [it.id.clone(), it.outcome.to_string(), httpdate::fmt_http_date(began)];
        words.into_iter().chain(numbers).collect()
    }));
    status_table::columns(&rows, 3)
        + "\nfrontdoor reports ID shows one whole; `last` is the newest\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_a_line_a_report() {
        assert!(list(&[]).contains("no reports yet"));
        let report = Report {
            id: "20261127T185501Z-failover-ucs2".into(),
            outcome: "done".into(),
            users: 12,
            ..Report::default()
        };
        let text = list(&[report]);
        let row = text.lines().nth(1).unwrap_or_default();
        assert!(row.starts_with("20261127T185501Z-failover-ucs2  done"), "{text}");
        assert!(row.trim_end().ends_with('0'), "{text}");
    }
}
