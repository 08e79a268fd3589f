//! What the codec reads in each message: every part that the door would act upon.

use std::collections::BTreeSet;

use frontdoor::sip::{HeaderName, Message, Start};

use crate::torture::{datagram, files};

#[test]
fn each_is_read_as_it_is_written() {
    let mut wrong = Vec::new();
    for (file, expected) in READINGS {
        let read = reading(file);
        if read != *expected {
            wrong.push(format!("    (\"{file}\", \"{read}\"),"));
        }
    }
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn no_message_is_left_unread() {
    let known: BTreeSet<String> = READINGS.iter().map(|(file, _)| (*file).into()).collect();
    assert_eq!(known, files());
}

/// What is read, or what keeps it from being read; then what keeps it from being served.
fn reading(file: &str) -> String {
    let message = match Message::parse(datagram(file)) {
        Ok(message) => message,
        Err(fault) => return format!("unreadable: {fault:?}"),
    };
    let checked = match message.start() {
        Start::Request { .. } => message.check_request(),
        Start::Response { .. } => message.check_response(),
    };
    if let Err(fault) = checked {
        return format!("broken: {fault:?}");
    }
    let start = match message.start() {
        Start::Request { method, .. } => method.to_owned(),
        Start::Response { status, .. } => status.to_string(),
    };
    let tag = |tag: Option<&[u8]>| {
        tag.map_or_else(|| "-".into(), |tag| String::from_utf8_lossy(tag).into_owned())
    };
    let contacts = match message.contacts() {
        Ok(contacts) => contacts.len().to_string(),
        Err(fault) => format!("{fault:?}"),
    };
    format!(
        "{start} {}, {} Via, from {}, to {}, {contacts} Contact, body {}",
        message.cseq().unwrap().number,
        message.values(HeaderName::Via).count(),
        tag(message.from().unwrap().tag()),
        tag(message.to().unwrap().tag()),
        message.body().len(),
    )
}

/// By file.
const READINGS: &[(&str, &str)] = &[
    ("rfc4475/wsinv", "INVITE 9, 3 Via, from 98asjd8, to 1918181833n, 1 Contact, body 150"),
    (
        "rfc4475/intmeth",
        "!interesting-Method0123456789_*+`.%indeed'~ 139122385, 1 Via, from _token~1'+`*%!-., to -, 0 Contact, body 0",
    ),
    ("rfc4475/esc01", "INVITE 234234, 1 Via, from 938, to -, 1 Contact, body 150"),
    ("rfc4475/escnull", "REGISTER 14398234, 1 Via, from 839923423, to -, 2 Contact, body 0"),
    ("rfc4475/esc02", "RE%47IST%45R 29344, 1 Via, from f232jadfj23, to -, 2 Contact, body 0"),
    ("rfc4475/lwsdisp", "OPTIONS 60, 1 Via, from 323, to -, 0 Contact, body 0"),
    (
        "rfc4475/longreq",
        "INVITE 3882340, 34 Via, from 12982982982982982982982982982982982982982982982982982982982982982982982982982982982982982982982982982982982982982982982982982982982982982982982982982982424, to -, 1 Contact, body 150",
    ),
    ("rfc4475/dblreq", "REGISTER 8, 1 Via, from 43251j3j324, to -, 1 Contact, body 0"),
    ("rfc4475/semiuri", "OPTIONS 8, 1 Via, from 33242, to -, 0 Contact, body 0"),
    ("rfc4475/transports", "OPTIONS 60, 5 Via, from 323, to -, 0 Contact, body 0"),
    ("rfc4475/mpart01", "MESSAGE 1, 1 Via, from 2fb0dcc9, to -, 1 Contact, body 553"),
    ("rfc4475/unreason", "200 35, 1 Via, from 11141343, to 2229, 1 Contact, body 154"),
    ("rfc4475/noreason", "100 35, 1 Via, from 39ansfi3, to 902jndnke3, 1 Contact, body 0"),
    ("rfc4475/badinv01", "broken: Header(Via)"),
    ("rfc4475/clerr", "unreadable: ContentLength"),
    ("rfc4475/ncl", "unreadable: ContentLength"),
    ("rfc4475/scalar02", "broken: Header(CSeq)"),
    ("rfc4475/scalarlg", "broken: Header(CSeq)"),
    ("rfc4475/quotbal", "broken: Header(To)"),
    ("rfc4475/ltgtruri", "broken: Uri"),
    ("rfc4475/lwsruri", "unreadable: StartLine"),
    ("rfc4475/lwsstart", "unreadable: StartLine"),
    ("rfc4475/trws", "unreadable: StartLine"),
    ("rfc4475/escruri", "broken: Uri"),
    ("rfc4475/baddate", "INVITE 1392934, 1 Via, from 2234923, to -, 1 Contact, body 150"),
    ("rfc4475/regbadct", "REGISTER 1, 1 Via, from 998332, to -, Header(Contact) Contact, body 0"),
    ("rfc4475/badaspec", "broken: Header(To)"),
    ("rfc4475/baddn", "unreadable: Truncated"),
    ("rfc4475/badvers", "unreadable: Version"),
    ("rfc4475/mismatch01", "broken: Header(CSeq)"),
    ("rfc4475/mismatch02", "broken: Header(CSeq)"),
    ("rfc4475/bigcode", "unreadable: StartLine"),
    ("rfc4475/badbranch", "OPTIONS 8, 1 Via, from 33242, to -, 0 Contact, body 0"),
    ("rfc4475/insuf", "broken: Missing(From)"),
    ("rfc4475/unkscm", "OPTIONS 3923423, 1 Via, from 384, to -, 0 Contact, body 0"),
    ("rfc4475/novelsc", "OPTIONS 3923423, 1 Via, from 384, to -, 0 Contact, body 0"),
    ("rfc4475/unksm2", "REGISTER 234902, 1 Via, from 3234233, to -, 1 Contact, body 0"),
    ("rfc4475/bext01", "OPTIONS 8, 1 Via, from 242etr, to -, 0 Contact, body 0"),
    ("rfc4475/invut", "INVITE 235448, 1 Via, from 8392034, to -, 1 Contact, body 40"),
    ("rfc4475/regaut01", "REGISTER 9338, 1 Via, from 87321hj23128, to -, 0 Contact, body 0"),
    ("rfc4475/multi01", "broken: Duplicate(From)"),
    ("rfc4475/mcl01", "unreadable: ContentLength"),
    ("rfc4475/bcast", "200 35, 2 Via, from 11141343, to 2229, 1 Contact, body 154"),
    ("rfc4475/zeromf", "OPTIONS 39234321, 1 Via, from 3ghsd41, to -, 0 Contact, body 0"),
    ("rfc4475/cparam01", "REGISTER 2, 1 Via, from DkfVgjkrtMwaerKKpe, to -, 1 Contact, body 0"),
    ("rfc4475/cparam02", "REGISTER 3, 1 Via, from 838293, to -, 1 Contact, body 0"),
    ("rfc4475/regescrt", "REGISTER 14398234, 1 Via, from 8, to -, 1 Contact, body 0"),
    ("rfc4475/sdp01", "INVITE 8, 1 Via, from 234, to -, 1 Contact, body 150"),
    ("rfc4475/inv2543", "INVITE 56, 1 Via, from -, to -, 0 Contact, body 105"),
    ("rfc5118/ipv6-good", "REGISTER 98176, 1 Via, from 81x2, to -, 1 Contact, body 0"),
    ("rfc5118/ipv6-bad", "broken: Uri"),
    ("rfc5118/port-ambiguous", "REGISTER 98176, 1 Via, from 81x2, to -, 1 Contact, body 0"),
    ("rfc5118/port-unambiguous", "REGISTER 98176, 1 Via, from 81x2, to -, 1 Contact, body 0"),
    (
        "rfc5118/via-received-param-with-delim",
        "BYE 321, 1 Via, from 81x2, to bd76ya, 0 Contact, body 0",
    ),
    (
        "rfc5118/via-received-param-no-delim",
        "OPTIONS 921, 1 Via, from 81x2, to -, 1 Contact, body 0",
    ),
    ("rfc5118/ipv6-in-sdp", "unreadable: ContentLength"),
    ("rfc5118/mult-ip-in-header", "BYE 89187, 3 Via, from 81x2, to 9817--94, 0 Contact, body 0"),
    ("rfc5118/mult-ip-in-sdp", "INVITE 8912, 1 Via, from 81x2, to -, 1 Contact, body 181"),
    ("rfc5118/ipv4-mapped-ipv6", "INVITE 612, 2 Via, from 81x2, to -, 1 Contact, body 236"),
    ("rfc5118/ipv6-bug-abnf-3-colons", "OPTIONS 689, 1 Via, from 810x2, to -, 0 Contact, body 0"),
    (
        "rfc5118/ipv6-correct-abnf-2-colons",
        "OPTIONS 689, 1 Via, from 810x2, to -, 0 Contact, body 0",
    ),
];
