//! Where the loaders put things in low memory, out of every kernel's way.

/// The boot GDT.
pub const GDT: u64 = 0x500;
/// PVH's start information, its memory map and module list.
pub const PVH_START_INFO: u64 = 0x6000;
/// Linux's `boot_params`, one page.
pub const BOOT_PARAMS: u64 = 0x7000;
/// Page tables of the 64-bit entry: PML4, PDPT and four page directories.
pub const PAGE_TABLES: u64 = 0x9000;
/// The `setup_data` list.
pub const SETUP_DATA: u64 = 0x1_0000;
/// The kernel's command line.
pub const COMMAND_LINE: u64 = 0x2_0000;
/// Bytes kept for the command line.
pub const COMMAND_LINE_BYTES: u64 = 0x1_0000;
/// The extended BIOS data area: reserved from here to 640 KiB.
pub const EBDA: u64 = 0x9_fc00;
/// 640 KiB: the end of conventional memory.
pub const CONVENTIONAL_END: u64 = 0xa_0000;
/// ACPI tables, in the area that BIOSes use; the RSDP comes first.
pub const ACPI_TABLES: u64 = 0xe_0000;
/// 1 MiB: extended memory begins.
pub const EXTENDED: u64 = 0x10_0000;
/// 4 GiB.
pub const FOUR_GIB: u64 = 1 << 32;
