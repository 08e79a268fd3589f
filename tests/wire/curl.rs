//! curl against the door's WebService: every route, as a program that knows nothing of doors asks for it.

use std::time::{Duration, UNIX_EPOCH};

use frontdoor::ucserver::ClientSettings;
use serde_json::{Value, json};

use crate::harness::{Curl, Door, Fetched, Secret, Server, Setup};
use crate::web::{CREATE, MONITOR, door, holder, line_of, seen, servers};

const CONTACT: &str = "/ws/client/asnGetLoggedInContactV2";
const TOKEN: &str = "asnGetUserTokenV2?iType=1";
const ELSEWHERE: &str = "http://elsewhere.example";

fn pool() -> (Vec<Server>, Door, Curl) {
    let servers = servers();
    let door = door(&Setup::with(&servers));
    let curl = Curl::of(door.web.unwrap());
    (servers, door, curl)
}

fn user_and_password(user: &str) -> String {
    format!("{user}:{}", ClientSettings::password_of(user))
}

fn log_in(curl: &Curl, user: &str) -> String {
    curl.ask(CREATE, &["--user", &user_and_password(user)]).session()
}

fn jwt(user: &str) -> String {
    ClientSettings::jwt(user, UNIX_EPOCH + Duration::from_secs(4_000_000_000))
}

/// Who the session's user is, as its server says.
fn whose(curl: &Curl, session: &str) -> Value {
    let named = format!("X-ucsessionid: {session}");
    curl.ask(CONTACT, &["--header", &named]).json()["u8sLoggedInUser"].clone()
}

#[test]
fn curl_is_sent_to_the_door_and_opens_sessions_by_all_it_can_show() {
    let (_servers, _door, curl) = pool();
    for options in [&[][..], &["--http1.1"], &["--http2"], &["--data", ""]] {
        let controller = curl.ask("/controller/client/ucws?ucsid=local", options);
        assert_eq!((controller.status, &*controller.version), (200, "1.1"));
        assert_eq!(controller.json(), json!({"redirect": curl.base()}));
        assert_eq!(controller.header("content-length"), [controller.body.len().to_string()]);
    }
    let (pair, password) = (user_and_password("anna"), ClientSettings::password_of("anna"));
    let in_query = format!("{CREATE}&user=anna&pass={password}");
    let bearer = ["--oauth2-bearer", &jwt("anna")];
    let token = format!("x-uctoken: {}", jwt("anna"));
    let negotiate = r#"{"negotiate":{"iClientProtocolVersion":70}}"#;
    for (path, options) in [
        (CREATE, &["--user", &*pair][..]),
        (CREATE, &["--user", &pair, "--data", negotiate, "--header", "X-ucsid: local"]),
        (CREATE, &bearer),
        (CREATE, &["--header", &token]),
        (&in_query, &[]),
    ] {
        let session = curl.ask(path, options).session();
        assert_eq!(whose(&curl, &session), "anna");
        let end = format!("/ws/client/destroysession?ucsessionid={session}");
        assert_eq!(curl.ask(&end, &[]).status, 200);
        assert_eq!(whose(&curl, &session), Value::Null);
    }
}

#[test]
fn curl_is_told_how_to_show_who_it_is() {
    let (_servers, _door, curl) = pool();
    let nobody = curl.ask(CREATE, &[]);
    assert_eq!((nobody.status, nobody.header("www-authenticate").len()), (401, 3), "{nobody:?}");
    let wrong = curl.ask(CREATE, &["--user", "anna:guess"]);
    assert_eq!((wrong.status, wrong.header("www-authenticate").len()), (401, 1), "{wrong:?}");
    assert!(wrong.header("www-authenticate")[0].starts_with("Basic"));
    let quiet = curl.ask(CREATE, &["--user", "anna:guess", "--header", "X-no401: 1"]);
    assert_eq!((quiet.status, &quiet.json()["error"]["iErrorDetail"]), (400, &json!(101)));
    let quiet = curl.ask(&format!("{CREATE}&user=anna&pass=guess"), &[]);
    assert_eq!(quiet.status, 400);
    // Users of ProCall Web are assigned to their servers, and nobody is by logging in there.
    let procall_web = "/ws/client/createsession?clientappid=15";
    let pair = user_and_password("anna");
    let unassigned = curl.ask(procall_web, &["--user", &pair]);
    assert_eq!(
        (unassigned.status, &unassigned.json()["error"]["iErrorDetail"]),
        (400, &json!(107))
    );
    log_in(&curl, "anna");
    curl.ask(procall_web, &["--user", &pair]).session();
}

