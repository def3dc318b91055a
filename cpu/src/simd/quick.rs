//! Shortcuts of scalar and packed floating point: Rust's own operators, where they cannot differ from the guest's.
//!
//! With plain operands (normal numbers and zeros) and a result that is neither tiny nor infinite, the only exception
//! an operation can raise is precision. Programs leave that one masked and sticky after their first division, so
//! from then on, and with rounding to nearest, there is nothing to report. Everything else goes to `float`.
//! Comparisons and exact conversions of plain operands raise nothing at all; roundings raise precision if they round.

use super::lanes::{Lane, Vector};
use crate::float::{Arith, IntSize, sse};
use std::cmp::Ordering;

/// MXCSR: precision flag, precision mask, and rounding control.
const PRECISION: u32 = 1 << 5;
const PRECISION_MASK: u32 = 1 << 12;
const ROUNDING: u32 = 3 << 13;

/// Whether rounding is to nearest, and an inexact result changes nothing.
#[inline(always)]
fn inexact_is_settled(mxcsr: u32) -> bool {
    mxcsr & (PRECISION | PRECISION_MASK | ROUNDING) == PRECISION | PRECISION_MASK
}

macro_rules! format {
    ($bits:ty, $float:ty, $fraction:literal, $exponents:literal, $plain:ident, $ordinary:ident, $arith:ident) => {
        /// Whether this is a normal number or a zero.
        #[inline(always)]
        fn $plain(bits: $bits) -> bool {
            let exponent = bits >> $fraction & $exponents;
            exponent.wrapping_sub(1) < $exponents - 1 || bits << 1 == 0
        }

        /// Whether this is finite and above the smallest normal number, to which tiny results may round.
        #[inline(always)]
        fn $ordinary(bits: $bits) -> bool {
            (bits >> $fraction & $exponents).wrapping_sub(2) < $exponents - 2
        }

        /// The result, unless the operands or the result need a closer look.
        #[inline(always)]
        fn $arith(operation: Arith, a: $bits, b: $bits) -> Option<$bits> {
            if !$plain(b) || !($plain(a) || operation == Arith::Sqrt) {
                return None;
            }
            let (x, y) = (<$float>::from_bits(a), <$float>::from_bits(b));
            // Sums and roots are zero only exactly; products and quotients also when they are tiny.
            let (result, zero_is_exact) = match operation {
                Arith::Add => (x + y, true),
                Arith::Sub => (x - y, true),
                Arith::Mul => (x * y, x == 0.0 || y == 0.0),
                Arith::Div => (x / y, x == 0.0),
                Arith::Sqrt => (y.sqrt(), true),
                Arith::Min => return Some(if x < y { a } else { b }),
                Arith::Max => return Some(if x > y { a } else { b }),
            };
            let bits = result.to_bits();
            ($ordinary(bits) || bits << 1 == 0 && zero_is_exact).then_some(bits)
        }
    };
}

format!(u32, f32, 23, 0xff, plain_f32, ordinary_f32, try_f32);
format!(u64, f64, 52, 0x7ff, plain_f64, ordinary_f64, try_f64);

/// Whether the operation can only raise what MXCSR already holds.
#[inline(always)]
fn may_try(operation: Arith, mxcsr: u32) -> bool {
    matches!(operation, Arith::Min | Arith::Max) || inexact_is_settled(mxcsr)
}

/// One single-precision lane; like `float::sse::arith_f32`.
#[inline(always)]
pub(crate) fn arith_f32(operation: Arith, a: u32, b: u32, mxcsr: u32) -> (u32, u16) {
    if may_try(operation, mxcsr)
        && let Some(result) = try_f32(operation, a, b)
    {
        return (result, 0);
    }
    sse::arith_f32(operation, a, b, mxcsr)
}

/// One double-precision lane; like `float::sse::arith_f64`.
#[inline(always)]
pub(crate) fn arith_f64(operation: Arith, a: u64, b: u64, mxcsr: u32) -> (u64, u16) {
    if may_try(operation, mxcsr)
        && let Some(result) = try_f64(operation, a, b)
    {
        return (result, 0);
    }
    sse::arith_f64(operation, a, b, mxcsr)
}

