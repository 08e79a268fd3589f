//! [`Via`].

use std::io::Write as _;
use std::net::IpAddr;
use std::net::SocketAddr;

use crate::sip::error::ParseError;
use crate::sip::header::HeaderName;
use crate::sip::params::Params;
use crate::sip::scan;
use crate::sip::uri;

/// One Via element (RFC 3261 §20.42).
#[derive(Clone, Copy, Debug)]
pub struct Via<'m> {
    /// The transport as written, any token.
    pub transport: &'m [u8],
    /// The sent-by host as written, an IPv6 address with its brackets.
    pub host: &'m [u8],
    /// The sent-by port, if it is written.
    pub port: Option<u16>,
    /// The parameters.
    pub params: Params<'m>,
    /// The sent-by host, if it is an address.
    address: Option<IpAddr>,
}

impl<'m> Via<'m> {
    /// Reads one element of Via; white space around `/` and `:` is allowed.
    pub fn parse(value: &'m [u8]) -> Result<Self, ParseError> {
        Self::read(value).ok_or(ParseError::Header(HeaderName::Via))
    }

    /// The branch parameter.
    pub fn branch(&self) -> Option<&'m [u8]> {
        self.params.get("branch")
    }

    /// The rport parameter: `Some(None)` asks for it (RFC 3581 §3); junk counts as asking.
    pub fn rport(&self) -> Option<Option<u16>> {
        let value = self.params.get("rport")?;
        Some(scan::number(value).and_then(|port| u16::try_from(port).ok()))
    }

    /// The received parameter, if it is an address; IPv6 with or without brackets (RFC 5118 §4.5).
    pub fn received(&self) -> Option<IpAddr> {
        let value = self.params.get("received")?;
        let bare = value.strip_prefix(b"[").and_then(|v| v.strip_suffix(b"]")).unwrap_or(value);
        std::str::from_utf8(bare).ok()?.parse().ok()
    }

    /// The element with the request's source noted in it, or None if nothing is to be noted
    /// (RFC 3261 §18.2.1, RFC 3581 §4).
    ///
    /// A `received` the sender wrote itself is never believed: it is replaced or taken out.
    pub(in crate::sip) fn with_source(element: &[u8], source: SocketAddr) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(element.len() + 64);
        let via = Via::parse(element).ok()?;
        via.append_with_source(&mut out, element, source).then_some(out)
    }

    /// Appends the element this was read from with the request's source noted in it; false, and
    /// nothing appended, if nothing is to be noted. See [`Via::with_source`].
    pub(in crate::sip) fn append_with_source(
        &self,
        out: &mut Vec<u8>,
        element: &[u8],
        source: SocketAddr,
    ) -> bool {
        let (via, element) = (self, scan::trim(element));
        // A dual-stack socket shows an IPv4 peer as ::ffff:a.b.c.d, which the peer never wrote.
        let address = source.ip().to_canonical();
        let asks_for_port = via.params.has("rport");
        let differs = via.address != Some(address);
        let notes_address = differs || asks_for_port;
        if !notes_address && !via.params.has("received") {
            return false;
        }
        let before_params = element.len() - via.params.as_bytes().len();
        out.extend_from_slice(scan::trim_end(scan::head(element, before_params)));
        for (name, value) in via.params.iter() {
            if [&b"received"[..], b"rport"].iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
                continue;
            }
            out.push(b';');
            out.extend_from_slice(name);
            if let Some(value) = value {
                out.push(b'=');
                out.extend_from_slice(value);
            }
        }
        if asks_for_port {
            out.extend_from_slice(b";rport=");
            scan::append_number(out, source.port().into());
        }
        if notes_address {
            out.extend_from_slice(b";received=");
            append_address(out, address);
        }
        true
    }

    /// Whether a line says at least who sent the request, so that a refusal of it can be told
    /// apart: the parameters of its first element may be broken, and the version another one.
    pub(in crate::sip) fn names_its_sender(line: &[u8]) -> bool {
        let end = memchr::memchr2(b';', b',', line).unwrap_or(line.len());
        let Some((_, _, sent_by)) = sent_protocol(scan::head(line, end)) else { return false };
        uri::split_port(scan::trim(sent_by)).and_then(|(host, _)| uri::host(host)).is_some()
    }

    fn read(value: &'m [u8]) -> Option<Self> {
        let (version, transport, sent_by_on) = sent_protocol(value)?;
        if version != b"2.0" {
            return None;
        }
        let sent_by_len = memchr::memchr(b';', sent_by_on).unwrap_or(sent_by_on.len());
        let (host, port) = uri::split_port(scan::trim(scan::head(sent_by_on, sent_by_len)))?;
        let address = uri::host(host)?.address();
        let params = Params::of(scan::tail(sent_by_on, sent_by_len));
        params.are_well_formed().then_some(Self { transport, host, port, params, address })
    }
}

