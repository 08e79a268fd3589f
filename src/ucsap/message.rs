//! [`Message`]: one ROSE message, read where it lies and changed in place.

use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use serde::de::IgnoredAny;

use crate::ucsap::ber::{self, Element, Length};
use crate::ucsap::piece::write_string;
use crate::ucsap::value::Value;
use crate::ucsap::{Malformed, Operation, Piece, Style, json};

/// How a message is written; an answer is written as its question was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// BER.
    Ber,
    /// JSON.
    Json,
}

/// What a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A question, or an event, which is not answered.
    Invoke,
    /// An answer.
    Result,
    /// An answer that says what went wrong.
    Error,
    /// The question was not understood.
    Reject,
}

/// Why an invoke is rejected (`InvokeProblem`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Problem {
    /// Its id is that of one that is not answered yet.
    DuplicateInvocation = 0,
    /// Nobody knows the operation.
    UnrecognisedOperation = 1,
    /// Its argument cannot be read.
    MistypedArgument = 2,
    /// There is no room.
    ResourceLimitation = 3,
}

/// One whole message as it came, and where the parts of its envelope are.
///
/// It does not print its octets: they may hold a password.
#[derive(Clone)]
pub struct Message {
    bytes: Bytes,
    encoding: Encoding,
    kind: Kind,
    id: Option<i64>,
    id_at: Range<usize>,
    session: Option<Range<usize>>,
    operation: Operation,
    body: Option<Body>,
}

/// Argument, result or error.
#[derive(Clone, Copy)]
enum Body {
    Ber(Element),
    Json(usize, usize),
}

impl Message {
    /// Reads a message: one that was cut out of a stream, or one of a WebSocket, where it may be
    /// the only one in an array.
    ///
    /// # Errors
    /// It is no ROSE message; the peer's fault.
    pub fn parse(bytes: Bytes) -> Result<Self, Malformed> {
        match bytes.first() {
            Some(0xA1..=0xA4) => parse_ber(bytes),
            Some(_) => parse_json(bytes),
            None => Err(Malformed("nothing at all")),
        }
    }

    /// How it is written.
    pub const fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// What it is.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// What it is named by; a reject may name nothing.
    pub const fn id(&self) -> Option<i64> {
        self.id
    }

    /// Whether it is an event: an invoke that is never answered.
    pub fn is_event(&self) -> bool {
        self.kind == Kind::Invoke && self.id == Some(Self::EVENT_ID)
    }

    /// What is asked; of an answer it is not known.
    pub const fn operation(&self) -> Operation {
        self.operation
    }

    /// The session it is of, where it names one.
    pub fn session(&self) -> Option<String> {
        let span = self.session.clone()?;
        match self.encoding {
            Encoding::Ber => {
                let octets = self.bytes.get(span)?;
                std::str::from_utf8(octets).ok().map(str::to_owned)
            }
            Encoding::Json => json::text(&self.bytes, span).map(Into::into),
        }
    }

