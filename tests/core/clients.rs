//! The client plane: logins, and sessions that go on at another server (D, M9, M10).

use std::time::Duration;

use frontdoor::cluster::{ServerId, Version};
use frontdoor::door::{
    ClientFailover, Command, LegacyClients, SessionStatus, UnknownUsers, WebAnswer,
};
use frontdoor::sip::ConnectionId;
use frontdoor::ucsap::login::{Credentials, LoginOutcome, detail};
use frontdoor::ucsap::{Encoding, Kind, Member, Message, Operation, Piece, cti};
use frontdoor::ucserver::{ClientHome, ClientSettings, Mood};
use frontdoor::ucws::Purpose;

use crate::client::call_to;
use crate::desk::clients::{CLIENTS, Client, entrance};
use crate::desk::web::with_token;
use crate::desk::{Ask, Desk, Plan, plan};

pub(crate) const ENCODINGS: [Encoding; 2] = [Encoding::Ber, Encoding::Json];

/// A pool that moves its users, and has been up for long enough to be believed.
pub(crate) fn pool(servers: usize) -> Plan {
    let mut plan = plan(servers);
    plan.settings.decision.disable_automatic_user_distribution = false;
    plan.settings.recovery.hold = Duration::from_secs(5);
    plan.settings.recovery.interval = Duration::from_secs(1);
    plan.settings.recovery.look = Duration::from_secs(1);
    plan.settings.health.probation = Duration::from_secs(2);
    plan.settings.health.ramp = Duration::from_secs(2);
    plan
}

pub(crate) fn error_detail(answer: &Message) -> i64 {
    assert_eq!(answer.kind(), Kind::Error, "{answer:?}");
    let body = answer.body().unwrap();
    body.required(&Member::nth("iErrorDetail", 0)).unwrap().integer().unwrap()
}

/// Where a user is now, after their server has died.
pub(crate) fn other_than(desk: &Desk, server: usize, user: &str) -> usize {
    let now = desk.current(user);
    assert_ne!(now, server, "the user has left the dead server");
    now
}

#[test]
fn a_client_logs_in_where_its_user_belongs_and_hears_of_its_line() {
    for encoding in ENCODINGS {
        let mut desk = pool(3).open();
        let (client, cross_ref) = desk.client_of(1, encoding, "anna");
        let home = desk.current("anna");
        assert_eq!(desk.logins(home), ["anna"]);
        assert_eq!((0..3).map(|server| desk.logins(server).len()).sum::<usize>(), 1);
        desk.ring(home, "anna");
        assert_eq!(desk.events(&client), [(Operation::CALL_CHANGED, Some(cross_ref))]);
        let sessions = desk.sessions("anna");
        assert_eq!(sessions.len(), 1);
        let home_name = &desk.settings.servers[home].name;
        assert_eq!(sessions[0].server.as_ref(), Some(home_name));
        assert_eq!((&*sessions[0].standing, &*sessions[0].from), ("settled", "198.51.100.9:40000"));
        desk.client_hangs_up(&client);
        assert_eq!(desk.sessions("anna"), []);
        assert_eq!(desk.logins(home), [""; 0]);
    }
}

#[test]
fn a_session_goes_on_at_another_server_over_the_same_connection() {
    for encoding in ENCODINGS {
        let mut desk = pool(3).open();
        let (mut client, cross_ref) = desk.client_of(1, encoding, "anna");
        let home = desk.current("anna");
        desk.ring(home, "anna");
        assert_eq!(desk.events(&client).len(), 1);
        desk.set_mood(home, Mood::Dead);
        desk.pass(Duration::from_secs(2));
        let now = other_than(&desk, home, "anna");
        assert_eq!(desk.logins(now), ["anna"]);
        assert_eq!(desk.closed_at(&client), None);
        // The call is over there: that is all the client has to know.
        assert_eq!(desk.events(&client), [(Operation::CALL_CHANGED, Some(cross_ref.clone()))]);
        desk.ring(now, "anna");
        assert_eq!(desk.events(&client), [(Operation::CALL_CHANGED, Some(cross_ref.clone()))]);
        assert_eq!(&*desk.sessions("anna")[0].standing, "settled");
        // The client's own word for the monitor still means it.
        let stop = desk.invoke(&mut client, Operation::MONITOR_STOP, &cti::for_monitor(&cross_ref));
        assert_eq!(stop.kind(), Kind::Result);
        assert_eq!(desk.monitors(now), 0);
    }
}

