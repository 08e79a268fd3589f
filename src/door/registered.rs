//! What became of a REGISTER of ours: granted, refused, ignored or not answered (M2, M3, M5).
//!
//! A refusal that speaks of the binding (4xx) fails that binding; one that speaks of the server
//! (5xx, silence) is tried again, elsewhere if the server is only a backup.

use std::time::Duration;

use crate::cluster::health::Observation;
use crate::cluster::{Plane, ServerId};
use crate::door::Door;
use crate::door::binding::{By, Step, Trouble, Upstream};
use crate::door::register::{Sent, What};
use crate::door::slots::SlotId;
use crate::door::systems::Heard;
use crate::door::token::Token;
use crate::door::update::UpdateState;
use crate::now::{Now, Uptime};
use crate::sip::{HeaderName, Message, NameAddr, Uri};

/// Between two tries at a server that fails: from here, doubled up to the other.
const BACKOFF_MIN: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(60);
/// Failures at a backup after which its guest is planned again (M5).
const FAILURES_BEFORE_REPLAN: u8 = 2;

impl Door {
    /// A server answered a REGISTER of ours.
    pub(super) fn on_registered(
        &mut self,
        now: Now,
        sent: Sent,
        response: &Message,
        latency: Duration,
    ) {
        let status = response.status().unwrap_or_default();
        let retry_after = read_seconds(response.header(HeaderName::RetryAfter));
        let seen = Observation::Answered { plane: Plane::Sip, status, latency, retry_after };
        self.health.observe(now.uptime, sent.server, seen);
        let too_much = status >= 500;
        let lane = &mut self.lanes[sent.server.index()];
        lane.silent_since = now.uptime;
        if too_much {
            lane.pacer.lost();
        } else {
            lane.pacer.answered();
        }
        match status {
            200..=299 => self.on_granted(now, sent, response),
            423 if self.raise_expiry(sent, response) && self.is_wanted(sent) => {
                self.send_again(now, sent);
            }
            300..=399 if self.on_redirected(now, sent, response) => {}
            _ => self.on_refused(now, sent, status, Some(response)),
        }
        self.note_at_systems(now, sent, Heard::by_status(status));
        self.pump_lane(now, sent.server);
    }

    /// No answer: timed out, the connection is lost, or the server was declared down.
    pub(super) fn on_unanswered(&mut self, now: Now, sent: Sent) {
        self.stats.upstream_timeouts += 1;
        self.lanes[sent.server.index()].pacer.lost();
        // It may have arrived: the server may hold it, in a version nobody confirmed.
        if let (Some(id), false) = (sent.binding, sent.what == What::Remove) {
            let expiry = Duration::from_secs(self.expiry_for(sent.server));
            let may_hold = Upstream {
                server: sent.server,
                by: sent.by,
                version: None,
                expires_at: now.uptime + expiry,
                expiry,
                refresh_at: now.uptime,
            };
            self.note_upstream(id, may_hold);
        }
        self.on_refused(now, sent, 0, None);
        self.note_at_systems(now, sent, Heard::Nothing);
        self.pump_lane(now, sent.server);
    }

    /// It could not even be sent: the transaction table is full. No server is to blame, and no lane
    /// is pumped, because the next one would not fare better.
    pub(super) fn on_unsent(&mut self, now: Now, sent: Sent) {
        self.lanes[sent.server.index()].pacer.unsent();
        self.systems.hear(now.uptime, sent, Heard::Spared);
        self.wake_systems(now);
        if let Some(id) = sent.binding {
            self.idle(id);
            if !matches!(sent.what, What::Update { .. }) {
                let until = now.uptime + BACKOFF_MIN;
                if let Some(binding) = self.bindings.get_mut(id) {
                    binding.trouble = Some(Trouble::Backoff { until, failures: 0 });
                }
                self.reconcile(now, id);
            }
        }
        match sent.what {
            What::Update { waiting, .. } => {
                self.mark_refused(sent);
                self.block_waiting(now, waiting, true);
            }
            What::Sample(_) => self.on_sample_refused(sent.server, 0),
            What::Register { .. } | What::Remove => {}
        }
    }

