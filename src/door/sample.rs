//! Now and then a server is asked whether it still holds what it granted (H8).
//!
//! A server that restarts between two probes knows nobody and looks green. A REGISTER without a
//! contact asks it (RFC 3261 §10.2.3), about one binding at a time. One that is missing may have been
//! removed there by hand: it alone is registered again. If the next one, another, is missing as well,
//! the server has lost its memory, and everything is registered there again.
//!
//! A health document whose count of registrations falls makes it ask at once.
//!
//! A challenge or another refusal proves nothing, and neither does the silence of a registrar that
//! has never listed a binding when it was asked.

use std::sync::Arc;

use crate::cluster::document::Document;
use crate::cluster::health::Observation;
use crate::cluster::{ServerId, State};
use crate::door::binding::Binding;
use crate::door::registered::listed;
use crate::door::slots::SlotId;
use crate::door::{Door, Timer};
use crate::now::{Now, Uptime};
use crate::sip::Message;

/// Places of the table looked at for a binding to ask about; the next look goes on from there.
const LOOKS: usize = 1_024;
/// One part of this many gone from a health document's count makes the door ask at once.
const LOST_SHARE: u32 = 4;
/// A server that refuses to be asked is asked so many times more rarely.
const REFUSED_FACTOR: u32 = 12;

/// What is being asked of one server, and what its answers have taught.
#[derive(Debug, Default)]
pub(crate) struct Sampling {
    pub(crate) question: Question,
    /// It has listed a binding when asked: so it means something when it does not.
    lists: bool,
    /// The last answer did not list what it should have.
    missed: bool,
    /// It refused the last question.
    refused: bool,
    /// Where in the table the next look begins.
    place: usize,
    pub(crate) cseq: u32,
    /// How many registrations its health document counted last, in which life of it.
    counted: Option<(Arc<str>, u32)>,
}

/// The one question a server may have before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Question {
    #[default]
    None,
    /// It waits in the lane.
    Queued(SlotId),
    /// It is out.
    Asked,
}

/// What was asked about: a binding as it was registered then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) binding: SlotId,
    /// Another registration has another one.
    pub(crate) refresh_at: Uptime,
}

impl Door {
    /// The first question to each server, one after the other.
    pub(super) fn start_sampling(&mut self, now: Now) {
        let servers = self.lanes.len() as u16;
        for server in (0..servers).map(ServerId) {
            let share = self.settings.health.sample_interval * u32::from(server.0 + 1);
            self.timers.set(now.uptime + share / u32::from(servers), Timer::Sample(server));
        }
    }

    /// It is time to ask this server.
    pub(super) fn sample(&mut self, now: Now, server: ServerId) {
        let refused = self.lanes[server.index()].sampling.refused;
        let factor = if refused { REFUSED_FACTOR } else { 1 };
        let next = now.uptime + self.settings.health.sample_interval * factor;
        self.timers.set(next, Timer::Sample(server));
        self.ask_about_any(now, server);
    }

    /// What its health document says it holds. A count that falls proves nothing, as phones leave and
    /// users move, but it is a reason to ask at once and not when the time comes.
    pub(super) fn on_count(&mut self, now: Now, server: ServerId, document: &Document) {
        let Some(count) = document.registrations else { return };
        let life = Arc::clone(&document.boot_id);
        let before = self.lanes[server.index()].sampling.counted.replace((life, count));
        let fell = before.is_some_and(|(life, before)| {
            life == document.boot_id && count < before - before / LOST_SHARE
        });
        if fell {
            self.ask_about_any(now, server);
        }
    }

    fn ask_about_any(&mut self, now: Now, server: ServerId) {
        let serves = match self.health.view().server(server).state {
            State::Up
            | State::Degraded
            | State::Partial
            | State::Ramp
            | State::Drain
            | State::Maintenance => true,
            State::Unknown | State::Down | State::Probation => false,
        };
        if !serves || self.lanes[server.index()].sampling.question != Question::None {
            return;
        }
        let place = self.lanes[server.index()].sampling.place;
        let found = self
            .bindings
            .round(place, LOOKS)
            .find(|(_, binding)| self.is_told(now.uptime, server, binding))
            .map(|(id, _)| id);
        let sampling = &mut self.lanes[server.index()].sampling;
        sampling.place = found.map_or(place + LOOKS, |id| id.place() + 1);
        if let Some(id) = found {
            sampling.question = Question::Queued(id);
            self.pump_lane(now, server);
        }
    }

    /// The lane lets the question go.
    pub(super) fn send_sample(&mut self, now: Now, server: ServerId, id: SlotId) {
        let told = self.bindings.get(id).filter(|it| self.is_told(now.uptime, server, it));
        let Some(upstream) = told.and_then(|binding| binding.at(server)) else { return };
        let sample = Sample { binding: id, refresh_at: upstream.refresh_at };
        self.stats.samples += 1;
        self.lanes[server.index()].sampling.question = Question::Asked;
        self.query(now, server, sample);
    }

    /// Whether the door believes that this server holds this binding, as it is, and nothing is under
    /// way that could change that.
    fn is_told(&self, now: Uptime, server: ServerId, binding: &Binding) -> bool {
        let current = !binding.gone && self.current(binding.user) == Some(server);
        current
            && !binding.claimed
            && binding.is_idle()
            && binding.trouble.is_none()
            && binding.is_registered_at(server, now)
    }

    /// The server answered 200.
    pub(super) fn on_sampled(
        &mut self,
        now: Now,
        server: ServerId,
        sample: Sample,
        response: &Message,
    ) {
        let sampling = &mut self.lanes[server.index()].sampling;
        (sampling.question, sampling.refused) = (Question::None, false);
        let Some(binding) = self.bindings.get(sample.binding) else { return };
        let told = self.is_told(now.uptime, server, binding);
        let Some(upstream) = binding.at(server).filter(|it| told && it.is_of(sample)) else {
            return;
        };
        let contact = binding.said.saying().contact;
        let token = self.tokens.issue(sample.binding);
        let listed = listed(upstream.by, token, contact, response).is_some();
        let sampling = &mut self.lanes[server.index()].sampling;
        if listed {
            (sampling.lists, sampling.missed) = (true, false);
        } else if sampling.lists && sampling.missed {
            self.stats.samples_missing += 1;
            self.health.observe(now.uptime, server, Observation::Forgot);
        } else if sampling.lists {
            sampling.missed = true;
            self.stats.samples_missing += 1;
            self.forget_registration(sample.binding, server);
            self.reconcile(now, sample.binding);
            self.ask_about_any(now, server);
        }
    }

    /// It refused, or was silent (`status` 0): that proves nothing.
    pub(super) fn on_sample_refused(&mut self, server: ServerId, status: u16) {
        let sampling = &mut self.lanes[server.index()].sampling;
        sampling.question = Question::None;
        sampling.refused = (400..500).contains(&status);
    }
}

impl Sampling {
    /// The server's process is another one: it has to earn belief anew.
    pub(crate) const fn begin_life(&mut self) {
        self.lists = false;
        self.missed = false;
    }
}