#[test]
fn a_session_comes_home_and_leaves_nothing_behind() {
    let mut desk = pool(3).open();
    let (client, cross_ref) = desk.client_of(1, Encoding::Json, "anna");
    let home = desk.current("anna");
    desk.set_mood(home, Mood::Dead);
    desk.pass(Duration::from_secs(2));
    let away = other_than(&desk, home, "anna");
    desk.set_mood(home, Mood::Healthy);
    desk.pass(Duration::from_secs(60));
    assert_eq!(desk.current("anna"), home);
    assert_eq!(desk.logins(home), ["anna"]);
    assert_eq!((desk.logins(away).len(), desk.monitors(away)), (0, 0));
    desk.events(&client);
    desk.ring(home, "anna");
    assert_eq!(desk.events(&client), [(Operation::CALL_CHANGED, Some(cross_ref))]);
    assert_eq!(desk.closed_at(&client), None);
}

#[test]
fn a_phone_and_a_client_of_one_user_move_together() {
    let mut desk = pool(4).open();
    let phone = Ask::register("anna").contact("<sip:anna@198.51.100.1:5060>");
    assert_eq!(desk.status(&phone), 200);
    let (client, _) = desk.client_of(1, Encoding::Ber, "anna@example.com");
    let user = "sip:anna@example.com";
    let home = desk.current(user);
    assert_eq!(desk.sessions(user).len(), 1);
    desk.set_mood(home, Mood::Dead);
    desk.pass(Duration::from_secs(3));
    let now = other_than(&desk, home, user);
    assert_eq!(desk.held_by(now).len(), 1);
    assert_eq!(desk.logins(now), ["anna@example.com"]);
    assert_eq!(desk.closed_at(&client), None);
}

#[test]
fn a_client_is_carried_to_its_users_server_whichever_answered_first() {
    for home in 0..3 {
        let mut desk = pool(3).open();
        let (_, _) = desk.client_of(1, Encoding::Json, "anna");
        let name = desk.settings.servers[home].name.clone();
        let order = Command::SetHome { user: "anna".into(), home: name.to_string() };
        // Unless it is the one already.
        desk.order(&order);
        // Whatever device it is, and whatever server its negotiation was shown to.
        let mut client = Client::new(77, Encoding::Ber);
        let first = desk.negotiate(&mut client);
        assert!(!first.is_empty());
        let outcome = desk.log_in(&mut client, "anna");
        assert!(matches!(outcome, LoginOutcome::Succeeded { .. }));
        assert!(desk.logins(desk.current("anna")).contains(&"anna".to_owned()));
    }
}

#[test]
fn what_the_server_says_to_a_wrong_password_reaches_the_client_which_may_try_again() {
    for encoding in ENCODINGS {
        let mut desk = pool(2).open();
        let mut client = Client::new(1, encoding);
        desk.negotiate(&mut client);
        let wrong = Credentials::basic("anna", "wrong");
        let answer = desk.invoke(&mut client, Operation::LOGIN, &wrong);
        assert_eq!(error_detail(&answer), detail::INVALID_USER);
        assert!(desk.door.user(desk.now, "anna").is_none(), "nobody becomes a user by asking");
        let outcome = desk.log_in(&mut client, "anna");
        assert!(matches!(outcome, LoginOutcome::Succeeded { .. }));
    }
}

#[test]
fn who_does_not_keep_the_order_of_things_is_told() {
    let mut desk = pool(2).open();
    let mut client = Client::new(1, Encoding::Json);
    let login = Credentials::basic("anna", &ClientSettings::password_of("anna"));
    let answer = desk.invoke(&mut client, Operation::LOGIN, &login);
    assert_eq!(error_detail(&answer), detail::NEGOTIATION_REQUIRED);
    let checked = desk.invoke(&mut client, Operation::CHECK_CONNECTION, &Piece::Sequence(vec![]));
    assert_eq!(checked.kind(), Kind::Result);
    desk.negotiate(&mut client);
    assert!(matches!(desk.log_in(&mut client, "anna"), LoginOutcome::Succeeded { .. }));
    let again = desk.invoke(&mut client, Operation::LOGIN, &login);
    assert_eq!(error_detail(&again), detail::ALREADY_AUTHENTICATED);
}

#[test]
fn an_id_that_is_not_answered_yet_is_not_taken_twice() {
    let mut desk = pool(2).open();
    let (client, _) = desk.client_of(1, Encoding::Ber, "anna");
    let home = desk.current("anna");
    desk.set_mood(home, Mood::Hung);
    let line = cti::for_line(&ClientSettings::line_of("anna"));
    for _ in 0..2 {
        let bytes = client.envelope().invoke(500, Operation::SNAPSHOT_LINE, &line);
        desk.client_sends(&client, bytes);
    }
    let answer = desk.answer_for(&client, 500).unwrap();
    assert_eq!(answer.kind(), Kind::Reject);
    assert!(desk.answer_for(&client, 500).is_none());
}

