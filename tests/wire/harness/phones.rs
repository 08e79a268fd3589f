//! Phones behind one UDP socket, written from the standards alone: they share no line with the
//! program. They register when told to and answer OPTIONS at any time.

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use frontdoor::now::Uptime;

use crate::harness::now;

/// REGISTERs without answer at once.
const WINDOW: usize = 200;

/// RFC 3261 §17.1.2.2.
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);

/// All phones of one socket; they hang up when this is dropped.
pub(crate) struct Phones {
    socket: UdpSocket,
    pub(crate) local: SocketAddr,
    door: SocketAddr,
    shared: Arc<Shared>,
    ears: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    /// By branch.
    answers: Mutex<HashMap<String, Answer>>,
    came: Condvar,
    /// Users whose phone answered an OPTIONS.
    rung: Mutex<HashSet<String>>,
    hung_up: AtomicBool,
}

/// What a phone wants.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) user: String,
    pub(crate) cseq: u32,
    /// Seconds; 0 unregisters.
    pub(crate) expires: u32,
    /// Further parameters of the contact.
    pub(crate) params: String,
}

/// A final answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) text: String,
}

impl Answer {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        header(&self.text, name)
    }
}

struct Asked {
    index: usize,
    branch: String,
    request: String,
    interval: Duration,
    repeat_at: Uptime,
}

impl Phones {
    /// Phones at this address, port 0 for any, that know this door.
    pub(crate) fn at(local: SocketAddr, door: SocketAddr) -> Self {
        let socket = UdpSocket::bind(local).unwrap();
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBuf, &(4 << 20))
            .unwrap();
        // So that the ears notice when everybody hangs up.
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let local = socket.local_addr().unwrap();
        let shared = Arc::new(Shared::default());
        let (ears, heard) = (socket.try_clone().unwrap(), Arc::clone(&shared));
        let ears = Some(std::thread::spawn(move || heard.listen(&ears)));
        Self { socket, local, door, shared, ears }
    }

    /// Every phone asks, a window of them at once and each again and again as RFC 3261 says; the
    /// answers that came within this time, in the order of the wishes.
    pub(crate) fn ask(&self, wishes: &[Wish], patience: Duration) -> Vec<Option<Answer>> {
        self.ask_until(wishes, patience, &AtomicBool::new(false))
    }

    /// The same; stops at once when told to.
    pub(crate) fn ask_until(
        &self,
        wishes: &[Wish],
        patience: Duration,
        stop: &AtomicBool,
    ) -> Vec<Option<Answer>> {
        let deadline = now() + patience;
        let mut answers = vec![None; wishes.len()];
        let mut waiting = wishes.iter().enumerate();
        let mut asked: Vec<Asked> = Vec::new();
        loop {
            while asked.len() < WINDOW {
                let Some((index, wish)) = waiting.next() else { break };
                asked.push(self.send_first(index, wish));
            }
            self.shared.collect(&mut asked, &mut answers);
            let over = stop.load(Ordering::Relaxed) || now() >= deadline;
            if over || (asked.is_empty() && waiting.len() == 0) {
                self.shared.collect(&mut asked, &mut answers);
                return answers;
            }
            for one in asked.iter_mut().filter(|one| one.repeat_at <= now()) {
                one.interval = (one.interval * 2).min(T2);
                one.repeat_at = now() + one.interval;
                self.send(&one.request);
            }
        }
    }

    /// One phone, one question; it must be answered.
    pub(crate) fn ask_one(&self, wish: Wish) -> Answer {
        let user = wish.user.clone();
        let answer = self.ask(&[wish], Duration::from_secs(32)).pop().flatten();
        answer.unwrap_or_else(|| panic!("{user} got no answer"))
    }

    /// Registers everybody for the first time, five minutes long; all must succeed.
    pub(crate) fn register(&self, users: &[String]) {
        let wishes: Vec<Wish> = users.iter().map(|user| register(user, 1)).collect();
        for (wish, answer) in wishes.iter().zip(self.ask(&wishes, Duration::from_secs(32))) {
            let status = answer.map(|answer| answer.status);
            assert_eq!(status, Some(200), "{} is not registered", wish.user);
        }
    }

    /// Users whose phone has answered an OPTIONS.
    pub(crate) fn rung(&self) -> HashSet<String> {
        self.shared.rung.lock().unwrap().clone()
    }

    /// Sends any bytes.
    pub(crate) fn send(&self, message: impl AsRef<[u8]>) {
        // A door that is gone is found out by the missing answer.
        let _refused = self.socket.send_to(message.as_ref(), self.door);
    }

    fn send_first(&self, index: usize, wish: &Wish) -> Asked {
        let Wish { user, cseq, .. } = wish;
        let branch = format!("z9hG4bK-{user}-{cseq}");
        self.shared.answers.lock().unwrap().remove(&branch);
        let request = self.request(wish, &branch);
        self.send(&request);
        Asked { index, branch, request, interval: T1, repeat_at: now() + T1 }
    }

    fn request(&self, wish: &Wish, branch: &str) -> String {
        let Wish { user, cseq, expires, params } = wish;
        let local = self.local;
        format!(
            "REGISTER sip:wire.example SIP/2.0\r\n\
             Via: SIP/2.0/UDP {local};branch={branch};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <{aor}>;tag={user}\r\n\
             To: <{aor}>\r\n\
             Call-ID: {user}@wire\r\n\
             CSeq: {cseq} REGISTER\r\n\
             Contact: <sip:{user}@{local}>{params}\r\n\
             Expires: {expires}\r\n\
             Content-Length: 0\r\n\r\n",
            aor = aor(user),
        )
    }
}

