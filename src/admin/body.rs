//! What an order says in its body: JSON, at most 64 KiB, whole within two seconds.

use std::time::Duration;

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use serde::Deserialize;
use tokio::time::timeout;

use crate::admin::route::Refusal;
use crate::door::Command;

/// Octets of a body.
const BODY_OCTETS: usize = 64 * 1024;

/// How long a body may take.
const BODY_PATIENCE: Duration = Duration::from_secs(2);

/// An order whose path names its object; what is wanted of it is in the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Another home.
    Home { user: String },
    /// A drain, on or off.
    Drain { server: String },
    /// Maintenance, on or off.
    Maintenance { server: String },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Home {
    home: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    on: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Maintenance {
    on: bool,
    #[serde(default)]
    stay: bool,
}

impl Wanted {
    /// The order, once its body is read.
    pub(super) fn read(self, body: &[u8]) -> Result<Command, Refusal> {
        match self {
            Self::Home { user } => {
                let expected = Refusal::BodyKind("{\"home\": \"ucs2\"}");
                let Home { home } = serde_json::from_slice(body).map_err(|_| expected)?;
                Ok(Command::SetHome { user, home })
            }
            Self::Drain { server } => {
                let expected = Refusal::BodyKind("{\"on\": true}");
                let Switch { on } = serde_json::from_slice(body).map_err(|_| expected)?;
                Ok(Command::Drain { server, on })
            }
            Self::Maintenance { server } => {
                let expected = Refusal::BodyKind("{\"on\": true, \"stay\": false}");
                let Maintenance { on, stay } =
                    serde_json::from_slice(body).map_err(|_| expected)?;
                Ok(Command::Maintenance { server, on, stay })
            }
        }
    }
}

/// Takes in a body. One that is announced as too long is not waited for.
pub(super) async fn collect(body: Incoming) -> Result<Vec<u8>, Refusal> {
    let announced = body.size_hint().lower();
    if announced > BODY_OCTETS as u64 {
        return Err(Refusal::BodyLength);
    }
    let whole = timeout(BODY_PATIENCE, Limited::new(body, BODY_OCTETS).collect());
    match whole.await {
        Ok(Ok(collected)) => Ok(collected.to_bytes().to_vec()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::BodyLength),
        Ok(Err(_)) => Err(Refusal::BodyBroken),
        Err(_) => Err(Refusal::BodyLate),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_says_what_its_path_asks_for_and_nothing_else() {
        let read = |body: &str| Wanted::Home { user: "anna".into() }.read(body.as_bytes());
        let order = Command::SetHome { user: "anna".into(), home: "ucs2".into() };
        assert_eq!(read(r#" {"home":"ucs2"} "#), Ok(order));
        for wrong in
            ["", "ucs2", "{}", r#"{"home":2}"#, r#"{"home":"a","x":1}"#, r#"{"home":"a"}}"#]
        {
            let refusal = read(wrong).unwrap_err();
            assert!(refusal.to_string().contains(r#"{"home": "ucs2"}"#), "{wrong}: {refusal}");
            assert_eq!(refusal.status(), 400);
        }
    }
}
