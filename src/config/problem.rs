//! [`Problem`]: what is wrong in a file, where, and what to write instead.

use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// Everything that is wrong with one configuration.
#[derive(Clone, Debug, thiserror::Error)]
pub struct Problems {
    /// The file.
    pub path: PathBuf,
    /// In the order of the file.
    pub problems: Vec<Problem>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, problem) in self.problems.iter().enumerate() {
            let newline = if nth == 0 { "" } else { "\n" };
            write!(f, "{newline}{}", problem.at(&self.path))?;
        }
        Ok(())
    }
}

/// One thing that is wrong, or (as a warning) dangerous.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// From 1; 0 where no line is to blame.
    pub line: usize,
    /// From 1, in characters; 0 where no line is to blame.
    pub column: usize,
    /// What, and what to do.
    #[serde(serialize_with = "as_message", rename = "message")]
    pub fault: Fault,
}

impl Problem {
    /// The problem as `file:line:column: what`.
    pub fn at(&self, path: &Path) -> String {
        match self.line {
            0 => format!("{}: {}", path.display(), self.fault),
            line => format!("{}:{line}:{}: {}", path.display(), self.column, self.fault),
        }
    }
}

fn as_message<S: serde::Serializer>(fault: &Fault, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(fault)
}

/// Turns places in a text into lines and columns, and collects problems.
#[derive(Debug)]
pub(super) struct Complaints<'t> {
    text: &'t str,
    problems: Vec<Problem>,
}

impl<'t> Complaints<'t> {
    pub(super) const fn about(text: &'t str) -> Self {
        Self { text, problems: Vec::new() }
    }

    /// Something is wrong at `span`.
    pub(super) fn push(&mut self, span: Range<usize>, fault: Fault) {
        let (line, column) = self.position(span.start);
        self.problems.push(Problem { line, column, fault });
    }

    /// Something is wrong with the whole.
    pub(super) fn push_whole(&mut self, fault: Fault) {
        self.problems.push(Problem { line: 0, column: 0, fault });
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.problems.is_empty()
    }

    /// In the order of the file.
    pub(super) fn into_sorted(mut self) -> Vec<Problem> {
        self.problems.sort_by_key(|problem| (problem.line, problem.column));
        self.problems
    }

    /// The line of a place, from 1.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        self.position(span.start).0
    }

    fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(self.text);
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
        let column = before.get(line_start..).map_or(0, |text| text.chars().count()) + 1;
        (line, column)
    }
}

