//! Writes under way, and what happens when they are durable.
//!
//! Nothing is told to anybody before the store says [`Recorded::Done`]: no home, no relocation, no
//! 200 to a phone (L1, Q5).

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::cluster::ServerId;
use crate::directory::record::{BindingRecord, Change, Record, Recorded, UserRecord};
use crate::directory::{Aor, Dropped, User, UserId};
use crate::door::binding::Binding;
use crate::door::command::Refused;
use crate::door::rehome::Move;
use crate::door::slots::SlotId;
use crate::door::{Door, Event, Timer};
use crate::now::Now;
use crate::sip::ConnectionId;

/// Until removals that could not be written are tried again.
const WRITE_AGAIN_AFTER: Duration = Duration::from_secs(1);
const BINDINGS_PER_RECORD: usize = 256;

/// Writes that are out, and who waits for what.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    tickets: u64,
    /// Orders of an operator that waited for the store.
    orders: u64,
    pending: HashMap<u64, Write>,
    /// Removals the store could not write: tried again, so that no restart brings them back.
    unforgotten: BTreeSet<SlotId>,
    /// Whether a timer for them is set.
    writes_again: bool,
    /// Whether users who were handed over are being written: nobody is adopted meanwhile, for it
    /// may be the same address.
    pub(crate) importing: bool,
    /// Users with a write of theirs under way: one at a time (each user has one writer).
    recording: HashSet<UserId>,
    /// REGISTERs that decide again when their user's record or server changes.
    wakeups: HashMap<Waker, BTreeSet<SlotId>>,
    /// Store trouble, while it lasts.
    pub(crate) trouble: Option<Arc<str>>,
    /// Whether only writes that grow the store have failed.
    only_growth_fails: bool,
}

/// Whose facts a waiting REGISTER waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Waker {
    /// A user's record or server.
    User(UserId),
    /// The pool alone: they are no users yet.
    Strangers,
}

/// A write that is out.
#[derive(Debug)]
struct Write {
    then: Continuation,
    /// Bindings it removes.
    removes: SmallVec<[SlotId; 1]>,
    /// Whether the store becomes larger by it. On a full disk moves and removals go on, so only a
    /// write that grows shows that there is room again.
    grows: bool,
}

/// What to do when a write is durable.
#[derive(Debug)]
pub(crate) enum Continuation {
    /// Nothing: the facts in memory are ahead, and nobody was promised anything.
    None,
    /// Answer a phone; these bindings are durable in these versions.
    Answer { waiting: SlotId, written: Vec<(SlotId, u32)> },
    /// These bindings are durable in these versions.
    Written(Vec<(SlotId, u32)>),
    /// A new user exists.
    Adopt { waiting: SlotId, user: Box<User> },
    /// A new user exists, whom a server has let in.
    AdoptClient { session: SlotId, user: Box<User> },
    /// A user has a home.
    Home { user: UserId, server: ServerId, epoch: u64 },
    /// Users are elsewhere now.
    Relocate { moves: Vec<Move>, run: Option<u32> },
    /// Users' leftovers at a server are gone.
    Swept { users: Vec<UserId>, server: ServerId },
    /// A user is as an operator ordered; `goes` has a place reserved.
    Ordered { user: UserId, after: Box<User>, goes: Option<ServerId>, ticket: u64 },
    /// Users are as they were handed over; who is known has the write of theirs under way.
    Imported { users: Vec<(Option<UserId>, User)>, ticket: u64 },
}

impl Continuation {
    /// The order that waits for it.
    const fn order(&self) -> Option<u64> {
        match self {
            Self::Ordered { ticket, .. } | Self::Imported { ticket, .. } => Some(*ticket),
            Self::None
            | Self::Answer { .. }
            | Self::Written(_)
            | Self::Adopt { .. }
            | Self::AdoptClient { .. }
            | Self::Home { .. }
            | Self::Relocate { .. }
            | Self::Swept { .. } => None,
        }
    }
}

