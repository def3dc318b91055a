//! Page walks of every paging mode, with access rights, accessed and dirty flags and error codes (SDM volume 3, chapter 5).

use crate::access::{Access, View};
use crate::memory::GuestMemory;

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const PAGE_SIZE: u64 = 1 << 7;
const GLOBAL: u64 = 1 << 8;
const EXECUTE_DISABLE: u64 = 1 << 63;

/// The paging modes of SDM volume 3, 5.1.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum PagingMode {
    /// CR0.PG = 0: linear addresses are physical.
    #[default]
    Off,
    /// 32-bit paging.
    Bits32,
    /// PAE paging.
    Pae,
    /// 4-level paging.
    Level4,
    /// 5-level paging.
    Level5,
}

/// All state that a translation depends on, apart from the privilege of the access.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PagingContext {
    /// The paging mode.
    pub mode: PagingMode,
    /// CR3 without bit 63; with `pcide`, bits 11:0 are the PCID.
    pub cr3: u64,
    /// The PDPTE registers of PAE paging; the CPU loads them with CR3 and checks `pdpte_reserved` then.
    pub pdptes: [u64; 4],
    /// CR0.WP.
    pub wp: bool,
    /// CR4.PSE.
    pub pse: bool,
    /// EFER.NXE.
    pub nxe: bool,
    /// CR4.SMEP.
    pub smep: bool,
    /// CR4.SMAP.
    pub smap: bool,
    /// CR4.PKE.
    pub pke: bool,
    /// CR4.PGE.
    pub pge: bool,
    /// CR4.PCIDE.
    pub pcide: bool,
    /// The PKRU register.
    pub pkru: u32,
    /// MAXPHYADDR, 32 to 52.
    pub physical_bits: u32,
    /// CPUID offers 1-GiB pages.
    pub pages1g: bool,
    /// CPUID offers PSE-36: 4-MiB pages above 4 GiB.
    pub pse36: bool,
    /// ANDed to every physical address: clears bit 20 while the board's A20 gate is closed.
    pub a20_mask: u64,
}

impl Default for PagingContext {
    /// Paging off, MAXPHYADDR 40, 1-GiB pages and PSE-36 offered, A20 open.
    fn default() -> Self {
        Self {
            mode: PagingMode::Off,
            cr3: 0,
            pdptes: [0; 4],
            wp: false,
            pse: false,
            nxe: false,
            smep: false,
            smap: false,
            pke: false,
            pge: false,
            pcide: false,
            pkru: 0,
            physical_bits: 40,
            pages1g: true,
            pse36: true,
            a20_mask: !0,
        }
    }
}

/// Bits `high` down to `low`, none when `high` is below `low`.
fn bits(high: u32, low: u32) -> u64 {
    if high < low { 0 } else { (u64::MAX >> (63 - high)) & (u64::MAX << low) }
}

impl PagingContext {
    fn long(&self) -> bool {
        matches!(self.mode, PagingMode::Level4 | PagingMode::Level5)
    }

    fn maxphyaddr(&self) -> u32 {
        self.physical_bits.clamp(32, 52)
    }

    /// Whether `linear` is canonical; with 32-bit linear addresses: whether it has no more than 32 bits.
    #[inline]
    pub fn is_canonical(&self, linear: u64) -> bool {
        let unused = match self.mode {
            PagingMode::Level4 => 16,
            PagingMode::Level5 => 7,
            _ => return linear >> 32 == 0,
        };
        (((linear << unused) as i64) >> unused) as u64 == linear
    }

    /// The linear address that paging sees: 32 bits unless in 4-level or 5-level paging.
    #[inline]
    pub(crate) fn effective(&self, linear: u64) -> u64 {
        if self.long() { linear } else { linear & 0xffff_ffff }
    }

    /// The PCID in use, 0 without CR4.PCIDE.
    pub fn pcid(&self) -> u16 {
        if self.pcide { (self.cr3 & 0xfff) as u16 } else { 0 }
    }

    /// Bits that must be clear in a present PDPTE register of PAE paging; else loading it is a #GP (SDM volume 3, 5.4.1).
    pub fn pdpte_reserved(&self) -> u64 {
        bits(2, 1) | bits(8, 5) | bits(63, self.maxphyaddr())
    }

