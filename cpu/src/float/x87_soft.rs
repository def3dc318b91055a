//! The x87's computations in portable Rust. Each takes the guest's control word (rounding, precision, masks) and
//! returns the value for the destination and the status bits raised. When an unmasked invalid, denormal or
//! zero-divide exception is among them (or, for stores, any unmasked one but precision), the value is without
//! meaning: the destination keeps what it had.

use super::convert::{convert, from_integer, round_to_integer, to_18_digits, to_integer};
use super::environment::status::{C0, C2, C3, DE};
use super::format::{F32, F64, F80, F80_FORMAT, Unpacked};
use super::round::Value;
use super::{Env, arith, compare as comparison, convert, decimal, explog, remainder, trigonometry};
use std::cmp::Ordering;

/// What an operation gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome<T> {
    /// The result.
    pub value: T,
    /// Exceptions and condition codes raised, at their places in the status word.
    pub status: u16,
}

/// Rounds `value` into F80 and closes the operation.
fn finish(mut env: Env, value: Value) -> Outcome<F80> {
    let value = F80::from_bits(F80_FORMAT.encode(&mut env, value));
    Outcome { value, status: env.status }
}

#[inline(always)]
fn binary(
    mut env: Env,
    operation: impl Fn(&mut Env, Unpacked, Unpacked) -> Value,
    a: F80,
    b: F80,
) -> Outcome<F80> {
    let value = operation(&mut env, a.unpack(), b.unpack());
    finish(env, value)
}

#[inline(always)]
fn unary(mut env: Env, operation: impl Fn(&mut Env, Unpacked) -> Value, a: F80) -> Outcome<F80> {
    let value = operation(&mut env, a.unpack());
    finish(env, value)
}

/// a + b.
pub fn add(control: u16, a: F80, b: F80) -> Outcome<F80> {
    binary(Env::x87(control), arith::add, a, b)
}

/// a - b.
pub fn sub(control: u16, a: F80, b: F80) -> Outcome<F80> {
    binary(Env::x87(control), arith::sub, a, b)
}

/// a * b.
pub fn mul(control: u16, a: F80, b: F80) -> Outcome<F80> {
    binary(Env::x87(control), arith::mul, a, b)
}

/// a / b.
pub fn div(control: u16, a: F80, b: F80) -> Outcome<F80> {
    binary(Env::x87(control), arith::div, a, b)
}

/// The square root of a.
pub fn sqrt(control: u16, a: F80) -> Outcome<F80> {
    unary(Env::x87(control), arith::sqrt, a)
}

/// a rounded to an integral value (FRNDINT).
pub fn round_to_int(control: u16, a: F80) -> Outcome<F80> {
    unary(Env::x87_extended(control), |env, a| round_to_integer(env, a, true), a)
}

/// A step of the remainder of a / b, quotient truncated (FPREM).
pub fn prem(control: u16, a: F80, b: F80) -> Outcome<F80> {
    binary(Env::x87_extended(control), |env, a, b| remainder::partial_remainder(env, a, b, false), a, b)
}

/// A step of the remainder of a / b, quotient to nearest (FPREM1).
pub fn prem1(control: u16, a: F80, b: F80) -> Outcome<F80> {
    binary(Env::x87_extended(control), |env, a, b| remainder::partial_remainder(env, a, b, true), a, b)
}

/// a * 2^trunc(b) (FSCALE).
pub fn scale(control: u16, a: F80, b: F80) -> Outcome<F80> {
    binary(Env::x87_extended(control), remainder::scale, a, b)
}

/// a's exponent and significand (FXTRACT).
pub fn extract(control: u16, a: F80) -> Outcome<(F80, F80)> {
    let mut env = Env::x87_extended(control);
    let values = remainder::extract(&mut env, a.unpack());
    finish_pair(env, values)
}

fn finish_pair(mut env: Env, values: (Value, Value)) -> Outcome<(F80, F80)> {
    let mut encode = |value| F80::from_bits(F80_FORMAT.encode(&mut env, value));
    let value = (encode(values.0), encode(values.1));
    Outcome { value, status: env.status }
}

/// Compares a with b: exceptions, and C3, C2, C0 as FCOM sets them. A quiet comparison (FUCOM) takes QNaNs without
/// raising invalid.
pub fn compare(control: u16, a: F80, b: F80, quiet: bool) -> u16 {
    let mut env = Env::x87_extended(control);
    let codes = match comparison::compare(&mut env, a.unpack(), b.unpack(), quiet) {
        None => C3 | C2 | C0,
        Some(Ordering::Equal) => C3,
        Some(Ordering::Less) => C0,
        Some(Ordering::Greater) => 0,
    };
    env.status | codes
}

fn load(control: u16, x: Unpacked) -> Outcome<F80> {
    // The denormal exception does not keep a load from delivering, so it counts as masked here.
    let mut env = Env::x87_extended(control | DE);
    let value = F80::from_bits(convert(&mut env, x, F80_FORMAT, true));
    Outcome { value, status: env.status }
}

