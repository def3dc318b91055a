//! The guest's MXCSR in the host's while translated code computes (SDM vol. 1, 10.2.3).
//!
//! Translated floating point is only entered while the guest has all exceptions masked: an unmasked one would have to be
//! raised precisely. Functions that may look at MXCSR or compute in floating point run with the host's own.

#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "LDMXCSR and STMXCSR"))]

/// The six exception flags.
pub(crate) const FLAGS: u32 = 0x3f;
/// The six exception masks.
const MASKS: u32 = 0x3f << 7;

/// Whether the guest masks all exceptions.
pub(crate) fn is_masked(mxcsr: u32) -> bool {
    mxcsr & MASKS == MASKS
}

/// Whether code translated under `before` may go on under `after`: nothing but flags has been set.
pub(crate) fn only_adds_flags(before: u32, after: u32) -> bool {
    (before ^ after) & !FLAGS == 0 && before & !after == 0
}

/// Replaces the host's MXCSR by `mxcsr`, which must be one that the guest may load with all exceptions masked, or what this
/// function gave back before; gives back the one that was there.
#[cfg(target_arch = "x86_64")]
pub(crate) fn exchange(mxcsr: u32) -> u32 {
    let mut old = 0u32;
    // SAFETY: STMXCSR writes the four bytes of `old`. LDMXCSR faults on reserved bits only, of which `mxcsr` has none. The
    // Rust code that runs under it (finding a host address) computes nothing in floating point.
    unsafe {
        std::arch::asm!(
            "stmxcsr [{old}]",
            "ldmxcsr [{new}]",
            old = in(reg) &raw mut old,
            new = in(reg) &raw const mxcsr,
            options(nostack, preserves_flags)
        );
    }
    old
}

/// Other hosts have none, and no translated floating point.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn exchange(mxcsr: u32) -> u32 {
    mxcsr
}
