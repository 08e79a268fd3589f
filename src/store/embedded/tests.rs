use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;

use proptest::prelude::*;
use redb::backends::FileBackend;
use redb::{Builder, ReadableTable, TableDefinition, WriteTransaction};

use super::*;
use crate::directory::History;
use crate::directory::record::{BindingRecord, RelocationReason, UserRecord};
use crate::store::contract::{
    add, away, binding, content, forget, one, put, record, relocate, user,
};
use crate::store::embedded::database::{META, META_FORMAT, USERS};
use crate::store::fake::{FakeDisk, Fault, Step};
use crate::store::memory::Memory;

crate::store::contract::contract!(fake(&FakeDisk::default()));

/// Enough for 1024 users: 3 MiB.
const SETTINGS: Settings = Settings { reserve_users_min: 1, cache_bytes: 1 << 20 };

const MIB: u64 = 1 << 20;

fn fake(disk: &FakeDisk) -> Embedded<FakeDisk> {
    Embedded::open(disk.clone(), SETTINGS).unwrap()
}

fn file(path: &std::path::Path) -> Result<Embedded, OpenError> {
    Embedded::open(FileDisk::new(path), SETTINGS)
}

mod in_a_file {
    use super::*;

    #[test]
    fn what_was_done_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let mut store = file(&path).unwrap();
        assert_eq!(one(&mut store, [add("anna"), put(binding(1, "anna"))]), Recorded::Done);
        assert_eq!(one(&mut store, [relocate("anna", 1)]), Recorded::Done);
        drop(store);
        let mut store = file(&path).unwrap();
        assert_eq!(content(&mut store), (vec![away("anna", 2)], vec![binding(1, "anna")]));
        assert_eq!(
            one(&mut store, [relocate("anna", 1)]),
            Recorded::Conflict(vec![away("anna", 2)])
        );
    }

    #[test]
    fn only_its_owner_may_read_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        drop(file(&path).unwrap());
        let mode = |name: &str| {
            fs::metadata(directory.path().join(name)).unwrap().permissions().mode() & 0o777
        };
        assert_eq!((mode("store"), mode("store.reserve")), (0o600, 0o600));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        drop(file(&path).unwrap());
        assert_eq!(mode("store"), 0o600);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "no draft is left");
    }

    #[test]
    fn the_reserve_lies_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let store = file(&directory.path().join("store")).unwrap();
        assert!(!store.is_short());
        let reserve = fs::metadata(directory.path().join("store.reserve")).unwrap();
        assert_eq!(reserve.len(), reserve_bytes(1));
    }

    #[test]
    fn two_doors_cannot_share_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let first = file(&path).unwrap();
        let error = file(&path).unwrap_err();
        assert!(matches!(error, OpenError::InUse(_)), "{error}");
        assert!(error.to_string().contains("stop that one"), "{error}");
        drop(first);
        file(&path).unwrap();
    }

    #[test]
    fn a_missing_directory_is_named_with_the_remedy() {
        let directory = tempfile::tempdir().unwrap();
        let error = file(&directory.path().join("missing/store")).unwrap_err();
        assert!(matches!(error, OpenError::NoDirectory(_)), "{error}");
        assert!(error.to_string().contains("install -d"), "{error}");
    }

    #[test]
    fn a_file_that_is_no_store_is_left_as_it_is() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        for content in ["x", "[servers]\n", &"no database at all ".repeat(1000)] {
            fs::write(&path, content).unwrap();
            let error = file(&path).unwrap_err();
            assert!(matches!(error, OpenError::NotAStore(_)), "{error}");
            assert!(error.to_string().contains("move this one away"), "{error}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
    }

    #[test]
    fn another_programs_database_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let other: TableDefinition<'_, u64, u64> = TableDefinition::new("other");
        with_database(&path, |transaction| {
            transaction.open_table(other).unwrap().insert(1, 1).unwrap();
        });
        assert!(matches!(file(&path).unwrap_err(), OpenError::NotAStore(_)));
    }

    #[test]
    fn a_format_from_the_future_is_refused_with_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        drop(file(&path).unwrap());
        with_database(&path, |transaction| {
            transaction.open_table(META).unwrap().insert(META_FORMAT, 9).unwrap();
        });
        let error = file(&path).unwrap_err();
        assert!(matches!(error, OpenError::Newer { found: 9, known: 2, .. }), "{error}");
        assert!(error.to_string().contains("start the newer frontdoor"), "{error}");
    }

    /// The fixture is the file of a door that was killed while anna, who had got another home by
    /// hand, had a phone registered.
    #[test]
    fn a_file_of_format_1_is_carried_over_by_the_first_write_and_loses_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let fixture = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/store/format-1.redb");
        fs::copy(fixture, &path).unwrap();
        let format = || {
            let mut found = 0;
            with_database(&path, |transaction| {
                let meta = transaction.open_table(META).unwrap();
                found = meta.get(META_FORMAT).unwrap().unwrap().value();
            });
            found
        };
        assert_eq!(format(), 1);
        let mut store = file(&path).unwrap();
        let (mut users, bindings) = content(&mut store);
        let names: Vec<&str> = users.iter().map(|user| &*user.name).collect();
        assert_eq!(names, ["anna", "bert", "carla"]);
        let anna = users[0].clone();
        assert_eq!((anna.home.as_deref(), &*anna.lines[0]), (Some("ucs2"), "4711"));
        let relocation = anna.relocation.as_ref().unwrap();
        assert_eq!((&*relocation.target, relocation.why), ("ucs1", RelocationReason::Manual));
        assert_eq!((users[1].home.as_deref(), users[2].enabled), (Some("ucs2"), false));
        assert!(users.iter().all(|user| user.history == History::default()));
        assert_eq!((bindings.len(), &*bindings[0].user), (1, "anna"));
        drop(store);
        assert_eq!(format(), 1, "who only looks leaves it to the frontdoor that wrote it");

        let mut store = file(&path).unwrap();
        users[0] = UserRecord { epoch: anna.epoch + 1, history: away("anna", 1).history, ..anna };
        let change = Change::User { record: users[0].clone(), replaces: Some(users[0].epoch - 1) };
        assert_eq!(one(&mut store, [change]), Recorded::Done);
        drop(store);
        assert_eq!(format(), 2, "an older frontdoor must not read it now");
        assert_eq!(content(&mut file(&path).unwrap()), (users, bindings));
    }

    #[test]
    fn a_record_from_the_future_is_refused_and_a_broken_one_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let mut store = file(&path).unwrap();
        assert_eq!(one(&mut store, [add("anna")]), Recorded::Done);
        drop(store);
        let overwrite = |bytes: &[u8]| {
            with_database(&path, |transaction| {
                transaction.open_table(USERS).unwrap().insert("anna", bytes).unwrap();
            });
            file(&path).unwrap().load().unwrap_err()
        };
        let error = overwrite(&[3, 0]);
        assert!(matches!(error, OpenError::Newer { found: 3, .. }), "{error}");
        let error = overwrite(&[1, 0xff]);
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        let error = overwrite(&[]);
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    }

    #[test]
    fn a_store_taken_away_while_open_is_not_replaced_by_an_empty_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let mut store = file(&path).unwrap();
        fs::remove_file(&path).unwrap();
        store.open = None;
        let recorded = one(&mut store, [add("anna")]);
        assert!(matches!(recorded, Recorded::Failed(Failed::Io(_))), "{recorded:?}");
        assert!(!path.exists());
    }

    #[test]
    fn a_store_with_altered_bytes_never_panics() {
        let disk = FakeDisk::default();
        let mut store = fake(&disk);
        assert_eq!(one(&mut store, [add("anna"), put(binding(1, "anna"))]), Recorded::Done);
        drop(store);
        let whole = disk.image();
        let used: Vec<usize> = (0..whole.len()).filter(|&place| whole[place] != 0).collect();
        let mut random = fastrand::Rng::with_seed(7);
        let mut refused = 0;
        for _ in 0..300 {
            let mut image = whole.clone();
            image[used[random.usize(..used.len())]] ^= 1 << random.u8(..8);
            let loaded =
                Embedded::open(FakeDisk::with(image), SETTINGS).and_then(|mut store| store.load());
            refused += usize::from(loaded.is_err());
        }
        assert!(refused > 0);
    }

    #[test]
    fn a_truncated_store_is_called_damaged() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let mut store = file(&path).unwrap();
        assert_eq!(one(&mut store, [add("anna")]), Recorded::Done);
        drop(store);
        let whole = fs::metadata(&path).unwrap().len();
        for length in [whole - 4096, whole / 2, 8192] {
            let file_on_disk = fs::OpenOptions::new().write(true).open(&path).unwrap();
            file_on_disk.set_len(length).unwrap();
            let error = file(&path).unwrap_err();
            assert!(matches!(error, OpenError::Damaged { .. }), "{length}: {error}");
        }
    }

    fn with_database(path: &std::path::Path, change: impl FnOnce(&WriteTransaction)) {
        let mut options = fs::OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).open(path).unwrap();
        let backend = FileBackend::new(file).unwrap();
        let database = Builder::new().create_with_backend(backend).unwrap();
        let transaction = database.begin_write().unwrap();
        change(&transaction);
        transaction.commit().unwrap();
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
fn tell(disk: &FakeDisk, store: &mut Embedded<FakeDisk>) -> usize {
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
    disk.plan(None);
    assert_eq!(content(store), content(&mut model));
    let image = FakeDisk::with(disk.image());
    assert_eq!(content(&mut fake(&image)), content(&mut model), "after a restart");
    assert_eq!(one(store, [add("last")]), Recorded::Done, "and it still writes");
    refused
}

