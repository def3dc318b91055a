//! How results become arithmetic flags, and how conditions read them (SDM vol. 1, 3.4.3 and appendix B).
//!
//! Flags that the SDM leaves undefined are those of AMD's Zen 5, measured: guests see one real processor, not a mixture.
//! Processors differ here, and on another host the instruction cases report where.

use crate::ops::{FlagsOf, MicroOps};
use crate::state::{AUX_AF, AUX_CF, AUX_CF_XOR_OF, ArithFlags};
use crate::width::Width;

/// Sets all flags from a result of width `W` and its vector of carries (or borrows) out of each bit.
#[inline(always)]
pub(super) fn set_from_carries<M: MicroOps, W: Width>(m: &mut M, result: M::Int, carries: M::Int) {
    let result = m.sign_extend::<W>(result);
    let top = m.shl_by(carries, 64 - W::BITS);
    let top_mask = m.constant(AUX_CF | AUX_CF_XOR_OF);
    let top = m.and(top, top_mask);
    let af_mask = m.constant(AUX_AF);
    let af = m.and(carries, af_mask);
    let aux = m.or(top, af);
    m.set_flags(ArithFlags { result, aux });
}

/// Sets the flags of `a + b = result`.
#[inline(always)]
pub(super) fn set_add<M: MicroOps, W: Width>(m: &mut M, a: M::Int, b: M::Int, result: M::Int) {
    if !m.remember_flags::<W>(FlagsOf::Sum { a, b, result }) {
        set_add_carry::<M, W>(m, a, b, result);
    }
}

/// Sets the flags of `a + b = result`, with or without a carry in.
#[inline(always)]
pub(super) fn set_add_carry<M: MicroOps, W: Width>(m: &mut M, a: M::Int, b: M::Int, result: M::Int) {
    let both = m.and(a, b);
    let either = m.or(a, b);
    let absent = m.not::<W>(result);
    let propagated = m.and(either, absent);
    let carries = m.or(both, propagated);
    set_from_carries::<M, W>(m, result, carries);
}

/// Sets the flags of `a - b = result`.
#[inline(always)]
pub(super) fn set_sub<M: MicroOps, W: Width>(m: &mut M, a: M::Int, b: M::Int, result: M::Int) {
    if !m.remember_flags::<W>(FlagsOf::Difference { a, b, result }) {
        set_sub_borrow::<M, W>(m, a, b, result);
    }
}

/// Sets the flags of `a - b = result`, with or without a borrow in.
#[inline(always)]
pub(super) fn set_sub_borrow<M: MicroOps, W: Width>(m: &mut M, a: M::Int, b: M::Int, result: M::Int) {
    let not_a = m.not::<W>(a);
    let generated = m.and(not_a, b);
    let same = m.xor(not_a, b);
    let propagated = m.and(same, result);
    let borrows = m.or(generated, propagated);
    set_from_carries::<M, W>(m, result, borrows);
}

/// Sets the flags of a logical result: CF, OF and (as the host does) AF cleared.
#[inline(always)]
pub(super) fn set_logic<M: MicroOps, W: Width>(m: &mut M, result: M::Int) {
    if m.remember_flags::<W>(FlagsOf::Logic { result }) {
        return;
    }
    let result = m.sign_extend::<W>(result);
    let aux = m.constant(0);
    m.set_flags(ArithFlags { result, aux });
}

/// `aux` for a given CF and OF (each 0 or 1) and AF clear.
#[inline(always)]
pub(super) fn aux_of<M: MicroOps>(m: &mut M, carry: M::Int, overflow: M::Int) -> M::Int {
    let differs = m.xor(carry, overflow);
    let carry = m.shl_by(carry, 63);
    let differs = m.shl_by(differs, 62);
    m.or(carry, differs)
}

/// CF as 0 or 1.
#[inline(always)]
pub(super) fn carry<M: MicroOps>(m: &mut M) -> M::Int {
    if let Some(carry) = m.known_condition(2) {
        return carry;
    }
    let aux = m.flags().aux;
    m.shr_by(aux, 63)
}

/// Replaces CF by `carry` (0 or 1) and leaves the other flags.
#[inline(always)]
pub(super) fn replace_carry<M: MicroOps>(m: &mut M, carry: M::Int) {
    let aux = m.flags().aux;
    let overflow = overflow_of(m, aux);
    replace_carry_overflow(m, carry, overflow);
}

/// Replaces CF and OF (each 0 or 1) and leaves the other flags.
#[inline(always)]
pub(super) fn replace_carry_overflow<M: MicroOps>(m: &mut M, carry: M::Int, overflow: M::Int) {
    let ArithFlags { result, aux } = m.flags();
    let mask = m.constant(!(AUX_CF | AUX_CF_XOR_OF));
    let rest = m.and(aux, mask);
    let top = aux_of(m, carry, overflow);
    let aux = m.or(rest, top);
    m.set_flags(ArithFlags { result, aux });
}

#[inline(always)]
pub(super) fn overflow_of<M: MicroOps>(m: &mut M, aux: M::Int) -> M::Int {
    let shifted = m.shl_by(aux, 1);
    let differs = m.xor(aux, shifted);
    m.shr_by(differs, 63)
}

#[inline(always)]
fn sign_of<M: MicroOps>(m: &mut M, flags: ArithFlags<M::Int>) -> M::Int {
    let delta = m.shl_by(flags.aux, 63);
    let sign = m.xor(flags.result, delta);
    m.shr_by(sign, 63)
}

#[inline(always)]
fn zero_of<M: MicroOps>(m: &mut M, flags: ArithFlags<M::Int>) -> M::Int {
    let zero = m.constant(0);
    m.equal(flags.result, zero)
}

#[inline(always)]
fn parity_of<M: MicroOps>(m: &mut M, flags: ArithFlags<M::Int>) -> M::Int {
    let delta = m.shr_by(flags.aux, 8);
    let byte = m.xor(flags.result, delta);
    let mask = m.constant(0xff);
    let byte = m.and(byte, mask);
    let ones = m.count_ones(byte);
    let one = m.constant(1);
    let odd = m.and(ones, one);
    m.xor(odd, one)
}

/// Condition `CC` (0 to 15, as encoded in Jcc, SETcc and CMOVcc) as 0 or 1.
#[inline(always)]
pub(super) fn condition<M: MicroOps, const CC: u8>(m: &mut M) -> M::Int {
    if let Some(holds) = m.known_condition(CC) {
        return holds;
    }
    let flags = m.flags();
    let holds = match CC >> 1 {
        0 => overflow_of(m, flags.aux),
        1 => m.shr_by(flags.aux, 63),
        2 => zero_of(m, flags),
        3 => {
            let carry = m.shr_by(flags.aux, 63);
            let zero = zero_of(m, flags);
            m.or(carry, zero)
        }
        4 => sign_of(m, flags),
        5 => parity_of(m, flags),
        6 => {
            let sign = sign_of(m, flags);
            let overflow = overflow_of(m, flags.aux);
            m.xor(sign, overflow)
        }
        _ => {
            let sign = sign_of(m, flags);
            let overflow = overflow_of(m, flags.aux);
            let less = m.xor(sign, overflow);
            let zero = zero_of(m, flags);
            m.or(less, zero)
        }
    };
    if CC & 1 == 0 {
        return holds;
    }
    let one = m.constant(1);
    m.xor(holds, one)
}
