//! A server dies and comes back; its users come home, and an operator has a say in it.

use std::process::{Command, Output};

use frontdoor::door::Status;
use serde_json::Value;

use crate::harness::{Door, FRONTDOOR, LOCALHOST, Phones, Server, Setup, free, run, soon};

/// Exit code, standard output, standard error.
fn frontdoor(door: &Door, arguments: &[&str]) -> (Option<i32>, String, String) {
    let admin = door.admin.to_string();
    let token = door.directory.path().join("admin-token.key");
    let mut command = Command::new(FRONTDOOR);
    command.args(arguments).args(["--admin", &admin]);
    if arguments.first() == Some(&"recovery") {
        command.arg("--token-file").arg(token);
    }
    let Output { status, stdout, stderr } = run(&mut command);
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn relocated(status: &Status) -> u64 {
    status.relocated
}

#[test]
fn users_come_home_when_an_operator_lets_them() {
    let servers = ["ucs1", "ucs2", "ucs3"].map(|name| Server::start(name, free(LOCALHOST)));
    let mut setup = Setup::with(&servers);
    setup.key("health", "probation = \"1s\"\nramp = \"1s\"\n").table(
        "recovery",
        "hold = \"0s\"\ninterval = \"200ms\"\nlook = \"500ms\"\nusers_per_second = 100\n",
    );
    let door = setup.start();
    let phones = Phones::at(free(LOCALHOST), door.phones);
    let names: Vec<String> = (0..30).map(|number| format!("user{number}")).collect();
    phones.register(&names);

    let (code, out, _) = frontdoor(&door, &["recovery"]);
    assert_eq!((code, out.trim()), (Some(0), "everybody is at home"));
    let (code, _, err) = frontdoor(&door, &["recovery", "pause"]);
    assert_eq!(code, Some(0), "{err}");
    let (code, _, err) = frontdoor(&door, &["recovery", "pause"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("409") && err.contains("already"), "{err}");

    let [one, two, three] = servers;
    let at = two.sip;
    drop(two);
    soon("everybody is elsewhere", || {
        let status = door.status();
        (status.relocated > 0 && status.progress.settled == 30).then_some(())
    });
    let away = relocated(&door.status());
    let (_, out, _) = frontdoor(&door, &["relocations", "--json"]);
    assert_eq!(out.lines().count() as u64, away, "{out}");
    let first: Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert_eq!((&first["origin"], &first["why"]), (&"ucs2".into(), &"failover".into()));
    let (_, out, _) = frontdoor(&door, &["relocations"]);
    assert!(out.starts_with("USER") && out.contains("GMT"), "{out}");

    let two = Server::start("ucs2", at);
    door.server_in("ucs2", "up");
    let (_, out, _) = frontdoor(&door, &["recovery"]);
    assert!(out.contains("paused") && out.contains("ucs2"), "{out}");
    assert_eq!(relocated(&door.status()), away, "paused");

    let name = first["user"].as_str().unwrap();
    let (code, _, err) = frontdoor(&door, &["recovery", "user", name]);
    assert_eq!(code, Some(0), "{err}");
    soon("one is at home", || (relocated(&door.status()) == away - 1).then_some(()));
    let (code, _, err) = frontdoor(&door, &["recovery", "user", "nobody"]);
    assert!(code == Some(1) && err.contains("no such user"), "{err}");
    let (code, _, err) = frontdoor(&door, &["recovery", "server", "ucs9"]);
    assert!(code == Some(1) && err.contains("ucs1, ucs2, ucs3"), "{err}");

    let (code, _, err) = frontdoor(&door, &["recovery", "resume"]);
    assert_eq!(code, Some(0), "{err}");
    soon("everybody is at home", || (relocated(&door.status()) == 0).then_some(()));
    soon("and registered there", || (door.status().progress.settled == 30).then_some(()));
    let (_, out, _) = frontdoor(&door, &["status"]);
    assert!(out.contains("return to ucs2, begun"), "{out}");
    drop((one, two, three));
}

#[test]
fn nobody_changes_anything_without_the_token() {
    let servers = vec![Server::start("ucs1", free(LOCALHOST))];
    let door = Setup::with(&servers).start();
    let admin = door.admin.to_string();
    let other = door.directory.path().join("other.key");
    let order = |file: &std::path::Path| {
        let mut command = Command::new(FRONTDOOR);
        command.args(["recovery", "pause", "--admin", &admin, "--token-file"]).arg(file);
        let Output { status, stderr, .. } = run(&mut command);
        (status.code(), String::from_utf8(stderr).unwrap())
    };
    let (code, err) = order(&other);
    assert!(code == Some(1) && err.contains("--token-file"), "{err}");
    std::fs::write(&other, "ab".repeat(32)).unwrap();
    let (code, err) = order(&other);
    assert!(code == Some(1) && err.contains("chmod 600"), "{err}");
    std::fs::set_permissions(&other, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (code, err) = order(&other);
    assert!(code == Some(1) && err.contains("403") && err.contains("admin.token_file"), "{err}");
    assert!(!door.status().recovery.paused);
}
