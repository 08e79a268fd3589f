//! [`Span`]: a length of time as a person writes it, `"500ms"` or `"3s"`.

use std::fmt;
use std::time::Duration;

use serde::de::{Deserialize, Deserializer, Error, Visitor};

/// A length of time: a whole number and its unit, one of `ms`, `s`, `m`, `h`, `d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Span(pub(super) Duration);

/// Why a text is not a length of time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotASpan {
    /// A number alone: it could be anything.
    #[error("`{0}` has no unit; write \"{0}s\" for seconds or \"{0}ms\" for milliseconds")]
    NoUnit(String),
    /// No number in front of the unit.
    #[error(
        "`{0}` is not a duration; write a whole number and a unit, such as \"500ms\" or \"3s\""
    )]
    NoNumber(String),
    /// A unit nobody knows.
    #[error("`{unit}` is not a unit of time; use ms, s, m, h or d, such as \"{number}s\"")]
    Unit {
        /// What stands in front of it.
        number: u64,
        /// What was written.
        unit: String,
    },
    /// More than a century.
    #[error("`{0}` is longer than a hundred years")]
    TooLong(String),
}

/// Longest time that may be written: a hundred years.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);

impl Span {
    /// Reads `"500ms"`, `"3s"`, `"5m"`, `"1h"`, `"2d"`.
    pub(super) fn parse(text: &str) -> Result<Self, NotASpan> {
        let trimmed = text.trim();
        let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
        let (number, unit) = trimmed.split_at(digits);
        if number.is_empty() || unit.starts_with(['.', ',']) {
            return Err(NotASpan::NoNumber(text.to_owned()));
        }
        let number: u64 = number.parse().map_err(|_| NotASpan::TooLong(text.to_owned()))?;
        let millis_per_unit = match unit.trim_start() {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "" => return Err(NotASpan::NoUnit(trimmed.to_owned())),
            other => return Err(NotASpan::Unit { number, unit: other.to_owned() }),
        };
        let span = number.checked_mul(millis_per_unit).map(Duration::from_millis);
        match span {
            Some(span) if span <= LONGEST => Ok(Self(span)),
            Some(_) | None => Err(NotASpan::TooLong(text.to_owned())),
        }
    }
}

impl fmt::Display for Span {
    /// Writes the largest unit that fits without a rest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        let (per_unit, unit) = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1_000, "s")]
            .into_iter()
            .find(|(per_unit, _)| millis != 0 && millis.is_multiple_of(*per_unit))
            .unwrap_or((1, "ms"));
        write!(f, "{}{unit}", millis / per_unit)
    }
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SpanVisitor)
    }
}

struct SpanVisitor;

impl Visitor<'_> for SpanVisitor {
    type Value = Span;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a duration such as \"500ms\" or \"3s\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Span, E> {
        Span::parse(text).map_err(E::custom)
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Span, E> {
        Err(E::custom(NotASpan::NoUnit(number.to_string())))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Span, E> {
        Err(E::custom(NotASpan::NoUnit(number.to_string())))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Span, E> {
        Err(E::custom(NotASpan::NoNumber(number.to_string())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unit_is_read_and_written_back() {
        for (text, millis) in [
            ("0ms", 0),
            ("500ms", 500),
            ("3s", 3_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
        ] {
            let span = Span::parse(text).unwrap();
            assert_eq!(span.0, Duration::from_millis(millis), "{text}");
            assert_eq!(span.to_string(), text);
        }
        assert_eq!(Span::parse(" 90 s ").unwrap().to_string(), "90s");
    }

    #[test]
    fn what_is_no_duration_is_refused_with_the_text_to_type() {
        for (text, message) in [
            ("5", "`5` has no unit; write \"5s\" for seconds or \"5ms\" for milliseconds"),
            (
                "1.5s",
                "`1.5s` is not a duration; write a whole number and a unit, such as \"500ms\" or \"3s\"",
            ),
            (
                "soon",
                "`soon` is not a duration; write a whole number and a unit, such as \"500ms\" or \"3s\"",
            ),
            (
                "-3s",
                "`-3s` is not a duration; write a whole number and a unit, such as \"500ms\" or \"3s\"",
            ),
            ("3 sec", "`sec` is not a unit of time; use ms, s, m, h or d, such as \"3s\""),
            ("40000d", "`40000d` is longer than a hundred years"),
            ("99999999999999999999s", "`99999999999999999999s` is longer than a hundred years"),
        ] {
            assert_eq!(Span::parse(text).unwrap_err().to_string(), message);
        }
    }
}
