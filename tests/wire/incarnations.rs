//! Servers that restart between two probes, with nobody the wiser: everything is registered there
//! again, at the pace they bear, and nobody is moved (H8).

use std::time::Duration;

use crate::harness::{
    Door, Kamailio, LOCALHOST, Phones, Server, Setup, free, now, served_by, settled, soon, users,
};

/// As far apart as a restart needs; nothing is missed for as long as it takes.
const HEALTH: &str = "probe_interval = \"2s\"\ndegraded_after = \"20s\"\ndown_after = \"30s\"\n\
                      sample_interval = \"4s\"\n";
/// No probe and no question comes within this time after the moment of [`between_two_looks`].
const QUIET: Duration = Duration::from_millis(1_700);
/// REGISTERs a second.
const RATE: u64 = 25;
/// A restart may be too slow on a busy machine, and be seen.
const TRIES: usize = 5;

/// What has come to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Came {
    registers: u64,
    options: u64,
}

trait Peer {
    fn came(&mut self) -> Came;
    fn restart_at_once(&mut self);
    fn holds(&mut self) -> u64;
}

impl Peer for Kamailio {
    fn came(&mut self) -> Came {
        Came { registers: self.registers(), options: self.options() }
    }

    fn restart_at_once(&mut self) {
        self.kill();
        self.restart();
    }

    fn holds(&mut self) -> u64 {
        self.registrations()
    }
}

impl Peer for Server {
    fn came(&mut self) -> Came {
        Came { registers: self.count("registers"), options: self.count("options") }
    }

    fn restart_at_once(&mut self) {
        self.kill();
        *self = Self::start(&self.name.clone(), self.sip);
    }

    fn holds(&mut self) -> u64 {
        self.registrations()
    }
}

/// Waits for the moment when the door has just sent a probe, and asked not long ago.
fn between_two_looks(peer: &mut impl Peer) {
    let mut before = peer.came();
    let mut asked_at = None;
    soon("the door has looked", || {
        let came = peer.came();
        if came.registers != before.registers {
            asked_at = Some(now());
        }
        let probed = came.options != before.options;
        before = came;
        let quiet = asked_at.is_some_and(|at| now().since(at) < QUIET);
        (probed && quiet).then_some(())
    });
}

/// Restarts the peer unseen; the door registers all of its `theirs` bindings there again.
fn restart_unseen(door: &Door, peer: &mut impl Peer, theirs: u64) {
    for _ in 0..TRIES {
        let seen = door.metric("frontdoor_unreachable_total");
        let missing = door.metric("frontdoor_samples_missing_total");
        between_two_looks(peer);
        peer.restart_at_once();
        assert_eq!(peer.holds(), 0, "it has forgotten everybody");
        // Whatever is not there at this look came after the time before it.
        let (first, held) = soon("the first is registered there again", || {
            let before_the_look = now();
            Some((before_the_look, peer.holds())).filter(|(_, held)| *held > 1)
        });
        soon("all are registered there again", || (peer.holds() == theirs).then_some(()));
        let took = now().since(first);
        // A burst is allowed.
        let rest = theirs.saturating_sub(held + 8);
        let least =
            Duration::from_secs(1) * u32::try_from(rest).unwrap() / u32::try_from(RATE).unwrap();
        assert!(took >= least, "{rest} bindings at {RATE} a second took {took:?}");
        if door.metric("frontdoor_unreachable_total") == seen {
            assert_eq!(door.metric("frontdoor_samples_missing_total"), missing + 2);
            return;
        }
    }
    panic!("each of {TRIES} restarts was so slow that the door saw it");
}

#[test]
fn what_a_kamailio_and_a_simulated_server_forgot_unseen_is_registered_there_again() {
    let mut kamailio = Kamailio::start("ucs1", free(LOCALHOST));
    let mut simulated = Server::start("ucs2", free(LOCALHOST));
    let door = Setup::with([&simulated])
        .kamailio(&kamailio, "udp")
        .table("health", HEALTH)
        .table("pace", &format!("rate_max = {RATE}\n"))
        .start();
    for server in ["ucs1", "ucs2"] {
        door.server_in(server, "up");
    }
    let users = users(120);
    let phones = Phones::at(free(LOCALHOST), door.phones);
    phones.register(&users);
    settled(&door, 120);
    let theirs = ["ucs1", "ucs2"].map(|server| served_by(&door, server));
    assert!(theirs.iter().all(|users| users.len() >= 40), "{theirs:?}");

    restart_unseen(&door, &mut kamailio, theirs[0].len() as u64);
    restart_unseen(&door, &mut simulated, theirs[1].len() as u64);

    let status = door.status();
    assert_eq!((status.relocated, status.progress.settled), (0, 120));
    for server in &status.servers {
        assert_eq!((&*server.state, server.incarnation >= 1), ("up", true), "{server:?}");
    }
    for user in &theirs[0] {
        assert_eq!(kamailio.reach(user), 200, "{user}");
    }
    assert_eq!(simulated.ping_all().reached, theirs[1].len() as u64);
    assert_eq!(phones.rung().len(), 120);
}
