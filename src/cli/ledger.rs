//! `frontdoor export` and `frontdoor import`: the users, their homes and where they are, as a file.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use clap::Args;
use serde_json::json;

use crate::cli::orders::Desk;
use crate::cli::{CliError, http, out, status};
use crate::directory::Aor;
use crate::directory::import::{self, AWAY_HEADER, HEADER, ImportError, Imported};
use crate::door::UserStatus;

/// Arguments of `export`.
#[derive(Debug, Args)]
pub(super) struct ExportArgs {
    /// The door's admin address
    #[arg(long, value_name = "ADDRESS", default_value = status::ADMIN)]
    admin: SocketAddr,
    /// JSON instead of CSV: what `import` takes, without who is away
    #[arg(long)]
    json: bool,
}

/// Arguments of `import`.
#[derive(Debug, Args)]
pub(super) struct ImportArgs {
    /// CSV with the header that `export` writes, or JSON where the name ends so
    file: PathBuf,
    /// Only says what would change, and whether it could
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    desk: Desk,
}

/// Why a file of users was not taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// It cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A line is wrong; nothing was imported.
    #[error("{}, {source}; nothing was imported", path.display())]
    Line {
        /// Which.
        path: PathBuf,
        /// What is wrong, and where.
        source: ImportError,
    },
    /// It is no such JSON.
    #[error(
        "{}: {source}; expected a list such as `frontdoor export --json` writes; nothing was imported",
        path.display()
    )]
    Json {
        /// Which.
        path: PathBuf,
        /// What is wrong, and where.
        source: serde_json::Error,
    },
}

/// Writes all users to standard output.
pub(super) fn export(args: &ExportArgs) -> Result<ExitCode, CliError> {
    let mut users = Vec::new();
    http::each_page(args.admin, "/v1/users", &[], |page: &[UserStatus], _| {
        users.extend_from_slice(page);
    })?;
    if args.json {
        out::json(&users.iter().map(as_imported).collect::<Vec<_>>());
    } else {
        out::line(csv(&users).trim_end());
    }
    Ok(ExitCode::SUCCESS)
}

