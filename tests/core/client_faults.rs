//! The client plane where things come late, not at all, or not as they should: servers that let a
//! session down halfway, clients that do what they should not, and two who make one user at once.

use std::time::Duration;

use frontdoor::door::Pace;
use frontdoor::ucsap::login::{Credentials, LoginOutcome, detail};
use frontdoor::ucsap::{Encoding, Kind, Operation, Piece, cti};
use frontdoor::ucserver::{ClientHome, ClientSettings, Mood};

use crate::clients::{ENCODINGS, error_detail, log_in_by_ntlm, other_than, pool};
use crate::desk::clients::{CLIENTS, Client, Fault, entrance};
use crate::desk::{Ask, Desk};

/// A session away from home, whose home is back and about to be moved to: with its client, the
/// cross reference of its monitor, its home, and where it is.
fn about_to_return() -> (Desk, Client, String, usize, usize) {
    let mut desk = pool(3).open();
    let (client, cross_ref) = desk.client_of(1, Encoding::Json, "anna");
    let home = desk.current("anna");
    desk.set_mood(home, Mood::Dead);
    desk.pass(Duration::from_secs(2));
    let away = other_than(&desk, home, "anna");
    desk.events(&client);
    desk.set_mood(home, Mood::Healthy);
    (desk, client, cross_ref, home, away)
}

/// One server, whose users stay with it for a day whatever happens, and their sessions for so long.
fn one_server_for_good(gap_max: Duration) -> Desk {
    let mut plan = pool(1);
    plan.settings.clients.gap_max = gap_max;
    plan.settings.decision.disable_automatic_user_distribution = true;
    plan.settings.decision.grace = Duration::from_secs(86_400);
    plan.open()
}

fn login_of(user: &str) -> Piece {
    Credentials::basic(user, &ClientSettings::password_of(user))
}

fn line_of(user: &str) -> Piece {
    cti::for_line(&ClientSettings::line_of(user))
}

#[test]
fn what_the_left_server_has_not_granted_is_asked_of_the_next() {
    for encoding in ENCODINGS {
        let mut desk = pool(3).open();
        let (mut client, first) = desk.client_of(1, encoding, "anna");
        let home = desk.current("anna");
        desk.set_mood(home, Mood::Dead);
        desk.pass(Duration::from_secs(2));
        let away = other_than(&desk, home, "anna");
        desk.set_mood(home, Mood::Healthy);
        desk.clients.faults.insert(away, Fault::Late);
        let start = desk.say(&mut client, Operation::MONITOR_START, &line_of("anna"));
        let stop = desk.say(&mut client, Operation::MONITOR_STOP, &cti::for_monitor(&first));
        let read = desk.say(&mut client, Operation::SNAPSHOT_LINE, &line_of("anna"));
        desk.pass(Duration::from_secs(60));
        assert_eq!(desk.current("anna"), home);
        desk.let_through();
        let started = desk.answer_for(&client, start).expect("the next server has granted it");
        let (second, _) =
            cti::cross_ref_of_result(Operation::MONITOR_START, &started.body().unwrap())
                .unwrap()
                .unwrap();
        assert_eq!(desk.answer_for(&client, stop).unwrap().kind(), Kind::Result);
        assert_eq!(desk.answer_for(&client, read).unwrap().kind(), Kind::Result);
        assert!(desk.answer_for(&client, start).is_none(), "once is enough");
        assert_eq!(desk.monitors(home), 1, "the one that was stopped is not made anew");
        desk.events(&client);
        desk.ring(home, "anna");
        assert_eq!(desk.events(&client), [(Operation::CALL_CHANGED, Some(second.clone()))]);
        desk.invoke(&mut client, Operation::MONITOR_STOP, &cti::for_monitor(&second));
        assert_eq!(desk.monitors(home), 0);
    }
}

