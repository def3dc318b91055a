//! Constants of the transcendental functions, to 128 bits (computed with arbitrary-precision arithmetic).

use super::wide::Wide;

/// ln 2.
pub(super) const LN_2: Wide = Wide::constant(-1, 0xb17217f7_d1cf79ab_c9e3b398_03f2f6af);
/// 2 / ln 2.
pub(super) const TWO_LOG2_E: Wide = Wide::constant(1, 0xb8aa3b29_5c17f0bb_be87fed0_691d3e89);
/// Pi.
pub(super) const PI: Wide = Wide::constant(1, 0xc90fdaa2_2168c234_c4c6628b_80dc1cd1);
/// Pi / 2.
pub(super) const HALF_PI: Wide = Wide::constant(0, 0xc90fdaa2_2168c234_c4c6628b_80dc1cd1);
/// `ARCTANGENTS[i]` is the arc tangent of `(i + 1) / 8`.
pub(super) const ARCTANGENTS: [Wide; 8] = [
    Wide::constant(-4, 0xfeadd4d5_617b6e32_c897989f_3e888ef8),
    Wide::constant(-3, 0xfadbafc9_6406eb15_6dc79ef5_f7a217e6),
    Wide::constant(-2, 0xb7b0ca0f_26f78473_8aa32122_dcfe4483),
    Wide::constant(-2, 0xed63382b_0dda7b45_6fe445ec_bc3a8d03),
    Wide::constant(-1, 0x8f005d5e_f7f59f9b_5c835e16_65c43748),
    Wide::constant(-1, 0xa4bc7d19_34f70924_19a87f2a_457dac9f),
    Wide::constant(-1, 0xb8053e2b_c2319e73_cb2da552_10a4443d),
    Wide::constant(-1, 0xc90fdaa2_2168c234_c4c6628b_80dc1cd1),
];
