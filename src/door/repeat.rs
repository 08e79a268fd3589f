//! A phone says what it said last time: answered without reading it again.
//!
//! Nearly every REGISTER there is repeats its predecessor octet for octet, but for the Via and the
//! number of the CSeq. What the last one meant was found by reading these octets, so this one
//! means the same: a fingerprint of them leads to the binding, and only what may have changed
//! meanwhile is looked at — the CSeq, the binding, its user and their server.
//!
//! [`Door::absorb`] leaves the fingerprint with the binding; whatever changes the binding makes it
//! worthless, because it names the binding's version.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use smallvec::SmallVec;

use crate::door::Door;
use crate::door::absorb::Standing;
use crate::door::binding::Binding;
use crate::door::edge::REGISTER_OCTETS_MAX;
use crate::door::slots::{SlotId, Slots};
use crate::now::Now;
use crate::sip::{Fingerprints, Flow, Message, Outline};

/// The REGISTER that refreshed a binding last, and what reading it came to. [`Repeat::NONE`] if
/// there was none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Repeat {
    /// One request in 2⁶⁴ has that of [`Repeat::NONE`] by chance, and is read again each time.
    fingerprint: u64,
    /// The binding as it was then.
    version: u32,
    /// The lease asked for, in milliseconds, within the limits.
    lease_ms: u32,
}

impl Repeat {
    pub(crate) const NONE: Self = Self { fingerprint: 0, version: 0, lease_ms: 0 };
}

/// Which binding a REGISTER refreshes that has been read before: by its fingerprint, which the
/// binding keeps, so that an entry is no more than its place.
#[derive(Debug)]
pub(crate) struct Repeats {
    fingerprints: Fingerprints,
    places: HashTable<u32>,
}

impl Repeats {
    /// None yet; the secret is what nobody else must know.
    pub(crate) fn new(secret: u64) -> Self {
        Self { fingerprints: Fingerprints::of(secret), places: HashTable::new() }
    }

    /// What a message says, if it may be one of those that were read.
    fn outline<'m>(&self, message: &'m [u8]) -> Option<Outline<'m>> {
        // A Via may have grown: it is no part of the fingerprint, but of the answer.
        let may_be = !self.places.is_empty() && message.len() <= REGISTER_OCTETS_MAX;
        may_be.then(|| Outline::of(message, &self.fingerprints)).flatten()
    }

    /// Where the binding is, unless it is one of those few that are found in its place.
    fn guess(&self, fingerprint: u64) -> Option<u32> {
        self.places.iter_hash(fingerprint).next().copied()
    }

    fn find<'b>(
        &self,
        fingerprint: u64,
        bindings: &'b Slots<Binding>,
    ) -> Option<(SlotId, &'b Binding)> {
        let is_it = |place: &u32| fingerprint_at(bindings, *place) == fingerprint;
        bindings.at(*self.places.find(fingerprint, is_it)? as usize)
    }

    fn insert(&mut self, fingerprint: u64, id: SlotId, bindings: &Slots<Binding>) {
        let of = |place: &u32| fingerprint_at(bindings, *place);
        let place = id.place() as u32;
        match self.places.entry(fingerprint, |other| of(other) == fingerprint, of) {
            Entry::Occupied(mut other) => *other.get_mut() = place,
            Entry::Vacant(free) => _ = free.insert(place),
        }
    }

    fn remove(&mut self, fingerprint: u64, id: SlotId) {
        let is_it = |place: &u32| *place as usize == id.place();
        if let Ok(entry) = self.places.find_entry(fingerprint, is_it) {
            entry.remove();
        }
    }
}

fn fingerprint_at(bindings: &Slots<Binding>, place: u32) -> u64 {
    bindings.at(place as usize).map_or(0, |(_, binding)| binding.repeat.fingerprint)
}

/// Messages that are looked at together.
pub(super) const TOGETHER: usize = 16;

/// Of [`TOGETHER`] messages, those that may repeat others.
pub(super) type Outlines<'m> = SmallVec<[Option<Outline<'m>>; TOGETHER]>;

