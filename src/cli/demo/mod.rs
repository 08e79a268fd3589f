//! `frontdoor demo`: a failover on this machine, played and measured.
//!
//! ```text
//! demo ─┬─ door      (child: `frontdoor run`)      ◄── REGISTER ── phones  (a thread of the demo)
//!       │                                          ◄──── UCSAP ── clients (another one)
//!       ├─ ucs1 …    (children: `frontdoor ucserver`, tell whom their OPTIONS reached, who logged in)
//!       └─ play: start all, kill one, wait, ping everybody, report
//! ```
//!
//! Nothing is measured by the door's word alone: a phone counts as reached when the server says so
//! and the phone had answered, and a client as served when a server says that it logged in there
//! and the client heard of its line after that. Every process reads the same clock.

mod bank;
mod board;
mod client;
mod clients;
mod office;
mod phones;
mod play;
mod processes;
mod report;
mod screen;
mod sessions;
mod stage;

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use crate::cli::{CliError, out};

/// Phones at most: more addresses than this have no place in the numbering.
const PHONES_MAX: usize = 1_000_000;
/// Phones, where neither these nor clients are asked for.
const PHONES: usize = 300;
/// Clients at most: each is a connection, and in the door two.
const CLIENTS_MAX: usize = 8_000;
/// Servers at most.
const SERVERS_MAX: usize = 64;

/// Arguments of `demo`.
#[derive(Debug, Args)]
pub(super) struct DemoArgs {
    /// Simulated phones; 300 if neither these nor clients are asked for
    #[arg(long)]
    phones: Option<usize>,
    /// Simulated ProCall clients, each of the user of the phone of its number
    #[arg(long, default_value_t = 0)]
    clients: usize,
    /// Simulated servers, called ucs1, ucs2, …
    #[arg(long, default_value_t = 3)]
    servers: usize,
    /// Kill this server so many seconds after the last phone has registered
    #[arg(long, value_name = "NAME@SECONDS")]
    kill: Option<KillArg>,
    /// Start the killed server again so many seconds after the kill, but not before everybody was
    /// reached elsewhere, and bring its phones home
    #[arg(long = "return", value_name = "NAME@SECONDS", requires = "kill")]
    comeback: Option<KillArg>,
    /// One JSON object on stdout and nothing else
    #[arg(long)]
    json: bool,
    /// Play in this empty directory and leave configuration, store and logs there
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

/// Whom to kill, and when.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct KillArg {
    name: String,
    after: Duration,
}

/// `--kill` cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("write a server and seconds, such as ucs2@5")]
pub(super) struct NotAKill;

impl FromStr for KillArg {
    type Err = NotAKill;

    fn from_str(text: &str) -> Result<Self, NotAKill> {
        let (name, secs) = text.split_once('@').ok_or(NotAKill)?;
        let secs: f64 = secs.trim_end_matches('s').parse().map_err(|_| NotAKill)?;
        let after = Duration::try_from_secs_f64(secs).map_err(|_| NotAKill)?;
        if name.is_empty() || after > Duration::from_secs(86_400) {
            return Err(NotAKill);
        }
        Ok(Self { name: name.to_owned(), after })
    }
}

/// Why the demo could not be played to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum DemoError {
    /// A server that is not there.
    #[error("--kill {name}: there is no such server; there are {}", there.join(", "))]
    NoSuchServer {
        /// What was asked for.
        name: String,
        /// What there is.
        there: Vec<String>,
    },
    /// Only who was killed can come back.
    #[error("--return {name}: it was not killed; write --return {killed}@SECONDS")]
    NotKilled {
        /// What was asked for.
        name: String,
        /// Who was.
        killed: String,
    },
    /// Nothing to play with.
    #[error("--{what} must be from {least} to {most}")]
    Amount {
        /// Of what.
        what: &'static str,
        /// How many there have to be.
        least: usize,
        /// How many are possible.
        most: usize,
    },
    /// `--keep` names a directory with something in it.
    #[error("--keep {}: the directory is not empty; name another one, or empty it", .0.display())]
    NotEmpty(PathBuf),
    /// A child did not come up.
    #[error("{who} did not start within {patience_s} s; its last words:\n{tail}")]
    NotStarted {
        /// Who.
        who: String,
        /// How long it was waited for.
        patience_s: u64,
        /// The end of its log.
        tail: String,
    },
    /// The door ended while it was needed.
    #[error("the door ended; its last words:\n{tail}")]
    DoorEnded {
        /// The end of its log.
        tail: String,
    },
    /// Ctrl-C.
    #[error("interrupted; everything is stopped")]
    Interrupted,
    /// The operating system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What it said.
        source: std::io::Error,
    },
}

