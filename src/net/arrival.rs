//! What comes out of the sockets.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;

use crate::sip::Flow;
use crate::sip::Transport;

/// One thing the network did.
///
/// The bytes of a message share a buffer with their neighbours: whoever keeps a message for long
/// should copy what it needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// A datagram, or one framed message of a stream.
    Message {
        /// What it came by.
        flow: Flow,
        /// The message.
        message: Bytes,
    },
    /// One framed message of a stream that speaks UCSAP.
    Rose {
        /// What it came by.
        flow: Flow,
        /// The message, as [`crate::ucsap::framing::Framer`] cuts it.
        message: Bytes,
    },
    /// A TLS handshake is complete: what comes by this stream from now on is secret, and what is
    /// sent on it.
    Secured {
        /// Which.
        flow: Flow,
        /// The name that the peer asked for (SNI).
        name: Option<Arc<str>>,
    },
    /// A stream ended or was never made.
    Closed {
        /// Which. Without connection: the wish given to [`super::Sockets::send`] failed. A
        /// connection of the core's own keeps its name, made or not.
        flow: Flow,
        /// Whether the peer's own host refused or reset it (RST).
        refused: bool,
    },
    /// A datagram could not be delivered.
    Unreachable {
        /// To whom.
        remote: SocketAddr,
        /// By what.
        transport: Transport,
        /// Whether the peer's own host said so (ICMP port unreachable).
        refused: bool,
    },
}
