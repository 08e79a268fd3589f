//! The WebService of a simulated UCServer in a process of its own, as browsers and programs meet it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use frontdoor::net::websocket::Message;
use frontdoor::ucsap::Encoding;
use frontdoor::ucsap::login::{ntlm_authenticate, ntlm_negotiate};
use frontdoor::ucserver::ClientSettings;
use serde_json::{Value, json};

use crate::harness::{Client, Line, Server, Web, soon};

const ANY: &str = "127.0.0.1:0";
const CREATE: &str = "/ws/client/createsession?clientappid=15";
const CONTACT: &str = "/ws/client/asnGetLoggedInContactV2";

/// Long enough for an answer that comes, short enough to wait for one that does not.
const A_WHILE: Duration = Duration::from_millis(300);

fn start(arguments: &[&str]) -> (Server, Web) {
    let sip: SocketAddr = ANY.parse().unwrap();
    let server = Server::start_with("ucs", sip, &[&["--clients", ANY], arguments].concat());
    let web = Web::at(server.web.unwrap());
    (server, web)
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

fn ntlm(step: &[u8]) -> String {
    format!("NTLM {}", STANDARD.encode(step))
}

fn seen(server: &mut Server) -> Value {
    server.ask(&json!({"clients": {}}), "clients")
}

fn invoke(id: i64, operation: &str, argument: &Value) -> String {
    json!({"invoke": {
        "invokeID": id,
        "operationID": 0,
        "operationName": operation,
        "argument": argument,
    }})
    .to_string()
}

#[test]
fn the_controller_sends_everybody_to_the_host_they_asked() {
    let (_server, web) = start(&[]);
    let path = "/controller/client/ucws?ucsid=local";
    for method in ["GET", "POST"] {
        let reply = web.ask(method, path, &[], "");
        assert_eq!(reply.json(), json!({"redirect": format!("http://{}", web.address)}));
        assert_eq!(reply.header("content-length"), [reply.body.len().to_string()]);
    }
    assert_eq!(web.get("/controller/client/ucws?ucsid=ucs", &[]).status, 200);
    assert_eq!(web.get("/controller/client/ucws?ucsid=other", &[]).status, 502);
}

#[test]
fn every_way_to_show_who_one_is_opens_a_session() {
    let (mut server, web) = start(&[]);
    let session = web.log_in("anna");
    assert_eq!(session.len(), 32);
    assert!(session.bytes().all(|it| matches!(it, b'0'..=b'9' | b'A'..=b'F')), "{session}");
    let path = "/ws/client/asnGetUserTokenV2?iType=1";
    let token = web.get(path, &[("X-ucsessionid", &session)]).json();
    let token = token["sToken"].as_str().unwrap();
    let until = UNIX_EPOCH + Duration::from_secs(4_000_000_000);
    let bearer = |token: &str| format!("Bearer {token}");
    let mut sessions = vec![
        web.get(CREATE, &[("authorization", &basic("anna", "pw-anna"))]).session(),
        web.get(CREATE, &[("authorization", &bearer(token))]).session(),
        web.get(CREATE, &[("authorization", &bearer(&ClientSettings::jwt("anna", until)))])
            .session(),
        web.get(CREATE, &[("authorization", &format!("Negotiate {}", STANDARD.encode("anna")))])
            .session(),
        web.get(CREATE, &[("x-uctoken", token)]).session(),
        web.get(&format!("{CREATE}&token={token}"), &[]).session(),
        web.get("/ws/client/createsession?user=anna&pass=pw%2Danna", &[]).session(),
        web.ask(
            "POST",
            CREATE,
            &[("authorization", &basic("anna", "pw-anna")), ("X-ucsid", "local")],
            r#"{"negotiate": {"iClientProtocolVersion": 70, "u8sClientVersion": "2603.0"}}"#,
        )
        .session(),
        session,
    ];
    for session in &sessions {
        let contact = web.get(CONTACT, &[("X-ucsessionid", session)]);
        assert_eq!(contact.json()["u8sLoggedInUser"], "anna");
    }
    assert_eq!(server.told("logged_in")[0]["user"], "anna");
    sessions.sort();
    sessions.dedup();
    let seen = seen(&mut server);
    assert_eq!((sessions.len(), &seen["logins"], &seen["users"]), (9, &json!(9), &json!(1)));
    assert_eq!((&seen["connections"], &seen["web_sessions"]), (&json!(9), &json!(9)));
}

#[test]
fn whoever_is_not_let_in_is_told_how_they_may_be() {
    let (_server, web) = start(&[]);
    let wrong = basic("anna", "wrong");
    let nobody = web.get(CREATE, &[]);
    let all = ["Basic realm=\"UCServer\"", "NTLM", "Negotiate"];
    assert_eq!((nobody.status, nobody.header("www-authenticate")), (401, all.to_vec()));
    for shown in [&*wrong, "Basic !", "Digest x", "Bearer no-such-token"] {
        let refused = web.get(CREATE, &[("authorization", shown)]);
        let offered = refused.header("www-authenticate");
        assert_eq!((refused.status, offered), (401, all[..1].to_vec()), "{shown}");
    }
    let quiet = [
        web.get(CREATE, &[("authorization", &wrong), ("X-no401", "1")]),
        web.get(&format!("{CREATE}&no401"), &[("authorization", &wrong)]),
        web.get(&format!("{CREATE}&no401"), &[]),
        web.get(&format!("{CREATE}&user=anna&pass=wrong"), &[]),
        web.get(&format!("{CREATE}&user=anna"), &[]),
        web.get(&format!("{CREATE}&token=no-such-token"), &[]),
        web.get(CREATE, &[("x-uctoken", "no-such-token")]),
    ];
    for refused in quiet {
        assert_eq!((refused.status, refused.header("www-authenticate").len()), (400, 0));
        let whole = refused.json();
        let error = &whole["error"];
        assert_eq!(
            (&error["_type"], &error["iErrorDetail"]),
            (&"AsnLogonError".into(), &101.into())
        );
        assert_eq!((&error["sAuthCredetials"], &error["u8sFailedUser"]), (&"".into(), &"".into()));
        assert!(error["u8sErrorString"].is_string());
        assert_eq!(whole["error_value"], 0);
        assert!(whole["invokedID"].as_u64().is_some_and(|id| id > 0));
        assert_eq!(whole["sessionID"].as_str().unwrap().len(), 32);
        // Nobody can go on with it.
        let session = whole["sessionID"].as_str().unwrap();
        assert_eq!(web.get(CONTACT, &[("X-ucsessionid", session)]).status, 400);
    }
}

/// The blob that is to be answered.
fn challenge(line: &mut Line<'_>, headers: &[(&str, &str)], scheme: &str) -> Vec<u8> {
    let round = line.ask("GET", CREATE, headers, "");
    assert_eq!(round.status, 401);
    let [offer] = round.header("www-authenticate")[..] else { panic!("{round:?}") };
    let blob = offer.strip_prefix(&format!("{scheme} ")).unwrap();
    STANDARD.decode(blob).unwrap()
}

#[test]
fn ntlm_takes_two_rounds_that_are_tied_by_a_name_or_by_their_connection() {
    let (mut server, web) = start(&[]);
    let (first, second) = (ntlm(&ntlm_negotiate()), ntlm(&ntlm_authenticate("anna", "ACME")));
    // The same connection.
    let mut line = web.line();
    let blob = challenge(&mut line, &[("authorization", &first)], "NTLM");
    assert!(blob.starts_with(b"NTLMSSP\0\x02\0\0\0"));
    line.ask("GET", CREATE, &[("authorization", &second)], "").session();
    // The name, on another one; somebody else's name does not help.
    let named = |value| [("authorization", value), ("x-epid", "one")];
    challenge(&mut web.line(), &named(&first), "NTLM");
    let other = [("authorization", &*second), ("x-epid", "two")];
    assert_eq!(web.get(CREATE, &other).status, 401);
    web.get(CREATE, &named(&second)).session();
    assert_eq!(web.get(CREATE, &named(&second)).status, 401, "each step is good for once");
    // Another connection and no name; one that has gone.
    let mut line = web.line();
    challenge(&mut line, &[("authorization", &first)], "NTLM");
    assert_eq!(web.get(CREATE, &[("authorization", &second)]).status, 401);
    line.close();
    soon("nobody waits for the next round", || {
        (seen(&mut server)["connections"] == 2).then_some(())
    });
    // In the clothes of the other scheme.
    let dressed = |step: &[u8]| format!("Negotiate {}", STANDARD.encode(step));
    let mut line = web.line();
    let value = dressed(&ntlm_negotiate());
    challenge(&mut line, &[("authorization", &value)], "Negotiate");
    let value = dressed(&ntlm_authenticate("anna", ""));
    line.ask("GET", CREATE, &[("authorization", &value)], "").session();
}

#[test]
fn what_cannot_be_read_is_refused() {
    let (mut server, web) = start(&[]);
    let who = basic("anna", "pw-anna");
    for body in
        ["{", "[]", "1", "{\"negotiate\":70}", "{\"negotiate\":{\"iClientProtocolVersion\":61}}"]
    {
        let refused = web.ask("POST", CREATE, &[("authorization", &who)], body);
        assert_eq!(refused.status, 400, "{body}");
        assert_eq!(refused.json()["reject"]["reject"], json!({"invokeProblem": 2}), "{body}");
    }
    assert_eq!(
        web.get("/ws/client/createsession?clientappid=x", &[("authorization", &who)]).status,
        400
    );
    let much = vec![b' '; 1024 * 1024 + 1];
    assert_eq!(web.ask("POST", CREATE, &[("authorization", &who)], much).status, 413);
    let session = web.log_in("anna");
    let named = [("X-ucsessionid", session.as_str())];
    for body in ["{", "{}{}", "}}"] {
        assert_eq!(web.ask("POST", CONTACT, &named, body).status, 400, "{body}");
    }
    let reject = web.ask("POST", CONTACT, &named, "1").json();
    assert_eq!(reject["reject"]["reject"], json!({"invokeProblem": 2}));
    for path in ["/ws", "/ws/client/", "/ws/client/a/b", "/ws/client/%41", "/ws/x", "/x"] {
        assert_eq!(web.get(path, &named).status, 404, "{path}");
    }
    assert_eq!(web.ask("PUT", CREATE, &[], "").status, 405);
    assert_eq!(web.ask("PUT", CREATE, &[], "").header("allow"), ["GET, POST, OPTIONS"]);
    assert_eq!(seen(&mut server)["logins"], 1);
}

#[test]
fn a_server_says_when_it_is_not_the_one_that_is_wanted() {
    let (_server, web) = start(&[]);
    let who = basic("anna", "pw-anna");
    let wanted = json!({"error": {
        "_type": "WsError",
        "iErrorDetail": 119,
        "u8sErrorString": "UCServer is not connected here",
        "details": "server not connected here: [local1]",
    }});
    let header = web.get(CREATE, &[("authorization", &who), ("X-ucsid", "local1")]);
    let query = web.get(&format!("{CREATE}&ucsid=local1"), &[("authorization", &who)]);
    let public = web.get("/ws/public/contacts?ucsid=local1", &[]);
    for reply in [header, query, public] {
        assert_eq!((reply.status, reply.json()), (502, wanted.clone()));
    }
    web.get(CREATE, &[("authorization", &who), ("X-ucsid", "ucs")]).session();
    let public = web.get("/ws/public/contacts?ucsid=local", &[]);
    assert_eq!((public.status, public.json()), (200, json!({"contacts": {}})));
}

#[test]
fn a_strict_server_names_the_one_its_guests_belong_to() {
    let homes = ["--client-home", "anna=127.0.0.1:7229", "--client-home", "bert=unknown"];
    let (_server, web) = start(&[&homes[..], &["--mood", "strict_home"]].concat());
    let refused = |user: &str| {
        let reply = web.get(CREATE, &[("authorization", &basic(user, &format!("pw-{user}")))]);
        assert_eq!((reply.status, &reply.json()["error"]["iErrorDetail"]), (400, &json!(107)));
        reply.json()["error"]["u8sErrorString"].as_str().unwrap().to_owned()
    };
    assert!(refused("anna").contains("127.0.0.1:7229"));
    assert!(!refused("bert").contains("127.0.0.1"));
    web.log_in("cleo");
}

#[test]
fn a_server_that_is_busy_says_when_it_is_worth_another_try() {
    let (mut server, web) = start(&["--capacity", "1"]);
    let anna = web.log_in("anna");
    let bert = [("authorization", &*basic("bert", "pw-bert"))];
    for mood in ["healthy", "refusing"] {
        server.mood(mood);
        let busy = web.get(CREATE, &bert);
        assert_eq!((busy.status, busy.header("retry-after")), (502, vec!["5"]), "{mood}");
        assert_eq!(busy.json()["error"]["iErrorDetail"], 119);
    }
    let contact = || web.get(CONTACT, &[("X-ucsessionid", &anna)]);
    assert_eq!(contact().status, 400);
    server.mood("errors");
    let internal = web.get(CREATE, &bert);
    assert_eq!((internal.status, &internal.json()["error"]["iErrorDetail"]), (400, &json!(100)));
    server.mood("healthy");
    assert_eq!(contact().status, 200);
}

#[test]
fn a_call_is_answered_with_the_bare_result_and_an_error_with_what_is_around_it() {
    let (_server, web) = start(&[]);
    let session = web.log_in("anna");
    let named = [("X-ucsessionid", session.as_str())];
    let line = ClientSettings::line_of("anna");
    let body = json!({"u8sLinePhoneNumber": line}).to_string();
    let start = "/ws/client/asnCtiLineMonitorStart";
    let posted = web.ask("POST", start, &named, body);
    assert_eq!(posted.status, 200);
    assert!(posted.json()["u8sMonitorCrossRefID"].is_string());
    let escaped = line.replace('+', "%2B");
    let both = format!("{start}?u8sLinePhoneNumber={escaped}&ucsid=ucs&ucsessionid={session}");
    assert!(web.get(&both, &[]).json()["lineInfo"].is_object());
    let both = format!("{CONTACT}?x-ucsessionid={session}");
    assert_eq!(web.get(&both, &[]).json()["u8sLoggedInUser"], "anna");
    let error = web.get(&format!("{start}?u8sLinePhoneNumber=tel:1"), &named);
    let whole = error.json();
    assert_eq!((error.status, &whole["error"]["_type"]), (400, &json!("AsnRequestError")));
    assert_eq!((&whole["error"]["iErrorDetail"], &whole["error_value"]), (&json!(3), &json!(0)));
    assert_eq!(whole["sessionID"], *session);
    assert!(whole["invokedID"].as_u64().is_some_and(|id| id > 0));
    let reject = web.get("/ws/client/asnSomethingNew", &named);
    let whole = reject.json();
    assert_eq!((reject.status, &whole["reject"]["reject"]), (400, &json!({"invokeProblem": 1})));
    assert!(whole["reject"]["invokedID"]["invokedID"].as_u64().is_some_and(|id| id > 0));
    let kept = web.get("/ws/client/asnTransportKeepAlive", &named);
    assert_eq!((kept.status, kept.json()), (200, json!({})));
}

#[test]
fn a_session_ends_when_its_client_says_so() {
    let (mut server, web) = start(&[]);
    let unknown = |session: &str| {
        let reply = web.get(CONTACT, &[("X-ucsessionid", session)]);
        assert_eq!(reply.status, 400);
        let reject = &reply.json()["reject"];
        assert_eq!(reject["invokedID"], json!({"invokednull": 0}));
        assert_eq!(reject["reject"], json!({"invokeProblem": 8}));
    };
    let destroy = "/ws/client/destroysession";
    let session = web.log_in("anna");
    let mut socket = web.events(&session);
    assert_eq!(web.get(&format!("{destroy}?ucsessionid={session}"), &[]).status, 200);
    assert_eq!(socket.code(), Some(1000));
    unknown(&session);
    assert_eq!(web.get(&format!("{destroy}?ucsessionid={session}"), &[]).status, 400);
    let session = web.log_in("anna");
    assert_eq!(web.get(destroy, &[("X-ucsessionid", &session)]).status, 200);
    let session = web.log_in("anna");
    assert_eq!(web.get("/ws/client/asnLogoff", &[("X-ucsessionid", &session)]).status, 200);
    unknown(&session);
    let session = web.log_in("anna");
    let mut socket = web.events(&session);
    socket.say(&invoke(99_999, "asnLogoff", &json!({})));
    assert_eq!(socket.code(), Some(1000));
    unknown(&session);
    let lower = web.log_in("anna").to_ascii_lowercase();
    unknown(&lower);
    unknown("");
    assert_eq!(web.socket("/ws/client/websocket").err(), Some(400));
    assert_eq!(web.get("/ws/client/websocket", &[("X-ucsessionid", &lower)]).status, 426);
    let seen = seen(&mut server);
    assert_eq!((&seen["logins"], &seen["connections"]), (&json!(1), &json!(1)));
}

#[test]
fn a_call_may_bring_its_own_credentials_and_leaves_nothing() {
    let (mut server, web) = start(&[]);
    let path = "/ws/direct/asnGetUserTokenV2?user=anna&pass=pw-anna&ucsid=local&iType=1";
    let token = web.get(path, &[]).json();
    let contact = "/ws/direct/asnGetLoggedInContactV2";
    let shown = [("x-uctoken", token["sToken"].as_str().unwrap())];
    assert_eq!(web.ask("POST", contact, &shown, "{ }").json()["u8sLoggedInUser"], "anna");
    let reject = web.get("/ws/direct/asnSomethingNew?user=anna&pass=pw-anna", &[]);
    assert_eq!((reject.status, reject.json()["reject"].is_object()), (400, true));
    assert_eq!(web.get(contact, &[]).status, 401);
    assert_eq!(web.get(&format!("{contact}?user=anna&pass=x"), &[]).status, 400);
    let seen = seen(&mut server);
    assert_eq!((&seen["connections"], &seen["logins_ever"]), (&json!(0), &json!(3)));
}

#[test]
fn scripts_and_pages_of_other_origins_are_answered_as_browsers_want_it() {
    let (_server, web) = start(&[]);
    let script = web.get("/ws/public/contacts?callback=jQuery_1", &[]);
    assert_eq!((script.status, &*script.body), (200, &b"jQuery_1({\"contacts\":{}});"[..]));
    assert_eq!(script.header("content-type"), ["application/javascript;charset=utf-8"]);
    let refused = web.get(&format!("{CREATE}&jsonp=f"), &[]);
    assert_eq!((refused.status, refused.body.starts_with(b"f({\"error\":")), (200, true));
    assert_eq!(refused.header("www-authenticate").len(), 0);
    assert_eq!(web.get("/ws/public/contacts?callback=a.b", &[]).status, 400);
    let origin = [("Origin", "http://page.example")];
    for reply in [web.get(CREATE, &origin), web.ask("OPTIONS", CREATE, &origin, "")] {
        assert_eq!(reply.header("access-control-allow-origin"), ["http://page.example"]);
        assert_eq!(reply.header("access-control-allow-methods"), ["GET, POST, OPTIONS"]);
        assert!(reply.header("access-control-allow-headers")[0].contains("X-ucsessionid"));
    }
    let preflight = web.ask("OPTIONS", CREATE, &origin, "");
    assert_eq!((preflight.status, preflight.body.len()), (204, 0));
    assert_eq!(web.get(CREATE, &[]).header("access-control-allow-origin").len(), 0);
}

#[test]
fn a_web_socket_carries_messages_and_events_in_their_order() {
    let (mut server, web) = start(&[]);
    let session = web.log_in("anna");
    let mut socket = web.events(&session);
    let line = ClientSettings::line_of("anna");
    let contact = |id| invoke(id, "asnGetLoggedInContactV2", &json!({}));
    socket.say(&contact(1));
    socket.say(&format!("[{}]", contact(2)));
    socket.say(&invoke(3, "asnCtiLineMonitorStart", &json!({"u8sLinePhoneNumber": line})));
    socket.say(&invoke(4, "asnSomethingNew", &json!({})));
    socket.say(&invoke(5, "asnCtiLineMonitorStart", &json!({"u8sLinePhoneNumber": "tel:1"})));
    let mut own: Value = serde_json::from_str(&contact(0)).unwrap();
    own["invoke"]["sessionID"] = json!(session);
    socket.say(&own.to_string());
    for id in [1, 2, 3] {
        let result = socket.hear()["result"].clone();
        assert_eq!((&result["invokeID"], &result["sessionID"]), (&json!(id), &json!(session)));
        assert_eq!(result["result"]["resultValue"], 0);
    }
    let reject = &socket.hear()["reject"];
    assert_eq!(reject["invokedID"], json!({"invokedID": 4}));
    let error = &socket.hear()["error"];
    assert_eq!((&error["invokedID"], &error["sessionID"]), (&json!(5), &json!(session)));
    assert_eq!(socket.hear()["result"]["invokeID"], 0);
    // A call by HTTP in between has its answer there.
    assert_eq!(web.get(CONTACT, &[("X-ucsessionid", &session)]).status, 200);
    let call = server.ask(&json!({"ring": {"line": line, "number": "+4970"}}), "rung");
    server.ask(&json!({"hang_up": call}), "hung_up");
    for state in [2, 256, 1] {
        let event = socket.hear()["invoke"].clone();
        assert_eq!((&event["invokeID"], &event["operationID"]), (&json!(99_999), &json!(1283)));
        assert_eq!(event["operationName"], "asnCtiNotifyLineCallInformationChanged");
        assert_eq!(event["sessionID"], session);
        let told = event["argument"].to_string();
        assert!(told.contains(&format!("\"iCallState\":{state},")), "{told}");
    }
    socket.send(Message::Ping("p".into()));
    assert_eq!(socket.next(), Some(Message::Pong("p".into())));
}

#[test]
fn events_wait_for_a_web_socket_and_a_second_one_replaces_the_first() {
    let (mut server, web) = start(&[]);
    let session = web.log_in("anna");
    let line = ClientSettings::line_of("anna");
    let body = json!({"u8sLinePhoneNumber": line}).to_string();
    let named = [("X-ucsessionid", session.as_str())];
    assert_eq!(web.ask("POST", "/ws/client/asnCtiLineMonitorStart", &named, body).status, 200);
    let ring = |server: &mut Server, number: &str| {
        server.ask(&json!({"ring": {"line": line, "number": number}}), "rung");
        seen(server)["web_sockets"].clone()
    };
    assert_eq!(ring(&mut server, "+491"), 0);
    assert_eq!(ring(&mut server, "+492"), 0);
    let slash = format!("/ws/client/websocket/?x-ucsessionid={session}");
    let mut first = web.socket(&slash).unwrap();
    for number in ["+491", "+492"] {
        assert!(first.hear().to_string().contains(number));
    }
    let mut second = web.events(&session);
    assert_eq!(first.code(), Some(1000));
    assert_eq!(ring(&mut server, "+493"), 1);
    assert!(second.hear().to_string().contains("+493"));
    drop(second);
    // The session is there for a while, and what happens meanwhile is not lost.
    soon("it is gone", || (seen(&mut server)["web_sockets"] == 0).then_some(()));
    assert_eq!(ring(&mut server, "+494"), 0);
    assert!(web.events(&session).hear().to_string().contains("+494"));
}

#[test]
fn what_is_no_message_costs_the_web_socket_and_not_the_session() {
    let (_server, web) = start(&[]);
    let session = web.log_in("anna");
    let whole = invoke(1, "asnGetLoggedInContactV2", &json!({}));
    let framed = format!("J{:07}{whole}", whole.len());
    for text in ["", "{", "{}", "[]", "hallo", &framed, &format!("[{whole},{whole}]")] {
        let mut socket = web.events(&session);
        socket.say(text);
        assert_eq!(socket.code(), Some(1007), "{text}");
    }
    let mut socket = web.events(&session);
    socket.say(&invoke(-1, "asnGetLoggedInContactV2", &json!({})));
    assert_eq!(socket.code(), Some(1007));
    let mut socket = web.events(&session);
    socket.send(Message::Binary(b"\xA1\x00"[..].into()));
    assert_eq!(socket.code(), Some(1003));
    let mut socket = web.events(&session);
    // It is not read to its end, so that the goodbye may be lost with it.
    let much = format!("{{\"invoke\":\"{}\"}}", "x".repeat(10 * 1024 * 1024));
    if socket.try_send(Message::Text(much.into())) {
        let end = socket.next();
        let code = |end: Message| match end {
            Message::Close(frame) => frame.map(|frame| u16::from(frame.code)),
            other => panic!("no end: {other:?}"),
        };
        assert!(end.is_none_or(|end| code(end) == Some(1009)));
    }
    let mut socket = web.events(&session);
    let mut others: Value = serde_json::from_str(&whole).unwrap();
    others["invoke"]["sessionID"] = json!("0123456789ABCDEF0123456789ABCDEF");
    socket.say(&others.to_string());
    let reject = &socket.hear()["reject"];
    assert_eq!(
        (&reject["reject"], &reject["invokedID"]),
        (&json!({"invokeProblem": 8}), &json!({"invokedID": 1}))
    );
    socket.say(&whole);
    assert_eq!(socket.hear()["result"]["invokeID"], 1);
}

#[test]
fn a_server_that_hangs_takes_everything_and_answers_nothing() {
    let (mut server, web) = start(&[]);
    let session = web.log_in("anna");
    let mut socket = web.events(&session);
    server.mood("hung");
    let paths = ["/", "/controller/client/ucws", CREATE, CONTACT, "/ws/public/contacts", "/x"];
    for path in paths {
        let named = [("X-ucsessionid", session.as_str())];
        let unanswered = web.line().ask_within(A_WHILE, "GET", path, &named, "");
        assert!(unanswered.is_none(), "{path}: {unanswered:?}");
    }
    socket.send(Message::Ping("p".into()));
    assert_eq!(socket.next_within(A_WHILE), None);
    server.mood("healthy");
    assert_eq!(socket.next(), Some(Message::Pong("p".into())));
    assert_eq!(web.get(CONTACT, &[("X-ucsessionid", &session)]).status, 200);
}

#[test]
fn a_server_that_dies_cuts_everybody_off_and_comes_back_with_nobody() {
    for mood in ["dead", "amnesia"] {
        let (mut server, web) = start(&[]);
        let session = web.log_in("anna");
        let mut socket = web.events(&session);
        let mut line = web.line();
        assert_eq!(line.ask("GET", "/", &[], "").status, 200);
        server.mood(mood);
        assert_eq!(socket.next(), None);
        assert!(line.is_closed_within(Duration::from_secs(5)));
        if mood == "dead" {
            assert!(TcpStream::connect(web.address).is_err());
            server.mood("healthy");
        }
        assert_eq!(web.get(CONTACT, &[("X-ucsessionid", &session)]).status, 400);
        assert_ne!(web.log_in("anna"), session);
    }
}

#[test]
fn a_slow_server_is_slow_here_too() {
    let (_server, web) = start(&["--mood", "slow:200"]);
    let mut line = web.line();
    let who = [("authorization", &*basic("anna", "pw-anna"))];
    let early = line.ask_within(Duration::from_millis(350), "GET", CREATE, &who, "");
    assert!(early.is_none(), "negotiated and logged in, 200 ms each: {early:?}");
    web.log_in("anna");
}

#[test]
fn clients_of_both_entrances_are_counted_together() {
    let (mut server, web) = start(&[]);
    let native = Client::logged_in(server.clients.unwrap(), Encoding::Ber, "anna");
    web.log_in("anna");
    web.log_in("bert");
    let all = seen(&mut server);
    assert_eq!((&all["logins"], &all["users"]), (&json!(3), &json!(2)));
    drop(native);
    soon("one has gone", || (seen(&mut server)["logins"] == 2).then_some(()));
}

#[test]
fn there_are_pages_for_whoever_stands_in_between() {
    let (_server, web) = start(&[]);
    let page = web.get("/", &[]);
    assert_eq!(page.header("content-type"), ["text/html; charset=utf-8"]);
    assert!(String::from_utf8_lossy(&page.body).contains("<h1>ucs</h1>"));
    let big = web.get("/procall/big?octets=1000000", &[]);
    assert_eq!((big.body.len(), big.header("transfer-encoding")), (1_000_000, vec!["chunked"]));
    assert!(big.body.iter().enumerate().all(|(at, octet)| at % 251 == usize::from(*octet)));
    for octets in ["67108865", "-1", "x", ""] {
        assert_eq!(web.get(&format!("/procall/big?octets={octets}"), &[]).status, 400);
    }
    let headers = [("forwarded", "for=192.0.2.1"), ("x-a", "1"), ("x-a", "2")];
    let echo = web.ask("PUT", "/procall/echo", &headers, vec![7; 3_000_000]);
    assert_eq!((echo.status, echo.body.len()), (200, 3_000_000));
    assert_eq!(echo.header("x-echo-forwarded"), ["for=192.0.2.1"]);
    assert_eq!(echo.header("x-echo-x-a"), ["1", "2"]);
    let mut socket = web.socket("/procall/socket").unwrap();
    for message in [Message::Text("t".into()), Message::Binary(b"\0\xFF"[..].into())] {
        socket.send(message.clone());
        assert_eq!(socket.next(), Some(message));
    }
    assert_eq!(web.get("/procall/socket", &[]).status, 426);
    assert_eq!(web.ask("POST", "/", &[], "").status, 404);
}

#[test]
fn what_is_no_http_costs_the_connection_and_nothing_else() {
    let (_server, web) = start(&[]);
    let long = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(200_000));
    for octets in [&b"\xA1\x02\x05\x00\r\n\r\n"[..], b"GET /\r\n\r\n", long.as_bytes()] {
        let mut stream = TcpStream::connect(web.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        // It may close before it has read all.
        let _ = stream.write_all(octets);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 4"), "{answer:?}");
    }
    assert_eq!(web.get("/", &[]).status, 200);
}
