//! Where clients of UCServers come, and what they are shown.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;

use crate::config::certificates::CertificateFiles;
use crate::config::pool::{Names, is_for_clients};
use crate::config::problem::{Complaints, Fault};
use crate::config::raw::{Raw, RawListen, RawListenTransport};
use crate::net::Security;
use crate::sip::Transport;

/// One socket for clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSocket {
    /// Its name.
    pub name: Arc<str>,
    /// Whether TLS is spoken from the first octet on, offered, or not there.
    pub security: Security,
    /// Where it is bound.
    pub address: SocketAddr,
}

/// Those of the file.
pub(super) fn sockets(
    raw: &Raw,
    names: &mut Names,
    wrong: &mut Complaints<'_>,
) -> Vec<ClientSocket> {
    let are_certified = !raw.certificates.is_empty();
    let clients = raw.listen.iter().filter(|it| is_for_clients(it.get_ref()));
    clients.filter_map(|one| socket(one, are_certified, names, wrong)).collect()
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
    let security = match &raw.transport {
        None => {
            wrong.push(header.clone(), missing("transport", "\"tcp\""));
            None
        }
        Some(transport) => match transport.get_ref() {
            RawListenTransport::Udp => {
                wrong.push(transport.span(), Fault::ClientsByUdp);
                None
            }
            RawListenTransport::Tcp if are_certified => Some(Security::StartTls),
            RawListenTransport::Tcp => Some(Security::None),
            RawListenTransport::Tls => {
                if !are_certified {
                    wrong.push(transport.span(), Fault::NoCertificate);
                }
                Some(Security::Tls)
            }
        },
    };
    let Some(bound) = &raw.address else {
        wrong.push(header, missing("address", "\"10.0.0.1:7222\""));
        return None;
    };
    names.bind_fixed("listen", Transport::Tcp, bound, wrong)?;
    Some(ClientSocket { name: name?, security: security?, address: bound.get_ref().0 })
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
