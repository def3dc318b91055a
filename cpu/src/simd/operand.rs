//! Operand shapes: where an instruction's sources come from and where its result goes.
//!
//! Legacy SSE demands 16-byte alignment of 128-bit memory operands (SDM vol. 1, 10.4.6); the exceptions name the
//! unaligned shape.

use super::lanes::Vector;
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::{Op, reg};
use rx86_softmmu::Access;

/// #GP(0) unless `linear` is a multiple of `bytes`, a power of two.
#[inline(always)]
pub(super) fn check_alignment(linear: u64, bytes: u64) -> Result<(), Exception> {
    if linear & (bytes - 1) == 0 { Ok(()) } else { Err(Exception::gp(0)) }
}

impl Cpu {
    /// XMM register `register`, by a copy of memory (see `lanes`).
    #[inline(always)]
    pub(super) fn vector(&self, register: u8) -> Vector {
        Vector(self.state.zmm[usize::from(register & 31)].0.as_chunks().0[0])
    }

    /// Sets an XMM register and leaves the bits above it.
    #[inline(always)]
    pub(super) fn set_vector(&mut self, register: u8, value: Vector) {
        self.state.zmm[usize::from(register & 31)].0.as_chunks_mut().0[0] = value.0;
    }

    /// Operand `position`: an XMM register, or 128 bits of aligned memory.
    #[inline(always)]
    pub(super) fn xmm_source(&mut self, op: &Op, position: usize) -> Result<Vector, Exception> {
        let register = op.regs[position];
        if register != reg::NONE {
            return Ok(self.vector(register));
        }
        let linear = self.operand_linear(op, 16, Access::Read)?;
        check_alignment(linear, 16)?;
        Ok(Vector::from_bytes(self.read_operand(op, linear)?))
    }

    /// Operand `position`: an XMM register, or 128 bits of memory anywhere.
    #[inline(always)]
    pub(super) fn xmm_source_unaligned(&mut self, op: &Op, position: usize) -> Result<Vector, Exception> {
        let register = op.regs[position];
        if register != reg::NONE {
            return Ok(self.vector(register));
        }
        let linear = self.operand_linear(op, 16, Access::Read)?;
        Ok(Vector::from_bytes(self.read_operand(op, linear)?))
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
        self.read_operand(op, linear)
    }

    /// Writes `N` bytes of the memory operand.
    #[inline(always)]
    pub(super) fn store_bytes<const N: usize>(&mut self, op: &Op, data: [u8; N]) -> Result<(), Exception> {
        let linear = self.operand_linear(op, N as u64, Access::Write)?;
        self.write_operand(op, linear, data)
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
pub(super) fn packed(
    cpu: &mut Cpu,
    op: &Op,
    leaf: impl Fn(Vector, Vector) -> Vector,
) -> Result<(), Exception> {
    let b = cpu.xmm_source(op, 1)?;
    let a = cpu.vector(op.regs[0]);
    cpu.set_vector(op.regs[0], leaf(a, b));
    Ok(())
}

/// `xmm1 = leaf(xmm1, xmm2/m128, imm8)`.
#[inline(always)]
pub(super) fn packed_immediate(
    cpu: &mut Cpu,
    op: &Op,
    leaf: impl Fn(Vector, Vector, u8) -> Vector,
) -> Result<(), Exception> {
    packed(cpu, op, |a, b| leaf(a, b, op.immediate as u8))
}

/// `xmm1 = leaf(xmm1, imm8)`.
#[inline(always)]
pub(super) fn by_immediate(
    cpu: &mut Cpu,
    op: &Op,
    leaf: impl Fn(Vector, Vector) -> Vector,
) -> Result<(), Exception> {
    let a = cpu.vector(op.regs[0]);
    cpu.set_vector(op.regs[0], leaf(a, Vector::from_low(op.immediate & 0xff)));
    Ok(())
}

/// `xmm1 = leaf(xmm1, xmm2/m128, MXCSR)`, which may raise SIMD floating-point exceptions.
#[inline(always)]
pub(super) fn packed_float(
    cpu: &mut Cpu,
    op: &Op,
    leaf: impl Fn(Vector, Vector, u32) -> (Vector, u16),
) -> Result<(), Exception> {
    let b = cpu.xmm_source(op, 1)?;
    let (value, flags) = leaf(cpu.vector(op.regs[0]), b, cpu.state.mxcsr);
    cpu.raise_simd(flags)?;
    cpu.set_vector(op.regs[0], value);
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
    let a = cpu.vector(op.regs[0]).low() as u32;
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
    let a = cpu.vector(op.regs[0]).low();
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
