//! What the kernel says of this process.

use std::fs;

/// Resources in use; `None` where the kernel does not say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Process {
    pub(super) resident_bytes: Option<u64>,
    pub(super) open_descriptors: Option<u64>,
    pub(super) most_descriptors: Option<u64>,
}

impl Process {
    /// Asks the kernel: three small reads, not for the packet path.
    pub(super) fn now() -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let entries = fs::read_dir("/proc/self/fd").ok().map(Iterator::count);
        Self {
            resident_bytes: number_after(&status, "VmRSS:").map(|kib| kib.saturating_mul(1024)),
            // Reading the directory takes one itself.
            open_descriptors: entries.and_then(|it| u64::try_from(it.saturating_sub(1)).ok()),
            most_descriptors: number_after(&limits, "Max open files"),
        }
    }
}

fn number_after(text: &str, label: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(label))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_uses_memory_and_descriptors() {
        let process = Process::now();
        assert!(process.resident_bytes.unwrap() > 100_000);
        assert!(process.open_descriptors.unwrap() >= 3);
        assert!(process.most_descriptors.unwrap() >= process.open_descriptors.unwrap());
    }
}