fn append_address(out: &mut Vec<u8>, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            for (place, octet) in address.octets().into_iter().enumerate() {
                if place > 0 {
                    out.push(b'.');
                }
                scan::append_number(out, octet.into());
            }
        }
        // Writing to a Vec cannot fail.
        IpAddr::V6(address) => _ = write!(out, "{address}"),
    }
}

/// Splits an element into version, transport, and what follows them.
fn sent_protocol(value: &[u8]) -> Option<(&[u8], &[u8], &[u8])> {
    let (protocol, rest) = scan::split_once(scan::trim(value), b'/')?;
    let (version, rest) = scan::split_once(rest, b'/')?;
    let rest = scan::trim_start(rest);
    let transport_len = rest.iter().take_while(|&&byte| scan::is_token_byte(byte)).count();
    let (transport, rest) = (scan::head(rest, transport_len), scan::tail(rest, transport_len));
    let sent_by_on = scan::trim_start(rest);
    let is_sound = scan::trim_end(protocol).eq_ignore_ascii_case(b"SIP")
        && !transport.is_empty()
        && sent_by_on.len() < rest.len();
    is_sound.then_some((scan::trim(version), transport, sent_by_on))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_via_is_read() {
        let via = Via::parse(b"SIP/2.0/UDP 192.0.2.1:5061;branch=z9hG4bK1;rport").unwrap();
        assert_eq!((via.transport, via.host), (&b"UDP"[..], &b"192.0.2.1"[..]));
        assert_eq!((via.port, via.branch()), (Some(5061), Some(&b"z9hG4bK1"[..])));
        assert_eq!((via.rport(), via.received()), (Some(None), None));
    }

    #[test]
    fn white_space_and_folding_are_allowed_everywhere_the_grammar_has_them() {
        let via =
            Via::parse(b"sip / 2.0\r\n / tcp \t first.example.com : 4000 ;\r\n branch = z9hG4bKa ")
                .unwrap();
        assert_eq!((via.transport, via.host), (&b"tcp"[..], &b"first.example.com"[..]));
        assert_eq!((via.port, via.branch()), (Some(4000), Some(&b"z9hG4bKa"[..])));
    }

    #[test]
    fn ipv6_references_keep_their_brackets() {
        let via =
            Via::parse(b"SIP/2.0/TLS [2001:db8::9:1]:5061;received=[2001:db8::9:255];rport=7")
                .unwrap();
        assert_eq!((via.host, via.port), (&b"[2001:db8::9:1]"[..], Some(5061)));
        assert_eq!(via.received(), "2001:db8::9:255".parse().ok());
        assert_eq!(via.rport(), Some(Some(7)));
        assert_eq!(Via::parse(b"SIP/2.0/UDP [2001:db8::1]").map(|via| via.port), Ok(None));
    }

    #[test]
    fn broken_vias_are_refused() {
        for bad in [
            &b""[..],
            b"SIP/2.0/UDP",
            b"SIP/2.0/UDP ;branch=1",
            b"SIP/7.0/UDP a",
            b"HTTP/2.0/UDP a",
            b"SIP/2.0/UDP 192.0.2.15;;,;,,",
            b"SIP/2.0/UDP 2001:db8::1:5060",
            b"SIP/2.0/UDP [2001:db8::1",
            b"SIP/2.0/UDP [nonsense]",
            b"SIP/2.0/UDP a:99999",
            b"SIP/2.0/UDP a:",
            b"SIP/2.0/UDP a b",
        ] {
            assert!(Via::parse(bad).is_err(), "{}", bad.escape_ascii());
        }
    }

    #[test]
    fn a_broken_via_may_still_name_its_sender() {
        for line in [
            &b"SIP/2.0/UDP 192.0.2.15;;,;,,"[..],
            b"SIP/7.0/UDP c.example.com;branch=z9hG4bKkdjuw",
            b"SIP / 2.0 / TCP [2001:db8::1]:5061 ;branch",
            b"SIP/2.0/UDP a, SIP/2.0/UDP",
        ] {
            assert!(Via::names_its_sender(line), "{}", line.escape_ascii());
        }
        for line in [&b""[..], b"SIP/2.0/UDP", b"SIP/2.0/UDP ;a", b"HTTP/2.0/UDP a", b";a"] {
            assert!(!Via::names_its_sender(line), "{}", line.escape_ascii());
        }
    }

    fn noted(element: &str, source: &str) -> Option<String> {
        Via::with_source(element.as_bytes(), source.parse().unwrap())
            .map(|bytes| String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_sender_that_wrote_its_own_address_needs_no_note() {
        assert_eq!(noted("SIP/2.0/UDP 192.0.2.1:5060;branch=1", "192.0.2.1:9"), None);
        assert_eq!(noted("SIP/2.0/UDP [2001:DB8::1];branch=1", "[2001:db8::1]:9"), None);
        assert_eq!(noted("SIP/2.0/UDP 192.0.2.1;branch=1", "[::ffff:192.0.2.1]:9"), None);
    }

    #[test]
    fn a_name_or_another_address_gets_received() {
        assert_eq!(
            noted("SIP/2.0/UDP host.example.com ;branch=1", "192.0.2.1:9").unwrap(),
            "SIP/2.0/UDP host.example.com;branch=1;received=192.0.2.1"
        );
        assert_eq!(
            noted("SIP/2.0/UDP 10.0.0.1;branch=1", "[2001:db8::1]:9").unwrap(),
            "SIP/2.0/UDP 10.0.0.1;branch=1;received=2001:db8::1"
        );
    }

    #[test]
    fn rport_is_filled_and_brings_received_even_when_the_address_is_right() {
        assert_eq!(
            noted("SIP/2.0/UDP 192.0.2.1;rport;branch=1", "192.0.2.1:4711").unwrap(),
            "SIP/2.0/UDP 192.0.2.1;branch=1;rport=4711;received=192.0.2.1"
        );
    }

    #[test]
    fn white_space_before_the_next_element_is_no_part_of_the_parameters() {
        assert_eq!(
            noted("SIP / 2.0 / TCP a.example  ;\r\n branch = z9hG4bK9 \t", "192.0.2.1:9").unwrap(),
            "SIP / 2.0 / TCP a.example;branch=z9hG4bK9;received=192.0.2.1"
        );
    }

    #[test]
    fn what_the_sender_says_about_itself_is_not_believed() {
        assert_eq!(
            noted("SIP/2.0/UDP 192.0.2.1;received=198.51.100.9;branch=1", "192.0.2.1:9").unwrap(),
            "SIP/2.0/UDP 192.0.2.1;branch=1"
        );
        assert_eq!(
            noted("SIP/2.0/UDP a.example;Received=198.51.100.9;rport=1", "192.0.2.1:9").unwrap(),
            "SIP/2.0/UDP a.example;rport=9;received=192.0.2.1"
        );
    }
}
