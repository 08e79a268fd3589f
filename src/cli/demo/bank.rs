//! [`Bank`]: the simulated phones that share one UDP socket. Pure: time is an argument.
//!
//! A phone registers, repeats itself like RFC 3261 §17.1.2 says, refreshes at half of its lease, and
//! answers OPTIONS. Only so many phones of a bank register for the first time at once.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::cli::demo::board::Board;
use crate::now::Uptime;
use crate::sip::{ContactValue, HeaderName, Message, Request, Response, Uri};
use crate::timers::Timers;

/// RFC 3261 §17.1.2.2: timers T1 and T2, and F = 64 T1.
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
const TIMER_F: Duration = Duration::from_secs(32);
/// What a phone asks for; the door grants less.
const WISHED_SECS: u32 = 3600;
/// After a refusal that names no time.
const RETRY: Duration = Duration::from_secs(2);
/// Domain of all phones.
const DOMAIN: &str = "demo.example";

/// Bytes for somebody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Send {
    pub(super) to: SocketAddr,
    pub(super) bytes: Bytes,
}

/// All phones of one socket.
#[derive(Debug)]
pub(super) struct Bank {
    local: SocketAddr,
    door: SocketAddr,
    /// Numbers of this bank's phones: `first`, `first + 1`, …
    first: usize,
    phones: Vec<Phone>,
    /// Phones that have not tried yet.
    waiting: VecDeque<usize>,
    /// First registrations under way.
    in_flight: usize,
    window: usize,
    timers: Timers<usize>,
    board: Arc<Board>,
}

#[derive(Debug)]
struct Phone {
    cseq: u32,
    state: State,
    /// When its state wants something; older deadlines of the queue are stale.
    due: Uptime,
    has_registered: bool,
}

#[derive(Debug)]
enum State {
    /// Has not tried yet.
    Fresh,
    /// Waits for an answer.
    Asking { since: Uptime, interval: Duration, request: Bytes },
    /// Waits until it is time to ask (again).
    Resting,
}

impl Bank {
    pub(super) fn new(
        local: SocketAddr,
        door: SocketAddr,
        first: usize,
        count: usize,
        window: usize,
        board: Arc<Board>,
    ) -> Self {
        let fresh =
            || Phone { cseq: 0, state: State::Fresh, due: Uptime::NEVER, has_registered: false };
        Self {
            local,
            door,
            first,
            phones: std::iter::repeat_with(fresh).take(count).collect(),
            waiting: (0..count).collect(),
            in_flight: 0,
            window: window.max(1),
            timers: Timers::default(),
            board,
        }
    }

    /// When [`Bank::poll`] is due.
    pub(super) fn next(&self) -> Option<Uptime> {
        self.timers.next()
    }

    /// Lets time pass: first registrations, repetitions, refreshes.
    pub(super) fn poll(&mut self, now: Uptime, out: &mut Vec<Send>) {
        while self.in_flight < self.window {
            let Some(index) = self.waiting.pop_front() else { break };
            self.in_flight += 1;
            self.ask(now, index, out);
        }
        while let Some(index) = self.timers.pop_due(now) {
            let Some(phone) = self.phones.get(index) else { continue };
            if phone.due > now {
                continue;
            }
            match &phone.state {
                State::Asking { since, .. } if now.since(*since) >= TIMER_F => {
                    Board::add(&self.board.timeouts, 1);
                    self.rest(index, now + RETRY);
                }
                State::Asking { .. } => self.repeat(now, index, out),
                State::Resting => self.ask(now, index, out),
                State::Fresh => {}
            }
        }
    }

    /// Takes in a datagram.
    pub(super) fn receive(
        &mut self,
        now: Uptime,
        from: SocketAddr,
        bytes: Bytes,
        out: &mut Vec<Send>,
    ) {
        let Ok(message) = Message::parse(bytes) else { return };
        match (message.status(), message.method()) {
            (Some(status), _) if status >= 200 => self.answered(now, &message, status, out),
            (None, Some("OPTIONS")) => self.options(now, from, &message, out),
            (None, Some(_)) => {
                let bytes = Response::to(&message, 405).finish();
                out.push(Send { to: from, bytes });
            }
            (Some(_), _) | (None, None) => {}
        }
    }

