//! Operand shapes: where an instruction's sources come from and where its result goes.
//!
//! Legacy SSE demands 16-byte alignment of 128-bit memory operands (SDM vol. 1, 10.4.6); the exceptions name the
//! unaligned shape.

use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::{Op, reg};
use rx86_softmmu::Access;

/// #GP(0) unless `linear` is a multiple of 16.
#[inline(always)]
fn check_alignment(linear: u64) -> Result<(), Exception> {
    if linear & 15 == 0 { Ok(()) } else { Err(Exception::gp(0)) }
}

impl Cpu {
    /// Operand `position`: an XMM register, or 128 bits of aligned memory.
    #[inline(always)]
    pub(super) fn xmm_source(&mut self, op: &Op, position: usize) -> Result<u128, Exception> {
        let register = op.regs[position];
        if register != reg::NONE {
            return Ok(self.state.xmm(register));
        }
        let linear = self.operand_linear(op, 16, Access::Read)?;
        check_alignment(linear)?;
        Ok(u128::from_le_bytes(self.read_linear(linear)?))
    }

    /// Operand `position`: an XMM register, or 128 bits of memory anywhere.
    #[inline(always)]
    pub(super) fn xmm_source_unaligned(&mut self, op: &Op, position: usize) -> Result<u128, Exception> {
        let register = op.regs[position];
        if register != reg::NONE {
            return Ok(self.state.xmm(register));
        }
        let linear = self.operand_linear(op, 16, Access::Read)?;
        Ok(u128::from_le_bytes(self.read_linear(linear)?))
    }

    /// Operand `position`: the low quadword of an XMM register, or a quadword of memory.
    #[inline(always)]
    pub(super) fn quad_source(&mut self, op: &Op, position: usize) -> Result<u64, Exception> {
        let register = op.regs[position];
        if register != reg::NONE {
            return Ok(self.state.zmm[usize::from(register & 31)].0[0]);
        }
        self.load_bytes(op).map(u64::from_le_bytes)
    }

    /// Operand `position`: the low doubleword of an XMM register, or a doubleword of memory.
    #[inline(always)]
    pub(super) fn double_source(&mut self, op: &Op, position: usize) -> Result<u32, Exception> {
        let register = op.regs[position];
        if register != reg::NONE {
            return Ok(self.state.zmm[usize::from(register & 31)].0[0] as u32);
        }
        self.load_bytes(op).map(u32::from_le_bytes)
    }

    /// `N` bytes of the memory operand.
    #[inline(always)]
    pub(super) fn load_bytes<const N: usize>(&mut self, op: &Op) -> Result<[u8; N], Exception> {
        let linear = self.operand_linear(op, N as u64, Access::Read)?;
        self.read_linear(linear)
    }

    /// Writes `N` bytes of the memory operand.
    #[inline(always)]
    pub(super) fn store_bytes<const N: usize>(&mut self, op: &Op, data: [u8; N]) -> Result<(), Exception> {
        let linear = self.operand_linear(op, N as u64, Access::Write)?;
        self.write_linear(linear, data)
    }

    /// Writes 128 bits to operand 0: an XMM register, or aligned memory.
    #[inline(always)]
    pub(super) fn put_xmm(&mut self, op: &Op, value: u128) -> Result<(), Exception> {
        if op.regs[0] != reg::NONE {
            self.state.set_xmm(op.regs[0], value);
            return Ok(());
        }
        let linear = self.operand_linear(op, 16, Access::Write)?;
        check_alignment(linear)?;
        self.write_linear(linear, value.to_le_bytes())
    }

    /// Replaces the low quadword of an XMM register.
    #[inline(always)]
    pub(super) fn set_low_quad(&mut self, register: u8, value: u64) {
        self.state.zmm[usize::from(register & 31)].0[0] = value;
    }

    /// Replaces the low doubleword of an XMM register.
    #[inline(always)]
    pub(super) fn set_low_double(&mut self, register: u8, value: u32) {
        let low = &mut self.state.zmm[usize::from(register & 31)].0[0];
        *low = *low & !0xffff_ffff | u64::from(value);
    }
}

