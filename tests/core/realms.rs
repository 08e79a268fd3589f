//! A password counts for one realm: nobody is moved to a server of another one (M6).

use std::time::Duration;

use frontdoor::door::{Command, Refused};
use frontdoor::ucserver::Mood;

use crate::desk::{Ask, Desk, Plan, plan};
use crate::passthrough::{challenges, credentials, field, guarded, log_in, user};

const SECOND: Duration = Duration::from_secs(1);
const OURS: &str = "example.com";
const THEIRS: &str = "other.example";

fn aor(name: &str) -> String {
    format!("sip:{name}@example.com")
}

/// Three servers that challenge; the one with this number for another realm.
fn mixed(servers: usize, other: usize) -> Plan {
    let mut plan = guarded(servers);
    plan.servers[other].digest.as_mut().unwrap().realm = THEIRS.into();
    plan
}

fn names() -> impl Iterator<Item = String> {
    (0..60).map(|number| format!("u{number}"))
}

fn everybody_logs_in(desk: &mut Desk) {
    for name in names() {
        let (answer, _) = log_in(desk, &user(&name, 1), &name);
        assert_eq!(answer.status(), Some(200), "{name}");
    }
}

/// Kills a server, and gives the users who were there.
fn kill(desk: &mut Desk, server: usize) -> Vec<String> {
    let affected = names().filter(|name| desk.current(&aor(name)) == server).collect();
    desk.set_mood(server, Mood::Dead);
    desk.pass(5 * SECOND);
    affected
}

#[test]
fn a_server_that_was_seen_to_challenge_for_another_realm_is_no_backup() {
    let mut desk = mixed(3, 2).open();
    everybody_logs_in(&mut desk);
    let status = desk.door.status(desk.now);
    assert_eq!(status.servers[0].realms, [OURS.into()]);
    assert_eq!(status.servers[2].realms, [THEIRS.into()]);
    assert_eq!(status.servers[0].other_realm_than, ["ucs3".into()]);
    assert_eq!(status.servers[2].other_realm_than, ["ucs1".into(), "ucs2".into()]);
    let affected = kill(&mut desk, 0);
    assert!(affected.len() > 5, "{}", affected.len());
    assert!(affected.iter().all(|name| desk.current(&aor(name)) == 1));
    assert_eq!(desk.door.stats().relocations, affected.len() as u64, "and each went once");
}

#[test]
fn where_every_server_has_another_realm_users_stay_and_status_says_why() {
    let mut desk = mixed(2, 1).open();
    everybody_logs_in(&mut desk);
    let affected = kill(&mut desk, 1);
    assert!(affected.len() > 5, "{}", affected.len());
    assert!(affected.iter().all(|name| desk.current(&aor(name)) == 1));
    let status = desk.door.status(desk.now);
    assert_eq!(status.unplaced, affected.len() as u64);
    let because = &status.failovers[0].unplaced_because;
    assert_eq!(because.get("realm"), Some(&status.unplaced), "{because:?}");
    assert_eq!(because.len(), 1);
    assert_eq!(
        desk.status(&user(&affected[0], 50)),
        503,
        "nor does a login of their own move them"
    );
    assert_eq!(desk.door.stats().relocations, 0);
}

#[test]
fn what_the_operator_says_counts_before_anybody_was_challenged() {
    let mut plan = plan(3);
    for (server, realm) in plan.settings.servers.iter_mut().zip([OURS, THEIRS, OURS]) {
        server.realm = Some(realm.into());
    }
    let mut desk = plan.open();
    for name in names() {
        assert_eq!(desk.status(&user(&name, 1)), 200);
    }
    let affected = kill(&mut desk, 0);
    assert!(affected.len() > 5, "{}", affected.len());
    assert!(affected.iter().all(|name| desk.current(&aor(name)) == 2));
}

/// Somebody whose home is the first server, and who goes to the second when it fails: nobody has
/// seen yet that this is of another realm. The desk just before the failure.
fn somebody_whose_backup_is_wrong() -> (Desk, String) {
    // Who goes where does not depend on realms that nobody knows of.
    let goes_there = |name: &String| {
        let mut desk = guarded(3).open();
        log_in(&mut desk, &user(name, 1), name);
        let home = desk.current(&aor(name));
        desk.set_mood(0, Mood::Dead);
        desk.pass(5 * SECOND);
        (home, desk.current(&aor(name))) == (0, 1)
    };
    let name = names().find(goes_there).unwrap();
    let mut desk = mixed(3, 1).open();
    let (answer, _) = log_in(&mut desk, &user(&name, 1), &name);
    assert_eq!(answer.status(), Some(200));
    assert_eq!(desk.current(&aor(&name)), 0);
    (desk, name)
}

