//! The flags by which a board, a timer or a host thread asks a running vCPU to look up at the next block border.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// One vCPU's attention flags, shared with everybody who may want it to look up.
///
/// The engine reads them once per block; a zero costs one load. Bits are set from any thread and taken by the vCPU.
#[derive(Clone, Debug, Default)]
pub struct Attention(Arc<AtomicU32>);

impl Attention {
    /// The interrupt controller may have a vector to deliver.
    pub const INTERRUPT: u32 = 1 << 0;
    /// A non-maskable interrupt is pending.
    pub const NMI: u32 = 1 << 1;
    /// `run` should return to the machine as soon as the current block ends.
    pub const KICK: u32 = 1 << 2;
    /// A page that holds translated code was written by something other than this vCPU.
    pub const CODE_WRITTEN: u32 = 1 << 3;
    /// INIT or SIPI has arrived at the local APIC.
    pub const INIT: u32 = 1 << 4;

    /// Sets `bits`.
    #[inline]
    pub fn raise(&self, bits: u32) {
        self.0.fetch_or(bits, Ordering::Release);
    }

    /// Clears `bits`.
    #[inline]
    pub fn clear(&self, bits: u32) {
        self.0.fetch_and(!bits, Ordering::AcqRel);
    }

    /// Where generated code finds the flags, which change under it.
    pub fn as_ptr(&self) -> *const u32 {
        self.0.as_ptr().cast_const()
    }

    /// All flags now set.
    #[inline(always)]
    pub fn peek(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}
