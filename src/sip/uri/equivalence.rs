//! When two URIs are the same (RFC 3261 §19.1.4).

use crate::sip::scan;
use crate::sip::uri::Host;
use crate::sip::uri::Uri;
use crate::sip::uri::canonical::unescape;

/// Parameters or headers of one URI that are compared in any order; a URI with more is equivalent
/// only to its own octets, because the comparison is quadratic.
const MAX_COMPARED: usize = 32;

/// Parameters that a URI without them never matches, whatever their default.
const NEVER_IGNORED: [&[u8]; 5] = [b"user", b"ttl", b"method", b"maddr", b"transport"];

type Param<'m> = (&'m [u8], Option<&'m [u8]>);

pub(super) fn equivalent(a: &Uri<'_>, b: &Uri<'_>) -> bool {
    a.is_sips() == b.is_sips()
        && same_optional(a.user, b.user)
        && same_optional(a.password, b.password)
        && same_host(a.host, b.host)
        && a.port == b.port
        && same_params(a, b)
        && same_headers(a.headers, b.headers)
}

fn same_optional(a: Option<&[u8]>, b: Option<&[u8]>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => characters(a).eq(characters(b)),
        (None, None) => true,
        _ => false,
    }
}

fn same_host(a: Host<'_>, b: Host<'_>) -> bool {
    match (a, b) {
        (Host::Name(a), Host::Name(b)) => a.eq_ignore_ascii_case(b),
        _ => a == b,
    }
}

fn same_params(a: &Uri<'_>, b: &Uri<'_>) -> bool {
    if a.params.as_bytes() == b.params.as_bytes() {
        return true;
    }
    is_comparable(a.params.iter())
        && is_comparable(b.params.iter())
        && a.params.iter().all(|param| is_met(param, b))
        && b.params.iter().all(|param| is_met(param, a))
}

/// Whether `other` has the parameter with the same value, or lacks it and may.
fn is_met((name, value): Param<'_>, other: &Uri<'_>) -> bool {
    match other.params.iter().find(|(theirs, _)| same_in_any_case(name, theirs)) {
        Some((_, theirs)) => match (value, theirs) {
            (Some(a), Some(b)) => same_in_any_case(a, b),
            (None, None) => true,
            _ => false,
        },
        None => !NEVER_IGNORED.iter().any(|never| same_in_any_case(name, never)),
    }
}

/// Headers are never ignored; their order does not count.
fn same_headers(a: &[u8], b: &[u8]) -> bool {
    if a == b {
        return true;
    }
    let times = |header: Param<'_>, all: &[u8]| {
        headers(all).filter(|theirs| is_same_header(header, *theirs)).count()
    };
    is_comparable(headers(a))
        && is_comparable(headers(b))
        && headers(a).count() == headers(b).count()
        && headers(a).all(|header| times(header, a) == times(header, b))
}

/// The values' own rules are those of each header; where they know no case, this is stricter.
fn is_same_header(a: Param<'_>, b: Param<'_>) -> bool {
    same_in_any_case(a.0, b.0)
        && characters(a.1.unwrap_or_default()).eq(characters(b.1.unwrap_or_default()))
}

fn headers(text: &[u8]) -> impl Iterator<Item = Param<'_>> {
    text.split(|&byte| byte == b'&').filter(|header| !header.is_empty()).map(|header| {
        scan::split_once(header, b'=').map_or((header, None), |(name, value)| (name, Some(value)))
    })
}

fn is_comparable<'m>(params: impl Iterator<Item = Param<'m>>) -> bool {
    params.take(MAX_COMPARED + 1).count() <= MAX_COMPARED
}

fn same_in_any_case(a: &[u8], b: &[u8]) -> bool {
    let lower = |(byte, is_escape): (u8, bool)| (byte.to_ascii_lowercase(), is_escape);
    characters(a).map(lower).eq(characters(b).map(lower))
}

