//! A ProCall client on a socket.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use bytes::Bytes;
use frontdoor::ucsap::framing::{Framer, Limits};
use frontdoor::ucsap::login::Credentials;
use frontdoor::ucsap::negotiate::Negotiation;
use frontdoor::ucsap::{Encoding, Envelope, Kind, Message, Operation, Piece, Style};
use frontdoor::ucserver::ClientSettings;

/// A client that waits for each answer.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    framer: Framer,
    encoding: Encoding,
    last_id: i64,
}

impl Client {
    pub(crate) fn connect(address: SocketAddr, encoding: Encoding) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self { stream, framer: Framer::new(Limits::default()), encoding, last_id: 0 }
    }

    pub(crate) fn logged_in(address: SocketAddr, encoding: Encoding, user: &str) -> Self {
        let mut client = Self::connect(address, encoding);
        let device =
            Negotiation { device: "d".into(), version: "2603.0".into(), app: 1, former: None };
        client.ask(Operation::NEGOTIATE, &device.piece("PC"));
        let login = Credentials::basic(user, &ClientSettings::password_of(user));
        client.ask(Operation::LOGIN, &login);
        client
    }

    pub(crate) fn send(&mut self, operation: Operation, argument: &Piece) {
        self.last_id += 1;
        let envelope = Envelope { encoding: self.encoding, style: Style::Plain, session: None };
        self.stream.write_all(&envelope.invoke(self.last_id, operation, argument)).unwrap();
    }

    pub(crate) fn ask(&mut self, operation: Operation, argument: &Piece) -> Message {
        self.send(operation, argument);
        let answer = self.next().unwrap();
        assert_eq!((answer.kind(), answer.id()), (Kind::Result, Some(self.last_id)));
        answer
    }

    /// The next message; none if the server has closed.
    pub(crate) fn next(&mut self) -> Option<Message> {
        let mut buffer = [0; 4096];
        loop {
            let cut: Option<Bytes> = self.framer.next().unwrap();
            if let Some(message) = cut {
                return Some(Message::parse(message).unwrap());
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(length) => self.framer.push(&buffer[..length]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
                Err(error) => panic!("{error}"),
            }
        }
    }
}
