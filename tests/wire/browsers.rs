//! Pages in Chromium, of the door's own origin and of another one.

use frontdoor::ucserver::ClientSettings;
use serde_json::{Value, json};

use crate::harness::{Browser, Setup, Site, shown, soon};
use crate::web::{assigned, door, holder, seen, servers};

/// Somebody with a page of another origin.
struct Visit {
    site: Site,
    browser: Browser,
}

impl Visit {
    /// What it tells next, which must be of this kind: none is missed, so its WebSocket is never closed.
    fn told(&self, kind: &str) -> Value {
        let Some((told, value)) = self.site.heard() else {
            panic!("it tells no {kind}; the browser's log:\n{}", self.browser.log())
        };
        assert_eq!(told, kind, "{value}");
        value
    }

    /// An event of the line, and the answer to the call that it sets off.
    fn event(&self) -> Value {
        let event = self.told("event");
        assert_eq!(self.told("user"), "anna");
        event["argument"]["u8sMonitorCrossRefID"].clone()
    }
}

#[test]
fn a_page_of_the_servers_is_shown_through_the_door() {
    let servers = servers();
    let door = door(&Setup::with(&servers));
    let page = shown(&format!("http://{}/", door.web.unwrap()));
    let is_there = |name: &str| page.contains(&format!("<h1>{name}</h1>"));
    assert!(["ucs1", "ucs2"].iter().any(|name| is_there(name)), "{page}");
}

#[test]
fn a_page_of_another_origin_keeps_its_web_socket_and_its_monitor_when_its_server_is_killed() {
    let mut servers = servers();
    let door = door(&Setup::with(&servers));
    assigned(&door, "anna");
    let web = door.web.unwrap();
    let line = ClientSettings::line_of("anna");
    let site = Site::open();
    let query = form_urlencoded::Serializer::new(String::new())
        .append_pair("door", &format!("http://{web}"))
        .append_pair("user", "anna")
        .append_pair("password", &ClientSettings::password_of("anna"))
        .append_pair("line", &line)
        .finish();
    let browser = Browser::open(&format!("http://{}/page.html?{query}", site.address));
    let visit = Visit { site, browser };
    assert_eq!(visit.told("controller"), format!("http://{web}"));
    assert_eq!(visit.told("script"), "anna");
    assert_eq!(visit.told("framed"), true);
    let watched = visit.told("answer");
    let cross_ref = watched["result"]["result"]["result"]["u8sMonitorCrossRefID"].clone();
    assert!(cross_ref.is_string(), "{watched}");
    let home = holder(&mut servers);
    let ring = json!({"ring": {"line": line, "number": "+4970"}});
    servers[home].ask(&ring, "rung");
    assert_eq!(visit.event(), cross_ref);
    servers[home].kill();
    let other = &mut servers[1 - home];
    soon("it is watched there", || (seen(other)["monitors"] == 1).then_some(()));
    // The call was the dead server's: it is over.
    assert_eq!(visit.event(), cross_ref);
    other.ask(&ring, "rung");
    assert_eq!(visit.event(), cross_ref);
    assert_eq!(seen(other)["logins"], 1, "it is one session");
}
