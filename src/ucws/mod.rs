//! The WebService of UCServers: what clients say by HTTP. Requests ⇄ what they want, calls ⇄ ROSE messages.
//!
//! | file | what is there |
//! |---|---|
//! | `exchange` | a request and an answer, as they came |
//! | `route` | what a request wants, by its path |
//! | `opening` | a request for a session: what it shows, and of whom |
//! | `call` | a call by HTTP as a ROSE message, and its answer back |
//! | `words` | what the door says itself, as the WebService says it |
//!
//! The WebService is a second entrance to what UCSAP offers by TCP. A session begins with
//! `createsession`, which is negotiation and login in one; calls by HTTP and messages of its
//! WebSocket are the same invokes. Bodies, members and headers that are not understood here pass
//! untouched.

pub mod call;
pub mod route;
pub mod words;

mod exchange;
mod opening;

pub use exchange::{Answer, Request};
pub use opening::{Opened, Opening, Purpose, Unusable};
