//! [`Value`]: something inside a message, found by the same description in BER and in JSON.

use std::borrow::Cow;
use std::ops::Range;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::ucsap::ber::{self, Element};
use crate::ucsap::{Malformed, json};

/// A member of a SEQUENCE or an alternative of a CHOICE, as the ASN.1 modules name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name, which JSON uses.
    pub name: &'static str,
    pub(super) place: Place,
}

/// How BER finds a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It has no tag of its own: it is the so-manieth of those that have none. Optional ones come
    /// last in the modules, so that the place is fixed.
    Nth(usize),
    /// `[n]`.
    Context(u8),
    /// `[n]` before a CHOICE, which is always explicit (X.680 §31.2.7).
    Around(u8),
}

impl Member {
    /// The `nth` member without a tag, from 0.
    pub const fn nth(name: &'static str, nth: usize) -> Self {
        Self { name, place: Place::Nth(nth) }
    }

    /// A member or alternative with the tag `[number]`, below 31.
    pub const fn tagged(name: &'static str, number: u8) -> Self {
        Self { name, place: Place::Context(number) }
    }

    /// A CHOICE with the tag `[number]`, below 31.
    pub const fn around(name: &'static str, number: u8) -> Self {
        Self { name, place: Place::Around(number) }
    }
}

/// A value where it lies in its message. Cheap to copy.
#[derive(Clone, Copy)]
pub struct Value<'a> {
    bytes: &'a [u8],
    form: Form,
}

#[derive(Clone, Copy)]
enum Form {
    Ber(Element),
    /// From its first octet to behind its last.
    Json(usize, usize),
}

impl<'a> Value<'a> {
    pub(super) const fn ber(bytes: &'a [u8], element: Element) -> Self {
        Self { bytes, form: Form::Ber(element) }
    }

    pub(super) const fn json(bytes: &'a [u8], span: Range<usize>) -> Self {
        Self { bytes, form: Form::Json(span.start, span.end) }
    }

    /// Its place among the octets of the message.
    pub const fn span(&self) -> Range<usize> {
        match self.form {
            Form::Ber(element) => element.start..element.end,
            Form::Json(start, end) => start..end,
        }
    }

