//! [`Outline`]: a REGISTER, looked at only as far as it takes to know it again.

use std::hash::{BuildHasher, Hasher};
use std::ops::Range;

use foldhash::quality::FixedState;
use memchr::memchr;
use smallvec::SmallVec;

use crate::sip::error::ParseError;
use crate::sip::header::HeaderName;
use crate::sip::message::Message;
use crate::sip::scan;
use crate::sip::via::Via;

/// More Vias than this are left to those who read the whole message.
const VIAS_MAX: usize = 2;

/// What an answer repeats of a REGISTER, and a fingerprint of what the REGISTER says.
///
/// Two REGISTERs of one fingerprint are the same octet for octet but for the values of their Vias
/// and the number of their CSeq — as sure as 64 bits are. So what was found by reading one of them
/// holds for the other, and nothing of it has to be read but these.
#[derive(Clone, Debug)]
pub struct Outline<'m> {
    /// What the answer repeats.
    pub repeated: Repeated<'m>,
    /// The number of the CSeq.
    pub cseq: u32,
    /// Of all octets but the values of the Vias and the number of the CSeq.
    pub fingerprint: u64,
}

/// What every response repeats of its request (RFC 3261 §8.2.6.2), values as written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repeated<'m> {
    pub(in crate::sip) vias: SmallVec<[&'m [u8]; VIAS_MAX]>,
    pub(in crate::sip) from: &'m [u8],
    pub(in crate::sip) to: &'m [u8],
    pub(in crate::sip) call_id: &'m [u8],
    pub(in crate::sip) cseq: &'m [u8],
}

/// Makes fingerprints. Who does not know the secret behind it cannot make two REGISTERs of one.
#[derive(Clone, Debug)]
pub struct Fingerprints(FixedState);

impl Fingerprints {
    /// Those of this secret.
    pub fn of(secret: u64) -> Self {
        Self(FixedState::with_seed(secret))
    }
}

impl<'m> Repeated<'m> {
    /// Of a request; what it lacks is empty.
    pub fn of(request: &'m Message) -> Self {
        let value = |name| request.header(name).unwrap_or_default();
        Self {
            vias: request.lines(HeaderName::Via).collect(),
            from: value(HeaderName::From),
            to: value(HeaderName::To),
            call_id: value(HeaderName::CallId),
            cseq: value(HeaderName::CSeq),
        }
    }

    /// The first element of the first Via.
    pub fn top_via(&self) -> Result<Via<'m>, ParseError> {
        Via::parse(self.top_via_text())
    }

    /// The same as written; empty if there is none.
    pub(in crate::sip) fn top_via_text(&self) -> &'m [u8] {
        let line = self.vias.first().copied().unwrap_or_default();
        scan::head(line, scan::element_len(line))
    }

    /// The Call-ID as written.
    pub const fn call_id(&self) -> &'m [u8] {
        self.call_id
    }
}

impl<'m> Outline<'m> {
    /// Looks at one datagram or one framed message. None for whatever is not a REGISTER as nearly
    /// all phones write it: it may still be one, and has to be read.
    ///
    /// Beside the CSeq number nothing is checked, as a REGISTER that is refused has no fingerprint
    /// that anybody remembers; so the first Via is still to be read ([`Repeated::top_via`]).
    pub fn of(bytes: &'m [u8], fingerprints: &Fingerprints) -> Option<Self> {
        if !bytes.starts_with(b"REGISTER ") {
            return None;
        }
        let mut print = Print { hasher: fingerprints.0.build_hasher(), bytes, from: 0 };
        let mut repeated = Repeated::default();
        let mut at = line_len(bytes)?;
        loop {
            let rest = scan::tail(bytes, at);
            let line = scan::head(rest, line_len(rest)?);
            match line {
                b"\r\n" => break,
                // A line may go on in the next one (folding).
                [b' ' | b'\t', ..] => return None,
                _ if may_matter(line) => repeated.take(line, at, &mut print)?,
                _ => {}
            }
            at += line.len();
        }
        let cseq = scan::number(scan::head(repeated.cseq, digits(repeated.cseq)))?;
        let needed = [repeated.from, repeated.to, repeated.call_id];
        let has_all = !repeated.vias.is_empty() && needed.iter().all(|it| !it.is_empty());
        let cseq = u32::try_from(cseq).ok().filter(|_| has_all)?;
        Some(Self { repeated, cseq, fingerprint: print.finish() })
    }
}

