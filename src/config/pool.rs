//! The sockets and the servers: what names whom, what reaches whom, what collides.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use toml::Spanned;

use crate::cluster::{BindingAddress, Gate, HealthDocumentUse, Plane, Planes, Server, Version};
use crate::config::address::Address;
use crate::config::check::check_header_text;
use crate::config::fit;
use crate::config::problem::{Complaints, Fault};
use crate::config::raw::{
    Raw, RawBindingAddress, RawDocumentUse, RawListen, RawListenPlane, RawListenTransport,
    RawServer, RawTransport, RawUpstream,
};
use crate::config::realm::realm;
use crate::config::ties::ties;
use crate::config::{Config, Socket};
use crate::door::Side;
use crate::sip::Transport;

/// Names and addresses that are taken, with the line that took them.
#[derive(Debug, Default)]
pub(super) struct Names {
    sockets: HashMap<String, usize>,
    servers: HashMap<String, usize>,
    bound: Vec<(Transport, SocketAddr, usize)>,
    reached: Vec<(Transport, SocketAddr, usize)>,
}

/// Phones' sockets, then servers' sockets.
pub(super) fn sockets(raw: &Raw, names: &mut Names, wrong: &mut Complaints<'_>) -> Vec<Socket> {
    if raw.listen.is_empty() {
        wrong.push_whole(Fault::NoListen);
    }
    if raw.upstream.is_empty() {
        wrong.push_whole(Fault::NoUpstream);
    }
    let (count, most) = (raw.listen.len() + raw.upstream.len(), usize::from(u16::MAX));
    if count > most {
        wrong.push_whole(Fault::TooMany { section: "listen", count, most });
    }
    let mut sockets = Vec::new();
    for listen in raw.listen.iter().filter(|it| !is_for_clients(it.get_ref())) {
        let RawListen { transport, name, address, advertise, .. } = listen.get_ref();
        let transport = transport.as_ref().and_then(|transport| match transport.get_ref() {
            RawListenTransport::Udp => Some(Transport::Udp),
            RawListenTransport::Tcp => Some(Transport::Tcp),
            RawListenTransport::Tls => {
                wrong.push(transport.span(), Fault::SipByTls);
                None
            }
            RawListenTransport::Http | RawListenTransport::Https => {
                wrong.push(transport.span(), Fault::SipByHttp);
                None
            }
        });
        let is_missing = listen.get_ref().transport.is_none();
        let section = Section { name: "listen", side: Side::Phones, header: listen.span() };
        let raw = Written { name, transport, is_missing, address, advertise };
        sockets.extend(socket(&section, &raw, names, wrong));
    }
    for upstream in &raw.upstream {
        let RawUpstream { transport, name, address, advertise } = upstream.get_ref();
        let section = Section { name: "upstream", side: Side::Servers, header: upstream.span() };
        let (transport, is_missing) = (transport.map(Transport::from), transport.is_none());
        let raw = Written { name, transport, is_missing, address, advertise };
        sockets.extend(socket(&section, &raw, names, wrong));
    }
    sockets
}

/// Whether a listener is for clients of UCServers, not for phones.
pub(super) const fn is_for_clients(raw: &RawListen) -> bool {
    matches!(raw.plane, Some(RawListenPlane::Client))
}

/// Which part of the file describes a socket.
struct Section {
    name: &'static str,
    side: Side,
    header: Range<usize>,
}

/// What it says.
struct Written<'r> {
    name: &'r Option<Spanned<String>>,
    transport: Option<Transport>,
    /// No transport is written at all.
    is_missing: bool,
    address: &'r Option<Spanned<Address>>,
    advertise: &'r Option<Spanned<String>>,
}

fn socket(
    section: &Section,
    raw: &Written<'_>,
    names: &mut Names,
    wrong: &mut Complaints<'_>,
) -> Option<Socket> {
    let Section { name: section, side, header } = section;
    let missing = |key, example| Fault::Missing { section, key, example };
    let name = name(section, raw.name, header, &mut names.sockets, wrong);
    if raw.is_missing {
        wrong.push(header.clone(), missing("transport", "\"udp\""));
    }
    let Some(bound) = raw.address else {
        wrong.push(header.clone(), missing("address", "\"10.0.0.1:5060\""));
        return None;
    };
    let address = bound.get_ref().0;
    let transport = raw.transport?;
    names.bind_fixed(section, transport, bound, wrong)?;
    let advertised = match raw.advertise {
        Some(text) if is_host_and_port(text.get_ref()) => text.get_ref().as_str().into(),
        Some(text) => {
            wrong.push(text.span(), Fault::Advertise { text: text.get_ref().clone() });
            return None;
        }
        None if address.ip().is_unspecified() => {
            wrong.push(bound.span(), Fault::NeedsAdvertise { address });
            return None;
        }
        None => address.to_string().into(),
    };
    Some(Socket { name: name?, transport, side: *side, address, advertised })
}

