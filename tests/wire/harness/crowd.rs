//! Many phones that register, from many addresses, for the first time or again: they repeat themselves as RFC 3261
//! says, and come back when a 503 tells them to.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use frontdoor::now::Uptime;

use crate::harness::{PATIENCE, now};

/// RFC 3261 §17.1.2.2.
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);

/// How phones come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// So many of each source wait for an answer at a time; the next one comes when one is served.
    Closed(usize),
    /// So many a second, all sources together, whatever becomes of them.
    Open(u32),
}

/// Who comes when.
#[derive(Clone, Debug)]
pub(crate) struct Crowd {
    /// Phones of each source; sources are apart.
    pub(crate) per_source: usize,
    pub(crate) sources: Vec<IpAddr>,
    pub(crate) door: SocketAddr,
    /// What their names begin with.
    pub(crate) name: String,
    pub(crate) pace: Pace,
    /// So many phones of each source are registered before anything is counted; then every second
    /// REGISTER is a refresh of one of them, in turn. None: all are strangers.
    pub(crate) known: usize,
    /// Nobody begins later than this.
    pub(crate) begin_within: Duration,
    /// Everybody hangs up then.
    pub(crate) until: Duration,
}

/// What became of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    /// When each was registered, from the beginning.
    pub(crate) registered: Vec<Duration>,
    /// Phones that began.
    pub(crate) begun: u64,
    /// 503, each with the seconds it named.
    pub(crate) retry_after: Vec<u64>,
    /// Other refusals.
    pub(crate) refused: u64,
    /// Sent again for want of an answer.
    pub(crate) repeated: u64,
}

impl Tally {
    /// Registered a second, within these.
    pub(crate) fn rate(&self, from: Duration, to: Duration) -> f64 {
        let within = self.registered.iter().filter(|at| (from..to).contains(at)).count();
        within as f64 / (to - from).as_secs_f64()
    }

    fn add(&mut self, other: Self) {
        let Self { registered, begun, retry_after, refused, repeated } = other;
        self.registered.extend(registered);
        self.begun += begun;
        self.retry_after.extend(retry_after);
        self.refused += refused;
        self.repeated += repeated;
    }
}

impl Crowd {
    /// They come.
    pub(crate) fn come(&self) -> Tally {
        let mut tally = Tally::default();
        let ready = std::sync::Barrier::new(self.sources.len());
        let ready = &ready;
        std::thread::scope(|scope| {
            let come = |number| {
                let mut office = Office::new(self, number);
                office.make_known();
                ready.wait();
                office.open();
                office.work();
                office.tally
            };
            let offices: Vec<_> =
                (0..self.sources.len()).map(|number| scope.spawn(move || come(number))).collect();
            for office in offices {
                tally.add(office.join().unwrap());
            }
        });
        tally
    }
}

/// The phones of one source.
struct Office<'c> {
    crowd: &'c Crowd,
    number: usize,
    start: Uptime,
    socket: UdpSocket,
    local: SocketAddr,
    phones: Vec<Phone>,
    /// What is due when; a phone that is done has no interest in it any more.
    due: BinaryHeap<Reverse<(Uptime, usize)>>,
    done: usize,
    /// Those are registering that are to be known.
    warming: bool,
    tally: Tally,
}

#[derive(Clone, Copy)]
struct Phone {
    due: Uptime,
    attempt: u32,
    /// Waits for an answer: until it repeats itself.
    interval: Option<Duration>,
}

