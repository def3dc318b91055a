//! Where the guest that runs programs on QEMU keeps what, and how a program lies in its slot.

use crate::oracle::{CODE_MAX, PAGE, PRIVATE};

/// Programs that one batch takes.
pub(super) const BATCH: usize = 128;
/// Guest memory.
pub(super) const MEMORY_BYTES: u64 = 4 << 20;

// Guest physical pages.
/// Page tables while paging is turned on: the code at `crate::system::layout::START` maps to itself.
pub(super) const BOOT_TABLES: u32 = 0x1_0000;
/// Page tables from then on: PML4, directory pointers, directory, and the table of the programs' 2 MiB.
pub(super) const TABLES: u32 = 0x1_4000;
/// The table of the programs' 2 MiB.
pub(super) const TABLE: u32 = TABLES + 0x3000;
/// The two code pages.
pub(super) const CODE_GPA: u32 = 0x1_8000;
/// The read-only data page.
pub(super) const ZERO_GPA: u32 = 0x1_a000;
/// The guest's own pages, which are mapped from `PRIVATE` on.
pub(super) const PRIVATE_GPA: u32 = 0x2_0000;
/// Two data pages for each slot.
pub(super) const DATA_GPA: u32 = 0x10_0000;

// Offsets in the guest's own pages.
/// The global descriptor table.
pub(super) const GDT: u32 = 0;
/// The task-state segment.
pub(super) const TSS: u32 = 0x100;
/// The address of the program's slot.
pub(super) const CURRENT: u32 = 0x180;
/// The address behind the last slot in use.
pub(super) const END: u32 = 0x188;
/// The interrupt descriptor table.
pub(super) const IDT: u32 = 0x200;
/// The entry points of the exceptions' handlers.
pub(super) const STUBS: u32 = 0x400;
/// Bytes of an entry point.
pub(super) const STUB_BYTES: u32 = 16;
/// All other code.
pub(super) const KERNEL: u32 = 0x1000;
/// The end of the stack.
pub(super) const STACK: u32 = 0x3000;
/// Where the table of the programs' 2 MiB can be written.
pub(super) const TABLE_ALIAS: u32 = 0x3000;
/// Where the code pages can be written.
pub(super) const CODE_ALIAS: u32 = 0x4000;
/// A page that programs may read and execute: `FAR` of the slot, and the code that loads it. An IRET to a 16-bit stack
/// leaves the upper bits of ESP as they were (SDM vol. 3, 10.1.2), so 16-bit programs are entered from user mode.
pub(super) const USER: u32 = 0x6000;
/// The code in `USER`.
pub(super) const TRAMPOLINE: u32 = USER + 0x10;
/// The slots.
pub(super) const SLOTS: u32 = 0x8000;
/// Bytes of a slot.
pub(super) const SLOT_BYTES: usize = 1152;
/// Everything from `PRIVATE` on.
pub(super) const PRIVATE_BYTES: u32 = SLOTS + (BATCH * SLOT_BYTES) as u32;

// Offsets in a slot. The first ones are those of `State`.
/// RIP before and after.
pub(super) const RIP: usize = 128;
/// RFLAGS before and after.
pub(super) const RFLAGS: usize = 136;
/// The FXSAVE image.
pub(super) const FX: usize = 144;
/// The upper halves of the YMM registers.
pub(super) const YMM_HIGH: usize = 656;
/// The exception's vector, when it is over.
pub(super) const VECTOR: usize = 912;
/// Its error code.
pub(super) const ERROR_CODE: usize = 920;
/// CR2.
pub(super) const CR2: usize = 928;
/// CS.
pub(super) const CODE_SELECTOR: usize = 936;
/// DS, ES and SS.
pub(super) const DATA_SELECTOR: usize = 944;
/// Where the code is written.
pub(super) const CODE_AT: usize = 952;
/// Its bytes.
pub(super) const CODE_LEN: usize = 960;
/// The page-table entries of the two data pages.
pub(super) const ENTRIES: usize = 968;
/// The far pointer to the program of 4 and 2 bytes, and SS: what `TRAMPOLINE` loads.
pub(super) const FAR: usize = 984;
/// SS as the guest's IRET loads it.
pub(super) const FRAME_STACK_SELECTOR: usize = 992;
/// The code itself.
pub(super) const CODE: usize = 1000;

const _: () = assert!(CODE + CODE_MAX <= SLOT_BYTES && SLOT_BYTES.is_multiple_of(64));
// The addresses in which a fault counts as one in an oracle's own pages.
const _: () = assert!(PRIVATE_BYTES <= 1 << 18 && PRIVATE & 0x1f_ffff <= (2 << 20) - PRIVATE_BYTES as u64);
const _: () = assert!(DATA_GPA as u64 + (2 * PAGE * BATCH) as u64 <= MEMORY_BYTES);
const _: () = assert!(PRIVATE_GPA + PRIVATE_BYTES <= DATA_GPA);
