//! Digest authentication, the server's side (RFC 2617, RFC 7616, RFC 8760): MD5 and SHA-256,
//! qop `auth`. A nonce carries its own time of issue and a proof that this boot issued it.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::time::Duration;

use md5::Md5;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::now::Uptime;
use crate::private::Private;
use crate::sip::{HeaderName, Message, Uri};
use crate::ucserver::refusal::Refusal;

/// Whom the registrar believes.
#[derive(Clone, Debug, Default)]
pub struct DigestSettings {
    /// What the phones are asked for.
    pub realm: String,
    /// User names and what goes with them.
    pub users: HashMap<String, DigestUser>,
    /// Offers MD5 alone, as registrars before RFC 8760 do.
    pub md5_only: bool,
}

/// One entry of [`DigestSettings::users`].
#[derive(Clone, Debug)]
pub struct DigestUser {
    /// In the clear: both hashes are computed from it.
    pub password: Private<String>,
    /// The user part of the AoR it may register; `None`: the user name itself.
    pub aor_user: Option<String>,
}

/// A 401 to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ucserver) struct Challenge {
    realm: String,
    nonce: String,
    md5_only: bool,
    /// The answer was right, only the nonce too old.
    pub(in crate::ucserver) stale: bool,
}

/// Somebody whose password was right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ucserver) struct User {
    aor_user: String,
}

/// Decides who gets in. Another gate (another boot) does not know this one's nonces.
#[derive(Debug)]
pub(in crate::ucserver) struct Gate {
    settings: DigestSettings,
    nonce_lifetime: Duration,
    key: Private<Vec<u8>>,
}

impl Gate {
    pub(in crate::ucserver) fn new(
        settings: DigestSettings,
        nonce_lifetime: Duration,
        rng: &mut fastrand::Rng,
    ) -> Self {
        let key = (0..32).map(|_| rng.u8(..)).collect();
        Self { settings, nonce_lifetime, key: Private::new(key) }
    }

    /// Who sent `request`.
    pub(in crate::ucserver) fn admit(
        &self,
        now: Uptime,
        request: &Message,
    ) -> Result<User, Refusal> {
        let credentials = request
            .lines(HeaderName::Authorization)
            .filter_map(Credentials::parse)
            .find(|credentials| credentials.realm == self.settings.realm);
        let Some(credentials) = credentials else { return Err(self.challenge(now, false)) };
        let issued_at = self.issued_at(&credentials.nonce);
        let known = self.settings.users.get(&credentials.username);
        let (Some(issued_at), Some(known)) = (issued_at, known) else {
            return Err(self.challenge(now, false));
        };
        let expected =
            credentials.expected(request.method().unwrap_or_default(), known.password.reveal());
        let right = expected.is_some_and(|expected| {
            expected.as_bytes().ct_eq(credentials.response.as_bytes()).into()
        });
        if !right {
            return Err(self.challenge(now, false));
        }
        if now.since(issued_at) > self.nonce_lifetime {
            return Err(self.challenge(now, true));
        }
        if Some(credentials.uri.as_bytes()) != request.uri() {
            return Err(Refusal::DigestUri);
        }
        Ok(User { aor_user: known.aor_user.clone().unwrap_or(credentials.username) })
    }

    fn challenge(&self, now: Uptime, stale: bool) -> Refusal {
        let nonce = format!("{:016x}{}", now.as_nanos(), self.proof(now));
        let DigestSettings { realm, md5_only, .. } = &self.settings;
        Refusal::Challenged(Challenge { realm: realm.clone(), nonce, md5_only: *md5_only, stale })
    }

    fn issued_at(&self, nonce: &str) -> Option<Uptime> {
        let (time, proof) = nonce.split_at_checked(16)?;
        let at = Uptime::from_nanos(u64::from_str_radix(time, 16).ok()?);
        let ours: bool = self.proof(at).as_bytes().ct_eq(proof.as_bytes()).into();
        ours.then_some(at)
    }

    fn proof(&self, at: Uptime) -> String {
        let mut hash = Sha256::new();
        hash.update(self.key.reveal());
        hash.update(at.as_nanos().to_be_bytes());
        hex(hash.finalize().as_slice().split_at(16).0)
    }
}