/// Four single-precision lanes; like `float::sse::arith_f32x4`.
#[inline(always)]
pub(crate) fn arith_f32x4(operation: Arith, a: Vector, b: Vector, mxcsr: u32) -> (Vector, u16) {
    if may_try(operation, mxcsr) {
        let (x, y) = (u32::split(a), u32::split(b));
        let lane = |i: usize| try_f32(operation, x[i], y[i]);
        if let (Some(r0), Some(r1), Some(r2), Some(r3)) = (lane(0), lane(1), lane(2), lane(3)) {
            return (u32::join([r0, r1, r2, r3]), 0);
        }
    }
    let (result, flags) = sse::arith_f32x4(operation, a.bits(), b.bits(), mxcsr);
    (Vector::from_bits(result), flags)
}

/// Two double-precision lanes; like `float::sse::arith_f64x2`.
#[inline(always)]
pub(crate) fn arith_f64x2(operation: Arith, a: Vector, b: Vector, mxcsr: u32) -> (Vector, u16) {
    if may_try(operation, mxcsr) {
        let low = try_f64(operation, a.low(), b.low());
        let high = try_f64(operation, a.high(), b.high());
        if let (Some(low), Some(high)) = (low, high) {
            return (u64::join([low, high]), 0);
        }
    }
    let (result, flags) = sse::arith_f64x2(operation, a.bits(), b.bits(), mxcsr);
    (Vector::from_bits(result), flags)
}

/// COMISS and UCOMISS; like `float::sse::order_f32`.
#[inline(always)]
pub(crate) fn order_f32(a: u32, b: u32, quiet: bool, mxcsr: u32) -> (Option<Ordering>, u16) {
    if plain_f32(a) && plain_f32(b) {
        return (f32::from_bits(a).partial_cmp(&f32::from_bits(b)), 0);
    }
    sse::order_f32(a, b, quiet, mxcsr)
}

/// COMISD and UCOMISD; like `float::sse::order_f64`.
#[inline(always)]
pub(crate) fn order_f64(a: u64, b: u64, quiet: bool, mxcsr: u32) -> (Option<Ordering>, u16) {
    if plain_f64(a) && plain_f64(b) {
        return (f64::from_bits(a).partial_cmp(&f64::from_bits(b)), 0);
    }
    sse::order_f64(a, b, quiet, mxcsr)
}

/// CVTSS2SD; like `float::sse::f32_to_f64`.
#[inline(always)]
pub(crate) fn f32_to_f64(a: u32, mxcsr: u32) -> (u64, u16) {
    if plain_f32(a) {
        return (f64::from(f32::from_bits(a)).to_bits(), 0);
    }
    sse::f32_to_f64(a, mxcsr)
}

/// CVTSD2SS; like `float::sse::f64_to_f32`.
#[inline(always)]
pub(crate) fn f64_to_f32(a: u64, mxcsr: u32) -> (u32, u16) {
    if inexact_is_settled(mxcsr) && plain_f64(a) {
        let result = (f64::from_bits(a) as f32).to_bits();
        if ordinary_f32(result) || a << 1 == 0 {
            return (result, 0);
        }
    }
    sse::f64_to_f32(a, mxcsr)
}

/// CVTSI2SS; like `float::sse::int_to_f32`.
#[inline(always)]
pub(crate) fn int_to_f32(a: i64, mxcsr: u32) -> (u32, u16) {
    if a.unsigned_abs() <= 1 << 24 {
        return ((a as f32).to_bits(), 0);
    }
    sse::int_to_f32(a, mxcsr)
}

/// CVTSI2SD; like `float::sse::int_to_f64`.
#[inline(always)]
pub(crate) fn int_to_f64(a: i64, mxcsr: u32) -> (u64, u16) {
    if a.unsigned_abs() <= 1 << 53 {
        return ((a as f64).to_bits(), 0);
    }
    sse::int_to_f64(a, mxcsr)
}

