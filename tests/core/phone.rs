//! A phone that knows RFC 3261 and nothing else.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use frontdoor::now::Uptime;
use frontdoor::sip::{ContactValue, HeaderName, Message, Response};

/// RFC 3261 T1 and T2.
const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);

/// What a phone does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    /// REGISTER its contact, or refresh it.
    Register,
    /// REGISTER with `Expires: 0` for its contact.
    Unregister,
    /// REGISTER with `Contact: *`.
    UnregisterAll,
    /// REGISTER without a contact.
    Query,
}

/// One phone: one contact of one AoR.
#[derive(Debug)]
pub(crate) struct Phone {
    pub(crate) aor: String,
    pub(crate) user: String,
    pub(crate) addr: SocketAddr,
    call_id: String,
    cseq: u32,
    wanted_secs: u32,
    /// The door's latest promise.
    pub(crate) lease_until: Option<Uptime>,
    /// What it is trying to do.
    doing: Option<Transaction>,
    /// When it acts by itself.
    pub(crate) next_act: Option<(Uptime, Act)>,
    /// Every final answer it got: when and what.
    pub(crate) answers: Vec<(Uptime, u16)>,
    /// Contacts in the latest 200.
    pub(crate) listed: Vec<String>,
    /// OPTIONS it answered.
    pub(crate) pinged: u32,
    /// It has unregistered, and the door has said yes.
    pub(crate) removed: bool,
    /// Switched off: it neither hears nor says anything.
    pub(crate) off: bool,
}

#[derive(Debug)]
struct Transaction {
    act: Act,
    branch: String,
    request: Bytes,
    resend_at: Uptime,
    interval: Duration,
    give_up_at: Uptime,
}

impl Phone {
    pub(crate) fn new(aor: &str, number: usize, addr: SocketAddr) -> Self {
        let user = aor.trim_start_matches("sip:").split('@').next().unwrap_or(aor).to_owned();
        Self {
            aor: aor.to_owned(),
            user,
            addr,
            call_id: format!("phone-{number}"),
            cseq: 0,
            wanted_secs: 120,
            lease_until: None,
            doing: None,
            next_act: None,
            answers: Vec::new(),
            listed: Vec::new(),
            pinged: 0,
            removed: false,
            off: false,
        }
    }

    pub(crate) fn contact(&self) -> String {
        format!("sip:{}@{}", self.user, self.addr)
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.doing.is_some()
    }

    /// Whether the door has promised that it is reachable.
    pub(crate) fn is_acknowledged(&self, now: Uptime) -> bool {
        self.lease_until.is_some_and(|until| until > now)
    }

    pub(crate) fn next(&self) -> Option<Uptime> {
        if self.off {
            return None;
        }
        let resend = self.doing.as_ref().map(|doing| doing.resend_at.min(doing.give_up_at));
        match (resend, self.next_act) {
            (Some(at), _) => Some(at),
            (None, act) => act.map(|(at, _)| at),
        }
    }

    /// Begins something; what to send.
    pub(crate) fn act(&mut self, now: Uptime, act: Act) -> Bytes {
        self.cseq += 1;
        self.removed &= act == Act::Query;
        let branch = format!("z9hG4bK{}.{}.{}", self.call_id, self.cseq, self.addr);
        let (contact, expires) = match act {
            Act::Register => (format!("Contact: <{}>\r\n", self.contact()), self.wanted_secs),
            Act::Unregister => (format!("Contact: <{}>\r\n", self.contact()), 0),
            Act::UnregisterAll => ("Contact: *\r\n".to_owned(), 0),
            Act::Query => (String::new(), 0),
        };
        let expires = match act {
            Act::Query => String::new(),
            Act::Register | Act::Unregister | Act::UnregisterAll => {
                format!("Expires: {expires}\r\n")
            }
        };
        let request = Bytes::from(format!(
            "REGISTER sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP {};rport;branch={branch}\r\n\
             Max-Forwards: 70\r\nFrom: <{aor}>;tag={}\r\nTo: <{aor}>\r\nCall-ID: {}\r\n\
             CSeq: {} REGISTER\r\n{contact}{expires}Content-Length: 0\r\n\r\n",
            self.addr,
            self.call_id,
            self.call_id,
            self.cseq,
            aor = self.aor,
        ));
        self.doing = Some(Transaction {
            act,
            branch,
            request: request.clone(),
            resend_at: now + T1,
            interval: T1,
            give_up_at: now + 64 * T1,
        });
        self.next_act = None;
        request
    }