/// FLD m32fp: quiets an SNaN and raises invalid or denormal; the value is good unless invalid is unmasked.
pub fn load_f32(control: u16, bits: u32) -> Outcome<F80> {
    load(control, F32.unpack(u128::from(bits), false))
}

/// FLD m64fp: quiets an SNaN and raises invalid or denormal; the value is good unless invalid is unmasked.
pub fn load_f64(control: u16, bits: u64) -> Outcome<F80> {
    load(control, F64.unpack(u128::from(bits), false))
}

/// A memory operand of arithmetic, exactly (an SNaN stays one), and whether it was denormal: F80 hides that.
pub fn widen_f32(bits: u32) -> (F80, bool) {
    let (bits, denormal) = convert::widen(u128::from(bits), F32);
    (F80::from_bits(bits), denormal)
}

/// A memory operand of arithmetic, exactly (an SNaN stays one), and whether it was denormal: F80 hides that.
pub fn widen_f64(bits: u64) -> (F80, bool) {
    let (bits, denormal) = convert::widen(u128::from(bits), F64);
    (F80::from_bits(bits), denormal)
}

/// FILD of any size, and integer memory operands.
pub fn load_int(x: i64) -> F80 {
    finish(Env::x87_extended(0x37f), from_integer(x)).value
}

/// FBLD.
pub fn load_bcd(bytes: [u8; 10]) -> F80 {
    let (negative, magnitude) = decimal::decode(bytes);
    let value = load_int(magnitude as i64);
    if negative { value.negate() } else { value }
}

/// FST m32fp.
pub fn store_f32(control: u16, a: F80) -> Outcome<u32> {
    let mut env = Env::x87_extended(control);
    let value = convert(&mut env, a.unpack(), F32, false) as u32;
    Outcome { value, status: env.status }
}

/// FST m64fp.
pub fn store_f64(control: u16, a: F80) -> Outcome<u64> {
    let mut env = Env::x87_extended(control);
    let value = convert(&mut env, a.unpack(), F64, false) as u64;
    Outcome { value, status: env.status }
}

fn store_int(control: u16, a: F80, bits: u32) -> Outcome<i64> {
    let mut env = Env::x87_extended(control);
    let value = to_integer(&mut env, a.unpack(), bits);
    Outcome { value, status: env.status }
}

/// FIST m16int; FISTTP with RC set to zero.
pub fn store_i16(control: u16, a: F80) -> Outcome<i16> {
    let Outcome { value, status } = store_int(control, a, 16);
    Outcome { value: value as i16, status }
}

/// FIST m32int; FISTTP with RC set to zero.
pub fn store_i32(control: u16, a: F80) -> Outcome<i32> {
    let Outcome { value, status } = store_int(control, a, 32);
    Outcome { value: value as i32, status }
}

/// FISTP m64int; FISTTP with RC set to zero.
pub fn store_i64(control: u16, a: F80) -> Outcome<i64> {
    store_int(control, a, 64)
}

/// FBSTP.
pub fn store_bcd(control: u16, a: F80) -> Outcome<[u8; 10]> {
    let mut env = Env::x87_extended(control);
    let value = match to_18_digits(&mut env, a.unpack()) {
        Some(x) => decimal::encode(a.sign(), x.unsigned_abs()),
        None => decimal::INDEFINITE,
    };
    Outcome { value, status: env.status }
}

/// 2^a - 1.
pub fn f2xm1(control: u16, a: F80) -> Outcome<F80> {
    unary(Env::x87_extended(control), explog::f2xm1, a)
}

/// y * log2(x).
pub fn fyl2x(control: u16, y: F80, x: F80) -> Outcome<F80> {
    binary(Env::x87_extended(control), explog::fyl2x, y, x)
}

/// y * log2(x + 1).
pub fn fyl2xp1(control: u16, y: F80, x: F80) -> Outcome<F80> {
    binary(Env::x87_extended(control), explog::fyl2xp1, y, x)
}

/// The angle of the point (x, y) (FPATAN).
pub fn patan(control: u16, y: F80, x: F80) -> Outcome<F80> {
    binary(Env::x87_extended(control), trigonometry::arctangent, y, x)
}

/// The tangent of a, which FPTAN follows with pushing 1.0; a itself with C2 when it is 2^63 or more.
pub fn ptan(control: u16, a: F80) -> Outcome<F80> {
    unary(Env::x87_extended(control), trigonometry::tangent, a)
}

/// The sine of a; a itself with C2 when it is 2^63 or more.
pub fn sin(control: u16, a: F80) -> Outcome<F80> {
    unary(Env::x87_extended(control), trigonometry::sine, a)
}

/// The cosine of a; a itself with C2 when it is 2^63 or more.
pub fn cos(control: u16, a: F80) -> Outcome<F80> {
    unary(Env::x87_extended(control), trigonometry::cosine, a)
}

/// The sine and cosine of a; a itself twice with C2 when it is 2^63 or more.
pub fn sincos(control: u16, a: F80) -> Outcome<(F80, F80)> {
    let mut env = Env::x87_extended(control);
    let values = trigonometry::sine_and_cosine(&mut env, a.unpack());
    finish_pair(env, values)
}
