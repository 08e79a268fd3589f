//! Line groups and telephone systems: who may go where, and how fast (P4, M7).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use frontdoor::cluster::Ties;
use frontdoor::door::{Auth, Command, Event, Pace, Settings, SystemStatus, TelephoneSystem};
use frontdoor::now::Uptime;
use frontdoor::sip::{HeaderName, Response};
use frontdoor::ucserver::{self, Mood};

use crate::desk::{Ask, Desk, plan};
use crate::phone::Act;
use crate::world::{Weather, World, settings};

const PBX: &str = "pbx";

/// What a server says that reaches its telephone system, and what one says that does not.
const REACHES: &str = r#"{"format":1,"boot_id":"b","users":{"logged_in":0},
    "telephone_systems":[{"name":"pbx","reachable":true}]}"#;
const LOST: &str = r#"{"format":1,"boot_id":"b","users":{"logged_in":0},
    "telephone_systems":[{"name":"pbx","reachable":false}]}"#;

fn ties(line_groups: &[&str], reaches: &[&str]) -> Arc<Ties> {
    let names = |names: &[&str]| names.iter().copied().map(Arc::from).collect::<Vec<_>>();
    Arc::new(Ties::configured(names(line_groups), names(reaches)))
}

fn system(name: &str, rate_max: Option<u32>) -> TelephoneSystem {
    TelephoneSystem { name: name.into(), pace: Pace { rate_max, ..Pace::default() } }
}

/// Servers that all reach one telephone system, which takes so many registrations a second.
fn behind_one(servers: usize, rate_max: Option<u32>) -> Settings {
    let mut settings = settings(servers, 1000);
    for server in &mut settings.servers {
        server.ties = ties(&[], &[PBX]);
    }
    settings.telephone_systems = vec![system(PBX, rate_max)];
    settings
}

/// So many users, all registered.
fn registered(settings: Settings, users: usize, seed: u64) -> World {
    let mut world = World::new(settings, Weather::CALM, seed);
    world.run_for(Duration::from_secs(3));
    register(&mut world, users);
    world
}

fn register(world: &mut World, users: usize) {
    for number in 0..users {
        world.add_phone(&aor(number));
    }
    world.run_until(Duration::from_secs(90), |world| {
        world.phones.iter().all(|phone| phone.is_acknowledged(world.now.uptime))
    });
}

fn aor(number: usize) -> String {
    format!("sip:u{number}@example.com")
}

/// A REGISTER at a desk.
fn ask(number: usize) -> Ask {
    let user = format!("u{number}");
    let contact = format!("<sip:{user}@198.51.0.1:5060>");
    Ask::register(&user).contact(&contact).expires("300")
}

/// Who is served there, by number of the server.
fn on(world: &World, server: usize) -> Vec<String> {
    let name = format!("ucs{}", server + 1);
    let users = world.users().into_iter();
    users.filter(|it| it.current.as_deref() == Some(&*name)).map(|it| it.name.to_string()).collect()
}

/// When servers came to know bindings, since then.
fn met(world: &World, since: Uptime) -> Vec<Uptime> {
    let entries = world.servers.iter().flat_map(|server| server.journal().entries());
    let new = entries.filter(|entry| {
        matches!(entry.event, ucserver::Event::Registered { new: true, .. }) && entry.at > since
    });
    let mut met: Vec<Uptime> = new.map(|entry| entry.at).collect();
    met.sort_unstable();
    met
}

/// The most of them within any second.
fn peak(met: &[Uptime]) -> usize {
    let second = Duration::from_secs(1);
    let within =
        |from: &Uptime| met.iter().filter(|at| (*from..*from + second).contains(at)).count();
    met.iter().map(within).max().unwrap_or_default()
}

fn settled(world: &World) -> bool {
    let status = world.door().status(world.now);
    status.progress.settled == status.bindings && world.happens_nothing_at_systems()
}

impl World {
    fn happens_nothing_at_systems(&self) -> bool {
        self.systems().iter().all(|system| system.in_flight == 0 && system.queued == 0)
    }

