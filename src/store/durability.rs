//! What every store promises that survives a restart, as one suite: [`durability!`] runs it against an
//! engine, on a [`Medium`] that can be broken, filled and left without power. What a store promises
//! besides is in `contract`.

use std::io::ErrorKind;

use crate::directory::record::{BindingRecord, Change, Failed, Record, Recorded};
use crate::store::Store;
use crate::store::contract::{
    add, away, binding, content, forget, one, put, record, relocate, user,
};
use crate::store::fake::Fault;
use crate::store::memory::Memory;

/// A life of a store; it leaves marks by what it is given.
pub(super) type Life<'l> = dyn FnMut(&dyn Fn(usize)) + 'l;

/// Where a store lies.
pub(super) trait Medium: Default {
    /// A process starts with what is there.
    fn open(&self) -> Box<dyn Store>;

    /// What another process finds there now, after kill -9.
    fn copy(&self) -> Self;

    /// Operations are to fail, or none any longer.
    fn plan(&self, fault: Option<Fault>);

    /// How many operations there were.
    fn operations(&self) -> u64;

    /// From now on there is room for so many bytes more.
    fn leave_room(&self, bytes: u64);

    /// Lives a life that leaves marks, and hands over what is found if the power goes at any instant of
    /// it, with the last mark before that.
    fn cut_power(&self, live: &mut Life<'_>, found: &mut dyn FnMut(usize, Self));
}

/// Runs the suite against the engine that lies on `$medium`.
macro_rules! durability {
    ($medium:ident) => {
        $crate::store::durability::durability!($medium;
            what_was_done_is_there_after_a_restart,
            an_error_at_any_operation_is_answered_truthfully_and_survived,
            no_space_at_any_operation_is_answered_truthfully_and_survived,
            a_medium_that_fails_until_repaired_is_taken_up_again,
            a_power_cut_at_any_instant_loses_nothing_acknowledged_and_shows_nothing_half,
            full_every_user_can_still_be_relocated_and_bindings_removed_but_nothing_grows,
            a_batch_that_finds_it_full_still_relocates,
            full_a_binding_marked_as_gone_counts_as_a_removal,
            full_it_grows_again_as_soon_as_there_is_room,
            full_a_restart_still_relocates,
            any_sequence_of_commits_ends_as_in_memory
        );
    };
    ($medium:ident; $($name:ident),+) => {
        mod durability {
            use super::$medium;

            $(#[test]
            fn $name() {
                $crate::store::durability::$name::<$medium>();
            })+
        }
    };
}
pub(super) use durability;

const MIB: u64 = 1 << 20;

pub(super) fn what_was_done_is_there_after_a_restart<M: Medium>() {
    let medium = M::default();
    let mut store = medium.open();
    assert_eq!(one(&mut *store, [add("anna"), put(binding(1, "anna"))]), Recorded::Done);
    assert_eq!(one(&mut *store, [relocate("anna", 1)]), Recorded::Done);
    // Killed, and stopped properly.
    for medium in [medium.copy(), {
        drop(store);
        medium
    }] {
        let mut store = medium.open();
        assert_eq!(content(&mut *store), (vec![away("anna", 2)], vec![binding(1, "anna")]));
        let conflict = Recorded::Conflict(vec![away("anna", 2)]);
        assert_eq!(one(&mut *store, [relocate("anna", 1)]), conflict);
    }
}

/// A life of the store: users come, move and change, bindings come and go.
fn story() -> Vec<Vec<Record>> {
    let big = |id: u64, user: &str| BindingRecord { body: vec![7; 900], ..binding(id, user) };
    let names: Vec<String> = (0..12).map(|number| format!("user{number}")).collect();
    let mut story = vec![
        vec![record(1, [add("anna"), put(binding(1, "anna"))]), record(2, [add("bert")])],
        vec![record(3, [relocate("anna", 1)]), record(4, [relocate("anna", 1), forget(1)])],
    ];
    story.push(
        (10..).zip(&names).map(|(id, name)| record(id, [add(name), put(big(id, name))])).collect(),
    );
    story.push((10..16).map(|id| record(id, [forget(id)])).collect());
    story.push(
        (10..)
            .zip(&names)
            .map(|(id, name)| record(id, [relocate(name, 1), put(big(id, name))]))
            .collect(),
    );
    story.push(vec![record(5, [relocate("anna", 2), put(binding(1, "anna"))])]);
    story
}

/// Tells the story, checks every answer against a store in memory that is told only what was
/// done, and then that both hold the same, also after a restart.
fn tell(medium: &impl Medium, store: &mut dyn Store) -> usize {
    let mut model = Memory::new();
    let mut refused = 0;
    for batch in story() {
        let recorded = store.commit(&batch);
        assert_eq!(recorded.len(), batch.len());
        for (record, recorded) in batch.iter().zip(recorded) {
            if matches!(recorded, Recorded::Failed(_)) {
                refused += 1;
            } else {
                assert_eq!(model.commit(std::slice::from_ref(record)), [recorded]);
            }
        }
    }
    medium.plan(None);
    assert_eq!(content(store), content(&mut model));
    assert_eq!(content(&mut *medium.copy().open()), content(&mut model), "after a restart");
    assert_eq!(one(store, [add("last")]), Recorded::Done, "and it still writes");
    refused
}

/// Breaks every operation of the story in turn, so many from there on.
fn break_everything<M: Medium>(count: u64, kind: ErrorKind) -> usize {
    let medium = M::default();
    assert_eq!(tell(&medium, &mut *medium.open()), 0);
    let operations = medium.operations();
    let mut refused = 0;
    for from in 1..=operations {
        let medium = M::default();
        let mut store = medium.open();
        let from = medium.operations() + from;
        medium.plan(Some(Fault { from, count, kind }));
        refused += tell(&medium, &mut *store);
    }
    refused
}

pub(super) fn an_error_at_any_operation_is_answered_truthfully_and_survived<M: Medium>() {
    assert!(break_everything::<M>(1, ErrorKind::Other) > 0);
}

pub(super) fn no_space_at_any_operation_is_answered_truthfully_and_survived<M: Medium>() {
    assert!(break_everything::<M>(1, ErrorKind::StorageFull) > 0);
}

pub(super) fn a_medium_that_fails_until_repaired_is_taken_up_again<M: Medium>() {
    let medium = M::default();
    let mut store = medium.open();
    assert_eq!(one(&mut *store, [add("anna")]), Recorded::Done);
    let from = medium.operations() + 1;
    medium.plan(Some(Fault { from, count: u64::MAX, kind: ErrorKind::Other }));
    for _ in 0..3 {
        let recorded = one(&mut *store, [relocate("anna", 1)]);
        assert!(matches!(recorded, Recorded::Failed(Failed::Io(_))), "{recorded:?}");
    }
    assert!(store.load().is_err());
    medium.plan(None);
    assert_eq!(content(&mut *store).0, [user("anna", 1)]);
    assert_eq!(one(&mut *store, [relocate("anna", 1)]), Recorded::Done);
}

pub(super) fn a_power_cut_at_any_instant_loses_nothing_acknowledged_and_shows_nothing_half<
    M: Medium,
>() {
    let medium = M::default();
    let mut store = medium.open();
    let mut states = vec![content(&mut *store)];
    let mut model = Memory::new();
    for batch in story() {
        model.commit(&batch);
        states.push(content(&mut model));
    }
    let (mut cuts, mut last) = (0, 0);
    let mut live = |note: &dyn Fn(usize)| {
        for (mark, batch) in (1..).zip(story()) {
            store.commit(&batch);
            note(mark);
        }
    };
    medium.cut_power(&mut live, &mut |acknowledged, found| {
        let survived = content(&mut *found.open());
        let next = states.get(acknowledged + 1).unwrap_or(&states[acknowledged]);
        assert!(survived == states[acknowledged] || survived == *next, "after {acknowledged}");
        (cuts, last) = (cuts + 1, acknowledged);
    });
    assert_eq!(last, story().len());
    assert!(cuts > 5 * story().len(), "{cuts}");
}

const USERS_THERE: usize = 1000;

fn name(number: usize) -> String {
    format!("user{number:04}")
}

fn growth(id: u64) -> BindingRecord {
    BindingRecord { body: vec![7; 2000], ..binding(id, "user0000") }
}

/// A store with a thousand users, a binding each, on a medium filled up with more of those.
fn full<M: Medium>() -> (M, Box<dyn Store>) {
    let medium = M::default();
    let mut store = medium.open();
    let users: Vec<Record> = (0..USERS_THERE)
        .map(|number| record(number as u64, [add(&name(number)), put(growth(number as u64))]))
        .collect();
    assert_eq!(store.commit(&users), vec![Recorded::Done; USERS_THERE]);
    medium.leave_room(MIB);
    let mut id = 1_000_000;
    while one(&mut *store, [put(growth(id))]) == Recorded::Done {
        id += 1;
        assert!(id < 1_010_000, "it does not fill");
    }
    (medium, store)
}

pub(super) fn full_every_user_can_still_be_relocated_and_bindings_removed_but_nothing_grows<
    M: Medium,
>() {
    let (_medium, mut store) = full::<M>();
    let mut batch: Vec<Record> = Vec::new();
    for number in 0..USERS_THERE {
        let ticket = number as u64;
        batch.push(record(ticket, [put(growth(2_000_000 + ticket))]));
        batch.push(record(ticket, [add(&format!("new{number}"))]));
        batch.push(record(ticket, [forget(ticket)]));
        batch.push(record(ticket, [relocate(&name(number), 1)]));
    }
    let recorded = store.commit(&batch);
    let full = Recorded::Failed(Failed::DiskFull);
    let expected = [full.clone(), full, Recorded::Done, Recorded::Done];
    assert!(recorded.chunks(4).all(|answers| answers == expected), "{:?}", &recorded[..4]);
    let (users, bindings) = content(&mut *store);
    assert!(users.iter().all(|user| user.epoch == 2));
    assert_eq!(users.len(), USERS_THERE);
    assert!(bindings.iter().all(|binding| (1_000_000..2_000_000).contains(&binding.id)));
}

pub(super) fn a_batch_that_finds_it_full_still_relocates<M: Medium>() {
    let medium = M::default();
    let mut store = medium.open();
    assert_eq!(one(&mut *store, [add("anna"), put(binding(1, "anna"))]), Recorded::Done);
    medium.leave_room(MIB);
    let mut batch: Vec<Record> = (0..2000).map(|id| record(id, [put(growth(1000 + id))])).collect();
    batch.push(record(1, [forget(1)]));
    batch.push(record(2, [relocate("anna", 1)]));
    batch.push(record(3, [relocate("anna", 1)]));
    let recorded = store.commit(&batch);
    let (grown, rest) = recorded.split_at(2000);
    assert!(grown.iter().all(|answer| *answer == Recorded::Failed(Failed::DiskFull)));
    let conflict = Recorded::Conflict(vec![away("anna", 2)]);
    assert_eq!(rest, [Recorded::Done, Recorded::Done, conflict]);
    assert_eq!(content(&mut *store), (vec![away("anna", 2)], Vec::new()));
}

pub(super) fn full_a_binding_marked_as_gone_counts_as_a_removal<M: Medium>() {
    let (_medium, mut store) = full::<M>();
    let gone = BindingRecord { gone: true, ..growth(3) };
    assert_eq!(one(&mut *store, [put(gone)]), Recorded::Done);
}

pub(super) fn full_it_grows_again_as_soon_as_there_is_room<M: Medium>() {
    let (medium, mut store) = full::<M>();
    assert_eq!(one(&mut *store, [put(growth(1))]), Recorded::Failed(Failed::DiskFull));
    medium.leave_room(8 * MIB);
    assert_eq!(one(&mut *store, [put(growth(1))]), Recorded::Done);
    assert_eq!(one(&mut *store, [add("somebody new")]), Recorded::Done);
}

pub(super) fn full_a_restart_still_relocates<M: Medium>() {
    let (medium, store) = full::<M>();
    drop(store);
    let mut store = medium.open();
    assert_eq!(one(&mut *store, [relocate("user0000", 1)]), Recorded::Done);
    assert_eq!(one(&mut *store, [put(growth(1))]), Recorded::Failed(Failed::DiskFull));
}

/// Batches by chance, compared with a store in memory after every commit and after a restart.
pub(super) fn any_sequence_of_commits_ends_as_in_memory<M: Medium>() {
    let mut random = fastrand::Rng::with_seed(48);
    for _ in 0..48 {
        let medium = M::default();
        let mut store = medium.open();
        let mut model = Memory::new();
        for _ in 0..random.usize(1..8) {
            let batch: Vec<Record> = (0..random.u64(0..6))
                .map(|ticket| {
                    let changes: Vec<_> =
                        (0..random.u32(0..4)).map(|_| change(&mut random)).collect();
                    record(ticket, changes)
                })
                .collect();
            assert_eq!(store.commit(&batch), model.commit(&batch), "{batch:?}");
        }
        assert_eq!(content(&mut *store), content(&mut model));
        drop(store);
        assert_eq!(content(&mut *medium.open()), content(&mut model));
    }
}

fn change(random: &mut fastrand::Rng) -> Change {
    let name = ["anna", "bert", "carl"][random.usize(..3)];
    let id = random.u64(..6);
    match random.u32(..3) {
        0 => {
            let replaces = random.bool().then(|| random.u64(..4));
            Change::User { record: away(name, random.u64(..4)), replaces }
        }
        1 => put(BindingRecord { gone: random.bool(), ..binding(id, name) }),
        _ => forget(id),
    }
}
