//! `asnCheckConnection` and `asnNegotiateServerConnectionV2`: who is talking to whom.

use std::ops::Range;

use crate::ucsap::{Malformed, Member, Piece, Value};

const CLIENT_DEVICE: Member = Member::nth("u8sClientDeviceId", 2);
const CLIENT_VERSION: Member = Member::nth("u8sClientVersion", 3);
const CLIENT_APP: Member = Member::nth("eClientAppID", 4);
const FORMER_CONNECTION: Member = Member::tagged("u8sConnectionGUID", 0);

const NEGOTIATED: Member = Member::tagged("result", 0);
const BUSY: Member = Member::tagged("busy", 1);
const INCOMPATIBLE: Member = Member::tagged("incompatible", 2);
const CONNECTION: Member = Member::nth("u8sConnectionGUID", 6);
const BUSY_SECONDS: Member = Member::nth("iServerBusyTimeout", 0);
const INTERFACE_VERSION: Member = Member::nth("u8sServerInterfaceVersion", 0);

/// `AsnClientAppID` of ProCall Web, whose users are assigned to servers by hand.
pub const APP_PROCALL_WEB: i64 = 15;

/// What a client says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negotiation {
    /// Names the device for good.
    pub device: String,
    /// The product version of the client.
    pub version: String,
    /// `AsnClientAppID`.
    pub app: i64,
    /// It is coming back: the GUID of its former connection.
    pub former: Option<String>,
}

impl Negotiation {
    /// Reads the argument.
    ///
    /// # Errors
    /// It lacks what it must have.
    pub fn read(argument: &Value<'_>) -> Result<Self, Malformed> {
        let former = argument.member(&FORMER_CONNECTION)?;
        Ok(Self {
            device: argument.required(&CLIENT_DEVICE)?.text()?.into_owned(),
            version: argument.required(&CLIENT_VERSION)?.text()?.into_owned(),
            app: argument.required(&CLIENT_APP)?.integer()?,
            former: former.map(|former| former.text().map(Into::into)).transpose()?,
        })
    }

    /// The argument a client would send.
    pub fn piece(&self, device_name: &str) -> Piece {
        let mut members = vec![
            (Member::nth("u8sMinSupportedInterfaceVersion", 0), Piece::text("6.0.0")),
            (Member::nth("u8sMaxSupportedInterfaceVersion", 1), Piece::text("8.0.0")),
            (CLIENT_DEVICE, Piece::text(&*self.device)),
            (CLIENT_VERSION, Piece::text(&*self.version)),
            (CLIENT_APP, Piece::Enumerated(self.app)),
            (Member::nth("u8sClientDeviceName", 5), Piece::text(device_name)),
            (Member::nth("iClientCapabilities", 6), Piece::Integer(0)),
        ];
        if let Some(former) = &self.former {
            members.push((FORMER_CONNECTION, Piece::text(&**former)));
        }
        Piece::Sequence(members)
    }
}

/// What the server answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Negotiated {
    /// Go on.
    Done {
        /// The connection's GUID.
        connection: String,
        /// Where it stands in the message.
        at: Range<usize>,
    },
    /// Come back later.
    Busy {
        /// In so many seconds.
        seconds: i64,
    },
    /// No common version of the interface.
    Incompatible,
}

impl Negotiated {
    /// Reads the result.
    ///
    /// # Errors
    /// It is none of the three.
    pub fn read(result: &Value<'_>) -> Result<Self, Malformed> {
        match result.alternative(&[NEGOTIATED, BUSY, INCOMPATIBLE])? {
            Some((0, done)) => {
                let connection = done.required(&CONNECTION)?;
                Ok(Self::Done { connection: connection.text()?.into(), at: connection.span() })
            }
            Some((1, busy)) => Ok(Self::Busy { seconds: busy.required(&BUSY_SECONDS)?.integer()? }),
            Some((2, _)) => Ok(Self::Incompatible),
            _ => Err(Malformed("an answer to a negotiation that is none of the three")),
        }
    }
}

/// A server that is busy.
pub fn busy(seconds: i64) -> Piece {
    Piece::choice(BUSY, Piece::Sequence(vec![(BUSY_SECONDS, Piece::Integer(seconds))]))
}

/// A server that shares no version with the client.
pub fn incompatible(interface_version: &str) -> Piece {
    let version = (INTERFACE_VERSION, Piece::text(interface_version));
    Piece::choice(INCOMPATIBLE, Piece::Sequence(vec![version]))
}

/// What a server says of itself, as far as anybody here cares.
#[derive(Clone, Debug)]
pub struct Identity<'a> {
    /// `AsnNegotiateServerConnectionServerTypeV2`: 2 for one of several servers.
    pub server_type: i64,
    /// Version of the interface.
    pub interface_version: &'a str,
    /// Version of the server.
    pub server_version: &'a str,
    /// Version of the product, as `2603.0`.
    pub product_version: &'a str,
    /// Days since 30 December 1899, as the interface counts time.
    pub time: f64,
    /// Presence domains.
    pub presence_domains: &'a [&'a str],
}

impl Identity<'_> {
    /// The answer to a negotiation.
    pub fn negotiated(&self, connection: &str) -> Piece {
        let domains = self.presence_domains.iter().map(|domain| Piece::text(*domain)).collect();
        Piece::choice(
            NEGOTIATED,
            Piece::Sequence(vec![
                (Member::nth("eServerType", 0), Piece::Enumerated(self.server_type)),
                (Member::nth("u8sServerInterfaceVersion", 1), Piece::text(self.interface_version)),
                (Member::nth("eAuthenticationMethod", 2), Piece::Enumerated(0)),
                (Member::nth("sServerAuthentication", 3), Piece::Octets(Vec::new())),
                (Member::nth("stServerTime", 4), Piece::Real(self.time)),
                (Member::nth("u8sServerVersion", 5), Piece::text(self.server_version)),
                (CONNECTION, Piece::text(connection)),
                (Member::nth("u8sPresenceDomains", 7), Piece::List(domains)),
                (Member::tagged("u8sProductVersion", 1), Piece::text(self.product_version)),
            ]),
        )
    }

    /// The answer to `asnCheckConnection`.
    pub fn checked(&self, cookie: &str) -> Piece {
        Piece::Sequence(vec![
            (Member::nth("u8sServerVersion", 0), Piece::text(self.server_version)),
            (Member::nth("u8sProductVersion", 1), Piece::text(self.product_version)),
            (Member::nth("iProtocolVersion", 2), Piece::Integer(70)),
            (Member::nth("iOEMID", 3), Piece::Integer(0)),
            (Member::nth("u8sCookie", 4), Piece::text(cookie)),
        ])
    }
}

/// `u8sProductVersion` of an answer to `asnCheckConnection`.
///
/// # Errors
/// It is not there.
pub fn checked_product_version(result: &Value<'_>) -> Result<String, Malformed> {
    Ok(result.required(&Member::nth("u8sProductVersion", 1))?.text()?.into_owned())
}