#[test]
fn what_was_done_on_the_left_server_is_its_own_to_answer() {
    let (mut desk, mut client, _, home, away) = about_to_return();
    desk.clients.faults.insert(away, Fault::Late);
    let read = desk.say(&mut client, Operation::SNAPSHOT_LINE, &line_of("anna"));
    let asked = |desk: &Desk, server: usize| {
        let asked = desk.clients.asked.iter();
        asked
            .filter(|(_, at, it)| *at == server && it.operation() == Operation::SNAPSHOT_LINE)
            .count()
    };
    while desk.current("anna") != home || desk.logins(home).is_empty() {
        desk.pass(Duration::from_millis(100));
    }
    desk.let_through();
    assert_eq!(desk.answer_for(&client, read).unwrap().kind(), Kind::Result);
    desk.pass(Duration::from_secs(10));
    assert_eq!((asked(&desk, away), asked(&desk, home)), (1, 0));
}

#[test]
fn a_server_that_never_answers_a_leg_is_tried_again_and_others_get_on() {
    let mut desk = pool(2).open();
    let (client, _) = desk.client_of(1, Encoding::Ber, "anna");
    let home = desk.current("anna");
    let other = 1 - home;
    desk.clients.faults.insert(other, Fault::Deaf);
    desk.set_mood(home, Mood::Dead);
    desk.pass(Duration::from_secs(15));
    assert_eq!((desk.current("anna"), desk.logins(other)), (other, vec![]));
    assert_eq!(&*desk.sessions("anna")[0].standing, "moving");
    desk.let_through();
    desk.pass(Duration::from_secs(15));
    assert_eq!((desk.closed_at(&client), desk.logins(other)), (None, vec!["anna".to_owned()]));
    assert!(desk.door.stats().legs_lost > 1, "it was given up once");
}

#[test]
fn a_negotiation_that_a_server_leaves_unanswered_is_shown_to_another() {
    let mut desk = pool(3).open();
    let mut client = Client::new(1, Encoding::Json);
    for server in 0..3 {
        desk.clients.faults.insert(server, Fault::Deaf);
    }
    let argument = client.negotiation.piece("PC");
    let id = desk.say(&mut client, Operation::NEGOTIATE, &argument);
    let first = desk.clients.asked.last().unwrap().1;
    desk.clients.faults.retain(|server, _| *server == first);
    desk.pass(Duration::from_secs(12));
    assert_eq!(desk.answer_for(&client, id).unwrap().kind(), Kind::Result);
    assert_ne!(desk.clients.asked.last().unwrap().1, first);
    // The same with a login.
    let at = desk.clients.asked.last().unwrap().1;
    desk.clients.faults = (0..3).map(|server| (server, Fault::DeafTo(Operation::LOGIN))).collect();
    let login = desk.say(&mut client, Operation::LOGIN, &login_of("anna"));
    desk.pass(Duration::from_secs(25));
    let answer = desk.answer_for(&client, login).expect("nobody waits for ever");
    let outcome = LoginOutcome::read(&answer.body().unwrap()).unwrap();
    assert!(matches!(outcome, LoginOutcome::Busy { .. }), "{outcome:?}");
    // And that server would not look at another login by the same leg.
    desk.clients.faults.clear();
    let outcome = desk.log_in(&mut client, "anna");
    assert!(matches!(outcome, LoginOutcome::Succeeded { .. }), "{outcome:?}, first shown {at}");
}

#[test]
fn wishes_that_are_never_granted_hold_nobody_up() {
    let (mut desk, mut client, cross_ref, home, _) = about_to_return();
    desk.clients.faults.insert(home, Fault::DeafTo(Operation::MONITOR_START));
    while desk.logins(home).is_empty() {
        desk.pass(Duration::from_millis(100));
    }
    assert_eq!(desk.events(&client), []);
    let early = desk.say(&mut client, Operation::SNAPSHOT_LINE, &line_of("anna"));
    desk.pass(Duration::from_secs(11));
    assert_eq!(error_detail(&desk.answer_for(&client, early).unwrap()), detail::INTERNAL);
    desk.pass(Duration::from_secs(20));
    assert_eq!(desk.events(&client), [(Operation::MONITOR_STOPPED, Some(cross_ref))]);
    desk.clients.faults.clear();
    let late = desk.invoke(&mut client, Operation::SNAPSHOT_LINE, &line_of("anna"));
    assert_eq!(late.kind(), Kind::Result);
    desk.watch(&mut client, "anna");
    assert_eq!(&*desk.sessions("anna")[0].standing, "settled");
}

