//! Datagrams that are wrong, too much or malicious: what is answered, what is counted, and that
//! neighbours notice nothing (Q4).

use std::net::SocketAddr;

use crate::harness::{
    Attacker, Door, LOCALHOST, Memory, Neighbours, Phones, Server, Setup, free, mib, register_with,
    soon, source,
};

/// How often each is sent: enough to show a leak or a neighbour that suffers.
const TIMES: usize = 300;

/// What the memory of a door may grow by, whatever is sent: its tables and arenas at their first
/// use.
const GROWTH: u64 = mib(48);

const MALFORMED: &str = "frontdoor_dropped_malformed_total";
const REFUSED: &str = "frontdoor_registers_refused_total";

fn door() -> (Server, Door) {
    let server = Server::start("ucs1", free(LOCALHOST));
    let door = Setup::with([&server]).start();
    (server, door)
}

/// One kind of attack.
struct Case {
    name: &'static str,
    /// The answer; `None` is silence.
    answer: Option<u16>,
    /// What counts it.
    counter: &'static str,
    make: fn(&Attacker, usize) -> Vec<u8>,
}

fn plain(attacker: &Attacker, number: usize, lines: &[u8], body: &[u8]) -> Vec<u8> {
    register_with(attacker.local(), &format!("h{number}"), lines, body)
}

const fn refused(name: &'static str, answer: u16, make: fn(&Attacker, usize) -> Vec<u8>) -> Case {
    Case { name, answer: Some(answer), counter: REFUSED, make }
}

const fn dropped(name: &'static str, make: fn(&Attacker, usize) -> Vec<u8>) -> Case {
    Case { name, answer: None, counter: MALFORMED, make }
}

const CASES: &[Case] = &[
    dropped("garbage", |_, number| {
        let mut rng = fastrand::Rng::with_seed(number as u64);
        (0..200 + number).map(|_| rng.u8(1..)).collect()
    }),
    dropped("a truncated message", |it, number| {
        let whole = plain(it, number, b"Content-Length: 0\r\n", b"");
        let end = 20 + number % (whole.len() - 22);
        whole[..end].to_vec()
    }),
    refused("a datagram as large as they come", 513, |it, number| {
        let lines = b"Content-Length: 65000\r\n";
        let head = plain(it, number, lines, b"").len();
        plain(it, number, lines, &vec![b'x'; 65_000])
            .get(..65_500.min(head + 65_000))
            .unwrap()
            .into()
    }),
    refused("10 000 header lines", 400, |it, number| {
        plain(it, number, &b"X: y\r\n".repeat(10_000), b"")
    }),
    refused("a header of 60 kB", 513, |it, number| {
        let line = format!("Subject: {}\r\n", "x".repeat(60_000));
        plain(it, number, line.as_bytes(), b"")
    }),
    refused("thousands of Via elements in one line", 513, |it, number| {
        let line = format!("Via: {}SIP/2.0/UDP h\r\n", "SIP/2.0/UDP h,".repeat(4_000));
        plain(it, number, line.as_bytes(), b"")
    }),
    refused("thousands of empty list elements", 513, |it, number| {
        plain(it, number, format!("Contact: {}\r\n", ",".repeat(50_000)).as_bytes(), b"")
    }),
    refused("hundreds of contacts", 400, |it, number| {
        let contacts = "<sip:a@192.0.2.1>,".repeat(300);
        plain(it, number, format!("Contact: {contacts}<sip:b@192.0.2.1>\r\n").as_bytes(), b"")
    }),
    refused("a Content-Length that is too long", 400, |it, number| {
        plain(it, number, b"Content-Length: 9999\r\n", b"short")
    }),
    refused("a negative Content-Length", 400, |it, number| {
        plain(it, number, b"Content-Length: -1\r\n", b"")
    }),
    refused("two Content-Lengths", 400, |it, number| {
        plain(it, number, b"Content-Length: 0\r\nContent-Length: 5\r\n", b"12345")
    }),
    refused("a Content-Length beyond any integer", 400, |it, number| {
        plain(it, number, b"Content-Length: 99999999999999999999999999\r\n", b"")
    }),
    refused("zeros in a header", 400, |it, number| {
        plain(it, number, b"Contact: <sip:a\0b@192.0.2.1>\r\nContent-Length: 0\r\n", b"")
    }),
    refused("octets that are no text in a contact", 400, |it, number| {
        plain(it, number, b"Contact: <sip:\xff\xfe@\x80>\r\nContent-Length: 0\r\n", b"")
    }),
    refused("a header line that is none", 400, |it, number| {
        plain(it, number, b"\x01\x02\x03\r\nContent-Length: 0\r\n", b"")
    }),
];

