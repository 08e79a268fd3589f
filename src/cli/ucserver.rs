//! `frontdoor ucserver`: a simulated UCServer, for trying things out and for measurements.

use std::collections::HashMap;
use std::fs::File;
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use crate::private::Private;
use crate::ucserver::run::{self, Listen, RunError};
use crate::ucserver::{ClientHome, ClientSettings, DigestSettings, DigestUser, Mood, Settings};

/// Runs a simulated UCServer: a strict SIP registrar that serves clients too, with a health document
/// and moods.
#[derive(Args, Clone, Debug)]
pub(super) struct UcserverArgs {
    /// What it is called.
    #[arg(long, default_value = "ucs")]
    pub(super) name: String,
    /// Where it speaks SIP, over UDP and TCP; port 0 for any.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:5060")]
    pub(super) sip: SocketAddr,
    /// Where it speaks UCSAP with clients, over TCP; port 0 for any; without it, nowhere. It knows
    /// every user X, with the password pw-X and one line.
    #[arg(long, value_name = "ADDR")]
    pub(super) clients: Option<SocketAddr>,
    /// Where it serves clients over HTTP and WebSocket (WebService); port 0 for any; without it,
    /// nowhere. It knows the same users.
    #[arg(long, value_name = "ADDR")]
    pub(super) web: Option<SocketAddr>,
    /// A user who belongs to another server, and where clients find that, as in
    /// anna=127.0.0.1:7223, or anna=unknown; may be repeated. Matters in the mood `strict_home`.
    #[arg(long, value_name = "USER=ADDR", value_parser = client_home)]
    pub(super) client_home: Vec<(String, ClientHome)>,
    /// Each line that is monitored tells its monitors so often what they know already.
    #[arg(long, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) line_events: Option<u64>,
    /// Where it serves its health document over HTTP; without it, nowhere.
    #[arg(long, value_name = "ADDR")]
    pub(super) health: Option<SocketAddr>,
    /// Where it sends its health document every two seconds; without it, nowhere.
    #[arg(long, value_name = "ADDR")]
    pub(super) push_to: Option<SocketAddr>,
    /// Users it can serve; without it, any number.
    #[arg(long, value_name = "USERS", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) capacity: Option<u32>,
    /// A SIP domain it is responsible for; may be repeated; without it, all.
    #[arg(long, value_name = "DOMAIN")]
    pub(super) domain: Vec<String>,
    /// Shorter registrations are refused with 423.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    pub(super) min_expires: u32,
    /// Longer registrations are cut.
    #[arg(long, value_name = "SECONDS", default_value_t = 3600)]
    pub(super) max_expires: u32,
    /// Behave like a registrar that does not know Path (RFC 3327).
    #[arg(long)]
    pub(super) no_path: bool,
    /// Ask for digest credentials: lines of realm:user:password, one realm, mode 0600.
    #[arg(long, value_name = "FILE")]
    pub(super) digest_file: Option<PathBuf>,
    /// Offer MD5 alone, for phones that stumble over the stronger SHA-256.
    #[arg(long, requires = "digest_file")]
    pub(super) digest_md5_only: bool,
    /// Send OPTIONS to every new binding at once.
    #[arg(long)]
    pub(super) ping_new: bool,
    /// A user who belongs to another server, and where that is, as in
    /// sip:anna@example.com=127.0.0.1:5071; may be repeated. Matters in the mood `strict_home`.
    #[arg(long, value_name = "AOR=ADDR", value_parser = home)]
    pub(super) home: Vec<(String, String)>,
    /// The mood it starts in: healthy, `slow[:MS]`, refusing, errors, hung, dead,
    /// `flapping[:UP_MS:DOWN_MS]`, `strict_home`.
    #[arg(long, value_parser = mood, default_value = "healthy")]
    pub(super) mood: Mood,
    /// The product version in its health document.
    #[arg(long, default_value = "2603.0")]
    pub(super) server_version: String,
    /// Base of SIP retransmissions, RFC 3261's T1.
    #[arg(long, value_name = "MS", default_value_t = 500)]
    pub(super) t1: u64,
    /// End when standard input ends, that is, with the parent process.
    #[arg(long)]
    pub(super) until_stdin_ends: bool,
}

/// Why the simulated server did not start or had to stop.
#[derive(Debug, thiserror::Error)]
pub(super) enum UcserverError {
    /// The password file cannot be read.
    #[error("cannot read {path}: {source}", path = .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's word.
        source: io::Error,
    },
    /// The password file is open to others.
    #[error("{path} can be read by others; run: chmod 600 {path}", path = .path.display())]
    Open {
        /// Which.
        path: PathBuf,
    },
    /// A line of the password file is not understood.
    #[error(
        "{path}, line {line}: write realm:user:password, with the same realm everywhere",
        path = .path.display()
    )]
    Line {
        /// Which file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
    },
    /// The server itself.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Runs the simulated server until it is stopped.
