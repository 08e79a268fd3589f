//! Logs: where they go, what they show, and what the core's events look like in them.
//!
//! At info level and above no line carries a user's number, name or secret.

use std::io;
use std::sync::Arc;

use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

use crate::cluster::{Plane, PlaneState, Proof, State, Suspect};
use crate::door::{Event, ShortfallStatus};
use crate::now::{Now, Uptime};

/// How logs are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A level, and levels of single modules: `info,frontdoor::net=debug`.
    pub filter: String,
    /// In which form.
    pub format: Format,
}

/// The form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

impl Default for Settings {
    fn default() -> Self {
        Self { filter: "info".to_owned(), format: Format::Text }
    }
}

/// Logging cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The operator's filter cannot be read.
    #[error(
        "log filter \"{filter}\": {source}; write a level (error, warn, info, debug, trace), and \
         further module=level pairs after commas"
    )]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
    /// Logs go somewhere already: ours to mend.
    #[error("logging was set up twice")]
    Twice,
}

/// Sends the logs of this process to standard error from now on.
///
/// # Errors
/// The filter cannot be read, or logging was set up before.
pub fn init(settings: &Settings) -> Result<(), SetupError> {
    let filter = filter(&settings.filter)?;
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    let done = match settings.format {
        Format::Text => logs.with_ansi(false).try_init(),
        Format::Json => logs.json().flatten_event(true).try_init(),
    };
    done.map_err(|_| SetupError::Twice)
}

/// Reads a filter without using it, for checks of a configuration.
///
/// # Errors
/// The filter cannot be read.
pub fn filter(text: &str) -> Result<EnvFilter, SetupError> {
    let wrong = |source| SetupError::Filter { filter: text.to_owned(), source };
    let mut filter = EnvFilter::builder().parse(text).map_err(wrong)?;
    for library in TALKATIVE {
        filter = filter.add_directive(format!("{library}=off").parse().map_err(wrong)?);
    }
    Ok(filter)
}

/// Libraries that log what passes through them, names of sessions and calls included: however much of
/// the log is wanted, not that.
const TALKATIVE: [&str; 2] = ["tungstenite", "tokio_tungstenite"];

/// Lines of one kind that may come at once.
const BURST: u32 = 20;

/// Nanoseconds until one more is allowed.
const REFILL_NANOS: u64 = 1_000_000_000;

/// Writes the core's events to the log; a kind that comes too often is thinned out, and the next
/// line says how many are missing.
#[derive(Debug, Default)]
pub struct EventLog {
    kinds: [Allowance; Kind::COUNT],
}

impl EventLog {
    /// Logs an event, unless its kind has come too often lately. Returns whether it was logged.
    pub fn log(&mut self, now: Now, event: &Event) -> bool {
        let Some(allowance) = self.kinds.get_mut(Kind::of(event) as usize) else { return false };
        let Some(unlogged) = allowance.take(now.uptime) else { return false };
        write(event, unlogged);
        true
    }
}

