//! Guest physical memory: RAM below and above the PCI hole, ROM images, and access for loaders, DMA and page walks.
#![expect(unsafe_code, reason = "guest RAM is raw memory that vCPUs and devices touch at the same time")]

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use memmap2::{MmapOptions, MmapRaw};

use crate::attention::Attention;
use crate::code::{CodeTracking, CodeWatcher};

/// Bytes in the smallest page.
pub const PAGE_BYTES: u64 = 4096;
const OFFSET_MASK: u64 = PAGE_BYTES - 1;
/// RAM below 4 GiB ends here at the latest; the rest of that gigabyte belongs to PCI, the APICs and the firmware ROM.
pub const LOW_RAM_LIMIT: u64 = 3 << 30;
/// Where RAM that does not fit below the hole continues.
pub const HIGH_RAM_BASE: u64 = 4 << 30;
/// The VGA window, MMIO in every PC.
const VGA_START: u64 = 0xa_0000;
const VGA_END: u64 = 0xc_0000;
/// As much as fits below the 40-bit physical address limit of the default CPU, with room for MMIO.
const MAX_RAM_BYTES: u64 = 512 << 30;
const MAX_ROMS: usize = 8;

/// Why guest memory could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum MemoryError {
    /// The wanted size of RAM cannot be used.
    #[error("{bytes} bytes of guest RAM cannot be used: give a multiple of 4096 from 4096 to 512 GiB")]
    RamSize {
        /// The wanted size.
        bytes: u64,
    },
    /// The host refused the mapping.
    #[error("the host cannot map {bytes} bytes for the guest: {source}; give the guest less memory")]
    Map {
        /// The wanted size.
        bytes: u64,
        /// The host's answer.
        source: std::io::Error,
    },
    /// A ROM image cannot lie where it was wanted.
    #[error("a ROM of {bytes} bytes cannot lie at {gpa:#x}: {why}")]
    Rom {
        /// The wanted guest physical address.
        gpa: u64,
        /// The image's length.
        bytes: usize,
        /// What is wrong.
        why: &'static str,
    },
}

/// There is neither RAM nor ROM at this guest physical address.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("no guest memory at {gpa:#x}")]
pub struct Unmapped {
    /// The first page without memory.
    pub gpa: u64,
}

/// A run of RAM, for the firmware's memory map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RamRegion {
    /// First guest physical address.
    pub gpa: u64,
    /// Bytes.
    pub len: u64,
}

/// The host memory behind a 4 KiB guest page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HostPage {
    /// The page's first byte, valid as long as the `GuestMemory`.
    pub host: *mut u8,
    /// False for ROM: a store there is dropped.
    pub writable: bool,
}

#[derive(Debug)]
struct Rom {
    gpa: u64,
    image: MmapRaw,
}

/// The guest's physical memory, shared by all vCPUs and devices.
#[derive(Debug)]
pub struct GuestMemory {
    ram: MmapRaw,
    low_bytes: u64,
    high_bytes: u64,
    /// Filled from the front; read without a lock by every TLB miss.
    roms: [OnceLock<Rom>; MAX_ROMS],
    code: CodeTracking,
}

fn map(bytes: u64) -> Result<MmapRaw, MemoryError> {
    let failed = |source| MemoryError::Map { bytes, source };
    let len = usize::try_from(bytes).map_err(|_| failed(std::io::ErrorKind::OutOfMemory.into()))?;
    let mapping = MmapOptions::new().len(len).no_reserve_swap().map_anon().map_err(failed)?;
    let raw = MmapRaw::from(mapping);
    // The TLB keeps addresses as integers and makes pointers from them again.
    raw.as_mut_ptr().expose_provenance();
    Ok(raw)
}

