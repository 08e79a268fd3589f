//! Digest challenges as a phone sees them.

use crate::private::Private;
use crate::sip::{HeaderName, Message};
use crate::ucserver::digest::credentials;
use crate::ucserver::tests::{Register, World, lines, secs};
use crate::ucserver::{DigestSettings, DigestUser, Mood, Settings};

const ONE: &str = "<sip:200@192.0.2.7:5070>";
const URI: &str = "sip:example.com";

fn world() -> World {
    let user = |password: &str, aor_user: Option<&str>| DigestUser {
        password: Private::new(password.to_owned()),
        aor_user: aor_user.map(str::to_owned),
    };
    let digest = DigestSettings {
        realm: "example.com".into(),
        users: [
            ("200".to_owned(), user("secret", None)),
            ("bob".to_owned(), user("builder", Some("200"))),
        ]
        .into(),
        ..DigestSettings::default()
    };
    World::new(Settings { digest: Some(digest), ..Settings::default() })
}

/// The nonce of a 401.
fn nonce(answer: &Message) -> String {
    assert_eq!(answer.status(), Some(401));
    let challenge = lines(answer, HeaderName::WwwAuthenticate).remove(0);
    challenge.split('"').nth(3).unwrap().to_owned()
}

fn is_stale(answer: &Message) -> bool {
    lines(answer, HeaderName::WwwAuthenticate).iter().all(|value| value.contains("stale=TRUE"))
}

/// A REGISTER with credentials for `nonce`.
fn with(nonce: &str, algorithm: &str, user: &str, password: &str) -> Register {
    let value = credentials(algorithm, user, "example.com", password, nonce, URI);
    Register::of(ONE).line(&format!("Authorization: {value}"))
}

fn challenged(world: &mut World) -> String {
    nonce(&world.register(&Register::of(ONE)))
}

#[test]
fn a_phone_without_credentials_is_asked_in_both_algorithms() {
    let mut world = world();
    let answer = world.register(&Register::of(ONE));
    assert_eq!(answer.status(), Some(401));
    let challenges = lines(&answer, HeaderName::WwwAuthenticate);
    assert_eq!(challenges.len(), 2);
    assert!(challenges[0].contains("algorithm=SHA-256"), "{challenges:?}");
    assert!(challenges[1].contains("algorithm=MD5"), "{challenges:?}");
    assert!(!is_stale(&answer));
    assert_eq!(world.contacts(), []);
}

#[test]
fn the_right_password_lets_in_with_either_algorithm() {
    for algorithm in ["MD5", "SHA-256"] {
        let mut world = world();
        let nonce = challenged(&mut world);
        world.bind(&with(&nonce, algorithm, "200", "secret"));
        world.bind(&with(&nonce, algorithm, "200", "secret").call("c1", 2));
        assert_eq!(world.contacts().len(), 1, "{algorithm}");
    }
}

#[test]
fn a_wrong_password_or_user_is_asked_again_and_not_told_stale() {
    let mut world = world();
    let nonce = challenged(&mut world);
    for (user, password) in [("200", "guess"), ("201", "secret")] {
        let answer = world.register(&with(&nonce, "MD5", user, password));
        assert_eq!(answer.status(), Some(401));
        assert!(!is_stale(&answer));
    }
    assert_eq!(world.contacts(), []);
}

#[test]
fn an_old_nonce_with_the_right_password_is_stale() {
    let mut world = world();
    let old = challenged(&mut world);
    world.pass(secs(301));
    let answer = world.register(&with(&old, "SHA-256", "200", "secret"));
    assert!(is_stale(&answer));
    let wrong = world.register(&with(&old, "SHA-256", "200", "guess"));
    assert!(!is_stale(&wrong));
    let fresh = nonce(&answer);
    world.bind(&with(&fresh, "SHA-256", "200", "secret"));
}

#[test]
fn a_nonce_from_elsewhere_is_not_stale_but_wrong() {
    let mut world = world();
    let before = challenged(&mut world);
    world.server.set_mood(world.now, Mood::Amnesia);
    let answer = world.register(&with(&before, "MD5", "200", "secret"));
    assert_eq!(answer.status(), Some(401));
    assert!(!is_stale(&answer));
}

#[test]
fn credentials_of_one_user_do_not_register_another() {
    let mut world = world();
    let nonce = challenged(&mut world);
    let other = with(&nonce, "MD5", "200", "secret").to("sip:201@example.com");
    assert_eq!(world.register(&other).status(), Some(403));
    world.bind(&with(&nonce, "MD5", "bob", "builder"));
}

#[test]
fn credentials_for_another_request_uri_are_400() {
    let mut world = world();
    let nonce = challenged(&mut world);
    let moved = with(&nonce, "MD5", "200", "secret").uri("sip:127.0.0.1");
    assert_eq!(world.register(&moved).status(), Some(400));
    assert_eq!(world.contacts(), []);
}

#[test]
fn a_probe_needs_no_credentials() {
    let mut world = world();
    let probe = world.request("OPTIONS");
    assert_eq!(world.ask(probe).status(), Some(200));
}
