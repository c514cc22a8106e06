//! Resident memory of this process, as Linux reports it.

/// `VmRSS`: now, in bytes.
pub(super) fn resident() -> Option<u64> {
    field("VmRSS:")
}

/// `VmHWM`: the highest so far, in bytes.
pub(super) fn highest() -> Option<u64> {
    field("VmHWM:")
}

fn field(name: &str) -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}
