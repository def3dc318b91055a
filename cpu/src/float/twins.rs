//! The portable twins against the host's silicon: random and edge-case operands under all rounding modes, precisions
//! and masks.

use super::environment::status::{BEFORE, C1, C2, EXCEPTIONS, OE, PE, UE};
use super::random::Random;
use super::{Arith, F80, Fused, Outcome, sse_host, sse_soft, x87_host, x87_soft};
use std::fmt::Debug;

/// Operand tuples tried per function.
const TRIES: u64 = 40_000;

fn seeds() -> impl Iterator<Item = u64> {
    (1..=TRIES).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15))
}

/// Whether the value counts: the exceptions that keep the destination are masked.
fn delivers(status: u16, control: u16, keeping: u16) -> bool {
    status & !control & keeping == 0
}

fn check_x87<T: Debug + PartialEq>(
    name: &str,
    keeping: u16,
    host: impl Fn(u16, F80, F80) -> Outcome<T>,
    soft: impl Fn(u16, F80, F80) -> Outcome<T>,
) {
    for seed in seeds() {
        let mut random = Random(seed);
        let (control, a, b) = (random.control(), random.f80(), random.f80());
        let (expected, got) = (host(control, a, b), soft(control, a, b));
        let same = expected.status == got.status
            && (expected.value == got.value || !delivers(got.status, control, keeping));
        assert!(
            same,
            "{name} seed {seed:#x} control {control:#x} a {a:x?} b {b:x?}\n host {expected:x?}\n soft {got:x?}"
        );
    }
}

fn both<T>(f: fn(u16, F80, F80) -> Outcome<T>) -> impl Fn(u16, F80, F80) -> Outcome<T> {
    f
}

fn first<T>(f: fn(u16, F80) -> Outcome<T>) -> impl Fn(u16, F80, F80) -> Outcome<T> {
    move |control, a, _| f(control, a)
}

macro_rules! x87_twins {
    ($($test:ident: $wrap:ident($name:ident), $keeping:expr;)*) => {$(
        #[test]
        fn $test() {
            check_x87(
                stringify!($name),
                $keeping,
                $wrap(x87_host::$name),
                $wrap(x87_soft::$name),
            );
        }
    )*};
}

x87_twins! {
    x87_add: both(add), BEFORE;
    x87_sub: both(sub), BEFORE;
    x87_mul: both(mul), BEFORE;
    x87_div: both(div), BEFORE;
    x87_sqrt: first(sqrt), BEFORE;
    x87_round_to_int: first(round_to_int), BEFORE;
    x87_prem: both(prem), BEFORE;
    x87_prem1: both(prem1), BEFORE;
    x87_scale: both(scale), BEFORE;
    x87_extract: first(extract), BEFORE;
    x87_store_f32: first(store_f32), BEFORE | OE | UE;
    x87_store_f64: first(store_f64), BEFORE | OE | UE;
    x87_store_i16: first(store_i16), BEFORE;
    x87_store_i32: first(store_i32), BEFORE;
    x87_store_i64: first(store_i64), BEFORE;
    x87_store_bcd: first(store_bcd), BEFORE;
}

/// The distance in units of the last place, of two finite values near each other.
fn ulps(a: F80, b: F80) -> u128 {
    let rank = |x: F80| {
        let magnitude = i128::from(x.sign_exponent & 0x7fff) << 63 | i128::from(x.mantissa & !0 >> 1);
        if x.sign() { -magnitude } else { magnitude }
    };
    rank(a).abs_diff(rank(b))
}

/// Transcendental functions may differ by an ulp, then in C1, and at the ends of the range in whether that is one too far;
/// special cases and other exceptions may not.
fn check_transcendental(
    name: &str,
    host: impl Fn(u16, F80, F80) -> Outcome<F80>,
    soft: impl Fn(u16, F80, F80) -> Outcome<F80>,
    defined: impl Fn(F80, F80) -> bool,
) {
    for seed in seeds() {
        let mut random = Random(seed);
        let (control, a, b) = (random.control() | 0x3f, random.f80(), random.f80());
        if !defined(a, b) {
            continue;
        }
        let (expected, got) = (host(control, a, b), soft(control, a, b));
        let is_inexact = expected.status & got.status & PE != 0;
        let is_at_end = matches!(expected.value.sign_exponent & 0x7fff, 0 | 1 | 0x7ffe | 0x7fff);
        let free = if is_inexact && is_at_end { C1 | OE | UE } else { C1 };
        let same = expected.status & !free == got.status & !free && ulps(expected.value, got.value) <= 1;
        assert!(
            same,
            "{name} seed {seed:#x} control {control:#x} a {a:x?} b {b:x?}\n host {expected:x?}\n soft {got:x?}"
        );
    }
}

macro_rules! transcendental_twins {
    ($($test:ident: $wrap:ident($name:ident), $defined:expr;)*) => {$(
        #[test]
        fn $test() {
            check_transcendental(
                stringify!($name),
                $wrap(x87_host::$name),
                $wrap(x87_soft::$name),
                $defined,
            );
        }
    )*};
}

/// |x| is at most 1, or x is no number.
fn at_most_one(x: F80) -> bool {
    let exponent = x.sign_exponent & 0x7fff;
    exponent < 0x3fff || exponent == 0x7fff || exponent == 0x3fff && x.mantissa == 1 << 63
}

transcendental_twins! {
    x87_f2xm1: first(f2xm1), |a, _| at_most_one(a);
    x87_fyl2x: both(fyl2x), |_, _| true;
    x87_fyl2xp1: both(fyl2xp1), |_, b| (b.sign_exponent & 0x7fff) < 0x3ffd;
    x87_patan: both(patan), |_, _| true;
    x87_ptan: first(ptan), |_, _| true;
    x87_sin: first(sin), |_, _| true;
    x87_cos: first(cos), |_, _| true;
}