#[test]
fn what_was_asked_of_a_server_that_died_is_answered_by_what_it_was() {
    let mut desk = pool(3).open();
    let (mut client, cross_ref) = desk.client_of(1, Encoding::Ber, "anna");
    let home = desk.current("anna");
    desk.set_mood(home, Mood::Hung);
    let line = cti::for_line(&ClientSettings::line_of("anna"));
    let call = desk.say(&mut client, Operation::MAKE_CALL, &call_to("+4911", "anna"));
    let unknown = desk.say(&mut client, Operation(31_337), &Piece::Sequence(vec![]));
    let read = desk.say(&mut client, Operation::SNAPSHOT_LINE, &line);
    let stop = desk.say(&mut client, Operation::MONITOR_STOP, &cti::for_monitor(&cross_ref));
    assert_eq!(desk.heard(&client).len(), 0);
    desk.set_mood(home, Mood::Dead);
    // The kernel of the dead server resets what is still open.
    desk.client_sends(
        &client,
        client.envelope().event(Operation::TRANSPORT_KEEP_ALIVE, &Piece::Null),
    );
    desk.pass(Duration::from_secs(3));
    let now = other_than(&desk, home, "anna");
    assert_eq!(error_detail(&desk.answer_for(&client, call).unwrap()), detail::INTERNAL);
    assert_eq!(error_detail(&desk.answer_for(&client, unknown).unwrap()), detail::INTERNAL);
    assert_eq!(desk.answer_for(&client, read).unwrap().kind(), Kind::Result);
    assert_eq!(desk.answer_for(&client, stop).unwrap().kind(), Kind::Result);
    assert_eq!(desk.monitors(now), 0, "what was taken back is not asked for anew");
    let dialled = (0..3).map(|server| desk.servers[server].clients().calls().count());
    assert_eq!(dialled.sum::<usize>(), 0, "nobody dials twice, or late");
}

#[test]
fn what_is_asked_while_nobody_serves_waits_and_goes_on() {
    let mut desk = pool(2).open();
    let (mut client, _) = desk.client_of(1, Encoding::Json, "anna");
    let home = desk.current("anna");
    desk.set_mood(home, Mood::Dead);
    let line = cti::for_line(&ClientSettings::line_of("anna"));
    let read = desk.say(&mut client, Operation::SNAPSHOT_LINE, &line);
    assert!(desk.answer_for(&client, read).is_none());
    desk.pass(Duration::from_secs(3));
    assert_eq!(desk.answer_for(&client, read).unwrap().kind(), Kind::Result);
}

#[test]
fn a_gap_that_lasts_is_said_and_a_session_that_nobody_serves_is_closed() {
    let mut plan = pool(1);
    plan.settings.decision.grace = Duration::from_secs(30);
    plan.settings.decision.disable_automatic_user_distribution = true;
    let mut desk = plan.open();
    let (mut client, _) = desk.client_of(1, Encoding::Ber, "anna");
    desk.set_mood(0, Mood::Dead);
    let line = cti::for_line(&ClientSettings::line_of("anna"));
    let early = desk.say(&mut client, Operation::SNAPSHOT_LINE, &line);
    desk.pass(Duration::from_secs(11));
    assert_eq!(error_detail(&desk.answer_for(&client, early).unwrap()), detail::INTERNAL);
    let late = desk.invoke(&mut client, Operation::SNAPSHOT_LINE, &line);
    assert_eq!(error_detail(&late), detail::INTERNAL);
    assert_eq!(&*desk.sessions("anna")[0].standing, "held");
    desk.pass(Duration::from_secs(60));
    assert!(desk.closed_at(&client).is_some(), "after the grace time nobody is promised anything");
    assert_eq!(desk.sessions("anna"), []);
}

#[test]
fn a_server_that_comes_back_within_the_hold_has_its_sessions_again() {
    let mut plan = pool(2);
    plan.settings.health.hold_refused = Duration::from_secs(5);
    let mut desk = plan.open();
    let (client, cross_ref) = desk.client_of(1, Encoding::Json, "anna");
    let home = desk.current("anna");
    desk.set_mood(home, Mood::Dead);
    desk.pass(Duration::from_secs(1));
    desk.set_mood(home, Mood::Healthy);
    desk.pass(Duration::from_secs(10));
    assert_eq!(desk.current("anna"), home);
    assert_eq!(desk.logins(home), ["anna"]);
    desk.ring(home, "anna");
    let last = desk.events(&client).pop();
    assert_eq!(last, Some((Operation::CALL_CHANGED, Some(cross_ref))));
}