fn write(event: &Event, unlogged: u64) {
    match event {
        Event::ServerChanged { server, from, to: State::Maintenance, proof } => {
            write_maintenance(unlogged, server, *from, *proof);
        }
        Event::ServerChanged { server, from, to, proof } => {
            let (from, to) = (from.name(), to.name());
            if let Some(proof) = proof {
                let proof = proof.name();
                warn!(unlogged, %server, from, to, proof, "server changed");
            } else {
                info!(unlogged, %server, from, to, "server changed");
            }
        }
        Event::PlaneChanged { server, plane, to, proof, .. } => {
            write_plane(unlogged, server, *plane, *to, *proof);
        }
        Event::ServerRestarted { server } => {
            warn!(unlogged, %server, "server restarted: its bindings are registered again");
        }
        Event::RealmsDiffer { server, realms, others } => {
            let (realms, others) = (realms.join(", "), others.join(", "));
            error!(unlogged, %server, realms, others, "the servers want passwords for different \
                realms: nobody is moved between them; give them the same realm");
        }
        Event::SystemsUnknown { server, systems } => {
            let systems = systems.join(", ");
            error!(unlogged, %server, systems, "a server tells of telephone systems that `reaches` does \
                not name: they count for nothing; names must be equal on all servers");
        }
        Event::SystemsLost { server, systems, all, elsewhere } => {
            write_lost_systems(unlogged, server, systems, *all, *elsewhere);
        }
        Event::Suspicion(suspect) => write_suspicion(unlogged, *suspect),
        Event::Shortfall(Some(ShortfallStatus { server, users, unplaced })) => {
            error!(unlogged, %server, users, unplaced, "one more failure does not fit: if this server \
                fails, not all of its users find a place; add a server or raise capacities");
        }
        Event::Shortfall(None) => info!(unlogged, "one more failure fits again"),
        Event::FailoverPlanned { server, users, unplaced: 0 } => {
            warn!(unlogged, %server, users, "failover planned");
        }
        Event::FailoverPlanned { server, users, unplaced } => {
            error!(unlogged, %server, users, unplaced, "failover planned, but not all users have \
                a place: frontdoor status says why");
        }
        Event::FailoverWithheld { server, because, would_move } => {
            warn!(unlogged, %server, because, would_move, "nobody is moved");
        }
        Event::FailoverDone { server, rehomed } => {
            info!(unlogged, %server, rehomed, "failover done");
        }
        Event::ReturnBegan { server, users } => {
            info!(unlogged, %server, users, "users begin to go home");
        }
        Event::ReturnDone { server, returned } => {
            info!(unlogged, %server, returned, "users are at home again");
        }
        Event::ReturnStopped { server, because, returned, stay } => {
            warn!(unlogged, %server, because, returned, stay, "users do not go on home: \
                frontdoor recovery says who is away and why");
        }
        Event::DepartureBegan { cause, server, users } => {
            let server = server.as_deref().unwrap_or("all");
            info!(unlogged, %cause, server, users, "users leave by order");
        }
        Event::DepartureDone { cause, server, moved } => {
            let server = server.as_deref().unwrap_or("all");
            info!(unlogged, %cause, server, moved, "everybody who was to leave has left");
        }
        Event::DepartureStopped { cause, because, moved, stayed } => {
            warn!(unlogged, %cause, because, moved, stayed, "the others keep their home");
        }
        Event::StoreFailed { why } => {
            error!(unlogged, %why, "the store failed: nothing is moved or acknowledged");
        }
        Event::Misdirected { server, why } => {
            error!(unlogged, %server, because = why.name(), "a server sends users away, and nobody can follow: {}", why.remedy());
        }
        Event::StoreRecovered => info!(unlogged, "the store writes again"),
    }
}

fn write_lost_systems(
    unlogged: u64,
    server: &str,
    systems: &[Arc<str>],
    all: usize,
    elsewhere: bool,
) {
    let systems = systems.join(", ");
    if all == 0 {
        info!(unlogged, server, "server reaches all its telephone systems again");
    } else if elsewhere {
        error!(
            unlogged,
            server,
            systems,
            all,
            "server has lost telephone systems that others reach: \
            whoever needs them goes there last of all, and nobody goes home there"
        );
    } else {
        error!(
            unlogged,
            server,
            systems,
            all,
            "telephone systems are lost, and no server reaches them: \
            nobody is moved for that; look at the telephone systems"
        );
    }
}

fn write_suspicion(unlogged: u64, suspect: Option<Suspect>) {
    match suspect {
        Some(Suspect::OwnNetwork) => {
            error!(
                unlogged,
                "too many servers fell silent at once: check this door's network; \
                nobody is moved"
            );
        }
        Some(Suspect::SharedBackend) => {
            error!(
                unlogged,
                "all servers give the same error: check the telephone system, SQL \
                and Redis they share; nobody is moved"
            );
        }
        Some(Suspect::Plane(plane)) => {
            let plane = plane.name();
            error!(
                unlogged,
                plane,
                "one plane is dead on too many servers that answer on others: check what it \
                shares, and this door's way to it; nobody is moved for it"
            );
        }
        None => info!(unlogged, "suspicion ended"),
    }
}

fn write_plane(unlogged: u64, server: &str, plane: Plane, to: PlaneState, proof: Option<Proof>) {
    let (plane, proof) = (plane.name(), proof.map_or("none", Proof::name));
    match to {
        PlaneState::Unheard => error!(
            unlogged,
            server,
            plane,
            proof,
            "this plane of the server has never answered, and counts for nothing until it does: check \
            its address and the way to it, or leave it out of the server's configuration"
        ),
        PlaneState::Dead => warn!(unlogged, server, plane, proof, "plane of a server is dead"),
        PlaneState::Alive => info!(unlogged, server, plane, "plane of a server answers"),
        PlaneState::Unknown => info!(unlogged, server, plane, "plane of a server is judged anew"),
    }
}

