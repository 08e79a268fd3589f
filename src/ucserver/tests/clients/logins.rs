//! Who is talking, who they are, and what each is answered.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::private::Private;
use crate::ucsap::login::{self, Credentials, LoginOutcome};
use crate::ucsap::negotiate::{self, Negotiated};
use crate::ucsap::{Encoding, Member, Operation, Piece};
use crate::ucserver::tests::clients::{ENCODINGS, World, client, integer, sequence, text};
use crate::ucserver::{ClientHome, ClientSettings, ClientUser, Event, Mood, Settings};

fn outcome(world: &mut World, credentials: &Piece) -> LoginOutcome {
    let answer = world.result(1, Operation::LOGIN, credentials);
    LoginOutcome::read(&answer.body().unwrap()).unwrap()
}

fn negotiated(settings: Settings, encoding: Encoding) -> World {
    let mut world = World::encoded(settings, encoding);
    world.negotiate(1).result();
    world
}

fn refused(world: &mut World, credentials: &Piece) -> i64 {
    world.ask(1, Operation::LOGIN, credentials).error()
}

fn user(outcome: &LoginOutcome) -> Option<&str> {
    if let LoginOutcome::Succeeded { user, .. } = outcome { user.as_deref() } else { None }
}

fn token(outcome: LoginOutcome) -> String {
    let LoginOutcome::Succeeded { token: Some(token), .. } = outcome else { panic!("{outcome:?}") };
    token.reveal().clone()
}

#[test]
fn a_connection_is_negotiated_and_named_anew_each_time() {
    for encoding in ENCODINGS {
        let mut world = World::encoded(Settings::default(), encoding);
        let mut names = Vec::new();
        for connection in [1, 2] {
            let answer = world.negotiate(connection).result();
            let body = answer.body().unwrap();
            let Negotiated::Done { connection, .. } = Negotiated::read(&body).unwrap() else {
                panic!("{answer:?}")
            };
            names.push(connection);
            let (_, done) = body.alternative(&[Member::tagged("result", 0)]).unwrap().unwrap();
            let kind = done.required(&Member::nth("eServerType", 0)).unwrap();
            assert_eq!(kind.integer(), Ok(2));
            // 1 January 1970 and a thousand seconds less the ones before the start.
            let time = done.required(&Member::nth("stServerTime", 4)).unwrap().real().unwrap();
            assert!((time - 25_569.0).abs() < 0.1, "{time}");
        }
        assert_ne!(names[0], names[1]);
    }
}

#[test]
fn a_client_of_another_interface_is_incompatible_and_a_busy_server_says_so() {
    let clients = ClientSettings { interface_version: "8.0.1".into(), ..Default::default() };
    let mut world = World::new(Settings { clients, ..Settings::default() });
    let answer = world.negotiate(1).result();
    let answer = Negotiated::read(&answer.body().unwrap()).unwrap();
    assert_eq!(answer, Negotiated::Incompatible);
    let clients = ClientSettings { busy_secs: Some(9), ..Default::default() };
    let mut world = World::new(Settings { clients, ..Settings::default() });
    let answer = world.negotiate(1).result();
    let answer = Negotiated::read(&answer.body().unwrap()).unwrap();
    assert_eq!(answer, Negotiated::Busy { seconds: 9 });
}

#[test]
fn a_check_of_the_connection_needs_nothing_before_it() {
    for encoding in ENCODINGS {
        let mut world = World::encoded(Settings::default(), encoding);
        let answer = world.result(1, Operation::CHECK_CONNECTION, &Piece::Sequence(vec![]));
        let version = negotiate::checked_product_version(&answer.body().unwrap()).unwrap();
        assert_eq!(version, "2603.0");
        assert_eq!(integer(&answer, "iProtocolVersion", 2), 70);
    }
}

#[test]
fn tls_begins_behind_the_result() {
    let mut world = World::new(Settings::default());
    world.result(1, Operation::START_TLS, &Piece::Sequence(vec![]));
    assert_eq!(world.tls, [1]);
}

#[test]
fn a_login_needs_a_negotiation_and_is_there_once() {
    let mut world = World::new(Settings::default());
    let anna = Credentials::basic("anna", "pw-anna");
    assert_eq!(refused(&mut world, &anna), 105);
    world.negotiate(1).result();
    assert_eq!(user(&outcome(&mut world, &anna)), Some("anna"));
    assert_eq!(refused(&mut world, &anna), 113);
    assert_eq!(world.negotiate(1).error(), 113);
}