#[test]
fn a_server_that_forgot_everything_is_told_again() {
    let mut desk = pool(2).open();
    let (client, cross_ref) = desk.client_of(1, Encoding::Ber, "anna");
    let home = desk.current("anna");
    desk.set_mood(home, Mood::Amnesia);
    desk.pass(Duration::from_secs(3));
    assert_eq!((desk.current("anna"), desk.logins(home)), (home, vec!["anna".to_owned()]));
    desk.ring(home, "anna");
    let last = desk.events(&client).pop();
    assert_eq!(last, Some((Operation::CALL_CHANGED, Some(cross_ref))));
}

/// The third message of NTLM, which names the user.
fn ntlm(user: &str) -> Vec<u8> {
    let units: Vec<u8> = user.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut message = b"NTLMSSP\0\x03\0\0\0".to_vec();
    message.resize(64, 0);
    message[60] = 1;
    message[36..38].copy_from_slice(&(units.len() as u16).to_le_bytes());
    message[40..44].copy_from_slice(&64_u32.to_le_bytes());
    message.extend_from_slice(&units);
    message
}

/// What a client shows one after the other.
pub(crate) fn ntlm_steps(user: &str) -> [Vec<u8>; 2] {
    [b"NTLMSSP\0\x01\0\0\0\0\0\0\0".to_vec(), ntlm(user)]
}

/// Logs in by NTLM; what came of its last step.
pub(crate) fn log_in_by_ntlm(desk: &mut Desk, client: &mut Client, user: &str) -> LoginOutcome {
    let [first, last] = ntlm_steps(user);
    let outcome = |answer: &Message| {
        assert_eq!(answer.kind(), Kind::Result, "{answer:?}");
        LoginOutcome::read(&answer.body().unwrap()).unwrap()
    };
    let answer = desk.invoke(client, Operation::LOGIN, &Credentials::ntlm(&first));
    assert!(matches!(outcome(&answer), LoginOutcome::NextStep));
    let answer = desk.invoke(client, Operation::LOGIN, &Credentials::ntlm(&last));
    outcome(&answer)
}

#[test]
fn what_cannot_be_shown_again_is_closed_spread_and_finds_its_server_when_it_returns() {
    let mut plan = pool(3);
    plan.settings.clients.close_spread = Duration::from_secs(4);
    let mut desk = plan.open();
    let mut clients = Vec::new();
    for number in 0..8 {
        let user = format!("user{number}");
        let mut client = Client::new(number, Encoding::Ber);
        desk.negotiate(&mut client);
        let outcome = log_in_by_ntlm(&mut desk, &mut client, &user);
        assert!(matches!(outcome, LoginOutcome::Succeeded { .. }), "{outcome:?}");
        clients.push((client, user));
    }
    let home = desk.current("user0");
    let affected: Vec<(Client, String)> =
        clients.iter().filter(|(_, user)| desk.current(user) == home).cloned().collect();
    desk.set_mood(home, Mood::Dead);
    desk.pass(Duration::from_secs(8));
    let mut closed = Vec::new();
    for (client, user) in affected {
        closed.push(desk.closed_at(&client).expect("it is closed, and never half a session"));
        let now = other_than(&desk, home, &user);
        // It comes back on another connection, and is shown its user's server at once.
        let mut back = client;
        back.connection = ConnectionId(9_000 + closed.len() as u64);
        desk.negotiate(&mut back);
        let outcome = log_in_by_ntlm(&mut desk, &mut back, &user);
        assert!(matches!(outcome, LoginOutcome::Succeeded { .. }), "{outcome:?}");
        assert!(desk.logins(now).contains(&user));
    }
    closed.dedup();
    assert!(closed.len() > 1, "not all at the same moment");
    let others = clients.iter().filter(|(_, user)| desk.user(user).relocated_from.is_none());
    others.for_each(|(client, _)| assert_eq!(desk.closed_at(client), None));
}

#[test]
fn who_is_only_known_by_the_servers_answer_is_sent_to_the_right_one() {
    let mut desk = pool(3).open();
    let (_, _) = desk.client_of(1, Encoding::Ber, "anna");
    let home = desk.current("anna");
    for number in 10..20 {
        // A device that nobody has seen: some of them are shown another server first.
        let mut client = Client::new(number, Encoding::Ber);
        desk.negotiate(&mut client);
        if let LoginOutcome::Busy { seconds } = log_in_by_ntlm(&mut desk, &mut client, "anna") {
            assert_eq!(seconds, 1);
            desk.negotiate(&mut client);
            let outcome = log_in_by_ntlm(&mut desk, &mut client, "anna");
            assert!(matches!(outcome, LoginOutcome::Succeeded { .. }), "{outcome:?}");
        }
        let sessions = desk.sessions("anna");
        let at_home =
            |it: &&SessionStatus| it.server.as_ref() == Some(&desk.settings.servers[home].name);
        assert_eq!(sessions.iter().filter(at_home).count(), sessions.len());
    }
}

