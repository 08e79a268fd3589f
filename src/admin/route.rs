//! Which question a request asks: pure.

use std::net::IpAddr;

use hyper::{Method, StatusCode};

use crate::net::USERS_PAGE_LIMIT;

/// Users an answer holds if nobody says how many.
const USERS_PAGE_DEFAULT: usize = 100;

/// The methods every endpoint knows.
pub(super) const ALLOW: &str = "GET, HEAD";

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Health,
    Ready,
    Metrics,
    Status,
    Users { from: usize, count: usize },
    User { name: String },
}

/// Why a request is not answered; the caller's to mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("there is no such endpoint; see /healthz /readyz /metrics /v1/status /v1/users")]
    NotFound,
    #[error("only GET and HEAD are answered here")]
    Method,
    #[error("requests here have no body")]
    Body,
    #[error("the request has no Host header")]
    NoHost,
    #[error("this host name is not ours; add it to the admin listener's names to allow it")]
    ForeignHost,
    #[error("\"from\" and \"count\" are whole numbers; count is at most {USERS_PAGE_LIMIT}")]
    Page,
    #[error("the user's name is not properly %-encoded UTF-8")]
    Name,
}

impl Refusal {
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Body => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoHost | Self::Page | Self::Name => StatusCode::BAD_REQUEST,
            Self::ForeignHost => StatusCode::MISDIRECTED_REQUEST,
        }
    }
}

/// Finds the question.
pub(super) fn route(method: &Method, path: &str, query: Option<&str>) -> Result<Route, Refusal> {
    let route = match path {
        "/healthz" => Route::Health,
        "/readyz" => Route::Ready,
        "/metrics" => Route::Metrics,
        "/v1/status" => Route::Status,
        "/v1/users" => page(query.unwrap_or_default())?,
        _ => match path.strip_prefix("/v1/users/") {
            Some(name) if !name.is_empty() => Route::User { name: decoded(name)? },
            _ => return Err(Refusal::NotFound),
        },
    };
    if matches!(*method, Method::GET | Method::HEAD) { Ok(route) } else { Err(Refusal::Method) }
}

/// Checks the `Host` header, `host` or `host:port`. An IP address cannot be rebound to another.
pub(super) fn check_host(host: Option<&str>, names: &[String]) -> Result<(), Refusal> {
    let host = host.ok_or(Refusal::NoHost)?;
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(address, _)| address),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let ours = name.parse::<IpAddr>().is_ok()
        || name.eq_ignore_ascii_case("localhost")
        || names.iter().any(|it| it.eq_ignore_ascii_case(name));
    if ours { Ok(()) } else { Err(Refusal::ForeignHost) }
}

fn page(query: &str) -> Result<Route, Refusal> {
    let (mut from, mut count) = (0, USERS_PAGE_DEFAULT);
    for pair in query.split('&').filter(|it| !it.is_empty()) {
        let number = |text: &str| text.parse::<usize>().map_err(|_| Refusal::Page);
        match pair.split_once('=') {
            Some(("from", text)) => from = number(text)?,
            Some(("count", text)) => count = number(text)?,
            _ => return Err(Refusal::Page),
        }
    }
    if count > USERS_PAGE_LIMIT {
        return Err(Refusal::Page);
    }
    Ok(Route::Users { from, count })
}

fn decoded(text: &str) -> Result<String, Refusal> {
    let mut octets = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        if octet != b'%' {
            octets.push(octet);
            continue;
        }
        let mut digit = || rest.next().and_then(|it| char::from(it).to_digit(16));
        let (Some(high), Some(low)) = (digit(), digit()) else { return Err(Refusal::Name) };
        octets.push(u8::try_from(high * 16 + low).map_err(|_| Refusal::Name)?);
    }
    String::from_utf8(octets).map_err(|_| Refusal::Name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(path: &str, query: Option<&str>) -> Result<Route, Refusal> {
        route(&Method::GET, path, query)
    }

    #[test]
    fn a_page_of_users_has_defaults_and_a_limit() {
        assert_eq!(get("/v1/users", None), Ok(Route::Users { from: 0, count: 100 }));
        let last = get("/v1/users", Some("from=20&count=1000"));
        assert_eq!(last, Ok(Route::Users { from: 20, count: 1_000 }));
        for query in ["count=1001", "from=-1", "count=", "page=2", "from"] {
            assert_eq!(get("/v1/users", Some(query)), Err(Refusal::Page), "{query}");
        }
    }

    #[test]
    fn a_user_is_named_as_login_or_aor() {
        let user = |name: &str| Ok(Route::User { name: name.to_owned() });
        assert_eq!(get("/v1/users/anna", None), user("anna"));
        assert_eq!(get("/v1/users/sip:a@b.example", None), user("sip:a@b.example"));
        assert_eq!(get("/v1/users/sip%3Aj%C3%BCrgen%40b", None), user("sip:jürgen@b"));
        for name in ["/v1/users/%", "/v1/users/%4", "/v1/users/%zz", "/v1/users/%ff"] {
            assert_eq!(get(name, None), Err(Refusal::Name), "{name}");
        }
    }

    #[test]
    fn other_paths_and_methods_are_refused_each_in_its_way() {
        assert_eq!(get("/", None), Err(Refusal::NotFound));
        assert_eq!(get("/v1/users/", None), Err(Refusal::NotFound));
        assert_eq!(route(&Method::POST, "/healthz", None), Err(Refusal::Method));
        assert_eq!(route(&Method::POST, "/nothing", None), Err(Refusal::NotFound));
        assert_eq!(route(&Method::HEAD, "/healthz", None), Ok(Route::Health));
    }

    #[test]
    fn a_name_that_is_not_ours_is_refused() {
        let names = ["door.example".to_owned()];
        let ours = ["localhost", "LOCALHOST:9060", "127.0.0.1:9060", "[::1]:9060", "[::1]"];
        for host in ours.into_iter().chain(["192.0.2.7", "door.example:9060"]) {
            assert_eq!(check_host(Some(host), &names), Ok(()), "{host}");
        }
        for host in ["evil.example", "localhost.evil.example:9060", "", "127.0.0.1.evil.example"] {
            assert_eq!(check_host(Some(host), &names), Err(Refusal::ForeignHost), "{host}");
        }
        assert_eq!(check_host(None, &names), Err(Refusal::NoHost));
    }
}
