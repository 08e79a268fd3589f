//! A message arrives: what can be answered at once is answered here, the rest goes its way.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use crate::cluster::health::Observation;
use crate::cluster::{Plane, ServerId};
use crate::door::wish::{Refusal, Wish, aor_of};
use crate::door::{Asked, Auth, BRANCH_TO_PHONE, Door, Output, Side};
use crate::now::Now;
use crate::sip::transaction::{Due, Incoming, Matched};
use crate::sip::{
    ConnectionId, Essentials, Flow, HeaderName, ListenerId, Message, ParseError, Response,
    Transport, Uri,
};

/// Octets of the largest REGISTER taken: what waits and what is answered repeats much of it, so this
/// bounds what a phone can make the door keep. Beyond: 513 (RFC 3261 §21.5.7).
pub(super) const REGISTER_OCTETS_MAX: usize = 8 * 1024;

/// The methods the door understands, for Allow.
const ALLOW: &str = "OPTIONS, REGISTER";

impl Door {
    /// A message that has to be read.
    pub(super) fn on_message(&mut self, now: Now, flow: Flow, bytes: &Bytes) {
        match Message::parse(bytes.clone()) {
            Ok(message) => self.read_message(now, flow, message),
            Err(fault) => self.on_unreadable(now, flow, bytes.clone(), fault),
        }
    }

    fn read_message(&mut self, now: Now, flow: Flow, message: Message) {
        if message.status().is_some() {
            return self.on_response(now, flow, &message);
        }
        let essentials = match message.read_request() {
            Ok(essentials) => essentials,
            Err(fault) => return self.refuse_malformed(now, flow, &message, fault),
        };
        let Some(listener) = self.settings.listeners.get(usize::from(flow.listener.0)) else {
            return;
        };
        // What a phone writes is told to servers, which may cut it at a null or worse.
        if listener.side == Side::Phones && message.has_control_octets() {
            return self.refuse_malformed(now, flow, &message, ParseError::NotText);
        }
        match (listener.side, message.method().unwrap_or_default()) {
            // An ACK is never answered (RFC 3261 §17.1.1.3); without INVITE it belongs to nothing.
            (_, "ACK") => self.stats.dropped_stray += 1,
            (Side::Phones, "REGISTER") => self.on_register(now, flow, &message, &essentials),
            (Side::Phones, "OPTIONS") => self.answer_options(now, flow, &message),
            (Side::Phones, _) => self.refuse_method(now, flow, &message),
            (Side::Servers, _) => self.on_server_request(now, flow, &message),
        }
    }

    fn on_register(
        &mut self,
        now: Now,
        flow: Flow,
        request: &Message,
        essentials: &Essentials<'_>,
    ) {
        self.stats.registers += 1;
        if self.turns_away_early(&essentials.to) {
            return self.answer_later(now, flow, request);
        }
        if let Some(response) = self.check_register(request) {
            self.stats.registers_refused += 1;
            return self.answer(now, flow, request, response);
        }
        let aor = match aor_of(&essentials.to) {
            Ok(aor) => aor,
            Err(fault) => return self.refuse_malformed(now, flow, request, fault),
        };
        let wish = match Wish::of(request, essentials, &self.settings.sip) {
            Ok(wish) => wish,
            Err(refusal) => return self.refuse_wish(now, flow, request, refusal),
        };
        if self.absorb(now, flow, request, &aor, &wish) {
            return;
        }
        if self.turns_away(now, flow, (request, &essentials.via), &aor) {
            return self.answer_later(now, flow, request);
        }
        match self.transactions.receive_read(now.uptime, flow, request, &essentials.via) {
            Ok(Incoming::New(transaction)) => {
                self.start_waiting(now, flow, (request, &wish), aor, transaction);
            }
            Ok(Incoming::Retransmission { answer }) => {
                self.stats.retransmissions_absorbed += 1;
                if let Some((flow, bytes)) = answer {
                    self.send(flow, bytes);
                }
            }
            Ok(Incoming::Unkept) => self.grant_again(now, flow, request, &aor),
            Ok(Incoming::Refused) => self.shed(now, flow, request),
            Err(fault) => self.refuse_malformed(now, flow, request, fault),
        }
    }

