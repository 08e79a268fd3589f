//! What the door shows of client sessions (V).

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::directory::UserId;
use crate::door::Door;
use crate::door::clients::session::{Session, Stage};
use crate::now::Now;

/// Where a client session stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientStanding {
    /// Somebody is about to log in.
    LoggingIn,
    /// Served.
    Settled,
    /// On its way to another server.
    Moving,
    /// Nobody serves it at the moment.
    Held,
    /// It cannot go on, and is about to be closed.
    Closing,
}

impl ClientStanding {
    /// The word in status.
    pub const fn name(self) -> &'static str {
        match self {
            Self::LoggingIn => "logging_in",
            Self::Settled => "settled",
            Self::Moving => "moving",
            Self::Held => "held",
            Self::Closing => "closing",
        }
    }
}

/// One client session of a user. Nothing of what its client has shown is in it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SessionStatus {
    /// The client's address.
    pub from: Arc<str>,
    /// What kind of client it says it is (`AsnClientAppID`).
    pub app: i64,
    /// Its version, as it says.
    pub version: Arc<str>,
    /// The server that serves it.
    pub server: Option<Arc<str>>,
    /// `logging_in`, `settled`, `moving`, `held`, `closing`.
    pub standing: Arc<str>,
    /// For how many seconds somebody has been logged in.
    pub logged_in_s: u64,
    /// Lines it watches and other things it wants to be told of.
    pub wishes: u64,
}

impl Session {
    fn standing(&self) -> ClientStanding {
        if self.closes_at.is_some() {
            ClientStanding::Closing
        } else if self.stage != Stage::In {
            ClientStanding::LoggingIn
        } else if self.next.is_some() || self.restoring > 0 {
            ClientStanding::Moving
        } else if self.leg.is_none() {
            ClientStanding::Held
        } else {
            ClientStanding::Settled
        }
    }
}

impl Door {
    /// A user's client sessions, in the order of their addresses.
    pub(in crate::door) fn session_statuses(&self, now: Now, user: UserId) -> Vec<SessionStatus> {
        let clients = &self.clients;
        let shown = clients.of(user).into_iter().filter_map(|id| {
            let session = clients.sessions.get(id)?;
            let connection = clients.connections.get(session.connection)?;
            let negotiated = session.negotiated.as_ref().map(|negotiated| &negotiated.client);
            Some(SessionStatus {
                from: connection.flow.remote.to_string().into(),
                app: negotiated.map_or(0, |client| client.app),
                version: negotiated.map_or("", |client| &client.version).into(),
                server: session.leg.as_ref().map(|leg| self.server_name(leg.server)),
                standing: session.standing().name().into(),
                logged_in_s: session.since.map_or(0, |since| now.uptime.since(since).as_secs()),
                wishes: session.wishes.len() as u64,
            })
        });
        let mut shown: Vec<SessionStatus> = shown.collect();
        shown.sort_by(|one, other| one.from.cmp(&other.from));
        shown
    }
}