    fn on_granted(&mut self, now: Now, sent: Sent, response: &Message) {
        if let What::Sample(sample) = sent.what {
            return self.on_sampled(now, sent.server, sample, response);
        }
        if let What::Update { waiting, .. } = sent.what {
            self.learn_believed_realm(now, sent.server, waiting);
            self.note_believed(sent.server, waiting);
        }
        let Some(id) = sent.binding else {
            // A query in pass-through: the server let the phone in.
            if let What::Update { waiting, .. } = sent.what {
                self.keep_relayed(waiting, response);
                self.answer_waiting(now, waiting);
            }
            return;
        };
        if sent.by == By::Path && Self::path_is_ignored(sent, response) {
            return self.on_path_ignored(now, sent);
        }
        if let Some(user) = self.bindings.get(id).map(|binding| binding.user) {
            self.redirects.arrived(user);
        }
        let granted = self.granted(now, sent, response);
        match sent.what {
            What::Update { waiting, index } => {
                self.idle(id);
                if self.is_awaited(sent) {
                    self.keep_relayed(waiting, response);
                    self.update_settled(now, waiting, index, granted);
                } else {
                    // Nobody waits for it any more, but the server has taken it at its word.
                    self.note_upstream(id, granted);
                }
                self.go_on(now, id);
            }
            What::Register { version } => {
                if let Some(binding) = self.bindings.get_mut(id) {
                    binding.trouble = None;
                    self.note_upstream(id, Upstream { version: Some(version), ..granted });
                    self.count_rehomed(now, id, sent.server);
                }
                self.end_step(now, id);
            }
            What::Remove => {
                self.drop_upstream(id, sent.server, sent.by);
                self.end_step(now, id);
            }
            What::Sample(_) => {}
        }
    }

    /// `status` 0 is no answer at all.
    fn on_refused(&mut self, now: Now, sent: Sent, status: u16, response: Option<&Message>) {
        if status != 0 {
            self.stats.upstream_refused += 1;
        }
        let speaks_of_server = status == 0 || status >= 500;
        match sent.what {
            What::Update { waiting, .. } => {
                if let Some(id) = sent.binding {
                    self.idle(id);
                }
                if self.is_awaited(sent) {
                    self.mark_refused(sent);
                    self.refuse_update(now, waiting, sent.server, status, response);
                }
                if let Some(id) = sent.binding {
                    self.go_on(now, id);
                }
            }
            What::Register { .. } => {
                let Some(id) = sent.binding else { return };
                let aor = self.bindings.get(id).map(|binding| binding.aor.clone());
                if let (Some(refusal), Some(aor)) = (response, aor) {
                    self.learn_realm(now, sent.server, &aor, refusal);
                }
                let trouble = match status {
                    401 | 407 => Trouble::Challenged,
                    _ if speaks_of_server => self.backoff(now.uptime, id),
                    _ => Trouble::Refused(status),
                };
                if let Some(binding) = self.bindings.get_mut(id) {
                    binding.trouble = Some(trouble);
                }
                self.replan_if_backup_fails(now, id, sent.server, trouble);
                self.end_step(now, id);
            }
            What::Remove => {
                let Some(id) = sent.binding else { return };
                if speaks_of_server {
                    let trouble = self.backoff(now.uptime, id);
                    if let Some(binding) = self.bindings.get_mut(id) {
                        binding.trouble = Some(trouble);
                    }
                } else {
                    // Not there, or not ours to remove: its expiry will do it.
                    self.drop_upstream(id, sent.server, sent.by);
                }
                self.end_step(now, id);
            }
            What::Sample(_) => self.on_sample_refused(sent.server, status),
        }
    }

    /// Whether the phone's REGISTER still waits for just this, and was not given up or decided anew.
    pub(super) fn is_awaited(&self, sent: Sent) -> bool {
        let What::Update { waiting, index } = sent.what else { return false };
        let update = self.waiting.get(waiting).and_then(|waiting| waiting.updates.get(index));
        update.is_some_and(|update| {
            update.state == UpdateState::InFlight && update.binding == sent.binding
        })
    }

