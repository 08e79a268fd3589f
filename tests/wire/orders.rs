//! What an operator types reaches a running door, and stays true.

use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

use crate::harness::{Door, FRONTDOOR, LOCALHOST, Phones, Server, Setup, free, run, soon};

/// Exit code, standard output, standard error.
fn order(door: &Door, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(FRONTDOOR);
    command.args(arguments).args(["--admin", &door.admin.to_string(), "--token-file"]);
    command.arg(door.directory.path().join("admin-token.key"));
    let Output { status, stdout, stderr } = run(&mut command);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn a_home_is_changed_by_hand_and_counts_at_the_next_login() {
    let servers = ["ucs1", "ucs2"].map(|name| Server::start(name, free(LOCALHOST)));
    let door = Setup::with(&servers).start();
    let phones = Phones::at(free(LOCALHOST), door.phones);
    phones.register(&["anna".to_owned()]);
    let anna = |door: &Door| door.users().remove(0);
    let before = anna(&door);
    let (old, name) = (before.home.unwrap(), before.name);
    let new = if &*old == "ucs1" { "ucs2" } else { "ucs1" };

    let (code, out, err) = order(&door, &["home", &name, new, "--json"]);
    assert_eq!((code, out.trim()), (Some(0), r#"{"done":true}"#), "{err}");
    let after =
        soon("it is shown", || Some(anna(&door)).filter(|it| it.home.as_deref() == Some(new)));
    assert_eq!(after.current, Some(old), "a registered phone stays");

    let (code, _, err) = order(&door, &["home", &name, new]);
    assert!(code == Some(1) && err.contains("409") && err.contains("already"), "{err}");
    let (code, _, err) = order(&door, &["home", &name, "ucs9"]);
    assert!(code == Some(1) && err.contains("ucs1, ucs2"), "{err}");
    let (code, _, err) = order(&door, &["home", "nobody", new]);
    assert!(code == Some(1) && err.contains("no such user"), "{err}");
    drop(servers);
}

#[test]
fn a_server_under_maintenance_may_die_and_come_back_without_anybody_being_moved() {
    let [one, two] = ["ucs1", "ucs2"].map(|name| Server::start(name, free(LOCALHOST)));
    let door = Setup::with([&one, &two]).start();
    let phones = Phones::at(free(LOCALHOST), door.phones);
    phones.register(&(0..20).map(|number| format!("user{number}")).collect::<Vec<_>>());
    let (code, out, err) = order(&door, &["maintenance", "ucs2", "--stay"]);
    assert!(code == Some(0) && out.contains("until the door restarts"), "{out}{err}");
    let (code, _, err) = order(&door, &["maintenance", "ucs2", "--stay"]);
    assert!(code == Some(1) && err.contains("already"), "{err}");
    door.server_in("ucs2", "maintenance");
    assert!(door.log().contains("until that is ended"), "{}", door.log());

    let at = two.sip;
    drop(two);
    soon("the door sees it", || door.server("ucs2").proof);
    let two = Server::start("ucs2", at);
    soon("its users are registered there again", || {
        (door.status().progress.settled == 20 && door.server("ucs2").proof.is_none()).then_some(())
    });
    assert_eq!((door.status().relocated, &*door.server("ucs2").state), (0, "maintenance"));
    let (code, _, err) = order(&door, &["maintenance", "ucs2", "--off"]);
    assert_eq!(code, Some(0), "{err}");
    door.server_in("ucs2", "up");
    assert_eq!(door.status().relocated, 0);

    let (code, _, err) = order(&door, &["panic", "end"]);
    assert!(code == Some(1) && err.contains("nothing is suspected"), "{err}");
    drop((one, two));
}

#[test]
fn a_server_is_drained_and_homes_are_spread_anew() {
    let servers = ["ucs1", "ucs2"].map(|name| Server::start(name, free(LOCALHOST)));
    let door = Setup::with(&servers).start();
    let phones = Phones::at(free(LOCALHOST), door.phones);
    phones.register(&(0..20).map(|number| format!("user{number}")).collect::<Vec<_>>());
    let (code, out, err) = order(&door, &["drain", "ucs2"]);
    assert!(code == Some(0) && out.contains("until the door restarts"), "{out}{err}");
    door.server_in("ucs2", "drain");
    soon("everybody has left", || (door.server("ucs2").assigned == 0).then_some(()));
    assert_eq!(door.server("ucs1").assigned, 20);
    let status = soon("it says so", || {
        let status = door.status();
        (status.departures.last().is_some_and(|last| &*last.state == "empty")).then_some(status)
    });
    assert_eq!(status.departures[0].moved, status.relocated);
    let users = |arguments: &[&str]| {
        let mut command = Command::new(FRONTDOOR);
        command.args(arguments).args(["--json", "--admin", &door.admin.to_string()]);
        let Output { status, stdout, stderr } = run(&mut command);
        let lines = String::from_utf8(stdout).unwrap().lines().count() as u64;
        (status.code(), lines, String::from_utf8(stderr).unwrap())
    };
    let away = status.relocated;
    for (arguments, expected) in [
        (&["users", "--away"][..], away),
        (&["users", "--at-home"], 20 - away),
        (&["users", "--server", "ucs1", "--state", "settled"], 20),
        (&["users", "--server", "ucs2"], 0),
        (&["users", "--home", "ucs2", "--away", "--prefix", "user"], away),
        (&["users", "--prefix", "sip:user1"], 11),
        (&["relocations", "--home", "ucs2", "--why", "drain"], away),
        (&["relocations", "--server", "ucs2"], 0),
        (&["relocations", "--why", "failover"], 0),
    ] {
        assert_eq!(users(arguments), (Some(0), expected, String::new()), "{arguments:?}");
    }
    let (code, _, err) = users(&["users", "--server", "usc2"]);
    assert!(code == Some(1) && err.contains("did you mean \"ucs2\"?"), "{err}");
    let (code, _, err) = users(&["users", "--state", "happy"]);
    assert!(code == Some(1) && err.contains("one of settled, moving"), "{err}");
    let (code, _, _) = users(&["users", "anna", "--away"]);
    assert_eq!(code, Some(2), "one user, or those who fit");

    let (code, out, err) = order(&door, &["rebalance"]);
    assert!(code == Some(0) && out.contains("It would not begin now"), "{out}{err}");
    let (code, _, err) = order(&door, &["rebalance", "start"]);
    assert!(code == Some(1) && err.contains("away from home"), "{err}");
    let (code, _, err) = order(&door, &["drain", "ucs2", "--off"]);
    assert_eq!(code, Some(0), "{err}");
    let (code, _, err) = order(&door, &["drain", "ucs2", "--off"]);
    assert!(code == Some(1) && err.contains("already"), "{err}");
    let (code, _, err) = order(&door, &["rebalance", "stop"]);
    assert!(code == Some(1) && err.contains("409"), "{err}");
    drop(servers);
}

#[test]
fn a_drill_shows_how_a_failover_went_and_leaves_its_report() {
    let servers = ["ucs1", "ucs2"].map(|name| Server::start(name, free(LOCALHOST)));
    let door = Setup::with(&servers).start();
    let phones = Phones::at(free(LOCALHOST), door.phones);
    phones.register(&(0..20).map(|number| format!("user{number}")).collect::<Vec<_>>());
    for server in ["ucs1", "ucs2"] {
        door.server_in(server, "up");
    }
    let there = door.server("ucs2").assigned;
    let admin = door.admin.to_string();
    let reports = |arguments: &[&str]| {
        let mut command = Command::new(FRONTDOOR);
        command.arg("reports").args(arguments).args(["--admin", &admin]);
        String::from_utf8(run(&mut command).stdout).unwrap()
    };
    assert!(reports(&[]).contains("no reports yet"));

    let (code, out, err) = order(&door, &["drill", "--server", "ucs2"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.starts_with("drill, ucs2, ") && out.contains("this is a drill"), "{out}");
    assert!(out.contains(&format!("{there} of {there} registered")), "{out}");
    assert!(out.contains(&format!("{:16} {there} users", "to ucs1")), "{out}");
    let (code, _, err) = order(&door, &["drill", "--server", "ucs2"]);
    assert!(code == Some(1) && err.contains("a drill needs every server up"), "{err}");
    let (code, _, err) = order(&door, &["drill", "--server", "ucs9"]);
    assert!(code == Some(1) && err.contains("ucs1, ucs2"), "{err}");

    let list = reports(&[]);
    let id = list.lines().nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    assert!(id.ends_with("-drill-ucs2"), "{list}");
    assert!(out.starts_with(reports(&[&id]).trim_end()), "{out}");
    assert_eq!(reports(&["last"]), reports(&[&id]));
    let json: serde_json::Value = serde_json::from_str(&reports(&["last", "--json"])).unwrap();
    assert_eq!(json["kind"], "drill");
    assert!(reports(&["../admin-token.key"]).is_empty());
    let directory = door.directory.path().join("reports");
    let text = std::fs::read_to_string(directory.join(format!("{id}.txt"))).unwrap();
    assert_eq!(text.trim_end(), reports(&["last"]).trim_end());
    let mode = std::fs::metadata(directory.join(format!("{id}.json"))).unwrap().permissions();
    assert_eq!(mode.mode() & 0o777, 0o600);
    drop(servers);
}

#[test]
fn a_server_that_insists_on_a_users_home_is_followed_there() {
    let one = free(LOCALHOST);
    let insists = format!("sip:anna@wire.example={one}");
    let two = free(LOCALHOST);
    let arguments = ["--home", &insists, "--mood", "strict_home"];
    let servers = [Server::start("ucs1", one), Server::start_with("ucs2", two, &arguments)];
    let door = Setup::with(&servers).start();
    let phones = Phones::at(free(LOCALHOST), door.phones);
    // Whoever comes by chance to the second is sent to the first; the others stay.
    phones.register(&["anna".to_owned(), "bert".to_owned(), "carl".to_owned()]);
    let home = |name: &str| {
        let users = door.users();
        users.into_iter().find(|user| user.name.contains(name)).and_then(|user| user.home)
    };
    assert_eq!(home("anna").as_deref(), Some("ucs1"));
    assert!(home("bert").is_some() && home("carl").is_some());
    drop(servers);
}

#[test]
fn users_are_exported_and_imported_whole_or_not_at_all() {
    let servers = ["ucs1", "ucs2"].map(|name| Server::start(name, free(LOCALHOST)));
    let door = Setup::with(&servers).start();
    let phones = Phones::at(free(LOCALHOST), door.phones);
    phones.register(&["anna".to_owned(), "bert".to_owned()]);
    let export = |more: &[&str]| {
        let mut command = Command::new(FRONTDOOR);
        command.arg("export").args(more).args(["--admin", &door.admin.to_string()]);
        String::from_utf8(run(&mut command).stdout).unwrap()
    };
    let file = |name: &str, text: &str| {
        let path = door.directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let before = export(&[]);
    assert!(before.starts_with("user,aors,lines,home,enabled,RelocationHomeserverOrigin,"));
    assert_eq!(before.lines().count(), 3, "{before}");

    let path = file("users.csv", &before);
    let (code, out, err) = order(&door, &["import", &path]);
    assert!(code == Some(0) && out.contains("0 users are new, 0 change, 2 are so"), "{out}{err}");
    let more = format!("{before}carl,sip:carl@example.com,300,ucs2,true,,,,\n");
    let path = file("users.csv", &more);
    let (code, out, err) = order(&door, &["import", &path, "--check"]);
    assert!(code == Some(0) && out.contains("could be imported: 1 users are new"), "{out}{err}");
    assert_eq!(export(&[]), before, "it was only looked at");
    let bad = file("bad.csv", &format!("{more}dora,sip:dora@example.com,,ucs9,true,,,,\n"));
    let (code, _, err) = order(&door, &["import", &bad]);
    assert!(code == Some(1) && err.contains("line 5: ") && err.contains("ucs1, ucs2"), "{err}");
    let worse = file("bad.csv", &format!("{more}dora;sip:dora@example.com\n"));
    let (code, _, err) = order(&door, &["import", &worse]);
    assert!(code == Some(1) && err.contains("bad.csv, line 5: expected 9 fields"), "{err}");
    assert_eq!(export(&[]), before, "nothing is half imported");

    let (code, out, err) = order(&door, &["import", &path, "--json"]);
    let done = r#"{"added":1,"changed":0,"done":true,"same":2}"#;
    assert_eq!((code, out.trim()), (Some(0), done), "{err}");
    let after = soon("it is there", || Some(export(&[])).filter(|text| text.contains("carl")));
    assert_eq!(after, more);
    let json = file("users.json", &export(&["--json"]));
    let (code, out, err) = order(&door, &["import", &json]);
    assert!(code == Some(0) && out.contains("3 are so already"), "{out}{err}");
    drop(servers);
}
