//! [`Certificates`]: what the door shows to those who come by TLS, chosen by the name they ask for.

use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::client::verify_server_name;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;

/// A certificate with what proves that it is ours.
#[derive(Clone, Debug)]
pub struct Certificate(Arc<CertifiedKey>);

/// Why a certificate cannot be shown to anybody.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// There is none.
    #[error("it holds no certificate")]
    Empty,
    /// The first of the chain cannot be read.
    #[error("its first certificate cannot be used: {0}")]
    Unusable(String),
    /// The key is of another certificate, or of no kind that is known.
    #[error("the key does not fit its first certificate: {0}")]
    Key(String),
}

impl Certificate {
    /// A chain, the door's own first, and the key of that one.
    ///
    /// # Errors
    /// They do not belong together, or cannot be used.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Self, CertificateError> {
        let first = chain.first().ok_or(CertificateError::Empty)?;
        ParsedCertificate::try_from(first)
            .map_err(|error| CertificateError::Unusable(error.to_string()))?;
        let certified = CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider())
            .map_err(|error| CertificateError::Key(error.to_string()))?;
        Ok(Self(Arc::new(certified)))
    }

    fn is_for(&self, name: &ServerName<'_>) -> bool {
        let first = self.0.cert.first().map(ParsedCertificate::try_from);
        matches!(first, Some(Ok(first)) if verify_server_name(&first, name).is_ok())
    }
}

/// The certificates of the door. They may change while it runs: whoever is connected stays so.
#[derive(Debug)]
pub struct Certificates(ArcSwap<Vec<Certificate>>);

impl Certificates {
    /// Those; whoever asks for no name, or for one that none of them has, is shown the first.
    pub fn new(certificates: Vec<Certificate>) -> Arc<Self> {
        Arc::new(Self(ArcSwap::from_pointee(certificates)))
    }

    /// Shows these from now on.
    pub fn replace(&self, certificates: Vec<Certificate>) {
        self.0.store(Arc::new(certificates));
    }

    /// What the server's side of TLS is told. Sessions are not resumed: there is nothing to keep,
    /// and nothing to share.
    pub(super) fn config(self: &Arc<Self>) -> Result<Arc<ServerConfig>, rustls::Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let resolver: Arc<dyn ResolvesServerCert> = Arc::clone(self) as _;
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Arc::new(config))
    }

    fn choose(&self, name: Option<&str>) -> Option<Arc<CertifiedKey>> {
        let certificates = self.0.load();
        let name = name.and_then(|name| ServerName::try_from(name).ok());
        let named = name.and_then(|name| certificates.iter().find(|it| it.is_for(&name)));
        named.or_else(|| certificates.first()).map(|it| Arc::clone(&it.0))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.choose(hello.server_name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(name: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        (vec![made.cert.der().clone()], key)
    }

    fn certificate(name: &str) -> Certificate {
        let (chain, key) = made(name);
        Certificate::new(chain, key).unwrap()
    }

    #[test]
    fn the_certificate_of_the_name_that_is_asked_for_is_shown_else_the_first() {
        let [first, second, any] = ["a.example", "b.example", "*.c.example"].map(certificate);
        let all = Certificates::new(vec![first.clone(), second.clone(), any.clone()]);
        for (name, shown) in [
            (Some("b.example"), &second),
            (Some("B.Example"), &second),
            (Some("x.c.example"), &any),
            (Some("a.example"), &first),
            (Some("other.example"), &first),
            (Some("not a name"), &first),
            (None, &first),
        ] {
            assert!(Arc::ptr_eq(&all.choose(name).unwrap(), &shown.0), "{name:?}");
        }
        all.replace(vec![second.clone()]);
        assert!(Arc::ptr_eq(&all.choose(Some("a.example")).unwrap(), &second.0));
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let (chain, key) = made("a.example");
        let (other, _) = made("a.example");
        assert!(matches!(Certificate::new(other, key.clone_key()), Err(CertificateError::Key(_))));
        assert_eq!(Certificate::new(vec![], key.clone_key()).unwrap_err(), CertificateError::Empty);
        let broken = vec![CertificateDer::from(vec![0x30, 0x03, 1, 2, 3])];
        assert!(matches!(Certificate::new(broken, key), Err(CertificateError::Unusable(_))));
        let no_key = PrivateKeyDer::Pkcs8(vec![0x30, 0x00].into());
        assert!(matches!(Certificate::new(chain, no_key), Err(CertificateError::Key(_))));
    }
}
