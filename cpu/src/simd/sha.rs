//! SHA-1 and SHA-256 rounds and message schedules (SDM vol. 1, 12.14; FIPS 180-4).

use super::crypto;
use super::lanes::{Lane, Vector};
use super::operand::{packed, packed_immediate};
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::Op;
use crate::ops::Hard;
use iced_x86::{Instruction, Mnemonic};

/// SHA-1's constants, one for each twenty rounds.
const K: [u32; 4] = [0x5a82_7999, 0x6ed9_eba1, 0x8f1b_bcdc, 0xca62_c1d6];

fn choose(x: u32, y: u32, z: u32) -> u32 {
    x & y ^ !x & z
}

fn majority(x: u32, y: u32, z: u32) -> u32 {
    x & y ^ x & z ^ y & z
}

fn parity(x: u32, y: u32, z: u32) -> u32 {
    x ^ y ^ z
}

/// SHA1RNDS4: four rounds of the function that bits 0 and 1 of the immediate choose. Lane 3 is A and the first word.
pub(crate) fn sha1rnds4(a: Vector, b: Vector, immediate: u8) -> Vector {
    let stage = usize::from(immediate & 3);
    let function = [choose, parity, majority, parity][stage];
    let [mut d, mut c, mut b_state, mut a_state] = u32::split(a);
    // The first word comes with E already added.
    let mut e = 0u32;
    for word in u32::split(b).into_iter().rev() {
        let next = function(b_state, c, d)
            .wrapping_add(a_state.rotate_left(5))
            .wrapping_add(word)
            .wrapping_add(e)
            .wrapping_add(K[stage]);
        (a_state, b_state, c, d, e) = (next, a_state, b_state.rotate_left(30), c, d);
    }
    u32::join([d, c, b_state, a_state])
}

/// SHA1NEXTE: E after four rounds, added to the next words.
pub(crate) fn sha1nexte(a: Vector, b: Vector) -> Vector {
    let mut words = u32::split(b);
    words[3] = words[3].wrapping_add(u32::split(a)[3].rotate_left(30));
    u32::join(words)
}

/// SHA1MSG1.
pub(crate) fn sha1msg1(a: Vector, b: Vector) -> Vector {
    let ([w3, w2, w1, w0], [_, _, w5, w4]) = (u32::split(a), u32::split(b));
    u32::join([w5 ^ w3, w4 ^ w2, w3 ^ w1, w2 ^ w0])
}

/// SHA1MSG2.
pub(crate) fn sha1msg2(a: Vector, b: Vector) -> Vector {
    let ([x3, x2, x1, x0], [w15, w14, w13, _]) = (u32::split(a), u32::split(b));
    let w16 = (x0 ^ w13).rotate_left(1);
    let w17 = (x1 ^ w14).rotate_left(1);
    let w18 = (x2 ^ w15).rotate_left(1);
    u32::join([(x3 ^ w16).rotate_left(1), w18, w17, w16])
}

/// SHA256RNDS2: two rounds; `wk` holds the two sums of word and constant, the first in lane 0.
pub(crate) fn sha256rnds2(cdgh: Vector, abef: Vector, wk: Vector) -> Vector {
    let ([mut h, mut g, mut d, mut c], [mut f, mut e, mut b, mut a]) = (u32::split(cdgh), u32::split(abef));
    for sum in &u32::split(wk)[..2] {
        let sigma1 = e.rotate_right(6) ^ e.rotate_right(11) ^ e.rotate_right(25);
        let sigma0 = a.rotate_right(2) ^ a.rotate_right(13) ^ a.rotate_right(22);
        let first = choose(e, f, g).wrapping_add(sigma1).wrapping_add(*sum).wrapping_add(h);
        let second = majority(a, b, c).wrapping_add(sigma0);
        (h, g, f, e) = (g, f, e, first.wrapping_add(d));
        (d, c, b, a) = (c, b, a, first.wrapping_add(second));
    }
    u32::join([f, e, b, a])
}

/// SHA256MSG1.
pub(crate) fn sha256msg1(a: Vector, b: Vector) -> Vector {
    let (w, w4) = (u32::split(a), u32::split(b)[0]);
    let sigma0 = |x: u32| x.rotate_right(7) ^ x.rotate_right(18) ^ x >> 3;
    u32::build(|i| w[i].wrapping_add(sigma0(if i == 3 { w4 } else { w[i + 1] })))
}

/// SHA256MSG2.
pub(crate) fn sha256msg2(a: Vector, b: Vector) -> Vector {
    let (x, [_, _, w14, w15]) = (u32::split(a), u32::split(b));
    let sigma1 = |x: u32| x.rotate_right(17) ^ x.rotate_right(19) ^ x >> 10;
    let w16 = x[0].wrapping_add(sigma1(w14));
    let w17 = x[1].wrapping_add(sigma1(w15));
    u32::join([w16, w17, x[2].wrapping_add(sigma1(w16)), x[3].wrapping_add(sigma1(w17))])
}

/// SHA256RNDS2's third operand is XMM0, named or not.
fn rounds(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let wk = cpu.vector(0);
    packed(cpu, op, |a, b| crypto::sha256rnds2(a, b, wk))
}

pub(super) fn select(instruction: &Instruction) -> Option<Hard> {
    use Mnemonic::*;
    Some(match instruction.mnemonic() {
        Sha1rnds4 => |cpu, op| packed_immediate(cpu, op, crypto::sha1rnds4),
        Sha1nexte => |cpu, op| packed(cpu, op, crypto::sha1nexte),
        Sha1msg1 => |cpu, op| packed(cpu, op, crypto::sha1msg1),
        Sha1msg2 => |cpu, op| packed(cpu, op, crypto::sha1msg2),
        Sha256rnds2 => rounds,
        Sha256msg1 => |cpu, op| packed(cpu, op, crypto::sha256msg1),
        Sha256msg2 => |cpu, op| packed(cpu, op, crypto::sha256msg2),
        _ => return None,
    })
}
