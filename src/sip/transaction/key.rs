//! What makes two messages belong to one transaction (RFC 3261 §17.1.3, §17.2.3).

use std::borrow::Borrow;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use smallvec::SmallVec;

use crate::sip::{CSeq, HeaderName, Message, ParseError, Via};

/// What a branch begins with if its maker promises that it is unique (RFC 3261 §8.1.1.7).
const MAGIC_COOKIE: &[u8] = b"z9hG4bK";

/// Longer identifications are kept as their SHA-256, so that a peer's 60 KiB branch does not
/// occupy 60 KiB until timer J.
const KEPT_LEN_MAX: usize = 128;

/// The identification of one transaction, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Key(Arc<[u8]>);

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        &self.0
    }
}

impl From<&Draft> for Key {
    fn from(draft: &Draft) -> Self {
        Self(draft.as_bytes().into())
    }
}

/// An identification on the stack, to look with; becomes a [`Key`] only if it is new.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Draft(SmallVec<[u8; KEPT_LEN_MAX]>);

/// Which rule made a key; keys of different rules never meet.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Rule {
    Client,
    Server,
    ServerRfc2543,
    Digest,
}

impl Draft {
    /// A client transaction, by what its owner puts into request and top Via.
    pub(super) fn client(branch: &[u8], method: &str) -> Self {
        Self::of(Rule::Client, &[method.as_bytes(), branch])
    }

    /// The client transaction a response answers: branch of the top Via and method of the CSeq,
    /// because a CANCEL has the branch of what it cancels (RFC 3261 §17.1.3).
    pub(super) fn of_response(via: &Via<'_>, cseq: &CSeq<'_>) -> Option<Self> {
        Some(Self::client(via.branch()?, cseq.method))
    }

    /// The server transaction a request belongs to (RFC 3261 §17.2.3).
    ///
    /// Sent-by is part of it because anybody can choose anybody's branch.
    pub(super) fn of_request(request: &Message, via: &Via<'_>) -> Result<Self, ParseError> {
        let method = request.method().ok_or(ParseError::StartLine)?;
        match via.branch() {
            // The cookie alone tells nothing apart (RFC 4475 §3.2.1).
            Some(branch)
                if branch.len() > MAGIC_COOKIE.len() && branch.starts_with(MAGIC_COOKIE) =>
            {
                let port = via.port.map(u16::to_be_bytes);
                let port = port.as_ref().map_or(&[][..], |port| &port[..]);
                Ok(Self::of(Rule::Server, &[method.as_bytes(), via.host, port, branch]))
            }
            _ => Self::of_rfc2543_request(request),
        }
    }

