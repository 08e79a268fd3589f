//! What is measured: the same job for every peer, under the same load.

use std::time::Duration;

use frontdoor::load::{self, Pace, Plan, Report};
use frontdoor::sip::Transport;
use serde::Serialize;

use crate::peer::{Job, Peer};
use crate::process::Registrars;
use crate::{Arguments, Outcome};

/// One comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Case {
    /// An unchanged refresh: the door answers it, as Kamailio's registrar does.
    Absorbed,
    /// A REGISTER that goes to one of three registrars and back, with a Path added.
    PassedOn,
    /// The first, over a connection for each phone.
    TcpAbsorbed,
    /// The second, over a connection for each phone.
    TcpPassedOn,
    /// What a binding takes.
    Memory,
}

impl Case {
    pub(crate) const ALL: [Self; 5] =
        [Self::Absorbed, Self::PassedOn, Self::TcpAbsorbed, Self::TcpPassedOn, Self::Memory];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Absorbed => "absorbed",
            Self::PassedOn => "passed-on",
            Self::TcpAbsorbed => "tcp-absorbed",
            Self::TcpPassedOn => "tcp-passed-on",
            Self::Memory => "memory",
        }
    }

    pub(crate) fn from_name(name: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::name).join(", ");
        Self::ALL.into_iter().find(|case| case.name() == name).ok_or(names)
    }

    /// What each side does, for whoever reads the figures.
    pub(crate) fn story(self) -> &'static str {
        match self {
            Self::Absorbed => {
                "unchanged refreshes over UDP: answered by the door, its store a file, three \
                 registrars behind it <-> Kamailio registrar, usrloc in memory"
            }
            Self::PassedOn => {
                "REGISTER over UDP to one of three registrars and back, Path added: door without \
                 absorption, its store a file <-> Kamailio stateful proxy (t_relay), dispatcher by hash"
            }
            Self::TcpAbsorbed => "as absorbed, over TCP, a connection for each phone",
            Self::TcpPassedOn => {
                "as passed-on, TCP from the phones, a connection each, UDP to the registrars"
            }
            Self::Memory => {
                "as absorbed; proportional set size when everybody is registered and transactions \
                 are forgotten, less what it was before"
            }
        }
    }

    fn job(self) -> Job {
        match self {
            Self::Absorbed | Self::TcpAbsorbed | Self::Memory => Job::Answer,
            Self::PassedOn | Self::TcpPassedOn => Job::PassOn,
        }
    }

    fn transport(self) -> Transport {
        match self {
            Self::Absorbed | Self::PassedOn | Self::Memory => Transport::Udp,
            Self::TcpAbsorbed | Self::TcpPassedOn => Transport::Tcp,
        }
    }

    /// How many phones there are.
    pub(crate) fn users(self, arguments: &Arguments) -> u32 {
        match self.transport() {
            Transport::Udp => arguments.users(),
            Transport::Tcp => arguments.connections,
        }
    }

    /// How often it is played.
    pub(crate) fn rounds(self, arguments: &Arguments) -> usize {
        if self == Self::Memory { 1 } else { arguments.rounds() }
    }

    /// How long nothing happens once everybody is registered. A server keeps a transaction for 32
    /// seconds (RFC 3261 timer J), a client for five (timer K): what registering everybody leaves
    /// behind is no part of a refresh.
    fn settle(self, arguments: &Arguments) -> Duration {
        match self {
            Self::Memory if arguments.quick => Duration::from_secs(8),
            Self::Memory => Duration::from_secs(36),
            Self::Absorbed | Self::TcpAbsorbed => Duration::from_secs(6),
            Self::PassedOn | Self::TcpPassedOn => Duration::from_millis(500),
        }
    }

    /// Starts the peer afresh, registers everybody, measures.
    pub(crate) fn play(self, peer: &Peer, arguments: &Arguments) -> Outcome<Report> {
        let users = self.users(arguments);
        if self.transport() == Transport::Tcp {
            // The server inherits the bound, too.
            load::allow_files(u64::from(users) + 1024)?;
        }
        let mut registrars = Registrars::start()?;
        let server = peer.start(self.job(), self.transport(), &registrars.addresses)?;
        let plan = Plan {
            users,
            transport: self.transport(),
            settle: self.settle(arguments),
            pace: Pace::Window(arguments.window),
            duration: Duration::from_secs_f64(arguments.seconds()),
            server_pids: vec![server.pid()],
            ..Plan::new(server.address)
        };
        let report = load::run(&plan).map_err(|error| format!("{error}\n{}", server.log_tail()))?;
        registrars.check()?;
        if report.server.is_none_or(|server| server.cpu_us == 0.0) {
            return Err("the server's processes did no work that was measured".into());
        }
        Ok(report)
    }
}
