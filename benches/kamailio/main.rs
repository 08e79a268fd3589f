//! The door beside Kamailio, in turn, on the same machine and under the same load.
//!
//! ```sh
//! cargo bench --bench kamailio                          # everything
//! cargo bench --bench kamailio -- --quick --only absorbed
//! cargo bench --bench kamailio -- --door before=/tmp/old/frontdoor --door now=target/release/frontdoor
//! ```
//!
//! The server under test has core 0 to itself; phones and registrars share core 1. Figures differ
//! between machines and minutes, so what counts are ratios of runs that follow one another: a round
//! measures everybody once, and the ratios of the rounds are shown as median [lowest–highest].

mod case;
mod peer;
mod process;
mod table;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use crate::case::Case;
use crate::peer::Peer;
use crate::table::Table;

/// What anything here may fail of: in words, for whoever measures.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// The program that was built with this benchmark.
pub(crate) const FRONTDOOR: &str = env!("CARGO_BIN_EXE_frontdoor");

/// Where the server under test runs.
pub(crate) const SERVER_CORE: usize = 0;
/// Where phones and registrars run.
pub(crate) const LOAD_CORE: usize = 1;

/// Measures the door and Kamailio in turn.
#[derive(Debug, Parser)]
#[command(name = "kamailio")]
pub(crate) struct Arguments {
    /// Fewer and shorter rounds, fewer users
    #[arg(long)]
    quick: bool,
    /// Only these: absorbed, passed-on, tcp-absorbed, tcp-passed-on, memory
    #[arg(long, value_delimiter = ',', value_parser = Case::from_name)]
    only: Vec<Case>,
    /// How often each is measured
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds measured, each time
    #[arg(long)]
    seconds: Option<f64>,
    /// Users
    #[arg(long)]
    users: Option<u32>,
    /// Connections, where it goes over TCP
    #[arg(long, default_value_t = 8_000)]
    connections: u32,
    /// Transactions under way at any time
    #[arg(long, default_value_t = 32)]
    window: u32,
    /// A door of another build, NAME=PROGRAM; may be repeated. Default: the one built with this
    #[arg(long, value_name = "NAME=PROGRAM", value_parser = named_door)]
    door: Vec<(String, PathBuf)>,
    /// Doors alone, without Kamailio
    #[arg(long)]
    no_kamailio: bool,
    /// All figures as one JSON object instead of tables
    #[arg(long)]
    json: bool,
    /// What cargo says to benchmarks
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    pub(crate) fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 3 } else { 5 }).clamp(1, 100)
    }

    pub(crate) fn seconds(&self) -> f64 {
        self.seconds.unwrap_or(if self.quick { 1.0 } else { 3.0 })
    }

    pub(crate) fn users(&self) -> u32 {
        self.users.unwrap_or(if self.quick { 10_000 } else { 100_000 })
    }

    fn peers(&self) -> Vec<Peer> {
        let mut doors = self.door.clone();
        if doors.is_empty() {
            doors.push(("door".to_owned(), PathBuf::from(FRONTDOOR)));
        }
        let doors = doors.into_iter().map(|(name, program)| Peer::Door { name, program });
        doors.chain((!self.no_kamailio).then_some(Peer::Kamailio)).collect()
    }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match measure(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            note(&error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Outcome<()> {
    // The generator runs in this process; the children are told their own core.
    frontdoor::load::pin_to_core(LOAD_CORE)?;
    let peers = arguments.peers();
    let cases = if arguments.only.is_empty() { Case::ALL.to_vec() } else { arguments.only.clone() };
    let mut tables = Vec::new();
    for case in cases {
        let mut table = Table::new(case, arguments);
        let rounds = case.rounds(arguments);
        for round in 1..=rounds {
            for peer in &peers {
                let report = case.play(peer, arguments)?;
                note(&format!(
                    "{} {round}/{rounds} {}",
                    case.name(),
                    table::line(peer.name(), &report)
                ));
                table.add(peer.name(), report);
            }
        }
        if !arguments.json {
            say(&table.text());
        }
        tables.push(table);
    }
    if arguments.json {
        say(&serde_json::to_string(&tables)?);
    }
    Ok(())
}

fn named_door(text: &str) -> Result<(String, PathBuf), String> {
    let (name, program) = text.split_once('=').ok_or("NAME=PROGRAM")?;
    Ok((name.to_owned(), PathBuf::from(program)))
}

/// A result. A reader that went away is no reason to fail.
fn say(text: &str) {
    let _closed = writeln!(std::io::stdout().lock(), "{text}");
}

/// What is going on.
fn note(text: &str) {
    let _closed = writeln!(std::io::stderr().lock(), "{text}");
}
