use std::fs;
use std::os::unix::fs::PermissionsExt;

use redb::backends::FileBackend;
use redb::{Builder, ReadableTable, TableDefinition, WriteTransaction};

use super::*;
use crate::directory::History;
use crate::directory::record::{BindingRecord, RelocationReason, UserRecord};
use crate::store::contract::{
    add, away, binding, content, forget, one, put, record, relocate, user,
};
use crate::store::durability::{Life, Medium};
use crate::store::embedded::database::{META, META_FORMAT, USERS};
use crate::store::fake::{self as fake_disk, FakeDisk, Fault};

crate::store::contract::contract!(fake(&FakeDisk::default()));
crate::store::durability::durability!(FakeDisk);

impl Medium for FakeDisk {
    fn open(&self) -> Box<dyn Store> {
        Box::new(fake(self))
    }

    fn copy(&self) -> Self {
        Self::with(self.image())
    }

    fn plan(&self, fault: Option<Fault>) {
        Self::plan(self, fault);
    }

    fn operations(&self) -> u64 {
        Self::operations(self)
    }

    fn leave_room(&self, bytes: u64) {
        self.limit(self.used_bytes() + bytes);
    }

    fn cut_power(&self, live: &mut Life<'_>, found: &mut dyn FnMut(usize, Self)) {
        self.start_journal();
        let start = self.image();
        live(&|mark| self.note(mark));
        fake_disk::cut_power(start, &self.take_journal(), found);
    }
}

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

mod the_reserve {
    use super::*;

    #[test]
    fn is_used_up_on_a_full_disk_and_whole_again_as_soon_as_there_is_room() {
        let disk = FakeDisk::default();
        let mut store = fake(&disk);
        let users: Vec<Record> = (0..1000).map(|id| record(id, [add(&format!("u{id}"))])).collect();
        assert_eq!(store.commit(&users), vec![Recorded::Done; 1000]);
        disk.limit(disk.used_bytes() + MIB);
        let growth = |id| put(BindingRecord { body: vec![7; 2000], ..binding(id, "u0") });
        let took = (0..10_000).take_while(|&id| one(&mut store, [growth(id)]) == Recorded::Done);
        assert!(took.count() < 10_000);
        assert!(store.is_short());
        assert_eq!(disk.held_bytes(), 0);
        drop(store);
        let mut store = fake(&disk);
        assert!(store.is_short(), "a start without room for the reserve is no error");
        disk.limit(disk.used_bytes() + 8 * MIB);
        assert_eq!(one(&mut store, [growth(1)]), Recorded::Done);
        assert!(!store.is_short());
        assert_eq!(disk.held_bytes(), reserve_bytes(1000));
    }

    #[test]
    fn grows_with_the_users() {
        let disk = FakeDisk::default();
        let mut store = fake(&disk);
        let users: Vec<Record> = (0..1500).map(|id| record(1, [add(&format!("u{id}"))])).collect();
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