impl Challenge {
    /// The WWW-Authenticate values, strongest first (RFC 8760 §2.4).
    pub(in crate::ucserver) fn values(&self) -> Vec<String> {
        let Self { realm, nonce, md5_only, stale } = self;
        let stale = if *stale { ", stale=TRUE" } else { "" };
        [Algorithm::Sha256, Algorithm::Md5]
            .into_iter()
            .filter(|algorithm| !md5_only || *algorithm == Algorithm::Md5)
            .map(|algorithm| {
                let algorithm = algorithm.name();
                format!(
                    "Digest realm=\"{realm}\", nonce=\"{nonce}\"{stale}, algorithm={algorithm}, \
                     qop=\"auth\""
                )
            })
            .collect()
    }
}

impl User {
    /// Whether this user may change the bindings of `aor`.
    pub(in crate::ucserver) fn may_register(&self, aor: &Uri<'_>) -> bool {
        aor.user == Some(self.aor_user.as_bytes())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Algorithm {
    Md5,
    Sha256,
}

impl Algorithm {
    const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha256 => "SHA-256",
        }
    }

    fn hash(self, text: &str) -> String {
        match self {
            Self::Md5 => hex(&Md5::digest(text)),
            Self::Sha256 => hex(&Sha256::digest(text)),
        }
    }
}

/// An Authorization header with scheme Digest.
#[derive(Debug, Default)]
struct Credentials {
    username: String,
    realm: String,
    nonce: String,
    uri: String,
    response: String,
    algorithm: Option<String>,
    qop: Option<String>,
    cnonce: Option<String>,
    nc: Option<String>,
}

impl Credentials {
    fn parse(value: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(value).ok()?;
        let (scheme, mut rest) = text.split_once(|c: char| c.is_ascii_whitespace())?;
        if !scheme.eq_ignore_ascii_case("digest") {
            return None;
        }
        let mut credentials = Self::default();
        loop {
            rest = rest.trim_start_matches(|c: char| c == ',' || c.is_ascii_whitespace());
            if rest.is_empty() {
                return Some(credentials);
            }
            let (name, after) = rest.split_once('=')?;
            let (value, after) = auth_value(after.trim_ascii_start())?;
            credentials.set(&name.trim_ascii().to_ascii_lowercase(), value);
            rest = after;
        }
    }

    fn set(&mut self, name: &str, value: &str) {
        let value = String::from(value);
        match name {
            "username" => self.username = value,
            "realm" => self.realm = value,
            "nonce" => self.nonce = value,
            "uri" => self.uri = value,
            "response" => self.response = value.to_ascii_lowercase(),
            "algorithm" => self.algorithm = Some(value),
            "qop" => self.qop = Some(value),
            "cnonce" => self.cnonce = Some(value),
            "nc" => self.nc = Some(value),
            _ => {}
        }
    }

    /// The right response; `None` if the credentials are of a kind that was not offered.
    fn expected(&self, method: &str, password: &str) -> Option<String> {
        let Self { username, realm, nonce, uri, .. } = self;
        let algorithm = match self.algorithm.as_deref() {
            None => Algorithm::Md5,
            Some(name) if name.eq_ignore_ascii_case("MD5") => Algorithm::Md5,
            Some(name) if name.eq_ignore_ascii_case("SHA-256") => Algorithm::Sha256,
            Some(_) => return None,
        };
        let a1 = algorithm.hash(&format!("{username}:{realm}:{password}"));
        let a2 = algorithm.hash(&format!("{method}:{uri}"));
        match self.qop.as_deref() {
            None => Some(algorithm.hash(&format!("{a1}:{nonce}:{a2}"))),
            Some(qop) if qop.eq_ignore_ascii_case("auth") => {
                let (nc, cnonce) = (self.nc.as_deref()?, self.cnonce.as_deref()?);
                Some(algorithm.hash(&format!("{a1}:{nonce}:{nc}:{cnonce}:{qop}:{a2}")))
            }
            Some(_) => None,
        }
    }
}

