//! BER (X.690), as far as UCSAP needs it: elements read where they lie, and elements written.
//!
//! Reading is as lenient as the original decoder: indefinite and overlong lengths and padded tags are
//! taken. It goes through each element once, with no recursion.

use crate::ucsap::Malformed;

/// How deep elements of indefinite length may lie in each other.
const DEPTH_MAX: u32 = 64;

/// Octets of one tag or one length, at most.
const HEADER_OCTETS_MAX: usize = 10;

/// The class of a tag (X.690 §8.1.2.2).
pub(super) const UNIVERSAL: u8 = 0;
pub(super) const CONTEXT: u8 = 2;

/// Universal tags (X.680 §8.6).
pub(super) const BOOLEAN: u32 = 1;
pub(super) const INTEGER: u32 = 2;
pub(super) const OCTET_STRING: u32 = 4;
pub(super) const NULL: u32 = 5;
pub(super) const REAL: u32 = 9;
pub(super) const ENUMERATED: u32 = 10;
pub(super) const UTF8_STRING: u32 = 12;
pub(super) const SEQUENCE: u32 = 16;

/// What the original runtime writes behind the last member of an extensible SEQUENCE.
pub(super) const ENDING: [u8; 5] = [0x1F, 0x80, 0x80, 0x15, 0x00];
pub(super) const ENDING_NUMBER: u32 = 21;

const PAST_THE_END: Malformed = Malformed("an element that ends after what it lies in");

/// Where an element lies among the octets it was read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) class: u8,
    pub(super) constructed: bool,
    pub(super) number: u32,
    /// Its first octet.
    pub(super) start: usize,
    /// The first octet of its length.
    pub(super) length: usize,
    /// Its contents, the end-of-contents octets left out.
    pub(super) content: usize,
    pub(super) content_end: usize,
    /// Behind its last octet.
    pub(super) end: usize,
}

impl Element {
    /// Reads the element at `at`, which has to end by `within`.
    pub(super) fn read(bytes: &[u8], at: usize, within: usize) -> Result<Self, Malformed> {
        let bytes = bytes.get(..within).ok_or(PAST_THE_END)?;
        let header = Header::read(bytes, at)?;
        let (content_end, end) = match header.octets {
            Some(octets) => {
                let end = header.content.checked_add(octets).filter(|end| *end <= within);
                let end = end.ok_or(PAST_THE_END)?;
                (end, end)
            }
            None => {
                let end = end_of_contents(bytes, header.content)?;
                (end - 2, end)
            }
        };
        let Header { class, constructed, number, length, content, .. } = header;
        Ok(Self { class, constructed, number, start: at, length, content, content_end, end })
    }

    /// The elements in it, one after the other.
    pub(super) const fn children<'a>(&self, bytes: &'a [u8]) -> Children<'a> {
        Children { bytes, at: self.content, end: self.content_end }
    }

    /// The only element in it.
    pub(super) fn only_child(&self, bytes: &[u8]) -> Result<Self, Malformed> {
        let child = Self::read(bytes, self.content, self.content_end)?;
        if child.end == self.content_end {
            Ok(child)
        } else {
            Err(Malformed("two elements where one belongs"))
        }
    }

    pub(super) const fn is(&self, class: u8, number: u32) -> bool {
        self.class == class && self.number == number
    }

    /// Whether its length is not said.
    pub(super) const fn is_indefinite(&self) -> bool {
        self.content_end != self.end
    }

    /// Its contents, if they are no elements.
    pub(super) fn primitive<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], Malformed> {
        if self.constructed {
            return Err(Malformed("a value in parts"));
        }
        bytes.get(self.content..self.content_end).ok_or(PAST_THE_END)
    }

    /// Its contents as a number, whatever its tag.
    pub(super) fn integer(&self, bytes: &[u8]) -> Result<i64, Malformed> {
        let octets = self.primitive(bytes)?;
        let (Some(first), true) = (octets.first(), octets.len() <= 8) else {
            return Err(Malformed("a number of no or too many octets"));
        };
        let sign = if first & 0x80 == 0 { 0 } else { -1 };
        Ok(octets.iter().fold(sign, |value, octet| (value << 8) | i64::from(*octet)))
    }
}

/// See [`Element::children`].
pub(super) struct Children<'a> {
    bytes: &'a [u8],
    at: usize,
    end: usize,
}

impl Iterator for Children<'_> {
    type Item = Result<Element, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at >= self.end {
            return None;
        }
        let element = Element::read(self.bytes, self.at, self.end);
        // What follows something unreadable cannot be found.
        self.at = element.as_ref().map_or(self.end, |element| element.end);
        Some(element)
    }
}

/// A tag and a length.
struct Header {
    class: u8,
    constructed: bool,
    number: u32,
    length: usize,
    content: usize,
    /// None: indefinite.
    octets: Option<usize>,
}

