//! The health document a UCServer may serve over HTTP (published in `docs/health-document.md`, with
//! a JSON schema beside it).

use std::borrow::Cow;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::cluster::Version;

/// Longest document read, in octets.
pub const DOCUMENT_MAX: usize = 64 * 1024;
/// Longest string in it, in octets.
const STRING_MAX: usize = 128;
/// Most telephone systems it may name.
const TELEPHONE_SYSTEMS_MAX: usize = 256;
/// The format this door reads.
const FORMAT: u64 = 1;

/// What a server says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// Differs after every start of the process (H8).
    pub boot_id: Arc<str>,
    /// Product version.
    pub version: Option<Version>,
    /// Users logged in now.
    pub users_logged_in: u32,
    /// Users it can serve.
    pub users_capacity: Option<u32>,
    /// SIP registrations it holds.
    pub registrations: Option<u32>,
    /// Lines it has.
    pub lines: Option<u32>,
    /// Telephone systems it knows, and whether it reaches them.
    pub telephone_systems: Vec<TelephoneSystem>,
    /// Whole per cent.
    pub cpu_percent: Option<u8>,
    /// Whole per cent.
    pub memory_percent: Option<u8>,
}

/// One telephone system, as a server sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TelephoneSystem {
    /// The name administrators gave it, equal on all servers.
    pub name: Arc<str>,
    /// Whether this server reaches it.
    pub reachable: bool,
}

/// Why there is no usable document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentFault {
    /// No answer over HTTP, or not 200.
    #[error("the health document is not served: {0}")]
    Missing(Arc<str>),
    /// An answer that is not the document.
    #[error("the health document cannot be used: {0}")]
    Invalid(Arc<str>),
}

impl Document {
    /// Reads a document. Members this door does not know are ignored.
    ///
    /// # Errors
    ///
    /// [`DocumentFault::Invalid`] says which member is wrong and what was expected. Nothing of a
    /// string in the document is repeated in it.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentFault> {
        if bytes.len() > DOCUMENT_MAX {
            return Err(invalid(format!("it is longer than {DOCUMENT_MAX} octets")));
        }
        // The format first: another one may have given every other member another type.
        let Head { format } = from_json(bytes)?;
        if format != FORMAT {
            return Err(invalid(format!("its format is {format}, this door reads {FORMAT}")));
        }
        let wire: Wire<'_> = from_json(bytes)?;
        let version = wire.version.map(|text| {
            let text = string("version", &text)?;
            text.parse().map_err(|_| invalid("version: expected a version such as \"2603.0\""))
        });
        if wire.users.capacity == Some(0) {
            return Err(invalid("users.capacity is 0: leave it out where it is not known"));
        }
        if wire.telephone_systems.len() > TELEPHONE_SYSTEMS_MAX {
            return Err(invalid(format!("more than {TELEPHONE_SYSTEMS_MAX} telephone systems")));
        }
        let telephone_systems = wire.telephone_systems.iter().map(|system| {
            let name = Arc::from(string("telephone_systems.name", &system.name)?);
            Ok(TelephoneSystem { name, reachable: system.reachable })
        });
        Ok(Self {
            boot_id: Arc::from(string("boot_id", &wire.boot_id)?),
            version: version.transpose()?,
            users_logged_in: wire.users.logged_in,
            users_capacity: wire.users.capacity,
            registrations: wire.registrations,
            lines: wire.lines,
            telephone_systems: telephone_systems.collect::<Result<_, _>>()?,
            cpu_percent: percent("load.cpu_percent", wire.load.cpu_percent)?,
            memory_percent: percent("load.memory_percent", wire.load.memory_percent)?,
        })
    }

    /// Writes it as it is served.
    pub fn to_json(&self) -> String {
        let systems = self.telephone_systems.iter().map(|system| WireSystem {
            name: Cow::Borrowed(&system.name),
            reachable: system.reachable,
        });
        let wire = Wire {
            format: FORMAT,
            boot_id: Cow::Borrowed(&self.boot_id),
            version: self.version.map(|version| Cow::Owned(version.to_string())),
            users: WireUsers { logged_in: self.users_logged_in, capacity: self.users_capacity },
            registrations: self.registrations,
            lines: self.lines,
            telephone_systems: systems.collect(),
            load: WireLoad {
                cpu_percent: self.cpu_percent.map(u64::from),
                memory_percent: self.memory_percent.map(u64::from),
            },
        };
        // Strings and numbers in structs: there is nothing in it that JSON cannot say.
        serde_json::to_string(&wire).unwrap_or_default()
    }
}

#[derive(Deserialize)]
struct Head {
    format: u64,
}

#[derive(Deserialize, Serialize)]
struct Wire<'a> {
    format: u64,
    #[serde(borrow)]
    boot_id: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    version: Option<Cow<'a, str>>,
    users: WireUsers,
    #[serde(skip_serializing_if = "Option::is_none")]
    registrations: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lines: Option<u32>,
    #[serde(borrow, default, skip_serializing_if = "Vec::is_empty")]
    telephone_systems: Vec<WireSystem<'a>>,
    #[serde(default, skip_serializing_if = "WireLoad::is_empty")]
    load: WireLoad,
}

#[derive(Deserialize, Serialize)]
struct WireUsers {
    logged_in: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<u32>,
}

#[derive(Deserialize, Serialize)]
struct WireSystem<'a> {
    #[serde(borrow)]
    name: Cow<'a, str>,
    reachable: bool,
}

#[derive(Default, Deserialize, Serialize)]
struct WireLoad {
    #[serde(skip_serializing_if = "Option::is_none")]
    cpu_percent: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    memory_percent: Option<u64>,
}