impl GuestMemory {
    /// Maps `ram_bytes` of RAM, all zero: `[0, min(ram_bytes, 3 GiB))` and the rest from 4 GiB up.
    ///
    /// The host gives memory only to pages that are touched. 0xA0000 to 0xC0000 is a hole.
    pub fn new(ram_bytes: u64) -> Result<Arc<Self>, MemoryError> {
        if ram_bytes == 0 || ram_bytes & OFFSET_MASK != 0 || ram_bytes > MAX_RAM_BYTES {
            return Err(MemoryError::RamSize { bytes: ram_bytes });
        }
        let low_bytes = ram_bytes.min(LOW_RAM_LIMIT);
        Ok(Arc::new(Self {
            ram: map(ram_bytes)?,
            low_bytes,
            high_bytes: ram_bytes - low_bytes,
            roms: Default::default(),
            code: CodeTracking::new((ram_bytes / PAGE_BYTES) as usize),
        }))
    }

    /// Puts a ROM at page-aligned `gpa`, padded with 0xFF to whole pages; it hides RAM at the same addresses.
    ///
    /// To be called before a vCPU runs: a TLB that has already cached RAM there keeps it until its next flush.
    pub fn add_rom(&self, gpa: u64, bytes: &[u8]) -> Result<(), MemoryError> {
        let refused = |why| MemoryError::Rom { gpa, bytes: bytes.len(), why };
        if gpa & OFFSET_MASK != 0 {
            return Err(refused("the address is not a multiple of 4096"));
        }
        if bytes.is_empty() {
            return Err(refused("the image is empty"));
        }
        let len = (bytes.len() as u64).next_multiple_of(PAGE_BYTES);
        let end = gpa.checked_add(len).ok_or(refused("it runs past the end of the address space"))?;
        if self.roms.iter().map_while(OnceLock::get).any(|rom| gpa < rom.end() && rom.gpa < end) {
            return Err(refused("another ROM is there"));
        }
        let image = map(len)?;
        let padding = len as usize - bytes.len();
        // SAFETY: the mapping is `len` bytes long, image and padding together fill it exactly, and nobody else knows it yet.
        unsafe {
            image.as_mut_ptr().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
            image.as_mut_ptr().add(bytes.len()).write_bytes(0xff, padding);
        }
        let mut rom = Rom { gpa, image };
        for slot in &self.roms {
            match slot.set(rom) {
                Ok(()) => return Ok(()),
                Err(back) => rom = back,
            }
        }
        Err(refused("there are already eight ROMs"))
    }

    /// All RAM in ascending order, for the firmware's memory map (e820). ROM over RAM is not cut out.
    pub fn regions(&self) -> Vec<RamRegion> {
        let runs = [
            (0, self.low_bytes.min(VGA_START)),
            (VGA_END, self.low_bytes),
            (HIGH_RAM_BASE, HIGH_RAM_BASE + self.high_bytes),
        ];
        let full = runs.into_iter().filter(|(start, end)| start < end);
        full.map(|(gpa, end)| RamRegion { gpa, len: end - gpa }).collect()
    }

    /// Offset in the RAM mapping, None where there is no RAM.
    #[inline]
    fn ram_offset(&self, gpa: u64) -> Option<u64> {
        if gpa < self.low_bytes {
            (!(VGA_START..VGA_END).contains(&gpa)).then_some(gpa)
        } else {
            let above = gpa.checked_sub(HIGH_RAM_BASE)?;
            (above < self.high_bytes).then(|| self.low_bytes + above)
        }
    }

    fn rom(&self, gpa: u64) -> Option<&Rom> {
        self.roms.iter().map_while(OnceLock::get).find(|rom| (rom.gpa..rom.end()).contains(&gpa))
    }

    /// The host memory behind the page of `gpa`; None where a device or nothing is.
    #[inline]
    pub fn host_page(&self, gpa: u64) -> Option<HostPage> {
        let page = gpa & !OFFSET_MASK;
        if let Some(rom) = self.rom(page) {
            let host = rom.image.as_mut_ptr().wrapping_add((page - rom.gpa) as usize);
            return Some(HostPage { host, writable: false });
        }
        let host = self.ram.as_mut_ptr().wrapping_add(self.ram_offset(page)? as usize);
        Some(HostPage { host, writable: true })
    }

    /// The host address of `gpa` for an access of `bytes` that must be aligned.
    #[inline]
    fn aligned(&self, gpa: u64, bytes: u64) -> Option<HostPage> {
        if gpa & (bytes - 1) != 0 {
            return None;
        }
        let page = self.host_page(gpa)?;
        Some(HostPage { host: page.host.wrapping_add((gpa & OFFSET_MASK) as usize), ..page })
    }