impl<'m> Repeated<'m> {
    /// Takes a line that begins at `at`; None if it is one that has to be read.
    fn take<H: Hasher>(
        &mut self,
        line: &'m [u8],
        at: usize,
        print: &mut Print<'_, H>,
    ) -> Option<()> {
        let name = line.iter().take_while(|byte| scan::is_token_byte(**byte)).count();
        let (name, rest) = line.split_at(name);
        let end = at + line.len();
        let known = HeaderName::recognise(name);
        if known == HeaderName::Via {
            let value = value(rest)?;
            if self.vias.len() == VIAS_MAX || !is_text(scan::head(rest, rest.len() - 2)) {
                return None;
            }
            self.vias.push(value);
            print.leave_out(at + name.len()..end);
            return Some(());
        }
        let place = if known == HeaderName::From {
            &mut self.from
        } else if known == HeaderName::To {
            &mut self.to
        } else if known == HeaderName::CallId {
            &mut self.call_id
        } else if known == HeaderName::CSeq {
            let start = end - scan::trim_start(scan::tail(rest, 1)).len();
            print.leave_out(start..start + digits(value(rest)?));
            &mut self.cseq
        } else {
            // With a Path the answer has more to repeat (RFC 3327 §5.3).
            return (known != HeaderName::Path).then_some(());
        };
        let value = value(rest)?;
        (place.is_empty() && !value.is_empty()).then(|| *place = value)
    }
}

/// The length of the first line, CRLF included; None if a line feed stands alone.
fn line_len(bytes: &[u8]) -> Option<usize> {
    let feed = memchr(b'\n', bytes)?;
    scan::head(bytes, feed).ends_with(b"\r").then_some(feed + 1)
}

/// How many digits a value begins with.
fn digits(value: &[u8]) -> usize {
    value.iter().take_while(|byte| byte.is_ascii_digit()).count()
}

/// Whether the name of this line may be one of those that are looked for: for most this is all that
/// has to be asked.
const fn may_matter(line: &[u8]) -> bool {
    match line {
        [b'c' | b'C', b'o' | b'O', ..] => false,
        [first, ..] => matches!(
            first,
            b'v' | b'V' | b'f' | b'F' | b't' | b'T' | b'i' | b'I' | b'c' | b'C' | b'p' | b'P'
        ),
        [] => false,
    }
}

/// The value behind a name, trimmed; None where white space stands before the colon.
fn value(rest: &[u8]) -> Option<&[u8]> {
    rest.strip_prefix(b":").map(scan::trim)
}

/// Whether there is nothing but text: no control octets but tabs.
fn is_text(value: &[u8]) -> bool {
    !value.iter().fold(false, |any, byte| any | (byte.is_ascii_control() & (*byte != b'\t')))
}

/// The fingerprint in the making.
struct Print<'m, H> {
    hasher: H,
    bytes: &'m [u8],
    /// From where on nothing is in it yet.
    from: usize,
}

