//! What else a web server next to a UCServer may have: pages, and odd ones for whoever stands between
//! it and a browser.
//!
//! | path | what is there |
//! |---|---|
//! | `/` | a page that names the server |
//! | `/procall/big?octets=N` | so many octets, at most 64 MiB, as they are read; the nth is n modulo 251 |
//! | `/procall/echo` | the request's body as it comes, and each of its headers, as `x-echo-` and its name |
//! | `/procall/socket` | a WebSocket that says what it hears |

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use http_body_util::BodyExt as _;
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use hyper::{Method, Request as HttpRequest, Response, StatusCode};

use crate::net::websocket::{self, Message};
use crate::ucserver::run::web::answer::{self, Body, boxed, full};
use crate::ucserver::run::web::connection::{Connection, Desk};
use crate::ucserver::run::web::request::Request;

/// Octets of the biggest page.
const BIG_MAX: u64 = 64 * 1024 * 1024;

/// Octets of one piece of it.
const PIECE: usize = 64 * 1024;

/// The octets of a big page repeat after so many.
const PERIOD: u64 = 251;

/// Octets of a WebSocket's message.
const MESSAGE_OCTETS: usize = 10 * 1024 * 1024;

pub(super) async fn answer(
    desk: &Desk,
    place: &Connection,
    asking: &Request,
    request: HttpRequest<Incoming>,
) -> Response<Body> {
    match asking.path.as_str() {
        "/procall/echo" => return echo(request),
        "/procall/socket" => return talk(place, request),
        _ => {}
    }
    if asking.method != Method::GET {
        return answer::empty(StatusCode::NOT_FOUND);
    }
    match asking.path.as_str() {
        "/" => page(&desk.name),
        "/procall/big" => {
            let octets = asking.parameter("octets").and_then(|octets| octets.parse().ok());
            match octets.filter(|octets| *octets <= BIG_MAX) {
                Some(octets) => Response::new(boxed(Big { octets, at: 0 })),
                None => answer::empty(StatusCode::BAD_REQUEST),
            }
        }
        _ => answer::empty(StatusCode::NOT_FOUND),
    }
}

fn page(name: &str) -> Response<Body> {
    let mut escaped = String::with_capacity(name.len());
    for character in name.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            other => escaped.push(other),
        }
    }
    let page = format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{escaped}</title>\
         </head><body><h1>{escaped}</h1></body></html>\n"
    );
    let mut response = Response::new(full(page.into()));
    let kind = HeaderValue::from_static("text/html; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn echo(request: HttpRequest<Incoming>) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let mut response = Response::new(body.boxed_unsync());
    for (name, value) in &parts.headers {
        if let Ok(name) = HeaderName::try_from(format!("x-echo-{name}")) {
            response.headers_mut().append(name, value.clone());
        }
    }
    response
}

fn talk(place: &Connection, mut request: HttpRequest<Incoming>) -> Response<Body> {
    let (response, socket) = match websocket::accept(&mut request, MESSAGE_OCTETS) {
        Ok(accepted) => accepted,
        Err(why) => return why.response().map(boxed),
    };
    let after = Box::pin(async move {
        let Ok(mut socket) = socket.await else { return };
        while let Some(Ok(message)) = socket.next().await {
            let is_said = matches!(message, Message::Text(_) | Message::Binary(_));
            if is_said && socket.send(message).await.is_err() {
                return;
            }
        }
    });
    // A request that becomes something is the last of its connection.
    let _ = place.becomes.try_send(after);
    response.map(|_| full(Bytes::new()))
}

/// A page that is made as it is read.
struct Big {
    octets: u64,
    at: u64,
}

impl hyper::body::Body for Big {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.at >= self.octets {
            return Poll::Ready(None);
        }
        let until = self.octets.min(self.at + PIECE as u64);
        let piece: Vec<u8> = (self.at..until).map(|at| (at % PERIOD) as u8).collect();
        self.at = until;
        Poll::Ready(Some(Ok(Frame::data(piece.into()))))
    }
}