    /// A peer that makes no promise about its branch is known by everything else it wrote.
    fn of_rfc2543_request(request: &Message) -> Result<Self, ParseError> {
        let cseq = request.cseq()?;
        let uri = request.uri().ok_or(ParseError::StartLine)?;
        let via = request.values(HeaderName::Via).next();
        let parts = [
            cseq.method.as_bytes(),
            &cseq.number.to_be_bytes(),
            uri,
            request.to()?.tag().unwrap_or_default(),
            request.from()?.tag().unwrap_or_default(),
            request.call_id()?,
            via.ok_or(ParseError::Missing(HeaderName::Via))?,
        ];
        Ok(Self::of(Rule::ServerRfc2543, &parts))
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Puts the parts together, each behind its length, so that no two lists of parts look alike.
    fn of(rule: Rule, parts: &[&[u8]]) -> Self {
        let mut bytes = SmallVec::new();
        bytes.push(rule as u8);
        for part in parts {
            let len = u32::try_from(part.len()).unwrap_or(u32::MAX);
            bytes.extend_from_slice(&len.to_be_bytes());
            bytes.extend_from_slice(part);
        }
        if bytes.len() <= KEPT_LEN_MAX {
            return Self(bytes);
        }
        let mut digest = SmallVec::new();
        digest.push(Rule::Digest as u8);
        digest.extend_from_slice(&Sha256::digest(&bytes));
        Self(digest)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// A request whose every line can be exchanged.
    fn request(via: &str, cseq: &str) -> Message {
        let method = cseq.split(' ').nth(1).unwrap();
        written(&format!(
            "{method} sip:example.com SIP/2.0\r\nVia: {via}\r\nFrom: <sip:a@example.com>;tag=f\r\n\
             To: <sip:a@example.com>\r\nCall-ID: c1\r\nCSeq: {cseq}\r\nContent-Length: 0\r\n\r\n"
        ))
    }

    fn written(text: &str) -> Message {
        Message::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap()
    }

    fn draft(request: &Message) -> Result<Draft, ParseError> {
        Draft::of_request(request, &request.top_via()?)
    }

    fn answer(response: &Message) -> Option<Draft> {
        Draft::of_response(&response.top_via().ok()?, &response.cseq().ok()?)
    }

    fn of(via: &str, cseq: &str) -> Draft {
        draft(&request(via, cseq)).unwrap()
    }

    #[test]
    fn a_promised_branch_identifies_whatever_else_changes() {
        let first = of("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa", "1 REGISTER");
        let again = of("SIP/2.0/TCP 192.0.2.1;rport;branch=z9hG4bKa", "2 REGISTER");
        assert_eq!(first, again);
    }

    #[test]
    fn another_host_port_method_or_branch_is_another_transaction() {
        let all = [
            of("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa", "1 REGISTER"),
            of("SIP/2.0/UDP 192.0.2.2;branch=z9hG4bKa", "1 REGISTER"),
            of("SIP/2.0/UDP 192.0.2.1:5062;branch=z9hG4bKa", "1 REGISTER"),
            of("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKa", "1 OPTIONS"),
            of("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKb", "1 REGISTER"),
            of("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKA", "1 REGISTER"),
        ];
        for (i, one) in all.iter().enumerate() {
            assert_eq!(all.iter().position(|other| other == one), Some(i), "{one:?}");
        }
    }

    #[test]
    fn where_one_part_ends_and_the_next_begins_matters() {
        assert_ne!(Draft::client(b"TIONS", "OP"), Draft::client(b"ONS", "OPTI"));
        assert_ne!(Draft::client(b"b", "REGISTER"), Draft::client(b"REGISTER", "b"));
    }

    #[test]
    fn a_peer_without_magic_cookie_is_known_by_all_it_wrote() {
        let text = "REGISTER sip:example.com SIP/2.0\r\n\
             Via: SIP/2.0/UDP 192.0.2.1;branch=1\r\nFrom: <sip:a@example.com>;tag=f\r\n\
             To: <sip:a@example.com>;tag=t\r\nCall-ID: c1\r\nCSeq: 7 REGISTER\r\n\
             Content-Length: 0\r\n\r\n";
        let first = draft(&written(text)).unwrap();
        assert_eq!(first, draft(&written(text)).unwrap());
        for (was, is) in [
            ("REGISTER sip:example.com", "REGISTER sip:example.net"),
            ("branch=1", "branch=2"),
            (";branch=1", ""),
            ("192.0.2.1", "192.0.2.2"),
            ("tag=f", "tag=g"),
            (";tag=f", ""),
            ("tag=t", "tag=u"),
            ("c1", "c2"),
            ("CSeq: 7", "CSeq: 8"),
        ] {
            let other = text.replace(was, is);
            assert_ne!(other, text);
            assert_ne!(first, draft(&written(&other)).unwrap(), "{was} -> {is}");
        }
    }

    #[test]
    fn only_the_top_via_of_an_old_peer_counts() {
        let one = of("SIP/2.0/UDP 192.0.2.1, SIP/2.0/UDP 192.0.2.8", "1 REGISTER");
        let two = of("SIP/2.0/UDP 192.0.2.1, SIP/2.0/UDP 192.0.2.9", "1 REGISTER");
        assert_eq!(one, two);
    }

    #[test]
    fn a_huge_branch_is_kept_small_and_still_told_apart() {
        let via = |last: char| {
            format!("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK{}{last}", "x".repeat(30_000))
        };
        let (one, two) = (of(&via('a'), "1 REGISTER"), of(&via('b'), "1 REGISTER"));
        assert_eq!(one, of(&via('a'), "1 REGISTER"));
        assert_ne!(one, two);
        assert!(one.as_bytes().len() <= KEPT_LEN_MAX);
    }

    #[test]
    fn what_identifies_a_message_must_be_readable() {
        let no_via = written("OPTIONS sip:a SIP/2.0\r\nCSeq: 1 OPTIONS\r\n\r\n");
        assert!(draft(&no_via).is_err());
        let no_cseq = written("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h;branch=z9hG4bKa\r\n\r\n");
        assert!(answer(&no_cseq).is_none());
        assert_eq!(draft(&no_cseq), Err(ParseError::StartLine));
        let no_branch = written("SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP h\r\nCSeq: 1 OPTIONS\r\n\r\n");
        assert!(answer(&no_branch).is_none());
    }
}
