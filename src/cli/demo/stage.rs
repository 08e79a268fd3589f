//! Where the demo plays: a directory of its own, free ports, the door's configuration.

use std::fmt::Write as _;
use std::fs::DirBuilder;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::cli::demo::DemoError;
use crate::net::Clock;

/// Users a server has room for, for each user of the demo.
const CAPACITY_PER_USER: usize = 20;
/// Connections the door may have for 100 clients: the client's own, one to its server, and for some of
/// them one to the next server, while they are moved.
const CONNECTIONS_PER_CENT: usize = 225;
/// Connections beside those.
const CONNECTIONS: usize = 1_000;

/// The directory; it goes with this value unless it is to be kept.
#[derive(Debug)]
pub(super) struct Stage {
    path: PathBuf,
    keep: bool,
}

impl Stage {
    /// An empty directory: the one named, or one of our own.
    pub(super) fn open(keep: Option<&Path>) -> Result<Self, DemoError> {
        let system = |source| DemoError::System { what: "no directory can be made", source };
        let Some(path) = keep else {
            let name =
                format!("frontdoor-demo-{}-{:x}", std::process::id(), Clock.uptime().as_nanos());
            let path = std::env::temp_dir().join(name);
            DirBuilder::new().mode(0o700).create(&path).map_err(system)?;
            return Ok(Self { path, keep: false });
        };
        DirBuilder::new().mode(0o700).recursive(true).create(path).map_err(system)?;
        if std::fs::read_dir(path).map_err(system)?.next().is_some() {
            return Err(DemoError::NotEmpty(path.to_owned()));
        }
        Ok(Self { path: path.to_owned(), keep: true })
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// The end of a log, for an error message.
    pub(super) fn tail(&self, log: &str) -> String {
        let text = std::fs::read(self.file(log)).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().rev().take(5).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.keep {
            // What cannot be removed is the system's to clear.
            let _left = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Addresses of the door.
#[derive(Clone, Copy, Debug)]
pub(super) struct Addresses {
    pub(super) phones: SocketAddr,
    pub(super) clients: SocketAddr,
    pub(super) upstream: SocketAddr,
    pub(super) admin: SocketAddr,
}

impl Addresses {
    /// Addresses nobody listens on at this moment.
    pub(super) fn free() -> Result<Self, DemoError> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let system = |source| DemoError::System { what: "no port is free", source };
        // All are held until all are known, so that they differ.
        let phones = UdpSocket::bind(any).map_err(system)?;
        let upstream = UdpSocket::bind(any).map_err(system)?;
        let admin = TcpListener::bind(any).map_err(system)?;
        let clients = TcpListener::bind(any).map_err(system)?;
        Ok(Self {
            phones: phones.local_addr().map_err(system)?,
            clients: clients.local_addr().map_err(system)?,
            upstream: upstream.local_addr().map_err(system)?,
            admin: admin.local_addr().map_err(system)?,
        })
    }
}

/// Who takes part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Crowd {
    pub(super) phones: usize,
    /// Each is of the user of the phone of its number.
    pub(super) clients: usize,
}

impl Crowd {
    pub(super) const fn users(self) -> usize {
        if self.phones > self.clients { self.phones } else { self.clients }
    }
}

/// Where a simulated server is.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) name: String,
    pub(super) sip: SocketAddr,
    /// Where it serves clients, if it does.
    pub(super) clients: Option<SocketAddr>,
}

/// The door's configuration: distribution enabled, phones trusted, everything in one directory.
/// Each server has room for everybody many times over, so that free room is the same everywhere and
/// equal shares are the ideal.
pub(super) fn configuration(
    addresses: Addresses,
    servers: &[Place],
    crowd: Crowd,
    comes_back: bool,
) -> String {
    let Addresses { phones: listen, clients, upstream, admin } = addresses;
    let mut text = format!(
        "[[listen]]\nname = \"phones\"\ntransport = \"udp\"\naddress = \"{listen}\"\n\
         [[upstream]]\nname = \"servers\"\ntransport = \"udp\"\naddress = \"{upstream}\"\n"
    );
    // Writing to a String cannot fail.
    if crowd.clients > 0 {
        let _ok = write!(
            text,
            "[[listen]]\nname = \"clients\"\nplane = \"client\"\ntransport = \"tcp\"\n\
             address = \"{clients}\"\n"
        );
    }
    for Place { name, sip, clients } in servers {
        let _ok = write!(
            text,
            "[[servers]]\nname = \"{name}\"\nsip = \"udp:{sip}\"\ncapacity = {}\n\
             version = \"2603.0\"\nhealth_document = \"none\"\n",
            crowd.users().max(1) * CAPACITY_PER_USER
        );
        if let Some(clients) = clients {
            let _ok = writeln!(text, "clients = \"{clients}\"");
        }
    }
    text.push_str("[sip]\nauth = \"none\"\ntrusted_networks = [\"127.0.0.0/8\"]\n");
    text.push_str("[failover]\ndisable_automatic_user_distribution = false\n");
    if comes_back {
        let pace = return_pace(crowd.users());
        // Nobody wants to watch for seven minutes how nothing happens.
        let _ok = write!(
            text,
            "[health]\nprobation = \"2s\"\nramp = \"3s\"\n\
             [recovery]\nhold = \"2s\"\ninterval = \"500ms\"\nlook = \"2s\"\n\
             users_per_second = {pace}\n"
        );
    }
    text.push_str("[users]\nunknown = \"adopt\"\n");
    // All phones and clients are behind one address here.
    text.push_str("[limits]\nstrangers_per_source = 10000\nstrangers_burst_per_source = 100000\n");
    if crowd.clients > 0 {
        let connections = crowd.clients * CONNECTIONS_PER_CENT / 100 + CONNECTIONS;
        let per_source = crowd.clients + CONNECTIONS;
        let _ok =
            write!(text, "connections = {connections}\nconnections_per_source = {per_source}\n");
    }
    let _ok = writeln!(text, "[admin]\naddress = \"{admin}\"");
    text
}

/// Users a second who may come home: a third of them within half a minute or so.
pub(super) const fn return_pace(users: usize) -> usize {
    let pace = users / 100;
    if pace < 25 { 25 } else { pace }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_doors_configuration_is_accepted_without_a_warning() {
        for clients in [0, 5_000] {
            let servers = [("ucs1", 5081), ("ucs2", 5082)].map(|(name, port)| {
                let at = |port| SocketAddr::from(([127, 0, 0, 1], port));
                let entrance = (clients > 0).then(|| at(port + 1_000));
                Place { name: name.to_owned(), sip: at(port), clients: entrance }
            });
            let crowd = Crowd { phones: 30_000, clients };
            let text = configuration(Addresses::free().unwrap(), &servers, crowd, true);
            let config = Config::parse(Path::new("/tmp/x/door.toml"), &text).unwrap();
            assert_eq!(config.warnings, []);
            assert!(!config.decision.disable_automatic_user_distribution);
            assert_eq!(config.servers.len(), 2);
            assert!(config.servers.iter().all(|it| it.clients.is_some() == (clients > 0)));
        }
    }

    #[test]
    fn a_directory_of_our_own_goes_and_a_kept_one_stays() {
        let stage = Stage::open(None).unwrap();
        let path = stage.path.clone();
        std::fs::write(stage.file("x"), "x").unwrap();
        drop(stage);
        assert!(!path.exists());

        let parent = tempfile::tempdir().unwrap();
        let kept = parent.path().join("kept");
        std::fs::write(Stage::open(Some(&kept)).unwrap().file("x"), "x").unwrap();
        assert!(kept.join("x").exists());
        assert!(matches!(Stage::open(Some(&kept)), Err(DemoError::NotEmpty(_))));
    }
}