impl Header {
    fn read(bytes: &[u8], at: usize) -> Result<Self, Malformed> {
        let first = *bytes.get(at).ok_or(PAST_THE_END)?;
        let (number, length) = match u32::from(first & 0x1F) {
            0x1F => high_number(bytes, at + 1)?,
            number => (number, at + 1),
        };
        let constructed = first & 0x20 != 0;
        let (octets, content) = length_at(bytes, length)?;
        if octets.is_none() && !constructed {
            return Err(Malformed("a value of indefinite length that is not in parts"));
        }
        Ok(Self { class: first >> 6, constructed, number, length, content, octets })
    }

    fn is_end_of_contents(&self) -> bool {
        self.class == UNIVERSAL && self.number == 0 && self.octets == Some(0)
    }
}

/// The number of a tag of several octets, and what follows it.
fn high_number(bytes: &[u8], at: usize) -> Result<(u32, usize), Malformed> {
    let mut number = 0_u32;
    for (place, octet) in bytes.iter().enumerate().skip(at).take(HEADER_OCTETS_MAX) {
        if number > u32::MAX >> 7 {
            break;
        }
        number = number << 7 | u32::from(octet & 0x7F);
        if octet & 0x80 == 0 {
            return Ok((number, place + 1));
        }
    }
    Err(Malformed("a tag without end"))
}

/// A length, if it is said, and what follows it.
fn length_at(bytes: &[u8], at: usize) -> Result<(Option<usize>, usize), Malformed> {
    let first = *bytes.get(at).ok_or(PAST_THE_END)?;
    match usize::from(first) {
        0x80 => Ok((None, at + 1)),
        octets @ 0..0x80 => Ok((Some(octets), at + 1)),
        many => {
            let count = many & 0x7F;
            if count > HEADER_OCTETS_MAX {
                return Err(Malformed("a length of too many octets"));
            }
            let octets = bytes.get(at + 1..at + 1 + count).ok_or(PAST_THE_END)?;
            let add = |length: usize, octet: &u8| {
                length.checked_mul(256).map(|length| length | usize::from(*octet))
            };
            let length = octets.iter().try_fold(0_usize, add).ok_or(PAST_THE_END)?;
            Ok((Some(length), at + 1 + count))
        }
    }
}

/// Behind the end-of-contents octets that belong to contents of indefinite length.
fn end_of_contents(bytes: &[u8], mut at: usize) -> Result<usize, Malformed> {
    let mut depth = 1;
    loop {
        let header = Header::read(bytes, at)?;
        at = header.content;
        if header.is_end_of_contents() {
            depth -= 1;
            if depth == 0 {
                return Ok(at);
            }
            continue;
        }
        match header.octets {
            Some(octets) => {
                at = at.checked_add(octets).filter(|at| *at <= bytes.len()).ok_or(PAST_THE_END)?;
            }
            None => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(Malformed("elements too deep in each other"));
                }
            }
        }
    }
}

/// The octets of a tag below 31.
pub(super) const fn tag(class: u8, constructed: bool, number: u8) -> u8 {
    class << 6 | (constructed as u8) << 5 | number
}

/// Writes an element around what `content` writes.
pub(super) fn write(into: &mut Vec<u8>, tag: u8, content: impl FnOnce(&mut Vec<u8>)) {
    into.push(tag);
    let start = into.len();
    content(into);
    let length = Length::of(into.len() - start);
    into.splice(start..start, length.octets().iter().copied());
}

/// A definite length, as short as it can be.
pub(super) struct Length {
    octets: [u8; 9],
    used: usize,
}

impl Length {
    pub(super) fn of(length: usize) -> Self {
        let mut octets = [0; 9];
        let big = (length as u64).to_be_bytes();
        if length < 0x80 {
            octets[0] = big[7];
            return Self { octets, used: 1 };
        }
        let leading = (length as u64).leading_zeros() as usize / 8;
        let count = 8 - leading;
        octets[0] = 0x80 | count as u8;
        octets[1..=count].copy_from_slice(&big[leading..]);
        Self { octets, used: count + 1 }
    }

    pub(super) fn octets(&self) -> &[u8] {
        &self.octets[..self.used]
    }
}

/// The contents of an INTEGER, as short as they can be (X.690 §8.3.2).
pub(super) fn integer_octets(value: i64) -> ([u8; 8], usize) {
    let octets = value.to_be_bytes();
    let bits = if value < 0 { value.leading_ones() } else { value.leading_zeros() };
    // One bit is left for the sign.
    let skip = (bits.saturating_sub(1) / 8).min(7) as usize;
    (octets, skip)
}