    /// Its argument, result or error.
    pub fn body(&self) -> Option<Value<'_>> {
        Some(match self.body? {
            Body::Ber(element) => Value::ber(&self.bytes, element),
            Body::Json(start, end) => Value::json(&self.bytes, start..end),
        })
    }

    /// Its octets, with the header that frames it where there is one.
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The invoke id of events.
    pub const EVENT_ID: i64 = 99_999;

    /// The same with octets of its own, for whoever keeps it: as it came it shares a buffer with all
    /// that arrived beside it.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self { bytes: Bytes::copy_from_slice(&self.bytes), ..self.clone() }
    }

    /// The same message under another id.
    #[must_use]
    pub fn with_id(&self, id: i64) -> Self {
        if self.id == Some(id) {
            return self.clone();
        }
        let mut written = Vec::with_capacity(12);
        match self.encoding {
            Encoding::Ber => Piece::Integer(id).write(Encoding::Ber, Style::Plain, &mut written),
            Encoding::Json => written.extend_from_slice(id.to_string().as_bytes()),
        }
        self.with_replaced(self.id_at.clone(), &written)
    }

    /// The same message with another text at `span`, the place of a [`Value`] in it. In BER the
    /// text keeps its tag.
    #[must_use]
    pub fn with_text(&self, span: Range<usize>, text: &str) -> Self {
        let mut written = Vec::with_capacity(text.len() + 8);
        match self.encoding {
            Encoding::Ber => {
                let Ok(old) = Element::read(&self.bytes, span.start, span.end) else {
                    return self.clone();
                };
                written
                    .extend_from_slice(self.bytes.get(old.start..old.length).unwrap_or_default());
                written.extend_from_slice(Length::of(text.len()).octets());
                written.extend_from_slice(text.as_bytes());
            }
            Encoding::Json => write_string(&mut written, text),
        }
        self.with_replaced(span, &written)
    }

    /// The same message with other octets in a place of it. What is around it gets the lengths that
    /// belong to it.
    fn with_replaced(&self, span: Range<usize>, new: &[u8]) -> Self {
        let changed = match self.encoding {
            Encoding::Ber => replace_ber(&self.bytes, span, new),
            Encoding::Json => Some(replace_json(&self.bytes, span, new)),
        };
        // Both cannot fail: the span was read out of this message, and what is written is well-formed.
        changed.and_then(|bytes| Self::parse(bytes.into()).ok()).unwrap_or_else(|| self.clone())
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("encoding", &self.encoding)
            .field("kind", &self.kind)
            .field("id", &self.id)
            .field("operation", &self.operation)
            .field("octets", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// What the door writes itself.
#[derive(Clone, Copy, Debug)]
pub struct Envelope<'a> {
    /// In which encoding.
    pub encoding: Encoding,
    /// How BER is written.
    pub style: Style,
    /// The session that is named, if any.
    pub session: Option<&'a str>,
}

impl<'a> Envelope<'a> {
    /// One that answers a message, in its encoding.
    pub const fn answering(message: &Message, session: Option<&'a str>) -> Self {
        Self { encoding: message.encoding, style: Style::Plain, session }
    }

    /// A question.
    pub fn invoke(&self, id: i64, operation: Operation, argument: &Piece) -> Bytes {
        match self.encoding {
            Encoding::Ber => self.ber(0xA1, |into| {
                integer(into, id);
                if let Some(name) = operation.name() {
                    ber::write(into, ber::tag(ber::CONTEXT, true, 2), |into| text(into, name));
                }
                integer(into, operation.0);
                argument.write(Encoding::Ber, self.style, into);
            }),
            Encoding::Json => self.json("invoke", |into| {
                number_member(into, "invokeID", id);
                number_member(into, "operationID", operation.0);
                if let Some(name) = operation.name() {
                    into.extend_from_slice(b",\"operationName\":");
                    write_string(into, name);
                }
                into.extend_from_slice(b",\"argument\":");
                argument.write(Encoding::Json, self.style, into);
            }),
        }
    }

    /// An event.
    pub fn event(&self, operation: Operation, argument: &Piece) -> Bytes {
        self.invoke(Message::EVENT_ID, operation, argument)
    }

    /// An answer.
    pub fn result(&self, id: i64, result: &Piece) -> Bytes {
        match self.encoding {
            Encoding::Ber => self.ber(0xA2, |into| {
                integer(into, id);
                ber::write(into, 0x30, |into| {
                    integer(into, 0);
                    result.write(Encoding::Ber, self.style, into);
                });
            }),
            Encoding::Json => self.json("result", |into| {
                number_member(into, "invokeID", id);
                into.extend_from_slice(b",\"result\":{\"resultValue\":0,\"result\":");
                result.write(Encoding::Json, self.style, into);
                into.push(b'}');
            }),
        }
    }

    /// An error: `AsnRequestError`, with what went wrong as a number and in words.
    pub fn error(&self, id: i64, detail: i64, words: &str) -> Bytes {
        use crate::ucsap::value::Member;
        const DETAIL: Member = Member::nth("iErrorDetail", 0);
        const WORDS: Member = Member::nth("u8sErrorString", 1);
        let members = vec![(DETAIL, Piece::Integer(detail)), (WORDS, Piece::text(words))];
        let error = Piece::Typed("AsnRequestError", members);
        match self.encoding {
            Encoding::Ber => self.ber(0xA3, |into| {
                integer(into, id);
                integer(into, 0);
                error.write(Encoding::Ber, self.style, into);
            }),
            Encoding::Json => self.json("error", |into| {
                number_member(into, "invokedID", id);
                into.extend_from_slice(b",\"error_value\":0,\"error\":");
                error.write(Encoding::Json, self.style, into);
            }),
        }
    }

    /// A reject of the invoke with this id.
    pub fn reject(&self, id: i64, problem: Problem, details: &str) -> Bytes {
        match self.encoding {
            Encoding::Ber => self.ber(0xA4, |into| {
                integer(into, id);
                ber::write(into, ber::tag(ber::CONTEXT, false, 1), |into| into.push(problem as u8));
                text(into, details);
            }),
            Encoding::Json => self.json("reject", |into| {
                into.extend_from_slice(b",\"invokedID\":{\"invokedID\":");
                into.extend_from_slice(id.to_string().as_bytes());
                into.extend_from_slice(b"},\"reject\":{\"invokeProblem\":");
                into.extend_from_slice((problem as u8).to_string().as_bytes());
                into.extend_from_slice(b"},\"details\":");
                write_string(into, details);
            }),
        }
    }

    fn ber(&self, tag: u8, content: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        let mut bytes = Vec::with_capacity(128);
        ber::write(&mut bytes, tag, |into| {
            if let Some(session) = self.session {
                ber::write(into, ber::tag(ber::CONTEXT, true, 1), |into| text(into, session));
            }
            content(into);
        });
        bytes.into()
    }

    /// `content` writes members, each with the comma before it.
    fn json(&self, kind: &str, content: impl FnOnce(&mut Vec<u8>)) -> Bytes {
        let mut bytes = Vec::with_capacity(256);
        bytes.extend_from_slice(&[b'0'; HEADER_OCTETS]);
        bytes.push(b'{');
        write_string(&mut bytes, kind);
        bytes.extend_from_slice(b":{");
        let start = bytes.len();
        if let Some(session) = self.session {
            bytes.extend_from_slice(b",\"sessionID\":");
            write_string(&mut bytes, session);
        }
        content(&mut bytes);
        // The first comma has nothing before it.
        bytes.remove(start);
        bytes.extend_from_slice(b"}}\n");
        let header = json_header(bytes.len() - HEADER_OCTETS);
        bytes.splice(..HEADER_OCTETS, header.into_bytes());
        bytes.into()
    }
}

/// `J` and seven digits; more octets than those can say need more digits.
const HEADER_OCTETS: usize = 8;

fn json_header(octets: usize) -> String {
    format!("J{octets:07}")
}

fn integer(into: &mut Vec<u8>, value: i64) {
    Piece::Integer(value).write(Encoding::Ber, Style::Plain, into);
}

fn text(into: &mut Vec<u8>, text: &str) {
    ber::write(into, ber::UTF8_STRING as u8, |into| into.extend_from_slice(text.as_bytes()));
}

fn number_member(into: &mut Vec<u8>, name: &str, value: i64) {
    into.push(b',');
    write_string(into, name);
    into.push(b':');
    into.extend_from_slice(value.to_string().as_bytes());
}

const UNFIT: Malformed = Malformed("an envelope with a part in the wrong place");

fn parse_ber(bytes: Bytes) -> Result<Message, Malformed> {
    let root = Element::read(&bytes, 0, bytes.len())?;
    if root.end != bytes.len() || !root.constructed {
        return Err(UNFIT);
    }
    let mut parts = Parts { bytes: &bytes, children: root.children(&bytes), ahead: None };
    let session = parts.take(|it| it.is(ber::CONTEXT, 1))?;
    let session = session.map(|it| it.only_child(&bytes)).transpose()?;
    let session = session.map(|it| it.content..it.content_end);
    let is_integer = |it: &Element| it.is(ber::UNIVERSAL, ber::INTEGER);
    let (kind, operation, body, id);
    match root.number {
        1 => {
            kind = Kind::Invoke;
            id = parts.take(is_integer)?.ok_or(UNFIT)?;
            parts.take(|it| it.is(ber::CONTEXT, 0))?;
            let name = parts.take(|it| it.is(ber::CONTEXT, 2))?;
            parts.take(|it| it.is(ber::CONTEXT, 3))?;
            let number = parts.take(is_integer)?.ok_or(UNFIT)?.integer(&bytes)?;
            operation = match name {
                Some(name) if number == 0 => {
                    let name = name.only_child(&bytes)?;
                    Operation::named(name.primitive(&bytes)?)
                }
                _ => Operation(number),
            };
            body = parts.take(|_| true)?;
        }
        2 => {
            kind = Kind::Result;
            id = parts.take(is_integer)?.ok_or(UNFIT)?;
            operation = Operation::NONE;
            let result = parts.take(|it| it.is(ber::UNIVERSAL, ber::SEQUENCE))?;
            body = result.map(|it| second_of(&bytes, &it)).transpose()?;
        }
        3 => {
            kind = Kind::Error;
            id = parts.take(is_integer)?.ok_or(UNFIT)?;
            operation = Operation::NONE;
            parts.take(is_integer)?.ok_or(UNFIT)?;
            body = parts.take(|_| true)?;
        }
        _ => {
            kind = Kind::Reject;
            let is_id = |it: &Element| is_integer(it) || it.is(ber::UNIVERSAL, ber::NULL);
            id = parts.take(is_id)?.ok_or(UNFIT)?;
            operation = Operation::NONE;
            parts.take(|it| it.class == ber::CONTEXT && it.number < 4 && !it.constructed)?;
            body = parts.take(|it| it.is(ber::UNIVERSAL, ber::UTF8_STRING))?;
            parts.take(|it| it.is(ber::CONTEXT, 4))?;
        }
    }
    parts.are_over()?;
    let number = is_integer(&id).then(|| id.integer(&bytes)).transpose()?;
    let (id_at, body) = (id.start..id.end, body.map(Body::Ber));
    let encoding = Encoding::Ber;
    Ok(Message { bytes, encoding, kind, id: number, id_at, session, operation, body })
}

/// The parts of an envelope in their order, some of which may be missing.
struct Parts<'a> {
    bytes: &'a [u8],
    children: ber::Children<'a>,
    ahead: Option<Element>,
}

