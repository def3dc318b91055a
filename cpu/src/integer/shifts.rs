//! SHL, SHR, SAR, ROL, ROR, RCL, RCR, SHLD, SHRD, and BMI2's flagless shifts.
//!
//! Where the SDM leaves OF undefined (counts above one), the formula for a count of one is used, as silicon does. AF,
//! undefined after a shift, is set (see `flags`).

use super::flags::{aux_of, carry};
use super::operand::{Immediate, Memory, Register, Source, Target, by_width, width_of};
use crate::op::Op;
use crate::ops::{Meaning, MicroOps};
use crate::state::{AUX_AF, ArithFlags};
use crate::width::{W8, Width};
use iced_x86::{Instruction, Mnemonic, OpKind};

/// One shift or rotate by a masked, non-zero count.
trait Shift {
    /// Whether SF, ZF, PF and AF come from the result (shifts) or stay (rotates).
    const SETS_RESULT_FLAGS: bool;
    /// Whether the count counts modulo width + 1 (rotates through carry).
    const THROUGH_CARRY: bool = false;
    fn compute<M: MicroOps, W: Width>(m: &mut M, value: M::Int, count: M::Int) -> M::Int;
    /// CF and OF, each 0 or 1, for a non-zero count.
    fn carry_overflow<M: MicroOps, W: Width>(
        m: &mut M,
        value: M::Int,
        count: M::Int,
        result: M::Int,
    ) -> (M::Int, M::Int);
}

struct Shl;
struct Shr;
struct Sar;
struct Rol;
struct Ror;
struct Rcl;
struct Rcr;

/// Bit `index` of `value` as 0 or 1.
#[inline(always)]
fn bit<M: MicroOps>(m: &mut M, value: M::Int, index: u32) -> M::Int {
    let shifted = m.shr_by(value, index);
    let one = m.constant(1);
    m.and(shifted, one)
}

/// The two top bits of a value of width `W`, exclusive-or.
#[inline(always)]
fn top_bits_differ<M: MicroOps, W: Width>(m: &mut M, value: M::Int) -> M::Int {
    let top = bit(m, value, W::BITS - 1);
    let next = bit(m, value, W::BITS - 2);
    m.xor(top, next)
}

/// The last bit shifted out to the right.
#[inline(always)]
fn out_to_the_right<M: MicroOps>(m: &mut M, value: M::Int, count: M::Int) -> M::Int {
    let one = m.constant(1);
    let before = m.sub(count, one);
    let shifted = m.sar(value, before);
    m.and(shifted, one)
}

impl Shift for Shl {
    const SETS_RESULT_FLAGS: bool = true;
    #[inline(always)]
    fn compute<M: MicroOps, W: Width>(m: &mut M, value: M::Int, count: M::Int) -> M::Int {
        let shifted = m.shl(value, count);
        m.truncate::<W>(shifted)
    }
    #[inline(always)]
    fn carry_overflow<M: MicroOps, W: Width>(
        m: &mut M,
        v: M::Int,
        count: M::Int,
        r: M::Int,
    ) -> (M::Int, M::Int) {
        let one = m.constant(1);
        let before = m.sub(count, one);
        let last = m.shl(v, before);
        let carry = bit(m, last, W::BITS - 1);
        let sign = bit(m, r, W::BITS - 1);
        (carry, m.xor(carry, sign))
    }
}

impl Shift for Shr {
    const SETS_RESULT_FLAGS: bool = true;
    #[inline(always)]
    fn compute<M: MicroOps, W: Width>(m: &mut M, value: M::Int, count: M::Int) -> M::Int {
        m.shr(value, count)
    }
    #[inline(always)]
    fn carry_overflow<M: MicroOps, W: Width>(
        m: &mut M,
        v: M::Int,
        count: M::Int,
        r: M::Int,
    ) -> (M::Int, M::Int) {
        let one = m.constant(1);
        let before = m.sub(count, one);
        let last = m.shr(v, before);
        let carry = m.and(last, one);
        (carry, top_bits_differ::<M, W>(m, r))
    }
}

