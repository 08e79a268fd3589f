//! [`Request`]: what stands in the head of a request, and who it says it is of.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::Method;
use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderValue, ORIGIN};
use hyper::http::request::Parts;
use serde_json::{Map, Value};

use crate::ucsap::Piece;
use crate::ucsap::login::Credentials;
use crate::ucsap::negotiate::{APP_PROCALL_WEB, Negotiation};
use crate::ucserver::run::web::sessions::Rounds;

/// Octets of an operation's name, of a callback's and of `x-epid`.
const NAME_MAX: usize = 128;

/// Octets of what a client says of itself.
const TEXT_MAX: usize = 256;

/// The version of the interface that a client has to speak, as the WebService counts.
const PROTOCOL: i64 = 70;

/// Parameters that are not the argument's.
const NOT_ARGUMENT: [&str; 7] =
    ["ucsid", "ucsessionid", "x-ucsessionid", "callback", "jsonp", "clientappid", "no401"];

/// The same where a call brings its own credentials.
const CREDENTIALS: [&str; 3] = ["user", "pass", "token"];

/// The head of a request.
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    headers: HeaderMap,
    authority: Option<String>,
    query: Vec<(String, String)>,
}

/// How somebody shows who they are.
pub(super) struct Shown {
    pub(super) how: How,
    /// They know how to ask, so that nobody is to be prompted: no 401.
    pub(super) is_quiet: bool,
}

/// The same without the manners.
pub(super) enum How {
    /// Not at all.
    Nothing,
    /// By this argument of a login.
    Argument(Piece),
    /// By one step of NTLM, under the name of this scheme.
    Ntlm(&'static str, Piece),
    /// By something that cannot be read.
    Unreadable,
}

/// A request that cannot be read; the client's fault.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable(pub(super) &'static str);

impl Request {
    pub(super) fn of(parts: &Parts) -> Self {
        let query = parts.uri.query().unwrap_or_default();
        let pairs = query.split('&').filter(|pair| !pair.is_empty());
        Self {
            method: parts.method.clone(),
            path: parts.uri.path().to_owned(),
            headers: parts.headers.clone(),
            authority: parts.uri.authority().map(ToString::to_string),
            query: pairs
                .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
                .map(|(name, value)| (decoded(name), decoded(value)))
                .collect(),
        }
    }

    /// The first parameter of this name.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(it, _)| it == name).map(|(_, value)| &**value)
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// Where the client thinks it is.
    pub(super) fn host(&self) -> Option<&str> {
        self.authority.as_deref().or_else(|| self.headers.get(HOST)?.to_str().ok())
    }

    /// The page it is of.
    pub(super) fn origin(&self) -> Option<HeaderValue> {
        self.headers.get(ORIGIN).cloned()
    }

    /// The server that is wanted.
    pub(super) fn ucsid(&self) -> Option<&str> {
        self.header("x-ucsid").or_else(|| self.parameter("ucsid"))
    }

    /// The session that is meant.
    pub(super) fn session(&self) -> &str {
        let parameter =
            || self.parameter("ucsessionid").or_else(|| self.parameter("x-ucsessionid"));
        self.header("x-ucsessionid").or_else(parameter).unwrap_or_default()
    }

    /// The function that wants the answer (JSONP).
    pub(super) fn callback(&self) -> Result<Option<String>, Unreadable> {
        let name = self.parameter("callback").or_else(|| self.parameter("jsonp"));
        let Some(name) = name else { return Ok(None) };
        let is_part = |octet: u8| octet.is_ascii_alphanumeric() || matches!(octet, b'_' | b'$');
        let begins = name.bytes().next().is_some_and(|first| !first.is_ascii_digit());
        if begins && name.len() <= NAME_MAX && name.bytes().all(is_part) {
            Ok(Some(name.to_owned()))
        } else {
            Err(Unreadable("the callback is no name of a function"))
        }
    }

    /// Whether a refusal is to be 400 and not 401, which browsers ask their users about.
    pub(super) fn wants_no_401(&self) -> bool {
        let header = self.header("x-no401").is_some_and(|value| value != "0");
        header || self.parameter("no401").is_some()
    }

    /// Whether it tries to say who it is in the way of HTTP.
    pub(super) fn has_authorization(&self) -> bool {
        self.headers.contains_key(AUTHORIZATION)
    }

    /// Who it says it is. What was put there by hand goes before what a browser adds.
    pub(super) fn credentials(&self) -> Shown {
        if let Some(user) = self.parameter("user") {
            let password = self.parameter("pass").unwrap_or_default();
            let how = How::Argument(Credentials::basic(user, password));
            return Shown { how, is_quiet: true };
        }
        let token = self.parameter("token").or_else(|| self.header("x-uctoken"));
        if let Some(token) = token {
            return Shown { how: How::Argument(Credentials::bearer(token)), is_quiet: true };
        }
        Shown { how: self.authorization(), is_quiet: false }
    }