    fn options(&self, now: Uptime, from: SocketAddr, message: &Message, out: &mut Vec<Send>) {
        let uri = message.uri().and_then(|uri| Uri::parse(uri).ok());
        let called = uri.and_then(|uri| uri.user.and_then(phone_of_user));
        let index = called.and_then(|phone| self.index_of(phone));
        let known = index.and_then(|index| self.phones.get(index).map(|phone| (index, phone)));
        let status = match known {
            // A server may ask before the phone has its 200.
            Some((index, phone)) if phone.cseq > 0 => {
                self.board.answered(self.first + index, now);
                200
            }
            Some(_) | None => {
                Board::add(&self.board.misdirected, 1);
                404
            }
        };
        let response = Response::to(message, status).to_tag("phone");
        out.push(Send { to: from, bytes: response.finish() });
    }

    fn answered(&mut self, now: Uptime, message: &Message, status: u16, out: &mut Vec<Send>) {
        let user = message.to().ok().and_then(|to| to.parsed_uri().ok()?.user);
        let Some(index) = user.and_then(phone_of_user).and_then(|phone| self.index_of(phone))
        else {
            return;
        };
        let contact = contact(self.first + index, self.local);
        let Some(phone) = self.phones.get_mut(index) else { return };
        let is_awaited = matches!(phone.state, State::Asking { .. })
            && message.cseq().is_ok_and(|cseq| cseq.number == phone.cseq);
        if !is_awaited {
            return;
        }
        if status == 200 {
            let lease = Duration::from_secs(granted_secs(message, contact.as_bytes()).into());
            if !phone.has_registered {
                phone.has_registered = true;
                self.in_flight = self.in_flight.saturating_sub(1);
                Board::add(&self.board.registered, 1);
            }
            self.board.leased(self.first + index, now + lease);
            // Half of the lease, and a little earlier for some, so that no wave comes back whole.
            let early = lease.mul_f64(0.1 * (index % 16) as f64 / 16.0);
            self.rest(index, now + (lease / 2).saturating_sub(early));
        } else {
            Board::add(&self.board.refused, 1);
            let named = message.header_named("Retry-After").and_then(leading_number);
            let wait = named.map_or(RETRY, |secs| Duration::from_secs(secs.clamp(1, 60)));
            self.rest(index, now + wait);
        }
        self.poll(now, out);
    }

    fn ask(&mut self, now: Uptime, index: usize, out: &mut Vec<Send>) {
        let number = self.first + index;
        let Some(phone) = self.phones.get_mut(index) else { return };
        phone.cseq += 1;
        let bytes = register(number, self.local, phone.cseq);
        phone.state = State::Asking { since: now, interval: T1, request: bytes.clone() };
        phone.due = now + T1;
        self.timers.set(phone.due, index);
        Board::add(&self.board.asked, 1);
        out.push(Send { to: self.door, bytes });
    }

    fn repeat(&mut self, now: Uptime, index: usize, out: &mut Vec<Send>) {
        let Some(phone) = self.phones.get_mut(index) else { return };
        let State::Asking { since, interval, request } = &mut phone.state else { return };
        *interval = (*interval * 2).min(T2);
        phone.due = (now + *interval).min(*since + TIMER_F);
        self.timers.set(phone.due, index);
        Board::add(&self.board.repeated, 1);
        out.push(Send { to: self.door, bytes: request.clone() });
    }

    fn rest(&mut self, index: usize, until: Uptime) {
        let Some(phone) = self.phones.get_mut(index) else { return };
        phone.state = State::Resting;
        phone.due = until;
        self.timers.set(until, index);
    }

    fn index_of(&self, phone: usize) -> Option<usize> {
        phone.checked_sub(self.first).filter(|index| *index < self.phones.len())
    }
}

/// The address-of-record of a phone.
pub(super) fn aor(phone: usize) -> String {
    format!("sip:{}", login_name(phone))
}

/// What the user of a phone logs in as with a client.
pub(super) fn login_name(phone: usize) -> String {
    format!("{}@{DOMAIN}", user(phone))
}

/// Whose login name this is.
pub(super) fn phone_of_login(name: &str) -> Option<usize> {
    phone_of_user(name.strip_suffix(DOMAIN)?.strip_suffix('@')?.as_bytes())
}

/// Whose address-of-record this is.
pub(super) fn phone_of_aor(aor: &str) -> Option<usize> {
    phone_of_login(aor.strip_prefix("sip:")?)
}

/// People count from 1.
pub(super) fn user(phone: usize) -> String {
    format!("phone{:05}", phone + 1)
}