    /// Where the address is in CR3 and in entries that refer to a table or a 4-KiB page.
    fn address_mask(&self) -> u64 {
        if self.mode == PagingMode::Bits32 { bits(31, 12) } else { bits(self.maxphyaddr() - 1, 12) }
    }

    /// Whether `entry`, which translates from bit `shift` up, maps a page and not a table.
    fn is_leaf(&self, entry: u64, shift: u32) -> bool {
        if shift == 12 {
            return true;
        }
        let large = match self.mode {
            PagingMode::Bits32 => self.pse,
            PagingMode::Pae => true,
            _ => shift == 21 || (shift == 30 && self.pages1g),
        };
        large && entry & PAGE_SIZE != 0
    }

    /// The reserved bits of an entry (SDM volume 3, tables 5-4 to 5-20).
    fn reserved(&self, shift: u32, leaf: bool) -> u64 {
        let maxphyaddr = self.maxphyaddr();
        let large = leaf && shift > 12;
        if self.mode == PagingMode::Bits32 {
            let address_bits = if self.pse36 { maxphyaddr.min(40) - 32 } else { 0 };
            return if large { bits(21, 13 + address_bits) } else { 0 };
        }
        let execute_disable = if self.nxe { 0 } else { EXECUTE_DISABLE };
        // Bits 62:52 are ignored in IA-32e paging, or hold a protection key, but are reserved in PAE paging.
        let address_end = if self.mode == PagingMode::Pae { 62 } else { 51 };
        let alignment = if large { bits(shift - 1, 13) } else { 0 };
        let page_size = if !leaf && shift >= 30 { PAGE_SIZE } else { 0 };
        execute_disable | bits(address_end, maxphyaddr) | alignment | page_size
    }

    /// An entry of a paging structure. Where there is no memory the bus gives ones.
    fn load(&self, memory: &GuestMemory, gpa: u64) -> u64 {
        if self.mode == PagingMode::Bits32 {
            memory.read_u32(gpa).map_or(0xffff_ffff, u64::from)
        } else {
            memory.read_u64(gpa).unwrap_or(u64::MAX)
        }
    }

    /// The error code's bits that say what the access was (SDM volume 3, 5.7).
    fn access_bits(&self, access: Access, view: View) -> u32 {
        let tells_fetch = self.smep || (self.nxe && self.mode != PagingMode::Bits32);
        let user = if view == View::User { PageFault::USER } else { 0 };
        user | match access {
            Access::Read => 0,
            Access::Write => PageFault::WRITE,
            Access::Fetch if tells_fetch => PageFault::FETCH,
            Access::Fetch => 0,
        }
    }
}

/// What a page-fault exception reports.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageFault {
    /// For CR2.
    pub linear: u64,
    /// The error code to push (SDM volume 3, 5.7).
    pub error_code: u32,
}

impl PageFault {
    /// The translation was complete: a violation of rights or reserved bits.
    pub const PRESENT: u32 = 1 << 0;
    /// The access was a write.
    pub const WRITE: u32 = 1 << 1;
    /// The access was a user-mode access.
    pub const USER: u32 = 1 << 2;
    /// A reserved bit was set in a paging-structure entry.
    pub const RESERVED: u32 = 1 << 3;
    /// The access was an instruction fetch (told only with NXE or SMEP).
    pub const FETCH: u32 = 1 << 4;
    /// A protection key forbade the access.
    pub const PROTECTION_KEY: u32 = 1 << 5;
}

/// Where a linear address leads, and what the paging structures allow there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Translation {
    /// Guest physical address of the byte.
    pub gpa: u64,
    /// log2 of the page's bytes: 12, 21, 22 or 30.
    pub page_shift: u32,
    /// U/S is set in every entry: a user-mode address.
    pub user: bool,
    /// R/W is set in every entry.
    pub writable: bool,
    /// XD is set in an entry.
    pub execute_disable: bool,
    /// The page is global (G with CR4.PGE).
    pub global: bool,
    /// The page's dirty flag is set, after the walk.
    pub dirty: bool,
    /// The protection key, 0 outside 4-level and 5-level paging.
    pub protection_key: u8,
}

