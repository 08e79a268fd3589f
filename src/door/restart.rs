//! A door starts with what the store held.
//!
//! Every stored binding lives the longest lease from now: the phones' refreshes that came while the
//! door was away are not held against them (S). Servers still hold the bindings, with Paths that
//! this life of the door understands, so phones are reachable at once; the registrations are
//! renewed in this life's name, spread so that a restart is no storm (O4).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::arena::Arena;
use crate::cluster::ServerId;
use crate::cluster::health::Health;
use crate::directory::record::{BindingRecord, Loaded};
use crate::directory::{Directory, User};
use crate::door::admission::Admission;
use crate::door::binding::{Binding, Said, Standing, Step, Upstream};
use crate::door::clients::Clients;
use crate::door::departure::Departures;
use crate::door::homecoming::Homecomings;
use crate::door::lane::Lane;
use crate::door::ledger::Ledger;
use crate::door::nonces::Nonces;
use crate::door::picture::Tally;
use crate::door::pool::Probes;
use crate::door::redirect::Redirects;
use crate::door::rehome::Failovers;
use crate::door::repeat::{Date, Repeat, Repeats};
use crate::door::slots::{SlotId, Slots};
use crate::door::systems::Systems;
use crate::door::token::PathTokens;
use crate::door::trail::Trails;
use crate::door::{Door, Settings, Side, Stats};
use crate::now::{Now, Uptime};
use crate::sip::transaction::{self, Transactions};
use crate::sip::{ConnectionId, Flow, ListenerId, Transport};
use crate::timers::Timers;

/// Renewals of stored bindings are spread over this at most: a server that granted an hour has six
/// minutes left of it when the door refreshes as late as it does.
const RENEWAL_SPREAD_MAX: Duration = Duration::from_secs(60);

pub(super) fn start(settings: Settings, loaded: Loaded, now: Now) -> Door {
    let mut rng = fastrand::Rng::with_seed(settings.seed);
    let limits = settings.limits;
    let transactions = Transactions::new(
        settings.sip.timings,
        transaction::Limits { server: limits.transactions, client: limits.transactions },
    );
    let lanes = settings
        .servers
        .iter()
        .map(|server| Lane::new(server, listener_towards(&settings, server), settings.pace))
        .collect();
    let life = rng.u64(..);
    let bindings = Slots::new(limits.bindings, rng.u32(..));
    let health = Health::new(&settings.servers, settings.health.clone(), now.uptime, rng.u64(..));
    let mut door = Door {
        life,
        tokens: PathTokens::new(&settings.token_key),
        directory: Directory::new(settings.servers.len()),
        bindings,
        by_user: Vec::new(),
        streams: HashMap::new(),
        systems: Systems::new(&settings.telephone_systems, health.view()),
        shortfall: None,
        health,
        seen: Arc::default(),
        probes: Probes::new(settings.servers.len()),
        transactions,
        lanes,
        admission: Admission::new(&limits),
        clients: Clients::new(&settings.clients, settings.servers.len(), settings.seed),
        waiting: Slots::new(limits.waiting, 0),
        turns: HashMap::default(),
        repeats: Repeats::new(rng.u64(..)),
        ledger: Ledger::default(),
        nonces: Nonces::default(),
        failovers: Failovers::default(),
        homecomings: Homecomings::new(now.uptime),
        departures: Departures::default(),
        redirects: Redirects::default(),
        drill: None,
        trails: Trails::default(),
        timers: Timers::default(),
        outputs: VecDeque::new(),
        scratch: Vec::new(),
        arena: Arena::default(),
        date: Date::default(),
        tally: Tally::default(),
        stats: Stats::default(),
        branches: 0,
        rng,
        settings,
    };
    door.restore(loaded, now);
    door.start_sampling(now);
    door.start_looking_ahead(now);
    door
}

