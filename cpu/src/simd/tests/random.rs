//! A small generator (xorshift64*) of operands that are likely to matter.

/// The generator; a seed tells all.
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    /// A single-precision pattern: any, or one at an edge.
    fn single(&mut self) -> u32 {
        const EDGES: [u32; 16] = [
            0,
            0x3f80_0000,
            0x7f80_0000,
            0x7fc0_0000,
            0x7f80_0001,
            1,
            0x007f_ffff,
            0x0080_0000,
            0x7f7f_ffff,
            0x4f00_0000,
            0x4eff_ffff,
            0x3f00_0000,
            0x4b00_0001,
            0x5f00_0000,
            0x3fc0_0000,
            0x0080_0001,
        ];
        let bits = self.next() as u32;
        match self.below(4) {
            0 => bits,
            1 => EDGES[(bits & 15) as usize] | bits & 1 << 31,
            // Near 1, so that sums cancel and integers are representable.
            _ => bits & 0x83ff_f000 | 0x3c00_0000,
        }
    }

    /// A double-precision pattern: any, or one at an edge.
    fn double(&mut self) -> u64 {
        const EDGES: [u64; 16] = [
            0,
            0x3ff0 << 48,
            0x7ff0 << 48,
            0x7ff8 << 48,
            0x7ff0 << 48 | 1,
            1,
            (1 << 52) - 1,
            1 << 52,
            (0x7ff0 << 48) - 1,
            0x41e0 << 48,
            0x41df_ffff_ffff_ffff,
            0x3fe0 << 48,
            0x43e0 << 48,
            0x3690 << 48,
            0x3ff8 << 48,
            0x47ef_ffff_f000_0000,
        ];
        let bits = self.next();
        match self.below(4) {
            0 => bits,
            1 => EDGES[(bits & 15) as usize] | bits & 1 << 63,
            _ => bits & 0x807f_ffff_0000_0000 | 0x3f80 << 48,
        }
    }

    /// 128 bits: random, small numbers, text-like bytes with zeros, or floating-point patterns.
    pub(super) fn vector(&mut self) -> u128 {
        let bits = u128::from(self.next()) << 64 | u128::from(self.next());
        match self.below(8) {
            0 => bits,
            1 => bits & 0x0303_0303_0303_0303_0303_0303_0303_0303,
            2 => bits & 0x0000_001f_0000_0000_0000_0000_0000_001f,
            3 => [0, u128::MAX, 1 << 127, 0x8000_7fff_8000_7fff_8000_7fff_8000_7fff][(bits & 3) as usize],
            4 | 5 => (0..4).fold(0, |vector, _| vector << 32 | u128::from(self.single())),
            _ => u128::from(self.double()) << 64 | u128::from(self.double()),
        }
    }

    /// MXCSR with all exceptions masked: half of them with precision already noted and rounding to nearest.
    pub(super) fn mxcsr(&mut self) -> u32 {
        let bits = self.next() as u32;
        if bits & 1 << 20 != 0 { 0x1fa0 | bits & 0x805f } else { 0x1f80 | bits & 0xe07f }
    }
}
