//! SIPp's phones, the door, and Kamailio: nobody here wrote either end. tshark listens on both sides
//! of the door and must find nothing wrong.

use std::fmt::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;

use tempfile::TempDir;

use crate::harness::{
    Door, Kamailio, LOCALHOST, Phones, Recording, Setup, Sipp, Wiretap, free, settled, soon,
    users_csv,
};

const PHONES: usize = 20;
/// Calls a second.
const RATE: &str = "100";

/// A Kamailio, a door, and SIPp's phones at one address.
struct Line {
    kamailio: Kamailio,
    door: Door,
    local: SocketAddr,
    files: TempDir,
    wiretap: Wiretap,
}

impl Line {
    fn new(defines: &[&str], transport: &'static str) -> Self {
        Self::with(defines, transport, |_| {})
    }

    fn with(defines: &[&str], transport: &'static str, change: impl Fn(&mut Setup)) -> Self {
        let kamailio = Kamailio::start_with("ucs1", free(LOCALHOST), defines);
        let mut setup = Setup::new();
        setup.kamailio(&kamailio, transport);
        change(&mut setup);
        let door = setup.start();
        let files = tempfile::tempdir().unwrap();
        users_csv(&files.path().join("users.csv"), (0..PHONES).map(|n| format!("sipp{n:05}")));
        let (local, wiretap) = (free(LOCALHOST), Wiretap::on(&door.sockets()));
        Self { kamailio, door, local, files, wiretap }
    }

    /// Kamailio challenges, and the door passes it on.
    fn passthrough() -> Self {
        Self::with(&["WITH_PATH", "WITH_DIGEST"], "udp", |setup| {
            setup.table("sip", "auth = \"passthrough\"\n");
        })
    }

    /// Every phone plays this once; the same Call-IDs each time.
    fn play(&self, scenario: &str, arguments: &[&str]) {
        let calls = PHONES.to_string();
        let common = ["-inf", "users.csv", "-cid_str", "%u@sipp", "-r", RATE, "-m", &calls];
        let arguments = [&common[..], arguments].concat();
        Sipp::start(scenario, self.files.path(), self.local, self.door.phones, &arguments)
            .succeed();
    }

    /// `register.xml` or `unregister_all.xml`.
    fn register(&self, cseq: &str, expires: &str) {
        self.play("register.xml", &["-base_cseq", cseq, "-key", "expires", expires]);
    }

    /// Every user can be reached from Kamailio, at so many phones in all.
    fn reach_all(&self, count: usize) {
        let phones = Phones::at(self.local, self.door.phones);
        for n in 0..PHONES {
            assert_eq!(self.kamailio.reach(&format!("sipp{n:05}")), 200);
        }
        // Kamailio takes the first answer of a user's phones.
        soon("every phone has rung", || (phones.rung().len() == count).then_some(()));
    }

    /// Nothing was wrong with anything on either side; what was recorded.
    fn finish(self) -> Recording {
        let sockets = self.door.sockets();
        drop(self.door);
        let recording = self.wiretap.stop();
        assert_eq!(recording.faults(), [""; 0]);
        for socket in sockets {
            assert_eq!(recording.faults_from(socket), [""; 0], "from {socket}");
            let port = socket.port();
            let sent = format!("sip && (udp.srcport == {port} || tcp.srcport == {port})");
            assert!(recording.count(&sent) > 0, "nothing of {socket} was recorded");
        }
        recording
    }
}

/// Users and their passwords, as `fixtures/sipp/register_digest.xml` takes them.
fn passwords(files: &Path, password: impl Fn(&str) -> String) {
    let mut text = String::from("SEQUENTIAL\n");
    for n in 0..PHONES {
        let user = format!("sipp{n:05}");
        let password = password(&user);
        let keyword = format!("[authentication username={user} password={password}]");
        writeln!(text, "{user};wire.example;{keyword}").unwrap();
    }
    std::fs::write(files.join("users.csv"), text).unwrap();
}

/// RFC 7616 §3.4: the URI of the digest is the Request-URI, which SIPp does not guess.
const AUTH_URI: [&str; 2] = ["-auth_uri", "wire.example"];

#[test]
fn phones_register_refresh_and_leave_at_a_kamailio() {
    let line = Line::new(&["WITH_PATH"], "udp");
    line.register("1", "300");
    settled(&line.door, PHONES as u64);
    assert_eq!(line.kamailio.registrations(), PHONES as u64);
    let told = line.kamailio.accepted();
    line.reach_all(PHONES);

    line.register("2", "300");
    assert_eq!(line.kamailio.accepted(), told, "an unchanged refresh is the door's to answer");
    line.register("3", "0");
    settled(&line.door, 0);
    assert_eq!(line.kamailio.located(), []);
    line.finish();
}

#[test]
fn the_digest_passes_through_and_kamailio_judges_it() {
    let line = Line::passthrough();
    passwords(line.files.path(), |user| format!("not-of-{user}"));
    line.play("register_refused.xml", &AUTH_URI);
    assert_eq!((line.kamailio.located(), line.door.status().bindings), (Vec::new(), 0));
    // Two each, and nothing that the door would have answered by itself.
    assert_eq!(line.kamailio.registers(), 2 * PHONES as u64);

    passwords(line.files.path(), |user| format!("secret-of-{user}"));
    line.play("register_digest.xml", &[&AUTH_URI[..], &["-base_cseq", "11"]].concat());
    settled(&line.door, PHONES as u64);
    assert_eq!(line.kamailio.registrations(), PHONES as u64);
    line.reach_all(PHONES);

    // A refresh is judged like the first.
    line.play("register_digest.xml", &[&AUTH_URI[..], &["-base_cseq", "21"]].concat());
    assert_eq!(line.kamailio.registers(), 6 * PHONES as u64);
    passwords(line.files.path(), |user| format!("not-of-{user}"));
    line.play("register_refused.xml", &[&AUTH_URI[..], &["-base_cseq", "31"]].concat());
    assert_eq!(line.kamailio.registrations(), PHONES as u64, "they stay until their expiry");

    let recording = line.finish();
    let refused = recording.count("sip.Status-Code == 401 && sip.WWW-Authenticate");
    assert_eq!(refused, 2 * 6 * PHONES, "of Kamailio, each passed on by the door");
}

