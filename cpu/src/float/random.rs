//! Random operands with many edge cases, for tests.

use super::F80;

/// A small generator (xorshift64*), so that a failure's seed tells all.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// 64 random bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// Significand fields at 64 bits: random, sparse, full, and one off a power of two.
    pub(crate) fn fraction(&mut self) -> u64 {
        let bits = self.next();
        match self.below(8) {
            0 => 0,
            1 => !0,
            2 => 1 << self.below(64),
            3 => !0 << self.below(64),
            4 => !(1 << self.below(64)),
            5 => bits & !0 << self.below(64),
            _ => bits,
        }
    }

    /// An exponent field of `bits` bits, near the ends, the middle, or anywhere.
    pub(crate) fn exponent(&mut self, bits: u32) -> u64 {
        let (max, near) = ((1u64 << bits) - 1, self.below(70));
        match self.below(6) {
            0 => near.min(3),
            1 => max - near.min(2),
            2 => near.min(max),
            3 => max - near.min(max),
            4 => self.next() & max,
            _ => (max / 2 + near).saturating_sub(35),
        }
    }

    pub(crate) fn f80(&mut self) -> F80 {
        let exponent = self.exponent(15);
        let integer = match self.below(16) {
            0 => 0,
            1 => 1,
            _ => u64::from(exponent != 0),
        };
        let mantissa = self.fraction() >> 1 | integer << 63;
        F80 { mantissa, sign_exponent: (exponent | self.below(2) << 15) as u16 }
    }

    pub(crate) fn f32(&mut self) -> u32 {
        (self.fraction() >> 41 | self.exponent(8) << 23 | self.below(2) << 31) as u32
    }

    pub(crate) fn f64(&mut self) -> u64 {
        self.fraction() >> 12 | self.exponent(11) << 52 | self.below(2) << 63
    }

    /// A control word: any rounding and defined precision; all masked, or any masks.
    pub(crate) fn control(&mut self) -> u16 {
        let precision = [0, 2, 3][self.below(3) as usize] << 8;
        let masks = if self.below(2) == 0 { 0x3f } else { self.below(64) };
        (precision | self.below(4) << 10 | masks | 0x40) as u16
    }

    pub(crate) fn mxcsr(&mut self) -> u32 {
        let masks = if self.below(2) == 0 { 0x3f } else { self.below(64) };
        (masks << 7 | self.below(4) << 13 | self.below(2) << 6 | self.below(2) << 15) as u32
    }
}
