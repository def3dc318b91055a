//! MUL, IMUL, MULX, DIV, IDIV.
//!
//! SF, ZF, PF and AF are undefined after a multiplication and stay (see `flags`). After a division all six are
//! undefined: CF and OF stay, AF is set, SF, ZF and PF are clear.

use super::flags::replace_carry_overflow;
use super::operand::{Immediate, Memory, Register, Source, by_width, width_of};
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::{Op, op_flags, reg};
use crate::ops::{Hard, Meaning, MicroOps};
use crate::state::{AUX_AF, AUX_CF, AUX_CF_XOR_OF};
use crate::width::{self, W8, W16, W32, W64, Width};
use iced_x86::{Instruction, Mnemonic, OpKind};

/// The product of two values of width `W`: its low and high halves, each of width `W`.
#[inline(always)]
fn product<M: MicroOps, W: Width>(m: &mut M, a: M::Int, b: M::Int, signed: bool) -> (M::Int, M::Int) {
    let (a, b) = if signed { (m.sign_extend::<W>(a), m.sign_extend::<W>(b)) } else { (a, b) };
    let full = m.mul(a, b);
    let low = m.truncate::<W>(full);
    let high = if W::BITS < 64 {
        let shifted = m.shr_by(full, W::BITS);
        m.truncate::<W>(shifted)
    } else if signed {
        m.mul_high_signed(a, b)
    } else {
        m.mul_high_unsigned(a, b)
    };
    (low, high)
}

/// CF = OF = whether the high half holds more than the low half's extension.
#[inline(always)]
fn set_flags<M: MicroOps, W: Width>(m: &mut M, low: M::Int, high: M::Int, signed: bool) {
    let result = m.sign_extend::<W>(low);
    let expected = if signed {
        let count = m.constant(63);
        let sign = m.sar(result, count);
        m.truncate::<W>(sign)
    } else {
        m.constant(0)
    };
    let fits = m.equal(high, expected);
    let one = m.constant(1);
    let carry = m.xor(fits, one);
    replace_carry_overflow(m, carry, carry);
}

/// The signs of MUL and IMUL as types.
trait Signedness {
    const SIGNED: bool;
}
struct Unsigned;
struct Signed;
impl Signedness for Unsigned {
    const SIGNED: bool = false;
}
impl Signedness for Signed {
    const SIGNED: bool = true;
}

/// MUL and IMUL with one operand: the accumulator times it, into (r/e)DX and the accumulator, or AX.
fn multiply_wide<M: MicroOps, G: Signedness, S: Source, W: Width>(
    m: &mut M,
    op: &Op,
) -> Result<(), M::Fault> {
    let b = S::read::<M, W>(m, op)?;
    let a = m.get::<W>(reg::RAX);
    let (low, high) = product::<M, W>(m, a, b, G::SIGNED);
    m.put::<W>(reg::RAX, low);
    m.put::<W>(if W::BITS == 8 { reg::RAX | reg::HIGH_BYTE } else { reg::RDX }, high);
    set_flags::<M, W>(m, low, high, G::SIGNED);
    Ok(())
}

/// IMUL with two operands.
fn multiply<M: MicroOps, S: Source, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let b = S::read::<M, W>(m, op)?;
    let a = m.get::<W>(op.regs[0]);
    let (low, high) = product::<M, W>(m, a, b, true);
    m.put::<W>(op.regs[0], low);
    set_flags::<M, W>(m, low, high, true);
    Ok(())
}

/// IMUL with three operands.
fn multiply_immediate<M: MicroOps, S: Source, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let a = S::read::<M, W>(m, op)?;
    let b = Immediate::read::<M, W>(m, op)?;
    let (low, high) = product::<M, W>(m, a, b, true);
    m.put::<W>(op.regs[0], low);
    set_flags::<M, W>(m, low, high, true);
    Ok(())
}

