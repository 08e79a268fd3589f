//! How a simulated server serves clients.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::private::Private;

/// Octets of a login name.
const NAME_MAX: usize = 256;

/// How a simulated UCServer serves the clients that speak UCSAP to it.
#[derive(Clone, Debug)]
pub struct ClientSettings {
    /// Whom it knows, by login name of at most 256 octets. `None`: everybody, each with the password
    /// [`ClientSettings::password_of`] and the one line [`ClientSettings::line_of`].
    pub users: Option<BTreeMap<String, ClientUser>>,
    /// Lines that users have beyond those, by login name.
    pub more_lines: BTreeMap<String, Vec<String>>,
    /// Users who belong to another server, by login name. They are sent there in the mood
    /// [`StrictHome`](crate::ucserver::Mood::StrictHome), and served otherwise.
    pub homes: BTreeMap<String, ClientHome>,
    /// The version of the interface it speaks. A client whose range does not hold it is told
    /// `incompatible`.
    pub interface_version: String,
    /// The version of the server, as clients are told. The product's is
    /// [`Settings::version`](crate::ucserver::Settings::version).
    pub server_version: String,
    /// If set, each negotiation is answered `busy` with these seconds.
    pub busy_secs: Option<u32>,
    /// How long a token is good that it hands out.
    pub token_lifetime: Duration,
    /// A connection that says nothing for so long is closed.
    pub idle: Duration,
    /// How long a call dials before it rings at the other end.
    pub ringback_after: Duration,
    /// How long it rings there before somebody answers.
    pub connected_after: Duration,
    /// If set, each line that is monitored tells its monitors so often what they know already
    /// (`asnCtiNotifyLineInfoChanged`). When each does is spread over that time by its name.
    pub line_events_every: Option<Duration>,
    /// How much there may be of everything.
    pub limits: ClientLimits,
}

/// A user as a client logs in.
#[derive(Clone, Debug)]
pub struct ClientUser {
    /// In the clear.
    pub password: Private<String>,
    /// Line URIs, as in `tel:+4930123@pbx`, the primary one first.
    pub lines: Vec<String>,
}

/// Where a user belongs who does not belong here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientHome {
    /// To the server at `host:port`: they are sent there.
    At(String),
    /// To a server whose address is not known: they are refused.
    Unknown,
}

/// How much there may be of everything. What is beyond is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientLimits {
    /// Connections; more are closed as they come.
    pub connections: usize,
    /// Sessions of one connection.
    pub sessions: usize,
    /// Invokes of one connection that are not answered yet.
    pub invokes: usize,
    /// Subscriptions of one session.
    pub subscriptions: usize,
    /// Lines that anything is known of.
    pub lines: usize,
    /// Monitors of one session.
    pub monitors_of_session: usize,
    /// Monitors in all.
    pub monitors: usize,
    /// Calls of one line.
    pub calls_of_line: usize,
    /// Calls in all.
    pub calls: usize,
    /// Forwards of one line.
    pub forwards: usize,
    /// Tokens; beyond that the oldest is forgotten.
    pub tokens: usize,
    /// Messages that wait for a slow server; a client that is to get more is cut off.
    pub late: usize,
}

impl ClientSettings {
    /// The password of a user where everybody is known: the name with `pw-` before it.
    pub fn password_of(user: &str) -> String {
        format!("pw-{user}")
    }

    /// The line of a user where everybody is known: `tel:+4930N@pbx`, where N is twelve digits of
    /// the name's FNV-1a hash (64 bits, modulo 10^12).
    pub fn line_of(user: &str) -> String {
        format!("tel:+4930{:012}@pbx", fnv(user.as_bytes()) % 1_000_000_000_000)
    }

    /// A JWT that says `user` in `sub`, good until `until`. Nothing signs it; nobody here checks
    /// signatures.
    pub fn jwt(user: &str, until: SystemTime) -> String {
        let until = until.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let claims = serde_json::json!({"sub": user, "exp": until}).to_string();
        let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.{}", part(r#"{"alg":"none","typ":"JWT"}"#), part(&claims), part("none"))
    }

    /// The lines of a user, the primary one first.
    pub fn lines_of(&self, user: &str) -> Vec<String> {
        let mut lines = match &self.users {
            None => vec![Self::line_of(user)],
            Some(users) => users.get(user).map(|user| user.lines.clone()).unwrap_or_default(),
        };
        lines.extend(self.more_lines.get(user).into_iter().flatten().cloned());
        lines
    }

    pub(in crate::ucserver) fn knows(&self, user: &str) -> bool {
        let fits = (1..=NAME_MAX).contains(&user.len());
        fits && self.users.as_ref().is_none_or(|users| users.contains_key(user))
    }

    pub(in crate::ucserver) fn takes(&self, user: &str, password: &str) -> bool {
        match &self.users {
            None => password == Self::password_of(user),
            Some(users) => users.get(user).is_some_and(|it| it.password.reveal() == password),
        }
    }

    /// Whether anybody could have the line.
    pub(in crate::ucserver) fn is_line(&self, line: &str) -> bool {
        let is_it = |lines: &Vec<String>| lines.iter().any(|it| it == line);
        self.users.as_ref().is_none_or(|users| users.values().any(|user| is_it(&user.lines)))
            || self.more_lines.values().any(is_it)
    }
}

impl Default for ClientSettings {
    fn default() -> Self {
        Self {
            users: None,
            more_lines: BTreeMap::new(),
            homes: BTreeMap::new(),
            interface_version: String::from("8.0.0"),
            server_version: String::from("8.5.0.1"),
            busy_secs: None,
            token_lifetime: Duration::from_secs(8 * 3600),
            idle: Duration::from_secs(60),
            ringback_after: Duration::from_millis(300),
            connected_after: Duration::from_secs(2),
            line_events_every: None,
            limits: ClientLimits::default(),
        }
    }
}

impl Default for ClientLimits {
    fn default() -> Self {
        Self {
            connections: 40_000,
            sessions: 64,
            invokes: 1024,
            subscriptions: 1024,
            lines: 65_536,
            monitors_of_session: 1024,
            monitors: 131_072,
            calls_of_line: 16,
            calls: 65_536,
            forwards: 16,
            tokens: 65_536,
            late: 262_144,
        }
    }
}

/// FNV-1a, 64 bits.
pub(in crate::ucserver) fn fnv(octets: &[u8]) -> u64 {
    octets.iter().fold(0xCBF2_9CE4_8422_2325, |hash: u64, octet| {
        (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01B3)
    })
}
