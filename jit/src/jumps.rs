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

impl JumpEntry {
    fn addresses(&self) -> (*const u8, *const Call) {
        let code = std::ptr::with_exposed_provenance(self.code as usize);
        (code, std::ptr::with_exposed_provenance(self.calls as usize))
    }
}

/// Of which code the translation of an entry is, if it is entered there in any mapping of that code; else `NO_CODE`.
type Origin = u64;

/// Never the physical address of code.
const NO_CODE: Origin = u64::MAX;

/// The entries, each where the low bits of `rip ^ rip >> SHIFT` say. `thunks` has the same as host code.
#[derive(Debug)]
pub(crate) struct JumpCache {
    entries: Box<[JumpEntry]>,
    origins: Box<[Origin]>,
}

/// Distance of the RIP's bits that are combined.
pub(crate) const SHIFT: u32 = 12;

fn slot_of(rip: u64) -> usize {
    (rip ^ rip >> SHIFT) as usize & (ENTRIES - 1)
}

impl JumpCache {
    pub(crate) fn new() -> Self {
        Self {
            entries: vec![EMPTY; ENTRIES].into_boxed_slice(),
            origins: vec![NO_CODE; ENTRIES].into_boxed_slice(),
        }
    }

    /// `origin` is the physical address of the guest's code if the translation may be entered wherever that is mapped at
    /// `rip`.
    pub(crate) fn remember(
        &mut self,
        rip: u64,
        tag: u64,
        code: &HostCode,
        calls: &[Call],
        origin: Option<u64>,
    ) {
        let slot = slot_of(rip);
        self.origins[slot] = origin.unwrap_or(NO_CODE);
        let code = code.start.expose_provenance() as u64;
        let calls = calls.as_ptr().expose_provenance() as u64;
        self.entries[slot] = JumpEntry { rip, tag, code, calls };
    }

    /// The translation that is known at `rip` under the mapping and mode of `tag`, as `retag` gives it.
    pub(crate) fn known(&self, rip: u64, tag: u64) -> Option<(*const u8, *const Call)> {
        let entry = &self.entries[slot_of(rip)];
        (entry.rip == rip && entry.tag == tag && tag != NO_TAG).then(|| entry.addresses())
    }

    /// The translation that is known at `rip` under another mapping in the same mode, if the code at physical address `gpa`
    /// is its own: the addresses of its host code and of its `Call`s. It is known under the mapping of `tag` then.
    pub(crate) fn retag(&mut self, rip: u64, tag: u64, gpa: u64) -> Option<(*const u8, *const Call)> {
        let slot = slot_of(rip);
        let entry = &mut self.entries[slot];
        let is_known = entry.rip == rip && entry.tag != NO_TAG && (entry.tag ^ tag) as u16 == 0;
        if !is_known || self.origins[slot] != gpa {
            return None;
        }
        entry.tag = tag;
        Some(entry.addresses())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_is_known_again_in_another_mapping_of_the_same_page() {
        let mut jumps = JumpCache::new();
        let host = [0_u8; 16];
        let code = HostCode { start: host.as_ptr(), bytes: 16, segment: 0 };
        jumps.remember(0x1234, 1 << 16 | 5, &code, &[], Some(0x9234));
        assert_eq!(jumps.known(0x1234, 1 << 16 | 5).map(|(code, _)| code), Some(code.start));
        assert!(jumps.known(0x1234, 2 << 16 | 5).is_none(), "another mapping");
        assert!(jumps.known(0x1235, 1 << 16 | 5).is_none(), "another place");
        assert!(jumps.retag(0x1234, 2 << 16 | 5, 0x8234).is_none(), "other code");
        assert!(jumps.retag(0x1234, 2 << 16 | 4, 0x9234).is_none(), "another mode");
        assert!(jumps.retag(0x1235, 2 << 16 | 5, 0x9234).is_none(), "another place");
        assert_eq!(jumps.retag(0x1234, 2 << 16 | 5, 0x9234).map(|(code, _)| code), Some(code.start));
        assert_eq!(jumps.entries[slot_of(0x1234)].tag, 2 << 16 | 5);
        jumps.remember(0x1234, 3 << 16 | 5, &code, &[], None);
        assert!(
            jumps.retag(0x1234, 4 << 16 | 5, 0x9234).is_none(),
            "its other pages would have to be looked at"
        );
        jumps.remember(0x1234, 3 << 16 | 5, &code, &[], Some(0x9234));
        jumps.forget(0x1234, &code);
        assert!(jumps.retag(0x1234, 4 << 16 | 5, 0x9234).is_none(), "forgotten");
    }
}