impl Ledger {
    /// Writes without answer.
    pub(crate) fn writes(&self) -> usize {
        self.pending.len()
    }

    /// Whether the store still holds bindings that are no more.
    pub(crate) fn has_unwritten_removals(&self) -> bool {
        !self.unforgotten.is_empty()
    }

    pub(crate) fn is_recording(&self, user: UserId) -> bool {
        self.recording.contains(&user)
    }

    pub(crate) fn finish_recording(&mut self, user: UserId) {
        self.recording.remove(&user);
    }

    /// An order changes this user's record; the ticket of the order.
    pub(crate) fn begin_order(&mut self, user: UserId) -> u64 {
        self.recording.insert(user);
        self.orders += 1;
        self.orders
    }

    /// Users are handed over; the ticket of the order.
    pub(crate) fn begin_import(&mut self, known: impl Iterator<Item = UserId>) -> u64 {
        self.recording.extend(known);
        self.importing = true;
        self.orders += 1;
        self.orders
    }

    pub(crate) fn wake_with(&mut self, waker: Waker, waiting: SlotId) {
        self.wakeups.entry(waker).or_default().insert(waiting);
    }

    pub(crate) fn take_wakeups(&mut self, waker: Waker) -> BTreeSet<SlotId> {
        self.wakeups.remove(&waker).unwrap_or_default()
    }

    /// A REGISTER that is answered waits for nothing any more.
    pub(crate) fn forget_wakeup(&mut self, waker: Waker, waiting: SlotId) {
        if let Some(wakeups) = self.wakeups.get_mut(&waker) {
            wakeups.remove(&waiting);
            if wakeups.is_empty() {
                self.wakeups.remove(&waker);
            }
        }
    }

    /// In one order whatever the hash says.
    pub(crate) fn wakers(&self) -> Vec<Waker> {
        let mut wakers: Vec<Waker> = self.wakeups.keys().copied().collect();
        wakers.sort_unstable();
        wakers
    }
}

impl Door {
    pub(super) fn record_changes(&mut self, changes: Vec<Change>, then: Continuation) {
        self.ledger.tickets += 1;
        let ticket = self.ledger.tickets;
        let removes = changes.iter().filter_map(removed_by).collect();
        let grows = changes.iter().any(is_growth);
        self.ledger.pending.insert(ticket, Write { then, removes, grows });
        self.record(Record { ticket, changes });
    }

    /// A user of this AoR's own name, at home on `server`, is to exist.
    pub(super) fn record_adoption(
        &mut self,
        _now: Now,
        waiting: SlotId,
        aor: &Aor,
        server: ServerId,
    ) {
        let user = User {
            aors: smallvec::smallvec![aor.clone()],
            home: Some(server),
            epoch: 1,
            ..User::stranger(aor.as_str())
        };
        self.record_newcomer(user, |user| Continuation::Adopt { waiting, user });
    }

    /// Somebody is to exist, with a place at their home.
    pub(super) fn record_newcomer(
        &mut self,
        user: User,
        then: impl FnOnce(Box<User>) -> Continuation,
    ) {
        let change = Change::User { record: self.user_record(&user), replaces: None };
        if let Some(home) = user.home {
            self.directory.reserve(home);
        }
        self.record_changes(vec![change], then(Box::new(user)));
    }

    /// A user without a home gets one.
    pub(super) fn record_home(&mut self, _now: Now, user: UserId, server: ServerId) {
        let known = self.directory.get(user);
        let (replaces, epoch) = (known.epoch, known.epoch + 1);
        let record = self.user_record(&User { home: Some(server), epoch, ..known.clone() });
        self.ledger.recording.insert(user);
        self.directory.reserve(server);
        let change = Change::User { record, replaces: Some(replaces) };
        self.record_changes(vec![change], Continuation::Home { user, server, epoch });
    }

