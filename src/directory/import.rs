//! [`read_csv`]: the list of users an operator hands over (L3). All of it is good, or nothing is
//! taken.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::directory::record::UserRecord;
use crate::directory::{Aor, History};
use crate::sip::{ParseError, Uri};

/// The first line of the file.
pub const HEADER: &str = "user,aors,lines,home,enabled";

/// What an export says beside that, of users who are away. An import does not read it: where users
/// are is for the door to know.
pub const AWAY_HEADER: &str = "RelocationHomeserverOrigin,RelocationDate,target,why";

/// Fields of a line without and with what is said of users who are away.
const FIELDS: [usize; 2] = [5, 9];

/// How many users one file may hold.
pub const USERS_MAX: usize = 1_000_000;

/// The longest login name, line or server name, in bytes.
pub const NAME_BYTES_MAX: usize = 256;

/// One line of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Imported {
    /// Where it stands in the file, from 1; for messages.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// The login name.
    #[serde(rename = "user")]
    pub name: Arc<str>,
    /// Addresses-of-record, canonical.
    #[serde(default)]
    #[schemars(with = "Vec<String>")]
    pub aors: Vec<Aor>,
    /// Lines.
    #[serde(default)]
    pub lines: Vec<Arc<str>>,
    /// The name of the home server; without one, placed at the first login.
    #[serde(default)]
    pub home: Option<Arc<str>>,
    /// Whether the user is served at all.
    pub enabled: bool,
}

impl Imported {
    /// As a user the store does not know yet.
    pub fn into_record(self) -> UserRecord {
        UserRecord {
            name: self.name,
            aors: self.aors,
            lines: self.lines,
            home: self.home,
            enabled: self.enabled,
            relocation: None,
            epoch: 0,
            left_at: Vec::new(),
            history: History::default(),
        }
    }
}

/// What is wrong with a file of users: always the file, never the door. Lines count from 1, the
/// header's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImportError {
    /// The first line is something else.
    #[error("line 1: expected the header {HEADER:?}, found {found:?}")]
    Header {
        /// The first line.
        found: String,
    },
    /// Too many users.
    #[error("line {line}: expected at most {users_max} users, found more: split the file")]
    TooMany {
        /// The first one too many.
        line: u64,
        /// How many one file may hold.
        users_max: usize,
    },
    /// Not UTF-8.
    #[error("line {line}: expected text in UTF-8, found other bytes: save the file as UTF-8")]
    NotText {
        /// Where.
        line: u64,
    },
    /// Too few or too many fields.
    #[error(
        "line {line}: expected {expected} fields, as in the header, found {found}; a field that contains a comma \
         stands in double quotes, and quotes come in pairs"
    )]
    Fields {
        /// Where.
        line: u64,
        /// How many the header has.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// A name that is none.
    #[error(
        "line {line}: expected {field} of 1 to {NAME_BYTES_MAX} bytes without control characters, \
         found {found:?}"
    )]
    Name {
        /// Where.
        line: u64,
        /// What was to be named.
        field: Field,
        /// What stands there, shortened.
        found: String,
    },
    /// Not an address-of-record.
    #[error(
        "line {line}: expected an address-of-record such as sip:anna@example.com, found {found:?}: {why}"
    )]
    Aor {
        /// Where.
        line: u64,
        /// What stands there, shortened.
        found: String,
        /// What is wrong with it.
        why: ParseError,
    },
    /// Neither `true` nor `false`.
    #[error("line {line}: expected true or false in the field enabled, found {found:?}")]
    Enabled {
        /// Where.
        line: u64,
        /// What stands there, shortened.
        found: String,
    },
    /// Something that belongs to exactly one user is there twice.
    #[error(
        "line {line}: expected {field} that no other line has, found {found:?}, which line \
         {first_line} has already"
    )]
    Duplicate {
        /// The second time.
        line: u64,
        /// The first time.
        first_line: u64,
        /// What it is.
        field: Field,
        /// Which one, shortened.
        found: String,
    },
}

/// What a field of the file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Field {
    /// The login name.
    User,
    /// One address-of-record.
    Aor,
    /// One line.
    Line,
    /// The home server.
    Home,
}

impl std::fmt::Display for Field {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::User => "a login name",
            Self::Aor => "an address-of-record",
            Self::Line => "a line",
            Self::Home => "a server's name",
        })
    }
}

/// Reads a file of users: CSV (RFC 4180), header [`HEADER`], one user a line. Several
/// addresses-of-record or lines are separated by spaces; an empty home is none; `enabled` is
/// `true` or `false`.
///
/// # Errors
///
/// The first thing that is wrong, with its line. Nothing is taken then.
pub fn read_csv(bytes: &[u8]) -> Result<Vec<Imported>, ImportError> {
    read_up_to(USERS_MAX, bytes)
}

