//! The simulated server from the outside: messages in, messages out, in virtual time.

mod authentication;
#[expect(clippy::panic, reason = "a test says what came instead")]
mod clients;
mod model;
mod moods;
mod pings;
mod registrar;

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;

use crate::now::Uptime;
use crate::sip::{ConnectionId, Flow, HeaderName, ListenerId, Message, Transport};
use crate::ucserver::{Input, Output, Settings, UcServer};

const PHONE: &str = "192.0.2.7:5070";
const AOR: &str = "sip:200@example.com";

/// A server and somebody who talks to it.
struct World {
    server: UcServer,
    now: Uptime,
    branch: u32,
}

/// A REGISTER in the making; the default has no Contact.
#[derive(Clone)]
struct Register {
    uri: String,
    to: String,
    call_id: String,
    cseq: u32,
    lines: Vec<String>,
}

impl World {
    fn new(settings: Settings) -> Self {
        let now = Uptime::from_secs(1_000);
        Self { server: UcServer::new(settings, now, 7), now, branch: 0 }
    }

    /// Sends one message and takes what comes out at once.
    fn send(&mut self, message: impl Into<String>) -> Vec<Sent> {
        let message = Bytes::from(message.into());
        self.server.handle(self.now, Input::Sip { flow: udp(PHONE), message });
        self.outputs()
    }

    /// Sends a request that must be answered at once and with nothing else.
    fn ask(&mut self, request: impl Into<String>) -> Message {
        let mut sent = self.send(request);
        assert_eq!(sent.len(), 1, "{sent:?}");
        sent.remove(0).message
    }

    fn register(&mut self, register: &Register) -> Message {
        let request = self.written(register);
        self.ask(request)
    }

    /// Registers, which must succeed.
    fn bind(&mut self, register: &Register) {
        let answer = self.register(register);
        assert_eq!(answer.status(), Some(200), "{}", text(&answer));
    }

    fn written(&mut self, register: &Register) -> String {
        self.branch += 1;
        register.written(&format!("z9hG4bK{}", self.branch))
    }

    /// A request of another method.
    fn request(&mut self, method: &str) -> String {
        self.branch += 1;
        format!(
            "{method} sip:example.com SIP/2.0\r\nVia: SIP/2.0/UDP {PHONE};branch=z9hG4bK{}\r\n\
             From: <{AOR}>;tag=f\r\nTo: <{AOR}>\r\nCall-ID: o\r\nCSeq: 1 {method}\r\n\
             Content-Length: 0\r\n\r\n",
            self.branch
        )
    }

    /// Lets time pass, deadline by deadline, and takes what comes out.
    fn pass(&mut self, time: Duration) -> Vec<(Uptime, Sent)> {
        let end = self.now + time;
        let mut all = Vec::new();
        while let Some(at) = self.server.next().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.server.handle(self.now, Input::Timeout);
            let now = self.now;
            all.extend(self.outputs().into_iter().map(|sent| (now, sent)));
        }
        self.now = end;
        self.server.handle(end, Input::Timeout);
        all.extend(self.outputs().into_iter().map(|sent| (end, sent)));
        all
    }

    fn outputs(&mut self) -> Vec<Sent> {
        std::iter::from_fn(|| self.server.poll())
            .filter_map(|output| match output {
                Output::Send { flow, bytes } => Some(Sent {
                    flow,
                    message: Message::parse(bytes).expect("what it sends can be read"),
                }),
                Output::Client(_) => None,
            })
            .collect()
    }

    /// The contacts the server has for [`AOR`], with what is left of their time.
    fn contacts(&self) -> Vec<(String, u64)> {
        self.server
            .bindings()
            .filter(|binding| binding.aor == AOR)
            .map(|binding| {
                (binding.contact.to_owned(), binding.expires_at.since(self.now).as_secs())
            })
            .collect()
    }
}

/// What the server sent.
#[derive(Debug)]
struct Sent {
    flow: Flow,
    message: Message,
}

impl Register {
    fn of(contact: &str) -> Self {
        Self::query().line(&format!("Contact: {contact}"))
    }

    fn query() -> Self {
        Self {
            uri: "sip:example.com".into(),
            to: AOR.into(),
            call_id: "c1".into(),
            cseq: 1,
            lines: vec!["Max-Forwards: 70".into()],
        }
    }

    fn to(mut self, to: &str) -> Self {
        self.to = to.into();
        self
    }

    fn uri(mut self, uri: &str) -> Self {
        self.uri = uri.into();
        self
    }

    fn call(mut self, call_id: &str, cseq: u32) -> Self {
        self.call_id = call_id.into();
        self.cseq = cseq;
        self
    }

    fn line(mut self, line: &str) -> Self {
        self.lines.push(line.into());
        self
    }

    fn written(&self, branch: &str) -> String {
        let Self { uri, to, call_id, cseq, lines } = self;
        format!(
            "REGISTER {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {PHONE};branch={branch};rport\r\n\
             From: <{to}>;tag=f\r\nTo: <{to}>\r\nCall-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\n\
             {}\r\nContent-Length: 0\r\n\r\n",
            lines.join("\r\n")
        )
    }
}

fn udp(remote: &str) -> Flow {
    Flow {
        listener: ListenerId(0),
        transport: Transport::Udp,
        remote: address(remote),
        connection: ConnectionId::NONE,
    }
}

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn text(message: &Message) -> String {
    String::from_utf8_lossy(message.bytes()).into_owned()
}

/// Every line of that name, as text.
fn lines(message: &Message, name: HeaderName) -> Vec<String> {
    message.lines(name).map(|line| String::from_utf8_lossy(line).into_owned()).collect()
}
