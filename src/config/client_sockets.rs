//! Where clients of UCServers come, and what they are shown.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;

use crate::config::certificates::CertificateFiles;
use crate::config::pool::{Names, is_for_clients};
use crate::config::problem::{Complaints, Fault};
use crate::config::raw::{Raw, RawClientFailover, RawListen, RawListenTransport};
use crate::config::reading::nearest;
use crate::net::Security;
use crate::sip::Transport;

/// One socket for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSocket {
    /// Its name.
    pub name: Arc<str>,
    /// Whether UCSAP is spoken there, or HTTP.
    pub speaks: ClientProtocol,
    /// Whether TLS is spoken from the first octet on, offered, or not there.
    pub security: Security,
    /// Where it is bound.
    pub address: SocketAddr,
    /// The server it stands for.
    pub stands_for: Option<Arc<str>>,
}

/// By what clients come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientProtocol {
    /// UCSAP by TCP.
    Ucsap,
    /// The WebService.
    Http,
}

/// Those of the file: where UCSAP is spoken first, as listeners are numbered.
pub(super) fn sockets(
    raw: &Raw,
    names: &mut Names,
    wrong: &mut Complaints<'_>,
) -> Vec<ClientSocket> {
    let are_certified = !raw.certificates.is_empty();
    let clients = raw.listen.iter().filter(|it| is_for_clients(it.get_ref()));
    let mut sockets: Vec<ClientSocket> =
        clients.filter_map(|one| socket(one, are_certified, names, wrong)).collect();
    sockets.sort_by_key(|socket| socket.speaks == ClientProtocol::Http);
    sockets
}

/// Listeners that stand for servers, and whether clients can be sent to them.
pub(super) fn check_redirects(
    raw: &Raw,
    wrong: &mut Complaints<'_>,
    warnings: &mut Complaints<'_>,
) {
    let names: Vec<String> = raw
        .servers
        .iter()
        .filter_map(|server| Some(server.get_ref().name.as_ref()?.get_ref().clone()))
        .collect();
    for listen in &raw.listen {
        let listen = listen.get_ref();
        let Some(server) = &listen.stands_for else { continue };
        let transport = listen.transport.as_ref().map(Spanned::get_ref);
        let can = matches!(transport, Some(RawListenTransport::Tcp | RawListenTransport::Tls));
        if !is_for_clients(listen) || !can {
            wrong.push(server.span(), Fault::CannotStand);
        } else if !names.contains(server.get_ref()) {
            let name = server.get_ref().clone();
            let near = nearest(&name, &names);
            wrong.push(server.span(), Fault::StandsForNobody { name, near });
        }
    }
    let redirects = raw.clients.client_failover.as_ref();
    let is_redirect =
        |how: &&Spanned<RawClientFailover>| *how.get_ref() == RawClientFailover::Redirect;
    if let Some(how) = redirects.filter(is_redirect)
        && raw.servers.iter().all(|server| server.get_ref().public.is_none())
    {
        warnings.push(how.span(), Fault::NowhereToRedirect);
    }
}

/// A WebService stands for those of servers.
pub(super) fn warn_about_web(raw: &Raw, warnings: &mut Complaints<'_>) {
    let is_web = |listen: &&Spanned<RawListen>| {
        let transport = listen.get_ref().transport.as_ref().map(Spanned::get_ref);
        matches!(transport, Some(RawListenTransport::Http | RawListenTransport::Https))
    };
    if raw.servers.iter().all(|server| server.get_ref().web.is_none()) {
        for listen in raw.listen.iter().filter(is_web) {
            warnings.push(listen.span(), Fault::NobodysWeb);
        }
    }
}

fn socket(
    raw: &Spanned<RawListen>,
    are_certified: bool,
    names: &mut Names,
    wrong: &mut Complaints<'_>,
) -> Option<ClientSocket> {
    let (header, raw) = (raw.span(), raw.get_ref());
    let missing = |key, example| Fault::Missing { section: "listen", key, example };
    let name = names.of_socket("listen", &raw.name, &header, wrong);
    if let Some(advertise) = &raw.advertise {
        wrong.push(advertise.span(), Fault::ClientsAdvertised);
    }
    let spoken = match &raw.transport {
        None => {
            wrong.push(header.clone(), missing("transport", "\"tcp\""));
            None
        }
        Some(transport) => match transport.get_ref() {
            RawListenTransport::Udp => {
                wrong.push(transport.span(), Fault::ClientsByUdp);
                None
            }
            RawListenTransport::Tcp if are_certified => {
                Some((ClientProtocol::Ucsap, Security::StartTls))
            }
            RawListenTransport::Tcp => Some((ClientProtocol::Ucsap, Security::None)),
            RawListenTransport::Http => Some((ClientProtocol::Http, Security::None)),
            spoken @ (RawListenTransport::Tls | RawListenTransport::Https) => {
                if !are_certified {
                    wrong.push(transport.span(), Fault::NoCertificate);
                }
                let by_http = *spoken == RawListenTransport::Https;
                let speaks = if by_http { ClientProtocol::Http } else { ClientProtocol::Ucsap };
                Some((speaks, Security::Tls))
            }
        },
    };
    let Some(bound) = &raw.address else {
        wrong.push(header, missing("address", "\"10.0.0.1:7222\""));
        return None;
    };
    names.bind_fixed("listen", Transport::Tcp, bound, wrong)?;
    let (speaks, security) = spoken?;
    let stands_for = raw.stands_for.as_ref().map(|server| Arc::from(server.get_ref().as_str()));
    Some(ClientSocket { name: name?, speaks, security, address: bound.get_ref().0, stands_for })
}

/// The files of every certificate.
pub(super) fn certificates(
    raw: &Raw,
    beside: &impl Fn(&Path) -> PathBuf,
    wrong: &mut Complaints<'_>,
    warnings: &mut Complaints<'_>,
) -> Vec<CertificateFiles> {
    let unused = !raw.listen.iter().any(|it| is_for_clients(it.get_ref()));
    let mut all = Vec::new();
    for certificate in &raw.certificates {
        let (header, raw) = (certificate.span(), certificate.get_ref());
        if unused {
            warnings.push(header.clone(), Fault::CertificateUnused);
        }
        let mut file = |key, written: &Option<Spanned<PathBuf>>, example| {
            if written.is_none() {
                let fault = Fault::Missing { section: "certificates", key, example };
                wrong.push(header.clone(), fault);
            }
            written.as_ref().map(|file| beside(file.get_ref()))
        };
        let chain = file("chain", &raw.chain, "\"door.pem\"");
        let key = file("key", &raw.key, "\"door.key\"");
        all.extend(chain.zip(key).map(|(chain, key)| CertificateFiles { chain, key }));
    }
    all
}