    /// Fails without an effect when any page of the range has no memory.
    fn check(&self, gpa: u64, len: usize) -> Result<(), Unmapped> {
        let Some(last) = (len as u64).checked_sub(1) else { return Ok(()) };
        let last = gpa.checked_add(last).ok_or(Unmapped { gpa })?;
        for page in gpa / PAGE_BYTES..=last / PAGE_BYTES {
            let gpa = page * PAGE_BYTES;
            self.host_page(gpa).ok_or(Unmapped { gpa })?;
        }
        Ok(())
    }

    /// Copies guest memory from `gpa` into `data`, across pages and regions; nothing is read when any part has no memory.
    pub fn read(&self, gpa: u64, data: &mut [u8]) -> Result<(), Unmapped> {
        self.check(gpa, data.len())?;
        let mut gpa = gpa;
        let mut rest = data;
        while !rest.is_empty() {
            let offset = (gpa & OFFSET_MASK) as usize;
            let len = rest.len().min(PAGE_BYTES as usize - offset);
            let page = self.host_page(gpa).ok_or(Unmapped { gpa })?;
            let (chunk, after) = rest.split_at_mut(len);
            // SAFETY: `offset + len` is within the page, which lives as long as `self`; `chunk` is the caller's own memory. The
            // guest may write the page meanwhile: then the bytes are old or new ones, as with a device's DMA.
            unsafe { chunk.as_mut_ptr().copy_from_nonoverlapping(page.host.add(offset), len) };
            rest = after;
            gpa = gpa.wrapping_add(len as u64);
        }
        Ok(())
    }

    /// Copies `data` to guest memory at `gpa` as DMA does, across pages and regions; nothing is written when any part has no
    /// memory. ROM ignores it. Writes into pages with code are recorded and told to the watchers.
    pub fn write(&self, gpa: u64, data: &[u8]) -> Result<(), Unmapped> {
        self.check(gpa, data.len())?;
        let mut gpa = gpa;
        let mut rest = data;
        while !rest.is_empty() {
            let offset = (gpa & OFFSET_MASK) as usize;
            let (chunk, after) = rest.split_at(rest.len().min(PAGE_BYTES as usize - offset));
            let page = self.host_page(gpa).ok_or(Unmapped { gpa })?;
            if page.writable {
                // SAFETY: `offset + chunk.len()` is within the page, which lives as long as `self`; `chunk` is the caller's own
                // memory. The guest may use the page meanwhile, as with a device's DMA.
                unsafe { page.host.add(offset).copy_from_nonoverlapping(chunk.as_ptr(), chunk.len()) };
                self.note_write(gpa, chunk.len() as u64);
            }
            rest = after;
            gpa = gpa.wrapping_add(chunk.len() as u64);
        }
        Ok(())
    }

    /// Loads an aligned doubleword atomically; None when `gpa` is unaligned or has no memory.
    #[inline]
    pub fn read_u32(&self, gpa: u64) -> Option<u32> {
        let place = self.aligned(gpa, 4)?;
        // SAFETY: `aligned` gave four bytes in one page of a mapping that lives as long as `self`, aligned to four.
        Some(unsafe { AtomicU32::from_ptr(place.host.cast()) }.load(Ordering::Acquire))
    }

    /// Loads an aligned quadword atomically; None when `gpa` is unaligned or has no memory.
    #[inline]
    pub fn read_u64(&self, gpa: u64) -> Option<u64> {
        let place = self.aligned(gpa, 8)?;
        // SAFETY: `aligned` gave eight bytes in one page of a mapping that lives as long as `self`, aligned to eight.
        Some(unsafe { AtomicU64::from_ptr(place.host.cast()) }.load(Ordering::Acquire))
    }

