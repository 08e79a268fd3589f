//! The published description of the admin listener is the truth: everything in it is asked of a
//! real door, and every answer is held against it.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};

use frontdoor::door::Report;
use serde_json::{Value, json};

use crate::harness::{Door, LOCALHOST, PATIENCE, Phones, Server, Setup, free, soon};
use crate::schema::Checker;

/// What a door answered.
struct Answer {
    status: u16,
    kind: String,
    head: String,
    body: String,
}

/// One request as it is.
fn send(admin: SocketAddr, what: &str, headers: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let length = body.len();
    let length = if length > 0 { format!("Content-Length: {length}\r\n") } else { String::new() };
    write!(stream, "{what} HTTP/1.0\r\nHost: {admin}\r\n{headers}{length}\r\n{body}").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) =
        answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{what}: {answer:?}"));
    let head = head.to_ascii_lowercase();
    let kind = head.lines().find_map(|line| line.strip_prefix("content-type: "));
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        kind: kind.unwrap_or_default().split(';').next().unwrap().to_owned(),
        body: body.to_owned(),
        head,
    }
}

/// A door, what it says of itself, and as whom it is asked.
struct Contract<'d> {
    door: &'d Door,
    document: &'d Value,
    token: String,
    checker: Checker<'d>,
}

impl<'d> Contract<'d> {
    fn with(door: &'d Door, document: &'d Value) -> Self {
        let file = door.directory.path().join("admin-token.key");
        let token = std::fs::read_to_string(file).unwrap();
        let token = format!("Authorization: Bearer {}\r\n", token.trim());
        Self { door, document, token, checker: Checker::of(document) }
    }

    /// Path, verb and operation of everything there is.
    fn operations(&self) -> Vec<(&'d str, String, &'d Value)> {
        let paths = self.document["paths"].as_object().unwrap().iter();
        let operations = paths.flat_map(|(path, verbs)| {
            let verbs = verbs.as_object().unwrap().iter();
            verbs.map(move |(verb, operation)| (&**path, verb.to_ascii_uppercase(), operation))
        });
        operations.collect()
    }

    /// Asks, and holds the answer against what is said of it; its status and body.
    fn ask(&mut self, operation: &'d Value, what: &str, headers: &str, body: &str) -> Answer {
        let answer = send(self.door.admin, what, headers, body);
        let said = operation["responses"].get(answer.status.to_string());
        let said = said.unwrap_or_else(|| {
            panic!("{what}: nobody said that it may be answered {}: {}", answer.status, answer.body)
        });
        let said = match said.get("$ref").and_then(Value::as_str) {
            Some(pointer) => self.document.pointer(&pointer[1..]).unwrap(),
            None => said,
        };
        let content = &said["content"][&answer.kind];
        assert!(content.is_object(), "{what}: {} is not said: {}", answer.kind, answer.body);
        if answer.kind == "application/json" {
            let value: Value = serde_json::from_str(&answer.body).unwrap();
            let at = if what.contains("openapi.json") { "the document itself" } else { what };
            let complaints = self.checker.complaints(&content["schema"], &value, at);
            assert!(complaints.is_empty(), "{}", complaints.join("\n"));
            if answer.status >= 300 {
                for property in ["error", "what_to_do"] {
                    assert_ne!(value[property], "", "{what}: {value}");
                }
            }
        }
        answer
    }

    /// Everything that only asks, with every parameter; a report only where there is one.
    fn ask_everything(&mut self, report: Option<&str>) {
        for (path, verb, operation) in self.operations() {
            if verb != "GET" || (report.is_none() && path.contains("{report}")) {
                continue;
            }
            let path = filled(path, ANNA, "ucs2", report.unwrap_or_default());
            for query in queries(operation, "ucs2") {
                let answer = self.ask(operation, &format!("GET {path}{query}"), "", "");
                assert_eq!(answer.status, 200, "{path}{query}: {}", answer.body);
            }
        }
    }
}

/// A path whose names are filled in.
fn filled(path: &str, user: &str, server: &str, report: &str) -> String {
    let path = path.replace("{user}", user).replace("{server}", server);
    let path = path.replace("{report}", report);
    assert!(!path.contains('{'), "{path}: say here what is to stand there");
    path
}

