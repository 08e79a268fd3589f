//! Users, page by page: who fits a filter. A page costs what its size says, not what the pool holds.
//!
//! A page begins at a user's place in the directory. A place is never given to another user, and whoever
//! becomes known comes last: whoever is there from the first page to the last is listed exactly once.

use std::sync::Arc;
use std::time::SystemTime;

use crate::cluster::ServerId;
use crate::directory::UserId;
use crate::directory::record::RelocationReason;
use crate::door::Door;
use crate::door::binding::Standing;
use crate::door::command::Refused;
use crate::door::status::{RelocationStatus, UserStatus};
use crate::now::{Now, Uptime};

/// Users looked at for one page: a filter that few fit must not hold up REGISTERs.
const LOOKED_AT_MAX: usize = 10_000;

/// How a binding can stand, as long as there is one: what [`Filter::standing`] may be.
pub const STANDINGS: [&str; 5] = [
    Standing::Settled.name(),
    Standing::Moving.name(),
    Standing::AwaitingPhone.name(),
    Standing::Held.name(),
    Standing::Failed.name(),
];

/// Why somebody can be away: what [`Filter::why`] may be.
pub const WHYS: [&str; 4] = [
    RelocationReason::Failover.name(),
    RelocationReason::Drain.name(),
    RelocationReason::Replanned.name(),
    RelocationReason::Manual.name(),
];

/// Which users are listed; what is not said does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Their current server.
    pub server: Option<String>,
    /// Their home.
    pub home: Option<String>,
    /// Whether they are served elsewhere than at home.
    pub away: Option<bool>,
    /// How one of their bindings stands ([`crate::door::BindingStatus::standing`]).
    pub standing: Option<String>,
    /// Why they are away ([`RelocationStatus::why`]).
    pub why: Option<String>,
    /// What their login name or one of their addresses begins with, with or without `sip:`.
    pub prefix: Option<String>,
}

/// A page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed<T> {
    /// Those who fit, in the order in which they became known.
    pub found: Vec<T>,
    /// Where the next page begins, unless everybody has been looked at. There may be one although this
    /// page is not full, or empty: so many users were looked at that the rest is left to the next.
    pub next: Option<usize>,
}

/// A filter whose servers are found.
struct Sought<'f> {
    filter: &'f Filter,
    server: Option<ServerId>,
    home: Option<ServerId>,
}

impl Door {
    /// At most `count` users who fit, from the place `from`.
    ///
    /// # Errors
    ///
    /// The filter names a server that is not configured.
    pub fn users(
        &self,
        now: Now,
        filter: &Filter,
        page: (usize, usize),
    ) -> Result<Listed<UserStatus>, Refused> {
        self.page_of(now, filter, page, |user| {
            Some(self.user_status(now, user, self.directory.get(user)))
        })
    }

    /// The same of users who are away, whatever the filter says of that.
    ///
    /// # Errors
    ///
    /// As for [`Door::users`].
    pub fn relocations(
        &self,
        now: Now,
        filter: &Filter,
        page: (usize, usize),
    ) -> Result<Listed<RelocationStatus>, Refused> {
        let filter = Filter { away: Some(true), ..filter.clone() };
        self.page_of(now, &filter, page, |user| self.relocation_status(user))
    }

    fn page_of<T>(
        &self,
        now: Now,
        filter: &Filter,
        (from, count): (usize, usize),
        show: impl Fn(UserId) -> Option<T>,
    ) -> Result<Listed<T>, Refused> {
        let find = |name: &Option<String>| {
            name.as_deref().map(|name| self.server_ordered(name)).transpose()
        };
        let sought = Sought { filter, server: find(&filter.server)?, home: find(&filter.home)? };
        // Beyond the last possible place there is nobody.
        let from = UserId(u32::try_from(from).unwrap_or(u32::MAX));
        let mut listed = Listed { found: Vec::new(), next: None };
        let mut looked_at = 0;
        let mut look = |user: UserId| {
            if listed.found.len() == count || looked_at == LOOKED_AT_MAX {
                listed.next = Some(user.index());
                return false;
            }
            looked_at += 1;
            if self.fits(now.uptime, user, &sought) {
                listed.found.extend(show(user));
            }
            true
        };
        if filter.away == Some(true) {
            let _all = self.directory.away_since(from).all(&mut look);
        } else {
            let _all = self.directory.since(from).all(&mut look);
        }
        Ok(listed)
    }

    fn fits(&self, now: Uptime, id: UserId, sought: &Sought<'_>) -> bool {
        let Sought { filter, server, home } = sought;
        let user = self.directory.get(id);
        let begins = |prefix: &str| {
            let bare =
                |aor: &str| aor.strip_prefix("sip:").is_some_and(|it| it.starts_with(prefix));
            user.name.starts_with(prefix)
                || bare(&user.name)
                || user
                    .aors
                    .iter()
                    .any(|aor| aor.as_str().starts_with(prefix) || bare(aor.as_str()))
        };
        let stands = |standing: &str| {
            let bindings = self.bindings_of(id).iter().filter_map(|&it| self.bindings.get(it));
            bindings.filter(|it| it.is_live(now)).any(|it| it.standing.name() == standing)
        };
        let why = user.relocation.as_ref().map(|relocation| relocation.why.name());
        server.is_none_or(|server| user.current() == Some(server))
            && home.is_none_or(|home| user.home == Some(home))
            && filter.away.is_none_or(|away| user.relocation.is_some() == away)
            && filter.why.as_deref().is_none_or(|wanted| why == Some(wanted))
            && filter.prefix.as_deref().is_none_or(begins)
            && filter.standing.as_deref().is_none_or(stands)
    }

    fn relocation_status(&self, id: UserId) -> Option<RelocationStatus> {
        let user = self.directory.get(id);
        let relocation = user.relocation.as_ref()?;
        let since = relocation.date.duration_since(SystemTime::UNIX_EPOCH);
        Some(RelocationStatus {
            user: Arc::clone(&user.name),
            origin: self.server_name(relocation.origin),
            current: self.server_name(relocation.target),
            date: since.unwrap_or_default().as_secs(),
            why: relocation.why.name().into(),
            epoch: user.epoch,
        })
    }
}