    fn systems(&self) -> Vec<SystemStatus> {
        self.door().status(self.now).telephone_systems
    }
}

#[test]
fn a_failover_keeps_to_the_ceiling_of_the_telephone_system_whichever_servers_take_part() {
    let mut world = registered(behind_one(4, Some(10)), 80, 1);
    let began = world.now.uptime;
    let moved = on(&world, 0).len();
    assert!(moved > 12, "{moved}");
    world.set_mood(0, Mood::Dead);
    world.run_until(Duration::from_secs(60), |world| on(world, 0).is_empty() && settled(world));
    let met = met(&world, began);
    assert_eq!(met.len(), moved, "each of them once");
    // A tenth of a second may come at once.
    assert!(peak(&met) <= 12, "{}", peak(&met));
    let took = met.last().unwrap().since(met[0]);
    let least = Duration::from_millis(100) * (moved as u32 - 3);
    assert!(took >= least, "{moved} within {took:?}");
    assert!(took <= least * 3 / 2, "and no slower than need be: {took:?}");
    world.check_reachable();
}

#[test]
fn who_waits_for_a_telephone_system_holds_up_nobody_else() {
    let mut settings = settings(4, 1000);
    settings.servers[0].ties = ties(&[], &[PBX]);
    settings.servers[1].ties = ties(&[], &["fast"]);
    for server in &mut settings.servers[2..] {
        server.ties = ties(&[], &[PBX, "fast"]);
    }
    settings.telephone_systems = vec![system(PBX, Some(2)), system("fast", None)];
    let mut world = registered(settings, 60, 2);
    let (slow, fast) = (on(&world, 0), on(&world, 1));
    assert!(slow.len() > 5 && fast.len() > 5);
    let began = world.now.uptime;
    world.set_mood(0, Mood::Dead);
    world.set_mood(1, Mood::Dead);
    let at_place = |world: &World, users: &[String]| {
        let settled = |name: &String| {
            let user = world.door().user(world.now, name).unwrap();
            let current = user.current.unwrap();
            user.bindings.iter().all(|binding| *binding.registered_at == [Arc::clone(&current)])
                && !["ucs1", "ucs2"].contains(&&*current)
        };
        users.iter().filter(|name| settled(name)).count()
    };
    world.run_until(Duration::from_secs(5), |world| at_place(world, &fast) == fast.len());
    let slow_by_then = at_place(&world, &slow);
    assert!(slow_by_then < slow.len(), "{slow_by_then} of {}", slow.len());
    world.run_until(Duration::from_secs(60), |world| at_place(world, &slow) == slow.len());
    let took = world.now.uptime.since(began);
    assert!(took >= Duration::from_millis(500) * (slow.len() as u32 - 3), "{took:?}");
    world.check_reachable();
}

#[test]
fn refreshes_changes_and_removals_are_free() {
    let mut world = registered(behind_one(1, Some(1)), 8, 3);
    world.run_until(Duration::from_secs(20), settled);
    // Eight phones at other addresses at once, and eight removals: a server that knows somebody tells
    // the telephone system nothing.
    for number in 0..8 {
        world.roam(number);
    }
    world.run_for(Duration::from_millis(500));
    assert!(world.happens_nothing_at_systems(), "{:?}", world.systems());
    for number in 0..8 {
        world.phone_acts(number, Act::Unregister);
    }
    world.run_for(Duration::from_millis(500));
    assert_eq!(world.held_by(0).len(), 8, "where they were before");
}

#[test]
fn a_server_that_forgot_everybody_is_told_again_at_the_pace_of_the_telephone_system() {
    let mut world = registered(behind_one(1, Some(5)), 30, 4);
    world.run_until(Duration::from_secs(20), settled);
    let began = world.now.uptime;
    world.set_mood(0, Mood::Amnesia);
    world.run_for(Duration::from_secs(1));
    world.set_mood(0, Mood::Healthy);
    world.run_until(Duration::from_secs(60), |world| {
        met(world, began).len() >= 30 && settled(world)
    });
    let met = met(&world, began);
    assert!(peak(&met) <= 7, "{}", peak(&met));
    world.check_reachable();
}

