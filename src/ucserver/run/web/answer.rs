//! [`Reply`]: an answer in JSON, and the clothes it goes out in: JSONP, CORS.

use std::convert::Infallible;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ALLOW,
    CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, VARY, WWW_AUTHENTICATE,
};
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use crate::ucserver::run::web::request::{Request, Unreadable};
use crate::ucserver::run::web::sessions::Failure;

/// What goes out.
pub(super) type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// What may be asked, and with what.
const METHODS: HeaderValue = HeaderValue::from_static("GET, POST, OPTIONS");
const HEADERS: HeaderValue = HeaderValue::from_static(
    "Authorization, Content-Type, X-epid, X-no401, X-simple, X-ucsessionid, X-ucsid, X-uctoken",
);

/// `WsError`: the UCServer is not there.
const NOT_CONNECTED: i64 = 119;

/// An answer in JSON.
#[derive(Debug)]
pub(super) struct Reply {
    status: StatusCode,
    json: Bytes,
    headers: Vec<(HeaderName, HeaderValue)>,
}

/// What becomes of an answer on its way out.
pub(super) struct Dress {
    origin: Option<HeaderValue>,
    callback: Option<String>,
}

impl Reply {
    pub(super) fn done(value: &Value) -> Self {
        Self::json(StatusCode::OK, value)
    }

    /// JSON as it is.
    pub(super) const fn raw(status: StatusCode, json: Bytes) -> Self {
        Self { status, json, headers: Vec::new() }
    }

    fn json(status: StatusCode, value: &Value) -> Self {
        Self::raw(status, value.to_string().into())
    }

    fn with(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// `WsError`, in the words of the documentation of the interface.
    pub(super) fn not_connected(ucsid: &str) -> Self {
        Self::away(&format!("server not connected here: [{ucsid}]"))
    }

    /// The same for another reason.
    pub(super) fn away(details: &str) -> Self {
        let error = json!({
            "_type": "WsError",
            "iErrorDetail": NOT_CONNECTED,
            "u8sErrorString": "UCServer is not connected here",
            "details": details,
        });
        Self::json(StatusCode::BAD_GATEWAY, &json!({ "error": error }))
    }

    /// And with when it is worth another try.
    pub(super) fn busy(seconds: i64) -> Self {
        Self::away("the server is busy").with(RETRY_AFTER, seconds.max(0).into())
    }

    /// Nobody was logged in.
    pub(super) fn logon_error(status: StatusCode, failure: &Failure) -> Self {
        let Failure { detail, words, session, id } = failure;
        Self::json(
            status,
            &json!({
                "error": {
                    "_type": "AsnLogonError",
                    "iErrorDetail": detail,
                    "sAuthCredetials": "",
                    "u8sErrorString": words,
                    "u8sFailedUser": "",
                },
                "error_value": 0,
                "invokedID": id,
                "sessionID": &**session,
            }),
        )
    }

    /// One more way to show who one is.
    pub(super) fn challenged(self, challenge: &str) -> Self {
        match HeaderValue::try_from(challenge) {
            Ok(challenge) => self.with(WWW_AUTHENTICATE, challenge),
            Err(_) => self,
        }
    }

    /// One more round of a login.
    pub(super) fn one_more_round(scheme: &str, blob: &str) -> Self {
        let reply = Self::json(StatusCode::UNAUTHORIZED, &json!({}));
        reply.challenged(&format!("{scheme} {blob}"))
    }

    /// There is no such session. The public sources do not say how that is answered.
    pub(super) fn no_session() -> Self {
        Self::rejected(8, "invalid session")
    }

    /// What was asked cannot be read. Nor do they say that.
    pub(super) fn unreadable(why: &Unreadable) -> Self {
        Self::rejected(2, why.0)
    }

    fn rejected(problem: i64, details: &str) -> Self {
        let reject = json!({
            "invokedID": {"invokednull": 0},
            "reject": {"invokeProblem": problem},
            "details": details,
        });
        Self::json(StatusCode::BAD_REQUEST, &json!({ "reject": reject }))
    }

    /// The body is too long, or too long on its way.
    pub(super) fn too_much(status: StatusCode) -> Self {
        Self { status, ..Self::rejected(3, "the body takes too much, or too long") }
    }

    /// In its clothes.
    pub(super) fn dressed(self, dress: Dress) -> Response<Body> {
        let Self { mut status, mut json, headers } = self;
        let mut kind = HeaderValue::from_static("application/json;charset=utf-8");
        if let Some(callback) = dress.callback {
            // A page that loads this as a script sees nothing of what is not 200.
            status = StatusCode::OK;
            json = [callback.as_bytes(), b"(", &*json, b");"].concat().into();
            kind = HeaderValue::from_static("application/javascript;charset=utf-8");
        }
        let mut response = Response::new(full(json));
        *response.status_mut() = status;
        let into = response.headers_mut();
        into.insert(CONTENT_TYPE, kind);
        into.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        for (name, value) in headers {
            into.append(name, value);
        }
        allow_origin(&mut response, dress.origin);
        response
    }
}

impl Dress {
    pub(super) fn of(request: &Request) -> Result<Self, Unreadable> {
        Ok(Self { origin: request.origin(), callback: request.callback()? })
    }

    /// The same where a script cannot be the answer.
    pub(super) fn plain(request: &Request) -> Self {
        Self { origin: request.origin(), callback: None }
    }

    pub(super) const fn is_script(&self) -> bool {
        self.callback.is_some()
    }
}

/// A browser asks whether a page of another origin may ask.
pub(super) fn preflight(request: &Request) -> Response<Body> {
    let mut response = empty(StatusCode::NO_CONTENT);
    response.headers_mut().insert(ALLOW, METHODS);
    allow_origin(&mut response, request.origin());
    response
}

/// Nothing but a status.
pub(super) fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = status;
    response
}

/// Only some methods are for here.
pub(super) fn other_method() -> Response<Body> {
    let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
    response.headers_mut().insert(ALLOW, METHODS);
    response
}

pub(super) fn full(bytes: Bytes) -> Body {
    boxed(Full::new(bytes))
}

/// A body that cannot fail.
pub(super) fn boxed(
    body: impl hyper::body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
) -> Body {
    body.map_err(|never| match never {}).boxed_unsync()
}

fn allow_origin(response: &mut Response<Body>, origin: Option<HeaderValue>) {
    let Some(origin) = origin else { return };
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HEADERS);
    headers.insert(VARY, HeaderValue::from_static("Origin"));
}
