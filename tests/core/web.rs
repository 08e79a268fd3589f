//! Sessions of the WebService: decided, shown and carried like those by TCP (D, M9, M10).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use frontdoor::door::{LegacyClients, UnknownUsers, WebAnswer};
use frontdoor::ucsap::{Kind, Operation, cti};
use frontdoor::ucserver::{ClientSettings, Mood};
use frontdoor::ucws::{Answer, Purpose};

use crate::clients::{ntlm_steps, other_than, pool};
use crate::desk::Desk;
use crate::desk::clients::{Client, Fault};
use crate::desk::web::{with_authorization, with_password};

/// What somebody was answered who has no session.
fn refused(desk: &mut Desk, client: &Client) -> Answer {
    match desk.answer_by_web(client) {
        Some(WebAnswer::Out(answer)) => answer,
        other => panic!("{other:?}"),
    }
}

fn error_of(answer: &Answer) -> i64 {
    let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
    body["error"]["iErrorDetail"].as_i64().unwrap()
}

#[test]
fn a_session_goes_on_at_another_server_under_the_name_it_has() {
    let mut desk = pool(3).open();
    let mut client = desk.web_client_of(1, "anna");
    let cross_ref = desk.watch(&mut client, "anna");
    let home = desk.current("anna");
    assert_eq!(desk.logins(home), ["anna"]);
    assert_eq!(&*desk.sessions("anna")[0].from, "198.51.100.10:50000");
    desk.ring(home, "anna");
    assert_eq!(desk.events(&client), [(Operation::CALL_CHANGED, Some(cross_ref.clone()))]);
    desk.set_mood(home, Mood::Dead);
    desk.pass(Duration::from_secs(2));
    let now = other_than(&desk, home, "anna");
    assert_eq!(desk.logins(now), ["anna"]);
    // Its client was answered once, and is not asked again.
    assert!(desk.answer_by_web(&client).is_none() && desk.closed_at(&client).is_none());
    assert_eq!(desk.events(&client).len(), 1);
    desk.ring(now, "anna");
    assert_eq!(desk.events(&client), [(Operation::CALL_CHANGED, Some(cross_ref.clone()))]);
    let stop = desk.invoke(&mut client, Operation::MONITOR_STOP, &cti::for_monitor(&cross_ref));
    assert_eq!((stop.kind(), desk.monitors(now)), (Kind::Result, 0));
    // And home again.
    desk.set_mood(home, Mood::Healthy);
    desk.pass(Duration::from_secs(60));
    assert_eq!((desk.current("anna"), desk.logins(home)), (home, vec!["anna".into()]));
    assert_eq!(desk.logins(now), [""; 0]);
    assert!(desk.closed_at(&client).is_none());
}

#[test]
fn clients_of_both_entrances_and_a_user_move_together() {
    let mut desk = pool(3).open();
    let web = desk.web_client_of(1, "anna");
    let (native, _) = desk.client_of(2, frontdoor::ucsap::Encoding::Ber, "anna");
    let home = desk.current("anna");
    assert_eq!(desk.logins(home).len(), 2);
    desk.set_mood(home, Mood::Dead);
    desk.pass(Duration::from_secs(2));
    let now = other_than(&desk, home, "anna");
    assert_eq!((desk.logins(now).len(), desk.sessions("anna").len()), (2, 2));
    assert!(desk.closed_at(&web).is_none() && desk.closed_at(&native).is_none());
}

#[test]
fn a_wrong_password_is_the_servers_to_refuse_and_nothing_stays() {
    let mut desk = pool(2).open();
    let client = Client::by_web(1);
    let wrong = STANDARD.encode("anna:guess");
    let request = with_authorization(&format!("Basic {wrong}"), "browser");
    desk.open(&client, request, Purpose::Session);
    assert_eq!(refused(&mut desk, &client).status, 400);
    desk.client_hangs_up(&client);
    assert_eq!((0..2).map(|server| desk.logins(server).len()).sum::<usize>(), 0);
    // The same session may show something else.
    desk.open(&client, with_password("anna", "browser"), Purpose::Session);
    assert!(matches!(desk.answer_by_web(&client), Some(WebAnswer::In(_))));
}

