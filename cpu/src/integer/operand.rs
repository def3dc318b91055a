//! Operand shapes as types, so that a hot meaning is compiled once for each shape and width and reads its operands
//! without asking what they are.

use crate::op::Op;
use crate::ops::MicroOps;
use crate::width::Width;
use iced_x86::{Instruction, OpKind};

/// Something that a meaning can read.
pub(super) trait Source {
    fn read<M: MicroOps, W: Width>(m: &mut M, op: &Op) -> Result<M::Int, M::Fault>;
}

/// The general register in operand position `I`.
pub(super) struct Register<const I: usize>;
/// The memory operand.
pub(super) struct Memory;
/// The immediate.
pub(super) struct Immediate;

impl<const I: usize> Source for Register<I> {
    #[inline(always)]
    fn read<M: MicroOps, W: Width>(m: &mut M, op: &Op) -> Result<M::Int, M::Fault> {
        Ok(m.get::<W>(op.regs[I]))
    }
}

impl Source for Memory {
    #[inline(always)]
    fn read<M: MicroOps, W: Width>(m: &mut M, op: &Op) -> Result<M::Int, M::Fault> {
        m.load::<W>(op)
    }
}

impl Source for Immediate {
    #[inline(always)]
    fn read<M: MicroOps, W: Width>(m: &mut M, op: &Op) -> Result<M::Int, M::Fault> {
        Ok(m.immediate::<W>(op))
    }
}

/// A destination that takes a computed value: a register, or memory that is not read first.
pub(super) trait Target: Source {
    fn write<M: MicroOps, W: Width>(m: &mut M, op: &Op, value: M::Int) -> Result<(), M::Fault>;
    /// Replaces the value by `change` of it; returns the old and the new one.
    fn modify<M: MicroOps, W: Width>(
        m: &mut M,
        op: &Op,
        change: impl Fn(&mut M, M::Int) -> M::Int,
    ) -> Result<(M::Int, M::Int), M::Fault>;
}

impl<const I: usize> Target for Register<I> {
    #[inline(always)]
    fn write<M: MicroOps, W: Width>(m: &mut M, op: &Op, value: M::Int) -> Result<(), M::Fault> {
        m.put::<W>(op.regs[I], value);
        Ok(())
    }
    #[inline(always)]
    fn modify<M: MicroOps, W: Width>(
        m: &mut M,
        op: &Op,
        change: impl Fn(&mut M, M::Int) -> M::Int,
    ) -> Result<(M::Int, M::Int), M::Fault> {
        let old = m.get::<W>(op.regs[I]);
        let new = change(m, old);
        m.put::<W>(op.regs[I], new);
        Ok((old, new))
    }
}

impl Target for Memory {
    #[inline(always)]
    fn write<M: MicroOps, W: Width>(m: &mut M, op: &Op, value: M::Int) -> Result<(), M::Fault> {
        m.store::<W>(op, value)
    }
    #[inline(always)]
    fn modify<M: MicroOps, W: Width>(
        m: &mut M,
        op: &Op,
        change: impl Fn(&mut M, M::Int) -> M::Int,
    ) -> Result<(M::Int, M::Int), M::Fault> {
        m.modify::<W>(op, change)
    }
}

/// The shapes of a two-operand instruction.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    RegisterRegister,
    RegisterMemory,
    RegisterImmediate,
    MemoryRegister,
    MemoryImmediate,
}

/// The shape of the first two operands.
pub(super) fn shape(instruction: &Instruction) -> Option<Shape> {
    use OpKind::{Memory, Register};
    if instruction.op_count() < 2 {
        return None;
    }
    Some(match (instruction.op0_kind(), instruction.op1_kind()) {
        (Register, Register) => Shape::RegisterRegister,
        (Register, Memory) => Shape::RegisterMemory,
        (Register, _) => Shape::RegisterImmediate,
        (Memory, Register) => Shape::MemoryRegister,
        (Memory, _) => Shape::MemoryImmediate,
        _ => return None,
    })
}

/// The width in bits of operand 0 (register or memory).
pub(super) fn width_of(instruction: &Instruction, operand: u32) -> u32 {
    match instruction.op_kind(operand) {
        OpKind::Register => instruction.op_register(operand).size() as u32 * 8,
        _ => instruction.memory_size().size() as u32 * 8,
    }
}

/// Picks `$function::<M, $args..., W>` for a width known at decode time; `None` for a width it does not have.
macro_rules! by_width {
    ($bits:expr, $widths:tt, $function:ident, $m:ident $(, $arg:ty)*) => {
        $crate::integer::operand::by_width!(@pick $bits, $widths, $function, $m, [$($arg,)*])
    };
    (@pick $bits:expr, [$($w:ident),*], $function:ident, $m:ident, $args:tt) => {
        match $bits {
            $(bits if bits == <$crate::width::$w as $crate::width::Width>::BITS =>
                Some($crate::integer::operand::by_width!(@instance $function, $m, $args, $w)),)*
            _ => None,
        }
    };
    (@instance $function:ident, $m:ident, [$($arg:ty,)*], $w:ident) => {
        $function::<$m $(, $arg)*, $crate::width::$w> as $crate::ops::Meaning<$m>
    };
}
pub(super) use by_width;
