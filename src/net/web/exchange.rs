//! Requests and answers as the core knows them ⇄ those of the HTTP library; and what one hop adds and
//! takes away.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as HttpBody, Frame, SizeHint};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request as HttpRequest, Response, StatusCode, Uri, http};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Sleep, sleep, timeout};

use crate::ucws::{Answer, Request, call};

/// Whatever can be wrong with a body.
pub(super) type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// The body of what is sent.
pub(super) type Body = UnsyncBoxBody<Bytes, BodyError>;

/// A body that is there.
pub(super) fn whole(octets: impl Into<Bytes>) -> Body {
    Full::new(octets.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Why a body was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoBody {
    TooLong,
    TooSlow,
    Broken,
}

/// As many times the patience with its next octets a whole body may take.
const WHOLE: u32 = 4;

/// Takes a whole body, of which the next octets may take so long.
pub(super) async fn collect<B>(body: B, octets: usize, patience: Duration) -> Result<Bytes, NoBody>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
    let body = Patient::new(Limited::new(body, octets), patience);
    // Octet by octet it could take for ever.
    match timeout(patience * WHOLE, body.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(NoBody::TooLong),
        Ok(Err(error)) if error.is::<TooSlow>() => Err(NoBody::TooSlow),
        Ok(Err(_)) => Err(NoBody::Broken),
        Err(_) => Err(NoBody::TooSlow),
    }
}

/// Headers that are of one hop alone (RFC 9110 §7.6.1).
const HOP: [HeaderName; 7] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// What a client says of how it wants an answer that is taken whole, and read, and renamed.
const NOT_FOR_WHOLE: [HeaderName; 8] = [
    header::CONTENT_LENGTH,
    header::EXPECT,
    header::RANGE,
    header::IF_MATCH,
    header::IF_NONE_MATCH,
    header::IF_MODIFIED_SINCE,
    header::IF_UNMODIFIED_SINCE,
    header::IF_RANGE,
];

/// What says where a request came from, or meant to go: ours alone, whatever anybody wrote there; and
/// whatever begins with `x-forwarded-`.
const FORWARDED: [&str; 5] = ["forwarded", "via", "x-real-ip", "x-original-url", "x-rewrite-url"];

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Origin {
    pub(super) remote: SocketAddr,
    pub(super) is_secure: bool,
}

impl Origin {
    pub(super) const fn scheme(&self) -> &'static str {
        if self.is_secure { "https" } else { "http" }
    }
}

/// Takes away what is of one hop alone.
pub(super) fn strip_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .filter(|name| *name != header::HOST && *name != header::AUTHORIZATION)
        .collect();
    for name in named.iter().chain(&HOP) {
        headers.remove(name);
    }
}

/// Says where a request came from (RFC 7239, and what was in use before).
pub(super) fn tell_origin(headers: &mut HeaderMap, from: Origin) {
    let is_foreign = |name: &&HeaderName| {
        FORWARDED.contains(&name.as_str()) || name.as_str().starts_with("x-forwarded-")
    };
    let foreign: Vec<HeaderName> = headers.keys().filter(is_foreign).cloned().collect();
    for name in foreign {
        headers.remove(name);
    }
    let host = headers.get(header::HOST).cloned();
    let (address, scheme) = (from.remote.ip(), from.scheme());
    let quoted = if address.is_ipv6() { format!("\"[{address}]\"") } else { address.to_string() };
    let mut forwarded = format!("for={quoted};proto={scheme}");
    if let Some(host) = host.as_ref().and_then(|host| host.to_str().ok()) {
        let is_token = |octet: u8| octet.is_ascii_alphanumeric() || b".-:[]".contains(&octet);
        if host.bytes().all(is_token) {
            forwarded.push_str(&format!(";host=\"{host}\""));
        }
    }
    let mut set = |name: &'static str, value: &str| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    };
    set("forwarded", &forwarded);
    set("x-forwarded-for", &address.to_string());
    set("x-forwarded-proto", scheme);
    if let Some(host) = host {
        headers.insert("x-forwarded-host", host);
    }
}

/// A request as the core keeps it: for servers, without what is of this hop alone.
pub(super) fn request_of(head: &http::request::Parts, body: Bytes, from: Origin) -> Request {
    let mut headers = head.headers.clone();
    strip_hop(&mut headers);
    for name in NOT_FOR_WHOLE {
        headers.remove(name);
    }
    headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    tell_origin(&mut headers, from);
    let written = |(name, value): (&HeaderName, &HeaderValue)| {
        (name.as_str().to_owned(), value.as_bytes().to_vec())
    };
    Request {
        method: head.method.as_str().to_owned(),
        target: head.uri.path_and_query().map_or("/", |it| it.as_str()).to_owned(),
        headers: headers.iter().map(written).collect(),
        body: body.to_vec(),
    }
}

