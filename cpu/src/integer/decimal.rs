//! Decimal adjustment, flag instructions, SALC: small instructions of the 8086 (SDM vol. 2). Undefined flags: see `flags`.

use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::op::{Op, reg};
use crate::ops::{Hard, MicroOps};
use crate::state::bits::{
    RFLAGS_AF, RFLAGS_ARITH, RFLAGS_CF, RFLAGS_DF, RFLAGS_FIXED, RFLAGS_OF, RFLAGS_PF, RFLAGS_SF, RFLAGS_ZF,
};
use crate::width::{W8, W16};
use iced_x86::{Instruction, Mnemonic};

fn arithmetic_flags(cpu: &Cpu) -> u64 {
    cpu.state.flags.get() & RFLAGS_ARITH
}

/// Replaces the arithmetic flags; the others stay.
fn set_arithmetic_flags(cpu: &mut Cpu, flags: u64) {
    let system = cpu.state.flags.system;
    cpu.state.flags.set(flags & RFLAGS_ARITH | system);
}

/// SF, ZF and PF of a byte.
fn result_flags(al: u8) -> u64 {
    let set = |condition: bool, flag: u64| if condition { flag } else { 0 };
    set(al & 0x80 != 0, RFLAGS_SF) | set(al == 0, RFLAGS_ZF) | set(al.count_ones() & 1 == 0, RFLAGS_PF)
}

/// DAA and DAS differ in the direction of the adjustment.
fn decimal_adjust(cpu: &mut Cpu, subtract: bool) {
    let old = cpu.get::<W8>(reg::RAX) as u8;
    let flags = arithmetic_flags(cpu);
    let (mut al, mut new) = (old, 0);
    let adjust = |al: u8, by: u8| if subtract { al.wrapping_sub(by) } else { al.wrapping_add(by) };
    if old & 15 > 9 || flags & RFLAGS_AF != 0 {
        al = adjust(al, 6);
        new |= RFLAGS_AF;
        if subtract && old < 6 {
            new |= RFLAGS_CF;
        }
    }
    if old > 0x99 || flags & RFLAGS_CF != 0 {
        al = adjust(al, 0x60);
        new |= RFLAGS_CF;
    }
    cpu.put::<W8>(reg::RAX, u64::from(al));
    // OF is undefined: it tells of a sign that came (DAA) or went (DAS).
    let sign_changed = if subtract { old & !al } else { !old & al };
    let overflow = if sign_changed & 0x80 != 0 { RFLAGS_OF } else { 0 };
    set_arithmetic_flags(cpu, new | result_flags(al) | overflow);
}

fn daa(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    decimal_adjust(cpu, false);
    Ok(())
}

fn das(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    decimal_adjust(cpu, true);
    Ok(())
}

/// AAA and AAS work on AX: the borrow or carry of the low digit goes to AH.
fn ascii_adjust(cpu: &mut Cpu, subtract: bool) {
    let ax = cpu.get::<W16>(reg::RAX) as u16;
    let adjusted = ax & 15 > 9 || arithmetic_flags(cpu) & RFLAGS_AF != 0;
    let (sum, overflow) = match (adjusted, subtract) {
        (false, _) => (ax as i16, false),
        (true, false) => (ax as i16).overflowing_add(0x106),
        (true, true) => (ax as i16).overflowing_sub(0x106),
    };
    let ax = sum as u16;
    cpu.put::<W16>(reg::RAX, u64::from(ax & 0xff0f));
    let carries = if adjusted { RFLAGS_AF | RFLAGS_CF } else { 0 };
    // SF, ZF, PF and OF are undefined: they are those of AX before its upper digit is cut off.
    let set = |condition: bool, flag: u64| if condition { flag } else { 0 };
    let flags = set(ax & 0x8000 != 0, RFLAGS_SF)
        | set(ax == 0, RFLAGS_ZF)
        | set((ax as u8).count_ones() & 1 == 0, RFLAGS_PF)
        | set(overflow, RFLAGS_OF);
    set_arithmetic_flags(cpu, carries | flags);
}

fn aaa(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    ascii_adjust(cpu, false);
    Ok(())
}

fn aas(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    ascii_adjust(cpu, true);
    Ok(())
}

fn aam(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let base = op.immediate as u8;
    let al = cpu.get::<W8>(reg::RAX) as u8;
    let high = al.checked_div(base).ok_or(Exception::DE)?;
    let low = al % base;
    cpu.put::<W16>(reg::RAX, u64::from(high) << 8 | u64::from(low));
    set_arithmetic_flags(cpu, result_flags(low));
    Ok(())
}

fn aad(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let ax = cpu.get::<W16>(reg::RAX);
    let (old, tens) = (ax as u8, ((ax >> 8) as u8).wrapping_mul(op.immediate as u8));
    let (al, carry) = old.overflowing_add(tens);
    cpu.put::<W16>(reg::RAX, u64::from(al));
    // CF, AF and OF are undefined: they are those of the addition.
    let set = |condition: bool, flag: u64| if condition { flag } else { 0 };
    let flags = set(carry, RFLAGS_CF)
        | set((old ^ tens ^ al) & 0x10 != 0, RFLAGS_AF)
        | set((old as i8).checked_add(tens as i8).is_none(), RFLAGS_OF);
    set_arithmetic_flags(cpu, flags | result_flags(al));
    Ok(())
}

/// SALC: AL from CF (SDM vol. 2, opcode map; documented since 2015).
fn salc(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    let carry = cpu.state.flags.arith.carry();
    cpu.put::<W8>(reg::RAX, if carry { 0xff } else { 0 });
    Ok(())
}

fn lahf(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    let low = (arithmetic_flags(cpu) | RFLAGS_FIXED) & 0xff;
    cpu.put::<W8>(reg::RAX | reg::HIGH_BYTE, low);
    Ok(())
}

fn sahf(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    let ah = cpu.get::<W8>(reg::RAX | reg::HIGH_BYTE);
    let overflow = arithmetic_flags(cpu) & RFLAGS_OF;
    set_arithmetic_flags(cpu, ah & !RFLAGS_OF | overflow);
    Ok(())
}

fn change_carry(cpu: &mut Cpu, change: impl Fn(u64) -> u64) -> Result<(), Exception> {
    let flags = arithmetic_flags(cpu);
    set_arithmetic_flags(cpu, change(flags));
    Ok(())
}

fn clc(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    change_carry(cpu, |flags| flags & !RFLAGS_CF)
}

fn stc(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    change_carry(cpu, |flags| flags | RFLAGS_CF)
}

fn cmc(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    change_carry(cpu, |flags| flags ^ RFLAGS_CF)
}

fn cld(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    cpu.state.flags.system &= !RFLAGS_DF;
    Ok(())
}

fn std(cpu: &mut Cpu, _op: &Op) -> Result<(), Exception> {
    cpu.state.flags.system |= RFLAGS_DF;
    Ok(())
}

/// The plain function of an instruction of this family.
pub(super) fn select_hard(i: &Instruction) -> Option<Hard> {
    Some(match i.mnemonic() {
        Mnemonic::Daa => daa,
        Mnemonic::Das => das,
        Mnemonic::Aaa => aaa,
        Mnemonic::Aas => aas,
        Mnemonic::Aam => aam,
        Mnemonic::Aad => aad,
        Mnemonic::Salc => salc,
        Mnemonic::Lahf => lahf,
        Mnemonic::Sahf => sahf,
        Mnemonic::Clc => clc,
        Mnemonic::Stc => stc,
        Mnemonic::Cmc => cmc,
        Mnemonic::Cld => cld,
        Mnemonic::Std => std,
        _ => return None,
    })
}
