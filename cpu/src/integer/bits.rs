//! BT, BTS, BTR, BTC, BSF, BSR, TZCNT, LZCNT, POPCNT, BMI1, BMI2's BZHI, PDEP and PEXT, and CRC32.

use super::flags::{aux_of, overflow_of, replace_carry};
use super::operand::{Immediate, Memory, Register, Shape, Source, Target, by_width, shape, width_of};
use crate::op::Op;
use crate::ops::{Meaning, MicroOps};
use crate::state::{AUX_AF, ArithFlags};
use crate::width::{W32, Width};
use iced_x86::{Instruction, Mnemonic, OpKind};

/// What BT's relatives do to the bit.
trait BitChange {
    const WRITES: bool = true;
    fn apply<M: MicroOps, W: Width>(m: &mut M, value: M::Int, mask: M::Int) -> M::Int;
}

struct Test;
struct Set;
struct Reset;
struct Complement;

impl BitChange for Test {
    const WRITES: bool = false;
    #[inline(always)]
    fn apply<M: MicroOps, W: Width>(_m: &mut M, value: M::Int, _mask: M::Int) -> M::Int {
        value
    }
}
impl BitChange for Set {
    #[inline(always)]
    fn apply<M: MicroOps, W: Width>(m: &mut M, value: M::Int, mask: M::Int) -> M::Int {
        m.or(value, mask)
    }
}
impl BitChange for Reset {
    #[inline(always)]
    fn apply<M: MicroOps, W: Width>(m: &mut M, value: M::Int, mask: M::Int) -> M::Int {
        let keep = m.not::<W>(mask);
        m.and(value, keep)
    }
}
impl BitChange for Complement {
    #[inline(always)]
    fn apply<M: MicroOps, W: Width>(m: &mut M, value: M::Int, mask: M::Int) -> M::Int {
        m.xor(value, mask)
    }
}

/// CF = bit `index` of `value`; the other flags stay.
#[inline(always)]
fn carry_from_bit<M: MicroOps>(m: &mut M, value: M::Int, index: M::Int) {
    let shifted = m.shr(value, index);
    let one = m.constant(1);
    let carry = m.and(shifted, one);
    replace_carry(m, carry);
}

/// The register form, and the memory form with an immediate: the index counts modulo the width.
fn bit_test<M: MicroOps, O: BitChange, D: Target, S: Source, W: Width>(
    m: &mut M,
    op: &Op,
) -> Result<(), M::Fault> {
    let index = S::read::<M, W>(m, op)?;
    let within = m.constant(u64::from(W::BITS) - 1);
    let index = m.and(index, within);
    let old = if O::WRITES {
        let one = m.constant(1);
        let mask = m.shl(one, index);
        D::modify::<M, W>(m, op, |m, value| O::apply::<M, W>(m, value, mask))?.0
    } else {
        D::read::<M, W>(m, op)?
    };
    carry_from_bit(m, old, index);
    Ok(())
}

/// The memory form with a register: a bit string that reaches up and down from the operand.
fn bit_string<M: MicroOps, O: BitChange, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let position = m.get::<W>(op.regs[1]);
    let position = m.sign_extend::<W>(position);
    let count = m.constant(u64::from(W::BITS.trailing_zeros()));
    let element = m.sar(position, count);
    let displacement = m.shl_by(element, W::BYTES.trailing_zeros());
    let within = m.constant(u64::from(W::BITS) - 1);
    let index = m.and(position, within);
    let old = if O::WRITES {
        let one = m.constant(1);
        let mask = m.shl(one, index);
        m.modify_at::<W>(op, displacement, |m, value| O::apply::<M, W>(m, value, mask))?.0
    } else {
        m.load_at::<W>(op, displacement)?
    };
    carry_from_bit(m, old, index);
    Ok(())
}

