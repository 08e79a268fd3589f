//! [`Carrier`]: how octets travel on a connection, in the clear or by TLS.

use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;

use rustls::{ServerConfig, ServerConnection};

/// Octets that are encrypted at once: one record. They wait encrypted only until the kernel has
/// them, so that what is queued for a peer is bounded where everything else is.
const RECORD: usize = 16 * 1024;

/// Octets of what TLS has to say for itself, at most.
const TLS_QUEUE: usize = 64 * 1024;

/// Octets that are decrypted at once.
const DECRYPTED: usize = 4 * 1024;

/// What came by TLS.
pub(super) enum Received<'o> {
    /// The handshake is complete: everything from here on is secret.
    Secured { name: Option<&'o str> },
    /// Octets that the peer has encrypted.
    Octets(&'o [u8]),
}

/// What came was no TLS, or not what was agreed on.
pub(super) struct Insecure;

/// A socket, and what is done to the octets on their way.
pub(super) struct Carrier {
    stream: TcpStream,
    tls: Option<Tls>,
}

struct Tls {
    connection: Box<ServerConnection>,
    /// Octets that leave in the clear before anything else does.
    clear: usize,
    /// Octets of what is to leave next that are encrypted, and part of which waits.
    under_way: usize,
    is_told: bool,
    has_said_goodbye: bool,
}

impl Carrier {
    pub(super) const fn new(stream: TcpStream) -> Self {
        Self { stream, tls: None }
    }

    pub(super) const fn stream(&self) -> &TcpStream {
        &self.stream
    }

    /// Becomes the server's side of TLS, once so many octets of what waits have left in the clear.
    pub(super) fn secure(
        &mut self,
        config: &Arc<ServerConfig>,
        clear: usize,
    ) -> Result<(), Insecure> {
        let connection = ServerConnection::new(Arc::clone(config)).map_err(|_| Insecure)?;
        let mut connection = Box::new(connection);
        connection.set_buffer_limit(Some(TLS_QUEUE));
        let tls = Tls { connection, clear, under_way: 0, is_told: false, has_said_goodbye: false };
        self.tls = Some(tls);
        Ok(())
    }

    /// Whether octets travel by TLS, or are about to.
    pub(super) const fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether TLS is wanted, and not there yet.
    pub(super) fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_some_and(|tls| tls.connection.is_handshaking())
    }

    /// What the socket holds, as it came.
    pub(super) fn read(&mut self, landing: &mut [u8]) -> io::Result<usize> {
        self.stream.read(landing)
    }

    /// Decrypts what was read. `false` once the peer has said goodbye: nothing comes after that.
    pub(super) fn decrypt<E: From<Insecure>>(
        &mut self,
        mut read: &[u8],
        mut take: impl FnMut(Received<'_>) -> Result<(), E>,
    ) -> Result<bool, E> {
        let Some(tls) = &mut self.tls else { return Err(Insecure.into()) };
        while !read.is_empty() {
            match tls.connection.read_tls(&mut read) {
                Ok(1..) => {}
                Ok(0) | Err(_) => return Err(Insecure.into()),
            }
            if tls.connection.process_new_packets().is_err() {
                // Whoever can hear why should.
                let _ = tls.drain(&mut self.stream);
                return Err(Insecure.into());
            }
            if !tls.is_told && !tls.connection.is_handshaking() {
                tls.is_told = true;
                take(Received::Secured { name: tls.connection.server_name() })?;
            }
            let mut decrypted = [0; DECRYPTED];
            loop {
                match tls.connection.reader().read(&mut decrypted) {
                    Ok(0) => return Ok(false),
                    Ok(octets) => {
                        let octets = decrypted.get(..octets).unwrap_or_default();
                        take(Received::Octets(octets))?;
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                    Err(_) => return Err(Insecure.into()),
                }
            }
        }
        Ok(true)
    }

    /// Hands octets to the kernel: how many it has taken. After it took none, these same octets
    /// must come first again.
    pub(super) fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        match &mut self.tls {
            None => self.stream.write(octets),
            Some(tls) if tls.clear > 0 => {
                let written = self.stream.write(octets.get(..tls.clear).unwrap_or(octets))?;
                tls.clear -= written;
                Ok(written)
            }
            Some(tls) => tls.write(octets, &mut self.stream),
        }
    }

    /// Lets TLS say for itself what it has to, as far as the kernel takes it.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match &mut self.tls {
            Some(tls) if tls.clear == 0 => tls.drain(&mut self.stream),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether it is worth knowing that the socket has room. Nothing leaves in a handshake but
    /// what TLS says.
    pub(super) fn wants_room(&self, is_waiting: bool) -> bool {
        match &self.tls {
            None => is_waiting,
            Some(tls) if tls.clear > 0 => true,
            Some(tls) => {
                tls.connection.wants_write() || (is_waiting && !tls.connection.is_handshaking())
            }
        }
    }

    /// Whether TLS has something left to say.
    pub(super) fn is_flushed(&self) -> bool {
        self.tls.as_ref().is_none_or(|tls| !tls.connection.wants_write())
    }

    /// Says goodbye, as far as that goes without waiting.
    pub(super) fn say_goodbye(&mut self) {
        if let Some(tls) = &mut self.tls {
            if !tls.has_said_goodbye {
                tls.has_said_goodbye = true;
                tls.connection.send_close_notify();
            }
            if tls.drain(&mut self.stream).is_err() && tls.connection.wants_write() {
                return;
            }
        }
        // Whoever cannot be told has gone.
        let _ = self.stream.shutdown(Shutdown::Write);
    }
}

impl Tls {
    fn write(&mut self, octets: &[u8], stream: &mut TcpStream) -> io::Result<usize> {
        if self.connection.is_handshaking() {
            self.drain(stream)?;
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if self.under_way == 0 && !octets.is_empty() {
            let record = octets.get(..RECORD).unwrap_or(octets);
            self.drain(stream)?;
            self.under_way = self.connection.writer().write(record)?;
            if self.under_way == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        self.drain(stream)?;
        Ok(std::mem::take(&mut self.under_way))
    }

    /// # Errors
    /// Not all of it has left.
    fn drain(&mut self, stream: &mut TcpStream) -> io::Result<()> {
        while self.connection.wants_write() {
            if self.connection.write_tls(stream)? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }
}

impl AsFd for Carrier {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