impl<H: Hasher> Print<'_, H> {
    /// That something was left out here is part of what is said.
    fn leave_out(&mut self, range: Range<usize>) {
        self.hasher.write(scan::span(self.bytes, self.from..range.start));
        self.hasher.write_u8(0);
        self.from = range.end;
    }

    fn finish(mut self) -> u64 {
        self.hasher.write(scan::tail(self.bytes, self.from));
        self.hasher.finish()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::sip::fixtures;

    const REGISTER: &str = "REGISTER sip:example.com SIP/2.0\r\n\
        Via: SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK1, SIP/2.0/TCP b\r\n\
        v: SIP/2.0/UDP c\r\n\
        From: <sip:alice@example.com>;tag=1\r\n\
        To:<sip:alice@example.com>\r\n\
        i : not quite\r\n\
        CSeq:  7 REGISTER\r\n\
        Contact: <sip:alice@192.0.2.10>\r\n\
        Content-Length: 4\r\n\
        \r\n\
        v: 1";

    fn register() -> String {
        REGISTER.replace("i : not quite", "I: one@192.0.2.10 ")
    }

    fn outline(text: &str) -> Option<Outline<'_>> {
        Outline::of(text.as_bytes(), &Fingerprints::of(7))
    }

    fn fingerprint(text: &str) -> Option<u64> {
        outline(text).map(|it| it.fingerprint)
    }

    #[test]
    fn what_an_answer_repeats_is_found() {
        let register = register();
        let Outline { repeated, cseq, .. } = outline(&register).unwrap();
        assert_eq!(cseq, 7);
        assert_eq!(repeated.cseq, b"7 REGISTER");
        assert_eq!(repeated.vias[0], b"SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK1, SIP/2.0/TCP b");
        assert_eq!(repeated.vias[1], b"SIP/2.0/UDP c");
        assert_eq!(repeated.top_via().unwrap().branch(), Some(&b"z9hG4bK1"[..]));
        assert_eq!(repeated.from, b"<sip:alice@example.com>;tag=1");
        assert_eq!(repeated.to, b"<sip:alice@example.com>");
        assert_eq!(repeated.call_id(), b"one@192.0.2.10");
    }

    #[test]
    fn nothing_but_the_vias_and_the_number_of_the_cseq_may_differ() {
        let register = register();
        let known = fingerprint(&register);
        assert!(known.is_some());
        for (from, to) in [
            ("z9hG4bK1", "z9hG4bKother-longer"),
            (", SIP/2.0/TCP b", ""),
            ("v: SIP/2.0/UDP c", "v:SIP/2.0/TCP d;x "),
            ("7 REG", "4294967295 REG"),
        ] {
            assert_eq!(fingerprint(&register.replace(from, to)), known, "{from} → {to}");
        }
        let values = [" SIP/2.0/UDP 192.0.2.10;branch=z9hG4bK1, SIP/2.0/TCP b", " SIP/2.0/UDP c"];
        let left_out =
            values.map(|it| register.find(it).unwrap()..register.find(it).unwrap() + it.len());
        let number = register.find("7 REGISTER").unwrap();
        for at in 0..register.len() {
            if at == number || left_out.iter().any(|span| span.contains(&at)) {
                continue;
            }
            for sign in ["", "x", "9", " ", "\r\n"] {
                let mut other = register.clone();
                other.replace_range(at..=at, sign);
                assert!(other == register || fingerprint(&other) != known, "{at}: {other}");
            }
        }
        let two = fingerprint(&register.replace("v: SIP/2.0/UDP c\r\n", ""));
        assert!(two.is_some() && two != known, "one Via less");
        assert_ne!(
            Outline::of(register.as_bytes(), &Fingerprints::of(8)).map(|it| it.fingerprint),
            known
        );
    }

    #[test]
    fn whatever_is_written_as_few_do_has_to_be_read() {
        let register = register();
        for (from, to) in [
            ("REGISTER sip", "\r\nREGISTER sip"),
            ("REGISTER sip", "register sip"),
            ("z9hG4bK1", "z9hG4bK1\r\n "),
            ("z9hG4bK1", "z9hG4bK\n1"),
            ("z9hG4bK1", "z9hG4bK\r1"),
            ("z9hG4bK1", "z9hG4bK\0"),
            (" b\r\n", " b\r\r\n"),
            ("Via:", "Via :"),
            ("v:", "v\t:"),
            ("v: SIP/2.0/UDP c\r\n", "v: SIP/2.0/UDP c\r\nVia: SIP/2.0/UDP d\r\n"),
            ("7 REGISTER", "4294967296 REGISTER"),
            ("7 REGISTER", "REGISTER"),
            ("Content-Length: 4", "CSeq: 8 REGISTER"),
            ("Content-Length: 4", "Path: <sip:edge.example.com;lr>"),
            ("To:", "Too:"),
            ("\r\n\r\nv: 1", "\r\n"),
        ] {
            assert!(register.contains(from));
            assert!(outline(&register.replacen(from, to, 1)).is_none(), "{from:?} → {to:?}");
        }
        assert!(outline(REGISTER).is_none(), "white space before the colon");
        assert!(outline("").is_none());
    }

    #[test]
    fn a_register_as_phones_write_them_has_one() {
        let message = Message::parse(Bytes::from_static(fixtures::REGISTER_UDP)).unwrap();
        let outline = Outline::of(message.bytes(), &Fingerprints::of(7)).unwrap();
        assert_eq!(Repeated::of(&message), outline.repeated);
    }
}