/// Breaks every operation of the story in turn, so many from there on.
fn break_everything(count: u64, kind: ErrorKind) -> usize {
    let disk = FakeDisk::default();
    assert_eq!(tell(&disk, &mut fake(&disk)), 0);
    let operations = disk.operations();
    let mut refused = 0;
    for from in 1..=operations {
        let disk = FakeDisk::default();
        let mut store = fake(&disk);
        let from = disk.operations() + from;
        disk.plan(Some(Fault { from, count, kind }));
        refused += tell(&disk, &mut store);
    }
    refused
}

#[test]
fn an_error_at_any_operation_is_answered_truthfully_and_survived() {
    assert!(break_everything(1, ErrorKind::Other) > 0);
}

#[test]
fn no_space_at_any_operation_is_answered_truthfully_and_survived() {
    assert!(break_everything(1, ErrorKind::StorageFull) > 0);
}

#[test]
fn a_disk_that_fails_until_repaired_is_reopened() {
    let disk = FakeDisk::default();
    let mut store = fake(&disk);
    assert_eq!(one(&mut store, [add("anna")]), Recorded::Done);
    let from = disk.operations() + 1;
    disk.plan(Some(Fault { from, count: u64::MAX, kind: ErrorKind::Other }));
    for _ in 0..3 {
        let recorded = one(&mut store, [relocate("anna", 1)]);
        assert!(matches!(recorded, Recorded::Failed(Failed::Io(_))), "{recorded:?}");
    }
    assert!(store.load().is_err());
    disk.plan(None);
    assert_eq!(content(&mut store).0, [user("anna", 1)]);
    assert_eq!(one(&mut store, [relocate("anna", 1)]), Recorded::Done);
}

