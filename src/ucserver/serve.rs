//! One request in, one response out: the methods and what they answer.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::SystemTime;

use crate::now::Uptime;
use crate::sip::{HeaderName, Message, Response};
use crate::ucserver::bindings::Bindings;
use crate::ucserver::digest::Gate;
use crate::ucserver::mood::Mood;
use crate::ucserver::refusal::{ALLOW, PATH, Refusal};
use crate::ucserver::registrar::{self, Accepted, Change};
use crate::ucserver::settings::Settings;

/// Methods that exist but are not served: 405. Any other is 501 (RFC 3261 §8.2.1, §21.5.2).
const NOT_ALLOWED: [&str; 11] = [
    "INVITE",
    "BYE",
    "CANCEL",
    "SUBSCRIBE",
    "NOTIFY",
    "MESSAGE",
    "INFO",
    "PRACK",
    "UPDATE",
    "REFER",
    "PUBLISH",
];

/// A request's answer, and what it changed.
#[derive(Debug)]
pub(in crate::ucserver) struct Served {
    pub(in crate::ucserver) status: u16,
    /// Without To tag.
    pub(in crate::ucserver) response: Response,
    /// What became of each contact, with its AoR.
    pub(in crate::ucserver) changes: Vec<(Arc<str>, Change)>,
    /// If it was refused: why.
    pub(in crate::ucserver) why: Option<Arc<str>>,
}

/// Serves one request. `bindings` must hold nothing that has expired by `now`.
pub(in crate::ucserver) fn serve(
    (settings, mood): (&Settings, Mood),
    gate: Option<&Gate>,
    bindings: &mut Bindings,
    now: Uptime,
    wall: SystemTime,
    request: &Message,
) -> Served {
    if let Err(fault) = request.check_request().and_then(|()| request.max_forwards()) {
        return Served::refused(settings, request, &Refusal::Malformed(fault));
    }
    let method = request.method().unwrap_or_default();
    let outcome = match method {
        "REGISTER" => registrar::register((settings, mood), gate, bindings, now, request)
            .map(|accepted| registered(bindings, now, wall, request, accepted)),
        "OPTIONS" => {
            registrar::check_required(settings, request).map(|()| capabilities(settings, request))
        }
        known if NOT_ALLOWED.contains(&known) => Err(Refusal::NotAllowed),
        _ => Err(Refusal::NotImplemented),
    };
    outcome.unwrap_or_else(|refusal| Served::refused(settings, request, &refusal))
}

impl Served {
    /// The answer to a request that changed nothing.
    pub(in crate::ucserver) fn refused(
        settings: &Settings,
        request: &Message,
        refusal: &Refusal,
    ) -> Self {
        let status = refusal.status();
        let mut response = Response::to(request, status);
        for (name, value) in refusal.headers(settings) {
            response = response.header(name, value);
        }
        let why = refusal.to_string();
        let warning = format!("399 {} \"{why}\"", settings.address);
        Self {
            status,
            response: response.header(HeaderName::Warning, warning),
            changes: Vec::new(),
            why: Some(Arc::from(why)),
        }
    }

    const fn ok(response: Response) -> Self {
        Self { status: 200, response, changes: Vec::new(), why: None }
    }
}

/// RFC 3261 §10.3 step 8: all bindings, with what is left of their time.
fn registered(
    bindings: &Bindings,
    now: Uptime,
    wall: SystemTime,
    request: &Message,
    accepted: Accepted,
) -> Served {
    let Accepted { aor, changes, echo_path } = accepted;
    let mut response = Response::to(request, 200);
    for binding in bindings.of(&aor, now) {
        // Rounded down, so that nobody relies on more than was granted; but what lives is not 0.
        let expires_secs = binding.expires_at.since(now).as_secs().max(1);
        let mut value = String::with_capacity(binding.contact.len() + binding.params.len() + 20);
        // Writing into a String cannot fail.
        let _ = write!(value, "<{}>{};expires={expires_secs}", binding.contact, binding.params);
        response = response.header(HeaderName::Contact, value);
    }
    if echo_path {
        for hop in request.values(HeaderName::Path) {
            response = response.header(HeaderName::Path, hop);
        }
    }
    let date = httpdate::fmt_http_date(wall);
    let mut served = Served::ok(response.header(HeaderName::Date, date));
    served.changes = changes.into_iter().map(|change| (Arc::clone(&aor), change)).collect();
    served
}

fn capabilities(settings: &Settings, request: &Message) -> Served {
    let mut response = Response::to(request, 200).header(HeaderName::Allow, ALLOW);
    if settings.path_support {
        response = response.header(HeaderName::Supported, PATH);
    }
    Served::ok(response)
}