#[test]
fn curl_opens_sessions_by_ntlm_step_by_step() {
    let (_servers, _door, curl) = pool();
    log_in(&curl, "anna");
    let pair = user_and_password("anna");
    let ask = || curl.ask(CREATE, &["--ntlm", "--user", &pair, "--header", "x-epid: e1"]);
    let mut first = ask();
    if first.status == 401 {
        // Only its last step told who it is, and another server's challenge is worth nothing at theirs.
        first = ask();
    }
    // From now on it is known whose device this is.
    for reply in [first, ask()] {
        assert_eq!(whose(&curl, &reply.session()), "anna");
    }
}

#[test]
fn curl_calls_by_get_and_by_post_as_a_script_and_from_another_origin() {
    let (_servers, _door, curl) = pool();
    let session = log_in(&curl, "anna");
    let named = format!("X-ucsessionid: {session}");
    let origin = format!("Origin: {ELSEWHERE}");
    let got = curl.ask(&format!("/ws/client/{TOKEN}"), &["--header", &named]);
    assert!(got.status == 200 && got.json()["sToken"].is_string(), "{got:?}");
    let line = line_of("anna").to_string();
    let posted = curl.ask(MONITOR, &["--header", &named, "--header", &origin, "--json", &line]);
    assert!(posted.json()["u8sMonitorCrossRefID"].is_string(), "{posted:?}");
    assert_eq!(posted.header("access-control-allow-origin"), [ELSEWHERE]);
    let script = curl.ask(&format!("/ws/client/{TOKEN}&callback=take&ucsessionid={session}"), &[]);
    assert!(script.body.starts_with(b"take({") && script.body.ends_with(b");"), "{script:?}");
    assert!(script.header("content-type")[0].starts_with("application/javascript"));
    let nowhere = json!({"u8sLinePhoneNumber": "sip:x"}).to_string();
    let refused = curl.ask(MONITOR, &["--header", &named, "--data", &nowhere]);
    assert_eq!((refused.status, &refused.json()["sessionID"]), (400, &json!(session)));
    assert_eq!(refused.json()["error"]["_type"], "AsnRequestError");
    let unread = curl.ask(MONITOR, &["--header", &named, "--data", "{}"]);
    assert_eq!((unread.status, &unread.json()["reject"]["sessionID"]), (400, &json!(session)));
    // Whoever is refused may read why, too.
    let refused = curl.ask(CONTACT, &["--header", &origin]);
    assert_eq!(refused.status, 400);
    assert_eq!(refused.header("access-control-allow-origin"), [ELSEWHERE]);
    // What a browser asks before it dares, a server answers.
    let wish = "Access-Control-Request-Headers: authorization,x-ucsessionid";
    let options = ["--request", "OPTIONS", "--header", &origin, "--header", wish];
    let preflight = curl.ask(
        CREATE,
        &[&options[..], &["--header", "Access-Control-Request-Method: POST"]].concat(),
    );
    assert_eq!(preflight.status, 204);
    assert_eq!(preflight.header("access-control-allow-origin"), [ELSEWHERE]);
    let allowed = preflight.header("access-control-allow-headers").join(",").to_ascii_lowercase();
    assert!(allowed.contains("authorization") && allowed.contains("x-ucsessionid"), "{allowed}");
    // Without a session.
    let direct = curl.ask(&format!("/ws/direct/{TOKEN}"), &["--user", &user_and_password("anna")]);
    assert!(direct.json()["sToken"].is_string(), "{direct:?}");
    let public = curl.ask("/ws/public/contacts?ucsid=local", &["--header", &origin]);
    assert_eq!(public.json(), json!({"contacts": {}}));
}

