//! kill -9 of the door under load: what was acknowledged is there afterwards, and reachable (Q5).

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::harness::{
    LOCALHOST, Phones, Server, Setup, Sipp, Wish, free, pause, register, soon, users_csv,
};

/// SIPp's phones; at their rate they go on registering long after the crash.
const SIPP_PHONES: usize = 4_000;
const SIPP_RATE: usize = 400;

/// Times the door is killed.
const CRASHES: usize = 2;

/// What is known of a phone: the last thing it asked for, if that was acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Registered,
    Removed,
    /// It asked for something and got no answer: both outcomes are right.
    Open,
}

/// New phones register, every third one goes again, every fifth one refreshes; until the crash.
fn play(phones: &Phones, round: usize, crash: &AtomicBool) -> HashMap<String, Known> {
    let mut known = HashMap::new();
    for batch in 0.. {
        let user = |index| format!("exact-{round}-{batch}-{index}");
        let users: Vec<String> = (0..50).map(user).collect();
        let wishes: [Vec<Wish>; 2] = [
            users.iter().map(|user| register(user, 1)).collect(),
            users
                .iter()
                .enumerate()
                .filter(|(index, _)| index % 3 == 0 || index % 5 == 0)
                .map(|(index, user)| Wish {
                    expires: if index % 3 == 0 { 0 } else { 300 },
                    ..register(user, 2)
                })
                .collect(),
        ];
        for wishes in wishes {
            let answers = phones.ask_until(&wishes, Duration::from_secs(60), crash);
            for (wish, answer) in wishes.into_iter().zip(answers) {
                let status = answer.map(|answer| answer.status);
                assert!(matches!(status, None | Some(200)), "{}: {status:?}", wish.user);
                let now_known = match (status, wish.expires) {
                    (None, _) => Known::Open,
                    (Some(_), 0) => Known::Removed,
                    (Some(_), _) => Known::Registered,
                };
                known.insert(wish.user, now_known);
            }
            if crash.load(Ordering::Relaxed) {
                return known;
            }
        }
    }
    known
}

#[test]
fn a_door_that_is_killed_under_load_forgets_nothing_it_acknowledged() {
    let mut servers = ["ucs1", "ucs2", "ucs3"].map(|name| Server::start(name, free(LOCALHOST)));
    let mut door = Setup::with(&servers).crowded().start();
    let phones = Phones::at(free(LOCALHOST), door.phones);

    let files = tempfile::tempdir().unwrap();
    let sipp_phones: Vec<String> = (0..SIPP_PHONES).map(|n| format!("sipp{n:05}")).collect();
    users_csv(&files.path().join("users.csv"), sipp_phones.iter().cloned());
    let sipp_at = free(LOCALHOST);
    let (rate, calls) = (SIPP_RATE.to_string(), SIPP_PHONES.to_string());
    let arguments =
        ["-inf", "users.csv", "-r", &rate, "-m", &calls, "-l", &calls, "-key", "expires", "300"];
    let load = Sipp::start("register.xml", files.path(), sipp_at, door.phones, &arguments);

    let mut known = HashMap::new();
    for round in 0..CRASHES {
        let crash = AtomicBool::new(false);
        known.extend(std::thread::scope(|scope| {
            let playing = scope.spawn(|| play(&phones, round, &crash));
            pause(Duration::from_secs(2));
            door.kill();
            crash.store(true, Ordering::Relaxed);
            playing.join().unwrap()
        }));
        door.restart();
    }
    let are = |what: Known| -> HashSet<&str> {
        let of = known.iter().filter(|(_, known)| **known == what);
        of.map(|(user, _)| user.as_str()).collect()
    };
    let (registered, removed) = (are(Known::Registered), are(Known::Removed));
    assert!(registered.len() > 200 && removed.len() > 100, "the door was killed before it began");

    // SIPp repeats what was not answered and goes on with the rest.
    load.succeed();

    let bound: HashSet<String> = door
        .users()
        .into_iter()
        .filter(|user| !user.bindings.is_empty())
        .flat_map(|user| user.aors)
        .filter_map(|aor| Some(aor.strip_prefix("sip:")?.strip_suffix("@wire.example")?.to_owned()))
        .collect();
    let lost: Vec<&&str> = registered.iter().filter(|user| !bound.contains(**user)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    let undead: Vec<&&str> = removed.iter().filter(|user| bound.contains(**user)).collect();
    assert!(undead.is_empty(), "acknowledged as removed and still there: {undead:?}");
    let lost: Vec<&String> = sipp_phones.iter().filter(|user| !bound.contains(*user)).collect();
    assert!(lost.is_empty(), "acknowledged to SIPp and lost: {lost:?}");

    // Everybody can be called: along the Path the servers were told before the crash or after it.
    // Who was about to leave may have left the server already.
    let sipps = Phones::at(sipp_at, door.phones);
    soon("the servers know of every binding", || {
        let status = door.status();
        (status.progress.settled == status.bindings).then_some(())
    });
    for server in &mut servers {
        let round = server.ping_all();
        assert!(round.reached > 0, "{round:?}");
    }
    let rung: HashSet<String> = phones.rung().into_iter().chain(sipps.rung()).collect();
    let told = registered.into_iter().chain(sipp_phones.iter().map(String::as_str));
    let silent: Vec<&str> = told.filter(|user| !rung.contains(*user)).collect();
    assert!(silent.is_empty(), "acknowledged and not reachable: {silent:?}");
}
