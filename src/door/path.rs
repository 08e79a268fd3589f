//! Requests from servers along the Path to phones, and the answers back (RFC 3327 §5, RFC 3261 §16).

use crate::door::edge::refuse_extensions;
use crate::door::slots::SlotId;
use crate::door::{Asked, BRANCH_TO_PHONE, Door, Side};
use crate::now::Now;
use crate::sip::transaction::{Incoming, ServerTransactionId};
use crate::sip::{
    ConnectionId, Edit, Flow, HeaderName, Message, NameAddr, Response, Transport, Uri,
};

/// A server's request that is on its way to a phone.
#[derive(Debug)]
pub(crate) struct Carried {
    transaction: ServerTransactionId,
    /// The request as the server sent it, for an answer of our own.
    request: Message,
    from: Flow,
}

/// How a server named the binding it means.
enum Named {
    /// By our Path URI in the topmost Route.
    Route(SlotId),
    /// By a contact that points at us, in the Request-URI.
    Target(SlotId),
    /// It means the door itself.
    Door,
    /// By something that is not ours.
    Forged,
}

impl Door {
    /// A request that arrived where servers are expected.
    pub(super) fn on_server_request(&mut self, now: Now, flow: Flow, request: &Message) {
        if !self.is_server(flow.remote.ip()) {
            self.stats.path_rejected += 1;
            return self.answer(now, flow, request, Response::to(request, 403));
        }
        let method = request.method().unwrap_or_default();
        match (self.named(request), method) {
            (Named::Door, "OPTIONS") => self.answer_options(now, flow, request),
            (Named::Forged, _) => {
                self.stats.path_rejected += 1;
                self.answer(now, flow, request, Response::to(request, 403));
            }
            (Named::Route(id), "OPTIONS") => self.carry_along(now, flow, request, id, false),
            (Named::Target(id), "OPTIONS") => self.carry_along(now, flow, request, id, true),
            (Named::Door | Named::Route(_) | Named::Target(_), _) => {
                self.refuse_method(now, flow, request);
            }
        }
    }

    fn named(&self, request: &Message) -> Named {
        if let Some(route) = request.values(HeaderName::Route).next() {
            let Ok(uri) = NameAddr::parse(route).and_then(|route| route.parsed_uri()) else {
                return Named::Forged;
            };
            return match uri.user.and_then(|token| self.tokens.read(token)) {
                Some(id) => Named::Route(id),
                None => Named::Forged,
            };
        }
        let Ok(uri) = Uri::parse(request.uri().unwrap_or_default()) else { return Named::Door };
        match uri.user {
            None => Named::Door,
            Some(token) => match self.tokens.read(token) {
                Some(id) => Named::Target(id),
                None => Named::Forged,
            },
        }
    }

    fn carry_along(&mut self, now: Now, flow: Flow, request: &Message, id: SlotId, rewrite: bool) {
        // RFC 3261 §16.3 step 5.
        if let Some(response) = refuse_extensions(request, &[HeaderName::ProxyRequire]) {
            return self.answer(now, flow, request, response);
        }
        let is_known = || request.top_via().is_ok_and(|via| self.transactions.knows(request, &via));
        if self.has_no_room_for_servers() && !is_known() {
            self.stats.shed_path += 1;
            return self.answer_later(now, flow, request);
        }
        let transaction = match self.transactions.receive(now.uptime, flow, request) {
            Ok(Incoming::New(transaction)) => transaction,
            Ok(Incoming::Retransmission { answer }) => {
                self.stats.retransmissions_absorbed += 1;
                if let Some((flow, bytes)) = answer {
                    self.send(flow, bytes);
                }
                return;
            }
            // Answers of phones are kept.
            Ok(Incoming::Unkept) => return,
            Ok(Incoming::Refused) => return self.shed(now, flow, request),
            Err(_) => return self.answer(now, flow, request, Response::to(request, 400)),
        };
        self.stats.path_requests += 1;
        let carried = Carried { transaction, request: request.clone(), from: flow };
        if matches!(request.max_forwards(), Ok(Some(0))) {
            return self.refuse_carried(now, carried, 483);
        }
        let Some(binding) = self.bindings.get(id).filter(|binding| !binding.gone) else {
            self.stats.path_rejected += 1;
            // RFC 5626 §5.3: the flow that the token names is no more.
            return self.refuse_carried(now, carried, 430);
        };
        let to = binding.flow;
        if to.transport.is_reliable() && to.connection == ConnectionId::ENDED {
            return self.refuse_carried(now, carried, 430);
        }
        let contact = rewrite.then(|| binding.said.saying().contact.to_vec());
        let branch = self.branch(BRANCH_TO_PHONE);
        let via = self.via_to(to, &branch);
        let mut edit = Edit::of(request).received(flow.remote);
        edit = match contact {
            Some(contact) => edit.request_uri(&contact),
            None => edit.pop_top(HeaderName::Route),
        };
        if to.transport.is_reliable() {
            // A datagram may do without; a stream is framed by it (RFC 3261 §18.3).
            edit = edit.ensure_content_length();
        }
        let bytes =
            edit.max_forwards_minus_one().push_top(HeaderName::Via, via.as_bytes()).finish();
        let method = request.method().unwrap_or_default();
        let sent = self.transactions.request(
            now.uptime,
            to,
            branch.as_bytes(),
            method,
            bytes.clone(),
            Asked::Along(Box::new(carried)),
        );
        match sent {
            Ok(_) => self.send(to, bytes),
            Err(Asked::Along(carried)) => {
                self.stats.shed_overload += 1;
                self.refuse_carried(now, *carried, 503);
            }
            Err(Asked::Register(_)) => {}
        }
    }

    fn via_to(&self, flow: Flow, branch: &str) -> String {
        let listener = &self.settings.listeners[usize::from(flow.listener.0)];
        debug_assert_eq!(listener.side, Side::Phones);
        let transport = match flow.transport {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
        };
        format!("SIP/2.0/{transport} {};branch={branch};rport", listener.advertised)
    }

    /// The phone answered: our Via comes off, the rest goes back as it is (RFC 3261 §16.7).
    pub(super) fn carry_back(&mut self, now: Now, carried: Carried, response: &Message) {
        let status = response.status().unwrap_or(500);
        let bytes = Edit::of(response).pop_top(HeaderName::Via).finish();
        let to = self.transactions.respond(now.uptime, carried.transaction, bytes.clone(), status);
        if let Some(flow) = to {
            self.send(flow, bytes);
        }
    }

    /// The phone cannot be reached.
    pub(super) fn refuse_carried(&mut self, now: Now, carried: Carried, status: u16) {
        let response = Response::to(&carried.request, status);
        let bytes = self.finish_response(carried.from, &carried.request, response);
        let to = self.transactions.respond(now.uptime, carried.transaction, bytes.clone(), status);
        if let Some(flow) = to {
            self.send(flow, bytes);
        }
    }
}
