//! RFC 3261 §10.3 and RFC 3327 §5.3, a sentence each.

use crate::sip::HeaderName;
use crate::ucserver::tests::{AOR, PHONE, Register, World, lines, millis, secs, text};
use crate::ucserver::{PathUnannounced, Settings};

const ONE: &str = "<sip:200@192.0.2.7:5070>";
const TWO: &str = "<sip:200@192.0.2.8:5070>";

fn world() -> World {
    World::new(Settings::default())
}

#[test]
fn a_first_registration_is_granted_and_dated() {
    let mut world = world();
    let answer = world.register(&Register::of(ONE).line("Expires: 600"));
    assert_eq!(answer.status(), Some(200));
    assert_eq!(lines(&answer, HeaderName::Contact), [format!("{ONE};expires=600")]);
    assert_eq!(lines(&answer, HeaderName::Date), ["Thu, 01 Jan 1970 00:00:00 GMT"]);
    assert!(answer.to().unwrap().tag().is_some());
}

#[test]
fn a_query_lists_every_binding_with_what_is_left_of_its_time() {
    let mut world = world();
    world.bind(&Register::of(ONE).line("Expires: 600"));
    world.bind(&Register::of(TWO).line("Expires: 300").call("c2", 1));
    world.pass(secs(100));
    let answer = world.register(&Register::query().call("c3", 1));
    assert_eq!(
        lines(&answer, HeaderName::Contact),
        [format!("{ONE};expires=500"), format!("{TWO};expires=200"),]
    );
}

#[test]
fn what_is_left_is_rounded_down_but_never_to_the_end() {
    let mut world = world();
    world.bind(&Register::of(ONE).line("Expires: 60"));
    for (wait, left) in [(58_500, 1), (1_000, 1)] {
        world.pass(millis(wait));
        let answer = world.register(&Register::query().call("c2", 1));
        assert_eq!(lines(&answer, HeaderName::Contact), [format!("{ONE};expires={left}")]);
    }
}

#[test]
fn contact_parameters_come_back_as_they_were_given() {
    let mut world = world();
    let given = format!("{ONE};q=0.7;expires=600;+sip.instance=\"<urn:uuid:1,2>\";reg-id=1;x-flag");
    let answer = world.register(&Register::of(&given));
    assert_eq!(
        lines(&answer, HeaderName::Contact),
        [format!("{ONE};q=0.7;+sip.instance=\"<urn:uuid:1,2>\";reg-id=1;x-flag;expires=600")]
    );
}

#[test]
fn a_request_without_a_mandatory_header_is_400() {
    let whole = world().written(&Register::of(ONE));
    for name in ["From", "To", "Call-ID", "CSeq"] {
        let kept: Vec<&str> =
            whole.split("\r\n").filter(|line| !line.starts_with(&format!("{name}:"))).collect();
        let mut world = world();
        assert_eq!(world.ask(kept.join("\r\n")).status(), Some(400), "{name}");
        assert_eq!(world.contacts(), []);
    }
}

#[test]
fn a_mandatory_header_that_cannot_be_read_is_400() {
    let whole = world().written(&Register::of(ONE));
    for (good, bad) in [
        ("CSeq: 1 REGISTER", "CSeq: one REGISTER"),
        ("CSeq: 1 REGISTER", "CSeq: 1 INVITE"),
        ("To: <sip:200@example.com>", "To: <sip:200@example.com"),
        ("To: <sip:200@example.com>", "To: <sip:>"),
        ("Contact: <sip:200@192.0.2.7:5070>", "Contact: <sip:200@192.0.2.7:port>"),
        ("Max-Forwards: 70", "Max-Forwards: many"),
    ] {
        let broken = whole.replace(good, bad);
        assert_ne!(broken, whole);
        let mut world = world();
        assert_eq!(world.ask(broken).status(), Some(400), "{bad}");
        assert_eq!(world.contacts(), []);
    }
}

#[test]
fn a_foreign_domain_in_the_request_uri_or_in_to_is_404() {
    let domains = vec!["example.com".to_owned()];
    let mut world = World::new(Settings { domains, ..Settings::default() });
    let foreign = Register::of(ONE).uri("sip:example.org");
    assert_eq!(world.register(&foreign).status(), Some(404));
    let foreign = Register::of(ONE).to("sip:200@example.org");
    assert_eq!(world.register(&foreign).status(), Some(404));
    world.bind(&Register::of(ONE).uri("sip:EXAMPLE.com"));
    world.bind(&Register::of(TWO).uri("sip:127.0.0.1:5060").call("c2", 1));
}

