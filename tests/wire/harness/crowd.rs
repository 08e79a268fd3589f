//! Many phones that register, from many addresses, for the first time or again: they repeat themselves as RFC 3261
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

/// Of the phones of each source that are to be known, so many wait for an answer at a time. Those that
/// are told to come back do, within this time.
const KNOWN_AT_ONCE: usize = 20;
const KNOWN_WITHIN: Duration = Duration::from_secs(150);

/// How phones come.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Pace {
    /// So many of each source wait for an answer at a time; the next one comes when one is served.
    Closed(usize),
    /// So many a second, all sources together, whatever becomes of them.
    Open(u32),
}

/// Who comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// Phones the door has never seen.
    Strangers,
    /// Those it knows, in turn, to refresh.
    Known,
    /// Now one, now the other.
    Both,
}

/// How they come once.
#[derive(Clone, Debug)]
pub(crate) struct Coming {
    /// What the names of strangers begin with.
    pub(crate) name: String,
    pub(crate) who: Who,
    pub(crate) pace: Pace,
    /// Phones of each source; sources are apart.
    pub(crate) per_source: usize,
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
    /// Of these, to phones the door knew.
    pub(crate) known_turned_away: u64,
    /// Other refusals.
    pub(crate) refused: u64,
    /// Sent again for want of an answer.
    pub(crate) repeated: u64,
    /// From question to final answer, whatever that was: of phones the door knew, and of strangers.
    pub(crate) known_waited: Vec<Duration>,
    pub(crate) strangers_waited: Vec<Duration>,
}

impl Tally {
    /// Registered a second, within these.
    pub(crate) fn rate(&self, from: Duration, to: Duration) -> f64 {
        let within = self.registered.iter().filter(|at| from <= **at && **at < to).count();
        within as f64 / (to - from).as_secs_f64()
    }

    fn add(&mut self, mut other: Self) {
        self.registered.append(&mut other.registered);
        self.begun += other.begun;
        self.retry_after.append(&mut other.retry_after);
        self.known_turned_away += other.known_turned_away;
        self.refused += other.refused;
        self.repeated += other.repeated;
        self.known_waited.append(&mut other.known_waited);
        self.strangers_waited.append(&mut other.strangers_waited);
    }
}

/// Phones at several sources, which come once or more often.
pub(crate) struct Crowd {
    offices: Vec<Office>,
}

impl Crowd {
    /// Each source has so many phones that the door knows.
    pub(crate) fn at(sources: &[IpAddr], door: SocketAddr, known: usize) -> Self {
        let offices = sources.iter().enumerate();
        let offices = offices.map(|(number, source)| Office::at(number, *source, door, known));
        let mut crowd = Self { offices: offices.collect() };
        if known > 0 {
            let tally = crowd.come(&Coming {
                name: String::new(),
                who: Who::Known,
                pace: Pace::Closed(KNOWN_AT_ONCE),
                per_source: known,
                begin_within: KNOWN_WITHIN,
                until: KNOWN_WITHIN,
            });
            assert_eq!(tally.registered.len(), known * sources.len(), "everybody is known");
        }
        crowd
    }

    /// They come.
    pub(crate) fn come(&mut self, coming: &Coming) -> Tally {
        let mut tally = Tally::default();
        let count = self.offices.len();
        let ready = &std::sync::Barrier::new(count);
        std::thread::scope(|scope| {
            let come = |office: &mut Office| {
                ready.wait();
                office.come(coming, count)
            };
            let offices: Vec<_> =
                self.offices.iter_mut().map(|it| scope.spawn(move || come(it))).collect();
            for office in offices {
                tally.add(office.join().unwrap());
            }
        });
        tally
    }
}

/// The phones of one source.
struct Office {
    number: usize,
    socket: UdpSocket,
    local: SocketAddr,
    door: SocketAddr,
    /// Phones the door knows.
    known: usize,
    /// Times they came.
    round: u32,
}

impl Office {
    fn at(number: usize, source: IpAddr, door: SocketAddr, known: usize) -> Self {
        let socket = UdpSocket::bind(SocketAddr::new(source, 0)).unwrap();
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBuf, &(4 << 20))
            .unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(2))).unwrap();
        let local = socket.local_addr().unwrap();
        Self { number, socket, local, door, known, round: 0 }
    }

    fn come(&mut self, coming: &Coming, offices: usize) -> Tally {
        self.round += 1;
        let mut round = Round {
            office: self,
            coming,
            start: now(),
            phones: Vec::new(),
            due: BinaryHeap::new(),
            done: 0,
            tally: Tally::default(),
        };
        round.open(offices as u32);
        round.work();
        round.tally
    }
}

