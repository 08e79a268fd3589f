//! The server's own requests to phones: OPTIONS along the stored Path, as a call would go.
//!
//! ```text
//! ping ─► request (Route = Path, RFC 3327 §5.3) ─► client transaction ─► Reached | Unreached
//! ping_all ─► queue ─ so many a second ─► the same; the last answer ends the round
//! ```

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::now::Uptime;
use crate::sip::{
    ConnectionId, Flow, HeaderName, Host, ListenerId, NameAddr, Request, Transport, Uri,
};
use crate::ucserver::bindings::Binding;
use crate::ucserver::journal::Unreached;
use crate::ucserver::settings::Settings;

/// Phones named one by one in a [`PingAllResult`].
const UNREACHED_NAMED: usize = 100;

/// If the round fell further behind than this, it goes on from now instead of catching up.
const CATCH_UP: Duration = Duration::from_secs(1);

/// How a round of pings to every binding ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PingAllResult {
    /// Phones that answered 2xx.
    pub reached: u64,
    /// Phones that did not.
    pub unreached: u64,
    /// The first hundred of those: AoR, contact, why.
    pub first_unreached: Vec<(Arc<str>, Arc<str>, Unreached)>,
}

/// Why a ping is not even tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PingRefused {
    /// No such AoR, contact or neither.
    #[error("there is no such binding; list the bindings to see what there is")]
    NoBinding,
    /// The last round has not ended.
    #[error("a round of pings is still under way; wait for its result")]
    Busy,
    /// A process that is stopped sends nothing.
    #[error("the server's mood is silent; set another one first")]
    Silent,
}

/// What a client transaction is about.
#[derive(Clone, Debug)]
pub(in crate::ucserver) struct Ping {
    pub(in crate::ucserver) aor: Arc<str>,
    pub(in crate::ucserver) contact: Arc<str>,
    pub(in crate::ucserver) registered_at: Uptime,
    pub(in crate::ucserver) in_round: bool,
}

/// The round under way, and the result of the last one.
#[derive(Debug, Default)]
pub(in crate::ucserver) struct Rounds {
    current: Option<Round>,
    finished: Option<PingAllResult>,
}

#[derive(Debug)]
struct Round {
    queue: VecDeque<(Arc<str>, Arc<str>)>,
    interval: Duration,
    next_at: Uptime,
    under_way: u64,
    result: PingAllResult,
}

/// An OPTIONS ready to go.
#[derive(Debug)]
pub(in crate::ucserver) struct Options {
    pub(in crate::ucserver) flow: Flow,
    pub(in crate::ucserver) branch: String,
    pub(in crate::ucserver) bytes: Bytes,
}

/// Writes the OPTIONS to one phone.
pub(in crate::ucserver) fn options(
    settings: &Settings,
    rng: &mut fastrand::Rng,
    aor: &str,
    binding: &Binding,
) -> Result<Options, Unreached> {
    let flow = next_hop(binding)?;
    let branch = format!("z9hG4bK{:016x}{:016x}", rng.u64(..), rng.u64(..));
    let Settings { name, address, .. } = settings;
    let via = format!("SIP/2.0/{} {address};branch={branch};rport", flow.transport.via_name());
    let from = format!("<sip:{name}@{address}>;tag={:016x}", rng.u64(..));
    let call_id = format!("{:016x}{:016x}@{}", rng.u64(..), rng.u64(..), address.ip());
    let mut request = Request::new("OPTIONS", binding.contact.as_bytes())
        .header(HeaderName::Via, via)
        .header(HeaderName::MaxForwards, "70");
    for hop in &*binding.path {
        request = request.header(HeaderName::Route, hop.as_bytes());
    }
    let bytes = request
        .header(HeaderName::From, from)
        .header(HeaderName::To, format!("<{aor}>"))
        .header(HeaderName::CallId, call_id)
        .header(HeaderName::CSeq, "1 OPTIONS")
        .finish();
    Ok(Options { flow, branch, bytes })
}