#[test]
fn whoever_is_not_served_hears_it_in_the_words_of_the_web_service() {
    let mut plan = pool(2);
    plan.settings.unknown_users = UnknownUsers::Reject;
    let mut desk = plan.open();
    let client = Client::by_web(1);
    desk.open(&client, with_password("nobody", "browser"), Purpose::Session);
    let answer = refused(&mut desk, &client);
    assert_eq!((answer.status, error_of(&answer)), (400, 101));
    // ProCall Web is assigned to servers by hand.
    let mut desk = pool(2).open();
    let mut request = with_password("anna", "browser");
    request.target = "/ws/client/createsession?clientappid=15".into();
    desk.open(&client, request, Purpose::Session);
    let answer = refused(&mut desk, &client);
    assert_eq!((answer.status, error_of(&answer)), (400, 107));
    // Nobody is there.
    let mut plan = pool(2);
    plan.settings.clients.patience = Duration::from_secs(1);
    let mut desk = plan.open();
    desk.set_mood(0, Mood::Dead);
    desk.set_mood(1, Mood::Dead);
    desk.pass(Duration::from_secs(5));
    desk.open(&client, with_password("anna", "browser"), Purpose::Session);
    desk.pass(Duration::from_secs(30));
    let answer = refused(&mut desk, &client);
    assert_eq!((answer.status, error_of(&answer)), (502, 119));
    assert!(answer.header("retry-after").next().is_some_and(|it| it.parse::<u32>().is_ok()));
}

#[test]
fn steps_of_one_login_go_to_one_server_and_what_it_reveals_counts() {
    let mut desk = pool(3).open();
    let home_of_anna = {
        let client = desk.web_client_of(9, "anna");
        desk.client_hangs_up(&client);
        desk.current("anna")
    };
    let mut rounds = 0;
    let client = Client::by_web(1);
    'login: loop {
        rounds += 1;
        assert!(rounds < 4, "it is known by now where anna belongs");
        for step in ntlm_steps("anna") {
            let line = format!("NTLM {}", STANDARD.encode(step));
            desk.open(&client, with_authorization(&line, "browser"), Purpose::Session);
            match desk.answer_by_web(&client) {
                Some(WebAnswer::In(_)) => break 'login,
                Some(WebAnswer::Out(answer)) => assert_eq!(answer.status, 401),
                None => panic!("it is answered at once"),
            }
        }
    }
    assert_eq!(desk.logins(home_of_anna), ["anna"]);
    // It cannot be shown again: the session ends with its server.
    desk.set_mood(home_of_anna, Mood::Dead);
    desk.pass(Duration::from_secs(15));
    assert!(desk.closed_at(&client).is_some());
}

#[test]
fn a_ticket_that_names_nobody_leads_home_the_second_time() {
    let mut desk = pool(3).open();
    for user in ["anna", "bert", "cleo", "dora"] {
        let client = desk.web_client_of(9, user);
        desk.client_hangs_up(&client);
        let home = desk.current(user);
        let ticket = STANDARD.encode(user);
        let client = Client::by_web(1);
        let line = format!("Negotiate {ticket}");
        desk.open(&client, with_authorization(&line, "browser"), Purpose::Session);
        let mut answer = desk.answer_by_web(&client);
        if let Some(WebAnswer::Out(again)) = &answer {
            assert_eq!(again.status, 401);
            assert_eq!(again.header("www-authenticate").next(), Some("Negotiate"));
            desk.open(&client, with_authorization(&line, "browser"), Purpose::Session);
            answer = desk.answer_by_web(&client);
        }
        assert!(matches!(answer, Some(WebAnswer::In(_))), "{user}: {answer:?}");
        assert_eq!(desk.logins(home), [user]);
        desk.client_hangs_up(&client);
    }
}