/// What is wrong, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are the words of the message above them")]
pub enum Fault {
    /// The file could not be read at all.
    #[error("cannot be read: {why}; name the file with --config FILE")]
    Unreadable { why: String },
    /// Not TOML.
    #[error("this is not TOML: {why}")]
    Syntax { why: String },
    /// A key nobody knows.
    #[error("unknown key `{key}`{}{}", in_section(section), Hint(near, elsewhere))]
    UnknownKey { key: String, section: String, near: Option<String>, elsewhere: Option<String> },
    /// A word where only certain words are possible.
    #[error("`{word}` is not possible here; write one of {}{}", quoted(possible), Hint(near, &None))]
    UnknownWord { word: String, possible: Vec<String>, near: Option<String> },
    /// A value of the wrong kind.
    #[error("{why}")]
    Value { why: String },
    /// A key that must be there.
    #[error("[[{section}]] needs `{key}`, such as {key} = {example}")]
    Missing { section: &'static str, key: &'static str, example: &'static str },
    /// An empty text.
    #[error("`{key}` must not be empty")]
    Empty { key: &'static str },
    /// A text with characters that would break a header.
    #[error("`{key}` holds a character that cannot be sent; use printable ASCII")]
    Unprintable { key: &'static str },
    /// Nobody could register.
    #[error(
        "no [[listen]]: phones have nowhere to register; add one with name, transport, address"
    )]
    NoListen,
    /// No server could be reached.
    #[error(
        "no [[upstream]]: the door has no socket towards the servers; add one with name, transport, address"
    )]
    NoUpstream,
    /// Nobody could be served.
    #[error("no [[servers]]: add one for each UCServer, with name, sip, capacity")]
    NoServers,
    /// More than can be numbered.
    #[error("{count} [[{section}]] are too many; at most {most}")]
    TooMany { section: &'static str, count: usize, most: usize },
    /// A name twice.
    #[error("the name `{name}` is taken (line {first_line}); give this {what} another one")]
    DuplicateName { what: &'static str, name: String, first_line: usize },
    /// An address twice.
    #[error("{address} is taken (line {first_line}); give this {what} another address or port")]
    DuplicateAddress { what: &'static str, address: String, first_line: usize },
    /// Listening on every address, and nothing to tell the other side.
    #[error(
        "{address} says where to listen, not where the door is reached; \
         add advertise = \"door.example.com:{}\" or listen on one address", address.port()
    )]
    NeedsAdvertise { address: SocketAddr },
    /// Port 0.
    #[error("{address} has no fixed port, so nobody could find the door; write one, such as 5060")]
    PortZero { address: SocketAddr },
    /// SIP by TLS.
    #[error(
        "SIP is not spoken by TLS here; write one of \"udp\", \"tcp\", or plane = \"client\" for clients of \
         UCServers"
    )]
    SipByTls,
    /// SIP by HTTP.
    #[error(
        "phones do not come by HTTP; write one of \"udp\", \"tcp\", or plane = \"client\" for the WebService"
    )]
    SipByHttp,
    /// A WebService of which nobody could tell whether it is well.
    #[error(
        "server `{server}` has `web` and no `clients`, where the door asks whether it serves clients; write both"
    )]
    WebWithoutClients { server: String },
    /// A listener that stands for nobody.
    #[error("`{name}` is no server; write the name of a [[servers]]{}", Hint(near, &None))]
    StandsForNobody { name: String, near: Option<String> },
    /// A listener that cannot stand for a server.
    #[error(
        "only a listener with plane = \"client\" and transport \"tcp\" or \"tls\" stands for a server; remove `stands_for`"
    )]
    CannotStand,
    /// Warning: nobody can be sent anywhere.
    #[error(
        "no server has `public`, so nobody is told to go elsewhere; add it to [[servers]], or write \"carry\""
    )]
    NowhereToRedirect,
    /// Warning: a listener behind which there is nothing.
    #[error("no server has `web`, so nobody can be served here; add it to [[servers]]")]
    NobodysWeb,
    /// Clients by datagrams.
    #[error(
        "clients of UCServers come by streams; write one of \"tcp\", \"tls\", \"http\", \"https\""
    )]
    ClientsByUdp,
    /// Clients find their listener by themselves.
    #[error("nobody is told where a listener with plane = \"client\" is; remove `advertise`")]
    ClientsAdvertised,
    /// TLS without anything to show.
    #[error(
        "TLS needs a certificate; add a [[certificates]] with chain and key, or write \"tcp\" or \"http\""
    )]
    NoCertificate,
    /// Warning: certificates nobody is shown.
    #[error(
        "no [[listen]] has plane = \"client\", so nobody is shown this certificate; add one, or remove the \
         certificate"
    )]
    CertificateUnused,
    /// Not `host:port`.
    #[error(
        "`{text}` is not `host:port`; write what the other side reaches the door by, such as \"door.example.com:5060\""
    )]
    Advertise { text: String },
    /// A server without a socket that can reach it.
    #[error(
        "server `{server}` is reached by {transport} over {family}, and no [[upstream]] does that; \
         add one with transport = \"{transport}\" and an {family} address"
    )]
    NoSocketTowards { server: String, transport: &'static str, family: &'static str },
    /// The door would register with itself.
    #[error(
        "server `{server}` has an address of the door itself (line {line}); write the UCServer's"
    )]
    IsOurselves { server: String, line: usize },
    /// Two values in the wrong order.
    #[error(
        "`{small}` ({small_value}) is more than `{large}` ({large_value}); lower it, or raise `{large}`"
    )]
    Order { small: &'static str, small_value: String, large: &'static str, large_value: String },
    /// Stages that do not lead everybody home.
    #[error(
        "`stages` must rise, in whole per cent, to 100, in 20 steps at most, such as [1, 5, 25, 100]"
    )]
    Stages,
    /// A number outside of its range.
    #[error("`{key}` is {value}; it must be from {min} to {max}")]
    Range { key: &'static str, value: String, min: String, max: String },
    /// Not a version.
    #[error("`{text}` is not a version; write one such as \"2603.0\"")]
    Version { text: String },
    /// Not a usable URL.
    #[error("`{text}` is not usable; write \"http://HOST:PORT/PATH\" (https is not supported)")]
    HealthUrl { text: String },
    /// A server that nothing would take for failed.
    #[error(
        "server `{server}` serves none of these planes, so nothing would say that it has failed; add one of {}",
        quoted(serves)
    )]
    NoPlaneCounts { server: String, serves: Vec<String> },
    /// A document that is used and has no place.
    #[error(
        "health_document = \"required\" needs `health_url`, such as \"http://10.0.0.1:7130/health\""
    )]
    DocumentWithoutUrl,
    /// The admin listener for everybody.
    #[error(
        "the admin listener has no authentication yet and is for this machine only; write \"127.0.0.1:{}\"",
        address.port()
    )]
    AdminNotLoopback { address: SocketAddr },
    /// Not a log filter.
    #[error("{why}")]
    LogFilter { why: String },
    /// The users file cannot be used.
    #[error("the users file {}, {why}", path.display())]
    UsersFile { path: PathBuf, why: String },
    /// A home that is no server.
    #[error(
        "{count} users have the home `{home}` (the first is `{user}`), and no [[servers]] has that name"
    )]
    UnknownHome { home: String, user: String, count: usize },
    /// Warning (H7).
    #[error(
        "server `{server}` has no known version, so it serves its own users only and is no backup; \
         add version = \"2603.0\" (or what it runs), or health_url"
    )]
    VersionUnknown { server: String },
    /// Warning (H7).
    #[error(
        "server `{server}` runs {version}; before 2603.0 a server serves its own users only and is no backup"
    )]
    VersionOld { server: String, version: String },
    /// Warning (M6).
    #[error(
        "server `{server}` has realm `{realm}`, the others ({others}) have `{other_realm}`: no user of \
         theirs can move there, and none of its own to them"
    )]
    OtherRealm { server: String, realm: String, others: String, other_realm: String },
    /// A telephone system nobody described.
    #[error(
        "`{name}` is no [[telephone_systems]]{}; add one with name = \"{name}\"",
        Hint(near, &None)
    )]
    UnknownSystem { name: String, near: Option<String> },
    /// A name nobody could say in a health document.
    #[error("a name in `{key}` must be of 1 to {most} octets without control characters")]
    Name { key: &'static str, most: usize },
    /// Warning (P4).
    #[error(
        "line group `{group}` is on server `{server}` alone{}: none of its users can move to another \
         one; names must be equal on all servers",
        Hint(near, &None)
    )]
    LineGroupAlone { server: String, group: String, near: Option<String> },
    /// Warning (M7).
    #[error(
        "server `{server}` has no `reaches`: its users' registrations keep to a [[telephone_systems]] only \
         if its health document names it, and as long as one has come; add reaches = [\"{example}\"]"
    )]
    ReachesNothing { server: String, example: String },
    /// Warning (P4).
    #[error(
        "no other server has all line groups and reaches all telephone systems of `{server}`: when it \
         fails, its users find no place"
    )]
    NoBackup { server: String },
    /// Warning (P5).
    #[error(
        "one more failure does not fit: when server `{server}` fails, {unplaced} of its {users} users \
         find no place; add a server or raise capacities"
    )]
    DoesNotFit { server: String, users: u64, unplaced: u64 },
    /// Warning: one server.
    #[error("there is one server only: when it fails there is nowhere to go")]
    OneServer,
    /// Warning: mode `none` for everybody.
    #[error(
        "auth = \"none\" without trusted_networks: anybody can register anything, and no refresh is \
         absorbed; list your phones' networks, such as trusted_networks = [\"10.0.0.0/8\"]"
    )]
    NobodyTrusted,
    /// Warning: leases that are always cut.
    #[error("`lease_max` ({lease_max}) is more than `expiry` ({expiry}), which bounds every lease")]
    LeaseCut { lease_max: String, expiry: String },
    /// Warning: nothing survives.
    #[error(
        "store.path = \"memory\": homes, relocations and bindings are gone when the door stops; \
         name a file unless this is a test"
    )]
    MemoryStore,
}

