//! Operand shapes of VEX-encoded instructions. `N` counts 128-bit lanes: 1 for XMM registers, 2 for YMM registers.

use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::{Op, reg};
use crate::simd::float::settle;
use crate::simd::lanes::Vector;
use rx86_softmmu::Access;
use std::array::from_fn;

/// The lanes of an XMM or a YMM register, the low one first.
pub(in crate::simd) type Lanes<const N: usize> = [Vector; N];

impl Cpu {
    /// An XMM or YMM register.
    #[inline(always)]
    pub(in crate::simd) fn lanes<const N: usize>(&self, register: u8) -> Lanes<N> {
        let lanes = self.state.zmm[usize::from(register & 31)].0.as_chunks().0;
        from_fn(|i| Vector(lanes[i]))
    }

    /// Sets an XMM or YMM register and clears the bits above it.
    #[inline(always)]
    pub(in crate::simd) fn set_lanes<const N: usize>(&mut self, register: u8, value: Lanes<N>) {
        let lanes = self.state.zmm[usize::from(register & 31)].0.as_chunks_mut().0;
        for (i, lane) in lanes.iter_mut().enumerate() {
            *lane = value.get(i).map_or([0; 2], |value| value.0);
        }
    }

    /// Sets an XMM register and clears the bits above it.
    #[inline(always)]
    pub(in crate::simd) fn set_only_vector(&mut self, register: u8, value: Vector) {
        self.set_lanes(register, [value]);
    }

    /// Operand `position`: a register, or memory anywhere.
    #[inline(always)]
    pub(in crate::simd) fn lanes_source<const N: usize>(
        &mut self,
        op: &Op,
        position: usize,
    ) -> Result<Lanes<N>, Exception> {
        match op.regs[position] {
            reg::NONE => {
                let linear = self.operand_linear(op, 16 * N as u64, Access::Read)?;
                self.read_lanes(op, linear)
            }
            register => Ok(self.lanes(register)),
        }
    }

    /// 128 or 256 bits of memory, in one access.
    #[inline(always)]
    pub(in crate::simd) fn read_lanes<const N: usize>(
        &mut self,
        op: &Op,
        linear: u64,
    ) -> Result<Lanes<N>, Exception> {
        if N == 1 {
            let bytes = self.read_operand::<16>(op, linear)?;
            return Ok([Vector::from_bytes(bytes); N]);
        }
        let bytes = self.read_operand::<32>(op, linear)?;
        let lanes = bytes.as_chunks().0;
        Ok(from_fn(|i| Vector::from_bytes(lanes[i])))
    }

    /// Writes 128 or 256 bits to memory, in one access.
    #[inline(always)]
    pub(in crate::simd) fn write_lanes<const N: usize>(
        &mut self,
        op: &Op,
        linear: u64,
        value: Lanes<N>,
    ) -> Result<(), Exception> {
        if N == 1 {
            return self.write_operand(op, linear, value[0].to_bytes());
        }
        let bytes: [[u8; 16]; 2] = from_fn(|i| value[i].to_bytes());
        let mut all = [0; 32];
        all.copy_from_slice(bytes.as_flattened());
        self.write_operand(op, linear, all)
    }

    /// The low `bytes` of operand `position`, a vector register or memory; the rest is zero or the register's.
    #[inline(always)]
    pub(super) fn low_source<const BYTES: usize>(
        &mut self,
        op: &Op,
        position: usize,
    ) -> Result<Vector, Exception> {
        match op.regs[position] {
            reg::NONE => {
                let mut bytes = [0; 16];
                bytes[..BYTES].copy_from_slice(&self.load_bytes::<BYTES>(op)?);
                Ok(Vector::from_bytes(bytes))
            }
            register => Ok(self.vector(register)),
        }
    }
}

/// `op0 = leaf(op1, op2)`, lane by lane.
#[inline(always)]
pub(in crate::simd) fn packed<const N: usize>(
    cpu: &mut Cpu,
    op: &Op,
    leaf: impl Fn(Vector, Vector) -> Vector,
) -> Result<(), Exception> {
    let b = cpu.lanes_source::<N>(op, 2)?;
    let a = cpu.lanes::<N>(op.regs[1]);
    cpu.set_lanes::<N>(op.regs[0], from_fn(|i| leaf(a[i], b[i])));
    Ok(())
}

/// `op0 = leaf(op1, op2, imm8)`, lane by lane.
#[inline(always)]
pub(in crate::simd) fn packed_immediate<const N: usize>(
    cpu: &mut Cpu,
    op: &Op,
    leaf: impl Fn(Vector, Vector, u8) -> Vector,
) -> Result<(), Exception> {
    packed_sliced::<N>(cpu, op, 0, leaf)
}

/// `op0 = leaf(op1, op2, slice)`, lane by lane, where each lane has the next `bits` bits of the immediate.
#[inline(always)]
pub(in crate::simd) fn packed_sliced<const N: usize>(
    cpu: &mut Cpu,
    op: &Op,
    bits: usize,
    leaf: impl Fn(Vector, Vector, u8) -> Vector,
) -> Result<(), Exception> {
    let b = cpu.lanes_source::<N>(op, 2)?;
    let a = cpu.lanes::<N>(op.regs[1]);
    let immediate = op.immediate as u8;
    cpu.set_lanes::<N>(op.regs[0], from_fn(|i| leaf(a[i], b[i], immediate >> (bits * i))));
    Ok(())
}