impl Shift for Sar {
    const SETS_RESULT_FLAGS: bool = true;
    #[inline(always)]
    fn compute<M: MicroOps, W: Width>(m: &mut M, value: M::Int, count: M::Int) -> M::Int {
        let wide = m.sign_extend::<W>(value);
        let shifted = m.sar(wide, count);
        m.truncate::<W>(shifted)
    }
    #[inline(always)]
    fn carry_overflow<M: MicroOps, W: Width>(
        m: &mut M,
        v: M::Int,
        count: M::Int,
        _r: M::Int,
    ) -> (M::Int, M::Int) {
        let wide = m.sign_extend::<W>(v);
        (out_to_the_right(m, wide, count), m.constant(0))
    }
}

impl Shift for Rol {
    const SETS_RESULT_FLAGS: bool = false;
    #[inline(always)]
    fn compute<M: MicroOps, W: Width>(m: &mut M, value: M::Int, count: M::Int) -> M::Int {
        rotate_left::<M, W>(m, value, count)
    }
    #[inline(always)]
    fn carry_overflow<M: MicroOps, W: Width>(
        m: &mut M,
        _v: M::Int,
        _c: M::Int,
        r: M::Int,
    ) -> (M::Int, M::Int) {
        let carry = bit(m, r, 0);
        let sign = bit(m, r, W::BITS - 1);
        (carry, m.xor(carry, sign))
    }
}

impl Shift for Ror {
    const SETS_RESULT_FLAGS: bool = false;
    #[inline(always)]
    fn compute<M: MicroOps, W: Width>(m: &mut M, value: M::Int, count: M::Int) -> M::Int {
        let zero = m.constant(0);
        let left = m.sub(zero, count);
        rotate_left::<M, W>(m, value, left)
    }
    #[inline(always)]
    fn carry_overflow<M: MicroOps, W: Width>(
        m: &mut M,
        _v: M::Int,
        _c: M::Int,
        r: M::Int,
    ) -> (M::Int, M::Int) {
        (bit(m, r, W::BITS - 1), top_bits_differ::<M, W>(m, r))
    }
}

/// Rotates a value of width `W` left by `count` modulo the width.
#[inline(always)]
fn rotate_left<M: MicroOps, W: Width>(m: &mut M, value: M::Int, count: M::Int) -> M::Int {
    let mask = m.constant(u64::from(W::BITS - 1));
    let left = m.and(count, mask);
    let zero = m.constant(0);
    let right = m.sub(zero, left);
    let right = m.and(right, mask);
    let high = m.shl(value, left);
    let low = m.shr(value, right);
    let both = m.or(high, low);
    m.truncate::<W>(both)
}

/// `value >> (W + 1 - count)`, where a count of one shifts everything out.
#[inline(always)]
fn shifted_back<M: MicroOps, W: Width>(m: &mut M, value: M::Int, count: M::Int, left: bool) -> M::Int {
    let one = m.constant(1);
    let bits = m.constant(u64::from(W::BITS));
    let once = if left { m.shl(value, one) } else { m.shr(value, one) };
    let rest = m.sub(bits, count);
    if left { m.shl(once, rest) } else { m.shr(once, rest) }
}

impl Shift for Rcl {
    const SETS_RESULT_FLAGS: bool = false;
    const THROUGH_CARRY: bool = true;
    #[inline(always)]
    fn compute<M: MicroOps, W: Width>(m: &mut M, value: M::Int, count: M::Int) -> M::Int {
        let carry_in = carry(m);
        let one = m.constant(1);
        let before = m.sub(count, one);
        let high = m.shl(value, count);
        // A 64-bit count of zero never comes here, so `high` is a real shift.
        let low = shifted_back::<M, W>(m, value, count, false);
        let carried = m.shl(carry_in, before);
        let both = m.or(high, low);
        let all = m.or(both, carried);
        m.truncate::<W>(all)
    }
    #[inline(always)]
    fn carry_overflow<M: MicroOps, W: Width>(
        m: &mut M,
        v: M::Int,
        count: M::Int,
        r: M::Int,
    ) -> (M::Int, M::Int) {
        let bits = m.constant(u64::from(W::BITS));
        let back = m.sub(bits, count);
        let last = m.shr(v, back);
        let one = m.constant(1);
        let last = m.and(last, one);
        let carry = carry_after_steps::<M, W>(m, count, last);
        let sign = bit(m, r, W::BITS - 1);
        (carry, m.xor(carry, sign))
    }
}