/// One value, quoted or not, and what follows it. What was between quotes stays as written,
/// since that is what the digest was computed from.
fn auth_value(text: &str) -> Option<(&str, &str)> {
    let Some(inside) = text.strip_prefix('"') else {
        let end = text.find(',').unwrap_or(text.len());
        let (value, rest) = text.split_at_checked(end)?;
        return Some((value.trim_ascii_end(), rest));
    };
    let mut escaped = false;
    let end = inside.find(|c| {
        let closes = c == '"' && !escaped;
        escaped = c == '\\' && !escaped;
        closes
    })?;
    let (value, rest) = inside.split_at_checked(end)?;
    Some((value, rest.get(1..)?))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing into a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The Authorization value of a phone that knows the password.
#[cfg(test)]
pub(in crate::ucserver) fn credentials(
    algorithm: &str,
    username: &str,
    realm: &str,
    password: &str,
    nonce: &str,
    uri: &str,
) -> String {
    let unanswered = format!(
        "Digest username=\"{username}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{uri}\", \
         algorithm={algorithm}, qop=auth, nc=00000001, cnonce=\"c0ffee\""
    );
    let response = Credentials::parse(unanswered.as_bytes())
        .and_then(|credentials| credentials.expected("REGISTER", password))
        .unwrap_or_default();
    format!("{unanswered}, response=\"{response}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_2617_comes_out() {
        let credentials = Credentials::parse(
            b"Digest username=\"Mufasa\", realm=\"testrealm@host.com\", \
              nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", uri=\"/dir/index.html\", qop=auth, \
              nc=00000001, cnonce=\"0a4f113b\", response=\"6629fae49393a05397450978507c4ef1\", \
              opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"",
        )
        .unwrap();
        assert_eq!(
            credentials.expected("GET", "Circle Of Life").as_deref(),
            Some("6629fae49393a05397450978507c4ef1")
        );
        assert_eq!(credentials.response, "6629fae49393a05397450978507c4ef1");
    }

    #[test]
    fn the_examples_of_rfc_7616_come_out() {
        for (algorithm, response) in [
            ("MD5", "8ca523f5e9506fed4657c9700eebdbec"),
            ("SHA-256", "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"),
        ] {
            let header = format!(
                "Digest username=\"Mufasa\", realm=\"http-auth@example.org\", \
                 uri=\"/dir/index.html\", algorithm={algorithm}, \
                 nonce=\"7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v\", nc=00000001, \
                 cnonce=\"f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ\", qop=auth, \
                 response=\"{response}\""
            );
            let credentials = Credentials::parse(header.as_bytes()).unwrap();
            let expected = credentials.expected("GET", "Circle of Life");
            assert_eq!(expected.as_deref(), Some(response), "{algorithm}");
        }
    }

    #[test]
    fn a_comma_in_quotes_does_not_end_a_value() {
        let credentials =
            Credentials::parse(b"Digest username=\"a,b\\\"c\" , realm=r ,nc=1").unwrap();
        assert_eq!(credentials.username, "a,b\\\"c");
        assert_eq!(credentials.realm, "r");
        assert_eq!(credentials.nc.as_deref(), Some("1"));
    }

    #[test]
    fn what_cannot_be_read_is_no_credentials() {
        for junk in ["", "Digest", "Basic abc", "Digest username", "Digest username=\"open"] {
            assert!(Credentials::parse(junk.as_bytes()).is_none(), "{junk}");
        }
        assert!(Credentials::parse(b"Digest \xff=1").is_none());
    }

    #[test]
    fn a_nonce_of_another_boot_is_not_known() {
        let gate = |seed| {
            let mut rng = fastrand::Rng::with_seed(seed);
            Gate::new(DigestSettings::default(), Duration::from_secs(60), &mut rng)
        };
        let now = Uptime::from_secs(7);
        let Refusal::Challenged(challenge) = gate(1).challenge(now, false) else {
            unreachable!("a challenge is a challenge");
        };
        assert_eq!(gate(1).issued_at(&challenge.nonce), Some(now));
        assert_eq!(gate(2).issued_at(&challenge.nonce), None);
        assert_eq!(gate(1).issued_at("ü"), None);
    }
}
