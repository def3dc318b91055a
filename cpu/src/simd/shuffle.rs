//! Shuffles, unpacks and packs (SDM vol. 1, 5.4.3, 5.6.1.4, 5.8).

use super::lanes::{Lane, Vector};
use super::operand::{self, mmx_or_xmm};
use crate::ops::Hard;
use iced_x86::{Instruction, Mnemonic};

macro_rules! unpacks {
    ($($low:ident $high:ident($lane:ty);)*) => {$(
        #[doc = concat!("Interleaves the low lanes of ", stringify!($lane), ".")]
        #[inline(always)]
        pub(crate) fn $low(a: Vector, b: Vector) -> Vector {
            let (a, b) = (<$lane>::split(a), <$lane>::split(b));
            <$lane>::build(|i| if i & 1 == 0 { a[i / 2] } else { b[i / 2] })
        }

        #[doc = concat!("Interleaves the high lanes of ", stringify!($lane), ".")]
        #[inline(always)]
        pub(crate) fn $high(a: Vector, b: Vector) -> Vector {
            let (a, b) = (<$lane>::split(a), <$lane>::split(b));
            let half = a.len() / 2;
            <$lane>::build(|i| if i & 1 == 0 { a[half + i / 2] } else { b[half + i / 2] })
        }
    )*};
}

unpacks! {
    punpcklbw punpckhbw(u8);
    punpcklwd punpckhwd(u16);
    punpckldq punpckhdq(u32);
    punpcklqdq punpckhqdq(u64);
}

macro_rules! packs {
    ($($leaf:ident($from:ty => $to:ty);)*) => {$(
        #[doc = concat!("Narrows ", stringify!($from), " lanes of a, then of b, to ", stringify!($to), " with saturation.")]
        #[inline(always)]
        pub(crate) fn $leaf(a: Vector, b: Vector) -> Vector {
            let (a, b) = (<$from>::split(a), <$from>::split(b));
            let half = a.len();
            <$to>::build(|i| {
                let wide = if i < half { a[i] } else { b[i - half] };
                wide.clamp(<$from>::from(<$to>::MIN), <$from>::from(<$to>::MAX)) as $to
            })
        }
    )*};
}

packs! {
    packsswb(i16 => i8);
    packssdw(i32 => i16);
    packuswb(i16 => u8);
    packusdw(i32 => u16);
}

/// The two-bit field `i` of a shuffle's immediate.
#[inline(always)]
fn field(immediate: u8, i: usize) -> usize {
    usize::from(immediate >> (2 * (i & 3)) & 3)
}

/// PSHUFD.
#[inline(always)]
pub(crate) fn pshufd(_a: Vector, b: Vector, immediate: u8) -> Vector {
    let b = u32::split(b);
    u32::build(|i| b[field(immediate, i)])
}

/// PSHUFLW; its low half is PSHUFW.
#[inline(always)]
pub(crate) fn pshuflw(_a: Vector, b: Vector, immediate: u8) -> Vector {
    let b = u16::split(b);
    u16::build(|i| if i < 4 { b[field(immediate, i)] } else { b[i] })
}

/// PSHUFHW.
#[inline(always)]
pub(crate) fn pshufhw(_a: Vector, b: Vector, immediate: u8) -> Vector {
    let b = u16::split(b);
    u16::build(|i| if i < 4 { b[i] } else { b[4 + field(immediate, i)] })
}

/// SHUFPS.
#[inline(always)]
pub(crate) fn shufps(a: Vector, b: Vector, immediate: u8) -> Vector {
    let (a, b) = (u32::split(a), u32::split(b));
    u32::build(|i| if i < 2 { a[field(immediate, i)] } else { b[field(immediate, i)] })
}

/// SHUFPD.
#[inline(always)]
pub(crate) fn shufpd(a: Vector, b: Vector, immediate: u8) -> Vector {
    let (a, b) = (u64::split(a), u64::split(b));
    u64::join([a[usize::from(immediate & 1)], b[usize::from(immediate >> 1 & 1)]])
}

/// PSHUFB: b's lanes are indices into a; bit 7 gives zero.
#[inline(always)]
pub(crate) fn pshufb(a: Vector, b: Vector) -> Vector {
    let a = u8::split(a);
    u8::map(b, |index| if index & 0x80 != 0 { 0 } else { a[usize::from(index & 15)] })
}

/// PSHUFB on quadwords: with a in both halves, bit 3 of an index does not matter.
#[inline(always)]
fn pshufb_mmx(a: Vector, b: Vector) -> Vector {
    pshufb(Vector([a.low(), a.low()]), b)
}

