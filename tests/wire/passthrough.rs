//! Kamailio challenges, the door passes it on, and the phones are real: nobody is shown a wrong
//! password unless it is wrong (M6).

use std::collections::BTreeMap;

use crate::harness::{
    Baresip, Door, FRONTDOOR, Kamailio, LOCALHOST, Relay, Setup, free, run, settled, soon,
};

/// The `[sip]` table: servers challenge, and phones come back every other second.
pub(crate) const CHALLENGED: &str =
    "auth = \"passthrough\"\nlease_min = \"1s\"\nlease_max = \"4s\"\n";

/// A registrar that asks who somebody is.
const CHALLENGES: [&str; 2] = ["WITH_PATH", "WITH_DIGEST"];

/// Phones until every server has some of them.
const PHONES_MAX: usize = 30;

/// What `fixtures/kamailio/registrar.cfg` expects.
pub(crate) fn password(user: &str) -> String {
    format!("secret-of-{user}")
}

/// A door, its servers, and one process of phones.
struct Stage {
    servers: Vec<Kamailio>,
    door: Door,
    phones: Baresip,
    users: Vec<String>,
}

impl Stage {
    /// One server for each realm, and so many phones that each server has two of them at least;
    /// every other phone speaks TCP.
    fn with(realms: &[&str]) -> Self {
        let servers: Vec<Kamailio> = realms
            .iter()
            .enumerate()
            .map(|(number, realm)| {
                let realm = format!("REALM=\"{realm}\"");
                let defines = [&CHALLENGES[..], &[&realm]].concat();
                Kamailio::start_with(&format!("ucs{}", number + 1), free(LOCALHOST), &defines)
            })
            .collect();
        let mut setup = Setup::new();
        for server in &servers {
            setup.kamailio(server, "udp");
        }
        let door = setup.table("sip", CHALLENGED).start();
        let mut stage = Self { servers, door, phones: Baresip::start(), users: Vec::new() };
        while stage.served().len() < realms.len() || stage.served().values().any(|at| at.len() < 2)
        {
            stage.one_more_phone();
        }
        settled(&stage.door, stage.users.len() as u64);
        stage
    }

    fn one_more_phone(&mut self) {
        let number = self.users.len();
        assert!(number < PHONES_MAX, "{:?}", self.served());
        let (user, transport) = (format!("user{number:02}"), ["udp", "tcp"][number % 2]);
        self.phones.account(&user, &password(&user), transport, self.door.phones);
        soon(&format!("{user} is registered"), || {
            assert_eq!(self.phones.complaints(), [""; 0]);
            (self.phones.registered(&user) > 0).then_some(())
        });
        self.users.push(user);
    }

    /// Who is served by whom now.
    fn served(&self) -> BTreeMap<String, Vec<String>> {
        let mut served: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for user in self.door.users() {
            let name = user.name.trim_start_matches("sip:").split('@').next().unwrap();
            let current = user.current.unwrap().to_string();
            served.entry(current).or_default().push(name.to_owned());
        }
        served
    }

    fn server(&mut self, name: &str) -> &mut Kamailio {
        self.servers.iter_mut().find(|server| server.name == name).unwrap()
    }

    /// Kills a server, and waits until its users' phones have registered at the others by
    /// themselves, more than once.
    fn fail(&mut self, name: &str) {
        self.server(name).kill();
        self.door.server_in(name, "down");
        soon(&format!("nobody is at {name}"), || (!self.served().contains_key(name)).then_some(()));
        settled(&self.door, self.users.len() as u64);
        self.phones.registers(&self.users, 2);
    }

    /// Whoever looked at a phone has seen it registered and nothing else.
    fn nobody_was_shown_a_failure(&self) {
        assert_eq!(self.phones.complaints(), [""; 0]);
        for user in &self.users {
            assert_eq!(self.phones.failures(user), [""; 0], "{user}");
        }
    }
}

#[test]
fn phones_whose_server_died_register_at_the_next_one_and_show_nothing() {
    let mut stage = Stage::with(&["wire.example", "wire.example"]);
    stage.phones.registers(&stage.users, 2);
    let affected = stage.served()["ucs1"].clone();

    stage.fail("ucs1");
    stage.nobody_was_shown_a_failure();
    let survivor = stage.server("ucs2");
    for user in &affected {
        assert_eq!(survivor.located_of(user).len(), 1, "{user}");
        assert_eq!(survivor.reach(user), 200, "{user}, by UDP or TCP, along the Path");
    }

    let Stage { door, servers, phones, .. } = stage;
    assert_eq!(phones.quit(), Some(0));
    soon("everybody has left", || (door.status().bindings == 0).then_some(()));
    assert_eq!(servers[1].located(), []);
}

