//! [`Opening`]: a request for a session (`createsession`), or for one call without (`/ws/direct`): what
//! it shows, and of whom.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use zeroize::Zeroizing;

use crate::private::Private;
use crate::ucsap::Operation;
use crate::ucsap::login::Credentials;
use crate::ucsap::negotiate::Negotiation;
use crate::ucws::{Answer, Request};

/// What is wanted of the server at which it is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A session.
    Session,
    /// One call.
    Call(Operation),
}

/// A request that shows who somebody is.
#[derive(Clone, Debug)]
pub struct Opening {
    /// What for.
    pub purpose: Purpose,
    /// How it shows it.
    pub credentials: Credentials,
    /// What the client says of itself.
    pub client: Negotiation,
    /// All of it, for its server.
    pub request: Request,
}

/// A request that shows nothing that could be read; the client's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unusable(pub &'static str);

/// What a server made of an [`Opening`].
#[derive(Clone, Debug)]
pub enum Opened {
    /// There is a session, and its WebSocket.
    Session {
        /// For the client.
        answer: Answer,
        /// Whose it is, where the server was asked.
        user: Option<String>,
    },
    /// It is answered, and that is all: a call without a session, a refusal, one more step.
    Answered(Answer),
    /// It is not served at the moment.
    Unavailable(Answer),
}

impl Opening {
    /// Reads a request.
    ///
    /// # Errors
    /// What it shows cannot be read.
    pub fn read(request: Request, purpose: Purpose) -> Result<Self, Unusable> {
        let credentials = credentials(&request)?;
        let said = Said::read(&request.body, purpose)?;
        let app = request
            .parameter("clientappid")
            .or_else(|| request.header("x-clientappid").map(str::to_owned));
        let client = Negotiation {
            device: said.device.or_else(|| exchange(&request)).unwrap_or_default(),
            version: said.version.unwrap_or_default(),
            app: app.and_then(|app| app.parse().ok()).unwrap_or(APP_UNKNOWN),
            former: None,
        };
        Ok(Self { purpose, credentials, client, request })
    }

    /// Names the exchange that this is a step of, where it may take several.
    pub fn exchange(&self) -> Option<String> {
        exchange(&self.request).filter(|_| self.has_steps())
    }

    /// Whether it may take several steps.
    pub const fn has_steps(&self) -> bool {
        matches!(self.credentials, Credentials::Ntlm(_) | Credentials::Kerberos(_))
    }

    /// Whether another server may be shown the same.
    pub fn can_be_replayed(&self) -> bool {
        self.credentials.can_be_replayed()
    }
}

/// `AsnClientAppID` of a client that does not say.
const APP_UNKNOWN: i64 = 0;

fn exchange(request: &Request) -> Option<String> {
    let named = request.header("x-epid").map(str::to_owned);
    named.or_else(|| request.parameter("epid")).filter(|it| !it.is_empty())
}

/// One form, or none.
fn credentials(request: &Request) -> Result<Credentials, Unusable> {
    let in_headers = |name: &str| request.headers.iter().filter(|(other, _)| other == name).count();
    let in_query = |name: &str| {
        form_urlencoded::parse(request.query().as_bytes()).filter(|(key, _)| key == name).count()
    };
    let shown = [in_headers("x-uctoken"), in_headers("authorization"), in_query("token")];
    if shown.into_iter().sum::<usize>() + in_query("user") > 1 || in_query("pass") > 1 {
        // Nobody knows which of them a server would take.
        return Err(Unusable("it is shown more than once who somebody is"));
    }
    let token = request.header("x-uctoken").map(str::to_owned);
    if let Some(token) = token.or_else(|| request.parameter("token")) {
        return Ok(Credentials::Bearer(Private::new(token)));
    }
    if let Some(user) = request.parameter("user") {
        let user = Zeroizing::new(user);
        let password = Zeroizing::new(request.parameter("pass").unwrap_or_default());
        return Ok(Credentials::Basic(Private::new(format!("{}:{}", *user, *password))));
    }
    let mut lines = request.headers.iter().filter(|(name, _)| name == "authorization");
    let Some((_, line)) = lines.next() else { return Ok(Credentials::None) };
    const UNREADABLE: Unusable = Unusable("Authorization cannot be read");
    let line = std::str::from_utf8(line).map_err(|_| UNREADABLE)?;
    let (scheme, shown) = line.trim().split_once(' ').unwrap_or((line, ""));
    let decoded = || STANDARD.decode(shown.trim()).map_err(|_| UNREADABLE);
    Ok(match scheme.to_ascii_lowercase().as_str() {
        "basic" => {
            let pair = String::from_utf8(decoded()?).map_err(|_| UNREADABLE)?;
            Credentials::Basic(Private::new(pair))
        }
        "bearer" => Credentials::Bearer(Private::new(shown.trim().to_owned())),
        "ntlm" => Credentials::Ntlm(Private::new(decoded()?)),
        "negotiate" => match decoded()? {
            // What is negotiated may be NTLM after all (RFC 4559 §4.1).
            ntlm if ntlm.starts_with(b"NTLMSSP\0") => Credentials::Ntlm(Private::new(ntlm)),
            ticket => Credentials::Kerberos(Private::new(ticket)),
        },
        _ => Credentials::Other,
    })
}

