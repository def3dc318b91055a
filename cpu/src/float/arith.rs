//! Addition, multiplication, division, square root and fused multiply-add, exact before one rounding.

use super::environment::Env;
use super::environment::Rounding;
use super::environment::status::ZE;
use super::format::{Class, Unpacked};
use super::round::{Value, check_denormal, invalid, propagate_nan, shift_right_sticky};

/// a + b.
#[inline]
pub(super) fn add(env: &mut Env, a: Unpacked, b: Unpacked) -> Value {
    if let Some(nan) = propagate_nan(env, &[a, b]) {
        return nan;
    }
    if a.class == Class::Infinity && b.class == Class::Infinity && a.sign != b.sign {
        return invalid(env);
    }
    if check_denormal(env, &[a, b]).is_none() {
        return Value::INDEFINITE;
    }
    if a.class == Class::Infinity || b.class == Class::Infinity {
        return Value::Infinity(if a.class == Class::Infinity { a.sign } else { b.sign });
    }
    sum(env, a.into(), b.into())
}

/// a - b.
#[inline]
pub(super) fn sub(env: &mut Env, a: Unpacked, b: Unpacked) -> Value {
    add(env, a, b.negated())
}

/// The sum of two zeros or finite numbers.
#[inline]
fn sum(env: &Env, a: Value, b: Value) -> Value {
    let cancelled = env.rounding == Rounding::Down;
    let (sign_a, exponent_a, a, sign_b, exponent_b, b) = match (a, b) {
        (Value::Finite(sa, ea, a), Value::Finite(sb, eb, b)) => (sa, ea, a, sb, eb, b),
        (Value::Zero(sa), Value::Zero(sb)) => return Value::Zero(if sa == sb { sa } else { cancelled }),
        (Value::Zero(_), other) | (other, _) => return other,
    };
    // One bit of headroom for the carry; the sources leave at least 20 low bits free.
    let (mut a, mut b) = (a >> 1, b >> 1);
    let exponent = exponent_a.max(exponent_b);
    a = shift_right_sticky(a, (exponent - exponent_a).unsigned_abs());
    b = shift_right_sticky(b, (exponent - exponent_b).unsigned_abs());
    let exponent = exponent + 1;
    if sign_a == sign_b {
        Value::normalised(sign_a, exponent, a + b)
    } else if a == b {
        Value::Zero(cancelled)
    } else if a > b {
        Value::normalised(sign_a, exponent, a - b)
    } else {
        Value::normalised(sign_b, exponent, b - a)
    }
}

/// a * b.
#[inline]
pub(super) fn mul(env: &mut Env, a: Unpacked, b: Unpacked) -> Value {
    if let Some(nan) = propagate_nan(env, &[a, b]) {
        return nan;
    }
    if is_infinity_and_zero(a, b) {
        return invalid(env);
    }
    if check_denormal(env, &[a, b]).is_none() {
        return Value::INDEFINITE;
    }
    product(a, b)
}

fn is_infinity_and_zero(a: Unpacked, b: Unpacked) -> bool {
    matches!((a.class, b.class), (Class::Infinity, Class::Zero) | (Class::Zero, Class::Infinity))
}

/// The product of operands that are no NaNs, nor infinity and zero.
fn product(a: Unpacked, b: Unpacked) -> Value {
    let sign = a.sign != b.sign;
    match (a.class, b.class) {
        (Class::Infinity, _) | (_, Class::Infinity) => Value::Infinity(sign),
        (Class::Zero, _) | (_, Class::Zero) => Value::Zero(sign),
        _ => Value::normalised(
            sign,
            a.exponent + b.exponent + 1,
            u128::from(a.significand) * u128::from(b.significand),
        ),
    }
}

/// a / b.
#[inline]
pub(super) fn div(env: &mut Env, a: Unpacked, b: Unpacked) -> Value {
    if let Some(nan) = propagate_nan(env, &[a, b]) {
        return nan;
    }
    let sign = a.sign != b.sign;
    match (a.class, b.class) {
        (Class::Infinity, Class::Infinity) | (Class::Zero, Class::Zero) => return invalid(env),
        (Class::Finite, Class::Zero) => {
            env.raise(ZE);
            return Value::Infinity(sign);
        }
        _ => {}
    }
    if check_denormal(env, &[a, b]).is_none() {
        return Value::INDEFINITE;
    }
    match (a.class, b.class) {
        (Class::Infinity, _) => Value::Infinity(sign),
        (Class::Zero, _) | (_, Class::Infinity) => Value::Zero(sign),
        _ => quotient(sign, a, b),
    }
}

fn quotient(sign: bool, a: Unpacked, b: Unpacked) -> Value {
    let below = a.significand < b.significand;
    // The quotient has bit 63 set either way.
    let dividend = u128::from(a.significand) << (63 + u32::from(below));
    let divisor = u128::from(b.significand);
    let (quotient, rest) = (dividend / divisor, dividend % divisor);
    let guard = u128::from(2 * rest >= divisor) << 63;
    let sticky = u128::from(rest != 0 && 2 * rest != divisor);
    Value::Finite(sign, a.exponent - b.exponent - i32::from(below), quotient << 64 | guard | sticky)
}

/// The square root of a.
#[inline]
pub(super) fn sqrt(env: &mut Env, a: Unpacked) -> Value {
    if let Some(nan) = propagate_nan(env, &[a]) {
        return nan;
    }
    if a.sign && a.class != Class::Zero {
        return invalid(env);
    }
    if check_denormal(env, &[a]).is_none() {
        return Value::INDEFINITE;
    }
    if a.class != Class::Finite {
        return a.into();
    }
    let odd = a.exponent & 1 != 0;
    let radicand = u128::from(a.significand) << (63 + u32::from(odd));
    let root = radicand.isqrt();
    let rest = radicand - root * root;
    // The half-way point lies between root^2 + root and the next integer.
    let guard = u128::from(rest > root) << 63;
    Value::Finite(false, a.exponent >> 1, root << 64 | guard | u128::from(rest != 0))
}

/// a * b + c with one rounding (F32 and F64 operands).
pub(super) fn fma(env: &mut Env, a: Unpacked, b: Unpacked, c: Unpacked) -> Value {
    if let Some(nan) = propagate_nan(env, &[a, b, c]) {
        return nan;
    }
    if is_infinity_and_zero(a, b) {
        return invalid(env);
    }
    let product = product(a, b);
    if let (Value::Infinity(sign), Class::Infinity) = (product, c.class)
        && sign != c.sign
    {
        return invalid(env);
    }
    if check_denormal(env, &[a, b, c]).is_none() {
        return Value::INDEFINITE;
    }
    match (product, Value::from(c)) {
        (Value::Infinity(sign), _) | (_, Value::Infinity(sign)) => Value::Infinity(sign),
        (product, c) => sum(env, product, c),
    }
}
