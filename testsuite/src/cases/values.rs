//! Values that instructions stumble over, mixed with random ones.

use super::random::Random;

/// A 64-bit integer: a border of some width, a small number, or anything.
pub fn integer(random: &mut Random) -> u64 {
    let bits = random.bits();
    match bits >> 56 & 7 {
        0 => bits & 0xff,
        1 => (bits & 0xff).wrapping_neg(),
        2 | 3 => {
            // Near the border of a width, or of the sign bit of one.
            let border = 1u64 << random.pick(&[7, 8, 15, 16, 31, 32, 63]);
            let value = border.wrapping_add(bits & 3).wrapping_sub(2);
            if bits & 4 != 0 { !value } else { value }
        }
        4 => random.pick(&[0, 1, 2, u64::MAX, 1 << 63, (1 << 63) - 1, 0x5555_5555_5555_5555]),
        5 => 1 << (bits & 63),
        _ => random.bits(),
    }
}

/// A float of `exponent_bits` and `fraction_bits`: zeros, denormals, borders, infinities, NaNs, numbers near one.
fn float(random: &mut Random, exponent_bits: u32, fraction_bits: u32) -> u64 {
    let exponent_max = (1u64 << exponent_bits) - 1;
    let bias = exponent_max >> 1;
    let fraction_mask = (1u64 << fraction_bits) - 1;
    let noise = random.bits();
    let exponent = match random.below(12) {
        0 | 1 => 0,
        2 => exponent_max,
        3 => random.pick(&[1, exponent_max - 1]),
        // Where integers of every width end.
        4 => bias + random.pick(&[7, 8, 15, 16, 30, 31, 32, 62, 63, 64]),
        5 => bias - 1 - random.below(4),
        6 => random.below(exponent_max),
        _ => bias + random.below(6),
    }
    .min(exponent_max);
    let fraction = match random.below(8) {
        0 | 1 => 0,
        2 => 1 << (fraction_bits - 1),
        3 => fraction_mask,
        4 => 1,
        5 => noise & fraction_mask & 0xf << (fraction_bits - 4),
        _ => noise & fraction_mask,
    };
    (noise >> 63) << (exponent_bits + fraction_bits) | exponent << fraction_bits | fraction
}

/// A single.
pub fn single(random: &mut Random) -> u32 {
    float(random, 8, 23) as u32
}

/// A double.
pub fn double(random: &mut Random) -> u64 {
    float(random, 11, 52)
}

/// An 80-bit extended value; sometimes one of the encodings that no operation produces.
pub fn extended(random: &mut Random) -> u128 {
    let bits = float(random, 15, 48);
    let sign_exponent = (bits >> 48) as u16;
    let fraction = match random.below(6) {
        0 => 0,
        1 => 1 << 62,
        2 => (1 << 63) - 1,
        3 => (bits & 0xffff_ffff_ffff) << 15,
        4 => random.bits() & !0 << 40,
        _ => random.bits() >> 1,
    } & !(1 << 63);
    let normal = sign_exponent & 0x7fff != 0;
    let integer = if random.percent(4) { !normal } else { normal };
    u128::from(sign_exponent) << 64 | u128::from(fraction | u64::from(integer) << 63)
}

/// 128 bits of integers or floats of one size.
pub fn vector(random: &mut Random) -> u128 {
    let mut lanes = |bits: u32, lane: &mut dyn FnMut(&mut Random) -> u64| {
        (0..128 / bits).fold(0u128, |all, i| {
            all | (u128::from(lane(random)) & (u128::MAX >> (128 - bits))) << (i * bits)
        })
    };
    let kind = (lanes(64, &mut Random::bits) >> 32) as u64 % 9;
    match kind {
        0 => lanes(8, &mut |r| r.pick(&[0, 1, 0x7f, 0x80, 0xff, 0x55])),
        1 => lanes(8, &mut Random::bits),
        2 => lanes(16, &mut integer),
        3 => lanes(32, &mut integer),
        4 => lanes(64, &mut integer),
        5 | 6 => lanes(32, &mut |r| u64::from(single(r))),
        _ => lanes(64, &mut double),
    }
}

/// A packed decimal integer for FBLD, mostly.
fn decimal(random: &mut Random) -> u128 {
    let digits = (0..18).fold(0u128, |all, _| all << 4 | u128::from(random.below(10)));
    let sign = u128::from(random.below(2)) << 79;
    digits >> (4 * random.below(18)) | sign
}

/// Fills memory with values of all kinds.
pub fn fill(random: &mut Random, memory: &mut [u8]) {
    for chunk in memory.chunks_mut(16) {
        let value = match random.below(8) {
            0 => extended(random),
            1 => decimal(random),
            2 => u128::from(integer(random)),
            _ => vector(random),
        };
        chunk.copy_from_slice(&value.to_le_bytes()[..chunk.len()]);
    }
}