impl Parts<'_> {
    fn take(&mut self, fits: impl Fn(&Element) -> bool) -> Result<Option<Element>, Malformed> {
        if self.ahead.is_none() {
            self.ahead = self.children.next().transpose()?;
        }
        Ok(self.ahead.take_if(|next| fits(next)))
    }

    /// The envelope has no room for what a later version might add.
    fn are_over(&mut self) -> Result<(), Malformed> {
        debug_assert!(!self.bytes.is_empty());
        if self.take(|_| true)?.is_some() { Err(UNFIT) } else { Ok(()) }
    }
}

fn second_of(bytes: &[u8], sequence: &Element) -> Result<Element, Malformed> {
    let mut children = sequence.children(bytes);
    children.next().ok_or(UNFIT)??;
    children.next().ok_or(UNFIT)?
}

fn parse_json(bytes: Bytes) -> Result<Message, Malformed> {
    const NO_JSON: Malformed = Malformed("something that is neither BER nor JSON");
    let start = match bytes.first() {
        Some(b'J') => 1 + bytes[1..].iter().take_while(|octet| octet.is_ascii_digit()).count(),
        _ => 0,
    };
    let text = bytes.get(start..).unwrap_or_default();
    if std::str::from_utf8(text).is_err() || serde_json::from_slice::<IgnoredAny>(text).is_err() {
        return Err(NO_JSON);
    }
    let mut whole = json::skip_space(&bytes, start)..bytes.len();
    if bytes.get(whole.start) == Some(&b'[') {
        let mut items = json::items(&bytes, whole);
        let (Some(only), None) = (items.next(), items.next()) else {
            return Err(Malformed("an array of none or of several messages"));
        };
        whole = only;
    }
    let mut kinds = json::members(&bytes, whole);
    let (Some((key, inner)), None) = (kinds.next(), kinds.next()) else { return Err(UNFIT) };
    let (kind, id_name, body_name) = match bytes.get(key) {
        Some(b"\"invoke\"") => (Kind::Invoke, "invokeID", "argument"),
        Some(b"\"result\"") => (Kind::Result, "invokeID", "result"),
        Some(b"\"error\"") => (Kind::Error, "invokedID", "error"),
        Some(b"\"reject\"") => (Kind::Reject, "invokedID", "details"),
        _ => return Err(UNFIT),
    };
    let found = JsonParts::read(&bytes, inner, id_name, body_name)?;
    let mut id_at = found.id.ok_or(UNFIT)?;
    if kind == Kind::Reject && bytes.get(id_at.start) == Some(&b'{') {
        let (_, value) = json::members(&bytes, id_at).next().ok_or(UNFIT)?;
        id_at = value;
    }
    let id = Value::json(&bytes, id_at.clone()).integer();
    let id = if kind == Kind::Reject { id.ok() } else { Some(id?) };
    let mut body = found.body;
    if kind == Kind::Result {
        let inner = body.map(|body| JsonParts::read(&bytes, body, "resultValue", "result"));
        body = inner.transpose()?.and_then(|inner| inner.body);
    }
    let body = body.map(|body| Body::Json(body.start, body.end));
    let session = found.session;
    let operation = match (kind, found.operation, found.operation_name) {
        (Kind::Invoke, Some(0) | None, Some(name)) => {
            Operation::named(json::text(&bytes, name).unwrap_or_default().as_bytes())
        }
        (Kind::Invoke, Some(number), _) => Operation(number),
        (Kind::Invoke, None, None) => return Err(UNFIT),
        (Kind::Result | Kind::Error | Kind::Reject, ..) => Operation::NONE,
    };
    let encoding = Encoding::Json;
    Ok(Message { bytes, encoding, kind, id, id_at, session, operation, body })
}

