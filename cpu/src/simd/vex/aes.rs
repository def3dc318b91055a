//! AES rounds, carry-less multiplication, and GFNI (SDM vol. 1, 12.13; vol. 2, GF2P8MULB and following).

use super::operand::{packed, packed_immediate, unary, unary_immediate};
use super::rows;
use crate::simd::crypto::*;

rows! { select:
    Vaesenc => packed(aesenc);
    Vaesenclast => packed(aesenclast);
    Vaesdec => packed(aesdec);
    Vaesdeclast => packed(aesdeclast);
    Vaesimc => unary(aesimc);
    Vaeskeygenassist => unary_immediate(aeskeygenassist);
    Vpclmulqdq => packed_immediate(pclmulqdq);
    Vgf2p8mulb => packed(gf2p8mulb);
    Vgf2p8affineqb => packed_immediate(gf2p8affineqb);
    Vgf2p8affineinvqb => packed_immediate(gf2p8affineinvqb);
}
