//! The door's WebService, in front of those of servers in processes of their own.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use frontdoor::net::websocket::{CloseCode, CloseFrame, Message};
use frontdoor::ucsap::login::{ntlm_authenticate, ntlm_negotiate};
use frontdoor::ucserver::ClientSettings;
use serde_json::{Value, json};

use crate::harness::{Door, LOCALHOST, PATIENCE, Server, Setup, Web, free, get, soon};

pub(crate) const CREATE: &str = "/ws/client/createsession?clientappid=9";
pub(crate) const MONITOR: &str = "/ws/client/asnCtiLineMonitorStart";

/// Two servers that serve clients.
pub(crate) fn servers() -> Vec<Server> {
    let start = |name| Server::start_with(name, free(LOCALHOST), &["--clients", "127.0.0.1:0"]);
    ["ucs1", "ucs2"].map(start).into()
}

/// A door that knows that both are up.
pub(crate) fn door(setup: &Setup) -> Door {
    let door = setup.start();
    for name in ["ucs1", "ucs2"] {
        door.server_in(name, "up");
    }
    door
}

fn pool() -> (Vec<Server>, Door, Web) {
    let servers = servers();
    let door = door(&Setup::with(&servers));
    let web = Web::at(door.web.unwrap());
    (servers, door, web)
}

fn basic(user: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{}", ClientSettings::password_of(user))))
}

fn log_in(web: &Web, user: &str) -> String {
    web.get(CREATE, &[("authorization", &basic(user))]).session()
}

pub(crate) fn seen(server: &mut Server) -> Value {
    server.ask(&json!({"clients": {}}), "clients")
}

/// Somebody who may use ProCall Web: they belong to a server already.
pub(crate) fn assigned(door: &Door, user: &str) {
    let web = Web::at(door.web.unwrap());
    let session = log_in(&web, user);
    let ended = web.get(&format!("/ws/client/destroysession?ucsessionid={session}"), &[]);
    assert_eq!(ended.status, 200);
}

/// The server where somebody is logged in.
pub(crate) fn holder(servers: &mut [Server]) -> usize {
    let here = |server: &mut Server| seen(server)["logins"].as_u64() > Some(0);
    soon("somebody is logged in", || servers.iter_mut().position(here))
}

pub(crate) fn line_of(user: &str) -> Value {
    json!({"u8sLinePhoneNumber": ClientSettings::line_of(user)})
}

fn invoke(id: i64, operation: &str, argument: &Value) -> String {
    json!({"invoke": {
        "invokeID": id, "operationID": 0, "operationName": operation, "argument": argument,
    }})
    .to_string()
}

#[test]
fn a_session_and_its_web_socket_outlive_their_server() {
    let (mut servers, _door, web) = pool();
    let session = log_in(&web, "anna");
    let named = [("x-ucsessionid", &*session)];
    let mut events = web.events(&session);
    let granted = web.ask("POST", MONITOR, &named, line_of("anna").to_string());
    assert_eq!(granted.status, 200, "{granted:?}");
    let cross_ref = granted.json()["u8sMonitorCrossRefID"].clone();
    let home = holder(&mut servers);
    let ring = json!({"ring": {"line": ClientSettings::line_of("anna"), "number": "+4970"}});
    servers[home].ask(&ring, "rung");
    let event = events.hear();
    assert_eq!(event["invoke"]["argument"]["u8sMonitorCrossRefID"], cross_ref);
    servers[home].kill();
    let other = 1 - home;
    soon("it is watched there", || (seen(&mut servers[other])["monitors"] == 1).then_some(()));
    // The call was the dead server's: it is over.
    assert_eq!(events.hear()["invoke"]["argument"]["u8sMonitorCrossRefID"], cross_ref);
    servers[other].ask(&ring, "rung");
    let event = events.hear();
    assert_eq!(event["invoke"]["argument"]["u8sMonitorCrossRefID"], cross_ref);
    // Calls and messages under the same name, with the same reference.
    let asked = web.ask("POST", "/ws/client/asnGetLoggedInContactV2", &named, "{}");
    assert_eq!(asked.status, 200);
    events.say(&invoke(7, "asnCtiLineMonitorStop", &json!({"u8sMonitorCrossRefID": cross_ref})));
    assert_eq!(events.hear()["result"]["invokeID"], 7);
    assert_eq!(seen(&mut servers[other])["monitors"], 0);
}