#[test]
fn whatever_a_datagram_holds_is_answered_or_dropped_and_counted_and_neighbours_are_served() {
    let (_server, door) = door();
    let mut neighbours = Neighbours::of(&door);
    let attacker = Attacker::at(source(66), door.phones);
    for case in CASES {
        // The first round shows the answer and warms what is allocated once.
        let first = (case.make)(&attacker, 0);
        if case.answer.is_some() {
            assert_eq!(attacker.ask(&first), case.answer, "{}", case.name);
        } else {
            attacker.send(&first);
            assert_eq!(attacker.answer(), None, "{}", case.name);
        }
        let (counted, memory) = (door.metric(case.counter), Memory::of(&door));
        for number in 1..=TIMES {
            attacker.send(&(case.make)(&attacker, number));
            if number % 50 == 0 {
                neighbours.are_served();
            }
        }
        // Datagrams may be lost in the kernel, also these; a hundred is more than chance.
        let grown = soon(case.name, || {
            Some(door.metric(case.counter) - counted).filter(|grown| *grown >= 100)
        });
        // The first one, too, where nothing tells when it was counted.
        assert!(grown <= TIMES as u64 + 1, "{}: {grown} counted", case.name);
        memory.is_bounded(&door, GROWTH);
        while attacker.answer().is_some() {}
    }
}

#[test]
fn octets_behind_a_content_length_are_nobodys() {
    let (_server, door) = door();
    let attacker = Attacker::at(source(66), door.phones);
    let contact = b"Contact: <sip:a@127.0.0.66>\r\nContent-Length: 3\r\n";
    let inner = register_with(attacker.local(), "hidden", b"Contact: <sip:x@h>\r\n", b"");
    let outer = register_with(attacker.local(), "outer", contact, &[b"abc", &inner[..]].concat());
    assert_eq!(attacker.ask(&outer), Some(200));
    assert_eq!(door.users().len(), 1, "what stands behind the body is no message");
}

#[test]
fn a_flood_of_garbage_costs_neither_memory_nor_neighbours() {
    let (_server, door) = door();
    let mut neighbours = Neighbours::of(&door);
    let memory = Memory::of(&door);
    let attackers: Vec<Attacker> =
        (0..8).map(|number| Attacker::at(source(70 + number), door.phones)).collect();
    let mut rng = fastrand::Rng::with_seed(7);
    for round in 0..40 {
        for attacker in &attackers {
            for _ in 0..64 {
                let junk: Vec<u8> = (0..rng.usize(1..1_400)).map(|_| rng.u8(..)).collect();
                attacker.send(&junk);
            }
        }
        if round % 10 == 9 {
            neighbours.are_served();
        }
    }
    soon("they are counted", || (door.metric(MALFORMED) > 1_000).then_some(()));
    memory.is_bounded(&door, GROWTH);
}

#[test]
fn one_source_that_floods_registers_is_told_to_come_back_and_its_neighbours_are_served() {
    let server = Server::start("ucs1", free(LOCALHOST));
    let mut setup = Setup::with([&server]);
    setup.key("limits", "strangers_per_source = 10\nstrangers_burst_per_source = 100\n");
    let door = setup.start();
    let mut neighbours = Neighbours::of(&door);
    let memory = Memory::of(&door);
    let attacker = Attacker::at(source(66), door.phones);
    for number in 0..5_000 {
        attacker.send(&plain(&attacker, number, b"Contact: <sip:a@127.0.0.66>\r\n", b""));
        if number % 1_000 == 999 {
            neighbours.are_served();
        }
    }
    let shed = soon("they are counted", || {
        Some(door.metric("frontdoor_shed_source_total")).filter(|shed| *shed > 1_000)
    });
    assert!(shed < 5_000);
    // Its burst, and ten a second for as long as this took.
    assert!(door.status().users < 1_000, "{}", door.status().users);
    memory.is_bounded(&door, GROWTH);
}

#[test]
fn spoofed_path_tokens_reach_no_phone() {
    let (mut server, door) = door();
    let mut neighbours = Neighbours::of(&door);
    let phones = Phones::at(SocketAddr::new(source(99), 0), door.phones);
    phones.register(&["victim".to_owned()]);
    let memory = Memory::of(&door);
    let upstream = door.upstream();
    // From where no server is, and from a server's own address: without the key it is no use.
    let attackers = [Attacker::at(source(66), upstream), Attacker::at(server.sip.ip(), upstream)];
    let options = |attacker: &Attacker, number: u64| {
        let mut rng = fastrand::Rng::with_seed(number);
        let token: String = (0..22).map(|_| rng.alphanumeric()).collect();
        format!(
            "OPTIONS sip:victim@{victim} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {local};branch=z9hG4bK-spoof-{number};rport\r\n\
             Route: <sip:{token}@{upstream};lr>\r\nMax-Forwards: 70\r\n\
             From: <sip:s@wire.example>;tag=1\r\nTo: <sip:victim@wire.example>\r\n\
             Call-ID: spoof\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n",
            victim = phones.local,
            local = attacker.local(),
        )
    };
    for attacker in &attackers {
        let rejected = door.metric("frontdoor_path_rejected_total");
        assert_eq!(attacker.ask(options(attacker, 0).as_bytes()), Some(403));
        for number in 1..=2_000 {
            attacker.send(options(attacker, number).as_bytes());
        }
        neighbours.are_served();
        soon("they are counted", || {
            Some(door.metric("frontdoor_path_rejected_total") - rejected).filter(|it| *it > 500)
        });
        while attacker.answer().is_some() {}
    }
    assert!(phones.rung().is_empty(), "nobody's phone has rung");
    memory.is_bounded(&door, GROWTH);
    assert_eq!(server.ping_all().unreached, 0, "the servers' own requests go their way");
    assert!(phones.rung().contains("victim"));
}