/// `op0 = leaf(_, op1)`, lane by lane.
#[inline(always)]
pub(in crate::simd) fn unary<const N: usize>(
    cpu: &mut Cpu,
    op: &Op,
    leaf: impl Fn(Vector, Vector) -> Vector,
) -> Result<(), Exception> {
    let b = cpu.lanes_source::<N>(op, 1)?;
    cpu.set_lanes::<N>(op.regs[0], b.map(|b| leaf(Vector::ZERO, b)));
    Ok(())
}

/// `op0 = leaf(_, op1, imm8)`, lane by lane.
#[inline(always)]
pub(in crate::simd) fn unary_immediate<const N: usize>(
    cpu: &mut Cpu,
    op: &Op,
    leaf: impl Fn(Vector, Vector, u8) -> Vector,
) -> Result<(), Exception> {
    unary::<N>(cpu, op, |a, b| leaf(a, b, op.immediate as u8))
}

/// `op0 = leaf(op1, op2, op3)`, lane by lane, with a register as the last operand.
#[inline(always)]
pub(in crate::simd) fn packed_masked<const N: usize>(
    cpu: &mut Cpu,
    op: &Op,
    leaf: impl Fn(Vector, Vector, Vector) -> Vector,
) -> Result<(), Exception> {
    let b = cpu.lanes_source::<N>(op, 2)?;
    let (a, mask) = (cpu.lanes::<N>(op.regs[1]), cpu.lanes::<N>(op.regs[3]));
    cpu.set_lanes::<N>(op.regs[0], from_fn(|i| leaf(a[i], b[i], mask[i])));
    Ok(())
}

/// The results of all lanes; the flags of all of them are raised together.
#[inline(always)]
pub(in crate::simd) fn raise_lanes<const N: usize>(
    cpu: &mut Cpu,
    lane: impl Fn(usize, u32) -> (Vector, u16),
) -> Result<Lanes<N>, Exception> {
    let mxcsr = cpu.state.mxcsr;
    let mut flags = 0;
    let value = from_fn(|i| {
        let (value, raised) = lane(i, mxcsr);
        flags |= raised;
        value
    });
    cpu.raise_simd(settle(flags, mxcsr))?;
    Ok(value)
}

/// `op0 = leaf(op1, op2, MXCSR)`, lane by lane, which may raise SIMD floating-point exceptions.
#[inline(always)]
pub(in crate::simd) fn packed_float<const N: usize>(
    cpu: &mut Cpu,
    op: &Op,
    leaf: impl Fn(Vector, Vector, u32) -> (Vector, u16),
) -> Result<(), Exception> {
    let b = cpu.lanes_source::<N>(op, 2)?;
    let a = cpu.lanes::<N>(op.regs[1]);
    let value = raise_lanes::<N>(cpu, |i, mxcsr| leaf(a[i], b[i], mxcsr))?;
    cpu.set_lanes(op.regs[0], value);
    Ok(())
}

/// `op0 = leaf(_, op1, MXCSR)`, lane by lane.
#[inline(always)]
pub(in crate::simd) fn unary_float<const N: usize>(
    cpu: &mut Cpu,
    op: &Op,
    leaf: impl Fn(Vector, Vector, u32) -> (Vector, u16),
) -> Result<(), Exception> {
    let b = cpu.lanes_source::<N>(op, 1)?;
    let value = raise_lanes::<N>(cpu, |i, mxcsr| leaf(Vector::ZERO, b[i], mxcsr))?;
    cpu.set_lanes(op.regs[0], value);
    Ok(())
}

/// The low doubleword of op0 `= leaf(op1, op2, MXCSR)`; the rest of its XMM register is op1's.
#[inline(always)]
pub(in crate::simd) fn scalar_f32(
    cpu: &mut Cpu,
    op: &Op,
    leaf: impl Fn(u32, u32, u32) -> (u32, u16),
) -> Result<(), Exception> {
    let b = cpu.double_source(op, 2)?;
    let a = cpu.vector(op.regs[1]);
    let (value, flags) = leaf(a.low() as u32, b, cpu.state.mxcsr);
    cpu.raise_simd(flags)?;
    cpu.set_only_vector(op.regs[0], with_low_double(a, value));
    Ok(())
}

/// The low quadword of op0 `= leaf(op1, op2, MXCSR)`; the rest of its XMM register is op1's.
#[inline(always)]
pub(in crate::simd) fn scalar_f64(
    cpu: &mut Cpu,
    op: &Op,
    leaf: impl Fn(u64, u64, u32) -> (u64, u16),
) -> Result<(), Exception> {
    let b = cpu.quad_source(op, 2)?;
    let a = cpu.vector(op.regs[1]);
    let (value, flags) = leaf(a.low(), b, cpu.state.mxcsr);
    cpu.raise_simd(flags)?;
    cpu.set_only_vector(op.regs[0], Vector([value, a.high()]));
    Ok(())
}

/// `a` with another low doubleword.
#[inline(always)]
pub(super) fn with_low_double(a: Vector, low: u32) -> Vector {
    Vector([a.low() & !0xffff_ffff | u64::from(low), a.high()])
}
