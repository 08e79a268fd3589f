//! Many phones that register once each, from many addresses: they repeat themselves as RFC 3261
//! says, and come back when a 503 tells them to.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use frontdoor::now::Uptime;

use crate::harness::now;

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
        let start = now();
        let mut tally = Tally::default();
        std::thread::scope(|scope| {
            let offices: Vec<_> = (0..self.sources.len())
                .map(|number| scope.spawn(move || Office::new(self, number, start).work()))
                .collect();
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
    fn new(crowd: &'c Crowd, number: usize, start: Uptime) -> Self {
        let socket = UdpSocket::bind(SocketAddr::new(crowd.sources[number], 0)).unwrap();
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBuf, &(4 << 20))
            .unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        let local = socket.local_addr().unwrap();
        let (phones, due) = (Vec::new(), BinaryHeap::new());
        let mut office =
            Self { crowd, number, start, socket, local, phones, due, done: 0, tally: Tally::default() };
        match crowd.pace {
            Pace::Closed(window) => (0..window).for_each(|_| office.begin(start)),
            Pace::Open(per_second) => {
                let gap = Duration::from_secs(crowd.sources.len() as u64) / per_second;
                let offset = gap / crowd.sources.len() as u32 * number as u32;
                for index in 0..crowd.per_source as u32 {
                    office.begin(start + offset + gap * index);
                }
            }
        }
        office
    }

    fn begin(&mut self, at: Uptime) {
        if self.phones.len() >= self.crowd.per_source
            || at > self.start + self.crowd.begin_within
        {
            return;
        }
        self.due.push(Reverse((at, self.phones.len())));
        self.phones.push(Phone { due: at, attempt: 0, interval: None });
    }

    fn work(mut self) -> Tally {
        let until = self.start + self.crowd.until;
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
        self.tally
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
        if let Pace::Closed(_) = self.crowd.pace {
            self.begin(now());
        }
    }

    fn request(&self, index: usize, attempt: u32) -> String {
        let Self { local, number, .. } = self;
        let user = format!("{}{number}x{index}", self.crowd.name);
        format!(
            "REGISTER sip:wire.example SIP/2.0\r\n\
             Via: SIP/2.0/UDP {local};branch=z9hG4bK-{index}-{attempt}-{user};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:{user}@wire.example>;tag={user}\r\n\
             To: <sip:{user}@wire.example>\r\n\
             Call-ID: {user}@crowd\r\n\
             CSeq: {attempt} REGISTER\r\n\
             Contact: <sip:{user}@{local}>\r\n\
             Expires: 300\r\n\
             Content-Length: 0\r\n\r\n"
        )
    }
}
