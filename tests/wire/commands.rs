//! What people type, against a real file and a real door: exit codes, streams, and what is said.

use std::net::UdpSocket;
use std::process::{Command, Output};

use serde_json::Value;

use crate::harness::{Door, FRONTDOOR, LOCALHOST, Phones, Server, Setup, free, run};

/// Exit code, standard output, standard error.
fn frontdoor(arguments: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = run(Command::new(FRONTDOOR).args(arguments));
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code(), text(stdout), text(stderr))
}

fn door_with_three_users() -> (Vec<Server>, Door, Phones) {
    let servers = vec![Server::start("ucs1", free(LOCALHOST))];
    let door = Setup::with(&servers).start();
    let phones = Phones::at(free(LOCALHOST), door.phones);
    phones.register(&["anna", "bert", "cleo"].map(String::from));
    assert_eq!(door.status().users, 3);
    (servers, door, phones)
}

/// The configuration of a door that ran, with one line replaced.
fn broken(door: &Door, line: &str, by: &str) -> (String, usize) {
    let text = std::fs::read_to_string(door.config()).unwrap();
    let number = 1 + text.lines().position(|other| other == line).unwrap();
    let path = door.directory.path().join("broken.toml");
    std::fs::write(&path, text.replacen(line, by, 1)).unwrap();
    (path.to_str().unwrap().to_owned(), number)
}

#[test]
fn check_accepts_the_configuration_of_a_running_door() {
    let (_servers, door, _phones) = door_with_three_users();
    let config = door.config().to_str().unwrap();
    let (code, out, err) = frontdoor(&["check", "--config", config]);
    assert_eq!((code, &*err), (Some(0), ""), "{out}");
    assert!(out.contains("ok"), "{out}");
}

#[test]
fn check_and_run_name_file_and_line_of_everything_that_is_wrong() {
    let (_servers, door, _phones) = door_with_three_users();
    let enabled = "disable_automatic_user_distribution = false";
    for (line, by, said) in [
        ("capacity = 50000", "capasity = 50000", "`capacity`"),
        ("capacity = 50000", "capacity = 0", "`capacity`"),
        ("version = \"2603.0\"", "version = 2603", "`version`"),
        (enabled, "hold_silence = \"5 parsecs\"", "`hold_silence`"),
        (enabled, "disable_automatic_user_distribution = \"no\"", "true or false"),
    ] {
        let (config, number) = broken(&door, line, by);
        let place = format!("{config}:{number}:");

        let (code, out, _) = frontdoor(&["check", "--config", &config]);
        assert_eq!(code, Some(1), "{by}: {out}");
        assert!(out.contains(&place) && out.contains(said), "{by}: {out}");

        let (code, out, err) = frontdoor(&["run", "--config", &config]);
        assert_eq!((code, &*out), (Some(1), ""), "{by}: {err}");
        assert!(err.contains(&place) && err.contains(said), "{by}: {err}");

        let (code, out, _) = frontdoor(&["check", "--json", "--config", &config]);
        let report: Value = serde_json::from_str(&out).unwrap();
        assert_eq!((code, &report["ok"]), (Some(1), &false.into()), "{report}");
        assert_eq!(report["errors"][0]["line"], number, "{report}");
    }
}

#[test]
fn a_configuration_that_is_not_there_is_named() {
    for command in ["check", "run"] {
        let (code, out, err) = frontdoor(&[command, "--config", "nowhere/frontdoor.toml"]);
        assert_eq!(code, Some(1));
        assert!(format!("{out}{err}").contains("nowhere/frontdoor.toml"), "{out}{err}");
    }
}

#[test]
fn a_door_whose_address_is_taken_says_which() {
    let (_servers, mut door, _phones) = door_with_three_users();
    assert_eq!(door.terminate(), Some(0), "SIGTERM is no failure");
    let _taken = UdpSocket::bind(door.phones).unwrap();
    let (code, _, err) = frontdoor(&["run", "--config", door.config().to_str().unwrap()]);
    assert_eq!(code, Some(1));
    assert!(err.contains(&door.phones.to_string()), "{err}");
}

#[test]
fn status_and_users_show_a_running_door_to_people_and_to_programs() {
    let (_servers, door, _phones) = door_with_three_users();
    let admin = door.admin.to_string();

    let (code, out, _) = frontdoor(&["status", "--json", "--admin", &admin]);
    let status: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, &status["users"]), (Some(0), &3.into()), "{status}");
    assert_eq!(status["servers"][0]["state"], "up", "{status}");
    let (code, out, _) = frontdoor(&["status", "--admin", &admin]);
    assert_eq!(code, Some(0));
    assert!(out.contains("ucs1") && out.contains("up"), "{out}");

    let (code, out, _) = frontdoor(&["users", "--json", "--admin", &admin]);
    let users: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((code, users.len()), (Some(0), 3), "one object a line: {out}");
    for (user, name) in users.iter().zip(["anna", "bert", "cleo"]) {
        assert_eq!(user["aors"][0], format!("sip:{name}@wire.example"), "{user}");
        assert_eq!((&user["home"], &user["current"]), (&"ucs1".into(), &"ucs1".into()), "{user}");
        assert_eq!(user["bindings"][0]["standing"], "settled", "{user}");
    }
    let (code, out, _) = frontdoor(&["users", "--admin", &admin]);
    assert_eq!(code, Some(0));
    assert!(["anna", "bert", "cleo"].iter().all(|name| out.contains(name)), "{out}");

    let (code, _, err) = frontdoor(&["users", "nobody", "--admin", &admin]);
    assert_eq!(code, Some(1));
    assert!(err.contains("no such user"), "{err}");
}

#[test]
fn explain_and_what_if_say_what_a_running_door_would_do() {
    let (_servers, door, _phones) = door_with_three_users();
    let admin = door.admin.to_string();
    let ask = |arguments: &[&str]| frontdoor(&[arguments, &["--admin", &admin]].concat());

    let anna = "sip:anna@wire.example";
    let (code, out, err) = ask(&["explain", anna]);
    assert_eq!((code, &*err), (Some(0), ""));
    assert!(out.contains("accept ucs1") && out.contains("no: current"), "{out}");
    let (_, out, _) = ask(&["explain", anna, "--json"]);
    let explanation: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(explanation["because"], "current_serves");

    let (code, out, err) = ask(&["what-if", "--kill", "ucs1", "--users"]);
    assert_eq!((code, &*err), (Some(0), ""));
    assert!(out.contains("3 of them would have nowhere to go"), "{out}");
    let (_, out, _) = ask(&["what-if", "--kill", "ucs1", "--json"]);
    let foretold: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&foretold["users"], &foretold["unplaced"]), (&3.into(), &3.into()));

    let (code, _, err) = ask(&["explain", "nobody"]);
    assert!(code == Some(1) && err.contains("no such user"), "{err}");
    let (code, _, err) = ask(&["what-if", "--kill", "ucs9"]);
    assert!(code == Some(1) && err.contains("there are ucs1"), "{err}");
}

#[test]
fn without_a_door_status_and_users_say_what_to_do() {
    let nobody = free(LOCALHOST).to_string();
    for command in ["status", "users"] {
        for json in [&[][..], &["--json"]] {
            let arguments = [&[command, "--admin", &nobody], json].concat();
            let (code, out, err) = frontdoor(&arguments);
            assert_eq!((code, &*out), (Some(1), ""), "{err}");
            assert!(err.contains(&nobody) && err.contains("is the door running?"), "{err}");
        }
    }
}
