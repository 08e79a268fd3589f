//! What a REGISTER asks for (RFC 3261 §10.2 and §10.3 steps 5 to 7), read without changing anything.

use std::time::Duration;

use smallvec::SmallVec;

use crate::directory::Aor;
use crate::door::SipSettings;
use crate::door::binding::{Binding, Said, Saying};
use crate::sip::{ContactValue, Essentials, HeaderName, Message, NameAddr, ParseError, Uri};

/// RFC 3261 §10.2.1.1: an expiry that cannot be read counts as this many seconds.
const MALFORMED_EXPIRES_S: u32 = 3600;
/// RFC 3261 §10.3 step 7: an interval of an hour or more may not be called too brief.
const NEVER_TOO_BRIEF_S: u32 = 3600;
/// Contacts in one REGISTER; more are refused with 400.
const CONTACTS_MAX: usize = 16;

/// A REGISTER, understood.
pub(crate) struct Wish<'m> {
    pub(crate) contacts: SmallVec<[Wanted<'m>; 2]>,
    /// `Contact: *`: remove them all.
    pub(crate) star: bool,
    pub(crate) call_id: &'m [u8],
    pub(crate) cseq: u32,
    request_uri: &'m [u8],
    to: SmallVec<[u8; 96]>,
    from: &'m [u8],
    path: SmallVec<[u8; 0]>,
}

/// One contact of a [`Wish`].
pub(crate) struct Wanted<'m> {
    pub(crate) uri: Uri<'m>,
    address: NameAddr<'m>,
    params: SmallVec<[u8; 96]>,
    /// Zero removes.
    pub(crate) lease: Duration,
}

/// Why a REGISTER is refused before anything was asked of anybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A header cannot be read.
    Malformed(ParseError),
    /// `*` beside other contacts, or without `Expires: 0`; too many contacts.
    BadContacts,
    /// A contact that is not a SIP URI, which the door could not reach.
    ContactScheme,
    /// The lease would be shorter than the minimum.
    TooBrief,
    /// The contact was registered with this Call-ID and a higher CSeq already.
    OutOfOrder,
    /// The AoR would have more bindings than allowed.
    TooMany,
}

impl<'m> Wish<'m> {
    /// Reads what a REGISTER asks for.
    pub(crate) fn read(request: &'m Message, settings: &SipSettings) -> Result<Self, Refusal> {
        let essentials = request.read_request().map_err(Refusal::Malformed)?;
        Self::of(request, &essentials, settings)
    }

    /// The same for one whose essentials have been read.
    pub(crate) fn of(
        request: &'m Message,
        essentials: &Essentials<'m>,
        settings: &SipSettings,
    ) -> Result<Self, Refusal> {
        let Essentials { to, from, call_id, cseq, .. } = essentials;
        let header_expires = request.expires().map(|e| e.unwrap_or(MALFORMED_EXPIRES_S));
        let mut wish = Self {
            contacts: SmallVec::new(),
            star: false,
            call_id,
            cseq: cseq.number,
            request_uri: request.uri().unwrap_or_default(),
            to: name_addr_text(to),
            from: if from.uri == to.uri { b"" } else { from.uri },
            path: path_of(request)?,
        };
        for value in request.values(HeaderName::Contact) {
            match ContactValue::parse(value).map_err(Refusal::Malformed)? {
                ContactValue::Star if wish.star => return Err(Refusal::BadContacts),
                ContactValue::Star => wish.star = true,
                ContactValue::Address(address) => {
                    wish.contacts.push(Wanted::read(address, header_expires, settings)?);
                }
            }
            if wish.contacts.len() > CONTACTS_MAX {
                return Err(Refusal::BadContacts);
            }
        }
        if wish.star && (!wish.contacts.is_empty() || header_expires != Some(0)) {
            return Err(Refusal::BadContacts);
        }
        Ok(wish)
    }

    /// Whether nothing is to be changed: the phone only asks what is registered.
    pub(crate) fn is_query(&self) -> bool {
        !self.star && self.contacts.is_empty()
    }