#[test]
fn nobody_is_let_in_before_it_is_durable() {
    let mut desk = pool(2).open();
    let mut client = Client::new(1, Encoding::Json);
    desk.negotiate(&mut client);
    desk.disk_waits = true;
    let login = Credentials::basic("anna", &ClientSettings::password_of("anna"));
    let id = desk.say(&mut client, Operation::LOGIN, &login);
    assert!(desk.answer_for(&client, id).is_none());
    desk.write_disk();
    assert_eq!(desk.answer_for(&client, id).unwrap().kind(), Kind::Result);
}

#[test]
fn a_pool_without_room_says_when_to_come_back() {
    let mut plan = pool(2);
    for server in &mut plan.settings.servers {
        server.capacity = 1;
    }
    let mut desk = plan.open();
    desk.client_of(1, Encoding::Ber, "anna");
    desk.client_of(2, Encoding::Ber, "bert");
    let mut client = Client::new(3, Encoding::Ber);
    desk.negotiate(&mut client);
    let outcome = desk.log_in(&mut client, "carl");
    assert!(matches!(outcome, LoginOutcome::Busy { seconds: 10..=60 }), "{outcome:?}");
}

#[test]
fn a_servers_redirect_is_followed_and_never_shown() {
    for known in [false, true] {
        let mut desk = pool(2).open();
        if known {
            desk.client_of(1, Encoding::Json, "anna");
        }
        let away = if known { 1 - desk.current("anna") } else { 1 };
        for server in 0..2 {
            let home = ClientHome::At(entrance(away).to_string());
            desk.servers[server].client_belongs("anna", Some(home).filter(|_| server != away));
            desk.set_mood(server, Mood::StrictHome);
        }
        let mut client = Client::new(2, Encoding::Json);
        desk.negotiate(&mut client);
        let outcome = desk.log_in(&mut client, "anna");
        assert!(matches!(outcome, LoginOutcome::Succeeded { .. }), "{outcome:?}");
        assert_eq!(desk.current("anna"), away);
        assert!(desk.logins(away).contains(&"anna".to_owned()));
    }
}

#[test]
fn several_sessions_of_one_connection_have_a_server_each() {
    let mut desk = pool(3).open();
    let mut web = Client::new(1, Encoding::Json);
    let mut homes = Vec::new();
    for (session, user) in [("s1", "anna"), ("s2", "bert"), ("s3", "carl"), ("s4", "dora")] {
        web.session = Some(session);
        desk.negotiate(&mut web);
        assert!(matches!(desk.log_in(&mut web, user), LoginOutcome::Succeeded { .. }));
        let cross_ref = desk.watch(&mut web, user);
        homes.push((user, session, desk.current(user), cross_ref));
    }
    let dead = homes[0].2;
    desk.set_mood(dead, Mood::Dead);
    desk.pass(Duration::from_secs(3));
    desk.heard(&web);
    for (user, session, home, cross_ref) in homes {
        let now = desk.current(user);
        assert_eq!(now == home, home != dead, "only who was on the dead server has moved");
        desk.ring(now, user);
        let heard = desk.heard(&web);
        assert_eq!(heard.len(), 1);
        assert_eq!(heard[0].session().as_deref(), Some(session));
        let (named, _) =
            cti::cross_ref(Operation::CALL_CHANGED, &heard[0].body().unwrap()).unwrap().unwrap();
        assert_eq!(named, cross_ref);
    }
}

#[test]
fn octets_that_are_no_message_end_the_connection_and_nothing_comes_of_what_follows() {
    let mut desk = pool(2).open();
    let (client, _) = desk.client_of(1, Encoding::Ber, "anna");
    desk.client_sends(&client, vec![0xA1, 0x02, 0x30, 0x00].into());
    assert!(desk.closed_at(&client).is_some());
    let late = client.envelope().event(Operation::TRANSPORT_KEEP_ALIVE, &Piece::Null);
    desk.client_sends(&client, late);
    assert_eq!(desk.sessions("anna"), []);
    assert_eq!(desk.logins(desk.current("anna")), [""; 0]);
}

