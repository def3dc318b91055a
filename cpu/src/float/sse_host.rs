//! SSE's floating-point arithmetic on an x86-64 host's own SSE unit. The functions are those of
//! [`sse_soft`], with the same meaning; those re-exported are exact and quick enough in Rust.
#![expect(unsafe_code, reason = "MXCSR can be set for a few instructions only within one assembly block")]

use super::environment::status::EXCEPTIONS;
pub use super::fma_host::{fma_f32, fma_f32x4, fma_f64, fma_f64x2};
use super::sse_soft;
pub use super::sse_soft::{
    Arith, IntSize, compare_f32, compare_f32x4, compare_f64, compare_f64x2, f16_to_f32, f32_to_f16,
    f32_to_f64, f32_to_int, f64_to_f32, f64_to_int, int_to_f32, int_to_f64, is_unmasked, order_f32,
    order_f64, rcp_f32, round_f32, round_f64, rsqrt_f32,
};
use std::arch::asm;
use std::arch::x86_64::{__m128, __m128i, _mm_castps_si128, _mm_castsi128_ps};

/// MXCSR's mask bits.
pub(super) const MASKS: u32 = 0x1f80;
/// MXCSR's underflow mask.
const UNDERFLOW_MASK: u32 = 1 << 11;

/// Runs one instruction with the guest's rounding, DAZ and FTZ, all exceptions masked and none raised before; gives the
/// flags raised. The host has the instruction, and it touches nothing but the operands given.
macro_rules! under_guest_mxcsr {
    ($mxcsr:expr, $instruction:expr, $($operands:tt)*) => {{
        let mut host = 0u32;
        let mut guest = $mxcsr & !u32::from(EXCEPTIONS) | MASKS;
        // SAFETY: the pointers are to live words, the instruction is as above, and the host's MXCSR is put back before
        // the block ends.
        unsafe {
            asm!(
                "stmxcsr dword ptr [{host}]",
                "ldmxcsr dword ptr [{guest}]",
                $instruction,
                "stmxcsr dword ptr [{guest}]",
                "ldmxcsr dword ptr [{host}]",
                host = in(reg) &raw mut host,
                guest = in(reg) &raw mut guest,
                $($operands)*
                options(nostack),
            );
        }
        guest as u16 & EXCEPTIONS
    }};
}
pub(super) use under_guest_mxcsr;

/// Runs `$instruction` on two vectors under the guest's MXCSR; gives the result and the flags raised.
macro_rules! run {
    ($instruction:literal, $a:expr, $b:expr, $mxcsr:expr) => {{
        let mut a: __m128 = $a;
        let b: __m128 = $b;
        let flags = under_guest_mxcsr!(
            $mxcsr,
            concat!($instruction, " {a}, {b}"),
            a = inout(xmm_reg) a,
            b = in(xmm_reg) b,
        );
        (a, flags)
    }};
}

/// Whether the masked flags are not those that the guest's masks would give: an exact tiny result raises underflow
/// only unmasked, and an unmasked exception found before computing hides the later ones.
pub(super) fn needs_soft(flags: u16, mxcsr: u32) -> bool {
    mxcsr & UNDERFLOW_MASK == 0 || is_unmasked(flags, mxcsr)
}

pub(super) fn vector(bits: u128) -> __m128 {
    // SAFETY: both are 16 bytes for which every bit pattern is valid.
    let integers: __m128i = unsafe { std::mem::transmute(bits) };
    // SAFETY: SSE2 is part of x86-64.
    unsafe { _mm_castsi128_ps(integers) }
}

pub(super) fn bits(vector: __m128) -> u128 {
    // SAFETY: SSE2 is part of x86-64; both are 16 bytes for which every bit pattern is valid.
    unsafe { std::mem::transmute(_mm_castps_si128(vector)) }
}

/// A function that runs one of seven instructions, and the soft twin in the rare cases.
macro_rules! arith {
    ($(#[$doc:meta])* $name:ident($type:ty): $add:literal $sub:literal $mul:literal $div:literal $min:literal
        $max:literal $sqrt:literal) => {
        $(#[$doc])*
        pub fn $name(operation: Arith, a: $type, b: $type, mxcsr: u32) -> ($type, u16) {
            let (x, y) = (vector(u128::from(a)), vector(u128::from(b)));
            let (result, flags) = match operation {
                Arith::Add => run!($add, x, y, mxcsr),
                Arith::Sub => run!($sub, x, y, mxcsr),
                Arith::Mul => run!($mul, x, y, mxcsr),
                Arith::Div => run!($div, x, y, mxcsr),
                Arith::Min => run!($min, x, y, mxcsr),
                Arith::Max => run!($max, x, y, mxcsr),
                Arith::Sqrt => run!($sqrt, x, y, mxcsr),
            };
            if needs_soft(flags, mxcsr) {
                return sse_soft::$name(operation, a, b, mxcsr);
            }
            (bits(result) as $type, flags)
        }
    };
}

arith! {
    /// One single-precision lane.
    arith_f32(u32): "addss" "subss" "mulss" "divss" "minss" "maxss" "sqrtss"
}
arith! {
    /// One double-precision lane.
    arith_f64(u64): "addsd" "subsd" "mulsd" "divsd" "minsd" "maxsd" "sqrtsd"
}
arith! {
    /// Four single-precision lanes.
    arith_f32x4(u128): "addps" "subps" "mulps" "divps" "minps" "maxps" "sqrtps"
}
arith! {
    /// Two double-precision lanes.
    arith_f64x2(u128): "addpd" "subpd" "mulpd" "divpd" "minpd" "maxpd" "sqrtpd"
}
