//! Addresses and networks as a person writes them. Names are not looked up.

use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::net::SocketAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::de::{Deserialize, Deserializer, Error, Visitor};

use crate::sip::Transport;

/// An IP address with a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Address(pub(super) SocketAddr);

/// An IP network, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Network(pub(super) IpNet);

/// Where a server's registrar listens: transport, IP address, port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SipAddress {
    pub(super) transport: Transport,
    pub(super) address: SocketAddr,
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotAnAddress {
    /// An IP address alone.
    #[error("`{ip}` has no port; write \"{with_port}\"")]
    NoPort {
        /// What was written.
        ip: IpAddr,
        /// With the port that SIP uses.
        with_port: SocketAddr,
    },
    /// Something else, a name perhaps.
    #[error(
        "`{0}` is not an address; write an IP address and a port, such as \"10.0.0.1:5060\" or \
         \"[fd00::1]:5060\" (names are not looked up)"
    )]
    Address(String),
    /// No transport in front of a server's address.
    #[error("`{0}` does not say how SIP is spoken; write \"udp:{0}\" or \"tcp:{0}\"")]
    NoTransport(String),
    /// Neither a network nor an address.
    #[error("`{0}` is not a network; write one such as \"10.0.0.0/8\" or \"fd00::/8\"")]
    Network(String),
}

impl FromStr for Address {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        text.parse().map(Self).map_err(|_| match text.parse() {
            Ok(ip) => NotAnAddress::NoPort { ip, with_port: SocketAddr::new(ip, 5060) },
            Err(_) => NotAnAddress::Address(text.to_owned()),
        })
    }
}

impl FromStr for Network {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let network = text.parse().or_else(|_| text.parse().map(|ip: IpAddr| IpNet::from(ip)));
        network.map(Self).map_err(|_| NotAnAddress::Network(text.to_owned()))
    }
}

impl FromStr for SipAddress {
    type Err = NotAnAddress;

    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        let (transport, address) = match text.split_once(':') {
            Some(("udp", rest)) => (Transport::Udp, rest),
            Some(("tcp", rest)) => (Transport::Tcp, rest),
            Some((..)) | None => return Err(NotAnAddress::NoTransport(text.to_owned())),
        };
        let Address(address) = address.parse()?;
        Ok(Self { transport, address })
    }
}

macro_rules! from_text {
    ($($name:ty, $expecting:literal);+ $(;)?) => { $(
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text::<$name>($expecting, PhantomData))
            }
        }
    )+ };
}

from_text! {
    Address, "an address such as \"10.0.0.1:5060\"";
    Network, "a network such as \"10.0.0.0/8\"";
    SipAddress, "an address such as \"udp:10.0.0.1:5060\"";
}

/// Reads a text by its [`FromStr`].
struct Text<T>(&'static str, PhantomData<T>);

impl<T: FromStr<Err = NotAnAddress>> Visitor<'_> for Text<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}
