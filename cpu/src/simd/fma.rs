//! Leaves of fused multiplication and addition (SDM vol. 1, 14.5), with the shortcut of `quick`: with plain operands,
//! precision masked and sticky, rounding to nearest and a result that is neither tiny nor infinite, the host's own
//! operation has the guest's result and nothing to report.

#[cfg(target_arch = "x86_64")]
use super::fma_host as quickest;
use super::lanes::{Lane, Vector};
use crate::float::{Fused, sse};

/// MXCSR: precision flag, precision mask, and rounding control.
const PRECISION: u32 = 1 << 5;
const PRECISION_MASK: u32 = 1 << 12;
const ROUNDING: u32 = 3 << 13;

/// Whether rounding is to nearest, and an inexact result changes nothing.
fn inexact_is_settled(mxcsr: u32) -> bool {
    mxcsr & (PRECISION | PRECISION_MASK | ROUNDING) == PRECISION | PRECISION_MASK
}

macro_rules! format {
    ($bits:ty, $float:ty, $fraction:literal, $exponents:literal, $lanes:ident) => {
        /// The results of all lanes, unless some operand or result needs a closer look. On a host whose compiler may
        /// use a fused instruction where this is inlined it is quick; elsewhere it is right.
        #[inline(always)]
        pub(super) fn $lanes<const N: usize>(
            operation: Fused,
            a: [$bits; N],
            b: [$bits; N],
            c: [$bits; N],
        ) -> Option<[$bits; N]> {
            const SIGN: u32 = <$bits>::BITS - 1;
            // A normal number or a zero.
            let plain = |bits: $bits| {
                (bits >> $fraction & $exponents).wrapping_sub(1) < $exponents - 1 || bits << 1 == 0
            };
            // Finite and above the smallest normal number, to which tiny results may round.
            let ordinary = |bits: $bits| (bits >> $fraction & $exponents).wrapping_sub(2) < $exponents - 2;
            let (mut result, mut settled) = ([0; N], true);
            for i in 0..N {
                let (negate_product, negate_addend) = operation.negations(i as u32);
                let x = <$float>::from_bits(a[i] ^ <$bits>::from(negate_product) << SIGN);
                let y = <$float>::from_bits(b[i]);
                let z = <$float>::from_bits(c[i] ^ <$bits>::from(negate_addend) << SIGN);
                result[i] = x.mul_add(y, z).to_bits();
                // A zero is exact if the product is; else it may be what is left of a tiny result.
                let zero = result[i] << 1 == 0 && (x == 0.0 || y == 0.0);
                settled &= plain(a[i]) & plain(b[i]) & plain(c[i]) & (ordinary(result[i]) | zero);
            }
            settled.then_some(result)
        }
    };
}

format!(u32, f32, 23, 0xff, lanes_f32);
format!(u64, f64, 52, 0x7ff, lanes_f64);

/// Other hosts' compilers need no leave to use a fused instruction.
#[cfg(not(target_arch = "x86_64"))]
use self as quickest;

/// Lane 0 of the single-precision instructions; like `float::sse::fma_f32`.
pub(super) fn fma_f32(operation: Fused, a: u32, b: u32, c: u32, mxcsr: u32) -> (u32, u16) {
    if inexact_is_settled(mxcsr)
        && let Some([result]) = quickest::lanes_f32(operation, [a], [b], [c])
    {
        return (result, 0);
    }
    sse::fma_f32(operation, a, b, c, mxcsr)
}

/// Lane 0 of the double-precision instructions; like `float::sse::fma_f64`.
pub(super) fn fma_f64(operation: Fused, a: u64, b: u64, c: u64, mxcsr: u32) -> (u64, u16) {
    if inexact_is_settled(mxcsr)
        && let Some([result]) = quickest::lanes_f64(operation, [a], [b], [c])
    {
        return (result, 0);
    }
    sse::fma_f64(operation, a, b, c, mxcsr)
}

/// Four single-precision lanes; like `float::sse::fma_f32x4`.
pub(super) fn fma_ps(operation: Fused, a: Vector, b: Vector, c: Vector, mxcsr: u32) -> (Vector, u16) {
    if inexact_is_settled(mxcsr)
        && let Some(result) = quickest::lanes_f32(operation, u32::split(a), u32::split(b), u32::split(c))
    {
        return (u32::join(result), 0);
    }
    let (result, flags) = sse::fma_f32x4(operation, a.bits(), b.bits(), c.bits(), mxcsr);
    (Vector::from_bits(result), flags)
}

/// Two double-precision lanes; like `float::sse::fma_f64x2`.
pub(super) fn fma_pd(operation: Fused, a: Vector, b: Vector, c: Vector, mxcsr: u32) -> (Vector, u16) {
    if inexact_is_settled(mxcsr)
        && let Some(result) = quickest::lanes_f64(operation, a.0, b.0, c.0)
    {
        return (Vector(result), 0);
    }
    let (result, flags) = sse::fma_f64x2(operation, a.bits(), b.bits(), c.bits(), mxcsr);
    (Vector::from_bits(result), flags)
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::float::random::Random;
    use crate::float::sse_soft;

    /// The shortcuts agree with the portable functions wherever they apply, and they do apply.
    #[test]
    fn shortcuts_change_nothing() {
        const SETTLED: u32 = 0x1fa0;
        let mut taken = 0;
        for seed in 1..40_000u64 {
            let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let (a, b, c) = (random.f32(), random.f32(), random.f32());
            let (x, y, z) = (random.f64(), random.f64(), random.f64());
            for operation in [Fused::Add, Fused::Sub, Fused::NegAdd, Fused::NegSub] {
                let soft = sse_soft::fma_f32(operation, a, b, c, SETTLED);
                let quick = fma_f32(operation, a, b, c, SETTLED);
                assert_eq!(
                    (quick.0, quick.1 | 0x20),
                    (soft.0, soft.1 | 0x20),
                    "{operation:?} {a:#x} {b:#x} {c:#x}"
                );
                taken += u32::from(quickest::lanes_f32(operation, [a], [b], [c]).is_some());
                let soft = sse_soft::fma_f64(operation, x, y, z, SETTLED);
                let quick = fma_f64(operation, x, y, z, SETTLED);
                assert_eq!(
                    (quick.0, quick.1 | 0x20),
                    (soft.0, soft.1 | 0x20),
                    "{operation:?} {x:#x} {y:#x} {z:#x}"
                );
            }
        }
        assert!(taken > 1000 || !is_x86_feature_detected!("fma"), "{taken}");
    }
}
