//! A door in a process of its own, with a generated configuration in a directory of its own.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use frontdoor::admin::Page;
use frontdoor::door::{ServerStatus, Status, UserStatus};
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::harness::{
    FRONTDOOR, Kamailio, LOCALHOST, Namespace, PATIENCE, Process, Secret, Server, free, get, now,
    released, soon,
};

/// Users asked for at once.
const PAGE: usize = 1_000;

/// The `[sip]` table of most tests: whoever is on the loopback is believed.
const TRUSTED: &str = "auth = \"none\"\ntrusted_networks = [\"127.0.0.0/8\", \"::1\"]\n";

/// A server, as the configuration names it.
struct Peer {
    name: String,
    sip: String,
    clients: Option<SocketAddr>,
    web: Option<SocketAddr>,
}

/// What a door is started with.
pub(crate) struct Setup {
    program: String,
    /// Of each server.
    capacity: u32,
    documents: &'static str,
    phones: IpAddr,
    servers: Vec<Peer>,
    upstream: Vec<(&'static str, IpAddr)>,
    /// Chain and key in files, where the WebService is to be reached by TLS as well.
    secret: Option<(PathBuf, PathBuf)>,
    tables: Vec<(&'static str, String)>,
}

impl Setup {
    /// Distribution enabled, phones trusted, on IPv4, everything else as it is by default.
    pub(crate) fn new() -> Self {
        let mut setup = Self {
            program: FRONTDOOR.to_owned(),
            capacity: 50_000,
            documents: "none",
            phones: LOCALHOST,
            servers: Vec::new(),
            upstream: Vec::new(),
            secret: None,
            tables: Vec::new(),
        };
        setup
            .table("sip", TRUSTED)
            // Who counts REGISTERs at a server does not count the door's questions.
            .table("health", "sample_interval = \"1h\"\n")
            .table("failover", "disable_automatic_user_distribution = false\n")
            .table("log", "filter = \"info\"\n");
        setup
    }

    /// Servers spoken to over UDP from the loopback.
    pub(crate) fn with<'s>(servers: impl IntoIterator<Item = &'s Server>) -> Self {
        let mut setup = Self::new();
        for server in servers {
            let ip = server.sip.ip();
            setup.server(server, "udp", ip);
        }
        setup
    }

    /// One more server; `from` is the door's own address towards it.
    pub(crate) fn server(
        &mut self,
        server: &Server,
        transport: &'static str,
        from: IpAddr,
    ) -> &mut Self {
        self.peer(&server.name, server.sip, transport, from);
        if let Some(peer) = self.servers.last_mut() {
            (peer.clients, peer.web) = (server.clients, server.web);
        }
        self
    }

    /// A Kamailio, spoken to over UDP or TCP from its own address.
    pub(crate) fn kamailio(&mut self, kamailio: &Kamailio, transport: &'static str) -> &mut Self {
        self.peer(&kamailio.name, kamailio.sip, transport, kamailio.sip.ip())
    }

    fn peer(
        &mut self,
        name: &str,
        sip: SocketAddr,
        transport: &'static str,
        from: IpAddr,
    ) -> &mut Self {
        let (name, sip) = (name.to_owned(), format!("{transport}:{sip}"));
        self.servers.push(Peer { name, sip, clients: None, web: None });
        let same =
            |(other, ip): &&(&str, IpAddr)| *other == transport && ip.is_ipv4() == from.is_ipv4();
        if self.upstream.iter().find(same).is_none() {
            self.upstream.push((transport, from));
        }
        self
    }

    /// The program as built for release.
    pub(crate) fn released(&mut self) -> &mut Self {
        self.program = released();
        self
    }

    /// Servers may send their health documents.
    pub(crate) fn takes_documents_at(&mut self, pushes: SocketAddr) -> &mut Self {
        self.documents = "optional";
        self.key("health", &format!("push = \"{pushes}\"\n"))
    }

    /// So many users fit each server.
    pub(crate) fn capacity(&mut self, users: u32) -> &mut Self {
        self.capacity = users;
        self
    }

    /// Thousands of phones come from one address here, as from a branch office.
    pub(crate) fn crowded(&mut self) -> &mut Self {
        self.key("limits", "strangers_per_source = 10000\nstrangers_burst_per_source = 100000\n")
    }

    /// Where phones register.
    pub(crate) fn phones_at(&mut self, ip: IpAddr) -> &mut Self {
        self.phones = ip;
        self
    }

    /// The WebService is there by TLS as well, and shows this certificate.
    pub(crate) fn secured(&mut self, secret: &Secret) -> &mut Self {
        self.secret = Some((secret.chain(), secret.key()));
        self
    }

    /// Replaces a table of the configuration.
    pub(crate) fn table(&mut self, name: &'static str, lines: &str) -> &mut Self {
        self.tables.retain(|(other, _)| *other != name);
        self.tables.push((name, lines.to_owned()));
        self
    }

    /// Adds lines to a table.
    pub(crate) fn key(&mut self, name: &'static str, lines: &str) -> &mut Self {
        match self.tables.iter_mut().find(|(other, _)| *other == name) {
            Some((_, text)) => text.push_str(lines),
            None => self.tables.push((name, lines.to_owned())),
        }
        self
    }

    /// Starts a door and waits until it is ready.
    pub(crate) fn start(&self) -> Door {
        self.start_in(None)
    }

    /// The same in a namespace.
    pub(crate) fn start_in(&self, namespace: Option<&Namespace>) -> Door {
        let directory = tempfile::tempdir().unwrap();
        let (phones, admin) = (free(self.phones), free(LOCALHOST));
        let is_any = |entrance: fn(&Peer) -> Option<SocketAddr>| {
            self.servers.iter().any(|peer| entrance(peer).is_some()).then(|| free(LOCALHOST))
        };
        let (clients, web) = (is_any(|peer| peer.clients), is_any(|peer| peer.web));
        let web_tls = self.secret.as_ref().map(|_| free(LOCALHOST));
        let entrances =
            [("clients", "tcp", clients), ("web", "http", web), ("web-tls", "https", web_tls)];
        let config = directory.path().join("frontdoor.toml");
        std::fs::write(&config, self.text(phones, &entrances, admin)).unwrap();
        let log = directory.path().join("door.log");
        File::create(&log).unwrap();
        let program = self.program.clone();
        let process = None;
        let mut door =
            Door { program, process, directory, config, log, phones, clients, web, web_tls, admin };
        door.restart_in(namespace);
        door
    }

    fn text(
        &self,
        phones: SocketAddr,
        entrances: &[(&str, &str, Option<SocketAddr>)],
        admin: SocketAddr,
    ) -> String {
        let mut text = String::new();
        for transport in ["udp", "tcp"] {
            listener(&mut text, "listen", &format!("phones-{transport}"), transport, phones);
        }
        for (name, transport, address) in entrances {
            if let Some(address) = address {
                listener(&mut text, "listen", name, transport, *address);
                text.push_str("plane = \"client\"\n");
            }
        }
        if let Some((chain, key)) = &self.secret {
            let (chain, key) = (chain.display(), key.display());
            write!(text, "[[certificates]]\nchain = \"{chain}\"\nkey = \"{key}\"\n").unwrap();
        }
        for (number, (transport, ip)) in self.upstream.iter().enumerate() {
            listener(&mut text, "upstream", &format!("servers-{number}"), transport, free(*ip));
        }
        for Peer { name, sip, clients, web } in &self.servers {
            write!(
                text,
                "[[servers]]\nname = \"{name}\"\nsip = \"{sip}\"\ncapacity = {}\n\
                 version = \"2603.0\"\nhealth_document = \"{}\"\n",
                self.capacity, self.documents
            )
            .unwrap();
            if let Some(clients) = clients {
                writeln!(text, "clients = \"{clients}\"").unwrap();
            }
            if let Some(web) = web {
                writeln!(text, "web = \"{web}\"").unwrap();
            }
        }
        writeln!(text, "[admin]\naddress = \"{admin}\"").unwrap();
        for (name, lines) in &self.tables {
            writeln!(text, "[{name}]\n{lines}").unwrap();
        }
        text
    }
}

fn listener(text: &mut String, table: &str, name: &str, transport: &str, address: SocketAddr) {
    let lines = [
        format!("[[{table}]]"),
        format!("name = \"{name}\""),
        format!("transport = \"{transport}\""),
        format!("address = \"{address}\"\n"),
    ];
    text.push_str(&lines.join("\n"));
}

/// The child; dropping it kills it.
pub(crate) struct Door {
    program: String,
    process: Option<Process>,
    pub(crate) directory: TempDir,
    config: PathBuf,
    log: PathBuf,
    /// Where phones register, over UDP and TCP.
    pub(crate) phones: SocketAddr,
    /// Where clients log in, if servers serve them.
    pub(crate) clients: Option<SocketAddr>,
    /// Its WebService, if servers have one.
    pub(crate) web: Option<SocketAddr>,
    /// The same by TLS, where that was set up.
    pub(crate) web_tls: Option<SocketAddr>,
    pub(crate) admin: SocketAddr,
}

impl Door {
    /// SIGKILL: nothing is said, nothing is saved.
    pub(crate) fn kill(&mut self) {
        self.process.take().unwrap().kill();
    }

