//! [`Realms`]: for which realm a server wants its users' passwords (M6).

use std::sync::Arc;

/// Domains remembered of one server; users of further ones are not told apart.
const DOMAINS_MAX: usize = 16;

/// The digest realms of one server.
///
/// A phone's credentials are bound to a realm: at a server of another one they count for nothing,
/// and its user would be asked for a password. So a server of another realm is no place to go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Realms {
    /// What the operator says; then nothing is learned.
    configured: Option<Arc<str>>,
    /// What its challenges said, by the domain of the address-of-record: a registrar may take the
    /// one for the other.
    learned: Vec<(Arc<str>, Arc<str>)>,
}

impl Realms {
    /// Nothing is known but what the operator says.
    pub fn configured(realm: Option<Arc<str>>) -> Self {
        Self { configured: realm, learned: Vec::new() }
    }

    /// Takes in what a challenge said to a user of a domain; `false` if that is no news.
    pub fn learn(&mut self, domain: &str, realm: &str) -> bool {
        if self.configured.is_some() {
            return false;
        }
        let full = self.learned.len() >= DOMAINS_MAX;
        match self.learned.iter_mut().find(|(known, _)| &**known == domain) {
            Some((_, known)) if &**known == realm => return false,
            Some((_, known)) => *known = realm.into(),
            None if full => return false,
            None => self.learned.push((domain.into(), realm.into())),
        }
        true
    }

    /// Whether learning this would be no news.
    pub fn knows(&self, domain: &str, realm: &str) -> bool {
        self.configured.is_some()
            || self.learned.iter().any(|(d, r)| &**d == domain && &**r == realm)
    }

    /// The server's process is, or may be, another one: what it said counts no more.
    pub fn forget(&mut self) {
        self.learned.clear();
    }

    /// Whether users of the one server cannot log in at the other; what is not known is no reason.
    pub fn differ_from(&self, other: &Self) -> bool {
        match (&self.configured, &other.configured) {
            (Some(ours), Some(theirs)) => ours != theirs,
            (Some(told), None) => other.is_never(told),
            (None, Some(told)) => self.is_never(told),
            (None, None) => self.learned.iter().any(|(domain, realm)| {
                let same = other.learned.iter().find(|(theirs, _)| theirs == domain);
                same.is_some_and(|(_, theirs)| theirs != realm)
            }),
        }
    }

    fn is_never(&self, realm: &Arc<str>) -> bool {
        !self.learned.is_empty() && self.learned.iter().all(|(_, known)| known != realm)
    }

    /// Every realm there is, once.
    pub fn names(&self) -> Vec<Arc<str>> {
        let learned = self.learned.iter().map(|(_, realm)| realm);
        let mut names: Vec<_> = self.configured.iter().chain(learned).cloned().collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn learned(pairs: &[(&str, &str)]) -> Realms {
        let mut realms = Realms::default();
        for (domain, realm) in pairs {
            assert!(realms.learn(domain, realm));
            assert!(!realms.learn(domain, realm), "no news");
            assert!(realms.knows(domain, realm));
        }
        realms
    }

    #[test]
    fn servers_differ_where_they_said_so_of_the_same_domain() {
        let told = |realm: &str| Realms::configured(Some(realm.into()));
        let nothing = Realms::default();
        let by_domain = learned(&[("a.example", "a"), ("b.example", "b")]);
        for (one, other, differ) in [
            (told("x"), told("x"), false),
            (told("x"), told("X"), true),
            (told("x"), nothing.clone(), false),
            (nothing.clone(), nothing, false),
            (told("a"), by_domain.clone(), false),
            (told("c"), by_domain.clone(), true),
            (by_domain.clone(), learned(&[("b.example", "b")]), false),
            (by_domain.clone(), learned(&[("c.example", "c")]), false),
            (by_domain, learned(&[("a.example", "a"), ("b.example", "c")]), true),
        ] {
            assert_eq!(one.differ_from(&other), differ, "{one:?} {other:?}");
            assert_eq!(other.differ_from(&one), differ, "{one:?} {other:?}");
        }
    }

    #[test]
    fn what_is_learned_is_bounded_renewed_and_forgotten() {
        let mut realms = Realms::default();
        for domain in 0..DOMAINS_MAX {
            assert!(realms.learn(&domain.to_string(), "x"));
        }
        assert!(!realms.learn("one more", "x"));
        assert!(realms.learn("0", "y"), "it was configured anew");
        assert_eq!(realms.names(), ["x".into(), "y".into()]);
        realms.forget();
        assert_eq!(realms, Realms::default());
    }

    #[test]
    fn what_the_operator_says_is_not_overruled() {
        let mut realms = Realms::configured(Some("x".into()));
        assert!(!realms.learn("a.example", "y"));
        assert_eq!(realms.names(), ["x".into()]);
    }
}