#[test]
fn every_form_of_credentials_opens_a_session_and_says_whose_it_is() {
    let (mut servers, door, web) = pool();
    let until = std::time::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    let token = ClientSettings::jwt("anna", until);
    let query = format!("{CREATE}&user=anna&pass={}", ClientSettings::password_of("anna"));
    let bearer = format!("Bearer {token}");
    let first = basic("anna");
    for reply in [
        web.get(CREATE, &[("authorization", &first)]),
        web.ask(
            "POST",
            CREATE,
            &[("authorization", &first)],
            r#"{"negotiate":{"iClientProtocolVersion":70}}"#,
        ),
        web.get(CREATE, &[("authorization", &bearer)]),
        web.get(CREATE, &[("x-uctoken", &token)]),
        web.get(&format!("{CREATE}&token={token}"), &[]),
        web.get(&query, &[]),
    ] {
        let session = reply.session();
        let ended = web.get(&format!("/ws/client/destroysession?ucsessionid={session}"), &[]);
        assert_eq!(ended.status, 200);
    }
    // NTLM: two steps of one exchange.
    let step = |octets: &[u8]| format!("NTLM {}", STANDARD.encode(octets));
    let asked = web.get(CREATE, &[("authorization", &step(&ntlm_negotiate())), ("x-epid", "e1")]);
    assert_eq!(asked.status, 401, "{asked:?}");
    assert!(asked.header("www-authenticate")[0].starts_with("NTLM "));
    let last = step(&ntlm_authenticate("anna", "EXAMPLE"));
    let mut reply = web.get(CREATE, &[("authorization", &last), ("x-epid", "e1")]);
    if reply.status == 401 {
        // It was learned only now where anna belongs.
        web.get(CREATE, &[("authorization", &step(&ntlm_negotiate())), ("x-epid", "e1")]);
        reply = web.get(CREATE, &[("authorization", &last), ("x-epid", "e1")]);
    }
    reply.session();
    let (_, user) = get(door.admin, "/v1/users/anna").unwrap();
    let user: Value = serde_json::from_str(&user).unwrap();
    assert_eq!(user["sessions"].as_array().unwrap().len(), 1, "the others have ended: {user}");
    assert_eq!(holder(&mut servers), usize::from(user["current"] == "ucs2"));
    // Refusals come as the server writes them.
    let wrong = format!("Basic {}", STANDARD.encode("anna:guess"));
    let refused = web.get(CREATE, &[("authorization", &wrong)]);
    assert!(refused.status == 401 && refused.header("www-authenticate")[0].starts_with("Basic"));
    let refused = web.get(CREATE, &[("authorization", &wrong), ("x-no401", "1")]);
    assert_eq!((refused.status, &refused.json()["error"]["iErrorDetail"]), (400, &json!(101)));
    let refused = web.get(CREATE, &[("authorization", "Basic ***")]);
    assert_eq!(refused.status, 400);
}

