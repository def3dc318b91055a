//! FMA on an x86-64 host's own unit, where it has one. The functions are those of [`sse_soft`], with the same meaning.
#![expect(unsafe_code, reason = "MXCSR can be set for a few instructions only within one assembly block")]

use super::environment::status::EXCEPTIONS;
use super::sse_host::{MASKS, bits, needs_soft, under_guest_mxcsr, vector};
use super::sse_soft::{self, Fused};
use std::arch::asm;
use std::arch::x86_64::__m128;

/// Runs `$instruction` (of the form c = a * b + c) on three vectors under the guest's MXCSR, where the caller has found
/// FMA; gives the result and the flags raised.
macro_rules! run {
    ($instruction:literal, $a:expr, $b:expr, $c:expr, $mxcsr:expr) => {{
        let (a, b): (__m128, __m128) = ($a, $b);
        let mut c: __m128 = $c;
        let flags = under_guest_mxcsr!(
            $mxcsr,
            concat!($instruction, " {c}, {a}, {b}"),
            a = in(xmm_reg) a,
            b = in(xmm_reg) b,
            c = inout(xmm_reg) c,
        );
        (c, flags)
    }};
}

/// A function that runs one of the instructions, and the soft twin in the rare cases.
macro_rules! fused {
    ($(#[$doc:meta])* $name:ident($type:ty): $add:literal $sub:literal $add_sub:literal $sub_add:literal
        $neg_add:literal $neg_sub:literal) => {
        $(#[$doc])*
        pub fn $name(operation: Fused, a: $type, b: $type, c: $type, mxcsr: u32) -> ($type, u16) {
            if !is_x86_feature_detected!("fma") {
                return sse_soft::$name(operation, a, b, c, mxcsr);
            }
            let [x, y, z] = [a, b, c].map(|x| vector(u128::from(x)));
            let (result, flags) = match operation {
                Fused::Add => run!($add, x, y, z, mxcsr),
                Fused::Sub => run!($sub, x, y, z, mxcsr),
                Fused::AddSub => run!($add_sub, x, y, z, mxcsr),
                Fused::SubAdd => run!($sub_add, x, y, z, mxcsr),
                Fused::NegAdd => run!($neg_add, x, y, z, mxcsr),
                Fused::NegSub => run!($neg_sub, x, y, z, mxcsr),
            };
            if needs_soft(flags, mxcsr) {
                return sse_soft::$name(operation, a, b, c, mxcsr);
            }
            (bits(result) as $type, flags)
        }
    };
}

// The scalar instructions have no alternating forms: lane 0 of those subtracts or adds.
fused! {
    /// One single-precision lane.
    fma_f32(u32): "vfmadd231ss" "vfmsub231ss" "vfmsub231ss" "vfmadd231ss" "vfnmadd231ss" "vfnmsub231ss"
}
fused! {
    /// One double-precision lane.
    fma_f64(u64): "vfmadd231sd" "vfmsub231sd" "vfmsub231sd" "vfmadd231sd" "vfnmadd231sd" "vfnmsub231sd"
}
fused! {
    /// Four single-precision lanes.
    fma_f32x4(u128): "vfmadd231ps" "vfmsub231ps" "vfmaddsub231ps" "vfmsubadd231ps" "vfnmadd231ps" "vfnmsub231ps"
}
fused! {
    /// Two double-precision lanes.
    fma_f64x2(u128): "vfmadd231pd" "vfmsub231pd" "vfmaddsub231pd" "vfmsubadd231pd" "vfnmadd231pd" "vfnmsub231pd"
}
