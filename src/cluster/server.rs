//! A UCServer as the configuration describes it.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;

use crate::cluster::{Planes, Ties};
use crate::sip::Transport;

/// A UCServer of the pool, by its place in the configuration of this process.
///
/// Records never carry it: they name the server ([`Server::name`]), because the order of the
/// configuration may change between two starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerId(pub u16);

impl ServerId {
    /// The place in a table of servers.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What an operator says of one UCServer.
#[derive(Clone, Debug)]
pub struct Server {
    /// The name people and records use.
    pub name: Arc<str>,
    /// Where its SIP registrar listens.
    pub sip: SocketAddr,
    /// How the door speaks SIP to it.
    pub transport: Transport,
    /// Where ProCall clients are served by native TCP; `None`: nowhere.
    pub clients: Option<SocketAddr>,
    /// Where its WebService is, by plain HTTP; `None`: nowhere.
    pub web: Option<SocketAddr>,
    /// What its WebService calls it (`ucsid`); without, its name.
    pub ucsid: Option<Arc<str>>,
    /// An address of the door that stands for it: what clients are told who have to go elsewhere, as
    /// `host:port` or `host`.
    pub public: Option<Arc<str>>,
    /// The planes it serves; each is probed by itself (H1, H4).
    pub planes: Planes,
    /// How many users it can serve.
    pub capacity: u32,
    /// Its product version, where it is not told by the health document (H7).
    pub version: Option<Version>,
    /// Where it stands, for placement constraints; `None` is everywhere.
    pub site: Option<Arc<str>>,
    /// Its line groups, and the telephone systems it reaches (P4).
    pub ties: Arc<Ties>,
    /// The realm of its users' passwords; without it, what its challenges say (M6).
    pub realm: Option<Arc<str>>,
    /// How the door registers bindings there (M2).
    pub binding_address: BindingAddress,
    /// Whether the health document is served, and what its absence means (H9).
    pub health_document: HealthDocumentUse,
    /// `http://host:port/path` of the health document.
    pub health_url: Option<Arc<str>>,
}

/// How a server is told the way back to a phone (M2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BindingAddress {
    /// By a Path header (RFC 3327); a server that ignores it fails the binding.
    Path,
    /// By a Contact that points at the door.
    Contact,
    /// By Path, and by Contact where the server ignores Path.
    #[default]
    Auto,
}

/// What the absence of a health document means (H9).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HealthDocumentUse {
    /// It must be there: never served or no longer served is a fault.
    Required,
    /// Used where served; a fault only once it has been served.
    #[default]
    Optional,
    /// Never asked for.
    None,
}

/// A product version: year and month, then the build (`2603.0`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Version {
    /// `2603` is March 2026.
    pub major: u32,
    /// The part behind the dot.
    pub minor: u32,
}

impl Version {
    /// The first version with automatic user distribution; older servers are homes only (H7).
    pub const FIRST_WITH_DISTRIBUTION: Self = Self { major: 2603, minor: 0 };
}

/// Octets of the longest text that is read as a version.
const LONGEST: usize = 64;

/// A text is not a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a version such as \"2603.0\"")]
pub struct NotAVersion;

impl FromStr for Version {
    type Err = NotAVersion;

    /// Reads the first two numbers, digits alone; further parts (`2603.0.1.7`) are builds that decide
    /// nothing. A text of more than 64 octets is no version.
    fn from_str(text: &str) -> Result<Self, NotAVersion> {
        let text = text.trim();
        if text.len() > LONGEST {
            return Err(NotAVersion);
        }
        let mut parts = text.split('.');
        let mut number = || -> Result<Option<u32>, NotAVersion> {
            let Some(part) = parts.next() else { return Ok(None) };
            // `u32` would read a sign, too.
            let is_digits = part.bytes().all(|octet| octet.is_ascii_digit());
            is_digits.then(|| part.parse().ok()).flatten().map(Some).ok_or(NotAVersion)
        };
        let major = number()?.ok_or(NotAVersion)?;
        let minor = number()?.unwrap_or(0);
        Ok(Self { major, minor })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_order_by_release_not_by_text() {
        let old: Version = "2510.12".parse().unwrap();
        assert!(old < Version::FIRST_WITH_DISTRIBUTION);
        assert!("10000.0".parse::<Version>().unwrap() > Version::FIRST_WITH_DISTRIBUTION);
        assert_eq!("2603".parse(), Ok(Version::FIRST_WITH_DISTRIBUTION));
        assert_eq!("2603.0.1.7".parse(), Ok(Version::FIRST_WITH_DISTRIBUTION));
        assert_eq!("new".parse::<Version>(), Err(NotAVersion));
    }

    #[test]
    fn what_is_no_version_is_refused_however_long() {
        let long =
            ["9".repeat(10_000), "x".repeat(10_000), format!("2603.0{}", ".1".repeat(5_000))];
        for text in long.iter().map(String::as_str) {
            assert_eq!(text.parse::<Version>(), Err(NotAVersion));
        }
        for text in
            ["", ".", "2603.", ".0", "+2603.0", "-1", "2603.x", "2603,0", "4294967296.0", "٢"]
        {
            assert_eq!(text.parse::<Version>(), Err(NotAVersion), "{text}");
        }
    }
}
