//! How much host memory an emulator takes beyond the guest's own pages.

use std::path::Path;

/// The resident set of a process, split at the mapping of the guest's RAM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Residency {
    /// Resident KiB in the mapping of guest RAM: the pages that the guest has touched.
    pub guest_kib: u64,
    /// Resident KiB everywhere else.
    pub overhead_kib: u64,
}

impl Residency {
    /// The residency of process `pid` now. Guest RAM is taken to be every mapping at least half as large as the guest's memory.
    pub fn of(pid: u32, memory_mib: u64) -> Option<Self> {
        let text = std::fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("smaps")).ok()?;
        Some(Self::parse(&text, memory_mib * 1024 / 2))
    }

    fn parse(smaps: &str, guest_mapping_kib: u64) -> Self {
        let mut residency = Self::default();
        let mut mapping_kib = 0;
        for line in smaps.lines() {
            let field = |name: &str| -> Option<u64> {
                line.strip_prefix(name)?.split_whitespace().next()?.parse().ok()
            };
            if let Some(size) = field("Size:") {
                mapping_kib = size;
            } else if let Some(resident) = field("Rss:") {
                if mapping_kib >= guest_mapping_kib {
                    residency.guest_kib += resident;
                } else {
                    residency.overhead_kib += resident;
                }
            }
        }
        residency
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_mapping_is_told_apart() {
        let smaps = "7f00-7f80 rw-p 0 0 0\nSize: 524288 kB\nRss: 1000 kB\n5500-5501 r-xp\nSize: 400 kB\nRss: 300 kB\n";
        assert_eq!(Residency::parse(smaps, 262_144), Residency { guest_kib: 1000, overhead_kib: 300 });
    }
}