#[test]
fn x87_sincos_is_sin_and_cos() {
    for seed in seeds() {
        let a = Random(seed).f80();
        let both = x87_soft::sincos(0x37f, a);
        let (sine, cosine) = (x87_soft::sin(0x37f, a), x87_soft::cos(0x37f, a));
        assert_eq!(both.value, (sine.value, cosine.value), "seed {seed:#x}");
        let host = x87_host::sincos(0x37f, a);
        let near = ulps(both.value.0, host.value.0) <= 1 && ulps(both.value.1, host.value.1) <= 1;
        assert!(
            near && (both.status ^ host.status) & (C2 | EXCEPTIONS) == 0,
            "seed {seed:#x} {both:x?} {host:x?}"
        );
    }
}

const OPERATIONS: [Arith; 7] =
    [Arith::Add, Arith::Sub, Arith::Mul, Arith::Div, Arith::Min, Arith::Max, Arith::Sqrt];

#[test]
fn sse_single() {
    for seed in seeds() {
        let mut random = Random(seed);
        let (mxcsr, a, b) = (random.mxcsr(), random.f32(), random.f32());
        for operation in OPERATIONS {
            let host = sse_host::arith_f32(operation, a, b, mxcsr);
            let soft = sse_soft::arith_f32(operation, a, b, mxcsr);
            assert_eq!(host, soft, "{operation:?} seed {seed:#x} mxcsr {mxcsr:#x} a {a:#x} b {b:#x}");
        }
    }
}

#[test]
fn sse_double() {
    for seed in seeds() {
        let mut random = Random(seed);
        let (mxcsr, a, b) = (random.mxcsr(), random.f64(), random.f64());
        for operation in OPERATIONS {
            let host = sse_host::arith_f64(operation, a, b, mxcsr);
            let soft = sse_soft::arith_f64(operation, a, b, mxcsr);
            assert_eq!(host, soft, "{operation:?} seed {seed:#x} mxcsr {mxcsr:#x} a {a:#x} b {b:#x}");
        }
    }
}

#[test]
fn sse_vectors() {
    for seed in seeds() {
        let mut random = Random(seed);
        let mxcsr = random.mxcsr();
        let mut singles = || (0..4).fold(0u128, |v, _| v << 32 | u128::from(random.f32()));
        let (a, b) = (singles(), singles());
        let mut doubles = || u128::from(random.f64()) << 64 | u128::from(random.f64());
        let (c, d) = (doubles(), doubles());
        for operation in OPERATIONS {
            let host = sse_host::arith_f32x4(operation, a, b, mxcsr);
            assert_eq!(host, sse_soft::arith_f32x4(operation, a, b, mxcsr), "{operation:?} seed {seed:#x}");
            let host = sse_host::arith_f64x2(operation, c, d, mxcsr);
            assert_eq!(host, sse_soft::arith_f64x2(operation, c, d, mxcsr), "{operation:?} seed {seed:#x}");
        }
    }
}

const FUSED: [Fused; 6] =
    [Fused::Add, Fused::Sub, Fused::AddSub, Fused::SubAdd, Fused::NegAdd, Fused::NegSub];

/// Three operands of which the last may be near the product of the others, so that the sum cancels.
fn fused_operands<T: Copy>(
    random: &mut Random,
    one: impl Fn(&mut Random) -> T,
    product: impl Fn(T, T) -> T,
) -> [T; 3] {
    let (a, b, c) = (one(random), one(random), one(random));
    [a, b, if random.below(3) == 0 { product(a, b) } else { c }]
}

fn fused_f32(random: &mut Random) -> [u32; 3] {
    fused_operands(random, Random::f32, |a, b| (f32::from_bits(a) * f32::from_bits(b)).to_bits() ^ a & 1)
}

fn fused_f64(random: &mut Random) -> [u64; 3] {
    fused_operands(random, Random::f64, |a, b| (f64::from_bits(a) * f64::from_bits(b)).to_bits() ^ a & 1)
}

/// Vectors whose lanes are four, or two, triples.
fn transposed<const N: usize>(lanes: [[u128; 3]; N]) -> [u128; 3] {
    std::array::from_fn(|k| (0..N).fold(0, |all, i| all | lanes[i][k] << (128 / N * i)))
}

#[test]
fn fused_multiply_add() {
    if !is_x86_feature_detected!("fma") {
        println!("skipped: the host has no FMA");
        return;
    }
    for seed in seeds() {
        let mut random = Random(seed);
        let mxcsr = random.mxcsr();
        macro_rules! compare {
            ($name:ident, $operands:expr) => {
                let [a, b, c] = $operands;
                for operation in FUSED {
                    let host = sse_host::$name(operation, a, b, c, mxcsr);
                    let soft = sse_soft::$name(operation, a, b, c, mxcsr);
                    assert_eq!(
                        host, soft,
                        "{operation:?} seed {seed:#x} mxcsr {mxcsr:#x} a {a:#x} b {b:#x} c {c:#x}"
                    );
                }
            };
        }
        compare!(fma_f32, fused_f32(&mut random));
        compare!(fma_f64, fused_f64(&mut random));
        compare!(fma_f32x4, transposed([(); 4].map(|()| fused_f32(&mut random).map(u128::from))));
        compare!(fma_f64x2, transposed([(); 2].map(|()| fused_f64(&mut random).map(u128::from))));
    }
}
