//! `asnLoginV2`: who the user is, and what a server makes of it.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use zeroize::Zeroizing;

use crate::private::Private;
use crate::ucsap::{Malformed, Member, Piece, Value, json};

const AUTH: Member = Member::around("auth", 0);
const METHODS: [Member; 5] = [
    Member::tagged("authBasic", 0),
    Member::tagged("authNTLM", 2),
    Member::tagged("authKerberos", 3),
    Member::tagged("authBearer", 4),
    Member::tagged("authOpenIDC", 5),
];
const CREDENTIAL: Member = Member::nth("credential", 0);
const AUTHDATA: Member = Member::nth("authdata", 0);
const ID_TOKEN: Member = Member::tagged("u8sIDToken", 1);
const JWT: Member = Member::nth("u8sJWT", 0);

const OUTCOMES: [Member; 5] = [
    Member::tagged("supportedAuthMethods", 0),
    Member::tagged("succceeded", 1),
    Member::tagged("serverRedirect", 2),
    Member::tagged("serverBusy", 3),
    Member::tagged("ntlmRenegotiate", 4),
];
const LOGGED_IN_USER: Member = Member::tagged("u8sLoggedInUser", 0);
const TOKEN: Member = Member::around("token", 1);
const TOKENS: [Member; 2] = [Member::tagged("u8sJwt", 0), Member::tagged("u8sToken", 1)];
const REDIRECT_TO: Member = Member::nth("u8sRedirectTo", 0);
const RETRY_SECONDS: Member = Member::nth("iRetryInSeconds", 0);
const ORDERED_METHODS: Member = Member::nth("authMethodsOrdered", 0);

/// `AsnLogonErrorEnum`, as far as it is used here.
pub mod detail {
    /// Something went wrong inside.
    pub const INTERNAL: i64 = 100;
    /// Unknown user or password.
    pub const INVALID_USER: i64 = 101;
    /// No licence, or no room.
    pub const NO_LICENCE: i64 = 103;
    /// The client's version does not fit.
    pub const INVALID_VERSION: i64 = 104;
    /// Negotiate first.
    pub const NEGOTIATION_REQUIRED: i64 = 105;
    /// No such method.
    pub const INVALID_METHOD: i64 = 106;
    /// The user may not log in (here).
    pub const USER_NOT_ENABLED: i64 = 107;
    /// Somebody is logged in already.
    pub const ALREADY_AUTHENTICATED: i64 = 113;
    /// Not without TLS.
    pub const TLS_REQUIRED: i64 = 114;
    /// The token's time is over.
    pub const TOKEN_EXPIRED: i64 = 130;
}

/// How somebody shows who they are.
#[derive(Clone, Debug)]
pub enum Credentials {
    /// They ask first how they may.
    None,
    /// User and password.
    Basic(Private<String>),
    /// One step of NTLM; bound to its connection.
    Ntlm(Private<Vec<u8>>),
    /// Kerberos; bound to its server.
    Kerberos(Private<Vec<u8>>),
    /// A token.
    Bearer(Private<String>),
    /// OpenID Connect; good for once.
    OpenId,
    /// Something else.
    Other,
}

impl Credentials {
    /// Reads the argument.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn read(argument: &Value<'_>) -> Result<Self, Malformed> {
        let Some(auth) = argument.member(&AUTH)? else { return Ok(Self::None) };
        Ok(match auth.alternative(&METHODS)? {
            Some((0, basic)) => {
                let credential = Zeroizing::new(basic.required(&CREDENTIAL)?.text()?.into_owned());
                const NO_BASE64: Malformed = Malformed("credentials that are not in base64");
                let decoded = STANDARD.decode(credential.as_bytes()).map_err(|_| NO_BASE64)?;
                Self::Basic(Private::new(String::from_utf8(decoded).map_err(|_| NO_BASE64)?))
            }
            Some((1, ntlm)) => {
                Self::Ntlm(Private::new(ntlm.required(&AUTHDATA)?.octets()?.into_owned()))
            }
            Some((2, kerberos)) => {
                Self::Kerberos(Private::new(kerberos.required(&AUTHDATA)?.octets()?.into_owned()))
            }
            Some((3, bearer)) => {
                Self::Bearer(Private::new(bearer.required(&JWT)?.text()?.into_owned()))
            }
            Some((4, _)) => Self::OpenId,
            _ => Self::Other,
        })
    }

    /// The argument of a login with user and password.
    pub fn basic(user: &str, password: &str) -> Piece {
        let credential = STANDARD.encode(format!("{user}:{password}"));
        Self::argument(0, vec![(CREDENTIAL, Piece::Text(credential))])
    }

    /// The argument of a login with a token.
    pub fn bearer(token: &str) -> Piece {
        Self::argument(3, vec![(JWT, Piece::text(token))])
    }

    /// The argument of one step of NTLM.
    pub fn ntlm(step: &[u8]) -> Piece {
        Self::argument(1, vec![(AUTHDATA, Piece::Octets(step.to_vec()))])
    }

    /// The argument of a login with Kerberos.
    pub fn kerberos(blob: &[u8]) -> Piece {
        Self::argument(2, vec![(AUTHDATA, Piece::Octets(blob.to_vec()))])
    }

    /// The argument of a login with OpenID Connect.
    pub fn open_id(token: &str) -> Piece {
        Self::argument(4, vec![(ID_TOKEN, Piece::text(token))])
    }

    fn argument(method: usize, members: Vec<(Member, Piece)>) -> Piece {
        let choice = Piece::choice(METHODS[method], Piece::Sequence(members));
        Piece::Sequence(vec![(AUTH, choice)])
    }

    /// Whether another server takes the same again.
    pub const fn can_be_replayed(&self) -> bool {
        match self {
            Self::Basic(_) | Self::Bearer(_) => true,
            Self::None | Self::Ntlm(_) | Self::Kerberos(_) | Self::OpenId | Self::Other => false,
        }
    }

    /// Who it says they are; nothing has checked it. None where only the server's answer tells.
    pub fn claimed_user(&self) -> Option<String> {
        match self {
            Self::Basic(pair) => {
                let (user, _) = pair.reveal().split_once(':')?;
                Some(user.to_owned())
            }
            Self::Bearer(token) => claim_of(token.reveal()),
            Self::Ntlm(step) => user_of_ntlm(step.reveal()),
            Self::None | Self::Kerberos(_) | Self::OpenId | Self::Other => None,
        }
    }
}

