//! Health documents over real HTTP.

use frontdoor::cluster::document::{Document, DocumentFault};
use frontdoor::net::fetch;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::{V4, V6, soon};

/// Fetches from a server that gives `answer` to anything, and what it was asked.
async fn fetch_from(answer: Vec<u8>) -> (Result<Document, DocumentFault>, String) {
    let server = TcpListener::bind(V4).await.unwrap();
    let url = format!("http://{}/health?full=1", server.local_addr().unwrap());
    let served = tokio::spawn(async move {
        let (mut stream, _) = server.accept().await.unwrap();
        let mut request = vec![0; 4_096];
        let octets = stream.read(&mut request).await.unwrap();
        // The client may have heard enough before the end.
        let _ = stream.write_all(&answer).await;
        String::from_utf8(request[..octets].to_vec()).unwrap()
    });
    let document = soon("the document", fetch(&url)).await;
    (document, served.await.unwrap())
}

fn document() -> Document {
    Document { boot_id: "b1".into(), users_logged_in: 7, ..Document::default() }
}

fn ok(body: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

#[tokio::test]
async fn a_document_is_fetched_by_its_whole_url() {
    let (fetched, request) = fetch_from(ok(&document().to_json())).await;
    assert_eq!(fetched, Ok(document()));
    assert!(request.starts_with("GET /health?full=1 HTTP/1.1\r\n"), "{request}");
    assert!(request.contains("host: 127.0.0.1:"), "{request}");
}

#[tokio::test]
async fn an_answer_without_length_ends_with_the_connection() {
    let answer = format!("HTTP/1.0 200 OK\r\n\r\n{}", document().to_json());
    assert_eq!(fetch_from(answer.into_bytes()).await.0, Ok(document()));
}

#[tokio::test]
async fn anything_but_200_is_a_missing_document() {
    for status in ["404 Not Found", "302 Found", "503 Busy"] {
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        let fault = fetch_from(answer.into_bytes()).await.0.unwrap_err();
        assert!(matches!(&fault, DocumentFault::Missing(_)), "{fault}");
        assert!(fault.to_string().contains(&status[..3]), "{fault}");
    }
}

#[tokio::test]
async fn an_answer_that_never_ends_is_not_read_to_its_end() {
    let answer = [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b' '; 1_000_000]].concat();
    let fault = fetch_from(answer).await.0.unwrap_err();
    assert!(matches!(&fault, DocumentFault::Invalid(_)), "{fault}");
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_not_waited_for() {
    let hung = TcpListener::bind(V6).await.unwrap();
    let url = format!("http://{}/", hung.local_addr().unwrap());
    let fault = soon("the end of patience", fetch(&url)).await.unwrap_err();
    assert!(matches!(&fault, DocumentFault::Missing(_)), "{fault}");
    assert!(fault.to_string().contains("did not answer"), "{fault}");
}

#[tokio::test]
async fn a_url_that_cannot_be_fetched_is_told_so() {
    for url in ["https://127.0.0.1/", "ftp://127.0.0.1/", "health", "http://[::1"] {
        let fault = soon("the fault", fetch(url)).await.unwrap_err();
        assert!(matches!(&fault, DocumentFault::Missing(_)), "{fault}");
        assert!(fault.to_string().contains(url), "{fault}");
    }
}