impl Drop for Phones {
    fn drop(&mut self) {
        self.shared.hung_up.store(true, Ordering::Relaxed);
        if let Some(ears) = self.ears.take() {
            let heard = ears.join();
            if !std::thread::panicking() {
                heard.unwrap();
            }
        }
    }
}

impl Shared {
    fn listen(&self, socket: &UdpSocket) {
        let mut buffer = vec![0; 65_536];
        while !self.hung_up.load(Ordering::Relaxed) {
            // Nothing came for a while, or somebody's host refused what was sent.
            let Ok((octets, from)) = socket.recv_from(&mut buffer) else { continue };
            let text = String::from_utf8(buffer[..octets].to_vec()).unwrap();
            if let Some(rest) = text.strip_prefix("SIP/2.0 ") {
                let status = rest[..3].parse().unwrap();
                if status >= 200 {
                    self.answered(status, text);
                }
            } else if text.starts_with("OPTIONS ") {
                let user = text["OPTIONS sip:".len()..].split('@').next().unwrap();
                self.rung.lock().unwrap().insert(user.to_owned());
                let _refused = socket.send_to(ok(&text).as_bytes(), from);
            } else {
                panic!("a phone got what it did not expect:\n{text}");
            }
        }
    }

    fn answered(&self, status: u16, text: String) {
        let via = header(&text, "Via").unwrap_or_default();
        let branch = via.split(';').find_map(|param| param.trim().strip_prefix("branch="));
        let branch = branch.unwrap_or_else(|| panic!("an answer without branch:\n{text}"));
        let answer = Answer { status, text: text.clone() };
        self.answers.lock().unwrap().entry(branch.to_owned()).or_insert(answer);
        self.came.notify_all();
    }

    /// Takes the answers that are there, after a little while at most.
    fn collect(&self, asked: &mut Vec<Asked>, answers: &mut [Option<Answer>]) {
        let came = self.answers.lock().unwrap();
        let (mut came, _) = self.came.wait_timeout(came, Duration::from_millis(5)).unwrap();
        asked.retain(|one| match came.remove(&one.branch) {
            Some(answer) => {
                answers[one.index] = Some(answer);
                false
            }
            None => true,
        });
    }
}

/// So many users' names.
pub(crate) fn users(count: usize) -> Vec<String> {
    (0..count).map(|n| format!("user{n:03}")).collect()
}

/// Five minutes, as most phones want.
pub(crate) fn register(user: &str, cseq: u32) -> Wish {
    Wish { user: user.to_owned(), cseq, expires: 300, params: String::new() }
}

/// The address-of-record of a user.
pub(crate) fn aor(user: &str) -> String {
    format!("sip:{user}@wire.example")
}

/// The first value of a header, by its full name.
fn header<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().take_while(|line| !line.is_empty()).find_map(|line| {
        let (its_name, value) = line.split_once(':')?;
        its_name.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// 200 to a request (RFC 3261 §8.2.6.2).
pub(crate) fn ok(request: &str) -> String {
    let mut answer = String::from("SIP/2.0 200 OK\r\n");
    for line in request.lines().take_while(|line| !line.is_empty()) {
        let name = line.split(':').next().unwrap_or_default().trim().to_ascii_lowercase();
        match name.as_str() {
            "via" | "from" | "call-id" | "cseq" => answer.push_str(&format!("{line}\r\n")),
            "to" => answer.push_str(&format!("{line};tag=phone\r\n")),
            _ => {}
        }
    }
    answer.push_str("Content-Length: 0\r\n\r\n");
    answer
}