/// The contents of a REAL, binary with base 2 (X.690 §8.5.7). What is no number is written as zero.
pub(super) fn write_real(into: &mut Vec<u8>, value: f64) {
    if value == 0.0 || !value.is_finite() {
        return;
    }
    let bits = value.abs().to_bits();
    let exponent = (bits >> 52) as i64;
    let fraction = bits & ((1 << 52) - 1);
    let (mantissa, exponent) =
        if exponent == 0 { (fraction, -1074) } else { (fraction | 1 << 52, exponent - 1075) };
    let zeros = mantissa.trailing_zeros();
    let (mantissa, exponent) = (mantissa >> zeros, exponent + i64::from(zeros));
    let (octets, skip) = integer_octets(exponent);
    let sign = if value < 0.0 { 0x40 } else { 0 };
    into.push(0x80 | sign | (octets.len() - skip - 1) as u8);
    into.extend_from_slice(&octets[skip..]);
    let mantissa_octets = mantissa.to_be_bytes();
    let leading = mantissa.leading_zeros() as usize / 8;
    into.extend_from_slice(&mantissa_octets[leading..]);
}

/// Reads what [`write_real`] writes, and nothing else: base 2, no scaling.
pub(super) fn real(octets: &[u8]) -> Result<f64, Malformed> {
    const UNREADABLE: Malformed = Malformed("a REAL in another form than binary");
    let Some((first, rest)) = octets.split_first() else { return Ok(0.0) };
    let count = usize::from(first & 0x03) + 1;
    if first & 0xBC != 0x80 || rest.len() < count || count > 2 || rest.len() > count + 8 {
        return Err(UNREADABLE);
    }
    let (exponent, mantissa) = rest.split_at(count);
    let sign = if exponent.first().is_some_and(|octet| octet & 0x80 != 0) { -1 } else { 0 };
    let exponent = exponent.iter().fold(sign, |value: i32, octet| value << 8 | i32::from(*octet));
    let mantissa = mantissa.iter().fold(0_u64, |value, octet| value << 8 | u64::from(*octet));
    // In two steps, each of which an f64 can say.
    let exponent = exponent.clamp(-2_000, 2_000);
    let half = exponent / 2;
    let value = mantissa as f64 * 2_f64.powi(half) * 2_f64.powi(exponent - half);
    Ok(if first & 0x40 == 0 { value } else { -value })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(bytes: &[u8]) -> Result<Element, Malformed> {
        Element::read(bytes, 0, bytes.len())
    }

    #[test]
    fn a_padded_tag_is_the_tag_without_its_padding() {
        let element = whole(&ENDING).unwrap();
        assert!(element.is(UNIVERSAL, ENDING_NUMBER));
        assert_eq!((element.content, element.end), (5, 5));
    }

    #[test]
    fn an_overlong_length_is_a_length() {
        let element = whole(&[0x02, 0x84, 0, 0, 0, 1, 7]).unwrap();
        assert_eq!(element.integer(&[0x02, 0x84, 0, 0, 0, 1, 7]), Ok(7));
    }

    #[test]
    fn an_indefinite_length_ends_where_its_own_end_is() {
        let bytes = [0x30, 0x80, 0x30, 0x80, 0x02, 0x01, 5, 0, 0, 0x04, 0x02, 0, 0, 0, 0, 9];
        let element = whole(&bytes).unwrap();
        assert_eq!((element.content, element.content_end, element.end), (2, 13, 15));
        let children: Result<Vec<Element>, _> = element.children(&bytes).collect();
        let children = children.unwrap();
        assert_eq!(children.len(), 2);
        assert!(children[1].is(UNIVERSAL, OCTET_STRING));
    }

    #[test]
    fn lengths_that_lie_and_nests_without_end_are_refused() {
        for bytes in [
            &[][..],
            &[0x30],
            &[0x30, 0x05, 0x02],
            &[0x30, 0x84, 0xFF, 0xFF, 0xFF, 0xFF],
            &[0x30, 0x88, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
            &[0x30, 0x80],
            &[0x04, 0x80, 0, 0],
            &[0x30, 0xFF, 1, 1],
            &[0x1F, 0x80, 0x80],
            &[0x1F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F, 0],
        ] {
            assert!(whole(bytes).is_err(), "{bytes:?}");
        }
        assert_eq!(
            whole(&[0x30, 0x80].repeat(10_000)),
            Err(Malformed("elements too deep in each other"))
        );
    }

    #[test]
    fn what_is_written_is_read() {
        for value in [0, 1, -1, 127, 128, -128, -129, 255, 65_535, i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            let (octets, skip) = integer_octets(value);
            write(&mut bytes, tag(UNIVERSAL, false, 2), |into| {
                into.extend_from_slice(&octets[skip..]);
            });
            assert_eq!(whole(&bytes).unwrap().integer(&bytes), Ok(value));
        }
        for value in [0.0, 1.0, -2.5, 45_627.123_456_789, 1e-300, f64::MAX, f64::MIN_POSITIVE] {
            let mut bytes = Vec::new();
            write_real(&mut bytes, value);
            assert_eq!(real(&bytes), Ok(value), "{bytes:?}");
        }
    }

    #[test]
    fn a_length_is_written_as_short_as_it_can_be() {
        assert_eq!(Length::of(0x7F).octets(), [0x7F]);
        assert_eq!(Length::of(0x80).octets(), [0x81, 0x80]);
        assert_eq!(Length::of(0x1_0000).octets(), [0x83, 1, 0, 0]);
    }
}