#[test]
fn an_unknown_user_is_404() {
    let users = Some([AOR.to_owned()].into());
    let mut world = World::new(Settings { users, ..Settings::default() });
    let stranger = Register::of(ONE).to("sip:201@example.com");
    assert_eq!(world.register(&stranger).status(), Some(404));
    assert_eq!(world.register(&Register::of(ONE).to("tel:+49301")).status(), Some(404));
    world.bind(&Register::of(ONE).to("sip:%32%30%30@Example.COM"));
    assert_eq!(world.contacts().len(), 1);
}

#[test]
fn an_unknown_extension_that_is_required_is_420_and_named() {
    let mut world = world();
    let answer = world.register(&Register::of(ONE).line("Require: path, gruu").line("Require: x"));
    assert_eq!(answer.status(), Some(420));
    assert_eq!(lines(&answer, HeaderName::Unsupported), ["gruu, x"]);
    assert_eq!(world.contacts(), []);
    world.bind(&Register::of(ONE).line("Require: path"));
}

#[test]
fn a_star_with_expires_0_removes_all() {
    let mut world = world();
    world.bind(&Register::of(ONE));
    world.bind(&Register::of(TWO).call("c2", 9));
    let answer = world.register(&Register::of("*").line("Expires: 0").call("c1", 2));
    assert_eq!(answer.status(), Some(200));
    assert_eq!(answer.count(HeaderName::Contact), 0);
    assert_eq!(world.contacts(), []);
    assert_eq!(world.server.journal().counters().bindings_removed, 2);
}

#[test]
fn a_star_that_is_not_alone_or_not_with_expires_0_is_400() {
    let mut world = world();
    world.bind(&Register::of(ONE));
    for wrong in [
        Register::of("*"),
        Register::of("*").line("Expires: 60"),
        Register::of("*").line("Expires: soon"),
        Register::of("*").line(&format!("Contact: {TWO}")).line("Expires: 0"),
        Register::of("*").line("Contact: *").line("Expires: 0"),
    ] {
        assert_eq!(world.register(&wrong.call("c2", 1)).status(), Some(400));
        assert_eq!(world.contacts().len(), 1);
    }
}

#[test]
fn a_star_out_of_order_removes_nothing() {
    let mut world = world();
    world.bind(&Register::of(ONE).call("c1", 5));
    world.bind(&Register::of(TWO).call("c2", 1));
    let late = Register::of("*").line("Expires: 0").call("c1", 5);
    assert_eq!(world.register(&late).status(), Some(500));
    assert_eq!(world.contacts().len(), 2);
}

#[test]
fn the_expires_parameter_counts_before_the_header_and_the_header_before_the_default() {
    let settings = Settings { default_expires_secs: 1234, ..Settings::default() };
    for (contact, line, granted) in [
        (format!("{ONE};expires=100"), "Expires: 200", 100),
        (ONE.to_owned(), "Expires: 200", 200),
        (ONE.to_owned(), "Subject: none", 1234),
        (format!("{ONE};expires=soon"), "Expires: 200", 3600),
        (ONE.to_owned(), "Expires: soon", 3600),
        (ONE.to_owned(), "Expires: 99999999999999", 3600),
    ] {
        let mut world = World::new(settings.clone());
        world.bind(&Register::of(&contact).line(line));
        assert_eq!(world.contacts().first().map(|one| one.1), Some(granted), "{contact} {line}");
    }
}

#[test]
fn too_brief_a_lifetime_is_423_and_the_minimum_is_named() {
    let mut world = world();
    let contacts = format!("{TWO};expires=600, {ONE};expires=59");
    let answer = world.register(&Register::of(&contacts));
    assert_eq!(answer.status(), Some(423));
    assert_eq!(lines(&answer, HeaderName::MinExpires), ["60"]);
    assert_eq!(world.contacts(), [], "the update is carried out as a whole or not at all");
    world.bind(&Register::of(ONE).line("Expires: 60"));
    world.bind(&Register::of(ONE).line("Expires: 0").call("c1", 2));
    assert_eq!(world.contacts(), [], "0 is not brief, it is the end");
}

#[test]
fn an_hour_is_never_too_brief() {
    let settings = Settings { min_expires_secs: 7200, ..Settings::default() };
    let mut world = World::new(settings);
    assert_eq!(world.register(&Register::of(ONE).line("Expires: 3599")).status(), Some(423));
    world.bind(&Register::of(ONE).line("Expires: 3600"));
}