#[test]
fn a_login_that_could_not_be_recorded_may_be_tried_again_on_the_same_connection() {
    let mut desk = pool(2).open();
    let mut client = Client::new(1, Encoding::Ber);
    desk.negotiate(&mut client);
    desk.disk_is_full = true;
    let outcome = desk.log_in(&mut client, "anna");
    assert!(matches!(outcome, LoginOutcome::Busy { .. }), "{outcome:?}");
    desk.disk_is_full = false;
    let outcome = desk.log_in(&mut client, "anna");
    assert!(matches!(outcome, LoginOutcome::Succeeded { .. }), "{outcome:?}");
    assert_eq!(desk.logins(desk.current("anna")), ["anna"]);
}

#[test]
fn one_login_at_a_time() {
    let mut desk = pool(2).open();
    let mut client = Client::new(1, Encoding::Json);
    desk.negotiate(&mut client);
    desk.disk_waits = true;
    let first = desk.say(&mut client, Operation::LOGIN, &login_of("anna"));
    let second = desk.invoke(&mut client, Operation::LOGIN, &login_of("bert"));
    assert_eq!(error_detail(&second), detail::ALREADY_AUTHENTICATED);
    desk.write_disk();
    assert_eq!(desk.answer_for(&client, first).unwrap().kind(), Kind::Result);
    let argument = client.negotiation.piece("PC");
    let again = desk.invoke(&mut client, Operation::NEGOTIATE, &argument);
    assert_eq!(error_detail(&again), detail::ALREADY_AUTHENTICATED);
    assert_eq!(desk.sessions("anna").len(), 1);
    let shown = desk.clients.asked.iter().filter(|(.., it)| it.operation() == Operation::LOGIN);
    assert_eq!(shown.count(), 1, "no server hears of what the door can answer itself");
}

#[test]
fn a_client_keeps_the_encoding_it_began_with() {
    let mut desk = pool(2).open();
    let (mut client, _) = desk.client_of(1, Encoding::Ber, "anna");
    client.encoding = Encoding::Json;
    desk.say(&mut client, Operation::SNAPSHOT_LINE, &line_of("anna"));
    assert!(desk.closed_at(&client).is_some());
    assert_eq!(desk.door.stats().rose_malformed, 1);
}

#[test]
fn a_session_follows_where_its_next_server_sends_it() {
    let taken_by = |redirecting: Option<(usize, usize)>| {
        let mut desk = pool(3).open();
        let (client, cross_ref) = desk.client_of(1, Encoding::Json, "anna");
        let home = desk.current("anna");
        if let Some((from, to)) = redirecting {
            let belongs = ClientHome::At(entrance(to).to_string());
            desk.servers[from].client_belongs("anna", Some(belongs));
            desk.set_mood(from, Mood::StrictHome);
        }
        desk.set_mood(home, Mood::Dead);
        desk.pass(Duration::from_secs(10));
        assert_eq!(desk.closed_at(&client), None);
        let now = other_than(&desk, home, "anna");
        assert_eq!(desk.logins(now), ["anna"]);
        desk.ring(now, "anna");
        assert_eq!(desk.events(&client), [(Operation::CALL_CHANGED, Some(cross_ref))]);
        (home, now, desk.door.stats().redirects_followed)
    };
    let (home, next, followed) = taken_by(None);
    assert_eq!(followed, 0);
    let third = 3 - home - next;
    assert_eq!(taken_by(Some((next, third))), (home, third, 1));
}

#[test]
fn a_session_that_is_sent_to_nowhere_is_closed() {
    let mut desk = pool(2).open();
    let (client, _) = desk.client_of(1, Encoding::Ber, "anna");
    let home = desk.current("anna");
    let belongs = ClientHome::At("203.0.113.1:7222".into());
    desk.servers[1 - home].client_belongs("anna", Some(belongs));
    desk.set_mood(1 - home, Mood::StrictHome);
    desk.set_mood(home, Mood::Dead);
    desk.pass(Duration::from_secs(20));
    assert!(desk.closed_at(&client).is_some());
    assert!(desk.door.stats().redirects_refused > 0);
}

