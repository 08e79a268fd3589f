//! How long the door takes to know that a server is gone, and what it takes for gone.
//!
//! The bounds are the product's promise (H2), from the fault to the change of state as the door
//! dates it, on the clock both share.

use std::net::IpAddr;
use std::time::Duration;

use frontdoor::door::ServerStatus;
use nix::sys::signal::Signal;

use crate::harness::{
    LOCALHOST, LOCALHOST6, Namespace, Phones, Server, Setup, free, now, pause, settled, users,
};

/// From a death that the server's host speaks of.
const CLEAN: Duration = Duration::from_secs(1);
/// From silence.
const SILENT: Duration = Duration::from_secs(3);
/// A stall that trips nothing.
const STALL: Duration = Duration::from_secs(1);

/// Servers that listen on the loopback, one for each address.
fn servers(ips: &[IpAddr]) -> Vec<Server> {
    let names = (1..).map(|number| format!("ucs{number}"));
    ips.iter().zip(names).map(|(ip, name)| Server::start(&name, free(*ip))).collect()
}

fn since(server: &ServerStatus, fault_nanos: u64) -> Duration {
    Duration::from_nanos(server.since_nanos.checked_sub(fault_nanos).unwrap())
}

#[test]
fn a_killed_server_is_down_within_a_second_on_both_families() {
    let mut servers = servers(&[LOCALHOST, LOCALHOST6, LOCALHOST, LOCALHOST6]);
    let door = Setup::with(&servers).start();
    let phones = Phones::at(free(LOCALHOST), door.phones);
    phones.register(&users(100));
    settled(&door, 100);
    for victim in [0, 1] {
        let name = servers[victim].name.clone();
        assert!(door.server(&name).assigned > 0, "{name} serves nobody");
        let killed = servers[victim].kill();
        let down = door.server_in(&name, "down");
        assert_eq!(down.proof.as_deref(), Some("refused"), "{name}");
        let took = since(&down, killed);
        assert!(took <= CLEAN, "{name}: {took:?}");
        settled(&door, 100);
        assert_eq!(door.server(&name).assigned, 0, "{name}");
    }
    let reached: u64 = servers[2..].iter_mut().map(|server| server.ping_all().reached).sum();
    assert_eq!(reached, 100);
}

#[test]
fn a_server_whose_cable_was_pulled_is_down_within_three_seconds_and_its_users_move() {
    let network = Namespace::network();
    let cable = network.cable();
    let far = Server::start_in(&network, "far", (cable.inside, 5060).into());
    let mut near =
        [Server::start("near1", free(cable.outside)), Server::start("near2", free(cable.outside))];
    let mut setup = Setup::with(&near);
    let door = setup
        .server(&far, "udp", cable.outside)
        .key("failover", "hold_silence = \"1500ms\"\n")
        .start();
    let phones = Phones::at(free(LOCALHOST), door.phones);
    phones.register(&users(90));
    settled(&door, 90);
    assert!(door.server("far").assigned > 0);

    let pulled = now().as_nanos();
    network.pull();
    let down = door.server_in("far", "down");
    assert_eq!(down.proof.as_deref(), Some("silence"));
    let took = since(&down, pulled);
    assert!(took <= SILENT, "{took:?}");

    settled(&door, 90);
    let status = door.status();
    let failover = status.failovers.last().unwrap();
    let held = Duration::from_nanos(failover.planned_nanos - down.since_nanos);
    assert!(held >= Duration::from_millis(1_500), "moved after {held:?}: that was no hold");
    assert_eq!((status.relocated, door.server("far").assigned), (failover.users, 0));
    let reached: u64 = near.iter_mut().map(|server| server.ping_all().reached).sum();
    assert_eq!(reached, 90);

    // Nobody moves back by itself, but the server is watched again.
    network.plug();
    door.server_in("far", "probation");
}

#[test]
fn a_stopped_server_is_down_within_three_seconds_although_its_port_accepts() {
    let servers = servers(&[LOCALHOST; 5]);
    let mut setup = Setup::new();
    for (server, transport) in servers.iter().zip(["udp", "tcp", "udp", "tcp", "udp"]) {
        setup.server(server, transport, LOCALHOST);
    }
    let door = setup.key("failover", "hold_silence = \"500ms\"\n").start();
    let phones = Phones::at(free(LOCALHOST), door.phones);
    phones.register(&users(100));
    settled(&door, 100);
    for victim in [0, 1] {
        let server = &servers[victim];
        let stopped = now().as_nanos();
        server.signal(Signal::SIGSTOP);
        std::net::TcpStream::connect(server.sip).unwrap();
        let down = door.server_in(&server.name, "down");
        assert_eq!(down.proof.as_deref(), Some("silence"), "{}", server.name);
        let took = since(&down, stopped);
        assert!(took <= SILENT, "{}: {took:?}", server.name);
        settled(&door, 100);
        assert_eq!(door.server(&server.name).assigned, 0);
        // So that the next one is not the one too many for the door to believe it.
        server.signal(Signal::SIGCONT);
        door.server_in(&server.name, "probation");
    }
}

#[test]
fn a_server_that_stalls_for_a_second_trips_nothing() {
    let servers = servers(&[LOCALHOST; 3]);
    let door = Setup::with(&servers).start();
    let phones = Phones::at(free(LOCALHOST), door.phones);
    phones.register(&users(30));
    settled(&door, 30);
    // A test that was itself held up has stalled the server for longer, and tries again.
    let judged = (0..10).any(|_| {
        let up_since = door.server_in("ucs1", "up").since_nanos;
        let stopped = now();
        servers[0].signal(Signal::SIGSTOP);
        pause(STALL);
        servers[0].signal(Signal::SIGCONT);
        let stalled = now().since(stopped);
        pause(SILENT);
        let server = door.server("ucs1");
        let as_promised = stalled < STALL + Duration::from_millis(50);
        assert!(
            !as_promised || (&*server.state, server.since_nanos) == ("up", up_since),
            "a stall of {stalled:?} changed {server:?}"
        );
        as_promised
    });
    assert!(judged, "this machine cannot stop a process for just {STALL:?}");
    let status = door.status();
    assert_eq!((status.relocated, status.failovers.len()), (0, 0));
    assert_eq!(status.servers[0].incarnation, 0);
}