#[test]
fn what_is_no_session_is_none_and_nobody_uses_anothers() {
    let (_servers, _door, web) = pool();
    let session = log_in(&web, "anna");
    let guess = "0123456789ABCDEF0123456789ABCDEF";
    for named in [&[][..], &[("x-ucsessionid", guess)]] {
        let refused = web.ask("POST", "/ws/client/asnGetLoggedInContactV2", named, "{}");
        assert_eq!(
            (refused.status, &refused.json()["reject"]["reject"]["invokeProblem"]),
            (400, &json!(8))
        );
    }
    assert_eq!(web.socket("/ws/client/websocket").err(), Some(400));
    let path = format!("/ws/client/websocket?x-ucsessionid={guess}");
    assert_eq!(web.socket(&path).err(), Some(400));
    // A second WebSocket takes the place of the first.
    let mut first = web.events(&session);
    let mut second = web.socket(&format!("/ws/client/websocket/?x-ucsessionid={session}")).unwrap();
    second.say(&invoke(3, "asnGetLoggedInContactV2", &json!({})));
    assert_eq!(second.hear()["result"]["invokeID"], 3);
    assert!(first.code().is_none());
    let ended = web.get(&format!("/ws/client/destroysession?ucsessionid={session}"), &[]);
    assert_eq!(ended.status, 200);
    assert!(second.code().is_none(), "it ends with its session");
    assert_eq!(web.get(&format!("/ws/client/asnX?ucsessionid={session}"), &[]).status, 400);
}

#[test]
fn a_client_that_says_goodbye_is_told_so_too_and_its_session_goes_on() {
    let (_servers, _door, web) = pool();
    let session = log_in(&web, "anna");
    let mut events = web.events(&session);
    events.say(&invoke(1, "asnGetLoggedInContactV2", &json!({})));
    assert_eq!(events.hear()["result"]["invokeID"], 1);
    let goodbye = CloseFrame { code: CloseCode::Normal, reason: "done".into() };
    events.send(Message::Close(Some(goodbye)));
    assert_eq!(events.code(), Some(1_000));
    let mut events = web.events(&session);
    events.say(&invoke(2, "asnGetLoggedInContactV2", &json!({})));
    assert_eq!(events.hear()["result"]["invokeID"], 2);
}

#[test]
fn calls_pass_as_they_are_and_errors_come_back_as_they_are() {
    let (_servers, _door, web) = pool();
    let session = log_in(&web, "anna");
    let named = [("x-ucsessionid", &*session), ("origin", "http://elsewhere.example")];
    let path = "/ws/client/asnGetUserTokenV2?iType=1";
    let token = web.get(path, &named);
    assert!(token.json()["sToken"].is_string());
    assert_eq!(token.header("access-control-allow-origin"), ["http://elsewhere.example"]);
    let script = web.get(&format!("{path}&callback=take&ucsessionid={session}"), &[]);
    assert!(script.body.starts_with(b"take({") && script.body.ends_with(b");"), "{script:?}");
    let refused =
        web.ask("POST", MONITOR, &named, json!({"u8sLinePhoneNumber": "sip:x"}).to_string());
    assert_eq!(
        (refused.status, &refused.json()["error"]["_type"]),
        (400, &json!("AsnRequestError"))
    );
    let shown = refused.json()["sessionID"].clone();
    assert!(shown == json!(session) || shown == json!(""), "no other name than its own: {shown}");
    assert_eq!(web.ask("POST", MONITOR, &named, "{").status, 400);
    let unknown = web.ask("POST", "/ws/client/asnNobodyKnowsThis", &named, "{}");
    assert_eq!(unknown.status, 400);
    // Without a session.
    let direct =
        web.get("/ws/direct/asnGetUserTokenV2?iType=1", &[("authorization", &basic("anna"))]);
    assert!(direct.json()["sToken"].is_string());
    // Which WebService: this one.
    let controller = web.get("/controller/client/ucws?ucsid=local", &[]);
    assert_eq!(controller.json(), json!({"redirect": format!("http://{}", web.address)}));
    assert_eq!(controller.header("content-length"), [controller.body.len().to_string()]);
}