    fn authorization(&self) -> How {
        let mut lines = self.headers.get_all(AUTHORIZATION).iter();
        let Some(line) = lines.next() else { return How::Nothing };
        let line = line.to_str().ok().filter(|_| lines.next().is_none());
        let pair = line.and_then(|line| line.trim().split_once(' '));
        let Some((scheme, value)) = pair else { return How::Unreadable };
        let value = value.trim();
        let blob = || STANDARD.decode(value).ok();
        match scheme.to_ascii_lowercase().as_str() {
            "bearer" => How::Argument(Credentials::bearer(value)),
            "basic" => {
                let text = blob().and_then(|octets| String::from_utf8(octets).ok());
                let pair = text.as_deref().and_then(|text| text.split_once(':'));
                pair.map_or(How::Unreadable, |(user, password)| {
                    How::Argument(Credentials::basic(user, password))
                })
            }
            "ntlm" => {
                blob().map_or(How::Unreadable, |step| How::Ntlm("NTLM", Credentials::ntlm(&step)))
            }
            // SPNEGO is not taken apart here: a blob is Kerberos, or bare NTLM as some send it.
            "negotiate" => blob().map_or(How::Unreadable, |blob| {
                if blob.starts_with(b"NTLMSSP\0") {
                    How::Ntlm("Negotiate", Credentials::ntlm(&blob))
                } else {
                    How::Argument(Credentials::kerberos(&blob))
                }
            }),
            _ => How::Unreadable,
        }
    }

    /// What ties the rounds of its login together; `connection` is the one it came on.
    pub(super) fn rounds(&self, connection: u64) -> Rounds {
        let name = self.header("x-epid").filter(|name| (1..=NAME_MAX).contains(&name.len()));
        name.map_or(Rounds::Connection(connection), |name| Rounds::Named(name.to_owned()))
    }

    /// What it says of itself, in the body or not at all.
    pub(super) fn negotiation(&self, body: &[u8]) -> Result<Negotiation, Unreadable> {
        let app = match self.parameter("clientappid") {
            None => APP_PROCALL_WEB,
            Some(app) => integer(app).ok_or(Unreadable("clientappid is no number"))?,
        };
        let body = match body.trim_ascii() {
            [] => Map::new(),
            body => object(body)?,
        };
        let said = match body.get("negotiate") {
            None => &Map::new(),
            Some(Value::Object(said)) => said,
            Some(_) => return Err(Unreadable("negotiate is no object")),
        };
        match said.get("iClientProtocolVersion").map(Value::as_i64) {
            None | Some(Some(PROTOCOL..)) => {}
            // The public sources say that 70 is a must, and not what becomes of others.
            Some(_) => return Err(Unreadable("iClientProtocolVersion is none of this server's")),
        }
        let text = |name: &str| match said.get(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) if text.len() <= TEXT_MAX => Ok(text.clone()),
            Some(_) => Err(Unreadable("a client that does not say of itself what it should")),
        };
        let (device, version) = (text("u8sClientDeviceId")?, text("u8sClientVersion")?);
        Ok(Negotiation { device, version, app, former: None })
    }

    /// The argument of a call: its body, or for a GET without one its parameters.
    pub(super) fn argument(&self, body: &[u8], is_direct: bool) -> Result<Vec<u8>, Unreadable> {
        let body = body.trim_ascii();
        if !body.is_empty() {
            let text = std::str::from_utf8(body).map_err(|_| Unreadable("the body is no UTF-8"))?;
            return match serde_json::from_str::<serde::de::IgnoredAny>(text) {
                Ok(_) => Ok(body.to_vec()),
                Err(_) => Err(Unreadable("the body is no JSON")),
            };
        }
        let mut argument = Map::new();
        if self.method == Method::GET {
            for (name, value) in &self.query {
                let is_other = NOT_ARGUMENT.contains(&&**name)
                    || (is_direct && CREDENTIALS.contains(&&**name));
                if !is_other {
                    let number = integer(value).map(Value::from);
                    argument.insert(name.clone(), number.unwrap_or_else(|| value.as_str().into()));
                }
            }
        }
        Ok(Value::Object(argument).to_string().into_bytes())
    }
}

/// Whether an operation may have this name.
pub(super) fn is_operation(name: &str) -> bool {
    let is_part = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'_';
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(is_part)
}

fn object(body: &[u8]) -> Result<Map<String, Value>, Unreadable> {
    serde_json::from_slice(body).map_err(|_| Unreadable("the body is no object in JSON"))
}

/// A decimal integer, and no text that some would read as one.
fn integer(text: &str) -> Option<i64> {
    text.parse().ok().filter(|number: &i64| number.to_string() == text)
}

