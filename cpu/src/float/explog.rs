//! F2XM1, FYL2X and FYL2XP1 (SDM vol. 2, those instructions' result tables).

use super::constants::{LN_2, TWO_LOG2_E};
use super::environment::Env;
use super::environment::status::{PE, UE, ZE};
use super::format::{Class, F80_FORMAT, Unpacked};
use super::round::{Value, check_denormal, invalid, propagate_nan};
use super::wide::Wide;

/// 2^x - 1 for x from -1 to 1. Outside, where the SDM leaves the result open, x comes back.
pub(super) fn f2xm1(env: &mut Env, x: Unpacked) -> Value {
    if let Some(nan) = propagate_nan(env, &[x]) {
        return nan;
    }
    if check_denormal(env, &[x]).is_none() {
        return Value::INDEFINITE;
    }
    let one = x.exponent == 0 && x.significand == 1 << 63;
    match x.class {
        Class::Infinity if x.sign => Value::Finite(true, 0, 1 << 127),
        Class::Finite if one => {
            // Silicon calls these exact results inexact.
            env.raise(PE);
            if x.sign { Value::Finite(true, -1, 1 << 127) } else { x.into() }
        }
        Class::Finite if x.exponent < 0 => expm1(Wide::from(x).mul(LN_2)).inexact(),
        _ => x.into(),
    }
}

/// e^t - 1 for |t| below 1, by its power series.
fn expm1(t: Wide) -> Wide {
    Wide::series(t, |n, term| {
        let term = term.mul(t).div_small(n + 1);
        (term, term)
    })
}

/// y * log2(x).
pub(super) fn fyl2x(env: &mut Env, y: Unpacked, x: Unpacked) -> Value {
    if let Some(nan) = propagate_nan(env, &[y, x]) {
        return nan;
    }
    if x.sign && x.class != Class::Zero {
        return invalid(env);
    }
    let is_one = x.class == Class::Finite && x.exponent == 0 && x.significand == 1 << 63;
    let below_one = x.class == Class::Zero || x.class == Class::Finite && x.exponent < 0;
    match (y.class, x.class) {
        (Class::Zero, Class::Zero | Class::Infinity) => return invalid(env),
        (Class::Infinity, _) if is_one => return invalid(env),
        (Class::Finite, Class::Zero) => {
            env.raise(ZE);
            return Value::Infinity(!y.sign);
        }
        _ => {}
    }
    if check_denormal(env, &[y, x]).is_none() {
        return Value::INDEFINITE;
    }
    let sign = y.sign != below_one;
    match (y.class, x.class) {
        (Class::Infinity, _) | (_, Class::Zero | Class::Infinity) => Value::Infinity(sign),
        (Class::Zero, _) => Value::Zero(sign),
        _ if is_one => Value::Zero(y.sign),
        _ => {
            if x.significand == 1 << 63 {
                // Silicon calls the exact result inexact.
                let product = Wide::from(y).mul(Wide::integer(x.exponent));
                let tiny = product.exponent < F80_FORMAT.min_exponent();
                env.raise(if tiny { PE | UE } else { PE });
                return product.exact();
            }
            Wide::from(y).mul(log2(x.into())).inexact()
        }
    }
}

/// log2 of a positive number.
fn log2(x: Wide) -> Wide {
    // The mantissa is brought between sqrt(1/2) and sqrt(2), so that nothing cancels.
    const SQRT_2: u128 = 0xb504_f333 << 96;
    let up = i32::from(x.significand > SQRT_2);
    let mantissa = Wide { exponent: -up, ..x };
    let ratio = mantissa.sub(Wide::ONE).div(mantissa.add(Wide::ONE));
    Wide::integer(x.exponent + up).add(log2_of_ratio(ratio))
}

/// log2((1 + z) / (1 - z)), which is 2 / ln 2 * artanh z.
fn log2_of_ratio(z: Wide) -> Wide {
    let square = z.mul(z);
    let artanh = Wide::series(z, |n, power| {
        let power = power.mul(square);
        (power, power.div_small(2 * n + 1))
    });
    artanh.mul(TWO_LOG2_E)
}

/// y * log2(x + 1); the SDM defines it for |x| below 1 - sqrt(1/2), and we as far as it has a value.
pub(super) fn fyl2xp1(env: &mut Env, y: Unpacked, x: Unpacked) -> Value {
    if let Some(nan) = propagate_nan(env, &[y, x]) {
        return nan;
    }
    let sign = y.sign != x.sign;
    let at_most_minus_one =
        x.sign && (x.class == Class::Infinity || x.class == Class::Finite && x.exponent >= 0);
    match (y.class, x.class) {
        _ if at_most_minus_one => return invalid(env),
        (Class::Infinity, Class::Zero) | (Class::Zero, Class::Infinity) => return invalid(env),
        _ => {}
    }
    if check_denormal(env, &[y, x]).is_none() {
        return Value::INDEFINITE;
    }
    match (y.class, x.class) {
        (Class::Infinity, _) | (_, Class::Infinity) => Value::Infinity(sign),
        (Class::Zero, _) | (_, Class::Zero) => Value::Zero(sign),
        _ => {
            let (x, y) = (Wide::from(x), Wide::from(y));
            let logarithm = if x.exponent < -1 {
                log2_of_ratio(x.div(x.add(Wide::integer(2))))
            } else {
                log2(x.add(Wide::ONE))
            };
            y.mul(logarithm).inexact()
        }
    }
}
