//! Guest faults and traps as values (SDM vol. 3, 6.15). They are never Rust errors of the host and never panics.

use rx86_softmmu::PageFault;

/// An exception that the current instruction raised, not yet delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// #PF: the linear address for CR2. #DB: the bits to set in DR6. Otherwise zero.
    pub payload: u64,
    /// The error code, meaningful if `has_error_code`.
    pub error_code: u32,
    /// The vector, 0 to 31.
    pub vector: u8,
    /// Whether delivery pushes an error code.
    pub has_error_code: bool,
}

macro_rules! plain_exceptions {
    ($($(#[$doc:meta])* $name:ident = $vector:literal;)*) => {
        $($(#[$doc])* pub const $name: Exception =
            Exception { vector: $vector, error_code: 0, has_error_code: false, payload: 0 };)*
    };
}

impl Exception {
    plain_exceptions! {
        /// #DE, divide error.
        DE = 0;
        /// #BP, breakpoint.
        BP = 3;
        /// #OF, overflow.
        OF = 4;
        /// #BR, bound range exceeded.
        BR = 5;
        /// #UD, invalid opcode.
        UD = 6;
        /// #NM, device not available.
        NM = 7;
        /// #MF, x87 floating-point error.
        MF = 16;
        /// #XM, SIMD floating-point error.
        XM = 19;
    }

    /// The vector of a double fault.
    pub const DOUBLE_FAULT: u8 = 8;
    /// The vector of a page fault.
    pub const PAGE_FAULT: u8 = 14;

    const fn with_code(vector: u8, error_code: u32) -> Self {
        Self { vector, error_code, has_error_code: true, payload: 0 }
    }

    /// #DB with the DR6 bits that it reports.
    pub const fn db(dr6_bits: u64) -> Self {
        Self { vector: 1, error_code: 0, has_error_code: false, payload: dr6_bits }
    }
    /// #DF; its error code is always zero.
    pub const fn df() -> Self {
        Self::with_code(Self::DOUBLE_FAULT, 0)
    }
    /// #TS with a selector or zero.
    pub const fn ts(code: u32) -> Self {
        Self::with_code(10, code)
    }
    /// #NP with a selector.
    pub const fn np(code: u32) -> Self {
        Self::with_code(11, code)
    }
    /// #SS with a selector or zero.
    pub const fn ss(code: u32) -> Self {
        Self::with_code(12, code)
    }
    /// #GP with a selector or zero.
    pub const fn gp(code: u32) -> Self {
        Self::with_code(13, code)
    }
    /// #PF at a linear address, with the SDM's error code bits.
    pub const fn pf(linear: u64, error_code: u32) -> Self {
        Self { vector: Self::PAGE_FAULT, error_code, has_error_code: true, payload: linear }
    }
    /// #AC; its error code is always zero.
    pub const fn ac() -> Self {
        Self::with_code(17, 0)
    }
}

impl From<PageFault> for Exception {
    fn from(fault: PageFault) -> Self {
        Self::pf(fault.linear, fault.error_code)
    }
}