#[test]
fn the_same_call_id_without_a_higher_cseq_is_500_and_nothing_changes() {
    let mut world = world();
    world.bind(&Register::of(ONE).call("c1", 5).line("Expires: 600"));
    let contacts = format!("{TWO}, {ONE};expires=0");
    for cseq in [4, 5] {
        let late = world.register(&Register::of(&contacts).call("c1", cseq));
        assert_eq!(late.status(), Some(500), "{}", text(&late));
        assert_eq!(world.contacts().len(), 1);
    }
    world.bind(&Register::of(&contacts).call("c1", 6));
    assert_eq!(world.contacts(), [("sip:200@192.0.2.8:5070".to_owned(), 3600)]);
}

#[test]
fn another_call_id_updates_whatever_its_cseq() {
    let mut world = world();
    world.bind(&Register::of(ONE).call("c1", 5).line("Expires: 600"));
    world.bind(&Register::of(ONE).call("c2", 1).line("Expires: 700"));
    assert_eq!(world.contacts().first().map(|one| one.1), Some(700));
    world.bind(&Register::of(ONE).call("c1", 5).line("Expires: 800"));
    assert_eq!(world.contacts().first().map(|one| one.1), Some(800));
}

#[test]
fn contacts_are_compared_as_uris_and_not_as_text() {
    let mut world = world();
    world.bind(&Register::of("<sip:200@phone.example.com;transport=UDP>"));
    world.bind(&Register::of("<sip:%3200@PHONE.example.com;transport=udp>").call("c2", 1));
    assert_eq!(world.contacts().len(), 1);
    world.bind(&Register::of("<sip:200@phone.example.com:5060;transport=udp>").call("c3", 1));
    assert_eq!(world.contacts().len(), 2, "5060 that is written differs from none (§19.1.4)");
}

#[test]
fn the_same_contact_twice_in_one_request_counts_as_last_given() {
    let mut world = world();
    world.bind(&Register::of(&format!("{ONE};expires=100, {ONE};expires=200")));
    assert_eq!(world.contacts().iter().map(|one| one.1).collect::<Vec<_>>(), [200]);
}

#[test]
fn one_contact_more_than_allowed_is_403_but_the_old_ones_can_be_refreshed() {
    let settings = Settings { bindings_per_aor: 2, ..Settings::default() };
    let mut world = World::new(settings);
    world.bind(&Register::of(&format!("{ONE}, {TWO}")));
    let third = Register::of("<sip:200@192.0.2.9>").call("c2", 1);
    assert_eq!(world.register(&third).status(), Some(403));
    world.bind(&Register::of(&format!("{ONE}, {TWO}")).call("c1", 2));
    assert_eq!(world.contacts().len(), 2);
}

#[test]
fn a_full_server_takes_no_strangers_and_serves_its_own() {
    let settings = Settings { capacity_users: Some(1), ..Settings::default() };
    let mut world = World::new(settings);
    world.bind(&Register::of(ONE));
    let stranger = Register::of(TWO).to("sip:201@example.com");
    let answer = world.register(&stranger);
    assert_eq!(answer.status(), Some(503));
    assert_eq!(lines(&answer, HeaderName::RetryAfter), ["5"]);
    world.bind(&Register::of(TWO).call("c2", 1));
    world.bind(&Register::of("*").line("Expires: 0").call("c3", 1));
    world.bind(&stranger);
}

#[test]
fn a_binding_ends_when_its_time_is_over() {
    let mut world = world();
    world.bind(&Register::of(ONE).line("Expires: 60"));
    world.pass(secs(59));
    assert_eq!(world.server.users_logged_in(), 1);
    world.pass(secs(1));
    assert_eq!(world.server.users_logged_in(), 0);
    assert_eq!(world.server.registrations(), 0);
    assert_eq!(world.server.journal().counters().bindings_expired, 1);
}

#[test]
fn a_binding_that_comes_back_after_its_end_is_new() {
    let mut world = world();
    world.bind(&Register::of(ONE).line("Expires: 60"));
    world.pass(secs(60));
    world.bind(&Register::of(ONE).line("Expires: 60"));
    assert_eq!(world.server.journal().counters().bindings_new, 2, "even with the old CSeq");
    assert_eq!(world.server.journal().counters().bindings_refreshed, 0);
}

#[test]
fn a_retransmission_gets_the_same_answer_and_is_not_judged_again() {
    let mut world = world();
    let request = world.written(&Register::of(ONE));
    let first = text(&world.ask(request.clone()));
    assert_eq!(text(&world.ask(request)), first);
    assert_eq!(world.server.journal().counters().registers, 1);
    assert_eq!(world.server.journal().counters().retransmissions, 1);
}

