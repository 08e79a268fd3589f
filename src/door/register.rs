//! The REGISTERs the door writes (M1, M2); what becomes of them is told in `registered`.
//!
//! Towards a server the door is its own user agent: one Call-ID per binding, server and life of
//! the door, a rising CSeq; what the phone said (Request-URI, To, contact and its parameters) is
//! kept.

use bytes::Bytes;

use crate::cluster::ServerId;
use crate::door::binding::{By, Said};
use crate::door::sample::Sample;
use crate::door::slots::SlotId;
use crate::door::{Asked, BRANCH_TO_SERVER, Door};
use crate::now::Now;
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
    ) {
        let Some(waiting) = self.waiting.get(id) else { return };
        let Some(update) = waiting.updates.get(index) else { return };
        let (request, binding, phone_cseq) = (waiting.request.clone(), update.binding, update.cseq);
        let by = self.lanes[server.index()].by;
        let kept = binding.and_then(|binding| self.bindings.get(binding));
        let said = update.said.clone().or_else(|| kept.map(|binding| binding.said.clone()));
        let removes = update.said.is_none();
        let Some(said) = said.or_else(|| said_of_query(&request)) else { return };
        let expires_s = if removes { 0 } else { self.expiry_for(server) };
        let cseq = match binding {
            Some(binding) => self.next_cseq(binding),
            None => phone_cseq,
        };
        let draft = Draft {
            server,
            binding,
            by,
            said: &said,
            expires_s,
            cseq,
            credentials: Some(&request),
            query: binding.is_none(),
        };
        let what = What::Update { waiting: id, index };
        let sent = Sent { server, binding, by, what, asked_s: expires_s, again };
        self.send_register(now, &draft, sent);
    }

    /// A first registration elsewhere, or a refresh, by the door alone.
    pub(super) fn register_for_door(
        &mut self,
        now: Now,
        server: ServerId,
        id: SlotId,
        again: bool,
    ) {
        let by = self.lanes[server.index()].by;
        let asked_s = self.expiry_for(server);
        let Some(version) = self.bindings.get(id).map(|binding| binding.version) else { return };
        let what = What::Register { version };
        self.send_for_door(now, id, Sent { server, binding: Some(id), by, what, asked_s, again });
    }

    /// A removal by the door alone.
    pub(super) fn remove_for_door(&mut self, now: Now, server: ServerId, by: By, id: SlotId) {
        let what = What::Remove;
        let sent = Sent { server, binding: Some(id), by, what, asked_s: 0, again: false };
        self.send_for_door(now, id, sent);
    }

    /// A question about a binding: no contact, and a Call-ID of its own.
    pub(super) fn query(&mut self, now: Now, server: ServerId, sample: Sample) {
        let Some(binding) = self.bindings.get(sample.binding) else { return };
        let said = binding.said.clone();
        let lane = &mut self.lanes[server.index()];
        // RFC 3261 §8.1.1.5: below 2**31.
        lane.sampling.cseq = (lane.sampling.cseq + 1) & 0x7fff_ffff;
        let (by, cseq) = (lane.by, lane.sampling.cseq);
        let draft = Draft {
            server,
            binding: None,
            by,
            said: &said,
            expires_s: 0,
            cseq,
            credentials: None,
            query: true,
        };
        let what = What::Sample(sample);
        let sent = Sent { server, binding: None, by, what, asked_s: 0, again: false };
        self.send_register(now, &draft, sent);
    }

    fn send_for_door(&mut self, now: Now, id: SlotId, sent: Sent) {
        let cseq = self.next_cseq(id);
        let Some(said) = self.bindings.get(id).map(|binding| binding.said.clone()) else { return };
        let draft = Draft {
            server: sent.server,
            binding: Some(id),
            by: sent.by,
            said: &said,
            expires_s: sent.asked_s,
            cseq,
            credentials: None,
            query: false,
        };
        self.send_register(now, &draft, sent);
    }

    fn send_register(&mut self, now: Now, draft: &Draft<'_>, sent: Sent) {
        let branch = self.branch(BRANCH_TO_SERVER);
        let bytes = self.write_register(draft, &branch);
        let lane = &mut self.lanes[draft.server.index()];
        lane.start(now.uptime);
        let flow = lane.flow;
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
        let via = format!(
            "SIP/2.0/{} {};branch={branch};rport",
            listener.transport.via_name(),
            listener.advertised
        );
        let from = if saying.from.is_empty() {
            saying.to.to_vec()
        } else {
            [b"<", saying.from, b">"].concat()
        };
        let tag = format!(";tag={:x}-{binding:x}", self.life);
        let call_id = format!("{:x}-{binding:x}-{:x}", self.life, draft.server.0);
        let mut request = Request::new("REGISTER", saying.request_uri)
            .header(HeaderName::Via, via)
            .header(HeaderName::MaxForwards, "70")
            .header(HeaderName::From, [from.as_slice(), tag.as_bytes()].concat())
            .header(HeaderName::To, saying.to)
            .header(HeaderName::CallId, call_id)
            .header(HeaderName::CSeq, format!("{} REGISTER", draft.cseq));
        if let (false, Some(binding)) = (draft.query, draft.binding) {
            let way_back = self.way_back(draft.server, binding);
            let uri = match draft.by {
                By::Path => saying.contact,
                By::Contact => way_back.as_bytes(),
            };
            let mut contact = Vec::with_capacity(uri.len() + saying.params.len() + 32);
            if !saying.display.is_empty() {
                contact.extend_from_slice(saying.display);
                contact.push(b' ');
            }
            contact.push(b'<');
            contact.extend_from_slice(uri);
            contact.push(b'>');
            contact.extend_from_slice(saying.params);
            contact.extend_from_slice(format!(";expires={}", draft.expires_s).as_bytes());
            request = request.header(HeaderName::Contact, contact);
            if draft.by == By::Path {
                request = request.header(HeaderName::Path, format!("<{way_back};lr>"));
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

    /// The URI by which a server reaches a binding through the door.
    pub(super) fn way_back(&self, server: ServerId, binding: SlotId) -> String {
        let lane = &self.lanes[server.index()];
        let listener = &self.settings.listeners[usize::from(lane.flow.listener.0)];
        let token = self.tokens.issue(binding);
        let transport = match listener.transport {
            Transport::Udp => "",
            Transport::Tcp => ";transport=tcp",
        };
        format!("sip:{token}@{}{transport}", listener.advertised)
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
