//! The health document a UCServer may serve over HTTP (published in `docs/health-document.md`, with
//! a JSON schema beside it).

use std::sync::Arc;

/// What a server says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Document {
    /// Differs after every start of the process (H8).
    pub boot_id: Arc<str>,
    /// Product version.
    pub version: Option<crate::cluster::Version>,
    /// Users logged in now.
    pub users_logged_in: u32,
    /// Users it can serve.
    pub users_capacity: Option<u32>,
    /// SIP registrations it holds.
    pub registrations: Option<u32>,
    /// Whole per cent.
    pub cpu_percent: Option<u8>,
    /// Whole per cent.
    pub memory_percent: Option<u8>,
}

/// Why there is no usable document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DocumentFault {
    /// No answer over HTTP, or not 200.
    #[error("the health document is not served: {0}")]
    Missing(Arc<str>),
    /// An answer that is not the document.
    #[error("the health document cannot be used: {0}")]
    Invalid(Arc<str>),
}