    /// Lets time pass; what to send.
    pub(crate) fn tick(&mut self, now: Uptime) -> Option<Bytes> {
        match &mut self.doing {
            Some(doing) if doing.give_up_at <= now => {
                self.doing = None;
                self.next_act = Some((now + Duration::from_secs(2), Act::Register));
                None
            }
            Some(doing) if doing.resend_at <= now => {
                doing.interval = (doing.interval * 2).min(T2);
                doing.resend_at = now + doing.interval;
                Some(doing.request.clone())
            }
            Some(_) => None,
            None => match self.next_act {
                Some((at, act)) if at <= now => Some(self.act(now, act)),
                _ => None,
            },
        }
    }

    /// Takes a message; what to answer.
    pub(crate) fn receive(&mut self, now: Uptime, from: SocketAddr, bytes: Bytes) -> Option<Bytes> {
        let message = Message::parse(bytes).expect("the door sends what can be read");
        match message.status() {
            None => {
                assert_eq!(message.method(), Some("OPTIONS"), "nothing else is sent to phones");
                self.pinged += 1;
                let uri = String::from_utf8_lossy(message.uri().unwrap()).into_owned();
                let status = if uri == self.contact() { 200 } else { 404 };
                let response = Response::to(&message, status).received(from);
                Some(response.to_tag("phone").finish())
            }
            Some(status) => {
                self.on_answer(now, status, &message);
                None
            }
        }
    }

    fn on_answer(&mut self, now: Uptime, status: u16, message: &Message) {
        let branch = message.top_via().unwrap().branch().unwrap_or_default();
        let ours = self.doing.as_ref().is_some_and(|doing| doing.branch.as_bytes() == branch);
        if !ours || status < 200 {
            return;
        }
        let Some(doing) = self.doing.take() else { return };
        self.answers.push((now, status));
        let retry = Duration::from_secs(
            message
                .header(HeaderName::RetryAfter)
                .and_then(|value| std::str::from_utf8(value).ok()?.parse().ok())
                .unwrap_or(5),
        );
        if status != 200 {
            if doing.act == Act::Register {
                self.next_act = Some((now + retry, Act::Register));
            }
            return;
        }
        self.listed.clear();
        let mut granted = None;
        for value in message.values(HeaderName::Contact) {
            let Ok(ContactValue::Address(address)) = ContactValue::parse(value) else { continue };
            let uri = String::from_utf8_lossy(address.uri).into_owned();
            if uri == self.contact() {
                let expires = address.params.get("expires").unwrap();
                granted = std::str::from_utf8(expires).unwrap().parse::<u64>().ok();
            }
            self.listed.push(uri);
        }
        match doing.act {
            Act::Register => {
                let granted = Duration::from_secs(granted.expect("our contact is in the 200"));
                self.lease_until = Some(now + granted);
                self.next_act = Some((now + granted / 2, Act::Register));
            }
            Act::Unregister | Act::UnregisterAll => {
                assert_eq!(granted, None, "an unregistered contact is not listed");
                self.removed = true;
                self.lease_until = None;
            }
            Act::Query => {
                let left = self.lease_until.map(|until| until.since(now) / 2);
                self.next_act = left.map(|left| (now + left, Act::Register));
            }
        }
    }

    /// It has moved to another address: its old contact is no longer its own.
    pub(crate) fn roam(&mut self, addr: SocketAddr) {
        self.addr = addr;
        self.removed = false;
        self.lease_until = None;
        self.doing = None;
    }
}