#[test]
fn a_door_that_dies_while_they_wait_goes_on_after_its_restart() {
    let mut world = registered(behind_one(3, Some(4)), 45, 5);
    let began = world.now.uptime;
    let moved = on(&world, 0).len();
    world.set_mood(0, Mood::Dead);
    world.run_until(Duration::from_secs(10), |world| on(world, 0).is_empty());
    world.run_for(Duration::from_secs(1));
    assert!(world.systems()[0].queued > 0);
    world.restart_door();
    world.run_until(Duration::from_secs(90), settled);
    assert_eq!(met(&world, began).len(), moved);
    // What a life of the door has used of the second it dies in is not known to the next one.
    assert!(peak(&met(&world, began)) <= 2 * 4 + 2);
    world.check_reachable();
}

#[test]
fn a_server_that_dies_while_users_wait_to_move_there_keeps_none_of_them() {
    let mut world = registered(behind_one(3, Some(4)), 45, 6);
    world.set_mood(0, Mood::Dead);
    world.run_until(Duration::from_secs(10), |world| on(world, 0).is_empty());
    assert!(world.systems()[0].queued > 0);
    world.set_mood(1, Mood::Dead);
    world.run_until(Duration::from_secs(60), |world| on(world, 2).len() == 45 && settled(world));
    assert_eq!(world.held_by(2).len(), 45);
    world.check_reachable();
}

#[test]
fn the_window_of_a_telephone_system_grows_with_answers_and_shrinks_with_losses() {
    let mut plan = plan(2);
    for server in &mut plan.settings.servers {
        server.ties = ties(&[], &[PBX]);
    }
    let pace = Pace { window_initial: 8, ..Pace::default() };
    plan.settings.telephone_systems = vec![TelephoneSystem { name: PBX.into(), pace }];
    let mut desk = plan.open();
    let window = |desk: &Desk| desk.door.status(desk.now).telephone_systems[0].window;
    let register = |desk: &mut Desk, number: usize| desk.status(&ask(number));
    for number in 0..40 {
        assert_eq!(register(&mut desk, number), 200);
    }
    assert_eq!(window(&desk), 48, "one with every answer");
    // What the servers hear behind them they pass on: too much.
    desk.script = Some(Box::new(|_, request| {
        let registers = request.method() == Some("REGISTER");
        registers.then(|| Response::to(request, 503).finish())
    }));
    assert_eq!(register(&mut desk, 40), 503);
    assert_eq!(window(&desk), 24);
    desk.script = None;
    // From now on one with every window.
    desk.pass(Duration::from_secs(30));
    let before = window(&desk);
    for number in 50..50 + before as usize {
        assert_eq!(register(&mut desk, number), 200);
    }
    assert_eq!(window(&desk), before + 1);
    let system = &desk.door.status(desk.now).telephone_systems[0];
    assert_eq!((system.in_flight, system.queued), (0, 0));
}

#[test]
fn phones_that_would_wait_too_long_are_told_to_come_back() {
    let mut world = World::new(behind_one(1, Some(2)), Weather::CALM, 8);
    world.run_for(Duration::from_secs(3));
    for number in 0..100 {
        world.add_phone(&aor(number));
    }
    world.run_for(Duration::from_secs(2));
    let waiting = world.systems()[0].queued;
    assert!(waiting <= 20, "ten seconds' worth: {waiting}");
    assert!(world.door().stats().shed_lane > 0);
    // With their Retry-After they all get in, at the pace there is.
    world.run_until(Duration::from_secs(600), |world| world.held_by(0).len() == 100);
    assert!(peak(&met(&world, Uptime::ZERO)) <= 4);
}

