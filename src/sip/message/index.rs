//! Where the lines of a message are.

use bytes::Buf;
use bytes::Bytes;
use memchr::memchr;
use memchr::memrchr;
use smallvec::SmallVec;

use crate::sip::error::ParseError;
use crate::sip::header::HeaderName;
use crate::sip::message::MAX_HEADER_LINES;
use crate::sip::message::MAX_MESSAGE_BYTES;
use crate::sip::message::Start;
use crate::sip::scan;
use crate::sip::scan::RawLine;
use crate::sip::scan::Step;

/// Offsets into one message. They fit 16 bits, because a message is bounded by 64 KiB and ends its
/// header section with an empty line.
#[derive(Clone)]
pub(in crate::sip) struct Index {
    start: StartLine,
    lines: SmallVec<[Line; 24]>,
    /// The first octet behind the empty line.
    body: u32,
}

#[derive(Clone, Copy)]
enum StartLine {
    /// Where the method ends, and the Request-URI starts and ends.
    Request { method_end: u16, uri: u16, uri_end: u16 },
    /// The code, and where the reason phrase starts and ends.
    Response { status: u16, reason: u16, reason_end: u16 },
}

/// One header line.
#[derive(Clone, Copy)]
pub(in crate::sip) struct Line {
    /// What it is.
    pub(in crate::sip) name: HeaderName,
    at: u16,
    name_end: u16,
    value: u16,
    value_end: u16,
    end: u16,
}

impl Line {
    /// The whole line, its last CRLF included.
    pub(in crate::sip) const fn span(&self) -> std::ops::Range<usize> {
        self.at as usize..self.end as usize
    }

    fn name_in<'m>(&self, bytes: &'m [u8]) -> &'m [u8] {
        scan::span(bytes, self.at.into()..self.name_end.into())
    }

    fn value_in<'m>(&self, bytes: &'m [u8]) -> &'m [u8] {
        scan::span(bytes, self.value.into()..self.value_end.into())
    }
}

impl Index {
    /// Cuts the octets to one message and indexes it.
    pub(in crate::sip) fn read(bytes: Bytes) -> Result<(Bytes, Self), ParseError> {
        let mut bytes = without_empty_lines(bytes);
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(ParseError::TooLarge);
        }
        let first_len = first_line_len(&bytes).ok_or(ParseError::Truncated)?;
        let start = start_line(scan::head(&bytes, first_len))?;
        let mut lines = SmallVec::new();
        let mut at = first_len + 2;
        let body = loop {
            match scan::step(&bytes, at) {
                Step::Line(_) if lines.len() == MAX_HEADER_LINES => {
                    return Err(ParseError::TooManyHeaders);
                }
                Step::Line(raw) => {
                    lines.push(indexed(&bytes, at, &raw).ok_or(ParseError::TooLarge)?);
                    at = raw.end;
                }
                Step::Empty { body } => break body,
                Step::Bad { .. } => return Err(ParseError::HeaderLine),
                Step::Truncated => return Err(ParseError::Truncated),
            }
        };
        let index = Self { start, lines, body: offset(body)? };
        let announced = content_length(index.values(&bytes, HeaderName::ContentLength))?;
        if let Some(len) = announced {
            let end = body.checked_add(len).filter(|end| *end <= bytes.len());
            bytes.truncate(end.ok_or(ParseError::ContentLength)?);
        }
        Ok((bytes, index))
    }

    /// The same for a request that is only to be refused; see `Message::parse_for_refusal`.
    pub(in crate::sip) fn read_for_refusal(bytes: Bytes) -> Option<(Bytes, Self)> {
        let mut bytes = without_empty_lines(bytes);
        bytes.truncate(MAX_MESSAGE_BYTES);
        let first_len = first_line_len(&bytes)?;
        let start = broken_request_line(scan::head(&bytes, first_len))?;
        let mut lines = SmallVec::new();
        let mut at = first_len + 2;
        let body = loop {
            match scan::step(&bytes, at) {
                Step::Line(raw) => {
                    let line = indexed(&bytes, at, &raw)?;
                    if lines.len() < MAX_HEADER_LINES {
                        lines.push(line);
                    }
                    at = raw.end;
                }
                Step::Bad { end } => at = end,
                Step::Empty { body } => break body,
                // What was cut off may not matter for the answer.
                Step::Truncated => break at,
            }
        };
        bytes.truncate(body);
        Some((bytes, Self { start, lines, body: offset(body).ok()? }))
    }

    /// The first line.
    pub(in crate::sip) fn start<'m>(&self, bytes: &'m [u8]) -> Start<'m> {
        match self.start {
            StartLine::Request { method_end, uri, uri_end } => Start::Request {
                // A method is a token, and so it is ASCII.
                method: std::str::from_utf8(scan::head(bytes, method_end.into()))
                    .unwrap_or_default(),
                uri: scan::span(bytes, uri.into()..uri_end.into()),
            },
            StartLine::Response { status, reason, reason_end } => Start::Response {
                status,
                reason: scan::span(bytes, reason.into()..reason_end.into()),
            },
        }
    }

    /// The status code; None for a request.
    pub(in crate::sip) const fn status(&self) -> Option<u16> {
        match self.start {
            StartLine::Request { .. } => None,
            StartLine::Response { status, .. } => Some(status),
        }
    }

    /// The header lines in order.
    pub(in crate::sip) fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// The first octet behind the start line.
    pub(in crate::sip) fn headers(&self) -> usize {
        self.lines.first().map_or_else(|| self.body() - 2, |line| line.span().start)
    }

    /// The first octet of the body.
    pub(in crate::sip) const fn body(&self) -> usize {
        self.body as usize
    }

    /// The values of the lines of that name.
    pub(in crate::sip) fn values<'m>(
        &'m self,
        bytes: &'m [u8],
        name: HeaderName,
    ) -> impl Iterator<Item = &'m [u8]> {
        self.lines.iter().filter(move |line| line.name == name).map(|line| line.value_in(bytes))
    }

    /// The value of the first line whose name reads like this, in any case.
    pub(in crate::sip) fn find<'m>(&self, bytes: &'m [u8], name: &[u8]) -> Option<&'m [u8]> {
        self.lines
            .iter()
            .find(|line| {
                line.name == HeaderName::Other && line.name_in(bytes).eq_ignore_ascii_case(name)
            })
            .map(|line| line.value_in(bytes))
    }
}

