//! `Shape`: from which operation translated code knows the arithmetic flags, and how they follow from its operands.

use rx86_cpu::state::{AUX_AF, AUX_CF, AUX_CF_XOR_OF, ArithFlags};

/// A kind of operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tells {
    /// None: the flags are two values, as in `ArithFlags`.
    Values,
    /// `left - right`.
    Difference,
    /// A sum: `left` is the result, `right` one of the summands.
    Sum,
    /// INC; CF is still `left < right`.
    Increment,
    /// DEC; CF is still `left < right`.
    Decrement,
}

impl Tells {
    /// Its bit in an encoded shape.
    pub(crate) const fn bit(self) -> u32 {
        match self {
            Self::Values => 0,
            Self::Difference => 1 << 8,
            Self::Sum => 1 << 9,
            Self::Increment => 1 << 10,
            Self::Decrement => 1 << 11,
        }
    }
}

/// An operation and its width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    tells: Tells,
    bits: u32,
}

impl Shape {
    pub(crate) const VALUES: Self = Self::new(Tells::Values, 64);

    /// The bits of an encoded shape that say how many bits of a register the operation does not have.
    pub(crate) const UNUSED_BITS: u32 = 63;

    /// `VALUES` first.
    pub(crate) const ALL: [Self; 17] = {
        let kinds = [Tells::Difference, Tells::Sum, Tells::Increment, Tells::Decrement];
        let mut all = [Self::VALUES; 17];
        let mut at = 0;
        while at < 16 {
            all[at + 1] = Self::new(kinds[at / 4], 8 << (at % 4));
            at += 1;
        }
        all
    };

    pub(crate) const fn new(tells: Tells, bits: u32) -> Self {
        Self { tells, bits }
    }

    pub(crate) fn tells(self) -> Tells {
        self.tells
    }

    pub(crate) fn bits(self) -> u32 {
        self.bits
    }

    /// Whether `left` and `right` do not tell all.
    pub(crate) fn needs_result(self) -> bool {
        !matches!(self.tells, Tells::Difference | Tells::Sum)
    }

    /// Zero for `VALUES`.
    pub(crate) const fn encode(self) -> u32 {
        self.tells.bit() | (64 - self.bits)
    }
}

/// The flags that translated code has left as the parts of an operation of the encoded `shape`.
pub(crate) fn settle(shape: u64, result: u64, left: u64, right: u64) -> ArithFlags<u64> {
    let is = |tells: Tells| shape & u64::from(tells.bit()) != 0;
    let unused = shape & u64::from(Shape::UNUSED_BITS);
    let carry = if left < right { AUX_CF } else { 0 };
    let (result, carries, differs) = if is(Tells::Difference) || is(Tells::Sum) {
        let difference = left.wrapping_sub(right);
        let carries = left ^ right ^ difference;
        (if is(Tells::Sum) { left } else { difference }, carries, carries << unused)
    } else {
        let up = is(Tells::Increment);
        let before = if up { result.wrapping_sub(1) } else { result.wrapping_add(1) };
        let overflow = if up { result & !before } else { before & !result };
        (result, before ^ result ^ 1, overflow << unused ^ carry)
    };
    let result = ((result << unused) as i64 >> unused) as u64;
    let aux = carries >> 1 & AUX_AF | differs >> 1 & AUX_CF_XOR_OF | carry;
    ArithFlags { result, aux }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFLAGS of `a - b`, or of `a + b`, by the SDM's definitions (vol. 1, 3.4.3).
    fn expected(bits: u32, a: u64, b: u64, subtracts: bool, kept_carry: Option<bool>) -> u64 {
        let mask = u64::MAX >> (64 - bits);
        let sign = |value: u64| value >> (bits - 1) & 1 != 0;
        let wide =
            if subtracts { u128::from(a).wrapping_sub(b.into()) } else { u128::from(a) + u128::from(b) };
        let result = wide as u64 & mask;
        let carry = kept_carry.unwrap_or(wide >> bits & 1 != 0);
        let overflow =
            if subtracts { sign(a) != sign(b) } else { sign(a) == sign(b) } && sign(result) != sign(a);
        let low = if subtracts { (a & 15).wrapping_sub(b & 15) } else { (a & 15) + (b & 15) };
        u64::from(carry)
            | u64::from((result as u8).count_ones().is_multiple_of(2)) << 2
            | u64::from(low & 16 != 0) << 4
            | u64::from(result == 0) << 6
            | u64::from(sign(result)) << 7
            | u64::from(overflow) << 11
    }

    #[test]
    fn operations_settle_as_the_manual_defines_their_flags() {
        for bits in [8, 16, 32, 64] {
            let mask = u64::MAX >> (64 - bits);
            let sign = 1u64 << (bits - 1);
            let values =
                [0, 1, 7, 8, 15, 16, 0x7f, sign - 1, sign, sign + 1, mask - 1, mask].map(|v| v & mask);
            for (a, b) in values.iter().flat_map(|&a| values.map(|b| (a, b))) {
                let settled = |tells, result, left, right| {
                    let shape = Shape::new(tells, bits).encode();
                    settle(u64::from(shape), result, left, right).to_rflags()
                };
                assert_eq!(settled(Tells::Difference, 99, a, b), expected(bits, a, b, true, None));
                let sum = a.wrapping_add(b) & mask;
                assert_eq!(settled(Tells::Sum, 99, sum, a), expected(bits, a, b, false, None));
                let kept = Some(a < b);
                let up = a.wrapping_add(1) & mask;
                assert_eq!(settled(Tells::Increment, up, a, b), expected(bits, a, 1, false, kept));
                let down = a.wrapping_sub(1) & mask;
                assert_eq!(settled(Tells::Decrement, down, a, b), expected(bits, a, 1, true, kept));
            }
        }
    }
}