/// The request for a server.
///
/// # Errors
/// It cannot be written.
pub(super) fn for_server(
    mut request: Request,
    server: SocketAddr,
) -> Result<HttpRequest<Body>, http::Error> {
    let uri: Uri = format!("http://{server}{}", request.target).parse()?;
    let method = Method::from_bytes(request.method.as_bytes())?;
    let mut built = HttpRequest::builder().method(method).uri(uri);
    for (name, value) in &request.headers {
        built = built.header(name.as_str(), value.as_slice());
    }
    built.body(whole(std::mem::take(&mut request.body)))
}

/// A call to a server: as the client made it, with the argument the core wants it to have.
pub(super) fn call_for_server(request: &Request, argument: Vec<u8>) -> Request {
    let mut call = request.clone();
    let is_as_sent =
        argument == call.body || (call.body.is_empty() && argument == call::of_query(request));
    if !is_as_sent {
        let query = call::query_without_argument(call.query());
        call.target = format!("{}?{query}", call.path());
        call.method = "POST".to_owned();
        call.body = argument;
        call.headers.retain(|(name, _)| name != "content-type");
        call.headers.push(("content-type".to_owned(), b"application/json;charset=utf-8".to_vec()));
    }
    call
}

/// Takes a server's answer.
pub(super) async fn answer_of<B>(
    response: Response<B>,
    octets: usize,
    patience: Duration,
) -> Result<Answer, NoBody>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
    let (mut head, body) = response.into_parts();
    strip_hop(&mut head.headers);
    head.headers.remove(header::CONTENT_LENGTH);
    let headers = head.headers.iter();
    let headers =
        headers.map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec()));
    let (status, headers) = (head.status.as_u16(), headers.collect());
    let body = collect(body, octets, patience).await?;
    Ok(Answer { status, headers, body, is_ours: false })
}

/// An answer for a client.
pub(super) fn response_of(answer: Answer) -> Response<Body> {
    let mut response = Response::new(whole(answer.body));
    *response.status_mut() =
        StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response
}

/// A target whose query names another UCServer, where `theirs` says how it is to be named.
pub(super) fn with_ucsid<'a>(target: &str, theirs: impl Fn(&str) -> Option<&'a str>) -> String {
    let is_named = |name: &str| name == "ucsid" || name == "x-ucsid";
    let Some((path, query)) = target.split_once('?') else { return target.to_owned() };
    let pairs = form_urlencoded::parse(query.as_bytes());
    if !pairs.clone().any(|(name, value)| is_named(&name) && theirs(&value).is_some()) {
        return target.to_owned();
    }
    let mut changed = form_urlencoded::Serializer::new(String::new());
    for (name, value) in pairs {
        let named = if is_named(&name) { theirs(&value) } else { None };
        changed.append_pair(&name, named.unwrap_or(&value));
    }
    format!("{path}?{}", changed.finish())
}

/// Whether a request proves who asks by the connection it comes by (RFC 4559).
pub(super) fn is_bound_to_connection(headers: &HeaderMap) -> bool {
    headers.get_all(header::AUTHORIZATION).iter().any(|value| {
        let scheme = value.as_bytes().split(|octet| *octet == b' ').next().unwrap_or_default();
        [&b"ntlm"[..], b"negotiate"].iter().any(|it| scheme.eq_ignore_ascii_case(it))
    })
}

/// The name of the session that a request names, in a header or in the query.
pub(super) fn session_in(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let named = headers.get("x-ucsessionid").and_then(|value| value.to_str().ok());
    let in_query = || {
        let pairs = form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes());
        let mut named = pairs.filter(|(name, _)| name == "x-ucsessionid" || name == "ucsessionid");
        named.next().map(|(_, value)| value.into_owned())
    };
    named.map(|name| name.trim().to_owned()).or_else(in_query)
}

/// The next octets of a body took too long.
#[derive(Debug, thiserror::Error)]
#[error("the next octets took too long")]
struct TooSlow;

/// A body of which the next octets may take so long, and no longer. While nobody asks for them, no
/// time passes.
pub(super) struct Patient<B> {
    body: B,
    patience: Duration,
    until: Option<Pin<Box<Sleep>>>,
    /// Whether it was whole so far.
    is_broken: Arc<AtomicBool>,
    /// Kept as long as the body is.
    place: Option<OwnedSemaphorePermit>,
}

impl<B> Patient<B> {
    pub(super) fn new(body: B, patience: Duration) -> Self {
        Self { body, patience, until: None, is_broken: Arc::default(), place: None }
    }

    /// The same with a place that is taken until the last octet has left.
    pub(super) fn at(mut self, place: OwnedSemaphorePermit) -> Self {
        self.place = Some(place);
        self
    }

    /// Whose fault it is if this cannot be sent: set once the body has failed.
    pub(super) fn fault(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.is_broken)
    }
}

