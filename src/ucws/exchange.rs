//! [`Request`] and [`Answer`]: one exchange by HTTP, whole.

use std::fmt;

use bytes::Bytes;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// A request with its body. It may show a password or a token: it is not printed, and its memory is
/// overwritten when it goes.
#[derive(Clone, Default, Zeroize, ZeroizeOnDrop)]
pub struct Request {
    /// As it was written.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// Names in lower case, and values, in their order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// All of it.
    pub body: Vec<u8>,
}

impl Request {
    /// The text of a header that is there once.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(other, _)| other == name);
        let (_, value) = found.next().filter(|_| found.next().is_none())?;
        std::str::from_utf8(value).ok().map(str::trim)
    }

    /// The path.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(&*self.target, |(path, _)| path)
    }

    /// The query, as it was written.
    pub fn query(&self) -> &str {
        self.target.split_once('?').map_or("", |(_, query)| query)
    }

    /// The first value of a parameter of the query.
    pub fn parameter(&self, name: &str) -> Option<String> {
        let mut pairs = form_urlencoded::parse(self.query().as_bytes());
        pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
    }

    /// Whether the client wants no 401, which a browser would answer by asking its user.
    pub fn wants_no_401(&self) -> bool {
        self.header("x-no401").is_some() || self.parameter("no401").is_some()
    }

    /// The function that the answer is to be handed to (JSONP).
    pub fn callback(&self) -> Option<String> {
        let named = self.parameter("callback").or_else(|| self.parameter("jsonp"))?;
        let fits = |octet: u8| octet.is_ascii_alphanumeric() || b"_$.".contains(&octet);
        let is_name = (1..=128).contains(&named.len()) && named.bytes().all(fits);
        is_name.then_some(named)
    }
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Request(…)")
    }
}

/// An answer with its body. It may hold the name of a session, which is all that proves whose it is: it
/// is not printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// Names in lower case, and values, in their order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// All of it.
    pub body: Bytes,
    /// The door has written it, and no server.
    pub is_ours: bool,
}

impl Answer {
    /// One whose body is JSON.
    pub fn json(status: u16, body: impl Into<Bytes>) -> Self {
        let kind = b"application/json;charset=utf-8".to_vec();
        let headers = vec![("content-type".to_owned(), kind)];
        Self { status, headers, body: body.into(), is_ours: true }
    }

    /// The same, handed to a function (JSONP): a page takes it for a script, which has to succeed.
    #[must_use]
    pub fn handed_to(self, function: &str) -> Self {
        let body = [function.as_bytes(), b"(", &self.body, b");"].concat();
        let kind = b"application/javascript;charset=utf-8".to_vec();
        let headers = vec![("content-type".to_owned(), kind)];
        Self { status: 200, headers, body: body.into(), is_ours: self.is_ours }
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Vec<u8>>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The texts of a header.
    pub fn header<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.headers.iter().filter(move |(other, _)| other == name);
        named.filter_map(|(_, value)| std::str::from_utf8(value).ok())
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answer")
            .field("status", &self.status)
            .field("octets", &self.body.len())
            .finish_non_exhaustive()
    }
}