macro_rules! bit_test_of {
    ($change:ty, $m:ident, $i:expr) => {{
        let bits = width_of($i, 0);
        match shape($i)? {
            Shape::RegisterRegister => {
                by_width!(bits, [W16, W32, W64], bit_test, $m, $change, Register<0>, Register<1>)
            }
            Shape::RegisterImmediate => {
                by_width!(bits, [W16, W32, W64], bit_test, $m, $change, Register<0>, Immediate)
            }
            Shape::MemoryImmediate => {
                by_width!(bits, [W16, W32, W64], bit_test, $m, $change, Memory, Immediate)
            }
            Shape::MemoryRegister => by_width!(bits, [W16, W32, W64], bit_string, $m, $change),
            Shape::RegisterMemory => None,
        }
    }};
}

/// Leading zeros within `W`.
#[inline(always)]
fn leading_zeros<M: MicroOps, W: Width>(m: &mut M, value: M::Int) -> M::Int {
    let zeros = m.leading_zeros(value);
    let unused = m.constant(u64::from(64 - W::BITS));
    m.sub(zeros, unused)
}

/// Trailing zeros within `W`: a guard bit above the operand stops the count.
#[inline(always)]
fn trailing_zeros<M: MicroOps, W: Width>(m: &mut M, value: M::Int) -> M::Int {
    if W::BITS == 64 {
        return m.trailing_zeros(value);
    }
    let guard = m.constant(W::MASK + 1);
    let guarded = m.or(value, guard);
    m.trailing_zeros(guarded)
}

/// BSF and BSR: a zero source sets ZF and leaves the destination, as silicon of both vendors does.
fn bit_scan<M: MicroOps, R: Direction, S: Source, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = S::read::<M, W>(m, op)?;
    let old = m.get::<crate::width::W64>(op.regs[0]);
    let position = R::position::<M, W>(m, value);
    // For a 32-bit destination the upper half is cleared only when there is something to write.
    m.put::<W>(op.regs[0], position);
    let written = m.get::<crate::width::W64>(op.regs[0]);
    let kept = m.select(value, written, old);
    m.put::<crate::width::W64>(op.regs[0], kept);
    // ZF says whether the source was zero. The rest is undefined: PF is that of the position, or set for none; CF, OF,
    // SF and AF are clear. Bit 8 keeps the result from being zero where the position is.
    let marked = m.constant(1 << 8);
    let zero = m.constant(0);
    let nonzero = m.or(position, marked);
    let result = m.select(value, nonzero, zero);
    m.set_flags(ArithFlags { result, aux: zero });
    Ok(())
}

trait Direction {
    fn position<M: MicroOps, W: Width>(m: &mut M, value: M::Int) -> M::Int;
}
struct Forward;
struct Backward;
impl Direction for Forward {
    #[inline(always)]
    fn position<M: MicroOps, W: Width>(m: &mut M, value: M::Int) -> M::Int {
        trailing_zeros::<M, W>(m, value)
    }
}
impl Direction for Backward {
    #[inline(always)]
    fn position<M: MicroOps, W: Width>(m: &mut M, value: M::Int) -> M::Int {
        let zeros = leading_zeros::<M, W>(m, value);
        let top = m.constant(u64::from(W::BITS) - 1);
        m.sub(top, zeros)
    }
}

/// TZCNT and LZCNT: CF for a zero source, ZF for a zero result. Of the undefined rest OF stays and SF, PF, AF are clear.
fn count_zeros<M: MicroOps, R: Count, S: Source, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = S::read::<M, W>(m, op)?;
    let result = R::count::<M, W>(m, value);
    m.put::<W>(op.regs[0], result);
    let zero = m.constant(0);
    let carry = m.equal(value, zero);
    let none = m.equal(result, zero);
    let old = m.flags().aux;
    let overflow = overflow_of(m, old);
    let aux = aux_of(m, carry, overflow);
    set_zero_flag_only(m, none, aux);
    Ok(())
}

