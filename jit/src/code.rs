//! The code arena: host code in memory that is executable and not writable, and how it is given back.
//!
//! Where the host can, the same pages are mapped twice, once to write and once to execute; else the one mapping changes its
//! protection while code is written, which only its owner does, and not while it executes.

#![expect(unsafe_code, reason = "maps files that nobody else knows")]

#[cfg(target_os = "linux")]
use memmap2::Advice;
use memmap2::{Mmap, MmapMut, MmapOptions};
#[cfg(target_os = "linux")]
use rustix::fs::FallocateFlags;
use std::fs::File;
use std::io;
use std::sync::Arc;
#[cfg(target_os = "linux")]
use std::sync::{
    OnceLock,
    mpsc::{Sender, channel},
};

/// The least multiple at which code begins: it lies dense.
pub(crate) const DENSE: usize = 16;
/// A cache line of the host's. Code that begins at one is as fast in one place as in another, where loops that begin elsewhere take up to
/// an eighth longer.
pub(crate) const LINE: usize = 64;
/// The arena is emptied in this many parts.
const SEGMENTS: usize = 16;
/// What the largest region may take.
const LEAST_SEGMENT_BYTES: usize = 128 << 10;
/// So much at a time is asked of the host before it is used, which costs less than a fault for each page of each view; a
/// multiple of the page size.
const AHEAD_BYTES: usize = 256 << 10;
/// So much more of it has been allocated by then, on a thread of its own: that is most of the work.
const ALLOCATED_AHEAD_BYTES: usize = 1 << 20;
/// Arenas whose segments are smaller ask for nothing.
const LEAST_AHEAD_SEGMENT_BYTES: usize = 1 << 20;

/// A part of the arena; its code goes together.
pub(crate) type Segment = usize;

/// Host code in the arena.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HostCode {
    /// Its first instruction.
    pub(crate) start: *const u8,
    pub(crate) bytes: usize,
    pub(crate) segment: Segment,
}

impl HostCode {
    /// Without its first bytes, which are not executed.
    pub(crate) fn behind(self, bytes: usize) -> Self {
        Self { start: self.start.wrapping_add(bytes), bytes: self.bytes - bytes, ..self }
    }
}

// SAFETY: an address, which only the arena's owner turns into calls.
unsafe impl Send for HostCode {}

/// Executable memory of fixed size. When it is full, the oldest of its segments is used again.
#[derive(Debug)]
pub(crate) struct CodeArena {
    views: Views,
    /// Code begins at multiples of this.
    alignment: usize,
    segment_bytes: usize,
    current: Segment,
    /// Bytes used in the current segment.
    used: usize,
    /// The host has been asked for memory up to here, while the arena is filled for the first time.
    ahead: usize,
    /// And to allocate some up to there.
    allocated: usize,
}

#[derive(Debug)]
enum Views {
    Dual {
        write: MmapMut,
        execute: Mmap,
        file: Arc<File>,
    },
    /// None only while code is written.
    Single(Option<Mmap>),
}

impl CodeArena {
    /// An arena of about `capacity` bytes, of which the host gives only what is used. Code will begin at multiples of `alignment`,
    /// which is `DENSE` or `LINE`.
    pub(crate) fn new(capacity: usize, alignment: usize) -> io::Result<Self> {
        let segment_bytes = (capacity / SEGMENTS).max(LEAST_SEGMENT_BYTES) & !0xfff;
        let length = segment_bytes * SEGMENTS;
        let views = match map_twice(length) {
            Ok(views) => views,
            Err(_) => Views::Single(Some(MmapMut::map_anon(length)?.make_exec()?)),
        };
        Ok(Self { views, alignment, segment_bytes, current: 0, used: 0, ahead: 0, allocated: 0 })
    }

    /// The segment whose code must be given up before `bytes` more can be added, if there is not room enough.
    pub(crate) fn make_room(&mut self, bytes: usize) -> Option<Segment> {
        if self.used + bytes <= self.segment_bytes {
            return None;
        }
        self.current = (self.current + 1) % SEGMENTS;
        self.used = 0;
        Some(self.current)
    }