#[test]
fn only_the_right_password_lets_in() {
    for encoding in ENCODINGS {
        let mut world = negotiated(Settings::default(), encoding);
        for (user, password) in [("anna", "pw-bert"), ("anna", ""), ("", "pw-"), ("", "")] {
            assert_eq!(refused(&mut world, &Credentials::basic(user, password)), 101);
        }
        assert!(matches!(outcome(&mut world, &Piece::Sequence(vec![])), LoginOutcome::Methods));
        assert_eq!(
            user(&outcome(&mut world, &Credentials::basic("anna", "pw-anna"))),
            Some("anna")
        );
    }
    let anna = ClientUser { password: Private::new("a:b".into()), lines: vec!["tel:1@p".into()] };
    let users = Some(BTreeMap::from([(String::from("anna"), anna)]));
    let clients = ClientSettings { users, ..ClientSettings::default() };
    let mut world = negotiated(Settings { clients, ..Settings::default() }, Encoding::Json);
    assert_eq!(refused(&mut world, &Credentials::basic("anna", "pw-anna")), 101);
    assert_eq!(refused(&mut world, &Credentials::basic("bert", "pw-bert")), 101);
    assert_eq!(user(&outcome(&mut world, &Credentials::basic("anna", "a:b"))), Some("anna"));
}

#[test]
fn a_jwt_is_good_until_it_expires() {
    let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
    let mut world = negotiated(Settings { wall, ..Settings::default() }, Encoding::Ber);
    let jwt =
        |secs| Credentials::bearer(&ClientSettings::jwt("anna", wall + Duration::from_secs(secs)));
    let late = Credentials::bearer(&ClientSettings::jwt("anna", wall));
    assert_eq!(refused(&mut world, &late), 130);
    for nonsense in ["", "a.b.c", "x", "e30.e30.e30"] {
        assert_eq!(refused(&mut world, &Credentials::bearer(nonsense)), 101, "{nonsense}");
    }
    world.secs(30);
    assert_eq!(refused(&mut world, &jwt(30)), 130);
    assert_eq!(user(&outcome(&mut world, &jwt(31))), Some("anna"));
}

#[test]
fn a_token_of_a_login_is_good_for_the_next_one_at_this_server_only() {
    let clients =
        ClientSettings { token_lifetime: Duration::from_secs(50), ..ClientSettings::default() };
    let settings = Settings { clients, ..Settings::default() };
    let mut world = negotiated(settings, Encoding::Json);
    let first = token(outcome(&mut world, &Credentials::basic("anna", "pw-anna")));
    let second = world.result(1, Operation::GET_USER_TOKEN, &Piece::Sequence(vec![]));
    let second = text(&second, "sToken", 0);
    for (connection, token) in [(2, &first), (3, &second)] {
        world.negotiate(connection).result();
        let answer = world.result(connection, Operation::LOGIN, &Credentials::bearer(token));
        let answer = LoginOutcome::read(&answer.body().unwrap()).unwrap();
        assert_eq!(user(&answer), Some("anna"));
    }
    assert_eq!((world.server.users_logged_in(), world.server.clients().logins().count()), (1, 3));
    world.negotiate(4).result();
    world.secs(50);
    assert_eq!(world.ask(4, Operation::LOGIN, &Credentials::bearer(&first)).error(), 130);
    world.server.set_mood(world.now, Mood::Amnesia);
    world.outputs();
    world.negotiate(5).result();
    assert_eq!(world.ask(5, Operation::LOGIN, &Credentials::bearer(&first)).error(), 101);
}

#[test]
fn tokens_can_be_expired_by_hand() {
    let mut world = negotiated(Settings::default(), Encoding::Json);
    let token = token(outcome(&mut world, &Credentials::basic("anna", "pw-anna")));
    world.server.expire_tokens(world.now);
    world.negotiate(2).result();
    assert_eq!(world.ask(2, Operation::LOGIN, &Credentials::bearer(&token)).error(), 130);
}

#[test]
fn ntlm_takes_its_steps_in_their_order() {
    for encoding in ENCODINGS {
        let mut world = negotiated(Settings::default(), encoding);
        let first = Credentials::ntlm(&login::ntlm_negotiate());
        let second = Credentials::ntlm(&login::ntlm_authenticate("anna", "ACME"));
        assert_eq!(refused(&mut world, &second), 101);
        assert!(matches!(outcome(&mut world, &first), LoginOutcome::NextStep));
        assert_eq!(refused(&mut world, &Credentials::ntlm(b"NTLMSSP\0rubbish")), 101);
        assert_eq!(refused(&mut world, &second), 101, "a challenge is good for once");
        assert!(matches!(outcome(&mut world, &first), LoginOutcome::NextStep));
        assert_eq!(user(&outcome(&mut world, &second)), Some("anna"));
    }
}

