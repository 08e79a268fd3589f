//! REGISTER by the letter: RFC 3261 §10.3 in its order, RFC 3327 §5.3 for `Path`.
//!
//! An update is worked out on a copy and put in place as a whole, or not at all.

use std::sync::Arc;
use std::time::Duration;

use crate::now::Uptime;
use crate::sip::{ContactValue, HeaderName, Host, Message, NameAddr, ParseError, Uri};
use crate::ucserver::bindings::{Binding, Bindings};
use crate::ucserver::digest::{Gate, User};
use crate::ucserver::mood::Mood;
use crate::ucserver::refusal::{PATH, Refusal};
use crate::ucserver::settings::{PathUnannounced, Settings};

/// What a lifetime that cannot be read stands for (RFC 3261 §10.2.1.1).
const UNREADABLE_EXPIRES_SECS: u32 = 3600;

/// From here on no wish is too brief, whatever the configured minimum (RFC 3261 §10.3 step 7).
const NEVER_TOO_BRIEF_SECS: u32 = 3600;

/// A REGISTER that was carried out.
#[derive(Debug)]
pub(in crate::ucserver) struct Accepted {
    /// Whose bindings.
    pub(in crate::ucserver) aor: Arc<str>,
    /// What became of each contact in the request.
    pub(in crate::ucserver) changes: Vec<Change>,
    /// Whether the 200 repeats the Path of the request.
    pub(in crate::ucserver) echo_path: bool,
}

/// What became of one contact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ucserver) enum Change {
    Made { contact: Arc<str>, expires_secs: u32 },
    Refreshed { contact: Arc<str>, expires_secs: u32 },
    Removed { contact: Arc<str> },
}

/// Carries out one REGISTER, or nothing of it.
///
/// `bindings` must hold nothing that has expired by `now`.
pub(in crate::ucserver) fn register(
    (settings, mood): (&Settings, Mood),
    gate: Option<&Gate>,
    bindings: &mut Bindings,
    now: Uptime,
    request: &Message,
) -> Result<Accepted, Refusal> {
    check_domain(settings, request)?;
    check_required(settings, request)?;
    let user = gate.map(|gate| gate.admit(now, request)).transpose()?;
    let aor = address_of_record(settings, user.as_ref(), request)?;
    let path = path(settings, request)?;
    let update = Update {
        settings,
        now,
        call_id: request.call_id()?,
        cseq: request.cseq()?.number,
        expires_secs: request.expires().map(|read| read.unwrap_or(UNREADABLE_EXPIRES_SECS)),
        path: Arc::from(path.unwrap_or_default()),
    };
    let mut working = Working::of(bindings.of(&aor, now));
    let contacts = contacts(request)?;
    if mood == Mood::StrictHome
        && contacts.iter().any(|wanted| update.is_login(wanted))
        && let Some(home) = settings.homes.get(&*aor)
    {
        return Err(Refusal::Elsewhere(home.clone()));
    }
    let changes = match contacts.as_slice() {
        [] => Vec::new(),
        [Wanted::Everything] => update.remove_all(&mut working)?,
        several => update.apply(&mut working, several)?,
    };
    if !changes.is_empty() {
        working.check_room(settings, bindings, &aor)?;
        bindings.replace(&aor, working.into_bindings());
    }
    let echo_path = settings.path_support && supports_path(request);
    Ok(Accepted { aor, changes, echo_path })
}

/// 420 if the request requires what is not known here (RFC 3261 §8.2.2.3).
pub(in crate::ucserver) fn check_required(
    settings: &Settings,
    request: &Message,
) -> Result<(), Refusal> {
    let unknown: Vec<&[u8]> = request
        .values(HeaderName::Require)
        .filter(|tag| !(settings.path_support && tag.eq_ignore_ascii_case(PATH.as_bytes())))
        .collect();
    if unknown.is_empty() { Ok(()) } else { Err(Refusal::Required(unknown.join(&b", "[..]))) }
}

/// One element of Contact.
enum Wanted<'m> {
    Everything,
    One { uri: &'m str, params: Box<str>, expires_secs: Option<u32> },
}

/// What all contacts of one request share.
struct Update<'a> {
    settings: &'a Settings,
    now: Uptime,
    call_id: &'a [u8],
    cseq: u32,
    expires_secs: Option<u32>,
    path: Arc<[Box<str>]>,
}

/// The bindings as they will be, and which of them this request has already touched.
struct Working(Vec<(Binding, bool)>);

fn check_domain(settings: &Settings, request: &Message) -> Result<(), Refusal> {
    let uri = Uri::parse(request.uri().unwrap_or_default())?;
    if responsible_for(settings, &uri.host) { Ok(()) } else { Err(Refusal::Domain) }
}