    /// Adds what `Compiler` made, for which `make_room` has been asked. None if it is larger than a segment.
    pub(crate) fn add(&mut self, code: &[u8]) -> io::Result<Option<HostCode>> {
        if self.used + code.len() > self.segment_bytes {
            return Ok(None);
        }
        let at = self.current * self.segment_bytes + self.used;
        self.used = (self.used + code.len()).next_multiple_of(self.alignment).min(self.segment_bytes);
        while self.segment_bytes >= LEAST_AHEAD_SEGMENT_BYTES && self.ahead < at + code.len() {
            self.views.populate(self.ahead, AHEAD_BYTES);
            self.ahead += AHEAD_BYTES;
            if self.allocated < self.ahead + ALLOCATED_AHEAD_BYTES {
                self.allocated = self.allocated.max(self.ahead);
                self.views.allocate(self.allocated, ALLOCATED_AHEAD_BYTES);
                self.allocated += ALLOCATED_AHEAD_BYTES;
            }
        }
        let start = self.views.write(at, code)?;
        Ok(Some(HostCode { start, bytes: code.len(), segment: self.current }))
    }

    /// The host instructions of what was added, and constants behind them.
    pub(crate) fn bytes(&self, code: &HostCode) -> &[u8] {
        let memory = self.views.executable();
        let at = code.start.addr().wrapping_sub(memory.as_ptr().addr());
        memory.get(at..at + code.bytes).unwrap_or_default()
    }
}

impl Views {
    fn executable(&self) -> &[u8] {
        match self {
            Self::Dual { execute, .. } => execute,
            Self::Single(memory) => memory.as_deref().unwrap_or_default(),
        }
    }

