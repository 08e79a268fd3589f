//! What answers look like that are not the door's own picture.

use hyper::StatusCode;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::admin::route::Refusal;
use crate::door::Refused;
use crate::net::Unanswered;

/// A page of a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "PageOf{T}")]
pub struct Page<T> {
    /// Those who fit; there may be none although there is a next page.
    pub items: Vec<T>,
    /// What to ask for as `after` to get the next page; none: this was the last one.
    pub next: Option<String>,
}

/// An order counts: it is done, or under way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Taken {
    /// Always true.
    pub done: bool,
}

/// Why a request is not answered, or an order not carried out. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fault {
    /// What is wrong, and whose fault it is.
    pub error: String,
    /// What to do next.
    pub what_to_do: String,
}

/// The door has not begun to show itself, or has stopped.
pub(super) fn silent(error: impl Into<String>) -> (StatusCode, Fault) {
    let what_to_do = "ask again in a second; if that goes on, read the door's log".to_owned();
    (StatusCode::SERVICE_UNAVAILABLE, Fault { error: error.into(), what_to_do })
}

impl Refusal {
    pub(super) fn fault(&self) -> Fault {
        Fault { error: self.to_string(), what_to_do: self.what_to_do() }
    }
}

/// Why the door itself refused.
pub(super) fn refused(why: &Refused) -> (StatusCode, Fault) {
    let (status, what_to_do) = match why {
        Refused::NoSuchUser => (
            StatusCode::NOT_FOUND,
            "name the user by login name or address (sip:…), as /v1/users lists them".to_owned(),
        ),
        Refused::NoSuchServer { name, known } => {
            let likeness = |it: &&std::sync::Arc<str>| strsim::jaro_winkler(name, it);
            let near = known.iter().filter(|it| likeness(it) > 0.8);
            let nearest = near.max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
            let advice = match nearest {
                Some(nearest) => format!("did you mean {nearest:?}?"),
                None => "name one of these".to_owned(),
            };
            (StatusCode::NOT_FOUND, advice)
        }
        Refused::NothingToDo => (StatusCode::CONFLICT, "nothing: it is as you want it".to_owned()),
        Refused::Busy => (StatusCode::CONFLICT, "send it again in a second".to_owned()),
        Refused::NotNow(_) => (
            StatusCode::CONFLICT,
            "send it again when that has changed; /v1/status and /v1/recovery show it".to_owned(),
        ),
        Refused::NotWritten(_) => (
            StatusCode::SERVICE_UNAVAILABLE,
            "see to the disk under the door's store, then send it again".to_owned(),
        ),
    };
    (status, Fault { error: why.to_string(), what_to_do })
}

pub(super) fn unanswered(why: Unanswered) -> (StatusCode, Fault) {
    silent(why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_is_nearly_named_is_suggested() {
        let advice = |name: &str| {
            let known = vec!["ucs1".into(), "berlin-2".into()];
            refused(&Refused::NoSuchServer { name: name.to_owned(), known }).1
        };
        assert_eq!(advice("berlin2").what_to_do, r#"did you mean "berlin-2"?"#);
        assert_eq!(advice("munich").what_to_do, "name one of these");
        assert_eq!(
            advice("munich").error,
            r#"there is no server "munich"; there are ucs1, berlin-2"#
        );
    }
}