    /// RFC 3261 §8.2.2 and §10.3 steps 1 and 2, as far as they end the matter.
    fn check_register(&self, request: &Message) -> Option<Response> {
        if request.bytes().len() > REGISTER_OCTETS_MAX {
            return Some(Response::to(request, 513));
        }
        let refusal = refuse_what_is_not_understood(request);
        if refusal.is_none() && matches!(request.max_forwards(), Ok(Some(0))) {
            return Some(Response::to(request, 483));
        }
        refusal
    }

    /// Whether a phone is known by where it is (mode `none` on a trusted network).
    pub(super) fn is_trusted(&self, remote: SocketAddr) -> bool {
        self.settings.sip.auth == Auth::None
            && self.settings.sip.trusted_networks.iter().any(|net| net.contains(&remote.ip()))
    }

    /// An OPTIONS for the door itself. One that may go no further ends here, too (RFC 3261 §16.3
    /// step 3, §11).
    pub(super) fn answer_options(&mut self, now: Now, flow: Flow, request: &Message) {
        if let Some(response) = refuse_what_is_not_understood(request) {
            return self.answer(now, flow, request, response);
        }
        let response = Response::to(request, 200)
            .header(HeaderName::Allow, ALLOW)
            .header(HeaderName::Accept, "application/sdp")
            .header(HeaderName::Supported, "path");
        self.answer(now, flow, request, response);
    }

    pub(super) fn refuse_method(&mut self, now: Now, flow: Flow, request: &Message) {
        let response = Response::to(request, 405).header(HeaderName::Allow, ALLOW);
        self.answer(now, flow, request, response);
    }

    /// Too much at once: refused before anything is spent on it.
    pub(super) fn shed(&mut self, now: Now, flow: Flow, request: &Message) {
        self.stats.shed_overload += 1;
        self.answer_later(now, flow, request);
    }

    /// 503 that nothing keeps.
    pub(super) fn answer_later(&mut self, now: Now, flow: Flow, request: &Message) {
        let retry_after = self.retry_after();
        let response =
            Response::to(request, 503).header(HeaderName::RetryAfter, retry_after.to_string());
        self.answer(now, flow, request, response);
    }

    fn refuse_wish(&mut self, now: Now, flow: Flow, request: &Message, refusal: Refusal) {
        self.stats.registers_refused += 1;
        let response = self.refusal_response(request, refusal);
        self.answer(now, flow, request, response);
    }

    pub(super) fn refusal_response(&self, request: &Message, refusal: Refusal) -> Response {
        match refusal {
            Refusal::Malformed(_) | Refusal::BadContacts | Refusal::ContactScheme => {
                Response::to(request, 400)
            }
            Refusal::TooBrief => {
                let min = self.settings.sip.lease_min.as_secs().to_string();
                Response::to(request, 423).header(HeaderName::MinExpires, min)
            }
            Refusal::OutOfOrder => Response::to(request, 500),
            Refusal::TooMany => Response::to(request, 403),
        }
    }

    /// A request that cannot be read in full is still answered if its Via says who sent it.
    fn refuse_malformed(&mut self, now: Now, flow: Flow, request: &Message, fault: ParseError) {
        let answerable = request.names_its_sender() && request.method() != Some("ACK");
        if !answerable {
            self.stats.dropped_malformed += 1;
            return;
        }
        self.stats.registers_refused += u64::from(request.method() == Some("REGISTER"));
        let status = if fault == ParseError::Version { 505 } else { 400 };
        self.answer(now, flow, request, Response::to(request, status));
    }

    fn on_unreadable(&mut self, now: Now, flow: Flow, bytes: Bytes, fault: ParseError) {
        match Message::parse_for_refusal(bytes) {
            Some(request) if request.status().is_none() => {
                self.refuse_malformed(now, flow, &request, fault);
            }
            _ => self.stats.dropped_malformed += 1,
        }
    }