/// Plays, reports, cleans up. Fails unless every phone registered, none was lost, everybody who was
/// to come home did, and every client's session was kept or came back.
pub(super) fn run(args: &DemoArgs) -> Result<ExitCode, CliError> {
    let script = script(args)?;
    let report = play::play(&script)?;
    if args.json {
        out::json(&report);
    } else {
        out::line(screen::summary(&report));
        if let Some(kept) = &args.keep {
            out::line(format_args!("Configuration, store and logs are in {}.", kept.display()));
        }
    }
    let all_home = report
        .returned
        .is_none_or(|returned| returned + report.stayed.unwrap_or(0) == report.affected);
    let all_well = report.lost == 0
        && report.registered == report.phones
        && report.clients.client_sessions_lost == 0
        && all_home;
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Arguments that make sense.
#[derive(Debug)]
struct Script {
    phones: usize,
    clients: usize,
    names: Vec<String>,
    /// Number of the server, and when.
    kill: Option<(usize, Duration)>,
    /// How long after the kill the server is started again.
    comeback: Option<Duration>,
    silent: bool,
    keep: Option<PathBuf>,
}

fn script(args: &DemoArgs) -> Result<Script, DemoError> {
    let clients = args.clients;
    let phones = args.phones.unwrap_or(if clients == 0 { PHONES } else { 0 });
    let least = usize::from(clients == 0);
    for (what, count, least, most) in [
        ("phones", phones, least, PHONES_MAX),
        ("clients", clients, 0, CLIENTS_MAX),
        ("servers", args.servers, 1, SERVERS_MAX),
    ] {
        if count < least || count > most {
            return Err(DemoError::Amount { what, least, most });
        }
    }
    let names: Vec<String> = (1..=args.servers).map(|number| format!("ucs{number}")).collect();
    let kill = match &args.kill {
        None => None,
        Some(KillArg { name, after }) => match names.iter().position(|other| other == name) {
            Some(server) => Some((server, *after)),
            None => return Err(DemoError::NoSuchServer { name: name.clone(), there: names }),
        },
    };
    let comeback = match (&args.comeback, &args.kill) {
        (Some(comeback), Some(kill)) if comeback.name != kill.name => {
            let (name, killed) = (comeback.name.clone(), kill.name.clone());
            return Err(DemoError::NotKilled { name, killed });
        }
        (comeback, _) => comeback.as_ref().map(|comeback| comeback.after),
    };
    let (silent, keep) = (args.json, args.keep.clone());
    Ok(Script { phones, clients, names, kill, comeback, silent, keep })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(kill: &str) -> DemoArgs {
        let kill = Some(kill.parse().unwrap());
        DemoArgs {
            phones: Some(10),
            clients: 0,
            servers: 2,
            kill,
            comeback: None,
            json: false,
            keep: None,
        }
    }

    #[test]
    fn a_kill_names_a_server_and_a_time() {
        let kill: KillArg = "ucs2@1.5".parse().unwrap();
        assert_eq!(kill, KillArg { name: "ucs2".into(), after: Duration::from_millis(1_500) });
        for text in ["ucs2", "@3", "ucs2@", "ucs2@soon", "ucs2@-1", "ucs2@nan", "ucs2@1e300"] {
            assert!(text.parse::<KillArg>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_server_that_is_not_there_is_refused_before_anything_starts() {
        assert_eq!(
            script(&args("ucs3@1")).unwrap_err().to_string(),
            "--kill ucs3: there is no such server; there are ucs1, ucs2"
        );
        assert_eq!(script(&args("ucs2@1")).unwrap().kill, Some((1, Duration::from_secs(1))));
    }

    #[test]
    fn only_who_was_killed_comes_back() {
        let back =
            |name: &str| DemoArgs { comeback: Some(name.parse().unwrap()), ..args("ucs2@1") };
        assert_eq!(
            script(&back("ucs1@5")).unwrap_err().to_string(),
            "--return ucs1: it was not killed; write --return ucs2@SECONDS"
        );
        assert_eq!(script(&back("ucs2@5")).unwrap().comeback, Some(Duration::from_secs(5)));
    }

    #[test]
    fn a_demo_without_phones_and_clients_is_refused() {
        let error = script(&DemoArgs { phones: Some(0), ..args("ucs1@1") }).unwrap_err();
        assert_eq!(error.to_string(), "--phones must be from 1 to 1000000");
        let error = script(&DemoArgs { clients: 9_000, ..args("ucs1@1") }).unwrap_err();
        assert_eq!(error.to_string(), "--clients must be from 0 to 8000");
    }

    #[test]
    fn who_asks_for_clients_gets_no_phones_unless_they_ask_for_them_too() {
        for (phones, clients, there) in
            [(None, 0, 300), (None, 7, 0), (Some(0), 7, 0), (Some(5), 7, 5), (Some(5), 0, 5)]
        {
            let script = script(&DemoArgs { phones, clients, ..args("ucs1@1") }).unwrap();
            assert_eq!((script.phones, script.clients), (there, clients));
        }
    }
}
