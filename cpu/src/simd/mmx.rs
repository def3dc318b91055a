//! MMX registers and the operand shapes of MMX instructions (SDM vol. 1, 9.2 and 9.6).
//!
//! MMX register `i` is the significand of physical x87 register R`i`. Leaves are those of XMM: lanes do not care how
//! wide their vector is, and where they do (packs, horizontal sums) both operands are put into one vector.

use super::lanes::Vector;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::{Op, reg};
use crate::state::bits;

/// x87 status word: an unmasked exception is pending (ES).
const ERROR_SUMMARY: u16 = 1 << 7;
/// x87 status word: TOP.
const TOP: u16 = 7 << 11;
/// What MMX writes leave in a register's sign and exponent.
const ALL_ONES: u16 = 0xffff;

impl Cpu {
    /// #MF if an unmasked x87 exception is pending. Without CR0.NE it is reported by FERR#, as an interrupt.
    #[inline(always)]
    pub(super) fn mmx_check(&mut self) -> Result<(), Exception> {
        if self.state.x87.status & ERROR_SUMMARY == 0 {
            return Ok(());
        }
        if self.state.cr0 & bits::CR0_NE != 0 {
            return Err(Exception::MF);
        }
        self.env.set_ferr(true);
        Ok(())
    }

    /// The transition from x87 to MMX operation: TOP becomes 0 and all registers valid. It follows all checks.
    #[inline(always)]
    pub(super) fn mmx_enter(&mut self) {
        self.state.x87.status &= !TOP;
        self.state.x87.tags = 0;
    }

    /// MMX register `index` (0 to 7).
    #[inline(always)]
    pub(super) fn mmx(&self, index: u8) -> u64 {
        self.state.x87.regs[usize::from(index & 7)].mantissa
    }

    /// Sets an MMX register, and its exponent to all ones.
    #[inline(always)]
    pub(super) fn set_mmx(&mut self, index: u8, value: u64) {
        let register = &mut self.state.x87.regs[usize::from(index & 7)];
        register.mantissa = value;
        register.sign_exponent = ALL_ONES;
    }

    /// Operand `position`: an MMX register, or a quadword of memory.
    #[inline(always)]
    pub(super) fn mmx_source(&mut self, op: &Op, position: usize) -> Result<u64, Exception> {
        let register = op.regs[position];
        if register != reg::NONE {
            return Ok(self.mmx(register));
        }
        self.load_bytes(op).map(u64::from_le_bytes)
    }
}

/// `mm1 = leaf(mm1, mm2/m64)`, for leaves that work lane by lane.
#[inline(always)]
pub(super) fn lanes(
    cpu: &mut Cpu,
    op: &Op,
    leaf: impl Fn(Vector, Vector) -> Vector,
) -> Result<(), Exception> {
    cpu.mmx_check()?;
    let b = cpu.mmx_source(op, 1)?;
    cpu.mmx_enter();
    let a = cpu.mmx(op.regs[0]);
    cpu.set_mmx(op.regs[0], leaf(Vector::from_low(a), Vector::from_low(b)).low());
    Ok(())
}

/// `mm1 = leaf(mm1, mm2/m64)`, for leaves that gather the lanes of a into the lower and those of b into the upper half.
#[inline(always)]
pub(super) fn gathered(
    cpu: &mut Cpu,
    op: &Op,
    leaf: impl Fn(Vector, Vector) -> Vector,
) -> Result<(), Exception> {
    lanes(cpu, op, |a, b| leaf(Vector([a.low(), b.low()]), Vector::ZERO))
}

/// `mm1 = leaf(mm1, mm2/m32)`: interleaves the low halves.
#[inline(always)]
pub(super) fn interleave_low(
    cpu: &mut Cpu,
    op: &Op,
    leaf: impl Fn(Vector, Vector) -> Vector,
) -> Result<(), Exception> {
    cpu.mmx_check()?;
    let b = match op.regs[1] {
        reg::NONE => u64::from(u32::from_le_bytes(cpu.load_bytes(op)?)),
        register => cpu.mmx(register),
    };
    cpu.mmx_enter();
    let a = cpu.mmx(op.regs[0]);
    cpu.set_mmx(op.regs[0], leaf(Vector::from_low(a), Vector::from_low(b)).low());
    Ok(())
}

/// `mm1 = leaf(mm1, mm2/m64, imm8)`.
#[inline(always)]
pub(super) fn lanes_immediate(
    cpu: &mut Cpu,
    op: &Op,
    leaf: impl Fn(Vector, Vector, u8) -> Vector,
) -> Result<(), Exception> {
    lanes(cpu, op, |a, b| leaf(a, b, op.immediate as u8))
}

/// `mm1 = leaf(mm1, imm8)`.
#[inline(always)]
pub(super) fn by_immediate(
    cpu: &mut Cpu,
    op: &Op,
    leaf: impl Fn(Vector, Vector) -> Vector,
) -> Result<(), Exception> {
    cpu.mmx_check()?;
    cpu.mmx_enter();
    let a = cpu.mmx(op.regs[0]);
    cpu.set_mmx(op.regs[0], leaf(Vector::from_low(a), Vector::from_low(op.immediate & 0xff)).low());
    Ok(())
}
