//! MMX and SSE to SSE4.2, AES, PCLMULQDQ, SHA, GFNI, AVX and AVX2 with their kin (in `vex`), and the saving of extended
//! state (SDM vol. 1, chapters 9 to 14).
//!
//! What an instruction computes is a leaf: a pure function on 128-bit values (`paddb(a, b)`), written once. A row in
//! a sub-family's table ties a mnemonic to its leaf and to an operand shape from `operand` or `mmx`. Floating-point
//! leaves also take MXCSR and return the exception flags that they raise.

mod aes;
mod compare;
mod convert;
mod crypto;
#[cfg(target_arch = "x86_64")]
mod crypto_host;
mod float;
mod fma;
#[cfg(target_arch = "x86_64")]
mod fma_host;
mod fxsave;
mod gfni;
mod integer;
pub mod lanes;
mod logic;
mod meaning;
mod mmx;
mod moves;
pub mod mxcsr;
mod numbers;
mod operand;
pub mod packed;
mod quick;
mod sha;
mod shift;
mod shuffle;
mod sse41;
mod string;
#[cfg(test)]
mod tests;
mod vex;
mod xsave;

pub use meaning::select as select_meaning;
pub(crate) use xsave::in_use;

use crate::ops::Hard;
use iced_x86::{EncodingKind, Instruction};

/// The meaning of an instruction of this family.
pub fn select(instruction: &Instruction) -> Option<Hard> {
    if instruction.encoding() == EncodingKind::VEX {
        return vex::select(instruction);
    }
    moves::select(instruction)
        .or_else(|| logic::select(instruction))
        .or_else(|| integer::select(instruction))
        .or_else(|| compare::select(instruction))
        .or_else(|| shift::select(instruction))
        .or_else(|| shuffle::select(instruction))
        .or_else(|| float::select(instruction))
        .or_else(|| convert::select(instruction))
        .or_else(|| mxcsr::select(instruction))
        .or_else(|| sse41::select(instruction))
        .or_else(|| string::select(instruction))
        .or_else(|| aes::select(instruction))
        .or_else(|| sha::select(instruction))
        .or_else(|| gfni::select(instruction))
        .or_else(|| fxsave::select(instruction))
        .or_else(|| xsave::select(instruction))
}
