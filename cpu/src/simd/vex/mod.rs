//! AVX, AVX2, FMA, F16C and AVX-VNNI: instructions with a VEX prefix, of 128 and 256 bits (SDM vol. 1, chapter 14).
//!
//! Most of them are what SSE has, with a destination of its own and with a second 128-bit lane that the same leaf
//! computes. A row ties mnemonics to a shape from `operand`, and to the leaf that the shape applies to every lane; the
//! shape is compiled once for XMM and once for YMM registers. Each write of a vector register clears all bits above
//! what it writes. Memory operands need no alignment, except those of the moves that ask for it.

mod aes;
mod dot_product;
mod f16c;
mod float;
mod fma;
mod gather;
mod integer;
mod masked;
mod moves;
pub(super) mod operand;
mod permute;
mod shift;
mod sse41;

use crate::ops::Hard;
use iced_x86::Instruction;

/// Rows of instructions that exist for XMM and for YMM registers: mnemonics, a shape, and the shape's arguments. Makes
/// a function whose second argument tells whether the instruction is of 256 bits.
macro_rules! rows {
    ($name:ident: $($($mnemonic:ident)|+ => $shape:ident$(($($argument:expr),*))?;)*) => {
        pub(super) fn $name(instruction: &iced_x86::Instruction, wide: bool) -> Option<$crate::ops::Hard> {
            Some(match instruction.mnemonic() {
                $(
                    $(iced_x86::Mnemonic::$mnemonic)|+ if wide => {
                        |cpu, op| $shape::<2>(cpu, op $($(, $argument)*)?)
                    }
                    $(iced_x86::Mnemonic::$mnemonic)|+ => {
                        |cpu, op| $shape::<1>(cpu, op $($(, $argument)*)?)
                    }
                )*
                _ => return None,
            })
        }
    };
}
use rows;

/// The meaning of an instruction with a VEX prefix.
pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    let wide = instruction.code().op_code().l() == 1;
    moves::select(instruction, wide)
        .or_else(|| integer::select(instruction, wide))
        .or_else(|| shift::select(instruction, wide))
        .or_else(|| permute::select(instruction, wide))
        .or_else(|| float::select(instruction, wide))
        .or_else(|| sse41::select(instruction, wide))
        .or_else(|| masked::select(instruction, wide))
        .or_else(|| gather::select(instruction))
        .or_else(|| aes::select(instruction, wide))
        .or_else(|| fma::select(instruction, wide))
        .or_else(|| f16c::select(instruction, wide))
        .or_else(|| dot_product::select(instruction, wide))
}
