//! [`Dossier`]: what a server's health documents have told (H8, H9).

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::document::{Document, DocumentFault};
use crate::cluster::{HealthDocumentUse, Server, Version};
use crate::now::Uptime;

/// Documents missing in a row that mean something.
const MISSES: u32 = 3;
/// Lives remembered, to know a boot id that comes back.
const LIVES: usize = 8;
/// A process that restarts more often is reported this often: everything is registered there again
/// each time, and a document that invents a boot id per request must not make that a storm.
const LIFE_MIN: Duration = Duration::from_secs(10);

/// What a server's health documents have told.
#[derive(Debug)]
pub(super) struct Dossier {
    usage: HealthDocumentUse,
    configured_capacity: u32,
    configured_version: Option<Version>,
    last: Option<Document>,
    misses: u32,
    /// The boot id of this life.
    boot_id: Option<Arc<str>>,
    restarted_at: Option<Uptime>,
    former: VecDeque<Arc<str>>,
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
            last: None,
            misses: 0,
            boot_id: None,
            restarted_at: None,
            former: VecDeque::new(),
        }
    }

    /// Whether there is anything to fetch.
    pub(super) const fn is_wanted(&self) -> bool {
        !matches!(self.usage, HealthDocumentUse::None)
    }

    /// Takes in a document, or that there is none. `true`: the process is another one than before.
    pub(super) fn file(&mut self, now: Uptime, result: Result<Document, DocumentFault>) -> bool {
        match result {
            // A life that is over does not come back: two processes behind one address, or a lie.
            Ok(document) if !self.former.contains(&document.boot_id) => {
                self.misses = 0;
                let restarted = self.is_new_life(now, &document.boot_id);
                self.last = Some(document);
                restarted
            }
            Ok(_) | Err(_) => {
                self.misses = self.misses.saturating_add(1);
                false
            }
        }
    }

    /// Whether the document's absence is a fault (H9).
    pub(super) const fn is_at_fault(&self) -> bool {
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

    /// Users logged in and capacity, while documents come.
    pub(super) fn users(&self) -> Option<(u32, u32)> {
        self.fresh().map(|document| (document.users_logged_in, self.capacity()))
    }

    /// CPU in per cent, while documents come.
    pub(super) fn cpu_percent(&self) -> Option<u8> {
        self.fresh()?.cpu_percent
    }

    fn fresh(&self) -> Option<&Document> {
        self.last.as_ref().filter(|_| self.misses < MISSES)
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