/// Sets ZF to `zero` (0 or 1) and CF and OF from `aux`; SF, PF and AF are cleared.
#[inline(always)]
fn set_zero_flag_only<M: MicroOps>(m: &mut M, zero: M::Int, aux: M::Int) {
    // Result 1 has an odd byte, so PF is clear; result 0 needs the parity delta.
    let one = m.constant(1);
    let result = m.xor(zero, one);
    let parity_delta = m.shl_by(zero, 8);
    let aux = m.or(aux, parity_delta);
    m.set_flags(ArithFlags { result, aux });
}

trait Count {
    fn count<M: MicroOps, W: Width>(m: &mut M, value: M::Int) -> M::Int;
}
struct Trailing;
struct Leading;
impl Count for Trailing {
    #[inline(always)]
    fn count<M: MicroOps, W: Width>(m: &mut M, value: M::Int) -> M::Int {
        trailing_zeros::<M, W>(m, value)
    }
}
impl Count for Leading {
    #[inline(always)]
    fn count<M: MicroOps, W: Width>(m: &mut M, value: M::Int) -> M::Int {
        leading_zeros::<M, W>(m, value)
    }
}

/// POPCNT clears every flag but ZF.
fn popcnt<M: MicroOps, S: Source, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = S::read::<M, W>(m, op)?;
    let result = m.count_ones(value);
    m.put::<W>(op.regs[0], result);
    let zero = m.constant(0);
    let empty = m.equal(value, zero);
    set_zero_flag_only(m, empty, zero);
    Ok(())
}

/// The flags of BMI1's logic: SF and ZF of the result, CF as given, OF clear; PF and AF are undefined.
#[inline(always)]
fn set_bmi_flags<M: MicroOps, W: Width>(m: &mut M, result: M::Int, carry: M::Int) {
    let result = m.sign_extend::<W>(result);
    let zero = m.constant(0);
    let aux = aux_of(m, carry, zero);
    m.set_flags(ArithFlags { result, aux });
}

fn andn<M: MicroOps, S: Source, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let b = S::read::<M, W>(m, op)?;
    let a = m.get::<W>(op.regs[1]);
    let a = m.not::<W>(a);
    let result = m.and(a, b);
    m.put::<W>(op.regs[0], result);
    let zero = m.constant(0);
    set_bmi_flags::<M, W>(m, result, zero);
    Ok(())
}

/// BLSI, BLSMSK and BLSR.
fn lowest_bit<M: MicroOps, O: Lowest, S: Source, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = S::read::<M, W>(m, op)?;
    let result = O::apply::<M, W>(m, value);
    let result = m.truncate::<W>(result);
    m.put::<W>(op.regs[0], result);
    let zero = m.constant(0);
    let empty = m.equal(value, zero);
    let one = m.constant(1);
    let carry = if O::CARRY_IF_EMPTY { empty } else { m.xor(empty, one) };
    set_bmi_flags::<M, W>(m, result, carry);
    Ok(())
}

trait Lowest {
    const CARRY_IF_EMPTY: bool;
    fn apply<M: MicroOps, W: Width>(m: &mut M, value: M::Int) -> M::Int;
}
struct Blsi;
struct Blsmsk;
struct Blsr;
impl Lowest for Blsi {
    const CARRY_IF_EMPTY: bool = false;
    #[inline(always)]
    fn apply<M: MicroOps, W: Width>(m: &mut M, value: M::Int) -> M::Int {
        let zero = m.constant(0);
        let negative = m.sub(zero, value);
        m.and(value, negative)
    }
}
impl Lowest for Blsmsk {
    const CARRY_IF_EMPTY: bool = true;
    #[inline(always)]
    fn apply<M: MicroOps, W: Width>(m: &mut M, value: M::Int) -> M::Int {
        let one = m.constant(1);
        let less = m.sub(value, one);
        m.xor(value, less)
    }
}
impl Lowest for Blsr {
    const CARRY_IF_EMPTY: bool = true;
    #[inline(always)]
    fn apply<M: MicroOps, W: Width>(m: &mut M, value: M::Int) -> M::Int {
        let one = m.constant(1);
        let less = m.sub(value, one);
        m.and(value, less)
    }
}