#[test]
fn a_phone_and_a_client_make_one_user_whichever_is_first() {
    let user = "sip:anna@example.com";
    let phone = || Ask::register("anna").contact("<sip:anna@198.51.100.1:5060>");
    for order in ["phone", "client", "at once", "at once, the client first"] {
        let mut desk = pool(3).open();
        let mut client = Client::new(1, Encoding::Ber);
        desk.negotiate(&mut client);
        desk.disk_waits = order.starts_with("at once");
        let is_phone_first = !order.ends_with("client") && !order.ends_with("client first");
        if is_phone_first {
            desk.send(&phone());
        }
        let login = desk.say(&mut client, Operation::LOGIN, &login_of("anna@example.com"));
        if !is_phone_first {
            desk.send(&phone());
        }
        desk.write_disk();
        desk.pass(Duration::from_secs(1));
        assert_eq!(desk.answer_to(&phone()).and_then(|it| it.status()), Some(200), "{order}");
        let answer = desk.answer_for(&client, login).unwrap();
        let outcome = LoginOutcome::read(&answer.body().unwrap()).unwrap();
        assert!(matches!(outcome, LoginOutcome::Succeeded { .. }), "{order}: {outcome:?}");
        let status = desk.user(user);
        assert_eq!((status.bindings.len(), status.sessions.len()), (1, 1), "{order}");
        let at = desk.current(user);
        assert_eq!((desk.held_by(at).len(), desk.logins(at).len()), (1, 1), "{order}");
        assert_eq!(desk.door.stats().users_adopted, 1, "{order}");
    }
}

#[test]
fn connections_beyond_the_limit_are_closed_and_counted_and_silent_ones_are_nobodys_loss() {
    let mut plan = pool(2);
    plan.settings.clients.limits.connections = 1;
    let mut desk = plan.open();
    let (first, _) = desk.client_of(1, Encoding::Ber, "anna");
    let mut second = Client::new(2, Encoding::Ber);
    let argument = second.negotiation.piece("PC");
    for _ in 0..2 {
        desk.say(&mut second, Operation::NEGOTIATE, &argument);
    }
    assert!(desk.closed_at(&second).is_some() && desk.closed_at(&first).is_none());
    assert_eq!(desk.door.stats().client_connections_shed, 1);
    let silent = Client::new(3, Encoding::Json);
    let unreachable = desk.door.stats().unreachable;
    desk.client_hangs_up(&silent);
    assert_eq!(desk.door.stats().unreachable, unreachable);
}

/// What is shown of the client plane of a server.
fn client_plane(desk: &Desk, server: usize) -> String {
    let status = desk.door.status(desk.now);
    let plane = status.servers[server].planes.iter().find(|it| &*it.plane == "client");
    plane.expect("it serves clients").state.to_string()
}

#[test]
fn a_server_that_serves_phones_alone_loses_its_users_in_time_and_one_that_is_deaf_for_a_moment_does_not()
 {
    for (deaf_for, moves) in [(3, false), (60, true)] {
        let mut desk = pool(3).open();
        let (client, _) = desk.client_of(1, Encoding::Ber, "anna");
        let home = desk.current("anna");
        assert_eq!(client_plane(&desk, home), "alive");
        desk.clients.faults.insert(home, Fault::Deaf);
        desk.pass(Duration::from_secs(deaf_for));
        assert_eq!(client_plane(&desk, home), "dead");
        assert_eq!(desk.current("anna") != home, moves, "deaf for {deaf_for} s");
        desk.let_through();
        desk.pass(Duration::from_secs(5));
        assert_eq!(client_plane(&desk, home), "alive", "it is asked on another connection");
        assert_eq!(desk.closed_at(&client), None);
        desk.pass(Duration::from_secs(60));
        assert_eq!(desk.current("anna"), home);
        assert_eq!(desk.logins(home), ["anna"]);
    }
}