impl Shift for Rcr {
    const SETS_RESULT_FLAGS: bool = false;
    const THROUGH_CARRY: bool = true;
    #[inline(always)]
    fn compute<M: MicroOps, W: Width>(m: &mut M, value: M::Int, count: M::Int) -> M::Int {
        let carry_in = carry(m);
        let low = m.shr(value, count);
        let high = shifted_back::<M, W>(m, value, count, true);
        let bits = m.constant(u64::from(W::BITS));
        let position = m.sub(bits, count);
        let carried = m.shl(carry_in, position);
        let both = m.or(low, high);
        let all = m.or(both, carried);
        m.truncate::<W>(all)
    }
    #[inline(always)]
    fn carry_overflow<M: MicroOps, W: Width>(
        m: &mut M,
        v: M::Int,
        count: M::Int,
        r: M::Int,
    ) -> (M::Int, M::Int) {
        let last = out_to_the_right(m, v, count);
        let carry = carry_after_steps::<M, W>(m, count, last);
        (carry, top_bits_differ::<M, W>(m, r))
    }
}

/// CF after a rotation through carry: `last`, the bit that went out, or the old one after a whole turn.
#[inline(always)]
fn carry_after_steps<M: MicroOps, W: Width>(m: &mut M, count: M::Int, last: M::Int) -> M::Int {
    if W::BITS >= 32 {
        return last;
    }
    let old = carry(m);
    m.select(count, last, old)
}

/// The count as the instruction looks at it: 5 bits, 6 for 64-bit operands.
#[inline(always)]
fn masked_count<M: MicroOps, W: Width>(m: &mut M, count: M::Int) -> M::Int {
    let mask = m.constant(if W::BITS == 64 { 63 } else { 31 });
    m.and(count, mask)
}

/// The steps that a masked count makes: modulo width + 1 through carry.
#[inline(always)]
fn steps<M: MicroOps, O: Shift, W: Width>(m: &mut M, masked: M::Int) -> M::Int {
    let mut count = masked;
    if O::THROUGH_CARRY && W::BITS < 32 {
        // At most three subtractions bring a 5-bit count below 9 or 17.
        let modulus = m.constant(u64::from(W::BITS) + 1);
        for _ in 0..(31 / (W::BITS + 1)) {
            let small = m.less_unsigned(count, modulus);
            let less = m.sub(count, modulus);
            count = m.select(small, count, less);
        }
    }
    count
}

/// The flags after a shift by `count` steps. A masked count of zero changes nothing; that of a whole turn through
/// carry does.
#[inline(always)]
fn set_shift_flags<M: MicroOps, O: Shift, W: Width>(
    m: &mut M,
    value: M::Int,
    masked: M::Int,
    count: M::Int,
    result: M::Int,
) {
    let old = m.flags();
    let (carry, overflow) = O::carry_overflow::<M, W>(m, value, count, result);
    let mut aux = aux_of(m, carry, overflow);
    let mut flag_result = old.result;
    if O::SETS_RESULT_FLAGS {
        flag_result = m.sign_extend::<W>(result);
        let adjust = m.constant(AUX_AF);
        aux = m.or(aux, adjust);
    } else {
        let mask = m.constant(!(3 << 62));
        let rest = m.and(old.aux, mask);
        aux = m.or(aux, rest);
    }
    let result = m.select(masked, flag_result, old.result);
    let aux = m.select(masked, aux, old.aux);
    m.set_flags(ArithFlags { result, aux });
}

fn shift<M: MicroOps, O: Shift, D: Target, S: Source, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let count = S::read::<M, W8>(m, op)?;
    let masked = masked_count::<M, W>(m, count);
    let count = steps::<M, O, W>(m, masked);
    let (value, result) = D::modify::<M, W>(m, op, |m, value| {
        let shifted = O::compute::<M, W>(m, value, count);
        m.select(count, shifted, value)
    })?;
    set_shift_flags::<M, O, W>(m, value, masked, count, result);
    Ok(())
}

