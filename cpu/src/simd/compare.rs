//! Packed integer comparisons: lanes are all ones where the condition holds (SDM vol. 1, 5.4.4).

use super::lanes::{Lane, Vector};
use super::operand::mmx_or_xmm;
use crate::ops::Hard;
use iced_x86::{Instruction, Mnemonic};

macro_rules! comparisons {
    ($($mnemonic:ident $leaf:ident($lane:ty) = $holds:expr;)*) => {
        $(
            #[doc = concat!(stringify!($mnemonic), ", on lanes of ", stringify!($lane), ".")]
            #[inline(always)]
            pub(crate) fn $leaf(a: Vector, b: Vector) -> Vector {
                let holds: fn(&$lane, &$lane) -> bool = $holds;
                <$lane>::zip(a, b, |a, b| if holds(&a, &b) { -1 } else { 0 })
            }
        )*

        pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
            Some(match instruction.mnemonic() {
                $(Mnemonic::$mnemonic => mmx_or_xmm!(instruction, lanes | packed, $leaf),)*
                _ => return None,
            })
        }
    };
}

comparisons! {
    Pcmpeqb pcmpeqb(i8) = PartialEq::eq;
    Pcmpeqw pcmpeqw(i16) = PartialEq::eq;
    Pcmpeqd pcmpeqd(i32) = PartialEq::eq;
    Pcmpeqq pcmpeqq(i64) = PartialEq::eq;
    Pcmpgtb pcmpgtb(i8) = PartialOrd::gt;
    Pcmpgtw pcmpgtw(i16) = PartialOrd::gt;
    Pcmpgtd pcmpgtd(i32) = PartialOrd::gt;
    Pcmpgtq pcmpgtq(i64) = PartialOrd::gt;
}