/// The token in the result of `asnGetUserTokenV2`.
///
/// # Errors
/// It is not there.
pub fn token_handed_out(result: &Value<'_>) -> Result<Private<String>, Malformed> {
    Ok(Private::new(result.required(&Member::nth("sToken", 0))?.text()?.into_owned()))
}

/// The user a JWT names (RFC 7519 §3, §4.1.2). Its signature is the server's to check.
fn claim_of(token: &str) -> Option<String> {
    let payload = token.split('.').nth(1)?;
    let claims = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?);
    if serde_json::from_slice::<serde::de::IgnoredAny>(&claims).is_err() {
        return None;
    }
    let named = |name: &str| {
        let value = json::member(&claims, 0..claims.len(), name)?;
        json::text(&claims, value).map(Into::into)
    };
    ["preferred_username", "upn", "sub"].into_iter().find_map(named)
}

/// The user that the third message of NTLM names ([MS-NLMP] §2.2.1.3), with the domain as
/// `DOMAIN\user` where one is named.
fn user_of_ntlm(message: &[u8]) -> Option<String> {
    const AUTHENTICATE: [u8; 4] = [3, 0, 0, 0];
    const DOMAIN_FIELDS: usize = 28;
    const USER_FIELDS: usize = 36;
    const FLAGS: usize = 60;
    const UNICODE: u32 = 1;
    if !message.starts_with(b"NTLMSSP\0") || message.get(8..12)? != AUTHENTICATE {
        return None;
    }
    let number = |at: usize| {
        let octets = message.get(at..at + 4)?;
        Some(u32::from_le_bytes(octets.try_into().ok()?))
    };
    let is_unicode = number(FLAGS)? & UNICODE != 0;
    let field = |at: usize| {
        let length = usize::from(u16::from_le_bytes(message.get(at..at + 2)?.try_into().ok()?));
        let offset = usize::try_from(number(at + 4)?).ok()?;
        let octets = message.get(offset..offset.checked_add(length)?)?;
        if !is_unicode {
            return std::str::from_utf8(octets).ok().map(str::to_owned);
        }
        let units = octets.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]]));
        String::from_utf16(&units.collect::<Vec<u16>>()).ok()
    };
    let user = field(USER_FIELDS).filter(|user| !user.is_empty())?;
    let domain = field(DOMAIN_FIELDS).filter(|domain| !domain.is_empty());
    Some(domain.map_or_else(|| user.clone(), |domain| format!("{domain}\\{user}")))
}

/// The first message of NTLM ([MS-NLMP] §2.2.1.1), for which no flag is set.
pub fn ntlm_negotiate() -> Vec<u8> {
    let mut message = b"NTLMSSP\0\x01\0\0\0".to_vec();
    message.resize(32, 0);
    message
}

/// The third message of NTLM ([MS-NLMP] §2.2.1.3) with a user and a domain, and proof of nothing.
pub fn ntlm_authenticate(user: &str, domain: &str) -> Vec<u8> {
    const PAYLOAD: usize = 64;
    let units = |text: &str| text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<u8>>();
    let (user, domain) = (units(user), units(domain));
    let mut message = b"NTLMSSP\0\x03\0\0\0".to_vec();
    message.resize(PAYLOAD, 0);
    let mut at = PAYLOAD;
    for (fields, text) in [(28, &domain), (36, &user)] {
        let length = (text.len() as u16).to_le_bytes();
        message[fields..fields + 2].copy_from_slice(&length);
        message[fields + 2..fields + 4].copy_from_slice(&length);
        message[fields + 4..fields + 8].copy_from_slice(&(at as u32).to_le_bytes());
        at += text.len();
    }
    message[60] = 1;
    message.extend(domain);
    message.extend(user);
    message
}

