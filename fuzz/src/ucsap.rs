//! Any stream of UCSAP: however it is cut, the same messages come out before it ends or fails; a
//! message gets another id, or another name for a monitor, and nothing else of it changes; and no
//! reader panics.

use bytes::Bytes;
use frontdoor::ucsap::framing::{Framer, Limits};
use frontdoor::ucsap::login::{Credentials, LoginOutcome};
use frontdoor::ucsap::negotiate::{Negotiated, Negotiation};
use frontdoor::ucsap::{Kind, Message, Operation, cti};

/// Small, so that it is met.
const LIMITS: Limits = Limits { message: 1400 };

/// Cuts the stream in several ways, and edits what comes out.
pub fn run(data: &[u8]) {
    let (whole, failed) = messages(data, false, usize::MAX);
    for (landed, most) in [(true, usize::MAX), (false, 1), (true, 1), (false, 37), (true, 37)] {
        let cut = messages(data, landed, most);
        assert!(cut == (whole.clone(), failed), "in pieces of up to {most}, landed: {landed}");
    }
    whole.into_iter().for_each(edit);
    // As a WebSocket brings it, without a frame around it.
    edit(Bytes::copy_from_slice(data));
}

/// What came out, and whether the stream failed. `landed`: pieces are cut where they lie, else they
/// are taken in first.
fn messages(stream: &[u8], landed: bool, most: usize) -> (Vec<Bytes>, bool) {
    let mut framer = Framer::new(LIMITS);
    let mut messages = Vec::new();
    for mut piece in stream.chunks(most.max(1)) {
        if !landed {
            framer.push(std::mem::take(&mut piece));
        }
        loop {
            match framer.next_landed(&mut piece, Bytes::copy_from_slice) {
                Ok(Some(message)) => messages.push(message),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(framer.buffered(), 0, "nothing is kept of a stream that failed");
                    assert_eq!(framer.next(), Err(error), "it stays failed");
                    return (messages, true);
                }
            }
        }
        assert!(framer.buffered() <= LIMITS.message, "{} octets wait", framer.buffered());
    }
    (messages, false)
}

fn edit(octets: Bytes) {
    let Ok(message) = Message::parse(octets) else { return };
    read(&message);
    if let Some(id) = message.id() {
        assert_eq!(message.with_id(id).bytes(), message.bytes());
        let (seven, eight) = (message.with_id(7), message.with_id(88_888));
        assert_eq!((seven.id(), eight.id()), (Some(7), Some(88_888)));
        assert_eq!(seven.with_id(88_888).bytes(), eight.bytes());
        let around = |message: &Message| {
            let body = message.body().map(|body| body.octets_as_sent().to_vec());
            (message.kind(), message.operation(), message.session(), body)
        };
        assert_eq!(around(&seven), around(&message));
    }
    let operation = message.operation();
    if message.kind() == Kind::Invoke
        && let Some(body) = message.body()
        && let Ok(Some((_, at))) = cti::cross_ref(operation, &body)
    {
        let named = message.with_text(at, "another");
        let body = named.body().expect("it has a body yet");
        let read = cti::cross_ref(operation, &body).expect("it can be read yet");
        assert_eq!(read.map(|(name, _)| name).as_deref(), Some("another"));
        assert_eq!((named.id(), named.kind()), (message.id(), message.kind()));
    }
}

/// Whatever is in it, it is read or refused.
fn read(message: &Message) {
    let Some(body) = message.body() else { return };
    let _ = Negotiation::read(&body);
    let _ = Negotiated::read(&body);
    let _ = Credentials::read(&body).map(|shown| shown.claimed_user());
    let _ = LoginOutcome::read(&body);
    let _ = cti::line(&body);
    let _ = cti::attaches(&body);
    let _ = cti::groups_event("name", &body);
    for operation in
        [Operation::MONITOR_START, Operation::ENUM_LINES, Operation::AGENT_MONITOR_START]
    {
        let _ = cti::cross_ref_of_result(operation, &body);
    }
    let Ok(mut line) = cti::LineState::read(&body) else { return };
    for event in [Operation::CALL_CHANGED, Operation::LINE_INFO_CHANGED] {
        let _ = line.follow(event, &body);
    }
    let events = cti::LineState::default().difference(&line, "name", "line");
    assert!(events.len() <= line.calls() + 16, "{} differences", events.len());
}