#[test]
fn users_go_where_their_line_groups_and_telephone_systems_are() {
    let mut settings = settings(5, 1000);
    for (server, (groups, systems)) in settings.servers.iter_mut().zip([
        (["office", "fax"].as_slice(), [PBX].as_slice()),
        (&["office"], &[PBX]),
        (&["office", "fax"], &["other"]),
        (&["lab", "office", "fax"], &[PBX, "other"]),
        (&["Office", "Fax"], &[PBX]),
    ]) {
        server.ties = ties(groups, systems);
    }
    let mut world = registered(settings, 60, 9);
    let (moved, there) = (on(&world, 0), on(&world, 3).len());
    let explained = world.door().explain(world.now, &moved[0]).unwrap();
    let refuses: Vec<_> = explained.candidates.iter().map(|it| it.refuses.as_deref()).collect();
    assert_eq!(
        refuses,
        [Some("current"), Some("line_group"), Some("telephone_system"), None, Some("line_group")]
    );
    world.set_mood(0, Mood::Dead);
    world.run_until(Duration::from_secs(20), |world| on(world, 3).len() == there + moved.len());
    // The only one that has everything is gone, too.
    world.set_mood(3, Mood::Dead);
    world.run_for(Duration::from_secs(20));
    let failovers = world.door().status(world.now).failovers;
    let unplaced: u64 = failovers.iter().map(|run| run.unplaced).sum();
    assert_eq!(unplaced, (there + moved.len()) as u64);
    let status = world.door().status(world.now);
    assert_eq!(&*status.servers[1].line_groups, ["office".into()]);
    assert_eq!(status.servers[3].telephone_systems.len(), 2);
}

