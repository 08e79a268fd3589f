//! Nothing that a phone writes starts a header line of its own in what the door sends, to a server
//! or back to the phone: line ends and nulls, raw and escaped, wherever a phone may write.

use bytes::Bytes;
use frontdoor::cluster::BindingAddress;
use frontdoor::sip::HeaderName;

use crate::desk::{Ask, Desk, PHONES, phone, plan};

/// What is put where the text of a phone goes on.
const BREAKS: &[&str] = &[
    "\r\nEvil: 1",
    "\r\n Evil: 1",
    "\r\n\tEvil: 1",
    "\nEvil: 1",
    "\rEvil: 1",
    "\n\nEvil: 1",
    "\r\rEvil: 1",
    "\r\n\r\nEvil: 1\r\n\r\n",
    "\r\n \r\nEvil: 1",
    "\0Evil: 1",
    "\0\r\nEvil: 1",
    "\u{b}Evil: 1",
    "\u{85}Evil: 1",
    "\u{2028}Evil: 1",
    "%0d%0aEvil:%201",
    "%0D%0AEvil:%201",
    "%0aEvil:%201",
    "%00Evil:%201",
    "%250d%250aEvil:%201",
    "\\\r\nEvil: 1",
    "\\nEvil: 1",
    "\\\0Evil: 1",
    "&#13;&#10;Evil: 1",
    "\"\r\nEvil: 1",
    ">\r\nEvil: 1",
    "\r\nContact: <sip:evil@198.51.100.66>",
    "\r\n Contact: <sip:evil@198.51.100.66>",
    "\r\nContent-Length: 5",
    "\r\nPath: <sip:evil@198.51.100.66;lr>",
];

/// Where a phone may write: a header and its value, § for what is put in.
const PLACES: &[(&str, &str)] = &[
    ("Contact", "<sip:alice@198.51.100.1§>"),
    ("Contact", "<sip:al§ice@198.51.100.1>"),
    ("Contact", "<sip:alice@198.51.100.1;x=§>"),
    ("Contact", "<sip:alice@198.51.100.1?h=§>"),
    ("Contact", "<sip:alice@198.51.100.1>;x=§"),
    ("Contact", "<sip:alice@198.51.100.1>;§"),
    ("Contact", "<sip:alice@198.51.100.1>;x=\"§\""),
    ("Contact", "<sip:alice@198.51.100.1>;+sip.instance=\"<urn:§>\""),
    ("Contact", "<sip:alice@198.51.100.1>;expires=60§"),
    ("Contact", "\"Ali§ce\" <sip:alice@198.51.100.1>"),
    ("Contact", "Ali§ce <sip:alice@198.51.100.1>"),
    ("Contact", "§<sip:alice@198.51.100.1>"),
    ("To", "\"Ali§ce\" <sip:alice@example.com>"),
    ("To", "<sip:al§ice@example.com>"),
    ("To", "<sip:alice@example.com>;x=§"),
    ("From", "\"Ali§ce\" <sip:alice@example.com>;tag=1"),
    ("From", "<sip:bob@§example.com>;tag=1"),
    ("From", "<sip:bob@example.com>;tag=§"),
    ("Call-ID", "call§"),
    ("CSeq", "1§ REGISTER"),
    ("CSeq", "1 REGISTER§"),
    ("Via", "SIP/2.0/UDP 198.51.100.1;branch=z9hG4bK§"),
    ("Via", "SIP/2.0/UDP 198.51.100.1§;branch=z9hG4bK1"),
    ("Path", "<sip:edge§.example.com;lr>"),
    ("Path", "<sip:edge.example.com;lr>;x=\"§\""),
    (
        "Authorization",
        "Digest username=\"al§ice\", realm=\"r\", nonce=\"n\", uri=\"u\", response=\"0\"",
    ),
    ("Authorization", "Digest §"),
    ("Proxy-Authorization", "§"),
    ("Expires", "300§"),
    ("Require", "§"),
    ("Supported", "path§"),
    ("User-Agent", "phone§"),
    ("X-Own§", "1"),
];

/// The start line of the request, § for the break.
const STARTS: &[&str] = &[
    "REGISTER sip:example§.com SIP/2.0",
    "REGISTER sip:example.com;x=§ SIP/2.0",
    "REGISTER sip:al§ice@example.com SIP/2.0",
    "REGISTER§ sip:example.com SIP/2.0",
    "REGISTER sip:example.com SIP/2.0§",
];

