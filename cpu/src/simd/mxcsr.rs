//! MXCSR: loading, storing, and raising what its masks let through (SDM vol. 1, 10.2.3 and 11.5).

use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::float::sse::is_unmasked;
use crate::op::Op;
use crate::ops::Hard;
use crate::state::bits;
use iced_x86::{Instruction, Mnemonic};

/// MXCSR's bits that software may set; setting any other raises #GP. FXSAVE reports it as MXCSR_MASK.
pub const MXCSR_MASK: u32 = 0xffff;
/// MXCSR after a reset: all exceptions masked, round to nearest.
pub const MXCSR_INITIAL: u32 = 0x1f80;

impl Cpu {
    /// Makes exception flags (bits 0 to 5 of MXCSR) sticky; #XM if one is unmasked, or #UD without
    /// CR4.OSXMMEXCPT.
    #[inline(always)]
    pub(super) fn raise_simd(&mut self, flags: u16) -> Result<(), Exception> {
        if flags == 0 {
            return Ok(());
        }
        self.state.mxcsr |= u32::from(flags);
        if is_unmasked(flags, self.state.mxcsr) {
            return Err(if self.state.cr4 & bits::CR4_OSXMMEXCPT != 0 {
                Exception::XM
            } else {
                Exception::UD
            });
        }
        Ok(())
    }
}

/// #GP(0) if `mxcsr` has a reserved bit set.
pub(super) fn check_mxcsr(mxcsr: u32) -> Result<(), Exception> {
    if mxcsr & !MXCSR_MASK == 0 { Ok(()) } else { Err(Exception::gp(0)) }
}

pub(super) fn ldmxcsr(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let value = u32::from_le_bytes(cpu.load_bytes(op)?);
    check_mxcsr(value)?;
    cpu.state.mxcsr = value;
    Ok(())
}

pub(super) fn stmxcsr(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    cpu.store_bytes(op, cpu.state.mxcsr.to_le_bytes())
}

pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    match instruction.mnemonic() {
        Mnemonic::Ldmxcsr => Some(ldmxcsr),
        Mnemonic::Stmxcsr => Some(stmxcsr),
        _ => None,
    }
}
