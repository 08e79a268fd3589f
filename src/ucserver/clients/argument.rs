//! [`Argument`]: what an invoke asks for, read as strictly as a compiler of ASN.1 reads it. The codec
//! is lenient where this is not: it reads a member whatever its type says.

use crate::ucsap::{Encoding, Member, Message, Value};
use crate::ucserver::clients::refusal::Refused;

/// Universal tags (X.680 §8.6), as their octet says.
const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const ENUMERATED: u8 = 0x0A;
const UTF8_STRING: u8 = 0x0C;
const SEQUENCE: u8 = 0x30;

/// Octets of a text that may be kept: names, numbers, URIs.
const TEXT_MAX: usize = 1024;

/// The SEQUENCE that every operation has as its argument.
#[derive(Clone, Copy)]
pub(in crate::ucserver) struct Argument<'a> {
    value: Value<'a>,
    encoding: Encoding,
}

impl<'a> Argument<'a> {
    pub(in crate::ucserver) fn of(message: &'a Message) -> Result<Self, Refused> {
        let value = message.body().ok_or(Refused::MISTYPED)?;
        Self::within(value, message.encoding())
    }

    fn within(value: Value<'a>, encoding: Encoding) -> Result<Self, Refused> {
        let argument = Self { value, encoding };
        argument.check(&value, SEQUENCE, b'{')?;
        Ok(argument)
    }

    pub(in crate::ucserver) const fn value(&self) -> &Value<'a> {
        &self.value
    }

    pub(in crate::ucserver) fn text(&self, member: &Member) -> Result<String, Refused> {
        self.short(&self.value.required(member)?)
    }

    /// One that may be missing; its tag is the member's own.
    pub(in crate::ucserver) fn optional_text(
        &self,
        member: &Member,
    ) -> Result<Option<String>, Refused> {
        let Some(value) = self.value.member(member)? else { return Ok(None) };
        bounded(value.text()?.into_owned()).map(Some)
    }

    pub(in crate::ucserver) fn integer(&self, member: &Member) -> Result<i64, Refused> {
        let value = self.value.required(member)?;
        self.check_tag(&value, INTEGER)?;
        Ok(value.integer()?)
    }

    pub(in crate::ucserver) fn enumerated(&self, member: &Member) -> Result<i64, Refused> {
        let value = self.value.required(member)?;
        self.check_tag(&value, ENUMERATED)?;
        Ok(value.integer()?)
    }

    pub(in crate::ucserver) fn boolean(&self, member: &Member) -> Result<bool, Refused> {
        let value = self.value.required(member)?;
        self.check_tag(&value, BOOLEAN)?;
        Ok(value.boolean()?)
    }

    pub(in crate::ucserver) fn texts(&self, member: &Member) -> Result<Vec<String>, Refused> {
        let list = self.value.required(member)?;
        self.check(&list, SEQUENCE, b'[')?;
        list.items()?.iter().map(|item| self.short(item)).collect()
    }

    /// A list whose items do not matter.
    pub(in crate::ucserver) fn list(&self, member: &Member) -> Result<(), Refused> {
        self.check(&self.value.required(member)?, SEQUENCE, b'[')
    }

    pub(in crate::ucserver) fn sequence(&self, member: &Member) -> Result<Self, Refused> {
        Self::within(self.value.required(member)?, self.encoding)
    }

    /// One of the `optionalParams`: in BER a list of pairs, in JSON an object by key.
    pub(in crate::ucserver) fn option(
        &self,
        params: &Member,
        key: &Member,
    ) -> Result<Option<Value<'a>>, Refused> {
        const NAME: Member = Member::nth("key", 0);
        const VALUE: Member = Member::nth("value", 1);
        let Some(params) = self.value.member(params)? else { return Ok(None) };
        match self.encoding {
            Encoding::Json => Ok(params.member(key)?),
            Encoding::Ber => {
                for pair in params.items()? {
                    if pair.required(&NAME)?.text()? == key.name {
                        return Ok(Some(pair.required(&VALUE)?));
                    }
                }
                Ok(None)
            }
        }
    }

    fn short(&self, value: &Value<'_>) -> Result<String, Refused> {
        self.check(value, UTF8_STRING, b'"')?;
        bounded(value.text()?.into_owned())
    }

    fn check_tag(&self, value: &Value<'_>, tag: u8) -> Result<(), Refused> {
        let first = value.octets_as_sent().first().copied();
        if self.encoding == Encoding::Ber && first != Some(tag) {
            return Err(Refused::MISTYPED);
        }
        Ok(())
    }

    /// Checks what JSON begins with, too.
    fn check(&self, value: &Value<'_>, tag: u8, begin: u8) -> Result<(), Refused> {
        let first = value.octets_as_sent().first().copied();
        let wanted = match self.encoding {
            Encoding::Ber => tag,
            Encoding::Json => begin,
        };
        if first == Some(wanted) { Ok(()) } else { Err(Refused::MISTYPED) }
    }
}

/// What is longer is not kept.
fn bounded(text: String) -> Result<String, Refused> {
    if text.len() <= TEXT_MAX { Ok(text) } else { Err(Refused::FULL) }
}