    /// Sends an answer that no transaction keeps: the same request would be answered the same way
    /// (RFC 3261 §8.2.7), so its To tag is made from the request.
    pub(super) fn answer(&mut self, _now: Now, flow: Flow, request: &Message, response: Response) {
        let bytes = self.finish_response(flow, request, response);
        self.send(flow, bytes);
    }

    pub(super) fn finish_response(
        &self,
        flow: Flow,
        request: &Message,
        response: Response,
    ) -> Bytes {
        let server = self.settings.sip.server_header.as_bytes();
        let response = response.header(HeaderName::Server, server);
        self.finish_without_server(flow, request, response)
    }

    /// The same where the server's own `Server` header is in the response already.
    pub(super) fn finish_without_server(
        &self,
        flow: Flow,
        request: &Message,
        response: Response,
    ) -> Bytes {
        let tag = self.tag_of(request.call_id().unwrap_or_default());
        response.received(flow.remote).to_tag(tag.as_bytes()).finish()
    }

    /// Our To tag in every answer to this request.
    pub(super) fn tag_of(&self, call_id: &[u8]) -> Tag {
        Tag::of(hash_of(self.life, call_id))
    }

    fn on_response(&mut self, now: Now, flow: Flow, response: &Message) {
        let (Ok(Essentials { via, cseq, .. }), Some(status)) =
            (response.read_response(), response.status())
        else {
            self.stats.dropped_malformed += 1;
            return;
        };
        let branch = via.branch().unwrap_or_default();
        if !self.may_answer(flow, branch) {
            self.stats.dropped_stray += 1;
            return;
        }
        if self.on_probe_answered(now, flow, response, branch) {
            return;
        }
        match self.transactions.response_read(now.uptime, status, &via, &cseq) {
            Matched::Provisional(_) => {}
            Matched::Final { context: Asked::Register(sent), sent_at } => {
                self.on_registered(now, sent, response, now.uptime.since(sent_at));
            }
            Matched::Final { context: Asked::Along(carried), .. } => {
                self.carry_back(now, *carried, response);
            }
            Matched::Absorbed => self.stats.retransmissions_absorbed += 1,
            Matched::Stray => self.stats.dropped_stray += 1,
        }
    }

    /// Whether an answer came in where the question went out: a phone that has seen a branch of
    /// ours must not be able to answer for a server.
    fn may_answer(&self, flow: Flow, branch: &[u8]) -> bool {
        let listener = self.settings.listeners.get(usize::from(flow.listener.0));
        let to_phone = branch.starts_with(BRANCH_TO_PHONE.as_bytes());
        match listener.map(|listener| listener.side) {
            Some(Side::Phones) => to_phone,
            Some(Side::Servers) => !to_phone && self.is_server(flow.remote.ip()),
            None => false,
        }
    }

    /// Whether a server of the pool lives at this address, whatever its port.
    pub(super) fn is_server(&self, ip: IpAddr) -> bool {
        self.settings.servers.iter().any(|server| server.sip.ip() == ip)
    }

    pub(super) fn drive_transactions(&mut self, now: Now) {
        while let Some(due) = self.transactions.poll(now.uptime) {
            match due {
                Due::Retransmit { flow, bytes } => {
                    self.stats.retransmissions_sent += 1;
                    self.send(flow, bytes);
                }
                Due::TimedOut { context: Asked::Register(sent) } => {
                    self.health.observe(now.uptime, sent.server, Observation::TimedOut(Plane::Sip));
                    self.on_unanswered(now, sent);
                }
                Due::TimedOut { context: Asked::Along(carried) } => {
                    self.refuse_carried(now, *carried, 408);
                }
            }
        }
    }

    pub(super) fn on_closed(&mut self, now: Now, flow: Flow, refused: bool) {
        if self.on_rose_closed(now, flow, refused) {
            return;
        }
        // A client that has said nothing yet is nobody's loss.
        let listener = self.settings.listeners.get(usize::from(flow.listener.0));
        if listener.is_none() && flow.listener != ListenerId::NONE {
            return;
        }
        // The phones behind it cannot be reached until they come back (RFC 5626 §5.3: 430).
        for id in self.streams.remove(&flow.connection).unwrap_or_default() {
            if let Some(binding) = self.bindings.get_mut(id) {
                binding.flow.connection = ConnectionId::ENDED;
            }
        }
        self.on_lost_peer(now, flow.remote, flow.transport, refused);
    }

