//! OPTIONS from the server to phones, along the stored Path.

use crate::now::Uptime;
use crate::sip::{HeaderName, Message, Response, Transport};
use crate::ucserver::tests::{AOR, Register, Sent, World, address, lines, millis, secs};
use crate::ucserver::{Event, Input, PingRefused, Settings, Unreached};

const CONTACT: &str = "sip:200@192.0.2.7:5070;x=1";

fn pinging() -> World {
    World::new(Settings { ping_new_bindings: true, ..Settings::default() })
}

fn via_path(path: &str) -> Register {
    Register::of(&format!("<{CONTACT}>")).line("Supported: path").line(&format!("Path: {path}"))
}

/// Registers and gives the ping that follows the 200.
fn bind_and_take_ping(world: &mut World, register: &Register) -> Sent {
    let request = world.written(register);
    let mut sent = world.send(request);
    assert_eq!(sent.len(), 2, "{sent:?}");
    assert_eq!(sent[0].message.status(), Some(200));
    sent.remove(1)
}

fn answer(world: &mut World, ping: &Message, status: u16) -> Vec<Sent> {
    let bytes = Response::to(ping, status).to_tag("phone").finish();
    world.server.handle(
        world.now,
        Input::Sip { flow: crate::ucserver::tests::udp("192.0.2.20:5060"), message: bytes },
    );
    world.outputs()
}

fn happened(world: &World) -> Vec<(Uptime, Event)> {
    world
        .server
        .journal()
        .entries()
        .filter(|entry| matches!(entry.event, Event::Reached { .. } | Event::Unreached { .. }))
        .map(|entry| (entry.at, entry.event.clone()))
        .collect()
}

fn unreached(why: Unreached) -> Event {
    Event::Unreached { aor: AOR.into(), contact: CONTACT.into(), why }
}

#[test]
fn a_new_binding_is_pinged_along_its_path() {
    let mut world = pinging();
    let path = "<sip:t1@192.0.2.20:5080;lr>, <sip:t2@192.0.2.21;lr>";
    let ping = bind_and_take_ping(&mut world, &via_path(path));
    assert_eq!(ping.flow.remote, address("192.0.2.20:5080"));
    assert_eq!(ping.flow.transport, Transport::Udp);
    assert_eq!(ping.message.method(), Some("OPTIONS"));
    assert_eq!(ping.message.uri(), Some(CONTACT.as_bytes()));
    assert_eq!(
        lines(&ping.message, HeaderName::Route),
        ["<sip:t1@192.0.2.20:5080;lr>", "<sip:t2@192.0.2.21;lr>"]
    );
    assert_eq!(ping.message.check_request(), Ok(()));
}

#[test]
fn the_journal_says_when_the_phone_was_reached() {
    let mut world = pinging();
    let ping = bind_and_take_ping(&mut world, &via_path("<sip:t1@192.0.2.20;lr>"));
    world.pass(millis(120));
    assert!(answer(&mut world, &ping.message, 200).is_empty());
    let reached =
        Event::Reached { aor: AOR.into(), contact: CONTACT.into(), since_registered: millis(120) };
    assert_eq!(happened(&world), [(world.now, reached)]);
    answer(&mut world, &ping.message, 200);
    assert_eq!(happened(&world).len(), 1, "the answer again tells nothing new");
}

#[test]
fn a_refresh_is_not_pinged() {
    let mut world = pinging();
    bind_and_take_ping(&mut world, &via_path("<sip:t1@192.0.2.20;lr>"));
    world.bind(&via_path("<sip:t1@192.0.2.20;lr>").call("c1", 2));
}

#[test]
fn an_unanswered_ping_is_repeated_and_given_up_after_32_seconds() {
    let mut world = pinging();
    let began = world.now;
    bind_and_take_ping(&mut world, &via_path("<sip:t1@192.0.2.20;lr>"));
    let again = world.pass(secs(40));
    let after: Vec<u128> = again.iter().map(|(at, _)| at.since(began).as_millis()).collect();
    assert_eq!(after, [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]);
    assert_eq!(happened(&world), [(began + secs(32), unreached(Unreached::Timeout))]);
}

#[test]
fn a_refused_ping_is_not_reached() {
    let mut world = pinging();
    let ping = bind_and_take_ping(&mut world, &via_path("<sip:t1@192.0.2.20;lr>"));
    answer(&mut world, &ping.message, 100);
    assert_eq!(happened(&world), []);
    answer(&mut world, &ping.message, 480);
    assert_eq!(happened(&world), [(world.now, unreached(Unreached::Status(480)))]);
}