fn phone_of_user(user: &[u8]) -> Option<usize> {
    let number: usize = std::str::from_utf8(user.strip_prefix(b"phone")?).ok()?.parse().ok()?;
    number.checked_sub(1)
}

fn contact(phone: usize, local: SocketAddr) -> String {
    format!("sip:{}@{local}", user(phone))
}

fn register(phone: usize, local: SocketAddr, cseq: u32) -> Bytes {
    let (user, aor) = (user(phone), aor(phone));
    let uri = format!("sip:{DOMAIN}");
    Request::new("REGISTER", uri.as_bytes())
        .header(HeaderName::Via, format!("SIP/2.0/UDP {local};branch=z9hG4bK{user}-{cseq};rport"))
        .header(HeaderName::MaxForwards, "70")
        .header(HeaderName::From, format!("<{aor}>;tag={user}"))
        .header(HeaderName::To, format!("<{aor}>"))
        .header(HeaderName::CallId, format!("{user}@{local}"))
        .header(HeaderName::CSeq, format!("{cseq} REGISTER"))
        .header(HeaderName::Contact, format!("<{}>", contact(phone, local)))
        .header(HeaderName::Expires, WISHED_SECS.to_string())
        .header(HeaderName::UserAgent, "frontdoor demo phone")
        .finish()
}

/// What a 200 grants our contact (RFC 3261 §10.2.4).
fn granted_secs(message: &Message, contact: &[u8]) -> u32 {
    let of_contact =
        message.values(HeaderName::Contact).find_map(|value| {
            match ContactValue::parse(value).ok()? {
                ContactValue::Address(address) if address.uri == contact => {
                    leading_number(address.params.get("expires")?)
                }
                ContactValue::Address(_) | ContactValue::Star => None,
            }
        });
    let secs = of_contact.and_then(|secs| u32::try_from(secs).ok());
    secs.or_else(|| message.expires()?.ok()).unwrap_or(WISHED_SECS)
}