/// MULX: (r/e)DX times the source, high half to operand 0 and low half to operand 1; no flags.
fn mulx<M: MicroOps, S: Source, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let b = S::read::<M, W>(m, op)?;
    let a = m.get::<W>(reg::RDX);
    let (low, high) = product::<M, W>(m, a, b, false);
    // If both destinations are one register, the high half wins.
    m.put::<W>(op.regs[1], low);
    m.put::<W>(op.regs[0], high);
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
    match (i.mnemonic(), i.op_count()) {
        (Mnemonic::Mul, _) => source_of!(multiply_wide, M, i, 0, [W8, W16, W32, W64], Unsigned),
        (Mnemonic::Imul, 1) => source_of!(multiply_wide, M, i, 0, [W8, W16, W32, W64], Signed),
        (Mnemonic::Imul, 2) => source_of!(multiply, M, i, 1, [W16, W32, W64]),
        (Mnemonic::Imul, _) => source_of!(multiply_immediate, M, i, 1, [W16, W32, W64]),
        (Mnemonic::Mulx, _) => source_of!(mulx, M, i, 2, [W32, W64]),
        _ => None,
    }
}

/// The dividend: AX for bytes, else (r/e)DX and the accumulator.
fn dividend<W: Width>(cpu: &mut Cpu) -> u128 {
    if W::BITS == 8 {
        return u128::from(cpu.get::<W16>(reg::RAX));
    }
    u128::from(cpu.get::<W>(reg::RDX)) << W::BITS | u128::from(cpu.get::<W>(reg::RAX))
}

fn put_quotient<W: Width>(cpu: &mut Cpu, quotient: u64, remainder: u64) {
    if W::BITS == 8 {
        cpu.put::<W16>(reg::RAX, (remainder & 0xff) << 8 | quotient & 0xff);
    } else {
        cpu.put::<W>(reg::RAX, quotient & W::MASK);
        cpu.put::<W>(reg::RDX, remainder & W::MASK);
    }
}

/// The flags after a division: a result of 1 has neither SF nor ZF nor PF.
fn set_division_flags(cpu: &mut Cpu) {
    let flags = &mut cpu.state.flags.arith;
    flags.result = 1;
    flags.aux = flags.aux & (AUX_CF | AUX_CF_XOR_OF) | AUX_AF;
}

fn divisor<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<u64, Exception> {
    if op.has(op_flags::MEMORY) { cpu.load::<W>(op) } else { Ok(cpu.get::<W>(op.regs[0])) }
}

fn div<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let divisor = divisor::<W>(cpu, op)?;
    let dividend = dividend::<W>(cpu);
    if divisor == 0 {
        return Err(Exception::DE);
    }
    // Most dividends have an empty upper half, and a 64-bit division is many times as fast.
    let (quotient, remainder) = match u64::try_from(dividend) {
        Ok(small) => (small / divisor, small % divisor),
        Err(_) => {
            let quotient = dividend / u128::from(divisor);
            let remainder = (dividend % u128::from(divisor)) as u64;
            (u64::try_from(quotient).map_err(|_| Exception::DE)?, remainder)
        }
    };
    if quotient > W::MASK {
        return Err(Exception::DE);
    }
    put_quotient::<W>(cpu, quotient, remainder);
    set_division_flags(cpu);
    Ok(())
}

fn idiv<W: Width>(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let divisor = i128::from(width::sign_extend::<W>(divisor::<W>(cpu, op)?) as i64);
    let unused = 128 - if W::BITS == 8 { 16 } else { 2 * W::BITS };
    let dividend = ((dividend::<W>(cpu) << unused) as i128) >> unused;
    // The most negative dividend by -1 overflows the host's type too, and is #DE anyway.
    let quotient = dividend.checked_div(divisor).ok_or(Exception::DE)?;
    let limit = 1i128 << (W::BITS - 1);
    if quotient < -limit || quotient >= limit {
        return Err(Exception::DE);
    }
    put_quotient::<W>(cpu, quotient as u64, (dividend % divisor) as u64);
    set_division_flags(cpu);
    Ok(())
}

/// The plain function of an instruction of this family.
pub(super) fn select_hard(i: &Instruction) -> Option<Hard> {
    Some(match (i.mnemonic(), width_of(i, 0)) {
        (Mnemonic::Div, 8) => div::<W8>,
        (Mnemonic::Div, 16) => div::<W16>,
        (Mnemonic::Div, 32) => div::<W32>,
        (Mnemonic::Div, _) => div::<W64>,
        (Mnemonic::Idiv, 8) => idiv::<W8>,
        (Mnemonic::Idiv, 16) => idiv::<W16>,
        (Mnemonic::Idiv, 32) => idiv::<W32>,
        (Mnemonic::Idiv, _) => idiv::<W64>,
        _ => return None,
    })
}
