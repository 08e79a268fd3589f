//! What is measured: the same job for every peer, under the same load.

use std::time::Duration;

use frontdoor::load::{self, Pace, Plan, Report};
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
}

impl Case {
    pub(crate) const ALL: [Self; 2] = [Self::Absorbed, Self::PassedOn];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Absorbed => "absorbed",
            Self::PassedOn => "passed-on",
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
        }
    }

    fn job(self) -> Job {
        match self {
            Self::Absorbed => Job::Answer,
            Self::PassedOn => Job::PassOn,
        }
    }

    /// Starts the peer afresh, registers everybody, measures.
    pub(crate) fn play(self, peer: &Peer, arguments: &Arguments) -> Outcome<Report> {
        let mut registrars = Registrars::start()?;
        let server = peer.start(self.job(), &registrars.addresses)?;
        let plan = Plan {
            users: arguments.users(),
            pace: Pace::Window(arguments.window),
            duration: Duration::from_secs_f64(arguments.seconds()),
            server_pids: vec![server.pid()],
            ..Plan::new(server.address)
        };
        let report = load::run(&plan).map_err(|error| format!("{error}\n{}", server.log_tail()))?;
        registrars.check()?;
        Ok(report)
    }
}