/// Without the escapes of a query (as forms write it).
fn decoded(text: &str) -> String {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, behind @ ..] = rest {
        rest = behind;
        let escape = behind.first_chunk::<2>().filter(|_| *first == b'%');
        let value = escape
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match (value, first) {
            (Some(value), _) => {
                octets.push(value);
                rest = behind.get(2..).unwrap_or_default();
            }
            (None, b'+') => octets.push(b' '),
            (None, octet) => octets.push(*octet),
        }
    }
    String::from_utf8_lossy(&octets).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(method: &str, uri: &str, headers: &[(&str, &str)]) -> Request {
        let mut request = hyper::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Request::of(&request.body(()).unwrap().into_parts().0)
    }

    #[test]
    fn a_query_is_read_as_forms_write_it() {
        let request = request("GET", "/?a=1%2b2&b=x+y&c&d=%zz%4&=e&%C3%A4=%ff", &[]);
        assert_eq!(request.parameter("a"), Some("1+2"));
        assert_eq!(request.parameter("b"), Some("x y"));
        assert_eq!(request.parameter("c"), Some(""));
        assert_eq!(request.parameter("d"), Some("%zz%4"));
        assert_eq!(request.parameter(""), Some("e"));
        assert_eq!(request.parameter("ä"), Some("\u{FFFD}"));
        assert_eq!(request.parameter("e"), None);
    }

    #[test]
    fn parameters_are_the_argument_of_a_get() {
        let uri = "/x?ucsid=local&user=a&iType=-1&n=007&p=%2B49&callback=f";
        let argument = |method, is_direct| {
            let argument = request(method, uri, &[]).argument(b"", is_direct).unwrap();
            serde_json::from_slice::<Value>(&argument).unwrap()
        };
        let mut wanted = serde_json::json!({"iType": -1, "n": "007", "p": "+49", "user": "a"});
        assert_eq!(argument("GET", false), wanted);
        wanted.as_object_mut().unwrap().remove("user");
        assert_eq!(argument("GET", true), wanted);
        assert_eq!(argument("POST", false), serde_json::json!({}));
        let get = request("GET", uri, &[]);
        assert_eq!(get.argument(b" {\"a\": 1.50} ", false).unwrap(), b"{\"a\": 1.50}");
        assert!(get.argument(b"{", false).is_err());
        assert!(get.argument(b"\"\xFF\"", false).is_err());
    }

    #[test]
    fn only_names_of_functions_are_called_back() {
        let callback = |name: &str| request("GET", &format!("/?callback={name}"), &[]).callback();
        assert_eq!(callback("$jQuery_1"), Ok(Some("$jQuery_1".into())));
        for name in ["", "1a", "a.b", "alert(1)//", "a%0Ab", &"a".repeat(NAME_MAX + 1)] {
            assert!(callback(name).is_err(), "{name}");
        }
        assert_eq!(request("GET", "/", &[]).callback(), Ok(None));
    }

    #[test]
    fn what_a_client_says_of_itself_is_read_or_refused() {
        let read = |uri: &str, body: &[u8]| request("POST", uri, &[]).negotiation(body);
        let said = read(
            "/?clientappid=9",
            br#"{"negotiate":{"iClientProtocolVersion":70,"u8sClientVersion":"2603.0"}}"#,
        );
        let (device, version) = (String::new(), String::from("2603.0"));
        assert_eq!(said, Ok(Negotiation { device, version, app: 9, former: None }));
        assert_eq!(read("/", b"").map(|said| said.app), Ok(15));
        assert!(read("/?clientappid=web", b"").is_err());
        for body in [
            "1",
            "[]",
            "{",
            r#"{"negotiate":1}"#,
            r#"{"negotiate":{"iClientProtocolVersion":"70"}}"#,
            r#"{"negotiate":{"iClientProtocolVersion":61}}"#,
            r#"{"negotiate":{"u8sClientVersion":2603.0}}"#,
        ] {
            assert!(read("/", body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn credentials_are_looked_for_where_they_may_be() {
        let how = |uri: &str, headers: &[(&str, &str)]| match request("GET", uri, headers)
            .credentials()
        {
            Shown { how: How::Nothing, .. } => "nothing",
            Shown { how: How::Unreadable, .. } => "unreadable",
            Shown { how: How::Ntlm(scheme, _), .. } => scheme,
            Shown { how: How::Argument(_), is_quiet: true } => "quiet",
            Shown { how: How::Argument(_), is_quiet: false } => "argument",
        };
        assert_eq!(how("/", &[]), "nothing");
        assert_eq!(how("/?user=a&pass=b", &[("authorization", "Basic YTpi")]), "quiet");
        assert_eq!(how("/?token=t", &[]), "quiet");
        assert_eq!(how("/", &[("x-uctoken", "t")]), "quiet");
        let one = |value: &str| how("/", &[("authorization", value)]).to_owned();
        assert_eq!(one("basic YTpi"), "argument");
        assert_eq!(one("Bearer t"), "argument");
        assert_eq!(one("NTLM TlRMTVNTUAAB"), "NTLM");
        assert_eq!(one("Negotiate TlRMTVNTUAAB"), "Negotiate");
        assert_eq!(one("Negotiate YW5uYQ=="), "argument");
        for value in ["Basic", "Basic !", "Basic YWI=", "NTLM !", "Digest a", ""] {
            assert_eq!(one(value), "unreadable", "{value}");
        }
        let two = [("authorization", "Basic YTpi"), ("authorization", "Basic YTpi")];
        assert_eq!(how("/", &two), "unreadable");
    }
}
