//! The flags by which a board, a timer or a host thread asks a vCPU to look up at the next block border, or to wake.

use crate::sync::thread::{self, Thread};
use crate::sync::{Arc, AtomicU32, Mutex, Ordering, fence, spin_loop};
use std::sync::PoisonError;
use std::time::Duration;

/// One vCPU's attention flags, shared with everybody who may want it to look up.
///
/// The engine reads them once per block; a zero costs one load. Bits are set from any thread and taken by the vCPU.
#[derive(Clone, Debug, Default)]
pub struct Attention(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    flags: AtomicU32,
    /// The flags that end the vCPU's sleep; zero while it is awake.
    wakes: AtomicU32,
    sleeper: Mutex<Option<Thread>>,
}

impl Attention {
    /// The interrupt controller may have a vector to deliver.
    pub const INTERRUPT: u32 = 1 << 0;
    /// A non-maskable interrupt is pending.
    pub const NMI: u32 = 1 << 1;
    /// `run` should return to the machine as soon as the current block ends.
    pub const KICK: u32 = 1 << 2;
    /// A page that holds translated code was written by something other than this vCPU, or has become one.
    pub const CODE_WRITTEN: u32 = 1 << 3;
    /// INIT or SIPI has arrived at the local APIC.
    pub const INIT: u32 = 1 << 4;
    /// Another vCPU ends this one's next HLT, or the present one, by hypercall.
    pub const UNHALT: u32 = 1 << 5;

    /// Sets `bits`, and wakes the vCPU if it sleeps until one of them.
    #[inline]
    pub fn raise(&self, bits: u32) {
        self.0.flags.fetch_or(bits, Ordering::AcqRel);
        // `sleep` writes `wakes` and then reads the flags: with a fence on both sides one of the two sees the other.
        fence(Ordering::SeqCst);
        if self.0.wakes.load(Ordering::Acquire) & bits != 0 {
            self.wake();
        }
    }

    #[cold]
    fn wake(&self) {
        if let Some(sleeper) = &*self.0.sleeper.lock().unwrap_or_else(PoisonError::into_inner) {
            sleeper.unpark();
        }
    }

    /// Clears `bits`.
    #[inline]
    pub fn clear(&self, bits: u32) {
        self.0.flags.fetch_and(!bits, Ordering::AcqRel);
    }

    /// Where generated code finds the flags, which change under it.
    #[cfg(not(loom))]
    pub fn as_ptr(&self) -> *const u32 {
        self.0.flags.as_ptr().cast_const()
    }

    /// All flags now set.
    #[inline(always)]
    pub fn peek(&self) -> u32 {
        self.0.flags.load(Ordering::Relaxed)
    }

    /// Looks for one of `bits` as long as `goes_on` says, and returns whether one came up; the host CPU is kept.
    pub fn comes_up(&self, bits: u32, mut goes_on: impl FnMut() -> bool) -> bool {
        while goes_on() {
            if self.peek() & bits != 0 {
                return true;
            }
            spin_loop();
        }
        false
    }

    /// Gives the host CPU away until one of `bits` is up, but no longer than `limit`; may return earlier. To be called by
    /// the vCPU's own thread.
    pub fn sleep(&self, bits: u32, limit: Duration) {
        *self.0.sleeper.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread::current());
        self.0.wakes.store(bits, Ordering::Release);
        fence(Ordering::SeqCst);
        if self.0.flags.load(Ordering::Acquire) & bits == 0 {
            park(limit);
        }
        self.0.wakes.store(0, Ordering::Release);
    }
}

#[cfg(not(loom))]
fn park(limit: Duration) {
    thread::park_timeout(limit);
}

/// A thread that nobody wakes is a deadlock to the model checker, which has no time.
#[cfg(loom)]
fn park(_: Duration) {
    thread::park();
}