#[test]
fn a_power_cut_at_any_instant_loses_nothing_acknowledged_and_shows_nothing_half() {
    let disk = FakeDisk::default();
    let mut store = fake(&disk);
    let mut durable = disk.image();
    let mut states = vec![content(&mut store)];
    disk.start_journal();
    for batch in story() {
        store.commit(&batch);
        disk.note(states.len());
        let mut model = fake(&FakeDisk::with(disk.image()));
        states.push(content(&mut model));
    }
    let journal = disk.take_journal();
    assert!(journal.iter().filter(|step| matches!(step, Step::Flush)).count() > story().len());

    let mut random = fastrand::Rng::with_seed(20_241_122);
    let mut acknowledged = 0;
    let mut unflushed: Vec<&Step> = Vec::new();
    for step in &journal {
        match step {
            Step::Note(mark) => acknowledged = *mark,
            Step::Flush => unflushed.drain(..).for_each(|step| replay(&mut durable, step, None)),
            Step::Write(..) | Step::Resize(_) => unflushed.push(step),
        }
        let mut image = durable.clone();
        for step in &unflushed {
            if random.bool() {
                replay(&mut image, step, Some(&mut random));
            }
        }
        let survived = content(&mut fake(&FakeDisk::with(image)));
        let next = states.get(acknowledged + 1).unwrap_or(&states[acknowledged]);
        assert!(survived == states[acknowledged] || survived == *next, "after {acknowledged}");
    }
    assert_eq!(acknowledged, story().len());
}