/// Where the members of an envelope are.
#[derive(Default)]
struct JsonParts {
    id: Option<Range<usize>>,
    session: Option<Range<usize>>,
    operation: Option<i64>,
    operation_name: Option<Range<usize>>,
    body: Option<Range<usize>>,
}

impl JsonParts {
    /// A member that is there twice is refused: two readers might take different ones.
    fn read(
        bytes: &[u8],
        object: Range<usize>,
        id_name: &str,
        body_name: &str,
    ) -> Result<Self, Malformed> {
        const TWICE: Malformed = Malformed("an envelope with a member twice");
        let mut parts = Self::default();
        for (key, value) in json::members(bytes, object) {
            let key = json::text(bytes, key).ok_or(UNFIT)?;
            let is_null = bytes.get(value.clone()) == Some(b"null");
            let slot = match &*key {
                name if name == id_name => &mut parts.id,
                name if name == body_name => &mut parts.body,
                "sessionID" if is_null => continue,
                "sessionID" => &mut parts.session,
                "operationName" => &mut parts.operation_name,
                "operationID" => {
                    let number = Value::json(bytes, value).integer()?;
                    if parts.operation.replace(number).is_some() {
                        return Err(TWICE);
                    }
                    continue;
                }
                _ => continue,
            };
            if slot.replace(value).is_some() {
                return Err(TWICE);
            }
        }
        Ok(parts)
    }
}

