//! ProCall clients through a door in a process of its own, in front of servers in processes of theirs.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use frontdoor::ucsap::login::{Credentials, LoginOutcome};
use frontdoor::ucsap::negotiate::Negotiation;
use frontdoor::ucsap::{Encoding, Kind, Operation, cti};
use frontdoor::ucserver::ClientSettings;
use serde_json::json;

use crate::harness::{Client, Door, LOCALHOST, Server, Setup, free, get, soon};

fn servers() -> [Server; 2] {
    ["ucs1", "ucs2"].map(|name| {
        let entrance = free(LOCALHOST).to_string();
        Server::start_with(name, free(LOCALHOST), &["--clients", &entrance])
    })
}

fn entrance(door: &Door) -> SocketAddr {
    door.clients.unwrap()
}

/// The server where somebody is logged in.
fn holder(servers: &mut [Server]) -> usize {
    let here = |server: &mut Server| server.ask(&json!({"clients": {}}), "clients")["logins"] == 1;
    soon("somebody is logged in", || servers.iter_mut().position(here))
}

#[test]
fn a_session_goes_on_when_its_server_is_killed() {
    for encoding in [Encoding::Ber, Encoding::Json] {
        let mut servers = servers();
        let door = Setup::with(&servers).start();
        for name in ["ucs1", "ucs2"] {
            door.server_in(name, "up");
        }
        let mut client = Client::logged_in(entrance(&door), encoding, "anna");
        let line = ClientSettings::line_of("anna");
        let granted = client.ask(Operation::MONITOR_START, &cti::for_line(&line));
        let granted = granted.body().unwrap();
        let known = cti::cross_ref_of_result(Operation::MONITOR_START, &granted).unwrap();
        let (known, _) = known.expect("a monitor has a name");
        let home = holder(&mut servers);
        servers[home].kill();
        let other = 1 - home;
        assert_eq!(holder(&mut servers[other..=other]), 0);
        soon("it is watched there", || {
            let seen = servers[other].ask(&json!({"clients": {}}), "clients");
            (seen["monitors"] == 1).then_some(())
        });
        servers[other].ask(&json!({"ring": {"line": line, "number": "+4970"}}), "rung");
        let event = client.next().expect("over the same connection");
        let (named, _) =
            cti::cross_ref(event.operation(), &event.body().unwrap()).unwrap().unwrap();
        assert_eq!((event.operation(), named), (Operation::CALL_CHANGED, known));
    }
}

/// Nothing that clients have shown is in the most talkative log, on a page, or in the store.
#[test]
fn what_clients_show_stays_with_the_door() {
    let servers = servers();
    let mut setup = Setup::with(&servers);
    setup.table("log", "filter = \"trace\"\n");
    let mut door = setup.start();
    for name in ["ucs1", "ucs2"] {
        door.server_in(name, "up");
    }
    let expires = std::time::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    let token = ClientSettings::jwt("canary-token", expires);
    let mut secrets = vec![token.clone(), "pw-canary".to_owned(), "canary5ec2e7".to_owned()];
    for (number, encoding) in [Encoding::Ber, Encoding::Json].into_iter().enumerate() {
        let user = format!("canary{number}");
        let password = ClientSettings::password_of(&user);
        secrets.push(STANDARD.encode(format!("{user}:{password}")));
        let client = Client::logged_in(entrance(&door), encoding, &user);
        drop(client);
        let shown = [
            (Credentials::bearer(&token), Kind::Result),
            (Credentials::basic("canary", "canary5ec2e7"), Kind::Error),
        ];
        secrets.push(STANDARD.encode("canary:canary5ec2e7"));
        for (login, expected) in shown {
            let mut client = Client::connect(entrance(&door), encoding);
            let device =
                Negotiation { device: "d".into(), version: "2603.0".into(), app: 1, former: None };
            client.ask(Operation::NEGOTIATE, &device.piece("PC"));
            client.send(Operation::LOGIN, &login);
            let answer = client.next().unwrap();
            assert_eq!(answer.kind(), expected);
            if expected == Kind::Result {
                let outcome = LoginOutcome::read(&answer.body().unwrap()).unwrap();
                assert!(matches!(outcome, LoginOutcome::Succeeded { .. }), "{outcome:?}");
            }
        }
    }
    // Cut and bent, as a broken client would send it.
    for text in [
        "{\"invoke\":{\"argument\":\"canary5ec2e7\"",
        "canary5ec2e7\r\n\r\n",
        "J0000012canary5ec2e7",
    ] {
        let mut client = Client::connect(entrance(&door), Encoding::Json);
        client.stream.write_all(text.as_bytes()).unwrap();
        let _closed = client.stream.shutdown(std::net::Shutdown::Write);
        assert!(client.next().is_none());
    }
    let mut pages = String::new();
    for path in ["/metrics", "/v1/status", "/v1/users", "/v1/users/canary0"] {
        let (status, page) = get(door.admin, path).unwrap();
        write!(pages, "{status} {page}").unwrap();
    }
    assert!(pages.contains("canary0"), "the user is known: {pages}");
    assert_eq!(door.terminate(), Some(0));
    assert!(door.log().contains("server changed"), "this is no log");
    let mut places =
        vec![("log".to_owned(), door.log().into_bytes()), ("pages".to_owned(), pages.into())];
    for entry in std::fs::read_dir(door.directory.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            places.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    for secret in secrets {
        for (place, octets) in &places {
            let found = octets.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} is in {place}");
        }
    }
}