fn responsible_for(settings: &Settings, host: &Host<'_>) -> bool {
    if settings.domains.is_empty() {
        return true;
    }
    match host {
        Host::Name(name) => {
            settings.domains.iter().any(|ours| name.eq_ignore_ascii_case(ours.as_bytes()))
        }
        Host::V4(ip) => settings.address.ip() == *ip || settings.domains.contains(&ip.to_string()),
        Host::V6(ip) => settings.address.ip() == *ip || settings.domains.contains(&ip.to_string()),
    }
}

fn address_of_record(
    settings: &Settings,
    user: Option<&User>,
    request: &Message,
) -> Result<Arc<str>, Refusal> {
    let to = request.to()?;
    let uri = match to.parsed_uri() {
        Ok(uri) => uri,
        Err(_) if is_other_scheme(to.uri) => return Err(Refusal::User),
        Err(fault) => return Err(fault.into()),
    };
    if let Some(user) = user
        && !user.may_register(&uri)
    {
        return Err(Refusal::NotYours);
    }
    if !responsible_for(settings, &uri.host) {
        return Err(Refusal::Domain);
    }
    let aor = uri.canonical_aor()?;
    if settings.users.as_ref().is_some_and(|known| !known.contains(aor.as_str())) {
        return Err(Refusal::User);
    }
    Ok(Arc::from(aor.as_str()))
}

fn is_other_scheme(uri: &[u8]) -> bool {
    Uri::scheme_of(uri).is_some_and(|scheme| {
        !scheme.eq_ignore_ascii_case(b"sip") && !scheme.eq_ignore_ascii_case(b"sips")
    })
}

fn supports_path(request: &Message) -> bool {
    request.values(HeaderName::Supported).any(|tag| tag.eq_ignore_ascii_case(PATH.as_bytes()))
}

/// The Path to store; `None` if there is none or it means nothing here.
fn path(settings: &Settings, request: &Message) -> Result<Option<Vec<Box<str>>>, Refusal> {
    if !settings.path_support || request.count(HeaderName::Path) == 0 {
        return Ok(None);
    }
    if settings.path_unannounced != PathUnannounced::Store && !supports_path(request) {
        return Err(Refusal::PathUnannounced(settings.path_unannounced));
    }
    let unreadable = ParseError::Header(HeaderName::Path);
    request
        .values(HeaderName::Path)
        .map(|value| {
            NameAddr::parse(value)?.parsed_uri()?;
            let text = std::str::from_utf8(value).map_err(|_| unreadable)?;
            Ok(Box::from(unfolded(text)))
        })
        .collect::<Result<_, ParseError>>()
        .map_err(|_| Refusal::Malformed(unreadable))
        .map(Some)
}

fn unfolded(text: &str) -> String {
    text.replace(['\r', '\n'], " ")
}

fn contacts(request: &Message) -> Result<Vec<Wanted<'_>>, Refusal> {
    let mut wanted = Vec::new();
    for value in request.values(HeaderName::Contact) {
        wanted.push(match ContactValue::parse(value)? {
            ContactValue::Star => Wanted::Everything,
            ContactValue::Address(address) => one_contact(&address)?,
        });
    }
    let star = wanted.iter().any(|one| matches!(one, Wanted::Everything));
    if star && (wanted.len() > 1 || !matches!(request.expires(), Some(Ok(0)))) {
        return Err(Refusal::Star);
    }
    Ok(wanted)
}

fn one_contact<'m>(address: &NameAddr<'m>) -> Result<Wanted<'m>, Refusal> {
    let unreadable = Refusal::Malformed(ParseError::Header(HeaderName::Contact));
    let Ok(uri) = std::str::from_utf8(address.uri) else { return Err(unreadable) };
    if !is_other_scheme(address.uri) {
        Uri::parse(address.uri)?;
    }
    let mut params = String::new();
    for (name, value) in address.params.iter() {
        if name.eq_ignore_ascii_case(b"expires") {
            continue;
        }
        let Ok(name) = std::str::from_utf8(name) else { return Err(unreadable) };
        params.push(';');
        params.push_str(name);
        if let Some(value) = value {
            let Ok(value) = std::str::from_utf8(value) else { return Err(unreadable) };
            params.push('=');
            params.push_str(value);
        }
    }
    let expires_secs = address
        .params
        .get("expires")
        .map(|value| delta_seconds(value).unwrap_or(UNREADABLE_EXPIRES_SECS));
    Ok(Wanted::One { uri, params: unfolded(&params).into_boxed_str(), expires_secs })
}

