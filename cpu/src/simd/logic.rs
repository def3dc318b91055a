//! Bitwise logic (SDM vol. 1, 5.4.5, 5.5.1.3).

use super::lanes::{Lane, Vector};
use super::operand::mmx_or_xmm;
use crate::ops::Hard;
use iced_x86::{Instruction, Mnemonic};

/// PAND, ANDPS, ANDPD.
#[inline(always)]
pub(crate) fn pand(a: Vector, b: Vector) -> Vector {
    u64::zip(a, b, |a, b| a & b)
}

/// PANDN, ANDNPS, ANDNPD.
#[inline(always)]
pub(crate) fn pandn(a: Vector, b: Vector) -> Vector {
    u64::zip(a, b, |a, b| !a & b)
}

/// POR, ORPS, ORPD.
#[inline(always)]
pub(crate) fn por(a: Vector, b: Vector) -> Vector {
    u64::zip(a, b, |a, b| a | b)
}

/// PXOR, XORPS, XORPD.
#[inline(always)]
pub(crate) fn pxor(a: Vector, b: Vector) -> Vector {
    u64::zip(a, b, |a, b| a ^ b)
}

pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    use Mnemonic::*;
    Some(match instruction.mnemonic() {
        Pand | Andps | Andpd => mmx_or_xmm!(instruction, lanes | packed, pand),
        Pandn | Andnps | Andnpd => mmx_or_xmm!(instruction, lanes | packed, pandn),
        Por | Orps | Orpd => mmx_or_xmm!(instruction, lanes | packed, por),
        Pxor | Xorps | Xorpd => mmx_or_xmm!(instruction, lanes | packed, pxor),
        _ => return None,
    })
}