#[test]
fn the_rest_streams_through_and_says_where_it_came_from() {
    let (_servers, door, web) = pool();
    assert_eq!(web.get("/ws/public/contacts?ucsid=local", &[]).json(), json!({"contacts": {}}));
    let octets = 8 * 1024 * 1024;
    let big = web.get(&format!("/procall/big?octets={octets}"), &[]);
    assert_eq!((big.status, big.body.len()), (200, octets));
    let lied = [("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=203.0.113.9")];
    let sent = vec![b'x'; 3 * 1024 * 1024];
    let echo = web.ask("POST", "/procall/echo", &lied, sent.clone());
    assert_eq!((echo.status, echo.body == sent), (200, true));
    assert_eq!(echo.header("x-echo-x-forwarded-for"), ["127.0.0.1"]);
    assert_eq!(echo.header("x-echo-x-forwarded-proto"), ["http"]);
    let host = web.address.to_string();
    assert_eq!(echo.header("x-echo-x-forwarded-host"), [&host]);
    assert_eq!(echo.header("x-echo-host"), [&host]);
    assert!(echo.header("x-echo-forwarded")[0].starts_with("for=127.0.0.1;proto=http;host="));
    let mut socket = web.socket("/procall/socket").unwrap();
    socket.say("hello");
    assert_eq!(socket.next(), Some(Message::Text("hello".into())));
    soon("it is counted", || {
        let (_, metrics) = get(door.admin, "/metrics").unwrap();
        let counted =
            metrics.lines().find(|line| line.starts_with("frontdoor_net_web_streamed_total "))?;
        counted.ends_with(" 4").then_some(())
    });
    assert_eq!(web.ask("TRACE", "/", &[], "").status, 405);
}

#[test]
fn what_names_a_session_goes_to_its_server_under_the_name_it_has_there() {
    let (mut servers, _door, web) = pool();
    for user in ["anna", "bert", "cleo", "dora"] {
        let session = log_in(&web, user);
        let named = [("x-ucsessionid", &*session)];
        let home = holder(&mut servers);
        let echo = web.ask("POST", "/procall/echo", &named, "");
        let theirs = echo.header("x-echo-x-ucsessionid")[0].to_owned();
        assert_ne!(theirs, session, "nobody is told the door's name for it");
        let there = Web::at(servers[home].web.unwrap());
        let asked = there.ask(
            "POST",
            "/ws/client/asnGetLoggedInContactV2",
            &[("x-ucsessionid", &theirs)],
            "{}",
        );
        assert_eq!(asked.status, 200, "{user}: it is the name it has there");
        assert_eq!(web.get("/ws/client/destroysession", &named).status, 200);
        soon("it is over there", || (seen(&mut servers[home])["logins"] == 0).then_some(()));
    }
}

