//! One client that is logged in, and asks for the snapshot of its line.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use frontdoor::ucsap::framing::{Framer, Limits};
use frontdoor::ucsap::login::Credentials;
use frontdoor::ucsap::negotiate::Negotiation;
use frontdoor::ucsap::{Encoding, Envelope, Kind, Message, Operation, Piece, Style, cti};
use frontdoor::ucserver::ClientSettings;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{self, WebSocket, client::client_with_config};

use crate::Outcome;
use crate::through::Entrance;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A session.
pub(crate) struct Client {
    way: Way,
    user: String,
    last_id: i64,
}

enum Way {
    Native(TcpStream, Framer),
    Web(Box<WebSocket<TcpStream>>),
}

impl Client {
    /// Connects and logs somebody in.
    pub(crate) fn log_in(entrance: Entrance, address: SocketAddr, number: usize) -> Outcome<Self> {
        let user = format!("user{number}");
        let way = match entrance {
            Entrance::Native => Way::Native(connect(address)?, Framer::new(Limits::default())),
            Entrance::Web => Way::Web(Box::new(web_socket(address, &user)?)),
        };
        let mut client = Self { way, user, last_id: 0 };
        if entrance == Entrance::Native {
            let negotiation = Negotiation {
                device: client.user.clone(),
                version: "2603.0".into(),
                app: 1,
                former: None,
            };
            client.invoke(Operation::NEGOTIATE, &negotiation.piece("PC"))?;
            let password = ClientSettings::password_of(&client.user);
            client.invoke(Operation::LOGIN, &Credentials::basic(&client.user, &password))?;
        }
        client.ask()?;
        Ok(client)
    }

    /// One question and its answer.
    pub(crate) fn ask(&mut self) -> Outcome<()> {
        let line = cti::for_line(&ClientSettings::line_of(&self.user));
        self.invoke(Operation::SNAPSHOT_LINE, &line)
    }

    fn invoke(&mut self, operation: Operation, argument: &Piece) -> Outcome<()> {
        self.last_id = self.last_id % 40_000 + 1;
        let encoding = match self.way {
            Way::Native(..) => Encoding::Ber,
            Way::Web(_) => Encoding::Json,
        };
        let envelope = Envelope { encoding, style: Style::Plain, session: None };
        let bytes = envelope.invoke(self.last_id, operation, argument);
        match &mut self.way {
            Way::Native(stream, _) => stream.write_all(&bytes)?,
            Way::Web(socket) => {
                let text = std::str::from_utf8(bytes.get(8..).unwrap_or_default())?;
                socket.send(tungstenite::Message::text(text.trim_end()))?;
            }
        }
        loop {
            let message = self.next()?;
            if message.kind() != Kind::Invoke && message.id() == Some(self.last_id) {
                let is_answered = message.kind() == Kind::Result;
                return is_answered.then_some(()).ok_or_else(|| "it was refused".into());
            }
        }
    }

    fn next(&mut self) -> Outcome<Message> {
        match &mut self.way {
            Way::Native(stream, framer) => {
                let mut buffer = [0; 4096];
                loop {
                    if let Some(message) = framer.next()? {
                        return Ok(Message::parse(message)?);
                    }
                    match stream.read(&mut buffer)? {
                        0 => return Err("the connection is closed".into()),
                        length => framer.push(buffer.get(..length).unwrap_or_default()),
                    }
                }
            }
            Way::Web(socket) => loop {
                if let tungstenite::Message::Text(text) = socket.read()? {
                    return Ok(Message::parse(text.into())?);
                }
            },
        }
    }
}

fn connect(address: SocketAddr) -> Outcome<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Creates a session, and opens its WebSocket.
fn web_socket(address: SocketAddr, user: &str) -> Outcome<WebSocket<TcpStream>> {
    let pair = STANDARD.encode(format!("{user}:{}", ClientSettings::password_of(user)));
    let mut stream = connect(address)?;
    write!(
        stream,
        "GET /ws/client/createsession?clientappid=9 HTTP/1.1\r\nHost: {address}\r\n\
         Authorization: Basic {pair}\r\nConnection: close\r\n\r\n"
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let id = answer.split_once("\"sessionid\":\"").and_then(|(_, rest)| rest.split_once('"'));
    let (id, _) = id.ok_or_else(|| format!("no session: {answer}"))?;
    let url = format!("ws://{address}/ws/client/websocket?x-ucsessionid={id}");
    let config = WebSocketConfig::default().read_buffer_size(2048).write_buffer_size(0);
    let made = client_with_config(url, connect(address)?, Some(config));
    made.map(|(socket, _)| socket).map_err(|error| error.to_string().into())
}
