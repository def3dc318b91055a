//! The jump cache: where translated code finds the translation that goes on at an RIP, without the engine.

use crate::code::HostCode;
use crate::context::Call;

/// Entries; a power of two.
pub(crate) const ENTRIES: usize = 32768;

/// Says that the translation of the code at `rip` may be entered, in the mapping and mode of `tag`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub(crate) struct JumpEntry {
    pub(crate) rip: u64,
    pub(crate) tag: u64,
    /// The address of its host code.
    pub(crate) code: u64,
    /// The address of its `Call`s.
    pub(crate) calls: u64,
}

/// Never the tag of a mapping.
pub(crate) const NO_TAG: u64 = u64::MAX;

const EMPTY: JumpEntry = JumpEntry { rip: 0, tag: NO_TAG, code: 0, calls: 0 };

/// The entries, each where the low bits of `rip ^ rip >> SHIFT` say. `thunks` has the same as host code.
#[derive(Debug)]
pub(crate) struct JumpCache {
    entries: Box<[JumpEntry]>,
}

/// Distance of the RIP's bits that are combined.
pub(crate) const SHIFT: u32 = 12;

fn slot_of(rip: u64) -> usize {
    (rip ^ rip >> SHIFT) as usize & (ENTRIES - 1)
}

impl JumpCache {
    pub(crate) fn new() -> Self {
        Self { entries: vec![EMPTY; ENTRIES].into_boxed_slice() }
    }

    pub(crate) fn remember(&mut self, rip: u64, tag: u64, code: &HostCode, calls: &[Call]) {
        let slot = slot_of(rip);
        let code = code.start.expose_provenance() as u64;
        let calls = calls.as_ptr().expose_provenance() as u64;
        self.entries[slot] = JumpEntry { rip, tag, code, calls };
    }

    /// Forgets the translation whose code this is at `rip`.
    pub(crate) fn forget(&mut self, rip: u64, code: &HostCode) {
        let entry = &mut self.entries[slot_of(rip)];
        if entry.code == code.start.addr() as u64 {
            *entry = EMPTY;
        }
    }

    pub(crate) fn as_ptr(&self) -> *const JumpEntry {
        self.entries.as_ptr()
    }
}