    pub(super) fn mark_refused(&mut self, sent: Sent) {
        let What::Update { waiting, index } = sent.what else { return };
        if let Some(waiting) = self.waiting.get_mut(waiting)
            && let Some(update) = waiting.updates.get_mut(index)
        {
            update.state = UpdateState::Refused;
        }
    }

    /// What a refusal means for the phone that waits.
    fn refuse_update(
        &mut self,
        now: Now,
        id: SlotId,
        server: ServerId,
        status: u16,
        response: Option<&Message>,
    ) {
        let Some(waiting) = self.waiting.get(id) else { return };
        let failed = self.health.view().server(server).failure.is_some();
        match (status, response) {
            (0, _) | (500.., _) if failed => self.redecide_waiting(now, id),
            // A server's 503 is not relayed: the phone would drop the door. Nor is silence.
            (0 | 500..=599, _) => self.block_waiting(now, id, true),
            (_, Some(response)) => {
                let (request, aor) = (waiting.request.clone(), waiting.aor.clone());
                self.note_challenges(server, response);
                self.learn_realm(now, server, &aor, response);
                if self.leaves_another_realm(now, &aor, server) {
                    return self.redecide_waiting(now, id);
                }
                let answer = self.relay_refusal(server, &request, status, response);
                self.refuse_waiting_with(now, id, status, answer);
            }
            (_, None) => self.refuse_waiting(now, id, status),
        }
    }

    pub(super) fn idle(&mut self, id: SlotId) {
        if let Some(binding) = self.bindings.get_mut(id) {
            binding.step = Step::Idle;
        }
    }

    fn backoff(&mut self, now: Uptime, id: SlotId) -> Trouble {
        let before = match self.bindings.get(id).and_then(|binding| binding.trouble) {
            Some(Trouble::Backoff { failures, .. }) => failures,
            _ => 0,
        };
        let wait = BACKOFF_MIN.saturating_mul(1 << before.min(6)).min(BACKOFF_MAX);
        let until = now + self.jitter(wait / 2, wait);
        Trouble::Backoff { until, failures: before.saturating_add(1) }
    }

    /// A backup that refuses its guest, or cannot let them in: the whole user is planned again (M5,
    /// M6).
    fn replan_if_backup_fails(&mut self, now: Now, id: SlotId, server: ServerId, trouble: Trouble) {
        let Some(user) = self.bindings.get(id).map(|binding| binding.user) else { return };
        let relocated = self.directory.get(user).relocation.is_some();
        let there = self.current(user) == Some(server);
        let fails = match trouble {
            Trouble::Backoff { failures, .. } => failures >= FAILURES_BEFORE_REPLAN,
            Trouble::Challenged => self.is_guest_of_another_realm(user, server),
            Trouble::Refused(_) | Trouble::NoPath | Trouble::SentAway { .. } => false,
        };
        if fails && relocated && there {
            self.replan_user(now, user);
        }
    }

    /// 423: the server wants a longer expiry; everybody gets it from now on. Whether this one is to
    /// be asked for again.
    fn raise_expiry(&mut self, sent: Sent, response: &Message) -> bool {
        let least = read_seconds(response.header(HeaderName::MinExpires)).unwrap_or(0);
        let lane = &mut self.lanes[sent.server.index()];
        lane.expiry_min_s = lane.expiry_min_s.max(least);
        u64::from(least) > sent.asked_s && sent.what != What::Remove && !sent.again
    }

    /// Whether anybody still wants what this one asked for.
    fn is_wanted(&self, sent: Sent) -> bool {
        !matches!(sent.what, What::Update { .. }) || self.is_awaited(sent)
    }

    fn send_again(&mut self, now: Now, sent: Sent) {
        match (sent.what, sent.binding) {
            (What::Update { waiting, index }, _) => {
                self.register_for_phone(now, sent.server, waiting, index, true, sent.systems);
            }
            (What::Register { .. }, Some(id)) => {
                self.register_for_door(now, sent.server, id, true, sent.systems);
            }
            (What::Remove | What::Sample(_), _) | (_, None) => {}
        }
    }

