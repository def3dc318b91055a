//! Rounding an exact intermediate result into a format: overflow, underflow (tininess is detected after rounding),
//! their unmasked responses, precision control (SDM vol. 1, 4.8.4, 4.9.1, 8.5.4 to 8.5.6).

use super::environment::status::{C1, DE, IE, OE, PE, UE};
use super::environment::{Env, NanRule, Rounding};
use super::format::{Class, F80_FORMAT, Format, Unpacked};

/// What a masked or unmasked overflow or underflow adds to or takes from an x87 result's exponent when unmasked.
const BIAS_ADJUST: i32 = 24576;

/// An operation's exact result before rounding.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value {
    /// Zero with a sign.
    Zero(bool),
    /// Infinity with a sign.
    Infinity(bool),
    /// A NaN: sign and F80-aligned significand.
    Nan(bool, u64),
    /// `significand / 2^127 * 2^exponent`, bit 127 set; bit 0 may be sticky.
    Finite(bool, i32, u128),
}

impl Value {
    /// The default NaN.
    pub(super) const INDEFINITE: Value = Value::Nan(true, 3 << 62);

    /// The number `significand / 2^127 * 2^exponent`, not yet normalised; zero gets the sign given.
    #[inline]
    pub(super) fn normalised(sign: bool, exponent: i32, significand: u128) -> Value {
        if significand == 0 {
            return Value::Zero(sign);
        }
        let shift = significand.leading_zeros();
        Value::Finite(sign, exponent - shift as i32, significand << shift)
    }
}

impl From<Unpacked> for Value {
    #[inline]
    fn from(x: Unpacked) -> Value {
        match x.class {
            Class::Zero => Value::Zero(x.sign),
            Class::Finite => Value::Finite(x.sign, x.exponent, u128::from(x.significand) << 64),
            Class::Infinity => Value::Infinity(x.sign),
            Class::QuietNan | Class::SignalingNan => Value::Nan(x.sign, x.significand),
            Class::Unsupported => Value::INDEFINITE,
        }
    }
}

/// Shifts right; bits shifted out stay visible in bit 0.
pub(super) fn shift_right_sticky(x: u128, by: u32) -> u128 {
    match by {
        0 => x,
        1..=127 => x >> by | u128::from(x << (128 - by) != 0),
        _ => u128::from(x != 0),
    }
}

struct Rounded {
    /// At bit 63.
    significand: u64,
    carry: bool,
    inexact: bool,
    up: bool,
}

/// Keeps the top `precision` bits (24 to 64) of `significand`.
#[inline(always)]
fn round_at(significand: u128, precision: u32, rounding: Rounding, sign: bool) -> Rounded {
    let dropped = 128 - precision;
    let rest = significand & ((1 << dropped) - 1);
    let half = 1 << (dropped - 1);
    let kept = significand >> dropped;
    let up = match rounding {
        Rounding::Nearest => rest > half || rest == half && kept & 1 != 0,
        Rounding::Down => sign && rest != 0,
        Rounding::Up => !sign && rest != 0,
        Rounding::Zero => false,
    };
    let kept = kept + u128::from(up);
    let carry = kept >> precision != 0;
    let kept = if carry { kept >> 1 } else { kept };
    Rounded { significand: (kept as u64) << (64 - precision), carry, inexact: rest != 0, up }
}

/// Notes inexactness and its direction.
fn raise_inexact(env: &mut Env, rounded: &Rounded) {
    if rounded.inexact {
        env.raise(PE);
    }
    if rounded.up {
        env.raise(C1);
    }
}

impl Format {
    /// Rounds `value` into this format; the bits are right-aligned.
    #[inline(always)]
    pub(super) fn encode(&self, env: &mut Env, value: Value) -> u128 {
        match value {
            Value::Zero(sign) => self.assemble(sign, 0, 0),
            Value::Infinity(sign) => self.infinity(sign),
            Value::Nan(sign, significand) => self.nan(sign, significand),
            Value::Finite(sign, exponent, significand) => {
                self.encode_finite(env, sign, exponent, significand)
            }
        }
    }

    #[inline(always)]
    fn encode_finite(&self, env: &mut Env, sign: bool, exponent: i32, significand: u128) -> u128 {
        let precision = if self.explicit_integer { env.precision } else { self.precision };
        let rounded = round_at(significand, precision, env.rounding, sign);
        let rounded_exponent = exponent + i32::from(rounded.carry);
        if rounded_exponent < self.min_exponent() {
            return self.encode_tiny(env, sign, exponent, significand, precision);
        }
        if rounded_exponent > self.bias() {
            return self.encode_huge(env, sign, rounded_exponent, precision, &rounded);
        }
        raise_inexact(env, &rounded);
        self.assemble(sign, (rounded_exponent + self.bias()) as u32, rounded.significand)
    }

