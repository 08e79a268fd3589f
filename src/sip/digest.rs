//! Digest headers, as far as passing them through needs: they are read, nothing is computed
//! (RFC 3261 §22, RFC 7616, RFC 8760).

use crate::sip::scan;

/// One Digest challenge; values without quotes, escapes as written.
#[derive(Clone, Copy, Debug)]
pub struct Challenge<'m> {
    /// The realm.
    pub realm: &'m [u8],
    /// The nonce.
    pub nonce: &'m [u8],
    /// The opaque value, which the answer returns as it is.
    pub opaque: Option<&'m [u8]>,
    /// The algorithm as written; None means MD5.
    pub algorithm: Option<&'m [u8]>,
    /// The qop options as written, a comma-separated list.
    pub qop: Option<&'m [u8]>,
    /// Whether only the nonce was too old, so that the same password may be tried again.
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

impl<'m> Challenge<'m> {
    /// Reads a WWW-Authenticate or Proxy-Authenticate value; None if it is of another scheme than
    /// Digest, or lacks realm or nonce.
    pub fn parse(value: &'m [u8]) -> Option<Self> {
        let params = Fields::of_digest(value)?;
        Some(Self {
            realm: params.get("realm")?,
            nonce: params.get("nonce")?,
            opaque: params.get("opaque"),
            algorithm: params.get("algorithm"),
            qop: params.get("qop"),
            stale: params.get("stale").is_some_and(|stale| stale.eq_ignore_ascii_case(b"true")),
        })
    }
}

impl<'m> Credentials<'m> {
    /// Reads an Authorization or Proxy-Authorization value; None if it is of another scheme than
    /// Digest, or lacks user name, realm, nonce or uri.
    pub fn parse(value: &'m [u8]) -> Option<Self> {
        let params = Fields::of_digest(value)?;
        Some(Self {
            username: params.get("username")?,
            realm: params.get("realm")?,
            nonce: params.get("nonce")?,
            uri: params.get("uri")?,
        })
    }
}

/// A challenge as one that renews the nonce: the same password may be tried again. All else stays
/// as written; what is no Digest challenge stays as it is.
pub fn as_stale(challenge: &[u8]) -> Vec<u8> {
    let Some(Fields(mut rest)) = Fields::of_digest(challenge) else { return challenge.to_vec() };
    let mut renewed = b"Digest stale=TRUE".to_vec();
    while !rest.is_empty() {
        let end = scan::find_outside_quotes(rest, b',');
        let field = scan::trim(scan::head(rest, end));
        rest = scan::tail(rest, end + 1);
        let name = scan::split_once(field, b'=').map_or(field, |(name, _)| scan::trim(name));
        if !field.is_empty() && !name.eq_ignore_ascii_case(b"stale") {
            renewed.extend_from_slice(b", ");
            renewed.extend_from_slice(field);
        }
    }
    renewed
}

/// `name=value` fields between commas.
struct Fields<'m>(&'m [u8]);

impl<'m> Fields<'m> {
    fn of_digest(value: &'m [u8]) -> Option<Self> {
        let value = scan::trim(value);
        let scheme_len = value.iter().take_while(|byte| !scan::is_white(**byte)).count();
        let is_digest = scan::head(value, scheme_len).eq_ignore_ascii_case(b"Digest");
        is_digest.then(|| Self(scan::tail(value, scheme_len)))
    }

    /// The first field of that name, in any case.
    fn get(&self, name: &str) -> Option<&'m [u8]> {
        let mut rest = self.0;
        while !rest.is_empty() {
            let end = scan::find_outside_quotes(rest, b',');
            let field = scan::head(rest, end);
            rest = scan::tail(rest, end + 1);
            let Some((written, value)) = scan::split_once(field, b'=') else { continue };
            if scan::trim(written).eq_ignore_ascii_case(name.as_bytes()) {
                return unquoted(scan::trim(value));
            }
        }
        None
    }
}

fn unquoted(value: &[u8]) -> Option<&[u8]> {
    match value {
        [b'"', inner @ .., b'"'] => Some(inner),
        [b'"', ..] => None,
        plain => Some(plain),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read_with_commas_in_its_quotes() {
        let challenge = Challenge::parse(
            br#"Digest realm="a, \"b\", nonce=c", nonce="84a4cc", opaque="", qop="auth,auth-int", algorithm=SHA-256, stale=FALSE"#,
        )
        .unwrap();
        assert_eq!(challenge.realm, br#"a, \"b\", nonce=c"#);
        assert_eq!(challenge.nonce, b"84a4cc");
        assert_eq!(challenge.opaque, Some(&b""[..]));
        assert_eq!(challenge.qop, Some(&b"auth,auth-int"[..]));
        assert_eq!(challenge.algorithm, Some(&b"SHA-256"[..]));
        assert!(!challenge.stale);
    }

    #[test]
    fn scheme_and_names_are_known_in_any_case_and_over_folding() {
        let challenge =
            Challenge::parse(b"DIGEST\r\n NONCE = \"n\" ,\r\n\tRealm=\"r\",STALE=True").unwrap();
        assert_eq!((challenge.realm, challenge.nonce), (&b"r"[..], &b"n"[..]));
        assert!(challenge.stale);
    }

    #[test]
    fn a_challenge_made_stale_differs_in_nothing_else() {
        let renewed =
            as_stale(br#"Digest realm="a, stale=no", STALE = false,nonce="n" , qop="auth,x""#);
        assert_eq!(renewed, br#"Digest stale=TRUE, realm="a, stale=no", nonce="n", qop="auth,x""#);
        assert!(Challenge::parse(&renewed).unwrap().stale);
        assert_eq!(as_stale(b"Basic realm=\"r\""), b"Basic realm=\"r\"");
    }

    #[test]
    fn credentials_are_read() {
        let credentials = Credentials::parse(
            br#"Digest username="bob",realm="r",nonce="n",uri="sip:a,b@c;x=1",response="00",cnonce="x",nc=00000001,qop=auth"#,
        )
        .unwrap();
        assert_eq!((credentials.username, credentials.realm), (&b"bob"[..], &b"r"[..]));
        assert_eq!((credentials.nonce, credentials.uri), (&b"n"[..], &b"sip:a,b@c;x=1"[..]));
    }

    #[test]
    fn other_schemes_and_incomplete_fields_are_none() {
        assert!(Challenge::parse(b"Bearer realm=\"r\", nonce=\"n\"").is_none());
        assert!(Challenge::parse(b"Digest realm=\"r\"").is_none());
        assert!(Challenge::parse(b"Digest realm=\"r\", nonce=\"open").is_none());
        assert!(Challenge::parse(b"").is_none());
        assert!(Credentials::parse(b"Digest username=\"u\", realm=\"r\", nonce=\"n\"").is_none());
        assert!(Credentials::parse(b"Digestive username=u, realm=r, nonce=n, uri=u").is_none());
    }
}
