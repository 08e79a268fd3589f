//! What the door says itself, as the WebService of a UCServer says it.

use serde_json::{Value, json};

use crate::ucsap::login::detail;
use crate::ucws::{Answer, Unusable};

/// `iErrorDetail` of a `WsError`: there is no UCServer.
const NOT_CONNECTED: i64 = 119;

/// Which WebService to use: the door. `scheme` and `host` are those by which it was asked.
pub fn controller(scheme: &str, host: &str) -> Answer {
    answer(200, &json!({"redirect": format!("{scheme}://{host}")}))
}

/// A login that is refused, and why (`AsnLogonErrorEnum`).
pub fn logon_error(number: i64, words: &str) -> Answer {
    let error = json!({
        "_type": "AsnLogonError",
        "iErrorDetail": number,
        "sAuthCredetials": "",
        "u8sErrorString": words,
        "u8sFailedUser": "",
    });
    answer(400, &json!({"error": error, "error_value": 0, "invokedID": 0, "sessionID": ""}))
}

/// No server can be asked now; `seconds` until it is worth while to ask again.
pub fn not_connected(details: &str, seconds: Option<u64>) -> Answer {
    let error = json!({
        "_type": "WsError",
        "iErrorDetail": NOT_CONNECTED,
        "u8sErrorString": "UCServer is not connected here",
        "details": details,
    });
    let answer = answer(502, &json!({"error": error}));
    match seconds {
        Some(seconds) => answer.with("retry-after", seconds.to_string()),
        None => answer,
    }
}

/// What was shown was meant for another server: the client shows itself anew, which it does by itself
/// when it is challenged.
pub fn show_again(scheme: &'static str, no_401: bool) -> Answer {
    let mut answer = logon_error(detail::NEGOTIATION_REQUIRED, "begin to log in again");
    answer.status = if no_401 { 400 } else { 401 };
    answer.with("www-authenticate", scheme)
}

/// A session that is not there, or not any longer. The public sources do not say what a WebService
/// answers; the reject is the one of the interface (`InvokeProblem`).
pub fn no_session() -> Answer {
    const INVALID_SESSION_ID: u8 = 8;
    let reject = json!({"invokeProblem": INVALID_SESSION_ID});
    let details = "there is no such session: create one";
    answer(
        400,
        &json!({"reject": {"invokedID": {"invokednull": 0}, "reject": reject, "details": details}}),
    )
}

/// A request that cannot be understood.
pub fn unusable(why: Unusable) -> Answer {
    refused(400, why.0)
}

/// A request that is refused by its form.
pub fn refused(status: u16, words: &str) -> Answer {
    let error = json!({"_type": "WsError", "iErrorDetail": 0, "u8sErrorString": words});
    answer(status, &json!({"error": error}))
}

fn answer(status: u16, body: &Value) -> Answer {
    Answer::json(status, body.to_string())
}
