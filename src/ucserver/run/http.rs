//! The health document over HTTP: any path, GET only.

use std::convert::Infallible;
use std::future::pending;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Questions that may wait for the loop; then the askers wait.
pub(super) const QUEUE: usize = 64;

/// Connections at once; more are closed as they come.
const CONNECTIONS: usize = 256;

/// How long a connection may last, an unanswered one of a silent server too.
const PATIENCE: Duration = Duration::from_secs(120);

/// Somebody wants the document.
#[derive(Debug)]
pub(super) struct Question {
    reply: oneshot::Sender<Option<String>>,
}

impl Question {
    /// The document, or `None`: silence.
    pub(super) fn answer(self, document: Option<String>) {
        // The asker may have gone.
        let _ = self.reply.send(document);
    }
}

/// Serves until dropped.
pub(super) async fn serve(listener: TcpListener, questions: mpsc::Sender<Question>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) if connections.len() < CONNECTIONS => {
                    connections.spawn(converse(stream, questions.clone()));
                }
                Ok(_) => {}
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn converse(stream: TcpStream, questions: mpsc::Sender<Question>) {
    let service = service_fn(|request| respond(request, &questions));
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // How a connection ends is of no interest to anybody.
    let _ = timeout(PATIENCE, connection).await;
}

async fn respond(
    request: Request<Incoming>,
    questions: &mpsc::Sender<Question>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.method() != Method::GET {
        let mut refused = Response::new(Full::default());
        *refused.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        return Ok(refused);
    }
    let (reply, replied) = oneshot::channel();
    let document = match questions.send(Question { reply }).await {
        Ok(()) => replied.await.ok().flatten(),
        Err(_) => None,
    };
    let Some(document) = document else { return pending().await };
    let mut response = Response::new(Full::new(Bytes::from(document)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    Ok(response)
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    /// Asks with `request`, answers the question with `document`, and gives the whole response.
    async fn exchange(request: &str, document: Option<&str>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (questions, mut asked) = mpsc::channel(QUEUE);
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, questions));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = String::new();
        let mut answered = false;
        loop {
            tokio::select! {
                Some(question) = asked.recv() => {
                    question.answer(document.map(str::to_owned));
                    answered = true;
                }
                read = stream.read_to_string(&mut response) => {
                    read.unwrap();
                    assert_eq!(answered, document.is_some());
                    return response;
                }
            }
        }
    }

    #[tokio::test]
    async fn the_document_is_served_on_any_path() {
        let request = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let response = exchange(request, Some("{\"format\":1}")).await;
        assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        assert!(response.contains("content-type: application/json"), "{response}");
        assert!(response.ends_with("\r\n\r\n{\"format\":1}"), "{response}");
    }

    #[tokio::test]
    async fn another_method_is_refused() {
        let request = "DELETE / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let response = exchange(request, None).await;
        assert!(response.starts_with("HTTP/1.1 405 "), "{response}");
    }
}