#[test]
fn several_contacts_keep_their_q_and_go_one_by_one_or_together() {
    let line = Line::new(&["WITH_PATH"], "udp");
    line.play("register_contacts.xml", &[]);
    settled(&line.door, 2 * PHONES as u64);
    let located = line.kamailio.located();
    assert_eq!(located.len(), 2 * PHONES);
    for pair in located.chunks(2) {
        let [desk, door] = pair else { panic!("{pair:?}") };
        assert_eq!(desk.aor, door.aor);
        assert!(desk.contact.contains("-desk@") && door.contact.contains("-door@"), "{pair:?}");
        // The configuration's default, where the phone said nothing.
        assert_eq!((desk.q, door.q), (100, 500));
        assert!(desk.path.is_some() && desk.path != door.path, "each contact has its own Path");
    }
    line.reach_all(2 * PHONES);

    line.play("unregister_all.xml", &["-base_cseq", "11"]);
    settled(&line.door, 0);
    assert_eq!(line.kamailio.located(), []);
    line.finish();
}

#[test]
fn a_phone_that_lost_the_answer_gets_it_again_and_kamailio_is_asked_once() {
    // Else the door would take it for an unchanged refresh.
    let line = Line::with(&["WITH_PATH"], "udp", |setup| {
        setup.key("sip", "absorb = false\n");
    });
    let calls = PHONES.to_string();
    let arguments = ["-inf", "users.csv", "-nr", "-r", RATE, "-m", &calls];
    let files = line.files.path();
    Sipp::start("register_retransmitted.xml", files, line.local, line.door.phones, &arguments)
        .succeed();
    settled(&line.door, PHONES as u64);
    assert_eq!(line.kamailio.accepted(), PHONES as u64);
    let absorbed = line.door.metric("frontdoor_retransmissions_absorbed_total");
    assert_eq!(absorbed, 2 * PHONES as u64);
    line.finish();
}

#[test]
fn phones_on_streams_register_at_a_kamailio_on_a_stream() {
    let line = Line::new(&["WITH_PATH"], "tcp");
    line.play("register_stream.xml", &["-t", "tn", "-max_socket", "1000"]);
    assert_eq!(line.kamailio.accepted(), PHONES as u64, "each refresh came by its connection");
    // They have hung up.
    soon("the door has noticed", || (line.door.metric("frontdoor_connections") <= 1).then_some(()));
    for user in ["sipp00000", "sipp00019"] {
        let located = line.kamailio.located_of(user);
        assert!(located[0].path.as_deref().unwrap().contains(";transport=tcp"), "{located:?}");
        assert_eq!(line.kamailio.reach(user), 430, "RFC 5626 §5.3: the flow is no more");
    }
    line.finish();
}

#[test]
fn a_registrar_that_ignores_paths_is_told_contacts_that_point_at_the_door() {
    let line = Line::new(&[], "udp");
    line.register("1", "300");
    settled(&line.door, PHONES as u64);
    let located = line.kamailio.located();
    assert_eq!(located.len(), PHONES, "nothing that leads past the door is left there");
    let upstream = *line.door.sockets().last().unwrap();
    for one in &located {
        assert!(one.path.is_none() && one.contact.ends_with(&format!("@{upstream}")), "{one:?}");
    }
    line.reach_all(PHONES);
    line.register("2", "0");
    settled(&line.door, 0);
    assert_eq!(line.kamailio.located(), []);
    line.finish();
}

#[test]
fn what_is_wrong_on_the_wire_is_found_in_the_recording() {
    let [sender, other] = [free(LOCALHOST), free(LOCALHOST)];
    let good = "OPTIONS sip:a@wire.example SIP/2.0\r\n\
                Via: SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
                From: <sip:a@wire.example>;tag=1\r\nTo: <sip:a@wire.example>\r\nCall-ID: x\r\n\
                CSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n";
    let faulty = [
        String::from("hello"),
        good[..60].to_owned(),
        good.replace("OPTIONS sip:a@wire.example SIP/2.0", "OPTIONS sip:a@wire.example"),
        good.replace("Max-Forwards: 70", "no header"),
        good.replace("Call-ID: x\r\n", ""),
        good.replace("1 OPTIONS", "1 REGISTER"),
        good.replace("1 OPTIONS", "one"),
        good.replace("<sip:a@wire.example>;tag", "<sip:a@wire.example;tag"),
        good.replace("Content-Length: 0", "Content-Length: 50"),
        good.replace("Content-Length: 0", "Content-Length: x"),
    ];
    let wiretap = Wiretap::on(&[sender]);
    let socket = UdpSocket::bind(sender).unwrap();
    for text in [good].into_iter().chain(faulty.iter().map(String::as_str)) {
        // Nobody listens there; the kernel says so at the next one.
        while socket.send_to(text.as_bytes(), other).is_err() {}
    }
    let recording = wiretap.stop();
    assert_eq!(recording.count(&format!("udp.srcport == {} && !icmp", sender.port())), 11);
    for found in [recording.faults(), recording.faults_from(sender)] {
        assert_eq!(found.len(), faulty.len(), "{found:#?}");
    }
}
