//! Whether a server serves clients: one connection to each, on which `asnCheckConnection` is asked
//! whenever health wants to know (H1).

use std::collections::VecDeque;

use bytes::Bytes;

use crate::cluster::health::Observation;
use crate::cluster::{Plane, ServerId};
use crate::door::clients::session::{Entrance, Way};
use crate::door::{Door, Output};
use crate::now::{Now, Uptime};
use crate::sip::Flow;
use crate::ucsap::{Encoding, Envelope, Kind, Message, Operation, Piece, Style};

/// So many unanswered questions are the connection's fault, perhaps: the next one is asked on another,
/// which does not wait for the kernel to send again what was lost on a way that is there again.
const UNANSWERED_MAX: usize = 3;

/// What is probed, by server.
#[derive(Debug)]
pub(super) struct Probes(Vec<Probe>);

/// The probing of one server.
#[derive(Clone, Debug, Default)]
struct Probe {
    /// The number of its connection, if there is one.
    connection: Option<u64>,
    /// The id that was asked last.
    last: i64,
    /// What has not been answered, and when it was asked; the oldest first.
    asked: VecDeque<(i64, Uptime)>,
}

impl Probes {
    pub(super) fn new(servers: usize) -> Self {
        Self(vec![Probe::default(); servers])
    }

    /// Whose probe a connection is.
    fn server_of(&self, number: u64) -> Option<ServerId> {
        let place = self.0.iter().position(|probe| probe.connection == Some(number))?;
        Some(ServerId(u16::try_from(place).ok()?))
    }
}

impl Door {
    /// Asks a server on the client plane whether it is there.
    pub(in crate::door) fn probe_client(&mut self, now: Now, server: ServerId) {
        if self.settings.servers[server.index()].clients.is_none() {
            return;
        }
        let probe = &mut self.clients.probes.0[server.index()];
        let stale = probe.connection.take_if(|_| probe.asked.len() >= UNANSWERED_MAX);
        if stale.is_some() {
            probe.asked.clear();
        }
        let number = *probe.connection.get_or_insert_with(|| {
            self.clients.legs_made += 1;
            self.clients.legs_made
        });
        probe.last += 1;
        probe.asked.push_back((probe.last, now.uptime));
        let id = probe.last;
        let way = |number| Way { number, server, entrance: Entrance::Native };
        if let Some(flow) = stale.and_then(|number| self.flow_of_leg(way(number))) {
            self.outputs.push_back(Output::Close { flow });
        }
        let envelope = Envelope { encoding: Encoding::Ber, style: Style::Plain, session: None };
        let nothing = Piece::Sequence(Vec::new());
        let question: Bytes = envelope.invoke(id, Operation::CHECK_CONNECTION, &nothing);
        self.send_on_leg(way(number), question);
    }

    /// Takes what a server says on a connection that is no session's: the answer to a probe, or
    /// nothing that anybody waits for.
    pub(super) fn on_client_probe_answered(&mut self, now: Now, number: u64, message: &Message) {
        let answered = message.id().filter(|_| message.kind() != Kind::Invoke);
        let asked = self.clients.probes.server_of(number).and_then(|server| {
            let asked = &mut self.clients.probes.0[server.index()].asked;
            let place = asked.iter().position(|(id, _)| Some(*id) == answered)?;
            Some((server, asked.remove(place)?.1))
        });
        let Some((server, asked_at)) = asked else {
            self.stats.rose_strays += 1;
            return;
        };
        let status = match message.kind() {
            Kind::Error => 500,
            // Whoever does not know the question is there as well.
            Kind::Result | Kind::Reject | Kind::Invoke => 200,
        };
        let latency = now.uptime.since(asked_at);
        let plane = Plane::Client;
        let seen = Observation::Answered { plane, status, latency, retry_after: None };
        self.health.observe(now.uptime, server, seen);
    }

    /// What a server says on the connection of its probe cannot be read.
    pub(super) fn lose_client_probe(&mut self, now: Now, flow: Flow) {
        if self.on_client_probe_closed(now, flow, false) {
            self.outputs.push_back(Output::Close { flow });
        }
    }

    /// The connection of a probe has ended; `false` if it is another one.
    pub(super) fn on_client_probe_closed(&mut self, now: Now, flow: Flow, refused: bool) -> bool {
        let number = flow.connection.own_number();
        let Some(server) = number.and_then(|number| self.clients.probes.server_of(number)) else {
            return false;
        };
        let Probe { connection, asked, .. } = &mut self.clients.probes.0[server.index()];
        *connection = None;
        asked.clear();
        let seen = if refused { Observation::Refused } else { Observation::Unreachable };
        self.health.observe(now.uptime, server, seen(Plane::Client));
        true
    }
}