/// PALIGNR: the 256 bits a:b, shifted right by bytes.
#[inline(always)]
pub(crate) fn palignr(a: Vector, b: Vector, immediate: u8) -> Vector {
    let shift = u32::from(immediate) * 8;
    match shift {
        0 => b,
        1..=127 => Vector::from_bits(b.bits() >> shift | a.bits() << (128 - shift)),
        _ => Vector::from_bits(a.bits().unbounded_shr(shift - 128)),
    }
}

/// PALIGNR on quadwords.
#[inline(always)]
fn palignr_mmx(a: Vector, b: Vector, immediate: u8) -> Vector {
    let joined = Vector([b.low(), a.low()]).bits();
    Vector::from_bits(joined.unbounded_shr(u32::from(immediate) * 8))
}

/// MOVSLDUP: the even lanes, twice each.
#[inline(always)]
pub(crate) fn movsldup(_a: Vector, b: Vector) -> Vector {
    let b = u32::split(b);
    u32::build(|i| b[i & !1])
}

/// MOVSHDUP: the odd lanes, twice each.
#[inline(always)]
pub(crate) fn movshdup(_a: Vector, b: Vector) -> Vector {
    let b = u32::split(b);
    u32::build(|i| b[i | 1])
}

fn select_unpack(instruction: &Instruction) -> Option<Hard> {
    use Mnemonic::*;
    // The high halves of quadwords meet in the upper half of what interleaves the low halves of vectors.
    Some(match instruction.mnemonic() {
        Punpcklbw => mmx_or_xmm!(instruction, interleave_low | packed, punpcklbw),
        Punpcklwd => mmx_or_xmm!(instruction, interleave_low | packed, punpcklwd),
        Punpckldq => mmx_or_xmm!(instruction, interleave_low | packed, punpckldq),
        Punpckhbw if instruction.op0_register().is_mm() => {
            |cpu, op| super::mmx::lanes(cpu, op, |a, b| Vector::from_low(punpcklbw(a, b).high()))
        }
        Punpckhwd if instruction.op0_register().is_mm() => {
            |cpu, op| super::mmx::lanes(cpu, op, |a, b| Vector::from_low(punpcklwd(a, b).high()))
        }
        Punpckhdq if instruction.op0_register().is_mm() => {
            |cpu, op| super::mmx::lanes(cpu, op, |a, b| Vector::from_low(punpckldq(a, b).high()))
        }
        Punpckhbw => |cpu, op| operand::packed(cpu, op, punpckhbw),
        Punpckhwd => |cpu, op| operand::packed(cpu, op, punpckhwd),
        Punpckhdq | Unpckhps => |cpu, op| operand::packed(cpu, op, punpckhdq),
        Punpcklqdq | Unpcklpd => |cpu, op| operand::packed(cpu, op, punpcklqdq),
        Punpckhqdq | Unpckhpd => |cpu, op| operand::packed(cpu, op, punpckhqdq),
        Unpcklps => |cpu, op| operand::packed(cpu, op, punpckldq),
        _ => return None,
    })
}

pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    use Mnemonic::*;
    Some(match instruction.mnemonic() {
        Packsswb => mmx_or_xmm!(instruction, gathered | packed, packsswb),
        Packssdw => mmx_or_xmm!(instruction, gathered | packed, packssdw),
        Packuswb => mmx_or_xmm!(instruction, gathered | packed, packuswb),
        Packusdw => |cpu, op| operand::packed(cpu, op, packusdw),
        Pshufw => |cpu, op| super::mmx::lanes_immediate(cpu, op, pshuflw),
        Pshufd => |cpu, op| operand::packed_immediate(cpu, op, pshufd),
        Pshuflw => |cpu, op| operand::packed_immediate(cpu, op, pshuflw),
        Pshufhw => |cpu, op| operand::packed_immediate(cpu, op, pshufhw),
        Shufps => |cpu, op| operand::packed_immediate(cpu, op, shufps),
        Shufpd => |cpu, op| operand::packed_immediate(cpu, op, shufpd),
        Pshufb if instruction.op0_register().is_mm() => |cpu, op| super::mmx::lanes(cpu, op, pshufb_mmx),
        Pshufb => |cpu, op| operand::packed(cpu, op, pshufb),
        Palignr if instruction.op0_register().is_mm() => {
            |cpu, op| super::mmx::lanes_immediate(cpu, op, palignr_mmx)
        }
        Palignr => |cpu, op| operand::packed_immediate(cpu, op, palignr),
        Movsldup => |cpu, op| operand::packed(cpu, op, movsldup),
        Movshdup => |cpu, op| operand::packed(cpu, op, movshdup),
        _ => return select_unpack(instruction),
    })
}
