//! [`Refused`]: why an invoke is not carried out, and what it is answered.

use crate::ucsap::login::detail;
use crate::ucsap::{Malformed, Operation, Piece, Problem, login, negotiate};

/// What went wrong, in general.
pub(in crate::ucserver) const GENERAL: i64 = 1;
/// `accessdenied`.
pub(in crate::ucserver) const ACCESS_DENIED: i64 = 2;
/// `invalidline`.
pub(in crate::ucserver) const INVALID_LINE: i64 = 3;

/// An answer that is no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ucserver) enum Refused {
    /// `AsnRequestError`.
    Error(i64, &'static str),
    /// A reject.
    Reject(Problem, &'static str),
}

impl Refused {
    pub(in crate::ucserver) const NOT_LOGGED_IN: Self =
        Self::Error(ACCESS_DENIED, "log in before you ask for this");
    pub(in crate::ucserver) const NEGOTIATE_FIRST: Self =
        Self::Error(detail::NEGOTIATION_REQUIRED, "negotiate before you log in");
    pub(in crate::ucserver) const LOGGED_IN_ALREADY: Self =
        Self::Error(detail::ALREADY_AUTHENTICATED, "somebody is logged in already");
    pub(in crate::ucserver) const WHO: Self =
        Self::Error(detail::INVALID_USER, "user unknown or password wrong");
    pub(in crate::ucserver) const TOO_LATE: Self =
        Self::Error(detail::TOKEN_EXPIRED, "the token has expired");
    pub(in crate::ucserver) const ELSEWHERE: Self =
        Self::Error(detail::USER_NOT_ENABLED, "the user belongs to another server");
    pub(in crate::ucserver) const NO_METHOD: Self =
        Self::Error(detail::INVALID_METHOD, "no such method of authentication");
    pub(in crate::ucserver) const NO_LINE: Self =
        Self::Error(INVALID_LINE, "no such line, or not one of yours");
    pub(in crate::ucserver) const NO_CALL: Self = Self::Error(GENERAL, "there is no such call");
    pub(in crate::ucserver) const WRONG_STATE: Self =
        Self::Error(GENERAL, "the call is in another state");
    pub(in crate::ucserver) const NOT_YOURS: Self =
        Self::Error(ACCESS_DENIED, "the call is on a line that is not yours");
    pub(in crate::ucserver) const FULL: Self =
        Self::Reject(Problem::ResourceLimitation, "there is no room for more");
    pub(in crate::ucserver) const MISTYPED: Self =
        Self::Reject(Problem::MistypedArgument, "the argument cannot be read");
    pub(in crate::ucserver) const UNKNOWN: Self =
        Self::Reject(Problem::UnrecognisedOperation, "no such operation here");
    pub(in crate::ucserver) const TWICE: Self =
        Self::Reject(Problem::DuplicateInvocation, "an invoke of this id is not answered yet");

    /// What a server in a bad mood answers instead of a result.
    pub(in crate::ucserver) fn by_mood(
        status: u16,
        retry_secs: u32,
        operation: Operation,
    ) -> Result<Piece, Self> {
        let seconds = i64::from(retry_secs);
        match (status, operation) {
            (503, Operation::NEGOTIATE) => Ok(negotiate::busy(seconds)),
            (503, Operation::LOGIN) => Ok(login::busy(seconds)),
            (_, Operation(1200..=1299)) => Err(Self::Error(GENERAL, "the server's mood")),
            _ => Err(Self::Error(detail::INTERNAL, "the server's mood")),
        }
    }
}

impl From<Malformed> for Refused {
    fn from(_: Malformed) -> Self {
        Self::MISTYPED
    }
}
