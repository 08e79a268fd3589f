//! A phone writes the contact that servers are told: nothing in it may become a line of its own.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::harness::{
    Attacker, LOCALHOST, Memory, Neighbours, Server, Setup, free, mib, ok, register_with, source,
};

/// A registrar that takes everything and keeps what it was sent, octet by octet.
struct Registrar {
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
    over: Arc<AtomicBool>,
    ears: Option<JoinHandle<()>>,
}

impl Registrar {
    fn at(socket: UdpSocket) -> Self {
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let (heard, over) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (keep, stop) = (Arc::clone(&heard), Arc::clone(&over));
        let ears = std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while !stop.load(Ordering::Relaxed) {
                let Ok((octets, from)) = socket.recv_from(&mut buffer) else { continue };
                let text = String::from_utf8_lossy(&buffer[..octets]).into_owned();
                let mut answer = ok(&text);
                if text.starts_with("REGISTER ") {
                    keep.lock().unwrap().push(buffer[..octets].to_vec());
                    let echoed = text
                        .lines()
                        .filter(|line| line.starts_with("Contact:") || line.starts_with("Path:"));
                    let echoed: String = echoed.map(|line| format!("{line}\r\n")).collect();
                    answer =
                        answer.replacen("Content-Length", &format!("{echoed}Content-Length"), 1);
                }
                socket.send_to(answer.as_bytes(), from).unwrap();
            }
        });
        Self { heard, over, ears: Some(ears) }
    }

    fn heard(&self) -> Vec<Vec<u8>> {
        self.heard.lock().unwrap().clone()
    }
}

impl Drop for Registrar {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        if let Some(ears) = self.ears.take() {
            let _ended = ears.join();
        }
    }
}

/// Whether some line of a message begins like this, however a lenient reader cuts lines.
fn has_line(message: &[u8], name: &str) -> bool {
    message
        .split(|octet| matches!(octet, b'\r' | b'\n'))
        .any(|line| line.to_ascii_lowercase().starts_with(name.as_bytes()))
}

#[test]
fn nothing_a_phone_writes_into_its_contact_becomes_a_line_of_the_doors() {
    let address = free(LOCALHOST);
    let socket = UdpSocket::bind(address).unwrap();
    // For its name and address alone: the registrar below takes its place.
    let mut server = Server::start("ucs1", free(LOCALHOST));
    server.kill();
    server.sip = address;
    let registrar = Registrar::at(socket);
    let door = Setup::with([&server]).start();
    door.server_in("ucs1", "up");

    let mut neighbours = Neighbours::of(&door);
    let memory = Memory::of(&door);
    let attacker = Attacker::at(source(66), door.phones);
    let contacts: [&[u8]; 10] = [
        b"<sip:a@192.0.2.1>;x=1\r\n Evil: folded",
        b"<sip:a@192.0.2.1>;x=\"\r\n Evil: quoted\"",
        b"<sip:a@192.0.2.1>;x=1\nEvil: bare lf",
        b"<sip:a@192.0.2.1>;x=1\rEvil: bare cr",
        b"\"\\\r\nEvil: escaped\" <sip:a@192.0.2.1>",
        b"\"a\r\n\tEvil: tab\" <sip:a@192.0.2.1>",
        b"<sip:a@192.0.2.1;x=%0d%0aEvil:%20percent>",
        b"<sip:a@192.0.2.1?Evil=header>",
        b"<sip:a%0aEvil:@192.0.2.1>;+sip.instance=\"<urn:\nEvil: urn>\"",
        b"<sip:a@192.0.2.1>;x=\0\nEvil: zero",
    ];
    let mut taken = 0;
    for (number, contact) in contacts.iter().enumerate() {
        let lines = [b"Contact: ", *contact, b"\r\nContent-Length: 0\r\n"].concat();
        let user = format!("inject{number}");
        let shown = contact.escape_ascii();
        match attacker.ask(&register_with(attacker.local(), &user, &lines, b"")) {
            Some(200) => taken += 1,
            Some(400) => {}
            other => panic!("{other:?} to {shown}"),
        }
        neighbours.are_served();
    }
    memory.is_bounded(&door, mib(48));
    let heard = registrar.heard();
    assert!(taken > 0 && heard.len() >= taken, "{taken} taken, {} heard", heard.len());
    for message in heard {
        assert!(!has_line(&message, "evil"), "{}", message.escape_ascii());
    }
}
