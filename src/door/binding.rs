//! One contact of an AoR: what the phone said, what the door promised, where it is registered.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::cluster::ServerId;
use crate::directory::{Aor, UserId};
use crate::door::repeat::Repeat;
use crate::door::sample::Sample;
use crate::door::slots::SlotId;
use crate::now::Uptime;
use crate::sip::Flow;

/// One contact of an AoR.
#[derive(Debug)]
pub(crate) struct Binding {
    pub(crate) user: UserId,
    pub(crate) aor: Aor,
    pub(crate) said: Said,
    /// The phone's own CSeq, judged against its Call-ID (RFC 3261 §10.3 step 7).
    pub(crate) cseq: u32,
    pub(crate) flow: Flow,
    /// What the door promised last.
    pub(crate) lease: Duration,
    pub(crate) lease_until: Uptime,
    /// Raised by every change that servers must learn of (M4).
    pub(crate) version: u32,
    /// The last CSeq the door used for it, at whatever server.
    pub(crate) upstream_cseq: u32,
    /// Removed; kept only until the servers in `upstream` know.
    pub(crate) gone: bool,
    /// A waiting REGISTER is about to make, change or revive it; until that is decided the door
    /// takes no step of its own for it and does not let it lapse.
    pub(crate) claimed: bool,
    /// Whether the store has it as it is here. What is not durable is not acknowledged.
    pub(crate) durable: bool,
    /// Servers that hold it, or may.
    pub(crate) upstream: SmallVec<[Upstream; 1]>,
    /// What the door has under way for it; one thing at a time, so that its CSeq arrive in order.
    pub(crate) step: Step,
    /// Why it is not registered although it could be.
    pub(crate) trouble: Option<Trouble>,
    /// The failover or return that moves it, by number, until it is registered where its user is.
    pub(crate) run: Option<u32>,
    pub(crate) standing: Standing,
    /// When a timer of its own wakes it next, so that only one is kept.
    pub(crate) wakes_at: Uptime,
    pub(crate) repeat: Repeat,
}

/// A server that holds a binding, or may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Upstream {
    pub(crate) server: ServerId,
    /// How the server was told the way back.
    pub(crate) by: By,
    /// The version of the binding it was told; `None`: it may hold any (an answer was lost, or an
    /// earlier life of this door told it).
    pub(crate) version: Option<u32>,
    /// When it forgets by itself.
    pub(crate) expires_at: Uptime,
    /// What it granted.
    pub(crate) expiry: Duration,
    /// When the door refreshes it (M3).
    pub(crate) refresh_at: Uptime,
}

impl Upstream {
    /// Whether it is what was asked about.
    pub(crate) fn is_of(&self, sample: Sample) -> bool {
        self.refresh_at == sample.refresh_at
    }
}

/// How a server is told the way back to the phone (M2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum By {
    /// A Path header; the contact is the phone's.
    Path,
    /// A contact that points at the door.
    Contact,
}

/// What is under way for a binding towards a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing.
    Idle,
    /// It waits in this server's lane.
    Queued(ServerId),
    /// A request is out to this server.
    InFlight(ServerId),
}

/// Why a binding is not registered although its server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The server wants credentials that only the phone has.
    Challenged,
    /// The server refused this binding.
    Refused(u16),
    /// The server answered with a failure of its own, or not at all; tried again at.
    Backoff {
        until: Uptime,
        /// Failures in a row.
        failures: u8,
    },
    /// The server ignores Path and may not be given a rewritten contact.
    NoPath,
}

impl Trouble {
    pub(crate) fn in_words(self) -> Arc<str> {
        match self {
            Self::Challenged => {
                "the server wants credentials that only the phone has; its next refresh goes there"
                    .into()
            }
            Self::Refused(status) => format!("the server refused it with {status}").into(),
            Self::Backoff { failures, .. } => {
                format!("the server failed {failures} times in a row").into()
            }
            Self::NoPath => {
                "the server ignores Path; set binding_address = \"auto\" or \"contact\" for it"
                    .into()
            }
        }
    }
}

/// Where a binding stands (M12).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Standing {
    /// Registered where its user is current.
    Settled,
    /// To be registered by the door.
    Moving,
    /// The next refresh of the phone goes to the new server.
    AwaitingPhone,
    /// Its server is failed and nobody is moved (yet).
    Held,
    /// Refused.
    Failed,
    /// Removed or lapsed.
    Gone,
}

impl Standing {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Settled => "settled",
            Self::Moving => "moving",
            Self::AwaitingPhone => "awaiting_phone",
            Self::Held => "held",
            Self::Failed => "failed",
            Self::Gone => "gone",
        }
    }
}

impl Binding {
    /// Whether nothing is under way for it.
    pub(crate) fn is_idle(&self) -> bool {
        self.step == Step::Idle
    }

