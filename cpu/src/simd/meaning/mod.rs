//! Vector instructions written in micro-operations (`VectorOps`), so that translators have code for them. What is not
//! here is a plain function (`super::select`).
//!
//! A row ties the legacy and the VEX mnemonic of an instruction to its operation and to their shapes. `N` counts 128-bit
//! lanes: 1 for XMM registers, 2 for YMM registers.

mod convert;
mod float;
mod fused;
mod lanes;
mod moves;
mod packed;

use crate::op::{Op, reg};
use crate::ops::Meaning;
use crate::vector_ops::VectorOps;
use iced_x86::{EncodingKind, Instruction};
use std::array::from_fn;

/// The meaning of a vector instruction that micro-operations can say.
pub fn select<M: VectorOps>(instruction: &Instruction) -> Option<Meaning<M>> {
    let legacy = instruction.encoding() == EncodingKind::Legacy;
    if legacy && (0..instruction.op_count()).any(|i| instruction.op_register(i).is_mm()) {
        return None;
    }
    if !legacy && instruction.encoding() != EncodingKind::VEX {
        return None;
    }
    let wide = !legacy && instruction.code().op_code().l() == 1;
    moves::select::<M>(instruction, wide)
        .or_else(|| packed::select::<M>(instruction, wide))
        .or_else(|| lanes::select::<M>(instruction, wide))
        .or_else(|| float::select::<M>(instruction, wide))
        .or_else(|| convert::select::<M>(instruction, wide))
        .or_else(|| fused::select::<M>(instruction, wide))
}

/// Operand `position`: a register, or memory.
#[inline(always)]
fn sources<M: VectorOps, const N: usize>(
    m: &mut M,
    op: &Op,
    position: usize,
    aligned: bool,
) -> Result<[M::Vector; N], M::Fault> {
    match op.regs[position] {
        reg::NONE => m.load_vectors::<N>(op, aligned),
        register => Ok(registers(m, register)),
    }
}

/// An XMM or YMM register.
#[inline(always)]
fn registers<M: VectorOps, const N: usize>(m: &mut M, register: u8) -> [M::Vector; N] {
    from_fn(|i| if i == 0 { m.vector(register) } else { m.upper(register) })
}

/// Sets an XMM or YMM register and clears the bits above it.
#[inline(always)]
fn put<M: VectorOps, const N: usize>(m: &mut M, register: u8, value: [M::Vector; N]) {
    m.set_vector(register, value[0]);
    match value.get(1) {
        Some(&upper) => m.set_upper(register, upper),
        None => m.clear_upper(register),
    }
}

/// Operand `position`: the low quadword of a register, or memory.
#[inline(always)]
fn double<M: VectorOps>(m: &mut M, op: &Op, position: usize) -> Result<M::Double, M::Fault> {
    match op.regs[position] {
        reg::NONE => m.load_double(op),
        register => Ok(m.double(register, 0)),
    }
}

/// Operand `position`: the low doubleword of a register, or memory.
#[inline(always)]
fn single<M: VectorOps>(m: &mut M, op: &Op, position: usize) -> Result<M::Single, M::Fault> {
    match op.regs[position] {
        reg::NONE => m.load_single(op),
        register => Ok(m.single(register)),
    }
}

/// VEX: op0 becomes op1 with another low quadword.
#[inline(always)]
fn put_double_of<M: VectorOps>(m: &mut M, op: &Op, value: M::Double) {
    let (to, from) = (op.regs[0], op.regs[1]);
    if to != from {
        let high = m.double(from, 1);
        m.set_double(to, 1, high);
    }
    m.set_double(to, 0, value);
    m.clear_upper(to);
}

/// VEX: op0 becomes op1 with another low doubleword.
#[inline(always)]
fn put_single_of<M: VectorOps>(m: &mut M, op: &Op, value: M::Single) {
    let (to, from) = (op.regs[0], op.regs[1]);
    if to != from {
        let old = m.vector(from);
        m.set_vector(to, old);
    }
    m.set_single(to, value);
    m.clear_upper(to);
}
