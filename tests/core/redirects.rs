//! Servers that send users elsewhere (D9): followed where that can be, never shown to a phone.

use std::time::Duration;

use frontdoor::door::{Auth, Event, Misdirection};
use frontdoor::sip::{HeaderName, Response};
use frontdoor::ucserver::Mood;

use crate::desk::{Ask, Desk, desk, header, plan};
use crate::world::{Weather, World, server_addr, settings};

const ALICE: &str = "sip:alice@example.com";
const SECOND: Duration = Duration::from_secs(1);

fn alice(cseq: u32) -> Ask {
    Ask::register("alice").cseq(cseq).contact("<sip:alice@198.51.100.1>")
}

/// Alice is registered; where she is, and where she is not.
fn registered(servers: usize) -> (Desk, usize, usize) {
    let mut desk = plan(servers).open();
    assert_eq!(desk.status(&alice(1)), 200);
    let here = desk.current(ALICE);
    (desk, here, usize::from(here == 0))
}

/// The server insists that she belongs to another one.
fn insist(desk: &mut Desk, server: usize, home: usize) {
    desk.servers[server].belongs(ALICE, Some(server_addr(home).to_string()));
    desk.set_mood(server, Mood::StrictHome);
}

/// Every server answers every REGISTER with these contacts.
fn all_say(desk: &mut Desk, status: u16, contacts: &'static [&'static str]) {
    desk.script = Some(Box::new(move |_, request| {
        (request.method() == Some("REGISTER")).then(|| {
            let response = Response::to(request, status);
            let put = |response: Response, it: &&str| response.header(HeaderName::Contact, *it);
            contacts.iter().fold(response, put).to_tag("x").finish()
        })
    }));
}

/// For so many seconds the phone repeats what it said.
fn stays(desk: &mut Desk, seconds: u32) {
    for _ in 0..seconds / 50 {
        desk.pass(50 * SECOND);
        desk.send(&alice(1));
    }
}

/// A new contact: it must be told to the server.
fn moved(cseq: u32) -> Ask {
    Ask::register("alice").cseq(cseq).contact("<sip:alice@198.51.100.77:5060>")
}

#[test]
fn a_server_that_lives_is_believed_and_the_phone_sees_nothing_of_it() {
    let (mut desk, here, there) = registered(2);
    insist(&mut desk, here, there);
    assert_eq!(desk.status(&moved(2)), 200);
    assert_eq!(desk.current(ALICE), there);
    assert_eq!(desk.user(ALICE).home, desk.user(ALICE).current);
    assert_eq!(desk.user(ALICE).relocated_at, None);
    desk.pass(5 * SECOND);
    assert_eq!(desk.held_by(there).len(), 2, "both contacts went along");
    assert!(desk.held_by(here).is_empty(), "{:?}", desk.held_by(here));
    assert_eq!(desk.door.stats().redirects_followed, 1);
    desk.restart();
    assert_eq!(desk.current(ALICE), there, "it was recorded");
}

#[test]
fn a_refresh_by_the_door_itself_is_followed_too() {
    let (mut desk, here, there) = registered(2);
    insist(&mut desk, here, there);
    stays(&mut desk, 3_300);
    assert_eq!(desk.current(ALICE), there);
    assert_eq!(desk.held_by(there).len(), 1);
}

#[test]
fn while_distribution_is_disabled_a_home_is_taught_all_the_same() {
    let mut plan = plan(2);
    plan.settings.decision.disable_automatic_user_distribution = true;
    let mut desk = plan.open();
    assert_eq!(desk.status(&alice(1)), 200);
    let here = desk.current(ALICE);
    insist(&mut desk, here, 1 - here);
    assert_eq!(desk.status(&moved(2)), 200);
    assert_eq!(desk.current(ALICE), 1 - here);
}

#[test]
fn a_stranger_becomes_a_user_where_the_servers_say() {
    for home in [0, 1] {
        let mut plan = plan(2);
        plan.settings.sip.auth = Auth::Passthrough;
        let mut desk = plan.open();
        for server in [0, 1] {
            insist(&mut desk, server, home);
            if server == home {
                desk.servers[server].belongs(ALICE, None);
            }
        }
        assert_eq!(desk.status(&alice(1)), 200);
        assert_eq!(desk.current(ALICE), home);
        assert_eq!(desk.user(ALICE).epoch, 1, "and was nowhere before");
    }
}

