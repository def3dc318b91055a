//! Shortcuts of scalar and packed floating point: Rust's own operators, where they cannot differ from the guest's.
//!
//! With plain operands (normal numbers and zeros) and a result that is neither tiny nor infinite, the only exception
//! an operation can raise is precision. Programs leave that one masked and sticky after their first division, so
//! from then on, and with rounding to nearest, there is nothing to report. Everything else goes to `float`.
//! Comparisons and exact conversions of plain operands raise nothing at all.

use super::lanes::Lane;
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
pub(crate) fn arith_f32x4(operation: Arith, a: u128, b: u128, mxcsr: u32) -> (u128, u16) {
    if may_try(operation, mxcsr) {
        let (a, b) = (u32::split(a), u32::split(b));
        let lane = |i: usize| try_f32(operation, a[i], b[i]);
        if let (Some(r0), Some(r1), Some(r2), Some(r3)) = (lane(0), lane(1), lane(2), lane(3)) {
            return (u32::join([r0, r1, r2, r3]), 0);
        }
    }
    sse::arith_f32x4(operation, a, b, mxcsr)
}

/// Two double-precision lanes; like `float::sse::arith_f64x2`.
#[inline(always)]
pub(crate) fn arith_f64x2(operation: Arith, a: u128, b: u128, mxcsr: u32) -> (u128, u16) {
    if may_try(operation, mxcsr) {
        let low = try_f64(operation, a as u64, b as u64);
        let high = try_f64(operation, (a >> 64) as u64, (b >> 64) as u64);
        if let (Some(low), Some(high)) = (low, high) {
            return (u64::join([low, high]), 0);
        }
    }
    sse::arith_f64x2(operation, a, b, mxcsr)
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

/// CVTSD2SI and CVTTSD2SI; like `float::sse::f64_to_int`.
#[inline(always)]
pub(crate) fn f64_to_int(a: u64, size: IntSize, truncate: bool, mxcsr: u32) -> (i64, u16) {
    let x = f64::from_bits(a);
    let limit = if size == IntSize::I32 { 2147483647.0 } else { 9007199254740992.0 };
    if x.abs() < limit && plain_f64(a) {
        let result = x as i64;
        // An integer needs no rounding.
        if result as f64 == x {
            return (result, 0);
        }
        if truncate {
            return (result, PRECISION as u16);
        }
    }
    sse::f64_to_int(a, size, truncate, mxcsr)
}

/// CVTSS2SI and CVTTSS2SI; like `float::sse::f32_to_int`.
#[inline(always)]
pub(crate) fn f32_to_int(a: u32, size: IntSize, truncate: bool, mxcsr: u32) -> (i64, u16) {
    let x = f32::from_bits(a);
    if x.abs() < 1073741824.0 && plain_f32(a) {
        let result = x as i64;
        if result as f32 == x {
            return (result, 0);
        }
        if truncate {
            return (result, PRECISION as u16);
        }
    }
    sse::f32_to_int(a, size, truncate, mxcsr)
}