    /// Users go elsewhere; one write, all or none.
    pub(super) fn record_moves(&mut self, moves: Vec<Move>, run: Option<u32>) {
        let mut changes = Vec::with_capacity(moves.len());
        for step in &moves {
            let known = self.directory.get(step.user);
            let moved = step.apply(known, &|server| self.server_name(server));
            let record = self.user_record(&moved);
            changes.push(Change::User { record, replaces: Some(known.epoch) });
            self.ledger.recording.insert(step.user);
            self.directory.reserve(step.to);
        }
        self.record_changes(changes, Continuation::Relocate { moves, run });
    }

    /// Leftovers of these users at `server` are gone; current does not change, so nor does epoch.
    pub(super) fn record_swept(&mut self, users: Vec<UserId>, server: ServerId) {
        let mut changes = Vec::with_capacity(users.len());
        for &user in &users {
            let known = self.directory.get(user);
            let mut swept = known.clone();
            swept.left_at.retain(|&left| left != server);
            let record = self.user_record(&swept);
            changes.push(Change::User { record, replaces: Some(known.epoch) });
            self.ledger.recording.insert(user);
        }
        self.record_changes(changes, Continuation::Swept { users, server });
    }

    pub(super) fn on_recorded(&mut self, now: Now, ticket: u64, outcome: Recorded) {
        let Some(write) = self.ledger.pending.remove(&ticket) else { return };
        let Write { then, removes, grows } = write;
        let order = then.order();
        self.release_places(&then);
        match outcome {
            Recorded::Done => {
                let proves_room = grows || !self.ledger.only_growth_fails;
                if proves_room && self.ledger.trouble.take().is_some() {
                    self.emit(Event::StoreRecovered);
                    self.write_bindings_again(now);
                }
                self.on_durable(now, then);
                self.answer_order(order, Ok(()));
            }
            Recorded::Conflict(theirs) => {
                self.stats.store_conflicts += 1;
                self.adopt_theirs(&theirs);
                self.on_not_durable(now, then);
                self.answer_order(order, Err(Refused::Busy));
            }
            Recorded::Failed(why) => {
                self.stats.store_failures += 1;
                let why: Arc<str> = why.to_string().into();
                let first = self.ledger.trouble.is_none();
                self.ledger.only_growth_fails = grows && (first || self.ledger.only_growth_fails);
                if self.ledger.trouble.as_ref() != Some(&why) {
                    self.ledger.trouble = Some(Arc::clone(&why));
                    self.emit(Event::StoreFailed { why: Arc::clone(&why) });
                }
                self.ledger.unforgotten.extend(removes);
                if !self.ledger.unforgotten.is_empty() && !self.ledger.writes_again {
                    self.ledger.writes_again = true;
                    self.timers.set(now.uptime + WRITE_AGAIN_AFTER, Timer::Removals);
                }
                self.on_not_durable(now, then);
                self.answer_order(order, Err(Refused::NotWritten(why)));
            }
        }
    }

    /// The store has answered: the places kept for these writes are theirs now, or free again.
    fn release_places(&mut self, then: &Continuation) {
        match then {
            Continuation::Adopt { user, .. } | Continuation::AdoptClient { user, .. } => {
                if let Some(home) = user.home {
                    self.directory.release(home);
                }
            }
            Continuation::Home { server, .. } => self.directory.release(*server),
            Continuation::Relocate { moves, .. } => {
                for step in moves {
                    self.directory.release(step.to);
                }
            }
            Continuation::Ordered { goes: Some(server), .. } => self.directory.release(*server),
            Continuation::None
            | Continuation::Answer { .. }
            | Continuation::Written(_)
            | Continuation::Swept { .. }
            | Continuation::Imported { .. }
            | Continuation::Ordered { goes: None, .. } => {}
        }
    }

