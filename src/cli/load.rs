//! `frontdoor load`: phones and servers for measurements on this machine; a tool, not part of the
//! door.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::cli::{CliError, out};
use crate::load::{self, Pace, Plan};
use crate::sip::Transport;

/// Arguments of `load`.
#[derive(Debug, Args)]
pub(super) struct LoadArgs {
    #[command(subcommand)]
    command: LoadCommand,
}

#[derive(Debug, Subcommand)]
enum LoadCommand {
    /// Registers users, then measures how their refreshes are answered; one JSON object to stdout
    Phones(Box<PhonesArgs>),
    /// Says 200 to every REGISTER and OPTIONS over UDP until standard input ends
    Answer(AnswerArgs),
}

#[derive(Debug, Args)]
struct PhonesArgs {
    /// The server under test; only on the loopback
    #[arg(long, value_name = "ADDR")]
    to: SocketAddr,
    /// "udp": one socket for all; "tcp": a connection for each user
    #[arg(long, default_value = "udp", value_parser = transport)]
    transport: Transport,
    /// Users, each with one contact
    #[arg(long, default_value_t = 10_000)]
    users: u32,
    /// Closed loop: transactions under way at any time
    #[arg(long, default_value_t = 32)]
    window: u32,
    /// Open loop: transactions that begin each second
    #[arg(long, value_name = "PER_SECOND", conflicts_with = "window")]
    rate: Option<f64>,
    /// Measured
    #[arg(long, value_name = "SECONDS", default_value_t = 2.0)]
    seconds: f64,
    /// Before that, at the same pace
    #[arg(long, value_name = "SECONDS", default_value_t = 0.5)]
    warm_up: f64,
    /// Do not register everybody first
    #[arg(long)]
    no_fill: bool,
    /// Rest for so long before memory is looked at
    #[arg(long, value_name = "SECONDS", default_value_t = 0.0)]
    settle: f64,
    /// Begin at most so many transactions
    #[arg(long)]
    limit: Option<u64>,
    /// Phones answered 503 with Retry-After come back after that time
    #[arg(long)]
    honour_retry_after: bool,
    /// The lease that is asked for, in seconds
    #[arg(long, default_value_t = 3600)]
    expires: u32,
    /// RFC 3261 T1 in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 500)]
    t1: u64,
    /// A transaction is given up after this, or after 64 T1
    #[arg(long, value_name = "SECONDS", default_value_t = 32.0)]
    give_up: f64,
    /// Whose CPU time and memory is sampled, children included; may be repeated
    #[arg(long, value_name = "PID")]
    pid: Vec<u32>,
    /// Stay on this core
    #[arg(long)]
    core: Option<usize>,
}

#[derive(Debug, Args)]
struct AnswerArgs {
    /// Where to listen; may be repeated; port 0 for any
    #[arg(long, value_name = "ADDR", required = true)]
    at: Vec<SocketAddr>,
    /// Stay on this core
    #[arg(long)]
    core: Option<usize>,
}

/// Where the answering servers listen: their first line.
#[derive(Serialize)]
struct Listening<'a> {
    listening: &'a [SocketAddr],
}

/// Runs until the plan is carried out, or standard input ends.
pub(super) fn run(args: LoadArgs) -> Result<ExitCode, CliError> {
    match args.command {
        LoadCommand::Phones(args) => phones(&args),
        LoadCommand::Answer(args) => answer(&args),
    }
}

fn phones(args: &PhonesArgs) -> Result<ExitCode, CliError> {
    if let Some(core) = args.core {
        load::pin_to_core(core)?;
    }
    let seconds = |value: f64| Duration::try_from_secs_f64(value).unwrap_or_default();
    let plan = Plan {
        transport: args.transport,
        users: args.users,
        fill: !args.no_fill,
        settle: seconds(args.settle),
        pace: args.rate.map_or(Pace::Window(args.window), Pace::PerSecond),
        warm_up: seconds(args.warm_up),
        duration: seconds(args.seconds),
        limit: args.limit,
        honour_retry_after: args.honour_retry_after,
        expires: args.expires,
        t1: Duration::from_millis(args.t1),
        give_up: seconds(args.give_up),
        server_pids: args.pid.clone(),
        ..Plan::new(args.to)
    };
    out::json(&load::run(&plan)?);
    Ok(ExitCode::SUCCESS)
}

fn answer(args: &AnswerArgs) -> Result<ExitCode, CliError> {
    if let Some(core) = args.core {
        load::pin_to_core(core)?;
    }
    let ended = Arc::new(AtomicBool::new(false));
    let watched = Arc::clone(&ended);
    let watcher = std::thread::Builder::new().name("stdin".to_owned()).spawn(move || {
        let _whatever = std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink());
        watched.store(true, Ordering::Relaxed);
    });
    watcher.map_err(|source| CliError::System { what: "the system gives no thread", source })?;
    let ready = |addresses: &[SocketAddr]| out::json(&Listening { listening: addresses });
    out::json(&load::answer(&args.at, ready, || ended.load(Ordering::Relaxed))?);
    Ok(ExitCode::SUCCESS)
}

fn transport(name: &str) -> Result<Transport, String> {
    match name {
        "udp" => Ok(Transport::Udp),
        "tcp" => Ok(Transport::Tcp),
        _ => Err("\"udp\" or \"tcp\"".to_owned()),
    }
}
