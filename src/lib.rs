//! frontdoor
pub mod admin;
pub mod cli;
pub mod cluster;
pub mod config;
pub mod decision;
pub mod directory;
pub mod door;
pub mod net;
pub mod now;
pub mod placement;
pub mod private;
pub mod sip;
pub mod store;
pub mod telemetry;
pub mod timers;
pub mod ucserver;
