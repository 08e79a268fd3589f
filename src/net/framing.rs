//! [`Framing`]: a stream cut into messages, whatever is spoken on it.

use bytes::Bytes;

use crate::net::limits::Limits;
use crate::sip::framing::{Frame, Framer};
use crate::ucsap::framing;

/// What is spoken at a listener.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Protocol {
    /// Phones, and UCServers as registrars.
    #[default]
    Sip,
    /// Clients of UCServers; on streams only.
    Ucsap,
}

/// Whether what is said at a listener is secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Security {
    /// It is not.
    #[default]
    None,
    /// Not at first: a peer may ask for TLS.
    StartTls,
    /// By TLS, from the first octet on.
    Tls,
}

/// What is at the front of a stream.
pub(super) enum Cut {
    /// A SIP message.
    Sip(Bytes),
    /// A UCSAP message.
    Rose(Bytes),
    /// To be answered with a pong.
    Ping,
    /// Nothing but a sign of life.
    Pong,
}

/// The stream cannot be cut any further.
pub(super) struct Unframed;

/// The framer of a stream.
pub(super) enum Framing {
    Sip(Framer),
    Ucsap(framing::Framer),
}

impl Framing {
    pub(super) fn new(speaks: Protocol, limits: &Limits) -> Self {
        match speaks {
            Protocol::Sip => Self::Sip(Framer::new(limits.framing)),
            Protocol::Ucsap => Self::Ucsap(framing::Framer::new(limits.ucsap.framing)),
        }
    }

    /// See [`Framer::next_landed`].
    pub(super) fn next_landed(
        &mut self,
        landed: &mut &[u8],
        keep: impl FnOnce(&[u8]) -> Bytes,
    ) -> Result<Option<Cut>, Unframed> {
        match self {
            Self::Sip(framer) => {
                let frame = framer.next_landed(landed, keep).map_err(|_| Unframed)?;
                Ok(frame.map(|frame| match frame {
                    Frame::Message(message) => Cut::Sip(message),
                    Frame::Ping => Cut::Ping,
                    Frame::Pong => Cut::Pong,
                }))
            }
            Self::Ucsap(framer) => {
                let message = framer.next_landed(landed, keep).map_err(|_| Unframed)?;
                Ok(message.map(Cut::Rose))
            }
        }
    }

    /// Octets that wait for the end of their message.
    pub(super) fn buffered(&self) -> usize {
        match self {
            Self::Sip(framer) => framer.buffered(),
            Self::Ucsap(framer) => framer.buffered(),
        }
    }
}
