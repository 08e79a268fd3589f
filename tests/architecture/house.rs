//! The rules as tables: what may name what, which words are refused, how long is too long.

/// Each top-level module and what it may name, from the ground up: only what stands above it here.
pub(crate) const MAP: &[(&str, &[&str])] = &[
    ("now", &[]),
    ("private", &[]),
    ("timers", &["now"]),
    ("arena", &[]),
    ("sip", &["now", "private", "timers"]),
    ("ucsap", &["now", "private", "timers", "arena"]),
    ("ucws", &["private", "ucsap"]),
    ("cluster", &["now", "sip"]),
    ("directory", &["cluster", "private", "sip"]),
    ("placement", &["cluster", "directory", "now"]),
    ("decision", &["cluster", "directory", "now", "placement"]),
    ("recovery", &["cluster", "now"]),
    (
        "door",
        &[
            "now",
            "private",
            "timers",
            "arena",
            "sip",
            "ucsap",
            "ucws",
            "cluster",
            "directory",
            "placement",
            "decision",
            "recovery",
        ],
    ),
    ("store", &["directory"]),
    (
        "net",
        &[
            "now",
            "private",
            "timers",
            "arena",
            "sip",
            "ucsap",
            "ucws",
            "cluster",
            "directory",
            "door",
        ],
    ),
    // Of `cluster` the health document alone: its format is published, not the door's. Of `net` the
    // streams alone, and only where the machine is put on sockets.
    ("ucserver", &["now", "private", "timers", "sip", "ucsap", "cluster", "net"]),
    // Of `net` the clock alone, and of `sip` the names of transports: it is no part of the door.
    ("load", &["now", "sip", "net"]),
    ("reports", &["door"]),
    ("admin", &["now", "private", "cluster", "directory", "door", "net", "reports"]),
    ("telemetry", &["now", "cluster", "door"]),
    (
        "config",
        &[
            "now",
            "private",
            "sip",
            "cluster",
            "directory",
            "placement",
            "decision",
            "recovery",
            "door",
            "store",
            "net",
            "admin",
            "telemetry",
            "reports",
        ],
    ),
    (
        "cli",
        &[
            "now",
            "private",
            "timers",
            "sip",
            "ucsap",
            "cluster",
            "directory",
            "placement",
            "decision",
            "recovery",
            "door",
            "ucserver",
            "store",
            "net",
            "load",
            "admin",
            "telemetry",
            "reports",
            "config",
        ],
    ),
];

/// Modules that know no clock, no socket and no disk.
pub(crate) const PURE: &[&str] = &[
    "now",
    "private",
    "timers",
    "arena",
    "sip",
    "ucsap",
    "ucws",
    "cluster",
    "directory",
    "placement",
    "decision",
    "recovery",
    "door",
    "ucserver",
];

/// The one part of a pure module that is shell.
pub(crate) const SHELL_INSIDE: &[&str] = &["ucserver/run"];

pub(crate) const WAITS: &str = "the core waits for nothing: it is handed an input and returns";
pub(crate) const CLOCK: &str =
    "time is an argument (`Now`, `Uptime`), so that a failover can be replayed";
pub(crate) const IO: &str = "the core does no I/O: hand out an `Output`, the shell carries it out";
pub(crate) const CHANCE: &str =
    "chance comes from one seeded generator, so that a run can be repeated";
pub(crate) const SHARED: &str = "the core has one owner: nothing to lock and nothing global";

/// Words that a pure module may not contain, and why.
pub(crate) const IMPURE: &[(&str, &str)] = &[
    ("tokio", WAITS),
    ("hyper", WAITS),
    ("async", WAITS),
    (".await", WAITS),
    ("Instant", CLOCK),
    ("SystemTime::now", CLOCK),
    ("UNIX_EPOCH.elapsed", CLOCK),
    ("std::fs", IO),
    ("std::env", IO),
    ("std::process", IO),
    ("std::thread", IO),
    ("stdout", IO),
    ("stderr", IO),
    ("println!", IO),
    ("eprintln!", IO),
    ("print!", IO),
    ("eprint!", IO),
    ("tracing", IO),
    ("UdpSocket", IO),
    ("TcpStream", IO),
    ("TcpListener", IO),
    ("UnixStream", IO),
    ("ToSocketAddrs", IO),
    ("socket2", IO),
    ("nix", IO),
    ("redb", IO),
    ("rand", CHANCE),
    ("getrandom", CHANCE),
    ("thread_rng", CHANCE),
    ("Rng::new", CHANCE),
    ("Mutex", SHARED),
    ("RwLock", SHARED),
    ("LazyLock", SHARED),
    ("OnceLock", SHARED),
    ("thread_local!", SHARED),
];

/// Words that stand nowhere in the source, and why.
pub(crate) const NOWHERE: &[(&str, &str)] = &[
    ("#[allow", "say `#[expect(lint, reason = \"…\")]`: it complains when it is no longer needed"),
    (
        "#![allow",
        "say `#![expect(lint, reason = \"…\")]`: it complains when it is no longer needed",
    ),
    ("dbg!", "left over from looking for a fault"),
    ("todo!", "what is not there is left out, and README.md says so"),
    ("unimplemented!", "what is not there is left out, and README.md says so"),
    ("super::super", "say `crate::…`: the import map is read from paths"),
    ("crate::{", "one module a line: the import map is read from paths"),
    ("unsafe", "nothing here needs it; the crate forbids it"),
];

/// Of code, before the tests.
pub(crate) const FILE_LINES_MAX: usize = 600;
pub(crate) const FUNCTION_LINES_MAX: usize = 100;

/// Files over the limit: they may shrink, not grow, and leave this list when they fit.
pub(crate) const FILES_TOO_LONG: &[(&str, usize)] = &[];

/// Functions over the limit, by file and name; the same law.
pub(crate) const FUNCTIONS_TOO_LONG: &[(&str, &str, usize)] = &[];

/// Hosts that a text of this repository may name.
pub(crate) const KNOWN_HOSTS: &[&str] =
    &["localhost", "www.apache.org", "json-schema.org", "www.rfc-editor.org"];
