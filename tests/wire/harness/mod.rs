//! Real processes around the door: simulated servers, Kamailio, phones, SIPp, tshark, curl, Node,
//! Chromium, namespaces.
//!
//! Everything is killed by its own process id when it is dropped; what outlives a test that was
//! killed itself ends with its standard input. Points in time are `CLOCK_MONOTONIC`, which the
//! door's status uses too.

mod attack;
mod baresip;
mod browser;
mod client;
mod crowd;
mod curl;
mod door;
mod http;
mod kamailio;
mod namespace;
mod node;
mod phones;
mod ports;
mod process;
mod relay;
mod secret;
mod server;
mod sipp;
mod sipsak;
mod site;
mod web;
mod wiretap;

use std::time::Duration;

use frontdoor::net::Clock;
use frontdoor::now::Uptime;

pub(crate) use attack::{Attacker, Memory, Neighbours, mib, register_with, source};
pub(crate) use baresip::Baresip;
pub(crate) use browser::{Browser, shown};
pub(crate) use client::Client;
pub(crate) use crowd::{Coming, Crowd, Pace, Tally, Who};
pub(crate) use curl::{Curl, Fetched};
pub(crate) use door::{Door, Setup, served_by, settled};
pub(crate) use http::get;
pub(crate) use kamailio::{Kamailio, Located};
pub(crate) use namespace::Namespace;
pub(crate) use node::Node;
pub(crate) use phones::{Answer, Phones, Wish, aor, ok, register, users};
pub(crate) use ports::{LOCALHOST, LOCALHOST6, free};
pub(crate) use process::{FRONTDOOR, Group, Process, released, run, target};
pub(crate) use relay::Relay;
pub(crate) use secret::Secret;
pub(crate) use server::Server;
pub(crate) use sipp::{Sipp, users_csv};
pub(crate) use sipsak::sipsak;
pub(crate) use site::Site;
pub(crate) use web::{Line, Web};
pub(crate) use wiretap::{Recording, Wiretap};

/// How long anything may take that is no promise of the product.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Between two looks at something that is waited for.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Now, on the clock that all processes share.
pub(crate) fn now() -> Uptime {
    Clock.uptime()
}

/// Lets so much time pass.
pub(crate) fn pause(duration: Duration) {
    let until = now() + duration;
    while now() < until {
        std::thread::park_timeout(until.since(now()));
    }
}

/// Looks again and again until there is something.
pub(crate) fn soon<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, look).unwrap_or_else(|| panic!("{what}: not within {PATIENCE:?}"))
}

/// Looks again and again until there is something, or the time is over.
pub(crate) fn within<T>(patience: Duration, mut look: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = now() + patience;
    loop {
        if let Some(found) = look() {
            return Some(found);
        }
        if now() >= deadline {
            return None;
        }
        pause(LOOK_EVERY);
    }
}