impl Names {
    /// Takes an address to listen on, which must have a port and be nobody else's.
    pub(super) fn bind_fixed(
        &mut self,
        what: &'static str,
        transport: Transport,
        bound: &Spanned<Address>,
        wrong: &mut Complaints<'_>,
    ) -> Option<()> {
        let address = bound.get_ref().0;
        if address.port() == 0 {
            wrong.push(bound.span(), Fault::PortZero { address });
            return None;
        }
        if let Some(first_line) = self.bind(transport, address, wrong.line(&bound.span())) {
            let address = format!("{}:{address}", transport.name());
            wrong.push(bound.span(), Fault::DuplicateAddress { what, address, first_line });
        }
        Some(())
    }

    /// The name of a socket that has one nobody else has.
    pub(super) fn of_socket(
        &mut self,
        section: &'static str,
        raw: &Option<Spanned<String>>,
        header: &Range<usize>,
        wrong: &mut Complaints<'_>,
    ) -> Option<Arc<str>> {
        name(section, raw, header, &mut self.sockets, wrong)
    }

    /// Takes an address to listen on; the line of who has it or covers it already.
    fn bind(&mut self, transport: Transport, address: SocketAddr, line: usize) -> Option<usize> {
        let collides = |other: &SocketAddr| {
            other.port() == address.port()
                && other.is_ipv4() == address.is_ipv4()
                && (other.ip() == address.ip()
                    || other.ip().is_unspecified()
                    || address.ip().is_unspecified())
        };
        let taken = self.bound.iter().find(|(by, other, _)| *by == transport && collides(other));
        let first_line = taken.map(|(_, _, line)| *line);
        self.bound.push((transport, address, line));
        first_line
    }
}

/// The pool. A server with a problem is left out.
pub(super) fn servers(
    raw: &Raw,
    sockets: &[Socket],
    names: &mut Names,
    wrong: &mut Complaints<'_>,
    warnings: &mut Complaints<'_>,
) -> Vec<Server> {
    let most = usize::from(u16::MAX);
    match raw.servers.len() {
        0 => wrong.push_whole(Fault::NoServers),
        1 => warnings.push_whole(Fault::OneServer),
        count if count > most => {
            wrong.push_whole(Fault::TooMany { section: "servers", count, most });
        }
        _ => {}
    }
    let each = raw.servers.iter();
    each.filter_map(|one| server(one, raw, sockets, names, wrong, warnings)).collect()
}

