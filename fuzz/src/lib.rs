//! What the fuzz targets do with their octets: one `run` each, which panics where a promise is
//! broken. cargo-fuzz calls them, and so do the tests of the core, on stable.

pub mod codec;
pub mod framing;
pub mod operations;
pub mod ucsap;
pub mod ucws;
