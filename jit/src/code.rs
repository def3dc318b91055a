//! Host code in executable memory, and the way into it.

#![expect(unsafe_code, reason = "makes host code executable and calls it")]

use crate::context::JitContext;
use memmap2::{Mmap, MmapMut};
use std::io;

/// Host code in memory of its own that is executable and not writable.
#[derive(Debug)]
pub(crate) struct HostCode {
    mapping: Mmap,
    length: usize,
}

impl HostCode {
    /// Maps `code`, which must be what `Compiler` made.
    pub(crate) fn new(code: &[u8]) -> io::Result<Self> {
        let mut mapping = MmapMut::map_anon(code.len().max(1))?;
        mapping[..code.len()].copy_from_slice(code);
        let mapping = mapping.make_exec()?;
        synchronize_instruction_cache(&mapping);
        Ok(Self { mapping, length: code.len() })
    }

    /// The host instructions.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.mapping[..self.length]
    }

    /// The address of the first one.
    pub(crate) fn start(&self) -> *const u8 {
        self.mapping.as_ptr()
    }

    /// Executes the translation; returns why it left.
    pub(crate) fn enter(&self, context: &mut JitContext) -> u64 {
        // SAFETY: the mapping starts with a function that the compiler wrote with this signature and the host's C
        // calling convention.
        let entry: extern "C" fn(*mut JitContext) -> u64 =
            unsafe { std::mem::transmute(self.mapping.as_ptr()) };
        // The function reads and writes `Vcpu` at the offsets of its fields, reads the TLB within its SETS entries, accesses
        // guest RAM only through entries whose tag matches, and calls the functions in the context.
        let kind = entry(&raw mut *context);
        context.unload_mxcsr();
        kind
    }
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
