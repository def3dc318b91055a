//! Packed shifts (SDM vol. 1, 5.4.6). A count beyond the lane gives zero, or copies of the sign.

use super::lanes::{Lane, Vector};
use super::operand::mmx_or_xmm;
use crate::ops::Hard;
use iced_x86::{Instruction, Mnemonic, OpKind};

/// The count of a shift: the low quadword of its operand.
#[inline(always)]
fn count(operand: Vector, limit: u32) -> u32 {
    operand.low().min(u64::from(limit)) as u32
}

macro_rules! shifts {
    ($($mnemonic:ident $leaf:ident($lane:ty) = $shift:expr;)*) => {
        $(
            #[doc = concat!(stringify!($mnemonic), ": shifts lanes of ", stringify!($lane), " by the low quadword of b.")]
            #[inline(always)]
            pub(crate) fn $leaf(a: Vector, b: Vector) -> Vector {
                let count = count(b, <$lane>::BITS);
                let shift: fn($lane, u32) -> $lane = $shift;
                <$lane>::map(a, |lane| shift(lane, count))
            }
        )*

        fn select_lanes(instruction: &Instruction) -> Option<Hard> {
            let immediate = instruction.op1_kind() == OpKind::Immediate8;
            Some(match instruction.mnemonic() {
                $(
                    Mnemonic::$mnemonic if immediate => {
                        mmx_or_xmm!(instruction, by_immediate | by_immediate, $leaf)
                    }
                    Mnemonic::$mnemonic => mmx_or_xmm!(instruction, lanes | packed, $leaf),
                )*
                _ => return None,
            })
        }
    };
}

shifts! {
    Psllw psllw(u16) = |lane, count| lane.unbounded_shl(count);
    Pslld pslld(u32) = |lane, count| lane.unbounded_shl(count);
    Psllq psllq(u64) = |lane, count| lane.unbounded_shl(count);
    Psrlw psrlw(u16) = |lane, count| lane.unbounded_shr(count);
    Psrld psrld(u32) = |lane, count| lane.unbounded_shr(count);
    Psrlq psrlq(u64) = |lane, count| lane.unbounded_shr(count);
    Psraw psraw(i16) = |lane, count| lane.unbounded_shr(count);
    Psrad psrad(i32) = |lane, count| lane.unbounded_shr(count);
}

/// PSLLDQ: shifts left by b bytes.
#[inline(always)]
pub(crate) fn pslldq(a: Vector, b: Vector) -> Vector {
    Vector::from_bits(a.bits().unbounded_shl(count(b, 16) * 8))
}

/// PSRLDQ: shifts right by b bytes.
#[inline(always)]
pub(crate) fn psrldq(a: Vector, b: Vector) -> Vector {
    Vector::from_bits(a.bits().unbounded_shr(count(b, 16) * 8))
}

pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    use super::operand::by_immediate;
    match instruction.mnemonic() {
        Mnemonic::Pslldq => Some(|cpu, op| by_immediate(cpu, op, pslldq)),
        Mnemonic::Psrldq => Some(|cpu, op| by_immediate(cpu, op, psrldq)),
        _ => select_lanes(instruction),
    }
}
