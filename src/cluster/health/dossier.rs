//! [`Dossier`]: what a server's health documents have told (H8, H9).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::document::{Document, DocumentFault};
use crate::cluster::{HealthDocumentUse, Server, Ties, Version};
use crate::now::Uptime;

/// Documents missing in a row that mean something.
const MISSES: u32 = 3;
/// How long a document counts that the server sends by itself, where none is fetched.
const PUSH_LASTS: Duration = Duration::from_secs(15);
/// Lives remembered, to know a boot id that comes back.
const LIVES: usize = 8;
/// So many documents of a former life in a row, and none of another: it is not over.
const REVENANT: u32 = 5;
/// A process that restarts more often is reported this often: everything is registered there again
/// each time, and a document that invents a boot id per request must not make that a storm.
const LIFE_MIN: Duration = Duration::from_secs(10);

/// What a server's health documents have told.
#[derive(Debug)]
pub(super) struct Dossier {
    usage: HealthDocumentUse,
    configured_capacity: u32,
    configured_version: Option<Version>,
    configured_ties: Arc<Ties>,
    /// The same with what the last document says.
    ties: Arc<Ties>,
    last: Option<Document>,
    misses: u32,
    /// When the last one came that the server sent by itself.
    pushed_at: Option<Uptime>,
    /// The boot id of this life.
    boot_id: Option<Arc<str>>,
    restarted_at: Option<Uptime>,
    former: VecDeque<Arc<str>>,
    /// A former life that documents tell of, one after the other, and how many.
    revenant: Option<(Arc<str>, u32)>,
}

impl Dossier {
    pub(super) fn new(server: &Server) -> Self {
        let usage = match server.health_url {
            Some(_) => server.health_document,
            None => HealthDocumentUse::None,
        };
        Self {
            usage,
            configured_capacity: server.capacity,
            configured_version: server.version,
            configured_ties: Arc::clone(&server.ties),
            ties: Arc::clone(&server.ties),
            last: None,
            misses: 0,
            pushed_at: None,
            boot_id: None,
            restarted_at: None,
            former: VecDeque::new(),
            revenant: None,
        }
    }

    /// Whether there is anything to fetch.
    pub(super) const fn is_wanted(&self) -> bool {
        !matches!(self.usage, HealthDocumentUse::None)
    }

    /// The next document is one that the server sends by itself.
    pub(super) const fn pushed(&mut self, now: Uptime) {
        self.pushed_at = Some(now);
    }

    /// When the last one of those counts no longer, where nothing is fetched.
    pub(super) fn lapses_at(&self) -> Option<Uptime> {
        self.pushed_at.filter(|_| !self.is_wanted()).map(|at| at + PUSH_LASTS)
    }

    /// Takes in a document, or that there is none. `true`: the process is another one than before.
    pub(super) fn file(&mut self, now: Uptime, result: Result<Document, DocumentFault>) -> bool {
        match result {
            // A life that is over does not come back: the document is late, or there are two processes
            // behind one address, or it is a lie.
            Ok(document) if !self.is_over(&document.boot_id) => {
                self.misses = 0;
                let restarted = self.is_new_life(now, &document.boot_id);
                self.last = Some(document);
                self.tie(true);
                restarted
            }
            Ok(_) | Err(_) => {
                self.misses = self.misses.saturating_add(1);
                false
            }
        }
    }

    /// Whether the document's absence is a fault (H9): also of one that came by itself, and comes no
    /// more.
    pub(super) fn is_at_fault(&self, now: Uptime) -> bool {
        if let Some(lapses) = self.lapses_at() {
            return lapses <= now;
        }
        self.misses >= MISSES
            && match self.usage {
                HealthDocumentUse::Required => true,
                HealthDocumentUse::Optional => self.last.is_some(),
                HealthDocumentUse::None => false,
            }
    }

    /// Documents missing in a row.
    pub(super) const fn misses(&self) -> u32 {
        self.misses
    }

    /// Users it can serve.
    pub(super) fn capacity(&self) -> u32 {
        self.last
            .as_ref()
            .and_then(|document| document.users_capacity)
            .unwrap_or(self.configured_capacity)
    }

    /// Its product version.
    pub(super) fn version(&self) -> Option<Version> {
        self.last.as_ref().and_then(|document| document.version).or(self.configured_version)
    }

    /// Its line groups, and the telephone systems it reaches.
    pub(super) fn ties(&self) -> Arc<Ties> {
        Arc::clone(&self.ties)
    }

    /// Lets time pass: what an old document says of telephone systems counts no longer.
    pub(super) fn age(&mut self, now: Uptime) {
        let fresh = self.fresh(now).is_some();
        if self.last.is_some() && fresh != self.ties.is_fresh() {
            self.tie(fresh);
        }
    }

    fn tie(&mut self, fresh: bool) {
        let Some(document) = &self.last else { return };
        let ties = self.configured_ties.told(&document.telephone_systems, fresh);
        // Whoever compares two views compares addresses first.
        if ties != *self.ties {
            self.ties = Arc::new(ties);
        }
    }

    /// Users logged in and capacity, while documents come.
    pub(super) fn users(&self, now: Uptime) -> Option<(u32, u32)> {
        self.fresh(now).map(|document| (document.users_logged_in, self.capacity()))
    }

    /// CPU in per cent, while documents come.
    pub(super) fn cpu_percent(&self, now: Uptime) -> Option<u8> {
        self.fresh(now)?.cpu_percent
    }

