//! Shuffles, unpacks and packs within 128-bit lanes (SDM vol. 1, 5.14, 5.15).

use super::operand::{packed, packed_immediate, packed_sliced, unary, unary_immediate};
use super::rows;
use crate::simd::shuffle::*;

rows! { select:
    Vpunpcklbw => packed(punpcklbw);
    Vpunpcklwd => packed(punpcklwd);
    Vpunpckldq | Vunpcklps => packed(punpckldq);
    Vpunpcklqdq | Vunpcklpd => packed(punpcklqdq);
    Vpunpckhbw => packed(punpckhbw);
    Vpunpckhwd => packed(punpckhwd);
    Vpunpckhdq | Vunpckhps => packed(punpckhdq);
    Vpunpckhqdq | Vunpckhpd => packed(punpckhqdq);
    Vpacksswb => packed(packsswb);
    Vpackssdw => packed(packssdw);
    Vpackuswb => packed(packuswb);
    Vpackusdw => packed(packusdw);
    Vpshufd => unary_immediate(pshufd);
    Vpshuflw => unary_immediate(pshuflw);
    Vpshufhw => unary_immediate(pshufhw);
    Vshufps => packed_immediate(shufps);
    Vshufpd => packed_sliced(2, shufpd);
    Vpshufb => packed(pshufb);
    Vpalignr => packed_immediate(palignr);
    Vmovsldup => unary(movsldup);
    Vmovshdup => unary(movshdup);
}
