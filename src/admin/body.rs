//! What an order says in its body: JSON, at most 64 KiB, whole within two seconds.

use std::time::Duration;

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::admin::endpoints::Described;
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

/// Another home for a user.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Home {
    /// The server where the user is to belong.
    home: String,
}

/// A drain of a server.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Drain {
    /// Whether it begins, or ends.
    on: bool,
}

/// Maintenance of a server.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Maintenance {
    /// Whether it begins, or ends.
    on: bool,
    /// Whether the server's users stay and wait for it.
    #[serde(default)]
    stay: bool,
}

/// What stands in a body.
#[derive(Clone, Copy, Debug)]
pub(super) struct Body {
    pub(super) described: Described,
    pub(super) example: &'static str,
}

pub(super) const HOME: Body =
    Body { described: SchemaGenerator::subschema_for::<Home>, example: r#"{"home": "ucs2"}"# };
pub(super) const DRAIN: Body =
    Body { described: SchemaGenerator::subschema_for::<Drain>, example: r#"{"on": true}"# };
pub(super) const MAINTENANCE: Body = Body {
    described: SchemaGenerator::subschema_for::<Maintenance>,
    example: r#"{"on": true, "stay": false}"#,
};

impl Body {
    fn read<T: DeserializeOwned>(self, body: &[u8]) -> Result<T, Refusal> {
        serde_json::from_slice(body).map_err(|error| Refusal::BodyKind {
            because: error.to_string(),
            example: self.example,
        })
    }
}

impl Wanted {
    /// The order, once its body is read.
    pub(super) fn read(self, body: &[u8]) -> Result<Command, Refusal> {
        match self {
            Self::Home { user } => {
                HOME.read(body).map(|Home { home }| Command::SetHome { user, home })
            }
            Self::Drain { server } => {
                DRAIN.read(body).map(|Drain { on }| Command::Drain { server, on })
            }
            Self::Maintenance { server } => MAINTENANCE
                .read(body)
                .map(|Maintenance { on, stay }| Command::Maintenance { server, on, stay }),
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
            assert!(refusal.what_to_do().contains(r#"{"home": "ucs2"}"#), "{wrong}: {refusal}");
            assert_eq!(refusal.status(), 400);
        }
    }
}
