//! A front door for a pool of UCServers: phones register here, and when a server dies its users
//! are registered at another one without noticing.
//!
//! # The life of a REGISTER
//!
//! ```text
//!  phone ─▶ net ─▶ sip ─▶ door ─┬─ unchanged ────────────────────────────▶ 200
//!                               └─ directory, cluster ─▶ decision ─▶ placement
//!                                         │ this server
//!                                         ▼
//!                                  REGISTER ─▶ server ─▶ store ─▶ 200
//! ```
//!
//! It comes in by a socket ([`net`]), is indexed, not copied ([`sip`]), and goes into a machine
//! that has no clock, no socket and no disk ([`door`]). If nothing changed, the door answers. Else it
//! looks up whose it is ([`directory`]) and how the servers are ([`cluster`]), asks for one verdict
//! ([`decision`]) and, where a server must be found, for the best one ([`placement`]). The server's
//! 200 is made durable ([`store`]), and then the phone is told.
//!
//! When a server dies, the same pieces run in the other order: `cluster` proves it, `placement`
//! plans everybody at once, `store` records it, and `door` registers the bindings elsewhere.
//!
//! ```no_run
//! # fn settings() -> frontdoor::door::Settings { unimplemented!() }
//! # fn now() -> frontdoor::now::Now { unimplemented!() }
//! use frontdoor::door::{Door, Input};
//!
//! // The whole of the core: one input, all its outputs, the next deadline.
//! let mut door = Door::new(settings(), Default::default(), now());
//! door.handle(now(), Input::Timeout);
//! while let Some(output) = door.poll() {
//!     println!("{output:?}");
//! }
//! let sleep_until = door.next();
//! # drop(sleep_until);
//! ```

// In the order a packet meets them.

pub mod net;

pub mod sip;

pub mod ucsap;

pub mod ucws;

pub mod door;

pub mod directory;

pub mod cluster;

pub mod decision;

pub mod placement;

pub mod recovery;

pub mod store;

// What is shown of it.

pub mod admin;

pub mod telemetry;

pub mod reports;

// What everything stands on.

pub mod now;

pub mod timers;

pub mod private;

pub mod arena;

// The other side, simulated.

pub mod ucserver;

pub mod load;

// What people type and write, wired to all of it.

pub mod config;

pub mod cli;
