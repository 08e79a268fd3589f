//! [`Route`]: what a request wants, by its path.

/// The routes of the WebService.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route<'a> {
    /// Which WebService a client should use.
    Controller,
    /// A session is wanted.
    Create,
    /// A session is not wanted any longer.
    Destroy,
    /// The WebSocket of a session.
    Socket,
    /// An operation, called in a session.
    Call(&'a str),
    /// An operation, called without a session, with what proves who calls.
    Direct(&'a str),
    /// Something that any server can answer: public presence, ProCall Web.
    Any,
}

impl<'a> Route<'a> {
    /// That of a path.
    pub fn of(path: &'a str) -> Self {
        if path == "/controller/client/ucws" {
            return Self::Controller;
        }
        if let Some(operation) = path.strip_prefix("/ws/direct/").filter(|it| is_name(it)) {
            return Self::Direct(operation);
        }
        match path.strip_prefix("/ws/client/") {
            Some("createsession" | "createsession/") => Self::Create,
            Some("destroysession" | "destroysession/") => Self::Destroy,
            Some("websocket" | "websocket/") => Self::Socket,
            Some(operation) if is_name(operation) => Self::Call(operation),
            _ => Self::Any,
        }
    }
}

/// Whether an operation could be called so.
fn is_name(text: &str) -> bool {
    const OCTETS_MAX: usize = 128;
    let fits = text.bytes().all(|octet| octet.is_ascii_alphanumeric() || octet == b'_');
    fits && (1..=OCTETS_MAX).contains(&text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_leads_somewhere() {
        for (path, route) in [
            ("/controller/client/ucws", Route::Controller),
            ("/ws/client/createsession", Route::Create),
            ("/ws/client/destroysession", Route::Destroy),
            ("/ws/client/websocket", Route::Socket),
            ("/ws/client/websocket/", Route::Socket),
            ("/ws/client/asnCtiMakeCall", Route::Call("asnCtiMakeCall")),
            ("/ws/direct/asnGetUserToken", Route::Direct("asnGetUserToken")),
            ("/ws/direct/", Route::Any),
            ("/ws/client/asn/../x", Route::Any),
            ("/ws/client/", Route::Any),
            ("/ws/public/contacts", Route::Any),
            ("/", Route::Any),
            ("", Route::Any),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
        assert_eq!(Route::of(&format!("/ws/client/{}", "a".repeat(129))), Route::Any);
    }
}