    /// SIGTERM, and how it ended.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        let mut process = self.process.take().unwrap();
        process.signal(Signal::SIGTERM);
        process.ended(PATIENCE).unwrap().code()
    }

    /// Starts it again: same configuration, same store, same addresses.
    pub(crate) fn restart(&mut self) {
        self.restart_in(None);
    }

    /// The same in a namespace.
    pub(crate) fn restart_in(&mut self, namespace: Option<&Namespace>) {
        let log = OpenOptions::new().append(true).open(&self.log).unwrap();
        let program = || Command::new(&self.program);
        let mut command = namespace.map_or_else(program, |it| it.command(&self.program));
        command.args(["run", "--exit-with-stdin", "--config"]).arg(&self.config);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(log);
        self.process = Some(Process::start(&mut command));
        soon("the door is ready", || {
            let process = self.process.as_mut().unwrap();
            let ended = process.ended(std::time::Duration::ZERO);
            assert!(ended.is_none(), "the door ended:\n{}", self.log());
            get(self.admin, "/readyz").filter(|(status, _)| *status == 200)
        });
    }

    /// The process itself.
    pub(crate) fn process(&self) -> &Process {
        self.process.as_ref().unwrap()
    }

    /// Where servers send their requests to.
    pub(crate) fn upstream(&self) -> SocketAddr {
        let text = std::fs::read_to_string(&self.config).unwrap();
        let table = text.split("[[upstream]]").nth(1).unwrap();
        let line = table.lines().find_map(|line| line.strip_prefix("address = ")).unwrap();
        line.trim_matches('"').parse().unwrap()
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Its own sockets, towards phones and towards servers.
    pub(crate) fn sockets(&self) -> Vec<SocketAddr> {
        let config = std::fs::read_to_string(&self.config).unwrap();
        let ours = config.split("[[servers]]").next().unwrap();
        let addresses = ours.lines().filter_map(|line| line.strip_prefix("address = "));
        let mut sockets: Vec<SocketAddr> =
            addresses.map(|address| address.trim_matches('"').parse().unwrap()).collect();
        sockets.dedup();
        sockets
    }

    pub(crate) fn config(&self) -> &Path {
        &self.config
    }

    /// What is true now: the door shows itself a few times a second only.
    pub(crate) fn status(&self) -> Status {
        let asked = now().as_nanos();
        soon("the door shows itself", || {
            Some(self.shown()).filter(|status| status.at_nanos >= asked)
        })
    }

    /// What it showed last.
    fn shown(&self) -> Status {
        serde_json::from_str(&self.page("/v1/status")).unwrap()
    }

    /// One server's part of the status.
    pub(crate) fn server(&self, name: &str) -> ServerStatus {
        let found = self.status().servers.into_iter().find(|server| &*server.name == name);
        found.unwrap_or_else(|| panic!("the door knows no {name}"))
    }

    /// Waits until a server is in this state; its part of the status then.
    pub(crate) fn server_in(&self, name: &str, state: &str) -> ServerStatus {
        soon(&format!("{name} is {state}"), || {
            let mut servers = self.shown().servers.into_iter();
            servers.find(|server| &*server.name == name && &*server.state == state)
        })
    }

    /// Everybody.
    pub(crate) fn users(&self) -> Vec<UserStatus> {
        let mut users = Vec::new();
        let mut path = format!("/v1/users?limit={PAGE}");
        loop {
            let page: Page<UserStatus> = serde_json::from_str(&self.page(&path)).unwrap();
            users.extend(page.items);
            let Some(next) = page.next else { return users };
            path = format!("/v1/users?limit={PAGE}&after={next}");
        }
    }

    /// A figure of the metrics page, one without labels.
    pub(crate) fn metric(&self, name: &str) -> u64 {
        // Once this is shown, so is the metrics page.
        self.status();
        let page = self.page("/metrics");
        let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap_or_else(|| panic!("there is no metric {name}")).parse().unwrap()
    }

    /// The body of a page that must be there.
    pub(crate) fn page(&self, path: &str) -> String {
        let (status, body) = get(self.admin, path)
            .unwrap_or_else(|| panic!("the door does not answer {path}; its log:\n{}", self.log()));
        assert_eq!(status, 200, "{path}: {body}");
        body
    }
}

/// Waits until every binding is registered at its user's server, and there are so many.
pub(crate) fn settled(door: &Door, bindings: u64) {
    soon(&format!("{bindings} bindings are settled"), || {
        let status = door.status();
        let settled = status.bindings == bindings && status.progress.settled == bindings;
        settled.then_some(())
    });
}

/// The users whose current server this is, sorted.
pub(crate) fn served_by(door: &Door, server: &str) -> Vec<String> {
    let mut names: Vec<String> = door
        .users()
        .into_iter()
        .filter(|user| user.current.as_deref() == Some(server))
        .map(|user| user.name.trim_start_matches("sip:").split('@').next().unwrap().to_owned())
        .collect();
    names.sort();
    names
}
