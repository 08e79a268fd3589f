//! Which question a request asks: pure.

use std::net::IpAddr;

use hyper::{Method, StatusCode};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroize as _;

use crate::admin::body::Wanted;
use crate::door::Command;
use crate::net::USERS_PAGE_LIMIT;
use crate::private::Private;

/// Users an answer holds if nobody says how many.
const USERS_PAGE_DEFAULT: usize = 100;

/// Servers that may be asked about at once.
const KILLS_MAX: usize = 64;

/// A question, or an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Health,
    Ready,
    Metrics,
    Status,
    Users {
        from: usize,
        count: usize,
    },
    User {
        name: String,
    },
    Explain {
        name: String,
    },
    WhatIf {
        killed: Vec<String>,
        from: usize,
        count: usize,
    },
    Rebalance {
        from: usize,
        count: usize,
    },
    Recovery,
    Reports,
    Report {
        id: String,
    },
    Relocations {
        from: usize,
        count: usize,
    },
    /// Changes something: only for whoever has the token.
    Order(Command),
    /// The same, and what exactly is in the body.
    OrderWith(Wanted),
}

/// Why a request is not answered; the caller's to mend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error(
        "there is no such endpoint; see /healthz /readyz /metrics /v1/status /v1/users \
         /v1/relocations /v1/recovery /v1/explain/USER /v1/what-if /v1/rebalance \
         /v1/reports"
    )]
    NotFound,
    #[error("only GET and HEAD are answered here")]
    Method,
    #[error("this changes something: only POST is answered here")]
    OrderMethod,
    #[error(
        "this changes something, so it needs the door's token: Authorization: Bearer TOKEN; \
         it is in the file that admin.token_file names"
    )]
    NoToken,
    #[error("this is not the door's token: it is in the file that admin.token_file names")]
    WrongToken,
    #[error("requests here have no body")]
    Body,
    #[error("the body is longer than 64 KiB")]
    BodyLength,
    #[error("the body did not arrive within 2 s")]
    BodyLate,
    #[error("the body ended early or is not properly framed")]
    BodyBroken,
    #[error("the body is to be JSON like {0}")]
    BodyKind(&'static str),
    #[error("the request has no Host header")]
    NoHost,
    #[error("this host name is not ours; add it to the admin listener's names to allow it")]
    ForeignHost,
    #[error("\"from\" and \"count\" are whole numbers; count is at most {USERS_PAGE_LIMIT}")]
    Page,
    #[error(
        "name who dies: /v1/what-if?kill=NAME, up to 64 times; \"from\" and \"count\" are whole \
         numbers, count at most {USERS_PAGE_LIMIT}"
    )]
    WhatIf,
    #[error("the user's name is not properly %-encoded UTF-8")]
    Name,
}

impl Refusal {
    pub(super) const fn status(self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method | Self::OrderMethod => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoToken => StatusCode::UNAUTHORIZED,
            Self::WrongToken => StatusCode::FORBIDDEN,
            Self::Body | Self::BodyLength => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyLate => StatusCode::REQUEST_TIMEOUT,
            Self::BodyBroken
            | Self::BodyKind(_)
            | Self::NoHost
            | Self::Page
            | Self::WhatIf
            | Self::Name => StatusCode::BAD_REQUEST,
            Self::ForeignHost => StatusCode::MISDIRECTED_REQUEST,
        }
    }

    /// The methods to name with a 405.
    pub(super) const fn allow(self) -> Option<&'static str> {
        match self {
            Self::Method => Some("GET, HEAD"),
            Self::OrderMethod => Some("POST"),
            Self::NotFound
            | Self::NoToken
            | Self::WrongToken
            | Self::Body
            | Self::BodyLength
            | Self::BodyLate
            | Self::BodyBroken
            | Self::BodyKind(_)
            | Self::NoHost
            | Self::ForeignHost
            | Self::Page
            | Self::WhatIf
            | Self::Name => None,
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
        "/v1/users" => {
            let (from, count) = page(query.unwrap_or_default())?;
            Route::Users { from, count }
        }
        "/v1/relocations" => {
            let (from, count) = page(query.unwrap_or_default())?;
            Route::Relocations { from, count }
        }
        "/v1/what-if" => what_if(query.unwrap_or_default())?,
        "/v1/rebalance" => {
            let (from, count) = page(query.unwrap_or_default())?;
            Route::Rebalance { from, count }
        }
        "/v1/rebalance/start" => Route::Order(Command::Rebalance),
        "/v1/rebalance/stop" => Route::Order(Command::StopRebalance),
        "/v1/recovery" => Route::Recovery,
        "/v1/reports" => Route::Reports,
        "/v1/recovery/pause" => Route::Order(Command::PauseRecovery),
        "/v1/suspicion/end" => Route::Order(Command::EndSuspicion),
        "/v1/recovery/resume" => Route::Order(Command::ResumeRecovery),
        _ => named(path)?,
    };
    match (&route, method) {
        (Route::Order(_) | Route::OrderWith(_), &Method::POST) => Ok(route),
        (Route::Order(_) | Route::OrderWith(_), _) => Err(Refusal::OrderMethod),
        (_, &Method::GET | &Method::HEAD) => Ok(route),
        _ => Err(Refusal::Method),
    }
}