/// Where the request goes: the first hop of the Path, else the contact (RFC 3261 §16.6).
fn next_hop(binding: &Binding) -> Result<Flow, Unreached> {
    let first = binding.path.first();
    let uri = match first {
        Some(hop) => NameAddr::parse(hop.as_bytes()).and_then(|hop| hop.parsed_uri()),
        None => Uri::parse(binding.contact.as_bytes()),
    };
    let uri = uri.map_err(|_| Unreached::NoAddress)?;
    if first.is_some() && !uri.params.has("lr") {
        return Err(Unreached::StrictRoute);
    }
    let ip = match uri.host {
        Host::V4(ip) => IpAddr::V4(ip),
        Host::V6(ip) => IpAddr::V6(ip),
        Host::Name(_) => return Err(Unreached::NoAddress),
    };
    let transport = match uri.params.get("transport") {
        None => Transport::Udp,
        Some(name) if name.eq_ignore_ascii_case(b"udp") => Transport::Udp,
        Some(name) if name.eq_ignore_ascii_case(b"tcp") => Transport::Tcp,
        Some(_) => return Err(Unreached::NoAddress),
    };
    Ok(Flow {
        listener: ListenerId(0),
        transport,
        remote: SocketAddr::new(ip, uri.port.unwrap_or(5060)),
        connection: ConnectionId::NONE,
    })
}

impl Rounds {
    /// Starts a round; the first ping is due at once.
    pub(in crate::ucserver) fn start(
        &mut self,
        now: Uptime,
        per_second: u32,
        queue: VecDeque<(Arc<str>, Arc<str>)>,
    ) -> Result<usize, PingRefused> {
        if self.current.is_some() {
            return Err(PingRefused::Busy);
        }
        let count = queue.len();
        let interval = Duration::from_secs(1) / per_second.max(1);
        let result = PingAllResult::default();
        self.finished = None;
        self.current = Some(Round { queue, interval, next_at: now, under_way: 0, result });
        self.finish();
        Ok(count)
    }

    /// When the next ping is due.
    pub(in crate::ucserver) fn next(&self) -> Option<Uptime> {
        let round = self.current.as_ref()?;
        (!round.queue.is_empty()).then_some(round.next_at)
    }

    /// Takes one phone whose turn it is.
    pub(in crate::ucserver) fn pop_due(&mut self, now: Uptime) -> Option<(Arc<str>, Arc<str>)> {
        let round = self.current.as_mut()?;
        if round.next_at > now {
            return None;
        }
        let phone = round.queue.pop_front()?;
        if now.since(round.next_at) > CATCH_UP {
            round.next_at = now;
        }
        round.next_at += round.interval;
        round.under_way += 1;
        Some(phone)
    }

    /// A phone of the round left it before it could be tried.
    pub(in crate::ucserver) fn gone(&mut self) {
        if let Some(round) = &mut self.current {
            round.under_way = round.under_way.saturating_sub(1);
        }
        self.finish();
    }

    /// What became of one phone of the round.
    pub(in crate::ucserver) fn settle(&mut self, ping: &Ping, outcome: Result<(), Unreached>) {
        let Some(round) = &mut self.current else { return };
        round.under_way = round.under_way.saturating_sub(1);
        match outcome {
            Ok(()) => round.result.reached += 1,
            Err(why) => {
                round.result.unreached += 1;
                if round.result.first_unreached.len() < UNREACHED_NAMED {
                    let (aor, contact) = (Arc::clone(&ping.aor), Arc::clone(&ping.contact));
                    round.result.first_unreached.push((aor, contact, why));
                }
            }
        }
        self.finish();
    }

    /// The result of the last round, once.
    pub(in crate::ucserver) const fn take_finished(&mut self) -> Option<PingAllResult> {
        self.finished.take()
    }

    fn finish(&mut self) {
        if let Some(round) = self.current.take_if(|r| r.queue.is_empty() && r.under_way == 0) {
            self.finished = Some(round.result);
        }
    }
}