impl<'c> Office<'c> {
    fn new(crowd: &'c Crowd, number: usize) -> Self {
        let socket = UdpSocket::bind(SocketAddr::new(crowd.sources[number], 0)).unwrap();
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBuf, &(4 << 20))
            .unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        let local = socket.local_addr().unwrap();
        let (phones, due, tally) = (Vec::new(), BinaryHeap::new(), Tally::default());
        let (start, done) = (now(), 0);
        Self { crowd, number, start, socket, local, phones, due, done, warming: true, tally }
    }

    fn make_known(&mut self) {
        const AT_ONCE: usize = 50;
        (0..AT_ONCE.min(self.crowd.known)).for_each(|_| self.begin(now()));
        self.work();
        assert_eq!(self.tally.registered.len(), self.crowd.known, "everybody is known");
    }

    /// From now on it counts.
    fn open(&mut self) {
        let crowd = self.crowd;
        (self.start, self.warming, self.tally) = (now(), false, Tally::default());
        self.phones.clear();
        self.due.clear();
        self.done = 0;
        match crowd.pace {
            Pace::Closed(window) => (0..window).for_each(|_| self.begin(self.start)),
            Pace::Open(per_second) => {
                let sources = crowd.sources.len() as u32;
                let gap = Duration::from_secs(sources.into()) / per_second;
                let offset = gap / sources * self.number as u32;
                for index in 0..crowd.per_source as u32 {
                    self.begin(self.start + offset + gap * index);
                }
            }
        }
    }

    fn begin(&mut self, at: Uptime) {
        let Crowd { known, per_source, begin_within, .. } = *self.crowd;
        let most = if self.warming { known } else { per_source };
        if self.phones.len() >= most || (!self.warming && at > self.start + begin_within) {
            return;
        }
        self.due.push(Reverse((at, self.phones.len())));
        self.phones.push(Phone { due: at, attempt: 0, interval: None });
    }

    fn work(&mut self) {
        let patience = if self.warming { PATIENCE } else { self.crowd.until };
        let until = self.start + patience;
        let mut buffer = vec![0; 65_536];
        while now() < until && self.done < self.phones.len() {
            while let Some(&Reverse((at, index))) = self.due.peek() {
                if at > now() {
                    break;
                }
                self.due.pop();
                if self.phones[index].due == at {
                    self.act(index);
                }
            }
            for _ in 0..64 {
                // Nothing came for a moment, or somebody's host refused what was sent.
                let Ok(octets) = self.socket.recv(&mut buffer) else { break };
                self.hear(std::str::from_utf8(&buffer[..octets]).unwrap());
            }
        }
    }

    /// Its time has come: it begins, tries again, or repeats itself.
    fn act(&mut self, index: usize) {
        let phone = &mut self.phones[index];
        let interval = match phone.interval {
            None => {
                phone.attempt += 1;
                self.tally.begun += u64::from(phone.attempt == 1);
                T1
            }
            Some(before) => {
                self.tally.repeated += 1;
                (before * 2).min(T2)
            }
        };
        phone.interval = Some(interval);
        let attempt = phone.attempt;
        self.wake(index, now() + interval);
        let request = self.request(index, attempt);
        // What is lost is repeated.
        let _sent = self.socket.send_to(request.as_bytes(), self.crowd.door);
    }

    fn wake(&mut self, index: usize, at: Uptime) {
        self.phones[index].due = at;
        self.due.push(Reverse((at, index)));
    }

    fn hear(&mut self, text: &str) {
        let Some(rest) = text.strip_prefix("SIP/2.0 ") else { return };
        let status: u16 = rest[..3].parse().unwrap();
        let (_, branch) = text.split_once("branch=z9hG4bK-").unwrap();
        let mut fields = branch.split(|it: char| !it.is_ascii_digit());
        let index: usize = fields.next().unwrap().parse().unwrap();
        let attempt: u32 = fields.next().unwrap().parse().unwrap();
        let phone = &mut self.phones[index];
        if status < 200 || phone.interval.is_none() || phone.attempt != attempt {
            return;
        }
        phone.interval = None;
        if status == 503 {
            let (_, after) = text.split_once("Retry-After: ").unwrap();
            let seconds = after.lines().next().unwrap().trim().parse().unwrap();
            self.tally.retry_after.push(seconds);
            return self.wake(index, now() + Duration::from_secs(seconds));
        }
        phone.due = Uptime::NEVER;
        self.done += 1;
        if status == 200 {
            self.tally.registered.push(now().since(self.start));
        } else {
            self.tally.refused += 1;
        }
        if self.warming || matches!(self.crowd.pace, Pace::Closed(_)) {
            self.begin(now());
        }
    }

    fn request(&self, index: usize, attempt: u32) -> String {
        let Self { local, number, .. } = self;
        let Crowd { known, name, .. } = self.crowd;
        let refreshed = (*known > 0 && index % 2 == 1).then_some(index / 2);
        let (user, cseq) = match refreshed {
            _ if self.warming => (format!("{name}-known{number}x{index}"), attempt),
            Some(index) => {
                let round = (index / known) as u32;
                (format!("{name}-known{number}x{}", index % known), 100 + 10 * round + attempt)
            }
            None => (format!("{name}{number}x{index}"), attempt),
        };
        format!(
            "REGISTER sip:wire.example SIP/2.0\r\n\
             Via: SIP/2.0/UDP {local};branch=z9hG4bK-{index}-{attempt}-{cseq}{user};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:{user}@wire.example>;tag={user}\r\n\
             To: <sip:{user}@wire.example>\r\n\
             Call-ID: {user}@crowd\r\n\
             CSeq: {cseq} REGISTER\r\n\
             Contact: <sip:{user}@{local}>\r\n\
             Expires: 300\r\n\
             Content-Length: 0\r\n\r\n"
        )
    }
}
