//! All transactions of one core: finding them, their timers, one deadline.

use std::collections::HashMap;
use std::net::SocketAddr;

use bytes::Bytes;

use crate::now::Uptime;
use crate::sip::transaction::Timings;
use crate::sip::transaction::client::{Client, Fired};
use crate::sip::transaction::key::Draft;
use crate::sip::transaction::server::{Again, Server};
use crate::sip::transaction::table::{Handle, Table};
use crate::sip::{CSeq, Flow, Message, ParseError, Via};
use crate::timers::Timers;

/// How many transactions may be open at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests of peers, kept ones that were answered less than 64 × T1 ago included.
    pub server: usize,
    /// Requests of ours, those whose final response came less than T4 ago included.
    pub client: usize,
}

/// A request of a peer that may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ServerTransactionId(Handle);

/// A request of ours that may be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ClientTransactionId(Handle);

/// What a request of a peer is.
#[derive(Debug)]
pub enum Incoming {
    /// Seen for the first time: the owner answers it with [`Transactions::respond`].
    New(ServerTransactionId),
    /// Seen before, or an ACK: nothing for the owner to decide.
    Retransmission {
        /// What was answered and goes out again; None if the owner has not answered yet.
        answer: Option<(Flow, Bytes)>,
    },
    /// Seen before and answered with [`Transactions::respond_unkept`]: the owner answers again.
    Unkept,
    /// The table is full of requests that wait for an answer: nothing is kept, an answer would have
    /// to be made without memory.
    Refused,
}

/// What a response answers.
#[derive(Debug)]
pub enum Matched<C> {
    /// A 1xx to this request of ours, which goes on waiting.
    Provisional(ClientTransactionId),
    /// The final response. The owner has its context back and hears no more of it.
    Final {
        /// What the owner gave with the request.
        context: C,
        /// When the request was first sent.
        sent_at: Uptime,
    },
    /// A response that came after the final one (until timer K).
    Absorbed,
    /// Nothing that is open here: late, forged, meant for someone else, or unreadable in the
    /// fields that say what it answers. To be dropped and counted.
    Stray,
}

/// What a timer asks for.
#[derive(Debug)]
pub enum Due<C> {
    /// Timer E: send these bytes again.
    Retransmit {
        /// Where to.
        flow: Flow,
        /// The request as it was given.
        bytes: Bytes,
    },
    /// Timer F: no final response within 64 × T1. A later one will be [`Matched::Stray`].
    TimedOut {
        /// What the owner gave with the request.
        context: C,
    },
}

/// All non-INVITE transactions of one core, their timers and one deadline.
///
/// `C` is what the owner of a client transaction wants back. Every context that
/// [`request`](Self::request) accepts comes back exactly once: by [`Matched::Final`],
/// [`Due::TimedOut`], [`cancel`](Self::cancel) or
/// [`take_client_by_remote`](Self::take_client_by_remote).
///
/// Law of use: whenever [`next`](Self::next) has come, call [`poll`](Self::poll) until it
/// returns None. A deadline may come with nothing to do, and then moves on.
#[derive(Debug)]
pub struct Transactions<C> {
    timings: Timings,
    servers: Table<Server>,
    clients: Table<Client<C>>,
    /// How many client transactions wait for a final response from each peer.
    waiting: HashMap<SocketAddr, u32, foldhash::fast::RandomState>,
    timers: Timers<Wake>,
    unanswered: u64,
}

/// Whose wake-up comes due, by slot.
#[derive(Clone, Copy, Debug)]
enum Wake {
    /// When a server transaction ends (timer J).
    Server(u32),
    /// When a client transaction repeats itself, gives up or ends (timers E, F, K).
    Client(u32),
}

impl<C> Transactions<C> {
    /// No transactions yet.
    pub fn new(timings: Timings, limits: Limits) -> Self {
        Self {
            timings,
            servers: Table::new(limits.server),
            clients: Table::new(limits.client),
            waiting: HashMap::default(),
            timers: Timers::default(),
            unanswered: 0,
        }
    }

    /// A request came by `flow` (RFC 3261 §17.2.3). Every request of a method other than ACK that
    /// is New waits for [`respond`](Self::respond); if none comes it ends after 64 × T1 + T4.
    ///
    /// A full table forgets the request that was answered longest ago: a retransmission of it,
    /// seconds late, would be New. In the same way it forgets requests of ours that are answered: a
    /// copy of the answer would be Stray.
    ///
    /// # Errors
    ///
    /// What identifies the request cannot be read, or it is a response; nothing is kept.
    pub fn receive(
        &mut self,
        now: Uptime,
        flow: Flow,
        request: &Message,
    ) -> Result<Incoming, ParseError> {
        if request.method() == Some("ACK") {
            return Ok(Incoming::Retransmission { answer: None });
        }
        self.receive_read(now, flow, request, &request.top_via()?)
    }