    /// Asks once more for the removals that could not be written.
    pub(super) fn write_removals_again(&mut self, now: Now) {
        self.ledger.writes_again = false;
        let removed = std::mem::take(&mut self.ledger.unforgotten);
        let mut changes = Vec::with_capacity(removed.len().min(BINDINGS_PER_RECORD));
        for id in removed {
            match self.bindings.get(id) {
                None => changes.push(Change::Forget { binding: id.to_u64() }),
                Some(kept) if kept.gone && !kept.is_reserved() => {
                    changes.push(Change::Binding(self.binding_record(now, id, kept)));
                }
                // Come back meanwhile: what was written for that is newer.
                Some(_) => {}
            }
            if changes.len() == BINDINGS_PER_RECORD {
                self.record_changes(std::mem::take(&mut changes), Continuation::None);
            }
        }
        if !changes.is_empty() {
            self.record_changes(changes, Continuation::None);
        }
    }

    /// There is room again: a restart is to know of what servers hold, also when the phone was told
    /// to come back and has not yet.
    fn write_bindings_again(&mut self, now: Now) {
        // What has gone meanwhile is among the removals.
        let lost = |kept: &Binding| !kept.durable && !kept.gone && !kept.upstream.is_empty();
        let unwritten = self.bindings.iter().filter(|(_, kept)| lost(kept));
        let unwritten: Vec<_> = unwritten.map(|(id, kept)| (id, kept.version)).collect();
        for some in unwritten.chunks(BINDINGS_PER_RECORD) {
            let kept = some.iter().filter_map(|&(id, _)| Some((id, self.bindings.get(id)?)));
            let change = |(id, kept)| Change::Binding(self.binding_record(now, id, kept));
            let changes = kept.map(change).collect();
            self.record_changes(changes, Continuation::Written(some.to_vec()));
        }
    }

    fn on_bindings_durable(&mut self, now: Now, written: &[(SlotId, u32)]) {
        for &(id, version) in written {
            if let Some(binding) = self.bindings.get_mut(id)
                && binding.version == version
            {
                binding.durable = true;
            }
            self.reconcile(now, id);
        }
    }

    fn on_durable(&mut self, now: Now, then: Continuation) {
        match then {
            Continuation::None => {}
            Continuation::Answer { waiting, written } => {
                self.on_bindings_durable(now, &written);
                self.answer_waiting(now, waiting);
            }
            Continuation::Written(written) => self.on_bindings_durable(now, &written),
            Continuation::Adopt { waiting, user } => {
                self.stats.users_adopted += 1;
                // Somebody else's REGISTER may have made the same user meanwhile.
                if self.directory.insert(*user).is_ok() && self.is_granted(waiting) {
                    return self.finish_waiting(now, waiting);
                }
                self.decide_waiting(now, waiting);
            }
            Continuation::AdoptClient { session, user } => {
                self.on_client_adopted(now, session, *user);
            }
            Continuation::Home { user, server, epoch } => {
                self.ledger.recording.remove(&user);
                self.directory.set_home(user, server, epoch);
                self.reconcile_user(now, user);
                self.wake_waiting(now, user);
            }
            Continuation::Relocate { moves, run } => self.on_moved(now, moves, run),
            Continuation::Swept { users, server } => {
                for user in users {
                    self.ledger.recording.remove(&user);
                    self.directory.forget_left_at(user, server);
                    self.wake_waiting(now, user);
                }
            }
            Continuation::Ordered { user, after, .. } => self.on_ordered(now, user, *after),
            Continuation::Imported { users, .. } => self.on_imported(now, users),
        }
    }

