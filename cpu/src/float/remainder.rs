//! FPREM, FPREM1, FSCALE and FXTRACT (SDM vol. 2, those instructions).

use super::environment::Env;
use super::environment::status::{C0, C1, C2, C3, ZE};
use super::format::{Class, Unpacked};
use super::round::{Value, check_denormal, invalid, propagate_nan};

/// One step of a / b's remainder; `nearest` is FPREM1's rounding of the quotient. C2 tells that more steps are
/// needed, else C0, C3, C1 are the quotient's bits 2, 1, 0.
pub(super) fn partial_remainder(env: &mut Env, a: Unpacked, b: Unpacked, nearest: bool) -> Value {
    if let Some(nan) = propagate_nan(env, &[a, b]) {
        return nan;
    }
    if a.class == Class::Infinity || b.class == Class::Zero {
        return invalid(env);
    }
    if check_denormal(env, &[a, b]).is_none() {
        return Value::INDEFINITE;
    }
    if a.class == Class::Zero || b.class == Class::Infinity {
        return a.into();
    }
    let difference = a.exponent - b.exponent;
    let divisor = u128::from(b.significand);
    if difference >= 64 {
        // The SDM lets a step take 32 to 63 quotient bits; this many leave a multiple of 32 to go.
        let taken = difference & 31 | 32;
        env.raise(C2);
        let rest = (u128::from(a.significand) << taken) % divisor;
        return Value::normalised(a.sign, a.exponent - taken + 64, rest);
    }
    if difference < -1 || difference < 0 && !nearest {
        return a.into();
    }
    let (dividend, divisor, exponent) = match difference {
        -1 => (u128::from(a.significand), divisor << 1, a.exponent),
        _ => (u128::from(a.significand) << difference, divisor, b.exponent),
    };
    let (mut quotient, mut rest) = (dividend / divisor, dividend % divisor);
    let mut sign = a.sign;
    if nearest && (2 * rest > divisor || 2 * rest == divisor && quotient & 1 != 0) {
        quotient += 1;
        rest = divisor - rest;
        sign = !sign;
    }
    raise_quotient(env, quotient);
    if rest == 0 {
        return Value::Zero(a.sign);
    }
    Value::normalised(sign, exponent + 64, rest)
}

fn raise_quotient(env: &mut Env, quotient: u128) {
    for (bit, code) in [C1, C3, C0].into_iter().enumerate() {
        if quotient >> bit & 1 != 0 {
            env.raise(code);
        }
    }
}

/// a * 2^trunc(b).
pub(super) fn scale(env: &mut Env, a: Unpacked, b: Unpacked) -> Value {
    if let Some(nan) = propagate_nan(env, &[a, b]) {
        return nan;
    }
    match (a.class, b.class, b.sign) {
        (Class::Zero, Class::Infinity, false) | (Class::Infinity, Class::Infinity, true) => {
            return invalid(env);
        }
        _ => {}
    }
    if check_denormal(env, &[a, b]).is_none() {
        return Value::INDEFINITE;
    }
    match (a.class, b.class) {
        (_, Class::Infinity) if b.sign => Value::Zero(a.sign),
        (_, Class::Infinity) => Value::Infinity(a.sign),
        (Class::Finite, Class::Finite) if b.exponent >= 0 => {
            // Beyond this many places every result overflows or underflows.
            let places = match b.exponent {
                ..17 => (b.significand >> (63 - b.exponent)) as i32,
                _ => 1 << 17,
            };
            let exponent = if b.sign { a.exponent - places } else { a.exponent + places };
            Value::Finite(a.sign, exponent, u128::from(a.significand) << 64)
        }
        _ => a.into(),
    }
}

/// The exponent as a number, and the significand with exponent 0.
pub(super) fn extract(env: &mut Env, a: Unpacked) -> (Value, Value) {
    if let Some(nan) = propagate_nan(env, &[a]) {
        return (nan, nan);
    }
    if a.class == Class::Zero {
        env.raise(ZE);
        return (Value::Infinity(true), a.into());
    }
    if check_denormal(env, &[a]).is_none() {
        return (Value::INDEFINITE, Value::INDEFINITE);
    }
    if a.class == Class::Infinity {
        return (Value::Infinity(false), a.into());
    }
    let exponent = super::convert::from_integer(i64::from(a.exponent));
    (exponent, Value::Finite(a.sign, 0, u128::from(a.significand) << 64))
}