/// Three servers that say of themselves whether they reach the telephone system.
fn telling(words: [&'static str; 3], seed: u64) -> World {
    let mut world = World::new(behind_one(3, None), Weather::CALM, seed);
    for (lie, word) in world.lies.iter_mut().zip(words) {
        *lie = Some(word);
    }
    world.run_for(Duration::from_secs(6));
    register(&mut world, 30);
    world
}

/// What the log said of lost telephone systems: which server, how many, whether others reach one.
fn lost_events(world: &World) -> Vec<(String, usize, bool)> {
    let mut lost = Vec::new();
    for (_, event) in &world.events {
        if let Event::SystemsLost { server, all, elsewhere, .. } = event {
            lost.push((server.to_string(), *all, *elsewhere));
        }
    }
    lost
}

#[test]
fn a_server_that_lost_the_telephone_system_keeps_whom_it_has_and_takes_others_last_of_all() {
    let mut world = telling([REACHES; 3], 10);
    let there = on(&world, 1);
    world.lies[1] = Some(LOST);
    world.run_for(Duration::from_secs(10));
    assert_eq!(lost_events(&world), [("ucs2".into(), 1, true)]);
    assert_eq!(on(&world, 1), there, "nobody is moved for it");
    assert_eq!(world.systems()[0].lost_by, ["ucs2".into()]);
    world.set_mood(0, Mood::Dead);
    world.run_until(Duration::from_secs(20), |world| on(world, 0).is_empty() && settled(world));
    assert_eq!(on(&world, 1), there, "everybody went to the other one");
    assert_eq!(world.systems()[0].lost_by, ["ucs2".into()], "a dead server loses nothing");
    assert_eq!(world.systems()[0].reached_by, ["ucs3".into()]);
    let user = on(&world, 2).remove(0);
    let candidates = world.door().explain(world.now, &user).unwrap().candidates;
    assert_eq!(candidates[1].lost_system.as_deref(), Some(PBX));
    assert_eq!(candidates[1].refuses.as_deref(), Some("telephone_system_lost"));
    // A drain makes nobody worse off.
    let drain = Command::Drain { server: "ucs3".into(), on: true };
    world.order(&drain).unwrap();
    world.run_for(Duration::from_secs(30));
    let departure = world.door().status(world.now).departures.remove(0);
    assert_eq!(departure.unplaced_because["telephone_system_lost"], 30 - there.len() as u64);
    assert_eq!((departure.moved, on(&world, 1)), (0, there));
    world.lies[1] = Some(REACHES);
    world.run_for(Duration::from_secs(5));
    assert_eq!(lost_events(&world)[1..], [("ucs2".into(), 0, false)]);
    world.run_until(Duration::from_secs(60), |world| on(world, 1).len() == 30 && settled(world));
    world.check_reachable();
}

#[test]
fn a_telephone_system_that_is_lost_to_all_moves_nobody_and_holds_up_no_failover() {
    let mut world = telling([REACHES; 3], 11);
    for lie in &mut world.lies {
        *lie = Some(LOST);
    }
    world.run_for(Duration::from_secs(10));
    assert_eq!(world.door().status(world.now).relocated, 0);
    assert!(lost_events(&world).contains(&("ucs3".into(), 1, false)), "the last one says it");
    world.set_mood(0, Mood::Dead);
    world.run_until(Duration::from_secs(20), |world| on(world, 0).is_empty() && settled(world));
    assert_eq!(world.door().status(world.now).unplaced, 0);
    world.check_reachable();
}

#[test]
fn nobody_goes_home_to_a_server_that_lost_the_telephone_system() {
    let mut world = telling([REACHES; 3], 12);
    let home = on(&world, 0).len();
    world.set_mood(0, Mood::Dead);
    world.run_until(Duration::from_secs(20), |world| on(world, 0).is_empty());
    world.lies[0] = Some(LOST);
    world.set_mood(0, Mood::Healthy);
    world.run_for(Duration::from_secs(900));
    assert!(on(&world, 0).is_empty());
    let recovery = world.door().recovery_status(world.now);
    assert_eq!(recovery.homes[0].stay_because.as_deref(), Some("home_lost_system"));
    world.lies[0] = Some(REACHES);
    world.run_until(Duration::from_secs(600), |world| on(world, 0).len() == home && settled(world));
    world.check_reachable();
}

#[test]
fn nobody_comes_home_faster_than_the_telephone_system_takes_them() {
    let mut settings = behind_one(3, Some(2));
    settings.recovery.users_per_second = 100;
    settings.recovery.look = Duration::from_secs(1);
    let mut world = registered(settings, 45, 15);
    let home = on(&world, 0).len();
    world.set_mood(0, Mood::Dead);
    world.run_until(Duration::from_secs(90), |world| on(world, 0).is_empty() && settled(world));
    world.set_mood(0, Mood::Healthy);
    let began = world.now.uptime;
    world.run_until(Duration::from_secs(1_200), |world| {
        on(world, 0).len() == home && settled(world)
    });
    let met = met(&world, began);
    assert_eq!(met.len(), home);
    assert!(peak(&met) <= 4, "{}", peak(&met));
    world.run_for(Duration::from_secs(5));
    let run = world.door().recovery_status(world.now).returns.remove(0);
    assert_eq!((&*run.state, run.arrived), ("done", home as u64));
    world.check_reachable();
}

#[test]
fn what_an_old_document_says_of_a_telephone_system_counts_no_longer() {
    let mut world = telling([REACHES, LOST, REACHES], 13);
    assert_eq!(world.systems()[0].lost_by, ["ucs2".into()]);
    world.lies[1] = Some("not a document");
    world.run_for(Duration::from_secs(20));
    assert_eq!(world.systems()[0].lost_by, []);
    assert_eq!(world.systems()[0].reached_by.len(), 3);
    assert_eq!(lost_events(&world), [("ucs2".into(), 1, true)], "nobody said that it is over");
}

#[test]
fn a_telephone_system_that_only_a_document_names_binds_nobody_where_the_operator_named_some() {
    const OTHERWISE: &str = r#"{"format":1,"boot_id":"b","users":{"logged_in":0},
        "telephone_systems":[{"name":"PBX","reachable":true}]}"#;
    let mut world = telling([OTHERWISE, REACHES, REACHES], 16);
    let unknown = Event::SystemsUnknown { server: "ucs1".into(), systems: vec!["PBX".into()] };
    assert_eq!(world.events.iter().filter(|(_, event)| *event == unknown).count(), 1);
    world.set_mood(0, Mood::Dead);
    world.run_until(Duration::from_secs(20), |world| on(world, 0).is_empty() && settled(world));
    world.check_reachable();
}