    /// What is said of one contact, as a binding keeps it.
    pub(crate) fn saying<'a>(&'a self, wanted: &'a Wanted<'m>) -> Saying<'a> {
        Saying {
            contact: wanted.address.uri,
            display: wanted.address.display,
            params: &wanted.params,
            request_uri: self.request_uri,
            to: &self.to,
            from: self.from,
            call_id: self.call_id,
            path: &self.path,
        }
    }

    /// The same, packed.
    pub(crate) fn said(&self, wanted: &Wanted<'m>) -> Result<Said, Refusal> {
        Said::pack(&self.saying(wanted)).ok_or(Refusal::Malformed(ParseError::TooLarge))
    }

    /// RFC 3261 §10.3 step 7: whether this REGISTER is older than what the binding has seen. An
    /// equal CSeq is a retransmission, which changes nothing.
    pub(crate) fn is_older_than(&self, binding: &Binding) -> bool {
        binding.said.saying().call_id == self.call_id && self.cseq < binding.cseq
    }
}

impl<'m> Wanted<'m> {
    fn read(
        address: NameAddr<'m>,
        header_expires: Option<u32>,
        settings: &SipSettings,
    ) -> Result<Self, Refusal> {
        let uri = address.parsed_uri().map_err(|_| Refusal::ContactScheme)?;
        let own = address.params.get("expires").map(read_expires);
        let asked = own.or(header_expires).map(|s| Duration::from_secs(u64::from(s)));
        let lease = match asked {
            Some(Duration::ZERO) => Duration::ZERO,
            Some(asked) if asked < settings.lease_min && is_too_brief(asked) => {
                return Err(Refusal::TooBrief);
            }
            Some(asked) => asked.min(settings.lease_max),
            None => settings.lease_max,
        };
        let mut params = SmallVec::new();
        for (name, value) in address.params.iter() {
            if name.eq_ignore_ascii_case(b"expires") {
                continue;
            }
            params.push(b';');
            params.extend_from_slice(name);
            if let Some(value) = value {
                params.push(b'=');
                params.extend_from_slice(value);
            }
        }
        Ok(Self { uri, address, params, lease })
    }

    /// Whether a binding is for this contact (RFC 3261 §10.3 step 7: URI comparison).
    pub(crate) fn is_for(&self, binding: &Binding) -> bool {
        self.is_same_as(&binding.said)
    }

    /// Whether this was said of the same contact.
    pub(crate) fn is_same_as(&self, said: &Said) -> bool {
        let known = said.saying().contact;
        known == self.address.uri
            || Uri::parse(known).is_ok_and(|known| known.equivalent(&self.uri))
    }
}

/// The AoR a REGISTER is about (RFC 3261 §10.3 step 5).
pub(crate) fn aor_of(to: &NameAddr<'_>) -> Result<Aor, ParseError> {
    let canonical = to.parsed_uri()?.canonical_aor()?;
    Ok(Aor::from_canonical(canonical.as_str()))
}

fn is_too_brief(asked: Duration) -> bool {
    asked < Duration::from_secs(u64::from(NEVER_TOO_BRIEF_S))
}

fn read_expires(value: &[u8]) -> u32 {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return MALFORMED_EXPIRES_S;
    }
    value
        .iter()
        .fold(0u32, |sum, digit| sum.saturating_mul(10).saturating_add(u32::from(digit - b'0')))
}

fn name_addr_text(address: &NameAddr<'_>) -> SmallVec<[u8; 96]> {
    let mut text = SmallVec::new();
    if !address.display.is_empty() {
        text.extend_from_slice(address.display);
        text.push(b' ');
    }
    text.push(b'<');
    text.extend_from_slice(address.uri);
    text.push(b'>');
    text
}

/// The hops between the phone and the door, as it says, to be kept behind ours (RFC 3327 §5.2):
/// whatever is no list of SIP URIs in brackets could become something else at the server.
fn path_of(request: &Message) -> Result<SmallVec<[u8; 0]>, Refusal> {
    let mut list = SmallVec::new();
    for hop in request.values(HeaderName::Path) {
        let is_sound = NameAddr::parse(hop)
            .is_ok_and(|address| !hop.starts_with(address.uri) && address.parsed_uri().is_ok());
        if !is_sound {
            return Err(Refusal::Malformed(ParseError::Header(HeaderName::Path)));
        }
        if !list.is_empty() {
            list.extend_from_slice(b", ");
        }
        list.extend_from_slice(hop);
    }
    Ok(list)
}