    /// Replaces `old` by `new` in an aligned doubleword. Ok and Err hold what was there, Err when it was not `old`; None when
    /// `gpa` is unaligned or not RAM.
    pub fn compare_exchange_u32(&self, gpa: u64, old: u32, new: u32) -> Option<Result<u32, u32>> {
        let place = self.aligned(gpa, 4).filter(|place| place.writable)?;
        // SAFETY: as in `read_u32`, and the page is writable.
        let cell = unsafe { AtomicU32::from_ptr(place.host.cast()) };
        let result = cell.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire);
        if result.is_ok() {
            self.note_write(gpa, 4);
        }
        Some(result)
    }

    /// Replaces `old` by `new` in an aligned quadword. Ok and Err hold what was there, Err when it was not `old`; None when
    /// `gpa` is unaligned or not RAM.
    pub fn compare_exchange_u64(&self, gpa: u64, old: u64, new: u64) -> Option<Result<u64, u64>> {
        let place = self.aligned(gpa, 8).filter(|place| place.writable)?;
        // SAFETY: as in `read_u64`, and the page is writable.
        let cell = unsafe { AtomicU64::from_ptr(place.host.cast()) };
        let result = cell.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire);
        if result.is_ok() {
            self.note_write(gpa, 8);
        }
        Some(result)
    }

    fn note_write(&self, gpa: u64, len: u64) {
        if let Some(page) = self.code_page(gpa) {
            self.code.note_write(None, page, gpa, len);
        }
    }

    /// Tells the other vCPUs that the one of `watcher` has stored `len` bytes at `gpa`, within a page with code.
    pub fn note_store(&self, watcher: &CodeWatcher, gpa: u64, len: u64) {
        if let Some(page) = self.code_page(gpa) {
            self.code.note_write(Some(watcher), page, gpa, len);
        }
    }

    fn code_page(&self, gpa: u64) -> Option<usize> {
        self.ram_offset(gpa).map(|offset| (offset / PAGE_BYTES) as usize)
    }

    /// Notes that a vCPU is about to decode code in the page of `gpa`, before the code's bytes are read. Does nothing outside
    /// RAM. The caller also closes its own write translations with `Mmu::protect_code_page`.
    ///
    /// If other vCPUs may still store to the page unnoticed, returns the number that `code_closed_up_to` reaches when they
    /// cannot any more.
    pub fn mark_code(&self, watcher: &CodeWatcher, gpa: u64) -> Option<u64> {
        self.code.mark(watcher, self.code_page(gpa)?, gpa & !OFFSET_MASK)
    }

    /// See `mark_code`.
    pub fn code_closed_up_to(&self, watcher: &CodeWatcher) -> u64 {
        self.code.closed_up_to(watcher)
    }

    /// Notes that a vCPU has no decoded code of the page of `gpa` any more.
    pub fn clear_code(&self, watcher: &CodeWatcher, gpa: u64) {
        if let Some(page) = self.code_page(gpa) {
            self.code.clear(watcher, page);
        }
    }

    /// Whether a vCPU has decoded code of the page of `gpa`.
    #[inline]
    pub fn has_code(&self, gpa: u64) -> bool {
        self.code_page(gpa).is_some_and(|page| self.code.has_code(page))
    }

    /// Whether only one vCPU is known: nobody else decodes code.
    pub fn has_one_watcher(&self) -> bool {
        self.code.has_one_watcher()
    }

    /// Makes a vCPU known. `CODE_WRITTEN` is raised in its `attention` whenever the watcher has news.
    pub fn watch_code(&self, attention: Attention) -> CodeWatcher {
        self.code.watch(attention)
    }

    /// Tells that the vCPU goes on executing; what its watcher has to tell must be taken before its next store. Waits while
    /// another one runs alone.
    pub fn enter_guest(&self, watcher: &CodeWatcher) {
        self.code.enter_guest(watcher);
    }

    /// Does `work` in the midst of an instruction of the vCPU of `watcher`, while no other executes anything. Translations
    /// that were found before may be stale afterwards: the instruction must end its block.
    pub fn run_alone<R>(&self, watcher: &CodeWatcher, work: impl FnOnce() -> R) -> R {
        self.code.alone(watcher, work)
    }
}

impl Rom {
    fn end(&self) -> u64 {
        self.gpa + self.image.len() as u64
    }
}