    /// RFC 3327 §5.3: a registrar that understood Path returns it.
    fn path_is_ignored(sent: Sent, response: &Message) -> bool {
        let removes = sent.asked_s == 0;
        let returned = || {
            response
                .lines(HeaderName::Path)
                .any(|line| memchr::memmem::find(line, sent.token.as_bytes()).is_some())
        };
        !removes && sent.binding.is_some() && !returned()
    }

    /// The server ignores Path: from now on its contacts point at the door, if they may (M2).
    fn on_path_ignored(&mut self, now: Now, sent: Sent) {
        let lane = &mut self.lanes[sent.server.index()];
        let Some(id) = sent.binding else { return };
        // What was just registered there leads past the door, to nobody; it is removed.
        let stale = Upstream {
            server: sent.server,
            by: By::Path,
            version: None,
            expires_at: now.uptime + self.settings.sip.expiry,
            expiry: self.settings.sip.expiry,
            refresh_at: now.uptime,
        };
        let fixed = lane.by_is_fixed;
        if !fixed {
            lane.by = By::Contact;
        }
        self.note_upstream(id, stale);
        if !fixed && self.is_wanted(sent) {
            return self.send_again(now, Sent { by: By::Contact, ..sent });
        }
        self.idle(id);
        match sent.what {
            What::Update { waiting, .. } => {
                if self.is_awaited(sent) {
                    self.mark_refused(sent);
                    self.refuse_waiting(now, waiting, 500);
                }
            }
            What::Register { .. } | What::Remove | What::Sample(_) => {
                if let Some(binding) = self.bindings.get_mut(id) {
                    binding.trouble = Some(Trouble::NoPath);
                }
            }
        }
        self.go_on(now, id);
    }

    /// What the server promised, and when the door comes back to it: at a random 50–90 % (M3).
    fn granted(&mut self, now: Now, sent: Sent, response: &Message) -> Upstream {
        let asked = self.expiry_for(sent.server);
        let seconds = self.granted_seconds(sent, response).unwrap_or(asked);
        let expiry = Duration::from_secs(seconds);
        let refresh = self.jitter(expiry / 2, expiry * 9 / 10);
        Upstream {
            server: sent.server,
            by: sent.by,
            version: None,
            expires_at: now.uptime + expiry,
            expiry,
            refresh_at: now.uptime + refresh,
        }
    }

    fn granted_seconds(&self, sent: Sent, response: &Message) -> Option<u64> {
        let id = sent.binding?;
        let binding = self.bindings.get(id)?;
        let staged = match sent.what {
            What::Update { waiting, index } => {
                self.waiting.get(waiting)?.updates.get(index)?.said.as_ref()
            }
            What::Register { .. } | What::Remove | What::Sample(_) => None,
        };
        let contact = staged.unwrap_or(&binding.said).saying().contact;
        let listed = listed(sent.by, sent.token, contact, response);
        let header = || read_seconds(response.header(HeaderName::Expires));
        listed.flatten().or_else(header).map(u64::from)
    }
}

/// Whether a 200 lists this binding, and with which expiry.
pub(super) fn listed(
    by: By,
    token: Token,
    contact: &[u8],
    response: &Message,
) -> Option<Option<u32>> {
    response.values(HeaderName::Contact).find_map(|value| {
        let address = NameAddr::parse(value).ok()?;
        let is_ours = match by {
            By::Path => {
                address.uri == contact
                    || address.parsed_uri().ok()?.equivalent(&Uri::parse(contact).ok()?)
            }
            By::Contact => address.parsed_uri().ok()?.user == Some(token.as_bytes()),
        };
        is_ours.then(|| read_seconds(address.params.get("expires")))
    })
}

fn read_seconds(value: Option<&[u8]>) -> Option<u32> {
    let digits = value?.split(|byte| !byte.is_ascii_digit()).next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
