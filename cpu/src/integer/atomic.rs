//! CMPXCHG, CMPXCHG8B, CMPXCHG16B, XADD.

use super::flags::{set_add, set_sub};
use super::operand::{Memory, Register, Target, by_width, width_of};
use crate::cpu::Cpu;
use crate::exception::Exception;
use crate::memory::stack_fault;
use crate::op::{Op, reg};
use crate::ops::{Hard, Meaning, MicroOps};
use crate::state::bits;
use crate::width::{W32, W64, Width};
use iced_x86::{Instruction, Mnemonic, OpKind};
use rx86_softmmu::Access;

/// CMPXCHG writes its destination in every case, so a read-only page faults even if the comparison fails.
fn cmpxchg<M: MicroOps, D: Target, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let accumulator = m.get::<W>(reg::RAX);
    let accumulator_whole = m.get::<W64>(reg::RAX);
    let source = m.get::<W>(op.regs[1]);
    let destination_whole = if op.regs[0] == reg::NONE { None } else { Some(m.get::<W64>(op.regs[0] & 31)) };
    let (old, _) = D::modify::<M, W>(m, op, |m, old| {
        let same = m.equal(old, accumulator);
        m.select(same, source, old)
    })?;
    let difference = m.sub(accumulator, old);
    let difference = m.truncate::<W>(difference);
    set_sub::<M, W>(m, accumulator, old, difference);
    let same = m.equal(old, accumulator);
    // A failed 32-bit comparison zero-extends into RAX and leaves a register destination's upper half; a
    // successful one does the reverse.
    if W::BITS == 32 {
        let kept = m.select(same, accumulator_whole, old);
        if let Some(whole) = destination_whole
            && op.regs[0] & 31 != reg::RAX
        {
            let value = m.select(same, source, whole);
            m.put::<W64>(op.regs[0], value);
        }
        m.put::<W64>(reg::RAX, kept);
        if op.regs[0] == reg::RAX {
            m.put::<W32>(reg::RAX, source);
        }
    } else if op.regs[0] != reg::RAX {
        let value = m.select(same, accumulator, old);
        m.put::<W>(reg::RAX, value);
    }
    Ok(())
}

fn xadd<M: MicroOps, D: Target, W: Width>(m: &mut M, op: &Op) -> Result<(), M::Fault> {
    let source = m.get::<W>(op.regs[1]);
    let (old, sum) = D::modify::<M, W>(m, op, |m, old| {
        let sum = m.add(old, source);
        m.truncate::<W>(sum)
    })?;
    set_add::<M, W>(m, old, source, sum);
    m.put::<W>(op.regs[1], old);
    // When both operands are one register, the sum wins.
    if op.regs[0] == op.regs[1] {
        m.put::<W>(op.regs[0], sum);
    }
    Ok(())
}

macro_rules! target_of {
    ($function:ident, $m:ident, $i:expr) => {{
        let bits = width_of($i, 0);
        if $i.op0_kind() == OpKind::Register {
            by_width!(bits, [W8, W16, W32, W64], $function, $m, Register<0>)
        } else {
            by_width!(bits, [W8, W16, W32, W64], $function, $m, Memory)
        }
    }};
}

/// The meaning of an instruction of this family.
pub(super) fn select<M: MicroOps>(i: &Instruction) -> Option<Meaning<M>> {
    match i.mnemonic() {
        Mnemonic::Cmpxchg => target_of!(cmpxchg, M, i),
        Mnemonic::Xadd => target_of!(xadd, M, i),
        _ => None,
    }
}

/// Sets or clears ZF and leaves the other flags.
fn set_zero(cpu: &mut Cpu, zero: bool) {
    let flags = cpu.state.flags.get() & !bits::RFLAGS_ZF;
    cpu.state.flags.set(flags | if zero { bits::RFLAGS_ZF } else { 0 });
}

fn cmpxchg8b(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let pair = |cpu: &mut Cpu, high, low| cpu.get::<W32>(high) << 32 | cpu.get::<W32>(low);
    let expected = pair(cpu, reg::RDX, reg::RAX);
    let new = pair(cpu, reg::RCX, reg::RBX);
    let (old, _) = cpu.modify::<W64>(op, |_, old| if old == expected { new } else { old })?;
    if old != expected {
        cpu.put::<W32>(reg::RDX, old >> 32);
        cpu.put::<W32>(reg::RAX, old);
    }
    set_zero(cpu, old == expected);
    Ok(())
}

/// CMPXCHG16B; its operand must be aligned to 16 bytes.
fn cmpxchg16b(cpu: &mut Cpu, op: &Op) -> Result<(), Exception> {
    let linear = cpu.operand_linear(op, 16, Access::Write)?;
    if linear & 15 != 0 {
        return Err(Exception::gp(0));
    }
    let pair = |cpu: &Cpu, high: u8, low: u8| {
        u128::from(cpu.state.regs[usize::from(high)]) << 64 | u128::from(cpu.state.regs[usize::from(low)])
    };
    let expected = pair(cpu, reg::RDX, reg::RAX);
    let new = pair(cpu, reg::RCX, reg::RBX);
    let old = cpu.compare_exchange_16(linear, expected, new).map_err(|fault| stack_fault(op, fault))?;
    if old != expected {
        cpu.put::<W64>(reg::RDX, (old >> 64) as u64);
        cpu.put::<W64>(reg::RAX, old as u64);
    }
    set_zero(cpu, old == expected);
    Ok(())
}

/// The plain function of an instruction of this family.
pub(super) fn select_hard(i: &Instruction) -> Option<Hard> {
    match i.mnemonic() {
        Mnemonic::Cmpxchg8b => Some(cmpxchg8b),
        Mnemonic::Cmpxchg16b => Some(cmpxchg16b),
        _ => None,
    }
}