    /// The same for a request whose top Via has been read.
    ///
    /// # Errors
    ///
    /// See [`receive`](Self::receive).
    pub fn receive_read(
        &mut self,
        now: Uptime,
        flow: Flow,
        request: &Message,
        via: &Via<'_>,
    ) -> Result<Incoming, ParseError> {
        let draft = Draft::of_request(request, via)?;
        if let Some(known) = self.servers.find(&draft).and_then(|handle| self.servers.get(handle)) {
            return Ok(match known.retransmission() {
                Again::Wait => Incoming::Retransmission { answer: None },
                Again::Answer(flow, bytes) => {
                    Incoming::Retransmission { answer: Some((flow, bytes)) }
                }
                Again::Owner => Incoming::Unkept,
            });
        }
        let make = |flow| Server::new(now, flow, &self.timings);
        let Ok(handle) = self.servers.insert(&draft, flow, make) else {
            return Ok(Incoming::Refused);
        };
        // No answer can end it before this, whether it is given at once or never.
        self.arm_server(handle, now + self.timings.patience());
        Ok(Incoming::New(ServerTransactionId(handle)))
    }

    /// Whether a request has been received before and is still known.
    pub fn knows(&self, request: &Message, via: &Via<'_>) -> bool {
        Draft::of_request(request, via).is_ok_and(|draft| self.servers.find(&draft).is_some())
    }

    /// The owner answers: the flow to send `response` to now. It is kept and sent again for every
    /// retransmission of the request until timer J; on a reliable transport a final response
    /// ends the transaction at once. A `status` below 200 may be followed by others.
    ///
    /// None if the transaction has its final response already or is gone: send nothing.
    pub fn respond(
        &mut self,
        now: Uptime,
        id: ServerTransactionId,
        response: Bytes,
        status: u16,
    ) -> Option<Flow> {
        let server = self.servers.get_mut(id.0)?;
        let flow = server.respond(now, response, status, &self.timings)?;
        self.answered(now, id.0);
        Some(flow)
    }

    /// The same with a final response that is not left here: a retransmission is
    /// [`Incoming::Unkept`], and the owner answers it anew.
    pub fn respond_unkept(&mut self, now: Uptime, id: ServerTransactionId) -> Option<Flow> {
        let server = self.servers.get_mut(id.0)?;
        let flow = server.complete(now, None, &self.timings)?;
        self.answered(now, id.0);
        Some(flow)
    }

    /// The flow the request came by; None if the transaction is gone.
    pub fn flow_of(&self, id: ServerTransactionId) -> Option<Flow> {
        self.servers.get(id.0).map(Server::flow)
    }

    /// The owner sends `request` on `flow` now; retransmissions come out of [`poll`](Self::poll).
    /// It has put `branch`, unique and starting with `z9hG4bK`, into the top Via, and `method`
    /// into the `CSeq`.
    ///
    /// # Errors
    ///
    /// The context, if the table is full or the branch is in use: nothing is kept, and the
    /// request must not be sent.
    pub fn request(
        &mut self,
        now: Uptime,
        flow: Flow,
        branch: &[u8],
        method: &str,
        request: Bytes,
        context: C,
    ) -> Result<ClientTransactionId, C> {
        let draft = Draft::client(branch, method);
        if self.clients.find(&draft).is_some() {
            return Err(context);
        }
        let make = |context| Client::new(now, flow, request, context, &self.timings);
        let handle = self.clients.insert(&draft, context, make)?;
        *self.waiting.entry(flow.remote).or_default() += 1;
        self.arm_client(handle);
        Ok(ClientTransactionId(handle))
    }

    /// A response came (RFC 3261 §17.1.3).
    pub fn response(&mut self, now: Uptime, response: &Message) -> Matched<C> {
        let (Ok(via), Ok(cseq), Some(status)) =
            (response.top_via(), response.cseq(), response.status())
        else {
            return Matched::Stray;
        };
        self.response_read(now, status, &via, &cseq)
    }

    /// The same for a response of which this has been read.
    pub fn response_read(
        &mut self,
        now: Uptime,
        status: u16,
        via: &Via<'_>,
        cseq: &CSeq<'_>,
    ) -> Matched<C> {
        self.matched(now, status, via, cseq).unwrap_or(Matched::Stray)
    }

    /// What the owner gave with the request, while it waits for its final response.
    pub fn context(&self, id: ClientTransactionId) -> Option<&C> {
        Some(&self.clients.get(id.0)?.sent()?.context)
    }

    /// The owner lost interest, or the transport failed: no more events, and a response that
    /// comes yet is [`Matched::Stray`]. None if the context has been handed back already.
    pub fn cancel(&mut self, id: ClientTransactionId) -> Option<C> {
        self.clients.get(id.0)?.sent()?;
        self.take_waiting(id.0)
    }