/// The low `count` bits of `value`, all of it from the width up.
#[inline(always)]
fn low_bits<M: MicroOps, W: Width>(m: &mut M, value: M::Int, count: M::Int) -> M::Int {
    let one = m.constant(1);
    let bit = m.shl(one, count);
    let mask = m.sub(bit, one);
    let cut = m.and(value, mask);
    let width = m.constant(u64::from(W::BITS));
    let partial = m.less_unsigned(count, width);
    m.select(partial, cut, value)
}

/// BEXTR: operand 2 holds the start in bits 0 to 7 and the length in bits 8 to 15. Of the undefined flags PF is the
/// result's, AF is set and SF is clear.
fn bextr<M: MicroOps, S: Source, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = S::read::<M, W>(m, op)?;
    let control = m.get::<W>(op.regs[2]);
    let byte = m.constant(0xff);
    let start = m.and(control, byte);
    let length = m.shr_by(control, 8);
    let length = m.and(length, byte);
    let shifted = m.shr(value, start);
    let width = m.constant(u64::from(W::BITS));
    let inside = m.less_unsigned(start, width);
    let zero = m.constant(0);
    let shifted = m.select(inside, shifted, zero);
    let result = low_bits::<M, W>(m, shifted, length);
    m.put::<W>(op.regs[0], result);
    // The sign delta takes SF, the result's top bit, back.
    let extended = m.sign_extend::<W>(result);
    let sign = m.shr_by(extended, 63);
    let adjust = m.constant(AUX_AF);
    let aux = m.or(sign, adjust);
    m.set_flags(ArithFlags { result: extended, aux });
    Ok(())
}

/// BZHI: zeroes the bits from operand 2's low byte up; CF says that the index was beyond the operand.
fn bzhi<M: MicroOps, S: Source, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let value = S::read::<M, W>(m, op)?;
    let index = m.get::<W>(op.regs[2]);
    let byte = m.constant(0xff);
    let index = m.and(index, byte);
    let result = low_bits::<M, W>(m, value, index);
    m.put::<W>(op.regs[0], result);
    let last = m.constant(u64::from(W::BITS) - 1);
    let carry = m.less_unsigned(last, index);
    set_bmi_flags::<M, W>(m, result, carry);
    Ok(())
}

/// PDEP: spreads the low bits of operand 1 to the places that the mask selects, by parallel steps of the "expand" network.
fn pdep<M: MicroOps, S: Source, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let mask = S::read::<M, W>(m, op)?;
    let source = m.get::<W>(op.regs[1]);
    let moves = compress_moves(m, mask);
    let mut value = source;
    for step in (0..6).rev() {
        let shifted = m.shl_by(value, 1 << step);
        let moved = m.and(shifted, moves[step]);
        let all = m.constant(u64::MAX);
        let stay = m.xor(moves[step], all);
        let kept = m.and(value, stay);
        value = m.or(kept, moved);
    }
    let result = m.and(value, mask);
    m.put::<W>(op.regs[0], result);
    Ok(())
}

/// PEXT: gathers the bits of operand 1 that the mask selects.
fn pext<M: MicroOps, S: Source, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let mask = S::read::<M, W>(m, op)?;
    let source = m.get::<W>(op.regs[1]);
    let moves = compress_moves(m, mask);
    let mut value = m.and(source, mask);
    for (step, &moving) in moves.iter().enumerate() {
        let moved = m.and(value, moving);
        let rest = m.xor(value, moved);
        let shifted = m.shr_by(moved, 1 << step);
        value = m.or(rest, shifted);
    }
    m.put::<W>(op.regs[0], value);
    Ok(())
}

