//! The core alone, with a server that says 200 and a disk that is done at once.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use frontdoor::cluster::{BindingAddress, HealthDocumentUse, Planes, Server, Version, health};
use frontdoor::decision;
use frontdoor::directory::record::Recorded;
use frontdoor::door::{
    Auth, ClientSettings, Door, Input, Limits, Listener, Output, Pace, Settings, Side, SipSettings,
    UnknownUsers,
};
use frontdoor::load::answer_to;
use frontdoor::now::{Now, Uptime};
use frontdoor::private::Private;
use frontdoor::sip::{ConnectionId, Flow, ListenerId, Transport};
use ipnet::Ipv4Net;

/// The phone, and the server.
const PHONE: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 200)), 5060);
const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 1)), 5060);

pub(crate) struct Station {
    pub(crate) door: Door,
    now: Now,
    /// Answers that phones got.
    pub(crate) answers: Vec<Bytes>,
    cseq: u32,
}

impl Station {
    /// A door whose only server is up.
    pub(crate) fn open() -> Self {
        let wall = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30);
        let now = Now { uptime: Uptime::from_secs(1000), wall };
        let door = Door::new(settings(), Default::default(), now);
        let mut station = Self { door, now, answers: Vec::new(), cseq: 0 };
        for _ in 0..100 {
            station.now.uptime += Duration::from_millis(50);
            station.take(Input::Timeout);
        }
        station
    }

    /// A phone's REGISTER, the same each time but for branch and CSeq, and for `said`.
    pub(crate) fn register(&mut self, said: &str) -> Input {
        self.cseq += 1;
        let text = register(self.cseq, said);
        Input::Sip { flow: flow(0, PHONE), message: Bytes::from(text) }
    }

    /// Hands it over and carries out whatever comes of it.
    pub(crate) fn take(&mut self, input: Input) {
        self.door.handle(self.now, input);
        self.carry_out();
    }

    /// The same; the outputs are thrown away.
    pub(crate) fn take_alone(&mut self, input: Input) -> usize {
        self.door.handle(self.now, input);
        std::iter::from_fn(|| self.door.poll()).count()
    }

    fn carry_out(&mut self) {
        let mut inputs = Vec::new();
        loop {
            while let Some(output) = self.door.poll() {
                match output {
                    Output::Send { flow, bytes } if flow.listener == ListenerId(1) => {
                        let answer = answer_to(&bytes).map(Bytes::from);
                        inputs.extend(answer.map(|message| Input::Sip { flow, message }));
                    }
                    Output::Send { bytes, .. } => self.answers.push(bytes),
                    Output::Record(record) => {
                        let (ticket, outcome) = (record.ticket, Recorded::Done);
                        inputs.push(Input::Recorded { ticket, outcome });
                    }
                    Output::Close { .. }
                    | Output::StartTls { .. }
                    | Output::Open { .. }
                    | Output::Answer { .. }
                    | Output::Fetch(_)
                    | Output::Ordered { .. }
                    | Output::Event(_)
                    | Output::Report(_) => {}
                }
            }
            if inputs.is_empty() {
                return;
            }
            self.door.handle(self.now, inputs.remove(0));
        }
    }
}

/// What a phone sends.
pub(crate) fn register(cseq: u32, said: &str) -> String {
    format!(
        "REGISTER sip:example.com SIP/2.0\r\n\
         Via: SIP/2.0/UDP {PHONE};rport;branch=z9hG4bK{cseq}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:alice@example.com>;tag=1\r\n\
         To: <sip:alice@example.com>\r\nCall-ID: a-phone@{PHONE}\r\nCSeq: {cseq} REGISTER\r\n\
         Contact: <sip:alice@{PHONE}>{said}\r\nSupported: path, gruu\r\nUser-Agent: phone\r\n\
         Expires: 300\r\nContent-Length: 0\r\n\r\n"
    )
}

fn flow(listener: u16, remote: SocketAddr) -> Flow {
    Flow {
        listener: ListenerId(listener),
        transport: Transport::Udp,
        remote,
        connection: ConnectionId::NONE,
    }
}

pub(crate) fn settings() -> Settings {
    let server = Server {
        name: "ucs1".into(),
        sip: SERVER,
        transport: Transport::Udp,
        clients: None,
        web: None,
        ucsid: None,
        public: None,
        planes: Planes::SIP,
        capacity: 1000,
        version: Some(Version::FIRST_WITH_DISTRIBUTION),
        site: None,
        ties: std::sync::Arc::default(),
        binding_address: BindingAddress::Auto,
        health_document: HealthDocumentUse::None,
        health_url: None,
        realm: None,
    };
    let listener = |name: &str, side, advertised: &str| Listener {
        name: name.into(),
        transport: Transport::Udp,
        side,
        advertised: advertised.into(),
        ipv6: false,
    };
    Settings {
        servers: vec![server],
        listeners: vec![
            listener("phones", Side::Phones, "192.0.2.1:5060"),
            listener("servers", Side::Servers, "10.0.0.100:5080"),
        ],
        sip: SipSettings {
            auth: Auth::None,
            trusted_networks: vec![Ipv4Net::new_assert(Ipv4Addr::new(192, 0, 2, 0), 24).into()],
            ..SipSettings::default()
        },
        health: health::Settings::default(),
        recovery: frontdoor::recovery::Policy::default(),
        decision: decision::Policy::default(),
        clients: ClientSettings::default(),
        pace: Pace::default(),
        telephone_systems: Vec::new(),
        unknown_users: UnknownUsers::Adopt,
        // One phone says more here than a thousand do elsewhere.
        limits: Limits {
            changes_per_aor: 1_000_000,
            changes_burst_per_aor: 1_000_000,
            ..Limits::default()
        },
        token_key: Private::new([7; 32]),
        seed: 1,
    }
}
