//! Phones that somebody else has written: SIPp, over UDP and TCP, on both families.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;

use crate::harness::{
    Door, LOCALHOST, LOCALHOST6, Phones, Server, Setup, Sipp, free, settled, soon, users_csv,
};

/// Calls a second.
const RATE: &str = "1000";

fn three_servers() -> [Server; 3] {
    ["ucs1", "ucs2", "ucs3"].map(|name| Server::start(name, free(LOCALHOST)))
}

fn registrations(servers: &mut [Server]) -> u64 {
    servers.iter_mut().map(Server::registrations).sum()
}

fn registers(servers: &mut [Server]) -> u64 {
    servers.iter_mut().map(|server| server.count("registers")).sum()
}

/// Plays `register.xml` with the first so many users of `users.csv`, who are the same phones each
/// time: same address, same Call-ID.
fn register(files: &Path, local: SocketAddr, door: &Door, [calls, cseq, expires]: [u32; 3]) {
    let numbers = [calls, cseq, expires].map(|number| number.to_string());
    let [calls, cseq, expires] = numbers.each_ref().map(String::as_str);
    let phones = ["-inf", "users.csv", "-cid_str", "%u@sipp"];
    let calls = ["-r", RATE, "-m", calls, "-base_cseq", cseq, "-key", "expires", expires];
    let arguments = [&phones[..], &calls[..]].concat();
    Sipp::start("register.xml", files, local, door.phones, &arguments).succeed();
}

#[test]
fn ten_thousand_phones_register_refresh_and_leave() {
    let mut servers = three_servers();
    let door = Setup::with(&servers).crowded().start();
    let files = tempfile::tempdir().unwrap();
    users_csv(&files.path().join("users.csv"), (0..10_000).map(|n| format!("sipp{n:05}")));
    let local = free(LOCALHOST);

    register(files.path(), local, &door, [10_000, 1, 300]);
    settled(&door, 10_000);
    let status = door.status();
    assert_eq!((status.users, status.relocated, status.unplaced), (10_000, 0, 0));
    assert_eq!(status.servers.iter().map(|server| server.bindings).sum::<u64>(), 10_000);
    assert_eq!(registrations(&mut servers), 10_000);

    let before = registers(&mut servers);
    register(files.path(), local, &door, [10_000, 2, 300]);
    assert_eq!(registers(&mut servers), before, "an unchanged refresh is the door's to answer");
    assert!(door.metric("frontdoor_registers_absorbed_total") >= 10_000);

    register(files.path(), local, &door, [2_000, 3, 0]);
    settled(&door, 8_000);
    assert_eq!(registrations(&mut servers), 8_000);

    let phones = Phones::at(local, door.phones);
    let rounds = servers.each_mut().map(Server::ping_all);
    assert_eq!(rounds.iter().map(|round| round.reached).sum::<u64>(), 8_000, "{rounds:?}");
    assert_eq!(phones.rung().len(), 8_000);
}

#[test]
fn a_repeated_register_is_answered_once_for_each_question_and_asked_once_of_the_server() {
    let mut servers = three_servers();
    let door = Setup::with(&servers).start();
    for server in &mut servers {
        server.mood("slow:200");
    }
    let files = tempfile::tempdir().unwrap();
    users_csv(&files.path().join("users.csv"), (0..500).map(|n| format!("sipp{n:05}")));
    let arguments = ["-inf", "users.csv", "-nr", "-r", "250", "-m", "500"];
    let local = free(LOCALHOST);
    Sipp::start("register_repeatedly.xml", files.path(), local, door.phones, &arguments).succeed();

    settled(&door, 500);
    assert_eq!(registers(&mut servers), 500);
    assert_eq!(door.metric("frontdoor_registers_passed_on_total"), 500);
    assert!(door.metric("frontdoor_retransmissions_absorbed_total") >= 500);
}