/// The socket of ours that speaks a server's transport and address family.
fn listener_towards(settings: &Settings, server: &crate::cluster::Server) -> ListenerId {
    let fits = settings.listeners.iter().position(|listener| {
        listener.side == Side::Servers
            && listener.transport == server.transport
            && listener.ipv6 == server.sip.is_ipv6()
    });
    ListenerId(fits.unwrap_or_default() as u16)
}

impl Door {
    fn restore(&mut self, loaded: Loaded, now: Now) {
        for record in &loaded.users {
            let (user, dropped) = User::from_record_lossy(record, &|name| self.server_named(name));
            self.count_dropped(&dropped);
            // Only a store that was tampered with holds an AoR twice; the first owner keeps it.
            drop(self.directory.insert(user));
        }
        self.by_user.resize_with(self.directory.len(), SmallVec::new);
        let restored = loaded
            .bindings
            .iter()
            .filter_map(|record| {
                let binding = self.restored_binding(record, now)?;
                Some((SlotId::from_u64(record.id), binding))
            })
            .collect();
        drop(self.bindings.restore(restored));
        let ids: Vec<SlotId> = self.bindings.iter().map(|(id, _)| id).collect();
        for id in ids {
            self.take_up(now, id);
        }
        self.wake_planner_at(now.uptime);
        self.bring_home(now);
    }

    fn restored_binding(&self, record: &BindingRecord, now: Now) -> Option<Binding> {
        let user = self.directory.by_name(&record.user)?;
        let said = Said::from_bytes(&record.body)?;
        let listener =
            self.settings.listeners.iter().position(|listener| listener.name == record.listener)?;
        let flow = Flow {
            listener: ListenerId(listener as u16),
            transport: if record.stream { Transport::Tcp } else { Transport::Udp },
            remote: record.remote,
            connection: if record.stream { ConnectionId::ENDED } else { ConnectionId::NONE },
        };
        Some(Binding {
            user,
            aor: self.directory.own(user, &record.aor),
            said,
            // The phone's count is not stored at every refresh; whatever comes now is newer.
            cseq: 0,
            flow,
            lease: record.lease,
            // An absorbed refresh may have been promised more than was written.
            lease_until: now.uptime + record.lease.max(self.settings.sip.lease_max),
            version: 1,
            upstream_cseq: 0,
            gone: record.gone,
            claimed: false,
            durable: true,
            upstream: SmallVec::new(),
            step: Step::Idle,
            trouble: None,
            run: None,
            standing: Standing::Gone,
            wakes_at: Uptime::NEVER,
            repeat: Repeat::NONE,
        })
        .filter(|_| !record.aor.as_str().is_empty())
    }

    /// Puts a restored binding where its user is, and notes who may hold it besides.
    fn take_up(&mut self, now: Now, id: SlotId) {
        let Some(binding) = self.bindings.get(id) else { return };
        let (user, gone) = (binding.user, binding.gone);
        self.by_user[user.index()].push(id);
        let expiry = self.settings.sip.expiry;
        let spread = RENEWAL_SPREAD_MAX.min(expiry / 10);
        let renew_in = self.jitter(Duration::ZERO, spread);
        let known = self.directory.get(user);
        let relocated = known.relocation.is_some();
        let current = known.current();
        let mut left_at: Vec<ServerId> = known.left_at.clone();
        if gone {
            left_at.extend(current);
        }
        let upstream = |server, version, refresh_at| Upstream {
            server,
            by: self.lanes[server.index()].by,
            version,
            expires_at: now.uptime + expiry,
            expiry,
            refresh_at,
        };
        let mut entries = Vec::new();
        for server in left_at {
            entries.push(upstream(server, None, now.uptime));
        }
        if let (Some(server), false) = (current, gone) {
            // A relocation may have been recorded and not carried out: that is done at once.
            let told = (!relocated).then_some(1);
            entries.push(upstream(server, told, now.uptime + renew_in));
        }
        for entry in entries {
            self.note_upstream(id, entry);
        }
        self.reconcile(now, id);
    }
}
