//! [`Piece`]: a value to be written, in either encoding.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::ucsap::Encoding;
use crate::ucsap::ber;
use crate::ucsap::value::{Member, Place};

/// A value that is written, not passed on.
#[derive(Clone, Debug, PartialEq)]
pub enum Piece {
    /// NULL.
    Null,
    /// BOOLEAN.
    Boolean(bool),
    /// INTEGER.
    Integer(i64),
    /// ENUMERATED.
    Enumerated(i64),
    /// REAL.
    Real(f64),
    /// UTF8String.
    Text(String),
    /// OCTET STRING.
    Octets(Vec<u8>),
    /// A SEQUENCE of these members, in the order of the module.
    Sequence(Vec<(Member, Self)>),
    /// The same, with the name of its type, which JSON shows as `_type`.
    Typed(&'static str, Vec<(Member, Self)>),
    /// SEQUENCE OF.
    List(Vec<Self>),
    /// This alternative of a CHOICE.
    Choice(Member, Box<Self>),
    /// A value as it was received in the same encoding, with its own tag.
    AsSent(Vec<u8>),
}

/// How BER is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As the TypeScript runtime does, and DER would.
    Plain,
    /// As the original runtime does: every extensible SEQUENCE ends with `1F 80 80 15 00`.
    Original,
}

impl Piece {
    /// Text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A CHOICE.
    pub fn choice(alternative: Member, value: Self) -> Self {
        Self::Choice(alternative, Box::new(value))
    }

    /// Appends it.
    pub fn write(&self, encoding: Encoding, style: Style, into: &mut Vec<u8>) {
        match encoding {
            Encoding::Ber => self.write_ber(into, None, style),
            Encoding::Json => self.write_json(into),
        }
    }

    fn write_ber(&self, into: &mut Vec<u8>, context: Option<u8>, style: Style) {
        let tag = |number: u32, constructed: bool| match context {
            Some(context) => ber::tag(ber::CONTEXT, constructed, context),
            None => ber::tag(ber::UNIVERSAL, constructed, number as u8),
        };
        let integer = |into: &mut Vec<u8>, value: i64| {
            let (octets, skip) = ber::integer_octets(value);
            into.extend_from_slice(&octets[skip..]);
        };
        match self {
            Self::Null => ber::write(into, tag(ber::NULL, false), |_| {}),
            Self::Boolean(value) => ber::write(into, tag(ber::BOOLEAN, false), |into| {
                into.push(if *value { 0xFF } else { 0 });
            }),
            Self::Integer(value) => {
                ber::write(into, tag(ber::INTEGER, false), |into| integer(into, *value));
            }
            Self::Enumerated(value) => {
                ber::write(into, tag(ber::ENUMERATED, false), |into| integer(into, *value));
            }
            Self::Real(value) => {
                ber::write(into, tag(ber::REAL, false), |into| ber::write_real(into, *value));
            }
            Self::Text(text) => ber::write(into, tag(ber::UTF8_STRING, false), |into| {
                into.extend_from_slice(text.as_bytes());
            }),
            Self::Octets(octets) => ber::write(into, tag(ber::OCTET_STRING, false), |into| {
                into.extend_from_slice(octets);
            }),
            Self::Sequence(members) | Self::Typed(_, members) => {
                ber::write(into, tag(ber::SEQUENCE, true), |into| {
                    for (member, piece) in members {
                        piece.write_ber_member(into, member, style);
                    }
                    if style == Style::Original {
                        into.extend_from_slice(&ber::ENDING);
                    }
                });
            }
            Self::List(items) => ber::write(into, tag(ber::SEQUENCE, true), |into| {
                for item in items {
                    item.write_ber(into, None, style);
                }
            }),
            Self::Choice(member, piece) => piece.write_ber_member(into, member, style),
            Self::AsSent(octets) => into.extend_from_slice(octets),
        }
    }

    fn write_ber_member(&self, into: &mut Vec<u8>, member: &Member, style: Style) {
        match member.place {
            Place::Nth(_) => self.write_ber(into, None, style),
            Place::Context(number) => self.write_ber(into, Some(number), style),
            Place::Around(number) => {
                ber::write(into, ber::tag(ber::CONTEXT, true, number), |into| {
                    self.write_ber(into, None, style);
                });
            }
        }
    }

    fn write_json(&self, into: &mut Vec<u8>) {
        match self {
            Self::Null => into.extend_from_slice(b"null"),
            Self::Boolean(value) => into.extend_from_slice(if *value { b"true" } else { b"false" }),
            Self::Integer(value) | Self::Enumerated(value) => {
                into.extend_from_slice(value.to_string().as_bytes());
            }
            Self::Real(value) => write_number(into, *value),
            Self::Text(text) => write_string(into, text),
            Self::Octets(octets) => write_string(into, &STANDARD.encode(octets)),
            Self::Sequence(members) => write_object(into, None, members),
            Self::Typed(name, members) => write_object(into, Some(name), members),
            Self::List(items) => {
                into.push(b'[');
                for (place, item) in items.iter().enumerate() {
                    if place > 0 {
                        into.push(b',');
                    }
                    item.write_json(into);
                }
                into.push(b']');
            }
            Self::Choice(member, piece) => {
                into.push(b'{');
                write_string(into, member.name);
                into.push(b':');
                piece.write_json(into);
                into.push(b'}');
            }
            Self::AsSent(octets) => into.extend_from_slice(octets),
        }
    }
}

fn write_object(into: &mut Vec<u8>, name: Option<&str>, members: &[(Member, Piece)]) {
    into.push(b'{');
    let mut first = true;
    if let Some(name) = name {
        into.extend_from_slice(b"\"_type\":");
        write_string(into, name);
        first = false;
    }
    for (member, piece) in members {
        if !std::mem::take(&mut first) {
            into.push(b',');
        }
        write_string(into, member.name);
        into.push(b':');
        piece.write_json(into);
    }
    into.push(b'}');
}

pub(super) fn write_string(into: &mut Vec<u8>, text: &str) {
    // A Vec takes everything, and a string is always JSON.
    let _ = serde_json::to_writer(into, text);
}

fn write_number(into: &mut Vec<u8>, value: f64) {
    let _ = serde_json::to_writer(into, &value);
}
