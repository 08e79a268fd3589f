//! [`HeaderName`]: the headers this program reads.

/// A header this program reads; every other one is [`HeaderName::Other`] and found by text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
#[expect(missing_docs, reason = "each variant is the header of that name")]
pub enum HeaderName {
    Via,
    From,
    To,
    CallId,
    CSeq,
    Contact,
    Expires,
    MinExpires,
    MaxForwards,
    ContentLength,
    ContentType,
    Path,
    Route,
    RecordRoute,
    ServiceRoute,
    Supported,
    Require,
    ProxyRequire,
    Unsupported,
    Allow,
    Authorization,
    ProxyAuthorization,
    WwwAuthenticate,
    ProxyAuthenticate,
    AuthenticationInfo,
    RetryAfter,
    Server,
    UserAgent,
    Date,
    Warning,
    Event,
    Accept,
    /// A header this program has no name for.
    Other,
}

impl HeaderName {
    /// The canonical spelling; for [`HeaderName::Other`] a word for error messages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Via => "Via",
            Self::From => "From",
            Self::To => "To",
            Self::CallId => "Call-ID",
            Self::CSeq => "CSeq",
            Self::Contact => "Contact",
            Self::Expires => "Expires",
            Self::MinExpires => "Min-Expires",
            Self::MaxForwards => "Max-Forwards",
            Self::ContentLength => "Content-Length",
            Self::ContentType => "Content-Type",
            Self::Path => "Path",
            Self::Route => "Route",
            Self::RecordRoute => "Record-Route",
            Self::ServiceRoute => "Service-Route",
            Self::Supported => "Supported",
            Self::Require => "Require",
            Self::ProxyRequire => "Proxy-Require",
            Self::Unsupported => "Unsupported",
            Self::Allow => "Allow",
            Self::Authorization => "Authorization",
            Self::ProxyAuthorization => "Proxy-Authorization",
            Self::WwwAuthenticate => "WWW-Authenticate",
            Self::ProxyAuthenticate => "Proxy-Authenticate",
            Self::AuthenticationInfo => "Authentication-Info",
            Self::RetryAfter => "Retry-After",
            Self::Server => "Server",
            Self::UserAgent => "User-Agent",
            Self::Date => "Date",
            Self::Warning => "Warning",
            Self::Event => "Event",
            Self::Accept => "Accept",
            Self::Other => "unnamed",
        }
    }

    /// Whether the header's values are a comma-separated list (RFC 3261 §7.3.1).
    pub const fn is_list(self) -> bool {
        matches!(
            self,
            Self::Via
                | Self::Contact
                | Self::Path
                | Self::Route
                | Self::RecordRoute
                | Self::ServiceRoute
                | Self::Supported
                | Self::Require
                | Self::ProxyRequire
                | Self::Unsupported
                | Self::Allow
                | Self::Accept
                | Self::Warning
        )
    }

    /// Recognises a name in any case, the compact forms included (RFC 3261 §7.3.3).
    ///
    /// The length alone leaves few candidates, so that a line costs one or two comparisons.
    pub fn recognise(name: &[u8]) -> Self {
        let candidates: &[Self] = match name.len() {
            1 => return Self::of_compact_form(name),
            2 => &[Self::To],
            3 => &[Self::Via],
            4 => &[Self::From, Self::CSeq, Self::Path, Self::Date],
            5 => &[Self::Route, Self::Allow, Self::Event],
            6 => &[Self::Accept, Self::Server],
            7 => &[Self::CallId, Self::Contact, Self::Expires, Self::Require, Self::Warning],
            9 => &[Self::Supported],
            10 => &[Self::UserAgent],
            11 => &[Self::MinExpires, Self::Unsupported, Self::RetryAfter],
            12 => &[Self::MaxForwards, Self::ContentType, Self::RecordRoute],
            13 => &[Self::Authorization, Self::ServiceRoute, Self::ProxyRequire],
            14 => &[Self::ContentLength],
            16 => &[Self::WwwAuthenticate],
            18 => &[Self::ProxyAuthenticate],
            19 => &[Self::ProxyAuthorization, Self::AuthenticationInfo],
            _ => &[],
        };
        let is_name = |candidate: &&Self| candidate.as_str().as_bytes().eq_ignore_ascii_case(name);
        candidates.iter().find(is_name).copied().unwrap_or(Self::Other)
    }

    fn of_compact_form(letter: &[u8]) -> Self {
        match letter {
            b"v" | b"V" => Self::Via,
            b"f" | b"F" => Self::From,
            b"t" | b"T" => Self::To,
            b"i" | b"I" => Self::CallId,
            b"m" | b"M" => Self::Contact,
            b"l" | b"L" => Self::ContentLength,
            b"c" | b"C" => Self::ContentType,
            b"k" | b"K" => Self::Supported,
            b"o" | b"O" => Self::Event,
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_canonical_name_is_recognised_in_any_case() {
        for discriminant in 0..HeaderName::Other as u8 {
            let name = ALL[usize::from(discriminant)];
            assert_eq!(name as u8, discriminant);
            assert_eq!(HeaderName::recognise(name.as_str().as_bytes()), name);
            assert_eq!(HeaderName::recognise(name.as_str().to_uppercase().as_bytes()), name);
        }
        assert_eq!(ALL.len(), HeaderName::Other as usize);
    }

    #[test]
    fn compact_forms_are_recognised_in_both_cases() {
        use HeaderName::{
            CallId, Contact, ContentLength, ContentType, Event, From, Supported, To, Via,
        };
        for (letters, name) in [
            ("vV", Via),
            ("fF", From),
            ("tT", To),
            ("iI", CallId),
            ("mM", Contact),
            ("lL", ContentLength),
            ("cC", ContentType),
            ("kK", Supported),
            ("oO", Event),
            ("sSxXeE", HeaderName::Other),
        ] {
            for letter in letters.bytes() {
                assert_eq!(HeaderName::recognise(&[letter]), name, "{letters}");
            }
        }
    }

    #[test]
    fn a_name_that_only_starts_alike_is_another() {
        for name in ["", "Vi", "Viaa", "Contacts", "Call-I", "Call_ID", "Content-Lengtx"] {
            assert_eq!(HeaderName::recognise(name.as_bytes()), HeaderName::Other, "{name}");
        }
    }

    const ALL: [HeaderName; 32] = {
        use HeaderName::*;
        [
            Via,
            From,
            To,
            CallId,
            CSeq,
            Contact,
            Expires,
            MinExpires,
            MaxForwards,
            ContentLength,
            ContentType,
            Path,
            Route,
            RecordRoute,
            ServiceRoute,
            Supported,
            Require,
            ProxyRequire,
            Unsupported,
            Allow,
            Authorization,
            ProxyAuthorization,
            WwwAuthenticate,
            ProxyAuthenticate,
            AuthenticationInfo,
            RetryAfter,
            Server,
            UserAgent,
            Date,
            Warning,
            Event,
            Accept,
        ]
    };
}
