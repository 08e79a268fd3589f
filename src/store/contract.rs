//! What every store promises, as one suite: [`contract!`] runs it against an engine. What those promise
//! besides that survive a restart is in `durability`.

use std::net::Ipv4Addr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use crate::directory::record::BindingRecord;
use crate::directory::record::Change;
use crate::directory::record::Loaded;
use crate::directory::record::Record;
use crate::directory::record::Recorded;
use crate::directory::record::RelocationReason;
use crate::directory::record::RelocationRecord;
use crate::directory::record::UserRecord;
use crate::directory::{Aor, History, MoveReason, Moved};
use crate::store::Store;

/// Runs the suite against the store that `$make` makes; each test gets an empty one.
macro_rules! contract {
    ($make:expr) => {
        $crate::store::contract::contract!($make;
            an_empty_store_loads_nothing,
            an_empty_batch_is_nothing,
            what_was_done_is_loaded,
            a_second_write_replaces_the_first,
            a_record_happens_as_a_whole_or_not_at_all,
            a_conflict_names_the_stored_user_and_spares_its_neighbours,
            of_two_writers_in_one_batch_the_first_wins,
            a_user_nobody_stored_cannot_be_replaced,
            one_record_may_write_a_user_twice_in_step,
            forgetting_is_idempotent,
            a_forgotten_binding_may_come_back,
            the_order_within_a_batch_counts,
            many_records_come_back_in_order
        );
    };
    ($make:expr; $($name:ident),+) => {
        $(#[test]
        fn $name() {
            $crate::store::contract::$name(&mut $make);
        })+
    };
}
pub(super) use contract;

/// A user at home.
pub(super) fn user(name: &str, epoch: u64) -> UserRecord {
    UserRecord {
        name: name.into(),
        aors: vec![Aor::from_canonical(format!("sip:{name}@example.com"))],
        lines: Vec::new(),
        home: Some("ucs1".into()),
        enabled: true,
        relocation: None,
        epoch,
        left_at: Vec::new(),
        history: History::default(),
    }
}

/// The same user, relocated.
pub(super) fn away(name: &str, epoch: u64) -> UserRecord {
    let relocation = RelocationRecord {
        origin: "ucs1".into(),
        date: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000),
        target: "ucs2".into(),
        why: RelocationReason::Failover,
    };
    let mut history = History::default();
    history.push(Moved {
        date: relocation.date,
        from: "ucs1".into(),
        to: "ucs2".into(),
        why: MoveReason::Failover,
        epoch,
    });
    let left_at = vec!["ucs1".into()];
    UserRecord { relocation: Some(relocation), left_at, history, ..user(name, epoch) }
}

pub(super) fn binding(id: u64, user: &str) -> BindingRecord {
    BindingRecord {
        id,
        user: user.into(),
        aor: Aor::from_canonical(format!("sip:{user}@example.com")),
        listener: "phones".into(),
        remote: SocketAddr::from((Ipv4Addr::new(192, 0, 2, 7), 5060)),
        stream: false,
        body: vec![1, 2, 3],
        lease: Duration::from_secs(300),
        lease_ends: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_300),
        expiry: Duration::from_secs(3600),
        gone: false,
        left_at: Vec::new(),
    }
}

pub(super) fn record(ticket: u64, changes: impl Into<Vec<Change>>) -> Record {
    Record { ticket, changes: changes.into() }
}

/// A new user.
pub(super) fn add(name: &str) -> Change {
    Change::User { record: user(name, 1), replaces: None }
}

/// A user goes from one epoch to the next.
pub(super) fn relocate(name: &str, replaces: u64) -> Change {
    Change::User { record: away(name, replaces + 1), replaces: Some(replaces) }
}

pub(super) fn put(binding: BindingRecord) -> Change {
    Change::Binding(binding)
}

pub(super) fn forget(binding: u64) -> Change {
    Change::Forget { binding }
}

/// Commits one record.
pub(super) fn one(store: &mut dyn Store, changes: impl Into<Vec<Change>>) -> Recorded {
    let mut recorded = store.commit(&[record(1, changes)]);
    assert_eq!(recorded.len(), 1);
    recorded.remove(0)
}

/// Everything in a store, comparable.
pub(super) fn content(store: &mut dyn Store) -> (Vec<UserRecord>, Vec<BindingRecord>) {
    let Loaded { users, bindings } = store.load().unwrap();
    (users, bindings)
}

pub(super) fn an_empty_store_loads_nothing(store: &mut dyn Store) {
    assert_eq!(content(store), (Vec::new(), Vec::new()));
}

pub(super) fn an_empty_batch_is_nothing(store: &mut dyn Store) {
    assert_eq!(store.commit(&[]), []);
    assert_eq!(one(store, []), Recorded::Done);
    assert_eq!(content(store), (Vec::new(), Vec::new()));
}

pub(super) fn what_was_done_is_loaded(store: &mut dyn Store) {
    let mut contact = binding(7, "anna");
    contact.remote = "[2001:db8::1]:40000".parse().unwrap();
    contact.stream = true;
    contact.gone = true;
    contact.left_at = vec!["ucs1".into(), "ucs3".into()];
    let bert = UserRecord { home: None, enabled: false, ..user("bert", 0) };
    let batch = [
        record(1, [add("anna"), put(contact.clone())]),
        record(2, [Change::User { record: bert.clone(), replaces: None }]),
    ];
    assert_eq!(store.commit(&batch), [Recorded::Done, Recorded::Done]);
    assert_eq!(content(store), (vec![user("anna", 1), bert], vec![contact]));
}

