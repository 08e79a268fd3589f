//! Kamailio as one of the UCServers: its own `usrloc` is the judge of what the door registers.

use crate::harness::{
    Door, Kamailio, LOCALHOST, Located, Phones, Server, Setup, free, served_by, settled, users,
};

/// Whose contacts these are.
fn whose(located: &[Located]) -> Vec<String> {
    located.iter().map(|it| it.aor.split('@').next().unwrap().to_owned()).collect()
}

/// One Kamailio, `ucs1`, and two simulated servers behind a door that trusts a server again soon.
struct Pool {
    kamailio: Kamailio,
    simulated: [Server; 2],
    door: Door,
    phones: Phones,
}

impl Pool {
    /// Everybody is registered.
    fn with(users: &[String]) -> Self {
        let kamailio = Kamailio::start("ucs1", free(LOCALHOST));
        let simulated = ["ucs2", "ucs3"].map(|name| Server::start(name, free(LOCALHOST)));
        let door = Setup::with(&simulated)
            .kamailio(&kamailio, "udp")
            .key("failover", "hold_silence = \"0s\"\n")
            .key("health", "probation = \"2s\"\n")
            .start();
        let phones = Phones::at(free(LOCALHOST), door.phones);
        phones.register(users);
        settled(&door, users.len() as u64);
        Self { kamailio, simulated, door, phones }
    }

    /// Everybody is reached by a simulated server.
    fn all_are_elsewhere(&mut self, users: &[String]) {
        settled(&self.door, users.len() as u64);
        assert_eq!(served_by(&self.door, "ucs1"), [""; 0]);
        let rounds = self.simulated.each_mut().map(Server::ping_all);
        let reached: u64 = rounds.iter().map(|round| round.reached).sum();
        assert_eq!(reached, users.len() as u64, "{rounds:?}");
        assert_eq!(self.phones.rung().len(), users.len());
    }
}

#[test]
fn the_users_of_a_dead_kamailio_are_reachable_elsewhere_and_stay_there_when_it_is_back() {
    let users = users(60);
    let mut pool = Pool::with(&users);
    let theirs = served_by(&pool.door, "ucs1");
    assert!(theirs.len() >= 10, "{theirs:?}");
    let located = pool.kamailio.located();
    assert_eq!(whose(&located), theirs);
    assert_eq!(pool.kamailio.registrations(), theirs.len() as u64);
    assert!(pool.kamailio.registers() >= theirs.len() as u64);
    assert_eq!(pool.kamailio.located_of(&theirs[0]), located[..1]);
    for (user, one) in theirs.iter().zip(&located) {
        let phone = format!("sip:{user}@{}", pool.phones.local);
        assert_eq!(one.contact, phone, "the phone's own contact");
        let path = one.path.as_deref().unwrap();
        assert!(path.starts_with("<sip:") && path.ends_with(";lr>"), "{path}");
        assert!((3_500..=3_600).contains(&one.expires), "{one:?}");
        assert_eq!(pool.kamailio.reach(user), 200, "{user}");
    }
    assert_eq!(pool.phones.rung().len(), theirs.len());

    pool.kamailio.kill();
    pool.door.server_in("ucs1", "down");
    pool.all_are_elsewhere(&users);

    pool.kamailio.restart();
    pool.door.server_in("ucs1", "ramp");
    assert_eq!(pool.kamailio.located(), []);
}

#[test]
fn a_kamailio_that_was_silent_is_cleaned_of_those_who_moved_away() {
    let users = users(60);
    let mut pool = Pool::with(&users);
    let theirs = pool.kamailio.located();
    assert!(theirs.len() >= 10, "{theirs:?}");

    pool.kamailio.freeze(true);
    pool.door.server_in("ucs1", "down");
    pool.all_are_elsewhere(&users);

    pool.kamailio.freeze(false);
    let back = pool.door.server_in("ucs1", "ramp");
    assert_eq!(pool.kamailio.located(), [], "it counts again only when it is clean");
    assert_eq!(back.bindings, 0);
    assert!(pool.door.metric("frontdoor_swept_total") >= theirs.len() as u64);
}