/// Does a step again; a torn write stops at a sector.
fn replay(image: &mut Vec<u8>, step: &Step, torn: Option<&mut fastrand::Rng>) {
    match step {
        Step::Write(offset, data) => {
            let from = *offset as usize;
            let sectors = data.len().div_ceil(512);
            let kept = torn.map_or(sectors, |random| random.usize(0..=sectors)) * 512;
            let data = &data[..kept.min(data.len())];
            if image.len() < from + data.len() {
                image.resize(from + data.len(), 0);
            }
            image[from..from + data.len()].copy_from_slice(data);
        }
        Step::Resize(length) => image.resize(*length as usize, 0),
        Step::Flush | Step::Note(_) => {}
    }
}

mod on_a_full_disk {
    use super::*;

    const USERS_THERE: usize = 1000;

    fn name(number: usize) -> String {
        format!("user{number:04}")
    }

    /// A store with a thousand users, a binding each, and a disk filled up with more of those.
    fn full() -> (FakeDisk, Embedded<FakeDisk>) {
        let disk = FakeDisk::default();
        let mut store = fake(&disk);
        let users: Vec<Record> = (0..USERS_THERE)
            .map(|number| record(number as u64, [add(&name(number)), put(growth(number as u64))]))
            .collect();
        assert_eq!(store.commit(&users), vec![Recorded::Done; USERS_THERE]);
        disk.limit(disk.used_bytes() + MIB);
        let mut id = 1_000_000;
        while one(&mut store, [put(growth(id))]) == Recorded::Done {
            id += 1;
            assert!(id < 1_010_000, "the disk does not fill");
        }
        (disk, store)
    }

    fn growth(id: u64) -> BindingRecord {
        BindingRecord { body: vec![7; 2000], ..binding(id, "user0000") }
    }

    #[test]
    fn every_user_can_still_be_relocated_and_bindings_removed_but_nothing_grows() {
        let (_disk, mut store) = full();
        assert!(store.is_short());
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
        let (users, bindings) = content(&mut store);
        assert!(users.iter().all(|user| user.epoch == 2));
        assert_eq!(users.len(), USERS_THERE);
        assert!(bindings.iter().all(|binding| (1_000_000..2_000_000).contains(&binding.id)));
    }

    #[test]
    fn a_batch_that_finds_the_disk_full_still_relocates() {
        let disk = FakeDisk::default();
        let mut store = fake(&disk);
        assert_eq!(one(&mut store, [add("anna"), put(binding(1, "anna"))]), Recorded::Done);
        disk.limit(disk.used_bytes() + MIB);
        let mut batch: Vec<Record> =
            (0..2000).map(|id| record(id, [put(growth(1000 + id))])).collect();
        batch.push(record(1, [forget(1)]));
        batch.push(record(2, [relocate("anna", 1)]));
        batch.push(record(3, [relocate("anna", 1)]));
        let recorded = store.commit(&batch);
        let (grown, rest) = recorded.split_at(2000);
        assert!(grown.iter().all(|answer| *answer == Recorded::Failed(Failed::DiskFull)));
        let conflict = Recorded::Conflict(vec![away("anna", 2)]);
        assert_eq!(rest, [Recorded::Done, Recorded::Done, conflict]);
        assert_eq!(content(&mut store), (vec![away("anna", 2)], Vec::new()));
    }