#[test]
fn the_path_is_stored_and_comes_back() {
    let mut world = world();
    let register = Register::of(ONE).line("Supported: path, gruu");
    let path = ["<sip:t1@192.0.2.20;lr>", "<sip:t2@192.0.2.21;lr>"];
    let answer = world.register(&register.clone().line(&format!("Path: {},{}", path[0], path[1])));
    assert_eq!(lines(&answer, HeaderName::Path), path);
    let stored: Vec<String> =
        world.server.bindings().flat_map(|one| one.path).map(ToString::to_string).collect();
    assert_eq!(stored, path);
    world.bind(&register.call("c1", 2));
    let binding = world.server.bindings().next().unwrap();
    assert!(binding.path.is_empty(), "a refresh without Path has none");
}

#[test]
fn a_path_without_supported_path_is_refused_as_set() {
    let path = "Path: <sip:t1@192.0.2.20;lr>";
    let with = |path_unannounced| World::new(Settings { path_unannounced, ..Settings::default() });

    let mut world = with(PathUnannounced::ExtensionRequired);
    let answer = world.register(&Register::of(ONE).line(path));
    assert_eq!(answer.status(), Some(421));
    assert_eq!(lines(&answer, HeaderName::Require), ["path"]);
    assert_eq!(world.contacts(), []);

    let mut world = with(PathUnannounced::BadExtension);
    let answer = world.register(&Register::of(ONE).line(path));
    assert_eq!(answer.status(), Some(420));
    assert_eq!(lines(&answer, HeaderName::Unsupported), ["path"]);

    let mut world = with(PathUnannounced::Store);
    let answer = world.register(&Register::of(ONE).line(path));
    assert_eq!(answer.status(), Some(200));
    assert_eq!(answer.count(HeaderName::Path), 0);
    assert_eq!(world.server.bindings().next().unwrap().path.len(), 1);
}

#[test]
fn a_registrar_that_does_not_know_path_ignores_it() {
    let settings = Settings { path_support: false, ..Settings::default() };
    let mut world = World::new(settings);
    let register = Register::of(ONE).line("Path: <sip:t1@192.0.2.20;lr>").line("Supported: path");
    let answer = world.register(&register);
    assert_eq!(answer.status(), Some(200));
    assert_eq!(answer.count(HeaderName::Path), 0);
    assert!(world.server.bindings().next().unwrap().path.is_empty());
    let required = Register::of(ONE).line("Require: path").call("c1", 2);
    assert_eq!(world.register(&required).status(), Some(420));
}

#[test]
fn a_path_that_cannot_be_read_is_400() {
    let mut world = world();
    let register = Register::of(ONE).line("Supported: path").line("Path: <sip:t1@192.0.2.20;lr");
    assert_eq!(world.register(&register).status(), Some(400));
    assert_eq!(world.contacts(), []);
}

#[test]
fn a_probe_is_told_what_is_served() {
    let mut world = world();
    let probe = world.request("OPTIONS");
    let answer = world.ask(probe);
    assert_eq!(answer.status(), Some(200));
    assert_eq!(lines(&answer, HeaderName::Allow), ["REGISTER, OPTIONS"]);
    assert_eq!(lines(&answer, HeaderName::Supported), ["path"]);
}

#[test]
fn other_methods_are_405_or_501_and_an_ack_is_nothing() {
    let mut world = world();
    for (method, status) in [("INVITE", 405), ("MESSAGE", 405), ("DANCE", 501), ("register", 501)] {
        let request = world.request(method);
        let answer = world.ask(request);
        assert_eq!(answer.status(), Some(status), "{method}");
        assert_eq!(answer.count(HeaderName::Allow), usize::from(status == 405));
    }
    let ack = world.request("ACK");
    assert!(world.send(ack).is_empty());
}

#[test]
fn what_is_no_sip_gets_no_answer_and_another_version_505() {
    let mut world = world();
    for junk in ["", "\r\n\r\n", "hello", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"] {
        assert!(world.send(junk).is_empty(), "{junk}");
    }
    assert!(world.server.journal().counters().unreadable >= 2);
    let newer = world.written(&Register::of(ONE)).replacen("SIP/2.0", "SIP/3.0", 1);
    assert_eq!(world.ask(newer).status(), Some(505));
}

#[test]
fn the_answer_says_where_the_request_came_from() {
    let mut world = world();
    let answer = world.register(&Register::of(ONE));
    let via = answer.top_via().unwrap();
    assert_eq!(via.rport(), Some(Some(5070)));
    assert_eq!(via.received().map(|ip| format!("{ip}:5070")).as_deref(), Some(PHONE));
}

#[test]
fn when_it_keeps_no_more_transactions_it_says_503() {
    let settings = Settings { transactions: 0, ..Settings::default() };
    let mut world = World::new(settings);
    assert_eq!(world.register(&Register::of(TWO).call("c2", 1)).status(), Some(503));
    assert_eq!(world.server.journal().counters().shed, 1);
}