/// What follows is the same for both formats, but for the range in which every number is an integer or has a fraction
/// that rounding can see.
macro_rules! to_integers {
    ($bits:ty, $float:ty, $plain:ident, $whole:literal, $by:ident, $round:ident, $to_int:ident, $holds:ident) => {
        /// `x` rounded to an integer by a rounding-control field.
        #[inline(always)]
        fn $by(x: $float, control: u32) -> $float {
            match control & 3 {
                0 => x.round_ties_even(),
                1 => x.floor(),
                2 => x.ceil(),
                _ => x.trunc(),
            }
        }

        /// One lane of ROUNDPS and relatives; like its namesake in `float::sse`.
        #[inline(always)]
        pub(crate) fn $round(a: $bits, control: u8, mxcsr: u32) -> ($bits, u16) {
            let x = <$float>::from_bits(a);
            if x.abs() < $whole && $plain(a) {
                let from_mxcsr = control & 4 != 0;
                let result = $by(x, if from_mxcsr { mxcsr >> 13 } else { u32::from(control) });
                let inexact = result != x && control & 8 == 0;
                return (result.to_bits(), if inexact { PRECISION as u16 } else { 0 });
            }
            sse::$round(a, control, mxcsr)
        }

        /// A conversion to an integer, truncating or by MXCSR; like its namesake in `float::sse`.
        #[inline(always)]
        pub(crate) fn $to_int(a: $bits, size: IntSize, truncate: bool, mxcsr: u32) -> (i64, u16) {
            let x = <$float>::from_bits(a);
            let limit = if size == IntSize::I32 { 2147483647.0 } else { $whole };
            if x.abs() < limit && x.abs() < $whole && $plain(a) {
                let result = $by(x, if truncate { 3 } else { mxcsr >> 13 });
                return (result as i64, if result == x { 0 } else { PRECISION as u16 });
            }
            sse::$to_int(a, size, truncate, mxcsr)
        }

        /// Whether a comparison predicate holds; nothing if the operands need a closer look. Of ordered operands,
        /// predicates 8 to 31 say the same as 0 to 7.
        #[inline(always)]
        fn $holds(predicate: u8, a: $bits, b: $bits) -> Option<bool> {
            if !$plain(a) || !$plain(b) {
                return None;
            }
            let (x, y) = (<$float>::from_bits(a), <$float>::from_bits(b));
            let holds = match predicate & 3 {
                0 => x == y,
                1 => x < y,
                2 => x <= y,
                _ => false,
            };
            Some(holds != (predicate & 4 != 0))
        }
    };
}

to_integers!(u32, f32, plain_f32, 8388608.0, by_control_f32, round_f32, f32_to_int, holds_f32);
to_integers!(u64, f64, plain_f64, 4503599627370496.0, by_control_f64, round_f64, f64_to_int, holds_f64);

/// CMPSS; like `float::sse::compare_f32`.
#[inline(always)]
pub(crate) fn compare_f32(predicate: u8, a: u32, b: u32, mxcsr: u32) -> (u32, u16) {
    match holds_f32(predicate, a, b) {
        Some(holds) => (u32::from(holds).wrapping_neg(), 0),
        None => sse::compare_f32(predicate, a, b, mxcsr),
    }
}

/// CMPSD; like `float::sse::compare_f64`.
#[inline(always)]
pub(crate) fn compare_f64(predicate: u8, a: u64, b: u64, mxcsr: u32) -> (u64, u16) {
    match holds_f64(predicate, a, b) {
        Some(holds) => (u64::from(holds).wrapping_neg(), 0),
        None => sse::compare_f64(predicate, a, b, mxcsr),
    }
}

/// CMPPS; like `float::sse::compare_f32x4`.
#[inline(always)]
pub(crate) fn compare_f32x4(predicate: u8, a: Vector, b: Vector, mxcsr: u32) -> (Vector, u16) {
    let (x, y) = (u32::split(a), u32::split(b));
    let lane = |i: usize| holds_f32(predicate, x[i], y[i]);
    if let (Some(h0), Some(h1), Some(h2), Some(h3)) = (lane(0), lane(1), lane(2), lane(3)) {
        return (u32::join([h0, h1, h2, h3].map(|holds| u32::from(holds).wrapping_neg())), 0);
    }
    let (result, flags) = sse::compare_f32x4(predicate, a.bits(), b.bits(), mxcsr);
    (Vector::from_bits(result), flags)
}

/// CMPPD; like `float::sse::compare_f64x2`.
#[inline(always)]
pub(crate) fn compare_f64x2(predicate: u8, a: Vector, b: Vector, mxcsr: u32) -> (Vector, u16) {
    let low = holds_f64(predicate, a.low(), b.low());
    let high = holds_f64(predicate, a.high(), b.high());
    if let (Some(low), Some(high)) = (low, high) {
        return (u64::join([low, high].map(|holds| u64::from(holds).wrapping_neg())), 0);
    }
    let (result, flags) = sse::compare_f64x2(predicate, a.bits(), b.bits(), mxcsr);
    (Vector::from_bits(result), flags)
}
