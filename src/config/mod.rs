//! The configuration: TOML → `Raw` (what is written) → [`Config`] (what was checked), which fills
//! the settings each module owns.
//!
//! Every key, its unit and its default are in `config/frontdoor.toml`. Paths are relative to the
//! directory of the file.

mod address;
pub mod certificates;
mod check;
mod client_sockets;
mod clients;
mod duration;
mod fit;
mod pool;
mod problem;
mod raw;
mod reading;
mod realm;
mod recovery;
mod ties;
pub mod token;
mod users;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::admin;
use crate::cluster::health;
use crate::cluster::{HealthDocumentUse, Server, ServerId};
use crate::config::certificates::CertificateFiles;
use crate::decision;
use crate::directory::import::Imported;
use crate::door;
use crate::door::Side;
use crate::net;
use crate::private::Private;
use crate::sip::{ListenerId, Transport};
use crate::telemetry;

pub use client_sockets::{ClientProtocol, ClientSocket};
pub use problem::{Fault, Problem, Problems};

/// What was checked: enough to build a door, apart from the key and the store.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file it came from.
    pub path: PathBuf,
    /// Sockets towards phones, then sockets towards servers: a
    /// [`crate::sip::ListenerId`] counts along this list.
    pub sockets: Vec<Socket>,
    /// Sockets towards clients of UCServers; their [`crate::sip::ListenerId`]s follow.
    pub client_sockets: Vec<ClientSocket>,
    /// What those are shown who come by TLS; the first is shown to whoever asks for no other.
    pub certificates: Vec<CertificateFiles>,
    /// The pool.
    pub servers: Vec<Server>,
    /// The SIP edge.
    pub sip: door::SipSettings,
    /// Patience with servers.
    pub health: health::Settings,
    /// Where servers send their health documents by themselves; `None`: nowhere.
    pub health_push: Option<SocketAddr>,
    /// The login decision.
    pub decision: decision::Policy,
    /// The way home.
    pub recovery: crate::recovery::Policy,
    /// The client plane.
    pub clients: door::ClientSettings,
    /// Pace towards a server.
    pub pace: door::Pace,
    /// The telephone systems behind the servers.
    pub telephone_systems: Vec<door::TelephoneSystem>,
    /// D6.
    pub unknown_users: door::UnknownUsers,
    /// Bounds of every table.
    pub limits: door::Limits,
    /// The users of `users.file`; none without one.
    pub users: Vec<Imported>,
    /// What survives, and where.
    pub store: StorePlace,
    /// Where reports go.
    pub reports: crate::reports::Settings,
    /// The file with the key of Path tokens.
    pub token_file: PathBuf,
    /// The file with the token of whoever may change something over the admin listener.
    pub admin_token_file: PathBuf,
    /// Bounds of streams.
    pub streams: net::Limits,
    /// Where the admin listener is, and what it may be called.
    pub admin: admin::Settings,
    /// What is logged, and how.
    pub log: telemetry::Settings,
    /// What is possible and dangerous.
    pub warnings: Vec<Problem>,
}

/// One socket of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its name; records carry it.
    pub name: Arc<str>,
    /// What is spoken there.
    pub transport: Transport,
    /// Who is expected there.
    pub side: Side,
    /// Where it is bound.
    pub address: SocketAddr,
    /// `host:port` by which the other side reaches it.
    pub advertised: Arc<str>,
}

/// Where the store is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StorePlace {
    /// Nothing survives.
    Memory,
    /// One file.
    File(PathBuf),
}

