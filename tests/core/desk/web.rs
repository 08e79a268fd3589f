//! Clients of the WebService at the desk, and the servers' own WebService: each session of it is a
//! connection of the server's other entrance, on which it says what the client has shown.

use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use frontdoor::door::{Input, WebAnswer};
use frontdoor::sip::{ConnectionId, Flow};
use frontdoor::ucsap::login::{Credentials, LoginOutcome};
use frontdoor::ucsap::{Encoding, Envelope, Kind, Message, Operation, Piece, Style};
use frontdoor::ucserver::{self, ClientSettings, Mood};
use frontdoor::ucws::{Answer, Opened, Opening, Purpose, Request};

use crate::desk::Desk;
use crate::desk::clients::Client;

/// Where a server's WebService is.
pub(crate) fn web_entrance(server: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, server as u8 + 1], 7224))
}

/// What is known of sessions of the WebService.
#[derive(Default)]
pub(crate) struct WebSide {
    answers: Vec<(ConnectionId, WebAnswer)>,
    /// Legs whose server has not let anybody in: who is shown there, and for what.
    opening: Vec<(u64, Flow, Opening)>,
    /// What was shown to which server.
    pub(crate) shown: Vec<usize>,
}

const STEP: i64 = 2;

/// A request with user and password, of a device.
pub(crate) fn with_password(user: &str, device: &str) -> Request {
    let pair = STANDARD.encode(format!("{user}:{}", ClientSettings::password_of(user)));
    with_authorization(&format!("Basic {pair}"), device)
}

/// A request with a token.
pub(crate) fn with_token(token: &str) -> Request {
    with_authorization(&format!("Bearer {token}"), "")
}

pub(crate) fn with_authorization(line: &str, device: &str) -> Request {
    Request {
        method: "POST".into(),
        target: "/ws/client/createsession?clientappid=9".into(),
        headers: vec![("authorization".into(), line.into()), ("x-epid".into(), device.into())],
        body: Vec::new(),
    }
}

impl Desk {
    /// Shows a request, as a session of its own or one more step of it.
    pub(crate) fn open(&mut self, client: &Client, request: Request, purpose: Purpose) {
        let opening = Box::new(Opening::read(request, purpose).unwrap());
        self.reach_door(Input::Open { flow: client.flow(), opening });
    }

    /// Takes the answer, if it has come.
    pub(crate) fn answer_by_web(&mut self, client: &Client) -> Option<WebAnswer> {
        let answers = &mut self.web.answers;
        let at = answers.iter().position(|(to, _)| *to == client.connection)?;
        Some(answers.remove(at).1)
    }

    /// A client of the WebService that is logged in.
    pub(crate) fn web_client_of(&mut self, number: u64, user: &str) -> Client {
        let client = Client::by_web(number);
        self.open(&client, with_password(user, "browser"), Purpose::Session);
        let answer = self.answer_by_web(&client);
        assert!(matches!(answer, Some(WebAnswer::In(_))), "{answer:?}");
        client
    }

    pub(super) fn door_answers(&mut self, flow: Flow, answer: WebAnswer) {
        self.web.answers.push((flow.connection, answer));
    }

    /// The door shows a WebService who somebody is.
    pub(super) fn reach_web_service(&mut self, flow: Flow, opening: Opening) {
        let number = flow.connection.own_number().expect("it is a leg");
        let server = (0..self.servers.len()).find(|&server| web_entrance(server) == flow.remote);
        let server = server.expect("a leg leads to a server");
        self.web.shown.push(server);
        if self.servers[server].mood() == Mood::Dead {
            self.clients.ended.insert(number);
            return self.reach_door(Input::Closed { flow, refused: true });
        }
        let is_first = self.clients.legs.insert(number, (server, flow)).is_none();
        let said = native(&opening);
        self.web.opening.push((number, flow, opening));
        for message in said.into_iter().skip(usize::from(!is_first)) {
            let input = ucserver::Input::Client { connection: number, message };
            self.servers[server].handle(self.now.uptime, input);
            self.drain_server(server);
        }
    }

    /// What a server says where nobody is let in yet is its WebService's to hear: `false` if it is not.
    pub(super) fn web_service_hears(&mut self, leg: u64, bytes: &Bytes) -> bool {
        let Some(at) = self.web.opening.iter().position(|(number, ..)| *number == leg) else {
            return false;
        };
        let (_, flow, opening) = &self.web.opening[at];
        let flow = *flow;
        if let Some(opened) = opened(opening, bytes) {
            self.web.opening.remove(at);
            self.reach_door(Input::Opened { flow, opened });
        }
        true
    }
}

/// What a WebService says to its server on behalf of a client: who is talking, and who they are.
pub(crate) fn native(opening: &Opening) -> [Bytes; 2] {
    let login = match &opening.credentials {
        Credentials::Basic(pair) => {
            let (user, password) = pair.reveal().split_once(':').unwrap();
            Credentials::basic(user, password)
        }
        Credentials::Bearer(token) => Credentials::bearer(token.reveal()),
        Credentials::Ntlm(step) => Credentials::ntlm(step.reveal()),
        Credentials::Kerberos(ticket) => Credentials::kerberos(ticket.reveal()),
        Credentials::None | Credentials::OpenId | Credentials::Other => Piece::Sequence(Vec::new()),
    };
    let negotiation = opening.client.piece("browser");
    let envelope = Envelope { encoding: Encoding::Json, style: Style::Plain, session: None };
    [
        envelope.invoke(1, Operation::NEGOTIATE, &negotiation),
        envelope.invoke(STEP, Operation::LOGIN, &login),
    ]
}

/// What a WebService makes of what its server says to that; nothing yet of the negotiation.
pub(crate) fn opened(opening: &Opening, said: &Bytes) -> Option<Opened> {
    let message = Message::parse(said.clone()).unwrap();
    if message.id() != Some(STEP) {
        return None;
    }
    let outcome = match message.kind() {
        Kind::Result => LoginOutcome::read(&message.body().unwrap()).ok(),
        Kind::Error | Kind::Reject | Kind::Invoke => None,
    };
    let session = r#"{"sessionid":"0123456789ABCDEF0123456789ABCDEF"}"#;
    Some(match outcome {
        Some(LoginOutcome::Succeeded { user, .. }) => match opening.purpose {
            Purpose::Session => {
                let user = user.filter(|_| opening.credentials.claimed_user().is_none());
                Opened::Session { answer: Answer::json(200, session), user }
            }
            Purpose::Call(_) => Opened::Answered(Answer::json(200, "{\"done\":1}")),
        },
        Some(LoginOutcome::Busy { .. }) => Opened::Unavailable(Answer::json(502, "{}")),
        Some(LoginOutcome::NextStep | LoginOutcome::Methods) => {
            Opened::Answered(Answer::json(401, "{}").with("www-authenticate", "NTLM TlRM"))
        }
        Some(LoginOutcome::Redirect(_)) | None => Opened::Answered(Answer::json(400, "{}")),
    })
}
