//! FSIN, FCOS, FSINCOS, FPTAN and FPATAN (SDM vol. 1, 8.3.8 for the 66-bit pi of argument reduction).

use super::constants::{ARCTANGENTS, HALF_PI, PI};
use super::environment::Env;
use super::environment::status::C2;
use super::format::{Class, Unpacked};
use super::round::{Value, check_denormal, invalid, propagate_nan};
use super::wide::Wide;

/// The x87's internal pi / 2, in units of 2^-65.
const HALF_PI_66: u128 = 0x3_243f_6a88_85a3_08d3;

/// An argument reduced to -pi/4 to pi/4, and the quarter turns taken from its magnitude.
struct Reduced {
    angle: Wide,
    quadrant: u32,
}

/// What becomes of an operand that needs no computing.
enum Argument {
    Special(Value),
    TooLarge,
    Reduced(Reduced),
}

/// Checks and reduces the magnitude of an angle; its sign is left to the caller.
fn reduce(env: &mut Env, x: Unpacked) -> Argument {
    if let Some(nan) = propagate_nan(env, &[x]) {
        return Argument::Special(nan);
    }
    if x.class == Class::Infinity {
        return Argument::Special(invalid(env));
    }
    if check_denormal(env, &[x]).is_none() {
        return Argument::Special(Value::INDEFINITE);
    }
    if x.class == Class::Finite && x.exponent >= 63 {
        env.raise(C2);
        return Argument::TooLarge;
    }
    let magnitude = Wide::from(x).abs();
    if x.class == Class::Zero || x.exponent < -1 {
        return Argument::Reduced(Reduced { angle: magnitude, quadrant: 0 });
    }
    let units = u128::from(x.significand) << (x.exponent + 2);
    let (quadrant, rest) = ((units / HALF_PI_66) as u32, units % HALF_PI_66);
    Argument::Reduced(if rest > HALF_PI_66 / 2 {
        Reduced { angle: Wide::scaled(true, HALF_PI_66 - rest, -65), quadrant: quadrant.wrapping_add(1) }
    } else {
        Reduced { angle: Wide::scaled(false, rest, -65), quadrant }
    })
}

/// Sine of a reduced angle.
fn sine_series(angle: Wide) -> Wide {
    let square = angle.mul(angle).negate_if(true);
    Wide::series(angle, |n, term| {
        let term = term.mul(square).div_small(2 * n * (2 * n + 1));
        (term, term)
    })
}

/// Cosine of a reduced angle.
fn cosine_series(angle: Wide) -> Wide {
    let square = angle.mul(angle).negate_if(true);
    Wide::series(Wide::ONE, |n, term| {
        let term = term.mul(square).div_small(2 * n * (2 * n - 1));
        (term, term)
    })
}

fn sine_of(reduced: &Reduced) -> Wide {
    let odd = reduced.quadrant & 1 != 0;
    let value = if odd { cosine_series(reduced.angle) } else { sine_series(reduced.angle) };
    value.negate_if(reduced.quadrant & 2 != 0)
}

fn cosine_of(reduced: &Reduced) -> Wide {
    sine_of(&Reduced { angle: reduced.angle, quadrant: reduced.quadrant.wrapping_add(1) })
}

/// The sine, or the operand with C2 raised when it is 2^63 or more.
pub(super) fn sine(env: &mut Env, x: Unpacked) -> Value {
    sine_and_cosine(env, x).0
}

/// The cosine, or the operand with C2 raised when it is 2^63 or more.
pub(super) fn cosine(env: &mut Env, x: Unpacked) -> Value {
    sine_and_cosine(env, x).1
}

/// Sine and cosine, or the operand twice with C2 raised.
pub(super) fn sine_and_cosine(env: &mut Env, x: Unpacked) -> (Value, Value) {
    match reduce(env, x) {
        Argument::Special(value) => (value, value),
        Argument::TooLarge => (x.into(), x.into()),
        Argument::Reduced(_) if x.class == Class::Zero => (Value::Zero(x.sign), Wide::ONE.exact()),
        Argument::Reduced(reduced) => {
            (sine_of(&reduced).negate_if(x.sign).inexact(), cosine_of(&reduced).inexact())
        }
    }
}

/// The tangent, or the operand with C2 raised when it is 2^63 or more.
pub(super) fn tangent(env: &mut Env, x: Unpacked) -> Value {
    match reduce(env, x) {
        Argument::Special(value) => value,
        Argument::TooLarge => x.into(),
        Argument::Reduced(_) if x.class == Class::Zero => Value::Zero(x.sign),
        Argument::Reduced(reduced) => sine_of(&reduced).div(cosine_of(&reduced)).negate_if(x.sign).inexact(),
    }
}

/// The angle of the point (x, y), from -pi to pi.
pub(super) fn arctangent(env: &mut Env, y: Unpacked, x: Unpacked) -> Value {
    if let Some(nan) = propagate_nan(env, &[y, x]) {
        return nan;
    }
    if check_denormal(env, &[y, x]).is_none() {
        return Value::INDEFINITE;
    }
    // The angle to the positive x axis in the first quadrant.
    let acute = match (y.class, x.class) {
        (Class::Infinity, Class::Infinity) => ARCTANGENTS[7],
        (Class::Zero, _) | (_, Class::Infinity) => Wide::ZERO,
        (Class::Infinity, _) | (_, Class::Zero) => HALF_PI,
        _ => first_quadrant(Wide::from(y).abs(), Wide::from(x).abs()),
    };
    let angle = if x.sign { PI.sub(acute) } else { acute };
    angle.negate_if(y.sign).inexact()
}

/// The angle of a point with positive coordinates.
fn first_quadrant(y: Wide, x: Wide) -> Wide {
    if (y.exponent, y.significand) <= (x.exponent, x.significand) {
        arctangent_of_ratio(y.div(x))
    } else {
        HALF_PI.sub(arctangent_of_ratio(x.div(y)))
    }
}

/// The arc tangent of a number from 0 to 1.
fn arctangent_of_ratio(t: Wide) -> Wide {
    // atan t = atan c + atan((t - c) / (1 + t c)), with c the nearest eighth: the series' argument is below 1/15.
    let eighths = match t.exponent {
        ..-4 => 0,
        exponent => ((t.significand >> (123 - exponent)) as usize).div_ceil(2),
    };
    let Some(base) = eighths.checked_sub(1).and_then(|i| ARCTANGENTS.get(i)) else {
        return arctangent_series(t);
    };
    let c = Wide::scaled(false, eighths as u128, -3);
    base.add(arctangent_series(t.sub(c).div(Wide::ONE.add(t.mul(c)))))
}

fn arctangent_series(t: Wide) -> Wide {
    let square = t.mul(t).negate_if(true);
    Wide::series(t, |n, power| {
        let power = power.mul(square);
        (power, power.div_small(2 * n + 1))
    })
}