#[test]
fn an_answer_to_the_dead_servers_challenge_is_asked_for_again_as_stale_and_not_as_wrong() {
    let mut servers =
        ["ucs1", "ucs2"].map(|name| Kamailio::start_with(name, free(LOCALHOST), &CHALLENGES));
    let mut setup = Setup::new();
    for server in &servers {
        setup.kamailio(server, "udp");
    }
    let door = setup.table("sip", CHALLENGED).start();
    let relay = Relay::before(door.phones);
    let mut phone = Baresip::start();
    phone.account("anna", &password("anna"), "udp", relay.address);
    soon("anna is registered", || (phone.registered("anna") > 0).then_some(()));
    let current = || door.users()[0].current.clone().unwrap();
    let home = current();

    // The phone answers its server's challenge; before the answer is there, the server is not.
    relay.hold("\r\nAuthorization: ");
    assert_eq!(phone.log().matches("stale=").count(), 0);
    servers.iter_mut().find(|server| *server.name == *home).unwrap().kill();
    soon("anna is moved", || (current() != home).then_some(()));
    let before = phone.registered("anna");
    relay.release();

    soon("anna is registered again", || (phone.registered("anna") > before).then_some(()));
    assert_eq!(phone.complaints(), [""; 0]);
    assert_eq!(phone.failures("anna"), [""; 0]);
    assert_eq!(phone.log().matches("stale=TRUE").count(), 1, "{}", phone.log());
    let survivor = servers.iter().find(|server| *server.name == *current()).unwrap();
    assert_eq!(survivor.located_of("anna").len(), 1);
    settled(&door, 1);
}

#[test]
fn nobody_is_moved_to_a_server_of_another_realm() {
    let mut stage = Stage::with(&["wire.example", "wire.example", "other.example"]);
    let before = stage.served();
    let status = stage.door.server("ucs3");
    assert_eq!(status.realms, ["other.example".into()]);
    assert_eq!(status.other_realm_than, ["ucs1".into(), "ucs2".into()]);
    assert!(stage.door.log().contains("nobody is moved between them"), "nor is that kept secret");

    stage.fail("ucs1");
    stage.nobody_was_shown_a_failure();
    let after = stage.served();
    assert_eq!(after["ucs3"], before["ucs3"]);
    assert_eq!(after["ucs2"].len(), before["ucs1"].len() + before["ucs2"].len());

    stage.server("ucs3").kill();
    stage.door.server_in("ucs3", "down");
    let homeless = before["ucs3"].len() as u64;
    let failover = soon("its users have nowhere to go", || {
        let runs = stage.door.status().failovers.into_iter();
        runs.last().filter(|run| &*run.server == "ucs3" && run.unplaced == homeless)
    });
    assert_eq!(failover.unplaced_because, [("realm".into(), homeless)].into());
    assert_eq!(stage.served(), after, "they stay");
}

#[test]
fn check_names_a_server_of_another_realm_before_anything_runs() {
    let servers = ["ucs1", "ucs2", "ucs3"];
    let mut setup = Setup::new();
    let kamailios = servers.map(|name| Kamailio::start(name, free(LOCALHOST)));
    for kamailio in &kamailios {
        setup.kamailio(kamailio, "udp");
    }
    let door = setup.table("sip", CHALLENGED).start();
    let mut text = std::fs::read_to_string(door.config()).unwrap();
    for (name, realm) in servers.iter().zip(["wire.example", "wire.example", "other.example"]) {
        let line = format!("name = \"{name}\"\n");
        assert!(text.contains(&line));
        text = text.replace(&line, &format!("{line}realm = \"{realm}\"\n"));
    }
    let config = door.directory.path().join("realms.toml");
    std::fs::write(&config, text).unwrap();
    let mut check = std::process::Command::new(FRONTDOOR);
    let output = run(check.args(["check", "--config"]).arg(&config));
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    let warning =
        "server `ucs3` has realm `other.example`, the others (ucs1, ucs2) have `wire.example`";
    assert!(said.contains(warning), "{said}");
}

#[test]
fn a_wrong_password_is_refused_by_the_server_shown_by_the_phone_and_makes_nobody_a_user() {
    let kamailio = Kamailio::start_with("ucs1", free(LOCALHOST), &CHALLENGES);
    let door = Setup::new().kamailio(&kamailio, "udp").table("sip", CHALLENGED).start();
    let mut phone = Baresip::start();
    for (user, transport) in [("anna", "udp"), ("bert", "tcp")] {
        phone.account(user, "guess", transport, door.phones);
        let failures = soon(&format!("{user} is refused"), || {
            Some(phone.failures(user)).filter(|failures| !failures.is_empty())
        });
        assert!(failures.iter().all(|failure| failure == "401 Unauthorized"), "{failures:?}");
        assert_eq!(phone.registered(user), 0);
        let complaint = format!("reg: sip:{user}@wire.example: 401 Unauthorized (frontdoor)");
        assert!(phone.complaints().iter().any(|line| line.contains(&complaint)));
    }
    let status = door.status();
    assert_eq!((status.users, status.bindings), (0, 0));
    assert_eq!(kamailio.located(), []);
    // For each the challenge and the refusal.
    for counter in ["frontdoor_upstream_refused_total", "frontdoor_registers_refused_total"] {
        assert!(door.metric(counter) >= 4, "{counter}");
    }

    let mut right = Baresip::start();
    right.account("anna", &password("anna"), "udp", door.phones);
    soon("who knows the password is let in", || (right.registered("anna") > 0).then_some(()));
    assert_eq!(right.complaints(), [""; 0]);
    assert_eq!(door.status().users, 1);
}
