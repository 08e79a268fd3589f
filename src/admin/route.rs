//! Which question a request asks: pure.

use std::net::IpAddr;

use hyper::StatusCode;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroize as _;

use crate::admin::asked::Asked;
use crate::admin::body::Wanted;
use crate::admin::endpoints::{ENDPOINTS, Endpoint};
use crate::door::{Command, Filter};
use crate::private::Private;

/// A question, or an order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    Health,
    Ready,
    Metrics,
    OpenApi,
    Status,
    Users {
        filter: Filter,
        after: Option<String>,
        limit: usize,
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
        filter: Filter,
        after: Option<String>,
        limit: usize,
    },
    /// Changes something: only for whoever has the token.
    Order(Command),
    /// The same, and what exactly is in the body.
    OrderWith(Wanted),
}

/// Why a request is not answered; the caller's to mend.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("there is no such endpoint")]
    NotFound,
    #[error("this endpoint does not take that method")]
    Method(String),
    #[error("this changes something, so it needs the door's token")]
    NoToken,
    #[error("this is not the door's token")]
    WrongToken,
    #[error("requests here have no body")]
    Body,
    #[error("the body is longer than 64 KiB")]
    BodyLength,
    #[error("the body did not arrive within 2 s")]
    BodyLate,
    #[error("the body ended early or is not properly framed")]
    BodyBroken,
    #[error("the body is not what is wanted here: {because}")]
    BodyKind { because: String, example: &'static str },
    #[error("the request has no Host header, or several")]
    NoHost,
    #[error("this host name is not ours")]
    ForeignHost,
    #[error("a name or value is not properly %-encoded UTF-8")]
    Name,
    #[error("there is no parameter {name:?} here")]
    UnknownParameter { name: String, known: Vec<&'static str> },
    #[error("the parameter \"{0}\" stands there too often")]
    Repeated(&'static str),
    #[error("the parameter \"{0}\" is missing")]
    Missing(&'static str),
    #[error("the value of the parameter \"{name}\" is not {kind}")]
    Value { name: &'static str, kind: String },
    #[error("what \"after\" says was never the \"next\" of a page")]
    Cursor,
    #[error("the door has started anew since it gave this \"next\": its users may stand elsewhere")]
    OldCursor,
}

impl Refusal {
    pub(super) const fn status(&self) -> StatusCode {
        match self {
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::NoToken => StatusCode::UNAUTHORIZED,
            Self::WrongToken => StatusCode::FORBIDDEN,
            Self::Body | Self::BodyLength => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyLate => StatusCode::REQUEST_TIMEOUT,
            Self::BodyBroken
            | Self::BodyKind { .. }
            | Self::NoHost
            | Self::Name
            | Self::UnknownParameter { .. }
            | Self::Repeated(_)
            | Self::Missing(_)
            | Self::Value { .. }
            | Self::Cursor => StatusCode::BAD_REQUEST,
            Self::OldCursor => StatusCode::GONE,
            Self::ForeignHost => StatusCode::MISDIRECTED_REQUEST,
        }
    }

    pub(super) fn what_to_do(&self) -> String {
        let say = str::to_owned;
        match self {
            Self::NotFound => {
                let paths: Vec<&str> = ENDPOINTS.iter().map(|it| it.path).collect();
                format!("ask one of these: {}; /v1/openapi.json explains them", paths.join(" "))
            }
            Self::Method(allow) => format!("use {allow}"),
            Self::NoToken => {
                say("send Authorization: Bearer TOKEN; the token is in the file that \
                 admin.token_file names")
            }
            Self::WrongToken => {
                say("send the token in the file that admin.token_file names: 64 hexadecimal digits")
            }
            Self::Body => say("send it without a body"),
            Self::BodyLength => say("send the JSON that /v1/openapi.json describes, and no more"),
            Self::BodyLate => say("send the body right behind the headers"),
            Self::BodyBroken => say("send as many octets as Content-Length says, or proper chunks"),
            Self::BodyKind { example, .. } => format!("send JSON like {example}"),
            Self::NoHost => say("send the door's admin address as Host"),
            Self::ForeignHost => {
                say("use its IP address or localhost, or add the name to admin.names")
            }
            Self::Name => {
                say("write every octet that is no letter, digit or -._~ as % and two hex digits")
            }
            Self::UnknownParameter { known, .. } if known.is_empty() => {
                say("ask without parameters")
            }
            Self::UnknownParameter { known, .. } => format!("use {}", known.join(", ")),
            Self::Repeated(name) => format!(
                "say {name:?} once; only some may be repeated, so often \
                 as /v1/openapi.json says"
            ),
            Self::Missing(name) => format!("add {name}=…; /v1/openapi.json says what it means"),
            Self::Value { name, kind } => format!("let {name:?} be {kind}"),
            Self::Cursor => say("take it from the page before as it is, or leave it out"),
            Self::OldCursor => say("begin again with the first page: leave \"after\" out"),
        }
    }
}

/// What a request at this endpoint asks.
pub(super) fn route(
    endpoint: &Endpoint,
    names: &[&str],
    query: Option<&str>,
) -> Result<Route, Refusal> {
    (endpoint.read)(&Asked::read(endpoint, names, query)?)
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

#[cfg(test)]
mod tests {
    use hyper::Method;

    use crate::admin::endpoints;

    use super::*;

    fn ask(method: Method, path: &str, query: Option<&str>) -> Result<Route, Refusal> {
        let (endpoint, names) = endpoints::find(&method, path)?;
        route(endpoint, &names, query)
    }

    fn get(path: &str, query: Option<&str>) -> Result<Route, Refusal> {
        ask(Method::GET, path, query)
    }

    fn post(path: &str) -> Result<Route, Refusal> {
        ask(Method::POST, path, None)
    }

    #[test]
    fn a_page_of_users_has_defaults_and_a_limit() {
        let page = |after: Option<&str>, limit| {
            let (filter, after) = (Filter::default(), after.map(str::to_owned));
            Ok(Route::Users { filter, after, limit })
        };
        assert_eq!(get("/v1/users", None), page(None, 100));
        assert_eq!(get("/v1/users", Some("after=5-20&limit=1000&")), page(Some("5-20"), 1_000));
        for value in ["1001", "0", "-1", "", "1e2", "99999999999999999999"] {
            let kind = "a whole number from 1 to 1000".to_owned();
            let refusal = Err(Refusal::Value { name: "limit", kind });
            assert_eq!(get("/v1/users", Some(&format!("limit={value}"))), refusal, "{value}");
        }
        let twice = get("/v1/users", Some("limit=1&limit=2"));
        assert_eq!(twice, Err(Refusal::Repeated("limit")));
    }

    #[test]
    fn users_are_filtered_by_known_parameters_only() {
        let query = "server=ucs%202&home=a%26b&away=true&state=held&prefix=+49";
        let filter = Filter {
            server: Some("ucs 2".into()),
            home: Some("a&b".into()),
            away: Some(true),
            standing: Some("held".into()),
            why: None,
            prefix: Some("+49".into()),
        };
        let (after, limit) = (None, 100);
        assert_eq!(get("/v1/users", Some(query)), Ok(Route::Users { filter, after, limit }));
        for query in ["sever=x", "=", "why=drain", "count=5", "Server=x"] {
            let refusal = get("/v1/users", Some(query)).unwrap_err();
            let advice = "use limit, after, server, home, away, state, prefix";
            assert_eq!((refusal.status().as_u16(), &*refusal.what_to_do()), (400, advice));
        }
        for query in ["away=yes", "away", "state=gone", "state="] {
            let refusal = get("/v1/users", Some(query)).unwrap_err();
            assert!(matches!(refusal, Refusal::Value { .. }), "{query}: {refusal:?}");
        }
        let refusal = get("/v1/status", Some("x=1")).unwrap_err();
        assert_eq!(refusal.what_to_do(), "ask without parameters");
        assert_eq!(get("/v1/users", Some("prefix=%ff")), Err(Refusal::Name));
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
    fn a_path_is_taken_as_it_stands() {
        let user = |name: &str| Ok(Route::User { name: name.to_owned() });
        // What is escaped is part of the name, and is unescaped once.
        assert_eq!(get("/v1/users/..%2Fstatus", None), user("../status"));
        assert_eq!(get("/v1/users/%2e%2e", None), user(".."));
        assert_eq!(get("/v1/users/..", None), user(".."));
        assert_eq!(get("/v1/users/%252e", None), user("%2e"));
        assert_eq!(get("/v1/users/a%00b", None), user("a\0b"));
        for path in [
            "/v1/users/../status",
            "/v1/./status",
            "//v1/status",
            "/v1/status/",
            "/v1%2Fstatus",
            "/v1/%73tatus",
            "/V1/STATUS",
            "*",
            "",
            "/v1/users/a/b",
            "/v1/users//home",
            "/v1/servers/../users/x/return",
        ] {
            assert_eq!(get(path, None), Err(Refusal::NotFound), "{path}");
        }
    }

    #[test]
    fn other_paths_and_methods_are_refused_each_in_its_way() {
        assert_eq!(get("/", None), Err(Refusal::NotFound));
        assert_eq!(get("/v1/users/", None), Err(Refusal::NotFound));
        let only_get = Err(Refusal::Method("GET, HEAD".into()));
        assert_eq!(post("/healthz"), only_get);
        assert_eq!(ask(Method::CONNECT, "/healthz", None), only_get);
        assert_eq!(ask(Method::OPTIONS, "/v1/users/x", None), only_get);
        assert_eq!(post("/nothing"), Err(Refusal::NotFound));
        assert_eq!(ask(Method::HEAD, "/healthz", None), Ok(Route::Health));
        assert!(Refusal::NotFound.what_to_do().contains("/v1/explain/{user}"));
    }

    #[test]
    fn what_changes_something_is_posted() {
        let order = |command| Ok(Route::Order(command));
        assert_eq!(post("/v1/recovery/pause"), order(Command::PauseRecovery));
        assert_eq!(post("/v1/suspicion/end"), order(Command::EndSuspicion));
        assert_eq!(
            post("/v1/servers/ucs%202/return"),
            order(Command::ReturnServer("ucs 2".into()))
        );
        assert_eq!(post("/v1/users/sip:a@b/return"), order(Command::ReturnUser("sip:a@b".into())));
        for path in ["/v1/recovery/pause", "/v1/servers/x/return", "/v1/users/x/return"] {
            assert_eq!(get(path, None), Err(Refusal::Method("POST".into())), "{path}");
        }
        for path in ["/v1/servers//return", "/v1/servers/x", "/v1/servers/return", "/v1/recovery/x"]
        {
            assert_eq!(post(path), Err(Refusal::NotFound), "{path}");
        }
    }

    #[test]
    fn an_order_with_a_body_names_its_object_in_the_path() {
        let home = Wanted::Home { user: "sip:a@b".into() };
        assert_eq!(post("/v1/users/sip%3Aa%40b/home"), Ok(Route::OrderWith(home)));
        let maintenance = Wanted::Maintenance { server: "ucs 2".into() };
        let path = "/v1/servers/ucs%202/maintenance";
        assert_eq!(post(path), Ok(Route::OrderWith(maintenance)));
        assert_eq!(get("/v1/users/x/home", None), Err(Refusal::Method("POST".into())));
        assert_eq!(post("/v1/users/%zz/home"), Err(Refusal::Name));
    }

    #[test]
    fn a_what_if_names_who_dies() {
        let many = "kill=x&".repeat(65);
        let asked = |query| get("/v1/what-if", Some(query));
        let killed = vec!["ucs1".to_owned(), "ucs 2".to_owned()];
        let whole = Ok(Route::WhatIf { killed, from: 5, count: 7 });
        assert_eq!(asked("kill=ucs1&from=5&kill=ucs%202&count=7"), whole);
        assert_eq!(asked("from=1"), Err(Refusal::Missing("kill")));
        assert_eq!(asked(&many), Err(Refusal::Repeated("kill")));
        for query in ["kill=x&count=1001", "kill=x&cuont=1"] {
            assert_eq!(asked(query).unwrap_err().status(), StatusCode::BAD_REQUEST, "{query}");
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