/// Headers of a REGISTER of the door's, each once; the rest only where the phone has them.
const ALWAYS: &[&str] = &["via", "max-forwards", "from", "to", "call-id", "cseq", "content-length"];
const SOMETIMES: &[&str] =
    &["contact", "path", "supported", "authorization", "proxy-authorization"];
/// Headers of an answer.
const IN_ANSWERS: &[&str] = &[
    "via",
    "from",
    "to",
    "call-id",
    "cseq",
    "content-length",
    "contact",
    "server",
    "date",
    "allow",
    "retry-after",
    "unsupported",
    "min-expires",
    "warning",
    "path",
    "supported",
    "accept",
    "expires",
];

#[test]
fn no_text_of_a_phone_starts_a_header_line() {
    let mut reached = 0;
    for how in [BindingAddress::Path, BindingAddress::Contact] {
        for text in BREAKS {
            for (name, value) in PLACES {
                let ask = Ask::register("alice").contact("<sip:alice@198.51.100.1>");
                let (name, value) = (put(name, text), put(value, text));
                let ask = ask.set(&name, &value);
                reached += attempt(how, &ask);
            }
            for start in STARTS {
                let ask = Ask::register("alice").contact("<sip:alice@198.51.100.1>");
                reached += attempt(how, &ask.start(&put(start, text)));
            }
        }
    }
    // Most are refused; those that are not must have been judged.
    assert!(reached > 300, "{reached} REGISTERs reached the server");
}

/// A later refresh, a removal and a query repeat what was kept of the phone's text.
#[test]
fn what_was_kept_starts_no_header_line_later_either() {
    let mut kept = 0;
    for text in BREAKS {
        let contact = put("\"A§\" <sip:alice@198.51.100.1;y=1>;x=\"§\"", text);
        let ask = Ask::register("alice").contact(&contact);
        let mut desk = open(BindingAddress::Path);
        desk.deliver(PHONES, phone(1), ask.bytes());
        kept += usize::from(!desk.registers.is_empty());
        desk.restart();
        desk.pass(std::time::Duration::from_secs(70));
        desk.deliver(PHONES, phone(1), ask.clone().cseq(2).bytes());
        desk.deliver(PHONES, phone(1), ask.clone().cseq(3).expires("0").bytes());
        desk.deliver(PHONES, phone(1), ask.cseq(4).without("Contact").bytes());
        judge(&mut desk);
    }
    assert!(kept > 5, "{kept}");
}

fn put(place: &str, text: &str) -> String {
    place.replace('§', text)
}

/// REGISTERs that reached the server.
fn attempt(how: BindingAddress, ask: &Ask) -> usize {
    let mut desk = open(how);
    desk.deliver(PHONES, phone(1), ask.bytes());
    let reached = desk.registers.len();
    judge(&mut desk);
    reached
}

fn open(how: BindingAddress) -> Desk {
    plan(1).binding_address(how).open()
}

fn judge(desk: &mut Desk) {
    for register in desk.take_registers() {
        let names = names(register.bytes());
        for name in ALWAYS {
            assert_eq!(
                names.iter().filter(|known| known == name).count(),
                1,
                "{register:?} {names:?}"
            );
        }
        for name in &names {
            let is_known = ALWAYS.contains(&name.as_str()) || SOMETIMES.contains(&name.as_str());
            assert!(is_known, "{name} in {}", register.bytes().escape_ascii());
        }
        assert!(register.count(HeaderName::Contact) <= 1);
        assert_eq!(register.check_request(), Ok(()), "{}", register.bytes().escape_ascii());
        assert_eq!(register.method(), Some("REGISTER"));
        assert_eq!(register.body(), b"");
    }
    for (to, answer) in std::mem::take(&mut desk.inbox) {
        assert_eq!(to, phone(1));
        for name in names(answer.bytes()) {
            let is_known = IN_ANSWERS.contains(&name.as_str());
            assert!(is_known, "{name} in {}", answer.bytes().escape_ascii());
        }
        assert_eq!(answer.body(), b"");
    }
}

/// The names of all header lines as a reader sees them that knows of no folding and takes a bare CR
/// or LF for a line end.
fn names(message: &Bytes) -> Vec<String> {
    let text = String::from_utf8_lossy(message);
    let lines = text.split(['\r', '\n']).skip(1).filter(|line| !line.is_empty());
    lines.map(|line| line.split(':').next().unwrap_or_default().to_ascii_lowercase()).collect()
}