#[test]
fn old_clients_get_what_the_operator_says() {
    for (legacy, may_log_in, may_move) in [
        (LegacyClients::Carry, true, true),
        (LegacyClients::HomeOnly, true, false),
        (LegacyClients::Block, false, false),
    ] {
        let mut plan = pool(2);
        plan.settings.clients.legacy = legacy;
        let mut desk = plan.open();
        let mut client = Client::new(1, Encoding::Json);
        client.negotiation.version = "8.3.1.2".into();
        desk.negotiate(&mut client);
        let login = Credentials::basic("anna", &ClientSettings::password_of("anna"));
        let answer = desk.invoke(&mut client, Operation::LOGIN, &login);
        if !may_log_in {
            assert_eq!(error_detail(&answer), detail::INVALID_VERSION);
            continue;
        }
        assert_eq!(answer.kind(), Kind::Result);
        desk.set_mood(desk.current("anna"), Mood::Dead);
        desk.pass(Duration::from_secs(30));
        assert_eq!(desk.closed_at(&client).is_none(), may_move, "{legacy:?}");
        let version: Version = "2603.0".parse().unwrap();
        assert_eq!(version, Version::FIRST_WITH_DISTRIBUTION);
    }
}

#[test]
fn strangers_are_refused_where_only_imported_users_are_wanted() {
    let mut plan = pool(2);
    plan.settings.unknown_users = UnknownUsers::Reject;
    let mut desk = plan.open();
    let mut client = Client::new(1, Encoding::Ber);
    desk.negotiate(&mut client);
    let login = Credentials::basic("anna", &ClientSettings::password_of("anna"));
    let answer = desk.invoke(&mut client, Operation::LOGIN, &login);
    assert_eq!(error_detail(&answer), detail::INVALID_USER);
    let asked = desk.clients.asked.iter().filter(|(.., it)| it.operation() == Operation::LOGIN);
    assert_eq!(asked.count(), 0, "no server is shown the password of somebody who is not wanted");
}

#[test]
fn nothing_shows_what_a_client_has_shown() {
    let mut desk = pool(2).open();
    let (mut client, _) = desk.client_of(1, Encoding::Json, "anna");
    desk.set_mood(desk.current("anna"), Mood::Hung);
    let again = Credentials::basic("anna", &ClientSettings::password_of("anna"));
    desk.say(&mut client, Operation::LOGIN, &again);
    let shown = format!("{:?} {:?}", desk.door, desk.user("anna"));
    for secret in ["pw-anna", "YW5uYTpwdy1hbm5h"] {
        assert!(!shown.contains(secret), "{secret}");
    }
}

#[test]
fn tls_is_begun_once_before_anything_is_said_and_nothing_comes_between() {
    let nothing = || Piece::Sequence(vec![]);
    let mut desk = pool(2).open();
    let mut client = Client::new(1, Encoding::Ber);
    let refused = desk.invoke(&mut client, Operation::START_TLS, &nothing());
    assert_eq!(error_detail(&refused), detail::INTERNAL, "the listener does not offer it");

    let mut plan = pool(2);
    plan.settings.clients.start_tls = vec![CLIENTS];
    let mut desk = plan.open();
    let begun = desk.invoke(&mut client, Operation::START_TLS, &nothing());
    assert_eq!(begun.kind(), Kind::Result);
    desk.handshake_is_done(&client);
    let again = desk.invoke(&mut client, Operation::START_TLS, &nothing());
    assert_eq!(error_detail(&again), detail::INTERNAL);
    desk.negotiate(&mut client);
    assert!(matches!(desk.log_in(&mut client, "anna"), LoginOutcome::Succeeded { .. }));

    let mut injected = Client::new(2, Encoding::Json);
    desk.invoke(&mut injected, Operation::START_TLS, &nothing());
    let asked = desk.clients.asked.len();
    let login = Credentials::basic("anna", "of somebody in between");
    desk.say(&mut injected, Operation::LOGIN, &login);
    assert!(desk.closed_at(&injected).is_some());
    assert_eq!(desk.heard(&injected).len(), 0);
    assert_eq!(desk.clients.asked.len(), asked);

    let (mut late, _) = desk.client_of(3, Encoding::Ber, "bert");
    let refused = desk.invoke(&mut late, Operation::START_TLS, &nothing());
    assert_eq!(error_detail(&refused), detail::INTERNAL, "what was shown in the clear is known");
}

/// A pool whose servers have addresses of the door that stand for them.
fn redirecting(servers: usize) -> Plan {
    let mut plan = pool(servers);
    plan.settings.clients.failover = ClientFailover::Redirect;
    for server in &mut plan.settings.servers {
        server.public = Some(format!("{}.example.com:7222", server.name).into());
    }
    plan
}

