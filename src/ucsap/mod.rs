//! UCSAP: what ProCall clients speak to a UCServer. Bytes ⇄ ROSE messages, in BER and in JSON.
//!
//! | file | what is there |
//! |---|---|
//! | `framing` | a stream cut into messages |
//! | `message` | the ROSE envelope: read where it lies, changed in place |
//! | `operation` | the operations the door knows, and what may be done with each twice |
//! | `value` | a value inside a message, found by one description in both encodings |
//! | `piece` | values the door writes itself |
//! | `ber`, `json` | the two encodings, as far as that needs them |
//! | `negotiate`, `login`, `cti` | the arguments and results the door must understand |
//!
//! A message that the door does not change goes on octet for octet, and of one that it changes, all
//! the rest does: unknown operations, members and trailing elements, and the ending
//! `1F 80 80 15 00` that the original runtime writes behind every extensible SEQUENCE. Nothing is
//! ever encoded anew.
//!
//! The interface is published as ASN.1 modules in `ESTOS/UCServerWebSDK2.0`; the names of members and
//! operations here are theirs, and so is the spelling `succceeded`.

pub mod cti;
pub mod framing;
pub mod login;
pub mod negotiate;

mod ber;
mod json;
mod message;
mod operation;
mod piece;
#[cfg(test)]
mod properties;
mod value;

use std::ops::Range;

use thiserror::Error;

pub use message::{Encoding, Envelope, Kind, Message, Problem};
pub use operation::{Class, Operation};
pub use piece::{Piece, Style};
pub use value::{Member, Value};

/// Where the member of an object with this name has its value, in octets that were found to be JSON.
pub fn member_of_json(octets: &[u8], name: &str) -> Option<Range<usize>> {
    json::member(octets, 0..octets.len(), name)
}

/// Octets that cannot be read as what they should be; the peer's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("the peer sent {0}")]
pub struct Malformed(pub &'static str);