fn write_maintenance(unlogged: u64, server: &str, from: State, proof: Option<Proof>) {
    match (from, proof) {
        (State::Maintenance, Some(proof)) => {
            let proof = proof.name();
            warn!(unlogged, server, proof, "a server under maintenance does not answer");
        }
        (State::Maintenance, None) => {
            info!(unlogged, server, "a server under maintenance answers again");
        }
        (from, _) => {
            let from = from.name();
            warn!(
                unlogged,
                server,
                from,
                "server under maintenance: its health counts for nothing, until that is ended, or until this door restarts and forgets it"
            );
        }
    }
}

/// Events that share an allowance.
#[derive(Clone, Copy)]
enum Kind {
    Server,
    Suspicion,
    Failover,
    Return,
    Departure,
    Store,
}

impl Kind {
    const COUNT: usize = 6;

    const fn of(event: &Event) -> Self {
        match event {
            Event::ServerChanged { .. }
            | Event::PlaneChanged { .. }
            | Event::ServerRestarted { .. }
            | Event::RealmsDiffer { .. }
            | Event::SystemsLost { .. }
            | Event::SystemsUnknown { .. }
            | Event::Misdirected { .. } => Self::Server,
            Event::Suspicion(_) => Self::Suspicion,
            Event::FailoverPlanned { .. }
            | Event::Shortfall(_)
            | Event::FailoverWithheld { .. }
            | Event::FailoverDone { .. } => Self::Failover,
            Event::ReturnBegan { .. } | Event::ReturnDone { .. } | Event::ReturnStopped { .. } => {
                Self::Return
            }
            Event::DepartureBegan { .. }
            | Event::DepartureDone { .. }
            | Event::DepartureStopped { .. } => Self::Departure,
            Event::StoreFailed { .. } | Event::StoreRecovered => Self::Store,
        }
    }
}

/// A token bucket that counts what it withheld.
#[derive(Clone, Copy, Debug)]
struct Allowance {
    left: u32,
    counted_from: Uptime,
    unlogged: u64,
}

impl Default for Allowance {
    fn default() -> Self {
        Self { left: BURST, counted_from: Uptime::ZERO, unlogged: 0 }
    }
}

impl Allowance {
    /// `Some` with the number withheld before this one, if it may be logged.
    fn take(&mut self, now: Uptime) -> Option<u64> {
        let refills = now.as_nanos().saturating_sub(self.counted_from.as_nanos()) / REFILL_NANOS;
        if refills > 0 {
            let refills = u32::try_from(refills).unwrap_or(BURST);
            self.left = self.left.saturating_add(refills).min(BURST);
            self.counted_from = now;
        }
        if self.left == 0 {
            self.unlogged += 1;
            return None;
        }
        self.left -= 1;
        Some(std::mem::take(&mut self.unlogged))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;

    fn at(secs: u64) -> Now {
        Now { uptime: Uptime::from_secs(secs), wall: SystemTime::UNIX_EPOCH }
    }

    #[test]
    fn a_noisy_kind_is_thinned_out_and_its_neighbours_are_not() {
        let mut log = EventLog::default();
        let flap = Event::ServerRestarted { server: "ucs1".into() };
        let logged = (0..100).filter(|_| log.log(at(10), &flap)).count();
        assert_eq!(logged, BURST as usize);
        assert!(log.log(at(10), &Event::StoreRecovered));
        assert!(log.log(at(11), &flap));
        assert!(!log.log(at(11), &flap));
    }

    #[test]
    fn the_next_line_says_how_many_are_missing() {
        let mut allowance = Allowance { left: 1, ..Allowance::default() };
        let now = Uptime::from_secs(1);
        allowance.counted_from = now;
        assert_eq!(allowance.take(now), Some(0));
        assert_eq!(allowance.take(now), None);
        assert_eq!(allowance.take(now), None);
        assert_eq!(allowance.take(Uptime::from_secs(2)), Some(2));
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_refused_with_its_text() {
        let error = filter("info,frontdoor=loud").unwrap_err();
        assert!(error.to_string().contains("info,frontdoor=loud"), "{error}");
        assert!(filter("info,frontdoor::net=debug").is_ok());
    }
}
