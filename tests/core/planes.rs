//! Servers that serve more than SIP (H4).

use std::time::Duration;

use frontdoor::cluster::{Plane, Planes};
use frontdoor::door::Settings;
use frontdoor::ucserver::Mood;

use crate::world::{Weather, World, settings};

/// Three servers that serve clients, too, and answer nobody who asks for them.
fn deaf_to_clients() -> Settings {
    let mut settings = settings(3, 1000);
    for server in &mut settings.servers {
        server.planes = Planes::SIP.with(Plane::Client);
    }
    settings
}

#[test]
fn a_plane_that_never_answers_is_shown_and_neither_moves_nor_keeps_anybody() {
    let mut world = World::new(deaf_to_clients(), Weather::CALM, 1);
    world.run_for(Duration::from_secs(5));
    for number in 0..40 {
        world.add_phone(&format!("sip:u{number}@example.com"));
    }
    world.run_until(Duration::from_secs(40), |world| {
        world.phones.iter().all(|phone| phone.is_acknowledged(world.now.uptime))
    });
    world.run_for(Duration::from_secs(60));
    let status = world.door().status(world.now);
    assert_eq!((status.relocated, status.suspicion), (0, None));
    for server in &status.servers {
        assert_eq!((&*server.state, &server.proof), ("up", &None), "{server:?}");
        let planes = server.planes.iter().map(|it| (&*it.plane, &*it.state, it.counts));
        let expected = [("sip", "alive", true), ("client", "unheard", true)];
        assert_eq!(planes.collect::<Vec<_>>(), expected);
    }
    world.set_mood(1, Mood::Dead);
    let took = world.run_until(Duration::from_secs(5), |world| {
        let status = world.door().status(world.now);
        status.relocated > 0 && status.progress.settled == 40
    });
    assert!(took < Duration::from_secs(1), "took {took:?}");
    world.check_reachable();
    let status = world.door().status(world.now);
    assert_eq!(status.servers[1].proof.as_deref(), Some("refused"));
}