#[test]
fn a_door_that_begins_while_an_entrance_refuses_knows_it_and_serves_the_others() {
    let mut plan = pool(2);
    plan.settings.health.planes = frontdoor::cluster::Planes::SIP;
    let mut desk = plan.open_at_once();
    desk.clients.faults.insert(0, Fault::Deaf);
    desk.pass(Duration::from_secs(5));
    desk.client_of(1, Encoding::Json, "anna");
    assert_eq!(desk.current("anna"), 1, "a server that does not answer is shown to nobody");
}

#[test]
fn a_session_that_nobody_serves_for_too_long_is_closed_once() {
    let mut desk = one_server_for_good(Duration::from_secs(30));
    let (client, _) = desk.client_of(1, Encoding::Ber, "anna");
    desk.set_mood(0, Mood::Dead);
    desk.pass(Duration::from_secs(29));
    assert_eq!(desk.closed_at(&client), None);
    desk.pass(Duration::from_secs(15));
    assert!(desk.closed_at(&client).is_some());
    assert_eq!(desk.door.stats().client_sessions_closed, 1);
}

#[test]
fn a_leg_that_is_lost_before_all_wishes_are_granted_begins_anew() {
    let (mut desk, client, cross_ref, home, away) = about_to_return();
    desk.clients.faults.insert(home, Fault::DeafTo(Operation::MONITOR_START));
    while desk.logins(home).is_empty() {
        desk.pass(Duration::from_millis(100));
    }
    desk.set_mood(home, Mood::Dead);
    desk.clients.faults.clear();
    desk.pass(Duration::from_secs(60));
    assert_eq!((desk.current("anna"), desk.closed_at(&client)), (away, None));
    desk.events(&client);
    desk.ring(away, "anna");
    assert_eq!(desk.events(&client), [(Operation::CALL_CHANGED, Some(cross_ref))]);
}

#[test]
fn two_who_log_in_at_once_do_not_share_the_last_place() {
    let mut plan = pool(1);
    plan.settings.servers[0].capacity = 1;
    let mut desk = plan.open();
    let mut clients = [Client::new(1, Encoding::Ber), Client::new(2, Encoding::Json)];
    clients.iter_mut().for_each(|client| drop(desk.negotiate(client)));
    desk.clients.faults.insert(0, Fault::Late);
    let users = ["anna", "bert"];
    let [first, second] =
        [0, 1].map(|it| desk.say(&mut clients[it], Operation::LOGIN, &login_of(users[it])));
    desk.let_through();
    let mut outcome = |client: &Client, id| {
        let answer = desk.answer_for(client, id).unwrap();
        LoginOutcome::read(&answer.body().unwrap()).unwrap()
    };
    assert!(matches!(outcome(&clients[0], first), LoginOutcome::Succeeded { .. }));
    assert!(matches!(outcome(&clients[1], second), LoginOutcome::Busy { .. }));
    assert_eq!(desk.logins(0), ["anna"], "nor does whoever was let in stay there");
}

/// How often servers were asked this.
fn asked(desk: &Desk, what: Operation) -> usize {
    desk.clients.asked.iter().filter(|(.., it)| it.operation() == what).count()
}

#[test]
fn whoever_gives_up_in_a_lane_makes_room_for_the_next() {
    let mut plan = pool(2);
    plan.settings.clients.pace = Pace { window_initial: 1, window_max: 1, rate_max: None };
    let mut desk = plan.open();
    let mut clients = Vec::new();
    for number in 0..24 {
        let user = format!("user{number}");
        clients.push((desk.client_of(number, Encoding::Ber, &user).0, user));
    }
    let home = desk.current("user0");
    clients.retain(|(_, user)| desk.current(user) == home);
    let other = 1 - home;
    let before = desk.logins(other).len();
    desk.clients.faults.insert(other, Fault::Deaf);
    desk.set_mood(home, Mood::Dead);
    desk.pass(Duration::from_secs(2));
    // Some wait for the answer of a server that says nothing, the others for a place.
    let standing = |desk: &Desk, user: &str| desk.sessions(user)[0].standing.clone();
    let (asked, waiting): (Vec<_>, Vec<_>) =
        clients.into_iter().partition(|(_, user)| &*standing(&desk, user) == "moving");
    assert!(!asked.is_empty() && !waiting.is_empty());
    assert!(waiting.iter().all(|(_, user)| &*standing(&desk, user) == "held"));
    desk.clients.faults.clear();
    asked.iter().for_each(|(client, _)| desk.client_hangs_up(client));
    desk.pass(Duration::from_secs(1));
    assert_eq!(desk.logins(other).len(), before + waiting.len());
}

