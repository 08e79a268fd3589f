//! What people type. Each sub-command is a function from arguments to an exit code; errors go to
//! stderr and say what to do next, results to stdout, as JSON with `--json`.

mod check;
mod demo;
mod explain;
mod http;
mod import;
mod ledger;
mod load;
mod orders;
mod out;
mod rebalance;
mod recovery;
mod reports;
mod run;
mod status;
mod status_table;
mod ucserver;
mod users;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::config;
use crate::config::certificates::CertificateFault;
use crate::config::token::TokenFault;
use crate::directory;
use crate::net;
use crate::store;
use crate::telemetry;

/// A front door for a pool of UCServers: phones register here, and when a server dies its users
/// are moved to another one.
#[derive(Debug, Parser)]
#[command(name = "frontdoor", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the door until SIGTERM or Ctrl-C
    Run(run::RunArgs),
    /// Checks a configuration: what is wrong, and what is dangerous
    Check(check::CheckArgs),
    /// Shows the servers and what is being moved
    Status(status::StatusArgs),
    /// Shows the users: where they are and where they belong
    Users(users::UsersArgs),
    /// Shows what a login of a user gets now, and why
    Explain(explain::ExplainArgs),
    /// Shows who would go where if servers died; changes nothing
    WhatIf(explain::WhatIfArgs),
    /// Shows who is away from home, and why
    Relocations(recovery::RelocationsArgs),
    /// Shows how users come home again; pauses, resumes and sends them
    Recovery(recovery::RecoveryArgs),
    /// Writes all users as CSV: homes, and who is away
    Export(ledger::ExportArgs),
    /// Hands users over: new ones, other homes, who is served
    Import(ledger::ImportArgs),
    /// Gives a user another home
    Home(orders::HomeArgs),
    /// Lets the users of a server leave it, or ends that
    Drain(orders::DrainArgs),
    /// Puts a server under maintenance, or ends that
    Maintenance(orders::MaintenanceArgs),
    /// Shows how homes would be spread over the servers anew; begins and stops it
    Rebalance(rebalance::RebalanceArgs),
    /// Plays the failure of a server on purpose, and shows how it went
    Drill(reports::DrillArgs),
    /// Shows what failovers, drills and returns were like
    Reports(reports::ReportsArgs),
    /// Ends the door's suspicion of its own network
    Panic(orders::PanicArgs),
    /// Plays a failover on this machine: simulated servers, simulated phones, a real door
    Demo(demo::DemoArgs),
    /// Runs one simulated UCServer
    Ucserver(Box<ucserver::UcserverArgs>),
    /// Phones and servers for measurements on this machine
    Load(load::LoadArgs),
}

/// Why a sub-command could not do what it was asked. Each says what to do next.
#[derive(Debug, thiserror::Error)]
enum CliError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] config::Problems),
    /// No key for Path tokens.
    #[error(transparent)]
    Token(#[from] TokenFault),
    /// No certificate.
    #[error(transparent)]
    Certificate(#[from] CertificateFault),
    /// No store.
    #[error(transparent)]
    Store(#[from] store::OpenError),
    /// An address cannot be had.
    #[error(transparent)]
    Bind(#[from] net::BindError),
    /// The door's admin listener said nothing useful.
    #[error(transparent)]
    Admin(#[from] http::AdminError),
    /// Logs cannot be written.
    #[error(transparent)]
    Log(#[from] telemetry::SetupError),
    /// The users of the file could not be stored.
    #[error("the users of users.file were not imported: {0}")]
    Import(directory::record::Failed),
    /// Somebody else wrote the store meanwhile.
    #[error("the users of users.file were not imported: the store changed meanwhile; start again")]
    ImportConflict,
    /// The simulated server could not run.
    #[error(transparent)]
    Ucserver(#[from] ucserver::UcserverError),
    /// The load generator could not run.
    #[error(transparent)]
    Load(#[from] crate::load::LoadError),
    /// The demo could not be played.
    #[error(transparent)]
    Demo(#[from] demo::DemoError),
    /// A file of users is not to be taken.
    #[error(transparent)]
    UsersFile(#[from] ledger::FileError),
    /// None was written yet, or none at all.
    #[error("there is no such report; `frontdoor reports` lists those there are")]
    NoReport,
    /// The operating system refused something a program needs.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: &'static str,
        /// What it said.
        source: std::io::Error,
    },
}

/// Reads the arguments, does what they say, and returns what the shell is told.
pub fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Run(args) => run::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Users(args) => users::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::WhatIf(args) => explain::what_if(&args),
        Command::Relocations(args) => recovery::relocations(&args),
        Command::Recovery(args) => recovery::run(&args),
        Command::Export(args) => ledger::export(&args),
        Command::Import(args) => ledger::import(&args),
        Command::Home(args) => orders::home(&args),
        Command::Drain(args) => orders::drain(&args),
        Command::Rebalance(args) => rebalance::run(&args),
        Command::Maintenance(args) => orders::maintenance(&args),
        Command::Drill(args) => reports::drill(&args),
        Command::Reports(args) => reports::run(&args),
        Command::Panic(args) => orders::panic(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Load(args) => load::run(args),
        Command::Ucserver(args) => {
            ucserver::run(*args).map(|()| ExitCode::SUCCESS).map_err(CliError::from)
        }
    };
    done.unwrap_or_else(|error| {
        out::error(&error);
        ExitCode::FAILURE
    })
}