#[test]
fn a_backup_that_turns_out_to_be_of_another_realm_is_left_at_once() {
    let (mut desk, name) = somebody_whose_backup_is_wrong();
    desk.set_mood(0, Mood::Dead);
    desk.pass(5 * SECOND);
    assert_eq!(desk.current(&aor(&name)), 2, "before the phone has noticed anything");
    assert_eq!(desk.door.stats().relocations, 2);
    let answer = desk.answer(&user(&name, 10));
    assert!(challenges(&answer).iter().all(|challenge| field(challenge, "realm") == OURS));
    let (answer, challenged) = log_in(&mut desk, &user(&name, 11), &name);
    assert_eq!((answer.status(), challenged), (Some(200), 1));
    assert_eq!(&*desk.binding(&aor(&name)).standing, "settled");
}

#[test]
fn a_phone_that_comes_to_such_a_backup_first_sees_only_its_own_realm() {
    let (mut desk, name) = somebody_whose_backup_is_wrong();
    // Nothing of theirs is left that the door could register there by itself.
    let leave = user(&name, 10).expires("0");
    let (answer, _) = log_in(&mut desk, &leave, &name);
    assert_eq!(answer.status(), Some(200));
    desk.set_mood(0, Mood::Dead);
    desk.pass(5 * SECOND);
    assert_eq!(desk.current(&aor(&name)), 1);
    let answer = desk.answer(&user(&name, 20));
    assert_eq!(answer.status(), Some(401));
    for challenge in challenges(&answer) {
        assert_eq!(field(&challenge, "realm"), OURS);
    }
    assert_eq!(desk.current(&aor(&name)), 2);
    let authorization = credentials(&challenges(&answer)[0], &name, "secret");
    let ask = user(&name, 21).line("Authorization", &authorization);
    assert_eq!(desk.status(&ask), 200);
}

#[test]
fn a_guest_with_nowhere_else_to_go_is_challenged_as_the_server_says() {
    let mut desk = mixed(2, 1).open();
    let name = names().find(|name| {
        let (answer, _) = log_in(&mut desk, &user(name, 1), name);
        assert_eq!(answer.status(), Some(200));
        desk.current(&aor(name)) == 0
    });
    let name = name.unwrap();
    // Whoever came before is at the other server and has taught its realm: it is forgotten when
    // the server is another one.
    desk.set_mood(1, Mood::Dead);
    desk.pass(5 * SECOND);
    desk.set_mood(1, Mood::Healthy);
    desk.pass(200 * SECOND);
    assert_eq!(desk.door.status(desk.now).servers[1].realms, []);
    let (answer, _) = log_in(&mut desk, &user(&name, 20), &name);
    assert_eq!(answer.status(), Some(200));
    desk.set_mood(0, Mood::Dead);
    desk.pass(5 * SECOND);
    assert_eq!(desk.current(&aor(&name)), 1);
    for cseq in [30, 31, 32] {
        let answer = desk.answer(&user(&name, cseq));
        assert_eq!(answer.status(), Some(401));
        assert!(challenges(&answer).iter().all(|challenge| field(challenge, "realm") == THEIRS));
    }
    assert_eq!(desk.door.stats().relocations, 1, "it is not moved to and fro");
}

#[test]
fn a_stranger_teaches_no_realm() {
    let mut desk = mixed(3, 2).open();
    for name in names() {
        assert_eq!(desk.status(&user(&name, 1)), 401);
        let guess = challenges(&desk.answer(&user(&name, 2))).swap_remove(0);
        let guess = credentials(&guess, &name, "guess");
        assert_eq!(desk.status(&user(&name, 3).line("Authorization", &guess)), 401);
    }
    assert_eq!(desk.status(&Ask::register("u0").cseq(9)), 401);
    let status = desk.door.status(desk.now);
    assert!(status.servers.iter().all(|server| server.realms.is_empty()));
}

#[test]
fn what_a_phone_says_to_a_server_that_never_asked_teaches_nothing() {
    let mut plan = guarded(1);
    plan.servers[0].digest = None;
    let mut desk = plan.open();
    let challenge = "Digest realm=\"evil.example\", nonce=\"n\", algorithm=MD5, qop=\"auth\"";
    let authorization = credentials(challenge, "alice", "secret");
    for cseq in 1..4 {
        let ask = user("alice", cseq).line("Authorization", &authorization);
        assert_eq!(desk.status(&ask), 200);
    }
    assert_eq!(desk.door.status(desk.now).servers[0].realms, []);
}

#[test]
fn nobody_gets_a_home_by_hand_where_their_password_does_not_count() {
    let mut desk = mixed(3, 2).open();
    everybody_logs_in(&mut desk);
    let name = names().find(|name| desk.current(&aor(name)) == 0).unwrap();
    let home = |home: &str| Command::SetHome { user: aor(&name), home: home.into() };
    let refused = desk.door.command(desk.now, &home("ucs3")).unwrap_err();
    assert!(matches!(refused, Refused::NotNow(_)), "{refused}");
    assert!(refused.to_string().contains("another realm"), "{refused}");
    assert!(desk.door.command(desk.now, &home("ucs2")).is_ok());
}
