//! Any request to the WebService, and any answer of one: whatever is in it, it is read or refused; a call
//! is the invoke of its argument, and what comes back is a message whatever it is.
//!
//! The data are a target, headers by the line, an empty line, and a body.

use frontdoor::ucsap::{Kind, Message, Operation};
use frontdoor::ucws::route::Route;
use frontdoor::ucws::{Answer, Opening, Purpose, Request, call};

/// Reads the data as a request, and its body as an answer.
pub fn run(data: &[u8]) {
    let request = request(data);
    let operation = match Route::of(request.path()) {
        Route::Call(operation) | Route::Direct(operation) => operation.to_owned(),
        Route::Controller
        | Route::Create
        | Route::Destroy
        | Route::Socket
        | Route::Any
        | Route::Nothing => "asnX".to_owned(),
    };
    for purpose in [Purpose::Session, Purpose::Call(Operation::MAKE_CALL)] {
        if let Ok(opening) = Opening::read(request.clone(), purpose) {
            let _ = opening.credentials.claimed_user();
            assert!(!opening.has_steps() || !opening.can_be_replayed());
        }
    }
    if let Ok(bytes) = call::invoke(call::IDS_FROM, &operation, &request) {
        let message = Message::parse(bytes).expect("a call is a message");
        assert_eq!((message.kind(), message.id()), (Kind::Invoke, Some(call::IDS_FROM)));
        assert_eq!(message.operation(), Operation::named(operation.as_bytes()));
        let query = call::query_without_argument(request.query());
        assert_eq!(call::query_without_argument(&query), query, "nothing is left to take away");
    }
    for status in [200, 400] {
        answered(&Answer::json(status, request.body.clone()));
    }
}

fn answered(answer: &Answer) {
    let message = Message::parse(call::to_rose(7, answer)).expect("an answer is a message");
    assert!(message.kind() != Kind::Invoke && message.id() == Some(7), "{message:?}");
    let told = Message::parse(call::for_client(message.bytes())).expect("clients can read it");
    assert_eq!((told.kind(), told.id()), (message.kind(), message.id()));
    let again = call::from_rose(&message);
    assert!(call::json_of(&again.body).is_some(), "the door answers in JSON");
    if let Some(function) = answer.header("x-function").next() {
        let _ = answer.clone().handed_to(function);
    }
}

fn request(data: &[u8]) -> Request {
    let mut lines = data.split(|octet| *octet == b'\n');
    let target = String::from_utf8_lossy(lines.next().unwrap_or_default()).into_owned();
    let mut headers = Vec::new();
    for line in lines.by_ref().take_while(|line| !line.is_empty()) {
        let mut parts = line.splitn(2, |octet| *octet == b':');
        let name = String::from_utf8_lossy(parts.next().unwrap_or_default()).to_lowercase();
        headers.push((name, parts.next().unwrap_or_default().to_vec()));
    }
    let body: Vec<&[u8]> = lines.collect();
    Request { method: "POST".to_owned(), target, headers, body: body.join(&b'\n') }
}