#[test]
fn a_server_that_drops_a_session_again_and_again_is_not_asked_without_end() {
    let mut desk = pool(2).open();
    let (client, _) = desk.client_of(1, Encoding::Json, "anna");
    let home = desk.current("anna");
    desk.clients.faults.insert(1 - home, Fault::Drops(Operation::MONITOR_START));
    let before = asked(&desk, Operation::LOGIN);
    desk.set_mood(home, Mood::Dead);
    desk.pass(Duration::from_secs(20));
    let logins = asked(&desk, Operation::LOGIN) - before;
    assert!((3..=14).contains(&logins), "{logins} logins");
    desk.pass(Duration::from_secs(100));
    assert!(desk.closed_at(&client).is_some(), "it is not carried for ever");
}

#[test]
fn a_question_that_servers_die_of_is_not_carried_to_every_one() {
    let mut desk = pool(3).open();
    let (mut client, _) = desk.client_of(1, Encoding::Ber, "anna");
    desk.pass(Duration::from_secs(10));
    desk.clients.faults =
        (0..3).map(|server| (server, Fault::Drops(Operation::SNAPSHOT_LINE))).collect();
    let read = desk.say(&mut client, Operation::SNAPSHOT_LINE, &line_of("anna"));
    desk.pass(Duration::from_secs(30));
    assert_eq!(error_detail(&desk.answer_for(&client, read).unwrap()), detail::INTERNAL);
    assert_eq!(asked(&desk, Operation::SNAPSHOT_LINE), 3);
    assert_eq!((desk.closed_at(&client), &*desk.sessions("anna")[0].standing), (None, "settled"));
}

#[test]
fn a_session_that_ends_on_a_shared_connection_says_so() {
    let mut desk = pool(3).open();
    let mut web = Client::new(1, Encoding::Json);
    web.session = Some("s1");
    desk.negotiate(&mut web);
    let outcome = log_in_by_ntlm(&mut desk, &mut web, "anna");
    assert!(matches!(outcome, LoginOutcome::Succeeded { .. }), "{outcome:?}");
    let cross_ref = desk.watch(&mut web, "anna");
    web.session = Some("s2");
    desk.negotiate(&mut web);
    assert!(matches!(desk.log_in(&mut web, "bert"), LoginOutcome::Succeeded { .. }));
    let home = desk.current("anna");
    desk.set_mood(home, Mood::Hung);
    web.session = Some("s1");
    let call = desk.say(&mut web, Operation::SNAPSHOT_LINE, &line_of("anna"));
    desk.set_mood(home, Mood::Dead);
    desk.pass(Duration::from_secs(30));
    assert_eq!(desk.closed_at(&web), None, "there is somebody else on it");
    assert_eq!(error_detail(&desk.answer_for(&web, call).unwrap()), detail::INTERNAL);
    assert_eq!(desk.events(&web), [(Operation::MONITOR_STOPPED, Some(cross_ref))]);
    let late = desk.invoke(&mut web, Operation::SNAPSHOT_LINE, &line_of("anna"));
    assert_eq!(error_detail(&late), detail::NEGOTIATION_REQUIRED);
    web.session = Some("s2");
    let other = desk.invoke(&mut web, Operation::SNAPSHOT_LINE, &line_of("bert"));
    assert_eq!(other.kind(), Kind::Result);
}