#[test]
fn users_of_two_telephone_systems_have_their_turn_among_those_of_one() {
    let mut settings = settings(4, 1000);
    for (server, reaches) in settings.servers.iter_mut().zip([
        [PBX].as_slice(),
        &[PBX, "trunk"],
        &[PBX, "trunk"],
        &[PBX, "trunk"],
    ]) {
        server.ties = ties(&[], reaches);
    }
    settings.telephone_systems = vec![system(PBX, Some(4)), system("trunk", Some(2))];
    let mut world = registered(settings, 100, 17);
    let (one, both) = (on(&world, 0), on(&world, 1));
    assert!(one.len() > 15 && both.len() > 15, "{} {}", one.len(), both.len());
    world.set_mood(0, Mood::Dead);
    world.set_mood(1, Mood::Dead);
    world.run_for(Duration::from_secs(6));
    let there = |users: &[String]| {
        let held: Vec<_> = (2..4).flat_map(|server| world.held_by(server)).collect();
        users.iter().filter(|user| held.iter().any(|(aor, _)| aor == *user)).count()
    };
    // Neither keeps the other from the telephone system that both need.
    assert!(there(&one) >= 5 && there(&both) >= 5, "{} {}", there(&one), there(&both));
    world.run_until(Duration::from_secs(60), settled);
    world.check_reachable();
}

#[test]
fn a_server_that_takes_and_never_answers_holds_up_nobody_at_the_others() {
    let mut plan = plan(2);
    for server in &mut plan.settings.servers {
        server.ties = ties(&[], &[PBX]);
    }
    let pace = Pace { window_initial: 8, window_max: 8, rate_max: None };
    plan.settings.telephone_systems = vec![TelephoneSystem { name: PBX.into(), pace }];
    let mut desk = plan.open();
    // It answers probes, so it is taken for well.
    desk.script = Some(Box::new(|server, request| {
        let lost = server == 0 && request.method() == Some("REGISTER");
        lost.then(|| Bytes::from_static(b"\r\n"))
    }));
    for number in 0..60 {
        desk.send(&ask(number));
    }
    let answered = |desk: &mut Desk| {
        let asks = (0..60).map(ask);
        asks.filter(|ask| desk.answer_to(ask).is_some_and(|it| it.status() == Some(200))).count()
    };
    let at_once = answered(&mut desk);
    desk.pass(Duration::from_secs(5));
    let later = at_once + answered(&mut desk);
    let at_the_other = desk.held_by(1).len();
    assert!(later > 20 && later == at_the_other, "{at_once} {later} {at_the_other}");
    let queued = desk.door.status(desk.now).servers[1].queued;
    assert_eq!(queued, 0, "nobody waits for the one that answers");
}

#[test]
fn a_drain_of_a_server_that_takes_and_never_answers_moves_its_users() {
    let mut settings = behind_one(3, None);
    settings.telephone_systems[0].pace.window_initial = 4;
    settings.sip.expiry = Duration::from_secs(120);
    let mut world = registered(settings, 45, 18);
    world.run_until(Duration::from_secs(20), settled);
    let there = on(&world, 0).len();
    // Refreshes are asked for and never answered, probes are.
    world.deaf = Some(0);
    world.run_for(Duration::from_secs(150));
    assert!(world.systems()[0].queued > 0, "they are to be told again");
    let drain = Command::Drain { server: "ucs1".into(), on: true };
    world.order(&drain).unwrap();
    world.run_until(Duration::from_secs(120), |world| on(world, 0).is_empty());
    let departure = world.door().status(world.now).departures.remove(0);
    assert_eq!(departure.moved, there as u64);
    // The others hold them, whatever the one that does not answer says.
    world.run_until(Duration::from_secs(60), |world| {
        world.held_by(1).len() + world.held_by(2).len() == 45
    });
}