    /// Has the host give memory to `length` bytes at offset `at`, as far as they are within the arena. If it cannot now, it
    /// does when they are touched.
    #[cfg(target_os = "linux")]
    fn populate(&self, at: usize, length: usize) {
        if let Self::Dual { write, execute, .. } = self {
            let length = length.min(write.len().saturating_sub(at));
            let _ = write.advise_range(Advice::PopulateWrite, at, length);
            let _ = execute.advise_range(Advice::PopulateRead, at, length);
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn populate(&self, _at: usize, _length: usize) {}

    /// Has memory allocated for `length` bytes at offset `at`, as far as they are within the arena, while this thread goes on.
    #[cfg(target_os = "linux")]
    fn allocate(&self, at: usize, length: usize) {
        if let Self::Dual { write, file, .. } = self {
            let length = length.min(write.len().saturating_sub(at));
            if length != 0 {
                // Without that thread, memory comes when it is asked for.
                let _ = ALLOCATOR.get_or_init(allocator).send((file.clone(), at as u64, length as u64));
            }
        }
    }

    #[cfg(not(target_os = "linux"))]
    fn allocate(&self, _at: usize, _length: usize) {}

    /// Copies `code` to offset `at`, and returns where it is executed.
    fn write(&mut self, at: usize, code: &[u8]) -> io::Result<*const u8> {
        match self {
            Self::Dual { write, .. } => write[at..at + code.len()].copy_from_slice(code),
            Self::Single(memory) => {
                let mapped = memory.take().ok_or(io::ErrorKind::OutOfMemory)?;
                let mut writable = mapped.make_mut()?;
                writable[at..at + code.len()].copy_from_slice(code);
                *memory = Some(writable.make_exec()?);
            }
        }
        let code = &self.executable()[at..at + code.len()];
        synchronize_instruction_cache(code);
        Ok(code.as_ptr())
    }
}

/// A file, an offset and a length.
#[cfg(target_os = "linux")]
type Allocation = (Arc<File>, u64, u64);

/// Who allocates memory for all arenas; waits most of the time.
#[cfg(target_os = "linux")]
static ALLOCATOR: OnceLock<Sender<Allocation>> = OnceLock::new();

#[cfg(target_os = "linux")]
fn allocator() -> Sender<Allocation> {
    let (sender, wanted) = channel::<Allocation>();
    let allocate = move || {
        for (file, at, length) in wanted {
            let _ = rustix::fs::fallocate(&*file, FallocateFlags::empty(), at, length);
        }
    };
    // Without it, nobody listens.
    let _ = std::thread::Builder::new().name("code-memory".to_owned()).spawn(allocate);
    sender
}

/// Maps `length` bytes of new memory twice.
#[cfg(target_os = "linux")]
fn map_twice(length: usize) -> io::Result<Views> {
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
    let memory = memfd_create("rx86-code", MemfdFlags::CLOEXEC)?;
    ftruncate(&memory, length as u64)?;
    let memory = File::from(memory);
    let options = || {
        let mut options = MmapOptions::new();
        options.len(length);
        options
    };
    // SAFETY: the file has no name, and only these two mappings and `Views` know it: it is not shortened, and what is executed is
    // written by `Views::write` alone, which nobody calls while code that it replaces is executed.
    let (write, execute) = unsafe { (options().map_mut(&memory)?, options().map_exec(&memory)?) };
    Ok(Views::Dual { write, execute, file: Arc::new(memory) })
}

#[cfg(not(target_os = "linux"))]
fn map_twice(_length: usize) -> io::Result<Views> {
    Err(io::ErrorKind::Unsupported.into())
}

/// x86 hosts keep instruction fetches coherent with stores.
#[cfg(not(target_arch = "aarch64"))]
fn synchronize_instruction_cache(_code: &[u8]) {}

/// Makes new code visible to instruction fetches (Arm ARM, B2.4.4).
#[cfg(target_arch = "aarch64")]
fn synchronize_instruction_cache(code: &[u8]) {
    use std::arch::asm;
    // The smallest line that any core has; cleaning a line twice is harmless.
    const LINE: usize = 16;
    for line in code.chunks(LINE) {
        // SAFETY: cleans the data cache line of an address that we may read.
        unsafe { asm!("dc cvau, {}", in(reg) line.as_ptr(), options(nostack, preserves_flags)) };
    }
    // SAFETY: a barrier.
    unsafe { asm!("dsb ish", options(nostack, preserves_flags)) };
    for line in code.chunks(LINE) {
        // SAFETY: invalidates the instruction cache line of an address that we may read.
        unsafe { asm!("ic ivau, {}", in(reg) line.as_ptr(), options(nostack, preserves_flags)) };
    }
    // SAFETY: barriers.
    unsafe { asm!("dsb ish", "isb", options(nostack, preserves_flags)) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_where_it_was_put_and_the_oldest_segment_goes_first() {
        let single = Views::Single(Some(MmapMut::map_anon(SEGMENTS << 12).unwrap().make_exec().unwrap()));
        let dual = map_twice(SEGMENTS << 12).unwrap_or(Views::Single(None));
        for (views, alignment) in [(single, DENSE), (dual, LINE)] {
            if matches!(views, Views::Single(None)) {
                continue;
            }
            let segment_bytes = 1 << 12;
            let mut arena =
                CodeArena { views, alignment, segment_bytes, current: 0, used: 0, ahead: 0, allocated: 0 };
            let mut evicted = Vec::new();
            for round in 0..2 * SEGMENTS as u8 + 3 {
                let code = [round; 3000];
                evicted.extend(arena.make_room(code.len()));
                let added = arena.add(&code).unwrap().unwrap();
                assert_eq!(arena.bytes(&added), code, "round {round}");
                assert_eq!(added.start.addr() % alignment, 0);
            }
            let expected: Vec<Segment> = (1..2 * SEGMENTS + 3).map(|round| round % SEGMENTS).collect();
            assert_eq!(evicted, expected);
            assert!(arena.make_room(5000).is_some());
            assert!(arena.add(&[0; 5000]).unwrap().is_none(), "larger than a segment");
        }
    }

    #[test]
    fn code_begins_where_the_alignment_says() {
        for alignment in [DENSE, LINE] {
            let mut arena = CodeArena::new(0, alignment).unwrap();
            let starts = [1, alignment, alignment + 1, 1].map(|bytes| {
                let added = arena.add(&vec![0; bytes]).unwrap().unwrap();
                added.start.addr() - arena.views.executable().as_ptr().addr()
            });
            assert_eq!(starts, [0, 1, 2, 4].map(|multiple| multiple * alignment));
        }
    }
}