pub(super) fn run(args: UcserverArgs) -> Result<(), UcserverError> {
    let digest = args.digest_file.as_deref().map(digest_settings).transpose()?;
    let digest = digest.map(|it| DigestSettings { md5_only: args.digest_md5_only, ..it });
    let defaults = Settings::default();
    let mut timings = defaults.timings;
    timings.t1 = Duration::from_millis(args.t1.max(1));
    let clients = ClientSettings {
        homes: args.client_home.into_iter().collect(),
        line_events_every: args.line_events.map(Duration::from_millis),
        ..ClientSettings::default()
    };
    let settings = Settings {
        clients,
        name: args.name.into(),
        domains: args.domain.iter().map(|domain| domain.to_ascii_lowercase()).collect(),
        homes: args.home.into_iter().collect(),
        capacity_users: args.capacity,
        min_expires_secs: args.min_expires,
        max_expires_secs: args.max_expires,
        default_expires_secs: args.max_expires.min(defaults.default_expires_secs),
        path_support: !args.no_path,
        digest,
        ping_new_bindings: args.ping_new,
        version: args.server_version,
        timings,
        ..defaults
    };
    let listen = Listen {
        sip: args.sip,
        clients: args.clients,
        web: args.web,
        health: args.health,
        push_to: args.push_to,
        until_stdin_ends: args.until_stdin_ends,
    };
    // Boot ids and nonces must differ from start to start: std's hash keys are random.
    let seed = RandomState::new().hash_one(args.sip);
    Ok(run::run(settings, listen, args.mood, seed)?)
}

fn home(text: &str) -> Result<(String, String), String> {
    let (aor, home) = text.rsplit_once('=').ok_or("write AOR=ADDR")?;
    let home: SocketAddr = home.parse().map_err(|_| "an address and a port stand behind the =")?;
    Ok((aor.to_owned(), home.to_string()))
}

fn client_home(text: &str) -> Result<(String, ClientHome), String> {
    match text.rsplit_once('=').ok_or("write USER=ADDR")? {
        (user, "unknown") => Ok((user.to_owned(), ClientHome::Unknown)),
        (user, home) => {
            let home: SocketAddr = home
                .parse()
                .map_err(|_| "an address and a port, or unknown, stand behind the =")?;
            Ok((user.to_owned(), ClientHome::At(home.to_string())))
        }
    }
}

fn mood(name: &str) -> Result<Mood, String> {
    Mood::from_name(name).ok_or_else(|| String::from("there is no such mood; see --help"))
}

fn digest_settings(path: &Path) -> Result<DigestSettings, UcserverError> {
    let unreadable = |source| UcserverError::Read { path: path.into(), source };
    let mut file = File::open(path).map_err(unreadable)?;
    let mode = file.metadata().map_err(unreadable)?.permissions().mode();
    if mode & 0o077 != 0 {
        return Err(UcserverError::Open { path: path.into() });
    }
    let mut text = zeroize::Zeroizing::new(String::new());
    file.read_to_string(&mut text).map_err(unreadable)?;
    parse_digest(&text).map_err(|line| UcserverError::Line { path: path.into(), line })
}

/// The settings, or the number of the line that is wrong.
fn parse_digest(text: &str) -> Result<DigestSettings, usize> {
    let mut realm: Option<&str> = None;
    let mut users = HashMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let mut parts = line.splitn(3, ':');
        let (Some(its_realm), Some(user), Some(password)) =
            (parts.next(), parts.next(), parts.next())
        else {
            return Err(number);
        };
        if *realm.get_or_insert(its_realm) != its_realm || user.is_empty() {
            return Err(number);
        }
        let password = Private::new(String::from(password));
        users.insert(String::from(user), DigestUser { password, aor_user: None });
    }
    Ok(DigestSettings {
        realm: realm.unwrap_or_default().into(),
        users,
        ..DigestSettings::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_may_contain_colons() {
        let settings = parse_digest("# who\n\nexample.com:200:a:b\nexample.com:201:c\n").unwrap();
        assert_eq!(settings.realm, "example.com");
        assert_eq!(settings.users["200"].password.reveal(), "a:b");
        assert_eq!(settings.users.len(), 2);
    }

    #[test]
    fn a_wrong_line_is_named_by_its_number() {
        assert_eq!(parse_digest("r:u:p\nr:u\n").err(), Some(2));
        assert_eq!(parse_digest("r:u:p\n\nother:u:p\n").err(), Some(3));
        assert_eq!(parse_digest("r::p\n").err(), Some(1));
    }

    #[test]
    fn a_file_that_others_can_read_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "r:u:p\n").unwrap();
        std::fs::set_permissions(file.path(), PermissionsExt::from_mode(0o644)).unwrap();
        let refused = digest_settings(file.path());
        assert!(matches!(refused, Err(UcserverError::Open { .. })), "{refused:?}");
        std::fs::set_permissions(file.path(), PermissionsExt::from_mode(0o600)).unwrap();
        assert!(digest_settings(file.path()).is_ok());
    }
}
