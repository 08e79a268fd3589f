//! What stands between clients and server, and the server.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{ChildStdin, Stdio};
use std::time::Duration;

use serde::Deserialize;

use crate::process::{Process, Server, free};
use crate::{FRONTDOOR, LOAD_CORE, Outcome};

/// By which entrance clients come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entrance {
    Native,
    Web,
}

impl Entrance {
    pub(crate) fn from_name(name: &str) -> Result<Self, String> {
        match name {
            "native" => Ok(Self::Native),
            "web" => Ok(Self::Web),
            _ => Err("native or web".to_owned()),
        }
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Native => "native TCP",
            Self::Web => "WebSocket",
        }
    }
}

/// Through what they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Through {
    Nothing,
    Haproxy,
    Door,
}

/// A server for clients, beside them.
pub(crate) struct Pool {
    sip: SocketAddr,
    clients: SocketAddr,
    web: SocketAddr,
    /// It runs until this ends.
    _stdin: Option<ChildStdin>,
    _process: Process,
}

#[derive(Deserialize)]
struct Line {
    ready: Ready,
}

#[derive(Deserialize)]
struct Ready {
    sip: SocketAddr,
    clients: SocketAddr,
    web: SocketAddr,
}

impl Pool {
    pub(crate) fn start() -> Outcome<Self> {
        let any = "127.0.0.1:0";
        let mut process = Process::start(LOAD_CORE, Path::new(FRONTDOOR), |command| {
            command.args(["ucserver", "--until-stdin-ends", "--sip", any, "--clients", any]);
            command.args(["--web", any]).stdin(Stdio::piped()).stdout(Stdio::piped());
        })
        .map_err(|error| error.to_string())?;
        let (stdin, stdout) = process.pipes();
        let mut line = String::new();
        BufReader::new(stdout.ok_or("no output to read")?).read_line(&mut line)?;
        let Line { ready: Ready { sip, clients, web } } = serde_json::from_str(&line)?;
        Ok(Self { sip, clients, web, _stdin: stdin, _process: process })
    }

    const fn at(&self, entrance: Entrance) -> SocketAddr {
        match entrance {
            Entrance::Native => self.clients,
            Entrance::Web => self.web,
        }
    }
}

/// What is in the middle while it runs.
pub(crate) enum Middle {
    Nothing(SocketAddr),
    Program(Box<Server>),
}

impl Middle {
    pub(crate) fn address(&self) -> SocketAddr {
        match self {
            Self::Nothing(address) => *address,
            Self::Program(server) => server.address,
        }
    }

    pub(crate) fn pid(&self) -> Option<u32> {
        match self {
            Self::Nothing(_) => None,
            Self::Program(server) => Some(server.pid()),
        }
    }

    /// Fails if it has ended: then nothing was measured.
    pub(crate) fn check(self) -> Outcome<()> {
        let Self::Program(mut server) = self else { return Ok(()) };
        if server.process.has_ended() {
            return Err(format!("it has ended:\n{}", server.log_tail()).into());
        }
        Ok(())
    }
}

impl Through {
    pub(crate) const ALL: [Self; 3] = [Self::Nothing, Self::Haproxy, Self::Door];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Haproxy => "HAProxy",
            Self::Door => "the door",
        }
    }

    pub(crate) fn start(self, entrance: Entrance, pool: &Pool) -> Outcome<Middle> {
        let started = match self {
            Self::Nothing => return Ok(Middle::Nothing(pool.at(entrance))),
            Self::Haproxy => haproxy(entrance, pool),
            Self::Door => door(entrance, pool),
        };
        Ok(Middle::Program(Box::new(started?)))
    }
}

/// One thread, as the door has one for either entrance.
fn haproxy(entrance: Entrance, pool: &Pool) -> Outcome<Server> {
    let directory = tempfile::tempdir()?;
    let [address, ..] = free().map_err(|error| error.to_string())?;
    let mode = match entrance {
        Entrance::Native => "tcp",
        Entrance::Web => "http",
    };
    let config = directory.path().join("haproxy.cfg");
    let server = pool.at(entrance);
    std::fs::write(
        &config,
        format!(
            "global\n  nbthread 1\n  maxconn 9940\n  ulimit-n 20000\n  no strict-limits\ndefaults\n  mode {mode}\n  option splice-auto\n  \
             timeout connect 5s\n  timeout client 1h\n  timeout server 1h\n  timeout tunnel 1h\n\
             listen sessions\n  bind {address}\n  server ucs {server}\n"
        ),
    )?;
    let program = Path::new("haproxy");
    let started = Server::start(directory, address, program, |command| {
        command.arg("-db").arg("-f").arg(&config);
    });
    let mut server = started.map_err(|error| error.to_string())?;
    let is_there = || TcpStream::connect_timeout(&address, Duration::from_millis(200)).is_ok();
    server.wait_until(is_there).map_err(|error| error.to_string())?;
    Ok(server)
}

/// As an operator would run it.
fn door(entrance: Entrance, pool: &Pool) -> Outcome<Server> {
    let directory = tempfile::tempdir()?;
    let [phones, upstream, admin] = free().map_err(|error| error.to_string())?;
    let [native, web, _] = free().map_err(|error| error.to_string())?;
    let config = directory.path().join("frontdoor.toml");
    let Pool { sip, clients, web: server_web, .. } = pool;
    std::fs::write(
        &config,
        format!(
            "[[listen]]\nname = \"phones\"\ntransport = \"udp\"\naddress = \"{phones}\"\n\
             [[listen]]\nname = \"clients\"\nplane = \"client\"\ntransport = \"tcp\"\n\
             address = \"{native}\"\n\
             [[listen]]\nname = \"web\"\nplane = \"client\"\ntransport = \"http\"\n\
             address = \"{web}\"\n\
             [[upstream]]\nname = \"servers\"\ntransport = \"udp\"\naddress = \"{upstream}\"\n\
             [[servers]]\nname = \"ucs\"\nsip = \"udp:{sip}\"\nclients = \"{clients}\"\n\
             web = \"{server_web}\"\ncapacity = 2000000\nversion = \"2603.0\"\n\
             health_document = \"none\"\n\
             [sip]\ntrusted_networks = [\"127.0.0.0/8\"]\n\
             [limits]\nconnections = 19900\nconnections_per_source = 19900\n\
             [admin]\naddress = \"{admin}\"\n"
        ),
    )?;
    let address = match entrance {
        Entrance::Native => native,
        Entrance::Web => web,
    };
    let started = Server::start(directory, address, Path::new(FRONTDOOR), |command| {
        command.args(["run", "--config"]).arg(&config);
    });
    let mut server = started.map_err(|error| error.to_string())?;
    server.wait_until(|| is_up(admin)).map_err(|error| error.to_string())?;
    Ok(server)
}

/// Whether the door believes in its server.
fn is_up(admin: SocketAddr) -> bool {
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&admin, Duration::from_millis(200))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        write!(stream, "GET /v1/status HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.contains("\"state\":\"up\""))
}