impl<B> HttpBody for Patient<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BodyError>,
{
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => {
                self.until = None;
                if matches!(frame, Some(Err(_))) {
                    self.is_broken.store(true, Ordering::Relaxed);
                }
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Poll::Pending => {
                let patience = self.patience;
                let until = self.until.get_or_insert_with(|| Box::pin(sleep(patience)));
                if until.as_mut().poll(context).is_pending() {
                    return Poll::Pending;
                }
                self.is_broken.store(true, Ordering::Relaxed);
                Poll::Ready(Some(Err(TooSlow.into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http_body_util::channel::Channel;
    use tokio::time::Instant;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_take_its_time_but_not_between_its_octets_nor_for_ever() {
        for (pause, pieces, taken) in [
            (PATIENCE / 2, 3, Ok(())),
            (PATIENCE * 2, 3, Err(NoBody::TooSlow)),
            // Octet by octet, each in time.
            (PATIENCE / 2, 100, Err(NoBody::TooSlow)),
            (PATIENCE / 10, 30, Err(NoBody::TooLong)),
        ] {
            let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
            tokio::spawn(async move {
                for _ in 0..pieces {
                    sleep(pause).await;
                    // Whoever has had enough does not listen any more.
                    let _enough = sender.send_data(Bytes::from_static(b"x")).await;
                }
            });
            let began = Instant::now();
            let most = if taken == Err(NoBody::TooLong) { 20 } else { 1_000 };
            let body = collect(body, most, PATIENCE).await;
            assert_eq!(body.map(|_| ()), taken, "{pause:?} {pieces}");
            assert!(began.elapsed() <= PATIENCE * WHOLE, "{pause:?} {pieces}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn while_nobody_asks_for_octets_no_time_passes_and_whose_fault_it_was_is_known() {
        let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
        let mut body = Patient::new(body, PATIENCE);
        let fault = body.fault();
        sender.send_data(Bytes::from_static(b"x")).await.unwrap();
        assert!(body.frame().await.unwrap().is_ok());
        // The reader is slow: that is not the writer's fault.
        sleep(PATIENCE * 3).await;
        let writer = async {
            sleep(PATIENCE / 2).await;
            sender.send_data(Bytes::from_static(b"y")).await
        };
        let (read, _) = tokio::join!(body.frame(), writer);
        assert!(read.unwrap().is_ok() && !fault.load(Ordering::Relaxed));
        assert!(body.frame().await.unwrap().is_err(), "nothing comes any more");
        assert!(fault.load(Ordering::Relaxed));
    }

    #[test]
    fn what_is_of_one_hop_does_not_go_on_and_nobody_says_for_us_where_it_came_from() {
        let mut seen = headers(&[
            ("host", "door.example:7224"),
            ("connection", "keep-alive, x-own, authorization"),
            ("x-own", "1"),
            ("authorization", "Basic x"),
            ("upgrade", "h2c"),
            ("transfer-encoding", "chunked"),
            ("x-forwarded-for", "203.0.113.1"),
            ("x-forwarded-port", "1"),
            ("x-real-ip", "203.0.113.1"),
            ("forwarded", "for=203.0.113.1"),
            ("accept", "text/html"),
        ]);
        strip_hop(&mut seen);
        let remote = SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 4711));
        tell_origin(&mut seen, Origin { remote, is_secure: true });
        let mut names: Vec<&str> = seen.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(
            names,
            [
                "accept",
                "authorization",
                "forwarded",
                "host",
                "x-forwarded-for",
                "x-forwarded-host",
                "x-forwarded-proto"
            ]
        );
        let forwarded = "for=\"[2001:db8::1]\";proto=https;host=\"door.example:7224\"";
        assert_eq!(seen["forwarded"], forwarded);
        assert_eq!(
            (&seen["x-forwarded-for"], &seen["x-forwarded-proto"]),
            (&HeaderValue::from_static("2001:db8::1"), &HeaderValue::from_static("https"))
        );
    }

    #[test]
    fn a_session_is_named_in_a_header_or_in_the_query() {
        for (lines, uri, named) in [
            (&[("x-ucsessionid", " A ")][..], "/x?ucsessionid=B", Some("A")),
            (&[], "/x?x-ucsessionid=B%31", Some("B1")),
            (&[], "/x?a=b&ucsessionid=C", Some("C")),
            (&[], "/x", None),
        ] {
            let found = session_in(&headers(lines), &uri.parse().unwrap());
            assert_eq!(found.as_deref(), named, "{uri}");
        }
    }

    #[test]
    fn a_server_of_the_pool_is_named_as_the_one_that_is_asked_is_called() {
        let theirs = |said: &str| (said == "ucs1").then_some("a b");
        for (target, changed) in [
            ("/x?ucsid=ucs1&y=%2B", "/x?ucsid=a+b&y=%2B"),
            ("/x?ucsid=local&y=%2b", "/x?ucsid=local&y=%2b"),
            ("/x?other=ucs1", "/x?other=ucs1"),
            ("/x", "/x"),
        ] {
            assert_eq!(with_ucsid(target, theirs), changed);
        }
    }
}
