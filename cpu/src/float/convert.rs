//! Conversions between formats and integers, and rounding to an integer.

use super::environment::status::{C1, PE};
use super::environment::{Env, Rounding};
use super::format::{Class, F80_FORMAT, Format, Unpacked};
use super::round::{Value, check_denormal, invalid, propagate_nan, shift_right_sticky};

/// `x` rounded to `to`. Loads and SSE conversions check for denormals; x87 stores do not.
pub(super) fn convert(env: &mut Env, x: Unpacked, to: Format, checks_denormal: bool) -> u128 {
    let value = match propagate_nan(env, &[x]) {
        Some(nan) => nan,
        None if checks_denormal && check_denormal(env, &[x]).is_none() => Value::INDEFINITE,
        None => x.into(),
    };
    to.encode(env, value)
}

/// An integer's exact value.
pub(super) fn from_integer(x: i64) -> Value {
    Value::normalised(x < 0, 127, u128::from(x.unsigned_abs()))
}

/// A magnitude rounded to an integer, with how it was rounded.
struct Integer {
    magnitude: u64,
    inexact: bool,
    up: bool,
}

/// Rounds a finite number below 2^64.
fn integer_part(x: Unpacked, rounding: Rounding) -> Integer {
    let fixed = shift_right_sticky(u128::from(x.significand) << 64, (63 - x.exponent).unsigned_abs());
    let (whole, rest) = ((fixed >> 64) as u64, fixed as u64);
    let half = 1 << 63;
    let up = match rounding {
        Rounding::Nearest => rest > half || rest == half && whole & 1 != 0,
        Rounding::Down => x.sign && rest != 0,
        Rounding::Up => !x.sign && rest != 0,
        Rounding::Zero => false,
    };
    Integer { magnitude: whole + u64::from(up), inexact: rest != 0, up }
}

fn raise_inexact(env: &mut Env, integer: &Integer) {
    if integer.inexact {
        env.raise(PE);
    }
    if integer.up {
        env.raise(C1);
    }
}

/// `x` as a signed integer whose magnitude may reach `limit` (`limit - 1` on the positive side when `asymmetric`);
/// `None` after raising invalid.
fn to_bounded(env: &mut Env, x: Unpacked, limit: u64, asymmetric: bool) -> Option<i64> {
    match x.class {
        Class::Zero => return Some(0),
        Class::Finite if x.exponent < 64 => {}
        _ => {
            invalid(env);
            return None;
        }
    }
    let integer = integer_part(x, env.rounding);
    if integer.magnitude > limit - u64::from(asymmetric && !x.sign) {
        invalid(env);
        return None;
    }
    raise_inexact(env, &integer);
    let value = integer.magnitude as i64;
    Some(if x.sign { value.wrapping_neg() } else { value })
}

/// `x` as a signed integer of `bits` bits; the smallest one (integer indefinite) when it does not fit.
pub(super) fn to_integer(env: &mut Env, x: Unpacked, bits: u32) -> i64 {
    let limit = 1u64 << (bits - 1);
    to_bounded(env, x, limit, true).unwrap_or((limit as i64).wrapping_neg())
}

/// `x` as an integer of at most 18 decimal digits, `None` (and invalid) when it does not fit.
pub(super) fn to_18_digits(env: &mut Env, x: Unpacked) -> Option<i64> {
    to_bounded(env, x, 999_999_999_999_999_999, false)
}

/// `x` rounded to an integral value.
pub(super) fn round_to_integer(env: &mut Env, x: Unpacked, checks_denormal: bool) -> Value {
    if let Some(nan) = propagate_nan(env, &[x]) {
        return nan;
    }
    if checks_denormal && check_denormal(env, &[x]).is_none() {
        return Value::INDEFINITE;
    }
    if x.class != Class::Finite || x.exponent >= 63 {
        return x.into();
    }
    let integer = integer_part(x, env.rounding);
    raise_inexact(env, &integer);
    Value::normalised(x.sign, 127, u128::from(integer.magnitude))
}

/// A narrower float's bits in F80, exactly; an SNaN stays one. The second part tells that it was denormal.
pub(super) fn widen(bits: u128, from: Format) -> (u128, bool) {
    let x = from.unpack(bits, false);
    let field = match x.class {
        Class::Zero => 0,
        Class::Finite => (x.exponent + F80_FORMAT.bias()) as u32,
        _ => 0x7fff,
    };
    (F80_FORMAT.assemble(x.sign, field, x.significand), x.denormal)
}
