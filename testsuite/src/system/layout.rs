//! Where the system guests keep what, and the images of descriptors and gates (SDM vol. 3, 3.4.5, 3.5 and 6.11).

/// Guest memory.
pub const MEMORY_BYTES: u64 = 4 << 20;
/// The far pointer to the next case: offset, then selector.
pub const RESUME: u32 = 0x500;
/// Where the next record goes.
pub const LOG_POINTER: u32 = 0x508;
/// Operands of LGDT and LIDT.
pub const GDT_OPERAND: u32 = 0x510;
/// See `GDT_OPERAND`.
pub const IDT_OPERAND: u32 = 0x520;
/// Scratch for cases.
pub const SCRATCH: u32 = 0x600;
/// The global descriptor table.
pub const GDT: u32 = 0x1000;
/// The interrupt descriptor table.
pub const IDT: u32 = 0x2000;
/// The task-state segment that the guest begins with.
pub const TSS: u32 = 0x3000;
/// Two more, for task switches; one of 16 bits.
pub const OTHER_TSS: u32 = 0x3200;
/// The 16-bit one.
pub const TSS16: u32 = 0x3400;
/// The task-state segments of tasks that handle exceptions: double faults, and vectors 10 to 13.
pub const FAULT_TSS: [(u32, u32); 5] = [(8, 0x3600), (10, 0x3680), (11, 0x3700), (12, 0x3780), (13, 0x3480)];
/// A local descriptor table.
pub const LDT: u32 = 0x3800;
/// Where a guest starts, in real-address mode.
pub const START: u32 = 0x7c00;
/// `INT 0x30`, which ends a case in every mode.
pub const TARGET: u32 = 0x7e00;
/// IRET, for the end of a nested task.
pub const RETURN_TARGET: u32 = 0x7e10;
/// `INT 0x30` in a page for users.
pub const USER_TARGET: u32 = OTHER_CODE + 0x2_ff00;
/// Stack tops; all have room behind them, because handlers dump more than was pushed.
pub const STACK: u32 = 0x4f00;
/// The TSS's stacks for CPL 0, 1 and 2.
pub const STACK0: u32 = 0x5500;
/// See `STACK0`.
pub const STACK1: u32 = 0x5900;
/// See `STACK0`.
pub const STACK2: u32 = 0x5d00;
/// The stack at CPL 3.
pub const STACK3: u32 = 0x6500;
/// The stack of IST entry 1; entry 2's is 0x400 above.
pub const IST1: u32 = 0x6d00;
/// Stubs and the common handler.
pub const HANDLERS: u32 = 0x8000;
/// Bytes between two stubs.
pub const STUB_BYTES: u32 = 16;
/// The cases' code at CPL 0.
pub const CASES: u32 = 0x1_0000;
/// The cases' code at CPL 3, or in another mode.
pub const OTHER_CODE: u32 = 0x4_0000;
/// Bytes for one case's code.
pub const CASE_BYTES: u32 = 256;
/// Page tables.
pub const TABLES: u32 = 0x7_0000;
/// The page table of the test pages; two pages.
pub const TEST_TABLE: u32 = TABLES + 0x8000;
/// The linear address of the first test page; each case has its own.
pub const TEST_LINEAR: u32 = 0x1000_0000;
/// Pages whose mappings the paging cases change.
pub const PAGES: u32 = 0x9_0000;
/// The records of real-address mode.
pub const REAL_LOG: u32 = 0x7_0000;
/// The records.
pub const LOG: u32 = 0x10_0000;

/// 64-bit or 32-bit flat code of CPL 0.
pub const CODE0: u16 = 0x08;
/// Flat data of DPL 0.
pub const DATA0: u16 = 0x10;
/// Flat code of CPL 3.
pub const CODE3: u16 = 0x18;
/// Flat data of DPL 3.
pub const DATA3: u16 = 0x20;
/// The TSS; two slots.
pub const TASK: u16 = 0x28;
/// The other TSS; two slots.
pub const OTHER_TASK: u16 = 0x38;
/// The LDT; two slots.
pub const LOCAL: u16 = 0x48;
/// 32-bit code of CPL 0 in every mode.
pub const CODE32: u16 = 0x58;
/// 16-bit code of CPL 0.
pub const CODE16: u16 = 0x60;
/// 16-bit data of DPL 0, 64 KiB.
pub const DATA16: u16 = 0x68;
/// 32-bit code of CPL 3 in every mode.
pub const CODE32_3: u16 = 0x70;
/// The 16-bit TSS.
pub const TASK16: u16 = 0x78;
/// Flat code of CPL 1 and 2, and data.
pub const CODE1: u16 = 0x80;
/// See `CODE1`.
pub const DATA1: u16 = 0x88;
/// Two slots for a case's own descriptor.
pub const SPARE: u16 = 0x90;
/// The tasks that handle exceptions, one slot after the other.
pub const FAULT_TASK: u16 = 0xa0;
/// Two slots for a case's own gate.
pub const SPARE_GATE: u16 = 0xd0;
/// Last byte of the GDT.
pub const GDT_LIMIT: u16 = 0xff;

/// Present code, readable.
pub const CODE_ACCESS: u8 = 0x9b;
/// Present data, writable.
pub const DATA_ACCESS: u8 = 0x93;
/// DPL 3 in an access byte.
pub const DPL3: u8 = 0x60;
/// Flags: page granular, 32 bits.
pub const FLAGS32: u8 = 0xc;
/// Flags: page granular, 64 bits.
pub const FLAGS64: u8 = 0xa;

/// A segment descriptor.
pub fn descriptor(base: u32, limit: u32, access: u8, flags: u8) -> u64 {
    let (base, limit) = (u64::from(base), u64::from(limit));
    limit & 0xffff
        | (base & 0xff_ffff) << 16
        | u64::from(access) << 40
        | (limit >> 16 & 0xf) << 48
        | u64::from(flags & 0xf) << 52
        | (base >> 24) << 56
}

/// A gate's first eight bytes: `access` is its byte 5, `count` its byte 4.
pub fn gate(selector: u16, offset: u32, access: u8, count: u8) -> u64 {
    let offset = u64::from(offset);
    offset & 0xffff
        | u64::from(selector) << 16
        | u64::from(count) << 32
        | u64::from(access) << 40
        | (offset >> 16 & 0xffff) << 48
}
