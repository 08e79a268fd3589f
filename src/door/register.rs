//! The REGISTERs the door writes (M1, M2); what becomes of them is told in `registered`.
//!
//! Towards a server the door is its own user agent: one Call-ID per binding, server and life of
//! the door, a rising CSeq; what the phone said (Request-URI, To, contact and its parameters) is
//! kept.

use std::io::Write as _;

use bytes::Bytes;

use crate::cluster::ServerId;
use crate::door::binding::{By, Said};
use crate::door::sample::Sample;
use crate::door::slots::SlotId;
use crate::door::systems::SystemSet;
use crate::door::token::Token;
use crate::door::update::Update;
use crate::door::{Asked, BRANCH_TO_SERVER, Door, Listener};
use crate::now::Now;
use crate::sip;
use crate::sip::{HeaderName, Message, Request, Transport};

/// A REGISTER of ours that is out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    pub(crate) server: ServerId,
    pub(crate) binding: Option<SlotId>,
    pub(crate) by: By,
    pub(crate) what: What,
    /// The expiry asked for.
    pub(crate) asked_s: u64,
    /// Asked a second time, because the server found the first expiry too brief.
    pub(crate) again: bool,
    /// What its Path, or its contact, names the binding by.
    pub(crate) token: Token,
    /// The telephone systems that hear of it.
    pub(crate) systems: SystemSet,
}

/// What a [`Sent`] is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// An update of a waiting REGISTER.
    Update { waiting: SlotId, index: usize },
    /// A registration by the door, of this version.
    Register { version: u32 },
    /// A removal by the door.
    Remove,
    /// A question whether a binding is held (H8).
    Sample(Sample),
}

/// One REGISTER to be written.
struct Draft<'a> {
    server: ServerId,
    binding: Option<SlotId>,
    by: By,
    said: &'a Said,
    expires_s: u64,
    cseq: u32,
    /// The phone's request, whose credentials travel along.
    credentials: Option<&'a Message>,
    /// Ask only: no contact.
    query: bool,
    token: Token,
}

impl Door {
    /// An update a phone waits for; credentials travel along.
    pub(super) fn register_for_phone(
        &mut self,
        now: Now,
        server: ServerId,
        id: SlotId,
        index: usize,
        again: bool,
        systems: SystemSet,
    ) {
        let update = self.waiting.get(id).and_then(|waiting| waiting.updates.get(index));
        let Some(&Update { binding, cseq: phone_cseq, ref said, .. }) = update else { return };
        let expires_s = if said.is_none() { 0 } else { self.expiry_for(server) };
        let by = self.lanes[server.index()].by;
        let (cseq, token) = match binding {
            Some(binding) => (self.next_cseq(binding), self.tokens.issue(binding)),
            None => (phone_cseq, Token::default()),
        };
        let branch = self.branch(BRANCH_TO_SERVER);
        let Some(waiting) = self.waiting.get(id) else { return };
        let request = &waiting.request;
        let staged = waiting.updates.get(index).and_then(|update| update.said.as_ref());
        let kept = binding.and_then(|binding| self.bindings.get(binding));
        let query = if binding.is_none() { said_of_query(request) } else { None };
        let said = staged.or_else(|| kept.map(|binding| &binding.said)).or(query.as_ref());
        let Some(said) = said else { return };
        let draft = Draft {
            server,
            binding,
            by,
            said,
            expires_s,
            cseq,
            credentials: Some(request),
            query: binding.is_none(),
            token,
        };
        let bytes = self.write_register(&draft, &branch);
        let what = What::Update { waiting: id, index };
        let sent = Sent { server, binding, by, what, asked_s: expires_s, again, token, systems };
        self.send_register(now, &branch, bytes, sent);
    }

    /// A first registration elsewhere, or a refresh, by the door alone.
    pub(super) fn register_for_door(
        &mut self,
        now: Now,
        server: ServerId,
        id: SlotId,
        again: bool,
        systems: SystemSet,
    ) {
        let by = self.lanes[server.index()].by;
        let asked_s = self.expiry_for(server);
        let Some(version) = self.bindings.get(id).map(|binding| binding.version) else { return };
        let what = What::Register { version };
        let token = self.tokens.issue(id);
        let sent = Sent { server, binding: Some(id), by, what, asked_s, again, token, systems };
        self.send_for_door(now, id, sent);
    }

    /// A removal by the door alone.
    pub(super) fn remove_for_door(&mut self, now: Now, server: ServerId, by: By, id: SlotId) {
        let what = What::Remove;
        let token = self.tokens.issue(id);
        let (asked_s, again, systems) = (0, false, SystemSet::NONE);
        let sent = Sent { server, binding: Some(id), by, what, asked_s, again, token, systems };
        self.send_for_door(now, id, sent);
    }

    /// A question about a binding: no contact, and a Call-ID of its own.
    pub(super) fn query(&mut self, now: Now, server: ServerId, sample: Sample) {
        let lane = &mut self.lanes[server.index()];
        // RFC 3261 §8.1.1.5: below 2**31.
        lane.sampling.cseq = (lane.sampling.cseq + 1) & 0x7fff_ffff;
        let (by, cseq, token) = (lane.by, lane.sampling.cseq, Token::default());
        let branch = self.branch(BRANCH_TO_SERVER);
        let Some(binding) = self.bindings.get(sample.binding) else { return };
        let draft = Draft {
            server,
            binding: None,
            by,
            said: &binding.said,
            expires_s: 0,
            cseq,
            credentials: None,
            query: true,
            token,
        };
        let bytes = self.write_register(&draft, &branch);
        let what = What::Sample(sample);
        let (asked_s, again, systems) = (0, false, SystemSet::NONE);
        let sent = Sent { server, binding: None, by, what, asked_s, again, token, systems };
        self.send_register(now, &branch, bytes, sent);
    }

