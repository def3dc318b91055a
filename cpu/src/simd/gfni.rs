//! Arithmetic in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1, and affine maps of bytes (SDM vol. 2, GF2P8MULB,
//! GF2P8AFFINEQB, GF2P8AFFINEINVQB).

use super::aes::double;
use super::crypto;
use super::lanes::{Lane, Vector};
use super::operand::{packed, packed_immediate};
use crate::ops::Hard;
use iced_x86::{EncodingKind, Instruction, Mnemonic};

/// The product of two elements.
const fn product(a: u8, b: u8) -> u8 {
    let (mut a, mut sum, mut i) = (a, 0, 0);
    while i < 8 {
        sum ^= a & (b >> i & 1).wrapping_neg();
        a = double(a);
        i += 1;
    }
    sum
}

/// Each element's inverse; zero's is zero.
const INVERSE: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        // x^254, by squaring: the group has 255 elements.
        let (mut power, mut square, mut k) = (1, i as u8, 1);
        while k < 8 {
            square = product(square, square);
            power = product(power, square);
            k += 1;
        }
        table[i] = power;
        i += 1;
    }
    table
};

/// GF2P8MULB.
pub(crate) fn gf2p8mulb(a: Vector, b: Vector) -> Vector {
    u8::zip(a, b, product)
}

/// The bit matrix `rows` times `x`; row 7, the lowest byte's neighbour to the top, makes bit 0.
fn times(rows: [u8; 8], x: u8) -> u8 {
    rows.iter().fold(0, |sum, row| sum << 1 | (row & x).count_ones() as u8 & 1)
}

/// GF2P8AFFINEQB: each byte of `a` times the matrix in the same quadword of `b`, plus the immediate.
pub(crate) fn gf2p8affineqb(a: Vector, b: Vector, immediate: u8) -> Vector {
    let (bytes, matrices) = (u8::split(a), u64::split(b).map(u64::to_le_bytes));
    u8::build(|i| times(matrices[i / 8], bytes[i]) ^ immediate)
}

/// GF2P8AFFINEINVQB: the same of the inverses.
pub(crate) fn gf2p8affineinvqb(a: Vector, b: Vector, immediate: u8) -> Vector {
    gf2p8affineqb(u8::map(a, |x| INVERSE[usize::from(x)]), b, immediate)
}

pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    use Mnemonic::*;
    if instruction.code().encoding() != EncodingKind::Legacy {
        return None;
    }
    Some(match instruction.mnemonic() {
        Gf2p8mulb => |cpu, op| packed(cpu, op, crypto::gf2p8mulb),
        Gf2p8affineqb => |cpu, op| packed_immediate(cpu, op, crypto::gf2p8affineqb),
        Gf2p8affineinvqb => |cpu, op| packed_immediate(cpu, op, crypto::gf2p8affineinvqb),
        _ => return None,
    })
}
