//! Integer instructions, written in micro-operations.

use crate::op::Op;
use crate::ops::{Meaning, MicroOps};
use iced_x86::Instruction;

/// The meaning of an integer instruction.
pub fn select<M: MicroOps>(_instruction: &Instruction, _op: &Op) -> Option<Meaning<M>> {
    None
}