#[test]
fn a_client_that_goes_before_its_session_is_there_leaves_none_behind() {
    let (mut servers, _door, web) = pool();
    servers.iter_mut().for_each(|server| server.mood("slow:800"));
    for _ in 0..4 {
        let mut stream = TcpStream::connect(web.address).unwrap();
        let (shown, host) = (basic("anna"), web.address);
        let request =
            format!("GET {CREATE} HTTP/1.1\r\nHost: {host}\r\nAuthorization: {shown}\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        // Its server is asked by then, and has not answered.
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        assert!(stream.read(&mut [0]).is_err());
    }
    let let_in = |server: &mut Server| seen(server)["logins_ever"].as_u64().unwrap();
    soon("all were let in", || (servers.iter_mut().map(let_in).sum::<u64>() == 4).then_some(()));
    for server in &mut servers {
        soon("nobody is logged in", || (seen(server)["logins"] == 0).then_some(()));
    }
}

#[test]
fn what_only_looks_like_a_route_of_the_web_service_reaches_no_server() {
    let (_servers, _door, web) = pool();
    let shown = basic("anna");
    for path in [
        "/ws/client//createsession",
        "/WS/Client/createsession",
        "/ws/client/%63reatesession",
        "/ws/client/createsession;x",
        "/procall/../ws/client/createsession",
    ] {
        assert_eq!(web.get(path, &[("authorization", &shown)]).status, 404, "{path}");
    }
    let put = web.ask("PUT", CREATE, &[("authorization", &shown)], "");
    assert_eq!(put.status, 405);
    let twice = web.get(&format!("{CREATE}&user=bert"), &[("authorization", &shown)]);
    assert_eq!(twice.status, 400, "it is not clear who it is");
}

#[test]
fn what_nobody_answers_is_done_with_at_once_and_goodbye_ends_the_session() {
    let (mut servers, _door, web) = pool();
    let session = log_in(&web, "anna");
    let named = [("x-ucsessionid", &*session)];
    let home = holder(&mut servers);
    for sign in ["asnTransportKeepAlive", "asnKeepAlive"] {
        let answer = web.ask("POST", &format!("/ws/client/{sign}"), &named, "{}");
        assert_eq!((answer.status, &answer.body[..]), (200, &b"{}"[..]), "{sign}");
    }
    // Refusals of the door's own are scripts for whoever wants one.
    let script = web.get("/controller/client/ucws?callback=take", &[]);
    assert!(script.body.starts_with(b"take({\"redirect\""), "{script:?}");
    let script = web.get("/ws/client/asnX?jsonp=take", &[]);
    assert!(script.status == 200 && script.body.starts_with(b"take({\"reject\""), "{script:?}");
    assert_eq!(web.get("/ws/client/asnLogoff", &named).status, 200);
    soon("nobody is logged in", || (seen(&mut servers[home])["logins"] == 0).then_some(()));
    assert_eq!(web.ask("POST", "/ws/client/asnKeepAlive", &named, "{}").status, 400);
}

#[test]
fn whoever_names_a_server_of_the_pool_is_served_where_their_user_is() {
    let (mut servers, _door, web) = pool();
    for user in ["anna", "bert", "cleo"] {
        for ucsid in ["ucs1", "ucs2", "local"] {
            let shown = [("authorization", &*basic(user)), ("x-ucsid", ucsid)];
            let session = web.get(CREATE, &shown).session();
            let called = format!("/ws/client/asnGetLoggedInContactV2?ucsid={ucsid}");
            let named = [("x-ucsessionid", &*session), ("x-ucsid", ucsid)];
            assert_eq!(web.ask("POST", &called, &named, "{}").status, 200, "{user} {ucsid}");
            let public = web.get(&format!("/ws/public/contacts?ucsid={ucsid}"), &[]);
            assert_eq!(public.status, 200, "{ucsid}");
            web.get("/ws/client/destroysession", &named);
        }
    }
    let elsewhere = [("authorization", &*basic("anna")), ("x-ucsid", "nobodys")];
    let refused = web.get(CREATE, &elsewhere);
    assert_eq!((refused.status, &refused.json()["error"]["iErrorDetail"]), (502, &json!(119)));
    let nobody = |server: &mut Server| (seen(server)["logins"] == 0).then_some(());
    servers.iter_mut().for_each(|server| soon("nobody is left behind", || nobody(server)));
}

/// Sends octets as they are; what comes until the end.
fn raw(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = Vec::new();
    // A reset ends it as well.
    let _ended = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

#[test]
fn what_is_not_http_as_it_should_be_reaches_no_server_and_no_neighbour() {
    let (_servers, _door, web) = pool();
    let session = log_in(&web, "anna");
    let host = web.address;
    for request in [
        // Lengths that two readers would take for different ones.
        format!(
            "POST /procall/echo HTTP/1.1\r\nHost: {host}\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!"
        ),
        format!("POST /procall/echo HTTP/1.1\r\nHost: {host}\r\nContent-Length: +5\r\n\r\nhello"),
        format!(
            "POST /procall/echo HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"
        ),
        format!(
            "POST /procall/echo HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n"
        ),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\nHost: elsewhere\r\nConnection: close\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: {host}\r\n folded: x\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost : {host}\r\n\r\n"),
        "GET /\0 HTTP/1.1\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}".to_owned() + &"x".repeat(200) + "\r\n\r\n",
    ] {
        let answer = raw(host, &request);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{request:?}: {answer}");
    }
    // Two lengths at once: the chunks count (RFC 9112 §6.1), for the server as well, and nothing that
    // follows is heard.
    let both = format!(
        "POST /procall/echo HTTP/1.1\r\nHost: {host}\r\nContent-Length: 60\r\n\
         Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    );
    let answer = raw(host, &both);
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    assert!(answer.contains("\r\nhi") && !answer.contains("smuggled"), "{answer}");
    let long = format!("GET /{} HTTP/1.1\r\nHost: {host}\r\n\r\n", "a".repeat(200_000));
    let answer = raw(host, &long);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    let opening = vec![b' '; 65 * 1024];
    assert_eq!(web.ask("POST", CREATE, &[("authorization", &basic("anna"))], opening).status, 413);
    // Messages that are none end their WebSocket, and nothing else.
    let nothing_but_brackets = "[".repeat(9_999_999);
    for text in ["hello", "{", "[]", "{\"invoke\":{}}", &nothing_but_brackets] {
        let mut socket = web.events(&session);
        // Of what is too long not everything is taken.
        socket.try_send(Message::Text(text.into()));
        assert!(socket.next().is_none_or(|it| matches!(it, Message::Close(_))), "{text:.20}");
    }
    let mut socket = web.events(&session);
    socket.send(Message::Binary(vec![0xA1, 0x80].into()));
    assert!(socket.next().is_none_or(|it| matches!(it, Message::Close(_))));
    let mut socket = web.events(&session);
    socket.say(&invoke(9, "asnGetLoggedInContactV2", &json!({})));
    assert_eq!(socket.hear()["result"]["invokeID"], 9);
}

/// Nothing that is shown by HTTP is in the most talkative log, on a page, or in the store.
#[test]
fn what_is_shown_by_http_stays_with_the_door() {
    let servers = servers();
    let mut door = door(Setup::with(&servers).table("log", "filter = \"trace\"\n"));
    let web = Web::at(door.web.unwrap());
    let until = std::time::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    let token = ClientSettings::jwt("canary", until);
    let (pair, password) = (basic("canary"), ClientSettings::password_of("canary"));
    let mut secrets = vec![token.clone(), pair.clone(), password.clone()];
    for reply in [
        web.get(CREATE, &[("authorization", &pair)]),
        web.get(&format!("{CREATE}&token={token}"), &[]),
        web.get(&format!("{CREATE}&user=canary&pass={password}"), &[]),
    ] {
        let session = reply.session();
        let mut events = web.events(&session);
        events.say(&invoke(1, "asnGetLoggedInContactV2", &json!({})));
        events.hear();
        secrets.push(session);
    }
    web.get("/procall/echo?pass=canary5ec2e7", &[("authorization", "Basic Y2FuYXJ5NWVjMmU3")]);
    secrets.extend(["canary5ec2e7".to_owned(), "Y2FuYXJ5NWVjMmU3".to_owned()]);
    let mut pages = String::new();
    for path in ["/metrics", "/v1/status", "/v1/users", "/v1/users/canary"] {
        let (status, page) = get(door.admin, path).unwrap();
        pages.push_str(&format!("{status} {page}"));
    }
    assert!(pages.contains("canary"), "the user is known: {pages}");
    assert_eq!(door.terminate(), Some(0));
    let mut places = vec![("log".to_owned(), door.log()), ("pages".to_owned(), pages)];
    for entry in std::fs::read_dir(door.directory.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            let octets = std::fs::read(&path).unwrap();
            places.push((path.display().to_string(), String::from_utf8_lossy(&octets).into()));
        }
    }
    for secret in secrets {
        for (place, text) in &places {
            assert!(!text.contains(&secret), "{secret} is in {place}");
        }
    }
}
