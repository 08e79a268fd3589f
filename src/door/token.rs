//! Path tokens: how a server names a binding on the way back to its phone.
//!
//! A token is the binding's key and a truncated HMAC-SHA256 over it, in base64url: 22 characters
//! that fit the user part of a SIP URI unescaped. Without the key nobody can make one, so a
//! token that checks out was given to a server by this door or one that shares its key.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use crate::door::slots::SlotId;
use crate::private::Private;

const MAC_LEN: usize = 8;
const RAW_LEN: usize = 8 + MAC_LEN;
/// Length of a token in characters.
pub(crate) const TOKEN_LEN: usize = 22;

/// The name of a binding in a Path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Token([u8; TOKEN_LEN]);

impl Token {
    pub(crate) const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Makes and checks Path tokens.
pub(crate) struct PathTokens {
    keyed: Hmac<Sha256>,
}

impl std::fmt::Debug for PathTokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PathTokens(…)")
    }
}

impl PathTokens {
    pub(crate) fn new(key: &Private<[u8; 32]>) -> Self {
        let key: &[u8; 32] = key.reveal();
        Self { keyed: Hmac::new(&(*key).into_block()) }
    }

    /// The token of a binding.
    pub(crate) fn issue(&self, binding: SlotId) -> Token {
        let id = binding.to_u64().to_be_bytes();
        let mut raw = [0; RAW_LEN];
        raw[..8].copy_from_slice(&id);
        raw[8..].copy_from_slice(&self.mac(&id));
        let mut token = Token::default();
        // It fits to the octet: sixteen octets are twenty-two characters.
        let _ = URL_SAFE_NO_PAD.encode_slice(raw, &mut token.0);
        token
    }

    /// The binding a token names; `None` for anything this key did not make.
    pub(crate) fn read(&self, token: &[u8]) -> Option<SlotId> {
        if token.len() != TOKEN_LEN {
            return None;
        }
        let mut raw = [0; RAW_LEN];
        let len = URL_SAFE_NO_PAD.decode_slice(token, &mut raw).ok()?;
        let (id, mac) = raw.split_first_chunk::<8>()?;
        let genuine = len == RAW_LEN && bool::from(mac.ct_eq(&self.mac(id)));
        genuine.then(|| SlotId::from_u64(u64::from_be_bytes(*id)))
    }

    fn mac(&self, id: &[u8; 8]) -> [u8; MAC_LEN] {
        let mut mac = self.keyed.clone();
        mac.update(b"path");
        mac.update(id);
        let full = mac.finalize().into_bytes();
        let mut short = [0; MAC_LEN];
        short.copy_from_slice(&full[..MAC_LEN]);
        short
    }
}

/// HMAC's key block from a 32-octet key (RFC 2104 §2: padded with zeros to the block size).
trait IntoBlock {
    fn into_block(self) -> hmac::digest::Key<Hmac<Sha256>>;
}

impl IntoBlock for [u8; 32] {
    fn into_block(self) -> hmac::digest::Key<Hmac<Sha256>> {
        let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
        block[..32].copy_from_slice(&self);
        block
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(key: u8) -> PathTokens {
        PathTokens::new(&Private::new([key; 32]))
    }

    #[test]
    fn a_token_comes_back_and_a_forged_one_does_not() {
        let id = SlotId::from_u64(0x1234_5678_9abc_def0);
        let token = tokens(1).issue(id);
        assert_eq!(tokens(1).read(token.as_bytes()), Some(id));
        assert_eq!(tokens(2).read(token.as_bytes()), None, "another key");
        for at in 0..TOKEN_LEN - 1 {
            let mut forged = token.as_bytes().to_vec();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(tokens(1).read(&forged), None, "changed at {at}");
        }
        for junk in ["", "AAAA", "!!!!!!!!!!!!!!!!!!!!!!", "AAAAAAAAAAAAAAAAAAAAAA"] {
            assert_eq!(tokens(1).read(junk.as_bytes()), None);
        }
    }
}
