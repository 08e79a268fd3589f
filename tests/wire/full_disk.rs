//! A disk that is really full: nothing is promised that cannot be kept, and nobody is left behind.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use crate::harness::{
    Door, LOCALHOST, Namespace, Phones, Server, Setup, Wish, aor, free, register, run, soon,
};

/// Room for the reserve (some 31 MiB), a database and a little more.
const DISK_MEBIBYTES: u32 = 60;

/// What the database can still take without growing is less than this many phones.
const BATCHES_MAX: usize = 200;
const BATCH: usize = 100;

fn settled(door: &Door) {
    soon("every binding is settled", || {
        let status = door.status();
        (status.bindings == status.progress.settled).then_some(())
    });
}

fn names(prefix: &str, numbers: std::ops::Range<usize>) -> Vec<String> {
    numbers.map(|number| format!("{prefix}{number:05}")).collect()
}

/// Registers new phones until one is refused; those that were not. The refusal is the right one.
fn fill_the_database(phones: &Phones) -> Vec<String> {
    let mut registered = Vec::new();
    for batch in 0..BATCHES_MAX {
        let wishes: Vec<Wish> = names("more", batch * BATCH..(batch + 1) * BATCH)
            .iter()
            .map(|user| register(user, 1))
            .collect();
        let answers = phones.ask(&wishes, Duration::from_secs(32));
        let mut refused = 0;
        for (wish, answer) in wishes.into_iter().zip(answers) {
            let answer = answer.unwrap_or_else(|| panic!("{} got no answer", wish.user));
            match answer.status {
                200 => registered.push(wish.user),
                503 => {
                    let after = answer.header("Retry-After").and_then(|it| it.parse::<u32>().ok());
                    assert!(after.is_some_and(|seconds| seconds > 0), "{}", answer.text);
                    refused += 1;
                }
                other => panic!("{}: {other}", wish.user),
            }
        }
        if refused > 0 {
            return registered;
        }
    }
    panic!("the disk is full, and {} phones more were taken", registered.len());
}

/// Everybody who was told 200 has a binding.
fn assert_serves(door: &Door, acknowledged: &[String]) {
    let bound: HashSet<String> = door
        .users()
        .into_iter()
        .filter(|user| !user.bindings.is_empty())
        .flat_map(|user| user.aors)
        .map(|aor| aor.to_string())
        .collect();
    let lost: Vec<&String> =
        acknowledged.iter().filter(|user| !bound.contains(&aor(user))).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
}

/// Takes what is left of the disk, or gives it back.
fn filler(disk: &Namespace, mount: &Path, fill: bool) {
    let script = if fill {
        // Ends when nothing fits any more, which is a failure to `cat`.
        "cat /dev/zero 2>/dev/null >\"$0/filler\"; test $(df --output=avail \"$0\" | tail -1) = 0"
    } else {
        "rm \"$0/filler\""
    };
    let done = run(disk.command("sh").args(["-c", script]).arg(mount));
    assert!(done.status.success(), "{done:?}");
}

#[test]
fn a_full_disk_takes_no_strangers_and_still_moves_everybody() {
    let mount = tempfile::tempdir().unwrap();
    let disk = Namespace::disk(mount.path().to_str().unwrap(), DISK_MEBIBYTES);
    let mut servers = ["ucs1", "ucs2", "ucs3"].map(|name| Server::start(name, free(LOCALHOST)));
    let store = mount.path().join("frontdoor.redb");
    let mut setup = Setup::with(&servers);
    setup.table("store", &format!("path = \"{}\"\n", store.display())).crowded();
    let mut door = setup.start_in(Some(&disk));
    let phones = Phones::at(free(LOCALHOST), door.phones);
    let early = names("early", 0..300);
    phones.register(&early);

    filler(&disk, mount.path(), true);
    let mut acknowledged = early.clone();
    acknowledged.extend(fill_the_database(&phones));
    let stranger = phones.ask_one(register("stranger", 1));
    assert_eq!(stranger.status, 503, "{}", stranger.text);
    assert!(stranger.header("Retry-After").is_some(), "{}", stranger.text);
    assert!(door.status().store.is_some(), "nobody is told of the full disk");

    let refreshes: Vec<Wish> = early.iter().map(|user| register(user, 2)).collect();
    for (wish, answer) in refreshes.iter().zip(phones.ask(&refreshes, Duration::from_secs(32))) {
        assert_eq!(answer.unwrap().status, 200, "{}", wish.user);
    }

    let affected = u64::from(door.server("ucs1").assigned);
    assert!(affected > 0);
    servers[0].kill();
    door.server_in("ucs1", "down");
    settled(&door);
    let status = door.status();
    assert_eq!((status.relocated, status.unplaced), (affected, 0));
    assert_serves(&door, &acknowledged);

    // The relocations were written, not only remembered.
    door.kill();
    door.restart_in(Some(&disk));
    assert_eq!(door.status().relocated, affected);
    settled(&door);
    assert_serves(&door, &acknowledged);
    for server in &mut servers[1..] {
        server.ping_all();
    }
    let rung = phones.rung();
    let silent: Vec<&String> = acknowledged.iter().filter(|user| !rung.contains(*user)).collect();
    assert!(silent.is_empty(), "acknowledged and not reachable: {silent:?}");
    assert_eq!(phones.ask_one(register("stranger", 2)).status, 503);

    filler(&disk, mount.path(), false);
    assert_eq!(phones.ask_one(register("stranger", 3)).status, 200);
    assert_eq!(door.status().store, None);
}