fn server(
    raw: &Spanned<RawServer>,
    whole: &Raw,
    sockets: &[Socket],
    names: &mut Names,
    wrong: &mut Complaints<'_>,
    warnings: &mut Complaints<'_>,
) -> Option<Server> {
    let header = raw.span();
    let raw = raw.get_ref();
    let missing = |key, example| Fault::Missing { section: "servers", key, example };
    let name = name("servers", &raw.name, &header, &mut names.servers, wrong);
    let capacity = match &raw.capacity {
        Some(capacity) if *capacity.get_ref() == 0 => {
            let [value, min, max] = [0, 1, u32::MAX].map(|number| number.to_string());
            wrong.push(capacity.span(), Fault::Range { key: "capacity", value, min, max });
            None
        }
        Some(capacity) => Some(*capacity.get_ref()),
        None => {
            wrong.push(header.clone(), missing("capacity", "1000"));
            None
        }
    };
    let version = version(raw, wrong);
    let realm = realm(raw, wrong);
    let ties = Arc::new(ties(raw, whole, wrong));
    let health_url = health_url(raw, wrong);
    let health_document = match raw.health_document.as_ref().map(Spanned::get_ref) {
        Some(RawDocumentUse::Required) => HealthDocumentUse::Required,
        Some(RawDocumentUse::None) => HealthDocumentUse::None,
        Some(RawDocumentUse::Optional) | None => HealthDocumentUse::Optional,
    };
    if let (HealthDocumentUse::Required, None, Some(used)) =
        (health_document, &raw.health_url, &raw.health_document)
    {
        wrong.push(used.span(), Fault::DocumentWithoutUrl);
    }
    let Some(sip) = &raw.sip else {
        wrong.push(header, missing("sip", "\"udp:10.0.0.1:5060\""));
        return None;
    };
    let name = name?;
    let clients = raw.clients.as_ref().and_then(|it| entrance(&name, it, names, wrong));
    let web = raw.web.as_ref().and_then(|it| entrance(&name, it, names, wrong));
    if let (Some(web), None) = (&raw.web, &raw.clients) {
        wrong.push(web.span(), Fault::WebWithoutClients { server: name.to_string() });
    }
    check_reach(&name, sip.span(), (*sip.get_ref()).into(), sockets, names, wrong);
    let server = Server {
        sip: sip.get_ref().address,
        transport: sip.get_ref().transport,
        planes: clients.map_or(Planes::SIP, |_| Planes::SIP.with(Plane::Client)),
        clients,
        web,
        ucsid: raw.ucsid.as_deref().map(Arc::from),
        public: public(raw, wrong),
        capacity: capacity?,
        version,
        site: raw.site.as_deref().map(Arc::from),
        ties,
        realm,
        binding_address: match raw.binding_address {
            Some(RawBindingAddress::Path) => BindingAddress::Path,
            Some(RawBindingAddress::Contact) => BindingAddress::Contact,
            Some(RawBindingAddress::Auto) | None => BindingAddress::Auto,
        },
        health_document,
        health_url,
        name,
    };
    warn_about_version(&server, raw, &header, warnings);
    Some(server)
}

/// The address of the door that stands for it.
fn public(raw: &RawServer, wrong: &mut Complaints<'_>) -> Option<Arc<str>> {
    let written = raw.public.as_ref()?;
    let text = written.get_ref();
    let is_host = !text.is_empty() && !text.contains([':', '/', ' ']);
    if !is_host && !is_host_and_port(text) {
        wrong.push(written.span(), Fault::Advertise { text: text.clone() });
        return None;
    }
    Some(text.as_str().into())
}

/// Where it serves clients.
fn entrance(
    server: &str,
    written: &Spanned<Address>,
    names: &Names,
    wrong: &mut Complaints<'_>,
) -> Option<SocketAddr> {
    let address = written.get_ref().0;
    if address.port() == 0 || address.ip().is_unspecified() {
        wrong.push(written.span(), Fault::PortZero { address });
        return None;
    }
    let ours = |(by, other, line): &(Transport, SocketAddr, usize)| {
        (*by == Transport::Tcp && *other == address).then_some(*line)
    };
    if let Some(line) = names.bound.iter().find_map(ours) {
        wrong.push(written.span(), Fault::IsOurselves { server: server.to_owned(), line });
        return None;
    }
    Some(address)
}

fn check_reach(
    server: &str,
    span: Range<usize>,
    (transport, address): (Transport, SocketAddr),
    sockets: &[Socket],
    names: &mut Names,
    wrong: &mut Complaints<'_>,
) {
    if address.port() == 0 || address.ip().is_unspecified() {
        wrong.push(span, Fault::PortZero { address });
        return;
    }
    let is = |(by, other, line): &(Transport, SocketAddr, usize)| {
        (*by == transport && *other == address).then_some(*line)
    };
    let what = server.to_owned();
    if let Some(line) = names.bound.iter().find_map(is) {
        wrong.push(span.clone(), Fault::IsOurselves { server: what.clone(), line });
    }
    if let Some(first_line) = names.reached.iter().find_map(is) {
        let address = format!("{}:{address}", transport.name());
        wrong.push(span.clone(), Fault::DuplicateAddress { what: "server", address, first_line });
    }
    names.reached.push((transport, address, wrong.line(&span)));
    let upstream = |socket: &&Socket| socket.side == Side::Servers;
    let reaches = |socket: &Socket| {
        socket.transport == transport && socket.address.is_ipv6() == address.is_ipv6()
    };
    let mut towards_servers = sockets.iter().filter(upstream).peekable();
    // Without any socket there is one complaint already.
    if towards_servers.peek().is_some() && !towards_servers.any(reaches) {
        let family = if address.is_ipv6() { "IPv6" } else { "IPv4" };
        let transport = transport.name();
        wrong.push(span, Fault::NoSocketTowards { server: what, transport, family });
    }
}

