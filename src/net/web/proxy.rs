//! What streams through: ProCall Web's pages, public presence, whatever no session of ours is needed for.

use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::header::{self, HeaderValue};
use hyper::{Request as HttpRequest, Response, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional;
use tokio::time::timeout;

use crate::door::PlaneStatus;
use crate::net::web::exchange::{
    Body, From, Patient, request_of, response_of, strip_hop, tell_origin, whole,
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
        from: From,
    ) -> Response<Body> {
        let Ok(place) = Arc::clone(&self.streams).try_acquire_owned() else {
            return self.refuse(StatusCode::SERVICE_UNAVAILABLE, "too many requests are under way");
        };
        let Some(server) = self.server_for(&request, from) else {
            Counts::one(&self.counts.unanswered);
            return response_of(words::not_connected("no server is there", Some(10)));
        };
        Counts::one(&self.counts.streamed);
        let turns = is_asked_for(request.headers()).then(|| hyper::upgrade::on(&mut request));
        let Some((request, fault)) = self.rewritten(request, server, from, turns.is_some()) else {
            return self.refuse(StatusCode::BAD_REQUEST, "this cannot be passed on");
        };
        let limits = self.settings.limits;
        let mut response = match timeout(limits.answer_patience, self.client.request(request)).await
        {
            Ok(Ok(response)) => response,
            Ok(Err(_)) if fault.load(Ordering::Relaxed) => {
                return self
                    .refuse(StatusCode::BAD_REQUEST, "the body cannot be read, or took too long");
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
            let (head, _) = response.into_parts();
            return Response::from_parts(head, whole(""));
        }
        let (mut head, body) = response.into_parts();
        strip_hop(&mut head.headers);
        let body = Patient::new(body, limits.body_patience);
        let body = body.map_frame(move |frame| {
            // The place is taken until the last octet has left.
            let _taken = &place;
            frame
        });
        Response::from_parts(head, body.boxed_unsync())
    }

    /// The request as a server gets it, and whether its body has failed.
    fn rewritten(
        &self,
        request: HttpRequest<Incoming>,
        server: SocketAddr,
        from: From,
        turns: bool,
    ) -> Option<(HttpRequest<Body>, Arc<AtomicBool>)> {
        let (mut head, body) = request.into_parts();
        let target = head.uri.path_and_query().map_or("/", |it| it.as_str());
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

    /// A server that serves: that of the session a request names, else the same one for the same source.
    fn server_for(&self, request: &HttpRequest<Incoming>, from: From) -> Option<SocketAddr> {
        let mut named = HttpRequest::new(()).into_parts().0;
        named.uri = request.uri().clone();
        named.headers = request.headers().clone();
        let named = request_of(&named, hyper::body::Bytes::new(), from).session();
        let session = named.and_then(|name| self.session_named(&name));
        let stuck = session.and_then(|session| session.server.get());
        stuck.or_else(|| self.any_server(from.remote.ip()))
    }

    /// The same for the same source as long as the same serve.
    pub(super) fn any_server(&self, source: IpAddr) -> Option<SocketAddr> {
        let snapshot = self.handle.snapshot();
        let serves = |name: &Arc<str>| {
            let status = snapshot.as_ref().map(|snapshot| &snapshot.status);
            let known = status.and_then(|it| it.servers.iter().find(|it| it.name == *name));
            let is_dead =
                |plane: &PlaneStatus| &*plane.plane == "client" && &*plane.state == "dead";
            known.is_some_and(|server| {
                SERVING.contains(&&*server.state) && !server.planes.iter().any(is_dead)
            })
        };
        let source = source_of(source);
        let weight = |name: &str| {
            use std::hash::{Hash as _, Hasher as _};
            let mut hasher = std::hash::DefaultHasher::new();
            (source, name).hash(&mut hasher);
            hasher.finish()
        };
        let there = self.settings.servers.iter().filter_map(|(name, web)| Some((name, (*web)?)));
        let serving = there.filter(|(name, _)| serves(name));
        serving.max_by_key(|(name, _)| weight(name)).map(|(_, web)| web)
    }
}