impl Translation {
    /// Whether `context` lets `view` do `access` here. Err holds the error code's bits beyond those of the access.
    fn check(&self, context: &PagingContext, access: Access, view: View) -> Result<(), u32> {
        if context.mode == PagingMode::Off {
            return Ok(());
        }
        let user_access = view == View::User;
        let mut denied = match access {
            Access::Fetch => self.execute_disable || (!user_access && self.user && context.smep),
            Access::Read => self.smap_denies(context, view),
            Access::Write => {
                (!self.writable && (user_access || context.wp)) || self.smap_denies(context, view)
            }
        };
        denied |= user_access && !self.user;
        let key_denied = self.key_denies(context, access, user_access);
        if denied || key_denied {
            Err(PageFault::PRESENT | if key_denied { PageFault::PROTECTION_KEY } else { 0 })
        } else {
            Ok(())
        }
    }

    /// Whether `context` lets `view` do `access` here.
    pub fn permits(&self, context: &PagingContext, access: Access, view: View) -> bool {
        self.check(context, access, view).is_ok()
    }

    fn smap_denies(&self, context: &PagingContext, view: View) -> bool {
        view == View::Supervisor && context.smap && self.user
    }

    fn key_denies(&self, context: &PagingContext, access: Access, user_access: bool) -> bool {
        if !(context.pke && context.long() && self.user) || access == Access::Fetch {
            return false;
        }
        let rights = context.pkru >> (2 * u32::from(self.protection_key & 15));
        let access_disable = rights & 1 != 0;
        let write_disable = rights & 2 != 0 && (user_access || context.wp);
        access_disable || (access == Access::Write && write_disable)
    }
}

/// A paging-structure entry that a walk has read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct WalkStep {
    /// The entry's name in the SDM: "PML4E" and so on.
    pub level: &'static str,
    /// Its guest physical address. A PDPTE of PAE paging is in a register; the address is where that was loaded from.
    pub entry_gpa: u64,
    /// Its value.
    pub entry: u64,
}

/// The entries of one walk, from the top.
#[derive(Default)]
struct Path {
    steps: [WalkStep; 5],
    len: usize,
}

impl Path {
    fn push(&mut self, step: WalkStep) {
        if let Some(place) = self.steps.get_mut(self.len) {
            *place = step;
            self.len += 1;
        }
    }

    fn steps(&self) -> &[WalkStep] {
        &self.steps[..self.len]
    }
}

/// The SDM's name of the entry that translates from bit `shift` up.
fn level_name(shift: u32) -> &'static str {
    match shift {
        48 => "PML5E",
        39 => "PML4E",
        30 => "PDPTE",
        21 | 22 => "PDE",
        _ => "PTE",
    }
}

/// Reads the entries of `linear` down to a page, changing nothing. Err holds the error code's bits beyond the access's.
fn descend(
    memory: &GuestMemory,
    context: &PagingContext,
    linear: u64,
    path: &mut Path,
) -> Result<Translation, u32> {
    let (mut shift, index_bits, entry_bytes) = match context.mode {
        PagingMode::Off => return Ok(identity(context, linear)),
        PagingMode::Bits32 => (22, 10, 4),
        PagingMode::Pae => (21, 9, 8),
        PagingMode::Level4 => (39, 9, 8),
        PagingMode::Level5 => (48, 9, 8),
    };
    let address_mask = context.address_mask();
    let mut table = context.cr3 & address_mask;
    if context.mode == PagingMode::Pae {
        let index = linear >> 30 & 3;
        let entry = context.pdptes[index as usize];
        path.push(WalkStep { level: "PDPTE", entry_gpa: (context.cr3 & bits(31, 5)) + index * 8, entry });
        if entry & PRESENT == 0 {
            return Err(0);
        }
        table = entry & address_mask;
    }
    let mut rights = USER | WRITABLE;
    let mut execute_disable = false;
    loop {
        let index = linear >> shift & ((1 << index_bits) - 1);
        let entry_gpa = (table + index * entry_bytes) & context.a20_mask;
        let entry = context.load(memory, entry_gpa);
        path.push(WalkStep { level: level_name(shift), entry_gpa, entry });
        if entry & PRESENT == 0 {
            return Err(0);
        }
        let leaf = context.is_leaf(entry, shift);
        if entry & context.reserved(shift, leaf) != 0 {
            return Err(PageFault::PRESENT | PageFault::RESERVED);
        }
        rights &= entry;
        execute_disable |= entry & EXECUTE_DISABLE != 0;
        if leaf {
            return Ok(page(context, linear, entry, shift, rights, execute_disable));
        }
        table = entry & address_mask;
        shift -= index_bits;
    }
}

