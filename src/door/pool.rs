//! Health as the core drives it: probes out, answers in, and what a change of state sets off.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use crate::cluster::document::{Document, DocumentFault};
use crate::cluster::health::{Observation, Wanted};
use crate::cluster::{Plane, PlaneState, ServerId, ServerView, State};
use crate::directory::UserId;
use crate::door::binding::{Step, Trouble};
use crate::door::slots::SlotId;
use crate::door::{Door, Event, Output};
use crate::now::{Now, Uptime};
use crate::sip::{Flow, HeaderName, Message, Request};

/// Probes that may be out per server; an answer to an older one says nothing any more.
const PROBES_MAX: usize = 16;

/// Probes that are out.
#[derive(Debug, Default)]
pub(crate) struct Probes {
    count: u64,
    out: HashMap<u64, (ServerId, Uptime)>,
    /// By server, oldest first.
    order: Vec<VecDeque<u64>>,
}

impl Probes {
    pub(crate) fn new(servers: usize) -> Self {
        Self { order: vec![VecDeque::new(); servers], ..Self::default() }
    }

    fn start(&mut self, server: ServerId, now: Uptime) -> u64 {
        self.count += 1;
        self.out.insert(self.count, (server, now));
        let order = &mut self.order[server.index()];
        order.push_back(self.count);
        if order.len() > PROBES_MAX
            && let Some(oldest) = order.pop_front()
        {
            self.out.remove(&oldest);
        }
        self.count
    }
}

impl Door {
    /// Does what health wants, until it wants nothing.
    pub(super) fn drive_pool(&mut self, now: Now) {
        // Whatever emptied a sweep (a removal, an expiry, a phone that came back), it ends here.
        for server in (0..self.lanes.len() as u16).map(ServerId) {
            self.check_swept(now, server);
        }
        self.watch_drill(now);
        while let Some(wanted) = self.health.poll() {
            match wanted {
                Wanted::Probe(server, Plane::Sip) => self.probe(now, server),
                Wanted::Probe(server, Plane::Client) => self.probe_client(now, server),
                // No server has that plane yet.
                Wanted::Probe(_, Plane::Csta) => {}
                Wanted::Fetch(server) => self.outputs.push_back(Output::Fetch(server)),
                Wanted::Changed { server, from, to } => {
                    self.on_server_changed(now, server, from, to);
                }
                Wanted::PlaneChanged { server, plane, from, to } => {
                    self.on_plane_changed(now, server, plane, (from, to));
                }
                Wanted::Restarted(server) => self.on_server_restarted(now, server),
                Wanted::Suspicion => self.on_suspicion(now),
            }
        }
        self.watch_holds(now);
    }

    /// A hold may become shorter or longer without a change of state: whenever the pool looks
    /// different, the planner is woken for every hold as it is now.
    fn watch_holds(&mut self, now: Now) {
        if Arc::ptr_eq(&self.seen, self.health.view()) {
            return;
        }
        let now_seen = self.view();
        let before = std::mem::replace(&mut self.seen, now_seen);
        self.compare_ties(&before);
        self.watch_homecomings(now);
        self.watch_departures(now);
        let holds: Vec<Uptime> = self
            .seen
            .servers
            .iter()
            .filter(|server| server.is_dead())
            .filter_map(|server| Some(server.failure?.hold_until))
            .collect();
        for hold_until in holds {
            self.wake_planner_at(hold_until.max(now.uptime));
        }
    }

    /// Whether a server was failed when the pool was looked at last; a door that has only just begun
    /// has not looked yet.
    fn was_dead(&self, server: ServerId) -> bool {
        self.seen.servers.get(server.index()).is_some_and(ServerView::is_dead)
    }

    /// One OPTIONS, not retransmitted: the next probe is its retransmission.
    fn probe(&mut self, now: Now, server: ServerId) {
        let probe = self.probes.start(server, now.uptime);
        let lane = &self.lanes[server.index()];
        let listener = &self.settings.listeners[usize::from(lane.flow.listener.0)];
        let host = &listener.advertised;
        let life = self.life;
        let via = format!(
            "SIP/2.0/{} {host};branch=z9hG4bKp{life:x}.{probe:x};rport",
            listener.transport.via_name()
        );
        let uri = format!("sip:{}", self.settings.servers[server.index()].sip);
        let flow = lane.flow;
        let bytes = Request::new("OPTIONS", uri.as_bytes())
            .header(HeaderName::Via, via)
            .header(HeaderName::MaxForwards, "70")
            .header(HeaderName::From, format!("<sip:{host}>;tag=p{probe:x}"))
            .header(HeaderName::To, format!("<{uri}>"))
            .header(HeaderName::CallId, format!("p{life:x}-{}", server.0))
            .header(HeaderName::CSeq, format!("{} OPTIONS", probe & 0x7fff_ffff))
            .header(HeaderName::Accept, "application/sdp")
            .finish();
        self.send(flow, bytes);
    }