impl Config {
    /// Reads and checks a file and the users file it names.
    pub fn read(path: &Path) -> Result<Self, Problems> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(path, &text),
            Err(error) => {
                let fault = Fault::Unreadable { why: error.to_string() };
                let problem = Problem { line: 0, column: 0, fault };
                Err(Problems { path: path.to_owned(), problems: vec![problem] })
            }
        }
    }

    /// Checks a text that came from `path`.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Problems> {
        check::check(path, text)
    }

    /// What the shell is told at start, apart from [`Config::certificates`].
    pub fn net_settings(&self) -> net::Settings {
        let listeners = self.sockets.iter().map(|socket| net::Listen {
            name: Arc::clone(&socket.name),
            transport: socket.transport,
            speaks: net::Protocol::Sip,
            security: net::Security::None,
            address: socket.address,
        });
        let by = |speaks| self.client_sockets.iter().filter(move |it| it.speaks == speaks);
        let clients = by(ClientProtocol::Ucsap).map(|socket| net::Listen {
            name: Arc::clone(&socket.name),
            transport: Transport::Tcp,
            speaks: net::Protocol::Ucsap,
            security: socket.security,
            address: socket.address,
        });
        net::Settings {
            listeners: listeners.chain(clients).collect(),
            limits: self.streams,
            certificates: None,
            web: net::WebSettings {
                listeners: by(ClientProtocol::Http)
                    .map(|socket| net::WebListen {
                        name: Arc::clone(&socket.name),
                        address: socket.address,
                        is_secure: socket.security == net::Security::Tls,
                    })
                    .collect(),
                servers: self
                    .servers
                    .iter()
                    .map(|server| net::WebServer {
                        name: Arc::clone(&server.name),
                        address: server.web,
                        ucsid: Arc::clone(server.ucsid.as_ref().unwrap_or(&server.name)),
                    })
                    .collect(),
                limits: net::WebLimits {
                    connections: self.streams.connections,
                    connections_per_source: self.streams.connections_per_source,
                    sessions: self.clients.limits.sessions,
                    ..net::WebLimits::default()
                },
            },
            health_urls: self.servers.iter().map(|server| server.health_url.clone()).collect(),
            health_push: self.health_push.map(|address| net::PushSettings {
                address,
                servers: self.servers.iter().map(pushes).collect(),
            }),
        }
    }

    /// What the core is told at start. `seed` feeds every jitter and identifier of this life.
    pub fn door_settings(&self, token_key: Private<[u8; 32]>, seed: u64) -> door::Settings {
        let listeners = self.sockets.iter().map(|socket| door::Listener {
            name: Arc::clone(&socket.name),
            transport: socket.transport,
            side: socket.side,
            advertised: Arc::clone(&socket.advertised),
            ipv6: socket.address.is_ipv6(),
        });
        // Their numbers follow those of the core's own listeners.
        let numbers = (self.sockets.len()..).map(|number| ListenerId(number as u16));
        let numbered: Vec<_> = numbers.zip(&self.client_sockets).collect();
        let offered = numbered.iter().filter(|(_, it)| it.security == net::Security::StartTls);
        let start_tls = offered.map(|(number, _)| *number).collect();
        let stands_for = numbered.iter().filter_map(|(number, socket)| {
            let name = socket.stands_for.as_ref()?;
            let place = self.servers.iter().position(|server| server.name == *name)?;
            Some((*number, ServerId(u16::try_from(place).ok()?)))
        });
        let stands_for = stands_for.collect();
        door::Settings {
            servers: self.servers.clone(),
            listeners: listeners.collect(),
            sip: self.sip.clone(),
            health: self.health.clone(),
            decision: self.decision.clone(),
            recovery: self.recovery.clone(),
            clients: door::ClientSettings { start_tls, stands_for, ..self.clients.clone() },
            pace: self.pace,
            telephone_systems: self.telephone_systems.clone(),
            unknown_users: self.unknown_users,
            limits: self.limits,
            token_key,
            seed,
        }
    }
}

/// A server whose documents are wanted, and where they come from.
fn pushes(server: &Server) -> Option<(Arc<str>, IpAddr)> {
    let wanted = server.health_document != HealthDocumentUse::None;
    wanted.then(|| (Arc::clone(&server.name), server.sip.ip()))
}

#[cfg(test)]
mod tests;