/// One time that they come.
struct Round<'r> {
    office: &'r Office,
    coming: &'r Coming,
    start: Uptime,
    phones: Vec<Phone>,
    /// What is due when; a phone that is done has no interest in it any more.
    due: BinaryHeap<Reverse<(Uptime, usize)>>,
    done: usize,
    tally: Tally,
}

#[derive(Clone, Copy)]
struct Phone {
    due: Uptime,
    asked_at: Uptime,
    attempt: u32,
    /// Waits for an answer: until it repeats itself.
    interval: Option<Duration>,
}

impl Round<'_> {
    fn open(&mut self, offices: u32) {
        match self.coming.pace {
            Pace::Closed(window) => (0..window).for_each(|_| self.begin(self.start)),
            Pace::Open(per_second) => {
                let gap = Duration::from_secs(offices.into()) / per_second;
                let offset = gap / offices * self.office.number as u32;
                for index in 0..self.coming.per_source as u32 {
                    self.begin(self.start + offset + gap * index);
                }
            }
        }
    }

    fn begin(&mut self, at: Uptime) {
        let Coming { per_source, begin_within, .. } = *self.coming;
        if self.phones.len() >= per_source || at > self.start + begin_within {
            return;
        }
        self.due.push(Reverse((at, self.phones.len())));
        self.phones.push(Phone { due: at, asked_at: at, attempt: 0, interval: None });
    }

    fn work(&mut self) {
        let until = self.start + self.coming.until;
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
                let Ok(octets) = self.office.socket.recv(&mut buffer) else { break };
                self.hear(std::str::from_utf8(&buffer[..octets]).unwrap());
            }
        }
    }

    /// Its time has come: it begins, tries again, or repeats itself.
    fn act(&mut self, index: usize) {
        let phone = &mut self.phones[index];
        let now = now();
        let interval = match phone.interval {
            None => {
                phone.attempt += 1;
                phone.asked_at = now;
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
        self.wake(index, now + interval);
        let request = self.request(index, attempt);
        // What is lost is repeated.
        let _sent = self.office.socket.send_to(request.as_bytes(), self.office.door);
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
        let mut field = || fields.next().unwrap().parse::<u32>().unwrap();
        let (round, index, attempt) = (field(), field() as usize, field());
        // What was asked when they came before.
        if round != self.office.round {
            return;
        }
        let phone = &mut self.phones[index];
        if status < 200 || phone.interval.is_none() || phone.attempt != attempt {
            return;
        }
        phone.interval = None;
        let waited = now().since(phone.asked_at);
        let is_known = self.refreshed(index).is_some();
        if is_known {
            self.tally.known_waited.push(waited);
        } else {
            self.tally.strangers_waited.push(waited);
        }
        if status == 503 {
            let (_, after) = text.split_once("Retry-After: ").unwrap();
            let seconds = after.lines().next().unwrap().trim().parse().unwrap();
            self.tally.retry_after.push(seconds);
            self.tally.known_turned_away += u64::from(is_known);
            return self.wake(index, now() + Duration::from_secs(seconds));
        }
        self.phones[index].due = Uptime::NEVER;
        self.done += 1;
        if status == 200 {
            self.tally.registered.push(now().since(self.start));
        } else {
            self.tally.refused += 1;
        }
        if matches!(self.coming.pace, Pace::Closed(_)) {
            self.begin(now());
        }
    }

    /// Which refresh this is, counted from the beginning.
    fn refreshed(&self, index: usize) -> Option<usize> {
        match self.coming.who {
            Who::Strangers => None,
            Who::Known => Some(index),
            Who::Both => (index % 2 == 1).then_some(index / 2),
        }
    }

    fn request(&self, index: usize, attempt: u32) -> String {
        let Office { local, number, known, round, .. } = self.office;
        let (user, cseq) = match self.refreshed(index) {
            Some(index) => {
                let turn = (index / known) as u32;
                // It rises from one time that they come to the next.
                let cseq = 10_000 * round + 10 * turn + attempt;
                (format!("known{number}x{}", index % known), cseq)
            }
            None => (format!("{}{number}x{index}", self.coming.name), attempt),
        };
        format!(
            "REGISTER sip:wire.example SIP/2.0\r\n\
             Via: SIP/2.0/UDP {local};branch=z9hG4bK-{round}-{index}-{attempt}-{cseq}{user};rport\r\n\
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