    #[test]
    fn a_binding_marked_as_gone_counts_as_a_removal() {
        let (_disk, mut store) = full();
        let gone = BindingRecord { gone: true, ..growth(3) };
        assert_eq!(one(&mut store, [put(gone)]), Recorded::Done);
    }

    #[test]
    fn as_soon_as_there_is_room_the_reserve_is_whole_and_bindings_are_taken() {
        let (disk, mut store) = full();
        assert_eq!(one(&mut store, [put(growth(1))]), Recorded::Failed(Failed::DiskFull));
        assert_eq!(disk.held_bytes(), 0);
        disk.limit(disk.used_bytes() + 8 * MIB);
        assert_eq!(one(&mut store, [put(growth(1))]), Recorded::Done);
        assert!(!store.is_short());
        assert_eq!(disk.held_bytes(), reserve_bytes(USERS_THERE as u64));
    }

    #[test]
    fn a_start_without_room_for_the_reserve_is_short_but_runs() {
        let (disk, mut store) = full();
        drop(store);
        store = fake(&disk);
        assert!(store.is_short());
        assert_eq!(one(&mut store, [relocate("user0000", 1)]), Recorded::Done);
        assert_eq!(one(&mut store, [put(growth(1))]), Recorded::Failed(Failed::DiskFull));
    }

    #[test]
    fn the_reserve_grows_with_the_users() {
        let disk = FakeDisk::default();
        let mut store = fake(&disk);
        let users: Vec<Record> = (0..1500).map(|number| record(1, [add(&name(number))])).collect();
        assert_eq!(store.commit(&users), vec![Recorded::Done; 1500]);
        assert_eq!(one(&mut store, [forget(1)]), Recorded::Done);
        assert_eq!(disk.held_bytes(), reserve_bytes(1500));
    }
}

#[test]
fn a_time_that_cannot_be_stored_fails_its_record_only() {
    let mut store = fake(&FakeDisk::default());
    let before_1970 = std::time::SystemTime::UNIX_EPOCH - std::time::Duration::from_secs(1);
    let odd = BindingRecord { lease_ends: before_1970, ..binding(1, "anna") };
    let batch = [record(1, [add("anna"), put(odd)]), record(2, [add("bert")])];
    let recorded = store.commit(&batch);
    assert!(matches!(recorded[0], Recorded::Failed(Failed::Io(_))), "{recorded:?}");
    assert_eq!(recorded[1], Recorded::Done);
    assert_eq!(content(&mut store), (vec![user("bert", 1)], Vec::new()));
}

fn changes() -> impl Strategy<Value = Change> {
    let names = || prop::sample::select(vec!["anna", "bert", "carl"]);
    prop_oneof![
        (names(), prop::option::of(0u64..4), 0u64..4).prop_map(|(name, replaces, epoch)| {
            Change::User { record: away(name, epoch), replaces }
        }),
        (0u64..6, names(), any::<bool>())
            .prop_map(|(id, name, gone)| put(BindingRecord { gone, ..binding(id, name) })),
        (0u64..6).prop_map(forget),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn any_sequence_of_commits_ends_as_in_memory(
        commits in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(changes(), 0..4), 0..6),
            1..8,
        ),
    ) {
        let disk = FakeDisk::default();
        let mut store = fake(&disk);
        let mut model = Memory::new();
        for batch in commits {
            let batch: Vec<Record> =
                (0..).zip(batch).map(|(ticket, changes)| record(ticket, changes)).collect();
            prop_assert_eq!(store.commit(&batch), model.commit(&batch));
        }
        prop_assert_eq!(content(&mut store), content(&mut model));
        drop(store);
        prop_assert_eq!(content(&mut fake(&disk)), content(&mut model));
    }
}