    /// Nothing was written, so nothing has happened: no move, no answer that promises anything.
    fn on_not_durable(&mut self, now: Now, then: Continuation) {
        match then {
            Continuation::None | Continuation::Written(_) => {}
            Continuation::Answer { waiting, written } => {
                for (id, _) in written {
                    self.reconcile(now, id);
                }
                self.block_waiting(now, waiting, true);
            }
            Continuation::Adopt { waiting, .. } => {
                let adopted = self
                    .waiting
                    .get(waiting)
                    .is_some_and(|waiting| self.directory.by_aor(waiting.aor.as_str()).is_some());
                if adopted {
                    self.decide_waiting(now, waiting);
                } else {
                    self.block_waiting(now, waiting, true);
                }
            }
            Continuation::AdoptClient { session, user } => {
                self.on_client_not_adopted(now, session, &user);
            }
            Continuation::Home { user, .. } => {
                self.ledger.recording.remove(&user);
                self.block_waiting_of(now, user);
            }
            Continuation::Relocate { moves, run } => {
                for step in &moves {
                    self.ledger.recording.remove(&step.user);
                    self.block_waiting_of(now, step.user);
                }
                self.on_moves_not_recorded(now, &moves, run);
            }
            Continuation::Swept { users, .. } => {
                for user in users {
                    self.ledger.recording.remove(&user);
                    self.wake_waiting(now, user);
                }
            }
            Continuation::Ordered { user, .. } => {
                self.ledger.recording.remove(&user);
                self.wake_waiting(now, user);
            }
            Continuation::Imported { users, .. } => self.on_not_imported(now, users),
        }
    }

    /// Who waited for a record that could not be written is told to come back.
    fn block_waiting_of(&mut self, now: Now, user: UserId) {
        for waiting in self.ledger.take_wakeups(Waker::User(user)) {
            self.block_waiting(now, waiting, true);
        }
        self.block_sessions_of(now, user);
    }

    /// Another door wrote first: theirs is the truth now.
    fn adopt_theirs(&mut self, theirs: &[UserRecord]) {
        for record in theirs {
            let (user, dropped) = User::from_record_lossy(record, &|name| self.server_named(name));
            self.count_dropped(&dropped);
            match self.directory.by_name(&record.name) {
                Some(id) => drop(self.directory.replace(id, user)),
                None => drop(self.directory.insert(user)),
            }
        }
    }

    /// A record that names servers the configuration does not: the user stays where that is
    /// possible, and the operator can see that it happened (B3).
    pub(super) fn count_dropped(&mut self, dropped: &Dropped) {
        self.stats.unknown_servers += u64::from(!dropped.is_empty());
    }

    pub(super) fn user_record(&self, user: &User) -> UserRecord {
        user.to_record(&|server| self.server_name(server))
    }

    pub(super) fn binding_record(&self, now: Now, id: SlotId, binding: &Binding) -> BindingRecord {
        let listener = &self.settings.listeners[usize::from(binding.flow.listener.0)];
        let current = self.current(binding.user);
        BindingRecord {
            id: id.to_u64(),
            user: Arc::clone(&self.directory.get(binding.user).name),
            aor: binding.aor.clone(),
            listener: Arc::clone(&listener.name),
            remote: binding.flow.remote,
            stream: binding.flow.connection != ConnectionId::NONE,
            body: binding.said.as_bytes().to_vec(),
            lease: binding.lease,
            lease_ends: now.wall + binding.lease_until.since(now.uptime),
            expiry: binding.upstream.iter().map(|u| u.expiry).max().unwrap_or_default(),
            gone: binding.gone,
            left_at: binding
                .upstream
                .iter()
                .filter(|upstream| binding.gone || Some(upstream.server) != current)
                .map(|upstream| self.server_name(upstream.server))
                .collect(),
        }
    }
}

/// Whether the store becomes larger by a change: a new user, or a binding that is not removed.
fn is_growth(change: &Change) -> bool {
    match change {
        Change::User { replaces, .. } => replaces.is_none(),
        Change::Binding(record) => !record.gone,
        Change::Forget { .. } => false,
    }
}

/// The binding a change removes, if it removes one.
fn removed_by(change: &Change) -> Option<SlotId> {
    match change {
        Change::Forget { binding } => Some(SlotId::from_u64(*binding)),
        Change::Binding(record) if record.gone => Some(SlotId::from_u64(record.id)),
        Change::Binding(_) | Change::User { .. } => None,
    }
}
