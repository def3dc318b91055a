//! SSE's portable comparisons, conversions and roundings against the host's instructions.
#![expect(unsafe_code, reason = "runs single SSE instructions on the host")]

use super::environment::status::EXCEPTIONS;
use super::random::Random;
use super::{IntSize, sse_soft as soft};
use std::arch::asm;
use std::cmp::Ordering;

/// Operands tried per instruction.
const TRIES: u64 = 40_000;

/// Random operands and an MXCSR with all exceptions masked, which is all that a host process can run under.
fn inputs() -> impl Iterator<Item = (Random, u32)> {
    (1..=TRIES).map(|n| {
        let mut random = Random(n.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mxcsr = random.mxcsr() | 0x1f80;
        (random, mxcsr)
    })
}

/// What one instruction left on the host.
struct Left {
    /// The low quadword of the vector operand that was `a`.
    vector: u64,
    /// The general register that was `b`.
    general: u64,
    /// ZF, PF and CF as COMISS sets them; `None` is unordered.
    order: Option<Ordering>,
    /// Exceptions raised.
    flags: u16,
}

/// Runs `$instruction` on {x} = a, {y} = b, {general} = b under an MXCSR.
macro_rules! host {
    ($instruction:expr, $mxcsr:expr, $a:expr, $b:expr) => {{
        let mut a = u64::from($a);
        let mut general = u64::from($b);
        let (mut host, mut guest) = (0u32, $mxcsr);
        let (parity, below, zero): (u8, u8, u8);
        // SAFETY: the instructions under test change the registers named and MXCSR, which is put back.
        unsafe {
            asm!(
                "stmxcsr dword ptr [{host}]",
                "ldmxcsr dword ptr [{guest}]",
                "movq {x}, {a}",
                "movq {y}, {general}",
                $instruction,
                "setp {parity}",
                "setb {below}",
                "setz {zero}",
                "movq {a}, {x}",
                "stmxcsr dword ptr [{guest}]",
                "ldmxcsr dword ptr [{host}]",
                host = in(reg) &raw mut host,
                guest = in(reg) &raw mut guest,
                a = inout(reg) a,
                general = inout(reg) general,
                x = out(xmm_reg) _,
                y = out(xmm_reg) _,
                parity = out(reg_byte) parity,
                below = out(reg_byte) below,
                zero = out(reg_byte) zero,
            );
        }
        let order = match (parity, below, zero) {
            (1, ..) => None,
            (_, 1, _) => Some(Ordering::Less),
            (_, _, 1) => Some(Ordering::Equal),
            _ => Some(Ordering::Greater),
        };
        Left { vector: a, general, order, flags: guest as u16 & EXCEPTIONS }
    }};
}

#[test]
fn orders() {
    for (mut random, mxcsr) in inputs() {
        let (a, b) = (random.f32(), if random.below(4) == 0 { 0 } else { random.f32() });
        let host = host!("ucomiss {x}, {y}", mxcsr, a, b);
        assert_eq!(soft::order_f32(a, b, true, mxcsr), (host.order, host.flags), "{a:#x} {b:#x} {mxcsr:#x}");
        let host = host!("comiss {x}, {y}", mxcsr, a, b);
        assert_eq!(soft::order_f32(a, b, false, mxcsr), (host.order, host.flags), "{a:#x} {b:#x} {mxcsr:#x}");
        let (a, b) = (random.f64(), random.f64());
        let host = host!("ucomisd {x}, {y}", mxcsr, a, b);
        assert_eq!(soft::order_f64(a, b, true, mxcsr), (host.order, host.flags), "{a:#x} {b:#x} {mxcsr:#x}");
        let host = host!("comisd {x}, {y}", mxcsr, a, b);
        assert_eq!(soft::order_f64(a, b, false, mxcsr), (host.order, host.flags), "{a:#x} {b:#x} {mxcsr:#x}");
    }
}

#[test]
fn compares() {
    for (mut random, mxcsr) in inputs() {
        let (a, b, c, d) = (random.f32(), random.f32(), random.f64(), random.f64());
        macro_rules! predicates {
            ($($predicate:literal)*) => {$(
                let host = host!(concat!("cmpss {x}, {y}, ", $predicate), mxcsr, a, b);
                let expected = (host.vector as u32, host.flags);
                assert_eq!(soft::compare_f32($predicate, a, b, mxcsr), expected, "{} {a:#x} {b:#x}", $predicate);
                let host = host!(concat!("cmpsd {x}, {y}, ", $predicate), mxcsr, c, d);
                let expected = (host.vector, host.flags);
                assert_eq!(soft::compare_f64($predicate, c, d, mxcsr), expected, "{} {c:#x} {d:#x}", $predicate);
            )*};
        }
        predicates!(0 1 2 3 4 5 6 7);
    }
}

#[test]
fn conversions() {
    for (mut random, mxcsr) in inputs() {
        let (a, b) = (random.f32(), random.f64());
        let host = host!("cvtss2sd {x}, {y}", mxcsr, 0u32, a);
        assert_eq!(soft::f32_to_f64(a, mxcsr), (host.vector, host.flags), "{a:#x} {mxcsr:#x}");
        let host = host!("cvtsd2ss {x}, {y}", mxcsr, 0u32, b);
        assert_eq!(soft::f64_to_f32(b, mxcsr), (host.vector as u32, host.flags), "{b:#x} {mxcsr:#x}");
        let c = random.next() as i64 >> random.below(64);
        let host = host!("cvtsi2ss {x}, {general}", mxcsr, 0u32, c as u64);
        assert_eq!(soft::int_to_f32(c, mxcsr), (host.vector as u32, host.flags), "{c:#x} {mxcsr:#x}");
        let host = host!("cvtsi2sd {x}, {general}", mxcsr, 0u32, c as u64);
        assert_eq!(soft::int_to_f64(c, mxcsr), (host.vector, host.flags), "{c:#x} {mxcsr:#x}");
        macro_rules! to_int {
            ($($instruction:literal $function:ident $operand:ident $size:ident $truncate:literal;)*) => {$(
                let host = host!($instruction, mxcsr, 0u32, $operand);
                let (value, flags) = soft::$function($operand, IntSize::$size, $truncate, mxcsr);
                let mask = if IntSize::$size == IntSize::I32 { 0xffff_ffff } else { u64::MAX };
                assert_eq!((value as u64 & mask, flags), (host.general & mask, host.flags),
                    "{} {:#x} {mxcsr:#x}", $instruction, $operand);
            )*};
        }
        to_int! {
            "cvtss2si {general:e}, {y}" f32_to_int a I32 false;
            "cvttss2si {general:e}, {y}" f32_to_int a I32 true;
            "cvtss2si {general}, {y}" f32_to_int a I64 false;
            "cvttss2si {general}, {y}" f32_to_int a I64 true;
            "cvtsd2si {general:e}, {y}" f64_to_int b I32 false;
            "cvttsd2si {general:e}, {y}" f64_to_int b I32 true;
            "cvtsd2si {general}, {y}" f64_to_int b I64 false;
            "cvttsd2si {general}, {y}" f64_to_int b I64 true;
        }
    }
}

#[test]
fn roundings() {
    if !is_x86_feature_detected!("sse4.1") {
        println!("skipped: the host has no SSE4.1");
        return;
    }
    for (mut random, mxcsr) in inputs() {
        let (a, b) = (random.f32(), random.f64());
        macro_rules! controls {
            ($($control:literal)*) => {$(
                let host = host!(concat!("roundss {x}, {y}, ", $control), mxcsr, 0u32, a);
                let expected = (host.vector as u32, host.flags);
                assert_eq!(soft::round_f32(a, $control, mxcsr), expected, "{} {a:#x} {mxcsr:#x}", $control);
                let host = host!(concat!("roundsd {x}, {y}, ", $control), mxcsr, 0u32, b);
                let expected = (host.vector, host.flags);
                assert_eq!(soft::round_f64(b, $control, mxcsr), expected, "{} {b:#x} {mxcsr:#x}", $control);
            )*};
        }
        controls!(0 1 2 3 4 8 12);
    }
}

#[test]
fn half_precision() {
    if !is_x86_feature_detected!("f16c") {
        println!("skipped: the host has no F16C");
        return;
    }
    for (mut random, mxcsr) in inputs() {
        let half = random.next() as u16;
        let host = host!("vcvtph2ps {x}, {y}", mxcsr, 0u32, half);
        let expected = (host.vector as u32, host.flags);
        assert_eq!(soft::f16_to_f32(half, mxcsr), expected, "{half:#x} {mxcsr:#x}");
        // Half of the singles have an exponent that a half might have.
        let single = random.f32();
        let near = single & 0x80ff_ffff | (0x3000_0000 + ((random.next() as u32 & 15) << 24));
        for a in [single, near] {
            macro_rules! controls {
                ($($control:literal)*) => {$(
                    let host = host!(concat!("vcvtps2ph {x}, {y}, ", $control), mxcsr, 0u32, a);
                    let expected = (host.vector as u16, host.flags);
                    assert_eq!(soft::f32_to_f16(a, $control, mxcsr), expected, "{} {a:#x} {mxcsr:#x}", $control);
                )*};
            }
            controls!(0 1 2 3 4 7 8 12);
        }
    }
}

#[test]
fn approximations_are_near() {
    for (mut random, _) in inputs() {
        let a = random.f32();
        let value = f32::from_bits(a);
        let near =
            |got: u32, exact: f64| (f64::from(f32::from_bits(got)) / exact - 1.0).abs() <= 1.5 / 4096.0;
        if value.is_normal() && (1.0 / value).is_normal() {
            assert!(near(soft::rcp_f32(a), 1.0 / f64::from(value)), "{a:#x}");
        }
        if value.is_normal() && value > 0.0 {
            assert!(near(soft::rsqrt_f32(a), 1.0 / f64::from(value).sqrt()), "{a:#x}");
        }
        // Where the result needs no approximation, it is the host's: zeros, denormals, infinities, NaNs.
        if !value.is_normal() {
            let host = host!("rcpss {x}, {y}", 0x1f80u32, 0u32, a);
            assert_eq!(soft::rcp_f32(a), host.vector as u32, "{a:#x}");
            let host = host!("rsqrtss {x}, {y}", 0x1f80u32, 0u32, a);
            assert_eq!(soft::rsqrt_f32(a), host.vector as u32, "{a:#x}");
        }
    }
}