#[test]
fn nobody_is_followed_to_a_server_that_is_failed() {
    let (mut desk, here, there) = registered(2);
    desk.set_mood(there, Mood::Dead);
    desk.pass(10 * SECOND);
    insist(&mut desk, here, there);
    let answer = desk.answer(&moved(2));
    assert_eq!(answer.status(), Some(503));
    assert!(answer.header(HeaderName::RetryAfter).is_some());
    assert!(answer.header(HeaderName::Contact).is_none());
    assert_eq!(desk.current(ALICE), here);
    assert_eq!(desk.door.stats().redirects_refused, 1);
    // What the door does by itself is shown, and tried again only now and then.
    stays(&mut desk, 3_300);
    let because = desk.binding(ALICE).because.expect("a reason");
    assert!(because.contains("insists on another one"), "{because}");
    desk.take_registers();
    stays(&mut desk, 100);
    assert!((2..=4).contains(&desk.registers.len()), "{}", desk.registers.len());
}

#[test]
fn nobody_is_followed_to_an_address_that_is_no_server_here() {
    for contacts in [
        &["<sip:192.0.2.99>"][..],
        &["<sip:ucs2.example.com>"],
        &["<sip:10.0.0.2:5099>"],
        &["<tel:+4930123>"],
        &["*"],
        &["<<>>"],
        &[],
    ] {
        let (mut desk, here, _) = registered(2);
        all_say(&mut desk, 302, contacts);
        desk.take_registers();
        assert_eq!(desk.status(&moved(2)), 503, "{contacts:?}");
        assert_eq!(desk.registers.len(), 1, "{contacts:?}");
        assert_eq!(desk.current(ALICE), here);
        assert_eq!(desk.door.stats().redirects_refused, 1);
    }
}

#[test]
fn the_best_of_several_contacts_counts_and_every_3xx_is_a_redirect() {
    for status in [300, 301, 302, 305, 380] {
        let (mut desk, here, there) = registered(3);
        let best: &'static [&'static str] = match there {
            0 => &["<sip:192.0.2.9>;q=1", "<sip:10.0.0.3>;q=0.2, <sip:10.0.0.1:5060>;q=0.8"],
            _ => &["<sip:192.0.2.9>;q=1", "<sip:10.0.0.3>;q=0.2, <sip:10.0.0.2:5060>;q=0.8"],
        };
        let mut told = 0;
        desk.script = Some(Box::new(move |server, request| {
            if request.method() != Some("REGISTER") || server != here || told > 0 {
                return None;
            }
            told += 1;
            let response = Response::to(request, status);
            let put = |response: Response, it: &&str| response.header(HeaderName::Contact, *it);
            Some(best.iter().fold(response, put).to_tag("x").finish())
        }));
        assert_eq!(desk.status(&moved(2)), 200, "{status}");
        assert_eq!(desk.current(ALICE), there, "{status}");
    }
}

#[test]
fn servers_that_send_a_user_in_circles_are_followed_twice() {
    let (mut desk, here, there) = registered(2);
    insist(&mut desk, here, there);
    insist(&mut desk, there, here);
    desk.take_registers();
    let epoch = desk.user(ALICE).epoch;
    assert_eq!(desk.status(&moved(2)), 503);
    assert_eq!(desk.user(ALICE).epoch, epoch + 2);
    desk.pass(25 * SECOND);
    assert!(desk.registers.len() <= 8, "{} requests", desk.registers.len());
    assert!(desk.user(ALICE).epoch <= epoch + 2);
    // When one of them sees reason, she is there.
    desk.set_mood(here, Mood::Healthy);
    desk.set_mood(there, Mood::Healthy);
    desk.pass(60 * SECOND);
    assert_eq!(desk.status(&moved(3)), 200);
}

#[test]
fn a_stranger_is_sent_about_twice_at_most() {
    let mut plan = plan(3);
    plan.settings.sip.auth = Auth::Passthrough;
    let mut desk = plan.open();
    for server in 0..3 {
        insist(&mut desk, server, (server + 1) % 3);
    }
    desk.take_registers();
    assert_eq!(desk.status(&alice(1)), 503);
    assert_eq!(desk.registers.len(), 3);
    assert!(desk.door.user(desk.now, ALICE).is_none());
}

