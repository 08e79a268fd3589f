//! [`Tokens`]: what a login is given for the next one, and JWTs of others.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

use crate::now::Uptime;

/// Whom a token names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::ucserver) enum Bearer {
    User(Arc<str>),
    Expired,
    Unknown,
}

/// The tokens of this life of the server; they do not print.
#[derive(Default)]
pub(in crate::ucserver) struct Tokens {
    /// By the token, whose it is and until when. Never walked.
    all: HashMap<Arc<str>, (Arc<str>, Uptime)>,
    /// Oldest first.
    order: VecDeque<Arc<str>>,
}

impl Tokens {
    /// A new one. An expired one is kept as long as there is room, so that it can be told from one
    /// that never was.
    pub(in crate::ucserver) fn issue(
        &mut self,
        rng: &mut fastrand::Rng,
        user: &Arc<str>,
        until: Uptime,
        limit: usize,
    ) -> Arc<str> {
        while self.order.len() >= limit.max(1) {
            let Some(oldest) = self.order.pop_front() else { break };
            self.all.remove(&oldest);
        }
        let token: Arc<str> = Arc::from(format!("uct-{:016x}{:016x}", rng.u64(..), rng.u64(..)));
        self.all.insert(Arc::clone(&token), (Arc::clone(user), until));
        self.order.push_back(Arc::clone(&token));
        token
    }

    /// Whom `token` names: one of these, or a JWT with `sub` and `exp` (RFC 7519 §4.1).
    pub(in crate::ucserver) fn bearer(&self, token: &str, now: Uptime, wall: SystemTime) -> Bearer {
        if let Some((user, until)) = self.all.get(token) {
            return if *until > now { Bearer::User(Arc::clone(user)) } else { Bearer::Expired };
        }
        let Some((user, expires)) = claims(token) else { return Bearer::Unknown };
        let wall = wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if expires > wall.as_secs_f64() { Bearer::User(user.into()) } else { Bearer::Expired }
    }

    /// Their time is over.
    pub(in crate::ucserver) fn expire(&mut self, now: Uptime) {
        for token in &self.order {
            if let Some((_, until)) = self.all.get_mut(token) {
                *until = (*until).min(now);
            }
        }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("count", &self.order.len()).finish_non_exhaustive()
    }
}

fn claims(token: &str) -> Option<(String, f64)> {
    let mut parts = token.split('.');
    let (_, payload, _, None) = (parts.next()?, parts.next()?, parts.next()?, parts.next()) else {
        return None;
    };
    let claims = Zeroizing::new(URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?);
    let claims: serde_json::Value = serde_json::from_slice(&claims).ok()?;
    Some((claims.get("sub")?.as_str()?.to_owned(), claims.get("exp")?.as_f64()?))
}