/// A query for each parameter, and one with as few as may be.
fn queries(operation: &Value, server: &str) -> Vec<String> {
    let parameters = operation["parameters"].as_array().unwrap();
    let parameters: Vec<&Value> = parameters.iter().filter(|it| it["in"] == "query").collect();
    let valued = |parameter: &Value| {
        let (name, schema) = (parameter["name"].as_str().unwrap(), &parameter["schema"]);
        let value = match (name, schema["type"].as_str().unwrap()) {
            ("server" | "home" | "kill", _) => server.to_owned(),
            ("prefix", _) => String::from("sip:user1"),
            // Only the door knows what may stand there: see below.
            ("after", _) => return None,
            (_, "integer") => schema["maximum"].to_string(),
            (_, "boolean") => String::from("true"),
            _ => schema["enum"][0].as_str().unwrap_or_else(|| panic!("{name}: which?")).to_owned(),
        };
        Some(format!("{name}={value}"))
    };
    let required = parameters.iter().filter(|it| it["required"] == true);
    let required: Vec<String> = required.filter_map(|it| valued(it)).collect();
    let least = format!("?{}", required.join("&"));
    let optional = parameters.iter().filter(|it| it["required"] != true);
    let each = optional.filter_map(|it| Some(format!("{least}&{}", valued(it)?)));
    std::iter::once(least.clone()).chain(each).collect()
}

fn document(door: &Door) -> Value {
    serde_json::from_str(&door.page("/v1/openapi.json")).unwrap()
}

fn door_of(servers: &[Server]) -> (Door, Phones) {
    let mut setup = Setup::with(servers);
    setup.key("health", "probation = \"1s\"\nramp = \"1s\"\n").table(
        "recovery",
        "automatic = false\nhold = \"0s\"\ninterval = \"200ms\"\nlook = \"500ms\"\n",
    );
    setup.table("[telephone_systems]", "name = \"pbx\"\n");
    let door = setup.start();
    let phones = Phones::at(free(LOCALHOST), door.phones);
    phones.register(&(0..30).map(|number| format!("user{number}")).collect::<Vec<_>>());
    (door, phones)
}

const ANNA: &str = "sip%3Auser1%40wire.example";

/// What no answer here holds: bindings that a failover leaves behind, a pool that is too small, and
/// clients, who do not come to the servers of this test (`clients::*` in `tests/core` shows theirs).
const UNSEEN: &[&str] = &["OpenBinding", "SessionStatus", "ShortfallStatus"];

#[test]
fn every_answer_of_a_door_is_as_its_document_says() {
    let mut servers = ["ucs1", "ucs2", "ucs3"].map(|name| Server::start(name, free(LOCALHOST)));
    let (door, _phones) = door_of(&servers);
    let document = document(&door);
    assert_eq!(document["openapi"], "3.1.0");
    let mut contract = Contract::with(&door, &document);
    contract.ask_everything(None);

    // A failover, and a return by hand.
    let at = servers[1].sip;
    servers[1] = Server::start("elsewhere", free(LOCALHOST));
    soon("everybody is elsewhere", || {
        let status = door.status();
        (status.relocated > 0 && status.progress.settled == 30).then_some(())
    });
    contract.ask_everything(None);
    servers[1] = Server::start("ucs2", at);
    door.server_in("ucs2", "up");
    let token = contract.token.clone();
    let home = &document["paths"]["/v1/servers/{server}/return"]["post"];
    soon("they go home", || {
        let answer = contract.ask(home, "POST /v1/servers/ucs2/return", &token, "");
        (answer.status == 202).then_some(())
    });
    let report = soon("its report", || {
        let reports: Vec<Report> = serde_json::from_str(&door.page("/v1/reports")).unwrap();
        Some(reports.into_iter().find(|report| &*report.kind == "return")?.id)
    });

    // Whatever can be ordered is, with the body that the document shows.
    let mut taken = 0;
    for (path, verb, operation) in contract.operations() {
        if verb != "POST" {
            continue;
        }
        let what = format!("POST {}", filled(path, ANNA, "ucs2", ""));
        let example = operation.pointer("/requestBody/content/application~1json");
        let body = example.map(|it| it["example"].to_string()).unwrap_or_default();
        if let Some(schema) = example.map(|it| &it["schema"]) {
            let value = serde_json::from_str(&body).unwrap();
            assert_eq!(contract.checker.complaints(schema, &value, &what), [""; 0]);
        }
        let answer = contract.ask(operation, &what, &token, &body);
        assert!([202, 409].contains(&answer.status), "{what}: {}", answer.body);
        taken += u16::from(answer.status == 202);
        let resumed = &document["paths"]["/v1/recovery/resume"]["post"];
        contract.ask(resumed, "POST /v1/recovery/resume", &token, "");
        assert_eq!(contract.ask(operation, &what, "", &body).status, 401, "{what}");
        let wrong = format!("Authorization: Bearer {}\r\n", "0".repeat(64));
        assert_eq!(contract.ask(operation, &what, &wrong, &body).status, 403, "{what}");
    }
    assert!(taken >= 3, "only {taken} orders were taken");
    contract.ask_everything(Some(&report));

    for name in document["components"]["schemas"].as_object().unwrap().keys() {
        let seen = contract.checker.seen.contains(name) || UNSEEN.contains(&&**name);
        assert!(seen, "no answer held a {name}");
    }
}