/// The same rules for a list that was written by something else; lines count as in a file unless
/// they are given.
///
/// # Errors
///
/// As [`read_csv`].
pub fn check(users: &[Imported]) -> Result<Vec<Imported>, ImportError> {
    let mut seen = Seen::default();
    let check = |(counted, user): (u64, &Imported)| {
        let line = user.line.unwrap_or(counted);
        if counted > USERS_MAX as u64 + 1 {
            return Err(ImportError::TooMany { line, users_max: USERS_MAX });
        }
        let aors = user.aors.iter().map(|aor| seen.aor(line, aor.as_str()));
        let aors = aors.collect::<Result<_, _>>()?;
        let mut named = |field, text: &str| seen.once(line, field, read_name(line, field, text)?);
        let lines = user.lines.iter().map(|text| named(Field::Line, text));
        let lines = lines.collect::<Result<_, _>>()?;
        let name = named(Field::User, &user.name)?;
        let home = user.home.as_deref().map(|home| read_name(line, Field::Home, home));
        Ok(Imported {
            line: Some(line),
            name,
            aors,
            lines,
            home: home.transpose()?,
            ..user.clone()
        })
    };
    (2u64..).zip(users).map(check).collect()
}

fn read_up_to(users_max: usize, bytes: &[u8]) -> Result<Vec<Imported>, ImportError> {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        .from_reader(bytes);
    let mut record = csv::ByteRecord::new();
    let whole = HEADER.split(',').chain(AWAY_HEADER.split(','));
    let known = read(&mut reader, &mut record)
        && FIELDS.contains(&record.len())
        && record.iter().eq(whole.take(record.len()).map(str::as_bytes));
    let fields = record.len();
    if !known {
        let first = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
        return Err(ImportError::Header { found: shorten(&String::from_utf8_lossy(first)) });
    }
    let mut users = Vec::new();
    let mut seen = Seen::default();
    while read(&mut reader, &mut record) {
        let line = record.position().map_or(0, csv::Position::line);
        if users.len() == users_max {
            return Err(ImportError::TooMany { line, users_max });
        }
        if record.len() != fields {
            return Err(ImportError::Fields { line, expected: fields, found: record.len() });
        }
        users.push(read_user(line, &record, &mut seen)?);
    }
    Ok(users)
}

/// Reads one record of any length and any bytes; false at the end.
fn read(reader: &mut csv::Reader<&[u8]>, record: &mut csv::ByteRecord) -> bool {
    // Bytes from memory, any number of fields, nothing decoded: what could fail is excluded.
    reader.read_byte_record(record).unwrap_or(false)
}

fn read_user(
    line: u64,
    record: &csv::ByteRecord,
    seen: &mut Seen,
) -> Result<Imported, ImportError> {
    let mut fields = [""; 5];
    for (field, bytes) in fields.iter_mut().zip(record) {
        *field = std::str::from_utf8(bytes).map_err(|_| ImportError::NotText { line })?;
    }
    let [user, aors, lines, home, enabled] = fields;
    let name = seen.once(line, Field::User, read_name(line, Field::User, user)?)?;
    let aors = aors.split_ascii_whitespace().map(|text| seen.aor(line, text));
    let aors = aors.collect::<Result<_, _>>()?;
    let lines = lines
        .split_ascii_whitespace()
        .map(|text| seen.once(line, Field::Line, read_name(line, Field::Line, text)?))
        .collect::<Result<_, _>>()?;
    let home = if home.is_empty() { None } else { Some(read_name(line, Field::Home, home)?) };
    // Spreadsheets write TRUE.
    let enabled = if enabled.eq_ignore_ascii_case("true") {
        true
    } else if enabled.eq_ignore_ascii_case("false") {
        false
    } else {
        return Err(ImportError::Enabled { line, found: shorten(enabled) });
    };
    Ok(Imported { line: Some(line), name, aors, lines, home, enabled })
}

fn read_name(line: u64, field: Field, text: &str) -> Result<Arc<str>, ImportError> {
    if text.is_empty() || text.len() > NAME_BYTES_MAX || text.chars().any(char::is_control) {
        return Err(ImportError::Name { line, field, found: shorten(text) });
    }
    Ok(Arc::from(text))
}

/// What belongs to exactly one user, and the line it was first seen in.
#[derive(Default)]
struct Seen(HashMap<(Field, Arc<str>), u64>);

impl Seen {
    fn aor(&mut self, line: u64, text: &str) -> Result<Aor, ImportError> {
        let canonical = Uri::parse(text.as_bytes())
            .and_then(|uri| uri.canonical_aor())
            .map_err(|why| ImportError::Aor { line, found: shorten(text), why })?;
        self.once(line, Field::Aor, Arc::from(canonical.as_str())).map(Aor::from_canonical)
    }

    fn once(&mut self, line: u64, field: Field, text: Arc<str>) -> Result<Arc<str>, ImportError> {
        match self.0.entry((field, Arc::clone(&text))) {
            Entry::Vacant(entry) => {
                entry.insert(line);
                Ok(text)
            }
            Entry::Occupied(first) => Err(ImportError::Duplicate {
                line,
                first_line: *first.get(),
                field,
                found: shorten(&text),
            }),
        }
    }
}

