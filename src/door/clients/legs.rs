//! Legs: the door's own connections to servers, one for each session.

use std::net::SocketAddr;

use bytes::Bytes;

use crate::cluster::health::Observation;
use crate::cluster::{Plane, ServerId};
use crate::door::clients::session::{Entrance, Leg, Pending, Stage, Way, Which};
use crate::door::slots::SlotId;
use crate::door::{Door, Output};
use crate::now::Now;
use crate::sip::{ConnectionId, Flow, ListenerId, Transport};
use crate::ucsap::{Envelope, Operation, Piece};

impl Door {
    /// Begins another leg of a session at `server`: it is asked who it is, with the client's own
    /// words; a WebService is shown at once who the user is.
    pub(super) fn open_leg(&mut self, now: Now, id: SlotId, server: ServerId, paced: bool) {
        let until = now.uptime + self.settings.clients.leg_patience;
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        let Some(argument) = session.negotiated.as_ref().map(|it| it.argument.clone()) else {
            return;
        };
        self.clients.legs_made += 1;
        let number = self.clients.legs_made;
        let entrance = session.entrance;
        let before = session.next.replace(Leg::new(Way { number, server, entrance }, paced, until));
        self.clients.legs.insert(number, id);
        if let Some(before) = before {
            self.leave_leg(before);
        }
        self.stats.legs_opened += 1;
        match entrance {
            Entrance::Web => self.show_login(id, Which::Next),
            Entrance::Native => self.negotiate_on_leg(id, argument),
        }
        self.wake_session(id);
    }

    fn negotiate_on_leg(&mut self, id: SlotId, argument: Vec<u8>) {
        let session = self.clients.sessions.get_mut(id);
        let Some(leg) = session.and_then(|session| session.next.as_mut()) else { return };
        let (invoke, way) = (leg.ask(Pending::Negotiate), leg.way());
        self.ask_on_leg(id, way, invoke, Operation::NEGOTIATE, argument);
    }

    /// Writes an invoke of the door's own on a leg, with an argument as the client sent it.
    pub(super) fn ask_on_leg(
        &mut self,
        id: SlotId,
        way: Way,
        invoke: i64,
        operation: Operation,
        argument: Vec<u8>,
    ) {
        let argument = Piece::AsSent(argument);
        let write = |envelope: &Envelope<'_>| envelope.invoke(invoke, operation, &argument);
        if let Some(bytes) = self.write_for(id, write) {
            self.send_on_leg(way, bytes);
        }
    }

    pub(super) fn send_on_leg(&mut self, way: Way, bytes: Bytes) {
        if let Some(flow) = self.flow_of_leg(way) {
            self.send_rose(flow, bytes);
        }
    }

    pub(super) fn send_rose(&mut self, flow: Flow, bytes: Bytes) {
        self.stats.rose_sent += 1;
        self.outputs.push_back(Output::Send { flow, bytes });
    }

    /// Where a server is spoken to, if it has that entrance.
    pub(super) fn entrance_of(&self, server: ServerId, entrance: Entrance) -> Option<SocketAddr> {
        let server = self.settings.servers.get(server.index())?;
        match entrance {
            Entrance::Native => server.clients,
            Entrance::Web => server.web,
        }
    }

    pub(super) fn flow_of_leg(&self, way: Way) -> Option<Flow> {
        let remote = self.entrance_of(way.server, way.entrance)?;
        let listener = match way.entrance {
            Entrance::Native => ListenerId::NONE,
            Entrance::Web => ListenerId::WEB,
        };
        let connection = ConnectionId::own(way.number);
        Some(Flow { listener, transport: Transport::Tcp, remote, connection })
    }

    /// Hangs up.
    pub(super) fn leave_leg(&mut self, leg: Leg) {
        self.clients.legs.remove(&leg.number);
        if leg.paced {
            self.clients.lanes[leg.server.index()].pacer.unheard();
            self.clients.freed.push(leg.server);
        }
        if let Some(flow) = self.flow_of_leg(leg.way()) {
            self.outputs.push_back(Output::Close { flow });
        }
    }

    /// The same, politely: whoever was logged in there is not any longer.
    pub(super) fn log_leg_off(&mut self, id: SlotId, leg: Leg) {
        let goodbye = |envelope: &Envelope<'_>| {
            envelope.event(Operation::LOGOFF, &Piece::Sequence(Vec::new()))
        };
        if let Some(bytes) = self.write_for(id, goodbye) {
            self.send_on_leg(leg.way(), bytes);
        }
        self.leave_leg(leg);
    }

    /// A server says something on a leg that cannot be used any further.
    pub(super) fn lose_leg(&mut self, now: Now, number: u64) {
        if let Some((_, way)) = self.clients.way_of_leg(number)
            && let Some(flow) = self.flow_of_leg(way)
        {
            self.outputs.push_back(Output::Close { flow });
        }
        self.on_leg_closed(now, number);
    }

    /// Health hears of a leg that its server's host refused, and that of one that was lost later,
    /// which need not be more than one session's end, it had better look.
    pub(super) fn observe_lost_leg(&mut self, now: Now, number: u64, refused: bool) {
        let Some((id, Way { server, entrance, .. })) = self.clients.way_of_leg(number) else {
            return;
        };
        if entrance == Entrance::Web {
            // The plane is asked by its other entrance: what is wrong with this one says nothing of it.
            return;
        }
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        let Some((_, leg)) = session.leg_mut(number) else { return };
        let seen =
            if refused && leg.is_new() { Observation::Refused } else { Observation::Unreachable };
        self.health.observe(now.uptime, server, seen(Plane::Client));
    }

    /// A leg is gone, and with it what a server knew by it.
    pub(super) fn on_leg_closed(&mut self, now: Now, number: u64) {
        let Some(id) = self.clients.legs.remove(&number) else { return };
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        let stage = session.stage;
        let Some((which, leg)) = session.take_leg(number) else { return };
        self.stats.legs_lost += 1;
        match (which, stage) {
            (Which::Old, _) => self.answer_pending(now, id, leg.pending),
            (Which::Next, Stage::Negotiating) => self.negotiate_elsewhere(now, id),
            // The one that was only shown to the client while another is asked.
            (Which::Leg, Stage::LoggingIn) if !leg.is_asked_who() => {
                self.disappoint(id, leg.pending)
            }
            (Which::Leg | Which::Next, Stage::LoggingIn) => {
                self.disappoint(id, leg.pending);
                self.login_again(now, id);
            }
            (Which::Next, Stage::In) => {
                if leg.paced {
                    self.lane_lost(now, leg.server);
                }
                self.try_again_later(now, id);
            }
            (Which::Leg, Stage::In) => {
                self.answer_pending(now, id, leg.pending);
                self.begin_gap(now, id);
            }
            // The next login finds another.
            (
                Which::Leg | Which::Next,
                Stage::New
                | Stage::Negotiating
                | Stage::Negotiated
                | Stage::Deciding
                | Stage::Adopting,
            ) => self.disappoint(id, leg.pending),
        }
    }

    pub(super) fn negotiate_elsewhere(&mut self, now: Now, id: SlotId) {
        const TRIES_MAX: u8 = 3;
        let Some(session) = self.clients.sessions.get_mut(id) else { return };
        let Some(negotiated) = &mut session.negotiated else { return };
        negotiated.tried += 1;
        if negotiated.tried < TRIES_MAX {
            self.negotiate_somewhere(now, id);
        } else {
            self.tell_busy_to_negotiation(id);
        }
    }
}