    /// Takes the answer to a probe; `false` if it is an answer to something else.
    pub(super) fn on_probe_answered(
        &mut self,
        now: Now,
        flow: Flow,
        response: &Message,
        branch: &[u8],
    ) -> bool {
        let Some(probe) = probe_of(branch, self.life) else { return false };
        let status = response.status().unwrap_or_default();
        if status < 200 {
            return true;
        }
        let from_there = |&&(server, _): &&(ServerId, Uptime)| {
            self.settings.servers[server.index()].sip.ip() == flow.remote.ip()
        };
        let Some(&(server, sent_at)) = self.probes.out.get(&probe).filter(from_there) else {
            self.stats.dropped_stray += 1;
            return true;
        };
        self.probes.out.remove(&probe);
        self.probes.order[server.index()].retain(|&other| other != probe);
        let retry_after = response
            .header(HeaderName::RetryAfter)
            .and_then(|value| std::str::from_utf8(value).ok())
            .and_then(|value| value.split(|c: char| !c.is_ascii_digit()).next()?.parse().ok());
        let latency = now.uptime.since(sent_at);
        self.health.observe(
            now.uptime,
            server,
            Observation::Answered { plane: Plane::Sip, status, latency, retry_after },
        );
        true
    }

    pub(super) fn on_document(
        &mut self,
        now: Now,
        server: ServerId,
        document: Result<Document, DocumentFault>,
    ) {
        if server.index() < self.settings.servers.len() {
            if let Ok(document) = &document {
                self.on_count(now, server, document);
            }
            self.health.observe(now.uptime, server, Observation::Document(document));
        }
    }

    pub(super) fn on_push(&mut self, now: Now, server: ServerId, document: Document) {
        if server.index() < self.settings.servers.len() {
            self.on_count(now, server, &document);
            self.health.observe(now.uptime, server, Observation::Pushed(document));
        }
    }

    fn on_server_changed(&mut self, now: Now, server: ServerId, from: State, to: State) {
        let view = self.view();
        let dead = view.server(server).is_dead();
        let was_dead = from == State::Down || self.was_dead(server);
        let event = Event::ServerChanged {
            server: self.server_name(server),
            from,
            to,
            proof: view.server(server).proof(),
        };
        self.emit(event);
        match to {
            State::Down => self.on_server_down(now, server),
            State::Maintenance if dead && !was_dead => self.on_server_down(now, server),
            State::Maintenance if dead => {}
            State::Probation => self.on_server_back(now, server),
            State::Up
            | State::Ramp
            | State::Degraded
            | State::Partial
            | State::Unknown
            | State::Drain
            | State::Maintenance => {
                if was_dead {
                    self.on_server_back(now, server);
                }
            }
        }
        self.wake_all_waiting(now);
        self.try_unplaced_again(now);
    }

    /// A server that serves several planes has one more, or one less. Where SIP is back and the server
    /// was not down, nobody was moved; but what it kept in memory may be gone, as after a failure.
    fn on_plane_changed(
        &mut self,
        now: Now,
        server: ServerId,
        plane: Plane,
        (from, to): (PlaneState, PlaneState),
    ) {
        let view = self.view();
        let seen = view.server(server);
        let proof = seen.planes.iter().find(|it| it.plane == plane).and_then(|it| it.proof);
        self.emit(Event::PlaneChanged { server: self.server_name(server), plane, from, to, proof });
        let was_down = self.was_dead(server) || seen.is_dead();
        let back = (from, to) == (PlaneState::Dead, PlaneState::Alive);
        if back && plane == Plane::Sip && !was_down {
            let there = self.registered_at(server);
            self.tell_again(now, server, &there);
        }
    }