/// Enough of a text to find it again: an error stays one readable line.
fn shorten(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    let text = text.trim_end();
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(lines: &[&str]) -> Vec<u8> {
        format!("{HEADER}\n{}\n", lines.join("\n")).into_bytes()
    }

    fn fault(lines: &[&str]) -> ImportError {
        read_csv(&file(lines)).unwrap_err()
    }

    #[test]
    fn a_file_becomes_users_with_canonical_addresses() {
        let users = read_csv(&file(&[
            "anna,sip:Anna@Example.COM:5060 sip:%61nna2@example.com,+49301 +49302,ucs1,true",
            "\"Berger, B.\",,,,FALSE",
        ]))
        .unwrap();
        assert_eq!(users.len(), 2);
        let aors: Vec<&str> = users[0].aors.iter().map(Aor::as_str).collect();
        assert_eq!(aors, ["sip:Anna@example.com", "sip:anna2@example.com"]);
        assert_eq!(users[0].lines, [Arc::from("+49301"), Arc::from("+49302")]);
        assert_eq!(users[0].home.as_deref(), Some("ucs1"));
        assert!(users[0].enabled);
        assert_eq!(&*users[1].name, "Berger, B.");
        assert_eq!((users[1].home.as_ref(), users[1].enabled), (None, false));
    }

    #[test]
    fn what_spreadsheets_add_is_no_fault() {
        let mut bytes = b"\xef\xbb\xbf".to_vec();
        bytes.extend_from_slice(b"user,aors,lines,home,enabled\r\nanna, sip:a@b.c ,,,TRUE\r\n\r\n");
        assert_eq!(read_csv(&bytes).unwrap().len(), 1);
    }

    #[test]
    fn another_header_is_refused_and_shown() {
        let found = "user;aors;lines;home;enabled".to_owned();
        assert_eq!(
            read_csv(format!("{found}\nanna;;;;true\n").as_bytes()),
            Err(ImportError::Header { found })
        );
        assert_eq!(read_csv(b""), Err(ImportError::Header { found: String::new() }));
    }

    #[test]
    fn every_fault_names_its_line_what_was_expected_and_what_was_found() {
        let good = "anna,sip:anna@example.com,,,true";
        let cases = [
            ("bert,,,true", "line 3: expected 5 fields", "found 4"),
            ("bert,sip:b@example.com sip:,,,true", "line 3: expected an address", "\"sip:\""),
            ("bert,tel:+4930,,,true", "line 3: expected an address", "tel:+4930"),
            ("bert,,,,yes", "line 3: expected true or false", "\"yes\""),
            (",,,,true", "line 3: expected a login name", "\"\""),
            ("be\u{7}rt,,,,true", "line 3: expected a login name", "be\\u{7}rt"),
            ("bert,,\"4\n\u{0}5\",,true", "line 3: expected a line", "\\0"),
            ("bert,,,\"ucs1,true", "line 3: expected 5 fields", "found 4"),
        ];
        for (bad, expected, found) in cases {
            let text = fault(&[good, bad]).to_string();
            assert!(text.contains(expected) && text.contains(found), "{bad:?}: {text}");
        }
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_refused_by_line() {
        let mut bytes = file(&["anna,,,,true"]);
        bytes.extend_from_slice(b"m\xfcller,,,,true\n");
        assert_eq!(read_csv(&bytes), Err(ImportError::NotText { line: 3 }));
    }

    #[test]
    fn a_duplicate_names_both_lines() {
        let first = "anna,sip:anna@example.com,4711,,true";
        let cases = [
            ("anna,,,,true", Field::User, "anna"),
            ("bert,sip:anna@EXAMPLE.com:5060;x=y,,,true", Field::Aor, "sip:anna@example.com"),
            ("bert,,4711,,true", Field::Line, "4711"),
        ];
        for (second, field, found) in cases {
            assert_eq!(
                fault(&[first, "carl,,,,true", second]),
                ImportError::Duplicate { line: 4, first_line: 2, field, found: found.to_owned() }
            );
        }
    }

    #[test]
    fn a_name_may_look_like_a_line_or_an_address() {
        assert!(read_csv(&file(&["4711,sip:4711@example.com,4711,,true"])).is_ok());
    }

    #[test]
    fn line_numbers_survive_quoted_line_breaks() {
        let found = fault(&["anna,\"sip:a@example.com\nsip:b@example.com\",,,true", "bert,,,,no"]);
        assert_eq!(found, ImportError::Enabled { line: 4, found: "no".to_owned() });
    }

    #[test]
    fn one_user_too_many_refuses_the_file() {
        let bytes = file(&["anna,,,,true", "bert,,,,true"]);
        assert_eq!(read_up_to(2, &bytes).unwrap().len(), 2);
        assert_eq!(read_up_to(1, &bytes), Err(ImportError::TooMany { line: 3, users_max: 1 }));
    }

    #[test]
    fn an_error_stays_short() {
        let long = "x".repeat(100_000);
        assert!(fault(&[&format!("anna,{long},,,true")]).to_string().len() < 400);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut all = file(&[]);
            all.extend_from_slice(&bytes);
            let _ = read_csv(&bytes);
            let _ = read_csv(&all);
        }
    }
}
