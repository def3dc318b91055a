//! Integer instructions, written in micro-operations (`select`), or as plain functions where those cannot say it.
//!
//! To add one: its arm in the family's `select`, its function beside it, its cases in the testsuite.

mod arithmetic;
mod atomic;
mod bits;
mod branch;
mod decimal;
mod flags;
mod hint;
mod moves;
mod multiply;
mod operand;
mod port;
mod shifts;
mod stack;
mod string;

use crate::op::Op;
use crate::ops::{Hard, Meaning, MicroOps};
use iced_x86::Instruction;

/// The meaning of an integer instruction that micro-operations can say.
pub fn select<M: MicroOps>(instruction: &Instruction, op: &Op) -> Option<Meaning<M>> {
    arithmetic::select::<M>(instruction)
        .or_else(|| moves::select::<M>(instruction))
        .or_else(|| branch::select::<M>(instruction, op))
        .or_else(|| stack::select::<M>(instruction))
        .or_else(|| shifts::select::<M>(instruction))
        .or_else(|| bits::select::<M>(instruction))
        .or_else(|| multiply::select::<M>(instruction))
        .or_else(|| atomic::select::<M>(instruction))
        .or_else(|| hint::select::<M>(instruction))
}

/// The plain function of an integer instruction that micro-operations cannot say.
pub fn select_hard(instruction: &Instruction) -> Option<Hard> {
    string::select_hard(instruction)
        .or_else(|| moves::select_hard(instruction))
        .or_else(|| stack::select_hard(instruction))
        .or_else(|| multiply::select_hard(instruction))
        .or_else(|| atomic::select_hard(instruction))
        .or_else(|| decimal::select_hard(instruction))
        .or_else(|| port::select_hard(instruction))
}
