//! AES, PCLMULQDQ, SHA and GFNI by an x86-64 host's own instructions. The functions are those of `aes`, `sha` and `gfni`,
//! which also run when the host lacks an instruction.
#![expect(unsafe_code, reason = "calls instructions that the host was found to have")]

use super::lanes::Vector;
use super::{aes, gfni, sha};
use std::arch::x86_64::*;
use std::mem::transmute;

fn host(vector: Vector) -> __m128i {
    // SAFETY: both are 16 bytes for which every bit pattern is valid.
    unsafe { transmute(vector) }
}

fn guest(vector: __m128i) -> Vector {
    // SAFETY: as in `host`.
    unsafe { transmute(vector) }
}

/// Functions of vectors and perhaps an immediate byte, each by its host instruction or else by its portable twin.
macro_rules! twins {
    ($($(#[$doc:meta])* $soft:ident :: $name:ident($($vector:ident),* $(; $byte:ident)?) by $feature:tt = $host:expr;)*) => {$(
        $(#[$doc])*
        #[inline]
        pub(crate) fn $name($($vector: Vector,)* $($byte: u8)?) -> Vector {
            #[inline]
            #[target_feature(enable = $feature)]
            fn with_feature($($vector: __m128i,)* $($byte: u8)?) -> __m128i {
                $host
            }
            if is_x86_feature_detected!($feature) {
                // SAFETY: the host was just found to have the feature.
                return guest(unsafe { with_feature($(host($vector),)* $($byte)?) });
            }
            $soft::$name($($vector,)* $($byte)?)
        }
    )*};
}

twins! {
    /// AESENC.
    aes::aesenc(state, key) by "aes" = _mm_aesenc_si128(state, key);
    /// AESENCLAST.
    aes::aesenclast(state, key) by "aes" = _mm_aesenclast_si128(state, key);
    /// AESDEC.
    aes::aesdec(state, key) by "aes" = _mm_aesdec_si128(state, key);
    /// AESDECLAST.
    aes::aesdeclast(state, key) by "aes" = _mm_aesdeclast_si128(state, key);
    /// AESIMC.
    aes::aesimc(_a, state) by "aes" = {
        let _ = _a;
        _mm_aesimc_si128(state)
    };
    /// AESKEYGENASSIST. The immediate is only added to two lanes.
    aes::aeskeygenassist(_a, b; immediate) by "aes" = {
        let _ = _a;
        let constant = i32::from(immediate);
        _mm_xor_si128(_mm_aeskeygenassist_si128::<0>(b), _mm_set_epi32(constant, 0, constant, 0))
    };
    /// PCLMULQDQ.
    aes::pclmulqdq(a, b; immediate) by "pclmulqdq" = match immediate & 0x11 {
        0x00 => _mm_clmulepi64_si128::<0x00>(a, b),
        0x01 => _mm_clmulepi64_si128::<0x01>(a, b),
        0x10 => _mm_clmulepi64_si128::<0x10>(a, b),
        _ => _mm_clmulepi64_si128::<0x11>(a, b),
    };
    /// SHA1RNDS4.
    sha::sha1rnds4(a, b; immediate) by "sha" = match immediate & 3 {
        0 => _mm_sha1rnds4_epu32::<0>(a, b),
        1 => _mm_sha1rnds4_epu32::<1>(a, b),
        2 => _mm_sha1rnds4_epu32::<2>(a, b),
        _ => _mm_sha1rnds4_epu32::<3>(a, b),
    };
    /// SHA1NEXTE.
    sha::sha1nexte(a, b) by "sha" = _mm_sha1nexte_epu32(a, b);
    /// SHA1MSG1.
    sha::sha1msg1(a, b) by "sha" = _mm_sha1msg1_epu32(a, b);
    /// SHA1MSG2.
    sha::sha1msg2(a, b) by "sha" = _mm_sha1msg2_epu32(a, b);
    /// SHA256RNDS2.
    sha::sha256rnds2(cdgh, abef, wk) by "sha" = _mm_sha256rnds2_epu32(cdgh, abef, wk);
    /// SHA256MSG1.
    sha::sha256msg1(a, b) by "sha" = _mm_sha256msg1_epu32(a, b);
    /// SHA256MSG2.
    sha::sha256msg2(a, b) by "sha" = _mm_sha256msg2_epu32(a, b);
    /// GF2P8MULB.
    gfni::gf2p8mulb(a, b) by "gfni" = _mm_gf2p8mul_epi8(a, b);
    /// GF2P8AFFINEQB. The immediate is only added to every byte.
    gfni::gf2p8affineqb(a, b; immediate) by "gfni" = {
        _mm_xor_si128(_mm_gf2p8affine_epi64_epi8::<0>(a, b), _mm_set1_epi8(immediate as i8))
    };
    /// GF2P8AFFINEINVQB.
    gfni::gf2p8affineinvqb(a, b; immediate) by "gfni" = {
        _mm_xor_si128(_mm_gf2p8affineinv_epi64_epi8::<0>(a, b), _mm_set1_epi8(immediate as i8))
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::float::random::Random;
    use crate::simd::lanes::Lane;

    /// Vectors tried with each function.
    const TRIES: u64 = 4000;

    /// Compares the twins of two vectors and a byte.
    fn compare(
        name: &str,
        host: impl Fn(Vector, Vector, u8) -> Vector,
        soft: impl Fn(Vector, Vector, u8) -> Vector,
    ) {
        for seed in 1..=TRIES {
            let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
            let mut vector = || u64::join([random.next(), random.next()]);
            let (a, b) = (vector(), vector());
            let byte = random.next() as u8;
            assert_eq!(host(a, b, byte), soft(a, b, byte), "{name} {a:x?} {b:x?} {byte:#x}");
        }
    }

    #[test]
    fn both_twins_agree() {
        macro_rules! of_two {
            ($($soft:ident::$name:ident)*) => {
                $(compare(stringify!($name), |a, b, _| $name(a, b), |a, b, _| $soft::$name(a, b));)*
            };
        }
        macro_rules! of_two_and_a_byte {
            ($($soft:ident::$name:ident)*) => { $(compare(stringify!($name), $name, $soft::$name);)* };
        }
        of_two!(aes::aesenc aes::aesenclast aes::aesdec aes::aesdeclast aes::aesimc);
        of_two!(sha::sha1nexte sha::sha1msg1 sha::sha1msg2 sha::sha256msg1 sha::sha256msg2 gfni::gf2p8mulb);
        of_two_and_a_byte!(aes::aeskeygenassist aes::pclmulqdq sha::sha1rnds4);
        of_two_and_a_byte!(gfni::gf2p8affineqb gfni::gf2p8affineinvqb);
        compare(
            "sha256rnds2",
            |a, b, x| sha256rnds2(a, b, third(x)),
            |a, b, x| sha::sha256rnds2(a, b, third(x)),
        );
    }

    /// A third vector from a byte.
    fn third(byte: u8) -> Vector {
        Vector::from_low(u64::from(byte).wrapping_mul(0x0123_4567_89ab_cdef))
    }
}
