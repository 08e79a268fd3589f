//! [`Aor`]: a canonical address-of-record.

use std::borrow::Borrow;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// An address-of-record in canonical form (RFC 3261 §10.3 step 5 and §19.1.4):
/// `sip:user@host`, scheme and host in lower case, escapes undone where they may be, no
/// parameters, no default port.
///
/// The form is made by `sip::Uri`; this type only carries it.
#[derive(Clone, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Aor(Arc<str>);

impl PartialEq for Aor {
    /// A text that is shared is not read to see that it is the same.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0 == other.0
    }
}

impl Hash for Aor {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl Aor {
    /// Takes a text that is canonical already.
    pub fn from_canonical(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    /// The canonical text, shared.
    pub fn shared(&self) -> Arc<str> {
        Arc::clone(&self.0)
    }

    /// The canonical text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The host, and the port where it is not the default.
    pub fn domain(&self) -> &str {
        let rest = self.0.split_once(':').map_or(&*self.0, |(_, rest)| rest);
        rest.rsplit_once('@').map_or(rest, |(_, domain)| domain)
    }
}

impl Borrow<str> for Aor {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Aor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&crate::private::Masked(&self.0), f)
    }
}

impl fmt::Display for Aor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_domain_is_what_follows_the_user() {
        for (aor, domain) in [
            ("sip:anna@example.com", "example.com"),
            ("sip:a%40b@[2001:db8::1]:5070", "[2001:db8::1]:5070"),
            ("sips:example.com", "example.com"),
        ] {
            assert_eq!(Aor::from_canonical(aor).domain(), domain);
        }
    }
}
