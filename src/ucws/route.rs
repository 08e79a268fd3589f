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
    /// Nothing: it looks like one of the others, and a server might take it for that.
    Nothing,
}

impl<'a> Route<'a> {
    /// That of a path.
    pub fn of(path: &'a str) -> Self {
        let plain = path.strip_suffix('/').unwrap_or(path);
        if plain == "/controller/client/ucws" {
            return Self::Controller;
        }
        if let Some(operation) = plain.strip_prefix("/ws/direct/").filter(|it| is_name(it)) {
            return Self::Direct(operation);
        }
        match plain.strip_prefix("/ws/client/") {
            Some("createsession") => Self::Create,
            Some("destroysession") => Self::Destroy,
            Some("websocket") => Self::Socket,
            Some(operation) if is_name(operation) => Self::Call(operation),
            _ if is_private(path) => Self::Nothing,
            _ => Self::Any,
        }
    }
}

/// Whether a server that is lenient about paths might see something in it that is the door's to decide:
/// whoever is shown a password there is to be shown it by the door.
fn is_private(path: &str) -> bool {
    const PRIVATE: [[&str; 2]; 3] = [["ws", "client"], ["ws", "direct"], ["controller", "client"]];
    let plain = percent_encoding::percent_decode_str(path).decode_utf8_lossy().to_lowercase();
    let parts = plain.split(['/', '\\']).map(|part| part.split(';').next().unwrap_or_default());
    let mut parts = parts.map(str::trim).filter(|part| !part.is_empty() && *part != ".");
    if parts.clone().any(|part| part == "..") {
        return true;
    }
    let first = [parts.next().unwrap_or_default(), parts.next().unwrap_or_default()];
    PRIVATE.contains(&first)
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
            ("/ws/client/asnCtiMakeCall/", Route::Call("asnCtiMakeCall")),
            ("/ws/direct/", Route::Nothing),
            ("/ws/client/asn/../x", Route::Nothing),
            ("/ws/client/", Route::Nothing),
            ("/ws/client//createsession", Route::Nothing),
            ("/WS/Client/createsession", Route::Nothing),
            ("/ws/client/%63reatesession", Route::Nothing),
            ("/ws/%63lient/createsession", Route::Nothing),
            ("/ws/client/createsession;x", Route::Nothing),
            ("/ws/./client/createsession", Route::Nothing),
            ("//ws\\client/createsession", Route::Nothing),
            ("/procall/../ws/client/createsession", Route::Nothing),
            ("/ws/clients", Route::Any),
            ("/ws/client.js", Route::Any),
            ("/ws/public/contacts", Route::Any),
            ("/", Route::Any),
            ("", Route::Any),
        ] {
            assert_eq!(Route::of(path), route, "{path}");
        }
        assert_eq!(Route::of(&format!("/ws/client/{}", "a".repeat(129))), Route::Nothing);
    }
}
