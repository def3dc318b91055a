//! RFLAGS, with the arithmetic flags kept as the values that define them.
//!
//! Most instructions set all arithmetic flags and few read them. So an instruction leaves its result and its vector
//! of carries, and a flag is computed when somebody asks. Both engines use the same two values, so the
//! meaning of every flag is written once.

use super::bits::{
    RFLAGS_AF, RFLAGS_ARITH, RFLAGS_CF, RFLAGS_FIXED, RFLAGS_OF, RFLAGS_PF, RFLAGS_SF, RFLAGS_ZF,
};

/// The two values that define CF, PF, AF, ZF, SF and OF.
///
/// `V` is `u64` in the interpreter and an SSA value in a translator.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ArithFlags<V> {
    /// The result, sign-extended to 64 bits: zero means ZF, its sign is SF (xor `aux` bit 0), its low byte gives PF.
    pub result: V,
    /// Bit 63: CF. Bit 62: CF xor OF. Bit 3: AF. Bit 0: inverts SF. Bits 8 to 15: xored into the byte PF is taken from.
    pub aux: V,
}

/// `aux` bit of CF.
pub const AUX_CF: u64 = 1 << 63;
/// `aux` bit of CF xor OF.
pub const AUX_CF_XOR_OF: u64 = 1 << 62;
/// `aux` bit of AF.
pub const AUX_AF: u64 = 1 << 3;
/// `aux` bit that inverts SF.
pub const AUX_SF_DELTA: u64 = 1;

impl ArithFlags<u64> {
    /// The values that stand for the arithmetic bits of an RFLAGS image.
    pub fn from_rflags(rflags: u64) -> Self {
        let bit = |mask: u64| u64::from(rflags & mask != 0);
        let cf = bit(RFLAGS_CF);
        // A non-zero result with an even low byte and no sign; the deltas do the rest.
        let result = (1 - bit(RFLAGS_ZF)) << 8;
        let aux = cf << 63
            | (cf ^ bit(RFLAGS_OF)) << 62
            | bit(RFLAGS_AF) << 3
            | bit(RFLAGS_SF)
            | (1 - bit(RFLAGS_PF)) << 8;
        Self { result, aux }
    }

    /// The arithmetic bits as they stand in RFLAGS.
    pub fn to_rflags(self) -> u64 {
        let set = |condition: bool, mask: u64| if condition { mask } else { 0 };
        set(self.carry(), RFLAGS_CF)
            | set(self.parity(), RFLAGS_PF)
            | set(self.aux & AUX_AF != 0, RFLAGS_AF)
            | set(self.zero(), RFLAGS_ZF)
            | set(self.sign(), RFLAGS_SF)
            | set(self.overflow(), RFLAGS_OF)
    }

    /// CF.
    #[inline(always)]
    pub fn carry(self) -> bool {
        (self.aux as i64) < 0
    }
    /// OF.
    #[inline(always)]
    pub fn overflow(self) -> bool {
        ((self.aux ^ (self.aux << 1)) as i64) < 0
    }
    /// ZF.
    #[inline(always)]
    pub fn zero(self) -> bool {
        self.result == 0
    }
    /// SF.
    #[inline(always)]
    pub fn sign(self) -> bool {
        ((self.result ^ (self.aux << 63)) as i64) < 0
    }
    /// PF.
    #[inline(always)]
    pub fn parity(self) -> bool {
        ((self.result ^ (self.aux >> 8)) as u8).count_ones() & 1 == 0
    }
}

/// RFLAGS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Flags {
    /// CF, PF, AF, ZF, SF and OF.
    pub arith: ArithFlags<u64>,
    /// Every other bit of RFLAGS; the arithmetic bits are zero here.
    pub system: u64,
}

impl Flags {
    /// The whole RFLAGS image.
    pub fn get(&self) -> u64 {
        self.arith.to_rflags() | self.system | RFLAGS_FIXED
    }

    /// Replaces all of RFLAGS.
    pub fn set(&mut self, rflags: u64) {
        self.arith = ArithFlags::from_rflags(rflags);
        self.system = rflags & !RFLAGS_ARITH | RFLAGS_FIXED;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_combination_survives_the_round_trip() {
        for bits in 0..64u64 {
            let spread = [RFLAGS_CF, RFLAGS_PF, RFLAGS_AF, RFLAGS_ZF, RFLAGS_SF, RFLAGS_OF];
            let image: u64 =
                spread.iter().enumerate().filter(|(i, _)| bits >> i & 1 != 0).map(|(_, &mask)| mask).sum();
            assert_eq!(ArithFlags::from_rflags(image).to_rflags(), image, "{image:#x}");
        }
    }
}
