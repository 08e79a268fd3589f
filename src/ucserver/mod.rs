//! A stand-in for a UCServer: a strict registrar that can be made to misbehave.
//!
//! [`UcServer`] is a pure machine (input in, output out, time as an argument), so that tests play
//! a failover in virtual time; [`run`] puts the same machine on real sockets for the demo and the
//! measurements. It knows nothing of the door: it is the other side's judge, so it takes the
//! standards by the letter (RFC 3261 §10.3, RFC 3327 §5.3) and keeps a [`Journal`] of what
//! really happened. Clients that speak UCSAP are served by `clients`, as strictly.

mod bindings;
mod clients;
mod digest;
mod journal;
mod mood;
mod outbound;
mod refusal;
mod registrar;
pub mod run;
mod serve;
mod server;
mod settings;

pub use bindings::BindingView;
pub use clients::{
    CallRefused, CallView, ClientHome, ClientLimits, ClientSettings, ClientUser, ClientsView,
    LoginView, MonitorView, SubscriptionView, ToClient,
};
pub use digest::{DigestSettings, DigestUser};
pub use journal::{ClientCounters, Counters, Entry, Event, Journal, Unreached};
pub use mood::Mood;
pub use outbound::{PingAllResult, PingRefused};
pub use server::{Input, Output, UcServer};
pub use settings::{PathUnannounced, Settings};

#[cfg(test)]
mod tests;
