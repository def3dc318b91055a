//! Packed integer arithmetic, comparisons and logic (SDM vol. 1, 5.14, 5.15).

use super::operand::packed;
use super::rows;
use crate::simd::integer::*;

rows! { select:
    Vpsignb => packed(psignb);
    Vpsignw => packed(psignw);
    Vpsignd => packed(psignd);
    Vpsadbw => packed(psadbw);
    Vphaddw => packed(phaddw);
    Vphaddd => packed(phaddd);
    Vphaddsw => packed(phaddsw);
    Vphsubw => packed(phsubw);
    Vphsubd => packed(phsubd);
    Vphsubsw => packed(phsubsw);
}