fn public(server: usize) -> String {
    format!("ucs{}.example.com:7222", server + 1)
}

/// Comes by TLS, by a name, and logs in.
fn log_in_by(desk: &mut Desk, client: &mut Client, name: &str, user: &str) -> LoginOutcome {
    desk.handshake_for(client, name);
    desk.negotiate(client);
    desk.log_in(client, user)
}

#[test]
fn whoever_means_another_server_is_told_the_address_that_stands_for_theirs() {
    let mut desk = redirecting(3).open();
    let (first, _) = desk.client_of(9, Encoding::Ber, "anna");
    desk.client_hangs_up(&first);
    let home = desk.current("anna");
    let other = (home + 1) % 3;
    let mut client = Client::new(1, Encoding::Json);
    let outcome =
        log_in_by(&mut desk, &mut client, &format!("UCS{}.Example.com", other + 1), "anna");
    let LoginOutcome::Redirect(to) = outcome else { panic!("{outcome:?}") };
    assert_eq!(to, public(home));
    assert_eq!((desk.logins(home).len(), desk.sessions("anna").len()), (0, 0));
    let mut client = Client::new(2, Encoding::Json);
    let outcome =
        log_in_by(&mut desk, &mut client, &format!("ucs{}.example.com", home + 1), "anna");
    assert!(matches!(outcome, LoginOutcome::Succeeded { .. }), "{outcome:?}");
    // Whoever means no server, or speaks of one that nobody knows, is served.
    let mut client = Client::new(3, Encoding::Ber);
    let outcome = log_in_by(&mut desk, &mut client, "door.example.com", "anna");
    assert!(matches!(outcome, LoginOutcome::Succeeded { .. }), "{outcome:?}");
    // Old clients do not know what a redirect is.
    let mut client = Client::new(4, Encoding::Ber);
    client.negotiation.version = "8.4".into();
    let outcome =
        log_in_by(&mut desk, &mut client, &format!("ucs{}.example.com", other + 1), "anna");
    assert!(matches!(outcome, LoginOutcome::Succeeded { .. }), "{outcome:?}");
}

#[test]
fn a_session_of_whoever_is_redirected_ends_with_its_server_and_is_sent_to_the_next() {
    let mut plan = redirecting(3);
    plan.settings.clients.close_spread = Duration::from_secs(2);
    let mut desk = plan.open();
    let (first, _) = desk.client_of(9, Encoding::Ber, "anna");
    desk.client_hangs_up(&first);
    let home = desk.current("anna");
    let name = format!("ucs{}.example.com", home + 1);
    let mut meant = Client::new(1, Encoding::Json);
    log_in_by(&mut desk, &mut meant, &name, "anna");
    let (carried, _) = desk.client_of(2, Encoding::Json, "anna");
    desk.set_mood(home, Mood::Dead);
    desk.pass(Duration::from_secs(5));
    let now = other_than(&desk, home, "anna");
    assert!(desk.closed_at(&meant).is_some() && desk.closed_at(&carried).is_none());
    let mut again = Client::new(3, Encoding::Json);
    let outcome = log_in_by(&mut desk, &mut again, &name, "anna");
    let LoginOutcome::Redirect(to) = outcome else { panic!("{outcome:?}") };
    assert_eq!(to, public(now));
    assert_eq!(desk.door.stats().client_logins_redirected, 1);
}

#[test]
fn a_listener_may_stand_for_a_server_and_without_a_public_address_everybody_is_carried() {
    for (has_public, redirected) in [(true, true), (false, false)] {
        let mut plan = redirecting(2);
        plan.settings.clients.stands_for = vec![(CLIENTS, ServerId(0))];
        if !has_public {
            plan.settings.servers.iter_mut().for_each(|server| server.public = None);
        }
        let mut desk = plan.open();
        // Somebody of the other server, who has been there by the WebService.
        let is_there = |desk: &mut Desk, user: &&str| {
            let client = desk.web_client_of(9, user);
            desk.client_hangs_up(&client);
            desk.current(user) == 1
        };
        let users = ["anna", "bert", "cleo", "dora", "emil", "fred"];
        let user = users.into_iter().find(|user| is_there(&mut desk, user)).unwrap();
        let mut client = Client::new(1, Encoding::Ber);
        desk.negotiate(&mut client);
        let outcome = desk.log_in(&mut client, user);
        assert_eq!(matches!(outcome, LoginOutcome::Redirect(_)), redirected, "{outcome:?}");
    }
}