impl WireLoad {
    const fn is_empty(&self) -> bool {
        self.cpu_percent.is_none() && self.memory_percent.is_none()
    }
}

fn invalid(why: impl Into<Arc<str>>) -> DocumentFault {
    DocumentFault::Invalid(why.into())
}

fn from_json<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, DocumentFault> {
    serde_json::from_slice(bytes).map_err(|error| {
        // Not the error's own words: they repeat what was read, and this goes to logs.
        let what = if error.is_data() {
            "a member is missing, twice there or of the wrong type"
        } else {
            "it is not JSON"
        };
        invalid(format!("{what}, line {} column {}", error.line(), error.column()))
    })
}

fn string<'a>(member: &str, text: &'a str) -> Result<&'a str, DocumentFault> {
    if text.is_empty() || text.len() > STRING_MAX || text.chars().any(char::is_control) {
        return Err(invalid(format!(
            "{member}: expected 1 to {STRING_MAX} octets without control characters"
        )));
    }
    Ok(text)
}

fn percent(member: &str, number: Option<u64>) -> Result<Option<u8>, DocumentFault> {
    let Some(number) = number else { return Ok(None) };
    match u8::try_from(number) {
        Ok(percent @ 0..=100) => Ok(Some(percent)),
        Ok(_) | Err(_) => Err(invalid(format!("{member} is {number}: expected 0 to 100"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    macro_rules! fixture {
        ($name:literal) => {
            ($name, include_bytes!(concat!("../../fixtures/health/", $name)).as_slice())
        };
    }

    fn reason(bytes: &[u8]) -> String {
        Document::parse(bytes).unwrap_err().to_string()
    }

    #[test]
    fn a_full_document_is_read_whole() {
        let (_, bytes) = fixture!("good-full.json");
        let document = Document::parse(bytes).unwrap();
        let system = |name: &str, reachable| TelephoneSystem { name: name.into(), reachable };
        let expected = Document {
            boot_id: "6f1c2a90-5c1e-4c7e-9a2b-0d3f5e7a9b11".into(),
            version: Some(Version { major: 2603, minor: 0 }),
            users_logged_in: 812,
            users_capacity: Some(2500),
            registrations: Some(934),
            lines: Some(1210),
            telephone_systems: vec![system("pbx-main", true), system("pbx-branch", false)],
            cpu_percent: Some(17),
            memory_percent: Some(48),
        };
        assert_eq!(document, expected);
    }

    #[test]
    fn good_fixtures_survive_being_written_again() {
        for (name, bytes) in [
            fixture!("good-full.json"),
            fixture!("good-minimal.json"),
            fixture!("good-unknown-members.json"),
            fixture!("good-overfull.json"),
        ] {
            let document = Document::parse(bytes).expect(name);
            assert_eq!(Document::parse(document.to_json().as_bytes()), Ok(document), "{name}");
        }
    }

    #[test]
    fn a_bad_fixture_says_what_is_wrong() {
        for ((name, bytes), word) in [
            (fixture!("bad-format.json"), "format is 2"),
            (fixture!("bad-percent.json"), "load.cpu_percent is 250"),
            (fixture!("bad-negative.json"), "wrong type"),
            (fixture!("bad-capacity-zero.json"), "users.capacity is 0"),
            (fixture!("bad-boot-id-missing.json"), "missing"),
            (fixture!("bad-boot-id-empty.json"), "boot_id"),
            (fixture!("bad-boot-id-long.json"), "boot_id"),
            (fixture!("bad-control-character.json"), "telephone_systems.name"),
            (fixture!("bad-version.json"), "version"),
            (fixture!("bad-twice.json"), "twice"),
            (fixture!("bad-truncated.json"), "not JSON"),
            (fixture!("bad-html.json"), "not JSON"),
        ] {
            let why = reason(bytes);
            assert!(why.contains(word), "{name}: {why}");
        }
    }

    #[test]
    fn a_reason_repeats_nothing_of_the_document() {
        assert!(!reason(br#"{"format":1,"boot_id":"a","users":"SECRET"}"#).contains("SECRET"));
    }

    #[test]
    fn size_and_depth_are_bounded() {
        let mut long = br#"{"format":1,"boot_id":"a","users":{"logged_in":0}}"#.to_vec();
        long.resize(DOCUMENT_MAX, b' ');
        assert!(Document::parse(&long).is_ok());
        long.push(b' ');
        assert!(reason(&long).contains("longer"));
        let deep = [br#"{"format":1,"deep":"#.as_slice(), &b"[".repeat(60_000)].concat();
        assert!(reason(&deep).contains("not JSON"));
        let systems = vec![r#"{"name":"p","reachable":true}"#; TELEPHONE_SYSTEMS_MAX + 1].join(",");
        let many = format!(
            r#"{{"format":1,"boot_id":"a","users":{{"logged_in":0}},"telephone_systems":[{systems}]}}"#
        );
        assert!(reason(many.as_bytes()).contains("telephone systems"));
    }

    #[test]
    fn the_schema_knows_every_member_that_is_written() {
        let schema: serde_json::Value =
            serde_json::from_slice(include_bytes!("../../docs/health-document.schema.json"))
                .unwrap();
        let (_, bytes) = fixture!("good-full.json");
        let written = Document::parse(bytes).unwrap().to_json();
        let written: serde_json::Value = serde_json::from_str(&written).unwrap();
        let keys = |value: &serde_json::Value| -> Vec<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        assert_eq!(keys(&schema["properties"]), keys(&written));
        for part in ["users", "load"] {
            assert_eq!(keys(&schema["properties"][part]["properties"]), keys(&written[part]));
        }
    }
}
