//! Bytes ⇄ UCSAP: what the UCServers' clients speak, ROSE in BER or in JSON, on a stream.

pub mod framing;