macro_rules! shift_of {
    ($operation:ty, $m:ident, $i:expr) => {{
        let bits = width_of($i, 0);
        match ($i.op0_kind() == OpKind::Register, $i.op1_kind() == OpKind::Register) {
            (true, true) => {
                by_width!(bits, [W8, W16, W32, W64], shift, $m, $operation, Register<0>, Register<1>)
            }
            (true, false) => {
                by_width!(bits, [W8, W16, W32, W64], shift, $m, $operation, Register<0>, Immediate)
            }
            (false, true) => by_width!(bits, [W8, W16, W32, W64], shift, $m, $operation, Memory, Register<1>),
            (false, false) => by_width!(bits, [W8, W16, W32, W64], shift, $m, $operation, Memory, Immediate),
        }
    }};
}

/// SHLD and SHRD shift bits in from a second register.
trait DoubleShift {
    /// The result of width `W` for a non-zero count.
    fn compute<M: MicroOps, W: Width>(m: &mut M, value: M::Int, fill: M::Int, count: M::Int) -> M::Int;
    fn carry<M: MicroOps, W: Width>(m: &mut M, value: M::Int, fill: M::Int, count: M::Int) -> M::Int;
    /// Whether the last step by one bit changed the sign.
    fn overflow<M: MicroOps, W: Width>(
        m: &mut M,
        value: M::Int,
        count: M::Int,
        result: M::Int,
        carry: M::Int,
    ) -> M::Int;
}

struct Shld;
struct Shrd;

impl DoubleShift for Shld {
    #[inline(always)]
    fn compute<M: MicroOps, W: Width>(m: &mut M, value: M::Int, fill: M::Int, count: M::Int) -> M::Int {
        if W::BITS == 16 {
            // A 16-bit count above 16 rotates on through the destination, as silicon does.
            let all = three_words(m, value, fill);
            let shifted = m.shl(all, count);
            let result = m.shr_by(shifted, 32);
            return m.truncate::<W>(result);
        }
        let high = m.shl(value, count);
        let bits = m.constant(u64::from(W::BITS));
        let back = m.sub(bits, count);
        let low = m.shr(fill, back);
        let both = m.or(high, low);
        m.truncate::<W>(both)
    }
    #[inline(always)]
    fn carry<M: MicroOps, W: Width>(m: &mut M, value: M::Int, fill: M::Int, count: M::Int) -> M::Int {
        let one = m.constant(1);
        let before = m.sub(count, one);
        let last = if W::BITS == 16 {
            let all = three_words(m, value, fill);
            let shifted = m.shl(all, before);
            m.shr_by(shifted, 32)
        } else {
            m.shl(value, before)
        };
        bit(m, last, W::BITS - 1)
    }
    #[inline(always)]
    fn overflow<M: MicroOps, W: Width>(
        m: &mut M,
        value: M::Int,
        count: M::Int,
        _result: M::Int,
        carry: M::Int,
    ) -> M::Int {
        // The sign without the bits shifted in: only a 16-bit count of 16 tells the difference.
        let shifted = m.shl(value, count);
        let sign = bit(m, shifted, W::BITS - 1);
        m.xor(sign, carry)
    }
}

impl DoubleShift for Shrd {
    #[inline(always)]
    fn compute<M: MicroOps, W: Width>(m: &mut M, value: M::Int, fill: M::Int, count: M::Int) -> M::Int {
        if W::BITS == 16 {
            let all = three_words(m, value, fill);
            let shifted = m.shr(all, count);
            return m.truncate::<W>(shifted);
        }
        let low = m.shr(value, count);
        let bits = m.constant(u64::from(W::BITS));
        let back = m.sub(bits, count);
        let high = m.shl(fill, back);
        let both = m.or(high, low);
        m.truncate::<W>(both)
    }
    #[inline(always)]
    fn carry<M: MicroOps, W: Width>(m: &mut M, value: M::Int, fill: M::Int, count: M::Int) -> M::Int {
        let all = if W::BITS == 16 { three_words(m, value, fill) } else { value };
        let one = m.constant(1);
        let before = m.sub(count, one);
        let last = m.shr(all, before);
        m.and(last, one)
    }
    #[inline(always)]
    fn overflow<M: MicroOps, W: Width>(
        m: &mut M,
        _value: M::Int,
        _count: M::Int,
        result: M::Int,
        _carry: M::Int,
    ) -> M::Int {
        top_bits_differ::<M, W>(m, result)
    }
}

/// `value:fill:value` from the top: what a 16-bit double shift by up to 31 sees.
#[inline(always)]
fn three_words<M: MicroOps>(m: &mut M, value: M::Int, fill: M::Int) -> M::Int {
    let high = m.shl_by(value, 32);
    let middle = m.shl_by(fill, 16);
    let upper = m.or(high, middle);
    m.or(upper, value)
}

