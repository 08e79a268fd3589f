//! frontdoor
pub mod now;
pub mod private;
pub mod timers;
pub mod sip;
pub mod cluster;
pub mod directory;
pub mod decision;
pub mod placement;
pub mod door;
pub mod store;
pub mod ucserver;
