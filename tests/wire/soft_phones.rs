//! Soft phones that somebody else has written: baresip, over UDP and TCP, asked who they are.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::harness::{Baresip, Door, Kamailio, LOCALHOST, Server, Setup, aor, free, settled, soon};
use crate::passthrough::{CHALLENGED, password};

const PHONES: [(&str, &str); 3] = [("anna", "udp"), ("bert", "udp"), ("cleo", "tcp")];

fn users() -> Vec<String> {
    PHONES.map(|(user, _)| user.to_owned()).to_vec()
}

/// A process for each phone.
fn phones(door: &Door) -> Vec<Baresip> {
    let start = |(user, transport)| {
        let mut phone = Baresip::start();
        phone.account(user, &password(user), transport, door.phones);
        phone
    };
    PHONES.into_iter().map(start).collect()
}

/// Each phone registers, refreshes twice, and has nothing to complain of.
fn register_and_refresh(door: &Door, phones: &[Baresip]) {
    for (phone, user) in phones.iter().zip(users()) {
        soon(&format!("{user} is registered"), || (phone.registered(&user) > 0).then_some(()));
        phone.registers(std::slice::from_ref(&user), 2);
        assert!(phone.log().contains(" 200 OK (frontdoor) [1 binding]"), "{}", phone.log());
        assert_eq!(phone.complaints(), [""; 0]);
        assert_eq!(phone.failures(&user), [""; 0]);
    }
    settled(door, 3);
    let transports = ["udp:", "udp:", "tcp:"];
    for (user, transport) in door.users().iter().zip(transports) {
        assert!(user.bindings[0].from.starts_with(transport), "{user:?}");
    }
}

fn leave(door: &Door, phones: Vec<Baresip>) {
    for phone in phones {
        assert_eq!(phone.quit(), Some(0));
    }
    soon("everybody has left", || (door.status().bindings == 0).then_some(()));
}

/// Who may register, as the simulated server wants to be told.
fn passwords(path: &Path) {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    for user in users() {
        writeln!(file, "wire.example:{user}:{}", password(&user)).unwrap();
    }
}

#[test]
fn baresip_registers_refreshes_answers_and_leaves_at_simulated_servers() {
    let files = tempfile::tempdir().unwrap();
    let digest = files.path().join("digest");
    passwords(&digest);
    let digest = ["--digest-file", digest.to_str().unwrap(), "--digest-md5-only"];
    let mut servers =
        ["ucs1", "ucs2"].map(|name| Server::start_with(name, free(LOCALHOST), &digest));
    let door = Setup::with(&servers).table("sip", CHALLENGED).start();
    let phones = phones(&door);
    register_and_refresh(&door, &phones);

    for user in door.users() {
        let current = servers.iter_mut().find(|it| Some(&*it.name) == user.current.as_deref());
        let server = current.unwrap();
        server.ping(&user.aors[0], &user.bindings[0].contact);
        soon(&format!("{} is reached", user.name), || {
            server.reached().iter().any(|reached| **reached == *user.aors[0]).then_some(())
        });
    }

    leave(&door, phones);
    let held: u64 = servers.iter_mut().map(Server::registrations).sum();
    assert_eq!(held, 0);
    assert_eq!(door.users().len(), 3);
    assert_eq!(&*door.users()[0].aors[0], aor("anna"));
}

#[test]
fn baresip_registers_refreshes_answers_and_leaves_at_kamailio() {
    let kamailio = Kamailio::start_with("ucs1", free(LOCALHOST), &["WITH_PATH", "WITH_DIGEST"]);
    let door = Setup::new().kamailio(&kamailio, "udp").table("sip", CHALLENGED).start();
    let phones = phones(&door);
    register_and_refresh(&door, &phones);

    for user in users() {
        let located = kamailio.located_of(&user);
        assert_eq!(located.len(), 1, "{located:?}");
        assert!(located[0].path.is_some(), "{located:?}");
        assert_eq!(kamailio.reach(&user), 200, "{user}");
    }

    leave(&door, phones);
    assert_eq!(kamailio.located(), []);
}
