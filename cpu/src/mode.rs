//! The mode bits that decoding and execution look at. They are part of every block's key, so code that was decoded
//! under one mode never runs under another.

use crate::features::xsave_area;
use crate::state::{SegmentIndex, Vcpu, bits};

/// A compact image of every bit of state that decoding looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ModeKey(pub u32);

impl ModeKey {
    /// 64-bit mode.
    pub const LONG64: u32 = 1 << 0;
    /// CS.D: 32-bit code.
    pub const CODE32: u32 = 1 << 1;
    /// SS.B: 32-bit stack.
    pub const STACK32: u32 = 1 << 2;
    /// CR0.PE.
    pub const PROTECTED: u32 = 1 << 3;
    /// RFLAGS.VM.
    pub const VM86: u32 = 1 << 4;
    /// CR0.EM.
    pub const EMULATE_FPU: u32 = 1 << 5;
    /// CR0.TS.
    pub const TASK_SWITCHED: u32 = 1 << 6;
    /// CR0.MP.
    pub const MONITOR_FPU: u32 = 1 << 7;
    /// CR4.OSFXSR.
    pub const OSFXSR: u32 = 1 << 8;
    /// CR4.OSXSAVE.
    pub const OSXSAVE: u32 = 1 << 9;
    /// Alignment checks are in force: CR0.AM, RFLAGS.AC and CPL 3.
    pub const ALIGNMENT: u32 = 1 << 10;
    /// CPL 3.
    pub const USER: u32 = 1 << 11;

    /// AVX state is enabled: CR4.OSXSAVE, and XCR0[2:1] = 11b.
    pub const AVX: u32 = 1 << 12;

    /// The key of `state`.
    pub fn of(state: &Vcpu) -> Self {
        let mut key = 0;
        let mut set = |condition: bool, bit: u32| key |= if condition { bit } else { 0 };
        let long64 = state.in_64bit_mode();
        set(long64, Self::LONG64);
        set(!long64 && state.segments[SegmentIndex::CS].default_32(), Self::CODE32);
        set(!long64 && state.segments[SegmentIndex::SS].default_32(), Self::STACK32);
        set(state.cr0 & bits::CR0_PE != 0, Self::PROTECTED);
        set(state.vm86(), Self::VM86);
        set(state.cr0 & bits::CR0_EM != 0, Self::EMULATE_FPU);
        set(state.cr0 & bits::CR0_TS != 0, Self::TASK_SWITCHED);
        set(state.cr0 & bits::CR0_MP != 0, Self::MONITOR_FPU);
        set(state.cr4 & bits::CR4_OSFXSR != 0, Self::OSFXSR);
        set(state.cr4 & bits::CR4_OSXSAVE != 0, Self::OSXSAVE);
        let avx = xsave_area::SSE | xsave_area::AVX;
        set(state.cr4 & bits::CR4_OSXSAVE != 0 && state.xcr0 & avx == avx, Self::AVX);
        let aligned = state.cr0 & bits::CR0_AM != 0 && state.flags.system & bits::RFLAGS_AC != 0;
        set(aligned && state.cpl == 3, Self::ALIGNMENT);
        set(state.cpl == 3, Self::USER);
        Self(key)
    }

    /// Whether all bits of `bits` are set.
    #[inline(always)]
    pub const fn has(self, bits: u32) -> bool {
        self.0 & bits == bits
    }

    /// The default code size in bits.
    pub const fn code_bits(self) -> u32 {
        if self.has(Self::LONG64) {
            64
        } else if self.has(Self::CODE32) {
            32
        } else {
            16
        }
    }
}
