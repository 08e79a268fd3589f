//! `frontdoor recovery`: who is away from home, how they come back, and telling the door when.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};

use crate::cli::{CliError, http, out, status, status_table};
use crate::config::token::{self, TokenFault};
use crate::door::{RecoveryStatus, RelocationStatus, Status};

/// Arguments of `recovery`.
#[derive(Debug, Args)]
pub(super) struct RecoveryArgs {
    #[command(subcommand)]
    order: Option<Order>,
    /// The door's admin address
    #[arg(long, value_name = "ADDRESS", default_value = status::ADMIN, global = true)]
    admin: SocketAddr,
    /// The file with the door's admin token, for what changes something
    #[arg(long, value_name = "FILE", default_value = "admin-token.key", global = true)]
    token_file: PathBuf,
    /// One JSON object on stdout
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Order {
    /// Nobody goes home until `resume`; returns under way stop
    Pause,
    /// Users may go home again
    Resume,
    /// Brings home now whoever belongs to this server, in stages
    Server {
        /// Its name
        name: String,
    },
    /// Brings one user home now
    User {
        /// Login name or address (sip:…)
        name: String,
    },
}

impl Order {
    fn path(&self) -> String {
        match self {
            Self::Pause => String::from("/v1/recovery/pause"),
            Self::Resume => String::from("/v1/recovery/resume"),
            Self::Server { name } => format!("/v1/servers/{}/return", http::escaped(name)),
            Self::User { name } => format!("/v1/users/{}/return", http::escaped(name)),
        }
    }
}

/// Shows the way home, or gives an order.
pub(super) fn run(args: &RecoveryArgs) -> Result<ExitCode, CliError> {
    if let Some(order) = &args.order {
        let token = token::read(&args.token_file)?
            .ok_or_else(|| TokenFault::Missing { path: args.token_file.clone() })?;
        http::post(args.admin, &order.path(), &token, None)?;
        if !args.json {
            out::line("done: frontdoor recovery shows what comes of it");
        }
        return Ok(ExitCode::SUCCESS);
    }
    if args.json {
        let recovery: serde_json::Value = http::get(args.admin, "/v1/recovery")?;
        out::json(&recovery);
    } else {
        let status: Status = http::get(args.admin, status::PATH)?;
        out::line(show(&status.recovery, status.at_nanos).trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

fn show(recovery: &RecoveryStatus, at_nanos: u64) -> String {
    let mut text = String::new();
    if recovery.paused {
        text.push_str("paused: nobody goes home until `frontdoor recovery resume`\n\n");
    }
    if recovery.homes.is_empty() {
        text.push_str("everybody is at home\n");
    } else {
        let header = ["HOME", "WHY NOBODY GOES NOW", "AWAY"].map(str::to_owned).to_vec();
        let mut rows = vec![header];
        rows.extend(recovery.homes.iter().map(|home| {
            let because = home.stay_because.as_deref().unwrap_or("they are going");
            vec![home.home.to_string(), because.to_owned(), home.away.to_string()]
        }));
        text.push_str(&status_table::columns(&rows, 2));
    }
    for run in &recovery.returns {
        text.push_str(&status_table::render_return(run, at_nanos));
    }
    text
}

/// Arguments of `relocations`.
#[derive(Debug, Args)]
pub(super) struct RelocationsArgs {
    /// Only users who are served by this server
    #[arg(long, value_name = "NAME")]
    server: Option<String>,
    /// Only users who belong to this server
    #[arg(long, value_name = "NAME")]
    home: Option<String>,
    /// Only users who are away for this reason: failover, drain, replanned or manual
    #[arg(long)]
    why: Option<String>,
    /// Only users whose login name or address begins so, with or without sip:
    #[arg(long)]
    prefix: Option<String>,
    /// The door's admin address
    #[arg(long, value_name = "ADDRESS", default_value = status::ADMIN)]
    admin: SocketAddr,
    /// One JSON object a user and line on stdout
    #[arg(long)]
    json: bool,
}

/// Lists who is away, page by page.
pub(super) fn relocations(args: &RelocationsArgs) -> Result<ExitCode, CliError> {
    let parameters = [
        ("server", args.server.clone()),
        ("home", args.home.clone()),
        ("why", args.why.clone()),
        ("prefix", args.prefix.clone()),
    ];
    let show = |page: &[RelocationStatus], first: bool| {
        if args.json {
            page.iter().for_each(out::json);
        } else {
            out::line(table(page, first).trim_end());
        }
    };
    let found = http::each_page(args.admin, "/v1/relocations", &parameters, show)?;
    if !found && !args.json {
        let filtered = parameters.iter().any(|(_, value)| value.is_some());
        out::line(if filtered { "no such users are away" } else { "everybody is at home" });
    }
    Ok(ExitCode::SUCCESS)
}

fn table(page: &[RelocationStatus], first: bool) -> String {
    let header = ["USER", "ORIGIN", "CURRENT", "SINCE", "WHY"].map(str::to_owned).to_vec();
    let mut rows = vec![header];
    rows.extend(page.iter().map(|user| {
        let date = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(user.date);
        vec![
            user.user.to_string(),
            user.origin.to_string(),
            user.current.to_string(),
            httpdate::fmt_http_date(date),
            user.why.to_string(),
        ]
    }));
    let table = status_table::columns(&rows, 5);
    if first { table } else { table.split_once('\n').map_or("", |(_, rows)| rows).to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::{AwayStatus, ReturnStatus};

    #[test]
    fn it_says_who_is_away_and_why_nobody_goes() {
        let recovery = RecoveryStatus {
            paused: true,
            homes: vec![AwayStatus {
                home: "ucs2".into(),
                away: 33,
                stay_because: Some("paused".into()),
            }],
            returns: vec![ReturnStatus {
                home: "ucs2".into(),
                state: "stopped".into(),
                stage: 2,
                stages: 4,
                users: 40,
                returned: 7,
                stay: 33,
                bindings: 9,
                arrived: 9,
                ended_nanos: 5_000_000_000,
                stopped_because: Some("paused".into()),
                ..ReturnStatus::default()
            }],
        };
        let text = show(&recovery, 65_000_000_000);
        assert!(text.starts_with("paused: nobody"), "{text}");
        assert!(text.contains("ucs2  paused                 33"), "{text}");
        assert!(
            text.contains(
                "return to ucs2, begun 65s ago: stopped (paused) in stage 2 of 4; \
                 7 of 40 users are home, 33 stay; 9 of 9 bindings arrived"
            ),
            "{text}"
        );
        assert_eq!(show(&RecoveryStatus::default(), 0), "everybody is at home\n");
    }
}