    /// Nothing can be delivered there: whoever waits for an answer from there need not.
    pub(super) fn on_unreachable(
        &mut self,
        now: Now,
        remote: SocketAddr,
        transport: Transport,
        refused: bool,
    ) {
        self.on_lost_peer(now, remote, transport, refused);
    }

    fn on_lost_peer(&mut self, now: Now, remote: SocketAddr, transport: Transport, refused: bool) {
        self.stats.unreachable += 1;
        if let Some(server) = self.server_at(remote, transport) {
            let seen = if refused { Observation::Refused } else { Observation::Unreachable };
            let seen = seen(Plane::Sip);
            self.health.observe(now.uptime, server, seen);
            // A datagram may be refused while the server restarts; timer E tries again, and
            // health says when to stop. A stream is lost for good.
            if transport == Transport::Udp {
                return;
            }
        }
        self.fail_transactions(now, remote);
    }

    pub(super) fn fail_transactions(&mut self, now: Now, remote: SocketAddr) {
        for asked in self.transactions.take_client_by_remote(remote) {
            match asked {
                Asked::Register(sent) => self.on_unanswered(now, sent),
                Asked::Along(carried) => self.refuse_carried(now, *carried, 430),
            }
        }
    }

    pub(super) fn server_at(&self, remote: SocketAddr, transport: Transport) -> Option<ServerId> {
        let index = self
            .settings
            .servers
            .iter()
            .position(|server| server.sip == remote && server.transport == transport)?;
        Some(ServerId(index as u16))
    }

    /// Seconds for a Retry-After, spread so that they do not all come back at once (D4).
    pub(super) fn retry_after(&mut self) -> u64 {
        let policy = &self.settings.decision;
        let (low, high) = (policy.retry_after_min.as_secs(), policy.retry_after_max.as_secs());
        self.rng.u64(low..=high.max(low))
    }

    pub(super) fn record(&mut self, record: crate::directory::record::Record) {
        self.outputs.push_back(Output::Record(record));
    }
}

/// Sixteen hexadecimal digits.
pub(super) struct Tag([u8; 16]);

impl Tag {
    fn of(value: u64) -> Self {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut shift = 64;
        Self([(); 16].map(|()| {
            shift -= 4;
            DIGITS[(value >> shift) as usize & 15]
        }))
    }

    pub(super) const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A scheme that is not SIP's, or an extension the door would have to know (RFC 3261 §8.2.2.1,
/// §8.2.2.3).
fn refuse_what_is_not_understood(request: &Message) -> Option<Response> {
    let scheme = Uri::scheme_of(request.uri().unwrap_or_default()).unwrap_or_default();
    if !scheme.eq_ignore_ascii_case(b"sip") && !scheme.eq_ignore_ascii_case(b"sips") {
        return Some(Response::to(request, 416));
    }
    refuse_extensions(request, &[HeaderName::Require, HeaderName::ProxyRequire])
}

/// A 420 that lists what these headers require and the door does not know.
pub(super) fn refuse_extensions(request: &Message, headers: &[HeaderName]) -> Option<Response> {
    let mut unsupported = Vec::new();
    for option in headers.iter().flat_map(|header| request.values(*header)) {
        if !option.eq_ignore_ascii_case(b"path") {
            if !unsupported.is_empty() {
                unsupported.extend_from_slice(b", ");
            }
            unsupported.extend_from_slice(option);
        }
    }
    let extension = !unsupported.is_empty();
    extension.then(|| Response::to(request, 420).header(HeaderName::Unsupported, unsupported))
}

/// Keyed, the same for a whole life of the door.
pub(super) fn hash_of(seed: u64, text: &[u8]) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = foldhash::quality::FixedState::with_seed(seed).build_hasher();
    hasher.write(text);
    hasher.finish()
}