/// What the Content-Length lines say: None if there are none (RFC 3261 §20.14).
pub(in crate::sip) fn content_length<'m>(
    values: impl Iterator<Item = &'m [u8]>,
) -> Result<Option<usize>, ParseError> {
    let mut announced = None;
    for value in values {
        let len = scan::number(value).and_then(|len| usize::try_from(len).ok());
        let len = len.ok_or(ParseError::ContentLength)?;
        // Two lengths would let two readers cut the stream in two places.
        if announced.is_some_and(|before| before != len) {
            return Err(ParseError::ContentLength);
        }
        announced = Some(len);
    }
    Ok(announced)
}

/// Whether the octets look like `SIP/` and a version, any version.
pub(in crate::sip) fn is_sip_version(text: &[u8]) -> bool {
    let Some((name, version)) = scan::split_once(text, b'/') else { return false };
    let Some((major, minor)) = scan::split_once(version, b'.') else { return false };
    name.eq_ignore_ascii_case(b"SIP")
        && scan::number(major).is_some()
        && scan::number(minor).is_some()
}

fn without_empty_lines(mut bytes: Bytes) -> Bytes {
    while bytes.starts_with(b"\r\n") {
        bytes.advance(2);
    }
    bytes
}

/// The length of the first line without its CRLF.
fn first_line_len(bytes: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        from += memchr(b'\r', scan::tail(bytes, from))?;
        if bytes.get(from + 1) == Some(&b'\n') {
            return Some(from);
        }
        from += 1;
    }
}

fn start_line(line: &[u8]) -> Result<StartLine, ParseError> {
    if line.iter().any(|&byte| matches!(byte, b'\r' | b'\n')) {
        return Err(ParseError::StartLine);
    }
    let (first, rest) = scan::split_once(line, b' ').unwrap_or((line, &[]));
    if is_sip_version(first) {
        return status_line(line, first, rest);
    }
    let (uri, version) = scan::split_once(rest, b' ').ok_or(ParseError::StartLine)?;
    if !scan::is_token(first) || uri.is_empty() || !is_sip_version(version) {
        return Err(ParseError::StartLine);
    }
    if !version.eq_ignore_ascii_case(b"SIP/2.0") {
        return Err(ParseError::Version);
    }
    request_line(first.len(), first.len() + 1, first.len() + 1 + uri.len())
}

fn status_line(line: &[u8], version: &[u8], rest: &[u8]) -> Result<StartLine, ParseError> {
    if !version.eq_ignore_ascii_case(b"SIP/2.0") {
        return Err(ParseError::Version);
    }
    // Without a reason phrase, some peers leave its space away too.
    let (code, reason) = scan::split_once(rest, b' ').unwrap_or((rest, &[]));
    let status = scan::number(code)
        .filter(|status| code.len() == 3 && (100..700).contains(status))
        .and_then(|status| u16::try_from(status).ok())
        .ok_or(ParseError::StartLine)?;
    Ok(StartLine::Response {
        status,
        reason: short(line.len() - reason.len())?,
        reason_end: short(line.len())?,
    })
}

/// What is left of a request line that is not one: the method before the first space, the
/// Request-URI between it and the last.
fn broken_request_line(line: &[u8]) -> Option<StartLine> {
    let method_end = memchr(b' ', line)?;
    let is_request = scan::is_token(scan::head(line, method_end));
    let uri_end = memrchr(b' ', line).filter(|end| is_request && *end > method_end)?;
    request_line(method_end, method_end + 1, uri_end).ok()
}

fn request_line(method_end: usize, uri: usize, uri_end: usize) -> Result<StartLine, ParseError> {
    Ok(StartLine::Request {
        method_end: short(method_end)?,
        uri: short(uri)?,
        uri_end: short(uri_end)?,
    })
}

fn indexed(bytes: &[u8], at: usize, raw: &RawLine) -> Option<Line> {
    Some(Line {
        name: HeaderName::recognise(scan::span(bytes, raw.name.clone())),
        at: u16::try_from(at).ok()?,
        name_end: u16::try_from(raw.name.end).ok()?,
        value: u16::try_from(raw.value.start).ok()?,
        value_end: u16::try_from(raw.value.end).ok()?,
        end: u16::try_from(raw.end).ok()?,
    })
}

fn short(at: usize) -> Result<u16, ParseError> {
    u16::try_from(at).map_err(|_| ParseError::TooLarge)
}

fn offset(at: usize) -> Result<u32, ParseError> {
    u32::try_from(at).map_err(|_| ParseError::TooLarge)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sip::fixtures;

    #[test]
    fn a_message_of_ordinary_length_is_indexed_without_allocating() {
        for bytes in fixtures::ALL {
            let (_, index) = Index::read(Bytes::from_static(bytes)).unwrap();
            assert!(!index.lines.spilled());
        }
        assert_eq!(size_of::<Line>(), 12);
    }
}