fn double_shift<M: MicroOps, O: DoubleShift, D: Target, S: Source, W: Width>(
    m: &mut M,
    op: &Op,
) -> Result<(), M::Fault> {
    let count = S::read::<M, W8>(m, op)?;
    let count = masked_count::<M, W>(m, count);
    let fill = m.get::<W>(op.regs[1]);
    let (value, result) = D::modify::<M, W>(m, op, |m, value| {
        let shifted = O::compute::<M, W>(m, value, fill, count);
        m.select(count, shifted, value)
    })?;
    let old = m.flags();
    let carry = O::carry::<M, W>(m, value, fill, count);
    let overflow = O::overflow::<M, W>(m, value, count, result, carry);
    let aux = aux_of(m, carry, overflow);
    let adjust = m.constant(AUX_AF);
    let aux = m.or(aux, adjust);
    let extended = m.sign_extend::<W>(result);
    let result = m.select(count, extended, old.result);
    let aux = m.select(count, aux, old.aux);
    m.set_flags(ArithFlags { result, aux });
    Ok(())
}

macro_rules! double_shift_of {
    ($operation:ty, $m:ident, $i:expr) => {{
        let bits = width_of($i, 0);
        match ($i.op0_kind() == OpKind::Register, $i.op_kind(2) == OpKind::Register) {
            (true, true) => {
                by_width!(bits, [W16, W32, W64], double_shift, $m, $operation, Register<0>, Register<2>)
            }
            (true, false) => {
                by_width!(bits, [W16, W32, W64], double_shift, $m, $operation, Register<0>, Immediate)
            }
            (false, true) => {
                by_width!(bits, [W16, W32, W64], double_shift, $m, $operation, Memory, Register<2>)
            }
            (false, false) => {
                by_width!(bits, [W16, W32, W64], double_shift, $m, $operation, Memory, Immediate)
            }
        }
    }};
}

/// SHLX, SHRX, SARX and RORX: no flags; the count is the last operand.
fn flagless<M: MicroOps, O: Shift, V: Source, S: Source, W: Width>(
    m: &mut M,
    op: &Op,
) -> Result<(), M::Fault> {
    let value = V::read::<M, W>(m, op)?;
    let count = S::read::<M, W>(m, op)?;
    let mask = m.constant(u64::from(W::BITS) - 1);
    let count = m.and(count, mask);
    let result = O::compute::<M, W>(m, value, count);
    m.put::<W>(op.regs[0], result);
    Ok(())
}

macro_rules! flagless_of {
    ($operation:ty, $count:ty, $m:ident, $i:expr) => {{
        let bits = width_of($i, 0);
        if $i.op1_kind() == OpKind::Register {
            by_width!(bits, [W32, W64], flagless, $m, $operation, Register<1>, $count)
        } else {
            by_width!(bits, [W32, W64], flagless, $m, $operation, Memory, $count)
        }
    }};
}

/// The meaning of an instruction of this family.
pub(super) fn select<M: MicroOps>(i: &Instruction) -> Option<Meaning<M>> {
    match i.mnemonic() {
        Mnemonic::Shl | Mnemonic::Sal => shift_of!(Shl, M, i),
        Mnemonic::Shr => shift_of!(Shr, M, i),
        Mnemonic::Sar => shift_of!(Sar, M, i),
        Mnemonic::Rol => shift_of!(Rol, M, i),
        Mnemonic::Ror => shift_of!(Ror, M, i),
        Mnemonic::Rcl => shift_of!(Rcl, M, i),
        Mnemonic::Rcr => shift_of!(Rcr, M, i),
        Mnemonic::Shld => double_shift_of!(Shld, M, i),
        Mnemonic::Shrd => double_shift_of!(Shrd, M, i),
        Mnemonic::Shlx => flagless_of!(Shl, Register<2>, M, i),
        Mnemonic::Shrx => flagless_of!(Shr, Register<2>, M, i),
        Mnemonic::Sarx => flagless_of!(Sar, Register<2>, M, i),
        Mnemonic::Rorx => flagless_of!(Ror, Immediate, M, i),
        _ => None,
    }
}