/// The translation that a leaf entry gives.
fn page(
    context: &PagingContext,
    linear: u64,
    entry: u64,
    shift: u32,
    rights: u64,
    execute_disable: bool,
) -> Translation {
    let offset_mask = (1u64 << shift) - 1;
    let mut base = entry & context.address_mask() & !offset_mask;
    if context.mode == PagingMode::Bits32 && shift == 22 {
        // PSE-36: bits 20:13 are the address's bits 39:32.
        base |= (entry >> 13 & 0xff) << 32;
    }
    Translation {
        gpa: (base | (linear & offset_mask)) & context.a20_mask,
        page_shift: shift,
        user: rights & USER != 0,
        writable: rights & WRITABLE != 0,
        execute_disable,
        global: context.pge && entry & GLOBAL != 0,
        dirty: entry & DIRTY != 0,
        protection_key: if context.long() { (entry >> 59 & 15) as u8 } else { 0 },
    }
}

/// The translation without paging.
fn identity(context: &PagingContext, linear: u64) -> Translation {
    Translation {
        gpa: linear & 0xffff_ffff & context.a20_mask,
        page_shift: 12,
        user: true,
        writable: true,
        execute_disable: false,
        global: false,
        dirty: true,
        protection_key: 0,
    }
}

/// Sets the accessed flags of a path and, for a write, the page's dirty flag. False when an entry has changed meanwhile.
fn set_flags(memory: &GuestMemory, context: &PagingContext, path: &Path, write: bool) -> bool {
    // The PDPTEs of PAE paging have no accessed flag.
    let first = usize::from(context.mode == PagingMode::Pae);
    let steps = path.steps();
    for (at, step) in steps.iter().enumerate().skip(first) {
        let dirty = if write && at + 1 == steps.len() { DIRTY } else { 0 };
        let new = step.entry | ACCESSED | dirty;
        if new == step.entry {
            continue;
        }
        let unchanged = if context.mode == PagingMode::Bits32 {
            let result = memory.compare_exchange_u32(step.entry_gpa, step.entry as u32, new as u32);
            result.is_none_or(|result| result.is_ok())
        } else {
            memory.compare_exchange_u64(step.entry_gpa, step.entry, new).is_none_or(|result| result.is_ok())
        };
        if !unchanged {
            return false;
        }
    }
    true
}

/// Translates `linear` for an access, and sets accessed and dirty flags once all checks have passed.
///
/// Whether `linear` is canonical is the caller's business. Flags in ROM stay as they are.
pub fn walk(
    memory: &GuestMemory,
    context: &PagingContext,
    linear: u64,
    access: Access,
    view: View,
) -> Result<Translation, PageFault> {
    let fault = |error_code| PageFault {
        linear: context.effective(linear),
        error_code: error_code | context.access_bits(access, view),
    };
    loop {
        let mut path = Path::default();
        let mut translation = descend(memory, context, linear, &mut path).map_err(fault)?;
        translation.check(context, access, view).map_err(fault)?;
        if set_flags(memory, context, &path, access == Access::Write) {
            translation.dirty |= access == Access::Write;
            return Ok(translation);
        }
    }
}

/// Where `linear` leads, whatever the rights, without any effect on the guest; for reports and debuggers.
pub fn probe(memory: &GuestMemory, context: &PagingContext, linear: u64) -> Option<Translation> {
    descend(memory, context, linear, &mut Path::default()).ok()
}

/// The entries that a walk of `linear` reads, from the top, the last one perhaps not present; none without paging.
pub fn walk_trace(memory: &GuestMemory, context: &PagingContext, linear: u64) -> Vec<WalkStep> {
    let mut path = Path::default();
    // Where the walk ends is seen in the last entry.
    let _ = descend(memory, context, linear, &mut path);
    path.steps().to_vec()
}