fn replace_json(bytes: &[u8], span: Range<usize>, new: &[u8]) -> Vec<u8> {
    let start = match bytes.first() {
        Some(b'J') => 1 + bytes[1..].iter().take_while(|octet| octet.is_ascii_digit()).count(),
        _ => 0,
    };
    let octets = bytes.len() - start - span.len() + new.len();
    let mut changed = Vec::with_capacity(octets + 12);
    if start > 0 {
        changed.extend_from_slice(json_header(octets).as_bytes());
    }
    changed.extend_from_slice(&bytes[start..span.start]);
    changed.extend_from_slice(new);
    changed.extend_from_slice(&bytes[span.end..]);
    changed
}

/// None if the span is no element, or part of one, of the message.
fn replace_ber(bytes: &[u8], span: Range<usize>, new: &[u8]) -> Option<Vec<u8>> {
    // From the outermost element around the span to the innermost.
    let mut around = vec![Element::read(bytes, 0, bytes.len()).ok()?];
    while let Some(last) =
        around.last().filter(|last| last.start != span.start || last.end != span.end)
    {
        let holds = |it: &Element| it.start <= span.start && span.end <= it.end;
        let inner = last.children(bytes).map_while(Result::ok).find(holds)?;
        around.push(inner);
    }
    around.pop();
    // The lengths follow from the inside outwards.
    let mut grown = new.len() as isize - span.len() as isize;
    let mut headers = Vec::with_capacity(around.len());
    for element in around.iter().rev() {
        if element.is_indefinite() {
            headers.push(None);
            continue;
        }
        let octets = (element.content_end - element.content).checked_add_signed(grown)?;
        let length = Length::of(octets);
        grown += length.octets().len() as isize - (element.content - element.length) as isize;
        headers.push(Some(length));
    }
    let mut changed = Vec::with_capacity(bytes.len().saturating_add_signed(grown));
    let mut copied = 0;
    for (element, length) in around.iter().zip(headers.iter().rev()) {
        if let Some(length) = length {
            changed.extend_from_slice(bytes.get(copied..element.length)?);
            changed.extend_from_slice(length.octets());
            copied = element.content;
        }
    }
    changed.extend_from_slice(bytes.get(copied..span.start)?);
    changed.extend_from_slice(new);
    changed.extend_from_slice(bytes.get(span.end..)?);
    Some(changed)
}
