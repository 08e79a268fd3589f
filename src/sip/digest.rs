//! Digest headers, as far as passing them through needs (RFC 3261 §22, RFC 7616).

/// One Digest challenge; values without quotes, escapes as written.
#[derive(Clone, Copy, Debug)]
pub struct Challenge<'m> {
    /// The realm.
    pub realm: &'m [u8],
    /// The nonce.
    pub nonce: &'m [u8],
    /// The opaque value, returned as it is.
    pub opaque: Option<&'m [u8]>,
    /// The algorithm as written; None means MD5.
    pub algorithm: Option<&'m [u8]>,
    /// The qop options as written.
    pub qop: Option<&'m [u8]>,
    /// Whether only the nonce was too old.
    pub stale: bool,
}

/// One Digest answer; values without quotes, escapes as written.
#[derive(Clone, Copy, Debug)]
pub struct Credentials<'m> {
    /// The user name.
    pub username: &'m [u8],
    /// The realm.
    pub realm: &'m [u8],
    /// The nonce that is answered.
    pub nonce: &'m [u8],
    /// The digest URI.
    pub uri: &'m [u8],
}

#[expect(unused_variables, clippy::todo, reason = "signatures first")]
impl<'m> Challenge<'m> {
    /// Reads a WWW-Authenticate or Proxy-Authenticate value.
    pub fn parse(value: &'m [u8]) -> Option<Self> {
        todo!()
    }
}

#[expect(unused_variables, clippy::todo, reason = "signatures first")]
impl<'m> Credentials<'m> {
    /// Reads an Authorization or Proxy-Authorization value.
    pub fn parse(value: &'m [u8]) -> Option<Self> {
        todo!()
    }
}