#[test]
fn kerberos_and_openid_name_the_user_in_plain() {
    for encoding in ENCODINGS {
        for credentials in [Credentials::kerberos(b"anna"), Credentials::open_id("anna")] {
            let mut world = negotiated(Settings::default(), encoding);
            assert_eq!(refused(&mut world, &Credentials::kerberos(b"\xFF")), 101);
            assert_eq!(refused(&mut world, &Credentials::open_id("")), 101);
            assert_eq!(user(&outcome(&mut world, &credentials)), Some("anna"));
        }
    }
}

#[test]
fn who_belongs_elsewhere_is_sent_there_by_a_strict_server_and_served_by_another() {
    let homes = BTreeMap::from([
        ("anna".into(), ClientHome::At("192.0.2.9:7222".into())),
        ("bert".into(), ClientHome::Unknown),
    ]);
    let clients = ClientSettings { homes, ..ClientSettings::default() };
    let mut world = negotiated(Settings { clients, ..Settings::default() }, Encoding::Json);
    world.server.set_mood(world.now, Mood::StrictHome);
    assert_eq!(refused(&mut world, &Credentials::basic("anna", "wrong")), 101);
    let anna = Credentials::basic("anna", "pw-anna");
    let sent = outcome(&mut world, &anna);
    assert!(matches!(&sent, LoginOutcome::Redirect(to) if to == "192.0.2.9:7222"), "{sent:?}");
    assert_eq!(refused(&mut world, &Credentials::basic("bert", "pw-bert")), 107);
    world.server.client_belongs("anna", None);
    assert_eq!(user(&outcome(&mut world, &anna)), Some("anna"));
    world.server.set_mood(world.now, Mood::Healthy);
    world.log_in(2, "bert");
}

#[test]
fn a_full_server_takes_no_stranger() {
    let settings = Settings { capacity_users: Some(1), ..Settings::default() };
    let mut world = World::new(settings);
    world.log_in(1, "anna");
    world.log_in(2, "anna");
    world.negotiate(3).result();
    let bert = Credentials::basic("bert", "pw-bert");
    let answer = world.result(3, Operation::LOGIN, &bert);
    let answer = LoginOutcome::read(&answer.body().unwrap()).unwrap();
    assert!(matches!(answer, LoginOutcome::Busy { seconds: 5 }), "{answer:?}");
    assert_eq!(world.server.document(world.now).unwrap().users_logged_in, 1);
}

#[test]
fn a_logoff_is_not_answered_and_ends_the_session() {
    let mut world = World::with("anna");
    let (_, bytes) = world.written(Operation::LOGOFF, &Piece::Sequence(vec![]));
    assert!(world.send(1, bytes).is_empty());
    assert_eq!(world.server.users_logged_in(), 0);
    assert_eq!(refused(&mut world, &Credentials::basic("anna", "pw-anna")), 105);
    let events = world.server.journal().entries().map(|entry| entry.event.clone());
    let (user, connection) = ("anna".into(), 1);
    assert!(events.last() == Some(Event::LoggedOff { user, connection }));
}

#[test]
fn sessions_of_one_connection_know_nothing_of_each_other() {
    for encoding in ENCODINGS {
        let mut world = World::encoded(Settings::default(), encoding);
        world.session = Some("s1");
        world.log_in(1, "anna");
        world.session = Some("s2");
        assert_eq!(world.ask(1, Operation::LOGIN, &Credentials::basic("b", "pw-b")).error(), 105);
        world.log_in(1, "bert");
        world.session = None;
        let own = sequence(&[
            ("typeofLines", Piece::Enumerated(0)),
            ("attachChangeNotify", Piece::Integer(0)),
        ]);
        assert_eq!(world.ask(1, Operation::ENUM_LINES, &own).error(), 2);
        let logins: Vec<_> =
            world.server.clients().logins().map(|it| (it.session, it.user)).collect();
        assert_eq!(logins, [(Some("s1"), "anna"), (Some("s2"), "bert")]);
    }
}

#[test]
fn who_comes_back_names_the_connection_they_had() {
    let mut world = World::new(Settings::default());
    let mut again = client();
    again.former = Some("former".into());
    world.result(1, Operation::NEGOTIATE, &again.piece("PC"));
    world.result(1, Operation::LOGIN, &Credentials::basic("anna", "pw-anna"));
    let login = world.server.clients().logins().next().unwrap();
    assert_eq!((login.former, login.device), (Some("former"), "d1"));
}

#[test]
fn the_contact_of_who_is_logged_in_says_the_name() {
    let mut world = World::with("anna");
    let answer = world.result(1, Operation::GET_LOGGED_IN_CONTACT, &Piece::Sequence(vec![]));
    assert_eq!(text(&answer, "u8sLoggedInUser", 0), "anna");
}
