//! What must stay with the door: no secret is in any log or page, no number in the everyday log.
//!
//! The phones are SIPp's, so that the answers to challenges, which are the secrets, are not made by
//! the code that must hide them; SIPp's own record of its messages says what they were.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use crate::harness::{
    Answer, Door, LOCALHOST, Phones, Server, Setup, Sipp, free, get, pause, register, soon,
};

const PHONES: usize = 40;

/// In a message that is no message; as much a secret as one in a proper place.
const BROKEN_SECRET: &str = "canary5ec2e7d165f0000000000000000";

fn number(phone: usize) -> String {
    format!("4930555017{phone:03}")
}

fn password(phone: usize) -> String {
    format!("canary-password-{phone:03}")
}

/// What a door let out.
struct Leaks {
    log: String,
    pages: String,
    secrets: BTreeSet<String>,
}

/// A door with this log filter sees phones that prove who they are, phones that cannot, nonsense,
/// the death of a server and the end of the door.
fn play(filter: &str) -> Leaks {
    let files = tempfile::tempdir().unwrap();
    let passwords = write_passwords(files.path());
    // SIPp knows no other algorithm.
    let digest = ["--digest-file", &passwords, "--digest-md5-only"];
    let mut servers =
        ["ucs1", "ucs2", "ucs3"].map(|name| Server::start_with(name, free(LOCALHOST), &digest));
    let mut setup = Setup::with(&servers);
    setup.table("sip", "auth = \"passthrough\"\n");
    setup.table("log", &format!("filter = \"{filter}\"\n"));
    let mut door = setup.start();

    let local = free(LOCALHOST);
    let arguments = ["-inf", "users.csv", "-r", "100", "-m", &PHONES.to_string()];
    // RFC 7616 §3.4: the URI of the digest is the Request-URI, which SIPp does not guess.
    let arguments = [
        &arguments[..],
        &["-auth_uri", "wire.example", "-trace_msg", "-message_file", "messages.log"],
    ]
    .concat();
    let sipp = Sipp::start("register_digest.xml", files.path(), local, door.phones, &arguments);
    sipp.succeed();
    let mut secrets = responses(&files.path().join("messages.log"));
    assert_eq!(secrets.len(), PHONES, "each phone answered its own challenge");
    secrets.extend((0..PHONES).map(password));
    secrets.insert(String::from(BROKEN_SECRET));
    secrets.insert(key_of(&door));

    soon("everybody is registered", || {
        (door.status().progress.settled == PHONES as u64).then_some(())
    });
    talk_nonsense(&door);
    servers[0].kill();
    door.server_in("ucs1", "down");
    let phones = Phones::at(local, door.phones);
    let refresh = phones.ask_one(register(&number(0), 7));
    assert!(matches!(refresh, Answer { status: 200 | 401, .. }), "{refresh:?}");

    let mut pages = String::new();
    for path in ["/metrics", "/v1/status", "/v1/users", "/healthz", "/readyz", "/v1/users/nobody"] {
        pages.push_str(&get(door.admin, path).unwrap().1);
    }
    assert_eq!(door.terminate(), Some(0));
    Leaks { log: door.log(), pages, secrets }
}

/// What the servers know of their users, and the users for SIPp.
fn write_passwords(files: &Path) -> String {
    let path = files.join("passwords");
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.create_new(true).write(true).mode(0o600).open(&path).unwrap();
    let mut csv = String::from("SEQUENTIAL\n");
    for phone in 0..PHONES {
        let (number, password) = (number(phone), password(phone));
        writeln!(file, "wire.example:{number}:{password}").unwrap();
        writeln!(
            csv,
            "{number};wire.example;[authentication username={number} password={password}]"
        )
        .unwrap();
    }
    std::fs::write(files.join("users.csv"), csv).unwrap();
    path.to_str().unwrap().to_owned()
}