/// Seconds in front of whatever else a header says (`Retry-After: 5;duration=3600`).
fn leading_number(value: &[u8]) -> Option<u64> {
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(value.get(..digits)?).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOOR: &str = "127.0.0.1:5060";

    fn bank(count: usize, window: usize) -> (Bank, Arc<Board>) {
        let board = Arc::new(Board::new(100 + count));
        let local = "127.0.0.1:40000".parse().unwrap();
        let bank = Bank::new(local, DOOR.parse().unwrap(), 100, count, window, Arc::clone(&board));
        (bank, board)
    }

    fn ok(request: &Bytes, expires: u32) -> Bytes {
        let request = Message::parse(request.clone()).unwrap();
        let contact = request.header(HeaderName::Contact).unwrap();
        let contact = format!("{};expires={expires}", std::str::from_utf8(contact).unwrap());
        Response::to(&request, 200).header(HeaderName::Contact, contact).finish()
    }

    fn poll(bank: &mut Bank, at: Uptime) -> Vec<Send> {
        let mut out = Vec::new();
        bank.poll(at, &mut out);
        out
    }

    fn receive(bank: &mut Bank, at: Uptime, bytes: Bytes) -> Vec<Send> {
        let mut out = Vec::new();
        bank.receive(at, DOOR.parse().unwrap(), bytes, &mut out);
        out
    }

    #[test]
    fn a_phone_is_found_by_its_address_and_by_nothing_else() {
        assert_eq!(aor(0), "sip:phone00001@demo.example");
        assert_eq!(phone_of_aor(&aor(29_999)), Some(29_999));
        assert_eq!(phone_of_aor(&aor(123_456)), Some(123_456));
        for other in [
            "sip:phone00001@demo.example.org",
            "sip:phone@demo.example",
            "sip:phone00000@demo.example",
        ] {
            assert_eq!(phone_of_aor(other), None, "{other}");
        }
    }

    #[test]
    fn only_a_window_of_phones_registers_at_once() {
        let (mut bank, board) = bank(5, 2);
        let first = poll(&mut bank, Uptime::ZERO);
        assert_eq!(first.len(), 2);
        assert_eq!(poll(&mut bank, Uptime::from_millis(1)), []);
        let next = receive(&mut bank, Uptime::from_millis(2), ok(&first[0].bytes, 300));
        assert_eq!(next.len(), 1);
        assert_eq!(Board::read(&board.registered), 1);
    }

    #[test]
    fn an_unanswered_register_is_repeated_and_then_begun_anew() {
        let (mut bank, board) = bank(1, 1);
        let first = poll(&mut bank, Uptime::ZERO);
        let mut repeated_at = Vec::new();
        let mut anew_at = None;
        for step in 1..=35_000 / 100 {
            let at = Uptime::from_millis(step * 100);
            for sent in poll(&mut bank, at) {
                if sent == first[0] {
                    repeated_at.push(step * 100);
                } else {
                    anew_at.get_or_insert(step * 100);
                }
            }
        }
        // RFC 3261 §17.1.2.2 with T1 = 500 ms and T2 = 4 s.
        assert_eq!(
            repeated_at,
            [500, 1_500, 3_500, 7_500, 11_500, 15_500, 19_500, 23_500, 27_500, 31_500]
        );
        assert_eq!(anew_at, Some(34_000));
        assert_eq!(Board::read(&board.timeouts), 1);
    }

    #[test]
    fn a_lease_is_refreshed_in_time_with_a_rising_cseq() {
        let (mut bank, _board) = bank(1, 1);
        let first = poll(&mut bank, Uptime::ZERO);
        receive(&mut bank, Uptime::ZERO, ok(&first[0].bytes, 300));
        assert_eq!(bank.poll_all_until(Uptime::from_secs(149)), []);
        let refresh = bank.poll_all_until(Uptime::from_secs(150));
        let cseq = Message::parse(refresh[0].bytes.clone()).unwrap().cseq().unwrap().number;
        assert_eq!((refresh.len(), cseq), (1, 2));
    }

    #[test]
    fn a_refusal_is_tried_again_when_it_says() {
        let (mut bank, board) = bank(1, 1);
        let first = poll(&mut bank, Uptime::ZERO);
        let request = Message::parse(first[0].bytes.clone()).unwrap();
        let refusal = Response::to(&request, 503).named("Retry-After", "7").finish();
        receive(&mut bank, Uptime::from_secs(1), refusal);
        assert_eq!(poll(&mut bank, Uptime::from_millis(7_999)), []);
        assert_eq!(poll(&mut bank, Uptime::from_secs(8)).len(), 1);
        assert_eq!(Board::read(&board.refused), 1);
    }

    #[test]
    fn an_answer_to_an_earlier_request_changes_nothing() {
        let (mut bank, board) = bank(1, 1);
        let first = poll(&mut bank, Uptime::ZERO);
        let answer = ok(&first[0].bytes, 300);
        receive(&mut bank, Uptime::ZERO, answer.clone());
        bank.poll_all_until(Uptime::from_secs(151));
        receive(&mut bank, Uptime::from_secs(151), answer);
        assert_eq!(board.side(100).lease_until_nanos, Uptime::from_secs(300).as_nanos());
    }

    #[test]
    fn a_phone_that_has_asked_answers_options_and_others_do_not() {
        let (mut bank, board) = bank(2, 1);
        poll(&mut bank, Uptime::ZERO);
        let options = |user: &str| {
            Request::new("OPTIONS", format!("sip:{user}@127.0.0.1:40000").as_bytes())
                .header(HeaderName::Via, "SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKx")
                .header(HeaderName::From, "<sip:ucs@demo.example>;tag=1")
                .header(HeaderName::To, "<sip:ucs@demo.example>")
                .header(HeaderName::CallId, "x")
                .header(HeaderName::CSeq, "1 OPTIONS")
                .finish()
        };
        for (user, status) in
            [("phone00101", 200), ("phone00102", 404), ("phone00001", 404), ("anna", 404)]
        {
            let answers = receive(&mut bank, Uptime::from_secs(2), options(user));
            let answer = Message::parse(answers[0].bytes.clone()).unwrap();
            assert_eq!(answer.status(), Some(status), "{user}");
        }
        assert_eq!(board.side(100).answered_last_nanos, Uptime::from_secs(2).as_nanos());
        assert_eq!(board.side(101).answered_last_nanos, 0);
    }

    impl Bank {
        /// Lets time pass from deadline to deadline; what was sent on the way.
        fn poll_all_until(&mut self, end: Uptime) -> Vec<Send> {
            let mut out = Vec::new();
            while let Some(at) = self.next().filter(|at| *at <= end) {
                self.poll(at, &mut out);
            }
            out
        }
    }
}
