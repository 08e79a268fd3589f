//! Bytes ⇄ SIP: codec, framing and transactions (RFC 3261). Knows no server and no user.
//!
//! A [`Message`] is a lazy index over the received bytes: nothing is copied, nothing that is not
//! asked for is parsed, unknown headers travel untouched. Changes are made by splicing
//! ([`Edit`]), new messages are written by [`Response`] and [`Request`].

mod build;
mod cseq;
pub mod digest;
mod edit;
mod error;
#[cfg(test)]
pub(crate) mod fixtures;
mod flow;
pub mod framing;
mod header;
mod message;
mod name_addr;
#[cfg(test)]
mod oracle;
mod outline;
mod params;
#[cfg(test)]
mod properties;
mod scan;
pub mod transaction;
mod uri;
mod via;

pub use build::{Request, Response, reason_phrase};
pub use cseq::CSeq;
pub use edit::Edit;
pub use error::ParseError;
pub use flow::{ConnectionId, Flow, ListenerId, Transport, source_of};
pub use header::HeaderName;
pub use message::{Contacts, Essentials, MAX_HEADER_LINES, MAX_MESSAGE_BYTES, Message, Start};
pub use name_addr::{ContactValue, NameAddr};
pub use outline::{Fingerprints, Outline, Repeated};
pub use params::Params;
pub use scan::append_number;
pub use uri::{CanonicalAor, Host, MAX_AOR_BYTES, Uri};
pub use via::Via;