/// Hands a file over; all of it is taken, or nothing is.
pub(super) fn import(args: &ImportArgs) -> Result<ExitCode, CliError> {
    let users = read(&args.file)?;
    let mut known = HashMap::new();
    http::each_page(args.desk.admin, "/v1/users", &[], |page: &[UserStatus], _| {
        known.extend(page.iter().map(|user| (Arc::clone(&user.name), as_imported(user))));
    })?;
    let (new, changed) = differences(&users, &known);
    let body = json!({ "users": users, "check": args.check });
    args.desk.order("/v1/import", Some(&body))?;
    let same = users.len() - new - changed;
    if args.desk.json {
        out::json(&json!({ "added": new, "changed": changed, "same": same, "done": !args.check }));
    } else {
        let done = if args.check { "could be imported" } else { "imported" };
        out::line(format!(
            "{done}: {new} users are new, {changed} change, {same} are so already; no connection is \
             moved, another home counts at the next login"
        ));
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path) -> Result<Vec<Imported>, FileError> {
    let unreadable = |source| FileError::Read { path: path.to_owned(), source };
    let octets = std::fs::read(path).map_err(unreadable)?;
    let wrong = |source| FileError::Line { path: path.to_owned(), source };
    if path.extension().is_some_and(|it| it.eq_ignore_ascii_case("json")) {
        let users: Vec<Imported> = serde_json::from_slice(&octets)
            .map_err(|source| FileError::Json { path: path.to_owned(), source })?;
        return import::check(&users).map_err(wrong);
    }
    import::read_csv(&octets).map_err(wrong)
}

/// How many users nobody knows yet, and how many are not as the file says.
fn differences(users: &[Imported], known: &HashMap<Arc<str>, Imported>) -> (usize, usize) {
    let (mut new, mut changed) = (0, 0);
    for user in users {
        match known.get(&user.name) {
            None => new += 1,
            Some(known) => {
                let adds = user.aors.iter().any(|aor| !known.aors.contains(aor))
                    || user.lines.iter().any(|line| !known.lines.contains(line));
                let home = user.home.is_some() && user.home != known.home;
                changed += usize::from(adds || home || user.enabled != known.enabled);
            }
        }
    }
    (new, changed)
}

fn as_imported(user: &UserStatus) -> Imported {
    Imported {
        line: None,
        name: Arc::clone(&user.name),
        aors: user.aors.iter().map(|aor| Aor::from_canonical(Arc::clone(aor))).collect(),
        lines: user.lines.clone(),
        home: user.home.clone(),
        enabled: user.enabled,
    }
}

/// RFC 4180.
fn csv(users: &[UserStatus]) -> String {
    let mut text = format!("{HEADER},{AWAY_HEADER}\n");
    for user in users {
        let date = user
            .relocated_at
            .map(|at| httpdate::fmt_http_date(SystemTime::UNIX_EPOCH + Duration::from_secs(at)));
        let target = user.relocated_at.and(user.current.as_deref());
        let fields = [
            &*user.name,
            &user.aors.join(" "),
            &user.lines.join(" "),
            user.home.as_deref().unwrap_or_default(),
            if user.enabled { "true" } else { "false" },
            user.relocated_from.as_deref().unwrap_or_default(),
            date.as_deref().unwrap_or_default(),
            target.unwrap_or_default(),
            user.relocated_why.as_deref().unwrap_or_default(),
        ];
        text.push_str(&fields.map(quoted).join(","));
        text.push('\n');
    }
    text
}

fn quoted(field: &str) -> String {
    if field.contains([',', '"', '\n', '\r']) || field.trim() != field {
        format!("\"{}\"", field.replace('"', "\"\""))
    } else {
        field.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> UserStatus {
        UserStatus {
            name: name.into(),
            aors: vec!["sip:anna@example.com".into(), "sip:200@example.com".into()],
            lines: vec!["200".into()],
            enabled: true,
            home: Some("ucs1".into()),
            current: Some("ucs2".into()),
            relocated_from: Some("ucs1".into()),
            relocated_at: Some(1_764_201_600),
            relocated_why: Some("failover".into()),
            ..UserStatus::default()
        }
    }

    #[test]
    fn what_is_exported_can_be_imported_and_is_the_same() {
        let users = [user("anna"), UserStatus { enabled: false, ..user("Müller, \"B\"") }];
        let users = [
            users[0].clone(),
            UserStatus { aors: Vec::new(), lines: Vec::new(), ..users[1].clone() },
        ];
        let text = csv(&users);
        let line = text.lines().nth(1).unwrap();
        assert_eq!(
            line,
            "anna,sip:anna@example.com sip:200@example.com,200,ucs1,true,ucs1,\"Thu, 27 Nov 2025 \
             00:00:00 GMT\",ucs2,failover"
        );
        let read = import::read_csv(text.as_bytes()).unwrap();
        let read: Vec<Imported> =
            read.into_iter().map(|user| Imported { line: None, ..user }).collect();
        assert_eq!(read, users.iter().map(as_imported).collect::<Vec<_>>());
        let json = serde_json::to_string(&read).unwrap();
        assert_eq!(serde_json::from_str::<Vec<Imported>>(&json).unwrap(), read);
    }

    #[test]
    fn what_differs_is_counted() {
        let anna = as_imported(&user("anna"));
        let known = HashMap::from([(Arc::clone(&anna.name), anna.clone())]);
        let of = |user: Imported| differences(&[user], &known);
        assert_eq!(of(anna.clone()), (0, 0));
        assert_eq!(of(Imported { aors: Vec::new(), home: None, ..anna.clone() }), (0, 0));
        assert_eq!(of(Imported { home: Some("ucs2".into()), ..anna.clone() }), (0, 1));
        assert_eq!(of(Imported { enabled: false, ..anna.clone() }), (0, 1));
        assert_eq!(of(Imported { lines: vec!["201".into()], ..anna.clone() }), (0, 1));
        assert_eq!(of(Imported { name: "bert".into(), ..anna }), (1, 0));
    }
}
