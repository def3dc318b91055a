//! The memory map that BIOS call 15h, AX=E820h would give (ACPI specification, 15.1).

use crate::layout::{ACPI_TABLES, CONVENTIONAL_END, EBDA, EXTENDED, FOUR_GIB};
use rx86_softmmu::GuestMemory;

/// What a range of the memory map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum RangeKind {
    /// RAM that the system may use.
    Usable = 1,
    /// Not to be used.
    Reserved = 2,
}

/// One range of the memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First guest physical address.
    pub start: u64,
    /// Length in bytes.
    pub bytes: u64,
    /// What it is.
    pub kind: RangeKind,
}

/// The memory map of `memory`: its RAM, without the areas of the BIOS below 1 MiB.
pub fn memory_map(memory: &GuestMemory) -> Vec<Range> {
    let range = |start, end, kind| Range { start, bytes: end - start, kind };
    let conventional = memory.regions().first().map_or(0, |region| region.gpa + region.len);
    let mut map = vec![
        range(0, conventional.min(EBDA), RangeKind::Usable),
        range(EBDA, CONVENTIONAL_END, RangeKind::Reserved),
        range(ACPI_TABLES, EXTENDED, RangeKind::Reserved),
    ];
    for region in memory.regions() {
        let start = region.gpa.max(EXTENDED);
        let end = region.gpa + region.len;
        if end > start {
            map.push(range(start, end, RangeKind::Usable));
        }
    }
    map
}

/// Where all RAM below 4 GiB ends: how large the user sees the guest, up to 3 GiB.
pub(crate) fn below_4g(memory: &GuestMemory) -> u64 {
    let low = memory.regions().into_iter().filter(|region| region.gpa < FOUR_GIB);
    low.map(|region| region.gpa + region.len).max().unwrap_or(0)
}

/// Where the RAM that begins at or below 1 MiB ends: what a 32-bit loader may use.
pub fn low_ram_end(memory: &GuestMemory) -> u64 {
    let covers =
        |region: &&rx86_softmmu::RamRegion| region.gpa <= EXTENDED && region.gpa + region.len > EXTENDED;
    memory.regions().iter().find(covers).map_or(0, |region| region.gpa + region.len)
}
