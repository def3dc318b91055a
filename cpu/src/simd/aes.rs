//! AES rounds and carry-less multiplication (SDM vol. 1, 12.13; FIPS 197).

use super::crypto;
use super::lanes::{Lane, Vector};
use super::logic::pxor;
use super::operand::{packed, packed_immediate};
use crate::ops::Hard;
use iced_x86::{Instruction, Mnemonic};

/// Multiplication by x in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1.
pub(super) const fn double(a: u8) -> u8 {
    (a << 1) ^ (0x1b & (a >> 7).wrapping_neg())
}

/// FIPS 197's S-box: the inverse in GF(2^8), then an affine map.
const SBOX: [u8; 256] = {
    let mut table = [0; 256];
    // p runs through all non-zero elements as powers of 3, q through their inverses.
    let (mut p, mut q) = (1u8, 1u8);
    loop {
        p ^= double(p);
        q ^= q << 1;
        q ^= q << 2;
        q ^= q << 4;
        q ^= 0x09 & (q >> 7).wrapping_neg();
        table[p as usize] =
            q ^ q.rotate_left(1) ^ q.rotate_left(2) ^ q.rotate_left(3) ^ q.rotate_left(4) ^ 0x63;
        if p == 1 {
            break;
        }
    }
    table[0] = 0x63;
    table
};

const INVERSE_SBOX: [u8; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        table[SBOX[i] as usize] = i as u8;
        i += 1;
    }
    table
};

fn substitute(byte: u8) -> u8 {
    SBOX[usize::from(byte)]
}

/// ShiftRows and SubBytes. Byte `4 * column + row` of the state moves `row` columns.
fn shift_and_substitute(state: Vector) -> Vector {
    let bytes = u8::split(state);
    u8::build(|i| substitute(bytes[(i + 4 * (i & 3)) & 15]))
}

fn inverse_shift_and_substitute(state: Vector) -> Vector {
    let bytes = u8::split(state);
    u8::build(|i| INVERSE_SBOX[usize::from(bytes[(i + 12 * (i & 3)) & 15])])
}

fn mix_columns(state: Vector) -> Vector {
    let a = u8::split(state);
    u8::build(|i| {
        let at = |row: usize| a[i & !3 | (i + row) & 3];
        double(at(0) ^ at(1)) ^ at(1) ^ at(2) ^ at(3)
    })
}

/// AESIMC: InvMixColumns.
pub(crate) fn aesimc(_a: Vector, state: Vector) -> Vector {
    let a = u8::split(state);
    // The inverse matrix is MixColumns after adding four times the sum of the column's even or odd rows.
    let prepared = u8::build(|i| a[i] ^ double(double(a[i] ^ a[i ^ 2])));
    mix_columns(prepared)
}

/// AESENC.
pub(crate) fn aesenc(state: Vector, key: Vector) -> Vector {
    pxor(mix_columns(shift_and_substitute(state)), key)
}

/// AESENCLAST.
pub(crate) fn aesenclast(state: Vector, key: Vector) -> Vector {
    pxor(shift_and_substitute(state), key)
}

/// AESDEC.
pub(crate) fn aesdec(state: Vector, key: Vector) -> Vector {
    pxor(aesimc(Vector::ZERO, inverse_shift_and_substitute(state)), key)
}

/// AESDECLAST.
pub(crate) fn aesdeclast(state: Vector, key: Vector) -> Vector {
    pxor(inverse_shift_and_substitute(state), key)
}

/// AESKEYGENASSIST.
pub(crate) fn aeskeygenassist(_a: Vector, b: Vector, immediate: u8) -> Vector {
    let b = u32::split(b);
    let substituted = |word: u32| u32::from_le_bytes(word.to_le_bytes().map(substitute));
    let (x1, x3) = (substituted(b[1]), substituted(b[3]));
    let constant = u32::from(immediate);
    u32::join([x1, x1.rotate_right(8) ^ constant, x3, x3.rotate_right(8) ^ constant])
}

/// The product of two polynomials over GF(2), four bits of `b` at a time.
pub(crate) fn carryless_product(a: u64, b: u64) -> Vector {
    let mut multiples = [0u128; 16];
    for i in 1..16 {
        let even = multiples[i / 2] << 1;
        multiples[i] = if i & 1 == 0 { even } else { even ^ u128::from(a) };
    }
    let product = (0..16).rev().fold(0, |product, i| product << 4 ^ multiples[(b >> (4 * i) & 15) as usize]);
    Vector::from_bits(product)
}

/// PCLMULQDQ: bits 0 and 4 of the immediate choose the halves of a and b.
pub(crate) fn pclmulqdq(a: Vector, b: Vector, immediate: u8) -> Vector {
    let (a, b) = (u64::split(a), u64::split(b));
    carryless_product(a[usize::from(immediate & 1)], b[usize::from(immediate >> 4 & 1)])
}

pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    use Mnemonic::*;
    Some(match instruction.mnemonic() {
        Aesenc => |cpu, op| packed(cpu, op, crypto::aesenc),
        Aesenclast => |cpu, op| packed(cpu, op, crypto::aesenclast),
        Aesdec => |cpu, op| packed(cpu, op, crypto::aesdec),
        Aesdeclast => |cpu, op| packed(cpu, op, crypto::aesdeclast),
        Aesimc => |cpu, op| packed(cpu, op, crypto::aesimc),
        Aeskeygenassist => |cpu, op| packed_immediate(cpu, op, crypto::aeskeygenassist),
        Pclmulqdq => |cpu, op| packed_immediate(cpu, op, crypto::pclmulqdq),
        _ => return None,
    })
}