    fn fresh(&self, now: Uptime) -> Option<&Document> {
        let lapsed = self.lapses_at().is_some_and(|at| at <= now);
        self.last.as_ref().filter(|_| self.misses < MISSES && !lapsed)
    }

    /// Whether this life is over. One that documents tell of again and again, and of no other, is not:
    /// what made it a former one was late itself, such as from before this door began.
    fn is_over(&mut self, boot_id: &Arc<str>) -> bool {
        if !self.former.contains(boot_id) {
            self.revenant = None;
            return false;
        }
        let told = match self.revenant.take() {
            Some((revenant, told)) if revenant == *boot_id => told + 1,
            Some(_) | None => 1,
        };
        if told < REVENANT {
            self.revenant = Some((Arc::clone(boot_id), told));
            return true;
        }
        self.former.retain(|former| former != boot_id);
        false
    }

    fn is_new_life(&mut self, now: Uptime, boot_id: &Arc<str>) -> bool {
        if self.boot_id.as_ref() == Some(boot_id) {
            return false;
        }
        let too_soon = self.restarted_at.is_some_and(|last| now.since(last) < LIFE_MIN);
        if too_soon {
            // The id of this life stays the old one, so a later document tells again.
            return false;
        }
        let Some(former) = self.boot_id.replace(Arc::clone(boot_id)) else { return false };
        if self.former.len() == LIVES {
            self.former.pop_front();
        }
        self.former.push_back(former);
        self.restarted_at = Some(now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{BindingAddress, Planes};
    use crate::sip::Transport;

    fn dossier(url: Option<&str>) -> Dossier {
        Dossier::new(&Server {
            name: "ucs1".into(),
            sip: "10.0.0.1:5060".parse().unwrap(),
            transport: Transport::Udp,
            clients: None,
            web: None,
            ucsid: None,
            public: None,
            planes: Planes::SIP,
            capacity: 1_000,
            version: None,
            site: None,
            ties: Arc::default(),
            realm: None,
            binding_address: BindingAddress::Auto,
            health_document: HealthDocumentUse::Optional,
            health_url: url.map(Into::into),
        })
    }

    fn push(dossier: &mut Dossier, at: Uptime, boot_id: &str, users: u32) -> bool {
        let document = Document {
            boot_id: boot_id.into(),
            users_logged_in: users,
            users_capacity: Some(500),
            ..Document::default()
        };
        dossier.pushed(at);
        dossier.file(at, Ok(document))
    }

    fn missing() -> Result<Document, DocumentFault> {
        Err(DocumentFault::Missing("no answer".into()))
    }

    const fn at(secs: u64) -> Uptime {
        Uptime::from_secs(secs)
    }

    #[test]
    fn a_pushed_document_counts_for_a_quarter_of_a_minute_and_is_missed_then() {
        let mut dossier = dossier(None);
        assert!(!dossier.is_at_fault(at(1)) && dossier.lapses_at().is_none());
        push(&mut dossier, at(10), "a", 7);
        assert_eq!((dossier.users(at(24)), dossier.is_at_fault(at(24))), (Some((7, 500)), false));
        assert_eq!(dossier.lapses_at(), Some(at(25)));
        assert_eq!((dossier.users(at(25)), dossier.is_at_fault(at(25))), (None, true));
        assert_eq!(dossier.capacity(), 500, "what it can serve it can serve all the same");
        push(&mut dossier, at(30), "a", 8);
        assert_eq!((dossier.users(at(31)), dossier.is_at_fault(at(31))), (Some((8, 500)), false));
    }

    #[test]
    fn where_documents_are_fetched_a_push_is_one_more_and_the_newest_counts() {
        let mut dossier = dossier(Some("http://10.0.0.1/health"));
        for second in 1..=3 {
            assert!(!dossier.file(at(second), missing()));
        }
        push(&mut dossier, at(4), "a", 7);
        assert_eq!((dossier.users(at(5)), dossier.is_at_fault(at(5))), (Some((7, 500)), false));
        assert_eq!(dossier.lapses_at(), None, "the next look says whether it is missing");
        for second in 5..=7 {
            dossier.file(at(second), missing());
        }
        assert!(dossier.is_at_fault(at(8)));
    }

    #[test]
    fn a_late_document_of_another_life_is_believed_only_until_the_truth_insists() {
        let mut dossier = dossier(None);
        assert!(!push(&mut dossier, at(10), "b", 1));
        assert!(push(&mut dossier, at(30), "a", 9), "from before this door began: nobody can know");
        for second in 31..35 {
            assert!(!push(&mut dossier, at(second), "b", 2), "it may be another process");
        }
        assert!(push(&mut dossier, at(45), "b", 3), "but it is not");
        assert_eq!((dossier.users(at(46)), dossier.is_at_fault(at(46))), (Some((3, 500)), false));
        // Two processes that answer in turn are told from one that restarted.
        for second in 60..90 {
            let id = if second % 3 == 0 { "b" } else { "a" };
            assert!(!push(&mut dossier, at(second), id, 4), "{second}");
        }
    }

    #[test]
    fn a_pushed_document_of_a_former_life_comes_too_late() {
        let mut dossier = dossier(None);
        assert!(!push(&mut dossier, at(10), "a", 7));
        assert!(push(&mut dossier, at(30), "b", 1), "another process");
        assert!(!push(&mut dossier, at(31), "a", 9));
        assert_eq!(dossier.users(at(31)), Some((1, 500)));
    }
}