    /// Whatever is out to it is decided again at once (M5); whatever waited for it waits no more.
    fn on_server_down(&mut self, now: Now, server: ServerId) {
        let remote = self.settings.servers[server.index()].sip;
        let (updates, steps) = self.lanes[server.index()].clear();
        for id in steps {
            if let Some(binding) = self.bindings.get_mut(id)
                && binding.step == Step::Queued(server)
            {
                binding.step = Step::Idle;
            }
            self.reconcile(now, id);
        }
        self.fail_transactions(now, remote);
        // What was out says nothing of what it takes when it is back.
        self.lanes[server.index()].pacer.restart();
        for (waiting, _) in updates {
            self.redecide_waiting(now, waiting);
        }
        self.restand_users_of(now, server);
        self.lanes[server.index()].sweep.clear();
        self.lanes[server.index()].sweeping = false;
    }

    /// It answers again. What it kept in memory may be gone, and what the door left there is stale:
    /// its own users are registered again, everybody else's bindings are removed (M8, H8).
    fn on_server_back(&mut self, now: Now, server: ServerId) {
        let mut own = Vec::new();
        let mut stale = Vec::new();
        for (id, binding) in self.bindings.iter() {
            if binding.claimed && binding.is_reserved() {
                continue;
            }
            let belongs = !binding.gone && self.current(binding.user) == Some(server);
            if belongs {
                own.push(id);
            } else if binding.at(server).is_some() {
                stale.push(id);
            }
        }
        self.lanes[server.index()].sweep = stale.iter().copied().collect();
        self.lanes[server.index()].sweeping = true;
        self.tell_again(now, server, &own);
        for id in stale {
            self.reconcile(now, id);
        }
        self.check_swept(now, server);
    }

    fn on_server_restarted(&mut self, now: Now, server: ServerId) {
        let event = Event::ServerRestarted { server: self.server_name(server) };
        self.emit(event);
        self.lanes[server.index()].sampling.begin_life();
        let there = self.registered_at(server);
        self.tell_again(now, server, &there);
    }

    fn registered_at(&self, server: ServerId) -> Vec<SlotId> {
        let there = self.bindings.iter().filter(|(_, binding)| binding.at(server).is_some());
        there.map(|(id, _)| id).collect()
    }

    /// First all of them are forgotten: what one binding of an AoR needs, the others say (`systems_told`).
    fn tell_again(&mut self, now: Now, server: ServerId, ids: &[SlotId]) {
        for &id in ids {
            self.forget_registration(id, server);
        }
        for &id in ids {
            self.reconcile(now, id);
        }
    }

    /// The server may not have it any more: it is to be told again.
    pub(super) fn forget_registration(&mut self, id: SlotId, server: ServerId) {
        let Some(binding) = self.bindings.get_mut(id) else { return };
        for upstream in binding.upstream.iter_mut().filter(|u| u.server == server) {
            upstream.version = None;
        }
        if !matches!(binding.trouble, Some(Trouble::Challenged)) {
            binding.trouble = None;
        }
    }

    /// M8: a server in probation counts only when what the door left there is removed.
    pub(super) fn check_swept(&mut self, now: Now, server: ServerId) {
        let lane = &mut self.lanes[server.index()];
        if !lane.sweeping || !lane.sweep.is_empty() {
            return;
        }
        lane.sweeping = false;
        self.health.observe(now.uptime, server, Observation::Swept);
        self.forget_left_at(server);
    }

    fn on_suspicion(&mut self, now: Now) {
        let suspicion = self.health.view().suspicion.map(|suspicion| suspicion.of);
        self.emit(Event::Suspicion(suspicion));
        self.wake_planner_at(now.uptime);
        self.wake_all_waiting(now);
    }

    /// Every binding of a user goes its way again.
    pub(super) fn reconcile_user(&mut self, now: Now, user: UserId) {
        for id in self.bindings_of(user).to_vec() {
            self.reconcile(now, id);
        }
    }

    fn restand_users_of(&mut self, now: Now, server: ServerId) {
        for user in self.directory.on_server(server) {
            for id in self.bindings_of(user).to_vec() {
                self.restand(now, id);
            }
        }
    }
}

fn probe_of(branch: &[u8], life: u64) -> Option<u64> {
    let text = std::str::from_utf8(branch.strip_prefix(b"z9hG4bKp")?).ok()?;
    let (their_life, probe) = text.split_once('.')?;
    let ours = u64::from_str_radix(their_life, 16).ok()? == life;
    ours.then(|| u64::from_str_radix(probe, 16).ok()).flatten()
}