    #[cold]
    fn encode_tiny(
        &self,
        env: &mut Env,
        sign: bool,
        exponent: i32,
        significand: u128,
        precision: u32,
    ) -> u128 {
        if env.masks & UE == 0 {
            env.raise(UE);
            let rounded = round_at(significand, precision, env.rounding, sign);
            let adjusted = exponent + i32::from(rounded.carry) + BIAS_ADJUST;
            if *self != F80_FORMAT {
                return self.abandon(env, &rounded);
            }
            // Only FSCALE goes so far down; the SDM gives it a zero.
            if adjusted < self.min_exponent() {
                env.raise(PE);
                return self.assemble(sign, 0, 0);
            }
            raise_inexact(env, &rounded);
            return self.assemble(sign, (adjusted + self.bias()) as u32, rounded.significand);
        }
        if env.ftz {
            env.raise(UE | PE);
            return self.assemble(sign, 0, 0);
        }
        let shift = (self.min_exponent() - exponent).unsigned_abs();
        let rounded = round_at(shift_right_sticky(significand, shift), precision, env.rounding, sign);
        if rounded.inexact {
            env.raise(UE);
        }
        raise_inexact(env, &rounded);
        // Rounding up may have made the smallest normal number.
        self.assemble(sign, (rounded.significand >> 63) as u32, rounded.significand)
    }

    /// Ends an operation whose unmasked exception keeps the result from being delivered. An x87 store reports no
    /// inexactness then.
    fn abandon(&self, env: &mut Env, rounded: &Rounded) -> u128 {
        if env.nan_rule == NanRule::Sse {
            raise_inexact(env, rounded);
        }
        0
    }

    #[cold]
    fn encode_huge(
        &self,
        env: &mut Env,
        sign: bool,
        exponent: i32,
        precision: u32,
        rounded: &Rounded,
    ) -> u128 {
        env.raise(OE);
        if env.masks & OE == 0 {
            let adjusted = exponent - BIAS_ADJUST;
            if *self != F80_FORMAT {
                return self.abandon(env, rounded);
            }
            // Only FSCALE goes so far up; the SDM gives it an infinity.
            if adjusted > self.bias() {
                env.raise(PE | C1);
                return self.infinity(sign);
            }
            raise_inexact(env, rounded);
            return self.assemble(sign, (adjusted + self.bias()) as u32, rounded.significand);
        }
        env.raise(PE);
        let to_infinity = match env.rounding {
            Rounding::Nearest => true,
            Rounding::Down => sign,
            Rounding::Up => !sign,
            Rounding::Zero => false,
        };
        if to_infinity {
            env.raise(C1);
            return self.infinity(sign);
        }
        self.assemble(sign, (2 * self.bias()) as u32, !0 << (64 - precision))
    }
}

/// The masked response to an invalid operation.
pub(super) fn invalid(env: &mut Env) -> Value {
    env.raise(IE);
    Value::INDEFINITE
}

/// Notes denormal operands. `None` means that the exception is unmasked and the operation ends here.
#[inline(always)]
pub(super) fn check_denormal(env: &mut Env, operands: &[Unpacked]) -> Option<()> {
    if operands.iter().any(|x| x.denormal) {
        env.raise(DE);
        if env.masks & DE == 0 {
            return None;
        }
    }
    Some(())
}

/// The result when an operand is a NaN or unsupported (SDM vol. 1, table 4-7); `None` when none is.
#[inline(always)]
pub(super) fn propagate_nan(env: &mut Env, operands: &[Unpacked]) -> Option<Value> {
    let is_number = |x: &Unpacked| matches!(x.class, Class::Zero | Class::Finite | Class::Infinity);
    if operands.iter().all(is_number) { None } else { choose_nan(env, operands) }
}

#[cold]
fn choose_nan(env: &mut Env, operands: &[Unpacked]) -> Option<Value> {
    if operands.iter().any(|x| x.class == Class::Unsupported) {
        return Some(invalid(env));
    }
    if operands.iter().any(|x| x.class == Class::SignalingNan) {
        env.raise(IE);
    }
    let mut nans = operands.iter().filter(|x| x.is_nan());
    let chosen = match env.nan_rule {
        NanRule::Sse => nans.next()?,
        NanRule::X87 => nans.max_by_key(|x| (x.class == Class::QuietNan, x.significand, !x.sign))?,
    };
    Some(Value::Nan(chosen.sign, chosen.significand))
}