#[test]
fn curl_reads_and_sends_what_is_big_as_it_comes() {
    let (servers, _door, curl) = pool();
    let page = curl.ask("/", &[]);
    let names = servers.iter().any(|it| String::from_utf8_lossy(&page.body).contains(&it.name));
    assert!(page.status == 200 && names, "{page:?}");
    let octets = 16 * 1024 * 1024;
    for options in [&["--http1.1"][..], &["--http2"], &["--http1.0"], &["--compressed"]] {
        let big = curl.ask(&format!("/procall/big?octets={octets}"), options);
        assert_eq!((big.status, big.body.len()), (200, octets), "{options:?}");
        let is_right = |(at, octet): (usize, &u8)| usize::from(*octet) == at % 251;
        assert!(big.body.iter().enumerate().all(is_right), "{options:?}");
    }
    // One that is read slowly, and not to its end.
    let slow = ["--limit-rate", "100k", "--max-time", "1"];
    let left = curl.try_ask("/procall/big?octets=67108864", &slow);
    assert_eq!(left.unwrap_err().0, Some(28), "it was out of time");
    let files = tempfile::tempdir().unwrap();
    let file = files.path().join("sent");
    let sent: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 253) as u8).collect();
    std::fs::write(&file, &sent).unwrap();
    let file = format!("@{}", file.display());
    // With its length, by request of a 100 first, and in pieces.
    for header in ["x-none: 1", "Expect: 100-continue", "Transfer-Encoding: chunked"] {
        let echo = curl.ask("/procall/echo", &["--header", header, "--data-binary", &file]);
        assert_eq!((echo.status, echo.body == sent), (200, true), "{header}");
        assert_eq!(echo.header("x-echo-x-forwarded-for"), ["127.0.0.1"]);
    }
    let head = curl.ask("/", &["--head"]);
    assert!(head.body.len() < 2_000 && head.status > 0, "{head:?}");
}

#[test]
fn curl_goes_on_with_its_session_when_its_server_is_killed() {
    let (mut servers, _door, curl) = pool();
    let session = log_in(&curl, "anna");
    let named = format!("X-ucsessionid: {session}");
    let line = line_of("anna").to_string();
    let watched = curl.ask(MONITOR, &["--header", &named, "--data", &line]);
    assert_eq!(watched.status, 200, "{watched:?}");
    let home = holder(&mut servers);
    servers[home].kill();
    // Nobody has to wait until the door knows, and nobody has to ask twice.
    assert_eq!(whose(&curl, &session), "anna");
    let other = 1 - home;
    assert_eq!(seen(&mut servers[other])["monitors"], 1);
    let direct = curl.ask(&format!("/ws/direct/{TOKEN}"), &["--user", &user_and_password("anna")]);
    assert!(direct.json()["sToken"].is_string(), "{direct:?}");
    let page = curl.ask("/", &["--retry", "5"]);
    assert!(String::from_utf8_lossy(&page.body).contains(&servers[other].name), "{page:?}");
    let again = log_in(&curl, "anna");
    assert_eq!(whose(&curl, &again), "anna");
}

#[test]
fn curl_trusts_the_certificate_of_the_door_and_nothing_less() {
    let (servers, secret) = (servers(), Secret::of(&["door.example"]));
    let door = door(Setup::with(&servers).secured(&secret));
    let web = door.web_tls.unwrap();
    let curl = Curl::trusting(&secret, "door.example", web);
    for options in [&["--http1.1"][..], &["--http2"], &["--tls-max", "1.2"], &["--tlsv1.3"]] {
        let controller = curl.ask("/controller/client/ucws?ucsid=local", options);
        assert_eq!((controller.status, &*controller.version), (200, "1.1"), "{options:?}");
        assert_eq!(controller.json(), json!({"redirect": curl.base()}));
    }
    let session = log_in(&curl, "anna");
    assert_eq!(whose(&curl, &session), "anna");
    let octets = 8 * 1024 * 1024;
    let big: Fetched = curl.ask(&format!("/procall/big?octets={octets}"), &[]);
    assert_eq!((big.status, big.body.len()), (200, octets));
    let echo = curl.ask("/procall/echo", &["--data", "hello"]);
    assert_eq!(echo.header("x-echo-x-forwarded-proto"), ["https"]);
    // The session is the same on both entrances.
    assert_eq!(whose(&Curl::of(door.web.unwrap()), &session), "anna");
    let stranger = Secret::of(&["door.example"]);
    let refused = Curl::trusting(&stranger, "door.example", web).try_ask("/", &[]);
    assert_eq!(refused.unwrap_err().0, Some(60), "the peer cannot be authenticated");
    let refused = Curl::trusting(&secret, "other.example", web).try_ask("/", &[]);
    assert_eq!(refused.unwrap_err().0, Some(60), "it is for another name");
}
