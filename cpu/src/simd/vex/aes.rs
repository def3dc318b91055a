//! AES rounds and carry-less multiplication (SDM vol. 1, 12.13).

use super::operand::{packed, packed_immediate, unary, unary_immediate};
use super::rows;
use crate::simd::aes::*;

rows! { select:
    Vaesenc => packed(aesenc);
    Vaesenclast => packed(aesenclast);
    Vaesdec => packed(aesdec);
    Vaesdeclast => packed(aesdeclast);
    Vaesimc => unary(aesimc);
    Vaeskeygenassist => unary_immediate(aeskeygenassist);
    Vpclmulqdq => packed_immediate(pclmulqdq);
}