#[test]
fn a_phone_that_waits_goes_before_refreshes_also_at_a_server_with_a_pace_of_its_own() {
    let mut settings = behind_one(1, Some(20));
    settings.pace.rate_max = Some(10);
    settings.sip.expiry = Duration::from_secs(120);
    let mut world = registered(settings, 60, 19);
    world.run_until(Duration::from_secs(60), settled);
    // Everybody is to be told again, and then phones come that nobody knows.
    world.set_mood(0, Mood::Amnesia);
    world.run_for(Duration::from_millis(2_500));
    world.set_mood(0, Mood::Healthy);
    assert!(world.door().status(world.now).servers[0].queued > 20);
    let phones: Vec<usize> = (100..105).map(|number| world.add_phone(&aor(number))).collect();
    world.run_for(Duration::from_secs(3));
    for phone in phones {
        assert!(world.phones[phone].is_acknowledged(world.now.uptime), "{phone}");
    }
    assert!(world.door().status(world.now).servers[0].queued > 0, "before the others");
}

#[test]
fn a_phone_that_needs_two_telephone_systems_is_not_overtaken_by_whoever_needs_one_of_them() {
    let mut settings = settings(4, 1000);
    let (one, other, both) = (["a"], ["b"], ["a", "b"]);
    for (server, reaches) in settings.servers.iter_mut().zip([one.as_slice(), &other, &both, &both])
    {
        server.ties = ties(&[], reaches);
    }
    // Seldom open at the same moment: their paces have no common measure.
    settings.telephone_systems = vec![system("a", Some(7)), system("b", Some(5))];
    let mut world = registered(settings, 200, 20);
    assert!(on(&world, 0).len() > 40 && on(&world, 1).len() > 40);
    world.set_mood(0, Mood::Dead);
    world.set_mood(1, Mood::Dead);
    world.run_for(Duration::from_millis(1_500));
    let phones: Vec<usize> = (900..905).map(|number| world.add_phone(&aor(number))).collect();
    world.run_for(Duration::from_secs(4));
    let waiting: u64 = world.systems().iter().map(|system| system.queued).sum();
    assert!(waiting > 10, "both are waited for: {waiting}");
    for phone in phones {
        assert!(world.phones[phone].is_acknowledged(world.now.uptime), "{phone}");
    }
    world.run_until(Duration::from_secs(60), settled);
    world.check_reachable();
}

#[test]
fn who_is_challenged_takes_nothing_of_what_the_telephone_system_takes() {
    let mut plan = plan(1);
    plan.settings.sip.auth = Auth::Passthrough;
    plan.settings.servers[0].ties = ties(&[], &[PBX]);
    plan.settings.telephone_systems = vec![system(PBX, Some(1))];
    let mut desk = plan.open();
    desk.script = Some(Box::new(|_, request| {
        let register = request.method() == Some("REGISTER");
        let status = if request.header(HeaderName::Authorization).is_some() { 403 } else { 401 };
        register.then(|| {
            let challenge = "Digest realm=\"example.com\", nonce=\"n\"";
            Response::to(request, status).header(HeaderName::WwwAuthenticate, challenge).finish()
        })
    }));
    for number in 0..30 {
        let (user, ask) = (format!("u{number}"), ask(number));
        assert_eq!(desk.status(&ask), 401, "at once");
        let answer = format!(
            "Digest username=\"{user}\", realm=\"example.com\", nonce=\"n\", uri=\"sip:example.com\", \
             response=\"00000000000000000000000000000000\""
        );
        assert_eq!(desk.status(&ask.cseq(2).line("Authorization", &answer)), 403, "at once, too");
    }
    assert!(desk.door.status(desk.now).telephone_systems[0].queued == 0);
}

#[test]
fn a_forecast_knows_how_long_the_telephone_system_takes() {
    let mut world = registered(behind_one(3, Some(2)), 40, 14);
    world.run_until(Duration::from_secs(60), settled);
    let moved = on(&world, 0).len() as u64;
    let forecast = world.door().what_if(world.now, &["ucs1".into()], (0, 0)).unwrap();
    assert_eq!(forecast.seconds, Some(moved.div_ceil(2)));
    let began = world.now.uptime;
    world.set_mood(0, Mood::Dead);
    world.run_until(Duration::from_secs(90), |world| on(world, 0).is_empty() && settled(world));
    let took = met(&world, began).last().unwrap().since(met(&world, began)[0]).as_secs();
    assert!(took.abs_diff(moved / 2) <= 1, "{took} s for {moved}");
}