#[test]
fn a_lost_next_hop_ends_the_pings_that_went_there() {
    let mut world = pinging();
    bind_and_take_ping(&mut world, &via_path("<sip:t1@192.0.2.20;lr>"));
    world.server.handle(world.now, Input::Unreachable { remote: address("192.0.2.21:5060") });
    assert_eq!(happened(&world), []);
    world.server.handle(world.now, Input::Unreachable { remote: address("192.0.2.20:5060") });
    assert_eq!(happened(&world), [(world.now, unreached(Unreached::Transport))]);
    assert!(world.pass(secs(40)).is_empty());
}

#[test]
fn without_a_path_the_contact_is_the_next_hop() {
    let mut world = pinging();
    let register = Register::of("<sip:200@192.0.2.7:5070;transport=tcp>");
    let ping = bind_and_take_ping(&mut world, &register);
    assert_eq!(ping.flow.remote, address("192.0.2.7:5070"));
    assert_eq!(ping.flow.transport, Transport::Tcp);
    assert_eq!(ping.message.count(HeaderName::Route), 0);
    assert_eq!(ping.message.top_via().unwrap().transport, b"TCP");
}

#[test]
fn a_next_hop_that_is_no_address_or_no_loose_route_is_not_tried() {
    for (path, why) in [
        ("<sip:t1@door.example.com;lr>", Unreached::NoAddress),
        ("<sip:t1@192.0.2.20;lr;transport=tls>", Unreached::NoAddress),
        ("<sip:t1@192.0.2.20>", Unreached::StrictRoute),
    ] {
        let mut world = pinging();
        world.bind(&via_path(path));
        assert_eq!(happened(&world), [(world.now, unreached(why))], "{path}");
    }
}

#[test]
fn a_single_ping_needs_a_binding() {
    let mut world = World::new(Settings::default());
    let refused = world.server.ping(world.now, AOR, CONTACT);
    assert_eq!(refused, Err(PingRefused::NoBinding));
    world.bind(&via_path("<sip:t1@192.0.2.20;lr>"));
    assert_eq!(world.server.ping(world.now, AOR, CONTACT), Ok(()));
    assert_eq!(world.outputs().len(), 1);
}

#[test]
fn a_round_reaches_everybody_at_its_pace_and_then_says_how_it_went() {
    let mut world = World::new(Settings::default());
    for user in 0..5 {
        let register = Register::of(&format!("<sip:{user}@192.0.2.7>"));
        world.bind(&register.to(&format!("sip:{user}@example.com")).call(&user.to_string(), 1));
    }
    assert_eq!(world.server.ping_all(world.now, 2), Ok(5));
    assert_eq!(world.server.ping_all(world.now, 2), Err(PingRefused::Busy));
    let began = world.now;
    let mut sent_at = Vec::new();
    for step in 0..9 {
        for (at, sent) in world.pass(millis(if step == 0 { 0 } else { 250 })) {
            sent_at.push(at.since(began).as_millis());
            let status = if sent_at.len() == 3 { 404 } else { 200 };
            answer(&mut world, &sent.message, status);
        }
    }
    assert_eq!(sent_at, [0, 500, 1000, 1500, 2000]);
    let result = world.server.take_ping_all_result().unwrap();
    assert_eq!((result.reached, result.unreached), (4, 1));
    assert_eq!(
        result.first_unreached,
        [("sip:2@example.com".into(), "sip:2@192.0.2.7".into(), Unreached::Status(404))]
    );
    assert_eq!(world.server.take_ping_all_result(), None);
    assert_eq!(world.server.ping_all(world.now, 2), Ok(5));
}

#[test]
fn a_phone_that_leaves_during_a_round_does_not_hold_it_up() {
    let mut world = World::new(Settings::default());
    world.bind(&Register::of("<sip:200@192.0.2.7>"));
    assert_eq!(world.server.ping_all(world.now, 1), Ok(1));
    world.bind(&Register::of("*").line("Expires: 0").call("c1", 2));
    world.pass(secs(1));
    let result = world.server.take_ping_all_result().unwrap();
    assert_eq!((result.reached, result.unreached), (0, 0));
}

#[test]
fn a_round_over_nobody_is_over_at_once() {
    let mut world = World::new(Settings::default());
    assert_eq!(world.server.ping_all(world.now, 0), Ok(0));
    assert!(world.server.take_ping_all_result().is_some());
}
