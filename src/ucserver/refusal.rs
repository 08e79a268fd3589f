//! [`Refusal`]: why a request is not carried out, and what it is answered.

use crate::sip::{HeaderName, ParseError};
use crate::ucserver::digest::Challenge;
use crate::ucserver::settings::{PathUnannounced, Settings};

/// The one option tag a request may require here (RFC 3327 §5.1).
pub(in crate::ucserver) const PATH: &str = "path";

/// The methods served here.
pub(in crate::ucserver) const ALLOW: &str = "REGISTER, OPTIONS";

/// Why a request was not carried out. The text goes into the journal and a `Warning`.
#[derive(Debug, thiserror::Error)]
pub(in crate::ucserver) enum Refusal {
    #[error("{0}")]
    Malformed(#[from] ParseError),
    #[error("a Contact is neither a readable address nor the only '*' with Expires 0")]
    Star,
    #[error("the request is for a domain this server is not responsible for")]
    Domain,
    #[error("this server does not know the user in To")]
    User,
    #[error("the credentials are another user's")]
    NotYours,
    #[error("credentials are missing or wrong")]
    Challenged(Challenge),
    #[error("the credentials are for another Request-URI")]
    DigestUri,
    #[error("an extension in Require is not supported here")]
    Required(Vec<u8>),
    #[error("there is a Path, but path is not in Supported")]
    PathUnannounced(PathUnannounced),
    #[error("the lifetime is too brief")]
    TooBrief { min_expires_secs: u32 },
    #[error("this Call-ID was already used with this CSeq or a higher one")]
    OutOfOrder,
    #[error("this address has as many contacts as it may have")]
    TooManyContacts,
    #[error("this server is full and takes no strangers")]
    Full,
    #[error("the method exists, but is not served here")]
    NotAllowed,
    #[error("the method is not known here")]
    NotImplemented,
    #[error("the user belongs to another server")]
    Elsewhere(String),
    #[error("the server's mood")]
    Status(u16),
}

impl Refusal {
    /// The answer it gets.
    pub(in crate::ucserver) const fn status(&self) -> u16 {
        match self {
            Self::Malformed(ParseError::Version) => 505,
            Self::Malformed(ParseError::TooLarge) => 513,
            Self::Malformed(_) | Self::Star | Self::DigestUri => 400,
            Self::Challenged(_) => 401,
            Self::NotYours | Self::TooManyContacts => 403,
            Self::Domain | Self::User => 404,
            Self::Required(_) | Self::PathUnannounced(PathUnannounced::BadExtension) => 420,
            Self::PathUnannounced(_) => 421,
            Self::NotAllowed => 405,
            Self::TooBrief { .. } => 423,
            Self::OutOfOrder => 500,
            Self::NotImplemented => 501,
            Self::Full => 503,
            Self::Elsewhere(_) => 302,
            Self::Status(status) => *status,
        }
    }

    /// The headers that go with it.
    pub(in crate::ucserver) fn headers(&self, settings: &Settings) -> Vec<(HeaderName, Vec<u8>)> {
        match self {
            Self::Challenged(challenge) => challenge
                .values()
                .into_iter()
                .map(|value| (HeaderName::WwwAuthenticate, value.into_bytes()))
                .collect(),
            Self::Required(tags) => vec![(HeaderName::Unsupported, tags.clone())],
            Self::PathUnannounced(PathUnannounced::BadExtension) => {
                vec![(HeaderName::Unsupported, PATH.into())]
            }
            Self::PathUnannounced(_) => vec![(HeaderName::Require, PATH.into())],
            Self::TooBrief { min_expires_secs } => {
                vec![(HeaderName::MinExpires, min_expires_secs.to_string().into_bytes())]
            }
            Self::Elsewhere(home) => {
                vec![(HeaderName::Contact, format!("<sip:{home}>").into_bytes())]
            }
            Self::NotAllowed => vec![(HeaderName::Allow, ALLOW.into())],
            Self::Full | Self::Status(503) => {
                vec![(HeaderName::RetryAfter, settings.retry_after_secs.to_string().into_bytes())]
            }
            Self::Malformed(_)
            | Self::Star
            | Self::Domain
            | Self::User
            | Self::NotYours
            | Self::DigestUri
            | Self::OutOfOrder
            | Self::TooManyContacts
            | Self::NotImplemented
            | Self::Status(_) => Vec::new(),
        }
    }
}