/// The `response` of every Authorization that SIPp sent.
fn responses(messages: &Path) -> BTreeSet<String> {
    let messages = std::fs::read_to_string(messages).unwrap();
    let sent = messages.split("response=\"").skip(1);
    sent.map(|rest| rest.split('"').next().unwrap().to_owned()).collect()
}

/// The door's key for Path tokens.
fn key_of(door: &Door) -> String {
    let key = std::fs::read_to_string(door.directory.path().join("path-token.key")).unwrap();
    let key = key.trim();
    assert_eq!(key.len(), 64, "32 octets as hex");
    key.to_owned()
}

/// Wrong credentials, and messages cut and bent in every place around the secret.
fn talk_nonsense(door: &Door) {
    let number = number(1);
    let phones = Phones::at(free(LOCALHOST), door.phones);
    let authorization = format!(
        "Authorization: Digest username=\"{number}\", realm=\"wire.example\", nonce=\"n\", \
         uri=\"sip:wire.example\", response=\"{BROKEN_SECRET}\"\r\n"
    );
    let whole = format!(
        "REGISTER sip:wire.example SIP/2.0\r\nVia: SIP/2.0/UDP {};branch=z9hG4bK-n;rport\r\n\
         From: <sip:{number}@wire.example>;tag=n\r\nTo: <sip:{number}@wire.example>\r\n\
         Call-ID: n\r\nCSeq: 1 REGISTER\r\n{authorization}\
         Contact: <sip:{number}@{}>\r\nContent-Length: 0\r\n\r\n",
        phones.local, phones.local,
    );
    let bent = [
        ("REGISTER sip:", "REGISTER :"),
        ("SIP/2.0\r\nVia", "SIP/3.0\r\nVia"),
        ("CSeq: 1", "CSeq: x"),
        ("Via:", "Via"),
        ("Authorization:", "Authorization"),
        ("Digest username", "Digest ,,=\u{1}username"),
        ("To: <", "To: <<"),
        ("Contact: <", "Contact: >"),
        ("Content-Length: 0", "Content-Length: 99999999999999999999"),
        ("Call-ID: n\r\n", ""),
        ("REGISTER", "INVITE"),
    ];
    let variants = bent.iter().map(|(from, to)| whole.replacen(from, to, 1));
    let cuts = (0..whole.len()).step_by(7).map(|end| whole[..end].to_owned());
    for message in variants.chain(cuts).chain([whole.clone()]) {
        phones.send(&message);
        for address in [door.phones, door.admin] {
            let mut stream = TcpStream::connect(address).unwrap();
            // The door may hang up in the middle of it.
            let _reset = stream.write_all(message.as_bytes());
        }
    }
    soon("the door has seen it all", || (door.metric("frontdoor_connections") == 0).then_some(()));
    pause(std::time::Duration::from_millis(200));
}

#[test]
fn no_secret_is_in_the_most_talkative_log_nor_on_any_page() {
    let Leaks { log, pages, secrets } = play("trace");
    assert!(log.contains("server changed") && log.contains(" DEBUG "), "this is no log:\n{log}");
    assert!(pages.contains("frontdoor_registers_total") && pages.contains(&number(0)));
    for secret in &secrets {
        for (place, text) in [("log", &log), ("pages", &pages)] {
            let line = text.lines().find(|line| line.contains(secret.as_str()));
            assert!(line.is_none(), "{secret} is in the {place}: {line:?}");
        }
    }
    let line = log.lines().find(|line| line.to_ascii_lowercase().contains("digest username"));
    assert!(line.is_none(), "credentials are in the log: {line:?}");
}

#[test]
fn no_number_is_in_the_everyday_log() {
    let Leaks { log, secrets, .. } = play("info");
    assert!(log.contains("server changed"), "this is no log:\n{log}");
    let numbers = (0..PHONES).map(number);
    for canary in numbers.chain(secrets) {
        let line = log.lines().find(|line| line.contains(&canary));
        assert!(line.is_none(), "{canary} is in the log: {line:?}");
    }
}