pub(super) fn a_second_write_replaces_the_first(store: &mut dyn Store) {
    assert_eq!(one(store, [add("anna"), put(binding(1, "anna"))]), Recorded::Done);
    let refreshed = BindingRecord { body: Vec::new(), ..binding(1, "anna") };
    assert_eq!(one(store, [relocate("anna", 1), put(refreshed.clone())]), Recorded::Done);
    assert_eq!(content(store), (vec![away("anna", 2)], vec![refreshed]));
}

pub(super) fn a_record_happens_as_a_whole_or_not_at_all(store: &mut dyn Store) {
    assert_eq!(one(store, [add("bert"), put(binding(1, "bert"))]), Recorded::Done);
    let changes = [put(binding(2, "anna")), forget(1), add("anna"), relocate("bert", 5)];
    assert_eq!(one(store, changes), Recorded::Conflict(vec![user("bert", 1)]));
    assert_eq!(content(store), (vec![user("bert", 1)], vec![binding(1, "bert")]));
}

pub(super) fn a_conflict_names_the_stored_user_and_spares_its_neighbours(store: &mut dyn Store) {
    assert_eq!(one(store, [add("anna"), add("bert")]), Recorded::Done);
    let batch = [
        record(1, [relocate("bert", 1)]),
        record(2, [relocate("anna", 3), relocate("bert", 9), put(binding(1, "anna"))]),
        record(3, [put(binding(2, "anna"))]),
    ];
    let theirs = vec![user("anna", 1), away("bert", 2)];
    let expected = [Recorded::Done, Recorded::Conflict(theirs.clone()), Recorded::Done];
    assert_eq!(store.commit(&batch), expected);
    assert_eq!(content(store), (theirs, vec![binding(2, "anna")]));
}

pub(super) fn of_two_writers_in_one_batch_the_first_wins(store: &mut dyn Store) {
    assert_eq!(one(store, [add("anna")]), Recorded::Done);
    let first = UserRecord { home: Some("ucs9".into()), ..away("anna", 2) };
    let batch = [
        record(1, [Change::User { record: first.clone(), replaces: Some(1) }]),
        record(2, [relocate("anna", 1)]),
        record(3, [add("anna")]),
        record(4, [relocate("anna", 2)]),
    ];
    let conflict = Recorded::Conflict(vec![first]);
    let expected = [Recorded::Done, conflict.clone(), conflict, Recorded::Done];
    assert_eq!(store.commit(&batch), expected);
    assert_eq!(content(store).0, [away("anna", 3)]);
}

pub(super) fn a_user_nobody_stored_cannot_be_replaced(store: &mut dyn Store) {
    assert_eq!(one(store, [relocate("anna", 1)]), Recorded::Conflict(Vec::new()));
    assert_eq!(content(store).0, []);
}

pub(super) fn one_record_may_write_a_user_twice_in_step(store: &mut dyn Store) {
    assert_eq!(one(store, [add("anna"), relocate("anna", 1)]), Recorded::Done);
    assert_eq!(content(store).0, [away("anna", 2)]);
    let out_of_step = [relocate("anna", 2), relocate("anna", 2)];
    assert_eq!(one(store, out_of_step), Recorded::Conflict(vec![away("anna", 2)]));
    assert_eq!(content(store).0, [away("anna", 2)]);
}

pub(super) fn forgetting_is_idempotent(store: &mut dyn Store) {
    assert_eq!(one(store, [put(binding(1, "anna")), put(binding(2, "anna"))]), Recorded::Done);
    assert_eq!(one(store, [forget(1)]), Recorded::Done);
    assert_eq!(one(store, [forget(1), forget(99)]), Recorded::Done);
    assert_eq!(content(store).1, [binding(2, "anna")]);
}

pub(super) fn a_forgotten_binding_may_come_back(store: &mut dyn Store) {
    assert_eq!(one(store, [put(binding(1, "anna")), forget(1)]), Recorded::Done);
    assert_eq!(content(store).1, []);
    assert_eq!(one(store, [forget(1), put(binding(1, "anna"))]), Recorded::Done);
    assert_eq!(content(store).1, [binding(1, "anna")]);
}

pub(super) fn the_order_within_a_batch_counts(store: &mut dyn Store) {
    let last = BindingRecord { user: "bert".into(), ..binding(1, "anna") };
    let batch = [
        record(1, [put(binding(1, "anna"))]),
        record(2, [put(last.clone())]),
        record(3, [put(binding(2, "anna"))]),
        record(4, [forget(2)]),
    ];
    assert_eq!(store.commit(&batch), vec![Recorded::Done; 4]);
    assert_eq!(content(store).1, [last]);
}

pub(super) fn many_records_come_back_in_order(store: &mut dyn Store) {
    let names: Vec<Arc<str>> = (0..3000).map(|number| format!("user{number:04}").into()).collect();
    let mut batch: Vec<Record> = (0..)
        .zip(&names)
        .map(|(id, name)| record(id, [add(name), put(binding(id, name))]))
        .collect();
    batch.reverse();
    assert_eq!(store.commit(&batch), vec![Recorded::Done; 3000]);
    let (users, bindings) = content(store);
    assert!(users.iter().map(|user| &user.name).eq(&names));
    assert!(bindings.iter().map(|binding| binding.id).eq(0..3000));
}
