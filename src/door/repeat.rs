//! A phone says what it said last time: answered without reading it again.
//!
//! Nearly every REGISTER there is repeats its predecessor octet for octet, but for the Via and the
//! number of the CSeq. What the last one meant was found by reading these octets, so this one
//! means the same: a fingerprint of them leads to the binding, and only what may have changed
//! meanwhile is looked at — the CSeq, the binding, its user and their server.
//!
//! [`Door::absorb`] leaves the fingerprint; whatever changes the binding makes it worthless,
//! because it names the binding's version.

use std::collections::HashMap;
use std::time::{Duration, SystemTime};

use crate::door::Door;
use crate::door::absorb::Standing;
use crate::door::binding::Binding;
use crate::door::edge::REGISTER_OCTETS_MAX;
use crate::door::slots::SlotId;
use crate::now::Now;
use crate::sip::{Flow, Message};

/// Which binding a request refreshes that has been read before, by fingerprint.
pub(crate) type Repeats = HashMap<u64, Repeat, foldhash::fast::RandomState>;

/// What reading it came to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Repeat {
    binding: SlotId,
    /// The binding as it was then.
    version: u32,
    /// The lease asked for, in milliseconds, within the limits.
    lease_ms: u32,
}

/// Whether a message says anything new.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// It repeats a REGISTER and is answered.
    Before,
    /// It had to be read.
    New,
}

/// No fingerprint: one request in 2⁶⁴ has it by chance, and is then read as if it were new.
pub(crate) const NO_FINGERPRINT: u64 = 0;

impl Door {
    /// Answers a REGISTER that says what its predecessor said; `false` if it must be read.
    pub(super) fn repeat(&mut self, now: Now, flow: Flow, request: &Message) -> bool {
        // A Via may have grown: it is no part of the fingerprint, but of the answer.
        if self.repeats.is_empty() || request.bytes().len() > REGISTER_OCTETS_MAX {
            return false;
        }
        let Some(known) = request.fingerprint(self.life).and_then(|it| self.repeats.get(&it))
        else {
            return false;
        };
        let known = *known;
        let Some(binding) = self.bindings.get(known.binding) else { return false };
        let (Ok(cseq), Ok(_)) = (request.cseq(), request.top_via()) else { return false };
        let same = binding.version == known.version
            && cseq.method == "REGISTER"
            && self.accepts_refresh(now.uptime, flow, binding, cseq.number)
            && (self.turns.is_empty() || !self.turns.contains_key(&binding.aor))
            && self.directory.get(binding.user).enabled;
        let (aor, user) = (binding.aor.clone(), binding.user);
        let Some(standing) = self.standing_of(now.uptime, binding).filter(|_| same) else {
            return false;
        };
        self.stats.registers += 1;
        self.stats.registers_repeated += 1;
        let lease = Duration::from_millis(known.lease_ms.into());
        self.refresh(now, &[(known.binding, lease)], standing == Standing::Held, cseq.number);
        self.answer_with_bindings(now, flow, request, &aor, user);
        true
    }

    /// Remembers that `request`, which has just been read, refreshes this binding alone.
    pub(super) fn remember_repeat(&mut self, request: &Message, id: SlotId, lease: Duration) {
        let (Some(fingerprint), Ok(lease_ms)) =
            (request.fingerprint(self.life), u32::try_from(lease.as_millis()))
        else {
            return;
        };
        let Some(binding) = self.bindings.get_mut(id).filter(|_| fingerprint != NO_FINGERPRINT)
        else {
            return;
        };
        let before = std::mem::replace(&mut binding.fingerprint, fingerprint);
        let repeat = Repeat { binding: id, version: binding.version, lease_ms };
        if before != fingerprint {
            self.repeats.remove(&before);
        }
        self.repeats.insert(fingerprint, repeat);
    }

    /// The binding is no more.
    pub(super) fn forget_repeat(&mut self, binding: &Binding) {
        if binding.fingerprint != NO_FINGERPRINT {
            self.repeats.remove(&binding.fingerprint);
        }
    }
}

/// The text of a Date header, made once a second.
#[derive(Debug, Default)]
pub(crate) struct Date {
    second: u64,
    text: String,
}

impl Date {
    /// None before 1970: a clock that stands there has no date to give.
    pub(crate) fn at(&mut self, wall: SystemTime) -> Option<&str> {
        let second = wall.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
        if second != self.second || self.text.is_empty() {
            self.second = second;
            self.text = httpdate::fmt_http_date(wall);
        }
        Some(&self.text)
    }
}
