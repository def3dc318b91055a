//! What a processor must look like at a kernel's entry, as plain data, and the tables it needs in guest memory.

use crate::error::LoadError;
use crate::layout::{GDT, PAGE_TABLES};
use rx86_softmmu::GuestMemory;

/// A segment register's contents; `access` in the VMX access-rights format (descriptor bits 40 to 55).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentImage {
    /// The selector.
    pub selector: u16,
    /// The base address.
    pub base: u64,
    /// The limit in bytes.
    pub limit: u32,
    /// The access rights.
    pub access: u32,
}

/// The mode that a kernel is entered in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryMode {
    /// 64-bit mode with the first 4 GiB mapped one to one (Linux boot protocol, "64-bit BOOT PROTOCOL").
    Long64 {
        /// CR3.
        cr3: u64,
    },
    /// Protected mode, flat segments, paging off.
    Protected32,
}

/// A loaded kernel's entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The mode.
    pub mode: EntryMode,
    /// The entry address.
    pub rip: u64,
    /// CR0: PE and ET, and PG in 64-bit mode.
    pub cr0: u64,
    /// CR4: PAE in 64-bit mode.
    pub cr4: u64,
    /// IA32_EFER: LME and LMA in 64-bit mode.
    pub efer: u64,
    /// RFLAGS: interrupts off.
    pub rflags: u64,
    /// RSI: Linux's `boot_params`.
    pub rsi: u64,
    /// RBX: PVH's start information.
    pub rbx: u64,
    /// GDT base address.
    pub gdt_base: u64,
    /// GDT limit.
    pub gdt_limit: u16,
    /// CS.
    pub code: SegmentImage,
    /// DS, ES, FS, GS and SS.
    pub data: SegmentImage,
    /// TR: a busy TSS that nobody uses; VMX and some kernels want one.
    pub task: SegmentImage,
}

/// __BOOT_CS.
const CODE_SELECTOR: u16 = 0x10;
/// __BOOT_DS.
const DATA_SELECTOR: u16 = 0x18;
const TASK_SELECTOR: u16 = 0x20;

const CR0_PE_ET: u64 = 1 << 4 | 1 << 0;
const CR0_PG: u64 = 1 << 31;
const CR4_PAE: u64 = 1 << 5;
const EFER_LME_LMA: u64 = 1 << 10 | 1 << 8;
/// Bit 1 always reads as one.
const RFLAGS_FIXED: u64 = 1 << 1;

/// The descriptor-table entry of a segment with the given access rights.
fn descriptor(segment: &SegmentImage, granular: bool) -> u64 {
    let limit = u64::from(if granular { segment.limit >> 12 } else { segment.limit });
    let access = u64::from(segment.access);
    (limit & 0xffff)
        | (segment.base & 0xff_ffff) << 16
        | (access & 0xf0ff) << 40
        | (limit >> 16 & 0xf) << 48
        | (segment.base >> 24 & 0xff) << 56
}

impl Entry {
    /// An entry in `mode` at `rip`; writes the GDT into guest memory.
    pub(crate) fn new(memory: &GuestMemory, mode: EntryMode, rip: u64) -> Result<Self, LoadError> {
        let long = matches!(mode, EntryMode::Long64 { .. });
        // Execute/read, accessed; 64-bit or 32-bit; granular.
        let code_access = 0x809b | if long { 0x2000 } else { 0x4000 };
        let flat = |selector, access| SegmentImage { selector, base: 0, limit: u32::MAX, access };
        let code = flat(CODE_SELECTOR, code_access);
        let data = flat(DATA_SELECTOR, 0xc093);
        let task = SegmentImage { selector: TASK_SELECTOR, base: 0, limit: 0x67, access: 0x8b };
        let table = [0, 0, descriptor(&code, true), descriptor(&data, true), descriptor(&task, false), 0];
        let bytes: Vec<u8> = table.iter().flat_map(|entry: &u64| entry.to_le_bytes()).collect();
        memory.write(GDT, &bytes).map_err(|_| LoadError::NoRoomForTables)?;
        let gdt_limit = bytes.len() as u16 - 1;
        let (cr0, cr4, efer) =
            if long { (CR0_PG | CR0_PE_ET, CR4_PAE, EFER_LME_LMA) } else { (CR0_PE_ET, 0, 0) };
        let (rsi, rbx, gdt_base) = (0, 0, GDT);
        let rflags = RFLAGS_FIXED;
        Ok(Self { mode, rip, cr0, cr4, efer, rflags, rsi, rbx, gdt_base, gdt_limit, code, data, task })
    }
}

/// Writes page tables that map the first 4 GiB one to one with 2 MiB pages; returns CR3.
pub(crate) fn identity_page_tables(memory: &GuestMemory) -> Result<u64, LoadError> {
    const PRESENT_WRITABLE: u64 = 3;
    const LARGE: u64 = 1 << 7;
    let pdpt = PAGE_TABLES + 0x1000;
    let directories = PAGE_TABLES + 0x2000;
    let mut image = vec![0u8; 0x6000];
    let mut put = |at: u64, value: u64| image[at as usize..][..8].copy_from_slice(&value.to_le_bytes());
    put(0, pdpt | PRESENT_WRITABLE);
    for gib in 0..4 {
        put(0x1000 + gib * 8, (directories + gib * 0x1000) | PRESENT_WRITABLE);
    }
    for page in 0..2048 {
        put(0x2000 + page * 8, page << 21 | LARGE | PRESENT_WRITABLE);
    }
    memory.write(PAGE_TABLES, &image).map_err(|_| LoadError::NoRoomForTables)?;
    Ok(PAGE_TABLES)
}
