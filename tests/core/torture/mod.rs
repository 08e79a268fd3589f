//! The torture messages of RFC 4475 and, for IPv6, of RFC 5118, as they stand on the wire, and what
//! the door does with each: `table` says it, nothing is left out.
//!
//! RFC 5118's archive has bare line feeds; the files have the CRLF the wire needs, and an empty
//! line where the archive lacks it. Lengths are left as the RFC has them, wrong ones too.

mod codec;
mod door;
mod streams;
mod table;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::torture::table::MESSAGES;

const COLLECTIONS: [&str; 2] = ["rfc4475", "rfc5118"];

/// What becomes of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Answered with this status, by the door alone.
    Answered(u16),
    /// Registered: 200, and a REGISTER with each of these contacts reaches the server.
    Registered(&'static [&'static str]),
    /// Dropped: a response nobody waits for.
    Stray,
    /// Dropped: it cannot be read, and it is no request that could be answered.
    Malformed,
}

/// One message and what the door does with it.
struct Torture {
    /// The file, by the RFC's own name of the message.
    file: &'static str,
    /// Where the RFC has it.
    section: &'static str,
    /// From a phone.
    phone: Fate,
    /// From a server of the pool.
    server: Fate,
    /// The frames of it on a stream, one after the other, and how the stream ends.
    stream: &'static str,
    /// What the RFC asks for, and why this is it.
    why: &'static str,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// The message as a datagram.
fn datagram(file: &str) -> Bytes {
    let path = folder().join(format!("{file}.sip"));
    fs::read(&path).unwrap_or_else(|fault| panic!("{}: {fault}", path.display())).into()
}

/// Files of both collections, by the names the tables use.
fn files() -> BTreeSet<String> {
    let mut files = BTreeSet::new();
    for collection in COLLECTIONS {
        for entry in fs::read_dir(folder().join(collection)).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|suffix| suffix == "sip") {
                let name = path.file_stem().unwrap().to_str().unwrap();
                files.insert(format!("{collection}/{name}"));
            }
        }
    }
    files
}

#[test]
fn the_table_knows_every_message_and_nothing_else() {
    let known: BTreeSet<String> = MESSAGES.iter().map(|message| message.file.into()).collect();
    assert_eq!(known, files());
    assert_eq!(known.len(), MESSAGES.len(), "no message stands there twice");
    for message in MESSAGES {
        assert!(
            !message.why.is_empty() && !message.section.is_empty(),
            "{}: say why",
            message.file
        );
    }
    let of = |collection| known.iter().filter(|file| file.starts_with(collection)).count();
    assert_eq!(COLLECTIONS.map(of), [49, 12]);
}

/// An editor or git may not change an octet unnoticed.
#[test]
fn every_octet_is_as_it_was() {
    let mut listed = BTreeSet::new();
    for collection in COLLECTIONS {
        let sums = fs::read_to_string(folder().join(collection).join("SHA256SUMS")).unwrap();
        for line in sums.lines() {
            let (sum, name) = line.split_once("  ").expect("a sum and a name");
            let file = format!("{collection}/{}", name.strip_suffix(".sip").unwrap());
            let found: String = Sha256::digest(datagram(&file))
                .iter()
                .map(|octet| format!("{octet:02x}"))
                .collect();
            assert_eq!(found, sum, "{file}");
            listed.insert(file);
        }
    }
    assert_eq!(listed, files());
}