#[test]
fn a_call_without_a_session_goes_where_its_user_is_and_is_made_once() {
    let mut desk = pool(3).open();
    let client = desk.web_client_of(9, "anna");
    desk.client_hangs_up(&client);
    let home = desk.current("anna");
    let client = Client::by_web(1);
    desk.web.shown.clear();
    desk.open(&client, with_password("anna", "browser"), Purpose::Call(Operation::MAKE_CALL));
    assert_eq!(refused(&mut desk, &client).status, 200);
    assert_eq!(desk.web.shown, [home]);
    desk.client_hangs_up(&client);
    assert_eq!(desk.logins(home), [""; 0]);
    // Its server fails before it answers: what acts is not done twice, what reads is asked again.
    for (what, status, shown) in
        [(Operation::MAKE_CALL, 502, 1), (Operation::GET_USER_TOKEN, 200, 2)]
    {
        let mut desk = pool(3).open();
        let client = desk.web_client_of(9, "anna");
        desk.client_hangs_up(&client);
        let home = desk.current("anna");
        desk.clients.faults.insert(home, Fault::Late);
        desk.web.shown.clear();
        let client = Client::by_web(1);
        desk.open(&client, with_password("anna", "browser"), Purpose::Call(what));
        assert!(desk.answer_by_web(&client).is_none());
        // Not even its end is heard of.
        desk.set_mood(home, Mood::Dead);
        desk.pass(Duration::from_secs(15));
        assert_eq!(refused(&mut desk, &client).status, status, "{what:?}");
        assert_eq!(desk.web.shown.len(), shown, "{what:?}");
    }
}

#[test]
fn a_session_is_created_once_and_ends_with_its_client() {
    let mut desk = pool(2).open();
    let client = desk.web_client_of(1, "anna");
    let home = desk.current("anna");
    desk.open(&client, with_password("bert", "browser"), Purpose::Session);
    assert_eq!(refused(&mut desk, &client).status, 400);
    assert_eq!(desk.logins(home), ["anna"]);
    // What its messages call it makes no session more: a server is asked, and knows no such one.
    let mut named = client.clone();
    named.session = Some("other");
    let line = cti::for_line(&ClientSettings::line_of("anna"));
    let answer = desk.invoke(&mut named, Operation::SNAPSHOT_LINE, &line);
    assert_eq!((answer.kind(), desk.sessions("anna").len()), (Kind::Error, 1));
    desk.client_hangs_up(&client);
    assert_eq!((desk.logins(home), desk.sessions("anna").len()), (Vec::new(), 0));
}

#[test]
fn whoever_says_goodbye_has_no_session_any_more() {
    let mut desk = pool(2).open();
    let mut client = desk.web_client_of(1, "anna");
    let home = desk.current("anna");
    let nothing = frontdoor::ucsap::Piece::Sequence(Vec::new());
    desk.say(&mut client, Operation::LOGOFF, &nothing);
    assert_eq!((desk.logins(home), desk.closed_at(&client).is_some()), (Vec::new(), true));
}

#[test]
fn pages_of_servers_are_not_too_old_but_clients_that_say_they_are_are() {
    let mut plan = pool(2);
    plan.settings.clients.legacy = LegacyClients::Block;
    let mut desk = plan.open();
    let silent = desk.web_client_of(1, "anna");
    assert!(desk.closed_at(&silent).is_none());
    let client = Client::by_web(2);
    let mut request = with_password("bert", "browser");
    request.body = r#"{"negotiate":{"u8sClientVersion":"8.1"}}"#.into();
    desk.open(&client, request, Purpose::Session);
    let answer = refused(&mut desk, &client);
    assert_eq!((answer.status, error_of(&answer)), (400, 104));
}

#[test]
fn sessions_beyond_the_limit_are_refused_and_counted() {
    let mut plan = pool(2);
    plan.settings.clients.limits.sessions = 1;
    let mut desk = plan.open();
    let first = desk.web_client_of(1, "anna");
    let second = Client::by_web(2);
    desk.open(&second, with_password("bert", "browser"), Purpose::Session);
    assert_eq!(refused(&mut desk, &second).status, 502);
    assert_eq!(desk.door.stats().client_sessions_shed, 1);
    desk.client_hangs_up(&first);
    let third = desk.web_client_of(3, "bert");
    assert!(desk.closed_at(&third).is_none());
}
