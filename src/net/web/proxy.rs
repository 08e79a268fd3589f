//! What streams through: ProCall Web's pages, public presence, whatever no decision is needed for.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{HeaderMap, Request as HttpRequest, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::time::timeout;

use crate::door::{PlaneStatus, ServerStatus};
use crate::net::web::exchange::{
    Body, Origin, Patient, is_bound_to_connection, response_of, session_in, strip_hop, tell_origin,
    whole, with_ucsid,
};
use crate::net::web::{Counts, Gateway};
use crate::net::websocket::is_asked_for;
use crate::sip::source_of;
use crate::ucws::words;

/// States in which a server is asked for what any server has.
const SERVING: [&str; 6] = ["up", "degraded", "partial", "probation", "ramp", "drain"];

impl Gateway {
    /// Passes a request on to a server, and its answer back, as they come.
    pub(super) async fn stream(
        self: &Rc<Self>,
        mut request: HttpRequest<Incoming>,
        from: Origin,
    ) -> Response<Body> {
        let Ok(place) = Arc::clone(&self.streams).try_acquire_owned() else {
            return self.refuse(StatusCode::SERVICE_UNAVAILABLE, "too many requests are under way");
        };
        let named = session_in(request.headers(), request.uri());
        let session = named.and_then(|name| self.session_named(&name));
        let at = session.and_then(|it| Some((it.id.clone(), it.at.borrow().clone()?)));
        let server = at.as_ref().map(|(_, (server, _))| *server);
        let Some(server) = server.or_else(|| self.any_server(from.remote.ip())) else {
            Counts::one(&self.counts.unanswered);
            return response_of(words::not_connected("no server is there", Some(10)));
        };
        Counts::one(&self.counts.streamed);
        let turns = is_asked_for(request.headers()).then(|| hyper::upgrade::on(&mut request));
        let names = at.as_ref().map(|(ours, (_, theirs))| (&**ours, &**theirs));
        let passed = self.rewritten(request, (server, names), from, turns.is_some());
        let Some((request, fault)) = passed else {
            return self.refuse(StatusCode::BAD_REQUEST, "this cannot be passed on");
        };
        let limits = self.settings.limits;
        let bound = is_bound_to_connection(request.headers());
        let client = if bound { &self.client_once } else { &self.client };
        let mut response = match timeout(limits.answer_patience, client.request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(_)) if fault.load(Ordering::Relaxed) => {
                let words = "the body cannot be read, or took too long";
                return self.refuse(StatusCode::BAD_REQUEST, words);
            }
            Ok(Err(_)) | Err(_) => {
                Counts::one(&self.counts.unanswered);
                return response_of(words::not_connected("the server does not answer", Some(1)));
            }
        };
        if let (Some(ours), StatusCode::SWITCHING_PROTOCOLS) = (turns, response.status()) {
            let theirs = hyper::upgrade::on(&mut response);
            tokio::task::spawn_local(async move {
                if let (Ok(ours), Ok(theirs)) = (ours.await, theirs.await) {
                    let (mut ours, mut theirs) = (TokioIo::new(ours), TokioIo::new(theirs));
                    let _ended = copy_bidirectional(&mut ours, &mut theirs).await;
                }
                drop(place);
            });
            return response.map(|_| whole(""));
        }
        strip_hop(response.headers_mut());
        response.map(|body| Patient::new(body, limits.stream_patience).at(place).boxed_unsync())
    }

    /// The request as a server gets it, and whether its body has failed. `names`: what the client calls
    /// its session, and what the server does.
    fn rewritten(
        &self,
        request: HttpRequest<Incoming>,
        (server, names): (SocketAddr, Option<(&str, &str)>),
        from: Origin,
        turns: bool,
    ) -> Option<(HttpRequest<Body>, Arc<AtomicBool>)> {
        let (mut head, body) = request.into_parts();
        let mut target = head.uri.path_and_query().map_or("/", |it| it.as_str()).to_owned();
        if let Some((ours, theirs)) = names {
            target = target.replace(ours, theirs);
            rename(&mut head.headers, ours, theirs);
        }
        target = with_ucsid(&target, |said| self.ucsid_at(server, said));
        head.uri = format!("http://{server}{target}").parse::<Uri>().ok()?;
        strip_hop(&mut head.headers);
        if turns {
            head.headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
            head.headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
        }
        tell_origin(&mut head.headers, from);
        let body = Patient::new(body, self.settings.limits.body_patience);
        let fault = body.fault();
        Some((HttpRequest::from_parts(head, body.boxed_unsync()), fault))
    }

    /// The same for the same source as long as the same serve.
    fn any_server(&self, source: IpAddr) -> Option<SocketAddr> {
        let snapshot = self.handle.snapshot()?;
        let serves = |name: &Arc<str>| {
            snapshot.status.servers.iter().any(|server| server.name == *name && is_serving(server))
        };
        let weight = |name: &Arc<str>| {
            let mut hasher = DefaultHasher::new();
            (source_of(source), name).hash(&mut hasher);
            hasher.finish()
        };
        let servers = self.settings.servers.iter().filter(|server| server.address.is_some());
        let serving = servers.filter(|server| serves(&server.name));
        serving.max_by_key(|server| weight(&server.name))?.address
    }
}

fn is_serving(server: &ServerStatus) -> bool {
    let is_dead = |it: &PlaneStatus| &*it.plane == "client" && &*it.state == "dead";
    SERVING.contains(&&*server.state) && !server.planes.iter().any(is_dead)
}

fn rename(headers: &mut HeaderMap, ours: &str, theirs: &str) {
    for value in headers.values_mut() {
        if let Ok(text) = value.to_str()
            && text.contains(ours)
            && let Ok(renamed) = HeaderValue::try_from(text.replace(ours, theirs))
        {
            *value = renamed;
        }
    }
}