/// What names a user or a server.
fn named(path: &str) -> Result<Route, Refusal> {
    let inside = |prefix| path.strip_prefix(prefix).filter(|rest: &&str| !rest.is_empty());
    if let Some(rest) = inside("/v1/users/") {
        if let Some(user) = rest.strip_suffix("/home").filter(|name| !name.is_empty()) {
            return Ok(Route::OrderWith(Wanted::Home { user: decoded(user)? }));
        }
        return match rest.strip_suffix("/return") {
            Some(name) if !name.is_empty() => Ok(Route::Order(Command::ReturnUser(decoded(name)?))),
            _ => Ok(Route::User { name: decoded(rest)? }),
        };
    }
    if let Some(id) = inside("/v1/reports/") {
        return Ok(Route::Report { id: id.to_owned() });
    }
    if let Some(name) = inside("/v1/explain/") {
        return Ok(Route::Explain { name: decoded(name)? });
    }
    let server = |order| {
        let rest = inside("/v1/servers/").and_then(|rest| rest.strip_suffix(order));
        rest.filter(|name| !name.is_empty())
    };
    if let Some(name) = server("/drain") {
        return Ok(Route::OrderWith(Wanted::Drain { server: decoded(name)? }));
    }
    if let Some(name) = server("/maintenance") {
        return Ok(Route::OrderWith(Wanted::Maintenance { server: decoded(name)? }));
    }
    if let Some(name) = server("/drill") {
        return Ok(Route::Order(Command::Drill(decoded(name)?)));
    }
    match server("/return") {
        Some(name) => Ok(Route::Order(Command::ReturnServer(decoded(name)?))),
        None => Err(Refusal::NotFound),
    }
}