fn version(raw: &RawServer, wrong: &mut Complaints<'_>) -> Option<Version> {
    let text = raw.version.as_ref()?;
    let version = text.get_ref().parse().ok();
    if version.is_none() {
        wrong.push(text.span(), Fault::Version { text: text.get_ref().clone() });
    }
    version
}

fn health_url(raw: &RawServer, wrong: &mut Complaints<'_>) -> Option<Arc<str>> {
    let text = raw.health_url.as_ref()?;
    let url: Option<hyper::Uri> = text.get_ref().parse().ok();
    let usable = url.is_some_and(|url| url.scheme_str() == Some("http") && url.host().is_some());
    if !usable {
        wrong.push(text.span(), Fault::HealthUrl { text: text.get_ref().clone() });
        return None;
    }
    Some(text.get_ref().as_str().into())
}

/// H7: what is no backup is said at start, not found out at night.
fn warn_about_version(
    server: &Server,
    raw: &RawServer,
    header: &Range<usize>,
    warnings: &mut Complaints<'_>,
) {
    let name = server.name.to_string();
    match server.version {
        Some(version) if !Gate::Backup.admits(Some(version)) => {
            let span = raw.version.as_ref().map_or_else(|| header.clone(), Spanned::span);
            warnings.push(span, Fault::VersionOld { server: name, version: version.to_string() });
        }
        None if !tells_its_version(server) => {
            warnings.push(header.clone(), Fault::VersionUnknown { server: name });
        }
        Some(_) | None => {}
    }
}

/// Whether the health document may tell what the configuration does not.
pub(super) fn tells_its_version(server: &Server) -> bool {
    server.health_url.is_some() && server.health_document != HealthDocumentUse::None
}

/// P5, as far as it is known before anybody registers.
pub(super) fn warn_about_fit(
    config: &Config,
    users_file: Option<Range<usize>>,
    warnings: &mut Complaints<'_>,
) {
    let Some(span) = users_file.filter(|_| config.servers.len() > 1) else { return };
    let policy = &config.decision.placement;
    let shortfall = fit::one_more_failure(&config.servers, &config.users, policy);
    let Some(shortfall) = shortfall else { return };
    let Some(server) = config.servers.get(shortfall.lost.index()) else { return };
    let fault = Fault::DoesNotFit {
        server: server.name.to_string(),
        users: shortfall.users,
        unplaced: shortfall.unplaced,
    };
    warnings.push(span, fault);
}

/// A name that nobody has yet; complains otherwise.
fn name(
    section: &'static str,
    raw: &Option<Spanned<String>>,
    header: &Range<usize>,
    taken: &mut HashMap<String, usize>,
    wrong: &mut Complaints<'_>,
) -> Option<Arc<str>> {
    let Some(name) = raw else {
        let example = if section == "servers" { "\"ucs1\"" } else { "\"phones-udp\"" };
        wrong.push(header.clone(), Fault::Missing { section, key: "name", example });
        return None;
    };
    if !check_header_text("name", name, wrong) {
        return None;
    }
    let line = wrong.line(&name.span());
    if let Some(first_line) = taken.insert(name.get_ref().clone(), line) {
        let fault =
            Fault::DuplicateName { what: section, name: name.get_ref().clone(), first_line };
        wrong.push(name.span(), fault);
    }
    Some(name.get_ref().as_str().into())
}

/// Whether a text is what a Via or a Path may carry: a host name or an IP address, and a port.
fn is_host_and_port(text: &str) -> bool {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return !address.ip().is_unspecified() && address.port() != 0;
    }
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    host.len() <= 253
        && host.split('.').all(label)
        && port.parse::<u16>().is_ok_and(|port| port != 0)
}

impl From<RawTransport> for Transport {
    fn from(raw: RawTransport) -> Self {
        match raw {
            RawTransport::Udp => Self::Udp,
            RawTransport::Tcp => Self::Tcp,
        }
    }
}

impl From<crate::config::address::SipAddress> for (Transport, SocketAddr) {
    fn from(sip: crate::config::address::SipAddress) -> Self {
        (sip.transport, sip.address)
    }
}
