//! What a test or an operator can see.

use crate::ucsap::Operation;
use crate::ucserver::clients::Clients;
use crate::ucserver::clients::connections::Session;

/// What a simulated server knows of its clients, for whoever wants to look.
#[derive(Clone, Copy, Debug)]
pub struct ClientsView<'s>(pub(in crate::ucserver) &'s Clients);

/// Somebody who is logged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoginView<'s> {
    /// Login name.
    pub user: &'s str,
    /// On which connection.
    pub connection: u64,
    /// The session on it, if it has a name.
    pub session: Option<&'s str>,
    /// `u8sConnectionGUID`, as the server named it.
    pub guid: &'s str,
    /// The GUID of the client's former connection, if it named one.
    pub former: Option<&'s str>,
    /// `u8sClientDeviceId`.
    pub device: &'s str,
    /// `u8sClientVersion`.
    pub client_version: &'s str,
}

/// A monitor of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MonitorView<'s> {
    /// `u8sMonitorCrossRefID`.
    pub cross_ref: &'s str,
    /// The line's URI.
    pub line: &'s str,
    /// On which connection.
    pub connection: u64,
    /// The session on it, if it has a name.
    pub session: Option<&'s str>,
}

/// Something that a client wants to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscriptionView<'s> {
    /// Whose, by login name.
    pub user: &'s str,
    /// On which connection.
    pub connection: u64,
    /// What was asked.
    pub operation: Operation,
    /// Of whom or what; empty where all is meant.
    pub what: &'s str,
}

/// A call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallView<'s> {
    /// `u8sConnectionID`.
    pub id: &'s str,
    /// The line's URI.
    pub line: &'s str,
    /// The number at the other end.
    pub number: &'s str,
    /// `iCallState`.
    pub state: i64,
    /// This side dialled.
    pub is_outbound: bool,
}

impl<'s> ClientsView<'s> {
    /// How many connections there are.
    pub fn connections(&self) -> usize {
        self.0.connections.len()
    }

    /// Who is logged in, by connection.
    pub fn logins(&self) -> impl Iterator<Item = LoginView<'s>> + use<'s> {
        self.sessions().filter_map(|(connection, name, session)| {
            Some(LoginView {
                user: session.user.as_deref()?,
                connection,
                session: name,
                guid: &session.guid,
                former: session.client.former.as_deref(),
                device: &session.client.device,
                client_version: &session.client.version,
            })
        })
    }

    /// How many users are logged in, on however many connections.
    pub fn users(&self) -> usize {
        self.0.users()
    }

    /// What is monitored, in the order in which it began.
    pub fn monitors(&self) -> impl Iterator<Item = MonitorView<'s>> + use<'s> {
        self.0.lines.monitors.values().map(|monitor| MonitorView {
            cross_ref: &monitor.cross_ref,
            line: &monitor.line,
            connection: monitor.at.connection,
            session: monitor.at.session.as_deref(),
        })
    }

    /// What is subscribed to, by connection. Enumerations of lines that are to be kept up to date
    /// are among it.
    pub fn subscriptions(&self) -> impl Iterator<Item = SubscriptionView<'s>> + use<'s> {
        self.sessions().flat_map(|(connection, _, session)| {
            let user = session.user.as_deref().unwrap_or_default();
            let lines = session.lines_watched.as_ref().map(|_| (Operation::ENUM_LINES, ""));
            let others = session.subscriptions.iter().map(|(operation, what)| {
                (Operation(*operation), what.split('\n').next().unwrap_or_default())
            });
            lines.into_iter().chain(others).map(move |(operation, what)| SubscriptionView {
                user,
                connection,
                operation,
                what,
            })
        })
    }

    /// The calls there are, by id.
    pub fn calls(&self) -> impl Iterator<Item = CallView<'s>> + use<'s> {
        self.0.lines.calls.values().map(|call| CallView {
            id: &call.id,
            line: &call.line,
            number: &call.number,
            state: call.state as i64,
            is_outbound: call.is_outbound,
        })
    }

    fn sessions(&self) -> impl Iterator<Item = (u64, Option<&'s str>, &'s Session)> + use<'s> {
        self.0.connections.iter().flat_map(|(connection, entry)| {
            let named = |(name, session)| (*connection, Option::as_deref(name), session);
            entry.sessions.iter().map(named)
        })
    }
}
