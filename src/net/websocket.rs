//! WebSockets (RFC 6455): a request that becomes one, and one that is made.

use std::future::Future;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::upgrade::Upgraded;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

pub use tokio_tungstenite::tungstenite::protocol::CloseFrame;
pub use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
pub use tokio_tungstenite::tungstenite::{Error, Message, Utf8Bytes};

/// A WebSocket that a request has become.
pub type Accepted = WebSocketStream<TokioIo<Upgraded>>;

/// Octets that are read at once: many of these are open for long, and little is said on each.
const READ_OCTETS: usize = 2 * 1024;

/// A request that does not become a WebSocket; whoever sent it is told why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoWebSocket {
    /// It asks for none.
    #[error("a WebSocket is spoken here: ask for one (RFC 6455 §4.1)")]
    NotAsked,
    /// It asks for another version than 13.
    #[error("version 13 of WebSocket is spoken here")]
    OtherVersion,
    /// It has no usable key.
    #[error("Sec-WebSocket-Key is missing, or there are several")]
    NoKey,
}

impl NoWebSocket {
    /// As an answer (RFC 6455 §4.2.2, §4.4).
    pub fn response(self) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::from(format!("{self}\n")));
        *response.status_mut() = match self {
            Self::NotAsked | Self::OtherVersion => StatusCode::UPGRADE_REQUIRED,
            Self::NoKey => StatusCode::BAD_REQUEST,
        };
        let headers = response.headers_mut();
        headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
        headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        response
    }
}

/// How much a WebSocket takes: `octets` of one message, and the same of what its peer has not read.
pub fn limits(octets: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(READ_OCTETS)
        .write_buffer_size(0)
        .max_write_buffer_size(octets.saturating_mul(2))
        .max_message_size(Some(octets))
        .max_frame_size(Some(octets))
}

/// Whether a request asks to become a WebSocket.
pub fn is_asked_for(headers: &HeaderMap) -> bool {
    has_word(headers, &UPGRADE, "websocket")
}

/// Lets a request become a WebSocket: what it is answered, and what is there once that has been sent.
///
/// # Errors
/// It cannot become one.
pub fn accept<B>(
    request: &mut Request<B>,
    octets: usize,
) -> Result<
    (Response<Full<Bytes>>, impl Future<Output = hyper::Result<Accepted>> + use<B>),
    NoWebSocket,
> {
    let headers = request.headers();
    if !is_asked_for(headers) || !has_word(headers, &CONNECTION, "upgrade") {
        return Err(NoWebSocket::NotAsked);
    }
    if headers.get(SEC_WEBSOCKET_VERSION).is_none_or(|version| version != "13") {
        return Err(NoWebSocket::OtherVersion);
    }
    let mut keys = headers.get_all(SEC_WEBSOCKET_KEY).iter();
    let (Some(key), None) = (keys.next(), keys.next()) else { return Err(NoWebSocket::NoKey) };
    let accepted = derive_accept_key(key.as_bytes());
    let accepted = HeaderValue::try_from(accepted).map_err(|_| NoWebSocket::NoKey)?;
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = response.headers_mut();
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(SEC_WEBSOCKET_ACCEPT, accepted);
    let upgraded = hyper::upgrade::on(request);
    let socket = async move {
        let io = TokioIo::new(upgraded.await?);
        Ok(WebSocketStream::from_raw_socket(io, Role::Server, Some(limits(octets))).await)
    };
    Ok((response, socket))
}

/// Makes a WebSocket on a stream that is there: `url` is `ws://host:port/path`.
///
/// # Errors
/// The peer does not want one, or is gone.
pub async fn connect<S>(
    stream: S,
    url: &str,
    octets: usize,
) -> Result<WebSocketStream<S>, Box<Error>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let made = tokio_tungstenite::client_async_with_config(url, stream, Some(limits(octets))).await;
    made.map(|(socket, _)| socket).map_err(Box::new)
}

/// Whether a header that lists words has this one.
fn has_word(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .any(|value| value.split(',').any(|it| it.trim().eq_ignore_ascii_case(word)))
}