/// The token of a login with OpenID Connect.
///
/// # Errors
/// The argument cannot be read.
pub fn id_token(argument: &Value<'_>) -> Result<Option<Private<String>>, Malformed> {
    let Some(auth) = argument.member(&AUTH)? else { return Ok(None) };
    let Some((4, open_id)) = auth.alternative(&METHODS)? else { return Ok(None) };
    let token = open_id.member(&ID_TOKEN)?.map(|token| token.text()).transpose()?;
    Ok(token.map(|token| Private::new(token.into_owned())))
}

/// What a server makes of a login.
#[derive(Clone, Debug)]
pub enum LoginOutcome {
    /// It says how one may show who one is.
    Methods,
    /// Somebody is logged in.
    Succeeded {
        /// Who, if it says so.
        user: Option<String>,
        /// A token for the next login.
        token: Option<Private<String>>,
    },
    /// Another server is responsible.
    Redirect(String),
    /// Later.
    Busy {
        /// In so many seconds.
        seconds: i64,
    },
    /// One more step of NTLM.
    NextStep,
}

impl LoginOutcome {
    /// Reads the result.
    ///
    /// # Errors
    /// It is none of those.
    pub fn read(result: &Value<'_>) -> Result<Self, Malformed> {
        Ok(match result.alternative(&OUTCOMES)? {
            Some((0, _)) => Self::Methods,
            Some((1, succeeded)) => {
                let user = succeeded.member(&LOGGED_IN_USER)?;
                let token = succeeded.member(&TOKEN)?;
                let token = token.map(|token| token.alternative(&TOKENS)).transpose()?.flatten();
                let token = token.map(|(_, token)| token.text()).transpose()?;
                Self::Succeeded {
                    user: user.map(|user| user.text().map(Into::into)).transpose()?,
                    token: token.map(|token| Private::new(token.into_owned())),
                }
            }
            Some((2, redirect)) => {
                Self::Redirect(redirect.required(&REDIRECT_TO)?.text()?.into_owned())
            }
            Some((3, busy)) => Self::Busy { seconds: busy.required(&RETRY_SECONDS)?.integer()? },
            Some((4, _)) => Self::NextStep,
            _ => return Err(Malformed("an answer to a login that is none of the five")),
        })
    }
}

/// `supportedAuthMethods`, in this order.
pub fn methods(ordered: &[i64]) -> Piece {
    let ordered = ordered.iter().map(|method| Piece::Enumerated(*method)).collect();
    outcome(0, vec![(ORDERED_METHODS, Piece::List(ordered))])
}

/// `succceeded`.
pub fn succeeded(user: &str, token: Option<&str>) -> Piece {
    let mut members = vec![(LOGGED_IN_USER, Piece::text(user))];
    members.extend(token.map(|token| (TOKEN, Piece::choice(TOKENS[1], Piece::text(token)))));
    outcome(1, members)
}

/// `serverRedirect`.
pub fn redirect(to: &str) -> Piece {
    outcome(2, vec![(REDIRECT_TO, Piece::text(to))])
}

/// `serverBusy`.
pub fn busy(seconds: i64) -> Piece {
    outcome(3, vec![(RETRY_SECONDS, Piece::Integer(seconds))])
}

/// `ntlmRenegotiate`.
pub fn next_step(step: &[u8]) -> Piece {
    outcome(4, vec![(AUTHDATA, Piece::Octets(step.to_vec()))])
}

fn outcome(which: usize, members: Vec<(Member, Piece)>) -> Piece {
    Piece::choice(OUTCOMES[which], Piece::Sequence(members))
}

#[cfg(test)]
mod tests {
    use super::ntlm_authenticate as ntlm;
    use super::*;

    #[test]
    fn the_last_step_of_ntlm_says_who_it_is() {
        assert_eq!(user_of_ntlm(&ntlm("anna", "ACME")).as_deref(), Some("ACME\\anna"));
        assert_eq!(user_of_ntlm(&ntlm("anna", "")).as_deref(), Some("anna"));
        assert_eq!(user_of_ntlm(&ntlm_negotiate()), None);
        let whole = ntlm("anna", "ACME");
        for cut in 0..whole.len() {
            let _ = user_of_ntlm(&whole[..cut]);
        }
        let mut lies = whole;
        lies[40..44].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(user_of_ntlm(&lies), None);
    }

    #[test]
    fn a_token_says_who_it_is_of() {
        let token = |claims: &str| format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims));
        assert_eq!(claim_of(&token(r#"{"sub":"anna"}"#)).as_deref(), Some("anna"));
        let upn = r#"{"sub":"4711","preferred_username":"anna@example.com"}"#;
        assert_eq!(claim_of(&token(upn)).as_deref(), Some("anna@example.com"));
        for token in ["", "a", "a.b", "a.!.c", &token("[1]"), &token("{")] {
            assert_eq!(claim_of(token), None, "{token}");
        }
    }

    #[test]
    fn credentials_do_not_print() {
        let basic = Credentials::Basic(Private::new("anna:hunter2".into()));
        assert!(!format!("{basic:?}").contains("hunter2"));
    }
}
