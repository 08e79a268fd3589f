//! What a session of a ProCall client costs, by each of the two entrances: straight to a simulated
//! UCServer, through HAProxy, and through the door.
//!
//! ```sh
//! cargo bench --bench sessions                       # both entrances; needs two cores and Debian's haproxy
//! cargo bench --bench sessions -- --quick --only web
//! ```
//!
//! By native TCP HAProxy is a bare splice (`mode tcp`), by the WebService it speaks HTTP (`mode http`).
//! What is in the middle has core 0 to itself; clients and server share core 1. Every session is logged
//! in and asks for the snapshot of its line, again and again: one message there, one back.
//! Sessions stay under 10 000, because what is in the middle needs two descriptors for each and 20 000
//! are usual.

mod client;
#[path = "../kamailio/process.rs"]
#[expect(dead_code, reason = "shared with the benchmark beside Kamailio, which needs all of it")]
mod process;
mod through;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use frontdoor::load::{cpu_of, memory_of, tree_of};
use frontdoor::net::Clock;

use crate::client::Client;
use crate::through::{Entrance, Pool, Through};

/// What anything here may fail of: in words, for whoever measures.
pub(crate) type Outcome<T> = Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The program that was built with this benchmark.
pub(crate) const FRONTDOOR: &str = env!("CARGO_BIN_EXE_frontdoor");

/// Where what is measured runs.
pub(crate) const SERVER_CORE: usize = 0;
/// Where clients and servers run.
pub(crate) const LOAD_CORE: usize = 1;

/// Sessions that ask at the same time.
const TOGETHER: usize = 16;
/// Questions one after the other, for how long each takes.
const ALONE: usize = 2_000;

/// Measures sessions of ProCall clients.
#[derive(Debug, Parser)]
#[command(name = "sessions")]
struct Arguments {
    /// Fewer sessions, one round
    #[arg(long)]
    quick: bool,
    /// Only this entrance: native, web
    #[arg(long, value_parser = Entrance::from_name)]
    only: Option<Entrance>,
    /// Sessions
    #[arg(long)]
    sessions: Option<usize>,
    /// How often each is measured
    #[arg(long)]
    rounds: Option<usize>,
    /// Seconds measured, each time
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
    /// What cargo says to benchmarks
    #[arg(long, hide = true)]
    bench: bool,
}

/// What one round of one has come to.
#[derive(Clone, Copy, Debug, Default)]
struct Figures {
    /// Memory of a session, in octets.
    memory: f64,
    /// CPU of a message, in microseconds.
    cpu: f64,
    /// Messages a second, both ways.
    rate: f64,
    /// How long one question takes, the others silent, in microseconds.
    alone: f64,
    alone_p99: f64,
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
    frontdoor::load::pin_to_core(LOAD_CORE)?;
    let both = [Entrance::Native, Entrance::Web].into_iter();
    let entrances = both.filter(|it| arguments.only.is_none_or(|only| only == *it));
    let rounds = arguments.rounds.unwrap_or(if arguments.quick { 1 } else { 3 }).clamp(1, 100);
    for entrance in entrances {
        let mut table: Vec<(&str, Vec<Figures>)> =
            Through::ALL.iter().map(|through| (through.name(), Vec::new())).collect();
        for round in 1..=rounds {
            for (through, (name, figures)) in Through::ALL.iter().zip(&mut table) {
                let measured = play(*through, entrance, arguments)?;
                note(&format!("{} {round}/{rounds} {name} {measured:?}", entrance.name()));
                figures.push(measured);
            }
        }
        say(&text(entrance, &table));
    }
    Ok(())
}

