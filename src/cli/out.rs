//! Writing to the terminal. A reader that went away (`| head`) is no reason to fail.

use std::fmt::Display;
use std::io::Write;

use serde::Serialize;

/// One text to stdout, with a newline.
pub(super) fn line(text: impl Display) {
    let _closed = writeln!(std::io::stdout().lock(), "{text}");
}

/// One value as JSON on one line to stdout.
pub(super) fn json(value: &impl Serialize) {
    let mut out = std::io::stdout().lock();
    if serde_json::to_writer(&mut out, value).is_ok() {
        let _closed = writeln!(out);
    }
}

/// An error to stderr.
pub(super) fn error(error: &impl Display) {
    let _closed = writeln!(std::io::stderr().lock(), "frontdoor: {error}");
}

/// A note to stderr.
pub(super) fn note(text: impl Display) {
    let _closed = writeln!(std::io::stderr().lock(), "{text}");
}
