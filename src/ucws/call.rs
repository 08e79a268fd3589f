//! A call by HTTP is the same as an invoke on the WebSocket: its ROSE message, and the answer back.

use std::ops::Range;

use bytes::Bytes;
use serde::de::IgnoredAny;
use serde_json::json;

use crate::ucsap::login::detail;
use crate::ucsap::{Encoding, Envelope, Kind, Message, Style, member_of_json};
use crate::ucws::{Answer, Request, Unusable};

/// Ids of calls by HTTP begin here; no client numbers its own invokes so high.
pub const IDS_FROM: i64 = 200_000;

/// Parameters of a query that are the WebService's, not the operation's.
const OWN: [&str; 14] = [
    "ucsid",
    "x-ucsid",
    "ucsessionid",
    "x-ucsessionid",
    "callback",
    "jsonp",
    "clientappid",
    "no401",
    "x-no401",
    "user",
    "pass",
    "token",
    "epid",
    "_",
];

/// The invoke that a request is.
///
/// # Errors
/// Its body is no JSON.
pub fn invoke(id: i64, operation: &str, request: &Request) -> Result<Bytes, Unusable> {
    let has_body = !request.body.iter().all(u8::is_ascii_whitespace);
    let argument = if has_body { request.body.clone() } else { of_query(request) };
    if !is_json(&argument) {
        return Err(Unusable("the body is no JSON"));
    }
    let mut bytes = Vec::with_capacity(argument.len() + 96);
    bytes.extend_from_slice(
        format!(r#"{{"invoke":{{"invokeID":{id},"operationID":0,"operationName":"{operation}","argument":"#)
            .as_bytes(),
    );
    bytes.extend_from_slice(&argument);
    bytes.extend_from_slice(b"}}");
    Ok(bytes.into())
}

/// The argument that a query gives: its parameters as members, numbers as numbers.
pub fn of_query(request: &Request) -> Vec<u8> {
    let pairs = form_urlencoded::parse(request.query().as_bytes());
    let own = pairs.filter(|(name, _)| !OWN.contains(&name.as_ref()));
    let members = own.map(|(name, value)| {
        let number = value.parse::<i64>().ok().filter(|number| number.to_string() == value);
        (name.into_owned(), number.map_or_else(|| json!(value), |number| json!(number)))
    });
    serde_json::Value::Object(members.collect()).to_string().into()
}

/// The argument of an invoke, as it is to be sent by HTTP.
pub fn argument(message: &Message) -> Vec<u8> {
    message.body().map(|body| body.octets_as_sent().to_vec()).unwrap_or_default()
}

/// The query of a call whose argument is in the body: without the argument that was there.
pub fn query_without_argument(query: &str) -> String {
    let pairs = form_urlencoded::parse(query.as_bytes());
    let own = pairs.filter(|(name, _)| OWN.contains(&name.as_ref()));
    form_urlencoded::Serializer::new(String::new()).extend_pairs(own).finish()
}

/// What a server has answered by HTTP, as the ROSE message it stands for.
pub fn to_rose(id: i64, answer: &Answer) -> Bytes {
    let unreadable = || {
        let envelope = Envelope { encoding: Encoding::Json, style: Style::Plain, session: None };
        envelope.error(id, detail::INTERNAL, "the server's answer cannot be read")
    };
    let value = json_of(&answer.body).and_then(|span| answer.body.get(span)).unwrap_or_default();
    // What the server has written stays as it is, numbers above all.
    let around = |before: String, value: &[u8], after: &str| {
        Bytes::from([before.as_bytes(), value, after.as_bytes()].concat())
    };
    if let Some(error) = member_of_json(value, "error").and_then(|span| value.get(span)) {
        let before = format!(r#"{{"error":{{"invokedID":{id},"error_value":0,"error":"#);
        return around(before, error, "}}");
    }
    if answer.status == 200 && !value.is_empty() {
        let before =
            format!(r#"{{"result":{{"invokeID":{id},"result":{{"resultValue":0,"result":"#);
        return around(before, value, "}}}");
    }
    unreadable()
}

/// What is skipped is not looked at for whether it is text, so that is asked besides.
fn is_json(octets: &[u8]) -> bool {
    std::str::from_utf8(octets).is_ok() && serde_json::from_slice::<IgnoredAny>(octets).is_ok()
}

/// Where the JSON of a body is: all of it, or what is handed to a function (JSONP).
pub fn json_of(body: &[u8]) -> Option<Range<usize>> {
    let is_json = |span: &Range<usize>| body.get(span.clone()).is_some_and(is_json);
    let inner = || {
        let start = body.iter().position(|octet| *octet == b'(')? + 1;
        let end = body.iter().rposition(|octet| *octet == b')')?;
        (start < end).then_some(start..end)
    };
    Some(0..body.len()).filter(is_json).or_else(|| inner().filter(is_json))
}

/// What the door itself has answered to a call, as the WebService would have.
pub fn from_rose(message: &Message) -> Answer {
    let body = || message.body().map(|body| body.octets_as_sent().to_vec());
    match message.kind() {
        Kind::Result => Answer::json(200, body().unwrap_or_else(|| b"{}".to_vec())),
        Kind::Error => {
            let id = message.id().unwrap_or_default();
            let mut whole = br#"{"error":"#.to_vec();
            whole.extend(body().unwrap_or_else(|| b"{}".to_vec()));
            whole.extend(format!(r#","error_value":0,"invokedID":{id},"sessionID":""}}"#).bytes());
            Answer::json(400, whole)
        }
        Kind::Reject | Kind::Invoke => Answer::json(400, json_text(message.bytes())),
    }
}

/// A message without the header that frames it in a stream.
pub fn json_text(bytes: &Bytes) -> Bytes {
    match bytes.first() {
        Some(b'J') => {
            let digits = bytes[1..].iter().take_while(|octet| octet.is_ascii_digit()).count();
            bytes.slice((1 + digits).min(bytes.len())..)
        }
        _ => bytes.clone(),
    }
}

/// A message as a WebService sends it: an array of one.
pub fn for_client(bytes: &Bytes) -> Bytes {
    let text = json_text(bytes);
    if text.trim_ascii_start().first() == Some(&b'[') {
        return text;
    }
    let mut array = Vec::with_capacity(text.len() + 2);
    array.push(b'[');
    array.extend_from_slice(text.trim_ascii());
    array.push(b']');
    array.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(target: &str, body: &str) -> Request {
        let (method, headers) = ("POST".into(), Vec::new());
        Request { method, target: target.into(), headers, body: body.into() }
    }

    fn read(bytes: Bytes) -> Message {
        Message::parse(bytes).unwrap()
    }

    #[test]
    fn a_call_is_an_invoke_by_name_with_its_body_or_its_query_as_argument() {
        let called = request("/ws/client/asnX?ucsid=local", r#"{"iType" : 1}"#);
        let message = read(invoke(IDS_FROM, "asnGetUserTokenV2", &called).unwrap());
        assert_eq!(
            (message.id(), message.operation()),
            (Some(IDS_FROM), crate::ucsap::Operation(1007))
        );
        assert_eq!(argument(&message), br#"{"iType" : 1}"#);
        let asked =
            request("/ws/client/asnX?iType=1&ucsid=local&text=007%20a&x=007&callback=f", "");
        let message = read(invoke(IDS_FROM, "asnX", &asked).unwrap());
        let members: serde_json::Value = serde_json::from_slice(&argument(&message)).unwrap();
        assert_eq!(members, json!({"iType": 1, "text": "007 a", "x": "007"}));
        assert!(invoke(IDS_FROM, "asnX", &request("/", "{")).is_err());
        let mut no_text = request("/", "");
        no_text.body = b"{\"a\":\"\xFF\"}".to_vec();
        assert!(invoke(IDS_FROM, "asnX", &no_text).is_err());
    }

    #[test]
    fn an_answer_is_a_result_or_an_error_whatever_it_is_wrapped_in() {
        for (status, body, kind, inner) in [
            (200, r#"{"sToken":"a"}"#, Kind::Result, r#"{"sToken":"a"}"#),
            (200, r#"f({"sToken":"a"});"#, Kind::Result, r#"{"sToken":"a"}"#),
            (
                400,
                r#"{"error":{"iErrorDetail":3},"error_value":0}"#,
                Kind::Error,
                r#"{"iErrorDetail":3}"#,
            ),
            (200, r#"f({"error":{"iErrorDetail":3}})"#, Kind::Error, r#"{"iErrorDetail":3}"#),
        ] {
            let answer = Answer::json(status, body);
            let message = read(to_rose(IDS_FROM, &answer));
            assert_eq!((message.kind(), message.id()), (kind, Some(IDS_FROM)), "{body}");
            assert_eq!(argument(&message), inner.as_bytes(), "{body}");
        }
        for (status, body) in [(200, ""), (200, "<html>"), (500, "{}"), (200, ")("), (502, "x")] {
            assert_eq!(read(to_rose(7, &Answer::json(status, body))).kind(), Kind::Error, "{body}");
        }
    }

    #[test]
    fn what_the_door_answers_reads_as_what_a_web_service_answers() {
        let envelope = Envelope { encoding: Encoding::Json, style: Style::Plain, session: None };
        let answer = from_rose(&read(envelope.error(IDS_FROM, 100, "no")));
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, &body["error"]["iErrorDetail"]), (400, &json!(100)));
        let empty = crate::ucsap::Piece::Sequence(Vec::new());
        let answer = from_rose(&read(envelope.result(IDS_FROM, &empty)));
        assert_eq!((answer.status, &answer.body[..]), (200, &b"{}"[..]));
        let problem = crate::ucsap::Problem::DuplicateInvocation;
        let answer = from_rose(&read(envelope.reject(IDS_FROM, problem, "twice")));
        assert!(answer.status == 400 && answer.body.starts_with(b"{\"reject\""));
    }

    #[test]
    fn clients_get_arrays_of_one() {
        let framed = Bytes::from_static(b"J0000012{\"a\":{}}   \n");
        assert_eq!(&for_client(&framed)[..], b"[{\"a\":{}}]");
        let array = Bytes::from_static(b" [{\"a\":{}}]");
        assert_eq!(for_client(&array), array);
    }
}