/// Checks `Authorization` against the token, in a time that tells nothing of it (RFC 6750 §2.1).
pub(super) fn check_token(
    authorization: Option<&[u8]>,
    token: &Private<[u8; 32]>,
) -> Result<(), Refusal> {
    let credentials = authorization.ok_or(Refusal::NoToken)?;
    let (scheme, given) = credentials.split_at_checked(7).ok_or(Refusal::NoToken)?;
    if !scheme.eq_ignore_ascii_case(b"Bearer ") {
        return Err(Refusal::NoToken);
    }
    let mut wanted = [0; 64];
    for (digits, octet) in wanted.chunks_exact_mut(2).zip(token.reveal()) {
        let digit = |value: u8| b"0123456789abcdef"[usize::from(value)];
        digits.copy_from_slice(&[digit(octet >> 4), digit(octet & 15)]);
    }
    let same = bool::from(wanted[..].ct_eq(given.trim_ascii()));
    wanted.zeroize();
    if same { Ok(()) } else { Err(Refusal::WrongToken) }
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

/// Who dies, and which moves are listed.
fn what_if(query: &str) -> Result<Route, Refusal> {
    let (mut killed, mut rest) = (Vec::new(), Vec::new());
    for pair in query.split('&') {
        match pair.strip_prefix("kill=") {
            Some(name) => killed.push(decoded(name)?),
            None => rest.push(pair),
        }
    }
    if killed.is_empty() || killed.len() > KILLS_MAX {
        return Err(Refusal::WhatIf);
    }
    let (from, count) = page(&rest.join("&")).map_err(|_| Refusal::WhatIf)?;
    Ok(Route::WhatIf { killed, from, count })
}

fn page(query: &str) -> Result<(usize, usize), Refusal> {
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
    Ok((from, count))
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
    fn what_changes_something_is_posted() {
        let post = |path| route(&Method::POST, path, None);
        let order = |command| Ok(Route::Order(command));
        assert_eq!(post("/v1/recovery/pause"), order(Command::PauseRecovery));
        assert_eq!(post("/v1/suspicion/end"), order(Command::EndSuspicion));
        assert_eq!(
            post("/v1/servers/ucs%202/return"),
            order(Command::ReturnServer("ucs 2".into()))
        );
        assert_eq!(post("/v1/users/sip:a@b/return"), order(Command::ReturnUser("sip:a@b".into())));
        for path in ["/v1/recovery/pause", "/v1/servers/x/return", "/v1/users/x/return"] {
            assert_eq!(get(path, None), Err(Refusal::OrderMethod), "{path}");
        }
        for path in ["/v1/servers//return", "/v1/servers/x", "/v1/servers/return", "/v1/recovery/x"]
        {
            assert_eq!(post(path), Err(Refusal::NotFound), "{path}");
        }
    }

    #[test]
    fn an_order_with_a_body_names_its_object_in_the_path() {
        let post = |path| route(&Method::POST, path, None);
        let home = Wanted::Home { user: "sip:a@b".into() };
        assert_eq!(post("/v1/users/sip%3Aa%40b/home"), Ok(Route::OrderWith(home)));
        let maintenance = Wanted::Maintenance { server: "ucs 2".into() };
        let path = "/v1/servers/ucs%202/maintenance";
        assert_eq!(post(path), Ok(Route::OrderWith(maintenance)));
        assert_eq!(get("/v1/users/x/home", None), Err(Refusal::OrderMethod));
        assert_eq!(post("/v1/users/%zz/home"), Err(Refusal::Name));
        assert_eq!(post("/v1/users//home"), Err(Refusal::Method), "a user who is called that");
    }

    #[test]
    fn a_what_if_names_who_dies() {
        let asked = |query| get("/v1/what-if", Some(query));
        let killed = vec!["ucs1".to_owned(), "ucs 2".to_owned()];
        let whole = Ok(Route::WhatIf { killed, from: 5, count: 7 });
        assert_eq!(asked("kill=ucs1&from=5&kill=ucs%202&count=7"), whole);
        let many = "kill=x&".repeat(65);
        for query in ["", "from=1", "kill=x&count=1001", "kill=x&cuont=1", &many] {
            assert_eq!(asked(query), Err(Refusal::WhatIf), "{query}");
        }
        assert_eq!(asked("kill=%zz"), Err(Refusal::Name));
        assert_eq!(get("/v1/explain/anna", None), Ok(Route::Explain { name: "anna".into() }));
    }

    #[test]
    fn only_the_token_opens() {
        let token = Private::new([0xab; 32]);
        let right = format!("Bearer {}", "ab".repeat(32));
        assert_eq!(check_token(Some(right.as_bytes()), &token), Ok(()));
        assert_eq!(
            check_token(Some(format!("bearer {} ", "ab".repeat(32)).as_bytes()), &token),
            Ok(())
        );
        for wrong in
            ["Bearer ", "Bearer x", &right[..70], &format!("{right}a"), &right.replace('b', "c")]
        {
            assert_eq!(
                check_token(Some(wrong.as_bytes()), &token),
                Err(Refusal::WrongToken),
                "{wrong}"
            );
        }
        for none in [None, Some(&b""[..]), Some(b"Basic YTpi"), Some(b"Bearer")] {
            assert_eq!(check_token(none, &token), Err(Refusal::NoToken));
        }
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