    /// Its octets.
    pub fn octets_as_sent(&self) -> &'a [u8] {
        self.bytes.get(self.span()).unwrap_or_default()
    }

    /// A member of this SEQUENCE; none if it is not there.
    ///
    /// # Errors
    /// The SEQUENCE cannot be read up to there.
    pub fn member(&self, member: &Member) -> Result<Option<Self>, Malformed> {
        match self.form {
            Form::Json(start, end) => Ok(self.json_member(start..end, member.name)),
            Form::Ber(element) => {
                let found = self.ber_member(&element, member.place)?;
                found
                    .map(|found| match member.place {
                        Place::Around(_) => found.only_child(self.bytes),
                        Place::Nth(_) | Place::Context(_) => Ok(found),
                    })
                    .transpose()
                    .map(|found| found.map(|found| Self::ber(self.bytes, found)))
            }
        }
    }

    /// A member that must be there.
    ///
    /// # Errors
    /// It is not, or it cannot be found.
    pub fn required(&self, member: &Member) -> Result<Self, Malformed> {
        self.member(member)?.ok_or(Malformed("a SEQUENCE that lacks a member"))
    }

    /// Which of these alternatives this CHOICE is, by place in the list; none if it is another.
    ///
    /// # Errors
    /// It is none at all.
    pub fn alternative(&self, among: &[Member]) -> Result<Option<(usize, Self)>, Malformed> {
        match self.form {
            Form::Ber(element) => {
                let fits = |member: &Member| match member.place {
                    Place::Context(number) | Place::Around(number) => {
                        element.is(ber::CONTEXT, number.into())
                    }
                    Place::Nth(_) => false,
                };
                Ok(among.iter().position(fits).map(|place| (place, *self)))
            }
            Form::Json(start, end) => {
                let mut members = json::members(self.bytes, start..end);
                let (Some((key, value)), None) = (members.next(), members.next()) else {
                    return Err(Malformed("a CHOICE of none or of several"));
                };
                let key = json::text(self.bytes, key).unwrap_or_default();
                let place = among.iter().position(|member| member.name == key);
                Ok(place.map(|place| (place, Self::json(self.bytes, value))))
            }
        }
    }

    /// The items of this SEQUENCE OF. The ending of the original runtime is no item.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn items(&self) -> Result<Vec<Self>, Malformed> {
        match self.form {
            Form::Ber(element) => {
                let ending = |found: &Result<Element, _>| {
                    found.is_ok_and(|it: Element| it.is(ber::UNIVERSAL, ber::ENDING_NUMBER))
                };
                let items = element.children(self.bytes).filter(|found| !ending(found));
                items.map(|item| item.map(|item| Self::ber(self.bytes, item))).collect()
            }
            Form::Json(start, end) => Ok(json::items(self.bytes, start..end)
                .map(|span| Self::json(self.bytes, span))
                .collect()),
        }
    }

    /// A UTF8String.
    ///
    /// # Errors
    /// It is none.
    pub fn text(&self) -> Result<Cow<'a, str>, Malformed> {
        const NO_TEXT: Malformed = Malformed("something else where text belongs");
        match self.form {
            Form::Ber(element) => {
                let octets = element.primitive(self.bytes)?;
                std::str::from_utf8(octets).map(Cow::Borrowed).map_err(|_| NO_TEXT)
            }
            Form::Json(start, end) => json::text(self.bytes, start..end).ok_or(NO_TEXT),
        }
    }

    /// An INTEGER or ENUMERATED.
    ///
    /// # Errors
    /// It is none, or beyond 64 bits.
    pub fn integer(&self) -> Result<i64, Malformed> {
        match self.form {
            Form::Ber(element) => element.integer(self.bytes),
            Form::Json(..) => {
                let text = std::str::from_utf8(self.octets_as_sent()).unwrap_or_default();
                text.parse().map_err(|_| Malformed("something else where a number belongs"))
            }
        }
    }

    /// A BOOLEAN.
    ///
    /// # Errors
    /// It is none.
    pub fn boolean(&self) -> Result<bool, Malformed> {
        match self.form {
            Form::Ber(element) => Ok(element.integer(self.bytes)? != 0),
            Form::Json(..) => match self.octets_as_sent() {
                b"true" => Ok(true),
                b"false" => Ok(false),
                _ => Err(Malformed("something else where true or false belongs")),
            },
        }
    }

    /// A REAL.
    ///
    /// # Errors
    /// It is none, or in another form than the binary one.
    pub fn real(&self) -> Result<f64, Malformed> {
        match self.form {
            Form::Ber(element) => ber::real(element.primitive(self.bytes)?),
            Form::Json(..) => {
                let text = std::str::from_utf8(self.octets_as_sent()).unwrap_or_default();
                text.parse().map_err(|_| Malformed("something else where a number belongs"))
            }
        }
    }

    /// An OCTET STRING, which JSON carries in base64.
    ///
    /// # Errors
    /// It is none.
    pub fn octets(&self) -> Result<Cow<'a, [u8]>, Malformed> {
        match self.form {
            Form::Ber(element) => element.primitive(self.bytes).map(Cow::Borrowed),
            Form::Json(..) => {
                let decoded = STANDARD.decode(self.text()?.as_bytes());
                decoded.map(Cow::Owned).map_err(|_| Malformed("octets that are not in base64"))
            }
        }
    }

    fn json_member(&self, object: Range<usize>, name: &str) -> Option<Self> {
        let is_it = |key: Range<usize>| json::text(self.bytes, key).is_some_and(|key| key == name);
        let mut members = json::members(self.bytes, object);
        let (_, value) = members.find(|(key, _)| is_it(key.clone()))?;
        Some(Self::json(self.bytes, value))
    }

    fn ber_member(&self, within: &Element, place: Place) -> Result<Option<Element>, Malformed> {
        if !within.constructed {
            return Err(Malformed("a plain value where a SEQUENCE belongs"));
        }
        let mut untagged = 0;
        for child in within.children(self.bytes) {
            let child = child?;
            let is_it = match place {
                Place::Context(number) | Place::Around(number) => {
                    child.is(ber::CONTEXT, number.into())
                }
                Place::Nth(nth) => {
                    child.class == ber::UNIVERSAL
                        && child.number != ber::ENDING_NUMBER
                        && untagged == nth
                }
            };
            if is_it {
                return Ok(Some(child));
            }
            untagged += usize::from(child.class == ber::UNIVERSAL);
        }
        Ok(None)
    }
}