/// Digits as seconds; more than fits is as much as fits.
fn delta_seconds(value: &[u8]) -> Option<u32> {
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let text = std::str::from_utf8(value).ok()?;
    Some(text.parse().unwrap_or(u32::MAX))
}

impl Update<'_> {
    /// Whoever leaves is not asked where they belong.
    fn is_login(&self, wanted: &Wanted<'_>) -> bool {
        match wanted {
            Wanted::Everything => false,
            Wanted::One { expires_secs, .. } => expires_secs.or(self.expires_secs) != Some(0),
        }
    }

    fn remove_all(&self, working: &mut Working) -> Result<Vec<Change>, Refusal> {
        if working.0.iter().any(|(binding, _)| self.is_late_for(binding)) {
            return Err(Refusal::OutOfOrder);
        }
        Ok(working
            .0
            .drain(..)
            .map(|(binding, _)| Change::Removed { contact: binding.contact })
            .collect())
    }

    fn apply(&self, working: &mut Working, wanted: &[Wanted<'_>]) -> Result<Vec<Change>, Refusal> {
        let mut changes = Vec::new();
        for one in wanted {
            let Wanted::One { uri, params, expires_secs } = one else {
                return Err(Refusal::Star);
            };
            let expires_secs = self.granted_secs(*expires_secs)?;
            changes.extend(self.apply_one(working, uri, params, expires_secs)?);
        }
        Ok(changes)
    }

    /// RFC 3261 §10.3 step 7, first half.
    fn granted_secs(&self, of_contact: Option<u32>) -> Result<u32, Refusal> {
        let settings = self.settings;
        let wish = of_contact.or(self.expires_secs).unwrap_or(settings.default_expires_secs);
        if wish > 0 && wish < NEVER_TOO_BRIEF_SECS && wish < settings.min_expires_secs {
            return Err(Refusal::TooBrief { min_expires_secs: settings.min_expires_secs });
        }
        Ok(wish.min(settings.max_expires_secs))
    }

    /// RFC 3261 §10.3 step 7, second half.
    fn apply_one(
        &self,
        working: &mut Working,
        uri: &str,
        params: &str,
        expires_secs: u32,
    ) -> Result<Option<Change>, Refusal> {
        let there = working.0.iter().position(|(binding, _)| binding.is_for(uri));
        let Some(place) = there else {
            if expires_secs == 0 {
                return Ok(None);
            }
            let contact: Arc<str> = Arc::from(uri);
            let made = self.binding(Arc::clone(&contact), params, expires_secs, self.now);
            working.0.push((made, true));
            return Ok(Some(Change::Made { contact, expires_secs }));
        };
        let Some((binding, touched)) = working.0.get_mut(place) else { return Ok(None) };
        // The same contact twice in one request: the later one counts.
        if !*touched && self.is_late_for(binding) {
            return Err(Refusal::OutOfOrder);
        }
        let contact = Arc::from(uri);
        if expires_secs == 0 {
            let (binding, _) = working.0.remove(place);
            return Ok(Some(Change::Removed { contact: binding.contact }));
        }
        *binding = self.binding(Arc::clone(&contact), params, expires_secs, binding.registered_at);
        *touched = true;
        Ok(Some(Change::Refreshed { contact, expires_secs }))
    }

    fn is_late_for(&self, binding: &Binding) -> bool {
        *binding.call_id == *self.call_id && self.cseq <= binding.cseq
    }

    fn binding(
        &self,
        contact: Arc<str>,
        params: &str,
        expires_secs: u32,
        registered_at: Uptime,
    ) -> Binding {
        Binding {
            contact,
            params: Box::from(params),
            path: Arc::clone(&self.path),
            expires_at: self.now + Duration::from_secs(u64::from(expires_secs)),
            registered_at,
            call_id: Box::from(self.call_id),
            cseq: self.cseq,
        }
    }
}

impl Working {
    fn of<'b>(bindings: impl Iterator<Item = &'b Binding>) -> Self {
        Self(bindings.map(|binding| (binding.clone(), false)).collect())
    }

    fn check_room(
        &self,
        settings: &Settings,
        bindings: &Bindings,
        aor: &str,
    ) -> Result<(), Refusal> {
        let grows = self.0.len() > bindings.count_of(aor);
        if grows && self.0.len() > settings.bindings_per_aor {
            return Err(Refusal::TooManyContacts);
        }
        let full = settings.capacity_users.is_some_and(|most| bindings.users() >= most as usize);
        if full && !self.0.is_empty() && !bindings.knows(aor) {
            return Err(Refusal::Full);
        }
        Ok(())
    }

    fn into_bindings(self) -> Vec<Binding> {
        self.0.into_iter().map(|(binding, _)| binding).collect()
    }
}
