//! Packed integer arithmetic of MMX to SSE4.1 (SDM vol. 1, 5.4 to 5.10).

use super::lanes::{Lane, Vector};
use super::operand::mmx_or_xmm;
use crate::ops::Hard;
use iced_x86::{Instruction, Mnemonic};

/// Rows of lane-by-lane instructions: mnemonic, leaf, lane type, and what one lane becomes.
macro_rules! lane_by_lane {
    ($($mnemonic:ident $leaf:ident($lane:ty) = $f:expr;)*) => {
        $(
            #[doc = concat!(stringify!($mnemonic), ", on lanes of ", stringify!($lane), ".")]
            #[inline(always)]
            pub(crate) fn $leaf(a: Vector, b: Vector) -> Vector {
                <$lane>::zip(a, b, $f)
            }
        )*

        fn select_lane_by_lane(instruction: &Instruction) -> Option<Hard> {
            Some(match instruction.mnemonic() {
                $(Mnemonic::$mnemonic => mmx_or_xmm!(instruction, lanes | packed, $leaf),)*
                _ => return None,
            })
        }
    };
}

lane_by_lane! {
    Paddb paddb(u8) = u8::wrapping_add;
    Paddw paddw(u16) = u16::wrapping_add;
    Paddd paddd(u32) = u32::wrapping_add;
    Paddq paddq(u64) = u64::wrapping_add;
    Psubb psubb(u8) = u8::wrapping_sub;
    Psubw psubw(u16) = u16::wrapping_sub;
    Psubd psubd(u32) = u32::wrapping_sub;
    Psubq psubq(u64) = u64::wrapping_sub;
    Paddsb paddsb(i8) = i8::saturating_add;
    Paddsw paddsw(i16) = i16::saturating_add;
    Paddusb paddusb(u8) = u8::saturating_add;
    Paddusw paddusw(u16) = u16::saturating_add;
    Psubsb psubsb(i8) = i8::saturating_sub;
    Psubsw psubsw(i16) = i16::saturating_sub;
    Psubusb psubusb(u8) = u8::saturating_sub;
    Psubusw psubusw(u16) = u16::saturating_sub;
    Pavgb pavgb(u8) = |a, b| ((u16::from(a) + u16::from(b) + 1) >> 1) as u8;
    Pavgw pavgw(u16) = |a, b| ((u32::from(a) + u32::from(b) + 1) >> 1) as u16;
    Pminub pminub(u8) = Ord::min;
    Pminuw pminuw(u16) = Ord::min;
    Pminud pminud(u32) = Ord::min;
    Pminsb pminsb(i8) = Ord::min;
    Pminsw pminsw(i16) = Ord::min;
    Pminsd pminsd(i32) = Ord::min;
    Pmaxub pmaxub(u8) = Ord::max;
    Pmaxuw pmaxuw(u16) = Ord::max;
    Pmaxud pmaxud(u32) = Ord::max;
    Pmaxsb pmaxsb(i8) = Ord::max;
    Pmaxsw pmaxsw(i16) = Ord::max;
    Pmaxsd pmaxsd(i32) = Ord::max;
    Pabsb pabsb(i8) = |_, b| b.wrapping_abs();
    Pabsw pabsw(i16) = |_, b| b.wrapping_abs();
    Pabsd pabsd(i32) = |_, b| b.wrapping_abs();
    Psignb psignb(i8) = |a, b| a.wrapping_mul(b.signum());
    Psignw psignw(i16) = |a, b| a.wrapping_mul(b.signum());
    Psignd psignd(i32) = |a, b| a.wrapping_mul(b.signum());
    Pmullw pmullw(u16) = u16::wrapping_mul;
    Pmulld pmulld(u32) = u32::wrapping_mul;
    Pmulhw pmulhw(i16) = |a, b| ((i32::from(a) * i32::from(b)) >> 16) as i16;
    Pmulhuw pmulhuw(u16) = |a, b| ((u32::from(a) * u32::from(b)) >> 16) as u16;
    Pmulhrsw pmulhrsw(i16) = |a, b| ((((i32::from(a) * i32::from(b)) >> 14) + 1) >> 1) as i16;
    Pmuludq pmuludq(u64) = |a, b| u64::from(a as u32) * u64::from(b as u32);
    Pmuldq pmuldq(i64) = |a, b| i64::from(a as i32) * i64::from(b as i32);
}

/// PMADDWD: sums of products of neighbouring signed words.
#[inline(always)]
pub(crate) fn pmaddwd(a: Vector, b: Vector) -> Vector {
    let (a, b) = (i16::split(a), i16::split(b));
    let product = |i: usize| i32::from(a[i]) * i32::from(b[i]);
    i32::build(|i| product(2 * i).wrapping_add(product(2 * i + 1)))
}

/// PMADDUBSW: saturated sums of products of neighbouring bytes, unsigned in a and signed in b.
#[inline(always)]
pub(crate) fn pmaddubsw(a: Vector, b: Vector) -> Vector {
    let (a, b) = (u8::split(a), i8::split(b));
    let product = |i: usize| i32::from(a[i]) * i32::from(b[i]);
    i16::build(|i| saturate_i16(product(2 * i) + product(2 * i + 1)))
}

/// PSADBW: in each quadword, the sum of the absolute differences of its bytes.
#[inline(always)]
pub(crate) fn psadbw(a: Vector, b: Vector) -> Vector {
    let (a, b) = (u8::split(a), u8::split(b));
    let difference = |i: usize| u64::from(a[i].abs_diff(b[i]));
    u64::build(|i| (8 * i..8 * i + 8).map(difference).sum())
}

#[inline(always)]
fn saturate_i16(value: i32) -> i16 {
    value.clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16
}

/// Rows of horizontal instructions: neighbours within a, then neighbours within b, are combined.
macro_rules! horizontal {
    ($($mnemonic:ident $leaf:ident($lane:ty) = $f:expr;)*) => {
        $(
            #[doc = concat!(stringify!($mnemonic), ", on lanes of ", stringify!($lane), ".")]
            #[inline(always)]
            pub(crate) fn $leaf(a: Vector, b: Vector) -> Vector {
                let (a, b) = (<$lane>::split(a), <$lane>::split(b));
                let half = a.len() / 2;
                let f = $f;
                <$lane>::build(|i| {
                    let (from, i) = if i < half { (&a, 2 * i) } else { (&b, 2 * (i - half)) };
                    f(from[i], from[i + 1])
                })
            }
        )*

        fn select_horizontal(instruction: &Instruction) -> Option<Hard> {
            Some(match instruction.mnemonic() {
                $(Mnemonic::$mnemonic => mmx_or_xmm!(instruction, gathered | packed, $leaf),)*
                _ => return None,
            })
        }
    };
}

horizontal! {
    Phaddw phaddw(i16) = i16::wrapping_add;
    Phaddd phaddd(i32) = i32::wrapping_add;
    Phaddsw phaddsw(i16) = i16::saturating_add;
    Phsubw phsubw(i16) = i16::wrapping_sub;
    Phsubd phsubd(i32) = i32::wrapping_sub;
    Phsubsw phsubsw(i16) = i16::saturating_sub;
}

pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    use Mnemonic::*;
    Some(match instruction.mnemonic() {
        Pmaddwd => mmx_or_xmm!(instruction, lanes | packed, pmaddwd),
        Pmaddubsw => mmx_or_xmm!(instruction, lanes | packed, pmaddubsw),
        Psadbw => mmx_or_xmm!(instruction, lanes | packed, psadbw),
        _ => return select_lane_by_lane(instruction).or_else(|| select_horizontal(instruction)),
    })
}
