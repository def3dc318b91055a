//! simd instructions.

use crate::ops::Hard;
use iced_x86::Instruction;

/// The meaning of an instruction of this family.
pub fn select(_instruction: &Instruction) -> Option<Hard> {
    None
}