#[test]
fn nobody_is_followed_to_a_server_that_is_full() {
    let (mut desk, here, there) = registered(2);
    desk.settings.servers[there].capacity = 0;
    desk.restart();
    desk.pass(5 * SECOND);
    insist(&mut desk, here, there);
    assert_eq!(desk.status(&moved(2)), 503);
    assert_eq!(desk.current(ALICE), here);
}

#[test]
fn one_server_alone_is_no_place_to_go() {
    let mut desk = desk();
    assert_eq!(desk.status(&alice(1)), 200);
    insist(&mut desk, 0, 0);
    let answer = desk.answer(&moved(2));
    assert_eq!((answer.status(), header(&answer, HeaderName::Contact)), (Some(503), ""));
}

/// Users at three servers, of which the second dies.
fn failed_over(strict: &[usize]) -> World {
    let mut world = World::new(settings(3, 1_000), Weather::CALM, 3);
    world.run_for(Duration::from_secs(3));
    for number in 0..40 {
        world.add_phone(&format!("sip:u{number}@example.com"));
    }
    world.run_until(Duration::from_secs(40), |world| {
        world.phones.iter().all(|phone| phone.is_acknowledged(world.now.uptime))
    });
    for &server in strict {
        world.set_mood(server, Mood::StrictHome);
    }
    world.set_mood(1, Mood::Dead);
    world
}

#[test]
fn a_backup_that_insists_on_the_dead_home_is_left_for_another() {
    let mut world = failed_over(&[0]);
    world.run_for(Duration::from_secs(30));
    let status = world.door().status(world.now);
    assert_eq!((status.progress.failed, status.progress.moving), (0, 0), "{status:#?}");
    assert_eq!(status.relocated, u64::from(status.servers[1].home_to));
    let guests = status.servers[2].assigned - status.servers[2].home_to;
    assert_eq!(guests, status.servers[1].home_to, "all of them are at the one that takes them");
}

#[test]
fn backups_that_all_insist_are_named_and_no_storm_comes_of_it() {
    let mut world = failed_over(&[0, 2]);
    world.run_for(Duration::from_secs(20));
    let users = u64::from(world.door().status(world.now).servers[1].home_to);
    let named = |world: &World| {
        let all = world.events.iter();
        let named = all.filter_map(|(_, event)| {
            if let Event::Misdirected { why, .. } = event { Some(*why) } else { None }
        });
        named.collect::<Vec<_>>()
    };
    assert_eq!(named(&world), [Misdirection::Failed; 2], "once a server");
    let stats = *world.door().stats();
    assert!(stats.relocations <= 3 * users, "{} moves of {users} users", stats.relocations);
    world.run_for(Duration::from_secs(60));
    let later = *world.door().stats();
    let asked = later.upstream_registers - stats.upstream_registers;
    assert!(asked <= 10 * users, "{asked} REGISTERs of {users} users in a minute");
    // Somebody mends it.
    world.set_mood(0, Mood::Healthy);
    world.set_mood(2, Mood::Healthy);
    world.run_for(Duration::from_secs(60));
    let status = world.door().status(world.now);
    assert_eq!((status.progress.failed, status.progress.moving), (0, 0), "{status:#?}");
    world.check_reachable();
}

#[test]
fn what_cannot_be_written_is_not_followed_and_tried_again() {
    let mut world = World::new(settings(2, 1_000), Weather::CALM, 3);
    world.run_for(Duration::from_secs(3));
    let phone = world.add_phone(ALICE);
    world.run_for(Duration::from_secs(3));
    let here = world.current_of(ALICE).unwrap();
    let home = server_addr(1 - here).to_string();
    world.disk_full = true;
    world.set_mood(here, Mood::StrictHome);
    world.servers[here].belongs(ALICE, Some(home));
    for _ in 0..5 {
        world.roam(phone);
        world.run_for(Duration::from_secs(10));
    }
    assert_eq!(world.current_of(ALICE), Some(here));
    world.disk_full = false;
    world.run_until(Duration::from_secs(120), |world| world.current_of(ALICE) == Some(1 - here));
    world.run_for(Duration::from_secs(60));
    assert!(world.phones[phone].is_acknowledged(world.now.uptime));
}