fn play(through: Through, entrance: Entrance, arguments: &Arguments) -> Outcome<Figures> {
    let sessions = arguments.sessions.unwrap_or(if arguments.quick { 1_000 } else { 9_900 });
    let pool = Pool::start()?;
    let middle = through.start(entrance, &pool)?;
    let pids = middle.pid().map(|pid| tree_of(&[pid])).unwrap_or_default();
    // A session before the others, so that what is made for the first is not counted.
    let first = Client::log_in(entrance, middle.address(), 0)?;
    let before = memory_of(&pids).rss;
    let mut clients = log_all_in(entrance, &middle, sessions)?;
    let memory = memory_of(&pids).rss.saturating_sub(before) as f64 / sessions as f64;
    let mut alone = ask_alone(&mut clients)?;
    alone.sort_unstable_by(f64::total_cmp);
    let (cpu, began) = (cpu_of(&pids), Clock.uptime());
    let patience = Duration::from_secs_f64(arguments.seconds);
    let messages = 2 * ask_together(&mut clients, patience)?;
    let (used, took) = (cpu_of(&pids).saturating_sub(cpu), Clock.uptime().since(began));
    drop((first, clients));
    middle.check()?;
    Ok(Figures {
        memory,
        cpu: used.as_secs_f64() * 1e6 / messages as f64,
        rate: messages as f64 / took.as_secs_f64(),
        alone: alone.get(alone.len() / 2).copied().unwrap_or_default(),
        alone_p99: alone.get(alone.len() * 99 / 100).copied().unwrap_or_default(),
    })
}

/// Logs in as many as there are to be, so many at once.
fn log_all_in(
    entrance: Entrance,
    middle: &through::Middle,
    sessions: usize,
) -> Outcome<Vec<Vec<Client>>> {
    let address = middle.address();
    std::thread::scope(|scope| {
        let log_in = |thread: usize| {
            let share = (1..=sessions).skip(thread).step_by(TOGETHER);
            share.map(|number| Client::log_in(entrance, address, number)).collect()
        };
        let threads: Vec<_> =
            (0..TOGETHER).map(|thread| scope.spawn(move || log_in(thread))).collect();
        threads.into_iter().map(|it| it.join().map_err(|_| "a client has failed")?).collect()
    })
}

/// Microseconds that each question takes while nobody else asks.
fn ask_alone(clients: &mut [Vec<Client>]) -> Outcome<Vec<f64>> {
    let mut took = Vec::with_capacity(ALONE);
    for client in clients.iter_mut().flatten().take(ALONE) {
        let began = Clock.uptime();
        client.ask()?;
        took.push(Clock.uptime().since(began).as_secs_f64() * 1e6);
    }
    Ok(took)
}

/// As many as ask at once do so until the time is over; how many questions were answered.
fn ask_together(clients: &mut [Vec<Client>], patience: Duration) -> Outcome<u64> {
    let until = Clock.uptime() + patience;
    std::thread::scope(|scope| {
        let ask = |share: &mut Vec<Client>| -> Outcome<u64> {
            let mut answered = 0;
            loop {
                for client in share.iter_mut() {
                    if Clock.uptime() >= until {
                        return Ok(answered);
                    }
                    client.ask()?;
                    answered += 1;
                }
            }
        };
        let threads: Vec<_> =
            clients.iter_mut().map(|share| scope.spawn(move || ask(share))).collect();
        threads.into_iter().map(|it| it.join().map_err(|_| "a client has failed")?).sum()
    })
}

fn text(entrance: Entrance, table: &[(&str, Vec<Figures>)]) -> String {
    let median = |figures: &[Figures], of: fn(&Figures) -> f64| {
        let mut all: Vec<f64> = figures.iter().map(of).collect();
        all.sort_unstable_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or_default()
    };
    let mut text = format!(
        "\n{}: median of {} rounds\n\n| through | memory a session | CPU a message | messages a second | \
         one question alone, p50, p99 |\n|---|---|---|---|---|\n",
        entrance.name(),
        table.first().map_or(0, |(_, figures)| figures.len()),
    );
    for (name, figures) in table {
        text.push_str(&format!(
            "| {name} | {:.1} kB | {:.1} µs | {:.0} | {:.0} µs, {:.0} µs |\n",
            median(figures, |it| it.memory) / 1e3,
            median(figures, |it| it.cpu),
            median(figures, |it| it.rate),
            median(figures, |it| it.alone),
            median(figures, |it| it.alone_p99),
        ));
    }
    text
}

/// A result. A reader that went away is no reason to fail.
fn say(text: &str) {
    let _closed = writeln!(std::io::stdout().lock(), "{text}");
}

/// What is going on.
fn note(text: &str) {
    let _closed = writeln!(std::io::stderr().lock(), "{text}");
}