impl Door {
    /// Looks at messages that arrived together, and at the bindings they seem to refresh.
    ///
    /// With many users hardly any binding is in the processor's caches, and it would stand still
    /// for one after the other. Here nothing depends on what is found, so it waits for all at once.
    pub(super) fn outlines<'m>(&self, messages: &'m [(Flow, Bytes)]) -> Outlines<'m> {
        let outlines: Outlines<'m> =
            messages.iter().map(|(_, message)| self.repeats.outline(message)).collect();
        if messages.len() > 1 {
            let fingerprints = outlines.iter().flatten().map(|outline| outline.fingerprint);
            let places: SmallVec<[u32; TOGETHER]> =
                fingerprints.filter_map(|it| self.repeats.guess(it)).collect();
            let found = places.iter().map(|place| self.touch(*place)).fold(0, |all, it| all ^ it);
            std::hint::black_box(found);
        }
        outlines
    }

    /// Reads a little of everything that answering for the binding at this place needs.
    fn touch(&self, place: u32) -> u64 {
        let Some((_, binding)) = self.bindings.at(place as usize) else { return 0 };
        let until = binding.upstream.first().map_or(0, |upstream| upstream.expires_at.as_nanos());
        until
            ^ binding.repeat.fingerprint
            ^ binding.lease_until.as_nanos()
            ^ u64::from(binding.flow.remote.port())
            ^ u64::from(binding.said.as_bytes().first().copied().unwrap_or_default())
            ^ self.bindings_of(binding.user).len() as u64
    }

    /// Answers a REGISTER that says what its predecessor said; `false` if it must be read.
    pub(super) fn repeat(&mut self, now: Now, flow: Flow, outline: &Outline<'_>) -> bool {
        let found = self.repeats.find(outline.fingerprint, &self.bindings);
        let (Some((id, binding)), Ok(via)) = (found, outline.repeated.top_via()) else {
            return false;
        };
        let known = binding.repeat;
        let same = binding.version == known.version
            && self.accepts_refresh(now.uptime, flow, binding, outline.cseq)
            && (self.turns.is_empty() || !self.turns.contains_key(&binding.aor))
            && self.directory.is_enabled(binding.user);
        let Some(standing) = self.standing_of(now.uptime, binding).filter(|_| same) else {
            return false;
        };
        self.stats.registers += 1;
        self.stats.registers_repeated += 1;
        let lease = Duration::from_millis(known.lease_ms.into());
        self.refresh(now, &[(id, lease)], standing == Standing::Held, outline.cseq);
        self.answer_repeated(now, flow, (&outline.repeated, &via), id);
        true
    }

    /// Remembers that `request`, which has just been read, refreshes this binding alone.
    pub(super) fn remember_repeat(&mut self, request: &Message, id: SlotId, lease: Duration) {
        let outline = Outline::of(request.bytes(), &self.repeats.fingerprints);
        let (Some(Outline { fingerprint, .. }), Ok(lease_ms)) =
            (outline, u32::try_from(lease.as_millis()))
        else {
            return;
        };
        let Some(binding) = self.bindings.get_mut(id) else { return };
        let repeat = Repeat { fingerprint, version: binding.version, lease_ms };
        let before = std::mem::replace(&mut binding.repeat, repeat);
        if before.fingerprint != fingerprint {
            self.repeats.remove(before.fingerprint, id);
            self.repeats.insert(fingerprint, id, &self.bindings);
        }
    }

    /// The binding is no more.
    pub(super) fn forget_repeat(&mut self, id: SlotId, binding: &Binding) {
        self.repeats.remove(binding.repeat.fingerprint, id);
    }
}

/// The text of a Date header, made once a second.
#[derive(Debug, Default)]
pub(crate) struct Date {
    second: u64,
    text: String,
}

impl Date {
    /// It is now this time.
    pub(crate) fn set(&mut self, wall: SystemTime) {
        let Ok(since) = wall.duration_since(SystemTime::UNIX_EPOCH) else {
            return self.text.clear();
        };
        if since.as_secs() != self.second || self.text.is_empty() {
            self.second = since.as_secs();
            self.text = httpdate::fmt_http_date(wall);
        }
    }

    /// None before 1970: a clock that stands there has no date to give.
    pub(crate) fn text(&self) -> Option<&str> {
        Some(&*self.text).filter(|text| !text.is_empty())
    }
}
