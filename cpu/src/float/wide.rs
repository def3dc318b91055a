//! A float with a 128-bit significand, for the inside of transcendental functions. Results are truncated: each
//! operation errs by a few units of 2^-127, far below half a unit of F80's last place.

use super::format::{Class, Unpacked};
use super::round::Value;

/// `significand / 2^127 * 2^exponent`; bit 127 is set unless the value is zero.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wide {
    pub(super) negative: bool,
    pub(super) exponent: i32,
    pub(super) significand: u128,
}

impl Wide {
    pub(super) const ZERO: Wide = Wide { negative: false, exponent: 0, significand: 0 };
    pub(super) const ONE: Wide = Wide::constant(0, 1 << 127);

    pub(super) const fn constant(exponent: i32, significand: u128) -> Wide {
        Wide { negative: false, exponent, significand }
    }

    /// `integer * 2^exponent`.
    pub(super) fn scaled(negative: bool, integer: u128, exponent: i32) -> Wide {
        if integer == 0 {
            return Wide::ZERO;
        }
        let shift = integer.leading_zeros();
        Wide { negative, exponent: exponent + 127 - shift as i32, significand: integer << shift }
    }

    pub(super) fn integer(value: i32) -> Wide {
        Wide::scaled(value < 0, u128::from(value.unsigned_abs()), 0)
    }

    pub(super) fn is_zero(&self) -> bool {
        self.significand == 0
    }

    pub(super) fn abs(self) -> Wide {
        Wide { negative: false, ..self }
    }

    pub(super) fn negate_if(self, condition: bool) -> Wide {
        Wide { negative: self.negative != condition, ..self }
    }

    pub(super) fn add(self, other: Wide) -> Wide {
        if self.is_zero() {
            return other;
        }
        if other.is_zero() {
            return self;
        }
        let (large, small) = if (self.exponent, self.significand) >= (other.exponent, other.significand) {
            (self, other)
        } else {
            (other, self)
        };
        let shift = large.exponent.abs_diff(small.exponent);
        let aligned = small.significand.checked_shr(shift).unwrap_or(0);
        if large.negative == small.negative {
            let (total, carry) = large.significand.overflowing_add(aligned);
            if carry {
                return Wide { exponent: large.exponent + 1, significand: total >> 1 | 1 << 127, ..large };
            }
            return Wide { significand: total, ..large };
        }
        // What was shifted out still makes the difference smaller, which directed rounding sees.
        let lost = u128::from(shift > 127 || shift > small.significand.trailing_zeros());
        let difference = large.significand - aligned - lost;
        Wide::scaled(large.negative, difference, large.exponent - 127)
    }

    pub(super) fn sub(self, other: Wide) -> Wide {
        self.add(other.negate_if(true))
    }

    pub(super) fn mul(self, other: Wide) -> Wide {
        if self.is_zero() || other.is_zero() {
            return Wide::ZERO;
        }
        let high = high_product(self.significand, other.significand);
        let shift = high.leading_zeros();
        Wide {
            negative: self.negative != other.negative,
            exponent: self.exponent + other.exponent + 1 - shift as i32,
            significand: high << shift,
        }
    }

    /// Divides by a small positive integer.
    pub(super) fn div_small(self, divisor: u32) -> Wide {
        Wide::scaled(self.negative, self.significand / u128::from(divisor), self.exponent - 127)
    }

    /// Divides by a number that is not zero.
    pub(super) fn div(self, divisor: Wide) -> Wide {
        if self.is_zero() {
            return Wide::ZERO;
        }
        let (mut rest, below) = match self.significand.checked_sub(divisor.significand) {
            Some(rest) => (rest, false),
            None => (self.significand, true),
        };
        // Restoring division, one quotient bit a step; the first is 1 unless the dividend is the smaller.
        let mut quotient = u128::from(!below);
        for _ in 0..127 + u32::from(below) {
            let overflow = rest >> 127 != 0;
            rest <<= 1;
            quotient <<= 1;
            if overflow || rest >= divisor.significand {
                rest = rest.wrapping_sub(divisor.significand);
                quotient |= 1;
            }
        }
        Wide {
            negative: self.negative != divisor.negative,
            exponent: self.exponent - divisor.exponent - i32::from(below),
            significand: quotient,
        }
    }

    /// The sum of the series `first * (1 + ...)`, where `next(n, term)` is the n-th term (from 1) by its predecessor.
    pub(super) fn series(first: Wide, next: impl Fn(u32, Wide) -> (Wide, Wide)) -> Wide {
        let (mut sum, mut state) = (first, first);
        for n in 1..200 {
            let (following, term) = next(n, state);
            if term.is_zero() {
                break;
            }
            sum = sum.add(term);
            if term.exponent < sum.exponent - 130 {
                break;
            }
            state = following;
        }
        sum
    }

    /// The result to round: marked inexact, as transcendental results are.
    pub(super) fn inexact(self) -> Value {
        match self.significand {
            0 => Value::Zero(self.negative),
            significand => Value::Finite(self.negative, self.exponent, significand | 1),
        }
    }

    /// The result to round, when it is exact.
    pub(super) fn exact(self) -> Value {
        Value::normalised(self.negative, self.exponent, self.significand)
    }
}

impl From<Unpacked> for Wide {
    /// The value of a zero or finite operand.
    fn from(x: Unpacked) -> Wide {
        match x.class {
            Class::Finite => {
                Wide { negative: x.sign, exponent: x.exponent, significand: u128::from(x.significand) << 64 }
            }
            _ => Wide::ZERO,
        }
    }
}

/// The upper half of a 256-bit product.
fn high_product(a: u128, b: u128) -> u128 {
    let low = u128::from(u64::MAX);
    let (a1, a0, b1, b0) = (a >> 64, a & low, b >> 64, b & low);
    let (cross_a, cross_b) = (a1 * b0, a0 * b1);
    let middle = ((a0 * b0) >> 64) + (cross_a & low) + (cross_b & low);
    a1 * b1 + (cross_a >> 64) + (cross_b >> 64) + (middle >> 64)
}
