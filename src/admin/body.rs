//! What an order says in its body: JSON, at most 64 KiB, whole within two seconds; users who are
//! handed over, 64 MiB within eight.

use std::time::Duration;

use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use schemars::{JsonSchema, SchemaGenerator};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::admin::endpoints::Described;
use crate::admin::route::Refusal;
use crate::directory::import::Imported;
use crate::door::Command;

/// Octets of a body.
const BODY_OCTETS: usize = 64 * 1024;

/// How long a body may take.
const BODY_PATIENCE: Duration = Duration::from_secs(2);

/// The same for users who are handed over.
const IMPORT_OCTETS: usize = 64 * 1024 * 1024;
const IMPORT_PATIENCE: Duration = Duration::from_secs(8);

/// An order whose path names its object; what is wanted of it is in the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Another home.
    Home { user: String },
    /// A drain, on or off.
    Drain { server: String },
    /// Maintenance, on or off.
    Maintenance { server: String },
    /// Users who are handed over.
    Import,
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

/// Users who are handed over: all of them are taken, or none is.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Import {
    /// Who.
    users: Vec<Imported>,
    /// Whether they are only looked at.
    #[serde(default)]
    check: bool,
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

pub(super) const IMPORT: Body = Body {
    described: SchemaGenerator::subschema_for::<Import>,
    example: r#"{"users": [{"user": "anna", "aors": ["sip:anna@example.com"], "home": "ucs2", "enabled": true}], "check": false}"#,
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
    /// Octets of the body, and how long it may take.
    const fn limits(&self) -> (usize, Duration) {
        match self {
            Self::Import => (IMPORT_OCTETS, IMPORT_PATIENCE),
            Self::Home { .. } | Self::Drain { .. } | Self::Maintenance { .. } => {
                (BODY_OCTETS, BODY_PATIENCE)
            }
        }
    }

    /// The order, once its body is read.
    pub(super) fn read(self, body: &[u8]) -> Result<Command, Refusal> {
        match self {
            Self::Home { user } => {
                HOME.read(body).map(|Home { home }| Command::SetHome { user, home })
            }
            Self::Drain { server } => {
                DRAIN.read(body).map(|Drain { on }| Command::Drain { server, on })
            }
            Self::Import => {
                IMPORT.read(body).map(|Import { users, check }| Command::Import { users, check })
            }
            Self::Maintenance { server } => MAINTENANCE
                .read(body)
                .map(|Maintenance { on, stay }| Command::Maintenance { server, on, stay }),
        }
    }
}

/// Takes in the body of an order. One that is announced as too long is not waited for.
pub(super) async fn collect(wanted: &Wanted, body: Incoming) -> Result<Vec<u8>, Refusal> {
    let announced = body.size_hint().lower();
    let (most, patience) = wanted.limits();
    if announced > most as u64 {
        return Err(Refusal::BodyLength);
    }
    let whole = timeout(patience, Limited::new(body, most).collect());
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