    /// Takes every client transaction that waits for a final response from `remote`, in the order
    /// they were made: the transport failed, or the server was declared dead.
    pub fn take_client_by_remote(&mut self, remote: SocketAddr) -> Vec<C> {
        if !self.waiting.contains_key(&remote) {
            return Vec::new();
        }
        let there = |client: &Client<C>| client.sent().is_some_and(|it| it.flow.remote == remote);
        let mut handles = self.clients.handles_of(there);
        handles.sort_unstable();
        handles.into_iter().filter_map(|handle| self.take_waiting(handle)).collect()
    }

    /// When to call [`poll`](Self::poll).
    pub fn next(&self) -> Option<Uptime> {
        self.timers.next()
    }

    /// One thing that is due at `now`, in the order of the deadlines. Timers J and K end
    /// transactions silently.
    pub fn poll(&mut self, now: Uptime) -> Option<Due<C>> {
        loop {
            let at = self.timers.next()?;
            match self.timers.pop_due(now)? {
                Wake::Server(slot) => self.server_woken(slot, at),
                Wake::Client(slot) => {
                    if let Some(due) = self.client_woken(now, slot, at) {
                        return Some(due);
                    }
                }
            }
        }
    }

    /// How many server and client transactions are open.
    pub fn len(&self) -> (usize, usize) {
        (self.servers.len(), self.clients.len())
    }

    /// How many of them wait for an answer; the others make room when it is needed.
    pub fn pending(&self) -> (usize, usize) {
        (self.servers.pending(), self.clients.pending())
    }

    /// How many server transactions ended because their owner never gave a final response.
    pub const fn unanswered(&self) -> u64 {
        self.unanswered
    }

    /// How many transactions were done and forgotten before timer J or K to make room.
    pub const fn forgotten(&self) -> u64 {
        self.servers.evicted() + self.clients.evicted()
    }

    fn matched(
        &mut self,
        now: Uptime,
        status: u16,
        via: &Via<'_>,
        cseq: &CSeq<'_>,
    ) -> Option<Matched<C>> {
        let handle = self.clients.find(&Draft::of_response(via, cseq)?)?;
        let client = self.clients.get_mut(handle)?;
        if status < 200 {
            return Some(if client.provisional() {
                Matched::Provisional(ClientTransactionId(handle))
            } else {
                Matched::Absorbed
            });
        }
        let Some(sent) = client.finish(now, &self.timings) else { return Some(Matched::Absorbed) };
        if client.deadline() <= now {
            self.clients.remove(handle);
        } else {
            self.clients.done(handle);
            self.arm_client(handle);
        }
        self.waits_no_more(sent.flow.remote);
        Some(Matched::Final { context: sent.context, sent_at: sent.sent_at })
    }

    /// Ends a client transaction that waits for a final response.
    fn take_waiting(&mut self, handle: Handle) -> Option<C> {
        let sent = self.clients.remove(handle)?.into_sent()?;
        self.waits_no_more(sent.flow.remote);
        Some(sent.context)
    }

    fn waits_no_more(&mut self, remote: SocketAddr) {
        if let Some(count) = self.waiting.get_mut(&remote) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.waiting.remove(&remote);
            }
        }
    }

    /// A server transaction has its final response, or its last provisional one.
    fn answered(&mut self, now: Uptime, handle: Handle) {
        let Some(server) = self.servers.get(handle) else { return };
        let ends_at = server.ends_at();
        if ends_at <= now {
            self.servers.remove(handle);
            return;
        }
        if server.is_answered() {
            self.servers.done(handle);
        }
        self.arm_server(handle, ends_at);
    }

    fn server_woken(&mut self, slot: u32, at: Uptime) {
        let Some(handle) = self.servers.woken(slot, at) else { return };
        let Some(server) = self.servers.get(handle) else { return };
        if server.ends_at() > at {
            let ends_at = server.ends_at();
            return self.arm_server(handle, ends_at);
        }
        self.unanswered += u64::from(!server.is_answered());
        self.servers.remove(handle);
    }

    fn client_woken(&mut self, now: Uptime, slot: u32, at: Uptime) -> Option<Due<C>> {
        let handle = self.clients.woken(slot, at)?;
        let client = self.clients.get_mut(handle)?;
        if client.deadline() > at {
            self.arm_client(handle);
            return None;
        }
        match client.fire(now, &self.timings) {
            Fired::Retransmit(flow, bytes) => {
                self.arm_client(handle);
                Some(Due::Retransmit { flow, bytes })
            }
            Fired::TimedOut => self.take_waiting(handle).map(|context| Due::TimedOut { context }),
            Fired::Over => {
                self.clients.remove(handle);
                None
            }
        }
    }

    fn arm_server(&mut self, handle: Handle, at: Uptime) {
        if self.servers.arm(handle, at) {
            self.timers.set(at, Wake::Server(handle.slot()));
        }
    }

    fn arm_client(&mut self, handle: Handle) {
        let Some(at) = self.clients.get(handle).map(Client::deadline) else { return };
        if self.clients.arm(handle, at) {
            self.timers.set(at, Wake::Client(handle.slot()));
        }
    }
}