    /// Whether the door's promise still runs.
    pub(crate) fn is_live(&self, now: Uptime) -> bool {
        !self.gone && self.lease_until > now
    }

    /// The contact URI, to be read by people.
    pub(crate) fn contact_text(&self) -> Arc<str> {
        String::from_utf8_lossy(self.said.saying().contact).into()
    }

    pub(crate) fn at(&self, server: ServerId) -> Option<&Upstream> {
        self.upstream.iter().find(|upstream| upstream.server == server)
    }

    /// Whether `server` holds it as it is now.
    pub(crate) fn is_registered_at(&self, server: ServerId, now: Uptime) -> bool {
        self.at(server).is_some_and(|upstream| {
            upstream.version == Some(self.version) && upstream.expires_at > now
        })
    }
}

/// What a phone said in a REGISTER about one contact, as far as a server must be told (M2).
///
/// Packed into one allocation: nine 16-bit ends, then the fields. This is also its stored form.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Said(Box<[u8]>);

/// The parts of a [`Said`], borrowed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Saying<'a> {
    /// The contact's URI as written.
    pub(crate) contact: &'a [u8],
    /// The contact's display name as written.
    pub(crate) display: &'a [u8],
    /// The contact's parameters as written, `expires` left out, each with its `;`.
    pub(crate) params: &'a [u8],
    /// Request-URI (a digest covers it).
    pub(crate) request_uri: &'a [u8],
    /// The To value without parameters.
    pub(crate) to: &'a [u8],
    /// The From URI where it is not To's (third-party registration).
    pub(crate) from: &'a [u8],
    /// The phone's Call-ID.
    pub(crate) call_id: &'a [u8],
    /// Path values that were in the request, as one comma list.
    pub(crate) path: &'a [u8],
}

const FIELDS: usize = 8;
const ENDS: usize = FIELDS * 2;

impl Said {
    /// Packs; `None` if the whole is longer than 64 KiB, which no SIP message is.
    pub(crate) fn pack(saying: &Saying<'_>) -> Option<Self> {
        let fields = saying.fields();
        let total = fields.iter().map(|field| field.len()).sum::<usize>();
        let mut packed = Vec::with_capacity(ENDS + total);
        let mut end = 0usize;
        for field in fields {
            end += field.len();
            packed.extend_from_slice(&u16::try_from(end).ok()?.to_le_bytes());
        }
        for field in fields {
            packed.extend_from_slice(field);
        }
        Some(Self(packed.into_boxed_slice()))
    }

    /// The stored form.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads the stored form; `None` if it is not one.
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let fields = bytes.get(ENDS..)?;
        let mut last = 0;
        for pair in bytes[..ENDS].chunks_exact(2) {
            let end = u16::from_le_bytes([pair[0], pair[1]]);
            if end < last {
                return None;
            }
            last = end;
        }
        (last as usize == fields.len()).then(|| Self(bytes.into()))
    }

    /// The parts.
    pub(crate) fn saying(&self) -> Saying<'_> {
        let (ends, fields) = self.0.split_at(ENDS);
        let end = |n: usize| u16::from_le_bytes([ends[2 * n], ends[2 * n + 1]]) as usize;
        let field = |n: usize| &fields[if n == 0 { 0 } else { end(n - 1) }..end(n)];
        Saying {
            contact: field(0),
            display: field(1),
            params: field(2),
            request_uri: field(3),
            to: field(4),
            from: field(5),
            call_id: field(6),
            path: field(7),
        }
    }
}

impl std::fmt::Debug for Said {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Said({} octets)", self.0.len())
    }
}

impl<'a> Saying<'a> {
    const fn fields(&self) -> [&'a [u8]; FIELDS] {
        [
            self.contact,
            self.display,
            self.params,
            self.request_uri,
            self.to,
            self.from,
            self.call_id,
            self.path,
        ]
    }
}

/// Which bindings a user has. Most have one to three.
pub(crate) type BindingsOfUser = SmallVec<[SlotId; 2]>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_survives_packing() {
        let saying = Saying {
            contact: b"sip:alice@192.0.2.1",
            params: b";q=0.5",
            request_uri: b"sip:example.com",
            to: b"<sip:alice@example.com>",
            call_id: b"a84b4c76e66710",
            ..Saying::default()
        };
        let said = Said::pack(&saying).unwrap();
        assert_eq!(said.saying(), saying);
        assert_eq!(Said::from_bytes(said.as_bytes()).unwrap().saying(), saying);
        assert!(Said::from_bytes(&said.as_bytes()[..said.as_bytes().len() - 1]).is_none());
        assert!(Said::from_bytes(b"junk").is_none());
        let long = vec![b'x'; 70_000];
        assert!(Said::pack(&Saying { contact: &long, ..saying }).is_none());
    }
}
