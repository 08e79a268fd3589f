//! The health document a simulated server serves.

use serde::Serialize;

use crate::ucserver::bindings::Bindings;
use crate::ucserver::settings::Settings;

/// Format 1, by its published field names.
#[derive(Serialize)]
struct Document<'a> {
    format: u32,
    boot_id: &'a str,
    version: &'a str,
    users: Users,
    registrations: usize,
    load: Load,
}

#[derive(Serialize)]
struct Users {
    logged_in: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    capacity: Option<u32>,
}

#[derive(Serialize)]
struct Load {
    cpu_percent: u8,
    memory_percent: u8,
}

/// The document as text.
pub(in crate::ucserver) fn to_json(
    settings: &Settings,
    boot_id: &str,
    bindings: &Bindings,
) -> String {
    let document = Document {
        format: 1,
        boot_id,
        version: &settings.version,
        users: Users { logged_in: bindings.users(), capacity: settings.capacity_users },
        registrations: bindings.len(),
        load: Load { cpu_percent: settings.cpu_percent, memory_percent: settings.memory_percent },
    };
    // Only a map with keys that are no strings or a failing `Serialize` can fail; neither is here.
    serde_json::to_string(&document).unwrap_or_default()
}