#[test]
fn a_name_that_several_servers_share_says_nothing_and_a_listener_more_than_a_name() {
    let mut plan = redirecting(2);
    for (server, port) in plan.settings.servers.iter_mut().zip(7301..) {
        server.public = Some(format!("door.example.com:{port}").into());
    }
    let mut desk = plan.open();
    let mut client = Client::new(1, Encoding::Ber);
    let outcome = log_in_by(&mut desk, &mut client, "door.example.com", "anna");
    assert!(matches!(outcome, LoginOutcome::Succeeded { .. }), "{outcome:?}");
    // Whoever comes where a listener stands for the right server is served, whatever name they ask for.
    let home = desk.current("anna");
    let mut plan = redirecting(2);
    plan.settings.clients.stands_for = vec![(CLIENTS, ServerId(home as u16))];
    let mut desk = plan.open();
    let first = desk.web_client_of(9, "anna");
    desk.client_hangs_up(&first);
    assert_eq!(desk.current("anna"), home);
    let mut client = Client::new(1, Encoding::Ber);
    desk.negotiate(&mut client);
    desk.handshake_for(&client, &format!("ucs{}.example.com", 2 - home));
    let outcome = desk.log_in(&mut client, "anna");
    assert!(matches!(outcome, LoginOutcome::Succeeded { .. }), "{outcome:?}");
}

/// A token that says nothing of whose it is, handed out at home.
fn token_of(desk: &mut Desk, client: &mut Client) -> String {
    let login = Piece::Sequence(vec![(Member::tagged("iType", 0), Piece::Integer(1))]);
    let answer = desk.invoke(client, Operation::GET_USER_TOKEN, &login);
    let body = answer.body().unwrap();
    let token = body.required(&Member::nth("sToken", 0)).unwrap().text().unwrap().into_owned();
    assert!(!token.contains('.'), "it is no JWT: {token}");
    token
}

#[test]
fn a_token_leads_to_the_server_of_whom_it_was_handed_out_to() {
    let mut desk = pool(4).open();
    for (number, user) in (1..).zip(["anna", "bert", "cleo", "dora", "emil"]) {
        let (mut client, _) = desk.client_of(number, Encoding::Ber, user);
        let token = token_of(&mut desk, &mut client);
        desk.client_hangs_up(&client);
        // By another device, by either entrance.
        let mut other = Client::new(100 + number, Encoding::Json);
        desk.negotiate(&mut other);
        let answer = desk.invoke(&mut other, Operation::LOGIN, &Credentials::bearer(&token));
        assert_eq!(answer.kind(), Kind::Result, "{user}");
        let outcome = LoginOutcome::read(&answer.body().unwrap()).unwrap();
        assert!(matches!(outcome, LoginOutcome::Succeeded { .. }), "{user}: {outcome:?}");
        let web = Client::by_web(number);
        desk.open(&web, with_token(&token), Purpose::Session);
        assert!(matches!(desk.answer_by_web(&web), Some(WebAnswer::In(_))), "{user}");
        let home = desk.current(user);
        assert_eq!(desk.logins(home).iter().filter(|it| *it == user).count(), 2);
        desk.client_hangs_up(&other);
        desk.client_hangs_up(&web);
    }
}

#[test]
fn a_token_of_a_dead_server_is_refused_in_the_protocols_own_words_and_its_session_ends() {
    let mut plan = pool(3);
    plan.settings.clients.close_spread = Duration::from_secs(2);
    let mut desk = plan.open();
    let (mut client, _) = desk.client_of(1, Encoding::Ber, "anna");
    let token = token_of(&mut desk, &mut client);
    let web = Client::by_web(1);
    desk.open(&web, with_token(&token), Purpose::Session);
    assert!(matches!(desk.answer_by_web(&web), Some(WebAnswer::In(_))));
    let home = desk.current("anna");
    desk.set_mood(home, Mood::Dead);
    desk.pass(Duration::from_secs(6));
    let now = other_than(&desk, home, "anna");
    // Whoever has a password goes on; the token is nothing to the server that is there now.
    assert!(desk.closed_at(&client).is_none() && desk.closed_at(&web).is_some());
    let again = Client::by_web(2);
    desk.open(&again, with_token(&token), Purpose::Session);
    assert!(matches!(desk.answer_by_web(&again), Some(WebAnswer::Out(it)) if it.status == 400));
    let mut other = Client::new(2, Encoding::Json);
    desk.negotiate(&mut other);
    let answer = desk.invoke(&mut other, Operation::LOGIN, &Credentials::bearer(&token));
    assert_eq!(error_detail(&answer), detail::INVALID_USER);
    assert_eq!(desk.logins(now), ["anna"]);
}