#[test]
fn signs_of_life_are_never_waited_for_whatever_their_id() {
    let mut desk = pool(1).open();
    let (mut client, _) = desk.client_of(1, Encoding::Ber, "anna");
    for _ in 0..300 {
        desk.say(&mut client, Operation::TRANSPORT_KEEP_ALIVE, &Piece::Null);
    }
    let read = desk.invoke(&mut client, Operation::SNAPSHOT_LINE, &line_of("anna"));
    assert_eq!(read.kind(), Kind::Result);
}

#[test]
fn nobody_makes_the_door_keep_more_than_anybody_needs() {
    let mut desk = pool(1).open();
    let mut client = Client::new(1, Encoding::Json);
    client.negotiation.version = "9".repeat(20_000);
    let long = client.negotiation.piece("PC");
    assert_eq!(desk.invoke(&mut client, Operation::NEGOTIATE, &long).kind(), Kind::Reject);
    client.negotiation.version = "2603.0".into();
    desk.negotiate(&mut client);
    let long = Credentials::basic("anna", &"p".repeat(200_000));
    assert_eq!(desk.invoke(&mut client, Operation::LOGIN, &long).kind(), Kind::Reject);
    assert!(matches!(desk.log_in(&mut client, "anna"), LoginOutcome::Succeeded { .. }));
}

#[test]
fn what_is_granted_too_late_is_taken_back() {
    let (mut desk, client, cross_ref, home, _) = about_to_return();
    desk.clients.faults.insert(home, Fault::Delays(Operation::MONITOR_START));
    while desk.logins(home).is_empty() {
        desk.pass(Duration::from_millis(100));
    }
    desk.pass(Duration::from_secs(31));
    assert_eq!(desk.events(&client), [(Operation::MONITOR_STOPPED, Some(cross_ref))]);
    desk.let_through();
    assert_eq!(desk.monitors(home), 0);
    desk.ring(home, "anna");
    assert_eq!(desk.events(&client), []);
}

#[test]
fn what_was_asked_before_a_login_that_went_elsewhere_is_answered() {
    let mut desk = pool(3).open();
    desk.client_of(1, Encoding::Json, "anna");
    let home = desk.current("anna");
    for number in 2.. {
        let mut client = Client::new(number, Encoding::Json);
        desk.negotiate(&mut client);
        let shown = desk.clients.asked.last().unwrap().1;
        if shown == home {
            continue;
        }
        desk.clients.faults.insert(shown, Fault::DeafTo(Operation::SNAPSHOT_LINE));
        let read = desk.say(&mut client, Operation::SNAPSHOT_LINE, &line_of("anna"));
        assert!(matches!(desk.log_in(&mut client, "anna"), LoginOutcome::Succeeded { .. }));
        assert_eq!(error_detail(&desk.answer_for(&client, read).unwrap()), detail::INTERNAL);
        break;
    }
}

#[test]
fn tls_is_not_begun_where_somebody_else_has_shown_something() {
    let mut plan = pool(1);
    plan.settings.clients.start_tls = vec![CLIENTS];
    let mut desk = plan.open();
    let mut web = Client::new(1, Encoding::Json);
    web.session = Some("s1");
    desk.negotiate(&mut web);
    assert!(matches!(desk.log_in(&mut web, "anna"), LoginOutcome::Succeeded { .. }));
    web.session = Some("s2");
    let refused = desk.invoke(&mut web, Operation::START_TLS, &Piece::Sequence(vec![]));
    assert_eq!(error_detail(&refused), detail::INTERNAL);
}

#[test]
fn a_session_that_is_being_made_whole_is_not_closed_for_having_waited() {
    let mut desk = one_server_for_good(Duration::from_secs(40));
    let (client, _) = desk.client_of(1, Encoding::Ber, "anna");
    desk.set_mood(0, Mood::Dead);
    desk.pass(Duration::from_secs(25));
    desk.clients.faults.insert(0, Fault::DeafTo(Operation::MONITOR_START));
    desk.set_mood(0, Mood::Healthy);
    desk.pass(Duration::from_secs(14));
    assert_eq!(desk.logins(0), ["anna"], "it is there before its time is over");
    desk.pass(Duration::from_secs(60));
    assert_eq!((desk.closed_at(&client), &*desk.sessions("anna")[0].standing), (None, "settled"));
}