/// `xmm1 = leaf(xmm1, xmm2/m128)`.
#[inline(always)]
pub(super) fn packed(cpu: &mut Cpu, op: &Op, leaf: impl Fn(u128, u128) -> u128) -> Result<(), Exception> {
    let b = cpu.xmm_source(op, 1)?;
    let a = cpu.state.xmm(op.regs[0]);
    cpu.state.set_xmm(op.regs[0], leaf(a, b));
    Ok(())
}

/// `xmm1 = leaf(xmm1, xmm2/m128, imm8)`.
#[inline(always)]
pub(super) fn packed_immediate(
    cpu: &mut Cpu,
    op: &Op,
    leaf: impl Fn(u128, u128, u8) -> u128,
) -> Result<(), Exception> {
    packed(cpu, op, |a, b| leaf(a, b, op.immediate as u8))
}

/// `xmm1 = leaf(xmm1, imm8)`.
#[inline(always)]
pub(super) fn by_immediate(
    cpu: &mut Cpu,
    op: &Op,
    leaf: impl Fn(u128, u128) -> u128,
) -> Result<(), Exception> {
    let a = cpu.state.xmm(op.regs[0]);
    cpu.state.set_xmm(op.regs[0], leaf(a, u128::from(op.immediate as u8)));
    Ok(())
}

/// `xmm1 = leaf(xmm1, xmm2/m128, MXCSR)`, which may raise SIMD floating-point exceptions.
#[inline(always)]
pub(super) fn packed_float(
    cpu: &mut Cpu,
    op: &Op,
    leaf: impl Fn(u128, u128, u32) -> (u128, u16),
) -> Result<(), Exception> {
    let b = cpu.xmm_source(op, 1)?;
    let (value, flags) = leaf(cpu.state.xmm(op.regs[0]), b, cpu.state.mxcsr);
    cpu.raise_simd(flags)?;
    cpu.state.set_xmm(op.regs[0], value);
    Ok(())
}

/// The low doubleword of xmm1 `= leaf(xmm1, xmm2/m32, MXCSR)`.
#[inline(always)]
pub(super) fn scalar_f32(
    cpu: &mut Cpu,
    op: &Op,
    leaf: impl Fn(u32, u32, u32) -> (u32, u16),
) -> Result<(), Exception> {
    let b = cpu.double_source(op, 1)?;
    let a = cpu.state.xmm(op.regs[0]) as u32;
    let (value, flags) = leaf(a, b, cpu.state.mxcsr);
    cpu.raise_simd(flags)?;
    cpu.set_low_double(op.regs[0], value);
    Ok(())
}

/// The low quadword of xmm1 `= leaf(xmm1, xmm2/m64, MXCSR)`.
#[inline(always)]
pub(super) fn scalar_f64(
    cpu: &mut Cpu,
    op: &Op,
    leaf: impl Fn(u64, u64, u32) -> (u64, u16),
) -> Result<(), Exception> {
    let b = cpu.quad_source(op, 1)?;
    let a = cpu.state.xmm(op.regs[0]) as u64;
    let (value, flags) = leaf(a, b, cpu.state.mxcsr);
    cpu.raise_simd(flags)?;
    cpu.set_low_quad(op.regs[0], value);
    Ok(())
}

/// Picks the MMX or the XMM shape of a row, by the instruction's first operand.
macro_rules! mmx_or_xmm {
    ($instruction:expr, $mmx:ident | $xmm:ident, $leaf:expr) => {
        if $instruction.op0_register().is_mm() {
            (|cpu, op| $crate::simd::mmx::$mmx(cpu, op, $leaf)) as $crate::ops::Hard
        } else {
            (|cpu, op| $crate::simd::operand::$xmm(cpu, op, $leaf)) as $crate::ops::Hard
        }
    };
}
pub(super) use mmx_or_xmm;