/// The characters of a component: an escape is the same as its character, but for the reserved
/// ones, which keep the mark that they were escaped (RFC 2396 §2.2).
fn characters(text: &[u8]) -> impl Iterator<Item = (u8, bool)> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if let Some((byte, after)) = unescape(rest) {
            rest = after;
            return Some((byte, is_reserved(byte)));
        }
        let (&byte, after) = rest.split_first()?;
        rest = after;
        Some((byte, false))
    })
}

const fn is_reserved(byte: u8) -> bool {
    matches!(byte, b';' | b'/' | b'?' | b':' | b'@' | b'&' | b'=' | b'+' | b'$' | b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn compare(a: &str, b: &str, expected: bool) {
        let (x, y) = (Uri::parse(a.as_bytes()).unwrap(), Uri::parse(b.as_bytes()).unwrap());
        assert_eq!(x.equivalent(&y), expected, "{a} and {b}");
        assert_eq!(y.equivalent(&x), expected, "{b} and {a}");
    }

    #[test]
    fn the_equivalent_pairs_of_the_standard_are_equivalent() {
        for (a, b) in [
            ("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"),
            ("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"),
            (
                "sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
                "sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
            ),
            (
                "sip:alice@atlanta.com?subject=project%20x&priority=urgent",
                "sip:alice@atlanta.com?priority=urgent&subject=project%20x",
            ),
        ] {
            compare(a, b, true);
        }
    }

    #[test]
    fn the_different_pairs_of_the_standard_are_different() {
        for (a, b) in [
            ("SIP:ALICE@AtLanTa.CoM;Transport=udp", "sip:alice@AtLanTa.CoM;Transport=UDP"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"),
            ("sip:bob@biloxi.com", "sip:bob@biloxi.com:6000;transport=tcp"),
            ("sip:carol@chicago.com", "sip:carol@chicago.com?Subject=next%20meeting"),
            ("sip:bob@phone21.boxesbybob.com", "sip:bob@192.0.2.4"),
            ("sip:carol@chicago.com;security=off", "sip:carol@chicago.com;security=on"),
        ] {
            compare(a, b, false);
        }
    }

    #[test]
    fn parameters_that_are_never_ignored_must_be_in_both() {
        for param in ["user=ip", "ttl=1", "method=INVITE", "maddr=192.0.2.1", "transport=udp"] {
            compare("sip:a@b", &format!("sip:a@b;{param}"), false);
            compare(&format!("sip:a@b;x;{param}"), &format!("sip:a@b;{param};y=1"), true);
        }
        compare("sip:a@b;lr", "sip:a@b", true);
        compare("sip:a@b;lr", "sip:a@b;lr=on", false);
    }

    #[test]
    fn sips_is_not_sip_and_user_and_password_count() {
        compare("sip:a@b", "sips:a@b", false);
        compare("sip:b", "sip:a@b", false);
        compare("sip:a:x@b", "sip:a@b", false);
        compare("sip:a:x@b", "sip:a:X@b", false);
    }

    #[test]
    fn an_escaped_reserved_character_is_not_the_character() {
        compare("sip:a%3Bb@c", "sip:a;b@c", false);
        compare("sip:a%3Bb@c", "sip:a%3bb@c", true);
        compare("sip:a%2Db@c", "sip:a-b@c", true);
    }

    #[test]
    fn addresses_are_compared_as_addresses() {
        compare("sip:a@[2001:DB8::0:1]", "sip:a@[2001:db8::1]", true);
    }

    #[test]
    fn headers_count_as_often_as_they_are_there() {
        compare("sip:a@b?x=1&x=1&x=2", "sip:a@b?x=1&x=2&x=2", false);
        compare("sip:a@b?x=1&X=2", "sip:a@b?x=2&x=1", true);
    }

    #[test]
    fn a_flood_of_parameters_is_compared_by_its_octets_only() {
        let flood = |last: &str| format!("sip:a@b{}{last}", ";p".repeat(MAX_COMPARED));
        compare(&flood(";q"), &flood(";q"), true);
        compare(&flood(";q"), &flood(";r"), false);
    }
}
