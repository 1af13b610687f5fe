//! The most memory that this process has held.

/// Looks at the peak since it was begun.
pub(super) struct Peak;

impl Peak {
    /// Forgets what the process held before, where the system can.
    pub(super) fn begin() -> Self {
        // proc(5): 5 resets the peak resident set size. Where it cannot, the peak is the process's.
        drop(std::fs::write("/proc/self/clear_refs", "5"));
        Self
    }

    /// Megabytes at the peak; 0 where the system does not say.
    pub(super) fn megabytes(&self) -> u64 {
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        status
            .lines()
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .and_then(|rest| rest.split_whitespace().next())
            .and_then(|kilobytes| kilobytes.parse::<u64>().ok())
            .map_or(0, |kilobytes| kilobytes / 1024)
    }
}