#[test]
fn phones_on_streams_keep_their_connection_and_lose_their_binding_with_it() {
    let mut servers = three_servers();
    let door = Setup::with(&servers).start();
    let files = tempfile::tempdir().unwrap();
    users_csv(&files.path().join("users.csv"), (0..300).map(|n| format!("sipp{n:05}")));
    let arguments =
        ["-t", "tn", "-max_socket", "1000", "-inf", "users.csv", "-r", "150", "-m", "300"];
    let local = free(LOCALHOST);
    let sipp = Sipp::start("register_stream.xml", files.path(), local, door.phones, &arguments);

    let mut phone = StreamPhone::register(door.phones);
    let anna = phone.server(&door);
    let server = servers.iter_mut().find(|server| server.name == anna).unwrap();
    server.ping("sip:anna@wire.example", &phone.contact);
    phone.answer_options();
    soon("the server has reached the phone", || {
        server.reached().contains(&String::from("sip:anna@wire.example")).then_some(())
    });

    sipp.succeed();
    assert_eq!(registers(&mut servers), 301, "each refresh came by the connection of its binding");
    assert!(door.metric("frontdoor_registers_absorbed_total") >= 300);
    drop(phone);
    soon("everybody has hung up", || (door.metric("frontdoor_connections") == 0).then_some(()));
    let rounds = servers.each_mut().map(Server::ping_all);
    assert_eq!(rounds.iter().map(|round| round.reached).sum::<u64>(), 0);
    assert_eq!(rounds.iter().map(|round| round.unreached).sum::<u64>(), 301);
    // RFC 5626 §5.3: the flow is no more.
    let why = rounds.iter().flat_map(|round| &round.why);
    assert!(why.clone().all(|why| why == "answered 430"), "{:?}", why.collect::<Vec<_>>());
}

#[test]
fn phones_and_servers_on_ipv6_are_served_and_moved() {
    let mut servers = ["ucs1", "ucs2", "ucs3"].map(|name| Server::start(name, free(LOCALHOST6)));
    let door = Setup::with(&servers).phones_at(LOCALHOST6).start();
    let files = tempfile::tempdir().unwrap();
    users_csv(&files.path().join("users.csv"), (0..500).map(|n| format!("sipp{n:05}")));
    let local = free(LOCALHOST6);
    register(files.path(), local, &door, [500, 1, 300]);
    settled(&door, 500);
    register(files.path(), local, &door, [500, 2, 300]);
    assert!(door.metric("frontdoor_registers_absorbed_total") >= 500);

    servers[1].kill();
    door.server_in("ucs2", "down");
    settled(&door, 500);
    let phones = Phones::at(local, door.phones);
    let reached = [0, 2].map(|server: usize| servers[server].ping_all().reached);
    assert_eq!(reached.iter().sum::<u64>(), 500);
    assert_eq!(phones.rung().len(), 500);
}

/// One phone on a connection of its own.
struct StreamPhone {
    stream: TcpStream,
    contact: String,
}

impl StreamPhone {
    fn register(door: SocketAddr) -> Self {
        let stream = TcpStream::connect(door).unwrap();
        let local = stream.local_addr().unwrap();
        let contact = format!("sip:anna@{local};transport=tcp");
        let mut phone = Self { stream, contact };
        let contact = &phone.contact;
        let request = format!(
            "REGISTER sip:wire.example SIP/2.0\r\n\
             Via: SIP/2.0/TCP {local};branch=z9hG4bK-anna\r\nMax-Forwards: 70\r\n\
             From: <sip:anna@wire.example>;tag=a\r\nTo: <sip:anna@wire.example>\r\n\
             Call-ID: anna\r\nCSeq: 1 REGISTER\r\nContact: <{contact}>\r\n\
             Expires: 300\r\nContent-Length: 0\r\n\r\n"
        );
        phone.stream.write_all(request.as_bytes()).unwrap();
        let answer = phone.message();
        assert!(answer.starts_with("SIP/2.0 200 "), "{answer}");
        phone
    }

    /// Where the door has registered it.
    fn server(&self, door: &Door) -> String {
        let user = door.page("/v1/users/sip%3Aanna%40wire.example");
        let user: frontdoor::door::UserStatus = serde_json::from_str(&user).unwrap();
        user.current.unwrap().to_string()
    }

    fn answer_options(&mut self) {
        let request = self.message();
        assert!(request.starts_with(&format!("OPTIONS {} SIP/2.0\r\n", self.contact)), "{request}");
        let answer = crate::harness::ok(&request);
        self.stream.write_all(answer.as_bytes()).unwrap();
    }

    /// The next message; none here has a body.
    fn message(&mut self) -> String {
        self.stream.set_read_timeout(Some(crate::harness::PATIENCE)).unwrap();
        let mut message = Vec::new();
        while !message.ends_with(b"\r\n\r\n") {
            let mut octet = [0];
            self.stream.read_exact(&mut octet).unwrap();
            message.extend(octet);
        }
        String::from_utf8(message).unwrap()
    }
}
