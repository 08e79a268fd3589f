//! Pulls a server's health document over plain HTTP.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper::header;
use hyper::{Method, Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::cluster::document::{Document, DocumentFault};

/// How long a document may take: the next one is asked for about then.
const PATIENCE: Duration = Duration::from_secs(1);

/// The largest document that is read.
const DOCUMENT_OCTETS: usize = 64 * 1024;

/// The largest header section that is read.
const HEADER_OCTETS: usize = 16 * 1024;

/// Fetches `url` (`http://host:port/path`) and reads the document.
///
/// # Errors
/// [`DocumentFault::Missing`] if there is no answer or not 200, [`DocumentFault::Invalid`] if the
/// answer is not the document.
pub async fn fetch(url: &str) -> Result<Document, DocumentFault> {
    let body = match timeout(PATIENCE, get(url)).await {
        Ok(body) => body?,
        Err(_) => return Err(missing(format!("{url} did not answer within {PATIENCE:?}"))),
    };
    Document::parse(&body)
}

async fn get(url: &str) -> Result<Bytes, DocumentFault> {
    let uri: Uri = url.parse().map_err(|error| missing(format!("{url} is no URL: {error}")))?;
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(missing(format!("{url} is not http://host:port/path: correct health_url")));
    };
    // Brackets belong to the URL, not to the address.
    let host = authority.host().trim_start_matches('[').trim_end_matches(']');
    let port = authority.port_u16().unwrap_or(80);
    let unanswered = |error: &dyn std::fmt::Display| missing(format!("{url}: {error}"));

    let stream = TcpStream::connect((host, port)).await.map_err(|error| unanswered(&error))?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(HEADER_OCTETS)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|error| unanswered(&error))?;
    let path = uri.path_and_query().map_or("/", |it| it.as_str());
    let request = Request::builder()
        .method(Method::GET)
        .uri(path)
        .header(header::HOST, authority.as_str())
        .header(header::ACCEPT, "application/json")
        .header(header::CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| unanswered(&error))?;

    let exchange = async move {
        let response = sender.send_request(request).await.map_err(|error| unanswered(&error))?;
        if response.status() != StatusCode::OK {
            return Err(unanswered(&response.status()));
        }
        let body = Limited::new(response.into_body(), DOCUMENT_OCTETS).collect().await;
        body.map(http_body_util::Collected::to_bytes).map_err(|error| {
            DocumentFault::Invalid(format!("{url}: the answer could not be read: {error}").into())
        })
    };
    // The connection must be driven beside the exchange; it lives no longer than that.
    tokio::pin!(connection, exchange);
    tokio::select! {
        biased;
        body = &mut exchange => body,
        _ = &mut connection => exchange.await,
    }
}

fn missing(why: String) -> DocumentFault {
    DocumentFault::Missing(why.into())
}