    fn send_for_door(&mut self, now: Now, id: SlotId, sent: Sent) {
        let cseq = self.next_cseq(id);
        let branch = self.branch(BRANCH_TO_SERVER);
        let Some(binding) = self.bindings.get(id) else { return };
        let draft = Draft {
            server: sent.server,
            binding: Some(id),
            by: sent.by,
            said: &binding.said,
            expires_s: sent.asked_s,
            cseq,
            credentials: None,
            query: false,
            token: sent.token,
        };
        let bytes = self.write_register(&draft, &branch);
        self.send_register(now, &branch, bytes, sent);
    }

    fn send_register(&mut self, now: Now, branch: &str, bytes: Bytes, sent: Sent) {
        let lane = &mut self.lanes[sent.server.index()];
        if lane.pacer.in_flight() == 0 {
            lane.silent_since = now.uptime;
        }
        lane.pacer.start(now.uptime);
        let flow = lane.flow;
        self.systems.start(now.uptime, sent.server, sent.systems);
        let request = self.transactions.request(
            now.uptime,
            flow,
            branch.as_bytes(),
            "REGISTER",
            bytes.clone(),
            Asked::Register(sent),
        );
        match request {
            Ok(_) => {
                self.stats.upstream_registers += 1;
                self.send(flow, bytes);
            }
            Err(_) => {
                self.stats.shed_overload += 1;
                self.on_unsent(now, sent);
            }
        }
    }

    fn write_register(&self, draft: &Draft<'_>, branch: &str) -> Bytes {
        let lane = &self.lanes[draft.server.index()];
        let listener = &self.settings.listeners[usize::from(lane.flow.listener.0)];
        let saying = draft.said.saying();
        let binding = draft.binding.map_or(0, SlotId::to_u64);
        let (life, server) = (self.life, draft.server.0);
        // Writing to a Vec cannot fail.
        let mut request = Request::new("REGISTER", saying.request_uri)
            .header_with(HeaderName::Via, |out| {
                put(out, &[b"SIP/2.0/", listener.transport.via_name().as_bytes(), b" "]);
                put(out, &[listener.advertised.as_bytes(), b";branch=", branch.as_bytes()]);
                put(out, &[b";rport"]);
            })
            .header(HeaderName::MaxForwards, "70")
            .header_with(HeaderName::From, |out| {
                match saying.from {
                    [] => put(out, &[saying.to]),
                    from => put(out, &[b"<", from, b">"]),
                }
                _ = write!(out, ";tag={life:x}-{binding:x}");
            })
            .header(HeaderName::To, saying.to)
            .header_with(HeaderName::CallId, |out| {
                _ = write!(out, "{life:x}-{binding:x}-{server:x}");
            })
            .header_with(HeaderName::CSeq, |out| {
                sip::append_number(out, draft.cseq.into());
                put(out, &[b" REGISTER"]);
            });
        if !draft.query && draft.binding.is_some() {
            request = request.header_with(HeaderName::Contact, |out| {
                put(out, &[saying.display, if saying.display.is_empty() { b"" } else { b" " }]);
                out.push(b'<');
                match draft.by {
                    By::Path => put(out, &[saying.contact]),
                    By::Contact => write_way_back(out, listener, draft.token),
                }
                put(out, &[b">", saying.params, b";expires="]);
                sip::append_number(out, draft.expires_s);
            });
            if draft.by == By::Path {
                request = request.header_with(HeaderName::Path, |out| {
                    out.push(b'<');
                    write_way_back(out, listener, draft.token);
                    put(out, &[b";lr>"]);
                });
                if !saying.path.is_empty() {
                    request = request.header(HeaderName::Path, saying.path);
                }
                request = request.header(HeaderName::Supported, "path");
            }
        }
        for name in [HeaderName::Authorization, HeaderName::ProxyAuthorization] {
            for line in draft.credentials.iter().flat_map(|phone| phone.lines(name)) {
                if self.is_for_another(draft.server, line) {
                    continue;
                }
                request = request.header(name, line);
            }
        }
        request.finish()
    }

    fn next_cseq(&mut self, id: SlotId) -> u32 {
        self.bindings.get_mut(id).map_or(1, |binding| {
            // RFC 3261 §8.1.1.5: below 2**31.
            binding.upstream_cseq = (binding.upstream_cseq + 1) & 0x7fff_ffff;
            binding.upstream_cseq
        })
    }

    pub(super) fn expiry_for(&self, server: ServerId) -> u64 {
        let least = u64::from(self.lanes[server.index()].expiry_min_s);
        self.settings.sip.expiry.as_secs().max(least)
    }
}

fn put(out: &mut Vec<u8>, parts: &[&[u8]]) {
    for part in parts {
        out.extend_from_slice(part);
    }
}

/// The URI by which a server reaches a binding through the door.
fn write_way_back(out: &mut Vec<u8>, listener: &Listener, token: Token) {
    put(out, &[b"sip:", token.as_bytes(), b"@", listener.advertised.as_bytes()]);
    match listener.transport {
        Transport::Udp => {}
        Transport::Tcp => put(out, &[b";transport=tcp"]),
    }
}

/// A query has no contact, but a Request-URI and a To.
fn said_of_query(request: &Message) -> Option<Said> {
    let to = request.to().ok()?;
    let to = [b"<", to.uri, b">"].concat();
    Said::pack(&crate::door::binding::Saying {
        request_uri: request.uri()?,
        to: &to,
        ..Default::default()
    })
}