#[test]
fn whoever_asks_wrongly_is_told_what_to_do() {
    let servers = [Server::start("berlin-1", free(LOCALHOST))];
    let (door, _phones) = door_of(&servers);
    let document = document(&door);
    let mut contract = Contract::with(&door, &document);
    let token = contract.token.clone();
    for (path, verb, operation) in contract.operations() {
        let known = filled(path, ANNA, "berlin-1", "none");
        // Another method: 405 with those there are, whatever the token.
        for method in ["PUT", "DELETE", "PATCH", "TRACE", "OPTIONS", "BREW"] {
            let answer = send(door.admin, &format!("{method} {known}"), &token, "");
            assert_eq!(answer.status, 405, "{method} {known}: {}", answer.body);
            let allow = if verb == "GET" { "allow: get, head" } else { "allow: post" };
            assert!(answer.head.lines().any(|line| line == allow), "{known}: {}", answer.head);
            let fault: Value = serde_json::from_str(&answer.body).unwrap();
            assert!(fault["what_to_do"].as_str().unwrap().starts_with("use "), "{fault}");
        }
        // A parameter that is not there, with those that are.
        let what = format!("{verb} {known}?sevrer=x");
        let example = operation.pointer("/requestBody/content/application~1json/example");
        let body = example.map(Value::to_string).unwrap_or_default().replace("ucs2", "berlin-1");
        let answer = contract.ask(operation, &what, &token, &body);
        assert_eq!(answer.status, 400, "{what}: {}", answer.body);
        for parameter in operation["parameters"].as_array().unwrap() {
            let name = parameter["name"].as_str().unwrap();
            assert!(parameter["in"] == "path" || answer.body.contains(name), "{}", answer.body);
        }
        // Nobody of that name, and a server that is nearly called so.
        if path.contains('{') || operation["parameters"].to_string().contains("kill") {
            let query = if path.contains('{') { "" } else { "?kill=berlin1" };
            let what = format!("{verb} {}{query}", filled(path, "nobody", "berlin1", "none"));
            let answer = contract.ask(operation, &what, &token, &body);
            assert_eq!(answer.status, 404, "{what}: {}", answer.body);
            let advice = match path.split(['{', '}']).nth(1) {
                Some("user") => "login name",
                Some("report") => "/v1/reports",
                _ => "mean \\\"berlin-1\\\"?",
            };
            assert!(answer.body.contains(advice), "{what}: {}", answer.body);
        }
        // A body where there is to be none, and one that says something else.
        if body.is_empty() {
            let answer = contract.ask(operation, &format!("{verb} {known}"), &token, "{}");
            assert_eq!(answer.status, 413, "{known}: {}", answer.body);
        } else {
            for wrong in ["{", "[]", "null", "{\"on\": 1}", "\u{0}", "{\"on\": true, \"of\": 1}"] {
                let answer = contract.ask(operation, &format!("{verb} {known}"), &token, wrong);
                assert_eq!(answer.status, 400, "{known} {wrong}: {}", answer.body);
                let fault: Value = serde_json::from_str(&answer.body).unwrap();
                assert!(fault["what_to_do"].as_str().unwrap().contains("send JSON like {"));
            }
        }
    }
}

#[test]
fn a_listing_is_followed_page_by_page_until_the_door_starts_anew() {
    let servers = [Server::start("ucs1", free(LOCALHOST))];
    let (mut door, _phones) = door_of(&servers);
    let page = |door: &Door, query: &str| -> Value {
        serde_json::from_str(&door.page(&format!("/v1/users?{query}"))).unwrap()
    };
    let (mut names, mut next) = (Vec::new(), json!(null));
    loop {
        let after = next.as_str().map(|next| format!("&after={next}")).unwrap_or_default();
        let page = page(&door, &format!("limit=7{after}"));
        names.extend(page["items"].as_array().unwrap().iter().map(|it| it["name"].to_string()));
        if page["next"].is_null() {
            break;
        }
        next = page["next"].clone();
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), 30);
    let found = page(&door, "prefix=user2&server=ucs1&away=false&state=settled");
    assert_eq!(found["items"].as_array().unwrap().len(), 11, "user2, user20 to user29");

    door.kill();
    door.restart();
    let what = format!("GET /v1/users?after={}", next.as_str().unwrap());
    let answer = send(door.admin, &what, "", "");
    assert_eq!(answer.status, 410, "{}", answer.body);
    assert!(answer.body.contains("begin again"), "{}", answer.body);
    assert_eq!(send(door.admin, "GET /v1/users?after=7", "", "").status, 400);
    let nowhere = send(door.admin, "GET /v1/users?server=ucs11", "", "");
    assert_eq!(nowhere.status, 404);
    assert!(nowhere.body.contains("ucs1"), "{}", nowhere.body);
}
