//! Sends the health document to a door, as a server does that is not asked for it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::time::timeout;

/// Between two documents.
pub(super) const EVERY: Duration = Duration::from_secs(2);

/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sends one, from the server's own address. What does not arrive is followed by the next.
pub(super) async fn send(door: SocketAddr, from: IpAddr, name: Arc<str>, document: String) {
    let _lost = timeout(PATIENCE, exchange(door, from, &name, &document)).await;
}

async fn exchange(door: SocketAddr, from: IpAddr, name: &str, document: &str) -> io::Result<()> {
    let socket = if door.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    if from.is_ipv4() == door.is_ipv4() && !from.is_unspecified() {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    let mut stream = socket.connect(door).await?;
    let length = document.len();
    let request = format!(
        "POST /v1/health/{name} HTTP/1.1\r\nHost: {door}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\nConnection: close\r\n\r\n{document}"
    );
    stream.write_all(request.as_bytes()).await?;
    // The answer must be taken in, or the door may not have read everything.
    let mut answer = [0; 256];
    while stream.read(&mut answer).await? > 0 {}
    Ok(())
}