impl Fault {
    /// Whether this is complained about only because `key` of `section` could not be read.
    pub(super) fn follows_from(&self, section: &str, key: &str) -> bool {
        if let Self::Missing { section: there, key: missing, .. } = self {
            return section == *there && (key == *missing || key.is_empty());
        }
        let is_missing_part = |missing: &str| match missing {
            "listen" => matches!(self, Self::NoListen),
            "upstream" => matches!(self, Self::NoUpstream | Self::NoSocketTowards { .. }),
            "servers" => matches!(self, Self::NoServers | Self::UnknownHome { .. }),
            "plane" => matches!(self, Self::SipByTls | Self::CertificateUnused),
            "certificates" => matches!(self, Self::NoCertificate),
            "advertise" => matches!(self, Self::NeedsAdvertise { .. }),
            "planes" => {
                matches!(self, Self::Empty { key: "planes" } | Self::NoPlaneCounts { .. })
            }
            "health_url" => matches!(self, Self::DocumentWithoutUrl),
            _ => false,
        };
        is_missing_part(section) || is_missing_part(key)
    }
}

fn in_section(section: &str) -> String {
    if section.is_empty() { String::new() } else { format!(" in [{section}]") }
}

fn quoted(words: &[String]) -> String {
    words.iter().map(|word| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}

struct Hint<'a>(&'a Option<String>, &'a Option<String>);

impl fmt::Display for Hint<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0, self.1) {
            (_, Some(section)) => write!(f, "; it belongs in [{section}]"),
            (Some(near), None) => write!(f, "; did you mean `{near}`?"),
            (None, None) => Ok(()),
        }
    }
}