/// What a body says of the client.
#[derive(Default)]
struct Said {
    device: Option<String>,
    version: Option<String>,
}

impl Said {
    fn read(body: &[u8], purpose: Purpose) -> Result<Self, Unusable> {
        if body.iter().all(u8::is_ascii_whitespace) || purpose != Purpose::Session {
            return Ok(Self::default());
        }
        let said: serde_json::Value =
            serde_json::from_slice(body).map_err(|_| Unusable("the body is no JSON"))?;
        let negotiate = said.get("negotiate");
        let text = |name: &str| Some(negotiate?.get(name)?.as_str()?.to_owned());
        Ok(Self { device: text("u8sClientDeviceId"), version: text("u8sClientVersion") })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, headers: &[(&str, &str)], body: &str) -> Request {
        let headers = headers.iter().map(|(name, value)| ((*name).into(), value.as_bytes().into()));
        let (method, body) = ("POST".into(), body.into());
        Request { method, target: target.into(), headers: headers.collect(), body }
    }

    fn opening(target: &str, headers: &[(&str, &str)], body: &str) -> Result<Opening, Unusable> {
        Opening::read(request(target, headers, body), Purpose::Session)
    }

    #[test]
    fn each_form_of_credentials_says_who_it_is_as_far_as_it_does() {
        let basic = [("authorization", "Basic YW5uYTpwdzp4")];
        let bearer = [("authorization", "Bearer a.eyJzdWIiOiJhbm5hIn0.b")];
        let token = [("x-uctoken", "a.eyJzdWIiOiJhbm5hIn0.b")];
        let ntlm = [("authorization", "NTLM TlRMTVNTUAABAAAA")];
        let negotiated = [("authorization", "Negotiate TlRMTVNTUAABAAAA")];
        let ticket = [("authorization", "Negotiate YIIB")];
        let (plain, in_query) = ("/ws/client/createsession", "/c?user=anna&pass=p%26w");
        for (target, headers, user, again) in [
            (plain, &basic[..], Some("anna"), true),
            (plain, &bearer, Some("anna"), true),
            (plain, &token, Some("anna"), true),
            (in_query, &[], Some("anna"), true),
            ("/c?token=a.eyJzdWIiOiJhbm5hIn0.b", &[], Some("anna"), true),
            (plain, &ntlm, None, false),
            (plain, &negotiated, None, false),
            (plain, &ticket, None, false),
            (plain, &[], None, false),
            (plain, &[("authorization", "Digest x=y")], None, false),
        ] {
            let opening = opening(target, headers, "").unwrap();
            assert_eq!(opening.credentials.claimed_user().as_deref(), user, "{target} {headers:?}");
            assert_eq!(opening.can_be_replayed(), again, "{target} {headers:?}");
        }
        let shown = opening(in_query, &[], "").unwrap().credentials;
        assert!(matches!(&shown, Credentials::Basic(pair) if pair.reveal() == "anna:p&w"));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for headers in [
            &[("authorization", "Basic ***")][..],
            &[("authorization", "Basic /w==")],
            &[("authorization", "NTLM ?")],
            &[("authorization", "Basic YTpi"), ("authorization", "Basic YTpi")],
        ] {
            assert!(opening("/c", headers, "").is_err(), "{headers:?}");
        }
        assert!(opening("/c", &[], "{").is_err());
        for (target, headers) in [
            ("/c?user=a&token=b", &[][..]),
            ("/c?user=a&user=b", &[]),
            ("/c?user=a", &[("authorization", "Basic YTpi")]),
            ("/c?token=a", &[("x-uctoken", "b")]),
            ("/c", &[("x-uctoken", "a"), ("x-uctoken", "b")]),
        ] {
            assert!(opening(target, headers, "").is_err(), "{target} {headers:?}");
        }
    }

    #[test]
    fn what_a_client_says_of_itself_is_read_where_it_says_it() {
        let body = r#"{"negotiate":{"iClientProtocolVersion":70,"u8sClientVersion":"2603.0"}}"#;
        let opening = opening("/c?clientappid=15", &[("x-epid", "e1")], body).unwrap();
        let Negotiation { device, version, app, .. } = &opening.client;
        assert_eq!((&**device, &**version, *app), ("e1", "2603.0", 15));
        assert_eq!(opening.exchange(), None, "it has no steps");
    }

    #[test]
    fn nothing_that_is_shown_is_printed() {
        let shown = [("authorization", "Basic YW5uYTpodW50ZXIy")];
        let opening = opening("/c?pass=hunter2", &shown, "").unwrap();
        let printed = format!("{opening:?}");
        assert!(!printed.contains("hunter2") && !printed.contains("YW5u"), "{printed}");
    }
}
