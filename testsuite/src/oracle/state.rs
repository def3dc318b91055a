//! The user-visible registers, in a layout that a host can load and save: general registers, an FXSAVE image (SDM
//! vol. 1, 10.5.1) for x87, MMX and SSE, and the upper halves of the YMM registers.

use super::DATA;

/// The status flags and DF: what cases compare of RFLAGS.
pub const FLAGS: u64 = 0xcd5;
/// Index of RSP.
pub const RSP: usize = 4;

const FTW: usize = 4;
const MXCSR: usize = 24;
const ST: usize = 32;
const XMM: usize = 160;

/// Registers of one logical processor in 64-bit mode.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct State {
    /// General registers in encoding order.
    pub gpr: [u64; 16],
    /// RIP.
    pub rip: u64,
    /// RFLAGS, `FLAGS` only.
    pub rflags: u64,
    /// The FXSAVE image: FCW, FSW, abridged tags, MXCSR, ST(0) to ST(7), XMM0 to XMM15.
    pub fx: [u8; 512],
    /// Bits 128 to 255 of YMM0 to YMM15. A host without AVX ignores them.
    pub ymm_high: [u128; 16],
}

impl Default for State {
    fn default() -> Self {
        let mut state = Self { gpr: [0; 16], rip: 0, rflags: 0, fx: [0; 512], ymm_high: [0; 16] };
        state.gpr[RSP] = DATA + 0x800;
        state.set_fcw(0x37f);
        state.set_mxcsr(0x1f80);
        state
    }
}

impl State {
    /// Clears what programs outside 64-bit mode have no name for: the upper halves of registers may be lost there.
    pub fn narrow(&mut self) {
        for register in &mut self.gpr {
            *register &= 0xffff_ffff;
        }
    }

    fn half(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.fx[at], self.fx[at + 1]])
    }

    /// The x87 control word.
    pub fn fcw(&self) -> u16 {
        self.half(0)
    }

    /// Sets the x87 control word.
    pub fn set_fcw(&mut self, value: u16) {
        self.fx[..2].copy_from_slice(&value.to_le_bytes());
    }

    /// The x87 status word.
    pub fn fsw(&self) -> u16 {
        self.half(2)
    }

    /// Sets the x87 status word.
    pub fn set_fsw(&mut self, value: u16) {
        self.fx[2..4].copy_from_slice(&value.to_le_bytes());
    }

    /// The abridged tag word: bit i is set if physical register i is in use.
    pub fn ftw(&self) -> u8 {
        self.fx[FTW]
    }

    /// Sets the abridged tag word.
    pub fn set_ftw(&mut self, value: u8) {
        self.fx[FTW] = value;
    }

    /// MXCSR.
    pub fn mxcsr(&self) -> u32 {
        u32::from(self.half(MXCSR)) | u32::from(self.half(MXCSR + 2)) << 16
    }

    /// Sets MXCSR.
    pub fn set_mxcsr(&mut self, value: u32) {
        self.fx[MXCSR..MXCSR + 4].copy_from_slice(&value.to_le_bytes());
    }

    /// ST(`i`) as 80 bits.
    pub fn st(&self, i: usize) -> u128 {
        let mut bytes = [0; 16];
        bytes[..10].copy_from_slice(&self.fx[ST + 16 * i..][..10]);
        u128::from_le_bytes(bytes)
    }

    /// Sets ST(`i`) to 80 bits.
    pub fn set_st(&mut self, i: usize, value: u128) {
        self.fx[ST + 16 * i..][..10].copy_from_slice(&value.to_le_bytes()[..10]);
    }

    /// XMM`i`.
    pub fn xmm(&self, i: usize) -> u128 {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.fx[XMM + 16 * i..][..16]);
        u128::from_le_bytes(bytes)
    }

    /// Sets XMM`i`.
    pub fn set_xmm(&mut self, i: usize, value: u128) {
        self.fx[XMM + 16 * i..][..16].copy_from_slice(&value.to_le_bytes());
    }
}
