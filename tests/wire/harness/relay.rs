//! A wire between one phone and the door that can be slow at the worst moment.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::harness::{LOCALHOST, soon};

/// Between two looks at whether it is over.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Carries datagrams both ways until it is dropped.
pub(crate) struct Relay {
    /// Where the phone takes the door to be.
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    carriers: Vec<JoinHandle<()>>,
}

struct Shared {
    to_phone: UdpSocket,
    to_door: UdpSocket,
    door: SocketAddr,
    phone: Mutex<Option<SocketAddr>>,
    hold: Mutex<Option<Hold>>,
    over: AtomicBool,
}

/// Requests of the phone's with `what` in them stay here; retransmissions once.
struct Hold {
    what: &'static str,
    held: Vec<Vec<u8>>,
}

impl Relay {
    pub(crate) fn before(door: SocketAddr) -> Self {
        let [to_phone, to_door] = [(); 2].map(|()| UdpSocket::bind((LOCALHOST, 0)).unwrap());
        for socket in [&to_phone, &to_door] {
            socket.set_read_timeout(Some(LOOK_EVERY)).unwrap();
        }
        let address = to_phone.local_addr().unwrap();
        let shared = Arc::new(Shared {
            to_phone,
            to_door,
            door,
            phone: Mutex::default(),
            hold: Mutex::default(),
            over: AtomicBool::new(false),
        });
        let carriers = [Shared::carry_to_door, Shared::carry_to_phone].map(|carry| {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || carry(&shared))
        });
        Self { address, shared, carriers: carriers.into() }
    }

    /// From now on requests with this in them get no further; waits until there is one.
    pub(crate) fn hold(&self, what: &'static str) {
        *self.shared.hold.lock().unwrap() = Some(Hold { what, held: Vec::new() });
        soon(&format!("the phone sends {what}"), || {
            let hold = self.shared.hold.lock().unwrap();
            hold.as_ref().is_some_and(|hold| !hold.held.is_empty()).then_some(())
        });
    }

    /// What was held goes on its way, late.
    pub(crate) fn release(&self) {
        let hold = self.shared.hold.lock().unwrap().take().unwrap();
        for datagram in hold.held {
            self.shared.to_door.send_to(&datagram, self.shared.door).unwrap();
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        for carrier in self.carriers.drain(..) {
            // It may have failed with the test.
            let _ended = carrier.join();
        }
    }
}

impl Shared {
    fn carry_to_door(&self) {
        self.carry(&self.to_phone, |datagram, phone| {
            *self.phone.lock().unwrap() = Some(phone);
            if let Some(hold) = self.hold.lock().unwrap().as_mut()
                && memchr::memmem::find(datagram, hold.what.as_bytes()).is_some()
            {
                if !hold.held.iter().any(|other| other == datagram) {
                    hold.held.push(datagram.to_vec());
                }
                return;
            }
            self.to_door.send_to(datagram, self.door).unwrap();
        });
    }

    fn carry_to_phone(&self) {
        self.carry(&self.to_door, |datagram, _door| {
            if let Some(phone) = *self.phone.lock().unwrap() {
                self.to_phone.send_to(datagram, phone).unwrap();
            }
        });
    }

    fn carry(&self, from: &UdpSocket, mut each: impl FnMut(&[u8], SocketAddr)) {
        let mut buffer = vec![0; 65_536];
        while !self.over.load(Ordering::Relaxed) {
            if let Ok((octets, peer)) = from.recv_from(&mut buffer) {
                each(&buffer[..octets], peer);
            }
        }
    }
}