/// For each of the six steps (by 1, 2, 4 .. 32) the bits that move, in "compress" order (Hacker's Delight, 7-4).
fn compress_moves<M: MicroOps>(m: &mut M, mask: M::Int) -> [M::Int; 6] {
    let all = m.constant(u64::MAX);
    let mut mask = mask;
    let complement = m.xor(mask, all);
    let mut zeros_below = m.shl_by(complement, 1);
    std::array::from_fn(|step| {
        let mut parity = zeros_below;
        for distance in [1, 2, 4, 8, 16, 32] {
            let shifted = m.shl_by(parity, distance);
            parity = m.xor(parity, shifted);
        }
        let moving = m.and(parity, mask);
        let rest = m.xor(mask, moving);
        let shifted = m.shr_by(moving, 1 << step);
        mask = m.or(rest, shifted);
        let keep = m.xor(parity, all);
        zeros_below = m.and(zeros_below, keep);
        moving
    })
}

/// CRC32: CRC-32C (polynomial 0x11EDC6F41) of the source's bytes, accumulated in a 32-bit register.
fn crc32<M: MicroOps, S: Source, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let data = S::read::<M, W>(m, op)?;
    let seed = m.get::<W32>(op.regs[0]);
    let polynomial = m.constant(0x82f6_3b78);
    let zero = m.constant(0);
    let one = m.constant(1);
    let byte_mask = m.constant(0xff);
    let mut crc = seed;
    for byte in 0..W::BYTES as u32 {
        let next = m.shr_by(data, 8 * byte);
        let next = m.and(next, byte_mask);
        crc = m.xor(crc, next);
        for _ in 0..8 {
            let low = m.and(crc, one);
            let feedback = m.select(low, polynomial, zero);
            let shifted = m.shr(crc, one);
            crc = m.xor(shifted, feedback);
        }
    }
    m.put::<crate::width::W64>(op.regs[0], crc);
    Ok(())
}

macro_rules! source_of {
    ($function:ident, $m:ident, $i:expr, $operand:literal, $widths:tt $(, $arg:ty)*) => {{
        let bits = width_of($i, $operand);
        if $i.op_kind($operand) == OpKind::Register {
            by_width!(bits, $widths, $function, $m $(, $arg)*, Register<$operand>)
        } else {
            by_width!(bits, $widths, $function, $m $(, $arg)*, Memory)
        }
    }};
}

/// The meaning of an instruction of this family.
pub(super) fn select<M: MicroOps>(i: &Instruction) -> Option<Meaning<M>> {
    match i.mnemonic() {
        Mnemonic::Bt => bit_test_of!(Test, M, i),
        Mnemonic::Bts => bit_test_of!(Set, M, i),
        Mnemonic::Btr => bit_test_of!(Reset, M, i),
        Mnemonic::Btc => bit_test_of!(Complement, M, i),
        Mnemonic::Bsf => source_of!(bit_scan, M, i, 1, [W16, W32, W64], Forward),
        Mnemonic::Bsr => source_of!(bit_scan, M, i, 1, [W16, W32, W64], Backward),
        Mnemonic::Tzcnt => source_of!(count_zeros, M, i, 1, [W16, W32, W64], Trailing),
        Mnemonic::Lzcnt => source_of!(count_zeros, M, i, 1, [W16, W32, W64], Leading),
        Mnemonic::Popcnt => source_of!(popcnt, M, i, 1, [W16, W32, W64]),
        Mnemonic::Andn => source_of!(andn, M, i, 2, [W32, W64]),
        Mnemonic::Blsi => source_of!(lowest_bit, M, i, 1, [W32, W64], Blsi),
        Mnemonic::Blsmsk => source_of!(lowest_bit, M, i, 1, [W32, W64], Blsmsk),
        Mnemonic::Blsr => source_of!(lowest_bit, M, i, 1, [W32, W64], Blsr),
        Mnemonic::Bextr => source_of!(bextr, M, i, 1, [W32, W64]),
        Mnemonic::Bzhi => source_of!(bzhi, M, i, 1, [W32, W64]),
        Mnemonic::Pdep => source_of!(pdep, M, i, 2, [W32, W64]),
        Mnemonic::Pext => source_of!(pext, M, i, 2, [W32, W64]),
        Mnemonic::Crc32 => source_of!(crc32, M, i, 1, [W8, W16, W32, W64]),
        _ => None,
    }
}
