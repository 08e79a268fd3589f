//! Who is measured, and how each is told to do the same job.

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::time::Duration;

use frontdoor::sip::Transport;

use crate::Outcome;
use crate::process::{Server, free};

const REGISTRAR: &str = include_str!("registrar.cfg");
const PROXY: &str = include_str!("proxy.cfg");

/// A server that can do the job.
#[derive(Clone, Debug)]
pub(crate) enum Peer {
    /// A build of the door.
    Door { name: String, program: PathBuf },
    /// Debian's Kamailio, with the fast allocator `fm`.
    Kamailio,
}

/// What it is to do with a REGISTER.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    /// Answer it.
    Answer,
    /// Pass it on to a registrar, with a Path.
    PassOn,
}

impl Peer {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Door { name, .. } => name,
            Self::Kamailio => "kamailio",
        }
    }

    /// Starts it in a new directory and waits until it serves.
    pub(crate) fn start(
        &self,
        job: Job,
        transport: Transport,
        registrars: &[SocketAddr],
    ) -> Outcome<Server> {
        match self {
            Self::Door { program, .. } => start_door(program, job, transport, registrars),
            Self::Kamailio => start_kamailio(job, transport, registrars),
        }
    }
}

fn start_door(
    program: &Path,
    job: Job,
    transport: Transport,
    registrars: &[SocketAddr],
) -> Outcome<Server> {
    let directory = tempfile::tempdir()?;
    let [phones, upstream, admin] = free()?;
    let config = directory.path().join("frontdoor.toml");
    let addresses = [phones, upstream, admin];
    std::fs::write(&config, door_configuration(job, transport, registrars, addresses)?)?;
    let mut server = Server::start(directory, phones, program, |command| {
        command.args(["run", "--config"]).arg(&config);
    })?;
    server.wait_until(|| is_ready(admin))?;
    Ok(server)
}

/// As an operator would run it where phones are trusted by their network.
fn door_configuration(
    job: Job,
    transport: Transport,
    registrars: &[SocketAddr],
    [phones, upstream, admin]: [SocketAddr; 3],
) -> Outcome<String> {
    let transport = transport.via_name().to_ascii_lowercase();
    let mut text = format!(
        "[[listen]]\nname = \"phones\"\ntransport = \"{transport}\"\naddress = \"{phones}\"\n\
         [[upstream]]\nname = \"servers\"\ntransport = \"udp\"\naddress = \"{upstream}\"\n"
    );
    for (number, registrar) in (1..).zip(registrars) {
        write!(
            text,
            "[[servers]]\nname = \"ucs{number}\"\nsip = \"udp:{registrar}\"\ncapacity = 2000000\n\
             version = \"2603.0\"\nhealth_document = \"none\"\n"
        )?;
    }
    let absorb = job == Job::Answer;
    write!(
        text,
        "[sip]\nauth = \"none\"\ntrusted_networks = [\"127.0.0.0/8\"]\nabsorb = {absorb}\n\
         [failover]\ndisable_automatic_user_distribution = false\n\
         [limits]\nconnections = 100000\nconnections_per_source = 100000\n\
         strangers = 1000000\nstrangers_per_source = 1000000\n\
         strangers_burst_per_source = 1000000\nchanges_per_aor = 1000\n\
         changes_burst_per_aor = 10000\n\
         [admin]\naddress = \"{admin}\"\n"
    )?;
    Ok(text)
}

/// What the door's admin listener says.
fn is_ready(admin: SocketAddr) -> bool {
    let ask = || -> std::io::Result<Vec<u8>> {
        let mut stream = TcpStream::connect_timeout(&admin, Duration::from_millis(200))?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        let host = admin.to_string();
        write!(stream, "GET /readyz HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with(b"HTTP/1.1 200"))
}

fn start_kamailio(job: Job, transport: Transport, registrars: &[SocketAddr]) -> Outcome<Server> {
    let directory = tempfile::tempdir()?;
    let at = |name: &str| directory.path().join(name);
    let [address, ..] = free()?;
    let (config, list) = (at("kamailio.cfg"), at("servers.list"));
    let text = match job {
        Job::Answer => REGISTRAR,
        Job::PassOn => PROXY,
    };
    std::fs::write(&config, text)?;
    let lines = registrars.iter().map(|it| format!("1 sip:{it} 0\n"));
    std::fs::write(&list, lines.collect::<String>())?;
    let (pid, here) = (at("pid"), directory.path().to_owned());
    let mut server = Server::start(directory, address, Path::new("kamailio"), |command| {
        // Stay in the foreground, log to stderr, `fm` for private and shared memory.
        command.args(["-DD", "-E", "-x", "fm", "-X", "fm", "-m", "4096", "-M", "16", "-f"]);
        command.arg(config).arg("-P").arg(pid).arg("-Y").arg(&here).arg("-w").arg(&here);
        command.arg("-A").arg(format!("ADDRESS={address}"));
        if transport == Transport::Tcp {
            command.args(["-A", "TCP"]);
        }
        command.arg("-A").arg(format!("SERVERS=\"{}\"", list.display()));
    })?;
    server.wait_until(|| answers_options(address, transport).unwrap_or(false))?;
    Ok(server)
}

/// Asked over the transport that is measured: Kamailio starts its processes for TCP after those for
/// UDP, and whoever answers over UDP may not have them all yet.
fn answers_options(address: SocketAddr, transport: Transport) -> std::io::Result<bool> {
    let patience = Duration::from_millis(200);
    let mut answer = [0; 512];
    let length = match transport {
        Transport::Udp => {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.connect(address)?;
            socket.set_read_timeout(Some(patience))?;
            socket.send(options(address, socket.local_addr()?, transport).as_bytes())?;
            socket.recv(&mut answer)?
        }
        Transport::Tcp => {
            let mut stream = TcpStream::connect_timeout(&address, patience)?;
            stream.set_read_timeout(Some(patience))?;
            let options = options(address, stream.local_addr()?, transport);
            stream.write_all(options.as_bytes())?;
            stream.read(&mut answer)?
        }
    };
    Ok(answer.get(..length).is_some_and(|it| it.starts_with(b"SIP/2.0 200")))
}

fn options(to: SocketAddr, from: SocketAddr, transport: Transport) -> String {
    let transport = transport.via_name();
    format!(
        "OPTIONS sip:{to} SIP/2.0\r\nVia: SIP/2.0/{transport} {from};rport;branch=z9hG4bKready\r\n\
         Max-Forwards: 5\r\nFrom: <sip:bench@{from}>;tag=1\r\nTo: <sip:{to}>\r\n\
         Call-ID: ready@{from}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
}
